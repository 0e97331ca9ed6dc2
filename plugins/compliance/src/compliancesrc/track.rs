//! A track: its pad, and the thread that pushes what is in it.
//!
//! Each track has a thread of its own, so that no queue is needed behind the element: one that waits for its sink's clock
//! keeps no other from going on. `state` is locked to find what comes next, and never while it is pushed.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;

use super::cursor::{Cursor, Frame, Item};
use super::imp;
use super::opened::TrackMembers;
use super::session::{Place, Session, damage, post};
use super::{CAT, ComplianceSrc, OnDamage, messages};
use crate::recording::{Medium, TrackId};

/// Frames of codecs with B-frames come by so much out of order at most.
const REORDERING: u64 = 1_000_000_000;

pub struct Track {
    pub pad: gst::Pad,
    pub id: TrackId,
    pub medium: Medium,
    state: Mutex<State>,
    /// Time of what came last, in nanoseconds.
    position: AtomicU64,
}

/// What the thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It pushes.
    Plays,
    /// Nobody is there to push to.
    Waits,
    /// Everything came.
    Over,
}

struct State {
    cursor: Cursor<TrackMembers>,
    /// Where to go first.
    seek: Option<u64>,
    /// To be pushed first.
    segment: Option<gst::Event>,
    seqnum: gst::Seqnum,
    stop_ns: Option<u64>,
    discont: bool,
    phase: Phase,
    reordering: u64,
}

impl Track {
    /// A track that begins at this place. `template`: of its pad.
    pub fn new(template: &gst::PadTemplate, cursor: Cursor<TrackMembers>, place: &Place) -> Self {
        let info = cursor.track();
        let (id, medium) = (info.id, info.medium);
        let has_b_frames = info.caps.starts_with("video/x-h264") || info.caps.starts_with("video/x-h265");
        let pad = gst::Pad::builder_from_template(template)
            .name(format!("src_{id}"))
            .activatemode_function(|pad, _, mode, active| match (mode, active) {
                (gst::PadMode::Push, true) => Ok(()),
                (gst::PadMode::Push, false) => pad.stop_task().map_err(Into::into),
                _ => Err(gst::loggable_error!(CAT, "pads only push")),
            })
            .event_function(imp::ComplianceSrc::pad_event)
            .query_function(imp::ComplianceSrc::pad_query)
            .build();
        let state = State {
            cursor,
            seek: None,
            segment: Some(place.event()),
            seqnum: place.seqnum,
            stop_ns: None,
            discont: true,
            phase: Phase::Plays,
            reordering: if has_b_frames { REORDERING } else { 0 },
        };
        Self {
            pad,
            id,
            medium,
            state: Mutex::new(state),
            position: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the pad ready to be seen by others: they ask for its caps before anything comes.
    pub fn prepare(&self, start: gst::Event, caps: &gst::Caps, tags: gst::TagList) {
        // Cannot fail: it has no parent yet that it could be in the way of.
        let _ = self.pad.set_active(true);
        // Nobody is linked yet: they stick to the pad.
        self.pad.push_event(start);
        self.pad.push_event(gst::event::Caps::new(caps));
        if let Some(segment) = self.state().segment.take() {
            self.pad.push_event(segment);
        }
        self.pad.push_event(gst::event::Tag::new(tags));
    }

    pub fn position(&self) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(self.position.load(Ordering::Relaxed))
    }

    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Time of the last keyframe that is not later than this.
    pub fn keyframe_before(&self, time_ns: u64) -> Option<u64> {
        self.state().cursor.keyframe_before(time_ns)
    }

    /// Goes to a place, when its thread runs again.
    pub fn go_to(&self, place: &Place) {
        let start = place.segment.start().map_or(0, gst::ClockTime::nseconds);
        let mut state = self.state();
        state.seek = Some(start);
        state.segment = Some(place.event());
        state.seqnum = place.seqnum;
        state.stop_ns = place.segment.stop().map(gst::ClockTime::nseconds);
        state.discont = true;
        state.phase = Phase::Plays;
        self.position.store(start, Ordering::Relaxed);
    }

    /// Starts the thread, or lets it go on.
    pub fn start(self: &Arc<Self>, element: &ComplianceSrc, session: &Arc<Session>) {
        if !self.pad.is_active() {
            return;
        }
        let (track, session, weak) = (self.clone(), session.clone(), element.downgrade());
        let started = self.pad.start_task(move || match weak.upgrade() {
            Some(element) => track.step(&element, &session),
            None => track.pause(),
        });
        if started.is_err() {
            gst::element_error!(
                element,
                gst::ResourceError::Failed,
                ("{} gets no thread: the system has none left", self.pad.name())
            );
        }
    }

    /// The pad was linked: goes on if that is what it waited for.
    pub fn linked(self: &Arc<Self>, element: &ComplianceSrc, session: &Arc<Session>) {
        let mut state = self.state();
        if state.phase == Phase::Waits {
            state.phase = Phase::Plays;
            drop(state);
            self.start(element, session);
        }
    }

    fn pause(&self) {
        // Fails where it was stopped meanwhile, which is as good.
        let _ = self.pad.pause_task();
    }

    /// Stays in this phase from now on.
    fn rest(
        &self,
        mut state: MutexGuard<'_, State>,
        phase: Phase,
        element: &ComplianceSrc,
        session: &Session,
    ) {
        state.phase = phase;
        self.pause();
        drop(state);
        session.look_for_end(element);
    }

    /// Pushes the next frame or gap.
    fn step(&self, element: &ComplianceSrc, session: &Session) {
        let mut state = self.state();
        if !self.pad.is_linked() {
            // Nothing is decrypted for nobody.
            return self.rest(state, Phase::Waits, element, session);
        }
        if let Some(time) = state.seek.take() {
            state.cursor.seek(time);
        }
        let segment = state.segment.take();
        let item = state.next();
        let discont = match &item {
            Item::Frame(_) => std::mem::take(&mut state.discont),
            Item::Gap(..) | Item::Damaged { .. } => std::mem::replace(&mut state.discont, true),
            Item::Pause(_) | Item::End => false,
        };
        drop(state);
        if let Some(segment) = segment {
            self.pad.push_event(segment);
        }
        match item {
            Item::Frame(frame) => self.push(frame, discont, element, session),
            Item::Gap(gap, time) => {
                session.opened.counts().gaps += 1;
                post(element, messages::gap(session.recording, self.id, &gap));
                self.push_gap(time);
            }
            Item::Pause(time) => self.push_gap(time),
            Item::Damaged { member, why, time } => {
                session.opened.counts().damaged += 1;
                let (whole, sequence) = (member.from_ns..member.to_ns, member.sequence);
                post(
                    element,
                    messages::damaged(session.recording, self.id, sequence, &whole, &why),
                );
                let text = damage(self.id, sequence, &why);
                match session.on_damage {
                    OnDamage::Skip => {
                        gst::element_warning!(element, gst::ResourceError::Read, ("{}", text));
                        self.push_gap(time);
                    }
                    OnDamage::Error => {
                        gst::element_error!(
                            element,
                            gst::ResourceError::Read,
                            ("{}. on-damage=skip plays around it", text)
                        );
                        self.end(element, session);
                    }
                }
            }
            Item::End => self.end(element, session),
        }
    }

    fn push_gap(&self, time: Range<u64>) {
        self.position.store(time.end, Ordering::Relaxed);
        if !time.is_empty() {
            let duration = gst::ClockTime::from_nseconds(time.end - time.start);
            let gap = gst::event::Gap::builder(gst::ClockTime::from_nseconds(time.start)).duration(duration);
            self.pad.push_event(gap.build());
        }
    }

    fn push(&self, frame: Frame, discont: bool, element: &ComplianceSrc, session: &Session) {
        self.position.store(frame.time_ns, Ordering::Relaxed);
        {
            let mut counts = session.opened.counts();
            counts.frames += 1;
            counts.bytes += frame.bytes.as_ref().len() as u64;
        }
        match self.pad.push(buffer(frame, discont)) {
            Ok(_) => {}
            // What came of the push was a seek, in this thread.
            Err(_) if self.state().seek.is_some() => {}
            // A seek or the way to READY; who flushes knows how to go on.
            Err(gst::FlowError::Flushing) => self.pause(),
            // A sink that refuses caps because it flushes says that it cannot agree on them.
            Err(_) if self.pad.pad_flags().contains(gst::PadFlags::FLUSHING) => self.pause(),
            Err(gst::FlowError::NotLinked) => self.rest(self.state(), Phase::Waits, element, session),
            Err(gst::FlowError::Eos) => self.end(element, session),
            Err(error) => {
                gst::element_error!(
                    element,
                    gst::StreamError::Failed,
                    (
                        "What is linked to {} does not take its frames: {}",
                        self.pad.name(),
                        error
                    )
                );
                self.end(element, session);
            }
        }
    }

    fn end(&self, element: &ComplianceSrc, session: &Session) {
        let seqnum = self.state().seqnum;
        self.pad
            .push_event(gst::event::Eos::builder().seqnum(seqnum).build());
        let state = self.state();
        if state.seek.is_none() {
            self.rest(state, Phase::Over, element, session);
        }
    }
}

impl State {
    /// The next item, unless it is behind where to stop.
    fn next(&mut self) -> Item {
        let item = self.cursor.next();
        let Some(stop) = self.stop_ns else {
            return item;
        };
        let is_behind = match &item {
            Item::Frame(frame) => frame.time_ns >= stop.saturating_add(self.reordering),
            Item::Gap(_, time) | Item::Pause(time) | Item::Damaged { time, .. } => time.start >= stop,
            Item::End => false,
        };
        if is_behind { Item::End } else { item }
    }
}

impl Place {
    /// As an event.
    pub fn event(&self) -> gst::Event {
        gst::event::Segment::builder(&self.segment)
            .seqnum(self.seqnum)
            .build()
    }
}

fn buffer(frame: Frame, discont: bool) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(frame.bytes);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(gst::ClockTime::from_nseconds(frame.time_ns));
        buffer.set_duration(frame.duration_ns.map(gst::ClockTime::from_nseconds));
        let mut flags = gst::BufferFlags::empty();
        flags.set(gst::BufferFlags::DISCONT, discont);
        flags.set(gst::BufferFlags::DELTA_UNIT, !frame.sync);
        flags.set(gst::BufferFlags::DECODE_ONLY, frame.invisible);
        buffer.set_flags(flags);
    }
    buffer
}
