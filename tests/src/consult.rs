//! A consultation as `pipelines/` has it: a clinician, a patient and a recorder, each a process of its own, keyed by a room,
//! and a relay that has no key.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use it, a failure here is theirs"
)]

use crate::namespaces::Machine;
use crate::process::{Finished, Running, Sandbox, staged_plugins};
use gstmls::control::{self, Query, Reply, Request};
use gstmls::room::{Command, State, Status};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longer than anything in it takes on a slow machine.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Who is in it.
pub const MEMBERS: [&str; 3] = ["clinician", "patient", "recorder"];

/// The folder `pipelines/`.
pub fn pipelines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../pipelines")
        .canonicalize()
        .unwrap()
}

/// The first of so many UDP ports in a row that nobody uses now.
pub fn free_ports(count: u16) -> u16 {
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

/// The consultation.
pub struct Consult {
    /// Where all of it keeps its files.
    pub sandbox: Sandbox,
    /// The first of its UDP ports, as `pipelines/room/relay.sh` has them.
    pub port: u16,
    /// On which machine somebody is; here, who is on none. Whatever they reach, they reach at its exit.
    pub machines: BTreeMap<&'static str, Machine>,
    /// What carries the room's messages, on a machine at its exit; a file, if nothing.
    pub delivery: Option<u16>,
    starts: usize,
}

impl Default for Consult {
    fn default() -> Self {
        Self::new()
    }
}

impl Consult {
    /// What an organisation prepares: identities, keys of recordings, a policy that names them.
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let consult = Self {
            sandbox,
            port: free_ports(50),
            machines: BTreeMap::new(),
            delivery: None,
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

    /// All come, one after the other, and agree: the relay, then MEMBERS.
    pub fn begin(&mut self) -> [Running; 4] {
        let relay = self.start("relay", "room/relay.sh", &[]);
        let policy = self.path("policy.json").display().to_string();
        let clinician = self.participant("clinician", &[("CREATE", "yes"), ("POLICY", &policy)]);
        self.agree(&["clinician"]);
        let patient = self.participant("patient", &[]);
        self.agree(&["clinician", "patient"]);
        let recorder = self.recorder();
        self.agree(&MEMBERS);
        [relay, clinician, patient, recorder]
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }

    /// The folder of what somebody receives.
    pub fn out(&self, who: &str) -> PathBuf {
        self.path("out").join(who)
    }

    /// Runs one of our programs; gives what it printed.
    pub fn tool(&self, program: &str, words: &[&str]) -> String {
        let program = staged_plugins().join("../bin").join(program);
        let mut command = self.sandbox.command(program);
        command.args(words);
        self.sandbox.run("tool", &mut command).expect_success().printed
    }

    /// Starts a script of `pipelines/` for somebody.
    pub fn start(&mut self, who: &str, script: &str, more: &[(&str, &str)]) -> Running {
        self.starts += 1;
        let offset = [("clinician", 0), ("patient", 10), ("recorder", 30), ("relay", 0)]
            .into_iter()
            .find_map(|(name, offset)| (name == who).then_some(offset))
            .unwrap();
        let script = pipelines().join(script);
        let mut command = match self.machines.get(who) {
            Some(machine) => {
                let exit = machine.exit().to_string();
                let mut command = machine.command(&self.sandbox, script);
                if let Some(port) = self.delivery {
                    command.env("DELIVERY", format!("nats://{exit}:{port}"));
                }
                command.envs(["RELAY", "A", "B", "R"].map(|peer| (peer, &exit)));
                command
            }
            None => self.sandbox.command(script),
        };
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

    /// Starts a participant who can say something.
    pub fn participant(&mut self, who: &str, more: &[(&str, &str)]) -> Running {
        let say = self.path(&format!("{who}.say"));
        let made = std::process::Command::new("mkfifo").arg(&say).status().unwrap();
        assert!(made.success());
        let say = say.display().to_string();
        let always = [("ACCEPT", "recorded"), ("SAY", &*say)];
        let more: Vec<_> = always.iter().chain(more).copied().collect();
        self.start(who, "room/participant.sh", &more)
    }

    /// Starts the recorder.
    pub fn recorder(&mut self) -> Running {
        let [keys, consent, audit] =
            ["keys", "consent.json", "audit"].map(|name| self.path(name).display().to_string());
        let more = [("KEYS", &*keys), ("CONSENT", &consent), ("AUDIT", &audit)];
        self.start("recorder", "recording/recorder.sh", &more)
    }

    /// Where somebody's room is commanded.
    pub fn socket(&self, who: &str) -> PathBuf {
        self.path(&format!("{who}.socket"))
    }

    /// The room as somebody sees it.
    pub fn status(&self, who: &str) -> Option<Status> {
        match control::ask(&self.socket(who), &Request::Ask(Query::Status)).ok()? {
            Reply::Ok(value) => serde_json::from_value(value).ok(),
            Reply::Error(_) => None,
        }
    }

    /// Waits until these are ready in one epoch with nobody else; gives it.
    pub fn agree(&self, who: &[&str]) -> u64 {
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
    pub fn talk(&self, by: &str, to: &str, text: &str) {
        fs::write(self.path(&format!("{by}.say")), text).unwrap();
        let end = Instant::now() + LIMIT;
        let heard = || fs::read_to_string(self.out(to).join("messages.txt")).unwrap_or_default();
        while !heard().contains(text) {
            assert!(Instant::now() < end, "{to} heard {:?}", heard());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The clinician switches recording on or off.
    pub fn set_recording(&self, on: bool) {
        let request = Request::Room(Command::SetRecording { on });
        let reply = control::ask(&self.socket("clinician"), &request).unwrap();
        assert!(matches!(reply, Reply::Ok(_)), "{reply:?}");
    }
}

/// How often a process has posted this message.
pub fn count(process: &Running, message: &str) -> usize {
    process.printed().matches(message).count()
}

/// Waits until this holds of a process.
pub fn wait(process: &mut Running, what: &str, holds: impl Fn(&Running) -> bool) {
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
pub fn end(mut process: Running) -> Finished {
    process.renew();
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
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    entries
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => vec![entry.path()],
        })
        .collect()
}

/// How many of these pieces stand in a file.
pub fn pieces_in(path: &Path, pieces: &HashSet<&[u8]>) -> usize {
    let bytes = fs::read(path).unwrap();
    bytes.windows(16).filter(|window| pieces.contains(window)).count()
}
