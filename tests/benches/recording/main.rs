//! Recordings: how many calls a core records and how soon a frame is sealed, what encryption takes on disk, how fast an
//! hour is sought in and verified, how soon a recorder that was killed after an hour records again.
//!
//! `scripts/bench recording`; with arguments only these parts: `calls bytes hour first-seek recovery`. Set `TMPDIR` to measure another disk:
//! an hour of a call takes 680 MB of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench has nobody to hand an error to"
)]

mod calls;
#[path = "../../../plugins/compliance/tests/common/mod.rs"]
mod common;
#[path = "../room/cpu.rs"]
mod cpu;
mod frames;
mod hour;
mod recovery;
mod seek;
mod size;
mod studio;
mod verify;

/// What is to be read of a measured value and its target.
fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT met" }
}

/// The value that so many of a hundred do not exceed.
fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(at).copied().unwrap_or(f64::NAN)
}

fn main() {
    if recovery::is_recorder() {
        return;
    }
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    if wanted("calls") {
        calls::run();
    }
    if wanted("bytes") {
        size::run();
    }
    if wanted("hour") {
        hour::run();
    }
    if wanted("first-seek") {
        hour::first_seek();
    }
    if wanted("recovery") {
        recovery::run();
    }
}
