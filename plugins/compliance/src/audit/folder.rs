//! The folder of a log or of a witness: a private key that only its owner can read, small files that are replaced whole,
//! a lock between processes, and the file of the entries itself.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::frame::ReadAt;

/// The private key's file.
pub const KEY: &str = "key";
/// The public key's file.
pub const VKEY: &str = "vkey";

/// How long somebody else may hold a lock before that is an error.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a folder, or a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// No space, or no quota, is left.
    #[error("{0}: the disk is full: make room, nothing was written")]
    Full(PathBuf),
    /// Nothing can be written there.
    #[error("{0} cannot be written: the file system is mounted read-only")]
    ReadOnly(PathBuf),
    /// Something else that the system says.
    #[error("{0}: {1}{hint}", hint = if .0.starts_with("~") { " (~ is not expanded here)" } else { "" })]
    Io(PathBuf, #[source] io::Error),
    /// Somebody holds the lock, and does not let go.
    #[error(
        "{0} is locked by another process for more than {secs} s: is one stopped, or its disk stuck? (fuser {0} names it)",
        secs = PATIENCE.as_secs()
    )]
    Busy(PathBuf),
    /// The file is no longer the one that was opened.
    #[error("{0} was removed or replaced while it was in use: put it back, or open it anew")]
    Replaced(PathBuf),
    /// Others can read the private key.
    #[error("{0} can be read by other users (mode {1:03o}): run `chmod 600 {0}`")]
    KeyTooOpen(PathBuf, u32),
    /// Others can write into the folder.
    #[error("{0} can be written by other users (mode {1:03o}): run `chmod go-w {0}`")]
    TooOpen(PathBuf, u32),
    /// It is not a key.
    #[error("{0} is no private key: expected 64 hex digits")]
    NotAKey(PathBuf),
    /// Not a file, or far too long.
    #[error("{0} is not what it should be: a plain file of at most {1} bytes")]
    NotAFile(PathBuf, usize),
    /// No random numbers.
    #[error("the system gives no random numbers, so that no key can be made")]
    Random,
}

/// The error with the name of the file that it is about.
pub fn failed(path: &Path, error: io::Error) -> FolderError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FolderError::Full(path),
        io::ErrorKind::ReadOnlyFilesystem => FolderError::ReadOnly(path),
        _ => FolderError::Io(path, error),
    }
}

/// A folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder where it is missing, for its owner alone.
    pub fn make(path: &Path) -> Result<Self, FolderError> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(path);
        made.map_err(|error| failed(path, error))?;
        Self::open(path)
    }

    /// The folder, if nobody but its owner writes into it.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let metadata = path.metadata().map_err(|error| failed(path, error))?;
        if !metadata.is_dir() {
            return Err(failed(path, io::ErrorKind::NotADirectory.into()));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(FolderError::TooOpen(path.to_owned(), metadata.mode() & 0o777));
        }
        Ok(Self(path.to_owned()))
    }

    /// The folder as it is, to read what somebody else left in it.
    pub fn to_read(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Is there something of this name?
    pub fn has(&self, name: &str) -> bool {
        self.file(name).symlink_metadata().is_ok()
    }

    /// The content of a small file. None where there is none.
    pub fn read(&self, name: &str, most: usize) -> Result<Option<String>, FolderError> {
        let path = self.file(name);
        let file = match open_plain(&path, most) {
            Err(FolderError::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = Vec::new();
        let read = file.take(most as u64 + 1).read_to_end(&mut text);
        read.map_err(|error| failed(&path, error))?;
        match String::from_utf8(text) {
            Ok(text) if text.len() <= most => Ok(Some(text)),
            _ => Err(FolderError::NotAFile(path, most)),
        }
    }

    /// Puts a file in place of the one of this name: whoever reads sees the old or the new one, whole, also after a
    /// crash. Callers hold the folder's lock.
    ///
    /// The old one stays beside it and is written over the next time, so that on a full disk no new block is needed.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), FolderError> {
        let path = self.file(name);
        let next = self.file(&format!("{name}.next"));
        let write = |path: &Path| {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).mode(0o600);
            let file = file.open(path)?;
            file.write_all_at(content, 0)?;
            file.set_len(content.len() as u64)?;
            file.sync_all()
        };
        let replace = || {
            write(&next)?;
            match renameat_with(CWD, &next, CWD, &path, RenameFlags::EXCHANGE) {
                Ok(()) => {}
                // Nothing is there yet, or the file system cannot exchange (NFS).
                Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    std::fs::rename(&next, &path)?;
                    // For the next time. There might be no room for it then, as there might be none now.
                    let _ = write(&next);
                }
                Err(error) => return Err(error.into()),
            }
            self.sync()
        };
        replace().map_err(|error| failed(&path, error))
    }

    /// Makes names in the folder durable.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    /// Reads the private key.
    pub fn key(&self) -> Result<SigningKey, FolderError> {
        let path = self.file(KEY);
        let file = open_plain(&path, 65)?;
        let mode = file.metadata().map_err(|error| failed(&path, error))?.mode();
        if mode & 0o077 != 0 {
            return Err(FolderError::KeyTooOpen(path, mode & 0o777));
        }
        // Sized once, so that growing leaves no copy behind.
        let mut text = Zeroizing::new(Vec::with_capacity(80));
        let read = file.take(66).read_to_end(&mut text);
        read.map_err(|error| failed(&path, error))?;
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_ascii_end(), &mut seed[..]).map_err(|_| FolderError::NotAKey(path))?;
        Ok(SigningKey::from_bytes(&seed))
    }

    /// Makes a new private key. Callers hold the folder's lock, and know that there is none.
    pub fn make_key(&self) -> Result<(), FolderError> {
        let mut seed = Zeroizing::new([0; 32]);
        let filled = SystemRandom::new().fill(&mut seed[..]);
        filled.map_err(|_| FolderError::Random)?;
        let mut text = Zeroizing::new([b'\n'; 65]);
        hex::encode_to_slice(&seed[..], &mut text[..64]).map_err(|_| FolderError::Random)?;
        let path = self.file(KEY);
        let draft = self.file("key.draft");
        let write = || {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(0o600);
            let file = file.open(&draft)?;
            file.write_all_at(&text[..], 0)?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)?;
            self.sync()
        };
        write().map_err(|error| failed(&path, error))
    }
}

fn open_plain(path: &Path, most: usize) -> Result<File, FolderError> {
    // Before it is opened: opening a FIFO would wait for its writer.
    let metadata = path.metadata().map_err(|error| failed(path, error))?;
    if !metadata.is_file() {
        return Err(FolderError::NotAFile(path.to_owned(), most));
    }
    File::open(path).map_err(|error| failed(path, error))
}

/// Is this name still that of the open file?
pub fn check_place(file: &File, path: &Path) -> Result<(), FolderError> {
    let place = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
    let open = file.metadata().map_err(|error| failed(path, error))?;
    match path.metadata() {
        Ok(named) if place(&named) == place(&open) => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, error)),
        _ => Err(FolderError::Replaced(path.to_owned())),
    }
}

/// A lock between processes, and between several that opened the same folder in one process.
///
/// Two files, and who waits for the lock holds the turn: whoever had the lock before cannot take it again until the one
/// who waits has had it. With the lock alone, a process that appends all the time would leave others microseconds.
#[derive(Debug)]
pub struct Lock {
    turn: (PathBuf, File),
    lock: (PathBuf, File),
    patience: Duration,
}

impl Lock {
    /// Opens the lock of a folder, makes it where it is missing.
    pub fn make(folder: &Folder, patience: Duration) -> Result<Self, FolderError> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            options.mode(0o600).open(path)
        };
        Self::open(folder, patience, open)
    }

    /// Opens the lock of a folder in which nothing is to be written.
    pub fn to_read(folder: &Folder, patience: Duration) -> Result<Self, FolderError> {
        Self::open(folder, patience, |path| File::open(path))
    }

    fn open(
        folder: &Folder,
        patience: Duration,
        open: impl Fn(&Path) -> io::Result<File>,
    ) -> Result<Self, FolderError> {
        let open = |name| {
            let path = folder.file(name);
            let file = open(&path).map_err(|error| failed(&path, error))?;
            Ok((path, file))
        };
        Ok(Self {
            turn: open("turn")?,
            lock: open("lock")?,
            patience,
        })
    }

    /// Waits for the lock.
    pub fn acquire(&self) -> Result<Locked<'_>, FolderError> {
        let end = Instant::now() + self.patience;
        let _turn = wait(&self.turn, end)?;
        let locked = wait(&self.lock, end)?;
        check_place(&self.lock.1, &self.lock.0)?;
        Ok(locked)
    }
}

/// As long as it lives, nobody else has the lock.
#[derive(Debug)]
pub struct Locked<'a>(&'a File);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // What cannot be unlocked is unlocked when it is closed.
        let _ = self.0.unlock();
    }
}

fn wait<'a>((path, file): &'a (PathBuf, File), end: Instant) -> Result<Locked<'a>, FolderError> {
    let mut pause = Duration::from_micros(100);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Locked(file)),
            // Not in `flock` itself: a stopped process would stop us all.
            Err(TryLockError::WouldBlock) if Instant::now() < end => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(2));
            }
            Err(TryLockError::WouldBlock) => return Err(FolderError::Busy(path.clone())),
            Err(TryLockError::Error(error)) => return Err(failed(path, error)),
        }
    }
}

/// The file of the entries. A trait, so that tests can let a disk be full, fail or forget.
pub trait Storage: ReadAt + Send {
    /// Its length.
    fn length(&self) -> io::Result<u64>;
    /// Writes all of the bytes there.
    fn put(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Waits until the bytes, and the length that they need, are on the disk.
    fn sync(&self) -> io::Result<()>;
    /// Cuts it.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Takes blocks for what will be written from there on, without making the file longer.
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Is this still its name?
    fn check_place(&self, path: &Path) -> Result<(), FolderError>;
}

impl Storage for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn put(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        Ok(fallocate(self, FallocateFlags::KEEP_SIZE, offset, length)?)
    }

    fn check_place(&self, path: &Path) -> Result<(), FolderError> {
        check_place(self, path)
    }
}

#[cfg(test)]
mod tests;
