//! What comes, and when.

use std::collections::BTreeSet;

use gst::prelude::*;
use gstcompliance::audit::Event;
use gstcompliance::recording::{Index, Medium, Options};

use super::common::units::{by_lengths, by_start_codes};
use super::common::{Frames, Place, Run, bytes, events};
use super::player::{Got, Player, Sink, identity_file, ms};
use super::studio::{Frame, Plan, record};

fn all(plan: &Plan) -> Vec<(u64, Vec<u8>)> {
    plan.frames()
        .into_iter()
        .map(|frame| (frame.ms, frame.bytes))
        .collect()
}

fn stream_start(sink: &Sink) -> (String, gst::GroupId) {
    match sink.last_event(gst::EventType::StreamStart).view() {
        gst::EventView::StreamStart(start) => (start.stream_id().to_owned(), start.group_id().unwrap()),
        _ => unreachable!(),
    }
}

fn comments(sink: &Sink) -> BTreeSet<String> {
    match sink.last_event(gst::EventType::Tag).view() {
        gst::EventView::Tag(tag) => {
            let comments = tag.tag();
            let all = comments.iter_tag::<gst::tags::ExtendedComment>();
            all.map(|comment| comment.get().to_owned()).collect()
        }
        _ => unreachable!(),
    }
}

#[test]
fn all_tracks_come_back_on_the_recording_s_clock() {
    let place = Place::new(1);
    let plans = [
        Plan::audio("alice", 40, 6000),
        Plan::video("alice", 0, 6000, 1000),
        // Joins late.
        Plan::video("bob", 3480, 6000, 1000),
        // Leaves early.
        Plan::audio("carol", 0, 2500),
        Plan::text("carol", &[(500, "hello"), (4000, "good bye \u{1f44b}")]),
    ];
    let recording = record(&place, &plans);
    let player = Player::new(&place, &recording);
    player.run.play();
    player.to_end();
    assert_eq!(player.names(), ["src_0", "src_1", "src_2", "src_3", "src_4"]);
    let mut groups = Vec::new();
    for (track, plan) in plans.iter().enumerate() {
        let sink = player.sink(&format!("src_{track}"));
        assert!(sink.frames() == all(plan), "track {track}: {:?}", sink.frames());
        // One segment for all: what has the same time is played at the same time.
        let segment = sink.segment();
        assert_eq!(segment.to_running_time(ms(3480)), Some(ms(3480)));
        assert_eq!(segment.to_stream_time(ms(3480)), Some(ms(3480)));
        assert_eq!(segment.duration(), Some(ms(6000)));
        let (id, group) = stream_start(&sink);
        let recording_id = recording.file_name().unwrap().to_str().unwrap();
        assert_eq!(id, format!("{recording_id}/{track}"));
        groups.push(group);
        let tags = comments(&sink);
        for tag in [
            format!("compliance-track={track}"),
            format!("compliance-medium={}", plan.medium),
            format!("compliance-sender={}", plan.sender),
            "compliance-leaf=3".to_owned(),
            format!("compliance-recording={recording_id}"),
        ] {
            assert!(tags.contains(&tag), "{tag} is not in {tags:?}");
        }
    }
    assert!(groups.windows(2).all(|pair| pair[0] == pair[1]), "{groups:?}");
    assert_eq!(
        player.sink("src_2").gaps(),
        [(0, 3480)],
        "until the late track begins"
    );
    assert_eq!(player.source.query_duration::<gst::ClockTime>(), Some(ms(6000)));
    assert_eq!(player.run.messages("compliancesrc-stats").len(), 1, "at EOS");
    player.run.stop();
    assert_eq!(
        player.run.messages("compliancesrc-stats").len(),
        2,
        "and at the end"
    );
    assert!(player.source.pads().is_empty());
}

#[test]
fn frames_say_what_they_are() {
    let place = Place::new(1);
    let recording = record(
        &place,
        &[Plan::video("alice", 0, 2000, 1000), Plan::audio("alice", 0, 1000)],
    );
    let player = Player::new(&place, &recording);
    player.run.play();
    player.to_end();
    let mut seen = 0;
    for got in player.sink("src_0").got() {
        let Got::Frame {
            ms, lasts_ms, flags, ..
        } = got
        else {
            continue;
        };
        assert_eq!(lasts_ms, Some(40), "{ms}");
        assert_eq!(
            flags.contains(gst::BufferFlags::DELTA_UNIT),
            ms % 1000 != 0,
            "{ms}"
        );
        assert_eq!(flags.contains(gst::BufferFlags::DISCONT), ms == 0, "{ms}");
        seen += 1;
    }
    assert_eq!(seen, 50);
    let sound = player.sink("src_1").got();
    assert!(sound.iter().all(|got| match got {
        Got::Frame { flags, lasts_ms, .. } =>
            !flags.contains(gst::BufferFlags::DELTA_UNIT) && *lasts_ms == Some(20),
        _ => true,
    }));
}

#[test]
fn what_was_not_kept_is_a_gap_with_a_reason() {
    let place = Place::new(1);
    let plan = Plan::audio("alice", 0, 6000).without(2500, 4000);
    let recording = record(&place, std::slice::from_ref(&plan));
    let player = Player::new(&place, &recording);
    player.run.play();
    player.to_end();
    let sink = player.sink("src_0");
    assert!(sink.frames() == all(&plan));
    assert_eq!(sink.gaps(), [(2500, 4000)]);
    let got = sink.got();
    let at = got.iter().position(|got| matches!(got, Got::Gap(..))).unwrap();
    let is = |got: &Got, wanted: u64| matches!(got, Got::Frame { ms, .. } if *ms == wanted);
    assert!(is(&got[at - 1], 2480) && is(&got[at + 1], 4000));
    let Got::Frame { flags, .. } = &got[at + 1] else {
        unreachable!()
    };
    assert!(flags.contains(gst::BufferFlags::DISCONT));
    let told = player.run.messages("compliance-gap");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].get::<u64>("start"), Ok(2_500_000_000));
    assert_eq!(told[0].get::<u64>("frames"), Ok(75));
    assert_eq!(told[0].get::<&str>("cause"), Ok("queue-full"));
}

#[test]
fn one_track_can_be_opened_alone() {
    let place = Place::new(1);
    let plans = [Plan::audio("alice", 0, 3000), Plan::audio("bob", 0, 3000)];
    let recording = record(&place, &plans);
    let player = Player::new(&place, &recording);
    player.source.set_property("track", 1);
    player.run.play();
    player.to_end();
    assert_eq!(player.names(), ["src_1"]);
    assert!(player.sink("src_1").frames() == all(&plans[1]));
    assert_eq!(player.stat("members"), 3);
    let opened = events(&place);
    assert!(
        opened
            .iter()
            .any(|event| matches!(event, Event::AccessOpened { tracks, .. } if *tracks == [1]))
    );
}

#[test]
fn a_track_that_nobody_links_is_not_decrypted() {
    let place = Place::new(1);
    let plans = [Plan::audio("alice", 0, 3000), Plan::audio("bob", 0, 3000)];
    let recording = record(&place, &plans);
    let player = Player::with(super::player::source(&place, &recording), |name| name == "src_1");
    player.run.play();
    player.to_end();
    // Its first member has the caps.
    assert_eq!(player.stat("members"), 1 + 3);
    // It waits until somebody does.
    let late = player.link("src_0");
    player.to_end();
    assert!(late.frames() == all(&plans[0]));
    assert_eq!(player.stat("members"), 6);
}

#[test]
fn nobody_to_play_to_is_an_error() {
    let place = Place::new(1);
    let recording = record(&place, &[Plan::audio("alice", 0, 1000)]);
    let player = Player::with(super::player::source(&place, &recording), |_| false);
    player.pause();
    player.wait("an error", |player| player.run.error().is_some());
    assert!(player.run.error().unwrap().contains("pad-added"));
}

#[test]
fn a_track_without_media_tells_its_gaps_and_has_no_pad() {
    let place = Place::new(1);
    let nothing = Plan::audio("bob", 0, 1000).without(0, 1000);
    let recording = record(&place, &[Plan::audio("alice", 0, 1000), nothing]);
    let player = Player::new(&place, &recording);
    player.run.play();
    player.to_end();
    assert_eq!(player.names(), ["src_0"]);
    assert_eq!(
        player.run.messages("compliance-gap")[0].get::<u32>("track"),
        Ok(1)
    );
    let player = Player::new(&place, &recording);
    player.source.set_property("track", 1);
    let error = player.refused();
    assert!(error.contains("there is no media"), "{error}");
    // Nothing to see there, so nobody saw it.
    assert_eq!(events(&place).len(), 1);
}

/// Plays a recording through this branch for each track; gives what comes out at `out_0`, `out_1`, ….
fn play(place: &Place, branches: &[&str]) -> Vec<(gst::Caps, Vec<super::common::Frame>)> {
    let recording = place.recording();
    let identity = place.path("identity");
    identity_file(&identity, &place.recipient);
    let mut description = format!(
        "compliancesrc name=rec location={} identity-file={} audit-log={} reader=a reason=b ticket=c",
        recording.display(),
        identity.display(),
        place.path("log").display()
    );
    for (track, branch) in branches.iter().enumerate() {
        description += &format!(" rec.src_{track} ! {branch} ! fakesink name=out_{track} sync=false");
    }
    let run = Run::new(&description);
    let pads: Vec<_> = (0..branches.len())
        .map(|track| run.element(&format!("out_{track}")).static_pad("sink").unwrap())
        .collect();
    let frames: Vec<_> = pads.iter().map(Frames::of).collect();
    run.play();
    run.wait("end of stream", |run| {
        assert_eq!(run.error(), None);
        run.has(gst::MessageType::Eos)
    });
    let caps: Vec<_> = pads.iter().map(|pad| pad.current_caps().unwrap()).collect();
    run.stop();
    caps.into_iter().zip(frames.iter().map(Frames::all)).collect()
}

const PICTURES: &str =
    "videotestsrc num-buffers=75 ! video/x-raw,width=64,height=48,framerate=25/1,format=I420";
const SOUND: &str = "audiotestsrc num-buffers=150 samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=1";

const AV1: &str = "av1enc cpu-used=8 keyframe-max-dist=20 ! av1parse";

/// Records these branches with the recorder itself; gives what went in.
fn tape(place: &Place, branches: &[String]) -> Vec<Vec<super::common::Frame>> {
    let mut description = String::new();
    for (pad, branch) in branches.iter().enumerate() {
        description += &format!(" {branch} ! queue ! rec.sink_{pad}");
    }
    let run = place.launch(&description);
    let sent: Vec<_> = (0..branches.len())
        .map(|pad| Frames::of(&run.element("rec").static_pad(&format!("sink_{pad}")).unwrap()))
        .collect();
    run.to_eos();
    sent.iter().map(Frames::all).collect()
}

#[test]
fn what_the_recorder_made_plays_as_it_came() {
    for branch in [
        format!("{PICTURES} ! vp8enc deadline=1 keyframe-max-dist=20"),
        format!("{PICTURES} ! vp9enc deadline=1 cpu-used=8 keyframe-max-dist=20"),
        format!("{PICTURES} ! {AV1}"),
        format!("{SOUND} ! opusenc"),
        format!("{SOUND} ! audioconvert ! audio/x-raw,format=S16LE"),
        format!("{SOUND} ! audioresample ! audio/x-raw,rate=8000 ! mulawenc"),
    ] {
        let place = Place::new(1);
        let sent = tape(&place, std::slice::from_ref(&branch)).remove(0);
        let (_, found) = play(&place, &["identity"]).remove(0);
        assert!(bytes(&sent) == bytes(&found), "{branch}");
        // The recording's clock begins when the first frame comes; a tick is a millisecond.
        let since = |frames: &[super::common::Frame], at: usize| {
            (frames[at].pts.unwrap() - frames[0].pts.unwrap()).useconds()
        };
        for at in 0..sent.len() {
            assert!(
                since(&sent, at).abs_diff(since(&found, at)) <= 1500,
                "{branch}, frame {at}"
            );
        }
    }
}

#[test]
fn h264_and_h265_play_unit_by_unit() {
    for (encoder, caps) in [
        ("x264enc speed-preset=1 bframes=2 key-int-max=20", "video/x-h264"),
        ("x265enc speed-preset=1 key-int-max=20", "video/x-h265"),
    ] {
        let place = Place::new(1);
        let caps = format!("{caps},stream-format=byte-stream,alignment=au");
        let sent = tape(&place, &[format!("{PICTURES} ! {encoder} ! {caps}")]).remove(0);
        let (_, found) = play(&place, &["identity"]).remove(0);
        let sent: Vec<_> = sent.iter().map(|frame| by_start_codes(&frame.bytes)).collect();
        let found: Vec<_> = found.iter().map(|frame| by_lengths(&frame.bytes)).collect();
        assert_eq!(sent.len(), 75);
        assert!(sent == found, "{encoder}");
        let index = Index::open(&place.recording(), &Options::default()).unwrap();
        let members = index.tracks()[0].members.iter();
        let keyframes: Option<u32> = members.map(|member| member.keyframes).sum();
        assert_eq!(keyframes, Some(4), "{encoder}");
    }
}

#[test]
fn decoders_find_in_the_caps_what_they_need() {
    let place = Place::new(1);
    let branches = [
        format!("{PICTURES} ! x264enc bframes=2 key-int-max=20 ! h264parse"),
        format!("{PICTURES} ! x265enc key-int-max=20 ! h265parse"),
        format!("{PICTURES} ! {AV1}"),
        format!("{PICTURES} ! vp8enc deadline=1"),
        format!("{SOUND} ! opusenc"),
    ];
    tape(&place, &branches);
    // Which track is whose depends on who came first.
    let tracks = play(&place, &["identity"; 5]);
    let kinds: Vec<_> = tracks
        .iter()
        .map(|(caps, _)| {
            let of = caps.structure(0).unwrap();
            let needed = match of.name().as_str() {
                "video/x-h264" | "video/x-h265" => Some("codec_data"),
                "audio/x-opus" => Some("streamheader"),
                _ => None,
            };
            assert!(needed.is_none_or(|field| of.has_field(field)), "{caps}");
            of.name().to_string()
        })
        .collect();
    let decoders: Vec<_> = kinds
        .iter()
        .map(|kind| match kind.as_str() {
            "video/x-h264" => "h264parse ! avdec_h264",
            "video/x-h265" => "h265parse ! avdec_h265",
            "video/x-av1" => "av1dec",
            "video/x-vp8" => "vp8dec",
            _ => "opusdec",
        })
        .collect();
    for ((_, decoded), kind) in play(&place, &decoders).iter().zip(&kinds) {
        let wanted = if kind == "audio/x-opus" { 145 } else { 75 };
        assert!(decoded.len() >= wanted, "{} of {kind}", decoded.len());
    }
}

/// Encodes; the track begins at this time.
fn encoded(branch: &str, medium: Medium, from_ms: u64) -> Plan {
    let run = Run::new(&format!("{branch} ! fakesink name=out sync=false"));
    let pad = run.element("out").static_pad("sink").unwrap();
    let frames = std::sync::Arc::<std::sync::Mutex<Vec<Frame>>>::default();
    let noted = frames.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap();
        let segment = pad.sticky_event::<gst::event::Segment>(0).unwrap();
        let segment = segment.segment().downcast_ref::<gst::ClockTime>().unwrap();
        noted.lock().unwrap().push(Frame {
            ms: from_ms + segment.to_running_time(buffer.pts()).unwrap().mseconds(),
            lasts_ms: buffer.duration().unwrap().mseconds(),
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            bytes: buffer.map_readable().unwrap().to_vec(),
        });
        gst::PadProbeReturn::Ok
    });
    run.play();
    run.wait("end of stream", |run| run.has(gst::MessageType::Eos));
    let caps = pad.current_caps().unwrap().to_string();
    run.stop();
    let frames = std::mem::take(&mut *frames.lock().unwrap());
    Plan::new(medium, &caps, "alice", frames.into_iter())
}

#[test]
fn decoders_begin_with_a_gap_and_after_one() {
    let place = Place::new(1);
    let x264 = format!(
        "{PICTURES} ! x264enc tune=zerolatency key-int-max=25 ! h264parse ! video/x-h264,stream-format=avc"
    );
    let x265 = format!(
        "{PICTURES} ! x265enc tune=zerolatency key-int-max=25 ! h265parse ! video/x-h265,stream-format=hvc1"
    );
    // Its decoder takes nothing whose keyframe is missing. The recorder begins again with one, which here is the frame
    // behind the gap.
    let av1 = format!("{PICTURES} ! {}", AV1.replace("dist=20", "dist=21"));
    let plans = [
        encoded(
            &format!("{PICTURES} ! vp8enc deadline=1 keyframe-max-dist=25"),
            Medium::Video,
            0,
        ),
        encoded(
            &format!("{PICTURES} ! vp8enc deadline=1 keyframe-max-dist=25"),
            Medium::Video,
            3000,
        ),
        encoded(
            &format!("{PICTURES} ! vp9enc deadline=1 cpu-used=8"),
            Medium::Video,
            3000,
        ),
        encoded(&x264, Medium::Video, 3000),
        encoded(&x265, Medium::Video, 3000),
        encoded(&av1, Medium::Video, 3000),
        encoded(&format!("{SOUND} ! opusenc"), Medium::Audio, 3000),
    ]
    .map(|plan| plan.without(5000, 5500));
    record(&place, &plans);
    let decoders = [
        "vp8dec",
        "vp8dec",
        "vp9dec",
        "h264parse ! avdec_h264",
        "h265parse ! avdec_h265",
        "av1dec",
        "opusdec",
    ];
    for ((_, decoded), plan) in play(&place, &decoders).iter().zip(&plans) {
        // The last frames may stay in a decoder that waits for the next one.
        let wanted = plan.frames().len() - 2;
        assert!(
            decoded.len() >= wanted,
            "{} of {wanted} of {}",
            decoded.len(),
            plan.caps
        );
    }
}

#[test]
fn a_muxer_finds_the_right_pads() {
    let place = Place::new(1);
    let plans = [
        encoded(&format!("{SOUND} ! opusenc"), Medium::Audio, 0),
        encoded(&format!("{PICTURES} ! vp8enc deadline=1"), Medium::Video, 0),
    ];
    let recording = record(&place, &plans);
    let (identity, file) = (place.path("identity"), place.path("visit.mkv"));
    identity_file(&identity, &place.recipient);
    let run = Run::new(&format!(
        "compliancesrc name=rec location={} identity-file={} audit-log={} reader=a reason=b ticket=c \
         rec.src_0 ! matroskamux name=mux ! filesink location={} rec.src_1 ! mux.",
        recording.display(),
        identity.display(),
        place.path("log").display(),
        file.display()
    ));
    run.to_eos();
    let run = Run::new(&format!(
        "filesrc location={} ! matroskademux name=d d.video_0 ! queue ! vp8dec ! fakesink name=video sync=false \
         d.audio_0 ! queue ! opusdec ! fakesink name=audio sync=false",
        file.display()
    ));
    let out = |name| Frames::of(&run.element(name).static_pad("sink").unwrap());
    let (video, audio) = (out("video"), out("audio"));
    run.to_eos();
    assert_eq!(video.len(), 75);
    assert!(audio.len() >= 145, "{}", audio.len());
}

/// The frame that is recorded at this time.
pub fn at(plan: &Plan, ms: u64) -> Frame {
    plan.frames().into_iter().rfind(|frame| frame.ms <= ms).unwrap()
}
