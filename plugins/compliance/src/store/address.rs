//! A place in a store: `s3://BUCKET/PREFIX`.

use std::fmt;
use std::str::FromStr;

/// Longest prefix, in bytes. S3 takes names of 1024, and ours stand behind it.
const MAX_PREFIX: usize = 512;

/// A bucket, and what the names in it begin with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    bucket: String,
    prefix: String,
}

/// Text that is no place in a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place in a store: write s3://BUCKET/PREFIX, in letters, digits, `.`, `_`, `-` and `/`")]
pub struct NotAnAddress(String);

impl Address {
    /// Is the text meant to be one? A folder's name never begins like this.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("s3://")
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What names begin with, without a slash at its end.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where keys are, unless somebody says otherwise: beside the prefix, not below it, so that a rule for one of the two
    /// does not hold for the other.
    pub fn keys(&self) -> Self {
        Self {
            bucket: self.bucket.clone(),
            prefix: format!("{}-keys", self.prefix),
        }
    }

    /// Splits the last part off: a recording's id, behind where recordings are.
    pub fn parent(&self) -> Option<(Self, &str)> {
        let (prefix, last) = self.prefix.rsplit_once('/')?;
        let bucket = self.bucket.clone();
        let prefix = prefix.to_owned();
        Some((Self { bucket, prefix }, last))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let error = || NotAnAddress(text.chars().take(200).collect());
        let (bucket, prefix) = text
            .strip_prefix("s3://")
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(error)?;
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let plain = |part: &str, more: &[u8]| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || more.contains(&byte);
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(fits)
        };
        let good = plain(bucket, b".-")
            && bucket.len() <= 63
            && prefix.len() <= MAX_PREFIX
            && prefix.split('/').all(|part| plain(part, b"._-"));
        if !good {
            return Err(error());
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_address_has_a_bucket_and_a_prefix() {
        let address: Address = "s3://clinic/visits/2026/".parse().unwrap();
        assert_eq!((address.bucket(), address.prefix()), ("clinic", "visits/2026"));
        assert_eq!(address.to_string(), "s3://clinic/visits/2026");
        assert_eq!(address.keys().to_string(), "s3://clinic/visits/2026-keys");
        let (parent, last) = address.parent().unwrap();
        assert_eq!(
            (parent.to_string().as_str(), last),
            ("s3://clinic/visits", "2026")
        );
        assert!(
            "s3://clinic/visits"
                .parse::<Address>()
                .unwrap()
                .parent()
                .is_none()
        );
    }

    #[test]
    fn what_is_none_says_how_one_is_written() {
        for bad in [
            "",
            "s3:/b/p",
            "s3://bucket",
            "s3://bucket/",
            "s3:///prefix",
            "s3://bucket//prefix",
            "s3://bucket/a/../b",
            "s3://bucket/a b",
            "s3://user:secret@bucket/a",
            "s3://bucket/a?versions",
            "https://bucket/prefix",
        ] {
            let error = bad.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("s3://BUCKET/PREFIX"), "{error}");
        }
        assert!(
            format!("s3://bucket/{}", "a".repeat(513))
                .parse::<Address>()
                .is_err()
        );
    }
}
