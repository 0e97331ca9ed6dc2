//! Where a stream is in its sequence numbers, across their wrap, and which of the last ones have arrived.

/// How far back a packet may lie and still count as late.
pub const LATE_WINDOW: u16 = 512;
/// A longer gap is not a loss but another place (RFC 3550 appendix A.1 uses the same limit).
const MAX_GAP: u16 = 3000;

const WORDS: usize = LATE_WINDOW as usize / 64;

/// How a packet arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The first one.
    First,
    /// Newer than all before; so many are missing in between.
    Next {
        /// Packets between the newest and this one.
        missing: u16,
    },
    /// Older than the newest, not seen before.
    Late,
    /// Seen before.
    Duplicate,
    /// Far away from where the stream was.
    Jump,
}

/// The newest sequence number and a bit for each of those before it.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    newest: Option<u16>,
    /// Bit n: the packet n before the newest has arrived.
    seen: [u64; WORDS],
}

impl Sequence {
    /// How `seq` arrives; changes nothing.
    pub fn classify(&self, seq: u16) -> Arrival {
        let Some(newest) = self.newest else {
            return Arrival::First;
        };
        let ahead = seq.wrapping_sub(newest);
        let behind = newest.wrapping_sub(seq);
        if behind < LATE_WINDOW {
            if self.is_seen(behind) {
                Arrival::Duplicate
            } else {
                Arrival::Late
            }
        } else if ahead <= MAX_GAP {
            Arrival::Next { missing: ahead - 1 }
        } else {
            Arrival::Jump
        }
    }

    /// Notes that `seq` has arrived. Whatever is newer, or far away, becomes the newest.
    pub fn note(&mut self, seq: u16) {
        match self.classify(seq) {
            Arrival::First | Arrival::Jump => {
                self.seen = [0; WORDS];
                self.newest = Some(seq);
                self.set(0);
            }
            Arrival::Next { missing } => {
                self.shift(usize::from(missing) + 1);
                self.newest = Some(seq);
                self.set(0);
            }
            Arrival::Late => {
                if let Some(newest) = self.newest {
                    self.set(newest.wrapping_sub(seq));
                }
            }
            Arrival::Duplicate => {}
        }
    }

    /// The next packet may have any number.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn is_seen(&self, behind: u16) -> bool {
        self.seen
            .get(usize::from(behind / 64))
            .is_some_and(|word| word >> (behind % 64) & 1 != 0)
    }

    fn set(&mut self, behind: u16) {
        if let Some(word) = self.seen.get_mut(usize::from(behind / 64)) {
            *word |= 1 << (behind % 64);
        }
    }

    fn shift(&mut self, by: usize) {
        let (words, bits) = (by / 64, by % 64);
        for i in (0..WORDS).rev() {
            let word = |n: Option<usize>| n.and_then(|n| self.seen.get(n)).copied().unwrap_or(0);
            let high = word(i.checked_sub(words)) << bits;
            let low = match bits {
                0 => 0,
                _ => word(i.checked_sub(words + 1)) >> (64 - bits),
            };
            self.seen[i] = high | low;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn table_of_arrivals_across_the_wrap() {
        let mut s = Sequence::default();
        for (seq, arrival) in [
            (65533, Arrival::First),
            (65534, Arrival::Next { missing: 0 }),
            (1, Arrival::Next { missing: 2 }),
            (65535, Arrival::Late),
            (65535, Arrival::Duplicate),
            (0, Arrival::Late),
            (1, Arrival::Duplicate),
            (65533, Arrival::Duplicate),
            (65532, Arrival::Late),
            (3001, Arrival::Next { missing: 2999 }),
            (3001 - 511, Arrival::Late),
            (3001 - 512, Arrival::Jump),
            (30000, Arrival::Jump),
        ] {
            assert_eq!(s.classify(seq), arrival, "{seq}");
            if arrival != Arrival::Jump {
                s.note(seq);
            }
        }
        s.note(30000);
        assert_eq!(s.classify(3001), Arrival::Jump);
        assert_eq!(s.classify(30001), Arrival::Next { missing: 0 });
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_extended_numbers(
            start in any::<u16>(),
            steps in proptest::collection::vec(-600i64..700, 1..200),
        ) {
            let mut s = Sequence::default();
            let mut newest = i64::from(start) + 65536;
            let mut seen = BTreeSet::from([newest]);
            s.note(start);
            for step in steps {
                let ext = newest + step;
                let expected = match newest - ext {
                    b if b < 0 => Arrival::Next { missing: (-b - 1) as u16 },
                    b if b >= i64::from(LATE_WINDOW) => Arrival::Jump,
                    _ if seen.contains(&ext) => Arrival::Duplicate,
                    _ => Arrival::Late,
                };
                let seq = ext.rem_euclid(65536) as u16;
                prop_assert_eq!(s.classify(seq), expected);
                if expected != Arrival::Jump {
                    s.note(seq);
                    seen.insert(ext);
                    newest = newest.max(ext);
                }
            }
        }
    }
}
