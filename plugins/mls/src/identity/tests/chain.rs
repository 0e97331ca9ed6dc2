use proptest::prelude::*;

use super::*;

/// A root, an authority below it, and an endpoint's certificate of that one; the roots that are trusted.
fn three() -> ([Vec<u8>; 3], [Fingerprint; 1]) {
    let root = clinic();
    let ward = root.below(authority("Ward"), key(2));
    let leaf = ward.certify(&endpoint(), &key(9));
    let roots = [root.fingerprint()];
    ([leaf, ward.der, root.der], roots)
}

fn verify_chain<C: AsRef<[u8]>>(chain: &[C], roots: &[Fingerprint]) -> Result<Identity, IdentityError> {
    verify(&content(chain).unwrap(), roots, NOW)
}

#[test]
fn a_chain_says_who_its_holder_is() {
    let ca = clinic();
    let mut parameters = endpoint();
    add_uri(&mut parameters, "https://example.org/");
    add_uri(&mut parameters, "urn:gst-e2ee:role:recorder");
    let name = &mut parameters.distinguished_name;
    name.push(DnType::OrganizationName, "Städtische Klinik");
    let leaf = ca.certify(&parameters, &key(9));
    let identity = verify_chain(&[&leaf, &ca.der], &[ca.fingerprint()]).unwrap();
    assert_eq!(
        identity,
        Identity {
            subject: "7f3a".to_owned(),
            operator: Some("Städtische Klinik".to_owned()),
            roles: vec![Role::Participant, Role::Recorder],
            fingerprint: Fingerprint::of(&leaf),
            root: ca.fingerprint(),
            public_key: *key(9).public(),
            not_before: VALID.from,
            not_after: VALID.until,
        }
    );
}

#[test]
fn authorities_between_are_verified() {
    let (chain, roots) = three();
    verify_chain(&chain, &roots).unwrap();

    let root = clinic();
    let region = root.below(authority("Region"), key(2));
    let ward = region.below(authority("Ward"), key(3));
    let leaf = ward.certify(&endpoint(), &key(9));
    verify_chain(&[&leaf, &ward.der, &region.der, &root.der], &roots).unwrap();
    // One of them may itself be what is trusted.
    verify_chain(&[&leaf, &ward.der], &[ward.fingerprint()]).unwrap();
}

#[test]
fn a_foreign_authority_of_the_same_name_is_refused() {
    let ours = clinic();
    let foreign = Ca::root(authority("Clinic"), key(66));
    let leaf = foreign.certify(&endpoint(), &key(9));
    let roots = [ours.fingerprint()];
    assert_eq!(
        verify_chain(&[&leaf, &foreign.der], &roots),
        Err(IdentityError::UnknownRoot)
    );
    assert_eq!(
        verify_chain(&[&leaf, &ours.der], &roots),
        Err(IdentityError::Signature)
    );
    let chain = [&leaf, &foreign.der, &ours.der];
    assert_eq!(verify_chain(&chain, &roots), Err(IdentityError::Signature));
    assert_eq!(
        verify_chain(&[&leaf, &foreign.der], &[]),
        Err(IdentityError::UnknownRoot)
    );
}

#[test]
fn the_certificates_are_valid_at_the_time_of_the_message() {
    let early = Validity {
        from: NOW - 1000,
        until: NOW - 1,
    };
    let late = Validity {
        from: NOW + 1,
        until: NOW + 1000,
    };
    for (validity, refused) in [
        (early, IdentityError::Expired),
        (late, IdentityError::NotYetValid),
    ] {
        for place in 0..3 {
            let mut parameters = [endpoint(), authority("Ward"), authority("Clinic")];
            set_validity(&mut parameters[place], validity);
            let [leaf, ward, root] = parameters;
            let root = Ca::root(root, key(1));
            let ward = root.below(ward, key(2));
            let leaf = ward.certify(&leaf, &key(9));
            let chain = [&leaf, &ward.der, &root.der];
            let content = content(&chain).unwrap();
            let at = |time| verify(&content, &[root.fingerprint()], time).map(|_| ());
            assert_eq!(at(NOW), Err(refused.clone()), "place {place}");
            // Both ends belong to it.
            assert_eq!(at(validity.from), Ok(()));
            assert_eq!(at(validity.until), Ok(()));
            assert_eq!(at(validity.from - 1), Err(IdentityError::NotYetValid));
            assert_eq!(at(validity.until + 1), Err(IdentityError::Expired));
            assert_eq!(at(0), Err(IdentityError::NotYetValid));
            assert_eq!(at(u64::MAX), Err(IdentityError::Expired));
        }
    }
}

#[test]
fn an_authority_is_no_endpoint() {
    let root = clinic();
    let mut parameters = endpoint();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    assert_eq!(root.judge(&parameters), Err(IdentityError::AuthorityAsEndpoint));
    let alone = [&root.der, &root.der];
    assert_eq!(
        verify_chain(&alone, &[root.fingerprint()]),
        Err(IdentityError::AuthorityAsEndpoint)
    );
    parameters.is_ca = rcgen::IsCa::ExplicitNoCa;
    assert!(root.judge(&parameters).is_ok());
}

#[test]
fn an_endpoint_is_no_authority() {
    let not_at_all = endpoint();
    let mut said_so = authority("Ward");
    said_so.is_ca = rcgen::IsCa::ExplicitNoCa;
    let mut other_usage = authority("Ward");
    other_usage.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    for parameters in [not_at_all, said_so, other_usage] {
        let root = clinic();
        let ward = root.below(parameters.clone(), key(2));
        let leaf = ward.certify(&endpoint(), &key(9));
        let chain = [&leaf, &ward.der, &root.der];
        assert_eq!(
            verify_chain(&chain, &[root.fingerprint()]),
            Err(IdentityError::NotAnAuthority)
        );
        // Nor is it when somebody trusts it.
        let root = Ca::root(parameters, key(1));
        assert_eq!(root.judge(&endpoint()), Err(IdentityError::NotAnAuthority));
    }
}

#[test]
fn an_authority_limits_those_below_it() {
    for (root_limit, ward_limit, refused) in [(Some(0), None, true), (Some(1), Some(0), false)] {
        let limit = |name, limit| {
            let mut parameters = authority(name);
            if let Some(most) = limit {
                parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(most));
            }
            parameters
        };
        let root = Ca::root(limit("Clinic", root_limit), key(1));
        assert!(root.judge(&endpoint()).is_ok());
        let ward = root.below(limit("Ward", ward_limit), key(2));
        let leaf = ward.certify(&endpoint(), &key(9));
        let judged = verify_chain(&[&leaf, &ward.der, &root.der], &[root.fingerprint()]);
        assert_eq!(judged.err(), refused.then_some(IdentityError::PathLength));

        let room = ward.below(authority("Room"), key(3));
        let leaf = room.certify(&endpoint(), &key(9));
        let chain = [&leaf, &room.der, &ward.der, &root.der];
        assert_eq!(
            verify_chain(&chain, &[root.fingerprint()]),
            Err(IdentityError::PathLength)
        );
    }
}

#[test]
fn other_rules_of_x509_hold() {
    let root = clinic();
    let mut critical = endpoint();
    let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    extension.set_criticality(true);
    critical.custom_extensions.push(extension);
    let mut server_only = endpoint();
    server_only.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let mut no_signatures = endpoint();
    no_signatures.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    let mut never = endpoint();
    set_validity(
        &mut never,
        Validity {
            from: NOW + 1,
            until: NOW - 1,
        },
    );
    for parameters in [critical, server_only, no_signatures, never] {
        let judged = root.judge(&parameters);
        assert!(matches!(judged, Err(IdentityError::Chain(_))), "{judged:?}");
    }
    let mut client = endpoint();
    client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    client.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    assert!(root.judge(&client).is_ok());

    // What an authority may certify.
    let mut limited = authority("Ward");
    limited.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("example.org".to_owned())],
        excluded_subtrees: vec![],
    });
    let ward = root.below(limited, key(2));
    for (host, allowed) in [("a.example.org", true), ("a.example.com", false)] {
        let mut named = endpoint();
        named
            .subject_alt_names
            .push(SanType::DnsName(host.try_into().unwrap()));
        let leaf = ward.certify(&named, &key(9));
        let judged = verify_chain(&[&leaf, &ward.der, &root.der], &[root.fingerprint()]);
        assert_eq!(judged.is_ok(), allowed, "{judged:?}");
    }
}

#[test]
fn roles_are_certified_by_uri_alone_and_all_of_them_are_understood() {
    use IdentityError::{NoRole, UnknownRole};
    use Role::{Participant, Recorder};
    type Roles = Result<&'static [Role], IdentityError>;
    let table: &[(&[&str], Roles)] = &[
        (&["urn:gst-e2ee:role:participant"], Ok(&[Participant])),
        (&["urn:gst-e2ee:role:recorder"], Ok(&[Recorder])),
        (
            &[
                "urn:gst-e2ee:role:recorder",
                "urn:gst-e2ee:role:participant",
                "urn:gst-e2ee:role:recorder",
            ],
            Ok(&[Participant, Recorder]),
        ),
        (
            &["https://example.org", "urn:gst-e2ee:role:participant"],
            Ok(&[Participant]),
        ),
        (
            &["urn:gst-e2ee2:role:observer", "urn:gst-e2ee:role:participant"],
            Ok(&[Participant]),
        ),
        (&[], Err(NoRole)),
        (&["https://example.org"], Err(NoRole)),
        (&[" urn:gst-e2ee:role:participant"], Err(NoRole)),
        (&["urn:gst-e2ee:role:observer"], Err(UnknownRole)),
        (
            &["urn:gst-e2ee:role:participant", "urn:gst-e2ee:role:observer"],
            Err(UnknownRole),
        ),
        (
            &["urn:gst-e2ee:role:participant", "URN:GST-E2EE:role:recorder"],
            Err(UnknownRole),
        ),
        (
            &["urn:gst-e2ee:role:participant", "urn:gst-e2ee:role:Recorder"],
            Err(UnknownRole),
        ),
        (
            &["urn:gst-e2ee:role:participant", "urn:gst-e2ee:role:recorder "],
            Err(UnknownRole),
        ),
        (
            &["urn:gst-e2ee:role:participant", "urn:gst-e2ee:role:"],
            Err(UnknownRole),
        ),
        (
            &["urn:gst-e2ee:role:participant", "urn:gst-e2ee:"],
            Err(UnknownRole),
        ),
        (&["urn:gst-e2ee:role:participant,recorder"], Err(UnknownRole)),
    ];
    for (uris, expected) in table {
        let mut parameters = endpoint();
        parameters.subject_alt_names.clear();
        for uri in *uris {
            add_uri(&mut parameters, uri);
        }
        let roles = clinic().judge(&parameters).map(|identity| identity.roles);
        assert_eq!(roles, expected.clone().map(<[Role]>::to_vec), "{uris:?}");
    }
    let mut parameters = endpoint();
    let name = "urn:gst-e2ee:role:participant".try_into().unwrap();
    parameters.subject_alt_names = vec![SanType::Rfc822Name(name)];
    assert_eq!(clinic().judge(&parameters), Err(NoRole));
}

#[test]
fn names_are_one_and_can_be_shown() {
    let root = clinic();
    let subject = |name: &str| {
        let mut parameters = endpoint();
        set_name(&mut parameters, name);
        root.judge(&parameters).map(|identity| identity.subject)
    };
    let operator = |name: &str| {
        let mut parameters = endpoint();
        parameters.distinguished_name.push(DnType::OrganizationName, name);
        root.judge(&parameters).map(|identity| identity.operator)
    };
    for good in [
        "a",
        "7f 3a",
        "Zoë",
        "山田太郎",
        "क्षेत्र",
        &"x".repeat(128),
        "a\"\\'b",
    ] {
        assert_eq!(subject(good), Ok(good.to_owned()));
        assert_eq!(operator(good), Ok(Some(good.to_owned())));
    }
    for bad in [
        "",
        " ",
        " a",
        "a ",
        "a\0",
        "a\nb",
        "a\u{7f}",
        "a\u{85}b",
        "a\u{202e}b",
        "a\u{200b}b",
        "\u{feff}a",
        "a\u{e0041}",
        "a\u{2066}b",
        "a\u{a0}b",
        "a\u{fffd}",
        &"x".repeat(129),
    ] {
        assert!(matches!(subject(bad), Err(IdentityError::Subject(_))), "{bad:?}");
        assert!(
            matches!(operator(bad), Err(IdentityError::Operator(_))),
            "{bad:?}"
        );
    }

    let mut nobody = endpoint();
    nobody.distinguished_name = rcgen::DistinguishedName::new();
    nobody
        .distinguished_name
        .push(DnType::OrganizationalUnitName, "7f3a");
    assert!(matches!(root.judge(&nobody), Err(IdentityError::Subject(_))));

    let mut two = endpoint();
    let common_name = DnType::CustomDnType(vec![2, 5, 4, 3]);
    two.distinguished_name.push(common_name, "another");
    assert!(matches!(root.judge(&two), Err(IdentityError::Subject(_))));

    let mut two = endpoint();
    two.distinguished_name.push(DnType::OrganizationName, "one");
    let organisation = DnType::CustomDnType(vec![2, 5, 4, 10]);
    two.distinguished_name.push(organisation, "one");
    assert!(matches!(root.judge(&two), Err(IdentityError::Operator(_))));

    let mut printable = endpoint();
    let text = rcgen::DnValue::PrintableString("7f3a".try_into().unwrap());
    printable.distinguished_name.push(DnType::CommonName, text);
    assert_eq!(root.judge(&printable).unwrap().subject, "7f3a");
    let mut teletex = endpoint();
    let text = rcgen::DnValue::TeletexString("7f3a".try_into().unwrap());
    teletex.distinguished_name.push(DnType::CommonName, text);
    assert!(matches!(root.judge(&teletex), Err(IdentityError::Subject(_))));
}

#[test]
fn the_certified_key_is_a_sound_ed25519_key() {
    struct Raw([u8; 32]);
    impl PublicKeyData for Raw {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_ED25519
        }
    }
    let root = clinic();
    let judge = |leaf: Vec<u8>| verify_chain(&[&leaf, &root.der], &[root.fingerprint()]);
    let refused = Err(IdentityError::KeyType);
    assert_eq!(judge(root.certify(&endpoint(), &p256())), refused);
    // The neutral element and another point of small order: anybody can sign for them.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert_eq!(judge(root.certify(&endpoint(), &Raw(neutral))), refused);
    assert_eq!(judge(root.certify(&endpoint(), &Raw([0; 32]))), refused);
    // No point at all.
    let mut none = [0; 32];
    none[0] = 2;
    assert_eq!(judge(root.certify(&endpoint(), &Raw(none))), refused);
}

#[test]
fn p256_is_for_authorities_only() {
    let root = Ca::root(authority("Clinic"), p256());
    assert_eq!(root.judge(&endpoint()), Err(IdentityError::LeafSignature));
    let ward = root.below(authority("Ward"), key(2));
    let leaf = ward.certify(&endpoint(), &key(9));
    verify_chain(&[&leaf, &ward.der, &root.der], &[root.fingerprint()]).unwrap();
}

/// Why `LeafSignature` is refused: (r, s) and (r, n - s) are both valid signatures of the same certificate.
#[test]
fn a_rewritten_ecdsa_signature_never_changes_an_endpoints_fingerprint() {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let root = Ca::root(authority("Clinic"), p256());
    let ward = root.below(authority("Ward"), key(2));
    let leaf = ward.certify(&endpoint(), &key(9));
    let judge = |ward: &[u8]| verify_chain(&[&leaf[..], ward, &root.der], &[root.fingerprint()]);

    // SEQUENCE, then in it two INTEGERs, the second at the very end of the certificate.
    let certificate = certificate::read(&ward.der).unwrap();
    let signature = certificate.signature().raw_bytes();
    let r_length = usize::from(signature[3]);
    let r = &signature[2..4 + r_length];
    let s = &signature[4 + r_length + 2..];
    let mut s32 = vec![0; 32usize.saturating_sub(s.len())];
    s32.extend_from_slice(&s[s.len().saturating_sub(32)..]);
    let mut other = hex::decode(ORDER).unwrap();
    let mut borrow = 0i16;
    for (digit, s) in other.iter_mut().zip(&s32).rev() {
        let difference = i16::from(*digit) - i16::from(*s) - borrow;
        borrow = i16::from(difference < 0);
        *digit = difference.rem_euclid(256) as u8;
    }
    while other[0] == 0 && other[1] < 0x80 {
        other.remove(0);
    }
    if other[0] >= 0x80 {
        other.insert(0, 0);
    }
    let integer = [&[2, other.len() as u8], &other[..]].concat();
    let inner = [r, &integer].concat();
    let signature = [&[0x30, inner.len() as u8], &inner[..]].concat();
    let bits = [&[3, signature.len() as u8 + 1, 0], &signature[..]].concat();
    let kept = &ward.der[4..ward.der.len() - certificate.signature().raw_bytes().len() - 3];
    let all = [kept, &bits].concat();
    let length = u16::try_from(all.len()).unwrap().to_be_bytes();
    let rewritten = [&[0x30, 0x82], &length[..], &all].concat();

    assert_ne!(rewritten, ward.der);
    assert_eq!(judge(&rewritten).unwrap(), judge(&ward.der).unwrap());
}

#[test]
fn every_certificate_is_needed_and_in_its_place() {
    let root = clinic();
    let region = root.below(authority("Region"), key(2));
    let ward = region.below(authority("Ward"), key(3));
    let leaf = ward.certify(&endpoint(), &key(9));
    let other = Ca::root(authority("Other"), key(4));
    let direct = root.certify(&endpoint(), &key(9));
    let roots = [root.fingerprint()];
    for (chain, refused) in [
        (vec![&direct, &other.der, &root.der], IdentityError::Order),
        (vec![&direct, &region.der, &root.der], IdentityError::Order),
        (vec![&direct, &root.der, &root.der], IdentityError::Order),
        (
            vec![&leaf, &region.der, &ward.der, &root.der],
            IdentityError::Order,
        ),
        (vec![&leaf, &ward.der, &root.der], IdentityError::Signature),
        (vec![&leaf, &region.der, &root.der], IdentityError::Signature),
        (vec![&leaf, &root.der], IdentityError::Signature),
        (vec![&direct, &direct, &root.der], IdentityError::NotAnAuthority),
        (vec![&root.der, &direct], IdentityError::UnknownRoot),
        (vec![&direct], IdentityError::TooFew),
        (vec![&root.der], IdentityError::TooFew),
        (vec![], IdentityError::TooFew),
    ] {
        assert_eq!(verify_chain(&chain, &roots), Err(refused));
    }
}

#[test]
fn chains_are_bounded() {
    let root = clinic();
    let roots = [root.fingerprint()];
    let a = root.below(authority("A"), key(2));
    let b = a.below(authority("B"), key(3));
    let c = b.below(authority("C"), key(4));
    let leaf = c.certify(&endpoint(), &key(9));
    let chain = [&leaf, &c.der, &b.der, &a.der, &root.der];
    assert_eq!(content(&chain), Err(IdentityError::TooMany));
    let five: Vec<u8> = chain.iter().flat_map(|der| content(&[der]).unwrap()).collect();
    assert_eq!(verify(&five, &roots, NOW), Err(IdentityError::TooMany));
    // Empty ones count as well.
    assert_eq!(verify(&[0; 5], &roots, NOW), Err(IdentityError::TooMany));

    assert_eq!(content(&[&[0; MAX_CONTENT]]), Err(IdentityError::TooLong));
    assert_eq!(content(&[[0; 8192], [0; 8192]]), Err(IdentityError::TooLong));
    assert_eq!(content(&[&[0; 100_000]]), Err(IdentityError::TooLong));
    assert_eq!(
        verify(&[0; MAX_CONTENT + 1], &roots, NOW),
        Err(IdentityError::TooLong)
    );
    assert_eq!(
        verify(&[0x40; MAX_CONTENT], &roots, NOW),
        Err(IdentityError::TooMany)
    );
}

#[test]
fn lengths_are_written_in_one_way() {
    // RFC 9420 §2.1.2 and RFC 9000 §A.1.
    assert_eq!(content(&[[7; 0x3f]]).unwrap()[..2], [0x3f, 7]);
    assert_eq!(content(&[[7; 0x40]]).unwrap()[..3], [0x40, 0x40, 7]);
    assert_eq!(content(&[&[7; 15293]]).unwrap()[..3], [0x7b, 0xbd, 7]);
    let ([leaf, ward, root], roots) = three();
    let rest = content(&[ward, root]).unwrap();
    let length = u32::try_from(leaf.len()).unwrap();
    let long = [&(length | 0x8000_0000).to_be_bytes()[..], &leaf, &rest].concat();
    assert_eq!(verify(&long, &roots, NOW), Err(IdentityError::Lengths));
    let longest = [&[0xc0, 0, 0, 0][..], &length.to_be_bytes(), &leaf, &rest].concat();
    assert_eq!(verify(&longest, &roots, NOW), Err(IdentityError::Lengths));
    let short_as_long = [&[0x40, 1, 0][..], &rest].concat();
    assert_eq!(verify(&short_as_long, &roots, NOW), Err(IdentityError::Lengths));
}

#[test]
fn a_cut_or_longer_chain_is_refused() {
    let (chain, roots) = three();
    let whole = content(&chain).unwrap();
    assert!(verify(&whole, &roots, NOW).is_ok());
    for length in 0..whole.len() {
        assert!(verify(&whole[..length], &roots, NOW).is_err());
    }
    for extra in [&[0][..], &[1, 0], &[0xff], &[0x40], &[5; 40]] {
        assert!(verify(&[&whole, extra].concat(), &roots, NOW).is_err());
    }
    // Bytes behind a certificate, within its vector.
    for place in 0..3 {
        let mut chain = chain.clone();
        chain[place].push(0);
        assert!(verify_chain(&chain, &roots).is_err());
    }
}

#[test]
fn a_certificate_is_written_in_one_way() {
    let ([leaf, ward, root], roots) = three();
    let judge =
        |leaf: &[u8]| verify_chain(&[leaf, &ward, &root], &roots).map(|identity| identity.fingerprint);
    assert_eq!(judge(&leaf), Ok(Fingerprint::of(&leaf)));
    assert_eq!(leaf[..2], [0x30, 0x82]);
    // A longer length of the outermost sequence than needed.
    let longer = [&[0x30, 0x83, 0], &leaf[2..]].concat();
    assert!(judge(&longer).is_err());
    let endless = [&[0x30, 0x80], &leaf[4..], &[0, 0]].concat();
    assert!(judge(&endless).is_err());
    // The end is: SEQUENCE { Ed25519 }, BIT STRING, 65 bytes, unused bits, signature.
    let before = leaf.len() - 67;
    assert_eq!(
        leaf[before - 7..before + 3],
        [0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 65, 0]
    );
    let body = |end: &[u8]| {
        let inner = [&leaf[4..before - 7], end].concat();
        let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82][..], &length, &inner].concat()
    };
    let signature = &leaf[before + 3..];
    let algorithm = &leaf[before - 7..before];
    assert_eq!(body(&[algorithm, &[3, 65, 0], signature].concat()), leaf);
    for end in [
        // An outer algorithm with parameters, a longer length, unused bits, a signature with something behind it.
        [
            &[0x30, 7, 6, 3, 0x2b, 0x65, 0x70, 5, 0][..],
            &[3, 65, 0],
            signature,
        ]
        .concat(),
        [algorithm, &[3, 0x81, 65, 0], signature].concat(),
        [algorithm, &[3, 65, 1], signature].concat(),
        [algorithm, &[3, 66, 0], signature, &[0]].concat(),
        [algorithm, &[0x23, 69, 3, 65, 0], signature, &[3, 0]].concat(),
        [algorithm, &[3, 65, 0], signature, &[5, 0]].concat(),
    ] {
        assert!(judge(&body(&end)).is_err());
    }
    // s + L, the same signature to whoever does not look at its range (RFC 8032 §8.4).
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut other = signature.to_vec();
    let mut carry = 0;
    for (digit, add) in other[32..].iter_mut().zip(order) {
        let sum = u16::from(*digit) + u16::from(add) + carry;
        carry = sum >> 8;
        *digit = sum as u8;
    }
    assert_eq!(carry, 0);
    let rewritten = body(&[algorithm, &[3, 65, 0], &other].concat());
    assert_eq!(judge(&rewritten), Err(IdentityError::Signature));
}

#[test]
fn no_single_bit_can_be_turned() {
    let (chain, roots) = three();
    let mut whole = content(&chain).unwrap();
    for place in 0..whole.len() {
        for bit in 0..8 {
            whole[place] ^= 1 << bit;
            assert!(verify(&whole, &roots, NOW).is_err(), "byte {place}, bit {bit}");
            whole[place] ^= 1 << bit;
        }
    }
    // The same within an authority's own bytes, with that authority trusted as it then is: no panic, whatever is read.
    let [leaf, ward, mut root] = chain;
    for place in 0..root.len() {
        for bit in 0..8 {
            root[place] ^= 1 << bit;
            let chain = [&leaf, &ward, &root];
            let _ = verify_chain(&chain, &[Fingerprint::of(&root)]);
            root[place] ^= 1 << bit;
        }
    }
}

#[test]
fn errors_hold_nothing_of_the_certificate() {
    let root = clinic();
    let mut parameters = endpoint();
    set_name(&mut parameters, "secretname\u{202e}");
    let error = root.judge(&parameters).unwrap_err();
    assert!(!error.to_string().contains("secretname"));
    assert!(!format!("{error:?}").contains("secretname"));
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (_, roots) = three();
        prop_assert!(verify(&bytes, &roots, NOW).is_err());
        let _ = describe(&bytes);
    }

    #[test]
    fn any_bytes_before_a_trusted_root_are_refused(
        certificates in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..3),
    ) {
        let ([_, _, root], roots) = three();
        let chain: Vec<_> = certificates.into_iter().chain([root]).collect();
        prop_assert!(verify_chain(&chain, &roots).is_err());
    }

    #[test]
    fn a_chain_with_bytes_changed_moved_or_lost_is_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let (chain, roots) = three();
        let whole = content(&chain).unwrap();
        let mut changed = whole.clone();
        for (place, byte, kind) in changes {
            let place = place.index(changed.len());
            match kind {
                0 => changed[place] = byte,
                1 => changed.insert(place, byte),
                _ => drop(changed.remove(place)),
            }
        }
        let judged = verify(&changed, &roots, NOW);
        prop_assert_eq!(judged.is_ok(), changed == whole);
    }

    #[test]
    fn what_was_written_is_taken_apart(
        certificates in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4000), 0..=4),
    ) {
        let bytes = content(&certificates).unwrap();
        let judged = super::super::chain::certificates(&bytes).unwrap();
        prop_assert_eq!(judged, certificates.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
}
