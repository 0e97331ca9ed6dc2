//! Reads each entry of a log once: what is there at first, and later only what came since.

use std::io;

use super::damage::{Damage, Source};
use super::entry::{Entry, EntryError};
use super::frame::{self, HEADER, ReadAt, Step, Walk, first_link};
use super::log::CHECKPOINT;
use super::tree::Hash;
use crate::signing::PublicKey;

/// How far a log was read.
#[derive(Debug, Clone)]
pub(super) struct Follow {
    /// Where the next frame starts, the number of its entry, and the link of the one before.
    offset: u64,
    index: u64,
    link: Hash,
}

impl Follow {
    /// Of a log of which nothing was read yet.
    pub fn new(key: &PublicKey) -> Self {
        Self {
            offset: HEADER.len() as u64,
            index: 0,
            link: first_link(key),
        }
    }

    /// Shows what came since the last time, up to `end`, where a frame ends. Gives the damage that it found instead.
    pub fn read(
        &mut self,
        file: impl ReadAt,
        end: u64,
        mut take: impl FnMut(u64, Result<Entry, EntryError>),
    ) -> io::Result<Option<Damage>> {
        let mut walk = Walk::new(file, self.offset, end, self.index, self.link);
        loop {
            match walk.step()? {
                Step::Entry {
                    index,
                    offset,
                    entry,
                    link,
                    ..
                } => {
                    self.offset = offset + frame::length(entry);
                    (self.index, self.link) = (index + 1, link);
                    take(index, Entry::decode(entry));
                }
                Step::End { .. } => return Ok(None),
                Step::Fault(fault) => return Ok(Some(Damage::Fault(fault))),
                Step::Unfinished { index, offset } => {
                    return Ok(Some(Damage::Cut {
                        index,
                        offset,
                        size: index + 1,
                        source: Source::File(CHECKPOINT.to_owned()),
                    }));
                }
            }
        }
    }
}
