//! How entries lie in the file: framed by length and CRC, numbered, and each linked to the one before.
//!
//! ```text
//! file   = "gst-e2ee audit log v1\n" *frame
//! frame  = length(4) index(8) crc(4) entry(length) link(32) crc(4)          integers big-endian
//! link   = SHA-256(link of the frame before || SHA-256(0x00 || entry))
//! ```
//!
//! The first crc is over length and index, the second over entry and link; the first frame's link goes on from
//! SHA-256(the file's first line || the log's public key). All this needs no secret: it *names* the place where a log
//! was damaged. That it was not rewritten as a whole is what signatures say.

use std::io;
use std::os::unix::fs::FileExt;

use super::entry::MAX_ENTRY;
use super::tree::{Hash, MAX_SIZE, hash, leaf};
use crate::signing::PublicKey;

/// The file's first line.
pub const HEADER: &[u8] = b"gst-e2ee audit log v1\n";

const HEAD: usize = 16;
const TAIL: usize = 36;

/// Longest frame, in bytes.
const MAX_FRAME: usize = HEAD + MAX_ENTRY + TAIL;

/// How many bytes are read at once.
const PIECE: usize = 256 << 10;

/// How much is tried, at most, to find the next frame after damage: a file that somebody filled with beginnings of
/// frames would keep a verifier busy for ever.
const MAX_TRIED: u64 = 256 << 20;

/// CRC-32 as in zip, Ethernet and everywhere (reflected, polynomial 0x04c11db7).
pub fn crc32(parts: &[&[u8]]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 {
                    crc >> 1 ^ 0xedb8_8320
                } else {
                    crc >> 1
                };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    let step = |crc: u32, byte: &u8| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8;
    !parts.iter().copied().flatten().fold(!0, step)
}

/// What the first frame's link goes on from: each log has its own.
pub fn first_link(key: &PublicKey) -> Hash {
    hash(&[HEADER, &key.0])
}

/// The link of an entry.
pub fn next_link(before: &Hash, leaf: &Hash) -> Hash {
    hash(&[before, leaf])
}

/// Appends an entry's frame to `out`.
pub fn encode(index: u64, entry: &[u8], link: &Hash, out: &mut Vec<u8>) {
    // An entry that was encoded has at most 16 KiB.
    let length = u32::try_from(entry.len()).unwrap_or(u32::MAX);
    let head = [&length.to_be_bytes()[..], &index.to_be_bytes()].concat();
    out.extend_from_slice(&head);
    out.extend_from_slice(&crc32(&[&head]).to_be_bytes());
    out.extend_from_slice(entry);
    out.extend_from_slice(link);
    out.extend_from_slice(&crc32(&[entry, link]).to_be_bytes());
}

/// The length of an entry's frame.
pub fn length(entry: &[u8]) -> u64 {
    (HEAD + entry.len() + TAIL) as u64
}

/// A whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    index: u64,
    /// Length of the entry.
    length: usize,
    link: Hash,
}

/// Length of the entry and index, where the first 16 bytes are a frame's.
fn head(bytes: &[u8]) -> Option<(usize, u64)> {
    let (head, _) = bytes.split_first_chunk::<HEAD>()?;
    let [l0, l1, l2, l3, i0, i1, i2, i3, i4, i5, i6, i7, crc @ ..] = *head;
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    let index = u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]);
    // In this order: the first rules out nearly everything, and costs nothing.
    let fits = (1..=MAX_ENTRY).contains(&length)
        && index < MAX_SIZE
        && crc32(&[&head[..HEAD - 4]]).to_be_bytes() == crc;
    fits.then_some((length, index))
}

/// The frame at the beginning of the bytes.
fn frame(bytes: &[u8]) -> Option<Frame> {
    let (length, index) = head(bytes)?;
    let (entry, tail) = bytes.get(HEAD..HEAD + length + TAIL)?.split_at(length);
    let (link, crc) = tail.split_first_chunk::<32>()?;
    (crc32(&[entry, link]).to_be_bytes()[..] == *crc).then_some(Frame {
        index,
        length,
        link: *link,
    })
}

/// Bytes that can be read at any place.
pub trait ReadAt {
    /// Reads at most so many bytes from there.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(bytes, offset)
    }
}

/// What comes next in the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// An entry that continues the log.
    Entry {
        /// Which.
        index: u64,
        /// Where its frame starts.
        offset: u64,
        /// Its bytes.
        entry: &'a [u8],
        /// Its leaf in the tree.
        leaf: Hash,
        /// Its link.
        link: Hash,
    },
    /// Something that is not as it was written; what follows can be read again.
    Fault(Fault),
    /// From here on there is no whole frame: the end was cut, or damaged, or never finished.
    Unfinished {
        /// The entry that would be there.
        index: u64,
        /// Where it would start.
        offset: u64,
    },
    /// The end, where a frame ends.
    End {
        /// How many entries there are.
        index: u64,
        /// The file's length.
        offset: u64,
    },
}

/// What is not as it was written, without regard to what was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Bytes `offset` to `end - 1` are no entry: the place of entries `index` to `next - 1`. Where that is none,
    /// something was put in.
    Unreadable {
        /// The first of them.
        index: u64,
        /// The first that can be read again.
        next: u64,
        /// Where they start.
        offset: u64,
        /// Where the next one starts.
        end: u64,
    },
    /// Entries `index` to `next - 1` are not there: `next` follows at once.
    Missing {
        /// The first of them.
        index: u64,
        /// What stands in its place.
        next: u64,
        /// Where.
        offset: u64,
    },
    /// An entry that has no business here: its number was there already.
    OutOfOrder {
        /// What should be here.
        index: u64,
        /// What is here.
        found: u64,
        /// Where.
        offset: u64,
    },
    /// The entry does not continue the one before it: one of the two is not what was written.
    Unlinked {
        /// Which.
        index: u64,
        /// Where.
        offset: u64,
    },
}

/// Reads a log from the beginning, or from where it was read to before.
pub struct Walk<R> {
    window: Window<R>,
    /// Where the next frame starts.
    offset: u64,
    /// The next entry's number.
    index: u64,
    /// The link of the entry before. None where that one is not known.
    link: Option<Hash>,
    /// The next entry was told of as one that does not continue the log, so that its own link says nothing either.
    suspect: bool,
    tried: u64,
}

impl<R: ReadAt> Walk<R> {
    /// From `offset`, where entry `index` starts and `link` is that of the entry before, to `end`.
    pub fn new(file: R, offset: u64, end: u64, index: u64, link: Hash) -> Self {
        let window = Window {
            file,
            end,
            start: offset,
            bytes: Vec::new(),
        };
        Self {
            window,
            offset,
            index,
            link: Some(link),
            suspect: false,
            tried: 0,
        }
    }

    /// From the first entry.
    pub fn from_start(file: R, end: u64, key: &PublicKey) -> Self {
        Self::new(file, HEADER.len() as u64, end, 0, first_link(key))
    }

    /// What comes next. After `Unfinished` and `End` there is nothing more.
    pub fn step(&mut self) -> io::Result<Step<'_>> {
        let (offset, index) = (self.offset, self.index);
        if offset >= self.window.end {
            return Ok(Step::End { index, offset });
        }
        let Some(found) = frame(self.window.at(offset)?) else {
            return self.resume();
        };
        let end = offset + (HEAD + found.length + TAIL) as u64;
        if found.index < index {
            self.offset = end;
            self.link = None;
            let found = found.index;
            return Ok(Step::Fault(Fault::OutOfOrder { index, found, offset }));
        }
        if found.index > index {
            self.index = found.index;
            self.link = None;
            let next = found.index;
            return Ok(Step::Fault(Fault::Missing { index, next, offset }));
        }
        let entry = self.window.at(offset)?.get(HEAD..HEAD + found.length);
        let leaf = leaf(entry.unwrap_or_default());
        if self
            .link
            .is_some_and(|before| next_link(&before, &leaf) != found.link)
        {
            // It comes again, as it is. Which of the two is wrong cannot be said.
            self.link = None;
            self.suspect = true;
            return Ok(Step::Fault(Fault::Unlinked { index, offset }));
        }
        self.link = (!std::mem::take(&mut self.suspect)).then_some(found.link);
        self.offset = end;
        self.index += 1;
        // Once more, because it is lent for as long as the caller wants.
        let entry = self.window.at(offset)?.get(HEAD..HEAD + found.length);
        Ok(Step::Entry {
            index,
            offset,
            entry: entry.unwrap_or_default(),
            leaf,
            link: found.link,
        })
    }

    /// There is no frame here: goes on where there is one again.
    fn resume(&mut self) -> io::Result<Step<'static>> {
        let (offset, index) = (self.offset, self.index);
        let Some((end, found)) = self.next_frame()? else {
            self.offset = self.window.end;
            return Ok(Step::Unfinished { index, offset });
        };
        self.offset = end;
        if found > index {
            self.index = found;
        }
        if found != index {
            self.link = None;
        }
        Ok(Step::Fault(Fault::Unreadable {
            index,
            next: self.index,
            offset,
            end,
        }))
    }

    /// Where the next whole frame stands after the one that cannot be read, and its number.
    fn next_frame(&mut self) -> io::Result<Option<(u64, u64)>> {
        for offset in self.offset + 1..self.window.end {
            let bytes = self.window.at(offset)?;
            let Some((length, _)) = head(bytes) else { continue };
            if let Some(frame) = frame(bytes) {
                return Ok(Some((offset, frame.index)));
            }
            self.tried += length as u64;
            if self.tried > MAX_TRIED {
                break;
            }
        }
        Ok(None)
    }
}

/// A part of the file in memory.
struct Window<R> {
    file: R,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<R: ReadAt> Window<R> {
    /// The bytes from there: a longest frame, or all that there are.
    fn at(&mut self, offset: u64) -> io::Result<&[u8]> {
        let wanted = (self.end.saturating_sub(offset)).min(MAX_FRAME as u64) as usize;
        let inside = |start: u64, length: usize| {
            let from = usize::try_from(offset.checked_sub(start)?).ok()?;
            (from + wanted <= length).then_some(from)
        };
        let from = match inside(self.start, self.bytes.len()) {
            Some(from) => from,
            None => {
                self.fill(offset)?;
                0
            }
        };
        Ok(self.bytes.get(from..).unwrap_or_default())
    }

    fn fill(&mut self, offset: u64) -> io::Result<()> {
        let length = self.end.saturating_sub(offset).min(PIECE as u64) as usize;
        self.start = offset;
        self.bytes.resize(length, 0);
        let mut filled = 0;
        while filled < length {
            match self
                .file
                .read_at(&mut self.bytes[filled..], offset + filled as u64)
            {
                // Shorter than it was: what is missing is missing.
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.truncate(filled);
        if filled < length {
            self.end = offset + filled as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
