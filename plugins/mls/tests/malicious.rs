//! A member, an outsider and a delivery that do not keep to the rules. Whatever they put into the log: all others decide
//! alike about it, somebody is told why, and the room goes on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod world;

use gstmls::identity::{Role, issue::Validity};
use gstmls::policy::{Policy, PolicyChange};
use gstmls::record::{MAX_RECORD, Record};
use gstmls::room::{Command, Input, State};
use gstmls::store::{MemoryStore, Store};
use openmls::prelude::tls_codec::{DeserializeBytes, Serialize as _};
use openmls::prelude::*;
use world::evil::{
    Deed, Evil, KINDS, credential, custom, dressed, extensions, of, other_contexts, package, required,
    set_epoch,
};
use world::{BEGINNING, Ca, Identity, MAX_SILENCE, OPEN, World, policy};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const HONEST: [usize; 3] = [A, B, C];

/// Only `a` has rights.
const OF_A: &str = r#"{ "admit": [{ "role": "participant", "root": "ROOT" }],
    "rights": { "add": ["a"], "remove": ["a"], "recording": ["a"], "policy": ["a"] } }"#;
/// A room where recorders are welcome.
const RECORDED: &str = r#"{ "claim": "recorded",
    "admit": [{ "role": "participant", "root": "ROOT" }, { "role": "recorder", "root": "ROOT" }],
    "rights": { "add": "participants", "remove": "participants", "recording": "participants", "policy": "participants" } }"#;

/// Three who are honest, and a member that was taken over: its process is gone, its state and its key are in bad hands.
struct Case {
    world: World,
    ca: Ca,
    evil: Evil,
    policy: Policy,
}

impl Case {
    fn new(json: &str) -> Self {
        Self::with(json, &[Role::Participant])
    }

    fn with(json: &str, roles: &[Role]) -> Self {
        let ca = Ca::new("clinic");
        let mut world = World::new();
        let mut settings = World::settings();
        let policy = policy(&ca, json);
        settings.create = Some(policy.clone());
        for name in ["a", "b", "c"] {
            world.add(name, ca.identity(name, &[Role::Participant]), settings.clone());
            settings.create = None;
            world.pass(3000);
        }
        let identity = ca.identity("m", roles);
        let evil = world.add("m", identity.clone(), settings);
        world.pass(3000);
        world.check_agreed(&[A, B, C, evil]);
        let id = world.endpoints[evil].room.as_ref().unwrap().status().group_id;
        world.kill(evil);
        let store = world.endpoints[evil].disk.take().unwrap();
        let id = GroupId::from_slice(&hex::decode(id).unwrap());
        let evil = Evil::new(store, identity, id, world.now.unix);
        Self {
            world,
            ca,
            evil,
            policy,
        }
    }

    /// Somebody outside, with a certificate as wanted.
    fn outsider(&self, id: &str, roles: &[Role]) -> Evil {
        self.outsider_with(self.ca.identity(id, roles))
    }

    fn outsider_with(&self, identity: Identity) -> Evil {
        let id = self.evil.id.clone();
        Evil::new(MemoryStore::new(), identity, id, self.world.now.unix)
    }

    fn with_the_state_of_b(&self, identity: Identity) -> Evil {
        let mut store = MemoryStore::new();
        store.restore(&self.world.snapshot(B));
        Evil::new(store, identity, self.evil.id.clone(), self.evil.time)
    }

    fn epoch(&self) -> u64 {
        self.world.epoch(A)
    }

    /// The record is read by everybody, who then are where they were before, and say why.
    fn refused(&mut self, record: Record, why: &str) {
        let before = self.epoch();
        for index in HONEST {
            self.world.endpoints[index].events.clear();
        }
        self.world.append(record.encode());
        self.world.settle();
        for index in HONEST {
            let said = self.world.refusals(index);
            let name = &self.world.endpoints[index].id;
            assert!(
                said.iter().any(|said| said.contains(why)),
                "{name} should say {why:?}: {said:?} {:?}",
                self.world.endpoints[index]
                    .room
                    .as_ref()
                    .unwrap()
                    .status()
                    .counters
            );
            assert_eq!(self.world.epoch(index), before, "{name} followed");
        }
        self.goes_on();
    }

    /// Nobody says or does anything because of it.
    fn ignored(&mut self, bytes: Vec<u8>) {
        let before = self.epoch();
        self.world.append(bytes);
        self.world.settle();
        for index in HONEST {
            assert_eq!(self.world.epoch(index), before);
        }
        self.goes_on();
    }

    fn goes_on(&mut self) {
        self.world.pass(1000);
        self.world.check_agreed(&HONEST);
        for index in HONEST {
            let before = self.epoch();
            self.world.command(index, Command::Rekey);
            self.world.pass(2000);
            self.world.check_agreed(&HONEST);
            assert_eq!(self.epoch(), before + 1);
            assert!(self.world.endpoints[index].sealing);
        }
    }
}

// Identity and role

#[test]
fn somebody_elses_certificate_in_the_own_leaf() {
    let mut case = Case::new(OPEN);
    let victim = case.ca.identity("b", &[Role::Participant]).own();
    let mut stolen = credential(&victim);
    stolen.signature_key = case.evil.own.identity().public_key.to_vec().into();
    let record = case.evil.commit(Deed {
        credential: Some(stolen),
        ..Deed::default()
    });
    case.refused(record, "signed by another key than its certificate's");
}

#[test]
fn a_role_that_nobody_certified() {
    // Its own CA says that it may record.
    let mut case = Case::new(RECORDED);
    let own = Ca::new("its own");
    let forged = own.identity("m", &[Role::Participant, Role::Recorder]).own();
    let record = case.evil.commit(Deed {
        credential: Some(credential(&forged)),
        ..Deed::default()
    });
    case.refused(record, "does not end in a certificate authority that is trusted");
}

#[test]
fn a_certified_role_that_it_did_not_come_with() {
    let mut case = Case::new(RECORDED);
    let validity = Validity::days(BEGINNING + 60, 300);
    let wider = case
        .ca
        .certified("m", &[Role::Participant, Role::Recorder], validity)
        .own();
    let record = case.evil.commit(Deed {
        credential: Some(credential(&wider)),
        ..Deed::default()
    });
    case.refused(record, "gives itself a role");
}

#[test]
fn a_stranger_of_a_foreign_ca_is_added() {
    let mut case = Case::new(OPEN);
    let foreign = case.outsider_with(Ca::new("elsewhere").identity("x", &[Role::Participant]));
    let asked = foreign.key_package();
    let record = case.evil.commit(Deed {
        adds: vec![package(&asked)],
        ..Deed::default()
    });
    case.refused(record, "does not end in a certificate authority that is trusted");
    case.refused(
        Record::KeyPackage(asked),
        "does not end in a certificate authority that is trusted",
    );
}

#[test]
fn an_expired_certificate_is_added() {
    let mut case = Case::new(OPEN);
    let validity = Validity {
        from: BEGINNING - 1000,
        until: BEGINNING + 500,
    };
    let mut expired = case.outsider_with(case.ca.certified("x", &[Role::Participant], validity));
    expired.time = BEGINNING;
    let record = case.evil.commit(Deed {
        adds: vec![package(&expired.key_package())],
        ..Deed::default()
    });
    case.refused(record, "has expired");
    expired.time = BEGINNING + 5000;
    let asked = expired.key_package();
    case.refused(Record::KeyPackage(asked), "has expired");
}

#[test]
fn the_clock_is_turned_back_to_when_a_certificate_was_valid() {
    let mut case = Case::new(OPEN);
    let record = case.evil.commit(Deed {
        time: Some(BEGINNING + 1),
        ..Deed::default()
    });
    case.refused(record, "lies before that of the group");
}

#[test]
fn a_recorder_is_added_to_a_strict_room() {
    let mut case = Case::new(OPEN);
    let recorder = case.outsider("x", &[Role::Recorder]);
    let asked = recorder.key_package();
    let record = case.evil.commit(Deed {
        adds: vec![package(&asked)],
        ..Deed::default()
    });
    case.refused(record, "is a recorder, and the room is strict");
    case.refused(Record::KeyPackage(asked), "is a recorder, and the room is strict");
}

#[test]
fn a_recorder_removes_and_changes_what_it_may_not() {
    let mut case = Case::with(RECORDED, &[Role::Recorder]);
    let record = case.evil.commit(Deed {
        removes: vec![1],
        ..Deed::default()
    });
    case.refused(record, "only records");
    let mut case = Case::with(RECORDED, &[Role::Recorder]);
    let on = case.policy.with_recording(true);
    let record = case.evil.commit(Deed {
        extensions: vec![extensions(vec![required(), of(&on)])],
        ..Deed::default()
    });
    case.refused(record, "only records");
}

// Policy

#[test]
fn the_policy_is_weakened_without_the_right() {
    let mut case = Case::new(OF_A);
    let weaker = PolicyChange::parse(br#"{ "claim": "recorded" }"#)
        .unwrap()
        .apply(&case.policy);
    let record = case.evil.commit(Deed {
        extensions: vec![extensions(vec![required(), of(&weaker)])],
        ..Deed::default()
    });
    case.refused(record, "does not have the right `policy`");
}

#[test]
fn a_weakening_comes_together_with_a_newcomer() {
    let mut case = Case::new(OPEN);
    let json = format!(
        r#"{{ "claim": "recorded", "also_admit": [{{ "role": "recorder", "root": "{}" }}] }}"#,
        case.ca.authority.fingerprint()
    );
    let weaker = PolicyChange::parse(json.as_bytes()).unwrap().apply(&case.policy);
    let recorder = case.outsider("x", &[Role::Recorder]);
    let record = case.evil.commit(Deed {
        extensions: vec![extensions(vec![required(), of(&weaker)])],
        adds: vec![package(&recorder.key_package())],
        ..Deed::default()
    });
    case.refused(record, "a weakening must come alone");
}

#[test]
fn somebody_else_is_removed_without_the_right() {
    let mut case = Case::new(OF_A);
    let record = case.evil.commit(Deed {
        removes: vec![1],
        ..Deed::default()
    });
    case.refused(record, "does not have the right `remove`");
}

#[test]
fn the_policy_is_dropped() {
    for list in [vec![], vec![required()]] {
        let mut case = Case::new(OPEN);
        let record = case.evil.commit(Deed {
            extensions: vec![extensions(list)],
            ..Deed::default()
        });
        case.refused(record, "it brings no policy that can be read");
    }
}

#[test]
fn the_requirements_are_dropped() {
    let mut case = Case::new(OPEN);
    let [fewer, _] = other_contexts(&case.evil, &case.policy);
    let record = case.evil.commit(Deed {
        extensions: vec![fewer],
        ..Deed::default()
    });
    case.refused(record, "RequiredCapabilities");
}

#[test]
fn external_senders_are_let_in() {
    let mut case = Case::new(OPEN);
    let [_, senders] = other_contexts(&case.evil, &case.policy);
    let record = case.evil.commit(Deed {
        extensions: vec![senders],
        ..Deed::default()
    });
    case.refused(record, "ExternalSenders");
}

#[test]
fn the_policy_comes_twice() {
    let case = Case::new(OPEN);
    let other = PolicyChange::parse(br#"{ "retention_days": 3 }"#)
        .unwrap()
        .apply(&case.policy);
    // The library makes neither of them, and reads neither of them: see what it does with such bytes.
    assert!(Extensions::<GroupContext>::from_vec(vec![required(), of(&case.policy), of(&other)]).is_err());
    let one = |extension: Extension| extension.tls_serialize_detached().unwrap();
    let list = [one(required()), one(of(&case.policy)), one(of(&other))].concat();
    let list = [
        vec![
            0x40 | u8::try_from(list.len() >> 8).unwrap(),
            (list.len() & 0xff) as u8,
        ],
        list,
    ]
    .concat();
    assert!(Extensions::<GroupContext>::tls_deserialize_exact_bytes(&list).is_err());
    let twice = case.evil.try_commit(Deed {
        extensions: vec![
            extensions(vec![required(), of(&other)]),
            extensions(vec![required(), of(&case.policy)]),
        ],
        ..Deed::default()
    });
    if let Ok(record) = twice {
        let mut case = case;
        case.refused(record, "");
    }
}

// Proposals

#[test]
fn a_pre_shared_key_is_refused() {
    let mut case = Case::new(OPEN);
    let record = case.evil.commit(Deed {
        proposals: vec![case.evil.pre_shared_key()],
        ..Deed::default()
    });
    case.refused(record, "PSK");
}

#[test]
fn a_custom_proposal_is_refused() {
    let mut case = Case::new(OPEN);
    let built = case.evil.try_commit(Deed {
        proposals: vec![custom()],
        ..Deed::default()
    });
    match built {
        Ok(record) => case.refused(record, ""),
        Err(error) => eprintln!("the library does not make it: {error}"),
    }
}

#[test]
fn proposals_that_stand_alone_are_refused() {
    let mut case = Case::new(OPEN);
    let stranger = case.outsider("x", &[Role::Participant]);
    let proposals = case.evil.proposals(1, &stranger.key_package());
    let count = proposals.len();
    for proposal in proposals {
        // All are of the epoch in which they were made.
        case.world.append(Record::Proposal(proposal).encode());
    }
    case.world.settle();
    for index in HONEST {
        let said = case.world.refusals(index);
        let alone = said
            .iter()
            .filter(|said| said.contains("the only proposal that may stand alone"));
        assert_eq!(alone.count(), count, "{said:?}");
    }
    case.goes_on();
}

#[test]
fn a_commit_of_a_proposal_that_stood_alone_is_refused() {
    let mut case = Case::new(OPEN);
    let mut group = case.evil.load();
    let provider = case.evil.store.provider();
    group
        .propose_remove_member(&provider, &case.evil.own, LeafNodeIndex::new(1))
        .unwrap();
    // It stands in its store now, and its commit refers to it.
    let record = case.evil.commit(Deed::default());
    case.refused(record, "refers to a proposal that is not known");
}

// External commits

#[test]
fn an_external_commit_under_another_name() {
    let mut case = Case::new(OPEN);
    let info = case.evil.info();
    // Somebody new comes in without being let in.
    let x = case.outsider("x", &[Role::Participant]);
    let record = x.external(&info, x.credential()).unwrap();
    case.refused(record, "from outside only a rejoin is taken");

    // With b's certificate, and its own key.
    let mut case = Case::new(OPEN);
    let info = case.evil.info();
    let b = case.ca.identity("b", &[Role::Participant]).own();
    let mut stolen = credential(&b);
    stolen.signature_key = case.evil.own.identity().public_key.to_vec().into();
    let record = case.evil.external(&info, stolen).unwrap();
    case.refused(record, "signed by another key than its certificate's");

    // With b's certificate and b's key in the leaf, but a signature of its own.
    let mut case = Case::new(OPEN);
    let info = case.evil.info();
    let x = case.outsider("x", &[Role::Participant]);
    if let Ok(record) = x.external(&info, credential(&b)) {
        case.refused(record, "signature");
    }

    // As b of another CA, in b's place.
    let mut case = Case::new(OPEN);
    let info = case.evil.info();
    let foreign = case.outsider_with(Ca::new("elsewhere").identity("b", &[Role::Participant]));
    let record = foreign.external(&info, foreign.credential()).unwrap();
    case.refused(record, "does not end in a certificate authority that is trusted");
}

// Paths that cannot be followed

fn says(world: &World, index: usize, what: &str) -> bool {
    let events = &world.endpoints[index].events;
    events.iter().any(|event| format!("{event:?}").contains(what))
}

#[test]
fn a_path_that_half_of_the_room_cannot_follow() {
    // c, who is beside m in the tree; all but c.
    for mask in [1 << 4, !(1 << 4)] {
        let mut case = Case::new(OPEN);
        let before = case.epoch();
        let (record, sealed) = case.evil.commit_wrongly(mask).unwrap();
        assert!(sealed > 1, "{sealed}");
        let at = case.world.append(record.encode());
        let mut stuck = 0;
        for index in HONEST {
            while case.world.endpoints[index].read < at {
                case.world.read_one(index);
            }
            if says(&case.world, index, "cannot be followed here") {
                assert!(!case.world.endpoints[index].sealing);
                stuck += 1;
            }
        }
        assert!((1..3).contains(&stuck), "{stuck}");
        case.world.pass(20_000);
        case.world.check_agreed(&HONEST);
        assert!(case.epoch() > before);
        case.goes_on();
    }
}

#[test]
fn a_path_that_half_of_the_room_cannot_follow_and_its_author_says_it_cannot_either() {
    let mut case = Case::new(OPEN);
    let (record, _) = case.evil.commit_wrongly(!(1 << 4)).unwrap();
    let stuck = case.evil.stuck_at(&record).unwrap();
    case.world.append(record.encode());
    case.world.append(stuck.encode());
    case.world.pass(20_000);
    // Believed, a and b would go on without c, who is in the epoch that the commit began.
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

/// b has lost its state, so that it cannot say any more whether it could follow so many commits that nobody can; then it is
/// back.
fn wrong_paths_without_b(count: usize) -> Case {
    let mut case = Case::new(OPEN);
    case.world.kill(B);
    case.world.endpoints[B].disk = Some(MemoryStore::new());
    for _ in 0..count {
        let (record, _) = case.evil.commit_wrongly(u64::MAX).unwrap();
        case.world.append(record.encode());
        case.evil.forget_pending();
    }
    case.world.pass(5000);
    assert!(!case.world.endpoints[A].sealing);
    case.world.start(B);
    case
}

#[test]
fn a_path_that_nobody_can_follow_and_one_member_has_lost_its_state() {
    let mut case = wrong_paths_without_b(1);
    case.world.pass(60_000);
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

#[test]
fn paths_that_nobody_can_follow_one_after_the_other_while_a_member_has_lost_its_state() {
    let mut case = wrong_paths_without_b(3);
    // That it has no state is known once, for all three: it makes a new key package every half minute at most.
    case.world.pass(25_000);
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

#[test]
fn a_path_that_nobody_can_follow_and_then_one_that_half_of_the_room_cannot() {
    let mut case = Case::new(OPEN);
    for mask in [u64::MAX, !(1 << 4), 0] {
        let (record, _) = case.evil.commit_wrongly(mask).unwrap();
        case.world.append(record.encode());
    }
    case.world.pass(30_000);
    // All leave the first one out; c follows the second one, a and b may not go on with the third.
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

#[test]
fn a_path_that_one_could_follow_who_has_lost_its_state_since() {
    let mut case = Case::new(OPEN);
    case.world.kill(B);
    let (record, _) = case.evil.commit_wrongly(!(1 << 4)).unwrap();
    case.world.append(record.encode());
    case.world.pass(20_000);
    case.world.check_agreed(&[A, C]);
    case.world.kill(C);
    case.world.endpoints[C].disk = Some(MemoryStore::new());
    case.world.start(C);
    while case.world.read_one(C) {}
    case.world.read_one(C);
    // b reads that a could not follow, and that c asks anew. a is there all the same.
    case.world.start(B);
    case.world.pass(60_000);
    assert!(!says(&case.world, B, "nobody but its author"));
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

#[test]
fn a_path_that_one_can_follow_whose_answers_the_author_forestalls() {
    let mut case = Case::new(OPEN);
    let (record, _) = case.evil.commit_wrongly(!(1 << 4)).unwrap();
    case.world.append(record.encode());
    case.evil.enter_pending();
    let info = Record::GroupInfo(case.evil.info()).encode();
    let mut read = 0;
    for _ in 0..100 {
        case.world.pass(300);
        let asked = Record::GroupInfoRequest.encode();
        let new = case.world.log.iter().skip(read);
        let asks = new.into_iter().any(|(_, bytes)| *bytes == asked);
        read = case.world.log.len();
        if asks {
            // c would answer in its turn, if nobody else had.
            case.world.append(info.clone());
        }
    }
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

#[test]
fn a_path_that_nobody_can_follow_and_its_author_invites_into_its_own_epoch() {
    let mut case = Case::new(OPEN);
    // b is not there to say that it cannot follow either.
    case.world.kill(B);
    let before = case.epoch();
    let (record, _) = case.evil.commit_wrongly(u64::MAX).unwrap();
    case.world.append(record.encode());
    case.evil.enter_pending();
    for part in 1..6 {
        case.world.pass(3000);
        let info = case.evil.info();
        let cut = info[..info.len() * part / 6].to_vec();
        case.world.append(Record::GroupInfo(info).encode());
        case.world.append(Record::GroupInfo(cut).encode());
    }
    // They keep the epoch that may go on yet.
    for index in [A, C] {
        assert_eq!(case.world.epoch(index), before);
        assert_eq!(case.world.state(index), State::Joining);
    }
    case.world.start(B);
    case.world.pass(20_000);
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

#[test]
fn a_path_that_nobody_can_follow_while_somebody_waits_to_be_let_go() {
    let mut case = Case::new(OPEN);
    let (record, _) = case.evil.commit_wrongly(u64::MAX).unwrap();
    case.world.input(B, Input::Leave);
    case.world.append(record.encode());
    case.world.pass(20_000);
    case.world.check_agreed(&[A, C]);
    assert_eq!(case.world.members(A), ["a", "c", "m"]);
    assert_eq!(case.world.state(B), State::Evicted);
}

#[test]
fn a_path_that_nobody_can_follow_and_one_who_has_heard_so_is_started_again() {
    let mut case = Case::new(OPEN);
    case.world.kill(B);
    let (record, _) = case.evil.commit_wrongly(u64::MAX).unwrap();
    case.world.append(record.encode());
    case.world.pass(1000);
    assert_eq!(case.world.state(A), State::Joining);
    // It cannot read again what c said.
    case.world.kill(A);
    case.world.start(A);
    case.world.start(B);
    case.world.pass(20_000);
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

#[test]
fn a_path_that_nobody_can_follow_is_left_out_by_all() {
    let mut case = Case::new(OPEN);
    let before = case.epoch();
    let (record, _) = case.evil.commit_wrongly(u64::MAX).unwrap();
    case.world.append(record.encode());
    case.world.pass(20_000);
    case.world.check_agreed(&HONEST);
    for index in HONEST {
        assert!(
            says(&case.world, index, "nobody but its author can follow it"),
            "{index}"
        );
    }
    assert_eq!(case.epoch(), before);
    case.goes_on();
}

#[test]
fn a_path_that_nobody_can_follow_with_a_way_into_the_authors_own_epoch() {
    let mut case = Case::new(OPEN);
    let (record, _) = case.evil.commit_wrongly(u64::MAX).unwrap();
    // What it says it leads to: a group of its author's alone.
    case.evil.enter_pending();
    case.world.append(record.encode());
    case.world.append(Record::GroupInfo(case.evil.info()).encode());
    case.world.pass(60_000);
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

// Welcomes

#[test]
fn a_welcome_into_another_room() {
    let mut case = Case::new(OPEN);
    let victim = case.ca.identity("v", &[Role::Participant]);
    let victim = case.world.add("v", victim, World::settings());
    // It asked, and nobody has answered yet.
    while case.world.read_one(victim) {}
    let (_, bytes) = case.world.log.last().unwrap().clone();
    let Ok(Record::KeyPackage(asked)) = Record::decode(&bytes) else {
        panic!("it did not ask");
    };
    let other = PolicyChange::parse(b"{}").unwrap().apply(&case.policy);
    let tag = gstmls::policy::RoomTag::new("another room", [2; 16]);
    let other = Policy { room: tag, ..other };
    let same_id = case.evil.id.clone();
    let now = case.epoch();
    let another = GroupId::from_slice(&[9; 16]);
    for (epoch, id, policy, why) in [
        (now, another, &case.policy, "another group than the log's"),
        (now + 1, same_id.clone(), &other, "a welcome into another room"),
    ] {
        let Record::Commit { commit, welcome } = case.evil.trap(&id, policy, package(&asked)).unwrap() else {
            panic!("no commit");
        };
        // To look like one that can have won, it is dressed as the log's group's.
        let mut commit = dressed(&commit, &same_id);
        set_epoch(&mut commit, epoch);
        case.world.append(Record::Commit { commit, welcome }.encode());
        // The victim reads it first.
        while case.world.read_one(victim) {}
        let said = case.world.refusals(victim);
        assert!(said.iter().any(|said| said.contains(why)), "{why}: {said:?}");
        assert_eq!(case.world.state(victim), State::Joining);
        case.world.endpoints[victim].events.clear();
    }
    // Its first answers stood in the places of commits that came too late; it asks again.
    case.world.pass(120_000);
    case.world.check_agreed(&[A, B, C, victim]);
    case.goes_on();
}

#[test]
fn a_thief_asks_again_after_it_was_removed() {
    let mut case = Case::new(OPEN);
    case.world.command(A, Command::Remove { member: "m".into() });
    case.world.pass(2000);
    assert_eq!(case.world.members(A), ["a", "b", "c"]);
    let mut thief = case.outsider_with(case.evil.identity.clone());
    thief.time += 100;
    case.world.advance(100_000);
    case.world.pass(1000);
    case.refused(Record::KeyPackage(thief.key_package()), "is denied in this room");
    // And by the back door, with what it knows of the group.
    let record = thief.external(&case.evil.info(), thief.credential()).unwrap();
    case.ignored(record.encode());
    assert_eq!(case.world.members(A), ["a", "b", "c"]);
}

// Clones and forgeries

#[test]
fn a_clone_commits_in_a_members_name() {
    let mut case = Case::new(OPEN);
    let clone = case.with_the_state_of_b(case.ca.identity("b", &[Role::Participant]));
    let before = case.epoch();
    let record = clone.commit(Deed::default());
    case.world.append(record.encode());
    case.world.pass(1000);
    // Nothing tells the others that it was not b.
    case.world.check_agreed(&[A, C]);
    assert_eq!(case.epoch(), before + 1);
    case.world.pass(MAX_SILENCE);
    assert!(!case.world.endpoints[B].sealing);
    assert!(says(&case.world, B, "CloneDetected"));
    // The clone has b's place until somebody removes it.
    case.world.command(A, Command::Remove { member: "b".into() });
    case.world.pass(2000);
    assert_eq!(case.world.members(C), ["a", "c", "m"]);
    case.world.check_agreed(&[A, C]);
}

#[test]
fn a_commit_in_a_members_name_that_the_others_refuse() {
    // Every member can name another one as the author of an encrypted commit. The others see a wrong signature; the
    // victim cannot look into what seems to be its own, as little as into this one, which the others refuse.
    let mut case = Case::new(OPEN);
    let forger = case.with_the_state_of_b(Ca::new("elsewhere").identity("b", &[Role::Participant]));
    let before = case.epoch();
    let record = forger.commit(Deed {
        credential: Some(forger.credential()),
        ..Deed::default()
    });
    case.world.append(record.encode());
    case.world.settle();
    for index in HONEST {
        assert_eq!(case.world.epoch(index), before);
    }
    for index in [A, C] {
        let said = case.world.refusals(index);
        assert!(said.iter().any(|said| said.contains("commit")), "{said:?}");
    }
    case.world.pass(MAX_SILENCE * 2);
    assert!(!says(&case.world, B, "CloneDetected"));
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

// Bytes

#[test]
fn records_that_are_repeated() {
    let mut case = Case::new(OPEN);
    case.world.command(A, Command::Rekey);
    case.world.pass(1000);
    let all: Vec<_> = case.world.log.iter().map(|(_, bytes)| bytes.clone()).collect();
    for bytes in all {
        case.world.append(bytes);
    }
    let before = case.epoch();
    case.world.settle();
    for index in HONEST {
        assert_eq!(case.world.epoch(index), before);
    }
    case.world.pass(10_000);
    case.goes_on();
}

#[test]
fn commits_of_other_epochs() {
    let mut case = Case::new(OPEN);
    let now = case.epoch();
    for epoch in [0, now - 1, now + 1, now + 100, u64::MAX] {
        let Record::Commit { mut commit, welcome } = case.evil.commit(Deed::default()) else {
            panic!("no commit");
        };
        set_epoch(&mut commit, epoch);
        case.world.append(Record::Commit { commit, welcome }.encode());
    }
    case.world.settle();
    for index in HONEST {
        assert_eq!(case.world.epoch(index), now);
    }
    case.goes_on();
    // The number alone must not make anybody give up its group, whatever else goes wrong.
    for index in HONEST {
        case.world.kill(index);
    }
    case.world.advance(MAX_SILENCE * 2);
    for index in HONEST {
        case.world.start(index);
    }
    case.world.pass(60_000);
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

#[test]
fn everybody_is_stale_and_the_log_says_that_there_is_more() {
    let mut case = Case::new(OPEN);
    let Record::Commit { mut commit, welcome } = case.evil.commit(Deed::default()) else {
        panic!("no commit");
    };
    set_epoch(&mut commit, u64::MAX);
    case.world.append(Record::Commit { commit, welcome }.encode());
    case.world.settle();
    // The delivery is away for a while; then it is back.
    let log = case.world.log.clone();
    for _ in 0..50 {
        case.world.advance(MAX_SILENCE / 25);
        case.world.log.clone_from(&log);
    }
    for index in HONEST {
        assert!(!case.world.endpoints[index].sealing);
    }
    case.world.pass(120_000);
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

#[test]
fn rubbish_of_every_kind() {
    let mut case = Case::new(OPEN);
    let mut bytes = 0x1234_5678_u32;
    let mut random = |length: usize| -> Vec<u8> {
        let mut next = || {
            bytes = bytes.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (bytes >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    };
    for kind in KINDS {
        for length in [0, 1, 7, 100, 5000] {
            case.world.append(kind(random(length)).encode());
        }
    }
    for length in [0, 1, 2, 6, 300] {
        let bytes = random(length);
        case.world.append(bytes);
    }
    // Real ones, cut short and changed; also under another kind.
    let real: Vec<_> = case
        .world
        .log
        .iter()
        .take(12)
        .map(|(_, bytes)| bytes.clone())
        .collect();
    let current = case.evil.commit(Deed::default()).encode();
    for bytes in real.iter().chain([&current]) {
        for part in [2, 3, 7, 10] {
            case.world.append(bytes[..bytes.len() * part / 11].to_vec());
            let mut changed = bytes.clone();
            let at = bytes.len() * part / 11;
            changed[at] ^= 0x55;
            case.world.append(changed);
        }
        if let Ok(Record::Commit { commit, .. } | Record::KeyPackage(commit) | Record::Message(commit)) =
            Record::decode(bytes)
        {
            for kind in KINDS {
                if !matches!(kind(Vec::new()), Record::Commit { .. } | Record::KeyPackage(_)) {
                    case.world.append(kind(commit.clone()).encode());
                }
            }
        }
    }
    case.world.append(Record::Message(vec![0; MAX_RECORD]).encode());
    case.world
        .append(Record::KeyPackage(vec![0; MAX_RECORD - 100]).encode());
    let before = case.epoch();
    case.world.settle();
    for index in HONEST {
        assert_eq!(case.world.epoch(index), before);
    }
    case.world.pass(5000);
    case.goes_on();
}

#[test]
fn a_welcome_alone_in_a_members_own_record_is_no_way_past_the_members() {
    // A valid commit with somebody else's Welcome: the room enters its epoch, the joiner refuses the Welcome.
    let mut case = Case::new(OPEN);
    let victim = case.ca.identity("v", &[Role::Participant]);
    let victim = case.world.add("v", victim, World::settings());
    while case.world.read_one(victim) {}
    let (_, bytes) = case.world.log.last().unwrap().clone();
    let Ok(Record::KeyPackage(asked)) = Record::decode(&bytes) else {
        panic!("it did not ask");
    };
    let another = GroupId::from_slice(&[9; 16]);
    let Record::Commit { welcome, .. } = case.evil.trap(&another, &case.policy, package(&asked)).unwrap()
    else {
        panic!("no commit");
    };
    let Record::Commit { commit, .. } = case.evil.commit(Deed {
        adds: vec![package(&asked)],
        ..Deed::default()
    }) else {
        panic!("no commit");
    };
    case.world.append(Record::Commit { commit, welcome }.encode());
    // The others believe that it is in; it asks again, with a newer key package, and takes its own place.
    case.world.pass(60_000);
    case.world.check_agreed(&[A, B, C, victim]);
    case.goes_on();
}

// A malicious delivery

#[test]
fn a_delivery_that_withholds_makes_its_victim_stale_in_time() {
    let mut case = Case::new(OPEN);
    let upto = case.world.log.len();
    case.world.command(A, Command::Remove { member: "m".into() });
    let removed_at = case.world.now.ms;
    // c gets nothing from now on; its own records do go out.
    let mut hidden = Vec::new();
    while case.world.now.ms < removed_at + MAX_SILENCE {
        case.world.read_one(A);
        case.world.read_one(B);
        case.world.advance(500);
        hidden.push(case.world.endpoints[C].sealing);
    }
    assert!(case.world.log.len() > upto);
    assert_eq!(case.world.state(C), State::Stale);
    assert!(!case.world.endpoints[C].sealing);
    assert!(hidden[0], "it could not know");
    assert!(!case.world.members(A).contains(&"m".to_owned()));
    // It gets everything in the end.
    case.world.pass(10_000);
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

#[test]
fn a_delivery_that_reorders_gives_nobody_a_wrong_key() {
    let mut case = Case::new(OPEN);
    for index in [A, B, A] {
        let read = case.world.endpoints[C].read;
        case.world.command(index, Command::Rekey);
        for _ in 0..20 {
            case.world.read_one(A);
            case.world.read_one(B);
        }
        case.world.endpoints[C].read = read;
    }
    // c reads what it has missed backwards, under numbers that grow.
    let read = case.world.endpoints[C].read;
    let missed: Vec<_> = case
        .world
        .log
        .iter()
        .filter(|(s, _)| *s > read)
        .cloned()
        .collect();
    assert!(missed.len() >= 3);
    let numbers: Vec<_> = missed.iter().map(|(sequence, _)| *sequence).collect();
    for (sequence, (_, bytes)) in numbers.into_iter().zip(missed.into_iter().rev()) {
        case.world.endpoints[C].read = sequence;
        case.world.input(C, Input::Entry { sequence, bytes });
        let (epoch, of_c) = case.world.endpoints[C].keys.last_key_value().unwrap();
        let of_a = case.world.endpoints[A].keys.get(epoch);
        assert!(
            of_a.is_none_or(|of_a| of_a == of_c),
            "a wrong key of epoch {epoch}"
        );
    }
    case.world.pass(MAX_SILENCE * 3);
    case.world.check_agreed(&HONEST);
    case.goes_on();
}

#[test]
fn a_removed_member_cannot_keep_its_victims_in_an_old_epoch() {
    // Everything that was said before it was removed, again, to one who knows that it was.
    let mut case = Case::new(OPEN);
    let before: Vec<_> = case.world.log.iter().map(|(_, bytes)| bytes.clone()).collect();
    case.world.command(A, Command::Remove { member: "m".into() });
    case.world.pass(2000);
    let epoch = case.epoch();
    for bytes in before {
        case.world.append(bytes);
    }
    let record = case.evil.commit(Deed::default());
    case.world.append(record.encode());
    case.world.settle();
    for index in HONEST {
        assert_eq!(case.world.epoch(index), epoch);
        assert_eq!(case.world.members(index), ["a", "b", "c"]);
    }
    case.world.pass(10_000);
    case.goes_on();
}
