//! Many calls at once in real time, each into a `compliancesink` of its own, all of them with one audit log: what share
//! of a core they take, and how long after a frame came in it is sealed, which is when `compliance-segment` tells so.
//!
//! One thread pushes the frames of all calls, spread over each 20 ms; what that takes counts, too.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_e2ee_tests::bench::timed;
use rustix::time::{ClockId, clock_gettime};

use super::common::feed::Feed;
use super::common::{Place, Run};
use super::frames::Kind;
use super::{percentile, verdict};

const SECONDS: u64 = 10;
const TICK_MS: u64 = 20;
const TICKS: u64 = SECONDS * 1000 / TICK_MS;
/// Parts of a tick in which some of the calls have their turn.
const TURNS: usize = 10;
const SEGMENT_MS: f64 = 1000.0;
const AT_MOST_MS: f64 = SEGMENT_MS + 100.0;

/// A member that was sealed.
struct Sealed {
    track: u32,
    ms: std::ops::Range<u64>,
    at: Instant,
}

/// A call on its way onto the disk. Its tracks have the numbers of its feeds.
struct Call {
    feeds: Vec<(Kind, Feed)>,
    run: Run,
    sealed: Arc<Mutex<Vec<Sealed>>>,
    /// When the frames of each tick were pushed.
    came: Vec<Instant>,
    pushed: u64,
}

impl Call {
    fn new(place: &Place, kinds: &[Kind]) -> Self {
        let run = place.paused_recorder("require-room=false");
        let sealed = Arc::<Mutex<Vec<Sealed>>>::default();
        let noted = sealed.clone();
        run.pipeline.bus().unwrap().set_sync_handler(move |_, message| {
            let at = Instant::now();
            if let Some(member) = message.structure().filter(|s| s.name() == "compliance-segment") {
                let ms = |name| member.get::<u64>(name).unwrap() / 1_000_000;
                noted.lock().unwrap().push(Sealed {
                    track: member.get("track").unwrap(),
                    ms: ms("start")..ms("stop"),
                    at,
                });
            }
            match message.type_() {
                gst::MessageType::Error | gst::MessageType::Warning => gst::BusSyncReply::Pass,
                _ => gst::BusSyncReply::Drop,
            }
        });
        run.play();
        let recorder = run.element("rec");
        let feeds = kinds
            .iter()
            .map(|kind| (*kind, Feed::new(&recorder, kind.caps())))
            .collect();
        Self {
            feeds,
            run,
            sealed,
            came: Vec::new(),
            pushed: 0,
        }
    }

    fn push(&mut self, tick: u64) {
        self.came.push(Instant::now());
        for (kind, feed) in &self.feeds {
            let ms = tick * TICK_MS;
            for frame in kind.frames(ms..ms + TICK_MS) {
                feed.push(frame.buffer());
                self.pushed += 1;
            }
        }
    }

    /// Milliseconds from each frame's coming until it was sealed, and of each member from its first frame's.
    fn times(&self) -> (Vec<f64>, Vec<f64>) {
        let (mut frames, mut members) = (Vec::new(), Vec::new());
        for sealed in self.sealed.lock().unwrap().iter() {
            let (kind, _) = self.feeds[sealed.track as usize];
            let times = kind.frames(sealed.ms.clone()).map(|frame| {
                let came = self.came[(frame.ms / TICK_MS) as usize];
                (sealed.at - came).as_secs_f64() * 1e3
            });
            let from = frames.len();
            frames.extend(times);
            members.push(frames[from]);
        }
        (frames, members)
    }

    fn all_sealed(&self) -> bool {
        self.times().0.len() as u64 == self.pushed
    }

    /// Gaps, and frames that were dropped for whatever reason.
    fn missing(&self) -> u64 {
        self.run.stat("gaps") + (self.pushed - self.run.stat("frames"))
    }
}

/// Time that all threads of this process had a core.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// What the disk takes meanwhile for one fdatasync of 4 KiB at the end of a file of its own: milliseconds.
fn disk(path: &Path) -> Vec<f64> {
    let mut file = File::create(path).unwrap();
    (0..SECONDS * 10)
        .map(|_| {
            sleep(Duration::from_millis(100));
            file.write_all(&[7; 4096]).unwrap();
            let (time, ()) = timed(|| file.sync_data().unwrap());
            time.as_secs_f64() * 1e3
        })
        .collect()
}

fn measure(what: &str, kinds: &[Kind], count: u32) {
    let place = Place::new(count);
    // One after the other, so that their segments end at different times.
    let (mut calls, mut starts) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (time, call) = timed(|| Call::new(&place, kinds));
        calls.push(call);
        starts.push(time.as_secs_f64() * 1e3);
    }
    let file = place.path("sync");
    let disk = thread::spawn(move || disk(&file));
    let (cpu, begun) = (cpu_time(), Instant::now());
    let mut late = Duration::ZERO;
    for tick in 0..TICKS {
        for turn in 0..TURNS {
            let turns = tick * TURNS as u64 + turn as u64;
            let due = begun + Duration::from_micros(turns * TICK_MS * 1000 / TURNS as u64);
            sleep(due.saturating_duration_since(Instant::now()));
            late = late.max(due.elapsed());
            for call in calls.iter_mut().skip(turn).step_by(TURNS) {
                call.push(tick);
            }
        }
    }
    let share = (cpu_time() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let limit = Instant::now() + Duration::from_secs(10);
    while !calls.iter().all(Call::all_sealed) && Instant::now() < limit {
        sleep(Duration::from_millis(50));
    }
    let mut disk = disk.join().unwrap();
    let missing: u64 = calls.iter().map(Call::missing).sum();
    let (mut frames, mut members) = (Vec::new(), Vec::new());
    for call in &calls {
        let (of_frames, of_members) = call.times();
        frames.extend(of_frames);
        members.extend(of_members);
    }
    let failures: Vec<_> = calls.iter().filter_map(|call| call.run.error()).collect();
    let pushed: u64 = calls.iter().map(|call| call.pushed).sum();
    let worst = percentile(&mut frames, 99);
    println!(
        "  {count} calls of {what}: {:.0} % of a core, so that a core takes {:.0}; at least {count}: {}",
        share * 100.0,
        f64::from(count) / share,
        verdict(share <= 1.0)
    );
    println!(
        "    {} of {pushed} frames sealed, {missing} dropped or in gaps: {}",
        frames.len(),
        verdict(missing == 0 && frames.len() as u64 == pushed)
    );
    if let Some(failure) = failures.first() {
        println!(
            "    {} recordings failed: NOT met; the first: {failure}",
            failures.len()
        );
    }
    println!(
        "    from frame in to sealed: median {:.0} ms, p99 {worst:.0} ms; at most a segment and 100 ms: {} \
         (p99 of the members' first frames {:.0} ms; frames were up to {:.0} ms late themselves)",
        percentile(&mut frames, 50),
        verdict(worst <= AT_MOST_MS),
        percentile(&mut members, 99),
        late.as_secs_f64() * 1e3
    );
    println!(
        "    meanwhile a bare fdatasync took {:.1} ms, p99 {:.0} ms, at worst {:.0} ms",
        percentile(&mut disk, 50),
        percentile(&mut disk, 99),
        percentile(&mut disk, 100)
    );
    println!(
        "    the first recorder started in {:.0} ms, the last one beside all others in {:.0} ms",
        starts[0],
        starts[starts.len() - 1]
    );
    // Ending a recording waits for the disk some times.
    thread::scope(|scope| {
        for call in &calls {
            scope.spawn(|| call.run.stop());
        }
    });
}

pub fn run() {
    println!("Calls for {SECONDS} s, one recording each, segments of 1 s:");
    measure(
        "sound and pictures, 1.5 Mbit/s",
        &[Kind::Sound, Kind::Pictures],
        50,
    );
    measure("sound, 64 kbit/s", &[Kind::Sound], 200);
}
