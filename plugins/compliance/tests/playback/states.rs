//! Up, down and in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gst::prelude::*;

use super::common::{Place, Run, events};
use super::player::{Player, identity_file, ms};
use super::studio::{Plan, record};

fn plans() -> [Plan; 2] {
    [Plan::video("alice", 0, 5000, 1000), Plan::audio("alice", 0, 5000)]
}

#[test]
fn it_can_be_started_and_stopped_again_and_again() {
    let place = Place::new(1);
    let recording = record(&place, &plans());
    let player = Player::new(&place, &recording);
    for state in [
        gst::State::Paused,
        gst::State::Ready,
        gst::State::Playing,
        gst::State::Paused,
        gst::State::Playing,
        gst::State::Ready,
        gst::State::Paused,
        gst::State::Null,
        gst::State::Playing,
    ] {
        player.run.pipeline.set_state(state).unwrap();
        let (changed, reached, _) = player.run.pipeline.state(gst::ClockTime::from_seconds(60));
        assert!(
            changed.is_ok() && reached == state,
            "{state:?}: {:?}",
            player.run.error()
        );
        assert_eq!(player.source.pads().is_empty(), state <= gst::State::Ready);
    }
    player.to_end();
    player.run.stop();
    let kinds: Vec<_> = events(&place).iter().map(|event| event.kind()).collect();
    assert_eq!(kinds, ["access-opened", "access-ended"].repeat(4));
}

#[test]
fn it_stops_while_it_is_blocked() {
    let place = Place::new(1);
    let recording = record(&place, &plans());
    for _ in 0..5 {
        let player = Player::new(&place, &recording);
        // As sinks that preroll.
        for name in ["src_0", "src_1"] {
            let sinks = &mut player.sinks.lock().unwrap();
            sinks.entry(name.to_owned()).or_default().hold(true);
        }
        player.pause();
        player.wait("the first frames", |player| {
            player.names().len() == 2 && player.names().iter().all(|name| player.sink(name).waits())
        });
        // Sinks let go first, as in a pipeline that goes down.
        for pad in player.source.pads() {
            pad.peer().unwrap().send_event(gst::event::FlushStart::new());
        }
        player.run.stop();
        assert!(player.source.pads().is_empty());
    }
}

#[test]
fn a_pipeline_stops_while_its_sinks_wait_for_their_time() {
    let place = Place::new(1);
    let recording = record(&place, &plans());
    let run = launch(
        &place,
        &recording,
        "rec.src_0 ! fakesink sync=true rec.src_1 ! queue ! fakesink sync=true",
    );
    run.play();
    run.wait("playing", |run| {
        run.pipeline
            .query_position::<gst::ClockTime>()
            .is_some_and(|at| at > ms(40))
    });
    run.stop();
}

fn launch(place: &Place, recording: &std::path::Path, branches: &str) -> Run {
    let identity = place.path("identity");
    identity_file(&identity, &place.recipient);
    Run::new(&format!(
        "compliancesrc name=rec location={} identity-file={} audit-log={} reader=a reason=b ticket=c {branches}",
        recording.display(),
        identity.display(),
        place.path("log").display()
    ))
}

#[test]
fn seeks_from_several_threads_while_it_plays() {
    let place = Place::new(1);
    let recording = record(&place, &plans());
    let run = launch(
        &place,
        &recording,
        "rec.src_0 ! fakesink sync=false rec.src_1 ! queue ! fakesink sync=false",
    );
    run.play();
    let source = run.element("rec");
    let stop = Arc::<AtomicBool>::default();
    let threads: Vec<_> = (0..3_u64)
        .map(|thread| {
            let (source, stop) = (source.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut at = thread * 577;
                let mut done = 0;
                while !stop.load(Ordering::SeqCst) {
                    at = (at + 1613) % 5000;
                    // One of several at the same time is done.
                    done += u32::from(source.seek_simple(gst::SeekFlags::FLUSH, ms(at)).is_ok());
                }
                done
            })
        })
        .collect();
    run.wait("many seeks", |run| run.stat("seeks") > 300);
    stop.store(true, Ordering::SeqCst);
    let done: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(u64::from(done), run.stat("seeks"));
    source.seek_simple(gst::SeekFlags::FLUSH, ms(4000)).unwrap();
    run.wait("end of stream", |run| {
        assert_eq!(run.error(), None);
        run.has(gst::MessageType::Eos)
    });
    run.stop();
}

#[test]
fn a_seek_from_a_streaming_thread_goes_on_in_it() {
    let place = Place::new(1);
    let recording = record(&place, &plans());
    let player = Player::new(&place, &recording);
    let source = player.source.clone();
    let sink = player
        .sinks
        .lock()
        .unwrap()
        .entry("src_0".to_owned())
        .or_default()
        .clone();
    sink.at(2000, move || {
        source.seek_simple(gst::SeekFlags::FLUSH, ms(1000)).unwrap()
    });
    player.run.play();
    player.wait("a seek", |player| player.stat("seeks") == 1);
    player.to_end();
    let times: Vec<_> = sink.frames().iter().map(|(ms, _)| *ms).collect();
    assert_eq!(times, (1000..5000).step_by(40).collect::<Vec<_>>());
}

#[test]
fn stopping_and_seeking_at_once_ends() {
    let place = Place::new(1);
    let recording = record(&place, &plans());
    for _ in 0..20 {
        let run = launch(
            &place,
            &recording,
            "rec.src_0 ! fakesink sync=true rec.src_1 ! fakesink sync=true",
        );
        run.play();
        let source = run.element("rec");
        let seeking = std::thread::spawn(move || {
            for at in 0..20 {
                let _ = source.seek_simple(gst::SeekFlags::FLUSH, ms(at * 200));
            }
        });
        run.stop();
        seeking.join().unwrap();
        assert!(run.element("rec").pads().is_empty());
    }
}
