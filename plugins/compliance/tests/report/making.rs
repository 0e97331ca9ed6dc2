//! Recordings and logs as a clinic has them, made without a room: the times are the test's, the files are real.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::x25519::Identity;
use ed25519_dalek::SigningKey;
use gstcompliance::attestation::{Attestation, PURPOSE};
use gstcompliance::audit::{Entry, Event, Log, VerifyOptions, Witness};
use gstcompliance::bundle::{Bundle, Custodian, Escrow, Holders, Recipients, prepare, take_next};
use gstcompliance::digest::Digest;
use gstcompliance::ids::RecordingId;
use gstcompliance::recording::{
    Claim, Gap, Left, Medium, RealDisk, Recording, Resume, Segment, Start, Track, TrackId,
};
use gstcompliance::report::{Ask, Report, gather};
use gstcompliance::signing::Signer;
use serde_json::{Value, json};

/// When the recordings begin: 5 January 2027, 09:00:00 UTC, in milliseconds.
pub const START: u64 = 1_799_139_600_000;
pub const MINUTE: u64 = 60_000;
pub const DAY: u64 = 86_400_000;
/// When the reports are made.
pub const NOW: u64 = START + 40 * DAY;

const RECORDER: &str = include_str!("../data/attestation/recorder.pem");
const CA: &str = include_str!("../data/attestation/ca.pem");

/// How a consultation went.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How long it was.
    pub seconds: u64,
    /// Recording was off in the third quarter's first half.
    pub off: bool,
    /// The disk was too slow once, and the network lost something.
    pub gaps: bool,
    /// The recorder crashed in the middle and came back 20 seconds later.
    pub crash: bool,
    /// It ended.
    pub end: bool,
    /// Custodians instead of recipients.
    pub escrow: bool,
}

/// Nothing went wrong.
pub const GOOD: Plan = Plan {
    seconds: 120,
    off: true,
    gaps: false,
    crash: false,
    end: true,
    escrow: false,
};

/// A folder with a recording and the log.
pub struct Clinic {
    dir: tempfile::TempDir,
    pub recording: PathBuf,
    pub id: RecordingId,
}

pub fn dealer() -> SigningKey {
    SigningKey::from_bytes(&[4; 32])
}

fn bundle(folder: &Path, escrow: bool) -> Bundle {
    let list = folder.join("holders");
    let key = || Identity::generate().to_public();
    let holders = if escrow {
        let line = |n| {
            format!(
                "{}\n",
                Custodian::new(key(), SigningKey::from_bytes(&[n; 32]).public(), None)
            )
        };
        fs::write(&list, format!("2 of 3\n{}", [1, 2, 3].map(line).concat())).unwrap();
        Holders::Escrow(Escrow::read(&list).unwrap())
    } else {
        fs::write(&list, format!("{}\n{}\n", key(), key())).unwrap();
        Holders::Recipients(Recipients::read(&list).unwrap())
    };
    let keys = folder.join("keys");
    prepare(&keys, &holders, 1, &dealer()).unwrap();
    take_next(&keys, Some(dealer().public()), &|_| true).unwrap()
}

fn attest(bytes: &[u8]) -> Result<Attestation, String> {
    let signature = SigningKey::from_bytes(&[7; 32]).sign(PURPOSE, bytes);
    Ok(Attestation::new(vec![RECORDER.to_owned(), CA.to_owned()], &signature.0).unwrap())
}

/// Who sends what: from which second to which, of the length.
const SENDERS: [(&str, Medium, u64, u64); 4] = [
    ("anna", Medium::Audio, 0, 100),
    ("anna", Medium::Video, 0, 100),
    ("ben", Medium::Audio, 10, 90),
    ("ben", Medium::Video, 10, 90),
];

impl Clinic {
    pub fn new(plan: Plan) -> Self {
        Self::with(plan, |_| {})
    }

    /// The same, and something more in the recording before it ends.
    pub fn with(plan: Plan, more: impl FnOnce(&mut Recording)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(&dir.path().join("log")).unwrap();
        let bundle = bundle(dir.path(), plan.escrow);
        let recordings = dir.path().join("recordings");
        fs::create_dir(&recordings).unwrap();
        let clinic = Self {
            recording: recordings.join(bundle.id().to_string()),
            id: bundle.id(),
            dir,
        };
        clinic.record(plan, &bundle, &log, more);
        log.close().unwrap();
        clinic
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// Appends an event about the recording, `at` milliseconds after its beginning.
    pub fn log_event(&self, at: u64, kind: &str, fields: &Value) {
        let log = Log::open_existing(&self.log()).unwrap();
        note(&log, Some(self.id), START + at, kind, fields);
        log.close().unwrap();
    }

    /// Three accesses, of which one is denied, a drill, and a witness that saw all that.
    pub fn with_accesses(self) -> Self {
        let log = Log::open_existing(&self.log()).unwrap();
        let (day, id) = (DAY, Some(self.id));
        let (minute, hour) = (MINUTE, 60 * MINUTE);
        let of = |access: &str, more: Value| {
            let mut fields = json!({ "access": access });
            fields
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            fields
        };
        let tell = |at: u64, kind: &str, fields: Value| note(&log, id, START + at, kind, &fields);
        tell(
            2 * day,
            "access-opened",
            of(
                "4f1c",
                json!({ "reader": "dr-17", "way": "recipient",
            "reason": "complaint of 5 January", "ticket": "C-2291", "tracks": [] }),
            ),
        );
        tell(
            2 * day + 9 * minute,
            "access-ended",
            of("4f1c", json!({ "members": 412 })),
        );
        let expires = START + 4 * day;
        tell(
            3 * day,
            "access-requested",
            of(
                "9ab0",
                json!({ "requester": "research-2", "recipient": "age1research", "station": "age1station",
            "reason": "training of new staff", "ticket": "R-7", "expires": expires }),
            ),
        );
        tell(
            3 * day + 5 * hour,
            "access-denied",
            of(
                "9ab0",
                json!({ "by": "custodian-2",
            "reason": "not a purpose that the consent allows" }),
            ),
        );
        let expires = START + 9 * day;
        tell(
            7 * day,
            "access-requested",
            of(
                "c2d3",
                json!({ "requester": "auditor-4", "recipient": "age1auditor", "station": "age1station",
            "reason": "order of the court of 11 January", "ticket": "J 14/27", "expires": expires }),
            ),
        );
        tell(
            7 * day + 2 * hour,
            "access-approved",
            of("c2d3", json!({ "custodian": "custodian-1", "share": 1 })),
        );
        tell(
            7 * day + 7 * hour,
            "access-approved",
            of("c2d3", json!({ "custodian": "custodian-3", "share": 3 })),
        );
        tell(
            8 * day,
            "access-opened",
            of(
                "c2d3",
                json!({ "reader": "auditor-4", "way": "break-glass",
            "reason": "order of the court of 11 January", "ticket": "J 14/27", "tracks": [0, 2] }),
            ),
        );
        tell(
            8 * day + 20 * minute,
            "exported",
            of(
                "c2d3",
                json!({ "by": "auditor-4", "format": "fhir",
            "sha256": Digest::of(b"copy"), "bytes": 48_120_331, "destination": "records.clinic.example" }),
            ),
        );
        tell(
            8 * day + 21 * minute,
            "access-ended",
            of("c2d3", json!({ "members": 240 })),
        );
        let canary = Some(RecordingId::from_bytes([0xca; 16]));
        note(
            &log,
            canary,
            START + 28 * day,
            "drill",
            &json!({ "access": "d1", "by": "custodian-1", "passed": true,
            "result": "opened in 14 minutes, custodians 1 and 2" }),
        );
        let witness = Witness::create(&self.path("witness")).unwrap();
        witness.admit(log.verifier_key()).unwrap();
        let request = log.request(0).unwrap();
        let line = witness.cosign(&request, (START + 28 * DAY) / 1000).unwrap();
        let mut note = request.note;
        note.add(line);
        log.add_cosignature(&note, witness.verifier_key()).unwrap();
        log.close().unwrap();
        self
    }

    /// What a report of it says.
    pub fn report(&self) -> Report {
        self.report_with(|_| {})
    }

    pub fn report_with(&self, change: impl FnOnce(&mut Ask<'_>)) -> Report {
        let log = self.log();
        let mut ask = Ask {
            recording: &self.recording,
            log: &log,
            log_key: None,
            dealer: None,
            trust: VerifyOptions::default(),
            now: NOW,
            by: Some("compliance-3".parse().unwrap()),
        };
        change(&mut ask);
        gather(&ask).unwrap()
    }

    /// Adds the witness to what is trusted.
    pub fn trust(&self, ask: &mut Ask<'_>) {
        ask.trust.witnesses.push(
            fs::read_to_string(self.path("witness/vkey"))
                .unwrap()
                .trim()
                .parse()
                .unwrap(),
        );
    }

    fn record(&self, plan: Plan, bundle: &Bundle, log: &Log, more: impl FnOnce(&mut Recording)) {
        let tell = |at: u64, kind: &str, fields: &Value| note(log, Some(self.id), START + at, kind, fields);
        let policy = Digest::of(b"policy");
        let certificate = Digest::of(RECORDER.as_bytes());
        let claim = if plan.escrow {
            Claim::Escrow
        } else {
            Claim::Recorded
        };
        let custodians = bundle.escrow().map(
            |escrow| json!({ "threshold": escrow.m, "shares": escrow.n, "fingerprint": escrow.fingerprint }),
        );
        tell(
            0,
            "recorder-in",
            &json!({ "recorder": "7f3a", "certificate": certificate, "epoch": 4 }),
        );
        let mut started = json!({ "recorder": "7f3a", "room": "room-7", "epoch": 4, "claim": claim, "policy": policy,
            "consent": "ab".repeat(48), "recipients": bundle.recipients(), "retention_days": 365 });
        if let Some(custodians) = custodians {
            started["custodians"] = custodians;
        }
        tell(0, "started", &started);
        tell(
            10,
            "consent",
            &json!({ "reference": "ab".repeat(48), "status": "valid" }),
        );
        let start = Start {
            time: START,
            room: Some("room-7".to_owned()),
            recorder: Some("7f3a".to_owned()),
            policy: Some(policy),
            claim,
            consent: Some("ab".repeat(48)),
            retention_days: Some(365),
            attest: Some(Box::new(attest)),
        };
        let location = self.recording.parent().unwrap();
        let recording = Recording::create(location, bundle, start, log.signer(), Arc::new(RealDisk)).unwrap();
        let mut run = Run {
            plan,
            recording: Some(recording),
            log,
            id: self.id,
            tracks: Vec::new(),
            down: 0,
        };
        run.all(more);
    }
}

/// Appends an event in the words of its JSON: a field that it gets later and that may be absent changes nothing here.
fn note(log: &Log, recording: Option<RecordingId>, time: u64, kind: &str, fields: &Value) {
    let event: Event = serde_json::from_value(json!({ kind: fields })).unwrap();
    log.append(&Entry {
        time,
        recording,
        event,
    })
    .unwrap();
}

struct Run<'a> {
    plan: Plan,
    recording: Option<Recording>,
    log: &'a Log,
    id: RecordingId,
    /// Tracks of the senders.
    tracks: Vec<Option<TrackId>>,
    /// How long the recorder was down, in milliseconds.
    down: u64,
}

impl Run<'_> {
    fn of(&mut self) -> &mut Recording {
        self.recording.as_mut().unwrap()
    }

    fn tell(&self, second: u64, kind: &str, fields: &Value) {
        let time = START + 800 + second * 1000 + self.down;
        note(self.log, Some(self.id), time, kind, fields);
    }

    fn all(&mut self, more: impl FnOnce(&mut Recording)) {
        let Plan { seconds, .. } = self.plan;
        let policy = Digest::of(b"policy");
        let epoch = |run: &Self, second, epoch: u64, on: bool, members: u64| {
            run.tell(
                second,
                "epoch",
                &json!({ "epoch": epoch, "on": on, "claim": "recorded", "policy": policy,
                "members": members }),
            );
        };
        self.tracks = vec![None; SENDERS.len()];
        let (off, on) = (seconds / 2, seconds * 5 / 8);
        let crash = seconds * 2 / 5;
        for second in 0..seconds {
            if second == seconds / 10 {
                epoch(self, second, 5, true, 3);
            }
            if self.plan.off && second == off {
                epoch(self, second, 6, false, 3);
                self.tell(second, "paused", &json!({ "cause": "recording-off" }));
            }
            if self.plan.off && second == on {
                epoch(self, second, 7, true, 3);
                self.tell(second, "resumed", &json!({ "epoch": 7 }));
            }
            if second == seconds * 9 / 10 {
                epoch(self, second, 8, true, 2);
            }
            if self.plan.crash && second == crash {
                self.crash(second);
            }
            if self.plan.off && (off..on).contains(&second) {
                continue;
            }
            for sender in 0..SENDERS.len() {
                self.send(sender, second);
            }
            if second % 30 == 29 {
                self.seal(second);
            }
        }
        self.say(seconds / 4);
        more(self.of());
        self.seal(seconds);
        if self.plan.end {
            let time = START + seconds * 1000 + 900 + self.down;
            self.of().end(time, "eos").unwrap();
            let root = self.of().root();
            self.tell(
                seconds,
                "stopped",
                &json!({ "cause": "eos", "lines": root.lines, "root": root.root }),
            );
        }
    }

    fn open(&mut self, second: u64, sender: &str, medium: Medium) -> TrackId {
        let track = Track {
            medium,
            caps: "x/y".to_owned(),
            leaf: Some(1),
            sender: sender.to_owned(),
        };
        let id = self.of().open_track(track).unwrap();
        let sender = if sender.is_empty() { "unknown" } else { sender };
        self.tell(
            second,
            "track-opened",
            &json!({ "track": id, "medium": medium, "sender": sender, "leaf": 1 }),
        );
        id
    }

    fn send(&mut self, sender: usize, second: u64) {
        let (name, medium, from, to) = SENDERS[sender];
        let hundredth = second * 100 / self.plan.seconds;
        if !(from..to).contains(&hundredth) {
            return;
        }
        let track = match self.tracks[sender] {
            Some(track) => track,
            None => {
                let track = self.open(second, name, medium);
                self.tracks[sender] = Some(track);
                track
            }
        };
        let at = 500_000_000 + second * 1_000_000_000;
        let seconds = self.plan.seconds;
        let tenth = |tenths: u64| second == seconds * tenths / 10;
        if self.plan.gaps && sender == 2 && tenth(7) {
            self.gap(track, second, (at, at + 2_300_000_000), "queue-full");
        }
        if self.plan.gaps && sender == 1 && tenth(3) {
            self.gap(track, second, (at, at + 640_000_000), "lost-upstream");
        }
        if self.plan.gaps && (tenth(7) && sender == 2 || tenth(3) && sender == 1) {
            return;
        }
        let segment = Segment {
            bytes: zeroize::Zeroizing::new(vec![7; 200]),
            from_ns: at,
            to_ns: at + 1_000_000_000,
            epoch: (5, 5),
            leaf: Some(1),
            frames: 25,
            keyframes: None,
        };
        self.of().append(track, segment).unwrap();
    }

    fn gap(&mut self, track: TrackId, second: u64, (from_ns, to_ns): (u64, u64), cause: &str) {
        let gap = Gap {
            from_ns,
            to_ns,
            frames: 57,
            cause: cause.to_owned(),
        };
        self.of().gap(track, gap).unwrap();
        self.tell(
            second,
            "gap",
            &json!({ "track": track, "from_ns": from_ns, "to_ns": to_ns, "frames": 57,
            "cause": cause }),
        );
    }

    /// What people wrote.
    fn say(&mut self, second: u64) {
        let track = self.open(second, "", Medium::Text);
        let at = self.plan.seconds * 250_000_000;
        for said in 0..3 {
            let segment = Segment {
                bytes: zeroize::Zeroizing::new(b"{}".to_vec()),
                from_ns: at + said * 10_000_000_000,
                to_ns: at + said * 10_000_000_000 + 1_000_000_000,
                epoch: (5, 5),
                leaf: None,
                frames: 1,
                keyframes: None,
            };
            self.of().append(track, segment).unwrap();
        }
    }

    fn seal(&mut self, second: u64) {
        self.of().sync().unwrap();
        let root = self.of().root();
        self.tell(
            second,
            "manifest",
            &json!({ "lines": root.lines, "root": root.root }),
        );
    }

    fn crash(&mut self, second: u64) {
        self.of().sync().unwrap();
        let path = self.of().path().to_owned();
        self.down += 20_000;
        let resume = Resume {
            time: START + 800 + second * 1000 + self.down,
            known: None,
        };
        // It dies, and with it its lock.
        self.recording = None;
        let left = Left::lock(&path, self.log.signer(), Arc::new(RealDisk)).unwrap();
        let (recording, recovery) = left.resume(resume).unwrap();
        self.recording = Some(recording);
        self.tell(
            second,
            "recovered",
            &json!({ "lines": recovery.root.lines, "root": recovery.root.root,
            "at_ns": recovery.last_ns, "cuts": [] }),
        );
        self.tell(second, "resumed", &json!({ "epoch": 5 }));
        self.tracks = vec![None; SENDERS.len()];
    }
}
