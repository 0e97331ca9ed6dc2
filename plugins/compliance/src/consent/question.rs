//! What is asked of a consent: may be recorded, or may this recording be disclosed? Which of a provision's elements are
//! then about it, which surely not, and how the refusal reads.

use super::json::Json;
use super::provision::{About, Reason, Why};
use super::{ConsentRefusal, OWN_CODE, OWN_SYSTEM, coding, codings};

const ACTIONS: &str = "http://terminology.hl7.org/CodeSystem/consentaction";
/// HL7's purposes of use.
pub const PURPOSES: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const TYPES: &str = "http://hl7.org/fhir/resource-types";
const PARTICIPATIONS: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";

/// Whom a rule names as those who get something.
const RECEIVES: [(&str, &str); 2] = [(PARTICIPATIONS, "IRCP"), (PARTICIPATIONS, "PRCP")];
const OWN: (&str, &str) = (OWN_SYSTEM, OWN_CODE);
const CLASSES: [(&str, &str); 3] = [(TYPES, "Media"), (TYPES, "DocumentReference"), OWN];

/// A system, and a code of it.
type Code<'a> = (&'a str, &'a str);

/// A disclosure of a recording: to whom, for what. References are FHIR's, as the consent has them.
#[derive(Debug, Clone, Copy)]
pub struct Disclosure<'a> {
    /// Code of v3-ActReason.
    pub purpose: &'a str,
    /// Other codes of it, which surely mean something else.
    pub other_purposes: &'a [&'a str],
    /// Who gets it.
    pub recipient: Option<&'a str>,
    /// The encounter that was recorded.
    pub encounter: Option<&'a str>,
    /// Security labels that it carries: system and code.
    pub labels: &'a [Code<'a>],
}

/// What a consent is asked.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    /// May be recorded?
    Recording,
    /// May this be disclosed?
    Disclosure(&'a Disclosure<'a>),
}

/// What each element of a provision must name.
pub type Rules<'a> = [Rule<'a>];

/// What an element of a provision must name.
pub enum Rule<'a> {
    Names(Names<'a>),
    Who(References<'a>),
}

/// Codes.
pub struct Names<'a> {
    element: &'static str,
    /// Is each entry a CodeableConcept, or a Coding?
    concepts: bool,
    accepted: Vec<Code<'a>>,
    others: Vec<Code<'a>>,
}

/// References.
pub struct References<'a> {
    element: &'static str,
    wanted: Option<&'a str>,
    /// The entry must be about one of these roles.
    roles: &'a [Code<'static>],
}

impl<'a> Question<'a> {
    /// The rules by which provisions are read.
    pub fn rules(self) -> Vec<Rule<'a>> {
        match self {
            Self::Recording => recording(),
            Self::Disclosure(disclosure) => disclosed(disclosure),
        }
    }
}

fn names<'a>(
    element: &'static str,
    accepted: impl IntoIterator<Item = Code<'a>>,
    others: impl IntoIterator<Item = Code<'a>>,
) -> Rule<'a> {
    Rule::Names(Names {
        element,
        concepts: matches!(element, "action" | "code"),
        accepted: accepted.into_iter().collect(),
        others: others.into_iter().collect(),
    })
}

fn of<'a>(system: &'a str, codes: &'a [&'a str]) -> impl Iterator<Item = Code<'a>> {
    codes.iter().map(move |code| (system, *code))
}

fn recording<'a>() -> Vec<Rule<'a>> {
    let purposes = [
        "TREAT",
        "ETREAT",
        "CAREMGT",
        "COC",
        "HOPERAT",
        "RECORDMGT",
        "HCOMPL",
        "HQUALIMP",
        "PATRQT",
    ];
    let purposes = purposes.map(|code| (PURPOSES, code)).into_iter().chain([OWN]);
    let others = ["HMARKT", "HRESCH", "CLINTRCH", "HPAYMT", "PUBHLTH"].map(|code| (PURPOSES, code));
    vec![
        names(
            "action",
            [(ACTIONS, "collect"), OWN],
            of(ACTIONS, &["access", "disclose", "correct"]),
        ),
        names("purpose", purposes, others),
        names("class", CLASSES, []),
        names("code", [OWN], []),
        // Labels say how secret data is, which a recording does not know of itself.
        names("securityLabel", [], []),
    ]
}

fn disclosed<'a>(disclosure: &Disclosure<'a>) -> Vec<Rule<'a>> {
    vec![
        names(
            "action",
            [(ACTIONS, "disclose")],
            of(ACTIONS, &["collect", "access", "use", "correct"]).chain([OWN]),
        ),
        names(
            "purpose",
            [(PURPOSES, disclosure.purpose)],
            of(PURPOSES, disclosure.other_purposes).chain([OWN]),
        ),
        names("class", CLASSES, []),
        names("code", [OWN], []),
        names("securityLabel", disclosure.labels.iter().copied(), []),
        Rule::Who(References {
            element: "actor",
            wanted: disclosure.recipient,
            roles: &RECEIVES,
        }),
        Rule::Who(References {
            element: "data",
            wanted: disclosure.encounter,
            roles: &[],
        }),
    ]
}

impl Rule<'_> {
    pub fn element(&self) -> &'static str {
        match self {
            Self::Names(names) => names.element,
            Self::Who(references) => references.element,
        }
    }

    /// Are these entries about what is asked?
    pub fn about(&self, entries: &[Json]) -> About {
        let entries: Vec<About> = entries
            .iter()
            .map(|entry| match self {
                Self::Names(names) => names.entry(entry),
                Self::Who(references) => references.entry(entry),
            })
            .collect();
        if entries.contains(&About::Surely) {
            About::Surely
        } else if entries.iter().all(|entry| matches!(entry, About::No(_))) && !entries.is_empty() {
            About::No(self.element())
        } else {
            About::Perhaps(self.element())
        }
    }
}

impl Names<'_> {
    /// One entry; the codings of one concept are the same in several systems.
    fn entry(&self, entry: &Json) -> About {
        let codes: Vec<Option<(&str, &str)>> = if self.concepts {
            codings(entry).collect()
        } else {
            vec![coding(entry)]
        };
        let is = |list: &[Code], found: &Option<(&str, &str)>| found.is_some_and(|code| list.contains(&code));
        if codes.iter().any(|code| is(&self.accepted, code)) {
            About::Surely
        } else if codes.iter().all(|code| is(&self.others, code)) {
            About::No(self.element)
        } else {
            About::Perhaps(self.element)
        }
    }
}

impl References<'_> {
    fn entry(&self, entry: &Json) -> About {
        let perhaps = About::Perhaps(self.element);
        let has_role = |role: &Json| codings(role).flatten().any(|code| self.roles.contains(&code));
        if !self.roles.is_empty() && !entry.get("role").is_some_and(has_role) {
            return perhaps;
        }
        let found = entry
            .get("reference")
            .and_then(|reference| reference.get("reference"));
        match (found.and_then(Json::text), self.wanted) {
            (Some(found), Some(wanted)) if found == wanted => About::Surely,
            (Some(found), Some(wanted)) if are_others(found, wanted) => About::No(self.element),
            _ => perhaps,
        }
    }
}

/// Two references to resources of one type on one server, which are not the same. All others could be the same thing.
fn are_others(one: &str, another: &str) -> bool {
    let base = |reference: &str| {
        let (base, id) = reference.rsplit_once('/')?;
        let is_plain = !base.contains("/_history") && !id.is_empty() && !reference.contains(['#', '|', '?']);
        is_plain.then(|| base.to_owned())
    };
    one != another && base(one).is_some() && base(one) == base(another)
}

impl Why<'_> {
    /// For a person who asked this.
    pub fn refusal(self, question: Asked) -> ConsentRefusal {
        let at = |element: &str| format!("{}.{element}", self.path);
        let refused = |element: &str, what| match question {
            Asked::Recording => ConsentRefusal::not_permitted(at(element), what),
            Asked::Disclosure => ConsentRefusal::NotDisclosed {
                path: at(element),
                what,
            },
        };
        match (self.reason, question) {
            (Reason::NotYet("dataPeriod"), Asked::Disclosure)
            | (Reason::Over("dataPeriod"), Asked::Disclosure) => {
                refused("dataPeriod", "does not cover the time of the recording")
            }
            (Reason::NotYet(element), _) => ConsentRefusal::NotYet {
                path: format!("{}.start", at(element)),
            },
            (Reason::Over(element), _) => ConsentRefusal::Expired {
                path: format!("{}.end", at(element)),
            },
            (Reason::Unclear(element), Asked::Recording) => refused(
                element,
                "narrows what is permitted by something that is not known here: name \"recording\" of the system \
                 urn:gst-e2ee:consent, or leave it away",
            ),
            (Reason::Another(element), Asked::Recording) => refused(
                element,
                "names others than recording: add \"collect\" of HL7's consentaction to action, or TREAT of \
                 v3-ActReason to purpose",
            ),
            (Reason::Unclear(element) | Reason::Another(element), Asked::Disclosure) => {
                let what = match element {
                    "action" => "does not name \"disclose\" of HL7's consentaction",
                    "purpose" => "does not name the purpose of this export (--purpose)",
                    "actor" => {
                        "does not name the recipient of this export (--recipient) as who gets it (IRCP)"
                    }
                    "data" => "does not name the encounter of this export (--encounter)",
                    "securityLabel" => "is about labels that this export does not carry",
                    _ => "narrows what is permitted to something that is not known to be a recording",
                };
                refused(element, what)
            }
            (Reason::NoType, _) => refused(
                "type",
                "is missing, and no nested provision permits: set it to permit",
            ),
        }
    }
}

/// Which question it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Recording,
    Disclosure,
}

impl From<Question<'_>> for Asked {
    fn from(question: Question) -> Self {
        match question {
            Question::Recording => Self::Recording,
            Question::Disclosure(_) => Self::Disclosure,
        }
    }
}
