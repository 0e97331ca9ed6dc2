//! Replay protection (RFC 9605 §9.3): a sliding window over the counters of one KID.
//!
//! A counter is checked before a frame is opened and recorded only after it authenticated, otherwise anybody could
//! push the window forward. Counters older than the window are refused: they cannot be told from replays.

/// Counters that were seen: `last` and one bit for each of the `size` counters before and including it.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    last: Option<u64>,
    /// Bit `ctr % size`; only counters in `last - size + 1 ..= last` are meaningful.
    bits: Box<[u64]>,
    /// A power of two, because dividing would cost more than all else here; or 0.
    size: u64,
}

impl ReplayWindow {
    /// A window of at least `size` frames (rounded up to a power of two, at least 64); 0 switches the protection off.
    pub fn new(size: u32) -> Self {
        let words = if size == 0 {
            0
        } else {
            size.div_ceil(64).next_power_of_two() as usize
        };
        Self {
            last: None,
            bits: vec![0; words].into(),
            size: words as u64 * 64,
        }
    }

    fn slot(&self, ctr: u64) -> (usize, u64) {
        let bit = ctr & (self.size - 1);
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Whether a frame with this counter may still be opened.
    pub fn is_fresh(&self, ctr: u64) -> bool {
        let Some(last) = self.last else { return true };
        if self.size == 0 || ctr > last {
            return true;
        }
        let (word, mask) = self.slot(ctr);
        last - ctr < self.size && self.bits[word] & mask == 0
    }

    /// Notes the counter of a frame that authenticated.
    pub fn record(&mut self, ctr: u64) {
        if self.size == 0 {
            return;
        }
        let first = self.last.is_none();
        let last = self.last.unwrap_or(ctr);
        if first || ctr > last {
            // Forget what the window moves over.
            if first || ctr - last >= self.size {
                self.bits.fill(0);
            } else {
                for skipped in last + 1..ctr {
                    let (word, mask) = self.slot(skipped);
                    self.bits[word] &= !mask;
                }
            }
            self.last = Some(ctr);
        }
        let (word, mask) = self.slot(ctr);
        self.bits[word] |= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn a_counter_opens_once() {
        let mut window = ReplayWindow::new(64);
        for ctr in [5, 3, 4, 68, u64::MAX] {
            assert!(window.is_fresh(ctr), "{ctr}");
            window.record(ctr);
            assert!(!window.is_fresh(ctr), "{ctr}");
        }
        assert!(!window.is_fresh(u64::MAX - 64), "older than the window");
        assert!(window.is_fresh(u64::MAX - 63));
    }

    #[test]
    fn zero_switches_it_off() {
        let mut window = ReplayWindow::new(0);
        window.record(7);
        assert!(window.is_fresh(7));
    }

    proptest! {
        /// Against a model that remembers everything.
        #[test]
        fn agrees_with_a_model(steps in prop::collection::vec(0u64..600, 1..400), size in 1u32..200) {
            let mut window = ReplayWindow::new(size);
            let size = u64::from(size.max(64).next_power_of_two());
            let mut seen = HashSet::new();
            for ctr in steps {
                let newest = seen.iter().max().copied();
                let expected = !seen.contains(&ctr) && newest.is_none_or(|n: u64| ctr > n || n - ctr < size);
                prop_assert_eq!(window.is_fresh(ctr), expected);
                if expected {
                    window.record(ctr);
                    seen.insert(ctr);
                }
            }
        }
    }
}
