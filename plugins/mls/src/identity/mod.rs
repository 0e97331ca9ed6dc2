//! Who somebody is: X.509 certificates of an organisation, with certified roles.
//!
//! MLS libraries carry an X.509 credential as opaque bytes. Everything that such bytes claim is checked, from the bytes, the
//! room's trusted roots and a time that the caller names: never from the local clock, a file or a handler, so that all
//! members of a room decide alike about the same message. That verification lies in `gst_e2ee_common::identity`, for
//! those too who verify what a room's members signed, and know no MLS.
//!
//! - `key`: an identity's private key
//! - `own`: this endpoint's identity, from its three files
//! - `issue`: certificate authorities and identities for small deployments and tests

pub mod issue;
mod key;
mod own;
mod pem;
#[cfg(test)]
mod tests;

use gst_e2ee_common::identity::{certificate, chain};

pub use gst_e2ee_common::identity::{
    Facts, Fingerprint, Identity, IdentityError, MAX_CERTIFICATES, MAX_CONTENT, NotAFingerprint, Role,
    UnknownRole, certificates, content, describe, from_pem, is_plain, verify,
};
pub use key::{IdentityKey, KeyError};
pub use own::{OwnIdentity, complete};
pub(crate) use pem::read_private;
pub use pem::{LoadError, read_certificates, read_key};
