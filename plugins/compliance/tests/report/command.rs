//! `gst-compliance report`, as people call it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use gstcompliance::audit::{Event, Item, Reader};
use gstcompliance::digest::Digest;
use serde_json::Value;

use super::making::{Clinic, GOOD, Plan};

/// Calls it in the clinic's folder.
fn report(clinic: &Clinic, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gst-compliance"));
    command.current_dir(clinic.path(""));
    command
        .arg("report")
        .arg(&clinic.recording)
        .args(words)
        .output()
        .unwrap()
}

fn error(said: &Output) -> String {
    String::from_utf8_lossy(&said.stderr).into_owned()
}

const WHO: [&str; 6] = [
    "--audit-log",
    "log",
    "--by",
    "compliance-3",
    "--out",
    "report.html",
];

fn reported(clinic: &Clinic) -> Vec<(String, Digest)> {
    let items = Reader::open(&clinic.log()).unwrap();
    let events = items.filter_map(|item| match item.unwrap() {
        Item::Entry { entry, .. } => Some(entry.ok()?.event),
        Item::Damage(_) => None,
    });
    events
        .filter_map(|event| match event {
            Event::Reported { by, sha256 } => Some((by.to_string(), sha256)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_page_is_written_for_its_owner_and_stands_in_the_log() {
    let clinic = Clinic::new(GOOD).with_accesses();
    let said = report(&clinic, &[&WHO[..], &["--witness", "witness"]].concat());
    assert!(said.status.success(), "{}", error(&said));
    let path = clinic.path("report.html");
    let page = fs::read(&path).unwrap();
    assert_eq!(
        reported(&clinic),
        [("compliance-3".to_owned(), Digest::of(&page))]
    );
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let page = String::from_utf8(page).unwrap();
    assert!(
        page.contains("by <bdi>compliance-3</bdi>") && page.contains("saw all entries about this recording")
    );

    // It is not written over; the next one tells of it.
    let said = report(&clinic, &WHO);
    assert!(
        said.status.code() == Some(1) && error(&said).contains("exists already"),
        "{}",
        error(&said)
    );
    assert_eq!(reported(&clinic).len(), 1);
    let second = [&WHO[..4], &["--out", "second.html"]].concat();
    assert!(report(&clinic, &second).status.success());
    assert!(
        fs::read_to_string(clinic.path("second.html"))
            .unwrap()
            .contains("Earlier reports like this one")
    );
}

#[test]
fn it_ends_with_one_where_the_page_does_not_say_complete_and_writes_it_all_the_same() {
    for (plan, wanted) in [
        (Plan { gaps: true, ..GOOD }, "this is missing"),
        (Plan { end: false, ..GOOD }, "has no end"),
    ] {
        let clinic = Clinic::new(plan);
        let said = report(&clinic, &WHO);
        assert!(
            said.status.code() == Some(1) && error(&said).contains(wanted),
            "{}",
            error(&said)
        );
        assert!(clinic.path("report.html").exists());
        assert_eq!(reported(&clinic).len(), 1);
    }
}

#[test]
fn where_the_log_takes_no_entry_there_is_no_page_but_one_that_says_so() {
    let clinic = Clinic::new(GOOD);
    // A copy without the log's private key, as somebody who only reads has it.
    fs::remove_file(clinic.log().join("key")).unwrap();
    let said = report(&clinic, &WHO);
    let text = error(&said);
    assert!(
        said.status.code() == Some(1) && text.contains("cannot be logged") && text.contains("--no-log-entry"),
        "{text}"
    );
    assert!(!clinic.path("report.html").exists());
    let without = ["--audit-log", "log", "--no-log-entry", "--out", "report.html"];
    let said = report(&clinic, &without);
    assert!(said.status.success(), "{}", error(&said));
    let page = fs::read_to_string(clinic.path("report.html")).unwrap();
    assert!(page.contains("left no entry in the log"));
}

#[test]
fn a_damaged_log_is_reported_only_without_an_entry_and_a_damaged_recording_with_one() {
    let clinic = Clinic::new(GOOD);
    fs::write(clinic.recording.join("extra"), "x").unwrap();
    let said = report(&clinic, &WHO);
    assert!(
        said.status.code() == Some(1) && error(&said).contains("changed, removed or added"),
        "{}",
        error(&said)
    );
    assert_eq!(reported(&clinic).len(), 1);

    let log = clinic.log().join("log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[100] ^= 1;
    fs::write(&log, bytes).unwrap();
    let second = [&WHO[..4], &["--out", "second.html"]].concat();
    assert!(error(&report(&clinic, &second)).contains("cannot be logged"));
    let without = ["--audit-log", "log", "--no-log-entry", "--out", "second.html"];
    assert_eq!(report(&clinic, &without).status.code(), Some(1));
    let page = fs::read_to_string(clinic.path("second.html")).unwrap();
    assert!(
        page.contains("Neither can the log")
            && page.contains("Of the log")
            && page.contains("Of the recording")
    );
}

#[test]
fn another_log_gets_no_entry() {
    let (clinic, other) = (Clinic::new(GOOD), Clinic::new(GOOD));
    let log = other.log().display().to_string();
    let words = [
        "--audit-log",
        &log,
        "--by",
        "compliance-3",
        "--out",
        "report.html",
    ];
    let said = report(&clinic, &words);
    assert!(
        error(&said).contains("another log than the one that the recording names"),
        "{}",
        error(&said)
    );
    assert!(reported(&other).is_empty() && !clinic.path("report.html").exists());
}

#[test]
fn who_makes_it_must_be_said_or_that_nothing_is_logged() {
    let clinic = Clinic::new(GOOD);
    for words in [
        &["--audit-log", "log", "--out", "report.html"][..],
        &["--audit-log", "log", "--by", "dr weber", "--out", "report.html"],
        &[
            "--audit-log",
            "log",
            "--by",
            "x",
            "--no-log-entry",
            "--out",
            "report.html",
        ],
        &["--audit-log", "log", "--by", "x"],
        &["--by", "x", "--out", "report.html"],
    ] {
        assert_eq!(report(&clinic, words).status.code(), Some(2), "{words:?}");
    }
    assert!(reported(&clinic).is_empty() && !clinic.path("report.html").exists());
}

#[test]
fn the_same_facts_are_printed_as_json_and_logged_too() {
    let clinic = Clinic::new(GOOD);
    let said = report(&clinic, &["--audit-log", "log", "--by", "compliance-3", "--json"]);
    assert!(said.status.success(), "{}", error(&said));
    let json: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(json["verdict"]["word"], "complete");
    assert_eq!(
        reported(&clinic),
        [("compliance-3".to_owned(), Digest::of(&said.stdout))]
    );
}

#[test]
fn a_folder_that_is_none_is_an_error_and_no_page() {
    let clinic = Clinic::new(GOOD);
    fs::remove_dir_all(&clinic.recording).unwrap();
    let said = report(&clinic, &WHO);
    assert_eq!(said.status.code(), Some(1));
    assert!(!clinic.path("report.html").exists() && reported(&clinic).is_empty());
}
