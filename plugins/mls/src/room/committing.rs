//! Making commits: wishes of this endpoint's own people at once, what anybody could do by whoever is next in line.

use openmls::prelude::{KeyPackage, LeafNodeIndex, Sender};

use super::entries::hash;
use super::group::{self, Group, GroupError, Plan};
use super::queue::PATIENT;
use super::{Output, ROW_PENDING, Room, view};
use crate::identity::Identity;
use crate::policy::{Act, Policy};
use crate::record::Record;
use crate::rules::{self, Leaf};
use crate::store::Store;

/// Who is next in line waits so much longer than who is before it, in milliseconds.
const TURN: u64 = 1000;
/// An own commit that did not come back for so long is appended again, in milliseconds.
const PATIENCE: u64 = 5000;
/// A wish waits at most so long for everybody to be in the epoch, in milliseconds.
const SETTLE: u64 = 250;
/// Most members that one commit adds: more make a commit that nobody wants to read in one piece.
const CHUNK: usize = 64;
/// Most key packages that wait.
const CANDIDATES: usize = 1024;
/// Most former members that are remembered.
const GONE: usize = 1024;
/// Refused key packages that are remembered; a new policy forgets them.
const REFUSED: usize = 64;
/// A key package may be so far ahead of the own clock, in seconds: its time becomes the group's.
const AHEAD: u64 = 300;
/// Groups above this size get an update of each new member soon, so that their tree stays warm (RFC 9420 §7.8).
const WARM_ABOVE: usize = 8;

fn may_add(policy: &Policy, identity: &Identity) -> bool {
    policy.allows(Act::Add, identity)
}

/// An own commit that is on its way.
pub(super) struct Pending {
    pub(super) hash: [u8; 32],
    record: Record,
    /// Nothing is sealed in an epoch that it begins.
    of_an_earlier_life: bool,
    after: u64,
    sent: Option<u64>,
    /// Was it not taken? Then it waits for the commit that was.
    moved: bool,
    wish: bool,
}

impl Pending {
    /// Nobody knows whether it went out, or is still on its way: it goes out again. Dropped and then read in the log, it
    /// would be a commit that nobody holds the keys of.
    pub(super) fn of_an_earlier_life(record: Record) -> Self {
        Self {
            hash: hash(&record.encode()),
            record,
            of_an_earlier_life: true,
            after: 0,
            sent: None,
            moved: false,
            wish: false,
        }
    }
}

/// Somebody who asked to be let in, and may be.
pub(super) struct Candidate {
    package: KeyPackage,
    leaf: Leaf,
    since: u64,
    ticket: Option<u64>,
    authorized: bool,
}

impl<S: Store> Room<S> {
    pub(super) fn key_package_entry(&mut self, bytes: &[u8]) {
        let Some(current) = &self.current else { return };
        // Who was refused asks again and again; one answer is enough.
        let hash = hash(bytes);
        if self.refused.contains(&hash) {
            return;
        }
        let read = Group::read_key_package(&self.store, bytes, &current.policy.roots);
        let (package, leaf) = match read {
            Ok(read) => read,
            Err(error) => {
                // Not a store's error: nothing was written.
                let _ = self.refuse("key-package", "", error);
                self.remember_refused(hash);
                return;
            }
        };
        let present = current
            .roster
            .iter()
            .find(|(_, old)| old.identity.same_as(&leaf.identity));
        // Read again after a restart, repeated by the delivery, or somebody's own from before it came in.
        let gone = self.gone.get(&leaf.identity.fingerprint);
        if present.is_some_and(|(_, present)| present.time >= leaf.time)
            || gone.is_some_and(|gone| *gone >= leaf.time)
            || leaf.identity.same_as(self.own.identity())
        {
            return;
        }
        let present = present.map(|(leaf, _)| *leaf);
        let refusal = if leaf.time > self.now.unix + AHEAD {
            Err(format!(
                "its clock is {} s ahead of this one's",
                leaf.time - self.now.unix
            ))
        } else {
            rules::may_add(&current.policy, &current.roster, &leaf).map_err(|refusal| refusal.to_string())
        };
        if let Err(refusal) = refusal {
            let by = leaf.identity.subject.clone();
            let _ = self.refuse("key-package", &by, GroupError::Refused(refusal));
            self.remember_refused(hash);
            return;
        }
        let since = self.now.ms;
        let full = self.candidates.len() >= CANDIDATES;
        match self
            .candidates
            .iter_mut()
            .find(|other| other.leaf.identity.same_as(&leaf.identity))
        {
            Some(other) if other.leaf.time < leaf.time => {
                other.package = package;
                other.leaf = leaf;
            }
            // Not a new one.
            Some(_) => return,
            None if full => {}
            None => self.candidates.push(Candidate {
                package,
                leaf,
                since,
                ticket: None,
                authorized: false,
            }),
        }
        if let Some(present) = present {
            self.somebody_lost(present);
        }
    }

    /// A key package from before its maker went is not one of somebody who wants to come back.
    pub(super) fn remember_gone(&mut self, leaf: &Leaf) {
        if self.gone.len() >= GONE {
            // The one with the oldest clock is the least likely to be repeated.
            let oldest = self.gone.iter().min_by_key(|(_, time)| **time);
            if let Some(oldest) = oldest.map(|(who, _)| *who) {
                self.gone.remove(&oldest);
            }
        }
        self.gone.insert(leaf.identity.fingerprint, leaf.time);
    }

    fn remember_refused(&mut self, hash: [u8; 32]) {
        if self.refused.len() == REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back(hash);
    }

    pub(super) fn authorized(&mut self, ticket: u64, yes: bool) {
        let Some(index) = self.candidates.iter().position(|c| c.ticket == Some(ticket)) else {
            return;
        };
        if yes {
            self.candidates[index].authorized = true;
        } else {
            let candidate = self.candidates.remove(index);
            let by = candidate.leaf.identity.subject;
            let why = GroupError::Refused("not authorised by the application".into());
            let _ = self.refuse("key-package", &by, why);
        }
    }

    pub(super) fn moved(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.moved = true;
        }
    }

    /// The own commit came back first: its epoch begins.
    pub(super) fn won(&mut self, sequence: u64) -> Result<(), GroupError> {
        let before = self.transaction(|room| {
            let Some(current) = &mut room.current else {
                return Err(GroupError::Refused("there is no group yet".into()));
            };
            let before = current.before();
            current.group.merge_pending(&room.store)?;
            let policy = current.group.policy()?;
            current.roster = current.group.roster(&policy)?;
            current.policy = policy;
            room.entered_rows(sequence)?;
            Ok(before)
        })?;
        self.counters.commits_won += 1;
        self.lost_in_a_row = 0;
        if let Some(pending) = self.pending.take() {
            if !pending.of_an_earlier_life {
                self.fresh = true;
            }
            if pending.wish {
                self.wish_done(Ok(()));
            }
        }
        self.last_own_commit = self.now.ms;
        self.update_due = None;
        let own = self.current.as_ref().map_or(0, |c| c.own());
        self.queue.done(own);
        self.heard.insert(own, self.now.ms);
        let by = self.own.identity().subject.clone();
        self.entered(Some(before), &by)?;
        self.entered_commits(false);
        self.say_ready()
    }

    pub(super) fn lost_race(&mut self) -> Result<(), GroupError> {
        self.count_loss();
        self.drop_pending()
    }

    pub(super) fn count_loss(&mut self) {
        self.counters.commits_lost += 1;
        self.lost_in_a_row += 1;
    }

    /// Who lost race after race asks the others to hold back. In each epoch again: a message of one that is over is not
    /// read any more.
    pub(super) fn ask_for_a_turn(&mut self) -> Result<(), GroupError> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        let wants = !self.wishes.is_empty() || !self.fresh || self.turn_due().is_some();
        if self.lost_in_a_row < PATIENT || !wants {
            return Ok(());
        }
        self.queue.add(current.own(), self.now.ms);
        self.say_waiting()
    }

    /// Until when this member holds back for those who wait longer.
    fn held_until(&self) -> Option<u64> {
        if self.wish_protects() {
            return None;
        }
        self.queue.hold_until(self.current.as_ref()?.own(), self.now.ms)
    }

    /// From when on wishes are committed in this epoch: when all members are in it, so that all have the same chance, and
    /// keys do not change faster than media can follow.
    fn settled_at(&self) -> u64 {
        if self.wish_protects() || self.all_ready() {
            0
        } else {
            self.epoch_since + SETTLE
        }
    }

    pub(super) fn drop_pending(&mut self) -> Result<(), GroupError> {
        if self.pending.take().is_none() {
            return Ok(());
        }
        self.transaction(|room| {
            room.store.delete(ROW_PENDING).map_err(group::store_error)?;
            match &mut room.current {
                Some(current) => current.group.drop_pending(&room.store),
                None => Ok(()),
            }
        })
    }

    /// Asks to be let go; somebody else commits it.
    pub(super) fn leave(&mut self) -> Result<(), GroupError> {
        self.leaving = true;
        // A commit that is on its way may win yet.
        if self.pending.is_some() {
            Ok(())
        } else {
            self.say_leaving()
        }
    }

    fn say_leaving(&mut self) -> Result<(), GroupError> {
        let proposal = self.transaction(|room| match &mut room.current {
            Some(current) if current.roster.len() > 1 => {
                current.group.leave(&room.store, &room.own).map(Some)
            }
            _ => Ok(None),
        })?;
        if let Some(proposal) = proposal {
            self.leaves_since = Some(self.now.ms);
            self.append(Record::Proposal(proposal));
        }
        Ok(())
    }

    /// How many of those who may do it are before this one in line, silent ones not counted; none: it may not.
    fn turn(&self, may: impl Fn(&Policy, &Identity) -> bool) -> Option<u64> {
        let current = self.current.as_ref()?;
        let own = current.own();
        let leaving = current.group.leaving();
        let before = current
            .roster
            .iter()
            .filter(|(leaf, of)| {
                **leaf < own
                    && may(&current.policy, &of.identity)
                    && !leaving.contains(leaf)
                    && !self.suspects.contains(leaf)
            })
            .count();
        if !may(&current.policy, self.own.identity()) {
            return None;
        }
        u64::try_from(before).ok()
    }

    /// When this member lets go who asked to leave, if nobody before it in line did.
    fn leavers_due(&self) -> Option<u64> {
        let current = self.current.as_ref()?;
        let since = self
            .leaves_since
            .filter(|_| current.group.leaving().iter().any(|leaf| *leaf != current.own()))?;
        Some(since + self.turn(|_, identity| identity.is_participant())? * TURN)
    }

    /// When this member lets in who asked, if nobody before it in line did.
    fn candidates_due(&self) -> Option<u64> {
        let asked = self
            .candidates
            .iter()
            .filter(|c| c.ticket.is_none() || c.authorized);
        let since = asked.map(|c| c.since).min()?;
        Some(since + self.turn(may_add)? * TURN)
    }

    /// When this member does for the room what anybody before it in line should have done.
    fn turn_due(&self) -> Option<u64> {
        [self.leavers_due(), self.candidates_due()]
            .into_iter()
            .flatten()
            .min()
    }

    fn rekey_due(&self) -> Option<u64> {
        let interval = self.settings.rekey_interval;
        let regular = (interval > 0 && self.current.is_some()).then(|| self.last_own_commit + interval);
        [regular, self.update_due].into_iter().flatten().min()
    }

    pub(super) fn commit_deadline(&self) -> Option<u64> {
        if !self.may_commit() {
            return None;
        }
        match &self.pending {
            Some(pending) => pending.sent.map(|sent| sent + PATIENCE),
            None if self.leaving => self.leaves_since.map(|since| since + PATIENCE),
            None => {
                let wish = (!self.wishes.is_empty()).then(|| self.settled_at());
                let first = (!self.fresh).then_some(0);
                let rekey = self.rekey_due().map(|due| due.max(self.settled_at()));
                let due = [wish, first, self.turn_due(), rekey].into_iter().flatten().min();
                let not_before = self.commit_not_before.max(self.held_until().unwrap_or(0));
                due.map(|due| due.max(not_before))
            }
        }
    }

    fn may_commit(&self) -> bool {
        let Some(current) = &self.current else {
            return false;
        };
        // A room that nobody has read of yet has no epochs.
        let unread = self.created.as_deref() != Some(current.group.id()) && self.settings.durable_log;
        self.caught_up
            && !unread
            && self.rejoin.is_none()
            && self.stuck.is_none()
            && self.suspected_clone.is_none()
    }

    pub(super) fn try_commit(&mut self) -> Result<(), GroupError> {
        if !self.may_commit() {
            return Ok(());
        }
        let Some(current) = &self.current else {
            return Ok(());
        };
        if self.pending.is_some() {
            self.append_pending();
            return Ok(());
        }
        if self.leaving {
            let again = self
                .leaves_since
                .is_some_and(|since| since + PATIENCE <= self.now.ms);
            let forgotten = current.group.leaving().is_empty();
            return if again || forgotten {
                self.say_leaving()
            } else {
                Ok(())
            };
        }
        if self.commit_not_before > self.now.ms || self.held_until().is_some() {
            return Ok(());
        }
        if !self.fresh {
            // Before anything else: an epoch that no earlier life sealed in.
            return self.make_or_wait();
        }
        let settled = self.settled_at() <= self.now.ms;
        while let Some(wish) = self.wishes.front().filter(|_| settled) {
            let command = wish.command.clone();
            match self.plan_of(&command) {
                Ok(Some(plan)) => match self.make(plan, true) {
                    Err(GroupError::Store(reason)) => return Err(GroupError::Store(reason)),
                    Err(error) => self.wish_done(Err(error.to_string())),
                    Ok(()) => return Ok(()),
                },
                Ok(None) => self.wish_done(Ok(())),
                Err(why) => self.wish_done(Err(why)),
            }
        }
        if self.turn_due().is_some_and(|due| due <= self.now.ms) {
            match self.turn_plan() {
                Some(plan) => return self.make_or_forget(plan),
                None => self.look_again(),
            }
        }
        if settled && self.rekey_due().is_some_and(|due| due <= self.now.ms) {
            return self.make_or_wait();
        }
        Ok(())
    }

    /// Nothing can be done for those who wait now.
    fn look_again(&mut self) {
        let later = self.now.ms + PATIENCE;
        for candidate in &mut self.candidates {
            candidate.since = later;
        }
        if let Some(since) = &mut self.leaves_since {
            *since = later;
        }
    }

    /// An update of the own leaf. It fails where the own certificate has expired, or the clock says so.
    fn make_or_wait(&mut self) -> Result<(), GroupError> {
        match self.make(Plan::default(), false) {
            Err(GroupError::Store(reason)) => Err(GroupError::Store(reason)),
            Err(error) => {
                self.commit_not_before = self.now.ms + PATIENCE;
                let by = self.own.identity().subject.clone();
                self.refuse("commit", &by, error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Adds who asked and may come, lets go who asked to leave (openmls takes their proposals in by itself).
    fn turn_plan(&mut self) -> Option<Plan> {
        let now = self.now.ms;
        let may_add = self.candidates_due().is_some_and(|due| due <= now);
        if self.settings.authorize && may_add {
            for candidate in self.candidates.iter_mut().filter(|c| c.ticket.is_none()) {
                self.tickets += 1;
                candidate.ticket = Some(self.tickets);
                self.outputs.push_back(Output::Authorize {
                    ticket: self.tickets,
                    identity: Box::new(candidate.leaf.identity.clone()),
                    certificates: candidate
                        .package
                        .leaf_node()
                        .credential()
                        .serialized_content()
                        .to_vec(),
                });
            }
        }
        let current = self.current.as_ref()?;
        let own = current.own();
        // Whoever was before this one in line did not act.
        let before = current
            .roster
            .iter()
            .filter(|(leaf, of)| **leaf < own && of.identity.is_participant())
            .map(|(leaf, _)| *leaf);
        self.suspects.extend(before);

        let most = if self.one_by_one { 1 } else { CHUNK };
        let mut plan = Plan {
            leaving: true,
            ..Plan::default()
        };
        for candidate in self.candidates.iter().filter(|_| may_add) {
            if plan.adds.len() == most || (self.settings.authorize && !candidate.authorized) {
                continue;
            }
            let old = current
                .roster
                .iter()
                .find(|(_, leaf)| leaf.identity.same_as(&candidate.leaf.identity));
            if old.is_some_and(|(leaf, _)| *leaf == own) {
                continue;
            }
            plan.removes.extend(old.map(|(leaf, _)| *leaf));
            plan.adds.push(candidate.package.clone());
        }
        let leaves = current.group.leaving().iter().any(|leaf| *leaf != own);
        (leaves || !plan.adds.is_empty()).then_some(plan)
    }

    fn make_or_forget(&mut self, plan: Plan) -> Result<(), GroupError> {
        let added = plan.adds.clone();
        let several = added.len() > 1;
        match self.make(plan, false) {
            Err(GroupError::Store(reason)) => Err(GroupError::Store(reason)),
            Err(_) if several => {
                // One that cannot be added must not keep out the others.
                self.one_by_one = true;
                Ok(())
            }
            Err(error) if !added.is_empty() => {
                let index = self.candidates.iter().position(|c| added.contains(&c.package));
                let candidate = index.map(|index| self.candidates.remove(index));
                let by = candidate.map(|c| c.leaf.identity.subject).unwrap_or_default();
                self.refuse("key-package", &by, error)
            }
            Err(error) => {
                self.commit_not_before = self.now.ms + PATIENCE;
                let by = self.own.identity().subject.clone();
                self.refuse("commit", &by, error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Makes a commit and judges it as everybody else will.
    fn make(&mut self, plan: Plan, wish: bool) -> Result<(), GroupError> {
        let unix = self.now.unix;
        let (record, hash) = self.transaction(|room| {
            let Some(current) = &mut room.current else {
                return Err(GroupError::Refused("there is no group yet".into()));
            };
            let adds = plan
                .adds
                .iter()
                .map(|package| group::leaf_time(package.leaf_node()));
            let adds = adds.collect::<Result<Vec<_>, _>>()?;
            let earliest = rules::earliest_time(
                &current.policy,
                &current.roster,
                current.time(),
                room.own.identity(),
                &plan.removes,
                !adds.is_empty(),
            );
            let time = adds.into_iter().fold(unix.max(earliest), u64::max);
            let own = Sender::Member(LeafNodeIndex::new(current.own()));
            let (commit, welcome) = current.group.commit(&room.store, &room.own, plan, time)?;
            if let Some(staged) = current.group.pending() {
                let change = view::change(staged, &own, &current.policy)?;
                rules::judge(&current.policy, &current.roster, current.time(), &change)
                    .map_err(|refusal| GroupError::Refused(refusal.to_string()))?;
            }
            let record = Record::Commit { commit, welcome };
            let bytes = record.encode();
            room.store.put(ROW_PENDING, &bytes).map_err(group::store_error)?;
            Ok((record, hash(&bytes)))
        })?;
        self.pending = Some(Pending {
            hash,
            record,
            of_an_earlier_life: false,
            after: self.last_commit,
            sent: None,
            moved: false,
            wish,
        });
        self.append_pending();
        Ok(())
    }

    fn append_pending(&mut self) {
        let now = self.now.ms;
        let Some(pending) = &mut self.pending else { return };
        let passed = pending.moved && self.last_commit > pending.after;
        if !passed && pending.sent.is_some_and(|sent| sent + PATIENCE > now) {
            return;
        }
        pending.moved = false;
        pending.sent = Some(now);
        pending.after = self.last_commit;
        let output = Output::AppendCommit {
            after: pending.after,
            record: pending.record.clone(),
        };
        self.outputs.push_back(output);
    }

    /// After a new epoch: who is in asks no more, and new members freshen their leaf soon.
    pub(super) fn entered_commits(&mut self, joined: bool) {
        self.leaves_since = None;
        self.commit_not_before = 0;
        self.one_by_one = false;
        self.refused.clear();
        let Some(current) = &self.current else { return };
        let roster = &current.roster;
        self.candidates.retain(|candidate| {
            !roster.values().any(|leaf| {
                leaf.identity.same_as(&candidate.leaf.identity) && leaf.time >= candidate.leaf.time
            })
        });
        if joined && roster.len() > WARM_ABOVE {
            let spread = u64::from(current.own() % 32) * 200;
            self.update_due = Some(self.now.ms + 1000 + spread);
        }
    }
}
