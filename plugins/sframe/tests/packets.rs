//! RTP packets through `sframeenc` and `sframedec`: each payload is sealed on its own, headers stay readable.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy sees helpers of tests as ordinary code"
)]

mod common;

use common::*;
use gst::prelude::*;
use proptest::prelude::*;

const RTP: &str = "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=96";

/// A packet with everything that a header can have.
fn packet(seq: u16, payload: &[u8], full: bool) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend((u32::from(seq) * 960).to_be_bytes());
    packet.extend(0x1234_5678u32.to_be_bytes());
    if full {
        packet[0] = 0xb2;
        packet.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        packet.extend([0xbe, 0xde, 0, 1, 0x10, 0x7f, 0, 0]);
    }
    packet.extend(payload);
    if full {
        packet.extend([0, 0, 0, 4]);
    }
    packet
}

fn buffer(packet: Vec<u8>, number: u64) -> gst::Buffer {
    timed(gst::Buffer::from_mut_slice(packet), number)
}

#[test]
fn the_header_stays_and_the_payload_is_sealed() {
    let keys = Keys::new();
    let mut enc = Bench::new(keys.enc(1), RTP);
    let payload: Vec<u8> = (0..100).collect();
    let plain = packet(7, &payload, true);
    enc.h.push(buffer(plain.clone(), 0)).unwrap();
    let sealed = enc.h.pull().unwrap();
    let out = bytes(&sealed);
    let header_len = 12 + 8 + 8;
    assert_eq!(out[1..header_len], plain[1..header_len]);
    assert_eq!(out[0], plain[0] & !0x20, "padding is not carried");
    assert_eq!(out[header_len], 0xe0, "S, E and T");
    assert!(!out.windows(8).any(|w| w == &payload[..8]));
    let caps = enc.h.sinkpad().unwrap().current_caps().unwrap().to_string();
    assert!(caps.contains("a-sframe=(string)\"\""), "{caps}");

    let mut dec = Bench::new(keys.dec(), &caps);
    dec.h.push(sealed).unwrap();
    let opened = bytes(&dec.h.pull().unwrap());
    assert_eq!(opened[header_len..], payload);
    assert_eq!(opened[1..header_len], plain[1..header_len]);
    let caps = dec.h.sinkpad().unwrap().current_caps().unwrap();
    assert!(!caps.to_string().contains("sframe"), "{caps}");
}

#[test]
fn what_rtpsframedepay_gives_has_no_descriptor() {
    let keys = Keys::new();
    let (_, out) = sealed(&keys, 1, RTP, vec![buffer(packet(1, &[9; 30], false), 0)]);
    let mut bytes_without = bytes(&out[0]);
    bytes_without.remove(12);
    let caps = format!("{RTP},sframe-descriptor=(boolean)false");
    let mut dec = Bench::new(keys.dec(), &caps);
    dec.h.push(with_bytes(&out[0], bytes_without)).unwrap();
    assert_eq!(bytes(&dec.h.pull().unwrap()), packet(1, &[9; 30], false));
}

#[test]
fn whole_frames_and_fragments_are_not_opened_as_packets() {
    let keys = Keys::new();
    let (caps, out) = sealed(&keys, 1, RTP, vec![buffer(packet(1, &[9; 30], false), 0)]);
    let mut dec = Bench::new(keys.dec(), &caps);
    for descriptor in [0xc0, 0xa0, 0x60, 0x20, 0xe1] {
        let mut bad = bytes(&out[0]);
        bad[12] = descriptor;
        dec.h.push(with_bytes(&out[0], bad)).unwrap();
    }
    assert!(dec.h.try_pull().is_none());
    assert_eq!(dec.stat("malformed"), 5);
}

#[test]
fn what_is_not_rtp_is_not_sealed_as_rtp() {
    let keys = Keys::new();
    let mut enc = Bench::new(keys.enc(1), RTP);
    for bad in [
        vec![],
        vec![0x80; 11],
        vec![0x40; 20],
        vec![0x9f; 20],
        vec![0xa0; 12],
    ] {
        enc.h.push(buffer(bad, 0)).unwrap();
    }
    assert!(enc.h.try_pull().is_none());
    assert_eq!(enc.stat("dropped-malformed"), 5);
    // An empty payload is a packet all the same.
    enc.h.push(buffer(packet(1, &[], false), 0)).unwrap();
    let sealed = enc.h.pull().unwrap();
    let caps = enc.h.sinkpad().unwrap().current_caps().unwrap().to_string();
    let mut dec = Bench::new(keys.dec(), &caps);
    dec.h.push(sealed).unwrap();
    assert_eq!(bytes(&dec.h.pull().unwrap()), packet(1, &[], false));
}

#[test]
fn parameter_sets_do_not_leave_in_caps() {
    let keys = Keys::new();
    let caps = "application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=96,\
                sprop-parameter-sets=(string)\"Z0IAKQ==,aM48gA==\"";
    let (caps, _) = sealed(&keys, 1, caps, vec![buffer(packet(1, &[9; 30], false), 0)]);
    assert!(!caps.contains("sprop"), "{caps}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_upset_either_element(inputs in prop::collection::vec(any::<Vec<u8>>(), 1..20), rtp in any::<bool>()) {
        let keys = Keys::new();
        let sealed_caps = if rtp { RTP } else { "application/x-sframe,original-media-type=video/x-vp8,clear-prefix=codec" };
        let mut enc = Bench::new(keys.enc(1), if rtp { RTP } else { VP8 });
        let mut dec = Bench::new(keys.dec(), sealed_caps);
        for (number, bytes) in inputs.into_iter().enumerate() {
            enc.h.push(buffer(bytes.clone(), number as u64)).unwrap();
            dec.h.push(buffer(bytes, number as u64)).unwrap();
            prop_assert!(dec.h.try_pull().is_none());
        }
        prop_assert!(enc.error().is_none() && dec.error().is_none());
    }
}
