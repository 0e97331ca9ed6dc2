//! The wall clock is set while it records. libfaketime moves CLOCK_REALTIME for the recorder's process alone.

use std::fs;
use std::path::PathBuf;

use gstcompliance::audit::Event;
use gstcompliance::recording::State;

use crate::assert_intact;
use crate::common::{Place, events, logged, stored, verified};
use crate::process::{PERIOD, Recorders, replace, sent, until};

/// The wall clock of processes, which can be set.
pub struct WallClock(PathBuf);

impl WallClock {
    /// The right time.
    pub fn new(place: &Place) -> Self {
        let clock = Self(place.path("wall-clock"));
        clock.set(0);
        clock
    }

    /// Off by so many seconds from now on.
    pub fn set(&self, by: i64) {
        replace(&self.0, &format!("{by:+}\n"));
    }

    /// What makes a process go by it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let of = [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
            ("NO_FAKE_STAT", "1".into()),
        ];
        of.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }
}

/// libfaketime for programs with threads, as Debian puts it.
fn library() -> PathBuf {
    let found = fs::read_dir("/usr/lib").unwrap().find_map(|entry| {
        let path = entry.unwrap().path().join("faketime/libfaketimeMT.so.1");
        path.exists().then_some(path)
    });
    found.expect("libfaketime is not installed: scripts/setup test")
}

/// By how much the audit log says that the clock was set, in milliseconds.
pub fn jumps(place: &Place) -> Vec<i64> {
    let events = events(place).into_iter();
    events
        .filter_map(|event| match event {
            Event::ClockJump { by_ms } => Some(by_ms),
            _ => None,
        })
        .collect()
}

#[test]
fn an_hour_forwards_and_two_back_leave_the_recording_in_order_and_are_logged() {
    let place = Place::new(1);
    let clock = WallClock::new(&place);
    let mut recorders = Recorders::new(&place);
    recorders.properties += " segment-duration=250000000";
    recorders.environment = clock.environment();
    let process = recorders.start(0);
    let sealed = || {
        let tracks = verified(&place.recording()).tracks;
        tracks.iter().map(|track| track.members).sum::<u64>()
    };
    process.records();
    for (number, hours) in [1, -1].into_iter().enumerate() {
        let before = sealed();
        until("more members", || sealed() > before + 4);
        clock.set(3600 * hours);
        until("the jump's entry", || jumps(&place).len() > number);
    }
    let before = sealed();
    until("more members", || sealed() > before + 4);
    process.stop();

    let jumps = jumps(&place);
    assert_eq!(jumps.len(), 2, "{jumps:?}");
    for (jump, hours) in jumps.iter().zip([1, -2]) {
        let off = jump - hours * 3_600_000;
        assert!(off.abs() < 2_000, "{jumps:?}");
    }
    assert_intact(&place);
    assert_eq!(logged(&place).last(), Some(&"stopped"));
    let report = verified(&place.recording());
    assert_eq!(report.state, State::Complete);
    assert!(report.tracks.iter().all(|track| track.gaps == 0));
    let pushed = recorders.notes(0).frames();
    for (name, stream) in place.open(&place.recording()) {
        let medium = name.split_once('-').unwrap().1;
        let of = pushed.iter().filter(|frame| frame.medium == medium);
        let expected: Vec<_> = of.map(|frame| (PERIOD * frame.number, frame.number)).collect();
        let found: Vec<_> = stored(&stream)
            .iter()
            .map(|(time, frame)| (*time, sent(frame).number))
            .collect();
        assert!(!found.is_empty());
        assert!(found == expected, "{name}: all frames in order, at their times");
    }
}
