//! What the tests of the recorder share: a place with keys, consent and log; frames that are noted on their way in; and
//! a reader that knows only tar, age and GStreamer.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod disk;
pub mod feed;
pub mod room;
#[path = "../../../sframe/tests/common/source.rs"]
pub mod source;
pub mod units;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use ed25519_dalek::SigningKey;
use gst::prelude::*;
use gstcompliance::audit::{self, Event};
use gstcompliance::bundle::{Holders, Recipients, prepare};
use gstcompliance::compliancesink::ComplianceSink;
use gstcompliance::digest::Digest;
use gstcompliance::matroska::{Cutter, Piece, blocks};
use gstcompliance::recording::{self, Disk, Options};

/// Longest that anything asynchronous may take before a test gives up.
pub const LIMIT: Duration = Duration::from_secs(60);

pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstcompliance::plugin_register_static().unwrap();
    });
}

/// A consent that permits recording.
pub const CONSENT: &str = r#"{
  "resourceType": "Consent",
  "status": "active",
  "scope": { "coding": [ { "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" } ] },
  "provision": { "type": "permit" }
}"#;

/// Everything that a recorder needs, in a folder that goes away.
pub struct Place {
    dir: tempfile::TempDir,
    pub recipient: Identity,
}

impl Place {
    pub fn new(bundles: u32) -> Self {
        init();
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            recipient: Identity::generate(),
        };
        fs::write(place.path("consent.json"), CONSENT).unwrap();
        fs::write(place.path("recipients"), place.recipient.to_public().to_string()).unwrap();
        let recipients = Recipients::read(&place.path("recipients")).unwrap();
        let dealer = SigningKey::from_bytes(&[7; 32]);
        prepare(
            &place.path("keys"),
            &Holders::Recipients(recipients),
            bundles,
            &dealer,
        )
        .unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Fingerprint of who may open recordings.
    pub fn fingerprint(&self) -> String {
        Digest::of(self.recipient.to_public().to_string().as_bytes()).to_string()
    }

    /// The properties of a recorder here.
    pub fn properties(&self) -> String {
        let path = |name| self.path(name).display().to_string();
        format!(
            "location={} keys={} audit-log={} consent-file={}",
            path("recordings"),
            path("keys"),
            path("log"),
            path("consent.json")
        )
    }

    /// A pipeline with a recorder `rec` without a room, described as for gst-launch.
    pub fn launch(&self, description: &str) -> Run {
        let sink = format!("compliancesink name=rec require-room=false {}", self.properties());
        Run::new(&format!("{sink} {description}"))
    }

    /// A recorder with further properties.
    pub fn sink_with(&self, properties: &str) -> gst::Element {
        let description = format!("compliancesink {} {properties}", self.properties());
        gst::parse::launch(&description).unwrap()
    }

    /// A running pipeline with nothing but a recorder `rec` with these properties.
    pub fn recorder(&self, properties: &str) -> Run {
        self.recorder_on(properties, None)
    }

    /// The same on another disk.
    pub fn recorder_on(&self, properties: &str, disk: Option<Arc<dyn Disk>>) -> Run {
        let run = self.paused_recorder(properties);
        if let Some(disk) = disk {
            let recorder = run.element("rec").downcast::<ComplianceSink>().unwrap();
            recorder.set_disk(disk);
        }
        run.play();
        run
    }

    /// The same before it starts.
    pub fn paused_recorder(&self, properties: &str) -> Run {
        let description = format!("name=rec {properties}");
        let pipeline = gst::Pipeline::new();
        pipeline.add(&self.sink_with(&description)).unwrap();
        Run::of(pipeline)
    }

    /// The recordings that there are.
    pub fn recordings(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("recordings")) else {
            return Vec::new();
        };
        // One that is being made has a name that begins with a dot.
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
            .iter()
            .map(|name| self.path("recordings").join(name))
            .collect()
    }

    /// The one recording that there is.
    pub fn recording(&self) -> PathBuf {
        let mut recordings = self.recordings();
        assert_eq!(recordings.len(), 1, "{recordings:?}");
        recordings.remove(0)
    }

    /// Opens a recording with tar and age alone: the Matroska streams of its tracks by the names of their tars.
    pub fn open(&self, recording: &Path) -> Vec<(String, Vec<u8>)> {
        let open = self.dir.path().join("open");
        let _ = fs::remove_dir_all(&open);
        fs::create_dir(&open).unwrap();
        let identity = open.join("identity");
        fs::write(&identity, self.recipient.to_string().expose_secret()).unwrap();
        let key = open.join("key");
        age(&identity, &recording.join("key.age"), &key);
        let mut tars: Vec<_> = fs::read_dir(recording.join("tracks"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        tars.sort();
        tars.iter()
            .map(|tar| {
                let name = tar.file_stem().unwrap().to_str().unwrap().to_owned();
                run(Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(&open));
                let mut members: Vec<_> = fs::read_dir(open.join(&name))
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .collect();
                members.sort();
                let mut stream = Vec::new();
                for member in members {
                    let clear = open.join("clear");
                    age(&key, &member, &clear);
                    stream.extend(fs::read(&clear).unwrap());
                }
                (name, stream)
            })
            .collect()
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
}

fn age(identity: &Path, from: &Path, to: &Path) {
    let mut age = Command::new("age");
    run(age.arg("-d").arg("-i").arg(identity).arg("-o").arg(to).arg(from));
}

/// The words of what the audit log has, in order.
pub fn logged(place: &Place) -> Vec<&'static str> {
    events(place).iter().map(Event::kind).collect()
}

/// What the audit log has, in order.
pub fn events(place: &Place) -> Vec<Event> {
    let items = audit::Reader::open(&place.path("log")).unwrap();
    items
        .map(|item| match item.unwrap() {
            audit::Item::Entry { entry, .. } => entry.unwrap().event,
            audit::Item::Damage(damage) => panic!("{damage}"),
        })
        .collect()
}

/// A verified recording's report. Nothing in it may be damaged.
pub fn verified(recording: &Path) -> recording::Report {
    let report = recording::verify(recording, &Options::default()).unwrap();
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    report
}

/// A frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub pts: Option<gst::ClockTime>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {:?}", self.bytes.len(), self.pts)
    }
}

/// Frames that pass a pad.
#[derive(Clone, Default)]
pub struct Frames(Arc<Mutex<Vec<Frame>>>);

impl Frames {
    /// Notes what passes this pad from now on.
    pub fn of(pad: &gst::Pad) -> Self {
        let frames = Self::default();
        let noted = frames.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let buffer = info.buffer().unwrap();
            noted.0.lock().unwrap().push(Frame {
                bytes: buffer.map_readable().unwrap().to_vec(),
                pts: buffer.pts(),
            });
            gst::PadProbeReturn::Ok
        });
        frames
    }

    pub fn all(&self) -> Vec<Frame> {
        self.0.lock().unwrap().clone()
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A pipeline that runs.
pub struct Run {
    pub pipeline: gst::Pipeline,
    messages: Mutex<Vec<gst::Message>>,
}

impl Run {
    pub fn new(description: &str) -> Self {
        init();
        let element = gst::parse::launch(description).unwrap();
        Self::of(element.downcast().unwrap())
    }

    pub fn of(pipeline: gst::Pipeline) -> Self {
        Self {
            pipeline,
            messages: Mutex::default(),
        }
    }

    pub fn element(&self, name: &str) -> gst::Element {
        self.pipeline.by_name(name).unwrap()
    }

    pub fn play(&self) {
        let changed = self.pipeline.set_state(gst::State::Playing);
        assert!(changed.is_ok(), "{:?}", self.error());
    }

    pub fn stop(&self) {
        self.pipeline.set_state(gst::State::Ready).unwrap();
        // Going to NULL empties the bus.
        self.read();
        self.pipeline.set_state(gst::State::Null).unwrap();
    }

    /// Runs until EOS; an error ends the test.
    pub fn to_eos(&self) {
        self.play();
        self.wait("end of stream", |run| {
            assert_eq!(run.error(), None);
            run.has(gst::MessageType::Eos)
        });
        self.stop();
    }

    fn read(&self) {
        let bus = self.pipeline.bus().unwrap();
        self.messages.lock().unwrap().extend(bus.iter());
    }

    pub fn has(&self, type_: gst::MessageType) -> bool {
        self.read();
        self.messages
            .lock()
            .unwrap()
            .iter()
            .any(|message| message.type_() == type_)
    }

    /// Text of the first error message.
    pub fn error(&self) -> Option<String> {
        self.read();
        self.messages
            .lock()
            .unwrap()
            .iter()
            .find_map(|message| match message.view() {
                gst::MessageView::Error(e) => Some(e.error().to_string()),
                _ => None,
            })
    }

    /// Texts of the warnings.
    pub fn warnings(&self) -> Vec<String> {
        self.read();
        let messages = self.messages.lock().unwrap();
        messages
            .iter()
            .filter_map(|message| match message.view() {
                gst::MessageView::Warning(e) => Some(e.error().to_string()),
                _ => None,
            })
            .collect()
    }

    /// Element messages with this name so far.
    pub fn messages(&self, name: &str) -> Vec<gst::Structure> {
        self.read();
        let messages = self.messages.lock().unwrap();
        messages
            .iter()
            .filter_map(|message| message.structure().map(|s| s.to_owned()))
            .filter(|s| s.name() == name)
            .collect()
    }

    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.element("rec").property::<gst::Structure>("stats");
        stats.get(name).unwrap()
    }

    /// Waits until `done`, which something else brings about.
    pub fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(
                start.elapsed() < LIMIT,
                "{what} did not happen: {:?}",
                self.error()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The frames that GStreamer's demuxer finds in a Matroska stream, and their caps.
pub fn demux(stream: &[u8]) -> (gst::Caps, Vec<Frame>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stream.mkv");
    fs::write(&file, stream).unwrap();
    let description = format!(
        "filesrc location={} ! matroskademux ! fakesink name=out async=false sync=false",
        file.display()
    );
    let run = Run::new(&description);
    let pad = run.element("out").static_pad("sink").unwrap();
    let frames = Frames::of(&pad);
    run.play();
    run.wait("end of the stream", |run| {
        assert_eq!(run.error(), None);
        run.has(gst::MessageType::Eos)
    });
    let caps = pad.current_caps().unwrap();
    run.stop();
    (caps, frames.all())
}

/// The bytes of frames.
pub fn bytes(frames: &[Frame]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| frame.bytes.clone()).collect()
}

/// Frames with their times in milliseconds.
pub type Stored = Vec<(u64, Vec<u8>)>;

/// The frames of a stream, as they stand in it.
pub fn stored(stream: &[u8]) -> Stored {
    let mut cutter = Cutter::new();
    let mut pieces = cutter.push(stream).unwrap();
    pieces.extend(cutter.cut().unwrap().map(Piece::Cluster));
    let clusters = pieces.iter().filter_map(|piece| match piece {
        Piece::Header(_) => None,
        Piece::Cluster(cluster) => Some(&cluster.bytes),
    });
    clusters
        .flat_map(|cluster| blocks(cluster, cutter.scale()).unwrap())
        .map(|block| (block.time_ns / 1_000_000, block.frame.to_vec()))
        .collect()
}
