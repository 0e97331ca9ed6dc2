//! `compliancesrc`: what was recorded comes back, in time, from any time on; and nothing does before the log has it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod damage;
mod media;
mod player;
mod seeking;
mod states;
mod studio;
