//! An MLS room (RFC 9420) for GStreamer: `mlskeyring` serves the keys that `sframeenc` and `sframedec` ask for.
//!
//! The modules know no GStreamer, except `keyring` (the key source, which is what the other elements see) and
//! `mlskeyring` (the element around it). Bytes, time and answers go in, what to do comes out:
//!
//! ```text
//! mlskeyring ── runner ──┬── room       who is in it, what may change, what the log means   (no threads, no clock)
//!      │                 ├── delivery   carries the room's log: sqlite, app
//!  keyring ── schedule   ├── store      what survives a restart, encrypted
//!                        └── control    the socket that gst-mls talks to
//! ```

pub mod codes;
pub mod content;
pub mod control;
pub mod delivery;
pub mod enrolment;
pub mod identity;
pub mod policy;
pub mod posture;
pub mod record;
pub mod room;
pub mod rules;
pub mod schedule;
pub mod store;
pub mod text;

pub mod keyring;
mod mlskeyring;
mod runner;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    mlskeyring::register(plugin)
}

gst::plugin_define!(
    mls,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    "gst-plugins-e2ee",
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
