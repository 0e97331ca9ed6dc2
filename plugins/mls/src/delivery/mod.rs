//! Delivery carries a room's log between its members: who appends a record, all read it, in one order.
//!
//! Whoever delivers is not trusted with anything but that. It sees sizes, times, certificates and the group's public
//! data, never content or keys; it can withhold, and show two logs to two members, which codes and silence reveal.
//!
//! | engine | where the log is | compare-and-set |
//! |---|---|---|
//! | [`sqlite`] | one SQLite file, for several processes of one user on one machine | yes |
//! | [`nats`] | one stream for each room on a NATS server or cluster with JetStream | yes |
//! | [`app`] | nowhere: the application's own signalling carries the bytes, in one order for all | no |
//!
//! The rule on top is the same for all engines: the first *valid* commit of an epoch in log order wins, and an author
//! merges its own only after it read it back. Compare-and-set saves the losers' work; nothing depends on it.

pub mod app;
mod bell;
pub mod nats;
mod place;
pub mod sqlite;

#[cfg(test)]
mod tests;

use crate::record::{MAX_RECORD, RecordError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Called from any thread when there may be more to read. It must be quick and must not call the delivery.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Names one log. Sequences of one log mean nothing in another.
pub type LogId = [u8; 16];

/// Records of one [`Delivery::read`] have at most so many bytes together, unless the first alone has more.
pub const MAX_READ: usize = 2 * MAX_RECORD;

/// Bytes of messages (records of kind `content`) that an engine keeps of a room for members that are away, unless
/// [`Delivery::keep_content`] says otherwise.
pub const KEPT_CONTENT: u64 = 64 << 20;

/// A record in its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number: from 1 up, greater than those of all records before it.
    pub sequence: u64,
    /// [`Record`](crate::record::Record), encoded. Comes from outside.
    pub bytes: Vec<u8>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It stands in the log under this sequence.
    Accepted(u64),
    /// It does not: another commit came first. Read, then try again.
    Moved,
    /// It is on its way, and will be read if it arrives. The engine has no compare-and-set.
    Sent,
}

/// A room's log.
///
/// An error of an append leaves open whether the record is in the log; reading tells.
pub trait Delivery: Send {
    /// Which log this is. If it is not the one that was read before, everything has to be read from 0.
    fn log(&self) -> LogId;

    /// Appends a record that is no commit; `kind` is [`Record::kind`](crate::record::Record::kind).
    fn append(&mut self, kind: &'static str, bytes: &[u8]) -> Result<Appended, DeliveryError>;

    /// Appends a commit record if the last commit record in the log still is the one with sequence `after` (0: none).
    fn append_commit(&mut self, after: u64, bytes: &[u8]) -> Result<Appended, DeliveryError>;

    /// At most `most` records with a sequence above `after`, in order. Gaps are records that nobody needs any more.
    fn read(&mut self, after: u64, most: usize) -> Result<Vec<Entry>, DeliveryError>;

    /// Sequence of the last commit record in the log, 0 if there is none.
    fn last_commit(&mut self) -> Result<u64, DeliveryError>;

    /// From now on, when this endpoint appends a message, the oldest ones of the room are forgotten that are more than
    /// these bytes together. An engine that keeps nothing ignores it.
    fn keep_content(&mut self, bytes: u64);

    /// From now on `waker` is called whenever there may be more to read, also by what this endpoint appended itself,
    /// and whenever a read would fail. It is called once at once, so that nothing falls between a read before and
    /// the waiting after. Replaces the waker before it.
    fn wake_by(&mut self, waker: Waker) -> Result<(), DeliveryError>;

    /// What a person should know about whoever delivers, said once at the start.
    fn warning(&self) -> Option<String> {
        None
    }
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The property `delivery` holds something else.
    #[error(
        "delivery={0} is not understood: use sqlite:PATH, `sqlite:` alone for a file below the user's runtime \
         directory, nats://HOST:PORT or tls://HOST:PORT for a NATS server, or `app`"
    )]
    Address(String),
    /// A path that only a shell understands.
    #[error("delivery={0}: only a shell expands ~ (and only at the start of a word): write the whole path")]
    Tilde(String),
    /// A NATS server, or the way to it.
    #[error(transparent)]
    Nats(#[from] nats::NatsError),
    /// Longer than anybody takes.
    #[error("a record of {0} bytes: nobody takes more than {MAX_RECORD}")]
    TooLong(usize),
    /// The application brought something else.
    #[error("the message is {0}: bring what `message-ready` gave out, one message at a time")]
    NotARecord(#[from] RecordError),
    /// The application brings messages faster than they are processed.
    #[error("{0} bytes of messages wait to be processed: bring this one again later")]
    QueueFull(usize),
    /// The log begins after that, or ends before it.
    #[error(
        "the log has the sequences {first} to {last}, nothing is known of what follows {after}: read it anew"
    )]
    NotHeld {
        /// What was asked for.
        after: u64,
        /// First sequence that can be read.
        first: u64,
        /// Last sequence in the log.
        last: u64,
    },
    /// The system refuses.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Neither file nor folder.
    #[error("{0} is neither a plain file nor in a folder: choose another path for delivery=sqlite:PATH")]
    NotAFile(PathBuf),
    /// It is somebody else's.
    #[error("{0} belongs to another user: choose a path in a folder of your own for delivery=sqlite:PATH")]
    OtherOwner(PathBuf),
    /// Others could change it.
    #[error(
        "{0} is open to other users (mode {1:03o}): run `chmod go-rwx` on it if it is yours alone, or choose a path \
         in a folder of your own for delivery=sqlite:PATH"
    )]
    TooOpen(PathBuf, u32),
    /// It was deleted, renamed or exchanged while it was open.
    #[error(
        "{0} was removed or replaced while the room used it: those who still use the old file hear nothing"
    )]
    Replaced(PathBuf),
    /// A process holds the database for longer than a transaction takes.
    #[error("{0} is locked by another process for more than five seconds: is one of them stopped?")]
    Busy(PathBuf),
    /// No space.
    #[error("no space left for {0}")]
    DiskFull(PathBuf),
    /// Not a database, or a damaged one.
    #[error(
        "{0} is damaged or not a database: move it away, and the members of its rooms will make a new one"
    )]
    Damaged(PathBuf),
    /// A database of another program or version.
    #[error("{0} is a database of another program or version: choose another path for delivery=sqlite:PATH")]
    Foreign(PathBuf),
    /// Anything else that SQLite says.
    #[error("cannot use {path}: {source}")]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl DeliveryError {
    /// May the same call succeed later, without anybody changing anything here?
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Nats(error) => error.is_temporary(),
            _ => matches!(self, Self::Busy(_) | Self::DiskFull(_) | Self::QueueFull(_)),
        }
    }
}

/// The value of the element's property `delivery`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// `sqlite:PATH`; none: [`sqlite::default_path`].
    Sqlite(Option<PathBuf>),
    /// `nats://…` or `tls://…`
    Nats(nats::Address),
    /// `app`
    App,
}

impl Choice {
    /// Reads the property.
    pub fn parse(text: &str) -> Result<Self, DeliveryError> {
        if text == "app" {
            return Ok(Self::App);
        }
        if nats::Address::is_one(text) {
            return Ok(Self::Nats(nats::Address::parse(text)?));
        }
        match text.strip_prefix("sqlite:") {
            Some("") => Ok(Self::Sqlite(None)),
            Some(path) if path == "~" || path.starts_with("~/") => Err(DeliveryError::Tilde(text.into())),
            // `sqlite://host/path` has no meaning here, `sqlite:///path` has only one.
            Some(path) if path.starts_with("//") && !path.starts_with("///") => {
                Err(DeliveryError::Address(text.into()))
            }
            Some(path) if !path.ends_with('/') && !path.contains('\0') => Ok(Self::Sqlite(Some(path.into()))),
            // Whatever it was meant to be, there may be a password in it.
            _ => Err(DeliveryError::Address(nats::redacted(text))),
        }
    }
}

/// Refuses what nobody would take.
fn check_length(bytes: &[u8]) -> Result<(), DeliveryError> {
    if bytes.len() > MAX_RECORD {
        return Err(DeliveryError::TooLong(bytes.len()));
    }
    Ok(())
}
