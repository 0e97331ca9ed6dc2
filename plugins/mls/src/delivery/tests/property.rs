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
        ("nats://localhost:4222", "does not speak NATS"),
    ] {
        let error = Choice::parse(text).unwrap_err();
        assert!(error.to_string().contains(says), "{text}: {error}");
        assert!(!error.is_temporary());
    }
}
