//! Deleting what is due, so that a crash between any two steps leaves what the next call completes:
//!
//! 1. the decision is in the log, which has signed for it;
//! 2. the key files are destroyed, and the log says so: from here on no copy of the media can be opened;
//! 3. the media is deleted, and the log says so;
//! 4. `recording.json` goes last: while it is there, it says which recording this is.
//!
//! Steps 1 and 2 ask the log for holds while nobody can place one. What the steps mean in a folder is told here, what they
//! mean in a store in [`super::stored`].

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{Decision, Item, RetentionError, entry, facts_of, item, same_time, tickets};
use crate::audit::entry::Obstacle;
use crate::audit::{Event, History, Ledger, Log, Text};
use crate::bundle::{KEY_FILE, SHARES, STATEMENT_FILE};
use crate::ids::RecordingId;
use crate::recording::holders::{HOLDERS, lock};
use crate::recording::{
    Facts, MANIFEST_FILE, RECORDING_FILE, RESERVE_FILE, RealDisk, TRACKS, find, is_finished,
};
use crate::rewrap::{remove, remove_copies};
use crate::signing::PublicKey;
use crate::store::spool_of;

/// What became of a recording that is due, or was named.
#[derive(Debug)]
pub enum Outcome {
    /// It would be deleted.
    Would,
    /// It is deleted: so many files, with so many bytes, key files left aside.
    Deleted {
        /// Media and what describes it.
        files: u64,
        /// Their length.
        bytes: u64,
    },
    /// It was not, or not wholly.
    Refused(RetentionError),
}

/// Deletes recordings of a folder that are due, and completes what was begun. `only`: none means all. `decision`: none
/// means that nothing is changed, and only told what would be. `bundles`: a recorder's `keys`, whose copies of key files are
/// destroyed, too. `now`: unix time in milliseconds.
pub fn apply(
    folder: &Path,
    log: &Log,
    only: &[RecordingId],
    decision: Option<&Decision>,
    bundles: Option<&Path>,
    now: &dyn Fn() -> u64,
    told: &mut dyn FnMut(&Item, Outcome),
) -> Result<(), RetentionError> {
    let mut ledger = log.ledger()?;
    let paths = find(folder).map_err(RetentionError::io(folder))?;
    let mut missing: Vec<_> = only.to_vec();
    for path in paths {
        let item = item(&path, log.key(), &ledger, now());
        missing.retain(|id| Some(*id) != item.recording);
        if !item.is_meant(only, now()) {
            continue;
        }
        let Some(recording) = item.recording else { continue };
        let folder = Folder {
            path: &path,
            recording,
            bundles,
        };
        let outcome = Deletion {
            of: &folder,
            recording,
            log,
            ledger: &mut ledger,
            decision,
            now,
        }
        .run();
        told(&item, outcome.unwrap_or_else(Outcome::Refused));
    }
    match missing.first() {
        Some(id) => Err(RetentionError::NotHere(*id)),
        None => Ok(()),
    }
}

/// Where a recording lies that is to be deleted.
pub(super) trait Kept {
    /// What it says of itself; the log with this key must be its own.
    fn facts(&self, log: PublicKey) -> Result<Facts, RetentionError>;
    /// While this is held nobody records it, and nobody wraps its key to others. `begun`: its key is destroyed.
    fn lock(&self, begun: bool) -> Result<Option<File>, RetentionError>;
    /// Has it its end record?
    fn is_finished(&self) -> Result<bool, RetentionError>;
    /// Destroys all key files, durably. How many that were.
    fn destroy(&self) -> Result<u64, RetentionError>;
    /// Deletes what is left but `recording.json`: so many files with so many bytes.
    fn delete_media(&self) -> Result<(u64, u64), RetentionError>;
    /// Deletes `recording.json`, where nothing else is left.
    fn forget(&self) -> Result<(), RetentionError>;
}

pub(super) struct Deletion<'a, K> {
    pub of: &'a K,
    pub recording: RecordingId,
    pub log: &'a Log,
    pub ledger: &'a mut Ledger,
    /// None: only tell.
    pub decision: Option<&'a Decision>,
    pub now: &'a dyn Fn() -> u64,
}

impl<K: Kept> Deletion<'_, K> {
    pub fn run(&mut self) -> Result<Outcome, RetentionError> {
        let facts = self.of.facts(self.log.key())?;
        let history = history(self.ledger, self.recording)?;
        let begun = history.shredded.is_some();
        let lock = self.of.lock(begun)?;
        if begun {
            if self.decision.is_none() {
                return Ok(Outcome::Would);
            }
            // What was put back since is destroyed as well.
            self.of.destroy()?;
        } else {
            if !self.of.is_finished()? {
                return Err(RetentionError::Unfinished);
            }
            same_time(&facts, &history)?;
            let due = super::due(Some(facts.started), facts.retention_days);
            let due = due
                .filter(|due| *due <= (self.now)())
                .ok_or_else(|| not_due(due))?;
            let Some(decision) = self.decision else {
                return match history.held().next() {
                    None => Ok(Outcome::Would),
                    Some(_) => Err(RetentionError::Held(tickets(history.held()))),
                };
            };
            self.decide(decision, due)?;
            self.shred(decision)?;
        }
        let deleted = self.delete_media()?;
        drop(lock);
        Ok(deleted)
    }

    /// Puts the decision into the log, unless there is a hold.
    fn decide(&mut self, decision: &Decision, due: u64) -> Result<(), RetentionError> {
        let event = Event::DeletionDecided {
            by: decision.by.clone(),
            due,
            reason: decision.reason.clone(),
            ticket: decision.ticket.clone(),
        };
        self.unless_held(decision, || Ok(event))
    }

    /// Destroys the key files, unless there is a hold by now, and puts that into the log.
    fn shred(&mut self, decision: &Decision) -> Result<(), RetentionError> {
        let of = self.of;
        self.unless_held(decision, || {
            let files = of.destroy()?;
            Ok(Event::Shredded {
                by: decision.by.clone(),
                files,
            })
        })
    }

    /// Does something and logs it, while nobody can place a hold; or logs that a hold forbids it. The log signs for either.
    fn unless_held(
        &mut self,
        decision: &Decision,
        work: impl FnOnce() -> Result<Event, RetentionError>,
    ) -> Result<(), RetentionError> {
        let (recording, time) = (self.recording, (self.now)());
        let mut held = None;
        self.log.append_when(self.ledger, |ledger| {
            let history = history(ledger, recording)?;
            let event = match history.held().next() {
                None => work()?,
                Some(_) => {
                    let tickets = held.insert(tickets(history.held()));
                    Event::DeletionRefused {
                        by: decision.by.clone(),
                        cause: Obstacle::Hold,
                        reason: Text::lossy(&format!("under hold: {tickets}")),
                        ticket: decision.ticket.clone(),
                    }
                }
            };
            Ok::<_, RetentionError>(vec![entry(time, recording, event)])
        })?;
        self.log.checkpoint()?;
        held.map_or(Ok(()), |tickets| Err(RetentionError::Held(tickets)))
    }

    /// Deletes what is left, and puts that into the log before the recording's name goes.
    fn delete_media(&mut self) -> Result<Outcome, RetentionError> {
        let (files, bytes) = self.of.delete_media()?;
        let known = history(self.ledger, self.recording)?.deleted.is_some();
        if let Some(decision) = self.decision.filter(|_| files > 0 || !known) {
            let event = Event::Deleted {
                by: decision.by.clone(),
                files,
                bytes,
            };
            self.log.append(&entry((self.now)(), self.recording, event))?;
            self.log.checkpoint()?;
        }
        self.of.forget()?;
        Ok(Outcome::Deleted { files, bytes })
    }
}

/// A recording's folder.
struct Folder<'a> {
    path: &'a Path,
    recording: RecordingId,
    bundles: Option<&'a Path>,
}

impl Kept for Folder<'_> {
    fn facts(&self, log: PublicKey) -> Result<Facts, RetentionError> {
        facts_of(self.path, log)
    }

    fn lock(&self, begun: bool) -> Result<Option<File>, RetentionError> {
        if let Some(spool) = spool_of(self.path) {
            return Err(RetentionError::InSpool(spool));
        }
        // Where the key is destroyed there is nothing to lock any more, or soon.
        match lock(self.path) {
            Ok(None) => Err(RetentionError::InUse),
            Ok(lock) => Ok(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound && begun => Ok(None),
            Err(error) => Err(RetentionError::io(&self.path.join(MANIFEST_FILE))(error)),
        }
    }

    fn is_finished(&self) -> Result<bool, RetentionError> {
        is_finished(self.path, &RealDisk).map_err(|_| RetentionError::Unfinished)
    }

    /// Writing over them first would be of no use: on an SSD, or a file system that copies on write, what is written goes
    /// elsewhere.
    fn destroy(&self) -> Result<u64, RetentionError> {
        let mut files = 0;
        for name in [KEY_FILE, SHARES, HOLDERS] {
            let place = self.path.join(name);
            files += remove(&place).map_err(RetentionError::io(&place))?;
        }
        sync(self.path)?;
        if let Some(bundles) = self.bundles {
            files += remove_copies(bundles, self.recording)?;
        }
        Ok(files)
    }

    fn delete_media(&self) -> Result<(u64, u64), RetentionError> {
        let (mut files, mut bytes) = (0, 0);
        for name in [TRACKS, RESERVE_FILE, STATEMENT_FILE, MANIFEST_FILE] {
            let place = self.path.join(name);
            bytes += length(&place).map_err(RetentionError::io(&place))?;
            files += remove(&place).map_err(RetentionError::io(&place))?;
        }
        sync(self.path)?;
        Ok((files, bytes))
    }

    fn forget(&self) -> Result<(), RetentionError> {
        let last = self.path.join(RECORDING_FILE);
        let others = fs::read_dir(self.path)
            .map_err(RetentionError::io(self.path))?
            .count();
        if others > 1 {
            return Err(RetentionError::OtherFiles(self.path.to_owned()));
        }
        remove(&last).map_err(RetentionError::io(&last))?;
        fs::remove_dir(self.path).map_err(RetentionError::io(self.path))?;
        if let Some(parent) = self.path.parent() {
            sync(if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            })?;
        }
        Ok(())
    }
}

/// What the log says of a recording that may be deleted only by what it says.
fn history(ledger: &Ledger, recording: RecordingId) -> Result<History, RetentionError> {
    if ledger.unknown() > 0 {
        return Err(RetentionError::LaterLog(ledger.unknown()));
    }
    ledger
        .of(recording)
        .filter(|history| history.started.is_some())
        .cloned()
        .ok_or(RetentionError::NotLogged)
}

fn not_due(due: Option<u64>) -> RetentionError {
    RetentionError::NotDue(match due {
        None => "it has no retention time".to_owned(),
        Some(due) => format!("its time is not over before {}", super::date(due)),
    })
}

/// Length of a file, or of the files in a folder.
fn length(place: &Path) -> io::Result<u64> {
    let found = match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        found => found?,
    };
    if !found.is_dir() {
        return Ok(found.len());
    }
    fs::read_dir(place)?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .sum()
}

fn sync(folder: &Path) -> Result<(), RetentionError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(RetentionError::io(folder))
}
