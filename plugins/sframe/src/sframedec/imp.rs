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
//!   (the streaming thread opens and pushes)             (frames and events queue; a task opens and pushes)
//!      ▲                                                  │
//!      └──────────────── queue empty ─────────────────────┘
//! ```
//!
//! `state` is locked for bookkeeping and cryptography only; key sources are asked, events and buffers pushed and
//! messages posted without it. The task is started and paused with it, so that no wake-up is lost.

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use super::holding::HoldTask;
use super::opening::Mode;
use super::out_caps::OutCaps;
use super::settings::{self, Settings};
use super::state::{Keys, Outcome, State, Stream};
use crate::caps;
use crate::glue::{self, Attached, CAT, ClearPrefix, Generation, Timing};
use crate::hold::{Hold, Item};
use crate::key_file::KeyFile;
use crate::receiver::Receiver;
use gst_e2ee_common::key_source::KeySource;

pub struct SFrameDec {
    pub(super) sinkpad: gst::Pad,
    pub(super) srcpad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
    /// Something changed for whoever waits: the task for keys and frames, `chain` for room.
    pub(super) wake: Condvar,
    pub(super) generation: Generation,
    pub(super) task: OnceLock<HoldTask>,
}

impl SFrameDec {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Keys

    /// READY→PAUSED: without a key file or a key source the element does not start.
    fn start(&self) -> Result<(), String> {
        let settings = self.settings().clone();
        // What an earlier start left.
        drop(std::mem::take(&mut *self.state()));
        let keys = match &settings.key_file {
            Some(path) => {
                let file = KeyFile::read(path).map_err(|error| error.to_string())?;
                Keys::File(file, settings.cipher_suite)
            }
            None => {
                let source = glue::find_source(
                    self.obj().upcast_ref(),
                    settings.key_source,
                    &settings.keyring,
                    "key-file=",
                )?;
                Keys::Source(self.attach(source))
            }
        };
        *self.state() = State {
            keys,
            receiver: Receiver::new(settings.replay_window),
            hold: Hold::new(settings.hold_frames as usize),
            hold_time: settings.hold_time.into(),
            attach_meta: settings.attach_meta,
            metadata: glue::metadata(settings.metadata)?,
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

    pub(super) fn fail(&self, what: &str) -> gst::FlowError {
        gst::element_imp_error!(self, gst::ResourceError::Failed, ("{}", what));
        gst::FlowError::Error
    }

    // Chain

    /// The state, as soon as the queue has room: the task gives up the oldest frames where it can, and where it waits
    /// itself for what is downstream, upstream must wait too.
    fn state_with_room(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.holding && !state.is_flushing() && state.hold.is_over() {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = self.state_with_room();
        if state.is_flushing() {
            return Err(gst::FlowError::Flushing);
        }
        if state.holding {
            state.enqueue(buffer);
            self.wake.notify_all();
            return state.flow;
        }
        let timing = Timing::of(&buffer);
        let mut outcome = self.open(state, buffer)?;
        if let Outcome::NoKey(kid, buffer) = outcome {
            let mut state = self.state();
            if state.may_hold() {
                state.enqueue(buffer);
                state.holding = true;
                state.flow = Ok(gst::FlowSuccess::Ok);
                let started = self.task().task.start();
                drop(state);
                return started
                    .map(|()| gst::FlowSuccess::Ok)
                    .map_err(|_| self.fail("cannot start the thread that holds frames"));
            }
            outcome = Outcome::NoKey(kid, buffer);
        }
        self.settle(timing, outcome)
    }

    fn chain_list(&self, list: gst::BufferList) -> Result<gst::FlowSuccess, gst::FlowError> {
        glue::take_buffers(list)
            .into_iter()
            .try_fold(gst::FlowSuccess::Ok, |_, buffer| self.chain(buffer))
    }

    // Events

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::FlushStart => {
                self.state().flushing = true;
                self.wake.notify_all();
                let forwarded = gst::Pad::event_default(pad, Some(&*self.obj()), event);
                // Waits for the task's push, which the event has just made to return.
                self.task().pause(&self.state());
                self.task().wait_for_step();
                return forwarded;
            }
            gst::EventType::FlushStop => {
                let mut state = self.state();
                let held: Vec<_> = state.hold.take_all().collect();
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
                let forwarded = gst::Pad::event_default(pad, Some(&*self.obj()), event);
                // Upstream was told that these arrived and will not send them again.
                for item in held {
                    if let Item::Event(event) = item
                        && event.is_sticky()
                        && ![gst::EventType::Segment, gst::EventType::Eos].contains(&event.type_())
                    {
                        self.handle_serialized(event);
                    }
                }
                return forwarded;
            }
            _ => {}
        }
        if event.is_serialized() {
            let mut state = self.state_with_room();
            if state.is_flushing() {
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

    pub(super) fn handle_serialized(&self, event: gst::Event) -> bool {
        use gst::EventView;
        match event.view() {
            EventView::Caps(e) => return self.set_caps(&e.caps_owned()),
            EventView::StreamStart(_) => {
                let mut state = self.state();
                state.receiver.unbind();
                let waiting = state.stream.take().map(|mut stream| stream.give_up());
                drop(state);
                self.push_all(waiting);
            }
            EventView::Segment(_) => {
                let mut state = self.state();
                if state.seek == Some(event.seqnum()) {
                    state.seek = None;
                    state.receiver.forget_counters();
                }
            }
            EventView::Eos(_) => {
                let waiting = self.state().stream.as_mut().map(Stream::give_up);
                self.push_all(waiting);
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

    fn push_all(&self, events: Option<Vec<gst::Event>>) {
        for event in events.into_iter().flatten() {
            self.srcpad.push_event(event);
        }
    }

    fn set_caps(&self, caps: &gst::Caps) -> bool {
        let clear_prefix = self.settings().clear_prefix == ClearPrefix::Codec;
        match caps::open(caps, clear_prefix) {
            Ok(negotiated) => {
                gst::debug!(CAT, imp = self, "{caps} -> {}", negotiated.caps);
                let mut state = self.state();
                let before = state.stream.take().map(|stream| stream.out);
                let mut out = OutCaps::new(&negotiated, before);
                let events = out.take_if_complete().unwrap_or_default();
                state.refused = None;
                state.stream = Some(Stream {
                    mode: Mode::new(&negotiated),
                    video: negotiated.video,
                    out,
                    discont: false,
                    started: false,
                });
                drop(state);
                events.into_iter().all(|event| self.srcpad.push_event(event))
            }
            Err(error) => {
                let mut state = self.state();
                state.stream = None;
                // The same caps come again with every buffer.
                let again = state.refused.replace(caps.clone()).as_ref() == Some(caps);
                drop(state);
                if !again {
                    gst::element_imp_error!(self, gst::StreamError::WrongType, ("{}", error));
                }
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

    fn activate_src(&self, mode: gst::PadMode, active: bool) -> Result<(), gst::LoggableError> {
        if mode == gst::PadMode::Pull {
            return Err(gst::loggable_error!(CAT, "sframedec cannot be pulled from"));
        }
        {
            let mut state = self.state();
            state.active = active;
            state.flushing = false;
        }
        if !active {
            self.wake.notify_all();
            if let Some(HoldTask { task, .. }) = self.task.get() {
                let _ = task.stop();
                let _ = task.join();
            }
            let mut state = self.state();
            drop(state.hold.take_all());
            state.holding = false;
        }
        Ok(())
    }

    // Statistics

    fn stats(&self) -> gst::Structure {
        self.state().stats.structure()
    }

    fn post_stats(&self) {
        glue::post(self.obj().upcast_ref(), self.stats());
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
            .activatemode_function(|_, parent, mode, active| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::loggable_error!(CAT, "Panic while activating")),
                    |imp| imp.activate_src(mode, active),
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
            task: OnceLock::new(),
        }
    }
}

impl ObjectImpl for SFrameDec {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.settings().set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => self.stats().to_value(),
            name => self
                .settings()
                .get(name)
                .unwrap_or_else(|| pspec.default_value().clone()),
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
            glue::pad_templates(&sealed, &gst::Caps::new_any())
        });
        &TEMPLATES
    }

    fn set_context(&self, context: &gst::Context) {
        self.parent_set_context(context);
        let keyring = self.settings().keyring.clone();
        if self.settings().key_source.is_some() || !matches!(self.state().keys, Keys::Source(_)) {
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
