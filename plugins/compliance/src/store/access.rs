//! Where the store is and who one is there: from a file, from the environment in the names that the AWS tools have, or from
//! a profile of theirs.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use zeroize::Zeroizing;

use super::StoreError;
use super::profile::profile;

/// Longest file of settings, in bytes.
pub(super) const MAX_FILE: u64 = 64 << 10;

/// Says that a store without TLS is meant.
const ALLOW_HTTP: &str = "AWS_ALLOW_HTTP";

/// Settings of a store.
#[derive(Clone, Default)]
pub struct Access {
    settings: Vec<(AmazonS3ConfigKey, Zeroizing<String>)>,
    allows_http: bool,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// What the environment says alone: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`, … or, where there is none of the latter, `AWS_PROFILE` in the files of the AWS tools, or the
    /// machine's role.
    pub fn environment() -> Self {
        Self {
            settings: Vec::new(),
            allows_http: std::env::var(ALLOW_HTTP).is_ok_and(|value| is_yes(&value)),
        }
    }

    /// What a file says, in lines `NAME=VALUE` with the same names, and the environment where the file says nothing. Nobody
    /// but its owner may be able to read it. `#` begins a comment.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let wrong = |why: String| StoreError::Configuration(format!("{}: {why}", path.display()));
        for_owner_only(path)?;
        let bytes = crate::bundle::read_bounded(path, MAX_FILE).map_err(StoreError::io(path))?;
        let bytes = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is no text".to_owned()))?;
        let mut access = Self::environment();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // Of what is wrong with a line nothing is said that it holds: it may be a secret.
            let number = number + 1;
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| wrong(format!("line {number} is not NAME=VALUE")))?;
            let (name, value) = (name.trim(), value.trim());
            if name == ALLOW_HTTP {
                access.allows_http = is_yes(value);
                continue;
            }
            let key = Some(name)
                .filter(|name| name.starts_with("AWS_"))
                .and_then(|name| name.to_ascii_lowercase().parse().ok())
                .ok_or_else(|| {
                    wrong(format!(
                        "line {number} names no setting of a store, like AWS_ENDPOINT_URL or AWS_REGION"
                    ))
                })?;
            access.settings.push((key, Zeroizing::new(value.to_owned())));
        }
        Ok(access)
    }

    /// A builder with these settings.
    pub(super) fn builder(&self) -> Result<AmazonS3Builder, StoreError> {
        let mut builder = AmazonS3Builder::from_env();
        for (key, value) in &self.settings {
            builder = builder.with_config(*key, value.as_str());
        }
        // What is said nowhere else, a profile says.
        let is_said = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).is_some();
        let needs_who = ![
            AmazonS3ConfigKey::AccessKeyId,
            AmazonS3ConfigKey::WebIdentityTokenFile,
            AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
            AmazonS3ConfigKey::ContainerCredentialsFullUri,
        ]
        .into_iter()
        .any(|key| is_said(&builder, key));
        let found = profile(&|name| std::env::var(name).ok(), needs_who)?;
        for (name, value) in found.place.iter().chain(&found.who) {
            if let Ok(key) = name.parse()
                && !is_said(&builder, key)
            {
                builder = builder.with_config(key, value.as_str());
            }
        }
        for key in [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint] {
            if let Some(endpoint) = builder.get_config_value(&key) {
                check_endpoint(&endpoint, self.allows_http)?;
            }
        }
        Ok(builder)
    }
}

/// A file that may hold a secret is for its owner alone.
pub(super) fn for_owner_only(path: &Path) -> Result<(), StoreError> {
    let mode = fs::metadata(path).map_err(StoreError::io(path))?.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(StoreError::Configuration(format!(
        "{path}: can be read by other users (mode {mode:03o}): run `chmod 600 {path}`"
    )))
}

fn is_yes(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value == "1"
}

/// Without TLS only to this machine, unless somebody says that he means it.
fn check_endpoint(endpoint: &str, allows_http: bool) -> Result<(), StoreError> {
    let url: url::Url = endpoint
        .parse()
        .map_err(|error| StoreError::Configuration(format!("AWS_ENDPOINT_URL is no URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(StoreError::Configuration(
            "AWS_ENDPOINT_URL has a name or a password in it, which would stand in messages: give AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY"
                .to_owned(),
        ));
    }
    let is_here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_here || allows_http => Ok(()),
        "http" => Err(StoreError::Configuration(format!(
            "{endpoint} has no TLS, so that everybody on the way reads the names and sizes of what is recorded: use \
             https, or set {ALLOW_HTTP}=true if that is meant"
        ))),
        other => Err(StoreError::Configuration(format!(
            "AWS_ENDPOINT_URL begins with {other}, and not with https"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_file_says_where_the_store_is_and_who_one_is() {
        let text = "# ours\n\nAWS_ENDPOINT_URL = http://127.0.0.1:9\nAWS_SECRET_ACCESS_KEY=se=cret\n";
        let (_dir, path) = written(text, 0o600);
        let access = Access::read(&path).unwrap();
        let builder = access.builder().unwrap();
        let value = |key| builder.get_config_value(&key);
        assert_eq!(
            value(AmazonS3ConfigKey::Endpoint).as_deref(),
            Some("http://127.0.0.1:9")
        );
        assert_eq!(
            value(AmazonS3ConfigKey::SecretAccessKey).as_deref(),
            Some("se=cret")
        );
        assert!(!format!("{access:?}").contains("cret"));
    }

    #[test]
    fn what_is_wrong_is_said_without_what_it_holds() {
        let (_dir, path) = written("AWS_REGION=x", 0o640);
        let error = Access::read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        for bad in [
            "TOP-SECRET",
            "AWS_REGION=x\nTOP-SECRET=y",
            "AWS_TOP-SECRET=TOP-SECRET",
        ] {
            let (_dir, path) = written(bad, 0o600);
            let error = Access::read(&path).unwrap_err().to_string();
            assert!(error.contains("line ") && !error.contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn without_tls_only_this_machine_is_spoken_to() {
        for good in [
            "https://s3.example",
            "http://127.0.0.1:5000",
            "http://localhost",
            "http://[::1]:1",
        ] {
            assert!(check_endpoint(good, false).is_ok(), "{good}");
        }
        for bad in [
            "http://s3.example",
            "http://10.0.0.1",
            "http://localhost.example",
            "ftp://127.0.0.1",
            "no",
            "https://user:TOP-SECRET@s3.example",
        ] {
            let error = check_endpoint(bad, false).unwrap_err().to_string();
            assert!(!error.contains("TOP-SECRET"), "{error}");
        }
        let error = check_endpoint("http://s3.example", false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("AWS_ALLOW_HTTP"), "{error}");
        assert!(check_endpoint("http://s3.example", true).is_ok());

        let (_dir, path) = written("AWS_ENDPOINT_URL=http://s3.example", 0o600);
        assert!(Access::read(&path).unwrap().builder().is_err());
        let (_dir, path) = written("AWS_ENDPOINT_URL=http://s3.example\nAWS_ALLOW_HTTP=true", 0o600);
        assert!(Access::read(&path).unwrap().builder().is_ok());
    }
}
