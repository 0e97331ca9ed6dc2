//! A commit that is authentic and cannot be processed here: its author may have encrypted its path wrongly for some of the
//! room, or for all. Some go on with it, and then it is to be joined from outside; or nobody does, and then all leave it
//! out. That must be known for certain: whoever takes one for the other is in a room of its own.

use std::collections::BTreeMap;

use super::group::GroupError;
use super::{Event, Room};
use crate::identity::Identity;
use crate::store::Store;

/// Commits that wait while one cannot be followed.
const HELD: usize = 256;

/// A commit of this epoch is authentic, and cannot be processed here.
pub(super) struct Stuck {
    /// Its author's leaf, where that is known.
    author: Option<u32>,
    /// Who could not follow it either, as it says or as a new key package of it shows, and where in the log that stands.
    lost: BTreeMap<u32, u64>,
    /// Where the log's last commit of a later epoch stands: somebody was there.
    later: u64,
    /// What came after it.
    held: Vec<(u64, [u8; 32], Vec<u8>)>,
}

impl<S: Store> Room<S> {
    /// A commit that is fine for others, perhaps, and not here: nothing is sealed until it is known.
    pub(super) fn cannot_follow(&mut self, reason: &str, author: Option<&[u8]>) -> Result<(), GroupError> {
        self.counters.refused += 1;
        self.event(Event::Stale {
            reason: format!("a commit cannot be followed here ({reason}): joining again"),
        });
        let roster = self.current.as_ref().map(|current| &current.roster);
        let mut leaves = roster.into_iter().flatten();
        let author = leaves.find(|(_, leaf)| Some(&leaf.identity.public_key[..]) == author);
        self.stuck = Some(Stuck {
            author: author.map(|(leaf, _)| *leaf),
            lost: BTreeMap::new(),
            later: 0,
            held: Vec::new(),
        });
        self.start_rejoin("a commit could not be followed".into(), false);
        self.check_all_stuck()
    }

    pub(super) fn hold(&mut self, sequence: u64, hash: [u8; 32], commit: &[u8], epoch: u64) {
        let present = self.current.as_ref().map(|current| current.group.epoch());
        let Some(stuck) = &mut self.stuck else { return };
        if Some(epoch) > present {
            stuck.later = sequence;
        }
        if stuck.held.len() < HELD {
            stuck.held.push((sequence, hash, commit.to_vec()));
        }
    }

    /// A member says that it could not follow it; or it has made a new key package, so that it has no state any more with
    /// which it could have.
    pub(super) fn somebody_stuck(&mut self, leaf: u32) {
        if let Some(stuck) = &mut self.stuck {
            stuck.lost.insert(leaf, self.cursor);
        }
    }

    /// Everybody but the author could not follow it: then nobody does, and the room goes on without it.
    pub(super) fn check_all_stuck(&mut self) -> Result<(), GroupError> {
        let (Some(stuck), Some(current)) = (&self.stuck, &self.current) else {
            return Ok(());
        };
        // An author who says that it could not follow its own commit would split the room. And who said so before others
        // were in a later epoch may be there by now.
        let others = current.roster.keys().filter(|leaf| {
            **leaf != current.own()
                && Some(**leaf) != stuck.author
                && stuck.lost.get(leaf).is_none_or(|at| *at < stuck.later)
        });
        // Where the author is not known, it is one of them.
        if others.count() > usize::from(stuck.author.is_none()) {
            return Ok(());
        }
        let held = self.stuck.take().map(|stuck| stuck.held).unwrap_or_default();
        if self.rejoin.as_ref().is_some_and(|rejoin| rejoin.waits_for_info()) {
            self.rejoin = None;
        }
        self.event(Event::Refused {
            what: "commit",
            by: String::new(),
            reason: "nobody but its author can follow it".into(),
        });
        for (sequence, hash, commit) in held {
            if let Some(stuck) = &mut self.stuck {
                stuck.held.push((sequence, hash, commit));
            } else {
                self.commit_here(sequence, hash, &commit)?;
            }
        }
        Ok(())
    }

    /// Who made the commit that cannot be followed.
    pub(super) fn author_of_stuck(&self) -> Option<Identity> {
        let leaf = self.stuck.as_ref()?.author?;
        let author = self.current.as_ref()?.roster.get(&leaf)?;
        Some(author.identity.clone())
    }
}
