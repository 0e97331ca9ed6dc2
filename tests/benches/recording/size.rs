//! What a recording takes on disk, its manifest and everything else in its folder included, against the same frames in
//! plain Matroska.

use std::path::Path;

use super::common::Place;
use super::frames::Kind;
use super::studio::{bytes, plain, record};
use super::verdict;

const SOUND_SECONDS: u64 = 600;

/// Prints how much larger a recording is than its frames in plain Matroska.
pub fn compare(recording: &Path, what: &str, kinds: &[Kind], seconds: u64, at_most: f64) {
    let (sealed, plain) = (bytes(recording), plain(kinds, seconds));
    let ratio = sealed as f64 / plain as f64;
    println!(
        "  {what}: {ratio:.4} x plain Matroska ({:.2} MB), at most {at_most:.2}: {}",
        plain as f64 / 1e6,
        verdict(ratio <= at_most)
    );
}

pub fn run() {
    println!("\nBytes on disk, all files of the recording:");
    for (segment_ms, at_most) in [(1000, 1.2), (2000, 1.1)] {
        let place = Place::new(1);
        let recording = record(&place, &[Kind::Sound], SOUND_SECONDS, segment_ms);
        let what = format!(
            "sound of 64 kbit/s, {} min, segments of {} s",
            SOUND_SECONDS / 60,
            segment_ms / 1000
        );
        compare(&recording, &what, &[Kind::Sound], SOUND_SECONDS, at_most);
    }
}
