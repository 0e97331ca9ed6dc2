//! Legal holds: entries in the log, each for a ticket. While one lasts, nothing of the recording is deleted.

use std::path::Path;

use super::{Decision, RetentionError, entry, facts_of, tickets};
use crate::audit::ledger::Act;
use crate::audit::{Event, History, Log, LogError};
use crate::ids::RecordingId;
use crate::recording::find;

/// A hold that was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its deletion was decided before and is not completed: something of it may be gone.
    pub decided: Option<Act>,
}

/// What became of each recording.
pub type Each<T> = Vec<(RecordingId, Result<T, RetentionError>)>;

/// The recordings that are named by an id, or by a folder that is one or has some in it.
pub fn named(name: &str, log: &Log) -> Result<Vec<RecordingId>, RetentionError> {
    let path = Path::new(name);
    if !path.is_dir() {
        let id = name
            .parse()
            .map_err(|_| RetentionError::NotAName(name.to_owned()))?;
        return Ok(vec![id]);
    }
    let found = find(path).map_err(RetentionError::io(path))?;
    if found.is_empty() {
        return Err(RetentionError::NoRecording(path.to_owned()));
    }
    found
        .iter()
        .map(|path| Ok(facts_of(path, log.key())?.recording))
        .collect()
}

/// Places a hold on recordings. Those on which none can be placed do not keep the others from it.
pub fn hold(
    recordings: &[RecordingId],
    log: &Log,
    decision: &Decision,
    time: u64,
) -> Result<Each<Held>, LogError> {
    let place = |history: &History| {
        if let Some(at) = history.shredded {
            return Err(RetentionError::Shredded(at.entry));
        }
        if let Some(same) = history.held().find(|hold| hold.ticket == decision.ticket) {
            return Err(RetentionError::AlreadyHeld(same.at.entry));
        }
        Ok(Held {
            decided: history.decided.clone(),
        })
    };
    let event = Event::HoldPlaced {
        by: decision.by.clone(),
        reason: decision.reason.clone(),
        ticket: decision.ticket.clone(),
    };
    log_each(recordings, log, &event, time, place)
}

/// Releases the hold with the decision's ticket. Holds with others last.
pub fn release(
    recordings: &[RecordingId],
    log: &Log,
    decision: &Decision,
    time: u64,
) -> Result<Each<()>, LogError> {
    let is_held = |history: &History| {
        if history.held().any(|hold| hold.ticket == decision.ticket) {
            return Ok(());
        }
        Err(RetentionError::NotHeld(tickets(history.held())))
    };
    let event = Event::HoldReleased {
        by: decision.by.clone(),
        reason: decision.reason.clone(),
        ticket: decision.ticket.clone(),
    };
    log_each(recordings, log, &event, time, is_held)
}

/// Logs the event for each recording that the log knows and that is judged well, and has the log sign for it.
fn log_each<T>(
    recordings: &[RecordingId],
    log: &Log,
    event: &Event,
    time: u64,
    judge: impl Fn(&History) -> Result<T, RetentionError>,
) -> Result<Each<T>, LogError> {
    let mut ledger = log.ledger()?;
    let mut each = Vec::new();
    log.append_when(&mut ledger, |ledger| {
        let mut entries = Vec::new();
        for recording in recordings {
            let known = ledger
                .of(*recording)
                .filter(|history| history.started.is_some())
                .ok_or(RetentionError::NotLogged);
            let judged = known.and_then(&judge);
            if judged.is_ok() {
                entries.push(entry(time, *recording, event.clone()));
            }
            each.push((*recording, judged));
        }
        Ok::<_, LogError>(entries)
    })?;
    log.checkpoint()?;
    Ok(each)
}
