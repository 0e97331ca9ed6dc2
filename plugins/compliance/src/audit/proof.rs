//! Proofs that leave the log: that an entry is in it, for whoever knows the log's key and nothing else
//! (c2sp.org/tlog-proof, with the entry itself as `extra`); and what a witness needs to see that the log only grew
//! (c2sp.org/tlog-witness, the request of `add-checkpoint`).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{Checkpoint, Kind, MAX_NOTE, Note, NoteError, VerifierKey};
use super::entry::{Entry, EntryError, MAX_ENTRY};
use super::tree::{Hash, is_included};
use crate::signing::PublicKey;

/// Longest proof or request in text, in bytes: 64 hashes, an entry in base64, a note.
pub const MAX_PROOF: usize = 64 * 45 + MAX_ENTRY * 4 / 3 + MAX_NOTE + 1000;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// That an entry is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The entry's bytes.
    pub entry: Vec<u8>,
    /// Its number.
    pub index: u64,
    /// The hashes beside its way to the root.
    pub hashes: Vec<Hash>,
    /// The root, signed by the log.
    pub note: Note,
}

/// A proof that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It cannot be read.
    #[error("is no proof of an audit log's entry")]
    Malformed,
    /// Its checkpoint is not the log's.
    #[error("its checkpoint {0}")]
    Note(#[from] NoteError),
    /// The entry is not in the log, or not there.
    #[error("the entry is not in the log that its checkpoint covers, not at this place or not like this")]
    NotIncluded,
    /// The entry cannot be read.
    #[error("its entry cannot be read: {0}")]
    Entry(#[from] EntryError),
}

impl InclusionProof {
    /// The entry, where it is in the log of this key.
    pub fn verify(&self, log: &PublicKey) -> Result<(Entry, &Checkpoint), ProofError> {
        let checkpoint = self.note.of_log(&VerifierKey::named(Kind::Log, *log))?;
        let (size, root) = (checkpoint.size, &checkpoint.root);
        if !is_included(&self.entry, self.index, size, root, &self.hashes) {
            return Err(ProofError::NotIncluded);
        }
        Ok((Entry::decode(&self.entry)?, checkpoint))
    }

    /// Reads what `to_string` wrote.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let parse = || {
            let (head, note) = text.split_once("\n\n").filter(|_| text.len() <= MAX_PROOF)?;
            let mut lines = head.split('\n');
            lines.next().filter(|line| *line == FIRST_LINE)?;
            let entry = lines.next()?.strip_prefix("extra ")?;
            let entry = STANDARD.decode(entry).ok()?;
            let index = lines.next()?.strip_prefix("index ")?.parse().ok()?;
            Some(Self {
                entry,
                index,
                hashes: parse_hashes(lines)?,
                note: Note::parse(note).ok()?,
            })
        };
        parse()
            .filter(|proof| proof.to_string() == text)
            .ok_or(ProofError::Malformed)
    }
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = STANDARD.encode(&self.entry);
        write!(f, "{FIRST_LINE}\nextra {entry}\nindex {}\n", self.index)?;
        write_hashes(f, &self.hashes)?;
        write!(f, "\n{}", self.note)
    }
}

/// What a witness is asked: to cosign a checkpoint, which grew out of the one that it saw last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The size of the one that it saw last. 0: none.
    pub old: u64,
    /// The proof of consistency.
    pub hashes: Vec<Hash>,
    /// The new one.
    pub note: Note,
}

/// Text that is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no request to a witness: `gst-compliance audit anchor LOG --request` writes one")]
pub struct NotARequest;

impl Request {
    /// Reads what `to_string` wrote.
    pub fn parse(text: &str) -> Result<Self, NotARequest> {
        let parse = || {
            let (head, note) = text.split_once("\n\n").filter(|_| text.len() <= MAX_PROOF)?;
            let mut lines = head.split('\n');
            Some(Self {
                old: lines.next()?.strip_prefix("old ")?.parse().ok()?,
                hashes: parse_hashes(lines)?,
                note: Note::parse(note).ok()?,
            })
        };
        parse()
            .filter(|request| request.to_string() == text)
            .ok_or(NotARequest)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        write_hashes(f, &self.hashes)?;
        write!(f, "\n{}", self.note)
    }
}

fn write_hashes(f: &mut fmt::Formatter<'_>, hashes: &[Hash]) -> fmt::Result {
    hashes
        .iter()
        .try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))
}

fn parse_hashes<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Vec<Hash>> {
    lines
        .map(|line| STANDARD.decode(line).ok()?.try_into().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Event;
    use crate::audit::tree::{Claim, Edge, Prover, leaf};
    use crate::signing::Signer;
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    fn proof(size: u64, index: u64, key: &SigningKey) -> InclusionProof {
        let entries: Vec<_> = (0..size)
            .map(|time| {
                let event = Event::ClockJump { by_ms: -1 };
                Entry {
                    time,
                    recording: None,
                    event,
                }
            })
            .map(|entry| entry.encode().unwrap())
            .collect();
        let mut prover = Prover::new(size, Claim::Inclusion(index)).unwrap();
        let mut edge = Edge::default();
        for entry in &entries {
            prover.push(leaf(entry));
            edge.push(leaf(entry));
        }
        let (hashes, root) = prover.finish().unwrap();
        assert_eq!(root, edge.root());
        let origin = VerifierKey::named(Kind::Log, key.public()).name().to_owned();
        InclusionProof {
            entry: entries[index as usize].clone(),
            index,
            hashes,
            note: Note::sign(Checkpoint { origin, size, root }, key),
        }
    }

    #[test]
    fn a_proof_counts_for_the_log_that_is_pinned() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let proof = proof(6, 3, &key);
        let (entry, checkpoint) = proof.verify(&key.public()).unwrap();
        assert_eq!((entry.time, checkpoint.size), (3, 6));
        let other = SigningKey::from_bytes(&[8; 32]).public();
        assert_eq!(proof.verify(&other), Err(ProofError::Note(NoteError::OtherLog)));
        // Another log that says it is this one.
        let mut forged = proof.clone();
        let checkpoint = forged.note.unverified().clone();
        forged.note = Note::sign(checkpoint, &SigningKey::from_bytes(&[8; 32]));
        assert!(matches!(forged.verify(&key.public()), Err(ProofError::Note(_))));
    }

    #[test]
    fn every_byte_of_a_proof_matters() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let text = proof(6, 3, &key).to_string();
        let accepts =
            |text: &str| InclusionProof::parse(text).is_ok_and(|proof| proof.verify(&key.public()).is_ok());
        assert!(accepts(&text));
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let changed = String::from_utf8(bytes);
                assert!(!changed.is_ok_and(|text| accepts(&text)), "byte {at}, bit {bit}");
            }
            assert!(!text.is_char_boundary(at) || !accepts(&text[..at]), "cut at {at}");
        }
        assert!(!accepts(&format!("{text}\n")));
    }

    proptest! {
        #[test]
        fn any_entry_of_any_log_can_be_proved(size in 1..40u64, at in any::<prop::sample::Index>()) {
            let key = SigningKey::from_bytes(&[7; 32]);
            let proof = proof(size, at.index(size as usize) as u64, &key);
            let read = InclusionProof::parse(&proof.to_string()).unwrap();
            prop_assert_eq!(&read, &proof);
            prop_assert!(read.verify(&key.public()).is_ok());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[\\s\\S]{0,300}") {
            prop_assert!(InclusionProof::parse(&text).is_err());
            prop_assert!(Request::parse(&text).is_err());
        }
    }
}
