use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

const MEMBERS: u32 = 5;

/// Keys of an epoch of a group of five, as seen by leaf 0; leaf 4 only records.
fn keys(epoch: u64) -> EpochKeys {
    let leaf = |leaf| {
        let info = LeafInfo {
            sender: format!("member {leaf}"),
            may_send: leaf != 4,
        };
        (leaf, info)
    };
    EpochKeys {
        epoch,
        base_key: Zeroizing::new(format!("key of epoch {epoch}").into_bytes()),
        suite: 4,
        epoch_bits: 4,
        leaves: (0..MEMBERS).map(leaf).collect(),
        tree_leaves: 8,
        own_leaf: 0,
        removed_somebody: false,
        sealing: true,
        room: RoomState::default(),
    }
}

fn removing(epoch: u64, gone: u32) -> EpochKeys {
    let mut keys = keys(epoch);
    keys.leaves.remove(&gone);
    keys.removed_somebody = true;
    keys
}

/// KID of a leaf in the group of [`keys`].
fn kid(leaf: u32, epoch: u64) -> u64 {
    Layout::new(4, 8).unwrap().kid(0, leaf, epoch).unwrap()
}

fn started(epoch: u64) -> Schedule {
    let mut schedule = Schedule::new();
    schedule.enter(0, keys(epoch)).unwrap();
    assert_eq!(
        schedule.sealing_epoch(),
        Some(epoch),
        "the first epoch is used at once"
    );
    assert_eq!(schedule.take_changed(), Some(epoch));
    schedule
}

#[test]
fn a_sender_goes_on_after_a_second_and_the_old_epoch_ends_ten_seconds_later() {
    let mut schedule = started(7);
    schedule.enter(100, keys(8)).unwrap();
    assert_eq!(schedule.take_changed(), Some(8));
    assert!(schedule.transition());
    assert!(schedule.receiver_key(100, kid(1, 8)).is_some(), "opened at once");
    assert_eq!(schedule.next_deadline(), Some(1100));
    schedule.tick(1099);
    assert_eq!(
        (schedule.sealing_epoch(), schedule.take_changed()),
        (Some(7), None)
    );
    schedule.tick(1100);
    assert_eq!(
        (schedule.sealing_epoch(), schedule.take_changed()),
        (Some(8), Some(8))
    );
    assert!(!schedule.transition());
    assert_eq!(schedule.next_deadline(), Some(11_100));
    assert!(schedule.receiver_key(11_099, kid(1, 7)).is_some());
    assert!(
        schedule.receiver_key(11_100, kid(1, 7)).is_none(),
        "even where nobody ticks"
    );
    schedule.tick(11_100);
    assert_eq!(schedule.take_changed(), Some(8));
    assert_eq!(schedule.epochs().collect::<Vec<_>>(), [8]);
    assert_eq!(schedule.next_deadline(), None);
}

#[test]
fn it_goes_on_at_once_when_all_are_ready() {
    let mut schedule = started(7);
    schedule.enter(100, keys(8)).unwrap();
    schedule.take_changed();
    schedule.all_ready(150, 9);
    assert_eq!(schedule.sealing_epoch(), Some(7), "an epoch that is not here");
    schedule.all_ready(150, 8);
    assert_eq!(
        (schedule.sealing_epoch(), schedule.take_changed()),
        (Some(8), Some(8))
    );
    schedule.all_ready(160, 7);
    assert_eq!(schedule.sealing_epoch(), Some(8), "never back");
    assert_eq!(schedule.next_deadline(), Some(10_150));
}

#[test]
fn it_goes_on_at_once_when_a_peers_frame_authenticated() {
    let mut schedule = started(7);
    schedule.enter(100, keys(8)).unwrap();
    schedule.take_changed();
    let old = PeerOpened {
        epoch: 7,
        leaf: 1,
        switched: false,
    };
    assert_eq!(schedule.peer_opened(120, kid(1, 7)), Some(old));
    assert_eq!(
        (schedule.sealing_epoch(), schedule.take_changed()),
        (Some(7), None)
    );
    let new = PeerOpened {
        epoch: 8,
        leaf: 1,
        switched: true,
    };
    assert_eq!(schedule.peer_opened(150, kid(1, 8)), Some(new));
    assert_eq!(
        (schedule.sealing_epoch(), schedule.take_changed()),
        (Some(8), Some(8))
    );
    assert_eq!(
        schedule.peer_opened(151, kid(2, 8)),
        Some(PeerOpened {
            leaf: 2,
            switched: false,
            ..new
        })
    );
    assert_eq!(schedule.take_changed(), None);
}

#[test]
fn kids_of_nobody_cause_nothing() {
    let mut schedule = started(7);
    schedule.enter(100, keys(8)).unwrap();
    schedule.take_changed();
    let own = kid(0, 8);
    let recorder = kid(4, 8);
    let blank = [kid(5, 8), kid(7, 8)];
    let other_epoch = [kid(1, 6), kid(1, 9)];
    for kid in [own, recorder].into_iter().chain(blank).chain(other_epoch) {
        assert!(schedule.receiver_key(110, kid).is_none(), "{kid:#x}");
        assert!(schedule.table().receiver_key(110, kid).is_none(), "{kid:#x}");
        assert_eq!(schedule.peer_opened(110, kid), None, "{kid:#x}");
    }
    assert_eq!(
        (schedule.sealing_epoch(), schedule.take_changed()),
        (Some(7), None)
    );
    let key = schedule.receiver_key(110, kid(3, 8)).unwrap();
    assert_eq!(
        (key.epoch, key.leaf, key.suite, key.sender.as_str()),
        (8, 3, 4, "member 3")
    );
    assert_eq!(key.base_key.as_slice(), b"key of epoch 8");
}

#[test]
fn each_sender_gets_a_kid_of_its_own_and_contexts_do_not_wrap() {
    let mut schedule = started(7);
    let first = schedule.sender_key(0).unwrap();
    assert_eq!(
        (first.kid, first.epoch, first.counter, first.counter_end),
        (7, 7, 0, 1 << 32)
    );
    let second = schedule.sender_key(0).unwrap();
    assert_eq!(second.kid, 1 << 7 | 7);
    let position = schedule.epochs.get_mut(&7).unwrap();
    assert_eq!(position.contexts.end, 1 << 57, "2^(64-S-E)");
    position.contexts.start = (1 << 57) - 1;
    assert_eq!(schedule.sender_key(0).unwrap().kid, u64::MAX << 7 | 7);
    assert!(schedule.used_up());
    assert!(schedule.sender_key(0).is_none());
    assert!(schedule.sender_key(0).is_none());
    schedule.enter(0, keys(8)).unwrap();
    schedule.all_ready(0, 8);
    assert!(!schedule.used_up());
    assert_eq!(schedule.sender_key(0).unwrap().kid, 8);
}

#[test]
fn after_a_remove_it_goes_on_within_250_ms_and_the_old_epoch_lives_2_seconds() {
    let mut schedule = started(7);
    schedule.enter(100, removing(8, 3)).unwrap();
    let leave = 100 + SWITCH_AFTER_REMOVE_MS;
    assert_eq!(schedule.next_deadline(), Some(leave));
    assert_eq!(schedule.sender_key(leave - 1).unwrap().epoch, 7);
    assert_eq!(
        schedule.sender_key(leave).unwrap().epoch,
        8,
        "even where nobody ticks"
    );
    assert!(schedule.receiver_key(2_099, kid(1, 7)).is_some());
    assert!(
        schedule.receiver_key(2_099, kid(3, 7)).is_some(),
        "on its way when it was removed"
    );
    assert!(schedule.receiver_key(2_099, kid(3, 8)).is_none());
    assert_eq!(
        schedule.next_deadline(),
        Some(2_100),
        "from receipt, not from the switch"
    );
    schedule.tick(2_100);
    assert_eq!(schedule.epochs().collect::<Vec<_>>(), [8]);
}

#[test]
fn after_a_remove_the_old_keys_of_a_sender_who_went_on_end_soon() {
    let mut schedule = started(7);
    // On leaf 6 is who was on leaf 2 before.
    let mut swapped = removing(8, 3);
    let info = swapped.leaves.remove(&2).unwrap();
    swapped.leaves.insert(6, info);
    schedule.enter(100, swapped).unwrap();
    schedule.peer_opened(110, kid(1, 8)).unwrap();
    assert_eq!(schedule.take_changed(), Some(8), "the switch");
    schedule.peer_opened(120, kid(6, 8)).unwrap();
    let opens = |schedule: &Schedule| [1, 2, 3].map(|leaf| schedule.receiver_key(0, kid(leaf, 7)).is_some());
    let end = 110 + RETIRE_MS;
    schedule.tick(end - 1);
    assert_eq!(
        opens(&schedule),
        [true, true, true],
        "its other streams may be late"
    );
    assert_eq!(
        (schedule.take_changed(), schedule.next_deadline()),
        (None, Some(end))
    );
    // The second one is due 10 ms later, and ends together with the first.
    schedule.tick(end);
    assert_eq!(opens(&schedule), [false, false, true]);
    assert_eq!(schedule.peer_opened(end, kid(2, 7)), None);
    assert_eq!(
        (schedule.take_changed(), schedule.next_deadline()),
        (Some(8), Some(2_100))
    );
    // Where nobody was removed old keys of the same sender stay.
    schedule.enter(3_000, keys(9)).unwrap();
    schedule.peer_opened(3_000, kid(1, 9)).unwrap();
    assert!(schedule.receiver_key(3_000, kid(1, 8)).is_some());
}

#[test]
fn two_epochs_at_once_are_entered_one_by_one_or_skipped_by_a_peer() {
    let mut schedule = started(7);
    schedule.enter(100, keys(8)).unwrap();
    schedule.enter(600, keys(9)).unwrap();
    schedule.tick(1_100);
    assert_eq!(schedule.sealing_epoch(), Some(8));
    assert!(schedule.transition());
    schedule.tick(1_600);
    assert_eq!(schedule.sealing_epoch(), Some(9));
    schedule.enter(1_700, keys(10)).unwrap();
    schedule.enter(1_800, keys(11)).unwrap();
    schedule.peer_opened(1_900, kid(1, 11)).unwrap();
    assert_eq!(schedule.sealing_epoch(), Some(11));
    let opened: Vec<_> = (6..13)
        .filter(|&epoch| schedule.receiver_key(1_900, kid(1, epoch)).is_some())
        .collect();
    assert_eq!(opened, [7, 8, 9, 10, 11], "a skipped epoch is opened too");
    for (now, oldest) in [(11_099, 7), (11_100, 8), (11_600, 9), (11_899, 9), (11_900, 11)] {
        schedule.tick(now);
        assert_eq!(schedule.epochs().next(), Some(oldest), "{now}");
    }
}

#[test]
fn a_remove_among_other_commits_drives_out_of_every_epoch_before_it() {
    // Behind a pending epoch: that one is skipped.
    let mut schedule = started(7);
    schedule.enter(100, keys(8)).unwrap();
    schedule.enter(150, removing(9, 3)).unwrap();
    schedule.tick(150 + SWITCH_AFTER_REMOVE_MS);
    assert_eq!(schedule.sealing_epoch(), Some(9));
    // Before a pending epoch: that one has its own time.
    let mut schedule = started(7);
    schedule.enter(100, removing(8, 3)).unwrap();
    schedule.enter(150, removing_nobody(9, 3)).unwrap();
    schedule.tick(100 + SWITCH_AFTER_REMOVE_MS);
    assert_eq!(schedule.sealing_epoch(), Some(8));
    schedule.tick(1_150);
    assert_eq!(schedule.sealing_epoch(), Some(9));
    // A peer that went on to an epoch before it is followed, but not for longer.
    let mut schedule = started(7);
    schedule.enter(100, keys(8)).unwrap();
    schedule.enter(150, removing(9, 3)).unwrap();
    schedule.peer_opened(200, kid(1, 8)).unwrap();
    assert_eq!(schedule.sealing_epoch(), Some(8));
    assert!(schedule.sender_key(150 + SWITCH_AFTER_REMOVE_MS).unwrap().epoch == 9);
}

fn removing_nobody(epoch: u64, gone: u32) -> EpochKeys {
    EpochKeys {
        removed_somebody: false,
        ..removing(epoch, gone)
    }
}

#[test]
fn epochs_that_were_not_seen_may_have_removed_somebody() {
    let mut schedule = started(7);
    schedule.enter(100, keys(9)).unwrap();
    assert_eq!(
        schedule.sender_key(100 + SWITCH_AFTER_REMOVE_MS).unwrap().epoch,
        9
    );
    schedule.tick(2_100);
    assert_eq!(schedule.epochs().collect::<Vec<_>>(), [9]);
}

#[test]
fn without_the_right_to_seal_the_old_epoch_is_used_to_its_end_and_nothing_after() {
    let unsealable = |epoch| EpochKeys {
        sealing: false,
        ..keys(epoch)
    };
    let mut schedule = started(7);
    schedule.enter(100, unsealable(8)).unwrap();
    schedule.all_ready(200, 8);
    schedule.peer_opened(200, kid(1, 8)).unwrap();
    assert_eq!(schedule.sender_key(1_099).unwrap().epoch, 7);
    schedule.take_changed();
    schedule.tick(1_100);
    assert_eq!(
        (schedule.sealing_epoch(), schedule.take_changed()),
        (None, Some(8))
    );
    assert!(schedule.sender_key(1_100).is_none());
    assert!(!schedule.transition());
    assert!(schedule.receiver_key(1_100, kid(1, 8)).is_some(), "but opened");
    schedule.enter(1_200, unsealable(9)).unwrap();
    assert!(schedule.sender_key(1_200).is_none());
    // As soon as it can seal again it does: waiting would only lose frames.
    schedule.take_changed();
    schedule.enter(1_300, keys(10)).unwrap();
    assert_eq!(
        (schedule.sealing_epoch(), schedule.take_changed()),
        (Some(10), Some(10))
    );
    // An epoch that can be sealed in, in time.
    schedule.enter(1_400, unsealable(11)).unwrap();
    schedule.enter(1_500, keys(12)).unwrap();
    schedule.tick(2_399);
    assert_eq!(schedule.sealing_epoch(), Some(10));
    schedule.tick(2_400);
    assert_eq!(schedule.sealing_epoch(), Some(12));
    // After a Remove, in its shorter time.
    schedule
        .enter(
            2_500,
            EpochKeys {
                sealing: false,
                ..removing(13, 3)
            },
        )
        .unwrap();
    assert!(schedule.sender_key(2_500 + SWITCH_AFTER_REMOVE_MS).is_none());
}

#[test]
fn who_only_records_never_seals() {
    let mut schedule = Schedule::new();
    schedule
        .enter(
            0,
            EpochKeys {
                own_leaf: 4,
                ..keys(7)
            },
        )
        .unwrap();
    assert!(schedule.sender_key(0).is_none());
    assert!(schedule.receiver_key(0, kid(0, 7)).is_some());
    schedule
        .enter(
            0,
            EpochKeys {
                own_leaf: 5,
                ..keys(8)
            },
        )
        .unwrap();
    assert!(schedule.sender_key(0).is_none(), "nor who is on no leaf");
}

#[test]
fn stale_and_back_goes_on_where_time_has_come_to_and_never_repeats_a_kid() {
    let mut schedule = started(7);
    let before = schedule.sender_key(0).unwrap();
    schedule.allow_sealing(false);
    assert_eq!(
        (schedule.take_changed(), schedule.sealing_epoch()),
        (Some(7), None)
    );
    schedule.allow_sealing(false);
    assert_eq!(schedule.take_changed(), None);
    assert!(schedule.sender_key(10).is_none());
    assert!(
        schedule.receiver_key(10, kid(1, 7)).is_some(),
        "opening is another matter"
    );
    schedule.allow_sealing(true);
    assert_eq!(schedule.take_changed(), Some(7));
    let after = schedule.sender_key(20).unwrap();
    assert_eq!(after.epoch, before.epoch);
    assert_ne!(after.kid, before.kid);
    schedule.allow_sealing(false);
    schedule.enter(100, removing(8, 3)).unwrap();
    schedule.tick(5_000);
    schedule.allow_sealing(true);
    assert_eq!(schedule.sender_key(5_000).unwrap().epoch, 8);
}

#[test]
fn what_was_forgotten_is_gone_but_its_kids_stay_given_out() {
    let mut schedule = started(7);
    let before: Vec<_> = (0..3).map(|_| schedule.sender_key(0).unwrap().kid).collect();
    schedule.forget_all();
    assert_eq!(schedule.take_changed(), Some(7));
    assert!(schedule.sender_key(1).is_none());
    assert!(schedule.receiver_key(1, kid(1, 7)).is_none());
    assert_eq!(schedule.next_deadline(), None);
    schedule.forget_all();
    assert_eq!(schedule.take_changed(), None);
    // The same epoch again, as after loading the group again; then a new group, whose epochs begin at 0.
    schedule.enter(2, keys(7)).unwrap();
    let after = schedule.sender_key(2).unwrap().kid;
    assert!(!before.contains(&after), "{after}");
    schedule.forget_all();
    schedule.enter(3, keys(0)).unwrap();
    assert_eq!(schedule.sender_key(3).unwrap().epoch, 0);
    schedule.forget_all();
    schedule.enter(4, keys(7)).unwrap();
    let last = schedule.sender_key(4).unwrap().kid;
    assert!(last != after && !before.contains(&last), "{last}");
    schedule.enter(4, keys(8)).unwrap();
    schedule.all_ready(4, 8);
    assert_eq!(
        schedule.sender_key(4).unwrap().kid,
        8,
        "a new epoch begins at context 0"
    );
}

#[test]
fn what_cannot_be_entered_changes_nothing() {
    let mut schedule = started(7);
    type Change = fn(&mut EpochKeys);
    let table: [(Change, EnterError); 8] = [
        (|k| k.suite = 0, EnterError::Suite(0)),
        (|k| k.suite = 6, EnterError::Suite(6)),
        (|k| k.base_key.clear(), EnterError::NoKey),
        (|k| k.epoch_bits = 0, EnterError::Layout),
        (|k| k.epoch_bits = 9, EnterError::Layout),
        (|k| k.tree_leaves = 4, EnterError::Layout),
        (|k| k.own_leaf = 8, EnterError::Layout),
        (|k| k.epoch = 6, EnterError::NotNewer { epoch: 6, newest: 7 }),
    ];
    for (change, error) in table {
        let mut bad = removing(8, 3);
        change(&mut bad);
        assert_eq!(schedule.enter(100, bad), Err(error));
    }
    assert_eq!(schedule.enter(100, keys(7)), Ok(()), "the same again");
    let forked = EpochKeys {
        base_key: Zeroizing::new(b"another".to_vec()),
        ..keys(7)
    };
    assert_eq!(
        schedule.enter(100, forked),
        Err(EnterError::NotNewer { epoch: 7, newest: 7 })
    );
    assert_eq!((schedule.take_changed(), schedule.next_deadline()), (None, None));
}

#[test]
fn a_burst_of_commits_is_followed_in_few_steps_and_opened_by_all_who_are_a_little_apart() {
    let mut schedule = started(0);
    let mut switches = Vec::new();
    for epoch in 1..=50 {
        schedule.enter(epoch, keys(epoch)).unwrap();
        let sealing = schedule.sealing_epoch().unwrap();
        if switches.last() != Some(&sealing) {
            switches.push(sealing);
        }
        let lag = epoch - sealing;
        assert!(lag < 8, "who is 8 epochs ahead can still open it: {lag}");
        assert!(schedule.epochs().count() <= 12);
        let ahead = (1..=4).map(|more| kid(1, epoch + more));
        let misread: Vec<_> = ahead
            .filter(|&kid| schedule.receiver_key(epoch, kid).is_some())
            .collect();
        assert!(misread.is_empty(), "who is ahead waits: {misread:?}");
        for old in schedule.epochs() {
            let key = schedule.receiver_key(epoch, kid(1, old)).unwrap();
            assert_eq!(key.epoch, old);
        }
    }
    assert_eq!(switches, [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44]);
    schedule.tick(50 + SWITCH_MS);
    assert_eq!(schedule.sealing_epoch(), Some(50));
    schedule.tick(50 + SWITCH_MS + KEEP_MS);
    assert_eq!(schedule.epochs().collect::<Vec<_>>(), [50]);
}

#[test]
fn an_old_epoch_whose_kids_would_read_as_the_new_ones_is_gone() {
    // With one bit there are two epochs.
    let one_bit = |epoch| EpochKeys {
        epoch_bits: 1,
        ..keys(epoch)
    };
    let mut schedule = Schedule::new();
    schedule.enter(0, one_bit(7)).unwrap();
    schedule.enter(1, one_bit(8)).unwrap();
    assert_eq!(schedule.sealing_epoch(), Some(7));
    schedule.enter(2, one_bit(9)).unwrap();
    assert_eq!(schedule.epochs().collect::<Vec<_>>(), [8, 9]);
    assert_eq!(schedule.sealing_epoch(), Some(8), "driven out");
    // Fewer bits than before: what cannot be told from the new epoch by them goes.
    let mut schedule = Schedule::new();
    for epoch in 7..=10 {
        schedule.enter(0, keys(epoch)).unwrap();
    }
    schedule
        .enter(
            0,
            EpochKeys {
                epoch_bits: 2,
                ..keys(11)
            },
        )
        .unwrap();
    assert_eq!(schedule.epochs().collect::<Vec<_>>(), [9, 10, 11]);
    assert_eq!(schedule.sealing_epoch(), Some(10));
}

#[test]
fn time_that_goes_back_or_to_the_end_is_no_matter() {
    let mut schedule = started(7);
    schedule.enter(u64::MAX, keys(8)).unwrap();
    schedule
        .enter(
            0,
            EpochKeys {
                epoch: u64::MAX,
                ..keys(9)
            },
        )
        .unwrap();
    schedule.tick(u64::MAX);
    assert_eq!(schedule.sender_key(5).unwrap().epoch, u64::MAX);
    assert_eq!(schedule.next_deadline(), None);
}

#[test]
fn nothing_secret_is_printed() {
    let mut schedule = started(7);
    let sealing = schedule.sender_key(0).unwrap();
    let opening = schedule.receiver_key(0, kid(1, 7)).unwrap();
    let text = format!(
        "{:?} {schedule:?} {:?} {sealing:?} {opening:?}",
        keys(7),
        schedule.table()
    );
    let numbers = format!("{:?}", b"key of epoch 7".as_slice());
    assert!(
        !text.contains("key of") && !text.contains(numbers.trim_matches(['[', ']'])),
        "{text}"
    );
    assert!(!text.contains("member"), "{text}");
}

// Any order of anything

#[derive(Debug, Clone)]
enum Step {
    Enter {
        skip: u64,
        gone: Option<u32>,
        bits: u8,
        sealing: bool,
    },
    AllReady {
        back: u64,
    },
    PeerOpened {
        leaf: u32,
        back: u64,
    },
    Forged {
        kid: u64,
    },
    Allow(bool),
    Forget {
        restart: bool,
    },
    Tick,
    Seal,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let bits = prop_oneof![8 => Just(4u8), 1 => 1u8..=8];
    let skip = prop_oneof![9 => Just(0u64), 1 => 0u64..40];
    let gone = prop_oneof![3 => Just(None), 1 => (1u32..4).prop_map(Some)];
    let enter = (skip, gone, bits, prop::bool::weighted(0.85));
    let enter = enter.prop_map(|(skip, gone, bits, sealing)| Step::Enter {
        skip,
        gone,
        bits,
        sealing,
    });
    let step = prop_oneof![
        6 => enter,
        1 => (0u64..4).prop_map(|back| Step::AllReady { back }),
        3 => (0u32..6, 0u64..4).prop_map(|(leaf, back)| Step::PeerOpened { leaf, back }),
        1 => any::<u64>().prop_map(|kid| Step::Forged { kid }),
        1 => any::<bool>().prop_map(Step::Allow),
        1 => any::<bool>().prop_map(|restart| Step::Forget { restart }),
        3 => Just(Step::Tick),
        6 => Just(Step::Seal),
    ];
    let after = prop_oneof![4 => 0u64..20, 3 => 20u64..400, 1 => 400u64..12_000];
    prop::collection::vec((after, step), 1..120)
}

proptest! {
    #[test]
    fn whatever_happens_the_promises_hold(steps in steps()) {
        let mut schedule = Schedule::new();
        let mut now = 0;
        let mut given = HashSet::new();
        // Since everything was forgotten: the next epoch, and when which removed somebody.
        let mut next = 0u64;
        let mut removes: Vec<(u64, u64)> = Vec::new();
        let mut allowed = true;
        for (after, step) in steps {
            now += after;
            // Between deadlines nothing changes.
            let deadline = schedule.next_deadline();
            schedule.take_changed();
            let quiet = now.min(deadline.unwrap_or(u64::MAX).saturating_sub(1));
            let before = schedule.sealing_epoch();
            schedule.tick(quiet);
            prop_assert_eq!(schedule.take_changed(), None);
            prop_assert_eq!(schedule.sealing_epoch(), before);
            prop_assert_eq!(schedule.next_deadline(), deadline);

            let newest = next.saturating_sub(1);
            let before = schedule.sealing_epoch();
            let mut told = false;
            match step {
                Step::Enter { skip, gone, bits, sealing } => {
                    let epoch = next + skip;
                    let mut new = keys(epoch);
                    new.epoch_bits = bits;
                    new.sealing = sealing;
                    if let Some(gone) = gone {
                        new.leaves.remove(&gone);
                        new.removed_somebody = true;
                        removes.push((now, epoch));
                    }
                    prop_assert_eq!(schedule.enter(now, new), Ok(()));
                    next = epoch + 1;
                }
                Step::AllReady { back } => schedule.all_ready(now, newest.saturating_sub(back)),
                Step::PeerOpened { leaf, back } => {
                    let kid = kid(leaf, newest.saturating_sub(back));
                    schedule.tick(now);
                    let is_known = schedule.receiver_key(now, kid).is_some();
                    prop_assert_eq!(schedule.peer_opened(now, kid).is_some(), is_known);
                }
                // A lookup is all that a frame that does not authenticate causes.
                Step::Forged { kid } => {
                    schedule.tick(now);
                    let before = (schedule.next_deadline(), schedule.sealing_epoch());
                    told = schedule.take_changed().is_some();
                    schedule.receiver_key(now, kid);
                    prop_assert_eq!(before, (schedule.next_deadline(), schedule.sealing_epoch()));
                    prop_assert_eq!(schedule.take_changed(), None);
                }
                Step::Allow(may) => {
                    schedule.tick(now);
                    schedule.allow_sealing(may);
                    allowed = may;
                }
                Step::Forget { restart } => {
                    schedule.tick(now);
                    schedule.forget_all();
                    removes.clear();
                    // A new group, or the same epochs again.
                    next = if restart { 0 } else { newest.saturating_sub(2) };
                }
                Step::Tick => schedule.tick(now),
                Step::Seal => {
                    if let Some(key) = schedule.sender_key(now) {
                        prop_assert!(allowed);
                        prop_assert!(given.insert((key.base_key.to_vec(), key.kid)), "{:?}", key);
                        let too_late = removes.iter().find(|&&(at, epoch)| epoch > key.epoch && now >= at + 250);
                        prop_assert_eq!(too_late, None);
                        prop_assert_eq!(Some(key.epoch), schedule.sealing_epoch());
                    }
                }
            }
            schedule.tick(now);
            prop_assert!(schedule.next_deadline().is_none_or(|at| at > now));
            let after = schedule.sealing_epoch();
            if after != before {
                prop_assert!(told || schedule.take_changed().is_some(), "{:?} -> {:?}", before, after);
            }
            // Bounded, and no KID is of two epochs.
            prop_assert!(schedule.epochs.len() <= 192);
            for (&a, x) in &schedule.epochs {
                prop_assert!(x.opened.retired.len() <= 8);
                for (&b, y) in schedule.epochs.range(..a) {
                    prop_assert!(!x.opened.keys.layout.displaces(a, y.opened.keys.layout, b));
                }
            }
            // Lookups beside the schedule see the same.
            let table = schedule.table();
            for epoch in newest.saturating_sub(20)..=newest + 1 {
                let kid = kid(1, epoch);
                let leaf = |key: OpeningKey| (key.epoch, key.leaf);
                prop_assert_eq!(table.receiver_key(now, kid).map(leaf), schedule.receiver_key(now, kid).map(leaf));
            }
        }
        // In the end only the newest is left.
        schedule.tick(now + SWITCH_MS);
        schedule.tick(now + SWITCH_MS + KEEP_MS);
        prop_assert!(schedule.epochs().all(|epoch| epoch + 1 == next));
        prop_assert_eq!(schedule.next_deadline(), None);
        prop_assert!(!schedule.transition());
    }

    /// Two members who hear of the same commits, each in its own time, a few commits apart at most: what one seals
    /// the other can open, now or when it hears of it.
    #[test]
    fn members_that_are_not_far_apart_open_each_other(
        commits in prop::collection::vec((20u64..3_000, prop::bool::weighted(0.2), 0u64..120, 0u64..120), 1..40)
    ) {
        let member = |own_leaf: u32, epoch: u64, removed_somebody| EpochKeys {
            own_leaf, removed_somebody, ..keys(epoch)
        };
        let mut all = [Schedule::new(), Schedule::new()];
        let mut arrivals: Vec<(u64, usize, u64, bool)> = vec![(0, 0, 0, false), (0, 1, 0, false)];
        let (mut at, mut heard) = (0, [0, 0]);
        for (epoch, (after, removes, a, b)) in (1..).zip(commits) {
            at += after;
            for (who, delay) in [(0, a), (1, b)] {
                // In order.
                heard[who] = (at + delay).max(heard[who]);
                arrivals.push((heard[who], who, epoch, removes));
            }
        }
        arrivals.sort_unstable();
        let end = arrivals.iter().map(|arrival| arrival.0).max().unwrap_or(0) + 2_000;
        let mut arrivals = arrivals.into_iter().peekable();
        for now in (0..end).step_by(20) {
            while let Some((_, who, epoch, removes)) = arrivals.next_if(|arrival| arrival.0 <= now) {
                all[who].enter(now, member(who as u32, epoch, removes)).unwrap();
            }
            for schedule in &mut all {
                schedule.tick(now);
            }
            for (from, to) in [(0, 1), (1, 0)] {
                let Some(sealing) = all[from].sealing_epoch() else { continue };
                let kid = kid(from as u32, sealing);
                let newest = all[to].epochs().last().unwrap();
                let opened = all[to].receiver_key(now, kid).map(|key| key.epoch);
                // What it did not hear of yet is unknown and waits.
                prop_assert_eq!(opened, Some(sealing).filter(|_| sealing <= newest), "at {}", now);
                all[to].peer_opened(now, kid);
            }
        }
    }
}
