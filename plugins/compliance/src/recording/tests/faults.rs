//! The disk is full, or fails: the recording ends cleanly, and what was sealed stays.

use std::collections::BTreeSet;

use super::disk::{Crash, MemoryDisk, location};
use super::writer::RESERVE;
use super::*;

struct Outcome {
    sealed: BTreeSet<(TrackId, u64)>,
    error: Option<RecordingError>,
    end: Result<(), RecordingError>,
}

/// Records until something fails, then ends.
fn record(mut recording: Recording) -> Outcome {
    let mut sealed = BTreeSet::new();
    let mut run = |recording: &mut Recording| -> Result<(), RecordingError> {
        let audio = recording.open_track(track(Medium::Audio))?;
        let video = recording.open_track(track(Medium::Video))?;
        for sequence in 0..2 {
            for id in [audio, video] {
                recording.append(id, segment(id, sequence))?;
            }
            sealed.extend(recording.sync()?.iter().map(|one| (one.track, one.sequence)));
        }
        Ok(())
    };
    let error = run(&mut recording).err();
    if error.is_some() {
        assert!(matches!(recording.sync(), Err(RecordingError::Failed)));
        assert!(matches!(
            recording.append(TrackId(0), segment(TrackId(0), 0)),
            Err(RecordingError::Failed)
        ));
    }
    let end = recording.end(TIME, "disk").map(|more| {
        sealed.extend(more.iter().map(|one| (one.track, one.sequence)));
    });
    Outcome { sealed, error, end }
}

fn check_all(disk: &MemoryDisk, bundle: &Bundle, outcome: &Outcome, what: &str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    disk.dump(folder.path());
    let path = folder.path().join(bundle.id().to_string());
    let report = check(&path);
    assert_eq!(report.state, State::Complete, "{what}: {:?}", report.damages);
    let there: BTreeSet<_> = assert_content(&path).into_iter().collect();
    assert_eq!(there, outcome.sealed, "{what}");
    report
}

#[test]
fn a_disk_that_is_full_at_any_byte_ends_the_recording_cleanly() {
    let bundle = bundle();
    let new = || {
        let disk = MemoryDisk::new();
        let made = Recording::create(&location(), &bundle, start(), log_key(), Arc::new(disk.clone()));
        (disk, made.unwrap())
    };
    let (disk, recording) = new();
    let from = disk.used();
    drop(record(recording));
    // The reserve is gone at the end; age files differ in length.
    let to = disk.used() + RESERVE + 1000;
    let mut full = 0;
    let step = if thorough() { 1 } else { 11 };
    for capacity in (from..to).step_by(step) {
        let (disk, recording) = new();
        disk.capacity(capacity);
        let outcome = record(recording);
        let what = format!("room for {} bytes", capacity - from);
        assert!(outcome.end.is_ok(), "{what}: {:?}", outcome.end);
        if let Some(error) = &outcome.error {
            full += 1;
            assert!(error.is_full(), "{what}: {error}");
        }
        let report = check_all(&disk, &bundle, &outcome, &what);
        // A member that was taken, and is not there, is counted.
        assert!(report.lost <= 2, "{what}");
    }
    assert!(full > 3000 / step, "{full}");
}

#[test]
fn a_disk_that_is_full_from_the_beginning_leaves_no_recording() {
    let bundle = bundle();
    let whole = MemoryDisk::new();
    drop(Recording::create(&location(), &bundle, start(), log_key(), Arc::new(whole.clone())).unwrap());
    for capacity in (0..whole.used()).step_by(501) {
        let disk = MemoryDisk::new();
        disk.capacity(capacity);
        let error = Recording::create(&location(), &bundle, start(), log_key(), Arc::new(disk.clone()))
            .err()
            .unwrap();
        assert!(error.is_full(), "{error}");
        let names = disk.list(&location()).unwrap();
        assert!(names.iter().all(|name| name.starts_with('.')), "{names:?}");
    }
}

#[test]
fn a_disk_that_fails_once_at_any_change_ends_the_recording_or_leaves_one_that_resumes() {
    let bundle = bundle();
    let new = || {
        let disk = MemoryDisk::new();
        let made = Recording::create(&location(), &bundle, start(), log_key(), Arc::new(disk.clone()));
        (disk, made.unwrap())
    };
    let (disk, recording) = new();
    let from = disk.steps();
    drop(record(recording));
    for step in from..disk.steps() + 4 {
        let (disk, recording) = new();
        disk.fail_at(step);
        let mut outcome = record(recording);
        let what = format!("change {step}");
        let mut after = disk.after(Crash::Kept);
        if let Err(error) = &outcome.end {
            assert!(matches!(error, RecordingError::Io { .. }), "{what}: {error}");
            let path = location().join(bundle.id().to_string());
            let resume = Resume {
                time: TIME,
                known: None,
            };
            let (mut recording, recovery) =
                come_back(&path, resume, log_key(), Arc::new(after.clone())).unwrap();
            // More may have been sealed than was said: the error came after it.
            outcome.sealed.extend(
                recovery
                    .tracks
                    .iter()
                    .flat_map(|track| track.members.iter().map(|member| (track.id, member.sequence))),
            );
            recording.end(TIME, "over").unwrap();
            after = after.after(Crash::Lost);
        }
        check_all(&after, &bundle, &outcome, &what);
        if outcome.end.is_ok() {
            // What was said to have ended is so after a power cut, too.
            check_all(&disk.after(Crash::Lost), &bundle, &outcome, &what);
        }
    }
}

#[test]
fn an_end_that_failed_can_be_tried_again() {
    let bundle = bundle();
    let reference = MemoryDisk::new();
    let make = |disk: &MemoryDisk| {
        let mut recording =
            Recording::create(&location(), &bundle, start(), log_key(), Arc::new(disk.clone())).unwrap();
        let id = recording.open_track(track(Medium::Audio)).unwrap();
        recording.append(id, segment(id, 0)).unwrap();
        recording.sync().unwrap();
        let gap = Gap {
            from_ns: 1,
            to_ns: 2,
            frames: 1,
            cause: "lost".to_owned(),
        };
        recording.gap(id, gap).unwrap();
        recording
    };
    let mut recording = make(&reference);
    let from = reference.steps();
    recording.end(TIME, "over").unwrap();
    for step in from..reference.steps() {
        let disk = MemoryDisk::new();
        let mut recording = make(&disk);
        disk.fail_at(step);
        if recording.end(TIME, "over").is_err() {
            recording.end(TIME, "over").unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        disk.after(Crash::Lost).dump(folder.path());
        let path = folder.path().join(bundle.id().to_string());
        let report = check(&path);
        assert_eq!(
            report.state,
            State::Complete,
            "change {step}: {:?}",
            report.damages
        );
        assert_eq!(report.tracks[0].gaps, 1, "change {step}");
        assert_eq!(assert_content(&path).len(), 1);
    }
}
