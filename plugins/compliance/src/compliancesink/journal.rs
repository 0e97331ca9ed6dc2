//! What the recorder says to the audit log, and what happens while the log does not take it.

use std::path::PathBuf;
use std::sync::Arc;

use gst_e2ee_common::rate_limit::RateLimit;

use super::LogUnavailable;
use super::admission::unix_ms;
use crate::audit::{Entry, Event, Id, Item, Log, LogError, Reader};
use crate::ids::RecordingId;
use crate::recording::Root;
use crate::signing::{PublicKey, Signer};

/// So many entries wait for a log that is unavailable; later ones are lost, and counted.
const MOST: usize = 10_000;

/// So many entries go into the log at once.
const AT_ONCE: usize = 64;

/// The audit log of one recording.
pub struct Journal {
    path: PathBuf,
    log: Log,
    policy: LogUnavailable,
    recording: Option<RecordingId>,
    waiting: Vec<Entry>,
    lost: u64,
    warnings: RateLimit,
}

/// What became of the entries.
#[derive(Debug)]
pub enum Flushed {
    /// All are in the log.
    All,
    /// The log does not take them, and the recording goes on. A text to warn with, where it is time for one.
    Later(Option<String>),
}

impl Journal {
    /// Opens the log, or makes it.
    pub fn open(path: PathBuf, policy: LogUnavailable) -> Result<Self, LogError> {
        Ok(Self {
            log: Log::open(&path)?,
            path,
            policy,
            recording: None,
            waiting: Vec::new(),
            lost: 0,
            warnings: RateLimit::new(std::time::Duration::from_secs(10)),
        })
    }

    /// What signs for the log, and for recordings.
    pub fn signer(&self) -> Arc<dyn Signer> {
        self.log.signer()
    }

    /// The log's key.
    pub fn key(&self) -> PublicKey {
        self.log.key()
    }

    /// How far the log knows the manifest of a recording: a manifest that ends before that lost lines. Reads the log.
    pub fn known_root(&self, recording: RecordingId) -> Option<Root> {
        let entries = Reader::open(&self.path).ok()?.filter_map(|item| match item {
            Ok(Item::Entry { entry: Ok(entry), .. }) if entry.recording == Some(recording) => {
                Some(entry.event)
            }
            _ => None,
        });
        let roots = entries.filter_map(|event| match event {
            Event::Manifest { lines, root } | Event::Recovered { lines, root, .. } => {
                Some(Root { lines, root })
            }
            _ => None,
        });
        roots.last()
    }

    /// Which recording it is about, once that is known.
    pub fn recording(&self) -> Option<RecordingId> {
        self.recording
    }

    /// What is noted from now on is about this recording.
    pub fn set_recording(&mut self, recording: RecordingId) {
        self.recording = Some(recording);
    }

    /// Notes what happened now. It is in the log after [`Self::flush`].
    pub fn note(&mut self, event: impl Into<Option<Event>>) {
        let Some(event) = event.into() else { return };
        if self.waiting.len() >= MOST {
            self.lost += 1;
            return;
        }
        self.waiting.push(Entry {
            time: unix_ms(),
            recording: self.recording,
            event,
        });
    }

    /// Entries that the log did not take so far.
    pub fn unlogged(&self) -> u64 {
        self.lost + u64::try_from(self.waiting.len()).unwrap_or(u64::MAX)
    }

    /// Brings what was noted into the log. The error is one that ends the recording.
    pub fn flush(&mut self) -> Result<Flushed, LogError> {
        match self.append() {
            Ok(()) => Ok(Flushed::All),
            Err(error) if self.policy == LogUnavailable::Fail => Err(error),
            Err(error) => {
                let now = std::time::Instant::now();
                let text = self.warnings.note(now).map(|_| {
                    let unlogged = self.unlogged();
                    format!("{error}. The recording goes on without: {unlogged} entries are not logged")
                });
                Ok(Flushed::Later(text))
            }
        }
    }

    fn append(&mut self) -> Result<(), LogError> {
        while !self.waiting.is_empty() {
            let part = self.waiting.len().min(AT_ONCE);
            match self.log.append_all(&self.waiting[..part]) {
                Ok(_) => {}
                // What is on the disk is seen when it is opened anew.
                Err(LogError::Broken(_)) => {
                    self.log = Log::open(&self.path)?;
                    self.log.append_all(&self.waiting[..part])?;
                }
                Err(error) => return Err(error),
            }
            self.waiting.drain(..part);
        }
        Ok(())
    }
}

/// Text as an id of the log: what is no printing ASCII is replaced, what is missing is called `unknown`.
pub fn id(text: &str) -> Option<Id> {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    let text: String = text.chars().map(plain).take(Id::MAX).collect();
    Id::new(if text.is_empty() { "unknown" } else { &text }).ok()
}
