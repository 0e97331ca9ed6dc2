//! What a certificate may and may not be, tried with certificates that are made for it.

mod chain;
mod issue;
mod own;

use rcgen::{CertificateParams, DnType, KeyPair, KeyUsagePurpose, PublicKeyData, SanType};
use std::time::Duration;

use super::issue::{Authority, Subject, Validity};
use super::*;

/// The time at which most of it happens.
const NOW: u64 = 1_800_000_000;
const VALID: Validity = Validity {
    from: NOW - 1000,
    until: NOW + 1000,
};

fn key(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(&[seed; 32])
}

/// An authority that certifies anything.
struct Ca<K> {
    parameters: CertificateParams,
    key: K,
    der: Vec<u8>,
}

/// Parameters of an authority.
fn authority(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    set_name(&mut parameters, name);
    set_validity(&mut parameters, VALID);
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters
}

/// Parameters of an endpoint's certificate that is as it should be.
fn endpoint() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    set_name(&mut parameters, "7f3a");
    set_validity(&mut parameters, VALID);
    add_uri(&mut parameters, "urn:gst-e2ee:role:participant");
    parameters
}

fn set_name(parameters: &mut CertificateParams, name: &str) {
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
}

fn set_validity(parameters: &mut CertificateParams, validity: Validity) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + Duration::from_secs(validity.from);
    parameters.not_after = epoch + Duration::from_secs(validity.until);
}

fn add_uri(parameters: &mut CertificateParams, uri: &str) {
    let uri = uri.try_into().unwrap();
    parameters.subject_alt_names.push(SanType::URI(uri));
}

impl<K: rcgen::SigningKey> Ca<K> {
    fn root(parameters: CertificateParams, key: K) -> Self {
        let der = parameters.self_signed(&key).unwrap().der().to_vec();
        Self { parameters, key, der }
    }

    fn below<L: rcgen::SigningKey>(&self, parameters: CertificateParams, key: L) -> Ca<L> {
        let der = self.certify(&parameters, &key);
        Ca { parameters, key, der }
    }

    fn certify(&self, parameters: &CertificateParams, key: &impl PublicKeyData) -> Vec<u8> {
        let issuer = rcgen::Issuer::from_params(&self.parameters, &self.key);
        parameters.signed_by(key, &issuer).unwrap().der().to_vec()
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// Verifies one endpoint's certificate of this root.
    fn judge(&self, parameters: &CertificateParams) -> Result<Identity, IdentityError> {
        let leaf = self.certify(parameters, &key(9));
        verify(&content(&[&leaf, &self.der]).unwrap(), &[self.fingerprint()], NOW)
    }
}

fn clinic() -> Ca<IdentityKey> {
    Ca::root(authority("Clinic"), key(1))
}

fn p256() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

#[test]
fn fingerprints_are_the_sha256_in_lower_case_hex() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let fingerprint = Fingerprint::of(b"");
    assert_eq!(fingerprint.to_string(), empty);
    assert_eq!(format!("{fingerprint:?}"), empty);
    assert_eq!(
        serde_json::to_string(&fingerprint).unwrap(),
        format!("\"{empty}\"")
    );
    let read: Fingerprint = serde_json::from_str(&format!("\"{empty}\"")).unwrap();
    assert_eq!(read, fingerprint);
    // As openssl prints it.
    let upper = empty.to_uppercase();
    let pairs: Vec<_> = upper
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap())
        .collect();
    assert_eq!(pairs.join(":").parse(), Ok(fingerprint));
    for wrong in [
        "",
        "e3b0",
        &empty[1..],
        &format!("{empty}0"),
        &empty.replace('e', "g"),
        &pairs.join(" "),
        &"é".repeat(32),
        &format!("{}é", &pairs.join(":")[..93]),
    ] {
        assert_eq!(wrong.parse::<Fingerprint>(), Err(NotAFingerprint), "{wrong}");
    }
}

#[test]
fn roles_are_words_everywhere() {
    for (role, word) in [(Role::Participant, "participant"), (Role::Recorder, "recorder")] {
        assert_eq!(role.to_string(), word);
        assert_eq!(word.parse(), Ok(role));
        assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{word}\""));
        assert_eq!(role.uri(), format!("urn:gst-e2ee:role:{word}"));
    }
    assert_eq!("Recorder".parse::<Role>(), Err(UnknownRole));
}

#[test]
fn an_identity_is_its_root_and_subject() {
    let ca = clinic();
    let first = ca.judge(&endpoint()).unwrap();
    let mut renewed = endpoint();
    add_uri(&mut renewed, "urn:gst-e2ee:role:recorder");
    let renewed = ca.judge(&renewed).unwrap();
    assert!(first.same_as(&renewed) && first.fingerprint != renewed.fingerprint);
    let elsewhere = Ca::root(authority("Clinic"), key(2)).judge(&endpoint()).unwrap();
    assert!(!first.same_as(&elsewhere));
    assert!(first.is_participant() && !first.is_recorder() && !first.only_recorder());
    assert!(renewed.is_participant() && renewed.is_recorder() && !renewed.only_recorder());
    let recorder = Identity {
        roles: vec![Role::Recorder],
        ..first
    };
    assert!(recorder.only_recorder());
}
