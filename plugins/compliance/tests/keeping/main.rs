//! Who holds recordings, and for how long: `gst-compliance rewrap`, `audit who` and `retention`, as people call them, with
//! real recordings, a real log, and the plain age tool.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod figures;
mod interrupted;
mod kills;
mod patient;
mod place;
mod retention;
mod rewrap;
mod who;
