//! Shamir's shares of a recording's identity, over GF(2⁸), byte by byte of its text.
//!
//! What each share says of itself (recording, index, M, N, public key) is there because recombination alone gives a
//! wrong secret without a word where a share is of something else, is damaged, or is missing.

use std::fmt;

use age::x25519::Identity;
use blahaj::Sharks;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::EscrowFacts;
use crate::age_file::identity_text;
use crate::ids::RecordingId;

/// Length of an identity's text.
const IDENTITY: usize = 74;

/// One custodian's share, as its file says when it is decrypted. Secret.
#[derive(PartialEq, Eq)]
pub struct Share {
    facts: Facts,
    points: Zeroizing<Vec<u8>>,
}

/// What a share says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    recording: RecordingId,
    index: u8,
    m: u8,
    n: u8,
    public: String,
}

/// The JSON of a share.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form<'a> {
    version: u32,
    recording: RecordingId,
    index: u8,
    m: u8,
    n: u8,
    public: String,
    /// Hex: never an escape, so that it is read in place.
    share: &'a str,
}

/// Why shares give no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Not what `keys prepare` wrote.
    #[error("is no share of a recording's key")]
    Form,
    /// Shares of different recordings, or dealt at different times.
    #[error("share {0} is of another recording, or of another dealing, than the first")]
    Another(u8),
    /// The same share a second time.
    #[error("share {0} is there twice")]
    Twice(u8),
    /// Fewer than M.
    #[error("{needed} shares are needed, {given} are there")]
    TooFew {
        /// M.
        needed: u8,
        /// So many are there.
        given: usize,
    },
    /// The identity's public half is not the recording's.
    #[error("the shares do not give the recording's key: at least one of them is damaged or forged")]
    Wrong,
}

impl Share {
    /// Reads a share's plaintext.
    pub fn decode(plaintext: &[u8]) -> Result<Self, ShareError> {
        let form: Form<'_> = serde_json::from_slice(plaintext).map_err(|_| ShareError::Form)?;
        let mut points = Zeroizing::new(vec![0; IDENTITY]);
        hex::decode_to_slice(form.share, &mut points).map_err(|_| ShareError::Form)?;
        let facts = Facts {
            recording: form.recording,
            index: form.index,
            m: form.m,
            n: form.n,
            public: form.public,
        };
        if form.version != 1 || facts.m == 0 || facts.m > facts.n || !(1..=facts.n).contains(&facts.index) {
            return Err(ShareError::Form);
        }
        Ok(Self { facts, points })
    }

    /// Writes the plaintext: one line of JSON.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, ShareError> {
        let facts = &self.facts;
        let share = Zeroizing::new(hex::encode(&*self.points));
        let form = Form {
            version: 1,
            recording: facts.recording,
            index: facts.index,
            m: facts.m,
            n: facts.n,
            public: facts.public.clone(),
            share: &share,
        };
        // All of it at once: a vector that grows leaves its old bytes behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        serde_json::to_writer(&mut *bytes, &form).map_err(|_| ShareError::Form)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Which recording it opens, together with others.
    pub fn recording(&self) -> RecordingId {
        self.facts.recording
    }

    /// Its number among the N, from 1.
    pub fn index(&self) -> u8 {
        self.facts.index
    }

    /// So many shares are needed.
    pub fn m(&self) -> u8 {
        self.facts.m
    }

    /// So many there are.
    pub fn n(&self) -> u8 {
        self.facts.n
    }

    /// The public key of the recording.
    pub fn public(&self) -> &str {
        &self.facts.public
    }

    /// Is it the share of this number, of this recording, by what it says itself? Or else: of what it is.
    pub fn is_of(
        &self,
        recording: &RecordingId,
        public: &str,
        escrow: &EscrowFacts,
        index: u8,
    ) -> Result<(), String> {
        let Facts { m, n, .. } = self.facts;
        if self.facts.recording != *recording {
            return Err(format!("it is of recording {}", self.facts.recording));
        }
        if self.facts.index != index {
            return Err(format!("it is share {}, and not {index}", self.facts.index));
        }
        if self.facts.public != public || (m, n) != (escrow.m, escrow.n) {
            return Err("it was dealt for another key, or among others".to_owned());
        }
        Ok(())
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// Deals an identity to N shares, of which M give it back.
pub(super) fn deal(identity: &Identity, recording: RecordingId, m: u8, n: u8) -> Vec<Share> {
    let secret = identity_text(identity);
    let public = identity.to_public().to_string();
    let points = Sharks(m).dealer(secret.as_bytes());
    (1..=n)
        .zip(points)
        .map(|(index, point)| Share {
            facts: Facts {
                recording,
                index,
                m,
                n,
                public: public.clone(),
            },
            // The first byte is the index.
            points: Zeroizing::new(Vec::from(&point).split_off(1)),
        })
        .collect()
}

/// Puts shares together to the recording's identity. All that are given are used; M of them are needed.
pub fn combine<'a>(shares: impl IntoIterator<Item = &'a Share>) -> Result<Identity, ShareError> {
    let shares: Vec<&Share> = shares.into_iter().collect();
    let first = shares.first().ok_or(ShareError::TooFew { needed: 1, given: 0 })?;
    let mut seen = [false; 256];
    for Share { facts, .. } in &shares {
        let expected = Facts {
            index: facts.index,
            ..first.facts.clone()
        };
        if *facts != expected {
            return Err(ShareError::Another(facts.index));
        }
        if let Some(seen) = seen.get_mut(usize::from(facts.index))
            && std::mem::replace(seen, true)
        {
            return Err(ShareError::Twice(facts.index));
        }
    }
    let needed = first.facts.m;
    if shares.len() < usize::from(needed) {
        let given = shares.len();
        return Err(ShareError::TooFew { needed, given });
    }
    let points: Result<Vec<_>, _> = shares
        .iter()
        .map(|share| {
            let mut bytes = Zeroizing::new(Vec::with_capacity(1 + share.points.len()));
            bytes.push(share.facts.index);
            bytes.extend_from_slice(&share.points);
            blahaj::Share::try_from(bytes.as_slice()).map_err(|_| ShareError::Form)
        })
        .collect();
    let secret = Sharks(needed)
        .recover(&points?)
        .map(Zeroizing::new)
        .map_err(|_| ShareError::Wrong)?;
    let identity: Identity = std::str::from_utf8(&secret)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(ShareError::Wrong)?;
    if identity.to_public().to_string() != first.facts.public {
        return Err(ShareError::Wrong);
    }
    Ok(identity)
}

/// Puts a random M of the shares together, from their plaintexts: what the dealer does before it hands them out.
pub(super) fn test(plaintexts: &[Zeroizing<Vec<u8>>], m: u8, identity: &Identity) -> Result<(), String> {
    let random = SystemRandom::new();
    let mut order = Vec::with_capacity(plaintexts.len());
    for plaintext in plaintexts {
        let mut key = [0; 8];
        random
            .fill(&mut key)
            .map_err(|_| "the system gives no random numbers")?;
        order.push((key, plaintext));
    }
    order.sort_unstable_by_key(|(key, _)| *key);
    let shares: Result<Vec<_>, _> = order
        .iter()
        .take(usize::from(m))
        .map(|(_, plaintext)| Share::decode(plaintext))
        .collect();
    let combined = shares.and_then(|shares| combine(&shares));
    match combined {
        Ok(combined) if combined.to_public() == identity.to_public() => Ok(()),
        _ => Err("a test with the new shares did not give the key back".to_owned()),
    }
}
