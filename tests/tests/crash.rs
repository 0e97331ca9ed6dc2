//! No nonce twice, over processes: senders that are killed at any moment and start again, two at once, and state that
//! cannot be kept.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_common::header::Header;
use gst_e2ee_tests::process::{Finished, Sandbox, staged_plugins};
use std::collections::HashSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const KEY: &str = "5 0f1e2d3c4b5a69788796a5b4c3d2e1f0\n";
const NOBODY: u32 = 65534;

/// As many frames as the machine can make, each written out at once.
fn sender(file: &Path, keys: &Path) -> String {
    format!(
        "audiotestsrc ! opusenc frame-size=2.5 ! sframeenc key-file={} kid=5 ! rtpsframepay ! rtpstreampay ! \
         filesink buffer-mode=unbuffered location={}",
        keys.display(),
        file.display()
    )
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// The SFrame headers in a file of framed RTP packets (RFC 4571). A crash may have cut the last one.
fn headers(file: &Path) -> Vec<Header> {
    let bytes = fs::read(file).unwrap_or_default();
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let Some((packet, tail)) = tail.split_at_checked(u16::from_be_bytes(*len).into()) else {
            break;
        };
        // RTP header, descriptor, ciphertext: Opus frames fit into one packet.
        found.push(Header::parse(&packet[13..]).unwrap().0);
        rest = tail;
    }
    found
}

fn random(below: u64) -> u64 {
    RandomState::new().hash_one(0) % below
}

fn pause(time: Duration) -> impl FnMut() -> bool {
    let until = Instant::now() + time;
    move || Instant::now() >= until
}

#[test]
fn no_counter_comes_twice_when_the_sender_is_killed_and_started_again() {
    let sandbox = Sandbox::new();
    let keys = sandbox.key_file("keys", KEY);
    let mut all = HashSet::new();
    let mut rounds = 0;
    for round in 0..12 {
        let file = sandbox.path(&format!("sealed-{round}"));
        let mut sender = sandbox.start("sender", &mut sandbox.gst_launch(&sender(&file, &keys)));
        if round % 4 != 3 {
            assert!(sender.wait_for(|| size(&file) > 0), "{}", sender.printed());
            sender.wait_for(pause(Duration::from_micros(random(60_000))));
        } else {
            // Anywhere in the start: before the lock, with it, before and after the lease.
            sender.wait_for(pause(Duration::from_micros(random(250_000))));
        }
        sender.kill();
        let headers = headers(&file);
        rounds += usize::from(!headers.is_empty());
        for header in headers {
            assert_eq!(header.kid, 5);
            assert!(
                all.insert(header.ctr),
                "counter {} of round {round} was used before",
                header.ctr
            );
        }
    }
    assert!(
        rounds >= 9 && all.len() > 500,
        "{} frames in {rounds} rounds",
        all.len()
    );
    let counters = sandbox.path("state/gst-plugins-e2ee/counters");
    assert_eq!(fs::read_dir(counters).unwrap().count(), 1);
}

#[test]
fn a_second_sender_with_the_same_key_and_kid_is_refused_until_the_first_is_gone() {
    let sandbox = Sandbox::new();
    let keys = sandbox.key_file("keys", KEY);
    let (first_file, second_file) = (sandbox.path("first"), sandbox.path("second"));
    let mut first = sandbox.start("first", &mut sandbox.gst_launch(&sender(&first_file, &keys)));
    assert!(first.wait_for(|| size(&first_file) > 0), "{}", first.printed());

    let second = || sandbox.run("second", &mut sandbox.gst_launch(&sender(&second_file, &keys)));
    second().expect_refusal(&["is in use", "another sframeenc", "kid of its own"]);
    assert_eq!(headers(&second_file), []);

    let before = size(&first_file);
    assert!(
        first.wait_for(|| size(&first_file) > before),
        "the first stopped: {}",
        first.printed()
    );
    first.kill();
    let mut third = sandbox.start("third", &mut sandbox.gst_launch(&sender(&second_file, &keys)));
    assert!(third.wait_for(|| size(&second_file) > 0), "{}", third.printed());
    third.kill();
    let used: HashSet<u64> = headers(&first_file).iter().map(|header| header.ctr).collect();
    assert!(
        headers(&second_file)
            .iter()
            .all(|header| !used.contains(&header.ctr))
    );
}

/// Two at the same moment, not one after the other: exactly one starts.
#[test]
fn of_two_senders_that_start_together_one_is_refused() {
    let sandbox = Sandbox::new();
    let keys = sandbox.key_file("keys", KEY);
    let files = [sandbox.path("a"), sandbox.path("b")];
    let names = ["a.log", "b.log"];
    let mut senders: Vec<_> = files
        .iter()
        .zip(names)
        .map(|(file, name)| sandbox.start(name, &mut sandbox.gst_launch(&sender(file, &keys))))
        .collect();
    let refused = |printed: String| printed.contains("is in use");
    let other = senders.pop().unwrap();
    let mut one = senders.pop().unwrap();
    one.wait_for(|| files.iter().any(|file| size(file) > 0) && refused(one_or_other(&sandbox, &names)));
    let (one, other) = (one.kill(), other.kill());
    assert_ne!(refused(one.printed), refused(other.printed));
    assert!(files.iter().any(|file| headers(file).is_empty()));
}

fn one_or_other(sandbox: &Sandbox, names: &[&str]) -> String {
    names
        .iter()
        .map(|name| fs::read_to_string(sandbox.path(&format!("{name}.stderr"))).unwrap_or_default())
        .collect()
}

fn refused_to_start(finished: Finished, file: &Path, words: &[&str]) {
    finished.expect_refusal(words);
    assert_eq!(headers(file), [], "it sealed frames");
}

const CANNOT: &[&str] = &["cannot persist counters", "counter-file", "must outlive a crash"];

#[test]
fn a_state_directory_that_cannot_be_made_refuses_to_start_and_says_why() {
    let sandbox = Sandbox::new();
    let keys = sandbox.key_file("keys", KEY);
    let file = sandbox.path("sealed");
    for state in [keys.join("state"), "/proc/state".into()] {
        let mut command = sandbox.gst_launch(&sender(&file, &keys));
        command.env("XDG_STATE_HOME", &state);
        refused_to_start(sandbox.run("sender", &mut command), &file, CANNOT);
    }
}

#[test]
fn a_read_only_state_directory_refuses_to_start_and_says_why() {
    let sandbox = Sandbox::new();
    let keys = sandbox.key_file("keys", KEY);
    let file = sandbox.path("sealed");
    let state = sandbox.path("state");
    fs::create_dir(&state).unwrap();
    let mut command = sandbox.gst_launch(&sender(&file, &keys));
    if fs::metadata(&state).unwrap().uid() == 0 {
        // Nothing is read-only for root: the sender runs as nobody.
        let folder = sandbox.path("");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&file, "").unwrap();
        for path in [&keys, &file] {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        // Where the plugins were built it may not get at them.
        let plugins = sandbox.path("plugins");
        fs::create_dir(&plugins).unwrap();
        for library in ["libgstsframe.so", "libgstrtpsframe.so"] {
            fs::copy(staged_plugins().join(library), plugins.join(library)).unwrap();
        }
        let gst_launch = command;
        command = sandbox.command("setpriv");
        command.env("GST_PLUGIN_PATH", &plugins);
        command
            .args([
                "--reuid",
                &NOBODY.to_string(),
                "--regid",
                &NOBODY.to_string(),
                "--clear-groups",
            ])
            .arg(gst_launch.get_program())
            .args(gst_launch.get_args());
    }
    fs::set_permissions(&state, fs::Permissions::from_mode(0o555)).unwrap();
    refused_to_start(
        sandbox.run("sender", &mut command),
        &file,
        &["cannot persist counters", "ermission denied"],
    );
}

#[test]
fn no_state_directory_at_all_refuses_to_start_and_says_what_to_set() {
    let sandbox = Sandbox::new();
    let keys = sandbox.key_file("keys", KEY);
    let file = sandbox.path("sealed");
    let mut command = sandbox.gst_launch(&sender(&file, &keys));
    command.env_remove("XDG_STATE_HOME").env_remove("HOME");
    let words = ["no state directory", "XDG_STATE_HOME", "counter-file"];
    refused_to_start(sandbox.run("sender", &mut command), &file, &words);
}

/// A limit on the size of files stands for a full disk: the write of the lease fails.
#[test]
fn a_full_disk_refuses_to_start_and_says_why() {
    let sandbox = Sandbox::new();
    let keys = sandbox.key_file("keys", KEY);
    let file = sandbox.path("sealed");
    let gst_launch: Command = sandbox.gst_launch(&sender(&file, &keys));
    // What it prints goes through a process without the limit.
    let script = "{ (trap '' XFSZ; ulimit -f 0; exec \"$@\") 2>&1; echo \"ended with $?\"; } | cat";
    let mut shell = sandbox.command("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(gst_launch.get_program())
        .args(gst_launch.get_args());
    let finished = sandbox.run("sender", &mut shell);
    assert!(!finished.printed.contains("ended with 0"), "{}", finished.printed);
    for words in CANNOT {
        assert!(
            finished.printed.contains(words),
            "{words:?} is not in: {}",
            finished.printed
        );
    }
    assert_eq!(headers(&file), []);
}

#[test]
fn a_damaged_counter_file_refuses_to_start_and_says_why() {
    let sandbox = Sandbox::new();
    let keys = sandbox.key_file("keys", KEY);
    let file = sandbox.path("sealed");
    let mut first = sandbox.start("first", &mut sandbox.gst_launch(&sender(&file, &keys)));
    assert!(first.wait_for(|| size(&file) > 0), "{}", first.printed());
    first.kill();
    let folder = sandbox.path("state/gst-plugins-e2ee/counters");
    let counters = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    for damage in ["not a number", "12345 0123456789abcdef0123456789abcdef\n"] {
        fs::write(&counters, damage).unwrap();
        fs::remove_file(&file).unwrap();
        let finished = sandbox.run("sender", &mut sandbox.gst_launch(&sender(&file, &keys)));
        refused_to_start(finished, &file, &["counter-file"]);
        assert_eq!(
            fs::read_to_string(&counters).unwrap(),
            damage,
            "the evidence was overwritten"
        );
        fs::write(&file, "").unwrap();
    }
}
