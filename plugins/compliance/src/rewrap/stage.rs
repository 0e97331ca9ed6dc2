//! New key files in a recording's folder: made where nobody else can enter, and put in their place by one rename.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::RewrapError;
use super::tally::Tally;
use crate::bundle::{KEY_FILE, SHARES};
use crate::recording::KeyHolders;
use crate::recording::holders::{HOLDERS, NEXT, REWRAP_FILE, left_over};

/// A re-wrapping in `holders/.next`.
pub(super) struct Stage {
    holders: PathBuf,
    number: u32,
}

impl Stage {
    /// One that was left by an earlier call.
    pub fn left(recording: &Path, number: u32) -> Self {
        Self {
            holders: recording.join(HOLDERS),
            number,
        }
    }

    /// Writes key files and their statement, durably. Nothing takes effect.
    pub fn write(
        recording: &Path,
        number: u32,
        files: &[(String, Vec<u8>)],
        statement: &[u8],
        tally: &Tally,
    ) -> Result<Self, RewrapError> {
        let stage = Self::left(recording, number);
        let is_new = make_folder(&stage.holders, 0o755)?;
        let next = stage.next();
        make_folder(&next, 0o700)?;
        let has_shares = files.iter().any(|(name, _)| name != KEY_FILE);
        if has_shares {
            make_folder(&next.join(SHARES), 0o755)?;
        }
        for (name, bytes) in files {
            write(&next.join(name), bytes, tally)?;
        }
        write(&next.join(REWRAP_FILE), statement, tally)?;
        if has_shares {
            sync(&next.join(SHARES), tally)?;
        }
        sync(&next, tally)?;
        sync(&stage.holders, tally)?;
        if is_new {
            sync(recording, tally)?;
        }
        Ok(stage)
    }

    fn next(&self) -> PathBuf {
        self.holders.join(NEXT)
    }

    /// Puts it in its place, durably.
    pub fn take_effect(&self, tally: &Tally) -> Result<(), RewrapError> {
        let next = self.next();
        let take = || {
            // As open as everything else in a recording, whose key files are wrapped.
            fs::set_permissions(&next, Permissions::from_mode(0o755))?;
            fs::rename(&next, self.holders.join(self.number.to_string()))
        };
        take().map_err(RewrapError::io(&next))?;
        sync(&self.holders, tally)
    }

    /// Removes it.
    pub fn discard(&self) -> Result<(), RewrapError> {
        remove(&self.next()).map_err(RewrapError::io(&self.next()))?;
        Ok(())
    }
}

/// Removes key files of holders before, and what was interrupted before the log had it, durably.
pub(super) fn tidy(recording: &Path, current: &KeyHolders, tally: &Tally) -> Result<(), RewrapError> {
    let names = left_over(recording, current)?;
    tally.opened(u64::from(current.number > 0));
    let mut folders: Vec<PathBuf> = Vec::new();
    for name in names {
        let place = recording.join(&name);
        if remove(&place).map_err(RewrapError::io(&place))? > 0 {
            tally.removed();
        }
        let folder = place.parent().unwrap_or(recording).to_owned();
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders.iter().try_for_each(|folder| sync(folder, tally))
}

/// Removes a file, or a folder with all that is in it, and follows no links. How many files that were; none: there was
/// nothing.
pub(crate) fn remove(place: &Path) -> io::Result<u64> {
    let removed = match fs::symlink_metadata(place) {
        Ok(found) if found.is_dir() => {
            let files = fs::read_dir(place)?.count() as u64;
            fs::remove_dir_all(place).map(|()| files)
        }
        Ok(_) => fs::remove_file(place).map(|()| 1),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        removed => removed,
    }
}

/// Makes a folder, or says that it was there.
fn make_folder(path: &Path, mode: u32) -> Result<bool, RewrapError> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(RewrapError::io(path)(error)),
    }
}

fn write(path: &Path, bytes: &[u8], tally: &Tally) -> Result<(), RewrapError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(RewrapError::io(path))?;
    tally.wrote(bytes.len());
    Ok(())
}

fn sync(folder: &Path, tally: &Tally) -> Result<(), RewrapError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(RewrapError::io(folder))?;
    tally.opened(1);
    Ok(())
}
