//! May this recording be disclosed to this recipient, for this purpose, now? Pure: times and papers are passed in.
//!
//! # The rule
//!
//! Unclear is refused, with a sentence that says what to add.
//!
//! - **The consent under which it was recorded** is needed where the recording names one, and must be that one: the
//!   reference in recording.json is of its content. A consent that was withdrawn has another content, and another status.
//! - **Something must permit the disclosure**: an authorisation, where there is one, else the consent. A FHIR Consent
//!   does where its provision surely permits it ([`crate::consent`]: Disclosure). An authorisation that is a document
//!   (a signed form) counts, because whoever exports vouches for it, where the consent does not forbid; never under Part 2.
//!   An authorisation goes before a consent that forbids only where it is the later of the two.
//! - **What a patient asks for** (`PATRQT`) needs the authorisation: the request.
//! - A consent or an authorisation about **another patient** permits nothing.
//!
//! # 42 CFR Part 2
//!
//! Records of substance use treatment in the United States. A recording is under it where somebody says so, or where its
//! consent or authorisation carries a label of v3-ActCode that does ([`SENSITIVE`]), anywhere. Then:
//!
//! - what permits must be a Consent with what a written consent must state (§2.31(a)) as far as a program can see it: the
//!   patient, the recipient by name, the purpose, when it was given, by whom or where the signed form is, and when it
//!   expires (not for treatment, payment and operations);
//! - the notice goes along (§2.32(a)), and a copy of the consent or an explanation of its scope (§2.32(b)).
//!
//! This is what a program can check. Whether a disclosure is lawful it cannot say.

use serde_json::Value;

use super::fhir::{ACT_CODE, CONFIDENTIALITY, Reference};
use super::papers::{Paper, Papers, resource};
use super::purpose::PurposeOfUse;
use crate::consent::{Consent, ConsentRefusal, Disclosure, PURPOSES, Question};

/// Labels that say that Part 2 applies: HL7's code of the law, and its sensitivities of substance use.
pub const SENSITIVE: [&str; 5] = ["42CFRPart2", "ETH", "SUD", "ETHUD", "OPIOIDUD"];

/// The statement that accompanies what is disclosed: §2.32(a)(2), which stands for the longer one of §2.32(a)(1).
pub const NOTICE: &str = "42 CFR part 2 prohibits unauthorized use or disclosure of these records.";

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The reference to the consent in recording.json.
    pub reference: Option<&'a str>,
    /// When it was recorded: its first and its last moment, unix milliseconds.
    pub recorded: (u64, u64),
    /// Unix milliseconds.
    pub now: u64,
    /// Seconds by which clocks are ahead of UTC, where dates without a zone count.
    pub zone: i32,
    /// For what.
    pub purpose: PurposeOfUse,
    /// Whose recording it is.
    pub patient: &'a Reference,
    /// Who gets it.
    pub recipient: Option<&'a Reference>,
    /// The encounter that was recorded.
    pub encounter: Option<&'a Reference>,
    /// Somebody says that Part 2 applies.
    pub part2: bool,
}

/// What may go, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permitted {
    /// It is under 42 CFR Part 2.
    pub part2: bool,
    /// Its security labels: system and code.
    pub labels: Vec<(&'static str, &'static str)>,
    /// The patient authorised it.
    pub authorised: bool,
    /// What should be said of it.
    pub remarks: Vec<&'static str>,
}

/// Why nothing goes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The one it was recorded under is not there.
    #[error(
        "the recording was made under a consent, which is needed to see what it permits: give it with --consent, as it was when it was recorded"
    )]
    NoConsent,
    /// It is another one.
    #[error(
        "this is not the consent under which it was recorded, or not as it was then: recording.json has the reference of another one (gst-compliance consent FILE --reference REFERENCE compares)"
    )]
    OtherConsent,
    /// Nothing permits.
    #[error(
        "nothing permits this disclosure: give a consent (--consent) or the patient's authorisation (--authorization)"
    )]
    NoBasis,
    /// A patient's request has to be there.
    #[error(
        "what the patient asks for (PATRQT) carries what the patient signed: give it with --authorization"
    )]
    NoAuthorization,
    /// The consent is none, or in force no more.
    #[error(transparent)]
    Consent(ConsentRefusal),
    /// The consent does not permit.
    #[error("{0}. The patient's authorisation for this disclosure would: --authorization")]
    NotPermitted(ConsentRefusal),
    /// The authorisation does not permit.
    #[error("the authorisation: {0}")]
    Authorization(ConsentRefusal),
    /// Somebody else's.
    #[error("the {0} is not about the patient of this export: its patient must be the one of --patient")]
    OtherPatient(&'static str),
    /// Which of the two counts nobody knows.
    #[error(
        "the consent forbids this disclosure, and the authorisation is not later than it: give one whose dateTime is (now: {0})"
    )]
    Earlier(&'static str),
    /// Part 2, and no written consent.
    #[error(
        "42 CFR Part 2 applies: {0}. Nothing is exported without a written consent to this disclosure (a FHIR Consent as --consent or --authorization), which goes along as a copy or is explained by --explanation (§2.31, §2.32)"
    )]
    Part2(&'static str),
}

/// A consent that may permit.
struct Judged {
    resource: Value,
    consent: Consent,
    verdict: Result<(), ConsentRefusal>,
}

/// May it go?
pub fn judge(wanted: &Wanted, papers: &Papers) -> Result<Permitted, Refusal> {
    let authorization = match &papers.authorization {
        Some(Paper::Consent(bytes)) => Some(bytes.as_slice()),
        _ => None,
    };
    let sources = [papers.consent.as_deref(), authorization];
    let found = |code: &str| {
        sources
            .into_iter()
            .flatten()
            .any(|bytes| has_label(&resource(bytes), code))
    };
    let sensitive: Vec<_> = SENSITIVE.into_iter().filter(|code| found(code)).collect();
    let part2 = wanted.part2 || !sensitive.is_empty();
    let labels = labels(part2, &sensitive);
    let mut remarks = Vec::new();

    let consent = match (wanted.reference, &papers.consent) {
        (Some(_), None) => {
            return Err(if part2 {
                Refusal::Part2("the consent is not there")
            } else {
                Refusal::NoConsent
            });
        }
        (None, None) => {
            remarks.push("the recording names no consent: it is not attested that there was one");
            None
        }
        (reference, Some(bytes)) => {
            let judged = wanted.ask(bytes, &labels).map_err(Refusal::Consent)?;
            match reference {
                Some(reference) if !judged.consent.matches(reference) => return Err(Refusal::OtherConsent),
                Some(_) => {}
                None => remarks.push("the recording names no consent: that this is the one is not attested"),
            }
            wanted
                .is_about_patient(&judged, part2)
                .map_err(|()| Refusal::OtherPatient("consent"))?;
            Some(judged)
        }
    };
    let authorised = match authorization {
        None => None,
        Some(bytes) => {
            let judged = wanted.ask(bytes, &labels).map_err(Refusal::Authorization)?;
            // A paper that is given for this one disclosure must say whose it is.
            wanted
                .is_about_patient(&judged, true)
                .map_err(|()| Refusal::OtherPatient("authorisation"))?;
            judged.verdict.clone().map_err(Refusal::Authorization)?;
            Some(judged)
        }
    };
    let signed = matches!(papers.authorization, Some(Paper::Signed(..)));
    if wanted.purpose.is_patient_s() && authorised.is_none() && !signed {
        return Err(Refusal::NoAuthorization);
    }
    let permits = match (&authorised, &consent) {
        (Some(authorised), Some(consent)) => {
            goes_before(authorised, consent)?;
            Some(authorised)
        }
        (Some(authorised), None) => Some(authorised),
        (None, Some(consent)) => match &consent.verdict {
            Ok(()) => Some(consent),
            Err(ConsentRefusal::DisclosureDenied { .. }) => return Err(refused(consent)),
            Err(_) if signed && !part2 => None,
            Err(_) => return Err(refused(consent)),
        },
        (None, None) if signed && !part2 => None,
        (None, None) if part2 => return Err(Refusal::Part2("there is no consent that could be read")),
        (None, None) => return Err(Refusal::NoBasis),
    };
    if permits.is_none() {
        remarks.push("that the authorisation permits this disclosure, whoever exports vouches for: it is a document that no program reads");
    }
    if part2 {
        let missing = permits.map_or(Some("there is no consent that could be read"), |permits| {
            wanted.unwritten(&permits.resource)
        });
        if let Some(missing) = missing {
            return Err(Refusal::Part2(missing));
        }
    }
    Ok(Permitted {
        part2,
        labels,
        authorised: papers.authorization.is_some(),
        remarks,
    })
}

fn refused(consent: &Judged) -> Refusal {
    match &consent.verdict {
        Err(refusal) => Refusal::NotPermitted(refusal.clone()),
        Ok(()) => Refusal::NoBasis,
    }
}

/// An authorisation goes before a consent that forbids, as the patient's later word.
fn goes_before(authorised: &Judged, consent: &Judged) -> Result<(), Refusal> {
    if !matches!(consent.verdict, Err(ConsentRefusal::DisclosureDenied { .. })) {
        return Ok(());
    }
    match (authorised.consent.given(), consent.consent.given()) {
        (Some(later), Some(earlier)) if later >= earlier => Ok(()),
        (Some(_), Some(_)) => Err(Refusal::Earlier("it is the earlier one")),
        _ => Err(Refusal::Earlier("one of the two has none")),
    }
}

fn labels(part2: bool, sensitive: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    let mut labels = vec![(CONFIDENTIALITY, if part2 { "R" } else { "N" })];
    if part2 {
        labels.push((ACT_CODE, SENSITIVE[0]));
        let others = sensitive.iter().filter(|code| **code != SENSITIVE[0]);
        labels.extend(others.map(|code| (ACT_CODE, *code)));
        labels.push((ACT_CODE, "NORDSCLCD"));
    }
    labels
}

impl Wanted<'_> {
    fn ask(&self, bytes: &[u8], labels: &[(&str, &str)]) -> Result<Judged, ConsentRefusal> {
        let others = self.purpose.others();
        let disclosure = Disclosure {
            purpose: self.purpose.code(),
            other_purposes: &others,
            recipient: self.recipient.map(Reference::as_str),
            encounter: self.encounter.map(Reference::as_str),
            labels,
        };
        let consent = Consent::asked(bytes, self.zone, Question::Disclosure(&disclosure))?;
        Ok(Judged {
            resource: resource(bytes),
            verdict: consent.judge_about(self.now, self.recorded),
            consent,
        })
    }

    /// `must`: it has to say whose it is.
    fn is_about_patient(&self, judged: &Judged, must: bool) -> Result<(), ()> {
        match judged
            .resource
            .pointer("/patient/reference")
            .and_then(Value::as_str)
        {
            Some(patient) if patient == self.patient.as_str() => Ok(()),
            None if !must => Ok(()),
            _ => Err(()),
        }
    }

    /// What a written consent lacks that §2.31(a) wants.
    fn unwritten(&self, consent: &Value) -> Option<&'static str> {
        let has = |name: &str| consent.get(name).is_some_and(|value| !value.is_null());
        let provision = consent.get("provision").unwrap_or(&Value::Null);
        let Some(recipient) = self.recipient else {
            return Some("the consent must name the recipient, so say who gets it with --recipient");
        };
        let names_recipient = |provision: &Value| {
            let actors = provision.get("actor").and_then(Value::as_array);
            actors.into_iter().flatten().any(|actor| {
                let named = actor.pointer("/reference/reference").and_then(Value::as_str);
                named == Some(recipient.as_str())
            })
        };
        let names_purpose = |provision: &Value| {
            let purposes = provision.get("purpose").and_then(Value::as_array);
            purposes.into_iter().flatten().any(|purpose| {
                let is = |name: &str, value: &str| purpose.get(name).and_then(Value::as_str) == Some(value);
                is("system", PURPOSES) && is("code", self.purpose.code())
            })
        };
        let ends = |provision: &Value| provision.pointer("/period/end").is_some();
        if !has("patient") {
            Some("the consent names no patient")
        } else if !anywhere(provision, &names_recipient) {
            Some("the consent does not name the recipient (provision.actor)")
        } else if !anywhere(provision, &names_purpose) {
            Some("the consent does not state the purpose (provision.purpose)")
        } else if !has("dateTime") {
            Some("the consent does not say when it was given (dateTime)")
        } else if !has("performer") && !has("sourceAttachment") && !has("sourceReference") {
            Some("the consent does not say who gave it or where the signed form is (performer, source)")
        } else if !self.purpose.is_care() && !anywhere(provision, &ends) {
            Some("the consent does not say when it expires (provision.period.end)")
        } else {
            None
        }
    }
}

/// Does it hold for a provision that does not deny, or for such a one nested in it?
fn anywhere(provision: &Value, holds: &dyn Fn(&Value) -> bool) -> bool {
    let nested = provision.get("provision").and_then(Value::as_array);
    let denies = provision.get("type").and_then(Value::as_str) == Some("deny");
    (!denies && holds(provision)) || nested.into_iter().flatten().any(|nested| anywhere(nested, holds))
}

/// Is there a coding of this code of v3-ActCode anywhere in it?
fn has_label(value: &Value, code: &str) -> bool {
    match value {
        Value::Array(values) => values.iter().any(|value| has_label(value, code)),
        Value::Object(members) => {
            let is = |name: &str, wanted: &str| members.get(name).and_then(Value::as_str) == Some(wanted);
            (is("system", ACT_CODE) && is("code", code))
                || members.values().any(|value| has_label(value, code))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(papers: &Papers, part2: bool, purpose: &str) -> Result<Permitted, Refusal> {
        let (patient, recipient) = ("Patient/1".parse().unwrap(), "Organization/1".parse().unwrap());
        let wanted = Wanted {
            reference: None,
            recorded: (0, 1),
            now: 1_772_704_800_000,
            zone: 0,
            purpose: purpose.parse().unwrap(),
            patient: &patient,
            recipient: Some(&recipient),
            encounter: None,
            part2,
        };
        judge(&wanted, papers)
    }

    #[test]
    fn without_papers_nothing_goes() {
        let none = Papers::default();
        assert_eq!(judged(&none, false, "TREAT"), Err(Refusal::NoBasis));
        assert!(matches!(judged(&none, true, "TREAT"), Err(Refusal::Part2(_))));
        assert_eq!(judged(&none, false, "PATRQT"), Err(Refusal::NoAuthorization));
        let explained = Papers {
            explanation: Some("all of it".to_owned()),
            ..Papers::default()
        };
        assert!(matches!(
            judged(&explained, true, "TREAT"),
            Err(Refusal::Part2(_))
        ));
    }

    proptest! {
        #[test]
        fn any_paper_is_judged(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "[\\[{\"a:}\\], ]{0,60}", part2 in any::<bool>()) {
            for bytes in [bytes, text.into_bytes()] {
                let papers = Papers { consent: Some(bytes.clone()), ..Papers::default() };
                prop_assert!(judged(&papers, part2, "TREAT").is_err());
                let papers = Papers { authorization: Some(Paper::Consent(bytes)), ..Papers::default() };
                prop_assert!(judged(&papers, part2, "PATRQT").is_err());
            }
        }
    }
}
