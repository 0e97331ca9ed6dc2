//! What a process knows of the log that it appends to, and how that follows what others append.
//!
//! All of it happens while the folder's lock is held. What is known changes only after what it says is on the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::checkpoint::{Checkpoint, MAX_NOTE, Note, VerifierKey};
use super::damage::{Damage, Source};
use super::entry::{Entry, Event};
use super::folder::{Folder, FolderError, Locked, Storage, failed};
use super::frame::{self, HEADER, ReadAt, Step, Walk, first_link, next_link};
use super::log::{Appended, CHECKPOINT, LOG, LogError};
use super::tree::{Edge, Hash, leaf};
use crate::digest::{Digest, Digester};
use crate::signing::Signer;

/// Disk space behind the last entry that only last words may use: enough for some 2000 of them.
const RESERVE: u64 = 1 << 20;

/// Disk space that is taken at once, beyond the reserve.
const CHUNK: u64 = 256 << 10;

/// What a process knows of the log.
pub(super) struct State {
    file: Box<dyn Storage>,
    /// Where the next frame goes.
    end: u64,
    edge: Edge,
    link: Hash,
    /// Is everything of it on the disk? What other processes wrote might not be.
    synced: bool,
    /// Disk space is taken up to here. None: this file system cannot.
    reserved: Option<u64>,
    /// The checkpoint file.
    signed: Signed,
    /// A write failed and could not be taken back.
    broken: bool,
}

/// The checkpoint file's text, and what it says.
#[derive(Clone)]
pub(super) struct Signed {
    note: String,
    checkpoint: Checkpoint,
}

/// Opens the file of the entries, and makes it where there is none.
pub(super) fn open_entries(folder: &Folder) -> Result<File, LogError> {
    let path = folder.file(LOG);
    let open = || {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(&path)?;
        let mut start = [0; HEADER.len()];
        let length = ReadAt::read_at(&file, &mut start, 0)?;
        if length < HEADER.len() && HEADER.starts_with(&start[..length]) && !folder.has(CHECKPOINT) {
            // New, or its making was interrupted: the first checkpoint comes after it.
            file.put(HEADER, 0)?;
            file.sync_all()?;
            folder.sync()?;
        } else if start != *HEADER {
            return Ok(None);
        }
        Ok(Some(file))
    };
    let file = open().map_err(|error| failed(&path, error))?;
    file.ok_or_else(|| LogError::Damaged(folder.path().to_owned(), Damage::Header))
}

/// Reads the checkpoint, if there is one.
pub(super) fn read_note(folder: &Folder, log: &VerifierKey) -> Result<Option<Signed>, LogError> {
    let Some(note) = folder.read(CHECKPOINT, MAX_NOTE)? else {
        return Ok(None);
    };
    let checkpoint = Note::parse(&note).and_then(|note| note.of_log(log).cloned());
    let checkpoint = checkpoint.map_err(|error| {
        let file = CHECKPOINT.to_owned();
        LogError::Damaged(folder.path().to_owned(), Damage::Note { file, error })
    })?;
    Ok(Some(Signed { note, checkpoint }))
}

/// Signs a tree and writes the checkpoint.
pub(super) fn write_note(
    folder: &Folder,
    key: &dyn Signer,
    log: &VerifierKey,
    edge: &Edge,
) -> Result<Signed, FolderError> {
    let checkpoint = Checkpoint {
        origin: log.name().to_owned(),
        size: edge.size(),
        root: edge.root(),
    };
    let note = Note::sign(checkpoint.clone(), key).to_string();
    folder.replace(CHECKPOINT, note.as_bytes())?;
    Ok(Signed { note, checkpoint })
}

impl State {
    /// Of a log of which nothing was read yet.
    pub fn new(file: Box<dyn Storage>, log: &VerifierKey, signed: Signed) -> Self {
        Self {
            file,
            end: HEADER.len() as u64,
            edge: Edge::default(),
            link: first_link(log.key()),
            synced: false,
            reserved: Some(0),
            signed,
            broken: false,
        }
    }

    /// How many entries there are.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Where they end.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// How many are covered by the checkpoint.
    pub fn signed(&self) -> u64 {
        self.signed.checkpoint.size
    }

    /// The checkpoint file.
    pub fn note(&self) -> &str {
        &self.signed.note
    }

    /// Is disk space kept for last words?
    pub fn has_reserve(&self) -> bool {
        self.reserved.is_some()
    }

    /// Reads what others appended and signed. Refuses a log that is not the one that was known, or that does not
    /// continue as it should; cuts off a last entry that is not whole, and says so in the log.
    pub fn catch_up(
        &mut self,
        folder: &Folder,
        log: &VerifierKey,
        locked: &Locked<'_>,
    ) -> Result<(), LogError> {
        let path = folder.file(LOG);
        let failed = |error| LogError::Folder(failed(&path, error));
        let damaged = |damage| LogError::Damaged(folder.path().to_owned(), damage);
        if self.broken {
            return Err(LogError::Broken(folder.path().to_owned()));
        }
        self.file.check_place(&path)?;
        let seen = self.size().max(self.signed());
        let signed = match folder.read(CHECKPOINT, MAX_NOTE)? {
            Some(text) if text == self.signed.note => self.signed.clone(),
            _ => match read_note(folder, log)? {
                // Whoever signs has read everything before, so that it is never less than what was known.
                Some(signed) if signed.checkpoint.size < seen => {
                    let size = signed.checkpoint.size;
                    let source = Source::Kept;
                    return Err(damaged(Damage::OldCheckpoint { size, seen, source }));
                }
                Some(signed) => signed,
                None => return Err(damaged(Damage::NoCheckpoint)),
            },
        };
        let target = &signed.checkpoint;
        let cut = |index, offset| {
            let size = target.size.max(seen);
            let source = Source::File(CHECKPOINT.to_owned());
            damaged(Damage::Cut {
                index,
                offset,
                size,
                source,
            })
        };
        let fits = |edge: &Edge, offset| {
            if edge.size() != target.size || edge.root() == target.root {
                return Ok(());
            }
            Err(damaged(Damage::Rewritten {
                index: 0,
                offset,
                size: target.size,
                source: Source::File(CHECKPOINT.to_owned()),
                signed_again: false,
            }))
        };
        let length = self.file.length().map_err(failed)?;
        if length < self.end {
            // Once more from the beginning: which entry the end is in is not known by heart.
            let mut walk = Walk::from_start(&*self.file, length, log.key());
            return Err(loop {
                match walk.step().map_err(failed)? {
                    Step::Entry { .. } => {}
                    Step::Fault(fault) => break damaged(Damage::Fault(fault)),
                    Step::Unfinished { index, offset } | Step::End { index, offset } => {
                        break cut(index, offset);
                    }
                }
            });
        }
        let start = HEADER.len() as u64;
        fits(&self.edge, start)?;

        let (mut edge, mut link, mut end) = (self.edge.clone(), self.link, self.end);
        let mut walk = Walk::new(&*self.file, end, length, edge.size(), link);
        let unfinished = loop {
            match walk.step().map_err(failed)? {
                Step::Entry {
                    offset,
                    entry,
                    leaf,
                    link: its,
                    ..
                } => {
                    end = offset + frame::length(entry);
                    link = its;
                    edge.push(leaf);
                    fits(&edge, start)?;
                }
                Step::Fault(fault) => return Err(damaged(Damage::Fault(fault))),
                Step::Unfinished { index, offset } if index < target.size => return Err(cut(index, offset)),
                Step::End { index, offset } if index < target.size => return Err(cut(index, offset)),
                Step::Unfinished { .. } => break true,
                Step::End { .. } => break false,
            }
        };
        if end > self.end {
            self.synced = false;
        }
        (self.edge, self.link, self.end, self.signed) = (edge, link, end, signed);
        if unfinished {
            self.recover(folder, length, locked)?;
        }
        Ok(())
    }

    /// Puts an entry that tells of it in place of a tail that is not whole.
    fn recover(&mut self, folder: &Folder, length: u64, locked: &Locked<'_>) -> Result<(), LogError> {
        let bytes = length - self.end;
        let sha256 = self
            .digest(self.end, length)
            .map_err(|error| failed(&folder.file(LOG), error))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let entry = Entry {
            time: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            recording: None,
            event: Event::LogRecovered {
                offset: self.end,
                bytes,
                sha256,
            },
        };
        // It writes over the tail and cuts the rest, in this order: there is no moment at which the tail is gone and
        // nothing tells of it.
        self.append(folder, &[entry.encode()?], true, locked)?;
        Ok(())
    }

    fn digest(&self, from: u64, to: u64) -> io::Result<Digest> {
        let mut digester = Digester::new();
        let mut piece = vec![0; 64 << 10];
        let mut at = from;
        while at < to {
            let most = usize::try_from(to - at).map_or(piece.len(), |left| left.min(piece.len()));
            match self.file.read_at(&mut piece[..most], at) {
                Ok(0) => break,
                Ok(read) => {
                    digester.update(&piece[..read]);
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(digester.finish())
    }

    /// Appends encoded entries: all of them are on the disk, or none is in the log.
    pub fn append(
        &mut self,
        folder: &Folder,
        entries: &[Vec<u8>],
        closes: bool,
        _locked: &Locked<'_>,
    ) -> Result<Appended, LogError> {
        let path = folder.file(LOG);
        let failed = |error| LogError::Folder(failed(&path, error));
        let index = self.size();
        let (mut edge, mut link, mut bytes) = (self.edge.clone(), self.link, Vec::new());
        for entry in entries {
            let leaf = leaf(entry);
            link = next_link(&link, &leaf);
            frame::encode(edge.size(), entry, &link, &mut bytes);
            edge.push(leaf);
        }
        let end = self.end + bytes.len() as u64;
        self.make_room(bytes.len() as u64, closes).map_err(failed)?;
        let before = self.file.length().map_err(failed)?;
        let write = || {
            self.file.put(&bytes, self.end)?;
            if before > end {
                self.file.set_length(end)?;
            }
            self.file.sync()
        };
        if let Err(error) = write() {
            // It must not be in the log, where nobody was told that it is.
            let undone = self.file.set_length(self.end).and_then(|()| self.file.sync());
            self.broken = undone.is_err();
            self.reserved = self.reserved.map(|_| 0);
            return Err(failed(error));
        }
        if before > end {
            // Cutting gave back what was taken beyond the end.
            self.reserved = self.reserved.map(|_| 0);
        }
        (self.edge, self.link, self.end, self.synced) = (edge, link, end, true);
        let size = self.size();
        Ok(Appended { index, size })
    }

    /// Takes disk space for so many bytes, and the reserve behind them. Where there is no more, last words go into the
    /// reserve and everything else is refused.
    fn make_room(&mut self, bytes: u64, closes: bool) -> io::Result<()> {
        let Some(reserved) = self.reserved else {
            return Ok(());
        };
        if self.end + bytes + RESERVE <= reserved {
            return Ok(());
        }
        for spare in [CHUNK, 0] {
            let wanted = bytes + RESERVE + spare;
            match self.file.reserve(self.end, wanted) {
                Ok(()) => {
                    self.reserved = Some(self.end + wanted);
                    return Ok(());
                }
                Err(error) if is_full(&error) => {}
                Err(error)
                    if error.kind() == io::ErrorKind::Unsupported
                        || error.raw_os_error() == Some(rustix::io::Errno::NOSYS.raw_os_error()) =>
                {
                    self.reserved = None;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if closes {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    /// Signs what no checkpoint covers yet.
    pub fn sign(&mut self, folder: &Folder, key: &dyn Signer, log: &VerifierKey) -> Result<(), LogError> {
        if self.signed() == self.size() {
            return Ok(());
        }
        if !self.synced {
            let synced = self.file.sync();
            synced.map_err(|error| failed(&folder.file(LOG), error))?;
            self.synced = true;
        }
        self.signed = write_note(folder, key, log, &self.edge)?;
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
