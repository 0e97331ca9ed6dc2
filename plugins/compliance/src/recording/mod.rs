//! A recording on disk: written, resumed after a crash, verified without any media key, and read with one.
//!
//! Everything that is said in `RECORDING.md` of a recording's folder is done here, and no more: no GStreamer, no clock,
//! no gate. What must never happen: plaintext reaches the disk, something is called sealed that a power cut could still
//! take, or a change to anything in the folder goes unnoticed by [`verify`].

use std::io;
use std::path::{Path, PathBuf};

use crate::age_file;

pub mod contents;
pub mod disk;
pub mod facts;
mod find;
pub mod holders;
pub mod manifest;
pub mod member;
mod open;
mod recover;
pub(crate) mod together;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use contents::{Contents, GapInfo, MemberInfo, TrackInfo};
pub use disk::{Disk, DiskFile, RealDisk};
pub use facts::{Claim, Facts, Start};
pub use find::find;
pub use holders::{HoldersError, KeyHolders, Rewrapping, Rewraps};
pub(crate) use holders::{REWRAP_FILE, Rewrap};
pub use manifest::{Medium, Root, TrackId};
pub(crate) use open::Key;
pub(crate) use open::unwrap;
pub use open::{Access, Index, OpenError, Reader, Request, export};
pub(crate) use recover::ends;
pub use recover::{Cut, Left, Recovery, Resume, is_finished};
pub use verify::{Damage, Options, Place, Report, State, TrackReport, What, verify, verify_and};
pub use writer::{Gap, Recording, Sealed, Segment, Track};

/// The signed facts of a recording.
pub const RECORDING_FILE: &str = "recording.json";
/// The signed, chained lines.
pub const MANIFEST_FILE: &str = "manifest";
/// The folder of the tars.
pub const TRACKS: &str = "tracks";
/// Blocks that are kept for the end record; gone when the recording has ended.
pub const RESERVE_FILE: &str = "reserve";

/// Why a recording cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The system refuses: disk full, not permitted, broken.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// There is a recording of this id.
    #[error("{0} exists already: its key bundle was used before, and is not used again")]
    Exists(PathBuf),
    /// Another process records there.
    #[error("{0} is being written by another process")]
    InUse(PathBuf),
    /// It has its end record.
    #[error("{0} has ended: it cannot go on")]
    Ended(PathBuf),
    /// The audit log is another one.
    #[error(
        "{path} was begun under the audit log key {pinned}, and the log here has {key}: give it the log it began with"
    )]
    AnotherLog {
        /// The recording.
        path: PathBuf,
        /// The key in recording.json.
        pinned: crate::signing::PublicKey,
        /// The key of the signer that was given.
        key: crate::signing::PublicKey,
    },
    /// More than a crash can explain.
    #[error(
        "{path} is damaged and cannot go on: {why}. gst-compliance verify says what is left; record under a new key bundle"
    )]
    Damaged {
        /// The recording.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A caller's mistake, or outside bytes that are out of bounds.
    #[error("cannot be recorded: {0}")]
    Unfit(String),
    /// After a failed write nothing is taken any more.
    #[error("the recording failed to write and only ends now")]
    Failed,
    /// Nothing can be sealed.
    #[error(transparent)]
    Seal(#[from] age_file::SealError),
}

impl RecordingError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }

    fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            why: why.into(),
        }
    }

    /// Has the disk, or the quota, no room left?
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Io { error, .. }
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        )
    }
}

/// Text that stands in a recording and is shown to people: no more than so many bytes, and no control characters.
fn is_plain(text: &str, limit: usize) -> bool {
    text.len() <= limit && !text.chars().any(char::is_control)
}
