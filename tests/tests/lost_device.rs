//! A phone is stolen: from the backup before it to the new phone in the room, by the commands that README prints, each
//! endpoint a process of its own. Whoever has the phone, or a copy of all that lies on it, is in the room until its
//! certificate is denied, and not after that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::process::{Finished, Running, Sandbox};
use gst_e2ee_tests::readme::{readme_section, shell};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::net::UdpSocket;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Anna, Ben and a thief, each with a folder of what lies on their device, and one delivery.
struct Clinic {
    sandbox: Sandbox,
    /// UDP ports to which Anna sends: Ben's and the thief's.
    ports: [u16; 2],
    room: Vec<String>,
    section: Vec<String>,
    /// Those of the section that were taken so far.
    taken: RefCell<BTreeSet<String>>,
}

/// A running endpoint: the process, its control socket, and the picture that it writes.
struct Endpoint {
    running: Running,
    socket: PathBuf,
    picture: PathBuf,
}

impl Clinic {
    fn new() -> Self {
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let clinic = Self {
            sandbox: Sandbox::new(),
            ports: sockets.map(|socket| socket.local_addr().unwrap().port()),
            room: readme_section("A room"),
            section: readme_section("A lost device"),
            taken: RefCell::default(),
        };
        for folder in ["delivery", "thief"] {
            let folder = clinic.sandbox.path(folder);
            DirBuilder::new().mode(0o700).create(folder).unwrap();
        }
        for words in [
            ["ca new", ""],
            ["identity new", "--id anna"],
            ["identity new", "--id ben"],
        ] {
            clinic.run(&one(&clinic.room, &words)).expect_success();
        }
        clinic
    }

    /// A command in a folder of the sandbox, on the device whose state lies in `state`.
    fn command(&self, command: &str, folder: &str, state: &str) -> Command {
        let mut shell = shell(&self.sandbox, command);
        shell
            .current_dir(self.sandbox.path(folder))
            .env("XDG_STATE_HOME", self.sandbox.path(state))
            .env("XDG_RUNTIME_DIR", self.sandbox.path("delivery"));
        shell
    }

    fn run(&self, command: &str) -> Finished {
        self.sandbox
            .run("command", &mut self.command(command, ".", "state"))
    }

    /// The one command of README's section on lost devices with these words.
    fn lost(&self, words: &[&str]) -> String {
        let command = one(&self.section, words);
        self.taken.borrow_mut().insert(command.clone());
        command
    }

    /// Runs it, which succeeds; gives what it prints.
    fn walk(&self, words: &[&str]) -> String {
        self.run(&self.lost(words)).expect_success().printed
    }

    /// Anna, who sends to both.
    fn anna(&self) -> Endpoint {
        let clients = self.ports.map(|port| format!("127.0.0.1:{port}")).join(",");
        let command = one(&self.room, &["create=true"]);
        let sink = "udpsink host=127.0.0.1 port=5010";
        assert!(command.contains(sink), "{command}");
        let command = command.replace(sink, &format!("multiudpsink clients={clients}"));
        let running = self
            .sandbox
            .start("anna", &mut self.command(&command, ".", "anna-state"));
        self.endpoint(running, ".", "anna")
    }

    /// A receiver by a command of README, in the folder of the one who has the device.
    fn receiver(&self, name: &str, command: &str, port: u16, folder: &str, state: &str) -> Endpoint {
        assert!(command.contains("port=5010"), "{command}");
        let command = command.replace("port=5010", &format!("port={port}"));
        let running = self
            .sandbox
            .start(name, &mut self.command(&command, folder, state));
        let (_, socket) = command.split_once("control-socket=").unwrap();
        let (device, _) = socket.split_once('/').unwrap();
        self.endpoint(running, folder, device)
    }

    fn endpoint(&self, running: Running, folder: &str, device: &str) -> Endpoint {
        let folder = self.sandbox.path(folder);
        Endpoint {
            running,
            socket: folder.join(device).join("control"),
            picture: folder.join("picture.png"),
        }
    }

    fn ben(&self) -> Endpoint {
        let command = one(&self.room, &["gst-launch-1.0", "control-socket=ben/control"]);
        self.receiver("ben", &command, self.ports[0], ".", "ben-state")
    }

    /// Copies all that lies on Ben's phone to another machine.
    fn steal(&self) {
        for (from, to) in [("ben", "thief/ben"), ("ben-state", "thief-state")] {
            let [from, to] = [from, to].map(|name| self.sandbox.path(name));
            let copied = Command::new("cp").arg("-a").args([from, to]).status();
            assert!(copied.unwrap().success());
        }
        // Of a process that was killed.
        let _ = fs::remove_file(self.sandbox.path("thief/ben/control"));
    }

    /// The thief's machine, with the copied state or with none.
    fn thief(&self, name: &str, state: &str) -> Endpoint {
        let command = one(&self.room, &["gst-launch-1.0", "control-socket=ben/control"]);
        self.receiver(name, &command, self.ports[1], "thief", state)
    }

    fn status(&self, socket: &Path) -> Option<Value> {
        let asked = ["room", "status", "--json", "--socket"];
        let mut command = self.sandbox.command("gst-mls");
        let output = command.args(asked).arg(socket).output().unwrap();
        let found = output.status.success();
        found.then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits until the endpoint's status is so.
    fn until(&self, endpoint: &mut Endpoint, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let Endpoint { running, socket, .. } = endpoint;
        let mut seen = None;
        let came = running.wait_for(|| {
            seen = self.status(socket);
            seen.as_ref().is_some_and(&so)
        });
        assert!(came, "it ended before it was {what}: {}", running.printed());
        seen.unwrap()
    }

    /// Waits until the two are ready in one epoch, and nobody else is there; gives what Anna sees.
    fn agree(&self, anna: &mut Endpoint, other: &Endpoint) -> Value {
        self.until(anna, "in one epoch with the other", |anna| {
            let other = self.status(&other.socket);
            other.is_some_and(|other| {
                let ready = |status: &Value| status["state"] == "ready" && members(status).len() == 2;
                ready(anna) && ready(&other) && anna["epoch_code"] == other["epoch_code"]
            })
        })
    }

    /// Starts somebody whom Anna, the only one who could let it in, must refuse for this reason, and waits until she
    /// did, and until frames arrived that it has no key for.
    fn refused(&self, anna: &mut Endpoint, reason: &str, start: impl FnOnce() -> Endpoint) -> Endpoint {
        let refusals = |printed: &str| {
            // gst-launch-1.0 prints a backslash before each blank and bracket.
            let printed = printed.replace('\\', "");
            let refused = |line: &&str| line.contains("mls-refused") && line.contains(reason);
            printed.lines().filter(refused).count()
        };
        let anna = &mut anna.running;
        let before = refusals(&anna.printed());
        let mut outside = start();
        let came = anna.wait_for_print(|printed| refusals(printed) > before);
        assert!(came, "{}", anna.printed());
        self.blind(&mut outside);
        outside
    }

    /// Waits until it has frames that it cannot open; it has opened none.
    fn blind(&self, outside: &mut Endpoint) {
        let Endpoint {
            running,
            socket,
            picture,
        } = outside;
        let came = running.wait_for_print(|printed| printed.contains("sframe-key-missing"));
        assert!(came, "{}", running.printed());
        assert_ne!(self.status(socket).unwrap()["state"], "ready");
        assert!(!picture.exists());
    }
}

/// A section's one command with these words.
fn one(section: &[String], words: &[&str]) -> String {
    let found: Vec<_> = section
        .iter()
        .filter(|command| words.iter().all(|word| command.contains(word)))
        .collect();
    let [command] = found[..] else {
        panic!("commands with {words:?}: {found:#?}");
    };
    command.clone()
}

fn members(status: &Value) -> Vec<(String, String)> {
    let text = |member: &Value, field: &str| member[field].as_str().unwrap().to_owned();
    let members = status["members"].as_array().unwrap().iter();
    members
        .map(|member| (text(member, "id"), text(member, "fingerprint")))
        .collect()
}

/// Whose fingerprint a member's is in the room.
fn fingerprint_of(status: &Value, id: &str) -> String {
    let found = members(status).into_iter().find(|(member, _)| member == id);
    found.unwrap().1
}

/// Waits for a whole picture that was written after this call.
fn sees(endpoint: &mut Endpoint) {
    let Endpoint { running, picture, .. } = endpoint;
    let _ = fs::remove_file(&*picture);
    let whole = || fs::read(&*picture).is_ok_and(|bytes| bytes.ends_with(b"IEND\xae\x42\x60\x82"));
    assert!(running.wait_for(whole), "{}", running.printed());
}

/// Power off: it says goodbye to nobody. Its picture goes, so that the next one is another one's.
fn cut(endpoint: Endpoint) {
    endpoint.running.kill();
    let _ = fs::remove_file(endpoint.picture);
}

/// README's walk: saved, stolen while it is in the room, removed, restored; the thief tries at every point of it.
#[test]
fn a_stolen_phone_is_removed_and_its_owner_comes_back_on_a_new_one() {
    let clinic = Clinic::new();
    let mut anna = clinic.anna();
    let mut ben = clinic.ben();
    sees(&mut ben);
    let before = clinic.agree(&mut anna, &ben);
    for words in [["age-keygen", "-o"], ["age-keygen", "-y"]] {
        clinic.walk(&words);
    }
    let saved = clinic.walk(&["gst-mls backup"]);
    let old = fingerprint_of(&before, "ben");
    assert!(saved.contains(&old) && saved.contains("no key in it"), "{saved}");
    assert_eq!(mode(&clinic.sandbox.path("ben.age")), 0o600);
    let again = clinic.run(&clinic.lost(&["gst-mls backup"]));
    again.expect_refusal(&["ben.age exists already", "--force"]);

    // Whoever has the phone is Ben, as long as nobody knows: the control for everything below.
    cut(ben);
    clinic.steal();
    let mut thief = clinic.thief("thief", "thief-state");
    sees(&mut thief);
    clinic.agree(&mut anna, &thief);

    clinic.walk(&["gst-mls room remove"]);
    let alone = clinic.until(&mut anna, "alone", |status| members(status).len() == 1);
    assert_eq!(alone["policy"]["deny"], serde_json::json!([old]));
    let evicted = clinic.until(&mut thief, "evicted", |status| status["state"] == "evicted");
    assert_ne!(evicted["epoch_code"], alone["epoch_code"]);
    cut(thief);
    // Started again, with the state that it has or as a new one, it asks to be let in.
    let denied = format!("{old}) is denied");
    let again = || clinic.thief("thief-again", "thief-state");
    cut(clinic.refused(&mut anna, &denied, again));
    let anew = || clinic.thief("thief-anew", "thief-new-state");
    let thief = clinic.refused(&mut anna, &denied, anew);

    let told = clinic.walk(&["gst-mls restore"]);
    for expected in [
        old.as_str(),
        "room=visit-42",
        "delivery=sqlite:",
        "authority Clinic",
    ] {
        assert!(told.contains(expected), "{expected} is not in: {told}");
    }
    assert_eq!(mode(&clinic.sandbox.path("ben-new/key.pem")), 0o600);
    clinic
        .run(&clinic.lost(&["gst-mls restore"]))
        .expect_refusal(&["exists already"]);
    // It is denied already: nothing is left to be done, and nothing goes wrong.
    clinic
        .run(
            &clinic
                .lost(&["also_deny=FINGERPRINT"])
                .replace("FINGERPRINT", &old),
        )
        .expect_success();
    clinic.walk(&["identity issue"]);
    let command = clinic.lost(&["gst-launch-1.0"]);
    let mut new = clinic.receiver("ben-new", &command, clinic.ports[0], ".", "ben-new-state");
    sees(&mut new);
    let restored = clinic.agree(&mut anna, &new);
    assert_ne!(fingerprint_of(&restored, "ben"), old);
    let codes = clinic.walk(&["room codes"]);
    assert!(
        codes.contains(restored["epoch_code"].as_str().unwrap()),
        "{codes}"
    );

    // The thief is still outside, and stays there when it tries again beside the new phone.
    assert!(!thief.picture.exists());
    cut(thief);
    let anew = || clinic.thief("thief-beside", "thief-other-state");
    let thief = clinic.refused(&mut anna, &denied, anew);
    let after = clinic.agree(&mut anna, &new);
    assert_eq!(members(&after), members(&restored));
    sees(&mut new);
    assert!(!thief.picture.exists());

    let left: Vec<_> = clinic
        .section
        .iter()
        .filter(|command| !clinic.taken.borrow().contains(*command))
        .collect();
    assert!(
        left.is_empty(),
        "README's commands that were not tried: {left:#?}"
    );
}

/// The phone was switched off when it was lost: nobody can remove it, and it is denied all the same.
#[test]
fn a_phone_that_is_lost_outside_of_the_room_is_denied_by_its_fingerprint() {
    let clinic = Clinic::new();
    let mut anna = clinic.anna();
    let mut ben = clinic.ben();
    sees(&mut ben);
    let old = fingerprint_of(&clinic.agree(&mut anna, &ben), "ben");
    ben.running.interrupt();
    ben.running.finish().expect_success();
    let _ = fs::remove_file(ben.picture);
    clinic.until(&mut anna, "alone", |status| members(status).len() == 1);
    clinic.steal();

    let remove = clinic.lost(&["gst-mls room remove"]);
    clinic
        .run(&remove)
        .expect_refusal(&["nobody in the room", "also_deny=FINGERPRINT"]);
    let deny = clinic
        .lost(&["also_deny=FINGERPRINT"])
        .replace("FINGERPRINT", &old);
    clinic.run(&deny).expect_success();
    let denied = format!("{old}) is denied");
    for (name, state) in [("thief", "thief-state"), ("thief-anew", "thief-new-state")] {
        cut(clinic.refused(&mut anna, &denied, || clinic.thief(name, state)));
    }
    clinic.until(&mut anna, "alone", |status| members(status).len() == 1);
}

/// A backup opens nothing: not with its private key, not with the lost phone's certificate, not with an authority of
/// one's own.
#[test]
fn a_backup_lets_nobody_in_by_itself() {
    let clinic = Clinic::new();
    let mut anna = clinic.anna();
    let mut ben = clinic.ben();
    sees(&mut ben);
    clinic.agree(&mut anna, &ben);
    for words in [["age-keygen", "-o"], ["age-keygen", "-y"], ["gst-mls backup", ""]] {
        clinic.walk(&words);
    }
    ben.running.interrupt();
    ben.running.finish().expect_success();
    let _ = fs::remove_file(ben.picture);

    // Debian's age reads it, and what it makes of that is restored.
    let run = |command: &str| clinic.run(command).expect_success().printed;
    let json = run("age -d -i recovery.txt ben.age");
    let enrolment: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(enrolment["identity"]["subject"], "ben");
    assert!(enrolment["policy"]["admit"].is_array());
    let key = fs::read_to_string(clinic.sandbox.path("ben/key.pem")).unwrap();
    let state_key = fs::read_to_string(clinic.sandbox.path("ben-state/gst-e2ee/mls/state-key")).unwrap();
    for secret in [key.lines().nth(1).unwrap(), state_key.trim(), "PRIVATE"] {
        assert!(!json.contains(secret));
    }
    run("age -d -i recovery.txt ben.age | age -r $(cat recipients) -o thief/ben.age");
    run("gst-mls restore --identity recovery.txt thief/ben.age --out thief/ben");
    let ca = clinic.sandbox.path("thief/ben/ca.pem");
    assert_eq!(
        fs::read(ca).unwrap(),
        fs::read(clinic.sandbox.path("ben/ca.pem")).unwrap()
    );

    let launch = one(&clinic.room, &["gst-launch-1.0", "control-socket=ben/control"]);
    let start = |launch: &str| {
        let mut command = clinic.command(launch, "thief", "thief-state");
        clinic.sandbox.run("thief", &mut command)
    };
    // With the certificate that everybody could see.
    run("cp ben/cert.pem thief/ben/cert.pem");
    start(&launch).expect_refusal(&["another private key"]);
    // With one of his own making.
    run("cd thief && gst-mls ca new --name Clinic --out ca");
    run(
        "cd thief && gst-mls identity issue --ca ca --role participant --id ben --csr ben/request.pem --out made.pem",
    );
    start(&launch.replace("ben/cert.pem", "made.pem")).expect_refusal(&["does not hold against ca-file"]);
    // And with an authority of his own as well.
    let own = launch
        .replace("ben/cert.pem", "made.pem")
        .replace("ben/ca.pem", "ca/ca.pem");
    let thief = || clinic.receiver("thief-own", &own, clinic.ports[1], "thief", "thief-state");
    clinic.refused(
        &mut anna,
        "does not end in a certificate authority that is trusted here",
        thief,
    );
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
