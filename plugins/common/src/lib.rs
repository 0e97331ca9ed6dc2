//! What the plugins share: the SFrame header, the RTP payload descriptor, the table that relates RTP encoding
//! names to caps, and the key contract between elements and key sources.
//!
//! This is an rlib that every plugin links for itself. It must never register a GType: two plugin libraries
//! that registered the same one would abort the process.

#![warn(missing_docs)]

#[cfg(feature = "age")]
pub mod age_file;
pub mod caps_table;
pub mod cipher_suite;
pub mod descriptor;
pub mod header;
#[cfg(feature = "identity")]
pub mod identity;
pub mod key_source;
pub mod message_caps;
pub mod meta;
pub mod rate_limit;
pub mod room_state;
