//! A `compliancesrc` whose pads are linked to pads of the test, which note everything that comes and can make it wait.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use gst::prelude::*;

use super::common::{LIMIT, Place, Run};

pub fn ms(ms: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(ms)
}

/// Something that came.
#[derive(Debug, Clone)]
pub enum Got {
    Frame {
        ms: u64,
        lasts_ms: Option<u64>,
        bytes: Vec<u8>,
        flags: gst::BufferFlags,
    },
    Gap(u64, u64),
    Event(gst::Event),
}

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    /// To be done instead of taking the frame of this time.
    hook: Option<(u64, Hook)>,
    got: Vec<Got>,
    hold: bool,
    waiting: bool,
    flushing: bool,
    eos: bool,
}

/// What came on a pad.
#[derive(Clone, Default)]
pub struct Sink(Arc<(Mutex<State>, Condvar)>);

impl Sink {
    /// A pad for another pass.
    fn pad(&self) -> gst::Pad {
        self.state(|state| {
            state.got.clear();
            state.eos = false;
            state.flushing = false;
        });
        let (of_chain, of_event) = (self.clone(), self.clone());
        let pad = gst::Pad::builder(gst::PadDirection::Sink)
            .chain_function(move |_, _, buffer| of_chain.take(&buffer))
            .event_function(move |_, _, event| {
                of_event.event(event);
                true
            })
            .build();
        pad.set_active(true).unwrap();
        pad
    }

    fn take(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        assert!(!state.eos, "a frame behind EOS");
        let time = buffer.pts().unwrap();
        if let Some((_, hook)) = state.hook.take_if(|(at, _)| ms(*at) == time) {
            drop(state);
            hook();
            return Err(gst::FlowError::Flushing);
        }
        while state.hold && !state.flushing {
            state.waiting = true;
            changed.notify_all();
            state = changed.wait(state).unwrap();
        }
        state.waiting = false;
        if state.flushing {
            return Err(gst::FlowError::Flushing);
        }
        state.got.push(Got::Frame {
            ms: buffer.pts().unwrap().mseconds(),
            lasts_ms: buffer.duration().map(gst::ClockTime::mseconds),
            bytes: buffer.map_readable().unwrap().to_vec(),
            flags: buffer.flags(),
        });
        Ok(gst::FlowSuccess::Ok)
    }

    fn event(&self, event: gst::Event) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        match event.view() {
            gst::EventView::FlushStart(_) => state.flushing = true,
            gst::EventView::FlushStop(_) | gst::EventView::StreamStart(_) => {
                state.flushing = false;
                state.eos = false;
                state.got.clear();
            }
            gst::EventView::Eos(_) => state.eos = true,
            gst::EventView::Gap(gap) => {
                let (from, lasts) = gap.get();
                state
                    .got
                    .push(Got::Gap(from.mseconds(), (from + lasts.unwrap()).mseconds()));
                return;
            }
            _ => {}
        }
        state.got.push(Got::Event(event));
        changed.notify_all();
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let changed = look(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        changed
    }

    /// What came since the last flush.
    pub fn got(&self) -> Vec<Got> {
        self.state(|state| state.got.clone())
    }

    /// The frames of it: milliseconds and bytes.
    pub fn frames(&self) -> Vec<(u64, Vec<u8>)> {
        let frame = |got| match got {
            Got::Frame { ms, bytes, .. } => Some((ms, bytes)),
            _ => None,
        };
        self.got().into_iter().filter_map(frame).collect()
    }

    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let gap = |got| match got {
            Got::Gap(from, to) => Some((from, to)),
            _ => None,
        };
        self.got().into_iter().filter_map(gap).collect()
    }

    /// The last event of this type.
    pub fn last_event(&self, type_: gst::EventType) -> gst::Event {
        let event = |got| match got {
            Got::Event(event) if event.type_() == type_ => Some(event),
            _ => None,
        };
        self.got().into_iter().rev().find_map(event).unwrap()
    }

    pub fn segment(&self) -> gst::FormattedSegment<gst::ClockTime> {
        match self.last_event(gst::EventType::Segment).view() {
            gst::EventView::Segment(segment) => segment.segment().downcast_ref().unwrap().clone(),
            _ => unreachable!(),
        }
    }

    pub fn eos(&self) -> bool {
        self.state(|state| state.eos)
    }

    /// Does this in the streaming thread instead of taking the frame of this time.
    pub fn at(&self, ms: u64, hook: impl FnOnce() + Send + 'static) {
        self.state(|state| state.hook = Some((ms, Box::new(hook))));
    }

    /// Lets frames wait, or go on.
    pub fn hold(&self, hold: bool) {
        self.state(|state| state.hold = hold);
    }

    pub fn waits(&self) -> bool {
        self.state(|state| state.waiting)
    }
}

/// Writes an identity as age-keygen does.
pub fn identity_file(path: &Path, identity: &Identity) {
    fs::write(path, format!("{}\n", identity.to_string().expose_secret())).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The element, set up as its recipient would.
pub fn source(place: &Place, recording: &Path) -> gst::Element {
    let identity = place.path("identity");
    identity_file(&identity, &place.recipient);
    gst::ElementFactory::make("compliancesrc")
        .name("rec")
        .property("location", recording.to_str().unwrap())
        .property("identity-file", identity.to_str().unwrap())
        .property("audit-log", place.path("log").to_str().unwrap())
        .property("reader", "dr-17")
        .property("reason", "complaint of 3 May")
        .property("ticket", "C-2291")
        .build()
        .unwrap()
}

/// A pipeline with the element and nothing else.
pub struct Player {
    pub run: Run,
    pub source: gst::Element,
    pub sinks: Arc<Mutex<BTreeMap<String, Sink>>>,
    /// A link keeps no pad alive.
    pads: Arc<Mutex<Vec<gst::Pad>>>,
}

impl Player {
    pub fn new(place: &Place, recording: &Path) -> Self {
        Self::with(source(place, recording), |_| true)
    }

    /// Links those pads that are wanted. From the beginning frames wait where `hold` says so.
    pub fn with(source: gst::Element, wanted: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let sinks = Arc::<Mutex<BTreeMap<String, Sink>>>::default();
        let pads = Arc::<Mutex<Vec<gst::Pad>>>::default();
        let (added, kept) = (sinks.clone(), pads.clone());
        source.connect_pad_added(move |_, pad| {
            assert!(pad.current_caps().is_some(), "{} has no caps", pad.name());
            if wanted(&pad.name()) {
                let sink = added
                    .lock()
                    .unwrap()
                    .entry(pad.name().into())
                    .or_default()
                    .clone();
                let linked = sink.pad();
                pad.link(&linked).unwrap();
                kept.lock().unwrap().push(linked);
            }
        });
        let pipeline = gst::Pipeline::new();
        pipeline.add(&source).unwrap();
        let run = Run::of(pipeline);
        Self {
            run,
            source,
            sinks,
            pads,
        }
    }

    /// Links a pad that was not wanted before.
    pub fn link(&self, name: &str) -> Sink {
        let sink = Sink::default();
        self.sinks.lock().unwrap().insert(name.to_owned(), sink.clone());
        let pad = sink.pad();
        self.source.static_pad(name).unwrap().link(&pad).unwrap();
        self.pads.lock().unwrap().push(pad);
        sink
    }

    pub fn pause(&self) {
        let changed = self.run.pipeline.set_state(gst::State::Paused);
        assert!(changed.is_ok(), "{:?}", self.run.error());
    }

    /// Tries to start; gives the error that says why it does not.
    pub fn refused(&self) -> String {
        assert!(self.run.pipeline.set_state(gst::State::Paused).is_err());
        let error = self.run.error().unwrap();
        self.run.stop();
        error
    }

    pub fn sink(&self, name: &str) -> Sink {
        self.sinks.lock().unwrap()[name].clone()
    }

    pub fn names(&self) -> Vec<String> {
        self.sinks.lock().unwrap().keys().cloned().collect()
    }

    /// Waits until EOS is on all pads.
    pub fn to_end(&self) {
        self.wait("EOS on all pads", |player| {
            assert_eq!(player.run.error(), None);
            player.sinks.lock().unwrap().values().all(Sink::eos)
        });
    }

    pub fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(
                start.elapsed() < LIMIT,
                "{what} did not happen: {:?}",
                self.run.error()
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    pub fn seek(&self, flags: gst::SeekFlags, to: gst::ClockTime) {
        self.source
            .seek_simple(gst::SeekFlags::FLUSH | flags, to)
            .unwrap();
    }

    pub fn stat(&self, name: &str) -> u64 {
        self.source.property::<gst::Structure>("stats").get(name).unwrap()
    }
}
