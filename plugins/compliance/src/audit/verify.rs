//! Reads a log from outside, without any secret: says whether it is as it was written, and up to where that is proved by
//! whom.
//!
//! A log's own signature says what its key's holder stood for; the holder can change its mind until a witness has seen
//! it. So the report keeps apart what a trusted witness cosigned, what only the log signed, and what nobody did.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::checkpoint::{Kind, MAX_NOTE, Note, NoteError, VerifierKey};
use super::damage::{Damage, Source};
use super::entry::{Entry, EntryError};
use super::folder::{Folder, FolderError, Lock, VKEY, failed};
use super::frame::{HEADER, ReadAt, Step, Walk};
use super::log::{ANCHORS, CHECKPOINT, LOG, MAX_VKEY};
use super::tree::{Edge, Hash};
use crate::signing::PublicKey;

/// Most damages that a report lists; it counts the rest.
const MAX_DAMAGES: usize = 100;

/// Most files in `anchors` that are looked at.
const MAX_ANCHORS: usize = 64;

/// How long a writer is waited for, to read the log between two of its appends.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a log is compared with.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The log's key, as the verifier knows it from elsewhere: from recording.json, from paper. None: whatever key the
    /// folder names.
    pub key: Option<PublicKey>,
    /// Witnesses that are trusted.
    pub witnesses: Vec<VerifierKey>,
    /// Checkpoints of this log that were kept elsewhere: a witness's newest one, an old print-out.
    pub seen: Vec<Note>,
}

/// Why nothing can be said about a log.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error("audit log {0}")]
    Folder(#[from] FolderError),
    /// There is none.
    #[error("{0} holds no audit log")]
    NoLog(PathBuf),
    /// It does not say whose it is, and neither did the verifier.
    #[error(
        "audit log {0}: the file vkey is missing or damaged: say --key, as it stands in a recording's recording.json"
    )]
    NoKey(PathBuf),
    /// It is another log.
    #[error("this is ANOTHER LOG: its key is {found}, expected was {expected}")]
    OtherLog {
        /// The key that it should have.
        expected: PublicKey,
        /// The key that it names.
        found: PublicKey,
    },
    /// A checkpoint that was given is not of this log.
    #[error("a checkpoint that was given {0}")]
    Seen(NoteError),
}

/// A witness's cosignature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Anchor {
    /// The witness's name.
    pub witness: String,
    /// How many entries it cosigned.
    pub entries: u64,
    /// When, in seconds since 1970, by the witness's clock.
    pub time: u64,
    /// Are those the entries that are there?
    pub holds: bool,
}

/// What a log is found to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The log's name.
    pub origin: String,
    /// Its key.
    pub key: PublicKey,
    /// Did the verifier know the key before?
    pub pinned: bool,
    /// Entries that are there.
    pub entries: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Entries 0 to `anchored - 1` are what a trusted witness cosigned: nobody can have changed or removed any
    /// since.
    pub anchored: u64,
    /// Entries `anchored` to `signed - 1` are what the log's key signed: only its holder can have changed or removed any.
    /// Those from `signed` on are covered by nothing: anybody who can write the file can.
    pub signed: u64,
    /// All cosignatures of trusted witnesses.
    pub anchors: Vec<Anchor>,
    /// Names of witnesses that cosigned and that the verifier did not name.
    pub unknown_witnesses: Vec<String>,
    /// What is wrong.
    pub damages: Vec<Damage>,
    /// How much more is wrong than is listed.
    pub more_damages: u64,
}

impl Report {
    /// Is everything as it was written, as far as anybody can tell?
    pub fn is_intact(&self) -> bool {
        self.damages.is_empty()
    }
}

/// Verifies a log, entry by entry.
pub fn verify(path: &Path, options: &VerifyOptions) -> Result<Report, VerifyError> {
    let mut damages = Damages::default();
    let folder = Folder::to_read(path);
    let log = log_key(&folder, options, &mut damages)?;
    let snapshot = Snapshot::take(&folder)?;
    let statements = Statements::collect(&folder, &log, options, snapshot.note.as_deref(), &mut damages)?;
    let mut check = Check {
        statements: statements.list,
        next: 0,
        matched: Vec::new(),
        proven: (0, HEADER.len() as u64),
        spoilt: false,
        damages,
    };
    let entries = check.read(&snapshot.file, snapshot.length, &log, &folder)?;
    let matched = |wanted: fn(&Statement) -> bool| {
        let sizes = check.matched.iter().filter(|statement| wanted(statement));
        sizes.map(|statement| statement.size).max().unwrap_or(0)
    };
    let (anchored, signed) = (matched(|statement| statement.anchor), matched(|_| true));
    let of_file = check
        .matched
        .iter()
        .any(|statement| statement.source == Source::File(CHECKPOINT.to_owned()));
    check.damages.signed_again(of_file);
    let anchors = statements
        .anchors
        .into_iter()
        .map(|(witness, entries, time, root)| {
            let holds = check
                .matched
                .iter()
                .any(|statement| (statement.size, statement.root) == (entries, root));
            Anchor {
                witness,
                entries,
                time,
                holds,
            }
        });
    Ok(Report {
        origin: log.name().to_owned(),
        key: *log.key(),
        pinned: options.key.is_some(),
        entries,
        bytes: snapshot.length,
        anchored,
        signed,
        anchors: anchors.collect(),
        unknown_witnesses: statements.unknown,
        damages: check.damages.list,
        more_damages: check.damages.more,
    })
}

/// The key that a log's folder names as its own.
pub fn named_key(path: &Path) -> Result<VerifierKey, VerifyError> {
    let folder = Folder::to_read(path);
    log_key(&folder, &VerifyOptions::default(), &mut Damages::default())
}

/// Whose log it is.
fn log_key(
    folder: &Folder,
    options: &VerifyOptions,
    damages: &mut Damages,
) -> Result<VerifierKey, VerifyError> {
    let path = folder.path().to_owned();
    if !folder.has(LOG) && !folder.has(VKEY) {
        return Err(VerifyError::NoLog(path));
    }
    let text = match folder.read(VKEY, MAX_VKEY) {
        // Not even text: damaged.
        Err(FolderError::NotAFile(..)) => None,
        text => text?,
    };
    let named: Option<VerifierKey> = text
        .and_then(|text| text.strip_suffix('\n')?.parse().ok())
        .filter(|key: &VerifierKey| key.kind() == Kind::Log && key.is_named_by_key());
    match (options.key, named) {
        (Some(expected), Some(named)) if *named.key() != expected => Err(VerifyError::OtherLog {
            expected,
            found: *named.key(),
        }),
        (_, Some(named)) => Ok(named),
        (Some(expected), None) => {
            damages.add(Damage::VerifierKey);
            Ok(VerifierKey::named(Kind::Log, expected))
        }
        (None, None) => Err(VerifyError::NoKey(path)),
    }
}

/// The log as it is between two appends.
struct Snapshot {
    file: File,
    length: u64,
    note: Option<String>,
}

impl Snapshot {
    fn take(folder: &Folder) -> Result<Self, FolderError> {
        let path = folder.file(LOG);
        // A copy has no lock, and one that cannot be had is no reason to say nothing: an append that is under way
        // would then be told of as an entry that is not whole.
        let lock = Lock::to_read(folder, PATIENCE).ok();
        let _locked = lock.as_ref().and_then(|lock| lock.acquire().ok());
        let file = File::open(&path).map_err(|error| failed(&path, error))?;
        let metadata = file.metadata().map_err(|error| failed(&path, error))?;
        let note = match folder.read(CHECKPOINT, MAX_NOTE) {
            // Not text: no note.
            Err(FolderError::NotAFile(..)) => Some(String::new()),
            note => note?,
        };
        Ok(Self {
            file,
            length: metadata.len(),
            note,
        })
    }
}

/// That the log had so many entries with this root.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    size: u64,
    root: Hash,
    source: Source,
    /// Does a trusted witness say so?
    anchor: bool,
}

/// All that somebody said about the log.
#[derive(Default)]
struct Statements {
    list: Vec<Statement>,
    anchors: Vec<(String, u64, u64, Hash)>,
    unknown: Vec<String>,
}

impl Statements {
    fn collect(
        folder: &Folder,
        log: &VerifierKey,
        options: &VerifyOptions,
        own: Option<&str>,
        damages: &mut Damages,
    ) -> Result<Self, VerifyError> {
        let mut statements = Self::default();
        let mut own_size = None;
        match own {
            None => damages.add(Damage::NoCheckpoint),
            Some(text) => {
                let source = Source::File(CHECKPOINT.to_owned());
                match Note::parse(text).and_then(|note| statements.add(&note, log, options, source)) {
                    Ok(size) => own_size = Some(size),
                    Err(error) => damages.add(Damage::Note {
                        file: CHECKPOINT.to_owned(),
                        error,
                    }),
                }
            }
        }
        for name in anchor_files(folder)? {
            let anchors = Folder::to_read(&folder.file(ANCHORS));
            let text = match anchors.read(&name, MAX_NOTE) {
                Err(FolderError::NotAFile(..)) => Some(String::new()),
                text => text?,
            };
            let file = format!("{ANCHORS}/{name}");
            let source = Source::File(file.clone());
            // The file is named by the witness that it is from.
            let named = options.witnesses.iter().find(|witness| witness.short() == name);
            let note = Note::parse(text.as_deref().unwrap_or_default()).and_then(|note| {
                named.map_or(Ok(0), |witness| note.cosigned(witness))?;
                statements.add(&note, log, options, source)
            });
            if let Err(error) = note {
                damages.add(Damage::Note { file, error });
            }
        }
        for note in &options.seen {
            let added = statements.add(note, log, options, Source::Kept);
            added.map_err(VerifyError::Seen)?;
        }
        statements.list.sort_by_key(|statement| statement.size);
        if let (Some(size), Some(newest)) = (own_size, statements.list.last())
            && newest.size > size
        {
            damages.add(Damage::OldCheckpoint {
                size,
                seen: newest.size,
                source: newest.source.clone(),
            });
        }
        statements.unknown.sort();
        statements.unknown.dedup();
        Ok(statements)
    }

    /// What a note says, by all who signed it.
    fn add(
        &mut self,
        note: &Note,
        log: &VerifierKey,
        options: &VerifyOptions,
        source: Source,
    ) -> Result<u64, NoteError> {
        let checkpoint = note.of_log(log)?;
        let (size, root) = (checkpoint.size, checkpoint.root);
        let mut cosigned = Vec::new();
        for witness in &options.witnesses {
            match note.cosigned(witness) {
                Ok(time) => cosigned.push((witness.name().to_owned(), time)),
                Err(NoteError::Unsigned) => {}
                Err(error) => return Err(error),
            }
        }
        for line in note.lines() {
            let known = line.name() == log.name() || cosigned.iter().any(|(name, _)| name == line.name());
            if !known {
                self.unknown.push(line.name().to_owned());
            }
        }
        let anchor = !cosigned.is_empty();
        let source = match cosigned.first() {
            Some((name, time)) => Source::Witness {
                name: name.clone(),
                time: *time,
            },
            None => source,
        };
        for (name, time) in cosigned {
            let anchor = (name, size, time, root);
            if !self.anchors.contains(&anchor) {
                self.anchors.push(anchor);
            }
        }
        let statement = Statement {
            size,
            root,
            source,
            anchor,
        };
        if !self.list.contains(&statement) {
            self.list.push(statement);
        }
        Ok(size)
    }
}

fn anchor_files(folder: &Folder) -> Result<Vec<String>, FolderError> {
    let path = folder.file(ANCHORS);
    let files = match std::fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files.map_err(|error| failed(&path, error))?,
    };
    let names = files
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .filter(|name| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    Ok(names.take(MAX_ANCHORS).collect())
}

#[derive(Default)]
struct Damages {
    list: Vec<Damage>,
    more: u64,
}

impl Damages {
    fn add(&mut self, damage: Damage) {
        if self.list.len() < MAX_DAMAGES {
            self.list.push(damage);
        } else {
            self.more += 1;
        }
    }

    /// Says of entries that are not what somebody saw that the log's own checkpoint fits them.
    fn signed_again(&mut self, again: bool) {
        for damage in &mut self.list {
            if let Damage::Rewritten { signed_again, .. } = damage {
                *signed_again = again;
            }
        }
    }
}

/// A log that is being read, and what it is compared with.
struct Check {
    statements: Vec<Statement>,
    next: usize,
    matched: Vec<Statement>,
    /// So many entries are proved, and end there.
    proven: (u64, u64),
    /// An entry is missing or not readable: what follows has no root any more.
    spoilt: bool,
    damages: Damages,
}

impl Check {
    /// Reads all entries; gives how many there are.
    fn read(
        &mut self,
        file: &File,
        length: u64,
        log: &VerifierKey,
        folder: &Folder,
    ) -> Result<u64, FolderError> {
        let path = folder.file(LOG);
        let failed = |error| failed(&path, error);
        let mut start = [0; HEADER.len()];
        let read = ReadAt::read_at(file, &mut start, 0).map_err(failed)?;
        if start[..read] != *HEADER {
            self.damages.add(Damage::Header);
        }
        let mut edge = Edge::default();
        let mut walk = Walk::from_start(file, length, log.key());
        self.compare(&edge, HEADER.len() as u64);
        loop {
            match walk.step().map_err(failed)? {
                Step::Entry {
                    index,
                    offset,
                    entry,
                    leaf,
                    ..
                } => {
                    let end = offset + super::frame::length(entry);
                    if let Err(error) = Entry::decode(entry) {
                        self.damages.add(Damage::Entry { index, offset, error });
                    }
                    edge.push(leaf);
                    if !self.spoilt {
                        self.compare(&edge, end);
                    }
                }
                Step::Fault(fault) => {
                    self.spoilt = true;
                    self.damages.add(Damage::Fault(fault));
                }
                Step::End { index, offset } => {
                    self.end(index, offset);
                    return Ok(index);
                }
                Step::Unfinished { index, offset } => {
                    if !self.end(index, offset) {
                        let bytes = length - offset;
                        self.damages.add(Damage::Unfinished { index, offset, bytes });
                    }
                    return Ok(index);
                }
            }
        }
    }

    /// Compares the log so far with what was said about it at this size. `end`: where its entries end.
    fn compare(&mut self, edge: &Edge, end: u64) {
        let next = self.statements.get(self.next);
        if next.is_none_or(|statement| statement.size != edge.size()) {
            return;
        }
        let root = edge.root();
        let (index, offset) = self.proven;
        while let Some(statement) = self.statements.get(self.next)
            && statement.size == edge.size()
        {
            if statement.root == root {
                self.proven = (edge.size(), end);
                self.matched.push(statement.clone());
            } else {
                self.damages.add(Damage::Rewritten {
                    index,
                    offset,
                    size: statement.size,
                    source: statement.source.clone(),
                    signed_again: false,
                });
            }
            self.next += 1;
        }
    }

    /// The log ends. Says whether somebody saw more of it.
    fn end(&mut self, index: u64, offset: u64) -> bool {
        let longest = self.statements.last();
        let Some(longest) = longest.filter(|statement| statement.size > index) else {
            return false;
        };
        self.damages.add(Damage::Cut {
            index,
            offset,
            size: longest.size,
            source: longest.source.clone(),
        });
        true
    }
}

/// What a log holds, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An entry.
    Entry {
        /// Its number.
        index: u64,
        /// Where it starts in the file.
        offset: u64,
        /// What it says, where that can be read.
        entry: Result<Entry, EntryError>,
    },
    /// Something that is no entry.
    Damage(Damage),
}

/// Reads a log's entries without comparing them with what was signed.
pub struct Reader {
    walk: Walk<File>,
    path: PathBuf,
    length: u64,
    done: bool,
}

impl Reader {
    /// Opens a log that is there, as it is now.
    pub fn open(path: &Path) -> Result<Self, VerifyError> {
        let log = named_key(path)?;
        let folder = Folder::to_read(path);
        let Snapshot { file, length, .. } = Snapshot::take(&folder)?;
        Ok(Self {
            walk: Walk::from_start(file, length, log.key()),
            path: folder.file(LOG),
            length,
            done: false,
        })
    }
}

impl Iterator for Reader {
    type Item = Result<Item, FolderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = match self.walk.step() {
            Ok(step) => step,
            Err(error) => {
                self.done = true;
                return Some(Err(failed(&self.path, error)));
            }
        };
        let item = match step {
            Step::Entry {
                index, offset, entry, ..
            } => Item::Entry {
                index,
                offset,
                entry: Entry::decode(entry),
            },
            Step::Fault(fault) => Item::Damage(Damage::Fault(fault)),
            Step::Unfinished { index, offset } => {
                self.done = true;
                let bytes = self.length - offset;
                Item::Damage(Damage::Unfinished { index, offset, bytes })
            }
            Step::End { .. } => {
                self.done = true;
                return None;
            }
        };
        Some(Ok(item))
    }
}
