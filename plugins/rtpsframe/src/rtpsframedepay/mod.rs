//! `rtpsframedepay`: RTP packets into sealed frames or sealed RTP payloads.

use gst::glib;
use gst::prelude::*;

mod imp;

glib::wrapper! {
    /// Depayloader for sealed frames.
    pub struct RtpSFrameDepay(ObjectSubclass<imp::RtpSFrameDepay>)
        @extends gst_rtp::RTPBaseDepayload, gst::Element, gst::Object;
}

/// Registers the element.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // No rank: the caps name the inner codec, and nothing that plugs by itself may prefer this to its depayloader.
    gst::Element::register(
        Some(plugin),
        "rtpsframedepay",
        gst::Rank::NONE,
        RtpSFrameDepay::static_type(),
    )
}
