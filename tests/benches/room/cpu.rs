//! CPU time of this thread: what others do on the machine does not count.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

fn now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.try_into().unwrap_or(0),
        now.tv_nsec.try_into().unwrap_or(0),
    )
}

/// What something took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub cpu: Duration,
    pub wall: Duration,
}

pub fn taken<T>(work: impl FnOnce() -> T) -> (Taken, T) {
    let (cpu, wall) = (now(), Instant::now());
    let value = work();
    let taken = Taken {
        cpu: now() - cpu,
        wall: wall.elapsed(),
    };
    (taken, value)
}
