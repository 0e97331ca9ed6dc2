//! Wrapping the keys of recordings to other recipients or custodians, without touching their media.
//!
//! For each recording, in this order, so that a crash at any point leaves one that opens for the old holders or for the
//! new ones, and that the next call completes:
//!
//! 1. The recording is locked. What an earlier call left is completed where the audit log has it, else removed.
//! 2. Its identity comes out of the old key files, and is wrapped to the new holders, in memory.
//! 3. The new key files and a signed statement stand in `holders/.next`, which nobody but its owner can enter.
//! 4. The audit log has the entry, and has signed for it. From here on the new holders are the holders.
//! 5. One rename puts `holders/.next` in its place; then the old key files are removed.
//!
//! It never says that somebody lost access: whoever kept an old key file, or the identity, keeps what they had.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use age::x25519::Identity;

use crate::audit::entry::Custodians;
use crate::audit::ledger::Act;
use crate::audit::{Entry, Event, History, Id, Ledger, Log, LogError, Text};
use crate::bundle::{self, EscrowFacts, FileFacts, Holders, read_bounded, wrap};
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::recording::facts::MAX_FILE;
use crate::recording::holders::{HOLDERS, NEXT, Rewrap, lock};
use crate::recording::together::together;
use crate::recording::{Facts, HoldersError, KeyHolders, OpenError, RECORDING_FILE, Rewraps};
use crate::signing::PublicKey;
use crate::store::spool_of;
use stage::Stage;
use tally::Tally;
pub use tally::Totals;

mod copies;
mod stage;
mod tally;

pub(crate) use copies::remove_copies;
pub(crate) use stage::remove;

/// So many recordings share one entry of the log's disk and one of its signatures.
const BATCH: usize = 128;

/// A recording whose key is to be wrapped to others.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its folder.
    pub path: &'a Path,
    /// What it says of itself.
    pub facts: &'a Facts,
    /// Who holds its key now.
    pub holders: &'a KeyHolders,
}

/// Where a recording's identity comes from. It must be the recording's: that is checked.
pub type KeySource<'a> = dyn Fn(Target<'_>) -> Result<Identity, Box<dyn Error + Send + Sync>> + Sync + 'a;

/// The identities of recordings of which one of these is a recipient.
pub fn as_recipient(
    identities: &[Identity],
) -> impl Fn(Target<'_>) -> Result<Identity, Box<dyn Error + Send + Sync>> + Sync {
    |of| {
        Ok(crate::recording::unwrap(
            of.path, of.facts, of.holders, identities,
        )?)
    }
}

/// What is to be done, by whom and why.
pub struct Order<'a> {
    /// The new holders.
    pub to: &'a Holders,
    /// Where the identities come from.
    pub keys: &'a KeySource<'a>,
    /// A recorder's folder of key bundles: the used ones have copies of the old key files, which are removed.
    pub bundles: Option<&'a Path>,
    /// Who does it.
    pub by: Id,
    /// Why.
    pub reason: Text,
    /// The case or order that it belongs to.
    pub ticket: Text,
}

/// What was done with a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Its key was wrapped to the new holders; this is the number of that.
    Rewrapped(u32),
    /// An earlier call was interrupted after the log had it; it is complete now.
    Completed(u32),
    /// It was for these holders already.
    Already,
}

/// Why a recording's key was not wrapped to others. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// The system refuses.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is being recorded, or somebody else is at it.
    #[error("is being recorded, re-wrapped or deleted by another process: try again when that has ended")]
    InUse,
    /// It goes to a store, with the key files that it has.
    #[error(
        "lies in the spool {0} and is on its way to a store: wait until it has left (gst-compliance upload brings it there), and name it as s3://BUCKET/PREFIX/ID then"
    )]
    InSpool(PathBuf),
    /// What it says of itself does not hold.
    #[error("{RECORDING_FILE} {0}; gst-compliance verify says what is left")]
    Damaged(String),
    /// It cannot be told who holds its key.
    #[error("{0}")]
    Holders(#[from] HoldersError),
    /// Nobody would look for the entry there.
    #[error("it names the audit log with the key {pinned}, and the one that was given has {key}")]
    AnotherLog {
        /// The key in recording.json.
        pinned: PublicKey,
        /// The log's key.
        key: PublicKey,
    },
    /// It must not come back.
    #[error("its deletion was decided by {by} ({ticket}): its key is not wrapped to anybody any more", by = .0.by, ticket = .0.ticket)]
    Deleted(Box<Act>),
    /// Its key files were destroyed, and the log has no decision of that.
    #[error("its key files were destroyed")]
    Shredded,
    /// The old holders' key.
    #[error("{0}")]
    Key(Box<dyn Error + Send + Sync>),
    /// It would be for nobody.
    #[error("the key that was given is not its key")]
    AnotherKey,
    /// It was wrapped to others so often.
    #[error("cannot be wrapped to others: {0}")]
    Unfit(String),
    /// The log has another entry since.
    #[error("the audit log has another entry of it since it was looked at: try again")]
    Changed,
    /// It stands in the log and did not take effect, or copies of old key files stayed.
    #[error("the audit log has it, and it is not complete ({0}): run this again")]
    Unfinished(Box<RewrapError>),
}

impl From<OpenError> for RewrapError {
    fn from(error: OpenError) -> Self {
        Self::Key(Box::new(error))
    }
}

impl RewrapError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }
}

/// Wraps the keys of recordings to other holders. What became of each is told to `told`, in order. `now`: unix time in
/// milliseconds. An error is the log's: of the recordings that were not told of, some may wait for the next call, which
/// completes them.
pub fn rewrap(
    recordings: &[PathBuf],
    log: &Log,
    order: &Order<'_>,
    now: &dyn Fn() -> u64,
    told: &mut dyn FnMut(&Path, Result<Done, RewrapError>),
) -> Result<Totals, LogError> {
    let tally = Tally::default();
    let mut ledger = log.ledger()?;
    for batch in recordings.chunks(BATCH) {
        Batch {
            log,
            order,
            tally: &tally,
        }
        .run(batch, &mut ledger, now, told)?;
    }
    Ok(tally.totals())
}

struct Batch<'a> {
    log: &'a Log,
    order: &'a Order<'a>,
    tally: &'a Tally,
}

/// A recording that nobody else changes.
struct Locked {
    path: PathBuf,
    facts: Facts,
    file: Vec<u8>,
    _lock: File,
}

/// What comes before the log.
enum Before {
    Done(Done),
    /// It waits in `holders/.next`, for this event to be logged.
    Staged {
        stage: Stage,
        number: u32,
        seen: Rewraps,
        event: Box<Event>,
    },
}

impl Batch<'_> {
    fn run(
        &self,
        paths: &[PathBuf],
        ledger: &mut Ledger,
        now: &dyn Fn() -> u64,
        told: &mut dyn FnMut(&Path, Result<Done, RewrapError>),
    ) -> Result<(), LogError> {
        let locked: Vec<_> = paths.iter().map(|path| self.lock(path)).collect();
        // From here on nobody adds an entry of these: what the log says of them stays as it is.
        self.log.follow(ledger)?;
        let known: &Ledger = ledger;
        let mut before = each(locked, |locked| {
            let locked = locked?;
            let made = self.prepare(&locked, known.of(locked.facts.recording))?;
            Ok((locked, made))
        });
        self.append(&mut before, ledger, now)?;
        let done = each(before, |before| {
            let (locked, made) = before?;
            let done = match made {
                Before::Done(done) => done,
                Before::Staged { stage, number, .. } => {
                    let effect = || {
                        stage.take_effect(self.tally)?;
                        let current = self.read(&locked, Rewraps::Unknown)?;
                        stage::tidy(&locked.path, &current, self.tally)
                    };
                    effect().map_err(|error| RewrapError::Unfinished(Box::new(error)))?;
                    Done::Rewrapped(number)
                }
            };
            if let Some(bundles) = self.order.bundles {
                remove_copies(bundles, locked.facts.recording)
                    .map_err(|error| RewrapError::Unfinished(Box::new(error)))?;
            }
            Ok(done)
        });
        for (path, done) in paths.iter().zip(done) {
            told(path, done);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<Locked, RewrapError> {
        if let Some(spool) = spool_of(path) {
            return Err(RewrapError::InSpool(spool));
        }
        let place = path.join(RECORDING_FILE);
        let lock = lock(path)
            .map_err(RewrapError::io(path))?
            .ok_or(RewrapError::InUse)?;
        let file = read_bounded(&place, MAX_FILE).map_err(RewrapError::io(&place))?;
        self.tally.opened(2);
        let (facts, _) = Facts::decode(&file).map_err(RewrapError::Damaged)?;
        let (key, pinned) = (self.log.key(), facts.log_key);
        if key != pinned {
            return Err(RewrapError::AnotherLog { pinned, key });
        }
        Ok(Locked {
            path: path.to_owned(),
            facts,
            file,
            _lock: lock,
        })
    }

    fn prepare(&self, of: &Locked, history: Option<&History>) -> Result<Before, RewrapError> {
        let history = history.cloned().unwrap_or_default();
        if let Some(decided) = history.decided {
            return Err(RewrapError::Deleted(Box::new(decided)));
        }
        let seen = history.rewrapping.map_or(Rewraps::Never, Rewraps::Last);
        if history.shredded.is_some() {
            return Err(RewrapError::Shredded);
        }
        let (current, completed) = self.complete(of, seen)?;
        let logged = history.rewrapping.map_or(0, |last| last.number);
        if current.number == logged && self.is_for(&current) {
            let done = Done::Completed(current.number);
            return Ok(Before::Done(if completed { done } else { Done::Already }));
        }
        let number = logged.max(current.number) + 1;
        let (event, files, statement) = self.make(of, &current, number)?;
        let stage = Stage::write(&of.path, number, &files, &statement, self.tally)?;
        Ok(Before::Staged {
            stage,
            number,
            seen,
            event: Box::new(event),
        })
    }

    /// Who holds it now, after what was interrupted has been completed or removed. Says whether something was completed.
    fn complete(&self, of: &Locked, logged: Rewraps) -> Result<(KeyHolders, bool), RewrapError> {
        let mut current = match self.read(of, logged) {
            // Where the folder is older than the log it is believed: who has its key makes it new.
            Err(HoldersError::RolledBack { .. }) => self.read(of, Rewraps::Unknown)?,
            current => current?,
        };
        let mut completed = false;
        if current.folder == format!("{HOLDERS}/{NEXT}") {
            let is_whole = |file: &FileFacts| {
                let place = current.place(&of.path, &file.name);
                read_bounded(&place, bundle::MAX_FILE).is_ok_and(|bytes| file.is_of(&bytes))
            };
            completed = current.files.iter().all(is_whole);
            if completed {
                Stage::left(&of.path, current.number).take_effect(self.tally)?;
            }
            current = self.read(of, Rewraps::Unknown)?;
        }
        stage::tidy(&of.path, &current, self.tally)?;
        Ok((current, completed))
    }

    fn read(&self, of: &Locked, logged: Rewraps) -> Result<KeyHolders, HoldersError> {
        let current = KeyHolders::read(&of.path, &of.facts, &of.file, logged)?;
        self.tally.opened_with_statements(&current);
        Ok(current)
    }

    fn is_for(&self, current: &KeyHolders) -> bool {
        let (recipients, escrow) = wanted(self.order.to);
        current.recipients == recipients && current.escrow == escrow
    }

    /// The entry, the new key files, and the statement of them.
    #[allow(
        clippy::type_complexity,
        reason = "three things that are made together, for one caller"
    )]
    fn make(
        &self,
        of: &Locked,
        current: &KeyHolders,
        number: u32,
    ) -> Result<(Event, Vec<(String, Vec<u8>)>, Vec<u8>), RewrapError> {
        let target = Target {
            path: &of.path,
            facts: &of.facts,
            holders: current,
        };
        let identity = (self.order.keys)(target).map_err(RewrapError::Key)?;
        if identity.to_public().to_string() != of.facts.public {
            return Err(RewrapError::AnotherKey);
        }
        self.tally.opened(current.files.len() as u64);
        let (recipients, escrow, files) =
            wrap(self.order.to, of.facts.recording, &identity).map_err(RewrapError::Unfit)?;
        let rewrap = Rewrap {
            version: 1,
            recording: of.facts.recording,
            number,
            previous: current.statement,
            recipients,
            escrow,
            files: files
                .iter()
                .map(|(name, bytes)| FileFacts::new(name, bytes))
                .collect(),
        };
        let statement = rewrap.encode(&*self.log.signer()).map_err(RewrapError::Unfit)?;
        let event = Event::Rewrapped {
            by: self.order.by.clone(),
            number,
            statement: Digest::of(&statement),
            recipients: rewrap.recipients,
            custodians: rewrap.escrow.as_ref().map(custodians),
            reason: self.order.reason.clone(),
            ticket: self.order.ticket.clone(),
        };
        // Too many recipients for an entry are refused before anything is written.
        entry(0, of.facts.recording, event.clone())
            .encode()
            .map_err(|error| RewrapError::Unfit(error.to_string()))?;
        Ok((event, files, statement))
    }

    /// Logs all that are staged, and has the log sign for them. What cannot be logged is removed again.
    fn append(
        &self,
        before: &mut [Result<(Locked, Before), RewrapError>],
        ledger: &mut Ledger,
        now: &dyn Fn() -> u64,
    ) -> Result<(), LogError> {
        let logged = self.log.append_when(ledger, |ledger| {
            let mut entries = Vec::new();
            for made in before.iter_mut() {
                let Ok((locked, Before::Staged { seen, event, .. })) = made else {
                    continue;
                };
                let recording = locked.facts.recording;
                let history = ledger.of(recording);
                let same = history.map_or(Rewraps::Never, History::rewraps) == *seen
                    && history.is_none_or(|history| history.decided.is_none());
                if same {
                    entries.push(entry(now(), recording, Event::clone(event)));
                } else {
                    *made = Err(RewrapError::Changed);
                }
            }
            Ok::<_, LogError>(entries)
        });
        if logged.is_err() {
            for (_, made) in before.iter().flatten() {
                if let Before::Staged { stage, .. } = made {
                    // The log's error is the one to tell; what stays is removed by the next call.
                    let _ = stage.discard();
                }
            }
        }
        logged?;
        // What a checkpoint covers cannot be taken out of the log unseen: not before does it take effect.
        self.log.checkpoint().map(drop)
    }
}

fn entry(time: u64, recording: RecordingId, event: Event) -> Entry {
    Entry {
        time,
        recording: Some(recording),
        event,
    }
}

fn wanted(to: &Holders) -> (Vec<Digest>, Option<EscrowFacts>) {
    match to {
        Holders::Recipients(recipients) => (recipients.fingerprints(), None),
        Holders::Escrow(escrow) => (Vec::new(), Some(escrow.facts())),
    }
}

fn custodians(escrow: &EscrowFacts) -> Custodians {
    Custodians {
        threshold: escrow.m.into(),
        shares: escrow.n.into(),
        fingerprint: escrow.fingerprint,
    }
}

/// Does the work on every item, many at once, and gives what came of them in their order.
fn each<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let put = |(place, item)| {
        let made = work(item);
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        done.push((place, made));
        Ok::<_, std::convert::Infallible>(())
    };
    match together(items.into_iter().enumerate(), put) {
        Ok(()) => {}
        Err(never) => match never {},
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, made)| made).collect()
}
