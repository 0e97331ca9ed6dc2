//! The blocks of a Cluster, for who reads.

use super::MatroskaError;
use super::cutter::block_time;
use super::ebml::{self, Head, Read, id};

/// A frame as it stands in a Cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// Number of its track.
    pub track: u64,
    /// Its time in nanoseconds, exact to the header's tick.
    pub time_ns: u64,
    /// How long it lasts, where that is written.
    pub duration_ns: Option<u64>,
    /// Is said to be decodable without others. `matroskamux` says so of video only.
    pub keyframe: bool,
    /// Is decoded but not shown (VP8, VP9).
    pub invisible: bool,
    /// The frame.
    pub frame: &'a [u8],
}

/// The blocks of one or several Clusters that follow each other, in their order. `scale` is what the header says
/// ([`super::Cutter::scale`]). Blocks with several frames (lacing) are refused: no muxer here makes them.
pub fn blocks(clusters: &[u8], scale: u64) -> Result<Vec<Block<'_>>, MatroskaError> {
    let mut blocks = Vec::new();
    let mut at = 0;
    let mut cluster = None;
    while at < clusters.len() {
        let offset = at as u64;
        let Head { id, size, len } = match ebml::head(&clusters[at..]) {
            Read::Head(head) => head,
            Read::NeedMore => return Err(MatroskaError::Unfinished { at: offset }),
            Read::NoElement => return Err(MatroskaError::NoElement { at: offset }),
        };
        let bad = MatroskaError::BadContents { id, at: offset };
        at += len;
        if id == id::CLUSTER {
            cluster = None;
            continue;
        }
        let size = size.ok_or(MatroskaError::UnknownSize { id, at: offset })?;
        let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size));
        let contents = end
            .and_then(|end| clusters.get(at..end))
            .ok_or(MatroskaError::Unfinished { at: offset })?;
        at += contents.len();
        match id {
            id::TIMESTAMP if contents.len() <= 8 => cluster = Some(ebml::number(contents)),
            id::SIMPLE_BLOCK => blocks.push(simple_block(contents, cluster, scale).ok_or(bad)?),
            id::BLOCK_GROUP => blocks.push(block_group(contents, cluster, scale).ok_or(bad)?),
            other if id::BESIDE_BLOCKS.contains(&other) || id::BESIDE_CLUSTERS.contains(&other) => {}
            _ => return Err(MatroskaError::Misplaced { id, at: offset }),
        }
    }
    Ok(blocks)
}

const KEYFRAME: u8 = 0x80;
const INVISIBLE: u8 = 0x08;
const LACING: u8 = 0x06;

fn simple_block(contents: &[u8], cluster: Option<u64>, scale: u64) -> Option<Block<'_>> {
    let (track, relative, flags, len) = ebml::block(contents)?;
    (flags & LACING == 0).then_some(Block {
        track,
        time_ns: block_time(cluster?, relative, scale)?,
        duration_ns: None,
        keyframe: flags & KEYFRAME != 0,
        invisible: flags & INVISIBLE != 0,
        frame: &contents[len..],
    })
}

fn block_group(contents: &[u8], cluster: Option<u64>, scale: u64) -> Option<Block<'_>> {
    let mut block = None;
    let mut duration_ns = None;
    let mut keyframe = true;
    for child in ebml::children(contents) {
        match child? {
            (id::BLOCK, contents) if block.is_none() => block = Some(simple_block(contents, cluster, scale)?),
            (id::BLOCK, _) => return None,
            (id::BLOCK_DURATION, ticks) if ticks.len() <= 8 => {
                duration_ns = Some(ebml::number(ticks).checked_mul(scale)?);
            }
            (id::REFERENCE_BLOCK, _) => keyframe = false,
            _ => {}
        }
    }
    Some(Block {
        duration_ns,
        keyframe,
        ..block?
    })
}
