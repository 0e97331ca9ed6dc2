//! How recordings in a store stand, and deleting them there: by the same decisions, in the same order, as in a folder.
//!
//! What a retention lock of the store holds stays until the lock ends. Its keys lie elsewhere and are destroyed all the
//! same; the media goes when the same is done again then.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::apply::{Deletion, Kept};
use super::{Decision, Item, Outcome, RetentionError, Standing, add_others, facts_in, same_time};
use crate::audit::{History, Ledger, Log};
use crate::ids::RecordingId;
use crate::recording::Facts;
use crate::rewrap::remove_copies;
use crate::signing::PublicKey;
use crate::store::{StoreError, Stored, spool_with, wait};

/// A recording in a store.
pub struct InStore<'a> {
    /// The recording.
    pub of: &'a Stored,
    /// The log.
    pub log: &'a Log,
    /// A recorder's `keys`, whose copies of key files are destroyed, too.
    pub bundles: Option<&'a Path>,
}

/// How recordings in a store stand. `all`: they are all that there are at a place, so that those under hold or half deleted
/// that the log knows and that are not among them are told as well. `now`: unix time in milliseconds.
pub fn list_in_store(
    recordings: &[Stored],
    all: bool,
    log: &Log,
    now: u64,
) -> Result<Vec<Item>, RetentionError> {
    let ledger = log.ledger()?;
    let items = recordings.iter().map(|of| item(of, log, &ledger, now));
    let mut items = items.collect::<Result<Vec<_>, _>>()?;
    if all {
        add_others(&mut items, &ledger);
    }
    Ok(items)
}

/// Deletes recordings of a store that are due, and completes what was begun: see [`super::apply`].
pub fn apply_in_store(
    recordings: &[Stored],
    log: &Log,
    only: &[RecordingId],
    decision: Option<&Decision>,
    bundles: Option<&Path>,
    now: &dyn Fn() -> u64,
    told: &mut dyn FnMut(&Item, Outcome),
) -> Result<(), RetentionError> {
    if let Some(id) = only.iter().find(|id| !recordings.iter().any(|of| of.id == **id)) {
        return Err(RetentionError::NotHere(*id));
    }
    let mut ledger = log.ledger()?;
    for of in recordings {
        let item = item(of, log, &ledger, now())?;
        if !item.is_meant(only, now()) {
            continue;
        }
        let outcome = Deletion {
            of: &InStore { of, log, bundles },
            recording: of.id,
            log,
            ledger: &mut ledger,
            decision,
            now,
        }
        .run();
        told(&item, outcome.unwrap_or_else(Outcome::Refused));
    }
    Ok(())
}

fn item(of: &Stored, log: &Log, ledger: &Ledger, now: u64) -> Result<Item, RetentionError> {
    let mut item = Item::at(PathBuf::from(of.url()));
    item.recording = Some(of.id);
    let facts = match facts(of, log.key()) {
        // A store that cannot be asked says nothing of how its recordings stand.
        Err(RetentionError::Store(error)) if !matches!(error, StoreError::Missing(_)) => {
            return Err(error.into());
        }
        Err(error) => {
            item.notes.push(error.to_string());
            return Ok(item);
        }
        Ok(facts) => facts,
    };
    item.says(&facts);
    let Some(history) = ledger.of(of.id) else {
        item.notes.push(RetentionError::NotLogged.to_string());
        return Ok(item);
    };
    item.holds = history.held().cloned().collect();
    item.standing = standing(of, history, item.due, now)?;
    if let Err(error) = same_time(&facts, history) {
        item.notes.push(error.to_string());
    }
    let has_keys = wait(of.has_keys())?;
    if let Some(at) = history.shredded.filter(|_| has_keys) {
        item.notes.push(format!(
            "the audit log says that its key files were destroyed (entry {}), and there are some at {}",
            at.entry,
            of.keys.address()
        ));
    }
    if !has_keys && history.decided.is_none() && history.shredded.is_none() {
        item.notes.push(format!(
            "there are no key files of it at {}, and the audit log has no decision to destroy them",
            of.keys.address()
        ));
    }
    if let Some(spool) = spool_with(log.path(), of.id) {
        item.notes.push(RetentionError::InSpool(spool).to_string());
    }
    Ok(item)
}

fn standing(of: &Stored, history: &History, due: Option<u64>, now: u64) -> Result<Standing, StoreError> {
    Ok(if history.deleted.is_some() {
        Standing::Deleted
    } else if history.shredded.is_some() {
        Standing::Shredded
    } else if history.decided.is_some() {
        Standing::Deleting
    } else if !wait(of.is_finished())? {
        Standing::Unfinished
    } else if due.is_some_and(|due| due <= now) {
        Standing::Due
    } else {
        Standing::Kept
    })
}

fn facts(of: &Stored, key: PublicKey) -> Result<Facts, RetentionError> {
    let facts = facts_in(&wait(of.recording_file())?, key)?;
    match facts.recording == of.id {
        true => Ok(facts),
        false => Err(RetentionError::Damaged("is that of another recording".to_owned())),
    }
}

impl Kept for InStore<'_> {
    fn facts(&self, log: PublicKey) -> Result<Facts, RetentionError> {
        facts(self.of, log)
    }

    /// Nobody writes it who has not got it in a spool.
    fn lock(&self, _: bool) -> Result<Option<File>, RetentionError> {
        match spool_with(self.log.path(), self.of.id) {
            Some(spool) => Err(RetentionError::InSpool(spool)),
            None => Ok(None),
        }
    }

    fn is_finished(&self) -> Result<bool, RetentionError> {
        Ok(wait(self.of.is_finished())?)
    }

    fn destroy(&self) -> Result<u64, RetentionError> {
        let mut files = wait(self.of.remove_keys())?.versions;
        if let Some(bundles) = self.bundles {
            files += remove_copies(bundles, self.of.id)?;
        }
        Ok(files)
    }

    fn delete_media(&self) -> Result<(u64, u64), RetentionError> {
        let removed = wait(self.of.remove_media()).map_err(RetentionError::MediaStays)?;
        Ok((removed.versions, removed.bytes))
    }

    fn forget(&self) -> Result<(), RetentionError> {
        Ok(wait(self.of.forget())?)
    }
}
