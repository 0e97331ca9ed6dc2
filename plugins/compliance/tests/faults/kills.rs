//! kill -9 at random moments.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use gstcompliance::audit::Event;
use gstcompliance::recording::State;

use crate::common::{Place, events, logged, verified};
use crate::process::{PERIOD, Recorders, until};
use crate::{Random, assert_intact, count, recorded};

/// What a kill may take of a track.
const MOST: Duration = Duration::from_secs(2);

/// A disk that keeps frames waiting for longer is the machine's trouble; what it held back is lost in addition.
const STALL: Duration = Duration::from_millis(500);

/// Per life and medium: the numbers of the frames that are in the recording.
fn by_life(place: &Place) -> BTreeMap<(u64, String), Vec<u64>> {
    let mut numbers = BTreeMap::<_, Vec<_>>::new();
    for sent in recorded(place).into_values().flatten() {
        numbers
            .entry((sent.life, sent.medium))
            .or_default()
            .push(sent.number);
    }
    numbers
}

#[test]
fn who_is_killed_at_any_moment_comes_back_and_has_lost_no_more_than_two_seconds() {
    let kills = count("GST_E2EE_KILLS", 10);
    let mut random = Random::new(&format!("{kills} kills"));
    let place = Place::new(2);
    let recorders = Recorders::new(&place);
    for life in 0..kills {
        let mut process = recorders.start(life);
        if life % 2 == 1 {
            // So that some are killed between what is written and what is sealed.
            process.say("sync 100");
        }
        // Some at once after the start, in the middle of coming back.
        if life == 0 || random.below(4) > 0 {
            process.records();
            sleep(Duration::from_millis(random.below(2500)));
        } else {
            sleep(Duration::from_millis(random.below(600)));
        }
        process.kill();
        verified(&place.recording());
    }

    // And one for certain when a member is written and not sealed.
    let sealed = || {
        let tracks = verified(&place.recording()).tracks;
        tracks.iter().filter(|track| track.good > 0).count()
    };
    let before = sealed();
    let mut process = recorders.start(kills);
    // Once it has sealed something it has nothing more to do than to write members.
    until("members of both tracks", || sealed() == before + 2);
    process.say("stick");
    until("a torn tail", || verified(&place.recording()).unsealed > 0);
    process.kill();
    let torn = verified(&place.recording()).unsealed;
    assert!(torn > 0);
    let process = recorders.start(kills + 1);
    process.records();
    process.stop();

    let report = verified(&place.recording());
    assert_eq!(report.state, State::Complete);
    assert_eq!(report.unsealed, 0);
    assert_intact(&place);
    assert_eq!(logged(&place).last(), Some(&"stopped"));
    let cuts: Vec<u64> = events(&place)
        .into_iter()
        .filter_map(|event| match event {
            Event::Recovered { cuts, .. } => Some(cuts.iter().map(|cut| cut.bytes).sum()),
            _ => None,
        })
        .collect();
    assert_eq!(cuts.last(), Some(&torn), "the cut is logged");
    let starts: Vec<_> = (0..=kills + 1)
        .filter_map(|life| recorders.notes(life).started())
        .collect();
    let back: Vec<_> = starts
        .iter()
        .filter_map(|(time, recovered)| recovered.then_some(*time))
        .collect();
    assert_eq!(back.len(), starts.len() - 1, "it is one recording");
    assert!(
        back.len() <= cuts.len() && cuts.len() as u64 <= report.resumed,
        "{} came back, {} are logged, {} are in the manifest",
        back.len(),
        cuts.len(),
        report.resumed
    );

    let numbers = by_life(&place);
    let (mut losses, mut stalls) = (Vec::new(), 0);
    for life in 0..=kills + 1 {
        let frames = recorders.notes(life).frames();
        for (medium, step) in [("audio", 1), ("video", 2)] {
            let kept = numbers.get(&(life, medium.into())).cloned().unwrap_or_default();
            let expected = (0..kept.len() as u64).map(|number| step * number);
            assert!(
                kept.iter().copied().eq(expected),
                "{medium} of life {life} has holes"
            );
            let Some(last) = frames.iter().rev().find(|frame| frame.medium == medium) else {
                continue;
            };
            let next = kept.last().map_or(0, |last| last + step);
            let lost = Duration::from_millis(PERIOD * (last.number + step).saturating_sub(next));
            if life > kills {
                assert_eq!(lost, Duration::ZERO, "{medium} of the one that ended well");
            } else if life < kills {
                let stall = Some(last.queue).filter(|queue| *queue > STALL);
                stalls += usize::from(stall.is_some() && lost > MOST);
                assert!(
                    lost <= MOST + stall.unwrap_or_default(),
                    "{medium} of life {life} has lost {lost:?}; the disk kept frames waiting for {:?}",
                    last.queue
                );
                losses.push(lost);
            }
        }
    }
    assert!(
        losses.len() as u64 >= kills,
        "most were killed while they recorded"
    );
    assert!(
        stalls * 4 <= losses.len(),
        "this disk is too slow for the promise"
    );
    losses.sort_unstable();
    let hours = report.tracks.iter().map(|track| track.to_ns).max().unwrap() as f64 / 3.6e12;
    println!(
        "{} tracks of {kills} kills: lost at most {:?}, median {:?} ({stalls} on a disk that stood still); {} cuts",
        losses.len(),
        losses.last().unwrap(),
        losses[losses.len() / 2],
        cuts.iter().filter(|bytes| **bytes > 0).count()
    );
    println!(
        "from PLAYING to recording again: at most {:?}, last {:?} with {:.3} h recorded",
        back.iter().max().unwrap(),
        back.last().unwrap(),
        hours
    );
}
