//! Verifying, beside SHA-256 alone over as many bytes in memory; both in turns on one thread. MB/s of a core, which is
//! what other programs on the machine leave alone.

use std::path::Path;

use gst_e2ee_tests::bench::median;
use gstcompliance::digest::Digest;
use gstcompliance::recording::{Options, State, verify};

use super::cpu::{Taken, taken};
use super::verdict;

const ROUNDS: usize = 5;
const AT_LEAST: f64 = 500.0;

pub fn run(recording: &Path) {
    let data = vec![7; 64 << 20];
    let (mut ours, mut wall, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let speed = |bytes: u64, taken: Taken| bytes as f64 / 1e6 / taken.cpu.as_secs_f64();
    for _ in 0..ROUNDS {
        let (time, report) = taken(|| verify(recording, &Options::default()).unwrap());
        assert_eq!(report.state, State::Complete, "{:?}", report.damages);
        ours.push(speed(report.bytes, time));
        wall.push(report.bytes as f64 / 1e6 / time.wall.as_secs_f64());
        let times = report.bytes.div_ceil(data.len() as u64);
        let (time, ()) = taken(|| {
            for _ in 0..times {
                std::hint::black_box(Digest::of(&data));
            }
        });
        bare.push(speed(times * data.len() as u64, time));
    }
    let ours = median(&ours);
    println!(
        "  verify: {ours:.0} MB/s of a core ({:.0} by the clock), SHA-256 alone {:.0}; at least {AT_LEAST}: {}",
        median(&wall),
        median(&bare),
        verdict(ours >= AT_LEAST)
    );
}
