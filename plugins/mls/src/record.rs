//! The records of a room's log: one commit and its Welcome are one record, so that no one without the other can win.
//!
//! One byte of version (1), one byte of kind, then the fields, each with a length of 4 bytes (big-endian) in front.
//! Records come from outside: a length that does not fit is an error, nothing is allocated by it.

/// A record's version byte.
const VERSION: u8 = 1;

/// Longest record that anybody needs to take, in bytes. At 1000 members a cold commit is 83 kB, its Welcome with the
/// tree some 500 kB.
pub const MAX_RECORD: usize = 4 << 20;

/// The kind of [`Record::Content`], as in its first bytes.
const CONTENT: u8 = 8;

/// Are these bytes a record of what people say? Nothing else is looked at.
pub fn is_content(bytes: &[u8]) -> bool {
    bytes.get(1) == Some(&CONTENT)
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A room begins: its MLS group id. The first one in a log counts.
    Create(Vec<u8>),
    /// A key package (RFC 9420 §10): its sender asks to be let in.
    KeyPackage(Vec<u8>),
    /// A commit and, where it adds members, its Welcome.
    Commit {
        /// MLSMessage with the commit.
        commit: Vec<u8>,
        /// MLSMessage with the Welcome.
        welcome: Option<Vec<u8>>,
    },
    /// An MLSMessage with a proposal: a member asks to be let go.
    Proposal(Vec<u8>),
    /// An MLSMessage with application data: signs of life, which nobody needs for long.
    Message(Vec<u8>),
    /// Somebody who cannot follow asks for the group's public state.
    GroupInfoRequest,
    /// An MLSMessage with a GroupInfo and its tree, for an external commit.
    GroupInfo(Vec<u8>),
    /// An MLSMessage with application data: a chunk of what people say, kept for those who are away.
    Content(Vec<u8>),
}

/// A record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another version than 1.
    #[error("a record of another version")]
    Version,
    /// A kind that does not exist.
    #[error("a record of unknown kind")]
    Kind,
    /// Lengths that do not fit.
    #[error("a record whose lengths do not fit")]
    Length,
    /// Longer than [`MAX_RECORD`].
    #[error("a record of more than {MAX_RECORD} bytes")]
    TooLong,
}

impl Record {
    /// Is it a commit? Commits are appended under a condition.
    pub fn is_commit(&self) -> bool {
        matches!(self, Self::Commit { .. } | Self::Create(_))
    }

    /// The kind's name, for delivery services that sort by it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::KeyPackage(_) => "key-package",
            Self::Commit { .. } => "commit",
            Self::Proposal(_) => "proposal",
            Self::Message(_) => "message",
            Self::GroupInfoRequest => "group-info-request",
            Self::GroupInfo(_) => "group-info",
            Self::Content(_) => "content",
        }
    }

    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, fields): (u8, Vec<&[u8]>) = match self {
            Self::Create(id) => (0, vec![id]),
            Self::KeyPackage(m) => (1, vec![m]),
            Self::Commit {
                commit,
                welcome: None,
            } => (2, vec![commit]),
            Self::Commit {
                commit,
                welcome: Some(welcome),
            } => (3, vec![commit, welcome]),
            Self::Proposal(m) => (4, vec![m]),
            Self::Message(m) => (5, vec![m]),
            Self::GroupInfoRequest => (6, vec![]),
            Self::GroupInfo(m) => (7, vec![m]),
            Self::Content(m) => (CONTENT, vec![m]),
        };
        let mut bytes = vec![VERSION, kind];
        for field in fields {
            // Nothing that we make is longer than 4 GiB.
            bytes.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }

    /// Reads a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD {
            return Err(RecordError::TooLong);
        }
        let [version, kind, rest @ ..] = bytes else {
            return Err(RecordError::Length);
        };
        if *version != VERSION {
            return Err(RecordError::Version);
        }
        let mut rest = rest;
        let mut field = || -> Result<Vec<u8>, RecordError> {
            let (length, after) = rest.split_first_chunk::<4>().ok_or(RecordError::Length)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| RecordError::Length)?;
            let (field, after) = after.split_at_checked(length).ok_or(RecordError::Length)?;
            rest = after;
            Ok(field.to_vec())
        };
        let record = match kind {
            0 => Self::Create(field()?),
            1 => Self::KeyPackage(field()?),
            2 => Self::Commit {
                commit: field()?,
                welcome: None,
            },
            3 => Self::Commit {
                commit: field()?,
                welcome: Some(field()?),
            },
            4 => Self::Proposal(field()?),
            5 => Self::Message(field()?),
            6 => Self::GroupInfoRequest,
            7 => Self::GroupInfo(field()?),
            &CONTENT => Self::Content(field()?),
            _ => return Err(RecordError::Kind),
        };
        if rest.is_empty() {
            Ok(record)
        } else {
            Err(RecordError::Length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> impl Strategy<Value = Record> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            bytes().prop_map(Record::Create),
            bytes().prop_map(Record::KeyPackage),
            (bytes(), prop::option::of(bytes()))
                .prop_map(|(commit, welcome)| Record::Commit { commit, welcome }),
            bytes().prop_map(Record::Proposal),
            bytes().prop_map(Record::Message),
            Just(Record::GroupInfoRequest),
            bytes().prop_map(Record::GroupInfo),
            bytes().prop_map(Record::Content),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(record in records()) {
            prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
        }

        #[test]
        fn a_cut_or_longer_record_is_refused(record in records(), extra in any::<u8>()) {
            let bytes = record.encode();
            for length in 0..bytes.len() {
                prop_assert!(Record::decode(&bytes[..length]).is_err());
            }
            let longer = [&bytes[..], &[extra]].concat();
            prop_assert!(Record::decode(&longer).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_record_beyond_the_limit_is_refused() {
        let record = Record::Message(vec![0; MAX_RECORD]);
        assert_eq!(Record::decode(&record.encode()), Err(RecordError::TooLong));
    }
}
