//! The property `packetization` of the payloader and the depayloader.

use gst::glib;

/// How sealed frames are laid into RTP payloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtpSFramePacketization")]
pub enum Packetization {
    /// A descriptor byte, then ciphertext; any codec.
    #[default]
    #[enum_value(
        name = "SFrame descriptor before the ciphertext (draft-ietf-avtcore-rtp-sframe), any codec",
        nick = "sframe"
    )]
    Sframe,
    /// The codec's own payload format around a sealed frame; VP8 and Opus.
    #[enum_value(
        name = "The codec's own RTP payload format around the sealed frame, for browsers; VP8 and Opus",
        nick = "codec"
    )]
    Codec,
}

/// Codecs whose payload format can be written around bytes that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpaqueFormat {
    /// RFC 7741.
    Vp8,
    /// RFC 7587.
    Opus,
}

impl OpaqueFormat {
    /// The format for this RTP encoding name; `None` where the payload format needs to read the frame.
    pub fn of(encoding_name: &str) -> Option<Self> {
        match encoding_name {
            "VP8" => Some(Self::Vp8),
            "OPUS" => Some(Self::Opus),
            _ => None,
        }
    }
}
