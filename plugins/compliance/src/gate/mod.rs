//! May the recording run, and may this frame be kept? The one place that decides it. No threads, no clock, no files: the
//! room's states, the consent, the keys and the time come in, answers and transitions come out.
//!
//! ```text
//!                     all gates agree: Started            one ends: Paused(why)
//!        waiting ────────────────────────────▶ running ─────────────────────────▶ paused
//!           │                                   │   ▲                              │  │
//!           │                                   │   └──────────────────────────────┘  │
//!           │                                   │         all agree again: Resumed    │
//!           └───────────────────────────────────┴────────────────┬────────────────────┘
//!                                     evicted, or another group: Stopped(why), for good
//! ```
//!
//! **The gates**, in the order in which a person hears of them: there is a room and this endpoint a live member of it; it
//! is certified and admitted as a recorder; the claim allows recordings; the room's recording is *on*; the consent
//! permits recording now; the room's policy names this very consent; nobody can open the recording whom the policy does
//! not name; there are keys. Whatever is not said counts as refused.
//!
//! **A frame** is kept where two things hold: all gates agree *now*, and the epoch that the frame itself was sealed in was
//! one in which they did. So nothing is kept that was sealed while recording was off, however late it comes; and nothing
//! is written any more from the moment on that this endpoint hears of an end, not even what was sealed just before it:
//! senders seal for up to a second after an *off* under the keys of the epoch before, and what is said then is not to be
//! recorded.
//!
//! `require_room = false` is for tests without a room. Then what is not said does not count against the recording; what is
//! said still does: a room that says *off* is not recorded.

mod refusal;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use gst_e2ee_common::key_source::ContractError;
use gst_e2ee_common::room_state::{EscrowState, RoomState, Standing};

use crate::consent::{Consent, ConsentRefusal};

pub use refusal::Refusal;

/// So many epochs are remembered: more than there can be keys of.
const EPOCHS: usize = 512;

/// Who can open the recording: what the key bundle says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readers {
    /// Fingerprints of those who can, each alone.
    pub recipients: Vec<String>,
    /// Custodians who can together.
    pub escrow: Option<EscrowState>,
}

/// What happened to the recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// It begins: from here on frames are kept.
    Started,
    /// It goes on after a pause.
    Resumed,
    /// It rests, or has not begun, and this is why. Told again where the reason becomes another one.
    Paused(Refusal),
    /// It has ended for good.
    Stopped(Refusal),
}

/// What the key source last said of the room.
#[derive(Debug, Clone)]
enum Told {
    Nothing,
    Unreadable(String),
    Room { epoch: u64, standing: Option<Standing> },
}

/// What is known of one epoch.
#[derive(Debug, Clone)]
struct Epoch {
    state: RoomState,
    /// What the room itself rules out in it.
    room: Result<(), Refusal>,
    /// What consent and keys rule out in it.
    terms: Result<(), Refusal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running,
    Paused,
    Stopped,
}

/// The gates of one recording.
#[derive(Debug)]
pub struct Gate {
    require_room: bool,
    told: Told,
    /// The group that the epochs are of.
    room_id: Option<String>,
    epochs: BTreeMap<u64, Epoch>,
    consent: Result<Consent, ConsentRefusal>,
    readers: Option<Readers>,
    phase: Phase,
    /// Has it ever run?
    begun: bool,
    /// Why it has ended for good.
    end: Option<Refusal>,
    /// The reason that was told last.
    said: Option<Refusal>,
}

impl Gate {
    /// The gates of a new recording, all shut. `require_room`: false only where there is no room, in tests.
    pub fn new(require_room: bool) -> Self {
        Self {
            require_room,
            told: Told::Nothing,
            room_id: None,
            epochs: BTreeMap::new(),
            consent: Err(ConsentRefusal::Missing),
            readers: None,
            phase: Phase::Waiting,
            begun: false,
            end: None,
            said: None,
        }
    }

    // What comes in. Times are unix milliseconds.

    /// What the key source says of the latest epoch: to be asked for when it is found, and at each `room-changed`, before
    /// another frame is taken.
    pub fn room(&mut self, now: u64, state: Result<Option<RoomState>, ContractError>) -> Option<Transition> {
        match state {
            Ok(None) => self.told = Told::Nothing,
            Err(error) => self.told = Told::Unreadable(error.to_string()),
            Ok(Some(state)) => {
                self.told = Told::Room {
                    epoch: state.epoch,
                    standing: state.standing,
                };
                if state.standing == Some(Standing::Evicted) {
                    self.end.get_or_insert(Refusal::Evicted);
                }
                self.learn(state);
            }
        }
        self.update(now)
    }

    /// The consent, or why there is none: at the start, and whenever the file changed.
    pub fn consent(&mut self, now: u64, consent: Result<Consent, ConsentRefusal>) -> Option<Transition> {
        self.consent = consent;
        self.judge_terms();
        self.update(now)
    }

    /// Who can open the recording. Bundles are used once, so it need not be taken before `no-keys` is all that is missing.
    pub fn readers(&mut self, now: u64, readers: Readers) -> Option<Transition> {
        self.readers = Some(readers);
        self.judge_terms();
        self.update(now)
    }

    /// Time passed; due at [`Self::next_deadline`], and after the wall clock was set.
    pub fn tick(&mut self, now: u64) -> Option<Transition> {
        self.update(now)
    }

    /// When [`Self::tick`] is due next, in unix milliseconds.
    pub fn next_deadline(&self, now: u64) -> Option<u64> {
        self.consent.as_ref().ok()?.next_change(now)
    }

    // What is asked

    /// May the recording persist anything now?
    pub fn may_run(&self, now: u64) -> Result<(), Refusal> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let epoch = match &self.told {
            Told::Unreadable(error) => return Err(Refusal::RoomUnreadable(error.clone())),
            Told::Nothing if self.require_room => return Err(Refusal::NoRoom),
            Told::Nothing => None,
            Told::Room { epoch, standing } => {
                match standing {
                    Some(Standing::Ready) => {}
                    Some(Standing::Joining) => return Err(Refusal::Joining),
                    Some(Standing::Stale) => return Err(Refusal::Stale),
                    Some(Standing::Evicted) => return Err(Refusal::Evicted),
                    None => self.unsaid("state")?,
                }
                Some(self.epochs.get(epoch).ok_or(Refusal::UnknownEpoch)?)
            }
        };
        if let Some(epoch) = epoch {
            epoch.room.clone()?;
        }
        self.consent.as_ref().map_err(Clone::clone)?.judge(now)?;
        if let Some(epoch) = epoch {
            epoch.terms.clone()?;
        }
        self.readers.as_ref().map(|_| ()).ok_or(Refusal::NoKeys)
    }

    /// May a frame that was sealed in this epoch be kept now?
    pub fn may_keep(&self, now: u64, epoch: u64) -> Result<(), Refusal> {
        self.may_run(now)?;
        if self.phase != Phase::Running {
            return Err(Refusal::Starting);
        }
        match self.epochs.get(&epoch) {
            Some(known) => known.room.clone().and_then(|()| known.terms.clone()),
            // Nobody ever said anything of a room.
            None if !self.require_room && self.epochs.is_empty() => Ok(()),
            None => Err(Refusal::UnknownEpoch),
        }
    }

    fn update(&mut self, now: u64) -> Option<Transition> {
        match self.may_run(now) {
            Ok(()) if self.phase == Phase::Running => None,
            Ok(()) => {
                self.phase = Phase::Running;
                self.said = None;
                let first = !std::mem::replace(&mut self.begun, true);
                Some(if first {
                    Transition::Started
                } else {
                    Transition::Resumed
                })
            }
            Err(_) if self.phase == Phase::Stopped => None,
            Err(why) => {
                let is_new = self.said.as_ref() != Some(&why);
                self.said = Some(why.clone());
                if why.is_final() {
                    self.phase = Phase::Stopped;
                    return Some(Transition::Stopped(why));
                }
                self.phase = if self.begun { Phase::Paused } else { Phase::Waiting };
                is_new.then_some(Transition::Paused(why))
            }
        }
    }

    /// Not said: refused, unless no room is required.
    fn unsaid(&self, what: &'static str) -> Result<(), Refusal> {
        if self.require_room {
            Err(Refusal::Unsaid(what))
        } else {
            Ok(())
        }
    }

    fn learn(&mut self, mut state: RoomState) {
        if state.room_id != self.room_id {
            // The first that is told is no other one.
            if self.begun && !self.epochs.is_empty() {
                self.end.get_or_insert(Refusal::OtherRoom);
            }
            self.epochs.clear();
            self.room_id = state.room_id.clone();
        }
        // Of now, not of the epoch.
        state.standing = None;
        state.certificates = Vec::new();
        let number = state.epoch;
        if let Some(known) = self.epochs.get_mut(&number) {
            if known.state != state {
                known.room = Err(Refusal::EpochChanged);
            }
            return;
        }
        let epoch = Epoch {
            room: self.judge_room(&state),
            terms: self.judge_terms_of(&state),
            state,
        };
        self.epochs.insert(number, epoch);
        if self.epochs.len() > EPOCHS {
            self.epochs.pop_first();
        }
    }

    fn judge_room(&self, state: &RoomState) -> Result<(), Refusal> {
        if state.room_id.is_none() {
            self.unsaid("room-id")?;
        }
        match state.recorder {
            Some(true) => {}
            Some(false) => return Err(Refusal::NotARecorder),
            None => self.unsaid("recorder")?,
        }
        match state.claim.as_deref() {
            Some("recorded" | "escrow") => {}
            Some("strict") => return Err(Refusal::StrictRoom),
            Some(_) => return Err(Refusal::Unsaid("claim")),
            None => self.unsaid("claim")?,
        }
        match state.recording {
            Some(true) => Ok(()),
            Some(false) => Err(Refusal::Off),
            None => self.unsaid("recording"),
        }
    }

    fn judge_terms(&mut self) {
        let mut epochs = std::mem::take(&mut self.epochs);
        for epoch in epochs.values_mut() {
            epoch.terms = self.judge_terms_of(&epoch.state);
        }
        self.epochs = epochs;
    }

    fn judge_terms_of(&self, state: &RoomState) -> Result<(), Refusal> {
        let consent = self.consent.as_ref().map_err(Clone::clone)?;
        match &state.consent {
            Some(reference) if consent.matches(reference) => {}
            Some(_) => return Err(Refusal::OtherConsent),
            None if self.require_room => return Err(Refusal::NoReference),
            None => {}
        }
        match &self.readers {
            Some(readers) => self.judge_readers(state, readers),
            None => Ok(()),
        }
    }

    /// Nobody may be able to open the recording whom the members cannot read of in the policy.
    fn judge_readers(&self, state: &RoomState, readers: &Readers) -> Result<(), Refusal> {
        let is_named = |named: &[String]| readers.recipients.iter().all(|reader| named.contains(reader));
        match (state.claim.as_deref(), &state.recipients) {
            (Some("escrow"), _) if !readers.recipients.is_empty() => {
                return Err(Refusal::UndisclosedRecipient);
            }
            (_, Some(named)) if !is_named(named) => return Err(Refusal::UndisclosedRecipient),
            (_, None) if !readers.recipients.is_empty() => self.unsaid("recipients")?,
            _ => {}
        }
        if state.claim.is_some() && readers.escrow != state.escrow {
            return Err(Refusal::UndisclosedEscrow);
        }
        Ok(())
    }
}
