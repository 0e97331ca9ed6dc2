//! What the log's own writer reads in it before it goes on.

use std::sync::Barrier;

use super::*;

fn numbers(log: &Log) -> Vec<(u64, Entry)> {
    let mut shown = Vec::new();
    log.read(|index, entry| shown.push((index, entry))).unwrap();
    shown
}

#[test]
fn every_entry_is_shown_with_its_number_whoever_wrote_it() {
    let place = Place::with(5);
    let log = Log::open(&place.log()).unwrap();
    Log::open(&place.log()).unwrap().append(&entry(5)).unwrap();
    let expected: Vec<_> = (0..6).map(|number| (number, entry(number))).collect();
    assert_eq!(numbers(&log), expected);
    assert_eq!(numbers(&Log::open(&Place::empty().log()).unwrap()), []);
}

#[test]
fn an_entry_that_was_changed_behind_the_writers_back_is_no_good_end() {
    let place = Place::with(5);
    let log = Log::open(&place.log()).unwrap();
    let mut bytes = fs::read(place.file("log")).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    // In place: a log whose file is exchanged is noticed anyway.
    fs::OpenOptions::new()
        .write(true)
        .open(place.file("log"))
        .and_then(|mut file| io::Write::write_all(&mut file, &bytes))
        .unwrap();
    assert!(matches!(log.read(|_, _| {}), Err(LogError::Damaged(..))));
    assert!(matches!(
        log.append_first(&entry(9), |_| false),
        Err(LogError::Damaged(..))
    ));
}

#[test]
fn an_entry_is_appended_unless_one_like_it_is_there() {
    let place = Place::with(3);
    let log = Log::open(&place.log()).unwrap();
    let is = |number| move |known: &Entry| *known == entry(number);
    assert_eq!(log.append_first(&entry(1), is(1)).unwrap(), None);
    let appended = log.append_first(&entry(7), is(7)).unwrap().unwrap();
    assert_eq!((appended.index, appended.size), (3, 4));
    assert_eq!(log.append_first(&entry(7), is(7)).unwrap(), None);
    let other = Log::open(&place.log()).unwrap();
    assert_eq!(other.append_first(&entry(7), is(7)).unwrap(), None);
    assert_eq!(numbers(&log).len(), 4);
}

#[test]
fn of_many_who_append_the_first_of_a_kind_at_once_one_does() {
    let place = Place::with(20);
    for round in 100..110 {
        let start = Barrier::new(4);
        let appended = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let log = Log::open(&place.log()).unwrap();
                        start.wait();
                        let is_like = |known: &Entry| *known == entry(round);
                        log.append_first(&entry(round), is_like).unwrap().is_some()
                    })
                })
                .collect();
            let done = threads.into_iter().map(|thread| thread.join().unwrap());
            done.filter(|appended| *appended).count()
        });
        assert_eq!(appended, 1);
    }
}
