//! What the element is told, and what it makes of it at the start.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

use super::Claim;
use crate::delivery::app::{AppDelivery, AppInbox};
use crate::delivery::nats::{self, Files, NatsDelivery};
use crate::delivery::sqlite::SqliteDelivery;
use crate::delivery::{Choice, Delivery, KEPT_CONTENT};
use crate::identity::{OwnIdentity, Role};
use crate::policy::{self, Admission, Policy, PolicyFile, RoomTag, Who};
use crate::room;
use crate::runner::Parts;
use crate::store::{SqliteStore, StateKey, default_state_file, state_key};

/// Default of `max-silence`.
pub const MAX_SILENCE: gst::ClockTime = gst::ClockTime::from_seconds(30);
/// Shortest `max-silence` that leaves time for signs of life.
pub const LEAST_SILENCE: gst::ClockTime = gst::ClockTime::from_seconds(3);

/// Least `message-storage`, in bytes: the longest message must not push itself out.
pub const LEAST_CONTENT: u64 = 2 * crate::content::MAX_BODY as u64;

/// Most servers that a stream can be on.
pub const MOST_REPLICAS: u32 = 5;

/// The properties. Not `Debug`: in `delivery` there may be a password.
#[derive(Clone)]
pub struct Settings {
    pub id: String,
    pub room: Option<String>,
    pub certificate_file: Option<String>,
    pub private_key_file: Option<String>,
    pub ca_file: Option<String>,
    pub state_file: Option<String>,
    pub state_key_file: Option<String>,
    pub delivery: String,
    pub display_name: Option<String>,
    pub message_padding: bool,
    pub message_storage: u64,
    pub nats_credentials_file: Option<String>,
    pub nats_ca_file: Option<String>,
    pub nats_certificate_file: Option<String>,
    pub nats_key_file: Option<String>,
    pub nats_replicas: u32,
    pub create: bool,
    pub policy_file: Option<String>,
    pub accept: Claim,
    pub rekey_interval: gst::ClockTime,
    pub max_silence: gst::ClockTime,
    pub control_socket: Option<String>,
    pub posture_file: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            id: "default".into(),
            room: None,
            certificate_file: None,
            private_key_file: None,
            ca_file: None,
            state_file: None,
            state_key_file: None,
            delivery: "sqlite:".into(),
            display_name: None,
            message_padding: true,
            message_storage: KEPT_CONTENT,
            nats_credentials_file: None,
            nats_ca_file: None,
            nats_certificate_file: None,
            nats_key_file: None,
            nats_replicas: 1,
            create: false,
            policy_file: None,
            accept: Claim::Strict,
            rekey_interval: gst::ClockTime::ZERO,
            max_silence: MAX_SILENCE,
            control_socket: None,
            posture_file: None,
        }
    }
}

/// What a room needs, and where the application's messages go.
pub struct Prepared {
    pub parts: Parts,
    pub inbox: Option<AppInbox>,
}

/// A path that is set.
fn set(path: &Option<String>) -> Option<PathBuf> {
    path.as_deref().filter(|path| !path.is_empty()).map(PathBuf::from)
}

impl Settings {
    /// Where the control socket is to be.
    pub fn control_socket(&self) -> Option<PathBuf> {
        set(&self.control_socket)
    }

    /// Loads and opens everything. Errors are sentences for a person.
    pub fn prepare(
        &self,
        authorize: bool,
        send: impl Fn(&'static str, &[u8]) + Send + 'static,
    ) -> Result<Prepared, String> {
        let room = self.room.clone().filter(|room| !room.is_empty());
        let room = room.ok_or("room is not set: all members of a room name it alike, room=NAME")?;
        let given = |value: &Option<String>, name: &str| {
            set(value).ok_or(format!(
                "{name} is not set: `gst-mls ca new` and `gst-mls identity new` make certificate, key and CA file"
            ))
        };
        let display_name = self.display_name.clone().filter(|name| !name.is_empty());
        if display_name.as_deref().is_some_and(|name| !room::is_name(name)) {
            return Err(format!(
                "display-name: write a name of at most {} bytes, without control characters",
                room::MAX_NAME
            ));
        }
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let own = OwnIdentity::load(
            &given(&self.certificate_file, "certificate-file")?,
            &given(&self.private_key_file, "private-key-file")?,
            &given(&self.ca_file, "ca-file")?,
            unix,
        )
        .map_err(|e| e.to_string())?;

        let choice = Choice::parse(&self.delivery).map_err(|e| e.to_string())?;
        let durable_log = choice != Choice::App;
        let (mut delivery, inbox): (Box<dyn Delivery>, _) = match choice {
            Choice::Sqlite(path) => {
                let delivery = SqliteDelivery::open(path.as_deref(), &room).map_err(|e| e.to_string())?;
                (Box::new(delivery), None)
            }
            Choice::Nats(address) => {
                let files = Files {
                    credentials: set(&self.nats_credentials_file),
                    ca: set(&self.nats_ca_file),
                    certificate: set(&self.nats_certificate_file),
                    key: set(&self.nats_key_file),
                };
                let replicas = u8::try_from(self.nats_replicas).unwrap_or(1);
                let delivery =
                    NatsDelivery::open(&address, &files, replicas, &room).map_err(|e| e.to_string())?;
                (Box::new(delivery), None)
            }
            Choice::App => {
                let (delivery, inbox) = AppDelivery::new(send).map_err(|e| e.to_string())?;
                (Box::new(delivery), Some(inbox))
            }
        };

        delivery.keep_content(self.message_storage);

        let key = state_key(&StateKey::parse(self.state_key_file.as_deref())).map_err(|e| e.to_string())?;
        let state_file = match set(&self.state_file) {
            Some(path) => path,
            None => default_state_file(&room, &own.identity().fingerprint.0).map_err(|e| e.to_string())?,
        };
        let store = SqliteStore::open(&state_file, &key).map_err(|e| e.to_string())?;

        let create = match self.create {
            true => Some(self.policy(&room, &own)?),
            false => None,
        };
        let settings = room::Settings {
            room,
            create,
            accept: match self.accept {
                Claim::Strict => policy::Claim::Strict,
                Claim::Recorded => policy::Claim::Recorded,
                Claim::Escrow => policy::Claim::Escrow,
            },
            rekey_interval: self.rekey_interval.mseconds(),
            max_silence: self.max_silence.mseconds(),
            authorize,
            durable_log,
            display_name,
            padding: self.message_padding,
        };
        let parts = Parts {
            settings,
            own: Arc::new(own),
            store,
            delivery,
            // Without the login: it is told to whoever asks the control socket.
            address: nats::redacted(&self.delivery).into(),
            posture_file: set(&self.posture_file),
        };
        Ok(Prepared { parts, inbox })
    }

    /// The policy of a new room: the file's, or one that admits the participants of the own CA.
    fn policy(&self, room: &str, own: &OwnIdentity) -> Result<Policy, String> {
        let file = match set(&self.policy_file) {
            Some(path) => {
                let name = path.display();
                let bytes = fs::read(&path).map_err(|e| format!("cannot read policy-file {name}: {e}"))?;
                PolicyFile::parse(&bytes).map_err(|e| format!("policy-file {name}: {e}"))?
            }
            None => PolicyFile {
                admit: Some(vec![Admission {
                    role: Role::Participant,
                    who: Who::Root {
                        root: own.identity().root,
                        subject: None,
                    },
                }]),
                ..PolicyFile::default()
            },
        };
        let mut salt = [0; 16];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| "the system gives no random bytes".to_string())?;
        file.into_policy(RoomTag::new(room, salt), own.identity(), own.roots())
            .map_err(|e| format!("the policy of the new room: {e}"))
    }
}
