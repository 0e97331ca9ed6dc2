//! What does not leave: nothing is opened, nothing is left behind, and the log says who wanted it and why not.

use std::fs;

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use gstcompliance::access::{Opening, Purpose};
use gstcompliance::audit::Event;
use gstcompliance::export::deliver::{self, DeliverError, Job};
use gstcompliance::export::{Papers, Permitted};
use serde_json::{Value, json};

use super::clinic::{Clinic, Said, consent, permit, visit};
use super::common::events;
use super::studio::damage;

/// A recording's consent after a change, and what the command says to it with these words.
fn with(change: impl Fn(&mut Value), words: &[&str]) -> (Clinic, Said) {
    let mut resource = consent();
    change(&mut resource);
    // What the room was given was good enough to record.
    let clinic = Clinic::unattested(&visit(), None);
    clinic.write("consent.json", &resource);
    let said = clinic.export(words);
    (clinic, said)
}

#[track_caller]
fn is_refused(clinic: &Clinic, said: &Said, wanted: &str) {
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.error.contains(wanted), "{}", said.error);
    assert_eq!(clinic.logged(), ["access-denied"]);
    let reason = clinic.denied();
    assert!(
        reason.starts_with("export for ") && reason.contains(wanted),
        "{reason}"
    );
    assert_eq!(clinic.files("out"), Vec::<String>::new());
}

#[test]
fn what_the_consent_does_not_permit() {
    let set = |at: &'static str, value: Value| {
        move |resource: &mut Value| match at.rsplit_once('/') {
            Some((parent, name)) => resource.pointer_mut(parent).unwrap()[name] = value.clone(),
            None => unreachable!(),
        }
    };
    let denies = json!([{ "type": "deny", "action": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": "disclose" }] }] }]);
    let recording_only = json!([{ "coding": [{ "system": "urn:gst-e2ee:consent", "code": "recording" }] }]);
    for (at, value, wanted) in [
        ("/status", json!("inactive"), "not active"),
        (
            "/provision/period",
            json!({ "start": "2025-01-01", "end": "2025-12-31" }),
            "is over",
        ),
        (
            "/provision/period",
            json!({ "start": "2098-01-01" }),
            "not in force yet",
        ),
        (
            "/provision/dataPeriod",
            json!({ "end": "2025-10-08" }),
            "does not cover the time of the recording",
        ),
        ("/provision/purpose/0/code", json!("HPAYMT"), "--purpose"),
        (
            "/provision/actor/0/reference/reference",
            json!("Organization/10"),
            "--recipient",
        ),
        (
            "/provision/actor/0/role/coding/0/code",
            json!("CST"),
            "--recipient",
        ),
        ("/provision/action", recording_only, "disclose"),
        ("/provision/provision", denies, "forbids this disclosure"),
        (
            "/provision/data",
            json!([{ "meaning": "instance", "reference": { "reference": "Encounter/4" } }]),
            "--encounter",
        ),
        (
            "/provision/securityLabel",
            json!([{ "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V" }]),
            "labels",
        ),
        ("/patient/reference", json!("Patient/18"), "not about the patient"),
        ("/implicitRules", json!("https://rules.example"), "implicitRules"),
    ] {
        let (clinic, said) = with(set(at, value), &[]);
        is_refused(&clinic, &said, wanted);
        assert!(!said.error.contains("Patient/18"), "{}", said.error);
    }
    let (clinic, said) = with(|_| {}, &["--purpose", "HRESCH"]);
    is_refused(&clinic, &said, "--purpose");
    let (clinic, said) = with(|_| {}, &["--recipient", "-"]);
    is_refused(&clinic, &said, "--recipient");
    // What is asked for does go: it is the changes that do not.
    let (_, said) = with(|_| {}, &[]);
    assert_eq!(said.code, 0, "{}", said.error);
}

#[test]
fn another_consent_than_it_was_recorded_under() {
    let clinic = Clinic::visit();
    let mut other = consent();
    other["identifier"][0]["value"] = json!("c-78");
    clinic.write("other.json", &other);
    let said = clinic.export(&["--consent", "other.json"]);
    is_refused(&clinic, &said, "not the consent under which it was recorded");
    let clinic = Clinic::visit();
    let said = clinic.export(&["--consent", "-"]);
    is_refused(&clinic, &said, "give it with --consent");
    // An authorisation does not stand for it: it would hide its labels.
    let clinic = Clinic::visit();
    clinic.write("other.json", &other);
    let said = clinic.export(&["--consent", "-", "--authorization", "other.json"]);
    is_refused(&clinic, &said, "give it with --consent");
    // Withdrawn since: its content is another one.
    let clinic = Clinic::visit();
    let mut withdrawn = consent();
    withdrawn["status"] = json!("inactive");
    clinic.write("consent.json", &withdrawn);
    let said = clinic.export(&[]);
    is_refused(&clinic, &said, "not active");
    // Where the recording names none, something still has to permit.
    let clinic = Clinic::unattested(&visit(), None);
    let said = clinic.export(&["--consent", "-"]);
    is_refused(&clinic, &said, "nothing permits");
}

#[test]
fn an_authorisation_is_judged_and_goes_before_an_earlier_consent() {
    // For whatever purpose, but research.
    let mut denies = consent();
    denies["provision"].as_object_mut().unwrap().remove("purpose");
    denies["provision"]["provision"] =
        json!([{ "type": "deny", "purpose": [{ "system": super::clinic::PURPOSES, "code": "HRESCH" }] }]);
    let words = ["--purpose", "HRESCH", "--authorization", "paper.json"];
    let paper = |date: &str, recipient: &str, patient: &str| {
        let mut paper = consent();
        paper["identifier"][0]["value"] = json!("a-1");
        paper["dateTime"] = json!(date);
        paper["patient"]["reference"] = json!(patient);
        paper["provision"] = permit(recipient, "HRESCH", "2099");
        paper
    };
    for (paper, wanted) in [
        (
            paper("2025-03-01", "Organization/10", "Patient/17"),
            "the authorisation: the consent does not permit",
        ),
        (
            paper("2025-03-01", "Organization/9", "Patient/18"),
            "not about the patient",
        ),
        (
            paper("2025-01-01", "Organization/9", "Patient/17"),
            "the earlier one",
        ),
    ] {
        let clinic = Clinic::new(&denies, &visit());
        clinic.write("paper.json", &paper);
        let said = clinic.export(&words);
        is_refused(&clinic, &said, wanted);
    }
    let clinic = Clinic::new(&denies, &visit());
    clinic.write("paper.json", &paper("2025-03-01", "Organization/9", "Patient/17"));
    let said = clinic.export(&words);
    assert_eq!(said.code, 0, "{}", said.error);
    // A document that no program reads does not go before a consent that forbids.
    let clinic = Clinic::new(&denies, &visit());
    fs::write(clinic.path("paper.json"), "I agree.\n").unwrap();
    let said = clinic.export(&words);
    is_refused(&clinic, &said, "forbids this disclosure");
    // Nor before one that permits recording, and nothing else.
    let mut opt_in = consent();
    let recording = json!([{ "coding": [{ "system": "urn:gst-e2ee:consent", "code": "recording" }] }]);
    opt_in["provision"] = json!({ "type": "deny", "provision": [{ "type": "permit", "action": recording }] });
    let clinic = Clinic::new(&opt_in, &visit());
    fs::write(clinic.path("paper.json"), "I agree.\n").unwrap();
    let said = clinic.export(&words);
    is_refused(&clinic, &said, "forbids this disclosure");
    // But where it is only silent.
    let clinic = Clinic::visit();
    fs::write(clinic.path("paper.json"), "I agree.\n").unwrap();
    let said = clinic.export(&words);
    assert_eq!(said.code, 0, "{}", said.error);
}

#[test]
fn without_the_log_that_the_recording_names() {
    let clinic = Clinic::visit();
    fs::rename(clinic.path("log"), clinic.path("moved")).unwrap();
    let said = clinic.export(&[]);
    assert!(
        said.code == 1 && said.error.contains("nothing is opened"),
        "{}",
        said.error
    );
    drop(gstcompliance::audit::Log::open(&clinic.path("log")).unwrap());
    let said = clinic.export(&[]);
    assert!(
        said.code == 1 && said.error.contains("another audit log"),
        "{}",
        said.error
    );
    assert!(clinic.files("out").is_empty());
}

#[test]
fn with_another_s_key() {
    let clinic = Clinic::visit();
    clinic.secret("identity", Identity::generate().to_string().expose_secret());
    let said = clinic.export(&[]);
    assert!(
        said.code == 1 && said.error.contains("is not encrypted to this identity"),
        "{}",
        said.error
    );
    assert_eq!(clinic.logged(), ["access-opened", "access-ended"]);
    assert!(clinic.files("out").is_empty());
}

#[test]
fn nothing_is_replaced() {
    let clinic = Clinic::visit();
    let media = clinic.media("out");
    let name = media.file_name().unwrap().to_str().unwrap();
    for (taken, wanted) in [
        (name.to_owned(), "exists already"),
        ("bundle.json".to_owned(), "exists already"),
        (format!(".{name}.part"), "is plaintext: delete it"),
        (".bundle.json.part".to_owned(), "is plaintext: delete it"),
    ] {
        let _ = fs::remove_dir_all(clinic.path("out"));
        fs::create_dir(clinic.path("out")).unwrap();
        // A link that leads nowhere, for whoever would follow it.
        std::os::unix::fs::symlink(clinic.path("elsewhere"), clinic.path("out").join(&taken)).unwrap();
        let said = clinic.export(&[]);
        assert!(said.code == 1 && said.error.contains(wanted), "{}", said.error);
        assert_eq!(clinic.files("out"), [taken]);
        assert!(!clinic.path("elsewhere").exists());
    }
    assert!(clinic.logged().is_empty(), "it was not opened");
}

#[test]
fn what_is_damaged_unless_it_may_be_left_out() {
    let clinic = Clinic::visit();
    damage(&clinic.recording, "0-video.tar", 1);
    let said = clinic.export(&[]);
    assert!(
        said.code == 1 && said.error.contains("member 1 of track 0"),
        "{}",
        said.error
    );
    // It was opened, and nothing left: the log has no copy, the folder no file.
    assert_eq!(clinic.logged(), ["access-opened", "access-ended"]);
    assert!(clinic.files("out").is_empty());
    // What was decrypted before that was found is counted: where the second track's first member is, the first one's.
    let other = Clinic::visit();
    damage(&other.recording, "1-audio.tar", 0);
    let refused = other.export(&[]);
    assert!(refused.error.contains("member 0 of track 1"), "{}", refused.error);
    let ended = events(&other.place).pop();
    assert!(
        matches!(ended, Some(Event::AccessEnded { members: 1, .. })),
        "{ended:?}"
    );
    let said = clinic.export(&["--skip-damaged"]);
    assert_eq!(said.code, 0, "{}", said.error);
    assert!(
        said.out.contains("1 damaged members are left out"),
        "{}",
        said.out
    );
    let bundle = clinic.bundle("out");
    let document = super::clinic::first(&bundle, "DocumentReference");
    assert_eq!(document["docStatus"], "preliminary");
    assert!(document["description"].as_str().unwrap().contains("1 damaged"));
}

#[test]
fn a_copy_that_the_log_cannot_have_is_deleted() {
    let clinic = Clinic::visit();
    let folder = clinic.path("out");
    let opening = Opening::prepare(&clinic.recording, &clinic.path("log")).unwrap();
    let purpose = Purpose::new("records-2", "second opinion", "R-88").unwrap();
    let keys = [clinic.place.recipient.clone()];
    let (reader, access) = opening.unlock(&keys, &purpose, Vec::new(), 1).unwrap();
    deliver::prepare(&folder, reader.index().facts().recording).unwrap();
    // The access is in the log. The entry of the copy can be written, the checkpoint over it cannot.
    let next = clinic.path("log").join("checkpoint.next");
    fs::remove_file(&next).unwrap();
    fs::create_dir(&next).unwrap();
    let permitted = Permitted {
        part2: false,
        labels: Vec::new(),
        authorised: false,
        remarks: Vec::new(),
    };
    let (papers, patient) = (Papers::default(), "Patient/17".parse().unwrap());
    let job = Job {
        folder: &folder,
        server: None,
        media_url: None,
        skip_damaged: false,
        permitted: &permitted,
        papers: &papers,
        purpose: "TREAT".parse().unwrap(),
        patient: &patient,
        recipient: None,
        encounter: None,
        author: None,
        custodian: None,
        kind: None,
        by: purpose.reader(),
    };
    let refused = deliver::deliver(reader, access, &job, &|| 2).unwrap_err();
    assert!(matches!(refused, DeliverError::Log(_)), "{refused}");
    assert!(clinic.files("out").is_empty());
}

#[test]
fn what_cannot_be_meant() {
    let clinic = Clinic::visit();
    for (words, wanted) in [
        (vec!["--patient", "Organization/9"], "refers to none of: Patient"),
        (vec!["--patient", "Erika Mustermann"], "no reference"),
        (vec!["--purpose", "treat"], "no purpose of use"),
        (vec!["--type", "letter"], "SYSTEM|CODE"),
        (vec!["--encounter", "Patient/17"], "refers to none of: Encounter"),
    ] {
        let said = clinic.export(&words);
        assert!(said.code == 2 && said.error.contains(wanted), "{}", said.error);
    }
    for (words, wanted) in [
        (vec!["--media-url", "media.example"], "no URL"),
        (vec!["--consent", "nothing.json"], "the consent cannot be read"),
        (vec!["--authorization", "."], "the authorisation is no file"),
        (vec!["--track", "9"], "no track 9"),
    ] {
        let said = clinic.export(&words);
        assert!(said.code == 1 && said.error.contains(wanted), "{}", said.error);
    }
    assert!(clinic.logged().is_empty() && clinic.files("out").is_empty());
}
