//! What every engine does alike.

use super::server::Server;
use super::*;
use crate::delivery::app::{AppDelivery, AppInbox};
use crate::delivery::nats::{Address, Files, NatsDelivery};
use crate::delivery::sqlite::SqliteDelivery;
use std::thread;
use std::time::Instant;

/// A room that endpoints can come to.
trait Engine: Sync {
    /// Does it say for certain whether a commit is in the log?
    const COMPARES: bool;
    fn new() -> Self;
    fn endpoint(&self) -> Box<dyn Delivery>;

    fn readers<const N: usize>(&self) -> [Reader; N] {
        [(); N].map(|()| Reader::new(self.endpoint()))
    }
}

struct File(tempfile::TempDir);

impl Engine for File {
    const COMPARES: bool = true;

    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn endpoint(&self) -> Box<dyn Delivery> {
        Box::new(SqliteDelivery::open(Some(&self.0.path().join("rooms")), "room").unwrap())
    }
}

impl Engine for Server {
    const COMPARES: bool = true;

    fn new() -> Self {
        Self::start()
    }

    fn endpoint(&self) -> Box<dyn Delivery> {
        let address = Address::parse(&self.url()).unwrap();
        Box::new(NatsDelivery::open(&address, &Files::default(), 1, "room").unwrap())
    }
}

/// A vendor's signalling: carries each message to all, in one order.
#[derive(Default)]
struct Signalling(Arc<Mutex<Vec<AppInbox>>>);

impl Engine for Signalling {
    const COMPARES: bool = false;

    fn new() -> Self {
        Self::default()
    }

    fn endpoint(&self) -> Box<dyn Delivery> {
        let members = self.0.clone();
        let carry = move |_kind: &'static str, bytes: &[u8]| {
            let members = members.lock().unwrap();
            for member in members.iter() {
                member.push(bytes).unwrap();
            }
        };
        let (delivery, inbox) = AppDelivery::new(carry).unwrap();
        self.0.lock().unwrap().push(inbox);
        Box::new(delivery)
    }
}

fn assert_appended<E: Engine>(appended: Appended, sequence: u64) {
    let expected = if E::COMPARES {
        Appended::Accepted(sequence)
    } else {
        Appended::Sent
    };
    assert_eq!(appended, expected);
}

fn all_read_the_same_in_one_order<E: Engine>() {
    let engine = E::new();
    let mut readers: [Reader; 3] = engine.readers();
    let texts: Vec<_> = (0..20).map(|n| message(&format!("{n}"))).collect();
    for (n, text) in texts.iter().enumerate() {
        let appended = readers[n % 3].delivery.append("message", text).unwrap();
        assert_appended::<E>(appended, n as u64 + 1);
    }
    for reader in &mut readers {
        reader.read_until(|reader| reader.seen.len() == texts.len());
        let read: Vec<_> = reader.seen.iter().map(|entry| entry.bytes.clone()).collect();
        assert_eq!(read, texts);
        assert!(reader.seen.iter().map(|entry| entry.sequence).eq(1..=20));
    }
}

fn a_commit_after_another_commit_is_moved<E: Engine>() {
    let engine = E::new();
    let [mut one, mut other] = engine.readers();
    assert_appended::<E>(one.delivery.append_commit(0, &create()).unwrap(), 1);
    assert_eq!(
        other.delivery.append_commit(0, &create()).unwrap(),
        Appended::Moved
    );
    // What is no commit stands in no commit's way.
    assert_appended::<E>(other.delivery.append("message", &message("hello")).unwrap(), 2);
    assert_appended::<E>(other.delivery.append_commit(1, &commit("first")).unwrap(), 3);
    for after in [0, 1, 2, 4, u64::MAX] {
        let appended = one.delivery.append_commit(after, &commit("late")).unwrap();
        assert_eq!(appended, Appended::Moved, "after {after}");
    }
    for reader in [&mut one, &mut other] {
        reader.read_until(|reader| reader.seen.len() == 3);
        assert_eq!(reader.delivery.last_commit().unwrap(), 3);
    }
}

/// Only engines that keep something.
fn what_people_say_is_kept_up_to_a_number_of_bytes<E: Engine>() {
    const LENGTH: usize = 50_000;
    const KEPT: u64 = 500_000;
    let engine = E::new();
    let [mut writer] = engine.readers();
    writer.delivery.keep_content(KEPT);
    writer.delivery.append_commit(0, &create()).unwrap();
    writer.delivery.append("message", &message("hello")).unwrap();
    let said = Record::Content(vec![7; LENGTH]).encode();
    for n in 1..=64 {
        writer.delivery.append("content", &said).unwrap();
        writer.read_until(|reader| reader.seen.len() == 2 + n);
    }
    let of = |kind: &str, entries: &[Entry]| {
        let records = entries
            .iter()
            .filter_map(|entry| Record::decode(&entry.bytes).ok());
        records.filter(|record| record.kind() == kind).count()
    };
    // Some engines forget a little later.
    let end = Instant::now() + LIMIT;
    loop {
        let [mut fresh] = engine.readers();
        fresh.read();
        let left = of("content", &fresh.seen);
        assert!(left * LENGTH >= KEPT as usize - 2 * LENGTH, "{left} are left");
        assert_eq!((of("create", &fresh.seen), of("message", &fresh.seen)), (1, 1));
        if left * LENGTH <= KEPT as usize + 16 * LENGTH {
            assert_eq!(fresh.seen.last(), writer.seen.last());
            return;
        }
        assert!(Instant::now() < end, "{left} are left");
        thread::sleep(Duration::from_millis(20));
    }
}

fn an_empty_log_has_no_commit_and_nothing_to_read<E: Engine>() {
    let engine = E::new();
    let [mut reader] = engine.readers();
    assert_eq!(reader.delivery.last_commit().unwrap(), 0);
    assert_eq!(reader.delivery.read(0, 10).unwrap(), []);
    let error = reader.delivery.read(1, 10).unwrap_err();
    assert!(
        matches!(
            error,
            DeliveryError::NotHeld {
                after: 1,
                last: 0,
                ..
            }
        ),
        "{error}"
    );
    assert!(reader.delivery.read(u64::MAX, 10).is_err());
}

fn a_waker_is_called_at_once_and_at_every_append<E: Engine>() {
    let engine = E::new();
    let [mut one, mut other] = engine.readers();
    assert!(one.ear.woken() > 0);
    // By others, by itself.
    for delivery in [&mut other.delivery, &mut one.delivery] {
        let before = one.ear.woken();
        delivery.append("message", &message("hello")).unwrap();
        one.ear.wait_beyond(before);
    }
    // A new waker replaces the old one.
    let new = Ear::listen(&mut *one.delivery);
    let (old, before) = (one.ear.woken(), new.woken());
    other.delivery.append("message", &message("hello")).unwrap();
    new.wait_beyond(before);
    assert_eq!(one.ear.woken(), old);
    // And who is gone is woken by nobody.
    drop(one);
    let gone = new.woken();
    other.delivery.append("message", &message("hello")).unwrap();
    other.read_until(|reader| reader.seen.len() == 4);
    assert_eq!(new.woken(), gone);
}

fn no_append_is_slept_over<E: Engine>() {
    const EACH: usize = 60;
    let engine = E::new();
    let readers: [Reader; 4] = engine.readers();
    let logs: Vec<_> = thread::scope(|scope| {
        let run = |mut reader: Reader| {
            scope.spawn(move || {
                // Each waits for the answers of all others before it goes on: a lost wake-up would stop everybody.
                for round in 1..=EACH {
                    reader
                        .delivery
                        .append("message", &message(&format!("{round}")))
                        .unwrap();
                    reader.read_until(|reader| reader.seen.len() >= 4 * round);
                }
                reader.read_until(|reader| reader.seen.len() == 4 * EACH);
                (reader.seen, reader.ear.woken())
            })
        };
        let threads: Vec<_> = readers.into_iter().map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (log, woken) in &logs {
        assert_eq!(*log, logs[0].0);
        // Not one wake-up more than appends and files that were opened or closed.
        assert!(*woken <= 4 * EACH as u64 + 16, "woken {woken} times");
    }
}

fn one_commit_is_accepted_for_each_place<E: Engine>() {
    const COMMITS: usize = 100;
    let engine = E::new();
    let readers: [Reader; 8] = engine.readers();
    let logs: Vec<_> = thread::scope(|scope| {
        let run = |(name, mut reader): (usize, Reader)| {
            scope.spawn(move || {
                let mut accepted = Vec::new();
                reader.read();
                while reader.commits().len() < COMMITS {
                    let after = reader.last_commit();
                    let bytes = commit(&format!("{name} after {after}"));
                    match reader.delivery.append_commit(after, &bytes).unwrap() {
                        Appended::Accepted(sequence) => accepted.push(sequence),
                        Appended::Moved | Appended::Sent => {}
                    }
                    reader.read_until(|reader| reader.last_commit() > after);
                }
                (accepted, reader)
            })
        };
        let threads: Vec<_> = readers.into_iter().enumerate().map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut accepted: Vec<_> = logs.iter().flat_map(|(accepted, _)| accepted).copied().collect();
    accepted.sort();
    if E::COMPARES {
        assert!(accepted.into_iter().eq(1..=COMMITS as u64));
    }
    for (_, reader) in &logs {
        assert_eq!(reader.seen[..COMMITS], logs[0].1.seen[..COMMITS]);
    }
}

fn the_longest_record_passes_and_a_longer_one_is_refused<E: Engine>() {
    let engine = E::new();
    let [mut one, mut other] = engine.readers();
    let overhead = Record::Message(vec![]).encode().len();
    let longest = Record::Message(vec![0x5a; MAX_RECORD - overhead]).encode();
    assert_eq!(longest.len(), MAX_RECORD);
    assert_appended::<E>(one.delivery.append("message", &longest).unwrap(), 1);
    let longer = Record::Message(vec![0x5a; MAX_RECORD]).encode();
    for refused in [
        one.delivery.append("message", &longer),
        one.delivery.append_commit(0, &longer),
    ] {
        assert!(matches!(refused, Err(DeliveryError::TooLong(_))));
    }
    assert_appended::<E>(one.delivery.append("message", &message("small")).unwrap(), 2);
    other.read_until(|reader| reader.seen.len() == 2);
    assert_eq!(other.seen[0].bytes, longest);
    assert_eq!(other.seen[1].bytes, message("small"));
}

fn one_read_is_bounded<E: Engine>() {
    let engine = E::new();
    let [mut one, mut other] = engine.readers();
    let big = Record::Message(vec![1; MAX_READ / 4]).encode();
    for _ in 0..5 {
        one.delivery.append("message", &big).unwrap();
        other.read();
    }
    other.read_until(|reader| reader.seen.len() == 5);
    assert!(one.delivery.read(0, 0).unwrap().is_empty());
    assert_eq!(one.delivery.read(0, 2).unwrap().len(), 2);
    // Four would be a few bytes too many.
    assert_eq!(one.delivery.read(0, usize::MAX).unwrap().len(), 3);
    assert_eq!(one.delivery.read(3, usize::MAX).unwrap().len(), 2);
}

macro_rules! over_all_engines {
    ($($test:ident),* $(,)?) => {
        mod sqlite { $(#[test] fn $test() { super::$test::<super::File>() })* }
        mod nats { $(#[test] fn $test() { super::$test::<super::Server>() })* }
        mod app { $(#[test] fn $test() { super::$test::<super::Signalling>() })* }
    };
}

over_all_engines!(
    all_read_the_same_in_one_order,
    a_commit_after_another_commit_is_moved,
    an_empty_log_has_no_commit_and_nothing_to_read,
    a_waker_is_called_at_once_and_at_every_append,
    no_append_is_slept_over,
    one_commit_is_accepted_for_each_place,
    the_longest_record_passes_and_a_longer_one_is_refused,
    one_read_is_bounded,
);

#[test]
fn the_file_keeps_what_people_say_up_to_a_number_of_bytes() {
    what_people_say_is_kept_up_to_a_number_of_bytes::<File>();
}

#[test]
fn the_server_keeps_what_people_say_up_to_a_number_of_bytes() {
    what_people_say_is_kept_up_to_a_number_of_bytes::<Server>();
}

#[test]
fn what_the_application_cannot_deliver_yet_is_refused_and_kept_by_it() {
    let (mut delivery, inbox) = AppDelivery::new(|_, _| {}).unwrap();
    let big = Record::Message(vec![1; MAX_RECORD / 2]).encode();
    let mut pushed = 0;
    let error = loop {
        match inbox.push(&big) {
            Ok(_) => pushed += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, DeliveryError::QueueFull(_)) && error.is_temporary(),
        "{error}"
    );
    assert_eq!(pushed, 7);
    // A read that goes on after them makes room.
    assert_eq!(delivery.read(0, 2).unwrap().len(), 2);
    assert!(inbox.push(&big).is_err());
    assert_eq!(delivery.read(2, 100).unwrap().len(), 3);
    assert_eq!(inbox.push(&big).unwrap(), 8);
    // What was forgotten is not passed over in silence.
    assert!(matches!(
        delivery.read(1, 1),
        Err(DeliveryError::NotHeld {
            after: 1,
            first: 3,
            last: 8
        })
    ));
    // Small ones are bounded, too.
    let small = message("");
    assert!((0..1_000_000).any(|_| inbox.push(&small).is_err()));
}

#[test]
fn what_the_application_brings_must_be_a_record() {
    let (mut delivery, inbox) = AppDelivery::new(|_, _| {}).unwrap();
    for garbage in [&b""[..], b"garbage", &vec![0; MAX_RECORD + 1]] {
        assert!(matches!(inbox.push(garbage), Err(DeliveryError::NotARecord(_))));
    }
    assert!(delivery.read(0, 10).unwrap().is_empty());
}

#[test]
fn the_application_learns_what_it_carries() {
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let heard = kinds.clone();
    let (mut delivery, _inbox) = AppDelivery::new(move |kind, _| heard.lock().unwrap().push(kind)).unwrap();
    delivery.append_commit(0, &create()).unwrap();
    delivery.append_commit(0, &commit("a")).unwrap();
    delivery.append("key-package", b"a").unwrap();
    assert_eq!(*kinds.lock().unwrap(), ["create", "commit", "key-package"]);
}
