//! The whole road in one process: encoder → sframeenc → rtpsframepay → rtpsframedepay → sframedec. What comes out is
//! what went in, byte for byte, with caps that the next element can use.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst::prelude::*;
use gst_e2ee_common::meta::{NO_LEAF, SFrameMeta};
use gst_e2ee_tests::pipeline::{Keys, Player, Tap, buffer};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

const VIDEO: &str =
    "videotestsrc num-buffers=30 pattern=snow ! video/x-raw,width=320,height=240,framerate=30/1";
const VP8: &str = "vp8enc deadline=1 target-bitrate=2000000 keyframe-max-dist=8 name=media";
const AUDIO: &str = "audiotestsrc num-buffers=50 samplesperbuffer=960 wave=pink-noise";

struct Road {
    _keys: Keys,
    player: Player,
    before: Tap,
    sealed: Tap,
    packets: Tap,
    after: Tap,
}

impl Road {
    fn new(source: &str, rest: &str) -> Self {
        let keys = Keys::new();
        let player = Player::new(&format!(
            "{source} ! {} ! rtpsframepay name=pay ! rtpsframedepay ! {} ! {rest}",
            keys.enc(1, ""),
            keys.dec("")
        ));
        Self {
            before: player.tap("enc", "sink"),
            sealed: player.tap("enc", "src"),
            packets: player.tap("pay", "src"),
            after: player.tap("dec", "src"),
            player,
            _keys: keys,
        }
    }

    fn check(&self, at_least: usize) {
        let (before, sealed, after) = (self.before.buffers(), self.sealed.buffers(), self.after.buffers());
        assert!(before.len() >= at_least, "only {} frames", before.len());
        assert_eq!(after.len(), before.len());
        for (n, ((clear, closed), open)) in before.iter().zip(&sealed).zip(&after).enumerate() {
            assert!(open.data == clear.data, "frame {n} differs");
            assert_eq!(open.delta, clear.delta, "delta flag of frame {n}");
            let step = |seen: &gst_e2ee_tests::pipeline::Seen| seen.pts.map(|pts| pts.mseconds());
            assert!(
                step(open)
                    .zip(step(clear))
                    .is_some_and(|(a, b)| a.abs_diff(b) <= 1),
                "time of frame {n}: {:?}, was {:?}",
                open.pts,
                clear.pts
            );
            let sealed_len = closed.header().encoded_len() + clear.data.len() + 16;
            assert_eq!(closed.data.len(), sealed_len, "size of sealed frame {n}");
            assert_eq!(open.meta.as_ref(), Some(&meta()), "meta of frame {n}");
        }
        assert_eq!(self.after.gaps(), 0);
        assert_eq!(self.player.stat("dec", "opened"), before.len() as u64);
        assert_nothing_clear(&self.before.data(), &self.sealed.data());
        assert_nothing_clear(&self.before.data(), &self.packets.data());
    }

    fn caps(&self) -> gst::Caps {
        self.after.caps().last().unwrap().clone()
    }
}

fn meta() -> SFrameMeta {
    SFrameMeta {
        kid: 1,
        epoch: 0,
        leaf: NO_LEAF,
        sender: String::new(),
    }
}

/// No 16 bytes in a row of a frame are found in what leaves; looked for at a few places of each.
fn assert_nothing_clear(clear: &[Vec<u8>], sealed: &[Vec<u8>]) {
    let sealed = sealed.concat();
    for frame in clear.iter().take(5) {
        let step = (frame.len() / 16 / 4).max(1);
        for piece in frame.chunks_exact(16).step_by(step) {
            // What repeats itself could stand there by chance.
            let varied = piece.iter().any(|byte| *byte != piece[0]);
            assert!(
                !varied || !sealed.windows(16).any(|found| found == piece),
                "clear bytes left"
            );
        }
    }
}

fn field(caps: &gst::Caps, name: &str) -> i32 {
    let found = caps.structure(0).unwrap().get(name);
    found.unwrap_or_else(|error| panic!("{name} in {caps}: {error}"))
}

#[test]
fn vp8_arrives_whole_with_its_size() {
    let road = Road::new(&format!("{VIDEO} ! {VP8}"), "fakesink");
    road.player.play();
    road.check(30);
    let caps = road.caps();
    assert_eq!(caps.structure(0).unwrap().name(), "video/x-vp8");
    assert_eq!((field(&caps, "width"), field(&caps, "height")), (320, 240));
    assert!(road.after.deltas().contains(&true) && road.after.deltas().contains(&false));
    assert!(
        road.packets.len() > road.before.len(),
        "frames are cut into packets"
    );
}

#[test]
fn vp9_arrives_whole_with_its_size() {
    let source = format!("{VIDEO} ! vp9enc deadline=1 cpu-used=8 target-bitrate=500000 keyframe-max-dist=8");
    let road = Road::new(&source, "fakesink");
    road.player.play();
    road.check(30);
    let caps = road.caps();
    assert_eq!(caps.structure(0).unwrap().name(), "video/x-vp9");
    assert_eq!((field(&caps, "width"), field(&caps, "height")), (320, 240));
}

#[test]
fn h264_arrives_whole_and_decodes() {
    let source = format!("{VIDEO} ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=8");
    let road = Road::new(&source, "h264parse ! avdec_h264 ! fakesink name=pictures");
    let pictures = road.player.tap("pictures", "sink");
    road.player.play();
    road.check(30);
    let caps = road.caps();
    let expected: gst::Caps = "video/x-h264,stream-format=byte-stream,alignment=au"
        .parse()
        .unwrap();
    assert!(caps.is_subset(&expected), "{caps}");
    assert_eq!(pictures.len(), 30);
    let sealed = road.sealed.caps();
    assert!(
        sealed
            .iter()
            .all(|caps| !caps.structure(0).unwrap().has_field("codec_data")),
        "{sealed:?}"
    );
}

#[test]
fn keyframes_of_4k_arrive_whole() {
    let road = Road::new(
        "videotestsrc num-buffers=3 pattern=snow ! video/x-raw,width=3840,height=2160,framerate=30/1 \
         ! x264enc speed-preset=ultrafast tune=zerolatency pass=quant quantizer=10 key-int-max=2",
        "fakesink",
    );
    road.player.play();
    road.check(3);
    let largest = road.before.data().iter().map(Vec::len).max().unwrap();
    assert!(largest > 1 << 20, "the largest frame has {largest} bytes");
}

#[test]
fn opus_arrives_whole_with_its_channels() {
    for channels in [1, 2] {
        let source = format!("{AUDIO} ! audio/x-raw,channels={channels} ! opusenc");
        let road = Road::new(&source, "opusdec ! fakesink name=sound");
        let sound = road.player.tap("sound", "sink");
        road.player.play();
        road.check(45);
        let caps = road.caps();
        assert_eq!(caps.structure(0).unwrap().name(), "audio/x-opus");
        assert_eq!(field(&caps, "channels"), channels);
        assert!(sound.len() >= 45);
        assert_eq!(field(sound.caps().last().unwrap(), "channels"), channels);
    }
}

#[test]
fn l16_arrives_whole_with_rate_and_channels() {
    let source = format!("{AUDIO} ! audio/x-raw,format=S16BE,rate=16000,channels=2");
    let road = Road::new(&source, "audioconvert ! fakesink");
    road.player.play();
    road.check(50);
    let caps = road.caps();
    assert_eq!(caps.structure(0).unwrap().name(), "audio/x-raw");
    assert_eq!((field(&caps, "rate"), field(&caps, "channels")), (16000, 2));
    assert_eq!(caps.structure(0).unwrap().get::<&str>("format").unwrap(), "S16BE");
}

/// Pushes these buffers through an `appsrc` and lets them come out at the end.
fn push_all(caps: &str, all: &[Vec<u8>]) -> Road {
    let road = Road::new(
        &format!("appsrc name=in format=time max-bytes=0 caps=\"{caps}\""),
        "fakesink",
    );
    road.player.start();
    for (n, data) in all.iter().enumerate() {
        road.player.push("in", buffer(data, n as u64 * 100));
    }
    road.player.end("in");
    road.player.wait().unwrap();
    road.check(all.len());
    assert_eq!(road.after.data(), all);
    road
}

#[test]
fn text_arrives_whole() {
    let lines: Vec<Vec<u8>> = [
        "Guten Tag",
        "Wie geht es Ihnen?",
        "é ñ 漢字 🙂",
        "x",
        &"long ".repeat(5000),
    ]
    .iter()
    .map(|line| line.as_bytes().to_vec())
    .collect();
    let road = push_all("text/x-raw,format=utf8", &lines);
    let caps = road.caps();
    assert_eq!(caps.structure(0).unwrap().name(), "text/x-raw");
    assert_eq!(caps.structure(0).unwrap().get::<&str>("format").unwrap(), "utf8");
}

#[test]
fn application_data_arrives_whole_under_its_media_type() {
    let messages: Vec<Vec<u8>> = (0..20)
        .map(|n| format!("{{\"pulse\": {n}}}").into_bytes())
        .collect();
    let road = push_all("application/json", &messages);
    assert_eq!(road.caps().structure(0).unwrap().name(), "application/json");
}

#[test]
fn megabytes_arrive_whole() {
    let noise = |len: usize, mut seed: u32| -> Vec<u8> {
        let next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    };
    let all = [noise(3 << 20, 1), noise(1, 2), noise((1 << 20) + 1, 3)];
    let road = push_all("application/octet-stream", &all);
    assert!(road.packets.len() > 3000);
}

/// Longer than 16 bits of sequence numbers: the packets of one stream wrap in the middle of frames.
#[test]
fn sequence_numbers_wrap_unnoticed() {
    let keys = Keys::new();
    let player = Player::new(&format!(
        "appsrc name=in format=time max-bytes=0 caps=application/octet-stream ! {} ! \
         rtpsframepay mtu=100 seqnum-offset=65000 ! rtpsframedepay ! {} ! fakesink",
        keys.enc(1, ""),
        keys.dec("")
    ));
    let after = player.tap("dec", "src");
    player.start();
    let all: Vec<Vec<u8>> = (0..200u8).map(|n| vec![n; 1000]).collect();
    for (n, data) in all.iter().enumerate() {
        player.push("in", buffer(data, n as u64 * 20));
    }
    player.end("in");
    player.wait().unwrap();
    assert_eq!(after.data(), all);
}

#[test]
fn empty_buffers_pass_or_are_counted_and_nothing_else_is_lost() {
    let keys = Keys::new();
    let player = Player::new(&format!(
        "appsrc name=in format=time caps=application/json ! {} ! rtpsframepay ! rtpsframedepay ! {} ! fakesink",
        keys.enc(1, ""),
        keys.dec("")
    ));
    let after = player.tap("dec", "src");
    player.start();
    for (n, data) in ["a", "", "b", "", ""].iter().enumerate() {
        player.push("in", buffer(data, n as u64 * 20));
    }
    player.end("in");
    player.wait().unwrap();
    // A sealed empty frame is a header and a tag: it goes through like any other.
    assert_eq!(after.data(), [&b"a"[..], b"", b"b", b"", b""]);
}

#[test]
fn matroska_takes_vp8_and_opus_behind_rtp() {
    let keys = Keys::new();
    let file = keys.path("both.mkv");
    let player = Player::new(&format!(
        "matroskamux name=mux ! filesink location={} \
         {VIDEO} ! {VP8} ! {} ! rtpsframepay ! rtpsframedepay ! {} ! queue ! mux.video_0 \
         {AUDIO} ! opusenc ! {} ! rtpsframepay ! rtpsframedepay ! {} ! queue ! mux.audio_0",
        file.display(),
        keys.enc(1, "name=enc-video"),
        keys.dec("name=dec-video"),
        keys.enc(2, "name=enc-audio"),
        keys.dec("name=dec-audio"),
    ));
    let (video, audio) = (player.tap("enc-video", "sink"), player.tap("enc-audio", "sink"));
    player.play();
    drop(player);

    let reader = Player::new(&format!(
        "filesrc location={} ! matroskademux name=demux \
         demux.video_0 ! queue ! fakesink name=video demux.audio_0 ! queue ! fakesink name=audio",
        file.display()
    ));
    let (read_video, read_audio) = (reader.tap("video", "sink"), reader.tap("audio", "sink"));
    reader.play();
    assert!(fs::metadata(&file).unwrap().len() > 1000);
    assert_eq!(read_video.data(), video.data());
    assert_eq!(read_audio.data(), audio.data());
    let caps = &read_video.caps()[0];
    assert_eq!((field(caps, "width"), field(caps, "height")), (320, 240));
    assert_eq!(field(&read_audio.caps()[0], "channels"), 1);
}

#[test]
fn vp8_changes_its_size_in_the_middle() {
    let road = Road::new(
        "videotestsrc num-buffers=40 ! videoscale ! capsfilter name=size caps=video/x-raw,width=320,height=240 ! \
         vp8enc deadline=1 keyframe-max-dist=1000",
        "vp8dec ! fakesink name=pictures",
    );
    let pictures = road.player.tap("pictures", "sink");
    let sink = road.player.pad("size", "sink");
    let count = AtomicUsize::new(0);
    sink.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
        if count.fetch_add(1, Ordering::SeqCst) == 19 {
            let caps: gst::Caps = "video/x-raw,width=640,height=360".parse().unwrap();
            pad.parent_element().unwrap().set_property("caps", caps);
        }
        gst::PadProbeReturn::Ok
    });
    road.player.play();
    road.check(40);
    let sizes: Vec<_> = road
        .after
        .caps()
        .iter()
        .map(|caps| (field(caps, "width"), field(caps, "height")))
        .collect();
    assert_eq!(sizes, [(320, 240), (640, 360)]);
    assert_eq!(pictures.len(), 40);
    assert_eq!(field(pictures.caps().last().unwrap(), "width"), 640);
}

#[test]
fn tags_and_gaps_cross() {
    let keys = Keys::new();
    let player = Player::new(&format!(
        "appsrc name=in format=time caps=application/json ! taginject tags=\"title=consult\" ! {} ! \
         rtpsframepay ! rtpsframedepay ! {} ! fakesink name=out",
        keys.enc(1, ""),
        keys.dec("")
    ));
    let after = player.tap("dec", "src");
    player.start();
    player.push("in", buffer("{}", 0));
    let gap = gst::event::Gap::builder(gst::ClockTime::from_mseconds(20)).build();
    assert!(player.element("in").send_event(gap));
    player.push("in", buffer("{}", 40));
    player.end("in");
    player.wait().unwrap();
    assert_eq!(after.len(), 2);
    assert_eq!(after.gaps(), 1);
    let tags = player
        .pad("out", "sink")
        .sticky_event::<gst::event::Tag>(0)
        .expect("tags at the end");
    assert_eq!(tags.tag().get::<gst::tags::Title>().unwrap().get(), "consult");
}

#[test]
fn a_flushing_seek_starts_anew_and_everything_after_it_opens() {
    let road = Road::new(
        &format!("videotestsrc ! video/x-raw,width=160,height=120,framerate=30/1 ! {VP8}"),
        "fakesink sync=false",
    );
    let pipeline = road.player.pipeline().clone();
    let seek = |from: u64, to: u64| {
        pipeline
            .seek(
                1.0,
                gst::SeekFlags::FLUSH,
                gst::SeekType::Set,
                gst::ClockTime::from_mseconds(from),
                gst::SeekType::Set,
                gst::ClockTime::from_mseconds(to),
            )
            .unwrap();
    };
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(gst::ClockTime::NONE).0.unwrap();
    seek(0, 1000);
    road.player.start();
    road.player.wait().unwrap();
    let (sealed, opened) = (road.sealed.len(), road.after.len());
    seek(500, 1500);
    road.player.wait().unwrap();
    assert_eq!(road.after.len() - opened, road.sealed.len() - sealed);
    assert!(road.after.len() - opened >= 29);
    for cause in ["auth-failed", "replayed", "no-key", "malformed"] {
        assert_eq!(road.player.stat("dec", cause), 0, "{cause}");
    }
    let mut counters: Vec<u64> = road
        .sealed
        .buffers()
        .iter()
        .map(|seen| seen.header().ctr)
        .collect();
    counters.sort_unstable();
    counters.dedup();
    assert_eq!(counters.len(), road.sealed.len(), "a counter was used twice");
}
