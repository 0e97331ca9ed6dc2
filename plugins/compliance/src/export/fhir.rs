//! Pieces of FHIR R4 resources in JSON: references, codings, identifiers, instants.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::audit::Id;

/// Identifiers of recordings.
pub const RECORDING: &str = "urn:gst-e2ee:recording";
/// Identifiers of audit logs: their public keys. With `:KEY` behind it, of that log's entries: their numbers.
pub const AUDIT_LOG: &str = "urn:gst-e2ee:audit-log";
/// Identifiers of accesses.
pub const ACCESS: &str = "urn:gst-e2ee:access";
/// Identifiers of a recording's manifest: its root.
pub const MANIFEST: &str = "urn:gst-e2ee:manifest";
/// Identifiers of who acts: as the audit log names them.
pub const SUBJECT: &str = "urn:gst-e2ee:subject";
/// Codes of the log's kinds of entries.
pub const EVENT: &str = "urn:gst-e2ee:audit-event";

/// HL7's confidentiality codes.
pub const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
/// HL7's codes of acts: privacy laws, policies and sensitivities among them.
pub const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
/// DICOM's codes of audit events.
pub const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
/// The events in a record's life (ISO 21089).
pub const LIFECYCLE: &str = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";

/// The last millisecond that FHIR can write.
const LAST: u64 = 253_402_300_799_999;

/// A reference to a resource of the records system: `Type/id`, or that behind the base URL of a server. It says nothing
/// of a person by itself, and it goes into the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Reference(Id);

/// Text that is no reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no reference: it is written Type/id, such as Organization/17, or https://server/base/Type/id; at most 128 characters"
)]
pub struct NoReference;

impl Reference {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// As the log has it.
    pub fn id(&self) -> &Id {
        &self.0
    }

    /// The type of what it refers to.
    pub fn resource_type(&self) -> &str {
        self.as_str().rsplit('/').nth(1).unwrap_or_default()
    }

    /// As FHIR's Reference.
    pub fn json(&self) -> Value {
        json!({ "reference": self.as_str() })
    }
}

impl FromStr for Reference {
    type Err = NoReference;

    fn from_str(text: &str) -> Result<Self, NoReference> {
        let mut parts = text.rsplitn(3, '/');
        let (id, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let base = parts.next();
        // R4 §2.24.0.1 (id).
        let is_id = (1..=64).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        let is_kind = kind.starts_with(|c: char| c.is_ascii_uppercase())
            && kind.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_base = base.is_none_or(|base| {
            let host = base
                .strip_prefix("https://")
                .or_else(|| base.strip_prefix("http://"));
            host.is_some_and(|host| !host.is_empty() && !host.contains(['?', '#', '@', '|']))
        });
        let id = Id::new(text).map_err(|_| NoReference)?;
        (is_id && is_kind && is_base)
            .then_some(Self(id))
            .ok_or(NoReference)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A Coding.
pub fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({ "system": system, "code": code, "display": display })
}

/// A CodeableConcept.
pub fn concept(system: &str, code: &str, display: &str) -> Value {
    json!({ "coding": [coding(system, code, display)] })
}

/// A Reference by an identifier, to a resource of this type that the records system may or may not have.
pub fn identified(kind: Option<&str>, system: &str, value: &str) -> Value {
    let mut reference = json!({ "identifier": { "system": system, "value": value } });
    if let Some(kind) = kind {
        set(&mut reference, "type", kind);
    }
    reference
}

/// An instant (R4 §2.24.0.1), of unix milliseconds.
pub fn instant(milliseconds: u64) -> String {
    let nanoseconds = i128::from(milliseconds.min(LAST)) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // Cannot fail: the year has four digits.
    time.format(&Rfc3339).unwrap_or_default()
}

/// An Attachment of a text.
pub fn text(text: &str) -> Value {
    json!({ "contentType": "text/plain; charset=utf-8", "data": STANDARD.encode(text) })
}

/// Sets a member of an object.
pub fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reference_has_a_type_and_an_id() {
        for (good, kind) in [
            ("Patient/123", "Patient"),
            ("https://ehr.example/fhir/Organization/a-b.c", "Organization"),
        ] {
            let reference: Reference = good.parse().unwrap();
            assert_eq!((reference.as_str(), reference.resource_type()), (good, kind));
        }
        for bad in [
            "",
            "Patient",
            "Patient/",
            "/123",
            "patient/123",
            "a/Patient/123",
            "Patient/1 2",
            "Patient/a_b",
            "Patient/Müller",
            "ftp://h/Patient/1",
            "https:///Patient/1",
            "https://user@h/Patient/1",
            "Patient/1/_history/2",
            "#p1",
            &format!("Patient/{}", "1".repeat(65)),
            &format!("https://{}/Patient/1", "h".repeat(128)),
        ] {
            assert_eq!(bad.parse::<Reference>(), Err(NoReference), "{bad}");
        }
    }

    #[test]
    fn instants_are_utc_with_their_milliseconds() {
        assert_eq!(instant(1_772_704_800_120), "2026-03-05T10:00:00.12Z");
        assert_eq!(instant(0), "1970-01-01T00:00:00Z");
        assert_eq!(instant(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    proptest! {
        #[test]
        fn any_text_is_a_reference_or_refused(text in "\\PC{0,40}|(https://)?[A-Za-z/.:@-]{0,60}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.as_str(), text);
                prop_assert!(!reference.resource_type().is_empty());
            }
        }
    }
}
