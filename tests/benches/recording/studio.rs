//! Recordings faster than time passes: `matroskamux` set as `compliancesink` sets it, and the recording's writer. The
//! element itself ends members as time passes, so that an hour would take one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use gst::prelude::*;
use gst_check::Harness;
use gstcompliance::audit::Log;
use gstcompliance::bundle::take_next;
use gstcompliance::matroska::{Cutter, Piece};
use gstcompliance::recording::{Claim, RealDisk, Recording, Segment, Start, Track};

use super::common::Place;
use super::frames::Kind;

/// Unix time in milliseconds at which the recordings begin.
const TIME: u64 = 1_760_000_000_000;

/// Members between two syncs: how often the disk is waited for changes nothing of what lies there.
const BATCH: u64 = 60;

/// A track on its way into members.
struct Muxer {
    kind: Kind,
    harness: Harness,
    cutter: Cutter,
    has_begun: bool,
}

fn muxer() -> gst::Element {
    gst::ElementFactory::make("matroskamux")
        .property("streamable", true)
        .build()
        .unwrap()
}

impl Muxer {
    fn new(kind: Kind, segment_ms: u64) -> Self {
        let muxer = muxer();
        let limit = i64::try_from(segment_ms * 1_500_000).unwrap();
        muxer.set_property("max-cluster-duration", limit);
        muxer.set_property("min-cluster-duration", limit);
        muxer.set_property("writing-app", "gst-plugins-e2ee compliancesink");
        let mut harness = Harness::with_element(&muxer, Some(kind.pad()), Some("src"));
        harness.set_src_caps(kind.caps().parse().unwrap());
        Self {
            kind,
            harness,
            cutter: Cutter::new(),
            has_begun: false,
        }
    }

    /// The frames of this time as a member.
    fn member(&mut self, ms: std::ops::Range<u64>) -> Segment {
        let (mut bytes, mut frames, mut keyframes, mut end_ms) = (Vec::new(), 0, 0, ms.start);
        if std::mem::replace(&mut self.has_begun, true) {
            self.harness.push_event(new_cluster());
        }
        for frame in self.kind.frames(ms.clone()) {
            self.harness.push(frame.buffer()).unwrap();
            while let Some(made) = self.harness.try_pull() {
                for piece in self.cutter.push(&made.map_readable().unwrap()).unwrap() {
                    match piece {
                        Piece::Header(header) => bytes.extend(header),
                        Piece::Cluster(_) => panic!("the muxer ended a member by itself"),
                    }
                }
            }
            frames += 1;
            keyframes += u32::from(frame.is_key);
            end_ms = frame.ms + frame.lasts_ms;
        }
        bytes.extend(self.cutter.cut().unwrap().unwrap().bytes);
        Segment {
            bytes: bytes.into(),
            from_ns: ms.start * 1_000_000,
            to_ns: end_ms * 1_000_000,
            epoch: (1, 1),
            leaf: Some(3),
            frames,
            keyframes: (self.kind != Kind::Sound).then_some(keyframes),
        }
    }
}

/// Makes the muxer begin a Cluster.
fn new_cluster() -> gst::Event {
    let none = gst::ClockTime::NONE;
    let structure = gst::Structure::builder("GstForceKeyUnit")
        .field("timestamp", none)
        .field("stream-time", none)
        .field("running-time", none)
        .field("all-headers", false)
        .field("count", 0u32)
        .build();
    gst::event::CustomDownstream::new(structure)
}

/// Records so much of these tracks, all from one sender; gives the folder.
pub fn record(place: &Place, kinds: &[Kind], seconds: u64, segment_ms: u64) -> PathBuf {
    let log = Log::open(&place.path("log")).unwrap();
    let bundle = take_next(&place.path("keys"), None, &|_| true).unwrap();
    let location = place.path("recordings");
    fs::create_dir_all(&location).unwrap();
    let start = Start {
        time: TIME,
        room: None,
        recorder: None,
        policy: None,
        claim: Claim::Unattested,
        consent: None,
        retention_days: None,
        attest: None,
    };
    let mut recording =
        Recording::create(&location, &bundle, start, log.signer(), Arc::new(RealDisk)).unwrap();
    let mut tracks: Vec<_> = kinds
        .iter()
        .map(|kind| {
            let track = Track {
                medium: kind.medium(),
                caps: kind.caps().to_owned(),
                leaf: Some(3),
                sender: "participant-42".to_owned(),
            };
            (
                recording.open_track(track).unwrap(),
                Muxer::new(*kind, segment_ms),
            )
        })
        .collect();
    for member in 0..(seconds * 1000).div_ceil(segment_ms) {
        let end = ((member + 1) * segment_ms).min(seconds * 1000);
        for (track, muxer) in &mut tracks {
            let segment = muxer.member(member * segment_ms..end);
            recording.append(*track, segment).unwrap();
        }
        if member % BATCH == 0 {
            recording.sync().unwrap();
        }
    }
    recording.end(TIME + seconds * 1000, "eos").unwrap();
    recording.path().to_owned()
}

/// Bytes of the same frames in one plain Matroska stream: `matroskamux streamable=true`, else as it is. It has no index
/// of its own, which would make it larger.
pub fn plain(kinds: &[Kind], seconds: u64) -> u64 {
    let muxer = muxer();
    let bytes = Arc::<AtomicU64>::default();
    let counted = bytes.clone();
    let sink = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, buffer| {
            counted.fetch_add(buffer.size() as u64, Ordering::Relaxed);
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(|_, _, _| true)
        .build();
    sink.set_active(true).unwrap();
    muxer.static_pad("src").unwrap().link(&sink).unwrap();
    let pads: Vec<_> = kinds
        .iter()
        .map(|kind| {
            let pad = gst::Pad::builder(gst::PadDirection::Src).build();
            pad.set_active(true).unwrap();
            pad.link(&muxer.request_pad_simple(kind.pad()).unwrap()).unwrap();
            (*kind, pad)
        })
        .collect();
    muxer.set_state(gst::State::Playing).unwrap();
    // The muxer lets a track wait for the others.
    thread::scope(|scope| {
        for (kind, pad) in &pads {
            scope.spawn(move || {
                pad.push_event(gst::event::StreamStart::new(kind.pad()));
                pad.push_event(gst::event::Caps::new(&kind.caps().parse().unwrap()));
                let segment = gst::FormattedSegment::<gst::ClockTime>::new();
                pad.push_event(gst::event::Segment::new(&segment));
                for frame in kind.frames(0..seconds * 1000) {
                    pad.push(frame.buffer()).unwrap();
                }
                pad.push_event(gst::event::Eos::new());
            });
        }
    });
    muxer.set_state(gst::State::Null).unwrap();
    bytes.load(Ordering::Relaxed)
}

/// Bytes of all files below a folder.
pub fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let facts = entry.metadata().unwrap();
            if facts.is_dir() {
                bytes(&entry.path())
            } else {
                facts.len()
            }
        })
        .sum()
}
