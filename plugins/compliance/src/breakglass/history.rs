//! What the log says of the requests for a recording.

use std::collections::BTreeSet;

use super::Asked;
use crate::audit::{Event, Id, Log, LogError};
use crate::ids::RecordingId;

/// The requests for one recording, and what became of them.
#[derive(Debug, Default)]
pub struct History {
    asked: Vec<Asked>,
    opened: BTreeSet<String>,
    decided: BTreeSet<(String, String)>,
}

impl History {
    /// Reads the whole log.
    pub fn read(log: &Log, recording: RecordingId) -> Result<Self, LogError> {
        let mut history = Self::default();
        log.read(|_, entry| {
            if entry.recording != Some(recording) {
                return;
            }
            match &entry.event {
                Event::AccessRequested { .. } => history.asked.extend(Asked::of(&entry).ok()),
                Event::AccessOpened { access, .. } => {
                    history.opened.insert(access.to_string());
                }
                Event::AccessApproved {
                    access, custodian, ..
                } => history.decision(access, custodian),
                Event::AccessDenied { access, by, .. } => history.decision(access, by),
                _ => {}
            }
        })?;
        Ok(history)
    }

    fn decision(&mut self, access: &Id, by: &Id) {
        self.decided.insert((access.to_string(), by.to_string()));
    }

    /// The requests, in the order of the log.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// Was anything opened by this request?
    pub fn was_opened(&self, access: &Id) -> bool {
        self.opened.contains(access.as_str())
    }

    /// Stands a decision of this custodian there already?
    pub fn has_decision(&self, access: &Id, by: &Id) -> bool {
        self.decided.contains(&(access.to_string(), by.to_string()))
    }
}
