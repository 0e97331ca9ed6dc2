//! A drill goes the same way with a canary, and says whether it worked.

use std::fs;

use gstcompliance::audit::Event;
use gstcompliance::audit::entry::Way;

use super::place::{Place, files, kinds};

const MAKE: &str = "drill make --keys keys --location recordings --audit-log log";

fn make(place: &Place) -> String {
    let words: Vec<_> = MAKE.split(' ').collect();
    place.call("station", &words).good().trim_end().to_owned()
}

fn hold(place: &Place, canary: &str, files: &[&str]) -> super::place::Said {
    let mut words = vec!["drill", "open", canary, "--approvals"];
    words.extend(files);
    let options = "--station-key d.key --custodians custodians --audit-log log --by ops-3";
    words.extend(options.split(' '));
    place.call("station", &words)
}

#[test]
fn a_drill_that_works_is_logged_and_leaves_nothing() {
    let place = Place::new();
    let canary = make(&place);
    place
        .call("station", &["verify", &canary, "--log-key", &place.log_key()])
        .good();
    place.request(&canary, "d");
    let approvals = [place.approve("d", "anna"), place.approve("d", "ben")];
    let before = files(&place.path("station")).len();
    let said = hold(&place, &canary, &[&approvals[0], &approvals[1]]).good();
    assert!(said.contains("PASSED: 2 custodians opened the canary"), "{said}");
    assert_eq!(files(&place.path("station")).len(), before);
    let log = place.log();
    let kinds = kinds(&log);
    assert_eq!(kinds[3..], ["access-opened", "access-ended", "drill"]);
    assert!(matches!(&log[3], Event::AccessOpened { way: Way::Drill, .. }));
    let Event::AccessRequested { access: asked, .. } = &log[0] else {
        panic!()
    };
    let Event::Drill {
        access,
        by,
        passed,
        result,
    } = &log[5]
    else {
        panic!()
    };
    assert_eq!((access, by.as_str(), *passed), (asked, "ops-3", true));
    assert!(result.as_str().contains("it held what it should"), "{result}");
    // Once, like any other request.
    hold(&place, &canary, &[&approvals[0], &approvals[1]]).refused(&["the drill FAILED", "opens it once"]);
}

#[test]
fn a_drill_that_does_not_work_is_logged_too() {
    let place = Place::new();
    let canary = make(&place);
    place.request(&canary, "d");
    let approvals = [place.approve("d", "anna"), place.approve("d", "ben")];
    let why = "2 approvals of different custodians are needed, and 1 count";
    hold(&place, &canary, &[&approvals[0]]).refused(&["the drill FAILED, and that is logged", why]);
    let last = place.log().pop().unwrap();
    assert!(
        matches!(&last, Event::Drill { passed: false, result, .. } if result.as_str().contains(why)),
        "{last:?}"
    );
    // A canary whose media was changed since.
    let tar = place.path(&format!("station/{canary}/tracks/0-data.tar"));
    let mut bytes = fs::read(&tar).unwrap();
    bytes[600] ^= 1;
    fs::write(&tar, bytes).unwrap();
    hold(&place, &canary, &[&approvals[0], &approvals[1]]).refused(&["is not what was sealed"]);
    let last = place.log().pop().unwrap();
    assert!(matches!(last, Event::Drill { passed: false, .. }), "{last:?}");
}

#[test]
fn a_drill_opens_no_recording_of_people() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "d");
    let approvals = [place.approve("d", "anna"), place.approve("d", "ben")];
    hold(&place, &recording, &[&approvals[0], &approvals[1]]).refused(&["is no canary"]);
    assert_eq!(kinds(&place.log()), ["access-requested"]);
}

#[test]
fn a_canary_cannot_be_mistaken_for_a_recording() {
    let place = Place::new();
    let canary = make(&place);
    let facts = fs::read_to_string(place.path(&format!("station/{canary}/recording.json"))).unwrap();
    assert!(
        facts.contains("\\\"room\\\":\\\"drill\\\"") && facts.contains("unattested"),
        "{facts}"
    );
    assert!(!facts.contains("attestation"));
    let manifest = fs::read_to_string(place.path(&format!("station/{canary}/manifest"))).unwrap();
    assert!(manifest.contains("application/x-gst-e2ee-drill"));
    // Without bundles for custodians there is none, and that is said.
    for _ in 0..5 {
        make(&place);
    }
    let words: Vec<_> = MAKE.split(' ').collect();
    place
        .call("station", &words)
        .refused(&["has no unused key bundle"]);
}
