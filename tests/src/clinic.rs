//! A certificate authority, identities on disk, and `mlskeyring`s of a room, in a folder that goes with the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use it, a failure here is theirs"
)]

use crate::pipeline::init;
use gst::glib;
use gst::prelude::*;
use gstmls::identity::issue::{Authority, Subject, Validity, certificate_pem, chain_pem};
use gstmls::identity::{Fingerprint, IdentityKey, Role};
use gstmls::posture::{self, Report, Verifier};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than anything in a room takes on a slow machine. A server of three that stands still takes longest, some 20 s on one
/// that has nothing else to do: its clients and the others have to notice, elect, and ask again.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Everybody whom the clinic certifies may come in and do everything.
pub const OPEN: &str = r#"{ "admit": [{ "role": "participant", "root": "ROOT" }],
    "rights": { "add": "participants", "remove": "participants", "recording": "participants", "policy": "participants" } }"#;

/// The authority, and the folder with everything.
pub struct Clinic {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Default for Clinic {
    fn default() -> Self {
        Self::new()
    }
}

/// Unix time in seconds.
pub fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn private(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

impl Clinic {
    /// A new authority.
    pub fn new() -> Self {
        Self::named("clinic")
    }

    /// A new authority with a name.
    pub fn named(name: &str) -> Self {
        let key = IdentityKey::generate().unwrap();
        let authority = Authority::root(name, key, Validity::days(unix(), 30)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let clinic = Self { dir, authority };
        private(
            &clinic.path("ca.pem"),
            &certificate_pem(clinic.authority.root_certificate()).unwrap(),
        );
        private(&clinic.path("state-key"), &"5a".repeat(32));
        clinic
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its own certificate's.
    pub fn root(&self) -> Fingerprint {
        self.authority.fingerprint()
    }

    /// A policy file; `ROOT` in it becomes the authority.
    pub fn policy(&self, name: &str, json: &str) -> String {
        let path = self.path(name);
        fs::write(&path, json.replace("ROOT", &self.root().to_string())).unwrap();
        path.display().to_string()
    }

    /// Makes key and certificate of a participant, unless they are there.
    pub fn participant(&self, id: &str) {
        self.issue(id, &[Role::Participant]);
    }

    /// Makes key and certificate, unless they are there.
    pub fn issue(&self, id: &str, roles: &[Role]) {
        let certificate = self.path(&format!("{id}.pem"));
        if certificate.exists() {
            return;
        }
        let key = IdentityKey::generate().unwrap();
        let subject = Subject {
            id: id.into(),
            operator: Some("Clinic".into()),
            roles: roles.to_vec(),
        };
        let (chain, _) = self
            .authority
            .issue(key.public(), &subject, Validity::days(unix(), 10))
            .unwrap();
        private(&self.path(&format!("{id}.key")), &key.to_pem().unwrap());
        fs::write(certificate, chain_pem(&chain).unwrap()).unwrap();
    }

    /// What goes to the key of one identity: `certificate-file`, ... as `gst-launch-1.0` takes it.
    pub fn identity(&self, id: &str) -> String {
        let path = |name: String| self.path(&name).display().to_string();
        format!(
            "certificate-file={} private-key-file={} ca-file={} state-file={} state-key-file={}",
            path(format!("{id}.pem")),
            path(format!("{id}.key")),
            path("ca.pem".into()),
            path(format!("{id}.state")),
            path("state-key".into()),
        )
    }

    /// `mlskeyring` of a participant in the room `visit`, over a log in the folder.
    pub fn keyring(&self, id: &str, more: &str) -> String {
        self.participant(id);
        format!(
            "mlskeyring name={id} room=visit delivery=sqlite:{} {} {more}",
            self.path("log").display(),
            self.identity(id)
        )
    }

    /// The same, that creates the room in which everybody may do everything.
    pub fn creator(&self, id: &str, more: &str) -> String {
        let policy = self.policy("open.json", OPEN);
        self.keyring(id, &format!("create=true policy-file={policy} {more}"))
    }

    /// Verifies a posture report.
    pub fn verify(&self, report: &[u8]) -> Result<Report, String> {
        let verifier = Verifier {
            roots: &[self.root()],
            now: unix(),
            nonce: None,
            room: Some("visit"),
        };
        posture::verify(report, &verifier).map_err(|error| error.to_string())
    }
}

/// What was posted: by whom, what, when.
pub type Posted = Arc<Mutex<Vec<(String, gst::Structure, Instant)>>>;

/// A pipeline with keyrings in it, whose messages are kept.
pub struct Party {
    pipeline: gst::Pipeline,
    posted: Posted,
    errors: Arc<Mutex<Vec<String>>>,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Drop for Party {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Party {
    /// From a description as `gst-launch-1.0` takes it, not started.
    pub fn new(description: &str) -> Self {
        init();
        let parsed = gst::parse::launch(description).unwrap_or_else(|error| panic!("{description}: {error}"));
        // A single element comes without a pipeline.
        let pipeline = parsed.downcast::<gst::Pipeline>().unwrap_or_else(|element| {
            let pipeline = gst::Pipeline::new();
            pipeline.add(&element).unwrap();
            pipeline
        });
        let posted = Posted::default();
        let [errors, warnings] = [(); 2].map(|()| Arc::<Mutex<Vec<String>>>::default());
        let (to, wrong, warned) = (posted.clone(), errors.clone(), warnings.clone());
        pipeline.bus().unwrap().set_sync_handler(move |_, message| {
            let by = message
                .src()
                .map(|src| src.name().to_string())
                .unwrap_or_default();
            match message.view() {
                gst::MessageView::Element(element) => {
                    if let Some(structure) = element.structure() {
                        to.lock()
                            .unwrap()
                            .push((by, structure.to_owned(), Instant::now()));
                    }
                }
                gst::MessageView::Error(error) => {
                    wrong.lock().unwrap().push(format!("{by}: {}", error.error()));
                }
                gst::MessageView::Warning(warning) => {
                    warned.lock().unwrap().push(format!("{by}: {}", warning.error()));
                }
                _ => {}
            }
            gst::BusSyncReply::Drop
        });
        Self {
            pipeline,
            posted,
            errors,
            warnings,
        }
    }

    /// The same, playing.
    pub fn start(description: &str) -> Self {
        let party = Self::new(description);
        party.play();
        party
    }

    /// Starts to play, and may have failed by the time that this returns.
    pub fn try_to_play(&self) {
        let _ = self.pipeline.set_state(gst::State::Playing);
    }

    /// Starts to play.
    pub fn play(&self) {
        self.try_to_play();
        assert!(self.errors().is_empty(), "{:?}", self.errors());
    }

    /// Starts, and says why that failed.
    pub fn refused(&self) -> String {
        let result = self.pipeline.set_state(gst::State::Playing);
        assert!(result.is_err(), "it started");
        self.errors().join("\n")
    }

    /// Stops: its keyrings leave their rooms.
    pub fn stop(&self) {
        self.pipeline.set_state(gst::State::Null).unwrap();
    }

    /// The pipeline itself.
    pub fn pipeline(&self) -> &gst::Pipeline {
        &self.pipeline
    }

    /// The element with this name.
    pub fn element(&self, name: &str) -> gst::Element {
        self.pipeline
            .by_name(name)
            .unwrap_or_else(|| panic!("there is no element {name}"))
    }

    /// The keyring of this name.
    pub fn keyring(&self, name: &str) -> Ring {
        Ring(self.element(name))
    }

    /// A number in an element's `stats`.
    pub fn stat(&self, element: &str, field: &str) -> u64 {
        self.element(element)
            .property::<gst::Structure>("stats")
            .get(field)
            .unwrap()
    }

    /// Texts of the errors so far.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }

    /// Texts of the warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap().clone()
    }

    /// Messages of this name so far, with who posted them and when.
    pub fn said(&self, name: &str) -> Vec<(String, gst::Structure, Instant)> {
        let posted = self.posted.lock().unwrap();
        posted
            .iter()
            .filter(|(_, s, _)| s.name() == name)
            .cloned()
            .collect()
    }

    /// Forgets what was posted so far: a test that lasts does not grow by it.
    pub fn forget(&self) {
        *self.posted.lock().unwrap() = Vec::new();
    }

    /// Everything posted so far, for a failing test.
    pub fn everything(&self) -> Vec<String> {
        let posted = self.posted.lock().unwrap();
        posted.iter().map(|(by, s, _)| format!("{by}: {s}")).collect()
    }
}

/// An `mlskeyring`.
#[derive(Clone)]
pub struct Ring(pub gst::Element);

impl Ring {
    /// Its state's nick.
    pub fn state(&self) -> String {
        let value = self.0.property_value("state");
        let (_, value) = glib::EnumValue::from_value(&value).unwrap();
        value.nick().to_owned()
    }

    /// `ready`: has keys, no change is under way.
    pub fn is_ready(&self) -> bool {
        self.state() == "ready"
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.0.property("epoch")
    }

    /// Its epoch's code.
    pub fn code(&self) -> String {
        self.0.property("epoch-code")
    }

    /// Ids of the members.
    pub fn members(&self) -> Vec<String> {
        let members = self.0.property::<gst::Array>("members");
        members
            .iter()
            .map(|member| member.get::<gst::Structure>().unwrap().get("id").unwrap())
            .collect()
    }

    /// Ids of the recorders.
    pub fn recorders(&self) -> Vec<String> {
        let recorders = self.0.property::<gst::Array>("recorders");
        recorders.iter().map(|id| id.get().unwrap()).collect()
    }

    /// Does the room say that it is recorded?
    pub fn recording(&self) -> bool {
        self.0.property("recording")
    }

    /// Emits an action; was it taken?
    pub fn act(&self, action: &str, args: &[&dyn ToValue]) -> bool {
        self.0.emit_by_name(action, args)
    }

    fn seen(&self) -> (String, u64, String, Vec<String>, Vec<String>, bool) {
        (
            self.state(),
            self.epoch(),
            self.code(),
            self.members(),
            self.recorders(),
            self.recording(),
        )
    }

    /// The posture report says what the properties say. Where they change while it is read, nothing can be compared.
    pub fn check_posture(&self, clinic: &Clinic) -> Option<Report> {
        let before = self.seen();
        let posture: String = self.0.property("posture");
        if self.seen() != before {
            return None;
        }
        if posture.is_empty() {
            // Nothing is claimed where there is no group.
            assert!(before.2.is_empty(), "{} has a group and no report", self.0.name());
            return None;
        }
        let (state, epoch, code, members, recorders, recording) = before;
        let report = clinic
            .verify(posture.as_bytes())
            .unwrap_or_else(|error| panic!("{}: {error}: {posture}", self.0.name()));
        let of = |role: Role| {
            let holders = report.key_holders.iter();
            holders
                .filter(|holder| holder.roles.contains(&role))
                .map(|holder| holder.id.clone())
                .collect::<Vec<_>>()
        };
        let holders: Vec<_> = report
            .key_holders
            .iter()
            .map(|holder| holder.id.clone())
            .collect();
        let stated = serde_json::to_value(report.state).unwrap();
        assert_eq!(
            stated.as_str(),
            Some(state.as_str()),
            "state of {}",
            self.0.name()
        );
        assert_eq!((report.epoch, &report.epoch_code), (epoch, &code));
        assert_eq!(holders, members);
        assert_eq!(of(Role::Recorder), recorders);
        assert_eq!(report.recording.on, recording);
        assert_eq!(report.signer.id, self.0.name());
        Some(report)
    }
}

/// Waits until it holds; meanwhile the posture reports of these keyrings are compared with their properties.
pub fn until(clinic: &Clinic, rings: &[&Ring], what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        for ring in rings {
            ring.check_posture(clinic);
        }
        if Instant::now() > end {
            let views: Vec<_> = rings.iter().map(|ring| (ring.0.name(), ring.seen())).collect();
            panic!("not within {LIMIT:?}: {what}; {views:#?}");
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Waits until all are ready in the same epoch, with exactly these many members.
pub fn agree(clinic: &Clinic, rings: &[&Ring], members: usize) {
    until(clinic, rings, "all agree", || {
        let code = rings[0].code();
        rings
            .iter()
            .all(|ring| ring.is_ready() && ring.code() == code && ring.members().len() == members)
    });
}
