//! What held in the room, epoch by epoch: as many epochs as keys can live, and some more.

use std::collections::VecDeque;

/// 2^8 epochs is the most that can be told from each other, so that have keys.
const KEPT: usize = 256 + 64;

/// What `room-state` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomState {
    /// `strict`, `recorded` or `escrow`.
    pub claim: String,
    /// Whether the group says that it is recorded.
    pub recording: bool,
    /// Reference to the consent (salted hash, hex), where there is one.
    pub consent: Option<String>,
    /// SHA-256 of the encoded policy, hex.
    pub policy_digest: String,
}

/// The latest states, in the order in which they came to hold.
#[derive(Debug, Default)]
pub struct RoomStates(VecDeque<(u64, RoomState)>);

impl RoomStates {
    /// Whether this is another state than the latest one.
    pub fn insert(&mut self, epoch: u64, state: RoomState) -> bool {
        let latest = self.0.back();
        let is_new = latest.is_none_or(|(_, latest)| *latest != state);
        if latest.is_some_and(|(latest, _)| *latest == epoch) {
            self.0.pop_back();
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((epoch, state));
        is_new
    }

    /// What held in that epoch. Of two groups with the same number, the later one's.
    pub fn get(&self, epoch: u64) -> Option<&RoomState> {
        let mut latest_first = self.0.iter().rev();
        latest_first.find(|(of, _)| *of == epoch).map(|(_, state)| state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(claim: &str) -> RoomState {
        RoomState {
            claim: claim.into(),
            recording: false,
            consent: None,
            policy_digest: String::new(),
        }
    }

    #[test]
    fn each_epoch_keeps_its_state_and_only_so_many_are_kept() {
        let mut states = RoomStates::default();
        assert!(states.insert(1, state("strict")));
        assert!(!states.insert(2, state("strict")));
        assert!(states.insert(3, state("recorded")));
        assert_eq!(states.get(2), Some(&state("strict")));
        assert_eq!(states.get(3), Some(&state("recorded")));
        assert_eq!(states.get(4), None);
        for epoch in 4..1000 {
            states.insert(epoch, state("recorded"));
        }
        assert_eq!(states.0.len(), KEPT);
        assert_eq!(states.get(1000 - KEPT as u64), Some(&state("recorded")));
        assert_eq!(states.get(999 - KEPT as u64), None);
    }

    #[test]
    fn a_new_group_begins_at_lower_epochs() {
        let mut states = RoomStates::default();
        states.insert(9, state("strict"));
        states.insert(0, state("recorded"));
        states.insert(0, state("escrow"));
        assert_eq!(states.get(0), Some(&state("escrow")));
        states.insert(9, state("escrow"));
        assert_eq!(states.get(9), Some(&state("escrow")));
        assert_eq!(states.0.len(), 3);
    }
}
