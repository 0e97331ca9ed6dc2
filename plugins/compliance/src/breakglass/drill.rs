//! The drill: the whole way of break-glass, tried on a canary: a recording that nobody needs, whose bundle was dealt like
//! any other. What it holds follows from its id, so that whoever opens it knows what must come out.
//!
//! A canary cannot be taken for a recording of people, and no such recording for a canary: it claims no room, its one
//! track has caps that nothing plays, and [`hold`] opens nothing else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::x25519::{Identity, Recipient};

use super::grant::{Grant, GrantError, grant};
use super::judge::Submitted;
use super::release::seal;
use crate::access::Opening;
use crate::audit::entry::{Claim as LoggedClaim, Custodians, Medium as LoggedMedium, Way};
use crate::audit::{Entry, Event, Id, Log, LogError, Text, TextError};
use crate::bundle::{BundleError, Escrow, take_next};
use crate::digest::Digest;
use crate::ids::RecordingId;
use crate::recording::{
    Claim, Index, Medium, Reader, RealDisk, Recording, RecordingError, Root, Segment, Start, Track, TrackId,
};
use crate::signing::PublicKey;

/// The room of a canary: no room has this name, because theirs are random.
const ROOM: &str = "drill";
/// The caps of a canary's track.
const CAPS: &str = "application/x-gst-e2ee-drill";
/// Members of a canary.
const MEMBERS: u64 = 3;
/// Bytes of each.
const BYTES: usize = 4096;

/// Why there is no canary.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// No bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An entry cannot be written.
    #[error("an entry of the log cannot be written: {0}")]
    Text(#[from] TextError),
}

/// Why a drill could not be done.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// It is a recording of people.
    #[error("{0} is no canary: a drill opens nothing else. gst-compliance drill make makes one")]
    NoCanary(PathBuf),
    /// The custodians' decisions could not even be judged.
    #[error(transparent)]
    Grant(GrantError),
    /// What came of it cannot be logged.
    #[error("the drill cannot be logged: {0}")]
    Log(#[from] LogError),
    /// An entry cannot be written.
    #[error("an entry of the log cannot be written: {0}")]
    Text(#[from] TextError),
    /// It did not work.
    #[error("the drill FAILED, and that is logged: {0}")]
    Failed(String),
}

/// What a member of a canary holds: a chain of SHA-256 that begins with the recording's id.
fn content(recording: RecordingId, sequence: u64) -> Vec<u8> {
    let mut link = Digest::of(format!("gst-e2ee drill {recording} {sequence}").as_bytes());
    let mut bytes = Vec::with_capacity(BYTES);
    while bytes.len() < BYTES {
        bytes.extend_from_slice(&link.0);
        link = Digest::of(&link.0);
    }
    bytes
}

/// Is it a canary?
pub fn is_canary(index: &Index) -> bool {
    let facts = index.facts();
    facts.claim == Claim::Unattested
        && facts.room.as_deref() == Some(ROOM)
        && facts.recorder.is_none()
        && matches!(index.tracks(), [track] if track.medium == Medium::Data && track.caps == CAPS)
}

/// Takes a bundle for custodians and makes a canary with it. `dealer`: who must have made it. `time`: now, unix time in
/// milliseconds. Its folder.
pub fn make(
    keys: &Path,
    dealer: PublicKey,
    location: &Path,
    log: &Log,
    time: u64,
) -> Result<PathBuf, MakeError> {
    let bundle = take_next(keys, Some(dealer), &|bundle| bundle.escrow().is_some())?;
    let recording = bundle.id();
    let drill = Id::new(ROOM)?;
    let append = |event| {
        log.append(&Entry {
            time,
            recording: Some(recording),
            event,
        })
    };
    // As for any recording: who can open it is in the log before it is there.
    append(Event::Started {
        recorder: drill.clone(),
        room: drill.clone(),
        epoch: 0,
        claim: LoggedClaim::Unattested,
        policy: None,
        consent: None,
        recipients: Vec::new(),
        custodians: bundle.escrow().map(|escrow| Custodians {
            threshold: escrow.m.into(),
            shares: escrow.n.into(),
            fingerprint: escrow.fingerprint,
        }),
        retention_days: None,
    })?;
    let start = Start {
        time,
        room: Some(ROOM.to_owned()),
        recorder: None,
        policy: None,
        claim: Claim::Unattested,
        consent: None,
        retention_days: None,
        attest: None,
    };
    let mut canary = Recording::create(location, &bundle, start, log.signer(), Arc::new(RealDisk))?;
    let track = canary.open_track(Track {
        medium: Medium::Data,
        caps: CAPS.to_owned(),
        leaf: None,
        sender: ROOM.to_owned(),
    })?;
    append(Event::TrackOpened {
        track: track.0,
        medium: LoggedMedium::Data,
        sender: drill.clone(),
        leaf: None,
    })?;
    const SECOND: u64 = 1_000_000_000;
    for sequence in 0..MEMBERS {
        canary.append(
            track,
            Segment {
                bytes: content(recording, sequence).into(),
                from_ns: sequence * SECOND,
                to_ns: (sequence + 1) * SECOND,
                epoch: (0, 0),
                leaf: None,
                frames: 1,
                keyframes: None,
            },
        )?;
    }
    canary.end(time, ROOM)?;
    let Root { lines, root } = canary.root();
    append(Event::Stopped {
        cause: drill,
        lines,
        root,
    })?;
    Ok(canary.path().to_owned())
}

/// Opens a canary by the decisions of its custodians as [`grant`] and [`Opening::unlock_together`] do, seals what comes out
/// to the requester, compares it, and keeps nothing. What was found is logged, also where it did not work. `by`: who holds
/// the drill. `time`: now, unix time in milliseconds. Gives what was found.
pub fn hold(
    opening: Opening,
    key: &Identity,
    custodians: &Escrow,
    files: &[Submitted],
    by: &Id,
    time: u64,
) -> Result<Text, DrillError> {
    if !is_canary(opening.index()) {
        return Err(DrillError::NoCanary(opening.index().path().to_owned()));
    }
    let log = opening.log().clone();
    let recording = opening.index().facts().recording;
    let (access, found) = match grant(&opening, key, custodians, files, time) {
        Ok(grant) => (grant.asked().access.clone(), open(opening, grant, time)),
        Err(GrantError::Refused(refused)) => {
            let access = match &refused.asked {
                Some(asked) => asked.access.clone(),
                None => Id::new("unknown")?,
            };
            (access, Err(refused.to_string()))
        }
        Err(error) => return Err(DrillError::Grant(error)),
    };
    let passed = found.is_ok();
    let result = Text::lossy(&match &found {
        Ok(found) | Err(found) => found.replace('\n', ";"),
    });
    log.append(&Entry {
        time,
        recording: Some(recording),
        event: Event::Drill {
            access,
            by: by.clone(),
            passed,
            result: result.clone(),
        },
    })?;
    log.checkpoint()?;
    match found {
        Ok(_) => Ok(result),
        Err(why) => Err(DrillError::Failed(why)),
    }
}

fn open(opening: Opening, grant: Grant, time: u64) -> Result<String, String> {
    let recording = opening.index().facts().recording;
    let (to, approved) = (grant.asked().recipient.clone(), grant.approved().len());
    let unlocked = opening.unlock_together(grant, Way::Drill, time);
    let (mut reader, access) = unlocked.map_err(|error| error.to_string())?;
    let compared = compare(&mut reader, recording, &to);
    let ended = access.end(MEMBERS, time).map_err(|error| error.to_string());
    compared.and(ended)?;
    Ok(format!(
        "{approved} custodians opened the canary, and it held what it should"
    ))
}

fn compare(reader: &mut Reader, recording: RecordingId, to: &Recipient) -> Result<(), String> {
    const TRACK: TrackId = TrackId(0);
    let members = reader
        .index()
        .track(TRACK)
        .map_or(0, |track| track.members.len() as u64);
    if members != MEMBERS {
        return Err(format!("it has {members} members, and not {MEMBERS}"));
    }
    for sequence in 0..MEMBERS {
        let found = reader
            .member(TRACK, sequence)
            .map_err(|error| error.to_string())?;
        if *found != content(recording, sequence) {
            return Err(format!("member {sequence} is not what it should be"));
        }
    }
    // As it would go out, to nowhere.
    let sealed = seal(reader, TRACK, to, &mut io::sink(), Path::new("nowhere"));
    sealed.map(drop).map_err(|error| error.to_string())
}
