//! How a KID is made of context, leaf and epoch (RFC 9605 §5.2).

/// Which bits of a KID mean what: `context << (S+E) | leaf << E | epoch mod 2^E`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// E.
    epoch_bits: u32,
    /// S: enough for every leaf of the tree, blank ones included.
    leaf_bits: u32,
}

impl Layout {
    /// `epoch_bits` is E, 1 to 8; `tree_leaves` counts blank leaves too. `None` where they make no KID.
    pub fn new(epoch_bits: u8, tree_leaves: u32) -> Option<Self> {
        if !(1..=8).contains(&epoch_bits) || tree_leaves == 0 {
            return None;
        }
        let leaf_bits = u64::from(tree_leaves).next_power_of_two().trailing_zeros().max(1);
        Some(Self {
            epoch_bits: epoch_bits.into(),
            leaf_bits,
        })
    }

    /// How many epochs can be told from each other.
    pub fn epoch_window(self) -> u64 {
        1 << self.epoch_bits
    }

    /// How many context values there are.
    pub fn contexts(self) -> u64 {
        // At least 1 + 1 and at most 8 + 32 bits are taken.
        1 << (64 - self.leaf_bits - self.epoch_bits)
    }

    /// A context value whose KIDs, and those of all that follow, are higher than this one, even if that is of another
    /// layout. May be one that does not exist any more.
    pub fn context_after(self, kid: u64) -> u64 {
        (kid >> (self.leaf_bits + self.epoch_bits)) + 1
    }

    /// The KID, where context and leaf fit.
    pub fn kid(self, context: u64, leaf: u32, epoch: u64) -> Option<u64> {
        let leaf = u64::from(leaf);
        let fits = context < self.contexts() && leaf < 1 << self.leaf_bits;
        fits.then(|| {
            let context = context << (self.leaf_bits + self.epoch_bits);
            context | (leaf << self.epoch_bits) | (epoch % self.epoch_window())
        })
    }

    /// The leaf that a KID names, where it is one of this epoch.
    pub fn leaf(self, kid: u64, epoch: u64) -> Option<u32> {
        if kid % self.epoch_window() != epoch % self.epoch_window() {
            return None;
        }
        let leaf = (kid >> self.epoch_bits) & ((1 << self.leaf_bits) - 1);
        u32::try_from(leaf).ok()
    }

    /// Whether an old epoch must be gone when this one comes. Its KIDs would read as the new one's after 2^E epochs (RFC
    /// 9605 §5.2); a quarter before that, because others may be ahead: a KID of an epoch that is not here yet must be
    /// unknown, so that its frames wait, and not read as one of long ago, whose key does not open them.
    pub fn displaces(self, epoch: u64, old: Self, old_epoch: u64) -> bool {
        let window = self.epoch_window().min(old.epoch_window());
        epoch.abs_diff(old_epoch) >= window - window / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_9605() {
        let layout = Layout::new(4, 64).unwrap();
        assert_eq!(layout.kid(0, 3, 14), Some(0x3e));
        assert_eq!(layout.leaf(0x3e, 14), Some(3));
        assert_eq!(layout.leaf(0x3e, 30), Some(3), "only E bits tell the epoch");
        assert_eq!(layout.leaf(0x3e, 15), None);
    }

    #[test]
    fn blank_leaves_take_room_too() {
        for (leaves, bits) in [
            (1, 1),
            (2, 1),
            (3, 2),
            (4, 2),
            (5, 3),
            (64, 6),
            (65, 7),
            (u32::MAX, 32),
        ] {
            assert_eq!(Layout::new(4, leaves).unwrap().leaf_bits, bits, "{leaves}");
        }
    }

    #[test]
    fn what_makes_no_kid_is_refused() {
        assert_eq!(Layout::new(0, 4), None);
        assert_eq!(Layout::new(9, 4), None);
        assert_eq!(Layout::new(4, 0), None);
        let layout = Layout::new(8, u32::MAX).unwrap();
        assert_eq!(layout.contexts(), 1 << 24);
        assert!(layout.kid((1 << 24) - 1, u32::MAX, u64::MAX).is_some());
        assert_eq!(layout.kid(1 << 24, 0, 0), None);
        assert_eq!(Layout::new(4, 4).unwrap().kid(0, 4, 0), None);
    }

    proptest! {
        #[test]
        fn different_parts_make_different_kids(
            bits in 1u8..=8, leaves in 1u32.., a in any::<(u64, u32, u64)>(), b in any::<(u64, u32, u64)>()
        ) {
            let layout = Layout::new(bits, leaves).unwrap();
            let part = |(context, leaf, epoch): (u64, u32, u64)| {
                (context % layout.contexts(), leaf % leaves, epoch % layout.epoch_window())
            };
            let (a, b) = (part(a), part(b));
            let kid = |(context, leaf, epoch)| layout.kid(context, leaf, epoch).unwrap();
            prop_assert_eq!(kid(a) == kid(b), a == b);
            prop_assert_eq!(layout.leaf(kid(a), a.2), Some(a.1));
        }

        #[test]
        fn a_kid_is_of_one_of_two_epochs_that_live(
            kid: u64, bits in (1u8..=8, 1u8..=8), leaves in (1u32.., 1u32..), old: u32, after in 1u64..300
        ) {
            let a = Layout::new(bits.0, leaves.0).unwrap();
            let b = Layout::new(bits.1, leaves.1).unwrap();
            let (old, new) = (u64::from(old), u64::from(old) + after);
            if a.leaf(kid, new).is_some() && b.leaf(kid, old).is_some() {
                prop_assert!(a.displaces(new, b, old));
            }
        }
    }
}
