//! Files that came from elsewhere: read with a limit, never followed to what is no file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gstcompliance::breakglass::decision::MAX_FILE;
use gstcompliance::breakglass::judge::Submitted;

/// Most files of decisions: of 255 custodians, each more than once.
const MAX_DECISIONS: usize = 1024;

/// Reads a file of at most so many bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("it is longer than {limit} bytes")));
        }
        Ok(bytes)
    };
    read().map_err(|error: io::Error| format!("{} cannot be read: {error}", path.display()))
}

/// Reads what custodians sent: files, and the files of folders. One that cannot be read is handed on as such, so that the
/// log tells of it.
pub fn decisions(places: &[PathBuf]) -> Result<Vec<Submitted>, String> {
    let mut paths = Vec::new();
    for place in places {
        let failed = |error: io::Error| format!("{} cannot be read: {error}", place.display());
        if !fs::metadata(place).map_err(failed)?.is_dir() {
            paths.push(place.clone());
            continue;
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(place).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_file() {
                found.push(entry.path());
            }
            if found.len() > MAX_DECISIONS {
                return Err(format!("{} has more than {MAX_DECISIONS} files", place.display()));
            }
        }
        found.sort();
        paths.extend(found);
    }
    let submitted = paths.iter().map(|path| Submitted {
        name: path.display().to_string(),
        bytes: read(path, MAX_FILE).ok(),
    });
    Ok(submitted.collect())
}
