//! A custodian's own key: it opens shares and signs decisions. It never leaves the custodian's machine, and neither does
//! a share, except sealed to the station of one request.
//!
//! One secret is enough, so that a custodian has one thing to keep: the signing key is derived from the age identity
//! (RFC 5869, HKDF-SHA-256, under a label of its own), and tells nothing about it.

use std::path::Path;

use age::x25519::{Identity, Recipient};
use ed25519_dalek::SigningKey;
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use crate::access::{AccessError, identities};
use crate::age_file::{self, OpenError, identity_text};
use crate::audit::Id;
use crate::bundle::Custodian;
use crate::signing::{PublicKey, Signature, Signer};

/// What the signing key is derived under.
const LABEL: &[u8] = b"gst-e2ee custodian signing key v1";

/// Why a custodian's key does not serve.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The identity file.
    #[error(transparent)]
    File(#[from] AccessError),
    /// Whose of them would it be?
    #[error("{path} has {count} identities: a custodian has one, in a file of its own (age-keygen -o FILE)")]
    NotOne {
        /// The file.
        path: String,
        /// How many are there.
        count: usize,
    },
    /// The file is not for this key, or damaged.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The key is there and does not do its work.
    #[error("the custodian's key cannot be used: {0}")]
    Use(String),
}

/// Whatever holds a custodian's key.
pub trait CustodianKey {
    /// What shares are sealed to.
    fn recipient(&self) -> &Recipient;
    /// What verifies its signatures.
    fn signing(&self) -> PublicKey;
    /// Signs data for a purpose.
    fn sign(&self, purpose: &str, data: &[u8]) -> Result<Signature, KeyError>;
    /// Opens an age file that was sealed to it.
    fn open(&self, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError>;
}

/// A custodian's key in a file, as `age-keygen` makes it.
pub struct FileKey {
    identity: [Identity; 1],
    recipient: Recipient,
    signing: SigningKey,
}

impl FileKey {
    /// Reads a file that nobody but its owner can read.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let found = identities(path)?;
        let count = found.len();
        let [identity] = <[Identity; 1]>::try_from(found).map_err(|_| KeyError::NotOne {
            path: path.display().to_string(),
            count,
        })?;
        Self::new(identity)
    }

    /// The key of this identity.
    pub fn new(identity: Identity) -> Result<Self, KeyError> {
        let secret = identity_text(&identity);
        let mut seed = Zeroizing::new([0; 32]);
        Salt::new(HKDF_SHA256, &[])
            .extract(secret.as_bytes())
            .expand(&[LABEL], HKDF_SHA256)
            .and_then(|output| output.fill(&mut *seed))
            .map_err(|_| KeyError::Use("no signing key can be derived from it".to_owned()))?;
        Ok(Self {
            recipient: identity.to_public(),
            signing: SigningKey::from_bytes(&seed),
            identity: [identity],
        })
    }
}

impl CustodianKey for FileKey {
    fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    fn signing(&self) -> PublicKey {
        self.signing.public()
    }

    fn sign(&self, purpose: &str, data: &[u8]) -> Result<Signature, KeyError> {
        Ok(Signer::sign(&self.signing, purpose, data))
    }

    fn open(&self, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        Ok(age_file::open(file, &self.identity)?)
    }
}

impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileKey")
            .field("recipient", &self.recipient.to_string())
            .finish_non_exhaustive()
    }
}

/// What a file of custodians says of whoever has this key.
pub fn public(key: &dyn CustodianKey, person: Option<Id>) -> Custodian {
    Custodian::new(key.recipient().clone(), key.signing(), person)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const SECRET: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    const VECTOR: &str = "6af35133e00a422a616fc3e3125adebe105d718c6c41d29789dc384aa31f820b";

    #[test]
    fn the_signing_key_follows_from_the_identity_as_it_is_written_down() {
        let identity: Identity = SECRET.parse().unwrap();
        let key = FileKey::new(identity).unwrap();
        // From another implementation of RFC 5869 and RFC 8032: python3's hmac, and openssl's Ed25519.
        assert_eq!(key.signing().to_string(), VECTOR);
        let signature = key.sign("custodian", b"data").unwrap();
        assert!(key.signing().verifies("custodian", b"data", &signature));
    }

    #[test]
    fn a_custodian_has_one_identity_that_nobody_else_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            FileKey::read(&path)
        };
        let key = write(&format!("# mine\n{SECRET}\n"), 0o600).unwrap();
        assert!(!format!("{key:?}").contains("SECRET"));
        let line = public(&key, Some(Id::new("dr-17").unwrap())).to_string();
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words, [&key.recipient().to_string(), VECTOR, "dr-17"]);
        let error = write(&format!("{SECRET}\n{SECRET}\n"), 0o600)
            .unwrap_err()
            .to_string();
        assert!(error.contains("has 2 identities"), "{error}");
        let error = write(&format!("{SECRET}\n"), 0o644).unwrap_err().to_string();
        assert!(error.contains("can be read by other users"), "{error}");
    }
}
