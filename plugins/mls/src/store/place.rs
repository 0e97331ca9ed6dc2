//! Where state and its key lie on disk, and who may read them.
//!
//! The key is 32 bytes, raw or as 64 hex digits, in a file that nobody else may read, or a systemd credential.
//! It never appears in a property, a command line or an error text.

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

use super::StoreError;

/// Below the user's state directory.
const FOLDER: &str = "gst-e2ee/mls";

/// Name of the default key file, and of the systemd credential that goes before it.
const KEY_FILE: &str = "state-key";
const CREDENTIAL: &str = "gst-e2ee-mls-state-key";

/// Where the key of the state comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StateKey {
    /// The systemd credential `gst-e2ee-mls-state-key` where the service has it, else the file `state-key` in the
    /// default folder, which is made with a random key where it does not exist.
    #[default]
    Default,
    /// This file.
    File(PathBuf),
    /// The systemd credential of this name (`LoadCredentialEncrypted=`).
    Credential(String),
}

impl StateKey {
    /// From a property: nothing, `credential:NAME`, or a path.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            None | Some("") => Self::Default,
            Some(text) => match text.strip_prefix("credential:") {
                Some(name) => Self::Credential(name.into()),
                None => Self::File(text.into()),
            },
        }
    }
}

/// Why there is no key. Never shows its content.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read, or not be made.
    #[error("cannot {what} state key {path}: {source}{}", if path.starts_with("~") { " (~ is not expanded here)" } else { "" })]
    Io {
        /// `read` or `make`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others may read it.
    #[error("state key {0} can be read by other users (mode {1:03o}): run `chmod 600 {0}`")]
    TooOpen(PathBuf, u32),
    /// It is something else.
    #[error(
        "{0} is not a state key: expected 64 hex digits or 32 raw bytes; `openssl rand -hex 32` makes one"
    )]
    Malformed(PathBuf),
    /// Not started by systemd, or without credentials.
    #[error(
        "no systemd credential \"{0}\": $CREDENTIALS_DIRECTORY is not set. Give the service \
         LoadCredentialEncrypted={0}, or use a state-key-file"
    )]
    NoCredentials(String),
    /// A credential's name is a file name.
    #[error("\"{0}\" cannot be the name of a systemd credential")]
    CredentialName(String),
    /// There is no place for it.
    #[error(
        "no state directory: set HOME or XDG_STATE_HOME, or the properties state-file and state-key-file"
    )]
    NoStateDirectory,
}

/// What of the environment matters here.
struct Environment {
    state_home: Option<OsString>,
    home: Option<OsString>,
    credentials: Option<OsString>,
}

impl Environment {
    fn of_process() -> Self {
        Self {
            state_home: std::env::var_os("XDG_STATE_HOME"),
            home: std::env::var_os("HOME"),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY"),
        }
    }

    fn folder(&self) -> Result<PathBuf, KeyError> {
        let absolute = |value: &Option<OsString>| {
            value
                .as_ref()
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let state = absolute(&self.state_home)
            .or_else(|| absolute(&self.home).map(|home| home.join(".local/state")))
            .ok_or(KeyError::NoStateDirectory)?;
        Ok(state.join(FOLDER))
    }

    fn key(&self, from: &StateKey) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        match from {
            StateKey::File(path) => read_key(path, 0o077),
            StateKey::Credential(name) => self.credential(name),
            StateKey::Default => {
                let given = self
                    .credentials
                    .as_ref()
                    .is_some_and(|folder| Path::new(folder).join(CREDENTIAL).exists());
                if given {
                    return self.credential(CREDENTIAL);
                }
                let path = self.folder()?.join(KEY_FILE);
                match read_key(&path, 0o077) {
                    Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                        make_key(&path).map_err(|source| KeyError::Io {
                            what: "make",
                            path: path.clone(),
                            source,
                        })?;
                        read_key(&path, 0o077)
                    }
                    result => result,
                }
            }
        }
    }

    fn credential(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(KeyError::CredentialName(name.into()));
        }
        let folder = self
            .credentials
            .as_ref()
            .ok_or_else(|| KeyError::NoCredentials(name.into()))?;
        // systemd lets the service's user in by an ACL, whose mask shows as the group's bits.
        read_key(&Path::new(folder).join(name), 0o007)
    }
}

/// The key of the state.
pub fn state_key(from: &StateKey) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    Environment::of_process().key(from)
}

/// The default state file of an endpoint: one for each room and certificate (`fingerprint`: SHA-256 of its DER). The
/// room's name does not show in it.
pub fn default_state_file(room: &str, fingerprint: &[u8; 32]) -> Result<PathBuf, KeyError> {
    let folder = Environment::of_process().folder()?;
    Ok(folder.join(state_file_name(room, fingerprint)))
}

fn state_file_name(room: &str, fingerprint: &[u8; 32]) -> String {
    let room = digest::digest(&digest::SHA256, room.as_bytes());
    format!(
        "{}-{}.db",
        hex::encode(&room.as_ref()[..8]),
        hex::encode(&fingerprint[..8])
    )
}

/// Makes the folder of a file, for its owner alone, where it does not exist.
pub(super) fn private_folder(path: &Path) -> Result<(), StoreError> {
    make_folder(path).map_err(|source| StoreError::Io {
        path: path.into(),
        source,
    })
}

fn make_folder(path: &Path) -> io::Result<()> {
    match folder_of(path) {
        Some(folder) => DirBuilder::new().recursive(true).mode(0o700).create(folder),
        None => Ok(()),
    }
}

fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

fn read_key(path: &Path, forbidden: u32) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let io = |source| KeyError::Io {
        what: "read",
        path: path.into(),
        source,
    };
    // Before it is opened: opening a FIFO would wait for its writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(KeyError::Malformed(path.into()));
    }
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.mode();
    if mode & forbidden != 0 {
        return Err(KeyError::TooOpen(path.into(), mode & 0o777));
    }
    // 64 digits and the end of a line; one more shows that it is too long.
    let mut text = Zeroizing::new(Vec::with_capacity(80));
    file.take(67).read_to_end(&mut text).map_err(io)?;
    parse_key(&text).ok_or_else(|| KeyError::Malformed(path.into()))
}

fn parse_key(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    if text.len() == key.len() {
        key.copy_from_slice(text);
    } else {
        hex::decode_to_slice(text.trim_ascii_end(), &mut key[..]).ok()?;
    }
    Some(key)
}

/// Makes a random key. Where two processes do so at once, both find the same one afterwards.
fn make_key(path: &Path) -> io::Result<()> {
    make_folder(path)?;
    let mut key = Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(&mut key[..])
        .map_err(|_| io::Error::other("the system's random numbers failed"))?;
    let mut text = Zeroizing::new([0; 65]);
    hex::encode_to_slice(&key[..], &mut text[..64]).map_err(io::Error::other)?;
    text[64] = b'\n';
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(
        ".{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let draft = PathBuf::from(draft);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(&text[..])?;
        file.sync_all()?;
        // A link never replaces: whoever was first stays.
        match std::fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    };
    let written = write();
    let _ = std::fs::remove_file(&draft);
    written?;
    match folder_of(path) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
