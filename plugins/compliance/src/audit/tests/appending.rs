//! What a log promises to those who append.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn what_is_appended_is_there_signed_and_verified() {
    let place = Place::empty();
    let log = Log::open(&place.log()).unwrap();
    assert_eq!(log.append(&entry(0)).unwrap(), Appended { index: 0, size: 1 });
    let several = [entry(1), entry(2)];
    assert_eq!(log.append_all(&several).unwrap(), Appended { index: 1, size: 3 });
    let note = Note::parse(&log.checkpoint().unwrap()).unwrap();
    assert_eq!(note.of_log(log.verifier_key()).unwrap().size, 3);
    assert_eq!(
        fs::read_to_string(place.file("checkpoint")).unwrap(),
        note.to_string()
    );
    let key = log.key();
    log.close().unwrap();

    assert_eq!(place.numbers(), [0, 1, 2]);
    let options = VerifyOptions {
        key: Some(key),
        ..VerifyOptions::default()
    };
    let report = verify(&place.log(), &options).unwrap();
    assert!(report.is_intact() && report.pinned);
    assert_eq!((report.entries, report.signed, report.anchored), (3, 3, 0));
}

#[test]
fn a_log_goes_on_where_it_was() {
    let place = Place::with(3);
    let key = Log::open(&place.log()).unwrap().key();
    place.append(3..5);
    assert_eq!(place.numbers(), [0, 1, 2, 3, 4]);
    assert!(place.verify().is_intact());
    let log = Log::open_existing(&place.log()).unwrap();
    assert_eq!(log.key(), key);
    assert_eq!(log.origin(), VerifierKey::named(Kind::Log, key).name());
    assert_eq!(log.signer().public(), key);
}

#[test]
fn an_empty_log_is_a_log() {
    let place = Place::empty();
    Log::open(&place.log()).unwrap().close().unwrap();
    let report = place.verify();
    assert!(report.is_intact());
    assert_eq!((report.entries, report.signed), (0, 0));
    let appended = Log::open(&place.log()).unwrap().append_all(&[]).unwrap();
    assert_eq!(appended, Appended { index: 0, size: 0 });
}

#[test]
fn only_its_owner_can_read_a_log() {
    let place = Place::with(1);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.log()), 0o700);
    for file in fs::read_dir(place.log()).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn entries_are_signed_by_themselves_within_a_moment_and_not_one_by_one() {
    let place = Place::empty();
    let log = Log::open(&place.log()).unwrap();
    let text = || fs::read_to_string(place.file("checkpoint")).unwrap();
    let mut notes = std::collections::BTreeSet::from([text()]);
    let started = std::time::Instant::now();
    let mut appended = 0;
    // Of nothing, at once, after a second, after two seconds.
    while notes.len() < 4 {
        log.append(&entry(appended)).unwrap();
        appended += 1;
        notes.insert(text());
    }
    while log.health().signed < appended {
        std::thread::yield_now();
    }
    notes.insert(text());
    let most = started.elapsed().as_secs() as usize + 3;
    let found = notes.len();
    assert!(found <= most, "{found} checkpoints for {appended} entries");
    assert_eq!(log.health().trouble, None);
}

#[test]
fn closing_and_dropping_sign_what_is_left() {
    for close in [true, false] {
        let place = Place::empty();
        let log = Log::open(&place.log()).unwrap();
        for number in 0..5 {
            log.append(&entry(number)).unwrap();
        }
        if close {
            log.close().unwrap();
        } else {
            drop(log);
        }
        assert_eq!(place.verify().signed, 5);
    }
}

#[test]
fn threads_append_at_the_same_time() {
    let place = Place::empty();
    let logs = [Log::open(&place.log()).unwrap(), Log::open(&place.log()).unwrap()];
    let next = AtomicU64::new(0);
    let mut indices: Vec<u64> = std::thread::scope(|scope| {
        // Four threads, two of them with a log of their own, as another process would have.
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (log, next) = (&logs[thread % 2], &next);
                scope.spawn(move || {
                    let append = |_| {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let index = log.append(&entry(number)).unwrap().index;
                        let proof = (number % 10 == 0).then(|| log.inclusion(index).unwrap());
                        if let Some(proof) = proof {
                            assert_eq!(proof.verify(&log.key()).unwrap().0, entry(number));
                        }
                        index
                    };
                    (0..25).map(append).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    drop(logs);
    indices.sort_unstable();
    assert!(indices.into_iter().eq(0..100));
    let mut numbers = place.numbers();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..100));
    assert!(place.verify().is_intact());
}

#[test]
fn any_entry_proves_itself_in_its_own_log() {
    let place = Place::with(7);
    let other = Log::open(&Place::with(7).log()).unwrap().key();
    let log = Log::open(&place.log()).unwrap();
    for index in 0..7 {
        let text = log.inclusion(index).unwrap().to_string();
        let proof = InclusionProof::parse(&text).unwrap();
        assert_eq!(proof.verify(&log.key()).unwrap().0, entry(index));
        assert!(proof.verify(&other).is_err());
    }
    assert!(matches!(
        log.inclusion(7),
        Err(LogError::NoEntry { index: 7, size: 7 })
    ));
    // An entry that was appended a moment ago can prove itself at once.
    let index = log.append(&entry(9)).unwrap().index;
    assert_eq!(log.inclusion(index).unwrap().note.unverified().size, 8);
}

#[test]
fn nothing_is_opened_that_is_not_there() {
    let place = Place::empty();
    assert!(matches!(
        Log::open_existing(&place.log()),
        Err(LogError::NoLog(_))
    ));
    assert!(!place.log().exists());
    assert!(matches!(
        verify(&place.log(), &VerifyOptions::default()),
        Err(VerifyError::NoLog(_))
    ));
    assert!(Reader::open(&place.log()).is_err());
}

#[test]
fn without_its_key_a_log_can_be_verified_but_does_not_go_on() {
    let place = Place::with(2);
    fs::remove_file(place.file("key")).unwrap();
    assert!(matches!(Log::open(&place.log()), Err(LogError::NoKey(_))));
    assert!(!place.file("key").exists());
    assert!(place.verify().is_intact());
}

#[test]
fn a_key_that_is_not_the_logs_opens_nothing() {
    let (place, other) = (Place::with(2), Place::with(2));
    fs::copy(other.file("key"), place.file("key")).unwrap();
    let error = Log::open(&place.log()).unwrap_err();
    assert!(
        matches!(error, LogError::Damaged(_, Damage::VerifierKey)),
        "{error}"
    );
    fs::copy(other.file("vkey"), place.file("vkey")).unwrap();
    let error = Log::open(&place.log()).unwrap_err();
    assert!(
        matches!(error, LogError::Damaged(_, Damage::Note { .. })),
        "{error}"
    );
}

#[test]
fn who_holds_the_lock_too_long_is_told_of() {
    let place = Place::with(1);
    let file = fs::File::open(place.file("lock")).unwrap();
    let hasty = Log::open_with(&place.log(), true, Duration::ZERO, |file| Box::new(file)).unwrap();
    file.lock().unwrap();
    let error = hasty.append(&entry(1)).unwrap_err();
    assert!(matches!(error, LogError::Folder(FolderError::Busy(_))), "{error}");
    file.unlock().unwrap();
    hasty.append(&entry(1)).unwrap();
}

#[test]
fn an_entry_that_is_too_long_is_refused_and_nothing_of_it_is_written() {
    let place = Place::with(1);
    let log = Log::open(&place.log()).unwrap();
    let long = Entry {
        event: Event::Rewrapped {
            number: 1,
            statement: crate::digest::Digest([0; 32]),
            custodians: None,
            ticket: Text::new("t").unwrap(),
            by: Id::new("a").unwrap(),
            recipients: vec![crate::digest::Digest([0; 32]); 300],
            reason: Text::new("r").unwrap(),
        },
        ..entry(1)
    };
    let error = log.append_all(&[entry(1), long]).unwrap_err();
    assert!(
        matches!(error, LogError::Entry(EntryError::TooLong(_))),
        "{error}"
    );
    assert_eq!(place.numbers(), [0]);
}

/// `cargo test --release -p gst-plugin-compliance --lib audit::tests::appending::measure -- --ignored --nocapture`
#[test]
#[ignore = "prints figures: what an append costs in a short and in a long log, and what opening and verifying cost"]
fn measure() {
    let place = Place::empty();
    let log = Log::open(&place.log()).unwrap();
    let per_append = |what: &str| {
        let mut micros: Vec<_> = (0..200)
            .map(|number| {
                let started = std::time::Instant::now();
                log.append(&entry(number)).unwrap();
                started.elapsed().as_micros()
            })
            .collect();
        micros.sort_unstable();
        println!("{what}: append p50 {} us, p99 {} us", micros[100], micros[198]);
    };
    let timed = |what: &str, work: &dyn Fn()| {
        let started = std::time::Instant::now();
        work();
        println!("{what}: {:.1} ms", started.elapsed().as_secs_f64() * 1000.0);
    };
    per_append("empty log");
    for size in [100_000_u64, 1_000_000] {
        while log.health().entries < size {
            let entries: Vec<_> = (0..1000).map(entry).collect();
            log.append_all(&entries).unwrap();
        }
        per_append(&format!("{size} entries"));
        timed("  inclusion proof", &|| drop(log.inclusion(size / 2).unwrap()));
        timed("  consistency proof", &|| drop(log.request(size / 2).unwrap()));
        timed("  open", &|| drop(Log::open(&place.log()).unwrap()));
        timed("  verify", &|| assert!(place.verify().is_intact()));
        println!("  {} bytes", fs::metadata(place.file("log")).unwrap().len());
    }
}
