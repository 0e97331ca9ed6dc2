//! 42 CFR Part 2: records of substance use treatment go with a written consent to this disclosure, or not at all.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::clinic::{ACT_CODE, Clinic, PURPOSES, all, consent, first, permit, visit};
use super::server::is_valid;

/// A written consent as §2.31 wants it, to research, with HL7's label.
fn written() -> Value {
    let mut resource = consent();
    resource["meta"] = json!({ "security": [{ "system": ACT_CODE, "code": "ETH" }] });
    resource["provision"] = permit("Organization/9", "HRESCH", "2099-12-31");
    resource
}

const RESEARCH: [&str; 2] = ["--purpose", "HRESCH"];

fn codes(labels: &Value) -> Vec<&str> {
    let labels = labels.as_array().unwrap().iter();
    labels
        .map(|label| label["coding"][0]["code"].as_str().unwrap())
        .collect()
}

#[test]
fn the_notice_and_the_consent_go_along() {
    let clinic = Clinic::new(&written(), &visit());
    let said = clinic.export(&RESEARCH);
    assert_eq!(said.code, 0, "{}", said.error);
    assert!(said.out.contains("42 CFR Part 2"), "{}", said.out);
    let bundle = clinic.bundle("out");
    is_valid(&bundle);
    let documents = all(&bundle, "DocumentReference");
    assert_eq!(
        codes(&documents[0]["securityLabel"]),
        ["R", "42CFRPart2", "ETH", "NORDSCLCD"]
    );
    let notice = documents[1];
    let text = STANDARD
        .decode(notice["content"][0]["attachment"]["data"].as_str().unwrap())
        .unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(
        text,
        "42 CFR part 2 prohibits unauthorized use or disclosure of these records."
    );
    assert_eq!(documents[0]["securityLabel"][1]["text"], text);
    assert_eq!(
        notice["relatesTo"][0]["target"]["reference"],
        bundle["entry"][1]["fullUrl"]
    );
    assert_eq!(first(&bundle, "Consent"), &written());
    assert!(
        first(&bundle, "Provenance")["policy"][0]
            .as_str()
            .unwrap()
            .contains("part-2")
    );
}

#[test]
fn an_explanation_goes_instead_of_the_copy() {
    let clinic = Clinic::new(&written(), &visit());
    fs::write(
        clinic.path("scope.txt"),
        "Disclosure to Organization/9 for research, until 2099.\n",
    )
    .unwrap();
    let said = clinic.export(&[&RESEARCH[..], &["--explanation", "scope.txt"]].concat());
    assert_eq!(said.code, 0, "{}", said.error);
    let bundle = clinic.bundle("out");
    is_valid(&bundle);
    assert!(all(&bundle, "Consent").is_empty());
    let explained = all(&bundle, "DocumentReference").into_iter().any(|document| {
        document["content"][0]["attachment"]["data"]
            == STANDARD.encode("Disclosure to Organization/9 for research, until 2099.\n")
    });
    assert!(explained, "{bundle:#}");
    // It does not permit anything by itself.
    let clinic = Clinic::unattested(&visit(), None);
    fs::write(clinic.path("scope.txt"), "All of it.").unwrap();
    let said = clinic.export(&["--part2", "--consent", "-", "--explanation", "scope.txt"]);
    assert!(said.code == 1 && said.error.contains("Part 2"), "{}", said.error);
    assert!(clinic.denied().contains("Part 2"));
}

#[test]
fn a_consent_that_is_none_in_writing_does_not_do() {
    let without = |name: &'static str| {
        move |resource: &mut Value| {
            let (parent, name) = name.rsplit_once('/').unwrap();
            resource
                .pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(name)
                .unwrap();
        }
    };
    type Change = Box<dyn Fn(&mut Value)>;
    let changes: [(Change, &str); 6] = [
        (Box::new(without("/patient")), "not about the patient"),
        (Box::new(without("/dateTime")), "when it was given"),
        (Box::new(without("/performer")), "who gave it"),
        (
            Box::new(without("/provision/actor")),
            "does not name the recipient",
        ),
        (
            Box::new(without("/provision/purpose")),
            "does not state the purpose",
        ),
        (Box::new(without("/provision/period/end")), "when it expires"),
    ];
    for (change, wanted) in changes {
        let mut resource = written();
        change(&mut resource);
        // Not labelled, and somebody knows what it is.
        resource.as_object_mut().unwrap().remove("meta");
        let clinic = Clinic::new(&resource, &visit());
        // Otherwise it goes.
        let said = clinic.export(&[&RESEARCH[..], &["--fhir", "plain"]].concat());
        assert_eq!(said.code, 0, "{wanted}: {}", said.error);
        let said = clinic.export(&[&RESEARCH[..], &["--part2"]].concat());
        assert!(
            said.code == 1 && said.error.contains(wanted),
            "{wanted}: {}",
            said.error
        );
        assert!(clinic.denied().contains(wanted));
        assert!(clinic.files("out").is_empty());
    }
    // Treatment may go on without an end.
    let mut resource = written();
    resource["provision"]["purpose"][0] = json!({ "system": PURPOSES, "code": "TREAT" });
    without("/provision/period/end")(&mut resource);
    let clinic = Clinic::new(&resource, &visit());
    let said = clinic.export(&[]);
    assert_eq!(said.code, 0, "{}", said.error);
}

#[test]
fn every_label_of_it_counts_wherever_it_stands() {
    for code in ["42CFRPart2", "ETH", "SUD", "ETHUD", "OPIOIDUD"] {
        for place in ["meta", "provision", "nested"] {
            let mut resource = consent();
            let label = json!({ "system": ACT_CODE, "code": code });
            match place {
                "meta" => resource["meta"] = json!({ "security": [label] }),
                "provision" => resource["provision"]["securityLabel"] = json!([label]),
                _ => {
                    let rule = json!({ "type": "permit", "securityLabel": [label], "purpose": [{ "system": PURPOSES, "code": "TREAT" }] });
                    resource["provision"]["provision"] = json!([rule]);
                }
            }
            // Without its date it is none in writing; without the label nobody would ask for one.
            resource.as_object_mut().unwrap().remove("dateTime");
            let clinic = Clinic::new(&resource, &visit());
            let said = clinic.export(&[]);
            assert!(
                said.code == 1 && said.error.contains("Part 2"),
                "{code} in {place}: {}",
                said.error
            );
            assert_eq!(clinic.logged(), ["access-denied"]);
        }
    }
}

#[test]
fn a_form_that_no_program_reads_permits_nothing() {
    let mut resource = consent();
    resource["meta"] = json!({ "security": [{ "system": ACT_CODE, "code": "SUD" }] });
    let clinic = Clinic::new(&resource, &visit());
    fs::write(clinic.path("form.pdf"), "%PDF-1.4").unwrap();
    let said = clinic.export(&[&RESEARCH[..], &["--authorization", "form.pdf"]].concat());
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(clinic.denied().contains("does not permit"), "{}", said.error);
    let clinic = Clinic::unattested(&visit(), None);
    fs::write(clinic.path("form.pdf"), "%PDF-1.4").unwrap();
    let said = clinic.export(&["--part2", "--consent", "-", "--authorization", "form.pdf"]);
    assert!(said.code == 1 && said.error.contains("Part 2"), "{}", said.error);
    // Nor does a patient's own request without more.
    let said = clinic.export(&[
        "--part2",
        "--consent",
        "-",
        "--authorization",
        "form.pdf",
        "--purpose",
        "PATRQT",
    ]);
    assert!(said.code == 1 && said.error.contains("Part 2"), "{}", said.error);
    // A label in the authorisation counts as well.
    let mut paper = consent();
    paper["meta"] = json!({ "security": [{ "system": ACT_CODE, "code": "42CFRPart2" }] });
    paper.as_object_mut().unwrap().remove("performer");
    clinic.write("paper.json", &paper);
    let said = clinic.export(&["--consent", "-", "--authorization", "paper.json"]);
    assert!(said.code == 1 && said.error.contains("Part 2"), "{}", said.error);
}
