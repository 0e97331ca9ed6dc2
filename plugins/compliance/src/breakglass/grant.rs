//! Granting, at the opening station: decisions are judged, what came of each stands in the log, and M approvals put the
//! recording's identity together, in memory.
//!
//! A [`Grant`] opens nothing by itself: [`Opening::unlock_together`] logs the access first, and finds there whether this
//! request opened the recording before.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use age::x25519::Identity;

use super::history::History;
use super::judge::{Case, Denial, Judged, Misuse, Submitted, judge, put_together};
use super::{Asked, STATION};
use crate::access::Opening;
use crate::audit::{Entry, Event, Id, LogError, TextError};
use crate::breakglass::decision::Unverified;
use crate::bundle::Escrow;
use crate::digest::Digest;

/// The recording's identity, and for what it was given.
pub struct Grant {
    asked: Asked,
    identity: Identity,
    approved: Vec<Digest>,
    denials: Vec<Denial>,
    misuses: Vec<(String, Misuse)>,
}

/// Why there is no grant. All of it is in the log, but for what keeps it from being written there.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// Not enough that counts.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// Recipients open alone.
    #[error("{0} is not under escrow: its recipients open it alone (gst-compliance open --identity)")]
    NoEscrow(PathBuf),
    /// What was decided cannot be logged.
    #[error("the decisions cannot be logged, so nothing is opened: {0}")]
    Log(#[from] LogError),
    /// An entry cannot be written.
    #[error("an entry of the log cannot be written: {0}")]
    Text(#[from] TextError),
}

/// A refusal, and what was found in the files.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub why: Misuse,
    /// The request, where there is one.
    pub asked: Option<Asked>,
    /// By the file that it came in.
    pub misuses: Vec<(String, Misuse)>,
    /// Custodians who said no.
    pub denials: Vec<Denial>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused, and logged: {}", self.why)?;
        for line in lines(&self.misuses, &self.denials) {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// What was found, a line each.
fn lines(misuses: &[(String, Misuse)], denials: &[Denial]) -> Vec<String> {
    let misuses = misuses.iter().map(|(file, misuse)| format!("{file}: {misuse}"));
    let denials = denials
        .iter()
        .map(|denial| format!("custodian {} said no: {}", denial.custodian, denial.reason));
    misuses.chain(denials).collect()
}

impl Grant {
    /// What was asked.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Whose shares were put together.
    pub fn approved(&self) -> &[Digest] {
        &self.approved
    }

    /// What did not count, and who said no, a line each.
    pub fn lines(&self) -> Vec<String> {
        lines(&self.misuses, &self.denials)
    }

    /// The recording's identity. Whoever takes it out has logged what for.
    pub fn into_identity(self) -> Identity {
        self.identity
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("asked", &self.asked)
            .field("approved", &self.approved)
            .finish_non_exhaustive()
    }
}

/// The station's desk, while a grant is looked for.
struct Desk<'a> {
    opening: &'a Opening,
    time: u64,
    judged: Judged,
}

impl Desk<'_> {
    fn entry(&self, event: Event) -> Entry {
        Entry {
            time: self.time,
            recording: Some(self.opening.index().facts().recording),
            event,
        }
    }

    fn denied(&self, access: &Id, misuse: &Misuse) -> Result<Entry, TextError> {
        Ok(self.entry(Event::AccessDenied {
            access: access.clone(),
            by: Id::new(STATION)?,
            reason: misuse.reason(),
        }))
    }

    fn log(&self, entries: &[Entry]) -> Result<(), LogError> {
        match entries {
            [] => Ok(()),
            entries => self.opening.log().append_all(entries).map(drop),
        }
    }

    fn refuse(self, asked: &Asked, why: Misuse) -> GrantError {
        let logged = self.denied(&asked.access, &why).map_err(GrantError::from);
        match logged.and_then(|entry| Ok(self.log(&[entry])?)) {
            Ok(()) => self.refused(Some(asked.clone()), why),
            Err(error) => error,
        }
    }

    fn refused(self, asked: Option<Asked>, why: Misuse) -> GrantError {
        GrantError::Refused(Box::new(Refused {
            why,
            asked,
            misuses: self.judged.misuses,
            denials: self.judged.denials,
        }))
    }

    /// Nothing in the log that these could be for: it is told under the requests that they name.
    fn not_requested(self, files: &[Submitted]) -> Result<GrantError, GrantError> {
        let named: BTreeSet<String> = files
            .iter()
            .filter_map(|file| Unverified::decode(file.bytes.as_deref()?).ok())
            .map(|decision| decision.unverified().access.to_string())
            .collect();
        let named = match named.is_empty() {
            true => BTreeSet::from(["unknown".to_owned()]),
            false => named,
        };
        let entries: Result<Vec<_>, TextError> = named
            .iter()
            .map(|access| self.denied(&Id::new(access)?, &Misuse::NotRequested))
            .collect();
        self.log(&entries?)?;
        Ok(self.refused(None, Misuse::NotRequested))
    }

    /// A custodian's no that the log has counts, whether or not its file is brought again.
    fn leave_out_withdrawn(&mut self, asked: &Asked, history: &History) {
        let Judged {
            approvals, misuses, ..
        } = &mut self.judged;
        approvals.retain(|approval| {
            let denied = Id::new(&approval.custodian.to_string())
                .is_ok_and(|by| history.has(&asked.access, &by, "access-denied"));
            if denied {
                misuses.push((approval.name.clone(), Misuse::Withdrawn(approval.custodian)));
            }
            !denied
        });
    }

    /// Puts what was judged into the log, each custodian's decision once however often it is brought.
    fn log_judged(&self, asked: &Asked, history: &History, custodians: &Escrow) -> Result<(), GrantError> {
        let mut events = Vec::new();
        for approval in &self.judged.approvals {
            let custodian = Id::new(&approval.custodian.to_string())?;
            let share = custodians.find(&approval.custodian).map_or(0, |(share, _)| share);
            let access = asked.access.clone();
            let event = Event::AccessApproved {
                access,
                custodian: custodian.clone(),
                share: share.into(),
            };
            events.push((custodian, event));
        }
        for denial in &self.judged.denials {
            let by = Id::new(&denial.custodian.to_string())?;
            let event = Event::AccessDenied {
                access: asked.access.clone(),
                by: by.clone(),
                reason: denial.reason.clone(),
            };
            events.push((by, event));
        }
        events.retain(|(by, event)| !history.has(&asked.access, by, event.kind()));
        let mut entries: Vec<_> = events.into_iter().map(|(_, event)| self.entry(event)).collect();
        for (_, misuse) in &self.judged.misuses {
            entries.push(self.denied(&asked.access, misuse)?);
        }
        Ok(self.log(&entries)?)
    }
}

/// Judges decisions for the request that this one-time key is of, logs what came of each, and puts the shares of M
/// custodians together. `time`: now, unix time in milliseconds.
pub fn grant(
    opening: &Opening,
    key: &Identity,
    custodians: &Escrow,
    files: &[Submitted],
    time: u64,
) -> Result<Grant, GrantError> {
    let facts = opening.index().facts();
    let holders = opening.index().holders();
    let escrow = holders
        .escrow
        .as_ref()
        .ok_or_else(|| GrantError::NoEscrow(opening.index().path().to_owned()))?;
    let history = History::read(opening.log(), facts.recording)?;
    let station = key.to_public();
    let mut desk = Desk {
        opening,
        time,
        judged: Judged::default(),
    };
    let Some(asked) = history.asked().iter().find(|asked| asked.station == station) else {
        return Err(desk.not_requested(files)?);
    };
    let given = custodians.facts();
    if given != *escrow {
        let (given, named) = (given.fingerprint, escrow.fingerprint);
        return Err(desk.refuse(asked, Misuse::AnotherEscrow { given, named }));
    }
    if history.was_opened(&asked.access) {
        return Err(desk.refuse(asked, Misuse::Replayed(asked.access.clone())));
    }
    if !asked.counts_at(time) {
        let (expires, now) = (asked.expires, time);
        return Err(desk.refuse(asked, Misuse::Expired { expires, now }));
    }
    let case = Case {
        asked,
        facts,
        escrow,
        custodians,
    };
    desk.judged = judge(&case, key, files);
    desk.leave_out_withdrawn(asked, &history);
    desk.log_judged(asked, &history, custodians)?;
    let (identity, wrong) = match put_together(&desk.judged.approvals, escrow) {
        Ok(found) => found,
        Err(why) => return Err(desk.refuse(asked, why)),
    };
    let told: Result<Vec<_>, TextError> = wrong
        .iter()
        .map(|(_, misuse)| desk.denied(&asked.access, misuse))
        .collect();
    desk.log(&told?)?;
    let Judged {
        approvals,
        denials,
        mut misuses,
    } = desk.judged;
    let approved = approvals.iter().filter(|approval| {
        let is_wrong = |(_, misuse): &(String, Misuse)| *misuse == Misuse::WrongShare(approval.custodian);
        !wrong.iter().any(is_wrong)
    });
    let approved = approved.map(|approval| approval.custodian).collect();
    misuses.extend(wrong);
    Ok(Grant {
        asked: asked.clone(),
        identity,
        approved,
        denials,
        misuses,
    })
}
