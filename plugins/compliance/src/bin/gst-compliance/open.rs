//! `gst-compliance open`: the tracks of a recording, for a named reader with a reason, after the log has it.

use std::error::Error;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gstcompliance::access::{Opening, Purpose, identities};
use gstcompliance::recording::{Reader, TrackId, export};

/// Decrypt tracks of a recording into Matroska files, each named by its track.
///
/// The access is written to the recording's own audit log before anything is decrypted; where that cannot be done,
/// nothing is opened. What is written is plaintext, readable for you only, and is yours to protect.
#[derive(Debug, clap::Args)]
pub struct Open {
    /// The recording's folder.
    #[arg(value_name = "REC")]
    recording: PathBuf,
    /// Your age identity (as age-keygen writes it): that of a recipient of the recording.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Folder for the files; it is made if it does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The track, as `verify` numbers it; several times for several. All of them if it is not given.
    #[arg(long, value_name = "N")]
    track: Vec<u32>,
    /// Who you are: an opaque id, no name. It stands in the log for good.
    #[arg(long, value_name = "ID")]
    reader: String,
    /// Why you open it. It stands in the log for good.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The case that this belongs to. It stands in the log for good.
    #[arg(long, value_name = "ID")]
    ticket: String,
    /// Folder of the audit log that the recording names.
    #[arg(long, value_name = "DIR")]
    audit_log: PathBuf,
}

impl Open {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        let opening = Opening::prepare(&self.recording, &self.audit_log)?;
        if let Some(shortened) = opening.shortened() {
            eprintln!("gst-compliance: {shortened}");
        }
        let keys = identities(&self.identity)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.out)
            .map_err(|error| format!("{} cannot be made: {error}", self.out.display()))?;
        let purpose = Purpose::new(&self.reader, &self.reason, &self.ticket)?;
        let tracks = self.track.into_iter().map(TrackId).collect();
        let (mut reader, access) = opening.unlock(&keys, &purpose, tracks, now())?;
        let tracks: Vec<_> = reader
            .tracks()
            .map(|track| (track.id, track.medium, track.members.len() as u64))
            .collect();
        let (mut members, mut written) = (0, Ok(()));
        for (track, medium, of_track) in tracks {
            let path = self.out.join(format!("{track}-{medium}.mkv"));
            match write(&mut reader, track, &path) {
                Ok(bytes) => println!("{}: {bytes} bytes", path.display()),
                Err(error) => {
                    written = Err(error);
                    break;
                }
            }
            members += of_track;
        }
        access.end(members, now())?;
        written
    }
}

/// Unix time in milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Writes a track, or leaves no file.
fn write(reader: &mut Reader, track: TrackId, path: &Path) -> Result<u64, Box<dyn Error>> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
    let written = export(reader, track, &mut file, path);
    if written.is_err() {
        // The error that matters is the one before.
        let _ = fs::remove_file(path);
    }
    Ok(written?)
}
