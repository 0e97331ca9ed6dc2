//! What can be wrong with a log, and how it is told: which entry, which byte.

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::checkpoint::NoteError;
use super::entry::EntryError;
use super::frame::Fault;

/// Whose statement the log was compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The log's own file of this name.
    File(String),
    /// A witness, which saw it at this time (seconds since 1970).
    Witness {
        /// Its name.
        name: String,
        /// When it signed.
        time: u64,
    },
    /// A checkpoint that the verifier kept from an earlier time.
    Kept,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(name) => write!(f, "the file {name}"),
            Self::Witness { name, .. } => write!(f, "the witness {name}"),
            Self::Kept => f.write_str("the checkpoint that was given"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The file `log` does not begin as a log does.
    Header,
    /// Entries are not there as they were written.
    Fault(Fault),
    /// A whole entry whose content cannot be read.
    Entry {
        /// Which.
        index: u64,
        /// Where.
        offset: u64,
        /// Why.
        error: EntryError,
    },
    /// Entries that were signed are missing at the end.
    Cut {
        /// The first that is missing or damaged.
        index: u64,
        /// Where it would be.
        offset: u64,
        /// How many entries there were.
        size: u64,
        /// Who says so.
        source: Source,
    },
    /// The last entry is not whole, and nobody signed it.
    Unfinished {
        /// Which.
        index: u64,
        /// Where it starts.
        offset: u64,
        /// Bytes of it.
        bytes: u64,
    },
    /// Entries were changed, together with everything that frames them.
    Rewritten {
        /// The first that may be changed: those before are proved.
        index: u64,
        /// Where it starts.
        offset: u64,
        /// The first that is not concerned.
        size: u64,
        /// Who saw other ones.
        source: Source,
        /// Does the log's own checkpoint fit what is there now?
        signed_again: bool,
    },
    /// A checkpoint is missing.
    NoCheckpoint,
    /// A file with a checkpoint is not the log's.
    Note {
        /// The file.
        file: String,
        /// Why.
        error: NoteError,
    },
    /// The log's checkpoint is older than what was seen of it.
    OldCheckpoint {
        /// Its size.
        size: u64,
        /// What was seen.
        seen: u64,
        /// By whom.
        source: Source,
    },
    /// The file `vkey` is not the log's.
    VerifierKey,
}

impl Damage {
    /// Its word, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Fault(Fault::Unreadable { .. }) => "unreadable",
            Self::Fault(Fault::Missing { .. }) => "missing",
            Self::Fault(Fault::OutOfOrder { .. }) => "out-of-order",
            Self::Fault(Fault::Unlinked { .. }) => "unlinked",
            Self::Entry { .. } => "entry",
            Self::Cut { .. } => "cut",
            Self::Unfinished { .. } => "unfinished",
            Self::Rewritten { .. } => "rewritten",
            Self::NoCheckpoint => "no-checkpoint",
            Self::Note { .. } => "note",
            Self::OldCheckpoint { .. } => "old-checkpoint",
            Self::VerifierKey => "verifier-key",
        }
    }

    /// The first entry concerned, and the byte of the file `log` where it starts.
    pub fn place(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Header => Some((0, 0)),
            Self::Fault(
                Fault::Unreadable { index, offset, .. }
                | Fault::Missing { index, offset, .. }
                | Fault::OutOfOrder { index, offset, .. }
                | Fault::Unlinked { index, offset },
            )
            | Self::Entry { index, offset, .. }
            | Self::Cut { index, offset, .. }
            | Self::Unfinished { index, offset, .. }
            | Self::Rewritten { index, offset, .. } => Some((index, offset)),
            Self::NoCheckpoint | Self::Note { .. } | Self::OldCheckpoint { .. } | Self::VerifierKey => None,
        }
    }
}

/// `entry 5`, or `entries 5 to 7`.
fn entries(from: u64, next: u64) -> String {
    match next.saturating_sub(1) {
        last if last > from => format!("entries {from} to {last}"),
        _ => format!("entry {from}"),
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header => write!(
                f,
                "byte 0: the file log does not begin as an audit log of version 1"
            ),
            Self::Fault(Fault::Unreadable {
                index,
                next,
                offset,
                end,
            }) if next == index => {
                let before = *end;
                write!(
                    f,
                    "bytes {offset} to {}: something was put in before entry {index} (byte {before})",
                    end - 1
                )
            }
            Self::Fault(Fault::Unreadable {
                index,
                next,
                offset,
                end,
            }) => {
                let entries = entries(*index, *next);
                write!(f, "{entries}: damaged, bytes {offset} to {}", end - 1)
            }
            Self::Fault(Fault::Missing { index, next, offset }) => {
                let entries = entries(*index, *next);
                write!(f, "{entries}: missing, entry {next} follows at byte {offset}")
            }
            Self::Fault(Fault::OutOfOrder { index, found, offset }) => {
                write!(
                    f,
                    "byte {offset}: entry {found} stands where entry {index} should be: repeated or reordered"
                )
            }
            Self::Fault(Fault::Unlinked { index, offset }) => {
                write!(
                    f,
                    "entry {index} (byte {offset}): does not continue the entry before it: it or that one was replaced, \
                     or comes from another log"
                )
            }
            Self::Entry { index, offset, error } => {
                write!(f, "entry {index} (byte {offset}): {error}")
            }
            Self::Cut {
                index,
                offset,
                size,
                source,
            } => {
                let entries = entries(*index, *size);
                write!(
                    f,
                    "{entries}: cut off or damaged at byte {offset}; {source} covers {size} entries"
                )
            }
            Self::Unfinished { index, offset, bytes } => {
                write!(
                    f,
                    "entry {index}: not whole, {bytes} bytes at byte {offset}, and not signed: a crash while it was written, \
                     or damage since; the next opening cuts it off and says so in the log"
                )
            }
            Self::Rewritten {
                index,
                offset,
                size,
                source,
                signed_again,
            } => {
                let entries = entries(*index, *size);
                let by = if *signed_again {
                    ", and signed again by whoever holds the log's key"
                } else {
                    ""
                };
                write!(
                    f,
                    "{entries} (from byte {offset}): at least one is not what {source} saw: rewritten{by}"
                )
            }
            Self::NoCheckpoint => write!(
                f,
                "the file checkpoint is missing: nothing says that the log is whole"
            ),
            Self::Note { file, error } => write!(f, "the file {file} {error}"),
            Self::OldCheckpoint { size, seen, source } => {
                write!(
                    f,
                    "the file checkpoint covers {size} entries, but {source} saw {seen}: an older state was put back"
                )
            }
            Self::VerifierKey => write!(f, "the file vkey is not that of this log's key"),
        }
    }
}

impl Serialize for Damage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Damage", 4)?;
        object.serialize_field("kind", self.kind())?;
        object.serialize_field("entry", &self.place().map(|(entry, _)| entry))?;
        object.serialize_field("offset", &self.place().map(|(_, offset)| offset))?;
        object.serialize_field("text", &self.to_string())?;
        object.end()
    }
}
