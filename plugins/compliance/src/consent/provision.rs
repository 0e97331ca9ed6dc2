//! The provisions of a consent: a rule, its exceptions, and theirs. Does it all come to a permit, at some time?

use super::date::Span;
use super::json::Json;
use super::question::Rules;
use super::{ConsentRefusal, NO_DATE, is_element};

/// Deepest nesting of provisions.
const MAX_DEPTH: usize = 8;

/// When what a rule is about was made; `period` is when the rule holds.
const DATA_PERIOD: &str = "dataPeriod";

/// The elements of a provision in R4.
const ELEMENTS: [&str; 14] = [
    "id",
    "extension",
    "modifierExtension",
    "type",
    "period",
    "actor",
    "action",
    "securityLabel",
    "purpose",
    "class",
    "code",
    "dataPeriod",
    "data",
    "provision",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Permit,
    Deny,
}

/// Is a rule about what is asked?
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum About {
    Surely,
    /// What this element names is not known here.
    Perhaps(&'static str),
    /// This element names others only.
    No(&'static str),
}

/// When a rule must hold: now, and for what was recorded at that time. Unix milliseconds.
#[derive(Clone, Copy)]
pub struct When {
    pub now: i64,
    /// Its first and its last millisecond.
    pub data: (i64, i64),
}

/// A time that a rule covers.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Period {
    element: &'static str,
    from: Option<i64>,
    to: Option<i64>,
}

/// A rule and its exceptions.
#[derive(Clone, PartialEq, Eq)]
pub struct Provision {
    path: String,
    kind: Option<Kind>,
    about: About,
    periods: Vec<Period>,
    exceptions: Vec<Provision>,
}

/// What a provision comes to.
pub enum Verdict<'a> {
    Permit,
    /// The provision at this path denies; a permit in it might have gone before, if not for this.
    Deny(&'a str, Option<Why<'a>>),
    /// Neither.
    Silent(Why<'a>),
}

/// Why a provision permits nothing.
pub struct Why<'a> {
    pub path: &'a str,
    pub reason: Reason,
}

#[derive(Clone, Copy)]
pub enum Reason {
    NotYet(&'static str),
    Over(&'static str),
    Unclear(&'static str),
    Another(&'static str),
    NoType,
}

impl Provision {
    /// Reads `Consent.provision`. `zone`: where dates without a time count, in seconds ahead of UTC.
    pub fn root(value: &Json, zone: i32, rules: &Rules) -> Result<Self, ConsentRefusal> {
        Self::read(value, "Consent.provision".to_owned(), zone, rules, 0)
    }

    fn read(
        value: &Json,
        path: String,
        zone: i32,
        rules: &Rules,
        depth: usize,
    ) -> Result<Self, ConsentRefusal> {
        let malformed = |element: &str, what| ConsentRefusal::malformed(format!("{path}{element}"), what);
        let Json::Object(members) = value else {
            return Err(malformed("", "is no object"));
        };
        if depth == MAX_DEPTH {
            return Err(malformed("", "is nested more than 8 deep"));
        }
        if !members.keys().all(|name| is_element(name, &ELEMENTS)) {
            return Err(ConsentRefusal::Unknown { path });
        }
        let kind = match (members.get("type"), depth) {
            (None, 0) => None,
            (None, _) => return Err(malformed(".type", "is missing: a nested provision needs one")),
            (Some(word), _) => match word.text() {
                Some("permit") => Some(Kind::Permit),
                Some("deny") => Some(Kind::Deny),
                _ => return Err(malformed(".type", "is neither permit nor deny")),
            },
        };
        let mut periods = Vec::new();
        for element in ["period", DATA_PERIOD] {
            if let Some(period) = members.get(element) {
                periods.push(Period::read(period, element, &path, zone)?);
            }
        }
        let mut about = About::Surely;
        for rule in rules {
            let Some(value) = members.get(rule.element()) else {
                continue;
            };
            let Json::List(entries) = value else {
                return Err(malformed(&format!(".{}", rule.element()), "is no list"));
            };
            about = about.and(rule.about(entries));
        }
        let exceptions = match members.get("provision") {
            None => Vec::new(),
            Some(Json::List(nested)) => nested
                .iter()
                .enumerate()
                .map(|(index, value)| {
                    Self::read(
                        value,
                        format!("{path}.provision[{index}]"),
                        zone,
                        rules,
                        depth + 1,
                    )
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(malformed(".provision", "is no list")),
        };
        Ok(Self {
            path,
            kind,
            about,
            periods,
            exceptions,
        })
    }

    /// What it comes to.
    pub fn verdict(&self, when: When) -> Verdict<'_> {
        let silent = |reason| {
            Verdict::Silent(Why {
                path: &self.path,
                reason,
            })
        };
        if let Some(reason) = self.periods.iter().find_map(|period| period.misses(when)) {
            return silent(reason);
        }
        if let About::No(element) = self.about {
            return silent(Reason::Another(element));
        }
        let mut permitted = false;
        let mut unheard = None;
        for exception in &self.exceptions {
            match exception.verdict(when) {
                Verdict::Permit => permitted = true,
                Verdict::Silent(why) => unheard = unheard.or(Some(why)),
                denies @ Verdict::Deny(..) => return denies,
            }
        }
        match (self.about, self.kind) {
            (About::Surely, _) if permitted => Verdict::Permit,
            (About::Surely, Some(Kind::Permit)) => Verdict::Permit,
            // Where it may apply and not surely, a permit in it does not surely apply, either.
            (_, Some(Kind::Deny)) if !permitted => Verdict::Deny(&self.path, unheard),
            (About::Perhaps(element), _) => silent(Reason::Unclear(element)),
            _ => Verdict::Silent(unheard.unwrap_or(Why {
                path: &self.path,
                reason: Reason::NoType,
            })),
        }
    }

    /// All times (unix milliseconds) at which the verdict may change.
    pub fn bounds(&self, into: &mut Vec<i64>) {
        into.extend(
            self.periods
                .iter()
                .flat_map(|period| [period.from, period.to])
                .flatten(),
        );
        for exception in &self.exceptions {
            exception.bounds(into);
        }
    }
}

impl About {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No(element), _) | (_, Self::No(element)) => Self::No(element),
            (Self::Perhaps(element), _) | (_, Self::Perhaps(element)) => Self::Perhaps(element),
            (Self::Surely, Self::Surely) => Self::Surely,
        }
    }
}

impl Period {
    fn read(value: &Json, element: &'static str, path: &str, zone: i32) -> Result<Self, ConsentRefusal> {
        let malformed =
            |bound: &str, what| ConsentRefusal::malformed(format!("{path}.{element}{bound}"), what);
        let Json::Object(members) = value else {
            return Err(malformed("", "is no object"));
        };
        if !members
            .keys()
            .all(|name| is_element(name, &["id", "extension", "start", "end"]))
        {
            return Err(ConsentRefusal::Unknown {
                path: format!("{path}.{element}"),
            });
        }
        let bound = |name: &str| {
            let value = match members.get(name) {
                Some(value) => value,
                // An extension says why there is none: that is no open end.
                None if members.contains_key(&format!("_{name}")) => &Json::Null,
                None => return Ok(None),
            };
            let span = value.text().and_then(|text| Span::read(text, zone));
            span.map(Some)
                .ok_or_else(|| malformed(&format!(".{name}"), NO_DATE))
        };
        let from = bound("start")?.map(|span| span.from);
        let to = bound("end")?.map(|span| span.to);
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return Err(malformed("", "ends before it begins"));
        }
        Ok(Self { element, from, to })
    }

    /// How it does not cover the time that it is about.
    fn misses(&self, when: When) -> Option<Reason> {
        let (first, last) = match self.element {
            DATA_PERIOD => when.data,
            _ => (when.now, when.now),
        };
        if self.from.is_some_and(|from| first < from) {
            Some(Reason::NotYet(self.element))
        } else if self.to.is_some_and(|to| last >= to) {
            Some(Reason::Over(self.element))
        } else {
            None
        }
    }
}
