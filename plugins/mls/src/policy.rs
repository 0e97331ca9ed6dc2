//! What a room promises and who may change it: bound to the group, checked by every member.

use serde::{Deserialize, Serialize};

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

/// The policy of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Version of this form: 1.
    pub version: u32,
}

/// A change of some fields of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyChange {}
