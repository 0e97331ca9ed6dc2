use super::*;
use crate::attestation::Attestation;
use crate::digest::Digest;

#[test]
fn what_is_recorded_verifies_and_is_read_back() {
    let made = made(3);
    let report = check(&made.path);
    assert_eq!(report.state, State::Complete, "{:?}", report.damages);
    assert!(report.pinned);
    assert_eq!(report.end, Some((TIME + 9000, "end of call".to_owned())));
    let good: Vec<_> = report
        .tracks
        .iter()
        .map(|track| (track.good, track.members, track.to_ns))
        .collect();
    assert_eq!(good, [(3, 3, 3_000_000_000); 2]);
    assert_eq!(assert_content(&made.path).len(), 6);
    let mut names: Vec<_> = RealDisk.list(&made.path).unwrap();
    names.sort();
    assert_eq!(
        names,
        ["bundle.json", "key.age", "manifest", "recording.json", "tracks"]
    );
}

#[test]
fn a_recording_of_nothing_is_complete() {
    let made = made(0);
    let report = check(&made.path);
    assert_eq!(report.state, State::Complete, "{:?}", report.damages);
    assert_eq!(
        RealDisk.list(&made.path.join(TRACKS)).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn a_member_is_sealed_by_the_next_sync_and_its_line_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = create(folder.path(), Arc::new(RealDisk)).unwrap();
    let id = recording.open_track(track(Medium::Text)).unwrap();
    let before = recording.root();
    recording.append(id, segment(id, 0)).unwrap();
    assert_eq!(recording.root(), before);
    let sealed = recording.sync().unwrap();
    assert_eq!(sealed.len(), 1);
    assert_eq!(
        (sealed[0].track, sealed[0].sequence, sealed[0].to_ns),
        (id, 0, 1_000_000_000)
    );
    assert!(recording.sync().unwrap().is_empty());
    assert_eq!(recording.root().lines, before.lines + 2);
    let report = check(recording.path());
    assert_eq!((report.state, report.unsealed), (State::Unfinished, 0));
    assert_eq!(report.root, Some(recording.root()));
    recording.append(id, segment(id, 1)).unwrap();
    let report = check(recording.path());
    assert_eq!(report.state, State::Unfinished);
    assert!(report.unsealed > 0);

    recording.sync().unwrap();
    let index = Index::open(recording.path(), &options()).unwrap();
    let member = index.tracks()[0].members[1];
    assert_eq!((member.epochs, member.leaf, member.frames), ((5, 6), Some(1), 25));
    assert_eq!(index.tracks()[0].caps, track(Medium::Text).caps);
    assert_eq!(index.tracks()[0].sender, "p-42");
}

#[test]
fn gaps_are_in_the_manifest_and_move_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = create(folder.path(), Arc::new(RealDisk)).unwrap();
    let id = recording.open_track(track(Medium::Audio)).unwrap();
    let gap = Gap {
        from_ns: 1,
        to_ns: 7,
        frames: 3,
        cause: "queue full".to_owned(),
    };
    recording.gap(id, gap).unwrap();
    recording.end(TIME, "over").unwrap();
    let report = check(recording.path());
    let found = &report.tracks[0];
    assert_eq!(
        (found.gaps, found.members, found.from_ns, found.to_ns),
        (1, 0, 0, 0)
    );
    let index = Index::open(recording.path(), &options()).unwrap();
    assert_eq!(index.tracks()[0].gaps[0].cause, "queue full");
    assert_eq!(index.duration_ns(), 7);
    assert!(index.is_finished());
}

#[test]
fn a_bundle_makes_one_recording() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle();
    let make = || Recording::create(folder.path(), &bundle, start(), log_key(), Arc::new(RealDisk));
    drop(make().unwrap());
    assert!(matches!(make(), Err(RecordingError::Exists(_))));
}

#[test]
fn what_cannot_be_in_a_manifest_is_refused_before_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = create(folder.path(), Arc::new(RealDisk)).unwrap();
    let unfit = |result: Result<TrackId, RecordingError>| matches!(result, Err(RecordingError::Unfit(_)));
    let with = |caps: &str, sender: &str| Track {
        caps: caps.to_owned(),
        sender: sender.to_owned(),
        ..track(Medium::Data)
    };
    assert!(unfit(
        recording.open_track(with(&"x".repeat(manifest::MAX_CAPS + 1), ""))
    ));
    assert!(unfit(
        recording.open_track(with("", &"x".repeat(manifest::MAX_TEXT + 1)))
    ));
    assert!(unfit(recording.open_track(with("a\tb", ""))));
    assert!(unfit(recording.open_track(with("", "a\x1b[31mb"))));
    // The longest that a line can become: every character is escaped.
    let id = recording
        .open_track(with(&"\"".repeat(manifest::MAX_CAPS), "s"))
        .unwrap();
    let backwards = Segment {
        from_ns: 2,
        to_ns: 1,
        ..segment(id, 0)
    };
    assert!(matches!(
        recording.append(id, backwards),
        Err(RecordingError::Unfit(_))
    ));
    assert!(matches!(
        recording.append(TrackId(9), segment(id, 0)),
        Err(RecordingError::Unfit(_))
    ));
    assert!(matches!(
        recording.end(TIME, "a\nb"),
        Err(RecordingError::Unfit(_))
    ));
    recording.append(id, segment(id, 0)).unwrap();
    recording.end(TIME, "over").unwrap();
    assert!(matches!(recording.sync(), Err(RecordingError::Ended(_))));
    assert!(matches!(
        recording.end(TIME, "over"),
        Err(RecordingError::Ended(_))
    ));
    assert_eq!(check(recording.path()).state, State::Complete);
}

#[test]
fn the_most_tracks_that_a_recording_may_have_end_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = create(folder.path(), Arc::new(RealDisk)).unwrap();
    for _ in 0..manifest::MAX_TRACKS {
        recording.open_track(track(Medium::Video)).unwrap();
    }
    assert!(recording.open_track(track(Medium::Video)).is_err());
    recording
        .append(TrackId(4095), segment(TrackId(4095), 0))
        .unwrap();
    recording.end(TIME, &"\"".repeat(manifest::MAX_TEXT)).unwrap();
    let report = check(recording.path());
    assert_eq!(report.state, State::Complete, "{:?}", report.damages);
    // As long as a line of an end can become.
    let end = manifest::Fact::End(manifest::EndFact {
        time: u64::MAX,
        reason: "\"".repeat(manifest::MAX_TEXT),
        lost: u64::MAX,
        tracks: vec![
            manifest::TrackEnd {
                members: 100_000_000,
                bytes: 1 << 44,
            };
            manifest::MAX_TRACKS as usize
        ],
    });
    assert!(manifest::Chain::new(b"").make(end, &*log_key()).is_ok());
}

#[test]
fn of_a_track_that_is_over_no_file_is_open_once_it_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = create(folder.path(), Arc::new(RealDisk)).unwrap();
    let [over, later] = [Medium::Audio, Medium::Video].map(|m| recording.open_track(track(m)).unwrap());
    for id in [over, later] {
        recording.append(id, segment(id, 0)).unwrap();
    }
    let is_open = |recording: &Recording, name: &str| {
        let tar = fs::canonicalize(recording.path().join(TRACKS).join(name)).unwrap();
        let files = fs::read_dir("/proc/self/fd").unwrap();
        files
            .filter_map(|file| fs::read_link(file.unwrap().path()).ok())
            .any(|open| open == tar)
    };
    recording.close_track(over).unwrap();
    assert!(is_open(&recording, "0-audio.tar"), "it is not sealed yet");
    recording.sync().unwrap();
    assert!(!is_open(&recording, "0-audio.tar"));
    recording.close_track(later).unwrap();
    assert!(!is_open(&recording, "1-video.tar"));
    recording.end(TIME, "over").unwrap();
    let report = check(recording.path());
    assert_eq!(report.state, State::Complete, "{:?}", report.damages);
    assert_eq!(assert_content(recording.path()).len(), 2);
}

#[test]
fn in_a_room_the_certified_recorder_signs_the_same_facts() {
    let folder = tempfile::tempdir().unwrap();
    const RECORDER: &str = include_str!("../../../tests/data/attestation/recorder.pem");
    const CA: &str = include_str!("../../../tests/data/attestation/ca.pem");
    let certified = SigningKey::from_bytes(&[7; 32]);
    let attested = Start {
        claim: Claim::Recorded,
        policy: Some(Digest::of(b"policy")),
        recorder: Some("r-1".to_owned()),
        attest: Some(Box::new(move |facts| {
            let certificates = [RECORDER, CA].map(str::to_owned).to_vec();
            let signature = certified.sign("recording", facts);
            Ok(Attestation::new(certificates, &signature.0).unwrap())
        })),
        ..start()
    };
    let recording =
        Recording::create(folder.path(), &bundle(), attested, log_key(), Arc::new(RealDisk)).unwrap();
    let file = fs::read(recording.path().join(RECORDING_FILE)).unwrap();
    let (facts, attestation) = Facts::decode(&file).unwrap();
    assert_eq!(&facts, recording.facts());
    let signed = facts::signed(&file).unwrap();
    let certified_at = 1_798_761_600;
    let identity = attestation.unwrap().verify(&signed, certified_at, None).unwrap();
    assert_eq!(identity.subject, "7f3a");
    assert_eq!(check(recording.path()).state, State::Unfinished);
}

#[test]
fn claims_that_contradict_themselves_are_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let attest = || -> Option<facts::Attest> {
        Some(Box::new(|_| {
            Ok(Attestation::new(vec!["a certificate".to_owned()], &[0; 64]).unwrap())
        }))
    };
    let cases = [
        (Claim::Recorded, false, None),
        (Claim::Recorded, true, attest()),
        (Claim::Escrow, false, attest()),
        (Claim::Escrow, true, None),
        (Claim::Unattested, false, attest()),
    ];
    for (claim, escrow, attest) in cases {
        let bundle = if escrow { escrow_bundle() } else { bundle() };
        let with = Start {
            claim,
            attest,
            ..start()
        };
        let made = Recording::create(folder.path(), &bundle, with, log_key(), Arc::new(RealDisk));
        assert!(matches!(made, Err(RecordingError::Unfit(_))), "{claim} {escrow}");
    }
    let refusing = Start {
        claim: Claim::Recorded,
        attest: Some(Box::new(|_| Err("the keyring is gone".to_owned()))),
        ..start()
    };
    let made = Recording::create(folder.path(), &bundle(), refusing, log_key(), Arc::new(RealDisk));
    assert!(made.err().unwrap().to_string().contains("the keyring is gone"));
}

#[test]
fn under_escrow_the_shares_are_in_the_recording_and_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = escrow_bundle();
    let mut recording =
        Recording::create(folder.path(), &bundle, start(), log_key(), Arc::new(RealDisk)).unwrap();
    let id = recording.open_track(track(Medium::Audio)).unwrap();
    recording.append(id, segment(id, 0)).unwrap();
    recording.end(TIME, "over").unwrap();
    let report = check(recording.path());
    assert_eq!(report.state, State::Complete, "{:?}", report.damages);
    let mut shares = RealDisk.list(&recording.path().join("shares")).unwrap();
    shares.sort();
    assert_eq!(shares, ["001.age", "002.age"]);
    assert!(!recording.path().join("key.age").exists());
    let index = Index::open(recording.path(), &options()).unwrap();
    let opened = index.unlock(Key::Recipient(std::slice::from_ref(reader())), asked(&[]), |_| {
        panic!("nothing is accessed")
    });
    assert!(matches!(opened, Err(OpenError::Escrow(_))));
    fs::write(recording.path().join("shares/003.age"), "x").unwrap();
    fs::write(recording.path().join("shares/001.age"), "x").unwrap();
    let places: Vec<_> = check(recording.path())
        .damages
        .into_iter()
        .map(|damage| damage.place)
        .collect();
    assert_eq!(
        places,
        ["shares/001.age", "shares/003.age"].map(|name| Place::File(name.to_owned()))
    );
}
