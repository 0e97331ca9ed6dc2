//! `sframedec` opens what `sframeenc` sealed.

use gst::glib;
use gst::prelude::*;

mod imp;
mod opening;
mod out_caps;

glib::wrapper! {
    pub struct SFrameDec(ObjectSubclass<imp::SFrameDec>) @extends gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "sframedec",
        gst::Rank::NONE,
        SFrameDec::static_type(),
    )
}
