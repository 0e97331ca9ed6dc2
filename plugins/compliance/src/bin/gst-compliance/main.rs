//! `gst-compliance`: keys of recordings, recordings, and the audit log, from a shell.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use gstcompliance::dumpable::forbid_core_dumps;

mod approve;
mod audit;
mod audit_fhir;
mod clock;
mod consent;
mod custodian_key;
mod drill;
mod export;
mod fetch;
mod files;
mod keys;
mod open;
mod report;
mod request;
mod retention;
mod rewrap;
mod stored;
mod upload;
mod verify;
mod who;

/// Keys, recordings and audit logs of compliancesink.
///
/// Ends with 0 where all went well, 1 where something failed, was refused or is damaged, 2 where the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "gst-compliance", version)]
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
    Request(request::Request),
    Approve(approve::Approve),
    Deny(approve::Deny),
    #[command(subcommand)]
    Drill(drill::Drill),
    Rewrap(rewrap::Rewrap),
    #[command(subcommand)]
    Retention(retention::Retention),
    Export(Box<export::Export>),
    Report(report::MakeReport),
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
            Self::Request(command) => command.run(),
            Self::Approve(command) => command.run(),
            Self::Deny(command) => command.run(),
            Self::Drill(command) => command.run(),
            Self::Rewrap(command) => command.run(),
            Self::Retention(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::Report(command) => command.run(),
            Self::Audit(command) => Ok(command.run()?),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Most commands have a key or media in memory.
    match forbid_core_dumps()
        .map_err(Into::into)
        .and_then(|()| cli.command.run())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gst-compliance: {error}");
            let code = error.downcast_ref().map_or(1, audit::AuditError::exit_code);
            ExitCode::from(code)
        }
    }
}
