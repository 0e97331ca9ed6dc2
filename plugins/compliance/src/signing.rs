//! Ed25519 signatures (RFC 8032), each under a label of its own purpose, so that none for one purpose counts for another.

use ed25519_dalek::{SigningKey, VerifyingKey};

use crate::hex_form::hex_form;

/// The bytes that are signed for a purpose: `gst-e2ee <purpose> v1`, a zero byte, the data. `mlskeyring` signs in the
/// same form, so that one verifier serves both.
pub fn to_be_signed(purpose: &str, data: &[u8]) -> Vec<u8> {
    [b"gst-e2ee ", purpose.as_bytes(), b" v1\0", data].concat()
}

/// A public key, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Can there be a signature that it verifies? A point of low order, or what is no point, has none.
    pub fn can_verify(&self) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| !key.is_weak())
    }

    /// Is this the key's signature over the data, for this purpose? A key that is none has no signatures.
    pub fn verifies(&self, purpose: &str, data: &[u8], signature: &Signature) -> bool {
        self.verifies_bare(&to_be_signed(purpose, data), signature)
    }

    /// The same without a label, for formats that define their own (C2SP signed notes).
    pub fn verifies_bare(&self, data: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        // Strict: no second signature can be made from a first one.
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(data, &signature).is_ok())
    }
}

/// A signature, written as 128 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// Whoever holds a private key.
pub trait Signer: Send + Sync {
    /// The key that verifies.
    fn public(&self) -> PublicKey;
    /// Signs bytes that begin with a label of their own purpose.
    fn sign_bare(&self, data: &[u8]) -> Signature;
    /// Signs data for a purpose.
    fn sign(&self, purpose: &str, data: &[u8]) -> Signature {
        self.sign_bare(&to_be_signed(purpose, data))
    }
}

impl Signer for SigningKey {
    fn public(&self) -> PublicKey {
        PublicKey(self.verifying_key().to_bytes())
    }

    fn sign_bare(&self, data: &[u8]) -> Signature {
        Signature(ed25519_dalek::Signer::sign(self, data).to_bytes())
    }
}

hex_form!(PublicKey, "an Ed25519 public key");
hex_form!(Signature, "an Ed25519 signature");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_counts_for_its_key_purpose_and_data_only() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signature = key.sign("manifest", b"data");
        let public = key.public();
        assert!(public.verifies("manifest", b"data", &signature) && public.can_verify());
        assert!(!public.verifies("recording", b"data", &signature));
        assert!(!public.verifies("manifest", b"dat", &signature));
        let other = SigningKey::from_bytes(&[8; 32]).public();
        assert!(!other.verifies("manifest", b"data", &signature));
        for bit in 0..512 {
            let mut flipped = signature;
            flipped.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!public.verifies("manifest", b"data", &flipped), "bit {bit}");
        }
    }

    #[test]
    fn what_is_no_key_verifies_nothing() {
        let signature = Signature([0; 64]);
        for bytes in [[0; 32], [0xff; 32]] {
            assert!(!PublicKey(bytes).verifies("manifest", b"", &signature));
        }
        assert!(!PublicKey([0; 32]).can_verify());
    }
}
