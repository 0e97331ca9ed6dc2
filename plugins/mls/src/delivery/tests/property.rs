//! The property `delivery`.

use super::*;

#[test]
fn the_property_says_which_engine() {
    let sqlite = |path: &str| Choice::Sqlite(Some(path.into()));
    for (text, choice) in [
        ("sqlite:", Choice::Sqlite(None)),
        ("sqlite:/run/rooms.sqlite", sqlite("/run/rooms.sqlite")),
        ("sqlite:///run/rooms.sqlite", sqlite("///run/rooms.sqlite")),
        (
            "sqlite:rooms with: colons?mode=memory",
            sqlite("rooms with: colons?mode=memory"),
        ),
        ("app", Choice::App),
    ] {
        assert_eq!(Choice::parse(text).unwrap(), choice, "{text}");
    }
    for (text, says) in [
        ("", "not understood"),
        ("App", "not understood"),
        ("rooms.sqlite", "not understood"),
        ("sqlite", "not understood"),
        ("sqlite:/run/", "not understood"),
        ("sqlite://run/rooms.sqlite", "not understood"),
        ("sqlite:a\0b", "not understood"),
        ("sqlite:~/rooms.sqlite", "whole path"),
        ("nats://", "not understood"),
        ("http://localhost:4222", "not understood"),
    ] {
        let error = Choice::parse(text).unwrap_err();
        assert!(error.to_string().contains(says), "{text}: {error}");
        assert!(!error.is_temporary());
    }
}

#[test]
fn a_nats_address_names_servers_and_a_login() {
    use crate::delivery::nats::redacted;
    for (text, reads) in [
        ("nats://localhost", "nats://localhost:4222"),
        ("nats://10.0.0.1:1", "nats://10.0.0.1:1"),
        ("nats://[::1]:4223/", "nats://[::1]:4223"),
        ("tls://a,b:1,tls://c", "tls://a:4222,b:1,c:4222"),
        ("nats://anna:s3cr3t@a:1,b:2", "nats://***@a:1,b:2"),
        ("nats://s3cr3t@a:1", "nats://***@a:1"),
        (
            "nats://u:s3cr3t%40%2C%2F%25:@a,nats://u:s3cr3t%40%2C%2F%25:@b",
            "nats://***@a:4222,b:4222",
        ),
    ] {
        let Choice::Nats(address) = Choice::parse(text).unwrap() else {
            panic!("{text}");
        };
        assert_eq!(address.to_string(), reads, "{text}");
        assert_eq!(format!("{address:?}"), reads, "{text}");
        assert_eq!(redacted(text), reads, "{text}");
        assert_eq!(address.tls(), text.starts_with("tls"), "{text}");
    }
    for text in [
        "nats://",
        "nats:",
        "nats:s3cr3t@a",
        "nats://anna:s3cr3t@",
        "nats://anna:s3cr3t",
        "nats://anna:s3cr3t@a:0",
        "nats://anna:s3cr3t@a:65536",
        "nats://anna:s3cr3t@a/room",
        "nats://anna:s3cr3t@a?replicas=3",
        "nats://anna:s3@cr3t@a",
        "nats://anna:s3,cr3t@a",
        "nats://anna:s3/cr3t@a",
        "nats://anna:s3cr3t%4@a",
        "nats://anna:s3cr3t%zz@a",
        "nats://anna:s3cr3t%ff@a",
        "nats://:s3cr3t@a",
        "nats://@a",
        "nats://anna:s3cr3t@a,tls://b",
        "nats://anna:s3cr3t@a,nats://ben:s3cr3t@b",
        "nats://anna:s3cr3t@a,ws://b",
        "natss://anna:s3cr3t@a",
        "s3cr3t@a",
        "http://s3cr3t@a://b",
    ] {
        let error = Choice::parse(text).unwrap_err().to_string();
        assert!(error.contains("not understood"), "{text}: {error}");
        for shown in [error, redacted(text)] {
            assert!(
                !shown.contains("s3") && !shown.contains("cr3t"),
                "{text}: {shown}"
            );
        }
    }
    // A path is no secret.
    assert_eq!(redacted("sqlite:/home/a@b/rooms"), "sqlite:/home/a@b/rooms");
}
