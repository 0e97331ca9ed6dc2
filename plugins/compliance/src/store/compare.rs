//! Reads a recording that has ended back from the store, object by object, and compares every byte with the spool. Only
//! after that, and where the spool's own copy is complete, may the spool forget it.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::bucket::{MAX_OBJECT, Object};
use super::upload::{MAX_OBJECTS, Places, is_key, name, part, tar_folder};
use super::{Bucket, Receipt, StoreError, layout};
use crate::ids::RecordingId;
use crate::recording::{Facts, MANIFEST_FILE, Options, RECORDING_FILE, Root, State, TRACKS, verify};

/// So many objects are compared before somebody else has a turn...
const AT_ONCE: usize = 64;

/// ...or so many bytes.
const BYTES_AT_ONCE: u64 = 32 << 20;

/// What is still to be compared.
pub struct Comparison {
    folder: PathBuf,
    media: Bucket,
    objects: VecDeque<Expected>,
    receipt: Receipt,
    facts: Facts,
    verifying: Option<tokio::task::JoinHandle<Result<(), StoreError>>>,
}

/// What an object must be: a part of a file.
struct Expected {
    name: String,
    path: PathBuf,
    offset: u64,
    bytes: u64,
    is_key: bool,
}

impl Comparison {
    /// Lists what there is: all of it, and nothing else.
    pub async fn begin(
        id: RecordingId,
        folder: &Path,
        media: Bucket,
        places: &Places,
        facts: &Facts,
        root: Root,
    ) -> Result<Self, StoreError> {
        let mut found = media.list(&id.to_string(), MAX_OBJECTS).await?;
        let mut objects = VecDeque::new();
        for (file, is_key) in std::iter::once((RECORDING_FILE, false)).chain(
            facts
                .files
                .iter()
                .map(|file| (file.name.as_str(), is_key(&file.name))),
        ) {
            let path = folder.join(file);
            objects.push_back(Expected {
                name: name(id, file),
                bytes: length(&path)?,
                path,
                offset: 0,
                is_key,
            });
            let name = name(id, file);
            found.retain(|object| object.name != name);
        }
        let tracks = folder.join(TRACKS);
        let mut files = vec![(folder.join(MANIFEST_FILE), name(id, MANIFEST_FILE))];
        for tar in std::fs::read_dir(&tracks).map_err(StoreError::io(&tracks))? {
            let tar = tar.map_err(StoreError::io(&tracks))?;
            files.push((tar.path(), tar_folder(id, &tar.file_name().to_string_lossy())));
        }
        for (path, of) in files {
            let begins = format!("{of}/");
            let (pieces, others): (Vec<Object>, Vec<Object>) = found
                .into_iter()
                .partition(|object| object.name.starts_with(&begins));
            found = others;
            let (pieces, strange) = layout::pieces(&of, &pieces);
            found.extend(strange.into_iter().map(|name| Object { name, bytes: 0 }));
            let covered = layout::covered(&pieces).map_err(StoreError::Damaged)?;
            let bytes = length(&path)?;
            if covered != bytes {
                return Err(StoreError::Damaged(format!(
                    "{} has {covered} bytes in the store, and {bytes} in the spool",
                    media.url(&of)
                )));
            }
            objects.extend(pieces.into_iter().map(|piece| Expected {
                name: piece.name,
                path: path.clone(),
                offset: piece.offset,
                bytes: piece.bytes,
                is_key: false,
            }));
        }
        if let Some(strange) = found.first() {
            return Err(StoreError::Damaged(format!(
                "{} does not belong there",
                media.url(&strange.name)
            )));
        }
        Ok(Self {
            folder: folder.to_owned(),
            receipt: Receipt {
                location: media.url(&id.to_string()),
                keys: places.keys.url(&id.to_string()),
                root,
                objects: 0,
                bytes: 0,
            },
            media,
            objects,
            facts: facts.clone(),
            verifying: None,
        })
    }

    /// Compares some objects. None: there are more.
    pub async fn step(&mut self, places: &Places) -> Result<Option<Receipt>, StoreError> {
        let mut bytes = 0;
        for _ in 0..AT_ONCE {
            let Some(expected) = self.objects.front() else {
                return self.spool_is_complete().await;
            };
            let bucket = if expected.is_key {
                &places.keys
            } else {
                &self.media
            };
            let there = bucket.get(&expected.name, MAX_OBJECT).await?;
            let there = there.ok_or_else(|| StoreError::Missing(bucket.url(&expected.name)))?;
            let file = File::open(&expected.path).map_err(StoreError::io(&expected.path))?;
            let own = part(
                &file,
                &expected.path,
                expected.offset,
                expected.offset + expected.bytes,
            )?;
            if there != own {
                return Err(StoreError::Conflict(bucket.url(&expected.name)));
            }
            self.receipt.objects += 1;
            self.receipt.bytes += expected.bytes;
            bytes += expected.bytes;
            places.compared.fetch_add(expected.bytes, Ordering::Relaxed);
            self.objects.pop_front();
            if bytes >= BYTES_AT_ONCE {
                break;
            }
        }
        Ok(None)
    }

    /// What is the same as something damaged is damaged, too.
    async fn spool_is_complete(&mut self) -> Result<Option<Receipt>, StoreError> {
        let verifying = match &mut self.verifying {
            Some(verifying) => verifying,
            None => {
                let (folder, key) = (self.folder.clone(), self.facts.log_key);
                self.verifying
                    .insert(tokio::task::spawn_blocking(move || is_complete(&folder, key)))
            }
        };
        // Others have their turns meanwhile.
        let soon = tokio::time::timeout(std::time::Duration::from_millis(50), verifying).await;
        let Ok(verified) = soon else { return Ok(None) };
        self.verifying = None;
        verified.map_err(|error| StoreError::Damaged(format!("it was not verified: {error}")))??;
        Ok(Some(self.receipt.clone()))
    }
}

fn length(path: &Path) -> Result<u64, StoreError> {
    Ok(path.metadata().map_err(StoreError::io(path))?.len())
}

fn is_complete(folder: &Path, key: crate::signing::PublicKey) -> Result<(), StoreError> {
    let options = Options {
        log_key: Some(key),
        ..Options::default()
    };
    let report = verify(folder, &options).map_err(|error| StoreError::Damaged(error.to_string()))?;
    if report.state == State::Complete {
        return Ok(());
    }
    let why = report
        .damages
        .first()
        .map_or_else(|| "it is unfinished".to_owned(), ToString::to_string);
    Err(StoreError::Damaged(format!(
        "{} is not complete, and stays in the spool: {why}. gst-compliance verify tells all of it",
        folder.display()
    )))
}
