//! `sframeenc` seals encoded frames, or RTP packets, with SFrame.

use gst::glib;
use gst::prelude::*;

mod imp;
mod sealing;
mod settings;

glib::wrapper! {
    pub struct SFrameEnc(ObjectSubclass<imp::SFrameEnc>) @extends gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "sframeenc",
        gst::Rank::NONE,
        SFrameEnc::static_type(),
    )
}
