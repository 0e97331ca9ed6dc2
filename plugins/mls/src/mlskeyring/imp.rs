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
//! Locks: `settings`, `running`, `pads`, each for a moment and never two; a source pad's queue, also under `pads`. Nothing is posted or emitted with one held.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use gst::glib;
use gst::glib::subclass::Signal;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::messaging::Pads;
use super::pads;
use super::properties::properties;
use super::settings::{MAX_SILENCE, Settings};
use super::signals::signals;
use super::{State, lock, messages, structures};
use crate::control::ControlServer;
use crate::delivery::KEPT_CONTENT;
use crate::delivery::app::AppInbox;
use crate::delivery::nats;
use crate::identity::{self, Identity};
use crate::keyring::Keyring;
use crate::policy::PolicyChange;
use crate::room::{self, Command, Event, Said};
use crate::runner::{Asker, Host, Parts, Runner, View};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
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
    pub(super) pads: Mutex<Pads>,
    /// Messages that no source pad had room for.
    pub(super) dropped: AtomicU64,
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

    pub(super) fn asker(&self) -> Option<Asker> {
        lock(&self.running).asker.clone()
    }

    fn view(&self) -> Option<View> {
        self.asker().map(|asker| asker.view())
    }

    /// Hands in a wish; false where there is no room yet.
    pub(super) fn wish(&self, command: Command) -> bool {
        self.asker().is_some_and(|asker| asker.wish(command))
    }

    pub(super) fn change_policy(&self, json: &str) -> bool {
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

    pub(super) fn process_message(&self, bytes: &glib::Bytes) -> bool {
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
        // What was said meanwhile is said at once.
        self.set_open(true);
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
        self.set_open(false);
        if let Some(status) = status {
            self.post(Some(self.stats(&status)));
        }
        let mut running = lock(&self.running);
        running.asker = None;
        running.inbox = None;
    }

    fn stats(&self, status: &room::Status) -> gst::Structure {
        structures::stats(status, self.dropped.load(Ordering::Relaxed))
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

    fn said(&self, said: Said) {
        if let Some(element) = self.0.upgrade() {
            element.imp().said(said);
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
            "display-name" => settings.display_name = text(),
            "message-padding" => settings.message_padding = value.get().unwrap_or(true),
            "message-storage" => settings.message_storage = value.get().unwrap_or(KEPT_CONTENT),
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
            "display-name" => settings.display_name.to_value(),
            "message-padding" => settings.message_padding.to_value(),
            "message-storage" => settings.message_storage.to_value(),
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
                    |status| self.stats(status),
                )
                .to_value(),
            // glib asks for no others.
            _ => false.to_value(),
        }
    }
}

const NOTHING: [glib::SendValue; 0] = [];

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

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(pads::templates);
        &TEMPLATES
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        self.request_message_pad(template, name)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        self.release_message_pad(pad);
    }

    fn send_event(&self, event: gst::Event) -> bool {
        if event.type_() != gst::EventType::Eos {
            return self.parent_send_event(event);
        }
        let srcs = self.srcs();
        for src in &srcs {
            src.event(event.clone());
        }
        !srcs.is_empty()
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
        if transition == gst::StateChange::PlayingToPaused {
            self.set_playing(false);
        }
        let mut success = self.parent_change_state(transition)?;
        let is_live = lock(&self.pads).are_live();
        match transition {
            // Nobody waits for the first thing that somebody says.
            gst::StateChange::ReadyToPaused | gst::StateChange::PlayingToPaused if is_live => {
                success = gst::StateChangeSuccess::NoPreroll;
            }
            gst::StateChange::PausedToPlaying => self.set_playing(true),
            gst::StateChange::PausedToReady => self.stop(),
            gst::StateChange::ReadyToNull => *lock(&self.running) = Running::default(),
            _ => {}
        }
        Ok(success)
    }
}
