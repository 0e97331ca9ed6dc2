//! Machines of a test: network namespaces, each with one cable to this process, which is the network between them.
//!
//! The test runs once more, in a user, network and mount namespace of its own: so it needs no privilege where a system lets its
//! users make those, touches nothing of the system's network, and leaves nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use it, a failure here is theirs"
)]

use crate::process::Sandbox;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Set for a test that runs in namespaces of its own.
const INSIDE: &str = "GST_E2EE_INSIDE_NAMESPACES";
/// `ip` keeps its names below /run.
const PREPARE: &str = "mount -t tmpfs tmpfs /run && ip link set lo up";

fn unshared(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--mount", "sh", "-c", script]);
    command
}

/// Is this the run inside? Outside, the test of this name is run again, inside, and nothing more is to do. Where the system
/// forbids it nothing is tested, and the test says so where nobody captures it.
pub fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let tried = unshared(&format!("{PREPARE} && ip netns add a"))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("unshare (Debian's package util-linux): {error}"));
    if !tried.status.success() {
        let why = String::from_utf8_lossy(&tried.stderr);
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {test}: this system lets this user make no network namespaces: {}",
            why.trim()
        );
        return false;
    }
    let status = unshared(&format!("{PREPARE} && exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "yes")
        .status();
    assert!(status.unwrap().success(), "it failed inside, see above");
    false
}

fn ip(words: &str) {
    let output = Command::new("ip")
        .args(words.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("ip (Debian's package iproute2): {error}"));
    assert!(output.status.success(), "ip {words}: {output:?}");
}

/// One machine.
#[derive(Debug, Clone)]
pub struct Machine {
    name: String,
    number: u8,
}

impl Machine {
    /// A new one. No two have the same number.
    pub fn new(name: &str, number: u8) -> Self {
        let machine = Self {
            name: name.to_owned(),
            number,
        };
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add v{number} type veth peer name eth0 netns {name}"
        ));
        ip(&format!("address add {}/30 dev v{number}", machine.exit()));
        ip(&format!("link set v{number} up"));
        for words in [
            "link set lo up".to_owned(),
            format!("address add {}/30 dev eth0", machine.address()),
            "link set eth0 up".to_owned(),
        ] {
            ip(&format!("-n {name} {words}"));
        }
        machine
    }

    /// Its address, for the network.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 2)
    }

    /// The network's end of its cable: whatever it wants to reach, it reaches here.
    pub fn exit(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 1)
    }

    /// A command that runs on it.
    pub fn command(&self, sandbox: &Sandbox, program: impl AsRef<Path>) -> Command {
        let mut command = sandbox.command("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg(program.as_ref());
        command
    }

    /// Pulls its cable out, or puts it in again.
    pub fn plug(&self, is_in: bool) {
        ip(&format!(
            "link set v{} {}",
            self.number,
            if is_in { "up" } else { "down" }
        ));
    }
}
