//! What a commit may do: every member judges every commit before it merges it.
//!
//! A commit is judged under the policy that was in force, the roster that it results in under the policy that it
//! brings. Everything is a function of the group's state and of the commit's bytes: no clock, no setting, no handler, so
//! that all members decide alike. It must never accept what it does not understand.

mod judge;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::{Fingerprint, Identity, Role};
use crate::policy::{Act, Claim, Policy, PolicyError};

pub use judge::{earliest_time, judge};

/// Most members that one commit adds.
pub const MAX_ADDS: usize = 256;

/// A leaf that is so many seconds ahead of all others has a clock that runs away: see [`judge`].
pub const RUNAWAY_SECONDS: u64 = 24 * 60 * 60;

/// A member, or somebody who is to become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Who it is, as its verified certificate says.
    pub identity: Identity,
    /// Reference time in the leaf node, in unix seconds.
    pub time: u64,
}

/// The members, by leaf index.
pub type Roster = BTreeMap<u32, Leaf>;

/// The group's time: the latest of its leaves; 0 without any.
pub fn group_time(roster: &Roster) -> u64 {
    roster.values().map(|leaf| leaf.time).max().unwrap_or(0)
}

/// Who made a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committer {
    /// The member at this leaf.
    Member(u32),
    /// Somebody outside who takes the place of its own leaf (RFC 9420 §12.4.3.2).
    External,
}

/// A Remove in a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// The leaf that goes.
    pub leaf: u32,
    /// Did the member at that very leaf propose it, in a proposal that it signed?
    pub by_itself: bool,
}

/// What a commit does, taken out of its bytes. Whoever fills it in has verified the certificates: that of the path at
/// the commit's `time`, that of each added leaf at that time and at the leaf's own, each against the roots of the policy
/// in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who made it.
    pub committer: Committer,
    /// Reference time in the leaf node of its path, in unix seconds.
    pub time: u64,
    /// The identity in the leaf node of its path; none without a path.
    pub path: Option<Identity>,
    /// Leaves of the key packages that it adds.
    pub adds: Vec<Leaf>,
    /// Leaves that it removes.
    pub removes: Vec<Removal>,
    /// The policy in its GroupContextExtensions proposal, where it has one; `Err` says why that holds no policy, or
    /// what else in it may not be.
    pub policy: Option<Result<Policy, String>>,
    /// Names of proposals in it that no room takes.
    pub forbidden: Vec<&'static str>,
}

/// What an accepted commit leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The policy from then on.
    pub policy: Policy,
    /// Leaves whose holders must not read what comes after, sorted; also those that the same identity takes again.
    pub removed: Vec<u32>,
    /// Is the policy weaker than before?
    pub weakening: bool,
}

/// Why a commit, a key package or a roster is refused. Names in it are subject ids, which are opaque.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A kind of proposal that no room takes.
    #[error("it has a proposal that no room takes: {0}")]
    Forbidden(&'static str),
    /// Its committer is no member.
    #[error("there is no member at leaf {0} who could have committed it")]
    NoCommitter(u32),
    /// Without a path the committer's keys would not be renewed.
    #[error("it has no path: every commit renews the keys of its committer")]
    NoPath,
    /// Its time lies before the group's.
    #[error("its time ({time}) lies before that of the group ({group})")]
    TimeBack {
        /// Unix seconds of the commit.
        time: u64,
        /// Unix seconds of the group.
        group: u64,
    },
    /// The path carries somebody else's identity.
    #[error("its path says {found}, but its committer is {expected}")]
    OtherIdentity {
        /// Subject id of the committer.
        expected: String,
        /// Subject id in the path.
        found: String,
    },
    /// A member gives itself another role.
    #[error(
        "{0} gives itself a role that it did not have: it must leave and be added again with that certificate"
    )]
    WiderRoles(String),
    /// A leaf is replaced under a certificate that was issued before the present one.
    #[error("{0} comes with a certificate that is older than the one it has in the room")]
    OlderCertificate(String),
    /// A certificate that is not valid at the time at which it is judged.
    #[error("the certificate of {subject} is not valid at the time {time}")]
    NotValid {
        /// Subject id.
        subject: String,
        /// Unix seconds.
        time: u64,
    },
    /// Removes a leaf that is blank or does not exist.
    #[error("it removes leaf {0}, where there is no member")]
    NoSuchLeaf(u32),
    /// Removes a leaf twice.
    #[error("it removes leaf {0} twice")]
    RemovedTwice(u32),
    /// Removes its own committer.
    #[error("it removes its own committer")]
    RemovesCommitter,
    /// Adds more than [`MAX_ADDS`] members.
    #[error("it adds {0} members; at most {MAX_ADDS} may come in at once")]
    TooManyAdds(usize),
    /// A leaf from later than the commit that adds it, or than the group that it is in.
    #[error("the leaf of {0} carries a time that lies after that of the commit")]
    LeafAhead(String),
    /// Somebody is replaced by a key package that is not newer than its leaf.
    #[error("{0} is to be replaced by a key package that is not newer than the leaf it has")]
    NotNewer(String),
    /// An external commit that is no rejoin.
    #[error(
        "from outside only a rejoin is taken: it must remove exactly one leaf, that of the same identity"
    )]
    NotARejoin,
    /// A rejoin that does more.
    #[error("a rejoin from outside may add nobody and change no policy")]
    RejoinWithMore,
    /// A recorder commits more than its own update.
    #[error("{0} only records: it may commit nothing but an update of its own keys")]
    RecorderCommits(String),
    /// The committer does not have the right.
    #[error("{subject} does not have the right `{act}`")]
    NoRight {
        /// Subject id of the committer.
        subject: String,
        /// The right.
        act: Act,
    },
    /// The policy that it brings cannot be read, or is not alone.
    #[error("it brings no policy that can be read: {0}")]
    PolicyUnreadable(String),
    /// The policy that it brings contradicts itself.
    #[error(transparent)]
    PolicyInvalid(#[from] PolicyError),
    /// It brings the policy that is in force.
    #[error("it brings the policy that is in force already")]
    PolicyUnchanged,
    /// Something changed that never may.
    #[error("the policy's field `{0}` stays as it is for the life of a room")]
    Fixed(&'static str),
    /// A weakening together with something else.
    #[error("it weakens the policy ({0}) and does something else as well: a weakening must come alone")]
    WeakeningNotAlone(String),
    /// Recording switched on together with something else.
    #[error("it switches recording on and does something else as well: that must come alone")]
    RecordingNotAlone,
    /// Recording switched on in a strict room.
    #[error("a strict room is not recorded")]
    RecordingInStrict,
    /// A recorder in a strict room.
    #[error("{0} is a recorder, and the room is strict")]
    RecorderInStrict(String),
    /// A certificate that the policy denies.
    #[error("the certificate of {subject} ({fingerprint}) is denied in this room")]
    Denied {
        /// Subject id.
        subject: String,
        /// SHA-256 of the certificate.
        fingerprint: Fingerprint,
    },
    /// A root that the policy does not name.
    #[error("{0} has a certificate from an authority that this room does not trust")]
    UntrustedRoot(String),
    /// A certificate that no admission covers, in one of its roles.
    #[error("{subject} ({fingerprint}) is not admitted to this room as {role}")]
    NotAdmitted {
        /// Subject id.
        subject: String,
        /// SHA-256 of the certificate.
        fingerprint: Fingerprint,
        /// The role.
        role: Role,
    },
    /// Two leaves of one identity.
    #[error("{0} would be in the room twice")]
    Twice(String),
}

/// May this identity be in a room with this policy?
fn check_admitted(policy: &Policy, identity: &Identity) -> Result<(), Refusal> {
    let subject = || identity.subject.clone();
    let fingerprint = identity.fingerprint;
    if policy.denies(identity) {
        return Err(Refusal::Denied {
            subject: subject(),
            fingerprint,
        });
    }
    if !policy.trusts(identity) {
        return Err(Refusal::UntrustedRoot(subject()));
    }
    if policy.claim == Claim::Strict && identity.is_recorder() {
        return Err(Refusal::RecorderInStrict(subject()));
    }
    // Every certified role: who is admitted as a participant does not bring a recorder along in the same certificate.
    match identity
        .roles
        .iter()
        .find(|role| !policy.admits_as(**role, identity))
    {
        Some(&role) => Err(Refusal::NotAdmitted {
            subject: subject(),
            fingerprint,
            role,
        }),
        // No role at all is no admission.
        None if identity.roles.is_empty() => Err(Refusal::NotAdmitted {
            subject: subject(),
            fingerprint,
            role: Role::Participant,
        }),
        None => Ok(()),
    }
}

fn check_valid(identity: &Identity, time: u64) -> Result<(), Refusal> {
    if (identity.not_before..=identity.not_after).contains(&time) {
        Ok(())
    } else {
        Err(Refusal::NotValid {
            subject: identity.subject.clone(),
            time,
        })
    }
}

/// The leaf with this identity.
fn find<'a>(roster: &'a Roster, identity: &Identity) -> Option<(u32, &'a Leaf)> {
    roster
        .iter()
        .find(|(_, leaf)| leaf.identity.same_as(identity))
        .map(|(index, leaf)| (*index, leaf))
}

/// May a present leaf give way to this one of the same identity, in an add?
fn check_newer(old: &Leaf, new: &Leaf) -> Result<(), Refusal> {
    if new.time <= old.time {
        return Err(Refusal::NotNewer(new.identity.subject.clone()));
    }
    check_not_older(&old.identity, &new.identity)
}

/// Whoever holds a key that its owner has replaced since must not come back with it and push the owner out.
fn check_not_older(old: &Identity, new: &Identity) -> Result<(), Refusal> {
    if new.not_before < old.not_before {
        Err(Refusal::OlderCertificate(new.subject.clone()))
    } else {
        Ok(())
    }
}

/// May the holder of this key package be added by somebody who has the right to? Where its identity is present
/// already, that leaf has to be removed in the same commit.
pub fn may_add(policy: &Policy, roster: &Roster, candidate: &Leaf) -> Result<(), Refusal> {
    check_admitted(policy, &candidate.identity)?;
    check_valid(&candidate.identity, candidate.time)?;
    match find(roster, &candidate.identity) {
        Some((_, present)) => check_newer(present, candidate),
        None => Ok(()),
    }
}

/// Is this a room that one may join? A joiner sees no commit, so it judges what many commits must have led to.
///
/// Each certificate is judged at the time of its own leaf: that is when its holder last showed it.
pub fn check_roster(policy: &Policy, roster: &Roster, time: u64) -> Result<(), Refusal> {
    policy.validate()?;
    let mut seen = BTreeSet::new();
    for leaf in roster.values() {
        if leaf.time > time {
            return Err(Refusal::LeafAhead(leaf.identity.subject.clone()));
        }
        check_valid(&leaf.identity, leaf.time)?;
        check_admitted(policy, &leaf.identity)?;
        if !seen.insert((leaf.identity.root, leaf.identity.subject.as_str())) {
            return Err(Refusal::Twice(leaf.identity.subject.clone()));
        }
    }
    Ok(())
}
