//! `gst-compliance rewrap`: keys of recordings, wrapped to others.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use gstcompliance::access::{Access, Opening, identities};
use gstcompliance::audit::entry::Way;
use gstcompliance::audit::{Id, Log, Text};
use gstcompliance::breakglass::grant::grant;
use gstcompliance::bundle::{Escrow, Holders, Recipients};
use gstcompliance::recording::{Reader, find};
use gstcompliance::rewrap::{Done, Order, Target, Totals, as_recipient, rewrap};

use crate::clock::now;
use crate::files::decisions;
use crate::open::station_key;
use crate::stored::{Fetched, Store, is_store};

/// Wrap the keys of recordings to other recipients or custodians. Their media is not touched.
///
/// You must be a recipient of the recordings now, or, for one recording under escrow, have the approvals of its custodians
/// (ask with `gst-compliance request`, whose --for is not used here). Run it where the audit log is: for each recording the
/// log gets an entry before anything changes. The new key files and a signed statement of them go to REC/holders/; the old key files are
/// removed. What is interrupted is completed when the same is run again; recordings that are for these holders already
/// stay as they are.
///
/// It takes access from nobody who kept something: an OLD KEY FILE (key.age, shares/) in a backup, a snapshot, a copy of
/// the folder or in the recorder's `keys/used` still opens the recording for those it was wrapped to, and whoever had the
/// recording's own identity keeps it.
///
/// Of recordings in a store (s3://BUCKET/PREFIX, with or without a recording's id) the key files are fetched, and the new
/// ones put beside the old ones, of which then every version is deleted. The audit log is the recorder's, in its spool.
///
/// Keep key files (key.age, shares/, holders/) out of storage that is locked (WORM, object lock): what can neither be
/// replaced nor deleted can be neither re-wrapped nor crypto-shredded. Lock tracks/, manifest, recording.json and
/// bundle.json only.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("holders").required(true).args(["recipients", "escrow"]))]
#[command(group = clap::ArgGroup::new("way").required(true).args(["identity", "approvals"]))]
pub struct Rewrap {
    /// Recordings' folders, or folders with recordings in them; or places in a store.
    #[arg(value_name = "REC", required = true)]
    recordings: Vec<PathBuf>,
    /// Who shall open them from now on, each alone: one age recipient a line (age1…, X25519), # comments.
    #[arg(long, value_name = "FILE")]
    recipients: Option<PathBuf>,
    /// Who shall open them together from now on: the first line is `2 of 3`, then three custodians.
    #[arg(long, value_name = "FILE")]
    escrow: Option<PathBuf>,
    /// Your age identity (as age-keygen writes it): that of a recipient of the recordings now.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// What the custodians sent back, for one recording: files, or folders with them.
    #[arg(long, value_name = "DIR|FILE", num_args = 1.., requires_all = ["station_key", "custodians"])]
    approvals: Vec<PathBuf>,
    /// With --approvals: this station's one-time key of the request. Remove it afterwards.
    #[arg(long, value_name = "FILE", requires = "approvals")]
    station_key: Option<PathBuf>,
    /// With --approvals: the file of custodians who hold the recording's key now.
    #[arg(long, value_name = "FILE", requires = "approvals")]
    custodians: Option<PathBuf>,
    /// Folder of the audit log that the recordings name.
    #[arg(long, value_name = "DIR")]
    audit_log: PathBuf,
    /// The recorder's folder of key bundles, if it is here: its copies of the old key files are removed, too.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Who you are: an opaque id, no name. It stands in the log for good.
    #[arg(long, value_name = "ID")]
    by: Id,
    /// Why you do it. It stands in the log for good.
    #[arg(long, value_name = "TEXT")]
    reason: Text,
    /// The case that this belongs to. It stands in the log for good.
    #[arg(long, value_name = "ID")]
    ticket: Text,
    #[command(flatten)]
    store: Store,
}

impl Rewrap {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let to = match (&self.recipients, &self.escrow) {
            (Some(file), None) => Holders::Recipients(Recipients::read(file)?),
            (None, Some(file)) => Holders::Escrow(Escrow::read(file)?),
            _ => return Err("either --recipients or --escrow is needed".into()),
        };
        let (stored, here): (Vec<_>, Vec<_>) = self.recordings.iter().partition(|path| is_store(path));
        let fetched = self
            .store
            .keys_of(&stored, &self.audit_log, !self.approvals.is_empty())?;
        let mut recordings = found(&here)?;
        recordings.extend(fetched.iter().map(Fetched::folder));
        let own = self.identity.as_deref().map(identities).transpose()?;
        let opened = match (&own, &self.station_key, &self.custodians) {
            (None, Some(key), Some(custodians)) => Some(self.together(&recordings, key, custodians)?),
            _ => None,
        };
        let keys = |target: Target<'_>| match &opened {
            Some((reader, _)) => Ok(reader.key()),
            None => as_recipient(own.as_deref().unwrap_or_default())(target),
        };
        let log = Log::open_existing(&self.audit_log)?;
        let order = Order {
            to: &to,
            keys: &keys,
            bundles: self.keys.as_deref(),
            by: self.by,
            reason: self.reason,
            ticket: self.ticket,
        };
        let begun = Instant::now();
        let (mut wrapped, mut completed, mut already, mut failed) = (0, 0, 0, 0);
        let mut replaced = 0;
        let totals = rewrap(&recordings, &log, &order, &now, &mut |path, done| {
            let of_store = fetched.iter().find(|of| of.folder() == path);
            // Also of one that was for these holders already: what was interrupted is completed.
            let put = match (&done, of_store) {
                (Ok(_), Some(of)) => of.put_keys().map(|removed| replaced += removed),
                _ => Ok(()),
            };
            let done = done.map_err(Into::into).and_then(|done| put.map(|()| done));
            match done {
                Ok(Done::Rewrapped(_)) => wrapped += 1,
                Ok(Done::Completed(_)) => completed += 1,
                Ok(Done::Already) => already += 1,
                Err::<_, Box<dyn Error>>(error) => {
                    failed += 1;
                    let name = of_store.map_or_else(|| path.display().to_string(), Fetched::url);
                    eprintln!("gst-compliance: {name}: {error}");
                }
            }
        })?;
        log.close()?;
        if let Some((_, access)) = opened {
            access.end(0, now())?;
        }
        let Totals {
            opened,
            written,
            removed,
        } = totals;
        println!(
            "Re-wrapped {wrapped} of {} recordings to {} in {:.1} s: {opened} files and folders opened, none of them media; {written} bytes written; {removed} old key files removed.",
            recordings.len(),
            for_people(&to),
            begun.elapsed().as_secs_f64()
        );
        if !fetched.is_empty() {
            println!("{replaced} versions of old key files were deleted in the store.");
        }
        if completed > 0 {
            println!("{completed} that an earlier call had begun are complete now.");
        }
        if already > 0 {
            println!("{already} were for these holders already, and are as they were.");
        }
        println!("{}", warning(self.keys.as_deref()));
        if failed > 0 {
            return Err(format!("{failed} recordings were not re-wrapped").into());
        }
        Ok(())
    }
}

impl Rewrap {
    /// The recording's key, by its custodians' approvals. The log has it as an access of which no media was read.
    fn together(
        &self,
        recordings: &[PathBuf],
        key: &Path,
        custodians: &Path,
    ) -> Result<(Reader, Access), Box<dyn Error>> {
        let [recording] = recordings else {
            return Err("approvals are for one recording: name that one alone".into());
        };
        let opening = Opening::prepare(recording, &self.audit_log)?;
        let (key, custodians) = (station_key(key)?, Escrow::read(custodians)?);
        let grant = grant(&opening, &key, &custodians, &decisions(&self.approvals)?, now())?;
        for line in grant.lines() {
            eprintln!("gst-compliance: {line}");
        }
        Ok(opening.unlock_together(grant, Way::BreakGlass, now())?)
    }
}

/// The recordings that are named, each once.
fn found(paths: &[&PathBuf]) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut recordings = Vec::new();
    for path in paths {
        let below = find(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if below.is_empty() {
            return Err(format!("{} is no recording and has none in it", path.display()).into());
        }
        recordings.extend(below);
    }
    recordings.sort_unstable();
    recordings.dedup();
    Ok(recordings)
}

fn for_people(to: &Holders) -> String {
    match to {
        Holders::Recipients(recipients) => match recipients.keys().len() {
            1 => "1 recipient".to_owned(),
            count => format!("{count} recipients"),
        },
        Holders::Escrow(escrow) => {
            let facts = escrow.facts();
            format!("{} of {} custodians", facts.m, facts.n)
        }
    }
}

fn warning(keys: Option<&Path>) -> String {
    let bundles = match keys {
        Some(keys) => format!(", a copy of {} elsewhere", keys.display()),
        None => ", the recorder's keys/used (--keys removes those)".to_owned(),
    };
    format!(
        "NOT REVOKED: whoever kept an old key file still opens the recording with it (look at backups, snapshots{bundles}, and the dealer's own copy of the bundles), and whoever had the recording's identity keeps it.\n\
         Keep key files (key.age, shares/, holders/) out of locked storage (WORM, object lock): there they can be neither re-wrapped nor crypto-shredded."
    )
}
