//! The Bundle of an export: what a records system must know of a recording, as one transaction (R4 §3.1.0.11.2).
//!
//! | resource | what it says |
//! |---|---|
//! | DocumentReference | the media file: where it is, its size and hashes, whose it is, when it was recorded, its labels |
//! | Provenance | from which recording it was made, by whom, recorded by what |
//! | AuditEvent | the audit log's entry of this disclosure (IHE BALP, Privacy Disclosure at Source) |
//! | Consent | the consent, and the authorisation where it is one: as they were given, byte for byte in meaning |
//! | DocumentReference | an authorisation that is a document; the notice of 42 CFR §2.32; an explanation of the consent |
//!
//! Resources name each other by `urn:uuid` and the records system's own by the references that were given.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use super::audit_event::{LogEntry, SYSTEM_OBJECT, audit_event, entity, log_device};
use super::fhir::{
    ACCESS, ACT_CODE, DICOM, LIFECYCLE, MANIFEST, RECORDING, Reference, SUBJECT, concept, identified,
    instant, set, text,
};
use super::media::Made;
use super::papers::{Paper, Papers, resource};
use super::purpose::PurposeOfUse;
use super::rules::{NOTICE, Permitted};
use crate::audit::{Event, Id};
use crate::consent::PURPOSES;
use crate::recording::{Claim, Facts, Root};

/// BALP's profile of an AuditEvent at who discloses.
const BALP: &str =
    "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure.Source";
const PARTICIPANT: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";
const SNOMED: &str = "http://snomed.info/sct";
const LOINC: &str = "http://loinc.org";
/// FHIR's numbers without a sign end there: a larger size is not said (R4 §2.24.0.1).
const MAX_SIZE: u64 = 0x7fff_ffff;

/// Everything that the Bundle says.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    /// The recording.
    pub facts: &'a Facts,
    /// How far its manifest goes.
    pub root: Root,
    /// It has its end record.
    pub finished: bool,
    /// When it was recorded: first and last moment, unix milliseconds.
    pub recorded: (u64, u64),
    /// The file.
    pub media: &'a Made,
    /// The file's name.
    pub name: &'a str,
    /// Where it is: a URL, or a path relative to the Bundle.
    pub url: &'a str,
    /// What may go.
    pub permitted: &'a Permitted,
    /// What goes along.
    pub papers: &'a Papers,
    /// For what.
    pub purpose: PurposeOfUse,
    /// Whose it is.
    pub patient: &'a Reference,
    /// Who gets it.
    pub recipient: Option<&'a Reference>,
    /// The encounter that was recorded.
    pub encounter: Option<&'a Reference>,
    /// Who answers for the document; the recorder where nobody does.
    pub author: Option<&'a Reference>,
    /// Who keeps it.
    pub custodian: Option<&'a Reference>,
    /// What kind of document it is: system and code.
    pub kind: Option<(&'a str, &'a str)>,
    /// Who exported it.
    pub by: &'a Id,
    /// The log's entry that says so.
    pub logged: LogEntry<'a>,
    /// This machine.
    pub host: &'a str,
    /// Where the Bundle goes: a URL.
    pub destination: &'a str,
}

/// A Bundle, and how its entries are called where a server refuses one.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The resource.
    pub json: Value,
    /// What each entry is, in order.
    pub names: Vec<String>,
}

/// Puts the Bundle together. None: the system has no random numbers.
pub fn bundle(of: &Document) -> Option<Bundle> {
    let mut entries = Entries::default();
    let (document, audit) = (urn()?, urn()?);
    let mut consents = Vec::new();
    if of.papers.explanation.is_none() {
        if let Some(bytes) = &of.papers.consent {
            consents.push(entries.add("Consent", urn()?, resource(bytes)));
        }
        if let Some(Paper::Consent(bytes)) = &of.papers.authorization {
            consents.push(entries.add("Consent (authorisation)", urn()?, resource(bytes)));
        }
    }
    entries.add("DocumentReference", document.clone(), of.document());
    if let Some(Paper::Signed(bytes, kind)) = &of.papers.authorization {
        let attachment = json!({ "contentType": kind, "data": STANDARD.encode(bytes), "title": "Authorisation by the patient" });
        let paper = of.beside(
            &document,
            attachment,
            Some(concept(LOINC, "59284-0", "Patient Consent")),
        );
        consents.push(entries.add("DocumentReference (authorisation)", urn()?, paper));
    }
    if let Some(explanation) = &of.papers.explanation {
        let mut attachment = text(explanation);
        set(&mut attachment, "title", "Scope of the consent (42 CFR 2.32(b))");
        let paper = of.beside(&document, attachment, None);
        consents.push(entries.add("DocumentReference (explanation)", urn()?, paper));
    }
    if of.permitted.part2 {
        let mut attachment = text(NOTICE);
        set(
            &mut attachment,
            "title",
            "Notice that accompanies this disclosure (42 CFR 2.32(a))",
        );
        entries.add(
            "DocumentReference (notice)",
            urn()?,
            of.beside(&document, attachment, None),
        );
    }
    entries.add("Provenance", urn()?, of.provenance(&document));
    entries.add("AuditEvent", audit, of.disclosure(&document, &consents));
    Some(Bundle {
        json: json!({ "resourceType": "Bundle", "type": "transaction", "timestamp": of.time(), "entry": entries.json }),
        names: entries.names,
    })
}

#[derive(Default)]
struct Entries {
    json: Vec<Value>,
    names: Vec<String>,
}

impl Entries {
    /// Adds a resource; gives its URL.
    fn add(&mut self, name: &str, url: String, resource: Value) -> String {
        let kind = resource.get("resourceType").cloned().unwrap_or_default();
        let mut request = json!({ "method": "POST", "url": kind });
        // A records system that has this very consent already must not have it twice.
        if kind == "Consent"
            && let Some(search) = by_identifier(&resource)
        {
            set(&mut request, "ifNoneExist", search);
        }
        self.json
            .push(json!({ "fullUrl": url, "resource": resource, "request": request }));
        self.names.push(name.to_owned());
        url
    }
}

/// A search that finds a resource by its identifier.
fn by_identifier(resource: &Value) -> Option<String> {
    let identifiers = resource.get("identifier")?.as_array()?;
    identifiers.iter().find_map(|identifier| {
        let of = |name: &str| identifier.get(name).and_then(Value::as_str);
        let (system, value) = (of("system")?, of("value")?);
        let is_plain = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte))
        };
        (is_plain(system) && is_plain(value)).then(|| format!("identifier={system}|{value}"))
    })
}

/// A random UUID (RFC 9562 §5.4) as a URN.
fn urn() -> Option<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Some(format!("urn:uuid:{}", parts.join("-")))
}

impl Document<'_> {
    fn time(&self) -> String {
        instant(self.logged.entry.time)
    }

    fn recorder(&self) -> Value {
        match &self.facts.recorder {
            Some(recorder) => identified(Some("Device"), SUBJECT, recorder),
            None => json!({ "type": "Device", "display": "a recorder that no room attested" }),
        }
    }

    fn exporter(&self) -> Value {
        identified(None, SUBJECT, self.by.as_str())
    }

    fn labels(&self) -> Vec<Value> {
        let labels = self.permitted.labels.iter();
        let mut labels: Vec<_> = labels
            .map(|(system, code)| json!({ "coding": [{ "system": system, "code": code }] }))
            .collect();
        if self.permitted.part2 {
            let law = labels.iter_mut().find(|label| {
                let system = label.pointer("/coding/0/system").and_then(Value::as_str);
                system == Some(ACT_CODE)
            });
            law.into_iter().for_each(|law| set(law, "text", NOTICE));
        }
        labels
    }

    /// In words, what no element has.
    fn description(&self) -> String {
        let mut said = vec![match self.facts.claim {
            Claim::Recorded => "Recorded in an end-to-end encrypted room with a named, disclosed recorder.",
            Claim::Escrow => {
                "Recorded in an end-to-end encrypted room with a named, disclosed recorder; under escrow of custodians."
            }
            Claim::Unattested => "No room attests who recorded it.",
        }
        .to_owned()];
        let tracks: Vec<_> = self.media.tracks.iter().map(ToString::to_string).collect();
        said.push(format!("Tracks of the recording: {}.", tracks.join(", ")));
        if self.media.gaps > 0 {
            said.push(format!(
                "{} gaps: the recorder did not keep what was there.",
                self.media.gaps
            ));
        }
        if self.media.damaged > 0 {
            said.push(format!("{} damaged members are left out.", self.media.damaged));
        }
        if !self.finished {
            said.push("The recording has no end record.".to_owned());
        }
        said.extend(
            self.permitted
                .remarks
                .iter()
                .map(|remark| format!("Note: {remark}.")),
        );
        said.join(" ")
    }

    fn document(&self) -> Value {
        let media = self.media;
        let mut attachment = json!({
            "contentType": media.content_type(),
            "url": self.url,
            "hash": STANDARD.encode(media.sha1),
            "title": self.name,
            "creation": self.time(),
        });
        if media.bytes <= MAX_SIZE {
            set(&mut attachment, "size", media.bytes);
        }
        let mut context =
            json!({ "period": { "start": instant(self.recorded.0), "end": instant(self.recorded.1) } });
        if let Some(encounter) = self.encounter {
            set(&mut context, "encounter", json!([encounter.json()]));
        }
        let kind = match self.kind {
            Some((system, code)) => json!({ "coding": [{ "system": system, "code": code }] }),
            None => json!({ "text": "Recording of a session" }),
        };
        let identifier = |system: &str, value: String| json!({ "system": system, "value": value });
        let whole = self.finished && media.damaged == 0;
        let mut document = json!({
            "resourceType": "DocumentReference",
            "masterIdentifier": identifier(ACCESS, self.access().to_owned()),
            "identifier": [
                identifier(RECORDING, self.facts.recording.to_string()),
                // RFC 6920: R4's hash is SHA-1, which proves nothing to anybody.
                identifier("urn:ietf:rfc:3986", format!("ni:///sha-256;{}", URL_SAFE_NO_PAD.encode(media.sha256.0))),
            ],
            "status": "current",
            "docStatus": if whole { "final" } else { "preliminary" },
            "type": kind,
            "subject": self.patient.json(),
            "date": self.time(),
            "author": [self.author.map_or_else(|| self.recorder(), Reference::json)],
            "description": self.description(),
            "securityLabel": self.labels(),
            "content": [{ "attachment": attachment }],
            "context": context,
        });
        if let Some(custodian) = self.custodian {
            set(&mut document, "custodian", custodian.json());
        }
        document
    }

    fn access(&self) -> &str {
        match &self.logged.entry.event {
            Event::Exported { access, .. } => access.as_str(),
            _ => "",
        }
    }

    /// A paper that belongs to the document.
    fn beside(&self, document: &str, attachment: Value, kind: Option<Value>) -> Value {
        let title = attachment.get("title").cloned().unwrap_or_default();
        json!({
            "resourceType": "DocumentReference",
            "status": "current",
            "type": kind.unwrap_or_else(|| json!({ "text": title })),
            "subject": self.patient.json(),
            "date": self.time(),
            "relatesTo": [{ "code": "appends", "target": { "reference": document } }],
            "description": title,
            "securityLabel": self.labels(),
            "content": [{ "attachment": attachment }],
        })
    }

    fn reason(&self) -> Value {
        concept(PURPOSES, self.purpose.code(), self.purpose.display())
    }

    fn provenance(&self, document: &str) -> Value {
        let agent = |code: &str, display: &str, who: Value| json!({ "type": concept(PARTICIPANT, code, display), "who": who });
        let mut exporter = agent("assembler", "Assembler", self.exporter());
        if let Some(custodian) = self.custodian {
            set(&mut exporter, "onBehalfOf", custodian.json());
        }
        let mut agents = vec![exporter, agent("performer", "Performer", self.recorder())];
        agents.extend(
            self.custodian
                .map(|custodian| agent("custodian", "Custodian", custodian.json())),
        );
        let source = |what: Value, display: String| {
            let mut what = what;
            set(&mut what, "display", display);
            json!({ "role": "source", "what": what })
        };
        let root = self.root;
        let mut provenance = json!({
            "resourceType": "Provenance",
            "target": [{ "reference": document }],
            "occurredPeriod": { "start": instant(self.recorded.0), "end": instant(self.recorded.1) },
            "recorded": self.time(),
            "reason": [self.reason()],
            "activity": concept(LIFECYCLE, "extract", "Extract Record Lifecycle Event"),
            "agent": agents,
            "entity": [
                source(
                    identified(None, RECORDING, &self.facts.recording.to_string()),
                    format!("sealed recording, signed by audit log {}", self.facts.log_key),
                ),
                source(
                    identified(None, MANIFEST, &root.root.to_string()),
                    format!("its manifest's root, after {} lines", root.lines),
                ),
            ],
        });
        if self.permitted.part2 {
            set(
                &mut provenance,
                "policy",
                json!(["https://www.ecfr.gov/current/title-42/part-2"]),
            );
        }
        provenance
    }

    fn disclosure(&self, document: &str, consents: &[String]) -> Value {
        let mut event = audit_event(&self.logged);
        let log = log_device(&self.facts.log_key);
        let network = |address: &str, kind: &str| json!({ "address": address, "type": kind });
        // Machine name, URI (R4, network-type).
        let source = json!({
            "type": concept(DICOM, "110153", "Source Role ID"),
            "who": log,
            "requestor": false,
            "network": network(self.host, "1"),
        });
        let recipient = json!({
            "type": concept(DICOM, "110152", "Destination Role ID"),
            "who": self.recipient.map_or_else(|| json!({ "display": self.destination }), Reference::json),
            "requestor": false,
            "network": network(self.destination, "5"),
        });
        let user = json!({
            "type": concept("http://terminology.hl7.org/CodeSystem/extra-security-role-type", "humanuser", "human user"),
            "who": self.exporter(),
            "requestor": true,
        });
        let mut agents = vec![source, recipient, user];
        agents.extend(self.custodian.map(|custodian| {
            json!({
                "type": concept(SNOMED, "159541003", "Record keeping/library clerk"),
                "who": custodian.json(),
                "requestor": false,
            })
        }));
        if self.permitted.authorised {
            agents.push(json!({
                "type": concept(SNOMED, "429577009", "Patient Advocate"),
                "who": self.patient.json(),
                "requestor": false,
            }));
        }
        let url = |url: &str| json!({ "reference": url });
        let mut exported = entity(url(document), SYSTEM_OBJECT, ("3", "Report"));
        let labels = self.permitted.labels.iter();
        let labels: Vec<_> = labels
            .map(|(system, code)| json!({ "system": system, "code": code }))
            .collect();
        set(&mut exported, "securityLabel", labels);
        let mut entities = vec![
            entity(self.patient.json(), ("1", "Person"), ("1", "Patient")),
            exported,
        ];
        entities.extend(
            consents
                .iter()
                .map(|consent| entity(url(consent), SYSTEM_OBJECT, ("4", "Domain Resource"))),
        );
        if let Some(Value::Array(own)) = event.get_mut("entity") {
            own.splice(0..0, entities);
        }
        set(&mut event, "meta", json!({ "profile": [BALP] }));
        set(&mut event, "agent", agents);
        set(&mut event, "purposeOfEvent", json!([self.reason()]));
        event
    }
}
