//! `compliancesink` without a room: what goes in comes out with tar, age and GStreamer alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::disk::{Trouble, Troubled};
use common::feed::{Feed, OPUS, TEXT, VP8, delta, frame, opened};
use common::units::{by_lengths, by_start_codes};
use common::{Frame, Frames, Place, Stored, bytes, demux, logged, stored, verified};
use gst::prelude::*;
use gstcompliance::recording::{Index, Options, State};

const PICTURES: &str =
    "videotestsrc num-buffers=75 ! video/x-raw,width=64,height=48,framerate=25/1,format=I420";
const SOUND: &str = "audiotestsrc num-buffers=150 samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=1";
const SILENCE: &str =
    "audiotestsrc wave=silence num-buffers=150 samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=1";
const TELEPHONE: &str =
    "audiotestsrc num-buffers=150 samplesperbuffer=160 ! audio/x-raw,rate=8000,channels=1";

/// Records what one branch makes; gives what went in and what GStreamer finds in the recording.
fn round_trip(branch: &str) -> (Vec<Frame>, gst::Caps, Vec<Frame>) {
    let place = Place::new(1);
    let run = place.launch(&format!("{branch} ! rec.sink_0"));
    let sent = Frames::of(&run.element("rec").static_pad("sink_0").unwrap());
    run.to_eos();
    verified(&place.recording());
    let mut tracks = place.open(&place.recording());
    assert_eq!(tracks.len(), 1);
    let (_, stream) = tracks.remove(0);
    let (caps, found) = demux(&stream);
    assert!(sent.len() > 10, "{branch}");
    assert_eq!(found.len(), sent.len(), "{branch}");
    (sent.all(), caps, found)
}

/// The stored frames of the tracks, by the names of the tars.
fn tracks(place: &Place) -> Vec<(String, Stored)> {
    let tracks = place.open(&place.recording());
    tracks
        .iter()
        .map(|(name, stream)| (name.clone(), stored(stream)))
        .collect()
}

fn of(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn frames_come_back_byte_for_byte() {
    for branch in [
        format!("{PICTURES} ! vp8enc deadline=1 keyframe-max-dist=20"),
        format!("{PICTURES} ! vp9enc deadline=1 cpu-used=8 keyframe-max-dist=20"),
        format!("{SOUND} ! opusenc"),
        format!("{SILENCE} ! opusenc dtx=true bitrate-type=vbr"),
        format!("{TELEPHONE} ! mulawenc"),
        format!("{TELEPHONE} ! alawenc"),
        format!("{TELEPHONE},format=S16BE"),
    ] {
        let (sent, _, found) = round_trip(&branch);
        assert!(bytes(&sent) == bytes(&found), "{branch}");
    }
}

#[test]
fn av1_comes_back_byte_for_byte() {
    let pictures = PICTURES.replace("num-buffers=75", "num-buffers=12");
    let caps = "video/x-av1,stream-format=obu-stream,alignment=tu,width=64,height=48,framerate=25/1";
    let (sent, _, found) = round_trip(&format!(
        "{pictures} ! av1enc cpu-used=8 ! capssetter caps={caps} join=false"
    ));
    assert!(bytes(&sent) == bytes(&found));
}

#[test]
fn h264_and_h265_come_back_unit_by_unit() {
    for (encoder, caps) in [
        ("x264enc speed-preset=1 bframes=2 key-int-max=20", "video/x-h264"),
        ("x264enc tune=zerolatency key-int-max=20", "video/x-h264"),
        ("x265enc tune=zerolatency key-int-max=20", "video/x-h265"),
    ] {
        let caps = format!("{caps},stream-format=byte-stream,alignment=au");
        let (sent, _, found) = round_trip(&format!("{PICTURES} ! {encoder} ! {caps}"));
        for (number, (sent, found)) in sent.iter().zip(&found).enumerate() {
            let units = by_start_codes(&sent.bytes);
            assert!(
                !units.is_empty() && units == by_lengths(&found.bytes),
                "{encoder}, frame {number}"
            );
        }
    }
}

#[test]
fn text_is_stored_byte_for_byte_and_times_to_the_millisecond() {
    let place = Place::new(1);
    let run = place.recorder("require-room=false");
    let feed = Feed::new(&run.element("rec"), TEXT);
    let texts = [
        "hello",
        "{\"pulse\":72,\"ok\":\"a<b & c\"}",
        "ümläut\n",
        "<b>bold</b>",
        "end\0",
        "",
    ];
    for (number, text) in texts.iter().enumerate() {
        feed.push(frame(700 * number as u64, text.as_bytes()));
    }
    feed.eos();
    run.wait("end", |run| run.has(gst::MessageType::Eos));
    let stored = tracks(&place).remove(0).1;
    let sent: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| (700 * n as u64, of(text)))
        .collect();
    assert_eq!(stored, sent);
    // GStreamer's demuxer takes all text for markup, and escapes what is none.
    let stream = place.open(&place.recording()).remove(0).1;
    let (caps, found) = demux(&stream);
    assert_eq!(caps.to_string(), "text/x-raw, format=(string)pango-markup");
    assert_eq!(found[0].bytes, b"hello");
    assert_eq!(
        found[1].bytes,
        b"{&quot;pulse&quot;:72,&quot;ok&quot;:&quot;a&lt;b &amp; c&quot;}"
    );
}

#[test]
fn what_people_say_is_one_track_of_lines_whoever_says_it_and_whatever_it_is() {
    let place = Place::new(1);
    let run = place.recorder("require-room=false");
    let recorder = run.element("rec");
    let video = Feed::new(&recorder, VP8);
    let messages = Feed::to(&recorder, "messages_%u", TEXT);
    video.push(opened(frame(0, b"picture"), 3, 1, "anna"));
    let photo = vec![0xd8; 3 << 20];
    messages.push(opened(frame(700, "Does it hurt?".as_bytes()), 3, 1, "anna"));
    messages.caps("image/jpeg, file-name=(string)wound.jpg");
    messages.push(opened(frame(900, &photo), 3, 2, "ben"));
    messages.caps(TEXT);
    messages.push(opened(frame(1400, b"Yes"), 4, 2, "ben"));
    // A conversation has no end of its own.
    video.eos();
    run.wait("end", |run| run.has(gst::MessageType::Eos));
    verified(&place.recording());
    let tracks = tracks(&place);
    assert_eq!(tracks.len(), 2, "one of pictures, one of messages");
    let lines: Vec<_> = tracks[1]
        .1
        .iter()
        .map(|(at, bytes)| (*at, serde_json::from_slice::<serde_json::Value>(bytes).unwrap()))
        .collect();
    assert_eq!(
        lines[0],
        (
            700,
            serde_json::json!({"sender": "anna", "leaf": 1, "type": "text/plain", "text": "Does it hurt?"})
        )
    );
    assert_eq!(lines[1].0, 900);
    assert_eq!(lines[1].1["name"], "wound.jpg");
    let base64 = lines[1].1["base64"].as_str().unwrap();
    assert_eq!(base64, "2NjY".repeat(1 << 20));
    assert_eq!(lines[2].1["text"], "Yes");
}

#[test]
fn sound_and_pictures_share_one_clock_and_late_and_leaving_pads_are_tracks() {
    let place = Place::new(1);
    let run = place.recorder("require-room=false");
    let recorder = run.element("rec");
    let video = Feed::new(&recorder, VP8);
    let audio = Feed::new(&recorder, OPUS);
    for at in (0..3000).step_by(40) {
        let bytes = format!("picture {at}");
        let picture = frame(at, bytes.as_bytes());
        video.push(if at % 1000 == 0 { picture } else { delta(picture) });
        audio.push(frame(at, format!("sound {at}").as_bytes()));
    }
    audio.leave();
    let late = Feed::new(&recorder, OPUS);
    late.push(frame(3000, b"late"));
    late.push(frame(4040, b"later"));
    video.push(frame(4040, b"picture 4040"));
    late.eos();
    assert!(!run.has(gst::MessageType::Eos), "one pad goes on");
    video.eos();
    run.wait("end", |run| run.has(gst::MessageType::Eos));
    run.stop();
    verified(&place.recording());
    let tracks = tracks(&place);
    let names: Vec<_> = tracks.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["0-video", "1-audio", "2-audio"]);
    let at = |track: usize, of: usize| tracks[track].1[of].clone();
    assert_eq!(tracks[0].1.len(), 76);
    for number in 0..75 {
        let time = 40 * number as u64;
        assert_eq!(at(0, number), (time, of(&format!("picture {time}"))));
        assert_eq!(at(1, number), (time, of(&format!("sound {time}"))));
    }
    assert_eq!(at(0, 75), (4040, of("picture 4040")));
    assert_eq!(tracks[2].1, [(3000, of("late")), (4040, of("later"))]);
    let stats = run.messages("compliancesink-stats");
    assert_eq!(stats.last().unwrap().get::<u64>("tracks").unwrap(), 3);
    // Who seeks finds keyframes without reading members that have none.
    let index = Index::open(&place.recording(), &Options::default()).unwrap();
    let keyframes = |track: usize| -> Option<u32> {
        let members = index.tracks()[track].members.iter();
        members.map(|member| member.keyframes).sum()
    };
    assert_eq!((keyframes(0), keyframes(1)), (Some(4), None));
}

#[test]
fn other_caps_begin_another_track() {
    let place = Place::new(1);
    let run = place.recorder("require-room=false");
    let feed = Feed::new(&run.element("rec"), VP8);
    feed.push(frame(0, b"small"));
    feed.push(delta(frame(40, b"small too")));
    feed.caps(VP8);
    feed.push(delta(frame(80, b"as small")));
    feed.caps(&VP8.replace("320", "640"));
    feed.push(delta(frame(120, b"nobody can decode this")));
    feed.push(frame(160, b"large"));
    feed.eos();
    run.wait("end", |run| run.has(gst::MessageType::Eos));
    let tracks = tracks(&place);
    assert_eq!(
        tracks[0].1,
        [(0, of("small")), (40, of("small too")), (80, of("as small"))]
    );
    assert_eq!(tracks[1].1, [(160, of("large"))]);
    let gaps = run.messages("compliance-gap");
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].get::<&str>("cause").unwrap(), "waiting-keyframe");
    assert_eq!(gaps[0].get::<u32>("track").unwrap(), 1);
    assert!(feed.keyframes_asked() >= 1);
}

#[test]
fn a_changed_size_of_h264_is_another_track_without_new_caps() {
    let place = Place::new(1);
    let encoder =
        "x264enc tune=zerolatency key-int-max=10 ! video/x-h264,stream-format=byte-stream,alignment=au";
    // Two streams with their own parameter sets; caps that do not tell them apart, as from sframedec.
    let parts: Vec<_> = ["64", "96"]
        .iter()
        .map(|width| {
            let pictures = PICTURES.replace("width=64", &format!("width={width}"));
            let run = common::Run::new(&format!("{pictures} ! {encoder} ! fakesink name=out"));
            let frames = Frames::of(&run.element("out").static_pad("sink").unwrap());
            run.to_eos();
            frames.all()
        })
        .collect();
    let run = place.recorder("require-room=false");
    let feed = Feed::new(
        &run.element("rec"),
        "video/x-h264,stream-format=byte-stream,alignment=au",
    );
    for (number, sent) in parts.iter().flatten().enumerate() {
        feed.push(frame(40 * number as u64, &sent.bytes));
    }
    feed.eos();
    run.wait("end", |run| run.has(gst::MessageType::Eos));
    let tracks = place.open(&place.recording());
    assert_eq!(tracks.len(), 2);
    for ((_, stream), part) in tracks.iter().zip(&parts) {
        let (_, found) = demux(stream);
        let sent: Vec<_> = part.iter().map(|frame| by_start_codes(&frame.bytes)).collect();
        let found: Vec<_> = found.iter().map(|frame| by_lengths(&frame.bytes)).collect();
        assert_eq!(sent, found);
    }
}

#[test]
fn what_stops_without_end_of_stream_is_complete() {
    let place = Place::new(1);
    let run = place.recorder("require-room=false");
    let feed = Feed::new(&run.element("rec"), OPUS);
    feed.push(frame(0, b"one"));
    feed.push(frame(20, b"two"));
    run.stop();
    let report = verified(&place.recording());
    assert_eq!(report.state, State::Complete);
    assert_eq!(tracks(&place)[0].1, [(0, of("one")), (20, of("two"))]);
    assert_eq!(logged(&place), ["started", "consent", "track-opened", "stopped"]);
    let shown = run.element("rec").property::<String>("recording-id");
    assert_eq!(shown, place.recording().file_name().unwrap().to_str().unwrap());
}

#[test]
fn a_frame_is_on_disk_within_a_segment_though_none_follows() {
    let place = Place::new(1);
    let run = place.recorder("require-room=false segment-duration=250000000");
    let feed = Feed::new(&run.element("rec"), OPUS);
    feed.push(frame(0, b"the last word before the pause"));
    run.wait("segment", |run| run.messages("compliance-segment").len() == 1);
    feed.push(frame(5000, b"later"));
    run.wait("segment", |run| run.messages("compliance-segment").len() == 2);
    // Nobody ended it: everything sealed is there all the same.
    let report = verified(&place.recording());
    assert_eq!(report.state, State::Unfinished);
    assert_eq!(report.tracks[0].members, 2);
    assert_eq!(tracks(&place)[0].1.len(), 2);
    run.stop();
    let (_, found) = demux(&place.open(&place.recording())[0].1);
    assert_eq!(bytes(&found), [of("the last word before the pause"), of("later")]);
}

#[test]
fn what_was_lost_before_the_recorder_is_a_gap() {
    let place = Place::new(1);
    let run = place.recorder("require-room=false");
    let feed = Feed::new(&run.element("rec"), OPUS);
    feed.push(frame(0, b"one"));
    for at in [20, 40, 60] {
        feed.gap(at, 20);
    }
    feed.push(frame(80, b"two"));
    feed.eos();
    run.wait("end", |run| run.has(gst::MessageType::Eos));
    let gaps = run.messages("compliance-gap");
    assert_eq!(gaps.len(), 1);
    let number = |name| gaps[0].get::<u64>(name).unwrap();
    assert_eq!(
        (number("start"), number("stop"), number("frames")),
        (20_000_000, 80_000_000, 3)
    );
    assert_eq!(gaps[0].get::<&str>("cause").unwrap(), "lost-upstream");
    assert_eq!(verified(&place.recording()).tracks[0].gaps, 1);
    assert!(logged(&place).contains(&"gap"));
}

/// What a jitter buffer says of lost packets of video: how many, and where it goes on.
#[test]
fn what_was_lost_without_a_duration_is_missing_since_the_frame_before() {
    let place = Place::new(1);
    let run = place.recorder("require-room=false");
    let feed = Feed::new(&run.element("rec"), OPUS);
    feed.push(frame(0, b"one"));
    feed.gap(5000, 0);
    feed.push(frame(5020, b"two"));
    feed.gap(5060, 0);
    feed.push(frame(5080, b"three"));
    feed.eos();
    run.wait("end", |run| run.has(gst::MessageType::Eos));
    let gaps = run.messages("compliance-gap");
    let times =
        |gap: &gst::Structure| ["start", "stop"].map(|name| gap.get::<u64>(name).unwrap() / 1_000_000);
    let times: Vec<_> = gaps.iter().map(times).collect();
    assert_eq!(times, [[20, 5000], [5040, 5060]]);
}

#[test]
fn times_that_jump_come_back_as_they_were() {
    let place = Place::new(1);
    let run = place.recorder("require-room=false");
    let feed = Feed::new(&run.element("rec"), OPUS);
    let times = [100_000, 100_020, 400_000, 399_990, 500_000, 100_500, 100_520];
    for at in times {
        feed.push(frame(at, format!("{at}").as_bytes()));
    }
    run.stop();
    verified(&place.recording());
    // The clock begins half a second before the first frame.
    let sent: Vec<_> = times
        .iter()
        .map(|at| (at - 99_500, of(&at.to_string())))
        .collect();
    assert_eq!(tracks(&place)[0].1, sent);
}

#[test]
fn what_cannot_be_stored_is_warned_of_and_the_others_go_on() {
    let place = Place::new(1);
    let run = place.recorder("require-room=false");
    let recorder = run.element("rec");
    let strange = Feed::new(&recorder, "application/json");
    let audio = Feed::new(&recorder, OPUS);
    for at in [0, 20] {
        strange.push(frame(at, b"{}"));
        audio.push(frame(at, b"sound"));
    }
    run.stop();
    let warnings = run.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("application/json") && warnings[0].contains("video/x-vp8"),
        "{warnings:?}"
    );
    assert_eq!(run.error(), None);
    let report = verified(&place.recording());
    let tracks: Vec<_> = report
        .tracks
        .iter()
        .map(|track| (track.members, track.gaps))
        .collect();
    assert_eq!(tracks, [(0, 1), (1, 0)]);
    assert_eq!(run.stat("dropped-unsupported"), 2);
}

#[test]
fn media_flows_on_a_slow_disk_and_nothing_is_lost() {
    let place = Place::new(1);
    let trouble = Arc::<Trouble>::default();
    let run = place.recorder_on(
        "require-room=false segment-duration=250000000",
        Some(Arc::new(Troubled(trouble.clone()))),
    );
    trouble.sync_ms.store(500, Ordering::SeqCst);
    let feed = Feed::new(&run.element("rec"), OPUS);
    let mut slowest = Duration::ZERO;
    for at in (0..3000).step_by(20) {
        let begun = std::time::Instant::now();
        feed.push(frame(at, format!("{at}").as_bytes()));
        slowest = slowest.max(begun.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(
        slowest < Duration::from_millis(400),
        "a frame waited for the disk: {slowest:?}"
    );
    trouble.sync_ms.store(0, Ordering::SeqCst);
    run.stop();
    verified(&place.recording());
    assert_eq!(tracks(&place)[0].1.len(), 150);
}

#[test]
fn what_a_stuck_disk_has_no_room_for_is_a_gap_from_keyframe_to_keyframe() {
    let place = Place::new(1);
    let trouble = Arc::<Trouble>::default();
    let run = place.recorder_on(
        "require-room=false segment-duration=250000000 max-size-bytes=20000",
        Some(Arc::new(Troubled(trouble.clone()))),
    );
    let feed = Feed::new(&run.element("rec"), VP8);
    trouble.stick(true);
    for at in 0..30 {
        let picture = frame(at * 40, &[7; 1000]);
        feed.push(if at % 10 == 0 { picture } else { delta(picture) });
    }
    assert_eq!(run.stat("dropped-queue-full"), 10);
    assert!(run.stat("queue-bytes") <= 20_000);
    assert!(feed.keyframes_asked() >= 1);
    trouble.stick(false);
    run.wait("an empty queue", |run| run.stat("queue-bytes") == 0);
    feed.push(delta(frame(1240, b"useless without those before")));
    feed.push(frame(1280, b"key"));
    run.stop();
    verified(&place.recording());
    let stored = &tracks(&place)[0].1;
    assert_eq!(stored.len(), 21);
    assert_eq!(stored[20], (1280, of("key")));
    let gaps: Vec<_> = run
        .messages("compliance-gap")
        .iter()
        .map(|gap| {
            let number = |name| gap.get::<u64>(name).unwrap();
            let cause = gap.get::<String>("cause").unwrap();
            (cause, number("start") / 1_000_000, number("frames"))
        })
        .collect();
    assert_eq!(
        gaps,
        [
            ("queue-full".into(), 800, 10),
            ("waiting-keyframe".into(), 1240, 1)
        ]
    );
}

#[test]
fn a_full_disk_ends_the_recording_and_what_was_sealed_stays() {
    let place = Place::new(1);
    let trouble = Arc::<Trouble>::default();
    let disk = Arc::new(Troubled(trouble.clone()));
    let run = place.recorder_on("require-room=false segment-duration=250000000", Some(disk));
    let feed = Feed::new(&run.element("rec"), OPUS);
    feed.push(frame(0, b"sealed"));
    run.wait("segment", |run| run.messages("compliance-segment").len() == 1);
    trouble.full.store(true, Ordering::SeqCst);
    feed.push(frame(300, b"lost"));
    run.wait("failure", |run| run.error().is_some());
    let failed = run.messages("compliance-failed");
    assert_eq!(failed[0].get::<&str>("cause").unwrap(), "disk-full");
    assert!(failed[0].get::<&str>("reason").unwrap().contains("make room"));
    // The call is no business of the disk's.
    feed.push(frame(320, b"not recorded"));
    run.stop();
    let report = verified(&place.recording());
    assert_eq!(report.state, State::Complete);
    assert_eq!(report.end.unwrap().1, "disk-full");
    assert_eq!(tracks(&place)[0].1, [(0, of("sealed"))]);
    assert_eq!(logged(&place).last(), Some(&"failed"));
}

/// A recorder whose audit log is damaged while it runs; what it said last.
fn record_without_a_log(policy: &str) -> (Place, common::Run) {
    let place = Place::new(1);
    let run = place.recorder(&format!(
        "require-room=false segment-duration=250000000 log-unavailable={policy}"
    ));
    let log = std::fs::OpenOptions::new()
        .write(true)
        .open(place.path("log").join("log"))
        .unwrap();
    log.set_len(0).unwrap();
    let feed = Feed::new(&run.element("rec"), OPUS);
    feed.push(frame(0, b"one"));
    run.wait("an answer", |run| {
        run.error().is_some() || !run.warnings().is_empty()
    });
    feed.push(frame(20, b"two"));
    (place, run)
}

#[test]
fn without_a_log_the_recording_fails() {
    let (place, run) = record_without_a_log("fail");
    let failed = run.messages("compliance-failed").remove(0);
    assert_eq!(failed.get::<&str>("cause").unwrap(), "log-unavailable");
    assert!(
        failed
            .get::<&str>("reason")
            .unwrap()
            .contains("log-unavailable=unanchored")
    );
    run.stop();
    assert_eq!(verified(&place.recording()).end.unwrap().1, "log-unavailable");
}

#[test]
fn without_a_log_the_recording_goes_on_and_says_so_where_that_is_wanted() {
    let (place, run) = record_without_a_log("unanchored");
    run.stop();
    assert_eq!(run.error(), None);
    assert!(run.warnings()[0].contains("not logged"), "{:?}", run.warnings());
    let end = verified(&place.recording()).end.unwrap().1;
    assert_eq!(end, "stopped; unanchored: the audit log did not take 1 entries");
    assert_eq!(run.stat("unlogged"), 2);
    assert_eq!(tracks(&place)[0].1.len(), 2);
}

#[test]
fn every_start_is_a_recording_with_a_key_of_its_own() {
    let place = Place::new(2);
    let run = place.recorder("require-room=false");
    for number in 1..=2u8 {
        let feed = Feed::new(&run.element("rec"), OPUS);
        feed.push(frame(0, &[number]));
        feed.eos();
        run.wait("end", |run| {
            run.messages("compliance-stopped").len() == usize::from(number)
        });
        feed.leave();
        run.pipeline.set_state(gst::State::Ready).unwrap();
        assert_eq!(place.recordings().len(), usize::from(number));
        if number == 1 {
            run.play();
        }
    }
    // There is no third bundle.
    assert!(run.pipeline.set_state(gst::State::Playing).is_err());
    let error = run.error().unwrap();
    assert!(
        error.contains("no unused key bundle") && error.contains("gst-compliance keys prepare"),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_said_at_the_start() {
    let place = Place::new(1);
    let all = place.properties();
    for (missing, expected) in [
        ("location", "set location"),
        ("keys", "set keys"),
        ("audit-log", "set audit-log"),
        ("require-room", "put mlskeyring into the pipeline"),
    ] {
        let properties = format!("require-room=false {all}");
        let left: Vec<_> = properties
            .split(' ')
            .filter(|property| !property.starts_with(missing))
            .collect();
        let run = common::Run::of(gst::Pipeline::new());
        let sink = gst::parse::launch(&format!("compliancesink {}", left.join(" "))).unwrap();
        run.pipeline.add(&sink).unwrap();
        assert!(run.pipeline.set_state(gst::State::Playing).is_err());
        let error = run.error().unwrap();
        assert!(error.contains(expected), "without {missing}: {error}");
    }
    std::fs::remove_file(place.path("keys").join("dealer.pub")).unwrap();
    let run = place.paused_recorder("require-room=false");
    assert!(run.pipeline.set_state(gst::State::Playing).is_err());
    assert!(run.error().unwrap().contains("dealer.pub"));
    assert!(place.recordings().is_empty());
}

#[test]
fn core_dumps_are_off_from_ready_on() {
    use rustix::process::{DumpableBehavior, dumpable_behavior};
    let place = Place::new(1);
    let run = place.paused_recorder("require-room=false");
    run.pipeline.set_state(gst::State::Ready).unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
}

#[test]
fn a_recorder_without_a_store_has_no_thread_for_one() {
    let place = Place::new(1);
    let run = place.recorder("require-room=false");
    run.wait("the start", |run| !run.messages("compliance-started").is_empty());
    let names: Vec<_> = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .collect();
    assert!(
        names.iter().any(|name| name.trim() == "compliancesink"),
        "{names:?}"
    );
    let of_store = |name: &&String| name.starts_with("compliance-stor") || name.starts_with("tokio");
    assert_eq!(names.iter().find(of_store), None);
    run.stop();
    assert_eq!(run.messages("compliance-store").len(), 0);
}
