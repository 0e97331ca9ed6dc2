//! What the log's own writer reads in it before it goes on.

use std::fs::File;

use super::super::folder::failed;
use super::super::follow::Follow;
use super::super::tree::{Claim, Prover};
use super::super::{Entry, EntryError, Note};
use super::{Appended, LOG, Log, LogError};

impl Log {
    /// Appends an entry unless one like it is there, whoever else appends meanwhile. None: there was one.
    pub fn append_first(
        &self,
        entry: &Entry,
        is_like: impl Fn(&Entry) -> bool,
    ) -> Result<Option<Appended>, LogError> {
        let encoded = [entry.encode()?];
        let path = self.shared.folder.file(LOG);
        let mut follow = Follow::new(self.shared.vkey.key());
        let mut found = false;
        let mut read = |end| {
            let failed = |error| LogError::Folder(failed(&path, error));
            let file = File::open(&path).map_err(failed)?;
            // One of a later version is like none that is known here.
            let take =
                |_, entry: Result<Entry, EntryError>| found |= entry.is_ok_and(|entry| is_like(&entry));
            let damage = follow.read(file, end, take).map_err(failed)?;
            match damage {
                None => Ok(found),
                Some(damage) => Err(LogError::Damaged(self.path().to_owned(), damage)),
            }
        };
        // Most of it is read while nobody has to wait; what came meanwhile is little.
        let end = self
            .shared
            .with_lock(|_, state, _| Ok::<_, LogError>(state.end()))?;
        if read(end)? {
            return Ok(None);
        }
        let appended = self.shared.with_lock(|shared, state, locked| {
            if read(state.end())? {
                return Ok(None);
            }
            let closes = entry.event.closes();
            state.append(&shared.folder, &encoded, closes, locked).map(Some)
        })?;
        self.shared.is_due();
        Ok(appended)
    }

    /// Shows every entry with its number. What was shown counts only where this ends well: then all of it is what the log
    /// signs. Entries of a later version are left out. Reads the whole log.
    pub fn read(&self, mut show: impl FnMut(u64, Entry)) -> Result<(), LogError> {
        let (note, end) = self.shared.checkpoint()?;
        let note = Note::parse(&note)?;
        let (size, root) = (note.unverified().size, note.unverified().root);
        let Some(prover) = Prover::new(size, Claim::Consistency(0)) else {
            return Err(LogError::NoEntry { index: 0, size });
        };
        let shown = self.shared.prove(prover, end, root, |index, entry| {
            if let Ok(entry) = Entry::decode(entry) {
                show(index, entry);
            }
        });
        shown.map(drop)
    }
}
