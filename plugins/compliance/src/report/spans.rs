//! Stretches of time, as many as a page can show: what touches is one, and where there are too many, those that lie
//! closest are joined. That is told.

use serde::Serialize;

/// Members of a stream follow each other with less than this between them.
const TOUCHING: u64 = 250_000_000;

/// Stretches on the recording's clock, in order, none touching another.
#[derive(Debug, Clone, Serialize)]
pub struct Spans {
    list: Vec<(u64, u64)>,
    /// What lies closer together than this, in nanoseconds, is one stretch.
    join: u64,
    #[serde(skip)]
    most: usize,
}

impl Spans {
    /// None yet. There will never be more than `most`.
    pub fn new(most: usize) -> Self {
        Self {
            list: Vec::new(),
            join: TOUCHING,
            most: most.max(1),
        }
    }

    /// The stretches.
    pub fn list(&self) -> &[(u64, u64)] {
        &self.list
    }

    /// Were stretches joined that do not touch? Up to how many nanoseconds were then between them.
    pub fn joined(&self) -> Option<u64> {
        (self.join > TOUCHING).then_some(self.join)
    }

    /// How long they are together, in nanoseconds.
    pub fn length(&self) -> u64 {
        let lengths = self.list.iter().map(|(from, to)| to - from);
        lengths.fold(0, u64::saturating_add)
    }

    /// One more, anywhere.
    pub fn add(&mut self, from: u64, to: u64) {
        let to = to.max(from);
        self.put(from, to);
        while self.list.len() > self.most {
            self.join = self.join.saturating_mul(2);
            for (from, to) in std::mem::take(&mut self.list) {
                self.put(from, to);
            }
        }
    }

    fn put(&mut self, mut from: u64, mut to: u64) {
        let first = self
            .list
            .partition_point(|(_, end)| end.saturating_add(self.join) < from);
        let next =
            first + self.list[first..].partition_point(|(begin, _)| *begin <= to.saturating_add(self.join));
        for (begin, end) in &self.list[first..next] {
            from = from.min(*begin);
            to = to.max(*end);
        }
        self.list.splice(first..next, [(from, to)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn what_touches_is_one_stretch_in_whatever_order_it_comes() {
        let mut spans = Spans::new(10);
        for (from, to) in [(4, 5), (0, 1), (1, 2), (8, 9), (2, 3)] {
            spans.add(from * S, to * S);
        }
        assert_eq!(spans.list(), [(0, 3 * S), (4 * S, 5 * S), (8 * S, 9 * S)]);
        assert_eq!((spans.length(), spans.joined()), (5 * S, None));
    }

    #[test]
    fn too_many_are_joined_and_that_is_told() {
        let mut spans = Spans::new(4);
        for at in 0..100 {
            spans.add(at * 10 * S, at * 10 * S + S);
        }
        assert!(spans.list().len() <= 4);
        assert!(spans.joined().unwrap() >= 9 * S);
    }

    proptest! {
        #[test]
        fn there_are_never_too_many_and_everything_is_in_one(
            all in prop::collection::vec((any::<u64>(), any::<u64>()), 0..80), most in 1..20_usize
        ) {
            let mut spans = Spans::new(most);
            for (a, b) in &all {
                spans.add(*a.min(b), *a.max(b));
            }
            prop_assert!(spans.list().len() <= most);
            prop_assert!(spans.list().is_sorted_by(|a, b| a.1 < b.0));
            for (a, b) in &all {
                let inside = |(from, to): &(u64, u64)| *from <= *a.min(b) && *to >= *a.max(b);
                prop_assert!(spans.list().iter().any(inside));
            }
        }
    }
}
