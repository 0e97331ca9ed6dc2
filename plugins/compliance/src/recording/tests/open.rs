use std::cell::Cell;

use super::*;
use crate::bundle::holders::fingerprint;

#[test]
fn the_access_is_logged_before_anything_is_decrypted_and_nothing_is_opened_without() {
    let made = made(1);
    let index = || Index::open(&made.path, &options()).unwrap();
    let own = std::slice::from_ref(reader());
    // Without the wrapped key nothing could be decrypted: that the log is asked comes first.
    fs::rename(made.path.join("key.age"), made.folder.path().join("key")).unwrap();
    let logged = Cell::new(false);
    let error = index().unlock(Key::Recipient(own), asked(&[1]), |access| {
        assert_eq!(access.recording, index().facts().recording);
        assert_eq!(access.log_key, log_key().public());
        assert_eq!(access.root, index().root());
        assert_eq!(access.reader, fingerprint(&reader().to_public()));
        assert_eq!(
            (access.reason.as_str(), access.ticket.as_str()),
            ("review", "T-1")
        );
        assert_eq!(access.tracks, [TrackId(1)]);
        logged.set(true);
        Ok(())
    });
    assert!(logged.get());
    assert!(matches!(error, Err(OpenError::Io { .. })));
    fs::rename(made.folder.path().join("key"), made.path.join("key.age")).unwrap();
    let error = index().unlock(Key::Recipient(own), asked(&[]), |_| {
        Err("the disk of the log is full".to_owned())
    });
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("the disk of the log is full")
    );
}

#[test]
fn only_the_tracks_that_were_asked_for_are_opened() {
    let made = made(1);
    let index = || Index::open(&made.path, &options()).unwrap();
    let own = std::slice::from_ref(reader());
    let mut opened = index()
        .unlock(Key::Recipient(own), asked(&[1]), |_| Ok(()))
        .unwrap();
    assert!(opened.member(TrackId(1), 0).is_ok());
    assert!(matches!(opened.member(TrackId(0), 0), Err(OpenError::NoTrack(_))));
    assert_eq!(opened.tracks().count(), 1);
    let unknown = index().unlock(Key::Recipient(own), asked(&[2]), |_| {
        panic!("nothing is accessed")
    });
    assert!(matches!(unknown, Err(OpenError::NoTrack(TrackId(2)))));
}

#[test]
fn others_do_not_open_it_and_a_reason_is_needed() {
    let made = made(1);
    let index = || Index::open(&made.path, &options()).unwrap();
    let error = index()
        .unlock(Key::Recipient(&[Identity::generate()]), asked(&[]), |_| Ok(()))
        .unwrap_err();
    assert!(
        error.to_string().contains("is not encrypted to this identity"),
        "{error}"
    );
    let without = Request {
        reason: " ".to_owned(),
        ..asked(&[])
    };
    let own = std::slice::from_ref(reader());
    let error = index().unlock(Key::Recipient(own), without, |_| panic!("nothing is accessed"));
    assert!(matches!(error, Err(OpenError::Request)));
    let error = index().unlock(Key::Recipient(&[]), asked(&[]), |_| panic!("nothing is accessed"));
    assert!(matches!(error, Err(OpenError::Identity { .. })));
}

#[test]
fn a_wrapped_key_of_another_recording_does_not_open_it() {
    let (made, other) = (made(1), made(1));
    fs::copy(other.path.join("key.age"), made.path.join("key.age")).unwrap();
    let index = Index::open(&made.path, &options()).unwrap();
    let error = index
        .unlock(Key::Recipient(std::slice::from_ref(reader())), asked(&[]), |_| {
            Ok(())
        })
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is not the one that it was recorded to"),
        "{error}"
    );
}

#[test]
fn a_damaged_member_is_not_decrypted_and_the_others_are() {
    let made = made(3);
    let tar = made.path.join("tracks/1-video.tar");
    let mut bytes = fs::read(&tar).unwrap();
    let member = Index::open(&made.path, &options()).unwrap().tracks()[1].members[1];
    bytes[usize::try_from(member.offset).unwrap() + 700] ^= 1;
    fs::write(&tar, bytes).unwrap();
    let mut opened = unlocked(&made.path);
    let error = opened.member(TrackId(1), 1).unwrap_err().to_string();
    assert!(
        error.contains("member 1 of track 1 is not what was sealed"),
        "{error}"
    );
    for sequence in [0, 2] {
        assert_eq!(
            *opened.member(TrackId(1), sequence).unwrap(),
            content(TrackId(1), sequence)
        );
    }
    assert!(opened.member(TrackId(1), 3).is_err());
}

#[test]
fn members_are_found_by_time() {
    let made = made(3);
    let index = Index::open(&made.path, &options()).unwrap();
    let at = |time| {
        index
            .track(TrackId(0))
            .unwrap()
            .at(time)
            .map(|member| member.sequence)
    };
    assert_eq!(
        [0, 999_999_999, 1_000_000_000, 2_999_999_999, 3_000_000_000].map(at),
        [Some(0), Some(0), Some(1), Some(2), None]
    );
}

#[test]
fn a_recording_under_another_key_or_dealer_is_not_opened() {
    let made = made(1);
    let stranger = SigningKey::from_bytes(&[9; 32]).public();
    let keys = Options {
        log_key: Some(stranger),
        ..options()
    };
    assert!(matches!(
        Index::open(&made.path, &keys),
        Err(OpenError::Damaged { .. })
    ));
    let dealers = Options {
        dealer: Some(stranger),
        ..options()
    };
    assert!(matches!(
        Index::open(&made.path, &dealers),
        Err(OpenError::Damaged { .. })
    ));
    for wrong in [keys, dealers] {
        assert_eq!(verify(&made.path, &wrong).unwrap().state, State::Damaged);
    }
}

#[test]
fn a_track_is_exported_as_its_members_in_order() {
    let made = made(3);
    let mut out = Vec::new();
    let bytes = export(&mut unlocked(&made.path), TrackId(0), &mut out, Path::new("out")).unwrap();
    let all: Vec<u8> = (0..3)
        .flat_map(|sequence| content(TrackId(0), sequence))
        .collect();
    assert_eq!((bytes, out), (all.len() as u64, all));
}
