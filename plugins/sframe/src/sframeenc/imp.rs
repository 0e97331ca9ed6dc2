//! # sframeenc
//!
//! Seals each buffer as one SFrame ciphertext (RFC 9605). A buffer is an encoded frame, or an RTP packet whose payload
//! is sealed on its own (T=1 of draft-ietf-avtcore-rtp-sframe-02).
//!
//! ```text
//! gst-launch-1.0 videotestsrc ! vp8enc ! sframeenc key-file=keys kid=1 ! rtpsframepay ! udpsink
//! ```
//!
//! Where there is no key frames are dropped, never passed in clear.
//!
//! `state` is locked for bookkeeping only: key sources are asked, events and buffers pushed and messages posted
//! without it.

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::sealing::{frame_plan, packet_plan, seal};
use super::settings::{self, Settings};
use crate::blocks::Blocks;
use crate::caps::{self, Medium, Negotiated};
use crate::counter_file::{self, CounterFile, Fingerprint};
use crate::glue::{self, Attached, CAT, ClearPrefix, Contents, Generation, Timing};
use crate::key_file::KeyFile;
use crate::sender::{Sender, SenderError};
use gst_e2ee_common::key_source::{ContractError, KeySource, SenderKey};
use gst_e2ee_common::rate_limit::RateLimit;

const NEEDS_KEY_FILE: &str = "key-file= and kid=";

#[derive(Default)]
struct Stats {
    sealed: u64,
    bytes: u64,
    key_changes: u64,
    dropped_no_key: u64,
    dropped_waiting_keyframe: u64,
    dropped_malformed: u64,
}

struct State {
    stream_id: String,
    negotiated: Option<Negotiated>,
    /// Caps that could not be used.
    refused: Option<gst::Caps>,
    sender: Option<Sender>,
    blocks: Blocks,
    metadata: Vec<u8>,
    /// Which generation of keys the source was asked in.
    asked: Option<u64>,
    source: Option<Attached>,
    /// A buffer was dropped: the next is discontinuous, and frames cannot be decoded before a keyframe.
    dropped: bool,
    keyframe_requests: RateLimit,
    key_missing: RateLimit,
    malformed: RateLimit,
    stats: Stats,
}

impl Default for State {
    fn default() -> Self {
        Self {
            stream_id: String::new(),
            negotiated: None,
            refused: None,
            sender: None,
            blocks: Blocks::default(),
            metadata: Vec::new(),
            asked: None,
            source: None,
            dropped: false,
            keyframe_requests: RateLimit::new(glue::REPEAT_INTERVAL),
            key_missing: RateLimit::new(glue::REPEAT_INTERVAL),
            malformed: RateLimit::new(glue::REPEAT_INTERVAL),
            stats: Stats::default(),
        }
    }
}

/// What became of a buffer.
enum Outcome {
    Sealed(gst::Buffer),
    Dropped(Timing),
}

pub struct SFrameEnc {
    sinkpad: gst::Pad,
    srcpad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
    generation: Generation,
}

impl SFrameEnc {
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
        // What an earlier start left, such as the lock on the counter file.
        drop(std::mem::take(&mut *self.state()));
        let mut state = State {
            metadata: glue::metadata(settings.metadata.clone())?,
            ..State::default()
        };
        match &settings.key_file {
            Some(path) => state.sender = Some(static_sender(&settings, path)?),
            None => {
                let source = glue::find_source(
                    self.obj().upcast_ref(),
                    settings.key_source,
                    &settings.keyring,
                    NEEDS_KEY_FILE,
                )?;
                state.source = Some(self.attach(source));
            }
        }
        *self.state() = state;
        Ok(())
    }

    fn attach(&self, source: KeySource) -> Attached {
        let this = self.obj().downgrade();
        Attached::new(source, move || {
            if let Some(this) = this.upgrade() {
                this.imp().generation.bump();
            }
        })
    }

    /// Makes sure that the state has the current key, if there is one. Asks the source without holding the lock.
    fn refresh_key<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, gst::FlowError> {
        // A source that announces a change while it is asked gets a second chance, not a loop.
        for _ in 0..2 {
            let generation = self.generation.get();
            let Some(attached) = &state.source else {
                return Ok(state);
            };
            let usable = state.sender.as_ref().is_some_and(|sender| !sender.is_used_up());
            if usable && state.asked == Some(generation) {
                return Ok(state);
            }
            let source = attached.source.clone();
            let stream = state.stream_id.clone();
            drop(state);
            let answer = source.sender_key(&stream);
            state = self.state();
            match self.take_answer(&mut state, answer) {
                Ok(request_keyframe) => {
                    state.asked = Some(generation);
                    if request_keyframe {
                        drop(state);
                        glue::request_keyframe(&self.sinkpad);
                        state = self.state();
                    }
                }
                Err(error) => {
                    // The old key may be the one that was to be replaced.
                    state.sender = None;
                    state.asked = None;
                    drop(state);
                    return Err(self.fail(&error));
                }
            }
        }
        Ok(state)
    }

    /// Takes the source's answer; says whether a keyframe is needed. The error has its text.
    fn take_answer(
        &self,
        state: &mut State,
        answer: Result<Option<SenderKey>, ContractError>,
    ) -> Result<bool, String> {
        let answer = answer.map_err(|error| glue::unusable(&self.settings().keyring, &error))?;
        let Some(key) = answer else {
            state.sender = None;
            return Ok(false);
        };
        if let Some(sender) = state.sender.as_mut().filter(|sender| sender.is_still(&key)) {
            sender.set_epoch(key.epoch);
            return Ok(false);
        }
        let sender = Sender::from_source(&key).map_err(|error| error.to_string())?;
        gst::info!(
            CAT,
            imp = self,
            "Sealing with KID {} of epoch {}",
            key.kid,
            key.epoch
        );
        let video = state.negotiated.as_ref().is_some_and(|n| n.video);
        let is_change = state.sender.replace(sender).is_some();
        state.stats.key_changes += 1;
        // A keyframe once a new key is in use (RFC 9605 §9.1): who has only this key can start there.
        Ok(video && (is_change || state.dropped))
    }

    fn fail(&self, what: &str) -> gst::FlowError {
        gst::element_imp_error!(self, gst::ResourceError::Failed, ("{}", what));
        gst::FlowError::Error
    }

    // Sealing

    fn process(&self, buffer: gst::Buffer) -> Result<Outcome, gst::FlowError> {
        let mut state = self.refresh_key(self.state())?;
        let state_ref = &mut *state;
        let Some(negotiated) = &state_ref.negotiated else {
            // Refused caps said so already.
            let unsaid = state_ref.refused.is_none();
            drop(state);
            if unsaid {
                gst::element_imp_error!(
                    self,
                    gst::CoreError::Negotiation,
                    ("no caps: sframeenc must know what it seals; insert a parser, or caps such as `! application/json !`")
                );
            }
            return Err(gst::FlowError::NotNegotiated);
        };
        // Packets do not say whether they belong to a keyframe.
        let has_deltas = negotiated.video && negotiated.medium != Medium::Packets;
        let Some(sender) = &mut state_ref.sender else {
            state_ref.stats.dropped_no_key += 1;
            state_ref.dropped = true;
            let told = state_ref.key_missing.note(Instant::now());
            let stream_id = state_ref.stream_id.clone();
            let sealed = state_ref.stats.sealed;
            drop(state);
            gst::debug!(
                CAT,
                imp = self,
                "Dropped a frame after {sealed} sealed ones: no-sender-key"
            );
            self.tell(told, "sframe-key-missing", stream_id, "no-sender-key");
            return Ok(Outcome::Dropped(Timing::of(&buffer)));
        };
        let is_delta = has_deltas && buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if state_ref.dropped && is_delta {
            state_ref.stats.dropped_waiting_keyframe += 1;
            let ask = state_ref.keyframe_requests.note(Instant::now()).is_some();
            let sealed = state_ref.stats.sealed;
            drop(state);
            gst::debug!(
                CAT,
                imp = self,
                "Dropped a frame after {sealed} sealed ones: waiting-keyframe"
            );
            if ask {
                glue::request_keyframe(&self.sinkpad);
            }
            return Ok(Outcome::Dropped(Timing::of(&buffer)));
        }
        let contents = Contents::of(&buffer);
        let plan = match negotiated.medium {
            Medium::Packets => packet_plan(&contents),
            Medium::Frames(codec) => frame_plan(&contents, codec.filter(|_| negotiated.clear_prefix)),
        };
        let Some(plan) = plan else {
            state_ref.stats.dropped_malformed += 1;
            state_ref.dropped = true;
            let told = state_ref.malformed.note(Instant::now());
            let stream_id = state_ref.stream_id.clone();
            drop(contents);
            drop(state);
            self.tell(told, "sframe-encrypt-failed", stream_id, "malformed");
            return Ok(Outcome::Dropped(Timing::of(&buffer)));
        };
        // The counter is spent, whatever becomes of the frame.
        let sealed = sender.next_counter().and_then(|ctr| {
            Ok(seal(
                sender.key(),
                ctr,
                &contents,
                &plan,
                &state_ref.metadata,
                &state_ref.blocks,
            )?)
        });
        match sealed {
            Ok(memory) => {
                state_ref.stats.sealed += 1;
                state_ref.stats.bytes += contents.len() as u64;
                let discont = std::mem::take(&mut state_ref.dropped);
                drop(contents);
                drop(state);
                Ok(Outcome::Sealed(glue::sealed_buffer(buffer, memory, discont)))
            }
            Err(error) => {
                drop(state);
                Err(self.fail(&error.to_string()))
            }
        }
    }

    /// Posts how often something happened, where it is time to.
    fn tell(&self, count: Option<u64>, name: &str, stream: String, cause: &str) {
        if let Some(count) = count {
            let message = gst::Structure::builder(name)
                .field("stream", stream)
                .field("count", count)
                .field("cause", cause)
                .build();
            glue::post(self.obj().upcast_ref(), message);
        }
    }

    fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        match self.process(buffer)? {
            Outcome::Sealed(sealed) => self.srcpad.push(sealed),
            Outcome::Dropped(timing) => {
                self.push_gap(timing);
                Ok(gst::FlowSuccess::Ok)
            }
        }
    }

    fn chain_list(&self, list: gst::BufferList) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut sealed = gst::BufferList::new_sized(list.len());
        for buffer in glue::take_buffers(list) {
            match self.process(buffer)? {
                Outcome::Sealed(buffer) => sealed.make_mut().add(buffer),
                Outcome::Dropped(timing) => {
                    let before = std::mem::replace(&mut sealed, gst::BufferList::new());
                    if !before.is_empty() {
                        self.srcpad.push_list(before)?;
                    }
                    self.push_gap(timing);
                }
            }
        }
        if sealed.is_empty() {
            return Ok(gst::FlowSuccess::Ok);
        }
        self.srcpad.push_list(sealed)
    }

    fn push_gap(&self, timing: Timing) {
        if let Some(gap) = timing.gap() {
            self.srcpad.push_event(gap);
        }
    }

    // Events and queries

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        use gst::EventView;
        match event.view() {
            EventView::StreamStart(e) => self.state().stream_id = e.stream_id().to_string(),
            EventView::Caps(e) => {
                let clear_prefix = self.settings().clear_prefix == ClearPrefix::Codec;
                return match caps::seal(&e.caps_owned(), clear_prefix) {
                    Ok(negotiated) => {
                        gst::debug!(CAT, imp = self, "{} -> {}", e.caps(), negotiated.caps);
                        let sealed = gst::event::Caps::builder(&negotiated.caps)
                            .seqnum(event.seqnum())
                            .build();
                        {
                            let mut state = self.state();
                            state.negotiated = Some(negotiated);
                            state.refused = None;
                        }
                        self.srcpad.push_event(sealed)
                    }
                    Err(error) => {
                        let mut state = self.state();
                        state.negotiated = None;
                        // The same caps come again with every buffer.
                        let again = state.refused.replace(e.caps_owned()).as_deref() == Some(e.caps());
                        drop(state);
                        if !again {
                            gst::element_imp_error!(self, gst::StreamError::WrongType, ("{}", error));
                        }
                        false
                    }
                };
            }
            EventView::Eos(_) => self.post_stats(),
            _ => {}
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        use gst::QueryViewMut;
        match query.view_mut() {
            // So that an encoder with several formats (x264enc) picks the one that can be sealed.
            QueryViewMut::Caps(q) => {
                let caps = q.filter().map_or_else(gst::Caps::new_any, caps::sealable);
                q.set_result(&caps);
                true
            }
            // All caps come in as an event, where the answer to wrong ones can say what to do.
            QueryViewMut::AcceptCaps(q) => {
                q.set_result(true);
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    // Statistics

    fn stats(&self) -> gst::Structure {
        let state = self.state();
        let sender = state.sender.as_ref();
        gst::Structure::builder("sframeenc-stats")
            .field("sealed", state.stats.sealed)
            .field("bytes", state.stats.bytes)
            .field("kid", sender.map_or(0, |sender| sender.key().kid()))
            .field("epoch", sender.map_or(0, Sender::epoch))
            .field("key-changes", state.stats.key_changes)
            .field("dropped-no-key", state.stats.dropped_no_key)
            .field("dropped-waiting-keyframe", state.stats.dropped_waiting_keyframe)
            .field("dropped-malformed", state.stats.dropped_malformed)
            .build()
    }

    fn post_stats(&self) {
        glue::post(self.obj().upcast_ref(), self.stats());
    }
}

/// The sender of `key-file`, with its counters leased.
fn static_sender(settings: &Settings, path: &Path) -> Result<Sender, String> {
    let keys = KeyFile::read(path).map_err(|error| error.to_string())?;
    let kid = settings.kid.ok_or_else(|| {
        format!(
            "key-file needs kid=: the key id that this sender alone seals with (key-file has {:?})",
            keys.kids().collect::<Vec<_>>()
        )
    })?;
    let base_key = keys.get(kid).ok_or_else(|| {
        format!(
            "key-file {} has no key with kid {kid}; it has {:?}",
            path.display(),
            keys.kids().collect::<Vec<_>>()
        )
    })?;
    let fingerprint = Fingerprint::new(base_key, kid);
    let sender = || -> Result<Sender, SenderError> {
        let path = match &settings.counter_file {
            Some(path) => path.clone(),
            None => counter_file::default_path(fingerprint)?,
        };
        let file = CounterFile::open(&path, fingerprint)?;
        Sender::from_file(settings.cipher_suite.into(), kid, base_key, file)
    };
    sender().map_err(|error| error.to_string())
}

#[glib::object_subclass]
impl ObjectSubclass for SFrameEnc {
    const NAME: &'static str = "GstSFrameEnc";
    type Type = super::SFrameEnc;
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
                Self::catch_panic_pad_function(parent, || false, |imp| imp.sink_query(pad, query))
            })
            .build();
        let srcpad = glue::pad_builder(klass.pad_template("src"), gst::PadDirection::Src).build();
        Self {
            sinkpad,
            srcpad,
            settings: Mutex::default(),
            state: Mutex::default(),
            generation: Generation::default(),
        }
    }
}

impl ObjectImpl for SFrameEnc {
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

impl GstObjectImpl for SFrameEnc {}

impl ElementImpl for SFrameEnc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "SFrame encryptor",
                "Encryptor",
                "Seals encoded frames or RTP packets end to end with SFrame (RFC 9605)",
                "The gst-plugins-e2ee developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let sealed: gst::Caps = [
                gst::Structure::new_empty("application/x-sframe"),
                gst::Structure::new_empty("application/x-rtp"),
            ]
            .into_iter()
            .collect();
            glue::pad_templates(&gst::Caps::new_any(), &sealed)
        });
        &TEMPLATES
    }

    fn set_context(&self, context: &gst::Context) {
        self.parent_set_context(context);
        let settings = self.settings().clone();
        if settings.key_source.is_some() || settings.key_file.is_some() || self.state().source.is_none() {
            return;
        }
        // A running element takes a new key source; a broken one is refused and the old one stays.
        match glue::source_of(context, &settings.keyring) {
            Some(Ok(source)) => {
                let attached = self.attach(source);
                let old = self.state().source.replace(attached);
                drop(old);
                self.generation.bump();
            }
            Some(Err(error)) => {
                gst::error!(CAT, imp = self, "{}", glue::unusable(&settings.keyring, &error));
            }
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
            // Keys and the lock on the counter file go; what was counted can still be read.
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
