//! Taking a bundle for a recording: once, whatever other processes do and whenever this one dies.
//!
//! A bundle is taken by the rename of its folder to `used/`, which the system lets only one of all who try succeed in,
//! and which stands on the disk before anybody records under it. Who dies between that and the recording has wasted
//! a key, never used one twice. A bundle that comes back (out of a backup) is not taken while its name is in `used/`.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::{Bundle, BundleError, USED};
use crate::ids::RecordingId;
use crate::signing::PublicKey;

/// Takes the next unused bundle in a directory that `fits`. `dealer`: who must have made it; none: anybody.
///
/// A bundle that is damaged or forged is an error and no reason to take the next one: somebody has to look.
pub fn take_next(
    keys: &Path,
    dealer: Option<PublicKey>,
    fits: &dyn Fn(&Bundle) -> bool,
) -> Result<Bundle, BundleError> {
    let used = keys.join(USED);
    let mut others = 0;
    for id in unused(keys)? {
        let place = keys.join(id.to_string());
        let taken = used.join(id.to_string());
        if fs::symlink_metadata(&taken).is_ok() {
            continue;
        }
        let bundle = match Bundle::read(&place, dealer) {
            Ok(bundle) => bundle,
            // Somebody took it while it was being read.
            Err(_) if !place.exists() => continue,
            Err(error) => return Err(error),
        };
        if !fits(&bundle) {
            others += 1;
            continue;
        }
        if rename(&place, &taken, &used, keys)? {
            // What was verified is what stands in memory; the folder is not read again.
            return Ok(bundle);
        }
    }
    if others == 0 {
        Err(BundleError::NoneLeft(keys.to_owned()))
    } else {
        let path = keys.to_owned();
        Err(BundleError::NoneFits { path, others })
    }
}

/// The folders that have the name of a recording, in order.
fn unused(keys: &Path) -> Result<Vec<RecordingId>, BundleError> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(keys).map_err(BundleError::io(keys))? {
        let entry = entry.map_err(BundleError::io(keys))?;
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Moves a bundle to the used ones, durably. False: another process was faster.
fn rename(place: &Path, taken: &Path, used: &Path, keys: &Path) -> Result<bool, BundleError> {
    match DirBuilder::new().mode(0o755).create(used) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(BundleError::io(used)(error));
        }
        _ => {}
    }
    match fs::rename(place, taken) {
        Ok(()) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
            ) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(BundleError::io(place)(error)),
    }
    for folder in [used, keys] {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(BundleError::io(folder))?;
    }
    Ok(true)
}
