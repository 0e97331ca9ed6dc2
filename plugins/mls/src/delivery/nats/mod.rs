//! Delivery by a NATS server with JetStream: one stream for each room, on one server or replicated in a cluster.
//!
//! | on the server | what |
//! |---|---|
//! | stream `gst-e2ee-TAG` | the room's log; `TAG` is a slow hash of its name, `LOG` below was drawn when it was made |
//! | `gst-e2ee.TAG.LOG.log.commit` | `create` and `commit` records, the Welcome with its commit |
//! | `gst-e2ee.TAG.LOG.log.KIND` | the other records, by their kind |
//! | `gst-e2ee.TAG.LOG.bell.…` | tells who listens that there is a record, without it |
//!
//! The stream gives all of them one order. A commit is published on the condition that the last one on its subject
//! still is the one that it follows (`Nats-Expected-Last-Subject-Sequence`). Commits and proposals are never
//! discarded: the stream has no limits, and what has no more use is purged by its own subject ([`KEPT`]). A server
//! that is full refuses what is new.
//!
//! Reading is a request for each record, several at a time: the server keeps nothing about its readers, so that
//! whoever comes back after an outage just goes on. Nothing is asked for as long as the bell is silent.
//!
//! The server sees what every delivery sees, and who is connected from where. It does not see the room's name, but who
//! has the log can try names.

mod address;
mod bell;
mod error;
mod link;
mod stream;
mod tls;

use super::{Appended, Delivery, DeliveryError, Entry, KEPT_CONTENT, LogId, MAX_READ, Waker, check_length};
use crate::record::is_content;
use bell::{Heard, Listener};
use bytes::Bytes;
use futures_util::{StreamExt, stream as streams};
use link::wait;
use ring::digest::{SHA256, digest};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::{Published, Stream};

pub use address::{Address, redacted};
pub use error::NatsError;

/// How many records of a kind are kept at least. Kinds that are not named here stay, because who was away needs them
/// to follow the room; of these, only the newest are of use to anybody.
pub const KEPT: [(&str, u64); 4] = [
    ("message", 256),
    ("key-package", 256),
    ("group-info-request", 64),
    ("group-info", 16),
];

/// Records between two purges. So many more than in [`KEPT`] there can be.
const PURGE_EVERY: u64 = 64;

/// The kind of those that are compared and set, on the server.
const COMMITS: &str = "commit";
/// The kind of what people say. Of that the bytes are limited, see [`Delivery::keep_content`].
const CONTENT: &str = "content";

/// Records that are asked for at the same time, as long as they are small.
const TOGETHER: u64 = 16;

/// Where nothing rings nothing is asked for, except by who looks after so long: a server that dies between storing and
/// telling has told nobody.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// A record is at least so long when it is guessed how long the next ones are.
const SMALL: usize = 64 << 10;

/// First versions that do what is needed: at all, and in a cluster.
const NEEDED: [u32; 3] = [2, 9, 0];
const NEEDED_IN_CLUSTER: [u32; 3] = [2, 9, 23];

/// Files that the connection needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Credentials (token and seed) or an nkey's seed.
    pub credentials: Option<PathBuf>,
    /// Whose server certificates are good. None: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate of this client.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// The engine `nats://`.
pub struct NatsDelivery {
    // Ends before the connection does.
    listener: Option<Listener>,
    stream: Arc<Stream>,
    heard: Arc<Heard>,
    /// Reasons to doubt that were followed up.
    checked: u64,
    /// When it was last asked for records, and answered, since there is a listener.
    asked: Option<Instant>,
    /// Tells this endpoint's records from those of others.
    me: [u8; 16],
    appended: u64,
    contents: Contents,
}

/// What people said, as far as this endpoint has read it: the server tells no sizes.
struct Contents {
    keep: u64,
    bytes: u64,
    known: VecDeque<(u64, u64)>,
}

impl Contents {
    fn note(&mut self, entry: &Entry) {
        let is_new = self.known.back().is_none_or(|(last, _)| *last < entry.sequence);
        if is_new && is_content(&entry.bytes) {
            let length = u64::try_from(entry.bytes.len()).unwrap_or(u64::MAX);
            self.known.push_back((entry.sequence, length));
            self.bytes = self.bytes.saturating_add(length);
        }
    }

    /// Up to which sequence it is to be forgotten, so that what is left is not too long.
    fn over(&mut self) -> Option<u64> {
        let mut over = None;
        while self.bytes > self.keep {
            let (sequence, length) = self.known.pop_front()?;
            self.bytes -= length;
            over = Some(sequence);
        }
        over
    }
}

impl NatsDelivery {
    /// Opens the log of the room with this name; a new stream is made on so many servers.
    pub fn open(address: &Address, files: &Files, replicas: u8, room: &str) -> Result<Self, NatsError> {
        let link = link::open(address, files)?;
        let version = link.version();
        if number(&version).is_some_and(|version| version < NEEDED) {
            let server = link.server();
            return Err(NatsError::TooOld { server, version });
        }
        let tag = stream::tag(room)?;
        let (stream, state) = wait(Stream::open(link, tag, replicas))?;
        let heard = Heard::default();
        heard.note(state.last);
        Ok(Self {
            listener: None,
            stream: Arc::new(stream),
            heard: Arc::new(heard),
            checked: 0,
            asked: None,
            me: link::random()?,
            appended: 0,
            contents: Contents {
                keep: KEPT_CONTENT,
                bytes: 0,
                known: VecDeque::new(),
            },
        })
    }

    /// The server knows a record that comes again by this.
    fn id(&mut self, after: Option<u64>, bytes: &[u8]) -> String {
        self.appended += 1;
        let parts = match after {
            // The same commit, made again in the same place.
            Some(after) => [&self.me, &after.to_be_bytes()[..], bytes].concat(),
            // What is no commit may well be said twice.
            None => [&self.me, &self.appended.to_be_bytes()[..]].concat(),
        };
        hex::encode(&digest(&SHA256, &parts).as_ref()[..16])
    }

    fn publish(
        &mut self,
        kind: &'static str,
        after: Option<u64>,
        bytes: &[u8],
    ) -> Result<Appended, DeliveryError> {
        check_length(bytes)?;
        let id = self.id(after, bytes);
        let (stream, bytes) = (self.stream.clone(), Bytes::copy_from_slice(bytes));
        match wait(async move { stream.publish(kind, id, after, bytes).await })? {
            Published::Moved => Ok(Appended::Moved),
            Published::Stands(sequence) => {
                self.heard.note(sequence);
                if sequence.is_multiple_of(PURGE_EVERY) {
                    self.forget_old();
                }
                if kind == CONTENT
                    && let Some(over) = self.contents.over()
                {
                    let stream = self.stream.clone();
                    // A server may reserve this to others; then they do it.
                    drop(link::spawn(async move {
                        let _ = stream.forget_to(CONTENT, over).await;
                    }));
                }
                Ok(Appended::Accepted(sequence))
            }
        }
    }

    /// Purges what nobody needs any more. Whoever appended the right number does it, for all; nobody waits for it.
    fn forget_old(&self) {
        let stream = self.stream.clone();
        drop(link::spawn(async move {
            for (kind, keep) in KEPT {
                // A server may reserve this to others; then they do it.
                let _ = stream.forget(kind, keep).await;
            }
        }));
    }
}

impl Delivery for NatsDelivery {
    fn log(&self) -> LogId {
        self.stream.log()
    }

    fn append(&mut self, kind: &'static str, bytes: &[u8]) -> Result<Appended, DeliveryError> {
        self.publish(kind, None, bytes)
    }

    fn append_commit(&mut self, after: u64, bytes: &[u8]) -> Result<Appended, DeliveryError> {
        // The server's numbers are signed where it compares them; no log gets that long.
        if i64::try_from(after).is_err() {
            check_length(bytes)?;
            return Ok(Appended::Moved);
        }
        self.publish(COMMITS, Some(after), bytes)
    }

    fn read(&mut self, after: u64, most: usize) -> Result<Vec<Entry>, DeliveryError> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let (doubts, last) = (self.heard.doubts(), self.heard.last());
        let fresh = self.asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN);
        if fresh && after == last && doubts == self.checked {
            // What came meanwhile rings.
            return Ok(Vec::new());
        }
        self.asked = None;
        let (stream, now) = (self.stream.clone(), Instant::now());
        let entries = wait(async move { read(&stream, after, most, last).await })?;
        self.asked = self.listener.as_ref().map(|_| now);
        if entries.is_empty() && (after > self.heard.last() || doubts != self.checked) {
            let stream = self.stream.clone();
            let state = wait(async move { stream.state().await })?;
            if after > state.last {
                let (first, last) = (state.first, state.last);
                return Err(DeliveryError::NotHeld { after, first, last });
            }
            self.checked = doubts;
        }
        if let Some(entry) = entries.last() {
            self.heard.note(entry.sequence);
        }
        for entry in &entries {
            self.contents.note(entry);
        }
        Ok(entries)
    }

    fn last_commit(&mut self) -> Result<u64, DeliveryError> {
        let stream = self.stream.clone();
        let last = wait(async move { stream.last(COMMITS).await })?;
        Ok(last.map_or(0, |entry| entry.sequence))
    }

    fn keep_content(&mut self, bytes: u64) {
        self.contents.keep = bytes;
    }

    fn wake_by(&mut self, waker: Waker) -> Result<(), DeliveryError> {
        self.listener = None;
        // What came before there was a bell did not ring.
        self.asked = None;
        let (stream, heard, calls) = (self.stream.clone(), self.heard.clone(), waker.clone());
        self.listener = Some(wait(Listener::start(stream, heard, calls))?);
        waker();
        Ok(())
    }

    fn warning(&self) -> Option<String> {
        let version = self.stream.link().version();
        let old = number(&version).is_some_and(|version| version < NEEDED_IN_CLUSTER);
        (old && self.stream.replicas() > 1).then(|| {
            format!(
                "nats-server {version} can accept several commits in one place of a log that is on more than one server. \
                 The room still agrees on one of them, but loses time by it: install nats-server 2.9.23 or later"
            )
        })
    }
}

/// Reads records behind `after`. Those up to `last` are known to be there or to be purged.
async fn read(stream: &Stream, after: u64, most: usize, last: u64) -> Result<Vec<Entry>, NatsError> {
    let (mut entries, mut total): (Vec<Entry>, usize) = (Vec::new(), 0);
    let mut longest = SMALL;
    loop {
        let read = entries.last().map_or(after, |entry| entry.sequence);
        let Some(from) = read.checked_add(1) else {
            return Ok(entries);
        };
        let left = u64::try_from(most - entries.len()).unwrap_or(u64::MAX);
        // The first one is asked for in a way that passes over gaps, the following ones by their numbers.
        let together = TOGETHER
            .min(u64::try_from(MAX_READ / longest).unwrap_or(1))
            .min(left);
        let to = last.min(read.saturating_add(together));
        let rest = streams::iter(from + 1..=to).map(|sequence| stream.exactly(sequence));
        let mut rest = rest.buffered(usize::try_from(TOGETHER).unwrap_or(1));
        let mut next = stream.next(from).await?;
        let mut expected = from;
        longest = SMALL;
        while let Some(entry) = next {
            total += entry.bytes.len();
            longest = longest.max(entry.bytes.len());
            if total > MAX_READ && !entries.is_empty() {
                return Ok(entries);
            }
            let passed_over = entry.sequence != expected;
            entries.push(entry);
            if entries.len() == most {
                return Ok(entries);
            }
            if passed_over {
                break;
            }
            expected += 1;
            match rest.next().await {
                Some(entry) => next = entry?,
                None => break,
            }
        }
        // Nothing new in this round: the end.
        if entries.last().map_or(after, |entry| entry.sequence) == read {
            return Ok(entries);
        }
        // At the end of what is known: whoever reads comes again.
        if expected > last {
            return Ok(entries);
        }
    }
}

/// A version's three numbers, where it has them.
fn number(version: &str) -> Option<[u32; 3]> {
    let plain = version.trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts = plain.split('.').map(str::parse);
    let mut part = || parts.next()?.ok();
    Some([part()?, part()?, part()?])
}
