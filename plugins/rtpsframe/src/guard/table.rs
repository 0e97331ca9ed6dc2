//! The streams and what is held for them, bounded: least recently active ones go first, unproven ones before
//! proven ones. All operations take the same time however many streams there are, because the number of streams
//! is whatever an attacker makes up.

use std::collections::{HashMap, VecDeque};

use super::stream::Stream;

/// A packet that waits for its stream's proof.
#[derive(Debug)]
pub struct Held<T> {
    pub item: T,
    /// Its length.
    pub bytes: usize,
    /// What it counts against the limit.
    pub cost: usize,
    /// Whether a frame starts in it.
    pub start: bool,
}

/// A stream's place in the table.
#[derive(Debug)]
pub struct Slot<T> {
    pub ssrc: u32,
    pub stream: Stream,
    pub held: VecDeque<Held<T>>,
    class: Class,
    /// When it was last active, in packets.
    active: u64,
    newer: Option<usize>,
    older: Option<usize>,
}

/// The list that a stream is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Unproven, nothing held.
    Empty,
    /// Unproven, with packets.
    Holding,
    Proven,
}

/// Ends of a doubly linked list in order of activity.
#[derive(Debug, Clone, Copy, Default)]
struct List {
    newest: Option<usize>,
    oldest: Option<usize>,
}

/// All streams.
#[derive(Debug)]
pub struct Table<T> {
    slots: Vec<Slot<T>>,
    by_ssrc: HashMap<u32, usize>,
    lists: [List; 3],
    held_cost: usize,
    held_packets: usize,
    clock: u64,
}

impl<T> Table<T> {
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            by_ssrc: HashMap::new(),
            lists: [List::default(); 3],
            held_cost: 0,
            held_packets: 0,
            clock: 0,
        }
    }

    pub fn slots(&self) -> impl Iterator<Item = &Slot<T>> {
        self.slots.iter()
    }

    pub fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot<T>> {
        self.slots.iter_mut()
    }

    pub fn held_cost(&self) -> usize {
        self.held_cost
    }

    pub fn held_packets(&self) -> usize {
        self.held_packets
    }

    pub fn any_proven(&self) -> bool {
        self.lists[Class::Proven as usize].newest.is_some()
    }

    pub fn find(&self, ssrc: u32) -> Option<usize> {
        self.by_ssrc.get(&ssrc).copied()
    }

    /// The slot of an id that this table gave out; ids are valid until the next [`Self::touch`].
    pub fn get_mut(&mut self, id: usize) -> &mut Slot<T> {
        &mut self.slots[id]
    }

    /// The slot of a stream, the most recently active from now on; made if there is none. Where another stream had
    /// to go: how many packets were held for it.
    pub fn touch(&mut self, ssrc: u32, max_streams: usize) -> (usize, Option<u64>) {
        self.clock += 1;
        if let Some(id) = self.find(ssrc) {
            self.slots[id].active = self.clock;
            let class = self.slots[id].class;
            if self.lists[class as usize].newest != Some(id) {
                self.unlink(id);
                self.link(id, class);
            }
            return (id, None);
        }
        let mut dropped = None;
        // More than one only after the limit was lowered; then the rest goes with the next streams.
        let id = if self.slots.len() >= max_streams {
            let id = self.least_active();
            dropped = Some(self.drop_held(id));
            self.unlink(id);
            self.by_ssrc.remove(&self.slots[id].ssrc);
            self.slots[id] = Slot::new(ssrc);
            id
        } else {
            self.slots.push(Slot::new(ssrc));
            self.slots.len() - 1
        };
        self.slots[id].active = self.clock;
        self.by_ssrc.insert(ssrc, id);
        self.link(id, Class::Empty);
        (id, dropped)
    }

    /// Keeps a packet of an unproven stream.
    pub fn hold(&mut self, id: usize, held: Held<T>) {
        self.held_cost = self.held_cost.saturating_add(held.cost);
        self.held_packets += 1;
        self.slots[id].held.push_back(held);
        self.reclassify(id);
    }

    /// Drops the oldest packets of the least recently active streams until the rest costs at most `limit`; how
    /// many.
    pub fn shrink_held(&mut self, limit: usize) -> u64 {
        let mut dropped = 0;
        while self.held_cost > limit {
            let Some(id) = self.lists[Class::Holding as usize].oldest else {
                break;
            };
            let queue = &mut self.slots[id].held;
            let held = queue.pop_front();
            // A queue keeps its places: many made-up streams could each keep those of a full one.
            if queue.capacity() > 4 * queue.len().max(8) {
                queue.shrink_to(2 * queue.len());
            }
            if let Some(held) = held {
                self.held_cost -= held.cost;
                self.held_packets -= 1;
                dropped += 1;
            }
            self.reclassify(id);
        }
        dropped
    }

    /// Takes all that is held for a stream.
    pub fn take_held(&mut self, id: usize) -> VecDeque<Held<T>> {
        let held = std::mem::take(&mut self.slots[id].held);
        self.held_cost -= held.iter().map(|h| h.cost).sum::<usize>();
        self.held_packets -= held.len();
        self.reclassify(id);
        held
    }

    /// Drops all that is held for a stream; how many packets.
    pub fn drop_held(&mut self, id: usize) -> u64 {
        if self.slots[id].held.is_empty() {
            return 0;
        }
        self.take_held(id).len() as u64
    }

    /// Drops all that is held; how many packets.
    pub fn drop_all_held(&mut self) -> u64 {
        (0..self.slots.len()).map(|id| self.drop_held(id)).sum()
    }

    /// Puts a stream into the list that it belongs to after its state changed, in order of activity.
    pub fn reclassify(&mut self, id: usize) {
        let slot = &self.slots[id];
        let class = match (slot.stream.proven(), slot.held.is_empty()) {
            (true, _) => Class::Proven,
            (false, true) => Class::Empty,
            (false, false) => Class::Holding,
        };
        if class != slot.class {
            self.unlink(id);
            self.link(id, class);
        }
    }

    /// Which stream to forget; there is at least one.
    fn least_active(&self) -> usize {
        let oldest = |class: Class| {
            let id = self.lists[class as usize].oldest?;
            Some((self.slots[id].active, id))
        };
        [oldest(Class::Empty), oldest(Class::Holding)]
            .into_iter()
            .flatten()
            .min()
            .or_else(|| oldest(Class::Proven))
            .map_or(0, |(_, id)| id)
    }

    fn unlink(&mut self, id: usize) {
        let Slot {
            newer, older, class, ..
        } = self.slots[id];
        match newer {
            Some(n) => self.slots[n].older = older,
            None => self.lists[class as usize].newest = older,
        }
        match older {
            Some(o) => self.slots[o].newer = newer,
            None => self.lists[class as usize].oldest = newer,
        }
    }

    /// Puts a stream to the newest end. A stream that changes its list is the active one, or it lost its last held
    /// packet to the limit; then it looks more active than it was, to no harm: it holds nothing.
    fn link(&mut self, id: usize, class: Class) {
        let older = self.lists[class as usize].newest;
        let slot = &mut self.slots[id];
        slot.class = class;
        slot.newer = None;
        slot.older = older;
        match older {
            Some(o) => self.slots[o].newer = Some(id),
            None => self.lists[class as usize].oldest = Some(id),
        }
        self.lists[class as usize].newest = Some(id);
    }
}

impl<T> Slot<T> {
    fn new(ssrc: u32) -> Self {
        Self {
            ssrc,
            stream: Stream::default(),
            held: VecDeque::new(),
            class: Class::Empty,
            active: 0,
            newer: None,
            older: None,
        }
    }
}
