//! Headers of RTP packets: new ones, and those that a sealed payload came with (T=1). Pure: bytes in, bytes out.

use smallvec::SmallVec;

/// Byte 0, the version.
const VERSION_2: u8 = 0x80;

/// Byte 0, bit P: padding follows the payload.
const PADDING: u8 = 0x20;
/// Byte 1, bit M.
const MARKER: u8 = 0x80;
/// The fixed header (RFC 3550 §5.1).
const FIXED_LEN: usize = 12;

/// The most CSRCs that a header holds (RFC 3550 §5.1).
const MAX_SOURCES: usize = 15;

/// The header of a new packet with this marker and these contributing sources (15 at most, the rest is left out);
/// payload type, number, timestamp and SSRC are zero.
pub fn blank_header(marker: bool, sources: &[u32]) -> SmallVec<[u8; 16]> {
    let sources = &sources[..sources.len().min(MAX_SOURCES)];
    let mut header = SmallVec::from_elem(0, FIXED_LEN);
    header[0] = VERSION_2 | sources.len() as u8;
    header[1] = if marker { MARKER } else { 0 };
    for source in sources {
        header.extend_from_slice(&source.to_be_bytes());
    }
    header
}

/// The header of a packet with its CSRCs and header extension; `None` where the bytes are no RTP packet.
pub fn header(packet: &[u8]) -> Option<&[u8]> {
    let parsed = rtp_types::RtpPacket::parse(packet).ok()?;
    packet.get(..parsed.payload_offset())
}

/// Writes `header` and `payload` into `out`, which has room for exactly these, with this sequence number and
/// marker and without the padding of the original packet. All else of the header stays.
///
/// Returns `false`, and leaves `out` undefined, where the lengths do not fit.
pub fn write(out: &mut [u8], header: &[u8], payload: &[u8], seq: u16, marker: bool) -> bool {
    if header.len() < FIXED_LEN || out.len() != header.len() + payload.len() {
        return false;
    }
    let (head, body) = out.split_at_mut(header.len());
    head.copy_from_slice(header);
    body.copy_from_slice(payload);
    head[0] &= !PADDING;
    head[1] = head[1] & !MARKER | if marker { MARKER } else { 0 };
    head[2..4].copy_from_slice(&seq.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// CSRC, header extension, marker and padding.
    const PACKET: &[u8] = &[
        0xb1, 0xe0, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, // fixed header and CSRC
        0xbe, 0xde, 0, 1, 0x10, 0xaa, 0, 0, // header extension
        b'x', b'y', 0, 0, 3, // payload and padding
    ];

    #[test]
    fn the_header_is_kept_but_for_number_marker_and_padding() {
        let head = header(PACKET).unwrap();
        assert_eq!(head, &PACKET[..24]);
        let mut out = [0; 27];
        assert!(write(&mut out, head, b"abc", 0xfffe, false));
        assert_eq!(out[..4], [0x91, 0x60, 0xff, 0xfe]);
        assert_eq!(out[4..24], PACKET[4..24]);
        assert_eq!(&out[24..], b"abc");
        assert_eq!(rtp_types::RtpPacket::parse(&out).unwrap().payload(), b"abc");
    }

    #[test]
    fn a_new_header_names_its_sources() {
        let sources: Vec<u32> = (1..=20).collect();
        for (marker, count) in [(true, 0), (false, 2), (true, 15), (false, 20)] {
            let bytes = blank_header(marker, &sources[..count]);
            let rtp = rtp_types::RtpPacket::parse(&bytes).unwrap();
            assert_eq!((rtp.version(), rtp.marker_bit()), (2, marker));
            assert_eq!(rtp.csrc().collect::<Vec<_>>(), sources[..count.min(15)]);
            assert!(rtp.payload().is_empty() && !rtp.padding_bit() && !rtp.extension_bit());
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        assert!(!write(&mut [0; 12], &PACKET[..12], b"a", 0, true));
        assert!(!write(&mut [0; 11], &PACKET[..11], b"", 0, true));
    }

    proptest! {
        #[test]
        fn garbage_has_no_header(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(head) = header(&bytes) {
                prop_assert!(head.len() >= 12 && head.len() <= bytes.len());
            }
        }
    }
}
