//! Brings the audit log into the store: entries that the log's key has signed for, in pieces, and then the checkpoint.
//!
//! What no checkpoint covers could still be taken back after a crash, and stays here until one does: a second later.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use bytes::Bytes;

use super::bucket::Put;
use super::upload::{is_same, put_part};
use super::{Bucket, StoreError, layout};
use crate::audit::checkpoint::MAX_NOTE;
use crate::audit::frame::{self, HEADER, Step, Walk, first_link};
use crate::audit::tree::Hash;
use crate::audit::{Note, VerifierKey, named_key};

/// The pieces of the entries.
pub const LOG: &str = "log";
/// The signed checkpoints, each named by its size.
pub const CHECKPOINT: &str = "checkpoint";
/// The cosigned ones, by witness and size.
pub const ANCHORS: &str = "anchors";
/// The public key.
pub const VKEY: &str = "vkey";

/// A piece ends when it has so many bytes.
const PIECE: u64 = 1 << 20;

/// Most objects of a log.
pub const MAX_OBJECTS: usize = 10_000_000;

/// A log on its way.
pub struct LogUpload {
    folder: PathBuf,
    bucket: Bucket,
    begun: Option<Begun>,
    /// Cosigned checkpoints that are there.
    anchors: HashSet<String>,
}

struct Begun {
    key: VerifierKey,
    file: File,
    /// How far it is in the store: bytes and entries.
    sent: u64,
    sent_entries: u64,
    /// The next entry that is read: where, which, and the link before it.
    offset: u64,
    index: u64,
    link: Hash,
    /// The size of the newest checkpoint that is there.
    checkpoint: Option<u64>,
}

/// The log as it was at a moment.
pub struct Snapshot {
    /// Where its entries end that were read, from the first that is not in the store.
    ends: Vec<u64>,
    size: u64,
    note: String,
}

/// The name of a checkpoint.
pub fn checkpoint_name(size: u64) -> String {
    format!("{CHECKPOINT}/{size:012}")
}

impl LogUpload {
    /// Of the log in a folder.
    pub fn new(folder: PathBuf, bucket: Bucket) -> Self {
        Self {
            folder,
            bucket,
            begun: None,
            anchors: HashSet::new(),
        }
    }

    /// Bytes that are in the folder, and how many of them are known to be in the store.
    pub fn bytes(&self) -> (u64, u64) {
        let here = fs::metadata(self.folder.join(LOG)).map_or(0, |of| of.len());
        (here, self.begun.as_ref().map_or(0, |begun| begun.sent))
    }

    /// Finds out what is in the store. False: there is no log here yet.
    pub async fn prepare(&mut self) -> Result<bool, StoreError> {
        if self.begun.is_some() {
            return Ok(true);
        }
        let path = self.folder.join(LOG);
        let Ok(key) = named_key(&self.folder) else {
            return Ok(false);
        };
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            file => file.map_err(StoreError::io(&path))?,
        };
        let text = Bytes::from(format!("{key}\n"));
        match self.bucket.put_same(VKEY, text).await {
            Err(StoreError::Conflict(name)) => {
                return Err(StoreError::Configuration(format!(
                    "{name} is the key of another audit log: give this one a prefix of its own"
                )));
            }
            made => made.map(drop)?,
        }
        let (pieces, _) = layout::pieces(LOG, &self.bucket.list(LOG, MAX_OBJECTS).await?);
        let sent = layout::covered(&pieces)
            .map_err(|why| StoreError::Damaged(format!("{}: {why}", self.bucket.address())))?;
        let length = file.metadata().map_err(StoreError::io(&path))?.len();
        if sent > length {
            return Err(StoreError::Damaged(format!(
                "{} has {sent} bytes of the audit log, and {} has {length}: an older state was put back here",
                self.bucket.address(),
                path.display()
            )));
        }
        if let Some(newest) = pieces.last() {
            is_same(&self.bucket, newest, &path).await?;
        }
        self.begun = Some(Begun {
            link: first_link(key.key()),
            key,
            file,
            sent,
            sent_entries: 0,
            offset: HEADER.len() as u64,
            index: 0,
            checkpoint: None,
        });
        Ok(true)
    }

    /// What is signed by now and not in the store.
    pub fn snapshot(&mut self) -> Result<Option<Snapshot>, StoreError> {
        let Some(begun) = &mut self.begun else {
            return Ok(None);
        };
        let note = read_note(&self.folder.join(CHECKPOINT))?;
        let parsed = Note::parse(&note).and_then(|note| note.of_log(&begun.key).cloned());
        let size = parsed
            .map_err(|error| {
                StoreError::Damaged(format!("{}: the checkpoint {error}", self.folder.display()))
            })?
            .size;
        let path = self.folder.join(LOG);
        let length = begun.file.metadata().map_err(StoreError::io(&path))?.len();
        let mut walk = Walk::new(&begun.file, begun.offset, length, begun.index, begun.link);
        let (mut ends, mut at) = (Vec::new(), (begun.offset, begun.index, begun.link));
        while at.1 < size {
            match walk.step().map_err(StoreError::io(&path))? {
                Step::Entry {
                    index,
                    offset,
                    entry,
                    link,
                    ..
                } => {
                    at = (offset + frame::length(entry), index + 1, link);
                    if at.0 > begun.sent {
                        ends.push(at.0);
                    } else {
                        begun.sent_entries = at.1;
                        (begun.offset, begun.index, begun.link) = at;
                    }
                }
                _ => {
                    return Err(StoreError::Damaged(format!(
                        "the audit log {} is damaged at entry {}: gst-compliance audit verify tells all of it",
                        self.folder.display(),
                        at.1
                    )));
                }
            }
        }
        if begun.sent > begun.offset && begun.sent > HEADER.len() as u64 {
            return Err(StoreError::Conflict(self.bucket.url(LOG)));
        }
        let is_new = !ends.is_empty() || begun.checkpoint.is_none_or(|there| there < size);
        Ok(is_new.then_some(Snapshot { ends, size, note }))
    }

    /// Brings it in. What it speaks of is there already.
    pub async fn send(&mut self, snapshot: &Snapshot, sent: &AtomicU64) -> Result<(), StoreError> {
        let Some(begun) = &mut self.begun else {
            return Ok(());
        };
        let path = self.folder.join(LOG);
        let mut ends = snapshot.ends.as_slice();
        while let Some(first) = ends.first() {
            let within = ends
                .iter()
                .take_while(|end| **end - begun.sent <= PIECE)
                .count()
                .max(1);
            let end = ends.get(within - 1).unwrap_or(first);
            let name = layout::name(LOG, begun.sent_entries, begun.sent);
            let file = (&begun.file, path.as_path());
            let there = put_part(&self.bucket, &name, file, (begun.sent, *end), sent).await?;
            // One that was there may be shorter or longer, but it ends where an entry does.
            let passed = ends.iter().take_while(|end| **end <= there).count();
            if passed == 0 || ends.get(passed - 1) != Some(&there) {
                return Err(StoreError::Conflict(self.bucket.url(&name)));
            }
            begun.sent = there;
            begun.sent_entries += passed as u64;
            ends = ends.get(passed..).unwrap_or_default();
        }
        let name = checkpoint_name(snapshot.size);
        self.bucket.put_same(&name, snapshot.note.clone().into()).await?;
        begun.checkpoint = Some(snapshot.size);
        self.send_anchors().await
    }

    /// Each cosigned checkpoint is an object of its own: what a witness saw is not lost when it sees more.
    async fn send_anchors(&mut self) -> Result<(), StoreError> {
        let folder = self.folder.join(ANCHORS);
        let files = fs::read_dir(&folder).into_iter().flatten().flatten();
        for file in files.take(64) {
            let witness = file.file_name().to_string_lossy().into_owned();
            if witness.len() != 32 || !witness.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                continue;
            }
            let text = read_note(&file.path())?;
            let Ok(note) = Note::parse(&text) else { continue };
            let name = format!("{ANCHORS}/{witness}/{:012}", note.unverified().size);
            if self.anchors.contains(&name) {
                continue;
            }
            // A witness may cosign the same size twice, at two times: the first is as good.
            match self.bucket.put(&name, text.into()).await? {
                Put::Made | Put::Exists => self.anchors.insert(name),
            };
        }
        Ok(())
    }
}

fn read_note(path: &Path) -> Result<String, StoreError> {
    let read = || {
        let bytes = crate::bundle::read_bounded(path, MAX_NOTE as u64)?;
        String::from_utf8(bytes).map_err(|_| std::io::ErrorKind::InvalidData.into())
    };
    read().map_err(StoreError::io(path))
}
