//! Who holds a recording's key now: those for whom it was recorded, or those to whom it was wrapped since.
//!
//! ```text
//! recording.json  key.age | shares/       as it was recorded; the key files are gone once it was re-wrapped
//! holders/1/rewrap.json                   whom the first re-wrapping named; its key files are gone since the second
//! holders/2/rewrap.json  key.age | shares/
//! holders/.next/                          a re-wrapping that has not taken effect
//! ```
//!
//! The statement in `rewrap.json` is signed by the audit log's key and names the one before by its digest, so that nobody
//! without that key can add one or take one out of the middle. That the *last* one is missing only the log tells:
//! [`Rewraps`]. A folder gets its number by one rename, after the log has the entry, so that at every moment the recording
//! is for the old holders or for the new ones.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{Facts, MANIFEST_FILE};
use crate::bundle::{
    self, EscrowFacts, FileFacts, KEY_FILE, SHARES, STATEMENT_FILE, names_fit, read_bounded,
};
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::signing::{PublicKey, Signature, Signer};

/// The folder of the re-wrappings.
pub const HOLDERS: &str = "holders";
/// The signed statement of a re-wrapping.
pub const REWRAP_FILE: &str = "rewrap.json";
/// A re-wrapping that has not taken effect yet.
pub const NEXT: &str = ".next";

/// What the signature is for.
const PURPOSE: &str = "rewrap";
/// Most times that a recording's key is wrapped to others.
pub const MAX_NUMBER: u32 = 9999;
/// A folder that is moved while it is read is read anew, so often.
const TRIES: usize = 5;

/// A re-wrapping, as the audit log knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrapping {
    /// How often that was done to the recording, this time included.
    pub number: u32,
    /// SHA-256 of its `rewrap.json`.
    pub statement: Digest,
}

/// What the audit log says of a recording's re-wrappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rewraps {
    /// The log is not at hand.
    #[default]
    Unknown,
    /// There was none.
    Never,
    /// The last one.
    Last(Rewrapping),
    /// The key files were destroyed: nobody holds the key.
    Shredded,
}

/// What stands in `rewrap.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrap {
    /// Version of this form: 1.
    pub version: u32,
    /// Which recording.
    pub recording: RecordingId,
    /// From 1, and greater than the one before.
    pub number: u32,
    /// SHA-256 of the `rewrap.json` before; of the first one's, of `recording.json`.
    pub previous: Digest,
    /// Fingerprints of who can open it alone, sorted; empty under escrow.
    pub recipients: Vec<Digest>,
    /// Who can open it together; null where there are recipients.
    pub escrow: Option<EscrowFacts>,
    /// The files beside this one: `key.age`, or `shares/001.age` to `shares/<N>.age`.
    pub files: Vec<FileFacts>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    rewrap: String,
    signature: Signature,
}

impl Rewrap {
    /// Signs it and writes the file.
    pub fn encode(&self, log: &dyn Signer) -> Result<Vec<u8>, String> {
        self.consistent()?;
        let rewrap = serde_json::to_string(self).map_err(|e| e.to_string())?;
        let signed = Signed {
            signature: log.sign(PURPOSE, rewrap.as_bytes()),
            rewrap,
        };
        let mut bytes = serde_json::to_vec_pretty(&signed).map_err(|e| e.to_string())?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the file, checks the log key's signature, and that it is consistent in itself.
    pub fn decode(bytes: &[u8], log: &PublicKey) -> Result<Self, String> {
        let signed: Signed = serde_json::from_slice(bytes).map_err(|e| format!("cannot be read: {e}"))?;
        if !log.verifies(PURPOSE, signed.rewrap.as_bytes(), &signed.signature) {
            return Err("has not the signature of the audit log's key".to_owned());
        }
        let rewrap: Self =
            serde_json::from_str(&signed.rewrap).map_err(|e| format!("cannot be read: {e}"))?;
        rewrap.consistent()?;
        Ok(rewrap)
    }

    fn consistent(&self) -> Result<(), String> {
        if self.version != 1 {
            let version = self.version;
            return Err(format!("has version {version}; this program reads version 1"));
        }
        if !(1..=MAX_NUMBER).contains(&self.number) {
            return Err(format!("has a number that is not between 1 and {MAX_NUMBER}"));
        }
        if !names_fit(&self.recipients, self.escrow.as_ref(), &self.files) {
            return Err("has recipients, an escrow and files that contradict each other".to_owned());
        }
        Ok(())
    }
}

/// Who holds a recording's key, and in which files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyHolders {
    /// How often the key was wrapped to others. 0: it is as it was recorded.
    pub number: u32,
    /// Fingerprints of who can open the recording alone.
    pub recipients: Vec<Digest>,
    /// Who can open it together.
    pub escrow: Option<EscrowFacts>,
    /// `key.age` or the shares.
    pub files: Vec<FileFacts>,
    /// SHA-256 of the file that says so: `rewrap.json`, or `recording.json`.
    pub statement: Digest,
    /// Where that and the key files lie, below the recording's folder; empty: in it.
    pub folder: String,
}

/// Why it is not known who holds a recording's key.
#[derive(Debug, thiserror::Error)]
pub enum HoldersError {
    /// The system refuses.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A statement does not hold.
    #[error("its {name} {why}")]
    Damaged {
        /// The file or folder, below the recording's.
        name: String,
        /// What does not hold.
        why: String,
    },
    /// The folder is older than the log.
    #[error(
        "the audit log knows that its key was re-wrapped {logged} times, and the folder says {found}: an older copy was put back, which is for holders of before. Put the newer folder back, or run gst-compliance rewrap for it again"
    )]
    RolledBack {
        /// The number in the log.
        logged: u32,
        /// The number in the folder.
        found: u32,
    },
    /// Nobody holds it.
    #[error(
        "the audit log says that its key files were destroyed. Those that are here were put back from a copy: destroy them, and the copy"
    )]
    Shredded,
    /// The log does not know it.
    #[error(
        "its key was re-wrapped (number {0}), and the audit log has no entry of that: it was not done by gst-compliance rewrap, or the log was put back to an older state"
    )]
    NotLogged(u32),
}

impl HoldersError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }

    fn damaged(name: &str, why: impl Into<String>) -> Self {
        Self::Damaged {
            name: name.to_owned(),
            why: why.into(),
        }
    }
}

/// What lies in `holders/`.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Numbers of re-wrappings, in order.
    pub numbers: Vec<u32>,
    /// Is there one that has not taken effect?
    pub next: bool,
    /// Whatever else lies there.
    pub others: Vec<String>,
}

/// Lists `holders/`.
pub(crate) fn list(recording: &Path) -> Result<Listed, HoldersError> {
    let folder = recording.join(HOLDERS);
    let mut listed = Listed::default();
    match fs::symlink_metadata(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listed),
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(HoldersError::damaged(HOLDERS, "is no folder")),
        Err(error) => return Err(HoldersError::io(&folder)(error)),
    }
    for entry in fs::read_dir(&folder).map_err(HoldersError::io(&folder))? {
        let entry = entry.map_err(HoldersError::io(&folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name
            .parse()
            .ok()
            .filter(|number: &u32| number.to_string() == name && (1..=MAX_NUMBER).contains(number));
        match number {
            Some(number) => listed.numbers.push(number),
            None if name == NEXT => listed.next = true,
            None => listed.others.push(name),
        }
    }
    listed.numbers.sort_unstable();
    Ok(listed)
}

impl KeyHolders {
    /// As it was recorded. `file`: `recording.json`.
    pub fn recorded(facts: &Facts, file: &[u8]) -> Self {
        let files = facts.files.iter();
        Self {
            number: 0,
            recipients: facts.recipients.clone(),
            escrow: facts.escrow.clone(),
            files: files
                .filter(|file| file.name != STATEMENT_FILE)
                .cloned()
                .collect(),
            statement: Digest::of(file),
            folder: String::new(),
        }
    }

    /// As the recording's folder says, and as the log knows it. `file`: `recording.json`.
    ///
    /// Where the log has a re-wrapping that was interrupted before it took effect in the folder, it has: what it names are
    /// the holders.
    pub fn read(path: &Path, facts: &Facts, file: &[u8], log: Rewraps) -> Result<Self, HoldersError> {
        let mut last = Ok(Self::recorded(facts, file));
        for _ in 0..TRIES {
            last = Self::try_read(path, facts, file, log);
            match &last {
                // It was moved to its name meanwhile, or the one before was.
                Err(HoldersError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
                _ => break,
            }
        }
        last
    }

    fn try_read(path: &Path, facts: &Facts, file: &[u8], log: Rewraps) -> Result<Self, HoldersError> {
        let listed = list(path)?;
        let mut current = Self::recorded(facts, file);
        for number in listed.numbers {
            current = current.followed(path, facts, &number.to_string(), Some(number))?;
        }
        let logged = match log {
            Rewraps::Unknown => return Ok(current),
            Rewraps::Shredded => return Err(HoldersError::Shredded),
            Rewraps::Never => 0,
            Rewraps::Last(last) if last.number == current.number => {
                if last.statement != current.statement {
                    let why = "is not the one that the audit log knows";
                    return Err(HoldersError::damaged(&current.in_folder(REWRAP_FILE), why));
                }
                return Ok(current);
            }
            Rewraps::Last(last) => {
                if listed.next
                    && let Ok(next) = current.followed(path, facts, NEXT, None)
                    && (next.number, next.statement) == (last.number, last.statement)
                {
                    return Ok(next);
                }
                last.number
            }
        };
        match logged.cmp(&current.number) {
            std::cmp::Ordering::Greater => Err(HoldersError::RolledBack {
                logged,
                found: current.number,
            }),
            std::cmp::Ordering::Less => Err(HoldersError::NotLogged(current.number)),
            std::cmp::Ordering::Equal => Ok(current),
        }
    }

    /// The re-wrapping that goes on from these, in `holders/<name>`.
    pub(crate) fn followed(
        &self,
        path: &Path,
        facts: &Facts,
        name: &str,
        number: Option<u32>,
    ) -> Result<Self, HoldersError> {
        let folder = format!("{HOLDERS}/{name}");
        let file = format!("{folder}/{REWRAP_FILE}");
        let place = path.join(&file);
        let bytes = read_bounded(&place, bundle::MAX_FILE).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => HoldersError::damaged(&file, "is too long, or no regular file"),
            _ => HoldersError::io(&place)(error),
        })?;
        let rewrap =
            Rewrap::decode(&bytes, &facts.log_key).map_err(|why| HoldersError::damaged(&file, why))?;
        let why = if rewrap.recording != facts.recording {
            "is of another recording"
        } else if number.unwrap_or(rewrap.number) != rewrap.number || rewrap.number <= self.number {
            "has another number than its folder"
        } else if rewrap.previous != self.statement {
            "does not go on from the statement before it: one is missing, or was replaced"
        } else {
            return Ok(Self {
                number: rewrap.number,
                recipients: rewrap.recipients,
                escrow: rewrap.escrow,
                files: rewrap.files,
                statement: Digest::of(&bytes),
                folder,
            });
        };
        Err(HoldersError::damaged(&file, why))
    }

    /// A file's place below the recording's folder. `name`: as in `files`.
    pub fn in_folder(&self, name: &str) -> String {
        match self.folder.as_str() {
            "" => name.to_owned(),
            folder => format!("{folder}/{name}"),
        }
    }

    /// Where a key file lies. `recording`: the recording's folder; `name`: as in `files`.
    pub fn place(&self, recording: &Path, name: &str) -> PathBuf {
        recording.join(self.in_folder(name))
    }
}

/// Key files of a recording that are not those of its holders: of holders before, which still open it for them, and of
/// a re-wrapping that was interrupted. Names below the recording's folder.
pub(crate) fn left_over(path: &Path, current: &KeyHolders) -> Result<Vec<String>, HoldersError> {
    let listed = list(path)?;
    let mut folders: Vec<String> = Vec::new();
    if current.number > 0 {
        folders.push(String::new());
    }
    let before = listed
        .numbers
        .iter()
        .map(|number| format!("{HOLDERS}/{number}"))
        .filter(|folder| *folder != current.folder);
    folders.extend(before.map(|folder| format!("{folder}/")));
    let mut found = Vec::new();
    for folder in folders {
        for name in [KEY_FILE, SHARES] {
            let name = format!("{folder}{name}");
            if fs::symlink_metadata(path.join(&name)).is_ok() {
                found.push(name);
            }
        }
    }
    let next = format!("{HOLDERS}/{NEXT}");
    if listed.next && current.folder != next {
        found.push(next);
    }
    Ok(found)
}

/// Locks a recording against others who change who holds it, delete it, or record it. None: somebody does.
pub fn lock(path: &Path) -> io::Result<Option<File>> {
    let manifest = File::open(path.join(MANIFEST_FILE))?;
    match flock(&manifest, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(manifest)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
