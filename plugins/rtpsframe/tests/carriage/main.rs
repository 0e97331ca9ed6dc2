//! `rtpsframepay` and `rtpsframedepay` as elements: tables of packets, caps, flags and whole ways there and back.

mod codec;
mod common;
mod depay;
mod pay;
mod round_trip;
