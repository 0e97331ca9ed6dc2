//! The one way to a recording's media: who reads it and why stands in the audit log that the recording pins, durably
//! and signed for, before anything is decrypted. `compliancesrc` and `gst-compliance open` both go it.
//!
//! [`Opening::prepare`] needs no key: it reads what the recording says of itself and holds it against the log.
//! [`Opening::unlock`] writes the entry and only then touches the identity; [`Opening::unlock_together`] does the same with
//! what custodians put together. The [`Access`] that they give writes the entry that ends it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::x25519::Identity;
use ring::rand::{SecureRandom, SystemRandom};

use crate::age_file::{self, IdentityError};
use crate::audit::entry::Way;
use crate::audit::{Appended, Entry, Event, Id, Log, LogError, Text, TextError};
use crate::breakglass::STATION;
use crate::breakglass::grant::Grant;
use crate::breakglass::judge::Misuse;
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::recording::{HoldersError, Index, Key, OpenError, Options, Reader, Request, Rewraps, TrackId};
use crate::signing::PublicKey;

/// Who opens a recording, and why. All of it stands in the log for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    reader: Id,
    reason: Text,
    ticket: Text,
}

impl Purpose {
    /// `reader`: who reads, an opaque id and no name. `ticket`: the case or order that it belongs to.
    pub fn new(reader: &str, reason: &str, ticket: &str) -> Result<Self, AccessError> {
        let unfit = |what| move |error| AccessError::Purpose { what, error };
        Ok(Self {
            reader: Id::new(reader).map_err(unfit("reader"))?,
            reason: Text::new(reason).map_err(unfit("reason"))?,
            ticket: Text::new(ticket).map_err(unfit("ticket"))?,
        })
    }

    /// Who reads.
    pub fn reader(&self) -> &Id {
        &self.reader
    }
}

/// Why a recording is not opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The log must say who and why.
    #[error("the {what} is needed, as the audit log will show it: {error}")]
    Purpose {
        /// Which part of it.
        what: &'static str,
        /// What is wrong with it.
        error: TextError,
    },
    /// Others can read the private key.
    #[error(
        "{path} can be read by other users (mode {mode:03o}): run `chmod 600 {path}`, or use another key if somebody did"
    )]
    IdentityTooOpen {
        /// The identity file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No log, no access.
    #[error(
        "the access cannot be logged, so nothing is opened: {error}. The recording names the audit log with the key {pinned}"
    )]
    Log {
        /// What is wrong with the log.
        error: LogError,
        /// The key of the log that it must be.
        pinned: PublicKey,
    },
    /// The access would stand where nobody looks for it.
    #[error(
        "{log} is another audit log (key {key}): the recording names the one with the key {pinned} and is opened through that alone"
    )]
    AnotherLog {
        /// The log that was given.
        log: PathBuf,
        /// Its key.
        key: PublicKey,
        /// The key in recording.json.
        pinned: PublicKey,
    },
    /// The recording, or its key.
    #[error(transparent)]
    Recording(#[from] OpenError),
    /// One request, one opening.
    #[error("request {0} has opened the recording already, and opens it once: ask again")]
    Replayed(Id),
    /// No random numbers.
    #[error("the system gives no random numbers, so the access gets no id and nothing is opened")]
    Random,
}

/// Reads a file of age identities that nobody but its owner can read.
pub fn identities(path: &Path) -> Result<Vec<Identity>, AccessError> {
    only_its_owner_reads(path)?;
    Ok(age_file::identities(path)?)
}

/// Refuses a file of secrets that others can read.
pub(crate) fn only_its_owner_reads(path: &Path) -> Result<(), AccessError> {
    let metadata = path.metadata().map_err(|error| IdentityError::Io {
        path: path.display().to_string(),
        error,
    })?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(AccessError::IdentityTooOpen { path, mode });
    }
    Ok(())
}

/// A recording that is about to be opened, and the log for that.
#[derive(Debug)]
pub struct Opening {
    index: Index,
    log: Arc<Log>,
    shortened: Option<OpenError>,
}

impl Opening {
    /// Reads the recording in a folder, and opens its log. No key is needed, and nothing is written but what a log
    /// recovers by itself.
    pub fn prepare(recording: &Path, log: &Path) -> Result<Self, AccessError> {
        let index = Index::open(recording, &Options::default())?;
        let pinned = index.facts().log_key;
        let log = Log::open_existing(log).map_err(|error| AccessError::Log { error, pinned })?;
        if log.key() != pinned {
            return Err(AccessError::AnotherLog {
                log: log.path().to_owned(),
                key: log.key(),
                pinned,
            });
        }
        // Who holds its key, as the log knows it: what was put back is not believed, what was interrupted took effect.
        let (index, rewraps) = as_logged(index, &log)?;
        // A signed end record says that nothing is missing behind it. Without one, only the log knows how far it went.
        let known = match index.is_finished() {
            true => None,
            false => log
                .known_root(index.facts().recording)
                .map_err(|error| AccessError::Log { error, pinned })?,
        };
        let mut shortened = None;
        if known.is_some_and(|known| known != index.root()) {
            // It may have grown since. Whether what was known is still in it only its lines tell.
            let options = Options {
                known,
                rewraps,
                ..Options::default()
            };
            shortened = Index::open(recording, &options).err();
        }
        Ok(Self {
            index,
            log: Arc::new(log),
            shortened,
        })
    }

    /// What the recording has.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The manifest is not the one that the log knows, or ends before that: media is missing that was sealed. What is
    /// there is still what was sealed.
    pub fn shortened(&self) -> Option<&OpenError> {
        self.shortened.as_ref()
    }

    /// The recording's log.
    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Somebody asked for this recording and gets nothing: says so in the log. `time`: now, unix time in milliseconds.
    pub fn refuse(&self, by: &Id, reason: Text, time: u64) -> Result<(), AccessError> {
        let pinned = self.index.facts().log_key;
        let denied = Event::AccessDenied {
            access: random_id()?,
            by: by.clone(),
            reason,
        };
        let entry = Entry {
            time,
            recording: Some(self.index.facts().recording),
            event: denied,
        };
        let logged = self.log.append(&entry).map(drop);
        logged.map_err(|error| AccessError::Log { error, pinned })
    }

    /// Puts the access into the log, which signs for it, and then opens the tracks with a recipient's identities. `tracks`: none means all.
    /// `time`: now, unix time in milliseconds.
    pub fn unlock(
        self,
        identities: &[Identity],
        purpose: &Purpose,
        tracks: Vec<TrackId>,
        time: u64,
    ) -> Result<(Reader, Access), AccessError> {
        let id = random_id()?;
        let opened = Event::AccessOpened {
            access: id.clone(),
            reader: purpose.reader.clone(),
            way: Way::Recipient,
            reason: purpose.reason.clone(),
            ticket: Some(purpose.ticket.clone()),
            tracks: tracks.iter().map(|track| track.0).collect(),
        };
        let request = Request {
            reason: purpose.reason.to_string(),
            ticket: purpose.ticket.to_string(),
            tracks,
        };
        self.open(Key::Recipient(identities), id, opened, request, time)
    }

    /// The same with the identity that custodians put together, for all tracks. A request opens once: where the log has an
    /// access of it, whichever process wrote that, nothing is opened, and that it was tried is logged. `time`: now, unix
    /// time in milliseconds.
    pub fn unlock_together(self, grant: Grant, way: Way, time: u64) -> Result<(Reader, Access), AccessError> {
        let asked = grant.asked();
        let id = asked.access.clone();
        let opened = Event::AccessOpened {
            access: id.clone(),
            reader: asked.requester.clone(),
            way,
            reason: asked.reason.clone(),
            ticket: Some(asked.ticket.clone()),
            tracks: Vec::new(),
        };
        let request = Request {
            reason: asked.reason.to_string(),
            ticket: asked.ticket.to_string(),
            tracks: Vec::new(),
        };
        self.open(Key::Recording(grant.into_identity()), id, opened, request, time)
    }

    fn open(
        self,
        key: Key<'_>,
        id: Id,
        opened: Event,
        request: Request,
        time: u64,
    ) -> Result<(Reader, Access), AccessError> {
        let Self { index, log, .. } = self;
        let access = Access {
            log,
            id,
            recording: index.facts().recording,
        };
        let mut is_logged = false;
        let pinned = index.facts().log_key;
        let mut failed = None;
        // Nobody else has an id that was drawn for this access.
        let once = matches!(key, Key::Recording(_));
        let reader = index.unlock(key, request, |_| {
            let logged = access.begin(opened, once, time);
            is_logged = logged.is_ok();
            // What a checkpoint covers cannot be taken out of the log unseen: not even for a moment is it read before.
            let signed = logged.and_then(|()| Ok(access.log.checkpoint().map(drop)?));
            signed.map_err(|error| {
                let error = match error {
                    Begin::Log(error) => AccessError::Log { error, pinned },
                    Begin::Again => AccessError::Replayed(access.id.clone()),
                };
                failed.insert(error).to_string()
            })
        });
        match reader {
            Ok(reader) => Ok((reader, access)),
            Err(error) => {
                if is_logged {
                    // Somebody tried and could not. That stands in the log already; this says that nothing came of it.
                    let _ = access.end(0, time);
                }
                Err(failed.unwrap_or(error.into()))
            }
        }
    }
}

/// Why an access did not begin.
enum Begin {
    Log(LogError),
    Again,
}

impl From<LogError> for Begin {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// The recording with the holders that the log knows, and what the log knows of them.
fn as_logged(index: Index, log: &Log) -> Result<(Index, Rewraps), AccessError> {
    let pinned = index.facts().log_key;
    let path = index.path().to_owned();
    let mut again = true;
    loop {
        let rewraps = log
            .known_rewraps(index.facts().recording)
            .map_err(|error| AccessError::Log { error, pinned })?;
        if rewraps == Rewraps::Never && index.holders().number == 0 {
            return Ok((index, rewraps));
        }
        let options = Options {
            rewraps,
            ..Options::default()
        };
        match Index::open(&path, &options) {
            // It was re-wrapped after the log was read, and before the folder was.
            Err(OpenError::Holders {
                error: HoldersError::NotLogged(_),
                ..
            }) if again => again = false,
            index => return Ok((index?, rewraps)),
        }
    }
}

/// A readable copy, as the log says it.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Who made it.
    pub by: Id,
    /// As what.
    pub format: Id,
    /// SHA-256 of it.
    pub sha256: Digest,
    /// Its size.
    pub bytes: u64,
    /// Where it goes.
    pub destination: Text,
    /// Who gets it.
    pub recipient: Option<Id>,
    /// For what.
    pub purpose: Option<Id>,
}

/// An access that is in the log, and goes on.
#[derive(Debug)]
pub struct Access {
    log: Arc<Log>,
    id: Id,
    recording: RecordingId,
}

impl Access {
    /// Its random id.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Says that a readable copy was made; the log has it, and signs for it, when this returns. What it says there.
    pub fn exported(&self, copy: Copy, time: u64) -> Result<(Appended, Entry), LogError> {
        let entry = Entry {
            time,
            recording: Some(self.recording),
            event: Event::Exported {
                access: self.id.clone(),
                by: copy.by,
                format: copy.format,
                sha256: copy.sha256,
                bytes: copy.bytes,
                destination: copy.destination,
                recipient: copy.recipient,
                purpose: copy.purpose,
            },
        };
        let appended = self.log.append(&entry)?;
        self.log.checkpoint()?;
        Ok((appended, entry))
    }

    /// Says that nothing is read any more, after so many members. `time`: now, unix time in milliseconds.
    pub fn end(self, members: u64, time: u64) -> Result<(), LogError> {
        let ended = Event::AccessEnded {
            access: self.id.clone(),
            members,
        };
        self.append(ended, time)
    }

    /// Logs that it begins. `once`: unless it is there that it began before.
    fn begin(&self, opened: Event, once: bool, time: u64) -> Result<(), Begin> {
        if !once {
            return Ok(self.append(opened, time)?);
        }
        let is_like = |entry: &Entry| match &entry.event {
            Event::AccessOpened { access, .. } => *access == self.id,
            _ => false,
        };
        if self
            .log
            .append_first(&self.entry(opened, time), is_like)?
            .is_some()
        {
            return Ok(());
        }
        if let Ok(by) = Id::new(STATION) {
            let denied = Event::AccessDenied {
                access: self.id.clone(),
                by,
                reason: Misuse::Replayed(self.id.clone()).reason(),
            };
            self.append(denied, time)?;
        }
        Err(Begin::Again)
    }

    fn append(&self, event: Event, time: u64) -> Result<(), LogError> {
        self.log.append(&self.entry(event, time)).map(drop)
    }

    fn entry(&self, event: Event, time: u64) -> Entry {
        Entry {
            time,
            recording: Some(self.recording),
            event,
        }
    }
}

pub(crate) fn random_id() -> Result<Id, AccessError> {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| AccessError::Random)?;
    Id::new(&hex::encode(bytes)).map_err(|_| AccessError::Random)
}
