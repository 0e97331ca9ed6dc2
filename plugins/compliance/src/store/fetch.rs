//! Brings a recording or a log back into a folder, byte for byte, and says what of it is not there.
//!
//! Nothing that the store gives is believed: names are those of the layout or are not written, lengths are bounded, and
//! whether the folder is what was recorded the ordinary verifiers say, which know signatures and digests.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::bucket::{MAX_OBJECT, Object};
use super::layout::{self, Piece};
use super::log::{self, ANCHORS, CHECKPOINT, LOG, VKEY};
use super::upload::{MAX_OBJECTS, name, tar_folder};
use super::{Bucket, StoreError};
use crate::audit::Note;
use crate::audit::checkpoint::MAX_NOTE;
use crate::bundle::{KEY_FILE, SHARES, STATEMENT_FILE};
use crate::ids::RecordingId;
use crate::recording::holders::{HOLDERS, REWRAP_FILE};
use crate::recording::{MANIFEST_FILE, Place, RECORDING_FILE, TRACKS};

/// So many of the older checkpoints are held against a log, spread over all that there are.
const SEEN: usize = 64;

/// Most files of a witness's that are looked at.
const MAX_WITNESSES: usize = 64;

/// Most objects of a recording's keys.
const MAX_KEYS: usize = 20_000;

/// What is not as it should be in the store, beyond what the folder shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// A part of a file is in no object.
    Hole {
        /// The file.
        file: String,
        /// Where it begins.
        from: u64,
        /// Where the next object begins.
        to: u64,
        /// That object.
        before: String,
    },
    /// Two objects hold the same part of a file.
    Overlap(String),
    /// An object that is none of the layout.
    Extra(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hole {
                file,
                from,
                to,
                before,
            } => {
                write!(
                    f,
                    "an object is missing before {before}: bytes {from} to {to} of {file}"
                )
            }
            Self::Overlap(name) => write!(f, "{name} holds what another object holds, too"),
            Self::Extra(name) => write!(f, "{} does not belong there", name.escape_debug()),
        }
    }
}

/// The objects of a recording.
struct Listed {
    small: Vec<Object>,
    /// The tars by their names, and the manifest.
    files: BTreeMap<String, Vec<Piece>>,
    findings: Vec<Finding>,
}

async fn listed(media: &Bucket, id: RecordingId) -> Result<Listed, StoreError> {
    let objects = media.list(&id.to_string(), MAX_OBJECTS).await?;
    if objects.is_empty() {
        return Err(StoreError::Missing(media.url(&id.to_string())));
    }
    let mut listed = Listed {
        small: Vec::new(),
        files: BTreeMap::new(),
        findings: Vec::new(),
    };
    let (manifest, tracks) = (name(id, MANIFEST_FILE), name(id, &format!("{TRACKS}/")));
    let mut folders: BTreeMap<(String, String), Vec<Object>> = BTreeMap::new();
    for object in objects {
        let of = object.name.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let tar = of
            .as_ref()
            .and_then(|of| of.strip_prefix(&tracks))
            .filter(|of| is_tar(of));
        if [RECORDING_FILE, STATEMENT_FILE]
            .iter()
            .any(|file| object.name == name(id, file))
        {
            listed.small.push(object);
        } else if of.as_ref() == Some(&manifest) {
            let key = (MANIFEST_FILE.to_owned(), manifest.clone());
            folders.entry(key).or_default().push(object);
        } else if let Some(tar) = tar {
            let tar = format!("{tar}.tar");
            let key = (format!("{TRACKS}/{tar}"), tar_folder(id, &tar));
            folders.entry(key).or_default().push(object);
        } else {
            listed.findings.push(Finding::Extra(object.name));
        }
    }
    for ((file, folder), objects) in folders {
        let (pieces, others) = layout::pieces(&folder, &objects);
        listed.findings.extend(others.into_iter().map(Finding::Extra));
        listed.files.insert(file, pieces);
    }
    Ok(listed)
}

/// Is this the name of a tar's folder: `<n>-<medium>`?
fn is_tar(name: &str) -> bool {
    let medium = |word: &str| {
        crate::recording::Medium::ALL
            .iter()
            .any(|medium| medium.to_string() == word)
    };
    name.split_once('-').is_some_and(|(number, word)| {
        number
            .parse::<u32>()
            .is_ok_and(|parsed| parsed.to_string() == number)
            && medium(word)
    })
}

/// Bytes that a recording takes when it is fetched.
pub async fn size(media: &Bucket, id: RecordingId) -> Result<u64, StoreError> {
    let listed = listed(media, id).await?;
    let pieces = listed.files.values().flatten().map(|piece| piece.bytes);
    Ok(pieces.sum::<u64>() + listed.small.iter().map(|object| object.bytes).sum::<u64>())
}

/// The objects that places of a recording lie in, by their names, each once.
pub async fn pieces_of(media: &Bucket, id: RecordingId, places: &[Place]) -> Result<Vec<String>, StoreError> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let listed = listed(media, id).await?;
    let of = |file: &str, number: u64| {
        let pieces = listed.files.get(file)?;
        let piece = pieces.iter().rev().find(|piece| piece.first <= number)?;
        Some(media.url(&piece.name))
    };
    let of_place = |place: &Place| match place {
        Place::Line(line) => of(MANIFEST_FILE, *line),
        Place::Member { track, sequence } => {
            let begins = format!("{TRACKS}/{track}-");
            let file = listed.files.keys().find(|file| file.starts_with(&begins));
            file.and_then(|file| of(file, *sequence))
        }
        Place::File(_) => None,
    };
    let mut names: Vec<_> = places.iter().filter_map(of_place).collect();
    names.dedup();
    Ok(names)
}

/// Fetches a recording into a folder, which must not exist.
pub async fn fetch_recording(
    media: &Bucket,
    keys: &Bucket,
    id: RecordingId,
    out: &Path,
) -> Result<Vec<Finding>, StoreError> {
    let listed = listed(media, id).await?;
    folder(out)?;
    folder(&out.join(TRACKS))?;
    for object in &listed.small {
        let file = object.name.rsplit('/').next().unwrap_or_default();
        copy_small(media, &object.name, &out.join(file)).await?;
    }
    copy_keys(keys, id, out).await?;
    let mut findings = listed.findings;
    for (file, pieces) in &listed.files {
        // Members lie where the manifest says; lines follow each other.
        let keeps_holes = file != MANIFEST_FILE;
        assemble(media, pieces, &out.join(file), (file, keeps_holes), &mut findings).await?;
    }
    Ok(findings)
}

/// Fetches a recording's key files, and the statements of whom they are for, into its folder.
pub async fn copy_keys(keys: &Bucket, id: RecordingId, out: &Path) -> Result<(), StoreError> {
    let of = name(id, "");
    let objects = keys.list(&id.to_string(), MAX_KEYS).await?;
    let file = |object: &Object| object.name.strip_prefix(&of).unwrap_or_default().to_owned();
    // The statement comes last: without it a re-wrapping has not taken effect.
    let is_stated = |folder: &str| {
        let statement = format!("{folder}/{REWRAP_FILE}");
        objects.iter().any(|object| file(object) == statement)
    };
    for object in &objects {
        let file = file(object);
        let folder: Vec<_> = file.split('/').take(2).collect();
        if !is_key_file(&file) || folder[..1] == [HOLDERS] && !is_stated(&folder.join("/")) {
            continue;
        }
        let path = out.join(&file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(StoreError::io(parent))?;
        }
        copy_small(keys, &object.name, &path).await?;
    }
    Ok(())
}

/// Is this the name of a key file, or of a statement of whom it is for?
fn is_key_file(file: &str) -> bool {
    let is_number = |text: &str| text.parse::<u32>().is_ok_and(|number| number.to_string() == text);
    let parts: Vec<_> = file.split('/').collect();
    let (in_holders, parts) = match parts[..] {
        [HOLDERS, number, ..] if is_number(number) => (true, parts.get(2..).unwrap_or_default()),
        _ => (false, &parts[..]),
    };
    match parts {
        [KEY_FILE] => true,
        [REWRAP_FILE] => in_holders,
        [SHARES, share] => share
            .strip_suffix(".age")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())),
        _ => false,
    }
}

/// Fetches a log into a folder, which must not exist. The checkpoints that it gives beside are older ones, for
/// [`crate::audit::VerifyOptions::seen`]: with the newest alone, whoever holds the log's key could have signed another past.
pub async fn fetch_log(bucket: &Bucket, out: &Path) -> Result<(Vec<Finding>, Vec<Note>), StoreError> {
    let objects = bucket.list(LOG, log::MAX_OBJECTS).await?;
    let checkpoints = bucket.list(CHECKPOINT, log::MAX_OBJECTS).await?;
    if objects.is_empty() && checkpoints.is_empty() {
        return Err(StoreError::Missing(format!(
            "an audit log at {}",
            bucket.address()
        )));
    }
    folder(out)?;
    if bucket.get(VKEY, MAX_OBJECT).await?.is_some() {
        copy_small(bucket, VKEY, &out.join(VKEY)).await?;
    }
    let (pieces, others) = layout::pieces(LOG, &objects);
    let mut findings: Vec<_> = others.into_iter().map(Finding::Extra).collect();
    assemble(bucket, &pieces, &out.join(LOG), (LOG, false), &mut findings).await?;

    let (good, strange): (Vec<_>, Vec<_>) = checkpoints.into_iter().partition(|object| {
        let size = object.name.rsplit('/').next().and_then(|size| size.parse().ok());
        size.is_some_and(|size| log::checkpoint_name(size) == object.name)
    });
    findings.extend(strange.into_iter().map(|object| Finding::Extra(object.name)));
    let mut seen = Vec::new();
    if let Some((newest, older)) = good.split_last() {
        copy_small(bucket, &newest.name, &out.join(CHECKPOINT)).await?;
        let every = older.len().div_ceil(SEEN).max(1);
        for object in older.iter().step_by(every) {
            let text = bucket.get(&object.name, MAX_NOTE as u64).await?;
            let note = text.and_then(|text| Note::parse(std::str::from_utf8(&text).ok()?).ok());
            match note {
                Some(note) => seen.push(note),
                None => findings.push(Finding::Extra(object.name.clone())),
            }
        }
    }
    let mut newest = BTreeMap::new();
    for object in bucket.list(ANCHORS, log::MAX_OBJECTS).await? {
        let mut parts = object.name.split('/').skip(1);
        let witness = parts
            .next()
            .filter(|name| name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()));
        match witness {
            Some(witness) => drop(newest.insert(witness.to_owned(), object.name.clone())),
            None => findings.push(Finding::Extra(object.name)),
        }
    }
    if !newest.is_empty() {
        folder(&out.join(ANCHORS))?;
    }
    for (witness, object) in newest.into_iter().take(MAX_WITNESSES) {
        copy_small(bucket, &object, &out.join(ANCHORS).join(witness)).await?;
    }
    Ok((findings, seen))
}

/// Puts pieces together, each where it belongs; or behind each other, where holes are not kept.
async fn assemble(
    bucket: &Bucket,
    pieces: &[Piece],
    path: &Path,
    (file, keeps_holes): (&str, bool),
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let out = create(path)?;
    let (mut end, mut written) = (0, 0);
    for piece in pieces {
        if piece.offset < end {
            findings.push(Finding::Overlap(bucket.url(&piece.name)));
            continue;
        }
        if piece.offset > end {
            findings.push(Finding::Hole {
                file: file.to_owned(),
                from: end,
                to: piece.offset,
                before: bucket.url(&piece.name),
            });
            if keeps_holes {
                written = piece.offset;
            }
        }
        let bytes = bucket.get(&piece.name, MAX_OBJECT).await?;
        let bytes = bytes.ok_or_else(|| StoreError::Missing(bucket.url(&piece.name)))?;
        out.write_all_at(&bytes, written).map_err(StoreError::io(path))?;
        written += bytes.len() as u64;
        end = piece.offset + bytes.len() as u64;
    }
    out.sync_data().map_err(StoreError::io(path))
}

async fn copy_small(bucket: &Bucket, name: &str, path: &Path) -> Result<(), StoreError> {
    let bytes = bucket.get(name, crate::recording::facts::MAX_FILE).await?;
    let bytes = bytes.ok_or_else(|| StoreError::Missing(bucket.url(name)))?;
    let out = create(path)?;
    out.write_all_at(&bytes, 0)
        .and_then(|()| out.sync_data())
        .map_err(StoreError::io(path))
}

fn create(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.map_err(StoreError::io(path))
}

fn folder(path: &Path) -> Result<(), StoreError> {
    if let Some(parent) = path.parent().filter(|parent| *parent != PathBuf::new()) {
        fs::create_dir_all(parent).map_err(StoreError::io(parent))?;
    }
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(StoreError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_key_files_and_their_statements_are_taken_for_some() {
        for good in [
            "key.age",
            "shares/001.age",
            "holders/1/rewrap.json",
            "holders/12/key.age",
            "holders/3/shares/007.age",
        ] {
            assert!(is_key_file(good), "{good}");
        }
        for bad in [
            "",
            "rewrap.json",
            "recording.json",
            "shares/x.age",
            "shares/../1.age",
            "shares/1",
            "holders/key.age",
            "holders/../key.age",
            "holders/01/key.age",
            "holders/1/holders/1/key.age",
            "holders/1/../../../key.age",
        ] {
            assert!(!is_key_file(bad), "{bad}");
        }
    }
}
