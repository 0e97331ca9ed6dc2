//! A clinic with a recording of a patient, and the command as its records department calls it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use age::secrecy::ExposeSecret;
use gstcompliance::audit::Event;
use gstcompliance::consent::Consent;
use serde_json::{Value, json};

use super::common::{Place, events};
use super::studio::{Plan, record_under};

pub const PURPOSES: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
pub const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

/// A consent to recording, and to disclosure to one organization for treatment, until 2099.
pub fn consent() -> Value {
    json!({
        "resourceType": "Consent",
        "id": "c-77",
        "identifier": [{ "system": "https://clinic.example/consents", "value": "c-77" }],
        "status": "active",
        "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] },
        "category": [{ "coding": [{ "system": "http://loinc.org", "code": "59284-0" }] }],
        "patient": { "reference": "Patient/17" },
        "dateTime": "2025-02-01T10:00:00+01:00",
        "performer": [{ "reference": "Patient/17" }],
        "policyRule": { "coding": [{ "system": ACT_CODE, "code": "OPTIN" }] },
        "provision": permit("Organization/9", "TREAT", "2099-12-31"),
    })
}

/// A rule that permits to record, and to disclose to them for this.
pub fn permit(recipient: &str, purpose: &str, end: &str) -> Value {
    let action = |code: &str| json!({ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": code }] });
    let role = json!({ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP" }] });
    json!({
        "type": "permit",
        "period": { "start": "2025-01-01", "end": end },
        "actor": [{ "role": role, "reference": { "reference": recipient } }],
        "action": [action("collect"), action("disclose")],
        "purpose": [{ "system": PURPOSES, "code": purpose }],
    })
}

/// What the command said.
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub error: String,
    pub code: i32,
}

pub struct Clinic {
    pub place: Place,
    pub recording: PathBuf,
}

/// A short visit.
pub fn visit() -> Vec<Plan> {
    vec![
        Plan::video("alice", 0, 2000, 1000),
        Plan::audio("alice", 40, 2000),
        Plan::text("alice", &[(500, "hello")]),
    ]
}

impl Clinic {
    /// With a recording that was made under this consent.
    pub fn new(consent: &Value, plans: &[Plan]) -> Self {
        let read = Consent::read(consent.to_string().as_bytes(), 0).unwrap();
        let clinic = Self::unattested(plans, Some(read.reference(&[5; 16])));
        clinic.write("consent.json", consent);
        clinic
    }

    /// With a recording that names this reference to a consent.
    pub fn unattested(plans: &[Plan], reference: Option<String>) -> Self {
        let place = Place::new(1);
        let (mut recording, _log) = record_under(&place, plans, reference);
        recording.end(1_760_000_100_000, "eos").unwrap();
        let recording = recording.path().to_owned();
        Self::of(place, recording)
    }

    /// With this one.
    pub fn of(place: Place, recording: PathBuf) -> Self {
        let clinic = Self { place, recording };
        clinic.secret("identity", clinic.place.recipient.to_string().expose_secret());
        clinic
    }

    pub fn visit() -> Self {
        Self::new(&consent(), &visit())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    pub fn write(&self, name: &str, resource: &Value) {
        fs::write(self.path(name), resource.to_string()).unwrap();
    }

    pub fn secret(&self, name: &str, text: &str) {
        fs::write(self.path(name), format!("{text}\n")).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Exports into the folder `out`, for treatment by the organization that the consent names. `words` come behind, and
    /// an option among them replaces the one of its name; one whose value is `-` is left away.
    pub fn export(&self, words: &[&str]) -> Said {
        let recording = self.recording.display().to_string();
        let mut options = vec![
            ("--fhir", "out"),
            ("--identity", "identity"),
            ("--reader", "records-2"),
            ("--reason", "second opinion"),
            ("--ticket", "R-88"),
            ("--audit-log", "log"),
            ("--patient", "Patient/17"),
            ("--recipient", "Organization/9"),
            ("--purpose", "TREAT"),
            ("--consent", "consent.json"),
        ];
        options.retain(|(name, _)| !words.contains(name));
        let mut all = vec!["export", &recording];
        all.extend(options.iter().flat_map(|(name, value)| [*name, *value]));
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            match words.next_if(|value| **value == "-") {
                Some(_) => {}
                None => all.push(word),
            }
        }
        self.call(&all)
    }

    pub fn call(&self, words: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gst-compliance"));
        command
            .args(words)
            .current_dir(self.path(""))
            .stdin(Stdio::null());
        let done = command.output().unwrap();
        Said {
            out: String::from_utf8(done.stdout).unwrap(),
            error: String::from_utf8(done.stderr).unwrap(),
            code: done.status.code().unwrap(),
        }
    }

    /// The media file in a folder.
    pub fn media(&self, folder: &str) -> PathBuf {
        let name = self.recording.file_name().unwrap().to_str().unwrap();
        self.path(folder).join(format!("{name}.mkv"))
    }

    pub fn bundle(&self, folder: &str) -> Value {
        let text = fs::read(self.path(folder).join("bundle.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Kinds of the log's entries.
    pub fn logged(&self) -> Vec<&'static str> {
        super::common::logged(&self.place)
    }

    /// The reason of the last entry, which says that something was refused.
    pub fn denied(&self) -> String {
        match events(&self.place).pop() {
            Some(Event::AccessDenied { by, reason, .. }) => {
                assert_eq!(by.as_str(), "records-2");
                reason.to_string()
            }
            other => panic!("{other:?}"),
        }
    }

    /// What lies in a folder, hidden files too.
    pub fn files(&self, folder: &str) -> Vec<String> {
        files(&self.path(folder))
    }
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The resources of a type in a Bundle.
pub fn all<'a>(bundle: &'a Value, kind: &str) -> Vec<&'a Value> {
    let entries = bundle["entry"].as_array().unwrap().iter();
    entries
        .map(|entry| &entry["resource"])
        .filter(|resource| resource["resourceType"] == kind)
        .collect()
}

/// The one of a type that is first.
pub fn first<'a>(bundle: &'a Value, kind: &str) -> &'a Value {
    all(bundle, kind)[0]
}
