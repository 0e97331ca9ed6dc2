//! Opening a recording: what it has is read without a key; the key comes out only after the access is in the log.
//!
//! [`Index`] has no key. [`Index::unlock`] asks the caller to log the access first, and there is no other way to a
//! [`Reader`]. Of a member nothing is decrypted before its SHA-256 is the manifest's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use age::x25519::Identity;
use zeroize::Zeroizing;

use super::contents::ReadError;
use super::facts::{self, Facts};
use super::holders::{HoldersError, KeyHolders};
use super::manifest::{Chain, MAX_TEXT, Root, TrackId};
use super::member::BLOCK;
use super::verify::Options;
use super::{Contents, MANIFEST_FILE, MemberInfo, RECORDING_FILE, TRACKS, TrackInfo, is_plain};
use crate::age_file;
use crate::bundle::holders::fingerprint;
use crate::bundle::{KEY_FILE, read_bounded};
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::signing::PublicKey;

const NOT_THE_ONE: &str = "is not the one that it was recorded to";

/// What a recording has.
#[derive(Debug, Clone)]
pub struct Index {
    path: PathBuf,
    facts: Facts,
    holders: KeyHolders,
    contents: Contents,
    root: Root,
}

/// Who opens what, and why: what the log says of it.
#[derive(Debug, Clone)]
pub struct Access {
    /// Which recording.
    pub recording: RecordingId,
    /// The key of the log in which the entry must stand, no other.
    pub log_key: PublicKey,
    /// How far the manifest goes that is read.
    pub root: Root,
    /// Fingerprint of the identity that opens.
    pub reader: Digest,
    /// Why.
    pub reason: String,
    /// The case that it belongs to.
    pub ticket: String,
    /// The tracks that are opened.
    pub tracks: Vec<TrackId>,
}

/// With what a recording is opened.
pub(crate) enum Key<'a> {
    /// A recipient's identities: `key.age` opens with one of them.
    Recipient(&'a [Identity]),
    /// The recording's own identity, which custodians put together.
    Recording(Identity),
}

/// What somebody asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Why.
    pub reason: String,
    /// The case that it belongs to.
    pub ticket: String,
    /// The tracks; none: all.
    pub tracks: Vec<TrackId>,
}

/// Why a recording is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refuses.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What it says of itself does not hold.
    #[error("{path} is damaged: {why}. gst-compliance verify says what is left")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        why: String,
    },
    /// It cannot be told who holds its key.
    #[error("{path} is not opened: {error}")]
    Holders {
        /// The recording.
        path: PathBuf,
        /// Why.
        error: HoldersError,
    },
    /// A member is not what was sealed.
    #[error("member {sequence} of track {track} {why}; gst-compliance verify says what else")]
    Member {
        /// Its track.
        track: TrackId,
        /// Its number.
        sequence: u64,
        /// What is wrong.
        why: String,
    },
    /// Not in the recording, or not asked for.
    #[error("there is no track {0} in it, or it was not asked for")]
    NoTrack(TrackId),
    /// A reason and a ticket are needed.
    #[error("a reason and a ticket are needed, each of 1 to {MAX_TEXT} bytes without control characters")]
    Request,
    /// Only custodians together can.
    #[error("{0} is under escrow: its custodians open it together, no recipient can alone")]
    Escrow(RecordingId),
    /// The identity is of somebody else.
    #[error("the key of {recording} {why}; its recipients are {recipients}")]
    Identity {
        /// The recording.
        recording: RecordingId,
        /// What is wrong.
        why: String,
        /// Their fingerprints.
        recipients: String,
    },
    /// No entry, no access.
    #[error("the access cannot be logged, so nothing is opened: {0}")]
    Log(String),
}

impl Index {
    /// Reads facts and manifest, and verifies both. Members are verified when they are read.
    pub fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        let facts_path = path.join(RECORDING_FILE);
        let damaged = |path: &Path, why: String| OpenError::Damaged {
            path: path.to_owned(),
            why,
        };
        let file = read_bounded(&facts_path, facts::MAX_FILE).map_err(io(&facts_path))?;
        let (facts, _) = Facts::decode(&file).map_err(|why| damaged(&facts_path, format!("it {why}")))?;
        if let Some(key) = options.log_key.filter(|key| *key != facts.log_key) {
            let why = format!("{} signed it, and not the audit log {key}", facts.log_key);
            return Err(damaged(&facts_path, why));
        }
        if let Some(dealer) = options.dealer.filter(|dealer| *dealer != facts.dealer) {
            return Err(damaged(
                &facts_path,
                format!("{} dealt its key, and not {dealer}", facts.dealer),
            ));
        }
        let holders =
            KeyHolders::read(path, &facts, &file, options.rewraps).map_err(|error| OpenError::Holders {
                path: path.to_owned(),
                error,
            })?;
        let manifest_path = path.join(MANIFEST_FILE);
        let mut manifest = File::open(&manifest_path).map_err(io(&manifest_path))?;
        let begin = Chain::new(&file);
        let (contents, prefix) = Contents::read(&mut manifest, begin, &facts.log_key, options.known)
            .map_err(|error| match error {
                ReadError::Io(error) => io(&manifest_path)(error),
                ReadError::Damaged(why) => damaged(&manifest_path, why),
            })?;
        Ok(Self {
            path: path.to_owned(),
            facts,
            holders,
            contents,
            root: prefix.chain.root(),
        })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it began with.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Who holds its key now.
    pub fn holders(&self) -> &KeyHolders {
        &self.holders
    }

    /// Its tracks.
    pub fn tracks(&self) -> &[TrackInfo] {
        &self.contents.tracks
    }

    /// A track.
    pub fn track(&self, track: TrackId) -> Option<&TrackInfo> {
        self.contents.tracks.get(usize::try_from(track.0).ok()?)
    }

    /// Has it its end record?
    pub fn is_finished(&self) -> bool {
        self.contents.end.is_some()
    }

    /// How far the manifest goes.
    pub fn root(&self) -> Root {
        self.root
    }

    /// Where the recording's clock stands at its end, nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.contents.last_ns()
    }

    /// Opens it, after `log` has put the access into the audit log, durably. Where that fails nothing is decrypted.
    pub(crate) fn unlock(
        self,
        key: Key<'_>,
        request: Request,
        log: impl FnOnce(&Access) -> Result<(), String>,
    ) -> Result<Reader, OpenError> {
        let fits = |text: &str| !text.trim().is_empty() && is_plain(text, MAX_TEXT);
        if !fits(&request.reason) || !fits(&request.ticket) {
            return Err(OpenError::Request);
        }
        if self.holders.escrow.is_some() && matches!(key, Key::Recipient(_)) {
            return Err(OpenError::Escrow(self.facts.recording));
        }
        let mut tracks = request.tracks;
        if tracks.is_empty() {
            tracks = self.tracks().iter().map(|track| track.id).collect();
        }
        if let Some(unknown) = tracks.iter().find(|track| self.track(**track).is_none()) {
            return Err(OpenError::NoTrack(*unknown));
        }
        let reader = self.reader(&key)?;
        log(&Access {
            recording: self.facts.recording,
            log_key: self.facts.log_key,
            root: self.root,
            reader,
            reason: request.reason,
            ticket: request.ticket,
            tracks: tracks.clone(),
        })
        .map_err(OpenError::Log)?;
        let identity = match key {
            Key::Recipient(identities) => self.unwrap(identities)?,
            Key::Recording(identity) => self.own(identity)?,
        };
        Ok(Reader {
            index: self,
            tracks,
            identity: [identity],
            tars: BTreeMap::new(),
        })
    }

    /// The fingerprint of whoever opens.
    fn reader(&self, key: &Key<'_>) -> Result<Digest, OpenError> {
        let identities = match key {
            Key::Recipient(identities) => identities,
            Key::Recording(identity) => std::slice::from_ref(identity),
        };
        let prints: Vec<_> = identities
            .iter()
            .map(|key| fingerprint(&key.to_public()))
            .collect();
        let own = prints
            .iter()
            .find(|print| self.holders.recipients.contains(print));
        let reader = own.or(prints.first()).copied();
        reader.ok_or_else(|| self.not_with("is needed, and no identity was given"))
    }

    fn unwrap(&self, identities: &[Identity]) -> Result<Identity, OpenError> {
        unwrap(&self.path, &self.facts, &self.holders, identities)
    }

    /// The identity, where it is the recording's.
    fn own(&self, identity: Identity) -> Result<Identity, OpenError> {
        if identity.to_public().to_string() == self.facts.public {
            Ok(identity)
        } else {
            Err(self.not_with(NOT_THE_ONE))
        }
    }

    fn not_with(&self, why: &str) -> OpenError {
        not_with(&self.facts, &self.holders, why)
    }
}

/// The identity of a recording, by one of its recipients'. Whoever calls this has logged it, or logs it before anything
/// comes of it.
pub(crate) fn unwrap(
    path: &Path,
    facts: &Facts,
    holders: &KeyHolders,
    identities: &[Identity],
) -> Result<Identity, OpenError> {
    if holders.escrow.is_some() {
        return Err(OpenError::Escrow(facts.recording));
    }
    let not_with = |why: &str| not_with(facts, holders, why);
    let path = holders.place(path, KEY_FILE);
    let wrapped = read_bounded(&path, crate::bundle::MAX_FILE).map_err(io(&path))?;
    let text = age_file::open(&wrapped, identities).map_err(|why| not_with(&why.to_string()))?;
    let identity = age_file::parse_identities(&text)
        .and_then(|found| found.into_iter().next())
        .filter(|identity| identity.to_public().to_string() == facts.public);
    identity.ok_or_else(|| not_with(NOT_THE_ONE))
}

fn not_with(facts: &Facts, holders: &KeyHolders, why: &str) -> OpenError {
    let recipients: Vec<_> = holders.recipients.iter().map(Digest::to_string).collect();
    OpenError::Identity {
        recording: facts.recording,
        why: why.to_owned(),
        recipients: recipients.join(", "),
    }
}

/// A recording that is open.
pub struct Reader {
    index: Index,
    tracks: Vec<TrackId>,
    identity: [Identity; 1],
    tars: BTreeMap<TrackId, File>,
}

impl Reader {
    /// What the recording has.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The recording's identity, to wrap it to others.
    pub fn key(&self) -> Identity {
        let [identity] = &self.identity;
        identity.clone()
    }

    /// The tracks that were asked for.
    pub fn tracks(&self) -> impl Iterator<Item = &TrackInfo> {
        let tracks = self.index.tracks().iter();
        tracks.filter(|track| self.tracks.contains(&track.id))
    }

    /// The plaintext of a member: whole Clusters of Matroska, the first member's with what stands before them.
    pub fn member(&mut self, track: TrackId, sequence: u64) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let info = self
            .index
            .track(track)
            .filter(|_| self.tracks.contains(&track))
            .ok_or(OpenError::NoTrack(track))?;
        let wrong = |why: &str| OpenError::Member {
            track,
            sequence,
            why: why.to_owned(),
        };
        let member = usize::try_from(sequence)
            .ok()
            .and_then(|sequence| info.members.get(sequence))
            .copied()
            .ok_or_else(|| wrong("is not there"))?;
        let path = self.index.path.join(TRACKS).join(info.tar());
        let tar = match self.tars.entry(track) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(File::open(&path).map_err(io(&path))?)
            }
        };
        let file = read_member(tar, &member).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => wrong("is cut off"),
            _ => io(&path)(error),
        })?;
        if Digest::of(&file) != member.sha256 {
            return Err(wrong("is not what was sealed"));
        }
        age_file::open(&file, &self.identity).map_err(|why| wrong(&why.to_string()))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("path", &self.index.path)
            .field("tracks", &self.tracks)
            .finish_non_exhaustive()
    }
}

fn read_member(tar: &File, member: &MemberInfo) -> io::Result<Vec<u8>> {
    // Bounded: no line names more than a member may have.
    let length = usize::try_from(member.bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut file = vec![0; length];
    tar.read_exact_at(&mut file, member.offset + BLOCK as u64)?;
    Ok(file)
}

/// Writes a track as one Matroska stream. How many bytes that are.
pub fn export(
    reader: &mut Reader,
    track: TrackId,
    out: &mut dyn Write,
    path: &Path,
) -> Result<u64, OpenError> {
    let members = reader
        .index
        .track(track)
        .map(|info| info.members.len() as u64)
        .ok_or(OpenError::NoTrack(track))?;
    let mut bytes = 0;
    for sequence in 0..members {
        let piece = reader.member(track, sequence)?;
        out.write_all(&piece).map_err(io(path))?;
        bytes += piece.len() as u64;
    }
    out.flush().map_err(io(path))?;
    Ok(bytes)
}

fn io(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { path, error }
}
