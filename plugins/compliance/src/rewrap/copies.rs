//! Copies of key files that the recorder keeps: a bundle that was used stays under `used/`, so that nobody uses it twice.

use std::fs::File;
use std::path::Path;

use super::RewrapError;
use super::stage::remove;
use crate::bundle::{KEY_FILE, SHARES, USED};
use crate::ids::RecordingId;

/// Removes the key files of a recording's bundle, used or not, from a recorder's `keys`. The name of a used one stays: it
/// says that it was used. How many files that were.
pub(crate) fn remove_copies(keys: &Path, recording: RecordingId) -> Result<u64, RewrapError> {
    let id = recording.to_string();
    let mut files = 0;
    for folder in [keys.join(USED).join(&id), keys.join(&id)] {
        let before = files;
        for name in [KEY_FILE, SHARES] {
            let place = folder.join(name);
            files += remove(&place).map_err(RewrapError::io(&place))?;
        }
        if files > before {
            File::open(&folder)
                .and_then(|folder| folder.sync_all())
                .map_err(RewrapError::io(&folder))?;
        }
    }
    Ok(files)
}
