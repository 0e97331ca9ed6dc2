//! A sync takes half a second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use gstcompliance::audit::Event;
use gstcompliance::recording::State;

use crate::common::disk::{Trouble, Troubled};
use crate::common::feed::{Feed, OPUS, frame};
use crate::common::{LIMIT, Place, events, stored, verified};

#[test]
fn every_frame_is_recorded_or_in_a_logged_gap_when_the_disk_is_too_slow_for_the_queue() {
    let place = Place::new(1);
    let trouble = Arc::<Trouble>::default();
    let run = place.recorder_on(
        "require-room=false segment-duration=250000000 max-size-bytes=20000",
        Some(Arc::new(Troubled(trouble.clone()))),
    );
    trouble.sync_ms.store(500, Ordering::SeqCst);
    let feed = Feed::new(&run.element("rec"), OPUS);
    const FRAMES: u64 = 400;
    for number in 0..FRAMES {
        feed.push(frame(20 * number, &[number as u8; 500]));
        sleep(Duration::from_millis(5));
    }
    let dropped = run.stat("dropped-queue-full");
    trouble.sync_ms.store(0, Ordering::SeqCst);
    run.stop();
    assert!(dropped > 0, "the disk was quick enough");
    let report = verified(&place.recording());
    let kept = stored(&place.open(&place.recording())[0].1).len() as u64;
    assert_eq!(kept + dropped, FRAMES);
    let gaps: Vec<_> = events(&place)
        .into_iter()
        .filter_map(|event| match event {
            Event::Gap { frames, cause, .. } => Some((frames, cause.to_string())),
            _ => None,
        })
        .collect();
    assert_eq!(gaps.len() as u64, report.tracks[0].gaps);
    assert_eq!(gaps.iter().map(|(frames, _)| frames).sum::<u64>(), dropped);
    assert!(gaps.iter().all(|(_, cause)| cause == "queue-full"));
    println!("{kept} frames kept, {dropped} in {} gaps", gaps.len());
}

#[test]
fn the_tars_of_all_tracks_are_ended_together() {
    const TRACKS: usize = 12;
    let place = Place::new(1);
    let trouble = Arc::<Trouble>::default();
    let run = place.recorder_on("require-room=false", Some(Arc::new(Troubled(trouble.clone()))));
    let recorder = run.element("rec");
    let feeds: Vec<_> = (0..TRACKS).map(|_| Feed::new(&recorder, OPUS)).collect();
    for feed in &feeds {
        feed.push(frame(0, b"a word"));
    }
    run.wait("sealed members", |run| {
        run.messages("compliance-segment").len() == TRACKS
    });
    trouble.stick(true);
    let most = thread::scope(|scope| {
        let stop = scope.spawn(|| run.stop());
        let begun = Instant::now();
        while trouble.syncs() < TRACKS && begun.elapsed() < LIMIT {
            sleep(Duration::from_millis(1));
        }
        let most = trouble.syncs();
        trouble.stick(false);
        stop.join().unwrap();
        most
    });
    assert_eq!(most, TRACKS);
    assert_eq!(verified(&place.recording()).state, State::Complete);
}
