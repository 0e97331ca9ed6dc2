//! What a re-wrapping cost: files opened, bytes written. None of them is media.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::recording::KeyHolders;

/// Counts of many recordings.
#[derive(Debug, Default)]
pub(super) struct Tally {
    opened: AtomicU64,
    written: AtomicU64,
    removed: AtomicU64,
}

/// What it cost, of all recordings together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Files and folders of recordings that were opened, to be read, written or made durable. None of them is media.
    pub opened: u64,
    /// Bytes that were written into them.
    pub written: u64,
    /// Key files and folders of holders before that were removed.
    pub removed: u64,
}

impl Tally {
    /// So many files and folders were opened.
    pub fn opened(&self, files: u64) {
        self.opened.fetch_add(files, Ordering::Relaxed);
    }

    /// The statements of whom a key was wrapped to, and their folder.
    pub fn opened_with_statements(&self, holders: &KeyHolders) {
        if holders.number > 0 {
            self.opened(u64::from(holders.number) + 1);
        }
    }

    /// A file that was written.
    pub fn wrote(&self, bytes: usize) {
        self.opened(1);
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A file or folder that was removed.
    pub fn removed(&self) {
        self.removed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn totals(&self) -> Totals {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Totals {
            opened: value(&self.opened),
            written: value(&self.written),
            removed: value(&self.removed),
        }
    }
}
