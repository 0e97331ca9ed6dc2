//! What the log says of recordings, and deciding by it.

use super::*;
use crate::audit::ledger::Act;
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::recording::{Rewrapping, Rewraps};

const OURS: RecordingId = RecordingId::from_bytes([1; 16]);

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

fn of(time: u64, event: Event) -> Entry {
    Entry {
        time,
        recording: Some(OURS),
        event,
    }
}

fn started(recipients: &[Digest]) -> Event {
    Event::Started {
        recorder: id("r"),
        room: id("room"),
        epoch: 1,
        claim: entry::Claim::Recorded,
        policy: None,
        consent: None,
        recipients: recipients.to_vec(),
        custodians: None,
        retention_days: Some(30),
    }
}

fn rewrapped(number: u32, recipients: &[Digest]) -> Event {
    Event::Rewrapped {
        by: id("ops"),
        number,
        statement: Digest([number as u8; 32]),
        recipients: recipients.to_vec(),
        custodians: None,
        reason: text("staff change"),
        ticket: text("C-1"),
    }
}

fn hold(ticket: &str) -> Event {
    Event::HoldPlaced {
        by: id("counsel"),
        reason: text("lawsuit"),
        ticket: text(ticket),
    }
}

fn release(ticket: &str) -> Event {
    Event::HoldReleased {
        by: id("counsel"),
        reason: text("over"),
        ticket: text(ticket),
    }
}

fn holds(history: &History) -> Vec<&str> {
    history.held().map(|Act { ticket, .. }| ticket.as_str()).collect()
}

/// A log with these events of one recording, at the times 0, 10, 20, ….
fn log_of(place: &Place, events: impl IntoIterator<Item = Event>) -> Log {
    let log = Log::open(&place.log()).unwrap();
    let entries: Vec<_> = (0..)
        .step_by(10)
        .zip(events)
        .map(|(time, event)| of(time, event))
        .collect();
    log.append_all(&entries).unwrap();
    log
}

#[test]
fn who_could_open_it_changes_with_each_rewrapping_and_ends_with_its_key() {
    let (a, b) = (Digest([0xa; 32]), Digest([0xb; 32]));
    let place = Place::empty();
    let log = log_of(&place, [started(&[a]), rewrapped(1, &[b]), rewrapped(2, &[a, b])]);
    let ledger = log.ledger().unwrap();
    let history = ledger.of(OURS).unwrap();
    let at = |time| history.period_at(time).map(|period| period.recipients.clone());
    assert_eq!(
        [0, 9, 10, 19, 20, u64::MAX].map(at),
        [&[a][..], &[a], &[b], &[b], &[a, b], &[a, b]].map(|of| Some(of.to_vec()))
    );
    let last = Rewraps::Last(Rewrapping {
        number: 2,
        statement: Digest([2; 32]),
    });
    assert_eq!(history.rewraps(), last);
    assert_eq!(log.known_rewraps(OURS).unwrap(), last);

    let shredded = Event::Shredded {
        by: id("ops"),
        files: 1,
    };
    log.append(&of(30, shredded)).unwrap();
    let ledger = log.ledger().unwrap();
    let history = ledger.of(OURS).unwrap();
    assert!(history.period_at(29).is_some() && history.period_at(30).is_none());
    assert_eq!(history.rewraps(), Rewraps::Shredded);
    assert_eq!(log.known_rewraps(OURS).unwrap(), Rewraps::Shredded);
    let nobody = RecordingId::from_bytes([2; 16]);
    assert!(ledger.of(nobody).is_none());
    assert_eq!(log.known_rewraps(nobody).unwrap(), Rewraps::Never);
}

#[test]
fn a_hold_lasts_until_it_is_released_for_its_own_ticket() {
    let place = Place::empty();
    let log = log_of(&place, [started(&[]), hold("L-1"), hold("L-2"), release("L-3")]);
    let mut ledger = log.ledger().unwrap();
    assert_eq!(holds(ledger.of(OURS).unwrap()), ["L-1", "L-2"]);
    log.append_all(&[
        of(50, release("L-1")),
        of(60, hold("L-4")),
        of(70, release("L-2")),
    ])
    .unwrap();
    log.follow(&mut ledger).unwrap();
    assert_eq!(holds(ledger.of(OURS).unwrap()), ["L-4"]);
    // Without the private key it is the same.
    let (read, damages) = Ledger::read_unchecked(&place.log()).unwrap();
    assert_eq!((read.of(OURS), damages), (ledger.of(OURS), Vec::new()));
}

#[test]
fn nobody_appends_between_what_is_decided_and_what_it_is_decided_by() {
    let place = Place::empty();
    log_of(&place, [started(&[])]).close().unwrap();
    let placed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let path = place.log();
                scope.spawn(move || {
                    let log = Log::open_existing(&path).unwrap();
                    let mut ledger = log.ledger().unwrap();
                    let mut placed = 0;
                    for _ in 0..5 {
                        // Each is allowed only while there are fewer than five.
                        log.append_when(&mut ledger, |ledger| {
                            let history = ledger.of(OURS).unwrap();
                            let free = history.held().count() < 5;
                            placed += usize::from(free);
                            let entry = of(100, hold(&format!("L-{number}")));
                            Ok::<_, LogError>(free.then_some(entry).into_iter().collect())
                        })
                        .unwrap();
                    }
                    placed
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(placed, 5);
    assert_eq!(place.verify().entries, 6);
}

#[test]
fn where_the_decision_is_no_nothing_is_appended() {
    let place = Place::empty();
    let log = log_of(&place, [started(&[])]);
    let mut ledger = log.ledger().unwrap();
    let refused = log.append_when(&mut ledger, |_| Err::<Vec<Entry>, _>(LogError::NoLog("x".into())));
    assert!(matches!(refused, Err(LogError::NoLog(_))));
    assert_eq!(log.health().entries, 1);
}

#[test]
fn a_damaged_log_decides_nothing() {
    let place = Place::empty();
    let log = log_of(&place, [started(&[]), hold("L-1"), hold("L-2")]);
    let mut bytes = place.bytes();
    let at = starts(&bytes, &place.log())[1] + 20;
    bytes[at] ^= 1;
    place.write(&bytes);
    assert!(matches!(log.ledger(), Err(LogError::Damaged(..))));
    let (_, damages) = Ledger::read_unchecked(&place.log()).unwrap();
    assert!(!damages.is_empty());
}
