//! What the audit log says of a recording, put together: entry by entry, in bounded memory. Of everything that is left
//! out it is told how much that is.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::Value;

use super::accesses::{Access, Accesses};
use crate::audit::entry::{Claim, ConsentStatus, Custodians};
use crate::audit::{Entry, Event, Id};
use crate::digest::{Digest, Salted};
use crate::ids::RecordingId;
use crate::recording::{Rewrapping, Rewraps, Root};

/// Most of what a list has: epochs, changes of state, ….
const MOST: usize = 1000;
/// Most entries that are told as they are.
const MOST_OTHERS: usize = 200;

/// A list that has an end.
#[derive(Debug, Clone, Serialize)]
pub struct Bounded<T> {
    /// The first ones.
    pub list: Vec<T>,
    /// How many more there are.
    pub more: u64,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            more: 0,
        }
    }
}

impl<T> Bounded<T> {
    fn push(&mut self, most: usize, new: T) {
        if self.list.len() < most {
            self.list.push(new);
        } else {
            self.more += 1;
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.more + self.list.len() as u64
    }
}

/// How recording went on or off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// It began.
    Started,
    /// It stopped for a while: the stable word why.
    Paused(String),
    /// It went on.
    Resumed,
    /// It ended.
    Stopped(String),
    /// It ended by a fault: the word, and what the system said.
    Failed(String, String),
    /// The recorder came back after a crash; its clock stood there, in nanoseconds.
    Recovered(u64),
}

/// The room entered an epoch.
#[derive(Debug, Clone, Serialize)]
pub struct Epoch {
    /// When: milliseconds since 1970, as everywhere here.
    pub time: u64,
    /// Its number.
    pub epoch: u64,
    /// Was recording on in the room?
    pub on: bool,
    /// Who holds keys.
    pub claim: Claim,
    /// How many were in the room.
    pub members: Option<u32>,
}

/// A recorder came into the room, or left it.
#[derive(Debug, Clone, Serialize)]
pub struct Recorder {
    /// When.
    pub time: u64,
    /// Its id.
    pub recorder: Id,
    /// In, with its certificate's digest, or out.
    pub certificate: Option<Digest>,
    /// In which epoch.
    pub epoch: u64,
}

/// How the consent stood.
#[derive(Debug, Clone, Serialize)]
pub struct Consent {
    /// When it was judged.
    pub time: u64,
    /// Which it was.
    pub reference: Option<Salted>,
    /// How it stood.
    pub status: ConsentStatus,
}

/// How it began, as the log has it.
#[derive(Debug, Clone, Serialize)]
pub struct Began {
    /// When.
    pub time: u64,
    /// In which epoch.
    pub epoch: u64,
    /// Who held keys.
    pub claim: Claim,
    /// Who can open it alone.
    pub recipients: Vec<Digest>,
    /// Who can open it together.
    pub custodians: Option<Custodians>,
}

/// The key was wrapped to others.
#[derive(Debug, Clone, Serialize)]
pub struct Rewrap {
    /// When.
    pub time: u64,
    /// Who did it.
    pub by: Id,
    /// Who can open it alone from then on.
    pub recipients: Vec<Digest>,
    /// Why.
    pub reason: String,
    /// What else the entry says.
    pub more: Vec<(String, String)>,
}

/// The break-glass way was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Drill {
    /// When.
    pub time: u64,
    /// On which recording.
    pub recording: Option<RecordingId>,
    /// Who did it.
    pub by: Id,
    /// Did it work?
    pub passed: bool,
    /// What was found.
    pub result: String,
}

/// A page like this one was made before.
#[derive(Debug, Clone, Serialize)]
pub struct Earlier {
    /// When.
    pub time: u64,
    /// Who made it.
    pub by: Id,
    /// SHA-256 of it.
    pub sha256: Digest,
}

/// An entry that nothing else here tells.
#[derive(Debug, Clone, Serialize)]
pub struct Other {
    /// Its number in the log.
    pub index: u64,
    /// When.
    pub time: u64,
    /// Of what kind.
    pub kind: String,
    /// What it says.
    pub fields: Vec<(String, String)>,
}

/// What the log says.
#[derive(Debug, Clone, Default, Serialize)]
pub struct History {
    /// Entries about the recording.
    pub entries: u64,
    /// The number of the last one.
    pub last: Option<u64>,
    /// Entries, of whatever recording, that this program cannot read.
    pub unreadable: u64,
    /// How far the manifest went, as the log knows.
    pub root: Option<Root>,
    /// How it began.
    pub began: Option<Began>,
    /// When recording went on and off.
    pub turns: Bounded<(u64, Turn)>,
    /// The room's epochs.
    pub epochs: Bounded<Epoch>,
    /// Recorders that came and went.
    pub recorders: Bounded<Recorder>,
    /// The consent.
    pub consents: Bounded<Consent>,
    /// Who opened it, or wanted to.
    pub accesses: Accesses,
    /// Who can open it since when.
    pub rewraps: Bounded<Rewrap>,
    /// The last drill, on whatever recording.
    pub drill: Option<Drill>,
    /// How many drills there were.
    pub drills: u64,
    /// Pages like this one.
    pub reports: Bounded<Earlier>,
    /// The recorder's clock was set: when, by how many milliseconds.
    pub jumps: Bounded<(u64, i64)>,
    /// Gaps that the log tells; the recording's own lines tell them, too.
    pub gaps: u64,
    /// Everything else.
    pub others: Bounded<Other>,
    /// What became of its key since it was recorded.
    #[serde(skip)]
    pub key: Rewraps,
    /// When tracks were opened.
    #[serde(skip)]
    pub opened: BTreeMap<u32, u64>,
    #[serde(skip)]
    by_access: HashMap<String, usize>,
}

impl History {
    /// Takes the next entry of the log, of whatever recording.
    pub fn take(&mut self, index: u64, entry: Entry, recording: Option<RecordingId>) {
        let Entry {
            time,
            recording: of,
            event,
        } = entry;
        if let Event::Drill {
            by, passed, result, ..
        } = &event
        {
            self.drills += 1;
            self.drill = Some(Drill {
                time,
                recording: of,
                by: by.clone(),
                passed: *passed,
                result: result.to_string(),
            });
        }
        if of.is_none() || of != recording {
            return;
        }
        self.entries += 1;
        self.last = Some(index);
        self.about_it(index, time, event);
    }

    fn about_it(&mut self, index: u64, time: u64, event: Event) {
        let (kind, fields) = (event.kind(), fields(&event));
        if Access::is_told_by(kind) {
            self.accesses.take(&mut self.by_access, time, kind, fields);
            return;
        }
        match event {
            Event::Started {
                epoch,
                claim,
                recipients,
                custodians,
                ..
            } => {
                self.key = Rewraps::Never;
                self.began.get_or_insert(Began {
                    time,
                    epoch,
                    claim,
                    recipients,
                    custodians,
                });
                self.turn(time, Turn::Started);
            }
            Event::Paused { cause } => self.turn(time, Turn::Paused(cause.to_string())),
            Event::Resumed { .. } => self.turn(time, Turn::Resumed),
            Event::Failed { cause, reason } => {
                self.turn(time, Turn::Failed(cause.to_string(), reason.to_string()));
            }
            Event::Stopped { cause, lines, root } => {
                self.know(lines, root);
                self.turn(time, Turn::Stopped(cause.to_string()));
            }
            Event::Recovered {
                lines, root, at_ns, ..
            } => {
                self.know(lines, root);
                self.turn(time, Turn::Recovered(at_ns));
            }
            Event::Manifest { lines, root } => self.know(lines, root),
            Event::Consent {
                reference, status, ..
            } => self.consents.push(
                MOST,
                Consent {
                    time,
                    reference,
                    status,
                },
            ),
            Event::TrackOpened { track, .. } => {
                self.opened.entry(track).or_insert(time);
            }
            Event::Gap { .. } => self.gaps += 1,
            Event::Epoch {
                epoch,
                on,
                claim,
                members,
                ..
            } => self.epochs.push(
                MOST,
                Epoch {
                    time,
                    epoch,
                    on,
                    claim,
                    members,
                },
            ),
            Event::RecorderIn {
                recorder,
                certificate,
                epoch,
            } => self.recorder(time, recorder, Some(certificate), epoch),
            Event::RecorderOut { recorder, epoch } => self.recorder(time, recorder, None, epoch),
            Event::ClockJump { by_ms } => self.jumps.push(MOST_OTHERS, (time, by_ms)),
            Event::Rewrapped {
                by,
                number,
                statement,
                recipients,
                reason,
                ..
            } => {
                self.key = Rewraps::Last(Rewrapping { number, statement });
                self.rewraps.push(
                    MOST_OTHERS,
                    Rewrap {
                        time,
                        by,
                        recipients,
                        reason: reason.to_string(),
                        more: without(fields, &["by", "recipients", "reason"]),
                    },
                );
            }
            Event::Reported { by, sha256 } => self.reports.push(MOST_OTHERS, Earlier { time, by, sha256 }),
            // Told above, whatever recording it was tried on.
            Event::Drill { .. } => {}
            event => {
                if matches!(event, Event::Shredded { .. }) {
                    self.key = Rewraps::Shredded;
                }
                self.others.push(
                    MOST_OTHERS,
                    Other {
                        index,
                        time,
                        kind: kind.to_owned(),
                        fields,
                    },
                );
            }
        }
    }

    fn turn(&mut self, time: u64, turn: Turn) {
        self.turns.push(MOST, (time, turn));
    }

    fn recorder(&mut self, time: u64, recorder: Id, certificate: Option<Digest>, epoch: u64) {
        self.recorders.push(
            MOST,
            Recorder {
                time,
                recorder,
                certificate,
                epoch,
            },
        );
    }

    fn know(&mut self, lines: u64, root: Digest) {
        if self.root.is_none_or(|known| known.lines <= lines) {
            self.root = Some(Root { lines, root });
        }
    }
}

/// An event's fields as text, whatever kind it is of: one that was made up after this was written, too.
fn fields(event: &Event) -> Vec<(String, String)> {
    let mut json = serde_json::to_value(event).unwrap_or_default();
    let Some(Value::Object(fields)) = json.get_mut(event.kind()).map(Value::take) else {
        return Vec::new();
    };
    let text = |value: Value| match value {
        Value::String(text) => text,
        value => value.to_string(),
    };
    let shown = fields.into_iter().map(|(name, value)| (name, text(value)));
    shown.collect()
}

/// Those of other names.
pub(super) fn without(mut fields: Vec<(String, String)>, names: &[&str]) -> Vec<(String, String)> {
    fields.retain(|(name, _)| !names.contains(&name.as_str()));
    fields
}
