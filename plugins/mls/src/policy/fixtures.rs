//! Small worlds for the tests of policies and rules: certificates, people and policies that are made up.

use proptest::prelude::*;

use super::*;

/// Some time in the middle of all certificates' validity, in unix seconds.
pub const NOW: u64 = 1_700_000_000;
/// Half the validity of a made-up certificate, in seconds.
pub const YEAR: u64 = 31_536_000;

/// A made-up fingerprint.
pub fn fp(n: u8) -> Fingerprint {
    Fingerprint([n; 32])
}

/// The root certificate of the organisation.
pub const ROOT: Fingerprint = Fingerprint([0xA0; 32]);
/// Another organisation's.
pub const OTHER_ROOT: Fingerprint = Fingerprint([0xB0; 32]);

/// A certified identity of the organisation; its certificate's fingerprint follows from its name.
pub fn identity(subject: &str, roles: &[Role]) -> Identity {
    let id = Fingerprint::of(subject.as_bytes());
    Identity {
        subject: subject.to_owned(),
        operator: None,
        roles: roles.to_vec(),
        fingerprint: id,
        root: ROOT,
        public_key: id.0,
        not_before: NOW - YEAR,
        not_after: NOW + YEAR,
    }
}

/// The same identity under another certificate, issued so many seconds later.
pub fn renewed(identity: &Identity, later: i64) -> Identity {
    let id = Fingerprint::of(format!("{} {later}", identity.subject).as_bytes());
    Identity {
        fingerprint: id,
        public_key: id.0,
        not_before: identity.not_before.saturating_add_signed(later),
        not_after: identity.not_after.saturating_add_signed(later),
        ..identity.clone()
    }
}

pub fn participant(subject: &str) -> Identity {
    identity(subject, &[Role::Participant])
}

pub fn recorder(subject: &str) -> Identity {
    identity(subject, &[Role::Recorder])
}

pub fn holder(subject: &str) -> Holder {
    Holder::Subject {
        root: Some(ROOT),
        subject: subject.to_owned(),
    }
}

pub fn holders(subjects: &[&str]) -> Right {
    Right::Holders(subjects.iter().map(|subject| holder(subject)).collect())
}

pub fn any_of(role: Role, root: Fingerprint) -> Admission {
    Admission {
        role,
        who: Who::Root { root, subject: None },
    }
}

pub fn only(role: Role, fingerprint: Fingerprint) -> Admission {
    Admission {
        role,
        who: Who::Certificate(fingerprint),
    }
}

/// A room with the claim `recorded`, in which `anna` may do everything and four others one thing each.
pub fn recorded() -> Policy {
    let mut policy = Policy {
        version: VERSION,
        room: RoomTag::new("ward 7", [7; 16]),
        claim: Claim::Recorded,
        admit: vec![any_of(Role::Participant, ROOT), any_of(Role::Recorder, ROOT)],
        deny: vec![Fingerprint::of(b"thief")],
        rights: Rights {
            add: holders(&["anna", "adder"]),
            remove: holders(&["anna", "remover"]),
            recording: holders(&["anna", "switcher", "rex"]),
            policy: holders(&["anna", "lawyer", "rex"]),
        },
        consent: Some("c0".repeat(32)),
        retention_days: Some(30),
        recipients: vec![fp(1), fp(2)],
        escrow: None,
        recording: false,
        roots: vec![ROOT],
        epoch_bits: DEFAULT_EPOCH_BITS,
        sframe_suite: DEFAULT_SFRAME_SUITE,
    };
    policy.normalise();
    policy
}

/// The same with the claim `strict`.
pub fn strict() -> Policy {
    Policy {
        claim: Claim::Strict,
        admit: vec![any_of(Role::Participant, ROOT)],
        recipients: vec![],
        ..recorded()
    }
}

/// The same with the claim `escrow`.
pub fn escrow() -> Policy {
    Policy {
        claim: Claim::Escrow,
        recipients: vec![],
        escrow: Some(Escrow {
            fingerprint: fp(9),
            m: 2,
            n: 3,
        }),
        ..recorded()
    }
}

fn some_fingerprints() -> impl Strategy<Value = Vec<Fingerprint>> {
    prop::collection::vec((0..5u8).prop_map(fp), 0..4)
}

fn some_who() -> impl Strategy<Value = Who> {
    let root = || prop_oneof![Just(ROOT), Just(OTHER_ROOT)];
    let subject = prop::option::of(prop_oneof![Just("anna".to_owned()), Just("bert".to_owned())]);
    prop_oneof![
        (0..5u8).prop_map(|n| Who::Certificate(fp(n))),
        (root(), subject).prop_map(|(root, subject)| Who::Root { root, subject }),
    ]
}

fn some_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Participant), Just(Role::Recorder)]
}

fn some_right() -> impl Strategy<Value = Right> {
    let holder = prop_oneof![
        (0..5u8).prop_map(|n| Holder::Certificate(fp(n))),
        prop_oneof!["anna", "bert", "[a-z\"\\\\ é]{1,9}"].prop_map(|subject| Holder::Subject {
            root: Some(ROOT),
            subject,
        }),
    ];
    prop_oneof![
        Just(Right::Participants),
        prop::collection::vec(holder, 0..4).prop_map(Right::Holders),
    ]
}

/// Policies over few certificates, in normal form; many of them contradict themselves.
pub fn some_policy() -> impl Strategy<Value = Policy> {
    let claim = prop_oneof![Just(Claim::Strict), Just(Claim::Recorded), Just(Claim::Escrow)];
    let admission = (some_role(), some_who()).prop_map(|(role, who)| Admission { role, who });
    let escrow = (0..3u8, 0..4u16, 1..4u16).prop_map(|(n, m, of)| Escrow {
        fingerprint: fp(n),
        m,
        n: of,
    });
    let rights = [some_right(), some_right(), some_right(), some_right()];
    let lists = (
        prop::collection::vec(admission, 0..4),
        some_fingerprints(),
        some_fingerprints(),
        prop_oneof![Just(vec![ROOT]), Just(vec![OTHER_ROOT, ROOT]), Just(vec![])],
    );
    let scalars = (
        prop::option::of("[0-9a-f]{64}"),
        prop::option::of(0..40u32),
        prop::option::of(escrow),
        any::<bool>(),
        0..9u8,
        0..7u16,
    );
    (claim, lists, rights, scalars).prop_map(|(claim, lists, rights, scalars)| {
        let (admit, deny, recipients, roots) = lists;
        let [add, remove, recording_right, policy_right] = rights;
        let (consent, retention_days, escrow, recording, epoch_bits, sframe_suite) = scalars;
        let mut policy = Policy {
            claim,
            admit,
            deny,
            rights: Rights {
                add,
                remove,
                recording: recording_right,
                policy: policy_right,
            },
            consent,
            retention_days,
            recipients,
            escrow,
            recording,
            roots,
            epoch_bits,
            sframe_suite,
            ..recorded()
        };
        policy.normalise();
        policy
    })
}

/// Policies that do not contradict themselves.
pub fn valid_policy() -> impl Strategy<Value = Policy> {
    some_policy().prop_map(|mut policy| {
        policy.roots = vec![ROOT, OTHER_ROOT];
        policy.epoch_bits = policy.epoch_bits.clamp(1, 8);
        policy.sframe_suite = policy.sframe_suite.clamp(1, 5);
        policy.retention_days = policy.retention_days.filter(|days| *days > 0);
        if policy.claim == Claim::Strict {
            policy
                .admit
                .retain(|admission| admission.role == Role::Participant);
            policy.recording = false;
        }
        if policy.claim != Claim::Recorded {
            policy.recipients.clear();
        }
        policy.escrow = (policy.claim == Claim::Escrow).then_some(Escrow {
            fingerprint: fp(1),
            m: 1,
            n: 2,
        });
        policy.normalise();
        policy
    })
}

/// A policy and some that follow from it, each by a few fields that are set to something else.
pub fn some_history(length: usize) -> impl Strategy<Value = Vec<Policy>> {
    let step = (valid_policy(), prop::array::uniform12(prop::bool::weighted(0.15)));
    (valid_policy(), prop::collection::vec(step, length)).prop_map(|(first, steps)| {
        let mut policies = vec![first];
        for (other, edits) in steps {
            let mut policy = policies[policies.len() - 1].clone();
            let mut edits = edits.into_iter();
            let mut edit = || edits.next() == Some(true);
            if edit() {
                policy.claim = other.claim;
            }
            if edit() {
                policy.admit = other.admit;
            }
            if edit() {
                policy.deny = other.deny;
            }
            if edit() {
                policy.rights.add = other.rights.add;
            }
            if edit() {
                policy.rights.remove = other.rights.remove;
            }
            if edit() {
                policy.rights.policy = other.rights.policy;
            }
            if edit() {
                policy.consent = other.consent;
            }
            if edit() {
                policy.retention_days = other.retention_days;
            }
            if edit() {
                policy.recipients = other.recipients;
            }
            if edit() {
                policy.escrow = other.escrow;
            }
            if edit() {
                policy.roots.pop();
            }
            if edit() {
                policy.sframe_suite = other.sframe_suite;
            }
            policies.push(policy);
        }
        policies
    })
}

/// Identities that such policies may know.
pub fn some_identity() -> impl Strategy<Value = Identity> {
    let roles = prop_oneof![
        Just(vec![Role::Participant]),
        Just(vec![Role::Recorder]),
        Just(vec![Role::Participant, Role::Recorder]),
    ];
    let subject = prop_oneof![Just("anna"), Just("bert"), Just("carl")];
    (subject, roles, 0..5u8, any::<bool>()).prop_map(|(subject, roles, n, other)| Identity {
        fingerprint: fp(n),
        root: if other { OTHER_ROOT } else { ROOT },
        ..identity(subject, &roles)
    })
}
