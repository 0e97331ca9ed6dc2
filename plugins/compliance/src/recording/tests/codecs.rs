use std::io::{BufReader, Read, repeat};

use proptest::prelude::*;

use super::manifest::*;
use super::member::{self, BLOCK, Expected, Found};
use super::*;
use crate::digest::Digest;

fn text(most: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[^\\p{{Cc}}]{{0,{most}}}")).unwrap()
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    (any::<u64>(), any::<u64>()).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn medium() -> impl Strategy<Value = Medium> {
    (0..Medium::ALL.len()).prop_map(|index| Medium::ALL[index])
}

fn fact() -> impl Strategy<Value = Fact> {
    let id = || (0..MAX_TRACKS).prop_map(TrackId);
    prop_oneof![
        any::<u64>().prop_map(|time| Fact::Start(StartFact { time })),
        (id(), medium(), text(300), any::<Option<u32>>(), text(60)).prop_map(
            |(track, medium, caps, leaf, sender)| {
                Fact::Track(TrackFact {
                    track,
                    medium,
                    caps,
                    leaf,
                    sender,
                })
            }
        ),
        (
            (
                id(),
                0..u64::MAX,
                digest(),
                0_u64..1 << 60,
                1..=member::MAX_MEMBER
            ),
            (
                range(),
                range(),
                any::<Option<u32>>(),
                any::<u32>(),
                any::<Option<u32>>()
            )
        )
            .prop_map(
                |((track, sequence, sha256, offset, bytes), (times, epochs, leaf, frames, keyframes))| {
                    Fact::Member(MemberFact {
                        track,
                        sequence,
                        sha256,
                        offset,
                        bytes,
                        from: times.0,
                        to: times.1,
                        epochs,
                        leaf,
                        frames,
                        keyframes,
                    })
                }
            ),
        (id(), range(), any::<u64>(), text(60)).prop_map(|(track, (from, to), frames, cause)| {
            Fact::Gap(GapFact {
                track,
                from,
                to,
                frames,
                cause,
            })
        }),
        (
            any::<u64>(),
            any::<u64>(),
            proptest::collection::vec((text(20), any::<u64>()), 0..4)
        )
            .prop_map(|(time, manifest, cuts)| {
                let cuts = cuts
                    .into_iter()
                    .map(|(tar, bytes)| CutFact { tar, bytes })
                    .collect();
                Fact::Resumed(ResumedFact { time, manifest, cuts })
            }),
        (
            any::<u64>(),
            text(60),
            any::<u64>(),
            proptest::collection::vec(any::<(u64, u64)>(), 0..4)
        )
            .prop_map(|(time, reason, lost, tracks)| {
                let ends = tracks
                    .into_iter()
                    .map(|(members, bytes)| TrackEnd { members, bytes });
                Fact::End(EndFact {
                    time,
                    reason,
                    lost,
                    tracks: ends.collect(),
                })
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lines_are_read_as_they_were_made(facts in proptest::collection::vec(fact(), 1..6), begin in any::<[u8; 8]>()) {
        let key = log_key().public();
        let (mut chain, mut reading) = (Chain::new(&begin), Chain::new(&begin));
        for fact in facts {
            let made = chain.make(fact.clone(), &*log_key()).unwrap();
            let line = made.strip_suffix(b"\n").unwrap();
            prop_assert!(!line.contains(&b'\n'));
            let content = verify_line(line, &key).unwrap();
            prop_assert!(reading.follows(&content));
            prop_assert_eq!(content.fact, fact);
            reading.pass(line);
        }
        prop_assert_eq!(chain, reading);
    }

    #[test]
    fn no_bytes_are_taken_for_a_line_or_make_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut source = bytes.as_slice();
        let mut total = 0;
        while let Some(raw) = next_raw(&mut source).unwrap() {
            total += raw.bytes();
            if let Raw::Line(line) = raw {
                prop_assert!(verify_line(&line, &log_key().public()).is_err());
            }
        }
        prop_assert_eq!(total, bytes.len() as u64);
        let found = prefix(&mut bytes.as_slice(), Chain::new(b""), &log_key().public()).unwrap();
        prop_assert_eq!(found, None);
    }

    #[test]
    fn the_lines_that_hold_are_found_wherever_the_manifest_is_cut_or_changed(
        count in 1_usize..6, at in any::<proptest::sample::Index>(), flip in proptest::option::of(1_u8..=255)
    ) {
        let mut chain = Chain::new(b"x");
        let lines: Vec<_> = (0..count as u64)
            .map(|time| chain.make(Fact::Start(StartFact { time }), &*log_key()).unwrap())
            .collect();
        let mut bytes = lines.concat();
        let at = at.index(bytes.len());
        match flip {
            Some(flip) => bytes[at] ^= flip,
            None => bytes.truncate(at),
        }
        let mut before = 0;
        let whole = lines.iter().take_while(|line| { before += line.len(); before <= at }).count();
        let end: usize = lines.iter().take(whole).map(Vec::len).sum();
        let found = prefix(&mut bytes.as_slice(), Chain::new(b"x"), &log_key().public()).unwrap();
        if whole == 0 {
            prop_assert_eq!(found, None);
        } else {
            let found = found.unwrap();
            prop_assert_eq!(found.chain.root().lines, whole as u64);
            prop_assert_eq!(found.bytes, end as u64);
            prop_assert_eq!(found.rest, (bytes.len() - end) as u64);
            // A line feed that is gone joins two lines to one that is none.
            let newline = before - 1 == at;
            let behind = count - whole - 1 - usize::from(newline && whole + 1 < count);
            prop_assert_eq!(found.later.is_some(), flip.is_some() && behind > 0);
        }
    }

    #[test]
    fn headers_are_ustar_as_others_read_it(id in 0..MAX_TRACKS, medium in medium(), sequence in 0_u64..1 << 40,
                                           bytes in 1..=member::MAX_MEMBER, time in 0_u64..1 << 32) {
        let name = member::member_name(TrackId(id), medium, sequence);
        let block = member::header(&name, bytes, time);
        let header = tar::Header::from_byte_slice(&block);
        prop_assert_eq!(&block[257..265], b"ustar\x0000");
        prop_assert_eq!(header.path().unwrap().into_owned(), PathBuf::from(name));
        prop_assert_eq!(header.entry_size().unwrap(), bytes);
        prop_assert_eq!(header.mtime().unwrap(), time);
        prop_assert_eq!(header.entry_type(), tar::EntryType::Regular);
        let sum: u32 = block.iter().enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
        prop_assert_eq!(header.cksum().unwrap(), sum);
        prop_assert_eq!(member::space(bytes) % BLOCK as u64, 0);
    }

    #[test]
    fn a_member_is_recognised_in_pieces_of_any_size_and_every_change_is_seen(
        plaintext in proptest::collection::vec(any::<u8>(), 0..3000), piece in 1_usize..1500,
        at in any::<proptest::sample::Index>(), flip in 1_u8..=255
    ) {
        let name = "0-audio/00000000.mkv.age";
        let made = member::make(&reader().to_public(), &plaintext, name, 7).unwrap();
        prop_assert_eq!(made.member.len() as u64, member::space(made.bytes));
        let expected = Expected { name, time: 7, offset: 100, bytes: made.bytes, sha256: made.sha256 };
        let look = |bytes: &[u8]| {
            let bytes = [&[9; 100], bytes].concat();
            member::inspect(&expected, &mut vec![0; 900], |place, from| {
                let from = usize::try_from(from).unwrap().min(bytes.len());
                let length = place.len().min(piece).min(bytes.len() - from);
                place[..length].copy_from_slice(&bytes[from..from + length]);
                Ok(length)
            }).unwrap()
        };
        prop_assert_eq!(look(&made.member), Found::Whole);
        let at = at.index(made.member.len());
        prop_assert_eq!(look(&made.member[..at]), Found::Truncated);
        let mut changed = made.member.clone();
        changed[at] ^= flip;
        prop_assert_eq!(look(&changed), Found::Changed);
    }
}

#[test]
fn a_line_of_any_length_takes_bounded_memory() {
    let mut endless = BufReader::new(repeat(b'x').take(100 << 20));
    assert_eq!(next_raw(&mut endless).unwrap(), Some(Raw::Torn(100 << 20)));
    let long = [vec![b'x'; MAX_LINE + 1], b"\ny\n".to_vec()].concat();
    let mut source = long.as_slice();
    assert_eq!(
        next_raw(&mut source).unwrap(),
        Some(Raw::TooLong(MAX_LINE as u64 + 2))
    );
    assert_eq!(next_raw(&mut source).unwrap(), Some(Raw::Line(b"y".to_vec())));
    let longest = [vec![b'x'; MAX_LINE], b"\n".to_vec()].concat();
    assert!(
        matches!(next_raw(&mut longest.as_slice()).unwrap(), Some(Raw::Line(line)) if line.len() == MAX_LINE)
    );
}

#[test]
fn a_signed_line_with_another_number_does_not_follow() {
    let start = |time| Fact::Start(StartFact { time });
    let mut chain = Chain::new(b"x");
    let first = chain.make(start(0), &*log_key()).unwrap();
    let mut further = Chain::behind(4, first.strip_suffix(b"\n").unwrap());
    let second = further.make(start(1), &*log_key()).unwrap();
    let bytes = [first, second].concat();
    let found = prefix(&mut bytes.as_slice(), Chain::new(b"x"), &log_key().public()).unwrap();
    let found = found.unwrap();
    assert_eq!((found.chain, found.later), (chain, Some(5)));
}
