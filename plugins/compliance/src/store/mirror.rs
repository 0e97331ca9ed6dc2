//! The thread that brings a spool into the store, and what others see of it.
//!
//! It looks once a second, and earlier when it is woken. What fails is tried again after a while that grows up to
//! [`LONGEST`], with a part of chance so that many recorders do not come back at once. Nobody waits for it but who asks to
//! ([`Mirror::drain`]).
//!
//! The order of a pass: what the log's key has signed for by now is noted; then recordings are brought in as far as
//! they are now; then the log as far as it was noted. So an entry never comes before the manifest that it speaks of.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use super::log::{LogUpload, Snapshot};
use super::spool::{Spool, audit_log, size};
use super::status::{BEHIND, State, Status};
use super::upload::{Places, Step, Upload};
use super::{Access, Address, Bucket, LockMode, StoreError};
use crate::ids::RecordingId;

/// It looks so often.
const LOOK: Duration = Duration::from_secs(1);

/// After the first failure it waits so long, after the next twice as long...
const FIRST: Duration = Duration::from_millis(500);

/// ...but never longer.
const LONGEST: Duration = Duration::from_secs(30);

/// A recording that the store does not take, or that is damaged, is tried again so much later than one that it could not
/// be asked for: somebody has to look first.
const REFUSED: u32 = 10;

/// So many recordings are brought in at the same time.
const AT_ONCE: usize = 4;

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
        let of = |address: &Option<Address>| address.as_ref().map_or_else(|| "-".to_owned(), Address::to_string);
        format!("recordings {}\naudit-log {}\n", of(&self.location), of(&self.audit_log))
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
        let same = open.iter().filter_map(Weak::upgrade).find(|other| other.options.spool == options.spool);
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
            Some(address) => Some(LogUpload::new(audit_log(&options.spool), Bucket::open(address, &access, 0)?)),
        };
        let failed = StoreError::io(&options.spool);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let shared = Arc::<Shared>::default();
        {
            let mut known = lock(&shared.known);
            known.since = Some(Instant::now());
            known.spool = spool.bytes()?;
        }
        let worker = Worker {
            spool,
            places,
            log,
            uploads: Vec::new(),
            noted: None,
            shared: shared.clone(),
            log_sent: 0.into(),
            failures: 0,
        };
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
            let waited = self.shared.level.wait_timeout(known, left.min(Duration::from_millis(100)));
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
        f.debug_struct("Mirror").field("options", &self.options).finish_non_exhaustive()
    }
}

fn run(runtime: &Runtime, mut worker: Worker) {
    let shared = worker.shared.clone();
    runtime.block_on(async {
        tokio::select! {
            // A request that is under way may be lost or not; the next process finds out.
            () = shared.stop.notified() => {}
            () = worker.run() => {}
        }
    });
}

/// A recording that is brought in, and when it was refused last.
struct Task {
    upload: Upload,
    refused: u32,
    not_before: Option<Instant>,
}

struct Worker {
    spool: Spool,
    places: Option<Places>,
    log: Option<LogUpload>,
    uploads: Vec<Task>,
    /// What of the log comes next, and how far manifests must be in the store before.
    noted: Option<(Snapshot, HashMap<RecordingId, u64>)>,
    shared: Arc<Shared>,
    log_sent: std::sync::atomic::AtomicU64,
    failures: u32,
}

/// What a pass came to.
#[derive(Default)]
struct Pass {
    /// Something is left that could be done at once.
    more: bool,
    /// What went wrong; the store being away is the least of it.
    trouble: Option<StoreError>,
    failed: bool,
}

impl Pass {
    fn take(&mut self, error: StoreError) {
        let is_away = |error: &StoreError| matches!(error, StoreError::Away(_));
        self.failed = true;
        if self.trouble.as_ref().is_none_or(is_away) {
            self.trouble = Some(error);
        }
    }
}

impl Worker {
    async fn run(&mut self) {
        loop {
            let begun = Instant::now();
            let mut pass = Pass::default();
            if let Err(error) = self.pass(&mut pass).await {
                pass.take(error);
            }
            let pause = self.ended(begun, pass);
            let pause = tokio::time::sleep(pause);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = self.shared.work.notified() => {
                        // What was sealed waits for the next look; who waits for all of it does not.
                        if lock(&self.shared.known).hurry && begun.elapsed() > Duration::from_millis(200) {
                            break;
                        }
                    }
                }
            }
        }
    }

    async fn pass(&mut self, pass: &mut Pass) -> Result<(), StoreError> {
        self.find()?;
        self.measure();
        if let Some(log) = &mut self.log
            && self.noted.is_none()
        {
            match log.prepare().await.and_then(|_| log.snapshot()) {
                Ok(snapshot) => {
                    let limits = lock(&self.shared.known).limits.clone();
                    let targets = self.uploads.iter().map(|task| {
                        let id = task.upload.id();
                        let manifest = self.spool.recording(id).join(crate::recording::MANIFEST_FILE);
                        let here = || manifest.metadata().map_or(0, |of| of.len());
                        (id, limits.get(&id).copied().unwrap_or_else(here))
                    });
                    self.noted = snapshot.map(|snapshot| (snapshot, targets.collect()));
                }
                Err(error) => pass.take(error),
            }
        }
        self.bring(pass).await?;
        if let (Some(log), Some((snapshot, targets))) = (&mut self.log, &self.noted) {
            let waits = self.uploads.iter().any(|task| {
                let target = targets.get(&task.upload.id()).copied().unwrap_or(0);
                // The log does not wait for a recording that somebody has to look at: it tells the truth.
                task.refused == 0 && task.upload.manifest_in_store() < target
            });
            if !waits {
                match log.send(snapshot, &self.log_sent).await {
                    Ok(()) => self.noted = None,
                    Err(error) => {
                        self.noted = None;
                        pass.take(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Recordings that are in the spool, and not known.
    fn find(&mut self) -> Result<(), StoreError> {
        if self.places.is_none() {
            return Ok(());
        }
        let ids = self.spool.recordings()?;
        self.uploads.retain(|task| ids.binary_search(&task.upload.id()).is_ok());
        for id in ids {
            if !self.uploads.iter().any(|task| task.upload.id() == id) {
                self.uploads.push(Task {
                    upload: Upload::new(id, self.spool.recording(id)),
                    refused: 0,
                    not_before: None,
                });
            }
        }
        Ok(())
    }

    /// One step for each recording, as long as there are more and nothing fails, but not for ever: the log has its turn.
    async fn bring(&mut self, pass: &mut Pass) -> Result<(), StoreError> {
        let Some(places) = &self.places else { return Ok(()) };
        let limits = lock(&self.shared.known).limits.clone();
        let now = Instant::now();
        let ready = self.uploads.iter_mut().filter(|task| task.not_before.is_none_or(|until| until <= now));
        let done: Vec<_> = stream::iter(ready)
            .map(|task| {
                let limit = limits.get(&task.upload.id()).copied();
                async move {
                    let step = task.upload.step(places, limit).await;
                    (task, step)
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut gone = Vec::new();
        for (task, step) in done {
            let id = task.upload.id();
            match step {
                Ok(step) => {
                    (task.refused, task.not_before) = (0, None);
                    pass.more |= step == Step::More;
                    if let Step::Done(receipt) = step {
                        gone.push((id, receipt));
                    }
                }
                Err(error) => {
                    if !matches!(error, StoreError::Away(_)) {
                        task.refused = task.refused.saturating_add(1);
                        task.not_before = Some(now + backoff(task.refused) * REFUSED);
                        // Whatever it knew may be wrong.
                        task.upload = Upload::new(id, self.spool.recording(id));
                    }
                    pass.take(error);
                }
            }
        }
        for (id, receipt) in gone {
            self.spool.remove(id, &receipt)?;
            self.uploads.retain(|task| task.upload.id() != id);
        }
        Ok(())
    }

    /// Counts what is in the spool and what of it is not known to be in the store.
    fn measure(&self) {
        let (mut spool, mut pending) = (0, 0);
        for task in &self.uploads {
            let here = size(&self.spool.recording(task.upload.id()));
            spool += here;
            pending += here.saturating_sub(task.upload.in_store());
        }
        if let Some(log) = &self.log {
            let (here, there) = log.bytes();
            pending += here.saturating_sub(there);
        }
        let sent = self.places.as_ref().map_or(0, |places| places.sent.load(Ordering::Relaxed));
        let mut known = lock(&self.shared.known);
        (known.spool, known.pending) = (spool, pending);
        known.uploaded = sent + self.log_sent.load(Ordering::Relaxed);
    }

    /// Tells what a pass came to, and how long to rest.
    fn ended(&mut self, begun: Instant, pass: Pass) -> Duration {
        self.measure();
        let log_is_level = self.log.as_ref().is_none_or(|log| {
            let (here, there) = log.bytes();
            here == there
        });
        let refused = self.uploads.iter().any(|task| task.refused > 0);
        self.failures = if pass.failed { self.failures.saturating_add(1) } else { 0 };
        let mut known = lock(&self.shared.known);
        known.errors += u64::from(pass.failed);
        match pass.trouble {
            Some(error) => {
                let state = match error {
                    StoreError::Away(_) => State::Away,
                    _ => State::Failed,
                };
                known.trouble = Some((state, error.to_string()));
            }
            // A recording that was refused, and waits for its next time, is no less refused.
            None if refused => {}
            None => known.trouble = None,
        }
        if !pass.failed && !refused && !pass.more {
            known.since = Some(begun);
            // What no checkpoint covers yet comes with the next one.
            if log_is_level {
                known.drained = Some(begun);
            }
        }
        self.shared.level.notify_all();
        match (pass.failed, pass.more) {
            (true, _) => backoff(self.failures),
            (false, true) => Duration::ZERO,
            (false, false) => LOOK.saturating_sub(begun.elapsed()),
        }
    }
}

/// How long to wait after so many failures: longer each time, up to a bound, and never all at the same moment.
fn backoff(failures: u32) -> Duration {
    let longest = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST);
    let mut chance = [0; 2];
    // Without it, everybody comes at the same time; that is all.
    let _ = SystemRandom::new().fill(&mut chance);
    let part = u32::from(u16::from_be_bytes(chance));
    longest / 2 + longest / 2 * part / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_waits_longer_each_time_but_never_for_ever() {
        for (failures, longest) in [(1, 500), (2, 1000), (3, 2000), (7, 30_000), (u32::MAX, 30_000)] {
            for _ in 0..100 {
                let wait = backoff(failures).as_millis();
                assert!((longest / 2..=longest).contains(&wait), "{failures}: {wait}");
            }
        }
    }
}
