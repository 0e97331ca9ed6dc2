//! A commit that is authentic and cannot be processed here: its author may have encrypted its path wrongly for some of the
//! room, or for all. Some go on with it, and then it is to be joined from outside; or nobody does, and then all leave it
//! out. That must be known for certain: whoever takes one for the other is in a room of its own.

use std::collections::BTreeMap;
use std::mem::discriminant;

use super::group::GroupError;
use super::{Event, Room};
use crate::identity::Identity;
use crate::store::Store;

/// Commits that wait while one cannot be followed.
const HELD: usize = 256;
/// Parts of messages that wait, of at most 256 KiB each.
const HELD_CONTENTS: usize = 64;

/// A commit of this epoch is authentic, and cannot be processed here.
pub(super) struct Stuck {
    /// Where it stands in the log.
    sequence: u64,
    /// Its record's hash.
    hash: [u8; 32],
    /// Its author's leaf, where that is known.
    author: Option<u32>,
    /// Who said that it cannot follow it either, and where in the log that stands.
    said: BTreeMap<u32, u64>,
    /// Who has made a new key package, so that it has no state any more with which it could follow anything, and where that
    /// stands.
    lost: BTreeMap<u32, u64>,
    /// Where the log's last commit of a later epoch stands: somebody was there.
    later: u64,
    /// What came after it.
    held: Vec<Held>,
}

/// What waits, in the log's order: where the commit is left out, one behind it may end the epoch, and what was said behind
/// that one is then said to nobody.
pub(super) enum Held {
    Commit {
        sequence: u64,
        hash: [u8; 32],
        epoch: u64,
        commit: Vec<u8>,
    },
    Content {
        hash: [u8; 32],
        message: Vec<u8>,
    },
}

impl<S: Store> Room<S> {
    /// A commit that is fine for others, perhaps, and not here: nothing is sealed until it is known.
    pub(super) fn cannot_follow(
        &mut self,
        sequence: u64,
        hash: [u8; 32],
        reason: &str,
        author: Option<&[u8]>,
    ) -> Result<(), GroupError> {
        self.counters.refused += 1;
        self.event(Event::Stale {
            reason: format!("a commit cannot be followed here ({reason}): joining again"),
        });
        let roster = self.current.as_ref().map(|current| &current.roster);
        let mut leaves = roster.into_iter().flatten();
        let author = leaves.find(|(_, leaf)| Some(&leaf.identity.public_key[..]) == author);
        self.stuck = Some(Stuck {
            sequence,
            hash,
            author: author.map(|(leaf, _)| *leaf),
            said: BTreeMap::new(),
            lost: BTreeMap::new(),
            later: 0,
            held: Vec::new(),
        });
        self.start_rejoin("a commit could not be followed".into(), false);
        self.check_all_stuck()
    }

    /// Keeps what waits, if there are not too many of its kind.
    pub(super) fn hold(&mut self, held: Held) {
        let present = self.current.as_ref().map(|current| current.group.epoch());
        let Some(stuck) = &mut self.stuck else { return };
        let most = match &held {
            Held::Commit { sequence, epoch, .. } => {
                if Some(*epoch) > present {
                    stuck.later = *sequence;
                }
                HELD
            }
            Held::Content { .. } => HELD_CONTENTS,
        };
        let kind = discriminant(&held);
        if stuck
            .held
            .iter()
            .filter(|held| discriminant(*held) == kind)
            .count()
            < most
        {
            stuck.held.push(held);
        }
    }

    /// Which commit this endpoint cannot follow: its record's hash.
    pub(super) fn stuck_at(&self) -> Option<[u8; 32]> {
        self.stuck.as_ref().map(|stuck| stuck.hash)
    }

    /// A member says that it cannot follow the commit with this record's hash. Of another one that says nothing: it may
    /// have left that one out since, and follow this one.
    pub(super) fn somebody_stuck(&mut self, leaf: u32, hash: &[u8]) {
        if let Some(stuck) = self.stuck.as_mut().filter(|stuck| stuck.hash == hash) {
            stuck.said.insert(leaf, self.cursor);
        }
    }

    /// A member has made a new key package: it has no state any more.
    pub(super) fn somebody_lost(&mut self, leaf: u32) {
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
        let cannot = |by: &BTreeMap<u32, u64>, leaf| by.get(leaf).is_some_and(|at| *at >= stuck.later);
        let others = current.roster.keys().filter(|leaf| {
            **leaf != current.own()
                && Some(**leaf) != stuck.author
                && !cannot(&stuck.said, leaf)
                && !cannot(&stuck.lost, leaf)
        });
        // Where the author is not known, it is one of them.
        if others.count() > usize::from(stuck.author.is_none()) {
            return Ok(());
        }
        let Some(left_out) = self.stuck.take() else {
            return Ok(());
        };
        if self.rejoin.as_ref().is_some_and(|rejoin| rejoin.waits_for_info()) {
            self.rejoin = None;
        }
        self.event(Event::Refused {
            what: "commit",
            by: String::new(),
            reason: "nobody but its author can follow it".into(),
        });
        for held in left_out.held {
            match held {
                Held::Commit { .. } if self.stuck.is_some() => self.hold(held),
                Held::Commit {
                    sequence,
                    hash,
                    commit,
                    ..
                } => {
                    self.commit_here(sequence, hash, &commit)?;
                    if let Some(stuck) = &mut self.stuck {
                        // Who had no state after this commit, too, could not follow it either. Of one that came later, it
                        // may have come in by it.
                        let lost = left_out.lost.iter().filter(|(_, at)| **at > stuck.sequence);
                        stuck.lost.extend(lost.map(|(leaf, at)| (*leaf, *at)));
                    }
                }
                // Waits again, where one of the commits before it cannot be followed either.
                Held::Content { hash, message } => self.content_entry(hash, message)?,
            }
        }
        self.check_all_stuck()
    }

    /// Who made the commit that cannot be followed.
    pub(super) fn author_of_stuck(&self) -> Option<Identity> {
        let leaf = self.stuck.as_ref()?.author?;
        let author = self.current.as_ref()?.roster.get(&leaf)?;
        Some(author.identity.clone())
    }
}
