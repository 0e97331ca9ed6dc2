//! A credential's certificates (RFC 9420 §5.3) and their verification (RFC 5280 §6).
//!
//! The content of an X.509 credential is a row of `cert_data<V>` vectors: the endpoint's certificate, its issuers, and
//! the root, which is part of it, so that the group's state and a commit's bytes are enough to verify by. All of this
//! comes from outside.

use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::{Fingerprint, Identity, IdentityError, certificate};

/// Most certificates of a chain, the root included.
pub const MAX_CERTIFICATES: usize = 4;

/// Longest content of a credential, in bytes.
pub const MAX_CONTENT: usize = 16 << 10;

/// What an authority may sign with. Endpoints' certificates are held to Ed25519 alone by `certificate::endpoint`.
static ALGORITHMS: &[&dyn rustls_pki_types::SignatureVerificationAlgorithm] = &[
    webpki::ring::ED25519,
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P256_SHA384,
    webpki::ring::ECDSA_P384_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
];

/// The content of a credential from its certificates in DER: endpoint first, root last.
pub fn content<C: AsRef<[u8]>>(certificates: &[C]) -> Result<Vec<u8>, IdentityError> {
    if certificates.len() > MAX_CERTIFICATES {
        return Err(IdentityError::TooMany);
    }
    let mut content = Vec::new();
    for certificate in certificates {
        let certificate = certificate.as_ref();
        // RFC 9420 §2.1.2: two bits tell the length of the length.
        match u16::try_from(certificate.len()) {
            Ok(length @ 0..=0x3f) => content.extend_from_slice(&length.to_be_bytes()[1..]),
            Ok(length @ 0x40..=0x3fff) => content.extend_from_slice(&(length | 0x4000).to_be_bytes()),
            _ => return Err(IdentityError::TooLong),
        }
        content.extend_from_slice(certificate);
    }
    if content.len() > MAX_CONTENT {
        return Err(IdentityError::TooLong);
    }
    Ok(content)
}

/// The certificates, in DER, of a list of which each entry is one certificate in PEM.
pub fn from_pem<T: AsRef<str>>(list: &[T]) -> Result<Vec<Vec<u8>>, IdentityError> {
    if list.len() > MAX_CERTIFICATES {
        return Err(IdentityError::TooMany);
    }
    let certificate = |(place, pem): (usize, &T)| {
        let mut found = CertificateDer::pem_slice_iter(pem.as_ref().as_bytes());
        match (found.next(), found.next()) {
            (Some(Ok(der)), None) => Ok(der.as_ref().to_vec()),
            _ => Err(IdentityError::Unreadable(place + 1)),
        }
    };
    list.iter().enumerate().map(certificate).collect()
}

/// The certificates of a credential's content, in DER: endpoint first, root last.
pub fn certificates(content: &[u8]) -> Result<Vec<&[u8]>, IdentityError> {
    if content.len() > MAX_CONTENT {
        return Err(IdentityError::TooLong);
    }
    let mut certificates = Vec::with_capacity(MAX_CERTIFICATES);
    let mut rest = content;
    while !rest.is_empty() {
        if certificates.len() == MAX_CERTIFICATES {
            return Err(IdentityError::TooMany);
        }
        let (length, after) = length(rest).ok_or(IdentityError::Lengths)?;
        let (certificate, after) = after.split_at_checked(length).ok_or(IdentityError::Lengths)?;
        certificates.push(certificate);
        rest = after;
    }
    Ok(certificates)
}

/// A vector's length (RFC 9420 §2.1.2); one that is written longer than needed is refused, as there.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [a @ 0..=0x3f, rest @ ..] => Some((usize::from(*a), rest)),
        [a @ 0x40..=0x7f, b, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([a & 0x3f, *b]));
            (length > 0x3f).then_some((length, rest))
        }
        // Longer ones are beyond `MAX_CONTENT`.
        _ => None,
    }
}

/// Verifies a credential: the way of signatures from the endpoint's certificate to one of `roots`, all of its
/// certificates valid at `at` (unix time in seconds), and reads the identity.
///
/// The root, too, must be valid and an authority: an expired CA is at its end, whoever still trusts it.
pub fn verify(content: &[u8], roots: &[Fingerprint], at: u64) -> Result<Identity, IdentityError> {
    let chain = certificates(content)?;
    let [leaf, intermediates @ .., root] = &chain[..] else {
        return Err(IdentityError::TooFew);
    };
    let root_fingerprint = Fingerprint::of(root);
    if !roots.contains(&root_fingerprint) {
        return Err(IdentityError::UnknownRoot);
    }

    let read = |place: usize| {
        let der = chain.get(place).copied().unwrap_or_default();
        certificate::read(der).ok_or(IdentityError::Unreadable(place + 1))
    };
    let leaf_certificate = read(0)?;
    for place in 1..chain.len() {
        let issuer = read(place)?;
        certificate::check_authority(&issuer, place - 1)?;
        let (not_before, not_after) = certificate::validity(&issuer);
        if at < not_before {
            return Err(IdentityError::NotYetValid);
        }
        if at > not_after {
            return Err(IdentityError::Expired);
        }
    }

    verify_signatures(leaf, intermediates, root, at)?;

    let endpoint = certificate::endpoint(&leaf_certificate)?;
    let (not_before, not_after) = certificate::validity(&leaf_certificate);
    Ok(Identity {
        subject: endpoint.subject,
        operator: endpoint.operator,
        roles: endpoint.roles,
        fingerprint: Fingerprint::of(leaf),
        root: root_fingerprint,
        public_key: endpoint.public_key,
        not_before,
        not_after,
    })
}

fn verify_signatures(
    leaf: &[u8],
    intermediates: &[&[u8]],
    root: &[u8],
    at: u64,
) -> Result<(), IdentityError> {
    let leaf = CertificateDer::from(leaf);
    let intermediates: Vec<_> = intermediates
        .iter()
        .map(|der| CertificateDer::from(*der))
        .collect();
    let root = CertificateDer::from(root);

    let endpoint = EndEntityCert::try_from(&leaf).map_err(refused)?;
    let anchor = [webpki::anchor_from_trusted_cert(&root).map_err(refused)?];
    // Certificates need no extended key usage; where one or its authority is held to usages, being a client is one.
    let usage = KeyUsage::client_auth();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
    let path = endpoint
        .verify_for_usage(ALGORITHMS, &anchor, &intermediates, time, usage, None, None)
        .map_err(refused)?;

    // webpki looks for a way through a heap of certificates; here each is on that way, in its order, so that nobody
    // makes the others carry bytes that nothing vouches for.
    let way = path
        .intermediate_certificates()
        .map(|certificate| certificate.der());
    if way.eq(intermediates.iter().cloned()) {
        Ok(())
    } else {
        Err(IdentityError::Order)
    }
}

/// webpki's errors in words, without what they hold of the certificate.
fn refused(error: webpki::Error) -> IdentityError {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => IdentityError::Expired,
        E::CertNotValidYet { .. } => IdentityError::NotYetValid,
        E::CaUsedAsEndEntity => IdentityError::AuthorityAsEndpoint,
        E::EndEntityUsedAsCa => IdentityError::NotAnAuthority,
        E::InvalidSignatureForPublicKey | E::UnknownIssuer => IdentityError::Signature,
        E::PathLenConstraintViolated => IdentityError::PathLength,
        E::NameConstraintViolation => {
            IdentityError::Chain("a name is outside what its authority may certify")
        }
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => {
            IdentityError::Chain("its extended key usages do not contain client authentication")
        }
        E::UnsupportedCriticalExtension => IdentityError::Chain("a critical extension is not understood"),
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | E::SignatureAlgorithmMismatch => {
            IdentityError::Chain("a signature is neither Ed25519 nor ECDSA with P-256 or P-384")
        }
        E::InvalidCertValidity => IdentityError::Chain("a certificate ends before it begins"),
        _ => IdentityError::Chain("a certificate is malformed"),
    }
}
