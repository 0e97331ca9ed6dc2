//! What a recording holds, by person and medium: collected line by line while it is verified, in bounded memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::spans::Spans;
use super::words::{self, Loss};
use crate::recording::manifest::{Fact, GapFact, MemberFact, TrackFact};
use crate::recording::{Medium, TrackId};

/// Most stretches of a person's medium.
pub const MOST_SPANS: usize = 200;
/// Most gaps that are told one by one: the longest ones.
pub const MOST_GAPS: usize = 200;
/// Most times that a recorder comes back, of which it is told when.
const MOST_RESUMED: usize = 200;
/// Most causes that are told apart in one group.
const MOST_CAUSES: usize = 20;

/// One medium of one sender.
#[derive(Debug, Clone)]
pub struct Group {
    /// The sender as the recording has it; empty: messages of all, or nobody knows.
    pub sender: String,
    /// None: the track's line is damaged.
    pub medium: Option<Medium>,
    /// Its tracks.
    pub tracks: Vec<TrackId>,
    /// When there is something of it.
    pub spans: Spans,
    /// When there is not, and there should.
    pub missing: Spans,
    /// What is there and is not as it was sealed.
    pub damaged: Spans,
    /// How much is missing, by cause.
    pub lost: BTreeMap<String, Lost>,
    /// Bytes of it.
    pub bytes: u64,
}

/// What is missing for one cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Lost {
    /// How many gaps.
    pub gaps: u64,
    /// How many frames, as far as known.
    pub frames: u64,
    /// How long together, in nanoseconds.
    pub ns: u64,
}

/// A gap that is told by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    length: u64,
    /// Where it begins, on the recording's clock.
    pub from_ns: u64,
    /// Where it ends.
    pub to_ns: u64,
    /// Of which group.
    pub group: usize,
    /// How many frames, as far as known.
    pub frames: u64,
    /// Why: the stable word.
    pub cause: String,
}

/// Everything of it.
#[derive(Debug, Clone, Default)]
pub struct Media {
    /// In the order in which they appear.
    pub groups: Vec<Group>,
    of_track: BTreeMap<TrackId, usize>,
    by_name: BTreeMap<(String, Option<u8>), usize>,
    first: BTreeMap<TrackId, u64>,
    longest: BinaryHeap<Reverse<Gap>>,
    /// How many gaps there are.
    pub gaps: u64,
    /// When the recorder came back, and where its clock stood.
    pub resumed: Vec<(u64, u64)>,
    /// Where the clock stands.
    pub last_ns: u64,
}

impl Media {
    /// Takes what the next line says. `good`: what it speaks of is as it was sealed.
    pub fn take(&mut self, fact: &Fact, good: bool) {
        match fact {
            Fact::Track(track) => self.track(track),
            Fact::Member(member) => self.member(member, good),
            Fact::Gap(gap) => self.gap(gap),
            Fact::Resumed(resumed) if self.resumed.len() < MOST_RESUMED => {
                self.resumed.push((resumed.time, self.last_ns));
            }
            // The beginning and the end are told by verification.
            _ => {}
        }
    }

    /// Where each track has its first frame.
    pub fn first_ns(&self, track: TrackId) -> Option<u64> {
        self.first.get(&track).copied()
    }

    /// The longest gaps, in the order of time.
    pub fn longest(&self) -> Vec<&Gap> {
        let mut gaps: Vec<_> = self.longest.iter().map(|gap| &gap.0).collect();
        gaps.sort_by_key(|gap| (gap.from_ns, gap.to_ns, gap.group));
        gaps
    }

    fn track(&mut self, track: &TrackFact) {
        let group = self.group(&track.sender, Some(track.medium));
        self.of_track.insert(track.track, group);
        self.groups[group].tracks.push(track.track);
    }

    fn group(&mut self, sender: &str, medium: Option<Medium>) -> usize {
        let key = (sender.to_owned(), medium.map(|medium| medium as u8));
        let new = self.groups.len();
        let index = *self.by_name.entry(key).or_insert(new);
        if index == new {
            self.groups.push(Group {
                sender: sender.to_owned(),
                medium,
                tracks: Vec::new(),
                spans: Spans::new(MOST_SPANS),
                missing: Spans::new(MOST_SPANS),
                damaged: Spans::new(MOST_SPANS),
                lost: BTreeMap::new(),
                bytes: 0,
            });
        }
        index
    }

    /// The group of a track; where the track's line is damaged, one without a name.
    fn of(&mut self, track: TrackId) -> usize {
        match self.of_track.get(&track) {
            Some(group) => *group,
            None => {
                let group = self.group("", None);
                self.of_track.insert(track, group);
                self.groups[group].tracks.push(track);
                group
            }
        }
    }

    fn begins(&mut self, track: TrackId, at: u64, to: u64) {
        let first = self.first.entry(track).or_insert(at);
        *first = at.min(*first);
        self.last_ns = self.last_ns.max(to);
    }

    fn member(&mut self, member: &MemberFact, good: bool) {
        let group = self.of(member.track);
        self.begins(member.track, member.from, member.to);
        let group = &mut self.groups[group];
        let spans = if good {
            &mut group.spans
        } else {
            &mut group.damaged
        };
        spans.add(member.from, member.to);
        group.bytes = group.bytes.saturating_add(member.bytes);
    }

    fn gap(&mut self, gap: &GapFact) {
        let index = self.of(gap.track);
        self.begins(gap.track, gap.from, gap.to);
        self.gaps += 1;
        let length = gap.to - gap.from;
        let group = &mut self.groups[index];
        let known = words::gap(&gap.cause).0.is_some() || group.lost.contains_key(&gap.cause);
        let cause = match known || group.lost.len() < MOST_CAUSES {
            true => gap.cause.clone(),
            false => "other causes".to_owned(),
        };
        let lost = group.lost.entry(cause).or_default();
        lost.gaps += 1;
        lost.frames = lost.frames.saturating_add(gap.frames);
        lost.ns = lost.ns.saturating_add(length);
        if words::gap(&gap.cause).1 != Loss::Intended {
            group.missing.add(gap.from, gap.to);
        }
        self.longest.push(Reverse(Gap {
            length,
            from_ns: gap.from,
            to_ns: gap.to,
            group: index,
            frames: gap.frames,
            cause: gap.cause.clone(),
        }));
        if self.longest.len() > MOST_GAPS {
            self.longest.pop();
        }
    }
}
