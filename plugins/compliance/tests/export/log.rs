//! `gst-compliance audit fhir`: every entry of a log as an AuditEvent of R4.

use serde_json::{Value, json};

use super::clinic::Clinic;
use super::common::{Place, Run};
use super::server::{SERVER, is_valid};

fn lines(out: &str) -> Vec<Value> {
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_entry_is_a_valid_event_that_can_be_proved() {
    let place = Place::new(1);
    let run: Run = place.launch("videotestsrc num-buffers=30 ! video/x-raw,framerate=30/1,width=64,height=48 ! vp8enc deadline=1 ! rec.sink_0");
    run.to_eos();
    let recording = place.recording();
    let clinic = Clinic::of(place, recording);
    clinic.write("consent.json", &super::clinic::consent());
    let said = clinic.export(&[]);
    assert_eq!(said.code, 0, "{}", said.error);
    clinic.export(&["--recipient", "Organization/10", "--fhir", "other"]);
    let said = clinic.call(&["audit", "fhir", "log"]);
    assert_eq!(said.code, 0, "{}", said.error);
    let events = lines(&said.out);
    let kinds: Vec<_> = events
        .iter()
        .map(|event| {
            event["subtype"].as_array().unwrap().last().unwrap()["code"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(kinds, clinic.logged());
    assert!(
        kinds.contains(&"started") && kinds.contains(&"exported") && kinds.contains(&"access-denied"),
        "{kinds:?}"
    );
    let entries: Vec<_> = events.iter().map(|event| json!({ "resource": event })).collect();
    is_valid(&json!({ "resourceType": "Bundle", "type": "collection", "entry": entries }));
    // One of them again, which leads to its proof.
    let exported = kinds
        .iter()
        .position(|kind| *kind == "exported")
        .unwrap()
        .to_string();
    let said = clinic.call(&["audit", "fhir", "log", "--entry", &exported]);
    let one = lines(&said.out);
    assert_eq!(one, [events[exported.parse::<usize>().unwrap()].clone()]);
    let identifier = &one[0]["entity"][1]["what"]["identifier"];
    assert_eq!(identifier["value"], exported);
    let proof = clinic.call(&["audit", "prove", "log", &exported]);
    std::fs::write(clinic.path("proof"), &proof.out).unwrap();
    let key = identifier["system"]
        .as_str()
        .unwrap()
        .strip_prefix("urn:gst-e2ee:audit-log:")
        .unwrap()
        .to_owned();
    let verified = clinic.call(&["audit", "verify", "proof", "--key", &key]);
    assert_eq!(verified.code, 0, "{}", verified.error);
    assert_eq!(SERVER.check(&one[0]), Vec::<String>::new());
}

#[test]
fn only_what_is_asked_for_is_printed() {
    let clinic = Clinic::visit();
    clinic.export(&["--consent", "-"]);
    let id = clinic.recording.file_name().unwrap().to_str().unwrap();
    assert_eq!(
        lines(&clinic.call(&["audit", "fhir", "log", "--recording", id]).out).len(),
        1
    );
    let other = "0".repeat(32);
    let said = clinic.call(&["audit", "fhir", "log", "--recording", &other]);
    assert!(said.code == 0 && said.out.is_empty(), "{}", said.error);
    let said = clinic.call(&["audit", "fhir", "log", "--entry", "7"]);
    assert!(
        said.code == 1 && said.error.contains("no entry 7"),
        "{}",
        said.error
    );
}

#[test]
fn a_damaged_log_is_printed_as_far_as_it_can_be_read_and_is_no_success() {
    let clinic = Clinic::visit();
    for _ in 0..2 {
        clinic.export(&["--consent", "-"]);
    }
    let path = clinic.path("log/log");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|window| window == b"denied\"").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let said = clinic.call(&["audit", "fhir", "log"]);
    assert!(
        said.code == 1 && said.error.contains("cannot be read"),
        "{}",
        said.error
    );
    assert_eq!(lines(&said.out).len(), 1);
}
