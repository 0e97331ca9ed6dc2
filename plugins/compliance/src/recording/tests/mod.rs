#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod changes;
mod codecs;
mod crash;
mod disk;
mod faults;
mod figures;
mod holders;
mod open;
mod tools;
mod write;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use age::x25519::Identity;
use ed25519_dalek::SigningKey;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::breakglass::custodian::{FileKey, public};
use crate::bundle::{Bundle, Escrow, Holders, Recipients, prepare, take_next};
use crate::signing::Signer;

/// When the recordings of the tests begin: unix time in milliseconds.
const TIME: u64 = 1_700_000_000_123;

fn log_key() -> Arc<dyn Signer> {
    Arc::new(SigningKey::from_bytes(&[3; 32]))
}

fn dealer() -> SigningKey {
    SigningKey::from_bytes(&[4; 32])
}

/// Tests that try every place try some of them, and all of them where this is in the environment.
fn thorough() -> bool {
    std::env::var_os("GST_E2EE_THOROUGH").is_some()
}

/// Whoever may open the recordings of the tests.
fn reader() -> &'static Identity {
    static READER: OnceLock<Identity> = OnceLock::new();
    READER.get_or_init(Identity::generate)
}

fn bundle() -> Bundle {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("recipients");
    fs::write(&list, reader().to_public().to_string()).unwrap();
    let holders = Holders::Recipients(Recipients::read(&list).unwrap());
    bundle_for(folder.path(), &holders)
}

fn escrow_bundle() -> Bundle {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("escrow");
    let line = |identity| public(&FileKey::new(identity).unwrap(), None);
    let text = format!(
        "1 of 2\n{}\n{}",
        line(reader().clone()),
        line(Identity::generate())
    );
    fs::write(&list, text).unwrap();
    bundle_for(folder.path(), &Holders::Escrow(Escrow::read(&list).unwrap()))
}

fn bundle_for(folder: &Path, holders: &Holders) -> Bundle {
    let keys = folder.join("keys");
    prepare(&keys, holders, 1, &dealer()).unwrap();
    take_next(&keys, Some(dealer().public()), &|_| true).unwrap()
}

fn start() -> Start {
    Start {
        time: TIME,
        room: Some("room-7".to_owned()),
        recorder: None,
        policy: None,
        claim: Claim::Unattested,
        consent: Some("ab".repeat(32)),
        retention_days: Some(365),
        attest: None,
    }
}

fn create(location: &Path, disk: Arc<dyn Disk>) -> Result<Recording, RecordingError> {
    Recording::create(location, &bundle(), start(), log_key(), disk)
}

fn come_back(
    path: &Path,
    resume: Resume,
    signer: Arc<dyn Signer>,
    disk: Arc<dyn Disk>,
) -> Result<(Recording, Recovery), RecordingError> {
    Left::lock(path, signer, disk)?.resume(resume)
}

fn track(medium: Medium) -> Track {
    Track {
        medium,
        caps: "video/x-vp8, width=(int)320".to_owned(),
        leaf: Some(1),
        sender: "p-42".to_owned(),
    }
}

/// What the members of the tests hold, by their place.
fn content(track: TrackId, sequence: u64) -> Vec<u8> {
    let length =
        40 + 37 * usize::try_from(sequence % 5).unwrap() + 400 * usize::try_from(track.0 % 3).unwrap();
    let seed = u64::from(track.0) * 31 + sequence * 7;
    (0..length as u64).map(|i| (seed + i * i) as u8).collect()
}

fn segment(track: TrackId, sequence: u64) -> Segment {
    Segment {
        bytes: Zeroizing::new(content(track, sequence)),
        from_ns: sequence * 1_000_000_000,
        to_ns: (sequence + 1) * 1_000_000_000,
        epoch: (5, 6),
        leaf: Some(1),
        frames: 25,
        keyframes: Some(1),
    }
}

/// A recording of two tracks with so many members each on a real disk.
struct Made {
    folder: TempDir,
    path: PathBuf,
}

fn made(members: u64) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = create(folder.path(), Arc::new(RealDisk)).unwrap();
    let tracks = [Medium::Audio, Medium::Video].map(|medium| recording.open_track(track(medium)).unwrap());
    for sequence in 0..members {
        for track in tracks {
            recording.append(track, segment(track, sequence)).unwrap();
        }
        recording.sync().unwrap();
    }
    recording.end(TIME + 9000, "end of call").unwrap();
    let path = recording.path().to_owned();
    Made { folder, path }
}

fn options() -> Options {
    Options {
        log_key: Some(log_key().public()),
        dealer: Some(dealer().public()),
        known: None,
        rewraps: Rewraps::Unknown,
    }
}

fn check(path: &Path) -> Report {
    verify(path, &options()).unwrap()
}

fn asked(tracks: &[u32]) -> Request {
    Request {
        reason: "review".to_owned(),
        ticket: "T-1".to_owned(),
        tracks: tracks.iter().map(|track| TrackId(*track)).collect(),
    }
}

fn unlocked(path: &Path) -> Reader {
    let index = Index::open(path, &options()).unwrap();
    index
        .unlock(Key::Recipient(std::slice::from_ref(reader())), asked(&[]), |_| {
            Ok(())
        })
        .unwrap()
}

/// Every member that the manifest names is what was recorded.
fn assert_content(path: &Path) -> Vec<(TrackId, u64)> {
    let mut reader = unlocked(path);
    let members: Vec<_> = reader
        .tracks()
        .flat_map(|track| track.members.iter().map(|member| (track.id, member.sequence)))
        .collect();
    for (track, sequence) in &members {
        let plaintext = reader.member(*track, *sequence).unwrap();
        assert_eq!(
            *plaintext,
            content(*track, *sequence),
            "member {sequence} of track {track}"
        );
    }
    members
}
