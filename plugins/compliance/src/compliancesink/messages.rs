//! What the element says on the bus. The names of the messages and of their fields are stable.

use std::path::Path;

use crate::ids::RecordingId;
use crate::properties::nanoseconds;
use crate::recording::{Gap, Root, Sealed, TrackId};
use crate::store::Status;

/// Frames are kept from now on. `resumed`: they were before, too; `recovered`: by an earlier process, which crashed.
pub struct Started<'a> {
    pub recording: RecordingId,
    pub path: &'a Path,
    pub claim: String,
    pub epoch: Option<u64>,
    pub resumed: bool,
    pub recovered: bool,
}

fn id(recording: Option<RecordingId>) -> String {
    recording.map_or_else(String::new, |recording| recording.to_string())
}

/// `compliance-started`: `recording-id`, `location` (its folder), `claim` (recorded, escrow, unattested), `epoch` (u64;
/// 0 without a room), `resumed`, `recovered` (boolean).
pub fn started(of: &Started<'_>) -> gst::Structure {
    gst::Structure::builder("compliance-started")
        .field("recording-id", of.recording.to_string())
        .field("location", of.path.to_string_lossy().into_owned())
        .field("claim", &of.claim)
        .field("epoch", of.epoch.unwrap_or(0))
        .field("resumed", of.resumed)
        .field("recovered", of.recovered)
        .build()
}

/// `compliance-segment`: a member is on disk for good. `recording-id`, `track` (u32), `sequence` (u64), `start`, `stop`
/// (u64, nanoseconds on the recording's clock), `bytes` (u64).
pub fn segment(recording: RecordingId, sealed: &Sealed) -> gst::Structure {
    gst::Structure::builder("compliance-segment")
        .field("recording-id", recording.to_string())
        .field("track", sealed.track.0)
        .field("sequence", sealed.sequence)
        .field("start", sealed.from_ns)
        .field("stop", sealed.to_ns)
        .field("bytes", sealed.bytes)
        .build()
}

/// `compliance-gap`: frames are missing. `recording-id`, `track` (u32), `start`, `stop` (u64, nanoseconds on the
/// recording's clock), `frames` (u64), `cause` (see the property `stats`, without `dropped-`).
pub fn gap(recording: RecordingId, track: TrackId, gap: &Gap) -> gst::Structure {
    gst::Structure::builder("compliance-gap")
        .field("recording-id", recording.to_string())
        .field("track", track.0)
        .field("start", gap.from_ns)
        .field("stop", gap.to_ns)
        .field("frames", gap.frames)
        .field("cause", &gap.cause)
        .build()
}

/// `compliance-paused`: nothing is kept for now, and why. `recording-id` (empty where none has begun), `cause` (a stable
/// word), `reason` (a sentence).
pub fn paused(recording: Option<RecordingId>, cause: &str, reason: &str) -> gst::Structure {
    gst::Structure::builder("compliance-paused")
        .field("recording-id", id(recording))
        .field("cause", cause)
        .field("reason", reason)
        .build()
}

/// `compliance-stopped`: the end record is written. `recording-id`, `cause`, `lines` (u64) and `root` (hex) of the
/// manifest.
pub fn stopped(recording: RecordingId, cause: &str, root: Root) -> gst::Structure {
    gst::Structure::builder("compliance-stopped")
        .field("recording-id", recording.to_string())
        .field("cause", cause)
        .field("lines", root.lines)
        .field("root", root.root.to_string())
        .build()
}

/// `compliance-store`: how it stands with the store. `state` (ok, behind, away, failed), `bytes-pending` (u64: in the spool
/// and not in the store), `oldest-pending` (u64, nanoseconds: the oldest of them is at most so old), `bytes-spooled` (u64: of
/// recordings in the spool), `reason` (what is wrong and what to do, empty where all is well).
pub fn store(status: &Status) -> gst::Structure {
    gst::Structure::builder("compliance-store")
        .field("state", status.state.to_string())
        .field("bytes-pending", status.pending)
        .field("oldest-pending", nanoseconds(status.oldest))
        .field("bytes-spooled", status.spool)
        .field("reason", status.trouble.clone().unwrap_or_default())
        .build()
}

/// `compliance-failed`: `recording-id` (empty where none has begun), `cause` (a stable word), `reason` (what to do).
pub fn failed(recording: Option<RecordingId>, cause: &str, reason: &str) -> gst::Structure {
    gst::Structure::builder("compliance-failed")
        .field("recording-id", id(recording))
        .field("cause", cause)
        .field("reason", reason)
        .build()
}
