//! `bundle.json`: what the dealer states and signs of a bundle.
//!
//! ```json
//! { "bundle": "{\"version\":1,…}", "dealer": "<64 hex digits>", "signature": "<128 hex digits>" }
//! ```
//!
//! The statement stands in it as a *string*: exactly these bytes were signed, so that nobody has to bring JSON into a
//! canonical form before a signature can be checked.

use serde::{Deserialize, Serialize};

use super::holders::{EscrowFacts, MAX_RECIPIENTS};
use super::{KEY_FILE, SHARES};
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::signing::{PublicKey, Signature, Signer};

/// What the signature is for.
const PURPOSE: &str = "bundle";

/// What a dealer states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Version of this form: 1.
    pub version: u32,
    /// The recording that the key is for.
    pub recording: RecordingId,
    /// Its public key, an age recipient.
    pub public: String,
    /// Fingerprints of who can open alone, sorted; empty under escrow.
    pub recipients: Vec<Digest>,
    /// Who can open together; null where there are recipients.
    pub escrow: Option<EscrowFacts>,
    /// The files beside this one: `key.age`, or `shares/001.age` to `shares/<N>.age`.
    pub files: Vec<FileFacts>,
}

/// A file that is bound by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Where it lies in the bundle's folder.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Of all of it.
    pub sha256: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    bundle: String,
    dealer: PublicKey,
    signature: Signature,
}

impl FileFacts {
    /// Facts of this file.
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            bytes: bytes.len() as u64,
            sha256: Digest::of(bytes),
        }
    }

    /// Is it this file?
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        self.bytes == bytes.len() as u64 && self.sha256 == Digest::of(bytes)
    }
}

/// The place of a custodian's share: the index is counted from 1.
pub fn share_name(index: u8) -> String {
    format!("{SHARES}/{index:03}.age")
}

/// Are these files those of a key that is for these holders?
pub(crate) fn names_fit(recipients: &[Digest], escrow: Option<&EscrowFacts>, files: &[FileFacts]) -> bool {
    let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    match escrow {
        None => {
            (1..=MAX_RECIPIENTS).contains(&recipients.len())
                && recipients.is_sorted_by(|a, b| a < b)
                && names == [KEY_FILE]
        }
        Some(escrow) => {
            recipients.is_empty()
                && (1..=escrow.n).contains(&escrow.m)
                && names == (1..=escrow.n).map(share_name).collect::<Vec<_>>()
        }
    }
}

impl Statement {
    /// Signs it and writes the file.
    pub fn encode(&self, dealer: &dyn Signer) -> Result<Vec<u8>, String> {
        let bundle = serde_json::to_string(self).map_err(|e| e.to_string())?;
        let signed = Signed {
            signature: dealer.sign(PURPOSE, bundle.as_bytes()),
            dealer: dealer.public(),
            bundle,
        };
        let mut bytes = serde_json::to_vec_pretty(&signed).map_err(|e| e.to_string())?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the file, checks its signature against the key that it names, and that it is consistent in itself.
    pub fn decode(bytes: &[u8]) -> Result<(Self, PublicKey), String> {
        let signed: Signed =
            serde_json::from_slice(bytes).map_err(|e| format!("its bundle.json cannot be read: {e}"))?;
        if !signed
            .dealer
            .verifies(PURPOSE, signed.bundle.as_bytes(), &signed.signature)
        {
            return Err("its bundle.json has not the signature of the dealer that it names".to_owned());
        }
        let statement: Self = serde_json::from_str(&signed.bundle)
            .map_err(|e| format!("its bundle.json cannot be read: {e}"))?;
        statement.consistent()?;
        Ok((statement, signed.dealer))
    }

    fn consistent(&self) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!(
                "it has version {}; this program reads version 1",
                self.version
            ));
        }
        if !names_fit(&self.recipients, self.escrow.as_ref(), &self.files) {
            return Err("its recipients, its escrow and its files contradict each other".to_owned());
        }
        Ok(())
    }
}
