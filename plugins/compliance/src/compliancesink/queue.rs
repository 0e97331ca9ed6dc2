//! Between the pads, which must never wait, and the worker, which waits for the disk. Pure.
//!
//! Putting something in never fails and never waits. Whoever has a frame asks before whether there is room for it; where
//! there is none, the frame is dropped. So what waits is bounded by bytes and by time, and what stands in members that
//! are not finished counts, too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of frames that were taken and are not on disk.
#[derive(Debug, Clone, Default)]
pub struct Level(Arc<AtomicUsize>);

impl Level {
    /// How many there are.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts these in, for as long as what is returned lives.
    pub fn hold(&self, bytes: usize) -> Held {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Held {
            level: self.clone(),
            bytes,
        }
    }
}

/// A part of the [`Level`].
#[derive(Debug)]
pub struct Held {
    level: Level,
    bytes: usize,
}

impl Held {
    /// Both as one.
    pub fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.level.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a queue may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of frames, in members that are not finished, too.
    pub bytes: usize,
    /// Since when the first of what waits may be there.
    pub time: Duration,
}

/// Items that wait for the worker.
#[derive(Debug)]
pub struct Queue<T> {
    limits: Limits,
    level: Level,
    state: Mutex<State<T>>,
    wake: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(Instant, T)>,
    /// Since when the first of what was taken out was there; none: the worker is done with it.
    in_work: Option<Instant>,
    woken: bool,
}

impl<T> Queue<T> {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            level: Level::default(),
            state: Mutex::new(State {
                items: VecDeque::new(),
                in_work: None,
                woken: false,
            }),
            wake: Condvar::new(),
        }
    }

    /// What counts into its bytes.
    pub fn level(&self) -> &Level {
        &self.level
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is there room for a frame of so many bytes? One that is alone fits always.
    pub fn has_room(&self, bytes: usize, now: Instant) -> bool {
        let held = self.level.bytes();
        (held == 0 || held.saturating_add(bytes) <= self.limits.bytes) && self.waits(now) < self.limits.time
    }

    /// For how long the first of what waits is waiting.
    pub fn waits(&self, now: Instant) -> Duration {
        let state = self.state();
        let first = state.items.front().map(|(since, _)| *since);
        let since = state.in_work.or(first);
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Puts an item in.
    pub fn push(&self, item: T, now: Instant) {
        self.state().items.push_back((now, item));
        self.wake();
    }

    /// Lets [`Self::wait`] return.
    pub fn wake(&self) {
        self.state().woken = true;
        self.wake.notify_all();
    }

    /// Waits until something happens, or until then.
    pub fn wait(&self, until: Instant) {
        let mut state = self.state();
        while !state.woken {
            let Some(rest) = until
                .checked_duration_since(Instant::now())
                .filter(|rest| !rest.is_zero())
            else {
                break;
            };
            let (guard, _) = self
                .wake
                .wait_timeout(state, rest)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
        }
        state.woken = false;
    }

    /// Takes out everything that waits; it is in work until [`Self::done`].
    pub fn take(&self) -> Vec<T> {
        let mut state = self.state();
        state.in_work = state.items.front().map(|(since, _)| *since);
        state.items.drain(..).map(|(_, item)| item).collect()
    }

    /// What was taken out is on disk.
    pub fn done(&self) {
        self.state().in_work = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue<Held> {
        Queue::new(Limits {
            bytes: 100,
            time: Duration::from_secs(5),
        })
    }

    #[test]
    fn bytes_count_until_they_are_dropped_wherever_they_are() {
        let (queue, now) = (queue(), Instant::now());
        let mut member = queue.level().hold(40);
        member.join(queue.level().hold(30));
        assert_eq!(queue.level().bytes(), 70);
        assert!(queue.has_room(30, now));
        assert!(!queue.has_room(31, now));
        queue.push(member, now);
        assert!(!queue.has_room(31, now));
        let taken = queue.take();
        assert!(!queue.has_room(31, now));
        drop(taken);
        assert!(queue.has_room(31, now));
    }

    #[test]
    fn a_frame_that_is_larger_than_everything_fits_alone() {
        let (queue, now) = (queue(), Instant::now());
        assert!(queue.has_room(1000, now));
        let _one = queue.level().hold(1);
        assert!(!queue.has_room(1000, now));
    }

    #[test]
    fn what_waits_too_long_leaves_no_room_until_it_is_done() {
        let (queue, start) = (queue(), Instant::now());
        queue.push(queue.level().hold(1), start);
        let later = start + Duration::from_secs(5);
        assert!(queue.has_room(1, later - Duration::from_millis(1)));
        assert!(!queue.has_room(1, later));
        let taken = queue.take();
        queue.push(queue.level().hold(1), later);
        assert_eq!(queue.waits(later), Duration::from_secs(5));
        assert!(!queue.has_room(1, later));
        drop(taken);
        queue.done();
        assert_eq!(queue.waits(later), Duration::ZERO);
        assert!(queue.has_room(1, later));
    }

    #[test]
    fn waiting_ends_when_something_comes_or_has_come() {
        let queue = queue();
        let far = Instant::now() + Duration::from_secs(3600);
        queue.push(queue.level().hold(1), Instant::now());
        queue.wait(far);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.wait(far));
            queue.wake();
            waiting.join().unwrap();
        });
        queue.wait(Instant::now());
    }
}
