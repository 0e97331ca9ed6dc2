//! `gst-compliance audit`, as people and programs call it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use gstcompliance::audit::{Entry, Event, Id, Log, Text};
use gstcompliance::ids::RecordingId;
use serde_json::Value;

struct Place(tempfile::TempDir);

/// What a call printed, and what it ended with.
struct Said {
    out: String,
    error: String,
    code: i32,
}

impl Place {
    /// A log with an access to a recording in it.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.append(&[
            Event::ClockJump { by_ms: -5 },
            Event::AccessDenied {
                access: Id::new("a1").unwrap(),
                by: Id::new("dr-weber").unwrap(),
                reason: Text::new("no order of a court").unwrap(),
            },
        ]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn append(&self, events: &[Event]) {
        let log = Log::open(&self.path("log")).unwrap();
        for (time, event) in (1_700_000_000_000..).zip(events) {
            let recording = matches!(event, Event::AccessDenied { .. });
            log.append(&Entry {
                time,
                recording: recording.then(|| RecordingId::from_bytes([0xab; 16])),
                event: event.clone(),
            })
            .unwrap();
        }
        log.close().unwrap();
    }

    fn vkey(&self, name: &str) -> String {
        fs::read_to_string(self.path(name).join("vkey"))
            .unwrap()
            .trim_end()
            .to_owned()
    }

    fn key(&self) -> String {
        Log::open(&self.path("log")).unwrap().key().to_string()
    }

    /// Calls `gst-compliance audit`, in the place's folder.
    fn audit(&self, words: &[&str], input: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gst-compliance"));
        command.arg("audit").args(words).current_dir(self.0.path());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Some calls do not read it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let done = child.wait_with_output().unwrap();
        Said {
            out: String::from_utf8(done.stdout).unwrap(),
            error: String::from_utf8(done.stderr).unwrap(),
            code: done.status.code().unwrap(),
        }
    }

    fn good(&self, words: &[&str]) -> String {
        let said = self.audit(words, "");
        assert_eq!(said.code, 0, "{words:?}: {}", said.error);
        said.out
    }

    fn bad(&self, words: &[&str], code: i32, expected: &str) {
        let said = self.audit(words, "");
        assert!(
            said.code == code && said.error.contains(expected),
            "{words:?}: {} {}",
            said.code,
            said.error
        );
        assert!(
            said.error.starts_with("gst-compliance: ") || code == 2,
            "{}",
            said.error
        );
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_good_log_is_intact_and_a_damaged_one_is_not() {
    let place = Place::new();
    let text = place.good(&["verify", "log", "--key", &place.key()]);
    assert!(text.starts_with("INTACT"), "{text}");
    assert!(
        text.contains("entries    2 ") && text.contains("as you said"),
        "{text}"
    );
    let report = json(&place.good(&["verify", "log", "--json"]));
    assert_eq!((&report["intact"], &report["signed"]), (&true.into(), &2.into()));

    let file = place.path("log/log");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() - 50;
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let said = place.audit(&["verify", "log"], "");
    assert_eq!(said.code, 1);
    assert!(
        said.out.starts_with("NOT INTACT") && said.out.contains("! entry 1: "),
        "{}",
        said.out
    );
    assert!(said.error.contains("log is NOT INTACT"), "{}", said.error);
    let said = place.audit(&["verify", "log", "--json"], "");
    let report = json(&said.out);
    assert_eq!((said.code, &report["intact"]), (1, &false.into()));
    assert_eq!(
        (&report["damages"][0]["kind"], &report["damages"][0]["entry"]),
        (&"cut".into(), &1.into())
    );
    place.bad(&["checkpoint", "log"], 1, "damaged: entry 1");
}

#[test]
fn entries_are_shown_and_chosen() {
    let place = Place::new();
    let text = place.good(&["show", "log"]);
    assert!(text.starts_with("NOT CHECKED"), "{text}");
    let expected = "     1  2023-11-14T22:13:20Z  abababababababababababababababab  access-denied access=a1 by=dr-weber reason=\"no order of a court\"\n";
    assert!(text.ends_with(expected), "{text}");
    for words in [
        &["--recording", "abababababababababababababababab"][..],
        &["--kind", "access-denied"],
        &["--last", "1"],
    ] {
        let text = place.good(&[&["show", "log", "--json"], words].concat());
        let entry = json(&text);
        assert_eq!(
            (
                &entry["index"],
                &entry["entry"]["event"]["access-denied"]["access"]
            ),
            (&1.into(), &"a1".into())
        );
    }
    assert_eq!(place.good(&["show", "log", "--json"]).lines().count(), 2);
    assert_eq!(place.good(&["show", "log", "--json", "--kind", "drill"]), "");
    place.bad(&["show", "nothing"], 1, "nothing holds no audit log");
    place.bad(
        &["show", "log", "--recording", "x"],
        2,
        "32 lower-case hex digits",
    );
}

#[test]
fn a_proof_goes_without_its_log() {
    let place = Place::new();
    let proof = place.good(&["prove", "log", "1"]);
    fs::write(place.path("proof"), &proof).unwrap();
    let key = place.key();
    let text = place.good(&["verify", "proof", "--key", &key]);
    assert!(
        text.starts_with("PROVED") && text.contains("access-denied"),
        "{text}"
    );
    let said = place.audit(&["verify", "-", "--key", &key, "--json"], &proof);
    let proved = json(&said.out);
    assert_eq!(
        (&proved["index"], &proved["size"], &proved["entry"]["time"]),
        (&1.into(), &2.into(), &1_700_000_000_001_u64.into())
    );
    place.bad(&["verify", "proof"], 2, "--key");
    place.bad(
        &["verify", "proof", "--key", &Place::new().key()],
        1,
        "checkpoint of another log",
    );
    place.bad(&["prove", "log", "2"], 1, "there is no entry 2");
    place.bad(&["verify", "missing", "--key", &key], 1, "missing: No such file");
}

#[test]
fn a_witness_beside_the_log_anchors_it_and_refuses_what_became_shorter() {
    let place = Place::new();
    place.bad(&["anchor", "log", "--witness", "wit"], 1, "--new");
    let vkey = place.good(&["witness", "wit", "--new"]);
    assert_eq!(vkey.trim_end(), place.vkey("wit"));
    let anchored = json(&place.good(&["anchor", "log", "--witness", "wit", "--json"]));
    assert_eq!(anchored["entries"], 2);
    let old: Vec<_> = ["log", "checkpoint"]
        .map(|name| (name, fs::read(place.path("log").join(name)).unwrap()))
        .into();
    place.append(&[Event::ClockJump { by_ms: 1 }, Event::ClockJump { by_ms: 2 }]);
    for witness in ["wit", vkey.trim_end()] {
        let text = place.good(&["verify", "log", "--witness", witness]);
        assert!(text.contains("anchored   entries 0 to 1: "), "{text}");
        assert!(text.contains("unanchored entries 2 to 3: "), "{text}");
    }
    assert!(
        place
            .good(&["anchor", "log", "--witness", "wit"])
            .contains("4 entries")
    );
    for (name, bytes) in old {
        fs::write(place.path("log").join(name), bytes).unwrap();
    }
    place.bad(&["anchor", "log", "--witness", "wit"], 1, "a witness saw 4");
    let said = place.audit(&["verify", "log", "--witness", "wit"], "");
    assert!(
        said.code == 1 && said.out.contains("! entries 2 to 3: cut off"),
        "{}",
        said.out
    );
}

#[test]
fn a_witness_elsewhere_is_asked_through_pipes() {
    let place = Place::new();
    let vkey = place.good(&["witness", "wit", "--new"]);
    let vkey = vkey.trim_end();
    for more in 0..2 {
        let request = place.good(&["anchor", "log", "--witness", vkey, "--request"]);
        if more == 0 {
            let said = place.audit(&["witness", "wit"], &request);
            assert!(said.code == 1 && said.error.contains("--log"), "{}", said.error);
            place.good(&["witness", "wit", "--log", &place.vkey("log")]);
        }
        let said = place.audit(&["witness", "wit"], &request);
        assert_eq!(said.code, 0, "{}", said.error);
        let said = place.audit(&["anchor", "log", "--witness", vkey, "--add", "-"], &said.out);
        assert!(
            said.out.contains(&format!("{} entries", 2 + more)),
            "{} {}",
            said.out,
            said.error
        );
        place.append(&[Event::ClockJump { by_ms: 1 }]);
    }
    // The log's own memory of it is lost.
    fs::remove_dir_all(place.path("log/anchors")).unwrap();
    let request = place.good(&["anchor", "log", "--witness", vkey, "--request"]);
    let said = place.audit(&["witness", "wit"], &request);
    assert!(
        said.code == 1 && said.error.contains("--known 3"),
        "{}",
        said.error
    );
    let request = place.good(&["anchor", "log", "--witness", vkey, "--request", "--known", "3"]);
    assert_eq!(place.audit(&["witness", "wit"], &request).code, 0);
}

#[test]
fn what_cannot_be_meant_ends_with_2() {
    let place = Place::new();
    place.good(&["witness", "wit", "--new"]);
    let vkey = place.vkey("wit");
    place.bad(&["anchor", "log", "--witness", &vkey], 2, "--request");
    place.bad(
        &["anchor", "log", "--witness", &vkey[..vkey.len() - 1]],
        2,
        "no verifier key",
    );
    place.bad(
        &["verify", "log", "--witness", &place.vkey("log")],
        2,
        "a log's key",
    );
    place.bad(&["witness", "wit"], 2, "no request");
    place.bad(&["witness", "wit", "--log", "x"], 2, "no verifier key");
    place.bad(&["verify", "log", "--key", "x"], 2, "64 lower-case hex digits");
}

#[test]
fn a_kept_checkpoint_tells_of_an_older_state() {
    let place = Place::new();
    let note = place.good(&["checkpoint", "log"]);
    fs::write(place.path("kept"), &note).unwrap();
    place.good(&["verify", "log", "--checkpoint", "kept"]);
    fs::remove_dir_all(place.path("log")).unwrap();
    place.append(&[]);
    place.bad(&["verify", "log", "--checkpoint", "kept"], 1, "another log");
    fs::write(place.path("kept"), "x").unwrap();
    place.bad(
        &["verify", "log", "--checkpoint", "kept"],
        1,
        "kept is no checkpoint",
    );
}
