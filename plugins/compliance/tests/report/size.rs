//! A page has an end, whatever a recording and a log hold.

use std::fs;
use std::time::Duration;

use gstcompliance::audit::{Entry, Event, Log};
use gstcompliance::recording::{Gap, Medium, Options, Segment, Track, TrackId, verify};
use gstcompliance::report::{Word, html};
use serde_json::json;

use super::making::{Clinic, GOOD, Plan, START};

/// Bytes that a page has at most.
const MOST: usize = 4 << 20;

#[test]
fn four_thousand_tracks_and_a_hundred_thousand_gaps_make_a_page_that_says_what_it_left_out() {
    let clinic = Clinic::with(Plan { seconds: 10, ..GOOD }, |recording| {
        let long = "<".repeat(1000);
        let tracks: Vec<TrackId> = (0..4000)
            .map(|number| {
                let track = Track {
                    medium: Medium::Audio,
                    caps: String::new(),
                    leaf: None,
                    sender: format!("{number}-{long}"),
                };
                recording.open_track(track).unwrap()
            })
            .collect();
        for gap in 0..100_000_u64 {
            let track = tracks[usize::try_from(gap % 40).unwrap()];
            let from_ns = gap * 1_000_000_000;
            let to_ns = from_ns + 20_000_000 + gap;
            let cause = format!("cause-{}", gap % 97);
            recording
                .gap(
                    track,
                    Gap {
                        from_ns,
                        to_ns,
                        frames: 1,
                        cause,
                    },
                )
                .unwrap();
        }
        let segment = Segment {
            bytes: zeroize::Zeroizing::new(vec![0]),
            from_ns: 0,
            to_ns: 1,
            epoch: (0, 0),
            leaf: None,
            frames: 1,
            keyframes: None,
        };
        recording.append(tracks[0], segment).unwrap();
    });
    let report = clinic.report();
    assert_eq!(
        (report.verdict.word, report.all_gaps),
        (Word::Incomplete, 100_000)
    );
    let page = html(&report);
    assert!(page.len() < MOST, "{}", page.len());
    for wanted in [
        "more lines of people and media are not drawn",
        "more rows are left out here",
        "99800&nbsp;shorter ones are summed up here",
        "… (",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(serde_json::to_string(&report).unwrap().len() < 40 << 20);
}

#[test]
fn a_log_full_of_accesses_and_epochs_makes_a_page_that_says_what_it_left_out() {
    let clinic = Clinic::new(GOOD);
    let log = Log::open_existing(&clinic.log()).unwrap();
    let entry = |time: u64, event: serde_json::Value| Entry {
        time: START + time,
        recording: Some(clinic.id),
        event: serde_json::from_value::<Event>(event).unwrap(),
    };
    let long = "w".repeat(1000);
    let entries: Vec<_> = (0..3000_u64)
        .flat_map(|number| {
            [
                entry(
                    number,
                    json!({ "access-denied": { "access": format!("a{number}"), "by": "x", "reason": long } }),
                ),
                entry(
                    number,
                    json!({ "epoch": { "epoch": number, "on": true, "claim": "recorded",
                    "policy": "ab".repeat(32), "members": 3 } }),
                ),
                entry(
                    number,
                    json!({ "access-denied": { "access": "same", "by": "x", "reason": long } }),
                ),
                entry(
                    number,
                    json!({ "log-recovered": { "offset": 1, "bytes": 1, "sha256": "ab".repeat(32) } }),
                ),
            ]
        })
        .collect();
    for some in entries.chunks(1000) {
        log.append_all(some).unwrap();
    }
    log.close().unwrap();
    let page = html(&clinic.report());
    assert!(page.len() < MOST, "{}", page.len());
    for wanted in [
        "are left out here",
        "more access",
        "further entries are",
        "And 2800&nbsp;more",
        "more steps",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
}

/// How long this thread has had a core: what other programs take of the machine does not count.
fn on_core() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// On demand: `cargo test --release -p gst-plugin-compliance --test report figures -- --ignored --nocapture`.
#[test]
#[ignore = "figures, on demand"]
fn figures() {
    let plan = Plan {
        seconds: 3600,
        gaps: true,
        crash: true,
        ..GOOD
    };
    let clinic = Clinic::new(plan).with_accesses();
    let begun = on_core();
    verify(&clinic.recording, &Options::default()).unwrap();
    let verified = on_core();
    let report = clinic.report();
    let gathered = on_core();
    let page = html(&report);
    let made = on_core();
    println!(
        "an hour of two people: verification {:?}, the report's facts with it {:?}, the page {:?}, {} bytes",
        verified - begun,
        gathered - verified,
        made - gathered,
        page.len()
    );
}
