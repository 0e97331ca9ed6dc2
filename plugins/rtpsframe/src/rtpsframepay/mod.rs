//! `rtpsframepay`: sealed frames into RTP packets.

use gst::glib;
use gst::prelude::*;

mod header_extensions;
mod imp;

glib::wrapper! {
    /// Payloader for sealed frames.
    pub struct RtpSFramePay(ObjectSubclass<imp::RtpSFramePay>)
        @extends gst_rtp::RTPBasePayload, gst::Element, gst::Object;
}

/// Registers the element.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "rtpsframepay",
        gst::Rank::NONE,
        RtpSFramePay::static_type(),
    )
}
