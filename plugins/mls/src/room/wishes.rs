//! What this endpoint's own people want of the room, and what has to be committed for it.

use super::group::Plan;
use super::{Command, Event, Output, Room};
use crate::policy::Policy;
use crate::store::Store;

/// Most wishes that wait.
const WISHES: usize = 64;

/// What this endpoint's own people want.
pub(super) struct Wish {
    pub(super) command: Command,
    ticket: Option<u64>,
}

impl<S: Store> Room<S> {
    pub(super) fn wish(&mut self, command: Command, ticket: Option<u64>) {
        if self.wishes.len() >= WISHES {
            self.refuse_command(&command, ticket, "too many wishes wait already");
        } else if command == Command::Resync {
            match &self.current {
                Some(current) if current.roster.len() > 1 => {
                    self.start_rejoin("somebody asked for it".into(), true);
                    self.answer(ticket, Ok(()));
                }
                _ => self.refuse_command(&command, ticket, "there is nobody in the room who could help"),
            }
        } else if let Command::Confirm { member, code } = &command {
            match self.confirm(member.as_deref(), code) {
                Ok(()) => self.answer(ticket, Ok(())),
                Err(why) => self.refuse_command(&command, ticket, why),
            }
        } else {
            self.wishes.push_back(Wish { command, ticket });
        }
    }

    pub(super) fn answer(&mut self, ticket: Option<u64>, result: Result<(), String>) {
        if let Some(ticket) = ticket {
            self.outputs.push_back(Output::Answer { ticket, result });
        }
    }

    /// The first wish came to its end.
    pub(super) fn wish_done(&mut self, result: Result<(), String>) {
        let Some(wish) = self.wishes.pop_front() else {
            return;
        };
        match result {
            Ok(()) => self.answer(wish.ticket, Ok(())),
            Err(why) => self.refuse_command(&wish.command, wish.ticket, &why),
        }
    }

    pub(super) fn refuse_command(&mut self, command: &Command, ticket: Option<u64>, why: &str) {
        self.answer(ticket, Err(why.to_owned()));
        let what = match command {
            Command::Remove { member } => format!("remove {member}"),
            Command::Rekey => "rekey".into(),
            Command::SetRecording { on: true } => "set-recording on".into(),
            Command::SetRecording { on: false } => "set-recording off".into(),
            Command::SetPolicy { .. } => "set-policy".into(),
            Command::Resync => "resync".into(),
            Command::Confirm { .. } => "confirm".into(),
        };
        self.counters.refused += 1;
        self.event(Event::Refused {
            what: "command",
            by: self.own.identity().subject.clone(),
            reason: format!("{what}: {why}"),
        });
    }

    /// What protects somebody does not wait.
    pub(super) fn wish_protects(&self) -> bool {
        self.wishes.front().is_some_and(|wish| {
            matches!(
                wish.command,
                Command::Remove { .. } | Command::SetRecording { on: false }
            )
        })
    }

    /// What a command needs; none: it is true already.
    pub(super) fn plan_of(&self, command: &Command) -> Result<Option<Plan>, String> {
        let Some(current) = &self.current else {
            return Ok(None);
        };
        let with = |policy: Policy| {
            (policy != current.policy).then(|| Plan {
                policy: Some(policy),
                ..Plan::default()
            })
        };
        match command {
            Command::Rekey => Ok(Some(Plan::default())),
            Command::SetRecording { on } => Ok(with(current.policy.with_recording(*on))),
            Command::SetPolicy { policy } => Ok(with(policy.apply(&current.policy))),
            Command::Remove { member } => {
                let mut found = current.roster.iter().filter(|(_, leaf)| {
                    leaf.identity.subject == *member || leaf.identity.fingerprint.to_string() == *member
                });
                let (leaf, of) = match (found.next(), found.next()) {
                    (Some(only), None) => only,
                    (None, _) => {
                        return Err("nobody in the room has this id or fingerprint; to keep out a certificate that is \
                                    not in it, change the policy: also_deny=FINGERPRINT"
                            .into());
                    }
                    (Some(_), Some(_)) => {
                        return Err("more than one member has this id: name it by its fingerprint".into());
                    }
                };
                if *leaf == current.own() {
                    return Err("nobody removes itself: stop the pipeline to leave".into());
                }
                Ok(Some(Plan {
                    removes: vec![*leaf],
                    policy: Some(current.policy.with_denied([of.identity.fingerprint])),
                    ..Plan::default()
                }))
            }
            Command::Resync | Command::Confirm { .. } => Ok(None),
        }
    }
}
