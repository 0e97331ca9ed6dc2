//! A room that a test makes: what its key source says of it, and how it signs.

use std::path::Path;

use ed25519_dalek::{Signer, SigningKey};
use gst_e2ee_common::room_state::{RoomState, Standing};
use gstcompliance::consent::Consent;
use gstcompliance::digest::Digest;

use super::source::TestSource;

const CA: &str = include_str!("../data/attestation/ca.pem");
/// Of the key with the seed `07…07`.
const RECORDER: &str = include_str!("../data/attestation/recorder.pem");

/// A room under this consent that records for this recipient (a fingerprint), and admits this recorder.
pub fn on(consent: &Path, recipient: &str, epoch: u64) -> RoomState {
    let consent = Consent::load(consent, 0).unwrap();
    RoomState {
        epoch,
        standing: Some(Standing::Ready),
        room_id: Some("room".into()),
        claim: Some("recorded".into()),
        recording: Some(true),
        recorder: Some(true),
        leaf: Some(2),
        members: Some(3),
        consent: Some(consent.reference(&[1; 16])),
        recipients: Some(vec![recipient.to_owned()]),
        retention_days: Some(30),
        policy_digest: Some(Digest::of(b"policy").to_string()),
        certificates: [RECORDER, CA].map(str::to_owned).to_vec(),
        ..RoomState::default()
    }
}

/// A source that begins with this state, and signs with the certified key.
pub fn source(first: RoomState) -> TestSource {
    let source = TestSource::new();
    source.set_room(first);
    source.set_signer(|purpose, data| {
        let label = [b"gst-e2ee ", purpose.as_bytes(), b" v1\0", data].concat();
        SigningKey::from_bytes(&[7; 32]).sign(&label).to_bytes().to_vec()
    });
    source
}
