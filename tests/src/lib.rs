//! Helpers of the tests that cross plugins.

pub mod bench;
pub mod bench_lane;
pub mod pipeline;
pub mod process;
