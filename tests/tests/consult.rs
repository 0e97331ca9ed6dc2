//! A whole consultation, as `pipelines/` has it: a clinician, a patient and a recorder, each a process of its own, keyed by
//! a room, through a relay that has no key. Recording goes on, off, on and off; the recorder is killed in between and comes
//! back. What is left is one recording that is whole, plays, and has nothing of when it was off.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::process::{Finished, Running, Sandbox, staged_plugins};
use gstcompliance::audit::{self, Event, Item};
use gstcompliance::recording::{self, Index, Medium, Options};
use gstmls::control::{self, Query, Reply, Request};
use gstmls::room::{Command, State, Status};
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// What is said while it is recorded, and while it is not.
const SAID: [&str; 2] = ["It hurts when I climb stairs", "Since when does it?"];
const OFF_THE_RECORD: &str = "Between you and me";
const MEMBERS: [&str; 3] = ["clinician", "patient", "recorder"];

fn pipelines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../pipelines")
        .canonicalize()
        .unwrap()
}

/// The first of so many UDP ports in a row that nobody uses now.
fn free_ports(count: u16) -> u16 {
    (0..500)
        .map(|_| {
            UdpSocket::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port()
        })
        .find(|first| {
            *first < u16::MAX - count
                && (*first..first + count).all(|port| UdpSocket::bind(("0.0.0.0", port)).is_ok())
        })
        .expect("no free ports in a row")
}

struct Consult {
    sandbox: Sandbox,
    port: u16,
    starts: usize,
}

impl Consult {
    /// What an organisation prepares: identities, keys of recordings, a policy that names them.
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let consult = Self {
            sandbox,
            port: free_ports(50),
            starts: 0,
        };
        consult.tool("gst-mls", &["ca", "new", "--name", "Clinic", "--out", "ca"]);
        for who in MEMBERS {
            let role = if who == "recorder" {
                "recorder"
            } else {
                "participant"
            };
            let words = [
                "identity", "new", "--ca", "ca", "--role", role, "--id", who, "--out", who,
            ];
            consult.tool("gst-mls", &words);
            fs::create_dir_all(consult.out(who)).unwrap();
        }
        let key = age::x25519::Identity::generate();
        let secret = age::secrecy::ExposeSecret::expose_secret(&key.to_string()).to_owned();
        consult.sandbox.key_file("reader.txt", &format!("{secret}\n"));
        fs::write(consult.path("recipients"), format!("{}\n", key.to_public())).unwrap();
        let words = "keys prepare --recipients recipients --count 2 --dealer-key dealer.key --out keys";
        let keys = consult.tool("gst-compliance", &words.split(' ').collect::<Vec<_>>());
        let consent = consult.path("consent.json");
        fs::copy(pipelines().join("recording/consent.json"), &consent).unwrap();
        let reference = consult.tool("gst-compliance", &["consent", "consent.json"]);
        let root = consult.tool("gst-mls", &["fingerprint", "ca/ca.pem"]);
        let hex = |text: &str| {
            let mut words = text.split(|c: char| !c.is_ascii_hexdigit());
            words
                .find(|word| word.len() >= 64)
                .expect("no fingerprint")
                .to_owned()
        };
        let recipients = keys
            .split("recipients")
            .nth(1)
            .expect("no fingerprints")
            .to_owned();
        let policy = fs::read_to_string(pipelines().join("recording/policy.json")).unwrap();
        let policy = policy
            .replace("ROOT", &hex(&root))
            .replace("RECIPIENT", &hex(&recipients))
            .replace("REFERENCE", reference.trim());
        fs::write(consult.path("policy.json"), policy).unwrap();
        consult
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }

    fn out(&self, who: &str) -> PathBuf {
        self.path("out").join(who)
    }

    /// Runs one of our programs; gives what it printed.
    fn tool(&self, program: &str, words: &[&str]) -> String {
        let program = staged_plugins().join("../bin").join(program);
        let mut command = self.sandbox.command(program);
        command.args(words);
        self.sandbox.run("tool", &mut command).expect_success().printed
    }

    fn start(&mut self, who: &str, script: &str, more: &[(&str, &str)]) -> Running {
        self.starts += 1;
        let offset = [("clinician", 0), ("patient", 10), ("recorder", 30), ("relay", 0)]
            .into_iter()
            .find_map(|(name, offset)| (name == who).then_some(offset))
            .unwrap();
        let mut command = self.sandbox.command(pipelines().join(script));
        command
            .env("PORT", (self.port + offset).to_string())
            .env("ME", self.path(who))
            .env("OUT", self.out(who))
            .env("LOG", self.path("room.sqlite"))
            .env("SOCKET", self.socket(who))
            .envs(more.iter().copied());
        self.sandbox
            .start(&format!("{who}-{}", self.starts), &mut command)
    }

    fn participant(&mut self, who: &str, more: &[(&str, &str)]) -> Running {
        let say = self.path(&format!("{who}.say"));
        let made = std::process::Command::new("mkfifo").arg(&say).status().unwrap();
        assert!(made.success());
        let say = say.display().to_string();
        let always = [("ACCEPT", "recorded"), ("SAY", &*say)];
        let more: Vec<_> = always.iter().chain(more).copied().collect();
        self.start(who, "room/participant.sh", &more)
    }

    fn recorder(&mut self) -> Running {
        let [keys, consent, audit] =
            ["keys", "consent.json", "audit"].map(|name| self.path(name).display().to_string());
        let more = [("KEYS", &*keys), ("CONSENT", &consent), ("AUDIT", &audit)];
        self.start("recorder", "recording/recorder.sh", &more)
    }

    fn socket(&self, who: &str) -> PathBuf {
        self.path(&format!("{who}.socket"))
    }

    fn status(&self, who: &str) -> Option<Status> {
        match control::ask(&self.socket(who), &Request::Ask(Query::Status)).ok()? {
            Reply::Ok(value) => serde_json::from_value(value).ok(),
            Reply::Error(_) => None,
        }
    }

    /// Waits until these are ready in one epoch with nobody else; gives it.
    fn agree(&self, who: &[&str]) -> u64 {
        let end = Instant::now() + LIMIT;
        loop {
            let all: Vec<_> = who.iter().filter_map(|who| self.status(who)).collect();
            let together = all.len() == who.len()
                && all.iter().all(|status| {
                    status.state == State::Ready
                        && status.members.len() == who.len()
                        && status.epoch_code == all[0].epoch_code
                });
            if together {
                return all[0].epoch;
            }
            assert!(Instant::now() < end, "{who:?} do not agree: {all:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One says something, and the other hears it.
    fn talk(&self, by: &str, to: &str, text: &str) {
        fs::write(self.path(&format!("{by}.say")), text).unwrap();
        let end = Instant::now() + LIMIT;
        let heard = || fs::read_to_string(self.out(to).join("messages.txt")).unwrap_or_default();
        while !heard().contains(text) {
            assert!(Instant::now() < end, "{to} heard {:?}", heard());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn set_recording(&self, on: bool) {
        let request = Request::Room(Command::SetRecording { on });
        let reply = control::ask(&self.socket("clinician"), &request).unwrap();
        assert!(matches!(reply, Reply::Ok(_)), "{reply:?}");
    }
}

/// How often a process has posted this message.
fn count(process: &Running, message: &str) -> usize {
    process.printed().matches(message).count()
}

fn wait(process: &mut Running, what: &str, holds: impl Fn(&Running) -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds(process) {
        assert!(
            Instant::now() < end,
            "not within {LIMIT:?}: {what}: {}",
            process.printed()
        );
        assert!(process.wait_for(|| true), "it ended");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ctrl-C, and a second one should rtpbin keep the end of the stream to itself, as GStreamer 1.22 does now and then.
fn end(mut process: Running) -> Finished {
    process.interrupt();
    let patience = Instant::now() + Duration::from_secs(4);
    let mut again = false;
    process.wait_for(|| {
        if !again && Instant::now() > patience {
            again = true;
            return true;
        }
        false
    });
    if again {
        process.interrupt();
    }
    process.finish()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    entries
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => vec![entry.path()],
        })
        .collect()
}

/// How many of these pieces stand in a file.
fn pieces_in(path: &Path, pieces: &HashSet<&[u8]>) -> usize {
    let bytes = fs::read(path).unwrap();
    bytes.windows(16).filter(|window| pieces.contains(window)).count()
}

#[test]
fn a_consultation_is_recorded_while_the_group_says_so_though_the_recorder_dies_in_between() {
    let mut consult = Consult::new();
    let relay = consult.start("relay", "room/relay.sh", &[]);
    let policy = consult.path("policy.json").display().to_string();
    let clinician = consult.participant("clinician", &[("CREATE", "yes"), ("POLICY", &policy)]);
    consult.agree(&["clinician"]);
    let patient = consult.participant("patient", &[]);
    consult.agree(&["clinician", "patient"]);
    let mut recorder = consult.recorder();
    consult.agree(&MEMBERS);

    // On: it records. Then it dies, and the next one goes on where it stopped, in the same room.
    let mut on = BTreeSet::new();
    let recordings = consult.out("recorder").join("recordings");
    assert!(files(&recordings).is_empty(), "it wrote before recording was on");
    consult.set_recording(true);
    on.insert(consult.agree(&MEMBERS));
    consult.talk("patient", "clinician", SAID[0]);
    consult.talk("clinician", "patient", SAID[1]);
    wait(&mut recorder, "segments", |recorder| {
        count(recorder, "compliance-segment") > 12
    });
    recorder.kill();
    let mut recorder = consult.recorder();
    wait(&mut recorder, "recovery", |recorder| {
        recorder.printed().contains("recovered=(boolean)true")
    });
    wait(&mut recorder, "segments", |recorder| {
        count(recorder, "compliance-segment") > 8
    });
    // Its return renewed its keys: these epochs are on as well.
    let back = consult.agree(&MEMBERS);
    on.extend(on.clone().into_iter().min().unwrap()..=back);

    // Off, on and off again.
    consult.set_recording(false);
    let off = consult.agree(&MEMBERS);
    wait(&mut recorder, "a pause", |recorder| {
        recorder.printed().contains("recording-off")
    });
    consult.talk("patient", "clinician", OFF_THE_RECORD);
    let segments = count(&recorder, "compliance-segment");
    consult.set_recording(true);
    on.insert(consult.agree(&MEMBERS));
    wait(&mut recorder, "segments", |recorder| {
        count(recorder, "compliance-segment") > segments + 8
    });
    consult.set_recording(false);
    let last = consult.agree(&MEMBERS);

    let ended = [clinician, patient].map(end);
    for participant in ended {
        participant.expect_success();
    }
    let printed = end(recorder).expect_success().printed;
    drop(relay);
    assert!(printed.contains("compliance-stopped"), "{printed}");

    // One recording, and it is whole; so is the log, and it tells of it.
    let made: Vec<_> = fs::read_dir(&recordings)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let report = recording::verify(&made[0], &Options::default()).unwrap();
    assert_eq!(report.state, recording::State::Complete, "{report:#?}");
    assert_eq!(report.resumed, 1);
    let log = consult.path("audit");
    let whole = audit::verify(&log, &audit::VerifyOptions::default()).unwrap();
    assert!(whole.damages.is_empty(), "{whole:#?}");
    let events: Vec<_> = audit::Reader::open(&log)
        .unwrap()
        .filter_map(|item| match item.unwrap() {
            Item::Entry { entry, .. } => Some(entry.unwrap().event),
            _ => None,
        })
        .collect();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Recovered { .. }))
    );
    assert!(events.iter().any(|event| matches!(event, Event::Stopped { .. })));
    let members = u32::try_from(MEMBERS.len()).ok();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Epoch { members: of, .. } if *of == members))
    );

    // Nothing of when it was off; something of each participant, from before and after the crash.
    let index = Index::open(&made[0], &Options::default()).unwrap();
    let epochs: BTreeSet<_> = index
        .tracks()
        .iter()
        .flat_map(|track| &track.members)
        .flat_map(|member| [member.epochs.0, member.epochs.1])
        .collect();
    assert!(
        epochs.is_subset(&on) && !epochs.contains(&off) && !epochs.contains(&last),
        "{epochs:?} of {on:?}"
    );
    for medium in [Medium::Video, Medium::Audio] {
        let leaves: BTreeSet<_> = index
            .tracks()
            .iter()
            .filter(|track| track.medium == medium)
            .map(|track| track.leaf)
            .collect();
        assert_eq!(leaves.len(), 2, "{medium}: {leaves:?}");
    }

    // The recorder's machine has neither media nor keys in clear.
    let media = fs::read(consult.out("patient").join("video.bin")).unwrap();
    let pieces: HashSet<&[u8]> = media.chunks_exact(16).collect();
    assert!(pieces.len() > 1000);
    let machine = files(&consult.out("recorder"))
        .into_iter()
        .chain(files(&log))
        .chain(files(&consult.path("keys")));
    for path in machine {
        assert_eq!(
            pieces_in(&path, &pieces),
            0,
            "media in clear in {}",
            path.display()
        );
        let bytes = fs::read(&path).unwrap();
        for text in SAID {
            assert!(
                !bytes.windows(text.len()).any(|window| window == text.as_bytes()),
                "{}",
                path.display()
            );
        }
        assert!(
            !bytes.windows(15).any(|window| window == b"AGE-SECRET-KEY-"),
            "{}",
            path.display()
        );
    }

    // It plays, to its recipient, through the log; and what comes out is what was sent.
    let track = |medium| {
        index
            .tracks()
            .iter()
            .find(|track| track.medium == medium)
            .unwrap()
            .id
            .to_string()
    };
    let (video, audio) = (track(Medium::Video), track(Medium::Audio));
    let mut playback = consult.sandbox.command(pipelines().join("recording/playback.sh"));
    playback
        .env("RECORDING", &made[0])
        .env("IDENTITY", consult.path("reader.txt"))
        .env("AUDIT", &log)
        .env("OUT", consult.path("out"))
        .envs([
            ("READER", "reader-1"),
            ("REASON", "test"),
            ("TICKET", "T-1"),
            ("VIDEO", &video),
            ("AUDIO", &audio),
        ]);
    consult.sandbox.run("playback", &mut playback).expect_success();
    assert!(consult.path("out/picture-000.jpg").exists());
    assert!(fs::metadata(consult.path("out/sound.wav")).unwrap().len() > 100_000);
    let recording = made[0].display().to_string();
    let log = log.display().to_string();
    let words = [
        "open",
        &recording,
        "--identity",
        "reader.txt",
        "--audit-log",
        &log,
        "--reader",
        "reader-1",
    ];
    consult.tool(
        "gst-compliance",
        &[
            &words[..],
            &["--reason", "test", "--ticket", "T-1", "--out", "opened"],
        ]
        .concat(),
    );
    let opened = files(&consult.path("opened"));
    assert_eq!(opened.len(), index.tracks().len());
    let found: usize = opened.iter().map(|path| pieces_in(path, &pieces)).sum();
    assert!(
        found > 500,
        "only {found} pieces of the clinician's video are in the recording"
    );
    // So does what they said, in one track; and what was not on the record is not in it.
    let stands = |text: &str| {
        let holds = |path: &PathBuf| {
            let bytes = fs::read(path).unwrap();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        };
        opened.iter().filter(|path| holds(path)).count()
    };
    assert_eq!([SAID[0], SAID[1], OFF_THE_RECORD].map(stands), [1, 1, 0]);
    let texts = index.tracks().iter().filter(|track| track.medium == Medium::Text);
    assert!(texts.clone().count() > 0 && texts.clone().all(|track| track.leaf.is_none()));
}
