//! Frames whose key is not there yet, with the events between them, in order and bounded.
//!
//! Only frames without a key start a hold; while there is one, everything else queues behind it. A later frame that
//! opens ends it: its sender is past the held ones, whose key never came. So a frame with a made-up KID cannot delay
//! the real ones.

use std::collections::VecDeque;
use std::time::Instant;

/// Bytes that may be held, whatever the number of frames.
const MAX_BYTES: usize = 32 << 20;
/// Packets and events that may be held; a 4K keyframe has some thousand packets.
const MAX_ITEMS: usize = 16 << 10;

/// One thing in the queue.
#[derive(Debug)]
pub enum Item<F, E> {
    /// A sealed frame and when it stops waiting.
    Frame {
        /// The frame.
        frame: F,
        /// Key id that it waits for.
        kid: u64,
        /// Its size in bytes.
        size: usize,
        /// Packets of one frame have the same group and count as one.
        group: Option<u32>,
        /// When it is given up.
        deadline: Instant,
    },
    /// A serialized event that came between frames.
    Event(E),
}

/// The queue.
#[derive(Debug)]
pub struct Hold<F, E> {
    items: VecDeque<Item<F, E>>,
    frames: usize,
    bytes: usize,
    max_frames: usize,
}

impl<F, E> Hold<F, E> {
    /// Holds at most `max_frames` frames.
    pub fn new(max_frames: usize) -> Self {
        Self {
            items: VecDeque::new(),
            frames: 0,
            bytes: 0,
            max_frames,
        }
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether a frame may wait at all.
    pub fn may_hold(&self) -> bool {
        self.max_frames > 0
    }

    /// Items in the queue.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Queues a frame.
    pub fn push_frame(&mut self, frame: F, kid: u64, size: usize, group: Option<u32>, deadline: Instant) {
        self.frames += starts(group, last_group(self.items.iter().rev()));
        self.bytes += size;
        self.items.push_back(Item::Frame {
            frame,
            kid,
            size,
            group,
            deadline,
        });
    }

    /// Queues an event.
    pub fn push_event(&mut self, event: E) {
        self.items.push_back(Item::Event(event));
    }

    /// The item at `index`.
    pub fn get(&self, index: usize) -> Option<&Item<F, E>> {
        self.items.get(index)
    }

    /// More waits than may: the oldest must go.
    pub fn is_over(&self) -> bool {
        self.frames > self.max_frames || self.bytes > MAX_BYTES || self.items.len() > MAX_ITEMS
    }

    /// When the oldest frame is given up.
    pub fn deadline(&self) -> Option<Instant> {
        self.items.iter().find_map(|item| match item {
            Item::Frame { deadline, .. } => Some(*deadline),
            Item::Event(_) => None,
        })
    }

    /// Takes the item at `index` out.
    pub fn take(&mut self, index: usize) -> Option<Item<F, E>> {
        let item = self.items.remove(index)?;
        self.uncount(&item, index);
        Some(item)
    }

    /// Takes the item at `index` out and puts an event in its place.
    pub fn replace(&mut self, index: usize, event: E) -> Option<Item<F, E>> {
        let item = std::mem::replace(self.items.get_mut(index)?, Item::Event(event));
        self.uncount(&item, index);
        Some(item)
    }

    /// Corrects the counts for an item that was taken from `index`.
    fn uncount(&mut self, item: &Item<F, E>, index: usize) {
        let Item::Frame { size, group, .. } = item else {
            return;
        };
        self.bytes -= size;
        let before = last_group(self.items.range(..index).rev());
        let after = last_group(self.items.range(index..));
        // The taken one and the one after it, as they were; then the one after it, as it is now.
        let was = starts(*group, before) + after.map_or(0, |after| starts(after, Some(*group)));
        let is = after.map_or(0, |after| starts(after, before));
        self.frames = self.frames + is - was;
    }

    /// Takes everything out.
    pub fn take_all(&mut self) -> impl Iterator<Item = Item<F, E>> + use<F, E> {
        self.frames = 0;
        self.bytes = 0;
        std::mem::take(&mut self.items).into_iter()
    }
}

/// Group of the first frame that the iterator meets.
fn last_group<'a, F: 'a, E: 'a>(mut items: impl Iterator<Item = &'a Item<F, E>>) -> Option<Option<u32>> {
    items.find_map(|item| match item {
        Item::Frame { group, .. } => Some(*group),
        Item::Event(_) => None,
    })
}

/// 1 where a packet of this group begins a frame, given the group of the packet before it.
fn starts(group: Option<u32>, before: Option<Option<u32>>) -> usize {
    usize::from(group.is_none() || before != Some(group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn keeps_order_and_counts_frames_not_packets() {
        let now = Instant::now();
        let mut hold = Hold::<u32, &str>::new(2);
        hold.push_frame(0, 7, 10, Some(900), now);
        hold.push_frame(1, 7, 10, Some(900), now);
        hold.push_event("caps");
        hold.push_frame(2, 7, 10, Some(900), now);
        hold.push_frame(3, 7, 10, Some(1800), now + Duration::from_secs(1));
        assert!(!hold.is_over(), "two frames of four packets");
        hold.push_frame(4, 7, 10, Some(2700), now);
        assert!(hold.is_over());
        for expected in [0, 1] {
            assert!(matches!(hold.take(0), Some(Item::Frame { frame, .. }) if frame == expected));
            assert!(hold.is_over());
        }
        assert!(matches!(hold.take(0), Some(Item::Event("caps"))));
        assert!(matches!(hold.take(0), Some(Item::Frame { frame: 2, .. })));
        assert!(!hold.is_over());
        assert_eq!(hold.deadline(), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn frames_without_a_group_count_each() {
        let now = Instant::now();
        let mut hold = Hold::<u32, ()>::new(1);
        hold.push_frame(0, 7, 0, None, now);
        assert!(!hold.is_over());
        hold.push_frame(1, 7, 0, None, now);
        assert!(hold.is_over());
        hold.take(0);
        assert!(!hold.is_over());
        hold.take(0);
        assert!(hold.is_empty());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut hold = Hold::<u32, ()>::new(1000);
        hold.push_frame(0, 7, MAX_BYTES, None, Instant::now());
        assert!(!hold.is_over());
        hold.push_frame(1, 7, 1, None, Instant::now());
        assert!(hold.is_over());
    }

    proptest! {
        /// Against counting anew.
        #[test]
        fn the_count_of_frames_never_drifts(steps in prop::collection::vec((0u8..4, 0u32..3, 0usize..9), 1..80)) {
            let mut hold = Hold::<(), ()>::new(1000);
            for (what, group, at) in steps {
                match what {
                    0 => hold.push_frame((), 7, 10, (group > 0).then_some(group), Instant::now()),
                    1 => hold.push_event(()),
                    2 => drop(hold.take(at)),
                    _ => drop(hold.replace(at, ())),
                }
                let groups: Vec<_> = hold.items.iter().filter_map(|item| match item {
                    Item::Frame { group, .. } => Some(*group),
                    Item::Event(()) => None,
                }).collect();
                let frames = (0..groups.len()).filter(|&n| {
                    groups[n].is_none() || n == 0 || groups[n - 1] != groups[n]
                });
                prop_assert_eq!(hold.frames, frames.count());
                prop_assert_eq!(hold.bytes, 10 * groups.len());
            }
        }
    }
}
