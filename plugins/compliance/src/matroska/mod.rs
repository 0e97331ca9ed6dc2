//! Matroska as `matroskamux streamable=true` writes it: cuts its byte stream in front of its Clusters, and reads the
//! blocks of a Cluster with their times (RFC 9559, RFC 8794). Pure.
//!
//! A stream is a header (EBML header, start of the Segment, Info, Tracks) and then Clusters. Header and Clusters, each
//! as it was cut, make a playable stream again when they are put together in their order, whichever Clusters of the end
//! are missing. That is what a recording's members are made of.
//!
//! What comes in may be anything: lengths are held against bounds before anything is kept, and what is not this form
//! of Matroska is an error.

mod blocks;
mod cutter;
mod ebml;
mod header;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use blocks::{Block, blocks};
pub use cutter::{Cluster, Cutter, Piece};
pub use header::Header;

/// Most bytes of a header.
pub const MAX_HEADER: usize = 1 << 20;

/// Most bytes of a Cluster.
pub const MAX_CLUSTER: usize = 64 << 20;

/// Nanoseconds of a tick where the header does not say (RFC 9559 §5.1.2.9).
pub const DEFAULT_SCALE: u64 = 1_000_000;

/// Why bytes are not the expected form of Matroska.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MatroskaError {
    /// Not the first bytes of an element (RFC 8794 §4, §5).
    #[error("no element of Matroska begins at byte {at}")]
    NoElement {
        /// Offset in the stream.
        at: u64,
    },
    /// An element that does not belong there.
    #[error("element {id:x} at byte {at} does not belong there")]
    Misplaced {
        /// Id of the element, its marker bits included.
        id: u32,
        /// Offset in the stream.
        at: u64,
    },
    /// An element whose size is not known where it must be.
    #[error("element {id:x} at byte {at} does not say its size")]
    UnknownSize {
        /// Id of the element.
        id: u32,
        /// Offset in the stream.
        at: u64,
    },
    /// A header or a Cluster that is larger than its bound, or an element that is larger than what it is in.
    #[error("element {id:x} at byte {at} is too large")]
    TooLarge {
        /// Id of the element.
        id: u32,
        /// Offset in the stream.
        at: u64,
    },
    /// An element whose contents are not what they must be, such as a Block in front of its Cluster's time.
    #[error("element {id:x} at byte {at} has impossible contents")]
    BadContents {
        /// Id of the element.
        id: u32,
        /// Offset in the stream.
        at: u64,
    },
    /// The stream ends, or is cut, in the middle of an element.
    #[error("the stream ends in the middle of an element, which began at byte {at}")]
    Unfinished {
        /// Offset in the stream.
        at: u64,
    },
}
