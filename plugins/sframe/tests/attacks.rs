//! Ways to break the elements, each found by trying: they must stay shut.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy sees helpers of tests as ordinary code"
)]

mod common;

use common::source::TestSource;
use common::*;
use gst::prelude::*;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

fn limit<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || tx.send(f()));
    rx.recv_timeout(Duration::from_secs(5)).ok()
}

/// A shared read-only sub-memory, as demuxers and stock depayloaders give.
#[test]
fn readonly_memory_opens() {
    let keys = Keys::new();
    let (caps, sealed) = sealed(&keys, 1, OPUS, (0..2).map(|n| frame(n, 40)).collect());
    let mut dec = Bench::new(keys.dec(), &caps);
    let data = bytes(&sealed[0]);
    let ro = timed(gst::Buffer::from_slice(data), 0);
    dec.h.push(ro).unwrap();
    let sub = sealed[1].copy_region(gst::BufferCopyFlags::MEMORY, ..).unwrap();
    drop(sealed);
    dec.h.push(sub).unwrap();
    assert_eq!(dec.stat("opened"), 2);
}

#[test]
fn second_caps_before_first_keyframe_keeps_segment() {
    let keys = Keys::new();
    let vp8 = [
        0x50u8, 0x42, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 0x00, 1, 2, 3,
    ];
    let (_caps, sealed) = sealed(
        &keys,
        1,
        "video/x-vp8",
        vec![timed(gst::Buffer::from_mut_slice(vp8.to_vec()), 0)],
    );
    let dec = keys.dec();
    let mut b = Bench::new(dec, "application/x-sframe,original-media-type=video/x-vp8");
    b.h.push_event(gst::event::Caps::new(
        &"application/x-sframe,original-media-type=video/x-vp8,ssrc=(uint)5"
            .parse::<gst::Caps>()
            .unwrap(),
    ));
    let _ = b.h.push(sealed[0].clone());
    let types: Vec<_> = std::iter::from_fn(|| b.h.try_pull_event())
        .map(|e| e.type_())
        .collect();
    assert!(types.contains(&gst::EventType::Segment));
}

#[test]
fn chain_does_not_queue_without_bound_when_downstream_blocks() {
    let source = TestSource::new();
    let sender = TestSource::new();
    sender.set_sender(Some((
        1,
        TestSource::key(b"unbounded queue.", 1, 1, "ann"),
        0..100_000,
    )));
    let mut enc = Bench::new(sender.element("sframeenc"), OPUS);
    let sealed: Vec<_> = (0..3000)
        .map(|n| {
            enc.h.push(frame(n, 100)).unwrap();
            enc.h.pull().unwrap()
        })
        .collect();
    let dec = source.element("sframedec");
    dec.set_property("hold-time", 3_600_000_000_000u64);
    let mut b = Bench::new(
        dec.clone(),
        "application/x-sframe,original-media-type=audio/x-opus,channels=2",
    );
    b.h.push(sealed[0].clone()).unwrap();
    // downstream blocks, then the key comes
    let pad = dec.static_pad("src").unwrap();
    let probe = pad
        .add_probe(gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER, |_, _| {
            gst::PadProbeReturn::Ok
        })
        .unwrap();
    source.set_receiver(1, Some(TestSource::key(b"unbounded queue.", 1, 1, "ann")));
    source.changed();
    std::thread::sleep(Duration::from_millis(200));
    let pushed = Arc::new(Mutex::new(0));
    let p2 = pushed.clone();
    let sink = dec.static_pad("sink").unwrap();
    std::thread::spawn(move || {
        for s in &sealed[1..] {
            sink.chain(s.clone()).unwrap();
            *p2.lock().unwrap() += 1;
        }
    });
    std::thread::sleep(Duration::from_millis(1500));
    let n = *pushed.lock().unwrap();
    pad.remove_probe(probe);
    std::thread::sleep(Duration::from_millis(300));
    assert!(n < 100, "{n}");
}

#[test]
fn hold_count_comes_back_to_zero() {
    use gstsframe::hold::Hold;
    let now = std::time::Instant::now();
    let mut hold = Hold::<u8, ()>::new(2);
    for _ in 0..3 {
        hold.push_frame(0, 1, 1, Some(1), now);
        hold.push_frame(1, 1, 1, None, now);
        hold.push_frame(2, 1, 1, Some(1), now);
        hold.take(1);
        hold.take(0);
        hold.take(0);
    }
    assert!(hold.is_empty());
    assert!(!hold.is_over(), "an empty queue is over");
}

#[test]
fn the_longest_hold_time_is_no_overflow() {
    let source = TestSource::new();
    let dec = source.element("sframedec");
    // What gst-launch makes of -1 is out of range; the longest that is not must work.
    dec.set_property("hold-time", gst::ClockTime::MAX.nseconds());
    let mut dec = Bench::new(
        dec,
        "application/x-sframe,original-media-type=audio/x-opus,channels=2",
    );
    let (_, out) = sealed(&Keys::new(), 1, OPUS, vec![frame(0, 30)]);
    dec.h.push(out[0].clone()).unwrap();
    assert_eq!(dec.stat("held"), 1);
    dec.element.set_state(gst::State::Null).unwrap();
}

#[test]
fn reused_counters_error_while_a_sync_handler_reads_stats() {
    let source = TestSource::new();
    source.set_sender(Some((
        1,
        TestSource::key(b"reuse with lock.", 1, 1, "ann"),
        0..10,
    )));
    let mut a = Bench::new(source.element("sframeenc"), OPUS);
    a.h.push(frame(0, 10)).unwrap();
    let done = limit(move || {
        let enc = source.element("sframeenc");
        let mut b = Bench::new(enc.clone(), OPUS);
        b.bus.set_sync_handler(move |_, m| {
            if m.type_() == gst::MessageType::Error {
                let _ = enc.property::<gst::Structure>("stats");
            }
            gst::BusSyncReply::Pass
        });
        let _ = b.h.push(frame(0, 10));
    });
    assert!(done.is_some(), "deadlock");
}

#[test]
fn stream_status_handler_reads_stats() {
    let source = TestSource::new();
    let done = limit(move || {
        let sender = TestSource::new();
        sender.set_sender(Some((
            1,
            TestSource::key(b"status with lock", 1, 1, "ann"),
            0..10,
        )));
        let mut enc = Bench::new(sender.element("sframeenc"), OPUS);
        enc.h.push(frame(0, 10)).unwrap();
        let s = enc.h.pull().unwrap();
        let dec = source.element("sframedec");
        let mut b = Bench::new(
            dec.clone(),
            "application/x-sframe,original-media-type=audio/x-opus,channels=2",
        );
        b.bus.set_sync_handler(move |_, m| {
            if m.type_() == gst::MessageType::StreamStatus {
                let _ = dec.property::<gst::Structure>("stats");
            }
            gst::BusSyncReply::Pass
        });
        let _ = b.h.push(s);
    });
    assert!(done.is_some(), "deadlock");
}

#[test]
fn allocation_query_passes_through_enc() {
    let keys = Keys::new();
    let enc = keys.enc(1);
    let b = Bench::new(enc.clone(), OPUS);
    let seen = Arc::new(Mutex::new(false));
    let s2 = seen.clone();
    enc.static_pad("src").unwrap().add_probe(
        gst::PadProbeType::QUERY_DOWNSTREAM | gst::PadProbeType::PUSH,
        move |_, i| {
            if let Some(gst::PadProbeData::Query(q)) = &i.data
                && q.type_() == gst::QueryType::Allocation
            {
                *s2.lock().unwrap() = true;
            }
            gst::PadProbeReturn::Ok
        },
    );
    let mut q = gst::query::Allocation::new(Some(&OPUS.parse::<gst::Caps>().unwrap()), true);
    let _ = b.h.srcpad().unwrap().peer_query(&mut q);
    assert!(
        !*seen.lock().unwrap(),
        "the encoder would take downstream's memory for plaintext"
    );
}

#[test]
fn caps_queued_in_a_hold_survive_a_flush() {
    let source = TestSource::new();
    let sender = TestSource::new();
    sender.set_sender(Some((
        1,
        TestSource::key(b"flush in a hold.", 1, 1, "ann"),
        0..100,
    )));
    let mut enc = Bench::new(sender.element("sframeenc"), OPUS);
    let s: Vec<_> = (0..3)
        .map(|n| {
            enc.h.push(frame(n, 30)).unwrap();
            enc.h.pull().unwrap()
        })
        .collect();
    let dec = source.element("sframedec");
    dec.set_property("hold-time", 3_600_000_000_000u64);
    let mut b = Bench::new(
        dec,
        "application/x-sframe,original-media-type=audio/x-opus,channels=2",
    );
    b.h.push(s[0].clone()).unwrap();
    b.h.push_event(gst::event::Caps::new(
        &"application/x-sframe,original-media-type=text/x-raw,format=utf8"
            .parse::<gst::Caps>()
            .unwrap(),
    ));
    b.h.push_event(gst::event::FlushStart::new());
    b.h.push_event(gst::event::FlushStop::new(true));
    b.h.push_event(gst::event::Segment::new(
        &gst::FormattedSegment::<gst::ClockTime>::new(),
    ));
    source.set_receiver(1, Some(TestSource::key(b"flush in a hold.", 1, 1, "ann")));
    source.changed();
    let _ = b.h.push(s[1].clone());
    let _ = b.h.pull();
    let caps = b
        .element
        .static_pad("src")
        .unwrap()
        .current_caps()
        .unwrap()
        .to_string();
    assert!(caps.starts_with("text/x-raw"), "{caps}");
}

#[test]
fn a_source_that_tells_of_changes_while_asked() {
    let source = TestSource::new();
    let me = source.clone();
    source.connect("receiver-key", false, move |_| {
        me.changed();
        Some(None::<gst::Structure>.to_value())
    });
    let done = limit(move || {
        let sender = TestSource::new();
        sender.set_sender(Some((
            1,
            TestSource::key(b"change on asking", 1, 1, "ann"),
            0..10,
        )));
        let mut enc = Bench::new(sender.element("sframeenc"), OPUS);
        enc.h.push(frame(0, 10)).unwrap();
        let s = enc.h.pull().unwrap();
        let dec = source.element("sframedec");
        dec.set_property("hold-frames", 0u32);
        let mut b = Bench::new(
            dec,
            "application/x-sframe,original-media-type=audio/x-opus,channels=2",
        );
        let _ = b.h.push(s);
    });
    assert!(done.is_some(), "endless asking");
}

#[test]
fn bad_original_media_type() {
    init();
    let keys = Keys::new();
    let b = Bench::new(
        keys.dec(),
        "application/x-sframe,original-media-type=(string)\"not a name\"",
    );
    assert!(b.error().is_some());
}

#[test]
fn rtp_video_asks_for_a_keyframe_at_the_first_key() {
    let source = TestSource::new();
    let enc = source.element("sframeenc");
    let mut b = Bench::new(
        enc,
        "application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=96",
    );
    let rtp = |n: u8| {
        timed(
            gst::Buffer::from_mut_slice(vec![0x80, 96, 0, n, 0, 0, 0, 0, 0, 0, 0, 1, 9, 9, 9]),
            n.into(),
        )
    };
    b.h.push(rtp(0)).unwrap();
    source.set_sender(Some((
        1,
        TestSource::key(b"keyframe in rtp.", 1, 1, "ann"),
        0..10,
    )));
    source.changed();
    b.h.push(rtp(1)).unwrap();
    let n = std::iter::from_fn(|| b.h.try_pull_upstream_event())
        .filter(|e| e.type_() == gst::EventType::CustomUpstream)
        .count();
    let out = b.h.pull().unwrap();
    assert_eq!(n, 1);
    assert!(out.flags().contains(gst::BufferFlags::DISCONT));
}

#[test]
fn gap_of_a_discarded_frame_keeps_its_place() {
    let source = TestSource::new();
    let s2 = TestSource::new();
    let mk = |kid: u64, key: &[u8]| {
        s2.set_sender(Some((kid, TestSource::key(key, 1, 1, "ann"), 0..100)));
        let mut enc = Bench::new(s2.element("sframeenc"), OPUS);
        (0..10)
            .map(|n| {
                enc.h.push(frame(n, 30)).unwrap();
                enc.h.pull().unwrap()
            })
            .collect::<Vec<_>>()
    };
    let one = mk(1, b"gap in its place");
    let two = mk(2, b"gap in its plac2");
    source.set_receiver(2, Some(TestSource::key(b"gap in its plac2", 1, 1, "ann")));
    let dec = source.element("sframedec");
    dec.set_property("hold-time", 3_600_000_000_000u64);
    let mut b = Bench::new(
        dec,
        "application/x-sframe,original-media-type=audio/x-opus,channels=2",
    );
    let order = Arc::new(Mutex::new(vec![]));
    let o2 = order.clone();
    b.element.static_pad("src").unwrap().add_probe(
        gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM,
        move |_, i| {
            match &i.data {
                Some(gst::PadProbeData::Buffer(buf)) => o2.lock().unwrap().push(("buffer", buf.pts())),
                Some(gst::PadProbeData::Event(e)) => {
                    if let gst::EventView::Gap(g) = e.view() {
                        o2.lock().unwrap().push(("gap", Some(g.get().0)))
                    }
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        },
    );
    b.h.push(one[0].clone()).unwrap();
    let mut bad = bytes(&two[5]);
    let l = bad.len();
    bad[l - 1] ^= 1;
    b.h.push(with_bytes(&two[5], bad)).unwrap();
    b.wait("auth", |b| b.stat("auth-failed") == 1);
    std::thread::sleep(Duration::from_millis(50));
    source.set_receiver(1, Some(TestSource::key(b"gap in its place", 1, 1, "ann")));
    source.changed();
    let _ = b.h.pull();
    assert_eq!(order.lock().unwrap()[0].0, "buffer");
}

#[test]
fn a_sender_source_that_tells_of_changes_while_asked() {
    let source = TestSource::new();
    let me = source.clone();
    source.connect("sender-key", false, move |_| {
        me.changed();
        Some(None::<gst::Structure>.to_value())
    });
    let done = limit(move || {
        let mut enc = Bench::new(source.element("sframeenc"), OPUS);
        let _ = enc.h.push(frame(0, 10));
    });
    assert!(done.is_some(), "endless asking");
}

#[test]
fn codec_data_is_refused_where_it_cannot_be_left_out_and_left_out_else() {
    let keys = Keys::new();
    let raw_aac = "audio/mpeg,mpegversion=4,stream-format=raw,codec_data=(buffer)1190,rate=48000,channels=2";
    let enc = Bench::new(keys.enc(1), raw_aac);
    assert!(enc.error().unwrap().contains("aacparse"));
    let vorbis =
        "application/x-rtp,media=audio,encoding-name=VORBIS,clock-rate=48000,configuration=(string)AAAAAQ1";
    let enc = Bench::new(keys.enc(2), vorbis);
    let caps = enc.element.static_pad("src").unwrap().current_caps().unwrap();
    assert!(!caps.to_string().contains("configuration"), "{caps}");
}

#[test]
fn an_old_meta_does_not_speak_for_the_sender() {
    use gst_e2ee_common::meta::SFrameMeta;
    let keys = Keys::new();
    let (caps, sealed) = sealed(&keys, 1, OPUS, vec![frame(0, 30)]);
    let mut b = Bench::new(keys.dec(), &caps);
    let mut s = sealed[0].clone();
    SFrameMeta {
        kid: 99,
        epoch: 9,
        leaf: 9,
        sender: "mallory",
    }
    .add_to(s.make_mut());
    b.h.push(s).unwrap();
    let out = b.h.pull().unwrap();
    let m = SFrameMeta::of(&out).unwrap();
    assert_eq!(m.kid, 1);
}

#[test]
fn a_replaced_counter_file_is_noticed() {
    use gstsframe::counter_file::*;
    let dir = tempfile::tempdir().unwrap();
    let p = dir.path().join("c");
    let f = Fingerprint::new(b"0123456789abcdef", 1);
    let mut a = CounterFile::open(&p, f).unwrap();
    let _ = a.lease().unwrap();
    let copy = std::fs::read(&p).unwrap();
    std::fs::write(dir.path().join("c.new"), copy).unwrap();
    std::fs::rename(dir.path().join("c.new"), &p).unwrap();
    let mut b = CounterFile::open(&p, f).unwrap();
    let rb = b.lease().unwrap();
    let ra = a.lease();
    assert!(ra.is_err() || ra.unwrap() != rb);
}

#[test]
fn a_refused_new_key_does_not_leave_the_old_one_in_use() {
    let source = TestSource::new();
    source.set_sender(Some((
        2,
        TestSource::key(b"already used up!", 1, 1, "ann"),
        0..10,
    )));
    let _other = {
        let mut b = Bench::new(source.element("sframeenc"), OPUS);
        b.h.push(frame(0, 10)).unwrap();
        b
    };
    source.set_sender(Some((
        1,
        TestSource::key(b"the old epoch...", 1, 1, "ann"),
        0..10,
    )));
    let mut b = Bench::new(source.element("sframeenc"), OPUS);
    b.h.push(frame(0, 10)).unwrap();
    let _ = b.h.pull();
    source.set_sender(Some((
        2,
        TestSource::key(b"already used up!", 2, 1, "ann"),
        0..10,
    )));
    source.changed();
    assert!(b.h.push(frame(1, 10)).is_err());
    let again = b.h.push(frame(2, 10));
    assert!(again.is_err(), "sealed with the old key");
}
