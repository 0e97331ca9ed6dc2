//! Coming in: by making the room, by a welcome, and by an external commit after the log could not be followed.

use super::entries::hash;
use super::group::{self, Group, GroupError};
use super::stuck::Held;
use super::{Command, Current, Event, Output, ROW_CURSOR, ROW_GROUP, Room, Settings, State};
use crate::identity::OwnIdentity;
use crate::record::Record;
use crate::rules;
use crate::store::Store;

/// The key package is appended again after so long, in milliseconds.
const ASK_AGAIN: u64 = 5000;
/// Every so many times with a new key package.
const ANEW: u32 = 3;
/// A GroupInfo is asked for again after so long, in milliseconds.
const INFO_AGAIN: u64 = 3000;
/// An external commit that nobody answered by a sign of life for so long did not win, in milliseconds.
const CONFIRMED_WITHIN: u64 = 10_000;
/// Members answer a request for the GroupInfo one after the other, so many milliseconds apart.
const INFO_TURN: u64 = 700;
/// After so many requests with which nobody came in, some answer although others did: theirs seem to be of no use.
const INSIST: u32 = 3;
/// How many do that.
const INSISTING: usize = 8;
/// Failed external commits before the room is joined like by a stranger.
const ATTEMPTS: u32 = 3;
/// Row that says: the stored group is an external commit's that has not won yet.
pub(super) const ROW_REJOIN: &str = "rejoin";

/// On the way back by an external commit.
pub(super) struct Rejoin {
    reason: String,
    asked: Option<u64>,
    /// Since when it waits for a GroupInfo.
    since: u64,
    /// The GroupInfo that it published itself: of no use to itself.
    published: Option<[u8; 32]>,
    attempts: u32,
    /// The external commit: its hash, the epoch that it ends, when it was appended, whether it was read back.
    commit: Option<([u8; 32], u64, u64, bool)>,
    /// Epochs before this one are left behind.
    oldest: u64,
    /// Can the log be followed until the external commit is made?
    follows: bool,
}

impl Rejoin {
    pub(super) fn waits_for_info(&self) -> bool {
        self.commit.is_none()
    }

    pub(super) fn waits_for_sign(&self) -> bool {
        matches!(self.commit, Some((_, _, _, true)))
    }

    pub(super) fn follows(&self) -> bool {
        self.follows
    }
}

impl<S: Store> Room<S> {
    /// The end of the log was reached.
    pub(super) fn caught_up(&mut self) -> Result<(), GroupError> {
        if self.caught_up {
            return Ok(());
        }
        self.caught_up = true;
        let lost = match (&self.current, &self.created) {
            (Some(current), Some(created)) => current.group.id() != created,
            _ => false,
        };
        if lost {
            self.start_over("the log is another room's than the state file's".into())?;
        }
        Ok(())
    }

    pub(super) fn create_entry(&mut self, id: Vec<u8>) -> Result<(), GroupError> {
        if self.created.is_some() {
            return Ok(());
        }
        self.created = Some(id);
        let ours = |room: &Self| {
            room.current
                .as_ref()
                .is_some_and(|c| Some(c.group.id()) == room.created.as_deref())
        };
        if self.current.is_some() && !ours(self) && self.caught_up {
            return self.start_over("somebody else made the room first".into());
        }
        if ours(self) && self.fresh {
            let by = self.own.identity().subject.clone();
            self.entered(None, &by)?;
            self.entered_commits(false);
            self.say_ready()?;
        }
        Ok(())
    }

    /// Makes the room, or asks to be let in.
    pub(super) fn try_join(&mut self) -> Result<(), GroupError> {
        if self.rejoin.is_some() {
            return Ok(());
        }
        let now = self.now.ms;
        let due = self.ask_due().is_none_or(|at| at <= now);
        match (&self.current, &self.created) {
            // It stands in the state file and not in the log: the process ended in between, or the log was lost.
            (Some(current), None) if self.settings.durable_log || current.group.epoch() == 0 => {
                if current.group.epoch() > 0 {
                    return self.start_over("the log has lost the room".into());
                }
                if due {
                    let id = current.group.id().to_vec();
                    self.key_package = Some((Vec::new(), now));
                    self.append_create(id);
                }
                Ok(())
            }
            (Some(_), _) => Ok(()),
            (None, None) if self.settings.create.is_some() => self.create(),
            // Where nobody keeps the log, its beginning is not heard by who comes late.
            (None, None) if self.settings.durable_log => Ok(()),
            (None, _) if due => self.ask(),
            (None, _) => Ok(()),
        }
    }

    fn append_create(&mut self, id: Vec<u8>) {
        self.outputs.push_back(Output::AppendCommit {
            after: 0,
            record: Record::Create(id),
        });
    }

    fn create(&mut self) -> Result<(), GroupError> {
        let Some(policy) = self.settings.create.clone() else {
            return Ok(());
        };
        let mut id = [0; 16];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut id)
            .map_err(|_| GroupError::Store("the system gives no random bytes".into()))?;
        let due = self.ask_due().is_none_or(|at| at <= self.now.ms);
        if !due {
            return Ok(());
        }
        let unix = self.now.unix;
        let current = self.transaction(|room| {
            let mut group = Group::create(&room.store, &room.own, &policy, &id, unix)?;
            let policy = group.policy()?;
            let roster = group.roster(&policy)?;
            let current = Current {
                group,
                policy,
                roster,
            };
            check_joined(&current, &room.settings, &room.own)?;
            room.store.put(ROW_GROUP, &id).map_err(group::store_error)?;
            Ok(current)
        });
        self.key_package = Some((Vec::new(), self.now.ms));
        let current = match current {
            Ok(current) => current,
            // The certificate is not valid (by this clock), or the policy does not admit its own maker.
            Err(error) => {
                let by = self.own.identity().subject.clone();
                return self.refuse("policy", &by, error);
            }
        };
        self.current = Some(current);
        self.fresh = true;
        self.append_create(id.to_vec());
        Ok(())
    }

    fn ask(&mut self) -> Result<(), GroupError> {
        let unix = self.now.unix;
        // A new one in time, made by a clock that may be right by now. Only the last one is kept: two that are answered
        // would put this endpoint out of its own place.
        let anew = self.asked % ANEW == ANEW - 1;
        let bytes = match self.key_package.take() {
            Some((bytes, _)) if !bytes.is_empty() && !anew => bytes,
            _ => self.transaction(|room| {
                room.forget()?;
                Group::key_package(&room.store, &room.own, unix)
            })?,
        };
        self.key_package = Some((bytes.clone(), self.now.ms));
        self.asked += 1;
        self.append(Record::KeyPackage(bytes));
        Ok(())
    }

    /// When the key package, or the room's first record, is appended again; none: it was not yet. Who is not let in
    /// asks ever more seldom.
    fn ask_due(&self) -> Option<u64> {
        let (_, at) = self.key_package.as_ref()?;
        Some(at + (ASK_AGAIN << self.asked.min(4)))
    }

    /// A welcome of a commit that can have won. `rival`: one with its hash and epoch that was not the first of its
    /// epoch in the log; somebody must be heard in what it began.
    pub(super) fn welcome_entry(
        &mut self,
        welcome: &[u8],
        rival: Option<([u8; 32], u64)>,
    ) -> Result<(), GroupError> {
        let sequence = self.cursor;
        let known = self.created.clone();
        let joined = self.transaction(|room| {
            let mut group = Group::join(&room.store, welcome)?;
            if known.as_deref().is_some_and(|known| known != group.id()) {
                return Err(GroupError::Refused(
                    "a welcome into another group than the log's".into(),
                ));
            }
            let policy = group.policy()?;
            let roster = group.roster(&policy)?;
            let current = Current {
                group,
                policy,
                roster,
            };
            check_joined(&current, &room.settings, &room.own)?;
            room.store
                .put(ROW_GROUP, current.group.id())
                .map_err(group::store_error)?;
            room.entered_rows(sequence)?;
            if let Some((hash, _)) = &rival {
                room.store.put(ROW_REJOIN, hash).map_err(group::store_error)?;
            }
            Ok(current)
        });
        match joined {
            Ok(current) => {
                self.created = Some(current.group.id().to_vec());
                self.current = Some(current);
                self.key_package = None;
                self.asked = 0;
                if let Some((hash, epoch)) = rival {
                    self.rejoin = Some(Rejoin {
                        reason: "another commit of the same epoch came before its welcome".into(),
                        asked: None,
                        since: self.now.ms,
                        published: None,
                        attempts: ATTEMPTS,
                        commit: Some((hash, epoch, self.now.ms, true)),
                        oldest: epoch + 1,
                        follows: false,
                    });
                    return Ok(());
                }
                self.fresh = true;
                self.entered(None, "")?;
                self.entered_commits(true);
                self.say_ready()
            }
            Err(GroupError::NotForUs) => Ok(()),
            Err(error) => self.refuse("welcome", "", error),
        }
    }

    /// Forgets the group and joins like somebody new.
    pub(super) fn start_over(&mut self, reason: String) -> Result<(), GroupError> {
        self.current = None;
        self.candidates.clear();
        self.pending = None;
        self.rejoin = None;
        self.stuck = None;
        self.fresh = false;
        self.key_package = None;
        self.transaction(Self::forget)?;
        self.outputs.push_back(Output::ForgetKeys);
        self.event(Event::Resync { done: false, reason });
        Ok(())
    }

    /// `follows`: the log can be followed until then.
    pub(super) fn start_rejoin(&mut self, reason: String, follows: bool) {
        let Some(current) = &self.current else { return };
        if self.rejoin.is_some() {
            return;
        }
        let oldest = current.group.epoch() + u64::from(self.stuck.is_some());
        self.event(Event::Resync {
            done: false,
            reason: reason.clone(),
        });
        self.rejoin = Some(Rejoin {
            reason,
            asked: None,
            since: self.now.ms,
            published: None,
            attempts: 0,
            commit: None,
            oldest,
            follows,
        });
    }

    pub(super) fn try_rejoin(&mut self) -> Result<(), GroupError> {
        self.check_all_stuck()?;
        self.publish_info()?;
        let now = self.now.ms;
        // Nobody is heard in this epoch, and the log has commits of later ones.
        let ahead = self.current.as_ref().is_some_and(|current| {
            let last = self.first_of_epoch.last_key_value();
            last.is_some_and(|(epoch, _)| *epoch > current.group.epoch())
        });
        if self.stale && ahead && self.rejoin_not_before <= now {
            // Or somebody wrote a number into a message: the group here may be as good as anybody's.
            self.start_rejoin("the log went on without this endpoint".into(), true);
        }
        let Some(rejoin) = &mut self.rejoin else {
            return Ok(());
        };
        match rejoin.commit {
            // Nobody has answered. Who can go on, goes on; who knows an epoch that may go on yet, waits; anybody else has
            // nothing to lose.
            None if self.stuck.is_none() && rejoin.since + self.settings.max_silence <= now => {
                rejoin.attempts = ATTEMPTS;
                self.rejoin_failed()
            }
            None => {
                if rejoin.asked.is_none_or(|at| at + INFO_AGAIN <= now) {
                    rejoin.asked = Some(now);
                    if self.stuck.is_some() {
                        // Again and again: it may get lost, and who is started again cannot read what it has read.
                        self.say_stuck()?;
                    }
                    self.append(Record::GroupInfoRequest);
                }
                Ok(())
            }
            Some((_, _, at, _)) if at + CONFIRMED_WITHIN <= now => self.rejoin_failed(),
            Some(_) => Ok(()),
        }
    }

    fn rejoin_failed(&mut self) -> Result<(), GroupError> {
        let Some(rejoin) = &mut self.rejoin else {
            return Ok(());
        };
        rejoin.commit = None;
        rejoin.asked = None;
        rejoin.since = self.now.ms;
        rejoin.attempts += 1;
        if rejoin.attempts >= ATTEMPTS && rejoin.follows {
            self.rejoin = None;
            // Meanwhile it does what is to be done here: those who could have helped may be asking to be let in.
            self.rejoin_not_before = self.now.ms + self.settings.max_silence;
            self.refuse_command(&Command::Resync, None, "nobody helps; nothing has changed");
        } else if rejoin.attempts >= ATTEMPTS {
            return self.start_over("nobody is heard where it led: asking to be let in".into());
        }
        Ok(())
    }

    /// Does the group here lead where the room is? Whose external commit stands in the log helps as well: all who could
    /// confirm it may be asking.
    fn can_help(&self) -> bool {
        self.stuck.is_none()
            && match &self.rejoin {
                None => self.fresh,
                Some(rejoin) => match rejoin.commit {
                    None => self.fresh && rejoin.follows,
                    Some((_, _, _, read_back)) => read_back,
                },
            }
    }

    pub(super) fn info_asked(&mut self) {
        let Some(current) = self.current.as_ref().filter(|_| self.can_help()) else {
            return;
        };
        let own = current.own();
        let mut position = current.roster.keys().filter(|leaf| **leaf < own).count();
        self.info_asked += 1;
        self.info_insists = self.info_asked >= INSIST && position < INSISTING;
        if self.rejoin.is_some() {
            // Its own answer is of no use to itself, and would keep others from giving theirs.
            position += current.roster.len();
        }
        let turn = u64::try_from(position.min(64)).unwrap_or(64) * INFO_TURN;
        self.info_wanted.get_or_insert(self.now.ms + turn);
    }

    fn publish_info(&mut self) -> Result<(), GroupError> {
        if self.info_wanted.is_none_or(|at| at > self.now.ms) {
            return Ok(());
        }
        self.info_wanted = None;
        // It may be in another one than when it was asked: one that only its own external commit would have begun.
        let Some(current) = self.current.as_ref().filter(|_| self.can_help()) else {
            return Ok(());
        };
        let info = current.group.info(&self.store, &self.own)?;
        if let Some(rejoin) = &mut self.rejoin {
            rejoin.published = Some(hash(&info));
        }
        self.append(Record::GroupInfo(info));
        Ok(())
    }

    /// Somebody's GroupInfo: for this endpoint if it waits for one.
    pub(super) fn info_entry(&mut self, bytes: &[u8]) -> Result<(), GroupError> {
        if !self.info_insists {
            self.info_wanted = None;
        }
        let waits = self
            .rejoin
            .as_ref()
            .is_some_and(|rejoin| rejoin.waits_for_info() && rejoin.published != Some(hash(bytes)));
        if !waits || !self.caught_up {
            return Ok(());
        }
        match self.join_by_info(bytes) {
            // Anybody may have made it: that alone is no reason to give up.
            Err(error) => self.refuse("message", "", error),
            Ok(()) => Ok(()),
        }
    }

    fn join_by_info(&mut self, bytes: &[u8]) -> Result<(), GroupError> {
        let info = group::read_info(bytes)?;
        let Some(current) = &self.current else {
            return Ok(());
        };
        let epoch = info.epoch().as_u64();
        let id = current.group.id().to_vec();
        if info.group_id().as_slice() != id {
            return Err(GroupError::Refused("a group info of another group".into()));
        }
        let oldest = self.rejoin.as_ref().map_or(0, |rejoin| rejoin.oldest);
        // Made before its author had read the commit that ends this epoch.
        let late = self.first_of_epoch.contains_key(&epoch);
        let patient = self
            .rejoin
            .as_ref()
            .is_some_and(|rejoin| rejoin.attempts < ATTEMPTS);
        if epoch < oldest || (late && patient) {
            if let Some(rejoin) = &mut self.rejoin {
                rejoin.attempts += 1;
            }
            return Ok(());
        }
        let unix = self.now.unix;
        let author = self.author_of_stuck();
        let (joined, record, hash) = self.transaction(|room| {
            Group::forget(&room.store, &id)?;
            // What lies before the group's time is refused, and clocks differ.
            let time = group::time_of_info(&room.store, bytes)?.max(unix);
            let (mut group, commit) = Group::join_externally(&room.store, &room.own, info, time)?;
            let policy = group.policy()?;
            let roster = group.roster(&policy)?;
            let signer = group::signer_of_info(bytes).and_then(|leaf| roster.get(&leaf));
            if let (Some(author), Some(signer)) = (author, signer)
                && signer.identity.same_as(&author)
            {
                // Whoever else follows that commit gives one too. If nobody does, this would lead to its author alone.
                return Err(GroupError::Refused(format!(
                    "{} invites to where only its own commit leads, which cannot be followed here",
                    author.subject
                )));
            }
            let current = Current {
                group,
                policy,
                roster,
            };
            check_joined(&current, &room.settings, &room.own)?;
            let record = Record::Commit {
                commit,
                welcome: None,
            };
            let hash = hash(&record.encode());
            room.store.put(ROW_REJOIN, &hash).map_err(group::store_error)?;
            Ok((current, record, hash))
        })?;
        self.current = Some(joined);
        // Read in an epoch of long ago, perhaps.
        self.candidates.clear();
        self.pending = None;
        self.stuck = None;
        self.fresh = false;
        self.outputs.push_back(Output::ForgetKeys);
        if let Some(rejoin) = &mut self.rejoin {
            rejoin.commit = Some((hash, epoch, self.now.ms, false));
            rejoin.follows = false;
        }
        self.outputs.push_back(Output::AppendCommit {
            after: self.last_commit,
            record,
        });
        Ok(())
    }

    /// A commit in the log, while an external commit is under way.
    pub(super) fn commit_while_rejoining(
        &mut self,
        sequence: u64,
        hash: [u8; 32],
        commit: &[u8],
        epoch: u64,
    ) -> Result<(), GroupError> {
        let Some(rejoin) = &mut self.rejoin else {
            return Ok(());
        };
        match &mut rejoin.commit {
            // The old group's commits: kept for the case that nobody could follow the first of them.
            None if self.stuck.is_some() => {
                self.hold(Held::Commit {
                    sequence,
                    hash,
                    epoch,
                    commit: commit.to_vec(),
                });
                Ok(())
            }
            None if rejoin.follows => self.commit_here(sequence, hash, commit),
            None => Ok(()),
            Some((own, _, _, read_back)) if *own == hash => {
                *read_back = true;
                let alone = self.current.as_ref().is_some_and(|c| c.roster.len() == 1);
                if alone { self.rejoined() } else { Ok(()) }
            }
            // Somebody else's commit ended the epoch first.
            Some((_, ended, _, false)) if *ended == epoch => self.rejoin_failed(),
            Some((_, _, _, false)) => Ok(()),
            Some((_, _, _, true)) => self.commit_here(sequence, hash, commit),
        }
    }

    /// Another member went on in the epoch that the external commit began: it won.
    pub(super) fn rejoined(&mut self) -> Result<(), GroupError> {
        let Some(rejoin) = self.rejoin.take() else {
            return Ok(());
        };
        let cursor = self.cursor;
        self.transaction(|room| {
            room.store.delete(ROW_REJOIN).map_err(group::store_error)?;
            room.store
                .put(ROW_CURSOR, &cursor.to_be_bytes())
                .map_err(group::store_error)
        })?;
        self.fresh = true;
        self.stale = false;
        self.counters.resyncs += 1;
        self.event(Event::Resync {
            done: true,
            reason: rejoin.reason,
        });
        self.entered(None, "")?;
        self.entered_commits(true);
        self.say_ready()
    }

    /// A commit that this leaf's key made, and this process did not.
    pub(super) fn own_unknown_commit(&mut self) {
        if self.fresh {
            // Wait for what the others do: a member can forge the sender of an encrypted commit, and then they stay.
            self.suspected_clone.get_or_insert(self.now.ms);
        } else {
            self.start_rejoin(
                "the state file is older than the log: it was restored".into(),
                false,
            );
        }
    }

    /// A proposal that this leaf's key made. Where this life's state does not know it, a commit that refers to it cannot be
    /// judged here.
    pub(super) fn own_unknown_proposal(&mut self) {
        let known = self
            .current
            .as_ref()
            .is_none_or(|current| current.group.leaving().contains(&current.own()));
        if known {
            return;
        }
        self.unread_proposal = true;
        if !self.fresh {
            self.start_rejoin(
                "the state file is older than the log: it was restored".into(),
                false,
            );
        }
    }

    pub(super) fn clone_deadline(&self) -> Option<u64> {
        self.suspected_clone.map(|at| at + self.settings.max_silence / 2)
    }

    pub(super) fn check_suspected_clone(&mut self) {
        if self.clone_deadline().is_some_and(|at| at <= self.now.ms) {
            self.clone_detected(
                "a commit in this endpoint's name that it did not make ended the epoch".into(),
            );
            self.outputs.push_back(Output::ForgetKeys);
        }
    }

    pub(super) fn clone_detected(&mut self, what: String) {
        self.out = Some(State::Evicted);
        self.current = None;
        self.event(Event::CloneDetected {
            reason: format!(
                "{what}: two machines run with one identity. Stop both, give each an identity of its own and remove \
                 this one from the room"
            ),
        });
    }

    pub(super) fn join_deadline(&self) -> Option<u64> {
        let asked = match &self.current {
            None if self.caught_up => self.ask_due(),
            Some(c) if self.created.is_none() && c.group.epoch() == 0 => self.ask_due(),
            _ => None,
        };
        let rejoin = self.rejoin.as_ref().and_then(|rejoin| match rejoin.commit {
            None => rejoin.asked.map(|at| at + INFO_AGAIN),
            Some((_, _, at, _)) => Some(at + CONFIRMED_WITHIN),
        });
        let again = (self.stale && self.rejoin.is_none() && self.rejoin_not_before > self.now.ms)
            .then_some(self.rejoin_not_before);
        [asked, rejoin, again, self.info_wanted]
            .into_iter()
            .flatten()
            .min()
    }
}

/// A group that this endpoint did not see grow: is everything in it as if it had judged each step?
fn check_joined(current: &Current, settings: &Settings, own: &OwnIdentity) -> Result<(), GroupError> {
    let refuse = |why: String| Err(GroupError::Refused(why));
    if !current.policy.room.is_of(&settings.room) {
        return refuse(format!("a welcome into another room than {}", settings.room));
    }
    if let Err(error) = current.policy.validate() {
        return refuse(format!("the room's policy contradicts itself: {error}"));
    }
    if let Some(root) = current
        .policy
        .roots
        .iter()
        .find(|root| !own.roots().contains(root))
    {
        return refuse(format!(
            "the room trusts the CA {root}, which is not in ca-file: add its certificate there if you trust it too"
        ));
    }
    rules::check_roster(&current.policy, &current.roster, current.time())
        .map_err(|error| GroupError::Refused(error.to_string()))?;
    let leaf = current.roster.get(&current.own());
    if !leaf.is_some_and(|leaf| leaf.identity.same_as(own.identity())) {
        return refuse("the own leaf has somebody else's certificate".into());
    }
    Ok(())
}
