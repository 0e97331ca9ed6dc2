//! The thread that brings a spool into the store, and what others see of it.
//!
//! It looks once a second, and earlier when it is woken. What fails is tried again after a while that grows up to
//! half a minute, with a part of chance so that many recorders do not come back at once. Nobody waits for it but who asks to
//! ([`Mirror::drain`]).
//!
//! The order of a pass: what the log's key has signed for by now is noted; then recordings are brought in as far as
//! they are now; then the log as far as it was noted. So an entry never comes before the manifest that it speaks of.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::Notify;
use worker::{Worker, run};

use super::log::LogUpload;
use super::spool::{Spool, audit_log};
use super::status::{BEHIND, State, Status};
use super::upload::Places;
use super::{Access, Address, Bucket, LockMode, StoreError};
use crate::ids::RecordingId;

mod worker;

/// What goes where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The local folder.
    pub spool: PathBuf,
    /// Where recordings go.
    pub location: Option<Address>,
    /// Where their keys go; beside them, where nothing is said.
    pub keys: Option<Address>,
    /// Where the log goes.
    pub audit_log: Option<Address>,
    /// How recordings that say for how long they are kept are locked.
    pub lock: Option<LockMode>,
    /// A file that says where the store is and who one is there; the environment does, where there is none.
    pub access: Option<PathBuf>,
}

impl Options {
    fn place(&self) -> String {
        let of = |address: &Option<Address>| {
            address
                .as_ref()
                .map_or_else(|| "-".to_owned(), Address::to_string)
        };
        format!(
            "recordings {}\naudit-log {}\n",
            of(&self.location),
            of(&self.audit_log)
        )
    }
}

/// A mirror. When the last one is dropped the thread ends, wherever it is; what is not in the store stays in the spool.
pub struct Mirror {
    options: Options,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    /// Something is to be done.
    work: Notify,
    stop: Notify,
    level: Condvar,
}

/// What both sides know.
#[derive(Default)]
struct Known {
    /// So much of the manifests that this process writes is durable.
    limits: HashMap<RecordingId, u64>,
    pending: u64,
    spool: u64,
    uploaded: u64,
    errors: u64,
    trouble: Option<(State, String)>,
    /// All that was sealed then is in the store.
    since: Option<Instant>,
    /// Nothing was left to be done in a pass that began then.
    drained: Option<Instant>,
    /// Somebody waits for that: no rest after a failure.
    hurry: bool,
}

/// The mirrors of this process: recorders with one spool share one.
static OPEN: Mutex<Vec<Weak<Mirror>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mirror {
    /// The mirror of a spool; a new one, where this process has none. The store is not asked here: it may be away.
    pub fn shared(options: &Options) -> Result<Arc<Self>, StoreError> {
        let mut open = lock(&OPEN);
        open.retain(|mirror| mirror.strong_count() > 0);
        let same = open
            .iter()
            .filter_map(Weak::upgrade)
            .find(|other| other.options.spool == options.spool);
        if let Some(other) = same {
            if other.options != *options {
                return Err(StoreError::Configuration(format!(
                    "the spool {} is used by another recorder of this process, for other places: give each a spool of \
                     its own",
                    options.spool.display()
                )));
            }
            return Ok(other);
        }
        let mirror = Arc::new(Self::start(options.clone())?);
        open.push(Arc::downgrade(&mirror));
        Ok(mirror)
    }

    fn start(options: Options) -> Result<Self, StoreError> {
        let spool = Spool::open(&options.spool, &options.place())?;
        let access = options.access.as_deref();
        let access = access.map_or_else(|| Ok(Access::environment()), Access::read)?;
        let places = match &options.location {
            None => None,
            Some(address) => {
                let keys = options.keys.clone().unwrap_or_else(|| address.keys());
                Some(Places {
                    media: Bucket::open(address, &access, 0)?,
                    keys: Bucket::open(&keys, &access, 0)?,
                    lock: options.lock,
                    sent: 0.into(),
                    compared: 0.into(),
                })
            }
        };
        let log = match &options.audit_log {
            None => None,
            Some(address) => Some(LogUpload::new(
                audit_log(&options.spool),
                Bucket::open(address, &access, 0)?,
            )),
        };
        let failed = StoreError::io(&options.spool);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let shared = Arc::<Shared>::default();
        {
            let mut known = lock(&shared.known);
            known.since = Some(Instant::now());
            known.spool = spool.bytes()?;
        }
        let worker = Worker::new(spool, places, log, shared.clone());
        let failed = StoreError::io(&options.spool);
        let thread = thread::Builder::new()
            .name("compliance-store".into())
            .spawn(move || run(&runtime, worker))
            .map_err(failed)?;
        Ok(Self {
            options,
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// This process writes a recording, and so much of its manifest is durable; `grown`: so much longer it became.
    pub fn sealed(&self, recording: RecordingId, manifest: u64, grown: u64) {
        let mut known = lock(&self.shared.known);
        known.limits.insert(recording, manifest);
        known.spool += grown;
        known.pending += grown;
        drop(known);
        self.shared.work.notify_one();
    }

    /// It writes the recording no more.
    pub fn released(&self, recording: RecordingId) {
        lock(&self.shared.known).limits.remove(&recording);
        self.shared.work.notify_one();
    }

    /// Bytes of recordings in the spool.
    pub fn spool_bytes(&self) -> u64 {
        lock(&self.shared.known).spool
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let known = lock(&self.shared.known);
        let oldest = match (known.pending, known.since) {
            (1.., Some(since)) => since.elapsed(),
            _ => Duration::ZERO,
        };
        let (state, trouble) = match &known.trouble {
            Some((state, trouble)) => (*state, Some(trouble.clone())),
            None if oldest > BEHIND => (State::Behind, None),
            None => (State::Ok, None),
        };
        Status {
            state,
            pending: known.pending,
            oldest,
            uploaded: known.uploaded,
            errors: known.errors,
            spool: known.spool,
            trouble,
        }
    }

    /// Waits until all that is in the spool now is in the store, and what has ended was compared; at most so long. Says
    /// whether that is so.
    pub fn drain(&self, limit: Duration) -> bool {
        let begun = Instant::now();
        let mut known = lock(&self.shared.known);
        loop {
            if known.drained.is_some_and(|drained| drained >= begun) {
                known.hurry = false;
                return true;
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                known.hurry = false;
                return false;
            }
            known.hurry = true;
            self.shared.work.notify_one();
            let waited = self
                .shared
                .level
                .wait_timeout(known, left.min(Duration::from_millis(100)));
            known = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = lock(&self.thread).take() {
            // It does not panic; if it did, it said so.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
