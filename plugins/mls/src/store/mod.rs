//! What an endpoint keeps over a restart: its MLS state, as openmls writes it, and the room's own rows beside it.
//!
//! openmls' storage knows no transactions, and one merge is more than a dozen writes: a crash between two of them leaves
//! a group that is broken, or worse, one with the wrong secret. So every change is made between [`Store::begin`] and
//! [`Store::commit`], openmls' writes and own rows alike, and a store refuses writes outside of that. After a
//! rollback the group in memory is ahead of the store: throw it away and load it again.
//!
//! [`SqliteStore`] is an encrypted file, [`MemoryStore`] is for simulations and tests of the room.

mod codec;
mod memory;
mod place;
mod sqlite;
#[cfg(test)]
mod tests;

pub use codec::CodecError;
pub use memory::{MemoryStore, Snapshot};
pub use place::{KeyError, StateKey, default_state_file, state_key};
pub use sqlite::SqliteStore;

use openmls_rust_crypto::RustCrypto;
use std::path::PathBuf;

/// Where an endpoint keeps its state.
pub trait Store: Send {
    /// What openmls' functions take. Its `StorageError` prints without secrets.
    type Provider<'a>: openmls::storage::OpenMlsProvider
    where
        Self: 'a;

    /// Crypto, randomness and this store's MLS state for openmls' functions. Reads at any time; writes go into the
    /// open transaction and are refused where there is none.
    fn provider(&self) -> Self::Provider<'_>;

    /// Begins a transaction.
    fn begin(&mut self) -> Result<(), StoreError>;

    /// Makes everything since [`begin`](Self::begin) durable. After an error nothing of it is kept in this process's
    /// view, as after a rollback.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Forgets everything since [`begin`](Self::begin). Without an open transaction it does nothing, so that it can
    /// always follow an error.
    fn rollback(&mut self) -> Result<(), StoreError>;

    /// The value of an own row.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets an own row.
    fn put(&self, name: &str, value: &[u8]) -> Result<(), StoreError>;

    /// Removes an own row; it need not exist.
    fn delete(&self, name: &str) -> Result<(), StoreError>;

    /// Forgets everything of MLS: all groups, key packages, keys, pending commits. Own rows stay. Part of the
    /// open transaction.
    fn wipe_group(&mut self) -> Result<(), StoreError>;

    /// Removes from the disk what deleted keys left behind there. Takes a few syncs of the disk: for when nothing is due,
    /// some seconds after the last change, not after each one.
    fn tidy(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Runs `change` in a transaction of its own: committed where it succeeds, rolled back where it does not.
    fn transaction<T, E: From<StoreError>>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        Self: Sized,
    {
        self.begin()?;
        match change(self) {
            Ok(value) => {
                self.commit()?;
                Ok(value)
            }
            Err(error) => {
                // What went wrong first is what the caller needs to know.
                let _ = self.rollback();
                Err(error)
            }
        }
    }
}

/// Why state cannot be kept. Texts are for people and hold nothing secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder cannot be made or read.
    #[error(
        "cannot keep state in {path}: {source}. Make its folder writable or point state-file to another place"
    )]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Somebody else has it open.
    #[error(
        "state-file {path} is in use{}: two endpoints cannot share one state. Stop the other one, or give this one \
         its own state-file and certificate", by.map(|pid| format!(" by process {pid}")).unwrap_or_default()
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// Process that holds it, where known.
        by: Option<u32>,
    },
    /// The key does not open it.
    #[error(
        "state-file {0} does not open with this key: state-key-file is not the key that it was made with (or the \
         file's beginning is damaged). If the key is lost, move the file away: this endpoint then joins the room anew"
    )]
    WrongKey(PathBuf),
    /// It is no database of ours.
    #[error("state-file {0} is not encrypted state of a room; point state-file to another file")]
    Foreign(PathBuf),
    /// It was written by a later version.
    #[error("state-file {0} was written by a newer version of this plugin: update it")]
    Newer(PathBuf),
    /// It is damaged.
    #[error("state-file {0} is damaged. Move it away: this endpoint then joins the room anew")]
    Damaged(PathBuf),
    /// It cannot be read or written.
    #[error(
        "state-file {path}: the disk is full, failing, or a limit is reached ({source}). Nothing of this change was \
         kept"
    )]
    Disk {
        /// The database.
        path: PathBuf,
        /// What the database says.
        source: rusqlite::Error,
    },
    /// openmls' tables cannot be made or brought up to date.
    #[error("state-file {path}: its tables do not fit this version of the plugin: {reason}")]
    Tables {
        /// The database.
        path: PathBuf,
        /// Which one.
        reason: String,
    },
    /// The database refuses for another reason.
    #[error("state-file {path}: {source}")]
    Sql {
        /// The database.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// `begin` twice.
    #[error("a transaction is open already")]
    Open,
    /// A write or commit without `begin`.
    #[error("a change of state outside of a transaction")]
    NotOpen,
    /// A value cannot be encoded or decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The simulated endpoint is dead.
    #[error("crashed, as the simulation asked for")]
    Crashed,
}

/// openmls' provider: crypto and randomness of RustCrypto, storage of a store.
pub struct Provider<'a, S> {
    crypto: &'a RustCrypto,
    storage: S,
}

impl<S> openmls_traits::OpenMlsProvider for Provider<'_, S>
where
    S: openmls_traits::storage::StorageProvider<{ openmls_traits::storage::CURRENT_VERSION }>,
{
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = S;

    fn storage(&self) -> &S {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        self.crypto
    }
}
