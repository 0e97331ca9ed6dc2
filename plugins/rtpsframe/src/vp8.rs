//! The VP8 payload descriptor (RFC 7741 §4.2). It stands before the frame's bytes and is never sealed, so a
//! frame can be cut and joined without looking at the frame itself.

/// X: an extension byte follows.
const EXTENDED: u8 = 0x80;
/// S: start of a VP8 partition.
const START: u8 = 0x10;
/// PID: partition index.
const PARTITION: u8 = 0x07;
/// I: a picture id follows.
const PICTURE_ID: u8 = 0x80;
/// L: a TL0PICIDX byte follows.
const TL0_PICTURE_INDEX: u8 = 0x40;
/// T and K: a byte with temporal layer and key index follows if either is set.
const LAYER_OR_KEY: u8 = 0x30;
/// M: the picture id has 15 bits.
const LONG_PICTURE_ID: u8 = 0x80;

/// What the descriptor says about the packet's place in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// S=1 and PID=0: the first packet of a frame.
    pub frame_start: bool,
    /// Length of the descriptor in bytes.
    pub len: usize,
}

/// The one-byte descriptor of a packet of a frame that is not split into partitions.
pub const fn descriptor(frame_start: bool) -> u8 {
    if frame_start { START } else { 0 }
}

/// Reads the descriptor with all its optional bytes; `None` where the payload ends inside it.
pub fn parse(payload: &[u8]) -> Option<Vp8Descriptor> {
    let first = *payload.first()?;
    let mut len = 1;
    if first & EXTENDED != 0 {
        let extension = *payload.get(1)?;
        len = 2;
        if extension & PICTURE_ID != 0 {
            len += if payload.get(len)? & LONG_PICTURE_ID != 0 {
                2
            } else {
                1
            };
        }
        if extension & TL0_PICTURE_INDEX != 0 {
            len += 1;
        }
        if extension & LAYER_OR_KEY != 0 {
            len += 1;
        }
    }
    (len <= payload.len()).then_some(Vp8Descriptor {
        frame_start: first & START != 0 && first & PARTITION == 0,
        len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_optional_byte() {
        for (bytes, frame_start, len) in [
            (&[0x10][..], true, 1),
            (&[0x00], false, 1),
            (&[0x11], false, 1),
            (&[0x30], true, 1), // N: a frame that no other refers to
            (&[0x90, 0x00], true, 2),
            (&[0x90, 0x80, 0x7f], true, 3),
            (&[0x90, 0x80, 0x80, 0x01], true, 4),
            (&[0x90, 0x40, 0x01], true, 3),
            (&[0x90, 0x20, 0x01], true, 3),
            (&[0x90, 0x10, 0x01], true, 3),
            (&[0x90, 0x30, 0x01], true, 3),
            (&[0x80, 0xf0, 0xff, 0xff, 0x01, 0x02], false, 6),
        ] {
            assert_eq!(
                parse(bytes),
                Some(Vp8Descriptor { frame_start, len }),
                "{bytes:02x?}"
            );
            assert_eq!(parse(&bytes[..len - 1]), None, "{bytes:02x?} cut short");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for start in [true, false] {
            let read = parse(&[descriptor(start), 0xff]).unwrap();
            assert_eq!((read.frame_start, read.len), (start, 1));
        }
    }

    proptest! {
        #[test]
        fn never_reaches_past_the_payload(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            if let Some(read) = parse(&bytes) {
                prop_assert!((1..=6).contains(&read.len) && read.len <= bytes.len());
            }
        }
    }
}
