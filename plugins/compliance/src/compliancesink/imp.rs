//! # compliancesink
//!
//! Records encoded frames that `sframedec` opened: audio, video, text, each pad with tracks of its own.
//!
//! ```text
//! gst-launch-1.0 mlskeyring room=visit-42 certificate-file=recorder/cert.pem private-key-file=recorder/key.pem \
//!     ca-file=ca/ca.pem \
//!     udpsrc port=5004 caps="application/x-rtp, media=video, encoding-name=VP8, clock-rate=90000" ! \
//!     rtpjitterbuffer ! rtpsframedepay ! sframedec ! \
//!     compliancesink location=recordings keys=keys audit-log=log consent-file=consent.json
//! ```
//!
//! ## Who does what
//!
//! ```text
//!   streaming threads                                           worker
//!   pad ─ gate ─ parser ─ matroskamux ─ cutter ─┐ members       encrypts, appends, syncs, states them in the
//!   pad ─ gate ─────────── matroskamux ─ cutter ┼────────▶      manifest, logs, posts messages;
//!   …                                           ┘ queue         looks at room and consent, starts and ends
//! ```
//!
//! A streaming thread never waits: not for the disk, not for the worker. Where the queue is full a frame is dropped and
//! becomes a gap. The element takes part in no preroll and posts EOS when all its pads have it and the end record is on
//! disk.
//!
//! Locks: `settings`, `pads`, `running`, `shown`: each for a moment. While one is held no input's lock is taken, nothing is
//! posted and nothing pushed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::input::{Input, Wish};
use super::report::Report;
use super::session::Session;
use super::settings::{self, Settings};
use super::worker::Worker;
use super::{CAT, State, chain, start};
use crate::dumpable::forbid_core_dumps;
use crate::recording::{Disk, RealDisk};

struct Pad {
    pad: gst::Pad,
    input: Arc<Input>,
}

/// What exists from PAUSED on.
struct Running {
    session: Arc<Session>,
    worker: Worker,
}

/// What properties show that are no settings. It stays when the recording has ended.
#[derive(Default)]
pub struct Shown {
    pub state: State,
    pub recording: String,
    pub stats: Option<gst::Structure>,
}

pub struct ComplianceSink {
    settings: Mutex<Settings>,
    pads: Mutex<Vec<Pad>>,
    next_pad: AtomicU32,
    running: Mutex<Option<Running>>,
    shown: Mutex<Shown>,
    disk: Mutex<Arc<dyn Disk>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ComplianceSink {
    pub fn set_disk(&self, disk: Arc<dyn Disk>) {
        *lock(&self.disk) = disk;
    }

    pub fn shown(&self) -> MutexGuard<'_, Shown> {
        lock(&self.shown)
    }

    /// The pads and what is behind them.
    pub fn inputs(&self) -> Vec<(gst::Pad, Arc<Input>)> {
        let pads = lock(&self.pads);
        pads.iter()
            .map(|pad| (pad.pad.clone(), pad.input.clone()))
            .collect()
    }

    fn session(&self) -> Option<Arc<Session>> {
        lock(&self.running)
            .as_ref()
            .map(|running| running.session.clone())
    }

    // Streaming

    fn chain(
        &self,
        pad: &gst::Pad,
        input: &Input,
        buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let session = self.session().ok_or(gst::FlowError::Flushing)?;
        let wish = input.frame(&session, buffer, Instant::now());
        self.fulfil(pad, wish);
        // What is not recorded is no fault of who sends it, and must not end the call.
        Ok(gst::FlowSuccess::Ok)
    }

    /// Does what needs no lock to be held.
    pub fn fulfil(&self, pad: &gst::Pad, wish: Wish) {
        if wish.keyframe {
            gst::debug!(CAT, obj = pad, "Asking for a keyframe");
            // GstVideo's UpstreamForceKeyUnit, written out so that no video library is linked for one event.
            let structure = gst::Structure::builder("GstForceKeyUnit")
                .field("all-headers", true)
                .build();
            pad.push_event(gst::event::CustomUpstream::new(structure));
        }
        if let Some(warning) = wish.warning {
            gst::element_imp_warning!(self, gst::StreamError::WrongType, ("{}: {}", pad.name(), warning));
        }
    }

    fn event(&self, pad: &gst::Pad, input: &Input, event: gst::Event) -> bool {
        use gst::EventView;
        let session = self.session();
        match event.view() {
            EventView::StreamStart(_) => {
                input.set_eos(false);
                input.end_stream(session.as_deref());
            }
            EventView::Caps(caps) => {
                gst::debug!(CAT, obj = pad, "{}", caps.caps());
                input.set_caps(session.as_deref(), caps.caps_owned());
            }
            EventView::Segment(segment) => input.set_segment(segment.segment()),
            EventView::Gap(gap) => {
                let (timestamp, duration) = gap.get();
                if let Some(session) = &session {
                    input.missing(session, timestamp, duration, Instant::now());
                }
            }
            EventView::FlushStop(_) => input.set_eos(false),
            EventView::Eos(_) => {
                input.end_stream(session.as_deref());
                input.set_eos(true);
                self.look_for_eos();
            }
            _ => {}
        }
        // There is nothing behind this pad.
        true
    }

    /// Ends the recording where all pads have ended. A conversation has no end of its own, and goes with the media.
    fn look_for_eos(&self) {
        let inputs = self.inputs();
        let (messages, media): (Vec<_>, Vec<_>) = inputs
            .iter()
            .map(|(_, input)| input)
            .partition(|input| input.is_for_messages());
        let awaited = if media.is_empty() { &messages } else { &media };
        if awaited.is_empty() || !awaited.iter().all(|input| input.is_eos()) {
            return;
        }
        for input in messages {
            input.end_stream(self.session().as_deref());
        }
        if let Some(running) = &*lock(&self.running) {
            running.worker.end_of_stream();
        }
    }

    // States

    /// READY→PAUSED: everything that can be wrong before the first frame is told here.
    fn start(&self) -> Result<(), String> {
        let settings = lock(&self.settings).clone();
        let disk = lock(&self.disk).clone();
        *self.shown() = Shown::default();
        let report = Report::new(&self.obj());
        let (session, worker) = start::start(self.obj().upcast_ref(), &settings, disk, report)?;
        *lock(&self.running) = Some(Running { session, worker });
        Ok(())
    }

    /// PAUSED→READY: no frame comes any more; what there is gets sealed.
    fn stop(&self) {
        let running = lock(&self.running).take();
        if let Some(Running { session, worker }) = running {
            for (_, input) in self.inputs() {
                input.end_stream(Some(&session));
                input.set_eos(false);
            }
            worker.stop();
            let stats = stats(&session);
            self.shown().stats = Some(stats.clone());
            Report::new(&self.obj()).post(stats);
        }
    }

    pub fn stats(&self) -> gst::Structure {
        let running = self.session().map(|session| stats(&session));
        let shown = || self.shown().stats.clone();
        running
            .or_else(shown)
            .unwrap_or_else(|| gst::Structure::new_empty("compliancesink-stats"))
    }
}

fn stats(session: &Session) -> gst::Structure {
    let level = session.queue.level().bytes();
    let waits = session.queue.waits(Instant::now());
    let counts = session.stats.counts().clone();
    counts.structure(level, waits)
}

#[glib::object_subclass]
impl ObjectSubclass for ComplianceSink {
    const NAME: &'static str = "GstComplianceSink";
    type Type = super::ComplianceSink;
    type ParentType = gst::Element;

    fn new() -> Self {
        Self {
            settings: Mutex::default(),
            pads: Mutex::default(),
            next_pad: AtomicU32::new(0),
            running: Mutex::default(),
            shown: Mutex::default(),
            disk: Mutex::new(Arc::new(RealDisk)),
        }
    }
}

impl ObjectImpl for ComplianceSink {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let setting = lock(&self.settings).get(pspec.name());
        setting.unwrap_or_else(|| match pspec.name() {
            "recording-id" => self.shown().recording.to_value(),
            "state" => self.shown().state.to_value(),
            _ => self.stats().to_value(),
        })
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.obj().set_element_flags(gst::ElementFlags::SINK);
    }
}

impl GstObjectImpl for ComplianceSink {}

impl ElementImpl for ComplianceSink {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Compliance recorder",
                "Sink/Recorder/Encryptor",
                "Records frames that sframedec opened, encrypted to keys that are not on this machine, while the room \
                 records, admits this recorder and the consent permits it. Each pad becomes one track or more in a \
                 folder below location; messages_%u pads keep what the msg_src pads of mlskeyring give, each in one text \
                 track. Nothing is kept otherwise, and the message compliance-paused says why. \
                 gst-compliance prepares the keys, verifies and opens recordings. Messages: compliance-started, \
                 -segment, -gap, -paused, -stopped, -failed, -store",
                "The gst-plugins-e2ee developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = |name, caps: &gst::Caps| {
                gst::PadTemplate::new(name, gst::PadDirection::Sink, gst::PadPresence::Request, caps)
            };
            let templates = [
                template("sink_%u", &chain::recordable()),
                template("messages_%u", &gst::Caps::new_any()),
            ];
            templates.into_iter().flatten().collect()
        });
        &TEMPLATES
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        let kind = template.name_template().replace("%u", "");
        let wanted = name.and_then(|name| name.strip_prefix(&kind)?.parse::<u32>().ok());
        let number = match wanted {
            Some(number) => {
                self.next_pad
                    .fetch_max(number.saturating_add(1), Ordering::Relaxed);
                number
            }
            None => self.next_pad.fetch_add(1, Ordering::Relaxed),
        };
        let input = Arc::new(match kind.as_str() {
            "messages_" => Input::for_messages(),
            _ => Input::default(),
        });
        let (chain_input, event_input) = (input.clone(), input.clone());
        let pad = gst::Pad::builder_from_template(template)
            .name(format!("{kind}{number}"))
            .chain_function(move |pad, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |imp| imp.chain(pad, &chain_input, buffer),
                )
            })
            .event_function(move |pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.event(pad, &event_input, event))
            })
            .query_function(|pad, parent, query| match query.view_mut() {
                // Caps that cannot be recorded come in as an event, which is answered with a reason.
                gst::QueryViewMut::AcceptCaps(q) => {
                    q.set_result(true);
                    true
                }
                _ => gst::Pad::query_default(pad, parent, query),
            })
            .build();
        // Before it is on the element: a frame can come as soon as it is.
        lock(&self.pads).push(Pad {
            pad: pad.clone(),
            input,
        });
        if self.obj().add_pad(&pad).is_err() {
            lock(&self.pads).retain(|other| other.pad != pad);
            return None;
        }
        Some(pad)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        let _ = pad.set_active(false);
        let released = {
            let mut pads = lock(&self.pads);
            let at = pads.iter().position(|other| other.pad == *pad);
            at.map(|at| pads.remove(at))
        };
        if let Some(released) = released {
            released.input.end_stream(self.session().as_deref());
            let _ = self.obj().remove_pad(pad);
            // It may have been the one that the others waited for.
            self.look_for_eos();
        }
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady if !lock(&self.settings).allow_core_dumps => {
                forbid_core_dumps().map_err(|error| self.fail(&error))?;
            }
            gst::StateChange::ReadyToPaused => self.start().map_err(|error| self.fail(&error))?,
            _ => {}
        }
        let changed = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToReady => self.stop(),
            gst::StateChange::ReadyToPaused if changed.is_err() => self.stop(),
            _ => {}
        }
        changed
    }
}

impl ComplianceSink {
    fn fail(&self, why: &str) -> gst::StateChangeError {
        gst::element_imp_error!(self, gst::ResourceError::Failed, ("{}", why));
        gst::StateChangeError
    }
}
