//! Going on after a crash: what no line is for is cut off, and the cut is stated in a line of its own.
//!
//! Only the manifest is read, the lengths of the tars, and the last member of each. More than a crash explains (a tar
//! that is shorter than its lines say, a broken line in front of a good one) is no reason to cut: it is damage, and the
//! recording does not go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::x25519::Recipient;

use super::contents::ReadError;
use super::disk::{Disk, DiskFile};
use super::manifest::{self, Chain, CutFact, Fact, MAX_CUTS, ResumedFact, Root};
use super::member::{BLOCK, Expected, Found, inspect, member_name};
use super::together::together;
use super::writer::{Manifest, Recording, TrackState, lock, release, reserve};
use super::{Contents, Facts, MANIFEST_FILE, RECORDING_FILE, RecordingError, TRACKS, TrackInfo};
use crate::age_file::recipient;
use crate::signing::Signer;

/// What a recorder knows when it comes back.
#[derive(Debug, Clone, Copy)]
pub struct Resume {
    /// Unix time in milliseconds.
    pub time: u64,
    /// How far the manifest went at least, as the audit log says.
    pub known: Option<Root>,
}

/// What was found and done.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// What was cut off tars.
    pub cuts: Vec<Cut>,
    /// Bytes that were cut off the manifest.
    pub manifest_bytes: u64,
    /// Where the recording's clock stands: times go on behind it.
    pub last_ns: u64,
    /// How far the manifest goes now.
    pub root: Root,
    /// The tracks that there are. A new muxer needs a new one.
    pub tracks: Vec<TrackInfo>,
}

/// Bytes that were cut off a tar.
pub type Cut = CutFact;

/// A recording that has no end record, as it was left; locked, so that nobody else goes on with it.
pub struct Left {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    signer: Arc<dyn Signer>,
    facts: Facts,
    public: Recipient,
    /// Nothing of it was read yet.
    manifest: Manifest,
}

impl Left {
    /// Locks a recording. One under another log key and one that another process writes are errors of their own.
    pub fn lock(path: &Path, signer: Arc<dyn Signer>, disk: Arc<dyn Disk>) -> Result<Self, RecordingError> {
        let file = read_all(&*disk, &path.join(RECORDING_FILE))?;
        let (facts, _) = Facts::decode(&file)
            .map_err(|why| RecordingError::damaged(path, format!("{RECORDING_FILE} {why}")))?;
        if facts.log_key != signer.public() {
            return Err(RecordingError::AnotherLog {
                path: path.to_owned(),
                pinned: facts.log_key,
                key: signer.public(),
            });
        }
        let public = recipient(&facts.public)
            .map_err(|why| RecordingError::damaged(path, format!("its public key {why}")))?;
        let manifest_path = path.join(MANIFEST_FILE);
        let mut manifest = Manifest {
            file: disk
                .open(&manifest_path)
                .map_err(RecordingError::io(&manifest_path))?,
            path: manifest_path,
            chain: Chain::new(&file),
            length: 0,
        };
        lock(&mut manifest, path)?;
        Ok(Self {
            path: path.to_owned(),
            disk,
            signer,
            facts,
            public,
            manifest,
        })
    }

    /// Goes on with it. That it has ended is an error of its own.
    pub fn resume(self, resume: Resume) -> Result<(Recording, Recovery), RecordingError> {
        let Self {
            path,
            disk,
            signer,
            facts,
            public,
            mut manifest,
        } = self;
        let (contents, prefix) =
            Contents::read(&mut *manifest.file, manifest.chain, &facts.log_key, resume.known).map_err(
                |error| match error {
                    ReadError::Io(error) => RecordingError::io(&manifest.path)(error),
                    ReadError::Damaged(why) => {
                        RecordingError::damaged(&path, format!("the manifest is damaged: {why}"))
                    }
                },
            )?;
        manifest.chain = prefix.chain;
        manifest.length = prefix.bytes;
        let rest = prefix.rest;
        if contents.end.is_some() {
            return Err(RecordingError::Ended(path));
        }
        let mut recording = Recording {
            path,
            disk,
            signer,
            facts,
            public,
            manifest,
            tracks: contents
                .tracks
                .iter()
                .map(|track| {
                    let sealed = (track.members.len() as u64, track.sealed());
                    TrackState::new(track.id, track.medium, sealed)
                })
                .collect(),
            pending: Vec::new(),
            failed: false,
            suspect: false,
            lost: 0,
            ended: false,
        };
        let cuts = recording.find_cuts(&contents)?;
        recording.go_on(resume.time, rest, &cuts)?;
        let recovery = Recovery {
            cuts,
            manifest_bytes: rest,
            last_ns: contents.last_ns(),
            root: recording.root(),
            tracks: contents.tracks,
        };
        Ok((recording, recovery))
    }
}

impl Recording {
    /// What the tars have more than the manifest says.
    fn find_cuts(&self, contents: &Contents) -> Result<Vec<Cut>, RecordingError> {
        let folder = self.path.join(TRACKS);
        let mut names = self.disk.list(&folder).map_err(RecordingError::io(&folder))?;
        names.sort_unstable();
        let mut cuts = Vec::new();
        for track in contents.tracks.iter().filter(|track| !track.members.is_empty()) {
            if names.binary_search(&track.tar()).is_err() {
                return Err(RecordingError::damaged(
                    &self.path,
                    format!("{} is missing", track.tar()),
                ));
            }
        }
        for tar in names {
            let path = folder.join(&tar);
            let mut file = self.disk.open(&path).map_err(RecordingError::io(&path))?;
            let length = file.length().map_err(RecordingError::io(&path))?;
            let track = contents.tracks.iter().find(|track| track.tar() == tar);
            let sealed = track.map_or(0, TrackInfo::sealed);
            if length < sealed {
                let why = format!("{tar} has {length} bytes, and {sealed} were sealed");
                return Err(RecordingError::damaged(&self.path, why));
            }
            if let Some(track) = track {
                self.check_last(track, &mut *file)?;
            }
            if length > sealed || sealed == 0 {
                let bytes = length - sealed;
                cuts.push(Cut { tar, bytes });
            }
        }
        if cuts.len() > MAX_CUTS {
            return Err(RecordingError::damaged(
                &self.path,
                format!("there are more than {MAX_CUTS} cut tars"),
            ));
        }
        Ok(cuts)
    }

    /// A disk that lost what it had acknowledged lost it at the end.
    fn check_last(&self, track: &TrackInfo, file: &mut dyn DiskFile) -> Result<(), RecordingError> {
        let Some(last) = track.members.last() else {
            return Ok(());
        };
        let name = member_name(track.id, track.medium, last.sequence);
        let expected = Expected {
            name: &name,
            time: self.facts.tar_time(),
            offset: last.offset,
            bytes: last.bytes,
            sha256: last.sha256,
        };
        let path = self.path.join(TRACKS).join(track.tar());
        let found = inspect(&expected, &mut vec![0; 64 * BLOCK], |part, offset| {
            file.read_at(part, offset)
        })
        .map_err(RecordingError::io(&path))?;
        if found == Found::Whole {
            Ok(())
        } else {
            Err(RecordingError::damaged(
                &self.path,
                format!("{name} is not what was sealed"),
            ))
        }
    }

    /// States the cuts, then makes them: who dies in between states them again.
    fn go_on(&mut self, time: u64, rest: u64, cuts: &[Cut]) -> Result<(), RecordingError> {
        let manifest = &mut self.manifest;
        if rest > 0 {
            manifest
                .file
                .truncate(manifest.length)
                .and_then(|()| manifest.file.sync())
                .map_err(RecordingError::io(&manifest.path))?;
        }
        // The room may be needed for the line; whatever is left of it is taken anew.
        release(&*self.disk, &self.path)?;
        self.pending.push(Fact::Resumed(ResumedFact {
            time,
            manifest: rest,
            cuts: cuts.to_vec(),
        }));
        self.sync()?;
        let folder = self.path.join(TRACKS);
        together(cuts, |cut| {
            let path = folder.join(&cut.tar);
            let make = || {
                let mut file = self.disk.open(&path)?;
                let length = file.length()?.saturating_sub(cut.bytes);
                if length == 0 {
                    return self.disk.remove(&path);
                }
                file.truncate(length)?;
                file.sync()
            };
            make().map_err(RecordingError::io(&path))
        })?;
        self.disk
            .sync_folder(&folder)
            .map_err(RecordingError::io(&folder))?;
        reserve(&*self.disk, &self.path)?;
        self.disk
            .sync_folder(&self.path)
            .map_err(RecordingError::io(&self.path))
    }
}

/// Has the recording its end record? Reads the manifest's last line only, and believes it.
pub fn is_finished(path: &Path, disk: &dyn Disk) -> Result<bool, RecordingError> {
    let path = path.join(MANIFEST_FILE);
    let read = || {
        let mut file = disk.open(&path)?;
        let most = manifest::MAX_LINE as u64 + 2;
        let from = file.length()?.saturating_sub(most);
        let mut tail = vec![0; manifest::MAX_LINE + 2];
        let read = file.read_at(&mut tail, from)?;
        tail.truncate(read);
        Ok(tail)
    };
    let tail: Vec<u8> = read().map_err(RecordingError::io(&path))?;
    Ok(ends(&tail))
}

/// Is the last of a manifest's lines, which end with the text, the end record? It is believed.
pub(crate) fn ends(tail: &[u8]) -> bool {
    let last = tail
        .strip_suffix(b"\n")
        .and_then(|rest| rest.rsplit(|byte| *byte == b'\n').next());
    let fact = last
        .and_then(|line| manifest::parse(line).ok())
        .map(|(line, ..)| line.fact);
    matches!(fact, Some(Fact::End(_)))
}

fn read_all(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, RecordingError> {
    let read = || {
        let mut file = disk.open(path)?;
        let length = file.length()?.min(super::facts::MAX_FILE);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, done as u64)? {
                0 => break,
                read => done += read,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    };
    read().map_err(RecordingError::io(path))
}
