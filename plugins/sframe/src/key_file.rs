//! The key file: static keys for tests, interoperability and vendors with a key delivery of their own.
//!
//! Text, one key a line: `<kid decimal> <base key hex>`; `#` starts a comment. One KID per sending machine and
//! stream: two senders with one key and KID would repeat nonces. Nobody but the owner may read the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A shorter base key could be guessed.
const MIN_KEY_LEN: usize = 16;
const MAX_FILE_LEN: u64 = 1 << 20;

/// Static keys by KID.
pub struct KeyFile(BTreeMap<u64, Zeroizing<Vec<u8>>>);

/// Why a key file was not taken. Never shows its content.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read key-file {path}: {source}{}", if path.starts_with("~") { " (~ is not expanded here)" } else { "" })]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is a directory, a device or a pipe.
    #[error("key-file {0} is not a regular file")]
    NotAFile(PathBuf),
    /// Others may read it.
    #[error("key-file {0} can be read by other users (mode {1:03o}): run `chmod 600 {0}`")]
    TooOpen(PathBuf, u32),
    /// It is not a key file at all.
    #[error("key-file {0} is larger than 1 MiB: this is not a key file")]
    TooLarge(PathBuf),
    /// A line does not parse.
    #[error("key-file {path}, line {line}: {problem}; expected `<kid decimal> <base key hex>`")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no key in it.
    #[error("key-file {0} holds no key; add a line `<kid decimal> <base key hex>`")]
    Empty(PathBuf),
}

impl KeyFile {
    /// Reads and checks a key file.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io {
            path: path.into(),
            source,
        };
        // Before it is opened: opening a FIFO would wait for its writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(KeyFileError::NotAFile(path.into()));
        }
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(KeyFileError::TooOpen(path.into(), metadata.mode() & 0o777));
        }
        // Sized once, so that growing does not leave copies of the keys behind.
        let mut text = Zeroizing::new(Vec::with_capacity(metadata.len().min(MAX_FILE_LEN) as usize + 1));
        file.take(MAX_FILE_LEN + 1).read_to_end(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_FILE_LEN {
            return Err(KeyFileError::TooLarge(path.into()));
        }
        let keys = parse(&text).map_err(|(line, problem)| KeyFileError::Line {
            path: path.into(),
            line,
            problem,
        })?;
        if keys.is_empty() {
            return Err(KeyFileError::Empty(path.into()));
        }
        Ok(Self(keys))
    }

    /// The base key of a KID.
    pub fn get(&self, kid: u64) -> Option<&[u8]> {
        self.0.get(&kid).map(|key| &key[..])
    }

    /// All KIDs, for error texts.
    pub fn kids(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }
}

type Keys = BTreeMap<u64, Zeroizing<Vec<u8>>>;

fn parse(text: &[u8]) -> Result<Keys, (usize, &'static str)> {
    let mut keys = Keys::new();
    for (number, line) in text.split(|&b| b == b'\n').enumerate() {
        let fail = |problem| (number + 1, problem);
        let line = line.split(|&b| b == b'#').next().unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        let Some(kid) = words.next() else { continue };
        let kid = std::str::from_utf8(kid)
            .ok()
            .filter(|kid| kid.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|kid| kid.parse().ok())
            .ok_or(fail("the KID is not a decimal number below 2^64 in plain ASCII"))?;
        let key = words.next().ok_or(fail("there is no key after the KID"))?;
        if words.next().is_some() {
            return Err(fail("there is something after the key"));
        }
        let key = unhex(key).ok_or(fail("the key is not hexadecimal (and has no 0x before it)"))?;
        if key.len() < MIN_KEY_LEN {
            return Err(fail("the key is shorter than 16 bytes (32 hex digits)"));
        }
        if key.iter().all(|&byte| byte == 0) {
            return Err(fail("the key is all zeros"));
        }
        if keys.insert(kid, key).is_some() {
            return Err(fail("this KID was on an earlier line already"));
        }
    }
    Ok(keys)
}

fn unhex(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.chunks_exact(2) {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        bytes.push((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    const KEY: &str = "000102030405060708090a0b0c0d0e0F";

    #[test]
    fn reads_keys_comments_and_empty_lines() {
        let (_dir, path) = written(
            &format!("# keys\n\n 7 {KEY} # camera\r\n18446744073709551615\t{KEY}{KEY}"),
            0o600,
        );
        let keys = KeyFile::read(&path).unwrap();
        assert_eq!(keys.get(7).unwrap(), (0..16).collect::<Vec<u8>>());
        assert_eq!(keys.get(u64::MAX).unwrap().len(), 32);
        assert_eq!(keys.get(8), None);
        assert_eq!(keys.kids().collect::<Vec<_>>(), [7, u64::MAX]);
    }

    #[test]
    fn says_how_to_close_an_open_file() {
        for mode in [0o640, 0o604, 0o620] {
            let (_dir, path) = written(&format!("1 {KEY}"), mode);
            let error = KeyFile::read(&path).err().unwrap().to_string();
            assert!(
                error.contains(&format!("chmod 600 {}", path.display())),
                "{error}"
            );
        }
    }

    #[test]
    fn errors_name_the_line_and_never_show_the_key() {
        for (text, line) in [
            (format!("1 {KEY}\n-1 {KEY}"), 2),
            (format!("0x1 {KEY}"), 1),
            (format!("+1 {KEY}"), 1),
            (format!("1 {KEY} 2"), 1),
            (format!("\n1 {}", &KEY[1..]), 2),
            (format!("1 {}", &KEY[2..]), 1),
            (format!("1 {KEY}\n1 {KEY}"), 2),
            (format!("1 zz{KEY}"), 1),
            (format!("1 0x{KEY}"), 1),
            (format!("1 {}", "0".repeat(32)), 1),
            ("18446744073709551616 aa".into(), 1),
            ("1".into(), 1),
        ] {
            let (_dir, path) = written(&text, 0o600);
            let error = KeyFile::read(&path).err().unwrap().to_string();
            assert!(error.contains(&format!("line {line}:")), "{text}: {error}");
            assert!(!error.contains("0405"), "{error}");
        }
    }

    #[test]
    fn nothing_in_it_is_an_error() {
        let (_dir, path) = written("# later\n", 0o600);
        assert!(matches!(KeyFile::read(&path), Err(KeyFileError::Empty(_))));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            KeyFile::read(dir.path()),
            Err(KeyFileError::NotAFile(_))
        ));
        let (_dir, path) = written(&"#".repeat(MAX_FILE_LEN as usize + 1), 0o600);
        assert!(matches!(KeyFile::read(&path), Err(KeyFileError::TooLarge(_))));
    }
}
