//! Brings one recording into the store: its members first, then the lines of the manifest that name them.
//!
//! What is there already is listed once; from then on each piece is made at the place where the one before it ends, and
//! one that is there (from a request whose answer was lost, or from a process that died) must be what stands in the spool.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::bucket::{MAX_OBJECT, Object, Put};
use super::compare::Comparison;
use super::layout::Piece;
use super::{Bucket, Lock, LockMode, Receipt, StoreError, layout};
use crate::bundle::{KEY_FILE, SHARES};
use crate::ids::RecordingId;
use crate::recording::manifest::{self, Chain, Fact, MAX_LINE, TrackId};
use crate::recording::member::space;
use crate::recording::{Facts, MANIFEST_FILE, Medium, RECORDING_FILE, TRACKS};

/// A piece of a tar ends when it has so many bytes, or with the one member that has more.
const PIECE: u64 = 4 << 20;

/// So much of a manifest is brought in at once...
const BATCH: usize = 1 << 20;

/// ...and so much of what its lines name.
const BATCH_MEDIA: u64 = 64 << 20;

/// So many tars of a recording are sent at the same time.
const AT_ONCE: usize = 8;

/// Most objects of a recording.
pub const MAX_OBJECTS: usize = 4_000_000;

/// Where recordings go.
#[derive(Debug)]
pub struct Places {
    /// Recordings.
    pub media: Bucket,
    /// Their keys.
    pub keys: Bucket,
    /// Recordings that say for how long they are kept are locked for so long.
    pub lock: Option<LockMode>,
    /// What went there so far.
    pub sent: AtomicU64,
    /// What was read back and compared so far.
    pub compared: AtomicU64,
}

/// How far it came.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to be done.
    More,
    /// All that is sealed is there.
    Level,
    /// It has ended, is there, and was compared. The spool need not have it any more.
    Done(Receipt),
}

/// A recording on its way.
pub struct Upload {
    id: RecordingId,
    folder: PathBuf,
    begun: Option<Begun>,
    comparison: Option<Comparison>,
}

struct Begun {
    media: Bucket,
    facts: Facts,
    manifest: File,
    /// How far the manifest was read, and what its next line must name.
    read: u64,
    chain: Chain,
    /// How far it is in the store, and the number of lines until there.
    sent: u64,
    sent_lines: u64,
    /// Bytes of tars that are in the store, by their names, where none of their lines was read yet.
    there: HashMap<String, u64>,
    tars: BTreeMap<TrackId, Tar>,
    has_ended: bool,
}

/// A tar, and what of it waits.
struct Tar {
    name: String,
    path: PathBuf,
    /// How far it is in the store.
    sent: u64,
    /// How far lines were read that name it.
    named: u64,
    waiting: VecDeque<Part>,
}

/// A member in its tar, or the tar's end.
#[derive(Debug, Clone, Copy)]
struct Part {
    number: u64,
    end: u64,
}

impl Upload {
    /// Of a recording in the spool.
    pub fn new(id: RecordingId, folder: PathBuf) -> Self {
        Self {
            id,
            folder,
            begun: None,
            comparison: None,
        }
    }

    /// Which recording.
    pub fn id(&self) -> RecordingId {
        self.id
    }

    /// Bytes of it that are known to be in the store.
    pub fn in_store(&self) -> u64 {
        self.begun.as_ref().map_or(0, |begun| {
            let tars = begun.tars.values().map(|tar| tar.sent).sum::<u64>();
            tars + begun.there.values().sum::<u64>() + begun.sent
        })
    }

    /// How far its manifest is in the store.
    pub fn manifest_in_store(&self) -> u64 {
        self.begun.as_ref().map_or(0, |begun| begun.sent)
    }

    /// Brings in what comes next. `limit`: so much of the manifest is durable; of a recording that nobody writes, all that
    /// is there.
    pub async fn step(&mut self, places: &Places, limit: Option<u64>) -> Result<Step, StoreError> {
        if let Some(comparison) = &mut self.comparison {
            let done = comparison.step(places).await;
            if !matches!(done, Ok(None)) {
                self.comparison = None;
            }
            return Ok(done?.map_or(Step::More, Step::Done));
        }
        let begun = match &mut self.begun {
            Some(begun) => begun,
            None => {
                let begun = Begun::new(self.id, &self.folder, places).await?;
                self.begun.insert(begun)
            }
        };
        let level = begun.step(self.id, &self.folder, &places.sent, limit).await?;
        if !level {
            return Ok(Step::More);
        }
        // Whoever writes it lets it go first.
        if !begun.has_ended || limit.is_some() {
            return Ok(Step::Level);
        }
        let (media, facts) = (begun.media.clone(), begun.facts.clone());
        let comparison =
            Comparison::begin(self.id, &self.folder, media, places, &facts, begun.chain.root()).await?;
        self.comparison = Some(comparison);
        Ok(Step::More)
    }
}

/// The name of a recording's file in the store.
pub fn name(id: RecordingId, file: &str) -> String {
    format!("{id}/{file}")
}

/// The folder of a tar's pieces.
pub fn tar_folder(id: RecordingId, tar: &str) -> String {
    name(
        id,
        &format!("{TRACKS}/{}", tar.strip_suffix(".tar").unwrap_or(tar)),
    )
}

/// Is this file of a recording a key? Those lie elsewhere: what is locked can neither be made anew for others nor be
/// destroyed.
pub fn is_key(file: &str) -> bool {
    file == KEY_FILE || file.starts_with(SHARES)
}

/// Reads a part of a file.
pub fn part(file: &File, path: &Path, from: u64, to: u64) -> Result<Bytes, StoreError> {
    let length = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, from)
        .map_err(StoreError::io(path))?;
    Ok(bytes.into())
}

/// Makes a piece of a file; gives where it ends. One that is there may be shorter or longer, but must be the same.
pub async fn put_part(
    bucket: &Bucket,
    name: &str,
    (file, path): (&File, &Path),
    (from, to): (u64, u64),
    sent: &AtomicU64,
) -> Result<u64, StoreError> {
    let bytes = part(file, path, from, to)?;
    if bucket.put(name, bytes.clone()).await? == Put::Made {
        sent.fetch_add(to - from, Ordering::Relaxed);
        return Ok(to);
    }
    let conflict = || StoreError::Conflict(bucket.url(name));
    let there = bucket.get(name, MAX_OBJECT).await?.ok_or_else(conflict)?;
    let end = from + there.len() as u64;
    let own = match part(file, path, from, end) {
        Err(StoreError::Io { error, .. }) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(conflict());
        }
        own => own?,
    };
    if there.is_empty() || own != there {
        return Err(conflict());
    }
    Ok(end)
}

impl Begun {
    async fn new(id: RecordingId, folder: &Path, places: &Places) -> Result<Self, StoreError> {
        let small = |name: &str, most: u64| {
            let path = folder.join(name);
            let bytes = crate::bundle::read_bounded(&path, most);
            bytes.map(Bytes::from).map_err(StoreError::io(&path))
        };
        let recording = small(RECORDING_FILE, crate::recording::facts::MAX_FILE)?;
        let (facts, _) = Facts::decode(&recording)
            .map_err(|why| StoreError::Damaged(format!("{}: {RECORDING_FILE} {why}", folder.display())))?;
        let media = match (places.lock, facts.retention_days) {
            (Some(mode), Some(days)) => {
                let until = facts.started / 1000 + u64::from(days) * 86_400;
                places.media.locked(Lock { mode, until })?
            }
            _ => places.media.clone(),
        };
        let objects = media.list(&id.to_string(), MAX_OBJECTS).await?;
        let sent = covered(
            &media,
            &name(id, MANIFEST_FILE),
            &objects,
            &folder.join(MANIFEST_FILE),
        )
        .await?;
        if sent == 0 {
            for file in &facts.files {
                let bucket = if is_key(&file.name) { &places.keys } else { &media };
                let content = small(&file.name, crate::bundle::MAX_FILE)?;
                bucket.put_same(&name(id, &file.name), content).await?;
            }
        }
        media
            .put_same(&name(id, RECORDING_FILE), recording.clone())
            .await?;
        let tracks = name(id, &format!("{TRACKS}/"));
        let mut folders: Vec<&str> = objects
            .iter()
            .filter_map(|object| object.name.strip_prefix(&tracks)?.split('/').next())
            .collect();
        folders.dedup();
        let mut there = HashMap::new();
        for of in folders {
            let tar = format!("{of}.tar");
            let covered = covered(
                &media,
                &tar_folder(id, &tar),
                &objects,
                &folder.join(TRACKS).join(&tar),
            )
            .await?;
            there.insert(tar, covered);
        }
        let path = folder.join(MANIFEST_FILE);
        Ok(Self {
            media,
            facts,
            manifest: File::open(&path).map_err(StoreError::io(&path))?,
            read: 0,
            chain: Chain::new(&recording),
            sent,
            sent_lines: 0,
            there,
            tars: BTreeMap::new(),
            has_ended: false,
        })
    }

    /// Brings in a batch. True: there is nothing more.
    async fn step(
        &mut self,
        id: RecordingId,
        folder: &Path,
        sent: &AtomicU64,
        limit: Option<u64>,
    ) -> Result<bool, StoreError> {
        let path = folder.join(MANIFEST_FILE);
        let end = self.durable(&path, limit)?;
        if end < self.sent {
            let url = self.media.url(&name(id, MANIFEST_FILE));
            return Err(StoreError::Damaged(format!(
                "{} has {end} bytes of its manifest, and {url} has {}: the spool lost lines that were durable",
                folder.display(),
                self.sent
            )));
        }
        if self.waiting() == 0 && self.read <= self.sent {
            if self.read == self.sent {
                self.sent_lines = self.chain.root().lines;
            }
            self.read_batch(folder, &path, limit.is_none(), end)?;
        }
        let media = &self.media;
        let waiting = self.tars.values_mut().filter(|tar| !tar.waiting.is_empty());
        let sending = stream::iter(waiting)
            .map(|tar| tar.send(id, media, sent))
            .buffer_unordered(AT_ONCE);
        sending.try_collect::<()>().await?;
        if self.read > self.sent {
            let name = layout::name(&name(id, MANIFEST_FILE), self.sent_lines, self.sent);
            let (file, range) = ((&self.manifest, path.as_path()), (self.sent, self.read));
            self.sent = put_part(media, &name, file, range, sent).await?;
            if self.read != self.sent {
                // A piece with other bounds was there: it is read once more up to where that one ends.
                self.again(folder)?;
            }
            return Ok(false);
        }
        Ok(self.read == end || !self.has_line(&path, end)?)
    }

    fn waiting(&self) -> usize {
        self.tars.values().map(|tar| tar.waiting.len()).sum()
    }

    /// How far the manifest may be read.
    fn durable(&self, path: &Path, limit: Option<u64>) -> Result<u64, StoreError> {
        let length = self.manifest.metadata().map_err(StoreError::io(path))?.len();
        Ok(limit.map_or(length, |limit| limit.min(length)))
    }

    /// Does a whole line wait?
    fn has_line(&self, path: &Path, end: u64) -> Result<bool, StoreError> {
        let to = end.min(self.read + MAX_LINE as u64 + 1);
        Ok(part(&self.manifest, path, self.read, to)?.contains(&b'\n'))
    }

    /// Reads lines from the beginning again, up to what is in the store.
    fn again(&mut self, folder: &Path) -> Result<(), StoreError> {
        let path = folder.join(RECORDING_FILE);
        let recording = crate::bundle::read_bounded(&path, crate::recording::facts::MAX_FILE);
        self.chain = Chain::new(&recording.map_err(StoreError::io(&path))?);
        self.read = 0;
        self.sent_lines = 0;
        self.has_ended = false;
        for tar in std::mem::take(&mut self.tars).into_values() {
            self.there.insert(tar.name, tar.sent);
        }
        Ok(())
    }

    /// Reads the next lines, and notes what they name. It stops where the store's manifest ends, so that what is made
    /// next begins there.
    fn read_batch(
        &mut self,
        folder: &Path,
        path: &Path,
        is_left: bool,
        durable: u64,
    ) -> Result<(), StoreError> {
        let damaged = |line: u64, why: &str| {
            StoreError::Damaged(format!("{}: line {line} of the manifest {why}", folder.display()))
        };
        if is_left {
            // Whoever wrote it may have died before it was on the disk.
            self.manifest.sync_data().map_err(StoreError::io(path))?;
        }
        let bound = if self.read < self.sent {
            durable.min(self.sent)
        } else {
            durable
        };
        let to = bound.min(self.read + BATCH as u64);
        let bytes = part(&self.manifest, path, self.read, to)?;
        let (mut media, mut last) = (0, None);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let number = self.chain.root().lines;
            let Some(content) = line.strip_suffix(b"\n") else {
                break;
            };
            let (parsed, ..) = manifest::parse(content).map_err(|_| damaged(number, "is none"))?;
            if !self.chain.follows(&parsed) {
                return Err(damaged(number, "does not follow the one before"));
            }
            self.chain.pass(content);
            self.read += line.len() as u64;
            media += self
                .note(folder, parsed.fact)
                .map_err(|why| damaged(number, why))?;
            last = Some((number, content));
            if media >= BATCH_MEDIA {
                break;
            }
        }
        match last {
            // The last one's signature is for all of them.
            Some((number, line)) => manifest::verify_line(line, &self.facts.log_key)
                .map(drop)
                .map_err(|_| damaged(number, "is not signed by the audit log's key")),
            None if bytes.len() > MAX_LINE || self.read < self.sent => Err(damaged(
                self.chain.root().lines,
                "does not end where the store's manifest does",
            )),
            None => Ok(()),
        }
    }

    /// Takes what a line names; gives how many bytes of tars that is.
    fn note(&mut self, folder: &Path, fact: Fact) -> Result<u64, &'static str> {
        match fact {
            Fact::Track(track) => {
                let tar = Tar::new(folder, track.track, track.medium, &mut self.there);
                self.tars.insert(track.track, tar);
                Ok(0)
            }
            Fact::Member(member) => {
                let tar = self
                    .tars
                    .get_mut(&member.track)
                    .ok_or("names a track that there is not")?;
                if member.offset != tar.named {
                    return Err("leaves out a part of a tar");
                }
                Ok(tar.name_part(member.sequence, member.offset + space(member.bytes)))
            }
            Fact::End(end) => {
                self.has_ended = true;
                let of = self.tars.values_mut().zip(&end.tracks);
                Ok(of.map(|(tar, end)| tar.name_part(end.members, end.bytes)).sum())
            }
            _ => Ok(0),
        }
    }
}

impl Tar {
    fn new(folder: &Path, track: TrackId, medium: Medium, there: &mut HashMap<String, u64>) -> Self {
        let name = crate::recording::member::tar_name(track, medium);
        Self {
            path: folder.join(TRACKS).join(&name),
            sent: there.remove(&name).unwrap_or(0),
            name,
            named: 0,
            waiting: VecDeque::new(),
        }
    }

    /// A line names the tar up to there.
    fn name_part(&mut self, number: u64, end: u64) -> u64 {
        let bytes = end.saturating_sub(self.named);
        self.named = self.named.max(end);
        if bytes > 0 && end > self.sent {
            self.waiting.push_back(Part { number, end });
        }
        bytes
    }

    /// Sends what waits, one piece after the other.
    async fn send(&mut self, id: RecordingId, media: &Bucket, sent: &AtomicU64) -> Result<(), StoreError> {
        let file = File::open(&self.path).map_err(StoreError::io(&self.path))?;
        while let Some(first) = self.waiting.front() {
            let within = |part: &&Part| part.end - self.sent <= PIECE || part.number == first.number;
            let end = self
                .waiting
                .iter()
                .take_while(within)
                .last()
                .map_or(first.end, |part| part.end);
            let name = layout::name(&tar_folder(id, &self.name), first.number, self.sent);
            let range = (self.sent, end);
            self.sent = put_part(media, &name, (&file, &self.path), range, sent).await?;
            while self.waiting.front().is_some_and(|part| part.end <= self.sent) {
                self.waiting.pop_front();
            }
        }
        Ok(())
    }
}

/// How far the store has a file. The newest piece must be what stands in the spool; those before it are compared when all
/// is there.
async fn covered(bucket: &Bucket, folder: &str, objects: &[Object], path: &Path) -> Result<u64, StoreError> {
    let begins = format!("{folder}/");
    let of = objects.iter().filter(|object| object.name.starts_with(&begins));
    let (pieces, _) = layout::pieces(folder, of);
    let covered = layout::covered(&pieces)
        .map_err(|why| StoreError::Damaged(format!("{}: {why}", bucket.url(folder))))?;
    if let Some(newest) = pieces.last() {
        is_same(bucket, newest, path).await?;
    }
    Ok(covered)
}

/// Is a piece what stands in the spool?
pub async fn is_same(bucket: &Bucket, piece: &Piece, path: &Path) -> Result<(), StoreError> {
    let conflict = || StoreError::Conflict(bucket.url(&piece.name));
    let there = bucket.get(&piece.name, MAX_OBJECT).await?.ok_or_else(conflict)?;
    // What a listing says of a length is not believed: so much would be read.
    if there.len() as u64 != piece.bytes {
        return Err(conflict());
    }
    let own = File::open(path).map_err(StoreError::io(path));
    let own = own.and_then(|file| part(&file, path, piece.offset, piece.end()));
    match own {
        Ok(own) if own == there => Ok(()),
        Err(StoreError::Io { error, .. })
            if !matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
            ) =>
        {
            Err(StoreError::io(path)(error))
        }
        _ => Err(conflict()),
    }
}
