//! Counters of a static key that survive everything: crash, restart, a second encoder.
//!
//! A (base key, KID, CTR) must never be used twice, so the file always holds a counter *above* every one in use:
//! a block is leased by writing its end to the file and syncing it, and only then are the block's counters used.
//! What is left of a block when the sender stops is never used. Where no file exists the start is random
//! (62 bits), so that a lost file or a second machine does not begin where this one did.
//!
//! A file that comes back from a backup or in the image of a machine holds an old counter. So each start also jumps
//! ahead by a random distance, except from a number that a person prepared.
//!
//! The file is one line: the next free counter in decimal, then the fingerprint of key and KID. It may be
//! prepared with the number alone. It stays locked while it is in use.

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Counters per lease: one sync of the disk lasts for days of audio, minutes of the densest video packets.
pub const LEASE: u64 = 1 << 24;

/// Bound of the random distance between starts: with it two starts from one old file share a counter once in a million
/// times, without it always. Leaves room for a million starts.
const MAX_JUMP: u64 = 1 << 44;

/// Why counters cannot be leased. The sender must not start, or must stop.
#[derive(Debug, thiserror::Error)]
pub enum CounterFileError {
    /// Another sender holds it.
    #[error(
        "counter-file {0} is in use: another sframeenc seals with this key and KID. Give each sender a kid of its own"
    )]
    Locked(PathBuf),
    /// The state cannot be persisted.
    #[error(
        "cannot persist counters in {path}: {source}. Counters must outlive a crash, so sframeenc does not start \
         without them: make the directory writable or point counter-file to one that is"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "counter-file {0} is damaged or not a counter file. Do not delete it while its key is in use: take a new key, \
         or a new kid, and a new file"
    )]
    Damaged(PathBuf),
    /// Somebody put another file in its place.
    #[error(
        "counter-file {0} was replaced or removed while it was in use: another sender may hold its counters"
    )]
    Replaced(PathBuf),
    /// It belongs to another key.
    #[error("counter-file {0} belongs to another key or KID; give each its own file")]
    OtherKey(PathBuf),
    /// All counters are used.
    #[error("all counters of this key and KID are used: take a new key")]
    Exhausted,
    /// There is no place for it.
    #[error("no state directory: set HOME or XDG_STATE_HOME, or the property counter-file")]
    NoStateDirectory,
}

/// Names key and KID without revealing the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of this base key with this KID.
    pub fn new(base_key: &[u8], kid: u64) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, base_key);
        let mut mac = hmac::Context::with_key(&key);
        mac.update(b"gst-plugins-e2ee counter fingerprint 1");
        mac.update(&kid.to_be_bytes());
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&mac.sign().as_ref()[..16]);
        Self(fingerprint)
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The default counter file of a key: below the user's state directory, named by its fingerprint.
pub fn default_path(fingerprint: Fingerprint) -> Result<PathBuf, CounterFileError> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .ok_or(CounterFileError::NoStateDirectory)?;
    Ok(state
        .join("gst-plugins-e2ee/counters")
        .join(fingerprint.to_string()))
}

/// An open, locked counter file.
#[derive(Debug)]
pub struct CounterFile {
    file: File,
    path: PathBuf,
    fingerprint: String,
    next: u64,
}

impl CounterFile {
    /// Opens and locks the file, makes it where it does not exist. The lock ends when the value is dropped.
    pub fn open(path: &Path, fingerprint: Fingerprint) -> Result<Self, CounterFileError> {
        let io = |source| CounterFileError::Io {
            path: path.into(),
            source,
        };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(io)?;
        }
        // Opening a FIFO would wait for its other end.
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(CounterFileError::Damaged(path.into()));
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => CounterFileError::Locked(path.into()),
            TryLockError::Error(source) => io(source),
        })?;
        let mut text = String::new();
        (&mut file)
            .take(1024)
            .read_to_string(&mut text)
            .map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => CounterFileError::Damaged(path.into()),
                _ => io(error),
            })?;
        let fingerprint = fingerprint.to_string();
        let parse = |next: &str| {
            next.parse::<u64>()
                .map_err(|_| CounterFileError::Damaged(path.into()))
        };
        let mut words = text.split_ascii_whitespace();
        let next = match (words.next(), words.next(), words.next()) {
            // Empty: just made, or made by somebody who crashed before the first lease was written.
            (None, ..) => random_start().map_err(io)?,
            // Prepared by a person. Leading zeros are the rest of a torn line of ours.
            (Some(next), None, None) if next == "0" || !next.starts_with('0') => parse(next)?,
            (Some(next), Some(owner), None) => {
                if owner != fingerprint {
                    return Err(CounterFileError::OtherKey(path.into()));
                }
                let jump = random().map_err(io)? % MAX_JUMP;
                parse(next)?.saturating_add(jump)
            }
            _ => return Err(CounterFileError::Damaged(path.into())),
        };
        Ok(Self {
            file,
            path: path.into(),
            fingerprint,
            next,
        })
    }

    /// Takes the next block of counters. They may be used only if this returns them.
    pub fn lease(&mut self) -> Result<Range<u64>, CounterFileError> {
        let start = self.next;
        let end = start.saturating_add(LEASE);
        if start == end {
            return Err(CounterFileError::Exhausted);
        }
        self.check_place()?;
        self.persist(end).map_err(|source| CounterFileError::Io {
            path: self.path.clone(),
            source,
        })?;
        self.next = end;
        Ok(start..end)
    }

    /// The lock is on the file, not on its name: under the name there must still be this file.
    fn check_place(&self) -> Result<(), CounterFileError> {
        let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(ours), Ok(named)) if identity(&ours) == identity(&named) => Ok(()),
            _ => Err(CounterFileError::Replaced(self.path.clone())),
        }
    }

    fn persist(&self, next: u64) -> io::Result<()> {
        // Always the same length and within one sector, so that an overwrite in place is not torn.
        let line = format!("{next:020} {}\n", self.fingerprint);
        self.file.write_all_at(line.as_bytes(), 0)?;
        self.file.set_len(line.len() as u64)?;
        self.file.sync_all()?;
        // The name must survive too, or the next start would begin at random again: harmless, but not the promise.
        match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// 62 bits: far from the end, so that the counter never runs out.
fn random_start() -> io::Result<u64> {
    Ok(random()? >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn fingerprint() -> Fingerprint {
        Fingerprint::new(b"0123456789abcdef", 7)
    }

    fn temp() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/on/the/way/counter");
        (dir, path)
    }

    #[test]
    fn every_start_leases_above_all_earlier_ones() {
        let (_dir, path) = temp();
        let mut end = 0;
        for _ in 0..5 {
            // No clean-up between: dropping is what a crash leaves behind, too.
            let mut file = CounterFile::open(&path, fingerprint()).unwrap();
            for _ in 0..3 {
                let lease = file.lease().unwrap();
                assert!(lease.start >= end);
                assert_eq!(lease.end - lease.start, LEASE);
                end = lease.end;
            }
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_prepared_number_is_the_first_counter_and_binds_to_the_key() {
        let (dir, _) = temp();
        let path = dir.path().join("prepared");
        fs::write(&path, "4660\n").unwrap();
        let mut file = CounterFile::open(&path, fingerprint()).unwrap();
        assert_eq!(file.lease().unwrap().start, 4660);
        drop(file);
        let other = Fingerprint::new(b"0123456789abcdef", 8);
        assert!(matches!(
            CounterFile::open(&path, other),
            Err(CounterFileError::OtherKey(_))
        ));
    }

    #[test]
    fn a_second_sender_is_refused_while_the_first_lives() {
        let (_dir, path) = temp();
        let first = CounterFile::open(&path, fingerprint()).unwrap();
        let error = CounterFile::open(&path, fingerprint()).unwrap_err();
        assert!(error.to_string().contains("another sframeenc"), "{error}");
        drop(first);
        CounterFile::open(&path, fingerprint()).unwrap();
    }

    #[test]
    fn a_file_that_comes_back_does_not_bring_its_counters_back() {
        let (_dir, path) = temp();
        let mut file = CounterFile::open(&path, fingerprint()).unwrap();
        file.lease().unwrap();
        let backup = fs::read(&path).unwrap();
        drop(file);
        let lease = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            CounterFile::open(&path, fingerprint()).unwrap().lease().unwrap()
        };
        assert_ne!(lease(&backup), lease(&backup));
    }

    #[test]
    fn a_file_that_was_replaced_gives_no_more_counters() {
        let (dir, path) = temp();
        let mut file = CounterFile::open(&path, fingerprint()).unwrap();
        file.lease().unwrap();
        let copy = dir.path().join("copy");
        fs::copy(&path, &copy).unwrap();
        fs::rename(&copy, &path).unwrap();
        assert!(matches!(file.lease(), Err(CounterFileError::Replaced(_))));
        fs::remove_file(&path).unwrap();
        assert!(matches!(file.lease(), Err(CounterFileError::Replaced(_))));
    }

    #[test]
    fn random_starts_differ() {
        let (dir, _) = temp();
        let start = |name: &str| {
            let mut file = CounterFile::open(&dir.path().join(name), fingerprint()).unwrap();
            file.lease().unwrap().start
        };
        assert_ne!(start("a"), start("b"));
    }

    #[test]
    fn damage_and_exhaustion_stop_the_sender() {
        let (dir, _) = temp();
        let path = dir.path().join("file");
        for text in ["x", "-1", "18446744073709551616", "1 2 3", "12a", "00000", "0466"] {
            fs::write(&path, text).unwrap();
            assert!(CounterFile::open(&path, fingerprint()).is_err(), "{text}");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(
            CounterFile::open(&path, fingerprint()),
            Err(CounterFileError::Damaged(_))
        ));
        fs::write(&path, (u64::MAX - 1).to_string()).unwrap();
        let mut file = CounterFile::open(&path, fingerprint()).unwrap();
        assert_eq!(file.lease().unwrap(), u64::MAX - 1..u64::MAX);
        assert!(matches!(file.lease(), Err(CounterFileError::Exhausted)));
    }

    #[test]
    fn the_fingerprint_depends_on_key_and_kid() {
        assert_ne!(Fingerprint::new(b"a", 1).0, Fingerprint::new(b"b", 1).0);
        assert_ne!(Fingerprint::new(b"a", 1).0, Fingerprint::new(b"a", 2).0);
    }
}
