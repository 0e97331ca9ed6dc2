//! The sending side of a key: which counter comes next, and the rule that no (base key, KID, CTR) is used twice.
//!
//! Static keys lease their counters from a [`CounterFile`]. A key source hands out ranges; that it never hands out
//! the same twice is its part of the contract, and this process checks it: [`claim`] remembers every range that any
//! sender in it was given.

use crate::counter_file::{CounterFile, CounterFileError, Fingerprint};
use crate::frame::SealKey;
use gst_e2ee_common::cipher_suite::CipherSuite;
use gst_e2ee_common::key_source;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Why there is no counter or no key.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The counter file gives no more.
    #[error(transparent)]
    Counters(#[from] CounterFileError),
    /// A key source broke the rule.
    #[error(
        "the key source handed out counters of KID {0} that were already in use under this key; it must give each \
         range once"
    )]
    CountersReused(u64),
    /// The source's range is used up; it must be asked again before.
    #[error("the counters of this key are used up")]
    UsedUp,
    /// A frame is larger than the cipher allows.
    #[error(transparent)]
    Seal(#[from] crate::frame::SealError),
    /// The key could not be derived.
    #[error(transparent)]
    Derive(#[from] crate::frame::DeriveError),
}

/// A key, and the counters that belong to this sender alone.
pub struct Sender {
    key: SealKey,
    suite: CipherSuite,
    epoch: u64,
    fingerprint: Fingerprint,
    counters: Range<u64>,
    file: Option<CounterFile>,
}

impl Sender {
    /// A static key with its counter file.
    pub fn from_file(
        suite: CipherSuite,
        kid: u64,
        base_key: &[u8],
        mut file: CounterFile,
    ) -> Result<Self, SenderError> {
        Ok(Self {
            key: SealKey::derive(suite, kid, base_key)?,
            suite,
            epoch: 0,
            fingerprint: Fingerprint::new(base_key, kid),
            counters: file.lease()?,
            file: Some(file),
        })
    }

    /// A key from a key source.
    pub fn from_source(key: &key_source::SenderKey) -> Result<Self, SenderError> {
        let fingerprint = Fingerprint::new(&key.base_key, key.kid);
        claim(fingerprint, &key.counters).map_err(|Overlap| SenderError::CountersReused(key.kid))?;
        Ok(Self {
            key: SealKey::derive(key.suite, key.kid, &key.base_key)?,
            suite: key.suite,
            epoch: key.epoch,
            fingerprint,
            counters: key.counters.clone(),
            file: None,
        })
    }

    /// Whether this is the key that the source now answers with, and can go on: no new range is needed.
    ///
    /// Within an epoch that is so even where the answer has another KID: a source may give a new one to whoever asks, and
    /// `keys-changed` may be about others' keys, which is no reason for a keyframe.
    pub fn is_still(&self, key: &key_source::SenderKey) -> bool {
        let same_epoch = self.epoch != 0 && self.epoch == key.epoch;
        let kid = if same_epoch { self.key.kid() } else { key.kid };
        !self.counters.is_empty()
            && self.suite == key.suite
            && self.fingerprint == Fingerprint::new(&key.base_key, kid)
    }

    /// The same key belongs to a later epoch now.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Whether the source must be asked for more counters; a file leases them by itself.
    pub fn is_used_up(&self) -> bool {
        self.counters.is_empty() && self.file.is_none()
    }

    /// The next counter, each once.
    pub fn next_counter(&mut self) -> Result<u64, SenderError> {
        if let Some(file) = &mut self.file
            && self.counters.is_empty()
        {
            self.counters = file.lease()?;
        }
        self.counters.next().ok_or(SenderError::UsedUp)
    }

    /// The key to seal with.
    pub fn key(&self) -> &SealKey {
        &self.key
    }

    /// Epoch of the key; 0 for static keys.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// Every range of counters that was handed out in this process, by key and KID; ranges that touch are one.
///
/// It only grows, some 100 bytes a key change: forgetting a range would allow its reuse.
static CLAIMED: LazyLock<Mutex<HashMap<Fingerprint, Ranges>>> = LazyLock::new(Mutex::default);

fn claim(fingerprint: Fingerprint, counters: &Range<u64>) -> Result<(), Overlap> {
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    claimed.entry(fingerprint).or_default().insert(counters)
}

/// A range was handed out before, wholly or in part.
struct Overlap;

/// Disjoint ranges that do not touch: start to end (exclusive).
#[derive(Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn insert(&mut self, new: &Range<u64>) -> Result<(), Overlap> {
        let before = self
            .0
            .range(..=new.start)
            .next_back()
            .map(|(&start, &end)| start..end);
        let after = self.0.range(new.start..).next().map(|(&start, &end)| start..end);
        if before.as_ref().is_some_and(|before| before.end > new.start)
            || after.as_ref().is_some_and(|after| after.start < new.end)
        {
            return Err(Overlap);
        }
        let (mut start, mut end) = (new.start, new.end);
        if let Some(after) = after.filter(|after| after.start == end) {
            self.0.remove(&after.start);
            end = after.end;
        }
        if let Some(before) = before.filter(|before| before.end == start) {
            start = before.start;
        }
        self.0.insert(start, end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use zeroize::Zeroizing;

    fn source_key(base_key: &[u8], kid: u64, counters: Range<u64>) -> key_source::SenderKey {
        key_source::SenderKey {
            kid,
            suite: CipherSuite::Aes128GcmSha256_128,
            base_key: Zeroizing::new(base_key.to_vec()),
            counters,
            epoch: 1,
        }
    }

    #[test]
    fn a_range_is_accepted_once_in_the_process() {
        let key = |counters| source_key(b"one range only..", 1, counters);
        let mut sender = Sender::from_source(&key(0..2)).unwrap();
        assert_eq!(sender.next_counter().unwrap(), 0);
        assert!(matches!(
            Sender::from_source(&key(0..2)),
            Err(SenderError::CountersReused(1))
        ));
        assert!(matches!(
            Sender::from_source(&key(1..9)),
            Err(SenderError::CountersReused(1))
        ));
        Sender::from_source(&key(2..4)).unwrap();
        Sender::from_source(&source_key(b"one range only..", 2, 0..2)).unwrap();
        assert_eq!(sender.next_counter().unwrap(), 1);
        assert!(matches!(sender.next_counter(), Err(SenderError::UsedUp)));
        assert!(!sender.is_still(&key(0..2)), "its counters are used up");
    }

    proptest! {
        /// Against a model that remembers every single counter.
        #[test]
        fn ranges_are_accepted_in_any_order_and_once(new in prop::collection::vec((0u64..60, 1u64..12), 1..40)) {
            let mut ranges = Ranges::default();
            let mut used = HashSet::new();
            for (start, len) in new {
                let range = start..start + len;
                let fresh = range.clone().all(|counter| !used.contains(&counter));
                prop_assert_eq!(ranges.insert(&range).is_ok(), fresh);
                if fresh {
                    used.extend(range);
                }
            }
            let kept: u64 = ranges.0.iter().map(|(start, end)| end - start).sum();
            prop_assert_eq!(kept, used.len() as u64);
            for ((_, end), (next, _)) in ranges.0.iter().zip(ranges.0.iter().skip(1)) {
                prop_assert!(end < next, "neighbours are one");
            }
        }
    }

    #[test]
    fn another_kid_is_no_change_within_an_epoch() {
        let key = |base_key: &[u8], kid, epoch| key_source::SenderKey {
            epoch,
            ..source_key(base_key, kid, 0..9)
        };
        let in_epoch = Sender::from_source(&key(b"within an epoch.", 1, 5)).unwrap();
        assert!(in_epoch.is_still(&key(b"within an epoch.", 2, 5)));
        assert!(!in_epoch.is_still(&key(b"another key.....", 2, 5)));
        assert!(!in_epoch.is_still(&key(b"another key.....", 1, 5)));
        assert!(!in_epoch.is_still(&key(b"within an epoch.", 2, 6)));
        let without = Sender::from_source(&key(b"without epochs..", 1, 0)).unwrap();
        assert!(without.is_still(&key(b"without epochs..", 1, 0)));
        assert!(!without.is_still(&key(b"without epochs..", 2, 0)));
    }

    #[test]
    fn a_file_is_leased_again_when_a_block_is_used_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counter");
        let base_key = b"leased twice....";
        let file = CounterFile::open(&path, Fingerprint::new(base_key, 3)).unwrap();
        let mut sender = Sender::from_file(CipherSuite::Aes128GcmSha256_128, 3, base_key, file).unwrap();
        sender.counters.start = sender.counters.end - 1;
        let last = sender.next_counter().unwrap();
        assert_eq!(sender.next_counter().unwrap(), last + 1);
        let on_disk = std::fs::read_to_string(&path).unwrap();
        let on_disk: u64 = on_disk.split(' ').next().unwrap().parse().unwrap();
        assert!(on_disk > last + 1);
    }
}
