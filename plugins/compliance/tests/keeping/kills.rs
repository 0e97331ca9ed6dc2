//! Processes that are killed while they change recordings, at whatever moment: nothing is lost that was not decided, and the
//! next call completes it.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::place::{LONG_AGO, Made, Place, WHY, media};

const RECORDINGS: usize = 12;
/// More kills than any run needs.
const MOST: u32 = 400;

/// Runs a command again and again, killed ever later, until it comes to its end; `check` looks at what each kill left.
fn until_it_ends(place: &Place, words: &[&str], mut check: impl FnMut()) -> ExitStatus {
    for kills in 0..MOST {
        let mut child = place
            .command(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Ever later, so that each step has its turn, however slow the machine is.
        let until = Instant::now() + Duration::from_millis(u64::from(kills) * 3);
        while Instant::now() < until {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        check();
    }
    panic!("it does not come to an end");
}

#[test]
fn a_killed_rewrap_leaves_recordings_for_the_old_or_the_new_holders() {
    let place = Place::new();
    place.person("ann");
    place.person("bob");
    let made: Vec<Made> = (0..RECORDINGS).map(|_| place.record("ann")).collect();
    let words = place.rewrap("ann", "bob");
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let mut looked = 0;
    let status = until_it_ends(&place, &words, || {
        // One each time: the next kill looks at the next one.
        let of = &made[looked % made.len()];
        looked += 1;
        let opens = ["ann", "bob"].map(|by| place.open(of, by) == Ok(media()));
        assert!(
            opens == [true, false] || opens == [false, true],
            "{}: {opens:?}",
            of.id
        );
    });
    assert!(status.success());
    for of in &made {
        place.assert_complete(of);
        assert_eq!(place.open(of, "bob"), Ok(media()));
        assert!(place.open(of, "ann").is_err());
        assert!(!of.path.join("key.age").exists() && !of.path.join("holders/.next").exists());
    }
    assert!(place.good(&["audit", "verify", "log"]).starts_with("INTACT"));
}

#[test]
fn a_killed_deletion_is_completed_and_takes_nothing_else() {
    let place = Place::new();
    place.person("ann");
    let due: Vec<Made> = (0..RECORDINGS).map(|_| place.record("ann")).collect();
    let held = place.record("ann");
    let ever = place.record_at("ann", LONG_AGO, None);
    let hold = [
        "retention",
        "hold",
        held.path.to_str().unwrap(),
        "--audit-log",
        "log",
    ];
    place.good(&[&hold[..], &WHY].concat());
    let apply = ["retention", "apply", "rec", "--audit-log", "log", "--yes"];
    let status = until_it_ends(&place, &[&apply[..], &WHY].concat(), || {
        for of in &due {
            // Never without a decision, never in another order.
            let kinds = place.kinds(of.id);
            let is_there = |name: &str| of.path.join(name).exists();
            assert!(
                is_there("key.age") || kinds.contains(&"deletion-decided"),
                "{kinds:?}"
            );
            assert!(is_there("tracks") || kinds.contains(&"shredded"), "{kinds:?}");
            assert!(
                is_there("recording.json") || kinds.contains(&"deleted"),
                "{kinds:?}"
            );
        }
        for of in [&held, &ever] {
            place.assert_complete(of);
        }
    });
    // One was refused.
    assert_eq!(status.code(), Some(1));
    for of in &due {
        let mut kinds = place.kinds(of.id);
        kinds.dedup();
        assert_eq!(kinds, ["deletion-decided", "shredded", "deleted"]);
        // What a kill can leave is an empty folder, which says of nothing what it was.
        assert!(!of.path.join("recording.json").exists());
    }
    for of in [&held, &ever] {
        place.assert_complete(of);
    }
    assert!(place.good(&["audit", "verify", "log"]).starts_with("INTACT"));
}
