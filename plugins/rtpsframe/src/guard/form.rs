//! The form of one payload: where a frame starts and ends, and its SFrame header. Knows one packet only.

use gst_e2ee_common::descriptor::Descriptor;
use gst_e2ee_common::header::Header;

use super::Cause;
use crate::vp8;

/// The shortest tag of any cipher suite (RFC 9605 §4.5).
pub const MIN_TAG: usize = 4;

/// Start code of a VP8 keyframe, after the three bytes of the frame tag (RFC 6386 §9.1).
const VP8_START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

/// What stands in clear before the SFrame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clear {
    /// Nothing: the whole frame is sealed.
    None,
    /// VP8's first bytes: 10 of a keyframe, 3 of any other.
    Vp8,
    /// Opus' first byte.
    Opus,
}

impl Clear {
    fn split(self, frame: &[u8]) -> Result<&[u8], Cause> {
        let len = match (self, frame) {
            (Self::None, _) => 0,
            (Self::Opus, _) => 1,
            (Self::Vp8, [tag, ..]) if tag & 1 != 0 => 3,
            (Self::Vp8, _) => {
                if frame.get(3..6).is_some_and(|code| code != VP8_START_CODE) {
                    return Err(Cause::ClearPrefix);
                }
                10
            }
        };
        frame.get(len..).ok_or(Cause::TooShort)
    }
}

/// How payloads are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The descriptor byte of draft-ietf-avtcore-rtp-sframe-02.
    Descriptor,
    /// The VP8 payload descriptor (RFC 7741 §4.2), then these clear bytes.
    Vp8(Clear),
    /// Each payload is a whole frame with these clear bytes.
    Whole(Clear),
}

/// What a payload that has SFrame's form says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// The header, if a frame starts here.
    pub start: Option<Header>,
    /// Whether the frame ends here.
    pub end: bool,
    /// What all fragments of a frame share beside their timestamp: the kind of ciphertext.
    pub per_packet: bool,
    /// Bytes of ciphertext and tag in this packet.
    pub sealed: usize,
}

impl Form {
    /// Reads a payload.
    pub fn parse(format: Format, payload: &[u8], marker: bool) -> Result<Self, Cause> {
        match format {
            Format::Descriptor => {
                let (&byte, rest) = payload.split_first().ok_or(Cause::TooShort)?;
                let descriptor = Descriptor::parse(byte).map_err(|_| Cause::ReservedBits)?;
                if marker && !descriptor.end {
                    return Err(Cause::EarlyMarker);
                }
                Self::new(descriptor.start.then_some(rest), rest.len(), descriptor.end).map(|form| Self {
                    per_packet: descriptor.per_packet,
                    ..form
                })
            }
            Format::Vp8(clear) => {
                let (start, frame) = split_vp8_descriptor(payload)?;
                let sealed = if start { Some(clear.split(frame)?) } else { None };
                Self::new(sealed, frame.len(), marker)
            }
            Format::Whole(clear) => {
                let sealed = clear.split(payload)?;
                Self::new(Some(sealed), sealed.len(), true)
            }
        }
    }

    /// `start`: the bytes from the SFrame header on, if there is one; `len`: the bytes if there is none.
    fn new(start: Option<&[u8]>, len: usize, end: bool) -> Result<Self, Cause> {
        let (header, sealed) = match start {
            Some(bytes) => {
                let (header, header_len) = Header::parse(bytes).map_err(|_| Cause::Header)?;
                (Some(header), bytes.len() - header_len)
            }
            None => (None, len),
        };
        let least = match (header, end) {
            (Some(_), true) => MIN_TAG,
            (Some(_), false) => 0,
            (None, _) => 1,
        };
        if sealed < least {
            return Err(Cause::TooShort);
        }
        Ok(Self {
            start: header,
            end,
            per_packet: false,
            sealed,
        })
    }
}

/// Whether a frame starts in this packet, and what follows the descriptor. A sealed frame has no partitions, so
/// its packets all belong to partition 0.
fn split_vp8_descriptor(payload: &[u8]) -> Result<(bool, &[u8]), Cause> {
    const EXTENDED: u8 = 0x80;
    const NON_REFERENCE: u8 = 0x20;
    const START: u8 = 0x10;
    let first = *payload.first().ok_or(Cause::TooShort)?;
    let flags = if first & EXTENDED == 0 {
        None
    } else {
        payload.get(1)
    };
    if first & !(EXTENDED | NON_REFERENCE | START) != 0 || flags.is_some_and(|flags| flags & 0x0f != 0) {
        return Err(Cause::ReservedBits);
    }
    let descriptor = vp8::parse(payload).ok_or(Cause::TooShort)?;
    let frame = payload.get(descriptor.len..).ok_or(Cause::TooShort)?;
    Ok((descriptor.frame_start, frame))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst_e2ee_common::header::MAX_LEN;

    fn sealed(header: Header, body: usize) -> Vec<u8> {
        let mut out = [0; MAX_LEN];
        let len = header.write(&mut out);
        [&out[..len], &vec![0x5a; body]].concat()
    }

    const H: Header = Header { kid: 9, ctr: 300 };

    #[test]
    fn descriptor_payloads() {
        let ct = sealed(H, 4);
        let with = |byte: u8, tail: &[u8]| [&[byte], tail].concat();
        let parse = |p: &[u8], marker| Form::parse(Format::Descriptor, p, marker);
        let whole = parse(&with(0xc0, &ct), true).unwrap();
        assert_eq!(
            whole,
            Form {
                start: Some(H),
                end: true,
                per_packet: false,
                sealed: 4
            }
        );
        assert!(parse(&with(0xe0, &ct), false).unwrap().per_packet);
        assert_eq!(parse(&with(0x40, &[1]), true).unwrap().start, None);
        assert_eq!(parse(&with(0x80, &ct[..4]), false).unwrap().sealed, 0);
        for (payload, marker, cause) in [
            (vec![], false, Cause::TooShort),
            (vec![0x00], false, Cause::TooShort),
            (with(0xc1, &ct), true, Cause::ReservedBits),
            (with(0x80, &ct), true, Cause::EarlyMarker),
            (with(0xc0, &ct[..7]), true, Cause::TooShort),
            (with(0x80, &ct[..3]), false, Cause::Header),
            (with(0xc0, &[0x08, 7, 1, 2, 3, 4]), true, Cause::Header),
        ] {
            assert_eq!(parse(&payload, marker), Err(cause), "{payload:02x?}");
        }
    }

    #[test]
    fn vp8_descriptors_of_every_length() {
        let ct = sealed(H, 10);
        let key = [&[0x10, 2, 0, 0x9d, 1, 0x2a, 64, 1, 240, 0][..], &ct].concat();
        let delta = [&[0x11, 2, 0][..], &ct].concat();
        for descriptor in [
            &[0x10][..],
            &[0x30],
            &[0x90, 0x00],
            &[0x90, 0x80, 0x11],
            &[0x90, 0x80, 0x91, 0x11],
            &[0x90, 0xf0, 0x91, 0x11, 7, 0x20],
            &[0x90, 0x10, 0x20],
            &[0x90, 0x40, 0x20],
        ] {
            for (clear, frame) in [(Clear::Vp8, &key), (Clear::Vp8, &delta), (Clear::None, &ct)] {
                let payload = [descriptor, frame].concat();
                let form = Form::parse(Format::Vp8(clear), &payload, true).unwrap();
                assert_eq!((form.start, form.end, form.sealed), (Some(H), true, 10));
                for cut in 0..descriptor.len() {
                    assert!(Form::parse(Format::Vp8(clear), &payload[..cut], true).is_err());
                }
            }
        }
        let mut other = key.clone();
        other[3] = 0;
        for (payload, cause) in [
            ([&[0x10][..], &other].concat(), Cause::ClearPrefix),
            ([&[0x11][..], &key].concat(), Cause::ReservedBits),
            ([&[0x90, 0x01][..], &key].concat(), Cause::ReservedBits),
            ([&[0x10][..], &key[..5]].concat(), Cause::TooShort),
            (vec![0x00], Cause::TooShort),
        ] {
            assert_eq!(Form::parse(Format::Vp8(Clear::Vp8), &payload, true), Err(cause));
        }
        let more = Form::parse(Format::Vp8(Clear::Vp8), &[0x00, 1], false).unwrap();
        assert_eq!((more.start, more.end), (None, false));
    }

    #[test]
    fn opus_leaves_one_byte_clear() {
        let ct = sealed(H, 4);
        let payload = [&[0xfc][..], &ct].concat();
        let form = Form::parse(Format::Whole(Clear::Opus), &payload, false).unwrap();
        assert_eq!((form.start, form.end), (Some(H), true));
        assert_eq!(
            Form::parse(Format::Whole(Clear::Opus), &payload[..8], false),
            Err(Cause::TooShort)
        );
        assert!(Form::parse(Format::Whole(Clear::None), &ct, false).is_ok());
    }
}
