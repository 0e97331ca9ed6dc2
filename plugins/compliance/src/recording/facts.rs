//! `recording.json`: what is known of a recording when it begins, signed.
//!
//! ```json
//! { "recording": "{\"version\":1,…}", "signature": "<128 hex digits>", "attestation": { "certificates": [ … ], "signature": "…" } }
//! ```
//!
//! The facts stand in it as a *string*: exactly these bytes were signed, by the audit log's key and, in a room, by the
//! recorder's certified key too. So a certificate leads to the log's key, and that to every line of the manifest.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::is_plain;
use crate::attestation::{Attestation, PURPOSE};
use crate::bundle::{Bundle, EscrowFacts, FileFacts, STATEMENT_FILE, verify_statement};
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::signing::{PublicKey, Signature, Signer};

/// Longest file, in bytes.
pub const MAX_FILE: u64 = 1 << 20;
/// Longest id of a room or a recorder, in bytes.
pub const MAX_NAME: usize = 256;

/// What the room claimed when the recording began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// The participants, the recorder, and recipients, each alone.
    Recorded,
    /// The participants, the recorder, and custodians together.
    Escrow,
    /// Made without a room: nobody certified the recorder.
    Unattested,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recorded => "recorded",
            Self::Escrow => "escrow",
            Self::Unattested => "unattested",
        })
    }
}

/// The public facts of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Version of this form, and of the whole folder: 1.
    pub version: u32,
    /// Which recording.
    pub recording: RecordingId,
    /// The room, opaque.
    pub room: Option<String>,
    /// The recorder, opaque.
    pub recorder: Option<String>,
    /// The audit log's key, which signs this and the manifest.
    pub log_key: PublicKey,
    /// SHA-256 of the room's policy.
    pub policy: Option<Digest>,
    /// What the room claimed.
    pub claim: Claim,
    /// Reference of the consent, a salted hash.
    pub consent: Option<String>,
    /// When it began, unix time in milliseconds.
    pub started: u64,
    /// Kept for so many days; policy, not law.
    pub retention_days: Option<u32>,
    /// The recording's public key, an age recipient.
    pub public: String,
    /// Fingerprints of who can open it alone.
    pub recipients: Vec<Digest>,
    /// Who can open it together.
    pub escrow: Option<EscrowFacts>,
    /// Who dealt its key.
    pub dealer: PublicKey,
    /// The bundle's files, bundle.json among them.
    pub files: Vec<FileFacts>,
}

/// Signs the facts with the recorder's certified key.
pub type Attest = Box<dyn FnOnce(&[u8]) -> Result<Attestation, String> + Send>;

/// What a recording begins with.
pub struct Start {
    /// Unix time in milliseconds.
    pub time: u64,
    /// The room, opaque.
    pub room: Option<String>,
    /// The recorder, opaque.
    pub recorder: Option<String>,
    /// SHA-256 of the room's policy.
    pub policy: Option<Digest>,
    /// What the room claims.
    pub claim: Claim,
    /// Reference of the consent.
    pub consent: Option<String>,
    /// From the policy.
    pub retention_days: Option<u32>,
    /// In a room: the key source's `sign("recording", …)`. It is given the bytes without the label.
    pub attest: Option<Attest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    recording: String,
    signature: Signature,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attestation: Option<Attestation>,
}

impl Facts {
    /// The facts of a recording that begins, and its file, signed.
    pub(super) fn new(bundle: &Bundle, start: Start, signer: &dyn Signer) -> Result<(Self, Vec<u8>), String> {
        let files = bundle.files().iter();
        let facts = Self {
            version: 1,
            recording: bundle.id(),
            room: start.room,
            recorder: start.recorder,
            log_key: signer.public(),
            policy: start.policy,
            claim: start.claim,
            consent: start.consent,
            started: start.time,
            retention_days: start.retention_days,
            public: bundle.public().to_string(),
            recipients: bundle.recipients().to_vec(),
            escrow: bundle.escrow().cloned(),
            dealer: bundle.dealer(),
            files: files.map(|(name, bytes)| FileFacts::new(name, bytes)).collect(),
        };
        let recording = serde_json::to_string(&facts).map_err(|e| e.to_string())?;
        let signed = Signed {
            signature: signer.sign(PURPOSE, recording.as_bytes()),
            attestation: start
                .attest
                .map(|attest| attest(recording.as_bytes()))
                .transpose()?,
            recording,
        };
        facts.consistent(signed.attestation.is_some())?;
        let mut bytes = serde_json::to_vec_pretty(&signed).map_err(|e| e.to_string())?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MAX_FILE {
            return Err("its facts are too long".to_owned());
        }
        Ok((facts, bytes))
    }

    /// Reads the file; checks the log key's signature and that the facts do not contradict each other. The attestation
    /// is for whoever knows the certificates' authorities: see [`Attestation`], and [`signed`] for what it signs.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Option<Attestation>), String> {
        let signed: Signed = serde_json::from_slice(bytes).map_err(|e| format!("cannot be read: {e}"))?;
        let facts: Self =
            serde_json::from_str(&signed.recording).map_err(|e| format!("cannot be read: {e}"))?;
        if !facts
            .log_key
            .verifies(PURPOSE, signed.recording.as_bytes(), &signed.signature)
        {
            return Err("has not the signature of the audit log key that it names".to_owned());
        }
        facts.consistent(signed.attestation.is_some())?;
        Ok((facts, signed.attestation))
    }

    /// Does the dealer's statement say the same? It is taken from a file that these facts bind.
    pub(crate) fn is_as_dealt(&self, statement: &[u8]) -> Result<(), String> {
        let dealt = verify_statement(statement, self.dealer)?;
        let files = self.files.iter().filter(|file| file.name != STATEMENT_FILE);
        let same = dealt.recording == self.recording
            && dealt.public == self.public
            && dealt.recipients == self.recipients
            && dealt.escrow == self.escrow
            && dealt.files.iter().eq(files);
        if same {
            Ok(())
        } else {
            Err("it is for another recording, key or holders than recording.json says".to_owned())
        }
    }

    fn consistent(&self, attested: bool) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!(
                "has version {}; this program reads version 1",
                self.version
            ));
        }
        let names = [&self.room, &self.recorder, &self.consent];
        if !names.into_iter().flatten().all(|name| is_plain(name, MAX_NAME)) {
            return Err(format!(
                "names a room, recorder or consent with more than {MAX_NAME} plain characters"
            ));
        }
        let holders = match self.claim {
            Claim::Recorded => !self.recipients.is_empty() && self.escrow.is_none(),
            Claim::Escrow => self.recipients.is_empty() && self.escrow.is_some(),
            Claim::Unattested => self.recipients.is_empty() == self.escrow.is_some(),
        };
        if !holders {
            return Err(format!("claims `{}`, and its key is for others", self.claim));
        }
        if attested == (self.claim == Claim::Unattested) {
            return Err(format!(
                "claims `{}`, and {} certified recorder signed it",
                self.claim,
                if attested { "a" } else { "no" }
            ));
        }
        Ok(())
    }

    /// The time in the headers of its tars, unix time in seconds.
    pub(super) fn tar_time(&self) -> u64 {
        self.started / 1000
    }
}

/// What is signed of the file, for the purpose [`PURPOSE`]: by the log's key and, in an [`Attestation`], by the recorder's.
pub fn signed(file: &[u8]) -> Result<Vec<u8>, String> {
    let signed: Signed = serde_json::from_slice(file).map_err(|e| format!("cannot be read: {e}"))?;
    Ok(signed.recording.into_bytes())
}
