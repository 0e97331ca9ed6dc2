//! The receiving side of keys: one entry per KID with its key, whose it is, and its replay window.
//!
//! KIDs come from the network, so everything here is bounded. Keys that no frame authenticated under yet are a small
//! cache that made-up KIDs can only churn; an entry whose frames authenticated keeps its replay window as long as
//! its key lives, because forgetting it would let old frames in again.

use crate::counter_file::Fingerprint;
use crate::frame::OpenKey;
use crate::replay::ReplayWindow;
use gst_e2ee_common::header::Header;
use gst_e2ee_common::key_source::ReceiverKey;
use gst_e2ee_common::meta::{NO_LEAF, SFrameMeta};
use std::collections::BTreeMap;
use std::sync::Arc;

/// KIDs whose frames authenticated. Only key holders can fill it.
const MAX_AUTHENTICATED: usize = 4096;
/// KIDs with a key but no authenticated frame yet, and KIDs without a key. Anybody can fill it.
const MAX_CANDIDATES: usize = 64;

/// Whose key it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Epoch of the group.
    pub epoch: u64,
    /// Leaf index, [`NO_LEAF`] for static keys.
    pub leaf: u32,
    /// Identity as the key source names it; empty for static keys.
    pub sender: String,
}

impl Who {
    /// The same member: by identity, which outlives a rejoin; by leaf where there is no identity.
    fn is_same_member(&self, other: &Self) -> bool {
        if self.sender.is_empty() && other.sender.is_empty() {
            self.leaf == other.leaf
        } else {
            self.sender == other.sender
        }
    }

    /// The meta of a frame that this member sealed under `kid`.
    pub fn meta(&self, kid: u64) -> SFrameMeta<&str> {
        SFrameMeta {
            kid,
            epoch: self.epoch,
            leaf: self.leaf,
            sender: &self.sender,
        }
    }

    fn is_known(&self) -> bool {
        self.leaf != NO_LEAF || !self.sender.is_empty()
    }
}

struct Entry {
    /// `None`: the key source knows no key (any more).
    key: Option<OpenKey>,
    fingerprint: Option<Fingerprint>,
    who: Arc<Who>,
    replay: ReplayWindow,
    authenticated: bool,
    /// In which generation of keys the answer was given.
    generation: u64,
    last_use: u64,
}

/// What to do with a frame that has this header.
pub enum Check<'a> {
    /// Ask the key source for its KID, [`Receiver::install`] the answer, check again.
    Ask,
    /// There is no key for it.
    NoKey,
    /// Its counter was seen before, or is older than the window.
    Replayed,
    /// It is of another member than the first of this stream.
    WrongSender,
    /// Open it with this key, and only if it opens [`Opening::record`] it.
    Open(Opening<'a>),
}

/// A frame that may be opened.
pub struct Opening<'a> {
    /// The key of its KID.
    pub key: &'a OpenKey,
    ctr: u64,
    who: &'a Arc<Who>,
    replay: &'a mut ReplayWindow,
    authenticated: &'a mut bool,
    bound_to: &'a mut Option<Arc<Who>>,
}

impl<'a> Opening<'a> {
    /// Notes that the frame authenticated. Returns whose it is, and whether it is the first of its KID.
    pub fn record(self) -> (&'a Arc<Who>, bool) {
        self.replay.record(self.ctr);
        if self.bound_to.is_none() && self.who.is_known() {
            *self.bound_to = Some(self.who.clone());
        }
        (self.who, !std::mem::replace(self.authenticated, true))
    }
}

/// All keys of one stream.
pub struct Receiver {
    /// Mostly one or two; no hash that somebody could make collide.
    entries: BTreeMap<u64, Entry>,
    window: u32,
    generation: u64,
    clock: u64,
    bound_to: Option<Arc<Who>>,
}

impl Receiver {
    /// `window`: frames of replay protection per KID, 0 for none.
    pub fn new(window: u32) -> Self {
        Self {
            entries: BTreeMap::new(),
            window,
            generation: 0,
            clock: 0,
            bound_to: None,
        }
    }

    /// Tells how often keys changed so far: answers of earlier generations are asked for again.
    pub fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// The stream begins anew: it may be of another sender.
    pub fn unbind(&mut self) {
        self.bound_to = None;
    }

    /// Somebody on this machine seeks: frames come again on purpose.
    pub fn forget_counters(&mut self) {
        for entry in self.entries.values_mut() {
            entry.replay = ReplayWindow::new(self.window);
        }
    }

    /// Whether the key source already said that it has no key for this KID.
    pub fn is_missing(&self, kid: u64) -> bool {
        let entry = self.entries.get(&kid);
        entry.is_some_and(|entry| entry.generation == self.generation && entry.key.is_none())
    }

    /// Judges a frame by its header alone.
    pub fn check(&mut self, header: Header) -> Check<'_> {
        self.clock += 1;
        let Some(entry) = self.entries.get_mut(&header.kid) else {
            return Check::Ask;
        };
        if entry.generation != self.generation {
            return Check::Ask;
        }
        entry.last_use = self.clock;
        let Some(key) = &entry.key else {
            return Check::NoKey;
        };
        if !entry.replay.is_fresh(header.ctr) {
            return Check::Replayed;
        }
        if self
            .bound_to
            .as_ref()
            .is_some_and(|bound| !bound.is_same_member(&entry.who))
        {
            return Check::WrongSender;
        }
        Check::Open(Opening {
            key,
            ctr: header.ctr,
            who: &entry.who,
            replay: &mut entry.replay,
            authenticated: &mut entry.authenticated,
            bound_to: &mut self.bound_to,
        })
    }

    /// Takes the key source's answer for a KID, which was asked for in `generation`.
    pub fn install(&mut self, kid: u64, answer: Option<ReceiverKey>, generation: u64) {
        let derived = answer.and_then(|answer| {
            let key = OpenKey::derive(answer.suite, kid, &answer.base_key).ok()?;
            let who = Who {
                epoch: answer.epoch,
                leaf: answer.leaf,
                sender: answer.sender,
            };
            Some((key, Fingerprint::new(&answer.base_key, kid), who))
        });
        if !self.entries.contains_key(&kid) && !self.make_room() {
            return;
        }
        let window = self.window;
        let clock = self.clock;
        let entry = self.entries.entry(kid).or_insert_with(|| Entry {
            key: None,
            fingerprint: None,
            who: Arc::new(Who {
                epoch: 0,
                leaf: NO_LEAF,
                sender: String::new(),
            }),
            replay: ReplayWindow::new(window),
            authenticated: false,
            generation,
            last_use: clock,
        });
        entry.generation = generation;
        let Some((key, fingerprint, who)) = derived else {
            // The window stays: the key may come back.
            entry.key = None;
            return;
        };
        if entry.fingerprint != Some(fingerprint) {
            entry.fingerprint = Some(fingerprint);
            entry.replay = ReplayWindow::new(window);
            entry.authenticated = false;
        }
        entry.key = Some(key);
        entry.who = Arc::new(who);
    }

    /// Makes room for one more KID by dropping the candidate that was not seen for longest. Where key holders filled the
    /// table, one whose key is gone; `false` where there is none: no replay window of a living key is forgotten.
    fn make_room(&mut self) -> bool {
        let candidates = self.entries.values().filter(|e| !e.authenticated).count();
        if candidates < MAX_CANDIDATES && self.entries.len() < MAX_AUTHENTICATED {
            return true;
        }
        let victims = self.entries.iter().filter(|(_, entry)| {
            if candidates >= MAX_CANDIDATES {
                !entry.authenticated
            } else {
                entry.key.is_none()
            }
        });
        let oldest = victims
            .min_by_key(|(_, entry)| entry.last_use)
            .map(|(&kid, _)| kid);
        oldest.is_some_and(|kid| self.entries.remove(&kid).is_some())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst_e2ee_common::cipher_suite::CipherSuite;
    use zeroize::Zeroizing;

    fn answer(base_key: &[u8], sender: &str, leaf: u32) -> Option<ReceiverKey> {
        Some(ReceiverKey {
            suite: CipherSuite::Aes128GcmSha256_128,
            base_key: Zeroizing::new(base_key.to_vec()),
            epoch: 1,
            leaf,
            sender: sender.into(),
        })
    }

    fn header(kid: u64, ctr: u64) -> Header {
        Header { kid, ctr }
    }

    /// Opens nothing, only notes: the frame authenticated.
    fn record(receiver: &mut Receiver, kid: u64, ctr: u64) -> bool {
        match receiver.check(header(kid, ctr)) {
            Check::Open(opening) => opening.record().1,
            _ => panic!("KID {kid}, CTR {ctr} may not be opened"),
        }
    }

    #[test]
    fn asks_once_per_generation() {
        let mut receiver = Receiver::new(64);
        assert!(matches!(receiver.check(header(1, 0)), Check::Ask));
        receiver.install(1, None, 0);
        assert!(matches!(receiver.check(header(1, 0)), Check::NoKey));
        receiver.set_generation(1);
        assert!(matches!(receiver.check(header(1, 0)), Check::Ask));
        receiver.install(1, answer(b"k", "", NO_LEAF), 1);
        assert!(matches!(receiver.check(header(1, 0)), Check::Open(_)));
    }

    #[test]
    fn an_answer_of_an_older_generation_is_asked_for_again() {
        let mut receiver = Receiver::new(64);
        receiver.set_generation(2);
        receiver.install(1, None, 1);
        assert!(matches!(receiver.check(header(1, 0)), Check::Ask));
    }

    #[test]
    fn a_replay_stays_refused_when_its_key_goes_and_comes_back() {
        let mut receiver = Receiver::new(64);
        receiver.install(1, answer(b"k", "", NO_LEAF), 0);
        assert!(record(&mut receiver, 1, 5));
        assert!(!record(&mut receiver, 1, 6));
        receiver.install(1, None, 0);
        assert!(matches!(receiver.check(header(1, 5)), Check::NoKey));
        receiver.install(1, answer(b"k", "", NO_LEAF), 0);
        assert!(matches!(receiver.check(header(1, 5)), Check::Replayed));
        // The same KID under another key is another sender's or epoch's.
        receiver.install(1, answer(b"other", "", NO_LEAF), 0);
        assert!(matches!(receiver.check(header(1, 5)), Check::Open(_)));
    }

    #[test]
    fn a_stream_keeps_its_first_member_over_a_rejoin_and_refuses_others() {
        let mut receiver = Receiver::new(64);
        receiver.install(1, answer(b"k", "ann", 4), 0);
        receiver.install(2, answer(b"k", "ann", 9), 0);
        receiver.install(3, answer(b"k", "bob", 4), 0);
        record(&mut receiver, 1, 0);
        assert!(matches!(receiver.check(header(2, 0)), Check::Open(_)));
        assert!(matches!(receiver.check(header(3, 0)), Check::WrongSender));
        receiver.unbind();
        assert!(matches!(receiver.check(header(3, 0)), Check::Open(_)));
    }

    #[test]
    fn made_up_kids_neither_grow_the_table_nor_push_out_real_ones() {
        let mut receiver = Receiver::new(1024);
        receiver.install(7, answer(b"k", "", NO_LEAF), 0);
        record(&mut receiver, 7, 1);
        for kid in 1_000..11_000 {
            assert!(matches!(receiver.check(header(kid, 0)), Check::Ask));
            // A source that answers for any KID is the worst case.
            receiver.install(kid, answer(b"k", "", NO_LEAF), 0);
        }
        assert!(receiver.len() <= MAX_CANDIDATES + 1);
        assert!(matches!(receiver.check(header(7, 1)), Check::Replayed));
    }

    #[test]
    fn a_seek_here_lets_frames_come_again() {
        let mut receiver = Receiver::new(64);
        receiver.install(1, answer(b"k", "", NO_LEAF), 0);
        record(&mut receiver, 1, 5);
        receiver.forget_counters();
        assert!(matches!(receiver.check(header(1, 5)), Check::Open(_)));
    }
}
