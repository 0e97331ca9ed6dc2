//! From any time on.

use gst::prelude::*;

use super::common::{Place, Run};
use super::media::at;
use super::player::{Player, identity_file, ms};
use super::studio::{Plan, record};

/// Ten times between 0 and `end_ms`, without a pattern.
fn times(end_ms: u64) -> [u64; 10] {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    [(); 10].map(|()| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % end_ms
    })
}

#[test]
fn an_accurate_seek_gives_everything_from_that_time_on() {
    let place = Place::new(1);
    let video = Plan::video("alice", 0, 20_000, 1600);
    let audio = Plan::audio("alice", 0, 20_000);
    let recording = record(&place, &[video.clone(), audio.clone()]);
    let player = Player::new(&place, &recording);
    player.run.play();
    for time in times(20_000) {
        player.seek(gst::SeekFlags::ACCURATE, ms(time));
        player.to_end();
        let (pictures, sound) = (player.sink("src_0"), player.sink("src_1"));
        for sink in [&pictures, &sound] {
            assert_eq!(sink.segment().start(), Some(ms(time)));
            assert_eq!(sink.segment().time(), Some(ms(time)));
        }
        let frames = pictures.frames();
        let begin = time / 1600 * 1600;
        assert_eq!(frames[0].0, begin, "{time}: at the keyframe before");
        let wanted = video.frames().into_iter().filter(|frame| frame.ms >= begin);
        assert!(
            frames == wanted.map(|frame| (frame.ms, frame.bytes)).collect::<Vec<_>>(),
            "{time}"
        );
        let frames = sound.frames();
        let begin = at(&audio, time.saturating_sub(80)).ms;
        let wanted = audio.frames().into_iter().filter(|frame| frame.ms >= begin);
        assert!(
            frames == wanted.map(|frame| (frame.ms, frame.bytes)).collect::<Vec<_>>(),
            "{time}"
        );
    }
    assert_eq!(player.stat("seeks"), 10);
}

#[test]
fn a_key_unit_seek_begins_with_a_keyframe_for_all_tracks() {
    let place = Place::new(1);
    let video = Plan::video("alice", 0, 20_000, 1600);
    let recording = record(&place, &[video, Plan::audio("alice", 0, 20_000)]);
    let player = Player::new(&place, &recording);
    player.run.play();
    for time in times(20_000) {
        player.seek(gst::SeekFlags::KEY_UNIT, ms(time));
        player.to_end();
        let begin = time / 1600 * 1600;
        for name in ["src_0", "src_1"] {
            let segment = player.sink(name).segment();
            assert_eq!(
                (segment.start(), segment.time()),
                (Some(ms(begin)), Some(ms(begin))),
                "{name} {time}"
            );
        }
        assert_eq!(player.sink("src_0").frames()[0].0, begin);
        let sound = player.sink("src_1").frames()[0].0;
        assert!(
            (begin.saturating_sub(80)..=begin).contains(&sound),
            "{sound} for {begin}"
        );
    }
}

#[test]
fn with_two_pictures_a_key_unit_seek_goes_to_the_nearest_keyframe() {
    let place = Place::new(1);
    let plans = [
        Plan::video("alice", 0, 10_000, 4000),
        Plan::video("bob", 0, 10_000, 3000),
    ];
    let recording = record(&place, &plans);
    let player = Player::new(&place, &recording);
    player.run.play();
    player.seek(gst::SeekFlags::KEY_UNIT, ms(7900));
    player.to_end();
    assert_eq!(player.sink("src_0").segment().start(), Some(ms(6000)));
    // The other decodes what comes before the segment.
    assert_eq!(player.sink("src_0").frames()[0].0, 4000);
    assert_eq!(player.sink("src_1").frames()[0].0, 6000);
}

#[test]
fn a_seek_in_an_hour_reads_the_members_that_it_needs() {
    let place = Place::new(1);
    let plans = [
        Plan::slow_video("alice", 0, 3_600_000, 2000, 200),
        Plan::slow_video("bob", 0, 3_600_000, 2000, 200),
    ];
    let recording = record(&place, &plans);
    let player = Player::new(&place, &recording);
    player.pause();
    let sinks = [player.sink("src_0"), player.sink("src_1")];
    for time in times(3_600_000) {
        // One frame at a time: what is read ahead would count.
        sinks.iter().for_each(|sink| sink.hold(true));
        let before = player.stat("members");
        player.seek(gst::SeekFlags::KEY_UNIT, ms(time));
        player.wait("the first frames", |_| {
            sinks.iter().all(super::player::Sink::waits)
        });
        let read = player.stat("members") - before;
        assert!(read <= 2 * 3, "{read} members for {time} ms");
    }
    sinks.iter().for_each(|sink| sink.hold(false));
}

#[test]
fn a_seek_can_stop_before_the_end() {
    let place = Place::new(1);
    let recording = record(&place, &[Plan::video("alice", 0, 10_000, 1000)]);
    let player = Player::new(&place, &recording);
    player.run.play();
    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
    let (set, from, to) = (gst::SeekType::Set, ms(3000), ms(4500));
    player.source.seek(1.0, flags, set, from, set, to).unwrap();
    player.to_end();
    let frames = player.sink("src_0").frames();
    assert_eq!((frames[0].0, frames[frames.len() - 1].0), (3000, 4480));
    assert_eq!(player.sink("src_0").segment().stop(), Some(ms(4500)));
}

#[test]
fn a_seek_behind_a_track_s_end_and_before_its_beginning() {
    let place = Place::new(1);
    let plans = [Plan::audio("alice", 0, 3000), Plan::audio("bob", 6000, 9000)];
    let recording = record(&place, &plans);
    let player = Player::new(&place, &recording);
    player.run.play();
    player.seek(gst::SeekFlags::ACCURATE, ms(4000));
    player.to_end();
    assert!(player.sink("src_0").frames().is_empty());
    assert_eq!(player.sink("src_1").gaps(), [(4000, 6000)]);
    assert_eq!(player.sink("src_1").frames()[0].0, 6000);
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let place = Place::new(1);
    let recording = record(&place, &[Plan::audio("alice", 0, 3000)]);
    let player = Player::new(&place, &recording);
    player.run.play();
    let (flush, set, none) = (gst::SeekFlags::FLUSH, gst::SeekType::Set, gst::SeekType::None);
    let time = gst::ClockTime::NONE;
    assert!(
        player
            .source
            .seek(-1.0, flush, set, ms(0), set, ms(1000))
            .is_err(),
        "backwards"
    );
    assert!(
        player
            .source
            .seek(1.0, gst::SeekFlags::empty(), set, ms(0), none, time)
            .is_err(),
        "without flush"
    );
    assert!(
        player
            .source
            .seek(1.0, flush | gst::SeekFlags::SEGMENT, set, ms(0), none, time)
            .is_err(),
        "segment"
    );
    let bytes = gst::format::Bytes::from_u64(0);
    let none_bytes = Option::<gst::format::Bytes>::None;
    assert!(
        player
            .source
            .seek(1.0, flush, set, bytes, none, none_bytes)
            .is_err(),
        "bytes"
    );
    player.to_end();
    assert_eq!(
        (player.stat("seeks"), player.sink("src_0").frames().len()),
        (0, 150)
    );
}

#[test]
fn the_seek_of_a_pipeline_is_one_seek() {
    let place = Place::new(1);
    let recording = record(
        &place,
        &[Plan::audio("alice", 0, 3000), Plan::audio("bob", 0, 3000)],
    );
    let identity = place.path("identity");
    identity_file(&identity, &place.recipient);
    let run = Run::new(&format!(
        "compliancesrc name=rec location={} identity-file={} audit-log={} reader=a reason=b ticket=c \
         rec.src_0 ! queue ! fakesink rec.src_1 ! fakesink",
        recording.display(),
        identity.display(),
        place.path("log").display()
    ));
    run.pipeline.set_state(gst::State::Paused).unwrap();
    let reached = run.pipeline.state(gst::ClockTime::from_seconds(60));
    assert_eq!(reached.1, gst::State::Paused, "{:?}", run.error());
    assert!(run.pipeline.query_duration::<gst::ClockTime>() == Some(ms(3000)));
    for time in [1000, 2000, 500] {
        run.pipeline
            .seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, ms(time))
            .unwrap();
        run.pipeline.state(gst::ClockTime::from_seconds(60)).0.unwrap();
        assert_eq!(run.pipeline.query_position::<gst::ClockTime>(), Some(ms(time)));
    }
    assert_eq!(run.stat("seeks"), 3);
    let mut query = gst::query::Seeking::new(gst::Format::Time);
    assert!(run.pipeline.query(&mut query));
    assert!(query.result().0);
}
