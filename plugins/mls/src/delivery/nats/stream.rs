//! One room's stream, by JetStream's own requests (`$JS.API.…`, JSON). Whatever comes back comes from outside.
//!
//! The room is in it by a hash of its name, and its subjects also carry a number that was drawn when the stream was
//! made. A stream that was deleted and made anew has other subjects: nothing that was meant for the old one gets into
//! it, and it does not answer for the old one.

use super::link::{Link, plain, random};
use super::{Entry, LogId, NatsError};
use crate::record::MAX_RECORD;
use async_nats::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use scrypt::Params;
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What precedes everything of ours, for a server's permissions.
pub(super) const PREFIX: &str = "gst-e2ee";

/// Space for a record's headers.
pub(super) const HEADERS: usize = 512;

/// How long one answer may take, and so long more for each quarter of a mebibyte that is sent.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long the stream may take to be there: a cluster first chooses who leads it.
const READY_WITHIN: Duration = Duration::from_secs(20);
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// A record that comes a second time within so long is recognised.
const DUPLICATES: Duration = Duration::from_secs(120);

/// scrypt's N = 2^13, r = 8, p = 1 (RFC 7914 §2): 8 MiB and some 25 ms for each name that somebody tries who has the
/// hash. Who changes one of these values changes the label, too.
const LOG_N: u8 = 13;
const LABEL: &[u8] = b"gst-e2ee nats room v1";

// Numbers of JetStream's errors.
const NO_MESSAGE: u16 = 10037;
const NO_STREAM: u16 = 10059;
const NAME_IN_USE: u16 = 10058;
const WRONG_LAST_SEQUENCE: u16 = 10071;
const MESSAGE_TOO_LONG: u16 = 10054;
/// Not enabled, not enabled for the account.
const NO_JETSTREAM: [u16; 2] = [10076, 10039];
/// Insufficient resources, no storage left, not stored, the limits of an account.
const FULL: [u16; 5] = [10023, 10047, 10077, 10002, 10027];
/// A cluster that has no leader, or too few servers at the moment.
const LATER: [u16; 6] = [10005, 10006, 10007, 10008, 10009, 10118];

/// The name of a room as the server sees it, 64 hex digits.
pub(super) fn tag(room: &str) -> Result<String, NatsError> {
    let mut hash = [0; 32];
    let failed = || io::Error::other("no hash of the room's name");
    let params = Params::new(LOG_N, 8, 1, hash.len()).map_err(|_| failed())?;
    scrypt::scrypt(room.as_bytes(), LABEL, &params, &mut hash).map_err(|_| failed())?;
    Ok(hex::encode(hash))
}

/// A room's stream on a server.
pub(super) struct Stream {
    link: Arc<Link>,
    name: String,
    /// What its subjects begin with.
    prefix: String,
    log: LogId,
    replicas: u8,
}

/// What a stream has.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct State {
    #[serde(rename = "first_seq")]
    pub(super) first: u64,
    #[serde(rename = "last_seq")]
    pub(super) last: u64,
}

/// What became of a record.
pub(super) enum Published {
    Stands(u64),
    Moved,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    err_code: u16,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Described {
    error: Option<Failure>,
    config: Option<Config>,
    #[serde(default)]
    state: State,
}

#[derive(Deserialize)]
#[serde(default)]
struct Config {
    subjects: Vec<String>,
    retention: String,
    discard: String,
    max_msgs: i64,
    max_bytes: i64,
    max_age: i64,
    max_msgs_per_subject: i64,
    num_replicas: u8,
    sealed: bool,
    republish: Option<Republish>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            subjects: Vec::new(),
            retention: String::new(),
            discard: String::new(),
            max_msgs: -1,
            max_bytes: -1,
            max_age: 0,
            max_msgs_per_subject: -1,
            num_replicas: 1,
            sealed: false,
            republish: None,
        }
    }
}

#[derive(Deserialize)]
struct Republish {
    #[serde(default)]
    dest: String,
}

#[derive(Deserialize)]
struct Got<'a> {
    error: Option<Failure>,
    #[serde(borrow)]
    message: Option<Stored<'a>>,
}

#[derive(Deserialize)]
struct Stored<'a> {
    subject: Cow<'a, str>,
    seq: u64,
    #[serde(borrow, default)]
    data: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Acknowledged {
    error: Option<Failure>,
    #[serde(default)]
    seq: u64,
}

#[derive(Deserialize)]
struct Outcome {
    error: Option<Failure>,
}

impl Stream {
    /// The stream of the room with this tag, made where there is none.
    pub(super) async fn open(link: Arc<Link>, tag: String, replicas: u8) -> Result<(Self, State), NatsError> {
        let mut stream = Self {
            link,
            name: format!("{PREFIX}-{tag}"),
            prefix: String::new(),
            log: [0; 16],
            replicas,
        };
        let end = Instant::now() + READY_WITHIN;
        loop {
            match stream.find_or_make(&tag).await {
                Err(error) if error.is_temporary() && Instant::now() < end => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => return Err(error),
                Ok(Some(state)) => return Ok((stream, state)),
                // Somebody else makes it at the same time.
                Ok(None) if Instant::now() < end => {}
                Ok(None) => return Err(stream.silent("somebody deletes the stream all the time")),
            }
        }
    }

    async fn find_or_make(&mut self, tag: &str) -> Result<Option<State>, NatsError> {
        let mut described = self.describe().await?;
        if described
            .error
            .as_ref()
            .is_some_and(|error| error.err_code == NO_STREAM)
        {
            let log: LogId = random()?;
            let prefix = format!("{PREFIX}.{tag}.{}", hex::encode(log));
            let config = json!({
                "name": self.name,
                "description": "a room of gst-plugins-e2ee",
                "subjects": [format!("{prefix}.log.>")],
                "retention": "limits",
                "storage": "file",
                "num_replicas": self.replicas,
                // No limit is set; where somebody sets one, a new record is refused and no old one lost.
                "discard": "new",
                "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msgs_per_subject": -1,
                "max_msg_size": MAX_RECORD + HEADERS,
                "duplicate_window": u64::try_from(DUPLICATES.as_nanos()).unwrap_or(u64::MAX),
                // Single commits cannot be deleted; what is old and of no more use is purged by subject.
                "deny_delete": true,
                // The bell: who listens hears of each record that is stored, and fetches it.
                "republish": {
                    "src": format!("{prefix}.log.>"),
                    "dest": format!("{prefix}.bell.>"),
                    "headers_only": true,
                },
            });
            described = self
                .ask(&format!("STREAM.CREATE.{}", self.name), config, Described::read)
                .await?;
        }
        match described.error {
            None => {}
            Some(error) if [NAME_IN_USE, NO_STREAM].contains(&error.err_code) => return Ok(None),
            Some(error) => return Err(self.refused(error)),
        }
        let config = described.config.ok_or_else(|| self.garbled())?;
        let (prefix, log) = self.check(&config, tag)?;
        (self.prefix, self.log, self.replicas) = (prefix, log, config.num_replicas);
        Ok(Some(described.state))
    }

    /// Is it as it was made, so that no commit gets lost? Its prefix and number.
    fn check(&self, config: &Config, tag: &str) -> Result<(String, LogId), NatsError> {
        let changed = |what: &str| NatsError::Changed {
            server: self.link.server(),
            stream: self.name.clone(),
            what: what.into(),
        };
        let number = |subject: &str| -> Option<LogId> {
            let rest = subject
                .strip_prefix(PREFIX)?
                .strip_prefix('.')?
                .strip_prefix(tag)?;
            let number = rest.strip_prefix('.')?.strip_suffix(".log.>")?;
            hex::decode(number).ok()?.try_into().ok()
        };
        let [subject] = &config.subjects[..] else {
            return Err(changed("has other subjects than one"));
        };
        let log = number(subject).ok_or_else(|| changed("has a subject that is not ours"))?;
        let prefix = subject.strip_suffix(".log.>").unwrap_or_default().to_owned();
        let limited = config.max_msgs > 0 || config.max_bytes > 0;
        if config.retention != "limits" {
            return Err(changed("does not keep records until its limits (retention)"));
        }
        if config.max_age > 0 || config.max_msgs_per_subject > 0 || limited && config.discard != "new" {
            return Err(changed(
                "discards old records (max_age, max_msgs_per_subject, or discard=old)",
            ));
        }
        if config.sealed {
            return Err(changed("is sealed"));
        }
        let bell = format!("{prefix}.bell.>");
        if config
            .republish
            .as_ref()
            .is_none_or(|republish| republish.dest != bell)
        {
            return Err(changed("does not tell of new records (republish)"));
        }
        Ok((prefix, log))
    }

    /// Its number.
    pub(super) fn log(&self) -> LogId {
        self.log
    }

    /// On how many servers it is.
    pub(super) fn replicas(&self) -> u8 {
        self.replicas
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Where a record of this kind goes. Those that are compared and set are of one kind to the server.
    fn subject(&self, kind: &str) -> String {
        format!("{}.log.{kind}", self.prefix)
    }

    /// Where it is told that there is something new.
    pub(super) fn bell(&self) -> String {
        format!("{}.bell.>", self.prefix)
    }

    /// Where it is told that the stream is deleted.
    pub(super) fn knell(&self) -> String {
        format!("$JS.EVENT.ADVISORY.STREAM.DELETED.{}", self.name)
    }

    /// What it has, if it still is the same one.
    pub(super) async fn state(&self) -> Result<State, NatsError> {
        let described = self.describe().await?;
        match described.error {
            None => {}
            Some(error) => return Err(self.refused(error)),
        }
        let config = described.config.ok_or_else(|| self.garbled())?;
        if config.subjects != [self.subject(">")] {
            return Err(self.gone());
        }
        Ok(described.state)
    }

    async fn describe(&self) -> Result<Described, NatsError> {
        self.ask(&format!("STREAM.INFO.{}", self.name), json!({}), Described::read)
            .await
    }

    /// The record with this sequence.
    pub(super) async fn exactly(&self, sequence: u64) -> Result<Option<Entry>, NatsError> {
        self.get(json!({ "seq": sequence })).await
    }

    /// The first record from this sequence on.
    pub(super) async fn next(&self, sequence: u64) -> Result<Option<Entry>, NatsError> {
        self.get(json!({ "seq": sequence, "next_by_subj": self.subject(">") }))
            .await
    }

    /// The last record of a kind.
    pub(super) async fn last(&self, kind: &str) -> Result<Option<Entry>, NatsError> {
        self.get(json!({ "last_by_subj": self.subject(kind) })).await
    }

    async fn get(&self, which: serde_json::Value) -> Result<Option<Entry>, NatsError> {
        let read = |bytes: &[u8]| -> Option<Result<Option<(bool, Entry)>, Failure>> {
            let got: Got<'_> = serde_json::from_slice(bytes).ok()?;
            let stored = match (got.error, got.message) {
                (Some(error), _) if error.err_code == NO_MESSAGE => return Some(Ok(None)),
                (Some(error), _) => return Some(Err(error)),
                (None, stored) => stored?,
            };
            // In a stream of the same name that was made anew there are other subjects.
            let ours = stored
                .subject
                .strip_prefix(&self.prefix)
                .is_some_and(|rest| rest.starts_with(".log."));
            let entry = Entry {
                sequence: stored.seq,
                bytes: STANDARD.decode(stored.data.as_bytes()).ok()?,
            };
            Some(Ok(Some((ours, entry))))
        };
        let got = self
            .ask(&format!("STREAM.MSG.GET.{}", self.name), which, read)
            .await?;
        match got.map_err(|error| self.refused(error))? {
            Some((true, entry)) => Ok(Some(entry)),
            Some((false, _)) => Err(self.gone()),
            None => Ok(None),
        }
    }

    /// Stores a record, `after`: only if this still is the last one of its kind.
    pub(super) async fn publish(
        &self,
        kind: &str,
        id: String,
        after: Option<u64>,
        bytes: Bytes,
    ) -> Result<Published, NatsError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        if let Some(after) = after {
            headers.insert("Nats-Expected-Last-Subject-Sequence", after.to_string());
        }
        let (size, most) = (bytes.len() + HEADERS, self.link.max_payload());
        if size > most {
            let server = self.link.server();
            return Err(NatsError::TooBig { size, most, server });
        }
        let quarters = u32::try_from(bytes.len() >> 18).unwrap_or(u32::MAX);
        let within = ANSWER_WITHIN + Duration::from_secs(1).saturating_mul(quarters);
        let answer = self
            .link
            .request(self.subject(kind), Some(headers), bytes, within)
            .await?;
        let Some(answer) = answer else {
            // Either nobody leads it at the moment, or there is no stream of ours any more.
            self.state().await?;
            return Err(self.silent("the stream takes nothing at the moment"));
        };
        let answer: Acknowledged = serde_json::from_slice(&answer.payload).map_err(|_| self.garbled())?;
        match answer.error {
            Some(error) if error.err_code == WRONG_LAST_SEQUENCE => Ok(Published::Moved),
            Some(error) if error.err_code == MESSAGE_TOO_LONG => Err(NatsError::Changed {
                server: self.link.server(),
                stream: self.name.clone(),
                what: format!("refuses a record of {size} bytes (max_msg_size)"),
            }),
            Some(error) => Err(self.refused(error)),
            None if answer.seq == 0 => Err(self.garbled()),
            None => Ok(Published::Stands(answer.seq)),
        }
    }

    /// Forgets all records of a kind but the last ones.
    pub(super) async fn forget(&self, kind: &str, keep: u64) -> Result<(), NatsError> {
        self.purge(json!({ "filter": self.subject(kind), "keep": keep }))
            .await
    }

    /// Forgets the records of a kind up to a sequence.
    pub(super) async fn forget_to(&self, kind: &str, sequence: u64) -> Result<(), NatsError> {
        // The server takes the first one that stays.
        self.purge(json!({ "filter": self.subject(kind), "seq": sequence.saturating_add(1) }))
            .await
    }

    async fn purge(&self, which: serde_json::Value) -> Result<(), NatsError> {
        let read = |bytes: &[u8]| serde_json::from_slice::<Outcome>(bytes).ok();
        let outcome = self
            .ask(&format!("STREAM.PURGE.{}", self.name), which, read)
            .await?;
        outcome.error.map_or(Ok(()), |error| Err(self.refused(error)))
    }

    /// One request to JetStream.
    async fn ask<T>(
        &self,
        what: &str,
        payload: serde_json::Value,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, NatsError> {
        let payload = payload.to_string().into();
        let answer = self
            .link
            .request(format!("$JS.API.{what}"), None, payload, ANSWER_WITHIN)
            .await?;
        let Some(answer) = answer else {
            return Err(NatsError::NoJetStream {
                server: self.link.server(),
            });
        };
        read(&answer.payload).ok_or_else(|| self.garbled())
    }

    fn refused(&self, error: Failure) -> NatsError {
        let server = self.link.server();
        let why = plain(&error.description);
        match error.err_code {
            NO_STREAM => self.gone(),
            code if NO_JETSTREAM.contains(&code) => NatsError::NoJetStream { server },
            code if FULL.contains(&code) => NatsError::Full { server, why },
            code if LATER.contains(&code) || error.code == 503 => {
                let why = format!(": {why}");
                NatsError::Silent { server, why }
            }
            _ => NatsError::Server { server, why },
        }
    }

    fn gone(&self) -> NatsError {
        NatsError::Gone {
            server: self.link.server(),
            stream: self.name.clone(),
        }
    }

    fn silent(&self, why: &str) -> NatsError {
        NatsError::Silent {
            server: self.link.server(),
            why: format!(": {why}"),
        }
    }

    fn garbled(&self) -> NatsError {
        NatsError::Garbled {
            server: self.link.server(),
        }
    }
}

impl Described {
    fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
