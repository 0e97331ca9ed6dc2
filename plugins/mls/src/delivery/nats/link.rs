//! Connections. All keyrings of a process that use the same servers under the same login share one, and all
//! connections share one thread.
//!
//! The thread belongs to us, because the delivery's callers are threads that wait: an application's own runtime may be
//! what such a caller runs on, and must not be entered a second time.

use super::address::{Address, Login};
use super::{Files, NatsError, tls};
use async_nats::rustls;
use async_nats::{Client, ConnectErrorKind, Event, HeaderMap, Message, RequestErrorKind};
use bytes::Bytes;
use ring::digest::{self, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use std::error::Error;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// How long one server may take to be connected to.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A dead connection is noticed after the third ping without an answer. Much less than `max-silence`.
const PING: Duration = Duration::from_secs(4);
/// Longest pause between two attempts to connect again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A subscription only rings: it needs no long queue.
const QUEUE: usize = 256;
/// Longest text of a server that is repeated.
const MAX_TEXT: usize = 200;

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        // For names of hosts.
        .max_blocking_threads(4)
        .thread_name("nats")
        .enable_all()
        .build()
});

/// The connections that are in use, by what they were made of.
static LINKS: Mutex<Vec<([u8; 32], Arc<Slot>)>> = Mutex::new(Vec::new());

/// Locked while its connection is made: who wants the same one waits for it, and nobody else.
type Slot = Mutex<Weak<Link>>;

/// How a connection is.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub(super) connected: bool,
    /// The last complaint, from there or here.
    complaint: Option<String>,
}

/// A connection.
pub(super) struct Link {
    client: Client,
    server: String,
    line: watch::Receiver<Line>,
}

/// Runs something on the connections' thread and waits for it.
pub(super) fn wait<T: Send + 'static>(
    work: impl Future<Output = Result<T, NatsError>> + Send + 'static,
) -> Result<T, NatsError> {
    let (to, done) = mpsc::sync_channel(1);
    drop(spawn(async move {
        // Who waits for it is there until it comes.
        let _ = to.send(work.await);
    })?);
    let ended = || NatsError::System(io::Error::other("the connections' thread has ended"));
    done.recv().unwrap_or_else(|_| Err(ended()))
}

/// Runs something on the connections' thread.
pub(super) fn spawn(
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<tokio::task::JoinHandle<()>, NatsError> {
    match &*RUNTIME {
        Ok(runtime) => Ok(runtime.spawn(work)),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string()).into()),
    }
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], NatsError> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("no random numbers"))?;
    Ok(bytes)
}

/// The connection to these servers, made where there is none.
pub(super) fn open(address: &Address, files: &Files) -> Result<Arc<Link>, NatsError> {
    let name = name_of(address, files);
    let slot = {
        let mut links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is being made is locked, and stays.
        links.retain(|(_, slot)| slot.try_lock().map_or(true, |link| link.strong_count() > 0));
        match links.iter().find(|(known, _)| *known == name) {
            Some((_, slot)) => slot.clone(),
            None => {
                let slot = Arc::new(Slot::default());
                links.push((name, slot.clone()));
                slot
            }
        }
    };
    let mut link = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(link) = link.upgrade() {
        return Ok(link);
    }
    let made = Arc::new(connect(address, files)?);
    *link = Arc::downgrade(&made);
    Ok(made)
}

/// Tells connections apart. A hash, because there is a password among what it is made of.
fn name_of(address: &Address, files: &Files) -> [u8; 32] {
    let mut name = digest::Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        name.update(&part.len().to_be_bytes());
        name.update(part);
    };
    add(address.to_string().as_bytes());
    match address.login() {
        Login::None => add(b""),
        Login::Token(token) => add(token.as_bytes()),
        Login::Password(user, password) => {
            add(user.as_bytes());
            add(password.as_bytes());
        }
    }
    for path in [&files.credentials, &files.ca, &files.certificate, &files.key] {
        add(path
            .as_deref()
            .map_or(&[][..], |path| path.as_os_str().as_encoded_bytes()));
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(name.finish().as_ref());
    bytes
}

fn connect(address: &Address, files: &Files) -> Result<Link, NatsError> {
    let (tell, line) = watch::channel(Line {
        connected: true,
        complaint: None,
    });
    let options = tls::options(address, files)?
        .name("gst-e2ee")
        // Which servers there are says the property: the list that a server sends comes before TLS proves who it is.
        .ignore_discovered_servers()
        .connection_timeout(CONNECT_WITHIN)
        .ping_interval(PING)
        .subscription_capacity(QUEUE)
        .reconnect_delay_callback(pause)
        .event_callback(move |event| {
            tell.send_modify(|line| line.note(event));
            std::future::ready(())
        });
    let server = address.servers();
    let servers: Result<Vec<async_nats::ServerAddr>, _> = address.urls().map(|url| url.parse()).collect();
    let servers = servers.map_err(|_| NatsError::Address("a server's name is none"))?;
    let (said, tls) = (server.clone(), tls::wanted(address, files));
    let client = wait(async move {
        let connected = options.connect(servers).await;
        connected.map_err(|error| cannot_connect(said, tls, &error))
    })?;
    Ok(Link { client, server, line })
}

/// Before the attempt with this number: members that lost the same server do not come back all at once.
fn pause(attempt: usize) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let doubled = u32::try_from(attempt).unwrap_or(u32::MAX).min(8);
    let longest = Duration::from_millis(20)
        .saturating_mul(2u32.pow(doubled))
        .min(LONGEST_PAUSE);
    let part = random().map_or(128, |[byte]: [u8; 1]| u32::from(byte));
    longest * (128 + part / 2) / 256
}

impl Line {
    fn note(&mut self, event: Event) {
        match event {
            Event::Connected => {
                self.connected = true;
                self.complaint = None;
            }
            Event::Disconnected | Event::Closed => self.connected = false,
            Event::ServerError(error) => self.complaint = Some(plain(&error.to_string())),
            Event::ClientError(error) => self.complaint = Some(plain(&error.to_string())),
            Event::LameDuckMode | Event::Draining | Event::SlowConsumer(_) => {}
        }
    }

    fn complaint(&self) -> String {
        self.complaint
            .as_ref()
            .map_or_else(String::new, |complaint| format!(" (last heard: {complaint})"))
    }
}

/// A server's words, as far as a person can read them.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// `tls`: an end in the middle of it can be a server that wants another certificate, or does not speak TLS.
fn cannot_connect(server: String, tls: bool, error: &async_nats::ConnectError) -> NatsError {
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            return NatsError::Refused { server };
        }
        ConnectErrorKind::TimedOut => {
            let why = format!("no answer within {} s", CONNECT_WITHIN.as_secs());
            return NatsError::Unreachable { server, why };
        }
        _ => {}
    }
    // What is at the bottom says most.
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            let why = plain(&error.to_string());
            return NatsError::Tls { server, why };
        }
        let inner = cause
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref());
        match inner
            .map(|error| error as &(dyn Error + 'static))
            .or_else(|| cause.source())
        {
            Some(next) => cause = next,
            None => break,
        }
    }
    let why = plain(&cause.to_string());
    let nobody_there = [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkUnreachable,
        io::ErrorKind::AddrNotAvailable,
        io::ErrorKind::TimedOut,
    ];
    let kind = cause.downcast_ref().map(io::Error::kind);
    match error.kind() {
        ConnectErrorKind::Tls => NatsError::Tls { server, why },
        ConnectErrorKind::Io if tls && kind.is_none_or(|kind| !nobody_there.contains(&kind)) => {
            NatsError::Tls { server, why }
        }
        _ => NatsError::Unreachable { server, why },
    }
}

impl Link {
    /// Host and port, for sentences.
    pub(super) fn server(&self) -> String {
        self.server.clone()
    }

    /// How the connection is, now and later.
    pub(super) fn line(&self) -> watch::Receiver<Line> {
        self.line.clone()
    }

    /// The longest message that the server takes.
    pub(super) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Which nats-server it is.
    pub(super) fn version(&self) -> String {
        plain(&self.client.server_info().version)
    }

    pub(super) async fn subscribe(&self, subject: String) -> Result<async_nats::Subscriber, NatsError> {
        let subscribed = self.client.subscribe(subject).await;
        subscribed.map_err(|_| self.offline())
    }

    fn offline(&self) -> NatsError {
        NatsError::Offline {
            server: self.server(),
            why: self.line.borrow().complaint(),
        }
    }

    /// Sends something and waits for the answer; none: nobody serves this subject.
    pub(super) async fn request(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
        within: Duration,
    ) -> Result<Option<Message>, NatsError> {
        let mut line = self.line();
        // Else it would wait in a queue until there is a connection, and arrive when nobody waits for it any more.
        if self.client.connection_state() != async_nats::connection::State::Connected {
            return Err(self.offline());
        }
        line.mark_unchanged();
        let size = payload.len();
        let mut request = async_nats::Request::new().payload(payload).timeout(Some(within));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let answer = tokio::select! {
            answer = self.client.send_request(subject.clone(), request) => answer,
            trouble = trouble(&mut line, &subject) => return Err(match trouble {
                Trouble::Lost => self.offline(),
                Trouble::Forbidden(why) => NatsError::Forbidden { server: self.server(), why },
            }),
        };
        match answer {
            Ok(message) => Ok(Some(message)),
            Err(error) => match error.kind() {
                RequestErrorKind::NoResponders => Ok(None),
                RequestErrorKind::TimedOut => Err(NatsError::Silent {
                    server: self.server(),
                    why: line.borrow().complaint(),
                }),
                RequestErrorKind::MaxPayloadExceeded => Err(NatsError::TooBig {
                    size,
                    most: self.max_payload(),
                    server: self.server(),
                }),
                _ => Err(self.offline()),
            },
        }
    }
}

/// Why no answer will come.
enum Trouble {
    /// The connection is lost, or closed.
    Lost,
    /// The server says that this is not allowed.
    Forbidden(String),
}

async fn trouble(line: &mut watch::Receiver<Line>, subject: &str) -> Trouble {
    while line.changed().await.is_ok() {
        let line = line.borrow_and_update();
        if !line.connected {
            break;
        }
        // Others use the connection, too.
        let about_it = |said: &&String| said.contains("ermissions") && said.contains(subject);
        if let Some(said) = line.complaint.as_ref().filter(about_it) {
            return Trouble::Forbidden(said.clone());
        }
    }
    Trouble::Lost
}
