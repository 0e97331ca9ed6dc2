//! Witnesses: what they cosign, and what they refuse.

use super::*;

struct Watched {
    place: Place,
    witness: Witness,
}

impl Watched {
    /// A log of so many entries, all anchored.
    fn with(entries: u64) -> Self {
        let place = Place::with(entries);
        let witness = Witness::create(&place.place.path().join("witness")).unwrap();
        let watched = Self { place, witness };
        watched.anchor().unwrap();
        watched
    }

    fn anchor(&self) -> Result<Anchored, AnchorError> {
        anchor(&Log::open(&self.place.log()).unwrap(), &self.witness)
    }

    fn options(&self) -> VerifyOptions {
        let log: VerifierKey = fs::read_to_string(self.place.file("vkey"))
            .unwrap()
            .trim_end()
            .parse()
            .unwrap();
        VerifyOptions {
            key: Some(*log.key()),
            witnesses: vec![self.witness.verifier_key().clone()],
            seen: self.witness.latest(&log).unwrap().into_iter().collect(),
        }
    }

    fn verify(&self) -> Report {
        verify(&self.place.log(), &self.options()).unwrap()
    }
}

#[test]
fn a_log_that_grows_is_cosigned_each_time() {
    let watched = Watched::with(3);
    for (from, to) in [(3, 3), (3, 4), (4, 9), (9, 16), (16, 17)] {
        watched.place.append(from..to);
        let anchored = watched.anchor().unwrap();
        assert_eq!(anchored.size, to);
        assert_eq!(anchored.witness, watched.witness.verifier_key().name());
        let report = watched.verify();
        assert!(report.is_intact());
        assert_eq!((report.anchored, report.signed, report.entries), (to, to, to));
        assert_eq!(report.anchors.len(), 1);
        assert_eq!(report.anchors[0].time, anchored.time);
    }
    watched.place.append(17..20);
    let report = watched.verify();
    assert_eq!((report.anchored, report.signed), (17, 20));
}

#[test]
fn an_empty_log_can_be_anchored_too() {
    let watched = Watched::with(0);
    watched.place.append(0..2);
    assert_eq!(watched.anchor().unwrap().size, 2);
}

#[test]
fn a_witness_elsewhere_is_asked_by_text() {
    let place = Place::with(3);
    let witness = Witness::create(&place.place.path().join("witness")).unwrap();
    let log = Log::open(&place.log()).unwrap();
    let known = |log: &Log| {
        log.anchored(witness.verifier_key())
            .unwrap()
            .map_or(0, |note| note.unverified().size)
    };
    for time in [100, 200] {
        let request = log.request(known(&log)).unwrap().to_string();
        let request = Request::parse(&request).unwrap();
        witness
            .admit(&log.verifier_key().to_string().parse().unwrap())
            .unwrap();
        let answer = witness.cosign(&request, time).unwrap().to_string();
        let mut note = request.note;
        note.add(answer.parse().unwrap());
        let (size, cosigned) = log.add_cosignature(&note, witness.verifier_key()).unwrap();
        assert_eq!((size, cosigned), (log.health().entries, time));
        log.append(&entry(time)).unwrap();
    }
}

#[test]
fn a_log_that_became_shorter_is_refused() {
    let watched = Watched::with(3);
    let backup = watched.place.backup();
    watched.place.append(3..6);
    watched.anchor().unwrap();
    watched.place.restore(&backup);
    let error = watched.anchor().unwrap_err();
    assert!(
        matches!(
            error,
            AnchorError::Log(LogError::RolledBack { size: 3, seen: 6, .. })
        ),
        "{error}"
    );
    // Asked without being told what it knows.
    let log = Log::open(&watched.place.log()).unwrap();
    let error = watched.witness.cosign(&log.request(3).unwrap(), 0).unwrap_err();
    assert!(
        matches!(error, WitnessError::Rollback { known: 6, size: 3 }),
        "{error}"
    );
    assert!(error.to_string().contains("ROLLBACK"), "{error}");
    let report = watched.verify();
    assert_eq!(
        report.damages.iter().map(Damage::kind).collect::<Vec<_>>(),
        ["old-checkpoint", "cut"]
    );
}

#[test]
fn a_log_that_became_another_is_refused_whatever_its_length() {
    for more in [3, 4, 5, 9] {
        let watched = Watched::with(3);
        let backup = watched.place.backup();
        watched.place.append(3..6);
        watched.anchor().unwrap();
        watched.place.restore(&backup);
        watched.place.append(100..100 + more);
        let error = watched.anchor().unwrap_err();
        let AnchorError::Witness(WitnessError::Fork { known: 6, size }) = error else {
            panic!("{error}")
        };
        assert_eq!(size, 3 + more);
        assert!(error.to_string().contains("FORK"), "{error}");
        // What it saw is still what it saw.
        let seen = watched.options().seen;
        assert_eq!(seen[0].unverified().size, 6);
        let report = watched.verify();
        assert!(matches!(
            only(&report),
            Damage::Rewritten {
                index: 3,
                size: 6,
                signed_again: true,
                ..
            }
        ));
        assert_eq!(report.anchored, 3);
    }
}

#[test]
fn a_proof_from_somewhere_else_is_refused() {
    let watched = Watched::with(4);
    watched.place.append(4..9);
    let log = Log::open(&watched.place.log()).unwrap();
    let error = watched.witness.cosign(&log.request(2).unwrap(), 0).unwrap_err();
    assert!(
        matches!(error, WitnessError::Conflict { known: 4, old: 2 }),
        "{error}"
    );
    assert!(error.to_string().contains("--known 4"), "{error}");
    let good = log.request(4).unwrap();
    for at in 0..good.hashes.len() {
        let mut bad = good.clone();
        bad.hashes[at][7] ^= 1;
        assert!(matches!(
            watched.witness.cosign(&bad, 0),
            Err(WitnessError::Fork { .. })
        ));
        bad.hashes.remove(at);
        assert!(matches!(
            watched.witness.cosign(&bad, 0),
            Err(WitnessError::Fork { .. })
        ));
    }
    watched.witness.cosign(&good, 0).unwrap();
}

#[test]
fn only_known_logs_are_cosigned_and_only_with_their_own_signature() {
    let watched = Watched::with(2);
    let other = Place::with(2);
    let stranger = Log::open(&other.log()).unwrap();
    let request = stranger.request(0).unwrap();
    let error = watched.witness.cosign(&request, 0).unwrap_err();
    assert!(
        matches!(&error, WitnessError::UnknownLog(name) if name == stranger.origin()),
        "{error}"
    );

    // It signs the known log's checkpoint with its own key.
    let known = Log::open(&watched.place.log()).unwrap();
    let checkpoint = known.request(2).unwrap().note.unverified().clone();
    let forged = Request {
        old: 2,
        hashes: Vec::new(),
        note: Note::sign(checkpoint, &*stranger.signer()),
    };
    let error = watched.witness.cosign(&forged, 0).unwrap_err();
    assert!(
        matches!(error, WitnessError::Note(NoteError::Unsigned)),
        "{error}"
    );

    // A name that would be another place on the disk.
    for origin in [
        "../../../../etc/passwd",
        "gst-e2ee/audit/..",
        "x/00000000000000000000000000000000",
    ] {
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size: 0,
            root: [0; 32],
        };
        let request = Request {
            old: 0,
            hashes: Vec::new(),
            note: Note::sign(checkpoint, &*stranger.signer()),
        };
        assert!(matches!(
            watched.witness.cosign(&request, 0),
            Err(WitnessError::UnknownLog(_))
        ));
    }
    // A key under another log's name.
    let name = known.origin();
    let id = &tree::hash(&[name.as_bytes(), b"\n\x01", &stranger.key().0])[..4];
    let key = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        [&[1], &stranger.key().0[..]].concat(),
    );
    let impostor: VerifierKey = format!("{name}+{}+{key}", hex::encode(id)).parse().unwrap();
    assert!(matches!(
        watched.witness.admit(&impostor),
        Err(WitnessError::NotALog(_))
    ));
    let witness_key = watched.witness.verifier_key();
    assert!(matches!(
        watched.witness.admit(witness_key),
        Err(WitnessError::NotALog(_))
    ));
}

#[test]
fn a_witness_whose_memory_was_changed_cosigns_nothing() {
    let watched = Watched::with(3);
    let log = Log::open(&watched.place.log()).unwrap();
    let witness = watched.place.place.path().join("witness");
    let memory = witness
        .join("logs")
        .join(log.verifier_key().short())
        .join("checkpoint");
    let whole = fs::read(&memory).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&memory, &bytes).unwrap();
        let error = anchor(&log, &watched.witness).unwrap_err();
        assert!(
            matches!(
                error,
                AnchorError::Witness(WitnessError::Damaged { .. } | WitnessError::Folder(_))
            ),
            "byte {at}: {error}"
        );
    }
    // What the log itself signed is not what the witness remembers.
    fs::write(&memory, log.checkpoint().unwrap()).unwrap();
    assert!(matches!(
        anchor(&log, &watched.witness),
        Err(AnchorError::Witness(WitnessError::Damaged {
            error: NoteError::Unsigned,
            ..
        }))
    ));
    fs::write(&memory, &whole).unwrap();
    anchor(&log, &watched.witness).unwrap();
}

#[test]
fn each_witness_has_seen_as_much_as_it_has_seen() {
    let watched = Watched::with(3);
    watched.place.append(3..5);
    let second = Witness::create(&watched.place.place.path().join("second")).unwrap();
    anchor(&Log::open(&watched.place.log()).unwrap(), &second).unwrap();
    watched.place.append(5..6);
    let mut options = watched.options();
    // The second one's cosignature is there, but nobody said that it counts.
    let report = verify(&watched.place.log(), &options).unwrap();
    assert_eq!((report.anchored, report.signed), (3, 6));
    assert_eq!(report.unknown_witnesses, [second.verifier_key().name()]);
    options.witnesses.push(second.verifier_key().clone());
    let report = verify(&watched.place.log(), &options).unwrap();
    assert_eq!((report.anchored, report.unknown_witnesses.len()), (5, 0));
    let mut sizes: Vec<_> = report.anchors.iter().map(|anchor| anchor.entries).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [3, 5]);
}

#[test]
fn a_cosignature_counts_only_for_this_log_and_this_witness_and_never_takes_the_place_of_a_newer_one() {
    let watched = Watched::with(3);
    let log = Log::open(&watched.place.log()).unwrap();
    let key = watched.witness.verifier_key();
    let old = log.anchored(key).unwrap().unwrap();
    watched.place.append(3..5);
    watched.anchor().unwrap();
    assert_eq!(log.add_cosignature(&old, key).unwrap().0, 3);
    assert_eq!(log.anchored(key).unwrap().unwrap().unverified().size, 5);

    let second = Witness::create(&watched.place.place.path().join("second")).unwrap();
    let error = log.add_cosignature(&old, second.verifier_key()).unwrap_err();
    assert!(matches!(error, LogError::Note(NoteError::Unsigned)), "{error}");
    let other = Log::open(&Place::with(1).log()).unwrap();
    assert!(matches!(
        other.add_cosignature(&old, key),
        Err(LogError::Note(NoteError::OtherLog))
    ));
}

#[test]
fn a_witness_is_made_on_purpose_and_never_over_another() {
    let place = Place::empty();
    let path = place.place.path().join("witness");
    let error = Witness::open(&path).unwrap_err();
    assert!(matches!(error, WitnessError::NoWitness(_)), "{error}");
    assert!(error.to_string().contains("--new") && !path.exists());
    let key = Witness::create(&path).unwrap().verifier_key().clone();
    assert!(matches!(Witness::create(&path), Err(WitnessError::Exists(_))));
    assert_eq!(*Witness::open(&path).unwrap().verifier_key(), key);
    let text = fs::read_to_string(path.join("vkey")).unwrap();
    assert_eq!(text, format!("{key}\n"));
}
