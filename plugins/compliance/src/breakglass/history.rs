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
    decided: BTreeSet<(String, String, &'static str)>,
}

impl History {
    /// Reads the whole log.
    pub fn read(log: &Log, recording: RecordingId) -> Result<Self, LogError> {
        let mut history = Self::default();
        log.read(|_, entry| {
            if entry.recording != Some(recording) {
                return;
            }
            let kind = entry.event.kind();
            match &entry.event {
                Event::AccessRequested { .. } => history.asked.extend(Asked::of(&entry).ok()),
                Event::AccessOpened { access, .. } => {
                    history.opened.insert(access.to_string());
                }
                Event::AccessApproved {
                    access, custodian, ..
                } => history.decision(access, custodian, kind),
                Event::AccessDenied { access, by, .. } => history.decision(access, by, kind),
                _ => {}
            }
        })?;
        Ok(history)
    }

    fn decision(&mut self, access: &Id, by: &Id, kind: &'static str) {
        self.decided.insert((access.to_string(), by.to_string(), kind));
    }

    /// The requests, in the order of the log.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// Was anything opened by this request?
    pub fn was_opened(&self, access: &Id) -> bool {
        self.opened.contains(access.as_str())
    }

    /// Stands an event of this kind there already, of this request and custodian?
    pub fn has(&self, access: &Id, by: &Id, kind: &'static str) -> bool {
        self.decided.contains(&(access.to_string(), by.to_string(), kind))
    }
}
