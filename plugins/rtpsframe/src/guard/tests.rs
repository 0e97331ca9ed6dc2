//! The guard with packets made by hand.

use super::*;
use gst_e2ee_common::header::{Header, MAX_LEN};
use proptest::prelude::*;
use rtp_types::RtpPacketBuilder;

const SSRC: u32 = 0xcafe;
const KID: u64 = 9;
const S: u8 = 0x80;
const E: u8 = 0x40;
const T: u8 = 0x20;
const RR: [u8; 8] = [0x80, 201, 0, 1, 1, 2, 3, 4];

fn header(kid: u64, ctr: u64) -> Vec<u8> {
    let mut out = [0; MAX_LEN];
    let len = Header { kid, ctr }.write(&mut out);
    out[..len].to_vec()
}

fn rtp_as(ssrc: u32, seq: u16, pt: u8, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    RtpPacketBuilder::<&[u8], &[u8]>::new()
        .ssrc(ssrc)
        .sequence_number(seq)
        .payload_type(pt)
        .timestamp(timestamp)
        .marker_bit(marker)
        .payload(payload)
        .write_vec()
        .unwrap()
}

/// A frame in one packet.
fn whole_of(ssrc: u32, seq: u16, kid: u64, ctr: u64) -> Vec<u8> {
    let payload = [&[S | E], &header(kid, ctr)[..], &[0x5a; 40]].concat();
    rtp_as(ssrc, seq, 96, ctr as u32 * 3000, true, &payload)
}

fn whole(seq: u16, ctr: u64) -> Vec<u8> {
    whole_of(SSRC, seq, KID, ctr)
}

/// Packet `i` of `n` of a frame.
fn fragment(seq: u16, ctr: u64, i: usize, n: usize) -> Vec<u8> {
    let (start, end) = (i == 0, i + 1 == n);
    let bits = if start { S } else { 0 } | if end { E } else { 0 };
    let head = if start { header(KID, ctr) } else { vec![] };
    let payload = [&[bits], &head[..], &[0x5a; 1000]].concat();
    rtp_as(SSRC, seq, 96, ctr as u32 * 3000, end, &payload)
}

fn frame(seq: u16, ctr: u64, n: usize) -> Vec<Vec<u8>> {
    (0..n)
        .map(|i| fragment(seq.wrapping_add(i as u16), ctr, i, n))
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Pass,
    Hold,
    Release,
    Drop(Cause),
}

/// A guard, what it let pass, and a clock.
struct Relay {
    guard: Guard<Vec<u8>>,
    out: Vec<Vec<u8>>,
    now: Instant,
    reports: Vec<Report>,
}

impl Relay {
    fn new(config: Config) -> Self {
        Self {
            guard: Guard::new(config),
            out: Vec::new(),
            now: Instant::now(),
            reports: Vec::new(),
        }
    }

    fn send(&mut self, packet: &[u8]) -> Sent {
        self.now += Duration::from_millis(1);
        let verdict = self
            .guard
            .process(self.now, packet, packet.len(), || packet.to_vec());
        let sent = match verdict {
            Verdict::Forward => Sent::Pass,
            Verdict::Hold => Sent::Hold,
            Verdict::Release(held) => {
                self.out.extend(held);
                Sent::Release
            }
            Verdict::Drop { cause, report } => {
                self.reports.extend(report);
                Sent::Drop(cause)
            }
        };
        if matches!(sent, Sent::Pass | Sent::Release) {
            self.out.push(packet.to_vec());
        }
        self.check();
        sent
    }

    fn send_all<'a>(&mut self, packets: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<Sent> {
        packets.into_iter().map(|p| self.send(p)).collect()
    }

    /// What always holds.
    fn check(&self) {
        let (guard, totals) = (&self.guard, self.guard.totals());
        assert!(guard.held_bytes() <= guard.config().max_held_bytes);
        assert!(guard.streams().count() <= guard.config().max_streams.max(1));
        assert_eq!(
            guard.streams().map(|s| s.held).sum::<usize>(),
            guard.held_packets()
        );
        assert_eq!(
            totals.packets,
            totals.forwarded + totals.dropped() + guard.held_packets() as u64
        );
        assert_eq!(totals.forwarded, self.out.len() as u64);
        assert!(guard.streams().all(|s| !s.proven || s.held == 0));
    }

    fn stream(&self, ssrc: u32) -> StreamReport {
        self.guard.streams().find(|s| s.ssrc == ssrc).unwrap()
    }

    fn stats(&self) -> StreamStats {
        self.stream(SSRC).stats
    }

    /// A relay whose stream [`SSRC`] has proven itself: the next frame is seq 4, counter 4.
    fn proven() -> Self {
        let mut relay = Self::new(Config::default());
        for n in 1..=3 {
            relay.send(&whole(n, u64::from(n)));
        }
        assert!(relay.stream(SSRC).proven);
        relay
    }
}

fn in_codec_mode(format: Format) -> Config {
    Config {
        input: Input::Rtp(format),
        ..Config::default()
    }
}

#[test]
fn holds_then_releases_all_in_order() {
    let mut relay = Relay::new(Config::default());
    // The first keyframe has more than a thousand packets and more than a megabyte.
    let packets = [frame(65000, 0, 1500), frame(964, 1, 4), frame(968, 2, 1)].concat();
    let sent = relay.send_all(&packets);
    assert!(sent[..1504].iter().all(|s| *s == Sent::Hold));
    assert_eq!(sent[1504], Sent::Release);
    assert_eq!(relay.out, packets);
    assert_eq!(relay.send(&whole(969, 3)), Sent::Pass);
    let bytes = relay.out.iter().map(|p| p.len() as u64).sum();
    let expected = StreamStats {
        frames: 4,
        bytes,
        ..StreamStats::default()
    };
    assert_eq!(relay.stats(), expected);
    assert_eq!(relay.guard.totals().released, 1504);
    assert_eq!(relay.stream(SSRC).kid, KID);
}

#[test]
fn per_packet_ciphertexts_prove_a_stream_too() {
    let mut relay = Relay::new(Config::default());
    for ctr in 0..3 {
        // Several packets of one frame, then the marker.
        let payload = [&[S | E | T], &header(300, 70_000 + ctr)[..], &[1; 4]].concat();
        relay.send(&rtp_as(SSRC, ctr as u16, 96, 5, ctr == 2, &payload));
    }
    assert_eq!(relay.out.len(), 3);
}

#[test]
fn what_has_not_the_form_never_passes() {
    let ct = [&header(KID, 5)[..], &[0; 20]].concat();
    let with = |byte: u8, tail: &[u8]| rtp_as(SSRC, 4, 96, 0, false, &[&[byte], tail].concat());
    for (packet, cause) in [
        (vec![], Cause::NotRtp),
        (vec![0x80; 11], Cause::NotRtp),
        (vec![0x00; 40], Cause::NotRtp),
        (rtp_as(SSRC, 4, 96, 0, true, &[]), Cause::EmptyPayload),
        (with(S | E | 1, &ct), Cause::ReservedBits),
        (with(S | E, &[0x08, 7, 0, 0, 0, 0]), Cause::Header),
        (with(S | E, &ct[..5]), Cause::TooShort),
        (with(0, &[1]), Cause::NoStart),
        (with(E, &[1]), Cause::NoStart),
        (whole_of(SSRC, 4, KID, 3), Cause::Counter),
        (whole_of(SSRC, 4, KID, 0), Cause::Counter),
        (
            rtp_as(SSRC, 4, 96, 0, true, &[S, 1, 2, 3, 4, 5, 6]),
            Cause::EarlyMarker,
        ),
        (
            rtp_as(SSRC, 9000, 96, 0, true, &[E, 1, 2, 3]),
            Cause::SequenceJump,
        ),
    ] {
        let mut relay = Relay::proven();
        assert_eq!(relay.send(&packet), Sent::Drop(cause), "{packet:02x?}");
        assert_eq!(relay.out.len(), 3);
        // And the stream goes on.
        assert_eq!(relay.send(&whole(5, 5)), Sent::Pass, "after {cause}");
    }
}

#[test]
fn fragments_must_belong_together() {
    let body = [0x11; 50];
    let start = |seq| {
        rtp_as(
            SSRC,
            seq,
            96,
            77,
            false,
            &[&[S], &header(KID, 4)[..], &[1]].concat(),
        )
    };
    let rest = |pt, ts, bits: u8, body: &[u8]| rtp_as(SSRC, 5, pt, ts, false, &[&[bits], body].concat());
    for (second, sent) in [
        (rest(96, 77, E, &body), Sent::Pass),
        (rest(96, 77, E, &body[..3]), Sent::Pass),
        (rest(96, 78, E, &body), Sent::Drop(Cause::MixedFrame)),
        (rest(97, 77, E, &body), Sent::Drop(Cause::MixedFrame)),
        (rest(96, 77, E | T, &body), Sent::Drop(Cause::MixedFrame)),
        // Less than a tag all in all.
        (rest(96, 77, E, &body[..2]), Sent::Drop(Cause::TooShort)),
        (rest(96, 77, E, &[]), Sent::Drop(Cause::TooShort)),
    ] {
        let mut relay = Relay::proven();
        assert_eq!(relay.send(&start(4)), Sent::Pass);
        assert_eq!(relay.send(&second), sent, "{second:02x?}");
    }
}

#[test]
fn a_new_start_ends_a_broken_frame_once_proven() {
    let mut relay = Relay::proven();
    relay.send(&fragment(4, 4, 0, 3));
    assert_eq!(relay.send(&whole(5, 5)), Sent::Pass);
    let mut relay = Relay::new(Config::default());
    relay.send(&fragment(4, 4, 0, 3));
    assert_eq!(relay.send(&whole(5, 5)), Sent::Drop(Cause::Unfinished));
    assert_eq!(relay.guard.held_packets(), 0);
}

#[test]
fn the_rest_of_a_frame_whose_start_was_lost_passes_and_no_more() {
    let mut relay = Relay::proven();
    let lost = frame(4, 4, 4);
    assert_eq!(relay.send_all(&lost[1..]), [Sent::Pass; 3]);
    assert_eq!(relay.stats().lost, 1);
    assert_eq!(relay.stats().violations, 0);
    // Without another loss a fragment of another frame has no excuse.
    assert_eq!(relay.send(&fragment(8, 5, 1, 4)), Sent::Drop(Cause::NoStart));
    // Nor has, after that, one behind a loss.
    assert_eq!(relay.send(&fragment(10, 6, 2, 4)), Sent::Drop(Cause::NoStart));
    assert_eq!(relay.send(&whole(11, 7)), Sent::Pass);
    assert_eq!(relay.send(&fragment(13, 8, 2, 4)), Sent::Pass);
    assert_eq!(
        relay.send(&fragment(14, 9, 2, 4)),
        Sent::Drop(Cause::NoStart),
        "another timestamp"
    );
}

#[test]
fn reordering_is_no_violation_and_no_loss() {
    let mut relay = Relay::new(Config::default());
    let packets: Vec<_> = (0..5u16)
        .flat_map(|n| frame(65530u16.wrapping_add(4 * n), u64::from(n), 4))
        .collect();
    // One start of five comes late; the others prove the stream.
    let order = [
        0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 10, 11, 12, 14, 13, 15, 16, 17, 18, 19,
    ];
    for i in order {
        assert!(!matches!(relay.send(&packets[i]), Sent::Drop(_)), "packet {i}");
    }
    assert_eq!(relay.out.len(), 20);
    let stats = relay.stats();
    assert_eq!(
        (stats.lost, stats.reordered, stats.violations, stats.frames),
        (0, 4, 0, 5)
    );
}

#[test]
fn duplicates_are_dropped_and_counted_as_reordered() {
    let mut relay = Relay::proven();
    for seq in [3, 2, 1] {
        assert_eq!(
            relay.send(&whole(seq, u64::from(seq))),
            Sent::Drop(Cause::Duplicate)
        );
    }
    assert_eq!((relay.stats().reordered, relay.stats().violations), (3, 0));
    assert_eq!(relay.guard.totals().dropped_duplicate, 3);
}

#[test]
fn late_packets_must_have_the_form() {
    let mut relay = Relay::proven();
    relay.send(&whole(10, 10));
    assert_eq!(
        relay.send(&rtp_as(SSRC, 5, 96, 0, true, &[0x10, 1, 2, 3])),
        Sent::Drop(Cause::ReservedBits)
    );
    // Its counter says nothing: it is only late.
    assert_eq!(relay.send(&whole(6, 2)), Sent::Pass);
}

#[test]
fn a_sender_that_starts_its_sequence_anew_goes_on() {
    let mut relay = Relay::proven();
    assert_eq!(relay.send(&whole(40_000, 4)), Sent::Pass);
    assert_eq!(relay.send(&whole(40_001, 5)), Sent::Pass);
    // An old packet, replayed.
    assert_eq!(relay.send(&whole(2, 2)), Sent::Drop(Cause::Counter));
    assert_eq!(relay.send(&whole(40_002, 6)), Sent::Pass);
    assert_eq!(relay.stats().lost, 0);
}

#[test]
fn a_refused_jump_does_not_break_the_frame_that_is_under_way() {
    let mut relay = Relay::proven();
    relay.send(&fragment(4, 4, 0, 3));
    assert_eq!(relay.send(&whole(30_000, 1)), Sent::Drop(Cause::Counter));
    assert_eq!(relay.send(&fragment(5, 4, 1, 3)), Sent::Pass);
}

#[test]
fn eight_violations_in_a_row_and_the_stream_is_held_again() {
    let mut relay = Relay::proven();
    let clear = |seq| rtp_as(SSRC, seq, 96, u32::from(seq), true, &[0x10, 2, 0, 0x9d]);
    for seq in 4..11 {
        relay.send(&clear(seq));
        assert!(relay.stream(SSRC).proven);
    }
    // One frame in between, and they are not in a row.
    assert_eq!(relay.send(&whole(11, 11)), Sent::Pass);
    for seq in 12..20 {
        assert!(relay.stream(SSRC).proven);
        relay.send(&clear(seq));
    }
    assert!(!relay.stream(SSRC).proven);
    let again: Vec<_> = (20..23).map(|n| whole(n, u64::from(n))).collect();
    assert_eq!(relay.send_all(&again), [Sent::Hold, Sent::Hold, Sent::Release]);
    assert_eq!(relay.stats().violations, 15);
}

#[test]
fn a_refused_frame_counts_once_however_many_packets_it_has() {
    let mut relay = Relay::proven();
    // The counter stands still: a replay under new sequence numbers.
    let sent = relay.send_all(&frame(4, 3, 40));
    assert!(sent.iter().all(|s| matches!(s, Sent::Drop(_))));
    assert!(relay.stream(SSRC).proven);
    assert_eq!(relay.stats().violations, 40);
    assert!(relay.send_all(&frame(44, 4, 3)).iter().all(|s| *s == Sent::Pass));
}

#[test]
fn nothing_held_before_a_violation_is_released_after_it() {
    let mut relay = Relay::new(Config::default());
    relay.send_all(&[whole(1, 1), whole(2, 2)]);
    relay.send(&rtp_as(SSRC, 3, 96, 0, true, &[0x41, 1, 2, 3]));
    let good: Vec<_> = (4..=8).map(|n| whole(n, u64::from(n))).collect();
    // The proof takes one start more now.
    let sent = relay.send_all(&good[..4]);
    assert_eq!(sent, [Sent::Hold, Sent::Hold, Sent::Hold, Sent::Release]);
    assert_eq!(relay.out, good[..4]);
    assert_eq!(relay.guard.totals().dropped_unproven, 2);
}

#[test]
fn key_after_key_before_the_proof_gives_up_what_is_held() {
    let mut relay = Relay::new(Config::default());
    let keys = (1..=3).map(|n| whole_of(SSRC, n, n.into(), 1));
    relay.send_all(&keys.collect::<Vec<_>>());
    assert_eq!(relay.guard.held_packets(), 3);
    // The third new one; each made the proof one start longer.
    let good: Vec<_> = (4..=9).map(|n| whole_of(SSRC, n, 6, u64::from(n))).collect();
    assert_eq!(relay.send_all(&good).last(), Some(&Sent::Release));
    assert_eq!(relay.out, good);
    assert_eq!(relay.guard.totals().dropped_unproven, 3);
    // So does a counter that leaps.
    let mut relay = Relay::new(Config::default());
    relay.send_all(&[whole(1, 1), whole(2, 2), whole(3, 65_539)]);
    assert!(!relay.stream(SSRC).proven);
    assert_eq!(relay.guard.held_packets(), 1);
    let mut relay = Relay::new(Config::default());
    relay.send_all(&[whole(1, 1), whole(2, 65_537), whole(3, 131_073)]);
    assert!(relay.stream(SSRC).proven);
}

#[test]
fn keys_that_change_as_a_stream_begins_cost_it_nothing() {
    // Two members join in the first tenth of a second: the keyframe is still needed.
    let mut relay = Relay::new(Config::default());
    let mut packets = frame(10, 0, 5);
    packets.extend([whole_of(SSRC, 15, KID + 16, 1), whole_of(SSRC, 16, KID + 16, 2)]);
    packets.extend((3..8).map(|ctr| whole_of(SSRC, 14 + ctr, KID + 32, ctr.into())));
    let sent = relay.send_all(&packets);
    assert_eq!(sent.last(), Some(&Sent::Release), "{sent:?}");
    assert_eq!(relay.out, packets);
    assert_eq!(relay.guard.totals().dropped(), 0);
    // What broke the form in between is another matter.
    let mut relay = Relay::new(Config::default());
    relay.send_all(&[whole(1, 1), rtp_as(SSRC, 2, 96, 6000, true, &[0x1f, 1, 2])]);
    relay.send_all(&[whole(3, 3), whole_of(SSRC, 4, KID + 16, 4)]);
    assert_eq!(relay.guard.held_packets(), 1);
}

#[test]
fn a_key_change_after_the_proof_does_not_hold_anything() {
    let mut relay = Relay::proven();
    for n in 4..20 {
        // The old key's frames may still come between the new key's.
        let kid = if n == 5 { KID } else { KID + 16 };
        assert_eq!(relay.send(&whole_of(SSRC, n, kid, u64::from(n))), Sent::Pass);
    }
    assert_eq!(relay.stream(SSRC).kid, KID + 16);
    // A new key that breaks the rule before it is proven.
    let mut relay = Relay::proven();
    assert_eq!(relay.send(&whole_of(SSRC, 4, 77, 9)), Sent::Pass);
    assert_eq!(relay.send(&whole_of(SSRC, 5, 77, 9)), Sent::Drop(Cause::Counter));
    assert_eq!(relay.send(&whole_of(SSRC, 6, 77, 10)), Sent::Pass);
}

#[test]
fn keys_that_change_in_every_frame_end_in_the_hold() {
    let mut relay = Relay::proven();
    let sent: Vec<_> = (4..24)
        .map(|n| relay.send(&whole_of(SSRC, n, 100 + u64::from(n), 0)))
        .collect();
    assert_eq!(sent[..4], [Sent::Pass; 4]);
    assert!(sent[4..12].iter().all(|s| *s == Sent::Drop(Cause::KidChanges)));
    assert!(!relay.stream(SSRC).proven);
    assert!(sent[12..].iter().all(|s| *s == Sent::Hold));
    assert_eq!(relay.guard.held_packets(), 1);
}

#[test]
fn made_up_streams_do_not_stop_a_proven_one() {
    let mut relay = Relay::new(Config {
        max_streams: 64,
        max_held_bytes: 100_000,
        ..Config::default()
    });
    for n in 1..=3 {
        relay.send(&whole(n, u64::from(n)));
    }
    let (mut seq, mut passed) = (4u16, 0);
    for made_up in 0..10_000u32 {
        // Of all kinds: good ones, bad ones, large ones.
        let payload = match made_up % 3 {
            0 => [&[S | E], &header(1, 1)[..], &[0; 1200]].concat(),
            1 => vec![0x7c; 1200],
            _ => vec![0x00; 9],
        };
        relay.send(&rtp_as(0x1_0000 + made_up, 1, 96, 1, true, &payload));
        if made_up % 40 == 0 {
            assert_eq!(relay.send(&whole(seq, u64::from(seq))), Sent::Pass);
            (seq, passed) = (seq + 1, passed + 1);
        }
    }
    assert_eq!(relay.out.len(), 3 + passed);
    let totals = relay.guard.totals();
    assert!(totals.evicted_streams > 9_900 && totals.dropped_unproven + totals.dropped_overflow > 3_000);
    // And a newcomer can still prove itself.
    let sent: Vec<_> = (1..=3)
        .map(|n| relay.send(&whole_of(77, n, 3, u64::from(n))))
        .collect();
    assert_eq!(sent, [Sent::Hold, Sent::Hold, Sent::Release]);
}

#[test]
fn the_least_recently_active_stream_is_forgotten_unproven_ones_first() {
    let mut relay = Relay::new(Config {
        max_streams: 3,
        ..Config::default()
    });
    for n in 1..=3 {
        relay.send(&whole_of(1, n, KID, u64::from(n)));
    }
    relay.send(&whole_of(2, 1, KID, 1));
    relay.send(&whole_of(3, 1, KID, 1));
    relay.send(&whole_of(2, 2, KID, 2));
    let known = |relay: &Relay| {
        let mut known: Vec<_> = relay.guard.streams().map(|s| s.ssrc).collect();
        known.sort_unstable();
        known
    };
    relay.send(&whole_of(4, 1, KID, 1));
    assert_eq!(known(&relay), [1, 2, 4]);
    assert_eq!(relay.guard.totals().dropped_unproven, 1);
    for ssrc in [2, 4] {
        for n in 3..=5 {
            relay.send(&whole_of(ssrc, n, KID, u64::from(n)));
        }
    }
    // All are proven: then the one that was silent longest.
    relay.send(&whole_of(5, 1, KID, 1));
    assert_eq!(known(&relay), [2, 4, 5]);
    assert_eq!(relay.guard.totals().evicted_streams, 2);
}

#[test]
fn held_packets_of_the_quietest_stream_give_way() {
    let size = whole(1, 1).len() + HELD_OVERHEAD;
    let mut relay = Relay::new(Config {
        max_held_bytes: 4 * size,
        ..Config::default()
    });
    relay.send_all(&[
        whole_of(1, 1, KID, 1),
        whole_of(1, 2, KID, 2),
        whole_of(2, 1, KID, 1),
        whole_of(2, 2, KID, 2),
    ]);
    relay.send(&whole_of(3, 1, KID, 1));
    assert_eq!((relay.stream(1).held, relay.stream(2).held), (1, 2));
    assert_eq!(relay.guard.totals().dropped_overflow, 1);
    assert_eq!(relay.send(&whole_of(2, 3, KID, 3)), Sent::Release);
    assert_eq!(relay.out.len(), 3);
}

#[test]
fn a_frame_larger_than_the_limit_loses_its_beginning_and_no_more() {
    let mut relay = Relay::new(Config {
        max_held_bytes: 10_000,
        ..Config::default()
    });
    relay.send_all(&[frame(1, 1, 20), frame(21, 2, 1), frame(22, 3, 1)].concat());
    assert!(relay.stream(SSRC).proven);
    assert!(relay.out.len() >= 7);
    assert_eq!(relay.out.last(), Some(&fragment(22, 3, 0, 1)));
}

#[test]
fn rtcp_passes_if_it_may_and_if_it_is_rtcp() {
    let mut relay = Relay::new(Config::default());
    assert_eq!(relay.send(&RR), Sent::Pass);
    assert_eq!(relay.guard.totals().rtcp, 1);
    let mut pretender = whole(1, 1);
    pretender[1] = 200;
    assert_eq!(relay.send(&pretender), Sent::Drop(Cause::NotRtcp));
    let mut relay = Relay::new(Config {
        allow_rtcp: false,
        ..Config::default()
    });
    assert_eq!(relay.send(&RR), Sent::Drop(Cause::RtcpNotAllowed));
    assert_eq!(relay.guard.totals().dropped_rtcp, 1);
}

#[test]
fn retransmissions_pass_while_a_stream_is_proven_and_prove_nothing() {
    let config = Config {
        rtx_payload_types: 1 << 97 | 1 << 99,
        ..Config::default()
    };
    let rtx = |seq, payload: &[u8]| rtp_as(5, seq, 97, 0, false, &[&[0, seq as u8], payload].concat());
    let good = [&[S | E], &header(KID, 1)[..], &[0; 8]].concat();
    let mut relay = Relay::new(config.clone());
    for n in 1..=10 {
        assert_eq!(relay.send(&rtx(n, &good)), Sent::Drop(Cause::RtxUnproven));
    }
    for n in 1..=3 {
        relay.send(&whole(n, u64::from(n)));
    }
    assert_eq!(relay.send(&rtx(11, &good)), Sent::Pass);
    assert_eq!(
        relay.send(&rtx(12, &[0, 1])),
        Sent::Pass,
        "any fragment may be sent again"
    );
    assert_eq!(relay.send(&rtx(13, &[0x7c, 1])), Sent::Drop(Cause::ReservedBits));
    assert_eq!(relay.send(&rtx(14, &[])), Sent::Drop(Cause::EmptyPayload));
    assert_eq!(
        relay.send(&rtp_as(5, 15, 97, 0, true, &[1])),
        Sent::Drop(Cause::EmptyPayload)
    );
    assert_eq!(relay.guard.totals().rtx, 2);
    assert!(relay.guard.streams().all(|s| s.ssrc == SSRC));
}

#[test]
fn header_extensions_csrcs_and_padding_are_looked_through() {
    let payload = |ctr| [&[S | E], &header(KID, ctr)[..], &[7; 4]].concat();
    let packet = |seq: u16, padding| {
        RtpPacketBuilder::<&[u8], &[u8]>::new()
            .ssrc(SSRC)
            .sequence_number(seq)
            .payload_type(96)
            .marker_bit(true)
            .add_csrc(1)
            .add_csrc(2)
            .extension(0xbede, &[0x10, 0x80, 0, 0][..])
            .padding(padding)
            .payload(&payload(u64::from(seq)))
            .write_vec()
            .unwrap()
    };
    let mut relay = Relay::new(Config::default());
    for n in 1..=3 {
        relay.send(&packet(n, 12));
    }
    assert_eq!(relay.out.len(), 3);
    let mut all_padding = packet(4, 4);
    let len = all_padding.len();
    all_padding[len - 1] = (payload(4).len() + 4) as u8;
    assert_eq!(relay.send(&all_padding), Sent::Drop(Cause::EmptyPayload));
    all_padding[len - 1] = 255;
    assert_eq!(relay.send(&all_padding), Sent::Drop(Cause::NotRtp));
    // The probe's number is used up: a fragment after it has no excuse.
    assert_eq!(
        relay.send(&rtp_as(SSRC, 5, 96, 0, false, &[0, 1])),
        Sent::Drop(Cause::NoStart)
    );
}

#[test]
fn codec_mode_takes_the_codecs_descriptor_and_four_times_the_proof() {
    let key = [0x10, 2, 0, 0x9d, 1, 0x2a, 64, 1, 240, 0];
    let vp8 = |ctr: u64| {
        let clear = if ctr == 0 { &key[..] } else { &[0x11, 2, 0] };
        [&[0x10], clear, &header(KID, ctr), &[1; 20]].concat()
    };
    let vp8_sealed = |ctr: u64| [&[0x10], &header(KID, ctr)[..], &[1; 20]].concat();
    let opus = |ctr: u64| [&[0xfc], &header(KID, ctr)[..], &[1; 20]].concat();
    type Payload<'a> = &'a dyn Fn(u64) -> Vec<u8>;
    for (format, payload) in [
        (Format::Vp8(Clear::Vp8), &vp8 as Payload),
        (Format::Vp8(Clear::None), &vp8_sealed),
        (Format::Whole(Clear::Opus), &opus),
    ] {
        let mut relay = Relay::new(in_codec_mode(format));
        for ctr in 0..20 {
            let sent = relay.send(&rtp_as(SSRC, ctr as u16, 96, ctr as u32, true, &payload(ctr)));
            let expected = match ctr {
                0..=10 => Sent::Hold,
                11 => Sent::Release,
                _ => Sent::Pass,
            };
            assert_eq!(sent, expected, "{format:?} {ctr}");
        }
    }
}

#[test]
fn frames_without_rtp_are_one_stream() {
    let mut relay = Relay::new(Config {
        input: Input::Frames(Clear::None),
        ..Config::default()
    });
    let frame = |ctr| [&header(KID, ctr)[..], &[0; 10]].concat();
    let sent: Vec<_> = (0..4).map(|ctr| relay.send(&frame(ctr))).collect();
    assert_eq!(sent, [Sent::Hold, Sent::Hold, Sent::Release, Sent::Pass]);
    assert_eq!(relay.send(&frame(3)), Sent::Drop(Cause::Counter));
    assert_eq!(relay.send(&[0x00, 1, 2, 3]), Sent::Drop(Cause::TooShort));
    assert_eq!(relay.send(&[]), Sent::Drop(Cause::Header));
    // A packet is not a frame: nothing is taken for RTCP here.
    assert_eq!(relay.send(&frame(9)), Sent::Pass);
    assert_eq!(relay.stream(FRAMES_SSRC).stats.frames, 5);
}

#[test]
fn a_flush_forgets_what_is_held_and_keeps_proofs() {
    let mut relay = Relay::proven();
    relay.send(&whole_of(2, 1, KID, 1));
    relay.guard.flush();
    assert_eq!(
        (relay.guard.held_packets(), relay.guard.totals().dropped_unproven),
        (0, 1)
    );
    assert_eq!(relay.send(&whole(50_000, 4)), Sent::Pass);
    assert_eq!(relay.stats().lost, 0);
}

#[test]
fn other_input_means_other_proofs() {
    let mut relay = Relay::proven();
    relay.send(&whole_of(2, 1, KID, 1));
    let mut config = relay.guard.config().clone();
    config.proof_frames = 5;
    relay.guard.set_config(config.clone());
    assert_eq!(relay.send(&whole(4, 4)), Sent::Pass);
    config.input = Input::Frames(Clear::None);
    relay.guard.set_config(config);
    assert_eq!((relay.guard.streams().count(), relay.guard.held_bytes()), (0, 0));
    relay.check();
}

#[test]
fn violations_are_told_once_a_second_with_their_number() {
    let mut relay = Relay::proven();
    // A millisecond each.
    for n in 0..1500u16 {
        relay.send(&rtp_as(SSRC, 4 + n, 96, 0, true, &[0x7c, 1]));
    }
    let told: Vec<_> = relay.reports.iter().map(|r| (r.ssrc, r.count, r.cause)).collect();
    assert_eq!(
        told,
        [(SSRC, 1, Cause::ReservedBits), (SSRC, 1000, Cause::ReservedBits)]
    );
}

/// Random payloads of which every one has a valid descriptor: a codec whose first byte happens to look like it.
#[test]
fn random_bytes_behind_a_valid_descriptor_leak_next_to_nothing() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut leaked = 0;
    for stream in 0..1000 {
        let mut relay = Relay::new(Config::default());
        for seq in 0..1000 {
            let body = [next().to_be_bytes(), next().to_be_bytes(), next().to_be_bytes()].concat();
            relay.send(&rtp_as(
                stream,
                seq,
                96,
                0,
                true,
                &[&[S | E | T], &body[..]].concat(),
            ));
        }
        leaked += relay.out.len();
    }
    // A million packets.
    assert!(leaked < 100, "{leaked} passed");
}

fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..64);
    let rtp = (
        0u32..6,
        0u16..40,
        prop_oneof![Just(96u8), Just(97), 0u8..128],
        any::<bool>(),
        prop_oneof![Just(S | E), Just(S), Just(E), Just(0), any::<u8>()],
        (0u64..4, 0u64..30),
        proptest::collection::vec(any::<u8>(), 0..12),
    )
        .prop_map(|(ssrc, seq, pt, marker, bits, (kid, ctr), tail)| {
            let payload = [&[bits], &header(kid, ctr)[..], &tail].concat();
            rtp_as(ssrc, seq, pt, ctr as u32, marker, &payload)
        });
    prop_oneof![1 => noise, 6 => rtp]
}

proptest! {
    /// `send` checks the bounds and that every packet is accounted for.
    #[test]
    fn whatever_arrives_the_bounds_hold(
        packets in proptest::collection::vec((any_packet(), any::<usize>()), 0..200),
        input in prop_oneof![
            Just(Input::Rtp(Format::Descriptor)),
            Just(Input::Rtp(Format::Vp8(Clear::Vp8))),
            Just(Input::Rtp(Format::Vp8(Clear::None))),
            Just(Input::Rtp(Format::Whole(Clear::Opus))),
            Just(Input::Frames(Clear::Vp8)),
        ],
        max_streams in 0usize..5,
        max_held_bytes in 0usize..3000,
        proof_frames in 0u32..5,
    ) {
        let mut relay = Relay::new(Config {
            input,
            proof_frames,
            max_streams,
            max_held_bytes,
            rtx_payload_types: 1 << 97,
            ..Config::default()
        });
        for (n, (packet, memory)) in packets.iter().enumerate() {
            relay.send(packet);
            if n % 50 == 49 {
                relay.guard.flush();
                relay.check();
            }
            let mut other = Guard::new(relay.guard.config().clone());
            other.process(relay.now, packet, *memory, || ());
        }
        relay.guard.drop_held();
        relay.check();
        prop_assert_eq!(relay.guard.held_bytes(), 0);
    }

    #[test]
    fn loss_and_reordering_never_stop_a_sealed_stream(
        start in any::<u16>(),
        sizes in proptest::collection::vec(1usize..6, 10..60),
        fates in proptest::collection::vec(0u8..100, 360),
    ) {
        let mut seq = start;
        let mut packets = Vec::new();
        for (ctr, n) in sizes.iter().enumerate() {
            packets.extend(frame(seq, ctr as u64, *n));
            seq = seq.wrapping_add(*n as u16);
        }
        let mut relay = Relay::new(Config::default());
        let mut delayed = Vec::new();
        for (packet, fate) in packets.iter().zip(&fates) {
            match fate {
                0..5 => {}
                5..15 => delayed.push(packet),
                _ => {
                    let sent = relay.send(packet);
                    prop_assert!(!matches!(sent, Sent::Drop(_)), "{:?}", sent);
                    if fate % 4 == 0 && let Some(late) = delayed.pop() {
                        prop_assert!(!matches!(relay.send(late), Sent::Drop(_)));
                    }
                }
            }
        }
    }
}
