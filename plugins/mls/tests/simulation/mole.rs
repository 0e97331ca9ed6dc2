//! A malicious member. It joins like anybody, and its endpoint follows the room, restarts and comes back as an honest one
//! would; beside that, somebody makes mischief with copies of its state and with its key: whatever the library lets out,
//! and rubbish. It goes on after it was removed.
//!
//! What it does not do here, because nobody in the room can tell: welcome a joiner into a group of its own that says it is
//! this room, or answer for others in a fork to which it invited somebody who had to join anew. Comparing epoch codes
//! shows both.
//! Nor does it date its leaf far ahead: who has to come in anew afterwards comes with an earlier time, and waits.

use std::collections::BTreeSet;

use gstmls::identity::{Role, issue::Validity};
use gstmls::policy::{Policy, PolicyChange, RoomTag};
use gstmls::record::Record;
use gstmls::room::State;
use gstmls::schedule::Layout;
use gstmls::store::MemoryStore;
use openmls::prelude::{GroupId, Proposal};

use crate::dice::Dice;
use crate::sim::{CLINIC, ELSEWHERE, Sim};
use crate::world::evil::{
    Deed, Evil, KINDS, credential, custom, dressed, extensions, group_time, of, other_contexts, package,
    reinit, required, set_epoch, try_package,
};
use crate::world::{BEGINNING, Identity, OPEN};

/// Copies of its state that it keeps.
const COPIES: usize = 4;

/// Its state at some time.
#[derive(Clone)]
struct Copy {
    store: MemoryStore,
    id: GroupId,
    policy: Policy,
}

pub struct Mole {
    /// Which endpoint it is.
    pub index: usize,
    /// Has it fewer rights than the others?
    pub limited: bool,
    /// Base keys that it had.
    pub known: BTreeSet<Vec<u8>>,
    /// In whose name it sent something.
    pub named: BTreeSet<usize>,
    copies: Vec<Copy>,
}

impl std::fmt::Debug for Mole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mole {} limited {}", self.index, self.limited)
    }
}

impl Mole {
    pub fn new(dice: &mut Dice, most: u64) -> Self {
        Self {
            index: usize::try_from(dice.between(1, (most / 2).max(1))).unwrap(),
            limited: dice.one_in(2),
            known: BTreeSet::new(),
            named: BTreeSet::new(),
            copies: Vec::new(),
        }
    }

    /// Its subject id.
    pub fn id(&self) -> String {
        format!("p{}", self.index)
    }

    /// The policy of a room with this one in it.
    pub fn policy(&self, most: u64) -> String {
        if !self.limited {
            return OPEN.to_owned();
        }
        let others = (0..most).filter(|index| usize::try_from(*index).unwrap() != self.index);
        let names: Vec<_> = others.map(|index| format!(r#""p{index}""#)).collect();
        let names = names.join(",");
        format!(
            r#"{{ "admit": [{{ "role": "participant", "root": "ROOT" }}],
            "rights": {{ "add": [{names}], "remove": [{names}], "recording": [{names}], "policy": [{names}] }} }}"#
        )
    }
}

impl Sim {
    /// The malicious member does something.
    pub fn mischief(&mut self) {
        self.copy_state();
        let Some(evil) = self.evil() else { return };
        self.deeds += 1;
        let kind = self.dice.below(24);
        self.say(&format!("mischief {kind}"));
        let (evil, policy) = evil;
        let index = self.mole.as_ref().unwrap().index;
        let records = match kind {
            0 => self.rubbish(),
            1 => self.damaged(),
            2 => self.repeated(),
            // Valid, and its endpoint does not know of it.
            3 => self.commit(&evil, Deed::default()),
            4 => self.other_epoch(&evil),
            5..=7 => {
                let mask = self.dice.next();
                // And it says that it could not follow it either, or not.
                let lies = self.dice.one_in(2);
                let commit = evil.commit_wrongly(mask).map(|(record, _)| record).ok();
                let lie = commit
                    .iter()
                    .filter(|_| lies)
                    .find_map(|commit| evil.stuck_at(commit));
                Some(commit.into_iter().chain(lie).collect())
            }
            8 => evil.commit_wrongly(u64::MAX).map(|(record, _)| vec![record]).ok(),
            9 => {
                let said = self.dice.pick(&[0, 1, 2, 3, 4, 255]).unwrap();
                evil.message(&[said])
                    .map(|message| vec![Record::Message(message)])
            }
            10 => self.other_leaf(&evil),
            11 => self.removal(&evil, &policy),
            12 => self.other_context(&evil, &policy),
            13 => self.proposals_in_a_commit(&evil),
            14 => {
                let leaf = u32::try_from(self.dice.below(4)).unwrap();
                let asked = self.stranger(&evil, Role::Participant).key_package();
                let alone = evil.proposals(leaf, &asked);
                let mut records: Vec<_> = alone.into_iter().map(Record::Proposal).collect();
                // And a commit that refers to them.
                records.extend(evil.try_commit(Deed::default()));
                Some(records)
            }
            15 => self.addition(&evil),
            16 => self.external(&evil),
            17 => self.group_info(&evil),
            18 => self.welcome(&evil, &policy),
            19 => self.in_anothers_name(&evil),
            20 => self.key_package(&evil),
            21 => {
                let time = self.dice.pick(&[0, BEGINNING + 1, evil.time + 86_400, u64::MAX]);
                let time = time.unwrap();
                self.commit(
                    &evil,
                    Deed {
                        time: Some(time),
                        ..Deed::default()
                    },
                )
            }
            22 => {
                self.forge_frames();
                None
            }
            _ => Some(vec![Record::GroupInfoRequest]),
        };
        for record in records.unwrap_or_default() {
            self.send(index, None, record.encode());
        }
    }

    fn copy_state(&mut self) {
        let Some(mole) = &mut self.mole else { return };
        let Some(endpoint) = self.world.endpoints.get(mole.index) else {
            return;
        };
        let Some(room) = endpoint.room.as_ref().filter(|room| room.state() == State::Ready) else {
            return;
        };
        let id = hex::decode(room.status().group_id).unwrap();
        mole.copies.push(Copy {
            store: room.store().clone(),
            id: GroupId::from_slice(&id),
            policy: room.policy().unwrap().clone(),
        });
        if mole.copies.len() > COPIES {
            let lost = usize::try_from(self.dice.below(COPIES as u64)).unwrap();
            mole.copies.remove(lost);
        }
    }

    /// What it has of its state: mostly the present one, if it is in the room.
    fn evil(&mut self) -> Option<(Evil, Policy)> {
        let mole = self.mole.as_ref()?;
        let newest = mole.copies.len().checked_sub(1)?;
        let which = if self.dice.one_in(5) {
            usize::try_from(self.dice.below(mole.copies.len() as u64)).unwrap()
        } else {
            newest
        };
        let copy = mole.copies[which].clone();
        let endpoint = &self.world.endpoints[mole.index];
        let mut evil = Evil::new(copy.store, endpoint.identity.clone(), copy.id, 0);
        evil.forget_pending();
        // What lies before the group's time is refused for that alone.
        evil.time = self.now(mole.index).unix.max(group_time(&evil.load()));
        Some((evil, copy.policy))
    }

    fn commit(&self, evil: &Evil, deed: Deed) -> Option<Vec<Record>> {
        evil.try_commit(deed).ok().map(|record| vec![record])
    }

    fn stranger(&mut self, evil: &Evil, role: Role) -> Evil {
        let ca = if self.dice.one_in(2) { &CLINIC } else { &ELSEWHERE };
        outside(evil, ca.identity("x", &[role]))
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| (self.dice.next() >> 24) as u8).collect()
    }

    fn rubbish(&mut self) -> Option<Vec<Record>> {
        let kind = self.dice.pick(&KINDS).unwrap();
        let length = self.dice.pick(&[0, 1, 7, 100, 5000]).unwrap();
        let bytes = self.bytes(length);
        Some(vec![kind(bytes)])
    }

    /// Somebody's record, cut short or changed.
    fn damaged(&mut self) -> Option<Vec<Record>> {
        let index = self.mole.as_ref()?.index;
        let at = usize::try_from(self.dice.below(self.world.log.len() as u64)).unwrap();
        let mut bytes = self.world.log.get(at)?.1.clone();
        let part = usize::try_from(self.dice.between(1, 10)).unwrap();
        let at = bytes.len() * part / 11;
        if self.dice.one_in(2) {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 0x55;
        }
        self.send(index, None, bytes);
        None
    }

    /// What stood in the log already.
    fn repeated(&mut self) -> Option<Vec<Record>> {
        let index = self.mole.as_ref()?.index;
        let from = usize::try_from(self.dice.below(self.world.log.len() as u64)).unwrap();
        let count = usize::try_from(self.dice.between(1, 6)).unwrap();
        let again: Vec<_> = self.world.log.iter().skip(from).take(count).cloned().collect();
        for (_, bytes) in again {
            self.send(index, None, bytes);
        }
        None
    }

    fn other_epoch(&mut self, evil: &Evil) -> Option<Vec<Record>> {
        let now = evil.load().epoch().as_u64();
        let epochs = [0, now.saturating_sub(1), now + 1, now + 2, now + 100, u64::MAX];
        let epoch = self.dice.pick(&epochs).unwrap();
        let Ok(Record::Commit { mut commit, welcome }) = evil.try_commit(Deed::default()) else {
            return None;
        };
        set_epoch(&mut commit, epoch);
        Some(vec![Record::Commit { commit, welcome }])
    }

    /// Another certificate in its leaf: somebody else's, of its own authority, with a role more.
    fn other_leaf(&mut self, evil: &Evil) -> Option<Vec<Record>> {
        let id = evil.own.identity().subject.clone();
        let both = [Role::Participant, Role::Recorder];
        let victim = usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap();
        let identity = match self.dice.below(3) {
            0 => self.world.endpoints[victim].identity.clone(),
            1 => ELSEWHERE.identity(&id, &both),
            _ => CLINIC.certified(&id, &both, Validity::days(BEGINNING + 60, 300)),
        };
        let mut leaf = credential(&identity.own());
        leaf.signature_key = evil.own.identity().public_key.to_vec().into();
        let deed = Deed {
            credential: Some(leaf),
            ..Deed::default()
        };
        self.commit(evil, deed)
    }

    /// Somebody's removal by who may not.
    fn removal(&mut self, evil: &Evil, policy: &Policy) -> Option<Vec<Record>> {
        let leaf = u32::try_from(self.dice.below(6)).unwrap();
        let extra = self.dice.one_in(2);
        if !self.mole.as_ref()?.limited {
            return None;
        }
        let mut deed = Deed {
            removes: vec![leaf],
            ..Deed::default()
        };
        if extra {
            let of_leaf = self.world.endpoints[0].own.identity().fingerprint;
            let denied = policy.with_denied([of_leaf]);
            deed.extensions.push(extensions(vec![required(), of(&denied)]));
        }
        self.commit(evil, deed)
    }

    /// Another group context: no policy, no requirements, senders from outside, a weaker policy by who may not.
    fn other_context(&mut self, evil: &Evil, policy: &Policy) -> Option<Vec<Record>> {
        let limited = self.mole.as_ref()?.limited;
        let weaker = self.policy_change();
        let weaker = PolicyChange::parse(weaker.as_bytes()).unwrap().apply(policy);
        let [fewer, senders] = other_contexts(evil, policy);
        let context = match self.dice.below(6) {
            0 => extensions(vec![]),
            1 => extensions(vec![required()]),
            2 => fewer,
            3 => senders,
            4 => extensions(vec![required(), of(policy)]),
            _ if limited => extensions(vec![required(), of(&weaker)]),
            _ => return None,
        };
        let mut deed = Deed {
            extensions: vec![context],
            ..Deed::default()
        };
        if self.dice.one_in(3) {
            deed.adds
                .push(package(&self.stranger(evil, Role::Recorder).key_package()));
        }
        self.commit(evil, deed)
    }

    fn proposals_in_a_commit(&mut self, evil: &Evil) -> Option<Vec<Record>> {
        let proposal: Proposal = match self.dice.below(3) {
            0 => evil.pre_shared_key(),
            1 => custom(),
            _ => reinit(&evil.id),
        };
        self.commit(
            evil,
            Deed {
                proposals: vec![proposal],
                ..Deed::default()
            },
        )
    }

    /// Somebody comes in who may not: of a foreign authority, expired, a recorder whom nobody admitted.
    fn addition(&mut self, evil: &Evil) -> Option<Vec<Record>> {
        let add = match self.dice.below(3) {
            0 => outside(evil, ELSEWHERE.identity("x", &[Role::Participant])),
            1 => {
                let validity = Validity {
                    from: BEGINNING - 1000,
                    until: BEGINNING + 500,
                };
                let mut expired = outside(evil, CLINIC.certified("x", &[Role::Participant], validity));
                expired.time = BEGINNING;
                expired
            }
            _ => outside(evil, CLINIC.identity("x", &[Role::Participant, Role::Recorder])),
        };
        // In a room that admits recorders and where everybody may add, the last one would be in order.
        let in_order = add.own.identity().is_recorder() && !self.mole.as_ref()?.limited;
        let deed = Deed {
            adds: vec![package(&add.key_package())],
            ..Deed::default()
        };
        if in_order { None } else { self.commit(evil, deed) }
    }

    /// From outside: a stranger, somebody's certificate over its own key, itself beside itself.
    fn external(&mut self, evil: &Evil) -> Option<Vec<Record>> {
        let victim = usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap();
        let info = evil.info();
        let record = match self.dice.below(3) {
            0 => {
                let x = self.stranger(evil, Role::Participant);
                x.external(&info, x.credential())
            }
            1 => {
                let mut stolen = credential(&self.world.endpoints[victim].own);
                stolen.signature_key = evil.own.identity().public_key.to_vec().into();
                outside(evil, evil.identity.clone()).external(&info, stolen)
            }
            // In order, if it is a member still.
            _ => outside(evil, evil.identity.clone()).external(&info, evil.credential()),
        };
        Some(vec![record.ok()?])
    }

    /// The group's state, as it is or as nobody else has it.
    fn group_info(&mut self, evil: &Evil) -> Option<Vec<Record>> {
        if self.dice.one_in(2) {
            let mask = self.dice.next();
            let (record, _) = evil.commit_wrongly(mask).ok()?;
            evil.enter_pending();
            return Some(vec![record, Record::GroupInfo(evil.info())]);
        }
        if self.dice.one_in(2) {
            evil.try_commit(Deed::default()).ok()?;
            evil.enter_pending();
        }
        Some(vec![Record::GroupInfo(evil.info())])
    }

    /// A welcome into another room for who asked last.
    fn welcome(&mut self, evil: &Evil, policy: &Policy) -> Option<Vec<Record>> {
        let asked = self
            .world
            .log
            .iter()
            .rev()
            .find_map(|(_, bytes)| match Record::decode(bytes) {
                Ok(Record::KeyPackage(bytes)) => try_package(&bytes),
                _ => None,
            })?;
        let (id, policy) = if self.dice.one_in(2) {
            (GroupId::from_slice(&[9; 16]), policy.clone())
        } else {
            let room = RoomTag::new("another room", [2; 16]);
            (
                evil.id.clone(),
                Policy {
                    room,
                    ..policy.clone()
                },
            )
        };
        let ahead = self.dice.below(3);
        let Ok(Record::Commit { commit, welcome }) = evil.trap(&id, &policy, asked) else {
            return None;
        };
        let commit = if self.dice.one_in(3) {
            // A commit that is valid, but for the Welcome.
            let Ok(Record::Commit { commit, .. }) = evil.try_commit(Deed::default()) else {
                return None;
            };
            commit
        } else {
            let mut commit = dressed(&commit, &evil.id);
            set_epoch(&mut commit, evil.load().epoch().as_u64() + ahead);
            commit
        };
        Some(vec![Record::Commit { commit, welcome }])
    }

    /// Every member can name another one as the author of what is encrypted; the others see a wrong signature.
    fn in_anothers_name(&mut self, evil: &Evil) -> Option<Vec<Record>> {
        let mole = self.mole.as_ref()?.index;
        let mut others = self.ready_participants();
        others.retain(|index| *index != mole);
        let victim = self.dice.pick(&others)?;
        let store = self.world.endpoints[victim].room.as_ref()?.store().clone();
        let id = hex::decode(self.world.endpoints[victim].room.as_ref()?.status().group_id).unwrap();
        let identity = ELSEWHERE.identity(&self.world.endpoints[victim].id, &[Role::Participant]);
        let forger = Evil::new(store, identity, GroupId::from_slice(&id), evil.time);
        forger.forget_pending();
        self.mole.as_mut()?.named.insert(victim);
        match self.dice.below(3) {
            0 => Some(vec![Record::Message(forger.message(&[1])?)]),
            1 => Some(vec![Record::Proposal(
                forger.proposals(0, &evil.key_package()).pop()?,
            )]),
            _ => {
                let credential = Some(forger.credential());
                self.commit(
                    &forger,
                    Deed {
                        credential,
                        ..Deed::default()
                    },
                )
            }
        }
    }

    /// Asks to be let in: itself anew, or a stranger.
    fn key_package(&mut self, evil: &Evil) -> Option<Vec<Record>> {
        let evil = match self.dice.below(3) {
            0 => outside(evil, ELSEWHERE.identity("x", &[Role::Participant])),
            1 => outside(evil, CLINIC.identity("x", &[Role::Participant, Role::Recorder])),
            _ => outside(evil, evil.identity.clone()),
        };
        if evil.own.identity().is_recorder() {
            // In a room that admits recorders it would be let in.
            return None;
        }
        Some(vec![Record::KeyPackage(evil.key_package())])
    }

    /// Frames in others' names under keys that it has: members cannot tell them from the others'.
    fn forge_frames(&mut self) {
        let Some(mole) = self.mole.as_ref() else { return };
        let (evil, known) = (mole.index, mole.known.clone());
        for to in (0..self.nodes.len()).filter(|to| *to != evil) {
            let now = self.world.now.ms;
            let node = &self.nodes[to];
            let Some((newest, leaves)) = node.newest.clone() else {
                continue;
            };
            let leaf = u32::try_from(self.dice.below(8)).unwrap();
            let epoch = newest + self.dice.below(3);
            let context = self.dice.below(300);
            let layout = Layout::new(4, node.tree_leaves).unwrap();
            let epoch = epoch.saturating_sub(1);
            let Some(kid) = layout.kid(context, leaf, epoch) else {
                continue;
            };
            let endpoint = &mut self.world.endpoints[to];
            let Some(key) = endpoint.schedule.receiver_key(now, kid) else {
                continue;
            };
            assert_ne!(key.sender, endpoint.id, "{} opens its own KID", endpoint.id);
            if key.epoch == newest {
                let named = leaves.contains(&(key.leaf, key.sender.clone()));
                assert!(
                    named,
                    "{} opens a KID of {}, who is not in epoch {newest}",
                    endpoint.id, key.sender
                );
            }
            if known.contains(&*key.base_key) {
                endpoint.schedule.peer_opened(now, kid);
            }
        }
    }
}

/// Somebody who has no state.
fn outside(evil: &Evil, identity: Identity) -> Evil {
    Evil::new(MemoryStore::new(), identity, evil.id.clone(), evil.time)
}
