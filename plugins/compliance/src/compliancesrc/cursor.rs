//! A track, frame by frame and gap by gap, from any time on. Pure.
//!
//! Members are asked for one at a time, when they are needed, and never twice in a row. What cannot be read is told as an
//! item of its own: nothing is ever left out silently.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::matroska::{Header, blocks};
use crate::recording::{GapInfo, Medium, MemberInfo, TrackInfo};

/// So long nothing may come before that is told as a gap, though nothing is known to be missing: nobody spoke, or the
/// track begins later than others.
const PAUSE: u64 = 1_000_000_000;

/// So much sound before the wanted time a decoder needs to be in tune (Opus: 80 ms, RFC 7845 §4.6).
const AUDIO_PREROLL: u64 = 80_000_000;

/// Where a track's members come from.
pub trait Members {
    /// The plaintext of a member. The error says what is wrong with it.
    fn member(&self, sequence: u64) -> Result<Zeroizing<Vec<u8>>, String>;
}

/// A frame's bytes: a part of its member, which is wiped when the last of its frames is gone.
#[derive(Clone)]
pub struct Bytes {
    member: Arc<Zeroizing<Vec<u8>>>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.member.get(self.range.clone()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.range.len())
    }
}

/// A frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What was recorded.
    pub bytes: Bytes,
    /// When it is shown, nanoseconds on the recording's clock.
    pub time_ns: u64,
    /// How long, where that is known.
    pub duration_ns: Option<u64>,
    /// Can be decoded without others.
    pub sync: bool,
    /// Is decoded but not shown.
    pub invisible: bool,
}

/// What comes next.
#[derive(Debug, Clone)]
pub enum Item {
    /// A frame.
    Frame(Frame),
    /// The recorder did not keep what was there; the part of it that lies ahead, which can be empty.
    Gap(GapInfo, Range<u64>),
    /// There is nothing, and nothing is known to be missing.
    Pause(Range<u64>),
    /// What was there cannot be read.
    Damaged {
        /// Which member.
        member: MemberInfo,
        /// What is wrong.
        why: String,
        /// The part of its time that lies ahead.
        time: Range<u64>,
    },
    /// That was all.
    End,
}

/// A place in a track.
pub struct Cursor<M> {
    members: M,
    track: TrackInfo,
    header: Header,
    /// What was decrypted and did not come yet.
    frames: VecDeque<Frame>,
    /// The member behind them.
    next: usize,
    next_gap: usize,
    /// Up to there everything came.
    position_ns: u64,
    /// The keyframes of members that were looked at: their times.
    keyframes: BTreeMap<usize, Vec<u64>>,
    /// The member that was looked at last, to find one.
    seen: Option<(usize, VecDeque<Frame>)>,
}

impl<M: Members> Cursor<M> {
    /// At the beginning of a track.
    pub fn new(members: M, mut track: TrackInfo, header: Header) -> Self {
        track.gaps.sort_by_key(|gap| gap.from_ns);
        Self {
            members,
            track,
            header,
            frames: VecDeque::new(),
            next: 0,
            next_gap: 0,
            position_ns: 0,
            keyframes: BTreeMap::new(),
            seen: None,
        }
    }

    /// The track.
    pub fn track(&self) -> &TrackInfo {
        &self.track
    }

    /// Goes to where one must begin to have everything from that time on: at a keyframe before it.
    pub fn seek(&mut self, time_ns: u64) {
        let (next, frames) = match self.track.medium {
            Medium::Video => self.begin_at_keyframe(time_ns),
            Medium::Audio => self.since(time_ns.saturating_sub(AUDIO_PREROLL)),
            Medium::Text | Medium::Data => self.since(time_ns),
        };
        self.frames = frames;
        self.next = next;
        self.position_ns = time_ns;
        let ended = |gap: &GapInfo| gap.to_ns <= time_ns;
        self.next_gap = self
            .track
            .gaps
            .iter()
            .position(|gap| !ended(gap))
            .unwrap_or(self.track.gaps.len());
    }

    /// Time of the last keyframe that is not later than this.
    pub fn keyframe_before(&mut self, time_ns: u64) -> Option<u64> {
        self.keyframe(time_ns).map(|(_, keyframe)| keyframe)
    }

    /// The last keyframe that is not later than this: its member and its time. Members that cannot be read have none; they
    /// are told when they are played.
    fn keyframe(&mut self, time_ns: u64) -> Option<(usize, u64)> {
        (0..=self.playing_at(time_ns)?).rev().find_map(|index| {
            // The manifest says so without its being read.
            if self.track.members.get(index)?.keyframes == Some(0) {
                return None;
            }
            if !self.keyframes.contains_key(&index) {
                let frames = self.read(index).ok()?;
                let keyframes = frames.iter().filter(|frame| frame.sync);
                let times = keyframes.map(|frame| frame.time_ns).collect();
                self.keyframes.insert(index, times);
                self.seen = Some((index, frames));
            }
            let times = self.keyframes.get(&index)?;
            let last = times.iter().rfind(|keyframe| **keyframe <= time_ns)?;
            Some((index, *last))
        })
    }

    /// The member behind, and the frames from the last keyframe on that is not later than this time.
    fn begin_at_keyframe(&mut self, time_ns: u64) -> (usize, VecDeque<Frame>) {
        let found = self.keyframe(time_ns);
        let seen = self.seen.take();
        let Some((index, keyframe)) = found else {
            return (0, VecDeque::new());
        };
        let frames = match seen {
            Some((seen, frames)) if seen == index => Ok(frames),
            _ => self.read(index),
        };
        let Ok(mut frames) = frames else {
            return (index, VecDeque::new());
        };
        let begins = |frame: &Frame| frame.sync && frame.time_ns == keyframe;
        let at = frames.iter().rposition(begins).unwrap_or(0);
        frames.drain(..at);
        (index + 1, frames)
    }

    /// The member behind, and the frames from the first on that is not over at this time.
    fn since(&self, time_ns: u64) -> (usize, VecDeque<Frame>) {
        let Some(index) = self
            .track
            .members
            .iter()
            .position(|member| member.to_ns > time_ns)
        else {
            return (self.track.members.len(), VecDeque::new());
        };
        let Ok(mut frames) = self.read(index) else {
            return (index, VecDeque::new());
        };
        let is_ahead = |frame: &Frame| frame.end_ns().max(frame.time_ns + 1) > time_ns;
        let at = frames.iter().position(is_ahead).unwrap_or(frames.len());
        frames.drain(..at);
        (index + 1, frames)
    }

    /// The member that plays at this time, the next one, or the last.
    fn playing_at(&self, time_ns: u64) -> Option<usize> {
        let last = self.track.members.len().checked_sub(1)?;
        let at = self
            .track
            .members
            .iter()
            .position(|member| member.to_ns > time_ns);
        Some(at.unwrap_or(last))
    }

    /// Decrypts a member and finds its frames.
    fn read(&self, index: usize) -> Result<VecDeque<Frame>, String> {
        let bytes = Arc::new(self.members.member(index as u64)?);
        let first = match index {
            0 => {
                Header::read(&bytes)
                    .ok_or("does not begin with a header of Matroska")?
                    .len
            }
            _ => 0,
        };
        let clusters = bytes.get(first..).unwrap_or_default();
        let frames = blocks(clusters, self.header.scale).map_err(|error| error.to_string())?;
        let frames = frames.iter().map(|block| {
            let from = first + (block.frame.as_ptr().addr() - clusters.as_ptr().addr());
            Frame {
                bytes: Bytes {
                    member: bytes.clone(),
                    range: from..from + block.frame.len(),
                },
                time_ns: block.time_ns.saturating_sub(self.header.codec_delay_ns),
                duration_ns: block.duration_ns.or(self.header.frame_ns),
                // Muxers say so of video only.
                sync: block.keyframe || self.track.medium != Medium::Video,
                invisible: block.invisible,
            }
        });
        Ok(frames.collect())
    }

    /// What comes next.
    pub fn next(&mut self) -> Item {
        loop {
            let ahead = self.frames.front().map(|frame| frame.time_ns);
            let at_end = ahead.is_none() && self.next >= self.track.members.len();
            if let Some(gap) = self.due_gap(ahead, at_end) {
                let time =
                    self.lies_ahead(gap.from_ns, ahead.map_or(gap.to_ns, |ahead| gap.to_ns.min(ahead)));
                return Item::Gap(gap, time);
            }
            if let Some(ahead) = ahead.filter(|ahead| *ahead > self.position_ns.saturating_add(PAUSE)) {
                return Item::Pause(self.lies_ahead(self.position_ns, ahead));
            }
            if let Some(frame) = self.frames.pop_front() {
                self.position_ns = self.position_ns.max(frame.end_ns());
                return Item::Frame(frame);
            }
            let Some(member) = self.track.members.get(self.next).copied() else {
                return Item::End;
            };
            let read = self.read(self.next);
            self.next += 1;
            match read {
                Ok(frames) => self.frames = frames,
                Err(why) => {
                    let time = self.lies_ahead(member.from_ns, member.to_ns);
                    return Item::Damaged { member, why, time };
                }
            }
        }
    }

    /// The next gap, where it begins before what comes next.
    fn due_gap(&mut self, ahead: Option<u64>, at_end: bool) -> Option<GapInfo> {
        let gap = self.track.gaps.get(self.next_gap)?;
        let is_due = at_end || ahead.is_some_and(|ahead| gap.from_ns <= ahead);
        is_due.then(|| {
            self.next_gap += 1;
            gap.clone()
        })
    }

    /// The part of a time that did not come yet; goes behind it.
    fn lies_ahead(&mut self, from_ns: u64, to_ns: u64) -> Range<u64> {
        let from = from_ns.max(self.position_ns);
        self.position_ns = self.position_ns.max(to_ns);
        from..to_ns.max(from)
    }
}

impl Frame {
    /// When it is over.
    pub fn end_ns(&self) -> u64 {
        self.time_ns.saturating_add(self.duration_ns.unwrap_or(0))
    }
}

#[cfg(test)]
pub mod fake;
#[cfg(test)]
mod tests;
