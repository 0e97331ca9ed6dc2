//! What holds after any history of commits that were accepted, whoever tried whatever.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::policy::fixtures::*;
use crate::policy::weakens;

/// Something that somebody tries; numbers choose among what there is at that moment.
#[derive(Debug, Clone)]
struct Attempt {
    committer: usize,
    external: bool,
    time: i64,
    path: Path,
    adds: Vec<(usize, i64)>,
    removes: Vec<(usize, bool)>,
    edits: Vec<Edit>,
    deny_removed: bool,
}

/// Which certificate the committer's new leaf carries.
#[derive(Debug, Clone, Copy)]
enum Path {
    Same,
    Renewed(i64),
    Somebody(usize),
}

#[derive(Debug, Clone, Copy)]
enum Edit {
    Claim(Claim),
    Admit(usize),
    AdmitFewer,
    Deny(usize),
    DenyFewer,
    Right(Act, usize),
    Retention(Option<u32>),
    Recipient(u8),
    NoRecipients,
    Recording(bool),
    Root,
    Suite(u16),
    EpochBits(u8),
}

/// Everybody there is.
fn people() -> Vec<Identity> {
    let roles = [
        vec![Role::Participant],
        vec![Role::Recorder],
        vec![Role::Participant, Role::Recorder],
    ];
    let mut people = Vec::new();
    for (n, subject) in [
        "anna", "adder", "remover", "switcher", "lawyer", "paul", "rex", "both",
    ]
    .iter()
    .enumerate()
    {
        let own = match n {
            6 => &roles[1],
            7 => &roles[2],
            _ => &roles[0],
        };
        let first = identity(subject, own);
        people.push(renewed(&first, 100));
        people.push(renewed(&identity(subject, &roles[n % 3]), 200));
        people.push(Identity {
            root: OTHER_ROOT,
            fingerprint: Fingerprint::of(format!("other {subject}").as_bytes()),
            ..first.clone()
        });
        people.push(first);
    }
    people
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let choice = 0..1000usize;
    let path = prop_oneof![
        8 => Just(Path::Same),
        1 => prop_oneof![Just(-50i64), Just(50), Just(100)].prop_map(Path::Renewed),
        1 => choice.clone().prop_map(Path::Somebody),
    ];
    let time = prop_oneof![
        10 => 20..100i64,
        1 => -100..0i64,
        1 => Just(RUNAWAY_SECONDS as i64 * 20),
        1 => Just(2 * YEAR as i64),
    ];
    let adds = prop_oneof![
        3 => Just(vec![]),
        2 => prop::collection::vec((choice.clone(), -50..70i64), 1..3),
    ];
    let removes = prop_oneof![
        3 => Just(vec![]),
        2 => prop::collection::vec((choice.clone(), prop::bool::weighted(0.3)), 1..3),
    ];
    let claim = prop_oneof![Just(Claim::Strict), Just(Claim::Recorded), Just(Claim::Escrow)];
    let act = prop::sample::select(&Act::ALL[..]);
    let edit = prop_oneof![
        claim.prop_map(Edit::Claim),
        choice.clone().prop_map(Edit::Admit),
        Just(Edit::AdmitFewer),
        choice.clone().prop_map(Edit::Deny),
        Just(Edit::DenyFewer),
        (act, choice.clone()).prop_map(|(act, who)| Edit::Right(act, who)),
        prop::option::of(1..60u32).prop_map(Edit::Retention),
        (0..4u8).prop_map(Edit::Recipient),
        Just(Edit::NoRecipients),
        any::<bool>().prop_map(Edit::Recording),
        any::<bool>().prop_map(Edit::Recording),
        Just(Edit::Root),
        (3..6u16).prop_map(Edit::Suite),
        (3..6u8).prop_map(Edit::EpochBits),
    ];
    let edits = prop_oneof![
        3 => Just(vec![]),
        2 => prop::collection::vec(edit, 1..3),
    ];
    let who = (choice, prop::bool::weighted(0.1), time, path);
    (who, adds, removes, edits, any::<bool>()).prop_map(|(who, adds, removes, edits, deny_removed)| {
        let (committer, external, time, path) = who;
        Attempt {
            committer,
            external,
            time,
            path,
            adds,
            removes,
            edits,
            deny_removed,
        }
    })
}

/// A room as all honest members see it.
#[derive(Debug, Clone)]
struct Room {
    policy: Policy,
    roster: Roster,
}

impl Room {
    fn new(policy: Policy) -> Self {
        let first = people().into_iter().skip(3).step_by(4).take(6);
        let leaves = first.map(|identity| Leaf { identity, time: NOW });
        Self {
            policy,
            roster: (0..).zip(leaves).collect(),
        }
    }

    fn commit(&self, attempt: &Attempt) -> Change {
        let people = people();
        let leaves: Vec<u32> = self.roster.keys().copied().collect();
        let person = |n: usize| people[n % people.len()].clone();
        let member = leaves[attempt.committer % leaves.len()];
        let own = &self.roster[&member].identity;
        let group = group_time(&self.roster);
        let mut removes: Vec<Removal> = attempt
            .removes
            .iter()
            .map(|(n, by_itself)| Removal {
                leaf: leaves[n % leaves.len()],
                by_itself: *by_itself,
            })
            .collect();
        if attempt.external {
            removes.truncate(attempt.adds.len());
            removes.push(Removal {
                leaf: member,
                by_itself: false,
            });
        }
        let mut policy = self.policy.clone();
        for edit in &attempt.edits {
            apply(*edit, &mut policy, &people);
        }
        if attempt.deny_removed {
            let removed = removes
                .iter()
                .map(|removal| self.roster[&removal.leaf].identity.fingerprint);
            policy = policy.with_denied(removed.collect::<Vec<_>>());
        }
        policy.normalise();
        Change {
            committer: if attempt.external {
                Committer::External
            } else {
                Committer::Member(member)
            },
            time: group.saturating_add_signed(attempt.time),
            path: Some(match attempt.path {
                Path::Same => own.clone(),
                Path::Renewed(later) => renewed(own, later),
                Path::Somebody(n) => person(n),
            }),
            adds: attempt
                .adds
                .iter()
                .map(|(n, time)| Leaf {
                    identity: person(*n),
                    time: group.saturating_add_signed(*time),
                })
                .collect(),
            removes,
            policy: (policy != self.policy).then_some(Ok(policy)),
            forbidden: vec![],
        }
    }

    /// The room after a commit, as RFC 9420 §12.3 applies its parts: removals, then additions from the left.
    fn after(&self, change: &Change, judged: &Judged) -> Self {
        let mut roster = self.roster.clone();
        for leaf in &judged.removed {
            roster.remove(leaf);
        }
        let own = Leaf {
            identity: change.path.clone().unwrap(),
            time: change.time,
        };
        if let Committer::Member(leaf) = change.committer {
            roster.insert(leaf, own.clone());
        }
        let outside = (change.committer == Committer::External).then_some(own);
        for leaf in change.adds.iter().cloned().chain(outside) {
            let blank = (0..).find(|index| !roster.contains_key(index)).unwrap();
            roster.insert(blank, leaf);
        }
        Self {
            policy: judged.policy.clone(),
            roster,
        }
    }

    fn holds(&self, identity: &Identity) -> Option<&Leaf> {
        self.roster.values().find(|leaf| leaf.identity.same_as(identity))
    }
}

fn apply(edit: Edit, policy: &mut Policy, people: &[Identity]) {
    let person = |n: usize| &people[n % people.len()];
    match edit {
        Edit::Claim(claim) => {
            policy.claim = claim;
            policy.escrow = (claim == Claim::Escrow).then(|| escrow().escrow.unwrap());
            if claim != Claim::Recorded {
                policy.recipients.clear();
            }
            if claim == Claim::Strict {
                policy
                    .admit
                    .retain(|admission| admission.role == Role::Participant);
            }
        }
        Edit::Admit(n) => {
            let role = person(n).roles[0];
            policy.admit.push(match n % 3 {
                0 => only(role, person(n).fingerprint),
                _ => any_of(role, person(n).root),
            });
        }
        Edit::AdmitFewer => drop(policy.admit.pop()),
        Edit::Deny(n) => policy.deny.push(person(n).fingerprint),
        Edit::DenyFewer => drop(policy.deny.pop()),
        Edit::Right(act, n) => {
            let right = holders(&["anna", &person(n).subject]);
            match act {
                Act::Add => policy.rights.add = right,
                Act::Remove => policy.rights.remove = right,
                Act::Recording => policy.rights.recording = right,
                Act::Policy => policy.rights.policy = right,
            }
        }
        Edit::Retention(days) => policy.retention_days = days,
        Edit::Recipient(n) => policy.recipients.push(fp(n)),
        Edit::NoRecipients => policy.recipients.clear(),
        Edit::Recording(on) => policy.recording = on,
        Edit::Root => policy.roots = vec![ROOT, OTHER_ROOT],
        Edit::Suite(suite) => policy.sframe_suite = suite,
        Edit::EpochBits(bits) => policy.epoch_bits = bits,
    }
}

/// The promises, said once more in another way than the rules say them.
fn check_step(before: &Room, change: &Change, judged: &Judged, after: &Room) -> Result<(), TestCaseError> {
    let (old, new) = (&before.policy, &after.policy);
    let committer = match change.committer {
        Committer::Member(leaf) => before.roster[&leaf].identity.clone(),
        Committer::External => change.path.clone().unwrap(),
    };
    let member = change.committer != Committer::External;
    let may = |act: Act| member && committer.is_participant() && old.rights.of(act).is_held_by(&committer);
    let alone = change.adds.is_empty() && change.removes.is_empty();

    prop_assert_eq!(check_roster(new, &after.roster, change.time), Ok(()));
    prop_assert_eq!(group_time(&after.roster), change.time);
    let back = group_time(&after.roster) < group_time(&before.roster);
    prop_assert!(!back || (may(Act::Remove) && change.adds.is_empty() && !change.removes.is_empty()));

    if new.claim == Claim::Strict {
        prop_assert!(after.roster.values().all(|leaf| !leaf.identity.is_recorder()));
        prop_assert!(!new.recording && new.recipients.is_empty() && new.escrow.is_none());
    }
    let weaker = !weakens(old, new).is_empty();
    prop_assert_eq!(judged.weakening, weaker);
    prop_assert!(!weaker || (may(Act::Policy) && alone));
    prop_assert!(
        !new.recording || old.recording || (may(Act::Recording) && alone && old.claim != Claim::Strict)
    );
    prop_assert_eq!(
        (&new.room, new.version, new.epoch_bits),
        (&old.room, old.version, old.epoch_bits)
    );

    let same_but_deny_and_recording = Policy {
        deny: old.deny.clone(),
        recording: old.recording,
        ..new.clone()
    } == *old;
    prop_assert!(same_but_deny_and_recording || may(Act::Policy));
    if !may(Act::Policy) {
        prop_assert!(old.deny.iter().all(|fingerprint| new.deny.contains(fingerprint)));
        let gone = |fingerprint: &Fingerprint| {
            let was = before
                .roster
                .values()
                .any(|leaf| leaf.identity.fingerprint == *fingerprint);
            was && after
                .roster
                .values()
                .all(|leaf| leaf.identity.fingerprint != *fingerprint)
        };
        prop_assert!(
            new.deny
                .iter()
                .all(|fingerprint| old.deny.contains(fingerprint) || gone(fingerprint))
        );
    }

    for leaf in after.roster.values() {
        let identity = &leaf.identity;
        prop_assert!(!new.deny.contains(&identity.fingerprint));
        match before.holds(identity) {
            None => prop_assert!(may(Act::Add), "{} came in", identity.subject),
            Some(was) => {
                let wider = identity
                    .roles
                    .iter()
                    .any(|role| !was.identity.roles.contains(role));
                prop_assert!(!wider || may(Act::Add));
                prop_assert!(leaf.time >= was.time || back);
                prop_assert!(identity.not_before >= was.identity.not_before);
                let touched = leaf != was;
                prop_assert!(!touched || identity.same_as(&committer) || may(Act::Add));
            }
        }
    }
    for (index, leaf) in &before.roster {
        let by_itself = change
            .removes
            .iter()
            .any(|removal| removal.leaf == *index && removal.by_itself);
        let stays = after.holds(&leaf.identity).is_some();
        prop_assert!(
            stays || by_itself || may(Act::Remove),
            "{} was thrown out",
            leaf.identity.subject
        );
        prop_assert!(stays || judged.removed.contains(index));
    }
    if !committer.is_participant() {
        prop_assert_eq!(new, old);
        prop_assert_eq!(after.roster.len(), before.roster.len());
    }
    Ok(())
}

fn play(mut room: Room, attempts: &[Attempt]) -> Result<Vec<Change>, TestCaseError> {
    let mut accepted = Vec::new();
    let frozen = room.policy.rights.policy == holders(&[]);
    let first = room.policy.clone();
    for attempt in attempts {
        let change = room.commit(attempt);
        let Ok(judged) = judge(&room.policy, &room.roster, group_time(&room.roster), &change) else {
            continue;
        };
        let after = room.after(&change, &judged);
        check_step(&room, &change, &judged, &after)?;
        if frozen {
            // Nobody holds the right to change the policy: whatever is tried, it only gets stricter, for ever.
            prop_assert!(weakens(&first, &after.policy).is_empty());
            prop_assert!(first.deny.iter().all(|denied| after.policy.deny.contains(denied)));
        }
        accepted.push(change);
        room = after;
    }
    Ok(accepted)
}

fn frozen(mut policy: Policy) -> Policy {
    policy.rights.policy = holders(&[]);
    policy.rights.remove = crate::policy::Right::Participants;
    policy
}

fn first_policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(recorded()),
        Just(strict()),
        Just(escrow()),
        Just(frozen(recorded())),
        Just(frozen(strict())),
    ]
}

fn wild_change() -> impl Strategy<Value = Change> {
    let index = || prop_oneof![0..8u32, any::<u32>()];
    let time = || prop_oneof![NOW..NOW + 100, any::<u64>()];
    let leaf = (some_identity(), time()).prop_map(|(identity, time)| Leaf { identity, time });
    let removal = (index(), any::<bool>()).prop_map(|(leaf, by_itself)| Removal { leaf, by_itself });
    (
        prop_oneof![9 => index().prop_map(Committer::Member), 1 => Just(Committer::External)],
        time(),
        prop::option::of(some_identity()),
        prop::collection::vec(leaf, 0..3),
        prop::collection::vec(removal, 0..3),
        prop::option::of(prop_oneof![9 => some_policy().prop_map(Ok), 1 => Just(Err("none".to_owned()))]),
        prop_oneof![9 => Just(vec![]), 1 => Just(vec!["ReInit"])],
    )
        .prop_map(
            |(committer, time, path, adds, removes, policy, forbidden)| Change {
                committer,
                time,
                path,
                adds,
                removes,
                policy,
                forbidden,
            },
        )
}

fn wild_roster() -> impl Strategy<Value = Roster> {
    let leaf = (some_identity(), any::<u64>()).prop_map(|(identity, time)| Leaf { identity, time });
    prop::collection::btree_map(0..8u32, leaf, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_history_breaks_a_promise(policy in first_policy(), attempts in prop::collection::vec(attempt(), 1..60)) {
        play(Room::new(policy), &attempts)?;
    }

    #[test]
    fn nonsense_is_judged_without_a_panic(
        policy in some_policy(),
        roster in wild_roster(),
        group in any::<u64>(),
        change in wild_change(),
    ) {
        let _ = judge(&policy, &roster, group, &change);
        let _ = check_roster(&policy, &roster, group);
        for leaf in &change.adds {
            let _ = may_add(&policy, &roster, leaf);
        }
    }

    #[test]
    fn whom_may_add_takes_an_adder_can_add(policy in first_policy(), who in 0..32usize, time in NOW - 50..NOW + 50) {
        let room = Room::new(policy);
        let candidate = Leaf { identity: people()[who].clone(), time };
        let present = room.roster.iter().find(|(_, leaf)| leaf.identity.same_as(&candidate.identity));
        let change = Change {
            committer: Committer::Member(0),
            time: NOW + 60,
            path: Some(room.roster[&0].identity.clone()),
            adds: vec![candidate.clone()],
            removes: present.map(|(leaf, _)| Removal { leaf: *leaf, by_itself: false }).into_iter().collect(),
            policy: None,
            forbidden: vec![],
        };
        let own = candidate.identity.same_as(&room.roster[&0].identity);
        let added = judge(&room.policy, &room.roster, NOW, &change);
        prop_assert_eq!(may_add(&room.policy, &room.roster, &candidate).is_ok() && !own, added.is_ok());
    }
}

/// The histories above would prove nothing if all that is tried were refused.
#[test]
fn the_histories_contain_everything_that_may_happen() {
    let mut runner = TestRunner::deterministic();
    let histories = prop::collection::vec(attempt(), 60);
    let mut accepted = Vec::new();
    for policy in [recorded(), strict()] {
        for _ in 0..60 {
            let attempts = histories.new_tree(&mut runner).unwrap().current();
            accepted.extend(play(Room::new(policy.clone()), &attempts).unwrap());
        }
    }
    let count = |what: fn(&Change) -> bool| accepted.iter().filter(|change| what(change)).count();
    let kinds = [
        (
            "updates",
            count(|c| c.adds.is_empty() && c.removes.is_empty() && c.policy.is_none()),
        ),
        ("adds", count(|c| !c.adds.is_empty() && c.removes.is_empty())),
        (
            "removals",
            count(|c| c.adds.is_empty() && c.removes.iter().any(|r| !r.by_itself)),
        ),
        ("departures", count(|c| c.removes.iter().any(|r| r.by_itself))),
        (
            "additions and removals",
            count(|c| !c.adds.is_empty() && !c.removes.is_empty()),
        ),
        ("rejoins", count(|c| c.committer == Committer::External)),
        (
            "policies",
            count(|c| matches!(&c.policy, Some(Ok(p)) if !p.recording)),
        ),
        (
            "recordings",
            count(|c| matches!(&c.policy, Some(Ok(p)) if p.recording)),
        ),
        (
            "strict",
            count(|c| matches!(&c.policy, Some(Ok(p)) if p.claim == Claim::Strict)),
        ),
        (
            "removals with a policy",
            count(|c| !c.removes.is_empty() && c.policy.is_some()),
        ),
    ];
    for (kind, found) in kinds {
        assert!(found >= 10, "{kind}: {kinds:?}");
    }
}
