//! The gates, with the key source that tells of the room. Streaming threads ask whether a frame may be kept; the worker
//! hears what changed.
//!
//! Locks: `asking`, then `gate`. While `asking` is held the key source is asked, so that an older answer never comes behind a
//! newer one; streaming threads do not take it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use gst_e2ee_common::key_source::KeySource;
use gst_e2ee_common::meta::SFrameMeta;
use gst_e2ee_common::room_state::{LATEST, RoomState};

use super::stats::Cause;
use crate::consent::{Consent, ConsentRefusal};
use crate::gate::{Gate, Readers, Refusal, Transition};

pub struct Admission {
    source: Option<KeySource>,
    require_room: bool,
    asking: Mutex<()>,
    gate: Mutex<Gated>,
}

struct Gated {
    gate: Gate,
    /// What the worker did not hear yet.
    news: Vec<Transition>,
    /// What the source said last of the latest epoch.
    room: Option<RoomState>,
    /// Epochs that began, and that the worker did not hear of yet.
    epochs: Vec<RoomState>,
}

/// Unix time in milliseconds.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Admission {
    /// Gates that are shut, for a recorder in the room of this key source.
    pub fn new(require_room: bool, source: Option<KeySource>) -> Self {
        Self {
            source,
            require_room,
            asking: Mutex::default(),
            gate: Mutex::new(Gated {
                gate: Gate::new(require_room),
                news: Vec::new(),
                room: None,
                epochs: Vec::new(),
            }),
        }
    }

    /// Does something with the gates; notes what it brought about.
    fn with(&self, act: impl FnOnce(&mut Gate, u64) -> Option<Transition>) {
        let mut gated = lock(&self.gate);
        let news = act(&mut gated.gate, unix_ms());
        gated.news.extend(news);
    }

    /// Asks the key source where the room stands now. From `room-changed` it must be called before that returns: frames
    /// of the new epoch are opened after it.
    pub fn ask_room(&self) {
        let Some(source) = &self.source else { return };
        let _asking = lock(&self.asking);
        let state = source.room_state(LATEST);
        {
            let mut gated = lock(&self.gate);
            let before = std::mem::replace(&mut gated.room, state.as_ref().ok().cloned().flatten());
            let is_new = gated.room.as_ref().map(|room| room.epoch) != before.map(|room| room.epoch);
            let begun = gated.room.clone().filter(|_| is_new);
            gated.epochs.extend(begun);
        }
        self.with(|gate, now| gate.room(now, state));
    }

    /// Tells the consent, or why there is none.
    pub fn consent(&self, consent: Result<Consent, ConsentRefusal>) {
        self.with(|gate, now| gate.consent(now, consent));
    }

    /// Tells who can open the recording.
    pub fn readers(&self, readers: Readers) {
        self.with(|gate, now| gate.readers(now, readers));
    }

    /// Tells that time passed.
    pub fn tick(&self) {
        self.with(Gate::tick);
    }

    /// What changed since this was asked the last time. Of reasons that follow each other, only the last is one.
    pub fn news(&self) -> Vec<Transition> {
        let mut news = std::mem::take(&mut lock(&self.gate).news);
        let is_reason = |news: &Transition| matches!(news, Transition::Paused(_));
        let last = news.len().saturating_sub(1);
        let outdated: Vec<bool> = (0..news.len())
            .map(|at| at < last && is_reason(&news[at]) && is_reason(&news[at + 1]))
            .collect();
        let mut outdated = outdated.into_iter();
        news.retain(|_| outdated.next() != Some(true));
        news
    }

    /// Epochs that began since this was asked the last time.
    pub fn epochs(&self) -> Vec<RoomState> {
        std::mem::take(&mut lock(&self.gate).epochs)
    }

    /// May the recording persist anything now?
    pub fn may_run(&self) -> Result<(), Refusal> {
        lock(&self.gate).gate.may_run(unix_ms())
    }

    /// The room as the source told it last.
    pub fn room(&self) -> Option<RoomState> {
        lock(&self.gate).room.clone()
    }

    /// The key source, where there is one.
    pub fn source(&self) -> Option<&KeySource> {
        self.source.as_ref()
    }

    /// Does a recording need a room?
    pub fn require_room(&self) -> bool {
        self.require_room
    }

    /// May a frame with this meta be kept?
    pub fn may_keep(&self, meta: Option<&SFrameMeta>) -> Result<(), Cause> {
        let epoch = match meta {
            Some(meta) => meta.epoch,
            None if self.require_room => return Err(Cause::NoEpoch),
            // In the epoch of now, if there is any.
            None => lock(&self.gate).room.as_ref().map_or(0, |room| room.epoch),
        };
        let may_keep = lock(&self.gate).gate.may_keep(unix_ms(), epoch);
        may_keep.map_err(|_| Cause::NotAdmitted)
    }
}
