//! What the Bundle says is R4, is what the log says, and is true of the file.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gstcompliance::audit::Event;
use gstcompliance::recording::{Index, Options};
use serde_json::{Value, json};

use super::clinic::{Clinic, all, consent, first, permit, visit};
use super::common::events;
use super::server::is_valid;

/// The digest that another program finds, in hex.
fn sum(program: &str, path: &std::path::Path) -> String {
    let done = Command::new(program).arg(path).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

#[test]
fn it_is_valid_r4_and_true_of_the_file() {
    let clinic = Clinic::visit();
    let said = clinic.export(&[
        "--encounter",
        "Encounter/e-5",
        "--author",
        "Practitioner/3",
        "--custodian",
        "Organization/1",
        "--type",
        "http://loinc.org|11488-4",
    ]);
    assert_eq!(said.code, 0, "{}", said.error);
    assert!(said.out.contains("plaintext"), "{}", said.out);
    let media = clinic.media("out");
    for path in [&media, &clinic.path("out/bundle.json"), &clinic.path("out")] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
    let bundle = clinic.bundle("out");
    is_valid(&bundle);
    let document = first(&bundle, "DocumentReference");
    let attachment = &document["content"][0]["attachment"];
    let (sha1, sha256) = (sum("sha1sum", &media), sum("sha256sum", &media));
    assert_eq!(attachment["hash"], STANDARD.encode(hex::decode(sha1).unwrap()));
    assert_eq!(attachment["size"], fs::metadata(&media).unwrap().len());
    assert_eq!(attachment["contentType"], "video/x-matroska");
    assert_eq!(attachment["url"], media.file_name().unwrap().to_str().unwrap());
    let ni = format!(
        "ni:///sha-256;{}",
        URL_SAFE_NO_PAD.encode(hex::decode(&sha256).unwrap())
    );
    let id = clinic.recording.file_name().unwrap().to_str().unwrap();
    let identifiers = document["identifier"].as_array().unwrap();
    for (system, value) in [("urn:gst-e2ee:recording", id), ("urn:ietf:rfc:3986", &ni)] {
        assert!(
            identifiers.contains(&json!({ "system": system, "value": value })),
            "{identifiers:?}"
        );
    }
    for (at, wanted) in [
        ("/status", json!("current")),
        ("/docStatus", json!("final")),
        ("/subject/reference", json!("Patient/17")),
        ("/author/0/reference", json!("Practitioner/3")),
        ("/custodian/reference", json!("Organization/1")),
        ("/context/encounter/0/reference", json!("Encounter/e-5")),
        ("/context/period/start", json!("2025-10-09T08:53:20Z")),
        ("/context/period/end", json!("2025-10-09T08:53:22Z")),
        ("/type/coding/0/code", json!("11488-4")),
        ("/securityLabel/0/coding/0/code", json!("N")),
    ] {
        assert_eq!(document.pointer(at), Some(&wanted), "{at}");
    }
    assert!(
        document["description"]
            .as_str()
            .unwrap()
            .contains("No room attests")
    );

    // The log has the copy, and the Bundle leads to the entry.
    let logged = events(&clinic.place);
    let [
        Event::AccessOpened { access, .. },
        Event::Exported {
            access: of,
            by,
            sha256: digest,
            bytes,
            destination,
            recipient,
            purpose,
            ..
        },
        Event::AccessEnded { members, .. },
    ] = &logged[..]
    else {
        panic!("{logged:?}")
    };
    assert_eq!((access, by.as_str(), *members), (of, "records-2", 5));
    assert_eq!(
        (digest.to_string(), *bytes),
        (sha256, fs::metadata(&media).unwrap().len())
    );
    assert!(destination.as_str().ends_with("/out"), "{destination}");
    assert_eq!(recipient.as_ref().map(|id| id.as_str()), Some("Organization/9"));
    assert_eq!(purpose.as_ref().map(|id| id.as_str()), Some("TREAT"));
    assert_eq!(document["masterIdentifier"]["value"], access.as_str());
    let event = first(&bundle, "AuditEvent");
    let index = Index::open(&clinic.recording, &Options::default()).unwrap();
    let system = format!("urn:gst-e2ee:audit-log:{}", index.facts().log_key);
    let entry = json!({ "identifier": { "system": system, "value": "1" } });
    let entities = event["entity"].as_array().unwrap();
    assert!(entities.iter().any(|entity| entity["what"] == entry), "{event:#}");
    assert_eq!(event["purposeOfEvent"][0]["coding"][0]["code"], "TREAT");
    // IHE BALP, Privacy Disclosure at Source: its source is the observer, and there are a destination and a patient.
    assert_eq!(event["type"]["code"], "110106");
    assert_eq!((&event["action"], &event["outcome"]), (&json!("R"), &json!("0")));
    assert!(
        event["subtype"]
            .as_array()
            .unwrap()
            .iter()
            .any(|kind| kind["code"] == "disclose")
    );
    let agent = |code: &str| {
        let agents = event["agent"].as_array().unwrap().iter();
        let mut found = agents.filter(|agent| agent["type"]["coding"][0]["code"] == code);
        let agent = found.next().unwrap_or_else(|| panic!("no {code}"));
        assert!(found.next().is_none());
        agent
    };
    assert_eq!(agent("110153")["who"], event["source"]["observer"]);
    assert_eq!(agent("110152")["who"]["reference"], "Organization/9");
    assert!(
        agent("110152")["network"]["address"]
            .as_str()
            .unwrap()
            .starts_with("file://")
    );
    assert_eq!(agent("159541003")["who"]["reference"], "Organization/1");
    assert_eq!(agent("humanuser")["who"]["identifier"]["value"], "records-2");
    assert!(
        entities
            .iter()
            .any(|entity| entity["role"]["code"] == "1" && entity["what"]["reference"] == "Patient/17")
    );

    // From which recording, and by whom.
    let provenance = first(&bundle, "Provenance");
    let roots: Vec<_> = provenance["entity"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entity| &entity["what"]["identifier"]["value"])
        .collect();
    assert_eq!(roots, [&json!(id), &json!(index.root().root.to_string())]);
    assert_eq!(provenance["agent"][0]["who"]["identifier"]["value"], "records-2");
    // As it was given, its id included: its digest is of that.
    assert_eq!(first(&bundle, "Consent"), &consent());
    names_itself(&bundle);
}

/// Every UUID that is referred to is there, and each is another.
fn names_itself(bundle: &Value) {
    let entries = bundle["entry"].as_array().unwrap();
    let urls: BTreeSet<_> = entries
        .iter()
        .map(|entry| entry["fullUrl"].as_str().unwrap())
        .collect();
    assert_eq!(urls.len(), entries.len());
    fn references<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| references(value, into)),
            Value::Object(members) => {
                into.extend(members.get("reference").and_then(Value::as_str));
                members.values().for_each(|value| references(value, into));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    entries
        .iter()
        .for_each(|entry| references(&entry["resource"], &mut found));
    let own: BTreeSet<_> = found
        .into_iter()
        .filter(|reference| reference.starts_with("urn:uuid:"))
        .collect();
    assert!(!own.is_empty() && own.is_subset(&urls), "{own:?} of {urls:?}");
    for entry in entries {
        assert_eq!(entry["request"]["method"], "POST");
        assert_eq!(entry["request"]["url"], entry["resource"]["resourceType"]);
    }
}

#[test]
fn what_the_patient_asks_for_carries_what_the_patient_signed() {
    let clinic = Clinic::visit();
    let words = ["--purpose", "PATRQT", "--recipient", "-"];
    let said = clinic.export(&words);
    assert!(
        said.code == 1 && said.error.contains("--authorization"),
        "{}",
        said.error
    );
    assert!(clinic.denied().contains("PATRQT"));
    // The patient is one of the recipients, and exports with the key of its own; a form that is signed goes along.
    let form = b"%PDF-1.4 I ask for my recording.";
    fs::write(clinic.path("form.pdf"), form).unwrap();
    let said = clinic.export(&[&words[..], &["--authorization", "form.pdf", "--fhir", "form"]].concat());
    assert_eq!(said.code, 0, "{}", said.error);
    assert!(said.out.contains("vouches"), "{}", said.out);
    let bundle = clinic.bundle("form");
    is_valid(&bundle);
    names_itself(&bundle);
    let papers = all(&bundle, "DocumentReference");
    let attachment = &papers[1]["content"][0]["attachment"];
    assert_eq!(attachment["contentType"], "application/pdf");
    assert_eq!(attachment["data"], STANDARD.encode(form));
    assert_eq!(papers[1]["relatesTo"][0]["code"], "appends");
    let event = first(&bundle, "AuditEvent");
    let whos: Vec<_> = event["agent"]
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| (&agent["type"]["coding"][0]["code"], &agent["who"]["reference"]))
        .collect();
    assert!(
        whos.contains(&(&json!("110152"), &json!("Patient/17"))),
        "{event:#}"
    );
    assert!(
        whos.contains(&(&json!("429577009"), &json!("Patient/17"))),
        "who authorised it: {event:#}"
    );

    // Or a Consent, which is judged.
    let mut request = consent();
    request["identifier"][0]["value"] = json!("r-1");
    request["provision"] = permit("Patient/17", "PATRQT", "2099");
    clinic.write("request.json", &request);
    let said = clinic.export(
        &[
            &words[..],
            &["--authorization", "request.json", "--fhir", "request"],
        ]
        .concat(),
    );
    assert_eq!(said.code, 0, "{}", said.error);
    let bundle = clinic.bundle("request");
    is_valid(&bundle);
    assert_eq!(all(&bundle, "Consent"), [&consent(), &request]);
}

#[test]
fn sound_alone_is_audio_and_an_unfinished_recording_preliminary() {
    let clinic = Clinic::visit();
    let said = clinic.export(&["--track", "1"]);
    assert_eq!(said.code, 0, "{}", said.error);
    let bundle = clinic.bundle("out");
    let document = first(&bundle, "DocumentReference");
    assert_eq!(
        document["content"][0]["attachment"]["contentType"],
        "audio/x-matroska"
    );
    assert!(
        document["description"]
            .as_str()
            .unwrap()
            .contains("Tracks of the recording: 1.")
    );
    let opened = &events(&clinic.place)[0];
    assert!(
        matches!(opened, Event::AccessOpened { tracks, .. } if tracks == &[1]),
        "{opened:?}"
    );

    let place = super::common::Place::new(1);
    let (recording, log) = super::studio::record_under(&place, &visit(), None);
    drop(log);
    let path = recording.path().to_owned();
    drop(recording);
    let clinic = Clinic::of(place, path);
    clinic.write("consent.json", &consent());
    let said = clinic.export(&[]);
    assert_eq!(said.code, 0, "{}", said.error);
    // That it names no consent is said.
    assert!(said.out.contains("names no consent"), "{}", said.out);
    let bundle = clinic.bundle("out");
    is_valid(&bundle);
    let document = first(&bundle, "DocumentReference");
    assert_eq!(document["docStatus"], "preliminary");
    let description = document["description"].as_str().unwrap();
    assert!(
        description.contains("no end record") && description.contains("names no consent"),
        "{description}"
    );
}
