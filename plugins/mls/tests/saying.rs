//! What people say in a room, and what they are called.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod world;

use gstmls::content::{CHUNK, Content, MAX_BODY};
use gstmls::identity::Role;
use gstmls::record::Record;
use gstmls::room::{Command, Event, Input, State};
use gstmls::store::MemoryStore;
use world::{Ca, OPEN, World, policy};

fn text(text: &str) -> Content {
    Content {
        content_type: "text/plain".into(),
        file_name: String::new(),
        body: text.into(),
    }
}

fn file(length: usize) -> Content {
    Content {
        content_type: "image/jpeg".into(),
        file_name: "wound.jpg".into(),
        body: (0..length).map(|i| (i % 253) as u8).collect(),
    }
}

fn room_of(names: &[&str]) -> (World, Ca) {
    let ca = Ca::new("clinic");
    let mut world = World::new();
    for (nth, name) in names.iter().enumerate() {
        let mut settings = World::settings();
        settings.create = (nth == 0).then(|| policy(&ca, OPEN));
        settings.display_name = Some(format!("Dr {name}"));
        world.add(name, ca.identity(name, &[Role::Participant]), settings);
        world.pass(3000);
    }
    let all: Vec<_> = (0..names.len()).collect();
    world.check_agreed(&all);
    (world, ca)
}

fn say(world: &mut World, index: usize, ticket: u64, content: Content) {
    world.input(index, Input::Say { ticket, content });
}

/// What an endpoint heard: who said it, and what.
fn heard(world: &World, index: usize) -> Vec<(String, Content)> {
    let said = world.endpoints[index].said.iter();
    said.map(|said| (said.sender.clone(), said.content.clone()))
        .collect()
}

fn kinds(world: &World, kind: &str) -> usize {
    let records = world
        .log
        .iter()
        .filter_map(|(_, bytes)| Record::decode(bytes).ok());
    records.filter(|record| record.kind() == kind).count()
}

#[test]
fn what_one_says_all_others_hear_once_and_in_one_order() {
    let (mut world, _) = room_of(&["a", "b", "c"]);
    for nth in 0..20 {
        say(&mut world, nth % 3, nth as u64, text(&nth.to_string()));
        if nth % 4 == 0 {
            world.settle();
        }
    }
    world.settle();
    let order = |by: usize| -> Vec<String> {
        let heard = heard(&world, by).into_iter();
        heard
            .map(|(_, content)| String::from_utf8(content.body).unwrap())
            .collect()
    };
    for index in 0..3 {
        let others: Vec<_> = order(index);
        let from = |who: usize| {
            (0..20)
                .filter(move |nth| nth % 3 == who)
                .map(|nth| nth.to_string())
        };
        for who in (0..3).filter(|who| *who != index) {
            let said: Vec<_> = from(who).collect();
            let heard: Vec<_> = others
                .iter()
                .filter(|text| said.contains(text))
                .cloned()
                .collect();
            assert_eq!(heard, said);
        }
        let own = from(index).count();
        assert_eq!(others.len(), 20 - own);
    }
    // Where two heard the same two messages, they heard them in the same order.
    let third: Vec<_> = order(2);
    let common: Vec<_> = order(1).into_iter().filter(|text| third.contains(text)).collect();
    let there: Vec<_> = third.into_iter().filter(|text| common.contains(text)).collect();
    assert_eq!(common, there);
    for nth in 0..20 {
        assert_eq!(world.endpoints[nth % 3].answers.get(&(nth as u64)), Some(&Ok(())));
    }
}

#[test]
fn the_longest_message_comes_with_progress() {
    let (mut world, _) = room_of(&["a", "b"]);
    say(&mut world, 0, 1, file(MAX_BODY));
    world.settle();
    assert_eq!(heard(&world, 1), [("a".to_owned(), file(MAX_BODY))]);
    let steps = |index: usize, mine: bool| {
        let events = world.endpoints[index].events.iter();
        let steps = events.filter_map(|event| match event {
            Event::MessageProgress { own, done, of, .. } if *own == mine => Some((*done, *of)),
            _ => None,
        });
        steps.collect::<Vec<_>>()
    };
    let all = 65;
    assert_eq!(steps(0, true), (1..=all).map(|n| (n, all)).collect::<Vec<_>>());
    // The last chunk is the message itself.
    assert_eq!(steps(1, false), (1..all).map(|n| (n, all)).collect::<Vec<_>>());
}

#[test]
fn a_chunk_that_a_commit_overtook_is_sealed_again_and_nothing_is_lost_or_doubled() {
    let (mut world, _) = room_of(&["a", "b", "c"]);
    // Sealed in the epoch that stands, and then a commit is in the log before it.
    for round in 0..6 {
        world.command(1, Command::Rekey);
        say(&mut world, 0, round, file(2 * CHUNK));
        say(&mut world, 2, round, text(&format!("round {round}")));
        world.pass(1000);
    }
    world.pass(10_000);
    let from = |index: usize, who: &str| heard(&world, index).iter().filter(|(by, _)| by == who).count();
    assert_eq!(
        (from(1, "a"), from(2, "a"), from(1, "c"), from(0, "c")),
        (6, 6, 6, 6)
    );
    // Some were in the log in vain, else this test shows nothing.
    assert!(
        kinds(&world, "content") > 6 * (3 + 1),
        "{}",
        kinds(&world, "content")
    );
    assert!(world.refusals(1).is_empty(), "{:?}", world.refusals(1));
}

#[test]
fn who_joins_later_cannot_read_what_was_said_before() {
    let (mut world, ca) = room_of(&["a", "b"]);
    say(&mut world, 0, 1, text("before"));
    world.pass(1000);
    world.add("c", ca.identity("c", &[Role::Participant]), World::settings());
    world.pass(5000);
    say(&mut world, 0, 2, text("after"));
    world.pass(1000);
    assert_eq!(heard(&world, 2), [("a".to_owned(), text("after"))]);
    assert_eq!(heard(&world, 1).len(), 2);
}

#[test]
fn who_was_away_hears_what_was_said_meanwhile_across_epochs() {
    let (mut world, _) = room_of(&["a", "b", "c"]);
    world.kill(2);
    for nth in 0..5 {
        say(&mut world, 0, nth, text(&format!("message {nth}")));
        world.pass(500);
        world.command(1, Command::Rekey);
        world.pass(2000);
    }
    world.start(2);
    world.pass(5000);
    let texts: Vec<_> = (0..5)
        .map(|nth| ("a".to_owned(), text(&format!("message {nth}"))))
        .collect();
    assert_eq!(heard(&world, 2), texts);
    // What was heard is not heard again after the next start.
    world.kill(2);
    world.start(2);
    world.pass(5000);
    assert_eq!(heard(&world, 2), texts);
}

#[test]
fn who_was_removed_hears_and_says_nothing_more() {
    let (mut world, _) = room_of(&["a", "b", "c"]);
    world.command(0, Command::Remove { member: "c".into() });
    world.pass(1000);
    say(&mut world, 2, 1, text("still here"));
    say(&mut world, 0, 1, text("gone"));
    world.pass(1000);
    assert!(heard(&world, 2).is_empty());
    assert_eq!(heard(&world, 1), [("a".to_owned(), text("gone"))]);
    assert!(world.endpoints[2].answers[&1].is_err());
}

#[test]
fn a_message_waits_for_the_room_and_is_refused_where_it_never_can_be_said() {
    let ca = Ca::new("clinic");
    let mut world = World::new();
    let mut settings = World::settings();
    settings.create = Some(policy(
        &ca,
        r#"{ "claim": "recorded", "retention_days": 3,
             "admit": [{ "role": "participant", "root": "ROOT" }, { "role": "recorder", "root": "ROOT" }],
             "recipients": ["1111111111111111111111111111111111111111111111111111111111111111"] }"#,
    ));
    world.add("a", ca.identity("a", &[Role::Participant]), settings);
    // Before there is anybody else, and before it is in the room.
    let guest = world.place("b", ca.identity("b", &[Role::Participant]), World::settings());
    world.start(guest);
    say(&mut world, guest, 1, text("early"));
    world.pass(5000);
    assert_eq!(heard(&world, 0), [("b".to_owned(), text("early"))]);
    let recorder = world.add("r", ca.identity("r", &[Role::Recorder]), World::settings());
    world.pass(5000);
    assert_eq!(world.state(recorder), State::Ready);
    say(&mut world, recorder, 1, text("a recorder"));
    world.settle();
    assert!(
        world.endpoints[recorder].answers[&1]
            .clone()
            .unwrap_err()
            .contains("recorder")
    );
    say(&mut world, 0, 7, text("heard by the recorder, too"));
    world.settle();
    assert_eq!(heard(&world, recorder).len(), 1);
    say(&mut world, 0, 8, file(MAX_BODY + 1));
    assert!(world.endpoints[0].answers[&8].is_err());
    // Who stops does not leave others waiting.
    world.endpoints[0].answers.clear();
    world.input(guest, Input::Leave);
    say(&mut world, guest, 9, text("late"));
    assert!(world.endpoints[guest].answers[&9].is_err());
}

#[test]
fn under_a_claim_that_is_not_accepted_nothing_is_said() {
    let (mut world, ca) = room_of(&["a", "b"]);
    let mut settings = World::settings();
    settings.accept = gstmls::policy::Claim::Strict;
    let strict = world.add("c", ca.identity("c", &[Role::Participant]), settings);
    world.pass(5000);
    let change = gstmls::policy::PolicyChange::parse(br#"{ "claim": "recorded" }"#).unwrap();
    world.command(
        0,
        Command::SetPolicy {
            policy: Box::new(change),
        },
    );
    world.pass(2000);
    say(&mut world, strict, 1, text("only among us"));
    world.pass(20_000);
    assert!(heard(&world, 0).is_empty());
    assert!(!world.endpoints[strict].answers.contains_key(&1));
    let change = gstmls::policy::PolicyChange::parse(br#"{ "claim": "strict" }"#).unwrap();
    world.command(
        0,
        Command::SetPolicy {
            policy: Box::new(change),
        },
    );
    world.pass(2000);
    assert_eq!(heard(&world, 0), [("c".to_owned(), text("only among us"))]);
}

#[test]
fn the_delivery_sees_neither_name_nor_type_nor_length() {
    let (mut world, _) = room_of(&["a", "b"]);
    let mut lengths = Vec::new();
    for length in [1, 30, 200] {
        say(&mut world, 0, length as u64, file(length));
        world.settle();
        let (_, record) = world
            .log
            .iter()
            .rev()
            .find(|(_, bytes)| matches!(Record::decode(bytes), Ok(Record::Content(_))))
            .unwrap();
        lengths.push(record.len());
    }
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    let log: Vec<u8> = world.log.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    for canary in ["wound.jpg", "image/jpeg", "Dr a", "Dr b"] {
        assert!(
            !log.windows(canary.len()).any(|w| w == canary.as_bytes()),
            "{canary}"
        );
    }
}

#[test]
fn members_learn_each_others_names_and_keep_them_over_a_restart() {
    let (mut world, ca) = room_of(&["a", "b", "c"]);
    let names = |world: &World, index: usize| -> Vec<Option<String>> {
        let status = world.endpoints[index].room.as_ref().unwrap().status();
        status.members.into_iter().map(|member| member.name).collect()
    };
    let all: Vec<_> = ["Dr a", "Dr b", "Dr c"].map(|name| Some(name.to_owned())).into();
    for index in 0..3 {
        assert_eq!(names(&world, index), all, "{index}");
    }
    world.kill(1);
    world.start(1);
    assert_eq!(names(&world, 1), all);
    // One that has none, and another name for the same member after it came back without its state.
    world.add("d", ca.identity("d", &[Role::Participant]), World::settings());
    world.kill(2);
    world.endpoints[2].settings.display_name = Some("Nurse".into());
    world.endpoints[2].disk = Some(MemoryStore::new());
    world.start(2);
    world.pass(20_000);
    let now = [Some("Dr a"), Some("Dr b"), Some("Nurse"), None].map(|name| name.map(str::to_owned));
    for index in 0..4 {
        assert_eq!(names(&world, index), now, "{index}");
    }
}
