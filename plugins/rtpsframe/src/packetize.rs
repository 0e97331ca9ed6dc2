//! Cuts one frame into the payloads of RTP packets. Pure: lengths in, ranges out.

use std::ops::Range;

use gst_e2ee_common::descriptor::Descriptor;

use crate::vp8;

/// The part of a frame that goes into one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The first of the frame.
    pub start: bool,
    /// The last of the frame.
    pub end: bool,
    /// The bytes of the frame.
    pub range: Range<usize>,
}

impl Fragment {
    /// The SFrame payload descriptor of a fragment of a whole frame (T=0).
    pub fn sframe_descriptor(&self) -> u8 {
        let descriptor = Descriptor {
            start: self.start,
            end: self.end,
            per_packet: false,
        };
        descriptor.to_byte()
    }

    /// The VP8 payload descriptor (RFC 7741 §4.2) without extension bytes.
    pub fn vp8_descriptor(&self) -> u8 {
        vp8::descriptor(self.start)
    }
}

/// Cuts `len` bytes into pieces of at most `max` bytes; nothing comes out of an empty frame, which cannot be a
/// sealed one.
pub fn fragments(len: usize, max: usize) -> impl ExactSizeIterator<Item = Fragment> {
    // An MTU that header extensions fill up still has to end: one byte a packet is slow, none would never stop.
    let max = max.max(1);
    (0..len.div_ceil(max)).map(move |i| {
        let start = i * max;
        let end = (start + max).min(len);
        Fragment {
            start: start == 0,
            end: end == len,
            range: start..end,
        }
    })
}

/// Bytes that RTP header extensions take at most (RFC 8285 §4.1): the 4-byte header, then each element with its
/// one- or two-byte header, padded to 32-bit words.
///
/// Each element is given by its id, its longest value and whether it can be written with a one-byte header.
/// One element that cannot makes all of them two-byte ones, as GStreamer's payloaders do it.
pub fn header_extensions_len(elements: &[(u32, usize, bool)]) -> usize {
    if elements.is_empty() {
        return 0;
    }
    let one_byte = elements
        .iter()
        .all(|&(id, max, one_byte)| one_byte && id <= 14 && max <= 16);
    let unit = if one_byte { 1 } else { 2 };
    let data: usize = elements.iter().map(|&(_, max, _)| unit + max).sum();
    4 + data.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(len: usize, max: usize) -> Vec<(u8, Range<usize>)> {
        fragments(len, max)
            .map(|f| (f.sframe_descriptor(), f.range))
            .collect()
    }

    #[test]
    fn a_frame_that_fits_is_one_packet() {
        assert_eq!(cut(1, 10), [(0xc0, 0..1)]);
        assert_eq!(cut(10, 10), [(0xc0, 0..10)]);
    }

    #[test]
    fn one_byte_more_is_a_second_packet() {
        assert_eq!(cut(11, 10), [(0x80, 0..10), (0x40, 10..11)]);
        assert_eq!(cut(25, 10), [(0x80, 0..10), (0x00, 10..20), (0x40, 20..25)]);
    }

    #[test]
    fn an_empty_frame_gives_no_packet_and_no_room_still_ends() {
        assert_eq!(cut(0, 10), []);
        assert_eq!(cut(2, 0), [(0x80, 0..1), (0x40, 1..2)]);
    }

    #[test]
    fn header_extensions_are_padded_and_fall_back_to_two_byte_headers() {
        assert_eq!(header_extensions_len(&[]), 0);
        assert_eq!(header_extensions_len(&[(1, 1, true)]), 8);
        assert_eq!(header_extensions_len(&[(1, 3, true)]), 8);
        assert_eq!(header_extensions_len(&[(1, 3, true), (2, 2, true)]), 12);
        assert_eq!(header_extensions_len(&[(1, 3, true), (15, 2, true)]), 16);
        assert_eq!(header_extensions_len(&[(1, 17, true)]), 24);
    }

    proptest! {
        #[test]
        fn pieces_follow_each_other_and_keep_the_limit(len in 1usize..100_000, max in 1usize..2_000) {
            let pieces: Vec<_> = fragments(len, max).collect();
            let mut at = 0;
            for (i, piece) in pieces.iter().enumerate() {
                prop_assert_eq!(piece.range.start, at);
                prop_assert!(!piece.range.is_empty() && piece.range.len() <= max);
                prop_assert_eq!(piece.start, i == 0);
                prop_assert_eq!(piece.end, i == pieces.len() - 1);
                at = piece.range.end;
            }
            prop_assert_eq!(at, len);
        }
    }
}
