//! A member: one finished age file in a tar that only grows.
//!
//! A member is a ustar header (POSIX.1-2017, pax), the age file, and zeros up to the next multiple of 512. Every byte of
//! the header follows from the member's place, its length and the recording's start, so that a verifier compares all of
//! it. Between a member and the next there is nothing, and no end-of-archive before the recording has ended: `tar` and
//! other readers take the end of the file for the archive's end.

use std::io;

use age::x25519::Recipient;

use super::manifest::{Medium, TrackId};
use crate::age_file::{SealError, seal};
use crate::digest::{Digest, Digester};

/// Unit of a tar.
pub const BLOCK: usize = 512;
/// Two blocks of zeros say that a tar has ended.
pub const END_OF_ARCHIVE: usize = 2 * BLOCK;
/// Longest plaintext of a member, in bytes: what is decrypted stands in memory as a whole.
pub const MAX_SEGMENT: usize = 64 << 20;
/// Longest age file of a member.
pub const MAX_MEMBER: u64 = (MAX_SEGMENT + (1 << 20)) as u64;

/// The file of a track's tar, below `tracks/`.
pub fn tar_name(track: TrackId, medium: Medium) -> String {
    format!("{track}-{medium}.tar")
}

/// The path of a member in its tar.
pub fn member_name(track: TrackId, medium: Medium, sequence: u64) -> String {
    format!("{track}-{medium}/{sequence:08}.mkv.age")
}

/// The header of a member of so many bytes.
pub fn header(name: &str, bytes: u64, time: u64) -> [u8; BLOCK] {
    let mut header = tar::Header::new_ustar();
    // Cannot fail: our names are short and relative.
    let _ = header.set_path(name);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(bytes);
    header.set_mtime(time);
    header.set_cksum();
    *header.as_bytes()
}

/// How many zeros follow after so many bytes.
pub fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK as u64) - bytes
}

/// How much of a tar a member of so many bytes takes.
pub fn space(bytes: u64) -> u64 {
    BLOCK as u64 + bytes + padding(bytes)
}

/// A member as it is appended.
pub struct Member {
    /// Header, age file, zeros.
    pub member: Vec<u8>,
    /// Length of the age file.
    pub bytes: u64,
    /// Of the age file.
    pub sha256: Digest,
}

/// Seals a segment.
pub fn make(to: &Recipient, plaintext: &[u8], name: &str, time: u64) -> Result<Member, SealError> {
    let mut member = seal([to], plaintext, BLOCK)?;
    let (place, file) = member.split_at_mut(BLOCK);
    let bytes = file.len() as u64;
    let sha256 = Digest::of(file);
    place.copy_from_slice(&header(name, bytes, time));
    member.resize(member.len().next_multiple_of(BLOCK), 0);
    Ok(Member {
        member,
        bytes,
        sha256,
    })
}

/// What there is where a member should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The member.
    Whole,
    /// Another header, another content, or something in the padding.
    Changed,
    /// The end of the tar.
    Truncated,
}

/// Where a member lies, and what it must be.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Its path in the tar.
    pub name: &'a str,
    /// The time in its header.
    pub time: u64,
    /// Where its header begins.
    pub offset: u64,
    /// Length of its age file.
    pub bytes: u64,
    /// Of its age file.
    pub sha256: Digest,
}

/// Compares every byte of a member, through a buffer of some blocks. `read` reads at an offset, as much as it likes.
pub fn inspect(
    expected: &Expected,
    buffer: &mut [u8],
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<Found> {
    let header = header(expected.name, expected.bytes, expected.time);
    let (header_end, file_end) = (BLOCK as u64, BLOCK as u64 + expected.bytes);
    let end = space(expected.bytes);
    let mut digest = Digester::new();
    let mut same = true;
    let mut position = 0;
    while position < end {
        let most = usize::try_from(end - position)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let (place, _) = buffer.split_at_mut(most);
        let length = match read(place, expected.offset + position) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if length == 0 {
            return Ok(Found::Truncated);
        }
        // Which part of what was read lies in this part of the member.
        let part = |from: u64, to: u64| {
            let within =
                |at: u64| usize::try_from(at.saturating_sub(position)).map_or(length, |at| at.min(length));
            place.get(within(from)..within(to)).unwrap_or_default()
        };
        let head = part(0, header_end);
        if !head.is_empty() {
            let from = usize::try_from(position).unwrap_or(BLOCK);
            same &= header.get(from..from + head.len()) == Some(head);
        }
        digest.update(part(header_end, file_end));
        same &= part(file_end, end).iter().all(|byte| *byte == 0);
        position += length as u64;
    }
    Ok(if same && digest.finish() == expected.sha256 {
        Found::Whole
    } else {
        Found::Changed
    })
}
