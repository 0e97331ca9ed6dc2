//! `gst-compliance verify`: is a recording whole?

use std::error::Error;
use std::path::{Path, PathBuf};

use gstcompliance::audit::{Ledger, named_key};
use gstcompliance::recording::{Index, KeyHolders, Options, Report, Rewraps, State, verify};
use gstcompliance::signing::PublicKey;
use gstcompliance::store::{Finding, Stored, pieces_of, wait};

use super::clock::date;
use crate::stored::{self, Store, Temporary};

/// Check that a recording is complete and unchanged, or say which member is damaged or missing. No media key is needed.
///
/// Ends with 0 only where it is complete: a recording without its end record is reported as unfinished, and ends with 1
/// like one that is damaged.
///
/// A recording in a store is fetched to a temporary folder for it. `fetch` brings one here for good, and the commands that
/// open, export or report work on what it made.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The recording's folder, or s3://BUCKET/PREFIX/ID.
    #[arg(value_name = "REC")]
    recording: PathBuf,
    /// The audit log's public key (64 hex digits), known from elsewhere. Without it a recording that was forged as a
    /// whole, key and all, looks genuine.
    #[arg(long, value_name = "HEX")]
    log_key: Option<PublicKey>,
    /// Folder of the audit log that the recording names (or s3://BUCKET/PREFIX), to be asked how far the recording went, and who holds its key: without
    /// it a recording that was cut off consistently, or whose old key files were put back, looks genuine. It must be the log of
    /// --log-key where that is given. Whether the log itself is to be believed, `audit verify` says.
    #[arg(long, value_name = "LOG")]
    audit_log: Option<PathBuf>,
    /// The public key of the dealer who must have made the recording's key (the content of dealer.pub).
    #[arg(long, value_name = "HEX")]
    dealer: Option<PublicKey>,
    /// Print the report for a program, as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Where a recording in a store is fetched to. By default where the system has temporary files.
    #[arg(long, value_name = "DIR")]
    tmp: Option<PathBuf>,
    #[command(flatten)]
    store: Store,
}

impl Verify {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let mut options = Options {
            log_key: self.log_key,
            dealer: self.dealer,
            known: None,
            rewraps: Rewraps::Unknown,
        };
        let fetched = match stored::is_store(&self.recording) {
            true => Some(self.fetched()?),
            false => None,
        };
        let folder = fetched
            .as_ref()
            .map_or_else(|| self.recording.clone(), |(_, folder, _)| folder.folder());
        if let Some(log) = &self.audit_log {
            self.ask(log, &folder, &mut options)?;
        }
        let report = verify(&folder, &options)?;
        let findings = match &fetched {
            Some((recording, _, findings)) => in_store(recording, findings, &report)?,
            None => Vec::new(),
        };
        if self.json {
            let mut report = serde_json::to_value(&report)?;
            if stored::is_store(&self.recording) {
                report["store"] = serde_json::json!(findings);
            }
            println!("{report}");
        } else {
            print!("{}", for_people(&report));
            findings.iter().for_each(|finding| println!("  ! {finding}"));
        }
        let path = self.recording.display();
        match report.state {
            _ if !findings.is_empty() => Err(format!("{path} is DAMAGED").into()),
            State::Complete => Ok(()),
            State::Unfinished => Err(format!("{path} is unfinished: it has no end record").into()),
            State::Damaged => Err(format!("{path} is DAMAGED").into()),
        }
    }
}

impl Verify {
    /// Fetches it, and says what of it is not in the store.
    fn fetched(&self) -> Result<(Stored, Temporary, Vec<Finding>), Box<dyn Error>> {
        let address = stored::address(&self.recording)?;
        let recording = self
            .store
            .recording(&address)?
            .ok_or_else(|| format!("{address} does not end with a recording's id: s3://BUCKET/PREFIX/ID"))?;
        let (temporary, findings) = stored::to_temporary(&recording, self.tmp.as_deref())?;
        Ok((recording, temporary, findings))
    }

    /// Asks the log what it knows of the recording.
    fn ask(&self, log: &Path, recording: &Path, options: &mut Options) -> Result<(), Box<dyn Error>> {
        let fetched = match stored::is_store(log) {
            true => Some(self.store.log(&stored::address(log)?)?.temporary),
            false => None,
        };
        let folder = fetched.as_ref().map_or_else(|| log.to_owned(), Temporary::folder);
        let path = log;
        let key = *named_key(&folder)?.key();
        if let Some(expected) = options.log_key.filter(|expected| *expected != key) {
            return Err(format!("{} has the key {key}, and not {expected}", path.display()).into());
        }
        options.log_key = Some(key);
        let (ledger, damages) = Ledger::read_unchecked(&folder)?;
        if let Some(damage) = damages.first() {
            return Err(format!(
                "{} is damaged ({damage}), so that it cannot be asked: gst-compliance audit verify says more",
                path.display()
            )
            .into());
        }
        // Where that cannot be read, the report says so.
        if let Ok(index) = Index::open(recording, options) {
            let history = ledger.of(index.facts().recording).ok_or_else(|| {
                let path = path.display();
                format!("{path} does not know the recording: is it an older copy of the log?")
            })?;
            options.known = history.root;
            options.rewraps = history.rewraps();
        }
        Ok(())
    }
}

/// What is not as it should be in the store, and of what is damaged which object it lies in.
fn in_store(
    recording: &Stored,
    findings: &[Finding],
    report: &Report,
) -> Result<Vec<String>, Box<dyn Error>> {
    let places: Vec<_> = report.damages.iter().map(|damage| damage.place.clone()).collect();
    let objects = wait(pieces_of(&recording.media, recording.id, &places))?;
    let objects = objects
        .iter()
        .map(|object| format!("{object} holds what is damaged"));
    Ok(findings.iter().map(ToString::to_string).chain(objects).collect())
}

fn for_people(report: &Report) -> String {
    let mut text = match report.state {
        State::Complete => "COMPLETE: every byte is as it was sealed, from its start to its end record.\n",
        State::Unfinished => {
            "UNFINISHED: no end record. It is being recorded, or its recorder died; what was sealed is unchanged.\n"
        }
        State::Damaged => "DAMAGED\n",
    }
    .to_owned();
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<10} {value}\n"));
    if let Some(facts) = &report.facts {
        line("recording", facts.recording.to_string());
        line("claim", facts.claim.to_string());
        line("started", date(facts.started));
    }
    if let Some(holders) = &report.holders {
        line("key", of_key(holders));
    }
    if let Some((time, reason)) = &report.end {
        line("ended", format!("{} ({reason})", date(*time)));
    }
    for track in &report.tracks {
        let medium = track
            .medium
            .map_or_else(|| "unknown".to_owned(), |medium| medium.to_string());
        let (good, members, gaps) = (track.good, track.members, track.gaps);
        let seconds = track.to_ns.saturating_sub(track.from_ns) / 1_000_000_000;
        line(
            &format!("track {}", track.track),
            format!("{medium}, {good} of {members} members good, {seconds} s, {gaps} gaps"),
        );
    }
    if let Some(root) = &report.root {
        line("manifest", format!("{} lines, root {}", root.lines, root.root));
    }
    if let Some(facts) = &report.facts {
        let pinned = if report.pinned {
            "as you said"
        } else {
            "as the recording itself says: compare it with the audit log, or give --log-key"
        };
        line("log key", format!("{} ({pinned})", facts.log_key));
    }
    if report.resumed > 0 {
        line("resumed", format!("{} times after a crash", report.resumed));
    }
    if report.lost > 0 {
        line(
            "lost",
            format!("{} members, which the recorder could not seal", report.lost),
        );
    }
    if report.unsealed > 0 {
        line(
            "unsealed",
            format!("{} bytes behind what was sealed", report.unsealed),
        );
    }
    for damage in &report.damages {
        text.push_str(&format!("  ! {damage}\n"));
    }
    if report.more_damages > 0 {
        text.push_str(&format!("  ! and {} more\n", report.more_damages));
    }
    text
}

/// Who can open it.
fn of_key(holders: &KeyHolders) -> String {
    let who = match (&holders.escrow, holders.recipients.len()) {
        (Some(escrow), _) => format!("{} of {} custodians", escrow.m, escrow.n),
        (None, 1) => "1 recipient".to_owned(),
        (None, count) => format!("{count} recipients, each alone"),
    };
    match holders.number {
        0 => format!("{who}, as it was recorded"),
        number => format!("{who}, since re-wrapping {number}"),
    }
}
