//! What somebody does to a log, and how it is told.

use super::*;
use crate::signing::Signer;
use ed25519_dalek::SigningKey;

/// Which entry a byte of the file is in.
fn entry_at(starts: &[usize], at: usize) -> u64 {
    starts
        .iter()
        .filter(|start| **start <= at)
        .count()
        .saturating_sub(1) as u64
}

#[test]
fn every_flipped_bit_is_seen_and_the_entry_named() {
    let place = Place::with(4);
    let whole = place.bytes();
    let starts = starts(&whole, &place.log());
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            place.write(&bytes);
            let report = place.verify();
            let damage = report
                .damages
                .first()
                .unwrap_or_else(|| panic!("byte {at}, bit {bit}"));
            let (index, offset) = damage.place().unwrap();
            if at < HEADER.len() {
                assert_eq!(*damage, Damage::Header);
            } else {
                let expected = entry_at(&starts, at);
                assert_eq!(
                    (index, offset),
                    (expected, starts[expected as usize] as u64),
                    "{damage}"
                );
                assert!(
                    damage.to_string().contains(&format!("entry {expected}")),
                    "{damage}"
                );
                assert!(damage.to_string().contains(&offset.to_string()), "{damage}");
            }
            // What was before is still there to be read.
            let before = Reader::open(&place.log()).unwrap().map(Result::unwrap);
            let readable = before
                .take_while(|item| matches!(item, Item::Entry { .. }))
                .count();
            assert!(readable as u64 >= index);
        }
    }
}

#[test]
fn a_damaged_log_takes_no_entries_and_says_where() {
    let place = Place::with(4);
    let whole = place.bytes();
    let starts = starts(&whole, &place.log());
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        place.write(&bytes);
        let error = Log::open(&place.log()).unwrap_err();
        let LogError::Damaged(_, damage) = &error else {
            panic!("byte {at}: {error}")
        };
        if at >= HEADER.len() {
            assert_eq!(damage.place().unwrap().0, entry_at(&starts, at), "{damage}");
        }
        // Nothing was repaired.
        assert_eq!(place.bytes(), bytes);
    }
}

#[test]
fn every_cut_is_seen_and_the_entry_named() {
    let place = Place::with(4);
    let whole = place.bytes();
    let starts = starts(&whole, &place.log());
    for length in 0..whole.len() {
        place.write(&whole[..length]);
        let report = place.verify();
        let damage = report.damages.last().unwrap();
        if length >= HEADER.len() {
            let index = entry_at(&starts, length);
            let offset = starts[index as usize] as u64;
            let source = Source::File("checkpoint".to_owned());
            let expected = Damage::Cut {
                index,
                offset,
                size: 4,
                source,
            };
            assert_eq!(
                (only(&report), report.entries),
                (&expected, index),
                "length {length}"
            );
        } else {
            assert!(report.damages.contains(&Damage::Header));
        }
        let error = Log::open(&place.log()).unwrap_err();
        assert!(
            matches!(&error, LogError::Damaged(_, opened) if length < HEADER.len() || opened == damage),
            "{error}"
        );
        assert_eq!(place.bytes(), whole[..length]);
    }
}

#[test]
fn removed_reordered_repeated_and_foreign_entries_are_seen_and_named() {
    let (place, other) = (Place::with(6), Place::with(6));
    let (whole, foreign) = (place.bytes(), other.bytes());
    let at = starts(&whole, &place.log());
    let frame = |n: usize| &whole[at[n]..at[n + 1]];
    // The same entries, at the same places, in frames of the other log.
    let foreign = |n: usize| &foreign[at[n]..at[n + 1]];
    for (what, frames, kind, index) in [
        (
            "removed",
            [frame(0), frame(1), frame(3), frame(4), frame(5)].concat(),
            "missing",
            2,
        ),
        (
            "removed first",
            [frame(1), frame(2), frame(3), frame(4), frame(5)].concat(),
            "missing",
            0,
        ),
        (
            "removed last",
            [frame(0), frame(1), frame(2), frame(3), frame(4)].concat(),
            "cut",
            5,
        ),
        (
            "reordered",
            [frame(0), frame(2), frame(1), frame(3), frame(4), frame(5)].concat(),
            "missing",
            1,
        ),
        (
            "repeated",
            [
                frame(0),
                frame(1),
                frame(1),
                frame(2),
                frame(3),
                frame(4),
                frame(5),
            ]
            .concat(),
            "out-of-order",
            2,
        ),
        (
            "spliced",
            [frame(0), frame(1), foreign(2), frame(3), frame(4), frame(5)].concat(),
            "unlinked",
            2,
        ),
        (
            "spliced tail",
            [frame(0), frame(1), frame(2), frame(3), frame(4), foreign(5)].concat(),
            "unlinked",
            5,
        ),
        (
            "another log",
            [
                foreign(0),
                foreign(1),
                foreign(2),
                foreign(3),
                foreign(4),
                foreign(5),
            ]
            .concat(),
            "unlinked",
            0,
        ),
    ] {
        place.write(&[HEADER, &frames].concat());
        let report = place.verify();
        let damage = report.damages.first().unwrap_or_else(|| panic!("{what}"));
        let offset = if kind == "cut" { at[5] } else { at[index as usize] } as u64;
        assert_eq!(
            (damage.kind(), damage.place()),
            (kind, Some((index, offset))),
            "{what}: {damage}"
        );
        let error = Log::open(&place.log()).unwrap_err();
        assert!(
            matches!(&error, LogError::Damaged(_, opened) if opened == damage),
            "{what}: {error}"
        );
    }
}

/// The log again from an entry on, with numbers, links and CRCs as they should be: by somebody who knows the format.
fn rewrite(place: &Place, from: u64, count: u64) {
    let key: VerifierKey = fs::read_to_string(place.file("vkey"))
        .unwrap()
        .trim_end()
        .parse()
        .unwrap();
    let (mut bytes, mut link) = (HEADER.to_vec(), frame::first_link(key.key()));
    for number in 0..count {
        let encoded = entry(if number < from { number } else { number + 100 })
            .encode()
            .unwrap();
        link = frame::next_link(&link, &tree::leaf(&encoded));
        frame::encode(number, &encoded, &link, &mut bytes);
    }
    place.write(&bytes);
}

/// And signed again: by somebody who has the key.
fn sign(place: &Place) {
    let seed = fs::read_to_string(place.file("key")).unwrap();
    let key = SigningKey::from_bytes(&hex::decode(seed.trim_end()).unwrap().try_into().unwrap());
    let mut edge = tree::Edge::default();
    for item in Reader::open(&place.log()).unwrap() {
        let Item::Entry { entry: Ok(entry), .. } = item.unwrap() else {
            panic!()
        };
        edge.push(tree::leaf(&entry.encode().unwrap()));
    }
    let checkpoint = Checkpoint {
        origin: VerifierKey::named(Kind::Log, key.public()).name().to_owned(),
        size: edge.size(),
        root: edge.root(),
    };
    fs::write(place.file("checkpoint"), Note::sign(checkpoint, &key).to_string()).unwrap();
}

#[test]
fn a_log_that_was_rewritten_without_the_key_does_not_fit_its_checkpoint() {
    let place = Place::with(6);
    rewrite(&place, 3, 6);
    let report = place.verify();
    let damage = only(&report);
    assert_eq!((damage.kind(), report.signed), ("rewritten", 0));
    assert!(damage.to_string().contains("entries 0 to 5"), "{damage}");
    assert!(!damage.to_string().contains("signed again"), "{damage}");
    let error = Log::open(&place.log()).unwrap_err();
    assert!(
        matches!(&error, LogError::Damaged(_, Damage::Rewritten { .. })),
        "{error}"
    );
}

#[test]
fn a_log_that_its_key_holder_rewrote_is_caught_by_what_a_witness_saw_and_by_nothing_else() {
    let place = Place::with(3);
    let witness = Witness::create(&place.place.path().join("witness")).unwrap();
    let log = Log::open(&place.log()).unwrap();
    anchor(&log, &witness).unwrap();
    log.close().unwrap();
    place.append(3..6);
    let options = VerifyOptions {
        witnesses: vec![witness.verifier_key().clone()],
        ..VerifyOptions::default()
    };
    let report = verify(&place.log(), &options).unwrap();
    assert!(report.is_intact());
    assert_eq!((report.anchored, report.signed, report.entries), (3, 6, 6));

    // After the anchor: the report says that only the key's holder could have, and that is all that it can say.
    rewrite(&place, 4, 6);
    sign(&place);
    let report = verify(&place.log(), &options).unwrap();
    assert!(report.is_intact());
    assert_eq!((report.anchored, report.signed), (3, 6));

    // Before it.
    rewrite(&place, 2, 6);
    sign(&place);
    let report = verify(&place.log(), &options).unwrap();
    let damage = only(&report);
    let Damage::Rewritten {
        index: 0,
        size: 3,
        source,
        signed_again: true,
        ..
    } = damage
    else {
        panic!("{damage}")
    };
    assert!(matches!(source, Source::Witness { name, .. } if name == witness.verifier_key().name()));
    assert!(
        damage
            .to_string()
            .contains("signed again by whoever holds the log's key"),
        "{damage}"
    );
    assert_eq!((report.anchored, report.signed), (0, 6));
    assert!(!report.anchors[0].holds);
}

#[test]
fn a_rewritten_part_is_narrowed_down_by_what_still_fits() {
    let place = Place::with(3);
    let early = fs::read_to_string(place.file("checkpoint")).unwrap();
    place.append(3..6);
    let start = starts(&place.bytes(), &place.log())[3] as u64;
    rewrite(&place, 4, 6);
    let options = VerifyOptions {
        seen: vec![Note::parse(&early).unwrap()],
        ..VerifyOptions::default()
    };
    let report = verify(&place.log(), &options).unwrap();
    assert_eq!(only(&report).place(), Some((3, start)));
    assert_eq!(report.signed, 3);
}

#[test]
fn a_rollback_is_seen_by_whoever_kept_a_newer_checkpoint() {
    let place = Place::with(3);
    let backup = place.backup();
    place.append(3..5);
    let newer = Note::parse(&fs::read_to_string(place.file("checkpoint")).unwrap()).unwrap();
    place.restore(&backup);
    // By itself the old state is a good one: nobody can tell.
    assert!(place.verify().is_intact());
    let options = VerifyOptions {
        seen: vec![newer],
        ..VerifyOptions::default()
    };
    let report = verify(&place.log(), &options).unwrap();
    let kinds: Vec<_> = report.damages.iter().map(Damage::kind).collect();
    assert_eq!(kinds, ["old-checkpoint", "cut"]);
    assert!(matches!(
        report.damages[1],
        Damage::Cut {
            index: 3,
            size: 5,
            ..
        }
    ));
    // And if it goes on from there.
    place.append(7..10);
    let report = verify(&place.log(), &options).unwrap();
    assert_eq!(only(&report).kind(), "rewritten");
}

#[test]
fn a_checkpoint_that_was_put_back_alone_is_seen_where_a_witness_saw_more() {
    let place = Place::with(3);
    let old = fs::read(place.file("checkpoint")).unwrap();
    place.append(3..5);
    let witness = Witness::create(&place.place.path().join("witness")).unwrap();
    let log = Log::open(&place.log()).unwrap();
    anchor(&log, &witness).unwrap();
    log.close().unwrap();
    fs::write(place.file("checkpoint"), old).unwrap();
    // The cosigned checkpoint lies beside it.
    assert!(matches!(
        only(&place.verify()),
        Damage::OldCheckpoint { size: 3, seen: 5, .. }
    ));
}

#[test]
fn every_byte_of_every_small_file_matters() {
    let place = Place::with(2);
    let witness = Witness::create(&place.place.path().join("witness")).unwrap();
    let log = Log::open(&place.log()).unwrap();
    let key = log.key();
    anchor(&log, &witness).unwrap();
    log.close().unwrap();
    let options = VerifyOptions {
        key: Some(key),
        witnesses: vec![witness.verifier_key().clone()],
        ..VerifyOptions::default()
    };
    assert!(verify(&place.log(), &options).unwrap().is_intact());
    let anchor_file = format!("anchors/{}", witness.verifier_key().short());
    for name in ["checkpoint", "vkey", &anchor_file] {
        let whole = fs::read(place.file(name)).unwrap();
        let check = |bytes: &[u8], what: String| {
            fs::write(place.file(name), bytes).unwrap();
            match verify(&place.log(), &options) {
                Ok(report) => assert!(!report.is_intact(), "{name}, {what}"),
                Err(VerifyError::OtherLog { .. }) => assert_eq!(name, "vkey"),
                Err(error) => panic!("{name}, {what}: {error}"),
            }
        };
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            check(&bytes, format!("byte {at}"));
            check(&whole[..at], format!("cut at {at}"));
        }
        fs::write(place.file(name), &whole).unwrap();
    }
    fs::remove_file(place.file("checkpoint")).unwrap();
    assert_eq!(
        *only(&verify(&place.log(), &options).unwrap()),
        Damage::NoCheckpoint
    );
    assert!(matches!(
        Log::open(&place.log()),
        Err(LogError::Damaged(_, Damage::NoCheckpoint))
    ));
}

#[test]
fn another_log_is_not_taken_for_the_pinned_one() {
    let (place, other) = (Place::with(2), Place::with(2));
    let key = Log::open(&place.log()).unwrap().key();
    let options = VerifyOptions {
        key: Some(key),
        ..VerifyOptions::default()
    };
    let error = verify(&other.log(), &options).unwrap_err();
    assert!(
        matches!(error, VerifyError::OtherLog { expected, .. } if expected == key),
        "{error}"
    );
    // Under the other one's key.
    fs::copy(place.file("vkey"), other.file("vkey")).unwrap();
    let report = verify(&other.log(), &options).unwrap();
    let kinds: Vec<_> = report.damages.iter().map(Damage::kind).collect();
    assert_eq!(kinds, ["note", "unlinked"]);
    // A checkpoint of another log was given.
    let note = fs::read_to_string(other.file("checkpoint")).unwrap();
    let options = VerifyOptions {
        seen: vec![Note::parse(&note).unwrap()],
        ..VerifyOptions::default()
    };
    assert!(matches!(
        verify(&place.log(), &options),
        Err(VerifyError::Seen(NoteError::OtherLog))
    ));
}

#[test]
fn what_happens_while_a_log_is_open_is_seen_too() {
    let damage = |tamper: fn(&Place)| {
        let place = Place::with(3);
        let log = Log::open(&place.log()).unwrap();
        tamper(&place);
        let error = log.append(&entry(3)).unwrap_err();
        match error {
            LogError::Damaged(_, damage) => damage,
            error => panic!("{error}"),
        }
    };
    let cut = damage(|place| {
        let bytes = place.bytes();
        place.write(&bytes[..bytes.len() - 1]);
    });
    assert!(
        matches!(
            cut,
            Damage::Cut {
                index: 2,
                size: 3,
                ..
            }
        ),
        "{cut}"
    );
    let grown = damage(|place| {
        let mut bytes = place.bytes();
        let (junk, frame) = (b"junk", bytes[HEADER.len()..].to_vec());
        bytes.extend_from_slice(junk);
        bytes.extend_from_slice(&frame);
        place.write(&bytes);
    });
    assert_eq!(grown.place().unwrap().0, 3, "{grown}");
    let old = damage(|place| {
        let other = Place::empty();
        fs::create_dir(other.log()).unwrap();
        for name in ["key", "vkey"] {
            fs::copy(place.file(name), other.file(name)).unwrap();
        }
        Log::open(&other.log()).unwrap().close().unwrap();
        fs::copy(other.file("checkpoint"), place.file("checkpoint")).unwrap();
    });
    assert!(
        matches!(old, Damage::OldCheckpoint { size: 0, seen: 3, .. }),
        "{old}"
    );
    let none = damage(|place| fs::remove_file(place.file("checkpoint")).unwrap());
    assert_eq!(none, Damage::NoCheckpoint);
    let rewritten = damage(|place| {
        rewrite(place, 1, 3);
        sign(place);
    });
    assert_eq!(rewritten.kind(), "rewritten");
}

#[test]
fn a_folder_that_is_replaced_while_it_is_open_takes_no_more() {
    let place = Place::with(3);
    let log = Log::open(&place.log()).unwrap();
    place.restore(&place.backup());
    let error = log.append(&entry(3)).unwrap_err();
    assert!(
        matches!(error, LogError::Folder(FolderError::Replaced(_))),
        "{error}"
    );
    assert_eq!(place.numbers(), [0, 1, 2]);
    fs::remove_dir_all(place.log()).unwrap();
    assert!(log.append(&entry(3)).is_err());
}

#[test]
fn an_entry_that_says_nothing_known_is_named() {
    let place = Place::with(1);
    let key: VerifierKey = fs::read_to_string(place.file("vkey"))
        .unwrap()
        .trim_end()
        .parse()
        .unwrap();
    let (mut bytes, mut link) = (HEADER.to_vec(), frame::first_link(key.key()));
    for (index, text) in [&entry(0).encode().unwrap()[..], b"{\"time\":1}"]
        .into_iter()
        .enumerate()
    {
        link = frame::next_link(&link, &tree::leaf(text));
        frame::encode(index as u64, text, &link, &mut bytes);
    }
    place.write(&bytes);
    let report = place.verify();
    assert!(
        matches!(only(&report), Damage::Entry { index: 1, .. }),
        "{:?}",
        report.damages
    );
    assert_eq!((report.entries, report.signed), (2, 1));
}

#[test]
fn a_report_counts_what_it_does_not_list() {
    let place = Place::with(300);
    let mut bytes = place.bytes();
    let starts = starts(&bytes, &place.log());
    for start in starts[..300].iter().step_by(2) {
        bytes[start + 20] ^= 1;
    }
    place.write(&bytes);
    let report = place.verify();
    assert_eq!((report.damages.len(), report.more_damages), (100, 50));
}
