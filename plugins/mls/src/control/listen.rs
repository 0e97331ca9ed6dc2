//! The place where a control socket stands: made for its user alone, never in the way of a live one, gone afterwards.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::peer;

/// Connections that wait for being taken.
const BACKLOG: i32 = 64;

/// How long another start in the same folder may take.
const FOLDER_LOCK: Duration = Duration::from_secs(2);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody answers there.
    #[error("{0} is in use by another keyring: give each its own control-socket")]
    InUse(PathBuf),
    /// Something that is not a socket.
    #[error("{0} exists and is not a socket: remove it or choose another control-socket")]
    InTheWay(PathBuf),
    /// The folder belongs to somebody else.
    #[error(
        "folder {0} belongs to another user: choose a control-socket in a folder of your own, for example below $XDG_RUNTIME_DIR"
    )]
    ForeignFolder(PathBuf),
    /// Others may write into the folder.
    #[error("others may write into folder {0}: chmod go-w it, or choose a control-socket in another folder")]
    OpenFolder(PathBuf),
    /// Longer than a socket's address may be.
    #[error("{0} is too long for a socket (107 bytes): choose a shorter control-socket")]
    TooLong(PathBuf),
    /// The system refused.
    #[error("control-socket {path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        error: io::Error,
    },
}

/// A listening socket; its file goes with it.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Device and inode of the file: another one under this name is not ours.
    file: (u64, u64),
}

impl Place {
    /// Listens at this path, with mode 0600 from the first moment.
    pub(super) fn take(path: &Path) -> Result<(UnixListener, Self), StartError> {
        let failed = |error: io::Error| StartError::Io {
            path: path.to_owned(),
            error,
        };
        // Kept as an absolute path: the process may change its folder before the socket is removed.
        let path = std::path::absolute(path).map_err(failed)?;
        let address = SocketAddrUnix::new(&path).map_err(|e| match e {
            rustix::io::Errno::NAMETOOLONG => StartError::TooLong(path.clone()),
            e => failed(e.into()),
        })?;
        let folder = check_folder(path.parent().unwrap_or(Path::new("/")))?;
        // Two that start at the same time would both find a dead socket, and one remove the other's new one.
        let _lock = lock_folder(&folder).map_err(failed)?;
        remove_dead(&path, &address)?;
        let socket = new_socket().map_err(failed)?;
        // Linux gives the file the mode that the socket has before it is bound. Setting the umask instead would be for
        // all threads of the process.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|e| failed(e.into()))?;
        rustix::net::bind(&socket, &address).map_err(|e| failed(e.into()))?;
        let file = fs::symlink_metadata(&path).map_err(failed)?;
        let place = Self {
            path: path.clone(),
            file: (file.dev(), file.ino()),
        };
        rustix::net::listen(&socket, BACKLOG).map_err(|e| failed(e.into()))?;
        Ok((UnixListener::from(socket), place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if ours {
            // Nobody is left to be told; a socket that stays is dead and will be replaced.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// Makes the folder for this user alone, or checks that nobody else can replace what stands in it.
fn check_folder(folder: &Path) -> Result<PathBuf, StartError> {
    let failed = |error: io::Error| StartError::Io {
        path: folder.to_owned(),
        error,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let found = fs::metadata(folder).map_err(failed)?;
    if found.uid() != peer::own_uid() {
        return Err(StartError::ForeignFolder(folder.to_owned()));
    }
    let (others_write, sticky) = (found.mode() & 0o022 != 0, found.mode() & 0o1000 != 0);
    if others_write && !sticky {
        return Err(StartError::OpenFolder(folder.to_owned()));
    }
    Ok(folder.to_owned())
}

fn lock_folder(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    let deadline = Instant::now() + FOLDER_LOCK;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process holds a lock on the folder"));
            }
        }
    }
}

/// Removes a socket at which nobody listens any more, and nothing else.
fn remove_dead(path: &Path, address: &SocketAddrUnix) -> Result<(), StartError> {
    let failed = |error: io::Error| StartError::Io {
        path: path.to_owned(),
        error,
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    if !found.file_type().is_socket() {
        return Err(StartError::InTheWay(path.to_owned()));
    }
    let probe = new_socket().map_err(failed)?;
    match rustix::net::connect(&probe, address) {
        Err(rustix::io::Errno::CONNREFUSED) => fs::remove_file(path).map_err(failed),
        // Answered, or too busy to answer (EAGAIN), or a socket of another type (EPROTOTYPE).
        _ => Err(StartError::InUse(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn own_folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn the_socket_is_for_its_user_alone_and_gone_afterwards() {
        let folder = own_folder();
        let path = folder.path().join("made/for/it/room.sock");
        let (listener, place) = Place::take(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        UnixStream::connect(&path).unwrap();
        drop((listener, place));
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_not_replaced_and_a_dead_one_is() {
        let folder = own_folder();
        let path = folder.path().join("room.sock");
        let (listener, place) = Place::take(&path).unwrap();
        assert!(matches!(Place::take(&path), Err(StartError::InUse(_))));
        UnixStream::connect(&path).unwrap();
        // As after kill -9: the listener is gone and the file is not.
        drop(listener);
        std::mem::forget(place);
        assert!(path.exists());
        let (_listener, _place) = Place::take(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_too_busy_to_answer_is_live() {
        let folder = own_folder();
        let path = folder.path().join("room.sock");
        let (_listener, _place) = Place::take(&path).unwrap();
        let address = SocketAddrUnix::new(&path).unwrap();
        let mut waiting = Vec::new();
        loop {
            let socket = new_socket().unwrap();
            if rustix::net::connect(&socket, &address) == Err(rustix::io::Errno::AGAIN) {
                break;
            }
            waiting.push(socket);
        }
        assert!(matches!(Place::take(&path), Err(StartError::InUse(_))));
    }

    #[test]
    fn only_one_of_many_that_start_at_once_gets_the_place_of_a_dead_socket() {
        let folder = own_folder();
        let path = folder.path().join("room.sock");
        let (listener, place) = Place::take(&path).unwrap();
        drop(listener);
        std::mem::forget(place);
        let taken: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| Place::take(&path))).collect();
            starts.into_iter().map(|s| s.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().filter(|t| t.is_ok()).count(), 1);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_stream_socket_stays() {
        let folder = own_folder();
        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(matches!(Place::take(&file), Err(StartError::InTheWay(_))));
        let link = folder.path().join("link");
        symlink(&file, &link).unwrap();
        assert!(matches!(Place::take(&link), Err(StartError::InTheWay(_))));
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        let datagram = folder.path().join("datagram");
        let _socket = UnixDatagram::bind(&datagram).unwrap();
        assert!(matches!(Place::take(&datagram), Err(StartError::InUse(_))));
    }

    #[test]
    fn a_file_that_took_the_place_meanwhile_is_not_removed() {
        let folder = own_folder();
        let path = folder.path().join("room.sock");
        let (_listener, place) = Place::take(&path).unwrap();
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        fs::write(&path, "another").unwrap();
        drop(place);
        assert_eq!(fs::read(&path).unwrap(), b"another");
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused() {
        let folder = own_folder();
        for (mode, allowed) in [
            (0o777, false),
            (0o770, false),
            (0o702, false),
            (0o755, true),
            (0o1777, true),
            (0o700, true),
        ] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            let taken = Place::take(&folder.path().join("room.sock"));
            assert_eq!(taken.is_ok(), allowed, "{mode:o}: {taken:?}");
            assert!(allowed || matches!(taken, Err(StartError::OpenFolder(_))));
        }
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let folder = own_folder();
        if std::os::unix::fs::chown(folder.path(), Some(65534), None).is_err() {
            // Only root can give a folder away; for others the folder of root is at hand.
            assert!(matches!(
                Place::take(Path::new("/room.sock")),
                Err(StartError::ForeignFolder(_))
            ));
            return;
        }
        let taken = Place::take(&folder.path().join("room.sock"));
        assert!(matches!(taken, Err(StartError::ForeignFolder(_))), "{taken:?}");
    }

    #[test]
    fn too_long_a_path_is_told() {
        let folder = own_folder();
        let path = folder.path().join("x".repeat(120));
        assert!(matches!(Place::take(&path), Err(StartError::TooLong(_))));
    }
}
