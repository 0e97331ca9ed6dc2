//! A witness: somebody else's folder, on another machine, that remembers how far each log had come and cosigns only what
//! continues that.
//!
//! ```text
//! key, vkey                the witness's own key
//! logs/<log>/vkey          a log that it knows
//! logs/<log>/checkpoint    the newest checkpoint of that log, with the witness's own cosignature
//! lock, turn
//! ```
//!
//! It holds no entries and needs none: a request carries the proof. It never cosigns a log that became shorter, nor one
//! that became another: that is all that it is for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ed25519_dalek::SigningKey;

use super::checkpoint::{Kind, Line, MAX_NOTE, Note, NoteError, VerifierKey};
use super::folder::{Folder, FolderError, KEY, Lock, PATIENCE, VKEY, failed};
use super::log::{CHECKPOINT, Log, LogError, MAX_VKEY};
use super::proof::Request;
use super::tree::{hash, is_consistent};
use crate::signing::Signer;

/// Why a witness does not cosign.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The folder or a file in it.
    #[error("witness {0}")]
    Folder(#[from] FolderError),
    /// There is no witness.
    #[error(
        "{0} holds no witness: `gst-compliance audit witness {0} --new` makes one, on a machine of its own"
    )]
    NoWitness(PathBuf),
    /// There is one already.
    #[error("{0} holds a witness already: a new one would forget what it saw")]
    Exists(PathBuf),
    /// What it kept is not what it signed.
    #[error(
        "witness {path} is damaged: the file {file} {error}. It cosigns nothing for this log until that is examined"
    )]
    Damaged {
        /// The witness.
        path: PathBuf,
        /// The file.
        file: String,
        /// What is wrong with it.
        error: NoteError,
    },
    /// A log that it does not know.
    #[error("the witness does not know the log {0}: tell it the log's key once, by --log")]
    UnknownLog(String),
    /// A log's name goes with one key only.
    #[error("{0} is not the key of a log under its own name")]
    NotALog(VerifierKey),
    /// The request's checkpoint is not the log's.
    #[error("the checkpoint {0}")]
    Note(#[from] NoteError),
    /// The proof starts from something else than what the witness saw last.
    #[error(
        "the witness saw {known} entries of the log, the request goes on from {old}: make one with --known {known}"
    )]
    Conflict {
        /// What it saw.
        known: u64,
        /// What the request says.
        old: u64,
    },
    /// The log became shorter.
    #[error(
        "ROLLBACK: the log has {size} entries, but the witness cosigned {known} of it. An older state was put back, and \
         entries are lost. Not cosigned"
    )]
    Rollback {
        /// What it saw.
        known: u64,
        /// What there is now.
        size: u64,
    },
    /// The log became another one.
    #[error(
        "FORK: the first {known} entries of the log are not the ones that the witness cosigned, or the proof is damaged. \
         The log was rewritten. Not cosigned"
    )]
    Fork {
        /// What it saw.
        known: u64,
        /// What there is now.
        size: u64,
    },
}

/// A witness.
pub struct Witness {
    folder: Folder,
    lock: Lock,
    key: Arc<SigningKey>,
    vkey: VerifierKey,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness")
            .field("vkey", &self.vkey)
            .finish_non_exhaustive()
    }
}

impl Witness {
    /// Makes a new witness.
    pub fn create(path: &Path) -> Result<Self, WitnessError> {
        let folder = Folder::make(path)?;
        let lock = Lock::make(&folder, PATIENCE)?;
        let locked = lock.acquire()?;
        if folder.has(KEY) || folder.has("logs") {
            return Err(WitnessError::Exists(path.to_owned()));
        }
        folder.make_key()?;
        let vkey = VerifierKey::named(Kind::Witness, folder.key()?.public());
        folder.replace(VKEY, format!("{vkey}\n").as_bytes())?;
        drop(locked);
        Self::open(path)
    }

    /// Opens a witness that is there.
    pub fn open(path: &Path) -> Result<Self, WitnessError> {
        // Not made by itself: a new one, under a name that was mistyped, would cosign whatever it is shown.
        if !path.join(KEY).exists() {
            return Err(WitnessError::NoWitness(path.to_owned()));
        }
        let folder = Folder::open(path)?;
        let lock = Lock::make(&folder, PATIENCE)?;
        let key = Arc::new(folder.key()?);
        let vkey = VerifierKey::named(Kind::Witness, key.public());
        Ok(Self {
            folder,
            lock,
            key,
            vkey,
        })
    }

    /// The witness's public key, for verifiers.
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.vkey
    }

    /// Makes a log known. Its name tells its key, so there is nothing to be mistaken about.
    pub fn admit(&self, log: &VerifierKey) -> Result<(), WitnessError> {
        if log.kind() != Kind::Log || !log.is_named_by_key() {
            return Err(WitnessError::NotALog(log.clone()));
        }
        let _locked = self.lock.acquire()?;
        let folder = Folder::make(&place(&self.folder, log))?;
        if !folder.has(VKEY) {
            folder.replace(VKEY, format!("{log}\n").as_bytes())?;
        }
        Ok(())
    }

    /// The newest checkpoint of a log that it cosigned.
    pub fn latest(&self, log: &VerifierKey) -> Result<Option<Note>, WitnessError> {
        latest(&self.folder, &self.vkey, log)
    }

    /// Cosigns a checkpoint, where it continues the one that was cosigned last. `time`: now, in seconds since 1970.
    pub fn cosign(&self, request: &Request, time: u64) -> Result<Line, WitnessError> {
        let _locked = self.lock.acquire()?;
        let log = self.known_log(&request.note.unverified().origin)?;
        let new = request.note.of_log(&log)?;
        let latest = self.latest(&log)?;
        let latest = latest.as_ref().map(Note::unverified);
        let (known, root) = latest.map_or((0, hash(&[])), |latest| (latest.size, latest.root));
        if new.size < known {
            let size = new.size;
            return Err(WitnessError::Rollback { known, size });
        }
        if request.old != known {
            let old = request.old;
            return Err(WitnessError::Conflict { known, old });
        }
        if !is_consistent((known, &root), (new.size, &new.root), &request.hashes) {
            let size = new.size;
            return Err(WitnessError::Fork { known, size });
        }
        let line = request.note.cosign(&self.vkey, &*self.key, time);
        let mut note = request.note.clone();
        note.add(line.clone());
        // Remembered before it is given away.
        let folder = Folder::open(&place(&self.folder, &log))?;
        folder.replace(CHECKPOINT, note.to_string().as_bytes())?;
        Ok(line)
    }

    /// The log of this name, if it is known.
    fn known_log(&self, origin: &str) -> Result<VerifierKey, WitnessError> {
        let unknown = || WitnessError::UnknownLog(origin.to_owned());
        let short = origin.rsplit('/').next().unwrap_or_default();
        // It becomes a file's name.
        if short.len() != 32 || !short.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let folder = Folder::to_read(&self.folder.file("logs").join(short));
        let text = folder.read(VKEY, MAX_VKEY)?.ok_or_else(unknown)?;
        let log: Option<VerifierKey> = text.strip_suffix('\n').and_then(|text| text.parse().ok());
        log.filter(|log| log.is_named_by_key() && log.name() == origin)
            .ok_or_else(unknown)
    }
}

fn latest(folder: &Folder, witness: &VerifierKey, log: &VerifierKey) -> Result<Option<Note>, WitnessError> {
    let place = Folder::to_read(&place(folder, log));
    let Some(text) = place.read(CHECKPOINT, MAX_NOTE)? else {
        return Ok(None);
    };
    let read = || {
        let note = Note::parse(&text)?;
        note.of_log(log)?;
        // Nobody else shall tell it what it saw.
        note.cosigned(witness)?;
        Ok(Some(note))
    };
    read().map_err(|error| WitnessError::Damaged {
        path: folder.path().to_owned(),
        file: format!("logs/{}/{CHECKPOINT}", log.short()),
        error,
    })
}

fn place(folder: &Folder, log: &VerifierKey) -> PathBuf {
    folder.file("logs").join(log.short())
}

/// Reads a witness's folder, without its private key: who it is, and what it cosigned last of a log.
pub fn seen_by(path: &Path, log: &VerifierKey) -> Result<(VerifierKey, Option<Note>), WitnessError> {
    let folder = Folder::to_read(path);
    let text = folder.read(VKEY, MAX_VKEY)?;
    let text = text.ok_or_else(|| WitnessError::NoWitness(path.to_owned()))?;
    let witness = text.strip_suffix('\n').and_then(|text| text.parse().ok());
    let witness = witness.filter(|key: &VerifierKey| key.kind() == Kind::Witness);
    let witness = witness.ok_or_else(|| WitnessError::Damaged {
        path: path.to_owned(),
        file: VKEY.to_owned(),
        error: NoteError::Malformed,
    })?;
    let latest = latest(&folder, &witness, log)?;
    Ok((witness, latest))
}

/// Why a log could not be anchored.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// On the log's side.
    #[error(transparent)]
    Log(#[from] LogError),
    /// On the witness's side.
    #[error(transparent)]
    Witness(#[from] WitnessError),
}

/// How far a log is anchored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchored {
    /// The witness's name.
    pub witness: String,
    /// How many entries the witness cosigned.
    pub size: u64,
    /// When, in seconds since 1970, by the witness's clock.
    pub time: u64,
}

/// Anchors a log: signs what is in it, lets the witness cosign that, and keeps the cosignature beside the log. For two
/// folders on one machine; a witness elsewhere is sent `Log::request` and answers with `Witness::cosign`.
pub fn anchor(log: &Log, witness: &Witness) -> Result<Anchored, AnchorError> {
    let vkey = log.verifier_key();
    witness.admit(vkey)?;
    let latest = witness.latest(vkey)?;
    let request = log.request(latest.map_or(0, |latest| latest.unverified().size))?;
    let line = witness.cosign(&request, now()?)?;
    let mut note = request.note;
    note.add(line);
    let (size, time) = log.add_cosignature(&note, witness.verifier_key())?;
    Ok(Anchored {
        witness: witness.verifier_key().name().to_owned(),
        size,
        time,
    })
}

/// Seconds since 1970.
pub(super) fn now() -> Result<u64, WitnessError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_err(|_| failed(Path::new("the clock"), std::io::Error::other("it is before 1970")))?;
    Ok(now.as_secs())
}
