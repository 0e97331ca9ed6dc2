//! What comes out: each track as one age file for the requester's one-time key. On the station's disk it is never
//! plaintext; in memory it is one member at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use age::x25519::Recipient;

use crate::recording::{Index, OpenError, Reader, TrackId, TrackInfo, export};

/// Why a track did not come out.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The recording.
    #[error(transparent)]
    Recording(#[from] OpenError),
    /// The system refuses.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Nothing can be sealed.
    #[error("the track cannot be encrypted: {0}")]
    Seal(String),
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Where.
    pub path: PathBuf,
    /// Members of the track.
    pub members: u64,
    /// Bytes of the Matroska stream in it.
    pub bytes: u64,
}

/// The folder for what comes out: made, for its owner alone, where it does not exist.
pub fn folder(path: &Path) -> Result<(), ReleaseError> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(io(path))
}

/// The same, where no file is in the way of what comes out: a request is used up before the first one is made.
pub fn folder_for(index: &Index, path: &Path) -> Result<(), ReleaseError> {
    folder(path)?;
    for track in index.tracks() {
        let path = path.join(name(track));
        if fs::symlink_metadata(&path).is_ok() {
            return Err(io(&path)(io::ErrorKind::AlreadyExists.into()));
        }
    }
    Ok(())
}

fn name(track: &TrackInfo) -> String {
    format!("{}-{}.mkv.age", track.id, track.medium)
}

/// Writes a track into a folder. A file that could not be finished is removed.
pub fn release(
    reader: &mut Reader,
    track: TrackId,
    to: &Recipient,
    folder: &Path,
) -> Result<Released, ReleaseError> {
    let info = reader.index().track(track).ok_or(OpenError::NoTrack(track))?;
    let members = info.members.len() as u64;
    let path = folder.join(name(info));
    let mut options = OpenOptions::new();
    let mut file: File = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(io(&path))?;
    let written = seal(reader, track, to, &mut file, &path)
        .and_then(|bytes| file.sync_all().map(|()| bytes).map_err(io(&path)));
    match written {
        Ok(bytes) => Ok(Released { path, members, bytes }),
        Err(error) => {
            // The error that matters is the one before.
            let _ = fs::remove_file(&path);
            Err(error)
        }
    }
}

/// Seals a track as one age file. How many bytes of Matroska that are.
pub fn seal(
    reader: &mut Reader,
    track: TrackId,
    to: &Recipient,
    out: &mut dyn Write,
    path: &Path,
) -> Result<u64, ReleaseError> {
    let recipients = [to as &dyn age::Recipient];
    let encryptor = age::Encryptor::with_recipients(recipients.into_iter())
        .map_err(|error| ReleaseError::Seal(error.to_string()))?;
    let mut stream = encryptor.wrap_output(out).map_err(io(path))?;
    let bytes = export(reader, track, &mut stream, path)?;
    stream.finish().map_err(io(path))?;
    Ok(bytes)
}

fn io(path: &Path) -> impl FnOnce(io::Error) -> ReleaseError {
    let path = path.to_owned();
    move |error| ReleaseError::Io { path, error }
}
