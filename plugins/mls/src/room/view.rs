//! What a staged commit wants, in the words of the rules.

use openmls::prelude::*;

use super::group::{GroupError, POLICY_EXTENSION, certified, leaf_time, policy_of};
use crate::policy::Policy;
use crate::rules::{Change, Committer, Leaf, Removal};

/// Reads a staged commit. An error means that it breaks a rule by itself: a certificate that does not verify, a leaf
/// without a time. `policy` is the one in force before it.
pub fn change(commit: &StagedCommit, sender: &Sender, policy: &Policy) -> Result<Change, GroupError> {
    let committer = match sender {
        Sender::Member(leaf) => Committer::Member(leaf.u32()),
        Sender::NewMemberCommit => Committer::External,
        Sender::External(_) | Sender::NewMemberProposal => {
            return Err(GroupError::Refused("a commit from outside the room".into()));
        }
    };
    let Some(path) = commit.update_path_leaf_node() else {
        return Err(GroupError::Refused(
            "a commit without a path: it brings no fresh keys".into(),
        ));
    };
    let time = leaf_time(path)?;

    let mut forbidden = Vec::new();
    let mut adds = Vec::new();
    let mut removes = Vec::new();
    let mut new_policy = None;
    for queued in commit.queued_proposals() {
        let by_value = queued.proposal_or_ref_type() == ProposalOrRefType::Proposal;
        let proposal = queued.proposal();
        match proposal {
            Proposal::Add(add) if by_value => adds.push(add.key_package().leaf_node()),
            Proposal::Remove(remove) => {
                let leaf = remove.removed().u32();
                let by_itself = matches!(queued.sender(), Sender::Member(from) if from.u32() == leaf);
                if !by_value && !by_itself {
                    forbidden.push("somebody's proposal to remove somebody else");
                }
                removes.push(Removal {
                    leaf,
                    by_itself: by_itself && !by_value,
                });
            }
            Proposal::GroupContextExtensions(extensions) if by_value => {
                if new_policy.is_some() {
                    forbidden.push("a second change of the policy");
                }
                new_policy = Some(policy_of(extensions.extensions()));
            }
            Proposal::ExternalInit(_) if committer == Committer::External => {}
            other => forbidden.push(name(other)),
        }
    }
    // What the group will hold counts, whatever the proposals said.
    let resulting = commit.group_context().extensions();
    if new_policy.is_none()
        && resulting.unknown(POLICY_EXTENSION).map(|p| p.0.as_slice()) != Some(&policy.encode())
    {
        forbidden.push("a changed policy without a proposal");
    }

    let roots = &policy.roots;
    let path = certified(path, roots, time)?;
    let adds = adds
        .into_iter()
        .map(|leaf| {
            // Valid when it asked, and valid when it is let in.
            let identity = certified(leaf, roots, leaf_time(leaf)?)?;
            certified(leaf, roots, time)?;
            let time = leaf_time(leaf)?;
            Ok(Leaf { identity, time })
        })
        .collect::<Result<Vec<_>, GroupError>>()?;
    Ok(Change {
        committer,
        time,
        path: Some(path),
        adds,
        removes,
        policy: new_policy,
        forbidden,
    })
}

fn name(proposal: &Proposal) -> &'static str {
    match proposal {
        Proposal::Add(_) => "an Add proposal by reference",
        Proposal::Update(_) => "an Update proposal",
        Proposal::Remove(_) => "a Remove proposal",
        Proposal::PreSharedKey(_) => "a PreSharedKey proposal",
        Proposal::ReInit(_) => "a ReInit proposal",
        Proposal::ExternalInit(_) => "an ExternalInit proposal of a member",
        Proposal::GroupContextExtensions(_) => "a GroupContextExtensions proposal by reference",
        Proposal::SelfRemove => "a SelfRemove proposal",
        Proposal::Custom(_) => "a custom proposal",
    }
}
