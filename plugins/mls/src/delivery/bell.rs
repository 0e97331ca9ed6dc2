//! The doorbell: a file of one byte beside the log. Who appended writes the byte, and all that watch the file wake up.
//!
//! Readers sleep in `poll` on inotify, nothing looks at a clock. The watch stands before the first read that relies
//! on it, and events wait in the kernel, so that none is lost between a read and the sleep after it. A process that
//! dies between its append and its ring still rings: the kernel closes the file for it, and that wakes, too.

use super::place::{Place, io_error};
use super::{DeliveryError, Waker};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{Errno, read, write};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a file may be locked by somebody before that is an error.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The file, open for ringing.
pub(super) struct Bell {
    file: File,
    place: Place,
}

impl Bell {
    /// Opens the bell of a log, makes it where it is missing.
    pub(super) fn open(log: &Path) -> Result<Self, DeliveryError> {
        let mut name = log.as_os_str().to_owned();
        name.push("-bell");
        let path = PathBuf::from(name);
        let io = |source| io_error(&path, source);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(&path).map_err(io)?;
        let place = Place::of(&path)?;
        let bell = Self { file, place };
        // From now on there is space for the byte.
        bell.ring()?;
        Ok(bell)
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Wakes all that listen.
    pub(super) fn ring(&self) -> Result<(), DeliveryError> {
        let rung = self.file.write_all_at(&[0], 0);
        rung.map_err(|source| io_error(self.place.path(), source))
    }

    /// Waits until no other opens the log. Nobody may set a database up while another does.
    pub(super) fn lock(&self) -> Result<impl Drop + use<'_>, DeliveryError> {
        struct Locked<'a>(&'a File);
        impl Drop for Locked<'_> {
            fn drop(&mut self) {
                // What cannot be unlocked is unlocked when it is closed.
                let _ = self.0.unlock();
            }
        }
        let end = Instant::now() + PATIENCE;
        loop {
            match self.file.try_lock() {
                Ok(()) => return Ok(Locked(&self.file)),
                // Not in `flock` itself: a stopped process would stop us all.
                Err(TryLockError::WouldBlock) if Instant::now() < end => {
                    thread::sleep(Duration::from_millis(2));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(DeliveryError::Busy(self.place.path().into()));
                }
                Err(TryLockError::Error(source)) => return Err(io_error(self.place.path(), source)),
            }
        }
    }
}

/// Calls a waker at every ring, and when a file or the folder goes away. Ends when it is dropped.
pub(super) struct Listener {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens to the bell at `bell`, of the log at `log`.
    pub(super) fn start(bell: &Path, log: &Path, waker: Waker) -> Result<Self, DeliveryError> {
        let io = |error: Errno| io_error(bell, error.into());
        let inotify = match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Err(Errno::MFILE) => {
                let reason =
                    "too many open files, or more listeners than fs.inotify.max_user_instances allows";
                return Err(io_error(bell, std::io::Error::other(reason)));
            }
            inotify => inotify.map_err(io)?,
        };
        // The name of an open file is gone: its number of links changes, which is ATTRIB.
        let gone = WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        let rung = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&inotify, bell, gone | rung).map_err(io)?;
        inotify::add_watch(&inotify, log, gone).map_err(io)?;
        if let Some(folder) = log.parent() {
            let moved = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
            inotify::add_watch(&inotify, folder, moved).map_err(io)?;
        }
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(io)?);
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("room-log".into())
            .spawn(move || listen(&inotify, &stopped, &waker))
            .map_err(|source| io_error(bell, source))?;
        let thread = Some(thread);
        Ok(Self { stop, thread })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // An eventfd of which nobody added refuses nothing; and if it did, joining would be for ever.
        if write(&*self.stop, &1u64.to_ne_bytes()).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A waker that panicked said so already.
            let _ = thread.join();
        }
    }
}

fn listen(inotify: &OwnedFd, stop: &OwnedFd, waker: &Waker) {
    // Which events they are does not matter; one read takes many, so that many rings can be one call.
    let mut events = [0; 4096];
    loop {
        let mut waits = [
            PollFd::new(inotify, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut waits, None) {
            Ok(_) if !waits[1].revents().is_empty() => return,
            Ok(_) => match read(inotify, &mut events) {
                Ok(_) => waker(),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => without_bell(waker),
            },
            Err(Errno::INTR) => {}
            Err(_) => without_bell(waker),
        }
    }
}

/// The kernel has no memory for us. Rather once a second than never.
fn without_bell(waker: &Waker) {
    thread::sleep(Duration::from_secs(1));
    waker();
}
