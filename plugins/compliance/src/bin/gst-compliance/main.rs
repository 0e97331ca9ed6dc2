//! `gst-compliance`: keys of recordings, recordings, and the audit log, from a shell.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

mod audit;
mod consent;
mod fetch;
mod keys;
mod open;
mod remove;
mod stored;
mod upload;
mod verify;

/// Keys, recordings and audit logs of compliancesink.
///
/// Ends with 0 where all went well, 1 where something failed, was refused or is damaged, 2 where the command line is wrong.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(subcommand)]
    Keys(keys::Keys),
    Consent(consent::Consent),
    Verify(verify::Verify),
    Open(open::Open),
    Fetch(fetch::Fetch),
    Upload(upload::Upload),
    Remove(remove::Remove),
    #[command(subcommand)]
    Audit(audit::Audit),
}

impl Command {
    fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Keys(command) => command.run(),
            Self::Consent(command) => command.run(),
            Self::Verify(command) => command.run(),
            Self::Open(command) => command.run(),
            Self::Fetch(command) => command.run(),
            Self::Upload(command) => command.run(),
            Self::Remove(command) => command.run(),
            Self::Audit(command) => Ok(command.run()?),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gst-compliance: {error}");
            let code = error.downcast_ref().map_or(1, audit::AuditError::exit_code);
            ExitCode::from(code)
        }
    }
}
