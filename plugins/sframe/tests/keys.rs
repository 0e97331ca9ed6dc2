//! Where keys come from: key files, counter files, and key sources that get, change and lose keys in mid-stream.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy sees helpers of tests as ordinary code"
)]

mod common;

use common::source::TestSource;
use common::*;
use gst::prelude::*;
use gst_e2ee_common::header::Header;
use gst_e2ee_common::key_source::KeySource;
use gst_e2ee_common::meta::{NO_LEAF, SFrameMeta};
use std::collections::HashSet;

const SEALED_OPUS: &str = "application/x-sframe,original-media-type=audio/x-opus,channels=2";

fn header(sealed: &gst::BufferRef) -> (u64, u64) {
    let (header, _) = Header::parse(&bytes(sealed)).unwrap();
    (header.kid, header.ctr)
}

/// Starts an element that must not start; its error.
fn start_error(element: &gst::Element) -> String {
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Paused).is_err());
    element.set_state(gst::State::Null).unwrap();
    bus.iter()
        .find_map(|message| match message.view() {
            gst::MessageView::Error(e) => Some(e.error().to_string()),
            _ => None,
        })
        .unwrap()
}

// Static keys

#[test]
fn without_any_key_neither_starts_and_both_say_what_to_do() {
    init();
    for name in ["sframeenc", "sframedec"] {
        let element = gst::ElementFactory::make(name).build().unwrap();
        let error = start_error(&element);
        assert!(
            error.contains("gst.sframe.keyring/default") && error.contains("key-file="),
            "{error}"
        );
    }
}

#[test]
fn a_key_file_needs_a_kid_that_it_has() {
    let keys = Keys::new();
    let enc = gst::ElementFactory::make("sframeenc").build().unwrap();
    enc.set_property("key-file", keys.file().to_str().unwrap());
    let error = start_error(&enc);
    assert!(
        error.contains("needs kid=") && error.contains("[1, 2, 3]"),
        "{error}"
    );
    let error = start_error(&keys.enc(8));
    assert!(error.contains("no key with kid 8"), "{error}");
}

#[test]
fn a_second_sender_with_the_same_key_and_kid_does_not_start() {
    let keys = Keys::new();
    let first = keys.enc(1);
    first.set_state(gst::State::Paused).unwrap();
    let error = start_error(&keys.enc(1));
    assert!(error.contains("another sframeenc"), "{error}");
    first.set_state(gst::State::Null).unwrap();
    let second = keys.enc(1);
    second.set_state(gst::State::Paused).unwrap();
    second.set_state(gst::State::Null).unwrap();
}

#[test]
fn where_counters_cannot_be_kept_it_does_not_start() {
    let keys = Keys::new();
    let enc = keys.enc(1);
    // Below a file nothing can be made, not even by root.
    let path = keys.file().join("counter");
    enc.set_property("counter-file", path.to_str().unwrap());
    let error = start_error(&enc);
    assert!(error.contains("cannot persist counters"), "{error}");
}

#[test]
fn no_counter_comes_twice_over_restarts_state_cycles_and_flushes() {
    let keys = Keys::new();
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let enc = keys.enc(1);
        let mut bench = Bench::new(enc, OPUS);
        for cycle in 0..3 {
            for number in 0..5 {
                bench.h.push(frame(number, 20)).unwrap();
                assert!(seen.insert(header(&bench.h.pull().unwrap())));
            }
            if cycle == 0 {
                bench.h.push_event(gst::event::FlushStart::new());
                bench.h.push_event(gst::event::FlushStop::new(true));
                bench.h.push_event(gst::event::Segment::new(
                    &gst::FormattedSegment::<gst::ClockTime>::new(),
                ));
            } else {
                bench.element.set_state(gst::State::Ready).unwrap();
                bench.element.set_state(gst::State::Playing).unwrap();
                bench.h.push_event(gst::event::StreamStart::new("again"));
                bench.h.set_src_caps_str(OPUS);
                bench.h.push_event(gst::event::Segment::new(
                    &gst::FormattedSegment::<gst::ClockTime>::new(),
                ));
            }
        }
    }
    assert_eq!(seen.len(), 45);
}

// The contract

#[test]
fn every_part_of_the_contract_can_be_called() {
    init();
    let object = TestSource::new();
    let source = KeySource::from_context(&object.context("x")).unwrap();
    assert!(source.sender_key("s").unwrap().is_none());
    assert_eq!(object.senders_asked(), ["s"]);
    assert!(source.receiver_key(4).unwrap().is_none());
    object.set_sender(Some((5, TestSource::key(b"0123456789abcdef", 2, 1, ""), 10..20)));
    let key = source.sender_key("s").unwrap().unwrap();
    assert_eq!((key.kid, key.epoch, key.counters), (5, 2, 10..20));
    source.frame_opened(9);
    assert_eq!(object.opened(), [9]);
    assert_eq!(source.room_state(3).unwrap().map(|state| state.epoch), Some(3));
    assert_eq!(&source.sign("posture", b" data").unwrap()[..], b"posture data");
    let (told, heard) = std::sync::mpsc::channel();
    let connection = {
        let told = told.clone();
        source.connect_keys_changed(move |epoch| told.send(("keys", epoch)).unwrap())
    };
    let _room = source.connect_room_changed(move |epoch| told.send(("room", epoch)).unwrap());
    object.emit_by_name::<()>("keys-changed", &[&1u64]);
    object.emit_by_name::<()>("room-changed", &[&2u64]);
    drop(connection);
    object.emit_by_name::<()>("keys-changed", &[&3u64]);
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [("keys", 1), ("room", 2)]);
}

#[test]
fn an_object_that_is_no_key_source_is_refused_by_name() {
    init();
    let mut context = gst::Context::new("gst.sframe.keyring/default", true);
    let other = gst::Bin::new();
    context
        .get_mut()
        .unwrap()
        .structure_mut()
        .set("keyring", other.upcast_ref::<gst::Object>());
    let enc = gst::ElementFactory::make("sframeenc").build().unwrap();
    enc.set_context(&context);
    let error = start_error(&enc);
    assert!(error.contains("GstBin has no signal \"sender-key\""), "{error}");
}

#[test]
fn a_bin_hands_its_key_source_down() {
    init();
    let source = TestSource::new();
    let pipeline = gst::parse::launch("fakesrc num-buffers=1 ! sframeenc ! fakesink").unwrap();
    pipeline.set_context(&source.context("default"));
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    let other_id = gst::parse::launch("fakesrc ! sframeenc keyring=other ! fakesink").unwrap();
    other_id.set_context(&source.context("default"));
    assert!(other_id.set_state(gst::State::Paused).is_err());
    other_id.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_key_source_can_be_given_as_a_property() {
    let source = source_with(6, b"given by property");
    let enc = gst::ElementFactory::make("sframeenc")
        .property("key-source", &source)
        .build()
        .unwrap();
    let mut enc = Bench::new(enc, OPUS);
    let dec = gst::ElementFactory::make("sframedec")
        .property("key-source", &source)
        .build()
        .unwrap();
    let mut dec = Bench::new(dec, SEALED_OPUS);
    enc.h.push(frame(0, 30)).unwrap();
    dec.h.push(enc.h.pull().unwrap()).unwrap();
    assert_eq!(bytes(&dec.h.pull().unwrap()), bytes(&frame(0, 30)));
    let enc = gst::ElementFactory::make("sframeenc")
        .property("key-source", gst::Bin::new())
        .build()
        .unwrap();
    assert!(
        start_error(&enc).contains("no signal"),
        "the contract is checked all the same"
    );
}

// A key source while media runs

fn source_with(kid: u64, key: &[u8]) -> TestSource {
    init();
    let source = TestSource::new();
    let key = TestSource::key(key, 1, 4, "ann");
    source.set_sender(Some((kid, key.clone(), 0..1 << 40)));
    source.set_receiver(kid, Some(key));
    source
}

#[test]
fn keys_of_a_source_seal_and_open_and_the_meta_says_whose_they_are() {
    let source = source_with(0x1e, b"seal and open 01");
    let mut enc = Bench::new(source.element("sframeenc"), OPUS);
    let mut dec = Bench::new(source.element("sframedec"), SEALED_OPUS);
    for number in 0..3 {
        enc.h.push(frame(number, 30)).unwrap();
        let sealed = enc.h.pull().unwrap();
        assert_eq!(header(&sealed), (0x1e, number));
        dec.h.push(sealed).unwrap();
        let opened = dec.h.pull().unwrap();
        let meta = SFrameMeta::of(&opened).unwrap();
        assert_eq!(
            (meta.kid, meta.epoch, meta.leaf, meta.sender.as_str()),
            (0x1e, 1, 4, "ann")
        );
    }
    assert_eq!(source.opened(), [0x1e], "told once");
    assert_eq!(source.asked(), [0x1e], "asked once");
    assert_eq!(source.senders_asked().len(), 1);
}

#[test]
fn a_key_change_loses_no_frame_and_asks_for_a_keyframe() {
    let source = source_with(1, b"key change 00001");
    let mut enc = Bench::new(source.element("sframeenc"), VP8);
    let mut dec = Bench::new(
        source.element("sframedec"),
        "application/x-sframe,original-media-type=video/x-vp8,width=1,height=1",
    );
    let mut pass = |enc: &mut Bench, number| {
        enc.h.push(frame(number, 30)).unwrap();
        let sealed = enc.h.pull().unwrap();
        let kid = header(&sealed).0;
        dec.h.push(sealed).unwrap();
        assert_eq!(bytes(&dec.h.pull().unwrap()), bytes(&frame(number, 30)));
        kid
    };
    assert_eq!(pass(&mut enc, 0), 1);
    let next = TestSource::key(b"key change 00002", 2, 4, "ann");
    source.set_receiver(2, Some(next.clone()));
    source.set_sender(Some((2, next, 0..100)));
    source.changed();
    assert_eq!(pass(&mut enc, 1), 2);
    let requests = std::iter::from_fn(|| enc.h.try_pull_upstream_event())
        .filter(|e| e.structure().is_some_and(|s| s.name() == "GstForceKeyUnit"));
    assert_eq!(requests.count(), 1);
    assert_eq!(enc.stat("key-changes"), 2);
}

#[test]
fn a_source_that_repeats_counters_stops_the_sender() {
    let source = source_with(1, b"repeats counters");
    let mut enc = Bench::new(source.element("sframeenc"), OPUS);
    enc.h.push(frame(0, 30)).unwrap();
    // The same key again is no new range: the sender goes on counting.
    source.changed();
    enc.h.push(frame(1, 30)).unwrap();
    let sealed: Vec<_> = (0..2).map(|_| header(&enc.h.pull().unwrap())).collect();
    assert_eq!(sealed, [(1, 0), (1, 1)]);
    // A second sender that gets the same range is refused.
    let mut other = Bench::new(source.element("sframeenc"), OPUS);
    assert!(other.h.push(frame(0, 30)).is_err());
    assert!(
        other.error().unwrap().contains("already in use"),
        "fails closed, and says why"
    );
    // So is the same element after a restart.
    enc.element.set_state(gst::State::Ready).unwrap();
    enc.element.set_state(gst::State::Playing).unwrap();
    enc.h.push_event(gst::event::StreamStart::new("again"));
    enc.h.set_src_caps_str(OPUS);
    enc.h.push_event(gst::event::Segment::new(
        &gst::FormattedSegment::<gst::ClockTime>::new(),
    ));
    assert!(enc.h.push(frame(2, 30)).is_err());
}

#[test]
fn used_up_counters_are_asked_for_again() {
    let source = source_with(1, b"used up counters");
    let key = TestSource::key(b"used up counters", 1, 4, "ann");
    source.set_sender(Some((1, key.clone(), 0..2)));
    let mut enc = Bench::new(source.element("sframeenc"), OPUS);
    let mut pass = |number| {
        enc.h.push(frame(number, 30)).unwrap();
        header(&enc.h.pull().unwrap())
    };
    assert_eq!([pass(0), pass(1)], [(1, 0), (1, 1)]);
    source.set_sender(Some((1, key, 2..4)));
    assert_eq!([pass(2), pass(3)], [(1, 2), (1, 3)]);
}

#[test]
fn without_a_sender_key_frames_are_dropped_until_a_keyframe_under_the_first_key() {
    let source = source_with(1, b"first key later!");
    source.set_sender(None);
    let mut enc = Bench::new(source.element("sframeenc"), VP8);
    let delta = |number| {
        let mut frame = frame(number, 30);
        frame.make_mut().set_flags(gst::BufferFlags::DELTA_UNIT);
        frame
    };
    enc.h.push(frame(0, 30)).unwrap();
    enc.h.push(delta(1)).unwrap();
    assert!(enc.h.try_pull().is_none(), "never in clear");
    assert_eq!(enc.events(gst::EventType::Gap).len(), 2);
    let told = enc.messages("sframe-key-missing");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].get::<&str>("cause").unwrap(), "no-sender-key");

    source.set_sender(Some((
        1,
        TestSource::key(b"first key later!", 1, 4, "ann"),
        0..100,
    )));
    source.changed();
    enc.h.push(delta(2)).unwrap();
    assert!(enc.h.try_pull().is_none());
    let requested = std::iter::from_fn(|| enc.h.try_pull_upstream_event())
        .any(|e| e.structure().is_some_and(|s| s.name() == "GstForceKeyUnit"));
    assert!(requested);
    enc.h.push(frame(3, 30)).unwrap();
    enc.h.push(delta(4)).unwrap();
    assert_eq!(header(&enc.h.pull().unwrap()), (1, 0));
    assert_eq!(header(&enc.h.pull().unwrap()), (1, 1));
    assert_eq!(
        (enc.stat("dropped-no-key"), enc.stat("dropped-waiting-keyframe")),
        (2, 1)
    );
}

// Held frames

/// Sealed under KID 1 (number 0..5) and KID 2 (10..15), and a source that gives what the test adds.
fn two_keys(name: &[u8; 15]) -> (TestSource, Vec<gst::Buffer>, Vec<gst::Buffer>) {
    let seal = |kid: u64, first: u64| {
        let key = [&name[..], &[kid as u8]].concat();
        let source = source_with(kid, &key);
        let mut enc = Bench::new(source.element("sframeenc"), OPUS);
        (first..first + 5)
            .map(|number| {
                enc.h.push(frame(number, 30)).unwrap();
                enc.h.pull().unwrap()
            })
            .collect()
    };
    let (one, two) = (seal(1, 0), seal(2, 10));
    (TestSource::new(), one, two)
}

fn give(source: &TestSource, name: &[u8; 15], kid: u64) {
    let key = [&name[..], &[kid as u8]].concat();
    source.set_receiver(kid, Some(TestSource::key(&key, kid, 4, "ann")));
    source.changed();
}

fn never_expires(source: &TestSource) -> gst::Element {
    let dec = source.element("sframedec");
    dec.set_property("hold-time", gst::ClockTime::from_seconds(3600).nseconds());
    dec
}

/// Pulls `n` buffers, with a limit (the harness waits a minute at most).
fn pull(bench: &mut Bench, n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|_| bytes(&bench.h.pull().unwrap())).collect()
}

fn plain(numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    numbers.map(|number| bytes(&frame(number, 30))).collect()
}

#[test]
fn frames_wait_for_their_key_and_come_in_order_with_what_is_between() {
    let (source, one, _) = two_keys(b"wait in order..");
    let mut dec = Bench::new(never_expires(&source), SEALED_OPUS);
    for sealed in &one[..3] {
        dec.h.push(sealed.clone()).unwrap();
    }
    let tags = gst::TagList::new();
    dec.h.push_event(gst::event::Tag::new(tags));
    dec.h.push(one[3].clone()).unwrap();
    assert!(dec.h.try_pull().is_none());
    assert_eq!(dec.stat("held"), 4);
    give(&source, b"wait in order..", 1);
    assert_eq!(pull(&mut dec, 4), plain(0..4));
    assert_eq!(dec.events(gst::EventType::Tag).len(), 1);
    dec.h.push(one[4].clone()).unwrap();
    assert_eq!(pull(&mut dec, 1), plain(4..5));
    assert_eq!(dec.stat("no-key"), 0);
}

#[test]
fn the_hold_is_bounded_in_frames() {
    let (source, one, _) = two_keys(b"bounded frames.");
    let dec = never_expires(&source);
    dec.set_property("hold-frames", 3u32);
    let mut dec = Bench::new(dec, SEALED_OPUS);
    for sealed in one {
        dec.h.push(sealed).unwrap();
    }
    dec.wait("giving up the oldest two", |dec| dec.stat("no-key") == 2);
    give(&source, b"bounded frames.", 1);
    assert_eq!(pull(&mut dec, 3), plain(2..5));
    assert_eq!(dec.messages("sframe-key-missing").len(), 1);
}

#[test]
fn the_hold_is_bounded_in_time() {
    let (source, one, _) = two_keys(b"bounded in time");
    let dec = source.element("sframedec");
    dec.set_property("hold-time", gst::ClockTime::from_mseconds(20).nseconds());
    let mut dec = Bench::new(dec, SEALED_OPUS);
    for sealed in one {
        dec.h.push(sealed).unwrap();
    }
    dec.wait("giving up all", |dec| dec.stat("no-key") == 5);
    dec.wait("gaps", |_| true);
    assert!(dec.h.try_pull().is_none());
}

#[test]
fn holding_can_be_switched_off() {
    let (source, one, _) = two_keys(b"no hold at all.");
    let dec = source.element("sframedec");
    dec.set_property("hold-frames", 0u32);
    let mut dec = Bench::new(dec, SEALED_OPUS);
    dec.h.push(one[0].clone()).unwrap();
    assert_eq!((dec.stat("no-key"), dec.stat("held")), (1, 0));
}

#[test]
fn a_frame_that_opens_ends_the_wait_of_those_before_it() {
    let (source, one, two) = two_keys(b"overtaking keys");
    let mut dec = Bench::new(never_expires(&source), SEALED_OPUS);
    give(&source, b"overtaking keys", 2);
    // A made-up KID in front must not delay the real frames, though its hold would last an hour.
    dec.h.push(one[0].clone()).unwrap();
    dec.h.push(two[0].clone()).unwrap();
    assert_eq!(pull(&mut dec, 1), plain(10..11));
    dec.wait("dropping the overtaken frame", |dec| dec.stat("no-key") == 1);
    dec.h.push(two[1].clone()).unwrap();
    assert_eq!(pull(&mut dec, 1), plain(11..12));
}

#[test]
fn a_forged_frame_does_not_end_the_wait() {
    let (source, one, two) = two_keys(b"forged overtake");
    let mut dec = Bench::new(never_expires(&source), SEALED_OPUS);
    give(&source, b"forged overtake", 2);
    dec.h.push(one[0].clone()).unwrap();
    let mut forged = bytes(&two[0]);
    *forged.last_mut().unwrap() ^= 1;
    dec.h.push(with_bytes(&two[0], forged)).unwrap();
    dec.wait("dropping the forged frame", |dec| dec.stat("auth-failed") == 1);
    give(&source, b"forged overtake", 1);
    assert_eq!(pull(&mut dec, 1), plain(0..1));
    assert_eq!(dec.stat("no-key"), 0);
}

#[test]
fn eos_comes_after_the_held_frames() {
    let (source, one, _) = two_keys(b"eos drains hold");
    let dec = source.element("sframedec");
    dec.set_property("hold-time", gst::ClockTime::from_mseconds(20).nseconds());
    let mut dec = Bench::new(dec, SEALED_OPUS);
    dec.h.push(one[0].clone()).unwrap();
    assert!(dec.h.push_event(gst::event::Eos::new()));
    let start = std::time::Instant::now();
    let mut events = Vec::new();
    while !events.contains(&gst::EventType::Eos) {
        assert!(start.elapsed() < LIMIT);
        events.extend(std::iter::from_fn(|| dec.h.try_pull_event()).map(|e| e.type_()));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let at = |type_| events.iter().position(|&e| e == type_).unwrap();
    assert!(at(gst::EventType::Gap) < at(gst::EventType::Eos));
    assert_eq!(dec.stat("no-key"), 1);
}

#[test]
fn a_flush_discards_held_frames_and_keeps_the_replay_window() {
    let (source, one, two) = two_keys(b"flush the hold.");
    give(&source, b"flush the hold.", 2);
    let mut dec = Bench::new(never_expires(&source), SEALED_OPUS);
    dec.h.push(two[0].clone()).unwrap();
    pull(&mut dec, 1);
    dec.h.push(one[0].clone()).unwrap();
    dec.h.push_event(gst::event::FlushStart::new());
    dec.h.push_event(gst::event::FlushStop::new(true));
    dec.h.push_event(gst::event::Segment::new(
        &gst::FormattedSegment::<gst::ClockTime>::new(),
    ));
    give(&source, b"flush the hold.", 1);
    dec.h.push(two[0].clone()).unwrap();
    assert_eq!(dec.stat("replayed"), 1);
    dec.h.push(two[1].clone()).unwrap();
    assert_eq!(pull(&mut dec, 1), plain(11..12));
}

#[test]
fn stopping_while_frames_are_held_does_not_hang() {
    let (source, one, _) = two_keys(b"stop while hold");
    let mut dec = Bench::new(never_expires(&source), SEALED_OPUS);
    dec.h.push(one[0].clone()).unwrap();
    dec.element.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_seek_that_a_source_takes_lets_its_frames_come_again() {
    let keys = Keys::new();
    let (caps, out) = sealed(&keys, 1, OPUS, vec![frame(0, 30)]);
    let mut dec = Bench::new(keys.dec(), &caps);
    dec.h.push(out[0].clone()).unwrap();
    pull(&mut dec, 1);
    let seek = gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH,
        gst::SeekType::Set,
        gst::ClockTime::ZERO,
        gst::SeekType::None,
        gst::ClockTime::NONE,
    );
    let seqnum = seek.seqnum();
    assert!(dec.h.push_upstream_event(seek));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    dec.h
        .push_event(gst::event::FlushStart::builder().seqnum(seqnum).build());
    dec.h
        .push_event(gst::event::FlushStop::builder(true).seqnum(seqnum).build());
    dec.h
        .push_event(gst::event::Segment::builder(&segment).seqnum(seqnum).build());
    dec.h.push(out[0].clone()).unwrap();
    assert_eq!(pull(&mut dec, 1), plain(0..1));
    dec.h.push(out[0].clone()).unwrap();
    assert_eq!(dec.stat("replayed"), 1);
}

#[test]
fn a_pad_keeps_its_first_sender() {
    let (source, one, two) = two_keys(b"one pad, 1 send");
    give(&source, b"one pad, 1 send", 1);
    let mallory = [&b"one pad, 1 send"[..], &[2]].concat();
    source.set_receiver(2, Some(TestSource::key(&mallory, 1, 5, "mallory")));
    source.changed();
    let mut dec = Bench::new(source.element("sframedec"), SEALED_OPUS);
    dec.h.push(one[0].clone()).unwrap();
    pull(&mut dec, 1);
    dec.h.push(two[0].clone()).unwrap();
    assert!(dec.h.try_pull().is_none());
    assert_eq!(dec.stat("wrong-sender"), 1);
}

#[test]
fn a_key_that_is_gone_opens_no_more() {
    let (source, one, _) = two_keys(b"the key is gone");
    give(&source, b"the key is gone", 1);
    let dec = source.element("sframedec");
    dec.set_property("hold-frames", 0u32);
    let mut dec = Bench::new(dec, SEALED_OPUS);
    dec.h.push(one[0].clone()).unwrap();
    pull(&mut dec, 1);
    source.set_receiver(1, None);
    source.changed();
    dec.h.push(one[1].clone()).unwrap();
    assert_eq!(dec.stat("no-key"), 1);
    give(&source, b"the key is gone", 1);
    dec.h.push(one[0].clone()).unwrap();
    assert_eq!(dec.stat("replayed"), 1, "the window outlives the key");
    dec.h.push(one[2].clone()).unwrap();
    pull(&mut dec, 1);
}

#[test]
fn a_source_given_while_running_replaces_the_first() {
    let (first, one, two) = two_keys(b"another source.");
    give(&first, b"another source.", 1);
    let dec = never_expires(&first);
    let mut bench = Bench::new(dec.clone(), SEALED_OPUS);
    bench.h.push(one[0].clone()).unwrap();
    pull(&mut bench, 1);
    bench.h.push(two[0].clone()).unwrap();
    let second = TestSource::new();
    give(&second, b"another source.", 2);
    dec.set_context(&second.context("default"));
    assert_eq!(pull(&mut bench, 1), plain(10..11));
}

#[test]
fn static_keys_are_not_waited_for() {
    let keys = Keys::new();
    let foreign = Keys::with(&format!("9 {KEY_HEX}"));
    let (caps, out) = sealed(&foreign, 9, OPUS, vec![frame(0, 30)]);
    let mut dec = Bench::new(keys.dec(), &caps);
    dec.h.push(out[0].clone()).unwrap();
    assert_eq!((dec.stat("no-key"), dec.stat("held")), (1, 0));
    assert_eq!(NO_LEAF, u32::MAX);
}
