//! Recordings and the audit log in an S3-compatible store, beside the local folder that they are written to first.
//!
//! The recorder writes as it always does; the folder is the *spool*. A [`Mirror`] follows it on a thread of its own and
//! puts what is sealed there into the store, in pieces that are never written twice: what stands in a store under a
//! retention lock cannot be, and two that write at the same time must not overwrite each other. The layout is written
//! down in `RECORDING.md`. Knows no GStreamer.
//!
//! What must never happen: a line of a manifest is in the store before the members that it names, an entry of the log
//! before the manifest that it speaks of (but where the store refuses that again and again), or media leaves the spool
//! before all of it was read back from the store and compared.

use std::io;
use std::path::{Path, PathBuf};

mod access;
mod address;
mod bucket;
mod compare;
mod fetch;
mod http;
mod layout;
mod log;
mod mirror;
mod profile;
mod remove;
mod signed;
mod spool;
mod status;
mod stored;
mod upload;

pub use access::Access;
pub use address::Address;
pub use bucket::{Bucket, Lock, LockMode};
pub use fetch::{Finding, fetch_log, fetch_recording, pieces_of, size};
pub use mirror::{Mirror, Options};
pub use remove::Removed;
pub use spool::{Receipt, spool_of, spool_with};
pub use status::{State, Status};
pub use stored::{Stored, recordings};

/// Why something is not in the store, or not out of it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What was configured cannot be meant.
    #[error("{0}")]
    Configuration(String),
    /// It cannot be reached, or has trouble of its own. It passes.
    #[error("the store cannot be reached: {0}")]
    Away(String),
    /// It does not do what it was asked, until somebody changes something.
    #[error("the store refuses {what}: {error}. Check the credentials, the bucket and what they permit")]
    Refused {
        /// What it was asked for.
        what: String,
        /// What it says.
        error: String,
    },
    /// Something else is there.
    #[error(
        "{0} is in the store already, and is another one than here: nothing was overwritten. Find out who else writes \
         there, and give this recorder a prefix of its own"
    )]
    Conflict(String),
    /// It is not there.
    #[error("{0} is not in the store")]
    Missing(String),
    /// Locked for so long.
    #[error(
        "{name} cannot be removed: it is under a retention lock of the store, or you may not remove it ({error})"
    )]
    Locked {
        /// What was to be removed.
        name: String,
        /// What the store says.
        error: String,
    },
    /// The local side.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What is to be uploaded is not whole.
    #[error("{0}")]
    Damaged(String),
}

/// Waits for what is asked of a store, for programs that do nothing else meanwhile.
pub fn wait<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| StoreError::Configuration(format!("no connection can be made: {error}")))?;
    runtime.block_on(asked)
}

impl StoreError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }
}
