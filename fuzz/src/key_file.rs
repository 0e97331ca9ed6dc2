//! The key file: a person writes it, or another program.

use super::Seen;
use gstsframe::key_file::{KeyFile, KeyFileError};
use std::fs::File;
use std::io::{Seek, Write};
use tempfile::NamedTempFile;

thread_local! {
    /// One file for all runs, in memory where there is such a place: only its content changes.
    static FILE: Option<NamedTempFile> =
        NamedTempFile::new_in("/dev/shm").or_else(|_| NamedTempFile::new()).ok();
}

fn read(text: &[u8]) -> Option<Result<KeyFile, KeyFileError>> {
    FILE.with(|file| {
        let file = file.as_ref()?;
        let mut writer: &File = file.as_file();
        writer.set_len(0).ok()?;
        writer.rewind().ok()?;
        writer.write_all(text).ok()?;
        Some(KeyFile::read(file.path()))
    })
}

/// The bytes are the file.
pub fn run(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    match read(bytes) {
        Some(Ok(keys)) => {
            let mut text = String::new();
            for kid in keys.kids() {
                let key = keys.get(kid).unwrap_or_default();
                assert!(key.len() >= 16);
                let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                text += &format!("{kid} {hex}\n");
            }
            assert!(!text.is_empty());
            // Written anew it says the same.
            let again = read(text.as_bytes()).and_then(Result::ok);
            assert!(again.is_some_and(|again| {
                again.kids().eq(keys.kids()) && keys.kids().all(|kid| keys.get(kid) == again.get(kid))
            }));
            seen.insert("keys");
        }
        Some(Err(KeyFileError::Line { line, .. })) => {
            assert!((1..=bytes.split(|&byte| byte == b'\n').count()).contains(&line));
            seen.insert("bad line");
        }
        Some(Err(KeyFileError::Empty(_))) => {
            seen.insert("no key");
        }
        Some(Err(error)) => panic!("{error}"),
        None => panic!("the temporary file cannot be written"),
    }
    seen
}
