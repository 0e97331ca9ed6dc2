//! Helpers of the tests that cross plugins.

pub mod bench;
pub mod bench_lane;
pub mod clinic;
pub mod pipeline;
pub mod process;
pub mod readme;
