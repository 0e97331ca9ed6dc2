//! A recorder is killed after an hour of sound and pictures: how long it takes until one that starts there records again.
//!
//! The recorder is a process of its own, which is this program again. An hour goes into it as fast as it takes it; its
//! members are as many as if time had passed. Nothing of what it reads is in the page cache when it comes back.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstcompliance::recording::{State, TRACKS};

use super::common::feed::Feed;
use super::common::{Place, Run, init, verified};
use super::frames::Kind;
use super::seek::forget_files;
use super::{percentile, verdict};

const HOUR: u64 = 3600;
const KILLS: usize = 7;
const AT_MOST_MS: f64 = 1000.0;

/// The element, as for gst-launch, and how many seconds of media it is to have before time counts.
const ELEMENT: &str = "GST_E2EE_BENCH_RECORDER";
const SECONDS: &str = "GST_E2EE_BENCH_SECONDS";

/// What comes faster than time passes ends a member after one and a half times as long.
const PROPERTIES: &str = "require-room=false segment-duration=666666666";

/// So much may wait for the disk.
const QUEUE: u64 = 16 << 20;

/// Is this process the recorder? Then it has recorded until it was killed.
pub fn is_recorder() -> bool {
    let Ok(element) = std::env::var(ELEMENT) else {
        return false;
    };
    let seconds: u64 = std::env::var(SECONDS).unwrap().parse().unwrap();
    init();
    let run = Run::of(gst::Pipeline::new());
    run.pipeline.add(&gst::parse::launch(&element).unwrap()).unwrap();
    let begun = Instant::now();
    run.play();
    run.wait("the start", |run| !run.messages("compliance-started").is_empty());
    say(&format!("started {}", begun.elapsed().as_micros()));
    let recorder = run.element("rec");
    let feeds = [Kind::Sound, Kind::SmallPictures].map(|kind| (kind, Feed::new(&recorder, kind.caps())));
    for second in 0.. {
        for (kind, feed) in &feeds {
            for frame in kind.frames(second * 1000..(second + 1) * 1000) {
                feed.push(frame.buffer());
            }
        }
        if second < seconds {
            run.wait("the disk", |run| run.stat("queue-bytes") < QUEUE);
        } else {
            if second == seconds {
                // Nothing waits and nothing is under way: all of it is sealed.
                run.wait("the disk", |run| {
                    run.stat("queue-bytes") == 0 && run.stat("queue-time") == 0
                });
                say("recorded");
            }
            sleep(Duration::from_secs(1));
        }
        assert_eq!((run.error(), run.stat("gaps")), (None, 0));
    }
    true
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// The recorder's process; it is killed, whatever happens.
struct Recorder {
    process: Child,
    says: BufReader<ChildStdout>,
}

impl Recorder {
    fn start(place: &Place, seconds: u64) -> Self {
        let element = format!("compliancesink name=rec {PROPERTIES} {}", place.properties());
        let mut process = Command::new(std::env::current_exe().unwrap())
            .env(ELEMENT, element)
            .env(SECONDS, seconds.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(process.stdout.take().unwrap());
        Self { process, says }
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Milliseconds from PLAYING until it records.
    fn started(&mut self) -> f64 {
        let line = self.hear();
        let time: f64 = line.strip_prefix("started ").unwrap().parse().unwrap();
        time / 1e3
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn run() {
    let place = Place::new(1);
    let begun = Instant::now();
    let mut recorder = Recorder::start(&place, HOUR);
    recorder.started();
    assert_eq!(recorder.hear(), "recorded");
    let took = begun.elapsed();
    drop(recorder);
    let report = verified(&place.recording());
    let members: u64 = report.tracks.iter().map(|track| track.members).sum();
    println!(
        "\nA recorder is killed after an hour of sound and pictures (which took {:.0} s), {members} members:",
        took.as_secs_f64()
    );
    let mut times = Vec::new();
    for _ in 0..KILLS {
        let recording = place.recording();
        for folder in [recording.clone(), recording.join(TRACKS), place.path("log")] {
            forget_files(&folder);
        }
        let mut recorder = Recorder::start(&place, 0);
        times.push(recorder.started());
        assert_eq!(recorder.hear(), "recorded");
    }
    let worst = percentile(&mut times, 100);
    println!(
        "  {KILLS} kills: from PLAYING to recording again median {:.0} ms, at worst {worst:.0}; under {AT_MOST_MS}: {}",
        percentile(&mut times, 50),
        verdict(worst < AT_MOST_MS)
    );
    // And it ends well.
    let run = place.recorder(PROPERTIES);
    run.stop();
    let report = verified(&place.recording());
    assert_eq!(report.state, State::Complete);
    assert_eq!(report.resumed, KILLS as u64 + 1);
    let length = report.tracks.iter().map(|track| track.to_ns).max().unwrap();
    assert!(length >= HOUR * 1_000_000_000);
}
