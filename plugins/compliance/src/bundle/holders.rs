//! Who can open the recordings to come: recipients, each alone, or custodians, some of them together.
//!
//! Both are named by files that people write. What a room's policy names of them are fingerprints:
//! - of a recipient: SHA-256 of its text, `age1…`, without a line's end;
//! - of an escrow: SHA-256 of `gst-e2ee escrow v1`, `M of N` and the custodians in the order of their shares, each in a
//!   line of its own that ends with one line feed. Comments, blank lines and how many spaces there are do not count.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use age::x25519::Recipient;
use serde::{Deserialize, Serialize};

use super::{BundleError, read_bounded};
use crate::age_file::recipient;
use crate::audit::Id;
use crate::digest::Digest;
use crate::signing::PublicKey;

/// Longest file, in bytes.
const MAX_LIST: u64 = 64 * 1024;
/// Most recipients of a recording.
pub const MAX_RECIPIENTS: usize = 255;
/// Most custodians: their shares are points over a field of 256 elements, of which zero is the secret's.
pub const MAX_CUSTODIANS: usize = 255;

/// For whom a bundle is made.
#[derive(Debug, Clone)]
pub enum Holders {
    /// Each of them can open alone, with the plain `age` tool and unlogged.
    Recipients(Recipients),
    /// Only M of N of them can, together.
    Escrow(Escrow),
}

/// Recipients of recordings.
#[derive(Debug, Clone)]
pub struct Recipients(Vec<Recipient>);

/// Custodians of recordings.
#[derive(Debug, Clone)]
pub struct Escrow {
    m: u8,
    custodians: Vec<Custodian>,
}

/// Who gets one share of each recording's key, and signs what is decided about it. Written as
/// `age1… <64 hex digits of the signing key>`, and the person's id behind that where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Custodian {
    recipient: Recipient,
    signing: PublicKey,
    person: Option<Id>,
}

/// What a policy, a bundle and a recording say of an escrow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscrowFacts {
    /// Names the custodians, their order, and M.
    pub fingerprint: Digest,
    /// So many are enough.
    pub m: u8,
    /// So many there are.
    pub n: u8,
}

impl Recipients {
    /// Reads a file: one recipient a line, `#` comments.
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        let mut list = Vec::new();
        for (line, text) in lines(path)? {
            let key = recipient(&text).map_err(|error| at(path, line)(error.to_string()))?;
            if list.contains(&key) {
                return Err(at(path, line)("stands in the file already"));
            }
            list.push(key);
        }
        if list.is_empty() {
            return Err(BundleError::file(path, "names no recipient: nobody could open"));
        }
        if list.len() > MAX_RECIPIENTS {
            return Err(BundleError::file(
                path,
                format!("names more than {MAX_RECIPIENTS} recipients"),
            ));
        }
        Ok(Self(list))
    }

    /// The recipients.
    pub fn keys(&self) -> &[Recipient] {
        &self.0
    }

    /// Their fingerprints, sorted.
    pub fn fingerprints(&self) -> Vec<Digest> {
        let mut all: Vec<_> = self.0.iter().map(fingerprint).collect();
        all.sort_unstable();
        all
    }
}

impl Escrow {
    /// Reads a file: `M of N` first, then N custodians, one a line; `#` comments.
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        let mut lines = lines(path)?.into_iter();
        let (line, first) = lines.next().ok_or_else(|| {
            BundleError::file(
                path,
                "is empty: write `2 of 3` and three custodians (gst-compliance keys custodian)",
            )
        })?;
        let (m, n) = first
            .split_once(" of ")
            .and_then(|(m, n)| Some((m.parse::<u8>().ok()?, n.parse::<u8>().ok()?)))
            .filter(|(m, n)| 1 <= *m && m <= n)
            .ok_or_else(|| {
                at(path, line)("must say how many custodians are needed, of how many (1 to 255): `2 of 3`")
            })?;
        let mut custodians: Vec<Custodian> = Vec::new();
        for (line, text) in lines {
            let custodian: Custodian = text.parse().map_err(at(path, line))?;
            // One person with two shares would be two of the M.
            if custodians.iter().any(|known| known.is_like(&custodian)) {
                return Err(at(path, line)(
                    "has a key or a person that stands in the file already",
                ));
            }
            custodians.push(custodian);
        }
        if custodians.len() != usize::from(n) {
            let count = custodians.len();
            return Err(BundleError::file(
                path,
                format!("says {first} and names {count} custodians"),
            ));
        }
        Ok(Self { m, custodians })
    }

    /// The custodians, in the order of their shares.
    pub fn custodians(&self) -> &[Custodian] {
        &self.custodians
    }

    /// The custodian of this fingerprint, and the number of their share, from 1.
    pub fn find(&self, fingerprint: &Digest) -> Option<(u8, &Custodian)> {
        let mut numbered = (1..=u8::MAX).zip(&self.custodians);
        numbered.find(|(_, custodian)| custodian.fingerprint() == *fingerprint)
    }

    /// Fingerprint, M and N.
    pub fn facts(&self) -> EscrowFacts {
        // Not more than 255: see `read`.
        let n = u8::try_from(self.custodians.len()).unwrap_or(u8::MAX);
        let mut form = format!("gst-e2ee escrow v1\n{} of {n}\n", self.m);
        for custodian in &self.custodians {
            form.push_str(&format!("{custodian}\n"));
        }
        EscrowFacts {
            fingerprint: Digest::of(form.as_bytes()),
            m: self.m,
            n,
        }
    }
}

impl Custodian {
    /// A custodian with these keys. `person`: the id under which the same person would ask for a recording.
    pub fn new(recipient: Recipient, signing: PublicKey, person: Option<Id>) -> Self {
        Self {
            recipient,
            signing,
            person,
        }
    }

    /// What shares are sealed to.
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// What verifies their decisions.
    pub fn signing(&self) -> &PublicKey {
        &self.signing
    }

    /// Who that is, as the log names people.
    pub fn person(&self) -> Option<&Id> {
        self.person.as_ref()
    }

    /// By what the log names them: the fingerprint of the recipient.
    pub fn fingerprint(&self) -> Digest {
        fingerprint(&self.recipient)
    }

    fn is_like(&self, other: &Self) -> bool {
        let same_person = self.person.is_some() && self.person == other.person;
        self.recipient == other.recipient || self.signing == other.signing || same_person
    }
}

impl fmt::Display for Custodian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.recipient, self.signing)?;
        match &self.person {
            Some(person) => write!(f, " {person}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Custodian {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace();
        let key = recipient(words.next().unwrap_or_default()).map_err(|error| error.to_string())?;
        let signing = words.next().ok_or(
            "has no signing key: write what gst-compliance keys custodian prints for their identity",
        )?;
        let signing: PublicKey = signing.parse().map_err(|error| format!("{error}"))?;
        if !signing.can_verify() {
            return Err("has a signing key with which nothing can be signed".to_owned());
        }
        let person = words
            .next()
            .map(Id::new)
            .transpose()
            .map_err(|error| error.to_string())?;
        if words.next().is_some() {
            return Err("has more than two keys and an id".to_owned());
        }
        Ok(Self::new(key, signing, person))
    }
}

/// The fingerprint of a recipient.
pub fn fingerprint(recipient: &Recipient) -> Digest {
    Digest::of(recipient.to_string().as_bytes())
}

/// Lines that are neither blank nor comments, with their numbers.
fn lines(path: &Path) -> Result<Vec<(usize, String)>, BundleError> {
    let bytes = read_bounded(path, MAX_LIST).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => BundleError::file(path, "is no file, or longer than 64 KiB"),
        _ => BundleError::io(path)(error),
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|_| BundleError::file(path, "is no text"))?;
    Ok(text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| (number, line.to_owned()))
        .collect())
}

fn at<S: Into<String>>(path: &Path, line: usize) -> impl FnOnce(S) -> BundleError {
    let path = path.to_owned();
    move |why| BundleError::Line {
        path,
        line,
        why: why.into(),
    }
}
