//! What held in the room, epoch by epoch: as many epochs as keys can live, and some more.

use std::collections::VecDeque;

use gst_e2ee_common::room_state::{LATEST, RoomState, Standing};

/// 2^8 epochs is the most that can be told from each other, so that have keys.
const KEPT: usize = 256 + 64;

/// The latest states, in the order in which they came to hold, and where this endpoint stands.
#[derive(Debug, Default)]
pub struct RoomStates {
    states: VecDeque<RoomState>,
    standing: Standing,
    /// The chain of the key that signs, in PEM.
    certificates: Vec<String>,
}

impl RoomStates {
    /// An epoch began.
    pub fn insert(&mut self, state: RoomState) {
        if self
            .states
            .back()
            .is_some_and(|latest| latest.epoch == state.epoch)
        {
            self.states.pop_back();
        }
        if self.states.len() == KEPT {
            self.states.pop_front();
        }
        self.states.push_back(state);
    }

    /// Where this endpoint stands from now on; the latest epoch where that is somewhere else than before.
    pub fn set_standing(&mut self, standing: Standing) -> Option<u64> {
        let is_new = self.standing != standing;
        self.standing = standing;
        self.states.back().filter(|_| is_new).map(|latest| latest.epoch)
    }

    /// Who signs from now on.
    pub fn set_certificates(&mut self, certificates: Vec<String>) {
        self.certificates = certificates;
    }

    /// What held in that epoch, or in the latest one. Of two groups with the same number, the later one's.
    pub fn get(&self, epoch: u64) -> Option<RoomState> {
        let mut latest_first = self.states.iter().rev();
        let state = latest_first.find(|state| epoch == LATEST || state.epoch == epoch)?;
        Some(RoomState {
            standing: Some(self.standing),
            certificates: self.certificates.clone(),
            ..state.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(epoch: u64, claim: &str) -> RoomState {
        RoomState {
            epoch,
            claim: Some(claim.into()),
            ..RoomState::default()
        }
    }

    fn claim(states: &RoomStates, epoch: u64) -> Option<String> {
        states.get(epoch)?.claim
    }

    #[test]
    fn each_epoch_keeps_its_state_and_only_so_many_are_kept() {
        let mut states = RoomStates::default();
        assert_eq!(states.get(LATEST), None);
        states.insert(state(1, "strict"));
        states.insert(state(2, "strict"));
        states.insert(state(3, "recorded"));
        assert_eq!(claim(&states, 2).as_deref(), Some("strict"));
        assert_eq!(claim(&states, 3).as_deref(), Some("recorded"));
        assert_eq!(claim(&states, 4), None);
        for epoch in 4..1000 {
            states.insert(state(epoch, "recorded"));
        }
        assert_eq!(states.states.len(), KEPT);
        assert_eq!(states.get(LATEST).map(|state| state.epoch), Some(999));
        assert!(states.get(1000 - KEPT as u64).is_some());
        assert!(states.get(999 - KEPT as u64).is_none());
    }

    #[test]
    fn a_new_group_begins_at_lower_epochs() {
        let mut states = RoomStates::default();
        states.insert(state(9, "strict"));
        states.insert(state(0, "recorded"));
        states.insert(state(0, "escrow"));
        assert_eq!(claim(&states, 0).as_deref(), Some("escrow"));
        assert_eq!(claim(&states, LATEST).as_deref(), Some("escrow"));
        states.insert(state(9, "escrow"));
        assert_eq!(claim(&states, 9).as_deref(), Some("escrow"));
        assert_eq!(states.states.len(), 3);
    }

    #[test]
    fn where_the_endpoint_stands_and_who_signs_is_told_as_it_is_now() {
        let mut states = RoomStates::default();
        assert_eq!(
            states.set_standing(Standing::Ready),
            None,
            "there is no epoch yet"
        );
        states.insert(state(1, "recorded"));
        states.insert(state(2, "recorded"));
        assert_eq!(states.set_standing(Standing::Ready), None);
        assert_eq!(states.set_standing(Standing::Stale), Some(2));
        states.set_certificates(vec!["pem".into()]);
        for epoch in [1, 2, LATEST] {
            let state = states.get(epoch).unwrap();
            assert_eq!(state.standing, Some(Standing::Stale));
            assert_eq!(state.certificates, ["pem"]);
        }
    }
}
