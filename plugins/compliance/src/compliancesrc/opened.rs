//! The recording while it is open: its key, which only leaves here as decrypted members, and what is counted.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use super::cursor::Members;
use crate::recording::{OpenError, Reader, TrackId};

/// A recording that is open, for the threads of all its tracks.
pub struct Opened {
    source: Mutex<Source>,
    counts: Mutex<Counts>,
}

struct Source {
    reader: Reader,
    /// What was decrypted.
    seen: BTreeSet<(TrackId, u64)>,
}

/// How often what happened.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub frames: u64,
    pub bytes: u64,
    pub gaps: u64,
    pub damaged: u64,
    pub seeks: u64,
}

impl Opened {
    pub fn new(reader: Reader) -> Self {
        let seen = BTreeSet::new();
        Self {
            source: Mutex::new(Source { reader, seen }),
            counts: Mutex::default(),
        }
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To count in. Nothing else is locked while this is held.
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many members were decrypted.
    pub fn members(&self) -> u64 {
        self.source().seen.len() as u64
    }
}

/// The members of a track.
#[derive(Clone)]
pub struct TrackMembers {
    pub opened: Arc<Opened>,
    pub track: TrackId,
}

impl Members for TrackMembers {
    fn member(&self, sequence: u64) -> Result<Zeroizing<Vec<u8>>, String> {
        let mut source = self.opened.source();
        let member = source
            .reader
            .member(self.track, sequence)
            .map_err(|error| match error {
                OpenError::Member { why, .. } => why,
                error => error.to_string(),
            })?;
        source.seen.insert((self.track, sequence));
        Ok(member)
    }
}
