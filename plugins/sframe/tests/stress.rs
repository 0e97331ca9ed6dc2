//! Keys that come and go, flushes and state changes, all at once from several threads: nothing hangs, nothing comes out
//! of order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy sees helpers of tests as ordinary code"
)]

mod common;

use common::source::TestSource;
use common::*;
use gst::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn sealed_by(kid: u64, key: &[u8], n: u64) -> Vec<gst::Buffer> {
    let s = TestSource::new();
    s.set_sender(Some((kid, TestSource::key(key, 1, 1, "ann"), 0..1_000_000)));
    let mut enc = Bench::new(s.element("sframeenc"), OPUS);
    (0..n)
        .map(|n| {
            enc.h.push(frame(n, 30)).unwrap();
            enc.h.pull().unwrap()
        })
        .collect()
}

const SECONDS: u64 = 3;

fn run(flush: bool, cycle: bool) {
    init();
    let source = TestSource::new();
    let n = 20_000u64;
    // Each run has keys of its own: a range of counters is handed out once in a process.
    let key = move |kid: u64| format!("stress {flush:5} {cycle:5} {kid}").into_bytes();
    let all: Vec<_> = (1..4).map(|kid| sealed_by(kid, &key(kid), n)).collect();
    let pipeline = gst::parse::launch("appsrc name=a format=time max-buffers=50 block=true caps=application/x-sframe,original-media-type=audio/x-opus,channels=2 ! sframedec name=d replay-window=0 hold-time=3000000 ! fakesink name=f async=false sync=false").unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.set_context(&source.context("default"));
    let a = pipeline.by_name("a").unwrap();
    let d = pipeline.by_name("d").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let epoch = Arc::new(AtomicU64::new(0));
    let last = Arc::new(Mutex::new((0u64, None::<gst::ClockTime>, 0u64)));
    let bad = Arc::new(AtomicU64::new(0));
    {
        let (last, bad, epoch) = (last.clone(), bad.clone(), epoch.clone());
        d.static_pad("src")
            .unwrap()
            .add_probe(gst::PadProbeType::BUFFER, move |_, i| {
                if let Some(gst::PadProbeData::Buffer(b)) = &i.data {
                    let mut l = last.lock().unwrap();
                    let e = epoch.load(Ordering::SeqCst);
                    if l.0 == e && l.1 > b.pts() {
                        bad.fetch_add(1, Ordering::SeqCst);
                    }
                    *l = (e, b.pts(), l.2 + 1);
                }
                gst::PadProbeReturn::Ok
            });
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    let beat = Arc::new(Mutex::new([Instant::now(); 4]));
    let mut joins = vec![];
    {
        let (stop, a, beat) = (stop.clone(), a.clone(), beat.clone());
        let all = all.clone();
        joins.push(std::thread::spawn(move || {
            let mut i = 0usize;
            while !stop.load(Ordering::SeqCst) {
                let k = (i / 37) % 3;
                let mut b = all[k][i % n as usize].copy();
                if i.is_multiple_of(101) {
                    let mut x = bytes(&b);
                    let l = x.len();
                    x[l - 1] ^= 1;
                    b = with_bytes(&b, x);
                }
                b.make_mut().set_pts(gst::ClockTime::from_mseconds(i as u64));
                let _ = a.emit_by_name::<gst::FlowReturn>("push-buffer", &[&b]);
                i += 1;
                if i.is_multiple_of(50) {
                    std::thread::sleep(Duration::from_micros(500));
                }
                beat.lock().unwrap()[0] = Instant::now();
            }
        }));
    }
    {
        let (stop, beat, source) = (stop.clone(), beat.clone(), source.clone());
        joins.push(std::thread::spawn(move || {
            let mut i = 0u64;
            while !stop.load(Ordering::SeqCst) {
                let kid = i % 3 + 1;
                if i % 5 < 3 {
                    source.set_receiver(kid, Some(TestSource::key(&key(kid), 1, 1, "ann")));
                } else {
                    source.set_receiver(kid, None);
                }
                source.changed();
                i += 1;
                std::thread::sleep(Duration::from_micros(700));
                beat.lock().unwrap()[1] = Instant::now();
            }
        }));
    }
    if flush {
        let (stop, beat, a, epoch) = (stop.clone(), beat.clone(), a.clone(), epoch.clone());
        joins.push(std::thread::spawn(move || {
            let p = a.static_pad("src").unwrap();
            while !stop.load(Ordering::SeqCst) {
                p.push_event(gst::event::FlushStart::new());
                epoch.fetch_add(1, Ordering::SeqCst);
                p.push_event(gst::event::FlushStop::new(true));
                p.push_event(gst::event::Segment::new(
                    &gst::FormattedSegment::<gst::ClockTime>::new(),
                ));
                std::thread::sleep(Duration::from_millis(7));
                beat.lock().unwrap()[2] = Instant::now();
            }
        }));
    }
    let end = Instant::now() + Duration::from_secs(SECONDS);
    while Instant::now() < end {
        if cycle {
            let p = pipeline.clone();
            let (tx, rx) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                p.set_state(gst::State::Ready).unwrap();
                let r = p.set_state(gst::State::Playing);
                let _ = tx.send(r.is_ok());
            });
            rx.recv_timeout(Duration::from_secs(10))
                .expect("state change hangs");
        }
        std::thread::sleep(Duration::from_millis(23));
        let b = beat.lock().unwrap();
        assert!(b[1].elapsed() < Duration::from_secs(8), "keys-changed hangs");
        if flush {
            assert!(b[2].elapsed() < Duration::from_secs(8), "flush hangs");
        }
        if !cycle && !flush {
            assert!(b[0].elapsed() < Duration::from_secs(8), "push hangs");
        }
    }
    assert!(last.lock().unwrap().2 > 0, "nothing came out");
    stop.store(true, Ordering::SeqCst);
    let (tx, rx) = std::sync::mpsc::channel();
    let p = pipeline.clone();
    std::thread::spawn(move || {
        p.set_state(gst::State::Null).unwrap();
        let _ = tx.send(());
    });
    rx.recv_timeout(Duration::from_secs(10)).expect("null hangs");
    for j in joins {
        j.join().unwrap();
    }
    assert_eq!(bad.load(Ordering::SeqCst), 0);
}
#[test]
fn keys_come_and_go() {
    run(false, false);
}

#[test]
fn keys_come_and_go_while_the_element_is_stopped_and_started() {
    run(false, true);
}

#[test]
fn keys_come_and_go_over_flushes_and_restarts() {
    run(true, true);
}

#[test]
fn keys_come_and_go_over_flushes() {
    init();
    let source = TestSource::new();
    let n = 20_000u64;
    let names: [&'static [u8]; 2] = [b"stress key of 8.", b"stress key of 9."];
    let all: Vec<_> = (0..2).map(|k| sealed_by(k + 1, names[k as usize], n)).collect();
    let pipeline = gst::parse::launch("sframedec name=d replay-window=0 hold-time=3000000 ! queue max-size-buffers=3 ! fakesink name=f async=false sync=false").unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.set_context(&source.context("default"));
    let d = pipeline.by_name("d").unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let pad = gst::Pad::builder(gst::PadDirection::Src).name("src").build();
    pad.set_active(true).unwrap();
    pad.link(&d.static_pad("sink").unwrap()).unwrap();
    pad.push_event(gst::event::StreamStart::new("s"));
    pad.push_event(gst::event::Caps::new(
        &"application/x-sframe,original-media-type=audio/x-opus,channels=2"
            .parse::<gst::Caps>()
            .unwrap(),
    ));
    let seg = || gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new());
    pad.push_event(seg());
    let stop = Arc::new(AtomicBool::new(false));
    let pushed = Arc::new(AtomicU64::new(0));
    let flushes = Arc::new(AtomicU64::new(0));
    let mut joins = vec![];
    {
        let (stop, pad, pushed) = (stop.clone(), pad.clone(), pushed.clone());
        joins.push(std::thread::spawn(move || {
            let mut i = 0usize;
            while !stop.load(Ordering::SeqCst) {
                let mut b = all[(i / 37) % 2][i % n as usize].copy();
                b.make_mut().set_pts(gst::ClockTime::from_mseconds(i as u64));
                if pad.push(b).is_ok() {
                    pushed.fetch_add(1, Ordering::SeqCst);
                } else {
                    std::thread::sleep(Duration::from_micros(200));
                }
                if i.is_multiple_of(53) {
                    pad.push_event(gst::event::Gap::builder(gst::ClockTime::from_mseconds(i as u64)).build());
                }
                i += 1;
            }
        }));
    }
    {
        let (stop, source) = (stop.clone(), source.clone());
        joins.push(std::thread::spawn(move || {
            let mut i = 0u64;
            while !stop.load(Ordering::SeqCst) {
                let kid = i % 2 + 1;
                source.set_receiver(
                    kid,
                    (i % 5 < 3).then(|| TestSource::key(names[kid as usize - 1], 1, 1, "ann")),
                );
                source.changed();
                i += 1;
                std::thread::sleep(Duration::from_micros(700));
            }
        }));
    }
    {
        let (stop, pad, flushes) = (stop.clone(), pad.clone(), flushes.clone());
        joins.push(std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                pad.push_event(gst::event::FlushStart::new());
                pad.push_event(gst::event::FlushStop::new(true));
                pad.push_event(gst::event::Segment::new(
                    &gst::FormattedSegment::<gst::ClockTime>::new(),
                ));
                flushes.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
            }
        }));
    }
    let mut before = (0, 0);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_secs(2));
        let now = (pushed.load(Ordering::SeqCst), flushes.load(Ordering::SeqCst));
        assert!(now.0 > before.0 && now.1 > before.1, "stuck {now:?} {before:?}");
        before = now;
    }
    stop.store(true, Ordering::SeqCst);
    for j in joins {
        j.join().unwrap();
    }
    pipeline.set_state(gst::State::Null).unwrap();
}
