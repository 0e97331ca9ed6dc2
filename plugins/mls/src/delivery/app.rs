//! Delivery by the application: it carries what `message-ready` gives out to all members, the sender included, and
//! brings what arrives to `process-message`, everywhere in the same order.
//!
//! The log is only what waits to be processed: sequences are counted here and are gone with the process, so that each
//! start is a new log. What was read is forgotten when the next read begins after it.

use super::{Appended, Delivery, DeliveryError, Entry, LogId, MAX_READ, Waker, check_length};
use crate::record::{MAX_RECORD, Record};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bound of the bytes that wait to be processed.
pub const MAX_WAITING: usize = 4 * MAX_RECORD;

/// What a waiting record costs beyond its bytes, so that a flood of empty ones is bounded, too.
const OVERHEAD: usize = 64;

#[derive(Default)]
struct Queue {
    /// Those that were not read past, in order.
    entries: VecDeque<Entry>,
    /// What they cost.
    waiting: usize,
    /// Sequence of the last record that came.
    last: u64,
    /// Sequence of the last commit that came.
    last_commit: u64,
    waker: Option<Waker>,
}

/// Never held while a callback runs: the application may bring a message from inside `message-ready`.
struct Shared(Mutex<Queue>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change below is complete before anything that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gets kind and bytes of what is to be carried to all.
type Carry = dyn Fn(&'static str, &[u8]) + Send;

/// The engine `app`.
pub struct AppDelivery {
    shared: Arc<Shared>,
    send: Box<Carry>,
    log: LogId,
}

/// Where the application's messages come in.
#[derive(Clone)]
pub struct AppInbox(Arc<Shared>);

impl AppDelivery {
    /// `send` gets the kind and the bytes of each record that is to be carried to all.
    pub fn new(
        send: impl Fn(&'static str, &[u8]) + Send + 'static,
    ) -> Result<(Self, AppInbox), DeliveryError> {
        let mut log = [0; 16];
        SystemRandom::new()
            .fill(&mut log)
            .map_err(|_| DeliveryError::Io {
                path: "the system's random numbers".into(),
                source: io::Error::other("none to be had"),
            })?;
        let shared = Arc::new(Shared(Mutex::default()));
        let delivery = Self {
            shared: shared.clone(),
            send: Box::new(send),
            log,
        };
        Ok((delivery, AppInbox(shared)))
    }
}

impl Drop for AppDelivery {
    fn drop(&mut self) {
        // The application may keep its side for as long as it likes.
        self.shared.lock().waker = None;
    }
}

impl AppInbox {
    /// Takes one message and gives its sequence. Refused where it is no record, or where too many wait: the
    /// application must bring it again then, before those that follow it.
    pub fn push(&self, bytes: &[u8]) -> Result<u64, DeliveryError> {
        let is_commit = Record::decode(bytes)?.is_commit();
        let cost = bytes.len() + OVERHEAD;
        let (sequence, waker) = {
            let mut queue = self.0.lock();
            if queue.waiting + cost > MAX_WAITING {
                return Err(DeliveryError::QueueFull(queue.waiting));
            }
            queue.waiting += cost;
            queue.last += 1;
            let sequence = queue.last;
            if is_commit {
                queue.last_commit = sequence;
            }
            let bytes = bytes.to_vec();
            queue.entries.push_back(Entry { sequence, bytes });
            (sequence, queue.waker.clone())
        };
        if let Some(waker) = waker {
            waker();
        }
        Ok(sequence)
    }
}

impl Delivery for AppDelivery {
    fn log(&self) -> LogId {
        self.log
    }

    fn append(&mut self, kind: &'static str, bytes: &[u8]) -> Result<Appended, DeliveryError> {
        check_length(bytes)?;
        (self.send)(kind, bytes);
        Ok(Appended::Sent)
    }

    fn append_commit(&mut self, after: u64, bytes: &[u8]) -> Result<Appended, DeliveryError> {
        check_length(bytes)?;
        // Not a compare-and-set, but a commit that surely lost need not be carried around.
        if self.last_commit()? != after {
            return Ok(Appended::Moved);
        }
        (self.send)(Record::decode(bytes)?.kind(), bytes);
        Ok(Appended::Sent)
    }

    fn read(&mut self, after: u64, most: usize) -> Result<Vec<Entry>, DeliveryError> {
        let mut queue = self.shared.lock();
        let first = queue.last + 1 - queue.entries.len() as u64;
        if after > queue.last || after + 1 < first {
            let last = queue.last;
            return Err(DeliveryError::NotHeld { after, first, last });
        }
        while queue.entries.front().is_some_and(|entry| entry.sequence <= after) {
            let read = queue.entries.pop_front();
            queue.waiting -= read.map_or(0, |entry| entry.bytes.len() + OVERHEAD);
        }
        let mut total = 0;
        let fits = |(nth, entry): &(usize, &Entry)| {
            total += entry.bytes.len();
            *nth == 0 || total <= MAX_READ
        };
        let entries = queue.entries.iter().take(most).enumerate().take_while(fits);
        Ok(entries.map(|(_, entry)| entry.clone()).collect())
    }

    fn last_commit(&mut self) -> Result<u64, DeliveryError> {
        Ok(self.shared.lock().last_commit)
    }

    fn keep_content(&mut self, _bytes: u64) {}

    fn wake_by(&mut self, waker: Waker) -> Result<(), DeliveryError> {
        self.shared.lock().waker = Some(waker.clone());
        waker();
        Ok(())
    }
}
