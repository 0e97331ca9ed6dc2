//! The task that serves held frames: forwards, opens, gives up or waits. Runs only while there are any.

use super::imp::SFrameDec;
use super::state::{Cause, Outcome, State};
use crate::glue::Timing;
use crate::hold::Item;
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// The thread that serves held frames. One for the life of the element: a pad's task would leak a closure per start.
pub(super) struct HoldTask {
    pub(super) task: gst::Task,
    running: gst::TaskLock,
}

impl HoldTask {
    /// Where the element stops the task is stopped already, and pausing would wake it up.
    pub(super) fn pause(&self, state: &State) {
        if state.active {
            let _ = self.task.pause();
        }
    }

    /// Waits until the step that runs now has ended. Not from the task itself.
    pub(super) fn wait_for_step(&self) {
        drop(self.running.lock());
    }
}

impl SFrameDec {
    pub(super) fn task(&self) -> &HoldTask {
        self.task.get_or_init(|| {
            let this = self.obj().downgrade();
            let running = gst::TaskLock::new();
            let step = move |_: &gst::Task| {
                if let Some(this) = this.upgrade() {
                    this.imp().hold_iteration();
                }
            };
            HoldTask {
                task: gst::Task::builder(step).lock(&running).build(),
                running,
            }
        })
    }

    /// One step of the task: forwards, opens, gives up or waits.
    pub(super) fn hold_iteration(&self) {
        let mut state = self.state();
        if state.is_flushing() || state.hold.is_empty() {
            state.holding = false;
            self.task().pause(&state);
            self.wake.notify_all();
            return;
        }
        let generation = self.generation.get();
        let seen = state.hold.len();
        state.receiver.set_generation(generation);
        let candidates = state.candidates();
        drop(state);

        for (index, buffer) in candidates {
            let Some(buffer) = buffer else {
                return self.advance(index, None);
            };
            match self.open(self.state(), buffer) {
                Ok(Outcome::NoKey(..)) => {}
                // What waited before it is past help: this sender went on to a key that is here.
                Ok(outcome @ Outcome::Opened(..)) => return self.advance(index, Some(outcome)),
                Ok(Outcome::Drop(cause, kid)) => return self.discard(index, cause, kid),
                Err(error) => {
                    self.state().flow = Err(error);
                    return self.advance(index, None);
                }
            }
        }

        let state = self.state();
        let now = Instant::now();
        let deadline = state.hold.deadline();
        if state.hold.is_over() || deadline.is_some_and(|deadline| deadline <= now) {
            drop(state);
            return self.give_up_first();
        }
        if state.is_flushing() || state.hold.len() != seen || self.generation.get() != generation {
            return;
        }
        let wait = deadline.map_or(Duration::from_secs(1), |deadline| deadline - now);
        drop(
            self.wake
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Takes everything up to `index`: held frames are lost, events go on, the last frame may have an outcome.
    fn advance(&self, index: usize, mut outcome: Option<Outcome>) {
        for at in 0..=index {
            let item = self.take_held(0);
            match item {
                Some(Item::Event(event)) => {
                    self.handle_serialized(event);
                }
                Some(Item::Frame { frame, kid, .. }) => {
                    let timing = Timing::of(&frame);
                    let outcome = outcome.take_if(|_| at == index);
                    self.note_flow(self.settle(timing, outcome.unwrap_or(Outcome::NoKey(kid, frame))));
                }
                None => return,
            }
        }
    }

    fn take_held(&self, index: usize) -> Option<Item<gst::Buffer, gst::Event>> {
        let item = self.state().hold.take(index);
        // There is room for what waits in `chain`.
        self.wake.notify_all();
        item
    }

    /// A held frame turned out to be worthless; the ones before it keep waiting, and its GAP takes its place.
    fn discard(&self, index: usize, cause: Cause, kid: u64) {
        let timing = match self.state().hold.get(index) {
            Some(Item::Frame { frame, .. }) => Timing::of(frame),
            _ => return,
        };
        match self.drop_frame(timing, cause, kid) {
            Some(gap) => drop(self.state().hold.replace(index, gap)),
            None => drop(self.take_held(index)),
        }
    }

    fn give_up_first(&self) {
        let first_frame = {
            let state = self.state();
            (0..state.hold.len()).find(|&at| matches!(state.hold.get(at), Some(Item::Frame { .. })))
        };
        if let Some(index) = first_frame {
            self.advance(index, None);
        }
    }

    fn note_flow(&self, flow: Result<gst::FlowSuccess, gst::FlowError>) {
        let mut state = self.state();
        if state.flow.is_ok() {
            state.flow = flow;
        }
    }
}
