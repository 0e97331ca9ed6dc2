//! Who opened a recording, or wanted to: the entries of one access together, from its request to its end.
//!
//! They are read by the names of their fields and not by their types, so that a field that is added to one is told, too.

use std::collections::HashMap;

use serde::Serialize;

use super::history::without;

/// Most accesses that are told one by one.
const MOST: usize = 500;
/// Most steps of one.
const MOST_STEPS: usize = 60;

/// What was done in an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It was asked for.
    Requested,
    /// A custodian said yes.
    Approved,
    /// Somebody said no, or it was not allowed.
    Denied,
    /// The recording was about to be read.
    Opened,
    /// It was read no more.
    Ended,
    /// A copy was made.
    Exported,
}

/// One step of an access.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// When: milliseconds since 1970.
    pub time: u64,
    /// What.
    pub kind: Kind,
    /// By whom.
    pub by: Option<String>,
    /// What else the entry says that the access does not.
    pub more: Vec<(String, String)>,
}

/// An access.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Access {
    /// Its random id.
    pub id: String,
    /// Who: the requester, or who opened it.
    pub who: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The case that it belongs to.
    pub ticket: Option<String>,
    /// By which way it was opened: `recipient`, `break-glass`, `drill`.
    pub way: Option<String>,
    /// Until when it was asked for.
    pub expires: Option<u64>,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// How many more steps there are.
    pub more_steps: u64,
    /// Members that were read, where it ended.
    pub members: Option<u64>,
}

/// What came of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was opened, and something was read.
    Opened,
    /// It is open, or its program died: nothing says that it ended.
    Open,
    /// It was tried, and nothing was read.
    NothingRead,
    /// It was refused, and not opened.
    Denied,
    /// It was asked for, and the time for it is over.
    Expired,
    /// It was asked for.
    Waiting,
}

impl Access {
    /// Do entries of this kind belong to accesses?
    pub fn is_told_by(kind: &str) -> bool {
        kind_of(kind).is_some()
    }

    /// How often something was done.
    pub fn count(&self, kind: Kind) -> usize {
        self.steps.iter().filter(|step| step.kind == kind).count()
    }

    /// Was that done?
    pub fn has(&self, kind: Kind) -> bool {
        self.count(kind) > 0
    }

    /// What came of it, seen at this time.
    pub fn outcome(&self, now: u64) -> Outcome {
        if self.has(Kind::Opened) || self.has(Kind::Exported) {
            return match self.members {
                Some(0) if !self.has(Kind::Exported) => Outcome::NothingRead,
                None if !self.has(Kind::Ended) && self.has(Kind::Opened) => Outcome::Open,
                _ => Outcome::Opened,
            };
        }
        if self.has(Kind::Denied) {
            Outcome::Denied
        } else if self.expires.is_some_and(|expires| expires < now) {
            Outcome::Expired
        } else {
            Outcome::Waiting
        }
    }

    fn take(&mut self, time: u64, kind: Kind, fields: Vec<(String, String)>) {
        let of = |name: &str| {
            let found = fields.iter().find(|(of, _)| of == name);
            found.map(|(_, value)| value.clone())
        };
        let by = ["requester", "custodian", "by", "reader"]
            .iter()
            .find_map(|name| of(name));
        let mut told = vec!["access", "requester", "custodian", "by", "reader"];
        match kind {
            Kind::Requested | Kind::Opened => {
                let same = |known: &Option<String>, new: &Option<String>| known.is_none() || known == new;
                let (reason, ticket) = (of("reason"), of("ticket"));
                if same(&self.reason, &reason) && same(&self.ticket, &ticket) {
                    told.extend(["reason", "ticket"]);
                }
                self.who = self.who.take().or_else(|| by.clone());
                self.reason = self.reason.take().or(reason);
                self.ticket = self.ticket.take().or(ticket);
                self.expires = self.expires.or(of("expires").and_then(|time| time.parse().ok()));
                self.way = self.way.take().or(of("way"));
                told.extend(["expires", "way"]);
                if of("tracks").is_some_and(|tracks| tracks == "[]") {
                    told.push("tracks");
                }
            }
            Kind::Ended => self.members = of("members").and_then(|members| members.parse().ok()),
            Kind::Exported => self.who = self.who.take().or_else(|| by.clone()),
            Kind::Approved | Kind::Denied => {}
        }
        if self.steps.len() >= MOST_STEPS {
            self.more_steps += 1;
            return;
        }
        self.steps.push(Step {
            time,
            kind,
            by,
            more: without(fields, &told),
        });
    }
}

/// All accesses.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Accesses {
    /// In the order of their first entries.
    pub list: Vec<Access>,
    /// Entries of further ones.
    pub more: u64,
}

impl Accesses {
    /// Takes the next entry. `known`: where each access is.
    pub(super) fn take(
        &mut self,
        known: &mut HashMap<String, usize>,
        time: u64,
        kind: &str,
        fields: Vec<(String, String)>,
    ) {
        let id = fields.iter().find(|(name, _)| name == "access");
        let (Some((_, id)), Some(kind)) = (id, kind_of(kind)) else {
            return;
        };
        let id = id.clone();
        let index = match known.get(&id) {
            Some(index) => *index,
            None if self.list.len() < MOST => {
                self.list.push(Access {
                    id: id.clone(),
                    ..Access::default()
                });
                let index = self.list.len() - 1;
                known.insert(id, index);
                index
            }
            None => {
                self.more += 1;
                return;
            }
        };
        self.list[index].take(time, kind, fields);
    }
}

fn kind_of(word: &str) -> Option<Kind> {
    Some(match word {
        "access-requested" => Kind::Requested,
        "access-approved" => Kind::Approved,
        "access-denied" => Kind::Denied,
        "access-opened" => Kind::Opened,
        "access-ended" => Kind::Ended,
        "exported" => Kind::Exported,
        _ => return None,
    })
}
