//! The answering side of the control socket.
//!
//! One thread takes connections and sleeps otherwise; each connection has a thread of its own, so that nobody waits
//! for another's slowness. There are at most 16: who comes when all places are taken gets the place of
//! who has been silent for longest. A client whose request is being worked on keeps its place.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use super::client::{left, send_all};
use super::listen::{Place, StartError};
use super::{MAX_REQUEST, Reply, Request, peer};

/// What clients may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at a time.
    clients: usize,
    /// How long a connection may be silent between two requests.
    silence: Duration,
    /// How long a request may take from its first byte to its last, and a reply to be taken.
    line: Duration,
}

const LIMITS: Limits = Limits {
    clients: 16,
    silence: Duration::from_secs(60),
    line: Duration::from_secs(10),
};

/// Pause after the system had no descriptor or thread left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How long a stopping server waits for answers that are being worked on.
const FAREWELL: Duration = Duration::from_secs(1);

/// Answers requests. Called from several threads at a time; should answer within half a minute, its client gives up
/// after one.
pub type Handler = Arc<dyn Fn(Request) -> Reply + Send + Sync>;

/// A control socket that answers until it is dropped.
///
/// Dropping it removes the socket, ends all connections and waits at most a second for a handler that is at work; one
/// that takes longer is left to end by itself, and its reply goes nowhere.
pub struct ControlServer {
    shared: Arc<Shared>,
    place: Option<Place>,
    accepting: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Listens at this path and answers with `handler`.
    ///
    /// The folder is made (0700) where it does not exist; it must belong to this user, and nobody else may be able to
    /// replace what stands in it. A socket at which nobody listens any more is replaced, a live one never.
    pub fn start(path: &Path, handler: Handler) -> Result<Self, StartError> {
        Self::start_within(path, handler, LIMITS)
    }

    fn start_within(path: &Path, handler: Handler, limits: Limits) -> Result<Self, StartError> {
        let failed = |error: io::Error| StartError::Io {
            path: path.to_owned(),
            error,
        };
        let (listener, place) = Place::take(path)?;
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| failed(e.into()))?;
        let shared = Arc::new(Shared {
            handler,
            limits,
            wake,
            clients: Mutex::default(),
            gone: Condvar::new(),
        });
        let accepting = std::thread::Builder::new()
            .name("mls-control".to_string())
            .spawn({
                let shared = shared.clone();
                move || shared.accept(&listener)
            })
            .map_err(failed)?;
        Ok(Self {
            shared,
            place: Some(place),
            accepting: Some(accepting),
        })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        drop(self.place.take());
        {
            let mut clients = self.shared.clients();
            clients.stopping = true;
            for client in clients.open.values() {
                client.close();
            }
        }
        // An eventfd that is not full, and it never is, takes a number.
        let _ = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes());
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let _ = self
            .shared
            .gone
            .wait_timeout_while(self.shared.clients(), FAREWELL, |clients| clients.threads > 0);
    }
}

struct Shared {
    handler: Handler,
    limits: Limits,
    /// Readable once the server stops.
    wake: OwnedFd,
    clients: Mutex<Clients>,
    /// A connection's thread ended.
    gone: Condvar,
}

#[derive(Default)]
struct Clients {
    stopping: bool,
    /// By order of arrival.
    open: BTreeMap<u64, Client>,
    arrived: u64,
    /// Threads that have not ended, those of connections that lost their place among them.
    threads: usize,
}

/// A connection, as others see it.
struct Client {
    stream: UnixStream,
    /// Is its request being worked on?
    busy: bool,
    /// Since when it is silent.
    since: Instant,
}

impl Client {
    /// Its thread notices, whatever it waits for.
    fn close(&self) {
        // Where the peer is already gone there is nothing to close.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        // A handler that panics does so without this lock; what it guards is whole in any case.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes connections until the server stops.
    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        loop {
            if self.wait(Some(listener), None) {
                return;
            }
            match listener.accept() {
                Ok((stream, _)) => self.admit(stream),
                // Taken back before it was taken.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
                    ) => {}
                // No descriptors: the connection stays in the queue and would wake this thread at once again.
                Err(_) => {
                    self.wait(None, Some(EXHAUSTED));
                }
            }
        }
    }

    /// Waits for a connection; true when the server stops.
    fn wait(&self, listener: Option<&UnixListener>, most: Option<Duration>) -> bool {
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(listener.map(|l| PollFd::new(l, PollFlags::IN)));
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        // An interrupted wait is a wait: the caller looks and comes back.
        let _ = rustix::event::poll(&mut fds, most.as_ref());
        self.clients().stopping
    }

    /// Gives a connection its thread, or says why not.
    fn admit(self: &Arc<Self>, stream: UnixStream) {
        let own = peer::own_uid();
        let allowed = peer::uid(stream.as_fd()).is_ok_and(|uid| uid == own || uid == 0);
        if !allowed {
            return refuse(&stream, "only the user of the pipeline and root may ask here");
        }
        let Ok(other_end) = stream.try_clone() else {
            return refuse(&stream, "this process has no file descriptors left");
        };
        let number = {
            let mut clients = self.clients();
            if clients.stopping {
                return;
            }
            if clients.open.len() >= self.limits.clients && !clients.give_up_longest_silent() {
                drop(clients);
                return refuse(&stream, "all connections are busy: try again");
            }
            clients.arrived += 1;
            clients.threads += 1;
            let number = clients.arrived;
            clients.open.insert(
                number,
                Client {
                    stream: other_end,
                    busy: false,
                    since: Instant::now(),
                },
            );
            number
        };
        let seat = Seat {
            shared: self.clone(),
            number,
        };
        // Where there is no thread to be had, the closure is dropped: the seat is free and the connection closed.
        let _ = std::thread::Builder::new()
            .name("mls-control-client".to_string())
            .spawn(move || seat.serve(&stream));
    }
}

impl Clients {
    /// Closes the connection that has been silent for longest; false where all are being worked for.
    fn give_up_longest_silent(&mut self) -> bool {
        let longest = self
            .open
            .iter()
            .filter(|(_, client)| !client.busy)
            .min_by_key(|(_, client)| client.since)
            .map(|(number, _)| *number);
        let Some(client) = longest.and_then(|number| self.open.remove(&number)) else {
            return false;
        };
        client.close();
        true
    }
}

/// Says why, as far as that goes without waiting.
fn refuse(stream: &UnixStream, why: &str) {
    let line = Reply::error(why).line();
    let _ = rustix::net::send(
        stream,
        &line,
        rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT,
    );
}

/// A connection's place, as its own thread sees it; free again when it is dropped, a panicking handler included.
struct Seat {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut clients = self.shared.clients();
        clients.open.remove(&self.number);
        clients.threads -= 1;
        self.shared.gone.notify_all();
    }
}

impl Seat {
    /// Answers one request after the other.
    fn serve(&self, stream: &UnixStream) {
        let limits = self.shared.limits;
        let mut lines = Lines {
            stream,
            limits,
            buffer: Vec::new(),
        };
        loop {
            let (reply, last) = match lines.next() {
                Ok(Some(line)) => (self.answer(&line), false),
                Ok(None) => return,
                // The rest of the line is not read: it may have no end.
                Err(LineError::TooLong) => {
                    let why = format!("a request has at most {MAX_REQUEST} bytes and ends with a newline");
                    (Reply::error(why), true)
                }
                Err(LineError::Slow) => (Reply::error("the request came too slowly"), true),
                Err(LineError::Silent | LineError::Broken) => return,
            };
            let sent = send_all(stream, &reply.line(), Instant::now() + limits.line);
            if last || sent.is_err() {
                // The descriptor in the list must not keep the connection open until the seat is dropped.
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    fn answer(&self, line: &[u8]) -> Reply {
        match Request::parse(line) {
            Ok(request) => {
                self.note(true);
                let reply = (self.shared.handler)(request);
                self.note(false);
                reply
            }
            Err(sentence) => Reply::error(sentence),
        }
    }

    fn note(&self, busy: bool) {
        if let Some(client) = self.shared.clients().open.get_mut(&self.number) {
            client.busy = busy;
            client.since = Instant::now();
        }
    }
}

/// Why there is no further request on a connection.
#[derive(Debug, PartialEq, Eq)]
enum LineError {
    TooLong,
    /// It began and did not end.
    Slow,
    /// It did not begin.
    Silent,
    Broken,
}

/// The lines of a connection.
struct Lines<'a> {
    stream: &'a UnixStream,
    limits: Limits,
    /// What was read and not yet given out: at most one request and one read more.
    buffer: Vec<u8>,
}

impl Lines<'_> {
    /// The next line without its newline; none at the end. A last line may lack its newline.
    fn next(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        let silent = Instant::now() + self.limits.silence;
        let mut slow = (!self.buffer.is_empty()).then(|| Instant::now() + self.limits.line);
        // Bytes are looked at once, or who sends one at a time would make this quadratic.
        let mut looked_at = 0;
        loop {
            let new = self.buffer.get(looked_at..).unwrap_or_default();
            let end = new.iter().position(|b| *b == b'\n').map(|end| looked_at + end);
            if end.unwrap_or(self.buffer.len()) >= MAX_REQUEST {
                return Err(LineError::TooLong);
            }
            if let Some(end) = end {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(end);
                return Ok(Some(line));
            }
            looked_at = self.buffer.len();
            let read = left(slow.unwrap_or(silent)).and_then(|left| {
                self.stream.set_read_timeout(Some(left))?;
                let mut chunk = [0; 4096];
                let length = (&mut &*self.stream).read(&mut chunk)?;
                self.buffer
                    .extend_from_slice(chunk.get(..length).unwrap_or_default());
                Ok(length)
            });
            match read {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Ok(Some(std::mem::take(&mut self.buffer))),
                Ok(_) => slow = slow.or_else(|| Some(Instant::now() + self.limits.line)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(if slow.is_some() {
                        LineError::Slow
                    } else {
                        LineError::Silent
                    });
                }
                Err(_) => return Err(LineError::Broken),
            }
        }
    }
}

#[cfg(test)]
mod tests;
