#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

//! What comes in as a file, byte for byte. What processes do with it is in `tests/breakglass`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::x25519::Identity;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use tempfile::TempDir;

use super::ask::{Wanted, ask};
use super::check::{Checked, Refusal, check};
use super::custodian::{CustodianKey, FileKey, public};
use super::decision::{Unverified, approve};
use super::grant::grant;
use super::judge::{Case, Submitted, judge};
use super::request::{Request, RequestError};
use super::*;
use crate::access::{AccessError, Opening};
use crate::audit::Log;
use crate::audit::entry::Way;
use crate::bundle::{Escrow, FileFacts, Holders, STATEMENT_FILE, Statement, prepare, share_name, take_next};
use crate::recording::{Claim, Facts, RealDisk, Recording, Start};
use crate::signing::{PublicKey, Signer};

const TIME: u64 = 1_700_000_000_000;

/// Two of three custodians, a log, a recording of theirs.
struct World {
    folder: TempDir,
    people: Vec<Identity>,
    escrow: Escrow,
    log: PublicKey,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let people: Vec<_> = (0..3).map(|_| Identity::generate()).collect();
        let lines: Vec<_> = people
            .iter()
            .map(|identity| public(&FileKey::new(identity.clone()).unwrap(), None).to_string())
            .collect();
        let list = folder.path().join("custodians");
        fs::write(&list, format!("2 of 3\n{}\n", lines.join("\n"))).unwrap();
        let escrow = Escrow::read(&list).unwrap();
        let log = Log::open(&folder.path().join("log")).unwrap().key();
        Self {
            folder,
            people,
            escrow,
            log,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key(&self, index: usize) -> FileKey {
        FileKey::new(self.people[index].clone()).unwrap()
    }

    fn record(&self) -> PathBuf {
        let keys = self.path("keys");
        let dealer = SigningKey::from_bytes(&[7; 32]);
        prepare(&keys, &Holders::Escrow(self.escrow.clone()), 1, &dealer).unwrap();
        let bundle = take_next(&keys, None, &|_| true).unwrap();
        let log = Log::open(&self.path("log")).unwrap();
        let start = Start {
            time: TIME,
            room: None,
            recorder: None,
            policy: None,
            claim: Claim::Unattested,
            consent: None,
            retention_days: None,
            attest: None,
        };
        let signer = log.signer();
        let mut recording =
            Recording::create(self.folder.path(), &bundle, start, signer, Arc::new(RealDisk)).unwrap();
        recording.end(TIME, "eos").unwrap();
        recording.path().to_owned()
    }

    fn opening(&self, recording: &Path) -> Opening {
        Opening::prepare(recording, &self.path("log")).unwrap()
    }

    fn ask(&self, recording: &Path, station: &Identity) -> (Asked, Request) {
        let wanted = Wanted {
            requester: Id::new("dr-17").unwrap(),
            recipient: Identity::generate().to_public(),
            reason: Text::new("complaint").unwrap(),
            ticket: Text::new("C-1").unwrap(),
            lifetime: 1000,
        };
        let made = ask(&self.opening(recording), wanted, &station.to_public(), TIME).unwrap();
        (made.asked, Request::decode(&made.request).unwrap())
    }

    fn check(&self, request: Request, who: usize) -> Result<Checked, Refusal> {
        check(request, &self.log, &self.escrow, &self.key(who), TIME)
    }
}

#[test]
fn a_request_is_written_and_read_and_says_what_was_asked() {
    let world = World::new();
    let (asked, request) = world.ask(&world.record(), &Identity::generate());
    assert_eq!(Request::decode(&request.encode().unwrap()).unwrap(), request);
    for who in 0..3 {
        let checked = world.check(request.clone(), who).unwrap();
        assert_eq!((checked.asked(), usize::from(checked.index())), (&asked, who + 1));
    }
}

#[test]
fn no_changed_or_cut_byte_of_a_request_makes_it_ask_for_something_else() {
    let world = World::new();
    let (asked, request) = world.ask(&world.record(), &Identity::generate());
    let bytes = request.encode().unwrap();
    let share = |checked: &Checked| checked.verified().share(1).unwrap().to_vec();
    let right = share(&world.check(request, 0).unwrap());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        // White space between the fields says nothing, and other custodians' shares are not this one's business.
        if let Ok(request) = Request::decode(&changed)
            && let Ok(checked) = world.check(request, 0)
        {
            assert_eq!(checked.asked(), &asked, "byte {at}");
            assert_eq!(share(&checked), right, "byte {at}");
        }
        assert!(
            at == bytes.len() - 1 || Request::decode(&bytes[..at]).is_err(),
            "cut at {at}"
        );
    }
}

#[test]
fn no_changed_or_cut_byte_of_a_decision_makes_it_another_one() {
    let world = World::new();
    let recording = world.record();
    let station = Identity::generate();
    let (asked, request) = world.ask(&recording, &station);
    let bytes = world
        .check(request, 0)
        .unwrap()
        .approve(&world.key(0), TIME)
        .unwrap();
    let opening = world.opening(&recording);
    let facts = opening.index().facts();
    let case = Case {
        asked: &asked,
        facts,
        escrow: facts.escrow.as_ref().unwrap(),
        custodians: &world.escrow,
    };
    let judged = |bytes: Vec<u8>| {
        let file = Submitted {
            name: "decision".to_owned(),
            bytes: Some(bytes),
        };
        judge(&case, &station, &[file])
    };
    assert_eq!(judged(bytes.clone()).approvals.len(), 1);
    let right = Unverified::decode(&bytes).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let same = Unverified::decode(&changed).is_ok_and(|read| read == right);
            let counts = !judged(changed).approvals.is_empty();
            assert_eq!(counts, same, "byte {at}, bit {bit}");
        }
        assert!(
            at == bytes.len() - 1 || judged(bytes[..at].to_vec()).approvals.is_empty(),
            "cut at {at}"
        );
    }
}

/// A log's administrator who deals himself: recording.json and bundle.json name the share of another recording, and all
/// digests and signatures are right. The share's own text is what is left.
#[test]
fn a_share_says_itself_of_which_recording_it_is_whatever_the_files_around_it_say() {
    let world = World::new();
    let (first, second) = (world.record(), world.record());
    let (_, request) = world.ask(&second, &Identity::generate());
    let forger = SigningKey::from_bytes(&[9; 32]);
    let log = Log::open_existing(&world.path("log")).unwrap();
    let foreign = fs::read(first.join(share_name(2))).unwrap();
    let mut forged = request.clone();
    forged.shares[1].1 = foreign.clone();
    assert!(matches!(
        world.check(forged.clone(), 1),
        Err(Refusal::Request(RequestError::ShareFile(_)))
    ));

    let (mut facts, _) = Facts::decode(request.recording.as_bytes()).unwrap();
    let (mut statement, _) = Statement::decode(request.bundle.as_bytes()).unwrap();
    statement.files[1] = FileFacts::new(&share_name(2), &foreign);
    forged.bundle = String::from_utf8(statement.encode(&forger).unwrap()).unwrap();
    facts.dealer = forger.public();
    facts.files = std::iter::once(FileFacts::new(STATEMENT_FILE, forged.bundle.as_bytes()))
        .chain(statement.files)
        .collect();
    let text = serde_json::to_string(&facts).unwrap();
    let signature = log.signer().sign("recording", text.as_bytes());
    forged.recording = serde_json::json!({ "recording": text, "signature": signature }).to_string();
    // Of everybody else the share is right.
    assert!(world.check(forged.clone(), 0).is_ok());
    let error = world.check(forged, 1).unwrap_err();
    let id = first.file_name().unwrap().to_str().unwrap();
    assert!(
        matches!(&error, Refusal::ShareOfAnother(why) if why.contains(id)),
        "{error}"
    );
}

#[test]
fn a_request_for_one_recording_with_the_facts_of_another_is_refused() {
    let world = World::new();
    let (first, second) = (world.record(), world.record());
    let (_, mut request) = world.ask(&first, &Identity::generate());
    let (_, other) = world.ask(&second, &Identity::generate());
    request.recording = other.recording;
    assert!(matches!(
        world.check(request.clone(), 0),
        Err(Refusal::Request(RequestError::AnotherRecording { .. }))
    ));
    let (_, mut request) = world.ask(&first, &Identity::generate());
    request.bundle = other.bundle;
    assert!(matches!(
        world.check(request, 0),
        Err(Refusal::Request(RequestError::Bundle(_)))
    ));
}

#[test]
fn an_entry_of_another_kind_or_with_keys_or_times_that_do_not_do_asks_for_nothing() {
    let key = || Id::new(&Identity::generate().to_public().to_string()).unwrap();
    let (theirs, station) = (key(), key());
    let entry = |theirs: &Id, station: &Id, expires| Entry {
        time: TIME,
        recording: Some(RecordingId::from_bytes([1; 16])),
        event: Event::AccessRequested {
            access: Id::new("a").unwrap(),
            requester: Id::new("dr-17").unwrap(),
            recipient: theirs.clone(),
            station: station.clone(),
            reason: Text::new("r").unwrap(),
            ticket: Text::new("t").unwrap(),
            expires,
        },
    };
    let of = |theirs, station, expires| Asked::of(&entry(theirs, station, expires));
    let asked = of(&theirs, &station, TIME + MAX_LIFETIME).unwrap();
    assert!(asked.counts_at(TIME) && asked.counts_at(TIME + MAX_LIFETIME - 1));
    assert!(!asked.counts_at(TIME - 1) && !asked.counts_at(TIME + MAX_LIFETIME));
    for expires in [0, TIME, TIME + MAX_LIFETIME + 1, u64::MAX] {
        assert_eq!(of(&theirs, &station, expires), Err(NotAsked::Lifetime));
    }
    assert_eq!(of(&theirs, &theirs, TIME + 1), Err(NotAsked::SameKey));
    let nobody = Id::new("age1nobody").unwrap();
    assert!(matches!(
        of(&nobody, &station, TIME + 1),
        Err(NotAsked::Recipient(_))
    ));
    assert!(matches!(
        of(&theirs, &nobody, TIME + 1),
        Err(NotAsked::Recipient(_))
    ));
    let mut none = entry(&theirs, &station, TIME + 1);
    none.recording = None;
    assert_eq!(Asked::of(&none), Err(NotAsked::Kind("access-requested")));
    none.event = Event::ClockJump { by_ms: 1 };
    assert_eq!(Asked::of(&none), Err(NotAsked::Kind("clock-jump")));
}

#[test]
fn a_decision_is_bound_to_every_word_of_the_request() {
    let world = World::new();
    let (asked, request) = world.ask(&world.record(), &Identity::generate());
    let key = world.key(0);
    let decision = |asked: &Asked| {
        let bytes = approve(asked, 1, b"share", &key, TIME).unwrap();
        let read = Unverified::decode(&bytes).unwrap();
        read.by(&key.signing()).unwrap().clone()
    };
    let first = decision(&asked);
    assert_eq!((first.request, first.recording), (asked.digest, asked.recording));
    let (entry, _) = request.proof.verify(&world.log).unwrap();
    let change = |change: &dyn Fn(&mut Entry)| {
        let mut entry = entry.clone();
        change(&mut entry);
        Asked::of(&entry).unwrap()
    };
    let later = change(&|entry| entry.time += 1);
    let other = change(&|entry| {
        if let Event::AccessRequested { reason, .. } = &mut entry.event {
            *reason = Text::new("curiosity").unwrap();
        }
    });
    for changed in [later, other] {
        assert_ne!(decision(&changed).request, first.request);
    }
}

#[test]
fn with_the_key_in_hand_nothing_is_opened_that_cannot_be_logged() {
    let world = World::new();
    let recording = world.record();
    let station = Identity::generate();
    let (_, request) = world.ask(&recording, &station);
    let files = [0, 2].map(|who| Submitted {
        name: who.to_string(),
        bytes: Some(
            world
                .check(request.clone(), who)
                .unwrap()
                .approve(&world.key(who), TIME)
                .unwrap(),
        ),
    });
    let granted = || {
        let opening = world.opening(&recording);
        let grant = grant(&opening, &station, &world.escrow, &files, TIME).unwrap();
        (opening, grant)
    };
    let (opening, grant) = granted();
    assert!(!format!("{grant:?} {opening:?}").contains("SECRET"));
    let log = world.path("log/log");
    let bytes = fs::read(&log).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    // In place: that the file is another one would be noticed before.
    let write = |bytes: &[u8]| {
        let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
    };
    write(&damaged);
    let error = opening
        .unlock_together(grant, Way::BreakGlass, TIME)
        .err()
        .unwrap();
    assert!(matches!(error, AccessError::Log { .. }), "{error}");
    write(&bytes);
    // As it was before it opens, once.
    let (opening, grant) = granted();
    let (again, second) = granted();
    let (_, access) = opening.unlock_together(grant, Way::BreakGlass, TIME).unwrap();
    access.end(0, TIME).unwrap();
    let error = again
        .unlock_together(second, Way::BreakGlass, TIME)
        .err()
        .unwrap();
    assert!(matches!(error, AccessError::Replayed(_)), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Request::decode(&bytes).is_err());
        prop_assert!(Unverified::decode(&bytes).is_err());
    }
}
