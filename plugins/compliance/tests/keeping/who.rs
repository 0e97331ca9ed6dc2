//! Who could open which recording when: the log alone tells.

use std::fs;

use gstcompliance::bundle::holders::fingerprint;
use serde_json::Value;

use super::place::{LONG_AGO, Place};

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_log_alone_says_who_could_open_which_recording_when() {
    let place = Place::new();
    let (ann, bob) = (place.person("ann"), place.person("bob"));
    for name in ["c1", "c2", "c3"] {
        place.person(name);
    }
    place.escrow("escrow", 2, &["c1", "c2", "c3"]);
    let made = place.record("ann");
    place.rewrapped("ann", "bob");
    place.rewrapped("bob", "escrow");
    let (ann, bob) = (fingerprint(&ann.to_public()), fingerprint(&bob.to_public()));
    fs::remove_dir_all(place.path("rec")).unwrap();

    let text = place.good(&["audit", "who", "log"]);
    let places = [
        text.find("NOT CHECKED"),
        text.find(&made.id.to_string()),
        text.find("as it was recorded"),
        text.find(&format!("alone     recipient {ann}")),
        text.find("re-wrapped by ops-1: staff change (C-7)"),
        text.find(&format!("alone     recipient {bob}")),
        text.find("until now, re-wrapped"),
        text.find("together  2 of 3 custodians"),
        text.find("kept a copy of an older one"),
    ];
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");

    let told = lines(&place.good(&[
        "audit",
        "who",
        "log",
        "--json",
        "--recording",
        &made.id.to_string(),
    ]));
    let periods = told[0]["periods"].as_array().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(periods.len(), 3);
    let recipients: Vec<_> = periods.iter().map(|period| &period["recipients"]).collect();
    assert_eq!(
        recipients,
        [
            &Value::from(vec![ann.to_string()]),
            &Value::from(vec![bob.to_string()]),
            &Value::from(Vec::<String>::new()),
        ]
    );
    assert_eq!(periods[0]["from"]["time"], LONG_AGO);
    assert_eq!(periods[0]["until"], periods[1]["from"]);
    assert_eq!(periods[1]["until"], periods[2]["from"]);
    assert_eq!(periods[2]["until"], Value::Null);
    assert_eq!(periods[2]["custodians"]["threshold"], 2);
    assert_eq!(periods[1]["number"], 1);
    assert_eq!(periods[1]["rewrapped"]["by"], "ops-1");
}

#[test]
fn it_says_who_could_at_one_moment() {
    let place = Place::new();
    let ann = fingerprint(&place.person("ann").to_public()).to_string();
    let bob = fingerprint(&place.person("bob").to_public()).to_string();
    place.record("ann");
    place.rewrapped("ann", "bob");
    let at = |time: &str| place.good(&["audit", "who", "log", "--at", time]);
    // Long ago it began; it was wrapped to the other one today.
    let before = at("2020-01-01T00:00:00Z");
    assert!(!before.contains(&ann) && !before.contains(&bob), "{before}");
    let first = at("2021-01-01T00:00:00Z");
    assert!(first.contains(&ann) && !first.contains(&bob), "{first}");
    let last = at("2999-01-01T00:00:00Z");
    assert!(!last.contains(&ann) && last.contains(&bob), "{last}");
    place.bad(
        &["audit", "who", "log", "--at", "yesterday"],
        "2026-05-03T14:00:00Z",
    );
}

#[test]
fn a_log_that_is_damaged_says_so() {
    let place = Place::new();
    place.person("ann");
    place.record("ann");
    let file = place.path("log/log");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() - 60;
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let text = place.good(&["audit", "who", "log"]);
    assert!(text.contains("what follows may not be all"), "{text}");
    let told = lines(&place.good(&["audit", "who", "log", "--json"]));
    assert!(told.iter().any(|line| line.get("damage").is_some()), "{told:?}");
}
