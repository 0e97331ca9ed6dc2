//! What is known of room, consent and keys, in the words of the recording and of the audit log. Pure.

use gst_e2ee_common::identity;
use gst_e2ee_common::room_state::{EscrowState, RoomState};

use crate::audit::Event;
use crate::audit::entry::{self, ConsentStatus, Custodians};
use crate::bundle::{Bundle, EscrowFacts};
use crate::compliancesink::journal::id;
use crate::consent::ConsentRefusal;
use crate::digest::{Digest, Salted};
use crate::gate::Readers;
use crate::recording::{Claim, Medium};

pub fn medium(medium: Medium) -> entry::Medium {
    match medium {
        Medium::Audio => entry::Medium::Audio,
        Medium::Video => entry::Medium::Video,
        Medium::Text => entry::Medium::Text,
        Medium::Data => entry::Medium::Data,
    }
}

/// What the room claims. `None`: it does not say; then nobody vouches for the recorder.
pub fn claim(room: Option<&RoomState>) -> Claim {
    match room.and_then(|room| room.claim.as_deref()) {
        Some("recorded") => Claim::Recorded,
        Some("escrow") => Claim::Escrow,
        _ => Claim::Unattested,
    }
}

pub fn logged_claim(claim: Claim) -> entry::Claim {
    match claim {
        Claim::Recorded => entry::Claim::Recorded,
        Claim::Escrow => entry::Claim::Escrow,
        Claim::Unattested => entry::Claim::Unattested,
    }
}

/// The room's reference to the consent, salt and all.
pub fn reference(room: Option<&RoomState>) -> Option<Salted> {
    room?.consent.as_ref()?.parse().ok()
}

/// An epoch of the room, for the log, where the key source says enough of it.
pub fn epoch(room: &RoomState) -> Option<Event> {
    Some(Event::Epoch {
        epoch: room.epoch,
        on: room.recording?,
        claim: match room.claim.as_deref()? {
            "strict" => entry::Claim::Strict,
            _ => logged_claim(claim(Some(room))),
        },
        policy: room.policy_digest.as_ref()?.parse().ok()?,
        members: room.members,
    })
}

/// This recorder is in the room no more.
pub fn recorder_out(room: Option<&RoomState>) -> Option<Event> {
    Some(Event::RecorderOut {
        recorder: id(&recorder(room)?.0)?,
        epoch: room?.epoch,
    })
}

/// How the consent stands, for the log.
pub fn consent(refusal: Option<&ConsentRefusal>, room: Option<&RoomState>) -> Event {
    let status = match refusal {
        None => ConsentStatus::Valid,
        Some(ConsentRefusal::NotActive(_)) => ConsentStatus::Withdrawn,
        Some(ConsentRefusal::NotYet { .. } | ConsentRefusal::Expired { .. }) => ConsentStatus::OutsidePeriod,
        Some(ConsentRefusal::Denied { .. } | ConsentRefusal::NotPermitted { .. }) => ConsentStatus::Refused,
        Some(_) => ConsentStatus::Unusable,
    };
    Event::Consent {
        reference: reference(room),
        status,
        until: None,
    }
}

/// Who can open what was encrypted for these.
pub fn readers(recipients: &[Digest], escrow: Option<&EscrowFacts>) -> Readers {
    Readers {
        recipients: recipients.iter().map(Digest::to_string).collect(),
        escrow: escrow.map(|escrow| EscrowState {
            fingerprint: escrow.fingerprint.to_string(),
            m: escrow.m.into(),
            n: escrow.n.into(),
        }),
    }
}

pub fn custodians(escrow: Option<&EscrowFacts>) -> Option<Custodians> {
    escrow.map(|escrow| Custodians {
        threshold: escrow.m.into(),
        shares: escrow.n.into(),
        fingerprint: escrow.fingerprint,
    })
}

/// Is a bundle for those whom the room's policy names? Where there is no room, any is.
pub fn fits(bundle: &Bundle, room: Option<&RoomState>) -> bool {
    let Some(room) = room else { return true };
    let readers = readers(bundle.recipients(), bundle.escrow());
    let named = room.recipients.as_deref();
    named.is_none_or(|named| readers.recipients.iter().all(|reader| named.contains(reader)))
        && (room.claim.is_none() || readers.escrow == room.escrow)
}

/// For how many days the recording is kept: what the property says, but no longer than the room's policy promises.
pub fn retention_days(property: u32, room: Option<&RoomState>) -> Option<u32> {
    let promised = room.and_then(|room| room.retention_days);
    match property {
        0 => promised,
        days => Some(promised.map_or(days, |promised| promised.min(days))),
    }
}

/// The recorder's subject id and the fingerprint of its certificate, as its key source shows it.
pub fn recorder(room: Option<&RoomState>) -> Option<(String, Digest)> {
    let certificates = identity::from_pem(&room?.certificates).ok()?;
    let own = identity::describe(certificates.first()?).ok()?;
    Some((own.name?, Digest(own.fingerprint.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_kept_no_longer_than_the_room_promises() {
        let room = |days| RoomState {
            retention_days: days,
            ..RoomState::default()
        };
        assert_eq!(retention_days(0, None), None);
        assert_eq!(retention_days(30, None), Some(30));
        assert_eq!(retention_days(0, Some(&room(Some(10)))), Some(10));
        assert_eq!(retention_days(30, Some(&room(Some(10)))), Some(10));
        assert_eq!(retention_days(5, Some(&room(Some(10)))), Some(5));
        assert_eq!(retention_days(30, Some(&room(None))), Some(30));
    }

    #[test]
    fn the_recorder_is_named_by_its_certificate() {
        let room = RoomState {
            certificates: vec![include_str!("../../../tests/data/attestation/recorder.pem").to_owned()],
            ..RoomState::default()
        };
        let (subject, fingerprint) = recorder(Some(&room)).unwrap();
        assert_eq!(subject, "7f3a");
        let der = identity::from_pem(&room.certificates).unwrap().remove(0);
        assert_eq!(fingerprint, Digest::of(&der));
        assert_eq!(recorder(Some(&RoomState::default())), None);
        assert_eq!(recorder(None), None);
    }
}
