//! Is it RTCP? (RFC 3550 §6, RFC 5761 §4, RFC 5506 for single packets.) Types and lengths only: what RTCP says is
//! the relay's business.

/// Length of the common header.
const HEADER: usize = 4;

/// Whether the second byte is an RTCP packet type. With RTP on the same port the payload types 64 to 95 are not
/// used, so that no RTP packet looks like this (RFC 5761 §4).
pub fn is_rtcp_type(packet: &[u8]) -> bool {
    matches!(packet, [first, 192..=223, ..] if first >> 6 == 2)
}

/// Whether the packet is a sequence of RTCP packets that fills it exactly.
pub fn is_well_formed(mut packet: &[u8]) -> bool {
    if packet.is_empty() {
        return false;
    }
    while !packet.is_empty() {
        if !is_rtcp_type(packet) {
            return false;
        }
        let &[first, packet_type, high, low, ..] = packet else {
            return false;
        };
        let words = usize::from(u16::from_be_bytes([high, low]));
        let Some((one, rest)) = packet.split_at_checked(HEADER + 4 * words) else {
            return false;
        };
        let padding = if first & 0x20 == 0 {
            0
        } else {
            // Only the last one may be padded, in whole words.
            match one.last() {
                Some(&n) if rest.is_empty() && n != 0 && n % 4 == 0 => usize::from(n),
                _ => return false,
            }
        };
        if one.len() < minimum_len(packet_type, usize::from(first & 0x1f)) + padding {
            return false;
        }
        packet = rest;
    }
    true
}

/// The least length of a packet of this type whose header announces `count` reports, chunks or sources.
fn minimum_len(packet_type: u8, count: usize) -> usize {
    match packet_type {
        // SR, RR: sender's SSRC (and report), report blocks.
        200 => HEADER + 24 + 24 * count,
        201 => HEADER + 4 + 24 * count,
        // SDES: each chunk has an SSRC and at least one word of items.
        202 => HEADER + 8 * count,
        // BYE: SSRCs, perhaps a reason.
        203 => HEADER + 4 * count,
        // APP, RTPFB, PSFB: two identifiers.
        204..=206 => HEADER + 8,
        // XR: SSRC.
        207 => HEADER + 4,
        _ => HEADER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RR: [u8; 8] = [0x80, 201, 0, 1, 1, 2, 3, 4];
    const PLI: [u8; 12] = [0x81, 206, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn compounds_and_single_packets_pass() {
        let compound = [&RR[..], &PLI].concat();
        let padded = [0xa0, 201, 0, 2, 1, 2, 3, 4, 0, 0, 0, 4];
        let bye = [0x80, 203, 0, 0];
        for packet in [&RR[..], &PLI, &compound, &padded, &bye] {
            assert!(is_rtcp_type(packet) && is_well_formed(packet), "{packet:02x?}");
        }
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let trailing = [&RR[..], &[0]].concat();
        let mut counts = RR;
        counts[0] = 0x81;
        let padded_in_the_middle = [&[0xa0, 201, 0, 2, 1, 2, 3, 4, 0, 0, 0, 4][..], &PLI].concat();
        let version = [&RR[..], &[0x00, 206, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
        let rtp_behind = [&RR[..], &[0x80, 96, 0, 1, 1, 2, 3, 4]].concat();
        for packet in [
            &[][..],
            &RR[..3],
            &RR[..7],
            &trailing,
            &counts,
            &padded_in_the_middle,
            &[0xa0, 201, 0, 1, 1, 2, 3, 4],
            &[0xa0, 201, 0, 2, 1, 2, 3, 4, 0, 0, 0, 0],
            &[0x80, 200, 0, 1, 1, 2, 3, 4],
            &PLI[..8],
            &version,
            &rtp_behind,
        ] {
            assert!(!is_well_formed(packet), "{packet:02x?}");
        }
    }
}
