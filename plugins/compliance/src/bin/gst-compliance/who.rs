//! `gst-compliance audit who`: who could open which recording when, from the log alone.

use std::path::PathBuf;

use gstcompliance::audit::Ledger;
use gstcompliance::audit::ledger::{History, Period};
use gstcompliance::ids::RecordingId;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::audit::{AuditError, print};
use super::clock::date;

#[derive(Debug, clap::Args)]
pub struct Who {
    /// The log's folder.
    log: PathBuf,
    /// Only this recording.
    #[arg(long, value_name = "ID")]
    recording: Option<RecordingId>,
    /// Only who could at this moment (`2026-05-03T14:00:00Z`).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<u64>,
    /// Print for a program, one line of JSON for each recording.
    #[arg(long)]
    json: bool,
}

/// RFC 3339, to milliseconds since 1970.
fn moment(text: &str) -> Result<u64, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "write it as 2026-05-03T14:00:00Z (RFC 3339)".to_owned())?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).map_err(|_| "that was before 1970".to_owned())
}

impl Who {
    pub fn run(self) -> Result<(), AuditError> {
        let (ledger, damages) = Ledger::read_unchecked(&self.log)?;
        let of = |id: &RecordingId| self.recording.is_none_or(|wanted| wanted == *id);
        let recordings: Vec<_> = ledger.recordings().filter(|(id, _)| of(id)).collect();
        if self.json {
            for (id, history) in recordings {
                let periods = self.periods(history);
                let (shredded, deleted) = (&history.shredded, &history.deleted);
                print(&format!(
                    "{}\n",
                    json!({ "recording": id, "periods": periods, "shredded": shredded, "deleted": deleted })
                ))?;
            }
            for damage in damages {
                print(&format!("{}\n", json!({ "damage": damage })))?;
            }
            return Ok(());
        }
        let mut text = "NOT CHECKED: gst-compliance audit verify says whether to believe this.\n".to_owned();
        for damage in damages {
            text.push_str(&format!("  ! {damage}: what follows may not be all\n"));
        }
        for (id, history) in recordings {
            text.push_str(&format!("{id}\n"));
            for period in self.periods(history) {
                text.push_str(&for_people(period));
            }
            if let Some(at) = history.shredded {
                text.push_str(&format!(
                    "  nobody  since {} (entry {}): its key files were destroyed\n",
                    date(at.time),
                    at.entry
                ));
            }
        }
        text.push_str(
            "Who could open it by the key files in its folder. Whoever kept a copy of an older one, or the recording's identity,\n\
             still could later. Who did: audit show --kind access-opened.\n",
        );
        print(&text)
    }

    fn periods<'a>(&self, history: &'a History) -> Vec<&'a Period> {
        match self.at {
            None => history.periods.iter().collect(),
            Some(time) => history.period_at(time).into_iter().collect(),
        }
    }
}

fn for_people(period: &Period) -> String {
    let until = match period.until {
        Some(at) => format!("until {} (entry {})", date(at.time), at.entry),
        None => "until now".to_owned(),
    };
    let why = match &period.rewrapped {
        Some(act) => format!("re-wrapped by {}: {} ({})", act.by, act.reason, act.ticket),
        None => "as it was recorded".to_owned(),
    };
    let (from, entry) = (date(period.from.time), period.from.entry);
    let mut text = format!("  from {from} (entry {entry}) {until}, {why}\n");
    if let Some(custodians) = &period.custodians {
        text.push_str(&format!(
            "    together  {} of {} custodians, escrow {}\n",
            custodians.threshold, custodians.shares, custodians.fingerprint
        ));
    }
    for recipient in &period.recipients {
        text.push_str(&format!("    alone     recipient {recipient}\n"));
    }
    text
}
