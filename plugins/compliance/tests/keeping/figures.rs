//! Figures, on demand: `cargo test --release -p gst-plugin-compliance --test keeping figures -- --ignored --nocapture`. Set
//! `TMPDIR` to measure another disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use age::x25519::Identity;
use ed25519_dalek::SigningKey;
use gstcompliance::audit::{Id, Log, Text};
use gstcompliance::bundle::{Bundle, Escrow, Holders, Recipients, prepare};
use gstcompliance::recording::{
    Claim, KeyHolders, Medium, Options, RealDisk, Recording, Rewraps, Segment, Start, State, Track, verify,
};
use gstcompliance::rewrap::{Done, Order, as_recipient, rewrap};
use gstcompliance::signing::Signer;

const RECORDINGS: u32 = 10_000;
const MEDIA: usize = 16 << 10;

/// Makes recordings, in memory because what they cost is not asked here, and copies them to the disk.
fn recordings(place: &Path, holders: &Holders, log: &Log) -> Vec<PathBuf> {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let keys = memory.path().join("keys");
    let ids = prepare(&keys, holders, RECORDINGS, &SigningKey::from_bytes(&[4; 32])).unwrap();
    let made = memory.path().join("rec");
    fs::create_dir(&made).unwrap();
    for id in &ids {
        let bundle = Bundle::read(&keys.join(id.to_string()), None).unwrap();
        let start = Start {
            time: 1_700_000_000_000,
            room: None,
            recorder: None,
            policy: None,
            claim: Claim::Unattested,
            consent: None,
            retention_days: None,
            attest: None,
        };
        let mut recording =
            Recording::create(&made, &bundle, start, log.signer(), Arc::new(RealDisk)).unwrap();
        let track = recording
            .open_track(Track {
                medium: Medium::Audio,
                caps: "audio/x-opus".to_owned(),
                leaf: None,
                sender: "p".to_owned(),
            })
            .unwrap();
        let segment = Segment {
            bytes: vec![7; MEDIA].into(),
            from_ns: 0,
            to_ns: 1_000_000_000,
            epoch: (1, 1),
            leaf: None,
            frames: 50,
            keyframes: None,
        };
        recording.append(track, segment).unwrap();
        recording.end(1_700_000_001_000, "eos").unwrap();
    }
    let copied = Command::new("cp")
        .arg("-a")
        .arg(&made)
        .arg(place)
        .status()
        .unwrap();
    assert!(copied.success());
    assert!(Command::new("sync").status().unwrap().success());
    ids.iter()
        .map(|id| place.join("rec").join(id.to_string()))
        .collect()
}

/// When a recording's media, its manifest and its facts were last changed.
fn changed(recording: &Path) -> Vec<(i64, i64, u64)> {
    [
        "tracks",
        "tracks/0-audio.tar",
        "manifest",
        "recording.json",
        "bundle.json",
    ]
    .map(|name| {
        let found = recording.join(name).metadata().unwrap();
        (found.ctime(), found.ctime_nsec(), found.ino())
    })
    .to_vec()
}

/// What this process read and wrote, by the system's count.
fn counted(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
#[ignore = "prints figures"]
fn figures_of_wrapping_ten_thousand_recordings_to_others() {
    let place = tempfile::tempdir().unwrap();
    let person = |name: &str| {
        let identity = Identity::generate();
        let path = place.path().join(name);
        fs::write(&path, identity.to_public().to_string()).unwrap();
        (identity, Holders::Recipients(Recipients::read(&path).unwrap()))
    };
    let (ann, anns) = person("ann");
    let (bob, bobs) = person("bob");
    let custodians: String = (0..3)
        .map(|seed| {
            let signing = SigningKey::from_bytes(&[seed; 32]).public();
            format!("{} {signing}\n", Identity::generate().to_public())
        })
        .collect();
    let list = place.path().join("escrow");
    fs::write(&list, format!("2 of 3\n{custodians}")).unwrap();
    let escrow = Holders::Escrow(Escrow::read(&list).unwrap());
    let log = Log::open(&place.path().join("log")).unwrap();
    let paths = recordings(place.path(), &anns, &log);
    let media: u64 = paths
        .iter()
        .map(|path| path.join("tracks/0-audio.tar").metadata().unwrap().len())
        .sum();
    println!(
        "{RECORDINGS} recordings with {:.0} MB of media",
        media as f64 / 1e6
    );
    let before: Vec<_> = paths.iter().map(|path| changed(path)).collect();
    for (what, own, to) in [
        ("one recipient to another", ann, &bobs),
        ("a recipient to 2 of 3 custodians", bob, &escrow),
    ] {
        let own = [own];
        let keys = as_recipient(&own);
        let order = Order {
            to,
            keys: &keys,
            bundles: None,
            by: Id::new("ops").unwrap(),
            reason: Text::new("figures").unwrap(),
            ticket: Text::new("C-1").unwrap(),
        };
        let log_before = log.path().join("log").metadata().unwrap().len();
        let (read, written, begun) = (counted("rchar"), counted("wchar"), Instant::now());
        let mut wrapped = 0;
        let totals = rewrap(&paths, &log, &order, &|| 1_700_000_002_000, &mut |path, done| {
            assert!(matches!(done, Ok(Done::Rewrapped(_))), "{path:?}: {done:?}");
            wrapped += 1;
        })
        .unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let (read, written) = (counted("rchar") - read, counted("wchar") - written);
        let log_grew = log.path().join("log").metadata().unwrap().len() - log_before;
        assert_eq!(wrapped, RECORDINGS);
        let each = |value: u64| value as f64 / f64::from(RECORDINGS);
        println!(
            "{what}: {seconds:.1} s, {:.2} ms each; {:.1} files and folders opened each, none of them media; \
             {:.0} bytes of key files and statements written each ({:.2} MB), {:.0} bytes of log; \
             by the system's count {:.2} MB read, {:.2} MB written",
            seconds * 1e3 / f64::from(RECORDINGS),
            each(totals.opened),
            each(totals.written),
            totals.written as f64 / 1e6,
            each(log_grew),
            read as f64 / 1e6,
            written as f64 / 1e6,
        );
        assert!(
            read < media,
            "no more is read than all media, so not all of it is"
        );
    }
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(changed(path), before, "{path:?}");
    }
    for path in paths.iter().step_by(500) {
        let options = Options {
            log_key: Some(log.key()),
            rewraps: log
                .known_rewraps(path.file_name().unwrap().to_str().unwrap().parse().unwrap())
                .unwrap(),
            ..Options::default()
        };
        assert_ne!(options.rewraps, Rewraps::Never);
        let report = verify(path, &options).unwrap();
        assert_eq!(report.state, State::Complete, "{:?}", report.damages);
        let number = |holders: KeyHolders| holders.number;
        assert_eq!(report.holders.map(number), Some(2));
    }
}
