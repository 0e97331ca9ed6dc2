//! The audit log in a store.

use std::path::PathBuf;
use std::sync::Arc;

use gstcompliance::audit::entry::ConsentStatus;
use gstcompliance::audit::{self, Entry, Event, Log, VerifyOptions, Witness, anchor};
use gstcompliance::store::{Bucket, Finding, Mirror, Options, State, fetch_log, wait};

use crate::common::{LIMIT, Place};
use crate::server::Server;
use crate::{address, options, until};

fn entry(number: u64) -> Entry {
    Entry {
        time: 1_700_000_000_000 + number,
        recording: None,
        event: Event::Consent {
            reference: None,
            status: ConsentStatus::Valid,
            until: Some(number),
        },
    }
}

struct Scene {
    place: Place,
    server: Server,
}

impl Scene {
    fn new() -> Self {
        Self {
            place: Place::new(1),
            server: Server::start(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.place.path("spool/audit-log")
    }

    fn options(&self) -> Options {
        let mut options = options(&self.server, &self.place.path("spool"), "unused", Some("log"));
        options.location = None;
        options
    }

    fn mirror(&self) -> Arc<Mirror> {
        Mirror::shared(&self.options()).unwrap()
    }

    fn bucket(&self) -> Bucket {
        self.server.bucket(&address("log"))
    }

    fn objects(&self, folder: &str) -> Vec<String> {
        let objects = wait(async { self.bucket().list(folder, 10_000).await }).unwrap();
        objects.into_iter().map(|object| object.name).collect()
    }

    /// Fetches and verifies it.
    fn verified(&self, to: &str, log: &Log) -> (audit::Report, Vec<Finding>, PathBuf) {
        let out = self.place.path(to);
        let (findings, seen) = wait(fetch_log(&self.bucket(), &out)).unwrap();
        let options = VerifyOptions {
            key: Some(log.key()),
            seen,
            ..VerifyOptions::default()
        };
        (audit::verify(&out, &options).unwrap(), findings, out)
    }
}

#[test]
fn entries_are_in_the_store_once_they_are_signed_and_come_back_byte_for_byte() {
    let scene = Scene::new();
    let mirror = scene.mirror();
    let log = Log::open(&scene.folder()).unwrap();
    for number in 0..30 {
        log.append(&entry(number)).unwrap();
        if number % 10 == 9 {
            assert!(mirror.drain(LIMIT), "{:?}", mirror.status());
        }
    }
    let (report, findings, out) = scene.verified("out", &log);
    assert!(
        report.is_intact() && findings.is_empty(),
        "{report:?} {findings:?}"
    );
    assert_eq!((report.entries, report.signed), (30, 30));
    for file in ["log", "vkey", "checkpoint"] {
        let here = std::fs::read(scene.folder().join(file)).unwrap();
        assert_eq!(std::fs::read(out.join(file)).unwrap(), here, "{file}");
    }
    assert!(!out.join("key").exists());
    assert!(scene.objects("log").len() >= 3);

    // A mirror that knows nothing goes on where the last one stood.
    drop(mirror);
    for number in 30..40 {
        log.append(&entry(number)).unwrap();
    }
    let mirror = scene.mirror();
    assert!(mirror.drain(LIMIT), "{:?}", mirror.status());
    let (report, findings, _) = scene.verified("more", &log);
    assert!(
        report.is_intact() && findings.is_empty(),
        "{report:?} {findings:?}"
    );
    assert_eq!(report.entries, 40);
}

#[test]
fn a_gap_a_change_and_a_past_that_was_signed_again_are_named() {
    let scene = Scene::new();
    let mirror = scene.mirror();
    let log = Log::open(&scene.folder()).unwrap();
    for number in 0..40 {
        log.append(&entry(number)).unwrap();
        if number % 10 == 9 {
            assert!(mirror.drain(LIMIT));
        }
    }
    let pieces = scene.objects("log");
    assert!(pieces.len() >= 4, "{pieces:?}");
    let url = |name: &str| format!("s3://clinic/log/{name}");

    let whole = scene.server.content(&url(&pieces[1]));
    let mut changed = whole.clone();
    changed[30] ^= 1;
    scene.server.replace(&url(&pieces[1]), &changed);
    let (report, ..) = scene.verified("changed", &log);
    assert!(!report.is_intact());

    scene.server.remove(&url(&pieces[1]));
    let (report, findings, _) = scene.verified("gap", &log);
    assert!(!report.is_intact());
    let [Finding::Hole { file, before, .. }] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert_eq!((file.as_str(), before), ("log", &url(&pieces[2])));
    scene.server.replace(&url(&pieces[1]), &whole);
    let (report, ..) = scene.verified("well", &log);
    assert!(report.is_intact(), "{:?}", report.damages);

    // Whoever holds the key writes the last entries anew and signs that: the older checkpoints are still there.
    drop(mirror);
    let forged = scene.place.path("forged");
    std::fs::create_dir(&forged).unwrap();
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&forged, mode(0o700)).unwrap();
        std::fs::copy(scene.folder().join("key"), forged.join("key")).unwrap();
        std::fs::set_permissions(forged.join("key"), mode(0o600)).unwrap();
    }
    let again = Log::open(&forged).unwrap();
    assert_eq!(again.key(), log.key());
    for number in 0..40 {
        let entry = entry(if number == 15 { 99 } else { number });
        again.append(&entry).unwrap();
    }
    let note = again.checkpoint().unwrap();
    let bytes = std::fs::read(forged.join("log")).unwrap();
    let mut at = 0;
    for name in &pieces {
        let length = scene.server.content(&url(name)).len();
        scene.server.replace(&url(name), &bytes[at..at + length]);
        at += length;
    }
    assert_eq!(at, bytes.len(), "entries of the same length");
    let newest = scene.objects("checkpoint").pop().unwrap();
    scene.server.replace(&url(&newest), note.as_bytes());
    let out = scene.place.path("alone");
    wait(fetch_log(&scene.bucket(), &out)).unwrap();
    let alone = audit::verify(&out, &VerifyOptions::default()).unwrap();
    assert!(alone.is_intact(), "the newest checkpoint alone says nothing");
    let (report, ..) = scene.verified("rewritten", &log);
    let rewritten = |damage: &audit::Damage| matches!(damage, audit::Damage::Rewritten { .. });
    assert!(report.damages.iter().any(rewritten), "{:?}", report.damages);
}

#[test]
fn another_log_does_not_go_to_the_same_place() {
    let scene = Scene::new();
    let mirror = scene.mirror();
    let log = Log::open(&scene.folder()).unwrap();
    log.append(&entry(1)).unwrap();
    assert!(mirror.drain(LIMIT));
    let mut other = scene.options();
    other.spool = scene.place.path("other");
    let mirror = Mirror::shared(&other).unwrap();
    let stranger = Log::open(&scene.place.path("other/audit-log")).unwrap();
    stranger.append(&entry(2)).unwrap();
    let status = until(&mirror, "the refusal", |status| status.state == State::Failed);
    assert!(
        status
            .trouble
            .as_ref()
            .is_some_and(|text| text.contains("another audit log")),
        "{status:?}"
    );
    let (report, ..) = scene.verified("out", &log);
    assert!(report.is_intact());
    assert_eq!(report.entries, 1);
}

#[test]
fn what_a_witness_cosigned_is_there_too() {
    let scene = Scene::new();
    let mirror = scene.mirror();
    let log = Log::open(&scene.folder()).unwrap();
    log.append(&entry(1)).unwrap();
    let witness = Witness::create(&scene.place.path("witness")).unwrap();
    witness.admit(log.verifier_key()).unwrap();
    anchor(&log, &witness).unwrap();
    log.append(&entry(2)).unwrap();
    assert!(mirror.drain(LIMIT), "{:?}", mirror.status());
    let out = scene.place.path("out");
    wait(fetch_log(&scene.bucket(), &out)).unwrap();
    let options = VerifyOptions {
        witnesses: vec![witness.verifier_key().clone()],
        ..VerifyOptions::default()
    };
    let report = audit::verify(&out, &options).unwrap();
    assert!(report.is_intact(), "{:?}", report.damages);
    assert_eq!((report.anchored, report.signed), (1, 2));
}
