//! The disk fills up while it records: a real one, a small tmpfs, for which the tests have to be root.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gstcompliance::audit::Event;
use gstcompliance::recording::State;

use crate::common::disk::{Trouble, Troubled};
use crate::common::feed::{Feed, OPUS, VP8, delta, frame};
use crate::common::{LIMIT, Place, events, stored, verified};
use crate::{Random, assert_intact, count};

/// A small disk; unmounted, whatever happens to the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None: this is not root.
    fn mount(path: PathBuf, kib: u64) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        if !rustix::process::geteuid().is_root() {
            println!("only root can mount a small disk; an injected one is full instead");
            return None;
        }
        let options = format!("size={kib}k,mode=700");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(&path)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "root cannot mount a tmpfs here ({}): give the container CAP_SYS_ADMIN, or test as another user",
            error.trim()
        );
        Some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Records on a disk that fills up; returns how long it took from the first write that failed until the error was told.
fn fill(random: &mut Random, kib: u64, with_log: bool) -> Duration {
    let place = Place::new(1);
    let small = place.path("small");
    let disk = SmallDisk::mount(small.clone(), kib);
    let names = if with_log { 2 } else { 1 };
    for name in &["recordings", "log"][..names] {
        fs::create_dir(small.join(name)).unwrap();
        symlink(small.join(name), place.path(name)).unwrap();
    }
    let trouble = Arc::<Trouble>::default();
    let run = place.recorder_on(
        "require-room=false segment-duration=250000000",
        Some(Arc::new(Troubled(trouble.clone()))),
    );
    let recorder = run.element("rec");
    let (audio, video) = (Feed::new(&recorder, OPUS), Feed::new(&recorder, VP8));
    let begun = Instant::now();
    let mut told = None;
    let mut pushed = 0;
    // The call goes on for a while after the failure.
    for number in 0u64.. {
        if told.is_none() && run.error().is_some() {
            told = Some((Instant::now(), number));
        }
        if told.is_some_and(|(_, at)| number > at + 20) {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "the disk was full and nobody said so");
        if disk.is_none() && pushed > kib * 1024 {
            trouble.full.store(true, Ordering::SeqCst);
        }
        let bytes = vec![number as u8; random.below(30_000) as usize];
        pushed += bytes.len() as u64;
        let picture = frame(20 * number, &bytes);
        video.push(if number.is_multiple_of(50) {
            picture
        } else {
            delta(picture)
        });
        audio.push(frame(20 * number, &bytes[..bytes.len().min(100)]));
        sleep(Duration::from_millis(5));
    }
    let failed = run.messages("compliance-failed");
    assert_eq!(failed.len(), 1);
    let cause: String = failed[0].get("cause").unwrap();
    // Where the log is on the same disk it may be the first that has no room.
    assert!(
        cause == "disk-full" || with_log && cause == "log-unavailable",
        "{cause}"
    );
    let (told, _) = told.unwrap();
    let took = told.saturating_duration_since(trouble.failed().unwrap_or(told));
    let sealed: BTreeSet<(u32, u64)> = run
        .messages("compliance-segment")
        .iter()
        .map(|segment| (segment.get("track").unwrap(), segment.get("sequence").unwrap()))
        .collect();
    run.stop();

    let report = verified(&place.recording());
    assert_eq!(report.state, State::Complete);
    assert_eq!(report.end.unwrap().1, cause);
    for track in &report.tracks {
        let told = sealed.iter().filter(|(number, _)| *number == track.track.0);
        assert!(
            track.good >= told.count() as u64,
            "{sealed:?}, {:?}",
            report.tracks
        );
        assert_eq!(track.good, track.members);
    }
    let Some(Event::Failed { cause: logged, .. }) = events(&place).pop() else {
        panic!("the failure is not logged");
    };
    assert_eq!(logged.to_string(), cause);
    assert_intact(&place);
    let frames: usize = place
        .open(&place.recording())
        .iter()
        .map(|(_, stream)| stored(stream).len())
        .sum();
    println!(
        "{kib} KiB{}: {frames} frames in {} members, {cause} told after {took:?}",
        if with_log { " with the log" } else { "" },
        sealed.len(),
    );
    took
}

#[test]
fn a_disk_that_fills_up_ends_the_recording_cleanly() {
    let rounds = count("GST_E2EE_DISKS", 4);
    let mut random = Random::new(&format!("{rounds} full disks"));
    let slowest = (0..rounds)
        .map(|round| {
            let with_log = round % 2 == 1;
            // The recording keeps half a MiB for its end, and the log one.
            let least = if with_log { 2048 } else { 700 };
            let kib = least + random.below(3000);
            fill(&mut random, kib, with_log)
        })
        .max();
    println!(
        "from the write that failed to the error on the bus: at most {:?}",
        slowest.unwrap()
    );
}
