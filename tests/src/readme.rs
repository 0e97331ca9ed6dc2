//! The commands that the READMEs print, the repository's and the plugins', to be run as they stand there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use it, a failure here is theirs"
)]

use crate::process::Sandbox;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// The shell commands in the blocks of a text, one a line.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut rest = text;
    while let Some((_, tail)) = rest.split_once("```sh\n") {
        let (block, tail) = tail.split_once("```").unwrap();
        let joined = block.replace("\\\n", " ");
        commands.extend(
            joined
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(str::to_owned),
        );
        rest = tail;
    }
    commands
}

/// The repository's README and those of the plugins.
fn readmes() -> Vec<String> {
    let plugins =
        ["sframe", "rtpsframe", "mls", "compliance"].map(|plugin| format!("plugins/{plugin}/README.md"));
    let paths = std::iter::once("README.md".to_owned()).chain(plugins);
    paths
        .map(|path| fs::read_to_string(root().join(path)).unwrap())
        .collect()
}

/// The READMEs' one command that contains all these words.
pub fn readme_command(words: &[&str]) -> String {
    let mut found: Vec<_> = readmes().iter().flat_map(|text| commands(text)).collect();
    found.retain(|command| words.iter().all(|word| command.contains(word)));
    // The same command may stand in two places.
    found.dedup();
    assert_eq!(found.len(), 1, "READMEs' commands with {words:?}: {found:#?}");
    found.remove(0)
}

/// All commands in the READMEs' one section with this heading, in their order.
pub fn readme_section(heading: &str) -> Vec<String> {
    let heading = format!("\n## {heading}\n");
    let readmes = readmes();
    let mut sections = readmes.iter().filter_map(|text| text.split_once(&heading));
    let (_, section) = sections
        .next()
        .unwrap_or_else(|| panic!("no README has a section {heading:?}"));
    assert!(
        sections.next().is_none(),
        "two READMEs have a section {heading:?}"
    );
    commands(section.split("\n## ").next().unwrap())
}

/// A shell with this command.
pub fn shell(sandbox: &Sandbox, command: &str) -> Command {
    let mut shell = sandbox.command("sh");
    // So that a signal reaches the pipeline.
    let exec = if command.starts_with("gst-launch") {
        "exec "
    } else {
        ""
    };
    shell.args(["-c", &format!("{exec}{command}")]);
    shell
}

/// UDP ports that are free now, instead of README's.
pub fn with_free_ports<const N: usize>(commands: [String; N], ports: &[u16]) -> [String; N] {
    let sockets: Vec<UdpSocket> = ports
        .iter()
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    commands.map(|mut command| {
        for (port, socket) in ports.iter().zip(&sockets) {
            let free = socket.local_addr().unwrap().port();
            command = command.replace(&format!("port={port}"), &format!("port={free}"));
        }
        command
    })
}
