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
        (
            "application/x-sframe,original-media-type=(string)video/x-raw,format=I420,width=320,height=240",
            "put an encoder before sframeenc",
        ),
        (
            "application/x-sframe,original-media-type=(string)audio/x-raw,format=F32LE,rate=48000,channels=1",
            "format=S16BE",
        ),
    ] {
        let mut pay = Bench::new("rtpsframepay");
        pay.harness.set_src_caps_str(caps);
        for n in 0..5 {
            assert!(pay.harness.push(frame(b"sealed", ms(n))).is_err());
        }
        let error = pay.error().unwrap();
        assert!(error.contains(advice), "{error}");
        assert_eq!(pay.error(), None, "one error, however often the caps are offered");
    }
}

#[test]
fn refused_caps_are_told_again_after_others_were_taken() {
    let mut pay = Bench::new("rtpsframepay");
    for _ in 0..2 {
        pay.harness.set_src_caps_str("application/x-sframe");
        assert!(pay.harness.push(frame(b"sealed", ms(0))).is_err());
        assert!(pay.error().is_some());
        pay.harness.set_src_caps_str(VP8);
        pay.harness.push(frame(b"sealed", ms(0))).unwrap();
    }
    assert_eq!(pay.error(), None);
}

#[test]
fn caps_while_the_source_pad_is_flushing_are_nobodys_fault() {
    init();
    let pay = gst::ElementFactory::make("rtpsframepay").build().unwrap();
    let bus = gst::Bus::new();
    pay.set_bus(Some(&bus));
    pay.set_state(gst::State::Playing).unwrap();
    pay.static_pad("src").unwrap().set_active(false).unwrap();
    let sink = pay.static_pad("sink").unwrap();
    sink.send_event(gst::event::StreamStart::new("a"));
    assert!(!sink.send_event(gst::event::Caps::new(&VP8.parse().unwrap())));
    assert!(bus.pop_filtered(&[gst::MessageType::Error]).is_none());
    pay.set_state(gst::State::Null).unwrap();
}

#[test]
fn clear_bytes_before_the_ciphertext_are_warned_about() {
    let caps = VP8.replace("clear-prefix=(string)none", "clear-prefix=(string)codec");
    let mut pay = pay("", &caps);
    pay.harness
        .set_src_caps_str(&caps.replace("width=640", "width=320"));
    let warning = pay.warning().unwrap();
    assert!(warning.contains("packetization=codec"), "{warning}");
    assert_eq!(pay.warning(), None, "not with every size");
}

const JSON: &str = "application/x-sframe,original-media-type=(string)application/json";

/// A payloader behind a source that counts bytes.
fn pay_in_bytes() -> Bench {
    let mut pay = pay("", JSON);
    let segment = gst::FormattedSegment::<gst::format::Bytes>::new();
    assert!(pay.harness.push_event(gst::event::Segment::new(&segment)));
    pay
}

fn last_segment(bench: &mut Bench) -> gst::Segment {
    std::iter::from_fn(|| bench.harness.try_pull_event())
        .filter_map(|event| match event.view() {
            gst::EventView::Segment(segment) => Some(segment.segment().clone()),
            _ => None,
        })
        .last()
        .unwrap()
}

#[test]
fn buffers_with_times_in_a_segment_of_bytes_go_out_at_their_times() {
    let mut pay = pay_in_bytes();
    for at in [0, 100, 250] {
        pay.harness.push(frame(b"sealed", ms(at))).unwrap();
    }
    let expect = |seq: u16, timestamp| ExpectedPacket::new(seq).timestamp(timestamp);
    check_packets(
        &pay.pull_all(),
        &[
            expect(65534, 1000).pts(0),
            expect(65535, 10_000).pts(100),
            expect(0, 23_500).pts(250),
        ],
    );
    let segment = last_segment(&mut pay);
    assert_eq!(
        segment,
        *gst::FormattedSegment::<gst::ClockTime>::new().upcast_ref()
    );
    assert_eq!(pay.warning(), None);
}

#[test]
fn buffers_without_any_times_are_warned_about_once() {
    let mut pay = pay_in_bytes();
    for _ in 0..3 {
        pay.harness.push(gst::Buffer::from_slice(b"sealed")).unwrap();
    }
    assert_eq!(pay.pull_all().len(), 3);
    let warning = pay.warning().unwrap();
    assert!(warning.contains("appsrc format=time"), "{warning}");
    assert_eq!(pay.warning(), None);
    assert_eq!(pay.error(), None);
}

#[test]
fn the_payload_type_of_a_run_does_not_stay_for_the_next() {
    let mulaw = "application/x-sframe,original-media-type=(string)audio/x-mulaw";
    let mut pay = pay("", mulaw);
    for (caps, expected) in [(mulaw, 0), (VP8, 96), (mulaw, 0), (VP8, 96)] {
        pay.harness.set_src_caps_str(caps);
        pay.harness.push(frame(b"sealed", ms(0))).unwrap();
        let packets = pay.pull_all();
        with_rtp(&packets[0], |rtp| {
            assert_eq!(rtp.payload_type(), expected, "{caps}")
        });
        pay.harness
            .element()
            .unwrap()
            .set_state(gst::State::Null)
            .unwrap();
        pay.harness.play();
    }
}
