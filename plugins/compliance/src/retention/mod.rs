//! How long recordings are kept: what is due, what must not be deleted, and deleting by a logged decision.
//!
//! The audit log is the truth: a hold, a decision and what became of it are entries, and the folder is compared with
//! them. Nothing is deleted that the log does not know, that it has a hold on, or whose decision it has not taken.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::audit::ledger::{Act, At};
use crate::audit::{Entry, Event, History, Id, Ledger, Log, LogError, Text};
use crate::bundle::{KEY_FILE, SHARES, read_bounded};
use crate::ids::RecordingId;
use crate::recording::facts::MAX_FILE;
use crate::recording::holders::{HOLDERS, lock};
use crate::recording::{Facts, MANIFEST_FILE, RECORDING_FILE, RealDisk, TRACKS, find, is_finished};
use crate::rewrap::RewrapError;
use crate::signing::PublicKey;
use crate::store::{StoreError, spool_of};

mod apply;
mod hold;
mod stored;

pub use apply::{Outcome, apply};
pub use hold::{Each, Held, hold, named, release};
pub use stored::{InStore, apply_in_store, list_in_store};

const DAY: u64 = 24 * 60 * 60 * 1000;

/// Who decides something, and why. All of it stands in the log for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Who: an opaque id.
    pub by: Id,
    /// Why.
    pub reason: Text,
    /// The case or order that it belongs to.
    pub ticket: Text,
}

/// How a recording stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is being recorded, or somebody changes it.
    InUse,
    /// It has no end record: its recorder died.
    Unfinished,
    /// It is kept.
    Kept,
    /// Its time is over.
    Due,
    /// Its deletion was decided and not completed.
    Deleting,
    /// Its key files are destroyed, its media is not deleted.
    Shredded,
    /// It is deleted.
    Deleted,
    /// The log knows it, and it is not in the folder.
    Elsewhere,
    /// It cannot be judged; the notes say why.
    Unknown,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InUse => "in-use",
            Self::Unfinished => "unfinished",
            Self::Kept => "kept",
            Self::Due => "due",
            Self::Deleting => "deleting",
            Self::Shredded => "shredded",
            Self::Deleted => "deleted",
            Self::Elsewhere => "elsewhere",
            Self::Unknown => "unknown",
        })
    }
}

/// A recording, as the log and its folder say.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// Its folder. None: it is not in the one that was looked into.
    pub path: Option<PathBuf>,
    /// Its id, where that can be read.
    pub recording: Option<RecordingId>,
    /// When it began: unix time in milliseconds.
    pub started: Option<u64>,
    /// For how many days it is kept. None: for ever.
    pub retention_days: Option<u32>,
    /// From when on it is due: unix time in milliseconds.
    pub due: Option<u64>,
    /// Holds that last.
    pub holds: Vec<Act>,
    /// How it stands.
    pub standing: Standing,
    /// Where log and folder disagree, and what else must be known of it.
    pub notes: Vec<String>,
}

impl Item {
    /// Nothing is known of it but where it is.
    fn at(path: PathBuf) -> Self {
        Self {
            path: Some(path),
            recording: None,
            started: None,
            retention_days: None,
            due: None,
            holds: Vec::new(),
            standing: Standing::Unknown,
            notes: Vec::new(),
        }
    }

    /// What it says of itself.
    fn says(&mut self, facts: &Facts) {
        self.recording = Some(facts.recording);
        self.started = Some(facts.started);
        self.retention_days = facts.retention_days;
        self.due = due(self.started, facts.retention_days);
    }

    /// Is it one of those that are named, or, where none is, one whose time is over or whose deletion was begun?
    fn is_meant(&self, only: &[RecordingId], now: u64) -> bool {
        let begun = matches!(
            self.standing,
            Standing::Deleting | Standing::Shredded | Standing::Deleted
        );
        match only {
            [] => begun || self.due.is_some_and(|due| due <= now),
            only => self.recording.is_some_and(|id| only.contains(&id)),
        }
    }
}

/// Why nothing was deleted, held or released.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The system refuses.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is none.
    #[error("{0} is no recording and has none in it")]
    NoRecording(PathBuf),
    /// Neither a folder nor an id.
    #[error("{0} is neither a recording's folder nor its id (32 hex digits)")]
    NotAName(String),
    /// Named, and not found.
    #[error("recording {0} is not in this folder")]
    NotHere(RecordingId),
    /// What it says of itself does not hold.
    #[error("its {RECORDING_FILE} {0}")]
    Damaged(String),
    /// Nobody would look for the entry there.
    #[error("it names the audit log with the key {pinned}, and the one that was given has {key}")]
    AnotherLog {
        /// The key in recording.json.
        pinned: PublicKey,
        /// The log's key.
        key: PublicKey,
    },
    /// The log has no start of it.
    #[error(
        "the audit log does not know it: is the id right, and is the log whole? (an older copy of the log would not know of holds, either)"
    )]
    NotLogged,
    /// A later version wrote into the log.
    #[error(
        "the audit log has {0} entries that this version cannot read, and any of them may forbid it: use the newer version"
    )]
    LaterLog(u64),
    /// Log and recording disagree about its time.
    #[error(
        "recording.json says that it is kept for {here}, and the audit log says {log}: nothing is deleted"
    )]
    Disagree {
        /// In recording.json.
        here: String,
        /// In the log.
        log: String,
    },
    /// Its time is not over.
    #[error("it is not due: {0}")]
    NotDue(String),
    /// It must be kept.
    #[error("it is under legal hold ({0}): nothing of it is deleted until that is released")]
    Held(String),
    /// It is being recorded, or somebody else is at it.
    #[error("it is being recorded, re-wrapped or deleted by another process: try again when that has ended")]
    InUse,
    /// It has no end record.
    #[error(
        "it has no end record: a recorder could still go on with it. It is deleted when its recorder has ended it (it does so when it starts again in the same room)"
    )]
    Unfinished,
    /// There is nothing to keep any more.
    #[error("its key files were destroyed (entry {0} of the audit log): there is nothing left to be held")]
    Shredded(u64),
    /// The same hold.
    #[error("it is under hold for this ticket already (entry {0})")]
    AlreadyHeld(u64),
    /// There is no such hold.
    #[error("it is not under hold for this ticket; it is for: {0}")]
    NotHeld(String),
    /// It goes to a store, or is there partly.
    #[error(
        "it lies in the spool {0} and is on its way to a store: wait until it has left (gst-compliance upload brings it there), and name it as s3://BUCKET/PREFIX/ID then"
    )]
    InSpool(PathBuf),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A lock of the store, or something else, keeps its media.
    #[error("its key files are destroyed, so that no copy of its media can be opened; the media stays: {0}")]
    MediaStays(StoreError),
    /// Something else lies in its folder.
    #[error(
        "its key files are destroyed and its media is deleted, but {0} has other files in it, which stay: they are no part of a recording"
    )]
    OtherFiles(PathBuf),
    /// Key files could not be removed.
    #[error(transparent)]
    Copies(#[from] RewrapError),
}

impl RetentionError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }
}

/// How the recordings in a folder stand, and those under hold or half deleted that the log knows and that are not in it.
/// `now`: unix time in milliseconds.
pub fn list(folder: &Path, log: &Log, now: u64) -> Result<Vec<Item>, RetentionError> {
    let ledger = log.ledger()?;
    let paths = find(folder).map_err(RetentionError::io(folder))?;
    let mut items: Vec<_> = paths
        .iter()
        .map(|path| item(path, log.key(), &ledger, now))
        .collect();
    add_others(&mut items, &ledger);
    Ok(items)
}

/// Those under hold or half deleted that were not found.
fn add_others(items: &mut Vec<Item>, ledger: &Ledger) {
    let here: Vec<_> = items.iter().filter_map(|item| item.recording).collect();
    for (recording, history) in ledger.recordings() {
        let matters = history.held().next().is_some()
            || (history.decided.is_some() || history.shredded.is_some()) && history.deleted.is_none();
        if matters && !here.contains(&recording) {
            items.push(elsewhere(recording, history));
        }
    }
}

fn elsewhere(recording: RecordingId, history: &History) -> Item {
    let started = history.started.map(|at| at.time);
    Item {
        path: None,
        recording: Some(recording),
        started,
        retention_days: history.retention_days,
        due: due(started, history.retention_days),
        holds: history.held().cloned().collect(),
        standing: Standing::Elsewhere,
        notes: vec![match history.held().next() {
            Some(_) => "it is under hold, and it is not in this folder".to_owned(),
            None => "its deletion was begun, and it is not in this folder".to_owned(),
        }],
    }
}

fn item(path: &Path, log: PublicKey, ledger: &Ledger, now: u64) -> Item {
    let mut item = Item::at(path.to_owned());
    let facts = match facts_of(path, log) {
        Ok(facts) => facts,
        Err(error) => {
            item.notes.push(error.to_string());
            return item;
        }
    };
    item.says(&facts);
    let Some(history) = ledger.of(facts.recording) else {
        item.notes.push(RetentionError::NotLogged.to_string());
        return item;
    };
    item.holds = history.held().cloned().collect();
    item.standing = standing(path, history, item.due, now);
    item.notes = disagreements(path, &facts, history);
    item
}

fn standing(path: &Path, history: &History, due: Option<u64>, now: u64) -> Standing {
    if history.deleted.is_some() {
        return Standing::Deleted;
    }
    if history.shredded.is_some() {
        return Standing::Shredded;
    }
    match lock(path) {
        Ok(None) => return Standing::InUse,
        Ok(Some(_)) => {}
        Err(_) => return Standing::Unknown,
    }
    if history.decided.is_some() {
        return Standing::Deleting;
    }
    match is_finished(path, &RealDisk) {
        Ok(true) if due.is_some_and(|due| due <= now) => Standing::Due,
        Ok(true) => Standing::Kept,
        Ok(false) => Standing::Unfinished,
        Err(_) => Standing::Unknown,
    }
}

/// Where the folder is not as the log says.
fn disagreements(path: &Path, facts: &Facts, history: &History) -> Vec<String> {
    let mut notes = Vec::new();
    let entry = |at: At| at.entry;
    let keys = has_keys(path);
    if let Some(at) = history.shredded.filter(|_| keys) {
        notes.push(format!(
            "the audit log says that its key files were destroyed (entry {}), and there are some: a copy was put back",
            entry(at)
        ));
    }
    if let Some(at) = history.deleted.filter(|_| path.join(TRACKS).exists()) {
        notes.push(format!(
            "the audit log says that it was deleted (entry {}), and there is media: a copy was put back",
            entry(at)
        ));
    }
    if !keys && history.decided.is_none() && history.shredded.is_none() {
        notes.push("its key files are missing, and the audit log has no decision to destroy them".to_owned());
    }
    if !path.join(MANIFEST_FILE).exists() && history.shredded.is_none() {
        notes.push("its manifest is missing".to_owned());
    }
    if let Err(error) = same_time(facts, history) {
        notes.push(error.to_string());
    }
    if let Some(spool) = spool_of(path) {
        notes.push(RetentionError::InSpool(spool).to_string());
    }
    notes
}

/// Recording and log say the same of how long it is kept.
fn same_time(facts: &Facts, history: &History) -> Result<(), RetentionError> {
    if facts.retention_days == history.retention_days {
        return Ok(());
    }
    let days = |days: Option<u32>| days.map_or("ever".to_owned(), |days| format!("{days} days"));
    Err(RetentionError::Disagree {
        here: days(facts.retention_days),
        log: days(history.retention_days),
    })
}

/// From when on a recording is due. One that has no time never is.
fn due(started: Option<u64>, days: Option<u32>) -> Option<u64> {
    Some(started?.saturating_add(u64::from(days?).saturating_mul(DAY)))
}

/// A unix time in milliseconds as people write it (UTC).
fn date(milliseconds: u64) -> String {
    i64::try_from(milliseconds / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "the year 10000".to_owned())
}

fn has_keys(path: &Path) -> bool {
    [KEY_FILE, SHARES, HOLDERS]
        .iter()
        .any(|name| path.join(name).symlink_metadata().is_ok())
}

/// What a recording of this log says of itself.
fn facts_of(path: &Path, key: PublicKey) -> Result<Facts, RetentionError> {
    let place = path.join(RECORDING_FILE);
    let file = read_bounded(&place, MAX_FILE).map_err(RetentionError::io(&place))?;
    facts_in(&file, key)
}

fn facts_in(file: &[u8], key: PublicKey) -> Result<Facts, RetentionError> {
    let (facts, _) = Facts::decode(file).map_err(RetentionError::Damaged)?;
    let pinned = facts.log_key;
    if pinned != key {
        return Err(RetentionError::AnotherLog { pinned, key });
    }
    Ok(facts)
}

fn entry(time: u64, recording: RecordingId, event: Event) -> Entry {
    Entry {
        time,
        recording: Some(recording),
        event,
    }
}

fn tickets<'a>(holds: impl Iterator<Item = &'a Act>) -> String {
    let tickets: Vec<_> = holds.map(|hold| hold.ticket.to_string()).collect();
    match tickets.is_empty() {
        true => "none".to_owned(),
        false => tickets.join(", "),
    }
}
