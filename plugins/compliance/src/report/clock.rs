//! From the recording's own clock to the time of day.
//!
//! The recording counts nanoseconds from a moment shortly before its first frame, and does not count while its recorder
//! is down after a crash. Nothing in it says when that moment was. The audit log does, nearly: a track is opened there
//! right after its first frame came, so that the earliest of those, for each stretch between two crashes, is the best
//! that can be known; it is late by less than a segment. Lengths are not concerned, they are the recording's own.

/// A stretch of the recording's clock without a crash in it.
#[derive(Debug, Clone, Copy)]
struct Section {
    /// Where it begins, on the recording's clock.
    from_ns: u64,
    /// Time of day of the recording's zero, as if this stretch went back to it: milliseconds since 1970.
    zero: i64,
}

/// The recording's clock.
#[derive(Debug, Clone)]
pub struct Clock(Vec<Section>);

/// Frames come up to so much after the clock begins (`compliancesink`'s timeline), in milliseconds.
const LEAD: i64 = 500;

fn ms(ns: u64) -> i64 {
    i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX)
}

impl Clock {
    /// `started`: when the recording began. `resumed`: when its recorder came back, and where its clock stood. `opened`: when
    /// the log says that tracks were opened, and where their first frame is. All in that order of time and place.
    pub fn new(
        started: u64,
        resumed: impl IntoIterator<Item = (u64, u64)>,
        opened: impl IntoIterator<Item = (u64, u64)>,
    ) -> Self {
        let of = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        let begins = std::iter::once((started, 0)).chain(resumed);
        let mut sections: Vec<_> = begins
            .map(|(time, from_ns)| {
                let zero = of(time).saturating_sub(ms(from_ns));
                (Section { from_ns, zero }, None::<i64>)
            })
            .collect();
        for (time, first_ns) in opened {
            let after = sections.partition_point(|(section, _)| section.from_ns <= first_ns);
            if let Some((_, earliest)) = sections.get_mut(after.saturating_sub(1)) {
                let zero = of(time).saturating_sub(ms(first_ns));
                *earliest = Some(earliest.map_or(zero, |known| known.min(zero)));
            }
        }
        let settled = sections.into_iter().map(|(section, earliest)| {
            let least = section.zero.saturating_sub(LEAD);
            Section {
                zero: earliest.map_or(section.zero, |earliest| earliest.max(least)),
                ..section
            }
        });
        Self(settled.collect())
    }

    /// The time of day at which something begins.
    pub fn begin(&self, ns: u64) -> u64 {
        self.of(self.0.partition_point(|section| section.from_ns <= ns), ns)
    }

    /// The time of day at which something ends. At the place of a crash that is before it.
    pub fn end(&self, ns: u64) -> u64 {
        self.of(self.0.partition_point(|section| section.from_ns < ns), ns)
    }

    fn of(&self, after: usize, ns: u64) -> u64 {
        let section = self.0.get(after.saturating_sub(1)).or(self.0.first());
        let zero = section.map_or(0, |section| section.zero);
        u64::try_from(zero.saturating_add(ms(ns))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const START: u64 = 1_700_000_000_000;

    #[test]
    fn without_a_log_it_begins_when_the_recording_does() {
        let clock = Clock::new(START, [], []);
        assert_eq!(clock.begin(3 * S), START + 3000);
    }

    #[test]
    fn the_earliest_track_says_when_it_began() {
        // Nobody sent anything for a minute.
        let clock = Clock::new(START, [], [(START + 60_700, S / 2), (START + 65_000, 5 * S)]);
        assert_eq!(clock.begin(0), START + 60_000);
        // What a clock that was set back says cannot be.
        let clock = Clock::new(START, [], [(START - 60_000, 0)]);
        assert_eq!(clock.begin(0), START - 500);
    }

    #[test]
    fn it_does_not_count_while_the_recorder_is_down() {
        let clock = Clock::new(
            START,
            [(START + 30_000, 10 * S)],
            [(START + 100, 0), (START + 31_000, 10 * S)],
        );
        assert_eq!(clock.begin(2 * S), START + 2100);
        assert_eq!(clock.end(10 * S), START + 10_100);
        assert_eq!(clock.begin(10 * S), START + 31_000);
        assert_eq!(clock.end(12 * S), START + 33_000);
    }

    #[test]
    fn no_number_is_too_large() {
        let clock = Clock::new(u64::MAX, [(u64::MAX, u64::MAX)], [(u64::MAX, u64::MAX), (0, 0)]);
        for ns in [0, u64::MAX] {
            let _ = (clock.begin(ns), clock.end(ns));
        }
    }
}
