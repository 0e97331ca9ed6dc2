//! A commit that is authentic and cannot be processed here: its author may have encrypted its path wrongly for some of the
//! room, or for all. Some go on with it, and then it is to be joined from outside; or nobody does, and then all leave it
//! out. That must be known for certain: whoever takes one for the other is in a room of its own.

use std::collections::BTreeSet;

use super::group::GroupError;
use super::{Event, Room};
use crate::store::Store;

/// Commits that wait while one cannot be followed.
const HELD: usize = 256;

/// A commit of this epoch is authentic, and cannot be processed here.
pub(super) struct Stuck {
    /// Its author's leaf, where that is known.
    author: Option<u32>,
    /// Who says that it cannot follow it either.
    said: BTreeSet<u32>,
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
            said: BTreeSet::new(),
            held: Vec::new(),
        });
        self.start_rejoin("a commit could not be followed".into(), false);
        self.check_all_stuck()
    }

    pub(super) fn hold(&mut self, sequence: u64, hash: [u8; 32], commit: &[u8]) {
        if let Some(stuck) = &mut self.stuck
            && stuck.held.len() < HELD
        {
            stuck.held.push((sequence, hash, commit.to_vec()));
        }
    }

    pub(super) fn somebody_stuck(&mut self, leaf: u32) {
        if let Some(stuck) = &mut self.stuck {
            stuck.said.insert(leaf);
        }
    }

    /// Everybody but the author could not follow it, or has nothing left to follow it with and asks to be let in anew:
    /// then nobody does, and the room goes on without it.
    pub(super) fn check_all_stuck(&mut self) -> Result<(), GroupError> {
        let (Some(stuck), Some(current)) = (&self.stuck, &self.current) else {
            return Ok(());
        };
        // An author who says that it could not follow its own commit would split the room.
        let others = current.roster.iter().filter(|(leaf, of)| {
            let mut candidates = self.candidates.iter();
            **leaf != current.own()
                && Some(**leaf) != stuck.author
                && !stuck.said.contains(leaf)
                && !candidates.any(|asks| asks.leaf.identity.same_as(&of.identity))
        });
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
            if self.stuck.is_some() {
                self.hold(sequence, hash, &commit);
            } else {
                self.commit_here(sequence, hash, &commit)?;
            }
        }
        Ok(())
    }
}
