//! Removes a recording from a store, in three steps: its keys, so that no copy of its media can be opened any more; its
//! media; and `recording.json`, which says which recording it is.
//!
//! In a bucket that keeps versions an object that is deleted is only hidden. So every version is listed, and deleted by
//! its own name. What is under a retention lock the store does not delete, and that is told as it is. Whoever calls this
//! has the decision in the audit log.

use super::signed::{self, Version};
use super::upload::name;
use super::{Bucket, StoreError, Stored};
use crate::bundle::STATEMENT_FILE;
use crate::recording::{MANIFEST_FILE, RECORDING_FILE, TRACKS};

/// What was removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// So many versions of objects.
    pub versions: u64,
    /// Their length.
    pub bytes: u64,
}

impl Stored {
    /// Removes every version of its keys.
    pub async fn remove_keys(&self) -> Result<Removed, StoreError> {
        remove(&self.keys, &name(self.id, ""), |_| true).await
    }

    /// Removes every version of its keys but of these objects.
    pub async fn remove_other_keys(&self, kept: &[String]) -> Result<Removed, StoreError> {
        let is_other = |version: &Version| !kept.iter().any(|name| version.is_of(&self.keys, name));
        remove(&self.keys, &name(self.id, ""), is_other).await
    }

    /// Removes every version of its media, and of what describes that, but `recording.json`. The first one that is locked
    /// ends it.
    pub async fn remove_media(&self) -> Result<Removed, StoreError> {
        let mut removed = Removed::default();
        for part in [MANIFEST_FILE, TRACKS, STATEMENT_FILE] {
            let of = remove(&self.media, &name(self.id, part), |_| true).await?;
            removed.versions += of.versions;
            removed.bytes += of.bytes;
        }
        Ok(removed)
    }

    /// Removes every version of `recording.json`. Where something else is left, that is named, and all stays.
    pub async fn forget(&self) -> Result<(), StoreError> {
        let last = name(self.id, RECORDING_FILE);
        let left = signed::versions(&self.media, &name(self.id, "")).await?;
        if let Some(other) = left.iter().find(|version| !version.is_of(&self.media, &last)) {
            return Err(StoreError::Damaged(format!(
                "{} does not belong there, and stays: it is no part of a recording",
                other.url(&self.media)
            )));
        }
        remove(&self.media, &last, |_| true).await.map(drop)
    }
}

async fn remove(
    bucket: &Bucket,
    begins: &str,
    is_meant: impl Fn(&Version) -> bool,
) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    loop {
        // What is deleted is not listed again.
        let mut versions = signed::versions(bucket, begins).await?;
        versions.retain(&is_meant);
        if versions.is_empty() {
            return Ok(removed);
        }
        for version in versions {
            signed::delete(bucket, &version).await?;
            removed.versions += 1;
            removed.bytes += version.bytes;
        }
    }
}
