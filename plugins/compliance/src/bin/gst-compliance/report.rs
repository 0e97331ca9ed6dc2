//! `gst-compliance report`: one page about a recording, for whoever answers for it.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gstcompliance::audit::{Entry, Event, Id, Log, LogError, VerifyOptions};
use gstcompliance::digest::Digest;
use gstcompliance::report::{Ask, Report, Word, gather, html, pinned_key};
use gstcompliance::signing::PublicKey;

use crate::audit::{print, trust};

/// Write one HTML page about a recording, for somebody who is no engineer: is it complete, who was there, what was recorded
/// and what is missing, who could open it, who did, and why. With a time line.
///
/// No media is opened and no key is needed. The page needs nothing else, runs no script, and can be mailed or printed; it holds
/// the opaque ids, reasons and tickets of the recording and of the log, so treat it as you treat those.
///
/// That the page was made, by whom, and its SHA-256 are written into the recording's audit log before the page is. Where that
/// cannot be done (a copy of the log, one that is damaged or cannot be written), nothing is written, unless --no-log-entry says
/// that it shall be done without; the page then says so.
///
/// The page is also written for a recording that is damaged or unfinished, with what is known of it. Ends with 0 only where
/// the recording is complete, its recorder missed nothing, and the log is intact: what the page calls "Complete". Ends with 1
/// otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gst-compliance report recordings/ID --audit-log log --by compliance-3 --out report.html
  gst-compliance report recordings/ID --audit-log log --by compliance-3 --out report.html \\
    --log-key HEX --dealer HEX --witness witness/")]
pub struct MakeReport {
    /// The recording's folder.
    #[arg(value_name = "REC")]
    recording: PathBuf,
    /// Folder of the audit log that the recording names.
    #[arg(long, value_name = "DIR")]
    audit_log: PathBuf,
    /// The file to write. It must not exist.
    #[arg(long, value_name = "FILE", required_unless_present = "json")]
    out: Option<PathBuf>,
    /// Who you are: an opaque id, no name. It stands in the log for good.
    #[arg(long, value_name = "ID", required_unless_present = "no_log_entry")]
    by: Option<Id>,
    /// Make the page without an entry in the log: of a copy, or where the log takes no entries any more.
    #[arg(long, conflicts_with = "by")]
    no_log_entry: bool,
    /// The audit log's public key (64 hex digits), known from elsewhere. Without it a recording and a log that were forged
    /// together look genuine, and the page says so.
    #[arg(long, value_name = "HEX")]
    log_key: Option<PublicKey>,
    /// The public key of the dealer who must have made the recording's key (the content of dealer.pub).
    #[arg(long, value_name = "HEX")]
    dealer: Option<PublicKey>,
    /// A witness that you trust: its folder, or the content of its file vkey. May be given several times.
    #[arg(long, value_name = "DIR|VKEY")]
    witness: Vec<String>,
    /// Write the same facts as JSON, for a program: into --out, or to standard output.
    #[arg(long)]
    json: bool,
}

impl MakeReport {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        if let Some(out) = self.out.as_deref().filter(|out| out.symlink_metadata().is_ok()) {
            return Err(format!(
                "{} exists already: choose another --out, or remove it",
                out.display()
            )
            .into());
        }
        let pinned = self.log_key.or_else(|| pinned_key(&self.recording));
        let mut options = VerifyOptions {
            key: pinned,
            ..VerifyOptions::default()
        };
        for witness in &self.witness {
            trust(witness, &self.audit_log, &mut options)?;
        }
        let report = gather(&Ask {
            recording: &self.recording,
            log: &self.audit_log,
            log_key: self.log_key,
            dealer: self.dealer,
            trust: options,
            now: now(),
            by: self.by.clone(),
        })?;
        let content = match self.json {
            true => format!("{}\n", serde_json::to_string(&report)?),
            false => html(&report),
        };
        if let Some(by) = self.by {
            let logged = note(&self.audit_log, pinned, &report, by, content.as_bytes());
            logged.map_err(|error| {
                format!(
                    "the report cannot be logged, so none was written: {error}. With --no-log-entry instead of --by it is \
                     made without an entry, and says so"
                )
            })?;
        }
        match &self.out {
            Some(out) => write(out, content.as_bytes())?,
            None => print(&content)?,
        }
        let path = self.recording.display();
        match report.verdict.word {
            Word::Complete => Ok(()),
            _ => Err(format!("{path}: {}", report.verdict.says).into()),
        }
    }
}

/// Puts into the log that the page is made, signed for.
fn note(
    path: &Path,
    pinned: Option<PublicKey>,
    report: &Report,
    by: Id,
    content: &[u8],
) -> Result<(), Box<dyn Error>> {
    let log = Log::open_existing(path)?;
    if pinned.is_some_and(|pinned| pinned != log.key()) {
        return Err("it is another log than the one that the recording names".into());
    }
    let entry = Entry {
        time: now(),
        recording: report.id,
        event: Event::Reported {
            by,
            sha256: Digest::of(content),
        },
    };
    log.append(&entry)?;
    log.close().map_err(|error: LogError| error.into())
}

/// Writes a new file, or leaves none. Only its owner can read it: reasons and tickets are in it.
fn write(path: &Path, content: &[u8]) -> Result<(), Box<dyn Error>> {
    let make = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        if written.is_err() {
            // The error that matters is the one before.
            let _ = fs::remove_file(path);
        }
        written
    };
    make().map_err(|error: std::io::Error| format!("{} cannot be written: {error}", path.display()).into())
}

/// Unix time in milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
