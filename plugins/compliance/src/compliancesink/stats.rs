//! What a recorder counts.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Why a frame was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Nothing is recorded now.
    NotRecording,
    /// The room did not record in the epoch that it was sealed in.
    NotAdmitted,
    /// Nobody says in which epoch it was sealed.
    NoEpoch,
    /// Too much waits for the disk.
    QueueFull,
    /// It needs frames that are not there.
    WaitingKeyframe,
    /// Nothing can store what it is.
    Unsupported,
    /// It has no time, or one before the recording.
    NoTime,
    /// It has more bytes than a member may have.
    TooLarge,
    /// It did not come as far as here.
    Upstream,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NotRecording,
        Self::NotAdmitted,
        Self::NoEpoch,
        Self::QueueFull,
        Self::WaitingKeyframe,
        Self::Unsupported,
        Self::NoTime,
        Self::TooLarge,
        Self::Upstream,
    ];

    /// Its stable name in messages, in the manifest and in the audit log.
    pub const fn nick(self) -> &'static str {
        match self {
            Self::NotRecording => "not-recording",
            Self::NotAdmitted => "not-admitted",
            Self::NoEpoch => "no-epoch",
            Self::QueueFull => "queue-full",
            Self::WaitingKeyframe => "waiting-keyframe",
            Self::Unsupported => "unsupported",
            Self::NoTime => "no-time",
            Self::TooLarge => "too-large",
            Self::Upstream => "lost-upstream",
        }
    }

    /// Its name in the statistics.
    const fn field(self) -> &'static str {
        match self {
            Self::NotRecording => "dropped-not-recording",
            Self::NotAdmitted => "dropped-not-admitted",
            Self::NoEpoch => "dropped-no-epoch",
            Self::QueueFull => "dropped-queue-full",
            Self::WaitingKeyframe => "dropped-waiting-keyframe",
            Self::Unsupported => "dropped-unsupported",
            Self::NoTime => "dropped-no-time",
            Self::TooLarge => "dropped-too-large",
            Self::Upstream => "lost-upstream",
        }
    }
}

/// How often what happened.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub frames: u64,
    pub bytes: u64,
    pub segments: u64,
    pub sealed_bytes: u64,
    pub gaps: u64,
    pub tracks: u64,
    pub unlogged: u64,
    pub sync_time: Duration,
    pub uploaded: u64,
    pub pending: u64,
    pub upload_errors: u64,
    dropped: [u64; Cause::ALL.len()],
}

/// Counts for several threads.
#[derive(Debug, Default)]
pub struct Stats(Mutex<Counts>);

impl Stats {
    /// To count in. Nothing else is locked while this is held.
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a frame that was not kept.
    pub fn dropped(&self, cause: Cause) {
        self.counts().dropped[cause as usize] += 1;
    }
}

impl Counts {
    /// How it stands with the store.
    pub fn stored(&mut self, status: &crate::store::Status) {
        self.uploaded = status.uploaded;
        self.pending = status.pending;
        self.upload_errors = status.errors;
    }

    /// As the property `stats` has it.
    pub fn structure(&self, queue_bytes: usize, queue_time: Duration) -> gst::Structure {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut structure = gst::Structure::builder("compliancesink-stats")
            .field("frames", self.frames)
            .field("bytes", self.bytes)
            .field("segments", self.segments)
            .field("sealed-bytes", self.sealed_bytes)
            .field("gaps", self.gaps)
            .field("tracks", self.tracks)
            .field("unlogged", self.unlogged)
            .field("uploaded-bytes", self.uploaded)
            .field("pending-bytes", self.pending)
            .field("upload-errors", self.upload_errors)
            .field("queue-bytes", u64::try_from(queue_bytes).unwrap_or(u64::MAX))
            .field("queue-time", nanoseconds(queue_time))
            .field("sync-time", nanoseconds(self.sync_time))
            .build();
        for cause in Cause::ALL {
            structure.set(cause.field(), self.dropped[cause as usize]);
        }
        structure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_words_for_the_people_who_read_a_report() {
        for cause in Cause::ALL {
            assert!(crate::report::words::gap(cause.nick()).0.is_some(), "{cause:?}");
        }
    }
}
