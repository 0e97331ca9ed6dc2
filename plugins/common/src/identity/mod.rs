//! Who somebody is: X.509 certificates of an organisation, with certified roles, and their verification.
//!
//! Everything that certificates claim is checked from their bytes, the trusted roots and a time that the caller names:
//! never from the local clock, a file or a handler, so that all members of a room decide alike about the same message, and
//! whoever verifies a recording decides as they did.
//!
//! - `chain`: a credential's certificates, and their verification
//! - `certificate`: what one certificate says

pub mod certificate;
pub mod chain;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use certificate::{Facts, describe, is_plain};
pub use chain::{MAX_CERTIFICATES, MAX_CONTENT, certificates, content, from_pem, verify};

/// What a certificate lets its holder be: the last word of a URI `urn:gst-e2ee:role:…` among its alternative names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sends and receives media.
    Participant,
    /// Records, and says so.
    Recorder,
}

impl Role {
    /// The role's word, as it stands in certificates, policies and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Participant => "participant",
            Self::Recorder => "recorder",
        }
    }

    /// The URI that certifies the role.
    pub fn uri(self) -> String {
        format!("{}{}", certificate::ROLE_PREFIX, self.word())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is participant or recorder")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        [Self::Participant, Self::Recorder]
            .into_iter()
            .find(|role| role.word() == word)
            .ok_or(UnknownRole)
    }
}

/// SHA-256 of a certificate's DER bytes; written as 64 lower-case hex digits.
///
/// Upper case and the colons of `openssl x509 -fingerprint -sha256` are read as well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, der).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fingerprint is the SHA-256 of a certificate in 64 hex digits (gst-mls fingerprint FILE prints it)"
)]
pub struct NotAFingerprint;

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        // 64 digits, or 32 pairs with a colon between each two.
        let digits = match text.len() {
            64 => text.to_owned(),
            95 if text.bytes().skip(2).step_by(3).all(|byte| byte == b':') => text.replace(':', ""),
            _ => return Err(NotAFingerprint),
        };
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| NotAFingerprint)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a verified chain of certificates says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Opaque subject id: the common name.
    pub subject: String,
    /// Organisation that operates the endpoint, where the certificate names one.
    pub operator: Option<String>,
    /// Certified roles, sorted, each once, at least one.
    pub roles: Vec<Role>,
    /// The endpoint's certificate.
    pub fingerprint: Fingerprint,
    /// The root certificate that the chain ends in.
    pub root: Fingerprint,
    /// The certified Ed25519 key: it must be the leaf node's signature key.
    pub public_key: [u8; 32],
    /// Unix time in seconds from which the certificate is valid.
    pub not_before: u64,
    /// Unix time in seconds until which the certificate is valid (inclusive).
    pub not_after: u64,
}

impl Identity {
    /// May it send and receive media?
    pub fn is_participant(&self) -> bool {
        self.roles.contains(&Role::Participant)
    }

    /// May it record?
    pub fn is_recorder(&self) -> bool {
        self.roles.contains(&Role::Recorder)
    }

    /// Does it record and do nothing else?
    pub fn only_recorder(&self) -> bool {
        self.is_recorder() && !self.is_participant()
    }

    /// Is it the same identity (root and subject id), perhaps under another certificate?
    pub fn same_as(&self, other: &Self) -> bool {
        self.root == other.root && self.subject == other.subject
    }
}

/// Why a credential is not accepted. The sentences name no bytes of the certificates, which come from outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The vectors of RFC 9420 §5.3 do not fit.
    #[error("the certificates of the credential cannot be taken apart: their lengths do not fit")]
    Lengths,
    /// More than [`MAX_CONTENT`] bytes.
    #[error("the credential has more than {MAX_CONTENT} bytes")]
    TooLong,
    /// More than [`MAX_CERTIFICATES`].
    #[error("the chain has more than {MAX_CERTIFICATES} certificates")]
    TooMany,
    /// Not at least an endpoint's certificate and a root.
    #[error("the chain lacks its root: an endpoint's certificate and the root that it ends in are needed")]
    TooFew,
    /// The last certificate is not among the trusted roots.
    #[error("the chain does not end in a certificate authority that is trusted here")]
    UnknownRoot,
    /// Not a certificate, or one with things in it that are not understood.
    #[error("certificate {0} of the chain cannot be read (1 is the endpoint's)")]
    Unreadable(usize),
    /// A certificate is not valid yet at the reference time.
    #[error("a certificate of the chain is not valid yet at the time of the message")]
    NotYetValid,
    /// A certificate is not valid any more at the reference time.
    #[error("a certificate of the chain has expired at the time of the message")]
    Expired,
    /// No chain of signatures leads to the root.
    #[error("a signature in the chain does not verify: the trusted authority did not issue this certificate")]
    Signature,
    /// A certificate of an authority in the endpoint's place.
    #[error("an authority's own certificate is used as an endpoint's")]
    AuthorityAsEndpoint,
    /// An issuer that must not issue.
    #[error("a certificate of the chain was issued by a certificate that is not an authority's")]
    NotAnAuthority,
    /// More authorities in a row than one of them allows.
    #[error("the chain has more authorities than one of them allows below itself")]
    PathLength,
    /// Another rule of X.509 (RFC 5280 §6) is broken.
    #[error("the chain breaks a rule of X.509: {0}")]
    Chain(&'static str),
    /// A certificate is not part of the way from endpoint to root, or not in its place.
    #[error(
        "the chain has a certificate that is not needed or out of order: endpoint first, each issuer next, root last"
    )]
    Order,
    /// The endpoint's certificate is not signed with Ed25519.
    #[error(
        "the endpoint's certificate is not signed with Ed25519 (anybody can rewrite an ECDSA signature, so that a \
         denied certificate would come back under another fingerprint): issue it from an Ed25519 authority; that \
         one's own certificate may be signed with P-256"
    )]
    LeafSignature,
    /// The certified key is not an Ed25519 key.
    #[error("the endpoint's certificate does not certify a usable Ed25519 key")]
    KeyType,
    /// The common name.
    #[error("the endpoint's certificate {0}")]
    Subject(&'static str),
    /// The organisation.
    #[error("the endpoint's certificate {0}")]
    Operator(&'static str),
    /// No role at all.
    #[error("the endpoint's certificate names no role (a URI urn:gst-e2ee:role:participant or …:recorder)")]
    NoRole,
    /// A URI below `urn:gst-e2ee:` that is no known role.
    #[error("the endpoint's certificate names a role that is not known here")]
    UnknownRole,
}
