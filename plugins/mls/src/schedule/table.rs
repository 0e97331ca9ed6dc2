//! Keys to open with: what a lookup needs, and nothing that changes while it looks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::kid::Layout;
use super::{LeafInfo, Retired};

/// What never changes about an epoch. The base key is erased with the last one who has it.
pub(super) struct Keys {
    pub epoch: u64,
    pub suite: u16,
    pub base_key: Zeroizing<Vec<u8>>,
    pub layout: Layout,
    pub leaves: Arc<BTreeMap<u32, LeafInfo>>,
    pub own_leaf: u32,
}

impl Keys {
    pub fn has(&self, base_key: &[u8]) -> bool {
        self.base_key.as_slice() == base_key
    }
}

/// An epoch that is opened.
#[derive(Clone)]
pub(super) struct Opened {
    pub keys: Arc<Keys>,
    /// Leaves whose keys of this epoch ended before the others.
    pub retired: Arc<Retired>,
    pub expires_at: Option<u64>,
}

impl Opened {
    /// Whose KID it is, where it is of this epoch and of somebody whose frames are opened.
    pub fn leaf_of(&self, kid: u64) -> Option<(u32, &LeafInfo)> {
        let leaf = self.keys.layout.leaf(kid, self.keys.epoch)?;
        let info = self.keys.leaves.get(&leaf)?;
        let is_opened = info.may_send && leaf != self.keys.own_leaf && !self.retired.contains(&leaf);
        is_opened.then_some((leaf, info))
    }

    pub fn key(&self, now: u64, leaf: u32, info: &LeafInfo) -> Option<OpeningKey> {
        self.expires_at.is_none_or(|at| now < at).then(|| OpeningKey {
            suite: self.keys.suite,
            base_key: self.keys.base_key.clone(),
            epoch: self.keys.epoch,
            leaf,
            sender: info.sender.clone(),
        })
    }
}

/// A key to open with and whose it is.
pub struct OpeningKey {
    /// SFrame cipher suite (IANA number).
    pub suite: u16,
    /// Base key (RFC 9605 §4.4.2).
    pub base_key: Zeroizing<Vec<u8>>,
    /// Number of the epoch.
    pub epoch: u64,
    /// Leaf of the sender.
    pub leaf: u32,
    /// Identity of the sender.
    pub sender: String,
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpeningKey")
            .field("epoch", &self.epoch)
            .field("leaf", &self.leaf)
            .finish_non_exhaustive()
    }
}

/// All keys to open with at one moment. Cheap to make and to keep: the keys themselves are shared.
#[derive(Clone, Default)]
pub struct KeyTable(pub(super) Vec<Opened>);

impl KeyTable {
    /// The key of a KID; `None` where it is unknown, expired, of the own leaf, or of a leaf that may not send.
    pub fn receiver_key(&self, now: u64, kid: u64) -> Option<OpeningKey> {
        self.0.iter().find_map(|opened| {
            let (leaf, info) = opened.leaf_of(kid)?;
            opened.key(now, leaf, info)
        })
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|opened| opened.keys.epoch))
            .finish()
    }
}
