//! State in memory, for simulations and tests of the room: it crashes when told to, and its snapshots cost nothing.
//!
//! The rows are shared between a store and its snapshots until one of them writes, and so is the state before
//! a transaction: a rollback only puts it back.

mod storage;

use openmls_rust_crypto::RustCrypto;
use openmls_sqlite_storage::Codec as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::codec::Codec;
use super::{Provider, Store, StoreError};

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    JoinConfig,
    Tree,
    InterimTranscriptHash,
    Context,
    ConfirmationTag,
    GroupState,
    MessageSecrets,
    ResumptionPsks,
    OwnLeafIndex,
    EpochSecrets,
    OwnLeafNode,
    Proposal,
    SignatureKey,
    EncryptionKey,
    EpochKeys,
    KeyPackage,
    Psk,
    Own,
}

/// `owner` is the group or the key that openmls names, `part` tells several rows of one owner apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: Kind,
    owner: Vec<u8>,
    part: Vec<u8>,
}

type Row = (Arc<Key>, Arc<[u8]>);
type Rows = Arc<BTreeMap<Arc<Key>, Arc<[u8]>>>;

#[derive(Debug, Default)]
struct State {
    rows: Rows,
    /// The rows at `begin`.
    before: Option<Rows>,
    writes: u64,
    /// The write that fails.
    crash_at: Option<u64>,
    crashed: bool,
}

/// State in memory. A clone begins with what this one last committed.
#[derive(Debug, Default)]
pub struct MemoryStore {
    crypto: Arc<RustCrypto>,
    state: RefCell<State>,
}

/// What a store had committed at some time.
#[derive(Debug, Clone, Default)]
pub struct Snapshot(Rows);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes so far: every row set or removed, by openmls or not, and every commit.
    pub fn writes(&self) -> u64 {
        self.state.borrow().writes
    }

    /// The `writes`-th write from now (1: the next) fails, and with it everything since the last commit is gone.
    /// Then nothing works until [`restart`](Self::restart).
    pub fn crash_after(&mut self, writes: u64) {
        let state = self.state.get_mut();
        state.crash_at = Some(state.writes.saturating_add(writes.max(1)));
    }

    /// Did the crash happen?
    pub fn crashed(&self) -> bool {
        self.state.borrow().crashed
    }

    /// A new process finds what was committed last. A crash that did not happen yet is called off.
    pub fn restart(&mut self) {
        let snapshot = self.snapshot();
        self.restore(&snapshot);
    }

    /// What was committed last.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.borrow();
        Snapshot(state.before.as_ref().unwrap_or(&state.rows).clone())
    }

    /// A new process finds this snapshot.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        let state = self.state.get_mut();
        *state = State {
            rows: snapshot.0.clone(),
            writes: state.writes,
            ..State::default()
        };
    }
}

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        Self {
            crypto: self.crypto.clone(),
            state: RefCell::new(State {
                rows: self.snapshot().0,
                ..State::default()
            }),
        }
    }
}

impl State {
    fn alive(&self) -> Result<(), StoreError> {
        if self.crashed {
            Err(StoreError::Crashed)
        } else {
            Ok(())
        }
    }

    /// Counts one write; it may be the one at which the endpoint dies.
    fn count_write(&mut self) -> Result<(), StoreError> {
        self.alive()?;
        if self.before.is_none() {
            return Err(StoreError::NotOpen);
        }
        self.writes += 1;
        if self.crash_at.is_some_and(|at| self.writes >= at) {
            self.crashed = true;
            self.back();
            return Err(StoreError::Crashed);
        }
        Ok(())
    }

    fn back(&mut self) {
        if let Some(before) = self.before.take() {
            self.rows = before;
        }
    }
}

/// Rows, read and written through a shared reference, as openmls does it.
#[derive(Clone, Copy)]
pub struct Table<'a>(&'a RefCell<State>);

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, StoreError> {
    Ok(Codec::to_vec(&value)?)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    Ok(Codec::from_slice(bytes)?)
}

impl Table<'_> {
    fn get(&self, key: &Key) -> Result<Option<Arc<[u8]>>, StoreError> {
        let state = self.0.borrow();
        state.alive()?;
        Ok(state.rows.get(key).cloned())
    }

    fn set(&self, key: Key, value: Vec<u8>) -> Result<(), StoreError> {
        let mut state = self.0.borrow_mut();
        state.count_write()?;
        Arc::make_mut(&mut state.rows).insert(Arc::new(key), value.into());
        Ok(())
    }

    fn remove(&self, key: &Key) -> Result<(), StoreError> {
        let mut state = self.0.borrow_mut();
        state.count_write()?;
        Arc::make_mut(&mut state.rows).remove(key);
        Ok(())
    }

    /// All rows of one owner, in order of their parts.
    fn all(&self, kind: Kind, owner: &[u8]) -> Result<Vec<Row>, StoreError> {
        let state = self.0.borrow();
        state.alive()?;
        let first = Key {
            kind,
            owner: owner.to_vec(),
            part: Vec::new(),
        };
        Ok(state
            .rows
            .range(first..)
            .take_while(|(key, _)| key.kind == kind && key.owner == owner)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn remove_all(&self, kind: Kind, owner: &[u8]) -> Result<(), StoreError> {
        let rows = self.all(kind, owner)?;
        let mut state = self.0.borrow_mut();
        state.count_write()?;
        let all = Arc::make_mut(&mut state.rows);
        for (key, _) in rows {
            all.remove(&key);
        }
        Ok(())
    }
}

fn own(name: &str) -> Key {
    Key {
        kind: Kind::Own,
        owner: name.as_bytes().to_vec(),
        part: Vec::new(),
    }
}

impl Store for MemoryStore {
    type Provider<'a> = Provider<'a, Table<'a>>;

    fn provider(&self) -> Self::Provider<'_> {
        Provider {
            crypto: &self.crypto,
            storage: Table(&self.state),
        }
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        let state = self.state.get_mut();
        state.alive()?;
        if state.before.is_some() {
            return Err(StoreError::Open);
        }
        state.before = Some(state.rows.clone());
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let state = self.state.get_mut();
        state.count_write()?;
        state.before = None;
        Ok(())
    }

    fn rollback(&mut self) -> Result<(), StoreError> {
        let state = self.state.get_mut();
        state.alive()?;
        state.back();
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(Table(&self.state).get(&own(name))?.map(|value| value.to_vec()))
    }

    fn put(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        Table(&self.state).set(own(name), value.to_vec())
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        Table(&self.state).remove(&own(name))
    }

    fn wipe_group(&mut self) -> Result<(), StoreError> {
        let state = self.state.get_mut();
        state.count_write()?;
        Arc::make_mut(&mut state.rows).retain(|key, _| key.kind == Kind::Own);
        Ok(())
    }
}
