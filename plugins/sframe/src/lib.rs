//! SFrame (RFC 9605) for GStreamer: `sframeenc` seals encoded media, `sframedec` opens it.

fn plugin_init(_plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    Ok(())
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
