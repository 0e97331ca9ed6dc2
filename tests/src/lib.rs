//! Helpers of the tests that cross plugins.

pub mod bench;
pub mod bench_lane;
pub mod clinic;
pub mod consult;
pub mod namespaces;
pub mod network;
pub mod pipeline;
pub mod process;
pub mod readme;
