//! What the thread of a mirror does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::runtime::Runtime;

use super::{Shared, lock};
use crate::ids::RecordingId;
use crate::recording::MANIFEST_FILE;
use crate::store::StoreError;
use crate::store::log::{LogUpload, Snapshot};
use crate::store::spool::{Spool, size};
use crate::store::status::State;
use crate::store::upload::{Places, Step, Upload};

/// It looks so often.
const LOOK: Duration = Duration::from_secs(1);

/// After the first failure it waits so long, after the next twice as long...
const FIRST: Duration = Duration::from_millis(500);

/// ...but never longer.
const LONGEST: Duration = Duration::from_secs(30);

/// A recording that the store does not take, or that is damaged, is tried again so much later than one that it could not
/// be asked for: somebody has to look first.
const REFUSED: u32 = 10;

/// A recording that was refused so often has to be looked at by somebody. Until then the log waits for it.
const STUBBORN: u32 = 3;

/// So many recordings are brought in at the same time.
const AT_ONCE: usize = 4;

/// Works until it is stopped.
pub fn run(runtime: &Runtime, mut worker: Worker) {
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

/// See the module.
pub struct Worker {
    spool: Spool,
    places: Option<Places>,
    log: Option<LogUpload>,
    uploads: Vec<Task>,
    /// What of the log comes next, and how far manifests must be in the store before.
    noted: Option<(Snapshot, HashMap<RecordingId, u64>)>,
    shared: Arc<Shared>,
    log_sent: AtomicU64,
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
    /// Of a spool, and what of it goes where.
    pub fn new(spool: Spool, places: Option<Places>, log: Option<LogUpload>, shared: Arc<Shared>) -> Self {
        Self {
            spool,
            places,
            log,
            uploads: Vec::new(),
            noted: None,
            shared,
            log_sent: 0.into(),
            failures: 0,
        }
    }

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
        let mut news = None;
        if let Some(log) = &mut self.log
            && self.noted.is_none()
        {
            match log.prepare().await.and_then(|_| log.snapshot()) {
                Ok(snapshot) => news = snapshot,
                Err(error) => pass.take(error),
            }
        }
        // After what the log says, so that whatever that speaks of is found.
        self.find()?;
        self.measure();
        if let Some(snapshot) = news {
            self.noted = Some((snapshot, self.targets()));
        }
        self.bring(pass).await?;
        if let (Some(log), Some((snapshot, targets))) = (&mut self.log, &self.noted) {
            let waits = self.uploads.iter().any(|task| {
                let target = targets.get(&task.upload.id()).copied().unwrap_or(0);
                // The log does not wait for a recording that somebody has to look at: it tells the truth.
                task.refused < STUBBORN && task.upload.manifest_in_store() < target
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

    /// How far manifests are durable.
    fn targets(&self) -> HashMap<RecordingId, u64> {
        let limits = lock(&self.shared.known).limits.clone();
        let of = |task: &Task| {
            let id = task.upload.id();
            let manifest = self.spool.recording(id).join(MANIFEST_FILE);
            let here = || manifest.metadata().map_or(0, |of| of.len());
            (id, limits.get(&id).copied().unwrap_or_else(here))
        };
        self.uploads.iter().map(of).collect()
    }

    /// Recordings that are in the spool, and not known.
    fn find(&mut self) -> Result<(), StoreError> {
        if self.places.is_none() {
            return Ok(());
        }
        let ids = self.spool.recordings()?;
        self.uploads
            .retain(|task| ids.binary_search(&task.upload.id()).is_ok());
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
        let ready = self
            .uploads
            .iter_mut()
            .filter(|task| task.not_before.is_none_or(|until| until <= now));
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
        let sent = self
            .places
            .as_ref()
            .map_or(0, |places| places.sent.load(Ordering::Relaxed));
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
        self.failures = if pass.failed {
            self.failures.saturating_add(1)
        } else {
            0
        };
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
    let longest = FIRST
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LONGEST);
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
