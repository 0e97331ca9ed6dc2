//! The machines, and what happens on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use age::x25519::Identity;
use gstcompliance::age_file::parse_identities;
use gstcompliance::audit::{Event, Item, Log, Reader};
use gstcompliance::breakglass::custodian::FileKey;
use gstcompliance::bundle::{Escrow, take_next};
use gstcompliance::recording::{Claim, Medium, RealDisk, Recording, Segment, Start, Track};

/// Three custodians, two of whom are needed.
pub const PEOPLE: [&str; 3] = ["anna", "ben", "carla"];

/// The ids under which they would ask themselves.
pub fn person(name: &str) -> String {
    format!("p-{name}")
}

/// What a call printed, and what it ended with.
pub struct Said {
    pub out: String,
    pub error: String,
    pub code: i32,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap(),
        }
    }

    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{}", self.error);
        self.out
    }

    /// It was refused, in these words.
    #[track_caller]
    pub fn refused(self, expected: &[&str]) -> String {
        assert_eq!(self.code, 1, "{} {}", self.out, self.error);
        for words in expected {
            assert!(self.error.contains(words), "{words:?} is not in {}", self.error);
        }
        self.error
    }
}

/// All the machines.
pub struct Place(tempfile::TempDir);

impl Place {
    /// Custodians with keys of their own, six bundles for them, an audit log, a requester's one-time key.
    pub fn new() -> Self {
        let place = Self::empty();
        place.make_custodians(&PEOPLE.map(|name| place.line(name)));
        place
    }

    /// The same before there are custodians.
    pub fn empty() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for machine in ["dealer", "station", "requester"].iter().chain(&PEOPLE) {
            fs::create_dir(place.path(machine)).unwrap();
        }
        for machine in ["requester"].iter().chain(&PEOPLE) {
            keygen(&place.path(machine).join("key.txt"));
        }
        fs::create_dir(place.path("station/recordings")).unwrap();
        Log::open(&place.path("station/log")).unwrap().close().unwrap();
        place
    }

    /// A custodian's line.
    pub fn line(&self, name: &str) -> String {
        let words = [
            "keys",
            "custodian",
            "--identity",
            "key.txt",
            "--person",
            &person(name),
        ];
        self.call(name, &words).good()
    }

    /// These are the custodians, and bundles are made for them.
    pub fn make_custodians(&self, lines: &[String; 3]) {
        let escrow = format!("2 of 3\n{}", lines.concat());
        for machine in ["dealer", "station"].iter().chain(&PEOPLE) {
            fs::write(self.path(machine).join("custodians"), &escrow).unwrap();
        }
        let prepare =
            "keys prepare --escrow custodians --count 6 --dealer-key dealer.key --out ../station/keys";
        self.call("dealer", &prepare.split(' ').collect::<Vec<_>>())
            .good();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, machine: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gst-compliance"));
        command.args(words).current_dir(self.path(machine));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Calls `gst-compliance` on a machine.
    pub fn call(&self, machine: &str, words: &[&str]) -> Said {
        Said::of(self.command(machine, words).output().unwrap())
    }

    /// The same in an environment.
    pub fn call_with(&self, environment: &[(&str, &str)], machine: &str, words: &[&str]) -> Said {
        let mut command = self.command(machine, words);
        command.envs(environment.iter().copied());
        Said::of(command.output().unwrap())
    }

    /// The same where the clock says something else.
    pub fn call_at(&self, clock: &str, machine: &str, words: &[&str]) -> Said {
        let program = env!("CARGO_BIN_EXE_gst-compliance");
        let mut faketime = Command::new("faketime");
        faketime.args(["-f", clock, program]).args(words);
        faketime.current_dir(self.path(machine)).stdin(Stdio::null());
        Said::of(
            faketime
                .output()
                .expect("faketime is not installed: scripts/setup test"),
        )
    }

    /// Several calls at once.
    pub fn call_together(&self, machine: &str, calls: &[Vec<&str>]) -> Vec<Said> {
        let running: Vec<_> = calls
            .iter()
            .map(|words| self.command(machine, words).spawn().unwrap())
            .collect();
        running
            .into_iter()
            .map(|child| Said::of(child.wait_with_output().unwrap()))
            .collect()
    }

    /// A recording of sound and pictures that has ended; its folder, as the station calls it.
    pub fn record(&self) -> String {
        let log = Log::open_existing(&self.path("station/log")).unwrap();
        let bundle = take_next(&self.path("station/keys"), None, &|_| true).unwrap();
        let start = Start {
            time: now(),
            room: Some("room-7".to_owned()),
            recorder: None,
            policy: None,
            claim: Claim::Unattested,
            consent: None,
            retention_days: None,
            attest: None,
        };
        let location = self.path("station/recordings");
        let mut recording =
            Recording::create(&location, &bundle, start, log.signer(), Arc::new(RealDisk)).unwrap();
        for medium in [Medium::Audio, Medium::Video] {
            let track = recording
                .open_track(Track {
                    medium,
                    caps: "audio/x-opus".to_owned(),
                    leaf: None,
                    sender: "p-42".to_owned(),
                })
                .unwrap();
            for second in 0..3 {
                recording.append(track, segment(medium, second)).unwrap();
            }
        }
        recording.end(now(), "eos").unwrap();
        format!("recordings/{}", recording.id())
    }

    /// The public key that the requester made for one request.
    pub fn recipient(&self) -> String {
        public(&self.path("requester/key.txt"))
    }

    /// What a request needs, and what is said of it otherwise.
    pub fn request_with(&self, recording: &str, name: &str, more: &[(&str, &str)]) -> Said {
        let (key, out, recipient) = (format!("{name}.key"), format!("{name}.json"), self.recipient());
        let mut options = vec![
            ("--audit-log", "log"),
            ("--requester", "dr-17"),
            ("--reason", "complaint of 3 May"),
            ("--ticket", "C-2291"),
            ("--for", &recipient),
            ("--expires", "2h"),
            ("--station-key", &key),
            ("--out", &out),
        ];
        for option in more {
            match options.iter_mut().find(|known| known.0 == option.0) {
                Some(known) => *known = *option,
                None => options.push(*option),
            }
        }
        let words: Vec<&str> = ["request", recording]
            .into_iter()
            .chain(options.into_iter().flat_map(|(name, value)| [name, value]))
            .collect();
        self.call("station", &words)
    }

    /// Asks; the request is `<name>.json`, the station's key `<name>.key`. It is mailed to all custodians.
    pub fn request(&self, recording: &str, name: &str) {
        self.request_with(recording, name, &[]).good();
        self.mail(name);
    }

    /// The request goes to all custodians.
    pub fn mail(&self, name: &str) {
        for custodian in PEOPLE {
            let file = format!("{name}.json");
            fs::copy(self.path("station").join(&file), self.path(custodian).join(&file)).unwrap();
        }
    }

    pub fn log_key(&self) -> String {
        Log::open_existing(&self.path("station/log"))
            .unwrap()
            .key()
            .to_string()
    }

    /// A custodian approves; the file is `<name>-<who>.json` on the station.
    pub fn approve(&self, name: &str, who: &str) -> String {
        let out = format!("{name}-{who}.json");
        self.approve_to(name, who, &out).good();
        let file = self.path("station").join(&out);
        fs::copy(self.path(who).join(&out), file).unwrap();
        out
    }

    /// A custodian calls `approve`.
    pub fn approve_to(&self, name: &str, who: &str, out: &str) -> Said {
        let (request, key) = (format!("{name}.json"), self.log_key());
        let words = approve_words(&request, &key, out);
        self.call(who, &words)
    }

    /// A custodian says no; the file is `<name>-<who>-no.json` on the station.
    pub fn deny(&self, name: &str, who: &str, reason: &str) -> String {
        let (request, key, out) = (
            format!("{name}.json"),
            self.log_key(),
            format!("{name}-{who}-no.json"),
        );
        let mut words = approve_words(&request, &key, &out);
        words[0] = "deny";
        words.extend(["--reason", reason]);
        self.call(who, &words).good();
        fs::copy(self.path(who).join(&out), self.path("station").join(&out)).unwrap();
        out
    }

    /// The words of opening by approvals with the station's key `<name>.key`, to the folder `<name>-out`.
    pub fn open_words(recording: &str, name: &str, files: &[&str]) -> Vec<String> {
        let mut words = vec!["open".to_owned(), recording.to_owned(), "--approvals".to_owned()];
        words.extend(files.iter().map(|file| (*file).to_owned()));
        let options =
            format!("--station-key {name}.key --custodians custodians --audit-log log --out {name}-out");
        words.extend(options.split(' ').map(str::to_owned));
        words
    }

    pub fn open(&self, recording: &str, name: &str, files: &[&str]) -> Said {
        let words = Self::open_words(recording, name, files);
        self.call("station", &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What the log has about accesses, in order.
    pub fn log(&self) -> Vec<Event> {
        log_of(&self.path("station/log"))
    }

    /// Why the log says that something was denied: the words and who said so.
    pub fn denied(&self) -> Vec<(String, String)> {
        let events = self.log().into_iter();
        events
            .filter_map(|event| match event {
                Event::AccessDenied { by, reason, .. } => Some((by.to_string(), reason.to_string())),
                _ => None,
            })
            .collect()
    }

    /// The log has a refusal of the station's that begins with this nick, and nothing was opened.
    #[track_caller]
    pub fn assert_refused(&self, nick: &str) {
        let denied = self.denied();
        let begin = format!("{nick}: ");
        let is_there = |(by, reason): &(String, String)| by == "station" && reason.starts_with(&begin);
        assert!(denied.iter().any(is_there), "{nick}: {denied:?}");
        let opened = |event: &Event| matches!(event, Event::AccessOpened { .. });
        assert!(!self.log().iter().any(opened), "something was opened");
    }

    /// A custodian's key, for what their program would not do.
    pub fn key(&self, who: &str) -> FileKey {
        FileKey::read(&self.path(who).join("key.txt")).unwrap()
    }

    pub fn fingerprint(&self, who: &str) -> String {
        let escrow = Escrow::read(&self.path("station/custodians")).unwrap();
        let at = PEOPLE.iter().position(|name| *name == who).unwrap();
        escrow.custodians()[at].fingerprint().to_string()
    }
}

fn approve_words<'a>(request: &'a str, key: &'a str, out: &'a str) -> Vec<&'a str> {
    let mut words = vec!["approve", request, "--identity", "key.txt", "--log", key];
    words.extend(["--custodians", "custodians", "--out", out]);
    words
}

pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis().try_into().unwrap()
}

/// What a member holds.
pub fn content(medium: Medium, second: u64) -> Vec<u8> {
    format!("{medium} {second}: who reads this has opened it; ")
        .repeat(40)
        .into_bytes()
}

fn segment(medium: Medium, second: u64) -> Segment {
    Segment {
        bytes: content(medium, second).into(),
        from_ns: second * 1_000_000_000,
        to_ns: (second + 1) * 1_000_000_000,
        epoch: (1, 1),
        leaf: None,
        frames: 25,
        keyframes: None,
    }
}

/// What a log has about accesses and drills, in order.
pub fn log_of(path: &Path) -> Vec<Event> {
    let items = Reader::open(path).unwrap();
    let events = items.map(|item| match item.unwrap() {
        Item::Entry { entry, .. } => entry.unwrap().event,
        Item::Damage(damage) => panic!("{damage}"),
    });
    events
        .filter(|event| event.kind().starts_with("access-") || event.kind() == "drill")
        .collect()
}

/// The kinds of these events.
pub fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::kind).collect()
}

fn keygen(path: &Path) {
    let output = Command::new("age-keygen").arg("-o").arg(path).output();
    let output = output.expect("age is not installed: scripts/setup test");
    assert!(output.status.success(), "{output:?}");
}

/// The public half of an identity file.
pub fn public(path: &Path) -> String {
    let output = Command::new("age-keygen").arg("-y").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The identity in a file.
pub fn identity(path: &Path) -> Identity {
    parse_identities(&fs::read(path).unwrap()).unwrap().remove(0)
}

/// Opens an age file with the plain age tool.
pub fn age(identity: &Path, file: &Path) -> Option<Vec<u8>> {
    let mut age = Command::new("age");
    let output = age.arg("-d").arg("-i").arg(identity).arg(file).output().unwrap();
    output.status.success().then_some(output.stdout)
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => {
                fs::copy(&path, &to).unwrap();
            }
        }
    }
}
