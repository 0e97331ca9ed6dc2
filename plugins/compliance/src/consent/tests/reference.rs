//! What a reference to a consent holds on to, and what not.

use super::*;

#[test]
fn a_reference_has_one_form_and_means_one_consent() {
    let consent = read(&clinic()).unwrap();
    let reference = consent.reference(&[0xab; 16]);
    assert_eq!(reference.len(), 96);
    assert!(reference.starts_with(&"ab".repeat(16)));
    assert!(consent.matches(&reference));
    let again = consent.reference(&[0xac; 16]);
    assert_ne!(
        reference[32..],
        again[32..],
        "another salt hides that it is the same consent"
    );
    assert!(consent.matches(&again));
    for bad in [
        String::new(),
        reference.to_uppercase(),
        reference[..94].to_owned(),
        format!("{reference}00"),
        reference[32..].to_owned(),
        format!("{}{}", "00".repeat(16), &reference[32..]),
        reference.replace('a', "é"),
    ] {
        assert!(!consent.matches(&bad), "{bad}");
    }
    for at in 0..96 {
        let mut digits = reference.clone().into_bytes();
        digits[at] = if digits[at] == b'0' { b'1' } else { b'0' };
        assert!(
            !consent.matches(std::str::from_utf8(&digits).unwrap()),
            "digit {at}"
        );
    }
}

#[test]
fn the_reference_is_that_of_its_definition() {
    let text = r#"{ "status":"active", "resourceType":"Consent", "meta":{"versionId":"1"}, "text":{"div":"x"},
        "contained":[{"resourceType":"Organization","text":{"div":"y"},"meta":{},"id":"o"}],
        "scope":{"text":"kept","coding":[{"code":"treatment","system":"http://terminology.hl7.org/CodeSystem/consentscope"}]},
        "provision":{"type":"permit"} }"#;
    let canonical = concat!(
        r#"{"contained":[{"id":"o","resourceType":"Organization"}],"provision":{"type":"permit"},"#,
        r#""resourceType":"Consent","scope":{"coding":[{"code":"treatment","#,
        r#""system":"http://terminology.hl7.org/CodeSystem/consentscope"}],"text":"kept"},"status":"active"}"#
    );
    let salt = [7; 16];
    let inner = Sha256::digest([b"gst-e2ee consent v1\0", canonical.as_bytes()].concat());
    let outer = Sha256::digest([&salt[..], &inner].concat());
    assert_eq!(
        Consent::read(text.as_bytes(), 0).unwrap().reference(&salt),
        format!("{}{}", hex::encode(salt), hex::encode(outer))
    );
}

#[test]
fn what_a_server_changes_leaves_the_reference_and_what_a_person_changes_does_not() {
    let reference = read(&clinic()).unwrap().reference(&[1; 16]);
    let matches = |resource: &Value| read(resource).unwrap().matches(&reference);
    assert!(matches(&with(&[
        ("/meta/versionId", json!("4")),
        ("/text", Value::Null)
    ])));
    assert!(matches(&with(&[("/meta", Value::Null)])));
    let pretty = serde_json::to_string_pretty(&clinic()).unwrap();
    assert!(
        Consent::read(pretty.as_bytes(), 3600)
            .unwrap()
            .matches(&reference)
    );
    let escaped = clinic()
        .to_string()
        .replace("Erika", "\\u0045rik\\u0061")
        .replace("https://", "https:\\/\\/");
    assert!(Consent::read(escaped.as_bytes(), 0).unwrap().matches(&reference));

    for (pointer, value) in [
        ("/id", json!("consent-2")),
        ("/patient/display", json!("Max Mustermann")),
        ("/dateTime", json!("2026-03-01T10:00:01+01:00")),
        ("/organization", Value::Null),
        ("/category/0/text", json!("other")),
        ("/provision/period/end", json!("2027-12-31")),
        ("/provision/provision", Value::Null),
        ("/language", json!("en")),
    ] {
        assert!(!matches(&with(&[(pointer, value)])), "{pointer}");
    }
}

#[test]
fn every_bit_flipped_is_refused_or_changes_the_reference_or_says_the_same() {
    let text = clinic().to_string();
    let reference = read(&clinic()).unwrap().reference(&[1; 16]);
    let substance = |bytes: &[u8]| {
        let mut value: Value = serde_json::from_slice(bytes).unwrap();
        let members = value.as_object_mut().unwrap();
        members.remove("meta");
        members.remove("text");
        value
    };
    let whole = substance(text.as_bytes());
    let mut same = 0;
    for bit in 0..8 * text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(consent) = Consent::read(&bytes, 0)
            && consent.matches(&reference)
        {
            assert_eq!(substance(&bytes), whole, "bit {bit}");
            same += 1;
        }
    }
    assert!((1..2000).contains(&same), "meta and narrative only: {same}");
}
