//! `gst-compliance export`: what leaves, in which form, and what does not. The Bundles are validated against HL7's R4 schema
//! and posted to a FHIR server that is none of ours (`tests/fhir`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod bundle;
mod clinic;
mod log;
mod media;
mod part2;
mod refused;
mod server;
#[path = "../playback/studio.rs"]
#[allow(dead_code, reason = "the player's tests use the rest")]
mod studio;
