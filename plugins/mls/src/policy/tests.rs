use proptest::prelude::*;

use super::fixtures::*;
use super::*;

fn field_of(error: PolicyError) -> String {
    match error {
        PolicyError::Field { field, .. } => field,
        other => panic!("{other}"),
    }
}

/// One line for each bound: what is done to which good policy, and the field that is named (none: still good).
#[test]
fn a_policy_stays_in_its_bounds_and_does_not_contradict_itself() {
    type Spoil = fn(&mut Policy);
    type Line = (fn() -> Policy, Spoil, Option<&'static str>);
    let table: &[Line] = &[
        (strict, |_| (), None),
        (recorded, |_| (), None),
        (escrow, |_| (), None),
        (strict, |p| p.version = 2, Some("version")),
        (strict, |p| p.roots.clear(), Some("roots")),
        (strict, |p| p.roots = (0..17).map(fp).collect(), Some("roots")),
        (strict, |p| p.admit.clear(), None),
        (
            strict,
            |p| p.admit.push(any_of(Role::Recorder, ROOT)),
            Some("admit"),
        ),
        (
            strict,
            |p| p.admit.push(only(Role::Recorder, fp(1))),
            Some("admit"),
        ),
        (
            strict,
            |p| p.admit.push(any_of(Role::Participant, OTHER_ROOT)),
            Some("admit"),
        ),
        (strict, |p| p.recording = true, Some("recording")),
        (strict, |p| p.recipients.push(fp(1)), Some("recipients")),
        (strict, |p| p.escrow = escrow().escrow, Some("escrow")),
        (recorded, |p| p.recording = true, None),
        (recorded, |p| p.recipients.clear(), None),
        (recorded, |p| p.escrow = escrow().escrow, Some("escrow")),
        (escrow, |p| p.escrow = None, Some("escrow")),
        (escrow, |p| p.recipients.push(fp(1)), Some("recipients")),
        (escrow, |p| with_escrow(p, 0, 3), Some("escrow")),
        (escrow, |p| with_escrow(p, 4, 3), Some("escrow")),
        (escrow, |p| with_escrow(p, 1, 1), None),
        (escrow, |p| with_escrow(p, 255, 255), None),
        (escrow, |p| with_escrow(p, 2, 256), Some("escrow")),
        (recorded, |p| p.consent = None, None),
        (recorded, |p| p.consent = Some("c0".repeat(31)), Some("consent")),
        (recorded, |p| p.consent = Some("c0".repeat(65)), Some("consent")),
        (recorded, |p| p.consent = Some("C0".repeat(32)), Some("consent")),
        (recorded, |p| p.consent = Some("x0".repeat(32)), Some("consent")),
        (recorded, |p| p.retention_days = None, None),
        (recorded, |p| p.retention_days = Some(0), Some("retention_days")),
        (
            recorded,
            |p| p.retention_days = Some(36_526),
            Some("retention_days"),
        ),
        (recorded, |p| p.epoch_bits = 8, None),
        (recorded, |p| p.epoch_bits = 0, Some("epoch_bits")),
        (recorded, |p| p.epoch_bits = 9, Some("epoch_bits")),
        (recorded, |p| p.sframe_suite = 5, None),
        (recorded, |p| p.sframe_suite = 0, Some("sframe_suite")),
        (recorded, |p| p.sframe_suite = 6, Some("sframe_suite")),
        (
            recorded,
            |p| p.recipients = vec![fp(2), fp(1)],
            Some("recipients"),
        ),
        (
            recorded,
            |p| p.recipients = vec![fp(1), fp(1)],
            Some("recipients"),
        ),
        (recorded, |p| p.deny = vec![fp(2), fp(1)], Some("deny")),
        (recorded, |p| p.admit.reverse(), Some("admit")),
        (recorded, |p| p.roots = vec![ROOT, ROOT], Some("roots")),
        (recorded, |p| p.rights.add = holders(&[]), None),
        (recorded, |p| p.rights.add = Right::Participants, None),
        (recorded, |p| p.rights.add = holders(&["b", "a"]), Some("rights")),
        (recorded, |p| p.rights.add = holders(&[""]), Some("rights.add")),
        (
            recorded,
            |p| p.rights.policy = holders(&["a\nb"]),
            Some("rights.policy"),
        ),
        (
            recorded,
            |p| p.rights.remove = bare("anna", None),
            Some("rights.remove"),
        ),
        (
            recorded,
            |p| p.rights.remove = bare("anna", Some(OTHER_ROOT)),
            Some("rights.remove"),
        ),
    ];
    for (line, (base, spoil, expected)) in table.iter().enumerate() {
        let mut policy = base();
        spoil(&mut policy);
        let found = policy.validate().err().map(field_of);
        assert_eq!(found.as_deref(), *expected, "line {line}");
        assert_eq!(
            Policy::decode(&policy.encode()).is_ok(),
            expected.is_none(),
            "line {line}"
        );
    }
}

fn with_escrow(policy: &mut Policy, m: u16, n: u16) {
    policy.escrow = Some(Escrow {
        fingerprint: fp(9),
        m,
        n,
    });
}

fn bare(subject: &str, root: Option<Fingerprint>) -> Right {
    Right::Holders(vec![Holder::Subject {
        root,
        subject: subject.to_owned(),
    }])
}

#[test]
fn a_policy_of_more_than_64_kib_is_refused() {
    let mut policy = recorded();
    policy.deny = (0..1000u32).map(|n| Fingerprint::of(&n.to_be_bytes())).collect();
    policy.normalise();
    assert_eq!(policy.validate(), Err(PolicyError::TooLong));
    assert_eq!(Policy::decode(&policy.encode()), Err(PolicyError::TooLong));
    policy.deny.truncate(900);
    assert_eq!(policy.validate(), Ok(()));
}

#[test]
fn a_room_is_recognised_by_its_name() {
    let tag = RoomTag::new("ward 7", [1; 16]);
    assert!(tag.is_of("ward 7"));
    assert!(!tag.is_of("ward 8"));
    assert_ne!(tag.digest, RoomTag::new("ward 7", [2; 16]).digest);
}

/// Each line: bytes that say the same policy in another way, or nearly so.
#[test]
fn only_the_canonical_form_is_read() {
    let text = String::from_utf8(recorded().encode()).unwrap();
    assert_eq!(Policy::decode(text.as_bytes()), Ok(recorded()));
    for (from, to) in [
        ("{\"version\":1", "{ \"version\":1"),
        ("\"epoch_bits\":4", "\"epoch_bits\":04"),
        ("\"epoch_bits\":4", "\"epoch_bits\":4.0"),
        ("\"epoch_bits\":4,", ""),
        ("\"epoch_bits\":4,", "\"epoch_bits\":4,\"epoch_bits\":4,"),
        ("\"epoch_bits\":4,", "\"epoch_bits\":4,\"more\":0,"),
        ("\"escrow\":null,", ""),
        ("\"claim\":\"recorded\"", "\"claim\":\"Recorded\""),
        ("\"claim\":\"recorded\"", "\"claim\":\"recorde\\u0064\""),
        ("\"salt\":\"0707", "\"salt\":\"070"),
        ("\"root\":\"a0", "\"root\":\"A0"),
        ("\"subject\":\"anna\"", "\"subject\":\"anna\",\"more\":0"),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{from} is not in it");
        assert!(Policy::decode(other.as_bytes()).is_err(), "{to}");
    }
    for cut in 0..text.len() {
        assert!(Policy::decode(&text.as_bytes()[..cut]).is_err());
    }
    assert!(Policy::decode(format!("{text} ").as_bytes()).is_err());
    assert!(Policy::decode("[".repeat(60_000).as_bytes()).is_err());
}

#[test]
fn a_file_needs_to_say_only_who_is_admitted() {
    let file =
        PolicyFile::parse(format!(r#"{{"admit":[{{"role":"participant","root":"{ROOT}"}}]}}"#).as_bytes());
    let policy = file
        .unwrap()
        .into_policy(RoomTag::new("ward 7", [7; 16]), &participant("anna"), &[ROOT]);
    let policy = policy.unwrap();
    assert_eq!(policy.claim, Claim::Strict);
    assert_eq!(policy.admit, [any_of(Role::Participant, ROOT)]);
    assert_eq!(policy.roots, [ROOT]);
    assert_eq!((policy.epoch_bits, policy.sframe_suite), (4, 4));
    assert!(!policy.recording);
    for act in Act::ALL {
        assert!(policy.allows(act, &participant("anna")));
        assert_eq!(policy.allows(act, &participant("bert")), act == Act::Add);
    }
}

#[test]
fn subject_ids_in_a_file_get_the_rooms_only_root_and_are_refused_where_there_are_two() {
    let parse = |roots: &str| {
        let text = format!(
            r#"{{"admit":[],"roots":[{roots}],"rights":{{"remove":"participants","policy":["bert","anna","{}"]}}}}"#,
            fp(3)
        );
        PolicyFile::parse(text.as_bytes()).unwrap().into_policy(
            RoomTag::new("x", [0; 16]),
            &participant("anna"),
            &[ROOT],
        )
    };
    let policy = parse(&format!("\"{ROOT}\"")).unwrap();
    assert_eq!(policy.rights.remove, Right::Participants);
    assert_eq!(
        policy.rights.policy,
        Right::Holders(vec![Holder::Certificate(fp(3)), holder("anna"), holder("bert")])
    );
    let two = parse(&format!("\"{ROOT}\",\"{OTHER_ROOT}\""));
    assert_eq!(field_of(two.unwrap_err()), "rights.policy");
}

/// Each line: a file with a fault, and what the error must name.
#[test]
fn a_faulty_file_is_refused_by_the_name_of_its_field() {
    for (text, named) in [
        (r#"{"admit":[],"claims":"strict"}"#, "claims"),
        (r#"{"admit":[],"claim":"weak"}"#, "claim"),
        (r#"{"admit":[],"claim":"strict","claim":"strict"}"#, "claim"),
        (r#"{"admit":[],"version":1}"#, "version"),
        (r#"{"admit":[],"room":{}}"#, "room"),
        (r#"{"admit":{}}"#, "admit"),
        (r#"{"admit":[{"role":"participant"}]}"#, "admit"),
        (r#"{"admit":[{"role":"nurse","root":"00"}]}"#, "admit"),
        (r#"{"admit":[],"epoch_bits":300}"#, "epoch_bits"),
        (r#"{"admit":[],"epoch_bits":9}"#, "epoch_bits"),
        (r#"{"admit":[],"rights":{"adds":"participants"}}"#, "rights"),
        (r#"{"admit":[],"rights":{"add":"everybody"}}"#, "rights"),
        (r#"{"admit":[],"rights":{"add":[7]}}"#, "rights"),
        (r#"{"admit":[],"recipients":["c3"]}"#, "recipients"),
        (r#"{"admit":[],"escrow":{"m":1,"n":2}}"#, "escrow"),
        (r#"{"admit":[],"retention_days":-1}"#, "retention_days"),
        (r#"{"admit":[],"recording":"on"}"#, "recording"),
        (r#"{"claim":"strict"}"#, "admit"),
        (r#"{"admit":[]"#, "line 1"),
        ("", "line 1"),
    ] {
        let policy = PolicyFile::parse(text.as_bytes())
            .and_then(|file| file.into_policy(RoomTag::new("x", [0; 16]), &participant("anna"), &[ROOT]));
        let error = policy.unwrap_err().to_string();
        assert!(error.contains(named), "{text}: {error}");
    }
    assert_eq!(
        PolicyFile::parse(&vec![b' '; MAX_ENCODED + 1]),
        Err(PolicyError::TooLong)
    );
}

#[test]
fn an_admission_names_a_certificate_or_a_root_and_never_both() {
    let (a, b) = (fp(1), ROOT);
    for (text, good) in [
        (format!(r#"{{"role":"participant","fingerprint":"{a}"}}"#), true),
        (format!(r#"{{"role":"participant","root":"{b}"}}"#), true),
        (
            format!(r#"{{"role":"recorder","root":"{b}","subject":"rex"}}"#),
            true,
        ),
        (
            format!(r#"{{"role":"participant","root":"{b}","fingerprint":"{a}"}}"#),
            false,
        ),
        (
            format!(r#"{{"role":"participant","fingerprint":"{a}","subject":"rex"}}"#),
            false,
        ),
        (r#"{"role":"participant","subject":"rex"}"#.to_owned(), false),
        (format!(r#"{{"root":"{b}"}}"#), false),
        (
            format!(r#"{{"role":"participant","root":"{b}","until":7}}"#),
            false,
        ),
    ] {
        assert_eq!(serde_json::from_str::<Admission>(&text).is_ok(), good, "{text}");
    }
}

/// One line for each way to be admitted.
#[test]
fn an_admission_is_for_whom_it_names() {
    let rex = recorder("rex");
    let anna = participant("anna");
    let elsewhere = Identity {
        root: OTHER_ROOT,
        ..anna.clone()
    };
    let subject = |root, subject: &str| Who::Root {
        root,
        subject: Some(subject.to_owned()),
    };
    for (who, identity, expected) in [
        (Who::Certificate(anna.fingerprint), &anna, true),
        (Who::Certificate(anna.fingerprint), &rex, false),
        (Who::Certificate(ROOT), &anna, false),
        (any_of(Role::Participant, ROOT).who, &anna, true),
        (any_of(Role::Participant, ROOT).who, &elsewhere, false),
        (subject(ROOT, "anna"), &anna, true),
        (subject(ROOT, "anna"), &elsewhere, false),
        (subject(ROOT, "anna"), &rex, false),
    ] {
        assert_eq!(who.is(identity), expected, "{who:?} {identity:?}");
    }
}

/// One line for each way to hold a right.
#[test]
fn a_right_is_held_by_whom_it_names_and_never_by_a_mere_recorder() {
    let both = identity("both", &[Role::Participant, Role::Recorder]);
    let anna = participant("anna");
    let elsewhere = Identity {
        root: OTHER_ROOT,
        ..anna.clone()
    };
    // A name that looks like somebody's fingerprint.
    let sly = participant(&anna.fingerprint.to_string());
    let certificate = Right::Holders(vec![Holder::Certificate(anna.fingerprint)]);
    for (right, identity, expected) in [
        (Right::Participants, &anna, true),
        (Right::Participants, &both, true),
        (Right::Participants, &recorder("rex"), false),
        (holders(&["rex"]), &recorder("rex"), false),
        (holders(&[]), &anna, false),
        (holders(&["anna"]), &anna, true),
        (holders(&["anna"]), &elsewhere, false),
        (holders(&["anna"]), &renewed(&anna, 5), true),
        (certificate.clone(), &anna, true),
        (certificate.clone(), &renewed(&anna, 5), false),
        (certificate, &sly, false),
    ] {
        for act in Act::ALL {
            let mut policy = recorded();
            right.clone_into(policy.rights.of_mut(act));
            assert_eq!(
                policy.allows(act, identity),
                expected,
                "{right:?} {}",
                identity.subject
            );
        }
    }
}

#[test]
fn a_change_leaves_what_it_does_not_name_and_takes_away_what_it_names_null() {
    let change = |text: &str| PolicyChange::parse(text.as_bytes()).unwrap();
    let before = recorded();
    assert_eq!(change("{}").apply(&before), before);
    let after = change(r#"{"consent":null,"retention_days":null,"recording":true}"#).apply(&before);
    assert_eq!(
        after,
        Policy {
            consent: None,
            retention_days: None,
            recording: true,
            ..before.clone()
        }
    );
    let after = change(r#"{"rights":{"add":"participants"}}"#).apply(&before);
    assert_eq!(after.rights.add, Right::Participants);
    assert_eq!(after.rights.policy, before.rights.policy);
    let after = change(&format!(r#"{{"also_deny":["{}"]}}"#, fp(4))).apply(&before);
    assert_eq!(after, before.with_denied([fp(4)]));
    let after = change(&format!(r#"{{"deny":["{}"]}}"#, fp(4))).apply(&before);
    assert_eq!(after.deny, [fp(4)]);
    let after = change(&format!(
        r#"{{"also_admit":[{{"role":"recorder","fingerprint":"{}"}}]}}"#,
        fp(4)
    ));
    assert_eq!(after.apply(&before).admit.len(), before.admit.len() + 1);
    for fixed in ["version", "room", "epoch_bits"] {
        let error = PolicyChange::parse(format!(r#"{{"{fixed}":1}}"#).as_bytes()).unwrap_err();
        assert_eq!(field_of(error), fixed);
    }
}

/// One line for each thing that can get weaker: which fields change to what, and how many words that is worth.
#[test]
fn what_got_weaker_is_named() {
    type Edit = fn(&mut Policy);
    let table: &[(Edit, usize)] = &[
        (|_| (), 0),
        (|p| p.claim = Claim::Strict, 0),
        (|p| p.claim = Claim::Escrow, 1),
        (|p| p.admit.clear(), 0),
        (|p| p.admit.push(only(Role::Participant, fp(1))), 1),
        (|p| p.admit.push(any_of(Role::Participant, OTHER_ROOT)), 1),
        (|p| p.admit.push(named(Role::Participant, "anna")), 0),
        (|p| p.deny.push(fp(200)), 0),
        (|p| p.deny.clear(), 1),
        (|p| p.deny = vec![fp(200)], 1),
        (|p| p.recipients.clear(), 0),
        (|p| p.recipients = vec![fp(1), fp(3), fp(4)], 2),
        (|p| p.roots.push(OTHER_ROOT), 1),
        (|p| p.roots = vec![OTHER_ROOT], 1),
        (|p| p.rights.add = holders(&[]), 0),
        (|p| p.rights.add = holders(&["bert"]), 1),
        (|p| p.rights.remove = Right::Participants, 1),
        (|p| p.rights.recording = Right::Participants, 1),
        (|p| p.rights.policy = holders(&["bert"]), 1),
        (|p| p.escrow = escrow().escrow, 1),
        (|p| p.retention_days = Some(29), 0),
        (|p| p.retention_days = Some(31), 1),
        (|p| p.retention_days = None, 1),
        (|p| p.consent = None, 1),
        (|p| p.consent = Some("dd".repeat(32)), 1),
        (|p| p.sframe_suite = 5, 0),
        (|p| p.sframe_suite = 1, 1),
        (|p| p.recording = true, 0),
        (|p| *p = strict(), 0),
        (|p| *p = escrow(), 2),
    ];
    for (line, (edit, expected)) in table.iter().enumerate() {
        let mut policy = recorded();
        edit(&mut policy);
        let words = weakens(&recorded(), &policy);
        assert_eq!(words.len(), *expected, "line {line}: {words:?}");
    }
    // The other way round: what was not there before.
    let mut bare = recorded();
    (bare.consent, bare.retention_days) = (None, None);
    assert!(weakens(&bare, &recorded()).is_empty());
    assert!(
        weakens(
            &escrow(),
            &Policy {
                escrow: None,
                ..escrow()
            }
        )
        .is_empty()
    );
    assert!(!weakens(&escrow(), &recorded()).is_empty(), "it has recipients");
    let mut all = recorded();
    all.rights.add = Right::Participants;
    assert!(weakens(&all, &recorded()).is_empty());
    for (from, to, weaker) in [
        (1, 2, true),
        (2, 3, true),
        (2, 1, false),
        (1, 4, false),
        (5, 4, true),
        (4, 5, false),
    ] {
        let with = |sframe_suite| Policy {
            sframe_suite,
            ..recorded()
        };
        assert_eq!(
            !weakens(&with(from), &with(to)).is_empty(),
            weaker,
            "{from} to {to}"
        );
    }
}

fn named(role: Role, subject: &str) -> Admission {
    Admission {
        role,
        who: Who::Root {
            root: ROOT,
            subject: Some(subject.to_owned()),
        },
    }
}

/// What one part of a change does to the room's promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Same,
    Stronger,
    Weaker,
}

/// A change of [`recorded`] in which each part goes the given way.
fn change_by(ways: &[Way; 12]) -> PolicyChange {
    fn pick<T>(way: Way, stronger: T, weaker: T) -> Option<T> {
        match way {
            Way::Same => None,
            Way::Stronger => Some(stronger),
            Way::Weaker => Some(weaker),
        }
    }
    let [
        claim,
        admit,
        deny,
        add,
        remove,
        recording,
        policy,
        consent,
        retention,
        recipients,
        roots,
        suite,
    ] = *ways;
    let before = recorded();
    let wider = [before.admit.clone(), vec![only(Role::Recorder, fp(7))]].concat();
    PolicyChange {
        claim: pick(claim, Claim::Strict, Claim::Escrow),
        admit: pick(admit, vec![named(Role::Participant, "anna")], wider),
        deny: pick(deny, vec![before.deny[0], fp(8)], vec![fp(8)]),
        rights: Some(RightsChange {
            add: pick(add, holders(&["anna"]), Right::Participants),
            remove: pick(remove, holders(&[]), holders(&["anna", "carl"])),
            recording: pick(
                recording,
                holders(&["switcher"]),
                Right::Holders(vec![Holder::Certificate(fp(1))]),
            ),
            policy: pick(policy, holders(&["lawyer"]), holders(&["carl"])),
        }),
        consent: pick(consent, before.consent, None),
        retention_days: pick(retention, Some(1), None),
        recipients: pick(recipients, vec![fp(2)], vec![fp(3)]),
        roots: pick(roots, vec![ROOT], vec![ROOT, OTHER_ROOT]),
        sframe_suite: pick(suite, 5, 3),
        recording: Some(true),
        ..PolicyChange::default()
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(policy in valid_policy()) {
        prop_assert_eq!(policy.validate(), Ok(()));
        prop_assert_eq!(Policy::decode(&policy.encode()), Ok(policy));
    }

    #[test]
    fn what_was_decoded_is_encoded_to_the_same_bytes(policy in some_policy(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = policy.encode();
        prop_assert_eq!(Policy::decode(&bytes).is_ok(), policy.validate().is_ok());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(other) = Policy::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Policy::decode(&bytes);
        let _ = PolicyFile::parse(&bytes);
        let _ = PolicyChange::parse(&bytes);
    }

    #[test]
    fn a_change_survives_its_text(ways in prop::array::uniform12(prop_oneof![Just(Way::Same), Just(Way::Stronger), Just(Way::Weaker)])) {
        let change = change_by(&ways);
        let text = serde_json::to_vec(&change).unwrap();
        prop_assert_eq!(PolicyChange::parse(&text), Ok(change));
    }

    #[test]
    fn something_is_named_exactly_where_something_got_weaker(ways in prop::array::uniform12(prop_oneof![8 => Just(Way::Same), 8 => Just(Way::Stronger), 1 => Just(Way::Weaker)])) {
        let words = weakens(&recorded(), &change_by(&ways).apply(&recorded()));
        prop_assert_eq!(words.is_empty(), !ways.contains(&Way::Weaker), "{:?}", words);
    }

    #[test]
    fn many_steps_that_weaken_nothing_weaken_nothing_together(history in some_history(4)) {
        let weaker = history.windows(2).any(|step| !weakens(&step[0], &step[1]).is_empty());
        if !weaker {
            prop_assert!(weakens(&history[0], &history[4]).is_empty());
        }
        prop_assert!(weakens(&history[0], &history[0]).is_empty());
    }

    #[test]
    fn where_nothing_got_weaker_nobody_gets_in_or_may_more_than_before(
        history in some_history(1),
        identities in prop::collection::vec(some_identity(), 8),
    ) {
        let (old, new) = (&history[0], &history[1]);
        if weakens(old, new).is_empty() {
            for identity in &identities {
                for role in [Role::Participant, Role::Recorder] {
                    prop_assert!(!new.admits_as(role, identity) || old.admits_as(role, identity));
                }
                prop_assert!(new.denies(identity) || !old.denies(identity));
                prop_assert!(!new.trusts(identity) || old.trusts(identity));
                for act in Act::ALL {
                    prop_assert!(!new.allows(act, identity) || old.allows(act, identity));
                }
            }
        }
    }
}
