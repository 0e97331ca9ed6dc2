//! The world of one seed: its endpoints, the log between them, and time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex};

use gstmls::identity::{Fingerprint, Role};
use gstmls::policy::{Claim, Policy};
use gstmls::record::Record;
use gstmls::room::{Event, Input, Now, Output, Room};
use gstmls::schedule::{EpochKeys, Schedule};
use gstmls::store::Snapshot;

use crate::dice::Dice;
use crate::mole::Mole;
use crate::seeds::Counts;
use crate::world::{Ca, Identity, OPEN, World, policy};

/// More inputs than this, of one seed, are a room that does not come to rest.
const MOST_INPUTS: u64 = 60_000;

/// Who certifies, in all seeds: making keys and certificates anew would be a good part of a seed's time.
pub static CLINIC: LazyLock<Ca> = LazyLock::new(|| Ca::new("clinic"));
/// Somebody whom nobody trusts.
pub static ELSEWHERE: LazyLock<Ca> = LazyLock::new(|| Ca::new("elsewhere"));

/// An identity of the clinic, always the same one.
fn identity(id: &str, role: Role) -> Identity {
    static ISSUED: Mutex<BTreeMap<String, Identity>> = Mutex::new(BTreeMap::new());
    let mut issued = ISSUED.lock().unwrap();
    let identity = issued.entry(id.to_owned());
    identity.or_insert_with(|| CLINIC.identity(id, &[role])).clone()
}

/// What an endpoint is to the simulation.
pub struct Node {
    /// Seconds by which its clock is wrong.
    pub clock: i64,
    pub recorder: bool,
    /// When the entries of the log reach it; as many as there are.
    pub due: Vec<u64>,
    pub withheld_until: u64,
    /// Dead until then.
    starts_at: Option<u64>,
    /// How often it was started.
    pub lives: u64,
    pub left: bool,
    pub snapshot: Option<Snapshot>,
    idle_ticks: u64,
    told_end: bool,
    /// The policy that it was last told of.
    pub policy: Option<Policy>,
    /// The newest epoch that it has keys of, and who is in it.
    pub newest: Option<(u64, BTreeSet<(u32, String)>)>,
    pub tree_leaves: u32,
    /// The newest epoch that somebody was not in any more, and when it was entered here.
    pub cut: Option<(u64, u64)>,
    /// Messages that it said.
    pub said: u64,
    /// The last message that it heard of each other one.
    pub heard: BTreeMap<String, u64>,
}

impl Node {
    fn enters(&mut self, now: u64, keys: &EpochKeys) {
        let leaves = keys.leaves.iter();
        let leaves: BTreeSet<_> = leaves.map(|(leaf, of)| (*leaf, of.sender.clone())).collect();
        if let Some((before, old)) = &self.newest
            && keys.epoch > *before
            && (keys.epoch > before + 1 || !old.is_subset(&leaves))
        {
            self.cut = Some((keys.epoch, now));
        }
        self.newest = Some((keys.epoch, leaves));
        self.tree_leaves = keys.tree_leaves;
    }
}

/// A record on its way to the log.
pub struct Flight {
    pub at: u64,
    from: usize,
    after: Option<u64>,
    bytes: Vec<u8>,
}

/// What everybody in an epoch must agree on.
#[derive(Debug, PartialEq, Eq)]
pub struct View {
    pub code: String,
    pub members: Vec<(u32, String)>,
    pub policy: String,
}

pub struct Sim {
    pub dice: Dice,
    pub world: World,
    pub nodes: Vec<Node>,
    /// Things that happen to the room before it may come to rest.
    pub steps: u64,
    pub most: u64,
    pub mole: Option<Mole>,
    pub flights: Vec<Flight>,
    /// By group and epoch.
    pub history: BTreeMap<(String, u64), View>,
    keys: BTreeMap<(String, u64), Vec<u8>>,
    pub sealed: BTreeSet<(Vec<u8>, u64)>,
    /// Certificates and their roles, of all who may be in the room.
    pub issued: BTreeMap<Fingerprint, Vec<Role>>,
    policy: String,
    pub inputs: u64,
    outputs: u64,
    pub deeds: u64,
    /// Did a malicious member leave nothing of the room?
    pub lost: bool,
    pub chaos: bool,
    /// Parts of this seed's world.
    loses: bool,
    repeats: bool,
    slow: u64,
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut world = World::new();
        world.compare_and_set = !dice.one_in(3);
        let steps = match dice.below(10) {
            0..=5 => dice.between(5, 15),
            6..=8 => dice.between(15, 35),
            _ => dice.between(35, 80),
        };
        let most = dice.between(2, 7);
        let mole = dice.one_in(2).then(|| Mole::new(&mut dice, most));
        let loses = dice.one_in(2);
        let repeats = dice.one_in(2);
        let slow = dice.pick(&[0, 50, 300, 2000]).unwrap();
        let mut sim = Self {
            dice,
            world,
            nodes: Vec::new(),
            steps,
            most,
            policy: mole
                .as_ref()
                .map_or_else(|| OPEN.to_owned(), |mole| mole.policy(most)),
            mole,
            flights: Vec::new(),
            history: BTreeMap::new(),
            keys: BTreeMap::new(),
            sealed: BTreeSet::new(),
            issued: BTreeMap::new(),
            inputs: 0,
            outputs: 0,
            deeds: 0,
            lost: false,
            chaos: false,
            loses,
            repeats,
            slow,
        };
        sim.say(&format!(
            "steps {steps} most {most} compare-and-set {} loses {loses} repeats {repeats} slow {slow} {:?}",
            sim.world.compare_and_set, sim.mole
        ));
        sim.join(false);
        if sim.dice.one_in(4) {
            // Two who make the room.
            sim.join(false);
        }
        sim.run_for(3000);
        for _ in 1..sim.most / 2 {
            sim.join(false);
            sim.run_for(3000);
        }
        sim.chaos = true;
        sim
    }

    pub fn counts(&self) -> Counts {
        Counts {
            inputs: self.inputs,
            epochs: self.history.len() as u64,
            moles: self.mole.is_some().into(),
            deeds: self.deeds,
            lost: self.lost.into(),
        }
    }

    pub fn say(&self, what: &str) {
        if self.world.loud {
            eprintln!("{:>7} ** {what}", self.world.now.ms);
        }
    }

    pub fn now(&self, index: usize) -> Now {
        let now = self.world.now;
        Now {
            ms: now.ms,
            unix: now.unix.saturating_add_signed(self.nodes[index].clock),
        }
    }

    // Endpoints

    pub fn join(&mut self, recorder: bool) {
        let index = self.nodes.len();
        let recorder = recorder && self.mole.as_ref().is_none_or(|mole| mole.index != index);
        let id = format!("{}{index}", if recorder { "r" } else { "p" });
        let role = if recorder {
            Role::Recorder
        } else {
            Role::Participant
        };
        let identity = identity(&id, role);
        let mut settings = World::settings();
        if index < 2 && !recorder {
            settings.create = Some(policy(&CLINIC, &self.policy));
        }
        settings.accept = self
            .dice
            .pick(&[Claim::Strict, Claim::Recorded, Claim::Escrow])
            .unwrap();
        settings.rekey_interval = self.dice.pick(&[0, 0, 7000]).unwrap();
        settings.authorize = self.dice.one_in(4);
        self.say(&format!("{id} comes, accepts {}", settings.accept));
        self.nodes.push(Node {
            clock: 0,
            recorder,
            due: vec![0; self.world.log.len()],
            withheld_until: 0,
            starts_at: None,
            lives: 0,
            left: false,
            snapshot: None,
            idle_ticks: 0,
            told_end: false,
            policy: None,
            newest: None,
            tree_leaves: 1,
            cut: None,
            said: 0,
            heard: BTreeMap::new(),
        });
        self.world.place(&id, identity, settings);
        let own = self.world.endpoints[index].own.identity();
        self.issued.insert(own.fingerprint, own.roles.clone());
        self.start(index);
    }

    pub fn start(&mut self, index: usize) {
        self.nodes[index].starts_at = None;
        self.nodes[index].lives += 1;
        // Who starts wants to be in the room.
        self.nodes[index].left = false;
        let now = self.now(index);
        let crash = (self.chaos && self.dice.one_in(2)).then(|| self.dice.between(1, 150));
        self.say(&format!(
            "{} starts, crashes after {crash:?} writes",
            self.world.endpoints[index].id
        ));
        let last_commit = self.world.last_commit();
        let endpoint = &mut self.world.endpoints[index];
        let mut store = endpoint.disk.take().unwrap();
        store.restart();
        // Whatever opening writes is one transaction: a crash in it leaves the disk as it was.
        let before = store.clone();
        if let Some(writes) = crash {
            store.crash_after(writes);
        }
        endpoint.schedule = Schedule::new();
        endpoint.sealing = false;
        endpoint.keys.clear();
        let node = &mut self.nodes[index];
        (node.idle_ticks, node.told_end, node.newest, node.cut) = (0, false, None, None);
        match Room::open(store, endpoint.own.clone(), endpoint.settings.clone(), now) {
            Ok(mut room) => {
                let checked = room.check_log(b"the log", last_commit);
                endpoint.read = room.cursor();
                let crashed = room.store().crashed();
                endpoint.room = Some(room);
                if let Err(error) = checked {
                    assert!(crashed, "{error}");
                    self.die(index);
                } else {
                    self.outputs(index, u64::MAX);
                }
            }
            Err(error) => {
                assert!(crash.is_some(), "{}: {error}", endpoint.id);
                endpoint.disk = Some(before);
                self.die(index);
            }
        }
    }

    pub fn die(&mut self, index: usize) {
        self.say(&format!("{} dies", self.world.endpoints[index].id));
        self.world.kill(index);
        let endpoint = &mut self.world.endpoints[index];
        endpoint.sealing = false;
        endpoint.schedule = Schedule::new();
        let pause = self.dice.pick(&[0, 10, 500, 4000, 40_000]).unwrap();
        self.nodes[index].starts_at = Some(self.world.now.ms + pause);
    }

    pub fn input(&mut self, index: usize, input: Input) {
        let now = self.now(index);
        let queued = self.outputs;
        self.inputs += 1;
        assert!(self.inputs < MOST_INPUTS, "the room does not come to rest");
        let Some(room) = self.world.endpoints[index].room.as_mut() else {
            return;
        };
        match room.handle(now, input) {
            Ok(()) if self.chaos && self.dice.one_in(120) => {
                // kill -9 between what was stored and what was sent.
                let sent = self.dice.below(3);
                self.outputs(index, sent);
                self.die(index);
            }
            Ok(()) => self.outputs(index, u64::MAX),
            Err(error) => {
                let crashed = room.store().crashed();
                assert!(crashed, "{}: {error}", self.world.endpoints[index].id);
                // What it had said before its last write went out, or not.
                let sent = self.dice.below(3);
                self.outputs(index, sent);
                self.die(index);
            }
        }
        self.check(index, self.outputs == queued);
    }

    fn outputs(&mut self, index: usize, most: u64) {
        let mut done = 0;
        while done < most {
            let now = self.world.now.ms;
            let endpoint = &mut self.world.endpoints[index];
            let Some(output) = endpoint.room.as_mut().and_then(Room::poll) else {
                return;
            };
            done += 1;
            self.outputs += 1;
            if self.world.loud {
                match &output {
                    Output::Append(record) => eprintln!("{now:>7} {} appends {}", endpoint.id, record.kind()),
                    Output::AppendCommit { after, record } => {
                        eprintln!("{now:>7} {} appends {} after {after}", endpoint.id, record.kind());
                    }
                    Output::Epoch(keys) => eprintln!("{now:>7} {} has keys of {}", endpoint.id, keys.epoch),
                    Output::Event(Event::PolicyChanged { .. }) => {}
                    other => eprintln!("{now:>7} {}: {other:?}", endpoint.id),
                }
            }
            match output {
                Output::Append(record) => self.send(index, None, record.encode()),
                Output::AppendCommit { after, record } => self.send(index, Some(after), record.encode()),
                Output::Event(event) => {
                    endpoint.events.push(event.clone());
                    if self.happened(index, &event) {
                        return;
                    }
                    if let Event::PolicyChanged { .. } = event {
                        let room = self.world.endpoints[index].room.as_ref();
                        self.nodes[index].policy = room.and_then(Room::policy).cloned();
                    }
                }
                Output::Epoch(keys) => {
                    let evil = self.mole.as_ref().is_some_and(|mole| mole.index == index);
                    let status = endpoint.room.as_ref().unwrap().status();
                    let at = (status.group_id.clone(), keys.epoch);
                    // What its state is used for elsewhere may lead the malicious one astray.
                    if !evil {
                        let before = self.keys.insert(at, keys.base_key.to_vec());
                        if let Some(before) = before.filter(|before| **before != **keys.base_key) {
                            self.check_forgotten(index, keys.epoch, &before, &keys.base_key);
                        }
                    }
                    let endpoint = &mut self.world.endpoints[index];
                    let own = keys.leaves.get(&keys.own_leaf).map(|leaf| leaf.sender.clone());
                    assert_eq!(
                        own.as_ref(),
                        Some(&endpoint.id),
                        "keys of an epoch that it is not in"
                    );
                    if let Some(mole) = self.mole.as_mut().filter(|_| evil) {
                        mole.known.insert(keys.base_key.to_vec());
                    }
                    self.nodes[index].enters(now, &keys);
                    endpoint.keys.insert(keys.epoch, keys.base_key.to_vec());
                    endpoint.schedule.enter(now, *keys).unwrap();
                }
                Output::AllReady(epoch) => endpoint.schedule.all_ready(now, epoch),
                Output::AllowSealing(yes) => {
                    endpoint.sealing = yes;
                    endpoint.schedule.allow_sealing(yes);
                }
                Output::ForgetKeys => {
                    endpoint.schedule.forget_all();
                    endpoint.keys.clear();
                    let node = &mut self.nodes[index];
                    (node.newest, node.cut) = (None, None);
                }
                Output::Answer { .. } => {}
                Output::Said(said) => self.heard(index, &said),
                Output::Authorize { ticket, .. } => {
                    let yes = !self.chaos || !self.dice.one_in(5);
                    self.input(index, Input::Authorized { ticket, yes });
                }
            }
        }
    }

    // The log

    pub fn send(&mut self, from: usize, after: Option<u64>, bytes: Vec<u8>) {
        if self.chaos && self.loses && self.dice.one_in(15) {
            self.say(&format!("what {} sent is lost", self.world.endpoints[from].id));
            return;
        }
        let copies = if self.chaos && self.repeats && self.dice.one_in(8) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let at = self.world.now.ms + self.delay();
            let bytes = bytes.clone();
            self.flights.push(Flight {
                at,
                from,
                after,
                bytes,
            });
        }
    }

    fn delay(&mut self) -> u64 {
        if self.chaos {
            self.dice.below(self.slow + 1)
        } else {
            0
        }
    }

    fn land(&mut self, flight: Flight) {
        let taken = match flight.after {
            Some(after) if self.world.compare_and_set => self.world.last_commit() == after,
            _ => true,
        };
        if !taken {
            self.input(flight.from, Input::Moved);
            return;
        }
        if self.world.loud {
            let from = &self.world.endpoints[flight.from].id;
            let kind = Record::decode(&flight.bytes).map_or("rubbish", |record| record.kind());
            let sequence = self.world.log.len() + 1;
            self.say(&format!("{kind} of {from} lands as {sequence}"));
        }
        self.world.append(flight.bytes);
        let now = self.world.now.ms;
        for index in 0..self.nodes.len() {
            let due = now + self.delay();
            let last = self.nodes[index].due.last().copied().unwrap_or(0);
            self.nodes[index].due.push(due.max(last));
        }
    }

    pub fn next_entry(&self, index: usize) -> Option<(usize, u64)> {
        let endpoint = &self.world.endpoints[index];
        endpoint.room.as_ref()?;
        // Sequences count from 1 without gaps.
        let next = usize::try_from(endpoint.read).unwrap();
        let due = self.nodes[index].due.get(next)?;
        Some((next, (*due).max(self.nodes[index].withheld_until)))
    }

    fn read(&mut self, index: usize, next: usize) {
        let (sequence, bytes) = self.world.log[next].clone();
        assert_eq!(sequence, next as u64 + 1);
        self.world.endpoints[index].read = sequence;
        if self.chaos && self.repeats && self.dice.one_in(10) {
            let bytes = bytes.clone();
            self.input(index, Input::Entry { sequence, bytes });
        }
        self.input(index, Input::Entry { sequence, bytes });
    }

    // Time

    /// Everything that is due until then happens, in order.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.world.now.ms + ms;
        loop {
            let now = self.world.now.ms;
            while let Some(position) = self.flights.iter().position(|flight| flight.at <= now) {
                let flight = self.flights.remove(position);
                self.land(flight);
            }
            for index in 0..self.nodes.len() {
                if self.nodes[index].starts_at.is_some_and(|at| at <= now) {
                    self.start(index);
                }
                self.world.endpoints[index].schedule.tick(now);
                let mut read = 0;
                while let Some((next, due)) = self.next_entry(index) {
                    if due > now || read == 50 {
                        break;
                    }
                    read += 1;
                    self.read(index, next);
                }
                if read < 50 && (read > 0 || !self.nodes[index].told_end) {
                    self.nodes[index].told_end = true;
                    self.input(index, Input::CaughtUp);
                }
                self.tick(index);
            }
            if now >= end {
                return;
            }
            let mut next = end;
            for index in 0..self.nodes.len() {
                let room = self.world.endpoints[index].room.as_ref();
                let deadline = room.and_then(Room::next_deadline);
                let entry = self.next_entry(index).map(|(_, due)| due);
                let starts = self.nodes[index].starts_at;
                let schedule = self.world.endpoints[index].schedule.next_deadline();
                let due = [deadline, entry, starts, schedule].into_iter().flatten().min();
                next = next.min(due.unwrap_or(end));
            }
            let flight = self.flights.iter().map(|flight| flight.at).min();
            next = next.min(flight.unwrap_or(end)).clamp(now + 1, end);
            self.world.now.unix += next / 1000 - now / 1000;
            self.world.now.ms = next;
        }
    }

    fn tick(&mut self, index: usize) {
        let now = self.world.now.ms;
        let deadline = |sim: &Self| {
            let room = sim.world.endpoints[index].room.as_ref();
            room.and_then(Room::next_deadline)
        };
        if deadline(self).is_none_or(|due| due > now) {
            self.nodes[index].idle_ticks = 0;
            return;
        }
        self.input(index, Input::Tick);
        self.nodes[index].idle_ticks += 1;
        assert!(
            self.nodes[index].idle_ticks < 200,
            "{} ticks and ticks: {:?} at {now}",
            self.world.endpoints[index].id,
            deadline(self)
        );
    }
}
