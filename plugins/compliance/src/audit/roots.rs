//! How far the log knows the manifests of recordings, and to whom it last knows their keys wrapped. An index that reads
//! each entry once: what was there when it is asked first, and later only what came since.

use std::collections::HashMap;
use std::io;

use super::damage::Damage;
use super::entry::{Entry, Event};
use super::follow::Follow;
use super::frame::ReadAt;
use crate::ids::RecordingId;
use crate::recording::{Rewrapping, Rewraps, Root};
use crate::signing::PublicKey;

/// What a log says of recordings, as far as it was read.
pub(super) struct Roots {
    follow: Follow,
    known: HashMap<RecordingId, Known>,
}

/// The greatest root of a recording, its last re-wrapping, and whether its key files were destroyed.
#[derive(Default, Clone, Copy)]
struct Known {
    root: Option<Root>,
    rewrapping: Option<Rewrapping>,
    shredded: bool,
}

impl Roots {
    /// Of a log of which nothing was read yet.
    pub fn new(key: &PublicKey) -> Self {
        Self {
            follow: Follow::new(key),
            known: HashMap::new(),
        }
    }

    /// Reads what came since the last time, up to `end`, where a frame ends. Gives the damage that it found instead.
    pub fn read(&mut self, file: impl ReadAt, end: u64) -> io::Result<Option<Damage>> {
        let known = &mut self.known;
        self.follow.read(file, end, |_, entry| {
            // One of a later version says nothing that is known here.
            if let Ok(entry) = entry {
                note(known, &entry);
            }
        })
    }

    /// How far the manifest of this recording went at least.
    pub fn of(&self, recording: RecordingId) -> Option<Root> {
        self.known.get(&recording)?.root
    }

    /// What became of this recording's key.
    pub fn rewraps(&self, recording: RecordingId) -> Rewraps {
        match self.known.get(&recording) {
            Some(known) if known.shredded => Rewraps::Shredded,
            Some(Known {
                rewrapping: Some(last),
                ..
            }) => Rewraps::Last(*last),
            _ => Rewraps::Never,
        }
    }
}

fn note(known: &mut HashMap<RecordingId, Known>, entry: &Entry) {
    let Some(recording) = entry.recording else { return };
    if let Some(root) = root(&entry.event) {
        let known = known.entry(recording).or_default().root.get_or_insert(root);
        if known.lines <= root.lines {
            *known = root;
        }
    }
    if let Some(rewrapping) = rewrapping(&entry.event) {
        known.entry(recording).or_default().rewrapping = Some(rewrapping);
    }
    if matches!(entry.event, Event::Shredded { .. }) {
        known.entry(recording).or_default().shredded = true;
    }
}

/// The root that an entry tells.
pub(super) fn root(event: &Event) -> Option<Root> {
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

/// The re-wrapping that an entry tells of.
pub(super) fn rewrapping(event: &Event) -> Option<Rewrapping> {
    match event {
        Event::Rewrapped {
            number, statement, ..
        } => Some(Rewrapping {
            number: *number,
            statement: *statement,
        }),
        _ => None,
    }
}
