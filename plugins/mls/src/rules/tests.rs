//! One line for each rule and side: what somebody commits, and what everybody says to it.

use super::*;
use crate::policy::fixtures::*;
use crate::policy::{Holder, Right, weakens};

/// Leaves of the room that the table is about. Who holds which right, [`recorded`] says.
const ANNA: u32 = 0;
const ADDER: u32 = 1;
const REMOVER: u32 = 2;
const SWITCHER: u32 = 3;
const LAWYER: u32 = 4;
const PAUL: u32 = 5;
/// A recorder, whom the policy names for some rights in vain.
const REX: u32 = 7;
/// Somebody from outside.
const OUTSIDE: u32 = u32::MAX;

/// Everybody came in at [`NOW`]; leaf 6 is blank.
fn roster() -> Roster {
    let people = ["anna", "adder", "remover", "switcher", "lawyer", "paul"];
    let mut roster: Roster = (0..)
        .zip(people.map(|subject| leaf(participant(subject), NOW)))
        .collect();
    roster.insert(REX, leaf(recorder("rex"), NOW));
    roster
}

fn roster_without_recorder() -> Roster {
    let mut roster = roster();
    roster.remove(&REX);
    roster
}

fn leaf(identity: Identity, time: u64) -> Leaf {
    Leaf { identity, time }
}

/// An update by this member, a minute later, to which the lines of the table add something.
fn by(committer: u32) -> Change {
    let path = roster().get(&committer).map(|leaf| leaf.identity.clone());
    Change {
        committer: if committer == OUTSIDE {
            Committer::External
        } else {
            Committer::Member(committer)
        },
        time: NOW + 60,
        path,
        adds: vec![],
        removes: vec![],
        policy: None,
        forbidden: vec![],
    }
}

impl Change {
    fn at(mut self, time: u64) -> Self {
        self.time = time;
        self
    }

    fn path(mut self, identity: Identity) -> Self {
        self.path = Some(identity);
        self
    }

    /// With a key package made half a minute later.
    fn add(self, identity: Identity) -> Self {
        self.add_at(identity, NOW + 30)
    }

    fn add_at(mut self, identity: Identity, time: u64) -> Self {
        self.adds.push(leaf(identity, time));
        self
    }

    fn remove(mut self, leaf: u32) -> Self {
        self.removes.push(Removal {
            leaf,
            by_itself: false,
        });
        self
    }

    fn leaves(mut self, leaf: u32) -> Self {
        self.removes.push(Removal {
            leaf,
            by_itself: true,
        });
        self
    }

    /// With the policy in force, edited.
    fn edit(mut self, edit: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = recorded();
        edit(&mut policy);
        policy.normalise();
        self.policy = Some(Ok(policy));
        self
    }

    fn deny(self, leaf: u32) -> Self {
        let fingerprint = roster()[&leaf].identity.fingerprint;
        self.edit(|policy| policy.deny.push(fingerprint))
    }
}

/// The name of a refusal's variant, or `Ok`.
fn name<T>(result: Result<T, Refusal>) -> String {
    match result {
        Ok(_) => "Ok".to_owned(),
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
            let debug = format!("{refusal:?}");
            debug.chars().take_while(|c| c.is_alphanumeric()).collect()
        }
    }
}

/// Judges each line in the room and under the policy that stand above: `what it is: the commit => what it gets`.
macro_rules! table {
    ($policy:expr, $roster:expr; $($line:literal: $change:expr => $expected:ident;)*) => {{
        let (policy, roster) = ($policy, $roster);
        let lines = [$(($line, name(judge(policy, roster, group_time(roster), &$change)), stringify!($expected)),)*];
        let wrong: Vec<_> = lines.iter().filter(|(_, found, expected)| found != expected).collect();
        assert!(wrong.is_empty(), "(line, found, expected): {wrong:#?}");
    }};
}

fn both(subject: &str) -> Identity {
    identity(subject, &[Role::Participant, Role::Recorder])
}

fn elsewhere(subject: &str) -> Identity {
    Identity {
        root: OTHER_ROOT,
        ..participant(subject)
    }
}

fn short(subject: &str, until: u64) -> Identity {
    Identity {
        not_after: until,
        ..participant(subject)
    }
}

#[test]
fn form_time_and_path() {
    let forbidden = |name| Change {
        forbidden: vec![name],
        ..by(ANNA)
    };
    let older = renewed(&participant("paul"), -1);
    table! { &recorded(), &roster();
        "an update": by(PAUL) => Ok;
        "a proposal that no room takes": forbidden("ReInit") => Forbidden;
        "no path": Change { path: None, ..by(PAUL) } => NoPath;
        "a blank leaf commits": by(6).path(participant("paul")) => NoCommitter;
        "a leaf beyond the tree commits": by(99).path(participant("paul")) => NoCommitter;
        "at the group's time": by(PAUL).at(NOW) => Ok;
        "before the group's time": by(PAUL).at(NOW - 1) => TimeBack;
        "at time 0": by(PAUL).at(0) => TimeBack;
        "in the last second of the own certificate": by(PAUL).at(NOW + YEAR) => Ok;
        "after the own certificate's end": by(PAUL).at(NOW + YEAR + 1) => NotValid;
        "at the end of time": by(PAUL).at(u64::MAX) => NotValid;
        "under somebody else's identity": by(PAUL).path(participant("anna")) => OtherIdentity;
        "under the same name from another root": by(PAUL).path(elsewhere("paul")) => OtherIdentity;
        "with a renewed certificate": by(PAUL).path(renewed(&participant("paul"), 9)) => Ok;
        "with a certificate that is not valid yet": by(PAUL).path(renewed(&participant("paul"), YEAR as i64 + 61)) => NotValid;
        "with a certificate that was replaced before": by(PAUL).path(older) => OlderCertificate;
        "a participant makes itself a recorder": by(PAUL).path(recorder("paul")) => WiderRoles;
        "a participant makes itself both": by(PAUL).path(both("paul")) => WiderRoles;
        "a recorder makes itself both": by(REX).path(both("rex")) => WiderRoles;
        "a certificate without any role": by(PAUL).path(identity("paul", &[])) => NotAdmitted;
    }
}

#[test]
fn adds() {
    let many = |n: usize| {
        (0..n).fold(by(ADDER), |change, i| {
            change.add(participant(&format!("new {i}")))
        })
    };
    let thief = participant("thief");
    table! { &recorded(), &roster();
        "with the right": by(ADDER).add(participant("dora")) => Ok;
        "without the right": by(PAUL).add(participant("dora")) => NoRight;
        "with the right to remove only": by(REMOVER).add(participant("dora")) => NoRight;
        "a recorder into a recorded room": by(ADDER).add(recorder("rita")) => Ok;
        "both roles into a recorded room": by(ADDER).add(both("rita")) => Ok;
        "as many as may come in": many(MAX_ADDS) => Ok;
        "one too many": many(MAX_ADDS + 1) => TooManyAdds;
        "who is denied": by(ANNA).add(thief.clone()) => Denied;
        "who was denied, with a new certificate": by(ANNA).add(renewed(&thief, 9)) => Ok;
        "from an untrusted root": by(ADDER).add(elsewhere("dora")) => UntrustedRoot;
        "who is there already": by(ADDER).add(participant("paul")) => Twice;
        "who is there already, with a new certificate": by(ADDER).add(renewed(&participant("paul"), 9)) => Twice;
        "the committer once more": by(ADDER).add(participant("adder")) => Twice;
        "the same one twice": by(ADDER).add(participant("dora")).add(participant("dora")) => Twice;
        "two of one identity": by(ADDER).add(participant("dora")).add(renewed(&participant("dora"), 9)) => Twice;
        "from as late as the commit": by(ADDER).add_at(participant("dora"), NOW + 60) => Ok;
        "from later than the commit": by(ADDER).add_at(participant("dora"), NOW + 61) => LeafAhead;
        "who expired before the commit": by(ADDER).add(short("dora", NOW + 59)) => NotValid;
        "who expires with the commit": by(ADDER).add(short("dora", NOW + 60)) => Ok;
        "with a leaf from before its certificate": by(ADDER).add_at(participant("dora"), NOW - YEAR - 1) => NotValid;
    }
    let mut named = recorded();
    named.admit = vec![
        only(Role::Participant, participant("dora").fingerprint),
        only(Role::Recorder, recorder("rita").fingerprint),
    ];
    named.normalise();
    let mut alone = Roster::new();
    alone.insert(0, leaf(participant("adder"), NOW));
    named
        .admit
        .push(only(Role::Participant, participant("adder").fingerprint));
    named.normalise();
    let by_adder = || by(ADDER).path(participant("adder"));
    let at_0 = |change: Change| Change {
        committer: Committer::Member(0),
        ..change
    };
    table! { &named, &alone;
        "whose certificate is admitted": at_0(by_adder().add(participant("dora"))) => Ok;
        "whose certificate is not": at_0(by_adder().add(participant("dave"))) => NotAdmitted;
        "who is admitted in the other role": at_0(by_adder().add(recorder("dora"))) => NotAdmitted;
        "who is admitted in one of two roles": at_0(by_adder().add(both("dora"))) => NotAdmitted;
        "a recorder who is named": at_0(by_adder().add(recorder("rita"))) => Ok;
        "a renewed certificate that is not named": at_0(by_adder().path(renewed(&participant("adder"), 9))) => NotAdmitted;
    }
    let mut nobody = named.clone();
    nobody.admit.clear();
    assert_eq!(
        name(may_add(&nobody, &alone, &leaf(participant("dora"), NOW))),
        "NotAdmitted"
    );
}

#[test]
fn a_strict_room_takes_no_recorder_in_any_disguise() {
    table! { &strict(), &roster_without_recorder();
        "a participant": by(ANNA).add(participant("dora")) => Ok;
        "a recorder": by(ANNA).add(recorder("rita")) => RecorderInStrict;
        "a participant who records": by(ANNA).add(both("rita")) => RecorderInStrict;
        "a recorder in a participant's place": by(ANNA).remove(PAUL).add(recorder("paul")) => RecorderInStrict;
    }
    // Members who hold both roles or who record: the room cannot become strict over their heads.
    for who in [recorder("rex"), both("rex")] {
        let mut roster = roster();
        roster.insert(REX, leaf(who, NOW));
        let to_strict = || Change {
            policy: Some(Ok(strict())),
            ..by(ANNA)
        };
        table! { &recorded(), &roster;
            "strict with the recorder in it": to_strict() => RecorderInStrict;
            "strict without it": to_strict().remove(REX) => Ok;
        }
    }
}

#[test]
fn removes_and_swaps() {
    let paul = || participant("paul");
    table! { &recorded(), &roster();
        "with the right": by(REMOVER).remove(PAUL) => Ok;
        "without the right": by(PAUL).remove(ADDER) => NoRight;
        "with the right to add only": by(ADDER).remove(PAUL) => NoRight;
        "a recorder, without the right": by(PAUL).remove(REX) => NoRight;
        "several": by(REMOVER).remove(PAUL).remove(REX) => Ok;
        "a blank leaf": by(REMOVER).remove(6) => NoSuchLeaf;
        "a leaf beyond the tree": by(REMOVER).remove(u32::MAX) => NoSuchLeaf;
        "one twice": by(REMOVER).remove(PAUL).remove(PAUL) => RemovedTwice;
        "one twice, once by itself": by(PAUL).leaves(REX).remove(REX) => RemovedTwice;
        "oneself": by(REMOVER).remove(REMOVER) => RemovesCommitter;
        "oneself, as one's own wish": by(REMOVER).leaves(REMOVER) => RemovesCommitter;
        "oneself, to come again": by(ANNA).remove(ANNA).add(participant("anna")) => RemovesCommitter;
        "who asked to go": by(SWITCHER).leaves(PAUL) => Ok;
        "a recorder who asked to go": by(SWITCHER).leaves(REX) => Ok;
        "one who asked and one who did not": by(SWITCHER).leaves(PAUL).remove(REX) => NoRight;
        "a rejoin, with the right to add only": by(ADDER).remove(PAUL).add(paul()) => Ok;
        "a rejoin with a new certificate": by(ADDER).remove(PAUL).add(renewed(&paul(), 9)) => Ok;
        "a rejoin with an older certificate": by(ADDER).remove(PAUL).add(renewed(&paul(), -9)) => OlderCertificate;
        "a rejoin with another role, which an adder may give": by(ADDER).remove(PAUL).add(both("paul")) => Ok;
        "a rejoin, with the right to remove only": by(REMOVER).remove(PAUL).add(paul()) => NoRight;
        "a rejoin with a key package as old as the leaf": by(ADDER).remove(PAUL).add_at(paul(), NOW) => NotNewer;
        "a rejoin with a repeated key package": by(ADDER).remove(PAUL).add_at(paul(), NOW - 9) => NotNewer;
        "the same with the right to remove": by(ANNA).remove(PAUL).add_at(paul(), NOW - 9) => NotNewer;
        "who asked to go is pulled in again": by(ADDER).leaves(PAUL).add_at(paul(), NOW - 9) => NotNewer;
        "swap for somebody else": by(ADDER).remove(PAUL).add(participant("dora")) => NoRight;
        "swap for the same name from another root": by(ADDER).remove(PAUL).add(elsewhere("paul")) => NoRight;
        "remove one, add another, with both rights": by(ANNA).remove(PAUL).add(participant("dora")) => Ok;
        "a rejoin and somebody else's removal": by(ADDER).remove(PAUL).add(paul()).remove(REX) => NoRight;
    }
}

#[test]
fn who_only_records_commits_nothing_but_its_own_update() {
    table! { &recorded(), &roster();
        "an update": by(REX) => Ok;
        "with a renewed certificate": by(REX).path(renewed(&recorder("rex"), 9)) => Ok;
        "an add": by(REX).add(participant("dora")) => RecorderCommits;
        "a removal": by(REX).remove(PAUL) => RecorderCommits;
        "a departure that was asked for": by(REX).leaves(PAUL) => RecorderCommits;
        "recording on, though it is named": by(REX).edit(|p| p.recording = true) => RecorderCommits;
        "a change of policy, though it is named": by(REX).edit(|p| p.consent = None) => RecorderCommits;
        "an unchanged policy": by(REX).edit(|_| ()) => RecorderCommits;
    }
    let mut on = recorded();
    on.recording = true;
    let off = by(REX).edit(|_| ());
    assert_eq!(name(judge(&on, &roster(), NOW, &off)), "RecorderCommits");
    // Who takes part and records has a participant's rights.
    let mut roster = roster();
    roster.insert(REX, leaf(both("rex"), NOW));
    let change = by(REX).path(both("rex")).edit(|p| p.recording = true);
    assert_eq!(name(judge(&recorded(), &roster, NOW, &change)), "Ok");
}

#[test]
fn from_outside_only_a_rejoin() {
    let paul = || participant("paul");
    let outside = |who: Identity| by(OUTSIDE).path(who);
    let mut with_policy = outside(paul()).remove(PAUL).edit(|p| p.recording = false);
    with_policy.policy = Some(Ok(recorded()));
    table! { &recorded(), &roster();
        "in the place of the own leaf": outside(paul()).remove(PAUL) => Ok;
        "a recorder": outside(recorder("rex")).remove(REX) => Ok;
        "with a renewed certificate": outside(renewed(&paul(), 9)).remove(PAUL) => Ok;
        "with one that was replaced before": outside(renewed(&paul(), -9)).remove(PAUL) => OlderCertificate;
        "with another role": outside(both("paul")).remove(PAUL) => WiderRoles;
        "without a path": Change { path: None, ..by(OUTSIDE).remove(PAUL) } => NoPath;
        "without removing anybody": outside(paul()) => NotARejoin;
        "somebody new": outside(participant("dora")) => NotARejoin;
        "in somebody else's place": outside(participant("dora")).remove(PAUL) => NotARejoin;
        "in the place of the same name from another root": outside(elsewhere("paul")).remove(PAUL) => NotARejoin;
        "and removes another one": outside(paul()).remove(PAUL).remove(REX) => NotARejoin;
        "removes itself twice": outside(paul()).remove(PAUL).remove(PAUL) => RemovedTwice;
        "a leaf that is not there": outside(paul()).remove(6) => NoSuchLeaf;
        "and adds somebody, who holds the right inside": outside(participant("anna")).remove(ANNA).add(participant("dora")) => RejoinWithMore;
        "and brings the same policy": with_policy => RejoinWithMore;
        "and a weaker policy": outside(participant("anna")).remove(ANNA).edit(|p| p.consent = None) => RejoinWithMore;
        "before the group's time": outside(paul()).remove(PAUL).at(NOW - 1) => TimeBack;
        "after the certificate's end": outside(paul()).remove(PAUL).at(NOW + YEAR + 1) => NotValid;
        "with a proposal that no room takes": Change { forbidden: vec!["PreSharedKey"], ..outside(paul()).remove(PAUL) } => Forbidden;
    }
    // A member whose certificate was denied by a change that forgot it would be out at its next step.
    let denied = recorded().with_denied([paul().fingerprint]);
    assert_eq!(
        name(judge(&denied, &roster(), NOW, &outside(paul()).remove(PAUL))),
        "Denied"
    );
}

#[test]
fn changes_of_policy() {
    let unreadable = |committer| Change {
        policy: Some(Err("two policies".to_owned())),
        ..by(committer)
    };
    let unsorted = Change {
        policy: Some(Ok(Policy {
            recipients: vec![fp(2), fp(1)],
            ..recorded()
        })),
        ..by(ANNA)
    };
    table! { &recorded(), &roster();
        "two policies, or none": unreadable(ANNA) => PolicyUnreadable;
        "the policy in force": by(ANNA).edit(|_| ()) => PolicyUnchanged;
        "one that contradicts itself": by(ANNA).edit(|p| p.claim = Claim::Strict) => PolicyInvalid;
        "one that is not in its form": unsorted => PolicyInvalid;
        "stricter, with the right": by(LAWYER).edit(|p| p.retention_days = Some(1)) => Ok;
        "stricter, without the right": by(PAUL).edit(|p| p.retention_days = Some(1)) => NoRight;
        "weaker, with the right": by(LAWYER).edit(|p| p.retention_days = None) => Ok;
        "weaker, without the right": by(PAUL).edit(|p| p.retention_days = None) => NoRight;
        "weaker, with all other rights": by(SWITCHER).edit(|p| p.rights.recording = Right::Participants) => NoRight;
        "a right for oneself": by(PAUL).edit(|p| p.rights.policy = holders(&["paul"])) => NoRight;
        "a root more, without the right": by(ADDER).edit(|p| p.roots.push(OTHER_ROOT)) => NoRight;
        "a root more": by(LAWYER).edit(|p| p.roots.push(OTHER_ROOT)) => Ok;
        "an admission, with the right to add only": by(ADDER).edit(|p| p.admit.push(only(Role::Recorder, fp(7)))) => NoRight;
        "a recipient": by(LAWYER).edit(|p| p.recipients.push(fp(3))) => Ok;
        "a recipient, with the right to record": by(SWITCHER).edit(|p| p.recipients.push(fp(3))) => NoRight;
        "another suite": by(LAWYER).edit(|p| p.sframe_suite = 5) => Ok;
        "another suite, without the right": by(PAUL).edit(|p| p.sframe_suite = 5) => NoRight;
        "a weaker suite": by(LAWYER).edit(|p| p.sframe_suite = 3) => Ok;
        "other bits of the epoch": by(ANNA).edit(|p| p.epoch_bits = 5) => Fixed;
        "another room": by(ANNA).edit(|p| p.room.salt[0] ^= 1) => Fixed;
        "another version": by(ANNA).edit(|p| p.version = 2) => Fixed;
        "weaker, and adds somebody": by(ANNA).add(participant("dora")).edit(|p| p.consent = None) => WeakeningNotAlone;
        "weaker, and adds whom it admits": by(ANNA).add(elsewhere("dora")).edit(elsewhere_too) => WeakeningNotAlone;
        "weaker, and removes somebody": by(ANNA).remove(PAUL).edit(|p| p.consent = None) => WeakeningNotAlone;
        "weaker, and somebody leaves": by(ANNA).leaves(PAUL).edit(|p| p.consent = None) => WeakeningNotAlone;
        "weaker, and renews the certificate": by(ANNA).path(renewed(&participant("anna"), 9)).edit(|p| p.consent = None) => WeakeningNotAlone;
        "weaker in one field, stricter in another": by(LAWYER).edit(|p| (p.consent, p.retention_days) = (None, Some(1))) => Ok;
        "stricter, and adds somebody": by(ANNA).add(participant("dora")).edit(|p| p.retention_days = Some(1)) => Ok;
        "stricter, and removes somebody": by(ANNA).remove(PAUL).edit(|p| p.retention_days = Some(1)) => Ok;
        "stricter, with the right to remove only": by(REMOVER).remove(PAUL).edit(|p| p.retention_days = Some(1)) => NoRight;
        "somebody removed, with the right for policies only": by(LAWYER).remove(PAUL).edit(|p| p.retention_days = Some(1)) => NoRight;
        "not admitted any more, but present": by(ANNA).edit(|p| p.admit = vec![any_of(Role::Participant, ROOT)]) => NotAdmitted;
        "not admitted any more, and removed": by(ANNA).remove(REX).edit(|p| p.admit = vec![any_of(Role::Participant, ROOT)]) => Ok;
        "the committer not admitted any more": by(ANNA).edit(|p| p.admit = vec![any_of(Role::Recorder, ROOT)]) => NotAdmitted;
    }
    let escrowed = Change {
        policy: Some(Ok(escrow())),
        ..by(LAWYER)
    };
    let judged = judge(&recorded(), &roster(), NOW, &escrowed).unwrap();
    assert!(judged.weakening);
    assert_eq!(judged.policy, escrow());
}

fn elsewhere_too(policy: &mut Policy) {
    policy.roots.push(OTHER_ROOT);
    policy.admit.push(any_of(Role::Participant, OTHER_ROOT));
}

#[test]
fn the_list_of_the_denied() {
    let renewed_paul = || renewed(&participant("paul"), 9);
    let paul = participant("paul").fingerprint;
    table! { &recorded(), &roster();
        "who is removed, with the right to remove": by(REMOVER).remove(PAUL).deny(PAUL) => Ok;
        "one of two who are removed": by(REMOVER).remove(PAUL).remove(REX).deny(PAUL) => Ok;
        "who is removed and somebody else": by(REMOVER).remove(PAUL).edit(|p| p.deny.extend([paul, fp(9)])) => NoRight;
        "somebody else, with the right for policies": by(LAWYER).edit(|p| p.deny.push(fp(9))) => Ok;
        "somebody else, with the right to remove": by(REMOVER).edit(|p| p.deny.push(fp(9))) => NoRight;
        "who stays": by(ANNA).deny(PAUL) => Denied;
        "oneself": by(ANNA).deny(ANNA) => Denied;
        "the list exchanged for the one removed": by(REMOVER).remove(PAUL).edit(|p| p.deny = vec![paul]) => NoRight;
        "the same with the right for policies": by(ANNA).remove(PAUL).edit(|p| p.deny = vec![paul]) => WeakeningNotAlone;
        "the list shortened": by(LAWYER).edit(|p| p.deny.clear()) => Ok;
        "the list shortened, with the right to remove": by(REMOVER).edit(|p| p.deny.clear()) => NoRight;
        "who asked to go, with the right to remove": by(REMOVER).leaves(PAUL).deny(PAUL) => Ok;
        "who asked to go, without it": by(ADDER).leaves(PAUL).deny(PAUL) => NoRight;
        "who rejoins with the same certificate": by(ANNA).remove(PAUL).add(participant("paul")).deny(PAUL) => Denied;
        "the old certificate of who rejoins": by(ADDER).remove(PAUL).add(renewed_paul()).deny(PAUL) => Ok;
        "the own old certificate": by(PAUL).path(renewed_paul()).deny(PAUL) => Ok;
        "the own new certificate": by(PAUL).path(renewed_paul()).edit(|p| p.deny.push(renewed_paul().fingerprint)) => NoRight;
    }
}

#[test]
fn recording_on_and_off() {
    let on = |change: Change| change.edit(|p| p.recording = true);
    table! { &recorded(), &roster();
        "on, with the right": on(by(SWITCHER)) => Ok;
        "on, without the right": on(by(PAUL)) => NoRight;
        "on, with the right for policies only": on(by(LAWYER)) => NoRight;
        "on, and adds somebody": on(by(ANNA).add(recorder("rita"))) => RecordingNotAlone;
        "on, and removes somebody": on(by(ANNA).remove(PAUL)) => RecordingNotAlone;
        "on, and somebody leaves": on(by(SWITCHER).leaves(PAUL)) => RecordingNotAlone;
        "on, and renews the certificate": on(by(SWITCHER).path(renewed(&participant("switcher"), 9))) => RecordingNotAlone;
        "on, and makes something stricter": by(ANNA).edit(|p| (p.recording, p.retention_days) = (true, Some(1))) => RecordingNotAlone;
        "on, and makes something weaker": by(ANNA).edit(|p| (p.recording, p.consent) = (true, None)) => WeakeningNotAlone;
        "on, and denies somebody": by(ANNA).edit(|p| (p.recording, p.deny) = (true, vec![fp(9), Fingerprint::of(b"thief")])) => RecordingNotAlone;
    }
    let mut recording = recorded();
    recording.recording = true;
    let off = |change: Change| change.edit(|_| ());
    table! { &recording, &roster();
        "off, by any participant": off(by(PAUL)) => Ok;
        "off, and adds somebody": off(by(ADDER).add(participant("dora"))) => Ok;
        "off, and removes the recorder": off(by(REMOVER).remove(REX)) => Ok;
        "off, and removes the recorder without the right": off(by(PAUL).remove(REX)) => NoRight;
        "off, and removes and denies the recorder": by(REMOVER).remove(REX).deny(REX) => Ok;
        "off, and something stricter": by(LAWYER).edit(|p| p.retention_days = Some(1)) => Ok;
        "off, and something stricter without the right": by(PAUL).edit(|p| p.retention_days = Some(1)) => NoRight;
    }
    let in_strict = |edit: fn(&mut Policy)| {
        let mut policy = strict();
        edit(&mut policy);
        policy.normalise();
        Change {
            policy: Some(Ok(policy)),
            ..by(ANNA)
        }
    };
    table! { &strict(), &roster_without_recorder();
        "on in a strict room": in_strict(|p| p.recording = true) => RecordingInStrict;
        "on and recorded at once": in_strict(|p| (p.recording, p.claim) = (true, Claim::Recorded)) => RecordingInStrict;
        "a recorder admitted to a strict room": in_strict(|p| p.admit.push(any_of(Role::Recorder, ROOT))) => PolicyInvalid;
        "a recipient in a strict room": in_strict(|p| p.recipients.push(fp(1))) => PolicyInvalid;
        "recorded, with a recorder admitted": in_strict(|p| *p = recorded()) => Ok;
    }
}

#[test]
fn a_clock_that_runs_away_is_stopped_by_removing_its_leaf() {
    let far = NOW + YEAR;
    let mut roster = roster();
    roster.insert(REX, leaf(recorder("rex"), far));
    let late = short("paul", NOW + 99);
    roster.insert(PAUL, leaf(late.clone(), NOW));
    table! { &recorded(), &roster;
        "the others cannot follow": by(PAUL).path(late.clone()).at(far) => NotValid;
        "nor go on": by(PAUL).path(late).at(NOW + 60) => TimeBack;
        "nor remove without the right": by(PAUL).remove(REX) => TimeBack;
        "who may remove removes it": by(REMOVER).remove(REX) => Ok;
        "and denies it": by(REMOVER).remove(REX).deny(REX) => Ok;
        "not before the others, though": by(REMOVER).remove(REX).at(NOW - 1) => TimeBack;
        "nor by removing somebody else": by(REMOVER).remove(PAUL) => TimeBack;
        "and adds nobody with it": by(ANNA).remove(REX).add(participant("dora")) => TimeBack;
    }
    // A day is not far.
    roster.insert(REX, leaf(recorder("rex"), NOW + RUNAWAY_SECONDS));
    assert_eq!(
        name(judge(
            &recorded(),
            &roster,
            group_time(&roster),
            &by(REMOVER).remove(REX)
        )),
        "TimeBack"
    );
    roster.insert(REX, leaf(recorder("rex"), NOW + RUNAWAY_SECONDS + 1));
    assert_eq!(
        name(judge(
            &recorded(),
            &roster,
            group_time(&roster),
            &by(REMOVER).remove(REX)
        )),
        "Ok"
    );
}

#[test]
fn who_goes_is_named_also_where_the_same_identity_comes_back() {
    let change = by(ANNA)
        .remove(PAUL)
        .remove(REX)
        .leaves(ADDER)
        .add(participant("paul"));
    let judged = judge(&recorded(), &roster(), NOW, &change).unwrap();
    assert_eq!(judged.removed, [ADDER, PAUL, REX]);
    assert!(!judged.weakening);
    assert_eq!(judged.policy, recorded());
    let rejoin = by(OUTSIDE).path(participant("paul")).remove(PAUL);
    assert_eq!(
        judge(&recorded(), &roster(), NOW, &rejoin).unwrap().removed,
        [PAUL]
    );
}

/// One line for each way to ask in.
#[test]
fn key_packages() {
    let ask = |identity, time| name(may_add(&recorded(), &roster(), &leaf(identity, time)));
    assert_eq!(ask(participant("dora"), NOW), "Ok");
    assert_eq!(ask(recorder("rita"), NOW), "Ok");
    assert_eq!(ask(participant("thief"), NOW), "Denied");
    assert_eq!(ask(elsewhere("dora"), NOW), "UntrustedRoot");
    assert_eq!(ask(participant("dora"), NOW + YEAR + 1), "NotValid");
    assert_eq!(ask(participant("paul"), NOW + 1), "Ok");
    assert_eq!(ask(participant("paul"), NOW), "NotNewer");
    assert_eq!(
        ask(renewed(&participant("paul"), -1), NOW + 1),
        "OlderCertificate"
    );
    let strictly = may_add(&strict(), &roster(), &leaf(recorder("rita"), NOW));
    assert_eq!(name(strictly), "RecorderInStrict");
}

/// One line for each thing that a joiner must not find.
#[test]
fn rosters_that_nobody_joins() {
    let check = |policy: &Policy, spoil: fn(&mut Roster)| {
        let mut roster = roster();
        spoil(&mut roster);
        name(check_roster(policy, &roster, NOW))
    };
    assert_eq!(check(&recorded(), |_| ()), "Ok");
    assert_eq!(check(&recorded(), Roster::clear), "Ok");
    assert_eq!(check(&strict(), |_| ()), "RecorderInStrict");
    assert_eq!(check(&strict(), |r| r.retain(|leaf, _| *leaf != REX)), "Ok");
    assert_eq!(
        check(&recorded(), |r| put(r, participant("thief"), NOW)),
        "Denied"
    );
    assert_eq!(
        check(&recorded(), |r| put(r, elsewhere("dora"), NOW)),
        "UntrustedRoot"
    );
    assert_eq!(check(&recorded(), |r| put(r, participant("paul"), NOW)), "Twice");
    assert_eq!(
        check(&recorded(), |r| put(r, participant("dora"), NOW + 1)),
        "LeafAhead"
    );
    assert_eq!(
        check(&recorded(), |r| put(r, short("dora", NOW - 1), NOW)),
        "NotValid"
    );
    assert_eq!(
        check(&recorded(), |r| put(r, short("dora", NOW - 1), NOW - 1)),
        "Ok"
    );
    assert_eq!(
        check(&recorded(), |r| put(r, identity("dora", &[]), NOW)),
        "NotAdmitted"
    );
    let mut wrong = recorded();
    wrong.claim = Claim::Strict;
    assert_eq!(check(&wrong, |_| ()), "PolicyInvalid");
}

fn put(roster: &mut Roster, identity: Identity, time: u64) {
    roster.insert(6, leaf(identity, time));
}

#[test]
fn a_right_that_names_a_certificate_is_judged_by_the_one_that_was_in_the_room() {
    let new = renewed(&participant("paul"), 9);
    let mut policy = recorded();
    policy.rights.add = Right::Holders(vec![Holder::Certificate(new.fingerprint)]);
    let change = by(PAUL).path(new).add(participant("dora"));
    assert_eq!(name(judge(&policy, &roster(), NOW, &change)), "NoRight");
    assert!(!weakens(&recorded(), &policy).is_empty());
}
