//! Where a log's files may be, and whether they still are the ones that were opened.
//!
//! The folder belongs to the user and nobody else writes into it. That is all the protection that the files need: in
//! such a folder nobody can put a link, or a file of his own, under a name that we are about to open.

use super::DeliveryError;
use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The log's file if nobody says which: below `$XDG_RUNTIME_DIR` where that is this user's, else below `/tmp`.
pub fn default_path() -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    default_path_for(runtime, user)
}

pub(super) fn default_path_for(runtime: Option<PathBuf>, user: u32) -> PathBuf {
    runtime
        .filter(|folder| folder.is_absolute())
        // After `sudo` or `su` it often is the other user's still, or is not there.
        .filter(|folder| folder.metadata().is_ok_and(|metadata| metadata.uid() == user))
        .map(|folder| folder.join("gst-e2ee"))
        .unwrap_or_else(|| PathBuf::from(format!("/tmp/gst-e2ee-{user}")))
        .join("rooms.sqlite")
}

/// Makes the folder of a file where it is missing and checks that it belongs to this user alone. `private`: it is a
/// folder of ours, so others have no business in it at all.
pub(super) fn prepare_folder(file: &Path, private: bool) -> Result<(), DeliveryError> {
    let Some(folder) = file.parent() else {
        return Err(DeliveryError::NotAFile(file.into()));
    };
    let io = |source| io_error(folder, source);
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder).map_err(io)?;
    // A link to a folder is the user's own decision, but below /tmp it could be anybody's.
    let metadata = if private {
        folder.symlink_metadata()
    } else {
        folder.metadata()
    };
    let metadata = metadata.map_err(io)?;
    if !metadata.is_dir() {
        return Err(DeliveryError::NotAFile(file.into()));
    }
    check_access(folder, &metadata, if private { 0o077 } else { 0o022 })
}

/// A file that was opened: its name, and which file that was.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    file: (u64, u64),
}

impl Place {
    /// The file that is there now, if it is a plain one that nobody else can read or write. Does not open it: closing
    /// it again would release the locks that SQLite has on it in this process.
    pub(super) fn of(path: &Path) -> Result<Self, DeliveryError> {
        let metadata = path.symlink_metadata().map_err(|source| io_error(path, source))?;
        if !metadata.is_file() {
            return Err(DeliveryError::NotAFile(path.into()));
        }
        check_access(path, &metadata, 0o077)?;
        Ok(Self {
            path: path.into(),
            file: (metadata.dev(), metadata.ino()),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// An error where it is no longer there: under its name others would find nothing, or something else.
    pub(super) fn check(&self) -> Result<(), DeliveryError> {
        match self.path.symlink_metadata() {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.file => Ok(()),
            Ok(_) => Err(DeliveryError::Replaced(self.path.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(DeliveryError::Replaced(self.path.clone()))
            }
            Err(source) => Err(io_error(&self.path, source)),
        }
    }
}

pub(super) fn io_error(path: &Path, source: io::Error) -> DeliveryError {
    let path = path.into();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DeliveryError::DiskFull(path),
        _ => DeliveryError::Io { path, source },
    }
}

fn check_access(path: &Path, metadata: &Metadata, closed: u32) -> Result<(), DeliveryError> {
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(DeliveryError::OtherOwner(path.into()));
    }
    if metadata.mode() & closed != 0 {
        return Err(DeliveryError::TooOpen(path.into(), metadata.mode() & 0o7777));
    }
    Ok(())
}
