use super::super::issue::{BACKDATE, IssueError, random_id, request_pem, requested_key};
use super::*;

fn subject(roles: &[Role]) -> Subject {
    Subject {
        id: "7f3a".to_owned(),
        operator: None,
        roles: roles.to_vec(),
    }
}

#[test]
fn an_authority_issues_what_members_accept() {
    let root = Authority::root("Clinic", key(1), VALID).unwrap();
    let ward = root.intermediate("Ward", key(2), VALID).unwrap();
    for ca in [&root, &ward] {
        let subject = Subject {
            id: "7f3a".to_owned(),
            operator: Some("Ward 3".to_owned()),
            roles: vec![Role::Recorder, Role::Participant, Role::Recorder],
        };
        let (chain, identity) = ca.issue(key(9).public(), &subject, VALID).unwrap();
        let judged = verify(&content(&chain).unwrap(), &[root.fingerprint()], NOW).unwrap();
        assert_eq!(judged, identity);
        assert_eq!(judged.subject, "7f3a");
        assert_eq!(judged.operator.as_deref(), Some("Ward 3"));
        assert_eq!(judged.roles, [Role::Participant, Role::Recorder]);
        assert_eq!(judged.public_key, *key(9).public());
        // Again: the same certificate. Another subject: another serial number.
        assert_eq!(ca.issue(key(9).public(), &subject, VALID).unwrap().0, chain);
        let other = Subject {
            id: "8".to_owned(),
            ..subject
        };
        let (other, _) = ca.issue(key(9).public(), &other, VALID).unwrap();
        let serial = |der: &[u8]| {
            let certificate = certificate::read(der).unwrap();
            certificate.tbs_certificate().serial_number().clone()
        };
        assert_ne!(serial(&other[0]), serial(&chain[0]));
        assert_eq!(root.fingerprint(), Fingerprint::of(root.root_certificate()));
    }
}

#[test]
fn a_certificate_does_not_outlive_its_authority() {
    let root = Authority::root("Clinic", key(1), VALID).unwrap();
    let wide = Validity {
        from: 0,
        until: VALID.until + 5,
    };
    let (_, identity) = root
        .issue(key(9).public(), &subject(&[Role::Participant]), wide)
        .unwrap();
    assert_eq!(
        (identity.not_before, identity.not_after),
        (VALID.from, VALID.until)
    );
    let after = Validity {
        from: VALID.until + 1,
        until: VALID.until + 5,
    };
    let refused = root.issue(key(9).public(), &subject(&[Role::Participant]), after);
    assert_eq!(refused.err(), Some(IssueError::Validity));
}

#[test]
fn validities_are_days_and_a_little_before() {
    let days = Validity::days(NOW, 2);
    assert_eq!((days.from, days.until), (NOW - BACKDATE, NOW + 172_800));
    assert!(Authority::root("Clinic", key(1), Validity::days(NOW, 36_500)).is_ok());
    let refused = Authority::root("Clinic", key(1), Validity::days(NOW, u32::MAX));
    assert_eq!(refused.err(), Some(IssueError::Validity));
    let refused = Authority::root("Clinic", key(1), Validity::days(u64::MAX, 1));
    assert_eq!(refused.err(), Some(IssueError::Validity));
    // Across 2050, where the form of the dates changes.
    let root = Authority::root("Clinic", key(1), Validity::days(NOW, 36_500)).unwrap();
    let long = Validity::days(NOW, 20_000);
    let (_, identity) = root
        .issue(key(9).public(), &subject(&[Role::Participant]), long)
        .unwrap();
    assert_eq!(identity.not_after, long.until);
}

#[test]
fn what_members_would_refuse_is_not_issued() {
    let root = Authority::root("Clinic", key(1), VALID).unwrap();
    let issue = |subject| root.issue(key(9).public(), &subject, VALID).map(|_| ());
    assert_eq!(issue(subject(&[])), Err(IssueError::NoRole));
    for name in ["", "a\nb", "a\u{202e}", &"x".repeat(129)] {
        let id = Subject {
            id: name.to_owned(),
            ..subject(&[Role::Participant])
        };
        assert_eq!(issue(id), Err(IssueError::Name("subject id")));
        let operator = Subject {
            operator: Some(name.to_owned()),
            ..subject(&[Role::Participant])
        };
        assert_eq!(issue(operator), Err(IssueError::Name("operator")));
        assert!(matches!(
            Authority::root(name, key(1), VALID),
            Err(IssueError::Name("name"))
        ));
    }
    let mut weak = [0; 32];
    weak[0] = 1;
    assert_eq!(
        root.issue(&weak, &subject(&[Role::Participant]), VALID).err(),
        Some(IssueError::Unusable(IdentityError::KeyType))
    );
}

#[test]
fn authorities_of_other_tools_issue_too() {
    let mut parameters = authority("Clinic");
    let name = &mut parameters.distinguished_name;
    *name = rcgen::DistinguishedName::new();
    let country = rcgen::DnValue::PrintableString("DE".try_into().unwrap());
    name.push(DnType::CountryName, country);
    name.push(DnType::OrganizationName, "Clinic");
    name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), "17");
    name.push(DnType::CommonName, "Clinic root");
    parameters.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![7; 20]);
    let root = Ca::root(parameters.clone(), key(1));
    let authority = Authority::new(vec![root.der.clone()], key(1)).unwrap();
    let (chain, _) = authority
        .issue(key(9).public(), &subject(&[Role::Recorder]), VALID)
        .unwrap();
    verify(&content(&chain).unwrap(), &[root.fingerprint()], NOW).unwrap();
    // Its key identifier is repeated, so that tools that look for issuers by it find this one.
    assert!(chain[0].windows(20).any(|bytes| bytes == [7; 20]));

    // The same attribute twice.
    let name = &mut parameters.distinguished_name;
    name.push(DnType::CustomDnType(vec![2, 5, 4, 10]), "Clinic");
    let doubled = Ca::root(parameters, key(1));
    assert!(matches!(
        Authority::new(vec![doubled.der], key(1)),
        Err(IssueError::Authority(_))
    ));
}

#[test]
fn only_an_authority_with_its_own_key_issues() {
    let root = clinic();
    let leaf = root.certify(&endpoint(), &key(9));
    let p256 = Ca::root(authority("Clinic"), p256());
    for (certificates, own) in [
        (vec![], key(1)),
        (vec![b"garbage".to_vec()], key(1)),
        (vec![root.der.clone()], key(2)),
        (vec![leaf], key(9)),
        (vec![p256.der], key(1)),
    ] {
        let refused = Authority::new(certificates, own);
        assert!(matches!(refused, Err(IssueError::Authority(_))), "{refused:?}");
    }
}

#[test]
fn a_request_proves_the_possession_of_its_key() {
    let text = request_pem(&key(9)).unwrap();
    assert_eq!(requested_key(&text), Ok(*key(9).public()));

    let mut ambitious = CertificateParams::default();
    set_name(&mut ambitious, "director");
    add_uri(&mut ambitious, "urn:gst-e2ee:role:recorder");
    let text = ambitious.serialize_request(&key(9)).unwrap().pem().unwrap();
    assert_eq!(requested_key(&text), Ok(*key(9).public()));

    // A key that belongs to somebody else: the signature is made by another one.
    struct Thief(IdentityKey, [u8; 32]);
    impl PublicKeyData for Thief {
        fn der_bytes(&self) -> &[u8] {
            &self.1
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_ED25519
        }
    }
    impl rcgen::SigningKey for Thief {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            Ok(self.0.sign(message).to_vec())
        }
    }
    let thief = Thief(key(66), *key(9).public());
    let text = ambitious.serialize_request(&thief).unwrap().pem().unwrap();
    assert!(matches!(requested_key(&text), Err(IssueError::Request(_))));
    let text = ambitious.serialize_request(&p256()).unwrap().pem().unwrap();
    assert!(matches!(requested_key(&text), Err(IssueError::Request(_))));
    for text in ["", "text", &key(9).to_pem().unwrap()] {
        assert!(matches!(requested_key(text), Err(IssueError::Request(_))));
    }
}

#[test]
fn random_ids_differ_and_can_be_shown() {
    let id = random_id().unwrap();
    assert_eq!(id.len(), 20);
    assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_ne!(id, random_id().unwrap());
}

#[test]
fn certificates_are_described_for_people() {
    let root = Authority::root("Clinic", key(1), VALID).unwrap();
    let facts = describe(root.root_certificate()).unwrap();
    assert_eq!(facts.name.as_deref(), Some("Clinic"));
    assert!(facts.authority && facts.roles.is_empty());
    let (chain, identity) = root
        .issue(key(9).public(), &subject(&[Role::Recorder]), VALID)
        .unwrap();
    let facts = describe(&chain[0]).unwrap();
    assert_eq!(facts.fingerprint, identity.fingerprint);
    assert_eq!(facts.roles, [Role::Recorder]);
    assert!(!facts.authority);
    assert_eq!((facts.not_before, facts.not_after), (VALID.from, VALID.until));
    assert!(describe(b"garbage").is_err());
}
