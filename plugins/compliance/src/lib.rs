//! The compliance recorder: `compliancesink` records a room as a certified, disclosed member of it; `compliancesrc` opens a
//! recording through its audit log. The program `gst-compliance` is the same for a shell.
//!
//! The modules know no GStreamer, except the two elements and `export::media`:
//!
//! ```text
//! compliancesink ── gate        may this frame be kept? (room, consent)       compliancesrc ── access   log first, then keys
//!       │           consent     what a FHIR Consent permits                         │     └─ breakglass   M of N custodians
//!       ├────────── matroska    members begin at Clusters   ────────────────────────┤
//!       ├────────── recording   what lies on disk: signed, sealed, whole or not ────┤
//!       │              └─ bundle   keys, made elsewhere                             │
//!       └────────── audit       what happened, append-only, provable  ──────────────┘
//! ```
//!
//! `export` stands on all of these: a recording that leaves for the medical record.
//! `rewrap` wraps keys of recordings to others; `retention` holds and deletes recordings. Both go by what the audit log says.
//!
//! The recording machine never has a private key of a recording: `bundle` has public halves only.

pub mod access;
pub mod attestation;
pub mod audit;
pub mod breakglass;
pub mod bundle;
pub mod compliancesink;
pub mod consent;
pub mod digest;
pub mod dumpable;
pub mod export;
pub mod gate;
pub mod hex_form;
pub mod ids;
pub mod matroska;
pub mod recording;
pub mod report;
pub mod retention;
pub mod rewrap;
pub mod signing;
pub mod store;

mod compliancesrc;
mod properties;

pub use gst_e2ee_common::age_file;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    compliancesink::register(plugin)?;
    compliancesrc::register(plugin)
}

gst::plugin_define!(
    compliance,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    "gst-plugins-e2ee",
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
