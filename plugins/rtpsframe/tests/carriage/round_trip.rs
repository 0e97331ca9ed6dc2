//! There and back: what goes into `rtpsframepay` comes out of `rtpsframedepay`.

use gst::prelude::*;

use crate::common::*;

const VP8: &str = "application/x-sframe,original-media-type=(string)video/x-vp8,clear-prefix=(string)none,\
                   width=640,height=480";

#[test]
fn the_same_bytes_come_back_at_any_size_and_mtu() {
    for mtu in [28, 50, 576, 1200, 1400, 65_000] {
        let mut bench = Bench::new(&format!("rtpsframepay mtu={mtu} ! rtpsframedepay"));
        bench.harness.set_src_caps_str(VP8);
        let fits = mtu - 13;
        let mut sizes = vec![1, 2, fits - 1, fits, fits + 1, 2 * fits, 2 * fits + 1, 100_000];
        if mtu >= 576 {
            sizes.push(2_000_000);
        }
        for (i, &size) in sizes.iter().enumerate() {
            let sent = pattern(size);
            let pts = gst::ClockTime::from_mseconds(i as u64);
            bench.harness.push(frame(&sent, pts)).unwrap();
            let received = bench.pull_all();
            assert_eq!(received.len(), 1, "{size} bytes at MTU {mtu}");
            assert!(bytes(&received[0]) == sent, "{size} bytes at MTU {mtu}");
            assert_eq!(received[0].n_memory(), 1);
            assert_eq!(received[0].pts(), Some(pts));
        }
        assert_eq!(bench.stat("rtpsframedepay", "frames"), sizes.len() as u64);
        assert_eq!(
            bench.stat("rtpsframedepay", "bytes"),
            bench.stat("rtpsframepay", "bytes")
        );
        assert_eq!(
            bench.stat("rtpsframedepay", "packets"),
            bench.stat("rtpsframepay", "packets")
        );
    }
}

#[test]
fn an_empty_buffer_between_frames_changes_nothing() {
    let mut bench = Bench::new("rtpsframepay ! rtpsframedepay");
    bench.harness.set_src_caps_str(VP8);
    for size in [10, 0, 20] {
        let buffer = frame(&pattern(size), gst::ClockTime::ZERO);
        bench.harness.push(buffer).unwrap();
    }
    let received: Vec<_> = bench.pull_all().iter().map(bytes).collect();
    assert_eq!(received, [pattern(10), pattern(20)]);
    assert_eq!(bench.stat("rtpsframedepay", "dropped-frames"), 0);
}

#[test]
fn every_kind_of_media_comes_back_as_what_it_was() {
    for (there, back) in [
        ("video/x-vp8,width=640,height=480", "video/x-vp8"),
        ("video/x-vp9", "video/x-vp9"),
        (
            "video/x-av1,stream-format=obu-stream,alignment=tu",
            "video/x-av1,stream-format=obu-stream,alignment=tu",
        ),
        (
            "video/x-h264,stream-format=byte-stream,alignment=au,profile=main",
            "video/x-h264,stream-format=byte-stream,alignment=au",
        ),
        (
            "audio/x-opus,channels=1",
            "audio/x-opus,rate=48000,channel-mapping-family=0,channels=1",
        ),
        (
            "audio/x-raw,format=S16BE,layout=interleaved,rate=16000,channels=2",
            "audio/x-raw,format=S16BE,layout=interleaved,rate=16000,channels=2",
        ),
        (
            "audio/x-mulaw,rate=8000,channels=1",
            "audio/x-mulaw,rate=8000,channels=1",
        ),
        ("text/x-raw,format=utf8", "text/x-raw,format=utf8"),
        ("meta/x-klv,parsed=true", "meta/x-klv"),
        ("application/json", "application/json"),
    ] {
        let mut bench = Bench::new("rtpsframepay ! rtpsframedepay");
        let sealed = |text| format!("application/x-sframe,original-media-type=(string){text}");
        bench.harness.set_src_caps_str(&sealed(there));
        bench
            .harness
            .push(frame(b"sealed", gst::ClockTime::ZERO))
            .unwrap();
        let expected: gst::Caps = sealed(back).parse().unwrap();
        assert_eq!(bench.caps_events(), [expected]);
    }
}

#[test]
fn new_caps_reach_the_other_side() {
    let mut bench = Bench::new("rtpsframepay ! rtpsframedepay");
    for media in ["video/x-vp8", "video/x-vp9"] {
        let caps = format!("application/x-sframe,original-media-type=(string){media}");
        bench.harness.set_src_caps_str(&caps);
        bench
            .harness
            .push(frame(&pattern(3000), gst::ClockTime::ZERO))
            .unwrap();
        assert_eq!(bench.caps_events(), [caps.parse::<gst::Caps>().unwrap()]);
    }
    assert_eq!(bench.pull_all().len(), 2);
}

#[test]
fn state_cycles_start_afresh() {
    let mut bench = Bench::new("rtpsframepay ! rtpsframedepay");
    for _ in 0..3 {
        bench.harness.set_src_caps_str(VP8);
        bench
            .harness
            .push(frame(&pattern(5000), gst::ClockTime::ZERO))
            .unwrap();
        assert_eq!(bench.pull_all().len(), 1);
        assert_eq!(bench.stat("rtpsframedepay", "frames"), 1);
        let element = bench.harness.element().unwrap();
        element.set_state(gst::State::Null).unwrap();
        bench.harness.play();
    }
}
