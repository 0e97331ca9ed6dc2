//! The patient's consent, an HL7 FHIR R4 `Consent` resource in JSON: does it permit recording, now, and is it the one
//! that the room names?
//!
//! # The rule
//!
//! Unclear is refused, with a sentence that names the place as a FHIR path (`Consent.provision.provision[1].period`) and
//! says what is missing. Nothing of the resource's content is ever said: it is about a person.
//!
//! - **The resource.** JSON of at most [`MAX_FILE`] bytes, no name twice in an object, whole numbers only, no element
//!   that R4 does not have, no `implicitRules`, and nowhere a `modifierExtension`: FHIR forbids to go on without
//!   understanding these.
//! - **`status`** is `active`. A withdrawn consent is `inactive`, `rejected` or `entered-in-error`.
//! - **`scope`** is `patient-privacy`, `treatment` or `research` of HL7's consent scopes; not `adr`.
//! - **`dateTime`**, where there is one, does not lie ahead.
//! - **`verification`**, where there is any, says at least once that the consent was verified.
//! - **`provision`** permits recording. A provision is a rule with exceptions, the nested provisions, and these with
//!   theirs. One that surely does not apply (its `period` or `dataPeriod` does not cover now, or it is about another
//!   action or purpose) counts for nothing, with all that is nested in it. Of those that apply:
//!   - an exception goes before the rule that it is in, and among exceptions one that denies before all that permit;
//!   - a `deny` counts wherever it may apply: for some actor, for some class of data, for a code that is not known here;
//!   - a `permit` counts only where it surely applies;
//!   - what neither permits nor denies (a root provision may have no `type` in R4) permits nothing, whatever
//!     `policyRule` says.
//!
//! A permit surely applies where each of these is missing, which in FHIR means "any", or holds one that is accepted:
//!
//! | element | accepted | surely another |
//! |---|---|---|
//! | `action` | `collect` of `http://terminology.hl7.org/CodeSystem/consentaction` | `access`, `disclose`, `correct` |
//! | `purpose` | of `http://terminology.hl7.org/CodeSystem/v3-ActReason`: `TREAT`, `ETREAT`, `CAREMGT`, `COC`, `HOPERAT`, `RECORDMGT`, `HCOMPL`, `HQUALIMP`, `PATRQT` | `HMARKT`, `HRESCH`, `CLINTRCH`, `HPAYMT`, `PUBHLTH` |
//! | `class` | `Media`, `DocumentReference` of `http://hl7.org/fhir/resource-types` | |
//! | `code` | | |
//! | `securityLabel` | none is | |
//!
//! In each of the first four, `recording` of the code system `urn:gst-e2ee:consent` is accepted as well: so a consent can
//! say precisely what it is for. `actor` and `data` say whom and which encounter a permit is for: that this is the room's,
//! its people vouch for by the reference in the room's policy, not this module.
//!
//! **Times.** A `period` includes its end (R4 §2.24.0.13): one that ends on a day ends with that day. A date without a
//! time counts in the time zone of `Consent.dateTime`, where that has one, else in the one that the caller names. A
//! missing start or end is no bound.
//!
//! # Disclosure
//!
//! [`Question::Disclosure`] asks, by the same rule, whether a recording may be given to somebody. A permit then surely
//! applies where `action` is `disclose`, `purpose` is the disclosure's, an `actor` in the role `IRCP` or `PRCP` (of
//! v3-ParticipationType) is its recipient, `data` names the encounter, `securityLabel` one that the recording carries;
//! `dataPeriod` must cover the time of the recording. A reference that names the same resource is the same; one to
//! another id of that type on that server is surely another; all others are unclear.
//!
//! # The reference
//!
//! A room's policy names its consent without showing it: 32 hex digits of salt, then 64 of
//! `SHA-256(salt ‖ SHA-256("gst-e2ee consent v1" ‖ 0x00 ‖ canonical))`. `canonical` is FHIR's
//! `http://hl7.org/fhir/canonicalization/json#static`: the resource, and those contained in it, without `text` (the
//! narrative) and `meta`, in the form of RFC 8785. So it stays the same when a server stores the resource, shows it in
//! another order or writes it with other spaces; and changes with everything that the consent says, its `status` included.
//!
//! The salt keeps references of one consent in two rooms apart. It does not hide the consent from who has a copy: they can
//! try it, and that is what the reference is for.

mod date;
mod json;
mod provision;
mod question;
mod refusal;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

pub use question::{Disclosure, PURPOSES, Question};
pub use refusal::ConsentRefusal;

use date::Span;
use json::Json;
use provision::{Provision, Verdict, When};
use question::Asked;

/// Longest resource, in bytes. A scanned form belongs behind a URL.
pub const MAX_FILE: usize = 1 << 20;

/// Code system of our own, with the one code `recording`.
pub const OWN_SYSTEM: &str = "urn:gst-e2ee:consent";
/// The code in [`OWN_SYSTEM`].
pub const OWN_CODE: &str = "recording";

const SCOPE_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/consentscope";
const SCOPES: [&str; 3] = ["patient-privacy", "treatment", "research"];

/// The elements of a Consent in R4.
const ELEMENTS: [&str; 22] = [
    "resourceType",
    "id",
    "meta",
    "implicitRules",
    "language",
    "text",
    "contained",
    "extension",
    "modifierExtension",
    "identifier",
    "status",
    "scope",
    "category",
    "patient",
    "dateTime",
    "performer",
    "organization",
    "sourceAttachment",
    "sourceReference",
    "policy",
    "policyRule",
    "verification",
];

/// A consent that was read: what of it decides, and its digest. Neither shows a person.
#[derive(Clone, PartialEq, Eq)]
pub struct Consent {
    /// SHA-256 of the canonical form, under a label.
    digest: [u8; 32],
    /// When it was given.
    given: Option<Span>,
    provision: Provision,
    asked: Asked,
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consent").finish_non_exhaustive()
    }
}

impl Consent {
    /// Reads a file. `zone`: seconds by which the clocks are ahead of UTC where dates without a zone count.
    pub fn load(path: &Path, zone: i32) -> Result<Self, ConsentRefusal> {
        let failed = |error: std::io::Error| ConsentRefusal::File(error.to_string());
        // A pipe without a writer would hang in open().
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(ConsentRefusal::NotAFile);
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_FILE).unwrap_or(u64::MAX).saturating_add(1);
        File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(failed)?;
        Self::read(&bytes, zone)
    }

    /// Reads a resource. Fails for all that cannot change with time.
    pub fn read(bytes: &[u8], zone: i32) -> Result<Self, ConsentRefusal> {
        Self::asked(bytes, zone, Question::Recording)
    }

    /// The same, for what is asked of it.
    pub fn asked(bytes: &[u8], zone: i32, question: Question) -> Result<Self, ConsentRefusal> {
        if bytes.len() > MAX_FILE {
            return Err(ConsentRefusal::TooLong);
        }
        let resource: Json = serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            // The parser's own words could hold some of the text.
            let what = [json::TWICE, json::NOT_WHOLE]
                .into_iter()
                .find(|ours| error.to_string().starts_with(ours))
                .unwrap_or("it is no JSON that can be read");
            ConsentRefusal::NotJson { line, column, what }
        })?;
        check_resource(&resource)?;
        check_status(&resource)?;
        check_scope(&resource)?;
        check_verification(&resource)?;
        let given = match resource.get("dateTime") {
            None => None,
            Some(value) => {
                let span = value.text().and_then(|text| Span::read(text, zone));
                Some(span.ok_or_else(|| ConsentRefusal::malformed("Consent.dateTime", NO_DATE))?)
            }
        };
        let zone = given.and_then(|given| given.zone).unwrap_or(zone);
        let provision = resource.get("provision").ok_or_else(|| {
            ConsentRefusal::not_permitted(
                "Consent.provision",
                "is missing: add one with \"type\": \"permit\"",
            )
        })?;
        let provision = Provision::root(provision, zone, &question.rules())?;
        let canonical = without_metadata(resource).canonical();
        let mut hash = Sha256::new_with_prefix(b"gst-e2ee consent v1\0");
        hash.update(canonical.as_bytes());
        Ok(Self {
            digest: hash.finalize().into(),
            given,
            provision,
            asked: question.into(),
        })
    }

    /// Does it permit recording at this time (unix milliseconds)?
    pub fn judge(&self, now: u64) -> Result<(), ConsentRefusal> {
        self.judge_about(now, (now, now))
    }

    /// Does it permit what is asked now, of what was recorded in that time (first and last moment)? Unix milliseconds.
    pub fn judge_about(&self, now: u64, recorded: (u64, u64)) -> Result<(), ConsentRefusal> {
        let signed = |time| i64::try_from(time).unwrap_or(i64::MAX);
        let now = signed(now);
        if self.given.is_some_and(|given| now < given.from) {
            return Err(ConsentRefusal::NotYet {
                path: "Consent.dateTime".to_owned(),
            });
        }
        let when = When {
            now,
            data: (signed(recorded.0), signed(recorded.1)),
        };
        match self.provision.verdict(when) {
            Verdict::Permit => Ok(()),
            // A no, although a permit in it is about something else, or over: whoever has another paper must know of it.
            Verdict::Deny(path, _) if self.asked == Asked::Disclosure => {
                let path = path.to_owned();
                Err(ConsentRefusal::DisclosureDenied { path })
            }
            Verdict::Deny(path, None) => {
                let path = path.to_owned();
                Err(ConsentRefusal::Denied { path })
            }
            Verdict::Deny(_, Some(why)) | Verdict::Silent(why) => Err(why.refusal(self.asked)),
        }
    }

    /// When it was given (unix milliseconds).
    pub fn given(&self) -> Option<i64> {
        self.given.map(|given| given.from)
    }

    /// The next time after this one (unix milliseconds) at which the judgement may be another one.
    pub fn next_change(&self, now: u64) -> Option<u64> {
        let after = i64::try_from(now).unwrap_or(i64::MAX);
        let mut bounds = Vec::new();
        self.provision.bounds(&mut bounds);
        bounds.extend(self.given.map(|given| given.from));
        let next = bounds.into_iter().filter(|bound| *bound > after).min()?;
        u64::try_from(next).ok()
    }

    /// The reference to it that a room's policy holds: 96 lower-case hex digits. `salt`: random, for each room its own.
    pub fn reference(&self, salt: &[u8; 16]) -> String {
        format!("{}{}", hex::encode(salt), hex::encode(self.salted(salt)))
    }

    /// Is this a reference to it?
    pub fn matches(&self, reference: &str) -> bool {
        let mut bytes = [0; 48];
        let is_lower = !reference.bytes().any(|byte| byte.is_ascii_uppercase());
        if !is_lower || hex::decode_to_slice(reference, &mut bytes).is_err() {
            return false;
        }
        let (salt, digest) = bytes.split_at(16);
        self.salted(salt) == digest
    }

    fn salted(&self, salt: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(salt);
        hash.update(self.digest);
        hash.finalize().into()
    }
}

const NO_DATE: &str = "is no FHIR date: write 2026-03-05, or 2026-03-05T10:00:00+01:00 with its time zone";

/// Is it a Consent, with nothing in it that changes its meaning in a way that is not understood here?
fn check_resource(resource: &Json) -> Result<(), ConsentRefusal> {
    let Json::Object(members) = resource else {
        return Err(ConsentRefusal::NotAConsent);
    };
    if resource.get("resourceType").and_then(Json::text) != Some("Consent") {
        return Err(ConsentRefusal::NotAConsent);
    }
    if !members
        .keys()
        .all(|name| name == "provision" || is_element(name, &ELEMENTS))
    {
        return Err(ConsentRefusal::Unknown {
            path: "Consent".to_owned(),
        });
    }
    if members.contains_key("implicitRules") {
        return Err(ConsentRefusal::Modified {
            path: "Consent.implicitRules".to_owned(),
        });
    }
    for (name, value) in members {
        if name == "modifierExtension" || value.has_anywhere("modifierExtension") {
            return Err(ConsentRefusal::Modified {
                path: format!("Consent.{name}"),
            });
        }
    }
    Ok(())
}

/// An element, or what JSON says beside a primitive one (its id and extensions, under its name behind `_`).
fn is_element(name: &str, elements: &[&str]) -> bool {
    elements.contains(&name.strip_prefix('_').unwrap_or(name))
}

fn check_status(resource: &Json) -> Result<(), ConsentRefusal> {
    const STATUS: [&str; 5] = ["draft", "proposed", "rejected", "inactive", "entered-in-error"];
    match resource.get("status").and_then(Json::text) {
        Some("active") => Ok(()),
        Some(word) => Err(match STATUS.into_iter().find(|status| *status == word) {
            Some(status) => ConsentRefusal::NotActive(status),
            None => ConsentRefusal::malformed("Consent.status", "is no status of R4: active is needed"),
        }),
        None => Err(ConsentRefusal::malformed(
            "Consent.status",
            "is missing: active is needed",
        )),
    }
}

fn check_scope(resource: &Json) -> Result<(), ConsentRefusal> {
    const PATH: &str = "Consent.scope";
    let scope = resource.get("scope").ok_or_else(|| {
        ConsentRefusal::malformed(
            PATH,
            "is missing: R4 needs one, patient-privacy or treatment of HL7's consentscope",
        )
    })?;
    let accepted = codings(scope)
        .any(|coding| coding.is_some_and(|(system, code)| system == SCOPE_SYSTEM && SCOPES.contains(&code)));
    if accepted {
        Ok(())
    } else {
        Err(ConsentRefusal::not_permitted(
            PATH,
            "is not about recording: patient-privacy, treatment or research of HL7's consentscope is needed",
        ))
    }
}

fn check_verification(resource: &Json) -> Result<(), ConsentRefusal> {
    const PATH: &str = "Consent.verification";
    match resource.get("verification") {
        None => Ok(()),
        Some(Json::List(entries)) => {
            let verified = |entry: &Json| matches!(entry.get("verified"), Some(Json::Bool(true)));
            if entries.iter().any(verified) {
                Ok(())
            } else {
                Err(ConsentRefusal::not_permitted(
                    PATH,
                    "says that nobody verified the consent: verify it, and set verified to true",
                ))
            }
        }
        Some(_) => Err(ConsentRefusal::malformed(PATH, "is no list")),
    }
}

/// System and code of each coding of a CodeableConcept; `None` for one that lacks either, or for a concept without any.
fn codings(concept: &Json) -> impl Iterator<Item = Option<(&str, &str)>> {
    let list = match concept.get("coding") {
        Some(Json::List(list)) => list.as_slice(),
        _ => &[],
    };
    let nothing = list.is_empty().then_some(None);
    list.iter().map(coding).chain(nothing)
}

/// System and code of a Coding.
fn coding(coding: &Json) -> Option<(&str, &str)> {
    Some((coding.get("system")?.text()?, coding.get("code")?.text()?))
}

/// What of it is not substance: `text` and `meta`, here and in contained resources.
fn without_metadata(mut resource: Json) -> Json {
    if let Json::Object(members) = &mut resource {
        members.remove("text");
        members.remove("meta");
        if let Some(Json::List(contained)) = members.get_mut("contained") {
            for resource in contained {
                if let Json::Object(members) = resource {
                    members.remove("text");
                    members.remove("meta");
                }
            }
        }
    }
    resource
}
