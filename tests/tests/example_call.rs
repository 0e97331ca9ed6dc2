//! The call in `examples/call`: two processes, `webrtcbin` between them, and their signalling in the hands of this test,
//! which reads it, takes lines out of it and keeps messages back, as any server on the way could.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::process::{Finished, Running, Sandbox, example, staged_plugins};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

/// What a server on the way does with a message: who said it, its kind, its text; `None` keeps it back.
type Meddle = fn(&str, &str, Vec<u8>) -> Option<Vec<u8>>;

type Log = Arc<Mutex<Vec<(&'static str, String, Vec<u8>)>>>;

fn write(to: &mut UnixStream, kind: &str, bytes: &[u8]) -> bool {
    let head = format!("{kind} {}\n", bytes.len());
    to.write_all(head.as_bytes())
        .and_then(|()| to.write_all(bytes))
        .is_ok()
}

fn forward(by: &'static str, from: UnixStream, mut to: UnixStream, meddle: Meddle, log: Log) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut head = String::new();
        while from.read_line(&mut head).is_ok_and(|length| length > 0) {
            let (kind, length) = head.trim_end().split_once(' ').unwrap();
            let mut bytes = vec![0; length.parse().unwrap()];
            from.read_exact(&mut bytes).unwrap();
            log.lock().unwrap().push((by, kind.to_owned(), bytes.clone()));
            if let Some(bytes) = meddle(by, kind, bytes)
                && !write(&mut to, kind, &bytes)
            {
                break;
            }
            head.clear();
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

/// A call whose signalling goes through this test.
struct Call {
    sandbox: Sandbox,
    host: Running,
    guest: Running,
    to_guest: UnixStream,
    log: Log,
}

impl Call {
    fn start(meddle: Meddle) -> Self {
        let sandbox = Sandbox::new();
        let tool = |words: &str| {
            let mut command = sandbox.command(staged_plugins().join("../bin/gst-mls"));
            command.args(words.split(' '));
            sandbox.run("tool", &mut command).expect_success();
        };
        tool("ca new --name Clinic --out ca");
        for who in ["anna", "ben"] {
            tool(&format!(
                "identity new --ca ca --role participant --id {who} --out {who}"
            ));
        }
        let program = example("gst-e2ee-example-call");
        let start = |part: &str, socket: &str, who: &str| {
            let mut command = sandbox.command(&program);
            command
                .args([part, socket, who, "150"])
                .env("G_DEBUG", "fatal-criticals");
            sandbox.start(part, &mut command)
        };
        let mut host = start("host", "host.socket", "anna");
        let path = sandbox.path("host.socket");
        assert!(host.wait_for(|| path.exists()), "{}", host.printed());
        let server = UnixListener::bind(sandbox.path("guest.socket")).unwrap();
        let mut guest = start("guest", "guest.socket", "ben");
        server.set_nonblocking(true).unwrap();
        let mut accepted = None;
        let came = guest.wait_for(|| {
            accepted = accepted.take().or_else(|| server.accept().ok());
            accepted.is_some()
        });
        assert!(came, "{}", guest.printed());
        let (with_guest, _) = accepted.unwrap();
        with_guest.set_nonblocking(false).unwrap();
        let with_host = UnixStream::connect(path).unwrap();
        let log = Log::default();
        let again = |stream: &UnixStream| stream.try_clone().unwrap();
        forward("host", again(&with_host), again(&with_guest), meddle, log.clone());
        forward("guest", again(&with_guest), with_host, meddle, log.clone());
        Self {
            sandbox,
            host,
            guest,
            to_guest: with_guest,
            log,
        }
    }

    /// What an end has said of this kind.
    fn said(log: &Log, by: &str, kind: &str) -> Vec<Vec<u8>> {
        let log = log.lock().unwrap();
        let said = log.iter().filter(|(from, of, _)| *from == by && of == kind);
        said.map(|(_, _, bytes)| bytes.clone()).collect()
    }
}

fn without_sframe(description: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(description).unwrap();
    let lines = text
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("a=sframe"));
    lines.collect::<String>().into_bytes()
}

/// A count that an end told of a medium when it was over.
fn count(ended: &Finished, medium: &str, what: &str) -> u64 {
    assert!(!ended.printed.contains("CRITICAL"), "{}", ended.printed);
    let line = ended
        .printed
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{medium}: ")))
        .unwrap_or_else(|| panic!("nothing of {medium}: {}", ended.printed));
    let number = line
        .split(", ")
        .find_map(|count| count.strip_prefix(&format!("{what} ")));
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no {what}: {}", ended.printed))
}

fn assert_none(ended: &Finished, what: &[&str]) {
    for (medium, what) in ["video", "audio"]
        .iter()
        .flat_map(|m| what.iter().map(move |w| (m, w)))
    {
        assert_eq!(
            count(ended, medium, what),
            0,
            "{medium} {what}: {}",
            ended.printed
        );
    }
}

#[test]
fn a_call_over_webrtc_is_sealed_with_keys_that_came_over_its_own_signalling() {
    let call = Call::start(|_, _, bytes| Some(bytes));
    let host = call.host.finish().expect_success();
    let guest = call.guest.finish().expect_success();
    for ended in [&host, &guest] {
        for medium in ["video", "audio"] {
            assert!(count(ended, medium, "opened") >= 60, "{}", ended.printed);
            assert!(count(ended, medium, "sealed") >= 60, "{}", ended.printed);
            assert_eq!(count(ended, medium, "failed"), 0, "{}", ended.printed);
        }
    }
    let code = |ended: &Finished| {
        let line = ended
            .printed
            .lines()
            .find(|line| line.starts_with("in the end: epoch "));
        line.unwrap().to_owned()
    };
    assert_eq!(code(&host), code(&guest));
    assert!(code(&host).contains("epoch 2, code "), "{}", host.printed);

    // Both describe DTLS-SRTP, with SFrame in each medium.
    for (by, kind) in [("host", "offer"), ("guest", "answer")] {
        let said = Call::said(&call.log, by, kind);
        let text = String::from_utf8(said[0].clone()).unwrap();
        assert_eq!(text.matches("a=sframe\r\n").count(), 2, "{text}");
        for word in ["UDP/TLS/RTP/SAVPF", "a=fingerprint:", "VP8/90000", "OPUS/48000/2"] {
            assert!(text.contains(word), "{text}");
        }
    }
    drop(call.sandbox);
}

#[test]
fn an_offer_without_sframe_is_refused_and_nothing_is_sent() {
    let call = Call::start(|_, kind, bytes| {
        Some(if kind == "offer" {
            without_sframe(bytes)
        } else {
            bytes
        })
    });
    let guest = call.guest.finish().expect_refusal(&[
        "no a=sframe for audio",
        "nothing is sent",
        "Use an end that seals with SFrame",
        "nothing on the way takes the line out",
    ]);
    let host = call
        .host
        .finish()
        .expect_refusal(&["the other end hung up", "no a=sframe"]);
    for ended in [&guest, &host] {
        assert_none(ended, &["sealed", "arrived"]);
    }
    assert!(Call::said(&call.log, "guest", "answer").is_empty());
}

#[test]
fn an_answer_without_sframe_is_refused_and_nothing_is_sent() {
    let call = Call::start(|_, kind, bytes| {
        Some(if kind == "answer" {
            without_sframe(bytes)
        } else {
            bytes
        })
    });
    let host = call.host.finish().expect_refusal(&["no a=sframe for audio"]);
    let guest = call
        .guest
        .finish()
        .expect_refusal(&["the other end hung up", "no a=sframe"]);
    assert_none(&host, &["sealed", "arrived"]);
    assert_none(&guest, &["arrived"]);
}

#[test]
fn who_has_no_part_in_the_room_gets_sealed_frames_and_opens_none() {
    // An end of DTLS-SRTP like any other, a media server in the middle for instance.
    let mut call = Call::start(|by, kind, bytes| (by != "host" || kind != "room").then_some(bytes));
    let arrived = call
        .guest
        .wait_for_print(|printed| printed.matches("sframe-key-missing: no-key").count() > 1);
    assert!(arrived, "{}", call.guest.printed());
    assert!(write(&mut call.to_guest, "bye", b"enough"));
    let guest = call
        .guest
        .finish()
        .expect_refusal(&["the other end hung up: enough"]);
    let host = call.host.finish();
    assert!(count(&guest, "audio", "arrived") > 0, "{}", guest.printed);
    assert!(count(&guest, "audio", "without key") > 0, "{}", guest.printed);
    assert_none(&guest, &["opened", "sealed"]);
    assert!(count(&host, "audio", "sealed") > 0, "{}", host.printed);
    assert_none(&host, &["arrived", "opened"]);
}
