//! `gst-mls room`: a room whose pipeline runs, through the control socket of its mlskeyring.

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use gstmls::control::{Codes, PairCode, Query, Reply, Request, ask};
use gstmls::room::{Command, Member, Status};
use gstmls::text::{columns, date, harmless, plural, roles, word};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::change;
use crate::output::{print, print_json};

/// Look at or command a room whose pipeline runs, through the control-socket of its mlskeyring.
#[derive(Debug, clap::Subcommand)]
pub enum Room {
    /// Show the room as this endpoint sees it: state, epoch, claim, recording, members.
    Status {
        /// Print everything for a program, as one line of JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Say in the group that recording is on or off. Off is a promise of the recorder: to be sure, remove it.
    SetRecording {
        /// The new state.
        state: OnOff,
        #[command(flatten)]
        target: Target,
    },
    /// Change the room's policy. What is not named stays as it is.
    ///
    /// Examples (a file holds a JSON object with the fields to change; -: standard input):
    ///
    ///   gst-mls room set-policy change.json --socket S
    ///   gst-mls room set-policy claim=recorded --socket S
    ///   gst-mls room set-policy retention_days=365 recipients=FINGERPRINT,FINGERPRINT --socket S
    ///   gst-mls room set-policy also_deny=FINGERPRINT --socket S
    ///   gst-mls room set-policy 'rights.recording=["dr-weber"]' consent=null --socket S
    #[command(verbatim_doc_comment)]
    SetPolicy {
        /// A file, or fields of the policy with their new values.
        #[arg(required = true, value_name = "FILE|KEY=VALUE")]
        change: Vec<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Remove a member, and deny its certificate from now on.
    Remove {
        /// Its subject id or the fingerprint of its certificate, as `status` prints them.
        member: String,
        #[command(flatten)]
        target: Target,
    },
    /// Renew the keys of everybody, by a commit of this endpoint.
    Rekey {
        #[command(flatten)]
        target: Target,
    },
    /// Leave the log behind and join again, where this endpoint cannot follow it any more.
    Resync {
        #[command(flatten)]
        target: Target,
    },
    /// Show codes to compare by voice or eye to eye: an epoch code is equal on all members' screens, a pair code on two.
    ///
    /// Unequal codes: somebody is in between, or sees another room.
    Codes {
        /// Subject id or fingerprint of one member; without it, the pair codes with all members (each takes a moment).
        member: Option<String>,
        /// Print them for a program, as one line of JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Say that people compared a code, and it was equal: the posture report and the status then say `verified`.
    ///
    /// Nothing changes in the group. It holds until the pipeline stops, for these certificates: whoever joins is not verified.
    Confirm {
        /// The code as the OTHERS read it out, digits with or without spaces: the epoch's, read by all members, or with
        /// --member the pair code.
        #[arg(required = true, value_name = "DIGITS")]
        code: Vec<String>,
        /// Subject id or fingerprint of the member that the pair code is with.
        #[arg(long, value_name = "MEMBER")]
        member: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OnOff {
    On,
    Off,
}

/// Which room.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// The control-socket of the mlskeyring in the running pipeline.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
}

impl Target {
    fn ask(&self, request: &Request) -> Result<Value, Box<dyn Error>> {
        match ask(&self.socket, request)? {
            Reply::Ok(answer) => Ok(answer),
            Reply::Error(sentence) => Err(harmless(&sentence).into()),
        }
    }

    pub fn answer<T: DeserializeOwned>(&self, query: Query) -> Result<T, Box<dyn Error>> {
        let answer = self.ask(&Request::Ask(query))?;
        serde_json::from_value(answer).map_err(|_| {
            let socket = self.socket.display();
            format!(
                "the keyring at {socket} gave an answer that is not understood: is it of another version?"
            )
            .into()
        })
    }

    fn command(&self, command: Command) -> Result<(), Box<dyn Error>> {
        match self.ask(&Request::Room(command))? {
            Value::String(text) => print(&format!("{}\n", harmless(&text))),
            _ => print("done\n"),
        }
    }
}

impl Room {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Status { json: true, target } => print_json(&target.ask(&Request::Ask(Query::Status))?),
            Self::Status { json: false, target } => print(&for_people(&target.answer(Query::Status)?)),
            Self::SetRecording { state, target } => target.command(Command::SetRecording {
                on: matches!(state, OnOff::On),
            }),
            Self::SetPolicy { change, target } => {
                let policy = Box::new(change::read(&change)?);
                target.command(Command::SetPolicy { policy })
            }
            Self::Remove { member, target } => target.command(Command::Remove { member }),
            Self::Rekey { target } => target.command(Command::Rekey),
            Self::Resync { target } => target.command(Command::Resync),
            Self::Codes { member, json, target } => codes(&target, member, json),
            Self::Confirm { code, member, target } => target.command(Command::Confirm {
                member,
                code: code.concat(),
            }),
        }
    }
}

/// The epoch's code, and the pair code with one member or with each.
fn codes(target: &Target, member: Option<String>, json: bool) -> Result<(), Box<dyn Error>> {
    let one = member.is_some();
    let first: Codes = target.answer(Query::Codes { member })?;
    if !json {
        // What is there is shown: the pair codes of a large room take a while.
        let code = harmless(&first.epoch_code);
        print(&format!("epoch {}  {code}\n", first.epoch))?;
    }
    let mut pairs: Vec<PairCode> = first.pair.into_iter().collect();
    if !one {
        let status: Status = target.answer(Query::Status)?;
        for other in status.members.into_iter().filter(|member| !member.own) {
            let member = Some(other.fingerprint);
            pairs.extend(target.answer::<Codes>(Query::Codes { member })?.pair);
        }
    }
    if json {
        return print_json(&json!({"epoch": first.epoch, "epoch_code": first.epoch_code, "pairs": pairs}));
    }
    let rows: Vec<_> = pairs
        .iter()
        .map(|pair| ["with", &pair.member, &pair.code].map(harmless))
        .collect();
    print(&columns(&rows))
}

/// The room for a person.
fn for_people(status: &Status) -> String {
    let mut text = String::new();
    for (name, value) in facts(status) {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name:<11}{}", harmless(&value));
    }
    let _ = writeln!(text, "\n{}", plural(status.members.len(), "member"));
    if !status.members.is_empty() {
        let mut table = vec![["leaf", "id", "roles", "operator", "certificate (SHA-256)"].map(str::to_owned)];
        table.extend(status.members.iter().map(row));
        text.push_str(&columns(&table));
    }
    text
}

fn facts(status: &Status) -> Vec<(&'static str, String)> {
    let mut facts = vec![("room", status.room.clone()), ("state", word(&status.state))];
    if let Some(policy) = &status.policy {
        let accepted = if status.accepted {
            "accepted"
        } else {
            "NOT accepted, nothing is sent"
        };
        let on = if policy.recording { "ON" } else { "off" };
        let since = status
            .recording_since
            .map_or_else(String::new, |at| format!(" since {}", date(at)));
        facts.extend([
            ("group", status.group_id.clone()),
            ("epoch", format!("{}, code {}", status.epoch, status.epoch_code)),
            (
                "claim",
                format!(
                    "{} (this endpoint accepts {}: {accepted})",
                    policy.claim, status.accept
                ),
            ),
            ("recording", format!("{on}{since}")),
        ]);
        let verified = if status.verified {
            "yes: people compared codes with everybody"
        } else {
            "no: compare codes (room codes), then say so (room confirm)"
        };
        facts.push(("verified", verified.to_owned()));
        facts.extend(policy.consent.iter().map(|consent| ("consent", consent.clone())));
        facts.extend(policy.retention_days.map(|days| ("kept", format!("{days} days"))));
        facts.extend(policy.recipients.iter().map(|r| ("recipient", r.to_string())));
        facts.extend(policy.escrow.as_ref().map(|escrow| {
            let (m, n, keys) = (escrow.m, escrow.n, escrow.fingerprint);
            ("escrow", format!("any {m} of {n} custodians together ({keys})"))
        }));
        facts.push(("policy", status.policy_digest.clone()));
    }
    let counters = &status.counters;
    facts.extend([
        (
            "commits",
            format!(
                "{} of others, {} own, {} lost their race",
                counters.commits_merged, counters.commits_won, counters.commits_lost
            ),
        ),
        (
            "trouble",
            format!(
                "{} refused, {} malformed, {} resyncs",
                counters.refused, counters.malformed, counters.resyncs
            ),
        ),
    ]);
    facts
}

fn row(member: &Member) -> [String; 5] {
    let own = if member.own { " (this endpoint)" } else { "" };
    [
        member.leaf.to_string(),
        harmless(&format!("{}{own}", member.id)),
        roles(&member.roles),
        harmless(member.operator.as_deref().unwrap_or("-")),
        harmless(&member.fingerprint),
    ]
}
