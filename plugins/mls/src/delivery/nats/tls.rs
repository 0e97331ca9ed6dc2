//! What a connection is proven with: credentials, certificates, and whom to trust.

use super::address::{Address, Login};
use super::{Files, NatsError};
use crate::identity::{self, LoadError};
use async_nats::ConnectOptions;
use async_nats::rustls::crypto::ring;
use async_nats::rustls::{ClientConfig, RootCertStore, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Options that say who this endpoint is and whom it trusts.
pub(super) fn options(address: &Address, files: &Files) -> Result<ConnectOptions, NatsError> {
    let options = match (address.login(), &files.credentials) {
        (Login::None, None) => ConnectOptions::new(),
        (Login::None, Some(path)) => credentials(path)?,
        (Login::Token(_) | Login::Password(..), Some(_)) => return Err(NatsError::TwoLogins),
        (Login::Token(token), None) => ConnectOptions::with_token(token.to_string()),
        (Login::Password(user, password), None) => {
            ConnectOptions::with_user_and_password(user.clone(), password.to_string())
        }
    };
    let options = options.require_tls(wanted(address, files));
    Ok(options.tls_client_config(client_config(files)?))
}

/// Is a connection without TLS out of the question? Whoever names a CA or a certificate expects it.
pub(super) fn wanted(address: &Address, files: &Files) -> bool {
    address.tls() || files.ca.is_some() || files.certificate.is_some()
}

fn wrong_file(property: &'static str) -> impl Fn(LoadError) -> NatsError {
    move |error| NatsError::File { property, error }
}

/// A credentials file has a signed token and a seed in it (NATS' decentralised authentication), an nkey file a seed.
fn credentials(path: &Path) -> Result<ConnectOptions, NatsError> {
    let bytes = identity::read_private(path).map_err(wrong_file("nats-credentials-file"))?;
    let not_credentials = || NatsError::NotCredentials(path.into());
    let text = std::str::from_utf8(&bytes).map_err(|_| not_credentials())?;
    if text.contains("BEGIN NATS USER JWT") {
        return ConnectOptions::with_credentials(text).map_err(|_| not_credentials());
    }
    // A user's seed; there may be comments around it.
    let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
    let plain = |seed: &&str| seed.len() == 58 && seed.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let seed = Zeroizing::new(seed.filter(plain).ok_or_else(not_credentials)?.to_owned());
    Ok(ConnectOptions::with_nkey(seed.to_string()))
}

/// Always with ring: which provider a process has by default depends on what else is linked into it.
fn client_config(files: &Files) -> Result<ClientConfig, NatsError> {
    let unusable = |error: String| NatsError::TlsFiles(error);
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            let certificates = identity::read_certificates(path).map_err(wrong_file("nats-ca-file"))?;
            for der in certificates {
                let added = roots.add(CertificateDer::from(der));
                added.map_err(|error| unusable(error.to_string()))?;
            }
        }
        None => {
            // Without any, only a connection without TLS comes about.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots);
    let (certificate, key) = match (&files.certificate, &files.key) {
        (None, None) => return Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => return Err(NatsError::HalfCertificate),
    };
    let chain = identity::read_certificates(certificate).map_err(wrong_file("nats-certificate-file"))?;
    let pem = identity::read_private(key).map_err(wrong_file("nats-key-file"))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| unusable(format!("{} holds no private key in PEM", key.display())))?;
    builder
        .with_client_auth_cert(chain.into_iter().map(CertificateDer::from).collect(), key)
        .map_err(|error| unusable(error.to_string()))
}
