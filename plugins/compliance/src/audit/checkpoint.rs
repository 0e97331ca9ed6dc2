//! What a log signs: its size and the root of its tree, as a C2SP checkpoint (c2sp.org/tlog-checkpoint) in a signed note
//! (c2sp.org/signed-note), and the cosignatures of witnesses on it (c2sp.org/tlog-cosignature, `cosignature/v1`).
//!
//! Notes come from outside: they are short, have one exact form, and nothing in them counts before a signature of a key
//! that the reader knew before.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::tree::{Hash, MAX_SIZE, hash};
use crate::signing::{PublicKey, Signature, Signer};

/// Longest note, in bytes.
pub const MAX_NOTE: usize = 16 << 10;

/// Most signatures of a note.
const MAX_SIGNATURES: usize = 64;

/// What a key signs, as the byte that tells one kind of signature from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Notes: a log's own signature.
    Log,
    /// Cosignatures with a time: a witness's.
    Witness,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Log => 0x01,
            Self::Witness => 0x04,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Log => "audit",
            Self::Witness => "witness",
        }
    }
}

/// A public key with its name, written as Go's `note` package and C2SP write it: `name+id+key`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerifierKey {
    name: String,
    kind: Kind,
    key: PublicKey,
}

impl VerifierKey {
    /// The key under the name that is its own: `gst-e2ee/audit/` or `gst-e2ee/witness/` and the first 16 bytes of the
    /// key's SHA-256. Whoever knows the name of a log cannot be given another key for it.
    pub fn named(kind: Kind, key: PublicKey) -> Self {
        let name = format!("gst-e2ee/{}/{}", kind.word(), short(&key));
        Self { name, kind, key }
    }

    /// The name: a log's origin, a witness's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The last part of its own name, good as a file's name.
    pub fn short(&self) -> String {
        short(&self.key)
    }

    /// Is the name the one that the key gives?
    pub fn is_named_by_key(&self) -> bool {
        *self == Self::named(self.kind, self.key)
    }

    fn id(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = hash(&[self.name.as_bytes(), b"\n", &[self.kind.byte()], &self.key.0]);
        [a, b, c, d]
    }
}

fn short(key: &PublicKey) -> String {
    hex::encode(&hash(&[&key.0])[..16])
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[self.kind.byte()], &self.key.0[..]].concat());
        write!(f, "{}+{}+{key}", self.name, hex::encode(self.id()))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no verifier key: expected NAME+ID+KEY, as the file `vkey` of a log or a witness holds it")]
pub struct NotAKey;

impl FromStr for VerifierKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let mut parts = text.splitn(3, '+');
        let name = parts.next().filter(|name| is_name(name)).ok_or(NotAKey)?;
        let key = parts.nth(1).ok_or(NotAKey)?;
        let key = STANDARD.decode(key).map_err(|_| NotAKey)?;
        let (kind, key) = key.split_first().ok_or(NotAKey)?;
        let kind = [Kind::Log, Kind::Witness]
            .into_iter()
            .find(|known| known.byte() == *kind)
            .ok_or(NotAKey)?;
        let key = Self {
            name: name.to_owned(),
            kind,
            key: PublicKey(key.try_into().map_err(|_| NotAKey)?),
        };
        // With the right id, and nothing written in another way.
        if key.to_string() == text {
            Ok(key)
        } else {
            Err(NotAKey)
        }
    }
}

/// A name in a note: of ours, and of witnesses elsewhere.
fn is_name(name: &str) -> bool {
    (1..=200).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+')
}

/// A log's size and root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: its origin.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    fn parse(body: &str) -> Option<Self> {
        let mut lines = body.split('\n');
        let checkpoint = Self {
            origin: lines.next().filter(|name| is_name(name))?.to_owned(),
            size: lines.next()?.parse().ok().filter(|size| *size <= MAX_SIZE)?,
            root: STANDARD.decode(lines.next()?).ok()?.try_into().ok()?,
        };
        // No further lines, and each number in one form.
        (checkpoint.body() == body).then_some(checkpoint)
    }
}

/// A signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    name: String,
    id: [u8; 4],
    signature: Vec<u8>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signature = STANDARD.encode([&self.id, &self.signature[..]].concat());
        write!(f, "\u{2014} {} {signature}", self.name)
    }
}

impl FromStr for Line {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let parse = || {
            let (name, signature) = text.strip_prefix("\u{2014} ")?.split_once(' ')?;
            let signature = STANDARD.decode(signature).ok()?;
            let (id, signature) = signature.split_first_chunk()?;
            is_name(name).then(|| Self {
                name: name.to_owned(),
                id: *id,
                signature: signature.to_vec(),
            })
        };
        parse().ok_or(NoteError::Malformed)
    }
}

impl Line {
    fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name && self.id == key.id()
    }

    /// Whose it says that it is.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A checkpoint that cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a checkpoint in a signed note.
    #[error("is no checkpoint in a signed note")]
    Malformed,
    /// Of another log.
    #[error("is a checkpoint of another log")]
    OtherLog,
    /// A key that should have signed it did not.
    #[error("is not signed by the expected key")]
    Unsigned,
    /// A signature that says it is a known key's is not.
    #[error("has a wrong signature: it is forged or damaged")]
    Forged,
}

/// A checkpoint with signatures, none of which was checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    checkpoint: Checkpoint,
    lines: Vec<Line>,
}

impl Note {
    /// Signs a checkpoint as the log itself.
    pub fn sign(checkpoint: Checkpoint, signer: &dyn Signer) -> Self {
        let key = VerifierKey::named(Kind::Log, signer.public());
        let signature = signer.sign_bare(checkpoint.body().as_bytes()).0.to_vec();
        let line = Line {
            id: key.id(),
            name: key.name,
            signature,
        };
        Self {
            checkpoint,
            lines: vec![line],
        }
    }

    /// Reads a note.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let parse = || {
            if text.len() > MAX_NOTE {
                return None;
            }
            let (body, lines) = text.split_once("\n\n")?;
            let checkpoint = Checkpoint::parse(&format!("{body}\n"))?;
            let lines = lines.strip_suffix('\n')?.split('\n');
            let lines: Vec<Line> = lines
                .take(MAX_SIGNATURES + 1)
                .map(|line| line.parse().ok())
                .collect::<Option<_>>()?;
            (lines.len() <= MAX_SIGNATURES).then_some(Self { checkpoint, lines })
        };
        parse()
            .filter(|note| note.to_string() == text)
            .ok_or(NoteError::Malformed)
    }

    /// What it says, where this log signed it.
    pub fn of_log(&self, log: &VerifierKey) -> Result<&Checkpoint, NoteError> {
        if self.checkpoint.origin != log.name {
            return Err(NoteError::OtherLog);
        }
        let body = self.checkpoint.body();
        self.check(log, |signature| {
            let signature = Signature(signature.try_into().ok()?);
            log.key.verifies_bare(body.as_bytes(), &signature).then_some(())
        })?;
        Ok(&self.checkpoint)
    }

    /// When this witness cosigned it, the last time: seconds since 1970.
    pub fn cosigned(&self, witness: &VerifierKey) -> Result<u64, NoteError> {
        self.check(witness, |bytes| {
            let (time, signature) = bytes.split_first_chunk()?;
            let time = u64::from_be_bytes(*time);
            let signature = Signature(signature.try_into().ok()?);
            let message = self.cosigned_message(time);
            (time <= i64::MAX as u64 && witness.key.verifies_bare(&message, &signature)).then_some(time)
        })
    }

    /// The greatest of what the signatures of a key say. One that is wrong spoils the note.
    fn check<T: Ord>(&self, key: &VerifierKey, verify: impl Fn(&[u8]) -> Option<T>) -> Result<T, NoteError> {
        let lines = self.lines.iter().filter(|line| line.is_by(key));
        let said: Vec<T> = lines
            .map(|line| verify(&line.signature).ok_or(NoteError::Forged))
            .collect::<Result<_, _>>()?;
        said.into_iter().max().ok_or(NoteError::Unsigned)
    }

    fn cosigned_message(&self, time: u64) -> Vec<u8> {
        format!("cosignature/v1\ntime {time}\n{}", self.checkpoint.body()).into_bytes()
    }

    /// A witness's signature on it. Whether it may be given is the witness's business.
    pub fn cosign(&self, witness: &VerifierKey, signer: &dyn Signer, time: u64) -> Line {
        let signature = signer.sign_bare(&self.cosigned_message(time));
        Line {
            name: witness.name.clone(),
            id: witness.id(),
            signature: [&time.to_be_bytes(), &signature.0[..]].concat(),
        }
    }

    /// Adds a signature, in place of an earlier one by the same key.
    pub fn add(&mut self, line: Line) {
        self.lines
            .retain(|known| (&known.name, known.id) != (&line.name, line.id));
        self.lines.push(line);
    }

    /// What it says, checked or not.
    pub fn unverified(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Its signatures, checked or not.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.checkpoint.body())?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests;
