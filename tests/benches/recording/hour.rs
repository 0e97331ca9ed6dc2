//! One recording of an hour of sound and pictures at 1.5 Mbit/s: what it takes on disk, how long a seek takes, how fast
//! it is verified.

use super::common::Place;
use super::frames::Kind;
use super::{seek, size, studio, verify};

const SECONDS: u64 = 3600;

pub fn run() {
    let kinds = [Kind::Sound, Kind::Pictures];
    let place = Place::new(1);
    let recording = studio::record(&place, &kinds, SECONDS, 1000);
    println!("\nAn hour of sound and pictures, 1.5 Mbit/s, segments of 1 s:");
    size::compare(&recording, "bytes on disk", &kinds, SECONDS, 1.03);
    verify::run(&recording);
    seek::run(&place, &recording, SECONDS * 1000);
}

pub fn first_seek() {
    const SECONDS: u64 = 1200;
    let place = Place::new(1);
    let recording = studio::record(&place, &[Kind::Sound, Kind::LongGroups], SECONDS, 1000);
    println!(
        "\n{} minutes at 1.5 Mbit/s with a keyframe every five:",
        SECONDS / 60
    );
    seek::first(&place, &recording, SECONDS * 1000);
}
