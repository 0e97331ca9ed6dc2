//! A re-wrapping that was interrupted between any two of its steps: the recording opens for the old holders or for the new
//! ones, and the next call completes it.

use std::fs;
use std::path::PathBuf;

use super::place::{Made, Place, copy, files, media};

/// A recording before and after a re-wrapping from Ann to Bob, and the log at both times.
struct Both {
    place: Place,
    made: Made,
    old: PathBuf,
    old_log: PathBuf,
}

impl Both {
    fn new() -> Self {
        let place = Place::new();
        place.person("ann");
        place.person("bob");
        let made = place.record("ann");
        let (old, old_log) = (place.path("old"), place.path("old-log"));
        copy(&made.path, &old);
        copy(&place.path("log"), &old_log);
        place.rewrapped("ann", "bob");
        Self {
            place,
            made,
            old,
            old_log,
        }
    }

    /// The log has no entry of it.
    fn not_logged(&self) {
        copy(&self.old_log, &self.place.path("log"));
    }

    /// The new key files are made and are not in their place.
    fn staged(&self) {
        let holders = self.made.path.join("holders");
        fs::rename(holders.join("1"), holders.join(".next")).unwrap();
        self.old_key();
    }

    /// The old key file is there.
    fn old_key(&self) {
        fs::copy(self.old.join("key.age"), self.made.path.join("key.age")).unwrap();
    }

    fn next(&self, name: &str) -> PathBuf {
        self.made.path.join("holders/.next").join(name)
    }

    /// It is complete, for Bob and nobody else, after so many re-wrappings.
    fn assert_bobs(&self, number: u32) {
        self.place.assert_complete(&self.made);
        assert_eq!(self.place.open(&self.made, "bob"), Ok(media()));
        assert!(self.place.open(&self.made, "ann").is_err());
        let names: Vec<_> = files(&self.made.path.join("holders")).into_keys().collect();
        let expected = ["key.age", "rewrap.json"].map(|name| format!("{number}/{name}"));
        assert_eq!(names, expected);
        assert!(!self.made.path.join("key.age").exists());
    }

    fn logged(&self) -> usize {
        let kinds = self.place.kinds(self.made.id);
        kinds.iter().filter(|kind| **kind == "rewrapped").count()
    }
}

#[test]
fn what_was_made_and_not_logged_did_not_take_effect_and_is_made_anew() {
    let both = Both::new();
    both.staged();
    both.not_logged();
    assert_eq!(both.place.open(&both.made, "ann"), Ok(media()));
    assert!(both.place.open(&both.made, "bob").is_err());
    let said = both.place.verify(&both.made);
    assert!(said.out.contains("holders/.next is left over"), "{said:?}");
    let text = both.place.rewrapped("ann", "bob");
    assert!(text.contains("Re-wrapped 1 of 1"), "{text}");
    both.assert_bobs(1);
    assert_eq!(both.logged(), 1);
}

#[test]
fn what_was_half_made_is_made_anew() {
    for missing in ["rewrap.json", "key.age"] {
        let both = Both::new();
        both.staged();
        both.not_logged();
        fs::remove_file(both.next(missing)).unwrap();
        assert_eq!(both.place.open(&both.made, "ann"), Ok(media()));
        both.place.rewrapped("ann", "bob");
        both.assert_bobs(1);
    }
}

#[test]
fn what_was_logged_and_not_in_its_place_took_effect_and_is_completed() {
    let both = Both::new();
    both.staged();
    assert_eq!(both.place.open(&both.made, "bob"), Ok(media()));
    assert!(both.place.open(&both.made, "ann").is_err());
    let said = both.place.verify(&both.made);
    assert!(said.out.contains("key.age is left over"), "{said:?}");
    // Whoever completes it need not hold the key: nothing is unwrapped.
    both.place.person("nobody");
    let text = both.place.rewrapped("nobody", "bob");
    assert!(
        text.contains("Re-wrapped 0 of 1")
            && text.contains("1 that an earlier call had begun are complete now"),
        "{text}"
    );
    both.assert_bobs(1);
    assert_eq!(both.logged(), 1);
}

#[test]
fn what_was_logged_and_is_damaged_since_is_made_anew() {
    let both = Both::new();
    both.staged();
    fs::write(both.next("key.age"), "x").unwrap();
    let text = both.place.rewrapped("ann", "bob");
    assert!(text.contains("Re-wrapped 1 of 1"), "{text}");
    both.assert_bobs(2);
    assert_eq!(both.logged(), 2);
}

#[test]
fn old_key_files_that_stayed_are_told_of_and_removed() {
    let both = Both::new();
    both.old_key();
    assert_eq!(both.place.open(&both.made, "bob"), Ok(media()));
    assert!(both.place.open(&both.made, "ann").is_err());
    for words in [&["--audit-log", "log"][..], &[]] {
        let words = [&["verify", both.made.path.to_str().unwrap()], words].concat();
        let said = both.place.bad(&words, "key.age is left over");
        assert!(said.out.contains("run gst-compliance rewrap again"), "{said:?}");
    }
    both.place.rewrapped("bob", "bob");
    both.assert_bobs(1);
    assert_eq!(both.logged(), 1);
}

#[test]
fn it_is_completed_before_it_goes_to_others() {
    let both = Both::new();
    both.staged();
    both.place.person("eve");
    both.place.rewrapped("bob", "eve");
    both.place.assert_complete(&both.made);
    assert_eq!(both.place.open(&both.made, "eve"), Ok(media()));
    let names: Vec<_> = files(&both.made.path.join("holders")).into_keys().collect();
    assert_eq!(names, ["1/rewrap.json", "2/key.age", "2/rewrap.json"]);
}
