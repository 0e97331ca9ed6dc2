#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod model;

use std::sync::LazyLock;

use super::*;

/// 2026-01-01 in unix milliseconds.
const BEGINNING: u64 = 1_767_225_600_000;
const HOUR: u64 = 3_600_000;

/// Two consents; the second is another person's, and holds for the first hours of the year only.
const OWN: usize = 0;
const OTHER: usize = 1;
/// When the second one begins and ends, in hours from the beginning.
const HOURS: std::ops::Range<u64> = 2..5;

fn consent(which: usize) -> Consent {
    static CONSENTS: LazyLock<[Consent; 2]> = LazyLock::new(|| [OWN, OTHER].map(made));
    CONSENTS[which].clone()
}

fn made(which: usize) -> Consent {
    let period = match which {
        OWN => String::new(),
        _ => format!(
            r#","period":{{"start":"2026-01-01T{:02}:00:00Z","end":"2026-01-01T{:02}:59:59Z"}}"#,
            HOURS.start,
            HOURS.end - 1
        ),
    };
    let text = format!(
        r#"{{"resourceType":"Consent","id":"{which}","status":"active","scope":{{"coding":[{{"code":"treatment",
        "system":"http://terminology.hl7.org/CodeSystem/consentscope"}}]}},"provision":{{"type":"permit"{period}}}}}"#
    );
    Consent::read(text.as_bytes(), 0).unwrap()
}

fn reference(which: usize) -> Option<String> {
    Some(consent(which).reference(&[9; 16]))
}

fn escrow(m: u32) -> EscrowState {
    EscrowState {
        fingerprint: "e0".into(),
        m,
        n: 3,
    }
}

fn readers(recipients: &[&str]) -> Readers {
    Readers {
        recipients: recipients.iter().map(|&recipient| recipient.into()).collect(),
        escrow: None,
    }
}

/// An epoch in which all gates agree.
fn good(epoch: u64) -> RoomState {
    RoomState {
        epoch,
        standing: Some(Standing::Ready),
        room_id: Some("a0".into()),
        claim: Some("recorded".into()),
        recording: Some(true),
        recorder: Some(true),
        leaf: Some(1),
        consent: reference(OWN),
        recipients: Some(vec!["r1".into(), "r2".into()]),
        ..RoomState::default()
    }
}

fn off(epoch: u64) -> RoomState {
    RoomState {
        recording: Some(false),
        ..good(epoch)
    }
}

/// Gates that all agree, in epoch 1.
fn running() -> Gate {
    let mut gate = Gate::new(true);
    gate.consent(BEGINNING, Ok(consent(OWN)));
    gate.readers(BEGINNING, readers(&["r1"]));
    assert_eq!(gate.room(BEGINNING, Ok(Some(good(1)))), Some(Transition::Started));
    gate
}

fn nick(answer: Result<(), Refusal>) -> &'static str {
    answer.map_or_else(|refusal| refusal.nick(), |()| "yes")
}

#[test]
fn recording_goes_off_and_on_and_only_what_was_sealed_while_it_was_on_is_kept() {
    let mut gate = Gate::new(true);
    let now = BEGINNING;
    let told = |gate: &mut Gate, state| gate.room(now, Ok(Some(state)));
    gate.consent(now, Ok(consent(OWN)));
    assert_eq!(told(&mut gate, off(1)), Some(Transition::Paused(Refusal::Off)));
    assert_eq!(gate.readers(now, readers(&["r2", "r1"])), None, "still off");
    assert_eq!(told(&mut gate, good(2)), Some(Transition::Started));
    assert_eq!(told(&mut gate, good(3)), None);
    let kept = |gate: &Gate| [1, 2, 3, 4, 5, 6].map(|epoch| nick(gate.may_keep(now, epoch)));
    let unknown = "epoch-unknown";
    assert_eq!(
        kept(&gate),
        ["recording-off", "yes", "yes", unknown, unknown, unknown]
    );
    assert_eq!(told(&mut gate, off(4)), Some(Transition::Paused(Refusal::Off)));
    assert_eq!(
        kept(&gate),
        ["recording-off"; 6],
        "nor what was sealed just before"
    );
    assert_eq!(told(&mut gate, off(5)), None);
    assert_eq!(told(&mut gate, good(6)), Some(Transition::Resumed));
    assert_eq!(
        kept(&gate),
        [
            "recording-off",
            "yes",
            "yes",
            "recording-off",
            "recording-off",
            "yes"
        ],
        "also what comes late, by its own epoch"
    );
}

/// What is done to a state.
type Spoil = fn(&mut RoomState);

/// Each of these must hold; together they are enough.
const CONDITIONS: [(&str, Spoil); 7] = [
    ("room-joining", |state| state.standing = Some(Standing::Joining)),
    ("not-a-recorder", |state| state.recorder = Some(false)),
    ("room-strict", |state| state.claim = Some("strict".into())),
    ("recording-off", |state| state.recording = Some(false)),
    ("consent-not-named", |state| state.consent = None),
    ("recipient-undisclosed", |state| {
        state.recipients = Some(vec!["r2".into()])
    }),
    ("escrow-undisclosed", |state| state.escrow = Some(escrow(2))),
];
/// Beside those of the room: consent and keys.
const INPUTS: usize = CONDITIONS.len() + 2;

#[test]
fn whatever_order_the_gates_come_in_it_begins_with_the_last_and_ends_with_the_first() {
    fn permutations(length: usize, visit: &mut impl FnMut(&[usize])) {
        fn inner(order: &mut Vec<usize>, fixed: usize, visit: &mut impl FnMut(&[usize])) {
            if fixed == order.len() {
                return visit(order);
            }
            for at in fixed..order.len() {
                order.swap(fixed, at);
                inner(order, fixed + 1, visit);
                order.swap(fixed, at);
            }
        }
        inner(&mut (0..length).collect(), 0, visit);
    }
    let (own, now) = (consent(OWN), BEGINNING);
    let good = good(0);
    let mut orders = 0;
    permutations(INPUTS, &mut |order| {
        orders += 1;
        // All orders take a while: each ninth one still has each pair in both orders, many times.
        if orders % 9 != 0 {
            return;
        }
        let mut gate = Gate::new(true);
        let mut missing = [true; INPUTS];
        let mut epoch = 0;
        let mut complete_epochs = Vec::new();
        for (done, input) in order.iter().enumerate() {
            missing[*input] = false;
            let transition = match input {
                7 => gate.consent(now, Ok(own.clone())),
                8 => gate.readers(now, readers(&["r1"])),
                _ => {
                    epoch += 1;
                    let mut state = RoomState {
                        epoch,
                        ..good.clone()
                    };
                    for (missing, (_, spoil)) in missing.iter().zip(CONDITIONS) {
                        if *missing {
                            spoil(&mut state);
                        }
                    }
                    // Where the endpoint stands is no matter of the epoch.
                    if !missing[1..CONDITIONS.len()].contains(&true) {
                        complete_epochs.push(epoch);
                    }
                    gate.room(now, Ok(Some(state)))
                }
            };
            let complete = done + 1 == INPUTS;
            assert_eq!(transition == Some(Transition::Started), complete, "{order:?}");
            assert_eq!(gate.may_run(now).is_ok(), complete, "{order:?}");
            for of in 0..=epoch + 1 {
                let kept = gate.may_keep(now, of).is_ok();
                assert_eq!(kept, complete && complete_epochs.contains(&of), "{order:?} {of}");
            }
        }
    });
    for (nick_of, spoil) in CONDITIONS {
        let mut gate = running();
        let mut state = RoomState {
            epoch: 2,
            ..good.clone()
        };
        spoil(&mut state);
        let Some(Transition::Paused(why)) = gate.room(now, Ok(Some(state))) else {
            panic!("{nick_of}: it goes on");
        };
        assert_eq!(why.nick(), nick_of);
        assert_eq!(nick(gate.may_keep(now, 1)), nick_of);
        let again = RoomState {
            epoch: 3,
            ..good.clone()
        };
        assert_eq!(gate.room(now, Ok(Some(again))), Some(Transition::Resumed));
        assert_eq!(nick(gate.may_keep(now, 1)), "yes");
        let bound_to_the_epoch = nick_of != "room-joining";
        assert_eq!(gate.may_keep(now, 2).is_err(), bound_to_the_epoch, "{nick_of}");
    }
}

#[test]
fn a_consent_that_is_withdrawn_or_runs_out_ends_it_at_once() {
    let mut gate = running();
    let withdrawn = ConsentRefusal::NotActive("inactive");
    assert_eq!(
        gate.consent(BEGINNING, Err(withdrawn.clone())),
        Some(Transition::Paused(Refusal::Consent(withdrawn)))
    );
    assert_eq!(nick(gate.may_keep(BEGINNING, 1)), "consent-not-active");
    // Another consent is not the one that the room names, until the room does.
    let began = BEGINNING + HOURS.start * HOUR;
    let other = gate.consent(began, Ok(consent(OTHER)));
    assert_eq!(other, Some(Transition::Paused(Refusal::OtherConsent)));
    let renamed = RoomState {
        consent: reference(OTHER),
        ..good(2)
    };
    assert_eq!(gate.room(began, Ok(Some(renamed))), Some(Transition::Resumed));
    assert_eq!(nick(gate.may_keep(began, 2)), "yes");
    assert_eq!(
        nick(gate.may_keep(began, 1)),
        "consent-other",
        "sealed under another one"
    );

    let ends = BEGINNING + HOURS.end * HOUR;
    assert_eq!(gate.next_deadline(began), Some(ends));
    assert_eq!(nick(gate.may_keep(ends - 1, 2)), "yes");
    assert_eq!(
        nick(gate.may_keep(ends, 2)),
        "consent-expired",
        "without being told"
    );
    let Some(Transition::Paused(why)) = gate.tick(ends) else {
        panic!("it goes on");
    };
    assert_eq!(why.nick(), "consent-expired");
    // The clock was set back.
    assert_eq!(nick(gate.may_keep(ends - 1, 2)), "starting");
    assert_eq!(gate.tick(ends - 1), Some(Transition::Resumed));
    assert_eq!(nick(gate.may_keep(ends - 1, 2)), "yes");
}

#[test]
fn who_is_evicted_records_no_more() {
    let mut gate = running();
    let evicted = RoomState {
        standing: Some(Standing::Evicted),
        ..good(1)
    };
    assert_eq!(
        gate.room(BEGINNING, Ok(Some(evicted))),
        Some(Transition::Stopped(Refusal::Evicted))
    );
    for state in [Some(good(1)), Some(good(2)), None] {
        assert_eq!(gate.room(BEGINNING, Ok(state)), None);
        assert_eq!(nick(gate.may_keep(BEGINNING, 1)), "room-evicted");
        assert_eq!(nick(gate.may_run(BEGINNING)), "room-evicted");
    }
}

#[test]
fn a_stale_room_is_not_recorded_until_it_lives() {
    let mut gate = running();
    let stale = RoomState {
        standing: Some(Standing::Stale),
        ..good(1)
    };
    assert_eq!(
        gate.room(BEGINNING, Ok(Some(stale))),
        Some(Transition::Paused(Refusal::Stale))
    );
    assert_eq!(nick(gate.may_keep(BEGINNING, 1)), "room-stale");
    assert_eq!(gate.room(BEGINNING, Ok(Some(good(1)))), Some(Transition::Resumed));
}

#[test]
fn another_group_is_another_recording() {
    let other = |epoch| RoomState {
        room_id: Some("b0".into()),
        ..good(epoch)
    };
    let mut gate = running();
    assert_eq!(
        gate.room(BEGINNING, Ok(Some(other(1)))),
        Some(Transition::Stopped(Refusal::OtherRoom))
    );
    assert_eq!(gate.room(BEGINNING, Ok(Some(good(2)))), None);
    assert_eq!(nick(gate.may_keep(BEGINNING, 1)), "room-other");

    // Before it has begun, the group may still change; what was said of the first one is forgotten.
    let mut gate = Gate::new(true);
    gate.consent(BEGINNING, Ok(consent(OWN)));
    gate.room(BEGINNING, Ok(Some(good(7))));
    gate.room(BEGINNING, Ok(Some(other(8))));
    assert_eq!(gate.readers(BEGINNING, readers(&[])), Some(Transition::Started));
    assert_eq!(nick(gate.may_keep(BEGINNING, 7)), "epoch-unknown");
    assert_eq!(nick(gate.may_keep(BEGINNING, 8)), "yes");
}

#[test]
fn an_epoch_of_which_two_things_were_said_is_not_kept() {
    let mut gate = running();
    for state in [off(1), good(1)] {
        gate.room(BEGINNING, Ok(Some(state)));
        assert_eq!(nick(gate.may_run(BEGINNING)), "epoch-changed");
    }
    gate.room(BEGINNING, Ok(Some(good(2))));
    assert_eq!(nick(gate.may_keep(BEGINNING, 1)), "epoch-changed");
    assert_eq!(nick(gate.may_keep(BEGINNING, 2)), "yes");
}

#[test]
fn nobody_can_open_the_recording_whom_the_policy_does_not_name() {
    let escrowed = |m| RoomState {
        claim: Some("escrow".into()),
        recipients: Some(Vec::new()),
        escrow: Some(escrow(m)),
        ..good(1)
    };
    let shares = |m| Readers {
        recipients: Vec::new(),
        escrow: Some(escrow(m)),
    };
    let both = Readers {
        escrow: Some(escrow(2)),
        ..readers(&["r1"])
    };
    for (state, readers, expected) in [
        (good(1), readers(&["r1", "r2"]), "yes"),
        (good(1), readers(&["r1"]), "yes"),
        (good(1), readers(&["r1", "r3"]), "recipient-undisclosed"),
        (good(1), shares(2), "escrow-undisclosed"),
        (good(1), both.clone(), "escrow-undisclosed"),
        (escrowed(2), shares(2), "yes"),
        (escrowed(2), shares(1), "escrow-undisclosed"),
        (escrowed(2), readers(&[]), "escrow-undisclosed"),
        (escrowed(2), both, "recipient-undisclosed"),
        (
            RoomState {
                recipients: Some(vec!["r1".into()]),
                ..escrowed(2)
            },
            readers(&["r1"]),
            "recipient-undisclosed",
        ),
    ] {
        let mut gate = Gate::new(true);
        gate.consent(BEGINNING, Ok(consent(OWN)));
        gate.room(BEGINNING, Ok(Some(state.clone())));
        assert_eq!(nick(gate.may_run(BEGINNING)), "no-keys");
        gate.readers(BEGINNING, readers);
        assert_eq!(nick(gate.may_run(BEGINNING)), expected, "{state:?}");
    }
}

#[test]
fn what_a_key_source_does_not_say_is_refused_unless_no_room_is_required() {
    let leave_away: [(&str, Spoil); 7] = [
        ("room-unsaid", |state| state.standing = None),
        ("room-unsaid", |state| state.room_id = None),
        ("room-unsaid", |state| state.claim = None),
        ("room-unsaid", |state| state.recording = None),
        ("room-unsaid", |state| state.recorder = None),
        ("room-unsaid", |state| state.recipients = None),
        ("consent-not-named", |state| state.consent = None),
    ];
    for require_room in [true, false] {
        let gate = |state| {
            let mut gate = Gate::new(require_room);
            gate.consent(BEGINNING, Ok(consent(OWN)));
            gate.readers(BEGINNING, readers(&["r1"]));
            gate.room(BEGINNING, state);
            gate
        };
        let answer = |state| nick(gate(state).may_keep(BEGINNING, 1));
        for (refused, leave_away) in leave_away {
            let mut state = good(1);
            leave_away(&mut state);
            assert_eq!(
                answer(Ok(Some(state))),
                if require_room { refused } else { "yes" }
            );
        }
        let bare = RoomState {
            epoch: 1,
            ..RoomState::default()
        };
        assert_eq!(
            answer(Ok(Some(bare))),
            if require_room { "room-unsaid" } else { "yes" }
        );
        assert_eq!(answer(Ok(None)), if require_room { "no-room" } else { "yes" });
        // What is said counts in any case.
        let broken = ContractError::NoObject;
        assert_eq!(answer(Err(broken)), "room-unreadable");
        assert_eq!(answer(Ok(Some(off(1)))), "recording-off");
        assert_eq!(answer(Ok(Some(good(2)))), "epoch-unknown");
        let unknown = RoomState {
            claim: Some("open".into()),
            ..good(1)
        };
        assert_eq!(answer(Ok(Some(unknown))), "room-unsaid");
        let mut gate = gate(Ok(Some(good(1))));
        gate.consent(BEGINNING, Err(ConsentRefusal::Missing));
        assert_eq!(nick(gate.may_run(BEGINNING)), "consent-missing");
    }
}

#[test]
fn a_reason_is_told_once_and_another_one_again() {
    let mut gate = Gate::new(true);
    let paused = |why| Some(Transition::Paused(why));
    assert_eq!(gate.tick(BEGINNING), paused(Refusal::NoRoom));
    assert_eq!(gate.tick(BEGINNING), None);
    assert_eq!(gate.room(BEGINNING, Ok(Some(off(1)))), paused(Refusal::Off));
    assert_eq!(gate.room(BEGINNING, Ok(Some(off(2)))), None);
    assert_eq!(
        gate.room(BEGINNING, Ok(Some(good(3)))),
        paused(Refusal::Consent(ConsentRefusal::Missing))
    );
    assert_eq!(gate.consent(BEGINNING, Ok(consent(OWN))), paused(Refusal::NoKeys));
    assert_eq!(gate.readers(BEGINNING, readers(&[])), Some(Transition::Started));
    assert_eq!(gate.room(BEGINNING, Ok(Some(off(4)))), paused(Refusal::Off));
}

#[test]
fn only_so_many_epochs_are_remembered() {
    let mut gate = running();
    for epoch in 2..2000 {
        assert_eq!(gate.room(BEGINNING, Ok(Some(good(epoch)))), None);
    }
    assert_eq!(gate.epochs.len(), EPOCHS);
    assert_eq!(nick(gate.may_keep(BEGINNING, 1999)), "yes");
    assert_eq!(nick(gate.may_keep(BEGINNING, 1)), "epoch-unknown");
}
