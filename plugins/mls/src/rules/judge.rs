//! The judgement of one commit, rule by rule.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Change, Committer, Judged, Leaf, MAX_ADDS, RUNAWAY_SECONDS, Refusal, Roster, check_admitted, check_newer,
    check_not_older, check_valid,
};
use crate::identity::{Fingerprint, Identity};
use crate::policy::{Act, Claim, Policy, weakens};

/// May this commit be merged?
///
/// The same values give the same answer everywhere. `group_time` is the latest time of the leaves in `roster`.
///
/// A commit's time must not lie before the group's, with one exception. A single member whose clock runs away (or who
/// lets it) would otherwise drag the group's time beyond the end of everybody else's certificates, and nobody could
/// ever commit again, not even to remove that member. So who may remove members may, in a commit that adds nobody,
/// leave out of the reckoning those whom it removes, where they are more than [`RUNAWAY_SECONDS`] ahead of all who stay.
pub fn judge(policy: &Policy, roster: &Roster, group_time: u64, change: &Change) -> Result<Judged, Refusal> {
    if let Some(name) = change.forbidden.first() {
        return Err(Refusal::Forbidden(name));
    }
    let path = change.path.as_ref().ok_or(Refusal::NoPath)?;
    if change.adds.len() > MAX_ADDS {
        return Err(Refusal::TooManyAdds(change.adds.len()));
    }
    let new_policy = match &change.policy {
        None => None,
        Some(Err(reason)) => return Err(Refusal::PolicyUnreadable(reason.clone())),
        Some(Ok(new)) => Some(new),
    };
    let removed = removed_leaves(roster, change)?;

    let old = match change.committer {
        Committer::Member(leaf) => {
            let old = roster.get(&leaf).ok_or(Refusal::NoCommitter(leaf))?;
            if removed.contains_key(&leaf) {
                return Err(Refusal::RemovesCommitter);
            }
            old
        }
        Committer::External => rejoining_leaf(&removed, change, path)?,
    };
    check_replacement(&old.identity, path)?;

    let gone: Vec<u32> = removed.keys().copied().collect();
    let group = match change.committer {
        Committer::Member(_) => earliest_time(
            policy,
            roster,
            group_time,
            &old.identity,
            &gone,
            !change.adds.is_empty(),
        ),
        Committer::External => group_time,
    };
    if change.time < group {
        return Err(Refusal::TimeBack {
            time: change.time,
            group,
        });
    }
    check_valid(path, change.time)?;

    if let Committer::Member(_) = change.committer {
        check_member(policy, change, &removed, &old.identity, path)?;
    }
    let in_force = new_policy.unwrap_or(policy);
    check_result(in_force, roster, change, &removed, path)?;
    Ok(Judged {
        policy: in_force.clone(),
        removed: gone,
        weakening: new_policy.is_some_and(|new| !weakens(policy, new).is_empty()),
    })
}

/// The leaves that go; each exists, and goes once.
fn removed_leaves<'a>(roster: &'a Roster, change: &Change) -> Result<BTreeMap<u32, &'a Leaf>, Refusal> {
    let mut removed = BTreeMap::new();
    for removal in &change.removes {
        let leaf = roster
            .get(&removal.leaf)
            .ok_or(Refusal::NoSuchLeaf(removal.leaf))?;
        if removed.insert(removal.leaf, leaf).is_some() {
            return Err(Refusal::RemovedTwice(removal.leaf));
        }
    }
    Ok(removed)
}

/// The leaf whose place an external commit takes.
fn rejoining_leaf<'a>(
    removed: &BTreeMap<u32, &'a Leaf>,
    change: &Change,
    path: &Identity,
) -> Result<&'a Leaf, Refusal> {
    if !change.adds.is_empty() || change.policy.is_some() {
        return Err(Refusal::RejoinWithMore);
    }
    let mut leaves = removed.values();
    match (leaves.next(), leaves.next()) {
        (Some(leaf), None) if leaf.identity.same_as(path) => Ok(leaf),
        _ => Err(Refusal::NotARejoin),
    }
}

/// What a member may do with its own leaf: other keys, a renewed certificate, fewer roles.
fn check_replacement(old: &Identity, path: &Identity) -> Result<(), Refusal> {
    if !old.same_as(path) {
        return Err(Refusal::OtherIdentity {
            expected: old.subject.clone(),
            found: path.subject.clone(),
        });
    }
    // A role that it did not come with would pass by those who have the right to add.
    if path.roles.iter().any(|role| !old.roles.contains(role)) {
        return Err(Refusal::WiderRoles(path.subject.clone()));
    }
    check_not_older(old, path)
}

/// The time before which a commit must not lie: the group's, with the exception that [`judge`] describes.
///
/// A committer takes the later one of this and its own clock. Where this lies more than [`RUNAWAY_SECONDS`] after its
/// own clock, it should commit nothing but the removal of the leaves that are ahead: otherwise it follows them.
pub fn earliest_time(
    policy: &Policy,
    roster: &Roster,
    group_time: u64,
    committer: &Identity,
    removes: &[u32],
    adds_anybody: bool,
) -> u64 {
    if adds_anybody || !policy.allows(Act::Remove, committer) {
        return group_time;
    }
    let staying = roster.iter().filter(|(leaf, _)| !removes.contains(leaf));
    let others = staying.map(|(_, leaf)| leaf.time).max().unwrap_or(group_time);
    if group_time > others.saturating_add(RUNAWAY_SECONDS) {
        others
    } else {
        group_time
    }
}

/// What a member's commit may do, under the policy in force and by the certificate that the committer had in it.
fn check_member(
    policy: &Policy,
    change: &Change,
    removed: &BTreeMap<u32, &Leaf>,
    committer: &Identity,
    path: &Identity,
) -> Result<(), Refusal> {
    let empty = change.adds.is_empty() && removed.is_empty();
    let only_update = empty && change.policy.is_none();
    if !committer.is_participant() && !only_update {
        return Err(Refusal::RecorderCommits(committer.subject.clone()));
    }
    let needs = |act: Act| require(policy, act, committer);
    if !change.adds.is_empty() {
        needs(Act::Add)?;
    }
    for add in &change.adds {
        if add.time > change.time {
            return Err(Refusal::LeafAhead(add.identity.subject.clone()));
        }
        check_valid(&add.identity, add.time)?;
        check_valid(&add.identity, change.time)?;
    }
    // Certificates that this commit puts out of use, with or without the right to remove.
    let mut replaced = BTreeSet::from([committer.fingerprint]);
    for removal in &change.removes {
        let Some(old) = removed.get(&removal.leaf) else {
            continue;
        };
        match change.adds.iter().find(|add| add.identity.same_as(&old.identity)) {
            // Only its own identity could make the key package, so it is a rejoin. Not newer: somebody repeats an old
            // key package to push the member out.
            Some(new) => {
                check_newer(old, new)?;
                replaced.insert(old.identity.fingerprint);
            }
            None if removal.by_itself => {}
            None => needs(Act::Remove)?,
        }
    }
    match &change.policy {
        Some(Ok(new)) => {
            // A renewed certificate is something else as well: a weaker policy could be what admits it.
            let alone = empty && path.fingerprint == committer.fingerprint;
            check_policy(policy, new, committer, alone, removed, &replaced)
        }
        _ => Ok(()),
    }
}

fn require(policy: &Policy, act: Act, committer: &Identity) -> Result<(), Refusal> {
    if policy.allows(act, committer) {
        Ok(())
    } else {
        Err(Refusal::NoRight {
            subject: committer.subject.clone(),
            act,
        })
    }
}

/// May this committer change the policy like this, in a commit that otherwise does this?
fn check_policy(
    old: &Policy,
    new: &Policy,
    committer: &Identity,
    alone: bool,
    removed: &BTreeMap<u32, &Leaf>,
    replaced: &BTreeSet<Fingerprint>,
) -> Result<(), Refusal> {
    for (same, field) in [
        (old.version == new.version, "version"),
        (old.room == new.room, "room"),
        (old.epoch_bits == new.epoch_bits, "epoch_bits"),
    ] {
        if !same {
            return Err(Refusal::Fixed(field));
        }
    }
    if new == old {
        return Err(Refusal::PolicyUnchanged);
    }
    let on = new.recording && !old.recording;
    if on && old.claim == Claim::Strict {
        return Err(Refusal::RecordingInStrict);
    }
    new.validate()?;

    // A policy that only says who records and who is denied needs less than the right to change policies.
    let needs = |act: Act| require(old, act, committer);
    let rest = Policy {
        deny: old.deny.clone(),
        ..old.with_recording(new.recording)
    };
    let rest_changed = Policy {
        deny: old.deny.clone(),
        ..new.clone()
    } != rest;
    let undenied = old.deny.iter().any(|fingerprint| !new.deny.contains(fingerprint));
    if rest_changed || undenied {
        needs(Act::Policy)?;
    }
    for fingerprint in new
        .deny
        .iter()
        .filter(|fingerprint| !old.deny.contains(fingerprint))
    {
        if replaced.contains(fingerprint) {
            continue;
        }
        let goes = removed
            .values()
            .any(|leaf| leaf.identity.fingerprint == *fingerprint);
        if !(goes && old.allows(Act::Remove, committer)) {
            needs(Act::Policy)?;
        }
    }

    let weaker = weakens(old, new);
    if !weaker.is_empty() && (!alone || on) {
        return Err(Refusal::WeakeningNotAlone(weaker.join("; ")));
    }
    if on {
        needs(Act::Recording)?;
        if !alone || new.deny != old.deny || rest_changed {
            return Err(Refusal::RecordingNotAlone);
        }
    }
    Ok(())
}

/// The roster that a commit leads to, under the policy that it leads to.
fn check_result(
    policy: &Policy,
    roster: &Roster,
    change: &Change,
    removed: &BTreeMap<u32, &Leaf>,
    path: &Identity,
) -> Result<(), Refusal> {
    let own = match change.committer {
        Committer::Member(leaf) => Some(leaf),
        Committer::External => None,
    };
    let staying = roster
        .iter()
        .filter(|(leaf, _)| !removed.contains_key(leaf) && Some(**leaf) != own)
        .map(|(_, leaf)| &leaf.identity);
    let coming = change.adds.iter().map(|leaf| &leaf.identity);
    let mut seen = BTreeSet::new();
    for identity in staying.chain([path]).chain(coming) {
        check_admitted(policy, identity)?;
        if !seen.insert((identity.root, identity.subject.as_str())) {
            return Err(Refusal::Twice(identity.subject.clone()));
        }
    }
    Ok(())
}
