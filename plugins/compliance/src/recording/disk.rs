//! What a recording needs of a disk. Tests put slow, full and failing ones in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};

/// A disk, or what stands for one.
pub trait Disk: Send + Sync {
    /// Makes a folder, which must not exist.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes an empty file, which must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file that exists.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file or folder another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, in any order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Is there a file or folder of this name?
    fn exists(&self, path: &Path) -> io::Result<bool>;
}

/// An open file.
pub trait DiskFile: Send {
    /// Writes all of it at the end. Where that fails, a part may stand there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Reads what is there; 0: the end.
    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Its length in bytes.
    fn length(&mut self) -> io::Result<u64>;
    /// Cuts it.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Makes content and length durable (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
    /// Takes room of so many bytes from the disk.
    fn reserve(&mut self, bytes: u64) -> io::Result<()>;
    /// Locks it against other processes until it is dropped. False: another one has it.
    fn lock(&mut self) -> io::Result<bool>;
}

/// The file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).append(true).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn length(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        match fallocate(&*self, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            // Not every file system can: what is written takes room everywhere.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let zeros = vec![0; usize::try_from(bytes).unwrap_or(0)];
                self.write_all(&zeros)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn lock(&mut self) -> io::Result<bool> {
        match flock(&*self, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A file as a reader, from its beginning.
pub(super) struct FileReader<'a> {
    file: &'a mut dyn DiskFile,
    offset: u64,
}

impl<'a> FileReader<'a> {
    pub(super) fn new(file: &'a mut dyn DiskFile) -> Self {
        Self { file, offset: 0 }
    }
}

impl io::Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
