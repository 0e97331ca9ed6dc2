//! Certificates and keys in files (PEM), and what to say when they cannot be used.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::{IdentityError, IdentityKey, KeyError};

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 256 << 10;

/// Why an identity cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system refuses.
    #[error("{path} cannot be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A directory, a socket, …, or far too long.
    #[error("{0} is no file of certificates or keys")]
    NotAFile(PathBuf),
    /// The private key is open to others.
    #[error(
        "{path} holds a private key that others than its owner may read (mode {mode:03o}): chmod 600 {path}"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// No certificate in it, or a damaged one.
    #[error("{0} holds no certificates in PEM (BEGIN CERTIFICATE)")]
    NoCertificates(PathBuf),
    /// No usable private key in it.
    #[error("{path} {error}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        error: KeyError,
    },
    /// Key and certificate are no pair.
    #[error("the certificate was issued for another private key than the one that was given")]
    NoPair,
    /// The chain does not hold.
    #[error("the certificate in certificate-file does not hold against ca-file: {0}")]
    Identity(#[from] IdentityError),
}

/// Reads a file's certificates, in their order, each in DER. Other sections and text between them are passed over.
pub fn read_certificates(path: &Path) -> Result<Vec<Vec<u8>>, LoadError> {
    let (bytes, _) = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes)
        .map(|certificate| certificate.map(|der| der.as_ref().to_vec()))
        .collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(LoadError::NoCertificates(path.to_owned())),
    }
}

/// Reads a file that nobody but its owner may read.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, LoadError> {
    let (bytes, mode) = read(path)?;
    if mode & 0o077 != 0 {
        return Err(LoadError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(bytes)
}

/// Reads a private key that nobody but the file's owner may read.
pub fn read_key(path: &Path) -> Result<IdentityKey, LoadError> {
    let bytes = read_private(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| KeyError::NotAKey);
    text.and_then(IdentityKey::from_pem)
        .map_err(|error| LoadError::Key {
            path: path.to_owned(),
            error,
        })
}

/// A file's bytes and its permissions, both of the same open file.
fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), LoadError> {
    let failed = |error| LoadError::Read {
        path: path.to_owned(),
        error,
    };
    // A pipe without a writer would hang in open().
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(LoadError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.len() > MAX_FILE {
        return Err(LoadError::NotAFile(path.to_owned()));
    }
    // One byte more than the file, so that a private key is not copied by a growing vector.
    let length = usize::try_from(metadata.len()).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes, metadata.permissions().mode() & 0o777))
}
