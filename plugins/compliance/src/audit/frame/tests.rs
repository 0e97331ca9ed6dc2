use super::*;
use crate::signing::Signer;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

/// Made by an independent program (Python, hashlib, struct and zlib) for the key of the seed 07…07.
const ENTRY: &str = r#"{"time":1700000000000,"event":{"clock-jump":{"by_ms":-3600000}}}"#;
const FIRST_LINK: &str = "890f816cf0e20c80846339570a78142e034241a593de749e98ee94459100b48e";
const FRAME: &str = "000000400000000000000000a547c5687b2274696d65223a313730303030303030303030302c226576656e74223a7b22636c6f636b2d6a756d70223a7b2262795f6d73223a2d333630303030307d7d7d396a0ce083e0d2224e1a63329c658b95cb8df74055c1fa6b142b5ba0f7b8d174827079b0";

impl ReadAt for [u8] {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(bytes.len());
        bytes[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

fn key() -> PublicKey {
    SigningKey::from_bytes(&[7; 32]).public()
}

/// A log of these entries, and where each frame starts.
fn log(entries: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut starts) = (HEADER.to_vec(), Vec::new());
    let mut link = first_link(&key());
    for (index, entry) in entries.iter().enumerate() {
        starts.push(bytes.len());
        link = next_link(&link, &leaf(entry));
        encode(index as u64, entry, &link, &mut bytes);
    }
    starts.push(bytes.len());
    (bytes, starts)
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Entry(u64, Vec<u8>),
    Fault(Fault),
    Unfinished(u64, u64),
    End(u64, u64),
}

fn walk(bytes: &[u8]) -> Vec<Seen> {
    let mut walk = Walk::from_start(bytes, bytes.len() as u64, &key());
    let mut seen = Vec::new();
    loop {
        seen.push(match walk.step().unwrap() {
            Step::Entry { index, entry, .. } => Seen::Entry(index, entry.to_vec()),
            Step::Fault(fault) => Seen::Fault(fault),
            Step::Unfinished { index, offset } => Seen::Unfinished(index, offset),
            Step::End { index, offset } => Seen::End(index, offset),
        });
        if matches!(seen.last(), Some(Seen::Unfinished(..) | Seen::End(..))) {
            return seen;
        }
    }
}

fn faults(bytes: &[u8]) -> Vec<Seen> {
    let seen = walk(bytes);
    seen.into_iter()
        .filter(|seen| !matches!(seen, Seen::Entry(..)))
        .collect()
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| format!("entry {number}").into_bytes())
        .collect()
}

#[test]
fn crcs_are_those_of_everybody() {
    // The check value that catalogues of CRCs give.
    assert_eq!(crc32(&[b"123456789"]), 0xcbf4_3926);
    assert_eq!(crc32(&[b"1234", b"", b"56789"]), 0xcbf4_3926);
    assert_eq!(crc32(&[]), 0);
}

#[test]
fn a_frame_is_that_of_another_implementation() {
    assert_eq!(hex::encode(first_link(&key())), FIRST_LINK);
    let (bytes, _) = log(&[ENTRY.as_bytes().to_vec()]);
    let frame = &bytes[HEADER.len()..];
    assert_eq!(hex::encode(frame), FRAME);
    assert_eq!(frame.len() as u64, length(ENTRY.as_bytes()));
}

#[test]
fn what_is_missing_repeated_or_foreign_is_named() {
    let (bytes, at) = log(&numbered(6));
    let frame = |n: usize| &bytes[at[n]..at[n + 1]];
    let build = |frames: &[&[u8]]| [HEADER, &frames.concat()].concat();
    let end = |index, bytes: &[u8]| Seen::End(index, bytes.len() as u64);

    let removed = build(&[frame(0), frame(1), frame(4), frame(5)]);
    let offset = at[2] as u64;
    let missing = Fault::Missing {
        index: 2,
        next: 4,
        offset,
    };
    assert_eq!(faults(&removed), [Seen::Fault(missing), end(6, &removed)]);

    let swapped = build(&[frame(0), frame(2), frame(1), frame(3)]);
    let found = faults(&swapped);
    let first = Fault::Missing {
        index: 1,
        next: 2,
        offset: at[1] as u64,
    };
    assert_eq!(found[0], Seen::Fault(first));
    assert!(matches!(
        found[1],
        Seen::Fault(Fault::OutOfOrder {
            index: 3,
            found: 1,
            ..
        })
    ));
    assert_eq!(found[2..], [end(4, &swapped)]);

    let repeated = build(&[frame(0), frame(1), frame(1), frame(2)]);
    let twice = Fault::OutOfOrder {
        index: 2,
        found: 1,
        offset,
    };
    assert_eq!(faults(&repeated), [Seen::Fault(twice), end(3, &repeated)]);

    // From another log: a whole frame, with the right number.
    let other = numbered(6)
        .iter()
        .map(|entry| [&entry[..], b"!"].concat())
        .collect::<Vec<_>>();
    let (foreign, foreign_at) = log(&other);
    let spliced = build(&[
        frame(0),
        frame(1),
        &foreign[foreign_at[2]..foreign_at[3]],
        frame(3),
    ]);
    let unlinked = Fault::Unlinked { index: 2, offset };
    assert_eq!(faults(&spliced), [Seen::Fault(unlinked), end(4, &spliced)]);

    // The same entries under another log's key.
    let mut walk_other = Walk::from_start(&bytes[..], bytes.len() as u64, &PublicKey([1; 32]));
    let unlinked = Fault::Unlinked {
        index: 0,
        offset: at[0] as u64,
    };
    assert_eq!(walk_other.step().unwrap(), Step::Fault(unlinked));

    let junk = build(&[frame(0), frame(1), b"something", frame(2)]);
    let inserted = Fault::Unreadable {
        index: 2,
        next: 2,
        offset,
        end: offset + 9,
    };
    assert_eq!(faults(&junk), [Seen::Fault(inserted), end(3, &junk)]);
}

#[test]
fn after_damage_it_goes_on_where_it_can() {
    let (mut bytes, at) = log(&numbered(8));
    for n in [2, 3, 6] {
        bytes[at[n] + 5] ^= 0x10;
    }
    let unreadable = |index: usize, next: usize| {
        Seen::Fault(Fault::Unreadable {
            index: index as u64,
            next: next as u64,
            offset: at[index] as u64,
            end: at[next] as u64,
        })
    };
    let end = Seen::End(8, bytes.len() as u64);
    assert_eq!(faults(&bytes), [unreadable(2, 4), unreadable(6, 7), end]);
    let entries = walk(&bytes).into_iter().filter_map(|seen| match seen {
        Seen::Entry(index, _) => Some(index),
        _ => None,
    });
    assert!(entries.eq([0, 1, 4, 5, 7]));
}

#[test]
fn a_frame_that_claims_the_impossible_is_none() {
    for (length, index) in [
        (0, 0),
        (MAX_ENTRY as u32 + 1, 0),
        (u32::MAX, 0),
        (5, u64::MAX),
        (5, MAX_SIZE),
    ] {
        let head = [&length.to_be_bytes()[..], &index.to_be_bytes()].concat();
        let crc = crc32(&[&head]).to_be_bytes();
        let bytes = [HEADER, &head, &crc, &[0; 100]].concat();
        assert_eq!(walk(&bytes), [Seen::Unfinished(0, HEADER.len() as u64)]);
    }
}

#[test]
fn beginnings_of_frames_without_end_do_not_keep_it_for_ever() {
    let head = [&(MAX_ENTRY as u32).to_be_bytes()[..], &0_u64.to_be_bytes()].concat();
    let head = [&head[..], &crc32(&[&head]).to_be_bytes()].concat();
    // Each of them costs 16 KiB to look at.
    let bytes = [HEADER, &head.repeat(20_000)].concat();
    let mut hostile = Walk::from_start(&bytes[..], bytes.len() as u64, &key());
    assert!(matches!(
        hostile.step().unwrap(),
        Step::Unfinished { index: 0, .. }
    ));
    assert!(hostile.tried <= MAX_TRIED + MAX_ENTRY as u64);
}

#[test]
fn longer_logs_than_are_read_at_once_are_read() {
    let entries: Vec<_> = (0..200)
        .map(|n| vec![b'a' + n as u8 % 26; 1 + n * 80 % MAX_ENTRY])
        .collect();
    let (bytes, _) = log(&entries);
    assert!(bytes.len() > 4 * PIECE);
    let expected: Vec<_> = entries
        .into_iter()
        .enumerate()
        .map(|(n, entry)| Seen::Entry(n as u64, entry))
        .collect();
    let mut seen = walk(&bytes);
    assert_eq!(seen.pop(), Some(Seen::End(200, bytes.len() as u64)));
    assert!(seen == expected);
}

#[test]
fn a_file_that_becomes_shorter_while_it_is_read_ends_there() {
    let (bytes, at) = log(&numbered(5));
    let cut = &bytes[..at[3] + 7];
    let mut walk = Walk::from_start(cut, bytes.len() as u64, &key());
    for expected in 0..3 {
        assert!(matches!(walk.step().unwrap(), Step::Entry { index, .. } if index == expected));
    }
    let offset = at[3] as u64;
    assert_eq!(walk.step().unwrap(), Step::Unfinished { index: 3, offset });
}

proptest! {
    #[test]
    fn what_was_written_is_read(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20)) {
        let (bytes, _) = log(&entries);
        let mut expected: Vec<_> = entries.iter().enumerate().map(|(n, entry)| Seen::Entry(n as u64, entry.clone())).collect();
        expected.push(Seen::End(entries.len() as u64, bytes.len() as u64));
        prop_assert_eq!(walk(&bytes), expected);
    }

    #[test]
    fn a_cut_is_unfinished_or_the_end_of_an_entry(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 1..8), at in any::<prop::sample::Index>()) {
        let (bytes, starts) = log(&entries);
        let cut = HEADER.len() + at.index(bytes.len() - HEADER.len());
        let whole = starts.iter().filter(|start| **start <= cut).count() - 1;
        let last = walk(&bytes[..cut]).pop().unwrap();
        if starts[whole] == cut {
            prop_assert_eq!(last, Seen::End(whole as u64, cut as u64));
        } else {
            prop_assert_eq!(last, Seen::Unfinished(whole as u64, starts[whole] as u64));
        }
    }

    #[test]
    fn any_bytes_are_read_to_the_end(junk in prop::collection::vec(any::<u8>(), 0..2000)) {
        let bytes = [HEADER, &junk].concat();
        prop_assert!(!matches!(walk(&bytes)[0], Seen::Entry(..)));
    }
}
