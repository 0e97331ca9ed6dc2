//! What can go wrong with a NATS server, as something that a person can act on. No password and no room's name.

use crate::identity::LoadError;
use std::io;
use std::path::PathBuf;

/// Why the log on a NATS server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// The property `delivery` cannot be read. The text is not repeated: a password may stand in it.
    #[error(
        "the address in delivery=nats://… is not understood: {0}. It is nats://HOST:PORT or tls://HOST:PORT, more \
         servers behind commas, in front of the first one user:password@ or token@"
    )]
    Address(&'static str),
    /// A file for the connection cannot be used.
    #[error("{property}: {error}")]
    File {
        /// Which property names it.
        property: &'static str,
        /// What is wrong with it.
        error: LoadError,
    },
    /// Half of a client certificate.
    #[error("nats-certificate-file and nats-key-file go together: set both or none")]
    HalfCertificate,
    /// Something else than credentials.
    #[error(
        "nats-credentials-file: {0} is neither a credentials file (as `nsc generate creds` writes it) nor an nkey's seed"
    )]
    NotCredentials(PathBuf),
    /// Two logins.
    #[error("delivery has a password or token, and nats-credentials-file is set: keep one of them")]
    TwoLogins,
    /// No TLS to be had from these files.
    #[error("nats-ca-file, nats-certificate-file or nats-key-file cannot be used for TLS: {0}")]
    TlsFiles(String),
    /// Nobody there.
    #[error("cannot reach {server}: {why}. Is nats-server running there, and is the address right?")]
    Unreachable {
        /// Host and port.
        server: String,
        /// What the system says.
        why: String,
    },
    /// The certificate, or no TLS at all.
    #[error(
        "no TLS connection to {server}: {why}. The server needs a certificate for the host in `delivery` from a CA in \
         nats-ca-file (without it: of the system), and may ask for nats-certificate-file"
    )]
    Tls {
        /// Host and port.
        server: String,
        /// What the other side or the check says.
        why: String,
    },
    /// The login.
    #[error(
        "{server} refuses the login: check user and password, or token, in `delivery`, or nats-credentials-file"
    )]
    Refused {
        /// Host and port.
        server: String,
    },
    /// Something that the login is not allowed to do.
    #[error(
        "{server} forbids what a room needs: {why}. Its members publish to `gst-e2ee.>` and `$JS.API.STREAM.>`, and \
         subscribe to `gst-e2ee.>`, `_INBOX.>` and `$JS.EVENT.ADVISORY.STREAM.DELETED.>`"
    )]
    Forbidden {
        /// Host and port.
        server: String,
        /// What it says.
        why: String,
    },
    /// It only carries messages, and keeps none.
    #[error(
        "{server} keeps no messages: JetStream is not enabled there for this account. Start nats-server with `-js`, or \
         with `jetstream {{ store_dir: … }}` in its configuration"
    )]
    NoJetStream {
        /// Host and port.
        server: String,
    },
    /// It lacks what is needed.
    #[error("{server} is nats-server {version}: install 2.9.0 or later, and 2.9.23 or later for a cluster")]
    TooOld {
        /// Host and port.
        server: String,
        /// What it says of itself.
        version: String,
    },
    /// The connection is lost, and is being made again.
    #[error("the connection to {server} is lost and being made again{why}")]
    Offline {
        /// Host and port.
        server: String,
        /// The last that was heard of it.
        why: String,
    },
    /// No answer.
    #[error("{server} does not answer{why}")]
    Silent {
        /// Host and port.
        server: String,
        /// The last that was heard of it.
        why: String,
    },
    /// Longer than the server takes.
    #[error(
        "a record of {size} bytes, and {server} takes no more than {most} in one message: set `max_payload: 8MB` in the \
         configuration of nats-server (all of a cluster) and reload it"
    )]
    TooBig {
        /// With its headers.
        size: usize,
        /// The server's limit.
        most: usize,
        /// Host and port.
        server: String,
    },
    /// No space there.
    #[error("{server} has no space left for the room's log: {why}")]
    Full {
        /// Host and port.
        server: String,
        /// What it says.
        why: String,
    },
    /// Deleted, or deleted and made anew.
    #[error(
        "the room's log on {server} (stream {stream}) was deleted while the room used it: stop and start all members"
    )]
    Gone {
        /// Host and port.
        server: String,
        /// Its name there.
        stream: String,
    },
    /// Somebody changed the stream's configuration.
    #[error(
        "stream {stream} on {server} {what}, and the room would lose commits: set it right with `nats stream edit`, or \
         delete the stream and let the members make a new one"
    )]
    Changed {
        /// Host and port.
        server: String,
        /// Its name there.
        stream: String,
        /// What is wrong.
        what: String,
    },
    /// Anything else that the server says.
    #[error("{server} refuses: {why}")]
    Server {
        /// Host and port.
        server: String,
        /// What it says.
        why: String,
    },
    /// Not what a JetStream server answers.
    #[error("{server} answers something that cannot be read: is it a NATS server with JetStream?")]
    Garbled {
        /// Host and port.
        server: String,
    },
    /// The system gives no thread or no random bytes.
    #[error("cannot speak with NATS servers here: {0}")]
    System(#[from] io::Error),
}

impl NatsError {
    /// May the same call succeed later, without anybody changing anything here?
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Offline { .. } | Self::Silent { .. } | Self::Full { .. }
        )
    }
}
