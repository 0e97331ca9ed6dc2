//! Rooms of honest endpoints in a bad world, by the seed: the log comes late, twice or not at all to some of them,
//! processes die at any write, clocks jump, old state comes back. After every step: one history, no KID twice under
//! one key, nobody opens what it is not in, nobody seals what it may not. At the end: everybody is in one epoch.
//!
//! A failure prints its seed. `SIM_SEEDS=17 cargo test -p gst-plugin-mls --test simulation` runs that one again,
//! `SIM_SEEDS=0..2000` or `SIM_SEEDS=100..` a range of them, `WORLD_LOUD=1` tells what happens. What happens when, and
//! to whom, depends on the seed alone; MLS' keys are new in every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use gstmls::identity::Role;
use gstmls::policy::{Claim, PolicyChange};
use gstmls::record::Record;
use gstmls::room::{Command, Event, Input, Now, Output, Room, State};
use gstmls::schedule::Schedule;
use gstmls::store::{MemoryStore, Snapshot};
use world::{BEGINNING, Ca, MAX_SILENCE, OPEN, World, policy};

/// Seeds of a normal run.
const SEEDS: u64 = 100;
/// Things that happen to a room before it may come to rest.
const STEPS: u64 = 60;
/// So long everybody has at the end to come together, in milliseconds.
const REST: u64 = 300_000;
/// More inputs than this, of one seed, are a room that does not come to rest.
const MOST_INPUTS: u64 = 60_000;

/// splitmix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let index = usize::try_from(self.below(of.len() as u64)).unwrap();
        of.get(index).copied()
    }
}

/// What an endpoint is to the simulation.
struct Node {
    /// Seconds by which its clock is wrong.
    clock: i64,
    recorder: bool,
    /// When the entries of the log reach it; as many as there are.
    due: Vec<u64>,
    withheld_until: u64,
    /// Dead until then.
    starts_at: Option<u64>,
    left: bool,
    snapshot: Option<Snapshot>,
    idle_ticks: u64,
}

/// A record on its way to the log.
struct Flight {
    at: u64,
    from: usize,
    after: Option<u64>,
    bytes: Vec<u8>,
}

/// What everybody in an epoch must agree on.
#[derive(Debug, PartialEq, Eq)]
struct View {
    code: String,
    members: Vec<(u32, String)>,
    policy: String,
}

struct Sim {
    dice: Dice,
    world: World,
    ca: Ca,
    nodes: Vec<Node>,
    most: u64,
    flights: Vec<Flight>,
    /// By group and epoch.
    history: BTreeMap<(String, u64), View>,
    keys: BTreeMap<(String, u64), Vec<u8>>,
    sealed: BTreeSet<(Vec<u8>, u64)>,
    inputs: u64,
    chaos: bool,
    /// Parts of this seed's world.
    loses: bool,
    repeats: bool,
    slow: u64,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut world = World::new();
        world.compare_and_set = !dice.one_in(3);
        let most = dice.between(2, 7);
        let loses = dice.one_in(2);
        let repeats = dice.one_in(2);
        let slow = dice.pick(&[0, 50, 300, 2000]).unwrap();
        let mut sim = Self {
            dice,
            world,
            ca: Ca::new("clinic"),
            nodes: Vec::new(),
            most,
            flights: Vec::new(),
            history: BTreeMap::new(),
            keys: BTreeMap::new(),
            sealed: BTreeSet::new(),
            inputs: 0,
            chaos: false,
            loses,
            repeats,
            slow,
        };
        sim.say(&format!(
            "most {} compare-and-set {} loses {loses} repeats {repeats} slow {slow}",
            sim.most, sim.world.compare_and_set
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

    fn say(&self, what: &str) {
        if self.world.loud {
            eprintln!("{:>7} ** {what}", self.world.now.ms);
        }
    }

    fn now(&self, index: usize) -> Now {
        let now = self.world.now;
        Now {
            ms: now.ms,
            unix: now.unix.saturating_add_signed(self.nodes[index].clock),
        }
    }

    // Endpoints

    fn join(&mut self, recorder: bool) {
        let index = self.nodes.len();
        let id = format!("{}{index}", if recorder { "r" } else { "p" });
        let role = if recorder {
            Role::Recorder
        } else {
            Role::Participant
        };
        let identity = self.ca.identity(&id, &[role]);
        let mut settings = World::settings();
        if index < 2 && !recorder {
            settings.create = Some(policy(&self.ca, OPEN));
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
            left: false,
            snapshot: None,
            idle_ticks: 0,
        });
        self.world.add(&id, identity, settings);
        // The world started it without its chance to crash.
        self.world.kill(index);
        self.start(index);
    }

    fn start(&mut self, index: usize) {
        self.nodes[index].starts_at = None;
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
        self.nodes[index].idle_ticks = 0;
        match Room::open(store, endpoint.identity.own(), endpoint.settings.clone(), now) {
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

    fn die(&mut self, index: usize) {
        self.say(&format!("{} dies", self.world.endpoints[index].id));
        self.world.kill(index);
        let endpoint = &mut self.world.endpoints[index];
        endpoint.sealing = false;
        endpoint.schedule = Schedule::new();
        let pause = self.dice.pick(&[0, 10, 500, 4000, 40_000]).unwrap();
        self.nodes[index].starts_at = Some(self.world.now.ms + pause);
    }

    fn input(&mut self, index: usize, input: Input) {
        let now = self.now(index);
        self.inputs += 1;
        assert!(self.inputs < MOST_INPUTS, "the room does not come to rest");
        let Some(room) = self.world.endpoints[index].room.as_mut() else {
            return;
        };
        match room.handle(now, input) {
            Ok(()) if self.chaos && self.dice.one_in(400) => {
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
        self.check(index);
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
                    if let Event::CloneDetected { reason } = &event {
                        assert!(self.nodes[index].left, "{}: {reason}", endpoint.id);
                    }
                    endpoint.events.push(event);
                }
                Output::Epoch(keys) => {
                    let status = endpoint.room.as_ref().unwrap().status();
                    let at = (status.group_id.clone(), keys.epoch);
                    let key = self.keys.entry(at).or_insert_with(|| keys.base_key.to_vec());
                    assert_eq!(
                        *key,
                        keys.base_key.to_vec(),
                        "two keys of epoch {} at {}",
                        keys.epoch,
                        endpoint.id
                    );
                    let own = keys.leaves.get(&keys.own_leaf).map(|leaf| leaf.sender.clone());
                    assert_eq!(
                        own.as_ref(),
                        Some(&endpoint.id),
                        "keys of an epoch that it is not in"
                    );
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
                }
                Output::Answer { .. } => {}
                Output::Authorize { ticket, .. } => {
                    let yes = !self.chaos || !self.dice.one_in(5);
                    self.input(index, Input::Authorized { ticket, yes });
                }
            }
        }
    }

    // The log

    fn send(&mut self, from: usize, after: Option<u64>, bytes: Vec<u8>) {
        if self.chaos && self.loses && self.dice.one_in(15) {
            self.say("that is lost");
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
        self.world.append(flight.bytes);
        let now = self.world.now.ms;
        for index in 0..self.nodes.len() {
            let due = now + self.delay();
            let last = self.nodes[index].due.last().copied().unwrap_or(0);
            self.nodes[index].due.push(due.max(last));
        }
    }

    fn next_entry(&self, index: usize) -> Option<(usize, u64)> {
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
    fn run_for(&mut self, ms: u64) {
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
                if read < 50 {
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

    // What must hold

    fn check(&mut self, index: usize) {
        let now = self.world.now.ms;
        let seal = self.dice.one_in(3);
        let endpoint = &mut self.world.endpoints[index];
        let Some(room) = &endpoint.room else { return };
        let state = room.state();
        let status = room.status();
        if matches!(state, State::Ready | State::Stale) && !status.group_id.is_empty() {
            let view = View {
                code: status.epoch_code,
                members: status.members.iter().map(|m| (m.leaf, m.id.clone())).collect(),
                policy: status.policy_digest,
            };
            let at = (status.group_id, status.epoch);
            let known = self.history.entry(at).or_insert_with(|| View {
                code: view.code.clone(),
                members: view.members.clone(),
                policy: view.policy.clone(),
            });
            assert_eq!(view, *known, "{} in epoch {}", endpoint.id, status.epoch);
        }
        if state == State::Evicted {
            assert_eq!(endpoint.schedule.epochs().count(), 0, "{} is out", endpoint.id);
        }
        let allowed = state == State::Ready && status.accepted && !self.nodes[index].recorder;
        assert!(
            !endpoint.sealing || allowed,
            "{} may seal: {state:?}",
            endpoint.id
        );
        if !seal {
            return;
        }
        if let Some(key) = endpoint.schedule.sender_key(now) {
            assert!(allowed, "{} seals: {state:?}", endpoint.id);
            assert!(key.epoch <= status.epoch);
            let fresh = self.sealed.insert((key.base_key.to_vec(), key.kid));
            assert!(fresh, "{} seals twice under one KID", endpoint.id);
        }
    }

    // What happens

    fn alive(&self) -> Vec<usize> {
        let alive = |index: &usize| self.world.endpoints[*index].room.is_some();
        (0..self.nodes.len()).filter(alive).collect()
    }

    fn ready_participants(&self) -> Vec<usize> {
        let mut ready = self.alive();
        ready.retain(|&index| {
            !self.nodes[index].recorder && !self.nodes[index].left && self.world.state(index) == State::Ready
        });
        ready
    }

    fn step(&mut self) {
        let alive = self.alive();
        let ready = self.ready_participants();
        let Some(who) = self.dice.pick(&alive) else {
            return self.run_for(1000);
        };
        let id = self.world.endpoints[who].id.clone();
        match self.dice.below(24) {
            0..=2 if self.nodes.len() < usize::try_from(self.most).unwrap() => {
                let recorder = self.dice.one_in(3);
                self.join(recorder);
            }
            3 if ready.len() > 2 && ready.contains(&who) => {
                self.say(&format!("{id} leaves"));
                self.nodes[who].left = true;
                self.input(who, Input::Leave);
            }
            4 if ready.len() > 3 => {
                let member = self.dice.pick(&ready).unwrap();
                let member = self.world.endpoints[member].id.clone();
                self.say(&format!("{id} removes {member}"));
                self.input(who, Input::Command(Command::Remove { member }));
            }
            5..=7 => self.input(who, Input::Command(Command::Rekey)),
            8 => {
                let on = self.dice.one_in(2);
                self.input(who, Input::Command(Command::SetRecording { on }));
            }
            9..=11 => {
                let change = self.policy_change();
                self.say(&format!("{id} wants {change}"));
                let policy = Box::new(PolicyChange::parse(change.as_bytes()).unwrap());
                self.input(who, Input::Command(Command::SetPolicy { policy }));
            }
            12 => self.die(who),
            13 if ready.iter().filter(|other| **other != who).count() > 1 => {
                self.say(&format!("{id} loses its state"));
                self.die(who);
                self.world.endpoints[who].disk = Some(MemoryStore::new());
            }
            14 => {
                let snapshot = self.world.endpoints[who]
                    .room
                    .as_ref()
                    .unwrap()
                    .store()
                    .snapshot();
                self.nodes[who].snapshot = Some(snapshot);
            }
            15 if ready.iter().filter(|other| **other != who).count() > 1 => {
                if let Some(old) = self.nodes[who].snapshot.clone() {
                    self.say(&format!("{id} gets old state back"));
                    self.die(who);
                    self.world.endpoints[who].disk.as_mut().unwrap().restore(&old);
                }
            }
            16..=17 => {
                let ms = self.dice.pick(&[1000, 6000, 15_000, MAX_SILENCE + 5000]).unwrap();
                self.say(&format!("{id} gets nothing for {ms}"));
                self.nodes[who].withheld_until = self.world.now.ms + ms;
            }
            18 => {
                let by = self.dice.pick(&[-7200, -60, 0, 60, 3600, 86_400]).unwrap();
                self.say(&format!("{id}'s clock is wrong by {by} s"));
                self.nodes[who].clock = by;
            }
            // All at once would leave nobody who knows the room.
            19 if ready.iter().filter(|other| **other != who).count() > 1 => {
                self.input(who, Input::Command(Command::Resync));
            }
            20 => {
                // A crowd.
                for index in alive {
                    self.input(index, Input::Command(Command::Rekey));
                }
            }
            _ => {}
        }
        let ms = match self.dice.below(10) {
            0..=3 => self.dice.below(50),
            4..=7 => self.dice.between(100, 2000),
            8 => self.dice.between(2000, 8000),
            _ => self.dice.between(0, 40_000),
        };
        self.run_for(ms);
    }

    fn policy_change(&mut self) -> String {
        let root = self.ca.authority.fingerprint();
        let days = self.dice.between(1, 30);
        let changes = [
            format!(r#"{{"claim":"recorded","also_admit":[{{"role":"recorder","root":"{root}"}}]}}"#),
            format!(
                r#"{{"claim":"strict","recording":false,"admit":[{{"role":"participant","root":"{root}"}}]}}"#
            ),
            r#"{"claim":"recorded"}"#.to_owned(),
            format!(r#"{{"retention_days":{days}}}"#),
        ];
        let index = usize::try_from(self.dice.below(4)).unwrap();
        changes[index].clone()
    }

    // The end

    fn finish(&mut self) {
        self.say("everything gets well");
        self.chaos = false;
        // Clocks are right, and later than what the wrong ones said.
        self.world.now.unix = self.world.now.unix.max(BEGINNING) + 2 * 86_400;
        for index in 0..self.nodes.len() {
            let now = self.world.now.ms;
            let node = &mut self.nodes[index];
            node.clock = 0;
            node.withheld_until = 0;
            node.due.iter_mut().for_each(|due| *due = (*due).min(now));
        }
        self.flights.iter_mut().for_each(|flight| flight.at = 0);
        let end = self.world.now.ms + REST;
        while self.world.now.ms < end {
            self.run_for(5000);
            if self.apart().is_none() {
                self.run_for(1000);
                if self.apart().is_none() {
                    return;
                }
            }
        }
        panic!("they do not come together: {}", self.apart().unwrap_or_default());
    }

    /// Who is not where everybody should be.
    fn apart(&self) -> Option<String> {
        let statuses: Vec<_> = self
            .world
            .endpoints
            .iter()
            .filter_map(|endpoint| Some((&endpoint.id, endpoint.room.as_ref()?.status())))
            .collect();
        let newest = statuses
            .iter()
            .filter(|(_, status)| status.state == State::Ready)
            .max_by_key(|(_, status)| status.epoch);
        let Some((_, newest)) = newest else {
            return Some(format!("nobody is ready: {statuses:?}"));
        };
        let policy = newest.policy.as_ref().unwrap();
        for (index, endpoint) in self.world.endpoints.iter().enumerate() {
            let Some(room) = &endpoint.room else {
                return Some(format!("{} is not running", endpoint.id));
            };
            let status = room.status();
            let identity = endpoint.identity.own();
            let identity = identity.identity();
            let admitted = identity
                .roles
                .iter()
                .all(|role| policy.admits_as(*role, identity));
            if policy.denies(identity) || !admitted || self.nodes[index].left {
                if newest.members.iter().any(|member| member.id == endpoint.id) {
                    return Some(format!("{} is still in", endpoint.id));
                }
                continue;
            }
            if status.state != State::Ready || status.epoch_code != newest.epoch_code {
                return Some(format!(
                    "{} is {:?} in epoch {}, the room in {}",
                    endpoint.id, status.state, status.epoch, newest.epoch
                ));
            }
        }
        None
    }
}

fn run(seed: u64) -> (u64, usize) {
    let mut sim = Sim::new(seed);
    for _ in 0..STEPS {
        sim.step();
    }
    sim.finish();
    (sim.inputs, sim.history.len())
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SIM_SEEDS") else {
        return 0..SEEDS;
    };
    match text.split_once("..") {
        Some((from, to)) => {
            let from = from.parse().unwrap_or(0);
            from..to.parse().unwrap_or(from + SEEDS)
        }
        None => {
            let seed = text.parse().expect("SIM_SEEDS is a seed or FROM..TO");
            seed..seed + 1
        }
    }
}

#[test]
fn honest_endpoints_stay_one_room_whatever_happens() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    let inputs = AtomicU64::new(0);
    let epochs = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                        Ok((of_seed, entered)) => {
                            inputs.fetch_add(of_seed, Ordering::Relaxed);
                            epochs.fetch_add(entered as u64, Ordering::Relaxed);
                        }
                        Err(why) => {
                            let why = why
                                .downcast_ref::<String>()
                                .cloned()
                                .or_else(|| why.downcast_ref::<&str>().map(|why| (*why).to_owned()))
                                .unwrap_or_default();
                            eprintln!("SEED {seed}: {why}");
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    eprintln!(
        "{} seeds, {} inputs, {} epochs",
        seeds.end - seeds.start,
        inputs.into_inner(),
        epochs.into_inner()
    );
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "{} seeds failed: {failed:?}. Again: SIM_SEEDS={} WORLD_LOUD=1 cargo test -p gst-plugin-mls --test simulation",
        failed.len(),
        failed[0]
    );
}

#[test]
fn the_same_seed_makes_the_same_events() {
    let trace = |seed| {
        let mut sim = Sim::new(seed);
        for _ in 0..STEPS / 2 {
            sim.step();
        }
        let kinds: Vec<_> = sim
            .world
            .log
            .iter()
            .map(|(_, bytes)| Record::decode(bytes).map(|record| record.kind()))
            .collect();
        (sim.inputs, sim.world.now, kinds)
    };
    assert_eq!(trace(4711), trace(4711));
}
