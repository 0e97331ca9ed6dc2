//! A report's signature, its file and its verification, which needs nothing but the file, the roots and a clock.
//!
//! The file is one JSON object:
//!
//! ```json
//! { "posture": "{\"version\":1,…}", "signature": "<128 hex digits>", "certificates": ["-----BEGIN CERTIFICATE…", …] }
//! ```
//!
//! The report stands in it as a *string*: exactly these bytes were signed, so that nobody, in no language, has to bring
//! JSON into a canonical form before a signature can be checked. `jq -r .posture FILE` prints it. The signature is
//! Ed25519 (RFC 8032) over `gst-e2ee posture v1`, a zero byte and these bytes; the certificates are the signer's chain,
//! its own first, the root last.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::{Options, PostureError, Report, Signer};
use crate::identity::{Fingerprint, OwnIdentity, content, from_pem, verify as verify_chain};
use crate::room::Status;

/// Longest file, in bytes: some 4000 members.
pub const MAX_FILE: usize = 2 << 20;

/// What is signed begins with this: a signature for another purpose is none for this one.
const LABEL: &[u8] = b"gst-e2ee posture v1\0";

/// How far a report's making may lie in a verifier's future, in seconds.
const SKEW: u64 = 300;

/// A report with its signature, as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The report's bytes.
    pub posture: String,
    /// Ed25519, hex.
    pub signature: String,
    /// PEM, the signer's first, the root last.
    pub certificates: Vec<String>,
}

/// What a verifier brings with it.
#[derive(Debug, Clone, Copy)]
pub struct Verifier<'a> {
    /// The authorities that it trusts.
    pub roots: &'a [Fingerprint],
    /// Unix time in seconds.
    pub now: u64,
    /// The nonce that the report must carry; none: any, or none.
    pub nonce: Option<&'a str>,
    /// Name of the room that it must be about; none: any.
    pub room: Option<&'a str>,
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be written: {error}")]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub error: io::Error,
}

impl Signed {
    /// Makes a report of what holds now and signs it.
    pub fn new(status: &Status, own: &OwnIdentity, options: &Options) -> Result<Self, PostureError> {
        Self::sign(&Report::new(status, own.identity(), options)?, own)
    }

    fn sign(report: &Report, own: &OwnIdentity) -> Result<Self, PostureError> {
        let unreadable = |what: &str| PostureError::Unreadable(what.to_owned());
        let posture = String::from_utf8(report.encode()).map_err(|_| unreadable("not UTF-8"))?;
        let certificates = own
            .certificates_pem()
            .map_err(|_| unreadable("the own certificates cannot be written"))?;
        Ok(Self {
            signature: hex::encode(own.sign(&signed_bytes(&posture))),
            posture,
            certificates,
        })
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Cannot fail: strings in a structure.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads a file's bytes, and verifies nothing.
    pub fn decode(bytes: &[u8]) -> Result<Self, PostureError> {
        if bytes.len() > MAX_FILE {
            return Err(PostureError::Unreadable(format!("more than {MAX_FILE} bytes")));
        }
        serde_json::from_slice(bytes).map_err(|e| PostureError::Unreadable(e.to_string()))
    }

    /// The report inside, whoever wrote it: consistent in itself, and nothing more is known.
    pub fn unverified(&self) -> Result<Report, PostureError> {
        Report::decode(self.posture.as_bytes())
    }

    /// Checks chain, signature, signer, consistency, times, nonce and room.
    pub fn verify(&self, verifier: &Verifier) -> Result<Report, PostureError> {
        let chain = content(&from_pem(&self.certificates)?)?;
        let identity = verify_chain(&chain, verifier.roots, verifier.now)?;
        let signature = hex::decode(&self.signature).map_err(|_| PostureError::Signature)?;
        UnparsedPublicKey::new(&ED25519, identity.public_key)
            .verify(&signed_bytes(&self.posture), &signature)
            .map_err(|_| PostureError::Signature)?;
        let report = self.unverified()?;
        if report.signer != Signer::new(&identity) {
            return Err(PostureError::AnotherSigner);
        }
        if report.issued_at > verifier.now.saturating_add(SKEW) {
            return Err(PostureError::Future);
        }
        if verifier.now > report.expires_at {
            return Err(PostureError::Expired);
        }
        if !(identity.not_before..=identity.not_after).contains(&report.issued_at) {
            return Err(PostureError::Contradiction(
                "it was made when its signer's certificate was not valid",
            ));
        }
        if verifier
            .nonce
            .is_some_and(|nonce| report.nonce.as_deref() != Some(nonce))
        {
            return Err(PostureError::Nonce);
        }
        if verifier.room.is_some_and(|name| !report.room.is_of(name)) {
            return Err(PostureError::AnotherRoom);
        }
        Ok(report)
    }

    /// Puts the file in place of the one before, so that a reader finds one or the other and never a part. Everybody
    /// may read it (0644).
    pub fn write_atomically(&self, path: &Path) -> Result<(), WriteError> {
        write_atomically(path, &self.encode()).map_err(|error| WriteError {
            path: path.to_owned(),
            error,
        })
    }
}

/// Verifies the bytes of a report's file; see [`Signed::verify`].
pub fn verify(bytes: &[u8], verifier: &Verifier) -> Result<Report, PostureError> {
    Signed::decode(bytes)?.verify(verifier)
}

fn signed_bytes(posture: &str) -> Vec<u8> {
    [LABEL, posture.as_bytes()].concat()
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    /// Two keyrings of one process may have been given the same file.
    static COUNT: AtomicU64 = AtomicU64::new(0);

    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("it names no file"))?
        .to_string_lossy();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".{name}.{}-{count}.tmp", std::process::id()));
    // One that a killed process with this id left behind.
    if let Err(e) = fs::remove_file(&temporary)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The new name stays after a power cut, too.
    File::open(folder)?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    // Whatever the umask is.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.sync_all()
}
