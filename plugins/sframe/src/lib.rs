//! SFrame (RFC 9605) for GStreamer: `sframeenc` seals encoded media, `sframedec` opens it.
//!
//! The modules here know no GStreamer, except `caps` and `glue`; the elements are thin.

pub mod blocks;
pub mod codec;
pub mod counter_file;
pub mod crypto;
pub mod frame;
pub mod hold;
pub mod key_file;
pub mod receiver;
pub mod replay;
pub mod rtp_packet;
pub mod sender;

mod caps;
mod glue;
mod sframedec;
mod sframeenc;
mod wiped;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    sframeenc::register(plugin)?;
    sframedec::register(plugin)
}

gst::plugin_define!(
    sframe,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    "gst-plugins-e2ee",
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
