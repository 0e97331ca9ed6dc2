//! A whole consultation, as `pipelines/` has it: a clinician, a patient and a recorder, each a process of its own, keyed by
//! a room, through a relay that has no key. Recording goes on, off, on and off; the recorder is killed in between and comes
//! back. What is left is one recording that is whole, plays, and has nothing of when it was off.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::consult::{Consult, MEMBERS, count, end, files, pieces_in, pipelines, wait};
use gstcompliance::audit::{self, Event, Item};
use gstcompliance::recording::{self, Index, Medium, Options};
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::PathBuf;

/// What is said while it is recorded, and while it is not.
const SAID: [&str; 2] = ["It hurts when I climb stairs", "Since when does it?"];
const OFF_THE_RECORD: &str = "Between you and me";
#[test]
fn a_consultation_is_recorded_while_the_group_says_so_though_the_recorder_dies_in_between() {
    let mut consult = Consult::new();
    let [relay, clinician, patient, mut recorder] = consult.begin();

    // On: it records. Then it dies, and the next one goes on where it stopped, in the same room.
    let mut on = BTreeSet::new();
    let recordings = consult.out("recorder").join("recordings");
    assert!(files(&recordings).is_empty(), "it wrote before recording was on");
    consult.set_recording(true);
    on.insert(consult.agree(&MEMBERS));
    consult.talk("patient", "clinician", SAID[0]);
    consult.talk("clinician", "patient", SAID[1]);
    wait(&mut recorder, "segments", |recorder| {
        count(recorder, "compliance-segment") > 12
    });
    recorder.kill();
    let mut recorder = consult.recorder();
    wait(&mut recorder, "recovery", |recorder| {
        recorder.printed().contains("recovered=(boolean)true")
    });
    wait(&mut recorder, "segments", |recorder| {
        count(recorder, "compliance-segment") > 8
    });
    // Its return renewed its keys: these epochs are on as well.
    let back = consult.agree(&MEMBERS);
    on.extend(on.clone().into_iter().min().unwrap()..=back);

    // Off, on and off again.
    consult.set_recording(false);
    let off = consult.agree(&MEMBERS);
    wait(&mut recorder, "a pause", |recorder| {
        recorder.printed().contains("recording-off")
    });
    consult.talk("patient", "clinician", OFF_THE_RECORD);
    let segments = count(&recorder, "compliance-segment");
    consult.set_recording(true);
    on.insert(consult.agree(&MEMBERS));
    wait(&mut recorder, "segments", |recorder| {
        count(recorder, "compliance-segment") > segments + 8
    });
    consult.set_recording(false);
    let last = consult.agree(&MEMBERS);

    let ended = [clinician, patient].map(end);
    for participant in ended {
        participant.expect_success();
    }
    let printed = end(recorder).expect_success().printed;
    drop(relay);
    assert!(printed.contains("compliance-stopped"), "{printed}");

    // One recording, and it is whole; so is the log, and it tells of it.
    let made: Vec<_> = fs::read_dir(&recordings)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let report = recording::verify(&made[0], &Options::default()).unwrap();
    assert_eq!(report.state, recording::State::Complete, "{report:#?}");
    assert_eq!(report.resumed, 1);
    let log = consult.path("audit");
    let whole = audit::verify(&log, &audit::VerifyOptions::default()).unwrap();
    assert!(whole.damages.is_empty(), "{whole:#?}");
    let events: Vec<_> = audit::Reader::open(&log)
        .unwrap()
        .filter_map(|item| match item.unwrap() {
            Item::Entry { entry, .. } => Some(entry.unwrap().event),
            _ => None,
        })
        .collect();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Recovered { .. }))
    );
    assert!(events.iter().any(|event| matches!(event, Event::Stopped { .. })));
    let members = u32::try_from(MEMBERS.len()).ok();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Epoch { members: of, .. } if *of == members))
    );

    // Nothing of when it was off; something of each participant, from before and after the crash.
    let index = Index::open(&made[0], &Options::default()).unwrap();
    let epochs: BTreeSet<_> = index
        .tracks()
        .iter()
        .flat_map(|track| &track.members)
        .flat_map(|member| [member.epochs.0, member.epochs.1])
        .collect();
    assert!(
        epochs.is_subset(&on) && !epochs.contains(&off) && !epochs.contains(&last),
        "{epochs:?} of {on:?}"
    );
    for medium in [Medium::Video, Medium::Audio] {
        let leaves: BTreeSet<_> = index
            .tracks()
            .iter()
            .filter(|track| track.medium == medium)
            .map(|track| track.leaf)
            .collect();
        assert_eq!(leaves.len(), 2, "{medium}: {leaves:?}");
    }

    // The recorder's machine has neither media nor keys in clear.
    let media = fs::read(consult.out("patient").join("video.bin")).unwrap();
    let pieces: HashSet<&[u8]> = media.chunks_exact(16).collect();
    assert!(pieces.len() > 1000);
    let machine = files(&consult.out("recorder"))
        .into_iter()
        .chain(files(&log))
        .chain(files(&consult.path("keys")));
    for path in machine {
        assert_eq!(
            pieces_in(&path, &pieces),
            0,
            "media in clear in {}",
            path.display()
        );
        let bytes = fs::read(&path).unwrap();
        for text in SAID {
            assert!(
                !bytes.windows(text.len()).any(|window| window == text.as_bytes()),
                "{}",
                path.display()
            );
        }
        assert!(
            !bytes.windows(15).any(|window| window == b"AGE-SECRET-KEY-"),
            "{}",
            path.display()
        );
    }

    // It plays, to its recipient, through the log; and what comes out is what was sent.
    let track = |medium| {
        index
            .tracks()
            .iter()
            .find(|track| track.medium == medium)
            .unwrap()
            .id
            .to_string()
    };
    let (video, audio) = (track(Medium::Video), track(Medium::Audio));
    let mut playback = consult.sandbox.command(pipelines().join("recording/playback.sh"));
    playback
        .env("RECORDING", &made[0])
        .env("IDENTITY", consult.path("reader.txt"))
        .env("AUDIT", &log)
        .env("OUT", consult.path("out"))
        .envs([
            ("READER", "reader-1"),
            ("REASON", "test"),
            ("TICKET", "T-1"),
            ("VIDEO", &video),
            ("AUDIO", &audio),
        ]);
    consult.sandbox.run("playback", &mut playback).expect_success();
    assert!(consult.path("out/picture-000.jpg").exists());
    assert!(fs::metadata(consult.path("out/sound.wav")).unwrap().len() > 100_000);
    let recording = made[0].display().to_string();
    let log = log.display().to_string();
    let words = [
        "open",
        &recording,
        "--identity",
        "reader.txt",
        "--audit-log",
        &log,
        "--reader",
        "reader-1",
    ];
    consult.tool(
        "gst-compliance",
        &[
            &words[..],
            &["--reason", "test", "--ticket", "T-1", "--out", "opened"],
        ]
        .concat(),
    );
    let opened = files(&consult.path("opened"));
    assert_eq!(opened.len(), index.tracks().len());
    let found: usize = opened.iter().map(|path| pieces_in(path, &pieces)).sum();
    assert!(
        found > 500,
        "only {found} pieces of the clinician's video are in the recording"
    );
    // So does what they said, in one track; and what was not on the record is not in it.
    let stands = |text: &str| {
        let holds = |path: &PathBuf| {
            let bytes = fs::read(path).unwrap();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        };
        opened.iter().filter(|path| holds(path)).count()
    };
    assert_eq!([SAID[0], SAID[1], OFF_THE_RECORD].map(stands), [1, 1, 0]);
    let texts = index.tracks().iter().filter(|track| track.medium == Medium::Text);
    assert!(texts.clone().count() > 0 && texts.clone().all(|track| track.leaf.is_none()));
}
