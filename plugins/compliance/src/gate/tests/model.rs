//! The rule once more, by brute force over all that happened, against the gate, over random inputs.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

#[derive(Debug, Clone)]
enum Input {
    Room(Box<RoomState>),
    NoRoom,
    Broken,
    Consent(Option<usize>),
    Readers(Readers),
    Tick,
}

fn mostly<T: Clone + std::fmt::Debug + 'static>(good: T, bad: Vec<T>) -> impl Strategy<Value = T> {
    prop_oneof![12 => Just(good), 1 => prop::sample::select(bad)]
}

fn states() -> impl Strategy<Value = RoomState> {
    let standing = [None, Some(Standing::Joining), Some(Standing::Stale)];
    (
        (
            0u64..5,
            mostly(Some("a0".to_owned()), vec![Some("b0".to_owned()), None]),
            prop_oneof![
                60 => Just(Some(Standing::Ready)),
                6 => prop::sample::select(standing.to_vec()),
                1 => Just(Some(Standing::Evicted)),
            ],
            mostly(
                Some("recorded"),
                vec![Some("strict"), Some("escrow"), Some("?"), None],
            ),
        ),
        (
            prop_oneof![2 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)],
            mostly(Some(true), vec![Some(false), None]),
            prop_oneof![4 => Just(reference(OWN)), 2 => Just(reference(OTHER)), 1 => Just(None),
                1 => Just(Some("00".repeat(48)))],
            mostly(Some(vec!["r1".to_owned()]), vec![None, Some(Vec::new())]),
            mostly(None, vec![Some(escrow(2))]),
        ),
    )
        .prop_map(
            |((epoch, room_id, standing, claim), (recording, recorder, consent, recipients, escrow))| {
                RoomState {
                    epoch,
                    standing,
                    room_id,
                    claim: claim.map(str::to_owned),
                    recording,
                    recorder,
                    consent,
                    recipients,
                    escrow,
                    ..RoomState::default()
                }
            },
        )
}

fn inputs() -> impl Strategy<Value = (u64, Input)> {
    let input = prop_oneof![
        12 => states().prop_map(|state| Input::Room(Box::new(state))),
        // As mlskeyring would say it: only the epoch and whether it is on change.
        12 => (0u64..5).prop_map(|epoch| Input::Room(Box::new(if epoch % 2 == 0 { good(epoch) } else { off(epoch) }))),
        1 => Just(Input::NoRoom),
        1 => Just(Input::Broken),
        4 => prop::sample::select(vec![Some(OWN), Some(OWN), Some(OTHER), None]).prop_map(Input::Consent),
        4 => prop::sample::select(vec![
            readers(&["r1"]), readers(&["r1"]), readers(&[]), readers(&["r3"]),
            Readers { recipients: Vec::new(), escrow: Some(escrow(2)) },
        ]).prop_map(Input::Readers),
        3 => Just(Input::Tick),
    ];
    (prop_oneof![Just(0), 0u64..2 * HOUR], input)
}

/// What happened, and when.
struct History<'a> {
    require_room: bool,
    inputs: &'a [(u64, Input)],
}

impl History<'_> {
    fn before(&self, length: usize) -> Self {
        Self {
            require_room: self.require_room,
            inputs: &self.inputs[..length],
        }
    }

    fn states(&self) -> impl DoubleEndedIterator<Item = (usize, &RoomState)> {
        self.inputs
            .iter()
            .enumerate()
            .filter_map(|(at, (_, input))| match input {
                Input::Room(state) => Some((at, &**state)),
                _ => None,
            })
    }

    /// Has it ended for good?
    fn ended(&self) -> bool {
        let evicted = self
            .states()
            .any(|(_, state)| state.standing == Some(Standing::Evicted));
        let states: Vec<_> = self.states().collect();
        let moved = states.windows(2).any(|pair| {
            let (at, after) = pair[1];
            pair[0].1.room_id != after.room_id && (1..=at).any(|length| self.before(length).runs_then())
        });
        evicted || moved
    }

    /// Did it run when the last of these inputs came?
    fn runs_then(&self) -> bool {
        self.inputs.last().is_some_and(|(now, _)| self.runs(*now))
    }

    fn runs(&self, now: u64) -> bool {
        let last_word = self
            .inputs
            .iter()
            .rev()
            .find(|(_, input)| matches!(input, Input::Room(_) | Input::NoRoom | Input::Broken));
        let room = match last_word {
            Some((_, Input::Room(state))) => {
                let lives = match state.standing {
                    Some(standing) => standing == Standing::Ready,
                    None => !self.require_room,
                };
                lives && self.good_epoch(state.epoch)
            }
            Some((_, Input::Broken)) => false,
            _ => !self.require_room,
        };
        let permits = match self.consent() {
            Some(OWN) => true,
            Some(_) => (BEGINNING + HOURS.start * HOUR..BEGINNING + HOURS.end * HOUR).contains(&now),
            None => false,
        };
        room && permits && self.readers().is_some() && !self.ended()
    }

    fn consent(&self) -> Option<usize> {
        self.inputs.iter().rev().find_map(|(_, input)| match input {
            Input::Consent(consent) => Some(*consent),
            _ => None,
        })?
    }

    fn readers(&self) -> Option<&Readers> {
        self.inputs.iter().rev().find_map(|(_, input)| match input {
            Input::Readers(readers) => Some(readers),
            _ => None,
        })
    }

    /// Was the same, and nothing but good, said of this epoch ever since the group is this one?
    fn good_epoch(&self, epoch: u64) -> bool {
        let states: Vec<_> = self.states().map(|(_, state)| state).collect();
        let Some(last) = states.last() else {
            return false;
        };
        let of_group = states
            .iter()
            .rev()
            .take_while(|state| state.room_id == last.room_id);
        let of_epoch: Vec<_> = of_group
            .filter(|state| state.epoch == epoch)
            .map(|state| RoomState {
                standing: None,
                ..(*state).clone()
            })
            .collect();
        !of_epoch.is_empty()
            && of_epoch.iter().all(|state| *state == of_epoch[0])
            && self.good_state(&of_epoch[0])
    }

    fn good_state(&self, state: &RoomState) -> bool {
        let said = |is_good: Option<bool>| is_good.unwrap_or(!self.require_room);
        let claim = state.claim.as_deref();
        let reference = state.consent.as_ref();
        let recipients = match self.readers() {
            None => true,
            Some(readers) if readers.recipients.is_empty() => true,
            Some(_) if claim == Some("escrow") => false,
            Some(readers) => said(
                state
                    .recipients
                    .as_ref()
                    .map(|named| readers.recipients.iter().all(|reader| named.contains(reader))),
            ),
        };
        let custodians = match self.readers() {
            Some(readers) if claim.is_some() => readers.escrow == state.escrow,
            _ => true,
        };
        said(state.room_id.as_ref().map(|_| true))
            && said(state.recorder)
            && said(claim.map(|claim| ["recorded", "escrow"].contains(&claim)))
            && said(state.recording)
            && said(reference.map(|found| {
                self.consent()
                    .is_some_and(|which| super::reference(which).as_ref() == Some(found))
            }))
            && recipients
            && custodians
    }

    /// Is a frame of this epoch kept that comes at `now`, after the last input?
    fn keeps(&self, now: u64, epoch: u64) -> bool {
        let no_room = !self.require_room && self.states().next().is_none();
        self.runs_then() && self.runs(now) && (no_room || self.good_epoch(epoch))
    }
}

fn check(require_room: bool, steps: Vec<(u64, Input)>, later: u64) -> Result<u32, TestCaseError> {
    let mut gate = Gate::new(require_room);
    let mut now = BEGINNING;
    let mut past = Vec::new();
    let (mut is_running, mut begun, mut stopped) = (false, false, false);
    let mut kept = 0;
    for (after, input) in steps {
        now += after;
        past.push((now, input.clone()));
        let transition = match input {
            Input::Room(state) => gate.room(now, Ok(Some(*state))),
            Input::NoRoom => gate.room(now, Ok(None)),
            Input::Broken => gate.room(now, Err(ContractError::NoObject)),
            Input::Consent(which) => gate.consent(now, which.map(consent).ok_or(ConsentRefusal::Missing)),
            Input::Readers(readers) => gate.readers(now, readers),
            Input::Tick => gate.tick(now),
        };
        let history = History {
            require_room,
            inputs: &past,
        };
        let runs = history.runs_then();
        prop_assert_eq!(gate.may_run(now).is_ok(), runs);
        match transition {
            Some(Transition::Started) => prop_assert!(!begun && runs),
            Some(Transition::Resumed) => prop_assert!(begun && runs && !is_running),
            Some(Transition::Paused(why)) => prop_assert!(!runs && !stopped && !why.is_final()),
            Some(Transition::Stopped(why)) => {
                prop_assert!(!runs && !stopped && why.is_final());
                stopped = true;
            }
            None => prop_assert_eq!(runs, is_running),
        }
        prop_assert_eq!(stopped, history.ended());
        is_running = runs;
        begun |= runs;
        for at in [now, now + later] {
            for epoch in 0..6 {
                let answer = gate.may_keep(at, epoch);
                prop_assert_eq!(
                    answer.is_ok(),
                    history.keeps(at, epoch),
                    "epoch {}: {:?}",
                    epoch,
                    answer
                );
                kept += u32::from(answer.is_ok());
            }
        }
    }
    Ok(kept)
}

#[test]
fn it_keeps_what_the_rule_keeps_and_nothing_else() {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let kept = std::cell::Cell::new(0);
    let steps = prop::collection::vec(inputs(), 1..30);
    runner
        .run(
            &(any::<bool>(), steps, 0u64..3 * HOUR),
            |(require_room, steps, later)| {
                // Most histories begin with what it needs.
                let beginning = [
                    (0, Input::Consent(Some(OWN))),
                    (0, Input::Readers(readers(&["r1"]))),
                ];
                let steps = beginning
                    .into_iter()
                    .skip(usize::from(later % 4 == 0))
                    .chain(steps)
                    .collect();
                kept.set(kept.get() + check(require_room, steps, later)?);
                Ok(())
            },
        )
        .unwrap();
    assert!(kept.get() > 10_000, "else this shows little: {}", kept.get());
}
