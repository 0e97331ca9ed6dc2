//! `gst-compliance request`: asks the custodians of a recording, after the log has it.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use age::x25519::{Identity, Recipient};
use gstcompliance::access::Opening;
use gstcompliance::age_file::{identity_text, recipient};
use gstcompliance::audit::{Id, Text};
use gstcompliance::breakglass::MAX_LIFETIME;
use gstcompliance::breakglass::ask::{Wanted, ask};
use zeroize::Zeroizing;

use crate::clock::{date, duration, now};

/// Ask the custodians of a recording under escrow to open it (break-glass). Run it on the opening station: the machine
/// that has the recording and its audit log.
///
/// The request is written to the audit log, and then as a file to send to the custodians, by any way: nothing in it is
/// secret. Each of them runs `gst-compliance approve` or `deny` on it and sends a file back. With enough approvals:
/// `gst-compliance open REC --approvals … --station-key FILE`, here.
///
/// What comes out is encrypted to --for. Let the requester make that key for this request alone (age-keygen -o FILE), and
/// keep it: this machine never has it.
#[derive(Debug, clap::Args)]
pub struct Request {
    /// The recording's folder.
    #[arg(value_name = "REC")]
    recording: PathBuf,
    /// Folder of the audit log that the recording names.
    #[arg(long, value_name = "DIR")]
    audit_log: PathBuf,
    /// Who asks: an opaque id, no name. It stands in the log for good.
    #[arg(long, value_name = "ID")]
    requester: String,
    /// Why. It stands in the log for good.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The case that this belongs to. It stands in the log for good.
    #[arg(long, value_name = "ID")]
    ticket: String,
    /// The requester's one-time public key.
    #[arg(long = "for", value_name = "AGE1…", value_parser = parse_recipient)]
    recipient: Recipient,
    /// Until when it counts, from now: 30m, 2h, 3d; at most 7d.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires: u64,
    /// File for this station's one-time private key, to which the custodians send their shares: it is made, must not exist,
    /// and stays here. Remove it when the recording was opened.
    #[arg(long, value_name = "FILE")]
    station_key: PathBuf,
    /// File for the request; it is made, and must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn parse_recipient(text: &str) -> Result<Recipient, String> {
    recipient(text).map_err(|error| error.to_string())
}

impl Request {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        if self.expires > MAX_LIFETIME {
            return Err("--expires: at most 7d. What is needed longer is asked for again".into());
        }
        let wanted = Wanted {
            requester: Id::new(&self.requester).map_err(|error| format!("--requester: {error}"))?,
            reason: Text::new(&self.reason).map_err(|error| format!("--reason: {error}"))?,
            ticket: Text::new(&self.ticket).map_err(|error| format!("--ticket: {error}"))?,
            recipient: self.recipient.clone(),
            lifetime: self.expires,
        };
        let opening = Opening::prepare(&self.recording, &self.audit_log)?;
        // Both files are there before anything is logged: a request that nobody could use would stand there for good.
        let station = Identity::generate();
        let mut key = New::make(&self.station_key)?;
        key.write(&key_text(&station))?;
        let mut out = New::make(&self.out)?;
        let made = ask(&opening, wanted, &station.to_public(), now())?;
        out.write(&made.request)?;
        key.keep();
        out.keep();

        for misuse in &made.left_out {
            eprintln!("gst-compliance: {misuse}");
        }
        let asked = &made.asked;
        println!("Request {} is in the audit log.", asked.access);
        println!("  recording  {}", asked.recording);
        println!("  until      {}", date(asked.expires));
        println!(
            "Send {} to the custodians. Keep {} here.",
            self.out.display(),
            self.station_key.display()
        );
        println!("They need the log's key: {}", opening.index().facts().log_key);
        Ok(())
    }
}

/// The key as `age-keygen` writes it.
fn key_text(identity: &Identity) -> Zeroizing<Vec<u8>> {
    let (public, secret) = (identity.to_public().to_string(), identity_text(identity));
    // Sized once: text that grows leaves its old bytes behind.
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    for piece in ["# public key: ", &public, "\n", secret.as_str(), "\n"] {
        text.extend_from_slice(piece.as_bytes());
    }
    text
}

/// A file for its owner alone that goes away again unless it is kept.
struct New<'a> {
    path: &'a Path,
    file: File,
    kept: bool,
}

impl<'a> New<'a> {
    fn make(path: &'a Path) -> Result<Self, String> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let file = made.map_err(|error| cannot_be_made(path, &error))?;
        let kept = false;
        Ok(Self { path, file, kept })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_all());
        written.map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for New<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // The error that matters is the one before.
            let _ = fs::remove_file(self.path);
        }
    }
}

fn cannot_be_made(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be made: {error}", path.display())
}

/// Writes a new file for its owner alone, or leaves none.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut new = New::make(path)?;
    new.write(bytes)?;
    new.keep();
    Ok(())
}
