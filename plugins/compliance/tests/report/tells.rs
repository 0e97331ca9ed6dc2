//! What a report says of recordings and logs that are well, and of others.

use std::fs;
use std::path::Path;

use gstcompliance::audit::{Log, Text, VerifyOptions};
use gstcompliance::recording::{Gap, Medium, Track};
use gstcompliance::report::{Ask, LogState, Mark, Outcome, Report, Word, gather, html};
use gstcompliance::signing::{PublicKey, Signer};
use serde_json::json;

use super::making::{Clinic, DAY, GOOD, MINUTE, NOW, Plan, START, dealer};

/// How a check went, and what it says.
fn check<'a>(report: &'a Report, about: &str) -> (Mark, &'a str) {
    let check = report.checks.iter().find(|check| check.about == about);
    let check = check.unwrap_or_else(|| panic!("{about}: {:?}", report.checks));
    (check.mark, check.says.as_str())
}

/// The page, without markup and with one space between words.
fn text(page: &str) -> String {
    let mut shown = String::new();
    let mut inside = false;
    for c in page.split_once("<body>").unwrap().1.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            c if !inside => shown.push(c),
            _ => {}
        }
    }
    shown
        .replace("&nbsp;", " ")
        .replace("&#39;", "'")
        .replace("&quot;", "\"")
}

fn says(report: &Report, wanted: &[&str]) {
    let shown = text(&html(report));
    for wanted in wanted {
        assert!(shown.contains(wanted), "{wanted:?} is not on the page: {shown}");
    }
}

#[test]
fn a_good_recording_is_complete_and_the_page_says_who_when_and_how_long() {
    let clinic = Clinic::new(GOOD).with_accesses();
    let key = Log::open(&clinic.log()).unwrap().key();
    let report = clinic.report_with(|ask| {
        clinic.trust(ask);
        ask.log_key = Some(key);
        ask.dealer = Some(dealer().public());
    });
    assert_eq!(report.verdict.word, Word::Complete, "{:?}", report.checks);
    assert!(
        report.checks.iter().all(|check| check.mark == Mark::Good),
        "{:?}",
        report.checks
    );
    says(
        &report,
        &[
            "Complete",
            "Everything that was recorded is here and unchanged",
            "5 Jan 2027, 09:00:00 to 09:02:00 UTC (2 min)",
            "anna, ben",
            "sound, pictures and messages",
            "7f3a came into the room as its recorder",
            "between 2 and 3",
            "recording paused: the room switched recording off",
            "it permitted the recording",
            "2 recipients, each alone",
            "365 days, until 5 Jan 2028",
            "dr-17: opened it, 412 pieces of media read",
            "complaint of 5 January",
            "research-2: asked to open it, and was denied",
            "not a purpose that the consent allows",
            "auditor-4: opened it, 240 pieces of media read, and copied it out",
            "by custodians together (break-glass)",
            "approved by custodian-3 with share 3",
            "copied out by auditor-4 as fhir, 48.1 MB, to records.clinic.example, SHA-256 ",
            "12 days ago: it worked.",
            "opened in 14 minutes, custodians 1 and 2",
            &format!("gst-compliance verify REC --log-key {key} --dealer"),
        ],
    );
    let outcomes: Vec<_> = report
        .log
        .history
        .accesses
        .list
        .iter()
        .map(|access| access.outcome(NOW))
        .collect();
    assert_eq!(outcomes, [Outcome::Opened, Outcome::Denied, Outcome::Opened]);
    // What ben sent has its place in the time of day, and a hole where recording was off.
    let ben = report.parts.iter().find(|part| part.sender == "ben").unwrap();
    let within = |at: u64, second: u64| at.abs_diff(START + second * 1000) < 2000;
    assert_eq!(ben.stretches.len(), 2);
    assert!(
        within(ben.stretches[0].from, 12) && within(ben.stretches[0].to, 60),
        "{:?}",
        ben.stretches
    );
    assert!(
        within(ben.stretches[1].from, 75) && within(ben.stretches[1].to, 108),
        "{:?}",
        ben.stretches
    );
}

#[test]
fn what_was_not_compared_is_a_note_and_no_yes() {
    let clinic = Clinic::new(GOOD);
    let report = clinic.report();
    assert_eq!(report.verdict.word, Word::Complete);
    let (mark, words) = check(&report, "Compared with known keys");
    assert!(mark == Mark::Note && words.contains("forged together"), "{words}");
    let (mark, words) = check(&report, "Seen by a witness");
    assert!(
        mark == Mark::Note && words.contains("no witness was named"),
        "{words}"
    );
    says(
        &report,
        &["That the log was not rewritten: none of it was seen by a witness"],
    );
}

#[test]
fn entries_after_the_last_cosignature_are_not_called_seen() {
    let clinic = Clinic::new(GOOD).with_accesses();
    clinic.log_event(
        29 * DAY,
        "access-denied",
        &json!({ "access": "z", "by": "custodian-1", "reason": "no" }),
    );
    let report = clinic.report_with(|ask| clinic.trust(ask));
    let (mark, words) = check(&report, "Seen by a witness");
    assert!(
        mark == Mark::Note && words.contains("1\u{a0}entry at the log's end"),
        "{words}"
    );
}

#[test]
fn gaps_of_the_recorder_make_it_incomplete_and_those_of_the_network_are_told() {
    let clinic = Clinic::new(Plan { gaps: true, ..GOOD });
    let report = clinic.report();
    assert_eq!(report.verdict.word, Word::Incomplete);
    says(
        &report,
        &[
            "this is missing: 2.3 s that the recorder could not keep; 640 ms that never reached the recorder.",
            "2.3 s of ben's sound are missing: the disk was too slow",
            "640 ms of anna's pictures are missing: it never reached the recorder",
        ],
    );
    assert_eq!(report.gaps.len(), 2);
    assert!(
        report.gaps[0].at.abs_diff(START + 36_500) < 1500,
        "{:?}",
        report.gaps
    );
}

#[test]
fn a_crash_is_a_hole_in_everything_and_told() {
    let clinic = Clinic::new(Plan { crash: true, ..GOOD });
    let report = clinic.report();
    assert_eq!(report.verdict.word, Word::Incomplete);
    let (mark, words) = check(&report, "Nothing missing");
    assert!(
        mark == Mark::Bad && words.contains("while the recorder was down"),
        "{words}"
    );
    let [down] = report.down[..] else {
        panic!("{:?}", report.down)
    };
    assert!((19_000..23_000).contains(&(down.to - down.from)), "{down:?}");
    let anna = &report.parts[0];
    let over = anna
        .stretches
        .iter()
        .any(|stretch| stretch.from < down.from && stretch.to > down.to);
    assert!(!over && anna.stretches.len() == 3, "{:?}", anna.stretches);
    says(
        &report,
        &["the recorder came back after a crash", "Everything for "],
    );
}

#[test]
fn one_without_an_end_is_unfinished() {
    let clinic = Clinic::new(Plan { end: false, ..GOOD });
    let report = clinic.report();
    assert_eq!(report.verdict.word, Word::Unfinished);
    says(
        &report,
        &["Unfinished", "to at least 09:0", "there is no end record"],
    );
}

#[test]
fn a_changed_byte_makes_it_damaged_and_is_named() {
    let clinic = Clinic::new(GOOD);
    let tar = clinic.recording.join("tracks/1-video.tar");
    let mut bytes = fs::read(&tar).unwrap();
    bytes[700] ^= 1;
    fs::write(&tar, bytes).unwrap();
    let report = clinic.report();
    assert_eq!(report.verdict.word, Word::Damaged);
    let pictures = &report.parts[1];
    let [damaged] = pictures.damaged[..] else {
        panic!("{:?}", pictures.damaged)
    };
    assert!(
        damaged.from.abs_diff(START) < 2000 && damaged.to - damaged.from == 1000,
        "{damaged:?}"
    );
    assert!(
        report
            .parts
            .iter()
            .filter(|part| !part.damaged.is_empty())
            .count()
            == 1
    );
    says(
        &report,
        &[
            "1 s damaged",
            "Damaged",
            "What is damaged",
            "member 0 of track 1 is changed",
            "anna, ben",
        ],
    );
}

#[test]
fn lines_that_are_cut_off_with_their_tars_are_missed_because_the_log_knows_them() {
    let clinic = Clinic::new(Plan { end: false, ..GOOD });
    let manifest = clinic.recording.join("manifest");
    let lines = fs::read_to_string(&manifest).unwrap();
    let kept: Vec<_> = lines.lines().take(100).map(|line| format!("{line}\n")).collect();
    fs::write(&manifest, kept.concat()).unwrap();
    let report = clinic.report();
    assert_eq!(report.verdict.word, Word::Damaged);
    let (_, words) = check(&report, "Unchanged");
    assert!(words.contains("the audit log knows"), "{words}");
}

#[test]
fn of_a_recording_whose_facts_are_gone_the_log_is_told() {
    let clinic = Clinic::new(GOOD).with_accesses();
    fs::write(clinic.recording.join("recording.json"), "{").unwrap();
    let report = clinic.report();
    assert_eq!((report.verdict.word, report.id), (Word::Damaged, Some(clinic.id)));
    assert_eq!(report.log.state, LogState::Intact);
    says(
        &report,
        &["Damaged", "dr-17: opened it", "2 recipients, each alone"],
    );
}

#[test]
fn a_log_that_was_changed_is_not_relied_on() {
    let clinic = Clinic::new(GOOD).with_accesses();
    let file = clinic.log().join("log");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let report = clinic.report();
    assert_eq!(
        (report.verdict.word, report.log.state),
        (Word::LogNotIntact, LogState::NotIntact)
    );
    says(
        &report,
        &["The log is not intact", "cannot be relied on", "Of the log"],
    );
}

#[test]
fn another_log_none_and_one_that_does_not_know_it_are_told_apart() {
    let (clinic, other) = (Clinic::new(GOOD), Clinic::new(GOOD));
    let report = report_under(&clinic, &other.log());
    assert_eq!(
        (report.verdict.word, report.log.state),
        (Word::LogNotIntact, LogState::Another)
    );
    says(
        &report,
        &[
            "it is not the log that this recording belongs to",
            "Not known: the log cannot be read.",
        ],
    );

    let report = report_under(&clinic, &clinic.path("nowhere"));
    assert_eq!(
        (report.verdict.word, report.log.state),
        (Word::LogNotIntact, LogState::Unreadable)
    );

    // The same key in a folder that knows nothing: the administrator of the log can make one.
    let empty = clinic.path("empty");
    fs::create_dir(&empty).unwrap();
    fs::copy(clinic.log().join("key"), empty.join("key")).unwrap();
    Log::open(&empty).unwrap().close().unwrap();
    let report = report_under(&clinic, &empty);
    assert_eq!(
        (report.verdict.word, report.log.state),
        (Word::LogNotIntact, LogState::Intact)
    );
    let (mark, words) = check(&report, "The log knows this recording");
    assert!(
        mark == Mark::Bad && words.contains("no entry about it"),
        "{words}"
    );
}

fn report_under(clinic: &Clinic, log: &Path) -> Report {
    let ask = Ask {
        recording: &clinic.recording,
        log,
        log_key: None,
        dealer: None,
        trust: VerifyOptions::default(),
        now: NOW,
        by: None,
    };
    gather(&ask).unwrap()
}

#[test]
fn a_key_that_is_another_than_was_named_is_damage() {
    let clinic = Clinic::new(GOOD);
    let wrong = PublicKey([9; 32]);
    assert_eq!(
        clinic.report_with(|ask| ask.dealer = Some(wrong)).verdict.word,
        Word::Damaged
    );
    assert_eq!(
        clinic.report_with(|ask| ask.log_key = Some(wrong)).verdict.word,
        Word::Damaged
    );
}

#[test]
fn under_escrow_it_says_how_many_custodians_it_takes() {
    let clinic = Clinic::new(Plan { escrow: true, ..GOOD });
    let report = clinic.report();
    says(&report, &["No one person. Any 2 of 3 custodians together can"]);
    assert!(!text(&html(&report)).contains("A recipient can open the recording alone"));
}

#[test]
fn requests_wait_expire_and_openings_without_an_end_are_told() {
    let clinic = Clinic::new(GOOD);
    let ask = |access: &str, expires: u64| {
        json!({ "access": access, "requester": "dr-3", "recipient": "age1x", "station": "age1y",
        "reason": "why", "ticket": "T", "expires": expires })
    };
    clinic.log_event(MINUTE, "access-requested", &ask("a", NOW - 1));
    clinic.log_event(2 * MINUTE, "access-requested", &ask("b", NOW + 1));
    let open = |access: &str| {
        json!({ "access": access, "reader": "dr-4", "way": "break-glass", "reason": "why",
        "tracks": [3] })
    };
    clinic.log_event(3 * MINUTE, "access-opened", &open("c"));
    clinic.log_event(4 * MINUTE, "access-opened", &open("d"));
    clinic.log_event(
        5 * MINUTE,
        "access-ended",
        &json!({ "access": "d", "members": 0 }),
    );
    let report = clinic.report();
    let outcomes: Vec<_> = report
        .log
        .history
        .accesses
        .list
        .iter()
        .map(|access| access.outcome(NOW))
        .collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Expired,
            Outcome::Waiting,
            Outcome::Open,
            Outcome::NothingRead
        ]
    );
    says(
        &report,
        &[
            "the time for that is over",
            "it was not opened yet",
            "that it ended is not in the log",
            "tried to open it, and read nothing",
            "No request for this opening is in the log.",
            "opened by dr-4, only the tracks [3]",
        ],
    );
}

#[test]
fn later_recipients_drills_and_what_has_no_words_are_told() {
    let clinic = Clinic::new(GOOD);
    let digest = "cd".repeat(32);
    clinic.log_event(
        DAY,
        "rewrapped",
        &json!({ "by": "dealer-1", "recipients": [digest], "reason": "dr-17 left" }),
    );
    clinic.log_event(
        2 * DAY,
        "drill",
        &json!({ "access": "d", "by": "custodian-2", "passed": false,
        "result": "custodian 3 could not be reached" }),
    );
    clinic.log_event(3 * DAY, "clock-jump", &json!({ "by_ms": -3_600_000 }));
    clinic.log_event(
        4 * DAY,
        "log-recovered",
        &json!({ "offset": 7, "bytes": 5, "sha256": digest }),
    );
    clinic.log_event(
        5 * DAY,
        "reported",
        &json!({ "by": "compliance-1", "sha256": digest }),
    );
    let report = clinic.report();
    says(
        &report,
        &[
            "copies of the old key file still open",
            "dealer-1",
            "dr-17 left",
            "38 days ago: IT DID NOT WORK.",
            "custodian 3 could not be reached",
            "was set back by 1 h",
            "Everything else that the log says",
            "log recovered",
            "Earlier reports like this one",
        ],
    );
    assert_eq!(text(&html(&report)).matches(&digest).count(), 3);
}

#[test]
fn what_others_wrote_is_text_and_nothing_else() {
    let clinic = Clinic::new(GOOD);
    let reason = Text::new("</title><script>alert(\"1\")</script>' onmouseover='x").unwrap();
    clinic.log_event(
        DAY,
        "access-denied",
        &json!({ "access": "<b>", "by": "<i>&amp;", "reason": reason }),
    );
    let page = html(&clinic.report());
    assert!(
        page.contains(
            "&lt;/title&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#39; onmouseover=&#39;x"
        )
    );
    assert!(page.contains("&lt;i&gt;&amp;amp;"));
    for never in [
        "<script",
        "<b>",
        "<i>",
        "javascript:",
        "http:",
        "https:",
        " style=",
        " href=",
        " src=",
        " onmouse",
    ] {
        let found = page
            .match_indices(never)
            .map(|(at, _)| &page[at..(at + 60).min(page.len())]);
        let found: Vec<_> = found
            .filter(|found| !found.starts_with(" onmouseover=&#39;"))
            .collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn the_greatest_and_smallest_numbers_make_a_page() {
    let (most, digest) = (u64::MAX, "cd".repeat(32));
    let clinic = Clinic::with(GOOD, |recording| {
        let track = Track {
            medium: Medium::Data,
            caps: String::new(),
            leaf: None,
            sender: "far".to_owned(),
        };
        let track = recording.open_track(track).unwrap();
        for (from_ns, to_ns) in [(0, most), (most, most), (0, 0), (1, most - 1)] {
            let (frames, cause) = (most, "queue-full".to_owned());
            recording
                .gap(
                    track,
                    Gap {
                        from_ns,
                        to_ns,
                        frames,
                        cause,
                    },
                )
                .unwrap();
        }
    });
    for (kind, fields) in [
        ("clock-jump", json!({ "by_ms": i64::MIN })),
        (
            "epoch",
            json!({ "epoch": most, "on": true, "claim": "strict", "policy": digest, "members": u32::MAX }),
        ),
        (
            "recovered",
            json!({ "lines": 1, "root": digest, "at_ns": most, "cuts": [] }),
        ),
        (
            "track-opened",
            json!({ "track": u32::MAX, "medium": "audio", "sender": "x" }),
        ),
        (
            "access-requested",
            json!({ "access": "a", "requester": "x", "recipient": "y", "station": "y", "reason": "z", "ticket": "t",
            "expires": most }),
        ),
        (
            "exported",
            json!({ "access": "a", "by": "x", "format": "f", "sha256": digest, "bytes": most,
            "destination": "d" }),
        ),
        ("access-ended", json!({ "access": "a", "members": most })),
        (
            "drill",
            json!({ "access": "d", "by": "x", "passed": true, "result": "r" }),
        ),
    ] {
        for at in [0, most - START] {
            clinic.log_event(at, kind, &fields);
        }
    }
    for now in [0, NOW, most] {
        let report = clinic.report_with(|ask| ask.now = now);
        says(&report, &["after the year 9999", "far"]);
    }
}

#[test]
fn the_facts_are_there_as_json() {
    let clinic = Clinic::new(Plan { gaps: true, ..GOOD }).with_accesses();
    let json = serde_json::to_value(clinic.report()).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["verdict"]["word"], "incomplete");
    assert_eq!(json["recording"]["state"], "complete");
    assert_eq!(json["parts"][0]["sender"], "anna");
    assert_eq!(json["log"]["state"], "intact");
    assert_eq!(
        json["log"]["history"]["accesses"]["list"][1]["steps"][1]["kind"],
        "denied"
    );
}
