//! The request as a file: everything that a custodian needs to judge it, and nothing that is secret.
//!
//! ```json
//! { "version": 1, "proof": "c2sp.org/tlog-proof@v1\n…", "recording": "…", "bundle": "…",
//!   "rewrap": "…", "shares": [ { "name": "shares/001.age", "base64": "…" } ] }
//! ```
//!
//! It has no signature of its own: what is asked is the log's entry in the proof, which the log's key vouches for; the same
//! key signed recording.json, which names the digest of bundle.json and of each share, and rewrap.json, which names those
//! of the custodians of now where the key was wrapped to others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{Asked, NotAsked};
use crate::audit::{InclusionProof, ProofError};
use crate::bundle::{EscrowFacts, FileFacts, STATEMENT_FILE, share_name};
use crate::ids::RecordingId;
use crate::recording::{Facts, Rewrap};
use crate::signing::PublicKey;

/// Longest file, in bytes: a recording.json of the greatest length, 255 shares.
pub const MAX_FILE: u64 = 4 << 20;

/// Longest share file in it, in bytes. Ours have some 600.
const MAX_SHARE: usize = 8 << 10;

/// A request that was read, and not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// That the log has it.
    pub proof: InclusionProof,
    /// recording.json, byte for byte.
    pub recording: String,
    /// bundle.json, byte for byte.
    pub bundle: String,
    /// The last rewrap.json, byte for byte, where the key was wrapped to others since.
    pub rewrap: Option<String>,
    /// The custodians' share files by their numbers, from 1. A station leaves out those that are damaged.
    pub shares: Vec<(u8, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    proof: String,
    recording: String,
    bundle: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rewrap: Option<String>,
    shares: Vec<ShareForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareForm {
    name: String,
    base64: String,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not what `gst-compliance request` writes.
    #[error("is no request for a recording: {0}")]
    Form(String),
    /// Who asks did not log it, or brings another log.
    #[error("is not in the audit log of this key: {0}. Nothing that is not logged there is approved")]
    NotLogged(ProofError),
    /// The entry is another one.
    #[error("has an entry of the log that {0}")]
    NotAsked(#[from] NotAsked),
    /// The recording's facts are not what its recorder signed.
    #[error("has a recording.json that {0}")]
    Facts(String),
    /// The recording belongs to another log.
    #[error(
        "is for a recording that names the audit log with the key {pinned}, and not this one: its accesses must be logged there"
    )]
    AnotherLog {
        /// The log that the recording names.
        pinned: PublicKey,
    },
    /// The recording.json is of another recording than the entry.
    #[error("asks for recording {asked}, and brings the facts of {brought}")]
    AnotherRecording {
        /// In the log.
        asked: RecordingId,
        /// In recording.json.
        brought: RecordingId,
    },
    /// There are recipients, or nobody.
    #[error(
        "is for a recording that is not under escrow: its recipients open it alone (gst-compliance open --identity)"
    )]
    NoEscrow,
    /// bundle.json is not the recording's.
    #[error("has a bundle.json that is not the recording's: {0}")]
    Bundle(String),
    /// rewrap.json is not the recording's.
    #[error("has a rewrap.json that {0}")]
    Rewrap(String),
    /// A share's file was exchanged.
    #[error(
        "has {0} that is not the file that was made for this recording: it is damaged, or of another recording"
    )]
    ShareFile(String),
    /// A share's file is not there.
    #[error("comes without {0}: the opening station found it missing or damaged")]
    NoShare(String),
}

/// A request that the log of this key has, for a recording that names this log.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What is asked.
    pub asked: Asked,
    /// The recording's facts.
    pub facts: Facts,
    /// Who holds its shares.
    pub escrow: EscrowFacts,
    /// The share files that were made for them.
    files: Vec<FileFacts>,
    shares: Vec<(u8, Vec<u8>)>,
}

impl Request {
    /// Writes the file.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let shares = self.shares.iter().map(|(index, bytes)| ShareForm {
            name: share_name(*index),
            base64: STANDARD.encode(bytes),
        });
        let form = Form {
            version: 1,
            proof: self.proof.to_string(),
            recording: self.recording.clone(),
            bundle: self.bundle.clone(),
            rewrap: self.rewrap.clone(),
            shares: shares.collect(),
        };
        let mut bytes = serde_json::to_vec_pretty(&form).map_err(|e| e.to_string())?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MAX_FILE {
            return Err("it is too long".to_owned());
        }
        Ok(bytes)
    }

    /// Reads the file.
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        let unfit = |why: &str| RequestError::Form(why.to_owned());
        if bytes.len() as u64 > MAX_FILE {
            return Err(unfit("it is longer than 4 MiB"));
        }
        let form: Form = serde_json::from_slice(bytes).map_err(|error| unfit(&error.to_string()))?;
        if form.version != 1 {
            let version = form.version;
            return Err(unfit(&format!(
                "it has version {version}; this program reads version 1"
            )));
        }
        let mut shares = Vec::new();
        for share in form.shares {
            let index = (1..=u8::MAX).find(|index| share_name(*index) == share.name);
            let last = shares.last().map_or(0, |(last, _)| *last);
            let index = index
                .filter(|index| *index > last)
                .ok_or_else(|| unfit("its shares are not numbered in order"))?;
            let bytes = STANDARD.decode(share.base64).ok();
            let bytes = bytes
                .filter(|bytes| bytes.len() <= MAX_SHARE)
                .ok_or_else(|| unfit("a share's file is no base64, or too long"))?;
            shares.push((index, bytes));
        }
        let proof =
            InclusionProof::parse(&form.proof).map_err(|error| unfit(&format!("its proof {error}")))?;
        Ok(Self {
            proof,
            recording: form.recording,
            bundle: form.bundle,
            rewrap: form.rewrap,
            shares,
        })
    }

    /// What is asked, where the log of this key has it.
    pub fn asked(&self, log: &PublicKey) -> Result<Asked, RequestError> {
        let (entry, _) = self.proof.verify(log).map_err(RequestError::NotLogged)?;
        Ok(Asked::of(&entry)?)
    }

    /// Checks everything that needs no key: that the log has it, that the recording names that log, and that its facts
    /// and its dealer's statement are about this recording.
    pub fn verify(self, log: &PublicKey) -> Result<Verified, RequestError> {
        let asked = self.asked(log)?;
        let (facts, _) = Facts::decode(self.recording.as_bytes()).map_err(RequestError::Facts)?;
        if facts.log_key != *log {
            let pinned = facts.log_key;
            return Err(RequestError::AnotherLog { pinned });
        }
        if facts.recording != asked.recording {
            return Err(RequestError::AnotherRecording {
                asked: asked.recording,
                brought: facts.recording,
            });
        }
        let statement = self.bundle.as_bytes();
        if !file(&facts.files, STATEMENT_FILE).is_some_and(|file| file.is_of(statement)) {
            let why = "recording.json names another".to_owned();
            return Err(RequestError::Bundle(why));
        }
        facts.is_as_dealt(statement).map_err(RequestError::Bundle)?;
        let (escrow, files) = match &self.rewrap {
            None => (facts.escrow.clone(), facts.files.clone()),
            Some(rewrap) => {
                let rewrap = Rewrap::decode(rewrap.as_bytes(), log).map_err(RequestError::Rewrap)?;
                if rewrap.recording != facts.recording {
                    return Err(RequestError::Rewrap("is of another recording".to_owned()));
                }
                (rewrap.escrow, rewrap.files)
            }
        };
        let escrow = escrow.ok_or(RequestError::NoEscrow)?;
        Ok(Verified {
            asked,
            facts,
            escrow,
            files,
            shares: self.shares,
        })
    }
}

impl Verified {
    /// A custodian's share file, where it is the one that was dealt for this recording.
    pub fn share(&self, index: u8) -> Result<&[u8], RequestError> {
        let name = share_name(index);
        let found = self.shares.iter().find(|(number, _)| *number == index);
        let Some((_, bytes)) = found else {
            return Err(RequestError::NoShare(name));
        };
        if !file(&self.files, &name).is_some_and(|file| file.is_of(bytes)) {
            return Err(RequestError::ShareFile(name));
        }
        Ok(bytes)
    }
}

/// What is said of the file of this name.
pub(super) fn file<'a>(files: &'a [FileFacts], name: &str) -> Option<&'a FileFacts> {
    files.iter().find(|file| file.name == name)
}
