//! What the pads of a recorder and its worker share while it runs.
//!
//! Locks: an input's state, then any one of those in here. None is held while the disk, the bus or another element is
//! busy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::admission::Admission;
use super::chain::Member;
use super::queue::{Limits, Queue};
use super::settings::Settings;
use super::stats::{Cause, Stats};
use super::timeline::Timeline;
use crate::recording::{Gap, Track};
use gst_e2ee_common::meta::SFrameMeta;

/// Which stream of frames, as pads and worker call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

/// What pads have for the worker, for each key in this order: a track, its members and gaps, the end.
pub enum Item {
    Track(Key, Track),
    Member(Key, Member),
    Gap(Key, Gap),
    End(Key),
}

/// A recorder that runs.
pub struct Session {
    pub queue: Queue<Item>,
    pub stats: Stats,
    pub admission: Admission,
    /// Frames are kept: the recording's clock runs.
    clock: Mutex<Option<Timeline>>,
    segment: Duration,
    began: Instant,
    keys: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub fn new(settings: &Settings, admission: Admission) -> Self {
        Self {
            queue: Queue::new(Limits {
                bytes: usize::try_from(settings.max_size_bytes).unwrap_or(usize::MAX),
                time: settings.max_size_time,
            }),
            stats: Stats::default(),
            admission,
            clock: Mutex::new(None),
            segment: settings.segment_duration,
            began: Instant::now(),
            keys: AtomicU64::new(0),
        }
    }

    /// A key that nobody has.
    pub fn new_key(&self) -> Key {
        Key(self.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// How long a member lasts at most.
    pub fn segment(&self) -> Duration {
        self.segment
    }

    /// When a member must be finished whose first frame came then: with those of all other tracks, so that they are
    /// written together, and never later than after one segment.
    pub fn deadline(&self, came: Instant) -> Instant {
        let since = came.saturating_duration_since(self.began).as_nanos();
        let segments = since / self.segment.as_nanos().max(1) + 1;
        let until = self
            .segment
            .saturating_mul(u32::try_from(segments).unwrap_or(u32::MAX));
        (self.began + until).min(came + self.segment)
    }

    /// Frames are kept from now on; the recording's clock goes on at this time, or where it was.
    pub fn keep(&self, offset: u64) {
        lock(&self.clock).get_or_insert(Timeline::new(offset));
    }

    /// No recording takes frames any more.
    pub fn end(&self) {
        *lock(&self.clock) = None;
    }

    /// Time of a running time on the recording's clock; `None`: before its beginning.
    pub fn time(&self, running: gst::ClockTime) -> Option<u64> {
        lock(&self.clock).as_mut()?.at(running.nseconds())
    }

    /// May a frame with this meta be kept?
    pub fn may_keep(&self, meta: Option<&SFrameMeta>) -> Result<(), Cause> {
        if lock(&self.clock).is_none() {
            return Err(Cause::NotRecording);
        }
        self.admission.may_keep(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_all_tracks_are_due_together_and_never_late() {
        let session = Session::new(&Settings::default(), Admission::new(false, None));
        let at = |ms| session.began + Duration::from_millis(ms);
        for (came, due) in [(0, 1000), (1, 1000), (999, 1000), (1000, 2000), (3700, 4000)] {
            assert_eq!(session.deadline(at(came)), at(due), "{came}");
        }
    }

    #[test]
    fn nothing_is_kept_before_there_is_a_recording_and_after_it() {
        let session = Session::new(&Settings::default(), Admission::new(false, None));
        assert_eq!(session.may_keep(None), Err(Cause::NotRecording));
        assert_eq!(session.time(gst::ClockTime::SECOND), None);
        session.keep(0);
        assert_eq!(session.may_keep(None), Err(Cause::NotAdmitted));
        assert_eq!(session.time(gst::ClockTime::ZERO), Some(0));
        session.keep(5);
        assert_eq!(session.time(gst::ClockTime::SECOND), Some(1_000_000_000));
        session.end();
        assert_eq!(session.may_keep(None), Err(Cause::NotRecording));
    }
}
