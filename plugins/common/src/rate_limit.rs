//! Lets one event through per interval and counts the rest, so that a message can say how often something
//! happened without flooding the bus. Time is passed in.

use std::time::{Duration, Instant};

/// At most one event per interval.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    last: Option<Instant>,
    count: u64,
}

impl RateLimit {
    /// A limiter that lets the first event through at once.
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: None,
            count: 0,
        }
    }

    /// Notes one event. `Some(n)`: speak now, for `n` events since the last time.
    pub fn note(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < self.interval)
        {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_once_per_interval_and_counts_what_it_kept_back() {
        let mut limit = RateLimit::new(Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!(limit.note(start), Some(1));
        assert_eq!(limit.note(start + Duration::from_millis(10)), None);
        assert_eq!(limit.note(start + Duration::from_millis(999)), None);
        assert_eq!(limit.note(start + Duration::from_secs(1)), Some(3));
    }
}
