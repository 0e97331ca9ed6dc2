//! Asking, at the opening station: the request stands in the log before anybody is asked.

use std::io;
use std::path::{Path, PathBuf};

use age::x25519::Recipient;

use super::judge::Misuse;
use super::request::{Request, file};
use super::{Asked, MAX_LIFETIME, NotAsked, STATION};
use crate::access::{AccessError, Opening, random_id};
use crate::audit::{Entry, Event, Id, LogError, Text, TextError};
use crate::bundle::{self, STATEMENT_FILE, read_bounded, share_name};
use crate::recording::{KeyHolders, RECORDING_FILE, REWRAP_FILE, facts};

/// What somebody wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Who asks.
    pub requester: Id,
    /// The requester's one-time key.
    pub recipient: Recipient,
    /// Why.
    pub reason: Text,
    /// The case that it belongs to.
    pub ticket: Text,
    /// For how long, in milliseconds: at most [`MAX_LIFETIME`].
    pub lifetime: u64,
}

/// Why nothing was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No recording, no log, another log.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The log takes no entry.
    #[error("the request cannot be logged, so nobody is asked: {0}")]
    Log(#[from] LogError),
    /// It would not be a request.
    #[error("the request {0}")]
    NotAsked(#[from] NotAsked),
    /// Recipients open alone.
    #[error("{0} is not under escrow: its recipients open it alone (gst-compliance open --identity)")]
    NoEscrow(PathBuf),
    /// The log must say who and why.
    #[error("an entry of the log cannot be written: {0}")]
    Text(#[from] TextError),
    /// A file of the recording.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Without it no custodian can check anything.
    #[error("{0} is damaged: gst-compliance verify says what is left")]
    Damaged(PathBuf),
    /// Too few shares are left.
    #[error("{0}. The request is logged, and was refused")]
    Refused(Misuse),
    /// It cannot be written.
    #[error("the request cannot be written: {0}")]
    Form(String),
}

/// A request that the log has.
#[derive(Debug)]
pub struct Made {
    /// What is asked.
    pub asked: Asked,
    /// The file for the custodians.
    pub request: Vec<u8>,
    /// Shares that cannot be approved with.
    pub left_out: Vec<Misuse>,
}

/// Asks: logs it, and makes the file for the custodians. `station`: the one-time key that only this station has. `time`:
/// now, unix time in milliseconds.
pub fn ask(opening: &Opening, wanted: Wanted, station: &Recipient, time: u64) -> Result<Made, AskError> {
    let facts = opening.index().facts();
    let folder = opening.index().path();
    let holders = opening.index().holders();
    let escrow = holders
        .escrow
        .as_ref()
        .ok_or_else(|| AskError::NoEscrow(folder.to_owned()))?;
    let read = |name: &str, limit| {
        let path = folder.join(name);
        read_bounded(&path, limit).map_err(|error| AskError::Io { path, error })
    };
    let text = |name: &str, limit| {
        let bytes = read(name, limit)?;
        String::from_utf8(bytes).map_err(|_| AskError::Damaged(folder.join(name)))
    };
    let recording = text(RECORDING_FILE, facts::MAX_FILE)?;
    let statement = text(STATEMENT_FILE, bundle::MAX_FILE)?;
    if !file(&facts.files, STATEMENT_FILE).is_some_and(|file| file.is_of(statement.as_bytes())) {
        return Err(AskError::Damaged(folder.join(STATEMENT_FILE)));
    }
    let rewrap = match holders.number {
        0 => None,
        _ => Some(text(&holders.in_folder(REWRAP_FILE), bundle::MAX_FILE)?),
    };
    let (mut shares, mut left_out) = (Vec::new(), Vec::new());
    for index in 1..=escrow.n {
        match share(folder, holders, index) {
            Ok(bytes) => shares.push((index, bytes)),
            Err(misuse) => left_out.push(misuse),
        }
    }

    let access = random_id()?;
    let entry = |event| Entry {
        time,
        recording: Some(facts.recording),
        event,
    };
    let requested = entry(Event::AccessRequested {
        access: access.clone(),
        requester: wanted.requester,
        recipient: Id::new(&wanted.recipient.to_string())?,
        station: Id::new(&station.to_string())?,
        reason: wanted.reason,
        ticket: wanted.ticket,
        expires: time.saturating_add(wanted.lifetime.min(MAX_LIFETIME + 1)),
    });
    let asked = Asked::of(&requested)?;
    let refused = (shares.len() < usize::from(escrow.m)).then_some(Misuse::TooFew {
        needed: escrow.m,
        given: shares.len(),
    });
    let mut entries = vec![requested];
    for misuse in left_out.iter().chain(&refused) {
        entries.push(entry(Event::AccessDenied {
            access: access.clone(),
            by: Id::new(STATION)?,
            reason: misuse.reason(),
        }));
    }
    let appended = opening.log().append_all(&entries)?;
    if let Some(misuse) = refused {
        return Err(AskError::Refused(misuse));
    }
    let request = Request {
        proof: opening.log().inclusion(appended.index)?,
        recording,
        bundle: statement,
        rewrap,
        shares,
    };
    Ok(Made {
        asked,
        request: request.encode().map_err(AskError::Form)?,
        left_out,
    })
}

/// A share's file, where it is the one that was made for its custodian, when the key was dealt or wrapped to others.
fn share(folder: &Path, holders: &KeyHolders, index: u8) -> Result<Vec<u8>, Misuse> {
    let name = share_name(index);
    let wrong = |why| {
        let name = name.clone();
        Misuse::ShareFile { name, why }
    };
    let bytes = read_bounded(&holders.place(folder, &name), bundle::MAX_FILE)
        .map_err(|_| wrong("is missing, or cannot be read"))?;
    if !file(&holders.files, &name).is_some_and(|file| file.is_of(&bytes)) {
        return Err(wrong(
            "is not the file that was made for this recording (damaged, or of another recording)",
        ));
    }
    Ok(bytes)
}
