//! What a log says of each recording, taken together: who could open it from when to when, whether it must be kept, and
//! whether it was deleted. The log is the truth of all that; what lies on a disk is compared with it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::damage::Damage;
use super::entry::{Custodians, Entry, Event};
use super::follow::Follow;
use super::frame::ReadAt;
use super::roots::{rewrapping, root};
use super::text::{Id, Text};
use super::verify::{Item, Reader, VerifyError, named_key};
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::recording::{Rewrapping, Rewraps, Root};
use crate::signing::PublicKey;

/// What a log says of recordings.
#[derive(Debug, Clone)]
pub struct Ledger {
    recordings: BTreeMap<RecordingId, History>,
    unknown: u64,
    follow: Follow,
}

/// An entry's place, and when it was written by its machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct At {
    /// Its number.
    pub entry: u64,
    /// Milliseconds since 1970.
    pub time: u64,
}

/// Who did something, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Act {
    /// The entry.
    #[serde(flatten)]
    pub at: At,
    /// Who.
    pub by: Id,
    /// Why.
    pub reason: Text,
    /// The case or order that it belongs to.
    pub ticket: Text,
}

/// A time in which the same people could open a recording by its key files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Period {
    /// How often the key had been wrapped to others. 0: as it was recorded.
    pub number: u32,
    /// Since when.
    pub from: At,
    /// Who wrapped it, and why. None: it was recorded so.
    pub rewrapped: Option<Act>,
    /// Fingerprints of who could each open it alone.
    pub recipients: Vec<Digest>,
    /// Who could open it together.
    pub custodians: Option<Custodians>,
    /// Until when: its key was wrapped to others then, or its key files were destroyed. None: still.
    pub until: Option<At>,
}

/// A hold: while it lasts, nothing of the recording is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Who placed it.
    pub placed: Act,
    /// Who released it.
    pub released: Option<Act>,
}

/// What a log says of one recording.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct History {
    /// When it began.
    pub started: Option<At>,
    /// For how many days it shall be kept.
    pub retention_days: Option<u32>,
    /// Who could open it when, in order.
    pub periods: Vec<Period>,
    /// All holds, in order.
    pub holds: Vec<Hold>,
    /// The last decision to delete it.
    pub decided: Option<Act>,
    /// When its key files were destroyed.
    pub shredded: Option<At>,
    /// When its media was deleted.
    pub deleted: Option<At>,
    /// How far its manifest went at least.
    #[serde(skip)]
    pub root: Option<Root>,
    /// The last time that its key was wrapped to others.
    #[serde(skip)]
    pub rewrapping: Option<Rewrapping>,
}

impl History {
    /// Holds that last.
    pub fn held(&self) -> impl Iterator<Item = &Act> {
        let lasting = self.holds.iter().filter(|hold| hold.released.is_none());
        lasting.map(|hold| &hold.placed)
    }

    /// What became of its key since it was recorded.
    pub fn rewraps(&self) -> Rewraps {
        match self.rewrapping {
            _ if self.shredded.is_some() => Rewraps::Shredded,
            Some(last) => Rewraps::Last(last),
            None => Rewraps::Never,
        }
    }

    /// The time in which this moment lies. Nobody could open it before the first one.
    pub fn period_at(&self, time: u64) -> Option<&Period> {
        // The last one: where a clock was set back, times overlap.
        let mut periods = self.periods.iter().rev();
        periods.find(|period| period.from.time <= time && period.until.is_none_or(|until| time < until.time))
    }

    fn take(&mut self, at: At, event: &Event) {
        let act = |by: &Id, reason: &Text, ticket: &Text| Act {
            at,
            by: by.clone(),
            reason: reason.clone(),
            ticket: ticket.clone(),
        };
        if let Some(told) = root(event)
            && self.root.is_none_or(|known| known.lines <= told.lines)
        {
            self.root = Some(told);
        }
        self.rewrapping = rewrapping(event).or(self.rewrapping);
        match event {
            Event::Started {
                recipients,
                custodians,
                retention_days,
                ..
            } => {
                self.started = self.started.or(Some(at));
                self.retention_days = *retention_days;
                self.begin(Period {
                    number: 0,
                    from: at,
                    rewrapped: None,
                    recipients: recipients.clone(),
                    custodians: custodians.clone(),
                    until: None,
                });
            }
            Event::Rewrapped {
                by,
                number,
                recipients,
                custodians,
                reason,
                ticket,
                ..
            } => self.begin(Period {
                number: *number,
                from: at,
                rewrapped: Some(act(by, reason, ticket)),
                recipients: recipients.clone(),
                custodians: custodians.clone(),
                until: None,
            }),
            Event::HoldPlaced { by, reason, ticket } => self.holds.push(Hold {
                placed: act(by, reason, ticket),
                released: None,
            }),
            Event::HoldReleased { by, reason, ticket } => {
                let holds = self.holds.iter_mut();
                for hold in holds.filter(|hold| hold.released.is_none() && hold.placed.ticket == *ticket) {
                    hold.released = Some(act(by, reason, ticket));
                }
            }
            Event::DeletionDecided {
                by, reason, ticket, ..
            } => self.decided = Some(act(by, reason, ticket)),
            Event::Shredded { .. } => {
                self.end(at);
                self.shredded = Some(at);
            }
            Event::Deleted { .. } => self.deleted = Some(at),
            _ => {}
        }
    }

    fn begin(&mut self, period: Period) {
        self.end(period.from);
        self.periods.push(period);
    }

    fn end(&mut self, at: At) {
        if let Some(last) = self.periods.last_mut() {
            last.until.get_or_insert(at);
        }
    }
}

impl Ledger {
    /// Of a log of which nothing was read yet. `key`: the log's.
    pub fn new(key: &PublicKey) -> Self {
        Self {
            recordings: BTreeMap::new(),
            unknown: 0,
            follow: Follow::new(key),
        }
    }

    /// Reads the log in a folder, as it is now and without its private key. Nothing is compared with what was signed; what is
    /// damaged is told beside it, and what it said of a recording is not known.
    pub fn read_unchecked(path: &Path) -> Result<(Self, Vec<String>), VerifyError> {
        let mut ledger = Self::new(named_key(path)?.key());
        let mut damages = Vec::new();
        for item in Reader::open(path)? {
            match item? {
                Item::Entry {
                    index,
                    entry: Ok(entry),
                    ..
                } => take(&mut ledger.recordings, index, &entry),
                Item::Entry {
                    index,
                    entry: Err(error),
                    ..
                } => {
                    ledger.unknown += 1;
                    damages.push(format!("entry {index}: {error}"));
                }
                Item::Damage(damage) => damages.push(damage.to_string()),
            }
        }
        Ok((ledger, damages))
    }

    /// What the log says of a recording.
    pub fn of(&self, recording: RecordingId) -> Option<&History> {
        self.recordings.get(&recording)
    }

    /// All recordings that it knows.
    pub fn recordings(&self) -> impl Iterator<Item = (RecordingId, &History)> {
        self.recordings.iter().map(|(id, history)| (*id, history))
    }

    /// Entries that cannot be read here: those of a later version, which might say anything.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Reads what came since the last time, up to `end`, where a frame ends. Gives the damage that it found instead.
    pub(super) fn read(&mut self, file: impl ReadAt, end: u64) -> io::Result<Option<Damage>> {
        let (recordings, unknown) = (&mut self.recordings, &mut self.unknown);
        self.follow.read(file, end, |index, entry| match entry {
            Ok(entry) => take(recordings, index, &entry),
            Err(_) => *unknown += 1,
        })
    }
}

fn take(recordings: &mut BTreeMap<RecordingId, History>, index: u64, entry: &Entry) {
    if let Some(recording) = entry.recording {
        let at = At {
            entry: index,
            time: entry.time,
        };
        recordings.entry(recording).or_default().take(at, &entry.event);
    }
}
