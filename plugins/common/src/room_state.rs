//! What a key source says of the room in one epoch: the answer to the action `room-state` of the key contract, for
//! those who record, and for those who show what is recorded.
//!
//! Only `epoch` must be there: a source that knows no policy, no recorder, no certificates leaves those fields away. Who
//! reads them must take a missing one for the worst, never for a default. Nothing in it is secret.
//!
//! | field of `sframe-room-state` | type | meaning |
//! |---|---|---|
//! | `epoch` | u64 | the epoch that it is about |
//! | `state` | string | where this endpoint stands with the room *now*, whichever epoch was asked for: `joining`, `ready`, `stale`, `evicted` |
//! | `room-id` | string | names the group and says nothing about whom it is of; another group has another one, under the same name too |
//! | `claim` | string | `strict`, `recorded` or `escrow` |
//! | `recording` | boolean | does the group say that it is recorded? |
//! | `recorder` | boolean | is this endpoint certified as a recorder, and does the policy admit it as one? |
//! | `leaf` | u32 | this endpoint's leaf |
//! | `members` | u32 | how many members the group has, this endpoint included |
//! | `consent` | string | reference to the consent under which the room records; empty: it names none |
//! | `recipients` | GStrv | who can open the recordings, each alone: fingerprints |
//! | `escrow`, `escrow-m`, `escrow-n` | string, u32, u32 | who can open a recording only together: any M of the N custodians of this fingerprint; all three or none |
//! | `retention-days` | u32 | recordings are kept for so long; missing: no end is promised |
//! | `policy-digest` | string | SHA-256 of the policy, hex |
//! | `certificates` | GStrv | the chain, in PEM, of the key that `sign` signs with: the endpoint's first, the root last |
//!
//! What it says of an epoch never changes while the epoch lasts, or after; `state` and `certificates` are of now. A
//! source begins a new epoch where anything else changes.

use std::fmt;
use std::str::FromStr;

use gst::glib;

use crate::key_source::ContractError;

/// Name of the structure that `room-state` answers with.
pub const ROOM_STATE: &str = "sframe-room-state";

/// The epoch to ask for where the latest one is meant.
pub const LATEST: u64 = u64::MAX;

const SIGNAL: &str = "room-state";

/// Where an endpoint stands with its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Standing {
    /// Not in it yet, or on its way back.
    #[default]
    Joining,
    /// A member, and hears the others.
    Ready,
    /// A member that heard nothing authenticated for too long, or cannot follow the room.
    Stale,
    /// Left, removed, or somebody else uses its identity: does not come back by itself.
    Evicted,
}

impl Standing {
    /// Its word in the structure.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Stale => "stale",
            Self::Evicted => "evicted",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that names no standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("joining, ready, stale or evicted")]
pub struct UnknownStanding;

impl FromStr for Standing {
    type Err = UnknownStanding;

    fn from_str(word: &str) -> Result<Self, UnknownStanding> {
        [Self::Joining, Self::Ready, Self::Stale, Self::Evicted]
            .into_iter()
            .find(|standing| standing.word() == word)
            .ok_or(UnknownStanding)
    }
}

/// Custodians, of whom some together can open one recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EscrowState {
    /// Names the set of custodians and their keys, hex.
    pub fingerprint: String,
    /// So many custodians are enough.
    pub m: u32,
    /// So many custodians exist.
    pub n: u32,
}

/// What holds in the room in one epoch. `None`: the key source does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomState {
    /// The epoch that it is about.
    pub epoch: u64,
    /// Where this endpoint stands now.
    pub standing: Option<Standing>,
    /// Names the group.
    pub room_id: Option<String>,
    /// `strict`, `recorded` or `escrow`.
    pub claim: Option<String>,
    /// Does the group say that it is recorded?
    pub recording: Option<bool>,
    /// Is this endpoint an admitted, certified recorder?
    pub recorder: Option<bool>,
    /// This endpoint's leaf.
    pub leaf: Option<u32>,
    /// How many members the group has.
    pub members: Option<u32>,
    /// Reference to the consent; `None` also where the room names none.
    pub consent: Option<String>,
    /// Fingerprints of who can open the recordings, each alone.
    pub recipients: Option<Vec<String>>,
    /// Who can open a recording only together; `None` also where there is no escrow.
    pub escrow: Option<EscrowState>,
    /// Recordings are kept for so many days; `None` also where no end is promised.
    pub retention_days: Option<u32>,
    /// SHA-256 of the policy, hex.
    pub policy_digest: Option<String>,
    /// The chain of the key that `sign` signs with, in PEM; empty where the source shows none.
    pub certificates: Vec<String>,
}

impl RoomState {
    /// As a key source answers it.
    pub fn to_structure(&self) -> gst::Structure {
        let escrow = self.escrow.as_ref();
        let certificates = (!self.certificates.is_empty()).then_some(&self.certificates);
        gst::Structure::builder(ROOM_STATE)
            .field("epoch", self.epoch)
            .field_if_some("state", self.standing.map(Standing::word))
            .field_if_some("room-id", self.room_id.as_deref())
            .field_if_some("claim", self.claim.as_deref())
            .field_if_some("recording", self.recording)
            .field_if_some("recorder", self.recorder)
            .field_if_some("leaf", self.leaf)
            .field_if_some("members", self.members)
            .field("consent", self.consent.as_deref().unwrap_or_default())
            .field_if_some("recipients", self.recipients.clone())
            .field_if_some("escrow", escrow.map(|escrow| escrow.fingerprint.as_str()))
            .field_if_some("escrow-m", escrow.map(|escrow| escrow.m))
            .field_if_some("escrow-n", escrow.map(|escrow| escrow.n))
            .field_if_some("retention-days", self.retention_days)
            .field_if_some("policy-digest", self.policy_digest.as_deref())
            .field_if_some("certificates", certificates.cloned())
            .build()
    }

    /// Reads an answer; a field that is there must have its type and a possible value.
    pub fn from_structure(s: &gst::StructureRef) -> Result<Self, ContractError> {
        if s.name() != ROOM_STATE {
            return Err(bad_field("name of the structure"));
        }
        let standing = field::<String>(s, "state")?
            .map(|word| word.parse::<Standing>().map_err(|_| bad_field("state")))
            .transpose()?;
        let escrow = match (
            field::<String>(s, "escrow")?,
            field::<u32>(s, "escrow-m")?,
            field::<u32>(s, "escrow-n")?,
        ) {
            (None, None, None) => None,
            (Some(fingerprint), Some(m), Some(n)) if 1 <= m && m <= n => {
                Some(EscrowState { fingerprint, m, n })
            }
            _ => return Err(bad_field("escrow")),
        };
        Ok(Self {
            epoch: field(s, "epoch")?.ok_or(bad_field("epoch"))?,
            standing,
            room_id: text(s, "room-id")?,
            claim: text(s, "claim")?,
            recording: field(s, "recording")?,
            recorder: field(s, "recorder")?,
            leaf: field(s, "leaf")?,
            members: field(s, "members")?,
            consent: text(s, "consent")?,
            recipients: field(s, "recipients")?,
            escrow,
            retention_days: field(s, "retention-days")?,
            policy_digest: text(s, "policy-digest")?,
            certificates: field(s, "certificates")?.unwrap_or_default(),
        })
    }
}

fn bad_field(field: &'static str) -> ContractError {
    ContractError::BadField {
        signal: SIGNAL,
        field,
    }
}

/// A field, where it is there.
fn field<'a, T: glib::value::FromValue<'a>>(
    s: &'a gst::StructureRef,
    name: &'static str,
) -> Result<Option<T>, ContractError> {
    match s.value(name) {
        Ok(value) => value.get().map(Some).map_err(|_| bad_field(name)),
        Err(_) => Ok(None),
    }
}

/// A text, where it is there and not empty.
fn text(s: &gst::StructureRef, name: &'static str) -> Result<Option<String>, ContractError> {
    Ok(field::<String>(s, name)?.filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn full() -> RoomState {
        RoomState {
            epoch: 7,
            standing: Some(Standing::Stale),
            room_id: Some("a0b1".into()),
            claim: Some("recorded".into()),
            recording: Some(true),
            recorder: Some(true),
            leaf: Some(3),
            members: Some(5),
            consent: Some("c0".into()),
            recipients: Some(vec!["f1".into(), "f2".into()]),
            escrow: Some(EscrowState {
                fingerprint: "e0".into(),
                m: 2,
                n: 3,
            }),
            retention_days: Some(3650),
            policy_digest: Some("d0".into()),
            certificates: vec!["leaf".into(), "root".into()],
        }
    }

    #[test]
    fn what_is_told_is_what_is_read() {
        gst::init().unwrap();
        let bare = RoomState {
            epoch: 1,
            ..RoomState::default()
        };
        let nobody = RoomState {
            recipients: Some(Vec::new()),
            ..bare.clone()
        };
        for state in [full(), bare, nobody] {
            assert_eq!(RoomState::from_structure(&state.to_structure()), Ok(state));
        }
    }

    #[test]
    fn only_the_epoch_must_be_there() {
        gst::init().unwrap();
        let empty = gst::Structure::new_empty(ROOM_STATE);
        assert_eq!(RoomState::from_structure(&empty), Err(bad_field("epoch")));
        let whole = full().to_structure();
        let names: Vec<_> = whole.fields().map(|name| name.to_string()).collect();
        assert_eq!(names.len(), 16);
        for name in names {
            let mut s = whole.clone();
            s.remove_field(name.as_str());
            let read = RoomState::from_structure(&s);
            match name.as_str() {
                "epoch" | "escrow" | "escrow-m" | "escrow-n" => {
                    assert!(matches!(read, Err(ContractError::BadField { .. })), "{name}");
                }
                _ => assert_ne!(read.unwrap(), full(), "{name}"),
            }
        }
    }

    #[test]
    fn a_field_of_another_type_or_with_an_impossible_value_is_refused() {
        gst::init().unwrap();
        for name in full().to_structure().fields() {
            let mut s = full().to_structure();
            s.set(name.as_str(), 1.5f64);
            let refused = RoomState::from_structure(&s);
            assert!(
                matches!(refused, Err(ContractError::BadField { signal: SIGNAL, .. })),
                "{name}: {refused:?}"
            );
        }
        for (name, value) in [("escrow-m", 0u32), ("escrow-m", 4)] {
            let mut s = full().to_structure();
            s.set(name, value);
            assert_eq!(RoomState::from_structure(&s), Err(bad_field("escrow")));
        }
        let mut s = full().to_structure();
        s.set("state", "transition");
        assert_eq!(RoomState::from_structure(&s), Err(bad_field("state")));
        let other = gst::Structure::new_empty("sframe-sender-key");
        assert!(RoomState::from_structure(&other).is_err());
    }
}
