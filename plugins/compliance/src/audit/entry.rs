//! What stands in the log: who did what with which recording, when and why, in JSON of one exact form.
//!
//! Every id is opaque and every text was typed by an operator for this purpose: no names, no media, no keys.
//! An entry that would be written differently than it was read is refused, so that nobody can hide a second meaning
//! in its bytes.

use serde::{Deserialize, Serialize};

use super::text::{Id, Text};
use crate::digest::{Digest, Salted};
use crate::ids::RecordingId;

/// Longest entry, in bytes.
pub const MAX_ENTRY: usize = 16 << 10;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When, by the clock of the machine that wrote it: milliseconds since 1970, UTC.
    pub time: u64,
    /// Which recording. None where it is about the log itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingId>,
    /// What happened.
    pub event: Event,
}

/// Under which claim the room was (product.md: who holds keys).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// The participants alone.
    Strict,
    /// Named recorders and the recordings' recipients too.
    Recorded,
    /// As recorded, but M of N custodians instead of recipients.
    Escrow,
    /// There is no room that says so.
    Unattested,
}

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Captions, chat.
    Text,
    /// Application data.
    Data,
}

/// How the consent to a recording stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsentStatus {
    /// It permits the recording.
    Valid,
    /// It was taken back.
    Withdrawn,
    /// Its period is over, or has not begun.
    OutsidePeriod,
    /// It is there and does not permit the recording.
    Refused,
    /// It is not the one that the room refers to, or cannot be read.
    Unusable,
}

/// The custodians of a recording: any `threshold` of `shares` can open it together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custodians {
    /// How many it takes.
    pub threshold: u32,
    /// How many there are.
    pub shares: u32,
    /// Which they are: the escrow policy's fingerprint.
    pub fingerprint: Digest,
}

/// A track's tail that was cut off after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The track.
    pub track: u32,
    /// Bytes that were cut off.
    pub bytes: u64,
}

/// By which way a recording was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A recipient opened it alone.
    Recipient,
    /// Custodians opened it together.
    BreakGlass,
    /// A drill, on a canary recording.
    Drill,
}

/// What forbids that a recording is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// A legal hold.
    Hold,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A recording began.
    Started {
        /// The recorder's subject id.
        recorder: Id,
        /// The room's opaque id.
        room: Id,
        /// The room's epoch.
        epoch: u64,
        /// The room's claim.
        claim: Claim,
        /// SHA-256 of the room's policy. None without a room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<Digest>,
        /// The room's reference to the consent, as its policy has it: who has the consent can compare.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consent: Option<Salted>,
        /// Fingerprints of those who can each open it alone.
        recipients: Vec<Digest>,
        /// Who can open it together.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        custodians: Option<Custodians>,
        /// Days for which it shall be kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retention_days: Option<u32>,
    },
    /// The consent was judged, or judged anew.
    Consent {
        /// The room's reference to it, as above. None where the room names none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<Salted>,
        /// How it stands.
        status: ConsentStatus,
        /// Until when it is valid: milliseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
    },
    /// A track began.
    TrackOpened {
        /// Its number in the recording.
        track: u32,
        /// What it carries.
        medium: Medium,
        /// The sender's subject id.
        sender: Id,
        /// The sender's leaf in the group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leaf: Option<u32>,
    },
    /// Frames of a track were not kept.
    Gap {
        /// The track.
        track: u32,
        /// On the recording's clock, in nanoseconds.
        from_ns: u64,
        /// On the recording's clock, in nanoseconds.
        to_ns: u64,
        /// How many frames.
        frames: u64,
        /// Why, as a stable nick: `slow-disk`, `off`, ….
        cause: Id,
    },
    /// The room entered an epoch.
    Epoch {
        /// Its number.
        epoch: u64,
        /// The group's recording state.
        on: bool,
        /// The claim.
        claim: Claim,
        /// SHA-256 of the policy.
        policy: Digest,
        /// How many members the group has. None where the key source does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        members: Option<u32>,
    },
    /// A recorder became a member of the group.
    RecorderIn {
        /// Its subject id.
        recorder: Id,
        /// SHA-256 of its certificate.
        certificate: Digest,
        /// In which epoch.
        epoch: u64,
    },
    /// A recorder is no longer a member of the group.
    RecorderOut {
        /// Its subject id.
        recorder: Id,
        /// In which epoch.
        epoch: u64,
    },
    /// The recording's manifest, so far.
    Manifest {
        /// Lines in it.
        lines: u64,
        /// SHA-256 of the last one, which is chained to all before.
        root: Digest,
    },
    /// Nothing is kept for the time being.
    Paused {
        /// Why, as a stable nick: `off`, `consent`, `stale`, ….
        cause: Id,
    },
    /// It goes on.
    Resumed {
        /// The room's epoch.
        epoch: u64,
    },
    /// The recording ended as it should.
    Stopped {
        /// Why, as a stable nick: `eos`, `off`, `consent`, ….
        cause: Id,
        /// Lines in the finished manifest.
        lines: u64,
        /// SHA-256 of its last line.
        root: Digest,
    },
    /// The recording ended by a fault.
    Failed {
        /// Which, as a stable nick: `disk-full`, ….
        cause: Id,
        /// What the system said.
        reason: Text,
    },
    /// The recorder came back after a crash and goes on with the recording.
    Recovered {
        /// Lines in the manifest.
        lines: u64,
        /// SHA-256 of its last line.
        root: Digest,
        /// The recording's clock where it goes on, in nanoseconds.
        at_ns: u64,
        /// What was not sealed and had to be cut off.
        cuts: Vec<Cut>,
    },
    /// The machine's clock was set.
    ClockJump {
        /// By so many milliseconds.
        by_ms: i64,
    },
    /// The end of this log was cut off: bytes of an entry that nobody was told is in the log.
    LogRecovered {
        /// Where in the file `log`.
        offset: u64,
        /// How many bytes.
        bytes: u64,
        /// SHA-256 of them.
        sha256: Digest,
    },
    /// Somebody asks to open a recording.
    AccessRequested {
        /// The request's random id.
        access: Id,
        /// Who asks.
        requester: Id,
        /// The one-time public key that it shall be opened to: the requester's.
        recipient: Id,
        /// The one-time public key that custodians' shares shall be sealed to: the opening station's.
        station: Id,
        /// Why.
        reason: Text,
        /// The case or order that it belongs to.
        ticket: Text,
        /// Until when: milliseconds since 1970.
        expires: u64,
    },
    /// A custodian gave a share.
    AccessApproved {
        /// The request's id.
        access: Id,
        /// Who: the fingerprint of the custodian's recipient.
        custodian: Id,
        /// Which share.
        share: u32,
    },
    /// A custodian said no, or something was tried that is not allowed.
    AccessDenied {
        /// The request's id.
        access: Id,
        /// Who said so: a custodian, or `station` where the machine refused.
        by: Id,
        /// Why. The station's begins with a stable nick and a colon.
        reason: Text,
    },
    /// A recording is about to be read: this entry is there before the first byte comes out.
    AccessOpened {
        /// The access's random id.
        access: Id,
        /// Who reads: the fingerprint or the id of the key's holder.
        reader: Id,
        /// By which way.
        way: Way,
        /// Why.
        reason: Text,
        /// The case or order that it belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ticket: Option<Text>,
        /// The tracks. Empty: all.
        tracks: Vec<u32>,
    },
    /// It is read no more.
    AccessEnded {
        /// The access's id.
        access: Id,
        /// How many members were opened.
        members: u64,
    },
    /// A readable copy was made.
    Exported {
        /// The access's id.
        access: Id,
        /// Who did it.
        by: Id,
        /// As what: `matroska`, `mp4`, `fhir`, ….
        format: Id,
        /// SHA-256 of the copy.
        sha256: Digest,
        /// Its size.
        bytes: u64,
        /// Where it went to.
        destination: Text,
        /// Who gets it, as the records system names them: an opaque reference, no name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recipient: Option<Id>,
        /// For what: a code of HL7's v3-ActReason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        purpose: Option<Id>,
    },
    /// A page was made that tells of the recording and of all accesses to it. No media was opened for it.
    Reported {
        /// Who did it.
        by: Id,
        /// SHA-256 of the page.
        sha256: Digest,
    },
    /// The recording's key was wrapped to others.
    Rewrapped {
        /// Who did it.
        by: Id,
        /// How often that was done to this recording, this time included.
        number: u32,
        /// SHA-256 of the recording's new `rewrap.json`.
        statement: Digest,
        /// Fingerprints of those who can each open it alone from now on. Earlier copies stay what they are.
        recipients: Vec<Digest>,
        /// Who can open it together from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        custodians: Option<Custodians>,
        /// Why.
        reason: Text,
        /// The case or order that it belongs to.
        ticket: Text,
    },
    /// The recording must not be deleted until a release with the same ticket.
    HoldPlaced {
        /// Who says so.
        by: Id,
        /// Why.
        reason: Text,
        /// The case: a hold lasts until it is released for this one.
        ticket: Text,
    },
    /// The hold with this ticket is over. Those with others are not.
    HoldReleased {
        /// Who says so.
        by: Id,
        /// Why.
        reason: Text,
        /// The case of the hold.
        ticket: Text,
    },
    /// The recording is about to be deleted: this entry is there before anything of it is gone.
    DeletionDecided {
        /// Who decided.
        by: Id,
        /// Since when it was due: milliseconds since 1970.
        due: u64,
        /// Why.
        reason: Text,
        /// The case or order that it belongs to.
        ticket: Text,
    },
    /// Somebody wanted to delete the recording, and must not.
    DeletionRefused {
        /// Who wanted it.
        by: Id,
        /// What forbids it.
        cause: Obstacle,
        /// What forbids it, in words.
        reason: Text,
        /// The case or order that it would have belonged to.
        ticket: Text,
    },
    /// The recording's key files are destroyed: nobody opens it any more who kept no copy of them.
    Shredded {
        /// Who did it.
        by: Id,
        /// How many files were removed.
        files: u64,
    },
    /// The recording's media is deleted too.
    Deleted {
        /// Who did it.
        by: Id,
        /// How many files were removed.
        files: u64,
        /// Their length.
        bytes: u64,
    },
    /// The break-glass path was tried on a canary recording.
    Drill {
        /// The access's id.
        access: Id,
        /// Who did it.
        by: Id,
        /// Did it work?
        passed: bool,
        /// What was found.
        result: Text,
    },
}

/// Bytes that are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It has too much in it.
    #[error("an entry has at most {MAX_ENTRY} bytes, this one {0}")]
    TooLong(usize),
    /// It is not JSON of the known fields, or a value is not allowed.
    #[error("no entry of this version: {0}")]
    Malformed(String),
    /// It says something in another form than the one that is written.
    #[error("the entry is not in its one exact form")]
    OtherForm,
}

impl Entry {
    /// The entry's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        let bytes = serde_json::to_vec(self).map_err(|error| EntryError::Malformed(error.to_string()))?;
        if bytes.len() > MAX_ENTRY {
            return Err(EntryError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads an entry.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY {
            return Err(EntryError::TooLong(bytes.len()));
        }
        let entry: Self = serde_json::from_slice(bytes)
            // What it quotes of the bytes might not print.
            .map_err(|error| EntryError::Malformed(Text::lossy(&error.to_string()).to_string()))?;
        if entry.encode()? != bytes {
            return Err(EntryError::OtherForm);
        }
        Ok(entry)
    }
}

impl Event {
    /// The kind's word, as it stands in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Consent { .. } => "consent",
            Self::TrackOpened { .. } => "track-opened",
            Self::Gap { .. } => "gap",
            Self::Epoch { .. } => "epoch",
            Self::RecorderIn { .. } => "recorder-in",
            Self::RecorderOut { .. } => "recorder-out",
            Self::Manifest { .. } => "manifest",
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
            Self::Stopped { .. } => "stopped",
            Self::Failed { .. } => "failed",
            Self::Recovered { .. } => "recovered",
            Self::ClockJump { .. } => "clock-jump",
            Self::LogRecovered { .. } => "log-recovered",
            Self::AccessRequested { .. } => "access-requested",
            Self::AccessApproved { .. } => "access-approved",
            Self::AccessDenied { .. } => "access-denied",
            Self::AccessOpened { .. } => "access-opened",
            Self::AccessEnded { .. } => "access-ended",
            Self::Exported { .. } => "exported",
            Self::Reported { .. } => "reported",
            Self::Rewrapped { .. } => "rewrapped",
            Self::HoldPlaced { .. } => "hold-placed",
            Self::HoldReleased { .. } => "hold-released",
            Self::DeletionDecided { .. } => "deletion-decided",
            Self::DeletionRefused { .. } => "deletion-refused",
            Self::Shredded { .. } => "shredded",
            Self::Deleted { .. } => "deleted",
            Self::Drill { .. } => "drill",
        }
    }

    /// Is it a last word? Those are written even where the disk is full, from the log's reserve. What deletes a recording
    /// is one, because it makes room.
    pub fn closes(&self) -> bool {
        matches!(
            self,
            Self::Stopped { .. }
                | Self::Failed { .. }
                | Self::AccessEnded { .. }
                | Self::LogRecovered { .. }
                | Self::DeletionDecided { .. }
                | Self::Shredded { .. }
                | Self::Deleted { .. }
        )
    }
}

#[cfg(test)]
pub(crate) mod tests;
