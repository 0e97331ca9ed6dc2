//! `gst-mls`: identities for rooms, from a shell.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

mod ca;
mod files;
mod fingerprint;
mod identity;
mod time;

/// Certificates and rooms for mlskeyring.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(subcommand)]
    Ca(ca::Ca),
    #[command(subcommand)]
    Identity(identity::IdentityCommand),
    Fingerprint(fingerprint::Fingerprint),
}

impl Command {
    fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Ca(command) => command.run(),
            Self::Identity(command) => command.run(),
            Self::Fingerprint(command) => command.run(),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gst-mls: {error}");
            ExitCode::FAILURE
        }
    }
}
