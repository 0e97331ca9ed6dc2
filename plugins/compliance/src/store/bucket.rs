//! A place in a bucket: objects are made once and never written over, read, and listed.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::{
    ClientOptions, HeaderMap, HeaderValue, ObjectStore, ObjectStoreExt, PutMode, RetryConfig,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::http::{Connections, allowance};
use super::{Access, Address, StoreError};
use crate::recording::member::MAX_MEMBER;

/// Longest object that is ours: a piece with one member of the greatest size, its header and its padding.
pub const MAX_OBJECT: u64 = MAX_MEMBER + 4096;

/// How long the answer to a question without a body may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers that do not pass by themselves.
const REFUSALS: [&str; 5] = [
    "400 Bad Request",
    "401 Unauthorized",
    "403 Forbidden",
    "404 Not Found",
    "501 Not Implemented",
];

/// How strictly objects are locked until their time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Who has the permission for it can take the lock away.
    Governance,
    /// Nobody can, not even the account's owner.
    Compliance,
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        })
    }
}

/// A lock that objects get when they are made. Without one they get what the bucket gives them by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// How strict.
    pub mode: LockMode,
    /// Until then, in seconds since 1970.
    pub until: u64,
}

/// What lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name, without the address.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// See the module.
#[derive(Clone)]
pub struct Bucket {
    pub(super) store: AmazonS3,
    /// What makes objects; it locks them, where they are to be locked.
    maker: AmazonS3,
    /// What both were made of. It holds the secret key, which nothing shows.
    builder: AmazonS3Builder,
    pub(super) connections: Connections,
    address: Address,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What became of an object that was to be made.
#[derive(Debug, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Made,
    /// There was one of this name.
    Exists,
}

impl Bucket {
    /// A place in a store. Nothing is asked of the store here. `retries`: how often a request that failed is made again.
    pub fn open(address: &Address, access: &Access, retries: usize) -> Result<Self, StoreError> {
        let connections = Connections::new().map_err(|error| unusable(address, &error))?;
        let builder = access.builder()?;
        let builder = builder
            .with_bucket_name(address.bucket())
            .with_client_options(options())
            .with_checksum_algorithm(Checksum::SHA256)
            .with_http_connector(connections.clone())
            .with_retry(RetryConfig {
                max_retries: retries,
                retry_timeout: Duration::from_secs(60),
                ..RetryConfig::default()
            });
        let maker = builder
            .clone()
            .with_client_options(options().with_default_headers(making()));
        Ok(Self {
            store: build(address, builder.clone())?,
            maker: build(address, maker)?,
            builder,
            connections,
            address: address.clone(),
        })
    }

    /// The same place; what is made there is locked.
    pub fn locked(&self, lock: Lock) -> Result<Self, StoreError> {
        let headers = headers(lock)
            .ok_or_else(|| unusable(&self.address, &"a retention lock would end after the year 9999"))?;
        let builder = self.builder.clone();
        let builder = builder.with_client_options(options().with_default_headers(headers));
        Ok(Self {
            maker: build(&self.address, builder)?,
            ..self.clone()
        })
    }

    /// The place.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// An object's whole name, for people.
    pub fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub(super) fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.address.prefix()))
    }

    /// Makes an object, unless there is one. The store checks the content's SHA-256.
    pub async fn put(&self, name: &str, content: Bytes) -> Result<Put, StoreError> {
        let path = self.path(name);
        match self
            .maker
            .put_opts(&path, content.into(), PutMode::Create.into())
            .await
        {
            Ok(_) => Ok(Put::Made),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Put::Exists)
            }
            Err(error) => Err(self.failed(&format!("to make {}", self.url(name)), &error)),
        }
    }

    /// Makes an object; one that is there already must be the same.
    pub async fn put_same(&self, name: &str, content: Bytes) -> Result<u64, StoreError> {
        let bytes = content.len() as u64;
        if self.put(name, content.clone()).await? == Put::Exists
            && self.get(name, MAX_OBJECT).await? != Some(content)
        {
            return Err(StoreError::Conflict(self.url(name)));
        }
        Ok(bytes)
    }

    /// An object's content. None: there is none. Longer than `most` is none of ours.
    pub async fn get(&self, name: &str, most: u64) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(name);
        let failed = |error| self.failed(&format!("to read {}", self.url(name)), &error);
        let found = match self.store.get(&path).await {
            Err(object_store::Error::NotFound { source, .. }) if !is_bucket(&*source) => return Ok(None),
            found => found.map_err(failed)?,
        };
        let bytes = found.meta.size;
        if bytes > most {
            return Err(StoreError::Conflict(self.url(name)));
        }
        let read = tokio::time::timeout(allowance(bytes), found.bytes()).await;
        let read =
            read.map_err(|_| StoreError::Away(format!("{} does not come to its end", self.url(name))))?;
        Ok(Some(read.map_err(failed)?))
    }

    /// The objects below a folder, in the order of their names; at most so many.
    pub async fn list(&self, folder: &str, most: usize) -> Result<Vec<Object>, StoreError> {
        let path = self.path(folder);
        let begins = format!("{}/", self.path("").as_ref().trim_end_matches('/'));
        let mut objects: Vec<Object> = Vec::new();
        let mut list = self
            .store
            .list(Some(&path))
            .map_err(|error| self.failed(&format!("to list {}", self.url(folder)), &error));
        loop {
            let next = tokio::time::timeout(PATIENCE, list.try_next()).await;
            let next = next.map_err(|_| StoreError::Away(format!("{} is not listed", self.url(folder))))?;
            let Some(meta) = next? else { break };
            if objects.len() >= most {
                return Err(StoreError::Damaged(format!(
                    "there are more than {most} objects below {}",
                    self.url(folder)
                )));
            }
            objects.push(Object {
                name: meta
                    .location
                    .as_ref()
                    .strip_prefix(&begins)
                    .unwrap_or_default()
                    .to_owned(),
                bytes: meta.size,
            });
        }
        objects.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(objects)
    }

    /// The names of the folders at this place.
    pub async fn folders(&self) -> Result<Vec<String>, StoreError> {
        let path = self.path("");
        let listing = tokio::time::timeout(PATIENCE, self.store.list_with_delimiter(Some(&path))).await;
        let listing = listing.map_err(|_| StoreError::Away(format!("{} is not listed", self.address)))?;
        let listing = listing.map_err(|error| self.failed(&format!("to list {}", self.address), &error))?;
        let names = listing.common_prefixes.iter().filter_map(Path::filename);
        Ok(names.map(str::to_owned).collect())
    }

    /// What an error of the store means.
    pub(super) fn failed(&self, what: &str, error: &object_store::Error) -> StoreError {
        use object_store::Error as E;
        let text = described(error);
        match error {
            E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::NotFound { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::InvalidPath { .. }
            | E::UnknownConfigurationKey { .. } => StoreError::Refused {
                what: what.to_owned(),
                error: text,
            },
            // Lists, and requests for a role's credentials, tell what the store said in their text alone.
            _ if REFUSALS.iter().any(|refusal| text.contains(refusal)) => StoreError::Refused {
                what: what.to_owned(),
                error: text,
            },
            _ => StoreError::Away(text),
        }
    }
}

fn unusable(address: &Address, error: &dyn fmt::Display) -> StoreError {
    StoreError::Configuration(format!("the store {address} cannot be used: {error}"))
}

/// [`Access`] has looked at whether that may be.
fn options() -> ClientOptions {
    ClientOptions::new().with_allow_http(true)
}

fn build(address: &Address, builder: AmazonS3Builder) -> Result<AmazonS3, StoreError> {
    builder
        .build()
        .map_err(|error| unusable(address, &described(&error)))
}

/// Is it the bucket itself that is not there?
fn is_bucket(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.to_string().contains("NoSuchBucket")
}

/// An error with all that stands behind it, in one line, cut at a length that a message may have. It names URLs and what
/// the store answered; no header of a request.
fn described(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(600).collect()
}

/// What is said whenever an object is made: without it some stores take the SHA-256 for none, and refuse what they lock.
fn making() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-sdk-checksum-algorithm", HeaderValue::from_static("SHA256"));
    headers
}

/// What locks an object when it is made.
fn headers(lock: Lock) -> Option<HeaderMap> {
    let until = OffsetDateTime::from_unix_timestamp(i64::try_from(lock.until).ok()?).ok()?;
    let mut headers = making();
    headers.insert("x-amz-object-lock-mode", lock.mode.to_string().parse().ok()?);
    headers.insert(
        "x-amz-object-lock-retain-until-date",
        until.format(&Rfc3339).ok()?.parse().ok()?,
    );
    Some(headers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_lock_is_told_in_the_stores_words() {
        let until = 1_893_456_000;
        let headers = headers(Lock {
            mode: LockMode::Compliance,
            until,
        })
        .unwrap();
        assert_eq!(headers["x-amz-object-lock-mode"], "COMPLIANCE");
        assert_eq!(
            headers["x-amz-object-lock-retain-until-date"],
            "2030-01-01T00:00:00Z"
        );
    }
}
