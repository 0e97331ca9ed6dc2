//! Key bundles: the public half of one future recording's key, its private half wrapped for others, and the dealer's
//! signature. Made by `gst-compliance keys prepare` where keys are made, used up by the recorder.
//!
//! What must never happen: a bundle is used for two recordings, a private half comes near the recorder (a [`Bundle`]
//! has no place for one), or a key is used that the pinned dealer did not deal. The format is in `RECORDING.md`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use age::x25519::Recipient;

use crate::age_file::recipient;
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::signing::PublicKey;

pub mod dealer;
pub mod holders;
mod prepare;
mod shares;
mod statement;
mod take;

#[cfg(test)]
mod tests;

pub use holders::{Custodian, Escrow, EscrowFacts, Holders, Recipients};
pub use prepare::prepare;
pub(crate) use prepare::wrap;
pub use shares::{Share, ShareError, combine};
pub(crate) use statement::names_fit;
pub use statement::{FileFacts, Statement, share_name};
pub use take::take_next;

/// The signed statement in a bundle.
pub const STATEMENT_FILE: &str = "bundle.json";
/// The identity, wrapped to the recipients.
pub const KEY_FILE: &str = "key.age";
/// The folder of the custodians' shares.
pub const SHARES: &str = "shares";
/// Where bundles go that were taken.
pub const USED: &str = "used";
/// The dealer's public key, beside the bundles.
pub const DEALER_FILE: &str = "dealer.pub";

/// Longest file of a bundle, in bytes: a key wrapped to the most recipients there may be.
pub const MAX_FILE: u64 = 128 * 1024;

/// A bundle that was read and verified. It has public halves only.
#[derive(Debug, Clone)]
pub struct Bundle {
    statement: Statement,
    public: Recipient,
    dealer: PublicKey,
    files: Vec<(String, Vec<u8>)>,
}

/// Why there is no bundle, or why one is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The system refuses.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The directory has no bundle that was not used.
    #[error(
        "{0} has no unused key bundle: make new ones (gst-compliance keys prepare) and copy them there; nothing is recorded without"
    )]
    NoneLeft(PathBuf),
    /// There are bundles, but for others.
    #[error(
        "{path} has {others} unused key bundles, none of them for the recipients or the escrow of this room's policy: prepare bundles for those, or change the policy"
    )]
    NoneFits {
        /// The directory.
        path: PathBuf,
        /// How many are there for others.
        others: usize,
    },
    /// A bundle that is not what its dealer made.
    #[error(
        "the key bundle {path} is refused: {why}. Nothing was taken from it; remove it, and find out who changed it"
    )]
    Refused {
        /// Its folder.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A file of recipients or custodians.
    #[error("{path}, line {line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A file of recipients or custodians, as a whole.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Keys cannot be made.
    #[error("no keys can be made: {0}")]
    Making(String),
}

impl BundleError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }

    fn file(path: &Path, why: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}

impl Bundle {
    /// The recording that it is for.
    pub fn id(&self) -> RecordingId {
        self.statement.recording
    }

    /// The recording's public key.
    pub fn public(&self) -> &Recipient {
        &self.public
    }

    /// Fingerprints of who can open the recording, each alone: SHA-256 of the recipient's text. Empty under escrow.
    pub fn recipients(&self) -> &[Digest] {
        &self.statement.recipients
    }

    /// Who can open it only together.
    pub fn escrow(&self) -> Option<&EscrowFacts> {
        self.statement.escrow.as_ref()
    }

    /// Who made it.
    pub fn dealer(&self) -> PublicKey {
        self.dealer
    }

    /// Its files, byte for byte, with their places in the bundle: `bundle.json` first.
    pub fn files(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }

    /// Reads and verifies a bundle's folder. `dealer`: who must have signed it; none: whoever says so in it.
    pub fn read(folder: &Path, dealer: Option<PublicKey>) -> Result<Self, BundleError> {
        let statement = read_file(folder, STATEMENT_FILE)?;
        let bundle =
            Self::verify(statement, dealer, |name| read_file(folder, name)).map_err(|why| why.at(folder))?;
        bundle.nothing_else(folder)?;
        if folder.file_name().and_then(|name| name.to_str()) != Some(&bundle.id().to_string()) {
            let why = "its folder has not the name of its recording".to_owned();
            return Err(Unfit::Why(why).at(folder));
        }
        Ok(bundle)
    }

    /// Verifies a bundle's statement, and its files as `read` gives them.
    fn verify(
        statement: Vec<u8>,
        dealer: Option<PublicKey>,
        read: impl Fn(&str) -> Result<Vec<u8>, BundleError>,
    ) -> Result<Self, Unfit> {
        let (facts, signer) = Statement::decode(&statement).map_err(Unfit::Why)?;
        if let Some(pinned) = dealer.filter(|pinned| *pinned != signer) {
            return Err(Unfit::Why(format!(
                "{signer} signed it, and not the dealer {pinned}"
            )));
        }
        let public = recipient(&facts.public).map_err(|e| Unfit::Why(format!("its public key {e}")))?;
        let mut files = vec![(STATEMENT_FILE.to_owned(), statement)];
        for file in &facts.files {
            let bytes = read(&file.name).map_err(Unfit::Error)?;
            if !file.is_of(&bytes) {
                let name = &file.name;
                return Err(Unfit::Why(format!(
                    "its {name} is not the file that the dealer signed"
                )));
            }
            files.push((file.name.clone(), bytes));
        }
        Ok(Self {
            statement: facts,
            public,
            dealer: signer,
            files,
        })
    }

    /// Whatever else lies there is no part of it, and would not be noticed later.
    fn nothing_else(&self, folder: &Path) -> Result<(), BundleError> {
        let known: BTreeSet<&str> = self.files.iter().map(|(name, _)| name.as_str()).collect();
        let mut folders = vec![(folder.to_owned(), String::new())];
        while let Some((folder_now, prefix)) = folders.pop() {
            for entry in fs::read_dir(&folder_now).map_err(BundleError::io(&folder_now))? {
                let entry = entry.map_err(BundleError::io(&folder_now))?;
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                let kind = entry.file_type().map_err(BundleError::io(&folder_now))?;
                if kind.is_dir() && name == SHARES && self.escrow().is_some() {
                    folders.push((entry.path(), format!("{name}/")));
                } else if !(kind.is_file() && known.contains(name.as_str())) {
                    return Err(Unfit::Why(format!("{name} is no part of it")).at(folder));
                }
            }
        }
        Ok(())
    }
}

/// Why a bundle does not do, before it is known where it lies.
enum Unfit {
    Why(String),
    Error(BundleError),
}

impl Unfit {
    fn at(self, folder: &Path) -> BundleError {
        match self {
            Self::Error(error) => error,
            Self::Why(why) => BundleError::Refused {
                path: folder.to_owned(),
                why,
            },
        }
    }
}

/// Reads one file of a bundle: a regular one, and never more than [`MAX_FILE`].
fn read_file(folder: &Path, name: &str) -> Result<Vec<u8>, BundleError> {
    let path = folder.join(name);
    read_bounded(&path, MAX_FILE).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::NotFound if folder.is_dir() => {
            let what = match error.kind() {
                io::ErrorKind::NotFound => "is missing",
                _ => "is too long, or no regular file",
            };
            Unfit::Why(format!("its {name} {what}")).at(folder)
        }
        _ => BundleError::io(&path)(error),
    })
}

/// Reads a regular file of at most so many bytes; `InvalidData` where it is something else.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(bytes)
}

/// Verifies the bundle's files in a recording, where the statement says the same as recording.json.
pub(crate) fn verify_statement(statement: &[u8], dealer: PublicKey) -> Result<Statement, String> {
    let (facts, signer) = Statement::decode(statement)?;
    if signer != dealer {
        return Err(format!("{signer} signed it, and not the dealer {dealer}"));
    }
    Ok(facts)
}
