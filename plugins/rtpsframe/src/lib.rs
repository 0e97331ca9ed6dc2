//! SFrame over RTP (draft-ietf-avtcore-rtp-sframe-02): `rtpsframepay`, `rtpsframedepay` and the relay's `sframeguard`.
//! No key and no cryptography is in this library, so that a relay can install it alone.

pub mod guard;
mod sframeguard;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
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
