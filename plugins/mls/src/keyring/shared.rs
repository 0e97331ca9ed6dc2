//! What the runner's thread and the key source have in common.
//!
//! Locks, each held for a moment and none while another program's code runs: `schedule`, then `table` within it. A
//! lookup by a receiver reads `table` alone, which is replaced as a whole, so it never waits for the room's work.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use gst::glib;
use gst::prelude::*;
use gst_e2ee_common::room_state::{RoomState, Standing};

use super::purpose::to_be_signed;
use super::room_states::RoomStates;
use crate::schedule::{KeyTable, OpeningKey, PeerOpened, Schedule, SealingKey};

/// Milliseconds of a monotonic clock.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;
/// Signs bytes with the identity key; `None` where it cannot.
pub type Signer = Arc<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;
/// Hears of first authenticated frames, on the streaming thread that opened them: must not block. They can bring the
/// schedule's next deadline forward, so whoever waits for that must be told to look at it again.
pub type Listener = Arc<dyn Fn(PeerOpened) + Send + Sync>;

/// Keys, states and the signature of one room, for everybody in this process who needs them.
pub struct Shared {
    schedule: Mutex<Schedule>,
    table: RwLock<Arc<KeyTable>>,
    room_states: Mutex<RoomStates>,
    clock: RwLock<Clock>,
    signer: RwLock<Option<Signer>>,
    listener: RwLock<Option<Listener>>,
    /// Who emits the signals.
    source: glib::WeakRef<super::Keyring>,
}

impl Default for Shared {
    fn default() -> Self {
        let start = Instant::now();
        let clock: Clock = Arc::new(move || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
        Self {
            schedule: Mutex::default(),
            table: RwLock::default(),
            room_states: Mutex::default(),
            clock: RwLock::new(clock),
            signer: RwLock::default(),
            listener: RwLock::default(),
            source: glib::WeakRef::new(),
        }
    }
}

impl Shared {
    /// The time that the schedule goes by.
    pub fn now(&self) -> u64 {
        let clock = read(&self.clock);
        clock()
    }

    /// Does something with the schedule at this time, then publishes its keys and emits `keys-changed` where they changed.
    ///
    /// `f` holds up every sender that asks for a key: nothing long, no MLS work, no other call of this type.
    pub fn with_schedule<R>(&self, f: impl FnOnce(&mut Schedule, u64) -> R) -> R {
        let (answer, before, changed) = {
            let mut schedule = lock(&self.schedule);
            let answer = f(&mut schedule, self.now());
            let table = Arc::new(schedule.table());
            let mut published = self.table.write().unwrap_or_else(PoisonError::into_inner);
            let before = mem::replace(&mut *published, table);
            (answer, before, schedule.take_changed())
        };
        drop(before);
        if let Some(epoch) = changed {
            self.emit("keys-changed", epoch);
        }
        answer
    }

    /// An epoch begins, and this holds in it: to be told before anything is opened in it. Emits `room-changed`.
    pub fn publish_room(&self, state: RoomState) {
        let epoch = state.epoch;
        lock(&self.room_states).insert(state);
        self.emit("room-changed", epoch);
    }

    /// Where this endpoint stands with the room. Emits `room-changed` where that is somewhere else than before.
    pub fn publish_standing(&self, standing: Standing) {
        let changed = lock(&self.room_states).set_standing(standing);
        if let Some(epoch) = changed {
            self.emit("room-changed", epoch);
        }
    }

    /// The chain, in PEM, of the key that signs from now on.
    pub fn set_certificates(&self, certificates: Vec<String>) {
        lock(&self.room_states).set_certificates(certificates);
    }

    /// What signs from now on.
    pub fn set_signer(&self, signer: Option<Signer>) {
        *self.signer.write().unwrap_or_else(PoisonError::into_inner) = signer;
    }

    /// Who hears of first authenticated frames from now on.
    pub fn set_listener(&self, listener: Option<Listener>) {
        *self.listener.write().unwrap_or_else(PoisonError::into_inner) = listener;
    }

    pub(super) fn set_clock(&self, clock: Clock) {
        *self.clock.write().unwrap_or_else(PoisonError::into_inner) = clock;
    }

    pub(super) fn set_source(&self, source: &super::Keyring) {
        self.source.set(Some(source));
    }

    // What the signals ask

    pub(super) fn sender_key(&self) -> Option<SealingKey> {
        self.with_schedule(|schedule, now| schedule.sender_key(now))
    }

    pub(super) fn receiver_key(&self, kid: u64) -> Option<OpeningKey> {
        let table = read(&self.table);
        table.receiver_key(self.now(), kid)
    }

    pub(super) fn frame_opened(&self, kid: u64) {
        let opened = self.with_schedule(|schedule, now| schedule.peer_opened(now, kid));
        let listener = read(&self.listener);
        if let (Some(opened), Some(listener)) = (opened, listener) {
            listener(opened);
        }
    }

    pub(super) fn room_state(&self, epoch: u64) -> Option<RoomState> {
        lock(&self.room_states).get(epoch)
    }

    pub(super) fn sign(&self, purpose: &str, data: &[u8]) -> Option<Vec<u8>> {
        let signer = read(&self.signer)?;
        signer(&to_be_signed(purpose, data)?)
    }

    fn emit(&self, signal: &str, epoch: u64) {
        if let Some(source) = self.source.upgrade() {
            source.emit_by_name::<()>(signal, &[&epoch]);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A copy of what is published, so that nothing is held while it is used.
fn read<T: Clone>(published: &RwLock<T>) -> T {
    published.read().unwrap_or_else(PoisonError::into_inner).clone()
}
