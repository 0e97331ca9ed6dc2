//! What one certificate says about its holder. Nothing is verified here; [`chain`](super::chain) does that first.

use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

use super::{Fingerprint, IdentityError, Role};

/// What stands before a role's word.
pub const ROLE_PREFIX: &str = "urn:gst-e2ee:role:";

/// All URIs below this are ours to understand.
const PREFIX: &str = "urn:gst-e2ee:";

/// Ed25519, as key and as signature (RFC 8410 §3).
pub const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANISATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// Longest subject id and operator, in bytes.
const MAX_NAME: usize = 128;

/// What an endpoint's certificate says.
pub(super) struct Endpoint {
    pub subject: String,
    pub operator: Option<String>,
    pub roles: Vec<Role>,
    pub public_key: [u8; 32],
}

/// Reads a certificate; bytes after it are refused.
pub fn read(der: &[u8]) -> Option<Certificate> {
    Certificate::from_der(der).ok()
}

/// Unix times in seconds from which and until which a certificate is valid.
pub fn validity(certificate: &Certificate) -> (u64, u64) {
    let validity = certificate.tbs_certificate().validity();
    (
        validity.not_before.to_unix_duration().as_secs(),
        validity.not_after.to_unix_duration().as_secs(),
    )
}

/// May the holder issue certificates, with `below` authorities between it and the endpoint (RFC 5280 §6.1.4 k to n)?
///
/// webpki does not look at key usages, and of a root at nothing but its name and key.
pub fn check_authority(certificate: &Certificate, below: usize) -> Result<(), IdentityError> {
    let tbs = certificate.tbs_certificate();
    let constraints = tbs
        .get_extension::<BasicConstraints>()
        .map_err(|_| IdentityError::NotAnAuthority)?;
    let usage = tbs
        .get_extension::<KeyUsage>()
        .map_err(|_| IdentityError::NotAnAuthority)?;
    let constraints = constraints.map(|(_, constraints)| constraints);
    if !constraints.as_ref().is_some_and(|constraints| constraints.ca)
        || usage.is_some_and(|(_, usage)| !usage.key_cert_sign())
    {
        return Err(IdentityError::NotAnAuthority);
    }
    match constraints.and_then(|constraints| constraints.path_len_constraint) {
        Some(most) if usize::from(most) < below => Err(IdentityError::PathLength),
        _ => Ok(()),
    }
}

/// Reads what makes an endpoint's identity.
pub(super) fn endpoint(certificate: &Certificate) -> Result<Endpoint, IdentityError> {
    let usage = certificate
        .tbs_certificate()
        .get_extension::<KeyUsage>()
        .map_err(|_| IdentityError::Unreadable(1))?;
    if usage.is_some_and(|(_, usage)| !usage.digital_signature()) {
        return Err(IdentityError::Chain(
            "the endpoint's key must not be used for signatures",
        ));
    }
    if certificate.signature_algorithm().oid != ED25519 {
        return Err(IdentityError::LeafSignature);
    }
    Ok(Endpoint {
        subject: subject(certificate)?,
        operator: operator(certificate)?,
        roles: roles(certificate)?,
        public_key: public_key(certificate)?,
    })
}

fn subject(certificate: &Certificate) -> Result<String, IdentityError> {
    match names(certificate, COMMON_NAME).as_deref() {
        Some([name]) if is_plain(name) => Ok(name.clone()),
        Some([]) => Err(IdentityError::Subject("has no subject id (common name)")),
        Some([_, _, ..]) => Err(IdentityError::Subject(
            "has more than one subject id (common name)",
        )),
        _ => Err(IdentityError::Subject(
            "has a subject id (common name) that is not 1 to 128 bytes of printable UTF-8",
        )),
    }
}

fn operator(certificate: &Certificate) -> Result<Option<String>, IdentityError> {
    match names(certificate, ORGANISATION).as_deref() {
        Some([]) => Ok(None),
        Some([name]) if is_plain(name) => Ok(Some(name.clone())),
        Some([_, _, ..]) => Err(IdentityError::Operator(
            "has more than one operator (organisation)",
        )),
        _ => Err(IdentityError::Operator(
            "has an operator (organisation) that is not 1 to 128 bytes of printable UTF-8",
        )),
    }
}

/// All values of one attribute of the subject; `None` where one is in an old character set.
fn names(certificate: &Certificate, attribute: ObjectIdentifier) -> Option<Vec<String>> {
    certificate
        .tbs_certificate()
        .subject()
        .iter()
        .filter(|part| part.oid == attribute)
        .map(|part| match part.value.tag() {
            Tag::Utf8String | Tag::PrintableString => String::from_utf8(part.value.value().to_vec()).ok(),
            _ => None,
        })
        .collect()
}

/// Text that people can be shown: no control characters, nothing that turns the direction of writing or is invisible,
/// no spaces but the one of the keyboard, and that one not at the ends.
///
/// The list is fixed, because the tables of another Unicode version would make members of one room decide differently.
pub fn is_plain(text: &str) -> bool {
    let forbidden = |c: char| {
        c.is_control()
            || matches!(c,
                '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{1680}'
                | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}'
                | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}'
                | '\u{e0000}'..='\u{e0fff}')
    };
    (1..=MAX_NAME).contains(&text.len())
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && !text.contains(forbidden)
}

fn roles(certificate: &Certificate) -> Result<Vec<Role>, IdentityError> {
    let names = certificate
        .tbs_certificate()
        .get_extension::<SubjectAltName>()
        .map_err(|_| IdentityError::Unreadable(1))?
        .map(|(_, names)| names.0)
        .unwrap_or_default();
    let mut roles = Vec::new();
    for name in &names {
        let GeneralName::UniformResourceIdentifier(uri) = name else {
            continue;
        };
        let uri = uri.as_str();
        // Whoever issued `URN:GST-E2EE:role:recorder` meant something: to pass over it could hide a recorder.
        let ours = uri
            .get(..PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
        if ours {
            let role = uri.strip_prefix(ROLE_PREFIX).and_then(|word| word.parse().ok());
            roles.push(role.ok_or(IdentityError::UnknownRole)?);
        }
    }
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() {
        return Err(IdentityError::NoRole);
    }
    Ok(roles)
}

fn public_key(certificate: &Certificate) -> Result<[u8; 32], IdentityError> {
    let info = certificate.tbs_certificate().subject_public_key_info();
    if info.algorithm.oid != ED25519 || info.algorithm.parameters.is_some() {
        return Err(IdentityError::KeyType);
    }
    let key = info
        .subject_public_key
        .as_bytes()
        .and_then(|bytes| bytes.try_into().ok());
    // A key of small order verifies signatures that anybody can make.
    key.filter(|key| ed25519_dalek::VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak()))
        .ok_or(IdentityError::KeyType)
}

/// What a certificate says, read without any verification, to be shown to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// Common name, where there is one that can be shown.
    pub name: Option<String>,
    /// Organisation, where there is one that can be shown.
    pub operator: Option<String>,
    /// The roles that it names; none where there is none or an unknown one.
    pub roles: Vec<Role>,
    /// Is it an authority's?
    pub authority: bool,
    /// Unix time in seconds from which it is valid.
    pub not_before: u64,
    /// Unix time in seconds until which it is valid.
    pub not_after: u64,
}

/// Reads one certificate without verifying it.
pub fn describe(der: &[u8]) -> Result<Facts, IdentityError> {
    let certificate = read(der).ok_or(IdentityError::Unreadable(1))?;
    let (not_before, not_after) = validity(&certificate);
    Ok(Facts {
        fingerprint: Fingerprint::of(der),
        name: subject(&certificate).ok(),
        operator: operator(&certificate).ok().flatten(),
        roles: roles(&certificate).unwrap_or_default(),
        authority: check_authority(&certificate, 0).is_ok(),
        not_before,
        not_after,
    })
}
