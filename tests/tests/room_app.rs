//! A room whose messages an application carries: a Python program (`tests/python/room_app.py`), two processes, a socket
//! of its own between them, real media in both directions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::clinic::Clinic;
use gst_e2ee_tests::process::Sandbox;
use std::collections::BTreeMap;
use std::net::UdpSocket;

/// Epochs and their codes, as printed.
fn codes(printed: &str) -> BTreeMap<u64, String> {
    let lines = printed.lines().filter_map(|line| line.strip_prefix("code "));
    lines
        .map(|line| {
            let (epoch, code) = line.split_once(' ').unwrap();
            (epoch.parse().unwrap(), code.to_owned())
        })
        .collect()
}

#[test]
fn a_python_program_carries_the_rooms_messages_between_two_processes() {
    let (clinic, sandbox) = (Clinic::new(), Sandbox::new());
    let socket = clinic.path("order").display().to_string();
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let [to_host, to_guest] = sockets.map(|socket| socket.local_addr().unwrap().port());
    let pipeline = |keyring: &str, id: &str, from: u16, to: u16| {
        let keyring = keyring.replacen(&format!("name={id} "), "name=keyring ", 1);
        let sqlite = format!("delivery=sqlite:{}", clinic.path("log").display());
        let keyring = keyring.replacen(&sqlite, "delivery=app", 1);
        format!(
            "{keyring} audiotestsrc is-live=true samplesperbuffer=480 ! audio/x-raw,rate=48000,channels=1 ! \
             opusenc frame-size=10 ! sframeenc ! rtpsframepay pt=96 ! \
             udpsink host=127.0.0.1 port={to} sync=false async=false \
             udpsrc address=127.0.0.1 port={from} caps=\"application/x-rtp,media=audio,clock-rate=48000,\
             encoding-name=OPUS,payload=96\" ! rtpsframedepay ! sframedec name=dec ! fakesink sync=false async=false"
        )
    };
    let mut programs = Vec::new();
    for (role, keyring, from, to) in [
        ("host", clinic.creator("anna", ""), to_host, to_guest),
        ("guest", clinic.keyring("ben", ""), to_guest, to_host),
    ] {
        let id = if role == "host" { "anna" } else { "ben" };
        let mut command = sandbox.python("room_app.py");
        command.args([role, &socket, &pipeline(&keyring, id, from, to)]);
        command.env("G_DEBUG", "fatal-criticals");
        let mut running = sandbox.start(role, &mut command);
        if role == "host" {
            let path = clinic.path("order");
            assert!(running.wait_for(|| path.exists()), "{}", running.printed());
        }
        programs.push(running);
    }
    let ended: Vec<_> = programs
        .into_iter()
        .rev()
        .map(|running| running.finish().expect_success())
        .collect();
    for program in &ended {
        assert!(
            program.printed.lines().any(|line| line == "ok"),
            "{}",
            program.printed
        );
    }
    let [guest, host] = [codes(&ended[0].printed), codes(&ended[1].printed)];
    let common: Vec<_> = host
        .iter()
        .filter(|(epoch, _)| guest.contains_key(epoch))
        .collect();
    assert!(common.len() >= 2, "{host:?} {guest:?}");
    for (epoch, code) in common {
        assert_eq!(guest[epoch], *code, "epoch {epoch}");
    }
}
