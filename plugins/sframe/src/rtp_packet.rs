//! Where the payload of an RTP packet is (RFC 3550 §5.1). A packet may lie in several memories, so its bytes are
//! asked for piece by piece instead of being joined first.

use std::ops::Range;

const FIXED_HEADER: usize = 12;
const VERSION_2: u8 = 0x80;
const PADDING: u8 = 0x20;
const EXTENSION: u8 = 0x10;
const CSRC_COUNT: u8 = 0x0f;

/// An RTP packet's outline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The payload, without padding; what is before it is the header with CSRCs and extension.
    pub payload: Range<usize>,
    /// RTP timestamp: packets of one frame share it.
    pub timestamp: u32,
}

impl Outline {
    /// Outlines a packet of `len` bytes; `read(at, into)` copies its bytes from `at` on and says whether they were there. `None`: not an RTP packet.
    pub fn parse(len: usize, mut read: impl FnMut(usize, &mut [u8]) -> bool) -> Option<Self> {
        if len < FIXED_HEADER {
            return None;
        }
        let mut fixed = [0; 8];
        if !read(0, &mut fixed) {
            return None;
        }
        let [flags, _, _, _, timestamp @ ..] = fixed;
        if flags & 0xc0 != VERSION_2 {
            return None;
        }
        let mut start = FIXED_HEADER + 4 * usize::from(flags & CSRC_COUNT);
        if flags & EXTENSION != 0 {
            let mut extension = [0; 4];
            if start + 4 > len || !read(start, &mut extension) {
                return None;
            }
            start += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        }
        let mut padding = [0];
        if flags & PADDING != 0 && (!read(len - 1, &mut padding) || padding == [0]) {
            return None;
        }
        let end = len.checked_sub(padding[0].into())?;
        (start <= end).then_some(Self {
            payload: start..end,
            timestamp: u32::from_be_bytes(timestamp),
        })
    }

    /// Clears the padding flag of a header whose padding was not copied.
    pub fn clear_padding_flag(header: &mut [u8]) {
        if let Some(flags) = header.first_mut() {
            *flags &= !PADDING;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outline(packet: &[u8]) -> Option<Outline> {
        Outline::parse(packet.len(), |at, into| {
            into.copy_from_slice(&packet[at..at + into.len()]);
            true
        })
    }

    #[test]
    fn csrc_extension_and_padding_are_not_payload() {
        let mut packet = vec![0x80, 96, 0, 1, 0, 0, 3, 0xe8, 0, 0, 0, 7, 0xaa, 0xbb];
        assert_eq!(
            outline(&packet).unwrap(),
            Outline {
                payload: 12..14,
                timestamp: 1000
            }
        );
        packet[0] = 0xb1;
        packet.splice(12..12, [1, 1, 1, 1, 0xbe, 0xde, 0, 1, 9, 9, 9, 9]);
        packet.extend([0, 0, 3]);
        assert_eq!(outline(&packet).unwrap().payload, 24..26);
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(packet in any::<Vec<u8>>()) {
            if let Some(outline) = outline(&packet) {
                prop_assert!(outline.payload.start <= outline.payload.end);
                prop_assert!(outline.payload.end <= packet.len());
            }
        }
    }
}
