//! Codes that people read to each other. Equal codes mean that both see the same; nothing in them is secret.
//!
//! The epoch code says that all look at the same group in the same epoch: it changes with every commit. The pair code
//! says that two endpoints see each other's true identity keys, whatever the CA did, and stays while these stay.

use std::sync::{Mutex, PoisonError};

use scrypt::Params;

use crate::identity::Identity;

/// Bytes of each group of five digits.
const GROUP: usize = 5;

/// Groups of an epoch code: 30 digits.
const EPOCH_GROUPS: usize = 6;

/// Groups of a pair code: 45 digits, some 149 bits.
const PAIR_GROUPS: usize = 9;

/// scrypt's N = 2^15, r = 8, p = 1 (RFC 7914 §2): 32 MiB and some 100 ms for each try of somebody who looks for a key
/// with nearly the same code. They belong to the code: who changes one of these values changes the label too.
const LOG_N: u8 = 15;
const R: u32 = 8;
const P: u32 = 1;

/// scrypt's salt: what the digits are for. The two identities are its password.
const PAIR_LABEL: &[u8] = b"gst-e2ee pair code v1";

/// One pair code at a time: each takes 32 MiB.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a pair code says of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityKey<'a> {
    /// SHA-256 of the root certificate.
    pub root: &'a [u8; 32],
    /// Subject id of the certificate (its common name).
    pub subject: &'a str,
    /// Public key of the certificate and of the leaf (Ed25519).
    pub public_key: &'a [u8; 32],
}

impl<'a> From<&'a Identity> for IdentityKey<'a> {
    fn from(identity: &'a Identity) -> Self {
        Self {
            root: &identity.root.0,
            subject: &identity.subject,
            public_key: &identity.public_key,
        }
    }
}

impl IdentityKey<'_> {
    /// The root, the subject behind its length (4 bytes, big-endian), the key: no two identities give the same bytes.
    fn encode(&self) -> Vec<u8> {
        // A subject of 4 GiB does not exist: certificates are bounded.
        let length = u32::try_from(self.subject.len()).unwrap_or(u32::MAX);
        [
            &self.root[..],
            &length.to_be_bytes(),
            self.subject.as_bytes(),
            self.public_key,
        ]
        .concat()
    }
}

/// The code of an epoch from its authenticator (RFC 9420 §8.7): 30 digits in 6 groups, each from 5 bytes.
///
/// Authenticators have 32 bytes or more. A shorter one gives no code (an empty string) rather than a shorter code.
pub fn epoch_code(epoch_authenticator: &[u8]) -> String {
    match epoch_authenticator.get(..EPOCH_GROUPS * GROUP) {
        Some(bytes) => digits(bytes),
        None => String::new(),
    }
}

/// The code of two endpoints: 45 digits in 9 groups, the same whoever comes first. Takes some 100 ms and 32 MiB.
pub fn pair_code(a: &IdentityKey, b: &IdentityKey) -> String {
    let mut both = [a.encode(), b.encode()];
    both.sort();
    let mut hash = [0; PAIR_GROUPS * GROUP];
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let hashed = Params::new(LOG_N, R, P, hash.len())
        .is_ok_and(|params| scrypt::scrypt(&both.concat(), PAIR_LABEL, &params, &mut hash).is_ok());
    // scrypt takes these parameters (a test would tell); if it ever did not, no code is better than one of zeros.
    if hashed { digits(&hash) } else { String::new() }
}

/// Each 5 bytes, big-endian, modulo 100000 (2^40 is so much more that no digit is likelier than another).
fn digits(bytes: &[u8]) -> String {
    let groups: Vec<String> = bytes
        .chunks_exact(GROUP)
        .map(|group| {
            let number = group.iter().fold(0u64, |n, byte| (n << 8) | u64::from(*byte));
            format!("{:05}", number % 100_000)
        })
        .collect();
    groups.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTING: [u8; 32] = {
        let mut bytes = [0; 32];
        let mut i = 0;
        while i < 32 {
            bytes[i] = i as u8;
            i += 1;
        }
        bytes
    };

    fn key<'a>(root: &'a [u8; 32], subject: &'a str, public_key: &'a [u8; 32]) -> IdentityKey<'a> {
        IdentityKey {
            root,
            subject,
            public_key,
        }
    }

    // The expected codes were computed with Python: int.from_bytes(group, "big") % 100000, hashlib.scrypt and
    // hashlib.sha256.

    #[test]
    fn epoch_codes_are_those_of_another_implementation() {
        assert_eq!(epoch_code(&COUNTING), "09060 60585 12110 63635 15160 66685");
        assert_eq!(epoch_code(&[0xff; 64]), "27775 27775 27775 27775 27775 27775");
        let hash = hex::decode("afc9b31d9f3f3645ae563606e1ddbe4b0e72b247e3bc9dff6251f5ee8961ae48").unwrap();
        assert_eq!(epoch_code(&hash), "35743 75926 99646 44967 47330 01633");
    }

    #[test]
    fn too_short_an_authenticator_gives_no_code() {
        assert_eq!(epoch_code(&[1; 29]), "");
        assert_eq!(epoch_code(&[]), "");
        assert_ne!(epoch_code(&[1; 30]), "");
    }

    #[test]
    fn pair_codes_are_those_of_another_implementation_in_both_orders() {
        let a = key(&COUNTING, "p-7f3a", &[0xa1; 32]);
        let b = key(&COUNTING, "r-ä", &[0xb2; 32]);
        let c = key(&[0xff; 32], "", &[0; 32]);
        for (one, other, code) in [
            (&a, &b, "84794 08698 87458 04696 08158 58761 42469 51461 17973"),
            (&b, &c, "96974 74352 71483 25964 35333 55183 65655 56140 47064"),
            (&a, &c, "24284 52147 79071 58711 34222 17195 73969 67546 73081"),
            (&a, &a, "86858 77038 47818 48703 99672 90520 20669 47868 12629"),
        ] {
            assert_eq!(pair_code(one, other), code);
            assert_eq!(pair_code(other, one), code);
        }
    }

    #[test]
    fn another_root_subject_or_key_gives_another_pair_code() {
        let peer = key(&[9; 32], "peer", &[9; 32]);
        let codes: std::collections::BTreeSet<String> = [
            key(&[1; 32], "a", &[2; 32]),
            key(&[3; 32], "a", &[2; 32]),
            key(&[1; 32], "b", &[2; 32]),
            key(&[1; 32], "a", &[3; 32]),
        ]
        .iter()
        .map(|other| pair_code(&peer, other))
        .collect();
        assert_eq!(codes.len(), 4);
    }

    #[test]
    fn where_one_field_ends_cannot_be_moved() {
        // "ab" and a key that begins with "c", "abc" and the rest: the same bytes without the length.
        let long = key(&[1; 32], "abc", &[b'c'; 32]);
        let short = key(&[1; 32], "ab", &[b'c'; 32]);
        assert_ne!(long.encode(), [short.encode(), vec![b'c']].concat());
        assert_ne!(long.encode()[..70], short.encode()[..70]);
    }
}
