//! Disks that do not behave.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use gstcompliance::recording::{Disk, DiskFile, RealDisk};

/// What is wrong with a disk. The test can change it at any time.
#[derive(Default)]
pub struct Trouble {
    /// Each sync takes so long, in milliseconds.
    pub sync_ms: AtomicU64,
    /// Nothing can be appended any more, but from what was reserved.
    pub full: AtomicBool,
    /// Syncs of tars do not come to an end.
    pub tars_stick: AtomicBool,
    stuck: Mutex<Stuck>,
    failed: Mutex<Option<Instant>>,
    free: Condvar,
}

/// Do syncs wait, and how many are under way?
#[derive(Default)]
struct Stuck {
    is_stuck: bool,
    syncs: usize,
}

impl Trouble {
    /// Syncs wait until they are let go.
    pub fn stick(&self, stuck: bool) {
        self.stuck.lock().unwrap().is_stuck = stuck;
        self.free.notify_all();
    }

    /// How many syncs are under way.
    pub fn syncs(&self) -> usize {
        self.stuck.lock().unwrap().syncs
    }

    /// When it failed first.
    pub fn failed(&self) -> Option<Instant> {
        *self.failed.lock().unwrap()
    }

    fn noted<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if done.is_err() {
            self.failed.lock().unwrap().get_or_insert_with(Instant::now);
        }
        done
    }

    fn sync(&self) {
        std::thread::sleep(Duration::from_millis(self.sync_ms.load(Ordering::SeqCst)));
        let mut stuck = self.stuck.lock().unwrap();
        stuck.syncs += 1;
        while stuck.is_stuck {
            stuck = self.free.wait(stuck).unwrap();
        }
        stuck.syncs -= 1;
    }

    fn append(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// A real disk with trouble.
pub struct Troubled(pub Arc<Trouble>);

struct TroubledFile(Box<dyn DiskFile>, Arc<Trouble>, bool);

impl Troubled {
    fn file(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let is_tar = path.extension().is_some_and(|extension| extension == "tar");
        Box::new(TroubledFile(file, self.0.clone(), is_tar))
    }
}

impl Disk for Troubled {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_folder(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, RealDisk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_folder(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }
}

impl DiskFile for TroubledFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.2 {
            self.1.noted(self.1.append())?;
        }
        self.1.noted(self.0.append(bytes))
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn length(&mut self) -> io::Result<u64> {
        self.0.length()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.1.sync();
        while self.2 && self.1.tars_stick.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.1.noted(self.0.sync())
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        self.0.reserve(bytes)
    }

    fn lock(&mut self) -> io::Result<bool> {
        self.0.lock()
    }
}
