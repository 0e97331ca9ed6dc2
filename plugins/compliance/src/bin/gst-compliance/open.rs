//! `gst-compliance open`: the tracks of a recording, for a named reader with a reason or by the approvals of custodians,
//! after the log has it.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use age::x25519::Identity;
use gstcompliance::access::{Opening, Purpose, identities};
use gstcompliance::audit::entry::Way;
use gstcompliance::breakglass::grant::grant;
use gstcompliance::breakglass::release::{folder, folder_for, release};
use gstcompliance::bundle::Escrow;
use gstcompliance::recording::{Reader, TrackId, export};

use crate::clock::now;
use crate::files::decisions;

/// Open a recording: as one of its recipients, or, under escrow, with the approvals of its custodians.
///
/// The access is written to the recording's own audit log before anything is decrypted; where that cannot be done,
/// nothing is opened.
///
/// With --identity: tracks are decrypted into Matroska files, each named by its track. What is written is plaintext, readable
/// for you only, and is yours to protect.
///
/// With --approvals (break-glass), on the opening station where `gst-compliance request` was run: each decision is checked
/// and what came of it is logged, and with enough approvals every track is written as an age file that the requester
/// opens (`age -d -i KEY -o 0-video.mkv 0-video.mkv.age`). This machine's disk gets no plaintext and no key of the recording.
/// A request opens once.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("way").required(true).args(["identity", "approvals"]))]
pub struct Open {
    /// The recording's folder.
    #[arg(value_name = "REC")]
    recording: PathBuf,
    /// Your age identity (as age-keygen writes it): that of a recipient of the recording.
    #[arg(long, value_name = "FILE", requires_all = ["reader", "reason", "ticket"])]
    identity: Option<PathBuf>,
    /// What the custodians sent back: files, or folders with them.
    #[arg(
        long,
        value_name = "DIR|FILE",
        num_args = 1..,
        requires_all = ["station_key", "custodians"],
        conflicts_with_all = ["reader", "reason", "ticket", "track"]
    )]
    approvals: Vec<PathBuf>,
    /// With --approvals: this station's one-time key of the request. Remove it afterwards.
    #[arg(long, value_name = "FILE", requires = "approvals")]
    station_key: Option<PathBuf>,
    /// With --approvals: the file of custodians that the recording's key was made for (keys prepare --escrow).
    #[arg(long, value_name = "FILE", requires = "approvals")]
    custodians: Option<PathBuf>,
    /// Folder for the files; it is made if it does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The track, as `verify` numbers it; several times for several. All of them if it is not given.
    #[arg(long, value_name = "N")]
    track: Vec<u32>,
    /// With --identity: who you are: an opaque id, no name. It stands in the log for good.
    #[arg(long, value_name = "ID")]
    reader: Option<String>,
    /// With --identity: why you open it. It stands in the log for good.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// With --identity: the case that this belongs to. It stands in the log for good.
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
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
        match (&self.identity, &self.station_key, &self.custodians) {
            (Some(identity), ..) => self.alone(opening, identity),
            (_, Some(key), Some(custodians)) => self.together(opening, key, custodians),
            _ => Err("--identity, or --approvals with --station-key and --custodians, is needed".into()),
        }
    }

    /// As a recipient.
    fn alone(&self, opening: Opening, identity: &Path) -> Result<(), Box<dyn Error>> {
        let keys = identities(identity)?;
        folder(&self.out)?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let purpose = Purpose::new(&text(&self.reader), &text(&self.reason), &text(&self.ticket))?;
        let tracks = self.track.iter().copied().map(TrackId).collect();
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

    /// By the custodians' approvals.
    fn together(&self, opening: Opening, key: &Path, custodians: &Path) -> Result<(), Box<dyn Error>> {
        let key = station_key(key)?;
        let custodians = Escrow::read(custodians)?;
        let files = decisions(&self.approvals)?;
        folder_for(opening.index(), &self.out)?;
        let grant = grant(&opening, &key, &custodians, &files, now())?;
        for line in grant.lines() {
            eprintln!("gst-compliance: {line}");
        }
        let asked = grant.asked().clone();
        let (mut reader, access) = opening.unlock_together(grant, Way::BreakGlass, now())?;
        let tracks: Vec<_> = reader.tracks().map(|track| track.id).collect();
        let (mut members, mut written) = (0, Ok(()));
        for track in tracks {
            match release(&mut reader, track, &asked.recipient, &self.out) {
                Ok(released) => {
                    members += released.members;
                    println!(
                        "{}: {} bytes of Matroska, encrypted",
                        released.path.display(),
                        released.bytes
                    );
                }
                Err(error) => {
                    written = Err(error);
                    break;
                }
            }
        }
        access.end(members, now())?;
        Ok(written?)
    }
}

/// The one-time key of a request.
pub fn station_key(path: &Path) -> Result<Identity, Box<dyn Error>> {
    let found = <[Identity; 1]>::try_from(identities(path)?);
    let [key] = found.map_err(|_| format!("{} is no station's key of a request", path.display()))?;
    Ok(key)
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
