//! One suite that runs over all engines, and what only the file can get wrong.

mod file;
mod nats;
mod nats_login;
mod processes;
mod property;
#[path = "../../../tests/nats/server.rs"]
#[allow(dead_code, reason = "others need the rest of it")]
mod server;
mod suite;

use super::*;
use crate::record::Record;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Longer than anything here takes on a machine that does other things, too.
const LIMIT: Duration = Duration::from_secs(60);

/// Counts how often it was woken.
#[derive(Default)]
struct Ear {
    woken: Mutex<u64>,
    changed: Condvar,
}

impl Ear {
    fn listen(delivery: &mut dyn Delivery) -> Arc<Self> {
        let ear = Arc::new(Self::default());
        let waker = ear.clone();
        delivery
            .wake_by(Arc::new(move || {
                *waker.woken.lock().unwrap() += 1;
                waker.changed.notify_all();
            }))
            .unwrap();
        ear
    }

    fn woken(&self) -> u64 {
        *self.woken.lock().unwrap()
    }

    /// Sleeps until it was woken more often than that, and says how often.
    fn wait_beyond(&self, times: u64) -> u64 {
        let woken = self.woken.lock().unwrap();
        let wait = self
            .changed
            .wait_timeout_while(woken, LIMIT, |woken| *woken <= times);
        let (woken, timeout) = wait.unwrap();
        assert!(!timeout.timed_out(), "nobody rang");
        *woken
    }
}

/// An endpoint that follows a log the way it is meant: read until there is nothing, then sleep until woken.
struct Reader {
    delivery: Box<dyn Delivery>,
    ear: Arc<Ear>,
    heard: u64,
    seen: Vec<Entry>,
}

impl Reader {
    fn new(mut delivery: Box<dyn Delivery>) -> Self {
        let ear = Ear::listen(&mut *delivery);
        Self {
            delivery,
            ear,
            heard: 0,
            seen: Vec::new(),
        }
    }

    fn last(&self) -> u64 {
        self.seen.last().map_or(0, |entry| entry.sequence)
    }

    fn commits(&self) -> Vec<&Entry> {
        let is_commit = |entry: &&Entry| Record::decode(&entry.bytes).unwrap().is_commit();
        self.seen.iter().filter(is_commit).collect()
    }

    fn last_commit(&self) -> u64 {
        self.commits().last().map_or(0, |entry| entry.sequence)
    }

    /// Reads all there is, and gives the number of new records.
    fn read(&mut self) -> usize {
        let before = self.seen.len();
        loop {
            // Before the read: a ring during it must not be taken for one before it.
            self.heard = self.ear.woken();
            let entries = self.delivery.read(self.last(), 7).unwrap();
            if entries.is_empty() {
                return self.seen.len() - before;
            }
            self.seen.extend(entries);
        }
    }

    /// Reads on until that is true.
    fn read_until(&mut self, done: impl Fn(&Self) -> bool) {
        loop {
            self.read();
            if done(self) {
                return;
            }
            self.ear.wait_beyond(self.heard);
        }
    }
}

fn message(text: &str) -> Vec<u8> {
    Record::Message(text.into()).encode()
}

fn commit(text: &str) -> Vec<u8> {
    let welcome = text.len().is_multiple_of(2).then(|| b"welcome".to_vec());
    Record::Commit {
        commit: text.into(),
        welcome,
    }
    .encode()
}

fn create() -> Vec<u8> {
    Record::Create(b"group".to_vec()).encode()
}
