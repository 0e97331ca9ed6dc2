//! SFrame over RTP (draft-ietf-avtcore-rtp-sframe-02): `rtpsframepay`, `rtpsframedepay` and the relay's `sframeguard`.
//! No key and no cryptography is in this library, so that a relay can install it alone.

mod base_stats;
pub mod guard;
pub mod mismatch;
pub mod packetization;
pub mod packetize;
pub mod reassembly;
mod rtp_caps;
pub mod rtp_packet;
mod rtpsframedepay;
mod rtpsframepay;
mod sframeguard;
pub mod vp8;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    rtpsframepay::register(plugin)?;
    rtpsframedepay::register(plugin)?;
    sframeguard::register(plugin)?;
    Ok(())
}

gst::plugin_define!(
    rtpsframe,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    "gst-plugins-e2ee",
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
