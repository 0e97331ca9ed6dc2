//! A certificate authority for small deployments and tests, and the identities that it issues.
//!
//! The same request makes the same certificate (keys apart), so that a seeded test is repeated exactly.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use x509_cert::Certificate;
use x509_cert::der::pem::{LineEnding, encode_string};
use x509_cert::der::{DecodePem, Encode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectKeyIdentifier;
use x509_cert::name::Name;
use x509_cert::request::CertReq;

use super::certificate::{ED25519, check_authority, is_plain, read, validity};
use super::{Fingerprint, Identity, IdentityError, IdentityKey, KeyError, Role, chain};

/// Seconds by which a certificate is older than its making, because clocks differ.
pub const BACKDATE: u64 = 3600;

/// Seconds of a day.
pub const DAY: u64 = 86_400;

/// Why nothing was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// A name.
    #[error("the {0} must be 1 to 128 bytes of printable text")]
    Name(&'static str),
    /// No role.
    #[error("an identity needs a role: participant, recorder, or both")]
    NoRole,
    /// A validity that is none.
    #[error("the certificate would end before it begins, or after the year 9999")]
    Validity,
    /// The authority's key or certificate.
    #[error("this is no authority that can issue: {0}")]
    Authority(&'static str),
    /// The request of somebody for a certificate.
    #[error("the request cannot be taken: {0}")]
    Request(&'static str),
    /// What was made does not verify.
    #[error("the certificate that was made would be refused: {0}")]
    Unusable(#[from] IdentityError),
    /// The key.
    #[error("the private key {0}")]
    Key(#[from] KeyError),
    /// The library.
    #[error("the certificate cannot be written: {0}")]
    Encoding(String),
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self::Encoding(error.to_string())
    }
}

/// From when until when a certificate is valid, both inclusive, unix time in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub from: u64,
    /// Last second.
    pub until: u64,
}

impl Validity {
    /// So many days from `now` on, [`BACKDATE`] included.
    pub fn days(now: u64, days: u32) -> Self {
        Self {
            from: now.saturating_sub(BACKDATE),
            until: now.saturating_add(u64::from(days) * DAY),
        }
    }

    fn check(self) -> Result<Self, IssueError> {
        // The last second of the year 9999, which X.509 reserves for "never", is left out.
        if self.from <= self.until && self.until < 253_402_300_799 {
            Ok(self)
        } else {
            Err(IssueError::Validity)
        }
    }
}

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Opaque subject id; it is seen by whoever carries the room's messages.
    pub id: String,
    /// Organisation that operates the endpoint.
    pub operator: Option<String>,
    /// What it may be.
    pub roles: Vec<Role>,
}

/// A subject id that says nothing: 20 hex digits.
pub fn random_id() -> Result<String, IssueError> {
    let mut bytes = [0; 10];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| KeyError::Random)?;
    Ok(hex::encode(bytes))
}

/// An authority: its key and its certificates, own one first, root last (both are one for a root).
#[derive(Debug)]
pub struct Authority {
    key: IdentityKey,
    certificates: Vec<Vec<u8>>,
    parameters: rcgen::CertificateParams,
    validity: Validity,
}

impl Authority {
    /// Makes a root authority.
    pub fn root(name: &str, key: IdentityKey, validity: Validity) -> Result<Self, IssueError> {
        let parameters = authority_parameters(name, &key, validity)?;
        let certificate = parameters.self_signed(&key)?.der().to_vec();
        Self::new(vec![certificate], key)
    }

    /// Makes an authority below this one.
    pub fn intermediate(&self, name: &str, key: IdentityKey, validity: Validity) -> Result<Self, IssueError> {
        let parameters = authority_parameters(name, &key, self.within(validity)?)?;
        let certificate = parameters.signed_by(&key, &self.issuer())?.der().to_vec();
        let certificates = [&[certificate], &self.certificates[..]].concat();
        Self::new(certificates, key)
    }

    /// Takes up an authority: its certificate (DER) first, its issuers behind it, the root last.
    pub fn new(certificates: Vec<Vec<u8>>, key: IdentityKey) -> Result<Self, IssueError> {
        let own = certificates
            .first()
            .and_then(|der| read(der))
            .ok_or(IssueError::Authority("its certificate cannot be read"))?;
        check_authority(&own, 0)
            .map_err(|_| IssueError::Authority("its certificate is not an authority's"))?;
        let certified = own.tbs_certificate().subject_public_key_info();
        if certified.algorithm.oid != ED25519 || certified.subject_public_key.raw_bytes() != key.public() {
            return Err(IssueError::Authority(
                "its certificate was issued for another key",
            ));
        }
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = repeat_name(own.tbs_certificate().subject()).ok_or(
            IssueError::Authority("its name has a form that cannot be repeated here"),
        )?;
        if let Some(id) = key_identifier(&own) {
            parameters.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(id);
        }
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let (from, until) = validity(&own);
        Ok(Self {
            key,
            certificates,
            parameters,
            validity: Validity { from, until },
        })
    }

    /// The authority's own certificate and its issuers' (DER), root last.
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// The root's certificate (DER).
    pub fn root_certificate(&self) -> &[u8] {
        self.certificates.last().map(Vec::as_slice).unwrap_or_default()
    }

    /// The root's fingerprint: what a policy names.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.root_certificate())
    }

    /// The authority's private key.
    pub fn key(&self) -> &IdentityKey {
        &self.key
    }

    /// Issues a certificate for a public key. It does not outlive the authority. Gives the whole chain (DER),
    /// endpoint first, root last, and the identity as every member of a room will read it.
    pub fn issue(
        &self,
        public_key: &[u8; 32],
        subject: &Subject,
        validity: Validity,
    ) -> Result<(Vec<Vec<u8>>, Identity), IssueError> {
        if subject.roles.is_empty() {
            return Err(IssueError::NoRole);
        }
        let validity = self.within(validity)?;
        let mut parameters = parameters(&subject.id, "subject id", validity)?;
        if let Some(operator) = &subject.operator {
            if !is_plain(operator) {
                return Err(IssueError::Name("operator"));
            }
            let name = &mut parameters.distinguished_name;
            name.push(rcgen::DnType::OrganizationName, operator.as_str());
        }
        let mut roles = subject.roles.clone();
        roles.sort_unstable();
        roles.dedup();
        for role in roles {
            let uri = role.uri().try_into()?;
            parameters.subject_alt_names.push(rcgen::SanType::URI(uri));
        }
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        parameters.serial_number = Some(serial_number(&parameters, public_key));

        let certificate = parameters.signed_by(&Certified(public_key), &self.issuer())?;
        let certificates = [&[certificate.der().to_vec()], &self.certificates[..]].concat();
        let content = chain::content(&certificates)?;
        let identity = chain::verify(&content, &[self.fingerprint()], validity.from)?;
        Ok((certificates, identity))
    }

    fn issuer(&self) -> rcgen::Issuer<'_, &IdentityKey> {
        rcgen::Issuer::from_params(&self.parameters, &self.key)
    }

    /// The part of a validity that lies within the authority's own.
    fn within(&self, validity: Validity) -> Result<Validity, IssueError> {
        Validity {
            from: validity.from.max(self.validity.from),
            until: validity.until.min(self.validity.until),
        }
        .check()
    }
}

/// A public key as rcgen takes it.
struct Certified<'a>(&'a [u8; 32]);

impl rcgen::PublicKeyData for Certified<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

fn parameters(
    name: &str,
    what: &'static str,
    validity: Validity,
) -> Result<rcgen::CertificateParams, IssueError> {
    let validity = validity.check()?;
    if !is_plain(name) {
        return Err(IssueError::Name(what));
    }
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    let common_name = rcgen::DnType::CommonName;
    parameters.distinguished_name.push(common_name, name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + Duration::from_secs(validity.from);
    parameters.not_after = epoch + Duration::from_secs(validity.until);
    Ok(parameters)
}

fn authority_parameters(
    name: &str,
    key: &IdentityKey,
    validity: Validity,
) -> Result<rcgen::CertificateParams, IssueError> {
    let mut parameters = parameters(name, "name", validity)?;
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        rcgen::KeyUsagePurpose::KeyCertSign,
        rcgen::KeyUsagePurpose::CrlSign,
    ];
    parameters.serial_number = Some(serial_number(&parameters, key.public()));
    Ok(parameters)
}

/// A serial number that differs where anything in the certificate does.
fn serial_number(parameters: &rcgen::CertificateParams, public_key: &[u8; 32]) -> rcgen::SerialNumber {
    let mut names = String::new();
    for (_, value) in parameters.distinguished_name.iter() {
        names.push_str(&format!("{value:?}"));
    }
    let text = format!(
        "{names}{:?}{}{}{}",
        parameters.subject_alt_names,
        parameters.not_before.unix_timestamp(),
        parameters.not_after.unix_timestamp(),
        hex::encode(public_key)
    );
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    // RFC 5280 §4.1.2.2: positive, at most 20 bytes.
    let mut number = digest.as_ref().get(..16).unwrap_or_default().to_vec();
    if let Some(first) = number.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    number.into()
}

/// An authority's name as rcgen writes it; `None` where that would not be the same bytes.
fn repeat_name(name: &Name) -> Option<rcgen::DistinguishedName> {
    let mut repeated = rcgen::DistinguishedName::new();
    for part in name.iter_rdn() {
        let [part] = part.as_ref().as_slice() else {
            return None;
        };
        let arcs: Vec<u64> = part.oid.arcs().map(u64::from).collect();
        let kind = rcgen::DnType::from_oid(&arcs);
        let text = String::from_utf8(part.value.value().to_vec()).ok()?;
        let value = match part.value.tag() {
            Tag::Utf8String => rcgen::DnValue::Utf8String(text),
            Tag::PrintableString => rcgen::DnValue::PrintableString(text.try_into().ok()?),
            Tag::Ia5String => rcgen::DnValue::Ia5String(text.try_into().ok()?),
            _ => return None,
        };
        if repeated.get(&kind).is_some() {
            return None;
        }
        repeated.push(kind, value);
    }
    Some(repeated)
}

fn key_identifier(certificate: &Certificate) -> Option<Vec<u8>> {
    let (_, id) = certificate
        .tbs_certificate()
        .get_extension::<SubjectKeyIdentifier>()
        .ok()??;
    Some(id.0.as_bytes().to_vec())
}

/// A certificate in PEM.
pub fn certificate_pem(der: &[u8]) -> Result<String, IssueError> {
    encode_string("CERTIFICATE", LineEnding::LF, der).map_err(|_| IssueError::Encoding("too long".to_owned()))
}

/// Certificates in PEM, one after the other.
pub fn chain_pem(certificates: &[Vec<u8>]) -> Result<String, IssueError> {
    certificates.iter().map(|der| certificate_pem(der)).collect()
}

/// A request (PKCS#10, PEM) by the holder of a key for a certificate. It names nobody: who that is and what it may be
/// is for the authority to say.
pub fn request_pem(key: &IdentityKey) -> Result<String, IssueError> {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    Ok(parameters.serialize_request(key)?.pem()?)
}

/// The public key of a request (PKCS#10, PEM), whose holder has proven by its signature that the key is its own.
/// Whatever else the request asks for is left aside.
pub fn requested_key(pem: &str) -> Result<[u8; 32], IssueError> {
    let request = CertReq::from_pem(pem)
        .map_err(|_| IssueError::Request("it is not PKCS#10 in PEM (BEGIN CERTIFICATE REQUEST)"))?;
    let info = &request.info;
    if info.public_key.algorithm.oid != ED25519 || request.algorithm.oid != ED25519 {
        return Err(IssueError::Request("its key is not Ed25519"));
    }
    let unreadable = |_| IssueError::Request("it is malformed");
    let key = info.public_key.subject_public_key.raw_bytes();
    let signed = info.to_der().map_err(unreadable)?;
    ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key)
        .verify(&signed, request.signature.raw_bytes())
        .map_err(|_| IssueError::Request("its signature does not verify"))?;
    key.try_into()
        .map_err(|_| IssueError::Request("its key is not Ed25519"))
}
