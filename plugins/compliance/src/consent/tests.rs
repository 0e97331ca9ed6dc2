#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod disclosure;
mod readings;
mod reference;

use serde_json::{Value, json};

use super::*;

/// 2026-03-05T10:00:00Z in unix milliseconds.
const NOW: u64 = 1_772_704_800_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// Stands wherever a person could be named; must never be said.
const NAME: &str = "Mustermann";

/// A telehealth consent as a clinic's system writes it.
fn clinic() -> Value {
    json!({
        "resourceType": "Consent",
        "id": "consent-Mustermann-1",
        "meta": { "versionId": "3", "lastUpdated": "2026-03-01T09:12:44.120Z" },
        "text": { "status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">Erika Mustermann</div>" },
        "identifier": [{ "system": "https://clinic.example/consents", "value": "Mustermann-77" }],
        "status": "active",
        "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "treatment" }] },
        "category": [{ "coding": [{ "system": "http://loinc.org", "code": "59284-0" }], "text": "Mustermann" }],
        "patient": { "reference": "Patient/Mustermann", "display": "Erika Mustermann" },
        "dateTime": "2026-03-01T10:00:00+01:00",
        "performer": [{ "reference": "Patient/Mustermann" }],
        "organization": [{ "display": "Mustermann clinic" }],
        "sourceAttachment": { "contentType": "application/pdf", "url": "https://clinic.example/Mustermann.pdf", "size": 48211 },
        "policyRule": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN" }] },
        "verification": [{ "verified": true, "verificationDate": "2026-03-01" }],
        "provision": {
            "type": "permit",
            "period": { "start": "2026-03-01", "end": "2026-12-31" },
            "actor": [{
                "role": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP" }] },
                "reference": { "reference": "Organization/Mustermann" }
            }],
            "action": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": "collect" }] }],
            "purpose": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT" }],
            "provision": [{
                "type": "deny",
                "purpose": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HMARKT" }]
            }]
        }
    })
}

fn read(resource: &Value) -> Result<Consent, ConsentRefusal> {
    Consent::read(resource.to_string().as_bytes(), 0)
}

fn judge_at(resource: &Value, now: u64) -> Result<(), ConsentRefusal> {
    read(resource)?.judge(now)
}

fn judge(resource: &Value) -> Result<(), ConsentRefusal> {
    let judged = judge_at(resource, NOW);
    if let Err(refusal) = &judged {
        for said in [refusal.to_string(), format!("{refusal:?}")] {
            assert!(!said.contains(NAME), "{said}");
        }
    }
    judged
}

/// The clinic's consent with the value at this JSON pointer set, or removed where it is `null`.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut resource = clinic();
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = resource
            .pointer_mut(parent)
            .expect(pointer)
            .as_object_mut()
            .unwrap();
        match value {
            Value::Null => drop(parent.remove(name).expect(pointer)),
            value => drop(parent.insert(name.to_owned(), value.clone())),
        }
    }
    resource
}

fn provision(provision: Value) -> Value {
    with(&[("/provision", provision)])
}

fn action(code: &str) -> Value {
    json!([{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": code }] }])
}

fn purpose(code: &str) -> Value {
    json!([{ "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": code }])
}

fn own() -> Value {
    json!({ "system": OWN_SYSTEM, "code": OWN_CODE })
}

#[test]
fn consents_as_they_are_written_permit_recording() {
    let permitted = [
        ("a clinic's", clinic()),
        ("everything", provision(json!({ "type": "permit" }))),
        (
            "recording by name",
            provision(
                json!({ "type": "permit", "action": [{ "coding": [own()] }], "class": [own()],
                "purpose": [own()], "code": [{ "coding": [own()] }] }),
            ),
        ),
        // All is denied but what is listed, as the German medical informatics initiative writes it.
        (
            "a deny with exceptions",
            provision(
                json!({ "type": "deny", "period": { "start": "2026-01-01", "end": "2056-01-01" }, "provision": [
                { "type": "permit", "action": action("disclose") },
                { "type": "permit", "action": action("collect"), "period": { "start": "2026-01-01", "end": "2031-01-01" } },
            ] }),
            ),
        ),
        (
            "no type at the root, as R4 has it",
            provision(json!({ "provision": [{ "type": "permit" }] })),
        ),
        (
            "one of several codings and purposes",
            provision(json!({ "type": "permit",
                "action": [{ "coding": [{ "system": "urn:local", "code": "x" }, { "system":
                    "http://terminology.hl7.org/CodeSystem/consentaction", "code": "collect" }] }],
                "purpose": [purpose("HRESCH")[0], purpose("HCOMPL")[0]],
                "class": [{ "system": "http://hl7.org/fhir/resource-types", "code": "Observation" },
                    { "system": "http://hl7.org/fhir/resource-types", "code": "Media" }] })),
        ),
        (
            "an encounter",
            provision(json!({ "type": "permit", "data": [{ "meaning": "related",
                "reference": { "reference": "Encounter/Mustermann" } }], "dataPeriod": { "start": "2026-03" } })),
        ),
        (
            "denials of other things",
            provision(json!({ "type": "permit", "provision": [
                { "type": "deny", "action": action("disclose") },
                { "type": "deny", "purpose": purpose("HRESCH"), "class": [{ "system": "urn:local", "code": "x" }] },
                { "type": "deny", "period": { "end": "2026-03-04" } },
            ] })),
        ),
        (
            "an exception of an exception",
            provision(json!({ "type": "permit", "provision": [
            { "type": "deny", "provision": [{ "type": "permit", "action": action("collect") }] } ] })),
        ),
        (
            "no dateTime, verification, extensions beside primitives",
            with(&[
                ("/dateTime", Value::Null),
                ("/verification", Value::Null),
                (
                    "/_status",
                    json!({ "extension": [{ "url": "urn:Mustermann", "valueString": "x" }] }),
                ),
            ]),
        ),
    ];
    for (what, resource) in permitted {
        assert_eq!(judge(&resource), Ok(()), "{what}");
    }
}

#[test]
fn what_is_unclear_or_denied_is_refused_with_the_place() {
    let period = |bounds: Value| with(&[("/provision/period", bounds)]);
    let refused: Vec<(Value, &str, &str)> = vec![
        // The resource
        (
            json!([]),
            "consent-not-understood",
            "resourceType must be Consent",
        ),
        (
            json!({ "resourceType": "Bundle", "entry": [{ "resource": clinic() }] }),
            "consent-not-understood",
            "resourceType",
        ),
        (
            with(&[("/resourceType", json!("consent"))]),
            "consent-not-understood",
            "resourceType",
        ),
        (
            with(&[("/decision", json!("permit"))]),
            "consent-not-understood",
            "Consent has an element",
        ),
        (
            with(&[("/Mustermann", json!(1))]),
            "consent-not-understood",
            "Consent has an element",
        ),
        (
            with(&[("/implicitRules", json!("urn:Mustermann"))]),
            "consent-not-understood",
            "Consent.implicitRules changes",
        ),
        (
            with(&[("/modifierExtension", json!([]))]),
            "consent-not-understood",
            "Consent.modifierExtension changes",
        ),
        (
            with(&[("/provision/actor/0/modifierExtension", json!([]))]),
            "consent-not-understood",
            "Consent.provision changes",
        ),
        (
            with(&[("/policyRule/modifierExtension", json!([]))]),
            "consent-not-understood",
            "Consent.policyRule changes",
        ),
        (
            with(&[("/sourceAttachment/size", json!(0.5))]),
            "consent-not-understood",
            "not whole",
        ),
        // Status
        (
            with(&[("/status", Value::Null)]),
            "consent-not-understood",
            "Consent.status is missing",
        ),
        (
            with(&[("/status", json!("inactive"))]),
            "consent-not-active",
            "Consent.status is inactive",
        ),
        (
            with(&[("/status", json!("draft"))]),
            "consent-not-active",
            "Consent.status is draft",
        ),
        (
            with(&[("/status", json!("proposed"))]),
            "consent-not-active",
            "Consent.status is proposed",
        ),
        (
            with(&[("/status", json!("rejected"))]),
            "consent-not-active",
            "Consent.status is rejected",
        ),
        (
            with(&[("/status", json!("entered-in-error"))]),
            "consent-not-active",
            "entered-in-error",
        ),
        (
            with(&[("/status", json!("Mustermann"))]),
            "consent-not-understood",
            "Consent.status is no status",
        ),
        (
            with(&[("/status", json!(["active"]))]),
            "consent-not-understood",
            "Consent.status is missing",
        ),
        // Scope and verification
        (
            with(&[("/scope", Value::Null)]),
            "consent-not-understood",
            "Consent.scope is missing",
        ),
        (
            with(&[("/scope/coding/0/code", json!("adr"))]),
            "consent-does-not-permit",
            "Consent.scope is not about",
        ),
        (
            with(&[("/scope/coding/0/system", json!("urn:Mustermann"))]),
            "consent-does-not-permit",
            "Consent.scope",
        ),
        (
            with(&[("/scope", json!({ "text": "treatment" }))]),
            "consent-does-not-permit",
            "Consent.scope",
        ),
        (
            with(&[("/verification/0/verified", json!(false))]),
            "consent-does-not-permit",
            "Consent.verification",
        ),
        (
            with(&[("/verification", json!([]))]),
            "consent-does-not-permit",
            "Consent.verification",
        ),
        (
            with(&[("/verification", json!({ "verified": true }))]),
            "consent-not-understood",
            "Consent.verification",
        ),
        // Times
        (
            with(&[("/dateTime", json!("2026-03-05T10:00:01Z"))]),
            "consent-not-yet",
            "Consent.dateTime lies ahead",
        ),
        (
            with(&[("/dateTime", json!("2026-04"))]),
            "consent-not-yet",
            "Consent.dateTime lies ahead",
        ),
        (
            with(&[("/dateTime", json!("Mustermann"))]),
            "consent-not-understood",
            "Consent.dateTime is no FHIR date",
        ),
        (
            with(&[("/dateTime", json!(2026))]),
            "consent-not-understood",
            "Consent.dateTime is no FHIR date",
        ),
        (
            period(json!({ "start": "2026-03-06" })),
            "consent-not-yet",
            "Consent.provision.period.start lies ahead",
        ),
        (
            period(json!({ "end": "2026-03-04" })),
            "consent-expired",
            "Consent.provision.period.end has passed",
        ),
        (
            period(json!({ "end": "2025" })),
            "consent-expired",
            "Consent.provision.period.end has passed",
        ),
        (
            period(json!({ "end": "2026-03-05T09:59:59Z" })),
            "consent-expired",
            "Consent.provision.period.end",
        ),
        (
            period(json!({ "start": "2026-04", "end": "2026-03" })),
            "consent-not-understood",
            "Consent.provision.period ends",
        ),
        (
            period(json!({ "start": "Mustermann" })),
            "consent-not-understood",
            "Consent.provision.period.start is no FHIR",
        ),
        (
            period(json!({ "start": null })),
            "consent-not-understood",
            "Consent.provision.period.start",
        ),
        (
            period(json!({ "_end": { "extension": [] } })),
            "consent-not-understood",
            "Consent.provision.period.end",
        ),
        (
            period(json!({ "Mustermann": 1 })),
            "consent-not-understood",
            "Consent.provision.period has an element",
        ),
        (
            period(json!("2026")),
            "consent-not-understood",
            "Consent.provision.period is no object",
        ),
        (
            with(&[("/provision/dataPeriod", json!({ "end": "2026-02" }))]),
            "consent-expired",
            "Consent.provision.dataPeriod.end",
        ),
        // Provisions
        (
            with(&[("/provision", Value::Null)]),
            "consent-does-not-permit",
            "Consent.provision is missing",
        ),
        (
            provision(json!([])),
            "consent-not-understood",
            "Consent.provision is no object",
        ),
        (
            provision(json!({})),
            "consent-does-not-permit",
            "Consent.provision.type is missing",
        ),
        (
            provision(json!({ "type": "Mustermann" })),
            "consent-not-understood",
            "Consent.provision.type is neither",
        ),
        (
            provision(json!({ "type": "permit", "expression": [] })),
            "consent-not-understood",
            "Consent.provision has an element",
        ),
        (
            provision(json!({ "type": "deny" })),
            "consent-denies",
            "Consent.provision denies",
        ),
        (
            provision(json!({ "type": "permit", "provision": {} })),
            "consent-not-understood",
            "Consent.provision.provision is no list",
        ),
        (
            provision(json!({ "type": "permit", "provision": [{}] })),
            "consent-not-understood",
            "Consent.provision.provision[0].type is missing",
        ),
        (
            provision(json!({ "type": "permit", "provision": [{ "type": "permit" }, { "type": "deny" }] })),
            "consent-denies",
            "Consent.provision.provision[1] denies",
        ),
        (
            provision(
                json!({ "type": "permit", "provision": [{ "type": "deny", "action": action("collect") }] }),
            ),
            "consent-denies",
            "Consent.provision.provision[0] denies",
        ),
        // A denial counts where it may apply.
        (
            provision(
                json!({ "type": "permit", "provision": [{ "type": "deny", "action": action("use") }] }),
            ),
            "consent-denies",
            "provision[0] denies",
        ),
        (
            provision(
                json!({ "type": "permit", "provision": [{ "type": "deny", "actor": [{ "reference":
            { "reference": "Practitioner/Mustermann" } }] }] }),
            ),
            "consent-denies",
            "provision[0] denies",
        ),
        (
            provision(
                json!({ "type": "permit", "provision": [{ "type": "deny", "securityLabel":
            [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "ETH" }] }] }),
            ),
            "consent-denies",
            "provision[0] denies",
        ),
        (
            provision(
                json!({ "type": "permit", "provision": [{ "type": "deny", "class": [{ "code": "Observation" }] }] }),
            ),
            "consent-denies",
            "provision[0] denies",
        ),
        (
            provision(
                json!({ "type": "permit", "provision": [{ "type": "deny", "purpose": purpose("PurposeOfUse") }] }),
            ),
            "consent-denies",
            "provision[0] denies",
        ),
        (
            provision(json!({ "type": "permit", "provision": [{ "type": "deny", "purpose": [] }] })),
            "consent-denies",
            "provision[0] denies",
        ),
        (
            provision(
                json!({ "type": "permit", "provision": [{ "type": "deny", "action": [{ "text": "Mustermann" }] }] }),
            ),
            "consent-denies",
            "provision[0] denies",
        ),
        // A permit counts where it surely applies.
        (
            provision(json!({ "type": "permit", "action": action("disclose") })),
            "consent-does-not-permit",
            "Consent.provision.action names others",
        ),
        (
            provision(json!({ "type": "permit", "action": action("use") })),
            "consent-does-not-permit",
            "Consent.provision.action narrows",
        ),
        (
            provision(json!({ "type": "permit", "action": { "coding": [] } })),
            "consent-not-understood",
            "Consent.provision.action is no list",
        ),
        (
            provision(json!({ "type": "permit", "purpose": purpose("HMARKT") })),
            "consent-does-not-permit",
            "Consent.provision.purpose names others",
        ),
        (
            provision(json!({ "type": "permit", "code": [{ "text": "Mustermann" }] })),
            "consent-does-not-permit",
            "Consent.provision.code narrows",
        ),
        (
            provision(
                json!({ "type": "permit", "class": [{ "system": "http://hl7.org/fhir/resource-types",
            "code": "Observation" }] }),
            ),
            "consent-does-not-permit",
            "Consent.provision.class narrows",
        ),
        (
            provision(json!({ "type": "permit", "securityLabel": [own()] })),
            "consent-does-not-permit",
            "Consent.provision.securityLabel narrows",
        ),
        // Why the permit that somebody wrote does not count is what they want to hear.
        (
            provision(
                json!({ "type": "deny", "provision": [{ "type": "permit", "period": { "end": "2026-02" } }] }),
            ),
            "consent-expired",
            "Consent.provision.provision[0].period.end has passed",
        ),
        (
            provision(json!({ "provision": [{ "type": "permit", "action": action("access") }] })),
            "consent-does-not-permit",
            "Consent.provision.provision[0].action names others",
        ),
        // What does not apply says nothing of what is nested in it.
        (
            provision(
                json!({ "provision": [{ "type": "permit", "purpose": purpose("HRESCH"), "provision":
            [{ "type": "permit" }] }] }),
            ),
            "consent-does-not-permit",
            "provision[0].purpose names others",
        ),
    ];
    for (resource, nick, place) in refused {
        let refusal = judge(&resource).expect_err(place);
        assert_eq!(refusal.nick(), nick, "{refusal}");
        assert!(refusal.to_string().contains(place), "{place}: {refusal}");
    }
}

#[test]
fn bounds_hold_to_the_millisecond_and_count_in_the_zone_of_the_consent() {
    let bounded = |given: Value| {
        with(&[
            ("/dateTime", given),
            (
                "/provision/period",
                json!({ "start": "2026-03-05", "end": "2026-03-06" }),
            ),
        ])
    };
    // 2026-03-05T00:00 at the place.
    let midnight = NOW - 10 * HOUR;
    let nicks = |given: Value, zone: i32, begins: u64| {
        let consent = Consent::read(bounded(given).to_string().as_bytes(), zone).unwrap();
        let nick = |at| consent.judge(at).err().map(|refusal| refusal.nick());
        assert_eq!(nick(begins - 1), Some("consent-not-yet"));
        assert_eq!(nick(begins), None);
        assert_eq!(nick(begins + 2 * DAY - 1), None, "the last day is part of it");
        assert_eq!(nick(begins + 2 * DAY), Some("consent-expired"));
        assert_eq!(consent.next_change(begins - 1), Some(begins));
        assert_eq!(consent.next_change(begins), Some(begins + 2 * DAY));
        assert_eq!(consent.next_change(begins + 2 * DAY), None);
    };
    nicks(json!("2026-03-01T10:00:00Z"), 0, midnight);
    nicks(json!("2026-03-01T10:00:00+09:00"), 0, midnight - 9 * HOUR);
    nicks(json!("2026-03-01"), -5 * 3600, midnight + 5 * HOUR);
    nicks(json!("2026-03-01T10:00:00-08:00"), 2 * 3600, midnight + 8 * HOUR);
}

#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| {
        (0..depth).fold(
            json!({ "type": "permit" }),
            |inner, _| json!({ "type": "permit", "provision": [inner] }),
        )
    };
    assert_eq!(judge(&provision(nested(7))), Ok(()));
    let refusal = judge(&provision(nested(8))).unwrap_err();
    assert_eq!(refusal.nick(), "consent-not-understood");
    assert!(
        refusal.to_string().contains("nested more than 8 deep"),
        "{refusal}"
    );
    let deep = format!(
        "{{\"extension\":{}1{}}}",
        "[".repeat(500_000),
        "]".repeat(500_000)
    );
    assert!(matches!(
        Consent::read(deep.as_bytes(), 0),
        Err(ConsentRefusal::NotJson { .. })
    ));
}

#[test]
fn a_file_is_read_within_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("consent.json");
    let nick = || Consent::load(&path, 0).err().map(|refusal| refusal.nick());
    assert_eq!(nick(), Some("consent-unreadable"));
    std::fs::create_dir(&path).unwrap();
    assert_eq!(nick(), Some("consent-unreadable"));
    std::fs::remove_dir(&path).unwrap();
    let mut text = clinic().to_string();
    text.extend(std::iter::repeat_n(' ', MAX_FILE - text.len()));
    std::fs::write(&path, &text).unwrap();
    assert_eq!(nick(), None);
    std::fs::write(&path, text + " ").unwrap();
    assert_eq!(Consent::load(&path, 0), Err(ConsentRefusal::TooLong));
}

#[test]
fn every_truncation_is_refused() {
    let text = clinic().to_string();
    for length in 0..text.len() {
        let refusal = Consent::read(&text.as_bytes()[..length], 0).unwrap_err();
        assert_eq!(refusal.nick(), "consent-not-understood", "{length}");
    }
}

#[test]
fn nothing_of_a_consent_is_shown() {
    let consent = read(&clinic()).unwrap();
    assert_eq!(format!("{consent:?}"), "Consent { .. }");
}
