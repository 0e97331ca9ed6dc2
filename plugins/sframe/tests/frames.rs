//! Frames through `sframeenc` and `sframedec` with static keys: what goes in comes out, and nothing else does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy sees helpers of tests as ordinary code"
)]

mod common;

use common::*;
use gst::prelude::*;

#[test]
fn every_suite_and_size_comes_back_byte_for_byte() {
    for suite in [
        "aes-128-ctr-hmac-sha256-80",
        "aes-128-ctr-hmac-sha256-64",
        "aes-128-ctr-hmac-sha256-32",
        "aes-128-gcm-sha256-128",
        "aes-256-gcm-sha512-128",
    ] {
        let keys = Keys::new();
        let enc = keys.enc(1);
        enc.set_property_from_str("cipher-suite", suite);
        let dec = keys.dec();
        dec.set_property_from_str("cipher-suite", suite);
        let mut enc = Bench::new(enc, "application/octet-stream");
        let mut dec = Bench::new(
            dec,
            "application/x-sframe,original-media-type=application/octet-stream",
        );
        for (number, size) in [0, 1, 15, 16, 17, 160, 1200, 65_536, 2_000_000]
            .into_iter()
            .enumerate()
        {
            let plain = frame(number as u64, size);
            enc.h.push(plain.clone()).unwrap();
            let sealed = enc.h.pull().unwrap();
            let (ciphertext, start) = (bytes(&sealed), bytes(&plain));
            assert!(size < 16 || !ciphertext.windows(16).any(|window| window == &start[..16]));
            dec.h.push(sealed).unwrap();
            let opened = dec.h.pull().unwrap();
            assert_eq!(bytes(&opened), bytes(&plain), "{suite}, {size} bytes");
            assert_eq!((opened.pts(), opened.duration()), (plain.pts(), plain.duration()));
        }
        assert_eq!((enc.stat("sealed"), dec.stat("opened")), (9, 9));
    }
}

#[test]
fn buffers_of_many_memories_are_sealed_as_one_frame() {
    let keys = Keys::new();
    let mut parts = frame(0, 100);
    for number in 1..10 {
        parts.append(frame(number, 50 + number as usize));
    }
    assert!(parts.n_memory() > 5);
    let whole = bytes(&parts);
    let (caps, mut out) = sealed(&keys, 1, OPUS, vec![parts]);
    let mut dec = Bench::new(keys.dec(), &caps);
    // And sealed frames of many memories, as a depayloader may give them.
    let sealed = out.remove(0);
    let mut split = sealed.copy_region(gst::BufferCopyFlags::all(), 0..7).unwrap();
    let rest = sealed
        .copy_region(gst::BufferCopyFlags::MEMORY, 7..sealed.size())
        .unwrap();
    split.append(rest);
    dec.h.push(split).unwrap();
    assert_eq!(bytes(&dec.h.pull().unwrap()), whole);
}

#[test]
fn every_bit_of_a_sealed_frame_is_authenticated() {
    for caps in [OPUS, VP8] {
        let keys = Keys::new();
        let (caps, out) = sealed(&keys, 1, caps, vec![vp8_key(0, 40), vp8_key(1, 40)]);
        let mut dec = Bench::new(keys.dec(), &caps);
        let good = bytes(&out[0]);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            dec.h.push(with_bytes(&out[0], bad)).unwrap();
            assert!(dec.h.try_pull().is_none(), "bit {bit}");
        }
        let dropped = dec.stat("auth-failed") + dec.stat("malformed") + dec.stat("no-key");
        assert_eq!(dropped, good.len() as u64 * 8);
        // None of that moved the replay window.
        dec.h.push(out[0].clone()).unwrap();
        assert_eq!(bytes(&dec.h.pull().unwrap()), bytes(&vp8_key(0, 40)));
    }
}

#[test]
fn every_truncation_is_dropped() {
    let keys = Keys::new();
    let (caps, out) = sealed(&keys, 1, OPUS, vec![frame(0, 40)]);
    let mut dec = Bench::new(keys.dec(), &caps);
    let good = bytes(&out[0]);
    for len in 0..good.len() {
        dec.h.push(with_bytes(&out[0], good[..len].to_vec())).unwrap();
        assert!(dec.h.try_pull().is_none(), "{len} bytes");
    }
    dec.h.push(out[0].clone()).unwrap();
    dec.h.pull().unwrap();
}

#[test]
fn a_replay_is_dropped_and_counted_and_reordering_is_not() {
    let keys = Keys::new();
    let (caps, out) = sealed(&keys, 1, OPUS, (0..200).map(|n| frame(n, 30)).collect());
    let dec = keys.dec();
    dec.set_property("replay-window", 64u32);
    let mut dec = Bench::new(dec, &caps);
    for order in [1usize, 0, 3, 2, 1, 0, 100, 37, 36, 99] {
        dec.h.push(out[order].clone()).unwrap();
    }
    let opened: Vec<_> = std::iter::from_fn(|| dec.h.try_pull())
        .map(|b| bytes(&b))
        .collect();
    let expected: Vec<_> = [1, 0, 3, 2, 100, 37, 99].map(|n| bytes(&frame(n, 30))).to_vec();
    assert_eq!(opened, expected, "36 is older than the window");
    assert_eq!(dec.stat("replayed"), 3);
    let messages = dec.messages("sframe-decrypt-failed");
    assert_eq!(messages[0].get::<&str>("cause").unwrap(), "replayed");
    assert_eq!(messages[0].get::<u64>("kid").unwrap(), 1);
    assert_eq!(messages.len(), 1, "rate-limited");
}

#[test]
fn replay_protection_can_be_switched_off() {
    let keys = Keys::new();
    let (caps, out) = sealed(&keys, 1, OPUS, vec![frame(0, 30)]);
    let dec = keys.dec();
    dec.set_property("replay-window", 0u32);
    let mut dec = Bench::new(dec, &caps);
    for _ in 0..3 {
        dec.h.push(out[0].clone()).unwrap();
        dec.h.pull().unwrap();
    }
}

#[test]
fn every_line_of_the_key_file_opens_and_foreign_kids_do_not() {
    let keys = Keys::new();
    let mut dec = Bench::new(
        keys.dec(),
        "application/x-sframe,original-media-type=audio/x-opus,channels=2",
    );
    for kid in [1, 2, 3] {
        let (_, out) = sealed(&keys, kid, OPUS, vec![frame(kid, 30)]);
        dec.h.push(out[0].clone()).unwrap();
        assert_eq!(bytes(&dec.h.pull().unwrap()), bytes(&frame(kid, 30)));
    }
    let foreign = Keys::with(&format!("9 {KEY_HEX}\n1 aa{KEY_HEX}"));
    let (_, unknown) = sealed(&foreign, 9, OPUS, vec![frame(9, 30)]);
    dec.h.push(unknown[0].clone()).unwrap();
    // Above any random start, or it would count as a replay.
    std::fs::write(
        foreign.counter_file(1),
        u64::MAX.to_string().replacen('8', "7", 1),
    )
    .unwrap();
    let (_, wrong) = sealed(&foreign, 1, OPUS, vec![frame(9, 30)]);
    dec.h.push(wrong[0].clone()).unwrap();
    assert!(dec.h.try_pull().is_none());
    assert_eq!((dec.stat("no-key"), dec.stat("auth-failed")), (1, 1));
    let mut messages: Vec<gst::Structure> = dec
        .bus
        .iter_filtered(&[gst::MessageType::Element])
        .filter_map(|m| m.structure().map(|s| s.to_owned()))
        .collect();
    messages.retain(|s| s.name().starts_with("sframe-"));
    let told: Vec<_> = messages
        .iter()
        .map(|s| {
            (
                s.name().as_str(),
                s.get::<u64>("kid").unwrap(),
                s.get::<&str>("cause").unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("sframe-key-missing", 9, "no-key"),
            ("sframe-decrypt-failed", 1, "auth-failed")
        ]
    );
}

#[test]
fn made_up_kids_are_counted_and_nothing_grows() {
    let keys = Keys::new();
    let (caps, out) = sealed(&keys, 1, OPUS, vec![frame(0, 30), frame(1, 30)]);
    let mut dec = Bench::new(keys.dec(), &caps);
    dec.h.push(out[0].clone()).unwrap();
    dec.h.pull().unwrap();
    for number in 0..50_000u64 {
        // Extended KID of 8 bytes, CTR 0.
        let mut made_up = vec![0xf0];
        made_up.extend((number | 1 << 63).to_be_bytes());
        made_up.extend([0; 40]);
        dec.h
            .push(timed(gst::Buffer::from_mut_slice(made_up), number))
            .unwrap();
        while dec.h.try_pull_event().is_some() {}
    }
    assert_eq!(dec.stat("no-key"), 50_000);
    dec.h.push(out[1].clone()).unwrap();
    dec.h.pull().unwrap();
    dec.h.push(out[0].clone()).unwrap();
    assert_eq!(
        dec.stat("replayed"),
        1,
        "the flood did not push the replay window out"
    );
}

#[test]
fn a_dropped_frame_leaves_a_gap_and_a_discontinuity() {
    let keys = Keys::new();
    let (caps, out) = sealed(&keys, 1, OPUS, (0..3).map(|n| frame(n, 30)).collect());
    let mut dec = Bench::new(keys.dec(), &caps);
    dec.h.push(out[0].clone()).unwrap();
    dec.h.pull().unwrap();
    let mut bad = bytes(&out[1]);
    *bad.last_mut().unwrap() ^= 1;
    dec.h.push(with_bytes(&out[1], bad)).unwrap();
    let gaps = dec.events(gst::EventType::Gap);
    match gaps[..] {
        [ref gap] => match gap.view() {
            gst::EventView::Gap(gap) => assert_eq!(
                gap.get(),
                (
                    gst::ClockTime::from_mseconds(20),
                    Some(gst::ClockTime::from_mseconds(20))
                )
            ),
            _ => unreachable!(),
        },
        _ => panic!("{gaps:?}"),
    }
    dec.h.push(out[2].clone()).unwrap();
    assert!(dec.h.pull().unwrap().flags().contains(gst::BufferFlags::DISCONT));
}

#[test]
fn a_lost_video_frame_asks_for_a_keyframe_once_a_second() {
    let keys = Keys::new();
    let frames = (0..10)
        .map(|n| if n == 0 { vp8_key(n, 40) } else { vp8_delta(n, 40) })
        .collect();
    let (caps, out) = sealed(&keys, 1, VP8, frames);
    let mut dec = Bench::new(keys.dec(), &caps);
    dec.h.push(out[0].clone()).unwrap();
    for sealed in &out[1..5] {
        let mut bad = bytes(sealed);
        *bad.last_mut().unwrap() ^= 1;
        dec.h.push(with_bytes(sealed, bad)).unwrap();
    }
    let requests = std::iter::from_fn(|| dec.h.try_pull_upstream_event())
        .filter(|e| e.structure().is_some_and(|s| s.name() == "GstForceKeyUnit"))
        .count();
    assert_eq!(requests, 1);
    assert_eq!(dec.stat("keyframe-requests"), 1);
}

#[test]
fn a_discontinuity_before_sframedec_asks_for_a_keyframe_too() {
    let keys = Keys::new();
    let (caps, mut out) = sealed(&keys, 1, VP8, vec![vp8_key(0, 40), vp8_delta(1, 40)]);
    let mut dec = Bench::new(keys.dec(), &caps);
    dec.h.push(out.remove(0)).unwrap();
    let mut after_loss = out.remove(0);
    after_loss.make_mut().set_flags(gst::BufferFlags::DISCONT);
    dec.h.push(after_loss).unwrap();
    assert_eq!(dec.stat("keyframe-requests"), 1);
}

#[test]
fn delta_flags_and_size_come_from_the_opened_frame() {
    let keys = Keys::new();
    let frames = vec![vp8_key(0, 40), vp8_delta(1, 40), vp8_key(2, 40)];
    let (_, out) = sealed(&keys, 1, VP8, frames);
    // What a depayloader knows: no size, no flags.
    let mut dec = Bench::new(keys.dec(), "application/x-sframe,original-media-type=video/x-vp8");
    let flags: Vec<bool> = out
        .into_iter()
        .map(|mut sealed| {
            sealed.make_mut().unset_flags(gst::BufferFlags::DELTA_UNIT);
            dec.h.push(sealed).unwrap();
            dec.h
                .pull()
                .unwrap()
                .flags()
                .contains(gst::BufferFlags::DELTA_UNIT)
        })
        .collect();
    assert_eq!(flags, [false, true, false]);
    let caps = dec.h.sinkpad().unwrap().current_caps().unwrap();
    assert_eq!(
        caps.to_string(),
        "video/x-vp8, width=(int)320, height=(int)240, framerate=(fraction)0/1"
    );
}

#[test]
fn frames_before_the_first_keyframe_wait_for_a_requested_one() {
    let keys = Keys::new();
    let (_, out) = sealed(&keys, 1, VP8, vec![vp8_delta(0, 40), vp8_key(1, 40)]);
    let mut dec = Bench::new(keys.dec(), "application/x-sframe,original-media-type=video/x-vp8");
    dec.h.push(out[0].clone()).unwrap();
    assert!(dec.h.try_pull().is_none());
    assert_eq!(
        (dec.stat("waiting-keyframe"), dec.stat("keyframe-requests")),
        (1, 1)
    );
    dec.h.push(out[1].clone()).unwrap();
    dec.h.pull().unwrap();
}

#[test]
fn a_clear_prefix_stays_readable_and_authenticated() {
    let keys = Keys::new();
    for (caps, plain, clear) in [
        (VP8, vp8_key(0, 60), 10),
        (VP8, vp8_delta(1, 60), 3),
        (OPUS, frame(2, 60), 1),
        (OPUS, frame(2, 1), 1),
    ] {
        let enc = keys.enc(1);
        enc.set_property_from_str("clear-prefix", "codec");
        let mut enc = Bench::new(enc, caps);
        enc.h.push(plain.clone()).unwrap();
        let sealed = enc.h.pull().unwrap();
        assert_eq!(bytes(&sealed)[..clear], bytes(&plain)[..clear]);
        let caps = enc.h.sinkpad().unwrap().current_caps().unwrap().to_string();
        assert!(caps.contains("clear-prefix=(string)codec"), "{caps}");

        let mut dec = Bench::new(keys.dec(), &caps);
        for at in 0..clear {
            let mut bad = bytes(&sealed);
            // Not VP8's keyframe bit, which moves the whole frame.
            bad[at] ^= 0x40;
            dec.h.push(with_bytes(&sealed, bad)).unwrap();
        }
        assert_eq!(dec.stat("auth-failed"), clear as u64);
        dec.h.push(sealed.clone()).unwrap();
        assert_eq!(bytes(&dec.h.pull().unwrap()), bytes(&plain));

        // What a stock depayloader gives back.
        let dec = keys.dec();
        dec.set_property_from_str("clear-prefix", "codec");
        let mut dec = Bench::new(dec, caps_name(&plain));
        dec.h.push(sealed).unwrap();
        let opened = dec.h.try_pull();
        if clear != 3 {
            assert_eq!(bytes(&opened.unwrap()), bytes(&plain));
        }
    }
}

fn caps_name(plain: &gst::Buffer) -> &'static str {
    if bytes(plain).get(3..6) == Some(&[0x9d, 0x01, 0x2a]) || bytes(plain)[0] == VP8_DELTA {
        "video/x-vp8"
    } else {
        "audio/x-opus"
    }
}

#[test]
fn a_frame_shorter_than_its_clear_prefix_is_dropped() {
    let keys = Keys::new();
    let enc = keys.enc(1);
    enc.set_property_from_str("clear-prefix", "codec");
    let mut enc = Bench::new(enc, VP8);
    for short in [vec![], vec![0x10; 9], vec![0x11; 2]] {
        enc.h.push(timed(gst::Buffer::from_mut_slice(short), 0)).unwrap();
    }
    assert!(enc.h.try_pull().is_none());
    assert_eq!(enc.stat("dropped-malformed"), 3);
}

#[test]
fn the_meta_names_the_key() {
    let keys = Keys::new();
    let (caps, out) = sealed(&keys, 2, OPUS, vec![frame(0, 30)]);
    let mut dec = Bench::new(keys.dec(), &caps);
    dec.h.push(out[0].clone()).unwrap();
    let opened = dec.h.pull().unwrap();
    let meta = gst_e2ee_common::meta::SFrameMeta::of(&opened).unwrap();
    assert_eq!((meta.kid, meta.epoch, meta.sender.as_str()), (2, 0, ""));
    assert_eq!(meta.leaf, gst_e2ee_common::meta::NO_LEAF);
    // It is an ordinary custom meta, and survives a copy.
    assert_eq!(
        gst_e2ee_common::meta::SFrameMeta::of(&opened.copy_deep().unwrap()),
        Some(meta)
    );
}

#[test]
fn lists_are_sealed_and_opened_as_lists() {
    let keys = Keys::new();
    let mut enc = Bench::new(keys.enc(1), OPUS);
    let mut list = gst::BufferList::new();
    for number in 0..5 {
        list.get_mut().unwrap().add(frame(number, 30));
    }
    enc.h.sinkpad();
    let pad = enc.element.static_pad("sink").unwrap();
    pad.chain_list(list).unwrap();
    let mut sealed = gst::BufferList::new();
    for _ in 0..5 {
        sealed.get_mut().unwrap().add(enc.h.pull().unwrap());
    }
    let caps = enc.h.sinkpad().unwrap().current_caps().unwrap().to_string();
    let mut dec = Bench::new(keys.dec(), &caps);
    dec.element
        .static_pad("sink")
        .unwrap()
        .chain_list(sealed)
        .unwrap();
    for number in 0..5 {
        assert_eq!(bytes(&dec.h.pull().unwrap()), bytes(&frame(number, 30)));
    }
}

#[test]
fn statistics_are_posted_at_eos_and_when_stopping() {
    let keys = Keys::new();
    let mut enc = Bench::new(keys.enc(1), OPUS);
    enc.h.push(frame(0, 30)).unwrap();
    enc.h.push_event(gst::event::Eos::new());
    let stats = enc.messages("sframeenc-stats");
    assert_eq!(stats[0].get::<u64>("sealed").unwrap(), 1);
    assert_eq!(stats[0].get::<u64>("bytes").unwrap(), 30);
    enc.element.set_state(gst::State::Ready).unwrap();
    assert_eq!(enc.messages("sframeenc-stats").len(), 1);

    let (caps, out) = sealed(&keys, 2, OPUS, vec![frame(0, 30)]);
    let mut dec = Bench::new(keys.dec(), &caps);
    dec.h.push(out[0].clone()).unwrap();
    dec.h.push_event(gst::event::Eos::new());
    assert_eq!(
        dec.messages("sframedec-stats")[0].get::<u64>("opened").unwrap(),
        1
    );
    dec.element.set_state(gst::State::Ready).unwrap();
    assert_eq!(
        dec.messages("sframedec-stats")[0].get::<u64>("opened").unwrap(),
        1
    );
}

#[test]
fn a_mistake_in_the_set_up_is_told_once() {
    let keys = Keys::new();
    let other = Keys::with(&format!("1 ff{KEY_HEX}"));
    let (caps, out) = sealed(
        &keys,
        1,
        "audio/x-alaw,rate=8000,channels=1",
        (0..3).map(|n| frame(n, 30)).collect(),
    );
    let mut dec = Bench::new(other.dec(), &caps);
    for sealed in out {
        dec.h.push(sealed).unwrap();
    }
    let warnings: Vec<_> = dec
        .bus
        .iter_filtered(&[gst::MessageType::Warning])
        .map(|message| match message.view() {
            gst::MessageView::Warning(warning) => warning.error().to_string(),
            _ => unreachable!(),
        })
        .collect();
    assert_eq!(
        warnings,
        ["frames of KID 1 do not open: the sender has another key or another cipher-suite"]
    );
}

#[test]
fn wrong_or_missing_caps_are_told_once() {
    let keys = Keys::new();
    let avc = "video/x-h264,stream-format=avc,alignment=au";
    let mut enc = Bench::new(keys.enc(1), avc);
    for number in 0..3 {
        assert!(enc.h.push(frame(number, 30)).is_err());
    }
    let errors = enc.bus.iter_filtered(&[gst::MessageType::Error]).count();
    assert_eq!(errors, 1);

    for (element, text) in [
        (keys.enc(2), "must know what it seals"),
        (keys.dec(), "must know what was sealed"),
    ] {
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        element.set_state(gst::State::Playing).unwrap();
        let pad = element.static_pad("sink").unwrap();
        pad.send_event(gst::event::StreamStart::new("no caps"));
        pad.send_event(gst::event::Segment::new(
            &gst::FormattedSegment::<gst::ClockTime>::new(),
        ));
        assert!(pad.chain(frame(0, 30)).is_err());
        let error = bus.iter_filtered(&[gst::MessageType::Error]).next().unwrap();
        match error.view() {
            gst::MessageView::Error(error) => assert!(error.error().to_string().contains(text)),
            _ => unreachable!(),
        }
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn eos_before_any_frame_arrives_downstream() {
    let keys = Keys::new();
    let mut dec = Bench::new(keys.dec(), "application/x-sframe,original-media-type=video/x-vp8");
    dec.h.push_event(gst::event::Eos::new());
    assert_eq!(dec.events(gst::EventType::Eos).len(), 1);
}

const VP8_DELTA: u8 = 0x31;

fn vp8_key(number: u64, size: usize) -> gst::Buffer {
    let mut data = bytes(&frame(number, size));
    data[..10].copy_from_slice(&[0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00]);
    timed(gst::Buffer::from_mut_slice(data), number)
}

fn vp8_delta(number: u64, size: usize) -> gst::Buffer {
    let mut data = bytes(&frame(number, size));
    data[0] = VP8_DELTA;
    let mut delta = timed(gst::Buffer::from_mut_slice(data), number);
    delta.make_mut().set_flags(gst::BufferFlags::DELTA_UNIT);
    delta
}
