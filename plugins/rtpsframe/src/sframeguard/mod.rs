//! `sframeguard`: lets pass what has SFrame's form, on machines that hold no key.

use gst::glib;
use gst::prelude::*;

mod imp;

/// What stands before the SFrame header in an RTP payload.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[repr(u32)]
#[enum_type(name = "GstSFrameGuardPacketization")]
pub enum Packetization {
    /// The SFrame descriptor byte.
    #[default]
    #[enum_value(
        name = "SFrame descriptor byte (draft-ietf-avtcore-rtp-sframe-02)",
        nick = "sframe"
    )]
    Sframe,
    /// The codec's own payload descriptor.
    #[enum_value(
        name = "The codec's own payload descriptor, as browsers write it (VP8 and Opus, by encoding-name)",
        nick = "codec"
    )]
    Codec,
}

/// Which of a codec's bytes are in clear before the SFrame header.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[repr(u32)]
#[enum_type(name = "GstSFrameGuardClearPrefix")]
pub enum ClearPrefix {
    /// None.
    #[enum_value(name = "Frames are sealed whole", nick = "none")]
    None,
    /// The codec's first bytes.
    #[default]
    #[enum_value(
        name = "The codec's first bytes are in clear: VP8 10 (keyframe) or 3, Opus 1",
        nick = "codec"
    )]
    Codec,
}

glib::wrapper! {
    /// The element.
    pub struct SFrameGuard(ObjectSubclass<imp::SFrameGuard>) @extends gst::Element, gst::Object;
}

/// Makes the element known to the plugin.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "sframeguard",
        gst::Rank::NONE,
        SFrameGuard::static_type(),
    )
}
