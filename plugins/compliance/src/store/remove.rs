//! Removes a recording from a store: its keys, so that no copy of its media can be opened any more, or its media.
//!
//! In a bucket that keeps versions an object that is deleted is only hidden. So every version is listed, and deleted by
//! its own name. What is under a retention lock the store does not delete, and that is told as it is.

use super::{Bucket, StoreError, signed};
use crate::ids::RecordingId;

/// What was removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// So many versions of objects.
    pub versions: u64,
}

/// Removes every version of every object of a recording, the last that names others first: its manifest and what it
/// begins with. The first one that is locked ends it.
pub async fn remove_media(media: &Bucket, id: RecordingId) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    for folder in [format!("{id}/manifest/"), format!("{id}/")] {
        removed.versions += remove(media, &folder).await?;
    }
    if removed.versions == 0 {
        return Err(StoreError::Missing(media.url(&id.to_string())));
    }
    Ok(removed)
}

/// Removes every version of a recording's keys: what is left of it cannot be opened, unless somebody has a copy of them.
pub async fn remove_keys(keys: &Bucket, id: RecordingId) -> Result<Removed, StoreError> {
    let versions = remove(keys, &format!("{id}/")).await?;
    if versions == 0 {
        return Err(StoreError::Missing(keys.url(&id.to_string())));
    }
    Ok(Removed { versions })
}

async fn remove(bucket: &Bucket, folder: &str) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        // What is deleted is not listed again.
        let versions = signed::versions(bucket, folder).await?;
        if versions.is_empty() {
            return Ok(removed);
        }
        for version in versions {
            signed::delete(bucket, &version).await?;
            removed += 1;
        }
    }
}
