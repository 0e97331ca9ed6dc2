//! Nothing is decrypted before the log that the recording names has it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use age::x25519::Identity;
use gst::prelude::*;
use gstcompliance::access::{AccessError, Opening, Purpose};
use gstcompliance::audit::{Event, Log};
use gstcompliance::recording::OpenError;

use super::common::{Place, events};
use super::player::{Player, identity_file};
use super::studio::{Plan, record};

fn setup() -> (Place, std::path::PathBuf) {
    let place = Place::new(1);
    let recording = record(&place, &[Plan::audio("alice", 0, 2000)]);
    (place, recording)
}

#[test]
fn the_log_has_who_and_why_and_when_it_ended() {
    let (place, recording) = setup();
    let player = Player::new(&place, &recording);
    // The log has it by the time the first frame is there to be pushed.
    player.pause();
    let opened = events(&place);
    let [
        Event::AccessOpened {
            access,
            reader,
            reason,
            ticket,
            tracks,
            ..
        },
    ] = &opened[..]
    else {
        panic!("{opened:?}")
    };
    assert_eq!(
        (reader.as_str(), reason.as_str()),
        ("dr-17", "complaint of 3 May")
    );
    assert_eq!(ticket.as_ref().unwrap().as_str(), "C-2291");
    assert!(tracks.is_empty(), "all");
    let told = player.run.messages("compliance-opened");
    assert_eq!(told[0].get::<&str>("access"), Ok(access.as_str()));
    assert_eq!(told[0].get::<bool>("ended"), Ok(true));
    player.run.play();
    player.to_end();
    player.run.stop();
    let all = events(&place);
    let Event::AccessEnded {
        access: ended,
        members,
    } = &all[1]
    else {
        panic!("{all:?}")
    };
    assert_eq!((ended, *members), (access, 2));
    assert_eq!(all.len(), 2);
}

#[test]
fn each_start_is_an_access_of_its_own() {
    let (place, recording) = setup();
    let player = Player::new(&place, &recording);
    for _ in 0..3 {
        player.run.play();
        player.to_end();
        player.run.stop();
    }
    let ids: std::collections::BTreeSet<_> = events(&place)
        .iter()
        .filter_map(|event| match event {
            Event::AccessOpened { access, .. } => Some(access.as_str().to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_wrong_identity_opens_nothing_and_stands_in_the_log() {
    let (place, recording) = setup();
    let player = Player::new(&place, &recording);
    identity_file(&place.path("identity"), &Identity::generate());
    let error = player.refused();
    assert!(error.contains("is not encrypted to this identity"), "{error}");
    let kinds: Vec<_> = events(&place).iter().map(Event::kind).collect();
    assert_eq!(kinds, ["access-opened", "access-ended"]);
    assert!(player.names().is_empty());
}

#[test]
fn an_access_that_the_log_cannot_sign_for_is_none() {
    let (place, recording) = setup();
    let player = Player::new(&place, &recording);
    // The entry can be written, the checkpoint over it cannot.
    let next = place.path("log").join("checkpoint.next");
    fs::remove_file(&next).unwrap();
    fs::create_dir(&next).unwrap();
    refuses(&player, "nothing is opened");
    fs::remove_dir(&next).unwrap();
    let kinds: Vec<_> = events(&place).iter().map(Event::kind).collect();
    assert_eq!(kinds, ["access-opened", "access-ended"]);
}

/// Nothing was decrypted and no pad is there; the error has this in it.
fn refuses(player: &Player, wanted: &str) {
    let error = player.refused();
    assert!(error.contains(wanted), "{error}");
    assert!(player.names().is_empty());
}

#[test]
fn without_the_log_nothing_is_opened() {
    let (place, recording) = setup();
    let player = Player::new(&place, &recording);
    fs::rename(place.path("log"), place.path("moved")).unwrap();
    refuses(&player, "nothing is opened");
    assert!(!place.path("log").exists(), "no log is made for a reader");
    let player = Player::new(&place, &recording);
    fs::create_dir(place.path("log")).unwrap();
    fs::set_permissions(place.path("log"), fs::Permissions::from_mode(0o700)).unwrap();
    refuses(&player, "holds no audit log");
    fs::remove_dir_all(place.path("log")).unwrap();
    fs::rename(place.path("moved"), place.path("log")).unwrap();
    let player = Player::new(&place, &recording);
    player.run.play();
    player.to_end();
}

#[test]
fn another_log_does_not_do() {
    let (place, recording) = setup();
    drop(Log::open(&place.path("other")).unwrap());
    let player = Player::new(&place, &recording);
    player
        .source
        .set_property("audit-log", place.path("other").to_str().unwrap());
    refuses(&player, "is another audit log");
    assert!(events(&place).is_empty());
}

#[test]
fn a_log_that_cannot_be_written_is_as_good_as_none() {
    let (place, recording) = setup();
    let player = Player::new(&place, &recording);
    // Permissions do not stop root. A file of entries that is none does.
    let log = place.path("log").join("log");
    fs::rename(&log, place.path("log").join("kept")).unwrap();
    fs::create_dir(&log).unwrap();
    refuses(&player, "nothing is opened");
    fs::remove_dir(&log).unwrap();
    fs::rename(place.path("log").join("kept"), &log).unwrap();
    assert!(events(&place).is_empty());
    // It cannot go on without its key either.
    let key = place.path("log").join("key");
    fs::rename(&key, place.path("key")).unwrap();
    let player = Player::new(&place, &recording);
    refuses(&player, "nothing is opened");
}

#[test]
fn an_identity_that_others_can_read_is_refused() {
    let (place, recording) = setup();
    for mode in [0o640, 0o604, 0o660] {
        let player = Player::new(&place, &recording);
        fs::set_permissions(place.path("identity"), fs::Permissions::from_mode(mode)).unwrap();
        refuses(&player, "chmod 600");
    }
    assert!(events(&place).is_empty());
}

#[test]
fn who_why_and_what_for_are_needed() {
    let (place, recording) = setup();
    for (property, value) in [
        ("reader", ""),
        ("reader", "Dr Weber"),
        ("reason", ""),
        ("reason", " "),
        ("reason", "two\nlines"),
        ("ticket", ""),
        ("location", ""),
        ("identity-file", ""),
        ("audit-log", ""),
    ] {
        let player = Player::new(&place, &recording);
        player.source.set_property(property, value);
        refuses(&player, property);
    }
    assert!(events(&place).is_empty());
}

#[test]
fn what_is_no_recording_or_no_track_is_said() {
    let (place, recording) = setup();
    let player = Player::new(&place, &recording);
    player.source.set_property("track", 7);
    refuses(&player, "there is no track 7");
    let player = Player::new(&place, &recording);
    player
        .source
        .set_property("location", place.path("nothing").to_str().unwrap());
    refuses(&player, "nothing/recording.json");
    assert!(events(&place).is_empty());
}

#[test]
fn a_reader_is_given_out_only_when_the_log_has_it() {
    let (place, recording) = setup();
    let purpose = Purpose::new("dr-17", "reason", "ticket").unwrap();
    // The log breaks between its opening and the entry.
    let opening = Opening::prepare(&recording, &place.path("log")).unwrap();
    assert!(opening.shortened().is_none());
    fs::remove_file(place.path("log").join("log")).unwrap();
    let keys = [place.recipient.clone()];
    let refused = opening
        .unlock(&keys, &purpose, Vec::new(), 1)
        .map(drop)
        .unwrap_err();
    assert!(matches!(refused, AccessError::Log { .. }), "{refused}");
}

#[test]
fn errors_show_no_key() {
    let (place, recording) = setup();
    let secret = Identity::generate();
    identity_file(&place.path("wrong"), &secret);
    let text = fs::read_to_string(place.path("wrong")).unwrap();
    let keys = gstcompliance::access::identities(&place.path("wrong")).unwrap();
    let opening = Opening::prepare(&recording, &place.path("log")).unwrap();
    let purpose = Purpose::new("dr-17", "reason", "ticket").unwrap();
    let refused = opening
        .unlock(&keys, &purpose, Vec::new(), 1)
        .map(drop)
        .unwrap_err();
    assert!(matches!(
        refused,
        AccessError::Recording(OpenError::Identity { .. })
    ));
    assert!(!format!("{refused} {refused:?}").contains(text.trim()));
}
