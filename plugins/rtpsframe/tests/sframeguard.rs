//! `sframeguard` as an element: pads, events, messages, properties, and what real payloaders send.

// Clippy exempts test functions only, and these helpers serve nothing but tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use gst::prelude::*;
use gst_check::Harness;
use gst_e2ee_common::header::{Header, MAX_LEN};
use std::sync::{Arc, Mutex, Once};

const RTP: &str = "application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=96";
const SSRC: u32 = 7;
/// More than any test here sends.
const PLENTY: gst::ClockTime = gst::ClockTime::from_seconds(60);

fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstrtpsframe::plugin_register_static().unwrap();
    });
}

fn harness(launch: &str) -> Harness {
    init();
    Harness::new_parse(launch)
}

/// A running guard that has got these caps.
fn guard(caps: &str) -> Harness {
    let mut h = harness("sframeguard");
    h.set_src_caps_str(caps);
    h
}

fn header(ctr: u64) -> Vec<u8> {
    let mut out = [0; MAX_LEN];
    let len = Header { kid: 300, ctr }.write(&mut out);
    out[..len].to_vec()
}

fn rtp(ssrc: u32, seq: u16, payload: &[u8]) -> gst::Buffer {
    let mut packet = vec![0x80, 0x80 | 96];
    packet.extend(seq.to_be_bytes());
    packet.extend((u32::from(seq) * 3000).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    gst::Buffer::from_slice(packet)
}

/// A sealed frame in one packet.
fn sealed(ssrc: u32, seq: u16) -> gst::Buffer {
    let payload = [&[0xc0], &header(u64::from(seq))[..], &[0x5a; 100]].concat();
    rtp(ssrc, seq, &payload)
}

fn clear(seq: u16) -> gst::Buffer {
    rtp(SSRC, seq, &[0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a])
}

fn frame(ctr: u64) -> gst::Buffer {
    gst::Buffer::from_slice([&header(ctr)[..], &[0x5a; 100]].concat())
}

/// The guard itself: `new_parse` may put it into a bin.
fn element(h: &Harness) -> gst::Element {
    let top = h.element().unwrap();
    match top.downcast::<gst::Bin>() {
        Ok(bin) => bin
            .iterate_elements()
            .into_iter()
            .flatten()
            .find(|e| e.factory().is_some_and(|f| f.name() == "sframeguard"))
            .unwrap(),
        Err(element) => element,
    }
}

fn stats(guard: &gst::Element) -> gst::Structure {
    guard.property("stats")
}

fn count(guard: &gst::Element, field: &str) -> u64 {
    stats(guard).get(field).unwrap()
}

fn streams(stats: &gst::StructureRef) -> Vec<gst::Structure> {
    let array = stats.get::<gst::Array>("streams").unwrap();
    array.iter().map(|v| v.get().unwrap()).collect()
}

/// Everything that the guard sends, told by address: nothing may be copied.
fn pull_all(h: &mut Harness) -> Vec<gst::Buffer> {
    std::iter::from_fn(|| h.try_pull()).collect()
}

fn addresses<'a>(buffers: impl IntoIterator<Item = &'a gst::Buffer>) -> Vec<*const gst::ffi::GstBuffer> {
    buffers.into_iter().map(|b| b.as_ptr()).collect()
}

/// Messages of an element that runs without a pipeline.
fn bus(guard: &gst::Element) -> gst::Bus {
    let bus = gst::Bus::new();
    guard.set_bus(Some(&bus));
    bus
}

fn messages(bus: &gst::Bus, name: &str) -> Vec<gst::Structure> {
    bus.iter()
        .filter_map(|m| m.structure().map(|s| s.to_owned()))
        .filter(|s| s.name() == name)
        .collect()
}

#[test]
fn defaults_and_template_are_as_documented() {
    init();
    let guard = gst::ElementFactory::make("sframeguard").build().unwrap();
    assert_eq!(guard.property::<u32>("proof-frames"), 3);
    assert_eq!(guard.property::<u32>("max-streams"), 256);
    assert_eq!(guard.property::<u32>("max-held-bytes"), 8 << 20);
    assert!(guard.property::<bool>("allow-rtcp"));
    let nick = |name: &str| {
        let value = guard.property_value(name);
        gst::glib::EnumValue::from_value(&value)
            .unwrap()
            .1
            .nick()
            .to_owned()
    };
    assert_eq!(nick("packetization"), "sframe");
    assert_eq!(nick("clear-prefix"), "codec");
    for direction in ["sink", "src"] {
        let caps = guard.static_pad(direction).unwrap().pad_template_caps();
        assert_eq!(caps.to_string(), "application/x-rtp; application/x-sframe");
    }
    guard.set_property_from_str("packetization", "codec");
    assert_eq!(nick("packetization"), "codec");
}

#[test]
fn the_first_frames_are_held_then_released_uncopied_and_in_order() {
    let mut h = guard(RTP);
    let sent: Vec<_> = (0..6).map(|n| sealed(SSRC, n)).collect();
    for (n, buffer) in sent.iter().enumerate() {
        h.push(buffer.clone()).unwrap();
        let expected = if n < 2 { 0 } else { n as u32 + 1 };
        assert_eq!(h.buffers_received(), expected);
    }
    let got = pull_all(&mut h);
    assert_eq!(addresses(&got), addresses(&sent));
    let guard = element(&h);
    assert_eq!((count(&guard, "forwarded"), count(&guard, "released")), (6, 2));
    let stream = &streams(&stats(&guard))[0];
    assert_eq!(stream.get::<u32>("ssrc"), Ok(SSRC));
    assert_eq!(stream.get::<u64>("kid"), Ok(300));
    assert_eq!(stream.get::<bool>("proven"), Ok(true));
    assert_eq!(stream.get::<u64>("frames"), Ok(6));
    for field in ["lost", "reordered", "violations", "held"] {
        assert_eq!(stream.get::<u64>(field), Ok(0), "{field}");
    }
}

#[test]
fn what_rtpsframepay_sends_passes_whole() {
    for (launch, caps, clear) in [
        ("rtpsframepay mtu=600 ! sframeguard", "video/x-vp8", 0),
        ("rtpsframepay ! sframeguard", "audio/x-opus", 0),
        (
            "rtpsframepay packetization=codec mtu=600 ! sframeguard packetization=codec",
            "video/x-vp8,clear-prefix=codec",
            3,
        ),
        (
            "rtpsframepay packetization=codec ! sframeguard packetization=codec clear-prefix=none",
            "audio/x-opus",
            0,
        ),
    ] {
        let mut h = harness(launch);
        let (media_type, rest) = caps.split_once(',').unwrap_or((caps, "clear-prefix=none"));
        h.set_src_caps_str(&format!(
            "application/x-sframe,original-media-type={media_type},{rest}"
        ));
        for n in 0..50u64 {
            let size = if media_type == "video/x-vp8" { 4000 } else { 100 };
            let body = [&vec![0x11; clear][..], &header(n), &vec![0x5a; size]].concat();
            let mut buffer = gst::Buffer::from_slice(body);
            buffer
                .get_mut()
                .unwrap()
                .set_pts(n * 20 * gst::ClockTime::MSECOND);
            h.push(buffer).unwrap();
        }
        let guard = element(&h);
        let packets = count(&guard, "packets");
        assert!(packets >= 50, "{launch}");
        assert_eq!(count(&guard, "forwarded"), packets, "{launch}: {}", stats(&guard));
        assert_eq!(pull_all(&mut h).len() as u64, packets);
        assert_eq!(streams(&stats(&guard))[0].get::<u64>("frames"), Ok(50));
    }
}

/// Runs a pipeline with a guard `g` to its end; what went in and what came out.
fn run(launch: &str) -> (u64, u64) {
    init();
    let pipeline = gst::parse::launch(launch)
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
    let guard = pipeline.by_name("g").unwrap();
    let passed = Arc::new(Mutex::new(0));
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    let counter = passed.clone();
    guard.static_pad("src").unwrap().add_probe(mask, move |_, _| {
        *counter.lock().unwrap() += 1;
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(PLENTY, &[gst::MessageType::Eos, gst::MessageType::Error])
        .expect("the pipeline hangs");
    assert_eq!(end.type_(), gst::MessageType::Eos, "{launch}: {end:?}");
    let packets = count(&guard, "packets");
    assert_eq!(count(&guard, "forwarded"), 0, "{launch}: {}", stats(&guard));
    pipeline.set_state(gst::State::Null).unwrap();
    let passed = *passed.lock().unwrap();
    (packets, passed)
}

#[test]
fn plaintext_of_real_payloaders_never_passes() {
    const VIDEO: &str = "videotestsrc pattern=ball num-buffers=250 ! video/x-raw,width=160,height=120";
    const NOISE: &str = "videotestsrc pattern=snow num-buffers=60 ! video/x-raw,width=320,height=240";
    const AUDIO: &str = "audiotestsrc wave=pink-noise num-buffers=300 ! audioconvert ! audioresample";
    const SAW: &str = "audiotestsrc wave=saw freq=317 num-buffers=300 ! audioconvert ! audioresample";
    const TONE: &str = "audiotestsrc num-buffers=300 ! audioconvert ! audioresample";
    let sources = [
        format!("{VIDEO} ! vp8enc deadline=1 ! rtpvp8pay ! sframeguard"),
        format!("{NOISE} ! vp8enc deadline=1 ! rtpvp8pay ! sframeguard"),
        format!("{NOISE} ! vp8enc deadline=1 ! rtpvp8pay picture-id-mode=1 ! sframeguard"),
        format!("{VIDEO} ! vp8enc deadline=1 ! rtpvp8pay picture-id-mode=2 ! sframeguard"),
        format!("{VIDEO} ! vp9enc deadline=1 ! rtpvp9pay ! sframeguard"),
        format!("{VIDEO} ! x264enc tune=zerolatency ! rtph264pay ! sframeguard"),
        format!(
            "{NOISE} ! x264enc tune=zerolatency key-int-max=10 ! rtph264pay aggregate-mode=1 ! sframeguard"
        ),
        format!("{AUDIO} ! opusenc ! rtpopuspay ! sframeguard"),
        format!("{TONE} ! audio/x-raw,channels=1 ! opusenc ! rtpopuspay ! sframeguard"),
        // The first byte of these looks like a descriptor. No noise: what passes by chance must do so in every run.
        format!("{SAW} ! audio/x-raw,channels=1 ! opusenc frame-size=2.5 ! rtpopuspay ! sframeguard"),
        format!("{TONE} ! audio/x-raw,channels=1 ! opusenc frame-size=2.5 ! rtpopuspay ! sframeguard"),
        format!("{AUDIO} ! mulawenc ! rtppcmupay ! sframeguard"),
        format!("{TONE} ! rtpL16pay ! sframeguard"),
        // Browsers' packets, with and without the clear bytes of a sealed frame.
        format!("{VIDEO} ! vp8enc deadline=1 ! rtpvp8pay ! sframeguard packetization=codec"),
        format!(
            "{NOISE} ! vp8enc deadline=1 ! rtpvp8pay picture-id-mode=2 ! sframeguard packetization=codec"
        ),
        format!(
            "{VIDEO} ! vp8enc deadline=1 ! rtpvp8pay ! sframeguard packetization=codec clear-prefix=none"
        ),
        format!("{AUDIO} ! opusenc ! rtpopuspay ! sframeguard packetization=codec"),
        format!("{TONE} ! opusenc ! rtpopuspay ! sframeguard packetization=codec clear-prefix=none"),
    ];
    for source in sources {
        let (packets, passed) = run(&format!("{source} name=g ! fakesink sync=false async=false"));
        assert!(packets >= 200, "{packets} packets of {source}");
        assert_eq!(passed, 0, "{source}");
    }
}

#[test]
fn a_list_that_passes_whole_stays_the_same_list() {
    let mut h = guard(RTP);
    for n in 0..3 {
        h.push(sealed(SSRC, n)).unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let lists = seen.clone();
    let src = element(&h).static_pad("src").unwrap();
    src.add_probe(gst::PadProbeType::BUFFER_LIST, move |_, info| {
        if let Some(gst::PadProbeData::BufferList(list)) = &info.data {
            lists.lock().unwrap().push((list.as_ptr() as usize, list.len()));
        }
        gst::PadProbeReturn::Ok
    });
    let push = |h: &Harness, list: gst::BufferList| {
        let address = list.as_ptr() as usize;
        h.srcpad().unwrap().push_list(list).unwrap();
        address
    };
    let untouched = push(&h, (3..6).map(|n| sealed(SSRC, n)).collect());
    push(
        &h,
        [sealed(SSRC, 6), clear(7), sealed(SSRC, 8)].into_iter().collect(),
    );
    push(&h, [clear(9), clear(10)].into_iter().collect());
    // Another stream proves itself in the middle of a list.
    push(
        &h,
        [
            sealed(SSRC, 11),
            sealed(8, 1),
            sealed(8, 2),
            sealed(8, 3),
            sealed(SSRC, 12),
        ]
        .into_iter()
        .collect(),
    );
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], (untouched, 3));
    assert_eq!(seen.iter().map(|s| s.1).collect::<Vec<_>>(), [3, 2, 5]);
    assert_eq!(pull_all(&mut h).len(), 3 + 3 + 2 + 5);
}

#[test]
fn rtcp_between_rtp_passes_unless_forbidden() {
    let rr = || gst::Buffer::from_slice([0x80, 201, 0, 1, 1, 2, 3, 4]);
    let mut h = guard(RTP);
    h.push(rr()).unwrap();
    assert_eq!(h.buffers_received(), 1);
    // A marked packet of payload type 72, whose lengths are not RTCP's.
    h.push(gst::Buffer::from_slice([
        0x80, 200, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 0xc0, 0, 1, 2,
    ]))
    .unwrap();
    let guard = element(&h);
    guard.set_property("allow-rtcp", false);
    h.push(rr()).unwrap();
    assert_eq!(h.buffers_received(), 1);
    let counts = ["rtcp", "violations", "dropped-rtcp", "dropped"].map(|f| count(&guard, f));
    assert_eq!(counts, [1, 1, 1, 2]);
}

#[test]
fn retransmission_types_can_be_written_on_a_command_line() {
    let mut h = harness("sframeguard rtx-payload-types=\"<97,99>\"");
    h.set_src_caps_str(RTP);
    let guard = element(&h);
    let types = guard.property::<gst::Array>("rtx-payload-types");
    assert_eq!(
        types.iter().map(|v| v.get::<i32>().unwrap()).collect::<Vec<_>>(),
        [97, 99]
    );
    let rtx = |seq: u16| {
        let mut buffer = rtp(99, seq, &[0, 1, 0xc0, 0x11, 0, 0, 0, 0]);
        let mut map = buffer.get_mut().unwrap().map_writable().unwrap();
        map[1] = 97;
        drop(map);
        buffer
    };
    h.push(rtx(1)).unwrap();
    assert_eq!(h.buffers_received(), 0);
    for n in 0..3 {
        h.push(sealed(SSRC, n)).unwrap();
    }
    h.push(rtx(2)).unwrap();
    assert_eq!(h.buffers_received(), 4);
    assert_eq!(count(&guard, "rtx"), 1);
    guard.set_property("rtx-payload-types", gst::Array::new(Vec::<i32>::new()));
    h.push(rtx(3)).unwrap();
    assert_eq!(h.buffers_received(), 4);
}

#[test]
fn violations_are_told_on_the_bus() {
    let mut h = guard(RTP);
    let bus = bus(&element(&h));
    for n in 0..20 {
        h.push(clear(n)).unwrap();
    }
    let told = messages(&bus, "sframe-guard-violation");
    // At most one a second; pushing twenty takes far less, but a machine may stall.
    assert!((1..20).contains(&told.len()), "{told:?}");
    assert_eq!(told[0].get::<u32>("ssrc"), Ok(SSRC));
    assert_eq!(told[0].get::<u64>("count"), Ok(1));
    assert_eq!(told[0].get::<&str>("cause"), Ok("reserved-bits"));
    assert_eq!(count(&element(&h), "violations"), 20);
}

/// The texts of the warnings on the bus.
fn warnings(bus: &gst::Bus) -> Vec<String> {
    std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Warning]))
        .filter_map(|message| match message.view() {
            gst::MessageView::Warning(w) => Some(w.error().message().to_owned()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_stream_that_was_never_sframe_is_warned_about_once_in_a_run() {
    let json = "application/x-sframe,original-media-type=application/json";
    for (launch, caps, advice) in [
        (
            "sframeguard",
            RTP,
            "if the sender has packetization=codec, set it here too",
        ),
        (
            "sframeguard packetization=codec",
            RTP,
            "if the sender has packetization=sframe",
        ),
        ("sframeguard", json, "do not come from sframeenc"),
    ] {
        let mut h = harness(launch);
        let guard = element(&h);
        let bus = bus(&guard);
        for run in 0..2 {
            h.set_src_caps_str(caps);
            for n in 0..100 {
                // Neither a descriptor nor a header of SFrame, nor VP8.
                let packet = match caps == RTP {
                    true => rtp(SSRC + u32::from(n % 2), n, &[0x1f, 0xff, 0xff, 0xff]),
                    false => gst::Buffer::from_slice([0xff; 3]),
                };
                h.push(packet).unwrap();
            }
            let told = warnings(&bus);
            assert_eq!(told.len(), 1, "{launch} {run}: {told:?}");
            assert!(told[0].contains(advice), "{told:?}");
            assert_eq!(told[0].contains("SSRC 0x00000007"), caps == RTP, "{told:?}");
            guard.set_state(gst::State::Ready).unwrap();
            guard.set_state(gst::State::Playing).unwrap();
        }
    }
}

#[test]
fn plain_media_that_reads_like_headers_is_warned_about_too() {
    let mut h = harness("sframeguard packetization=codec");
    let bus = bus(&element(&h));
    h.set_src_caps_str("application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=96");
    for n in 0..100u16 {
        // A TOC byte, then a short and minimal SFrame header of any KID.
        let body = [&[0xfc, (n * 37) as u8 & 0x77][..], &[0x5a; 60]].concat();
        h.push(rtp(SSRC, n, &body)).unwrap();
    }
    assert_eq!(h.buffers_received(), 0);
    let told = warnings(&bus);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("otherwise this is unsealed media"), "{told:?}");
}

#[test]
fn violations_of_a_proven_stream_are_no_wrong_setting() {
    let mut h = guard(RTP);
    let bus = bus(&element(&h));
    // One damaged packet, then a stream as it should be, then one that breaks until it is held again.
    h.push(clear(0)).unwrap();
    for n in 1..10 {
        h.push(sealed(SSRC, n)).unwrap();
    }
    for n in 10..60 {
        h.push(clear(n)).unwrap();
    }
    assert!(!streams(&stats(&element(&h)))[0].get::<bool>("proven").unwrap());
    assert_eq!(warnings(&bus), [""; 0]);
}

#[test]
fn a_list_of_unsealed_packets_is_warned_about_too() {
    let h = guard(RTP);
    let bus = bus(&element(&h));
    h.srcpad()
        .unwrap()
        .push_list((0..50).map(clear).collect())
        .unwrap();
    assert_eq!(warnings(&bus).len(), 1);
}

#[test]
fn the_end_drops_what_is_held_and_posts_the_stats() {
    let mut h = guard(RTP);
    let guard = element(&h);
    let bus = bus(&guard);
    h.push(sealed(SSRC, 0)).unwrap();
    h.push(sealed(SSRC, 1)).unwrap();
    assert_eq!((count(&guard, "held"), count(&guard, "dropped-unproven")), (2, 0));
    assert!(h.push_event(gst::event::Eos::new()));
    assert_eq!(h.buffers_received(), 0);
    let posted = messages(&bus, "sframeguard-stats");
    assert_eq!(posted.len(), 1);
    assert_eq!(posted[0].get::<u64>("dropped-unproven"), Ok(2));
    assert_eq!(streams(&posted[0])[0].get::<bool>("proven"), Ok(false));
    guard.set_state(gst::State::Ready).unwrap();
    assert_eq!(messages(&bus, "sframeguard-stats").len(), 1);
    // Readable after the run, and gone with the next.
    assert_eq!(count(&guard, "packets"), 2);
    guard.set_state(gst::State::Playing).unwrap();
    assert_eq!(count(&guard, "packets"), 0);
}

#[test]
fn stopping_without_an_end_posts_the_stats_too() {
    let mut h = guard(RTP);
    let guard = element(&h);
    let bus = bus(&guard);
    h.push(sealed(SSRC, 0)).unwrap();
    guard.set_state(gst::State::Ready).unwrap();
    let posted = messages(&bus, "sframeguard-stats");
    assert_eq!(posted[0].get::<u64>("dropped-unproven"), Ok(1));
}

#[test]
fn a_flush_drops_what_is_held_and_keeps_proofs() {
    let mut h = guard(RTP);
    for n in 0..3 {
        h.push(sealed(SSRC, n)).unwrap();
    }
    h.push(sealed(8, 0)).unwrap();
    assert!(h.push_event(gst::event::FlushStart::new()));
    assert!(h.push_event(gst::event::FlushStop::new(true)));
    assert!(h.push_event(gst::event::Segment::new(
        &gst::FormattedSegment::<gst::ClockTime>::new()
    )));
    let guard = element(&h);
    assert_eq!((count(&guard, "held"), count(&guard, "dropped-unproven")), (0, 1));
    h.push(sealed(SSRC, 2000)).unwrap();
    assert_eq!(h.buffers_received(), 4);
}

#[test]
fn events_do_not_wait_for_a_proof() {
    let mut h = guard(RTP);
    h.push(sealed(SSRC, 0)).unwrap();
    assert!(h.push_event(gst::event::Gap::new(gst::ClockTime::ZERO, None)));
    let types: Vec<_> = std::iter::from_fn(|| h.try_pull_event())
        .map(|e| e.type_())
        .collect();
    for expected in [
        gst::EventType::StreamStart,
        gst::EventType::Caps,
        gst::EventType::Segment,
        gst::EventType::Gap,
    ] {
        assert!(types.contains(&expected), "{types:?}");
    }
    assert_eq!(h.buffers_received(), 0);
}

#[test]
fn new_caps_of_the_same_kind_drop_nothing() {
    let mut h = guard(RTP);
    h.push(sealed(SSRC, 0)).unwrap();
    h.push(sealed(SSRC, 1)).unwrap();
    h.set_src_caps_str(&format!("{RTP},a-framerate=(string)30"));
    h.push(sealed(SSRC, 2)).unwrap();
    assert_eq!(h.buffers_received(), 3);
    h.set_src_caps_str("application/x-sframe,original-media-type=video/x-vp8,clear-prefix=none");
    for ctr in 0..3 {
        h.push(frame(ctr)).unwrap();
    }
    assert_eq!(h.buffers_received(), 6);
}

#[test]
fn frames_outside_rtp_are_one_stream() {
    for (caps, prefix) in [
        ("application/x-sframe,original-media-type=text/x-raw", &[][..]),
        (
            "application/x-sframe,original-media-type=audio/x-opus,clear-prefix=codec",
            &[0xfc],
        ),
        (
            "application/x-sframe,original-media-type=video/x-vp8,clear-prefix=codec",
            &[0x31, 2, 3],
        ),
    ] {
        let mut h = guard(caps);
        for ctr in 0..5 {
            let body = [prefix, &header(ctr), &[0; 20]].concat();
            h.push(gst::Buffer::from_slice(body)).unwrap();
        }
        h.push(gst::Buffer::new()).unwrap();
        assert_eq!(h.buffers_received(), 5, "{caps}");
        assert_eq!(count(&element(&h), "violations"), 1);
    }
}

#[test]
fn caps_that_cannot_be_checked_are_an_error_that_says_what_to_do() {
    for (launch, caps, hint) in [
        (
            "sframeguard packetization=codec",
            "application/x-rtp,encoding-name=H264",
            "encoding-name=VP8 or OPUS",
        ),
        (
            "sframeguard packetization=codec",
            "application/x-rtp",
            "encoding-name=VP8 or OPUS",
        ),
        (
            "sframeguard",
            "application/x-sframe,original-media-type=video/x-h264,clear-prefix=codec",
            "clear-prefix=none",
        ),
    ] {
        let mut h = harness(launch);
        let bus = bus(&element(&h));
        h.set_src_caps_str(caps);
        for n in 0..5 {
            assert!(h.push(sealed(SSRC, n)).is_err(), "{caps}");
        }
        let error = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = error.view() else {
            unreachable!()
        };
        assert!(error.error().to_string().contains(hint), "{error:?}");
        let again = bus.pop_filtered(&[gst::MessageType::Error]);
        assert!(again.is_none(), "one error, however often the caps are offered");
    }
}

#[test]
fn buffers_of_several_memories_are_read_as_one() {
    let mut h = guard(RTP);
    for n in 0..4 {
        let whole = sealed(SSRC, n);
        let map = whole.map_readable().unwrap();
        let mut buffer = gst::Buffer::new();
        for part in map.chunks(7) {
            buffer
                .get_mut()
                .unwrap()
                .append_memory(gst::Memory::from_slice(part.to_vec()));
        }
        h.push(buffer).unwrap();
    }
    assert_eq!(h.buffers_received(), 4);
}

#[test]
fn ten_thousand_made_up_streams_cost_bounded_memory() {
    let mut h = harness("sframeguard max-held-bytes=100000 max-streams=100");
    h.set_src_caps_str(RTP);
    for n in 0..3 {
        h.push(sealed(SSRC, n)).unwrap();
    }
    let guard = element(&h);
    for made_up in 0..10_000 {
        h.push(sealed(1000 + made_up, 0)).unwrap();
        if made_up % 50 == 0 {
            h.push(sealed(SSRC, 3 + (made_up / 50) as u16)).unwrap();
            assert!(count(&guard, "held-bytes") <= 100_000);
            assert!(streams(&stats(&guard)).len() <= 100);
        }
    }
    assert_eq!(h.buffers_received(), 203);
}
