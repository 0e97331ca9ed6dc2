//! `gst-mls room` and `gst-mls posture` as somebody at a second shell uses them: the built command against a real
//! control socket.

#![allow(clippy::unwrap_used, reason = "clippy sees helpers of tests as ordinary code")]

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use gstmls::codes::{IdentityKey as CodeKey, epoch_code, pair_code};
use gstmls::control::{Codes, ControlServer, PairCode, Query, Reply, Request};
use gstmls::identity::issue::{Authority, Subject, Validity, certificate_pem};
use gstmls::identity::{Fingerprint, Identity, IdentityKey, OwnIdentity, Role};
use gstmls::policy::{Admission, Claim, Policy, Right, Rights, RoomTag, Who};
use gstmls::posture::{Options, Signed};
use gstmls::room::{Command as Wish, Counters, Member, State, Status};
use serde_json::{Value, json};

/// A user that is not this one.
const NOBODY: u32 = 65534;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn gst_mls(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gst-mls"));
    command.args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Standard output of a command that succeeds.
fn succeed(arguments: &[&str]) -> String {
    let output = gst_mls(arguments).output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
    assert_eq!(error, "");
    text(&output.stdout)
}

/// Standard error of a command that ends with this code and prints nothing else.
fn fail(arguments: &[&str], code: i32) -> String {
    failed(gst_mls(arguments).output().unwrap(), code)
}

fn failed(output: Output, code: i32) -> String {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(text(&output.stdout), "", "{error}");
    error
}

/// A keyring's side of the socket, with a made-up room of three.
struct Keyring {
    folder: tempfile::TempDir,
    heard: Arc<Mutex<Vec<Request>>>,
    server: Option<ControlServer>,
    recorder: Identity,
}

impl Keyring {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let validity = Validity::days(now(), 30);
        let ca = Authority::root("Clinic", IdentityKey::from_seed(&[1; 32]), validity).unwrap();
        let pem = certificate_pem(ca.root_certificate()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        let identity = |id: &str, role: Role, seed: u8| {
            let key = IdentityKey::from_seed(&[seed; 32]);
            let subject = Subject {
                id: id.to_owned(),
                operator: Some("Ward 3".to_owned()),
                roles: vec![role],
            };
            let (chain, _) = ca.issue(key.public(), &subject, validity).unwrap();
            OwnIdentity::new(chain, key, &[ca.root_certificate().to_vec()], now()).unwrap()
        };
        let own = identity("alice", Role::Participant, 2);
        let bob = identity("bob", Role::Participant, 3).identity().clone();
        let recorder = identity("rec", Role::Recorder, 4).identity().clone();
        let status = status(&ca, &[own.identity(), &bob, &recorder]);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (hears, others) = (heard.clone(), vec![bob, recorder.clone()]);
        let handler = move |request: Request| {
            hears.lock().unwrap().push(request.clone());
            match request {
                Request::Ask(Query::Status) => Reply::answer(&status),
                Request::Ask(Query::Codes { member }) => {
                    let pair = member.map(|member| {
                        let with = others
                            .iter()
                            .find(|other| other.subject == member || other.fingerprint.to_string() == member);
                        with.map(|with| PairCode {
                            member: with.subject.clone(),
                            fingerprint: with.fingerprint.to_string(),
                            code: pair_code(&CodeKey::from(own.identity()), &CodeKey::from(with)),
                        })
                    });
                    match pair {
                        Some(None) => Reply::error("there is no such member"),
                        pair => Reply::answer(&Codes {
                            epoch: status.epoch,
                            epoch_code: status.epoch_code.clone(),
                            pair: pair.flatten(),
                        }),
                    }
                }
                Request::Ask(Query::Posture { nonce }) => {
                    let options = Options {
                        now: now(),
                        lifetime: 600,
                        nonce,
                        mls_suite: 1,
                    };
                    match Signed::new(&status, &own, &options) {
                        Ok(signed) => Reply::answer(&signed),
                        Err(error) => Reply::error(error),
                    }
                }
                Request::Ask(Query::Delivery) => Reply::answer(&"app"),
                Request::Room(Wish::Remove { member }) if member == "nobody" => {
                    Reply::error("there is no member nobody\u{1b}[2J")
                }
                Request::Room(Wish::Rekey) => Reply::Ok(json!("epoch 13")),
                Request::Room(_) => Reply::done(),
            }
        };
        let path = folder.path().join("room.sock");
        let server = ControlServer::start(&path, Arc::new(handler)).unwrap();
        Self {
            folder,
            heard,
            server: Some(server),
            recorder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn socket(&self) -> String {
        self.path("room.sock").to_str().unwrap().to_owned()
    }

    /// `gst-mls room … --socket …`
    fn room(&self, arguments: &[&str]) -> Vec<String> {
        let mut all = vec!["room".to_owned()];
        all.extend(arguments.iter().map(|a| (*a).to_owned()));
        all.extend(["--socket".to_owned(), self.socket()]);
        all
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let all = self.room(arguments);
        succeed(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn fail(&self, arguments: &[&str], code: i32) -> String {
        let all = self.room(arguments);
        fail(&all.iter().map(String::as_str).collect::<Vec<_>>(), code)
    }

    fn last_heard(&self) -> Request {
        self.heard.lock().unwrap().last().unwrap().clone()
    }
}

fn status(ca: &Authority, members: &[&Identity]) -> Status {
    let admission = |role| Admission {
        role,
        who: Who::Root {
            root: ca.fingerprint(),
            subject: None,
        },
    };
    let mut policy = Policy {
        version: 1,
        room: RoomTag::new("consult", [7; 16]),
        claim: Claim::Recorded,
        admit: vec![admission(Role::Participant), admission(Role::Recorder)],
        deny: vec![],
        rights: Rights {
            add: Right::Participants,
            remove: Right::Participants,
            recording: Right::Participants,
            policy: Right::Participants,
        },
        consent: Some("ab".repeat(32)),
        retention_days: Some(365),
        recipients: vec![Fingerprint([0xcc; 32])],
        escrow: None,
        recording: true,
        roots: vec![ca.fingerprint()],
        epoch_bits: 4,
        sframe_suite: 4,
    };
    policy.normalise();
    policy.validate().unwrap();
    Status {
        state: State::Ready,
        room: "consult".to_owned(),
        group_id: "0f".repeat(16),
        epoch: 12,
        epoch_code: epoch_code(&[5; 32]),
        members: members
            .iter()
            .zip(0..)
            .map(|(identity, leaf)| Member {
                leaf,
                id: identity.subject.clone(),
                operator: identity.operator.clone(),
                roles: identity.roles.clone(),
                fingerprint: identity.fingerprint.to_string(),
                own: leaf == 0,
                verified: false,
                name: Some("Dr Meyer".into()),
            })
            .collect(),
        policy_digest: hex::encode(policy.digest()),
        policy: Some(policy),
        accept: Claim::Recorded,
        accepted: true,
        verified: false,
        recording_since: Some(1_800_000_000),
        counters: Counters::default(),
    }
}

#[test]
fn status_is_a_table_for_people_and_json_for_programs() {
    let keyring = Keyring::new();
    let table = keyring.succeed(&["status"]);
    for expected in [
        "room       consult",
        "state      ready",
        &format!("epoch      12, code {}", epoch_code(&[5; 32])),
        "claim      recorded (this endpoint accepts recorded: accepted)",
        "recording  ON since 2027-01-15T08:00:00Z",
        "3 members",
        "  0     alice (this endpoint)  participant  Ward 3",
        "  2     rec                    recorder     Ward 3",
        &keyring.recorder.fingerprint.to_string(),
        &format!("recipient  {}", "cc".repeat(32)),
    ] {
        assert!(table.contains(expected), "{expected}\n{table}");
    }
    let read: Status = serde_json::from_str(&keyring.succeed(&["status", "--json"])).unwrap();
    assert_eq!(read.members.len(), 3);
}

#[test]
fn every_command_reaches_the_room() {
    let keyring = Keyring::new();
    let remove = |member: &str| {
        Request::Room(Wish::Remove {
            member: member.to_owned(),
        })
    };
    for (arguments, said, request) in [
        (
            &["set-recording", "on"][..],
            "done\n",
            Request::Room(Wish::SetRecording { on: true }),
        ),
        (
            &["set-recording", "off"],
            "done\n",
            Request::Room(Wish::SetRecording { on: false }),
        ),
        (&["remove", "rec"], "done\n", remove("rec")),
        (&["rekey"], "epoch 13\n", Request::Room(Wish::Rekey)),
        (&["resync"], "done\n", Request::Room(Wish::Resync)),
    ] {
        assert_eq!(keyring.succeed(arguments), said);
        assert_eq!(keyring.last_heard(), request);
    }
}

#[test]
fn a_policy_is_changed_by_words_by_a_file_and_by_standard_input() {
    let keyring = Keyring::new();
    let change = |claim| {
        let policy = serde_json::from_value(json!({"claim": claim, "retention_days": null})).unwrap();
        Request::Room(Wish::SetPolicy {
            policy: Box::new(policy),
        })
    };
    keyring.succeed(&["set-policy", "claim=strict", "retention_days=null"]);
    assert_eq!(keyring.last_heard(), change("strict"));

    let file = keyring.path("change.json");
    let content = "{\n  \"claim\": \"recorded\",\n  \"retention_days\": null\n}\n";
    std::fs::write(&file, content).unwrap();
    keyring.succeed(&["set-policy", file.to_str().unwrap()]);
    assert_eq!(keyring.last_heard(), change("recorded"));

    let mut child = gst_mls(&["room", "set-policy", "-", "--socket", &keyring.socket()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let content = b"{\"claim\":\"escrow\",\"retention_days\":null}";
    child.stdin.take().unwrap().write_all(content).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(keyring.last_heard(), change("escrow"));
}

#[test]
fn a_refusal_of_the_room_ends_with_1_and_its_reason_without_tricks() {
    let keyring = Keyring::new();
    let error = keyring.fail(&["remove", "nobody"], 1);
    assert_eq!(error, "gst-mls: there is no member nobody?[2J\n");
    assert!(keyring.fail(&["codes", "nobody"], 1).contains("no such member"));
}

#[test]
fn codes_are_shown_for_the_epoch_for_one_member_and_for_all() {
    let keyring = Keyring::new();
    let all = keyring.succeed(&["codes"]);
    let lines: Vec<_> = all.lines().collect();
    assert_eq!(lines[0], format!("epoch 12  {}", epoch_code(&[5; 32])));
    assert!(lines[1].starts_with("  with  bob  ") && lines[2].starts_with("  with  rec  "));
    assert_eq!(lines[1].split_whitespace().count(), 2 + 9);

    let one: Value = serde_json::from_str(&keyring.succeed(&["codes", "rec", "--json"])).unwrap();
    assert_eq!(one["pairs"].as_array().unwrap().len(), 1);
    assert_eq!(
        one["pairs"][0]["fingerprint"],
        keyring.recorder.fingerprint.to_string()
    );
    assert!(lines[2].ends_with(one["pairs"][0]["code"].as_str().unwrap()));
}

#[test]
fn a_wrong_command_line_ends_with_2_and_asks_nobody() {
    let keyring = Keyring::new();
    let socket = keyring.socket();
    for arguments in [
        &[][..],
        &["room"],
        &["room", "status"],
        &["room", "dance", "--socket", &socket],
        &["room", "set-recording", "maybe", "--socket", &socket],
        &["room", "remove", "--socket", &socket],
        &["room", "set-policy", "--socket", &socket],
        &["room", "set-policy", "clam=strict", "--socket", &socket],
        &["room", "set-policy", "claim=strict", "file", "--socket", &socket],
        &["posture", "show"],
        &["posture", "show", "file", "--socket", &socket],
        &["posture", "show", "file", "--nonce", "n"],
        &["posture", "verify", "file"],
    ] {
        let error = fail(arguments, 2);
        assert!(!error.is_empty(), "{arguments:?}");
    }
    assert!(keyring.heard.lock().unwrap().is_empty());
}

#[test]
fn help_names_everything_that_is_needed() {
    let help = succeed(&["--help"]);
    for expected in ["ca", "identity", "fingerprint", "room", "posture"] {
        assert!(help.contains(&format!("\n  {expected} ")), "{expected}\n{help}");
    }
    let help = succeed(&["room", "--help"]);
    for expected in [
        "status",
        "set-recording",
        "set-policy",
        "remove",
        "rekey",
        "resync",
        "codes",
    ] {
        assert!(help.contains(&format!("\n  {expected} ")), "{expected}\n{help}");
        let help = succeed(&["room", expected, "--help"]);
        assert!(help.contains("--socket <PATH>"), "{help}");
    }
    assert!(succeed(&["room", "set-policy", "--help"]).contains("claim=recorded"));
    assert!(succeed(&["posture", "verify", "--help"]).contains("--nonce <NONCE>"));
}

#[test]
fn without_a_keyring_the_command_says_what_to_look_for() {
    let mut keyring = Keyring::new();
    drop(keyring.server.take());
    let error = keyring.fail(&["status"], 1);
    assert!(
        error.contains("no keyring answers at") && error.contains("control-socket="),
        "{error}"
    );
    // A file in the socket's place, and a path that no socket can have.
    std::fs::write(keyring.path("room.sock"), "").unwrap();
    assert!(keyring.fail(&["status"], 1).contains("no keyring answers"));
    let long = format!("/tmp/{}", "x".repeat(200));
    fail(&["room", "status", "--socket", &long], 1);
}

#[test]
fn a_reader_of_the_first_line_only_is_no_error() {
    let keyring = Keyring::new();
    let mut child = gst_mls(&["room", "status", "--socket", &keyring.socket()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(failed(child.wait_with_output().unwrap(), 0), "");
}

#[test]
fn a_report_goes_from_a_running_room_to_somebody_who_was_not_there() {
    let keyring = Keyring::new();
    let [file, ca] = ["posture.json", "ca.pem"].map(|name| keyring.path(name).to_str().unwrap().to_owned());
    let show = |more: &[&str]| {
        let socket = keyring.socket();
        succeed(&[&["posture", "show", "--socket", &socket], more].concat())
    };
    let signed = show(&["--nonce", "n-4711", "--json"]);
    std::fs::write(&file, &signed).unwrap();

    let told = succeed(&["posture", "verify", &file, "--ca", &ca, "--nonce", "n-4711"]);
    assert!(told.starts_with("GENUINE: signed by the endpoint"), "{told}");
    assert!(told.contains("Can servers see the media?  no: "), "{told}");
    let read: Value = serde_json::from_str(&succeed(&[
        "posture", "verify", &file, "--ca", &ca, "--room", "consult", "--json",
    ]))
    .unwrap();
    assert_eq!(read["servers_can_see_media"], json!(false));
    assert_eq!(read["nonce"], "n-4711");

    for shown in [show(&[]), succeed(&["posture", "show", &file])] {
        assert!(shown.starts_with("NOT CHECKED"), "{shown}");
    }

    // By pipe, as somebody far away gets it.
    let mut child = gst_mls(&["posture", "verify", "-", "--ca", &ca])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(signed.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_report_that_is_not_to_be_believed_ends_with_1() {
    let keyring = Keyring::new();
    let [file, ca, other] =
        ["posture.json", "ca.pem", "other"].map(|name| keyring.path(name).to_str().unwrap().to_owned());
    let signed = succeed(&["posture", "show", "--socket", &keyring.socket(), "--json"]);
    succeed(&["ca", "new", "--name", "Clinic", "--out", &other]);
    let other = std::fs::read_dir(&other)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| std::fs::read_to_string(path).is_ok_and(|pem| pem.contains("BEGIN CERTIFICATE")))
        .unwrap();
    let other = other.to_str().unwrap();

    std::fs::write(&file, &signed).unwrap();
    for (arguments, reason) in [
        (&["--ca", &ca, "--nonce", "n"][..], "does not carry the nonce"),
        (&["--ca", &ca, "--room", "another"], "about another room"),
        (&["--ca", other], "not end in a certificate authority"),
        (&["--ca", &file], "holds no certificates"),
    ] {
        let error = fail(&[&["posture", "verify", &file], arguments].concat(), 1);
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let tampered = signed.replace("recorded", "strict");
    for (content, reason) in [
        (tampered.as_str(), "the signature is wrong"),
        ("", "no posture report"),
        ("{\"posture\":\"\u{1b}[2J\"}", "no posture report"),
    ] {
        std::fs::write(&file, content).unwrap();
        let error = fail(&["posture", "verify", &file, "--ca", &ca], 1);
        assert!(error.contains(reason) && !error.contains('\u{1b}'), "{error}");
    }
    assert!(fail(&["posture", "verify", "/missing", "--ca", &ca], 1).contains("cannot be read"));
}

/// Copies a program to where another user may run it.
fn for_everybody(program: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join(program.file_name().unwrap());
    // By another process: a child that another test starts meanwhile would inherit this one's open file, and a file that
    // is open for writing cannot be run.
    let copied = Command::new("install")
        .args(["-m", "755"])
        .arg(program)
        .arg(&copy)
        .status();
    assert!(copied.unwrap().success());
    copy
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

#[test]
fn another_user_is_kept_out_by_the_mode_and_by_its_credentials() {
    if !is_root() {
        eprintln!("not tried: only root can become another user");
        return;
    }
    let keyring = Keyring::new();
    std::fs::set_permissions(keyring.folder.path(), Permissions::from_mode(0o755)).unwrap();
    let program = for_everybody(Path::new(env!("CARGO_BIN_EXE_gst-mls")), keyring.folder.path());
    let ask = || {
        let output = Command::new(&program)
            .args(["room", "status", "--socket", &keyring.socket()])
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap();
        failed(output, 1)
    };
    assert!(ask().contains("this user may not use"));
    std::fs::set_permissions(keyring.socket(), Permissions::from_mode(0o666)).unwrap();
    let error = ask();
    assert!(
        error.contains("only the user of the pipeline and root may ask"),
        "{error}"
    );
    assert!(keyring.heard.lock().unwrap().is_empty());
}

/// Not a test by itself: a process that others run, as another user or with other signals.
#[test]
fn serve_for_another_test() {
    let Some(path) = std::env::var_os("TEST_SOCKET") else {
        return;
    };
    // SAFETY: no handler is installed, the default comes back: what a C program such as gst-launch-1.0 starts with.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let handler = |_| Reply::answer(&"x".repeat(1 << 20));
    let server = ControlServer::start(Path::new(&path), Arc::new(handler)).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    eprintln!("serving");
    // Until the other test closes the pipe.
    let _ = std::io::stdin().read_line(&mut String::new());
    drop(server);
}

/// Starts [`serve_for_another_test`] and waits until it serves.
fn serve(program: &Path, socket: &Path, user: Option<u32>) -> Child {
    let mut command = Command::new(program);
    command
        .args(["--exact", "serve_for_another_test", "--nocapture"])
        .env("TEST_SOCKET", socket)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let mut server = command.spawn().unwrap();
    let mut said = BufReader::new(server.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("serving")));
    server
}

/// Ends it; it must have lived until now.
fn stop(mut server: Child) {
    drop(server.stdin.take());
    let status = server.wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn a_client_that_is_gone_before_its_answer_does_not_end_a_process_that_dies_of_broken_pipes() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("room.sock");
    let server = serve(&std::env::current_exe().unwrap(), &socket, None);
    for _ in 0..50 {
        let mut client = UnixStream::connect(&socket).unwrap();
        client.write_all(b"{\"command\":\"status\"}\n").unwrap();
    }
    let answer = succeed(&["room", "status", "--json", "--socket", socket.to_str().unwrap()]);
    assert_eq!(answer.len(), (1 << 20) + 3);
    stop(server);
}

#[test]
fn a_socket_of_another_user_is_not_believed() {
    if !is_root() {
        eprintln!("not tried: only root can become another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let theirs = folder.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(NOBODY), Some(NOBODY)).unwrap();
    let program = for_everybody(Path::new(env!("CARGO_BIN_EXE_gst-mls")), folder.path());
    let server = for_everybody(&std::env::current_exe().unwrap(), folder.path());
    let socket = theirs.join("room.sock");
    let server = serve(&server, &socket, Some(NOBODY));
    let ask = |user: u32| {
        Command::new(&program)
            .args(["room", "rekey", "--socket", socket.to_str().unwrap()])
            .uid(user)
            .gid(user)
            .output()
            .unwrap()
    };
    // A third user, the owner itself, and root, who may look at everybody's.
    let error = failed(ask(NOBODY - 1), 1);
    assert!(error.contains("belongs to a process of user 65534"), "{error}");
    assert!(ask(NOBODY).status.success());
    assert!(ask(0).status.success());
    stop(server);
}
