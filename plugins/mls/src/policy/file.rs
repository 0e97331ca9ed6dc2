//! How a person writes a policy, or a change of one: JSON, in which a field that is not known is an error.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Act, Admission, Claim, DEFAULT_EPOCH_BITS, DEFAULT_SFRAME_SUITE, Escrow, Fingerprint, Holder, Identity,
    MAX_ENCODED, Policy, PolicyError, Right, Rights, RoomTag, VERSION,
};

/// A policy as it stands in `policy-file`. Only `admit` must be there.
///
/// ```json
/// { "claim": "recorded",
///   "admit": [{ "role": "participant", "root": "6f…" }, { "role": "recorder", "fingerprint": "a1…" }],
///   "recipients": ["c3…"],
///   "rights": { "remove": "participants", "recording": ["dr-weber"] } }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyFile {
    /// Who holds keys; `strict` where it says nothing.
    pub claim: Option<Claim>,
    /// Who may be a member.
    pub admit: Option<Vec<Admission>>,
    /// Certificates that are never admitted.
    pub deny: Vec<Fingerprint>,
    /// Who may commit what; where it says nothing, everybody adds and only the room's creator has the other rights.
    pub rights: RightsChange,
    /// Salted hash of the consent.
    pub consent: Option<String>,
    /// Recordings are kept for so many days.
    pub retention_days: Option<u32>,
    /// Who can open the recordings.
    pub recipients: Vec<Fingerprint>,
    /// Who can open a recording only together.
    pub escrow: Option<Escrow>,
    /// Is the room recorded from its beginning?
    pub recording: bool,
    /// Root certificates that the room trusts; the creator's own where it says nothing.
    pub roots: Option<Vec<Fingerprint>>,
    /// Bits of the epoch in a KID, 1 to 8 (4).
    pub epoch_bits: Option<u8>,
    /// SFrame cipher suite, by its IANA number (4).
    pub sframe_suite: Option<u16>,
}

impl PolicyFile {
    /// Reads a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        parse(bytes)
    }

    /// The policy of a new room; `roots` are those that its creator trusts.
    pub fn into_policy(
        self,
        room: RoomTag,
        creator: &Identity,
        roots: &[Fingerprint],
    ) -> Result<Policy, PolicyError> {
        let Some(admit) = self.admit else {
            return Err(PolicyError::field(
                "admit",
                "it is missing; nobody could be a member (an empty list admits nobody either)",
            ));
        };
        let creator_only = Right::Holders(vec![Holder::Subject {
            root: Some(creator.root),
            subject: creator.subject.clone(),
        }]);
        let rights = Rights {
            add: Right::Participants,
            remove: creator_only.clone(),
            recording: creator_only.clone(),
            policy: creator_only,
        };
        let mut policy = Policy {
            version: VERSION,
            room,
            claim: self.claim.unwrap_or(Claim::Strict),
            admit,
            deny: self.deny,
            rights: self.rights.apply(&rights),
            consent: self.consent,
            retention_days: self.retention_days,
            recipients: self.recipients,
            escrow: self.escrow,
            recording: self.recording,
            roots: self.roots.unwrap_or_else(|| roots.to_vec()),
            epoch_bits: self.epoch_bits.unwrap_or(DEFAULT_EPOCH_BITS),
            sframe_suite: self.sframe_suite.unwrap_or(DEFAULT_SFRAME_SUITE),
        };
        policy.normalise();
        policy.validate()?;
        Ok(policy)
    }
}

/// A change of some fields of a policy. A list replaces the list that was there, `also_admit` and `also_deny` add to
/// it; `null` takes an optional field away.
///
/// The `also_` fields are there for changes that meet others on their way: a whole list, put in place again after
/// somebody was denied in between, would let that one in again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyChange {
    /// Who holds keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Who may be a member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admit: Option<Vec<Admission>>,
    /// Who may be a member as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also_admit: Vec<Admission>,
    /// Certificates that are never admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<Vec<Fingerprint>>,
    /// More of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also_deny: Vec<Fingerprint>,
    /// Who may commit what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rights: Option<RightsChange>,
    /// Salted hash of the consent.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub consent: Option<Option<String>>,
    /// Recordings are kept for so many days.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<Option<u32>>,
    /// Who can open the recordings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients: Option<Vec<Fingerprint>>,
    /// Who can open a recording only together.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub escrow: Option<Option<Escrow>>,
    /// Is the room being recorded?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<bool>,
    /// Root certificates that the room trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roots: Option<Vec<Fingerprint>>,
    /// SFrame cipher suite, by its IANA number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sframe_suite: Option<u16>,
}

impl PolicyChange {
    /// Reads a file or a message.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        parse(bytes)
    }

    /// The policy with the change in it. Whether that is a policy at all, [`Policy::validate`] says.
    pub fn apply(&self, policy: &Policy) -> Policy {
        fn or<T: Clone>(new: &Option<T>, old: &T) -> T {
            new.as_ref().unwrap_or(old).clone()
        }
        let mut admit = or(&self.admit, &policy.admit);
        admit.extend_from_slice(&self.also_admit);
        let mut deny = or(&self.deny, &policy.deny);
        deny.extend_from_slice(&self.also_deny);
        let mut changed = Policy {
            version: policy.version,
            room: policy.room.clone(),
            claim: or(&self.claim, &policy.claim),
            admit,
            deny,
            rights: match &self.rights {
                Some(rights) => rights.apply(&policy.rights),
                None => policy.rights.clone(),
            },
            consent: or(&self.consent, &policy.consent),
            retention_days: or(&self.retention_days, &policy.retention_days),
            recipients: or(&self.recipients, &policy.recipients),
            escrow: or(&self.escrow, &policy.escrow),
            recording: or(&self.recording, &policy.recording),
            roots: or(&self.roots, &policy.roots),
            epoch_bits: policy.epoch_bits,
            sframe_suite: or(&self.sframe_suite, &policy.sframe_suite),
        };
        changed.normalise();
        changed
    }
}

/// Some of the rights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RightsChange {
    /// May add members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Right>,
    /// May remove members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<Right>,
    /// May switch recording on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<Right>,
    /// May change the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Right>,
}

impl RightsChange {
    fn apply(&self, rights: &Rights) -> Rights {
        let mut changed = rights.clone();
        for act in Act::ALL {
            let new = match act {
                Act::Add => &self.add,
                Act::Remove => &self.remove,
                Act::Recording => &self.recording,
                Act::Policy => &self.policy,
            };
            if let Some(right) = new {
                right.clone_into(changed.of_mut(act));
            }
        }
        changed
    }
}

/// Tells `null` (take it away) from a field that is not there (leave it).
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, PolicyError> {
    if bytes.len() > MAX_ENCODED {
        return Err(PolicyError::TooLong);
    }
    serde_json::from_slice(bytes).map_err(|error| match faulty_field::<T>(bytes) {
        Some((field, error)) => PolicyError::field(field, error.to_string()),
        None => PolicyError::Unreadable(error.to_string()),
    })
}

/// The first field that cannot be read alone: serde's own errors give a line and a column, but no name.
fn faulty_field<T: DeserializeOwned>(bytes: &[u8]) -> Option<(String, serde_json::Error)> {
    let fields: serde_json::Map<_, _> = serde_json::from_slice(bytes).ok()?;
    fields.into_iter().find_map(|(name, value)| {
        let alone = serde_json::Map::from_iter([(name.clone(), value)]);
        let error = serde_json::from_value::<T>(alone.into()).err()?;
        Some((name, error))
    })
}
