//! `packetization=codec`: browsers' payload formats around sealed frames.

use crate::common::*;

/// 10 clear bytes of a VP8 keyframe (RFC 6386 §9.1: frame tag, start code, 320x240), then what could be ciphertext.
fn vp8_key(len: usize) -> Vec<u8> {
    let clear = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00];
    [&clear[..], &pattern(len)].concat()
}

/// 3 clear bytes of a VP8 delta frame.
fn vp8_delta(len: usize) -> Vec<u8> {
    [&[0x11, 0x02, 0x00][..], &pattern(len)].concat()
}

fn sealed(media: &str, clear_prefix: &str) -> String {
    format!("application/x-sframe,original-media-type=(string){media},clear-prefix=(string){clear_prefix}")
}

#[test]
fn vp8_goes_out_with_the_descriptor_of_its_payload_format() {
    for clear_prefix in ["none", "codec"] {
        let mut pay =
            Bench::new("rtpsframepay packetization=codec mtu=113 seqnum-offset=1 timestamp-offset=0");
        pay.harness.set_src_caps_str(&sealed("video/x-vp8", clear_prefix));
        pay.harness
            .push(frame(&pattern(250), gst::ClockTime::ZERO))
            .unwrap();
        pay.harness
            .push(frame(&pattern(100), gst::ClockTime::from_seconds(1)))
            .unwrap();
        let packets = pay.pull_all();
        let expect = |seq, descriptor, size| {
            let packet = ExpectedPacket::new(seq).descriptor(descriptor).size(size);
            packet.marker(seq >= 3)
        };
        check_packets(
            &packets,
            &[
                expect(1, 0x10, 113).timestamp(0),
                expect(2, 0x00, 113).timestamp(0),
                expect(3, 0x00, 63).timestamp(0),
                expect(4, 0x10, 113).timestamp(90_000),
            ],
        );
        let caps = pay.caps_events().remove(0);
        assert!(!caps.structure(0).unwrap().has_field("a-sframe"), "{caps}");
        assert_eq!(pay.warning(), None);
    }
}

#[test]
fn vp8_sealed_whole_says_once_who_cannot_open_it() {
    for (media, clear_prefix, told) in [
        ("video/x-vp8", "none", true),
        ("video/x-vp8", "codec", false),
        ("audio/x-opus", "none", false),
    ] {
        let mut pay = Bench::new("rtpsframepay packetization=codec");
        for width in [320, 640] {
            let caps = format!("{},width={width}", sealed(media, clear_prefix));
            pay.harness.set_src_caps_str(&caps);
        }
        let info = pay.info();
        assert_eq!(info.is_some(), told, "{media} {clear_prefix}: {info:?}");
        assert!(info.is_none_or(|text| text.contains("set clear-prefix=codec on sframeenc")));
        assert_eq!((pay.info(), pay.warning()), (None, None));
    }
}

/// A road whose ends do not agree on the packetization, and caps that say so nowhere, as people write them by hand.
fn mismatch(pay: &str, depay: &str, media: &str, encoding_name: &str, frames: u64) -> Bench {
    let caps = format!("application/x-rtp,media=video,encoding-name={encoding_name},clock-rate=90000");
    let mut sender = Bench::new(&format!("rtpsframepay mtu=500 {pay}"));
    sender.harness.set_src_caps_str(&sealed(media, "none"));
    let mut receiver = Bench::new(&format!("rtpsframedepay {depay}"));
    receiver.harness.set_src_caps_str(&caps);
    for n in 0..frames {
        // KID 1, one byte of counter, then what could be ciphertext.
        let body = [
            &[0x18, 8 + n as u8][..],
            &pattern(if media == "video/x-vp8" { 2000 } else { 160 }),
        ]
        .concat();
        sender
            .harness
            .push(frame(&body, gst::ClockTime::from_mseconds(20 * n)))
            .unwrap();
        for packet in sender.pull_all() {
            receiver.harness.push(packet).unwrap();
        }
    }
    receiver
}

#[test]
fn ends_that_do_not_agree_are_told_once_what_to_set() {
    const CODEC: &str = "packetization=codec";
    for (media, name) in [("video/x-vp8", "VP8"), ("audio/x-opus", "OPUS")] {
        for (pay, depay, advice) in [
            (
                CODEC,
                "",
                "if the sender has packetization=codec, set it here too",
            ),
            ("", CODEC, "packetization=sframe (the default), set it here too"),
        ] {
            let receiver = mismatch(pay, depay, media, name, 100);
            let warning = receiver.warning().unwrap();
            assert!(warning.contains(advice), "{warning}");
            assert_eq!(receiver.warning(), None, "{media}: once");
            let few = mismatch(pay, depay, media, name, 20);
            assert_eq!(few.warning(), None, "{media}: some strange packets are no reason");
        }
        for both in ["", CODEC] {
            let mut receiver = mismatch(both, both, media, name, 100);
            assert_eq!(receiver.warning(), None, "{media} {both}");
            assert_eq!(receiver.pull_all().len(), 100);
        }
    }
}

#[test]
fn opus_goes_out_as_it_is() {
    let mut pay = Bench::new("rtpsframepay packetization=codec seqnum-offset=1");
    pay.harness.set_src_caps_str(&sealed("audio/x-opus", "none"));
    pay.harness
        .push(frame(&pattern(160), gst::ClockTime::ZERO))
        .unwrap();
    let packets = pay.pull_all();
    check_packets(&packets, &[ExpectedPacket::new(1).marker(false).size(172)]);
    assert_eq!(payload(&packets[0]), pattern(160));
}

#[test]
fn an_opus_frame_over_the_mtu_is_dropped_with_a_warning() {
    let mut pay = Bench::new("rtpsframepay packetization=codec mtu=100 seqnum-offset=1");
    pay.harness.set_src_caps_str(&sealed("audio/x-opus", "none"));
    for size in [88, 89, 200, 10] {
        pay.harness
            .push(frame(&pattern(size), gst::ClockTime::ZERO))
            .unwrap();
    }
    check_packets(
        &pay.pull_all(),
        &[ExpectedPacket::new(1).size(100), ExpectedPacket::new(2).size(22)],
    );
    assert_eq!(pay.stat("rtpsframepay", "dropped"), 2);
    assert_eq!(pay.stat("rtpsframepay", "frames"), 2);
    let warning = pay.warning().unwrap();
    assert!(warning.contains("Raise mtu"), "{warning}");
    assert_eq!(pay.warning(), None, "not one warning per frame");
}

#[test]
fn other_codecs_are_an_error_that_says_what_is_possible() {
    for media in [
        "video/x-vp9",
        "video/x-av1",
        "video/x-h264",
        "video/x-h265",
        "application/json",
    ] {
        let mut pay = Bench::new("rtpsframepay packetization=codec");
        pay.harness.set_src_caps_str(&sealed(media, "none"));
        assert!(pay.harness.push(frame(b"sealed", gst::ClockTime::ZERO)).is_err());
        let error = pay.error().unwrap();
        assert!(error.contains("VP8 and Opus"), "{error}");
    }
    let mut depay = Bench::new("rtpsframedepay packetization=codec");
    depay
        .harness
        .set_src_caps_str("application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=96");
    let error = depay.error().unwrap();
    assert!(error.contains("VP8 and Opus"), "{error}");
}

#[test]
fn vp8_comes_back_from_both_depayloaders() {
    for depay in ["rtpvp8depay", "rtpsframedepay packetization=codec"] {
        let mut bench = Bench::new(&format!("rtpsframepay packetization=codec mtu=500 ! {depay}"));
        bench.harness.set_src_caps_str(&sealed("video/x-vp8", "codec"));
        let frames = [
            vp8_key(20_000),
            vp8_delta(20),
            vp8_delta(484),
            vp8_delta(485),
            vp8_key(100),
            vp8_delta(3_000),
        ];
        for (i, sent) in frames.iter().enumerate() {
            let pts = gst::ClockTime::from_mseconds(33 * i as u64);
            bench.harness.push(frame(sent, pts)).unwrap();
        }
        let received: Vec<_> = bench.pull_all().iter().map(bytes).collect();
        assert!(received == frames, "{depay}");
    }
}

#[test]
fn opus_comes_back_from_both_depayloaders() {
    for depay in ["rtpopusdepay", "rtpsframedepay packetization=codec"] {
        let mut bench = Bench::new(&format!("rtpsframepay packetization=codec ! {depay}"));
        bench.harness.set_src_caps_str(&sealed("audio/x-opus", "codec"));
        let frames = [pattern(160), pattern(3), pattern(1000)];
        for (i, sent) in frames.iter().enumerate() {
            let pts = gst::ClockTime::from_mseconds(20 * i as u64);
            bench.harness.push(frame(sent, pts)).unwrap();
        }
        let received: Vec<_> = bench.pull_all().iter().map(bytes).collect();
        assert!(received == frames, "{depay}");
    }
}

#[test]
fn the_stock_vp8_payloader_is_understood_too() {
    for mode in ["none", "7-bit", "15-bit"] {
        let mut bench = Bench::new(&format!(
            "rtpvp8pay picture-id-mode={mode} mtu=500 ! rtpsframedepay packetization=codec"
        ));
        bench.harness.set_src_caps_str("video/x-vp8");
        // One real frame: the stock payloader parses it.
        let real = real_vp8_keyframe();
        bench.harness.push(frame(&real, gst::ClockTime::ZERO)).unwrap();
        let received: Vec<_> = bench.pull_all().iter().map(bytes).collect();
        assert!(received == [real], "{mode}");
    }
}

fn real_vp8_keyframe() -> Vec<u8> {
    init();
    let mut harness = gst_check::Harness::new_empty();
    harness.add_parse("videotestsrc num-buffers=1 pattern=snow ! vp8enc deadline=1");
    harness.play();
    let buffer = harness.pull().unwrap();
    bytes(&buffer)
}

#[test]
fn codec_mode_says_nothing_about_clear_bytes() {
    let mut depay = Bench::new("rtpsframedepay packetization=codec");
    depay
        .harness
        .set_src_caps_str("application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=96");
    depay
        .harness
        .push(Packet::raw(1, 0, true, &[&[0x10], &vp8_key(10)[..]].concat()).buffer())
        .unwrap();
    let expected: gst::Caps = "application/x-sframe,original-media-type=(string)video/x-vp8"
        .parse()
        .unwrap();
    assert_eq!(depay.caps_events(), [expected]);
}
