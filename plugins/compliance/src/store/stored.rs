//! A recording in a store, as those see it who delete it or wrap its key to others.

use std::fs;
use std::path::Path;

use bytes::Bytes;

use super::bucket::MAX_OBJECT;
use super::fetch::copy_keys;
use super::upload::{MAX_OBJECTS, name};
use super::{Bucket, Removed, StoreError, layout};
use crate::bundle::{KEY_FILE, SHARES, read_bounded};
use crate::ids::RecordingId;
use crate::recording::holders::{HOLDERS, REWRAP_FILE};
use crate::recording::{MANIFEST_FILE, RECORDING_FILE, ends};

/// A recording in a store: its media at one place, its keys at another.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Which recording.
    pub id: RecordingId,
    /// Where recordings are.
    pub media: Bucket,
    /// Where their keys are.
    pub keys: Bucket,
}

/// The recordings at a place.
pub async fn recordings(media: &Bucket) -> Result<Vec<RecordingId>, StoreError> {
    let folders = media.folders().await?;
    let mut ids: Vec<RecordingId> = folders.iter().filter_map(|name| name.parse().ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

impl Stored {
    /// Its whole name, for people.
    pub fn url(&self) -> String {
        self.media.url(&self.id.to_string())
    }

    /// Its `recording.json`.
    pub async fn recording_file(&self) -> Result<Bytes, StoreError> {
        let file = name(self.id, RECORDING_FILE);
        let found = self.media.get(&file, crate::recording::facts::MAX_FILE).await?;
        found.ok_or_else(|| StoreError::Missing(self.media.url(&file)))
    }

    /// Has it its end record? Reads the last piece of the manifest only, and believes it.
    pub async fn is_finished(&self) -> Result<bool, StoreError> {
        let folder = name(self.id, MANIFEST_FILE);
        let (pieces, _) = layout::pieces(&folder, &self.media.list(&folder, MAX_OBJECTS).await?);
        let Some(last) = pieces.last() else {
            return Ok(false);
        };
        let lines = self.media.get(&last.name, MAX_OBJECT).await?;
        Ok(lines.is_some_and(|lines| ends(&lines)))
    }

    /// Are there any keys of it?
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        Ok(!self
            .keys
            .list(&self.id.to_string(), MAX_OBJECTS)
            .await?
            .is_empty())
    }

    /// Fetches what wrapping its key to others needs into a folder, which must not exist: no media.
    pub async fn fetch_keys(&self, out: &Path) -> Result<(), StoreError> {
        let recording = self.recording_file().await?;
        fs::create_dir_all(out).map_err(StoreError::io(out))?;
        // A recording is locked by its manifest; there is nobody here to be kept from it.
        for (file, content) in [(RECORDING_FILE, &recording[..]), (MANIFEST_FILE, b"")] {
            let path = out.join(file);
            fs::write(&path, content).map_err(StoreError::io(&path))?;
        }
        copy_keys(&self.keys, self.id, out).await
    }

    /// Brings the key files of a folder, those of its holders now, into the store; then removes all others there are.
    /// Nothing is overwritten.
    pub async fn put_keys(&self, folder: &Path) -> Result<Removed, StoreError> {
        let mut kept = Vec::new();
        for file in key_files(folder)? {
            let path = folder.join(&file);
            let content = read_bounded(&path, crate::bundle::MAX_FILE).map_err(StoreError::io(&path))?;
            let object = name(self.id, &file);
            self.keys.put_same(&object, content.into()).await?;
            kept.push(object);
        }
        if kept.is_empty() {
            return Err(StoreError::Damaged(format!(
                "{} has no key files",
                folder.display()
            )));
        }
        self.remove_other_keys(&kept).await
    }
}

/// The key files of a recording's folder, and the statements of whom they are for.
fn key_files(folder: &Path) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let mut below = vec![KEY_FILE.to_owned(), SHARES.to_owned(), HOLDERS.to_owned()];
    while let Some(name) = below.pop() {
        let path = folder.join(&name);
        if !path.is_dir() {
            found.extend(path.exists().then_some(name));
            continue;
        }
        for entry in fs::read_dir(&path).map_err(StoreError::io(&path))? {
            let entry = entry.map_err(StoreError::io(&path))?;
            below.push(format!("{name}/{}", entry.file_name().to_string_lossy()));
        }
    }
    // From a statement on its key files count: it comes last.
    found.sort_unstable_by_key(|name| (name.ends_with(REWRAP_FILE), name.clone()));
    Ok(found)
}
