//! The two requests that `object_store` does not make: the versions below a prefix, and the deletion of one of them.

use std::time::Duration;

use object_store::client::{HttpRequest, HttpRequestBody, HttpResponse};
use object_store::signer::{SignedUrlOptions, Signer};

use super::{Bucket, StoreError};

/// For so long a request may be used, by whoever sees it.
const VALID: Duration = Duration::from_secs(60);

/// Longest answer.
const MAX_ANSWER: usize = 4 << 20;

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The object's whole key in the bucket.
    key: String,
    version: String,
    /// Its length.
    pub bytes: u64,
}

impl Version {
    /// Is it one of the object of this name?
    pub fn is_of(&self, bucket: &Bucket, name: &str) -> bool {
        self.key == bucket.path(name).as_ref()
    }

    /// The object's whole name, for people.
    pub fn url(&self, bucket: &Bucket) -> String {
        format!("s3://{}/{}", bucket.address().bucket(), self.key)
    }
}

/// Up to a thousand versions below a prefix, those that hide others included.
pub async fn versions(bucket: &Bucket, folder: &str) -> Result<Vec<Version>, StoreError> {
    let prefix = format!("{}/{folder}", bucket.address().prefix());
    let query = [("versions", ""), ("prefix", prefix.as_str())];
    let what = format!("to list the versions of {}", bucket.url(folder));
    let (status, text) = ask(bucket, "GET", "", &query, &what).await?;
    if status != 200 {
        return Err(refused(status, &what, &text));
    }
    parse(&text).ok_or_else(|| StoreError::Refused {
        what,
        error: "it gave no list of versions".to_owned(),
    })
}

/// Deletes a version for good.
pub async fn delete(bucket: &Bucket, version: &Version) -> Result<(), StoreError> {
    let name = version.url(bucket);
    let query = [("versionId", version.version.as_str())];
    let what = format!("to delete {name}");
    let (status, text) = ask(bucket, "DELETE", &version.key, &query, &what).await?;
    match status {
        200 | 204 | 404 => Ok(()),
        // A store says nothing else where it is the lock: whoever may not delete at all is told the same.
        403 => Err(StoreError::Locked {
            name,
            error: summary(status, &text),
        }),
        _ => Err(refused(status, &what, &text)),
    }
}

async fn ask(
    bucket: &Bucket,
    method: &str,
    key: &str,
    query: &[(&str, &str)],
    what: &str,
) -> Result<(u16, String), StoreError> {
    let no_request = |error: &dyn std::fmt::Display| StoreError::Refused {
        what: what.to_owned(),
        error: error.to_string(),
    };
    let options = SignedUrlOptions::default().with_query(query.iter().copied());
    let path = object_store::path::Path::from(key);
    let verb = method.parse().map_err(|error| no_request(&error))?;
    let url = bucket.store.signed_url_opts(verb, &path, VALID, &options).await;
    let url = url.map_err(|error| bucket.failed(what, &error))?;
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = method.parse().map_err(|error| no_request(&error))?;
    *request.uri_mut() = url.as_str().parse().map_err(|error| no_request(&error))?;
    // The URL holds a signature, which is no part of an error.
    let away = |_| StoreError::Away(format!("{} does not answer", bucket.address()));
    let answer: HttpResponse = bucket.connections.client().execute(request).await.map_err(away)?;
    let status = answer.status().as_u16();
    let body = tokio::time::timeout(VALID, answer.into_body().bytes()).await;
    let body = body.map_err(|_| StoreError::Away(format!("{} does not answer", bucket.address())))?;
    let body = body.map_err(away)?;
    if body.len() > MAX_ANSWER {
        return Err(no_request(&"its answer is too long"));
    }
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn refused(status: u16, what: &str, text: &str) -> StoreError {
    let error = summary(status, text);
    match status {
        500.. => StoreError::Away(error),
        _ => StoreError::Refused {
            what: what.to_owned(),
            error,
        },
    }
}

/// What an answer says, in one line.
fn summary(status: u16, text: &str) -> String {
    let of = |name| {
        element(text, name)
            .map(|(inside, _)| unescaped(inside))
            .unwrap_or_default()
    };
    let said = format!("{status} {} {}", of("Code"), of("Message"));
    said.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// The versions in a ListVersionsResult. None: it is none.
fn parse(text: &str) -> Option<Vec<Version>> {
    let (mut rest, _) = element(text, "ListVersionsResult")?;
    let mut versions = Vec::new();
    loop {
        let next = ["Version", "DeleteMarker"].into_iter().filter_map(|name| {
            let (inside, after) = element(rest, name)?;
            Some((after.len(), inside, after))
        });
        // The one that ends first: most is left behind it.
        let Some((_, inside, after)) = next.max_by_key(|(left, ..)| *left) else {
            return Some(versions);
        };
        versions.push(Version {
            key: unescaped(element(inside, "Key")?.0),
            version: unescaped(element(inside, "VersionId")?.0),
            // What only hides others has none.
            bytes: element(inside, "Size").map_or(Some(0), |(size, _)| size.trim().parse().ok())?,
        });
        rest = after;
    }
}

/// What stands in the first element of this name, and what comes behind it.
fn element<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let mut rest = text;
    loop {
        let (_, at) = rest.split_once(&format!("<{name}"))?;
        let (attributes, inside) = at.split_once('>')?;
        if attributes.is_empty() || attributes.starts_with(char::is_whitespace) {
            return inside.split_once(&format!("</{name}>"));
        }
        rest = at;
    }
}

fn unescaped(text: &str) -> String {
    let mut plain = text.trim().to_owned();
    for (escape, character) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ] {
        plain = plain.replace(escape, character);
    }
    plain
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn versions_and_what_hides_them_are_read() {
        let text = r#"<?xml version="1.0"?><ListVersionsResult xmlns="x"><Name>b</Name><KeyMarker></KeyMarker>
            <VersionIdMarker/><DeleteMarker><Key>p/a&amp;b</Key><VersionId>m1</VersionId></DeleteMarker>
            <Version><Key>p/a&amp;b</Key><VersionId>v1</VersionId><Size>17</Size><Owner><ID>7</ID></Owner></Version>
            <Version><Key>p/c</Key><VersionId>null</VersionId></Version></ListVersionsResult>"#;
        let versions: Vec<_> = parse(text)
            .unwrap()
            .into_iter()
            .map(|v| (v.key, v.version, v.bytes))
            .collect();
        let expected = [("p/a&b", "m1", 0), ("p/a&b", "v1", 17), ("p/c", "null", 0)];
        assert_eq!(
            versions,
            expected.map(|(key, version, bytes)| (key.to_owned(), version.to_owned(), bytes))
        );
        assert_eq!(
            parse("<ListVersionsResult></ListVersionsResult>").unwrap().len(),
            0
        );
        for bad in [
            "",
            "<Error><Code>AccessDenied</Code></Error>",
            "<ListVersionsResult><Version>",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert!(parse("<ListVersionsResult><Version><Key>a</Key></Version></ListVersionsResult>").is_none());
    }

    #[test]
    fn an_answer_is_told_in_one_line() {
        let text = "<Error><Code>AccessDenied</Code>\n<Message>Object is\nprotected</Message></Error>";
        assert_eq!(summary(403, text), "403 AccessDenied Object isprotected");
    }
}
