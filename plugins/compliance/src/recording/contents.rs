//! What a manifest says, taken together: the tracks, their members and gaps, and how it ended.

use std::io::{self, BufReader};

use super::disk::{DiskFile, FileReader};
use super::manifest::{
    self, Chain, EndFact, Fact, GapFact, Medium, MemberFact, Prefix, Raw, Root, TrackEnd, TrackFact, TrackId,
};
use super::member::{END_OF_ARCHIVE, space, tar_name};
use crate::digest::Digest;
use crate::signing::PublicKey;

/// Everything that a manifest says.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// In the order of their numbers.
    pub tracks: Vec<TrackInfo>,
    /// The end record, where there is one.
    pub end: Option<EndFact>,
    /// How often the recorder came back.
    pub resumed: u64,
    started: bool,
}

/// A track.
#[derive(Debug, Clone)]
pub struct TrackInfo {
    /// Its number.
    pub id: TrackId,
    /// What it holds.
    pub medium: Medium,
    /// GStreamer caps.
    pub caps: String,
    /// The sender's leaf when it was opened.
    pub leaf: Option<u32>,
    /// The sender, opaque.
    pub sender: String,
    /// In the order of their sequence, which is that of the tar.
    pub members: Vec<MemberInfo>,
    /// What was not recorded.
    pub gaps: Vec<GapInfo>,
}

/// A member of a track.
#[derive(Debug, Clone, Copy)]
pub struct MemberInfo {
    /// Its number in the track, from 0.
    pub sequence: u64,
    /// Time of its first frame, nanoseconds on the recording's clock.
    pub from_ns: u64,
    /// Time at which its last frame ends.
    pub to_ns: u64,
    /// Where its header begins in the tar.
    pub offset: u64,
    /// Length of its age file.
    pub bytes: u64,
    /// Of its age file.
    pub sha256: Digest,
    /// First and last epoch of its frames.
    pub epochs: (u64, u64),
    /// The leaf that sealed them.
    pub leaf: Option<u32>,
    /// How many frames.
    pub frames: u32,
    /// How many of them can be decoded without others, where that is known.
    pub keyframes: Option<u32>,
}

/// A gap in a track.
#[derive(Debug, Clone)]
pub struct GapInfo {
    /// Where it begins, nanoseconds on the recording's clock.
    pub from_ns: u64,
    /// Where it ends.
    pub to_ns: u64,
    /// So many frames are missing, as far as that is known.
    pub frames: u64,
    /// Why.
    pub cause: String,
}

impl TrackInfo {
    /// Name of its tar, below `tracks/`.
    pub fn tar(&self) -> String {
        tar_name(self.id, self.medium)
    }

    /// Length of its tar as far as it is sealed.
    pub fn sealed(&self) -> u64 {
        self.members
            .last()
            .map_or(0, |last| last.offset + space(last.bytes))
    }

    /// The member that plays at this time, or the next one after it.
    pub fn at(&self, time_ns: u64) -> Option<&MemberInfo> {
        self.members.iter().find(|member| member.to_ns > time_ns)
    }
}

/// Why a manifest cannot be read.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Contents {
    /// Reads the lines of a manifest that hold. `known`: how far it went, as the audit log says.
    pub(super) fn read(
        file: &mut dyn DiskFile,
        begin: Chain,
        key: &PublicKey,
        known: Option<Root>,
    ) -> Result<(Self, Prefix), ReadError> {
        let damaged = |why: &str| ReadError::Damaged(why.to_owned());
        let prefix = manifest::prefix(&mut BufReader::new(FileReader::new(file)), begin, key)?
            .ok_or_else(|| damaged("its first line does not hold"))?;
        let lines = prefix.chain.root().lines;
        if let Some(later) = prefix.later {
            let why = format!("line {lines} does not hold, and line {later} behind it does");
            return Err(ReadError::Damaged(why));
        }
        if let Some(known) = known.filter(|known| known.lines > lines) {
            let why = format!("it has {lines} lines, and the audit log knows {}", known.lines);
            return Err(ReadError::Damaged(why));
        }
        let mut contents = Self::default();
        let (mut chain, mut passed) = (begin, 0);
        let mut source = BufReader::new(FileReader::new(file));
        while passed < prefix.bytes {
            let Some(Raw::Line(line)) = manifest::next_raw(&mut source)? else {
                return Err(damaged("it changed while it was read"));
            };
            let (content, ..) =
                manifest::parse(&line).map_err(|_| damaged("it changed while it was read"))?;
            contents.take(content.fact).map_err(ReadError::Damaged)?;
            chain.pass(&line);
            if known.is_some_and(|known| known.lines == chain.root().lines && known != chain.root()) {
                return Err(damaged("it is not the one that the audit log knows"));
            }
            passed += line.len() as u64 + 1;
        }
        if chain != prefix.chain {
            return Err(damaged("it changed while it was read"));
        }
        Ok((contents, prefix))
    }

    /// Takes the next line's fact; says what does not fit.
    fn take(&mut self, fact: Fact) -> Result<(), String> {
        if matches!(fact, Fact::Start(_)) == self.started {
            return Err("it starts not at all, or twice".to_owned());
        }
        self.started = true;
        if self.end.is_some() {
            return Err("it goes on after its end".to_owned());
        }
        match fact {
            Fact::Start(_) => {}
            Fact::Resumed(_) => self.resumed += 1,
            Fact::Track(track) => self.track(track)?,
            Fact::Member(member) => self.member(&member)?,
            Fact::Gap(gap) => self.gap(gap)?,
            Fact::End(end) => {
                self.ends_as_it_says(&end)?;
                self.end = Some(end);
            }
        }
        Ok(())
    }

    fn track(&mut self, fact: TrackFact) -> Result<(), String> {
        if usize::try_from(fact.track.0).ok() != Some(self.tracks.len()) {
            return Err(format!("track {} does not follow the one before", fact.track));
        }
        self.tracks.push(TrackInfo {
            id: fact.track,
            medium: fact.medium,
            caps: fact.caps,
            leaf: fact.leaf,
            sender: fact.sender,
            members: Vec::new(),
            gaps: Vec::new(),
        });
        Ok(())
    }

    fn of(&mut self, track: TrackId) -> Result<&mut TrackInfo, String> {
        let index = usize::try_from(track.0).ok();
        index
            .and_then(|index| self.tracks.get_mut(index))
            .ok_or_else(|| format!("there is no track {track}"))
    }

    fn member(&mut self, fact: &MemberFact) -> Result<(), String> {
        let track = self.of(fact.track)?;
        if fact.sequence != track.members.len() as u64 || fact.offset != track.sealed() {
            let (id, sequence) = (fact.track, fact.sequence);
            return Err(format!(
                "member {sequence} of track {id} does not follow the one before"
            ));
        }
        track.members.push(MemberInfo {
            sequence: fact.sequence,
            from_ns: fact.from,
            to_ns: fact.to,
            offset: fact.offset,
            bytes: fact.bytes,
            sha256: fact.sha256,
            epochs: fact.epochs,
            leaf: fact.leaf,
            frames: fact.frames,
            keyframes: fact.keyframes,
        });
        Ok(())
    }

    fn gap(&mut self, fact: GapFact) -> Result<(), String> {
        let track = self.of(fact.track)?;
        track.gaps.push(GapInfo {
            from_ns: fact.from,
            to_ns: fact.to,
            frames: fact.frames,
            cause: fact.cause,
        });
        Ok(())
    }

    fn ends_as_it_says(&self, end: &EndFact) -> Result<(), String> {
        let fits = |(track, end): (&TrackInfo, &TrackEnd)| {
            let sealed = track.sealed();
            let closed = sealed + END_OF_ARCHIVE as u64;
            end.members == track.members.len() as u64
                && (end.bytes == sealed || sealed > 0 && end.bytes == closed)
        };
        if end.tracks.len() != self.tracks.len() || !self.tracks.iter().zip(&end.tracks).all(fits) {
            return Err("its end does not fit what came before".to_owned());
        }
        Ok(())
    }

    /// Where the recording's clock stands: the end of the last member or gap.
    pub fn last_ns(&self) -> u64 {
        let tracks = self.tracks.iter();
        tracks
            .flat_map(|track| {
                let members = track.members.iter().map(|member| member.to_ns);
                members.chain(track.gaps.iter().map(|gap| gap.to_ns))
            })
            .max()
            .unwrap_or(0)
    }
}
