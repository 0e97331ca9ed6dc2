//! Recordings that are not what was sealed.

use std::fs;

use gst::prelude::*;

use super::common::{Place, events};
use super::player::{Got, Player};
use super::studio::{Plan, damage, note_root, record, record_on};

#[test]
fn playing_stops_at_a_damaged_member_and_names_it() {
    let place = Place::new(1);
    let recording = record(
        &place,
        &[Plan::audio("alice", 0, 5000), Plan::video("alice", 0, 5000, 1000)],
    );
    damage(&recording, "1-video.tar", 2);
    let player = Player::new(&place, &recording);
    player.run.play();
    player.wait("an error", |player| player.run.error().is_some());
    let error = player.run.error().unwrap();
    assert!(error.contains("member 2 of track 1"), "{error}");
    assert!(error.contains("on-damage=skip"), "{error}");
    player.wait("EOS", |player| player.sink("src_1").eos());
    assert_eq!(player.sink("src_1").frames().last().unwrap().0, 1960);
    let told = player.run.messages("compliance-damaged");
    assert_eq!(told[0].get::<u32>("track"), Ok(1));
    assert_eq!(told[0].get::<u64>("sequence"), Ok(2));
    assert_eq!(told[0].get::<u64>("start"), Ok(2_000_000_000));
}

#[test]
fn on_request_playing_goes_around_damage_and_says_so() {
    let place = Place::new(1);
    let plan = Plan::video("alice", 0, 6000, 1000);
    let recording = record(&place, &[Plan::audio("alice", 0, 6000), plan]);
    damage(&recording, "1-video.tar", 2);
    damage(&recording, "1-video.tar", 4);
    let player = Player::new(&place, &recording);
    player.source.set_property_from_str("on-damage", "skip");
    player.run.play();
    player.to_end();
    let sink = player.sink("src_1");
    assert_eq!(sink.gaps(), [(2000, 3000), (4000, 5000)]);
    let times: Vec<_> = sink.frames().iter().map(|(ms, _)| *ms).collect();
    let whole = |ms: &u64| ![2, 4].contains(&(ms / 1000));
    assert_eq!(times, (0..6000).step_by(40).filter(whole).collect::<Vec<_>>());
    let flags_at = |at: u64| {
        sink.got().into_iter().find_map(|got| match got {
            Got::Frame { ms, flags, .. } if ms == at => Some(flags),
            _ => None,
        })
    };
    assert!(flags_at(3000).unwrap().contains(gst::BufferFlags::DISCONT));
    assert_eq!(
        player.sink("src_0").frames().len(),
        300,
        "the other track is whole"
    );
    assert_eq!(player.stat("damaged"), 2);
    assert_eq!(player.run.messages("compliance-damaged").len(), 2);
    assert!(
        player
            .run
            .warnings()
            .iter()
            .any(|warning| warning.contains("member 4 of track 1"))
    );
    assert_eq!(player.run.error(), None);
}

#[test]
fn a_damaged_first_member_takes_no_other_with_it() {
    let place = Place::new(1);
    let recording = record(&place, &[Plan::audio("alice", 0, 3000)]);
    damage(&recording, "0-audio.tar", 0);
    let player = Player::new(&place, &recording);
    let error = player.refused();
    assert!(error.contains("member 0 of track 0"), "{error}");
    let player = Player::new(&place, &recording);
    player.source.set_property_from_str("on-damage", "skip");
    player.run.play();
    player.to_end();
    assert_eq!(player.sink("src_0").gaps(), [(0, 1000)]);
    assert_eq!(player.sink("src_0").frames()[0].0, 1000);
    // Both accesses ended.
    let kinds: Vec<_> = events(&place).iter().map(|event| event.kind()).collect();
    assert_eq!(kinds, ["access-opened", "access-ended", "access-opened"]);
}

#[test]
fn a_tar_that_is_cut_or_gone_is_damage() {
    let place = Place::new(1);
    let recording = record(
        &place,
        &[Plan::audio("alice", 0, 4000), Plan::audio("bob", 0, 4000)],
    );
    let tar = recording.join("tracks/0-audio.tar");
    let length = fs::metadata(&tar).unwrap().len();
    fs::File::options()
        .write(true)
        .open(&tar)
        .unwrap()
        .set_len(length / 2)
        .unwrap();
    let player = Player::new(&place, &recording);
    player.source.set_property_from_str("on-damage", "skip");
    player.run.play();
    player.to_end();
    let frames = player.sink("src_0").frames().len();
    assert!((50..150).contains(&frames), "{frames}");
    assert!(player.stat("damaged") >= 2);
    player.run.stop();
    fs::remove_file(&tar).unwrap();
    player.run.play();
    player.to_end();
    assert!(player.sink("src_1").frames().len() >= 200);
    assert_eq!(player.stat("damaged"), 4);
}

#[test]
fn a_seek_into_damage_says_so() {
    let place = Place::new(1);
    let recording = record(&place, &[Plan::video("alice", 0, 6000, 1000)]);
    damage(&recording, "0-video.tar", 3);
    let player = Player::new(&place, &recording);
    player.source.set_property_from_str("on-damage", "skip");
    player.pause();
    player.seek(gst::SeekFlags::ACCURATE, super::player::ms(3500));
    player.to_end();
    assert_eq!(player.sink("src_0").gaps(), [(3500, 4000)]);
    assert!(player.stat("damaged") >= 1);
}

#[test]
fn an_unfinished_recording_is_held_against_the_log() {
    let place = Place::new(1);
    let (recording, log) = record_on(&place, &[Plan::audio("alice", 0, 5000)]);
    note_root(&recording, &log);
    let path = recording.path().to_owned();
    drop((recording, log));
    // As it is it plays; that it has not ended is said.
    let player = Player::new(&place, &path);
    player.run.play();
    player.to_end();
    assert_eq!(player.sink("src_0").frames().len(), 250);
    assert_eq!(
        player.run.messages("compliance-opened")[0].get::<bool>("ended"),
        Ok(false)
    );
    player.run.stop();
    // Two lines are cut off, at a line's end.
    let manifest = path.join("manifest");
    let text = fs::read_to_string(&manifest).unwrap();
    let lines: Vec<_> = text.lines().collect();
    fs::write(&manifest, format!("{}\n", lines[..lines.len() - 2].join("\n"))).unwrap();
    let player = Player::new(&place, &path);
    let before = events(&place).len();
    let error = player.refused();
    assert!(error.contains("the audit log knows"), "{error}");
    assert_eq!(events(&place).len(), before, "nothing was opened");
    let player = Player::new(&place, &path);
    player.source.set_property_from_str("on-damage", "skip");
    player.run.play();
    player.to_end();
    assert_eq!(player.sink("src_0").frames().len(), 150);
    assert!(!player.run.messages("compliance-shortened").is_empty());
}

#[test]
fn a_forged_manifest_is_refused() {
    let place = Place::new(1);
    let recording = record(&place, &[Plan::audio("alice", 0, 2000)]);
    let manifest = recording.join("manifest");
    let text = fs::read_to_string(&manifest)
        .unwrap()
        .replacen("audio/x-opus", "audio/x-opux", 1);
    fs::write(&manifest, text).unwrap();
    let player = Player::new(&place, &recording);
    player.source.set_property_from_str("on-damage", "skip");
    let error = player.refused();
    assert!(error.contains("manifest"), "{error}");
    assert!(events(&place).is_empty());
}
