//! The key contract: how keys get from whoever manages them to the elements that seal and open.
//!
//! Plugin libraries cannot share Rust types, so the contract is made of plain GObject calls. A **key source** is a
//! thread-safe subclass of `GstObject`, in any language, with these signals:
//!
//! | signal | emitted when | answer |
//! |---|---|---|
//! | action `sender-key(stream: string) -> GstStructure` | a sender needs a key: at its first frame, after `keys-changed`, and when its counters are used up | `sframe-sender-key` with `kid` u64, `cipher-suite` u32 (IANA number), `base-key` GBytes, `counter` u64 (first), `counter-end` u64 (exclusive), `epoch` u64. NULL: no key now, the frame is dropped. Every answer must be a range of counters that was never given out for this key and KID. A sender goes on with what it has, and leaves the answer unused, while the answer has the same base key and either the same KID or the same epoch (other than 0) |
//! | action `receiver-key(kid: u64) -> GstStructure` | a frame of an unknown KID arrives, and again after `keys-changed` | `sframe-receiver-key` with `cipher-suite` u32, `base-key` GBytes, `epoch` u64, `leaf` u32, `sender` string. NULL: unknown, the frame waits or is dropped |
//! | action `frame-opened(kid: u64)` | the first frame of a KID authenticated | none. Only authenticated frames may cause a sender to switch to a new epoch |
//! | action `room-state(epoch: u64) -> GstStructure` | somebody asks what held in that epoch; the largest u64 asks for the latest epoch that is known | `sframe-room-state` with `epoch` u64 and the fields of [`room_state`](crate::room_state): where this endpoint stands, claim, recording, consent, recipients and more. NULL: unknown |
//! | action `sign(purpose: string, data: GBytes) -> GBytes` | somebody needs this endpoint's signature | the signature, under a context label of its own for each purpose. NULL: refused |
//! | `keys-changed(epoch: u64)` | a key appeared, changed or expired | senders ask again, receivers look again at all that they cached |
//! | `room-changed(epoch: u64)` | an epoch began, before anything is opened in it; or where this endpoint stands changed: at once, for who records must stop when the room is stale or it is out | |
//!
//! No signal may be emitted while the source holds a lock that an action takes.
//!
//! Elements find the source by their property `key-source`, or by a `GstContext` of type `gst.sframe.keyring/<id>` whose structure has the object in
//! the field `keyring`. The context never holds key bytes, and nobody formats a key structure: printing one prints
//! the key.

use gst::glib;
use gst::glib::subclass::SignalId;
use gst::prelude::*;
use std::fmt;
use std::ops::Range;
use zeroize::Zeroizing;

use crate::cipher_suite::CipherSuite;
use crate::room_state::{LATEST, ROOM_STATE, RoomState};

/// Field of the context's structure that holds the key source.
pub const CONTEXT_FIELD: &str = "keyring";

/// Name of the structure that `sender-key` answers with.
pub const SENDER_KEY: &str = "sframe-sender-key";
/// Name of the structure that `receiver-key` answers with.
pub const RECEIVER_KEY: &str = "sframe-receiver-key";

/// Type of the context that carries the key source with this id.
pub fn context_type(id: &str) -> String {
    format!("gst.sframe.keyring/{id}")
}

/// How an object or its answer breaks the contract. Never contains key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// The context's structure has no object in the field `keyring`.
    #[error("the context has no GstObject in its field \"{CONTEXT_FIELD}\"")]
    NoObject,
    /// A signal does not exist.
    #[error("{type_name} has no signal \"{signal}\"; a key source needs {expected}")]
    MissingSignal {
        /// Type of the object that was offered.
        type_name: String,
        /// Name of the signal.
        signal: &'static str,
        /// The signature that it must have.
        expected: String,
    },
    /// A signal has other parameters or another return type.
    #[error("signal \"{signal}\" of {type_name} has the wrong signature; a key source needs {expected}")]
    MistypedSignal {
        /// Type of the object that was offered.
        type_name: String,
        /// Name of the signal.
        signal: &'static str,
        /// The signature that it must have.
        expected: String,
    },
    /// An answer lacks a field, or the field has another type or an impossible value.
    #[error(
        "the key source's answer to \"{signal}\" has a missing, mistyped or impossible field \"{field}\""
    )]
    BadField {
        /// Name of the signal.
        signal: &'static str,
        /// Name of the field.
        field: &'static str,
    },
}

/// A key to seal with and the counters that belong to this caller alone.
pub struct SenderKey {
    /// Key id to write into the header.
    pub kid: u64,
    /// Cipher suite.
    pub suite: CipherSuite,
    /// Base key (RFC 9605 §4.4.2).
    pub base_key: Zeroizing<Vec<u8>>,
    /// Counters to use, each once.
    pub counters: Range<u64>,
    /// Epoch of the group; 0 for static keys.
    pub epoch: u64,
}

/// A key to open with and whose it is.
pub struct ReceiverKey {
    /// Cipher suite.
    pub suite: CipherSuite,
    /// Base key (RFC 9605 §4.4.2).
    pub base_key: Zeroizing<Vec<u8>>,
    /// Epoch of the group; 0 for static keys.
    pub epoch: u64,
    /// Leaf index of the sender.
    pub leaf: u32,
    /// Identity of the sender, for people and for records.
    pub sender: String,
}

impl fmt::Debug for SenderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderKey")
            .field("kid", &self.kid)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ReceiverKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverKey")
            .field("epoch", &self.epoch)
            .field("leaf", &self.leaf)
            .finish_non_exhaustive()
    }
}

/// A key source whose signals were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySource(gst::Object);

impl KeySource {
    /// Takes an object as key source after checking every signal of the contract: `emit` panics on a missing one.
    pub fn new(object: gst::Object) -> Result<Self, ContractError> {
        let structure = gst::Structure::static_type();
        let (string, u64_, bytes) = (
            String::static_type(),
            u64::static_type(),
            glib::Bytes::static_type(),
        );
        let unit = glib::Type::UNIT;
        check_signal(&object, "sender-key", &[string], structure)?;
        check_signal(&object, "receiver-key", &[u64_], structure)?;
        check_signal(&object, "frame-opened", &[u64_], unit)?;
        check_signal(&object, "room-state", &[u64_], structure)?;
        check_signal(&object, "sign", &[string, bytes], bytes)?;
        check_signal(&object, "keys-changed", &[u64_], unit)?;
        check_signal(&object, "room-changed", &[u64_], unit)?;
        Ok(Self(object))
    }

    /// The key source that a context carries.
    pub fn from_context(context: &gst::Context) -> Result<Self, ContractError> {
        let object = context
            .structure()
            .get::<gst::Object>(CONTEXT_FIELD)
            .map_err(|_| ContractError::NoObject)?;
        Self::new(object)
    }

    /// Asks for a key to seal with; `stream` names the asking stream for the source's bookkeeping.
    pub fn sender_key(&self, stream: &str) -> Result<Option<SenderKey>, ContractError> {
        const SIGNAL: &str = "sender-key";
        let Some(s) = self.ask(SIGNAL, &[&stream], SENDER_KEY)? else {
            return Ok(None);
        };
        let counters = field::<u64>(&s, SIGNAL, "counter")?..field::<u64>(&s, SIGNAL, "counter-end")?;
        if counters.is_empty() {
            return Err(bad_field(SIGNAL, "counter-end"));
        }
        Ok(Some(SenderKey {
            kid: field(&s, SIGNAL, "kid")?,
            suite: suite(&s, SIGNAL)?,
            base_key: base_key(&s, SIGNAL)?,
            counters,
            epoch: field(&s, SIGNAL, "epoch")?,
        }))
    }

    /// Asks for the key of a KID.
    pub fn receiver_key(&self, kid: u64) -> Result<Option<ReceiverKey>, ContractError> {
        const SIGNAL: &str = "receiver-key";
        let Some(s) = self.ask(SIGNAL, &[&kid], RECEIVER_KEY)? else {
            return Ok(None);
        };
        Ok(Some(ReceiverKey {
            suite: suite(&s, SIGNAL)?,
            base_key: base_key(&s, SIGNAL)?,
            epoch: field(&s, SIGNAL, "epoch")?,
            leaf: field(&s, SIGNAL, "leaf")?,
            sender: field(&s, SIGNAL, "sender")?,
        }))
    }

    /// Says that the first frame of a KID authenticated.
    pub fn frame_opened(&self, kid: u64) {
        self.0.emit_by_name::<()>("frame-opened", &[&kid]);
    }

    /// What held in the room in that epoch, or in the latest one ([`LATEST`]); `None` where the source does not know.
    pub fn room_state(&self, epoch: u64) -> Result<Option<RoomState>, ContractError> {
        const SIGNAL: &str = "room-state";
        let Some(s) = self.ask(SIGNAL, &[&epoch], ROOM_STATE)? else {
            return Ok(None);
        };
        let state = RoomState::from_structure(&s)?;
        if epoch != LATEST && state.epoch != epoch {
            return Err(bad_field(SIGNAL, "epoch"));
        }
        Ok(Some(state))
    }

    /// This endpoint's signature over `data`, under the context label of `purpose`; `None` where it refuses.
    pub fn sign(&self, purpose: &str, data: &[u8]) -> Option<glib::Bytes> {
        self.emit("sign", &[&purpose, &glib::Bytes::from(data)])
    }

    /// Calls `f` with the epoch whenever keys appeared, changed or expired.
    pub fn connect_keys_changed(&self, f: impl Fn(u64) + Send + Sync + 'static) -> Connection {
        self.connect("keys-changed", f)
    }

    /// Calls `f` with the epoch whenever an epoch began or where this endpoint stands changed.
    pub fn connect_room_changed(&self, f: impl Fn(u64) + Send + Sync + 'static) -> Connection {
        self.connect("room-changed", f)
    }

    fn connect(&self, signal: &'static str, f: impl Fn(u64) + Send + Sync + 'static) -> Connection {
        let id = self.0.connect(signal, false, move |args| {
            if let Some(Ok(epoch)) = args.get(1).map(|v| v.get::<u64>()) {
                f(epoch);
            }
            None
        });
        Connection {
            object: self.0.clone(),
            id: Some(id),
        }
    }

    /// Emits an action; `None` where it answers NULL.
    fn emit<T: for<'a> glib::value::FromValue<'a> + 'static>(
        &self,
        signal: &str,
        args: &[&dyn ToValue],
    ) -> Option<T> {
        let args: Vec<glib::Value> = args.iter().map(|a| a.to_value()).collect();
        let answer = self.0.emit_by_name_with_values(signal, &args)?;
        answer.get::<T>().ok()
    }

    fn ask(
        &self,
        signal: &'static str,
        args: &[&dyn ToValue],
        name: &'static str,
    ) -> Result<Option<gst::Structure>, ContractError> {
        match self.emit::<gst::Structure>(signal, args) {
            Some(s) if s.name() != name => Err(bad_field(signal, "name of the structure")),
            answer => Ok(answer),
        }
    }
}

/// A signal connection that ends when it is dropped.
pub struct Connection {
    object: gst::Object,
    id: Option<glib::SignalHandlerId>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.object.disconnect(id);
        }
    }
}

fn bad_field(signal: &'static str, field: &'static str) -> ContractError {
    ContractError::BadField { signal, field }
}

fn field<'a, T: glib::value::FromValue<'a>>(
    s: &'a gst::StructureRef,
    signal: &'static str,
    name: &'static str,
) -> Result<T, ContractError> {
    // Looked up as a value first: the error of a failed `get` must not be shown, it could describe its neighbours.
    let value = s.value(name).map_err(|_| bad_field(signal, name))?;
    value.get().map_err(|_| bad_field(signal, name))
}

fn suite(s: &gst::StructureRef, signal: &'static str) -> Result<CipherSuite, ContractError> {
    let number = field::<u32>(s, signal, "cipher-suite")?;
    CipherSuite::from_iana(number).ok_or(bad_field(signal, "cipher-suite"))
}

fn base_key(s: &gst::StructureRef, signal: &'static str) -> Result<Zeroizing<Vec<u8>>, ContractError> {
    let bytes = field::<glib::Bytes>(s, signal, "base-key")?;
    if bytes.is_empty() {
        return Err(bad_field(signal, "base-key"));
    }
    Ok(Zeroizing::new(bytes.to_vec()))
}

fn check_signal(
    object: &gst::Object,
    signal: &'static str,
    params: &[glib::Type],
    answer: glib::Type,
) -> Result<(), ContractError> {
    let type_name = || object.type_().name().to_string();
    let expected = || {
        let params: Vec<_> = params.iter().map(|t| t.name()).collect();
        format!("{signal}({}) -> {}", params.join(", "), answer.name())
    };
    let Some(id) = SignalId::lookup(signal, object.type_()) else {
        return Err(ContractError::MissingSignal {
            type_name: type_name(),
            signal,
            expected: expected(),
        });
    };
    let query = id.query();
    let same_params = query
        .param_types()
        .iter()
        .map(|t| t.type_())
        .eq(params.iter().copied());
    if !same_params || query.return_type().type_() != answer {
        return Err(ContractError::MistypedSignal {
            type_name: type_name(),
            signal,
            expected: expected(),
        });
    }
    Ok(())
}

/// Finds the key source with this id for an element, the way GStreamer elements find a context: what the element
/// was given, then its neighbours, then the bins above and the application (`need-context` on the bus).
///
/// `Ok(None)`: nobody has one. Call it at READY→PAUSED; earlier, bins do not hold the context yet.
pub fn find(element: &gst::Element, id: &str) -> Result<Option<KeySource>, ContractError> {
    let context_type = context_type(id);
    let context = element.context(&context_type).or_else(|| {
        element
            .pads()
            .into_iter()
            .find_map(|pad| {
                let mut query = gst::query::Context::new(&context_type);
                pad.peer_query(&mut query)
                    .then(|| query.context_owned())
                    .flatten()
            })
            .or_else(|| {
                let message = gst::message::NeedContext::builder(&context_type)
                    .src(element)
                    .build();
                let _ = element.post_message(message);
                element.context(&context_type)
            })
    });
    context.as_ref().map(KeySource::from_context).transpose()
}
