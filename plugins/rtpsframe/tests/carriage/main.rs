//! `rtpsframepay` and `rtpsframedepay` as elements: tables of packets, caps, flags and whole ways there and back.

// Clippy exempts test functions only, and these helpers serve nothing but tests.
#![allow(clippy::unwrap_used)]

mod codec;
mod common;
mod depay;
mod pay;
mod round_trip;
