//! How far the log knows a recording's manifest.

use super::*;
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::recording::Root;

const OURS: RecordingId = RecordingId::from_bytes([1; 16]);
const OTHER: RecordingId = RecordingId::from_bytes([2; 16]);

fn root(lines: u64, of: u8) -> Root {
    Root {
        lines,
        root: Digest([of; 32]),
    }
}

fn manifest(recording: RecordingId, Root { lines, root }: Root) -> Entry {
    Entry {
        recording: Some(recording),
        event: Event::Manifest { lines, root },
        ..entry(0)
    }
}

#[test]
fn the_log_knows_the_greatest_root_of_each_recording_whoever_wrote_it() {
    let place = Place::with(3);
    let log = Log::open(&place.log()).unwrap();
    assert_eq!(log.known_root(OURS).unwrap(), None);
    log.append(&manifest(OURS, root(4, 1))).unwrap();
    assert_eq!(log.known_root(OURS).unwrap(), Some(root(4, 1)));
    assert_eq!(log.known_root(OTHER).unwrap(), None);

    // Another process has it open, too.
    let other = Log::open(&place.log()).unwrap();
    other.append(&manifest(OURS, root(9, 2))).unwrap();
    other.append(&manifest(OTHER, root(1, 3))).unwrap();
    assert_eq!(log.known_root(OURS).unwrap(), Some(root(9, 2)));
    assert_eq!(log.known_root(OTHER).unwrap(), Some(root(1, 3)));

    // Fewer lines than were there is what nobody could have written who still had them.
    log.append(&manifest(OURS, root(5, 4))).unwrap();
    let Root { lines, root: last } = root(10, 5);
    for event in [
        Event::Recovered {
            lines: 7,
            root: last,
            at_ns: 0,
            cuts: Vec::new(),
        },
        Event::Stopped {
            cause: Id::new("eos").unwrap(),
            lines,
            root: last,
        },
    ] {
        let recording = Some(OURS);
        log.append(&Entry {
            recording,
            event,
            ..entry(1)
        })
        .unwrap();
    }
    for log in [&log, &other, &Log::open(&place.log()).unwrap()] {
        assert_eq!(log.known_root(OURS).unwrap(), Some(root(10, 5)));
    }
}

#[test]
fn a_log_that_was_changed_says_nothing_of_a_recording() {
    let place = Place::with(3);
    let log = Log::open(&place.log()).unwrap();
    log.append(&manifest(OURS, root(4, 1))).unwrap();
    let mut bytes = place.bytes();
    let at = starts(&bytes, &place.log())[3] + 20;
    bytes[at] ^= 1;
    place.write(&bytes);
    assert!(matches!(log.known_root(OURS), Err(LogError::Damaged(..))));
}
