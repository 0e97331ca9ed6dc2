//! Recordings whose every frame, member and gap the test decides: `matroskamux` and the recording's writer, without the
//! recorder's clock and threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gst_check::Harness;
use gstcompliance::audit::{Entry, Event, Log};
use gstcompliance::bundle::take_next;
use gstcompliance::matroska::{Cutter, Piece};
use gstcompliance::recording::{Claim, Gap, Medium, RealDisk, Recording, Segment, Start, Track, TrackId};
use zeroize::Zeroizing;

use super::common::Place;

pub const VP8: &str = "video/x-vp8, width=(int)64, height=(int)48, framerate=(fraction)25/1";
pub const OPUS: &str = "audio/x-opus, rate=(int)48000, channels=(int)1, channel-mapping-family=(int)0";
pub const TEXT: &str = "text/x-raw, format=(string)utf8";

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub ms: u64,
    pub lasts_ms: u64,
    pub key: bool,
    pub bytes: Vec<u8>,
}

/// A track to be recorded.
#[derive(Clone)]
pub struct Plan {
    pub medium: Medium,
    pub caps: String,
    pub sender: &'static str,
    /// The frames of each member.
    pub members: Vec<Vec<Frame>>,
    /// From, to, how many frames.
    pub gaps: Vec<(u64, u64, u64)>,
}

impl Plan {
    /// A track whose members last a second.
    pub fn new(
        medium: Medium,
        caps: &str,
        sender: &'static str,
        frames: impl Iterator<Item = Frame>,
    ) -> Self {
        let mut members: Vec<Vec<Frame>> = Vec::new();
        for frame in frames {
            match members.last_mut() {
                Some(member) if member[0].ms / 1000 == frame.ms / 1000 => member.push(frame),
                _ => members.push(vec![frame]),
            }
        }
        Self {
            medium,
            caps: caps.to_owned(),
            sender,
            members,
            gaps: Vec::new(),
        }
    }

    /// Pictures every 40 ms, with a keyframe every `gop_ms`.
    pub fn video(sender: &'static str, from_ms: u64, to_ms: u64, gop_ms: u64) -> Self {
        Self::slow_video(sender, from_ms, to_ms, gop_ms, 40)
    }

    pub fn slow_video(sender: &'static str, from_ms: u64, to_ms: u64, gop_ms: u64, every_ms: u64) -> Self {
        let frames = (from_ms..to_ms).step_by(every_ms as usize).map(|ms| Frame {
            ms,
            lasts_ms: 40,
            key: (ms - from_ms).is_multiple_of(gop_ms),
            bytes: format!("picture of {sender} at {ms}").into_bytes(),
        });
        Self::new(Medium::Video, VP8, sender, frames)
    }

    /// Sound every 20 ms.
    pub fn audio(sender: &'static str, from_ms: u64, to_ms: u64) -> Self {
        let frames = (from_ms..to_ms).step_by(20).map(|ms| Frame {
            ms,
            lasts_ms: 20,
            key: true,
            bytes: format!("sound of {sender} at {ms}").into_bytes(),
        });
        Self::new(Medium::Audio, OPUS, sender, frames)
    }

    /// These texts, each for a second.
    pub fn text(sender: &'static str, texts: &[(u64, &str)]) -> Self {
        let frames = texts.iter().map(|(ms, text)| Frame {
            ms: *ms,
            lasts_ms: 1000,
            key: true,
            bytes: text.as_bytes().to_vec(),
        });
        Self::new(Medium::Text, TEXT, sender, frames)
    }

    /// The recorder kept nothing then.
    pub fn without(mut self, from_ms: u64, to_ms: u64) -> Self {
        let is_lost = |frame: &Frame| (from_ms..to_ms).contains(&frame.ms);
        let lost = self.frames().iter().filter(|frame| is_lost(frame)).count();
        for member in &mut self.members {
            member.retain(|frame| !is_lost(frame));
        }
        self.members.retain(|member| !member.is_empty());
        self.gaps.push((from_ms, to_ms, lost as u64));
        self
    }

    pub fn frames(&self) -> Vec<Frame> {
        self.members.concat()
    }
}

/// Muxes the frames of each member: the first one begins with the header.
fn mux(plan: &Plan) -> Vec<Vec<u8>> {
    let muxer = gst::ElementFactory::make("matroskamux")
        .property("streamable", true)
        .property("max-cluster-duration", i64::MAX)
        .property("min-cluster-duration", i64::MAX)
        .build()
        .unwrap();
    let pad = match plan.medium {
        Medium::Video => "video_%u",
        Medium::Audio => "audio_%u",
        Medium::Text | Medium::Data => "subtitle_%u",
    };
    let mut harness = Harness::with_element(&muxer, Some(pad), Some("src"));
    harness.set_src_caps(plan.caps.parse().unwrap());
    let mut cutter = Cutter::new();
    let mut members = Vec::new();
    for frames in &plan.members {
        let mut bytes = Vec::new();
        for (i, frame) in frames.iter().enumerate() {
            if i == 0 && !members.is_empty() {
                let none = gst::ClockTime::NONE;
                let cluster = gst::Structure::builder("GstForceKeyUnit")
                    .field("timestamp", none)
                    .field("stream-time", none)
                    .field("running-time", none)
                    .field("all-headers", false)
                    .field("count", 0u32);
                harness.push_event(gst::event::CustomDownstream::new(cluster.build()));
            }
            let mut buffer = gst::Buffer::from_slice(frame.bytes.clone());
            let of = buffer.get_mut().unwrap();
            of.set_pts(gst::ClockTime::from_mseconds(frame.ms));
            of.set_duration(gst::ClockTime::from_mseconds(frame.lasts_ms));
            if !frame.key {
                of.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
            harness.push(buffer).unwrap();
            while let Some(made) = harness.try_pull() {
                for piece in cutter.push(&made.map_readable().unwrap()).unwrap() {
                    match piece {
                        Piece::Header(header) => bytes.extend(header),
                        Piece::Cluster(cluster) => bytes.extend(cluster.bytes),
                    }
                }
            }
        }
        bytes.extend(cutter.cut().unwrap().unwrap().bytes);
        members.push(bytes);
    }
    members
}

fn start(consent: Option<String>) -> Start {
    Start {
        time: 1_760_000_000_000,
        room: None,
        recorder: None,
        policy: None,
        claim: Claim::Unattested,
        consent,
        retention_days: None,
        attest: None,
    }
}

fn ns(ms: u64) -> u64 {
    ms * 1_000_000
}

/// What the recorder leaves of caps in the manifest.
fn without_headers(caps: &str) -> String {
    let mut caps: gst::Caps = caps.parse().unwrap();
    for structure in caps.make_mut().iter_mut() {
        structure.remove_fields(["codec_data", "streamheader"]);
    }
    caps.to_string()
}

/// Records, without the end record.
pub fn record_on(place: &Place, plans: &[Plan]) -> (Recording, Log) {
    record_under(place, plans, None)
}

/// The same under a consent that it names by this reference.
pub fn record_under(place: &Place, plans: &[Plan], consent: Option<String>) -> (Recording, Log) {
    let log = Log::open(&place.path("log")).unwrap();
    let bundle = take_next(&place.path("keys"), None, &|_| true).unwrap();
    fs::create_dir_all(place.path("recordings")).unwrap();
    let disk = Arc::new(RealDisk);
    let mut recording = Recording::create(
        &place.path("recordings"),
        &bundle,
        start(consent),
        log.signer(),
        disk,
    )
    .unwrap();
    let tracks: Vec<TrackId> = plans
        .iter()
        .map(|plan| {
            let track = Track {
                medium: plan.medium,
                caps: without_headers(&plan.caps),
                leaf: Some(3),
                sender: plan.sender.to_owned(),
            };
            recording.open_track(track).unwrap()
        })
        .collect();
    for (track, plan) in tracks.iter().zip(plans) {
        for (frames, bytes) in plan.members.iter().zip(mux(plan)) {
            let segment = Segment {
                bytes: Zeroizing::new(bytes),
                from_ns: ns(frames.iter().map(|frame| frame.ms).min().unwrap()),
                to_ns: ns(frames
                    .iter()
                    .map(|frame| frame.ms + frame.lasts_ms)
                    .max()
                    .unwrap()),
                epoch: (1, 1),
                leaf: Some(3),
                frames: frames.len() as u32,
                keyframes: (plan.medium == Medium::Video)
                    .then(|| frames.iter().filter(|frame| frame.key).count() as u32),
            };
            recording.append(*track, segment).unwrap();
        }
        for (from, to, frames) in &plan.gaps {
            let gap = Gap {
                from_ns: ns(*from),
                to_ns: ns(*to),
                frames: *frames,
                cause: "queue-full".to_owned(),
            };
            recording.gap(*track, gap).unwrap();
        }
    }
    recording.sync().unwrap();
    (recording, log)
}

/// Records, and gives the recording's folder.
pub fn record(place: &Place, plans: &[Plan]) -> PathBuf {
    let (mut recording, _log) = record_on(place, plans);
    recording.end(1_760_000_100_000, "eos").unwrap();
    recording.path().to_owned()
}

/// Writes into the log how far the manifest goes.
pub fn note_root(recording: &Recording, log: &Log) {
    let root = recording.root();
    let entry = Entry {
        time: 1_760_000_000_000,
        recording: Some(recording.id()),
        event: Event::Manifest {
            lines: root.lines,
            root: root.root,
        },
    };
    log.append(&entry).unwrap();
}

/// Flips a bit in a member of a track.
pub fn damage(recording: &Path, tar: &str, sequence: usize) {
    let path = recording.join("tracks").join(tar);
    let mut bytes = fs::read(&path).unwrap();
    let mut at = 0;
    for _ in 0..sequence {
        at += 512 + size(&bytes[at..]).next_multiple_of(512);
    }
    let middle = at + 512 + size(&bytes[at..]) / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
}

/// Size of the member whose header this is.
fn size(header: &[u8]) -> usize {
    let octal = std::str::from_utf8(&header[124..135]).unwrap();
    usize::from_str_radix(octal, 8).unwrap()
}
