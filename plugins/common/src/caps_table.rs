//! The one table that relates an RTP encoding name to the caps of its media, in both directions.
//!
//! RTP with SFrame has no encoding name of its own: caps name the inner codec, and what RTP cannot say (size,
//! channels) is read from the frame after it was opened.

/// Media type of sealed frames outside RTP.
pub const SFRAME: &str = "application/x-sframe";
/// Field of [`SFRAME`] caps that holds the media type of what was sealed.
pub const ORIGINAL_MEDIA_TYPE: &str = "original-media-type";
/// Field of [`SFRAME`] caps: [`CLEAR_PREFIX_NONE`] or [`CLEAR_PREFIX_CODEC`].
pub const CLEAR_PREFIX: &str = "clear-prefix";
/// Value of [`CLEAR_PREFIX`]: the whole frame is sealed.
pub const CLEAR_PREFIX_NONE: &str = "none";
/// Value of [`CLEAR_PREFIX`]: the codec's first bytes are in clear, authenticated, before the SFrame header.
pub const CLEAR_PREFIX_CODEC: &str = "codec";
/// Media type of RTP packets.
pub const RTP: &str = "application/x-rtp";
/// Attribute `a=sframe` of SDP, as GStreamer's SDP code maps it into RTP caps.
pub const A_SFRAME: &str = "a-sframe";
/// Field of RTP caps, boolean, default true: payloads still begin with the SFrame descriptor byte.
pub const SFRAME_DESCRIPTOR: &str = "sframe-descriptor";
/// Field of RTP caps that names the media type of frames that have no RTP payload format of their own.
pub const DATA_MEDIA_TYPE: &str = "media-type";
/// Encoding name for frames that have no RTP payload format of their own.
pub const DATA_ENCODING: &str = "X-SFRAME-DATA";

/// One codec: what RTP calls it and what caps call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    /// RTP encoding name, upper case as in GStreamer's caps.
    pub encoding_name: &'static str,
    /// Media of the SDP `m=` line.
    pub media: &'static str,
    /// RTP clock in Hz; 0: the sample rate of the stream.
    pub clock_rate: u32,
    /// Static payload type (RFC 3551 §6), or `None` for a dynamic one.
    pub payload_type: Option<u8>,
    /// Media type in caps.
    pub media_type: &'static str,
    /// Caps fields that follow from the codec alone, as string fields.
    pub fields: &'static [(&'static str, &'static str)],
}

const fn dynamic(
    encoding_name: &'static str,
    media: &'static str,
    clock_rate: u32,
    media_type: &'static str,
    fields: &'static [(&'static str, &'static str)],
) -> Codec {
    Codec {
        encoding_name,
        media,
        clock_rate,
        payload_type: None,
        media_type,
        fields,
    }
}

const AU_BYTE_STREAM: &[(&str, &str)] = &[("stream-format", "byte-stream"), ("alignment", "au")];

/// All codecs that cross RTP under their own name.
pub const CODECS: &[Codec] = &[
    dynamic("VP8", "video", 90_000, "video/x-vp8", &[]),
    dynamic("VP9", "video", 90_000, "video/x-vp9", &[]),
    dynamic(
        "AV1",
        "video",
        90_000,
        "video/x-av1",
        &[("stream-format", "obu-stream"), ("alignment", "tu")],
    ),
    dynamic("H264", "video", 90_000, "video/x-h264", AU_BYTE_STREAM),
    dynamic("H265", "video", 90_000, "video/x-h265", AU_BYTE_STREAM),
    dynamic("OPUS", "audio", 48_000, "audio/x-opus", &[]),
    dynamic(
        "L16",
        "audio",
        0,
        "audio/x-raw",
        &[("format", "S16BE"), ("layout", "interleaved")],
    ),
    Codec {
        payload_type: Some(0),
        ..dynamic("PCMU", "audio", 8_000, "audio/x-mulaw", &[])
    },
    Codec {
        payload_type: Some(8),
        ..dynamic("PCMA", "audio", 8_000, "audio/x-alaw", &[])
    },
    dynamic("T140", "text", 1_000, "text/x-raw", &[("format", "utf8")]),
    dynamic("SMPTE336M", "application", 90_000, "meta/x-klv", &[]),
];

/// Anything else: application data whose media type travels in the caps field [`DATA_MEDIA_TYPE`].
pub const DATA: Codec = dynamic(
    DATA_ENCODING,
    "application",
    90_000,
    "application/octet-stream",
    &[],
);

/// The codec with this RTP encoding name, whatever its case.
pub fn by_encoding_name(name: &str) -> Option<&'static Codec> {
    std::iter::once(&DATA)
        .chain(CODECS)
        .find(|c| c.encoding_name.eq_ignore_ascii_case(name))
}

/// The codec with this media type; [`DATA`] where none has it.
pub fn by_media_type(media_type: &str) -> &'static Codec {
    CODECS
        .iter()
        .find(|c| c.media_type == media_type)
        .unwrap_or(&DATA)
}

/// Whether frames of this media type depend on earlier ones, so that a lost one needs a keyframe.
pub fn is_video(media_type: &str) -> bool {
    media_type.starts_with("video/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_agree() {
        for codec in CODECS {
            assert_eq!(by_media_type(codec.media_type), codec);
            assert_eq!(by_encoding_name(&codec.encoding_name.to_lowercase()), Some(codec));
        }
        assert_eq!(by_media_type("application/json"), &DATA);
        assert_eq!(by_encoding_name("X-UNHEARD-OF"), None);
    }
}
