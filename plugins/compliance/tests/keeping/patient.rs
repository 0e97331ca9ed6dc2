//! A patient who is named as a recipient opens their own recording with the plain age tool.

use super::place::{Place, age, by_hand, media};

#[test]
fn a_patient_who_is_a_recipient_opens_their_recording_with_plain_age() {
    let place = Place::new();
    for name in ["doctor", "patient", "other-patient"] {
        place.person(name);
    }
    place.recipients("theirs", &["doctor", "patient"]);
    place.recipients("others", &["doctor", "other-patient"]);
    let own = place.record("theirs");
    let foreign = place.record("others");
    let patient = place.path("patient.txt");
    let opened = by_hand(&own.path, &patient, &own.path.join("key.age"));
    assert_eq!(opened, Some(media()));
    // Theirs, and no other.
    assert_eq!(age(&patient, &foreign.path.join("key.age")), None);
}

#[test]
fn a_patient_who_is_made_a_recipient_later_opens_it_with_plain_age_from_then_on() {
    let place = Place::new();
    place.person("doctor");
    place.person("patient");
    let made = place.record("doctor");
    let patient = place.path("patient.txt");
    assert_eq!(age(&patient, &made.path.join("key.age")), None);
    place.recipients("both", &["doctor", "patient"]);
    place.rewrapped("doctor", "both");
    let key = made.path.join("holders/1/key.age");
    assert_eq!(by_hand(&made.path, &patient, &key), Some(media()));
    assert_eq!(
        by_hand(&made.path, &place.path("doctor.txt"), &key),
        Some(media())
    );
}
