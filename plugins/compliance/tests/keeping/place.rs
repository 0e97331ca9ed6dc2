//! A clinic's machine: recordings, their log, people with keys, and the program.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use ed25519_dalek::SigningKey;
use gstcompliance::audit::entry::{Claim as LoggedClaim, Custodians};
use gstcompliance::audit::{Entry, Event, Id, Item, Log, Reader};
use gstcompliance::bundle::{Escrow, Holders, Recipients, prepare, take_next};
use gstcompliance::ids::RecordingId;
use gstcompliance::recording::{Claim, Medium, RealDisk, Recording, Segment, Start, Track};
use gstcompliance::signing::Signer;

pub const DAY: u64 = 86_400_000;
/// When recordings begin, unless a test says otherwise: long ago.
pub const LONG_AGO: u64 = 1_600_000_000_000;

pub struct Place {
    dir: tempfile::TempDir,
}

/// What a call printed, and what it ended with.
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub error: String,
    pub code: Option<i32>,
}

/// A recording that was made.
#[derive(Debug, Clone)]
pub struct Made {
    pub id: RecordingId,
    pub path: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Log::open(&dir.path().join("log")).unwrap().close().unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A person with a key: `<name>.txt`, and `<name>` with the recipient.
    pub fn person(&self, name: &str) -> Identity {
        let identity = Identity::generate();
        let file = self.path(&format!("{name}.txt"));
        fs::write(&file, identity.to_string().expose_secret()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(self.path(name), format!("{}\n", identity.to_public())).unwrap();
        identity
    }

    /// A file of recipients: these people.
    pub fn recipients(&self, file: &str, people: &[&str]) {
        let all: String = people
            .iter()
            .map(|name| fs::read_to_string(self.path(name)).unwrap())
            .collect();
        fs::write(self.path(file), all).unwrap();
    }

    /// A file of custodians: so many of these people.
    pub fn escrow(&self, file: &str, m: u8, people: &[&str]) {
        let mut all = format!("{m} of {}\n", people.len());
        for (name, seed) in people.iter().zip(1..) {
            let recipient = fs::read_to_string(self.path(name)).unwrap();
            let signing = SigningKey::from_bytes(&[seed; 32]).public();
            all.push_str(&format!("{} {signing}\n", recipient.trim_end()));
        }
        fs::write(self.path(file), all).unwrap();
    }

    pub fn log(&self) -> Log {
        Log::open_existing(&self.path("log")).unwrap()
    }

    pub fn append(&self, recording: RecordingId, event: Event) {
        let log = self.log();
        log.append(&Entry {
            time: LONG_AGO,
            recording: Some(recording),
            event,
        })
        .unwrap();
        log.close().unwrap();
    }

    /// All events of a recording.
    pub fn events(&self, recording: RecordingId) -> Vec<Event> {
        let items = Reader::open(&self.path("log")).unwrap();
        items
            .map(|item| match item.unwrap() {
                Item::Entry { entry, .. } => entry.unwrap(),
                Item::Damage(damage) => panic!("{damage}"),
            })
            .filter(|entry| entry.recording == Some(recording))
            .map(|entry| entry.event)
            .collect()
    }

    /// The kinds of a recording's events since it ended.
    pub fn kinds(&self, recording: RecordingId) -> Vec<&'static str> {
        let kinds = self.events(recording).iter().map(Event::kind).collect::<Vec<_>>();
        kinds
            .into_iter()
            .filter(|kind| !["started", "stopped"].contains(kind))
            .collect()
    }

    /// Begins a recording for the people in a file, and logs that.
    pub fn begin(&self, holders: &str, started: u64, retention_days: Option<u32>) -> Recording {
        let list = self.path(holders);
        let holders = match fs::read_to_string(&list).unwrap().contains(" of ") {
            true => Holders::Escrow(Escrow::read(&list).unwrap()),
            false => Holders::Recipients(Recipients::read(&list).unwrap()),
        };
        let keys = self.path("keys");
        prepare(&keys, &holders, 1, &SigningKey::from_bytes(&[4; 32])).unwrap();
        let bundle = take_next(&keys, None, &|_| true).unwrap();
        let log = self.log();
        log.append(&Entry {
            time: started,
            recording: Some(bundle.id()),
            event: Event::Started {
                recorder: Id::new("recorder").unwrap(),
                room: Id::new("room").unwrap(),
                epoch: 1,
                claim: LoggedClaim::Unattested,
                policy: None,
                consent: None,
                recipients: bundle.recipients().to_vec(),
                custodians: bundle.escrow().map(|escrow| Custodians {
                    threshold: escrow.m.into(),
                    shares: escrow.n.into(),
                    fingerprint: escrow.fingerprint,
                }),
                retention_days,
            },
        })
        .unwrap();
        let start = Start {
            time: started,
            room: None,
            recorder: None,
            policy: None,
            claim: Claim::Unattested,
            consent: None,
            retention_days,
            attest: None,
        };
        fs::create_dir_all(self.path("rec")).unwrap();
        let disk = Arc::new(RealDisk);
        let mut recording = Recording::create(&self.path("rec"), &bundle, start, log.signer(), disk).unwrap();
        let track = recording
            .open_track(Track {
                medium: Medium::Audio,
                caps: "audio/x-opus".to_owned(),
                leaf: Some(1),
                sender: "p-1".to_owned(),
            })
            .unwrap();
        recording.append(track, segment()).unwrap();
        recording.sync().unwrap();
        log.close().unwrap();
        recording
    }

    /// A whole recording.
    pub fn record_at(&self, holders: &str, started: u64, retention_days: Option<u32>) -> Made {
        let mut recording = self.begin(holders, started, retention_days);
        recording.end(started + 1000, "eos").unwrap();
        let root = recording.root();
        self.append(
            recording.id(),
            Event::Stopped {
                cause: Id::new("eos").unwrap(),
                lines: root.lines,
                root: root.root,
            },
        );
        Made {
            id: recording.id(),
            path: recording.path().to_owned(),
        }
    }

    pub fn record(&self, holders: &str) -> Made {
        self.record_at(holders, LONG_AGO, Some(30))
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gst-compliance"));
        command.args(words).current_dir(self.dir.path());
        command
    }

    pub fn call(&self, words: &[&str]) -> Said {
        said(self.command(words).output().unwrap())
    }

    pub fn good(&self, words: &[&str]) -> String {
        let said = self.call(words);
        assert_eq!(said.code, Some(0), "{words:?}: {said:?}");
        said.out
    }

    /// A call that fails, with this in what it says.
    pub fn bad(&self, words: &[&str], expected: &str) -> Said {
        let said = self.call(words);
        assert!(
            matches!(said.code, Some(1 | 2))
                && (said.error.contains(expected) || said.out.contains(expected)),
            "{words:?}: {said:?}"
        );
        said
    }

    /// `rewrap` of all recordings, by somebody who holds them, to the people in a file.
    pub fn rewrap<'a>(&self, by: &'a str, to: &'a str) -> Vec<String> {
        let kind = match fs::read_to_string(self.path(to)).unwrap().contains(" of ") {
            true => "--escrow",
            false => "--recipients",
        };
        let by = format!("{by}.txt");
        ["rewrap", "rec", kind, to, "--identity", &by, "--audit-log", "log"]
            .into_iter()
            .chain(WHY)
            .map(str::to_owned)
            .collect()
    }

    pub fn rewrapped(&self, by: &str, to: &str) -> String {
        let words = self.rewrap(by, to);
        self.good(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// `open` of a recording by somebody: the media that comes out, or why none does.
    pub fn open(&self, made: &Made, by: &str) -> Result<Vec<u8>, String> {
        let (rec, identity) = (made.path.to_str().unwrap(), format!("{by}.txt"));
        let out = tempfile::tempdir_in(self.dir.path()).unwrap();
        let out = out.path().to_str().unwrap();
        let words = [
            "open",
            rec,
            "--identity",
            &identity,
            "--audit-log",
            "log",
            "--reader",
            by,
            "--reason",
            "test",
            "--ticket",
            "T-1",
            "--out",
            out,
        ];
        let said = self.call(&words);
        if said.code == Some(0) {
            return Ok(fs::read(Path::new(out).join("0-audio.mkv")).unwrap());
        }
        Err(said.error)
    }

    /// What `verify` with the log says.
    pub fn verify(&self, made: &Made) -> Said {
        self.call(&["verify", made.path.to_str().unwrap(), "--audit-log", "log"])
    }

    pub fn assert_complete(&self, made: &Made) {
        let said = self.verify(made);
        assert!(said.out.starts_with("COMPLETE"), "{said:?}");
    }
}

/// Who does something, and why.
pub const WHY: [&str; 6] = ["--by", "ops-1", "--reason", "staff change", "--ticket", "C-7"];

/// What is recorded, and comes out again.
pub fn media() -> Vec<u8> {
    (0..5000_u32).map(|i| (i * i) as u8).collect()
}

fn segment() -> Segment {
    Segment {
        bytes: media().into(),
        from_ns: 0,
        to_ns: 1_000_000_000,
        epoch: (1, 1),
        leaf: Some(1),
        frames: 50,
        keyframes: None,
    }
}

pub fn said(output: Output) -> Said {
    Said {
        out: String::from_utf8(output.stdout).unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

/// All files below a folder, with their content.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(now) = folders.pop() {
        for entry in fs::read_dir(&now).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Copies a folder to where there is none, or in place of what is there.
pub fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// The plain age tool: what is in a file, for somebody with an identity; none: it is not for them.
pub fn age(identity: &Path, file: &Path) -> Option<Vec<u8>> {
    let output = Command::new("age")
        .args(["-d", "-i"])
        .args([identity, file])
        .output()
        .expect("age is installed");
    output.status.success().then_some(output.stdout)
}

/// Opens a recording's first track with age and tar alone, by a key file of it.
pub fn by_hand(recording: &Path, identity: &Path, key: &Path) -> Option<Vec<u8>> {
    let work = tempfile::tempdir().unwrap();
    let own = work.path().join("recording.txt");
    fs::write(&own, age(identity, key)?).unwrap();
    let tar = recording.join("tracks/0-audio.tar");
    let unpacked = Command::new("tar")
        .arg("-xf")
        .arg(tar)
        .arg("-C")
        .arg(work.path())
        .status()
        .unwrap();
    assert!(unpacked.success());
    let mut members: Vec<_> = fs::read_dir(work.path().join("0-audio"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    members.sort();
    let plain = members.iter().map(|member| age(&own, member).unwrap());
    Some(plain.collect::<Vec<_>>().concat())
}
