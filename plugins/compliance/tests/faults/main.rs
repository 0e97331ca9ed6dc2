//! Faults: the recorder is killed, its disk is full or slow, the wall clock is set, its process crashes; and all of that
//! together. `GST_E2EE_KILLS=200` and `GST_E2EE_FAULTS_SECONDS=600` are the full counts; `GST_E2EE_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod clock;
mod crash;
mod full_disk;
mod kills;
mod process;
mod slow_disk;
mod together;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Place, stored};
use gstcompliance::audit;
use process::{Sent, sent};

/// A count from the environment, or that of the short form.
fn count(variable: &str, short: u64) -> u64 {
    std::env::var(variable).map_or(short, |text| text.parse().unwrap())
}

/// Numbers that look random, and are the same for the same seed.
struct Random(u64);

impl Random {
    /// Says the seed, so that a failure can be repeated.
    fn new(what: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = count("GST_E2EE_SEED", now.as_nanos() as u64).max(1);
        println!("{what}: GST_E2EE_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Nothing is wrong with the audit log.
fn assert_intact(place: &Place) {
    let report = audit::verify(&place.path("log"), &audit::VerifyOptions::default()).unwrap();
    assert!(report.is_intact(), "{:?}", report.damages);
}

/// The frames of recorder processes that are in the recording, by tracks, opened with tar and age.
fn recorded(place: &Place) -> BTreeMap<String, Vec<Sent>> {
    let tracks = place.open(&place.recording());
    tracks
        .into_iter()
        .map(|(name, stream)| {
            let frames = stored(&stream);
            (name, frames.iter().map(|(_, frame)| sent(frame)).collect())
        })
        .collect()
}
