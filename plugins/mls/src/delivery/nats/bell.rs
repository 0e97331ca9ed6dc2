//! Wakes a reader: the stream tells of each record that it has stored, and the connection of its coming and going.

use super::link::spawn;
use super::stream::Stream;
use super::{NatsError, Waker};
use async_nats::Message;
use futures_util::{FutureExt, StreamExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::AbortHandle;

/// What was heard of a stream without asking.
#[derive(Default)]
pub(super) struct Heard {
    last: AtomicU64,
    doubts: AtomicU64,
}

impl Heard {
    /// A record with this sequence is there.
    pub(super) fn note(&self, sequence: u64) {
        self.last.fetch_max(sequence, Ordering::Relaxed);
    }

    /// Sequence of the last record that was heard of.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// It could be another stream by now, or have lost something.
    fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of reasons to doubt that there were so far.
    pub(super) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }
}

/// Calls a waker until it is dropped.
pub(super) struct Listener {
    waker: Arc<Mutex<Option<Waker>>>,
    task: AbortHandle,
}

impl Listener {
    pub(super) async fn start(
        stream: Arc<Stream>,
        heard: Arc<Heard>,
        waker: Waker,
    ) -> Result<Self, NatsError> {
        let mut line = stream.link().line();
        let mut bell = stream.link().subscribe(stream.bell()).await?;
        let mut knell = stream.link().subscribe(stream.knell()).await?;
        let waker = Arc::new(Mutex::new(Some(waker)));
        let ring = waker.clone();
        let task = spawn(async move {
            line.mark_unchanged();
            loop {
                tokio::select! {
                    message = bell.next() => match message {
                        Some(message) => {
                            heard.note(sequence(&message));
                            // Many records, one call.
                            while let Some(Some(message)) = bell.next().now_or_never() {
                                heard.note(sequence(&message));
                            }
                        }
                        None => return,
                    },
                    message = knell.next() => match message {
                        Some(_) => heard.doubt(),
                        None => return,
                    },
                    changed = line.changed() => match changed {
                        Ok(()) => heard.doubt(),
                        Err(_) => return,
                    },
                }
                if let Some(waker) = &*ring.lock().unwrap_or_else(PoisonError::into_inner) {
                    waker();
                }
            }
        })?;
        Ok(Self {
            waker,
            task: task.abort_handle(),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Not called after this, and not being called either.
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.task.abort();
    }
}

/// Which record the stream tells of.
fn sequence(message: &Message) -> u64 {
    let value = message
        .headers
        .as_ref()
        .and_then(|headers| headers.get("Nats-Sequence"));
    value.and_then(|value| value.as_str().parse().ok()).unwrap_or(0)
}
