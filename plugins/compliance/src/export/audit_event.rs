//! An entry of the audit log as a FHIR R4 AuditEvent, in the shape of IHE's Basic Audit Log Patterns (BALP).
//!
//! Nothing is in it that is not in the entry: ids stay opaque. Two identifiers lead back to the entry: the log's key
//! and the entry's number in it (`gst-compliance audit prove` proves that it is there).

use serde_json::{Value, json};

use super::fhir::{AUDIT_LOG, DICOM, EVENT, LIFECYCLE, RECORDING, SUBJECT, coding, identified, instant, set};
use crate::audit::entry::Way;
use crate::audit::{Entry, Event, Id};
use crate::consent::PURPOSES;
use crate::signing::PublicKey;

/// An entry, and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct LogEntry<'a> {
    /// The log's key.
    pub log: PublicKey,
    /// The entry's number.
    pub index: u64,
    /// What it says.
    pub entry: &'a Entry,
}

const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";

/// How a kind of entry reads in FHIR.
struct Shape<'a> {
    /// What happened, in the code systems that R4 binds.
    kind: Value,
    /// More exactly.
    more: Option<Value>,
    /// Create, read, update, delete or execute.
    action: &'static str,
    /// 0: success, 4: it did not come to it, 8: a fault.
    outcome: &'static str,
    /// Who did it, and where it was no person.
    who: Option<&'a Id>,
    person: bool,
}

fn shape(event: &Event) -> Shape<'_> {
    let activity = || coding(DICOM, "110100", "Application Activity");
    let life = |code: &str, name: &str| coding(LIFECYCLE, code, &format!("{name} Record Lifecycle Event"));
    let access = || life("access", "Access/View");
    let machine = |outcome| Shape {
        kind: activity(),
        more: None,
        action: "E",
        outcome,
        who: None,
        person: false,
    };
    let person = |kind, action, who| Shape {
        kind,
        more: None,
        action,
        outcome: "0",
        who: Some(who),
        person: true,
    };
    match event {
        Event::Started { recorder, .. } => Shape {
            kind: life("originate", "Originate/Retain"),
            action: "C",
            who: Some(recorder),
            ..machine("0")
        },
        Event::RecorderIn { recorder, .. } | Event::RecorderOut { recorder, .. } => Shape {
            who: Some(recorder),
            ..machine("0")
        },
        Event::Gap { .. } => machine("4"),
        Event::Failed { .. } => machine("8"),
        Event::Recovered { .. } => Shape {
            kind: life("restore", "Restore"),
            ..machine("4")
        },
        Event::LogRecovered { .. } | Event::ClockJump { .. } => Shape {
            kind: coding(DICOM, "110113", "Security Alert"),
            ..machine("4")
        },
        Event::AccessRequested { requester, .. } => person(access(), "E", requester),
        Event::AccessApproved { custodian, .. } => person(access(), "E", custodian),
        Event::AccessDenied { by, .. } => Shape {
            outcome: "4",
            ..person(access(), "E", by)
        },
        Event::AccessOpened { reader, way, .. } => Shape {
            more: matches!(way, Way::BreakGlass)
                .then(|| coding(DICOM, "110127", "Emergency Override Started")),
            ..person(access(), "R", reader)
        },
        Event::Exported { by, .. } => Shape {
            more: Some(life("disclose", "Disclose")),
            ..person(coding(DICOM, "110106", "Export"), "R", by)
        },
        Event::Rewrapped { by, .. } => Shape {
            more: Some(coding(DICOM, "110135", "Object Security Attributes Changed")),
            ..person(life("encrypt", "Encrypt"), "U", by)
        },
        Event::Reported { by, .. } => person(life("report", "Report"), "R", by),
        Event::HoldPlaced { by, .. } => person(life("hold", "Add Legal Hold"), "U", by),
        Event::HoldReleased { by, .. } => person(life("unhold", "Remove Legal Hold"), "U", by),
        Event::DeletionDecided { by, .. } | Event::Shredded { by, .. } | Event::Deleted { by, .. } => {
            person(life("destroy", "Destroy/Delete"), "D", by)
        }
        Event::DeletionRefused { by, .. } => Shape {
            outcome: "4",
            ..person(life("destroy", "Destroy/Delete"), "D", by)
        },
        Event::Drill { by, passed, .. } => Shape {
            outcome: if *passed { "0" } else { "4" },
            ..person(activity(), "E", by)
        },
        _ => machine("0"),
    }
}

/// The entry as an AuditEvent.
pub fn audit_event(of: &LogEntry) -> Value {
    let shape = shape(&of.entry.event);
    let kind = of.entry.event.kind();
    let observer = log_device(&of.log);
    let mut subtypes: Vec<_> = shape.more.into_iter().collect();
    subtypes.push(coding(EVENT, kind, kind));
    let by = match shape.who {
        Some(who) => identified(None, SUBJECT, who.as_str()),
        None => observer.clone(),
    };
    let mut agent = json!({ "who": by, "requestor": shape.person });
    if !shape.person {
        set(
            &mut agent,
            "type",
            concept_of(coding(DICOM, "110150", "Application")),
        );
    }
    let mut event = json!({
        "resourceType": "AuditEvent",
        "type": shape.kind,
        "subtype": subtypes,
        "action": shape.action,
        "recorded": instant(of.entry.time),
        "outcome": shape.outcome,
        "agent": [agent],
        "source": { "observer": observer, "type": [coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server")] },
        "entity": entities(of),
    });
    if let Event::Exported {
        purpose: Some(purpose),
        ..
    } = &of.entry.event
    {
        set(
            &mut event,
            "purposeOfEvent",
            json!([{ "coding": [{ "system": PURPOSES, "code": purpose.as_str() }] }]),
        );
    }
    event
}

/// The log, as what observed.
pub fn log_device(log: &PublicKey) -> Value {
    identified(Some("Device"), AUDIT_LOG, &log.to_string())
}

pub(super) fn concept_of(coding: Value) -> Value {
    json!({ "coding": [coding] })
}

/// An entity of the event: a person (1), a thing (2); in this role.
pub(super) fn entity(what: Value, kind: (&str, &str), role: (&str, &str)) -> Value {
    json!({
        "what": what,
        "type": coding(ENTITY_TYPE, kind.0, kind.1),
        "role": coding(ROLE, role.0, role.1),
    })
}

pub(super) const SYSTEM_OBJECT: (&str, &str) = ("2", "System Object");

/// The recording, and the log's entry with all that it says.
fn entities(of: &LogEntry) -> Vec<Value> {
    let recording = of.entry.recording.map(|recording| {
        entity(
            identified(None, RECORDING, &recording.to_string()),
            SYSTEM_OBJECT,
            ("4", "Domain Resource"),
        )
    });
    let number = of.index.to_string();
    let mut entry = entity(
        identified(None, &format!("{AUDIT_LOG}:{}", of.log), &number),
        SYSTEM_OBJECT,
        ("13", "Security Resource"),
    );
    let details = details(&of.entry.event);
    if !details.is_empty() {
        set(&mut entry, "detail", details);
    }
    recording.into_iter().chain([entry]).collect()
}

/// The fields of what happened, by their names in the log.
fn details(event: &Event) -> Vec<Value> {
    let fields = match serde_json::to_value(event) {
        Ok(Value::Object(kinds)) => kinds.into_iter().next().map(|(_, fields)| fields),
        _ => None,
    };
    let Some(Value::Object(fields)) = fields else {
        return Vec::new();
    };
    let said = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    fields
        .into_iter()
        .map(|(name, value)| json!({ "type": name, "valueString": said(value) }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::tests::entries;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_entry_is_an_event_that_leads_back_to_it(entry in entries(), index in any::<u64>()) {
            let log = PublicKey([7; 32]);
            let event = audit_event(&LogEntry { log, index, entry: &entry });
            for element in ["type", "recorded", "agent", "source"] {
                prop_assert!(event.get(element).is_some(), "R4 wants {}", element);
            }
            let entities = event["entity"].as_array().unwrap();
            let last = &entities[entities.len() - 1]["what"]["identifier"];
            prop_assert_eq!(&last["value"], &json!(index.to_string()));
            prop_assert_eq!(&last["system"], &json!(format!("{AUDIT_LOG}:{log}")));
            prop_assert_eq!(entities.len(), 1 + usize::from(entry.recording.is_some()));
            // Nothing is said twice, or left out.
            let details = entities[entities.len() - 1].get("detail").and_then(Value::as_array);
            for detail in details.into_iter().flatten() {
                let said = detail["valueString"].as_str().unwrap();
                prop_assert!(!said.is_empty());
            }
        }
    }
}
