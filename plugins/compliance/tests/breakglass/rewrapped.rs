//! Recordings under escrow whose keys are wrapped to others, by their custodians' approvals.

use std::fs;

use super::place::{PEOPLE, Place, age, content, files, kinds};
use gstcompliance::recording::Medium;

/// What re-wrapping is called with, by these approvals.
fn words<'a>(recording: &'a str, name: &'a str, approvals: &[&'a str]) -> Vec<String> {
    let mut words = vec!["rewrap", recording, "--approvals"];
    words.extend(approvals);
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let options = format!(
        "--station-key {name}.key --custodians custodians --escrow new --audit-log log --by ops-1 --reason moved --ticket C-1"
    );
    words.extend(options.split(' ').map(str::to_owned));
    words
}

#[test]
fn custodians_approve_that_others_hold_the_key_and_those_open_it_from_then_on() {
    let place = Place::new();
    let recording = place.record();
    let call =
        |words: &[String]| place.call("station", &words.iter().map(String::as_str).collect::<Vec<_>>());
    // From now on it takes all three.
    let lines = PEOPLE.map(|name| place.line(name)).concat();
    fs::write(place.path("station/new"), format!("3 of 3\n{lines}")).unwrap();
    place.request(&recording, "first");
    let (anna, ben) = (place.approve("first", "anna"), place.approve("first", "ben"));
    call(&words(&recording, "first", &[&anna])).refused(&["2 approvals", "1 count"]);
    let said = call(&words(&recording, "first", &[&anna, &ben])).good();
    assert!(
        said.contains("Re-wrapped 1 of 1 recordings to 3 of 3 custodians"),
        "{said}"
    );
    let shown = ["audit", "show", "log", "--kind", "rewrapped"];
    let shown = place.call("station", &shown).good();
    assert!(shown.contains("rewrapped by=ops-1 number=1"), "{shown}");
    assert_eq!(
        kinds(&place.log()),
        [
            "access-requested",
            "access-approved",
            "access-denied",
            "access-approved",
            "access-opened",
            "access-ended"
        ]
    );
    // The request is used up.
    place
        .open(&recording, "first", &[&anna, &ben])
        .refused(&["fingerprint"]);
    place.call("station", &["verify", &recording]).good();

    for machine in ["station"].iter().chain(&PEOPLE) {
        fs::copy(place.path("station/new"), place.path(machine).join("custodians")).unwrap();
    }
    place
        .open(&recording, "first", &[&anna, &ben])
        .refused(&["has opened the recording already"]);
    place.request(&recording, "second");
    let approvals = PEOPLE.map(|name| place.approve("second", name));
    let approvals: Vec<&str> = approvals.iter().map(String::as_str).collect();
    place
        .open(&recording, "second", &approvals[..2])
        .refused(&["3 approvals", "2 count"]);
    place.open(&recording, "second", &approvals).good();
    let out = files(&place.path("station/second-out"));
    assert_eq!(out.len(), 2, "{out:?}");
    let sound = out
        .iter()
        .find(|path| path.to_string_lossy().contains("audio"))
        .unwrap();
    let opened = age(&place.path("requester/key.txt"), sound).unwrap();
    let all: Vec<u8> = (0..3).flat_map(|second| content(Medium::Audio, second)).collect();
    assert_eq!(opened, all);
}

#[test]
fn a_request_that_shows_the_holders_of_before_is_not_approved() {
    let place = Place::new();
    let recording = place.record();
    let lines = PEOPLE.map(|name| place.line(name)).concat();
    fs::write(place.path("station/new"), format!("3 of 3\n{lines}")).unwrap();
    place.request(&recording, "first");
    let approvals = [place.approve("first", "anna"), place.approve("first", "ben")];
    let words = words(&recording, "first", &[&approvals[0], &approvals[1]]);
    place
        .call("station", &words.iter().map(String::as_str).collect::<Vec<_>>())
        .good();
    place.request(&recording, "second");
    // The custodians still have the file of before.
    place
        .approve_to("second", "anna", "no.json")
        .refused(&["the file of custodians is not this recording's"]);
    // Without the statement of the re-wrapping, the shares in the request are nobody's.
    let path = place.path("anna/second.json");
    let mut request: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let removed = request.as_object_mut().unwrap().remove("rewrap");
    assert!(removed.is_some());
    fs::write(&path, request.to_string()).unwrap();
    place
        .approve_to("second", "anna", "no.json")
        .refused(&["shares/001.age that is not the file that was made for this recording"]);
    // And one that was changed is not the log's.
    let changed = removed
        .unwrap()
        .as_str()
        .unwrap()
        .replace("\\\"m\\\":3", "\\\"m\\\":1");
    request["rewrap"] = changed.into();
    fs::write(&path, request.to_string()).unwrap();
    place
        .approve_to("second", "anna", "no.json")
        .refused(&["has a rewrap.json that has not the signature of the audit log's key"]);
}
