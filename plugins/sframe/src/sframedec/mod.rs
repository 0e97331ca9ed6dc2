//! `sframedec` opens what `sframeenc` sealed.

use gst::glib;
use gst::prelude::*;

mod frames;
mod holding;
mod imp;
mod opening;
mod out_caps;
mod settings;
mod state;

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
