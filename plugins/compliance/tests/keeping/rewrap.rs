//! Keys that are wrapped to others: who opens then, what the log says, what is refused.

use std::fs;

use gstcompliance::audit::Event;
use gstcompliance::bundle::{Share, combine};
use gstcompliance::digest::Digest;

use super::place::{Made, Place, WHY, age, by_hand, copy, files, media};

/// A place with a recording for Ann. Bob has a key, too.
fn place() -> (Place, Made) {
    let place = Place::new();
    place.person("ann");
    place.person("bob");
    let made = place.record("ann");
    (place, made)
}

fn words(place: &Place, by: &str, to: &str) -> Vec<String> {
    place.rewrap(by, to)
}

fn call(place: &Place, words: &[String], expected: &str) {
    place.bad(&words.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn the_new_recipients_open_and_no_media_is_touched() {
    let (place, made) = place();
    let second = place.record("ann");
    let before = files(&made.path);
    // What is not there is not read and not written.
    let away = place.path("away");
    for of in [&made, &second] {
        fs::create_dir_all(away.join(of.id.to_string())).unwrap();
        fs::rename(
            of.path.join("tracks"),
            away.join(of.id.to_string()).join("tracks"),
        )
        .unwrap();
    }
    let text = place.rewrapped("ann", "bob");
    assert!(
        text.contains("Re-wrapped 2 of 2 recordings to 1 recipient") && text.contains("none of them media"),
        "{text}"
    );
    assert!(
        text.contains("NOT REVOKED: whoever kept an old key file") && text.contains("out of locked storage"),
        "{text}"
    );
    for of in [&made, &second] {
        fs::rename(
            away.join(of.id.to_string()).join("tracks"),
            of.path.join("tracks"),
        )
        .unwrap();
        place.assert_complete(of);
        assert_eq!(place.open(of, "bob"), Ok(media()));
    }
    let refused = place.open(&made, "ann").unwrap_err();
    let bob = place.path("bob");
    let bob = fs::read_to_string(bob).unwrap();
    let print = Digest::of(bob.trim_end().as_bytes()).to_string();
    assert!(
        refused.contains("not encrypted to this identity") && refused.contains(&print),
        "{refused}"
    );

    let after = files(&made.path);
    for (name, bytes) in before.iter().filter(|(name, _)| *name != "key.age") {
        assert_eq!(after.get(name), Some(bytes), "{name}");
    }
    let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert_eq!(new, ["holders/1/key.age", "holders/1/rewrap.json"]);
    assert!(!after.contains_key("key.age"));
}

#[test]
fn a_copy_of_the_old_key_file_still_opens_as_the_output_says() {
    let (place, made) = place();
    let kept = place.path("kept.age");
    fs::copy(made.path.join("key.age"), &kept).unwrap();
    let text = place.rewrapped("ann", "bob");
    assert!(text.contains("still opens the recording with it"), "{text}");
    assert_eq!(by_hand(&made.path, &place.path("ann.txt"), &kept), Some(media()));
    let new = made.path.join("holders/1/key.age");
    assert_eq!(age(&place.path("ann.txt"), &new), None);
    assert_eq!(by_hand(&made.path, &place.path("bob.txt"), &new), Some(media()));
}

#[test]
fn the_log_has_who_it_is_for_and_what_was_signed() {
    let (place, made) = place();
    place.rewrapped("ann", "bob");
    let statement = fs::read(made.path.join("holders/1/rewrap.json")).unwrap();
    let bob = fs::read_to_string(place.path("bob")).unwrap();
    let events = place.events(made.id);
    let Some(Event::Rewrapped {
        by,
        number,
        statement: logged,
        recipients,
        custodians,
        reason,
        ticket,
    }) = events.last()
    else {
        panic!("{events:?}");
    };
    assert_eq!(
        (by.as_str(), reason.as_str(), ticket.as_str()),
        ("ops-1", "staff change", "C-7")
    );
    assert_eq!((*number, custodians), (1, &None));
    assert_eq!(*logged, Digest::of(&statement));
    assert_eq!(recipients, &[Digest::of(bob.trim_end().as_bytes())]);
    let text = place.good(&["audit", "verify", "log"]);
    assert!(text.starts_with("INTACT"), "{text}");
    let text = place.good(&["audit", "show", "log", "--kind", "rewrapped"]);
    assert!(
        text.contains("rewrapped by=ops-1 number=1 reason=\"staff change\""),
        "{text}"
    );
}

#[test]
fn custodians_get_shares_that_open_together_and_no_recipient_opens_any_more() {
    let (place, made) = place();
    let custodians = ["c1", "c2", "c3"].map(|name| place.person(name));
    place.escrow("escrow", 2, &["c1", "c2", "c3"]);
    let text = place.rewrapped("ann", "escrow");
    assert!(text.contains("to 2 of 3 custodians"), "{text}");
    place.assert_complete(&made);
    let folder = made.path.join("holders/1/shares");
    let shares: Vec<_> = custodians
        .iter()
        .enumerate()
        .skip(1)
        .map(|(index, custodian)| {
            let file = fs::read(folder.join(format!("00{}.age", index + 1))).unwrap();
            Share::decode(&age::decrypt(custodian, &file).unwrap()).unwrap()
        })
        .collect();
    let identity = combine(&shares).unwrap();
    assert_eq!(identity.to_public().to_string(), shares[0].public());
    assert_eq!(shares[0].recording(), made.id);
    assert!(!made.path.join("key.age").exists() && !made.path.join("holders/1/key.age").exists());
    for by in ["ann", "bob", "c1"] {
        let refused = place.open(&made, by).unwrap_err();
        assert!(refused.contains("is under escrow"), "{refused}");
    }
    // One of them alone does not wrap it to others, either.
    let words = words(&place, "c1", "bob");
    call(&place, &words, "is under escrow");
    assert_eq!(place.kinds(made.id), ["rewrapped"]);
}

#[test]
fn what_is_for_these_holders_already_stays_as_it_is() {
    let (place, made) = place();
    place.rewrapped("ann", "bob");
    let (before, events) = (files(&made.path), place.events(made.id));
    let text = place.rewrapped("bob", "bob");
    assert!(text.contains("1 were for these holders already"), "{text}");
    assert_eq!((files(&made.path), place.events(made.id)), (before, events));
}

#[test]
fn statements_follow_each_other_and_the_ones_before_stay() {
    let (place, made) = place();
    place.rewrapped("ann", "bob");
    place.person("eve");
    place.recipients("both", &["bob", "eve"]);
    place.rewrapped("bob", "both");
    let names: Vec<_> = files(&made.path.join("holders")).into_keys().collect();
    assert_eq!(names, ["1/rewrap.json", "2/key.age", "2/rewrap.json"]);
    place.assert_complete(&made);
    for by in ["bob", "eve"] {
        assert_eq!(place.open(&made, by), Ok(media()));
    }
    let text = place.verify(&made).out;
    assert!(
        text.contains("2 recipients, each alone, since re-wrapping 2"),
        "{text}"
    );
    // One in the middle that is missing, or another's.
    let first = made.path.join("holders/1");
    let kept = place.path("first");
    fs::rename(&first, &kept).unwrap();
    let said = place.verify(&made);
    assert!(
        said.out
            .contains("holders/2/rewrap.json is changed: it does not go on from the statement before it"),
        "{said:?}"
    );
    let refused = place.open(&made, "eve").unwrap_err();
    assert!(
        refused.contains("does not go on from the statement before it"),
        "{refused}"
    );
    fs::rename(&kept, &first).unwrap();
    place.assert_complete(&made);
}

#[test]
fn whatever_is_changed_in_it_is_noticed_and_named() {
    let (place, made) = place();
    let other = place.record("ann");
    place.rewrapped("ann", "bob");
    for name in ["holders/1/rewrap.json", "holders/1/key.age"] {
        let path = made.path.join(name);
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 7) {
            let mut changed = bytes.clone();
            changed[at] ^= 2;
            fs::write(&path, changed).unwrap();
            let said = place.verify(&made);
            assert!(said.code == Some(1) && said.out.contains(name), "{at}: {said:?}");
        }
        fs::remove_file(&path).unwrap();
        let said = place.verify(&made);
        assert!(said.out.contains(&format!("{name} is missing")), "{said:?}");
        // The same of another recording.
        fs::copy(other.path.join(name), &path).unwrap();
        let said = place.verify(&made);
        assert!(said.code == Some(1) && said.out.contains(name), "{said:?}");
        assert!(place.open(&made, "bob").is_err());
        fs::write(&path, &bytes).unwrap();
    }
    for name in ["holders/note", "holders/1/note", "holders/01"] {
        fs::write(made.path.join(name), "x").unwrap();
        let said = place.verify(&made);
        assert!(
            said.out.contains(&format!("{name} does not belong there")),
            "{said:?}"
        );
        fs::remove_file(made.path.join(name)).unwrap();
    }
    place.assert_complete(&made);
}

#[test]
fn a_folder_that_was_put_back_is_not_opened_and_can_be_wrapped_anew() {
    let (place, made) = place();
    let kept = place.path("kept");
    copy(&made.path, &kept);
    place.rewrapped("ann", "bob");
    copy(&kept, &made.path);
    let said = place.verify(&made);
    assert!(
        said.code == Some(1) && said.out.contains("re-wrapped 1 times, and the folder says 0"),
        "{said:?}"
    );
    // Without the log nobody can tell.
    let alone = place.call(&["verify", made.path.to_str().unwrap()]);
    assert!(alone.out.starts_with("COMPLETE"), "{alone:?}");
    let refused = place.open(&made, "ann").unwrap_err();
    assert!(refused.contains("an older copy was put back"), "{refused}");
    place.rewrapped("ann", "bob");
    assert!(made.path.join("holders/2/key.age").exists());
    place.assert_complete(&made);
    assert_eq!(place.open(&made, "bob"), Ok(media()));
}

#[test]
fn a_rewrapping_that_the_log_does_not_know_is_not_believed() {
    let (place, made) = place();
    let kept = place.path("kept-log");
    copy(&place.path("log"), &kept);
    place.rewrapped("ann", "bob");
    copy(&kept, &place.path("log"));
    let refused = place.open(&made, "bob").unwrap_err();
    assert!(
        refused.contains("the audit log has no entry of that"),
        "{refused}"
    );
    let said = place.verify(&made);
    assert!(
        said.out.contains("the audit log has no entry of that"),
        "{said:?}"
    );
    let words = words(&place, "bob", "ann");
    call(&place, &words, "the audit log has no entry of that");
}

#[test]
fn the_recorders_copies_of_the_old_key_files_go_where_they_are_named() {
    let (place, made) = place();
    let copy = place.path("keys").join("used").join(made.id.to_string());
    assert!(copy.join("key.age").exists());
    let mut words = words(&place, "ann", "bob");
    words.extend(["--keys".to_owned(), "keys".to_owned()]);
    place.good(&words.iter().map(String::as_str).collect::<Vec<_>>());
    // The name of what was used stays, so that nobody uses it again.
    assert_eq!(files(&copy).into_keys().collect::<Vec<_>>(), ["bundle.json"]);
}

#[test]
fn what_is_refused_leaves_recording_and_log_as_they_are() {
    let (place, made) = place();
    place.person("eve");
    gstcompliance::audit::Log::open(&place.path("other-log"))
        .unwrap()
        .close()
        .unwrap();
    fs::write(place.path("nobody"), "# nobody\n").unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    let many: String = (0..250)
        .map(|_| format!("{}\n", age::x25519::Identity::generate().to_public()))
        .collect();
    fs::write(place.path("many"), many).unwrap();
    let before = (files(&made.path), place.events(made.id));
    let with = |from: &str, to: &str| -> Vec<String> {
        words(&place, "ann", "bob")
            .into_iter()
            .map(|word| if word == from { to.to_owned() } else { word })
            .collect()
    };
    for (words, expected) in [
        (words(&place, "eve", "bob"), "not encrypted to this identity"),
        (with("log", "other-log"), "it names the audit log with the key"),
        (with("log", "no-log"), "holds no audit log"),
        (with("bob", "nobody"), "names no recipient"),
        (with("bob", "many"), "an entry has at most"),
        (with("rec", "empty"), "is no recording and has none in it"),
        (with("rec", "nowhere"), "nowhere: No such file"),
        (with("staff change", ""), "there is no text"),
        (with("ops-1", "Dr. Weber"), "no spaces"),
        (with("ann.txt", "bob"), "can be read by other users"),
    ] {
        call(&place, &words, expected);
        assert_eq!((files(&made.path), place.events(made.id)), before, "{expected}");
    }
    let one_of = ["rewrap", "rec", "--identity", "ann.txt", "--audit-log", "log"];
    place.bad(&[&one_of[..], &WHY].concat(), "--recipients");
    // One that is being recorded waits; the other one does not.
    let running = place.begin("ann", super::place::LONG_AGO, None);
    let before = files(running.path());
    let words = words(&place, "ann", "bob");
    call(&place, &words, "is being recorded");
    assert_eq!(files(running.path()), before);
    place.assert_complete(&made);
    assert_eq!(place.open(&made, "bob"), Ok(media()));
}

#[test]
fn a_recording_that_has_no_end_is_wrapped_to_others_too() {
    let (place, _) = place();
    let left = place.begin("ann", super::place::LONG_AGO, None);
    let made = Made {
        id: left.id(),
        path: left.path().to_owned(),
    };
    // Its recorder dies.
    drop(left);
    place.rewrapped("ann", "bob");
    let said = place.verify(&made);
    assert!(said.out.starts_with("UNFINISHED"), "{said:?}");
    assert_eq!(place.open(&made, "bob"), Ok(media()));
}
