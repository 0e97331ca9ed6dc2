//! What `rtpsframedepay` makes of packets.

use std::sync::Arc;

use gst::prelude::*;
use proptest::prelude::*;

use crate::common::*;

const RTP: &str =
    "application/x-rtp,media=(string)video,encoding-name=(string)VP8,clock-rate=90000,payload=96";

fn depay(properties: &str) -> Bench {
    let mut bench = Bench::new(&format!("rtpsframedepay {properties}"));
    bench.harness.set_src_caps_str(RTP);
    bench
}

/// What comes out at the end of a table: the bytes and whether something is missing before.
fn run(bench: &mut Bench, packets: impl IntoIterator<Item = Packet>) -> Vec<(Vec<u8>, bool)> {
    for packet in packets {
        bench.harness.push(packet.buffer()).unwrap();
    }
    let discont = |b: &gst::Buffer| b.flags().contains(gst::BufferFlags::DISCONT);
    bench.pull_all().iter().map(|b| (bytes(b), discont(b))).collect()
}

fn whole(bytes: &[u8]) -> (Vec<u8>, bool) {
    (bytes.to_vec(), false)
}

fn after_loss(bytes: &[u8]) -> (Vec<u8>, bool) {
    (bytes.to_vec(), true)
}

#[test]
fn a_gap_across_the_sequence_wrap_drops_that_frame_only() {
    let table = [
        Packet::new(65533, 10, S | E, b"a"),
        Packet::new(65534, 20, S, b"b"),
        Packet::new(65535, 20, 0, b"c"),
        Packet::new(0, 20, E, b"d"),
        Packet::new(1, 30, S, b"e"),
        Packet::new(2, 30, E, b"f"),
        Packet::new(3, 40, S | E, b"g"),
    ];
    let all = [whole(b"a"), whole(b"bcd"), whole(b"ef"), whole(b"g")];
    let mut bench = depay("");
    assert_eq!(run(&mut bench, table.clone()), all);
    for lost in [65534, 65535, 0] {
        let mut bench = depay("");
        let arrived = table.iter().filter(|p| p.seq != lost).cloned();
        assert_eq!(
            run(&mut bench, arrived),
            [whole(b"a"), after_loss(b"ef"), whole(b"g")],
            "without {lost}"
        );
        assert_eq!(bench.stat("rtpsframedepay", "dropped-frames"), 1);
        assert_eq!(bench.stat("rtpsframedepay", "frames"), 3);
    }
}

#[test]
fn duplicates_and_reordered_packets_are_ignored_and_counted() {
    let mut bench = depay("");
    let packets = [
        Packet::new(65535, 10, S, b"a"),
        Packet::new(65535, 10, S, b"a"),
        Packet::new(0, 10, E, b"b"),
        Packet::new(0, 10, E, b"b"),
        Packet::new(2, 20, E, b"d"),
        Packet::new(1, 20, S, b"c"),
        Packet::new(3, 30, S | E, b"e"),
        Packet::new(3, 30, S | E, b"e"),
    ];
    assert_eq!(run(&mut bench, packets), [whole(b"ab"), after_loss(b"e")]);
    assert_eq!(bench.stat("rtpsframedepay", "duplicates"), 4);
    assert_eq!(bench.stat("rtpsframedepay", "packets"), 8);
    assert_eq!(bench.stat("rtpsframedepay", "dropped-frames"), 1);
}

#[test]
fn malformed_packets_are_counted_and_cost_their_frame() {
    let mut bench = depay("");
    let packets = [
        Packet::raw(1, 10, true, &[]),
        Packet::new(2, 20, S | E | 1, b"a"),
        Packet::new(3, 30, S | E, b""),
        Packet::new(4, 40, S, b"b"),
        Packet::new(5, 40, 0x04, b"c"),
        Packet::new(6, 40, E, b"d"),
        Packet::new(7, 50, S | E, b"e"),
    ];
    assert_eq!(run(&mut bench, packets), [after_loss(b"e")]);
    assert_eq!(bench.stat("rtpsframedepay", "malformed"), 4);
    assert_eq!(bench.stat("rtpsframedepay", "dropped-frames"), 1);
}

#[test]
fn a_stream_that_nobody_sealed_is_warned_about_in_each_run() {
    let mut bench = depay("");
    for _ in 0..2 {
        for n in 0..200 {
            bench
                .harness
                .push(Packet::raw(n, u32::from(n), true, &[0x7c, 0x85, 1, 2, 3]).buffer())
                .unwrap();
        }
        let warning = bench.warning().unwrap();
        assert!(warning.contains("these packets are not sealed"), "{warning}");
        assert_eq!(bench.warning(), None);
        let element = bench.element("rtpsframedepay");
        element.set_state(gst::State::Ready).unwrap();
        element.set_state(gst::State::Playing).unwrap();
        bench.harness.set_src_caps_str(RTP);
    }
}

#[test]
fn strange_packets_among_frames_are_only_counted() {
    let mut bench = depay("");
    for n in 0..500 {
        let payload = if n % 20 == 0 { S | E } else { 0x7c };
        bench
            .harness
            .push(Packet::new(n, u32::from(n), payload, b"x").buffer())
            .unwrap();
    }
    assert_eq!(bench.stat("rtpsframedepay", "malformed"), 475);
    assert_eq!(bench.warning(), None);
}

/// What `sframedec` does with a frame that shares its packet's memory: opens it in place, in a copy.
#[test]
fn frames_can_be_made_writable_whatever_they_share() {
    for packets in [1usize, 2, 17, 40] {
        let sent = pattern(100 * packets);
        let mut bench = depay("");
        let mut kept = Vec::new();
        for (n, chunk) in sent.chunks(100).enumerate() {
            let start = if n == 0 { S } else { 0 };
            let end = if n + 1 == packets { E } else { 0 };
            let packet = Packet::new(n as u16, 7, start | end, chunk).buffer();
            kept.push((packet.clone(), bytes(&packet)));
            bench.harness.push(packet).unwrap();
        }
        let mut frame = bench.harness.pull().unwrap();
        let mut map = frame.make_mut().map_writable().unwrap();
        assert!(map[..] == sent, "{packets} packets");
        map.fill(0xff);
        drop(map);
        assert!(bytes(&frame).iter().all(|&b| b == 0xff));
        for (packet, before) in kept {
            assert!(
                bytes(&packet) == before,
                "the packets that others hold stay as they are"
            );
        }
    }
}

#[test]
fn what_is_not_rtp_is_counted_as_malformed() {
    let mut bench = depay("");
    for garbage in [&b"x"[..], &[0; 40], &[]] {
        bench
            .harness
            .push(gst::Buffer::from_slice(garbage.to_vec()))
            .unwrap();
    }
    assert_eq!(bench.stat("rtpsframedepay", "malformed"), 3);
    assert_eq!(bench.stat("rtpsframedepay", "duplicates"), 0);
}

#[test]
fn a_frame_over_the_limit_is_dropped_and_counted() {
    let mut bench = depay("max-frame-size=100");
    let packets = [
        Packet::new(1, 10, S, &pattern(60)),
        Packet::new(2, 10, E, &pattern(40)),
        Packet::new(3, 20, S, &pattern(60)),
        Packet::new(4, 20, 0, &pattern(41)),
        Packet::new(5, 20, E, &pattern(1)),
        Packet::new(6, 30, S | E, &pattern(101)),
        Packet::new(7, 40, S | E, b"a"),
    ];
    let expected = [whole(&[pattern(60), pattern(40)].concat()), after_loss(b"a")];
    assert_eq!(run(&mut bench, packets), expected);
    assert_eq!(bench.stat("rtpsframedepay", "too-large"), 2);
    assert_eq!(bench.stat("rtpsframedepay", "dropped-frames"), 0);
}

#[test]
fn a_frame_has_the_time_of_its_first_packet() {
    let mut bench = depay("");
    for packet in [
        Packet::new(1, 10, S, b"a").pts(100),
        Packet::new(2, 10, 0, b"b").pts(101),
        Packet::new(3, 10, E, b"c").pts(102),
        Packet::new(4, 20, S | E, b"d").pts(133),
    ] {
        bench.harness.push(packet.buffer()).unwrap();
    }
    let times: Vec<_> = bench
        .pull_all()
        .iter()
        .map(|b| b.pts().unwrap().mseconds())
        .collect();
    assert_eq!(times, [100, 133]);
}

#[test]
fn a_frame_of_one_packet_shares_its_memory_and_a_joined_one_has_one() {
    let mut bench = depay("");
    let packet = Packet::new(1, 10, S | E, &pattern(500)).buffer();
    let kept = packet.clone();
    bench.harness.push(packet).unwrap();
    let received = bench.harness.pull().unwrap();
    let inside = kept.map_readable().unwrap().as_ptr_range();
    let outside = received.map_readable().unwrap().as_ptr_range();
    assert!(inside.start < outside.start && outside.end == inside.end);
    for seq in 2..102 {
        let descriptor = if seq == 2 {
            S
        } else if seq == 101 {
            E
        } else {
            0
        };
        let packet = Packet::new(seq, 20, descriptor, &pattern(100));
        bench.harness.push(packet.buffer()).unwrap();
    }
    let received = bench.harness.pull().unwrap();
    assert_eq!((received.n_memory(), received.size()), (1, 10_000));
}

#[test]
fn padding_is_not_part_of_the_frame() {
    for (descriptor, expected) in [(S | E, b"ab".to_vec()), (S | E | T, b"ab".to_vec())] {
        let mut bench = depay("");
        let packet = rtp_types::RtpPacketBuilder::<_, &[u8]>::new()
            .payload_type(96)
            .sequence_number(1)
            .padding(4)
            .payload(&[descriptor, b'a', b'b'][..])
            .write_vec()
            .unwrap();
        bench.harness.push(gst::Buffer::from_slice(packet)).unwrap();
        let received = bench.harness.pull().unwrap();
        let received = if descriptor & T == 0 {
            bytes(&received)
        } else {
            with_rtp(&received, |rtp| assert!(!rtp.padding_bit()));
            payload(&received)
        };
        assert_eq!(received, expected);
    }
}

#[test]
fn packets_may_come_in_lists_and_in_many_memories() {
    let mut bench = depay("");
    let packets = [
        Packet::new(1, 10, S, b"a"),
        Packet::new(2, 10, E, b"b"),
        Packet::new(3, 20, S | E, b"cd"),
    ];
    let mut list = gst::BufferList::new();
    for packet in &packets {
        // Header and payload apart, as payloaders and socket sources make them.
        let packet = bytes(&packet.buffer());
        let mut buffer = gst::Buffer::new();
        for part in [&packet[..12], &packet[12..13], &packet[13..]] {
            let memory = gst::Memory::from_slice(part.to_vec());
            buffer.get_mut().unwrap().append_memory(memory);
        }
        list.get_mut().unwrap().add(buffer);
    }
    let pad = bench.harness.srcpad().unwrap();
    pad.push_list(list).unwrap();
    let received: Vec<_> = bench.pull_all().iter().map(bytes).collect();
    assert_eq!(received, [b"ab", b"cd"]);
    assert_eq!(bench.stat("rtpsframedepay", "duplicates"), 0);
}

#[test]
fn metas_of_the_first_packet_are_kept() {
    let reference = gst::Caps::new_empty_simple("timestamp/x-test");
    let mut bench = depay("");
    for (seq, descriptor) in [(1, S | E), (2, S), (3, E)] {
        let mut buffer = Packet::new(seq, 0, descriptor, b"a").buffer();
        if descriptor & S != 0 {
            let time = gst::ClockTime::from_seconds(u64::from(seq));
            gst::ReferenceTimestampMeta::add(buffer.get_mut().unwrap(), &reference, time, None);
        }
        bench.harness.push(buffer).unwrap();
    }
    let times: Vec<_> = bench
        .pull_all()
        .iter()
        .map(|b| {
            b.meta::<gst::ReferenceTimestampMeta>()
                .unwrap()
                .timestamp()
                .seconds()
        })
        .collect();
    assert_eq!(times, [1, 2]);
}

#[test]
fn flush_and_restart_do_not_stop_the_stream() {
    let mut bench = depay("");
    assert_eq!(run(&mut bench, [Packet::new(5000, 10, S, b"a")]), []);
    bench.harness.push_event(gst::event::FlushStart::new());
    bench.harness.push_event(gst::event::FlushStop::new(true));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    bench.harness.push_event(gst::event::Segment::new(&segment));
    let after = run(
        &mut bench,
        [
            Packet::new(4990, 20, E, b"b"),
            Packet::new(4991, 30, S | E, b"c"),
            // A restarted sender, far behind and then with another SSRC.
            Packet::new(200, 40, S | E, b"d"),
            Packet {
                ssrc: 7,
                ..Packet::new(190, 50, S | E, b"e")
            },
            Packet {
                ssrc: 7,
                ..Packet::new(191, 60, S | E, b"f")
            },
        ],
    );
    assert_eq!(
        after,
        [after_loss(b"c"), after_loss(b"d"), after_loss(b"e"), whole(b"f")]
    );
}

#[test]
fn sealed_payloads_stay_rtp_packets_without_descriptor() {
    let mut bench = Bench::new("rtpsframedepay");
    bench
        .harness
        .set_src_caps_str(&format!("{RTP},a-sframe=(string)\"\",ssrc=(uint)1"));
    let packet = rtp_types::RtpPacketBuilder::<&[u8], &[u8]>::new()
        .payload_type(97)
        .sequence_number(65535)
        .timestamp(1234)
        .ssrc(SSRC)
        .marker_bit(true)
        .add_csrc(5)
        .add_csrc(6)
        .extension(0xbede, &[0x10, 0xaa, 0, 0])
        .payload(&[S | E | T, 1, 2, 3][..])
        .write_vec()
        .unwrap();
    let mut buffer = gst::Buffer::from_slice(packet.clone());
    buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_seconds(1));
    bench.harness.push(buffer).unwrap();
    let received = bench.harness.pull().unwrap();
    let mut expected = packet;
    let descriptor = expected.len() - 4;
    expected.remove(descriptor);
    assert_eq!(bytes(&received), expected);
    assert_eq!(received.n_memory(), 1);
    assert_eq!(received.pts(), Some(gst::ClockTime::from_seconds(1)));
    let caps: gst::Caps = format!("{RTP},ssrc=(uint)1,sframe-descriptor=(boolean)false")
        .parse()
        .unwrap();
    assert_eq!(bench.caps_events(), [caps]);
}

#[test]
fn joined_payloads_leave_no_hole_and_losses_still_do() {
    let mut bench = depay("");
    for packet in [
        Packet::new(65533, 10, S | E | T, b"a"),
        Packet::new(65534, 20, S | T, b"b"),
        Packet::new(65535, 20, T, b"c"),
        Packet::new(0, 20, E | T, b"d"),
        Packet::new(1, 20, S | E | T, b"e"),
        Packet::new(2, 30, S | T, b"lost with its end"),
        Packet::new(4, 40, S | T, b"f"),
        Packet {
            marker: false,
            ..Packet::new(5, 40, E | T, b"g")
        },
        Packet::new(6, 50, S | E | T, b"h"),
    ] {
        bench.harness.push(packet.buffer()).unwrap();
    }
    let packets = bench.pull_all();
    let payloads: Vec<_> = packets.iter().map(payload).collect();
    assert_eq!(payloads, [&b"a"[..], b"bcd", b"e", b"fg", b"h"]);
    let expect = |seq, timestamp, marker| ExpectedPacket::new(seq).timestamp(timestamp).marker(marker);
    check_packets(
        &packets,
        &[
            expect(65533, 10, true),
            expect(65534, 20, true),
            expect(65535, 20, true),
            // 2 and 3 did not come whole.
            expect(2, 40, false),
            expect(3, 50, true),
        ],
    );
    assert!(packets[3].flags().contains(gst::BufferFlags::DISCONT));
}

#[test]
fn a_change_of_the_t_bit_changes_the_caps() {
    let mut bench = depay("");
    for packet in [
        Packet::new(1, 10, S | E, b"frame"),
        Packet::new(2, 20, S | E | T, b"payload"),
        Packet::new(3, 30, S | E | T, b"payload"),
        Packet::new(4, 40, S | E, b"frame"),
    ] {
        bench.harness.push(packet.buffer()).unwrap();
    }
    let names: Vec<_> = bench
        .caps_events()
        .iter()
        .map(|c| c.structure(0).unwrap().name().to_string())
        .collect();
    assert_eq!(
        names,
        [
            "application/x-sframe",
            "application/x-rtp",
            "application/x-sframe"
        ]
    );
    assert_eq!(bytes(&bench.pull_all()[3]), b"frame");
}

#[test]
fn caps_of_unknown_media_are_an_error_that_says_what_is_known() {
    for (caps, advice) in [
        (
            "application/x-rtp,media=video,encoding-name=THEORA,clock-rate=90000",
            "known are",
        ),
        (
            "application/x-rtp,media=video,clock-rate=90000,payload=96",
            "encoding-name",
        ),
        (
            "application/x-rtp,media=video,encoding-name=VP8,sframe-descriptor=(boolean)false",
            "sframedec",
        ),
    ] {
        let mut bench = Bench::new("rtpsframedepay");
        bench.harness.set_src_caps_str(caps);
        let error = bench.error().unwrap();
        assert!(error.contains(advice), "{error}");
    }
}

#[test]
fn stats_extend_those_of_the_base_class_and_are_posted_at_the_end() {
    let mut bench = depay("");
    run(
        &mut bench,
        [Packet::new(1, 10, S | E, b"a"), Packet::new(2, 20, S, b"b")],
    );
    let element = bench.element("rtpsframedepay");
    let stats: gst::Structure = element.property("stats");
    assert_eq!(stats.name(), "application/x-rtp-depayload-stats");
    assert_eq!(stats.get("clock_rate"), Ok(90_000u32));
    assert_eq!(stats.get("seqnum"), Ok(2u32));
    assert_eq!(stats.get("dropped-frames"), Ok(0u64));
    bench.harness.push_event(gst::event::Eos::new());
    let messages = bench.messages("rtpsframedepay-stats");
    assert_eq!(messages.len(), 1);
    for (field, value) in [
        ("packets", 2u64),
        ("frames", 1),
        ("bytes", 1),
        ("dropped-frames", 1),
    ] {
        assert_eq!(messages[0].get(field), Ok(value), "{field}");
    }
    element.set_state(gst::State::Ready).unwrap();
    assert_eq!(bench.messages("rtpsframedepay-stats").len(), 1);
}

/// Bytes of a packet that say when nobody holds them any more.
struct Watched {
    bytes: Vec<u8>,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[test]
fn no_packet_stays_in_memory() {
    let alive = Arc::new(());
    let mut bench = depay("");
    for packet in [
        Packet::new(1, 10, S | E, b"whole"),
        Packet::new(2, 20, S, b"joi"),
        Packet::new(3, 20, 0, b"n"),
        Packet::new(4, 20, E, b"ed"),
        Packet::new(5, 30, S | E | T, b"payload"),
        Packet::new(6, 40, S | T, b"pay"),
        Packet::new(7, 40, E | T, b"load"),
        Packet::new(8, 50, S, b"torn"),
        Packet::new(9, 60, 0x1f, b"malformed"),
        Packet::new(10, 70, E, b"no start"),
        Packet::new(10, 70, E, b"doubled"),
    ] {
        // Header and payload in memories of their own, as payloaders make them, and in one, as they are received.
        let packet = bytes(&packet.buffer());
        let (header, payload) = packet.split_at(if packet[3].is_multiple_of(3) {
            packet.len()
        } else {
            12
        });
        let mut buffer = gst::Buffer::new();
        for part in [header, payload] {
            let watched = Watched {
                bytes: part.to_vec(),
                _alive: Arc::clone(&alive),
            };
            let memory = gst::Memory::from_slice(watched);
            buffer.get_mut().unwrap().append_memory(memory);
        }
        bench.harness.push(buffer).unwrap();
    }
    assert_eq!(bench.pull_all().len(), 4);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn refused_caps_are_one_error_however_often_they_are_offered() {
    let mut bench = Bench::new("rtpsframedepay");
    let caps: gst::Caps = "application/x-rtp,media=video,encoding-name=THEORA,clock-rate=90000"
        .parse()
        .unwrap();
    for _ in 0..3 {
        bench.harness.push_event(gst::event::Caps::new(&caps));
    }
    assert!(bench.error().is_some());
    assert_eq!(bench.error(), None);
}

#[test]
fn keyframe_requests_pass_upstream() {
    let mut bench = depay("");
    run(&mut bench, [Packet::new(1, 10, S | E, b"a")]);
    let request = gst::event::CustomUpstream::new(gst::Structure::new_empty("GstForceKeyUnit"));
    assert!(bench.harness.push_upstream_event(request));
    let arrived = std::iter::from_fn(|| bench.harness.try_pull_upstream_event())
        .any(|e| e.structure().is_some_and(|s| s.name() == "GstForceKeyUnit"));
    assert!(arrived);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_never_panic(
        codec in any::<bool>(),
        packets in prop::collection::vec(
            (any::<bool>(), 0u16..4, any::<u32>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)),
            1..60,
        ),
    ) {
        let mut bench = depay(if codec { "packetization=codec" } else { "" });
        bench.harness.set_drop_buffers(true);
        let mut seq = 65_500u16;
        for (rtp, step, timestamp, marker, payload) in packets {
            seq = seq.wrapping_add(step);
            let buffer = if rtp {
                Packet::raw(seq, timestamp % 2, marker, &payload).buffer()
            } else {
                gst::Buffer::from_slice(payload)
            };
            prop_assert!(bench.harness.push(buffer).is_ok());
        }
    }
}
