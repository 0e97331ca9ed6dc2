//! Ed25519 signatures (RFC 8032), each under a label of its own purpose, so that none for one purpose counts for another.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The bytes that are signed for a purpose: `gst-e2ee <purpose> v1`, a zero byte, the data. `mlskeyring` signs in the
/// same form, so that one verifier serves both.
pub fn to_be_signed(purpose: &str, data: &[u8]) -> Vec<u8> {
    [b"gst-e2ee ", purpose.as_bytes(), b" v1\0", data].concat()
}

/// A public key, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
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

/// Text that is no key or signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} lower-case hex digits are needed")]
pub struct NotHex(usize);

macro_rules! hex_form {
    ($name:ident, $size:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotHex;

            fn from_str(text: &str) -> Result<Self, NotHex> {
                if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(NotHex(2 * $size));
                }
                let mut bytes = [0; $size];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| NotHex(2 * $size))?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_form!(PublicKey, 32);
hex_form!(Signature, 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_counts_for_its_key_purpose_and_data_only() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signature = key.sign("manifest", b"data");
        let public = key.public();
        assert!(public.verifies("manifest", b"data", &signature));
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
    }

    #[test]
    fn keys_and_signatures_have_one_form() {
        let key = SigningKey::from_bytes(&[7; 32]).public();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!(key.to_string().to_uppercase().parse::<PublicKey>().is_err());
        assert!("00".parse::<Signature>().is_err());
    }
}
