//! `mlskeyring` gives `sframeenc` and `sframedec` in the same pipeline their keys, out of an MLS room (RFC 9420).
//!
//! ```text
//! gst-mls ca new --name Clinic --out ca
//! gst-mls identity new --ca ca --role participant --out anna
//! gst-launch-1.0 mlskeyring room=visit-42 create=true certificate-file=anna/cert.pem \
//!     private-key-file=anna/key.pem ca-file=anna/ca.pem \
//!     videotestsrc ! vp8enc deadline=1 ! sframeenc ! rtpsframepay ! udpsink host=relay port=5004
//! ```
//!
//! NULL→READY loads the identity, opens state and delivery and announces the key source by a context; READY→PAUSED
//! starts the room; PAUSED→READY leaves it.
//!
//! Locks: `settings`, `running`, each for a moment and never both. Nothing is posted or emitted with one held.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use gst::glib;
use gst::glib::subclass::Signal;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::settings::{LEAST_SILENCE, MAX_SILENCE, MOST_REPLICAS, Settings};
use super::{Claim, State, messages, structures};
use crate::control::ControlServer;
use crate::delivery::app::AppInbox;
use crate::delivery::nats;
use crate::identity::{self, Identity};
use crate::keyring::Keyring;
use crate::policy::PolicyChange;
use crate::room::{self, Command, Event};
use crate::runner::{Asker, Host, Parts, Runner, View};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "mlskeyring",
        gst::DebugColorFlags::empty(),
        Some("Keys from an MLS room"),
    )
});

/// What exists from READY on.
#[derive(Default)]
struct Running {
    parts: Option<Parts>,
    inbox: Option<AppInbox>,
    runner: Option<Runner>,
    asker: Option<Asker>,
    control: Option<ControlServer>,
}

#[derive(Default)]
pub struct MlsKeyring {
    settings: Mutex<Settings>,
    running: Mutex<Running>,
    keyring: Keyring,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[glib::object_subclass]
impl ObjectSubclass for MlsKeyring {
    // By its spelling the element is called mlskeyring0; the key source is GstMlsKeyring.
    const NAME: &'static str = "GstMlskeyring";
    type Type = super::MlsKeyring;
    type ParentType = gst::Element;
}

impl MlsKeyring {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    fn asker(&self) -> Option<Asker> {
        lock(&self.running).asker.clone()
    }

    fn view(&self) -> Option<View> {
        self.asker().map(|asker| asker.view())
    }

    /// Hands in a wish; false where there is no room yet.
    fn wish(&self, command: Command) -> bool {
        self.asker().is_some_and(|asker| asker.wish(command))
    }

    fn change_policy(&self, json: &str) -> bool {
        match PolicyChange::parse(json.as_bytes()) {
            Ok(policy) => self.wish(Command::SetPolicy {
                policy: Box::new(policy),
            }),
            Err(error) => {
                let message = messages::structure(&Event::Refused {
                    what: "command",
                    by: String::new(),
                    reason: format!("change-policy: {error}"),
                });
                self.post(message);
                false
            }
        }
    }

    fn process_message(&self, bytes: &glib::Bytes) -> bool {
        let inbox = lock(&self.running).inbox.clone();
        let Some(inbox) = inbox else {
            gst::warning!(CAT, imp = self, "process-message is for delivery=app only");
            return false;
        };
        match inbox.push(bytes) {
            Ok(_) => true,
            Err(error) => {
                gst::warning!(CAT, imp = self, "{error}");
                false
            }
        }
    }

    fn post(&self, structure: Option<gst::Structure>) {
        if let Some(structure) = structure {
            let message = gst::message::Element::builder(structure)
                .src(&*self.obj())
                .build();
            // Nobody to hear it, in a test without a bus.
            let _ = self.obj().post_message(message);
        }
    }

    fn prepare(&self) -> Result<(), String> {
        let settings = self.settings().clone();
        let weak = self.obj().downgrade();
        let send = move |kind: &'static str, bytes: &[u8]| {
            if let Some(element) = weak.upgrade() {
                let bytes = glib::Bytes::from(bytes);
                element.emit_by_name::<()>("message-ready", &[&kind, &bytes]);
            }
        };
        let prepared = settings.prepare(self.has_authoriser(), send)?;
        {
            let mut running = lock(&self.running);
            running.parts = Some(prepared.parts);
            running.inbox = prepared.inbox;
        }
        let context = self.keyring.context(&settings.id);
        self.obj().set_context(&context);
        let message = gst::message::HaveContext::builder(context)
            .src(&*self.obj())
            .build();
        let _ = self.obj().post_message(message);
        Ok(())
    }

    fn has_authoriser(&self) -> bool {
        let id = glib::subclass::signal::SignalId::lookup("authorize-member", Self::type_());
        id.is_some_and(|id| glib::signal::signal_has_handler_pending(&*self.obj(), id, None, true))
    }

    fn start(&self) -> Result<(), String> {
        let parts = lock(&self.running).parts.take();
        let parts = match parts {
            Some(parts) => parts,
            // Started again without having been in NULL.
            None => {
                self.prepare()?;
                let parts = lock(&self.running).parts.take();
                parts.ok_or("the room was not prepared")?
            }
        };
        let signer = parts.own.clone();
        let shared = self.keyring.shared();
        let certificates = signer.certificates_pem().map_err(|error| error.to_string())?;
        shared.set_certificates(certificates);
        shared.set_signer(Some(Arc::new(move |data| Some(signer.sign(data).to_vec()))));
        let host = Arc::new(Reporter(self.obj().downgrade()));
        let runner = Runner::start(parts, shared, host)?;
        let asker = runner.asker();
        let socket = self.settings().control_socket();
        let control = match socket {
            Some(path) => {
                let asker = asker.clone();
                let server = ControlServer::start(&path, Arc::new(move |request| asker.answer(request)));
                match server {
                    Ok(server) => Some(server),
                    Err(error) => {
                        runner.stop(false);
                        return Err(error.to_string());
                    }
                }
            }
            None => None,
        };
        let mut running = lock(&self.running);
        running.runner = Some(runner);
        running.asker = Some(asker);
        running.control = control;
        Ok(())
    }

    fn stop(&self) {
        let (runner, control, status) = {
            let mut running = lock(&self.running);
            let status = running.asker.as_ref().map(|asker| asker.view().status);
            (running.runner.take(), running.control.take(), status)
        };
        drop(control);
        if let Some(runner) = runner {
            runner.stop(true);
        }
        let shared = self.keyring.shared();
        shared.set_signer(None);
        shared.set_certificates(Vec::new());
        if let Some(status) = status {
            self.post(Some(structures::stats(&status)));
        }
        let mut running = lock(&self.running);
        running.asker = None;
        running.inbox = None;
    }

    fn fail(&self, why: &str) {
        gst::element_imp_error!(self, gst::ResourceError::Failed, ("{}", why));
    }
}

/// Where the runner's thread tells what happens.
struct Reporter(glib::WeakRef<super::MlsKeyring>);

impl Host for Reporter {
    fn event(&self, event: Event) {
        let Some(element) = self.0.upgrade() else { return };
        gst::info!(CAT, obj = element, "{event:?}");
        element.imp().post(messages::structure(&event));
        let changed: &[&str] = match event {
            Event::State(_) => &["state"],
            Event::EpochChanged { .. } => &["epoch", "epoch-code", "members"],
            Event::RecorderPresent { .. } => &["recorders"],
            Event::RecordingChanged { .. } => &["recording"],
            _ => &[],
        };
        for property in changed {
            element.notify(property);
        }
    }

    fn authorize(&self, identity: &Identity, certificates: &[u8]) -> bool {
        let Some(element) = self.0.upgrade() else {
            return false;
        };
        let own = identity::certificates(certificates).ok();
        let own = own.as_ref().and_then(|chain| chain.first());
        let Some(Ok(certificate)) = own.map(|der| identity::issue::certificate_pem(der)) else {
            return false;
        };
        let roles: Vec<_> = identity.roles.iter().map(|role| role.word()).collect();
        let (id, role) = (&identity.subject, roles.join(","));
        element.emit_by_name::<bool>("authorize-member", &[id, &role, &certificate])
    }

    fn failed(&self, why: String) {
        if let Some(element) = self.0.upgrade() {
            element.imp().fail(&why);
        }
    }

    fn delivery_fails(&self, why: String) {
        if let Some(element) = self.0.upgrade() {
            gst::element_warning!(element, gst::ResourceError::Failed, ("{}", why));
        }
    }
}

impl ObjectImpl for MlsKeyring {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(properties);
        PROPERTIES.as_ref()
    }

    fn signals() -> &'static [Signal] {
        static SIGNALS: LazyLock<Vec<Signal>> = LazyLock::new(signals);
        SIGNALS.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        // glib has checked the types against the properties below.
        let text = || value.get::<Option<String>>().ok().flatten();
        let time = || value.get::<u64>().map(gst::ClockTime::from_nseconds).ok();
        let mut settings = self.settings();
        match pspec.name() {
            "id" => settings.id = text().unwrap_or_else(|| "default".into()),
            "room" => settings.room = text(),
            "certificate-file" => settings.certificate_file = text(),
            "private-key-file" => settings.private_key_file = text(),
            "ca-file" => settings.ca_file = text(),
            "state-file" => settings.state_file = text(),
            "state-key-file" => settings.state_key_file = text(),
            "delivery" => settings.delivery = text().unwrap_or_else(|| "sqlite:".into()),
            "nats-credentials-file" => settings.nats_credentials_file = text(),
            "nats-ca-file" => settings.nats_ca_file = text(),
            "nats-certificate-file" => settings.nats_certificate_file = text(),
            "nats-key-file" => settings.nats_key_file = text(),
            "nats-replicas" => settings.nats_replicas = value.get().unwrap_or(1),
            "create" => settings.create = value.get().unwrap_or_default(),
            "policy-file" => settings.policy_file = text(),
            "accept" => settings.accept = value.get().unwrap_or_default(),
            "rekey-interval" => settings.rekey_interval = time().unwrap_or_default(),
            "max-silence" => settings.max_silence = time().unwrap_or(MAX_SILENCE),
            "control-socket" => settings.control_socket = text(),
            "posture-file" => settings.posture_file = text(),
            _ => {}
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings().clone();
        match pspec.name() {
            "id" => settings.id.to_value(),
            "room" => settings.room.to_value(),
            "certificate-file" => settings.certificate_file.to_value(),
            "private-key-file" => settings.private_key_file.to_value(),
            "ca-file" => settings.ca_file.to_value(),
            "state-file" => settings.state_file.to_value(),
            "state-key-file" => settings.state_key_file.to_value(),
            // The login is not given out again.
            "delivery" => nats::redacted(&settings.delivery).to_value(),
            "nats-credentials-file" => settings.nats_credentials_file.to_value(),
            "nats-ca-file" => settings.nats_ca_file.to_value(),
            "nats-certificate-file" => settings.nats_certificate_file.to_value(),
            "nats-key-file" => settings.nats_key_file.to_value(),
            "nats-replicas" => settings.nats_replicas.to_value(),
            "create" => settings.create.to_value(),
            "policy-file" => settings.policy_file.to_value(),
            "accept" => settings.accept.to_value(),
            "rekey-interval" => settings.rekey_interval.nseconds().to_value(),
            "max-silence" => settings.max_silence.nseconds().to_value(),
            "control-socket" => settings.control_socket.to_value(),
            "posture-file" => settings.posture_file.to_value(),
            name => self.live_property(name),
        }
    }
}

impl MlsKeyring {
    /// Properties that the room answers.
    fn live_property(&self, name: &str) -> glib::Value {
        let view = self.view();
        let status = view.as_ref().map(|view| view.status.clone());
        let status = status.as_deref();
        match name {
            "state" => match status.map(|status| status.state) {
                None | Some(room::State::Joining) => State::Joining,
                Some(room::State::Ready) => State::Ready,
                Some(room::State::Transition) => State::Transition,
                Some(room::State::Stale) => State::Stale,
                Some(room::State::Evicted) => State::Evicted,
            }
            .to_value(),
            "epoch" => status.map_or(0, |status| status.epoch).to_value(),
            "epoch-code" => status
                .map(|status| status.epoch_code.clone())
                .unwrap_or_default()
                .to_value(),
            "members" => status
                .map_or_else(|| gst::Array::new(NOTHING), structures::members)
                .to_value(),
            "recorders" => status
                .map_or_else(|| gst::Array::new(NOTHING), structures::recorders)
                .to_value(),
            "recording" => {
                let policy = status.and_then(|status| status.policy.as_ref());
                policy.is_some_and(|policy| policy.recording).to_value()
            }
            "posture" => view
                .map(|view| view.posture.to_string())
                .unwrap_or_default()
                .to_value(),
            "stats" => status
                .map_or_else(
                    || gst::Structure::new_empty("mlskeyring-stats"),
                    structures::stats,
                )
                .to_value(),
            // glib asks for no others.
            _ => false.to_value(),
        }
    }
}

const NOTHING: [glib::SendValue; 0] = [];

fn properties() -> Vec<glib::ParamSpec> {
    let text = |name: &'static str, nick: &'static str, blurb: &'static str| {
        glib::ParamSpecString::builder(name)
            .nick(nick)
            .blurb(blurb)
            .mutable_ready()
            .build()
    };
    let with_default =
        |name: &'static str, nick: &'static str, blurb: &'static str, default: &'static str| {
            glib::ParamSpecString::builder(name)
                .nick(nick)
                .blurb(blurb)
                .default_value(Some(default))
                .mutable_ready()
                .build()
        };
    vec![
        with_default(
            "id",
            "Keyring id",
            "Which keyring this is in the pipeline: sframeenc and sframedec name it in their property keyring",
            "default",
        ),
        text("room", "Room", "Name of the room, the same for all its members; never leaves this machine"),
        text(
            "certificate-file",
            "Certificate",
            "This endpoint's X.509 certificate with its role (PEM, Ed25519), issuers behind it; `gst-mls identity new` \
             makes one",
        ),
        text(
            "private-key-file",
            "Private key",
            "The certificate's key (PKCS#8 PEM, Ed25519), readable by its owner alone",
        ),
        text(
            "ca-file",
            "Trusted CA",
            "Root certificates that this endpoint trusts (PEM); it joins no room that trusts others",
        ),
        text(
            "state-file",
            "State",
            "Encrypted database with the room's state. Default: below the user's state directory, by room and certificate",
        ),
        text(
            "state-key-file",
            "Key of the state",
            "File with the key of state-file (64 hex digits, mode 0600), or credential:NAME for a systemd credential. \
             Default: made at the first start",
        ),
        with_default(
            "delivery",
            "Delivery",
            "What carries the room's messages: sqlite:PATH (processes of one machine; without PATH below the user's runtime \
             directory), nats://[user:password@|token@]HOST:PORT[,HOST:PORT...] (NATS servers with JetStream; tls:// to insist \
             on TLS; write % @ , / in a password as %25 %40 %2C %2F; reads as *** afterwards) or app (signals message-ready \
             and process-message)",
            "sqlite:",
        ),
        text(
            "nats-credentials-file",
            "NATS credentials",
            "Who this endpoint is to the NATS servers: a credentials file (.creds) or an nkey's seed, readable by its owner \
             alone. Instead of a login in delivery",
        ),
        text(
            "nats-ca-file",
            "NATS CA",
            "Root certificates (PEM) that the NATS servers' certificates come from; insists on TLS. Default: those of the \
             system",
        ),
        text(
            "nats-certificate-file",
            "NATS client certificate",
            "Certificate (PEM) that the NATS servers ask for, issuers behind it; insists on TLS. Needs nats-key-file",
        ),
        text(
            "nats-key-file",
            "NATS client key",
            "Key of nats-certificate-file (PEM), readable by its owner alone",
        ),
        glib::ParamSpecUInt::builder("nats-replicas")
            .nick("NATS replicas")
            .blurb(
                "On how many servers of a NATS cluster the log of a new room is kept: 3 survive the loss of one, 5 of two",
            )
            .minimum(1)
            .maximum(MOST_REPLICAS)
            .default_value(1)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("create")
            .nick("Create the room")
            .blurb("Create the room if it does not exist, under policy-file")
            .mutable_ready()
            .build(),
        text(
            "policy-file",
            "Policy",
            "Policy of a room that is created (JSON). Default: claim strict, admits every participant that the own CA \
             certifies",
        ),
        glib::ParamSpecEnum::builder::<Claim>("accept")
            .nick("Weakest claim")
            .blurb("Weakest claim of the room under which this endpoint sends; under a weaker one it sends nothing")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("rekey-interval")
            .nick("Rekey interval")
            .blurb("Commit an update of the own keys after so long, in nanoseconds; 0: only when somebody comes or goes")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("max-silence")
            .nick("Longest silence")
            .blurb(
                "Without an authenticated sign of life from the room for so long, in nanoseconds, nothing is sent (state \
                 stale)",
            )
            .minimum(LEAST_SILENCE.nseconds())
            .maximum(gst::ClockTime::from_seconds(3600).nseconds())
            .default_value(MAX_SILENCE.nseconds())
            .mutable_ready()
            .build(),
        text(
            "control-socket",
            "Control socket",
            "Path of a Unix socket through which `gst-mls room` reaches this room; made with mode 0600",
        ),
        text(
            "posture-file",
            "Posture report",
            "File in which the signed posture report is kept current (JSON, replaced atomically, removed when this endpoint \
             is out of the room)",
        ),
        glib::ParamSpecEnum::builder::<State>("state")
            .nick("State")
            .blurb("Where this endpoint stands with the room")
            .read_only()
            .build(),
        glib::ParamSpecUInt64::builder("epoch")
            .nick("Epoch")
            .blurb("Epoch of the group (RFC 9420 §8)")
            .read_only()
            .build(),
        glib::ParamSpecString::builder("epoch-code")
            .nick("Epoch code")
            .blurb("30 digits that all members of this epoch see alike, for people to compare")
            .read_only()
            .build(),
        gst::ParamSpecArray::builder("members")
            .nick("Members")
            .blurb("Everybody who has keys: mls-member structures with leaf, id, operator, roles, fingerprint, own")
            .read_only()
            .build(),
        gst::ParamSpecArray::builder("recorders")
            .nick("Recorders")
            .blurb("Ids of the members that are certified as recorders")
            .read_only()
            .build(),
        glib::ParamSpecBoolean::builder("recording")
            .nick("Recording")
            .blurb("Does the group say that it is being recorded?")
            .read_only()
            .build(),
        glib::ParamSpecString::builder("posture")
            .nick("Posture report")
            .blurb("The signed posture report (JSON), as in posture-file")
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb(
                "epoch, members, commits-merged, commits-won, commits-lost (own ones, made again), refused, malformed, \
                 resyncs",
            )
            .read_only()
            .build(),
    ]
}

/// An action: a signal that an application emits.
fn action<T>(
    name: &'static str,
    params: &[glib::Type],
    f: impl Fn(&MlsKeyring, &[glib::Value]) -> T + Send + Sync + 'static,
    refused: T,
) -> Signal
where
    T: ToValue + StaticType + Clone + Send + Sync + 'static,
{
    Signal::builder(name)
        .param_types(params.iter().copied())
        .return_type::<T>()
        .action()
        .run_last()
        .class_handler(move |args| {
            let element = args
                .first()
                .and_then(|value| value.get::<super::MlsKeyring>().ok());
            let answer = element.map_or_else(|| refused.clone(), |element| f(element.imp(), args));
            Some(answer.to_value())
        })
        .build()
}

fn signals() -> Vec<Signal> {
    let string = String::static_type();
    let text = |args: &[glib::Value]| {
        args.get(1)
            .and_then(|v| v.get::<String>().ok())
            .unwrap_or_default()
    };
    vec![
        action(
            "remove-member",
            &[string],
            move |element, args| element.wish(Command::Remove { member: text(args) }),
            false,
        ),
        action(
            "update-key",
            &[],
            |element, _| element.wish(Command::Rekey),
            false,
        ),
        action(
            "set-recording",
            &[bool::static_type()],
            |element, args| {
                let on = args.get(1).is_some_and(|v| v.get().unwrap_or(false));
                element.wish(Command::SetRecording { on })
            },
            false,
        ),
        action(
            "change-policy",
            &[string],
            move |element, args| element.change_policy(&text(args)),
            false,
        ),
        action("resync", &[], |element, _| element.wish(Command::Resync), false),
        action(
            "verification-code",
            &[string],
            move |element, args| {
                let codes = element.asker().map(|asker| asker.codes(Some(&text(args))));
                match codes {
                    Some(Ok(codes)) => codes.pair.map(|pair| pair.code),
                    _ => None,
                }
            },
            None::<String>,
        ),
        action(
            "process-message",
            &[glib::Bytes::static_type()],
            |element, args| {
                let bytes = args.get(1).and_then(|v| v.get::<glib::Bytes>().ok());
                bytes.is_some_and(|bytes| element.process_message(&bytes))
            },
            false,
        ),
        // Asked on the room's thread: subject id, roles ("participant", "recorder" or both with a comma), certificate
        // (PEM). The first handler's answer counts.
        Signal::builder("authorize-member")
            .param_types([string, string, string])
            .return_type::<bool>()
            .run_last()
            .accumulator(|_hint, _before, answer| std::ops::ControlFlow::Break(answer.clone()))
            .build(),
        // delivery=app: carry these bytes to all members, this one included, in one order for all.
        Signal::builder("message-ready")
            .param_types([string, glib::Bytes::static_type()])
            .run_last()
            .build(),
    ]
}

impl GstObjectImpl for MlsKeyring {}

impl ElementImpl for MlsKeyring {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "MLS keyring",
                "Generic",
                "Keys media from an MLS room (RFC 9420): put it into the pipeline next to sframeenc and sframedec, which \
                 find it by themselves",
                env!("CARGO_PKG_AUTHORS"),
            )
        });
        Some(&*METADATA)
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let done = match transition {
            gst::StateChange::NullToReady => self.prepare(),
            gst::StateChange::ReadyToPaused => self.start(),
            _ => Ok(()),
        };
        if let Err(why) = done {
            self.fail(&why);
            return Err(gst::StateChangeError);
        }
        let success = self.parent_change_state(transition)?;
        match transition {
            gst::StateChange::PausedToReady => self.stop(),
            gst::StateChange::ReadyToNull => *lock(&self.running) = Running::default(),
            _ => {}
        }
        Ok(success)
    }
}
