//! The audit log of the compliance recorder: who recorded what, and who opened it, when and why.
//!
//! Append-only entries in a file ([`frame`]), each on the disk before it is acknowledged ([`Log`]); a Merkle tree over
//! them ([`tree`]) whose root the log signs every second ([`checkpoint`]); witnesses that cosign it only where it grew
//! out of what they saw before ([`Witness`]); and a verifier that needs no secret and names what is wrong ([`verify`]).
//! The format and what it protects from are written down in `AUDIT-LOG.md`.
//!
//! It must never acknowledge an entry that is not on the disk, never cut off an entry that was signed, and never sign
//! what does not continue what it signed before.

pub mod checkpoint;
pub mod damage;
pub mod entry;
mod folder;
mod follow;
pub mod frame;
pub mod ledger;
mod log;
pub mod proof;
mod roots;
mod state;
pub mod text;
pub mod tree;
mod verify;
mod witness;

pub use checkpoint::{Checkpoint, Kind, Note, NoteError, VerifierKey};
pub use damage::{Damage, Source};
pub use entry::{Entry, EntryError, Event};
pub use folder::FolderError;
pub use ledger::{History, Ledger};
pub use log::{Appended, Health, Log, LogError};
pub use proof::{InclusionProof, ProofError, Request};
pub use text::{Id, Text, TextError};
pub use verify::{Anchor, Item, Reader, Report, VerifyError, VerifyOptions, named_key, verify};
pub use witness::{AnchorError, Anchored, Witness, WitnessError, anchor, seen_by};

#[cfg(test)]
mod tests;
