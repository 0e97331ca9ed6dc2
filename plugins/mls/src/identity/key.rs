//! An identity's private key: Ed25519, wiped from memory when it is dropped, never printed.

use ed25519_dalek::{Signer as _, SigningKey};
use ring::rand::{SecureRandom, SystemRandom};
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{SecretDocument, pem};
use zeroize::Zeroizing;

/// What stands in PKCS#8 (RFC 8410 §7) between the outer length and the 32 bytes of the key; the version's byte apart.
const BEFORE_VERSION: [u8; 2] = [0x02, 0x01];
const AFTER_VERSION: [u8; 11] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Label of PKCS#8 in PEM.
const LABEL: &str = "PRIVATE KEY";

/// A private Ed25519 key. `ring`'s keys are not wiped when they are dropped; this one is.
pub struct IdentityKey {
    key: SigningKey,
    public: [u8; 32],
}

/// Why a private key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PEM, or of another kind.
    #[error("is no private key in PEM (PKCS#8, BEGIN PRIVATE KEY)")]
    NotAKey,
    /// Encrypted with a passphrase.
    #[error(
        "is encrypted: write it without passphrase by openssl pkey -in … -out …, readable for its owner only"
    )]
    Encrypted,
    /// RSA, ECDSA, ….
    #[error("holds a private key that is not Ed25519")]
    NotEd25519,
    /// The system gives no random numbers.
    #[error("cannot be made: the system gives no random numbers")]
    Random,
}

impl IdentityKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(&mut seed[..])
            .map_err(|_| KeyError::Random)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of a seed (RFC 8032 §5.1.5).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let public = key.verifying_key().to_bytes();
        Self { key, public }
    }

    /// Reads PKCS#8 in PEM: the form of `openssl genpkey -algorithm ed25519`, and the longer one with the public key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (label, der) = SecretDocument::from_pem(text).map_err(|_| KeyError::NotAKey)?;
        match label {
            LABEL => {}
            "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted),
            "EC PRIVATE KEY" | "RSA PRIVATE KEY" => return Err(KeyError::NotEd25519),
            _ => return Err(KeyError::NotAKey),
        }
        Self::from_pkcs8(der.as_bytes())
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        // DER leaves only one way to write each of these bytes.
        let inner = der.get(2..).ok_or(KeyError::NotAKey)?;
        let seed = inner
            .strip_prefix(&BEFORE_VERSION)
            .and_then(|rest| rest.split_first())
            .filter(|(version, _)| **version <= 1)
            .and_then(|(_, rest)| rest.strip_prefix(&AFTER_VERSION))
            .and_then(|rest| rest.first_chunk())
            .ok_or(KeyError::NotEd25519)?;
        Ok(Self::from_seed(seed))
    }

    /// Writes PKCS#8 in PEM, in the short form that every tool reads.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        // All of it at once: a vector that grows leaves its old bytes behind.
        let mut der = Zeroizing::new(Vec::with_capacity(48));
        der.extend_from_slice(&[0x30, 0x2e]);
        der.extend_from_slice(&BEFORE_VERSION);
        der.push(0);
        der.extend_from_slice(&AFTER_VERSION);
        der.extend_from_slice(&self.key.as_bytes()[..]);
        pem::encode_string(LABEL, LineEnding::LF, &der)
            .map(Zeroizing::new)
            .map_err(|_| KeyError::NotAKey)
    }

    /// The public key.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Signs (RFC 8032, Ed25519).
    pub fn sign(&self, data: &[u8]) -> [u8; 64] {
        self.key.sign(data).to_bytes()
    }
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityKey").finish_non_exhaustive()
    }
}

impl rcgen::PublicKeyData for IdentityKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for IdentityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(IdentityKey::sign(self, message).to_vec())
    }
}
