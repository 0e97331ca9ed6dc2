//! How far the log knows the manifests of recordings. An index that reads each entry once: what was there when it is
//! asked first, and later only what came since.

use std::collections::HashMap;
use std::io;

use super::damage::{Damage, Source};
use super::entry::{Entry, Event};
use super::frame::{self, HEADER, ReadAt, Step, Walk, first_link};
use super::log::CHECKPOINT;
use super::tree::Hash;
use crate::ids::RecordingId;
use crate::recording::Root;
use crate::signing::PublicKey;

/// How far a log was read: each entry once, however often it is read on.
pub(super) struct Scan {
    /// Where the next frame starts, the number of its entry, and the link of the one before.
    offset: u64,
    index: u64,
    link: Hash,
}

impl Scan {
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
        mut show: impl FnMut(&Entry),
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
                    // One of a later version says nothing that is known here.
                    if let Ok(entry) = Entry::decode(entry) {
                        show(&entry);
                    }
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

/// The greatest root of each recording, as far as the log was read.
pub(super) struct Roots {
    scan: Scan,
    known: HashMap<RecordingId, Root>,
}

impl Roots {
    /// Of a log of which nothing was read yet.
    pub fn new(key: &PublicKey) -> Self {
        Self {
            scan: Scan::new(key),
            known: HashMap::new(),
        }
    }

    /// Reads what came since the last time, up to `end`, where a frame ends. Gives the damage that it found instead.
    pub fn read(&mut self, file: impl ReadAt, end: u64) -> io::Result<Option<Damage>> {
        let known = &mut self.known;
        self.scan.read(file, end, |entry| {
            let (Some(recording), Some(root)) = (entry.recording, root(&entry.event)) else {
                return;
            };
            let known = known.entry(recording).or_insert(root);
            if known.lines <= root.lines {
                *known = root;
            }
        })
    }

    /// How far the manifest of this recording went at least.
    pub fn of(&self, recording: RecordingId) -> Option<Root> {
        self.known.get(&recording).copied()
    }
}

/// The root that an entry tells.
fn root(event: &Event) -> Option<Root> {
    match event {
        Event::Manifest { lines, root }
        | Event::Stopped { lines, root, .. }
        | Event::Recovered { lines, root, .. } => Some(Root {
            lines: *lines,
            root: *root,
        }),
        _ => None,
    }
}
