//! What the first bytes of an encoded frame tell: keyframe or not, picture size, channels, and how many bytes stay
//! in clear for SFUs and depayloaders that look for keyframes. Reads only what it must and never past the end.

/// Longest clear prefix of any codec, in bytes.
pub const MAX_CLEAR_PREFIX: usize = 10;

/// What a frame tells about itself. `None`: it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameInfo {
    /// Whether the frame decodes without earlier ones.
    pub keyframe: Option<bool>,
    /// Width and height in pixels.
    pub size: Option<(u16, u16)>,
    /// Audio channels.
    pub channels: Option<u8>,
}

/// A codec whose frames can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// RFC 6386.
    Vp8,
    /// VP9 bitstream specification.
    Vp9,
    /// AV1 temporal units of OBUs with sizes.
    Av1,
    /// Byte-stream access units.
    H264,
    /// Byte-stream access units.
    H265,
    /// RFC 6716.
    Opus,
}

impl Codec {
    /// The codec of a media type; `None`: frames that tell nothing about themselves.
    pub fn of(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "video/x-vp8" => Self::Vp8,
            "video/x-vp9" => Self::Vp9,
            "video/x-av1" => Self::Av1,
            "video/x-h264" => Self::H264,
            "video/x-h265" => Self::H265,
            "audio/x-opus" => Self::Opus,
            _ => return None,
        })
    }

    /// Whether this codec has a clear prefix at all.
    pub fn has_clear_prefix(self) -> bool {
        matches!(self, Self::Vp8 | Self::Opus)
    }

    /// How many bytes of a frame that starts with `first` stay in clear: VP8's frame tag, start code and size on
    /// keyframes (10), its frame tag otherwise (3), Opus' TOC byte (1).
    pub fn clear_len(self, first: u8) -> usize {
        match self {
            Self::Vp8 if first & 1 == 0 => MAX_CLEAR_PREFIX,
            Self::Vp8 => 3,
            Self::Opus => 1,
            _ => 0,
        }
    }

    /// Reads what the frame tells about itself.
    pub fn inspect(self, frame: &[u8]) -> FrameInfo {
        match self {
            Self::Vp8 => vp8(frame),
            Self::Vp9 => vp9(frame).unwrap_or_default(),
            Self::Av1 => FrameInfo {
                keyframe: av1_has_sequence_header(frame),
                ..Default::default()
            },
            Self::H264 => nal_keyframe(frame, |header| match header & 0x1f {
                5 => Some(true),
                1..=4 => Some(false),
                _ => None,
            }),
            Self::H265 => nal_keyframe(frame, |header| match header >> 1 & 0x3f {
                16..=21 => Some(true),
                0..=15 => Some(false),
                _ => None,
            }),
            Self::Opus => FrameInfo {
                channels: frame.first().map(|toc| if toc & 0x04 != 0 { 2 } else { 1 }),
                ..Default::default()
            },
        }
    }
}

/// RFC 6386 §9.1.
fn vp8(frame: &[u8]) -> FrameInfo {
    let Some(&tag) = frame.first() else {
        return FrameInfo::default();
    };
    let keyframe = tag & 1 == 0;
    let size = match frame.get(3..10) {
        Some(&[0x9d, 0x01, 0x2a, w0, w1, h0, h1]) if keyframe => Some((
            u16::from_le_bytes([w0, w1]) & 0x3fff,
            u16::from_le_bytes([h0, h1]) & 0x3fff,
        )),
        _ => None,
    };
    FrameInfo {
        keyframe: Some(keyframe),
        size,
        channels: None,
    }
}

/// Most significant bit first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, n: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..n {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }
}

/// VP9 bitstream specification, uncompressed header (§6.2).
fn vp9(frame: &[u8]) -> Option<FrameInfo> {
    let mut bits = Bits { bytes: frame, at: 0 };
    let delta = FrameInfo {
        keyframe: Some(false),
        ..Default::default()
    };
    if bits.take(2)? != 2 {
        return None;
    }
    let profile = bits.take(1)? | bits.take(1)? << 1;
    if profile == 3 {
        bits.take(1)?;
    }
    let show_existing_frame = bits.take(1)? == 1;
    if show_existing_frame || bits.take(1)? == 1 {
        return Some(delta);
    }
    let (_show_frame, _error_resilient) = (bits.take(1)?, bits.take(1)?);
    if bits.take(24)? != 0x49_83_42 {
        return None;
    }
    if profile >= 2 {
        bits.take(1)?;
    }
    const SRGB: u32 = 7;
    if bits.take(3)? != SRGB {
        bits.take(if profile & 1 == 1 { 4 } else { 1 })?;
    } else if profile & 1 == 1 {
        bits.take(1)?;
    }
    let (width, height) = (bits.take(16)? + 1, bits.take(16)? + 1);
    Some(FrameInfo {
        keyframe: Some(true),
        size: u16::try_from(width).ok().zip(u16::try_from(height).ok()),
        channels: None,
    })
}

/// A temporal unit with a sequence header can be decoded from (AV1 §7.5).
fn av1_has_sequence_header(mut unit: &[u8]) -> Option<bool> {
    const SEQUENCE_HEADER: u8 = 1;
    if unit.is_empty() {
        return None;
    }
    while let Some(&header) = unit.first() {
        if header >> 3 & 0xf == SEQUENCE_HEADER {
            return Some(true);
        }
        let (has_extension, has_size) = (header & 0x04 != 0, header & 0x02 != 0);
        if !has_size {
            break;
        }
        let mut at = 1 + usize::from(has_extension);
        let mut size = 0usize;
        for shift in (0..28).step_by(7) {
            let &byte = unit.get(at)?;
            at += 1;
            size |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        unit = unit.get(at + size..)?;
    }
    Some(false)
}

/// The first slice decides; parameter sets and SEI before it say nothing.
fn nal_keyframe(frame: &[u8], classify: impl Fn(u8) -> Option<bool>) -> FrameInfo {
    let keyframe = frame
        .windows(4)
        .filter(|w| w[..3] == [0, 0, 1])
        .find_map(|w| classify(w[3]));
    FrameInfo {
        keyframe,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VP8_KEY_320X240: &[u8] = &[0x50, 0x42, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 0x00];

    #[test]
    fn vp8_keyframe_tells_its_size() {
        let info = Codec::Vp8.inspect(VP8_KEY_320X240);
        assert_eq!(info.keyframe, Some(true));
        assert_eq!(info.size, Some((320, 240)));
        assert_eq!(Codec::Vp8.inspect(&[0x51, 0, 0]).keyframe, Some(false));
        assert_eq!(Codec::Vp8.inspect(&[]), FrameInfo::default());
    }

    #[test]
    fn vp9_keyframe_tells_its_size() {
        // marker 10, profile 0, key, shown; sync code; 3 bits colour space 1, range 0; 319, 239.
        let mut bits = String::from("10000010");
        for byte in [0x49, 0x83, 0x42] {
            bits += &format!("{byte:08b}");
        }
        bits += &format!("0010{:016b}{:016b}0000", 319, 239);
        let frame: Vec<u8> = (0..bits.len() / 8)
            .map(|i| u8::from_str_radix(&bits[i * 8..i * 8 + 8], 2).unwrap())
            .collect();
        let info = Codec::Vp9.inspect(&frame);
        assert_eq!((info.keyframe, info.size), (Some(true), Some((320, 240))));
        assert_eq!(Codec::Vp9.inspect(&[0b1000_0110]).keyframe, Some(false));
    }

    #[test]
    fn h264_looks_past_parameter_sets() {
        let idr = [0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 1, 0x65, 9];
        assert_eq!(Codec::H264.inspect(&idr).keyframe, Some(true));
        assert_eq!(Codec::H264.inspect(&[0, 0, 1, 0x41, 9]).keyframe, Some(false));
        assert_eq!(Codec::H264.inspect(&[0, 0, 1, 0x67, 9]).keyframe, None);
    }

    #[test]
    fn h265_random_access_points_are_keyframes() {
        assert_eq!(
            Codec::H265
                .inspect(&[0, 0, 1, 0x40, 1, 0, 0, 1, 0x26, 1])
                .keyframe,
            Some(true)
        );
        assert_eq!(Codec::H265.inspect(&[0, 0, 1, 0x02, 1]).keyframe, Some(false));
    }

    #[test]
    fn av1_sequence_header_makes_a_keyframe() {
        assert_eq!(Codec::Av1.inspect(&[0x12, 0, 0x0a, 1, 0]).keyframe, Some(true));
        assert_eq!(Codec::Av1.inspect(&[0x12, 0, 0x32, 1, 0]).keyframe, Some(false));
    }

    #[test]
    fn opus_toc_tells_channels() {
        assert_eq!(Codec::Opus.inspect(&[0xfc, 0]).channels, Some(2));
        assert_eq!(Codec::Opus.inspect(&[0x08]).channels, Some(1));
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(frame in any::<Vec<u8>>()) {
            for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H264, Codec::H265, Codec::Opus] {
                let _ = codec.inspect(&frame);
            }
        }
    }
}
