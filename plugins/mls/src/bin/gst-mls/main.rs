//! `gst-mls`: identities for rooms, and rooms that run, from a shell.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

mod backup;
mod ca;
mod change;
mod files;
mod fingerprint;
mod identity;
mod output;
mod posture;
mod restore;
mod room;
mod time;

use output::Usage;

/// Certificates and rooms for mlskeyring.
///
/// Ends with 0 where all went well, 1 where something failed or was refused, 2 where the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "gst-mls", version)]
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
    #[command(subcommand)]
    Room(room::Room),
    #[command(subcommand)]
    Posture(posture::Posture),
    Backup(backup::Backup),
    Restore(restore::Restore),
}

impl Command {
    fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Ca(command) => command.run(),
            Self::Identity(command) => command.run(),
            Self::Fingerprint(command) => command.run(),
            Self::Room(command) => command.run(),
            Self::Posture(command) => command.run(),
            Self::Backup(command) => command.run(),
            Self::Restore(command) => command.run(),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gst-mls: {error}");
            if error.is::<Usage>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
