//! What comes along with an export: the consent, an authorisation, an explanation. Read from files with bounds.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

use crate::consent::MAX_FILE;

/// Longest authorisation that is no Consent, in bytes: a scanned form.
pub const MAX_SCAN: usize = 10 << 20;
/// Longest explanation, in bytes.
pub const MAX_EXPLANATION: usize = 64 << 10;

/// A paper that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PaperError {
    /// The system refuses. Not which file: its name could be a person's.
    #[error("the {0} cannot be read: {1}")]
    Io(&'static str, io::Error),
    /// A folder, a socket, ….
    #[error("the {0} is no file")]
    NoFile(&'static str),
    /// Too much.
    #[error("the {0} has more than {1} bytes")]
    TooLong(&'static str, usize),
    /// Nobody could show it.
    #[error("the {0} is of no kind that is known: a FHIR R4 Consent (JSON), PDF, JPEG, PNG or plain text is")]
    Kind(&'static str),
    /// There is no text in it.
    #[error("the {0} is empty")]
    Empty(&'static str),
}

/// An authorisation by the patient.
#[derive(Clone)]
pub enum Paper {
    /// A FHIR Consent, which can be judged.
    Consent(Vec<u8>),
    /// A document that somebody signed, with its media type: whoever exports vouches for what it says.
    Signed(Vec<u8>, &'static str),
}

/// All of them.
#[derive(Clone, Default)]
pub struct Papers {
    /// The consent under which it was recorded.
    pub consent: Option<Vec<u8>>,
    /// What the patient authorises beyond it.
    pub authorization: Option<Paper>,
    /// The scope of the consent in words, instead of a copy of it.
    pub explanation: Option<String>,
}

/// Reads a file of at most so many bytes. `what` it is, for the error.
fn read(path: &Path, what: &'static str, limit: usize) -> Result<Vec<u8>, PaperError> {
    let failed = |error| PaperError::Io(what, error);
    // A pipe without a writer would hang in open().
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(PaperError::NoFile(what));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(failed)?;
    if bytes.len() > limit {
        return Err(PaperError::TooLong(what, limit));
    }
    Ok(bytes)
}

/// Reads a consent.
pub fn consent(path: &Path) -> Result<Vec<u8>, PaperError> {
    read(path, "consent", MAX_FILE)
}

/// Reads an explanation.
pub fn explanation(path: &Path) -> Result<String, PaperError> {
    const WHAT: &str = "explanation";
    let text = String::from_utf8(read(path, WHAT, MAX_EXPLANATION)?).map_err(|_| PaperError::Kind(WHAT))?;
    match text.trim() {
        "" => Err(PaperError::Empty(WHAT)),
        _ => Ok(text),
    }
}

impl Paper {
    /// Reads an authorisation: a Consent, or a document.
    pub fn load(path: &Path) -> Result<Self, PaperError> {
        Self::of(read(path, "authorisation", MAX_SCAN)?)
    }

    fn of(bytes: Vec<u8>) -> Result<Self, PaperError> {
        const WHAT: &str = "authorisation";
        let kinds: [(&[u8], _); 3] = [
            (b"%PDF-", "application/pdf"),
            (b"\xff\xd8\xff", "image/jpeg"),
            (b"\x89PNG\r\n\x1a\n", "image/png"),
        ];
        if let Some((_, kind)) = kinds.into_iter().find(|(magic, _)| bytes.starts_with(magic)) {
            return Ok(Self::Signed(bytes, kind));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| PaperError::Kind(WHAT))?;
        match text.trim_start_matches('\u{feff}').trim_start().chars().next() {
            None => Err(PaperError::Empty(WHAT)),
            // JSON of any kind is either a Consent or refused where it is judged.
            Some('{' | '[') if bytes.len() > MAX_FILE => Err(PaperError::TooLong(WHAT, MAX_FILE)),
            Some('{' | '[') => Ok(Self::Consent(bytes)),
            Some('<') => Err(PaperError::Kind(WHAT)),
            Some(_) if text.chars().any(|c| c.is_control() && !c.is_whitespace()) => {
                Err(PaperError::Kind(WHAT))
            }
            Some(_) => Ok(Self::Signed(bytes, "text/plain; charset=utf-8")),
        }
    }
}

/// A resource as it came.
pub(super) fn resource(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_authorisation_is_its_bytes_say() {
        let kind = |bytes: &[u8]| match Paper::of(bytes.to_vec()) {
            Ok(Paper::Consent(_)) => "consent",
            Ok(Paper::Signed(_, kind)) => kind,
            Err(_) => "refused",
        };
        for (bytes, wanted) in [
            (&b"%PDF-1.7 ..."[..], "application/pdf"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"\x89PNG\r\n\x1a\n..", "image/png"),
            (b" {\"resourceType\":\"Consent\"}", "consent"),
            (b"I ask for my recording.\n", "text/plain; charset=utf-8"),
            (b"<html>", "refused"),
            (b"", "refused"),
            (b" \n", "refused"),
            (b"a\x00b", "refused"),
            (b"\xff\xfe\x00", "refused"),
        ] {
            assert_eq!(kind(bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn a_paper_is_read_with_bounds_and_its_name_is_not_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Mustermann.json");
        std::fs::write(&path, vec![b' '; MAX_FILE + 1]).unwrap();
        let error = consent(&path).unwrap_err();
        assert!(
            matches!(error, PaperError::TooLong("consent", MAX_FILE)),
            "{error}"
        );
        assert!(matches!(consent(dir.path()), Err(PaperError::NoFile("consent"))));
        let gone = consent(&dir.path().join("Mustermann")).unwrap_err();
        assert!(!gone.to_string().contains("Mustermann"), "{gone}");
        std::fs::write(&path, " \n").unwrap();
        assert!(matches!(explanation(&path), Err(PaperError::Empty(_))));
    }
}
