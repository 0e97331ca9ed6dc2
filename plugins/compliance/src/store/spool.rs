//! The local folder that recordings and the log are written to first.
//!
//! ```text
//! recordings/<id>/     as the recorder makes them
//! audit-log/           the log, with its key
//! store/lock           held by the process that uses the spool
//! store/place          where its recordings and its log go
//! store/<id>.json      of a recording that left: where it is, and what was compared there
//! store/<id>.gone/     one that leaves
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::ids::RecordingId;
use crate::recording::{Root, TRACKS};

/// Longest file of our own in `store/`.
const MAX_FILE: u64 = 64 << 10;

/// How long another one may take to let the spool go.
const PATIENCE: Duration = Duration::from_secs(2);

/// A spool, for this process alone.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    _lock: File,
}

/// What stays of a recording in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Where it is.
    pub location: String,
    /// Where its keys are.
    pub keys: String,
    /// How far its manifest goes.
    pub root: Root,
    /// So many objects were read back and compared with the spool.
    pub objects: u64,
    /// So many bytes.
    pub bytes: u64,
}

impl Spool {
    /// Opens a spool, or makes it; `place` says what goes where, and must be what it was before.
    pub fn open(path: &Path, place: &str) -> Result<Self, StoreError> {
        let store = path.join("store");
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for folder in [path, &recordings(path), &store] {
            builder.create(folder).map_err(StoreError::io(folder))?;
        }
        let lock_path = store.join("lock");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&lock_path).map_err(StoreError::io(&lock_path))?;
        let begun = Instant::now();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                // One that ends just now is waited for.
                Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(20));
                    continue;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(StoreError::io(&lock_path)(error.into())),
            }
            return Err(StoreError::Configuration(format!(
                "the spool {} is used by another process: give each process a spool of its own",
                path.display()
            )));
        }
        let place_path = self::place(path);
        match crate::bundle::read_bounded(&place_path, MAX_FILE) {
            Ok(found) if found == place.as_bytes() => {}
            Ok(found) => {
                return Err(StoreError::Configuration(format!(
                    "the spool {} is that of\n{}and not of\n{place}Give it what it began with, or another spool",
                    path.display(),
                    String::from_utf8_lossy(&found)
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                replace(&place_path, place.as_bytes()).map_err(StoreError::io(&place_path))?;
            }
            Err(error) => return Err(StoreError::io(&place_path)(error)),
        }
        let spool = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        spool.clear()?;
        Ok(spool)
    }

    /// Where a recording is written.
    pub fn recording(&self, id: RecordingId) -> PathBuf {
        recordings(&self.path).join(id.to_string())
    }

    /// The recordings that are there.
    pub fn recordings(&self) -> Result<Vec<RecordingId>, StoreError> {
        let folder = recordings(&self.path);
        let entries = fs::read_dir(&folder).map_err(StoreError::io(&folder))?;
        let mut ids: Vec<RecordingId> = Vec::new();
        for entry in entries {
            let name = entry.map_err(StoreError::io(&folder))?.file_name();
            // One that is being made has another name.
            ids.extend(name.to_str().and_then(|name| name.parse::<RecordingId>().ok()));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Bytes of all recordings that are there.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        Ok(self
            .recordings()?
            .into_iter()
            .map(|id| size(&self.recording(id)))
            .sum())
    }

    /// A recording leaves: what stays is its receipt.
    pub fn remove(&self, id: RecordingId, receipt: &Receipt) -> Result<(), StoreError> {
        let path = self.path.join("store").join(format!("{id}.json"));
        let text = serde_json::to_vec_pretty(receipt).map_err(|error| StoreError::io(&path)(error.into()))?;
        replace(&path, &text).map_err(StoreError::io(&path))?;
        let (from, to) = (
            self.recording(id),
            self.path.join("store").join(format!("{id}.gone")),
        );
        fs::rename(&from, &to).map_err(StoreError::io(&from))?;
        self.clear()
    }

    /// Removes what was leaving.
    fn clear(&self) -> Result<(), StoreError> {
        let folder = self.path.join("store");
        for entry in fs::read_dir(&folder).map_err(StoreError::io(&folder))? {
            let entry = entry.map_err(StoreError::io(&folder))?;
            if entry.file_name().to_string_lossy().ends_with(".gone") {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(StoreError::io(&path))?;
            }
        }
        Ok(())
    }
}

/// The folder of a spool that recordings are written to.
pub fn recordings(spool: &Path) -> PathBuf {
    spool.join("recordings")
}

/// The folder of a spool that the log is written to.
pub fn audit_log(spool: &Path) -> PathBuf {
    spool.join("audit-log")
}

/// The spool that a recording's folder lies in, or was in a moment ago; none: it lies elsewhere.
pub fn spool_of(recording: &Path) -> Option<PathBuf> {
    let recording = fs::canonicalize(recording).ok()?;
    let folder = recording.parent()?;
    let spool = folder.parent()?;
    (recordings(spool) == folder && place(spool).exists()).then(|| spool.to_owned())
}

/// The spool that a log's folder lies in, where it has this recording, too.
pub fn spool_with(log: &Path, recording: RecordingId) -> Option<PathBuf> {
    let log = fs::canonicalize(log).ok()?;
    let spool = log.parent()?;
    spool_of(&recordings(spool).join(recording.to_string()))
}

/// The file that says where what is in a spool goes.
fn place(spool: &Path) -> PathBuf {
    spool.join("store").join("place")
}

/// Bytes of a recording's media and manifest. What cannot be read is none.
pub fn size(recording: &Path) -> u64 {
    let length = |path: PathBuf| fs::metadata(path).map_or(0, |of| of.len());
    let tars = fs::read_dir(recording.join(TRACKS))
        .into_iter()
        .flatten()
        .flatten();
    tars.map(|tar| length(tar.path())).sum::<u64>() + length(recording.join(crate::recording::MANIFEST_FILE))
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::digest::Digest;

    #[test]
    fn a_spool_is_for_one_process_and_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let first = Spool::open(&path, "here\n").unwrap();
        // The lock is the open file's, not the process's.
        let error = Spool::open(&path, "here\n").unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        drop(first);
        let error = Spool::open(&path, "there\n").unwrap_err().to_string();
        assert!(
            error.contains("here") && error.contains("another spool"),
            "{error}"
        );
        Spool::open(&path, "here\n").unwrap();
    }

    #[test]
    fn a_recording_that_left_leaves_a_receipt_and_a_crash_meanwhile_is_made_up_for() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), "").unwrap();
        let id = RecordingId::from_bytes([7; 16]);
        let tracks = spool.recording(id).join(TRACKS);
        fs::create_dir_all(&tracks).unwrap();
        fs::write(tracks.join("0-audio.tar"), [0; 1000]).unwrap();
        fs::create_dir(recordings(dir.path()).join(".new")).unwrap();
        assert_eq!(spool.recordings().unwrap(), [id]);
        assert_eq!(spool.bytes().unwrap(), 1000);
        let receipt = Receipt {
            location: "s3://a/b".to_owned(),
            keys: "s3://a/b-keys".to_owned(),
            root: Root {
                lines: 3,
                root: Digest([1; 32]),
            },
            objects: 4,
            bytes: 1000,
        };
        spool.remove(id, &receipt).unwrap();
        assert_eq!(spool.recordings().unwrap(), []);
        let text = fs::read(dir.path().join("store").join(format!("{id}.json"))).unwrap();
        assert_eq!(serde_json::from_slice::<Receipt>(&text).unwrap(), receipt);
        assert_eq!(fs::read_dir(dir.path().join("store")).unwrap().count(), 3);
        drop(spool);

        fs::create_dir_all(dir.path().join("store").join(format!("{id}.gone/tracks"))).unwrap();
        let spool = Spool::open(dir.path(), "").unwrap();
        assert_eq!(fs::read_dir(dir.path().join("store")).unwrap().count(), 3);
        drop(spool);
    }
}
