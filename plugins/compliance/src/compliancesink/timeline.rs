//! The recording's clock. Pure.
//!
//! It goes with the pipeline's running time. It begins a little before the first frame, because frames of other pads
//! that were made at the same time may come later; after a restart it goes on where the manifest ended.

/// So much before the first frame the clock begins.
const LEAD: u64 = 500_000_000;

/// Times of a recording out of the running times of a pipeline, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    /// Time at the beginning.
    offset: u64,
    /// Running time at the beginning, which the first frame decides.
    base: Option<u64>,
}

impl Timeline {
    /// A clock that begins, or goes on, at this time.
    pub fn new(offset: u64) -> Self {
        Self { offset, base: None }
    }

    /// The time of a running time; `None`: before the beginning.
    pub fn at(&mut self, running: u64) -> Option<u64> {
        let base = *self.base.get_or_insert(running.saturating_sub(LEAD));
        running.checked_sub(base)?.checked_add(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_pipeline_that_begins_has_its_own_times() {
        let mut timeline = Timeline::new(0);
        assert_eq!(timeline.at(20_000_000), Some(20_000_000));
        assert_eq!(timeline.at(0), Some(0));
        assert_eq!(timeline.at(7 * SECOND), Some(7 * SECOND));
    }

    #[test]
    fn a_late_beginning_leaves_room_for_what_comes_out_of_order() {
        let mut timeline = Timeline::new(0);
        assert_eq!(timeline.at(600 * SECOND), Some(SECOND / 2));
        assert_eq!(timeline.at(600 * SECOND - SECOND / 4), Some(SECOND / 4));
        assert_eq!(timeline.at(599 * SECOND), None);
    }

    #[test]
    fn it_goes_on_behind_what_was() {
        let mut timeline = Timeline::new(60 * SECOND);
        assert_eq!(timeline.at(3 * SECOND), Some(60 * SECOND + SECOND / 2));
        assert_eq!(timeline.at(u64::MAX), None);
    }
}
