//! What frames tell about themselves: authenticated, but made by whoever holds a key.

use super::Seen;
use gstsframe::codec::{Codec, MAX_CLEAR_PREFIX};

const CODECS: [Codec; 6] = [
    Codec::Vp8,
    Codec::Vp9,
    Codec::Av1,
    Codec::H264,
    Codec::H265,
    Codec::Opus,
];

/// The bytes are a frame, of every codec in turn.
pub fn run(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    for codec in CODECS {
        let info = codec.inspect(bytes);
        if let Some(&first) = bytes.first() {
            assert!(codec.clear_len(first) <= MAX_CLEAR_PREFIX);
        } else {
            assert_eq!(info, codec.inspect(&[]));
        }
        // A size comes with a keyframe only: the caps follow it.
        assert!(info.size.is_none() || info.keyframe == Some(true));
        assert!(info.channels.is_none() || codec == Codec::Opus);
        seen.insert(match (codec, info.keyframe, info.size) {
            (Codec::Vp8, _, Some(_)) => "VP8 size",
            (Codec::Vp9, _, Some(_)) => "VP9 size",
            (Codec::Vp9, Some(false), _) => "VP9 delta",
            (Codec::Av1, Some(true), _) => "AV1 keyframe",
            (Codec::Av1, Some(false), _) => "AV1 delta",
            (Codec::H264, Some(true), _) => "H.264 keyframe",
            (Codec::H264, Some(false), _) => "H.264 delta",
            (Codec::H265, Some(true), _) => "H.265 keyframe",
            (Codec::H265, Some(false), _) => "H.265 delta",
            _ => "nothing",
        });
    }
    seen
}
