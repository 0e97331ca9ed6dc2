//! Real processes on one log. A child is this test binary again, running only [`child`] with a role.

use super::*;
use crate::delivery::sqlite::SqliteDelivery;
use ring::digest;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const ROLE: &str = "GST_E2EE_TEST_ROLE";
const LOG: &str = "GST_E2EE_TEST_LOG";
const COMMITS: usize = 300;

fn open(path: &Path) -> Reader {
    Reader::new(Box::new(SqliteDelivery::open(Some(path), "room").unwrap()))
}

struct Child {
    process: std::process::Child,
    stdin: ChildStdin,
    lines: io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Child {
    fn start(role: &str, path: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "delivery::tests::processes::child", "--nocapture"]);
        command
            .env(ROLE, role)
            .env(LOG, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self {
            process,
            stdin,
            lines,
        }
    }

    /// What it says next.
    fn hear(&mut self) -> String {
        self.lines
            .find_map(|line| Some(line.unwrap().strip_prefix('@')?.to_owned()))
            .unwrap()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        assert_eq!(self.process.wait().unwrap().signal(), Some(9));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn say(text: &str) {
    // The test harness leaves its line open.
    print!("\n@{text}\n");
    io::stdout().flush().unwrap();
}

/// Not a test of its own: what a child process does.
#[test]
fn child() {
    let (Ok(role), Some(path)) = (std::env::var(ROLE), std::env::var_os(LOG)) else {
        return;
    };
    let path = Path::new(&path);
    match role.as_str() {
        "race" => {
            let mut reader = open(path);
            say("ready");
            let accepted = race(&mut reader, std::process::id());
            say(&format!("{} {accepted:?}", digest_of(&reader)));
        }
        "append" => {
            let mut reader = open(path);
            say("ready");
            append_for_ever(&mut reader);
        }
        "append-silently" => {
            let _reader = open(path);
            say("ready");
            io::stdin().read_exact(&mut [0]).unwrap();
            let bytes = message("silent");
            let database = Connection::open(path).unwrap();
            database
                .execute(
                    "INSERT INTO records VALUES (1, 1, 'message', 0, 9e9, ?1)",
                    [bytes],
                )
                .unwrap();
            database.execute("UPDATE rooms SET last = 1", []).unwrap();
            say("appended");
            loop {
                thread::park();
            }
        }
        "echo" => {
            let mut reader = open(path);
            say("ready");
            echo(&mut reader);
        }
        role => panic!("no role {role}"),
    }
}

/// Waits for the room to be created, then races to commit until there are enough. Gives its own commits.
fn race(reader: &mut Reader, name: u32) -> BTreeSet<u64> {
    let mut accepted = BTreeSet::new();
    reader.read_until(|reader| reader.last_commit() > 0);
    while reader.commits().len() < COMMITS {
        let after = reader.last_commit();
        let bytes = commit(&format!("{name} after {after}"));
        if let Appended::Accepted(sequence) = reader.delivery.append_commit(after, &bytes).unwrap() {
            assert!(accepted.insert(sequence));
        }
        // Other records come in between.
        if after.is_multiple_of(7) {
            reader
                .delivery
                .append("message", &message(&format!("{name}")))
                .unwrap();
        }
        // Either it is ours, or somebody else's made it move.
        reader.read_until(|reader| reader.last_commit() > after);
    }
    accepted
}

fn digest_of(reader: &Reader) -> String {
    let commits = reader.commits();
    let last = commits[COMMITS - 1].sequence;
    let seen = reader.seen.iter().take_while(|entry| entry.sequence <= last);
    let bytes: Vec<u8> = seen
        .flat_map(|entry| [&entry.sequence.to_be_bytes(), &entry.bytes[..]].concat())
        .collect();
    hex::encode(digest::digest(&digest::SHA256, &bytes))
}

#[test]
fn threads_and_processes_that_race_agree_on_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms");
    let mut children: Vec<_> = (0..4).map(|_| Child::start("race", &path)).collect();
    children
        .iter_mut()
        .for_each(|child| assert_eq!(child.hear(), "ready"));
    let mut outcomes: Vec<(String, BTreeSet<u64>)> = thread::scope(|scope| {
        let run = |name| {
            let mut reader = open(&path);
            scope.spawn(move || {
                let accepted = race(&mut reader, name);
                (digest_of(&reader), accepted)
            })
        };
        let threads: Vec<_> = (0..8).map(run).collect();
        let created = open(&path).delivery.append_commit(0, &create()).unwrap();
        assert_eq!(created, Appended::Accepted(1));
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for mut child in children {
        let line = child.hear();
        let (digest, accepted) = line.split_once(' ').unwrap();
        let numbers = accepted
            .trim_matches(['{', '}'])
            .split(", ")
            .filter(|number| !number.is_empty());
        outcomes.push((
            digest.into(),
            numbers.map(|number| number.parse().unwrap()).collect(),
        ));
    }

    let mut log = open(&path);
    log.read();
    assert!(
        log.seen.iter().map(|entry| entry.sequence).eq(1..=log.last()),
        "a gap"
    );
    for (digest, _) in &outcomes {
        assert_eq!(*digest, digest_of(&log));
    }
    // Each commit in the log was accepted once, and none that is not in the log.
    let accepted: Vec<_> = outcomes
        .iter()
        .flat_map(|(_, accepted)| accepted)
        .copied()
        .collect();
    let unique: BTreeSet<_> = accepted.iter().copied().collect();
    assert_eq!(accepted.len(), unique.len());
    let commits: BTreeSet<_> = log.commits().iter().map(|entry| entry.sequence).skip(1).collect();
    assert_eq!(unique, commits);
    assert_eq!(commits.len(), COMMITS - 1);
}

fn append_for_ever(reader: &mut Reader) {
    let name = std::process::id();
    loop {
        reader.read();
        let after = reader.last_commit();
        reader
            .delivery
            .append_commit(after, &commit(&format!("{name} after {after}")))
            .unwrap();
        let long = "long ".repeat(20_000);
        reader.delivery.append("message", &message(&long)).unwrap();
    }
}

#[test]
fn killed_writers_leave_a_log_that_others_go_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms");
    let mut reader = open(&path);
    for round in 1..=12 {
        let mut children = [(); 2].map(|()| Child::start("append", &path));
        children
            .iter_mut()
            .for_each(|child| assert_eq!(child.hear(), "ready"));
        // Some other moment each time.
        let enough = reader.seen.len() + 3 + 5 * round;
        reader.read_until(|reader| reader.seen.len() >= enough);
        children.iter_mut().for_each(Child::kill);
        // At once, without waiting for anything that a dead process may have held.
        let started = Instant::now();
        reader
            .delivery
            .append("message", &message("after the kill"))
            .unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(4),
            "waited for a dead process"
        );
        reader.read();
        assert_eq!(reader.seen.last().unwrap().bytes, message("after the kill"));
        assert!(
            reader
                .seen
                .iter()
                .map(|entry| entry.sequence)
                .eq(1..=reader.last()),
            "a gap"
        );
        for commits in reader.commits().windows(2) {
            let Ok(Record::Commit { commit, .. }) = Record::decode(&commits[1].bytes) else {
                panic!()
            };
            let after = format!("after {}", commits[0].sequence);
            assert!(String::from_utf8(commit).unwrap().ends_with(&after), "a fork");
        }
    }
    let check = Connection::open(&path).unwrap();
    let check: String = check
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn who_dies_between_append_and_ring_wakes_the_readers_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms");
    let mut reader = open(&path);
    let mut child = Child::start("append-silently", &path);
    assert_eq!(child.hear(), "ready");
    child.stdin.write_all(b"!").unwrap();
    assert_eq!(child.hear(), "appended");
    let before = reader.ear.woken();
    child.kill();
    reader.ear.wait_beyond(before);
    reader.read_until(|reader| reader.seen.len() == 1);
    assert_eq!(reader.seen[0].bytes, message("silent"));
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    const NOBODY: u32 = 65534;
    let folder = tempfile::tempdir().unwrap();
    let user = rustix::process::geteuid().is_root().then_some(NOBODY);
    std::os::unix::fs::chown(folder.path(), user, user).unwrap();
    // In a thread that is the folder's owner from its beginning to its end.
    let open = |path: &str| {
        let open = || {
            if let Some(user) = user {
                rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(user)).unwrap();
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(user)).unwrap();
            }
            SqliteDelivery::open(Some(&folder.path().join(path)), "room").map(drop)
        };
        thread::scope(|scope| scope.spawn(open).join().unwrap())
    };
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    for (path, culprit) in [("rooms", "rooms-bell"), ("new/rooms", "new")] {
        let said = open(path).unwrap_err().to_string();
        assert!(
            said.contains("Permission denied") && said.contains(&format!("{culprit}:")),
            "{said}"
        );
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(open("rooms").is_ok());
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// Answers each message with the nanoseconds that it took to here. Its own answers are every second record.
fn echo(reader: &mut Reader) {
    for nth in (0..).step_by(2) {
        reader.read_until(|reader| reader.seen.len() > nth);
        let Ok(Record::Message(text)) = Record::decode(&reader.seen[nth].bytes) else {
            panic!()
        };
        let sent: u128 = String::from_utf8(text).unwrap().parse().unwrap();
        let answer = message(&format!("{}", now() - sent));
        reader.delivery.append("message", &answer).unwrap();
    }
}

/// `mount -t tmpfs -o size=6m,mode=700 none /mnt && GST_E2EE_TEST_SMALL_DISK=/mnt cargo test -p gst-plugin-mls --lib
/// full_disk -- --ignored`
#[test]
#[ignore = "needs a small disk of its own"]
fn a_full_disk_is_a_temporary_error_and_the_log_goes_on_after_it() {
    let small = std::env::var_os("GST_E2EE_TEST_SMALL_DISK").expect("the environment names a small disk");
    let folder = tempfile::tempdir_in(small).unwrap();
    let path = folder.path().join("rooms");
    let filler = folder.path().join("filler");
    let mut reader = open(&path);
    let long = message(&"long ".repeat(20_000));
    reader.delivery.append("message", &long).unwrap();
    // Full but for what is already there.
    let mut file = fs::File::create(&filler).unwrap();
    let written = (0..16_000)
        .take_while(|_| file.write_all(&[1; 1000]).is_ok())
        .count();
    assert!(written < 16_000, "not a small disk: it would have to be filled");
    let mut appended = 1;
    let error = loop {
        match reader.delivery.append("message", &long) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, DeliveryError::DiskFull(_)) && error.is_temporary(),
        "{error}"
    );
    reader.read();
    assert_eq!(reader.seen.len(), appended);
    let error = SqliteDelivery::open(Some(&folder.path().join("other")), "room")
        .err()
        .unwrap();
    assert!(matches!(error, DeliveryError::DiskFull(_)), "{error}");
    drop(file);
    fs::remove_file(&filler).unwrap();
    reader.delivery.append("message", &long).unwrap();
    reader.read_until(|reader| reader.seen.len() == appended + 1);
}

/// `TMPDIR=/dev/shm cargo test -p gst-plugin-mls --lib delivery::tests::processes::measure -- --ignored --nocapture`
#[test]
#[ignore = "prints figures: from append to read in another process, and appends in a row"]
fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms");
    let mut reader = open(&path);
    let mut child = Child::start("echo", &path);
    assert_eq!(child.hear(), "ready");
    let mut there = Vec::new();
    for round in 1..=1000 {
        reader
            .delivery
            .append("message", &message(&now().to_string()))
            .unwrap();
        reader.read_until(|reader| reader.seen.len() == 2 * round);
        let Ok(Record::Message(text)) = Record::decode(&reader.seen[2 * round - 1].bytes) else {
            panic!()
        };
        there.push(String::from_utf8(text).unwrap().parse::<u64>().unwrap());
    }
    drop(child);
    print_micros("append to read", there);
    println!(
        "{} wake-ups for {} records",
        reader.ear.woken(),
        reader.seen.len()
    );
    for (what, bytes) in [("300 B", vec![1; 300]), ("80 kB", vec![1; 80_000])] {
        let bytes = Record::Message(bytes).encode();
        let started = Instant::now();
        for _ in 0..1000 {
            reader.delivery.append("message", &bytes).unwrap();
        }
        println!(
            "{what}: {:.0} appends/s",
            1000.0 / started.elapsed().as_secs_f64()
        );
    }
    let appends = |mut reader: Reader| {
        let append = |_| {
            let started = Instant::now();
            reader
                .delivery
                .append("message", &message("all at once"))
                .unwrap();
            started.elapsed().as_nanos() as u64
        };
        (0..200).map(append).collect::<Vec<_>>()
    };
    let all = thread::scope(|scope| {
        let threads: Vec<_> = [(); 8].map(|()| scope.spawn(|| appends(open(&path)))).into();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    print_micros("one of eight who append all the time", all);
}

fn print_micros(what: &str, mut nanos: Vec<u64>) {
    nanos.sort();
    let micros = |permille: usize| nanos[(nanos.len() - 1) * permille / 1000] / 1000;
    println!(
        "{what}: p50 {} us, p99 {} us, most {} us",
        micros(500),
        micros(990),
        micros(1000)
    );
}
