//! A custodian's decision as a file: yes, with the own share sealed to the station of this one request, or no. Signed.
//!
//! ```json
//! { "decision": "{\"version\":1,…}", "signature": "<128 hex digits>" }
//! ```
//!
//! The decision stands in it as a *string*: exactly these bytes were signed. It names its custodian; which key that is the
//! file of custodians says, whose fingerprint is in the recording.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Asked;
use super::custodian::{CustodianKey, KeyError};
use crate::age_file::{self, SealError};
use crate::audit::{Id, Text};
use crate::bundle::holders::fingerprint;
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::signing::{PublicKey, Signature};

/// Longest file, in bytes.
pub const MAX_FILE: u64 = 32 << 10;

/// What the signature is for.
const PURPOSE: &str = "custodian";

/// What a custodian decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    version: u32,
    /// The request's id.
    pub access: Id,
    /// SHA-256 of the request's entry in the log.
    pub request: Digest,
    /// The recording.
    pub recording: RecordingId,
    /// Who decided: the fingerprint of the custodian's recipient.
    pub custodian: Digest,
    /// When, by the custodian's clock: unix time in milliseconds.
    pub time: u64,
    /// What.
    pub verdict: Verdict,
}

/// Yes or no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verdict {
    /// Here is the share.
    Approve {
        /// Its number, from 1.
        share: u8,
        /// An age file for the station, base64: the request's digest, a line feed, and the share's plaintext.
        sealed: String,
    },
    /// No.
    Deny {
        /// Why. It stands in the log for good.
        reason: Text,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    decision: String,
    signature: Signature,
}

/// A decision that was read, and whose signature nobody checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    said: String,
    decision: Decision,
    signature: Signature,
}

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The custodian's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The share cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It cannot be written.
    #[error("the decision cannot be written: {0}")]
    Form(String),
}

/// What a share is sealed with: it opens in no other request.
pub(super) fn bound(request: &Digest, share: &[u8]) -> Zeroizing<Vec<u8>> {
    // Sized once: a vector that grows leaves its old bytes behind.
    let mut text = Zeroizing::new(Vec::with_capacity(65 + share.len()));
    text.extend_from_slice(request.to_string().as_bytes());
    text.push(b'\n');
    text.extend_from_slice(share);
    text
}

/// Yes: gives the own share to the station of this request.
pub fn approve(
    asked: &Asked,
    index: u8,
    share: &[u8],
    key: &dyn CustodianKey,
    time: u64,
) -> Result<Vec<u8>, DecideError> {
    let sealed = age_file::seal([&asked.station], &bound(&asked.digest, share), 0)?;
    let verdict = Verdict::Approve {
        share: index,
        sealed: STANDARD.encode(sealed),
    };
    sign(asked, verdict, key, time)
}

/// No.
pub fn deny(asked: &Asked, reason: Text, key: &dyn CustodianKey, time: u64) -> Result<Vec<u8>, DecideError> {
    sign(asked, Verdict::Deny { reason }, key, time)
}

fn sign(asked: &Asked, verdict: Verdict, key: &dyn CustodianKey, time: u64) -> Result<Vec<u8>, DecideError> {
    let form = |error: serde_json::Error| DecideError::Form(error.to_string());
    let decision = Decision {
        version: 1,
        access: asked.access.clone(),
        request: asked.digest,
        recording: asked.recording,
        custodian: fingerprint(key.recipient()),
        time,
        verdict,
    };
    let decision = serde_json::to_string(&decision).map_err(form)?;
    let signed = Signed {
        signature: key.sign(PURPOSE, decision.as_bytes())?,
        decision,
    };
    let mut bytes = serde_json::to_vec_pretty(&signed).map_err(form)?;
    bytes.push(b'\n');
    Ok(bytes)
}

impl Unverified {
    /// Reads the file.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > MAX_FILE {
            return Err("it is too long".to_owned());
        }
        let signed: Signed = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let decision: Decision = serde_json::from_str(&signed.decision).map_err(|error| error.to_string())?;
        if decision.version != 1 {
            let version = decision.version;
            return Err(format!("it has version {version}; this program reads version 1"));
        }
        Ok(Self {
            said: signed.decision,
            decision,
            signature: signed.signature,
        })
    }

    /// What it says, whoever wrote it.
    pub fn unverified(&self) -> &Decision {
        &self.decision
    }

    /// What it says, where this key signed it.
    pub fn by(&self, key: &PublicKey) -> Option<&Decision> {
        key.verifies(PURPOSE, self.said.as_bytes(), &self.signature)
            .then_some(&self.decision)
    }
}
