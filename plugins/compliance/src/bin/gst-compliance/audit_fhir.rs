//! `gst-compliance audit fhir`: the log's entries as FHIR AuditEvents.

use std::io::{self, Write as _};
use std::path::PathBuf;

use gstcompliance::audit::{Item, Reader, named_key};
use gstcompliance::export::{LogEntry, audit_event};
use gstcompliance::ids::RecordingId;

use crate::audit::AuditError;

/// Print entries of a log as FHIR R4 AuditEvents (IHE BALP shape), one a line (NDJSON), WITHOUT checking whether they are
/// to be believed: `audit verify` does.
///
/// Each carries the log's key and the entry's number, so that `audit prove` can prove it. Nothing is in it that is not
/// in the entry: ids stay opaque.
#[derive(Debug, clap::Args)]
pub struct Fhir {
    /// The log's folder.
    log: PathBuf,
    /// Only this entry, as `audit show` numbers it.
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    entry: Option<u64>,
    /// Only entries about this recording.
    #[arg(long, value_name = "ID")]
    recording: Option<RecordingId>,
}

impl Fhir {
    pub fn run(self) -> Result<(), AuditError> {
        let log = *named_key(&self.log)?.key();
        let mut out = io::stdout().lock();
        let (mut damaged, mut found) = (false, false);
        for item in Reader::open(&self.log)? {
            let (index, entry) = match item? {
                Item::Entry {
                    index,
                    entry: Ok(entry),
                    ..
                } => (index, entry),
                _ => {
                    damaged = true;
                    continue;
                }
            };
            let is_wanted = self.entry.is_none_or(|wanted| wanted == index)
                && self
                    .recording
                    .is_none_or(|wanted| entry.recording == Some(wanted));
            if is_wanted {
                found = true;
                let event = audit_event(&LogEntry {
                    log,
                    index,
                    entry: &entry,
                });
                writeln!(out, "{event}").map_err(|error| AuditError::Io("standard output".into(), error))?;
            }
        }
        match self.entry {
            _ if damaged => Err(AuditError::Unreadable(self.log)),
            Some(entry) if !found => Err(AuditError::NoEntry(self.log, entry)),
            _ => Ok(()),
        }
    }
}
