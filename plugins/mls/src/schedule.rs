//! When keys change: which epoch this endpoint seals under, which KIDs it opens, and when old keys end.
//!
//! A receiver takes the keys of a new epoch at once; a sender goes on to them only when others can be expected to
//! have them too, so that no frame is lost. Old keys live on for what is still on its way, and not longer.
//!
//! ```text
//!            enter(N+1)                     all_ready, peer_opened(N+1), or the deadline
//! N ─────────────┬──────────────────────────────────┬──────────────────────────┬───────▶
//!   seals N      │  seals N, opens N and N+1        │  seals N+1, opens both   │  N is forgotten
//!                │  (in transition)                 │                          │
//!                └─ at most 1 s; 200 ms after a Remove                         └─ 10 s; 2 s after receipt of a Remove
//! ```
//!
//! After a Remove the old keys of a sender end earlier where it went on: 500 ms after its first frame in the new epoch.
//!
//! What must never happen: a KID that is handed out twice under one base key; a frame that is sealed under an epoch of
//! somebody who was removed more than 250 ms ago; keys that anybody can make grow without end. No threads and no clock:
//! time comes in, in milliseconds of a monotonic clock.

mod kid;
mod table;

#[cfg(test)]
mod tests;

pub use kid::Layout;
pub use table::{KeyTable, OpeningKey};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::Range;
use std::sync::Arc;

use gst_e2ee_common::cipher_suite::CipherSuite;
use gst_e2ee_common::room_state::RoomState;
use zeroize::Zeroizing;

use table::{Keys, Opened};

/// After so long a sender goes on to a new epoch without knowing that others have it, in milliseconds.
pub const SWITCH_MS: u64 = 1000;
/// The same where somebody was removed. The promise is 250 ms; the rest is for the thread that calls
/// [`Schedule::tick`], and for the frame that is being sealed meanwhile.
pub const SWITCH_AFTER_REMOVE_MS: u64 = 200;
/// So long an epoch is still opened after this endpoint went on, in milliseconds.
pub const KEEP_MS: u64 = 10_000;
/// So long an epoch is still opened after receipt of a commit that removed one of its members, in milliseconds.
pub const KEEP_AFTER_REMOVE_MS: u64 = 2_000;
/// So long after the first frame of a sender in the new epoch its old keys end, where somebody was removed, in
/// milliseconds. Not at once: its streams go on one by one and arrive apart, video some 100 ms after audio.
pub const RETIRE_MS: u64 = 500;
/// Old keys of single senders that are due within so long end together, in one announcement, in milliseconds.
pub const COALESCE_MS: u64 = 100;
/// Frames that are sealed under one KID: each KID has an AES key of its own (RFC 9605 §4.4.2), which should not seal
/// more (NIST SP 800-38D §8.3). The next range is the next KID.
pub const COUNTERS: Range<u64> = 0..1 << 32;

/// A leaf that is not blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafInfo {
    /// Identity of the member, for people and for records.
    pub sender: String,
    /// Whether frames of it are opened: not those of members that only record.
    pub may_send: bool,
}

/// What an epoch brings.
#[derive(Clone)]
pub struct EpochKeys {
    /// Number of the epoch.
    pub epoch: u64,
    /// MLS-Exporter("SFrame 1.0 Base Key", "", Nk) (RFC 9605 §5.2).
    pub base_key: Zeroizing<Vec<u8>>,
    /// SFrame cipher suite (IANA number).
    pub suite: u16,
    /// E: how many bits of a KID tell the epoch, 1 to 8.
    pub epoch_bits: u8,
    /// Everybody who is in the group.
    pub leaves: BTreeMap<u32, LeafInfo>,
    /// Leaves of the tree, blank ones included.
    pub tree_leaves: u32,
    /// This endpoint's leaf.
    pub own_leaf: u32,
    /// Whether the commit, or any that this endpoint did not see, removed somebody.
    pub removed_somebody: bool,
    /// Whether this process may seal in it.
    pub sealing: bool,
    /// What holds in the room in it, for those who ask the key source.
    pub room: RoomState,
}

impl fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochKeys")
            .field("epoch", &self.epoch)
            .field("leaves", &self.leaves.len())
            .field("own_leaf", &self.own_leaf)
            .field("removed_somebody", &self.removed_somebody)
            .field("sealing", &self.sealing)
            .finish_non_exhaustive()
    }
}

/// Why an epoch was not taken. Nothing changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnterError {
    /// Epochs only go forward, unless everything was forgotten before.
    #[error("epoch {epoch} comes after epoch {newest}")]
    NotNewer {
        /// The epoch that was to be entered.
        epoch: u64,
        /// The newest one that is known.
        newest: u64,
    },
    /// The policy names an SFrame suite that is not implemented.
    #[error("SFrame cipher suite {0} is not implemented")]
    Suite(u16),
    /// E must be 1 to 8, and all leaves must be in the tree.
    #[error("the epoch's numbers do not make a KID")]
    Layout,
    /// There is no key.
    #[error("the base key is empty")]
    NoKey,
}

/// A key to seal with, given to one sender.
pub struct SealingKey {
    /// Key id, given out once under this base key.
    pub kid: u64,
    /// SFrame cipher suite (IANA number).
    pub suite: u16,
    /// Base key (RFC 9605 §4.4.2).
    pub base_key: Zeroizing<Vec<u8>>,
    /// First counter.
    pub counter: u64,
    /// The counter after the last.
    pub counter_end: u64,
    /// Number of the epoch.
    pub epoch: u64,
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey")
            .field("kid", &self.kid)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// Whose first frame it was, and what it caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerOpened {
    /// Epoch of the frame.
    pub epoch: u64,
    /// Leaf of its sender.
    pub leaf: u32,
    /// Whether this endpoint went on to that epoch because of it.
    pub switched: bool,
}

/// An epoch whose keys are here.
struct Epoch {
    opened: Opened,
    may_seal: bool,
    /// From then on nothing is sealed in it, because somebody was removed after it.
    seal_until: Option<u64>,
    /// The first epoch after this one that removed somebody.
    removed_in: Option<u64>,
    /// Senders go on to it at the latest then.
    switch_at: u64,
    /// Context values that were not given out yet.
    contexts: Range<u64>,
}

impl Epoch {
    fn can_seal(&self, now: u64) -> bool {
        self.may_seal && self.seal_until.is_none_or(|until| now < until)
    }

    fn expire_at(&mut self, at: u64) {
        let expires_at = &mut self.opened.expires_at;
        *expires_at = Some(expires_at.map_or(at, |before| before.min(at)));
    }
}

/// The keys of all epochs that live, and which one is sealed under.
#[derive(Default)]
pub struct Schedule {
    now: u64,
    epochs: BTreeMap<u64, Epoch>,
    /// The epoch that this endpoint went on to. Always one that lives, but perhaps one that it cannot seal in.
    position: Option<u64>,
    forbidden: bool,
    /// Highest epoch in which a KID was given out.
    highest_sealed: Option<u64>,
    /// Highest KID that was given out, in any epoch.
    highest_kid: u64,
    /// The newest epoch there ever was since everything was forgotten.
    newest: u64,
    changed: bool,
    /// What senders were last told to seal under.
    announced: Option<u64>,
    /// Epochs and leaves whose keys end before those of the others, and when.
    retiring: BTreeMap<(u64, u32), u64>,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule")
            .field("epochs", &self.epochs.keys().collect::<Vec<_>>())
            .field("position", &self.position)
            .field("forbidden", &self.forbidden)
            .finish_non_exhaustive()
    }
}

impl Schedule {
    /// No keys yet.
    pub fn new() -> Self {
        Self::default()
    }

    // What happens

    /// The keys of a new epoch are here: a commit stands in the log and passed all checks.
    ///
    /// Where epochs were left out somebody may have been removed in between, so that counts as a Remove. The same epoch
    /// with the same key again is no error and changes nothing.
    pub fn enter(&mut self, now: u64, keys: EpochKeys) -> Result<(), EnterError> {
        self.tick(now);
        let epoch = keys.epoch;
        if CipherSuite::from_iana(keys.suite.into()).is_none() {
            return Err(EnterError::Suite(keys.suite));
        }
        if keys.base_key.is_empty() {
            return Err(EnterError::NoKey);
        }
        let layout = Layout::new(keys.epoch_bits, keys.tree_leaves).ok_or(EnterError::Layout)?;
        let highest_leaf = keys.leaves.keys().next_back().copied().unwrap_or(0);
        if highest_leaf.max(keys.own_leaf) >= keys.tree_leaves {
            return Err(EnterError::Layout);
        }
        let known = self.epochs.last_key_value();
        if let Some((&newest, last)) = known
            && epoch <= newest
        {
            let same = epoch == newest && last.opened.keys.has(&keys.base_key);
            return if same {
                Ok(())
            } else {
                Err(EnterError::NotNewer { epoch, newest })
            };
        }

        self.epochs
            .retain(|&old, o| !layout.displaces(epoch, o.opened.keys.layout, old));
        let removed = keys.removed_somebody || known_gap(self.newest, epoch, self.position);
        if removed {
            for old in self.epochs.values_mut() {
                let seal_until = self.now.saturating_add(SWITCH_AFTER_REMOVE_MS);
                old.seal_until = Some(old.seal_until.map_or(seal_until, |before| before.min(seal_until)));
                old.removed_in.get_or_insert(epoch);
                old.expire_at(self.now.saturating_add(KEEP_AFTER_REMOVE_MS));
            }
        }
        // An epoch that was left behind and is entered again must not give its KIDs out again.
        let first_context = if self.highest_sealed.is_some_and(|highest| epoch <= highest) {
            layout.context_after(self.highest_kid)
        } else {
            0
        };
        let own = keys.leaves.get(&keys.own_leaf);
        let entry = Epoch {
            may_seal: keys.sealing && own.is_some_and(|own| own.may_send),
            seal_until: None,
            removed_in: None,
            switch_at: self.now.saturating_add(if removed {
                SWITCH_AFTER_REMOVE_MS
            } else {
                SWITCH_MS
            }),
            contexts: first_context..layout.contexts(),
            opened: Opened {
                keys: Arc::new(Keys {
                    epoch,
                    suite: keys.suite,
                    base_key: keys.base_key,
                    layout,
                    leaves: self.shared_leaves(keys.leaves),
                    own_leaf: keys.own_leaf,
                }),
                retired: Arc::default(),
                expires_at: None,
            },
        };
        self.epochs.insert(epoch, entry);
        self.newest = epoch;
        self.changed = true;
        self.settle();
        Ok(())
    }

    /// All members said that they have the keys of this epoch.
    pub fn all_ready(&mut self, now: u64, epoch: u64) {
        self.tick(now);
        self.go_on_if_possible(epoch);
        self.settle();
    }

    /// The first frame of a KID authenticated. `None`: a KID that is not opened (any more), nothing happened.
    pub fn peer_opened(&mut self, now: u64, kid: u64) -> Option<PeerOpened> {
        self.tick(now);
        let (epoch, leaf, sender) = {
            let (opened, leaf, info) = self.find(kid)?;
            (opened.keys.epoch, leaf, info.sender.clone())
        };
        // Who was removed could still speak as this sender in an epoch that it left.
        let retire_at = self.now.saturating_add(RETIRE_MS);
        for (&number, old) in self.epochs.range(..epoch) {
            let is_over = old.removed_in.is_some_and(|removed_in| removed_in <= epoch);
            if is_over && !old.opened.retired.contains(&leaf) {
                let same = old
                    .opened
                    .keys
                    .leaves
                    .iter()
                    .filter(|(_, info)| info.sender == sender);
                for leaf in same.map(|(&leaf, _)| leaf).chain([leaf]) {
                    self.retiring.entry((number, leaf)).or_insert(retire_at);
                }
            }
        }
        let switched = self.go_on_if_possible(epoch);
        self.settle();
        Some(PeerOpened {
            epoch,
            leaf,
            switched,
        })
    }

    /// Whether this endpoint may seal at all: not while the room's claim is below what it accepts, while it is stale, or
    /// after it was evicted. Keys are another matter; they go on.
    pub fn allow_sealing(&mut self, allowed: bool) {
        self.forbidden = !allowed;
        self.settle();
    }

    /// Forgets every key. What was given out stays given out.
    pub fn forget_all(&mut self) {
        self.changed |= !self.epochs.is_empty();
        self.epochs.clear();
        self.position = None;
        self.retiring.clear();
        self.settle();
    }

    /// Time passed. May come at any time; must come at [`Self::next_deadline`].
    pub fn tick(&mut self, now: u64) {
        self.now = self.now.max(now);
        self.settle();
        let now = self.now;
        let before = self.epochs.len();
        self.epochs
            .retain(|_, epoch| epoch.opened.expires_at.is_none_or(|at| now < at));
        self.changed |= self.epochs.len() != before;
        self.retire();
    }

    /// Ends the old keys of senders that went on, those that are due soon together with those that are due.
    fn retire(&mut self) {
        self.retiring
            .retain(|(epoch, _), _| self.epochs.contains_key(epoch));
        if self.retiring.values().all(|&at| self.now < at) {
            return;
        }
        let soon = self.now.saturating_add(COALESCE_MS);
        for ((epoch, leaf), _) in self.retiring.extract_if(.., |_, at| *at <= soon) {
            if let Some(old) = self.epochs.get_mut(&epoch) {
                Arc::make_mut(&mut old.opened.retired).insert(leaf);
                self.changed = true;
            }
        }
    }

    // What follows

    /// When [`Self::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<u64> {
        let ahead = self.position.map_or(Unbounded, Excluded);
        let switches = self
            .epochs
            .range((ahead, Unbounded))
            .map(|(_, epoch)| epoch.switch_at);
        let here = self.position.and_then(|position| self.epochs.get(&position));
        let leave = here
            .filter(|here| here.can_seal(self.now))
            .and_then(|here| here.seal_until);
        let ends = self.epochs.values().filter_map(|epoch| epoch.opened.expires_at);
        let retire = self.retiring.values().copied();
        switches.chain(leave).chain(ends).chain(retire).min()
    }

    /// Since the last call a key appeared, changed or expired, or sealing began or ended: `keys-changed` must be emitted,
    /// with this epoch, the newest.
    pub fn take_changed(&mut self) -> Option<u64> {
        std::mem::take(&mut self.changed).then_some(self.newest)
    }

    /// A key and counters for one sender. Each call gives out the next context value of the epoch, so that no two senders
    /// ever share a KID. `None`: nothing may be sealed now.
    pub fn sender_key(&mut self, now: u64) -> Option<SealingKey> {
        self.tick(now);
        let position = self.sealing_epoch()?;
        let epoch = self.epochs.get_mut(&position)?;
        let keys = &epoch.opened.keys;
        let context = epoch.contexts.next()?;
        let kid = keys.layout.kid(context, keys.own_leaf, keys.epoch)?;
        self.highest_kid = self.highest_kid.max(kid);
        self.highest_sealed = self.highest_sealed.max(Some(position));
        Some(SealingKey {
            kid,
            suite: keys.suite,
            base_key: keys.base_key.clone(),
            counter: COUNTERS.start,
            counter_end: COUNTERS.end,
            epoch: position,
        })
    }

    /// The key of a KID; `None` where it is unknown, expired, of the own leaf, or of a leaf that may not send.
    pub fn receiver_key(&self, now: u64, kid: u64) -> Option<OpeningKey> {
        let (opened, leaf, info) = self.find(kid)?;
        opened.key(now.max(self.now), leaf, info)
    }

    /// All keys to open with, as they are now: for those who look keys up while this is being changed.
    pub fn table(&self) -> KeyTable {
        KeyTable(self.epochs.values().map(|epoch| epoch.opened.clone()).collect())
    }

    /// Has keys of a newer epoch than the one that it went on to.
    pub fn transition(&self) -> bool {
        let newest = self.epochs.last_key_value().map(|(&newest, _)| newest);
        newest > self.position
    }

    /// The epoch that frames are sealed under now, if any.
    pub fn sealing_epoch(&self) -> Option<u64> {
        self.position.filter(|_| !self.forbidden && self.seals())
    }

    /// All KIDs of the sealing epoch were given out: only a new epoch brings more.
    pub fn used_up(&self) -> bool {
        let here = self.sealing_epoch().and_then(|epoch| self.epochs.get(&epoch));
        here.is_some_and(|here| here.contexts.is_empty())
    }

    /// Epochs whose keys are here, oldest first.
    pub fn epochs(&self) -> impl Iterator<Item = u64> {
        self.epochs.keys().copied()
    }

    // How

    fn find(&self, kid: u64) -> Option<(&Opened, u32, &LeafInfo)> {
        let mut opened = self.epochs.values().map(|epoch| &epoch.opened);
        opened.find_map(|opened| opened.leaf_of(kid).map(|(leaf, info)| (opened, leaf, info)))
    }

    /// There is a key to seal with, whether or not that is allowed.
    fn seals(&self) -> bool {
        let here = self.position.and_then(|position| self.epochs.get(&position));
        here.is_some_and(|here| here.can_seal(self.now))
    }

    fn go_on_if_possible(&mut self, epoch: u64) -> bool {
        let is_possible = Some(epoch) > self.position
            && self
                .epochs
                .get(&epoch)
                .is_some_and(|next| next.can_seal(self.now));
        if is_possible {
            self.go_on(epoch);
        }
        is_possible
    }

    fn go_on(&mut self, to: u64) {
        for (_, old) in self.epochs.range_mut(..to) {
            old.expire_at(self.now.saturating_add(KEEP_MS));
        }
        self.position = Some(to);
    }

    /// Goes on where the time has come, and notes where sealing changed.
    fn settle(&mut self) {
        self.follow();
        let sealing = self.sealing_epoch();
        self.changed |= std::mem::replace(&mut self.announced, sealing) != sealing;
    }

    fn follow(&mut self) {
        let now = self.now;
        let due = self.epochs.iter().rev().find(|(_, epoch)| epoch.switch_at <= now);
        let least = due.map(|(&due, _)| due).max(self.lag_limit()).max(self.position);
        let Some(least) = least.or_else(|| self.epochs.keys().next().copied()) else {
            return;
        };
        if self.position == Some(least) && self.seals() {
            return;
        }
        // Where nothing can be sealed it is no use to wait for others. The oldest is the one that most of them have.
        let mut rest = self.epochs.range(least..);
        let first = rest.clone().next();
        let target = rest.find(|(_, epoch)| epoch.can_seal(now)).or(first);
        let target = target.map(|(&target, _)| target);
        if let Some(target) = target
            && self.position != Some(target)
        {
            self.go_on(target);
        }
    }

    /// In a burst of commits nobody may stay so far behind that others, who are ahead, have dropped its epoch: from half
    /// of the 2^E epochs that can live, on to a quarter behind the newest.
    fn lag_limit(&self) -> Option<u64> {
        let position = self.position?;
        let (&newest, last) = self.epochs.last_key_value()?;
        let window = last.opened.keys.layout.epoch_window();
        (newest.saturating_sub(position) >= (window / 2).max(2)).then(|| newest - (window / 4).max(1))
    }

    /// Memory of the newest epoch's members is shared with the next, where they are the same.
    fn shared_leaves(&self, leaves: BTreeMap<u32, LeafInfo>) -> Arc<BTreeMap<u32, LeafInfo>> {
        let last = self.epochs.last_key_value();
        match last.map(|(_, last)| &last.opened.keys.leaves) {
            Some(before) if **before == leaves => before.clone(),
            _ => Arc::new(leaves),
        }
    }
}

/// Epochs between the last one and this one were never seen here.
fn known_gap(newest: u64, epoch: u64, position: Option<u64>) -> bool {
    position.is_some() && epoch > newest.saturating_add(1)
}

/// Leaves whose old keys ended.
type Retired = BTreeSet<u32>;
