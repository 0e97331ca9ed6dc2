//! The room: what its log means, who is in it, what may change. No threads, no clock, no sockets: entries of the
//! log, answers and the time come in by [`Room::handle`], what to do comes out by [`Room::poll`].
//!
//! One rule makes one history out of one log: **the first valid commit of an epoch in log order wins**. Valid means
//! valid by the group's state and the commit's bytes alone (`rules`), so that every member decides alike; an author
//! merges its own commit only when it has read it back. Every step that changes the group is one transaction of the
//! store, and what was rolled back is loaded again, so that a crash between any two writes leaves a member either
//! before or after a commit, never between.

mod command;
mod committing;
mod compared;
mod entries;
mod event;
mod group;
mod joining;
mod life;
mod queue;
mod saying;
mod status;
mod stuck;
mod view;
mod wishes;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub use command::Command;
pub use event::Event;
pub use group::{Group, GroupError, MLS_SUITE, POLICY_EXTENSION, Plan, TIME_EXTENSION};
pub use saying::{MAX_NAME, Said, is_name};
pub(crate) use status::member_of;
pub use status::{Counters, Member, State, Status};

use crate::content::Content;
use crate::identity::{Fingerprint, Identity, OwnIdentity};
use crate::policy::{Claim, Policy};
use crate::record::Record;
use crate::rules::{self, Roster};
use crate::schedule::{EpochKeys, LeafInfo};
use crate::store::Store;

use committing::{Candidate, Pending};
use joining::{ROW_REJOIN, Rejoin};
use queue::Queue;
use saying::Saying;
use stuck::Stuck;
use wishes::Wish;

/// The time, twice: what may jump is used for certificates only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back.
    pub ms: u64,
    /// Seconds since 1970, UTC.
    pub unix: u64,
}

/// How an endpoint takes part.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the room.
    pub room: String,
    /// Make the room under this policy if its log is empty.
    pub create: Option<Policy>,
    /// Weakest claim under which this endpoint sends.
    pub accept: Claim,
    /// Commit an Update of its own after so many milliseconds; 0: never by itself.
    pub rekey_interval: u64,
    /// Milliseconds without an authenticated sign of life until the room is stale.
    pub max_silence: u64,
    /// Ask [`Output::Authorize`] before adding somebody; else the policy alone decides.
    pub authorize: bool,
    /// Do sequence numbers of the log outlive this process?
    pub durable_log: bool,
    /// What this endpoint calls itself in the room; see [`is_name`].
    pub display_name: Option<String>,
    /// Are messages padded to a power of two?
    pub padding: bool,
}

/// What a room is told.
#[derive(Debug)]
pub enum Input {
    /// The next entry of the log.
    Entry {
        /// Its sequence number; they grow.
        sequence: u64,
        /// A [`Record`].
        bytes: Vec<u8>,
    },
    /// The end of the log was reached.
    CaughtUp,
    /// The last [`Output::AppendCommit`] was not taken: somebody else's commit was there first.
    Moved,
    /// Somebody's wish.
    Command(Command),
    /// A wish whose end is to be told by [`Output::Answer`].
    Ask {
        /// The wish's number.
        ticket: u64,
        /// The wish.
        command: Command,
    },
    /// The answer to [`Output::Authorize`].
    Authorized {
        /// The question's number.
        ticket: u64,
        /// Let in?
        yes: bool,
    },
    /// A message to be said; [`Output::Answer`] comes when all of it stands in the log.
    Say {
        /// The message's number.
        ticket: u64,
        /// The message.
        content: Content,
    },
    /// Leave the room for good.
    Leave,
    /// Time passed; due at [`Room::next_deadline`].
    Tick,
}

/// What a room wants.
#[derive(Debug)]
pub enum Output {
    /// Append this record to the log.
    Append(Record),
    /// Append this record if the last commit in the log is still this one.
    AppendCommit {
        /// Sequence number of the last commit seen; 0: none.
        after: u64,
        /// The record.
        record: Record,
    },
    /// Tell people.
    Event(Event),
    /// An epoch was entered.
    Epoch(Box<EpochKeys>),
    /// Everybody has the keys of this epoch.
    AllReady(u64),
    /// May this endpoint seal? False before the first of these.
    AllowSealing(bool),
    /// Forget every key: this endpoint is out.
    ForgetKeys,
    /// A wish is in force, or why it never will be.
    Answer {
        /// The wish's number.
        ticket: u64,
        /// Nothing, or a sentence for a person.
        result: Result<(), String>,
    },
    /// Somebody said something.
    Said(Box<Said>),
    /// Shall this one be let in? Answer by [`Input::Authorized`].
    Authorize {
        /// The question's number.
        ticket: u64,
        /// Who asks.
        identity: Box<Identity>,
        /// Its certificates, as in its credential (RFC 9420 §5.3).
        certificates: Vec<u8>,
    },
}

/// The group as it stands, with what it says, verified.
struct Current {
    group: Group,
    policy: Policy,
    roster: Roster,
}

/// What was, before a commit.
struct Before {
    policy: Policy,
    roster: Roster,
    /// Leaves that had asked to be let go.
    leaving: Vec<u32>,
}

impl Current {
    fn before(&self) -> Before {
        Before {
            policy: self.policy.clone(),
            roster: self.roster.clone(),
            leaving: self.group.leaving(),
        }
    }

    /// Time of the group: no commit may say an earlier one.
    fn time(&self) -> u64 {
        rules::group_time(&self.roster)
    }

    fn own(&self) -> u32 {
        self.group.own_leaf()
    }

    fn subject(&self, leaf: u32) -> String {
        self.roster
            .get(&leaf)
            .map(|leaf| leaf.identity.subject.clone())
            .unwrap_or_default()
    }
}

/// A room as one endpoint sees it.
pub struct Room<S: Store> {
    store: S,
    own: Arc<OwnIdentity>,
    settings: Settings,
    outputs: VecDeque<Output>,
    counters: Counters,

    current: Option<Current>,
    /// Was the present leaf made in this process's life? Only then it seals and opens.
    fresh: bool,
    out: Option<State>,
    leaving: bool,

    caught_up: bool,
    cursor: u64,
    last_commit: u64,
    /// Group id of the log's first Create.
    created: Option<Vec<u8>>,
    /// For each epoch that a commit in the log claims, the first such commit's sequence number.
    first_of_epoch: BTreeMap<u64, u64>,

    key_package: Option<(Vec<u8>, u64)>,
    asked: u32,
    pending: Option<Pending>,
    wishes: VecDeque<Wish>,
    queue: Queue,
    /// Races that were lost since the last one that was won.
    lost_in_a_row: u32,
    candidates: Vec<Candidate>,
    refused: VecDeque<[u8; 32]>,
    /// Time of the last leaf of those who left.
    gone: BTreeMap<Fingerprint, u64>,
    tickets: u64,
    leaves_since: Option<u64>,
    last_own_commit: u64,
    update_due: Option<u64>,
    /// Making a commit failed: not before this.
    commit_not_before: u64,
    /// Adding several at once failed: one of them must be why.
    one_by_one: bool,
    suspects: BTreeSet<u32>,

    stuck: Option<Stuck>,
    rejoin: Option<Rejoin>,
    /// Nobody helped: not before this is it tried again without being asked for.
    rejoin_not_before: u64,
    suspected_clone: Option<u64>,
    /// Was there a proposal of this leaf's in this epoch that is not known here?
    unread_proposal: bool,
    info_wanted: Option<u64>,
    /// Requests for a GroupInfo since somebody came in by one.
    info_asked: u32,
    /// Will it be published although others have published one?
    info_insists: bool,

    saying: Saying,

    /// Certificates of those whom people have verified.
    compared: BTreeSet<Fingerprint>,
    heard: BTreeMap<u32, u64>,
    ready: BTreeSet<u32>,
    /// When the present epoch began here.
    epoch_since: u64,
    stale: bool,
    sealing: Option<bool>,
    accepted: Option<bool>,
    recording_since: Option<u64>,
    told: Option<State>,
    now: Now,
}

/// Rows of the room in the store.
const ROW_GROUP: &str = "group";
const ROW_CURSOR: &str = "cursor";
const ROW_PENDING: &str = "pending";
const ROW_LOG: &str = "log";
const ROW_NAMES: &str = "names";

impl<S: Store> Room<S> {
    /// Takes up the room where the store left it.
    pub fn open(
        store: S,
        own: impl Into<Arc<OwnIdentity>>,
        settings: Settings,
        now: Now,
    ) -> Result<Self, GroupError> {
        let mut room = Self {
            store,
            own: own.into(),
            settings,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            current: None,
            fresh: false,
            out: None,
            leaving: false,
            caught_up: false,
            cursor: 0,
            last_commit: 0,
            created: None,
            first_of_epoch: BTreeMap::new(),
            key_package: None,
            asked: 0,
            pending: None,
            wishes: VecDeque::new(),
            queue: Queue::default(),
            lost_in_a_row: 0,
            candidates: Vec::new(),
            refused: VecDeque::new(),
            gone: BTreeMap::new(),
            tickets: 0,
            leaves_since: None,
            last_own_commit: now.ms,
            update_due: None,
            commit_not_before: 0,
            one_by_one: false,
            suspects: BTreeSet::new(),
            stuck: None,
            rejoin: None,
            rejoin_not_before: 0,
            suspected_clone: None,
            unread_proposal: false,
            info_wanted: None,
            info_asked: 0,
            info_insists: false,
            saying: Saying::default(),
            compared: BTreeSet::new(),
            heard: BTreeMap::new(),
            ready: BTreeSet::new(),
            epoch_since: 0,
            stale: false,
            sealing: None,
            accepted: None,
            recording_since: None,
            told: None,
            now,
        };
        room.restore()?;
        Ok(room)
    }

    /// Which log this is and where its last commit stands, before anything is read: another one than before, or one
    /// that is shorter than what this endpoint has read of it, begins anew.
    pub fn check_log(&mut self, log: &[u8], last_commit: u64) -> Result<(), GroupError> {
        let known = self.store.get(ROW_LOG).map_err(group::store_error)?;
        let same = known.is_none_or(|known| known == log);
        self.transaction(|room| room.store.put(ROW_LOG, log).map_err(group::store_error))?;
        if self.current.is_none() || (same && last_commit >= self.cursor) {
            return Ok(());
        }
        self.cursor = 0;
        self.last_commit = 0;
        self.created = None;
        self.start_over("the delivery has lost the room's log".into())
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input) -> Result<(), GroupError> {
        self.now = now;
        if self.out.is_none() {
            match input {
                Input::Entry { sequence, bytes } => self.entry(sequence, &bytes)?,
                Input::CaughtUp => self.caught_up()?,
                Input::Moved => self.moved(),
                Input::Command(command) => self.wish(command, None),
                Input::Ask { ticket, command } => self.wish(command, Some(ticket)),
                Input::Authorized { ticket, yes } => self.authorized(ticket, yes),
                Input::Say { ticket, content } => self.take_content(ticket, &content),
                Input::Leave => self.leave()?,
                Input::Tick => {}
            }
            self.act()?;
        } else if let Input::Say { ticket, content } = &input {
            self.take_content(*ticket, content);
        } else if let Input::Command(command) | Input::Ask { command, .. } = &input {
            let ticket = match input {
                Input::Ask { ticket, .. } => Some(ticket),
                _ => None,
            };
            self.refuse_command(command, ticket, "this endpoint is no longer in the room");
        }
        self.tell_state();
        Ok(())
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What is due now, whatever came in.
    fn act(&mut self) -> Result<(), GroupError> {
        if !self.caught_up || self.out.is_some() {
            return Ok(());
        }
        self.try_rejoin()?;
        self.try_join()?;
        self.live()?;
        self.try_commit()?;
        self.introduce()?;
        self.speak()
    }

    /// When [`Input::Tick`] is due, in milliseconds of [`Now::ms`].
    pub fn next_deadline(&self) -> Option<u64> {
        if self.out.is_some() {
            return None;
        }
        let deadlines = [
            self.join_deadline(),
            self.life_deadline(),
            self.commit_deadline(),
            self.saying_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Sequence number up to which the log was taken.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Where this endpoint stands; `Transition` is the schedule's to say.
    pub fn state(&self) -> State {
        match self.out {
            Some(state) => state,
            None if self.current.is_none() || !self.fresh || self.rejoin.is_some() => State::Joining,
            None if self.stale || self.stuck.is_some() || self.suspected_clone.is_some() => State::Stale,
            None => State::Ready,
        }
    }

    /// The store, for tests that crash it.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Ends the room and gives the store back.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Who this endpoint is.
    pub fn own(&self) -> &OwnIdentity {
        &self.own
    }

    /// The member with this subject id or fingerprint (hex).
    pub fn member(&self, name: &str) -> Option<&Identity> {
        let roster = &self.current.as_ref()?.roster;
        let mut identities = roster.values().map(|leaf| &leaf.identity);
        identities.find(|identity| identity.subject == name || identity.fingerprint.to_string() == name)
    }

    /// The policy in force.
    pub fn policy(&self) -> Option<&Policy> {
        self.current.as_ref().map(|current| &current.policy)
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn append(&mut self, record: Record) {
        self.outputs.push_back(Output::Append(record));
    }

    fn tell_state(&mut self) {
        if self.out.is_some() || self.leaving {
            self.drop_contents("this endpoint is no longer in the room");
        }
        let state = self.state();
        if self.told != Some(state) {
            self.told = Some(state);
            self.event(Event::State(state));
        }
        let sealing = self.may_seal();
        if self.sealing != Some(sealing) {
            self.sealing = Some(sealing);
            self.outputs.push_back(Output::AllowSealing(sealing));
        }
    }

    fn may_seal(&self) -> bool {
        self.state() == State::Ready
            && self.own.identity().is_participant()
            && self
                .current
                .as_ref()
                .is_some_and(|current| current.policy.claim <= self.settings.accept)
    }

    /// Runs `f` in one transaction. Where it fails, the store is as before; the group in memory is loaded again.
    fn transaction<T>(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<T, GroupError>,
    ) -> Result<T, GroupError> {
        self.store.begin().map_err(group::store_error)?;
        match f(self) {
            Ok(value) => match self.store.commit() {
                Ok(()) => Ok(value),
                Err(error) => {
                    // What went wrong first is what a person needs to know.
                    let _ = self.store.rollback();
                    let _ = self.reload();
                    Err(group::store_error(error))
                }
            },
            Err(error) => {
                self.store.rollback().map_err(group::store_error)?;
                self.reload()?;
                Err(error)
            }
        }
    }

    /// Makes memory what the store says.
    fn reload(&mut self) -> Result<(), GroupError> {
        if let Some(current) = &mut self.current {
            let id = current.group.id().to_vec();
            match Group::load(&self.store, &id)? {
                Some(group) => current.group = group,
                None => self.current = None,
            }
        }
        Ok(())
    }

    /// The epoch's keys go out, and what changed is told.
    fn entered(&mut self, before: Option<Before>, by: &str) -> Result<(), GroupError> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        let (old_policy, old_roster, leaving) = match before {
            Some(before) => (Some(before.policy), before.roster, before.leaving),
            None => (None, Roster::new(), Vec::new()),
        };
        let own = current.own();
        let removed_somebody = old_roster.iter().any(|(leaf, old)| {
            current
                .roster
                .get(leaf)
                .is_none_or(|new| !new.identity.same_as(&old.identity))
        });
        let mut gone_leaves = Vec::new();
        // Nearly everybody is where they were: only for the others the whole roster is searched.
        let has = |roster: &Roster, leaf: u32, who: &Identity| {
            roster.get(&leaf).is_some_and(|there| there.identity.same_as(who))
                || roster.values().any(|anybody| anybody.identity.same_as(who))
        };
        let mut events = vec![Event::EpochChanged {
            epoch: current.group.epoch(),
            code: code_of(current),
            members: u32::try_from(current.roster.len()).unwrap_or(u32::MAX),
        }];
        for (leaf, old) in &old_roster {
            if !has(&current.roster, *leaf, &old.identity) {
                gone_leaves.push(old.clone());
                let by = if leaving.contains(leaf) { "" } else { by };
                events.push(Event::MemberLeft {
                    member: member_of(*leaf, &old.identity, false),
                    removed_by: by.to_owned(),
                });
            }
        }
        for (leaf, new) in &current.roster {
            if *leaf != own && !has(&old_roster, *leaf, &new.identity) {
                events.push(Event::MemberJoined(member_of(*leaf, &new.identity, false)));
            }
        }
        let recorders = |roster: &Roster| -> Vec<String> {
            let recorders = roster.values().filter(|leaf| leaf.identity.is_recorder());
            recorders.map(|leaf| leaf.identity.subject.clone()).collect()
        };
        let now_recorders = recorders(&current.roster);
        if now_recorders != recorders(&old_roster) {
            events.push(Event::RecorderPresent {
                present: !now_recorders.is_empty(),
                recorders: now_recorders,
            });
        }
        let recording = current.policy.recording;
        if old_policy.as_ref().map(|p| p.recording) != Some(recording) {
            self.recording_since = Some(self.now.unix);
            if old_policy.is_some() || recording {
                events.push(Event::RecordingChanged {
                    on: recording,
                    by: by.to_owned(),
                });
            }
        }
        if old_policy.as_ref() != Some(&current.policy) {
            events.push(Event::PolicyChanged {
                claim: current.policy.claim,
                digest: hex::encode(current.policy.digest()),
                by: by.to_owned(),
            });
        }
        let (claim, accept) = (current.policy.claim, self.settings.accept);
        let accepted = claim <= accept;
        if self.accepted != Some(accepted) && (self.accepted.is_some() || !accepted) {
            events.push(Event::NotAccepted {
                accepted,
                claim,
                accept,
            });
        }
        self.accepted = Some(accepted);

        // Only a leaf made in this life opens and seals: before that, an earlier life used these epochs.
        if self.fresh && self.rejoin.as_ref().is_none_or(Rejoin::follows) {
            let keys = self.keys(removed_somebody)?;
            self.outputs.push_back(Output::Epoch(Box::new(keys)));
        }
        for leaf in gone_leaves {
            self.remember_gone(&leaf);
        }
        let somebody_came = events.iter().any(|event| matches!(event, Event::MemberJoined(_)));
        for event in events {
            self.event(event);
        }
        self.entered_saying(somebody_came);
        self.entered_life();
        Ok(())
    }

    fn keys(&self, removed_somebody: bool) -> Result<EpochKeys, GroupError> {
        let Some(current) = &self.current else {
            return Err(GroupError::Refused("there is no group yet".into()));
        };
        let length = match current.policy.sframe_suite {
            1..=3 => 48,
            5 => 32,
            _ => 16,
        };
        Ok(EpochKeys {
            epoch: current.group.epoch(),
            base_key: current.group.base_key(&self.store, length)?,
            suite: current.policy.sframe_suite,
            epoch_bits: current.policy.epoch_bits,
            leaves: current
                .roster
                .iter()
                .map(|(leaf, of)| {
                    let info = LeafInfo {
                        sender: of.identity.subject.clone(),
                        may_send: of.identity.is_participant(),
                    };
                    (*leaf, info)
                })
                .collect(),
            tree_leaves: current.group.tree_leaves(),
            own_leaf: current.own(),
            removed_somebody,
            sealing: self.own.identity().is_participant(),
            room: self.room_state(current),
        })
    }
}

fn code_of(current: &Current) -> String {
    crate::codes::epoch_code(current.group.epoch_authenticator())
}
