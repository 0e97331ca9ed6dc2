//! What ties a recording to the room: the endpoint's certified identity signs the recording's public facts, and with them
//! the key of the audit log that signs everything else. Whoever has the recording can check it, long after the room.
//!
//! It shows that a certified recorder began this recording. It does not show that the room agreed: that is in the
//! policy's digest, which is among the facts, and in what the room's members say of it.

use gst_e2ee_common::identity::{self, Fingerprint, Identity, IdentityError};
use serde::{Deserialize, Serialize};

use crate::signing::{PublicKey, Signature};

/// The purpose for which the key source signs (`sign(purpose, data)` of the key contract).
pub const PURPOSE: &str = "recording";

/// An endpoint's signature, and the chain of certificates that says whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// In PEM, the endpoint's first, the root last.
    certificates: Vec<String>,
    /// By the first one's key, for the purpose [`PURPOSE`].
    signature: Signature,
}

/// Why an attestation does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestationError {
    /// The certificates do not hold.
    #[error("the recorder's certificates do not hold at the time of the recording: {0}")]
    Certificates(#[from] IdentityError),
    /// Another key signed, or something else was signed.
    #[error(
        "the recorder's signature does not verify: the recording's facts were changed, or somebody else wrote them"
    )]
    Signature,
    /// The certificate does not say recorder.
    #[error("the certificate that signed the recording is not a recorder's")]
    NotARecorder,
}

impl Attestation {
    /// What a key source gave: `certificates` as in its `room-state`, `signature` as its `sign` answered. `None`: there are no
    /// certificates, or what was answered is no signature.
    pub fn new(certificates: Vec<String>, signature: &[u8]) -> Option<Self> {
        let signature = Signature(signature.try_into().ok()?);
        (!certificates.is_empty()).then_some(Self {
            certificates,
            signature,
        })
    }

    /// Whose attestation of this data is it? `at`: the unix time in seconds at which the certificates must be valid, that
    /// of the recording's start. `roots`: whom the verifier trusts; without any, the chain must hold in itself, and the
    /// verifier has to look at [`Identity::root`].
    pub fn verify(
        &self,
        data: &[u8],
        at: u64,
        roots: Option<&[Fingerprint]>,
    ) -> Result<Identity, AttestationError> {
        let chain = identity::from_pem(&self.certificates)?;
        let own_root: Vec<_> = chain
            .last()
            .map(|root| Fingerprint::of(root))
            .into_iter()
            .collect();
        let identity = identity::verify(&identity::content(&chain)?, roots.unwrap_or(&own_root), at)?;
        if !PublicKey(identity.public_key).verifies(PURPOSE, data, &self.signature) {
            return Err(AttestationError::Signature);
        }
        if !identity.is_recorder() {
            return Err(AttestationError::NotARecorder);
        }
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::signing::Signer;
    use ed25519_dalek::SigningKey;

    const CA: &str = include_str!("../tests/data/attestation/ca.pem");
    const RECORDER: &str = include_str!("../tests/data/attestation/recorder.pem");
    const PARTICIPANT: &str = include_str!("../tests/data/attestation/participant.pem");
    /// 2027-01-01: the certificates are valid from late 2026 on.
    const START: u64 = 1_798_761_600;

    fn sign(seed: u8, purpose: &str, data: &[u8]) -> Vec<u8> {
        SigningKey::from_bytes(&[seed; 32]).sign(purpose, data).0.to_vec()
    }

    fn attestation(certificates: &[&str], signature: &[u8]) -> Attestation {
        let certificates = certificates.iter().map(|&pem| pem.to_owned()).collect();
        Attestation::new(certificates, signature).unwrap()
    }

    fn root() -> Fingerprint {
        Fingerprint::of(&identity::from_pem(&[CA]).unwrap()[0])
    }

    #[test]
    fn a_recorders_attestation_says_who_it_is() {
        let attested = attestation(&[RECORDER, CA], &sign(7, PURPOSE, b"facts"));
        for roots in [None, Some(&[root()][..])] {
            let identity = attested.verify(b"facts", START, roots).unwrap();
            assert_eq!((identity.subject.as_str(), identity.root), ("7f3a", root()));
        }
        let text = serde_json::to_string(&attested).unwrap();
        assert_eq!(serde_json::from_str::<Attestation>(&text).unwrap(), attested);
    }

    #[test]
    fn other_data_keys_purposes_roots_and_times_are_refused() {
        let good = sign(7, PURPOSE, b"facts");
        let judged = |certificates: &[&str], signature: &[u8]| {
            attestation(certificates, signature).verify(b"facts", START, Some(&[root()]))
        };
        assert!(judged(&[RECORDER, CA], &good).is_ok());
        for signature in [
            sign(7, PURPOSE, b"fact"),
            sign(8, PURPOSE, b"facts"),
            sign(7, "manifest", b"facts"),
        ] {
            assert_eq!(
                judged(&[RECORDER, CA], &signature),
                Err(AttestationError::Signature)
            );
        }
        for bit in 0..8 * good.len() {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                judged(&[RECORDER, CA], &flipped),
                Err(AttestationError::Signature),
                "bit {bit}"
            );
        }
        assert_eq!(
            judged(&[PARTICIPANT, CA], &sign(8, PURPOSE, b"facts")),
            Err(AttestationError::NotARecorder)
        );
        for chain in [
            &[RECORDER][..],
            &[CA, RECORDER],
            &[CA, CA],
            &[RECORDER, PARTICIPANT, CA],
            &[RECORDER, CA, CA],
            &[RECORDER, CA, CA, CA, CA],
            &[RECORDER, "no PEM"],
            &[&format!("{RECORDER}{CA}")],
        ] {
            let refused = judged(chain, &good);
            assert!(
                matches!(refused, Err(AttestationError::Certificates(_))),
                "{refused:?}"
            );
        }
        let attested = attestation(&[RECORDER, CA], &good);
        let nobody = attested.verify(b"facts", START, Some(&[]));
        assert_eq!(nobody, Err(IdentityError::UnknownRoot.into()));
        let early = attested.verify(b"facts", 1_700_000_000, None);
        assert_eq!(early, Err(IdentityError::NotYetValid.into()));
        let late = attested.verify(b"facts", 6_000_000_000, None);
        assert_eq!(late, Err(IdentityError::Expired.into()));
    }

    #[test]
    fn what_is_no_signature_or_has_no_certificates_is_no_attestation() {
        let pem = vec![RECORDER.to_owned()];
        assert_eq!(Attestation::new(pem.clone(), &[0; 63]), None);
        assert_eq!(Attestation::new(pem, &[0; 65]), None);
        assert_eq!(Attestation::new(Vec::new(), &[0; 64]), None);
    }
}
