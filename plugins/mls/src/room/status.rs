//! What a person or a program may know of a room from one endpoint's view. Nothing here is secret.

use gst_e2ee_common::room_state::{EscrowState, RoomState};
use serde::{Deserialize, Serialize};

use super::{Current, Room, code_of};
use crate::identity::{Identity, Role};
use crate::store::Store;

/// Where this endpoint stands with its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Asked to be let in, or is catching up after a start.
    Joining,
    /// Has the keys of the current epoch and seals under them.
    Ready,
    /// Has the keys of a new epoch and still seals under the one before.
    Transition,
    /// Heard nothing authenticated for `max-silence`, or cannot follow the log: does not seal.
    Stale,
    /// Removed from the room, or somebody else uses this identity's state: will not come back by itself.
    Evicted,
}

/// A member as its certificate describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Leaf index in the ratchet tree (RFC 9420 §4.1).
    pub leaf: u32,
    /// Opaque subject id of the certificate (its common name).
    pub id: String,
    /// Organisation that operates this endpoint, where the certificate names one.
    pub operator: Option<String>,
    /// Certified roles: `participant`, `recorder`, or both.
    pub roles: Vec<Role>,
    /// SHA-256 of the certificate, hex.
    pub fingerprint: String,
    /// Is this the endpoint itself?
    pub own: bool,
    /// Did people at this endpoint compare codes with it, and were they equal?
    #[serde(default)]
    pub verified: bool,
    /// What it calls itself in the room: nobody has certified that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The room as this endpoint sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where this endpoint stands.
    pub state: State,
    /// Name of the room, as this endpoint calls it.
    pub room: String,
    /// MLS group id, hex; empty before there is one.
    pub group_id: String,
    /// Epoch of the group (RFC 9420 §8); 0 before there is one.
    pub epoch: u64,
    /// The epoch authenticator as 30 digits in 6 groups; empty before there is one.
    pub epoch_code: String,
    /// All members, by leaf.
    pub members: Vec<Member>,
    /// The policy in force; none before there is a group.
    pub policy: Option<crate::policy::Policy>,
    /// SHA-256 of the encoded policy, hex.
    pub policy_digest: String,
    /// Weakest claim under which this endpoint sends.
    pub accept: crate::policy::Claim,
    /// Does the room's claim meet `accept`?
    pub accepted: bool,
    /// Did people at this endpoint compare codes with everybody else in the room?
    #[serde(default)]
    pub verified: bool,
    /// Unix time in seconds at which the recording state last changed in this endpoint's view.
    pub recording_since: Option<u64>,
    /// What was counted since the start.
    pub counters: Counters,
}

/// What a room counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counters {
    /// Commits of others that were merged.
    pub commits_merged: u64,
    /// Own commits that won.
    pub commits_won: u64,
    /// Own commits that lost their race and were made again.
    pub commits_lost: u64,
    /// Commits, proposals and key packages that the rules refused.
    pub refused: u64,
    /// Records that could not be read at all.
    pub malformed: u64,
    /// Rejoins by external commit.
    pub resyncs: u64,
    /// Messages of this endpoint that stand in the log, whole.
    #[serde(default)]
    pub messages_sent: u64,
    /// Messages of others, whole.
    #[serde(default)]
    pub messages_received: u64,
}

impl<S: Store> Room<S> {
    /// The room as this endpoint sees it.
    pub fn status(&self) -> Status {
        let current = self.current.as_ref();
        let policy = current.map(|c| c.policy.clone());
        let members = current.map(|c| self.members_of(c)).unwrap_or_default();
        Status {
            state: self.state(),
            room: self.settings.room.clone(),
            group_id: current.map(|c| hex::encode(c.group.id())).unwrap_or_default(),
            epoch: current.map(|c| c.group.epoch()).unwrap_or_default(),
            epoch_code: current.map(code_of).unwrap_or_default(),
            verified: members.len() > 1 && members.iter().all(|member| member.own || member.verified),
            members,
            policy_digest: policy
                .as_ref()
                .map(|p| hex::encode(p.digest()))
                .unwrap_or_default(),
            accepted: policy.as_ref().is_some_and(|p| p.claim <= self.settings.accept),
            policy,
            accept: self.settings.accept,
            recording_since: self.recording_since,
            counters: self.counters.clone(),
        }
    }

    fn members_of(&self, current: &Current) -> Vec<Member> {
        let members = current.roster.iter().map(|(leaf, of)| {
            let own = *leaf == current.own();
            Member {
                verified: self.compared.contains(&of.identity.fingerprint),
                name: self.name_of(&of.identity.fingerprint, own),
                ..member_of(*leaf, &of.identity, own)
            }
        });
        members.collect()
    }

    /// What the key source says of the present epoch.
    pub(super) fn room_state(&self, current: &Current) -> RoomState {
        let (policy, own) = (&current.policy, self.own.identity());
        let is_recorder = own.is_recorder()
            && policy.trusts(own)
            && policy.admits_as(Role::Recorder, own)
            && !policy.denies(own);
        RoomState {
            epoch: current.group.epoch(),
            room_id: Some(hex::encode(current.group.id())),
            claim: Some(policy.claim.to_string()),
            recording: Some(policy.recording),
            recorder: Some(is_recorder),
            leaf: Some(current.own()),
            members: u32::try_from(current.roster.len()).ok(),
            consent: policy.consent.clone(),
            recipients: Some(policy.recipients.iter().map(ToString::to_string).collect()),
            escrow: policy.escrow.as_ref().map(|escrow| EscrowState {
                fingerprint: escrow.fingerprint.to_string(),
                m: escrow.m.into(),
                n: escrow.n.into(),
            }),
            retention_days: policy.retention_days,
            policy_digest: Some(hex::encode(policy.digest())),
            // What the key source knows by itself.
            standing: None,
            certificates: Vec::new(),
        }
    }
}

pub(crate) fn member_of(leaf: u32, identity: &Identity, own: bool) -> Member {
    Member {
        leaf,
        id: identity.subject.clone(),
        operator: identity.operator.clone(),
        roles: identity.roles.clone(),
        fingerprint: identity.fingerprint.to_string(),
        own,
        verified: false,
        name: None,
    }
}
