//! What the recorder says to the audit log, and what happens while the log does not take it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use gst_e2ee_common::rate_limit::RateLimit;

use super::LogUnavailable;
use super::admission::unix_ms;
use crate::audit::{Entry, Event, Id, Log, LogError};
use crate::ids::RecordingId;
use crate::recording::{Rewraps, Root};
use crate::signing::{PublicKey, Signer};

/// So many entries wait for a log that is unavailable; later ones are lost, and counted.
const MOST: usize = 10_000;

/// So many entries go into the log at once.
const AT_ONCE: usize = 64;

/// The audit log of one recording.
pub struct Journal {
    path: PathBuf,
    log: Arc<Log>,
    policy: LogUnavailable,
    recording: Option<RecordingId>,
    waiting: Vec<Entry>,
    lost: u64,
    warnings: RateLimit,
}

/// Device and inode of a folder.
type Place = (u64, u64);

/// The logs that recorders of this process have open. Those of one folder share one: with a log each, every recorder reads
/// and checks what all the others write, one after the other under the folder's lock.
static OPEN: Mutex<Vec<(Place, Weak<Log>)>> = Mutex::new(Vec::new());

fn open_logs() -> MutexGuard<'static, Vec<(Place, Weak<Log>)>> {
    // Whole at every moment.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(folder: &Path) -> Option<Place> {
    let of = fs::metadata(folder).ok()?;
    Some((of.dev(), of.ino()))
}

fn find(open: &[(Place, Weak<Log>)], folder: &Path) -> Option<Arc<Log>> {
    let place = place(folder)?;
    let (_, log) = open.iter().find(|(of, _)| *of == place)?;
    log.upgrade()
}

fn shared(folder: &Path) -> Result<Arc<Log>, LogError> {
    let mut open = open_logs();
    find(&open, folder).map_or_else(|| add(&mut open, folder), Ok)
}

/// In place of one that is broken: the one that another recorder opened meanwhile, or a new one for all.
fn reopened(folder: &Path, broken: &Arc<Log>) -> Result<Arc<Log>, LogError> {
    let mut open = open_logs();
    let other = find(&open, folder).filter(|log| !Arc::ptr_eq(log, broken));
    other.map_or_else(|| add(&mut open, folder), Ok)
}

fn add(open: &mut Vec<(Place, Weak<Log>)>, folder: &Path) -> Result<Arc<Log>, LogError> {
    let log = Arc::new(Log::open(folder)?);
    let new = place(folder);
    open.retain(|(of, log)| Some(*of) != new && log.strong_count() > 0);
    open.extend(new.map(|place| (place, Arc::downgrade(&log))));
    Ok(log)
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
            log: shared(&path)?,
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

    /// How far the log knows the manifest of a recording: a manifest that ends before that lost lines. The error is one
    /// that nothing may be recorded after.
    pub fn known_root(&mut self, recording: RecordingId) -> Result<Option<Root>, LogError> {
        self.known(None, |log| log.known_root(recording))
    }

    /// What the log knows of a recording's re-wrappings. The error is one that nothing may be recorded after.
    pub fn known_rewraps(&mut self, recording: RecordingId) -> Result<Rewraps, LogError> {
        self.known(Rewraps::Unknown, |log| log.known_rewraps(recording))
    }

    /// Asks the log; `otherwise`: where it may be unavailable, and is.
    fn known<T>(&mut self, otherwise: T, ask: impl Fn(&Log) -> Result<T, LogError>) -> Result<T, LogError> {
        let known = match ask(&self.log) {
            Err(LogError::Broken(_)) => {
                self.log = reopened(&self.path, &self.log)?;
                ask(&self.log)
            }
            known => known,
        };
        match known {
            Err(_) if self.policy == LogUnavailable::Unanchored => Ok(otherwise),
            known => known,
        }
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
                    self.log = reopened(&self.path, &self.log)?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn recorders_of_one_process_share_the_log_of_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("log");
        let link = dir.path().join("link");
        let journal = |path: &Path| Journal::open(path.to_owned(), LogUnavailable::Fail).unwrap();
        let first = journal(&folder);
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        let second = journal(&link);
        assert!(Arc::ptr_eq(&first.log, &second.log));
        let other = journal(&dir.path().join("other"));
        assert!(!Arc::ptr_eq(&first.log, &other.log));

        // Who finds it broken first opens it anew for all.
        let broken = first.log.clone();
        let new = reopened(&folder, &broken).unwrap();
        assert!(!Arc::ptr_eq(&new, &broken));
        assert!(Arc::ptr_eq(&new, &reopened(&folder, &broken).unwrap()));
        assert!(Arc::ptr_eq(&new, &journal(&folder).log));

        // Another folder under the old name is another log.
        drop((first, second, broken, new));
        fs::rename(&folder, dir.path().join("gone")).unwrap();
        let key = journal(&folder).key();
        assert_ne!(key, journal(&dir.path().join("gone")).key());
    }
}
