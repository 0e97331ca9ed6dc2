//! The recorder dies at any change of the disk: what was sealed stays, and the recording goes on.

use std::collections::BTreeSet;

use super::disk::{Crash, MemoryDisk, location};
use super::*;

type Acknowledged = BTreeSet<(TrackId, u64)>;

/// Records until the end or the crash; says what was sealed, and how far the manifest went.
fn record(disk: &MemoryDisk, bundle: &Bundle) -> (Acknowledged, Option<Root>) {
    let mut sealed = Acknowledged::new();
    let mut root = None;
    let mut run = || -> Result<(), RecordingError> {
        let mut recording =
            Recording::create(&location(), bundle, start(), log_key(), Arc::new(disk.clone()))?;
        root = Some(recording.root());
        let audio = recording.open_track(track(Medium::Audio))?;
        let video = recording.open_track(track(Medium::Video))?;
        for sequence in 0..3 {
            recording.append(audio, segment(audio, sequence))?;
            if sequence != 1 {
                let own = sequence.min(1);
                recording.append(video, segment(video, own))?;
            }
            sealed.extend(recording.sync()?.iter().map(|one| (one.track, one.sequence)));
            root = Some(recording.root());
        }
        recording.append(audio, segment(audio, 3))?;
        sealed.extend(
            recording
                .end(TIME, "over")?
                .iter()
                .map(|one| (one.track, one.sequence)),
        );
        root = Some(recording.root());
        Ok(())
    };
    let _ = run();
    (sealed, root)
}

fn dumped(disk: &MemoryDisk) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    disk.dump(folder.path());
    folder
}

/// Goes on after a crash, to the end, and checks that everything that was sealed is there.
fn goes_on(disk: &MemoryDisk, path: &Path, sealed: &Acknowledged, known: Option<Root>, what: &str) {
    let resume = Resume { time: TIME, known };
    let found = come_back(path, resume, log_key(), Arc::new(disk.clone()));
    match found {
        Ok((mut recording, recovery)) => {
            let folder = dumped(disk);
            let report = check(&folder.path().join(path.strip_prefix("/").unwrap()));
            assert_eq!(report.state, State::Unfinished, "{what}: {:?}", report.damages);
            assert_eq!(report.unsealed, 0, "{what}: {:?}", recovery.cuts);
            assert_eq!(report.root, Some(recording.root()));
            let id = recording.open_track(track(Medium::Text)).unwrap();
            assert_eq!(id.0 as usize, recovery.tracks.len());
            recording.append(id, segment(id, 0)).unwrap();
            recording.sync().unwrap();
            recording.end(TIME + 1, "over after all").unwrap();
        }
        Err(RecordingError::Ended(_)) => {}
        Err(error) => panic!("{what}: {error}"),
    }
    let folder = dumped(disk);
    let path = folder.path().join(path.strip_prefix("/").unwrap());
    let report = check(&path);
    assert_eq!(report.state, State::Complete, "{what}: {:?}", report.damages);
    let there: Acknowledged = assert_content(&path).into_iter().collect();
    assert!(there.is_superset(sealed), "{what}: {there:?} {sealed:?}");
}

const CRASHES: [Crash; 4] = [Crash::Lost, Crash::Kept, Crash::Torn(3), Crash::Torn(11)];

#[test]
fn whenever_the_recorder_dies_what_was_sealed_stays_and_the_recording_goes_on() {
    let bundle = bundle();
    let path = location().join(bundle.id().to_string());
    let whole = MemoryDisk::new();
    record(&whole, &bundle);
    for step in 0..whole.steps() {
        let disk = MemoryDisk::new();
        disk.crash_at(step);
        let (sealed, root) = record(&disk, &bundle);
        for crash in CRASHES {
            let what = format!("step {step}, {crash:?}");
            let disk = disk.after(crash);
            let folder = dumped(&disk);
            let real = folder.path().join(bundle.id().to_string());
            if !real.exists() {
                assert!(root.is_none(), "{what}");
                continue;
            }
            let report = check(&real);
            assert_ne!(report.state, State::Damaged, "{what}: {:?}", report.damages);
            let there: Acknowledged = assert_content(&real).into_iter().collect();
            assert!(there.is_superset(&sealed), "{what}");
            goes_on(&disk, &path, &sealed, root, &what);
        }
    }
}

#[test]
fn whenever_it_dies_again_while_it_recovers_it_still_goes_on() {
    let bundle = bundle();
    let path = location().join(bundle.id().to_string());
    let whole = MemoryDisk::new();
    record(&whole, &bundle);
    for step in (20..whole.steps()).step_by(3) {
        let first = MemoryDisk::new();
        first.crash_at(step);
        let (sealed, root) = record(&first, &bundle);
        for again in 0.. {
            let disk = first.after(Crash::Torn(step));
            disk.crash_at(again);
            let resume = Resume {
                time: TIME,
                known: root,
            };
            let result = come_back(&path, resume, log_key(), Arc::new(disk.clone()));
            let through = !matches!(result, Err(RecordingError::Io { .. }));
            drop(result);
            let crash = CRASHES[(again % 4) as usize];
            goes_on(
                &disk.after(crash),
                &path,
                &sealed,
                root,
                &format!("{step}, then {again}, {crash:?}"),
            );
            if through {
                break;
            }
        }
    }
}

#[test]
fn what_was_cut_is_stated_in_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = create(folder.path(), Arc::new(RealDisk)).unwrap();
    let path = recording.path().to_owned();
    let id = recording.open_track(track(Medium::Audio)).unwrap();
    recording.append(id, segment(id, 0)).unwrap();
    recording.sync().unwrap();
    let known = recording.root();
    recording.append(id, segment(id, 1)).unwrap();
    drop(recording);
    let torn = |bytes: &[u8]| {
        use std::io::Write;
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(path.join(MANIFEST_FILE))
            .unwrap();
        file.write_all(bytes).unwrap();
    };
    torn(b"{\"line\":3,");
    assert_eq!(check(&path).state, State::Unfinished);
    let resume = Resume {
        time: TIME + 5,
        known: Some(known),
    };
    let (recording, recovery) = come_back(&path, resume, log_key(), Arc::new(RealDisk)).unwrap();
    assert_eq!(recovery.manifest_bytes, 10);
    assert_eq!(recovery.cuts.len(), 1);
    assert_eq!(recovery.cuts[0].tar, "0-audio.tar");
    assert_eq!(recovery.last_ns, 1_000_000_000);
    assert_eq!(recovery.root.lines, known.lines + 1);
    let text = fs::read_to_string(path.join(MANIFEST_FILE)).unwrap();
    let last = text.lines().last().unwrap();
    let cut = format!(
        "\"fact\":{{\"resumed\":{{\"time\":{},\"manifest\":10,\"cuts\":[{{\"tar\":\"0-audio.tar\",\"bytes\":{}}}]}}}}",
        TIME + 5,
        recovery.cuts[0].bytes
    );
    assert!(last.contains(&cut), "{last}");
    assert_eq!(check(&path).resumed, 1);
    drop(recording);
}

#[test]
fn an_old_track_can_go_on_after_a_crash_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = create(folder.path(), Arc::new(RealDisk)).unwrap();
    let path = recording.path().to_owned();
    let id = recording.open_track(track(Medium::Audio)).unwrap();
    recording.append(id, segment(id, 0)).unwrap();
    recording.sync().unwrap();
    drop(recording);
    let resume = Resume {
        time: TIME,
        known: None,
    };
    let (mut recording, _) = come_back(&path, resume, log_key(), Arc::new(RealDisk)).unwrap();
    recording.append(id, segment(id, 1)).unwrap();
    recording.end(TIME, "over").unwrap();
    assert_eq!(check(&path).state, State::Complete);
    assert_eq!(assert_content(&path).len(), 2);
}

#[test]
fn a_recording_that_is_written_has_ended_or_is_another_logs_does_not_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = create(folder.path(), Arc::new(RealDisk)).unwrap();
    let path = recording.path().to_owned();
    let resume = Resume {
        time: TIME,
        known: None,
    };
    let go_on = |key: Arc<dyn Signer>| come_back(&path, resume, key, Arc::new(RealDisk)).err();
    assert!(matches!(go_on(log_key()), Some(RecordingError::InUse(_))));
    assert!(!is_finished(&path, &RealDisk).unwrap());
    let stranger = Arc::new(SigningKey::from_bytes(&[9; 32]));
    assert!(matches!(go_on(stranger), Some(RecordingError::AnotherLog { .. })));
    recording.end(TIME, "over").unwrap();
    drop(recording);
    assert!(matches!(go_on(log_key()), Some(RecordingError::Ended(_))));
    assert!(is_finished(&path, &RealDisk).unwrap());
}

#[test]
fn damage_that_no_crash_explains_is_not_cut_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = create(folder.path(), Arc::new(RealDisk)).unwrap();
    let path = recording.path().to_owned();
    let id = recording.open_track(track(Medium::Audio)).unwrap();
    for sequence in 0..3 {
        recording.append(id, segment(id, sequence)).unwrap();
        recording.sync().unwrap();
    }
    let root = recording.root();
    drop(recording);
    let go_on = |known| {
        let resume = Resume { time: TIME, known };
        let error = come_back(&path, resume, log_key(), Arc::new(RealDisk))
            .err()
            .unwrap();
        assert!(matches!(error, RecordingError::Damaged { .. }), "{error}");
        error.to_string()
    };
    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>), known: Option<Root>, says: &str| {
        let file = path.join(name);
        let before = fs::read(&file).unwrap();
        let mut bytes = before.clone();
        change(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        let error = go_on(known);
        assert!(error.contains(says), "{error}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "{name} was changed");
        fs::write(&file, before).unwrap();
    };
    let tar = "tracks/0-audio.tar";
    changed(tar, &|bytes| bytes.truncate(bytes.len() - 1), None, "were sealed");
    changed(
        tar,
        &|bytes| *bytes.last_mut().unwrap() ^= 1,
        None,
        "is not what was sealed",
    );
    changed(
        MANIFEST_FILE,
        &|bytes| bytes[20] ^= 1,
        None,
        "its first line does not hold",
    );
    let line = |bytes: &[u8], line: usize| {
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        ends.map(|(at, _)| at + 1).nth(line - 1).unwrap()
    };
    changed(
        MANIFEST_FILE,
        &|bytes| {
            let at = line(bytes, 2);
            bytes[at + 30] ^= 1;
        },
        None,
        "line 2 does not hold, and line 3 behind it does",
    );
    // As many lines as a crash could have torn off, but the audit log knows better.
    changed(
        MANIFEST_FILE,
        &|bytes| bytes.truncate(line(bytes, 4)),
        Some(root),
        "it has 4 lines, and the audit log knows 5",
    );
    changed(RECORDING_FILE, &|bytes| bytes[40] ^= 1, None, "recording.json");
    fs::remove_file(path.join(tar)).unwrap();
    assert!(go_on(None).contains("0-audio.tar is missing"));
}
