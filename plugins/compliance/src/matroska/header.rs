//! What stands in front of a track's first Cluster: what its frames need to be understood (RFC 9559 §5.1). Pure.

use super::cutter::scale;
use super::ebml::{self, Head, Read, id};
use super::{DEFAULT_SCALE, MAX_HEADER};

const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const CODEC_PRIVATE: u32 = 0x63A2;
const CODEC_DELAY: u32 = 0x56AA;
const DEFAULT_DURATION: u32 = 0x23_E383;

/// A track's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Bytes in front of the first Cluster.
    pub len: usize,
    /// Nanoseconds of a tick.
    pub scale: u64,
    /// What the codec needs before the first frame; empty where it needs nothing.
    pub codec_private: Vec<u8>,
    /// So much later than the frames are shown are their times, in nanoseconds.
    pub codec_delay_ns: u64,
    /// How long a frame lasts that does not say so itself.
    pub frame_ns: Option<u64>,
}

impl Default for Header {
    /// What is known without a header.
    fn default() -> Self {
        Self {
            len: 0,
            scale: DEFAULT_SCALE,
            codec_private: Vec::new(),
            codec_delay_ns: 0,
            frame_ns: None,
        }
    }
}

impl Header {
    /// Reads the header at the beginning of a track's first member; `None` where there is none.
    pub fn read(member: &[u8]) -> Option<Self> {
        let mut header = Self::default();
        while header.len < MAX_HEADER {
            let Read::Head(Head { id, size, len }) = ebml::head(member.get(header.len..)?) else {
                return None;
            };
            if id == id::CLUSTER {
                return Some(header);
            }
            header.len += len;
            if id == id::SEGMENT {
                continue;
            }
            let end = header.len.checked_add(usize::try_from(size?).ok()?)?;
            let contents = member.get(header.len..end)?;
            header.len = end;
            match id {
                id::INFO => header.scale = scale(contents)?,
                TRACKS => header.tracks(contents)?,
                _ => {}
            }
        }
        None
    }

    /// A recording's streams have one track each.
    fn tracks(&mut self, contents: &[u8]) -> Option<()> {
        let entry = ebml::children(contents).find_map(|child| match child {
            Some((TRACK_ENTRY, entry)) => Some(Some(entry)),
            Some(_) => None,
            None => Some(None),
        });
        for child in ebml::children(entry??) {
            match child? {
                (CODEC_PRIVATE, private) => self.codec_private = private.to_vec(),
                (CODEC_DELAY, delay) => self.codec_delay_ns = ebml::number(delay),
                (DEFAULT_DURATION, duration) => {
                    self.frame_ns = Some(ebml::number(duration)).filter(|ns| *ns > 0)
                }
                _ => {}
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_tells_what_its_frames_need() {
        let wanted = Header {
            len: fake::header(500_000, b"private", 6_500_000, 20_000_000).len(),
            scale: 500_000,
            codec_private: b"private".to_vec(),
            codec_delay_ns: 6_500_000,
            frame_ns: Some(20_000_000),
        };
        let mut member = fake::header(500_000, b"private", 6_500_000, 20_000_000);
        member.extend(fake::cluster(0, &[fake::block(0, true, b"frame")]));
        assert_eq!(Header::read(&member), Some(wanted));
    }

    #[test]
    fn a_header_that_is_cut_is_none() {
        let mut member = fake::header(1_000_000, b"private", 0, 1);
        let len = member.len();
        member.extend(fake::cluster(0, &[]));
        for cut in 0..len {
            assert_eq!(Header::read(&member[..cut]), None, "{cut} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..100) {
            let mut member = fake::header(1_000_000, b"private", 0, 1);
            member.extend(fake::cluster(0, &[]));
            let at = at.min(member.len());
            member.splice(at..(at + bytes.len()).min(member.len()), bytes.clone());
            let _ = Header::read(&member);
            let _ = Header::read(&bytes);
        }
    }
}
