//! What is due is deleted by a logged decision, the key first; what is held is not.

use std::fs;

use gstcompliance::audit::{Event, Id, Text};
use serde_json::Value;

use super::place::{DAY, LONG_AGO, Made, Place, Said, WHY, copy, files};

fn place() -> (Place, Made) {
    let place = Place::new();
    place.person("ann");
    let made = place.record("ann");
    (place, made)
}

impl Place {
    fn list(&self) -> Vec<Value> {
        let text = self.good(&["retention", "list", "rec", "--audit-log", "log", "--json"]);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// What `list` says of a recording.
    fn listed(&self, made: &Made) -> Value {
        let id = Value::from(made.id.to_string());
        let mut found = self.list();
        found.retain(|item| item["recording"] == id);
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    fn apply(&self, more: &[&str]) -> Said {
        let words = ["retention", "apply", "rec", "--audit-log", "log"];
        self.call(&[&words[..], &WHY, more].concat())
    }

    fn applied(&self, more: &[&str]) -> String {
        let said = self.apply(&[more, &["--yes"]].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out
    }

    fn refused(&self, more: &[&str], expected: &str) {
        let said = self.apply(&[more, &["--yes"]].concat());
        let text = format!("{}{}", said.out, said.error);
        assert!(said.code == Some(1) && text.contains(expected), "{said:?}");
    }

    fn hold(&self, what: &str, made: &str, ticket: &str) -> Said {
        self.call(&[
            "retention",
            what,
            made,
            "--audit-log",
            "log",
            "--by",
            "counsel",
            "--reason",
            "lawsuit",
            "--ticket",
            ticket,
        ])
    }

    fn held(&self, made: &Made, ticket: &str) {
        let said = self.hold("hold", made.path.to_str().unwrap(), ticket);
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    /// It is deleted, and the log says so in this order.
    fn assert_deleted(&self, made: &Made) {
        assert!(!made.path.exists());
        let mut kinds = self.kinds(made.id);
        kinds.dedup();
        assert_eq!(kinds, ["deletion-decided", "shredded", "deleted"]);
        assert!(self.good(&["audit", "verify", "log"]).starts_with("INTACT"));
    }
}

fn now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

#[test]
fn what_is_due_is_shown_with_its_age_and_time() {
    let (place, old) = place();
    let ever = place.record_at("ann", LONG_AGO, None);
    let young = place.record_at("ann", now() - 10 * DAY, Some(30));
    place.held(&young, "L-1");
    assert_eq!(place.listed(&old)["standing"], "due");
    assert_eq!(place.listed(&old)["due"], LONG_AGO + 30 * DAY);
    let listed = place.listed(&ever);
    assert_eq!(
        (&listed["standing"], &listed["due"]),
        (&"kept".into(), &Value::Null)
    );
    let listed = place.listed(&young);
    assert_eq!(
        (&listed["standing"], &listed["holds"][0]["ticket"]),
        (&"kept".into(), &"L-1".into())
    );
    let text = place.good(&["retention", "list", "rec", "--audit-log", "log"]);
    let line = |made: &Made| {
        let id = made.id.to_string();
        text.lines()
            .find(|line| line.starts_with(&id))
            .unwrap()
            .to_owned()
    };
    assert!(line(&old).contains("2020-10-13T12:26:40Z  no"), "{text}");
    assert!(line(&ever).contains("for ever  never"), "{text}");
    let young = line(&young);
    assert!(
        young.contains("10 d       30 d") && young.ends_with("HELD: L-1"),
        "{text}"
    );
    let text = place.good(&["retention", "list", "rec", "--audit-log", "log", "--attention"]);
    assert!(
        !text.contains(&ever.id.to_string()) && text.contains(&old.id.to_string()),
        "{text}"
    );
}

#[test]
fn without_yes_it_is_only_shown() {
    let (place, made) = place();
    let before = (files(&made.path), place.events(made.id));
    let said = place.apply(&[]);
    assert_eq!(said.code, Some(0));
    assert!(
        said.out.contains(&format!("{}  would be deleted: due", made.id))
            && said
                .out
                .contains("Nothing was changed. With --yes 1 recordings are deleted"),
        "{said:?}"
    );
    place.held(&made, "L-1");
    let said = place.apply(&[]);
    assert!(
        said.out.contains("NOT deleted: it is under legal hold (L-1)"),
        "{said:?}"
    );
    assert_eq!(files(&made.path), before.0);
    assert_eq!(place.events(made.id).len(), before.1.len() + 1);
}

#[test]
fn what_is_due_is_deleted_by_a_logged_decision_and_the_key_first() {
    let (place, made) = place();
    let ever = place.record_at("ann", LONG_AGO, None);
    let young = place.record_at("ann", now() - DAY, Some(30));
    let bundle = place.path("keys/used").join(made.id.to_string());
    assert!(bundle.join("key.age").exists());
    let text = place.applied(&["--keys", "keys"]);
    assert!(
        text.contains("Deleted 1 recordings, refused 0") && text.contains("removed, not overwritten"),
        "{text}"
    );
    assert!(text.contains("Copies are not reached"), "{text}");
    place.assert_deleted(&made);
    assert_eq!(files(&bundle).into_keys().collect::<Vec<_>>(), ["bundle.json"]);
    for of in [&ever, &young] {
        place.assert_complete(of);
        assert_eq!(place.kinds(of.id), Vec::<&str>::new());
    }
    let events = place.events(made.id);
    let Some(Event::DeletionDecided {
        by,
        due,
        reason,
        ticket,
    }) = events.get(2)
    else {
        panic!("{events:?}");
    };
    assert_eq!(
        (by.as_str(), *due, reason.as_str(), ticket.as_str()),
        ("ops-1", LONG_AGO + 30 * DAY, "staff change", "C-7")
    );
    // Key files: of the recording, and of its bundle.
    assert!(
        matches!(&events[3], Event::Shredded { files: 2, .. }),
        "{events:?}"
    );
    assert!(
        matches!(&events[4], Event::Deleted { files: 3, bytes, .. } if *bytes > 5000),
        "{events:?}"
    );
    let who = place.good(&["audit", "who", "log", "--recording", &made.id.to_string()]);
    assert!(
        who.contains("nobody  since") && !who.contains("until now"),
        "{who}"
    );
    // Nothing is left to be done, or named.
    assert!(place.applied(&[]).contains("Deleted 0 recordings"));
    place.refused(&["--recording", &made.id.to_string()], "is not in this folder");
}

#[test]
fn a_recording_that_was_rewrapped_loses_all_its_key_files() {
    let (place, made) = place();
    place.person("bob");
    place.rewrapped("ann", "bob");
    place.applied(&[]);
    assert!(!made.path.exists());
    let kinds = place.kinds(made.id);
    assert_eq!(kinds, ["rewrapped", "deletion-decided", "shredded", "deleted"]);
}

#[test]
fn a_hold_keeps_it_and_the_refusal_is_logged() {
    let (place, made) = place();
    place.held(&made, "L-1");
    place.held(&made, "L-2");
    place.refused(&[], "it is under legal hold (L-1, L-2)");
    place.assert_complete(&made);
    assert_eq!(
        place.kinds(made.id),
        ["hold-placed", "hold-placed", "deletion-refused"]
    );
    let text = place.good(&["audit", "show", "log", "--kind", "deletion-refused"]);
    assert!(
        text.contains("by=ops-1 cause=hold reason=\"under hold: L-1, L-2\" ticket=C-7"),
        "{text}"
    );
    // One hold is released: the other one lasts. By its id, where the folder is not at hand.
    let said = place.hold("release", &made.id.to_string(), "L-1");
    assert_eq!(said.code, Some(0), "{said:?}");
    place.refused(&[], "it is under legal hold (L-2)");
    let said = place.hold("release", "rec", "L-1");
    assert!(
        said.code == Some(1)
            && said
                .error
                .contains("not under hold for this ticket; it is for: L-2"),
        "{said:?}"
    );
    let said = place.hold("hold", "rec", "L-2");
    assert!(
        said.code == Some(1) && said.error.contains("for this ticket already"),
        "{said:?}"
    );
    place.assert_complete(&made);
    assert_eq!(place.hold("release", "rec", "L-2").code, Some(0));
    place.applied(&[]);
    assert!(!made.path.exists());
}

#[test]
fn what_cannot_be_held_is_refused() {
    let (place, made) = place();
    let strange = "00112233445566778899aabbccddeeff";
    let said = place.hold("hold", strange, "L-1");
    assert!(
        said.code == Some(1) && said.error.contains("does not know it"),
        "{said:?}"
    );
    let said = place.hold("hold", "nowhere", "L-1");
    assert!(
        said.code == Some(1) && said.error.contains("neither a recording's folder nor its id"),
        "{said:?}"
    );
    // One that can be is held, whatever the others are.
    let said = place.call(&[
        "retention",
        "hold",
        strange,
        "rec",
        "--audit-log",
        "log",
        "--by",
        "c",
        "--reason",
        "r",
        "--ticket",
        "L-1",
    ]);
    assert!(
        said.code == Some(1) && said.out.contains(&format!("{}  held (L-1)", made.id)),
        "{said:?}"
    );
    assert_eq!(place.hold("release", "rec", "L-1").code, Some(0));
    place.applied(&[]);
    let said = place.hold("hold", &made.id.to_string(), "L-1");
    assert!(
        said.code == Some(1) && said.error.contains("there is nothing left to be held"),
        "{said:?}"
    );
}

#[test]
fn what_is_not_due_not_ended_or_not_known_is_refused() {
    let (place, _) = place();
    place.applied(&[]);
    let before = place.path("log-before");
    copy(&place.path("log"), &before);
    let young = place.record_at("ann", now() - DAY, Some(30));
    let ever = place.record_at("ann", LONG_AGO, None);
    place.refused(
        &["--recording", &young.id.to_string()],
        "its time is not over before",
    );
    place.refused(&["--recording", &ever.id.to_string()], "it has no retention time");

    let running = place.begin("ann", LONG_AGO, Some(1));
    let id = running.id().to_string();
    let list = |place: &Place| {
        let all = place.list();
        let item = all.iter().find(|item| item["recording"] == id.as_str()).unwrap();
        item["standing"].clone()
    };
    assert_eq!(list(&place), "in-use");
    place.refused(&[], "being recorded, re-wrapped or deleted by another process");
    drop(running);
    assert_eq!(list(&place), "unfinished");
    place.refused(&[], "it has no end record");
    assert!(place.path("rec").join(&id).join("key.age").exists());

    // An older copy of the log would not know of a hold on it, either.
    let late = place.record("ann");
    let newest = place.path("log-newest");
    copy(&place.path("log"), &newest);
    copy(&before, &place.path("log"));
    place.refused(
        &["--recording", &late.id.to_string()],
        "the audit log does not know it",
    );
    let listed = place.listed(&late);
    assert_eq!(listed["standing"], "unknown");
    copy(&newest, &place.path("log"));
    place.assert_complete(&late);

    gstcompliance::audit::Log::open(&place.path("other"))
        .unwrap()
        .close()
        .unwrap();
    let words = ["retention", "list", "rec", "--audit-log", "other"];
    let text = place.good(&words);
    assert!(text.contains("it names the audit log with the key"), "{text}");
}

/// A recording whose deletion stopped behind a step, as a crash leaves it.
fn stopped(behind: usize) -> (Place, Made) {
    let (place, made) = place();
    let id = |text: &str| Id::new(text).unwrap();
    let text = |text: &str| Text::new(text).unwrap();
    let steps: [&dyn Fn(); 6] = [
        &|| {
            place.append(
                made.id,
                Event::DeletionDecided {
                    by: id("ops-0"),
                    due: LONG_AGO,
                    reason: text("time"),
                    ticket: text("C-1"),
                },
            );
        },
        &|| fs::remove_file(made.path.join("key.age")).unwrap(),
        &|| {
            let by = id("ops-0");
            place.append(made.id, Event::Shredded { by, files: 1 });
        },
        &|| fs::remove_dir_all(made.path.join("tracks")).unwrap(),
        &|| {
            for name in ["bundle.json", "manifest"] {
                fs::remove_file(made.path.join(name)).unwrap();
            }
        },
        &|| {
            let by = id("ops-0");
            place.append(
                made.id,
                Event::Deleted {
                    by,
                    files: 3,
                    bytes: 1,
                },
            );
        },
    ];
    for step in &steps[..=behind] {
        step();
    }
    (place, made)
}

#[test]
fn a_deletion_that_stopped_behind_any_step_is_completed() {
    for behind in 0..6 {
        let (place, made) = stopped(behind);
        let standing = place.listed(&made)["standing"].clone();
        let expected = [
            "deleting", "deleting", "shredded", "shredded", "shredded", "deleted",
        ];
        assert_eq!(standing, expected[behind]);
        let said = place.apply(&[]);
        assert!(said.out.contains("would be deleted"), "{behind}: {said:?}");
        place.applied(&[]);
        place.assert_deleted(&made);
    }
}

#[test]
fn a_hold_after_the_decision_keeps_what_is_left() {
    for behind in [0, 1] {
        let (place, made) = stopped(behind);
        let said = place.hold("hold", "rec", "L-1");
        assert!(
            said.code == Some(0) && said.out.contains("its deletion was decided before, by ops-0"),
            "{said:?}"
        );
        place.refused(&[], "it is under legal hold (L-1)");
        assert!(made.path.join("tracks/0-audio.tar").exists());
        assert_eq!(made.path.join("key.age").exists(), behind == 0);
    }
}

#[test]
fn nothing_is_wrapped_to_others_once_its_deletion_was_decided() {
    let (place, made) = stopped(0);
    place.person("bob");
    let words = place.rewrap("ann", "bob");
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    place.bad(&words, "its deletion was decided by ops-0 (C-1)");
    assert!(made.path.join("key.age").exists() && !made.path.join("holders").exists());
}

#[test]
fn key_files_and_media_that_are_put_back_are_told_of_and_not_opened() {
    let (place, made) = place();
    let kept = place.path("kept");
    copy(&made.path, &kept);
    place.applied(&[]);
    copy(&kept, &made.path);
    let refused = place.open(&made, "ann").unwrap_err();
    assert!(refused.contains("its key files were destroyed"), "{refused}");
    let said = place.verify(&made);
    assert!(
        said.code == Some(1) && said.out.contains("its key files were destroyed"),
        "{said:?}"
    );
    let notes = place.listed(&made)["notes"].to_string();
    assert!(
        notes.contains("and there are some: a copy was put back") && notes.contains("and there is media"),
        "{notes}"
    );
    place.applied(&[]);
    assert!(!made.path.exists());
}

#[test]
fn what_is_missing_without_a_decision_is_told_of() {
    let (place, made) = place();
    let held = place.record("ann");
    place.held(&held, "L-1");
    fs::remove_file(made.path.join("key.age")).unwrap();
    fs::remove_dir_all(&held.path).unwrap();
    let notes = place.listed(&made)["notes"].to_string();
    assert!(
        notes.contains("its key files are missing, and the audit log has no decision"),
        "{notes}"
    );
    let listed = place.listed(&held);
    assert_eq!(
        (&listed["standing"], &listed["path"]),
        (&"elsewhere".into(), &Value::Null)
    );
    assert!(
        listed["notes"]
            .to_string()
            .contains("under hold, and it is not in this folder")
    );
}

#[test]
fn what_is_no_part_of_a_recording_is_not_deleted() {
    let (place, made) = place();
    fs::write(made.path.join("letter.txt"), "x").unwrap();
    place.refused(&[], "has other files in it, which stay");
    let names: Vec<_> = files(&made.path).into_keys().collect();
    assert_eq!(names, ["letter.txt", "recording.json"]);
    fs::remove_file(made.path.join("letter.txt")).unwrap();
    place.applied(&[]);
    place.assert_deleted(&made);
}

#[test]
fn links_are_removed_and_not_followed() {
    let (place, made) = place();
    let away = place.path("away");
    fs::rename(made.path.join("tracks"), &away).unwrap();
    std::os::unix::fs::symlink(&away, made.path.join("tracks")).unwrap();
    place.applied(&[]);
    place.assert_deleted(&made);
    assert!(away.join("0-audio.tar").exists());
}

#[test]
fn a_command_line_that_says_too_little_is_refused() {
    let (place, made) = place();
    place.bad(
        &["retention", "apply", "rec", "--audit-log", "log", "--yes"],
        "--by",
    );
    place.bad(&["retention", "hold", "--audit-log", "log"], "required");
    place.bad(
        &["retention", "list", "nowhere", "--audit-log", "log"],
        "nowhere: No such file",
    );
    place.bad(
        &["retention", "list", "rec", "--audit-log", "nowhere"],
        "holds no audit log",
    );
    assert_eq!(place.kinds(made.id), Vec::<&str>::new());
}
