//! What a verifier is told, and what it says.

use std::fmt;

use serde::Serialize;

use crate::recording::manifest::{Medium, Root, TrackId};
use crate::recording::{Facts, KeyHolders, Rewraps};
use crate::signing::PublicKey;

/// Most places that a report names; more are counted.
pub const MAX_DAMAGES: usize = 1000;

/// What a verifier knows beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The audit log's key. None: the one that recording.json names, and whoever could forge all of it can name any.
    pub log_key: Option<PublicKey>,
    /// Who must have dealt the key.
    pub dealer: Option<PublicKey>,
    /// How far the manifest went, as the audit log says: without that, a recording that was cut at a line's end, tars
    /// and all, passes for one that has not ended.
    pub known: Option<Root>,
    /// The last re-wrapping of its key, as the audit log says: without that, an older copy of the folder passes for one that
    /// was not re-wrapped.
    pub rewraps: Rewraps,
}

/// What a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has its end record, and every byte is as it was sealed.
    Complete,
    /// It has no end record: it goes on, or its recorder died. What was sealed is as it was sealed.
    Unfinished,
    /// Something is changed, missing or too much.
    Damaged,
}

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A file, by its path in the recording.
    File(String),
    /// A line of the manifest, counted from 0.
    Line(u64),
    /// A member.
    Member {
        /// Its track.
        track: TrackId,
        /// Its number in the track, from 0.
        sequence: u64,
    },
}

/// What is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It is not what was written or signed.
    Changed(String),
    /// It is not there.
    Missing,
    /// It ends too early.
    Truncated,
    /// It does not belong there.
    Extra,
    /// It stands in another place than it was signed for.
    OutOfOrder,
    /// A key file of holders before, or of a re-wrapping that was interrupted.
    LeftOver,
    /// Its line in the manifest is missing or changed, so that it cannot be checked.
    Unlisted,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Where.
    pub place: Place,
    /// What.
    pub what: What,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(name) => write!(f, "{}", name.escape_debug())?,
            Place::Line(line) => write!(f, "line {line} of the manifest")?,
            Place::Member { track, sequence } => write!(f, "member {sequence} of track {track}")?,
        }
        match &self.what {
            What::Changed(how) => write!(f, " is changed: {how}"),
            What::Missing => f.write_str(" is missing"),
            What::Truncated => f.write_str(" is cut off"),
            What::Extra => f.write_str(" does not belong there"),
            What::LeftOver => f.write_str(
                " is left over from before a re-wrapping or an interrupted one, and may still open the recording: run gst-compliance rewrap again",
            ),
            What::OutOfOrder => f.write_str(" stands where another one should"),
            What::Unlisted => f.write_str(" has no good line in the manifest, and cannot be checked"),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What the recording is.
    pub state: State,
    /// Its facts, where their signature is good.
    pub facts: Option<Facts>,
    /// Who holds its key now, where that can be told.
    pub holders: Option<KeyHolders>,
    /// Is the log key, the one that was given beforehand, the one that signed?
    pub pinned: bool,
    /// Lines and root of the manifest, as far as it is whole.
    pub root: Option<Root>,
    /// Its tracks.
    pub tracks: Vec<TrackReport>,
    /// When it ended, unix time in milliseconds, and why.
    pub end: Option<(u64, String)>,
    /// Members that the recorder could not seal, as its end record says.
    pub lost: u64,
    /// How often the recorder came back after a crash.
    pub resumed: u64,
    /// Bytes behind what was sealed, which a crash left, or which are being written.
    pub unsealed: u64,
    /// Everything that is wrong, up to [`MAX_DAMAGES`].
    pub damages: Vec<Damage>,
    /// How many more there are.
    pub more_damages: u64,
    /// Bytes of tars that were read.
    pub bytes: u64,
}

/// A track, as it was found.
#[derive(Debug, Clone, Serialize)]
pub struct TrackReport {
    /// Its number.
    pub track: TrackId,
    /// What it holds; none: its line is damaged.
    pub medium: Option<Medium>,
    /// Members that are as they were sealed.
    pub good: u64,
    /// Members that the manifest names.
    pub members: u64,
    /// Gaps that the manifest names.
    pub gaps: u64,
    /// Time of the first frame, nanoseconds.
    pub from_ns: u64,
    /// Time at which the last one ends.
    pub to_ns: u64,
}
