//! Signs of life: without one a room is stale, because a delivery may be holding the log back.
//!
//! One other member's is enough. Waiting for more would stop a call of three whenever one of them crashes. So a
//! delivery that works together with a member removed elsewhere can keep this one in the epoch before, which differing
//! epoch codes show; a delivery alone can not.

use super::group::GroupError;
use super::joining::Rejoin;
use super::saying::{CONTENT, NAME};
use super::{Current, Event, Output, Room};
use crate::record::Record;
use crate::store::Store;

/// Signs of life: what members tell each other about the epoch, one byte; behind `STUCK` the hash of the commit's record.
const READY: u8 = 1;
const HEARTBEAT: u8 = 2;
const STUCK: u8 = 3;
const WAITING: u8 = 4;

/// So many members, this one included, are heard within a third of `max_silence`, so that everybody hears another.
const SPEAKERS: usize = 2;
/// Above so many members nobody says "ready": the switch goes by time and by authenticated frames.
const READY_AT_MOST: usize = 32;

impl<S: Store> Room<S> {
    /// A new epoch: who came with it counts as heard, who left does not.
    pub(super) fn entered_life(&mut self) {
        let now = self.now.ms;
        self.ready.clear();
        self.epoch_since = now;
        self.unread_proposal = false;
        if let Some(current) = &self.current {
            let roster = &current.roster;
            self.heard.retain(|leaf, _| roster.contains_key(leaf));
            for leaf in roster.keys() {
                self.heard.entry(*leaf).or_insert(now);
            }
            self.suspects.retain(|leaf| roster.contains_key(leaf));
            self.queue.retain(|leaf| roster.contains_key(&leaf));
        }
    }

    /// An authenticated message or commit of this leaf.
    pub(super) fn hear(&mut self, leaf: u32) {
        self.heard.insert(leaf, self.now.ms);
        self.suspects.remove(&leaf);
        // It went on in this epoch: the commit in our name was not one.
        self.suspected_clone = None;
    }

    /// As [`Self::hear`], in the epoch that an external commit may have begun: then it did.
    pub(super) fn heard_here(&mut self, leaf: u32) -> Result<(), GroupError> {
        self.hear(leaf);
        if self.rejoin.as_ref().is_some_and(Rejoin::waits_for_sign) {
            self.rejoined()?;
        }
        Ok(())
    }

    pub(super) fn message(&mut self, data: &[u8], leaf: u32) -> Result<(), GroupError> {
        self.heard_here(leaf)?;
        match data {
            [READY] => {
                self.ready.insert(leaf);
                self.check_ready();
            }
            [STUCK, hash @ ..] => self.somebody_stuck(leaf, hash),
            [WAITING] => self.queue.add(leaf, self.now.ms),
            [CONTENT, chunk @ ..] => return self.chunk(chunk, leaf),
            [NAME, name @ ..] => return self.named(name, leaf),
            // Later versions may say more.
            _ => {}
        }
        Ok(())
    }

    /// Has everybody else said that it is in this epoch?
    pub(super) fn all_ready(&self) -> bool {
        self.current.as_ref().is_some_and(|current| {
            let own = current.own();
            let mut leaves = current.roster.keys();
            leaves.all(|leaf| *leaf == own || self.ready.contains(leaf))
        })
    }

    fn check_ready(&mut self) {
        if let Some(current) = self.current.as_ref().filter(|_| self.all_ready()) {
            self.outputs.push_back(Output::AllReady(current.group.epoch()));
        }
    }

    pub(super) fn say_ready(&mut self) -> Result<(), GroupError> {
        let members = self.current.as_ref().map_or(0, |c| c.roster.len());
        match members {
            0 => Ok(()),
            1 => {
                self.check_ready();
                Ok(())
            }
            2..=READY_AT_MOST => self.say(&[READY]),
            _ => Ok(()),
        }
    }

    pub(super) fn say_stuck(&mut self) -> Result<(), GroupError> {
        let Some(hash) = self.stuck_at() else {
            return Ok(());
        };
        self.say(&[&[STUCK], &hash[..]].concat())
    }

    pub(super) fn say_waiting(&mut self) -> Result<(), GroupError> {
        self.say(&[WAITING])
    }

    pub(super) fn say(&mut self, what: &[u8]) -> Result<(), GroupError> {
        // MLS seals nothing while somebody's wish to leave waits to be committed; that commit is a sign of life too. Who is
        // stuck waits for no commit.
        let leaves = |current: &Current| !current.group.leaving().is_empty();
        if what.first() != Some(&STUCK) && self.current.as_ref().is_some_and(leaves) {
            return Ok(());
        }
        let message = self.transaction(|room| {
            let Some(current) = &mut room.current else {
                return Ok(None);
            };
            current.group.message(&room.store, &room.own, what).map(Some)
        })?;
        if let Some(message) = message {
            let own = self.current.as_ref().map_or(0, |c| c.own());
            self.heard.insert(own, self.now.ms);
            self.append(Record::Message(message));
        }
        Ok(())
    }

    /// When this member must have spoken.
    fn heartbeat_due(&self) -> Option<u64> {
        let current = self.current.as_ref()?;
        let silent = !current.group.leaving().is_empty();
        if current.roster.len() < 2 || self.rejoin.is_some() || !self.fresh || silent {
            return None;
        }
        let interval = self.settings.max_silence / 3;
        let mut heard: Vec<u64> = self.heard.values().copied().collect();
        heard.sort_unstable_by(|a, b| b.cmp(a));
        let quiet_since = heard
            .get(SPEAKERS.min(current.roster.len()) - 1)
            .copied()
            .unwrap_or(0);
        let position = current.roster.keys().position(|leaf| *leaf == current.own())?;
        let position = u64::try_from(position.min(64)).unwrap_or(64);
        let spoken = self.heard.get(&current.own()).copied().unwrap_or(0);
        Some(quiet_since.max(spoken) + interval + position * (interval / 20))
    }

    /// When the room gets stale if nobody is heard.
    fn stale_at(&self) -> Option<u64> {
        let current = self.current.as_ref().filter(|_| self.fresh)?;
        let own = current.own();
        let others = self.heard.iter().filter(|(leaf, _)| **leaf != own);
        let last = others.map(|(_, at)| *at).max()?;
        Some(last + self.settings.max_silence)
    }

    pub(super) fn live(&mut self) -> Result<(), GroupError> {
        let now = self.now.ms;
        if self.heartbeat_due().is_some_and(|due| due <= now) {
            self.say(&[HEARTBEAT])?;
        }
        if self.out.is_some() {
            return Ok(());
        }
        let stale = self.stale_at().is_some_and(|at| at <= now);
        if stale != self.stale {
            self.stale = stale;
            if stale {
                let seconds = self.settings.max_silence / 1000;
                self.event(Event::Stale {
                    reason: format!(
                        "no authenticated sign of life from the room for {seconds} s: nothing is sent until there is \
                         one; look at the delivery and at whether the others run"
                    ),
                });
            }
        }
        self.check_suspected_clone();
        Ok(())
    }

    pub(super) fn life_deadline(&self) -> Option<u64> {
        let stale = if self.stale { None } else { self.stale_at() };
        [self.heartbeat_due(), stale, self.clone_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}
