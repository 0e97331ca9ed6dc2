//! A room of endpoints that keep to the rules, step by step.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod world;

use gstmls::codes::{IdentityKey, pair_code};
use gstmls::identity::Role;
use gstmls::policy::PolicyChange;
use gstmls::record::Record;
use gstmls::room::{Command, Event, Input, State};
use world::{Ca, OPEN, World, policy};

const RECORDED: &str = r#"{ "claim": "recorded",
    "admit": [{ "role": "participant", "root": "ROOT" }, { "role": "recorder", "root": "ROOT" }],
    "rights": { "recording": "participants", "policy": "participants" },
    "recipients": ["1111111111111111111111111111111111111111111111111111111111111111"],
    "consent": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0",
    "retention_days": 30 }"#;

fn room_of(names: &[&str]) -> (World, Ca, Vec<usize>) {
    let ca = Ca::new("clinic");
    let mut world = World::new();
    let mut settings = World::settings();
    settings.create = Some(policy(&ca, OPEN));
    let mut indexes = Vec::new();
    for name in names {
        let identity = ca.identity(name, &[Role::Participant]);
        indexes.push(world.add(name, identity, settings.clone()));
        settings.create = None;
        world.pass(3000);
    }
    world.check_agreed(&indexes);
    (world, ca, indexes)
}

#[test]
fn one_makes_the_room_and_others_join() {
    let (world, _, all) = room_of(&["a", "b", "c"]);
    assert_eq!(world.members(all[0]), ["a", "b", "c"]);
    for index in all {
        assert!(world.endpoints[index].sealing);
        assert!(world.refusals(index).is_empty(), "{:?}", world.refusals(index));
    }
}

#[test]
fn a_rekey_brings_new_keys_to_all() {
    let (mut world, _, all) = room_of(&["a", "b", "c"]);
    let before = world.epoch(0);
    world.command(1, Command::Rekey);
    world.pass(2000);
    assert_eq!(world.epoch(0), before + 1);
    world.check_agreed(&all);
}

#[test]
fn a_room_is_verified_when_people_compared_its_code_and_until_somebody_new_comes() {
    let (mut world, ca, _) = room_of(&["a", "b"]);
    let status = |world: &World| world.endpoints[0].room.as_ref().unwrap().status();
    let confirm = |world: &mut World, member: Option<&str>, code: &str| {
        let (member, code) = (member.map(str::to_owned), code.to_owned());
        world.command(0, Command::Confirm { member, code });
        world.endpoints[0].room.as_ref().unwrap().status().verified
    };
    assert!(!status(&world).verified);
    // What was read out before the last change is the code of no epoch that is.
    let old = status(&world).epoch_code;
    world.command(1, Command::Rekey);
    world.pass(2000);
    for wrong in [&old, "", " ", "12345"] {
        assert!(!confirm(&mut world, None, wrong), "{wrong:?}");
    }
    assert_eq!(world.refusals(0).len(), 4);
    let code = status(&world).epoch_code;
    // As somebody writes it who heard it.
    assert!(confirm(&mut world, None, &code.replace(' ', "")));
    // It holds for the people, whatever keys come.
    world.command(1, Command::Rekey);
    world.pass(2000);
    assert!(status(&world).verified);
    assert!(
        !world.endpoints[1].room.as_ref().unwrap().status().verified,
        "b said nothing"
    );

    let c = ca.identity("c", &[Role::Participant]);
    let c = world.add("c", c, World::settings());
    world.pass(3000);
    world.check_agreed(&[0, 1, c]);
    assert!(!status(&world).verified);
    let verified: Vec<_> = status(&world)
        .members
        .iter()
        .map(|m| (m.id.clone(), m.verified))
        .collect();
    let expected = [("a", false), ("b", true), ("c", false)].map(|(id, verified)| (id.to_owned(), verified));
    assert_eq!(verified, expected);

    let own = |world: &World, index: usize| world.endpoints[index].own.identity().clone();
    let pair = |a: usize, b: usize, world: &World| {
        let (a, b) = (own(world, a), own(world, b));
        pair_code(&IdentityKey::from(&a), &IdentityKey::from(&b))
    };
    let (with_b, with_c) = (pair(0, 1, &world), pair(0, c, &world));
    for (member, code) in [("c", &with_b), ("nobody", &with_c), ("a", &with_c)] {
        assert!(!confirm(&mut world, Some(member), code), "{member}");
    }
    assert!(confirm(&mut world, Some("c"), &with_c));
    // Who is alone has compared nothing with anybody.
    world.command(0, Command::Remove { member: "b".into() });
    world.pass(2000);
    assert!(status(&world).verified);
    world.command(0, Command::Remove { member: "c".into() });
    world.pass(2000);
    assert_eq!(world.members(0), ["a"]);
    assert!(!status(&world).verified);
}

#[test]
fn who_leaves_is_gone_and_the_others_go_on() {
    let (mut world, _, _) = room_of(&["a", "b", "c"]);
    world.input(0, Input::Leave);
    world.pass(5000);
    assert_eq!(world.state(0), State::Evicted);
    assert_eq!(world.members(1), ["b", "c"]);
    world.check_agreed(&[1, 2]);
}

#[test]
fn who_is_removed_stays_out() {
    let (mut world, _, _) = room_of(&["a", "b", "c"]);
    world.command(0, Command::Remove { member: "c".into() });
    world.pass(2000);
    assert_eq!(world.state(2), State::Evicted);
    assert!(world.endpoints[2].keys.is_empty());
    world.kill(2);
    world.start(2);
    world.pass(30_000);
    assert_eq!(world.members(0), ["a", "b"]);
    assert_eq!(world.state(2), State::Joining);
    world.check_agreed(&[0, 1]);
}

#[test]
fn after_a_crash_an_update_comes_before_any_frame() {
    let (mut world, _, all) = room_of(&["a", "b", "c"]);
    let before = world.epoch(1);
    world.kill(1);
    world.start(1);
    assert!(!world.endpoints[1].sealing);
    world.pass(1000);
    assert_eq!(world.epoch(1), before + 1);
    assert_eq!(world.endpoints[1].keys.len(), 1, "opens nothing from before");
    world.check_agreed(&all);
}

#[test]
fn everybody_crashes_and_the_room_goes_on() {
    let (mut world, _, all) = room_of(&["a", "b", "c"]);
    for index in &all {
        world.kill(*index);
    }
    for index in &all {
        world.start(*index);
    }
    world.pass(5000);
    world.check_agreed(&all);
}

#[test]
fn who_lost_its_state_comes_back_in_its_own_place() {
    let (mut world, _, all) = room_of(&["a", "b", "c"]);
    world.kill(2);
    world.endpoints[2].disk = Some(gstmls::store::MemoryStore::new());
    world.start(2);
    world.pass(10_000);
    assert_eq!(world.members(0), ["a", "b", "c"]);
    world.check_agreed(&all);
}

#[test]
fn a_restored_snapshot_joins_again_by_external_commit() {
    let (mut world, _, all) = room_of(&["a", "b", "c"]);
    let old = world.snapshot(2);
    for index in [2, 0, 2, 1] {
        world.command(index, Command::Rekey);
        world.pass(2000);
    }
    world.kill(2);
    world.endpoints[2].disk.as_mut().unwrap().restore(&old);
    world.start(2);
    world.pass(20_000);
    world.check_agreed(&all);
    assert_eq!(
        world.endpoints[2]
            .room
            .as_ref()
            .unwrap()
            .status()
            .counters
            .resyncs,
        1
    );
}

#[test]
fn two_copies_of_one_state_are_noticed() {
    let (mut world, ca, _) = room_of(&["a", "b", "c"]);
    let copy = world.snapshot(2);
    let clone = world.add("c'", ca.identity("c", &[Role::Participant]), World::settings());
    world.kill(clone);
    world.endpoints[clone].disk.as_mut().unwrap().restore(&copy);
    world.start(clone);
    world.pass(60_000);
    let detected = |index: usize| {
        world.endpoints[index]
            .events
            .iter()
            .any(|event| matches!(event, Event::CloneDetected { .. }))
    };
    assert!(detected(2) || detected(clone));
    assert!(!(world.endpoints[2].sealing && world.endpoints[clone].sealing));
}

#[test]
fn a_silent_delivery_makes_a_room_stale_and_it_recovers() {
    let (mut world, _, all) = room_of(&["a", "b"]);
    world.kill(1);
    world.pass(world::MAX_SILENCE + 1000);
    assert_eq!(world.state(0), State::Stale);
    assert!(!world.endpoints[0].sealing);
    world.start(1);
    world.pass(5000);
    world.check_agreed(&all);
}

#[test]
fn heartbeats_keep_a_quiet_room_alive() {
    let (mut world, _, all) = room_of(&["a", "b", "c", "d", "e"]);
    let before = world.log.len();
    world.pass(300_000);
    world.check_agreed(&all);
    let said = world.log.len() - before;
    assert!((40..150).contains(&said), "{said} records in 5 minutes");
}

#[test]
fn without_compare_and_set_the_first_valid_commit_wins() {
    let (mut world, _, all) = room_of(&["a", "b", "c"]);
    world.compare_and_set = false;
    let before = world.epoch(0);
    for index in &all {
        world.command(*index, Command::Rekey);
    }
    world.pass(10_000);
    world.check_agreed(&all);
    assert_eq!(world.epoch(0), before + 3, "each of them is done");
}

#[test]
fn who_is_the_first_to_answer_others_can_join_again_itself() {
    let (mut world, _, all) = room_of(&["a", "b", "c"]);
    world.command(0, Command::Resync);
    world.pass(10_000);
    world.check_agreed(&all);
    let status = world.endpoints[0].room.as_ref().unwrap().status();
    assert_eq!(status.counters.resyncs, 1);
}

#[test]
fn who_wants_to_join_again_and_gets_no_answer_has_the_keys_of_where_the_room_went_meanwhile() {
    let (mut world, _, all) = room_of(&["a", "b", "c"]);
    let before = world.epoch(0);
    world.command(0, Command::Resync);
    world.command(1, Command::Rekey);
    for _ in 0..80 {
        for &index in &all {
            // No request arrives.
            world
                .log
                .retain(|(_, bytes)| *bytes != Record::GroupInfoRequest.encode());
            world.read_one(index);
        }
        world.advance(500);
    }
    assert_eq!(world.epoch(0), before + 1);
    world.check_agreed(&all);
}

#[test]
fn who_begins_anew_answers_no_request_of_before_and_is_not_woken_for_it() {
    let (mut world, _, all) = room_of(&["a", "b", "c"]);
    let c = all[2];
    let asked = world.append(Record::GroupInfoRequest.encode());
    while world.endpoints[c].read < asked {
        world.read_one(c);
    }
    let room = world.endpoints[c].room.as_mut().unwrap();
    room.check_log(b"another log", 0).unwrap();
    world.advance(3000);
    let deadline = world.endpoints[c].room.as_ref().unwrap().next_deadline();
    assert!(deadline.is_none_or(|at| at > world.now.ms), "{deadline:?}");
}

#[test]
fn two_creators_end_in_one_room() {
    let ca = Ca::new("clinic");
    let mut world = World::new();
    let mut settings = World::settings();
    settings.create = Some(policy(&ca, OPEN));
    for name in ["a", "b"] {
        world.add(name, ca.identity(name, &[Role::Participant]), settings.clone());
    }
    world.pass(10_000);
    world.check_agreed(&[0, 1]);
}

#[test]
fn who_records_is_told_what_holds_in_each_epoch() {
    let ca = Ca::new("clinic");
    let mut world = World::new();
    let mut settings = World::settings();
    settings.create = Some(policy(&ca, RECORDED));
    let anna = world.add(
        "anna",
        ca.identity("anna", &[Role::Participant]),
        settings.clone(),
    );
    settings.create = None;
    world.pass(3000);
    let archive = world.add("archive", ca.identity("archive", &[Role::Recorder]), settings);
    world.pass(3000);
    let joined = world.epoch(archive);
    for on in [true, false, true] {
        world.command(anna, Command::SetRecording { on });
        world.pass(3000);
    }
    let withdrawn = PolicyChange::parse(br#"{ "consent": null }"#).unwrap();
    world.command(
        anna,
        Command::SetPolicy {
            policy: Box::new(withdrawn),
        },
    );
    world.pass(3000);
    world.check_agreed(&[anna, archive]);

    let states: Vec<_> = world.endpoints[archive]
        .states
        .range(joined..)
        .map(|(_, state)| state)
        .collect();
    let told: Vec<_> = states
        .iter()
        .map(|state| (state.recording.unwrap(), state.consent.is_some()))
        .collect();
    let mut changes = told.clone();
    changes.dedup();
    assert_eq!(
        changes,
        [
            (false, true),
            (true, true),
            (false, true),
            (true, true),
            (true, false)
        ]
    );
    let group = world.endpoints[anna].room.as_ref().unwrap().status().group_id;
    for state in &states {
        assert_eq!(state.room_id.as_ref(), Some(&group));
        assert_eq!(state.claim.as_deref(), Some("recorded"));
        assert_eq!((state.recorder, state.leaf), (Some(true), Some(1)));
        assert_eq!(state.recipients.as_deref(), Some(&["11".repeat(32)][..]));
        assert_eq!((&state.escrow, state.retention_days), (&None, Some(30)));
    }
    let others = &world.endpoints[anna].states;
    for state in states {
        let other = &others[&state.epoch];
        assert_eq!(
            (other.recorder, other.leaf),
            (Some(false), Some(0)),
            "anna does not record"
        );
        assert_eq!(other.policy_digest, state.policy_digest);
    }
}
