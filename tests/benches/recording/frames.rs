//! Frames of the sizes and times that encoders make; their bytes are nobody's media, which neither a muxer nor encryption
//! looks at. Sound: Opus at 64 kbit/s, 50 frames a second of 160 bytes, more or less by a quarter. Pictures: VP8 at
//! 1.436 Mbit/s, 25 a second, every hundredth a keyframe of four times the size, the others more or less by a half.
//! Together 1.5 Mbit/s. There are smaller pictures as well, and some with a keyframe every five minutes only.

use gstcompliance::recording::Medium;

use super::common::feed::{OPUS, VP8, delta, ms};

const SOUND: usize = 160;
const PICTURE: usize = 6971;
const KEYFRAME: usize = 4 * PICTURE;
const GROUP: u64 = 100;
const SMALL_PICTURE: usize = 320;
const LONG_GROUP: u64 = 5 * 60 * 25;

/// What a track holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sound,
    Pictures,
    /// At 66 kbit/s.
    SmallPictures,
    /// Whose keyframes are minutes apart.
    LongGroups,
}

/// Everything but the frame's bytes.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub ms: u64,
    pub lasts_ms: u64,
    pub is_key: bool,
    pub size: usize,
}

impl Kind {
    pub fn medium(self) -> Medium {
        match self {
            Self::Sound => Medium::Audio,
            _ => Medium::Video,
        }
    }

    pub fn caps(self) -> &'static str {
        match self {
            Self::Sound => OPUS,
            _ => VP8,
        }
    }

    /// Template of the muxer's pad.
    pub fn pad(self) -> &'static str {
        match self {
            Self::Sound => "audio_%u",
            _ => "video_%u",
        }
    }

    pub fn lasts_ms(self) -> u64 {
        match self {
            Self::Sound => 20,
            _ => 40,
        }
    }

    /// The frame with this number, which counts from 0.
    pub fn frame(self, number: u64) -> Frame {
        // Between -1 and 1, without a pattern, and 0 on average.
        let spread = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 23) - 1.0;
        let around = |size: usize, by: f64| (size as f64 * (1.0 + by * spread)).round() as usize;
        let is_key = match self {
            Self::Sound => true,
            Self::Pictures | Self::SmallPictures => number.is_multiple_of(GROUP),
            Self::LongGroups => number.is_multiple_of(LONG_GROUP),
        };
        let size = match self {
            Self::Sound => around(SOUND, 0.25),
            Self::SmallPictures => around(SMALL_PICTURE, 0.5),
            Self::Pictures | Self::LongGroups if is_key => KEYFRAME,
            Self::Pictures | Self::LongGroups => around(PICTURE, 0.5),
        };
        Frame {
            ms: number * self.lasts_ms(),
            lasts_ms: self.lasts_ms(),
            is_key,
            size,
        }
    }

    /// The frames of this time.
    pub fn frames(self, ms: std::ops::Range<u64>) -> impl Iterator<Item = Frame> {
        let number = |ms: u64| ms.div_ceil(self.lasts_ms());
        (number(ms.start)..number(ms.end)).map(move |number| self.frame(number))
    }
}

impl Frame {
    pub fn buffer(self) -> gst::Buffer {
        let mut buffer = gst::Buffer::from_slice(vec![0x5a; self.size]);
        let of = buffer.make_mut();
        of.set_pts(ms(self.ms));
        of.set_duration(ms(self.lasts_ms));
        if self.is_key { buffer } else { delta(buffer) }
    }
}
