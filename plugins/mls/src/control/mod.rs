//! The control socket: how a second shell reaches a room whose pipeline runs in `gst-launch-1.0`.
//!
//! A Unix stream socket. The client writes one JSON object per line, at most 64 KiB, and gets one line back for each:
//!
//! ```text
//! {"command":"status"}                          {"ok":{"state":"ready","epoch":12,...}}
//! {"command":"set-recording","on":true}         {"ok":null}
//! {"command":"remove","member":"p-7f3a"}        {"error":"there is no member p-7f3a"}
//! {"command":"codes","member":"p-7f3a"}         {"ok":{"epoch":12,"epoch_code":"...","pair":{...}}}
//! {"command":"posture","nonce":"anything"}      {"ok":{"posture":"...","signature":"...","certificates":[...]}}
//! {"command":"delivery"}                        {"ok":"sqlite:"}
//! ```
//!
//! Who may open the socket may command the room, so it is there for its own user and root only, by the mode of the
//! file and by the credentials of the peer. It never carries a key. A client that is slow, floods or speaks nonsense
//! loses its connection and nothing else happens.

mod client;
mod listen;
mod peer;
mod server;

pub use client::{ControlError, ask};
pub use listen::StartError;
pub use server::{ControlServer, Handler};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::room::Command;

/// Longest request, in bytes with its newline.
pub const MAX_REQUEST: usize = 64 << 10;

/// Longest reply that a client takes, in bytes. The status of 1000 members has some 300 kB.
pub const MAX_REPLY: usize = 4 << 20;

/// Longest error sentence, in characters: what came from outside may be quoted in it.
const MAX_SENTENCE: usize = 500;

/// What a client may ask. In JSON, the field `command` says which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Request {
    /// Change the room.
    Room(Command),
    /// Tell something about it.
    Ask(Query),
}

/// Questions, which change nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Query {
    /// The room as this endpoint sees it; answered with a [`crate::room::Status`].
    Status,
    /// The epoch's code, and with a member (subject id or fingerprint) the pair code; answered with [`Codes`].
    Codes {
        /// Subject id or fingerprint of another member.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member: Option<String>,
    },
    /// A posture report made now; answered with the signed report.
    Posture {
        /// What the verifier wants to find in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nonce: Option<String>,
    },
    /// How the room's messages are carried; answered with the value of the property `delivery`, as text.
    Delivery,
}

/// Answer to [`Query::Codes`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codes {
    /// Epoch that the code belongs to.
    pub epoch: u64,
    /// Its 30 digits.
    pub epoch_code: String,
    /// The pair code with the member that was asked for.
    pub pair: Option<PairCode>,
}

/// The code that this endpoint and another member have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCode {
    /// Subject id of the other member.
    pub member: String,
    /// SHA-256 of the other member's certificate, hex.
    pub fingerprint: String,
    /// The 45 digits.
    pub code: String,
}

/// What comes back: `{"ok":...}` or `{"error":"sentence"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done, or this is the answer.
    Ok(Value),
    /// It was not done; a sentence for a person says why.
    Error(String),
}

impl Reply {
    /// The reply to a command that was carried out.
    pub fn done() -> Self {
        Self::Ok(Value::Null)
    }

    /// An answer.
    pub fn answer(value: &impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => Self::Ok(value),
            Err(_) => Self::error("the answer cannot be written as JSON"),
        }
    }

    /// A refusal with its reason; a longer one than a person would read is cut.
    pub fn error(sentence: impl ToString) -> Self {
        Self::Error(sentence.to_string().chars().take(MAX_SENTENCE).collect())
    }

    /// Its line.
    fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self)
            .unwrap_or_else(|_| br#"{"error":"the reply cannot be written"}"#.to_vec());
        line.push(b'\n');
        line
    }
}

impl Request {
    /// Reads a request; the error is a sentence for whoever wrote it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line).map_err(|e| format!("this is not JSON: {e}"))?;
        let Some(command) = value.get("command").and_then(Value::as_str) else {
            return Err(format!(
                "a request is an object with a field \"command\": one of {}",
                names()
            ));
        };
        let read = if QUERIES.contains(&command) {
            serde_json::from_value(value.clone()).map(Self::Ask)
        } else if COMMANDS.contains(&command) {
            serde_json::from_value(value.clone()).map(Self::Room)
        } else {
            return Err(format!("there is no command {command:?}; there are {}", names()));
        };
        read.map_err(|e| format!("command {command:?}: {e}"))
    }

    /// Its line.
    fn line(&self) -> Vec<u8> {
        // A request consists of strings, numbers and lists: it can always be written.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// Names of [`Query`] and of [`Command`], for choosing between them and for telling somebody.
const QUERIES: [&str; 4] = ["status", "codes", "posture", "delivery"];
const COMMANDS: [&str; 6] = [
    "remove",
    "rekey",
    "set-recording",
    "set-policy",
    "resync",
    "confirm",
];

fn names() -> String {
    [&QUERIES[..], &COMMANDS[..]].concat().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn requests() -> Vec<(Value, Request)> {
        let text = |s: &str| Some(s.to_string());
        vec![
            (json!({"command": "status"}), Request::Ask(Query::Status)),
            (
                json!({"command": "codes"}),
                Request::Ask(Query::Codes { member: None }),
            ),
            (
                json!({"command": "codes", "member": "p-1"}),
                Request::Ask(Query::Codes { member: text("p-1") }),
            ),
            (
                json!({"command": "posture"}),
                Request::Ask(Query::Posture { nonce: None }),
            ),
            (
                json!({"command": "posture", "nonce": "n"}),
                Request::Ask(Query::Posture { nonce: text("n") }),
            ),
            (json!({"command": "delivery"}), Request::Ask(Query::Delivery)),
            (
                json!({"command": "remove", "member": "p-1"}),
                Request::Room(Command::Remove {
                    member: "p-1".to_string(),
                }),
            ),
            (json!({"command": "rekey"}), Request::Room(Command::Rekey)),
            (
                json!({"command": "set-recording", "on": true}),
                Request::Room(Command::SetRecording { on: true }),
            ),
            (
                json!({"command": "set-policy", "policy": {}}),
                Request::Room(Command::SetPolicy {
                    policy: Box::default(),
                }),
            ),
            (json!({"command": "resync"}), Request::Room(Command::Resync)),
            (
                json!({"command": "confirm", "member": "p-1", "code": "1 2"}),
                Request::Room(Command::Confirm {
                    member: text("p-1"),
                    code: "1 2".to_owned(),
                }),
            ),
        ]
    }

    #[test]
    fn every_request_is_read_as_documented() {
        for (value, request) in requests() {
            assert_eq!(
                Request::parse(value.to_string().as_bytes()),
                Ok(request),
                "{value}"
            );
        }
    }

    #[test]
    fn what_the_client_writes_the_server_reads() {
        for (_, request) in requests() {
            let line = request.line();
            assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
            assert_eq!(Request::parse(&line), Ok(request));
        }
    }

    #[test]
    fn a_wrong_request_is_told_what_is_wrong() {
        for (line, expected) in [
            ("", "not JSON"),
            ("status", "not JSON"),
            ("[]", "field \"command\""),
            ("{}", "field \"command\""),
            (r#"{"command":7}"#, "one of status, codes"),
            (
                r#"{"command":"open-sesame"}"#,
                "no command \"open-sesame\"; there are status",
            ),
            (r#"{"command":"remove"}"#, "missing field `member`"),
            (r#"{"command":"set-recording","on":"yes"}"#, "expected a boolean"),
            (r#"{"command":"codes","membr":"p-1"}"#, "unknown field `membr`"),
            (
                r#"{"command":"set-policy","policy":{"clam":"strict"}}"#,
                "unknown field `clam`",
            ),
        ] {
            let error = Request::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn every_command_of_the_room_has_its_name_here() {
        // A command that is added to the room must be added to the names.
        let known = Request::parse(br#"{"command":"\u0000"}"#).unwrap_err();
        let error = serde_json::from_value::<Command>(json!({"command": "\0"})).unwrap_err();
        for name in error.to_string().split('`').skip(3).step_by(2) {
            assert!(known.contains(name), "{name}");
        }
    }

    #[test]
    fn a_deep_or_quoted_request_costs_nothing() {
        let deep = [vec![b'['; 60_000], vec![b']'; 60_000]].concat();
        assert!(Request::parse(&deep).is_err());
        let quoted = format!(r#"{{"command":"{}"}}"#, "x".repeat(60_000));
        let Reply::Error(sentence) = Reply::error(Request::parse(quoted.as_bytes()).unwrap_err()) else {
            panic!("it is an error");
        };
        assert_eq!(sentence.len(), MAX_SENTENCE);
    }

    #[test]
    fn replies_are_ok_or_error() {
        assert_eq!(Reply::done().line(), b"{\"ok\":null}\n");
        assert_eq!(Reply::answer(&[1, 2]).line(), b"{\"ok\":[1,2]}\n");
        assert_eq!(Reply::error("no").line(), b"{\"error\":\"no\"}\n");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(sentence) = Request::parse(&bytes) {
                prop_assert!(!sentence.is_empty());
            }
        }
    }
}
