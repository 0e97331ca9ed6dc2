//! What only a NATS server can get wrong.

use super::server::Server;
use super::*;
use crate::delivery::nats::{Address, Files, KEPT, NatsDelivery, NatsError};
use serde_json::json;

fn open(url: &str, room: &str) -> Result<NatsDelivery, NatsError> {
    NatsDelivery::open(&Address::parse(url)?, &Files::default(), 1, room)
}

/// A server, and a reader of a room on it.
fn log() -> (Server, Reader) {
    let server = Server::start();
    let reader = Reader::new(Box::new(open(&server.url(), "room").unwrap()));
    (server, reader)
}

fn nats_error(error: DeliveryError) -> NatsError {
    match error {
        DeliveryError::Nats(error) => error,
        error => panic!("{error}"),
    }
}

/// Reads until it fails.
fn failure(reader: &mut Reader) -> NatsError {
    loop {
        let heard = reader.ear.woken();
        match reader.delivery.read(reader.last(), 7) {
            Ok(entries) if entries.is_empty() => drop(reader.ear.wait_beyond(heard)),
            Ok(entries) => reader.seen.extend(entries),
            Err(error) => return nats_error(error),
        }
    }
}

#[test]
fn rooms_of_one_server_do_not_see_each_other_and_are_not_named_on_it() {
    let server = Server::start();
    let names = ["consultation of Mrs Example", "consultation of Mr Example", ""];
    let mut deliveries = names.map(|name| open(&server.url(), name).unwrap());
    for delivery in &mut deliveries {
        let created = delivery.append_commit(0, &create()).unwrap();
        assert_eq!(created, Appended::Accepted(1));
        let appended = delivery.append("message", &message("sealed elsewhere")).unwrap();
        assert_eq!(appended, Appended::Accepted(2));
    }
    for delivery in &mut deliveries {
        assert_eq!(delivery.read(0, 10).unwrap().len(), 2);
        assert_eq!(delivery.last_commit().unwrap(), 1);
    }
    assert!(
        server.has_stored("sealed elsewhere"),
        "it is not looked for where it is"
    );
    for name in ["consultation", "Example"] {
        assert!(!server.has_stored(name), "{name}");
    }
}

#[test]
fn who_comes_later_finds_the_same_log() {
    let (server, mut reader) = log();
    reader.delivery.append_commit(0, &create()).unwrap();
    let again = open(&server.url(), "room").unwrap();
    assert_eq!(again.log(), reader.delivery.log());
    assert_ne!(open(&server.url(), "another").unwrap().log(), again.log());
    // All at the same time, before there is any.
    let logs = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| open(&server.url(), "new").unwrap().log()))
            .collect();
        let logs = threads.into_iter().map(|thread| thread.join().unwrap());
        logs.collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(logs.len(), 1);
    assert_eq!(server.streams().len(), 3);
}

#[test]
fn a_commit_that_comes_twice_from_one_endpoint_stands_once_and_others_keep_their_own() {
    let (server, mut one) = log();
    let mut other = open(&server.url(), "room").unwrap();
    assert_eq!(
        one.delivery.append_commit(0, &create()).unwrap(),
        Appended::Accepted(1)
    );
    // As after an answer that got lost.
    assert_eq!(
        one.delivery.append_commit(0, &create()).unwrap(),
        Appended::Accepted(1)
    );
    assert_eq!(other.append_commit(0, &create()).unwrap(), Appended::Moved);
    assert_eq!(
        other.append_commit(1, &commit("b")).unwrap(),
        Appended::Accepted(2)
    );
    assert_eq!(
        one.delivery.append_commit(1, &commit("b")).unwrap(),
        Appended::Moved
    );
    for sequence in 3..=4 {
        let asked = Record::GroupInfoRequest.encode();
        let appended = one.delivery.append("group-info-request", &asked).unwrap();
        assert_eq!(
            appended,
            Appended::Accepted(sequence),
            "what is no commit may be said twice"
        );
    }
    one.read_until(|reader| reader.seen.len() == 4);
}

#[test]
fn what_has_no_more_use_is_purged_and_no_commit_ever() {
    let (_server, mut reader) = log();
    let delivery = &mut reader.delivery;
    let kept = KEPT[0].1;
    assert_eq!(KEPT[0].0, "message");
    let mut commits = Vec::new();
    let (mut last, mut sequence) = (0, 0);
    while sequence < 3 * kept {
        if sequence % 100 == 0 {
            let Appended::Accepted(accepted) = delivery.append_commit(last, &commit("c")).unwrap() else {
                panic!("moved");
            };
            commits.push(accepted);
            last = accepted;
            delivery
                .append("proposal", &Record::Proposal(vec![1]).encode())
                .unwrap();
        }
        let Appended::Accepted(accepted) = delivery.append("message", &message("alive")).unwrap() else {
            panic!("not accepted");
        };
        sequence = accepted;
    }
    let records = |delivery: &mut dyn Delivery| {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let entries = delivery.read(after, 50).unwrap();
            let Some(last) = entries.last() else { return all };
            after = last.sequence;
            all.extend(entries);
        }
    };
    let of = |all: &[Entry], wanted: &str| -> Vec<u64> {
        let is = |entry: &&Entry| Record::decode(&entry.bytes).unwrap().kind() == wanted;
        all.iter().filter(is).map(|entry| entry.sequence).collect()
    };
    // The last purge is on its way when the append that caused it is done.
    let end = std::time::Instant::now() + LIMIT;
    let all = loop {
        let all = records(&mut **delivery);
        if u64::try_from(of(&all, "message").len()).unwrap() < kept + 64 {
            break all;
        }
        assert!(std::time::Instant::now() < end, "{} records", all.len());
    };
    assert!(u64::try_from(of(&all, "message").len()).unwrap() >= kept);
    assert_eq!(of(&all, "commit"), commits);
    assert_eq!(of(&all, "proposal").len(), commits.len());
    assert!(all.is_sorted_by_key(|entry| entry.sequence));
    // Who was somewhere in what is gone goes on behind it.
    assert!(delivery.read(150, 1).unwrap()[0].sequence > 150);
    assert_eq!(delivery.last_commit().unwrap(), last);
}

#[test]
fn a_log_that_is_deleted_wakes_its_readers_with_an_error_and_a_new_one_is_another() {
    for made_anew in [false, true] {
        let (server, mut reader) = log();
        reader.delivery.append_commit(0, &create()).unwrap();
        reader.read_until(|reader| reader.seen.len() == 1);
        let stream = server.streams().remove(0);
        let deleted = server
            .stranger()
            .ask(&format!("$JS.API.STREAM.DELETE.{stream}"), "");
        assert_eq!(deleted["success"], true);
        let another = made_anew.then(|| {
            let mut another = open(&server.url(), "room").unwrap();
            for after in 0..3 {
                another.append_commit(after, &commit("of another log")).unwrap();
            }
            another
        });
        let error = failure(&mut reader);
        assert!(
            matches!(error, NatsError::Gone { .. }) && !error.is_temporary(),
            "{error}"
        );
        assert_eq!(reader.seen.len(), 1, "reads what is of another log");
        for error in [
            reader.delivery.append("message", &message("hello")).unwrap_err(),
            reader.delivery.append_commit(1, &commit("a")).unwrap_err(),
        ] {
            let error = nats_error(error);
            assert!(matches!(error, NatsError::Gone { .. }), "{error}");
        }
        if let Some(mut another) = another {
            assert_ne!(another.log(), reader.delivery.log());
            assert_eq!(
                another.read(0, 10).unwrap().len(),
                3,
                "nothing got in from the old one"
            );
        }
    }
}

#[test]
fn a_stream_that_would_lose_commits_is_refused() {
    let (server, reader) = log();
    drop(reader);
    let stream = server.streams().remove(0);
    let mut stranger = server.stranger();
    let info = stranger.ask(&format!("$JS.API.STREAM.INFO.{stream}"), "");
    for (change, says) in [
        (json!({ "max_age": 3_600_000_000_000u64 }), "discards"),
        (json!({ "max_msgs_per_subject": 100 }), "discards"),
        (json!({ "max_bytes": 1_000_000, "discard": "old" }), "discards"),
        (json!({ "max_bytes": 10_000_000 }), ""),
    ] {
        let mut config = info["config"].clone();
        for (name, value) in change.as_object().unwrap() {
            config[name] = value.clone();
        }
        let updated = stranger.ask(&format!("$JS.API.STREAM.UPDATE.{stream}"), &config.to_string());
        assert!(updated["error"].is_null(), "{change}: {updated}");
        match open(&server.url(), "room") {
            Ok(_) => assert_eq!(says, "", "{change}"),
            Err(error) => {
                assert!(matches!(error, NatsError::Changed { .. }), "{error}");
                assert!(
                    !says.is_empty() && error.to_string().contains(says),
                    "{change}: {error}"
                );
            }
        }
    }
    // One that somebody else made under this name.
    let config = json!({ "name": stream, "subjects": info["config"]["subjects"], "storage": "file" });
    assert_eq!(
        stranger.ask(&format!("$JS.API.STREAM.DELETE.{stream}"), "")["success"],
        true
    );
    let made = stranger.ask(&format!("$JS.API.STREAM.CREATE.{stream}"), &config.to_string());
    assert!(made["error"].is_null(), "{made}");
    let error = open(&server.url(), "room").err().unwrap();
    assert!(error.to_string().contains("republish"), "{error}");
}

#[test]
fn a_full_server_refuses_what_is_new_and_loses_nothing() {
    let server = Server::with(
        "max_payload: 5MB\njetstream { store_dir: \"FOLDER/store\", max_file: 3MB, max_mem: 1MB }",
    );
    let mut delivery = open(&server.url(), "room").unwrap();
    let big = Record::Message(vec![7; 500_000]).encode();
    let mut appended = 0;
    let error = loop {
        match delivery.append("message", &big) {
            Ok(_) => appended += 1,
            Err(error) => break nats_error(error),
        }
        assert!(appended < 100);
    };
    assert!(
        matches!(error, NatsError::Full { .. }) && error.is_temporary(),
        "{error}"
    );
    assert!(appended > 2);
    assert_eq!(delivery.read(0, 100).unwrap().len(), appended);
}

#[test]
fn a_record_that_the_server_does_not_take_says_what_to_raise() {
    let server = Server::with("max_payload: 64KB");
    let mut delivery = open(&server.url(), "room").unwrap();
    let welcome = Record::Message(vec![1; 65_536]).encode();
    for appended in [
        delivery.append("message", &welcome),
        delivery.append_commit(0, &welcome),
    ] {
        let error = nats_error(appended.unwrap_err());
        assert!(matches!(error, NatsError::TooBig { most: 65_536, .. }), "{error}");
        assert!(
            error.to_string().contains("max_payload") && !error.is_temporary(),
            "{error}"
        );
    }
    // What fits in does.
    delivery
        .append("message", &Record::Message(vec![1; 65_000]).encode())
        .unwrap();
    assert_eq!(delivery.read(0, 10).unwrap().len(), 1);
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_a_temporary_error_and_nothing_is_lost() {
    let (mut server, mut reader) = log();
    let mut writer = open(&server.url(), "room").unwrap();
    let mut last = 0;
    for round in 0..3 {
        let Appended::Accepted(accepted) = writer.append_commit(last, &commit("stands")).unwrap() else {
            panic!("moved");
        };
        last = accepted;
        reader.read_until(|reader| reader.last() == last);
        server.kill();
        let error = failure(&mut reader);
        assert!(error.is_temporary(), "{error}");
        for error in [
            writer.append("message", &message("lost")).unwrap_err(),
            writer.append_commit(last, &commit("lost")).unwrap_err(),
            writer.last_commit().unwrap_err(),
        ] {
            assert!(error.is_temporary(), "{error}");
        }
        let heard = reader.ear.woken();
        server.start_again();
        // Its coming back is told.
        reader.ear.wait_beyond(heard);
        let end = std::time::Instant::now() + LIMIT;
        while let Err(error) = writer.append("message", &message(&format!("{round}"))) {
            assert!(error.is_temporary() && std::time::Instant::now() < end, "{error}");
        }
        while let Err(error) = reader.delivery.read(reader.last(), 10) {
            assert!(error.is_temporary() && std::time::Instant::now() < end, "{error}");
        }
        reader.read_until(|reader| reader.seen.len() == 2 * (round + 1));
    }
    assert_eq!(reader.commits().len(), 3);
}

#[test]
fn a_server_that_lost_the_end_of_its_log_is_found_out() {
    let (mut server, mut reader) = log();
    for text in ["a", "b"] {
        reader.delivery.append("message", &message(text)).unwrap();
    }
    reader.read();
    server.kill();
    // As after a loss of power: what was written last is not on the disk.
    let store = server.folder().join("store");
    std::fs::remove_dir_all(&store).unwrap();
    server.start_again();
    let end = std::time::Instant::now() + LIMIT;
    let error = loop {
        match reader.delivery.read(reader.last(), 10) {
            Err(error) if error.is_temporary() => assert!(std::time::Instant::now() < end, "{error}"),
            Err(error) => break error,
            Ok(entries) => panic!("{entries:?}"),
        }
    };
    assert!(matches!(nats_error(error), NatsError::Gone { .. }));
}
