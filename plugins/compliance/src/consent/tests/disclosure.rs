//! May a recording be disclosed? By the same rule as recording, with other codes, and somebody who gets it.

use super::*;

const OTHERS: [&str; 2] = ["HRESCH", "HMARKT"];

fn disclosure() -> Disclosure<'static> {
    Disclosure {
        purpose: "TREAT",
        other_purposes: &OTHERS,
        recipient: Some("Organization/Mustermann"),
        encounter: Some("Encounter/1"),
        labels: &[("urn:labels", "R")],
    }
}

fn asked(resource: &Value, disclosure: &Disclosure) -> Result<(), ConsentRefusal> {
    let question = Question::Disclosure(disclosure);
    let consent = Consent::asked(resource.to_string().as_bytes(), 0, question)?;
    let judged = consent.judge_about(NOW, (NOW - 2 * DAY, NOW - DAY));
    if let Err(refusal) = &judged {
        assert!(!refusal.to_string().contains(NAME), "{refusal}");
    }
    judged
}

/// The clinic's consent with `disclose` among its actions, and this set in its provision.
fn with_provision(name: &str, value: Value) -> Value {
    let disclose = json!([{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": "disclose" }] }]);
    let mut resource = with(&[("/provision/action", disclose)]);
    if !value.is_null() {
        resource["provision"][name] = value;
    }
    resource
}

#[test]
fn what_permits_recording_permits_no_disclosure() {
    assert_eq!(judge(&clinic()), Ok(()));
    let refused = asked(&clinic(), &disclosure());
    assert!(
        matches!(refused, Err(ConsentRefusal::NotDisclosed { .. })),
        "{refused:?}"
    );
    let permits = with_provision("", Value::Null);
    assert_eq!(asked(&permits, &disclosure()), Ok(()));
    assert!(judge(&permits).is_err());
}

#[test]
fn a_permit_is_for_its_recipient_and_its_encounter() {
    let role = |code: &str| json!({ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": code }] });
    let actor = |code: &str, reference: &str| json!([{ "role": role(code), "reference": { "reference": reference } }]);
    let data = |reference: &str| json!([{ "meaning": "instance", "reference": { "reference": reference } }]);
    for (name, value, permitted) in [
        ("actor", actor("IRCP", "Organization/Mustermann"), true),
        ("actor", actor("PRCP", "Organization/Mustermann"), true),
        ("actor", actor("IRCP", "Organization/2"), false),
        (
            "actor",
            actor("IRCP", "https://ehr.example/Organization/Mustermann"),
            false,
        ),
        ("actor", actor("CST", "Organization/Mustermann"), false),
        (
            "actor",
            json!([{ "role": role("IRCP"), "reference": { "display": "Mustermann" } }]),
            false,
        ),
        ("data", data("Encounter/1"), true),
        ("data", data("Encounter/2"), false),
        (
            "securityLabel",
            json!([{ "system": "urn:labels", "code": "R" }]),
            true,
        ),
        (
            "securityLabel",
            json!([{ "system": "urn:labels", "code": "V" }]),
            false,
        ),
        (
            "class",
            json!([{ "system": "http://hl7.org/fhir/resource-types", "code": "DocumentReference" }]),
            true,
        ),
        (
            "class",
            json!([{ "system": "http://hl7.org/fhir/resource-types", "code": "Observation" }]),
            false,
        ),
        (
            "code",
            json!([{ "coding": [{ "system": OWN_SYSTEM, "code": OWN_CODE }] }]),
            true,
        ),
        ("code", json!([{ "text": "Mustermann" }]), false),
    ] {
        let judged = asked(&with_provision(name, value.clone()), &disclosure());
        assert_eq!(judged.is_ok(), permitted, "{name} {value}: {judged:?}");
    }
    // Nobody is named who gets it: then no permit that names somebody is surely for them.
    let nobody = Disclosure {
        recipient: None,
        ..disclosure()
    };
    assert!(asked(&with_provision("", Value::Null), &nobody).is_err());
}

#[test]
fn a_denial_counts_wherever_it_may_apply_and_only_there() {
    let deny = |reference: &str| {
        let role = json!({ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP" }] });
        json!([{ "type": "deny", "actor": [{ "role": role, "reference": { "reference": reference } }] }])
    };
    for (reference, permitted) in [
        ("Organization/2", true),
        ("Organization/Mustermann", false),
        // It could be the same one.
        ("https://ehr.example/Organization/2", false),
        ("Practitioner/2", false),
        ("#contained", false),
        ("Organization/2/_history/1", false),
    ] {
        let judged = asked(&with_provision("provision", deny(reference)), &disclosure());
        assert_eq!(judged.is_ok(), permitted, "{reference}: {judged:?}");
        if !permitted {
            assert!(
                matches!(judged, Err(ConsentRefusal::DisclosureDenied { .. })),
                "{judged:?}"
            );
        }
    }
}

#[test]
fn what_was_recorded_must_lie_in_the_data_period_and_now_in_the_period() {
    // It is the fifth of March, and was recorded from the third to the fourth.
    let days = |from: u32, to: u32| json!({ "start": format!("2026-03-{from:02}"), "end": format!("2026-03-{to:02}") });
    for (name, period, permitted) in [
        ("dataPeriod", days(2, 4), true),
        ("dataPeriod", days(4, 6), false),
        ("dataPeriod", days(2, 3), false),
        ("period", days(4, 6), true),
        ("period", days(2, 4), false),
        ("period", days(6, 8), false),
    ] {
        let judged = asked(&with_provision(name, period.clone()), &disclosure());
        assert_eq!(judged.is_ok(), permitted, "{name} {period}: {judged:?}");
    }
}
