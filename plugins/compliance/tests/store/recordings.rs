//! The mirror and the way back, with recordings that a writer makes without any pipeline.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use gstcompliance::audit::{self, Entry, Event, Log};
use gstcompliance::bundle::take_next;
use gstcompliance::recording::{
    Claim, Disk, Medium, Options as VerifyOptions, Place as Where, RealDisk, Recording, Root, Segment, Start,
    State as Is, Track, TrackId, verify,
};
use gstcompliance::store::{
    Address, Bucket, Finding, LockMode, Mirror, State, StoreError, Stored, fetch_log, fetch_recording,
    pieces_of, wait,
};
use zeroize::Zeroizing;

use crate::common::{LIMIT, Place};
use crate::server::Server;
use crate::{address, files, options, until};

/// A recording that is written into a spool.
struct Writing {
    recording: Recording,
    tracks: Vec<TrackId>,
    next: u64,
    mirror: Option<Arc<Mirror>>,
}

impl Writing {
    fn new(place: &Place, spool: &Path) -> Self {
        let keys = take_next(&place.path("keys"), None, &|_| true).unwrap();
        let location = spool.join("recordings");
        fs::create_dir_all(&location).unwrap();
        let start = Start {
            time: 1_700_000_000_123,
            room: None,
            recorder: None,
            policy: None,
            claim: Claim::Unattested,
            consent: None,
            retention_days: Some(36_500),
            attest: None,
        };
        let signer = Arc::new(SigningKey::from_bytes(&[3; 32]));
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut recording = Recording::create(&location, &keys, start, signer, disk).unwrap();
        let tracks = [Medium::Audio, Medium::Video].map(|medium| {
            let track = Track {
                medium,
                caps: "x".into(),
                leaf: None,
                sender: "p-1".into(),
            };
            recording.open_track(track).unwrap()
        });
        recording.sync().unwrap();
        Self {
            recording,
            tracks: tracks.to_vec(),
            next: 0,
            mirror: None,
        }
    }

    fn by(mut self, mirror: &Arc<Mirror>) -> Self {
        self.mirror = Some(mirror.clone());
        self.told();
        self
    }

    fn told(&self) {
        if let Some(mirror) = &self.mirror {
            mirror.sealed(self.recording.id(), self.recording.manifest_bytes(), 0);
        }
    }

    /// Seals so many members of each track.
    fn seal(&mut self, members: u64) {
        for _ in 0..members {
            for track in &self.tracks {
                let length = 500 + 3000 * u64::from(track.0) + 100 * (self.next % 7);
                let segment = Segment {
                    bytes: Zeroizing::new((0..length).map(|i| (i * i + self.next) as u8).collect()),
                    from_ns: self.next * 1_000_000_000,
                    to_ns: (self.next + 1) * 1_000_000_000,
                    epoch: (1, 1),
                    leaf: None,
                    frames: 1,
                    keyframes: None,
                };
                self.recording.append(*track, segment).unwrap();
            }
            self.recording.sync().unwrap();
            self.next += 1;
            self.told();
        }
    }

    fn end(mut self) -> PathBuf {
        self.recording.end(1_700_000_009_000, "end").unwrap();
        let (id, path) = (self.recording.id(), self.recording.path().to_owned());
        drop(self.recording);
        if let Some(mirror) = self.mirror {
            mirror.released(id);
        }
        path
    }
}

/// What a test of this needs.
struct Scene {
    place: Place,
    server: Server,
    location: Address,
}

impl Scene {
    fn new(bundles: u32) -> Self {
        Self {
            place: Place::new(bundles),
            server: Server::start(),
            location: address("visits"),
        }
    }

    fn spool(&self) -> PathBuf {
        self.place.path("spool")
    }

    fn mirror(&self) -> Arc<Mirror> {
        Mirror::shared(&options(&self.server, &self.spool(), "visits", None)).unwrap()
    }

    fn media(&self) -> Bucket {
        self.server.bucket(&self.location)
    }

    /// Fetches the recording of a folder.
    fn fetched(&self, of: &Path, to: &str) -> (PathBuf, Vec<Finding>) {
        let out = self.place.path(to);
        let id = of.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let keys = self.server.bucket(&self.location.keys());
        let findings = wait(fetch_recording(&self.media(), &keys, id, &out)).unwrap();
        (out, findings)
    }

    /// The objects of a recording, by their names.
    fn objects(&self, of: &Path) -> Vec<String> {
        let id = of.file_name().unwrap().to_str().unwrap();
        wait(async { self.media().list(id, 10_000).await })
            .unwrap()
            .into_iter()
            .map(|object| object.name)
            .collect()
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.location)
    }

    /// The recording of a folder, at a place and with its keys at another.
    fn stored(&self, of: &Path, location: &Address, keys: &Address) -> Stored {
        Stored {
            id: of.file_name().unwrap().to_str().unwrap().parse().unwrap(),
            media: self.server.bucket(location),
            keys: self.server.bucket(keys),
        }
    }
}

/// All of it is in the store, and the spool has forgotten it.
fn assert_gone(scene: &Scene, mirror: &Arc<Mirror>, path: &Path) {
    assert!(mirror.drain(LIMIT), "{:?}", mirror.status());
    assert!(!path.exists());
    let id = path.file_name().unwrap().to_str().unwrap();
    assert!(scene.spool().join("store").join(format!("{id}.json")).exists());
}

#[test]
fn what_is_recorded_is_in_the_store_and_comes_back_byte_for_byte() {
    let scene = Scene::new(1);
    let mirror = scene.mirror();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    writing.seal(5);
    assert!(mirror.drain(LIMIT), "{:?}", mirror.status());
    let (unfinished, findings) = scene.fetched(writing.recording.path(), "unfinished");
    assert_eq!(findings, []);
    let report = verify(&unfinished, &VerifyOptions::default()).unwrap();
    assert_eq!(
        (report.state, report.root),
        (Is::Unfinished, Some(writing.recording.root()))
    );
    assert_eq!(report.unsealed, 0);

    writing.seal(20);
    drop(mirror);
    // Without a mirror, nothing leaves: so that there is something to compare with.
    writing.mirror = None;
    let path = writing.end();
    let here = files(&path);
    let mirror = scene.mirror();
    assert_gone(&scene, &mirror, &path);
    let (out, findings) = scene.fetched(&path, "out");
    assert_eq!(findings, []);
    assert!(files(&out) == here, "{:?}", files(&out).keys());
    let report = verify(&out, &VerifyOptions::default()).unwrap();
    assert_eq!(report.state, Is::Complete, "{:?}", report.damages);
    // And its holder opens it with tar and age alone.
    assert_eq!(scene.place.open(&out).len(), 2);
    let status = mirror.status();
    assert_eq!((status.state, status.pending, status.spool), (State::Ok, 0, 0));
    assert!(status.uploaded > 10_000, "{status:?}");
}

#[test]
fn keys_lie_elsewhere_so_that_they_can_be_destroyed_while_the_media_is_locked() {
    let scene = Scene::new(1);
    let mirror = scene.mirror();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    writing.seal(1);
    let path = writing.end();
    assert_gone(&scene, &mirror, &path);
    let objects = scene.objects(&path);
    assert!(!objects.iter().any(|name| name.contains("key")), "{objects:?}");
    let id = path.file_name().unwrap().to_str().unwrap();
    assert!(
        !scene
            .server
            .content(&format!("s3://clinic/visits-keys/{id}/key.age"))
            .is_empty()
    );
}

#[test]
fn an_outage_in_the_middle_is_caught_up_with() {
    let scene = Scene::new(1);
    let mirror = scene.mirror();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    writing.seal(3);
    assert!(mirror.drain(LIMIT));
    scene.server.wire.cut();
    writing.seal(30);
    let away = until(&mirror, "the outage", |status| status.state == State::Away);
    assert!(
        away.pending > 0 && away.errors > 0 && away.trouble.is_some(),
        "{away:?}"
    );
    assert!(!mirror.drain(Duration::from_millis(300)));
    let path = writing.end();
    assert!(path.exists());
    scene.server.wire.mend();
    assert_gone(&scene, &mirror, &path);
    let (out, _) = scene.fetched(&path, "out");
    assert_eq!(
        verify(&out, &VerifyOptions::default()).unwrap().state,
        Is::Complete
    );
    assert_eq!(mirror.status().state, State::Ok);
}

#[test]
fn a_server_that_stands_still_is_away_and_no_one_waits_for_it() {
    let scene = Scene::new(1);
    let mirror = scene.mirror();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    writing.seal(1);
    assert!(mirror.drain(LIMIT));
    scene.server.stop(true);
    writing.seal(10);
    let status = until(&mirror, "an answer that does not come", |status| {
        status.state == State::Away
    });
    assert!(status.oldest > Duration::ZERO, "{status:?}");
    scene.server.stop(false);
    let path = writing.end();
    assert_gone(&scene, &mirror, &path);
}

#[test]
fn a_server_that_is_started_again_gets_what_it_missed() {
    let mut scene = Scene::new(1);
    scene.server.kill();
    let mirror = scene.mirror();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    writing.seal(10);
    until(&mirror, "the outage", |status| status.state == State::Away);
    scene.server.restart();
    writing.seal(2);
    let path = writing.end();
    assert_gone(&scene, &mirror, &path);
    let (out, findings) = scene.fetched(&path, "out");
    assert_eq!(findings, []);
    assert_eq!(
        verify(&out, &VerifyOptions::default()).unwrap().state,
        Is::Complete
    );
}

#[test]
fn a_store_that_forgot_what_it_had_is_told_and_nothing_leaves_the_spool() {
    let mut scene = Scene::new(1);
    let mirror = scene.mirror();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    writing.seal(3);
    assert!(mirror.drain(LIMIT));
    scene.server.kill();
    scene.server.restart();
    writing.seal(2);
    let path = writing.end();
    let status = until(&mirror, "the loss", |status| status.state == State::Failed);
    assert!(status.trouble.is_some(), "{status:?}");
    assert_eq!(
        verify(&path, &VerifyOptions::default()).unwrap().state,
        Is::Complete
    );
}

#[test]
fn a_mirror_that_dies_at_any_moment_leaves_what_verifies_and_the_next_one_goes_on() {
    let scene = Scene::new(1);
    let mut writing = Writing::new(&scene.place, &scene.spool());
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut cuts, mut seen) = (0, 0);
    for round in 0..16 {
        writing.seal(2);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        scene.server.wire.cut_after(random % 30_000);
        let mirror = scene.mirror();
        let mut waited = 0;
        while !scene.server.wire.is_cut() && !mirror.drain(Duration::from_millis(100)) && waited < 100 {
            waited += 1;
        }
        cuts += u32::from(scene.server.wire.is_cut());
        // It dies here; the next one knows nothing of it.
        drop(mirror);
        scene.server.wire.mend();
        if scene
            .objects(writing.recording.path())
            .iter()
            .any(|name| name.contains("/manifest/"))
        {
            let (out, findings) = scene.fetched(writing.recording.path(), &format!("out-{round}"));
            assert_eq!(findings, [], "round {round}");
            let report = verify(&out, &VerifyOptions::default()).unwrap();
            assert_eq!(
                report.state,
                Is::Unfinished,
                "round {round}: {:?}",
                report.damages
            );
            let lines = report.root.unwrap().lines;
            assert!(lines >= seen, "round {round}");
            seen = lines;
        }
    }
    assert!(cuts > 3, "only {cuts} were cut");
    let path = writing.end();
    let here = files(&path);
    let mirror = scene.mirror();
    assert_gone(&scene, &mirror, &path);
    let (out, findings) = scene.fetched(&path, "out");
    assert_eq!(findings, []);
    assert!(files(&out) == here);
    assert!(seen > 1);
}

#[test]
fn a_tampered_object_is_named_and_so_is_one_that_is_missing() {
    let scene = Scene::new(1);
    let mirror = scene.mirror();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    for _ in 0..4 {
        writing.seal(3);
        assert!(mirror.drain(LIMIT));
    }
    let path = writing.end();
    let id = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    assert_gone(&scene, &mirror, &path);
    let objects = scene.objects(&path);
    let video: Vec<_> = objects
        .iter()
        .filter(|name| name.contains("/tracks/1-video/"))
        .collect();
    assert!(video.len() >= 4, "{objects:?}");

    // A byte in the second piece.
    let url = scene.url(video[1]);
    let whole = scene.server.content(&url);
    let mut changed = whole.clone();
    changed[1000] ^= 1;
    scene.server.replace(&url, &changed);
    let (out, findings) = scene.fetched(&path, "changed");
    assert_eq!(findings, []);
    let report = verify(&out, &VerifyOptions::default()).unwrap();
    assert_eq!(report.state, Is::Damaged);
    assert_eq!(report.damages.len(), 1);
    let Where::Member {
        track: TrackId(1), ..
    } = report.damages[0].place
    else {
        panic!("{:?}", report.damages)
    };
    let places = [report.damages[0].place.clone()];
    let named = wait(pieces_of(&scene.media(), id, &places)).unwrap();
    assert_eq!(named, std::slice::from_ref(&url));

    // It is missing.
    scene.server.remove(&url);
    let (out, findings) = scene.fetched(&path, "missing");
    let [Finding::Hole { file, before, .. }] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert_eq!(
        (file.as_str(), before),
        ("tracks/1-video.tar", &scene.url(video[2]))
    );
    let report = verify(&out, &VerifyOptions::default()).unwrap();
    assert_eq!(report.state, Is::Damaged);
    assert!(report.damages.iter().all(|damage| matches!(
        damage.place,
        Where::Member {
            track: TrackId(1),
            ..
        }
    )));
    scene.server.replace(&url, &whole);

    // A line of the manifest, and one that nobody put there.
    let manifest: Vec<_> = objects
        .iter()
        .filter(|name| name.contains("/manifest/"))
        .collect();
    let url = scene.url(manifest[1]);
    let whole = scene.server.content(&url);
    scene.server.remove(&url);
    let (out, findings) = scene.fetched(&path, "lines");
    assert!(
        matches!(&findings[..], [Finding::Hole { file, .. }] if file == "manifest"),
        "{findings:?}"
    );
    let report = verify(&out, &VerifyOptions::default()).unwrap();
    assert!(
        report
            .damages
            .iter()
            .any(|damage| matches!(damage.place, Where::Line(_))),
        "{:?}",
        report.damages
    );
    scene.server.replace(&url, &whole);
    let strange = scene.url(&format!("{id}/notes.txt"));
    scene.server.replace(&strange, b"hello");
    let (_, findings) = scene.fetched(&path, "strange");
    assert_eq!(findings, [Finding::Extra(format!("{id}/notes.txt"))]);
    scene.server.remove(&strange);

    // With all of it back, all is well.
    let (out, findings) = scene.fetched(&path, "well");
    assert_eq!(findings, []);
    assert_eq!(
        verify(&out, &VerifyOptions::default()).unwrap().state,
        Is::Complete
    );
}

#[test]
fn what_somebody_else_put_there_is_not_overwritten_and_stops_nothing_else() {
    let scene = Scene::new(2);
    let mut writing = Writing::new(&scene.place, &scene.spool());
    writing.seal(2);
    let id = writing.recording.id();
    let name = format!("{id}/tracks/0-audio/0000000000-000000000000000");
    scene.server.replace(&scene.url(&name), b"another one");
    let mirror = scene.mirror();
    let status = until(&mirror, "the conflict", |status| status.state == State::Failed);
    let trouble = status.trouble.unwrap();
    assert!(trouble.contains("another one than here"), "{trouble}");
    assert_eq!(scene.server.content(&scene.url(&name)), b"another one");
    assert!(
        !scene
            .objects(writing.recording.path())
            .iter()
            .any(|name| name.contains("manifest"))
    );

    let mut other = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    other.seal(2);
    let other = other.end();
    let begun = std::time::Instant::now();
    while other.exists() {
        assert!(begun.elapsed() < LIMIT, "{:?}", mirror.status());
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = mirror.status();
    assert_eq!(
        status.state,
        State::Failed,
        "what is refused stays so until somebody looks: {status:?}"
    );
}

#[test]
fn what_was_changed_in_the_store_before_it_was_compared_does_not_leave_the_spool() {
    let scene = Scene::new(1);
    let mirror = scene.mirror();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    writing.seal(3);
    assert!(mirror.drain(LIMIT));
    let objects = scene.objects(writing.recording.path());
    let name = objects
        .iter()
        .find(|name| name.contains("/tracks/0-audio/"))
        .unwrap();
    let url = scene.url(name);
    let mut changed = scene.server.content(&url);
    changed[600] ^= 1;
    scene.server.replace(&url, &changed);
    let path = writing.end();
    let status = until(&mirror, "the difference", |status| status.state == State::Failed);
    assert!(
        status
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.contains(name.as_str())),
        "{status:?}"
    );
    assert!(path.join("tracks/0-audio.tar").exists());
    assert_eq!(
        verify(&path, &VerifyOptions::default()).unwrap().state,
        Is::Complete
    );
}

#[test]
fn what_the_lock_holds_cannot_be_removed_and_its_keys_can() {
    let scene = Scene::new(2);
    scene.server.lockable("locked");
    let mut of = options(&scene.server, &scene.spool(), "visits", None);
    let location: Address = "s3://locked/visits".parse().unwrap();
    of.location = Some(location.clone());
    of.keys = Some(address("keys"));
    of.lock = Some(LockMode::Compliance);
    let mirror = Mirror::shared(&of).unwrap();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    writing.seal(2);
    let path = writing.end();
    assert_gone(&scene, &mirror, &path);
    let stored = scene.stored(&path, &location, &address("keys"));
    let error = wait(stored.remove_media()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Locked { name, .. } if name.contains("/manifest/")),
        "{error}"
    );
    assert!(error.to_string().contains("retention lock"), "{error}");
    let fetched = |to: &str| {
        let out = scene.place.path(to);
        let findings = wait(fetch_recording(&stored.media, &stored.keys, stored.id, &out)).unwrap();
        assert_eq!(findings, []);
        out
    };
    let out = fetched("still");
    assert_eq!(
        verify(&out, &VerifyOptions::default()).unwrap().state,
        Is::Complete
    );

    // Without its keys it is noise, lock or not.
    assert!(wait(stored.has_keys()).unwrap());
    assert_eq!(wait(stored.remove_keys()).unwrap().versions, 1);
    assert!(!wait(stored.has_keys()).unwrap());
    assert!(!fetched("noise").join("key.age").exists());
}

#[test]
fn a_bucket_that_locks_by_default_is_respected() {
    let scene = Scene::new(1);
    scene.server.lockable("locked");
    scene.server.locks_by_default("locked");
    let mut of = options(&scene.server, &scene.spool(), "visits", None);
    let location: Address = "s3://locked/visits".parse().unwrap();
    of.location = Some(location.clone());
    let mirror = Mirror::shared(&of).unwrap();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    writing.seal(2);
    let path = writing.end();
    assert_gone(&scene, &mirror, &path);
    let stored = scene.stored(&path, &location, &location.keys());
    let error = wait(stored.remove_media()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    // Here the keys went into the same bucket, and that is what the documents warn of.
    let error = wait(stored.remove_keys()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("retention lock"), "{error}");
}

#[test]
fn what_no_lock_holds_can_be_removed_with_all_its_versions() {
    let scene = Scene::new(1);
    scene.server.keeps_versions("clinic");
    let mirror = scene.mirror();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    writing.seal(2);
    let path = writing.end();
    assert_gone(&scene, &mirror, &path);
    let stored = scene.stored(&path, &scene.location, &scene.location.keys());
    assert!(wait(stored.is_finished()).unwrap());
    // One was overwritten by somebody, another one deleted: both are still there, hidden.
    let objects = scene.objects(&path);
    let tar = objects.iter().find(|name| name.contains("/tracks/")).unwrap();
    scene.server.replace(&scene.url(tar), b"another one");
    scene.server.remove(&scene.url(objects.last().unwrap()));

    let removed = wait(stored.remove_media()).unwrap();
    // All but recording.json; one more version, and what hides one.
    assert_eq!(removed.versions, objects.len() as u64 - 1 + 2, "{objects:?}");
    assert!(removed.bytes > 10_000, "{removed:?}");
    assert_eq!(wait(stored.remove_media()).unwrap().versions, 0);
    assert!(wait(stored.recording_file()).is_ok());
    wait(stored.forget()).unwrap();
    assert!(matches!(
        wait(stored.recording_file()),
        Err(StoreError::Missing(_))
    ));
}

#[test]
fn what_is_no_part_of_a_recording_stays_and_with_it_what_says_whose_folder_this_is() {
    let scene = Scene::new(1);
    let mirror = scene.mirror();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    writing.seal(1);
    let path = writing.end();
    assert_gone(&scene, &mirror, &path);
    let stored = scene.stored(&path, &scene.location, &scene.location.keys());
    let strange = scene.url(&format!("{}/notes.txt", stored.id));
    scene.server.replace(&strange, b"hello");
    wait(stored.remove_media()).unwrap();
    let error = wait(stored.forget()).unwrap_err().to_string();
    assert!(error.contains("notes.txt"), "{error}");
    assert!(wait(stored.recording_file()).is_ok());
    assert_eq!(scene.server.content(&strange), b"hello");
    scene.server.remove(&strange);
    wait(stored.forget()).unwrap();
    assert_eq!(scene.objects(&path), Vec::<String>::new());
}

#[test]
fn no_entry_of_the_log_is_there_before_what_it_speaks_of() {
    let scene = Scene::new(1);
    let of = options(&scene.server, &scene.spool(), "visits", Some("log"));
    let mirror = Mirror::shared(&of).unwrap();
    let log = Log::open(&scene.spool().join("audit-log")).unwrap();
    let mut writing = Writing::new(&scene.place, &scene.spool()).by(&mirror);
    let (id, path) = (writing.recording.id(), writing.recording.path().to_owned());
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut named = 0;
    for round in 0..12 {
        writing.seal(2);
        let root = writing.recording.root();
        let event = Event::Manifest {
            lines: root.lines,
            root: root.root,
        };
        let entry = Entry {
            time: 1,
            recording: Some(id),
            event,
        };
        log.append(&entry).unwrap();
        log.checkpoint().unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        scene.server.wire.cut_after(random % 30_000);
        // Until it is cut, or nothing more has to pass.
        while !scene.server.wire.is_cut() && !mirror.drain(Duration::from_millis(100)) {}
        scene.server.wire.cut();
        let out = scene.place.path(&format!("log-{round}"));
        let bucket = scene.server.bucket(&address("log"));
        if wait(fetch_log(&bucket, &out)).is_ok() && out.join("vkey").exists() {
            let known = audit::Reader::open(&out)
                .unwrap()
                .filter_map(|item| match item.unwrap() {
                    audit::Item::Entry { entry, .. } => match entry.unwrap().event {
                        Event::Manifest { lines, root } => Some(Root { lines, root }),
                        _ => None,
                    },
                    audit::Item::Damage(damage) => panic!("{damage}"),
                });
            if let Some(known) = known.last() {
                let (out, _) = scene.fetched(&path, &format!("out-{round}"));
                let options = VerifyOptions {
                    known: Some(known),
                    ..VerifyOptions::default()
                };
                let report = verify(&out, &options).unwrap();
                assert_eq!(
                    report.state,
                    Is::Unfinished,
                    "round {round}: {:?} {:?}",
                    report.damages,
                    mirror.status()
                );
                named = known.lines;
            }
        }
        scene.server.wire.mend();
    }
    assert!(named > 4, "{named}");
}
