//! The asking side of the control socket.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::{MAX_REPLY, MAX_REQUEST, Reply, Request, peer};

/// How long a keyring may take to answer: a removal waits for its commit, which may lose some races first.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait for a place where many others want one too.
const QUEUE: Duration = Duration::from_secs(5);

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nothing listens there.
    #[error(
        "no keyring answers at {0}: is the pipeline running, and its mlskeyring started with control-socket={0}?"
    )]
    NoServer(PathBuf),
    /// The file's mode forbids it.
    #[error("this user may not use {0}: only the user of the pipeline and root may")]
    NotAllowed(PathBuf),
    /// Another user's process listens there.
    #[error("{path} belongs to a process of user {uid}, not to a keyring of this user: it is not believed")]
    Foreign {
        /// Where.
        path: PathBuf,
        /// Whose.
        uid: u32,
    },
    /// The request does not fit.
    #[error("the request has more than {MAX_REQUEST} bytes")]
    TooLong,
    /// Nobody answered in time.
    #[error("no answer from {0} within {secs} s", secs = PATIENCE.as_secs())]
    Timeout(PathBuf),
    /// The connection ended before the reply did.
    #[error("the keyring at {0} closed the connection without an answer: it may be stopping")]
    Closed(PathBuf),
    /// The answer is no answer.
    #[error("what came from {0} is not a keyring's answer")]
    Malformed(PathBuf),
    /// Something else went wrong.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        error: io::Error,
    },
}

/// Asks the keyring at this socket and waits for its reply, at most a minute.
pub fn ask(path: &Path, request: &Request) -> Result<Reply, ControlError> {
    let line = request.line();
    if line.len() > MAX_REQUEST {
        return Err(ControlError::TooLong);
    }
    let stream = connect(path)?;
    let uid = peer::uid(stream.as_fd()).map_err(|e| failed(path, e))?;
    // Somebody else's socket could show a roster and codes of its own making. Root may look at everybody's.
    let own = peer::own_uid();
    if uid != own && uid != 0 && own != 0 {
        return Err(ControlError::Foreign {
            path: path.to_owned(),
            uid,
        });
    }
    let deadline = Instant::now() + PATIENCE;
    // A server that refuses before it has read everything has said why: that is read in any case.
    let sent = send_all(&stream, &line, deadline);
    let reply = receive_line(&stream, deadline);
    match (reply, sent) {
        (Ok(Some(reply)), _) => {
            serde_json::from_slice(&reply).map_err(|_| ControlError::Malformed(path.to_owned()))
        }
        (Ok(None), _) => Err(ControlError::Closed(path.to_owned())),
        (Err(_), Err(e)) | (Err(e), Ok(())) => Err(failed(path, e)),
    }
}

/// Connects without waiting in the kernel for a place in the queue, which could last for ever.
fn connect(path: &Path) -> Result<UnixStream, ControlError> {
    let address = SocketAddrUnix::new(path).map_err(|e| failed(path, e.into()))?;
    let deadline = Instant::now() + QUEUE;
    loop {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|e| failed(path, e.into()))?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => {
                let stream = UnixStream::from(socket);
                stream.set_nonblocking(false).map_err(|e| failed(path, e))?;
                return Ok(stream);
            }
            Err(rustix::io::Errno::AGAIN) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) => return Err(failed(path, e.into())),
        }
    }
}

fn failed(path: &Path, error: io::Error) -> ControlError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NoServer(path),
        io::ErrorKind::PermissionDenied => ControlError::NotAllowed(path),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ControlError::Timeout(path),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ControlError::Closed(path),
        _ => ControlError::Io { path, error },
    }
}

/// Time that is left; an error where there is none.
pub(super) fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

/// Writes everything before the deadline. Never raises SIGPIPE, which would end a `gst-launch-1.0`.
pub(super) fn send_all(stream: &UnixStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match rustix::net::send(stream, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// One line without its newline; none where the connection ends before that.
fn receive_line(mut stream: &UnixStream, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let new = match stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(length) => chunk.get(..length).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if let Some(end) = new.iter().position(|b| *b == b'\n') {
            line.extend_from_slice(new.get(..end).unwrap_or_default());
            return Ok(Some(line));
        }
        line.extend_from_slice(new);
        if line.len() > MAX_REPLY {
            return Err(io::Error::other("the reply does not end"));
        }
    }
}
