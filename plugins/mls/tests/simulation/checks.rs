//! What must hold after every step, and at the end.

use gstmls::identity::Role;
use gstmls::policy::{Act, Claim};
use gstmls::room::{Command, Event, Input, Room, Said, State, Status};

use crate::sim::{Sim, View};
use crate::world::BEGINNING;

/// So long everybody has at the end to come together, in milliseconds.
const REST: u64 = 300_000;
/// So long after a Remove nothing is sealed any more that the removed one can open, in milliseconds.
const SEALS_AFTER_REMOVE: u64 = 250;
/// So long after a Remove nothing is opened any more that the removed one can have sealed, in milliseconds.
const OPENS_AFTER_REMOVE: u64 = 2000;
/// The whole view of an endpoint to which nothing happens is compared once in so many inputs.
const SELDOM: u64 = 8;

impl Sim {
    pub fn check(&mut self, index: usize, quiet: bool) {
        let now = self.world.now.ms;
        if !quiet || self.inputs.is_multiple_of(SELDOM) {
            self.check_view(index);
        }
        let seal = self.dice.one_in(3);
        let node = &self.nodes[index];
        let endpoint = &mut self.world.endpoints[index];
        let Some(room) = &endpoint.room else { return };
        let state = room.state();
        if state == State::Evicted {
            assert_eq!(endpoint.schedule.epochs().count(), 0, "{} is out", endpoint.id);
        }
        if let Some((epoch, at)) = node.cut
            && now >= at + OPENS_AFTER_REMOVE
        {
            let oldest = endpoint.schedule.epochs().next();
            assert!(
                oldest.is_none_or(|oldest| oldest >= epoch),
                "{} opens epoch {oldest:?}, and somebody who was in it was not in {epoch}",
                endpoint.id
            );
        }
        let accepted = room
            .policy()
            .is_some_and(|policy| policy.claim <= endpoint.settings.accept);
        let allowed = state == State::Ready && accepted && !node.recorder;
        assert!(
            !endpoint.sealing || allowed,
            "{} may seal: {state:?}",
            endpoint.id
        );
        if !seal {
            return;
        }
        let Some(key) = endpoint.schedule.sender_key(now) else {
            return;
        };
        assert!(allowed, "{} seals: {state:?}", endpoint.id);
        assert_eq!(
            endpoint.keys.get(&key.epoch),
            Some(&key.base_key.to_vec()),
            "{} seals with no key of epoch {}",
            endpoint.id,
            key.epoch
        );
        if let Some((epoch, at)) = node.cut {
            assert!(
                key.epoch >= epoch || now <= at + SEALS_AFTER_REMOVE,
                "{} seals in epoch {}, and somebody who was in it was not in {epoch}",
                endpoint.id,
                key.epoch
            );
        }
        let fresh = self.sealed.insert((key.base_key.to_vec(), key.kid));
        assert!(fresh, "{} seals twice under one KID", endpoint.id);
        self.frame(index, key.kid, &key.base_key);
    }

    /// Two keys of one epoch. That is wrong, unless there is a malicious member: who had followed it and has lost its state
    /// since cannot go on with its commit, and the others leave it out; and one endpoint alone it can lead into a room of
    /// its own (see [`crate::mole`]), but not two from two others.
    pub fn check_forgotten(&self, index: usize, epoch: u64, old: &[u8], new: &[u8]) {
        let id = &self.world.endpoints[index].id;
        let evil = self.mole.as_ref().map(|mole| mole.index);
        assert!(evil.is_some(), "two keys of epoch {epoch} at {id}");
        let holders = |key: &[u8]| {
            let endpoints = self.world.endpoints.iter().enumerate();
            endpoints
                .filter(|(other, endpoint)| {
                    let holds = endpoint.keys.get(&epoch).is_some_and(|known| *known == key);
                    holds && Some(*other) != evil && *other != index
                })
                .count()
        };
        let (there, here) = (holders(old), holders(new) + 1);
        assert!(
            there.min(here) < 2,
            "{id} and {here} more have another key of epoch {epoch} than {there} others"
        );
    }

    /// One history: whoever is in an epoch sees the same members, the same policy, the same code.
    fn check_view(&mut self, index: usize) {
        if self.mole.as_ref().is_some_and(|mole| mole.index == index) {
            return;
        }
        let endpoint = &self.world.endpoints[index];
        let Some(room) = &endpoint.room else { return };
        let status = room.status();
        if !matches!(status.state, State::Ready | State::Stale) || status.group_id.is_empty() {
            return;
        }
        let view = View {
            code: status.epoch_code.clone(),
            members: status.members.iter().map(|m| (m.leaf, m.id.clone())).collect(),
            policy: status.policy_digest.clone(),
        };
        let at = (status.group_id.clone(), status.epoch);
        match self.history.get(&at) {
            Some(known) if self.mole.is_none() || view.code == known.code => {
                assert_eq!(view, *known, "{} in epoch {}", endpoint.id, status.epoch);
            }
            // The first one, or another one: the keys tell whether that may be.
            _ => {
                self.check_members(&status);
                self.history.insert(at, view);
            }
        }
    }

    /// Nobody is in a room but who was certified, in no other role than that, and no recorder in a strict room.
    fn check_members(&self, status: &Status) {
        let strict = status
            .policy
            .as_ref()
            .is_none_or(|policy| policy.claim == Claim::Strict);
        for member in &status.members {
            let certified = self
                .issued
                .iter()
                .find(|(fingerprint, _)| fingerprint.to_string() == member.fingerprint);
            let Some((_, roles)) = certified else {
                panic!("nobody has certified {} in epoch {}", member.id, status.epoch);
            };
            assert_eq!(*roles, member.roles, "{} in epoch {}", member.id, status.epoch);
            assert!(
                !strict || !member.roles.contains(&Role::Recorder),
                "{} is a recorder, and epoch {} is strict",
                member.id,
                status.epoch
            );
        }
    }

    /// A frame that was sealed under this key arrives at somebody.
    pub fn frame(&mut self, from: usize, kid: u64, base_key: &[u8]) {
        let to = usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap();
        let now = self.now(to).ms;
        let sender = &self.world.endpoints[from].id.clone();
        let endpoint = &mut self.world.endpoints[to];
        let Some(key) = endpoint.schedule.receiver_key(now, kid) else {
            return;
        };
        assert_ne!(
            key.sender, endpoint.id,
            "{} opens what it sealed itself",
            endpoint.id
        );
        // KIDs come again after 2^E epochs.
        if *key.base_key == base_key {
            assert_eq!(key.sender, *sender, "who sealed {kid:x}, to {}", endpoint.id);
            endpoint.schedule.peer_opened(now, kid);
        }
    }

    /// What one hears of another one is what that one said, in its order, once.
    pub fn heard(&mut self, index: usize, said: &Said) {
        let evil = self.mole.as_ref().map(|mole| mole.index);
        if evil == Some(index) {
            return;
        }
        let endpoint = &self.world.endpoints[index];
        let text = String::from_utf8(said.content.body.clone()).unwrap();
        let (by, number) = text.split_once(' ').unwrap();
        assert_eq!(by, said.sender, "{} heard", endpoint.id);
        assert_ne!(by, endpoint.id, "it heard itself");
        let evil = evil.and_then(|evil| self.world.endpoints.get(evil));
        if evil.is_some_and(|evil| evil.id == by) {
            return;
        }
        let number: u64 = number.parse().unwrap();
        let before = self.nodes[index].heard.insert(by.to_owned(), number);
        assert!(
            before.is_none_or(|before| before < number),
            "{} heard {text} after {before:?}",
            endpoint.id
        );
    }

    /// What is said in the end is heard by all who are in the room.
    fn last_words(&mut self) {
        let speakers = self.ready_participants();
        let evil = self.mole.as_ref().map(|mole| mole.index);
        // Who has somebody's state and key can speak as that one, in the generation of its next message.
        let cloned = |index| {
            let mole = self.mole.as_ref();
            mole.is_some_and(|mole| mole.named.contains(index))
        };
        let speaker = speakers
            .into_iter()
            .find(|index| Some(*index) != evil && !cloned(index) && self.world.endpoints[*index].sealing);
        let Some(speaker) = speaker else { return };
        let epoch = |sim: &Self, index: usize| {
            let status = sim.world.endpoints[index].room.as_ref().map(Room::status);
            status
                .filter(|status| status.state == State::Ready)
                .map(|status| status.epoch_code)
        };
        let room = epoch(self, speaker);
        let members: Vec<_> = (0..self.nodes.len())
            .filter(|index| *index != speaker && Some(*index) != evil && epoch(self, *index) == room)
            .collect();
        let life = self.nodes[speaker].lives;
        self.speak(speaker);
        let number = self.nodes[speaker].said;
        // Who crashes meanwhile is back within 40 s, and hears it then.
        let hears = |sim: &Self, member: &usize| {
            let by = &sim.world.endpoints[speaker].id;
            sim.nodes[*member].heard.get(by) == Some(&number)
        };
        for _ in 0..3 {
            self.run_for(60_000);
            if members.iter().all(|member| hears(self, member)) {
                break;
            }
        }
        // What was not said yet goes with its speaker.
        if self.nodes[speaker].lives != life {
            return;
        }
        for member in members {
            let (id, by) = (
                &self.world.endpoints[member].id,
                &self.world.endpoints[speaker].id,
            );
            assert!(hears(self, &member), "{id} did not hear what {by} said last");
        }
    }

    /// An endpoint says something. True: it ended because of it.
    pub fn happened(&mut self, index: usize, event: &Event) -> bool {
        let endpoint = &self.world.endpoints[index];
        let evil = self.mole.as_ref().is_some_and(|mole| mole.index == index);
        if let Event::CloneDetected { reason } = event {
            let deceived = self.mole.as_ref().is_some_and(|mole| mole.named.contains(&index));
            assert!(
                self.nodes[index].left || evil || deceived,
                "{}: {reason}",
                endpoint.id
            );
            if evil || deceived {
                // Somebody starts it again.
                self.die(index);
                return true;
            }
        }
        if evil && *event == Event::State(State::Stale) {
            // A commit in its name of which its endpoint does not know: as what it is it would be in a room of its own.
            self.die(index);
            return true;
        }
        let Some(mole) = self.mole.as_ref().filter(|mole| mole.limited && !evil) else {
            return false;
        };
        let id = &mole.id();
        match event {
            Event::MemberLeft { member, removed_by } => {
                assert!(
                    removed_by != id || member.id == *id,
                    "{} was removed by {id}",
                    member.id
                );
            }
            Event::PolicyChanged { by, .. } if by == id => {
                // Every participant may end a recording, and nothing else.
                let room = endpoint.room.as_ref();
                let policy = room.and_then(Room::policy).unwrap();
                let before = self.nodes[index].policy.as_ref().unwrap();
                let harmless = *policy == before.with_recording(false) || policy == before;
                assert!(harmless, "{policy:?} by {id}, before {before:?}");
            }
            _ => {}
        }
        false
    }

    // The end

    pub fn finish(&mut self) {
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
        // A malicious member ends its mischief, or is removed.
        let unwanted = match &self.mole {
            Some(mole) if mole.index < self.nodes.len() && self.dice.one_in(2) => Some(mole.index),
            _ => None,
        };
        let end = self.world.now.ms + REST;
        while self.world.now.ms < end {
            if let Some(unwanted) = unwanted {
                self.remove(unwanted);
            }
            self.run_for(5000);
            if self.apart(unwanted).is_none() {
                self.run_for(1000);
                if self.apart(unwanted).is_none() {
                    return self.last_words();
                }
            }
        }
        let apart = self.apart(unwanted).unwrap_or_default();
        assert!(self.is_lost(), "they do not come together: {apart}");
        self.say("the malicious one was the last who knew the room");
        self.lost = true;
    }

    /// Nobody who is honest and could let others in knows an epoch that can go on. A malicious member can lead there who
    /// has but one partner, or whose wrong commits meet others that are being started again and again; then people must
    /// make the room anew. Nobody seals in it.
    fn is_lost(&self) -> bool {
        let Some(mole) = &self.mole else { return false };
        let mut able =
            (0..self.nodes.len()).filter(|index| *index != mole.index && !self.nodes[*index].recorder);
        able.all(|index| self.nodes[index].left || self.world.state(index) == State::Joining)
    }

    /// Somebody who may removes this one.
    pub fn remove(&mut self, unwanted: usize) {
        let member = self.world.endpoints[unwanted].id.clone();
        let may = |index: &usize| {
            let room = self.world.endpoints[*index].room.as_ref();
            let policy = room.and_then(Room::policy);
            let identity = self.world.endpoints[*index].own.identity();
            *index != unwanted && policy.is_some_and(|policy| policy.allows(Act::Remove, identity))
        };
        let mut able = self.ready_participants();
        able.retain(may);
        if let Some(by) = self.dice.pick(&able) {
            self.say(&format!("{} removes {member}", self.world.endpoints[by].id));
            self.input(by, Input::Command(Command::Remove { member }));
        }
    }

    /// Who is not where everybody should be.
    fn apart(&self, unwanted: Option<usize>) -> Option<String> {
        let evil = self.mole.as_ref().map(|mole| mole.index);
        let honest: Vec<_> = (0..self.nodes.len())
            .filter(|index| Some(*index) != evil)
            .collect();
        let rooms = honest
            .iter()
            .filter_map(|index| self.world.endpoints[*index].room.as_ref());
        let statuses: Vec<_> = rooms.map(Room::status).collect();
        let ready = statuses.iter().filter(|status| status.state == State::Ready);
        let Some(newest) = ready.max_by_key(|status| status.epoch) else {
            return Some(format!("nobody is ready: {statuses:?}"));
        };
        let policy = newest.policy.as_ref().unwrap();
        for index in honest {
            let endpoint = &self.world.endpoints[index];
            let Some(room) = &endpoint.room else {
                return Some(format!("{} is not running", endpoint.id));
            };
            let identity = endpoint.own.identity();
            let mut roles = identity.roles.iter();
            let admitted = roles.all(|role| policy.admits_as(*role, identity));
            if policy.denies(identity) || !admitted || self.nodes[index].left {
                if newest.members.iter().any(|member| member.id == endpoint.id) {
                    return Some(format!("{} is still in", endpoint.id));
                }
                continue;
            }
            let status = room.status();
            if status.state != State::Ready || status.epoch_code != newest.epoch_code {
                return Some(format!(
                    "{} is {:?} in epoch {}, the room in {}",
                    endpoint.id, status.state, status.epoch, newest.epoch
                ));
            }
        }
        let is_in = |index: usize| {
            let id = &self.world.endpoints[index].id;
            newest.members.iter().any(|member| member.id == *id)
        };
        unwanted
            .filter(|index| is_in(*index))
            .map(|index| format!("{} was not removed", self.world.endpoints[index].id))
    }
}
