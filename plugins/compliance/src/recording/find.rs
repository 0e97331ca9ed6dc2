//! Recordings below a folder.

use std::io;
use std::path::{Path, PathBuf};

use super::RECORDING_FILE;

/// The recording in a folder, or those in its folders, in the order of their names. What a crash left before it was one,
/// in a folder with a name that begins with a dot, is none.
pub fn find(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if is_recording(folder) {
        return Ok(vec![folder.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && is_recording(&entry.path()) {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn is_recording(folder: &Path) -> bool {
    folder
        .join(RECORDING_FILE)
        .symlink_metadata()
        .is_ok_and(|found| found.is_file())
}
