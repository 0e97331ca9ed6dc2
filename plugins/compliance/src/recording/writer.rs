//! Writing a recording: members are appended, then made durable together, then stated in the manifest, which is made
//! durable in turn; only then are they sealed.
//!
//! A recording is used by one thread. After a failed write it takes nothing more and can only end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::x25519::Recipient;
use zeroize::Zeroizing;

use super::disk::{Disk, DiskFile};
use super::manifest::{
    Chain, EndFact, Fact, GapFact, MAX_CAPS, MAX_TEXT, MAX_TRACKS, Medium, MemberFact, Root, StartFact,
    TrackEnd, TrackFact, TrackId,
};
use super::member::{END_OF_ARCHIVE, MAX_SEGMENT, Member, make, member_name, space, tar_name};
use super::together::together;
use super::{Facts, MANIFEST_FILE, RECORDING_FILE, RESERVE_FILE, RecordingError, Start, TRACKS, is_plain};
use crate::bundle::{Bundle, SHARES};
use crate::ids::RecordingId;
use crate::signing::Signer;

/// What is kept for the last lines and the end record when the disk is full.
pub const RESERVE: u64 = 512 * 1024;

/// A track to be opened.
#[derive(Debug, Clone)]
pub struct Track {
    /// What it holds.
    pub medium: Medium,
    /// GStreamer caps of what is recorded.
    pub caps: String,
    /// The sender's leaf.
    pub leaf: Option<u32>,
    /// The sender, opaque.
    pub sender: String,
}

/// What becomes a member: some whole Clusters, the first with what stands before them in the stream.
pub struct Segment {
    /// Plaintext.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Time of its first frame, nanoseconds on the recording's clock.
    pub from_ns: u64,
    /// Time at which its last frame ends.
    pub to_ns: u64,
    /// First and last epoch that its frames were sealed in.
    pub epoch: (u64, u64),
    /// The leaf that sealed them, where it is known.
    pub leaf: Option<u32>,
    /// How many frames.
    pub frames: u32,
    /// How many of them can be decoded without others, where that is known and not all of them.
    pub keyframes: Option<u32>,
}

/// What is not recorded.
#[derive(Debug, Clone)]
pub struct Gap {
    /// Where it begins, nanoseconds on the recording's clock.
    pub from_ns: u64,
    /// Where it ends.
    pub to_ns: u64,
    /// So many frames, as far as that is known.
    pub frames: u64,
    /// Why.
    pub cause: String,
}

/// A member that no crash and no power cut takes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Its track.
    pub track: TrackId,
    /// Its number in the track.
    pub sequence: u64,
    /// Time of its first frame.
    pub from_ns: u64,
    /// Time at which its last frame ends.
    pub to_ns: u64,
    /// What it takes of the tar.
    pub bytes: u64,
}

/// A recording that is being made.
pub struct Recording {
    pub(super) path: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) facts: Facts,
    pub(super) public: Recipient,
    pub(super) manifest: Manifest,
    pub(super) tracks: Vec<TrackState>,
    /// What the next lines say, in order.
    pub(super) pending: Vec<Fact>,
    /// A write failed: nothing more is taken.
    pub(super) failed: bool,
    /// A tar could not be made durable.
    pub(super) suspect: bool,
    /// Members that were taken back.
    pub(super) lost: u64,
    pub(super) ended: bool,
}

/// The manifest's file, locked, and how far it is durable.
pub(super) struct Manifest {
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    pub(super) chain: Chain,
    pub(super) length: u64,
}

pub(super) struct TrackState {
    id: TrackId,
    medium: Medium,
    /// Name of the tar.
    tar: String,
    file: Option<Box<dyn DiskFile>>,
    /// Members and bytes that the manifest states.
    sealed: (u64, u64),
    /// Members and bytes that were appended.
    appended: (u64, u64),
    /// The tar's name is not durable yet.
    is_new: bool,
    /// Nothing more comes.
    is_over: bool,
    /// The tar's final length, once its end is durable.
    closed: Option<u64>,
}

impl TrackState {
    /// A track of which so many members and bytes are sealed.
    pub(super) fn new(id: TrackId, medium: Medium, sealed: (u64, u64)) -> Self {
        Self {
            id,
            medium,
            tar: tar_name(id, medium),
            file: None,
            sealed,
            appended: sealed,
            is_new: false,
            is_over: false,
            closed: None,
        }
    }
}

impl Manifest {
    /// Appends lines and makes them durable; all of them or, where that can still be done, none.
    fn append(&mut self, facts: &[Fact], signer: &dyn Signer) -> Result<(), RecordingError> {
        let mut chain = self.chain;
        let mut lines = Vec::new();
        for fact in facts {
            let line = chain.make(fact.clone(), signer).map_err(RecordingError::Unfit)?;
            lines.extend_from_slice(&line);
        }
        let written = self.file.append(&lines).and_then(|()| self.file.sync());
        if let Err(error) = written {
            // What cannot be cut now is cut when the recording is resumed. The first error is the one to tell.
            let _ = self.file.truncate(self.length);
            return Err(RecordingError::io(&self.path)(error));
        }
        self.chain = chain;
        self.length += lines.len() as u64;
        Ok(())
    }
}

impl Recording {
    /// Makes the recording's folder below `location`. It appears under its name when all of it is durable; what a crash
    /// leaves before that has a name that begins with a dot, and holds no media.
    pub fn create(
        location: &Path,
        bundle: &Bundle,
        start: Start,
        signer: Arc<dyn Signer>,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, RecordingError> {
        let id = bundle.id();
        let path = location.join(id.to_string());
        if disk.exists(&path).map_err(RecordingError::io(&path))? {
            return Err(RecordingError::Exists(path));
        }
        let time = start.time;
        let (facts, recording_file) = Facts::new(bundle, start, &*signer).map_err(RecordingError::Unfit)?;
        let new = location.join(format!(".{id}.new"));
        let folder = |path: &Path| disk.create_folder(path).map_err(RecordingError::io(path));
        folder(&new)?;
        folder(&new.join(TRACKS))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = new.join(name);
            let write = || {
                let mut file = disk.create(&path)?;
                file.append(bytes)?;
                file.sync()
            };
            write().map_err(RecordingError::io(&path))
        };
        if bundle.escrow().is_some() {
            folder(&new.join(SHARES))?;
        }
        for (name, bytes) in bundle.files() {
            write(name, bytes)?;
        }
        write(RECORDING_FILE, &recording_file)?;
        reserve(&*disk, &new)?;
        let mut manifest = Manifest {
            path: path.join(MANIFEST_FILE),
            file: disk
                .create(&new.join(MANIFEST_FILE))
                .map_err(RecordingError::io(&new))?,
            chain: Chain::new(&recording_file),
            length: 0,
        };
        lock(&mut manifest, &path)?;
        manifest.append(&[Fact::Start(StartFact { time })], &*signer)?;
        let mut folders = vec![new.join(TRACKS), new.clone()];
        if bundle.escrow().is_some() {
            folders.insert(0, new.join(SHARES));
        }
        for folder in folders {
            disk.sync_folder(&folder).map_err(RecordingError::io(&folder))?;
        }
        disk.rename(&new, &path).map_err(RecordingError::io(&path))?;
        disk.sync_folder(location).map_err(RecordingError::io(location))?;
        Ok(Self {
            path,
            disk,
            signer,
            facts,
            public: bundle.public().clone(),
            manifest,
            tracks: Vec::new(),
            pending: Vec::new(),
            failed: false,
            suspect: false,
            lost: 0,
            ended: false,
        })
    }

    /// Which recording.
    pub fn id(&self) -> RecordingId {
        self.facts.recording
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it began with.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How far the manifest is durable.
    pub fn root(&self) -> Root {
        self.manifest.chain.root()
    }

    /// So many bytes of the manifest are durable.
    pub fn manifest_bytes(&self) -> u64 {
        self.manifest.length
    }

    /// Opens a track. Its line is written with the next [`Recording::sync`].
    pub fn open_track(&mut self, track: Track) -> Result<TrackId, RecordingError> {
        self.takes()?;
        let id = u32::try_from(self.tracks.len())
            .ok()
            .filter(|id| *id < MAX_TRACKS)
            .map(TrackId)
            .ok_or_else(|| RecordingError::Unfit(format!("a recording has at most {MAX_TRACKS} tracks")))?;
        if !is_plain(&track.caps, MAX_CAPS) {
            let why = format!("the caps of a track have more than {MAX_CAPS} bytes, or control characters");
            return Err(RecordingError::Unfit(why));
        }
        if !is_plain(&track.sender, MAX_TEXT) {
            let why = format!("the sender of a track has more than {MAX_TEXT} bytes, or control characters");
            return Err(RecordingError::Unfit(why));
        }
        self.tracks.push(TrackState::new(id, track.medium, (0, 0)));
        self.pending.push(Fact::Track(TrackFact {
            track: id,
            medium: track.medium,
            caps: track.caps,
            leaf: track.leaf,
            sender: track.sender,
        }));
        Ok(id)
    }

    /// Encrypts a segment and appends it to its track. It is not durable before the next [`Recording::sync`].
    pub fn append(&mut self, track: TrackId, segment: Segment) -> Result<(), RecordingError> {
        self.takes()?;
        if segment.bytes.len() > MAX_SEGMENT {
            let why = format!("a segment has more than {MAX_SEGMENT} bytes: use a shorter segment-duration");
            return Err(RecordingError::Unfit(why));
        }
        if segment.from_ns > segment.to_ns || segment.epoch.0 > segment.epoch.1 {
            return Err(RecordingError::Unfit(
                "a segment ends before it begins".to_owned(),
            ));
        }
        let time = self.facts.tar_time();
        let folder = self.path.join(TRACKS);
        let state = state(&mut self.tracks, track)?;
        let (sequence, offset) = state.appended;
        let name = member_name(state.id, state.medium, sequence);
        let Member {
            member,
            bytes,
            sha256,
        } = make(&self.public, &segment.bytes, &name, time)?;
        let path = folder.join(&state.tar);
        let written = state
            .open(&*self.disk, &path)
            .and_then(|file| file.append(&member).inspect_err(|_| drop(file.truncate(offset))));
        if let Err(error) = written {
            self.failed = true;
            return Err(RecordingError::io(&path)(error));
        }
        state.appended = (sequence + 1, offset + member.len() as u64);
        self.pending.push(Fact::Member(MemberFact {
            track,
            sequence,
            sha256,
            offset,
            bytes,
            from: segment.from_ns,
            to: segment.to_ns,
            epochs: segment.epoch,
            leaf: segment.leaf,
            frames: segment.frames,
            keyframes: segment.keyframes,
        }));
        Ok(())
    }

    /// Says that something is missing. The line is written with the next [`Recording::sync`].
    pub fn gap(&mut self, track: TrackId, gap: Gap) -> Result<(), RecordingError> {
        self.takes()?;
        state(&mut self.tracks, track)?;
        if gap.from_ns > gap.to_ns || !is_plain(&gap.cause, MAX_TEXT) {
            let why = "a gap ends before it begins, or its cause is no plain text";
            return Err(RecordingError::Unfit(why.to_owned()));
        }
        self.pending.push(Fact::Gap(GapFact {
            track,
            from: gap.from_ns,
            to: gap.to_ns,
            frames: gap.frames,
            cause: gap.cause,
        }));
        Ok(())
    }

    /// Nothing more comes of this track: once what was appended is sealed its tar is open no more. A process may have
    /// fewer files open than a recording has tracks.
    pub fn close_track(&mut self, track: TrackId) -> Result<(), RecordingError> {
        let state = state(&mut self.tracks, track)?;
        state.is_over = true;
        state.drop_file();
        Ok(())
    }

    /// Seals everything that was appended since the last time.
    pub fn sync(&mut self) -> Result<Vec<Sealed>, RecordingError> {
        self.takes()?;
        self.seal()
    }

    fn takes(&self) -> Result<(), RecordingError> {
        if self.ended {
            return Err(RecordingError::Ended(self.path.clone()));
        }
        if self.failed {
            return Err(RecordingError::Failed);
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<Vec<Sealed>, RecordingError> {
        if self.pending.is_empty() {
            return Ok(Vec::new());
        }
        if let Err(error) = self.sync_tars() {
            self.failed = true;
            self.suspect = true;
            return Err(error);
        }
        if let Err(error) = self.manifest.append(&self.pending, &*self.signer) {
            self.failed = true;
            return Err(error);
        }
        for state in &mut self.tracks {
            state.sealed = state.appended;
            state.drop_file();
        }
        let pending = std::mem::take(&mut self.pending).into_iter();
        Ok(pending
            .filter_map(|fact| match fact {
                Fact::Member(member) => Some(Sealed {
                    track: member.track,
                    sequence: member.sequence,
                    from_ns: member.from,
                    to_ns: member.to,
                    bytes: space(member.bytes),
                }),
                _ => None,
            })
            .collect())
    }

    fn sync_tars(&mut self) -> Result<(), RecordingError> {
        let folder = self.path.join(TRACKS);
        let grown = self
            .tracks
            .iter_mut()
            .filter(|state| state.appended != state.sealed);
        together(grown, |state| match &mut state.file {
            Some(file) => file.sync().map_err(RecordingError::io(&folder.join(&state.tar))),
            None => Ok(()),
        })?;
        let grown = |state: &TrackState| state.appended != state.sealed;
        if self.tracks.iter().any(|state| state.is_new && grown(state)) {
            self.disk
                .sync_folder(&folder)
                .map_err(RecordingError::io(&folder))?;
            for state in &mut self.tracks {
                state.is_new = false;
            }
        }
        Ok(())
    }

    /// Ends the recording: seals what can still be sealed, closes the tars and writes the end record. `time`: unix time
    /// in milliseconds. After an error it can be tried again, or the recording resumed.
    pub fn end(&mut self, time: u64, reason: &str) -> Result<Vec<Sealed>, RecordingError> {
        if self.ended {
            return Err(RecordingError::Ended(self.path.clone()));
        }
        if !is_plain(reason, MAX_TEXT) {
            return Err(RecordingError::Unfit("the reason is no plain text".to_owned()));
        }
        release(&*self.disk, &self.path)?;
        self.disk
            .sync_folder(&self.path)
            .map_err(RecordingError::io(&self.path))?;
        // A file that could not be made durable once says the next time that it is, and has lost what was written.
        let sealed = if self.suspect {
            Vec::new()
        } else {
            self.seal().unwrap_or_default()
        };
        let lost = self.cut_unsealed()?;
        let mut facts = self.pending.clone();
        facts.push(Fact::End(EndFact {
            time,
            reason: reason.to_owned(),
            lost,
            tracks: self.close_tars()?,
        }));
        self.manifest.append(&facts, &*self.signer)?;
        self.pending.clear();
        self.ended = true;
        Ok(sealed)
    }

    /// Takes back what was appended and could not be sealed. How many members that is, all in all.
    fn cut_unsealed(&mut self) -> Result<u64, RecordingError> {
        let folder = self.path.join(TRACKS);
        let mut longer = Vec::new();
        for state in &mut self.tracks {
            self.lost += state.appended.0 - state.sealed.0;
            let is_longer = self.failed || state.appended != state.sealed;
            state.appended = state.sealed;
            if is_longer {
                longer.push(state);
            }
        }
        together(longer, |state| state.cut(&*self.disk, &folder.join(&state.tar)))?;
        self.disk
            .sync_folder(&folder)
            .map_err(RecordingError::io(&folder))?;
        self.pending.retain(|fact| !matches!(fact, Fact::Member(_)));
        Ok(self.lost)
    }

    /// Writes the end of the archive behind each tar, as far as there is room: readers do without.
    fn close_tars(&mut self) -> Result<Vec<TrackEnd>, RecordingError> {
        let folder = self.path.join(TRACKS);
        together(&mut self.tracks, |state| state.close(&*self.disk, &folder))?;
        let end = |state: &TrackState| TrackEnd {
            members: state.sealed.0,
            bytes: state.closed.unwrap_or(state.sealed.1),
        };
        Ok(self.tracks.iter().map(end).collect())
    }
}

impl TrackState {
    /// The tar; made, where it is not there.
    fn open(&mut self, disk: &dyn Disk, path: &Path) -> std::io::Result<&mut Box<dyn DiskFile>> {
        let file = match self.file.take() {
            Some(file) => file,
            None if self.appended.1 > 0 => disk.open(path)?,
            None => {
                self.is_new = true;
                disk.create(path)?
            }
        };
        Ok(self.file.insert(file))
    }

    /// Closes the file of a track that is over, as far as nothing of it waits.
    fn drop_file(&mut self) {
        if self.is_over && self.appended == self.sealed {
            self.file = None;
        }
    }

    /// Cuts the tar back to what is sealed; removes it where that is nothing.
    fn cut(&mut self, disk: &dyn Disk, path: &Path) -> Result<(), RecordingError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.truncate(self.sealed.1)
            .and_then(|()| file.sync())
            .map_err(RecordingError::io(path))?;
        if self.sealed.1 == 0 {
            disk.remove(path).map_err(RecordingError::io(path))?;
            self.file = None;
        }
        Ok(())
    }

    /// Writes the end of the archive, or leaves it where there is no room, and closes the tar. Once that is durable there
    /// is nothing more to do.
    fn close(&mut self, disk: &dyn Disk, folder: &Path) -> Result<(), RecordingError> {
        let sealed = self.sealed.1;
        if sealed == 0 || self.closed.is_some() {
            return Ok(());
        }
        let path = folder.join(&self.tar);
        let close = |file: &mut dyn DiskFile| {
            // What an attempt before this one left behind the last member.
            if file.length()? != sealed {
                file.truncate(sealed)?;
            }
            if file
                .append(&[0; END_OF_ARCHIVE])
                .and_then(|()| file.sync())
                .is_ok()
            {
                return Ok(sealed + END_OF_ARCHIVE as u64);
            }
            file.truncate(sealed).and_then(|()| file.sync())?;
            Ok(sealed)
        };
        let file = self.open(disk, &path).map_err(RecordingError::io(&path))?;
        self.closed = Some(close(&mut **file).map_err(RecordingError::io(&path))?);
        // There may be more of them than a process may have open.
        self.file = None;
        Ok(())
    }
}

fn state(tracks: &mut [TrackState], track: TrackId) -> Result<&mut TrackState, RecordingError> {
    let index = usize::try_from(track.0).ok();
    index
        .and_then(|index| tracks.get_mut(index))
        .ok_or_else(|| RecordingError::Unfit(format!("there is no track {track}")))
}

/// Locks the manifest of a recording for as long as it is written.
pub(super) fn lock(manifest: &mut Manifest, path: &Path) -> Result<(), RecordingError> {
    if manifest.file.lock().map_err(RecordingError::io(&manifest.path))? {
        Ok(())
    } else {
        Err(RecordingError::InUse(path.to_owned()))
    }
}

/// Takes room for the end record.
pub(super) fn reserve(disk: &dyn Disk, folder: &Path) -> Result<(), RecordingError> {
    let path = folder.join(RESERVE_FILE);
    let reserve = || {
        let mut file = disk.create(&path)?;
        file.reserve(RESERVE)?;
        file.sync()
    };
    reserve().map_err(RecordingError::io(&path))
}

/// Gives that room back.
pub(super) fn release(disk: &dyn Disk, folder: &Path) -> Result<(), RecordingError> {
    let path = folder.join(RESERVE_FILE);
    if disk.exists(&path).map_err(RecordingError::io(&path))? {
        disk.remove(&path).map_err(RecordingError::io(&path))?;
    }
    Ok(())
}
