//! Why a consent does not permit what is asked, for a person: where, as a FHIR path, and what to do. Never what stands there.

use super::MAX_FILE;

/// Why nothing may be recorded under a consent, or nothing disclosed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsentRefusal {
    /// There is none.
    #[error("no consent was given to the recorder: set consent-file to a FHIR R4 Consent (JSON)")]
    Missing,
    /// The system refuses. The file's name is not said: it could be a person's.
    #[error("consent-file cannot be read: {0}")]
    File(String),
    /// A directory, a socket, …
    #[error("consent-file is no file: it is a FHIR R4 Consent (JSON)")]
    NotAFile,
    /// More than [`MAX_FILE`] bytes.
    #[error("the consent has more than {MAX_FILE} bytes: put a scanned form behind sourceAttachment.url")]
    TooLong,
    /// No JSON, nested too deeply, or with something in it that readers would understand differently.
    #[error("the consent cannot be read: {what} (before line {line}, column {column})")]
    NotJson {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
        /// What.
        what: &'static str,
    },
    /// Another resource, or none.
    #[error("consent-file is no FHIR Consent: resourceType must be Consent (take it out of its Bundle)")]
    NotAConsent,
    /// An element that R4 does not have.
    #[error("{path} has an element that FHIR R4 does not have there: R5's Consent is another resource")]
    Unknown {
        /// FHIR path.
        path: String,
    },
    /// Something that changes the meaning.
    #[error("{path} changes the meaning of the consent in a way that is not understood here")]
    Modified {
        /// FHIR path.
        path: String,
    },
    /// Something is missing or has an impossible value.
    #[error("{path} {what}")]
    Malformed {
        /// FHIR path.
        path: String,
        /// What, and what to do.
        what: &'static str,
    },
    /// Another status than active.
    #[error("the consent is not active: Consent.status is {0}")]
    NotActive(&'static str),
    /// It begins later.
    #[error(
        "the consent is not in force yet: {path} lies ahead (dates without a zone count at the recorder's)"
    )]
    NotYet {
        /// FHIR path of the bound.
        path: String,
    },
    /// It is over.
    #[error("the consent is over: {path} has passed (dates without a zone count at the recorder's)")]
    Expired {
        /// FHIR path of the bound.
        path: String,
    },
    /// It forbids recording, or may.
    #[error("the consent forbids recording, or may be read so: {path} denies")]
    Denied {
        /// FHIR path of the provision.
        path: String,
    },
    /// It does not say that recording is permitted.
    #[error("the consent does not permit recording: {path} {what}")]
    NotPermitted {
        /// FHIR path.
        path: String,
        /// What is missing.
        what: &'static str,
    },
    /// It forbids that this recording is disclosed, or may.
    #[error("the consent forbids this disclosure, or may be read so: {path} denies")]
    DisclosureDenied {
        /// FHIR path of the provision.
        path: String,
    },
    /// It does not say that this recording may be disclosed.
    #[error("the consent does not permit this disclosure: {path} {what}")]
    NotDisclosed {
        /// FHIR path.
        path: String,
        /// What is missing.
        what: &'static str,
    },
}

impl ConsentRefusal {
    pub(super) fn malformed(path: impl Into<String>, what: &'static str) -> Self {
        let path = path.into();
        Self::Malformed { path, what }
    }

    pub(super) fn not_permitted(path: impl Into<String>, what: &'static str) -> Self {
        let path = path.into();
        Self::NotPermitted { path, what }
    }

    /// A stable name for programs.
    pub const fn nick(&self) -> &'static str {
        match self {
            Self::Missing => "consent-missing",
            Self::File(_) | Self::NotAFile => "consent-unreadable",
            Self::TooLong
            | Self::NotJson { .. }
            | Self::NotAConsent
            | Self::Unknown { .. }
            | Self::Modified { .. }
            | Self::Malformed { .. } => "consent-not-understood",
            Self::NotActive(_) => "consent-not-active",
            Self::NotYet { .. } => "consent-not-yet",
            Self::Expired { .. } => "consent-expired",
            Self::Denied { .. } | Self::DisclosureDenied { .. } => "consent-denies",
            Self::NotPermitted { .. } | Self::NotDisclosed { .. } => "consent-does-not-permit",
        }
    }
}
