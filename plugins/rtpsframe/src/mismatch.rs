//! Notices that the sender lays sealed frames into packets in another way than is expected here (the property
//! `packetization`). Nothing fails then, no frame comes out, and only counters tell.

use gst_e2ee_common::descriptor::Descriptor;
use gst_e2ee_common::header::Header;

use crate::packetization::OpaqueFormat;

/// Packets in a row that are no accident: a second of video, less of audio.
const MANY: u32 = 30;

/// Whether a payload is one that the other packetization writes, and this one (`None`: SFrame's) does not.
pub fn is_of_other(expected: Option<OpaqueFormat>, marker: bool, payload: &[u8]) -> bool {
    let Some((&first, rest)) = payload.split_first() else {
        // A bandwidth probe of nothing but padding.
        return false;
    };
    match expected {
        None => rest.is_empty() || Descriptor::parse(first).is_err(),
        // E is a reserved bit in VP8's descriptor, always zero.
        Some(OpaqueFormat::Vp8) => Descriptor::parse(first).is_ok_and(|d| d.end),
        // Any first byte may be Opus, so all has to fit: Opus itself marks only the first packet after silence.
        Some(OpaqueFormat::Opus) => {
            marker && Descriptor::parse(first).is_ok_and(|d| d.start && d.end) && Header::parse(rest).is_ok()
        }
    }
}

/// Counts such packets, and says once that there are many.
#[derive(Debug, Default)]
pub struct Mismatch {
    run: u32,
    told: bool,
}

impl Mismatch {
    /// Notes one packet: whether it [`is_of_other`], and whether it completed a frame. Gives how many there were in a
    /// row if it is time to tell the user.
    pub fn note(&mut self, of_other: bool, complete: bool) -> Option<u32> {
        if of_other {
            self.run = self.run.saturating_add(1);
        } else if complete {
            self.run = 0;
        }
        if self.told || self.run < MANY {
            return None;
        }
        self.told = true;
        Some(self.run)
    }

    /// New caps: what was seen before says nothing about what follows.
    pub fn restart(&mut self) {
        self.run = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VP8: Option<OpaqueFormat> = Some(OpaqueFormat::Vp8);
    const OPUS: Option<OpaqueFormat> = Some(OpaqueFormat::Opus);

    #[test]
    fn tells_the_two_packetizations_apart() {
        for (expected, marker, payload, of_other) in [
            (None, true, &[0xc0, 0x19, 0x08, 1][..], false),
            (None, false, &[0x80, 0x19, 0x08, 1], false),
            (None, true, &[0xe0, 0x19, 0x08, 1], false),
            (None, true, &[], false),
            (None, true, &[0xc0], true),
            (None, true, &[0x10, 0x19, 0x08, 1], true),
            (None, true, &[0xfc, 0x19, 0x08, 1], true),
            // The middle of a VP8 frame could be the middle of a sealed one.
            (None, false, &[0x00, 1, 2, 3], false),
            (VP8, true, &[0x10, 0x19, 0x08, 1], false),
            (VP8, false, &[0x00, 1, 2, 3], false),
            (VP8, true, &[0x90, 0x80, 0x11, 1], false),
            (VP8, true, &[0x80, 0x80, 0x11, 1], false),
            (VP8, true, &[0xc0, 0x19, 0x08, 1], true),
            (VP8, true, &[0x40, 1, 2, 3], true),
            (VP8, false, &[0xe0, 0x19, 0x08, 1], true),
            (VP8, false, &[0x80, 0x19, 0x08, 1], false),
            (OPUS, true, &[0xc0, 0x19, 0x08, 1], true),
            (OPUS, false, &[0xc0, 0x19, 0x08, 1], false),
            (OPUS, true, &[0x19, 0x08, 1, 2], false),
            (OPUS, true, &[0xfc, 0x19, 0x08, 1], false),
            (OPUS, true, &[0xc0], false),
        ] {
            assert_eq!(
                is_of_other(expected, marker, payload),
                of_other,
                "{expected:?} {marker} {payload:x?}"
            );
        }
    }

    #[test]
    fn tells_once_after_many_in_a_row() {
        let mut mismatch = Mismatch::default();
        for _ in 1..MANY {
            assert_eq!(mismatch.note(true, false), None);
        }
        assert_eq!(mismatch.note(false, false), None, "neither one nor the other");
        assert_eq!(mismatch.note(true, false), Some(MANY));
        for _ in 0..3 * MANY {
            assert_eq!(mismatch.note(true, false), None);
        }
    }

    #[test]
    fn a_frame_in_between_begins_anew() {
        let mut mismatch = Mismatch::default();
        for n in 0..10 * MANY {
            assert_eq!(mismatch.note(n % MANY != 0, n % MANY == 0), None);
        }
        // Formats in which each packet is a frame.
        assert!((0..MANY).any(|_| mismatch.note(true, true).is_some()));
    }

    #[test]
    fn new_caps_begin_anew() {
        let mut mismatch = Mismatch::default();
        for n in 1..10 * MANY {
            if n % MANY == 0 {
                mismatch.restart();
            } else {
                assert_eq!(mismatch.note(true, false), None);
            }
        }
    }
}
