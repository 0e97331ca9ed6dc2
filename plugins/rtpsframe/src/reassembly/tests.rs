//! Tables of packets, and frames that lose and double random packets.

use proptest::prelude::*;

use super::*;
use crate::packetize::fragments;

const S: u8 = 0x80;
const E: u8 = 0x40;
const T: u8 = 0x20;

/// One line of a table: a packet and what has to come of it.
struct Line {
    seq: u16,
    timestamp: u32,
    payload: Vec<u8>,
    discont: bool,
    ssrc: u32,
    frame: Option<(Vec<u8>, bool)>,
}

/// A packet that completes no frame.
fn packet(seq: u16, timestamp: u32, descriptor: u8, bytes: &[u8]) -> Line {
    Line {
        seq,
        timestamp,
        payload: [&[descriptor], bytes].concat(),
        discont: false,
        ssrc: 1,
        frame: None,
    }
}

impl Line {
    /// The packet completes this frame, which follows the one before.
    fn gives(mut self, bytes: &[u8]) -> Self {
        self.frame = Some((bytes.to_vec(), false));
        self
    }

    /// The packet completes this frame, and something is missing before it.
    fn gives_after_loss(mut self, bytes: &[u8]) -> Self {
        self.frame = Some((bytes.to_vec(), true));
        self
    }

    fn ssrc(mut self, ssrc: u32) -> Self {
        self.ssrc = ssrc;
        self
    }

    fn discont(mut self) -> Self {
        self.discont = true;
        self
    }
}

fn bytes_of(frame: &Frame, payload: &[u8]) -> Vec<u8> {
    match &frame.body {
        Body::Whole(offset) => payload[*offset..].to_vec(),
        Body::Joined(bytes) => bytes.clone(),
    }
}

fn run(reassembler: &mut Reassembler, table: Vec<Line>) {
    for (i, line) in table.into_iter().enumerate() {
        let at = Position {
            ssrc: line.ssrc,
            seq: line.seq,
            timestamp: line.timestamp,
            discont: line.discont,
        };
        let frame = match reassembler.push_sframe(at, &line.payload) {
            Outcome::Complete(frame) => Some((bytes_of(&frame, &line.payload), frame.discont)),
            _ => None,
        };
        assert_eq!(frame, line.frame, "line {i}");
    }
}

fn check(table: Vec<Line>, expected: Counters) {
    let packets = table.len() as u64;
    let frames = table.iter().flat_map(|l| &l.frame).count() as u64;
    let bytes = table
        .iter()
        .flat_map(|l| &l.frame)
        .map(|f| f.0.len() as u64)
        .sum();
    let mut reassembler = Reassembler::new(1000);
    run(&mut reassembler, table);
    let expected = Counters {
        packets,
        frames,
        bytes,
        ..expected
    };
    assert_eq!(reassembler.counters(), expected);
}

fn none() -> Counters {
    Counters::default()
}

fn dropped(dropped_frames: u64) -> Counters {
    Counters {
        dropped_frames,
        ..none()
    }
}

#[test]
fn frames_of_one_and_of_many_packets() {
    check(
        vec![
            packet(1, 10, S | E, b"a").gives(b"a"),
            packet(2, 20, S, b"b"),
            packet(3, 20, 0, b"c"),
            packet(4, 20, E, b"d").gives(b"bcd"),
            packet(5, 30, S | E, b"e").gives(b"e"),
        ],
        none(),
    );
}

#[test]
fn the_sequence_wrap_is_no_gap() {
    check(
        vec![
            packet(65534, 10, S, b"a"),
            packet(65535, 10, 0, b"b"),
            packet(0, 10, E, b"c").gives(b"abc"),
            packet(1, 20, S | E, b"d").gives(b"d"),
        ],
        none(),
    );
}

#[test]
fn a_gap_drops_only_the_frame_that_it_tears() {
    for lost in 2..=4u16 {
        let table = [
            packet(1, 10, S | E, b"a").gives(b"a"),
            packet(2, 20, S, b"b"),
            packet(3, 20, 0, b"c"),
            packet(4, 20, E, b"d"),
            packet(5, 30, S | E, b"e").gives_after_loss(b"e"),
            packet(6, 40, S, b"f"),
            packet(7, 40, E, b"g").gives(b"fg"),
        ];
        let table = table.into_iter().filter(|l| l.seq != lost).collect();
        check(table, dropped(1));
    }
}

#[test]
fn a_lost_frame_of_one_packet_shows_as_discont_only() {
    check(
        vec![
            packet(1, 10, S | E, b"a").gives(b"a"),
            packet(3, 30, S | E, b"c").gives_after_loss(b"c"),
        ],
        none(),
    );
}

#[test]
fn a_loss_across_two_frames_drops_both() {
    check(
        vec![
            packet(1, 10, S, b"a"),
            packet(4, 20, 0, b"d"),
            packet(5, 20, E, b"e"),
            packet(6, 30, S | E, b"f").gives_after_loss(b"f"),
        ],
        dropped(2),
    );
}

#[test]
fn duplicates_and_late_packets_are_ignored() {
    check(
        vec![
            packet(65535, 10, S, b"a"),
            packet(65535, 10, S, b"a"),
            packet(0, 10, 0, b"b"),
            packet(65535, 10, S, b"a"),
            packet(1, 10, E, b"c").gives(b"abc"),
            packet(1, 10, E, b"c"),
            packet(65500, 5, S | E, b"old"),
            packet(2, 20, S | E, b"d").gives(b"d"),
        ],
        Counters {
            duplicates: 4,
            ..none()
        },
    );
}

#[test]
fn reordering_costs_the_frame_that_it_tears() {
    check(
        vec![
            packet(65535, 10, S, b"a"),
            packet(1, 10, E, b"c"),
            packet(0, 10, 0, b"b"),
            packet(2, 20, S | E, b"d").gives_after_loss(b"d"),
        ],
        Counters {
            duplicates: 1,
            ..dropped(1)
        },
    );
}

#[test]
fn a_new_start_before_the_end_starts_over() {
    check(
        vec![
            packet(1, 10, S, b"a"),
            packet(2, 10, S, b"b"),
            packet(3, 10, E, b"c").gives_after_loss(b"bc"),
            packet(4, 20, S, b"d"),
            packet(5, 30, S | E, b"e").gives_after_loss(b"e"),
        ],
        dropped(2),
    );
}

#[test]
fn another_timestamp_or_t_bit_ends_the_run() {
    check(
        vec![
            packet(1, 10, S, b"a"),
            packet(2, 11, E, b"b"),
            packet(3, 20, S, b"c"),
            packet(4, 20, E | T, b"d"),
            packet(5, 20, E, b"e"),
            packet(6, 30, S | T, b"f"),
            packet(7, 30, E | T, b"g").gives_after_loss(b"fg"),
        ],
        // The second line also belongs to a frame whose start never came; so does the fifth.
        dropped(4),
    );
}

#[test]
fn packets_without_their_start_count_one_frame() {
    check(
        vec![
            packet(1, 10, 0, b"a"),
            packet(2, 10, 0, b"b"),
            packet(3, 10, E, b"c"),
            packet(4, 20, S | E, b"d").gives_after_loss(b"d"),
        ],
        dropped(1),
    );
}

#[test]
fn malformed_packets_are_counted_and_break_the_run() {
    let empty = Line {
        payload: vec![],
        ..packet(7, 40, 0, b"")
    };
    check(
        vec![
            packet(1, 10, S | E | 0x01, b"a"),
            packet(2, 20, S, b"b"),
            packet(3, 20, 0x10, b"c"),
            packet(4, 20, E, b"d"),
            packet(5, 30, S | E, b""),
            packet(6, 40, S, b"e"),
            empty,
            packet(8, 40, E, b"f"),
            packet(9, 50, S | E, b"g").gives_after_loss(b"g"),
        ],
        Counters {
            malformed: 4,
            ..dropped(2)
        },
    );
}

#[test]
fn a_frame_over_the_limit_is_dropped_and_counted_once() {
    let block = [0; 500];
    check(
        vec![
            packet(1, 10, S, &block),
            packet(2, 10, E, &block).gives(&[0; 1000]),
            packet(3, 20, S, &block),
            packet(4, 20, 0, &block),
            packet(5, 20, 0, b"a"),
            packet(6, 20, 0, b"b"),
            packet(7, 20, E, b"c"),
            packet(8, 30, S | E, &[0; 1001]),
            packet(9, 40, S | E, b"d").gives_after_loss(b"d"),
        ],
        Counters {
            too_large: 2,
            ..none()
        },
    );
}

#[test]
fn a_restarted_sender_is_followed_at_once() {
    check(
        vec![
            packet(1000, 10, S, b"a"),
            packet(200, 500, S | E, b"b").gives_after_loss(b"b"),
            packet(201, 510, S | E, b"c").gives(b"c"),
            packet(150, 600, S | E, b"d").discont().gives_after_loss(b"d"),
            packet(151, 610, S | E, b"e").gives(b"e"),
        ],
        dropped(1),
    );
}

#[test]
fn another_source_does_not_continue_a_frame() {
    check(
        vec![
            packet(1, 10, S, b"a"),
            packet(2, 10, E, b"b").ssrc(2),
            packet(3, 20, S | E, b"c").ssrc(2).gives_after_loss(b"c"),
        ],
        dropped(1),
    );
}

#[test]
fn a_reset_forgets_numbers_but_not_counters() {
    let mut reassembler = Reassembler::new(1000);
    run(&mut reassembler, vec![packet(50, 10, S, b"a")]);
    reassembler.reset();
    run(
        &mut reassembler,
        vec![
            packet(49, 10, E, b"b"),
            packet(50, 20, S | E, b"c").gives_after_loss(b"c"),
        ],
    );
    assert_eq!(reassembler.counters().dropped_frames, 2);
}

#[test]
fn extended_numbers_grow_and_say_how_many_packets_were_joined() {
    let mut reassembler = Reassembler::new(1000);
    let mut frames = vec![];
    for (seq, descriptor) in [
        (65534, S | E),
        (65535, S),
        (0, 0),
        (1, E),
        (3, S | E),
        (60000, S | E),
    ] {
        let at = Position {
            ssrc: 1,
            seq,
            timestamp: 0,
            discont: false,
        };
        if let Outcome::Complete(frame) = reassembler.push_sframe(at, &[descriptor | T, 0]) {
            assert!(frame.per_packet);
            frames.push((frame.first_seq as u16, frame.packets, frame.first_seq));
        }
    }
    let numbers: Vec<_> = frames.iter().map(|f| (f.0, f.1)).collect();
    assert_eq!(numbers, [(65534, 1), (65535, 3), (3, 1), (60000, 1)]);
    assert!(frames.is_sorted_by(|a, b| a.2 < b.2));
}

#[test]
fn vp8_frames_run_from_the_first_partition_to_the_marker() {
    let mut reassembler = Reassembler::new(1000);
    let mut push = |seq, marker, payload: &[u8]| {
        let at = Position {
            ssrc: 1,
            seq,
            timestamp: 7,
            discont: false,
        };
        match reassembler.push_vp8(at, marker, payload) {
            Outcome::Complete(frame) => Some(bytes_of(&frame, payload)),
            _ => None,
        }
    };
    // Extension bytes as browsers write them, then a second partition inside the frame.
    assert_eq!(push(1, false, &[0x90, 0x80, 0x81, 0x02, b'a']), None);
    assert_eq!(push(2, false, &[0x80, 0x80, 0x81, 0x02, b'b']), None);
    assert_eq!(push(3, false, &[0x91, 0x80, 0x81, 0x02, b'c']), None);
    assert_eq!(push(4, true, &[0x00, b'd']), Some(b"abcd".to_vec()));
    assert_eq!(push(5, true, &[0x10, b'e']), Some(b"e".to_vec()));
    assert_eq!(push(6, true, &[0x90, 0x80]), None);
    assert_eq!(push(7, true, &[0x10]), None);
    assert_eq!(reassembler.counters().malformed, 2);
}

#[test]
fn whole_payloads_pass_unless_empty() {
    let mut reassembler = Reassembler::new(1000);
    let at = |seq| Position {
        ssrc: 1,
        seq,
        timestamp: 0,
        discont: false,
    };
    let Outcome::Complete(frame) = reassembler.push_whole(at(1), b"a") else {
        panic!("no frame");
    };
    assert_eq!(frame.body, Body::Whole(0));
    assert_eq!(reassembler.push_whole(at(2), b""), Outcome::Nothing);
    assert_eq!(reassembler.counters().malformed, 1);
}

/// What happens to one packet on its way.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrives,
    Lost,
    Doubled,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![6 => Just(Fate::Arrives), 1 => Just(Fate::Lost), 1 => Just(Fate::Doubled)];
    prop::collection::vec(fate, 400)
}

proptest! {
    #[test]
    fn exactly_the_frames_that_arrived_whole_come_out(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..2_000), 1..20),
        max in 5usize..500,
        first in any::<u16>(),
        per_packet in any::<bool>(),
        fates in fates(),
    ) {
        let mut reassembler = Reassembler::new(10_000);
        let mut fates = fates.into_iter().cycle();
        let mut seq = first;
        let mut expected = vec![];
        let mut received = vec![];
        let (mut torn, mut doubled, mut sent) = (0, 0, 0);
        for (i, frame) in frames.iter().enumerate() {
            let pieces: Vec<_> = fragments(frame.len(), max).collect();
            let mut arrived = 0;
            for piece in &pieces {
                let t = if per_packet { T } else { 0 };
                let payload = [&[piece.sframe_descriptor() | t], &frame[piece.range.clone()]].concat();
                let at = Position { ssrc: 1, seq, timestamp: 3_000 * i as u32, discont: false };
                let copies = match fates.next() {
                    Some(Fate::Lost) => 0,
                    Some(Fate::Doubled) => 2,
                    _ => 1,
                };
                for copy in 0..copies {
                    sent += 1;
                    doubled += copy as u64;
                    if let Outcome::Complete(frame) = reassembler.push_sframe(at, &payload) {
                        received.push(bytes_of(&frame, &payload));
                    }
                }
                arrived += copies.min(1);
                seq = seq.wrapping_add(1);
            }
            if arrived == pieces.len() {
                expected.push(frame.clone());
            } else if arrived > 0 {
                torn += 1;
            }
        }
        // A frame whose end is lost is noticed when something arrives after it.
        reassembler.reset();
        prop_assert_eq!(&received, &expected);
        let counters = reassembler.counters();
        prop_assert_eq!(counters, Counters {
            packets: sent,
            frames: expected.len() as u64,
            bytes: expected.iter().map(|f| f.len() as u64).sum(),
            dropped_frames: torn,
            malformed: 0,
            duplicates: doubled,
            too_large: 0,
        });
    }

    #[test]
    fn arbitrary_packets_never_panic_and_never_exceed_the_limit(
        packets in prop::collection::vec(
            (0u8..3, 0u32..2, any::<u16>(), 0u16..6, 0u32..3, any::<(bool, bool)>(), prop::collection::vec(any::<u8>(), 0..64)),
            0..200,
        ),
    ) {
        let mut reassembler = Reassembler::new(100);
        let mut seq = 0u16;
        for (kind, ssrc, random, step, timestamp, (discont, marker), payload) in packets {
            seq = if step == 5 { random } else { seq.wrapping_add(step) };
            let at = Position { ssrc, seq, timestamp, discont };
            let outcome = match kind {
                0 => reassembler.push_sframe(at, &payload),
                1 => reassembler.push_vp8(at, marker, &payload),
                _ => reassembler.push_whole(at, &payload),
            };
            if let Outcome::Complete(frame) = outcome {
                let bytes = bytes_of(&frame, &payload);
                prop_assert!(!bytes.is_empty() && bytes.len() <= 100);
            }
        }
    }
}
