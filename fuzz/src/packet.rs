//! RTP packets: the elements have two readers of the RTP header, one over slices and one over pieces, and they must
//! agree on where the payload is. What one of them guards, the other opens.

use super::Seen;
use gstrtpsframe::rtp_packet;
use gstsframe::rtp_packet::Outline;

/// Reads from a slice as from a buffer, and checks that nothing outside of it is asked for.
pub fn outline(packet: &[u8]) -> Option<Outline> {
    Outline::parse(packet.len(), |at, into| {
        into.copy_from_slice(&packet[at..at + into.len()]);
        true
    })
}

/// The bytes are a packet.
pub fn run(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let outlined = outline(bytes);
    let header = rtp_packet::header(bytes);
    if let Some(outline) = &outlined {
        assert!(outline.payload.start >= 12);
        assert!(outline.payload.start <= outline.payload.end && outline.payload.end <= bytes.len());
        assert_eq!(outline.timestamp.to_be_bytes(), bytes[4..8]);
        seen.insert("outlined");
    }
    let Some(header) = header else {
        assert!(outlined.is_none(), "the two readers disagree");
        seen.insert("refused");
        return seen;
    };
    let Some(Outline { payload, .. }) = outlined else {
        panic!("the two readers disagree");
    };
    assert_eq!(header.len(), payload.start);
    if payload.end < bytes.len() {
        seen.insert("padding");
    }
    if header.len() > 12 {
        seen.insert("sources or extension");
    }

    // The same payload with another number and marker: all else stays, and it has no padding.
    let marker = bytes.len().is_multiple_of(2);
    let mut out = vec![0; header.len() + payload.len()];
    assert!(rtp_packet::write(
        &mut out,
        header,
        &bytes[payload.clone()],
        0x1234,
        marker
    ));
    assert_eq!(rtp_packet::header(&out).map(<[u8]>::len), Some(header.len()));
    assert_eq!(out[0], bytes[0] & !0x20);
    assert_eq!(out[1], bytes[1] & 0x7f | u8::from(marker) << 7);
    assert_eq!(out[2..4], [0x12, 0x34]);
    assert_eq!(out[4..header.len()], bytes[4..header.len()]);
    assert_eq!(out[header.len()..], bytes[payload]);
    seen
}
