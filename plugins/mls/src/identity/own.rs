//! This endpoint's own identity: certificate, private key, and the authorities that it trusts.

use std::path::Path;

use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;

use super::issue::{self, IssueError};
use super::pem::{LoadError, read_certificates, read_key};
use super::{Fingerprint, Identity, IdentityError, IdentityKey, chain};

/// What an endpoint is in a room, and the key that it signs with.
pub struct OwnIdentity {
    key: IdentityKey,
    content: Vec<u8>,
    identity: Identity,
    roots: Vec<Fingerprint>,
}

impl OwnIdentity {
    /// Loads an identity from PEM files: `certificate` with the endpoint's certificate and, where there are any, its
    /// issuers below the root; `private_key` in PKCS#8; `ca` with one or more roots. `at`: unix time in seconds at
    /// which the certificates must be valid.
    pub fn load(certificate: &Path, private_key: &Path, ca: &Path, at: u64) -> Result<Self, LoadError> {
        Self::new(
            read_certificates(certificate)?,
            read_key(private_key)?,
            &read_certificates(ca)?,
            at,
        )
    }

    /// Makes an identity from certificates in DER: `chain` is the endpoint's, then its issuers; the root may be
    /// missing. It is one of `roots`.
    pub fn new(chain: Vec<Vec<u8>>, key: IdentityKey, roots: &[Vec<u8>], at: u64) -> Result<Self, LoadError> {
        let (content, identity) = complete(&chain, roots, at)?;
        if identity.public_key != *key.public() {
            return Err(LoadError::NoPair);
        }
        let mut roots: Vec<_> = roots.iter().map(|root| Fingerprint::of(root)).collect();
        roots.sort_unstable();
        roots.dedup();
        Ok(Self {
            key,
            content,
            identity,
            roots,
        })
    }

    /// The content of the MLS credential: all certificates, the root included.
    pub fn credential_content(&self) -> &[u8] {
        &self.content
    }

    /// The same certificates, each in PEM: the endpoint's first, the root last.
    pub fn certificates_pem(&self) -> Result<Vec<String>, IssueError> {
        let certificates = chain::certificates(&self.content)
            .map_err(|_| IssueError::Encoding("the own chain cannot be taken apart".to_owned()))?;
        certificates.into_iter().map(issue::certificate_pem).collect()
    }

    /// Who this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The roots that this endpoint trusts, sorted.
    pub fn roots(&self) -> &[Fingerprint] {
        &self.roots
    }

    /// Signs. What is signed must begin with a label of its own purpose.
    pub fn sign(&self, data: &[u8]) -> [u8; 64] {
        self.key.sign(data)
    }
}

impl std::fmt::Debug for OwnIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnIdentity")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Verifies a chain (DER, the endpoint's certificate first) as it is, or with one of the roots behind it. Gives the content
/// of its MLS credential, and who it is.
pub fn complete(chain: &[Vec<u8>], roots: &[Vec<u8>], at: u64) -> Result<(Vec<u8>, Identity), IdentityError> {
    let trusted: Vec<_> = roots.iter().map(|root| Fingerprint::of(root)).collect();
    if chain
        .last()
        .is_some_and(|last| trusted.contains(&Fingerprint::of(last)))
    {
        let content = chain::content(chain)?;
        let identity = chain::verify(&content, &trusted, at)?;
        return Ok((content, identity));
    }
    let mut refused = IdentityError::UnknownRoot;
    for root in roots {
        let chain: Vec<&[u8]> = chain.iter().chain([root]).map(Vec::as_slice).collect();
        let content = chain::content(&chain)?;
        match chain::verify(&content, &trusted, at) {
            Ok(identity) => return Ok((content, identity)),
            // A root that did not issue it says nothing about the certificate.
            Err(IdentityError::Signature) => {}
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

impl Signer for OwnIdentity {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.key.sign(payload).to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
