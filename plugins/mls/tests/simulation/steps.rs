//! What happens to a room.

use gstmls::content::Content;
use gstmls::policy::PolicyChange;
use gstmls::room::{Command, Input, State};
use gstmls::store::MemoryStore;

use crate::sim::{CLINIC, Sim};
use crate::world::MAX_SILENCE;

impl Sim {
    // What happens

    pub fn alive(&self) -> Vec<usize> {
        let alive = |index: &usize| self.world.endpoints[*index].room.is_some();
        (0..self.nodes.len()).filter(alive).collect()
    }

    pub fn ready_participants(&self) -> Vec<usize> {
        let mut ready = self.alive();
        ready.retain(|&index| {
            !self.nodes[index].recorder && !self.nodes[index].left && self.world.state(index) == State::Ready
        });
        ready
    }

    pub fn step(&mut self) {
        let alive = self.alive();
        let ready = self.ready_participants();
        let Some(who) = self.dice.pick(&alive) else {
            return self.run_for(1000);
        };
        if self.mole.is_some() && self.dice.one_in(2) {
            self.mischief();
        }
        let id = self.world.endpoints[who].id.clone();
        match self.dice.below(27) {
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
                    // It may hear again what it has heard.
                    self.nodes[who].heard.clear();
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
            21 if ready.len() > 2
                && self
                    .mole
                    .as_ref()
                    .is_some_and(|mole| mole.index < self.nodes.len()) =>
            {
                if let Some(mole) = &self.mole {
                    self.remove(mole.index);
                }
            }
            22..=23 => self.speak(who),
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

    /// An endpoint says its next number.
    pub fn speak(&mut self, who: usize) {
        self.nodes[who].said += 1;
        let ticket = self.nodes[who].said;
        let id = self.world.endpoints[who].id.clone();
        self.say(&format!("{id} says {ticket}"));
        let content = Content {
            content_type: "text/plain".into(),
            file_name: String::new(),
            body: format!("{id} {ticket}").into_bytes(),
        };
        self.input(who, Input::Say { ticket, content });
    }

    pub fn policy_change(&mut self) -> String {
        let root = CLINIC.authority.fingerprint();
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
}
