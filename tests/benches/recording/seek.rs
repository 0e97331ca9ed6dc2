//! Seeks through `compliancesrc`: from the flushing seek until a frame has come out on every pad. The tars are taken out
//! of the page cache before each seek. The first seek in a recording is one by itself: later ones know where keyframes are
//! that were looked for before.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret;
use gst::prelude::*;
use gstcompliance::recording::TRACKS;
use rustix::fs::{Advice, fadvise};

use super::common::{LIMIT, Place};
use super::{percentile, verdict};

const SEEKS: usize = 50;
const FIRST_SEEKS: usize = 15;
const AT_MOST_MS: f64 = 100.0;

/// A pipeline that stops at the wanted time, and tells when frames come out.
struct Player {
    pipeline: gst::Pipeline,
    came: mpsc::Receiver<(String, Instant)>,
    pads: usize,
}

impl Player {
    fn new(place: &Place, recording: &Path) -> Self {
        let identity = place.path("identity");
        fs::write(&identity, place.recipient.to_string().expose_secret()).unwrap();
        fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).unwrap();
        let source = gst::ElementFactory::make("compliancesrc")
            .property("location", recording.to_str().unwrap())
            .property("identity-file", identity.to_str().unwrap())
            .property("audit-log", place.path("log").to_str().unwrap())
            .property("reader", "dr-17")
            .property("reason", "how long a seek takes")
            .property("ticket", "none")
            .build()
            .unwrap();
        let pipeline = gst::Pipeline::new();
        pipeline.add(&source).unwrap();
        let (tell, came) = mpsc::channel();
        let weak = pipeline.downgrade();
        source.connect_pad_added(move |_, pad| {
            let tell = tell.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
                tell.send((pad.name().into(), Instant::now())).unwrap();
                gst::PadProbeReturn::Ok
            });
            // In PAUSED it takes one frame of the wanted time and waits.
            let sink = gst::ElementFactory::make("fakesink").build().unwrap();
            weak.upgrade().unwrap().add(&sink).unwrap();
            sink.sync_state_with_parent().unwrap();
            pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        });
        pipeline.set_state(gst::State::Paused).unwrap();
        let mut player = Self {
            pipeline,
            came,
            pads: 0,
        };
        player.settle();
        player.pads = source.src_pads().len();
        player
    }

    /// Waits until every sink has its frame, those aside that only lead up to the wanted time.
    fn settle(&self) {
        let limit = gst::ClockTime::try_from(LIMIT).unwrap();
        let reached = self.pipeline.state(limit).1;
        assert_eq!(reached, gst::State::Paused);
        self.came.try_iter().for_each(drop);
    }

    /// Seeks; how long until the first and until the last of the pads had a frame out.
    fn seek(&self, flags: gst::SeekFlags, to_ms: u64) -> [Duration; 2] {
        let begun = Instant::now();
        let to = gst::ClockTime::from_mseconds(to_ms);
        self.pipeline
            .seek_simple(gst::SeekFlags::FLUSH | flags, to)
            .unwrap();
        let mut times = Vec::new();
        let mut pads = Vec::new();
        while times.len() < self.pads {
            let (pad, at) = self.came.recv_timeout(LIMIT).unwrap();
            if !pads.contains(&pad) {
                pads.push(pad);
                times.push(at - begun);
            }
        }
        self.settle();
        times.sort();
        [times[0], times[times.len() - 1]]
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Forgets what the system has in memory of the tars.
fn forget(recording: &Path) {
    forget_files(&recording.join(TRACKS));
}

/// Forgets what the system has in memory of the files in a folder.
pub fn forget_files(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fadvise(File::open(path).unwrap(), 0, None, Advice::DontNeed).unwrap();
        }
    }
}

/// Times between 0 and `end_ms`, without a pattern.
fn times(end_ms: u64) -> impl Iterator<Item = u64> {
    let step = |state: u64| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        state ^ (state << 17)
    };
    std::iter::successors(Some(0x9e37_79b9_7f4a_7c15), move |state| Some(step(*state)))
        .map(move |state| state % end_ms)
}

pub fn run(place: &Place, recording: &Path, end_ms: u64) {
    let begun = Instant::now();
    let player = Player::new(place, recording);
    println!(
        "  opened, with a frame on each pad, in {:.0} ms",
        begun.elapsed().as_secs_f64() * 1e3
    );
    for (what, flags) in [
        ("to a keyframe", gst::SeekFlags::KEY_UNIT),
        ("accurate", gst::SeekFlags::ACCURATE),
    ] {
        let (mut first, mut all) = (Vec::new(), Vec::new());
        for time in times(end_ms).take(SEEKS) {
            forget(recording);
            let [of_first, of_all] = player.seek(flags, time);
            first.push(of_first.as_secs_f64() * 1e3);
            all.push(of_all.as_secs_f64() * 1e3);
        }
        let worst = percentile(&mut all, 99);
        println!(
            "  {SEEKS} seeks {what}: first frame median {:.1} ms, p99 {:.1}; a frame on each pad median {:.1} ms, p99 \
             {worst:.1}; under {AT_MOST_MS}: {}",
            percentile(&mut first, 50),
            percentile(&mut first, 99),
            percentile(&mut all, 50),
            verdict(worst < AT_MOST_MS)
        );
    }
}

/// Each seek is the first one after the recording was opened.
pub fn first(place: &Place, recording: &Path, end_ms: u64) {
    for (what, flags) in [
        ("to a keyframe", gst::SeekFlags::KEY_UNIT),
        ("accurate", gst::SeekFlags::ACCURATE),
    ] {
        let mut all: Vec<_> = times(end_ms)
            .take(FIRST_SEEKS)
            .map(|time| {
                let player = Player::new(place, recording);
                forget(recording);
                player.seek(flags, time)[1].as_secs_f64() * 1e3
            })
            .collect();
        let worst = percentile(&mut all, 100);
        println!(
            "  {FIRST_SEEKS} first seeks {what}: a frame on each pad median {:.1} ms, at worst {worst:.1}; under \
             {AT_MOST_MS}: {}",
            percentile(&mut all, 50),
            verdict(worst < AT_MOST_MS)
        );
    }
}
