//! What an entry of the log does.

use openmls::prelude::{Proposal, ProtocolMessage, Sender};
use ring::digest::{SHA256, digest};

use super::group::{self, GroupError, Incoming};
use super::joining::Rejoin;
use super::stuck::Held;
use super::{
    Before, Current, Event, ROW_CURSOR, ROW_GROUP, ROW_NAMES, ROW_PENDING, ROW_REJOIN, Room, State, view,
};
use crate::record::Record;
use crate::rules::{self, Committer};
use crate::store::Store;

/// Epochs whose first commit's place in the log is remembered.
const REMEMBERED: usize = 64;

pub(super) fn hash(record: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, record).as_ref());
    hash
}

impl<S: Store> Room<S> {
    pub(super) fn restore(&mut self) -> Result<(), GroupError> {
        let id = self.store.get(ROW_GROUP).map_err(group::store_error)?;
        // An external commit that had not won when the process ended: what the store holds is nobody's group.
        let rejoining = self.store.get(ROW_REJOIN).map_err(group::store_error)?.is_some();
        let group = match &id {
            Some(id) if !rejoining => group::Group::load(&self.store, id)?,
            _ => None,
        };
        let Some(mut group) = group else {
            // A key package of an earlier life could be answered to two lives at once: two senders on one leaf.
            return self.transaction(Self::forget);
        };
        let policy = group.policy()?;
        let roster = group.roster(&policy)?;
        self.current = Some(Current {
            group,
            policy,
            roster,
        });
        if let Some(bytes) = self.store.get(ROW_PENDING).map_err(group::store_error)? {
            self.pending = Record::decode(&bytes)
                .ok()
                .map(super::Pending::of_an_earlier_life);
        }
        if self.settings.durable_log {
            let cursor = self.store.get(ROW_CURSOR).map_err(group::store_error)?;
            self.cursor = cursor
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u64::from_be_bytes);
            self.last_commit = self.cursor;
            if self.cursor > 0 {
                self.created = id;
            }
        }
        self.restore_names()?;
        self.entered_life();
        Ok(())
    }

    /// Forgets everything but who this endpoint is.
    pub(super) fn forget(&mut self) -> Result<(), GroupError> {
        self.store.wipe_group().map_err(group::store_error)?;
        self.forget_rows()
    }

    pub(super) fn forget_rows(&mut self) -> Result<(), GroupError> {
        for row in [ROW_GROUP, ROW_CURSOR, ROW_PENDING, ROW_REJOIN, ROW_NAMES] {
            self.store.delete(row).map_err(group::store_error)?;
        }
        Ok(())
    }

    pub(super) fn entry(&mut self, sequence: u64, bytes: &[u8]) -> Result<(), GroupError> {
        if sequence <= self.cursor {
            return Ok(());
        }
        self.cursor = sequence;
        let record = match Record::decode(bytes) {
            Ok(record) => record,
            Err(_) => {
                self.counters.malformed += 1;
                return Ok(());
            }
        };
        if record.is_commit() {
            self.last_commit = sequence;
        }
        match record {
            Record::Create(id) => self.create_entry(id),
            Record::KeyPackage(bytes) => {
                self.key_package_entry(&bytes);
                Ok(())
            }
            Record::Commit { commit, welcome } => {
                self.commit_entry(sequence, hash(bytes), &commit, welcome.as_deref())
            }
            Record::Proposal(bytes) => self.proposal_entry(&bytes),
            Record::Message(bytes) => self.message_entry(&bytes),
            Record::GroupInfoRequest => {
                self.info_asked();
                Ok(())
            }
            Record::GroupInfo(bytes) => self.info_entry(&bytes),
            Record::Content(message) => self.content_entry(hash(bytes), message),
        }
    }

    /// A message of the present epoch, else none; what cannot be read is counted.
    fn of_this_epoch(&mut self, bytes: &[u8]) -> Option<ProtocolMessage> {
        let message = match group::read(bytes) {
            Ok(message) => message,
            Err(_) => {
                self.counters.malformed += 1;
                return None;
            }
        };
        let current = self.current.as_ref()?;
        (message.group_id().as_slice() == current.group.id()
            && message.epoch().as_u64() == current.group.epoch())
        .then_some(message)
    }

    fn commit_entry(
        &mut self,
        sequence: u64,
        hash: [u8; 32],
        commit: &[u8],
        welcome: Option<&[u8]>,
    ) -> Result<(), GroupError> {
        let message = match group::read(commit) {
            Ok(message) => message,
            Err(_) => {
                self.counters.malformed += 1;
                return Ok(());
            }
        };
        let known = self.created.as_deref();
        if known.is_some_and(|known| known != message.group_id().as_slice()) {
            return Ok(());
        }
        let epoch = message.epoch().as_u64();
        let first = *self.first_of_epoch.entry(epoch).or_insert(sequence) == sequence;
        while self.first_of_epoch.len() > REMEMBERED {
            self.first_of_epoch.pop_first();
        }
        if self.rejoin.is_some() {
            return self.commit_while_rejoining(sequence, hash, commit, epoch);
        }
        if self.current.is_none() {
            // The first valid one wins, and a joiner cannot judge: it goes with a later one if others do.
            let rival = (!first).then_some((hash, epoch));
            return match welcome {
                Some(welcome) => self.welcome_entry(welcome, rival),
                None => Ok(()),
            };
        }
        if self.stuck.is_some() {
            self.hold(Held::Commit {
                sequence,
                hash,
                epoch,
                commit: commit.to_vec(),
            });
            return Ok(());
        }
        self.commit_here(sequence, hash, commit)
    }

    /// A commit for a member that can follow the log.
    pub(super) fn commit_here(
        &mut self,
        sequence: u64,
        hash: [u8; 32],
        commit: &[u8],
    ) -> Result<(), GroupError> {
        let own = self.pending.as_ref().is_some_and(|pending| pending.hash == hash);
        let Some(message) = self.of_this_epoch(commit) else {
            if own {
                self.lost_race()?;
            }
            return Ok(());
        };
        if own {
            return self.won(sequence);
        }
        match self.transaction(|room| room.apply(sequence, message)) {
            Ok(applied) => {
                self.counters.commits_merged += 1;
                if self.pending.take().is_some() {
                    self.count_loss();
                }
                if let Some(how) = applied.removed {
                    return self.removed(&applied.by, how);
                }
                if applied.by.leaf.is_none() {
                    self.info_asked = 0;
                }
                if let Some(leaf) = applied.by.leaf {
                    self.queue.done(leaf);
                    let suspected = self.suspected_clone;
                    self.hear(leaf);
                    // Its author may not have seen the commit in our name, which came first.
                    self.suspected_clone = suspected;
                }
                if self.rejoin.as_ref().is_some_and(Rejoin::waits_for_sign) {
                    return self.rejoined();
                }
                self.entered(Some(applied.before), &applied.by.subject)?;
                self.entered_commits(false);
                self.ask_for_a_turn()?;
                self.say_ready()
            }
            Err(GroupError::OnlyHere { reason, author }) => {
                self.cannot_follow(sequence, hash, &reason, author.as_deref())
            }
            Err(error @ GroupError::MissingProposal) if self.unread_proposal => {
                self.cannot_follow(sequence, hash, &error.to_string(), None)
            }
            Err(GroupError::NotForUs) => {
                // Authored by this leaf, but not in this life: nobody else may hold its key.
                self.own_unknown_commit();
                Ok(())
            }
            Err(error) => self.refuse("commit", "", error),
        }
    }

    /// Processes and merges somebody's commit, in a transaction.
    fn apply(&mut self, sequence: u64, message: ProtocolMessage) -> Result<Applied, GroupError> {
        let Some(current) = &mut self.current else {
            return Err(GroupError::Refused("there is no group yet".into()));
        };
        let (staged, sender) = match current.group.process(&self.store, message)? {
            Incoming::Commit(staged, sender) => (staged, sender),
            Incoming::Own | Incoming::OwnPending => return Err(GroupError::NotForUs),
            Incoming::Proposal(_) | Incoming::Message(..) => {
                return Err(GroupError::Refused("a commit that is none".into()));
            }
        };
        let by = By::of(current, &sender, &staged);
        let named = |error: GroupError| match error {
            GroupError::Refused(reason) => GroupError::Refused(by.named(&reason)),
            GroupError::Certificate(reason) => GroupError::Certificate(by.named(&reason)),
            error => error,
        };
        let change = view::change(&staged, &sender, &current.policy).map_err(named)?;
        rules::judge(&current.policy, &current.roster, current.time(), &change)
            .map_err(|refusal| named(GroupError::Refused(refusal.to_string())))?;
        let own = self.own.identity();
        let leaf = current.own();
        let removed = staged.self_removed().then(|| {
            if change.committer == Committer::External
                || change.adds.iter().any(|leaf| leaf.identity.same_as(own))
            {
                Removed::Replaced
            } else if change.removes.iter().any(|r| r.leaf == leaf && r.by_itself) {
                Removed::Asked
            } else {
                Removed::Evicted
            }
        });
        let before = current.before();
        current.group.merge(&self.store, *staged)?;
        if removed.is_some() {
            self.forget()?;
        } else {
            let policy = current.group.policy()?;
            current.roster = current.group.roster(&policy)?;
            current.policy = policy;
            self.entered_rows(sequence)?;
        }
        Ok(Applied { before, by, removed })
    }

    /// Rows that must change together with the group.
    pub(super) fn entered_rows(&mut self, sequence: u64) -> Result<(), GroupError> {
        self.store
            .put(ROW_CURSOR, &sequence.to_be_bytes())
            .map_err(group::store_error)?;
        self.store.delete(ROW_PENDING).map_err(group::store_error)
    }

    fn removed(&mut self, by: &By, how: Removed) -> Result<(), GroupError> {
        self.current = None;
        match how {
            // The log is behind what another life of this endpoint did; this one wants to be in.
            Removed::Replaced if !self.fresh => {
                return self.start_over("the state file is older than the log: it was restored".into());
            }
            Removed::Asked if !self.leaving => {
                return self.start_over("it had left the room before it was started again".into());
            }
            Removed::Replaced => {
                self.clone_detected("somebody joined under this identity and took this leaf's place".into());
            }
            Removed::Asked | Removed::Evicted => {
                self.out = Some(State::Evicted);
                self.event(Event::Evicted {
                    by: by.subject.clone(),
                });
            }
        }
        self.outputs.push_back(super::Output::ForgetKeys);
        Ok(())
    }

    fn proposal_entry(&mut self, bytes: &[u8]) -> Result<(), GroupError> {
        let Some(message) = self.of_this_epoch(bytes) else {
            return Ok(());
        };
        let kept = self.transaction(|room| {
            let Some(current) = &mut room.current else {
                return Ok(None);
            };
            match current.group.process(&room.store, message)? {
                Incoming::Proposal(queued) => match (queued.sender(), queued.proposal()) {
                    (Sender::Member(from), Proposal::Remove(remove)) if *from == remove.removed() => {
                        let from = from.u32();
                        current.group.keep(&room.store, *queued)?;
                        Ok(Some(from))
                    }
                    (Sender::Member(from), _) => {
                        let by = current.subject(from.u32());
                        Err(GroupError::Refused(format!(
                            "{by}: the only proposal that may stand alone is a member's own removal"
                        )))
                    }
                    _ => Err(GroupError::Refused("a proposal from outside the room".into())),
                },
                Incoming::Own | Incoming::OwnPending => Ok(None),
                Incoming::Commit(..) | Incoming::Message(..) => {
                    Err(GroupError::Refused("a proposal that is none".into()))
                }
            }
        });
        match kept {
            Ok(Some(from)) => {
                self.heard_here(from)?;
                self.leaves_since.get_or_insert(self.now.ms);
                Ok(())
            }
            Ok(None) => {
                self.own_unknown_proposal();
                Ok(())
            }
            Err(error) => self.refuse("proposal", "", error),
        }
    }

    pub(super) fn message_entry(&mut self, bytes: &[u8]) -> Result<(), GroupError> {
        let Some(message) = self.of_this_epoch(bytes) else {
            return Ok(());
        };
        let read = self.transaction(|room| {
            let Some(current) = &mut room.current else {
                return Ok(None);
            };
            match current.group.process(&room.store, message)? {
                Incoming::Message(data, leaf) => Ok(Some((data, leaf))),
                Incoming::Own | Incoming::OwnPending => Ok(None),
                Incoming::Commit(..) | Incoming::Proposal(_) => {
                    Err(GroupError::Refused("a message that is none".into()))
                }
            }
        });
        match read {
            Ok(Some((data, leaf))) => self.message(&data, leaf),
            Ok(None) => Ok(()),
            // Seen before (a delivery may repeat), or somebody's rubbish: either way nothing follows from it.
            Err(GroupError::Store(reason)) => Err(GroupError::Store(reason)),
            Err(_) => {
                self.counters.malformed += 1;
                Ok(())
            }
        }
    }

    /// Tells a refusal; only a store that cannot be used stops the room.
    pub(super) fn refuse(
        &mut self,
        what: &'static str,
        by: &str,
        error: GroupError,
    ) -> Result<(), GroupError> {
        if let GroupError::Store(_) = error {
            return Err(error);
        }
        self.counters.refused += 1;
        let reason = error.to_string();
        if let GroupError::Certificate(reason) = &error {
            self.event(Event::VerificationFailed {
                reason: reason.clone(),
            });
        }
        self.event(Event::Refused {
            what,
            by: by.to_owned(),
            reason,
        });
        Ok(())
    }
}

/// A commit that was merged.
struct Applied {
    before: Before,
    by: By,
    removed: Option<Removed>,
}

/// How a commit removed this endpoint.
enum Removed {
    /// Somebody with its identity takes its place.
    Replaced,
    /// It had asked for it.
    Asked,
    Evicted,
}

/// Whose commit it is.
struct By {
    leaf: Option<u32>,
    subject: String,
}

impl By {
    fn of(current: &Current, sender: &Sender, staged: &openmls::prelude::StagedCommit) -> Self {
        match sender {
            Sender::Member(leaf) => Self {
                leaf: Some(leaf.u32()),
                subject: current.subject(leaf.u32()),
            },
            // An external committer takes the place of a leaf of the same identity, or is refused.
            _ => Self {
                leaf: None,
                subject: staged
                    .remove_proposals()
                    .next()
                    .map(|removed| current.subject(removed.remove_proposal().removed().u32()))
                    .unwrap_or_default(),
            },
        }
    }

    fn named(&self, reason: &str) -> String {
        if self.subject.is_empty() {
            reason.to_owned()
        } else {
            format!("{}: {reason}", self.subject)
        }
    }
}
