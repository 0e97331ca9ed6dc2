//! What the element says on the bus. The names of the messages and of their fields are stable.

use std::ops::Range;

use crate::audit::Id;
use crate::ids::RecordingId;
use crate::recording::{GapInfo, TrackId};

/// `compliance-opened`: the access is in the audit log, and the recording is open. `recording-id`, `access` (its id in
/// the log), `reader`, `tracks` (u32, those that are played), `duration` (u64, nanoseconds), `ended` (boolean: it has its
/// end record; otherwise it goes on, or its recorder died).
pub fn opened(
    recording: RecordingId,
    access: &Id,
    reader: &Id,
    tracks: u32,
    duration_ns: u64,
    ended: bool,
) -> gst::Structure {
    gst::Structure::builder("compliance-opened")
        .field("recording-id", recording.to_string())
        .field("access", access.as_str())
        .field("reader", reader.as_str())
        .field("tracks", tracks)
        .field("duration", duration_ns)
        .field("ended", ended)
        .build()
}

/// `compliance-gap`: what the recorder did not keep, when playing comes to it; the same fields as the recorder's.
/// `recording-id`, `track` (u32), `start`, `stop` (u64, nanoseconds on the recording's clock), `frames` (u64), `cause`.
pub fn gap(recording: RecordingId, track: TrackId, gap: &GapInfo) -> gst::Structure {
    gst::Structure::builder("compliance-gap")
        .field("recording-id", recording.to_string())
        .field("track", track.0)
        .field("start", gap.from_ns)
        .field("stop", gap.to_ns)
        .field("frames", gap.frames)
        .field("cause", &gap.cause)
        .build()
}

/// `compliance-damaged`: a member is not what was sealed and is not played. `recording-id`, `track` (u32), `sequence`
/// (u64, the member), `start`, `stop` (u64, nanoseconds on the recording's clock), `reason` (a sentence).
pub fn damaged(
    recording: RecordingId,
    track: TrackId,
    sequence: u64,
    time: &Range<u64>,
    why: &str,
) -> gst::Structure {
    gst::Structure::builder("compliance-damaged")
        .field("recording-id", recording.to_string())
        .field("track", track.0)
        .field("sequence", sequence)
        .field("start", time.start)
        .field("stop", time.end)
        .field("reason", why)
        .build()
}

/// `compliance-shortened`: the audit log knows more of the recording than there is, or other lines than are there.
/// `recording-id`, `reason` (a sentence).
pub fn shortened(recording: RecordingId, why: &str) -> gst::Structure {
    gst::Structure::builder("compliance-shortened")
        .field("recording-id", recording.to_string())
        .field("reason", why)
        .build()
}
