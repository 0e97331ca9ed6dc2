//! `gst-compliance retention`: what is due, what is held, and deleting by a logged decision.

use std::error::Error;
use std::path::PathBuf;

use gstcompliance::audit::{Id, Log, Text};
use gstcompliance::ids::RecordingId;
use gstcompliance::retention::{
    Decision, Each, Item, Outcome, RetentionError, Standing, apply, apply_in_store, hold, list,
    list_in_store, named, release,
};

use super::clock::{date, now};
use crate::stored::{Store, is_store};

/// How long recordings are kept: what is due, legal holds, and deleting by a logged decision.
///
/// A recording is due when as many days have passed since it began as its retention says (compliancesink's `retention`, or
/// the room's policy). One without is never due. Holds and decisions are entries in the audit log, nowhere else: no file can
/// be removed to be rid of one.
#[derive(Debug, clap::Subcommand)]
pub enum Retention {
    /// Show how the recordings in a folder stand: age, retention, when they are due, holds; and where folder and log
    /// disagree. Nothing is changed.
    List(List),
    /// Delete what is due. Without --yes it only shows what it would delete.
    ///
    /// For each recording the decision is logged first; then its key files are destroyed (crypto-shredding: from then on no
    /// copy of its media can be opened), and that is logged; then its media is deleted, and that is logged. What is
    /// interrupted is completed when it is run again.
    ///
    /// It refuses, and logs that it did, where there is a legal hold. It refuses recordings that are not due, that are being
    /// recorded, or that have no end record.
    ///
    /// Key files are removed, not overwritten: on an SSD or a file system that copies on write, overwriting reaches other
    /// blocks than the old ones. COPIES of key files are not reached: backups, snapshots, the recorder's keys/used (--keys
    /// does those), the dealer's copy of the bundles. While one is left, whoever it is wrapped to can open copies of the media.
    ///
    /// In a store every version of an object is deleted. Media that a retention lock holds stays, and is named; its key files,
    /// which lie elsewhere, are destroyed before. Run it again when the lock has ended. The audit log is the recorder's, in
    /// its spool; a recording that is still in the spool is refused.
    Apply(Apply),
    /// Place a legal hold on recordings: nothing of them is deleted until it is released for the same ticket.
    Hold(Hold),
    /// Release the hold of this ticket. Holds with other tickets last.
    Release(Hold),
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// Folder of recordings, or one recording; or s3://BUCKET/PREFIX, with or without a recording's id.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Folder of the audit log that the recordings name.
    #[arg(long, value_name = "LOG")]
    audit_log: PathBuf,
    /// Only recordings that are due, held, half deleted, or not as the log says.
    #[arg(long)]
    attention: bool,
    /// Print for a program, one line of JSON for each recording.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: Store,
}

#[derive(Debug, clap::Args)]
pub struct Apply {
    /// Folder of recordings, or one recording; or s3://BUCKET/PREFIX, with or without a recording's id.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Folder of the audit log that the recordings name.
    #[arg(long, value_name = "LOG")]
    audit_log: PathBuf,
    /// Only this recording. May be given several times.
    #[arg(long, value_name = "ID")]
    recording: Vec<RecordingId>,
    /// The recorder's folder of key bundles, if it is here: its copies of the key files are destroyed, too.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    why: Why,
    /// Do it. What is deleted does not come back.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    store: Store,
}

#[derive(Debug, clap::Args)]
pub struct Hold {
    /// Recordings: their folders, a folder with recordings in it, or their ids.
    #[arg(value_name = "REC|ID", required = true)]
    recordings: Vec<String>,
    /// Folder of the audit log that the recordings name.
    #[arg(long, value_name = "LOG")]
    audit_log: PathBuf,
    #[command(flatten)]
    why: Why,
}

#[derive(Debug, clap::Args)]
struct Why {
    /// Who you are: an opaque id, no name. It stands in the log for good.
    #[arg(long, value_name = "ID")]
    by: Id,
    /// Why. It stands in the log for good.
    #[arg(long, value_name = "TEXT")]
    reason: Text,
    /// The case that this belongs to. It stands in the log for good.
    #[arg(long, value_name = "ID")]
    ticket: Text,
}

impl From<Why> for Decision {
    fn from(Why { by, reason, ticket }: Why) -> Self {
        Self { by, reason, ticket }
    }
}

impl Retention {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::List(list) => list.run(),
            Self::Apply(apply) => apply.run(),
            Self::Hold(command) => command.place(),
            Self::Release(command) => command.release(),
        }
    }
}

impl List {
    fn run(self) -> Result<(), Box<dyn Error>> {
        let log = Log::open_existing(&self.audit_log)?;
        let now = now();
        let mut items = match is_store(&self.folder) {
            true => {
                let (recordings, all) = self.store.recordings(&self.folder)?;
                list_in_store(&recordings, all, &log, now)?
            }
            false => list(&self.folder, &log, now)?,
        };
        if self.attention {
            items.retain(|item| {
                item.standing != Standing::Kept || !item.holds.is_empty() || !item.notes.is_empty()
            });
        }
        if self.json {
            for item in &items {
                println!("{}", serde_json::to_string(item)?);
            }
            return Ok(());
        }
        println!(
            "{:<32}  {:<10}  {:>8}  {:>9}  {:<20}  hold",
            "recording", "state", "age", "retention", "due"
        );
        for item in &items {
            print!("{}", line(item, now));
        }
        Ok(())
    }
}

/// A recording's line, and one for each note.
fn line(item: &Item, now: u64) -> String {
    let days = |days: u64| format!("{days} d");
    let name = match (&item.recording, &item.path) {
        (Some(id), _) => id.to_string(),
        (None, Some(path)) => path.display().to_string(),
        (None, None) => String::new(),
    };
    let age = item.started.map_or_else(String::new, |started| {
        days(now.saturating_sub(started) / 86_400_000)
    });
    let retention = item
        .retention_days
        .map_or_else(|| "for ever".to_owned(), |kept| days(kept.into()));
    let due = item.due.map_or_else(|| "never".to_owned(), date);
    let holds: Vec<_> = item.holds.iter().map(|hold| hold.ticket.as_str()).collect();
    let holds = if holds.is_empty() {
        "no".to_owned()
    } else {
        format!("HELD: {}", holds.join(", "))
    };
    let standing = item.standing.to_string();
    let mut text = format!("{name:<32}  {standing:<10}  {age:>8}  {retention:>9}  {due:<20}  {holds}\n");
    for note in &item.notes {
        text.push_str(&format!("  ! {note}\n"));
    }
    text
}

impl Apply {
    fn run(self) -> Result<(), Box<dyn Error>> {
        let log = Log::open_existing(&self.audit_log)?;
        let decision = Decision::from(self.why);
        let (mut would, mut deleted, mut refused) = (0, 0, 0);
        let mut told = |item: &Item, outcome: Outcome| {
            let name = item.recording.map_or_else(String::new, |id| id.to_string());
            for note in &item.notes {
                println!("{name}  ! {note}");
            }
            match outcome {
                Outcome::Would => {
                    would += 1;
                    let due = item.due.map_or_else(|| "never".to_owned(), date);
                    println!("{name}  would be deleted: {}, due {due}", item.standing);
                }
                Outcome::Deleted { files, bytes } => {
                    deleted += 1;
                    println!("{name}  deleted: its key files, then {files} files with {bytes} bytes");
                }
                Outcome::Refused(error) => {
                    refused += 1;
                    println!("{name}  NOT deleted: {error}");
                }
            }
        };
        let (decided, keys) = (self.yes.then_some(&decision), self.keys.as_deref());
        let only = &self.recording;
        match is_store(&self.folder) {
            true => {
                let (recordings, all) = self.store.recordings(&self.folder)?;
                // One that is named by its address is meant, due or not, like one that is named by its id.
                let one: Vec<_> = recordings.iter().map(|of| of.id).collect();
                let only = if all || !only.is_empty() { only } else { &one };
                apply_in_store(&recordings, &log, only, decided, keys, &now, &mut told)?;
            }
            false => apply(&self.folder, &log, only, decided, keys, &now, &mut told)?,
        }
        log.close()?;
        if self.yes {
            println!("Deleted {deleted} recordings, refused {refused}.");
        } else {
            println!(
                "Nothing was changed. With --yes {would} recordings are deleted, {refused} are refused."
            );
        }
        if deleted > 0 {
            println!(
                "Key files were removed, not overwritten (on SSDs and copy-on-write file systems that would be of no use). \
                 Copies are not reached: destroy key files in backups, snapshots{} and with the dealer; while one is left, \
                 copies of the media can be opened.",
                if self.keys.is_some() {
                    ""
                } else {
                    ", the recorder's keys/used (--keys)"
                }
            );
        }
        if refused > 0 && self.yes {
            return Err(format!("{refused} recordings were not deleted").into());
        }
        Ok(())
    }
}

impl Hold {
    fn place(self) -> Result<(), Box<dyn Error>> {
        let (log, recordings) = self.named()?;
        let decision = Decision::from(self.why);
        let each = hold(&recordings, &log, &decision, now())?;
        log.close()?;
        tell(each, |id, held| {
            println!("{id}  held ({})", decision.ticket);
            if let Some(decided) = held.decided {
                println!(
                    "  ! its deletion was decided before, by {} at {}: what is left of it stays; look at retention list",
                    decided.by,
                    date(decided.at.time)
                );
            }
        })
    }

    fn release(self) -> Result<(), Box<dyn Error>> {
        let (log, recordings) = self.named()?;
        let decision = Decision::from(self.why);
        let each = release(&recordings, &log, &decision, now())?;
        log.close()?;
        tell(each, |id, ()| println!("{id}  released ({})", decision.ticket))
    }

    fn named(&self) -> Result<(Log, Vec<RecordingId>), Box<dyn Error>> {
        let log = Log::open_existing(&self.audit_log)?;
        let mut ids = Vec::new();
        for name in &self.recordings {
            let of = named(name, &log).map_err(|error| match error {
                error @ (RetentionError::NotAName(_) | RetentionError::NoRecording(_)) => error.to_string(),
                error => format!("{name}: {error}"),
            })?;
            ids.extend(of);
        }
        ids.sort_unstable();
        ids.dedup();
        Ok((log, ids))
    }
}

fn tell<T>(each: Each<T>, mut good: impl FnMut(RecordingId, T)) -> Result<(), Box<dyn Error>> {
    let mut failed = 0;
    for (id, result) in each {
        match result {
            Ok(done) => good(id, done),
            Err(error) => {
                failed += 1;
                eprintln!("gst-compliance: {id}: {error}");
            }
        }
    }
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} recordings are as they were").into()),
    }
}
