//! Other holders, and the end, of recordings in a store: `gst-compliance rewrap` and `retention`, as people call them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use ed25519_dalek::SigningKey;
use gstcompliance::audit::entry::Claim as LoggedClaim;
use gstcompliance::audit::{Entry, Event, Id, Item, Log, Reader};
use gstcompliance::bundle::{Holders, Recipients, prepare, take_next};
use gstcompliance::ids::RecordingId;
use gstcompliance::recording::{
    Claim, Medium, Options as VerifyOptions, RealDisk, Recording, Segment, Start, State as Is, Track, verify,
};
use gstcompliance::store::{LockMode, Mirror, Options, wait};

use crate::common::LIMIT;
use crate::server::Server;
use crate::{address, options};

const DAY: u64 = 86_400_000;
const LONG_AGO: u64 = 1_600_000_000_000;

/// A clinic whose recordings and whose log go to a store.
struct Clinic {
    server: Server,
    dir: tempfile::TempDir,
    options: Options,
}

impl Clinic {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start();
        let mut options = options(&server, &dir.path().join("spool"), "visits", Some("log"));
        options.keys = Some(address("keys"));
        let clinic = Self { server, dir, options };
        clinic.person("ann");
        clinic.person("ben");
        clinic
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> PathBuf {
        self.path("spool/audit-log")
    }

    fn person(&self, name: &str) {
        let identity = Identity::generate();
        let file = self.path(&format!("{name}.txt"));
        fs::write(&file, identity.to_string().expose_secret()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(self.path(name), format!("{}\n", identity.to_public())).unwrap();
    }

    /// A whole recording for ann, in the spool.
    fn record(&self, started: u64, retention_days: Option<u32>) -> RecordingId {
        let keys = self.path("bundles");
        let holders = Holders::Recipients(Recipients::read(&self.path("ann")).unwrap());
        prepare(&keys, &holders, 1, &SigningKey::from_bytes(&[4; 32])).unwrap();
        let bundle = take_next(&keys, None, &|_| true).unwrap();
        let log = Log::open(&self.log()).unwrap();
        let logged = |event| {
            let entry = Entry {
                time: started,
                recording: Some(bundle.id()),
                event,
            };
            log.append(&entry).unwrap();
        };
        logged(Event::Started {
            recorder: Id::new("recorder").unwrap(),
            room: Id::new("room").unwrap(),
            epoch: 1,
            claim: LoggedClaim::Unattested,
            policy: None,
            consent: None,
            recipients: bundle.recipients().to_vec(),
            custodians: None,
            retention_days,
        });
        let start = Start {
            time: started,
            room: None,
            recorder: None,
            policy: None,
            claim: Claim::Unattested,
            consent: None,
            retention_days,
            attest: None,
        };
        let location = self.path("spool/recordings");
        fs::create_dir_all(&location).unwrap();
        let mut recording =
            Recording::create(&location, &bundle, start, log.signer(), Arc::new(RealDisk)).unwrap();
        let track = Track {
            medium: Medium::Audio,
            caps: "audio/x-opus".to_owned(),
            leaf: Some(1),
            sender: "p-1".to_owned(),
        };
        let track = recording.open_track(track).unwrap();
        let segment = Segment {
            bytes: vec![7; 5000].into(),
            from_ns: 0,
            to_ns: 1_000_000_000,
            epoch: (1, 1),
            leaf: Some(1),
            frames: 50,
            keyframes: None,
        };
        recording.append(track, segment).unwrap();
        recording.end(started + 1000, "eos").unwrap();
        let root = recording.root();
        logged(Event::Stopped {
            cause: Id::new("eos").unwrap(),
            lines: root.lines,
            root: root.root,
        });
        log.close().unwrap();
        bundle.id()
    }

    /// Brings all into the store.
    fn upload(&self) {
        let mirror = Mirror::shared(&self.options).unwrap();
        assert!(mirror.drain(LIMIT), "{:?}", mirror.status());
    }

    /// gst-compliance with these words, on this log, for a reason.
    fn call(&self, words: &[&str]) -> Output {
        let why = match words[1] {
            "list" => &[][..],
            _ => &["--by", "ops-1", "--reason", "staff", "--ticket", "C-7"],
        };
        let output = Command::new(env!("CARGO_BIN_EXE_gst-compliance"))
            .args(words)
            .arg("--audit-log")
            .arg(self.log())
            .args(why)
            .args(["--key-location", "s3://clinic/keys", "--store-credentials"])
            .arg(self.server.settings(false))
            .current_dir(self.dir.path())
            .env("TMPDIR", self.path(""))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let left = fs::read_dir(self.path("")).unwrap();
        let mut left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(!left.any(|name| name.starts_with("gst-compliance-")));
        output
    }

    /// It ends with this code, and says this.
    fn says(&self, words: &[&str], code: i32, expected: &str) -> String {
        let output = self.call(words);
        let text = [output.stdout, output.stderr]
            .map(|text| String::from_utf8(text).unwrap())
            .concat();
        assert!(
            output.status.code() == Some(code) && text.contains(expected),
            "{words:?}: {:?} {text}",
            output.status
        );
        text
    }

    /// What the log has of a recording since it ended.
    fn kinds(&self, recording: RecordingId) -> Vec<&'static str> {
        let entries = Reader::open(&self.log())
            .unwrap()
            .map(|item| match item.unwrap() {
                Item::Entry { entry, .. } => entry.unwrap(),
                Item::Damage(damage) => panic!("{damage}"),
            });
        let of = entries.filter(|entry| entry.recording == Some(recording));
        of.map(|entry| entry.event.kind()).skip(2).collect()
    }

    fn objects(&self, location: &str, id: RecordingId) -> Vec<String> {
        let bucket = self.server.bucket(&location.parse().unwrap());
        let objects = wait(async { bucket.list(&id.to_string(), 1000).await }).unwrap();
        let begins = format!("{id}/");
        let names = objects
            .iter()
            .map(|object| object.name.strip_prefix(&begins).unwrap().to_owned());
        names.collect()
    }

    /// Who opens what is in the store, by the log.
    fn opens(&self, id: RecordingId, by: &str) -> bool {
        let fetched = tempfile::tempdir_in(self.dir.path()).unwrap();
        let out = fetched.path().join("fetched");
        let fetch = Command::new(env!("CARGO_BIN_EXE_gst-compliance"))
            .args([
                "fetch",
                &format!("s3://clinic/visits/{id}"),
                "--key-location",
                "s3://clinic/keys",
            ])
            .arg("--store-credentials")
            .arg(self.server.settings(false))
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
        assert!(fetch.status.success(), "{fetch:?}");
        assert_eq!(
            verify(&out, &VerifyOptions::default()).unwrap().state,
            Is::Complete
        );
        let open = Command::new(env!("CARGO_BIN_EXE_gst-compliance"))
            .arg("open")
            .arg(&out)
            .args([
                "--reader",
                by,
                "--reason",
                "test",
                "--ticket",
                "T-1",
                "--identity",
            ])
            .arg(self.path(&format!("{by}.txt")))
            .arg("--audit-log")
            .arg(self.log())
            .arg("--out")
            .arg(fetched.path().join("opened"))
            .output()
            .unwrap();
        open.status.success()
    }
}

#[test]
fn keys_in_a_store_are_wrapped_to_others_and_the_old_key_files_are_gone() {
    let clinic = Clinic::new();
    clinic.server.keeps_versions("clinic");
    let (one, two) = (clinic.record(LONG_AGO, None), clinic.record(LONG_AGO, None));
    clinic.upload();
    let media = clinic.objects("s3://clinic/visits", one);
    assert!(clinic.opens(one, "ann") && !clinic.opens(one, "ben"));
    let url = format!("s3://clinic/visits/{one}");
    let to_ben = ["rewrap", &url, "--recipients", "ben", "--identity", "ann.txt"];
    clinic.says(&to_ben, 0, "Re-wrapped 1 of 1 recordings to 1 recipient");
    assert_eq!(
        clinic.objects("s3://clinic/keys", one),
        ["holders/1/key.age", "holders/1/rewrap.json"]
    );
    assert_eq!(clinic.objects("s3://clinic/visits", one), media);
    assert!(clinic.opens(one, "ben") && !clinic.opens(one, "ann"));
    assert_eq!(
        clinic
            .kinds(one)
            .iter()
            .filter(|kind| **kind == "rewrapped")
            .count(),
        1
    );
    clinic.says(&to_ben, 0, "were for these holders already");
    assert_eq!(
        clinic
            .kinds(one)
            .iter()
            .filter(|kind| **kind == "rewrapped")
            .count(),
        1
    );

    // Of what the bucket keeps of the old one nothing is left.
    let keys = clinic.server.bucket(&address("keys"));
    assert_eq!(
        wait(async { keys.get(&format!("{one}/key.age"), 1 << 20).await }).unwrap(),
        None
    );
    let path = format!("/clinic?versions&prefix=keys/{one}/key.age");
    let (_, versions) = clinic.server.ask("GET", &path, &[], b"");
    assert!(!String::from_utf8(versions).unwrap().contains("<Key>"));

    // All that are there, and back again; the statement of before stays.
    let all = [
        "rewrap",
        "s3://clinic/visits",
        "--recipients",
        "ann",
        "--identity",
        "ben.txt",
    ];
    let said = clinic.says(&all, 0, "Re-wrapped 1 of 2");
    assert!(said.contains("1 were for these holders already"), "{said}");
    assert!(clinic.opens(two, "ann"));
    assert_eq!(
        clinic.objects("s3://clinic/keys", one),
        [
            "holders/1/rewrap.json",
            "holders/2/key.age",
            "holders/2/rewrap.json"
        ]
    );
    assert!(clinic.opens(one, "ann") && !clinic.opens(one, "ben"));
}

#[test]
fn a_wrapping_that_was_logged_and_did_not_reach_the_store_is_made_up_for() {
    let clinic = Clinic::new();
    let id = clinic.record(LONG_AGO, None);
    clinic.upload();
    let url = format!("s3://clinic/visits/{id}");
    let to_ben = ["rewrap", &url, "--recipients", "ben", "--identity", "ann.txt"];
    // Somebody else's object is in the place of the new key file.
    let strange = format!("s3://clinic/keys/{id}/holders/1/key.age");
    clinic.server.replace(&strange, b"another one");
    let said = clinic.says(&to_ben, 1, "run this again");
    assert!(said.contains(&strange), "{said}");
    assert_eq!(clinic.server.content(&strange), b"another one");
    // Nothing has taken effect there; and it is done anew, under the next number, whoever put that there.
    assert!(
        clinic
            .objects("s3://clinic/keys", id)
            .contains(&"key.age".to_owned())
    );
    clinic.says(&to_ben, 0, "Re-wrapped 1 of 1");
    assert_eq!(
        clinic.objects("s3://clinic/keys", id),
        ["holders/2/key.age", "holders/2/rewrap.json"]
    );
    assert!(clinic.opens(id, "ben") && !clinic.opens(id, "ann"));
}

#[test]
fn what_is_due_in_a_store_is_deleted_by_a_logged_decision_and_what_is_held_is_not() {
    let clinic = Clinic::new();
    let due = clinic.record(LONG_AGO, Some(30));
    let kept = clinic.record(LONG_AGO, None);
    clinic.upload();
    let text = clinic.says(&["retention", "list", "s3://clinic/visits"], 0, &due.to_string());
    let line = |id: RecordingId| {
        let id = id.to_string();
        text.lines()
            .find(|line| line.starts_with(&id))
            .unwrap()
            .to_owned()
    };
    assert!(line(due).contains("due") && line(kept).contains("kept"), "{text}");

    let url = format!("s3://clinic/visits/{due}");
    clinic.says(&["retention", "apply", &url], 0, "would be deleted");
    let unlucky = format!("s3://clinic/visits/{kept}");
    clinic.says(
        &["retention", "apply", &unlucky, "--yes"],
        1,
        "has no retention time",
    );
    assert!(clinic.opens(kept, "ann"));

    let hold = |what: &str| {
        let held = Command::new(env!("CARGO_BIN_EXE_gst-compliance"))
            .args(["retention", what, &due.to_string(), "--by", "counsel"])
            .args(["--reason", "lawsuit", "--ticket", "L-1", "--audit-log"])
            .arg(clinic.log())
            .status()
            .unwrap();
        assert!(held.success());
    };
    hold("hold");
    clinic.says(
        &["retention", "apply", "s3://clinic/visits", "--yes"],
        1,
        "under legal hold",
    );
    assert!(clinic.opens(due, "ann"));
    hold("release");
    let before = clinic.kinds(due).len();
    let said = clinic.says(
        &["retention", "apply", "s3://clinic/visits", "--yes"],
        0,
        "Deleted 1",
    );
    assert!(said.contains(&due.to_string()), "{said}");
    assert_eq!(
        clinic.kinds(due)[before..],
        ["deletion-decided", "shredded", "deleted"]
    );
    assert!(clinic.objects("s3://clinic/visits", due).is_empty());
    assert!(clinic.objects("s3://clinic/keys", due).is_empty());
    assert!(clinic.opens(kept, "ann"));
    // The log goes to the store with all of that.
    clinic.upload();
    clinic.says(&["retention", "list", "s3://clinic/visits"], 0, &kept.to_string());
}

#[test]
fn media_under_a_lock_stays_without_its_keys_and_the_log_says_no_more_than_that() {
    let mut clinic = Clinic::new();
    clinic.server.lockable("locked");
    clinic.options.location = Some("s3://locked/visits".parse().unwrap());
    clinic.server.locks_by_default("locked");
    let id = clinic.record(LONG_AGO, Some(30));
    clinic.upload();
    let url = format!("s3://locked/visits/{id}");
    let apply = ["retention", "apply", &url, "--yes"];
    let said = clinic.says(&apply, 1, "the media stays");
    assert!(
        said.contains("retention lock") && said.contains("/manifest/"),
        "{said}"
    );
    assert_eq!(clinic.kinds(id), ["deletion-decided", "shredded"]);
    assert!(clinic.objects("s3://clinic/keys", id).is_empty());
    assert!(clinic.objects("s3://locked/visits", id).len() > 3);
    clinic.says(&["retention", "list", "s3://locked/visits"], 0, "shredded");
    clinic.says(&apply, 1, "the media stays");
    assert_eq!(clinic.kinds(id), ["deletion-decided", "shredded"]);
}

#[test]
fn recordings_are_locked_for_their_own_retention() {
    for (mode, word) in [
        (LockMode::Governance, "governance"),
        (LockMode::Compliance, "compliance"),
    ] {
        let mut clinic = Clinic::new();
        clinic.server.lockable("locked");
        clinic.options.location = Some("s3://locked/visits".parse().unwrap());
        clinic.options.lock = Some(mode);
        let now = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        let id = clinic.record(now, Some(30));
        clinic.upload();
        let objects = clinic.objects("s3://locked/visits", id);
        assert!(objects.len() > 3, "{objects:?}");
        for object in &objects {
            let headers = clinic
                .server
                .headers(&format!("s3://locked/visits/{id}/{object}"));
            let headers = headers.to_ascii_lowercase();
            let locked = format!("x-amz-object-lock-mode: {word}\r\n");
            assert!(headers.contains(&locked), "{object}: {headers}");
            let until = i64::try_from((now + 30 * DAY) / 1000).unwrap();
            let until = time::OffsetDateTime::from_unix_timestamp(until).unwrap();
            let until = format!("x-amz-object-lock-retain-until-date: {}t", until.date());
            assert!(headers.contains(&until), "{object}: {headers}");
        }
    }
}

#[test]
fn what_is_on_its_way_to_a_store_is_neither_deleted_nor_wrapped_to_others() {
    let clinic = Clinic::new();
    drop(Mirror::shared(&clinic.options).unwrap());
    let id = clinic.record(LONG_AGO, Some(30));
    let path = format!("spool/recordings/{id}");
    let waits = "on its way to a store";
    clinic.says(&["retention", "apply", "spool/recordings", "--yes"], 1, waits);
    clinic.says(&["retention", "list", "spool/recordings"], 0, waits);
    let to_ben = ["rewrap", &path, "--recipients", "ben", "--identity", "ann.txt"];
    clinic.says(&to_ben, 1, waits);
    assert_eq!(clinic.kinds(id), Vec::<&str>::new());

    // One that the store has, and the spool still, too.
    let kept = clinic.path("kept");
    let copy = |from: &PathBuf, to: &PathBuf| {
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    };
    copy(&clinic.path(&path), &kept);
    clinic.upload();
    copy(&kept, &clinic.path(&path));
    let url = format!("s3://clinic/visits/{id}");
    clinic.says(&["retention", "apply", &url, "--yes"], 1, waits);
    clinic.says(
        &["rewrap", &url, "--recipients", "ben", "--identity", "ann.txt"],
        1,
        waits,
    );
    assert_eq!(clinic.kinds(id), Vec::<&str>::new());
    assert!(!clinic.objects("s3://clinic/keys", id).is_empty());
}
