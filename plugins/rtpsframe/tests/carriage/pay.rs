//! What `rtpsframepay` puts on the wire.

use gst::prelude::*;
use gst_rtp::prelude::*;

use crate::common::*;

const VP8: &str = "application/x-sframe,original-media-type=(string)video/x-vp8,clear-prefix=(string)none,\
                   width=640,height=480,framerate=(fraction)30/1";

/// A payloader with known numbers.
fn pay(properties: &str, caps: &str) -> Bench {
    let mut bench = Bench::new(&format!(
        "rtpsframepay seqnum-offset=65534 timestamp-offset=1000 ssrc=287454020 {properties}"
    ));
    bench.harness.set_src_caps_str(caps);
    bench
}

fn ms(ms: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(ms)
}

#[test]
fn fragments_share_all_but_number_descriptor_and_marker() {
    let mut pay = pay("mtu=113", VP8);
    pay.harness.push(frame(&pattern(100), ms(0))).unwrap();
    pay.harness.push(frame(&pattern(101), ms(100))).unwrap();
    pay.harness.push(frame(&pattern(250), ms(200))).unwrap();
    pay.harness.push(frame(&pattern(1), ms(300))).unwrap();
    let expect = |seq, descriptor: u8, timestamp, size| {
        ExpectedPacket::new(seq)
            .descriptor(descriptor)
            .marker(descriptor & E != 0)
            .timestamp(timestamp)
            .size(size)
            .payload_type(96)
    };
    check_packets(
        &pay.pull_all(),
        &[
            expect(65534, S | E, 1000, 113).pts(0),
            expect(65535, S, 10_000, 113).pts(100),
            expect(0, E, 10_000, 14).pts(100),
            expect(1, S, 19_000, 113).pts(200),
            expect(2, 0, 19_000, 113).pts(200),
            expect(3, E, 19_000, 63).pts(200),
            expect(4, S | E, 28_000, 14).pts(300),
        ],
    );
}

#[test]
fn only_the_first_packet_of_a_keyframe_is_no_delta_unit() {
    let mut pay = pay("mtu=113", VP8);
    let mut key = frame(&pattern(150), ms(0));
    key.get_mut().unwrap().set_flags(gst::BufferFlags::DISCONT);
    let mut delta = frame(&pattern(150), ms(33));
    delta.get_mut().unwrap().set_flags(gst::BufferFlags::DELTA_UNIT);
    pay.harness.push(key).unwrap();
    pay.harness.push(delta).unwrap();
    let expect = |seq, flags| ExpectedPacket::new(seq).flags(flags);
    check_packets(
        &pay.pull_all(),
        &[
            expect(65534, gst::BufferFlags::DISCONT),
            expect(65535, gst::BufferFlags::DELTA_UNIT),
            expect(0, gst::BufferFlags::DELTA_UNIT),
            expect(1, gst::BufferFlags::DELTA_UNIT),
        ],
    );
}

#[test]
fn caps_name_the_codec_inside() {
    for (frames, rtp) in [
        (
            VP8,
            "media=(string)video,encoding-name=(string)VP8,clock-rate=90000,payload=96",
        ),
        (
            "application/x-sframe,original-media-type=(string)video/x-h265,stream-format=byte-stream,alignment=au",
            "media=(string)video,encoding-name=(string)H265,clock-rate=90000,payload=96",
        ),
        (
            "application/x-sframe,original-media-type=(string)audio/x-opus,channels=2",
            "media=(string)audio,encoding-name=(string)OPUS,clock-rate=48000,payload=96,\
             sprop-stereo=(string)1,encoding-params=(string)2",
        ),
        (
            "application/x-sframe,original-media-type=(string)audio/x-raw,format=S16BE,rate=44100,channels=2",
            "media=(string)audio,encoding-name=(string)L16,clock-rate=44100,payload=96,\
             channels=2,encoding-params=(string)2",
        ),
        (
            "application/x-sframe,original-media-type=(string)audio/x-mulaw,rate=8000,channels=1",
            "media=(string)audio,encoding-name=(string)PCMU,clock-rate=8000,payload=0",
        ),
        (
            "application/x-sframe,original-media-type=(string)audio/x-alaw",
            "media=(string)audio,encoding-name=(string)PCMA,clock-rate=8000,payload=8",
        ),
        (
            "application/x-sframe,original-media-type=(string)text/x-raw,format=utf8",
            "media=(string)text,encoding-name=(string)T140,clock-rate=1000,payload=96",
        ),
        (
            "application/x-sframe,original-media-type=(string)application/json",
            "media=(string)application,encoding-name=(string)X-SFRAME-DATA,clock-rate=90000,payload=96,\
             media-type=(string)application/json",
        ),
    ] {
        let mut pay = pay("", frames);
        pay.harness.push(frame(b"sealed", ms(0))).unwrap();
        let expected: gst::Caps = format!(
            "application/x-rtp,{rtp},a-sframe=(string)\"\",ssrc=(uint)287454020,\
             timestamp-offset=(uint)1000,seqnum-offset=(uint)65534"
        )
        .parse()
        .unwrap();
        assert_eq!(pay.caps_events(), [expected]);
    }
}

#[test]
fn a_chosen_payload_type_stays() {
    for (properties, caps, expected) in [
        ("pt=111", "audio/x-mulaw", 111),
        ("pt=96", "audio/x-mulaw", 96),
        ("", "audio/x-mulaw", 0),
        ("pt=111", "video/x-vp8", 111),
    ] {
        let mut pay = pay(
            properties,
            &format!("application/x-sframe,original-media-type=(string){caps}"),
        );
        pay.harness.push(frame(b"sealed", ms(0))).unwrap();
        check_packets(
            &pay.pull_all(),
            &[ExpectedPacket::new(65534).payload_type(expected)],
        );
    }
}

#[test]
fn the_payload_type_follows_new_caps() {
    let mut pay = pay(
        "",
        "application/x-sframe,original-media-type=(string)audio/x-mulaw",
    );
    pay.harness.push(frame(b"sealed", ms(0))).unwrap();
    pay.harness.set_src_caps_str(VP8);
    pay.harness.push(frame(b"sealed", ms(1))).unwrap();
    check_packets(
        &pay.pull_all(),
        &[
            ExpectedPacket::new(65534).payload_type(0),
            ExpectedPacket::new(65535).payload_type(96),
        ],
    );
}

#[test]
fn frames_in_many_memories_are_cut_like_any_other() {
    let mut pay = pay("mtu=113", VP8);
    let bytes = pattern(1000);
    let mut buffer = gst::Buffer::new();
    for chunk in bytes.chunks(70) {
        let memory = gst::Memory::from_slice(chunk.to_vec());
        buffer.get_mut().unwrap().append_memory(memory);
    }
    pay.harness.push(buffer).unwrap();
    let packets = pay.pull_all();
    assert_eq!(packets.len(), 10);
    let joined: Vec<u8> = packets.iter().flat_map(|p| payload(p)[1..].to_vec()).collect();
    assert_eq!(joined, bytes);
}

#[test]
fn empty_buffers_give_no_packet_and_break_nothing() {
    let mut pay = pay("", VP8);
    pay.harness.push(gst::Buffer::new()).unwrap();
    pay.harness.push(frame(b"sealed", ms(0))).unwrap();
    check_packets(
        &pay.pull_all(),
        &[ExpectedPacket::new(65534).descriptor(S | E).size(19)],
    );
    assert_eq!(pay.stat("rtpsframepay", "dropped"), 1);
}

#[test]
fn header_extensions_stay_within_the_mtu() {
    let mut pay = pay("mtu=200", VP8);
    let element = pay.element("rtpsframepay");
    let uri = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    let extension = gst_rtp::RTPHeaderExtension::create_from_uri(uri).unwrap();
    extension.set_id(3);
    element.emit_by_name::<()>("add-extension", &[&extension]);
    pay.harness.push(frame(&pattern(1000), ms(0))).unwrap();
    let packets = pay.pull_all();
    assert!(packets.len() > 1);
    for packet in &packets {
        assert!(packet.size() <= 200, "{} bytes", packet.size());
        with_rtp(packet, |rtp| assert!(rtp.extension_bit()));
    }
    assert_eq!(packets[0].size(), 200, "no more room than needed is left");
    let joined: Vec<u8> = packets.iter().flat_map(|p| payload(p)[1..].to_vec()).collect();
    assert_eq!(joined, pattern(1000));
}

#[test]
fn sources_become_csrcs_within_the_mtu() {
    let mut pay = pay("mtu=100 source-info=true", VP8);
    let mut buffer = frame(&pattern(300), ms(0));
    gst_rtp::RTPSourceMeta::add(buffer.get_mut().unwrap(), Some(7), &[8, 9]);
    pay.harness.push(buffer).unwrap();
    for packet in pay.pull_all() {
        assert!(packet.size() <= 100);
        with_rtp(&packet, |rtp| {
            assert_eq!(rtp.csrc().collect::<Vec<_>>(), [8, 9, 7])
        });
    }
}

#[test]
fn metas_stay_on_the_packets() {
    let mut pay = pay("mtu=113", VP8);
    let mut buffer = frame(&pattern(150), ms(0));
    let reference = gst::Caps::new_empty_simple("timestamp/x-ntp");
    gst::ReferenceTimestampMeta::add(buffer.get_mut().unwrap(), &reference, ms(5), None);
    pay.harness.push(buffer).unwrap();
    for packet in pay.pull_all() {
        assert!(packet.meta::<gst::ReferenceTimestampMeta>().is_some());
    }
}

#[test]
fn stats_extend_those_of_the_base_class_and_are_posted_at_the_end() {
    let mut pay = pay("mtu=113", VP8);
    pay.harness.push(frame(&pattern(150), ms(0))).unwrap();
    pay.harness.push(frame(&pattern(10), ms(1))).unwrap();
    let element = pay.element("rtpsframepay");
    let stats: gst::Structure = element.property("stats");
    assert_eq!(stats.name(), "application/x-rtp-payload-stats");
    assert_eq!(stats.get("clock-rate"), Ok(90_000u32));
    assert_eq!(stats.get("ssrc"), Ok(SSRC));
    for (field, value) in [("frames", 2u64), ("packets", 3), ("bytes", 160), ("dropped", 0)] {
        assert_eq!(stats.get(field), Ok(value), "{field}");
    }
    pay.harness.push_event(gst::event::Eos::new());
    assert_eq!(pay.messages("rtpsframepay-stats").len(), 1);
    element.set_state(gst::State::Ready).unwrap();
    let messages = pay.messages("rtpsframepay-stats");
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].get("frames"), Ok(2u64));
}

#[test]
fn caps_that_cannot_go_into_rtp_are_an_error_that_says_what_to_do() {
    for (caps, advice) in [
        ("application/x-sframe", "sframeenc"),
        (
            "application/x-sframe,original-media-type=(string)video/x-h264,stream-format=avc",
            "h264parse",
        ),
    ] {
        let mut pay = Bench::new("rtpsframepay");
        pay.harness.set_src_caps_str(caps);
        assert!(pay.harness.push(frame(b"sealed", ms(0))).is_err());
        let error = pay.error().unwrap();
        assert!(error.contains(advice), "{error}");
    }
}

#[test]
fn clear_bytes_before_the_ciphertext_are_warned_about() {
    let caps = VP8.replace("clear-prefix=(string)none", "clear-prefix=(string)codec");
    let pay = pay("", &caps);
    let warning = pay.warning().unwrap();
    assert!(warning.contains("packetization=codec"), "{warning}");
}
