//! Several endpoints of one room, the log between them, and the clock: all in memory, all driven by the test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "shared by several tests, each of which uses a part"
)]

pub mod bent;
pub mod evil;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gst_e2ee_common::room_state::RoomState;
use gstmls::identity::{
    IdentityKey, OwnIdentity, Role,
    issue::{Authority, Subject, Validity},
};
use gstmls::policy::{Claim, Policy, PolicyFile, RoomTag};
use gstmls::record::Record;
use gstmls::room::{Command, Event, Input, Now, Output, Room, Said, Settings, State};
use gstmls::schedule::{EpochKeys, Schedule};
use gstmls::store::{MemoryStore, Snapshot};

/// 2026-01-01, in unix seconds.
pub const BEGINNING: u64 = 1_767_225_600;
/// Name of the room.
pub const ROOM: &str = "consultation";
/// How long without a sign of life until a room is stale.
pub const MAX_SILENCE: u64 = 30_000;

/// Makes identities.
pub struct Ca {
    pub authority: Authority,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        Self::at(name, BEGINNING)
    }

    /// One whose certificate begins at that time, in unix seconds.
    pub fn at(name: &str, beginning: u64) -> Self {
        let validity = Validity::days(beginning, 3650);
        let authority = Authority::root(name, IdentityKey::generate().unwrap(), validity).unwrap();
        Self { authority }
    }

    /// An identity, always with the same key for the same name.
    pub fn identity(&self, id: &str, roles: &[Role]) -> Identity {
        self.identity_at(id, roles, BEGINNING)
    }

    /// The same, valid from that time, in unix seconds.
    pub fn identity_at(&self, id: &str, roles: &[Role], beginning: u64) -> Identity {
        self.certified(id, roles, Validity::days(beginning, 365))
    }

    /// The same, valid in these days.
    pub fn certified(&self, id: &str, roles: &[Role], validity: Validity) -> Identity {
        let mut seed = [7; 32];
        seed[..id.len()].copy_from_slice(id.as_bytes());
        let key = IdentityKey::from_seed(&seed);
        let subject = Subject {
            id: id.into(),
            operator: None,
            roles: roles.to_vec(),
        };
        let (chain, _) = self.authority.issue(key.public(), &subject, validity).unwrap();
        Identity {
            seed,
            chain,
            root: self.authority.root_certificate().to_vec(),
        }
    }
}

/// What an endpoint has on its disk besides its state.
#[derive(Clone)]
pub struct Identity {
    pub seed: [u8; 32],
    pub chain: Vec<Vec<u8>>,
    pub root: Vec<u8>,
}

impl Identity {
    pub fn own(&self) -> OwnIdentity {
        let key = IdentityKey::from_seed(&self.seed);
        OwnIdentity::new(
            self.chain.clone(),
            key,
            std::slice::from_ref(&self.root),
            BEGINNING,
        )
        .unwrap()
    }
}

/// A policy that lets everybody of the CA in as a participant.
pub fn policy(ca: &Ca, json: &str) -> Policy {
    let root = ca.authority.fingerprint();
    let json = json.replace("ROOT", &root.to_string());
    let creator = ca.identity("creator", &[Role::Participant]);
    let own = creator.own();
    PolicyFile::parse(json.as_bytes())
        .unwrap()
        .into_policy(RoomTag::new(ROOM, [1; 16]), own.identity(), &[root])
        .unwrap()
}

pub const OPEN: &str = r#"{ "admit": [{ "role": "participant", "root": "ROOT" }],
    "rights": { "add": "participants", "remove": "participants", "recording": "participants", "policy": "participants" } }"#;

/// One endpoint.
pub struct Endpoint {
    pub id: String,
    pub identity: Identity,
    pub own: Arc<OwnIdentity>,
    pub settings: Settings,
    pub room: Option<Room<MemoryStore>>,
    pub disk: Option<MemoryStore>,
    pub schedule: Schedule,
    pub events: Vec<Event>,
    /// Base key of each epoch that was handed out.
    pub keys: BTreeMap<u64, Vec<u8>>,
    /// What was said to hold in each epoch.
    pub states: BTreeMap<u64, RoomState>,
    pub sealing: bool,
    pub read: u64,
    /// (base key, KID) that it sealed under, in all its lives.
    pub sealed: BTreeSet<(Vec<u8>, u64)>,
    /// Answer to requests for authorisation.
    pub authorize: bool,
    /// What others said.
    pub said: Vec<Said>,
    /// Ends of wishes and messages.
    pub answers: BTreeMap<u64, Result<(), String>>,
}

/// The room's log and its members.
pub struct World {
    pub log: Vec<(u64, Vec<u8>)>,
    pub endpoints: Vec<Endpoint>,
    pub now: Now,
    /// Print every record and event.
    pub loud: bool,
    /// Wishes of endpoints that wait to be appended: (endpoint, output).
    pub compare_and_set: bool,
}

impl World {
    pub fn new() -> Self {
        Self {
            log: Vec::new(),
            endpoints: Vec::new(),
            now: Now {
                ms: 1000,
                unix: BEGINNING + 1000,
            },
            loud: std::env::var_os("WORLD_LOUD").is_some(),
            compare_and_set: true,
        }
    }

    pub fn settings() -> Settings {
        Settings {
            room: ROOM.into(),
            create: None,
            accept: Claim::Escrow,
            rekey_interval: 0,
            max_silence: MAX_SILENCE,
            authorize: false,
            durable_log: true,
            display_name: None,
            padding: true,
        }
    }

    /// Adds an endpoint and starts it.
    pub fn add(&mut self, id: &str, identity: Identity, settings: Settings) -> usize {
        let index = self.place(id, identity, settings);
        self.start(index);
        index
    }

    /// Adds an endpoint that does not run yet.
    pub fn place(&mut self, id: &str, identity: Identity, settings: Settings) -> usize {
        self.endpoints.push(Endpoint {
            id: id.into(),
            own: Arc::new(identity.own()),
            identity,
            settings,
            room: None,
            disk: Some(MemoryStore::new()),
            schedule: Schedule::new(),
            events: Vec::new(),
            keys: BTreeMap::new(),
            states: BTreeMap::new(),
            sealing: false,
            read: 0,
            sealed: BTreeSet::new(),
            authorize: true,
            said: Vec::new(),
            answers: BTreeMap::new(),
        });
        self.endpoints.len() - 1
    }

    /// A new process of this endpoint.
    pub fn start(&mut self, index: usize) {
        let now = self.now;
        let endpoint = &mut self.endpoints[index];
        let mut store = endpoint.disk.take().unwrap();
        store.restart();
        let room = Room::open(store, endpoint.own.clone(), endpoint.settings.clone(), now).unwrap();
        endpoint.read = room.cursor();
        endpoint.room = Some(room);
        endpoint.schedule = Schedule::new();
        endpoint.sealing = false;
        endpoint.keys.clear();
    }

    /// kill -9.
    pub fn kill(&mut self, index: usize) {
        let endpoint = &mut self.endpoints[index];
        if let Some(room) = endpoint.room.take() {
            endpoint.disk = Some(room.into_store());
        }
    }

    pub fn snapshot(&self, index: usize) -> Snapshot {
        self.endpoints[index].room.as_ref().unwrap().store().snapshot()
    }

    /// Appends as the delivery would.
    pub fn append(&mut self, bytes: Vec<u8>) -> u64 {
        let sequence = self.log.last().map_or(1, |(sequence, _)| sequence + 1);
        self.log.push((sequence, bytes));
        sequence
    }

    pub fn last_commit(&self) -> u64 {
        self.log
            .iter()
            .rev()
            .find(|(_, bytes)| Record::decode(bytes).is_ok_and(|record| record.is_commit()))
            .map_or(0, |(sequence, _)| *sequence)
    }

    /// Gives one input to an endpoint and does what it asks for. False: it crashed.
    pub fn input(&mut self, index: usize, input: Input) -> bool {
        let now = self.now;
        let Some(room) = self.endpoints[index].room.as_mut() else {
            return true;
        };
        let ok = match room.handle(now, input) {
            Ok(()) => true,
            Err(error) => {
                assert!(room.store().crashed(), "{}: {error}", self.endpoints[index].id);
                false
            }
        };
        // A crashed process says nothing more; what it had said before its last write went out.
        if !ok {
            self.kill(index);
            return false;
        }
        self.outputs(index);
        true
    }

    fn outputs(&mut self, index: usize) {
        loop {
            let Some(room) = self.endpoints[index].room.as_mut() else {
                return;
            };
            let Some(output) = room.poll() else { return };
            let now = self.now;
            let endpoint = &mut self.endpoints[index];
            match output {
                Output::Append(record) => {
                    if self.loud {
                        eprintln!("{:>7} {} appends {}", now.ms, endpoint.id, record.kind());
                    }
                    self.append(record.encode());
                }
                Output::AppendCommit { after, record } => {
                    let taken = !self.compare_and_set || self.last_commit() == after;
                    if self.loud {
                        let id = &self.endpoints[index].id;
                        eprintln!(
                            "{:>7} {id} appends {} after {after}: {taken}",
                            now.ms,
                            record.kind()
                        );
                    }
                    if taken {
                        self.append(record.encode());
                    } else {
                        self.input(index, Input::Moved);
                    }
                }
                Output::Event(event) => {
                    if self.loud {
                        eprintln!("{:>7} {}: {event:?}", now.ms, endpoint.id);
                    }
                    endpoint.events.push(event);
                }
                Output::Epoch(keys) => {
                    let EpochKeys {
                        epoch,
                        base_key,
                        room,
                        ..
                    } = &*keys;
                    assert_eq!(room.epoch, *epoch);
                    endpoint.keys.insert(*epoch, base_key.to_vec());
                    endpoint.states.insert(*epoch, room.clone());
                    endpoint.schedule.enter(now.ms, *keys).unwrap();
                }
                Output::AllReady(epoch) => endpoint.schedule.all_ready(now.ms, epoch),
                Output::AllowSealing(yes) => {
                    endpoint.sealing = yes;
                    endpoint.schedule.allow_sealing(yes);
                }
                Output::ForgetKeys => {
                    endpoint.schedule.forget_all();
                    endpoint.keys.clear();
                }
                Output::Answer { ticket, result } => {
                    endpoint.answers.insert(ticket, result);
                }
                Output::Said(said) => endpoint.said.push(*said),
                Output::Authorize { ticket, .. } => {
                    let yes = endpoint.authorize;
                    self.input(index, Input::Authorized { ticket, yes });
                }
            }
        }
    }

    /// The endpoint reads its next entry, or that there is none.
    pub fn read_one(&mut self, index: usize) -> bool {
        let read = self.endpoints[index].read;
        if self.endpoints[index].room.is_none() {
            return false;
        }
        let next = self.log.iter().find(|(sequence, _)| *sequence > read).cloned();
        match next {
            Some((sequence, bytes)) => {
                self.endpoints[index].read = sequence;
                self.input(index, Input::Entry { sequence, bytes });
                true
            }
            None => {
                self.input(index, Input::CaughtUp);
                false
            }
        }
    }

    /// Everybody reads everything and what follows from it, without time going on.
    pub fn settle(&mut self) {
        for _ in 0..2_000 {
            let mut read = false;
            for index in 0..self.endpoints.len() {
                read |= self.read_one(index);
            }
            if !read
                && self
                    .endpoints
                    .iter()
                    .all(|e| e.room.is_none() || Some(e.read) >= self.log.last().map(|l| l.0))
            {
                return;
            }
        }
        panic!("the room does not come to rest");
    }

    /// Lets time go on, step by step, and everybody act when it is due.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.ms + ms;
        while self.now.ms < end {
            self.settle();
            let due = self
                .endpoints
                .iter()
                .filter_map(|e| e.room.as_ref()?.next_deadline())
                .min()
                .unwrap_or(end)
                .clamp(self.now.ms + 1, end);
            self.advance(due - self.now.ms);
        }
        self.settle();
    }

    pub fn advance(&mut self, ms: u64) {
        let before = self.now.ms / 1000;
        self.now.ms += ms;
        self.now.unix += self.now.ms / 1000 - before;
        for index in 0..self.endpoints.len() {
            let now = self.now.ms;
            self.endpoints[index].schedule.tick(now);
            let due = self.endpoints[index]
                .room
                .as_ref()
                .and_then(|room| room.next_deadline());
            if due.is_some_and(|due| due <= now) {
                self.input(index, Input::Tick);
            }
        }
    }

    pub fn command(&mut self, index: usize, command: Command) {
        self.input(index, Input::Command(command));
    }

    pub fn state(&self, index: usize) -> State {
        self.endpoints[index]
            .room
            .as_ref()
            .map_or(State::Joining, Room::state)
    }

    pub fn epoch(&self, index: usize) -> u64 {
        self.endpoints[index].room.as_ref().unwrap().status().epoch
    }

    pub fn members(&self, index: usize) -> Vec<String> {
        let status = self.endpoints[index].room.as_ref().unwrap().status();
        status.members.into_iter().map(|member| member.id).collect()
    }

    /// Everybody who is ready is in the same epoch, with the same members, code and key.
    pub fn check_agreed(&self, among: &[usize]) {
        let views: Vec<_> = among
            .iter()
            .map(|index| {
                let endpoint = &self.endpoints[*index];
                let status = endpoint.room.as_ref().unwrap().status();
                assert_eq!(status.state, State::Ready, "{}", endpoint.id);
                let members: Vec<_> = status.members.iter().map(|m| (m.leaf, m.id.clone())).collect();
                let key = endpoint.keys.get(&status.epoch).cloned();
                assert!(
                    key.is_some(),
                    "{} has no key of epoch {}",
                    endpoint.id,
                    status.epoch
                );
                (status.epoch, status.epoch_code, members, key)
            })
            .collect();
        for view in &views {
            assert_eq!(view, &views[0]);
        }
    }

    pub fn refusals(&self, index: usize) -> Vec<String> {
        let events = self.endpoints[index].events.iter();
        events
            .filter_map(|event| match event {
                Event::Refused { what, by, reason } => Some(format!("{what} {by}: {reason}")),
                _ => None,
            })
            .collect()
    }
}
