//! `compliancesink` in a room: its gates, one by one and in the middle of a recording, and its return after a crash.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::fs;
use std::process::{Child, Command};

use common::feed::{Feed, OPUS, VP8, delta, frame, opened};
use common::source::TestSource;
use common::{CONSENT, Place, Run, events, logged, verified};
use gst::prelude::*;
use gst_e2ee_common::room_state::{RoomState, Standing};
use gstcompliance::audit::Event;
use gstcompliance::digest::Digest;
use gstcompliance::recording::{Claim, State};

/// A recorder in a room that the test makes.
struct Room {
    place: Place,
    source: TestSource,
    run: Run,
}

/// A room that records, and admits this recorder.
fn on(place: &Place, epoch: u64) -> RoomState {
    common::room::on(&place.path("consent.json"), &place.fingerprint(), epoch)
}

fn off(place: &Place, epoch: u64) -> RoomState {
    RoomState {
        recording: Some(false),
        ..on(place, epoch)
    }
}

impl Room {
    fn new(place: Place, first: RoomState) -> Self {
        let source = common::room::source(first);
        let run = place.paused_recorder("segment-duration=250000000");
        run.element("rec").set_property("key-source", &source);
        run.play();
        Self { place, source, run }
    }

    fn feed(&self, caps: &str) -> Feed {
        Feed::new(&self.run.element("rec"), caps)
    }

    /// The causes of all pauses so far.
    fn pauses(&self) -> Vec<String> {
        let messages = self.run.messages("compliance-paused");
        messages
            .iter()
            .map(|message| message.get("cause").unwrap())
            .collect()
    }

    fn wait_for_starts(&self, count: usize) {
        self.run
            .wait("start", |run| run.messages("compliance-started").len() >= count);
    }

    fn wait_for_pause(&self, cause: &str) {
        self.run
            .wait(cause, |_| self.pauses().last().is_some_and(|last| last == cause));
    }

    /// The frames of a track.
    fn stored(&self, track: usize) -> Vec<String> {
        let tracks = self.place.open(&self.place.recording());
        let (_, found) = common::demux(&tracks[track].1);
        found
            .iter()
            .map(|frame| String::from_utf8(frame.bytes.clone()).unwrap())
            .collect()
    }
}

#[test]
fn a_recording_in_a_room_is_attested_and_says_what_it_is_under() {
    let place = Place::new(1);
    let state = on(&place, 5);
    let room = Room::new(place, state.clone());
    let feed = room.feed(OPUS);
    feed.push(opened(frame(0, b"one"), 5, 7, "anna"));
    room.run.stop();
    let report = verified(&room.place.recording());
    assert_eq!(report.state, State::Complete);
    let facts = report.facts.unwrap();
    assert_eq!(facts.room.as_deref(), Some("room"));
    assert_eq!(facts.claim, Claim::Recorded);
    assert_eq!(facts.consent, state.consent);
    assert_eq!(facts.retention_days, Some(30));
    assert_eq!(facts.recorder.as_deref(), Some("7f3a"));
    assert_eq!(facts.policy, Some(Digest::of(b"policy")));
    let started = room.run.messages("compliance-started").remove(0);
    assert_eq!(started.get::<&str>("claim").unwrap(), "recorded");
    assert_eq!(started.get::<u64>("epoch").unwrap(), 5);
    assert!(!started.get::<bool>("resumed").unwrap());
    let expected = ["recorder-in", "started", "consent", "track-opened", "stopped"];
    assert_eq!(logged(&room.place), expected);
    let entries = events(&room.place);
    // Whole, so that who has the consent can tell from the log alone whether it was this one.
    let (Event::Started { consent: first, .. }, Event::Consent { reference: then, .. }) =
        (&entries[1], &entries[2])
    else {
        panic!("{entries:?}");
    };
    for reference in [first, then] {
        assert_eq!(reference.map(|reference| reference.to_string()), state.consent);
    }
    let Event::TrackOpened { sender, leaf, .. } = &entries[3] else {
        panic!("no track");
    };
    assert_eq!((sender.to_string().as_str(), *leaf), ("anna", Some(7)));
}

#[test]
fn each_gate_alone_keeps_the_recorder_from_writing_anything() {
    let place = Place::new(1);
    let on = on(&place, 1);
    let cases: Vec<(&str, RoomState)> = vec![
        (
            "room-joining",
            RoomState {
                standing: Some(Standing::Joining),
                ..on.clone()
            },
        ),
        (
            "room-stale",
            RoomState {
                standing: Some(Standing::Stale),
                ..on.clone()
            },
        ),
        (
            "not-a-recorder",
            RoomState {
                recorder: Some(false),
                ..on.clone()
            },
        ),
        (
            "room-strict",
            RoomState {
                claim: Some("strict".into()),
                ..on.clone()
            },
        ),
        (
            "recording-off",
            RoomState {
                recording: Some(false),
                ..on.clone()
            },
        ),
        (
            "consent-other",
            RoomState {
                consent: Some("ab".repeat(48)),
                ..on.clone()
            },
        ),
        (
            "consent-not-named",
            RoomState {
                consent: None,
                ..on.clone()
            },
        ),
        (
            "no-keys",
            RoomState {
                recipients: Some(vec![]),
                ..on.clone()
            },
        ),
        (
            "room-unsaid",
            RoomState {
                recording: None,
                ..on
            },
        ),
    ];
    for (cause, state) in cases {
        let place = Place::new(1);
        let source = TestSource::new();
        source.set_room(state);
        let run = place.paused_recorder("");
        run.element("rec").set_property("key-source", &source);
        if run.pipeline.set_state(gst::State::Playing).is_ok() {
            let feed = Feed::new(&run.element("rec"), OPUS);
            feed.push(opened(frame(0, b"secret"), 1, 7, "anna"));
            assert_eq!(run.stat("frames"), 0, "{cause}");
        }
        let told = run.messages("compliance-paused");
        assert_eq!(told[0].get::<&str>("cause").unwrap(), cause);
        assert!(!told[0].get::<&str>("reason").unwrap().is_empty());
        run.stop();
        assert!(place.recordings().is_empty(), "{cause}");
        let used = fs::exists(place.path("keys").join("used")).unwrap();
        assert!(!used, "{cause}: a bundle was taken");
    }
}

#[test]
fn off_on_off_keeps_what_was_sealed_while_on() {
    let place = Place::new(1);
    let first = off(&place, 1);
    let room = Room::new(place, first);
    let feed = room.feed(VP8);
    feed.push(opened(frame(0, b"off"), 1, 7, "anna"));
    room.wait_for_pause("recording-off");
    assert!(room.place.recordings().is_empty());

    room.source.set_room(on(&room.place, 2));
    room.wait_for_starts(1);
    assert!(feed.keyframes_asked() >= 1, "a recording begins with a keyframe");
    feed.push(opened(frame(40, b"sealed while off, came late"), 1, 7, "anna"));
    feed.push(delta(opened(frame(80, b"delta of the one before"), 2, 7, "anna")));
    feed.push(opened(frame(120, b"first"), 2, 7, "anna"));
    feed.push(delta(opened(frame(160, b"second"), 2, 7, "anna")));

    room.source.set_room(off(&room.place, 3));
    // From the moment on that it heard of it, whatever was sealed before.
    feed.push(opened(frame(200, b"too late"), 2, 7, "anna"));
    feed.push(opened(frame(240, b"off again"), 3, 7, "anna"));
    room.wait_for_pause("recording-off");
    room.run
        .wait("seal", |run| run.messages("compliance-segment").len() == 1);

    room.source.set_room(on(&room.place, 4));
    room.wait_for_starts(2);
    assert!(
        room.run.messages("compliance-started")[1]
            .get::<bool>("resumed")
            .unwrap()
    );
    feed.push(delta(opened(frame(280, b"delta"), 4, 7, "anna")));
    feed.push(opened(frame(320, b"third"), 4, 7, "anna"));
    feed.push(opened(frame(360, b"of nobody"), 9, 7, "anna"));
    feed.push(frame(400, b"in clear"));
    feed.push(frame(440, b"in clear"));
    room.run.stop();
    assert_eq!(room.run.warnings().len(), 1, "{:?}", room.run.warnings());
    assert!(room.run.warnings()[0].contains("Put sframedec in front"));

    assert_eq!(room.stored(0), ["first", "second", "third"]);
    let report = verified(&room.place.recording());
    assert_eq!((report.state, report.tracks.len()), (State::Complete, 1));
    let expected = [
        "recorder-in",
        "started",
        "consent",
        "epoch",
        "paused",
        "epoch",
        "resumed",
    ];
    let logged: Vec<_> = logged(&room.place)
        .into_iter()
        .filter(|kind| !["gap", "track-opened"].contains(kind))
        .collect();
    assert_eq!(logged[..expected.len()], expected);
    assert_eq!(logged.last(), Some(&"stopped"));
    let members: Vec<_> = events(&room.place)
        .into_iter()
        .filter_map(|event| match event {
            Event::Epoch { members, .. } => Some(members),
            _ => None,
        })
        .collect();
    assert!(!members.is_empty() && members.iter().all(|members| *members == Some(3)));
    assert_eq!(
        room.run.messages("compliancesink-stats")[0]
            .get::<u64>("dropped-no-epoch")
            .unwrap(),
        2
    );
}

#[test]
fn a_consent_that_is_withdrawn_in_the_middle_stops_it_and_one_that_comes_back_lets_it_go_on() {
    let place = Place::new(1);
    let first = on(&place, 1);
    let room = Room::new(place, first);
    let feed = room.feed(OPUS);
    feed.push(opened(frame(0, b"one"), 1, 7, "anna"));
    let file = room.place.path("consent.json");
    fs::write(&file, CONSENT.replace("active", "inactive")).unwrap();
    room.wait_for_pause("consent-not-active");
    feed.push(opened(frame(20, b"two"), 1, 7, "anna"));
    fs::write(&file, CONSENT).unwrap();
    room.wait_for_starts(2);
    feed.push(opened(frame(40, b"three"), 1, 7, "anna"));
    room.run.stop();
    assert_eq!(room.stored(0), ["one", "three"]);
    assert_eq!(
        logged(&room.place)
            .iter()
            .filter(|kind| **kind == "consent")
            .count(),
        3
    );
}

#[test]
fn a_stale_room_pauses_it_and_an_eviction_ends_it() {
    let place = Place::new(1);
    let first = on(&place, 1);
    let room = Room::new(place, first.clone());
    let feed = room.feed(OPUS);
    feed.push(opened(frame(0, b"one"), 1, 7, "anna"));
    let stale = RoomState {
        standing: Some(Standing::Stale),
        ..first.clone()
    };
    room.source.set_room(stale);
    room.wait_for_pause("room-stale");
    room.source.set_room(first.clone());
    room.wait_for_starts(2);
    feed.push(opened(frame(20, b"two"), 1, 7, "anna"));
    let evicted = RoomState {
        standing: Some(Standing::Evicted),
        ..first
    };
    room.source.set_room(evicted);
    room.run
        .wait("end", |run| run.messages("compliance-stopped").len() == 1);
    feed.push(opened(frame(40, b"three"), 1, 7, "anna"));
    assert_eq!(verified(&room.place.recording()).state, State::Complete);
    assert_eq!(room.stored(0), ["one", "two"]);
    assert!(logged(&room.place).ends_with(&["paused", "recorder-out", "stopped"]));
    assert_eq!(room.run.error(), None);
}

#[test]
fn every_sender_has_tracks_of_its_own() {
    let place = Place::new(1);
    let first = on(&place, 1);
    let room = Room::new(place, first);
    let feed = room.feed(OPUS);
    for (at, leaf, sender) in [(0, 7, "anna"), (20, 7, "anna"), (40, 8, "ben"), (60, 7, "anna")] {
        feed.push(opened(frame(at, sender.as_bytes()), 1, leaf, sender));
    }
    room.run.stop();
    let report = verified(&room.place.recording());
    assert_eq!(report.tracks.len(), 3);
    assert_eq!(room.stored(0), ["anna", "anna"]);
    assert_eq!(room.stored(1), ["ben"]);
}

/// What the test below runs and kills: a recorder that goes on and on.
#[test]
fn child_that_records_until_it_is_killed() {
    let Ok(description) = std::env::var("RECORD") else {
        return;
    };
    common::init();
    let run = Run::of(gst::Pipeline::new());
    run.pipeline
        .add(&gst::parse::launch(&description).unwrap())
        .unwrap();
    run.play();
    let feed = Feed::new(&run.element("rec"), OPUS);
    for number in 0u64.. {
        feed.push(frame(20 * number, format!("{number}").as_bytes()));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Killed, whatever happens to the test.
struct Killed(Child);

impl Killed {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_killed_recorder_comes_back_to_its_recording() {
    let place = Place::new(1);
    let properties = format!(
        "compliancesink name=rec require-room=false segment-duration=250000000 {}",
        place.properties()
    );
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_records_until_it_is_killed", "--nocapture"])
        .env("RECORD", &properties)
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let start = std::time::Instant::now();
    while place.recordings().is_empty()
        || verified(&place.recording())
            .tracks
            .iter()
            .all(|track| track.members < 4)
    {
        assert!(start.elapsed() < common::LIMIT, "the child records nothing");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill();
    let before = verified(&place.recording()).tracks.remove(0);

    let run = place.recorder("require-room=false segment-duration=250000000");
    let started = run.messages("compliance-started").remove(0);
    assert!(started.get::<bool>("recovered").unwrap());
    let feed = Feed::new(&run.element("rec"), OPUS);
    feed.push(frame(0, b"after"));
    run.stop();
    let report = verified(&place.recording());
    assert_eq!(
        (report.state, report.resumed, report.tracks.len()),
        (State::Complete, 1, 2)
    );
    assert_eq!(report.tracks[0].good, before.members);
    assert_eq!(report.tracks[1].from_ns, before.to_ns, "the clock goes on");
    let kinds = logged(&place);
    assert!(
        kinds.ends_with(&["recovered", "resumed", "track-opened", "stopped"]),
        "{kinds:?}"
    );
}
