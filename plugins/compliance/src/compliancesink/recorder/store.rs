//! What a recorder has to do with a store: it says what is sealed, hears how it stands, and ends where the spool is full.

use std::time::Instant;

use super::{Fault, Recorder};
use crate::compliancesink::messages;
use crate::compliancesink::stored::Stored;
use crate::recording::Sealed;

impl Recorder {
    /// Tells how it stands with the store, where that is news.
    pub(super) fn look_at_store(&mut self, now: Instant) {
        let Some(stored) = &mut self.stored else { return };
        let (status, message) = stored.news(now);
        self.session.stats.counts().stored(&status);
        if let Some(message) = message {
            self.report.post(message);
        }
    }

    /// A spool that is full is like a disk that is full, but earlier.
    pub(super) fn look_at_spool(&self) -> Result<(), Fault> {
        let full = self
            .stored
            .as_ref()
            .filter(|_| self.recording.is_some())
            .and_then(Stored::is_full);
        full.map_or(Ok(()), |reason| {
            Err(Fault {
                cause: "spool-full",
                reason,
            })
        })
    }

    /// All is over: waits for the store as long as it may.
    pub fn drain(&mut self) {
        let Some(stored) = &mut self.stored else { return };
        let status = stored.drain();
        self.session.stats.counts().stored(&status);
        self.report.post(messages::store(&status));
    }

    /// The mirror may read what was written so far.
    pub(super) fn tell_mirror(&mut self, sealed: &[Sealed]) {
        if let (Some(stored), Some(recording)) = (&mut self.stored, &self.recording) {
            stored.sealed(recording, sealed);
        }
    }

    /// Nobody writes the recording any more.
    pub(super) fn release(&mut self) {
        if let Some(stored) = &mut self.stored {
            stored.released();
        }
    }
}
