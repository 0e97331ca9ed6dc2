//! The log's folder, to append to: by many threads, and by several processes at once.
//!
//! ```text
//! key          the private key that signs checkpoints (0600)
//! vkey         the public one, with the log's origin
//! log          the entries
//! checkpoint   the newest signed size and root
//! anchors/     for each witness, the newest checkpoint that it cosigned
//! lock, turn   for writers
//! ```
//!
//! Every operation takes the lock, reads what others appended, checks that it continues what is known and signed, and
//! only then does its own work. The order within an append: bytes, fsync, acknowledgement. Locks are taken in this
//! order: `State`, then the folder's lock; `Timer` and `Roots` each by itself.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;

use super::checkpoint::{Kind, MAX_NOTE, Note, NoteError, VerifierKey};
use super::damage::{Damage, Source};
use super::entry::{Entry, EntryError};
use super::folder::{Folder, FolderError, KEY, Lock, Locked, PATIENCE, Storage, VKEY, failed};
use super::frame::{HEADER, Step, Walk};
use super::ledger::Ledger;
use super::proof::{InclusionProof, Request};
use super::roots::Roots;
use super::state::{State, open_entries, read_note, write_note};
use super::tree::{Claim, Edge, Hash, Prover};
use crate::ids::RecordingId;
use crate::recording::{Rewraps, Root};
use crate::signing::{PublicKey, Signer};

mod reading;

/// The file of the entries.
pub(super) const LOG: &str = "log";
/// The file of the newest checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The folder of cosigned checkpoints.
pub(super) const ANCHORS: &str = "anchors";
/// Longest verifier key in a file, in bytes.
pub(super) const MAX_VKEY: usize = 400;

/// How often a checkpoint is signed while there are new entries.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why the log did not do what it was asked. Nothing was acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The folder or a file in it.
    #[error("audit log {0}")]
    Folder(#[from] FolderError),
    /// There is no log.
    #[error("{0} holds no audit log")]
    NoLog(PathBuf),
    /// There are entries, and no key that could sign more.
    #[error(
        "audit log {0}: the private key is missing. The log can be verified, but not go on: keep it, and begin a new one"
    )]
    NoKey(PathBuf),
    /// It is not as it was written. Nothing is ever cut or repaired by itself.
    #[error(
        "audit log {0} is damaged: {1}. It takes no more entries: keep it for examination, restore it or begin a new one"
    )]
    Damaged(PathBuf, Damage),
    /// A witness saw more than there is.
    #[error(
        "audit log {path} has {size} entries, but a witness saw {seen}: an older state was put back, entries are lost"
    )]
    RolledBack {
        /// The log.
        path: PathBuf,
        /// How many entries it has.
        size: u64,
        /// How many the witness saw.
        seen: u64,
    },
    /// The disk failed, so that nobody knows what is on it.
    #[error("audit log {0}: the disk failed while it was written; open the log anew")]
    Broken(PathBuf),
    /// The entry cannot be written.
    #[error("{0}")]
    Entry(#[from] EntryError),
    /// There is no such entry.
    #[error("there is no entry {index}: the audit log has {size}, from 0")]
    NoEntry {
        /// Which.
        index: u64,
        /// How many there are.
        size: u64,
    },
    /// What a witness said is not what it should be.
    #[error("the cosigned checkpoint {0}")]
    Note(#[from] NoteError),
}

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its number, from 0; of several, the first one's.
    pub index: u64,
    /// How many entries the log has now.
    pub size: u64,
}

/// How the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Entries, as far as this process knows.
    pub entries: u64,
    /// How many of them are covered by a checkpoint.
    pub signed: u64,
    /// Is there space for last words on a full disk? Not all file systems can keep some.
    pub reserve: bool,
    /// Why the last checkpoint could not be written. It is tried again every second.
    pub trouble: Option<String>,
}

/// A log that is open. Dropping it signs what is not signed yet; `close` says whether that worked.
pub struct Log {
    shared: Arc<Shared>,
    signing: Option<JoinHandle<()>>,
}

struct Shared {
    folder: Folder,
    lock: Lock,
    key: Arc<SigningKey>,
    vkey: VerifierKey,
    state: Mutex<State>,
    roots: Mutex<Roots>,
    timer: Mutex<Timer>,
    wake: Condvar,
}

/// When the next checkpoint is due.
#[derive(Default)]
struct Timer {
    due: Option<Instant>,
    last: Option<Instant>,
    stop: bool,
    trouble: Option<String>,
}

impl Log {
    /// Opens the log in a folder. Makes the folder, the key and the log where there is none.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        Self::open_with(path, true, PATIENCE, |file| Box::new(file))
    }

    /// Opens a log that is there.
    pub fn open_existing(path: &Path) -> Result<Self, LogError> {
        if !path.join(LOG).exists() && !path.join(KEY).exists() {
            return Err(LogError::NoLog(path.to_owned()));
        }
        Self::open_with(path, false, PATIENCE, |file| Box::new(file))
    }

    pub(super) fn open_with(
        path: &Path,
        make: bool,
        patience: Duration,
        storage: impl FnOnce(File) -> Box<dyn Storage>,
    ) -> Result<Self, LogError> {
        let folder = if make {
            Folder::make(path)?
        } else {
            Folder::open(path)?
        };
        let lock = Lock::make(&folder, patience)?;
        let locked = lock.acquire()?;
        let file = open_entries(&folder)?;
        let end = file.metadata().map_err(|error| failed(path, error))?.len();
        if !folder.has(KEY) {
            if end > HEADER.len() as u64 {
                return Err(LogError::NoKey(path.to_owned()));
            }
            folder.make_key()?;
        }
        let key = Arc::new(folder.key()?);
        let vkey = VerifierKey::named(Kind::Log, key.public());
        match folder.read(VKEY, MAX_VKEY)? {
            None => folder.replace(VKEY, format!("{vkey}\n").as_bytes())?,
            Some(text) if text == format!("{vkey}\n") => {}
            Some(_) => return Err(LogError::Damaged(path.to_owned(), Damage::VerifierKey)),
        }
        let signed = match read_note(&folder, &vkey)? {
            Some(found) => found,
            // Before the first entry there is a checkpoint: where it is missing, somebody removed it.
            None if end > HEADER.len() as u64 => {
                return Err(LogError::Damaged(path.to_owned(), Damage::NoCheckpoint));
            }
            None => write_note(&folder, &*key, &vkey, &Edge::default())?,
        };
        let mut state = State::new(storage(file), &vkey, signed);
        state.catch_up(&folder, &vkey, &locked)?;
        drop(locked);
        let shared = Arc::new(Shared {
            folder,
            lock,
            key,
            roots: Mutex::new(Roots::new(vkey.key())),
            vkey,
            state: Mutex::new(state),
            timer: Mutex::default(),
            wake: Condvar::new(),
        });
        // What a process that crashed left unsigned is signed now, and what was recovered.
        shared.checkpoint()?;
        let signing = thread::Builder::new().name("audit-checkpoint".into()).spawn({
            let shared = shared.clone();
            move || shared.sign_when_due()
        });
        let signing = Some(signing.map_err(|error| failed(path, error))?);
        Ok(Self { shared, signing })
    }

    /// Appends an entry. When this returns it is on the disk; within a second it is covered by a checkpoint.
    pub fn append(&self, entry: &Entry) -> Result<Appended, LogError> {
        self.append_all(std::slice::from_ref(entry))
    }

    /// Appends entries that follow each other, with one wait for the disk. A crash in between can leave the first ones;
    /// an error leaves none. Where one of them is a last word ([`Event::closes`]), all may use the reserve.
    pub fn append_all(&self, entries: &[Entry]) -> Result<Appended, LogError> {
        let encoded: Vec<_> = entries.iter().map(Entry::encode).collect::<Result<_, _>>()?;
        let closes = entries.iter().any(|entry| entry.event.closes());
        let appended = self
            .shared
            .with_lock(|shared, state, locked| state.append(&shared.folder, &encoded, closes, locked))?;
        self.shared.is_due();
        Ok(appended)
    }

    /// A signed note of all that is acknowledged. It is also in the file `checkpoint`.
    pub fn checkpoint(&self) -> Result<String, LogError> {
        Ok(self.shared.checkpoint()?.0)
    }

    /// What signs for the log: its checkpoints, and recordings that name it.
    pub fn signer(&self) -> Arc<dyn Signer> {
        self.shared.key.clone()
    }

    /// The log's public key.
    pub fn key(&self) -> PublicKey {
        *self.shared.vkey.key()
    }

    /// The key with the log's name, as others are given it.
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.shared.vkey
    }

    /// The log's name: what its checkpoints begin with.
    pub fn origin(&self) -> &str {
        self.shared.vkey.name()
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.shared.folder.path()
    }

    /// How it is.
    pub fn health(&self) -> Health {
        let trouble = lock(&self.shared.timer).trouble.clone();
        let state = lock(&self.shared.state);
        Health {
            entries: state.size(),
            signed: state.signed(),
            reserve: state.has_reserve(),
            trouble,
        }
    }

    /// How far the manifest of a recording went at least, as the entries say. The first call reads the whole log, later
    /// ones what came since.
    pub fn known_root(&self, recording: RecordingId) -> Result<Option<Root>, LogError> {
        self.with_roots(|roots| roots.of(recording))
    }

    /// What became of a recording's key since it was recorded, as the entries say. Reads as `known_root` does.
    pub fn known_rewraps(&self, recording: RecordingId) -> Result<Rewraps, LogError> {
        self.with_roots(|roots| roots.rewraps(recording))
    }

    fn with_roots<T>(&self, get: impl FnOnce(&Roots) -> T) -> Result<T, LogError> {
        // Up to there nothing changes any more, so that nobody has to wait meanwhile.
        let end = self
            .shared
            .with_lock(|_, state, _| Ok::<_, LogError>(state.end()))?;
        let mut roots = lock(&self.shared.roots);
        self.shared.read(|file| roots.read(file, end))?;
        Ok(get(&roots))
    }

    /// What the log says of all recordings. Reads the whole log.
    pub fn ledger(&self) -> Result<Ledger, LogError> {
        let mut ledger = Ledger::new(self.shared.vkey.key());
        self.follow(&mut ledger)?;
        Ok(ledger)
    }

    /// Reads what came since the ledger was last read.
    pub fn follow(&self, ledger: &mut Ledger) -> Result<(), LogError> {
        let end = self
            .shared
            .with_lock(|_, state, _| Ok::<_, LogError>(state.end()))?;
        self.shared.read(|file| ledger.read(file, end))
    }

    /// Lets somebody decide by what the log says at this moment, and appends what comes of it, as [`Self::append_all`]
    /// does: nobody else appends in between. Keep it short, because everybody who appends waits. `ledger`: as
    /// [`Self::ledger`] gave it; it is read up to the moment.
    pub fn append_when<E: From<LogError>>(
        &self,
        ledger: &mut Ledger,
        decide: impl FnOnce(&Ledger) -> Result<Vec<Entry>, E>,
    ) -> Result<(), E> {
        self.shared.with_lock::<_, E>(|shared, state, locked| {
            shared.read(|file| ledger.read(file, state.end()))?;
            let entries = decide(ledger)?;
            if entries.is_empty() {
                return Ok(());
            }
            let encoded: Result<Vec<_>, _> = entries.iter().map(Entry::encode).collect();
            let encoded = encoded.map_err(LogError::from)?;
            let closes = entries.iter().any(|entry| entry.event.closes());
            state.append(&shared.folder, &encoded, closes, locked)?;
            Ok(())
        })?;
        self.shared.is_due();
        Ok(())
    }

    /// Proves to whoever knows the log's key that an entry is in it. Signs a checkpoint where none covers it. Reads the
    /// whole log once.
    pub fn inclusion(&self, index: u64) -> Result<InclusionProof, LogError> {
        let (note, end) = self.shared.checkpoint()?;
        let note = Note::parse(&note)?;
        let (size, root) = (note.unverified().size, note.unverified().root);
        let Some(prover) = Prover::new(size, Claim::Inclusion(index)) else {
            return Err(LogError::NoEntry { index, size });
        };
        let mut found = Vec::new();
        let hashes = self.shared.prove(prover, end, root, |at, entry| {
            if at == index {
                found = entry.to_vec();
            }
        })?;
        Ok(InclusionProof {
            entry: found,
            index,
            hashes,
            note,
        })
    }

    /// What a witness needs that saw `old` entries of the log: a new checkpoint, and the proof that it continues those.
    pub fn request(&self, old: u64) -> Result<Request, LogError> {
        let (note, end) = self.shared.checkpoint()?;
        let note = Note::parse(&note)?;
        let (size, root) = (note.unverified().size, note.unverified().root);
        let Some(prover) = Prover::new(size, Claim::Consistency(old)) else {
            let path = self.path().to_owned();
            let seen = old;
            return Err(LogError::RolledBack { path, size, seen });
        };
        let hashes = self.shared.prove(prover, end, root, |_, _| {})?;
        Ok(Request { old, hashes, note })
    }

    /// The newest checkpoint that this witness cosigned, as far as the log knows.
    pub fn anchored(&self, witness: &VerifierKey) -> Result<Option<Note>, LogError> {
        let folder = Folder::to_read(&self.shared.folder.file(ANCHORS));
        match folder.read(&witness.short(), MAX_NOTE)? {
            Some(text) => Ok(Some(Note::parse(&text)?)),
            None => Ok(None),
        }
    }

    /// Keeps a checkpoint that a witness cosigned, unless it has a newer one of that witness. Gives its size and time.
    pub fn add_cosignature(&self, note: &Note, witness: &VerifierKey) -> Result<(u64, u64), LogError> {
        let seen = note.of_log(&self.shared.vkey)?.size;
        let time = note.cosigned(witness)?;
        self.shared.with_lock(|shared, state, _| {
            let size = state.size();
            if seen > size {
                let path = shared.folder.path().to_owned();
                return Err(LogError::RolledBack { path, size, seen });
            }
            let older = self.anchored(witness).ok().flatten();
            if older.is_none_or(|older| older.unverified().size <= seen) {
                let folder = Folder::make(&shared.folder.file(ANCHORS))?;
                folder.replace(&witness.short(), note.to_string().as_bytes())?;
            }
            Ok((seen, time))
        })
    }

    /// Signs what is not signed yet, and says whether that worked.
    pub fn close(mut self) -> Result<(), LogError> {
        self.stop();
        self.shared.checkpoint().map(drop)
    }

    fn stop(&mut self) {
        if let Some(signing) = self.signing.take() {
            lock(&self.shared.timer).stop = true;
            self.shared.wake.notify_all();
            // It does not panic; if it did, it said so.
            let _ = signing.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.signing.is_some() {
            self.stop();
            // Entries are on the disk in any case; whoever opens the log next signs them.
            let _ = self.shared.checkpoint();
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let vkey = &self.shared.vkey;
        f.debug_struct("Log").field("vkey", vkey).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // State is changed in one go, after everything that can fail.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Does something with the log as it is now, alone.
    fn with_lock<T, E: From<LogError>>(
        &self,
        work: impl FnOnce(&Self, &mut State, &Locked<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut state = lock(&self.state);
        let locked = self.lock.acquire().map_err(LogError::from)?;
        state.catch_up(&self.folder, &self.vkey, &locked)?;
        work(self, &mut state, &locked)
    }

    /// Reads entries of which a reader says what is damaged.
    fn read(&self, read: impl FnOnce(File) -> io::Result<Option<Damage>>) -> Result<(), LogError> {
        let path = self.folder.file(LOG);
        let failed = |error| LogError::Folder(failed(&path, error));
        match File::open(&path).and_then(read).map_err(failed)? {
            None => Ok(()),
            Some(damage) => Err(LogError::Damaged(self.folder.path().to_owned(), damage)),
        }
    }

    /// The newest checkpoint, of everything that is in the log, and where that ends.
    fn checkpoint(&self) -> Result<(String, u64), LogError> {
        self.with_lock(|shared, state, _| {
            state.sign(&shared.folder, &*shared.key, &shared.vkey)?;
            Ok((state.note().to_owned(), state.end()))
        })
    }

    /// A checkpoint is due: at once, or a second after the last one.
    fn is_due(&self) {
        let mut timer = lock(&self.timer);
        if timer.due.is_none() {
            let now = Instant::now();
            timer.due = Some(timer.last.map_or(now, |last| now.max(last + INTERVAL)));
            self.wake.notify_all();
        }
    }

    /// What the thread does.
    fn sign_when_due(&self) {
        let mut timer = lock(&self.timer);
        while !timer.stop {
            let now = Instant::now();
            timer = match timer.due {
                None => self.wake.wait(timer).unwrap_or_else(PoisonError::into_inner),
                Some(due) if due > now => {
                    let waited = self.wake.wait_timeout(timer, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    timer.due = None;
                    drop(timer);
                    let signed = self.checkpoint();
                    let mut timer = lock(&self.timer);
                    let now = Instant::now();
                    timer.last = Some(now);
                    timer.trouble = signed.err().map(|error| error.to_string());
                    // It failed, or something was appended meanwhile.
                    if timer.trouble.is_some() || timer.due.is_some() {
                        timer.due = Some(now + INTERVAL);
                    }
                    timer
                }
            };
        }
    }

    /// Shows the prover all entries up to `end`. A proof that leads to another root than the signed one is none.
    fn prove(
        &self,
        mut prover: Prover,
        end: u64,
        root: Hash,
        mut show: impl FnMut(u64, &[u8]),
    ) -> Result<Vec<Hash>, LogError> {
        let path = self.folder.file(LOG);
        let failed = |error| LogError::Folder(failed(&path, error));
        let damaged = |damage| LogError::Damaged(self.folder.path().to_owned(), damage);
        let file = File::open(&path).map_err(failed)?;
        let mut walk = Walk::from_start(file, end, self.vkey.key());
        loop {
            match walk.step().map_err(failed)? {
                Step::Entry {
                    index, entry, leaf, ..
                } => {
                    prover.push(leaf);
                    show(index, entry);
                }
                Step::End { index: size, offset } => {
                    let proof = prover.finish().filter(|(_, found)| *found == root);
                    return proof.map(|(hashes, _)| hashes).ok_or_else(|| {
                        damaged(Damage::Rewritten {
                            index: 0,
                            offset: offset.min(HEADER.len() as u64),
                            size,
                            source: Source::File(CHECKPOINT.to_owned()),
                            signed_again: false,
                        })
                    });
                }
                Step::Fault(fault) => return Err(damaged(Damage::Fault(fault))),
                Step::Unfinished { index, offset } => {
                    return Err(damaged(Damage::Cut {
                        index,
                        offset,
                        size: index + 1,
                        source: Source::File(CHECKPOINT.to_owned()),
                    }));
                }
            }
        }
    }
}
