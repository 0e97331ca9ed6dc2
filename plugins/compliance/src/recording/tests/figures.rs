//! Figures, on demand: `cargo test --release -p gst-plugin-compliance --lib figures -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::*;
use crate::digest::Digest;

/// How long this thread has had a core: what other programs take of the machine does not count.
fn on_core() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn long(folder: &Path, tracks: u32, members: u64, size: usize, syncs: u64) -> PathBuf {
    let mut recording = create(folder, Arc::new(RealDisk)).unwrap();
    let ids: Vec<_> = (0..tracks)
        .map(|_| recording.open_track(track(Medium::Video)).unwrap())
        .collect();
    for sequence in 0..members {
        for id in &ids {
            let bytes = Zeroizing::new(vec![7; size]);
            recording
                .append(
                    *id,
                    Segment {
                        bytes,
                        ..segment(*id, sequence)
                    },
                )
                .unwrap();
        }
        if sequence % syncs == 0 {
            recording.sync().unwrap();
        }
    }
    recording.sync().unwrap();
    recording.path().to_owned()
}

#[test]
#[ignore = "prints figures"]
fn what_a_member_costs() {
    let to = reader().to_public();
    for size in [160, 8_000, 16 * 1024, 187_500, 400 * 1024] {
        let plaintext = vec![7; size];
        let (mut age, mut all) = (0, 0);
        let count: u32 = 400;
        let begin = on_core();
        for _ in 0..count {
            let made = member::make(&to, &plaintext, "0-audio/00000000.mkv.age", 7).unwrap();
            age += made.bytes - size as u64;
            all += made.member.len() - size;
        }
        let each = (on_core() - begin) / count;
        let (age, all) = (age / u64::from(count), all / count as usize);
        println!("{size} bytes: {each:?}, age file +{age}, in the tar +{all}");
    }
}

#[test]
#[ignore = "prints figures"]
fn how_fast_a_recording_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let data = vec![7; 64 << 20];
    let begin = on_core();
    for _ in 0..8 {
        Digest::of(&data);
    }
    println!(
        "SHA-256 alone: {:.0} MB/s of a core",
        8.0 * 67.1 / (on_core() - begin).as_secs_f64()
    );
    for (tracks, members, size) in [(2, 1000, 187_500), (2, 3600, 16 * 1024), (1, 10, 20 << 20)] {
        let path = long(folder.path(), tracks, members, size, 100);
        for _ in 0..2 {
            let (begin, wall) = (on_core(), Instant::now());
            let report = check(&path);
            let seconds = (on_core() - begin).as_secs_f64();
            assert_eq!(report.state, State::Unfinished);
            println!(
                "{tracks} tracks of {members} members of {size} bytes: {:.0} MB/s of a core ({:?} in all)",
                report.bytes as f64 / 1e6 / seconds,
                wall.elapsed()
            );
        }
    }
}

#[test]
#[ignore = "prints figures"]
fn how_fast_an_hour_is_resumed_and_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = long(folder.path(), 4, 3600, 8_000, 600);
    let begin = Instant::now();
    let resume = Resume {
        time: TIME,
        known: None,
    };
    drop(come_back(&path, resume, log_key(), Arc::new(RealDisk)).unwrap());
    println!("4 tracks, an hour of 1 s: resumed in {:?}", begin.elapsed());
    let begin = Instant::now();
    let mut opened = unlocked(&path);
    println!("opened in {:?}", begin.elapsed());
    let begin = Instant::now();
    let sequence = opened
        .index()
        .track(TrackId(2))
        .unwrap()
        .at(1_800_500_000_000)
        .unwrap()
        .sequence;
    opened.member(TrackId(2), sequence).unwrap();
    println!("member {sequence} found and read in {:?}", begin.elapsed());
    let length = fs::metadata(path.join(MANIFEST_FILE)).unwrap().len();
    println!("a line of the manifest: {} bytes", length / (4 * 3600));
}
