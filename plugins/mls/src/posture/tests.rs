//! Honest reports of every kind of room, and what somebody might do to one.

use super::*;
use crate::identity::issue::{Authority, Subject, Validity};
use crate::identity::{IdentityKey, OwnIdentity};
use crate::policy::{Admission, Policy, Right, Rights, Who};
use crate::room::{Counters, member_of};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

struct Clinic {
    ca: Authority,
    validity: Validity,
}

impl Clinic {
    fn new(seed: u8) -> Self {
        let validity = Validity::days(NOW, 30);
        let ca = Authority::root("Clinic", IdentityKey::from_seed(&[seed; 32]), validity).unwrap();
        Self { ca, validity }
    }

    fn identity(&self, id: &str, roles: &[Role], seed: u8) -> OwnIdentity {
        self.identity_within(id, roles, seed, self.validity)
    }

    fn identity_within(&self, id: &str, roles: &[Role], seed: u8, validity: Validity) -> OwnIdentity {
        let key = IdentityKey::from_seed(&[seed; 32]);
        let subject = Subject {
            id: id.to_owned(),
            operator: Some("Ward 3".to_owned()),
            roles: roles.to_vec(),
        };
        let (chain, _) = self.ca.issue(key.public(), &subject, validity).unwrap();
        OwnIdentity::new(chain, key, &[self.ca.root_certificate().to_vec()], NOW).unwrap()
    }

    fn alice(&self) -> OwnIdentity {
        self.identity("alice", &[Role::Participant], 11)
    }

    fn bob(&self) -> OwnIdentity {
        self.identity("bob", &[Role::Participant], 12)
    }

    fn recorder(&self) -> OwnIdentity {
        self.identity("rec", &[Role::Recorder], 13)
    }

    fn policy(&self, claim: Claim) -> Policy {
        let root = self.ca.fingerprint();
        let admission = |role| Admission {
            role,
            who: Who::Root { root, subject: None },
        };
        let mut admit = vec![admission(Role::Participant)];
        if claim != Claim::Strict {
            admit.push(admission(Role::Recorder));
        }
        let mut policy = Policy {
            version: 1,
            room: RoomTag::new("consult", [7; 16]),
            claim,
            admit,
            deny: vec![],
            rights: Rights {
                add: Right::Participants,
                remove: Right::Participants,
                recording: Right::Participants,
                policy: Right::Participants,
            },
            consent: (claim != Claim::Strict).then(|| "ab".repeat(32)),
            retention_days: (claim != Claim::Strict).then_some(365),
            recipients: if claim == Claim::Recorded {
                vec![Fingerprint([0xcc; 32])]
            } else {
                vec![]
            },
            escrow: (claim == Claim::Escrow).then_some(Escrow {
                fingerprint: Fingerprint([0xdd; 32]),
                m: 3,
                n: 5,
            }),
            recording: claim != Claim::Strict,
            roots: vec![root],
            epoch_bits: 4,
            sframe_suite: 4,
        };
        policy.normalise();
        policy.validate().unwrap();
        policy
    }

    /// A room with alice at leaf 0, bob at 2 and, unless it is strict, the recorder at 3.
    fn status(&self, claim: Claim, own: &OwnIdentity) -> Status {
        let mut identities = vec![(0, self.alice()), (2, self.bob())];
        if claim != Claim::Strict {
            identities.push((3, self.recorder()));
        }
        let policy = self.policy(claim);
        Status {
            state: State::Ready,
            room: "consult".to_owned(),
            group_id: "0f".repeat(16),
            epoch: 12,
            epoch_code: crate::codes::epoch_code(&[5; 32]),
            members: identities
                .iter()
                .map(|(leaf, one)| {
                    let one = one.identity();
                    member_of(*leaf, one, one.fingerprint == own.identity().fingerprint)
                })
                .collect(),
            policy_digest: hex::encode(policy.digest()),
            policy: Some(policy),
            accept: Claim::Escrow,
            accepted: true,
            verified: false,
            recording_since: (claim != Claim::Strict).then_some(NOW - 60),
            counters: Counters::default(),
        }
    }

    fn verifier(&self) -> (Vec<Fingerprint>, u64) {
        (vec![self.ca.fingerprint()], NOW)
    }
}

fn options() -> Options {
    Options {
        now: NOW,
        lifetime: 600,
        nonce: None,
        mls_suite: 1,
    }
}

fn signed(clinic: &Clinic, claim: Claim) -> Signed {
    let alice = clinic.alice();
    Signed::new(&clinic.status(claim, &alice), &alice, &options()).unwrap()
}

/// Verifies as somebody who trusts the clinic and has no further wishes.
fn check(clinic: &Clinic, signed: &Signed) -> Result<Report, PostureError> {
    let (roots, now) = clinic.verifier();
    verify(
        &signed.encode(),
        &Verifier {
            roots: &roots,
            now,
            nonce: None,
            room: None,
        },
    )
}

/// Signs what an honest endpoint never would: the software of a liar.
fn forge(signed: &Signed, own: &OwnIdentity, change: impl FnOnce(&mut Value)) -> Signed {
    let mut report: Value = serde_json::from_str(&signed.posture).unwrap();
    change(&mut report);
    // Fields in the order of the structure, as the canonical form wants them.
    let posture = match serde_json::from_value::<Report>(report.clone()) {
        Ok(report) => String::from_utf8(report.encode()).unwrap(),
        Err(_) => report.to_string(),
    };
    let data = [b"gst-e2ee posture v1\0", posture.as_bytes()].concat();
    Signed {
        signature: hex::encode(own.sign(&data)),
        posture,
        certificates: signed.certificates.clone(),
    }
}

#[test]
fn a_report_of_every_claim_is_believed_and_says_who_holds_keys() {
    use Seer::{Custodians, Participants, Recipients, Recorders};
    let clinic = Clinic::new(1);
    for (claim, seers, holders) in [
        (Claim::Strict, vec![Participants], 2),
        (Claim::Recorded, vec![Participants, Recorders, Recipients], 3),
        (Claim::Escrow, vec![Participants, Recorders, Custodians], 3),
    ] {
        let report = check(&clinic, &signed(&clinic, claim)).unwrap();
        assert_eq!(report.claim, claim);
        assert_eq!(report.who_can_see_media, seers);
        assert_eq!(report.key_holders.len(), holders);
        assert_eq!(report.servers_can_see_media, Some(false));
        assert_eq!(report.signer.id, "alice");
        assert!(!report.verified);
        assert_eq!(report.expires_at, NOW + 600);
    }
}

#[test]
fn a_recorder_states_its_room_as_honestly_as_anybody() {
    let clinic = Clinic::new(1);
    let recorder = clinic.recorder();
    let status = clinic.status(Claim::Recorded, &recorder);
    let report = check(&clinic, &Signed::new(&status, &recorder, &options()).unwrap()).unwrap();
    assert_eq!(report.signer.roles, [Role::Recorder]);
}

#[test]
fn the_signature_is_over_label_zero_byte_and_the_string_in_the_file() {
    let clinic = Clinic::new(1);
    let file: Value = serde_json::from_slice(&signed(&clinic, Claim::Strict).encode()).unwrap();
    let data = [
        b"gst-e2ee posture v1".as_slice(),
        b"\0",
        file["posture"].as_str().unwrap().as_bytes(),
    ]
    .concat();
    let signature = hex::decode(file["signature"].as_str().unwrap()).unwrap();
    let key = ring::signature::UnparsedPublicKey::new(
        &ring::signature::ED25519,
        clinic.alice().identity().public_key,
    );
    key.verify(&data, &signature).unwrap();
    assert_eq!(file["certificates"].as_array().unwrap().len(), 2);
}

#[test]
fn who_has_no_current_keys_cannot_say_what_servers_see() {
    let clinic = Clinic::new(1);
    let alice = clinic.alice();
    for (state, expected) in [
        (State::Ready, Some(false)),
        (State::Transition, Some(false)),
        (State::Stale, None),
        (State::Joining, None),
        (State::Evicted, None),
    ] {
        let status = Status {
            state,
            ..clinic.status(Claim::Strict, &alice)
        };
        let report = check(&clinic, &Signed::new(&status, &alice, &options()).unwrap()).unwrap();
        assert_eq!(report.servers_can_see_media, expected, "{state:?}");
    }
}

#[test]
fn who_was_removed_still_reports_and_who_says_ready_outside_the_roster_does_not() {
    let clinic = Clinic::new(1);
    let alice = clinic.alice();
    let mut status = clinic.status(Claim::Strict, &alice);
    status.members.retain(|member| !member.own);
    let ready = Signed::new(&status, &alice, &options());
    assert!(matches!(ready, Err(PostureError::Contradiction(_))));
    status.state = State::Evicted;
    let report = check(&clinic, &Signed::new(&status, &alice, &options()).unwrap()).unwrap();
    assert_eq!(report.own_entry(), None);
}

#[test]
fn there_is_no_report_without_a_room_or_with_wrong_options() {
    let clinic = Clinic::new(1);
    let alice = clinic.alice();
    let status = clinic.status(Claim::Strict, &alice);
    let made = |status: &Status, options: &Options| Report::new(status, alice.identity(), options);
    let nowhere = Status {
        policy: None,
        ..status.clone()
    };
    assert_eq!(made(&nowhere, &options()), Err(PostureError::NoRoom));
    for lifetime in [0, MAX_LIFETIME + 1, u64::MAX] {
        let options = Options {
            lifetime,
            ..options()
        };
        assert_eq!(made(&status, &options), Err(PostureError::Lifetime));
    }
    for nonce in ["", "\u{1b}[2J", " x", &"x".repeat(129)] {
        let options = Options {
            nonce: Some(nonce.to_owned()),
            ..options()
        };
        assert_eq!(made(&status, &options), Err(PostureError::BadNonce), "{nonce:?}");
    }
    let late = Options {
        now: alice.identity().not_after,
        ..options()
    };
    assert_eq!(made(&status, &late), Err(IdentityError::Expired.into()));
}

#[test]
fn a_report_does_not_outlive_its_signers_certificate() {
    let clinic = Clinic::new(1);
    let until = NOW + 100;
    let validity = Validity {
        from: NOW - 100,
        until,
    };
    let alice = clinic.identity_within("alice", &[Role::Participant], 11, validity);
    let mut status = clinic.status(Claim::Strict, &alice);
    status.members[0] = member_of(0, alice.identity(), true);
    let signed = Signed::new(&status, &alice, &options()).unwrap();
    assert_eq!(signed.unverified().unwrap().expires_at, until);
}

#[test]
fn the_nonce_must_be_the_one_that_was_asked_for() {
    let clinic = Clinic::new(1);
    let alice = clinic.alice();
    let with = Options {
        nonce: Some("n-4711".to_owned()),
        ..options()
    };
    let with = Signed::new(&clinic.status(Claim::Strict, &alice), &alice, &with).unwrap();
    let without = signed(&clinic, Claim::Strict);
    let (roots, now) = clinic.verifier();
    for (signed, nonce, believed) in [
        (&with, Some("n-4711"), true),
        (&with, None, true),
        (&with, Some("n-4712"), false),
        (&without, Some("n-4711"), false),
        (&without, None, true),
    ] {
        let verifier = Verifier {
            roots: &roots,
            now,
            nonce,
            room: None,
        };
        let result = signed.verify(&verifier);
        assert_eq!(result.is_ok(), believed);
        assert!(believed || result == Err(PostureError::Nonce));
    }
}

#[test]
fn the_room_can_be_checked_by_who_knows_its_name_and_is_not_told_to_others() {
    let clinic = Clinic::new(1);
    let signed = signed(&clinic, Claim::Strict);
    let (roots, now) = clinic.verifier();
    let verified = |room| {
        signed.verify(&Verifier {
            roots: &roots,
            now,
            nonce: None,
            room: Some(room),
        })
    };
    assert!(verified("consult").is_ok());
    assert_eq!(verified("another"), Err(PostureError::AnotherRoom));
    assert!(!String::from_utf8(signed.encode()).unwrap().contains("consult"));
}

#[test]
fn time_ends_a_report_and_one_from_the_future_is_refused() {
    let clinic = Clinic::new(1);
    let signed = signed(&clinic, Claim::Strict);
    let roots = [clinic.ca.fingerprint()];
    let at = |now| {
        signed
            .verify(&Verifier {
                roots: &roots,
                now,
                nonce: None,
                room: None,
            })
            .map(|_| ())
    };
    assert_eq!(at(NOW - 300), Ok(()));
    assert_eq!(at(NOW - 301), Err(PostureError::Future));
    assert_eq!(at(NOW + 600), Ok(()));
    assert_eq!(at(NOW + 601), Err(PostureError::Expired));
    assert_eq!(
        at(NOW + 31 * 86400),
        Err(PostureError::Certificate(IdentityError::Expired))
    );
}

/// Every value in it, by its way from the top.
fn places(value: &Value, way: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(name, v)| places(v, &format!("{way}/{name}"), found)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(i, v)| places(v, &format!("{way}/{i}"), found)),
        _ => found.push(way.to_owned()),
    }
}

fn other(value: &Value) -> Value {
    match value {
        Value::Null => json!("00"),
        Value::Bool(b) => json!(!b),
        Value::Number(n) => json!(n.as_u64().unwrap() + 1),
        Value::String(s) if s == "participant" => json!("recorder"),
        Value::String(s) => json!(s.replacen(|_| true, if s.starts_with('0') { "1" } else { "0" }, 1)),
        _ => Value::Null,
    }
}

#[test]
fn no_field_can_be_changed_without_the_signature_noticing() {
    let clinic = Clinic::new(1);
    for claim in [Claim::Strict, Claim::Recorded, Claim::Escrow] {
        let honest = signed(&clinic, claim);
        let report: Value = serde_json::from_str(&honest.posture).unwrap();
        let mut ways = Vec::new();
        places(&report, "", &mut ways);
        assert!(ways.len() > 35, "{ways:?}");
        for way in ways {
            let mut changed = report.clone();
            let place = changed.pointer_mut(&way).unwrap();
            *place = other(place);
            let text = serde_json::from_value::<Report>(changed.clone()).map_or_else(
                |_| changed.to_string(),
                |r| String::from_utf8(r.encode()).unwrap(),
            );
            assert_ne!(text, honest.posture, "{way}");
            let tampered = Signed {
                posture: text,
                ..honest.clone()
            };
            assert_eq!(check(&clinic, &tampered), Err(PostureError::Signature), "{way}");
        }
    }
}

#[test]
fn no_byte_of_the_file_can_be_changed_into_another_statement() {
    let clinic = Clinic::new(1);
    let honest = signed(&clinic, Claim::Recorded);
    let report = check(&clinic, &honest).unwrap();
    let bytes = honest.encode();
    let (roots, now) = clinic.verifier();
    let verifier = Verifier {
        roots: &roots,
        now,
        nonce: None,
        room: None,
    };
    // Every fifth position: enough to meet every field.
    for position in (0..bytes.len()).step_by(5) {
        for flip in [1, 0x20] {
            let mut changed = bytes.clone();
            changed[position] ^= flip;
            // Spaces between fields and the case of hex digits may change; what is read may not.
            if let Ok(read) = verify(&changed, &verifier) {
                assert_eq!(read, report);
            }
        }
    }
}

#[test]
fn another_members_signature_or_certificate_is_refused() {
    let clinic = Clinic::new(1);
    let honest = signed(&clinic, Claim::Recorded);
    for other in [clinic.bob(), clinic.recorder()] {
        // Her report, the other's signature, her certificate.
        let resigned = forge(&honest, &other, |_| {});
        assert_eq!(check(&clinic, &resigned), Err(PostureError::Signature));
        // Her report, the other's signature and certificate: properly signed by somebody else.
        let own = Signed::new(&clinic.status(Claim::Recorded, &other), &other, &options()).unwrap();
        let taken_over = Signed {
            certificates: own.certificates.clone(),
            ..resigned
        };
        assert_eq!(check(&clinic, &taken_over), Err(PostureError::AnotherSigner));
        // Her signature, the other's certificate.
        let swapped = Signed {
            certificates: own.certificates,
            ..honest.clone()
        };
        assert_eq!(check(&clinic, &swapped), Err(PostureError::Signature));
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused_whatever_its_names() {
    let (clinic, stranger) = (Clinic::new(1), Clinic::new(2));
    let foreign = signed(&stranger, Claim::Strict);
    assert_eq!(
        check(&clinic, &foreign),
        Err(PostureError::Certificate(IdentityError::UnknownRoot))
    );
    let honest = signed(&clinic, Claim::Strict);
    // The stranger's certificate under the clinic's root.
    let grafted = Signed {
        certificates: vec![foreign.certificates[0].clone(), honest.certificates[1].clone()],
        ..foreign
    };
    assert!(matches!(
        check(&clinic, &grafted),
        Err(PostureError::Certificate(_))
    ));
}

#[test]
fn a_member_that_lies_is_caught_where_its_statements_meet() {
    let clinic = Clinic::new(1);
    let alice = clinic.alice();
    let recorded = signed(&clinic, Claim::Recorded);
    let strict = signed(&clinic, Claim::Strict);
    let escrow = signed(&clinic, Claim::Escrow);
    type Lie = fn(&mut Value);
    let lies: Vec<(&Signed, Lie)> = vec![
        (&recorded, |r| r["claim"] = json!("strict")),
        (&recorded, |r| r["claim"] = json!("escrow")),
        (&recorded, |r| r["who_can_see_media"] = json!(["participants"])),
        (&recorded, |r| r["recipients"] = json!([])),
        (&recorded, |r| r["servers_can_see_media"] = Value::Null),
        (&recorded, |r| r["servers_can_see_media"] = json!(true)),
        (&recorded, |r| r["state"] = json!("stale")),
        (&recorded, |r| r["accept"] = json!("strict")),
        (&recorded, |r| r["accepted"] = json!(false)),
        (&recorded, |r| r["meaning"] = json!("All is well.")),
        (&recorded, |r| r["version"] = json!(2)),
        (&recorded, |r| r["expires_at"] = json!(NOW + MAX_LIFETIME + 1)),
        (&recorded, |r| r["expires_at"] = r["issued_at"].clone()),
        (&recorded, |r| {
            r["key_holders"].as_array_mut().unwrap().remove(0);
        }),
        (&recorded, |r| r["key_holders"][0]["id"] = json!("somebody")),
        (&recorded, |r| {
            r["key_holders"][0]["roles"] = json!(["participant", "recorder"])
        }),
        (&recorded, |r| r["key_holders"][1]["leaf"] = json!(0)),
        (&recorded, |r| {
            r["key_holders"][1]["fingerprint"] = r["key_holders"][2]["fingerprint"].clone();
        }),
        (&recorded, |r| r["key_holders"][1]["roles"] = json!([])),
        (&recorded, |r| r["key_holders"][1]["id"] = json!("\u{1b}[2Jbob")),
        (&recorded, |r| r["key_holders"][1]["operator"] = json!("Ward\n4")),
        (&recorded, |r| r["epoch_code"] = json!("1")),
        (&recorded, |r| r["group_id"] = json!("")),
        (&recorded, |r| r["policy_digest"] = json!("XX")),
        (&recorded, |r| r["nonce"] = json!("")),
        (&recorded, |r| r["note"] = json!("more")),
        (&strict, |r| r["recording"]["on"] = json!(true)),
        (&strict, |r| {
            r["escrow"] = json!({"fingerprint": "dd".repeat(32), "m": 1, "n": 1})
        }),
        (&strict, |r| r["key_holders"][1]["roles"] = json!(["recorder"])),
        (&escrow, |r| r["escrow"]["m"] = json!(6)),
        (&escrow, |r| r["escrow"]["m"] = json!(0)),
        (&escrow, |r| r["escrow"] = Value::Null),
        (&escrow, |r| r["recipients"] = json!(["cc".repeat(32)])),
    ];
    for (place, (honest, lie)) in lies.into_iter().enumerate() {
        let forged = forge(honest, &alice, lie);
        let result = check(&clinic, &forged);
        assert!(
            matches!(
                result,
                Err(PostureError::Contradiction(_) | PostureError::Unreadable(_) | PostureError::BadNonce)
            ),
            "{place}: {result:?}"
        );
    }
    // A lie that no list contradicts is hers to tell: the forging itself works.
    let told = check(
        &clinic,
        &forge(&recorded, &alice, |r| r["verified"] = json!(true)),
    );
    assert!(told.unwrap().verified);
}

#[test]
fn a_signature_for_another_purpose_is_none() {
    let clinic = Clinic::new(1);
    let honest = signed(&clinic, Claim::Strict);
    for label in ["", "gst-e2ee posture v1", "gst-e2ee posture v2\0"] {
        let data = [label.as_bytes(), honest.posture.as_bytes()].concat();
        let other = Signed {
            signature: hex::encode(clinic.alice().sign(&data)),
            ..honest.clone()
        };
        assert_eq!(check(&clinic, &other), Err(PostureError::Signature));
    }
}

#[test]
fn what_is_no_report_is_told_and_not_read_on() {
    let clinic = Clinic::new(1);
    let (roots, now) = clinic.verifier();
    let verifier = Verifier {
        roots: &roots,
        now,
        nonce: None,
        room: None,
    };
    let honest = signed(&clinic, Claim::Strict);
    let twice = format!(
        r#"{{"posture":"","posture":"","signature":"","certificates":[]}}{}"#,
        " "
    );
    for bytes in [
        &b""[..],
        b"{}",
        b"\xff\xfe",
        twice.as_bytes(),
        &vec![b' '; MAX_FILE + 1],
        &[honest.encode(), b"{}".to_vec()].concat(),
    ] {
        let result = verify(bytes, &verifier);
        assert!(matches!(result, Err(PostureError::Unreadable(_))), "{result:?}");
    }
    for certificates in [
        vec![],
        vec![String::new()],
        vec!["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(); 2],
        vec![honest.certificates.concat()],
        vec![honest.certificates[0].clone(); 5],
    ] {
        let changed = Signed {
            certificates,
            ..honest.clone()
        };
        let result = check(&clinic, &changed);
        assert!(
            matches!(
                result,
                Err(PostureError::Certificate(_) | PostureError::Unreadable(_))
            ),
            "{result:?}"
        );
    }
}

#[test]
fn the_text_for_people_answers_the_question_and_names_everybody() {
    let clinic = Clinic::new(1);
    let text = for_people(&check(&clinic, &signed(&clinic, Claim::Recorded)).unwrap());
    for expected in [
        "as alice sees it (participant, operated by Ward 3)",
        "Can servers see the media?  no: nobody has keys but those listed below",
        "2 participants, 1 recorder, 1 recipient of recordings",
        "recorded (this endpoint accepts escrow: accepted)",
        "ON since 2027-01-15T07:59:00Z",
        "no: nobody has compared codes",
        "  3     rec    recorder     Ward 3",
        &clinic.recorder().identity().fingerprint.to_string(),
        &"cc".repeat(32),
        &"ab".repeat(32),
        "365 days",
        "one endpoint's view",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let text = for_people(&check(&clinic, &signed(&clinic, Claim::Escrow)).unwrap());
    assert!(text.contains("any 3 of 5 together"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 130), "{text}");
}

#[test]
fn the_file_is_replaced_whole_readable_by_all_and_leaves_nothing_beside_it() {
    use std::os::unix::fs::PermissionsExt;
    let clinic = Clinic::new(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("posture.json");
    let (a, b) = (signed(&clinic, Claim::Strict), signed(&clinic, Claim::Recorded));
    let (short, long) = (a.encode(), b.encode());
    a.write_atomically(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), short);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o644
    );
    // Readers at the same time find one or the other.
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..20 {
                        a.write_atomically(&path).unwrap();
                        b.write_atomically(&path).unwrap();
                    }
                })
            })
            .collect();
        while !writers.iter().all(|writer| writer.is_finished()) {
            let read = std::fs::read(&path).unwrap();
            assert!(read == short || read == long);
        }
    });
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_the_old_one_stays() {
    let clinic = Clinic::new(1);
    let folder = tempfile::tempdir().unwrap();
    let signed = signed(&clinic, Claim::Strict);
    let error = signed
        .write_atomically(&folder.path().join("missing/posture.json"))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("missing/posture.json cannot be written")
    );
    // A folder in the file's place.
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    assert!(signed.write_atomically(&taken).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(signed.write_atomically(std::path::Path::new("/")).is_err());
}
