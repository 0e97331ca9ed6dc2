//! The media file: played by a player that is none of ours, every track is there, whole and in time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstcompliance::recording::{Index, Medium, Options};

use super::clinic::{Clinic, consent, visit};
use super::common::{Frame, Frames, Place, Run, verified};
use super::studio::{self, Plan};

/// The tracks that GStreamer's demuxer finds, by the names of its pads, each with its caps; and how long the file says
/// it is.
fn demux(media: &Path) -> (BTreeMap<String, (gst::Caps, Vec<Frame>)>, gst::ClockTime) {
    let run = Run::new(&format!(
        "filesrc location={} ! matroskademux name=demux",
        media.display()
    ));
    let found = Arc::<Mutex<Vec<(gst::Pad, Frames)>>>::default();
    let (noted, pipeline) = (found.clone(), run.pipeline.downgrade());
    run.element("demux").connect_pad_added(move |_, pad| {
        let sink = gst::ElementFactory::make("fakesink")
            .property("sync", false)
            .property("async", false)
            .build()
            .unwrap();
        pipeline.upgrade().unwrap().add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        let to = sink.static_pad("sink").unwrap();
        noted.lock().unwrap().push((pad.clone(), Frames::of(&to)));
        pad.link(&to).unwrap();
    });
    run.play();
    run.wait("end of the file", |run| {
        assert_eq!(run.error(), None);
        run.has(gst::MessageType::Eos)
    });
    let duration = run.pipeline.query_duration::<gst::ClockTime>().unwrap();
    let tracks = found.lock().unwrap();
    let tracks = tracks.iter().map(|(pad, frames)| {
        (
            pad.name().to_string(),
            (pad.current_caps().unwrap(), frames.all()),
        )
    });
    (tracks.collect(), duration)
}

fn plain(frames: &[Frame]) -> Vec<(u64, Vec<u8>)> {
    frames
        .iter()
        .map(|frame| (frame.pts.unwrap().mseconds(), frame.bytes.clone()))
        .collect()
}

/// What the demuxer should find: it makes markup of plain text.
fn planned(plan: &Plan) -> Vec<(u64, Vec<u8>)> {
    let mut frames = plan.frames();
    if plan.medium == Medium::Text {
        for frame in &mut frames {
            let text = String::from_utf8(std::mem::take(&mut frame.bytes)).unwrap();
            frame.bytes = gst::glib::markup_escape_text(&text).as_bytes().to_vec();
        }
    }
    frames
        .iter()
        .map(|studio::Frame { ms, bytes, .. }| (*ms, bytes.clone()))
        .collect()
}

#[test]
fn every_track_is_there_byte_for_byte_and_on_one_clock() {
    let plans = [
        Plan::audio("alice", 40, 6000),
        Plan::video("alice", 0, 6000, 1000).without(2000, 3000),
        // Joins late.
        Plan::video("bob", 3480, 6000, 1000),
        // Leaves early.
        Plan::audio("carol", 0, 2500),
        // What was said in the room is JSON.
        Plan::text(
            "",
            &[
                (500, r#"{"sender":"alice","type":"text/plain","text":"hällo"}"#),
                (4000, "good bye \u{1f44b}"),
            ],
        ),
    ];
    let clinic = Clinic::new(&consent(), &plans);
    let said = clinic.export(&[]);
    assert_eq!(said.code, 0, "{}", said.error);
    let (tracks, duration) = demux(&clinic.media("out"));
    assert_eq!(duration.mseconds(), 6000);
    assert_eq!(tracks.len(), plans.len());
    // Which pad is whose follows from what comes.
    for plan in &plans {
        let wanted = planned(plan);
        let (name, (_, frames)) = tracks
            .iter()
            .find(|(_, (_, frames))| frames[0].bytes == wanted[0].1)
            .unwrap();
        assert!(
            plain(frames) == wanted,
            "{name} is not {}: {frames:?}",
            plan.sender
        );
        let kind = match plan.medium {
            Medium::Video => "video",
            Medium::Audio => "audio",
            _ => "subtitle",
        };
        assert!(name.starts_with(kind), "{name}");
    }
    let description = clinic.bundle("out");
    let document = super::clinic::first(&description, "DocumentReference");
    assert!(document["description"].as_str().unwrap().contains("1 gaps"));
}

#[test]
fn chosen_tracks_and_no_others() {
    let clinic = Clinic::new(&consent(), &visit());
    let said = clinic.export(&["--track", "0", "--track", "2"]);
    assert_eq!(said.code, 0, "{}", said.error);
    let (tracks, _) = demux(&clinic.media("out"));
    let kinds: Vec<_> = tracks
        .keys()
        .map(|name| name.split('_').next().unwrap())
        .collect();
    assert_eq!(kinds, ["subtitle", "video"]);
}

/// Decodes a track of each kind; how many frames came out, and the first one's time.
fn decode(media: &Path, video: &str) -> [(usize, gst::ClockTime); 2] {
    let description = format!(
        "filesrc location={} ! matroskademux name=d \
         d.video_0 ! queue ! {video} ! fakesink name=video sync=false \
         d.audio_0 ! queue ! opusdec ! fakesink name=audio sync=false",
        media.display()
    );
    let run = Run::new(&description);
    let frames = ["video", "audio"].map(|name| Frames::of(&run.element(name).static_pad("sink").unwrap()));
    run.to_eos();
    frames.map(|frames| (frames.len(), frames.all()[0].pts.unwrap()))
}

#[test]
fn real_pictures_and_sound_decode_in_time() {
    const PICTURES: &str =
        "videotestsrc num-buffers=75 ! video/x-raw,width=64,height=48,framerate=25/1,format=I420";
    const SOUND: &str =
        "audiotestsrc num-buffers=150 samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=1";
    const H264: &str = "video/x-h264,stream-format=byte-stream,alignment=au";
    const H265: &str = "video/x-h265,stream-format=byte-stream,alignment=au";
    for (encoder, decoder) in [
        (
            format!("x264enc speed-preset=1 bframes=2 key-int-max=20 ! {H264}"),
            "h264parse ! avdec_h264",
        ),
        (
            format!("x265enc speed-preset=1 key-int-max=20 ! {H265}"),
            "h265parse ! avdec_h265",
        ),
        ("vp8enc deadline=1 keyframe-max-dist=20".to_owned(), "vp8dec"),
        (
            "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=20".to_owned(),
            "vp9dec",
        ),
    ] {
        let place = Place::new(1);
        let run = place.launch(&format!(
            "{PICTURES} ! {encoder} ! rec.sink_0  {SOUND} ! opusenc ! rec.sink_1"
        ));
        let sent = Frames::of(&run.element("rec").static_pad("sink_0").unwrap());
        run.to_eos();
        let recording = place.recording();
        verified(&recording);
        let index = Index::open(&recording, &Options::default()).unwrap();
        let begins = |medium| {
            let track = index
                .tracks()
                .iter()
                .find(|track| track.medium == medium)
                .unwrap();
            gst::ClockTime::from_nseconds(track.members[0].from_ns)
        };
        let clinic = Clinic::of(place, recording);
        clinic.write("consent.json", &consent());
        let said = clinic.export(&[]);
        assert_eq!(said.code, 0, "{encoder}: {}", said.error);
        let [(pictures, video), (sounds, audio)] = decode(&clinic.media("out"), decoder);
        // vp9enc leaves some out.
        assert!(sent.len() > 50 && pictures == sent.len(), "{encoder}: {pictures}");
        assert!(sounds >= 145, "{encoder}: {sounds}");
        for (name, found, wanted) in [
            ("video", video, begins(Medium::Video)),
            ("audio", audio, begins(Medium::Audio)),
        ] {
            let apart = found.nseconds().abs_diff(wanted.nseconds());
            // Matroska counts milliseconds, and Opus begins with a few that are not heard.
            assert!(
                apart <= 8_000_000,
                "{encoder}: {name} at {found}, recorded at {wanted}"
            );
        }
    }
}
