//! `sframeguard`: lets pass what has SFrame's form, on machines that hold no key.

use gst::glib;
use gst::prelude::*;

mod imp;

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
