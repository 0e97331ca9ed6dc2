//! What a room promises and who may change it: bound to the group, checked by every member.
//!
//! A policy travels as a GroupContext extension (RFC 9420 §12.1.7), as JSON that has exactly one form: what was decoded
//! and encoded again gives the same bytes, or it was no policy. Everything here is a pure function of its arguments, so
//! that all members decide alike. It must never be lenient: a field that is not understood is an error.
//!
//! - `people`: who is admitted, and who holds which right
//! - `file`: how a person writes a policy, or a change of one
//! - `weakens`: what a change takes away from those who trusted the room

mod file;
mod people;
mod weakens;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use gst_e2ee_common::cipher_suite::CipherSuite;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

pub use crate::identity::{Fingerprint, Identity, Role};
pub use file::{PolicyChange, PolicyFile, RightsChange};
pub use people::{Act, Admission, Holder, Right, Rights, Who};
pub use weakens::weakens;

/// Version of the policies that are written here.
pub const VERSION: u32 = 1;
/// Longest encoded policy, in bytes.
pub const MAX_ENCODED: usize = 64 << 10;
/// Bits of the epoch in a KID (RFC 9605 §5.2) where nothing else is said.
pub const DEFAULT_EPOCH_BITS: u8 = 4;
/// SFrame cipher suite (IANA number) where nothing else is said: AES-128-GCM.
pub const DEFAULT_SFRAME_SUITE: u16 = CipherSuite::Aes128GcmSha256_128.iana();

/// Most root certificates that a room trusts.
const MAX_ROOTS: usize = 16;
/// Most custodians of an escrow: their shares are points over a field of 256 elements.
const MAX_CUSTODIANS: u16 = 255;
/// Longest retention, in days: a century.
const MAX_RETENTION_DAYS: u32 = 36_525;

/// Who holds keys; a later claim is a weaker one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// The participants, nobody else.
    Strict,
    /// The participants, the named recorders and the recordings' recipients.
    Recorded,
    /// As recorded, but no recipient: M of N custodians together can open one recording.
    Escrow,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Recorded => "recorded",
            Self::Escrow => "escrow",
        })
    }
}

/// Which room this is, without its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomTag {
    /// Random; 32 hex digits.
    #[serde(with = "hex_bytes")]
    pub salt: [u8; 16],
    /// SHA-256 over salt and name; 64 hex digits.
    #[serde(with = "hex_bytes")]
    pub digest: [u8; 32],
}

impl RoomTag {
    /// The tag of the room with this name.
    pub fn new(name: &str, salt: [u8; 16]) -> Self {
        let mut hashed = [0; 32];
        hashed.copy_from_slice(digest(&SHA256, &[&salt, name.as_bytes()].concat()).as_ref());
        Self { salt, digest: hashed }
    }

    /// Is it the tag of the room with this name?
    pub fn is_of(&self, name: &str) -> bool {
        *self == Self::new(name, self.salt)
    }
}

/// Custodians, of whom some together can open one recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escrow {
    /// Names the set of custodians and their keys.
    pub fingerprint: Fingerprint,
    /// So many custodians are enough.
    pub m: u16,
    /// So many custodians exist.
    pub n: u16,
}

/// The policy of a room. Lists are sets: sorted, each entry once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Version of this form: 1.
    pub version: u32,
    /// Which room it is for; never changes.
    pub room: RoomTag,
    /// Who holds keys.
    pub claim: Claim,
    /// Who may be a member, per role; nobody else may.
    pub admit: Vec<Admission>,
    /// Certificates that are never admitted, whatever `admit` says.
    pub deny: Vec<Fingerprint>,
    /// Who may commit what.
    pub rights: Rights,
    /// Salted hash of the consent under which the room records, 64 to 128 lower-case hex digits.
    pub consent: Option<String>,
    /// Recordings are kept for so many days; none: no end is promised.
    pub retention_days: Option<u32>,
    /// Who can open the recordings, each alone.
    pub recipients: Vec<Fingerprint>,
    /// Who can open a recording only together.
    pub escrow: Option<Escrow>,
    /// Is the room being recorded?
    pub recording: bool,
    /// SHA-256 of the root certificates that the room trusts.
    pub roots: Vec<Fingerprint>,
    /// Bits of the epoch in a KID (RFC 9605 §5.2), 1 to 8; never changes.
    pub epoch_bits: u8,
    /// SFrame cipher suite, by its IANA number.
    pub sframe_suite: u16,
}

/// Why something is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read as JSON of this form.
    #[error("the policy cannot be read: {0}")]
    Unreadable(String),
    /// The bytes of a policy in a group are not in the one form that they may have.
    #[error("the policy is not in its canonical form")]
    NotCanonical,
    /// More than [`MAX_ENCODED`] bytes.
    #[error("the policy has more than {MAX_ENCODED} bytes: shorten its lists")]
    TooLong,
    /// A field has a value that it cannot have, or that contradicts another one.
    #[error("the policy's field `{field}`: {reason}")]
    Field {
        /// Name of the field, as in the file.
        field: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl PolicyError {
    fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

impl Policy {
    /// The bytes that stand in the group.
    pub fn encode(&self) -> Vec<u8> {
        // Cannot fail: there is no map with other keys than text. No bytes would be refused by everybody.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads and checks the bytes that stand in a group.
    pub fn decode(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_ENCODED {
            return Err(PolicyError::TooLong);
        }
        let policy: Self =
            serde_json::from_slice(bytes).map_err(|error| PolicyError::Unreadable(error.to_string()))?;
        policy.validate()?;
        if policy.encode() == bytes {
            Ok(policy)
        } else {
            Err(PolicyError::NotCanonical)
        }
    }

    /// SHA-256 of the encoded policy.
    pub fn digest(&self) -> [u8; 32] {
        let mut hashed = [0; 32];
        hashed.copy_from_slice(digest(&SHA256, &self.encode()).as_ref());
        hashed
    }

    /// Sorts the lists, drops what stands twice, and names the root of those who are named by subject id alone, where
    /// the room trusts only one root.
    pub fn normalise(&mut self) {
        set(&mut self.admit);
        set(&mut self.deny);
        set(&mut self.recipients);
        set(&mut self.roots);
        let only_root = match self.roots[..] {
            [root] => Some(root),
            _ => None,
        };
        for act in Act::ALL {
            if let Right::Holders(holders) = self.rights.of_mut(act) {
                for holder in &mut *holders {
                    holder.complete(only_root);
                }
                set(holders);
            }
        }
    }

    /// Does it contradict itself, or leave its bounds?
    pub fn validate(&self) -> Result<(), PolicyError> {
        let wrong = |field: &str, reason: &str| Err(PolicyError::field(field, reason));
        if self.version != VERSION {
            return wrong("version", "this software knows version 1 only");
        }
        if self.roots.is_empty() || self.roots.len() > MAX_ROOTS {
            return wrong("roots", "a room trusts 1 to 16 root certificates");
        }
        for admission in &self.admit {
            admission
                .validate(&self.roots)
                .map_err(|reason| PolicyError::field("admit", reason))?;
        }
        for act in Act::ALL {
            self.rights
                .of(act)
                .validate(&self.roots)
                .map_err(|reason| PolicyError::field(format!("rights.{act}"), reason))?;
        }
        self.validate_claim()?;
        if let Some(escrow) = &self.escrow
            && !(1 <= escrow.m && escrow.m <= escrow.n && escrow.n <= MAX_CUSTODIANS)
        {
            return wrong("escrow", "1 <= m <= n <= 255 must hold");
        }
        if self
            .consent
            .as_deref()
            .is_some_and(|consent| !is_salted_hash(consent))
        {
            return wrong(
                "consent",
                "it is a salted hash in 64 to 128 lower-case hex digits",
            );
        }
        if self
            .retention_days
            .is_some_and(|days| !(1..=MAX_RETENTION_DAYS).contains(&days))
        {
            return wrong(
                "retention_days",
                "1 to 36525 days, or null where no end is promised",
            );
        }
        if !(1..=8).contains(&self.epoch_bits) {
            return wrong("epoch_bits", "1 to 8");
        }
        if CipherSuite::from_iana(self.sframe_suite.into()).is_none() {
            return wrong(
                "sframe_suite",
                "1 to 5, the number of an SFrame cipher suite in IANA's registry",
            );
        }
        self.validate_sets()?;
        if self.encode().len() > MAX_ENCODED {
            return Err(PolicyError::TooLong);
        }
        Ok(())
    }

    /// What each claim rules out.
    fn validate_claim(&self) -> Result<(), PolicyError> {
        let wrong = |field: &str, reason: &str| Err(PolicyError::field(field, reason));
        let claim = self.claim;
        if claim == Claim::Strict {
            if self
                .admit
                .iter()
                .any(|admission| admission.role == Role::Recorder)
            {
                return wrong("admit", "a strict room admits no recorder");
            }
            if self.recording {
                return wrong("recording", "a strict room is not recorded");
            }
        }
        if claim != Claim::Recorded && !self.recipients.is_empty() {
            return wrong(
                "recipients",
                "only a room with the claim `recorded` has recipients",
            );
        }
        match (&self.escrow, claim) {
            (None, Claim::Escrow) => wrong("escrow", "the claim `escrow` needs one"),
            (Some(_), Claim::Strict | Claim::Recorded) => {
                wrong("escrow", "only a room with the claim `escrow` has one")
            }
            _ => Ok(()),
        }
    }

    /// Lists must be sets in their order: otherwise two policies that say the same would differ.
    fn validate_sets(&self) -> Result<(), PolicyError> {
        let holders = Act::ALL.iter().all(|act| match self.rights.of(*act) {
            Right::Participants => true,
            Right::Holders(holders) => holders.is_sorted_by(|a, b| a < b),
        });
        let lists = [
            ("admit", self.admit.is_sorted_by(|a, b| a < b)),
            ("deny", self.deny.is_sorted_by(|a, b| a < b)),
            ("recipients", self.recipients.is_sorted_by(|a, b| a < b)),
            ("roots", self.roots.is_sorted_by(|a, b| a < b)),
            ("rights", holders),
        ];
        match lists.into_iter().find(|(_, sorted)| !sorted) {
            Some((field, _)) => Err(PolicyError::field(
                field,
                "its list is not sorted, or holds something twice",
            )),
            None => Ok(()),
        }
    }

    /// Is this certificate denied?
    pub fn denies(&self, identity: &Identity) -> bool {
        self.deny.binary_search(&identity.fingerprint).is_ok()
    }

    /// Does the room trust the root of this identity?
    pub fn trusts(&self, identity: &Identity) -> bool {
        self.roots.binary_search(&identity.root).is_ok()
    }

    /// Does some entry of `admit` let this identity in with this role? (Does not look at `deny` and `roots`.)
    pub fn admits_as(&self, role: Role, identity: &Identity) -> bool {
        self.admit
            .iter()
            .any(|admission| admission.role == role && admission.who.is(identity))
    }

    /// Does this identity hold the right? Who only records never does.
    pub fn allows(&self, act: Act, identity: &Identity) -> bool {
        identity.is_participant() && self.rights.of(act).is_held_by(identity)
    }

    /// The policy with these certificates denied as well.
    pub fn with_denied(&self, fingerprints: impl IntoIterator<Item = Fingerprint>) -> Self {
        let mut policy = self.clone();
        policy.deny.extend(fingerprints);
        set(&mut policy.deny);
        policy
    }

    /// The policy with recording on or off.
    pub fn with_recording(&self, on: bool) -> Self {
        Self {
            recording: on,
            ..self.clone()
        }
    }
}

fn set<T: Ord>(list: &mut Vec<T>) {
    let sorted: BTreeSet<T> = std::mem::take(list).into_iter().collect();
    list.extend(sorted);
}

fn is_salted_hash(text: &str) -> bool {
    (64..=128).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Bytes of a fixed number as hex digits in JSON.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| D::Error::custom(format!("{} hex digits are needed", 2 * N)))?;
        Ok(bytes)
    }
}
