//! Break-glass as people use it: `gst-compliance` processes on a station, on three custodians' machines and a requester's,
//! each a folder of its own, with files going between them; real recordings; and the plain age tool at the end.
//!
//! For each misuse: what who tried it is told, and what the audit log has of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod drill;
mod misuse;
mod opening;
mod place;
mod rewrapped;
mod shares;
mod token;
