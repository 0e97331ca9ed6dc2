use super::*;
use proptest::prelude::*;

fn id() -> impl Strategy<Value = Id> {
    "[!-~]{1,128}".prop_map(|text| Id::new(&text).unwrap())
}

fn text() -> impl Strategy<Value = Text> {
    "\\PC{1,200}".prop_map(|text| Text::lossy(&text))
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn salted() -> impl Strategy<Value = Option<Salted>> {
    prop::option::of(any::<[u8; 48]>().prop_map(Salted))
}

fn claim() -> impl Strategy<Value = Claim> {
    prop::sample::select(vec![
        Claim::Strict,
        Claim::Recorded,
        Claim::Escrow,
        Claim::Unattested,
    ])
}

fn custodians() -> impl Strategy<Value = Option<Custodians>> {
    let some =
        (any::<u32>(), any::<u32>(), digest()).prop_map(|(threshold, shares, fingerprint)| Custodians {
            threshold,
            shares,
            fingerprint,
        });
    prop::option::of(some)
}

fn of_recordings() -> impl Strategy<Value = Event> {
    let cuts = prop::collection::vec(
        (any::<u32>(), any::<u64>()).prop_map(|(track, bytes)| Cut { track, bytes }),
        0..4,
    );
    let recipients = prop::collection::vec(digest(), 0..4);
    prop_oneof![
        (
            id(),
            id(),
            any::<u64>(),
            claim(),
            prop::option::of(digest()),
            salted(),
            recipients,
            custodians(),
            any::<Option<u32>>()
        )
            .prop_map(
                |(recorder, room, epoch, claim, policy, consent, recipients, custodians, retention_days)| {
                    Event::Started {
                        recorder,
                        room,
                        epoch,
                        claim,
                        policy,
                        consent,
                        recipients,
                        custodians,
                        retention_days,
                    }
                }
            ),
        (salted(), any::<Option<u64>>()).prop_map(|(reference, until)| Event::Consent {
            reference,
            status: ConsentStatus::OutsidePeriod,
            until
        }),
        (any::<u32>(), id(), any::<Option<u32>>()).prop_map(|(track, sender, leaf)| Event::TrackOpened {
            track,
            medium: Medium::Video,
            sender,
            leaf
        }),
        (any::<u32>(), any::<[u64; 3]>(), id()).prop_map(|(track, [from_ns, to_ns, frames], cause)| {
            Event::Gap {
                track,
                from_ns,
                to_ns,
                frames,
                cause,
            }
        }),
        (
            any::<u64>(),
            any::<bool>(),
            claim(),
            digest(),
            any::<Option<u32>>()
        )
            .prop_map(|(epoch, on, claim, policy, members)| Event::Epoch {
                epoch,
                on,
                claim,
                policy,
                members
            }),
        (id(), digest(), any::<u64>()).prop_map(|(recorder, certificate, epoch)| Event::RecorderIn {
            recorder,
            certificate,
            epoch
        }),
        (id(), any::<u64>()).prop_map(|(recorder, epoch)| Event::RecorderOut { recorder, epoch }),
        (any::<u64>(), digest()).prop_map(|(lines, root)| Event::Manifest { lines, root }),
        id().prop_map(|cause| Event::Paused { cause }),
        any::<u64>().prop_map(|epoch| Event::Resumed { epoch }),
        (id(), any::<u64>(), digest()).prop_map(|(cause, lines, root)| Event::Stopped { cause, lines, root }),
        (id(), text()).prop_map(|(cause, reason)| Event::Failed { cause, reason }),
        (any::<u64>(), digest(), any::<u64>(), cuts).prop_map(|(lines, root, at_ns, cuts)| {
            Event::Recovered {
                lines,
                root,
                at_ns,
                cuts,
            }
        }),
        any::<i64>().prop_map(|by_ms| Event::ClockJump { by_ms }),
        (any::<u64>(), any::<u64>(), digest()).prop_map(|(offset, bytes, sha256)| Event::LogRecovered {
            offset,
            bytes,
            sha256
        }),
    ]
}

fn of_accesses() -> impl Strategy<Value = Event> {
    let recipients = prop::collection::vec(digest(), 0..4);
    prop_oneof![
        ([id(), id(), id(), id()], text(), text(), any::<u64>()).prop_map(
            |([access, requester, recipient, station], reason, ticket, expires)| Event::AccessRequested {
                access,
                requester,
                recipient,
                station,
                reason,
                ticket,
                expires
            }
        ),
        (id(), id(), any::<u32>()).prop_map(|(access, custodian, share)| Event::AccessApproved {
            access,
            custodian,
            share
        }),
        (id(), id(), text()).prop_map(|(access, by, reason)| Event::AccessDenied { access, by, reason }),
        (id(), id(), text(), prop::option::of(text()), any::<Vec<u32>>()).prop_map(
            |(access, reader, reason, ticket, tracks)| Event::AccessOpened {
                access,
                reader,
                way: Way::BreakGlass,
                reason,
                ticket,
                tracks
            }
        ),
        (id(), any::<u64>()).prop_map(|(access, members)| Event::AccessEnded { access, members }),
        (
            (id(), id(), id(), digest(), any::<u64>(), text()),
            (prop::option::of(id()), prop::option::of(id()))
        )
            .prop_map(
                |((access, by, format, sha256, bytes, destination), (recipient, purpose))| {
                    Event::Exported {
                        access,
                        by,
                        format,
                        sha256,
                        bytes,
                        destination,
                        recipient,
                        purpose,
                    }
                }
            ),
        (id(), digest()).prop_map(|(by, sha256)| Event::Reported { by, sha256 }),
        (
            id(),
            any::<u32>(),
            digest(),
            recipients,
            custodians(),
            text(),
            text()
        )
            .prop_map(
                |(by, number, statement, recipients, custodians, reason, ticket)| Event::Rewrapped {
                    by,
                    number,
                    statement,
                    recipients,
                    custodians,
                    reason,
                    ticket,
                }
            ),
        (id(), id(), any::<bool>(), text()).prop_map(|(access, by, passed, result)| Event::Drill {
            access,
            by,
            passed,
            result
        }),
    ]
}

fn of_keeping() -> impl Strategy<Value = Event> {
    prop_oneof![
        (id(), text(), text()).prop_map(|(by, reason, ticket)| Event::HoldPlaced { by, reason, ticket }),
        (id(), text(), text()).prop_map(|(by, reason, ticket)| Event::HoldReleased { by, reason, ticket }),
        (id(), any::<u64>(), text(), text()).prop_map(|(by, due, reason, ticket)| Event::DeletionDecided {
            by,
            due,
            reason,
            ticket
        }),
        (id(), text(), text()).prop_map(|(by, reason, ticket)| Event::DeletionRefused {
            by,
            cause: Obstacle::Hold,
            reason,
            ticket
        }),
        (id(), any::<u64>()).prop_map(|(by, files)| Event::Shredded { by, files }),
        (id(), any::<u64>(), any::<u64>()).prop_map(|(by, files, bytes)| Event::Deleted { by, files, bytes }),
    ]
}

/// Any entry.
pub(crate) fn entries() -> impl Strategy<Value = Entry> {
    let recording = prop::option::of(any::<[u8; 16]>().prop_map(RecordingId::from_bytes));
    let event = prop_oneof![of_recordings(), of_accesses(), of_keeping()];
    (any::<u64>(), recording, event).prop_map(|(time, recording, event)| Entry {
        time,
        recording,
        event,
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read(entry in entries()) {
        let bytes = entry.encode().unwrap();
        prop_assert_eq!(Entry::decode(&bytes).unwrap(), entry);
    }

    #[test]
    fn the_kind_is_the_word_in_the_json(entry in entries()) {
        let json: serde_json::Value = serde_json::from_slice(&entry.encode().unwrap()).unwrap();
        let words: Vec<_> = json["event"].as_object().unwrap().keys().collect();
        prop_assert_eq!(words, [entry.event.kind()]);
    }

    #[test]
    fn a_change_of_a_byte_is_another_entry_or_none(entry in entries(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let mut bytes = entry.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Entry::decode(&bytes) != Ok(entry.clone()));
        prop_assert!(Entry::decode(&bytes[..at]).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Entry::decode(&bytes).is_err());
    }
}

const OPENED: &str = r#"{"time":1700000000123,"recording":"00112233445566778899aabbccddeeff","event":{"access-opened":{"access":"a1","reader":"dr-weber","way":"recipient","reason":"complaint","ticket":"C-17","tracks":[]}}}"#;

#[test]
fn an_entry_reads_like_this() {
    let entry = Entry {
        time: 1_700_000_000_123,
        recording: Some("00112233445566778899aabbccddeeff".parse().unwrap()),
        event: Event::AccessOpened {
            access: Id::new("a1").unwrap(),
            reader: Id::new("dr-weber").unwrap(),
            way: Way::Recipient,
            reason: Text::new("complaint").unwrap(),
            ticket: Some(Text::new("C-17").unwrap()),
            tracks: Vec::new(),
        },
    };
    assert_eq!(String::from_utf8(entry.encode().unwrap()).unwrap(), OPENED);
}

#[test]
fn the_same_in_another_form_is_refused() {
    assert!(Entry::decode(OPENED.as_bytes()).is_ok());
    let other = |from: &str, to: &str| {
        assert!(OPENED.contains(from), "{from}");
        Entry::decode(OPENED.replacen(from, to, 1).as_bytes())
    };
    for (from, to) in [
        (",", ", "),
        ("}}}", "}}} "),
        ("1700000000123", "1700000000123.0"),
        ("1700000000123", "1.700000000123e12"),
        ("\"complaint\"", "\"compl\\u0061int\""),
        (
            "\"access\":\"a1\",\"reader\":\"dr-weber\"",
            "\"reader\":\"dr-weber\",\"access\":\"a1\"",
        ),
        (",\"tracks\":[]", ""),
        (
            "\"recording\":\"00112233445566778899aabbccddeeff\"",
            "\"recording\":null",
        ),
        ("aabb", "AABB"),
    ] {
        assert!(other(from, to).is_err(), "{from} -> {to}");
    }
    // Left out is the form of none, and only that.
    assert!(other(",\"ticket\":\"C-17\"", "").is_ok());
    assert_eq!(other("\"C-17\"", "null"), Err(EntryError::OtherForm));
}

#[test]
fn what_is_not_known_is_refused() {
    for (from, to) in [
        ("\"time\"", "\"tim\""),
        ("\"event\":", "\"more\":1,\"event\":"),
        ("\"access\":", "\"more\":1,\"access\":"),
        ("\"access\":\"a1\"", "\"access\":\"a1\",\"access\":\"a1\""),
        ("access-opened", "access-oponed"),
        ("\"recipient\"", "\"thief\""),
        ("\"complaint\"", "\"\""),
        ("\"complaint\"", "\"com\\nplaint\""),
        ("dr-weber", "dr weber"),
        ("1700000000123", "-1"),
        ("1700000000123", "18446744073709551616"),
    ] {
        assert!(OPENED.contains(from), "{from}");
        let decoded = Entry::decode(OPENED.replacen(from, to, 1).as_bytes());
        assert!(
            matches!(decoded, Err(EntryError::Malformed(_))),
            "{from} -> {to}: {decoded:?}"
        );
    }
}

#[test]
fn an_entry_has_an_end() {
    let entry = Entry {
        time: 0,
        recording: None,
        event: Event::Rewrapped {
            by: Id::new("a").unwrap(),
            number: 1,
            statement: Digest([0; 32]),
            recipients: vec![Digest([0; 32]); 300],
            custodians: None,
            reason: Text::new("r").unwrap(),
            ticket: Text::new("t").unwrap(),
        },
    };
    assert!(matches!(entry.encode(), Err(EntryError::TooLong(_))));
    let bytes = serde_json::to_vec(&entry).unwrap();
    assert!(matches!(Entry::decode(&bytes), Err(EntryError::TooLong(_))));
}

#[test]
fn an_error_quotes_nothing_that_moves_the_cursor() {
    let error = Entry::decode(b"{\"time\":1,\"\xe2\x80\xae\":2}").unwrap_err();
    assert!(!error.to_string().contains('\u{202e}'), "{error}");
}
