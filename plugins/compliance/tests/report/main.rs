//! `gst-compliance report`: what a page says of recordings that went well and of others, how it looks in a browser, and
//! what the command leaves in the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod browser;
mod command;
mod making;
mod size;
mod tells;
