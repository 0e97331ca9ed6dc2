//! Cuts a stream in front of its Clusters.

use std::mem;

use super::ebml::{self, Head, Read, id};
use super::{DEFAULT_SCALE, MAX_CLUSTER, MAX_HEADER, MatroskaError};

/// A part of a stream. All of them in their order are the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// What stands in front of the first Cluster.
    Header(Vec<u8>),
    /// A Cluster, with whatever follows it that is none.
    Cluster(Cluster),
}

/// A Cluster and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its bytes, from its id on.
    pub bytes: Vec<u8>,
    /// Time of its earliest block in nanoseconds; the time of the Cluster itself where it has no block.
    pub first_ns: u64,
    /// Time of its latest block.
    pub last_ns: u64,
    /// How many blocks it has, each of which is a frame.
    pub blocks: u32,
}

/// Takes a stream in pieces of any size and gives it back cut in front of its Clusters.
///
/// A Cluster of unknown size, as a muxer writes it that cannot seek, ends where the next one begins. [`Self::cut`] ends
/// it before that.
#[derive(Debug)]
pub struct Cutter {
    /// The bytes of the piece under way.
    pending: Vec<u8>,
    /// How many of them are read, always to the end of an element or of its first bytes.
    read: usize,
    /// Where in the stream they begin.
    offset: u64,
    place: Place,
    /// Nanoseconds of a tick.
    scale: u64,
    times: Times,
    failed: Option<MatroskaError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In front of everything.
    Start,
    /// Behind the EBML header.
    Prolog,
    /// In the Segment, in front of the first Cluster.
    Header,
    /// In a Cluster, which ends at this length of what is pending, if that is known.
    Cluster { end: Option<usize> },
    /// Behind a Cluster; here and at the start only is nothing pending.
    Behind,
}

/// What is known of the Cluster under way.
#[derive(Debug, Default)]
struct Times {
    cluster: Option<u64>,
    first: Option<u64>,
    last: Option<u64>,
    blocks: u32,
}

impl Default for Cutter {
    fn default() -> Self {
        Self::new()
    }
}

impl Cutter {
    /// A cutter for a stream from its beginning.
    pub fn new() -> Self {
        Self {
            pending: Vec::new(),
            read: 0,
            offset: 0,
            place: Place::Start,
            scale: DEFAULT_SCALE,
            times: Times::default(),
            failed: None,
        }
    }

    /// Nanoseconds of a tick, as the header says.
    pub fn scale(&self) -> u64 {
        self.scale
    }

    /// Bytes of the piece under way.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes the next bytes of the stream; gives the pieces that they finish. After an error it gives nothing but that
    /// error.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, MatroskaError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut pieces = Vec::new();
        self.pending.extend_from_slice(bytes);
        match self.read_on(&mut pieces) {
            Ok(()) => Ok(pieces),
            Err(error) => {
                self.failed = Some(error);
                self.pending = Vec::new();
                Err(error)
            }
        }
    }

    /// Ends the Cluster under way where the stream is now; gives it, where there is one. What the stream goes on with
    /// must be a Cluster. An error where the stream is in the middle of an element.
    pub fn cut(&mut self) -> Result<Option<Cluster>, MatroskaError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.read != self.pending.len() {
            return Err(MatroskaError::Unfinished { at: self.position() });
        }
        Ok(match self.place {
            // Of a Cluster whose size is known, all must be there.
            Place::Cluster { end: Some(_) } => {
                return Err(MatroskaError::Unfinished { at: self.offset });
            }
            Place::Cluster { end: None } | Place::Behind if !self.pending.is_empty() => {
                self.place = Place::Behind;
                Some(self.take_cluster())
            }
            _ => None,
        })
    }

    fn position(&self) -> u64 {
        self.offset + self.read as u64
    }

    fn read_on(&mut self, pieces: &mut Vec<Piece>) -> Result<(), MatroskaError> {
        loop {
            if let Place::Cluster { end: Some(end) } = self.place
                && self.read == end
            {
                self.place = Place::Behind;
            }
            let at = self.position();
            let head = match ebml::head(&self.pending[self.read..]) {
                Read::Head(head) => head,
                Read::NeedMore => return Ok(()),
                Read::NoElement => return Err(MatroskaError::NoElement { at }),
            };
            let whole = match (self.place, head.id) {
                (Place::Start, id::EBML) => self.skip(head, at, MAX_HEADER)?,
                (Place::Prolog, id::SEGMENT) => {
                    self.read += head.len;
                    true
                }
                (Place::Header, id::CLUSTER) => {
                    let header = self.take();
                    pieces.push(Piece::Header(header));
                    self.begin_cluster(head, at)?
                }
                (Place::Cluster { end: None } | Place::Behind, id::CLUSTER) => {
                    if self.read > 0 {
                        pieces.push(Piece::Cluster(self.take_cluster()));
                    }
                    self.begin_cluster(head, at)?
                }
                (Place::Header, other) if id::BESIDE_CLUSTERS.contains(&other) => {
                    self.skip(head, at, MAX_HEADER)?
                }
                (Place::Behind, other) if self.read > 0 && id::BESIDE_CLUSTERS.contains(&other) => {
                    self.skip(head, at, MAX_CLUSTER)?
                }
                (Place::Cluster { .. }, id::TIMESTAMP | id::SIMPLE_BLOCK | id::BLOCK_GROUP) => {
                    self.skip(head, at, MAX_CLUSTER)?
                }
                (Place::Cluster { .. }, other) if id::BESIDE_BLOCKS.contains(&other) => {
                    self.skip(head, at, MAX_CLUSTER)?
                }
                (Place::Cluster { end: None }, other) if id::BESIDE_CLUSTERS.contains(&other) => {
                    self.place = Place::Behind;
                    self.skip(head, at, MAX_CLUSTER)?
                }
                (_, id) => return Err(MatroskaError::Misplaced { id, at }),
            };
            if !whole {
                return Ok(());
            }
            self.place = match (self.place, head.id) {
                (Place::Start, _) => Place::Prolog,
                (Place::Prolog, _) => Place::Header,
                (place, _) => place,
            };
        }
    }

    /// Goes to the end of the element, where all of it is there; looks at what it holds.
    fn skip(&mut self, head: Head, at: u64, most: usize) -> Result<bool, MatroskaError> {
        let id = head.id;
        let size = head.size.ok_or(MatroskaError::UnknownSize { id, at })?;
        let begin = self.read + head.len;
        let most = match self.place {
            Place::Cluster { end: Some(end) } => end,
            _ => most,
        };
        let end = usize::try_from(size)
            .ok()
            .and_then(|size| begin.checked_add(size));
        let end = end
            .filter(|end| *end <= most)
            .ok_or(MatroskaError::TooLarge { id, at })?;
        let Some(contents) = self.pending.get(begin..end) else {
            return Ok(false);
        };
        match (self.place, id) {
            (Place::Header, id::INFO) => {
                self.scale = scale(contents).ok_or(MatroskaError::BadContents { id, at })?;
            }
            (Place::Cluster { .. }, id::TIMESTAMP | id::SIMPLE_BLOCK | id::BLOCK_GROUP) => self
                .times
                .note(id, contents, self.scale)
                .ok_or(MatroskaError::BadContents { id, at })?,
            _ => {}
        }
        self.read = end;
        Ok(true)
    }

    fn begin_cluster(&mut self, head: Head, at: u64) -> Result<bool, MatroskaError> {
        let id = head.id;
        let end = match head.size {
            None => None,
            Some(size) => {
                let end = usize::try_from(size)
                    .ok()
                    .and_then(|size| size.checked_add(head.len));
                let end = end.filter(|end| *end <= MAX_CLUSTER);
                Some(end.ok_or(MatroskaError::TooLarge { id, at })?)
            }
        };
        self.read = head.len;
        self.place = Place::Cluster { end };
        Ok(true)
    }

    fn take_cluster(&mut self) -> Cluster {
        let times = mem::take(&mut self.times);
        let own = times.cluster.unwrap_or(0).saturating_mul(self.scale);
        Cluster {
            bytes: self.take(),
            first_ns: times.first.unwrap_or(own),
            last_ns: times.last.unwrap_or(own),
            blocks: times.blocks,
        }
    }

    /// What is read, taken out of what is pending.
    fn take(&mut self) -> Vec<u8> {
        let rest = self.pending.split_off(self.read);
        self.offset += self.read as u64;
        self.read = 0;
        mem::replace(&mut self.pending, rest)
    }
}

impl Times {
    /// Notes a time or a block; `None` where it is none.
    fn note(&mut self, id: u32, contents: &[u8], scale: u64) -> Option<()> {
        let block = match id {
            id::TIMESTAMP => {
                let ticks = (contents.len() <= 8).then(|| ebml::number(contents))?;
                ticks.checked_mul(scale)?;
                let is_first = self.cluster.replace(ticks).is_none() && self.blocks == 0;
                return is_first.then_some(());
            }
            id::SIMPLE_BLOCK => contents,
            _ => {
                let mut blocks = ebml::children(contents).filter_map(|child| match child {
                    Some((id::BLOCK, block)) => Some(Some(block)),
                    Some(_) => None,
                    None => Some(None),
                });
                blocks.next().flatten()?
            }
        };
        let (_, relative, _, _) = ebml::block(block)?;
        let time = block_time(self.cluster?, relative, scale)?;
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        self.blocks = self.blocks.checked_add(1)?;
        Some(())
    }
}

/// Time of a block in nanoseconds. What is before the beginning counts as the beginning, as for `matroskademux`.
pub(super) fn block_time(cluster: u64, relative: i16, scale: u64) -> Option<u64> {
    let ticks = cluster.checked_add_signed(relative.into()).unwrap_or(0);
    ticks.checked_mul(scale)
}

/// The scale that an Info element tells.
pub(super) fn scale(info: &[u8]) -> Option<u64> {
    let mut scale = DEFAULT_SCALE;
    for child in ebml::children(info) {
        if let (id::TIMESTAMP_SCALE, contents) = child? {
            scale = ebml::number(contents);
            if contents.len() > 8 || scale == 0 {
                return None;
            }
        }
    }
    Some(scale)
}
