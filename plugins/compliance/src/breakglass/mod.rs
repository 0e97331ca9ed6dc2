//! Break-glass: M of N custodians open one recording together, for a named requester, with a reason, until a time.
//!
//! ```text
//! opening station                      each custodian, on their own machine        opening station
//! (recording, audit log)
//! ask ── log: requested ── request ──▶ check ── approve ── decision ────────────▶ grant ── log: approved, denied
//!        one-time key                  own share, sealed to that one-time key        │
//!                                                                                   ├── log: opened, under a checkpoint
//!                                                                                   └── release ──▶ requester's one-time key
//! ```
//!
//! Requests and decisions are files that can be mailed by any way: what is in them is signed, public, or sealed to one
//! reader. The log is the only memory: what was asked is what its entry says, and a request opens once because the log
//! says that it did.
//!
//! What must never happen: a share is open anywhere but on its custodian's machine and in the station's memory; the
//! recording's key or its media reach the station's disk; anything is opened that the log does not have first; a misuse
//! is refused without an entry that tells of it. The format is in `RECORDING.md`.

use age::x25519::Recipient;

use crate::age_file::recipient;
use crate::audit::{Entry, EntryError, Event, Id, Text};
use crate::digest::Digest;
use crate::ids::RecordingId;

pub mod ask;
pub mod check;
pub mod custodian;
pub mod decision;
pub mod drill;
pub mod grant;
mod history;
pub mod judge;
pub mod release;
pub mod request;
pub mod token;

#[cfg(test)]
mod tests;

/// Longest time that a request may be open, in milliseconds: seven days.
pub const MAX_LIFETIME: u64 = 7 * 24 * 60 * 60 * 1000;

/// By what the log names the station where the machine refuses.
pub const STATION: &str = "station";

/// What somebody asks for, as its entry in the log says: nothing else counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which recording.
    pub recording: RecordingId,
    /// The request's random id.
    pub access: Id,
    /// Who asks.
    pub requester: Id,
    /// The requester's one-time key: what comes out is sealed to it.
    pub recipient: Recipient,
    /// The station's one-time key: shares are sealed to it.
    pub station: Recipient,
    /// Why.
    pub reason: Text,
    /// The case that it belongs to.
    pub ticket: Text,
    /// When it was asked, by the station's clock: unix time in milliseconds.
    pub time: u64,
    /// Until when it counts.
    pub expires: u64,
    /// SHA-256 of the entry. Decisions are bound to it, and so to everything above.
    pub digest: Digest,
}

/// An entry that asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// Another kind.
    #[error("is no request for a recording, but `{0}`")]
    Kind(&'static str),
    /// Keys to which nothing can be sealed.
    #[error("names a one-time key that {0}")]
    Recipient(#[from] crate::age_file::NotARecipient),
    /// The requester and the station are to be two.
    #[error("names the same key for the requester and for the station")]
    SameKey,
    /// Over before it began, or too long.
    #[error("does not end within seven days of its beginning")]
    Lifetime,
    /// It cannot be written.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

impl Asked {
    /// What an entry asks for.
    pub fn of(entry: &Entry) -> Result<Self, NotAsked> {
        let other = || NotAsked::Kind(entry.event.kind());
        let Event::AccessRequested {
            access,
            requester,
            recipient: theirs,
            station,
            reason,
            ticket,
            expires,
        } = &entry.event
        else {
            return Err(other());
        };
        if theirs == station {
            return Err(NotAsked::SameKey);
        }
        let lifetime = expires.checked_sub(entry.time).filter(|ms| *ms > 0);
        if lifetime.is_none_or(|ms| ms > MAX_LIFETIME) {
            return Err(NotAsked::Lifetime);
        }
        Ok(Self {
            recording: entry.recording.ok_or_else(other)?,
            access: access.clone(),
            requester: requester.clone(),
            recipient: recipient(theirs.as_str())?,
            station: recipient(station.as_str())?,
            reason: reason.clone(),
            ticket: ticket.clone(),
            time: entry.time,
            expires: *expires,
            digest: Digest::of(&entry.encode()?),
        })
    }

    /// Does it count at this time? Neither after it ends nor before it was asked: then a clock was set.
    pub fn counts_at(&self, time: u64) -> bool {
        (self.time..self.expires).contains(&time)
    }

    /// Is this custodian the one who asks? Compared are the requester's one-time key with the custodian's, and the
    /// requester's id with the custodian's: the fingerprint, the key's text, or the person that the file of custodians
    /// names. Whether a requester uses another person's id no program can see: custodians know who asks them.
    pub fn is_by(&self, custodian: &crate::bundle::Custodian) -> bool {
        let requester = self.requester.as_str();
        self.recipient == *custodian.recipient()
            || requester == custodian.recipient().to_string()
            || requester == custodian.fingerprint().to_string()
            || custodian.person() == Some(&self.requester)
    }
}
