//! Pipelines in this process, with the plugins linked in, and what passes their pads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use it, a failure here is theirs"
)]

use gst::prelude::*;
use gst_e2ee_common::header::Header;
use gst_e2ee_common::meta::SFrameMeta;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once};

/// Longer than any pipeline here needs on a slow machine; one that takes longer hangs.
pub const LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// Initialises GStreamer with our plugins in it.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstsframe::plugin_register_static().unwrap();
        gstrtpsframe::plugin_register_static().unwrap();
        gstmls::plugin_register_static().unwrap();
    });
}

/// Static keys of one test, with their counters, in a folder that goes with the test.
pub struct Keys {
    dir: tempfile::TempDir,
}

impl Default for Keys {
    fn default() -> Self {
        Self::new()
    }
}

impl Keys {
    /// KIDs 1 to 9.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lines: String = (1..10).map(|kid| format!("{kid} {}\n", hex(kid))).collect();
        let path = dir.path().join("keys");
        fs::write(&path, lines).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Self { dir }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `sframeenc` with this KID, named `enc` unless `more` names it.
    pub fn enc(&self, kid: u8, more: &str) -> String {
        let counters = self.path(&format!("counter-{kid}"));
        format!(
            "sframeenc key-file={} kid={kid} counter-file={} {}",
            self.path("keys").display(),
            counters.display(),
            named(more, "enc")
        )
    }

    /// `sframedec` with all keys, named `dec` unless `more` names it.
    pub fn dec(&self, more: &str) -> String {
        format!(
            "sframedec key-file={} {}",
            self.path("keys").display(),
            named(more, "dec")
        )
    }
}

fn named(properties: &str, name: &str) -> String {
    if properties.contains("name=") {
        properties.into()
    } else {
        format!("name={name} {properties}")
    }
}

fn hex(kid: u8) -> String {
    format!("{kid:02x}").repeat(16)
}

/// A buffer that passed a pad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its bytes.
    pub data: Vec<u8>,
    /// Presentation time.
    pub pts: Option<gst::ClockTime>,
    /// Flag DELTA_UNIT.
    pub delta: bool,
    /// Flag DISCONT.
    pub discont: bool,
    /// Who sealed it, where it was opened.
    pub meta: Option<SFrameMeta>,
}

impl Seen {
    /// Of a buffer.
    pub fn of(buffer: &gst::BufferRef) -> Self {
        let mut data = vec![0; buffer.size()];
        buffer.copy_to_slice(0, &mut data).unwrap();
        Self {
            data,
            pts: buffer.pts(),
            delta: buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            discont: buffer.flags().contains(gst::BufferFlags::DISCONT),
            meta: SFrameMeta::of(buffer),
        }
    }

    /// KID and CTR of a sealed frame.
    pub fn header(&self) -> Header {
        Header::parse(&self.data).unwrap().0
    }
}

#[derive(Default)]
struct Passed {
    buffers: Vec<Seen>,
    lists: usize,
    gaps: usize,
    caps: Vec<gst::Caps>,
    keyframe_requests: usize,
}

/// What passes a pad.
#[derive(Clone)]
pub struct Tap(Arc<Mutex<Passed>>);

impl Tap {
    /// Notes everything from now on.
    pub fn new(pad: &gst::Pad) -> Self {
        let tap = Self(Arc::default());
        let passed = tap.0.clone();
        let kind = gst::PadProbeType::BUFFER
            | gst::PadProbeType::BUFFER_LIST
            | gst::PadProbeType::EVENT_DOWNSTREAM
            | gst::PadProbeType::EVENT_UPSTREAM;
        pad.add_probe(kind, move |_, info| {
            let mut passed = passed.lock().unwrap();
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => passed.buffers.push(Seen::of(buffer)),
                Some(gst::PadProbeData::BufferList(list)) => {
                    passed.lists += 1;
                    passed.buffers.extend(list.iter().map(Seen::of));
                }
                Some(gst::PadProbeData::Event(event)) => passed.event(event),
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
        tap
    }

    /// The buffers so far, those in lists too.
    pub fn buffers(&self) -> Vec<Seen> {
        self.0.lock().unwrap().buffers.clone()
    }

    /// How many buffers so far.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().buffers.len()
    }

    /// Nothing passed yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of each buffer.
    pub fn data(&self) -> Vec<Vec<u8>> {
        let passed = self.0.lock().unwrap();
        passed.buffers.iter().map(|seen| seen.data.clone()).collect()
    }

    /// The delta flag of each buffer.
    pub fn deltas(&self) -> Vec<bool> {
        let passed = self.0.lock().unwrap();
        passed.buffers.iter().map(|seen| seen.delta).collect()
    }

    /// How many buffer lists.
    pub fn lists(&self) -> usize {
        self.0.lock().unwrap().lists
    }

    /// How many GAP events.
    pub fn gaps(&self) -> usize {
        self.0.lock().unwrap().gaps
    }

    /// All CAPS events.
    pub fn caps(&self) -> Vec<gst::Caps> {
        self.0.lock().unwrap().caps.clone()
    }

    /// How many keyframe requests went upstream.
    pub fn keyframe_requests(&self) -> usize {
        self.0.lock().unwrap().keyframe_requests
    }
}

impl Passed {
    fn event(&mut self, event: &gst::EventRef) {
        match event.view() {
            gst::EventView::Gap(_) => self.gaps += 1,
            gst::EventView::Caps(e) => self.caps.push(e.caps_owned()),
            gst::EventView::CustomUpstream(e)
                if e.structure().is_some_and(|s| s.name() == "GstForceKeyUnit") =>
            {
                self.keyframe_requests += 1;
            }
            _ => {}
        }
    }
}

/// A pipeline that is stopped when it is dropped.
pub struct Player {
    pipeline: gst::Pipeline,
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Player {
    /// From a description as `gst-launch-1.0` takes it.
    pub fn new(description: &str) -> Self {
        init();
        let pipeline =
            gst::parse::launch(description).unwrap_or_else(|error| panic!("{description}: {error}"));
        Self {
            pipeline: pipeline.downcast().expect("more than one element"),
        }
    }

    /// The pipeline itself.
    pub fn pipeline(&self) -> &gst::Pipeline {
        &self.pipeline
    }

    /// The element with this name.
    pub fn element(&self, name: &str) -> gst::Element {
        self.pipeline
            .by_name(name)
            .unwrap_or_else(|| panic!("there is no element {name}"))
    }

    /// The pad of an element.
    pub fn pad(&self, element: &str, pad: &str) -> gst::Pad {
        self.element(element).static_pad(pad).unwrap()
    }

    /// Notes what passes this pad.
    pub fn tap(&self, element: &str, pad: &str) -> Tap {
        Tap::new(&self.pad(element, pad))
    }

    /// A number in an element's `stats`.
    pub fn stat(&self, element: &str, field: &str) -> u64 {
        self.element(element)
            .property::<gst::Structure>("stats")
            .get(field)
            .unwrap()
    }

    /// Starts to play.
    pub fn start(&self) {
        // An error comes on the bus, with a text.
        let _ = self.pipeline.set_state(gst::State::Playing);
    }

    /// Waits for EOS; the text of the first error otherwise.
    pub fn wait(&self) -> Result<(), String> {
        let types = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = self
            .pipeline
            .bus()
            .unwrap()
            .timed_pop_filtered(LIMIT, &types)
            .expect("the pipeline hangs");
        match message.view() {
            gst::MessageView::Error(e) => Err(format!(
                "{}: {} ({:?})",
                e.src().unwrap().name(),
                e.error(),
                e.debug()
            )),
            _ => Ok(()),
        }
    }

    /// Plays to EOS.
    pub fn play(&self) {
        self.start();
        if let Err(error) = self.wait() {
            panic!("{error}");
        }
    }

    /// Pushes a buffer into an `appsrc`.
    pub fn push(&self, appsrc: &str, buffer: gst::Buffer) {
        let flow = self
            .element(appsrc)
            .emit_by_name::<gst::FlowReturn>("push-buffer", &[&buffer]);
        assert_eq!(flow, gst::FlowReturn::Ok);
    }

    /// Ends the stream of an `appsrc`.
    pub fn end(&self, appsrc: &str) {
        let flow = self
            .element(appsrc)
            .emit_by_name::<gst::FlowReturn>("end-of-stream", &[]);
        assert_eq!(flow, gst::FlowReturn::Ok);
    }
}

/// A buffer with these bytes at this time.
pub fn buffer(data: impl AsRef<[u8]>, milliseconds: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(data.as_ref().to_vec());
    buffer
        .get_mut()
        .unwrap()
        .set_pts(gst::ClockTime::from_mseconds(milliseconds));
    buffer
}
