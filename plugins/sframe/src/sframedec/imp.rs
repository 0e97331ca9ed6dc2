//! # sframedec
//!
//! Opens SFrame ciphertexts (RFC 9605): whole frames (`application/x-sframe`), RTP packets that were sealed one by one,
//! or what a stock depayloader made of frames with a clear prefix.
//!
//! ```text
//! gst-launch-1.0 udpsrc caps="application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=96" ! \
//!   rtpjitterbuffer ! rtpsframedepay ! sframedec key-file=keys ! vp8dec ! autovideosink
//! ```
//!
//! Whatever does not authenticate, was seen before, or has no key is dropped and counted; a GAP event stands for it.
//!
//! ## Who pushes
//!
//! ```text
//!            frame without a key, source may get one
//!   Direct ───────────────────────────────────────────▶ Holding
//!   (the streaming thread opens and pushes)             (frames and events queue; the pad's task opens and pushes)
//!      ▲                                                  │
//!      └──────────────── queue empty ─────────────────────┘
//! ```
//!
//! `state` is locked for bookkeeping and cryptography only; key sources are asked, events and buffers pushed and
//! messages posted without it. The task is started and paused with it, so that no wake-up is lost.

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::path::PathBuf;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::opening::{Mode, Sealed};
use super::out_caps::OutCaps;
use crate::caps;
use crate::codec::FrameInfo;
use crate::frame::OpenError;
use crate::glue::{self, Attached, CAT, CipherSuite, ClearPrefix, Generation};
use crate::hold::{Hold, Item};
use crate::key_file::KeyFile;
use crate::receiver::{Check, Receiver};
use gst_e2ee_common::key_source::{KeySource, ReceiverKey};
use gst_e2ee_common::meta::NO_LEAF;
use gst_e2ee_common::rate_limit::RateLimit;

#[derive(Clone)]
struct Settings {
    keyring: String,
    key_file: Option<PathBuf>,
    cipher_suite: CipherSuite,
    clear_prefix: ClearPrefix,
    replay_window: u32,
    hold_frames: u32,
    hold_time: gst::ClockTime,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keyring: "default".into(),
            key_file: None,
            cipher_suite: CipherSuite::default(),
            clear_prefix: ClearPrefix::default(),
            replay_window: 1024,
            hold_frames: 24,
            hold_time: gst::ClockTime::from_mseconds(500),
        }
    }
}

#[derive(Default)]
struct Stats {
    opened: u64,
    bytes: u64,
    held: u64,
    no_key: u64,
    auth_failed: u64,
    replayed: u64,
    malformed: u64,
    wrong_sender: u64,
    waiting_keyframe: u64,
    keyframe_requests: u64,
    kid: u64,
    epoch: u64,
}

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    NoKey,
    AuthFailed,
    Replayed,
    Malformed,
    WrongSender,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::NoKey => "no-key",
            Self::AuthFailed => "auth-failed",
            Self::Replayed => "replayed",
            Self::Malformed => "malformed",
            Self::WrongSender => "wrong-sender",
        }
    }
}

/// Where keys come from.
enum Keys {
    None,
    File(KeyFile, CipherSuite),
    Source(Attached),
}

/// One message per interval and kind.
struct Limits {
    key_missing: RateLimit,
    decrypt_failed: RateLimit,
    keyframe: RateLimit,
}

impl Default for Limits {
    fn default() -> Self {
        let limit = || RateLimit::new(glue::REPEAT_INTERVAL);
        Self {
            key_missing: limit(),
            decrypt_failed: limit(),
            keyframe: limit(),
        }
    }
}

struct State {
    keys: Keys,
    receiver: Receiver,
    stream: Option<Stream>,
    hold: Hold<gst::Buffer, gst::Event>,
    hold_time: Duration,
    /// The task pushes; see "Who pushes".
    holding: bool,
    flushing: bool,
    /// What the task's last push returned.
    flow: Result<gst::FlowSuccess, gst::FlowError>,
    /// Seek that passed here and was taken by a source: its frames come again on purpose.
    seek: Option<gst::Seqnum>,
    limits: Limits,
    stats: Stats,
}

/// A stream between two CAPS events.
struct Stream {
    mode: Mode,
    video: bool,
    out: OutCaps,
    /// A frame was lost since the last one that was pushed.
    discont: bool,
    started: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            keys: Keys::None,
            receiver: Receiver::new(0),
            stream: None,
            hold: Hold::new(0),
            hold_time: Duration::ZERO,
            holding: false,
            flushing: false,
            flow: Ok(gst::FlowSuccess::Ok),
            seek: None,
            limits: Limits::default(),
            stats: Stats::default(),
        }
    }
}

/// What became of a sealed buffer.
enum Outcome {
    Opened(gst::Buffer, FrameInfo),
    /// Of this KID; it may come.
    NoKey(u64),
    Drop(Cause, u64),
}

pub struct SFrameDec {
    sinkpad: gst::Pad,
    srcpad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
    wake: Condvar,
    generation: Generation,
}

impl SFrameDec {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Keys

    /// READY→PAUSED: without a key file or a key source the element does not start.
    fn start(&self) -> Result<(), String> {
        let settings = self.settings().clone();
        let keys = match &settings.key_file {
            Some(path) => {
                let file = KeyFile::read(path).map_err(|error| error.to_string())?;
                Keys::File(file, settings.cipher_suite)
            }
            None => {
                let source = glue::find_source(self.obj().upcast_ref(), &settings.keyring, "key-file=")?;
                Keys::Source(self.attach(source))
            }
        };
        *self.state() = State {
            keys,
            receiver: Receiver::new(settings.replay_window),
            hold: Hold::new(settings.hold_frames as usize),
            hold_time: settings.hold_time.into(),
            ..State::default()
        };
        Ok(())
    }

    fn attach(&self, source: KeySource) -> Attached {
        let this = self.obj().downgrade();
        Attached::new(source, move || {
            if let Some(this) = this.upgrade() {
                this.imp().keys_changed();
            }
        })
    }

    fn keys_changed(&self) {
        self.generation.bump();
        // With the lock, so that the task either sees the new generation or is already waiting.
        let _state = self.state();
        self.wake.notify_all();
    }

    fn fail(&self, what: &str) -> gst::FlowError {
        gst::element_imp_error!(self, gst::ResourceError::Failed, ("{}", what));
        gst::FlowError::Error
    }

    // Opening

    fn open(&self, buffer: &gst::BufferRef) -> Result<Outcome, gst::FlowError> {
        let mut guard = self.state();
        let Some(mode) = guard.stream.as_ref().map(|stream| stream.mode) else {
            return Err(gst::FlowError::NotNegotiated);
        };
        let Some(sealed) = Sealed::parse(buffer, mode) else {
            return Ok(Outcome::Drop(Cause::Malformed, 0));
        };
        let header = sealed.header();
        let kid = header.kid;
        loop {
            let generation = self.generation.get();
            let state = &mut *guard;
            state.receiver.set_generation(generation);
            match state.receiver.check(header) {
                Check::Open(key) => match sealed.open(key, buffer) {
                    Ok((mut opened, info)) => {
                        let Some((who, first)) = state.receiver.record(header) else {
                            return Ok(Outcome::Drop(Cause::NoKey, kid));
                        };
                        state.stats.opened += 1;
                        state.stats.bytes += opened.size() as u64;
                        state.stats.kid = kid;
                        state.stats.epoch = who.epoch;
                        let source = match &state.keys {
                            Keys::Source(attached) if first => Some(attached.source.clone()),
                            _ => None,
                        };
                        drop(guard);
                        who.meta(kid).add_to(opened.make_mut());
                        if let Some(source) = source {
                            gst::info!(CAT, imp = self, "First frame of KID {kid} authenticated");
                            source.frame_opened(kid);
                        }
                        return Ok(Outcome::Opened(opened, info));
                    }
                    Err(OpenError::AuthFailed) => return Ok(Outcome::Drop(Cause::AuthFailed, kid)),
                    Err(OpenError::Malformed(_)) => return Ok(Outcome::Drop(Cause::Malformed, kid)),
                },
                Check::NoKey => return Ok(Outcome::NoKey(kid)),
                Check::Replayed => return Ok(Outcome::Drop(Cause::Replayed, kid)),
                Check::WrongSender => return Ok(Outcome::Drop(Cause::WrongSender, kid)),
                Check::Ask => match &state.keys {
                    Keys::None => return Err(gst::FlowError::Flushing),
                    Keys::File(file, suite) => {
                        let answer = file.get(kid).map(|base_key| ReceiverKey {
                            suite: (*suite).into(),
                            base_key: base_key.to_vec().into(),
                            epoch: 0,
                            leaf: NO_LEAF,
                            sender: String::new(),
                        });
                        state.receiver.install(kid, answer, generation);
                    }
                    Keys::Source(attached) => {
                        let source = attached.source.clone();
                        drop(guard);
                        let answer = source.receiver_key(kid).map_err(|error| {
                            let keyring = self.settings().keyring.clone();
                            self.fail(&glue::unusable(&keyring, &error))
                        })?;
                        guard = self.state();
                        guard.receiver.install(kid, answer, generation);
                    }
                },
            }
        }
    }

    // Pushing; by the streaming thread (Direct) or the task (Holding), never both

    fn deliver(&self, mut opened: gst::Buffer, info: &FrameInfo) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Some(events) = self.prepare(&mut opened, info) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        for event in events {
            self.srcpad.push_event(event);
        }
        self.srcpad.push(opened)
    }

    /// The events to push before an opened buffer. `None`: it cannot be used before a keyframe.
    fn prepare(&self, opened: &mut gst::Buffer, info: &FrameInfo) -> Option<Vec<gst::Event>> {
        let mut guard = self.state();
        let state = &mut *guard;
        let stream = state.stream.as_mut()?;
        let lost = std::mem::take(&mut stream.discont);
        if lost {
            opened.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        let is_discont = opened.flags().contains(gst::BufferFlags::DISCONT);
        let events = stream.out.before_frame(info);
        let needs_keyframe = match events {
            None => {
                state.stats.waiting_keyframe += 1;
                stream.discont = true;
                true
            }
            // A depayloader lost something before this frame.
            Some(_) => is_discont && stream.started && info.keyframe != Some(true),
        };
        stream.started = true;
        let request = needs_keyframe && state.is_keyframe_request_due();
        drop(guard);
        if request {
            glue::request_keyframe(&self.sinkpad);
        }
        events
    }

    /// Counts a dropped frame, says so, and lets a GAP event stand for it.
    fn drop_frame(&self, buffer: &gst::BufferRef, cause: Cause, kid: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        let stats = &mut state.stats;
        *match cause {
            Cause::NoKey => &mut stats.no_key,
            Cause::AuthFailed => &mut stats.auth_failed,
            Cause::Replayed => &mut stats.replayed,
            Cause::Malformed => &mut stats.malformed,
            Cause::WrongSender => &mut stats.wrong_sender,
        } += 1;
        let (name, limit) = match cause {
            Cause::NoKey => ("sframe-key-missing", &mut state.limits.key_missing),
            _ => ("sframe-decrypt-failed", &mut state.limits.decrypt_failed),
        };
        let count = limit.note(Instant::now());
        // A copy of a frame that already arrived is no loss.
        let lost = cause != Cause::Replayed;
        let mut gap = None;
        let mut request = false;
        if lost && let Some(stream) = &mut state.stream {
            stream.discont = true;
            if !stream.out.is_waiting() {
                gap = glue::gap_for(buffer);
            }
            request = state.is_keyframe_request_due();
        }
        drop(guard);
        if let Some(count) = count {
            gst::warning!(
                CAT,
                imp = self,
                "Dropped {count} frames, the last of KID {kid}: {}",
                cause.name()
            );
            let message = gst::Structure::builder(name)
                .field("kid", kid)
                .field("count", count)
                .field("cause", cause.name())
                .build();
            glue::post(self.obj().upcast_ref(), message);
        }
        if let Some(gap) = gap {
            self.srcpad.push_event(gap);
        }
        if request {
            glue::request_keyframe(&self.sinkpad);
        }
    }

    /// Pushes or drops what has an outcome; a frame without a key comes back.
    fn settle(&self, buffer: &gst::BufferRef, outcome: Outcome) -> Result<gst::FlowSuccess, gst::FlowError> {
        match outcome {
            Outcome::Opened(opened, info) => self.deliver(opened, &info),
            Outcome::NoKey(kid) => {
                self.drop_frame(buffer, Cause::NoKey, kid);
                Ok(gst::FlowSuccess::Ok)
            }
            Outcome::Drop(cause, kid) => {
                self.drop_frame(buffer, cause, kid);
                Ok(gst::FlowSuccess::Ok)
            }
        }
    }

    fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        {
            let mut state = self.state();
            if state.flushing {
                return Err(gst::FlowError::Flushing);
            }
            if state.holding {
                state.enqueue(buffer);
                self.wake.notify_all();
                return state.flow;
            }
        }
        let outcome = self.open(&buffer)?;
        if let Outcome::NoKey(_) = outcome {
            let mut state = self.state();
            if state.may_hold() {
                state.enqueue(buffer);
                state.holding = true;
                state.flow = Ok(gst::FlowSuccess::Ok);
                self.start_task()?;
                return Ok(gst::FlowSuccess::Ok);
            }
        }
        self.settle(&buffer, outcome)
    }

    fn chain_list(&self, list: gst::BufferList) -> Result<gst::FlowSuccess, gst::FlowError> {
        for buffer in list.iter_owned() {
            self.chain(buffer)?;
        }
        Ok(gst::FlowSuccess::Ok)
    }

    // The task of Holding

    fn start_task(&self) -> Result<(), gst::FlowError> {
        let this = self.obj().downgrade();
        self.srcpad
            .start_task(move || {
                if let Some(this) = this.upgrade() {
                    this.imp().hold_iteration();
                }
            })
            .map_err(|_| self.fail("cannot start the thread that holds frames"))
    }

    /// One step of the task: forwards, opens, gives up or waits.
    fn hold_iteration(&self) {
        let mut state = self.state();
        if state.flushing || state.hold.is_empty() {
            state.holding = false;
            let _ = self.srcpad.pause_task();
            return;
        }
        let generation = self.generation.get();
        let seen = state.hold.len();
        let candidates = state.candidates();
        drop(state);

        for (index, buffer) in candidates {
            match buffer {
                None => return self.advance(index, None),
                Some(buffer) => match self.open(&buffer) {
                    Ok(Outcome::NoKey(_)) => {}
                    // What waited before it is past help: this sender went on to a key that is here.
                    Ok(Outcome::Opened(opened, info)) => {
                        return self.advance(index, Some(Outcome::Opened(opened, info)));
                    }
                    Ok(outcome) => return self.discard(index, outcome),
                    Err(error) => {
                        self.state().flow = Err(error);
                        return self.advance(index, Some(Outcome::NoKey(0)));
                    }
                },
            }
        }

        let state = self.state();
        let now = Instant::now();
        let deadline = state.hold.deadline();
        if state.hold.is_over() || deadline.is_some_and(|deadline| deadline <= now) {
            drop(state);
            return self.give_up_first();
        }
        if state.flushing || state.hold.len() != seen || self.generation.get() != generation {
            return;
        }
        let wait = deadline.map_or(Duration::from_secs(1), |deadline| deadline - now);
        drop(
            self.wake
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Takes everything up to `index`: held frames are lost, events go on, the last one has an outcome.
    fn advance(&self, index: usize, outcome: Option<Outcome>) {
        let mut outcome = outcome;
        for at in 0..=index {
            let item = self.state().hold.take(0);
            match item {
                Some(Item::Event(event)) => {
                    self.handle_serialized(event);
                }
                Some(Item::Frame { frame, .. }) => {
                    let outcome = if at == index { outcome.take() } else { None };
                    let flow = self.settle(&frame, outcome.unwrap_or(Outcome::NoKey(self.kid_of(&frame))));
                    self.note_flow(flow);
                }
                None => return,
            }
        }
    }

    /// A held frame turned out to be worthless; the ones before it keep waiting.
    fn discard(&self, index: usize, outcome: Outcome) {
        let item = self.state().hold.take(index);
        if let Some(Item::Frame { frame, .. }) = item {
            let flow = self.settle(&frame, outcome);
            self.note_flow(flow);
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

    fn kid_of(&self, buffer: &gst::BufferRef) -> u64 {
        let mode = self.state().stream.as_ref().map(|stream| stream.mode);
        mode.and_then(|mode| Sealed::parse(buffer, mode))
            .map_or(0, |sealed| sealed.header().kid)
    }

    fn note_flow(&self, flow: Result<gst::FlowSuccess, gst::FlowError>) {
        let mut state = self.state();
        if state.flow.is_ok() {
            state.flow = flow;
        }
    }

    // Events

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::FlushStart => {
                self.state().flushing = true;
                self.wake.notify_all();
                let forwarded = gst::Pad::event_default(pad, Some(&*self.obj()), event);
                // Waits for the task's push, which the event has just made to return.
                let _ = self.srcpad.pause_task();
                return forwarded;
            }
            gst::EventType::FlushStop => {
                let mut state = self.state();
                state.hold.clear();
                state.holding = false;
                state.flow = Ok(gst::FlowSuccess::Ok);
                state.flushing = false;
                if let Some(stream) = &mut state.stream {
                    stream.out.flush();
                    stream.started = false;
                }
                if state.seek == Some(event.seqnum()) {
                    state.receiver.forget_counters();
                }
                drop(state);
                return gst::Pad::event_default(pad, Some(&*self.obj()), event);
            }
            _ => {}
        }
        if event.is_serialized() {
            let mut state = self.state();
            if state.flushing {
                return false;
            }
            if state.holding {
                state.hold.push_event(event);
                self.wake.notify_all();
                return true;
            }
            drop(state);
            return self.handle_serialized(event);
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    fn handle_serialized(&self, event: gst::Event) -> bool {
        use gst::EventView;
        match event.view() {
            EventView::Caps(e) => return self.set_caps(&e.caps_owned()),
            EventView::StreamStart(_) => {
                let mut state = self.state();
                state.receiver.unbind();
                state.stream = None;
            }
            EventView::Segment(_) => {
                let mut state = self.state();
                if state.seek == Some(event.seqnum()) {
                    state.seek = None;
                    state.receiver.forget_counters();
                }
            }
            EventView::Eos(_) => {
                let waiting = match &mut self.state().stream {
                    Some(stream) if stream.out.is_waiting() => stream.out.give_up(),
                    _ => Vec::new(),
                };
                for event in waiting {
                    self.srcpad.push_event(event);
                }
                self.post_stats();
                return self.srcpad.push_event(event);
            }
            _ => {}
        }
        if event.type_() != gst::EventType::StreamStart
            && let Some(stream) = &mut self.state().stream
            && stream.out.is_waiting()
        {
            // A GAP before any caps would have nothing to stand in.
            if event.type_() != gst::EventType::Gap {
                stream.out.defer(event);
            }
            return true;
        }
        self.srcpad.push_event(event)
    }

    fn set_caps(&self, caps: &gst::Caps) -> bool {
        let clear_prefix = self.settings().clear_prefix == ClearPrefix::Codec;
        match caps::open(caps, clear_prefix) {
            Ok(negotiated) => {
                let mut out = OutCaps::new(&negotiated);
                let events = out.take_if_complete().unwrap_or_default();
                gst::debug!(CAT, imp = self, "{caps} -> {}", negotiated.caps);
                self.state().stream = Some(Stream {
                    mode: Mode::new(&negotiated),
                    video: negotiated.video,
                    out,
                    discont: false,
                    started: false,
                });
                events.into_iter().all(|event| self.srcpad.push_event(event))
            }
            Err(error) => {
                self.state().stream = None;
                gst::element_imp_error!(self, gst::StreamError::WrongType, ("{}", error));
                false
            }
        }
    }

    fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        if event.type_() != gst::EventType::Seek {
            return gst::Pad::event_default(pad, Some(&*self.obj()), event);
        }
        let seqnum = event.seqnum();
        let before = self.state().seek.replace(seqnum);
        let taken = gst::Pad::event_default(pad, Some(&*self.obj()), event);
        let mut state = self.state();
        if !taken && state.seek == Some(seqnum) {
            state.seek = before;
        }
        taken
    }

    fn activate_src(&self, pad: &gst::Pad, active: bool) -> Result<(), gst::LoggableError> {
        let mut state = self.state();
        state.flushing = !active;
        if !active {
            self.wake.notify_all();
            drop(state);
            let _ = pad.stop_task();
            let mut state = self.state();
            state.hold.clear();
            state.holding = false;
        }
        Ok(())
    }

    // Statistics

    fn stats(&self) -> gst::Structure {
        let state = self.state();
        let stats = &state.stats;
        gst::Structure::builder("sframedec-stats")
            .field("opened", stats.opened)
            .field("bytes", stats.bytes)
            .field("auth-failed", stats.auth_failed)
            .field("replayed", stats.replayed)
            .field("no-key", stats.no_key)
            .field("held", stats.held)
            .field("malformed", stats.malformed)
            .field("wrong-sender", stats.wrong_sender)
            .field("waiting-keyframe", stats.waiting_keyframe)
            .field("keyframe-requests", stats.keyframe_requests)
            .field("kid", stats.kid)
            .field("epoch", stats.epoch)
            .build()
    }

    fn post_stats(&self) {
        glue::post(self.obj().upcast_ref(), self.stats());
    }
}

impl State {
    /// Only a key source can still get a key.
    fn may_hold(&self) -> bool {
        !self.flushing
            && matches!(self.keys, Keys::Source(_))
            && self.hold.may_hold()
            && !self.hold_time.is_zero()
    }

    /// Notes a request where one may be sent now.
    fn is_keyframe_request_due(&mut self) -> bool {
        let video = self.stream.as_ref().is_some_and(|stream| stream.video);
        let due = video && self.limits.keyframe.note(Instant::now()).is_some();
        self.stats.keyframe_requests += u64::from(due);
        due
    }

    fn enqueue(&mut self, buffer: gst::Buffer) {
        self.stats.held += 1;
        let size = buffer.size();
        let mode = self.stream.as_ref().map(|stream| stream.mode);
        let group = mode
            .and_then(|mode| Sealed::parse(&buffer, mode))
            .and_then(|sealed| sealed.group);
        self.hold
            .push_frame(buffer, size, group, Instant::now() + self.hold_time);
    }

    /// What the task can try, with its place in the queue: a leading event (`None`), else frames up to the next event
    /// that changes how frames are read.
    fn candidates(&self) -> Vec<(usize, Option<gst::Buffer>)> {
        if let Some(Item::Event(_)) = self.hold.get(0) {
            return vec![(0, None)];
        }
        (0..self.hold.len())
            .map_while(|at| match self.hold.get(at)? {
                Item::Frame { frame, .. } => Some(Some((at, Some(frame.clone())))),
                Item::Event(event) => match event.type_() {
                    gst::EventType::Caps | gst::EventType::StreamStart | gst::EventType::Eos => None,
                    _ => Some(None),
                },
            })
            .flatten()
            .collect()
    }
}

#[glib::object_subclass]
impl ObjectSubclass for SFrameDec {
    const NAME: &'static str = "GstSFrameDec";
    type Type = super::SFrameDec;
    type ParentType = gst::Element;

    fn with_class(klass: &Self::Class) -> Self {
        let sinkpad = glue::pad_builder(klass.pad_template("sink"), gst::PadDirection::Sink)
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(parent, || Err(gst::FlowError::Error), |imp| imp.chain(buffer))
            })
            .chain_list_function(|_, parent, list| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |imp| imp.chain_list(list),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.sink_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(
                    parent,
                    || false,
                    |imp| match query.view_mut() {
                        // All caps come in as an event, where the answer to wrong ones can say what to do.
                        gst::QueryViewMut::AcceptCaps(q) => {
                            q.set_result(true);
                            true
                        }
                        _ => gst::Pad::query_default(pad, Some(&*imp.obj()), query),
                    },
                )
            })
            .build();
        let srcpad = glue::pad_builder(klass.pad_template("src"), gst::PadDirection::Src)
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.src_event(pad, event))
            })
            .activatemode_function(|pad, parent, _mode, active| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::loggable_error!(CAT, "Panic while activating")),
                    |imp| imp.activate_src(pad, active),
                )
            })
            .build();
        Self {
            sinkpad,
            srcpad,
            settings: Mutex::default(),
            state: Mutex::default(),
            wake: Condvar::new(),
            generation: Generation::default(),
        }
    }
}

impl ObjectImpl for SFrameDec {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let defaults = Settings::default();
            vec![
                glib::ParamSpecString::builder("keyring")
                    .nick("Keyring id")
                    .blurb("Id of the key source in this pipeline (mlskeyring id=…) that gives the keys, where key-file is not set")
                    .default_value(Some("default"))
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("key-file")
                    .nick("Key file")
                    .blurb(
                        "File of static keys, one a line: `<kid decimal> <base key hex>`, # comments, mode 600. Every line \
                         is used",
                    )
                    .mutable_ready()
                    .build(),
                glib::ParamSpecEnum::builder::<CipherSuite>("cipher-suite")
                    .nick("Cipher suite")
                    .blurb("SFrame cipher suite for key-file (RFC 9605 section 4.5); a key source names its own")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecEnum::builder::<ClearPrefix>("clear-prefix")
                    .nick("Clear prefix")
                    .blurb(
                        "Whether frames begin with the codec's first bytes in clear, where caps do not say so; codec also \
                         accepts video/x-vp8 and audio/x-opus from stock depayloaders",
                    )
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("replay-window")
                    .nick("Replay window")
                    .blurb(
                        "How far behind the newest counter of a key id a frame may still be, in frames, rounded up to 64; \
                         each counter opens once (RFC 9605 section 9.3). 0 switches replay protection off",
                    )
                    .maximum(1 << 20)
                    .default_value(defaults.replay_window)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("hold-frames")
                    .nick("Held frames")
                    .blurb("Most frames that wait for a key that the key source does not have yet; 0: none waits")
                    .maximum(10_000)
                    .default_value(defaults.hold_frames)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt64::builder("hold-time")
                    .nick("Hold time")
                    .blurb("Longest that a frame waits for its key, in nanoseconds; not part of the latency")
                    .default_value(defaults.hold_time.nseconds())
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb(
                        "opened and bytes (after opening); dropped: auth-failed, replayed, no-key, malformed, wrong-sender, \
                         waiting-keyframe; held (frames that waited for a key), keyframe-requests; kid and epoch of the last \
                         opened frame. Also posted as element message sframedec-stats at EOS and at PAUSED to READY",
                    )
                    .read_only()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = self.settings();
        // GObject checked the type and the name before it calls this.
        match pspec.name() {
            "keyring" => settings.keyring = value.get().ok().flatten().unwrap_or_else(|| "default".into()),
            "key-file" => settings.key_file = value.get::<Option<String>>().ok().flatten().map(PathBuf::from),
            "cipher-suite" => settings.cipher_suite = value.get().unwrap_or_default(),
            "clear-prefix" => settings.clear_prefix = value.get().unwrap_or_default(),
            "replay-window" => settings.replay_window = value.get().unwrap_or_default(),
            "hold-frames" => settings.hold_frames = value.get().unwrap_or_default(),
            "hold-time" => {
                settings.hold_time = gst::ClockTime::from_nseconds(value.get().unwrap_or_default())
            }
            _ => {}
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == "stats" {
            return self.stats().to_value();
        }
        let settings = self.settings();
        match pspec.name() {
            "keyring" => settings.keyring.to_value(),
            "key-file" => settings
                .key_file
                .as_ref()
                .map(|p| p.to_string_lossy().into_owned())
                .to_value(),
            "cipher-suite" => settings.cipher_suite.to_value(),
            "clear-prefix" => settings.clear_prefix.to_value(),
            "replay-window" => settings.replay_window.to_value(),
            "hold-frames" => settings.hold_frames.to_value(),
            "hold-time" => settings.hold_time.nseconds().to_value(),
            _ => pspec.default_value().clone(),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        for pad in [&self.sinkpad, &self.srcpad] {
            // Cannot fail: the element is new and the names differ.
            let _ = obj.add_pad(pad);
        }
    }
}

impl GstObjectImpl for SFrameDec {}

impl ElementImpl for SFrameDec {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "SFrame decryptor",
                "Decryptor",
                "Opens frames or RTP packets that were sealed end to end with SFrame (RFC 9605)",
                "The gst-plugins-e2ee developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let sealed: gst::Caps = [
                "application/x-sframe",
                "application/x-rtp",
                "video/x-vp8",
                "audio/x-opus",
            ]
            .into_iter()
            .map(gst::Structure::new_empty)
            .collect();
            let template = |name, direction, caps: &gst::Caps| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps)
            };
            [
                template("sink", gst::PadDirection::Sink, &sealed),
                template("src", gst::PadDirection::Src, &gst::Caps::new_any()),
            ]
            .into_iter()
            .flatten()
            .collect()
        });
        &TEMPLATES
    }

    fn set_context(&self, context: &gst::Context) {
        self.parent_set_context(context);
        let keyring = self.settings().keyring.clone();
        if !matches!(self.state().keys, Keys::Source(_)) {
            return;
        }
        // A running element takes a new key source; a broken one is refused and the old one stays.
        match glue::source_of(context, &keyring) {
            Some(Ok(source)) => {
                let keys = Keys::Source(self.attach(source));
                let old = std::mem::replace(&mut self.state().keys, keys);
                drop(old);
                self.keys_changed();
            }
            Some(Err(error)) => gst::error!(CAT, imp = self, "{}", glue::unusable(&keyring, &error)),
            None => {}
        }
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::ReadyToPaused
            && let Err(error) = self.start()
        {
            gst::element_imp_error!(self, gst::ResourceError::OpenRead, ("{}", error));
            return Err(gst::StateChangeError);
        }
        let result = self.parent_change_state(transition);
        if transition == gst::StateChange::PausedToReady {
            self.post_stats();
            let stats = std::mem::take(&mut self.state().stats);
            // Keys go; what was counted can still be read.
            let old = std::mem::replace(
                &mut *self.state(),
                State {
                    stats,
                    ..State::default()
                },
            );
            drop(old);
        }
        result
    }
}
