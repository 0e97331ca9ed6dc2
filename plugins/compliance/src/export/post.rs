//! A transaction Bundle to a FHIR server, and what the server makes of it.
//!
//! Plain HTTP only to this machine itself: a Bundle is about a person, and a token is a key. No redirect is followed.
//! What the server says is shown to a person, so it is bounded and only what prints.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use zeroize::Zeroizing;

use super::document::Bundle;
use crate::audit::Text;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 16 << 20;
/// Longest token or CA file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(20);
/// Longest wait for all of it: servers may check a scanned form for viruses.
const WHOLE: Duration = Duration::from_secs(300);

/// A FHIR server.
pub struct Server {
    url: String,
    token: Option<Zeroizing<String>>,
    agent: Agent,
}

/// Why a server has nothing of it, or not all.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No URL of a FHIR server.
    #[error("{0} is no URL of a FHIR server: https://server/base is, without a user or a query")]
    Url(String),
    /// Somebody could read along.
    #[error(
        "{0} is not encrypted: plain http goes to this machine itself only (localhost, 127.0.0.1, [::1]); use https"
    )]
    Plain(String),
    /// The system refuses.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// Others can read the token.
    #[error(
        "{path} can be read by other users (mode {mode:03o}): run `chmod 600 {path}`, and get another token if somebody did"
    )]
    TokenTooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is nothing usable in it.
    #[error("{path} {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It cannot be reached, or it is not who it says.
    #[error("{url} cannot be reached: {error}")]
    Transport {
        /// The server.
        url: String,
        /// Why.
        error: String,
    },
    /// It refuses all of it.
    #[error("the server refuses the Bundle ({status}): {said}")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// It refuses a part, which a transaction must not.
    #[error(
        "the server refuses entry {index}, the {name} ({status}): {said}. What became of the others its answer does not say for sure: look there before you send it again"
    )]
    Entry {
        /// The entry's place in the Bundle, from 0.
        index: usize,
        /// What the entry is.
        name: String,
        /// Its status.
        status: String,
        /// What the server says.
        said: String,
    },
    /// It is no answer to a transaction.
    #[error("the server's answer is none to a transaction: {0}. Look there for what it took")]
    Answer(&'static str),
}

/// What the server made of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What it is.
    pub name: String,
    /// Where it is, as the server says.
    pub location: String,
}

impl Server {
    /// A server, a file with its bearer token, and a file of the CAs that it may have instead of the system's.
    pub fn new(url: &str, token: Option<&Path>, ca: Option<&Path>) -> Result<Self, PostError> {
        let is_encrypted = check(url)?;
        let token = token.map(read_token).transpose()?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(WHOLE));
        if is_encrypted {
            config = config.tls_config(tls(ca)?);
        } else {
            // Nobody in between, not even one that the environment names.
            config = config.proxy(None);
        }
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token,
            agent: config.build().new_agent(),
        })
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Posts the Bundle; says where each entry is now.
    pub fn post(&self, bundle: &Bundle) -> Result<Vec<Taken>, PostError> {
        let body = bundle.json.to_string();
        let mut request = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/fhir+json")
            .header("Accept", "application/fhir+json");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {}", token.as_str()));
        }
        let failed = |error: ureq::Error| PostError::Transport {
            url: self.url.clone(),
            error: Text::lossy(&error.to_string()).to_string(),
        };
        let mut response = request.send(&body).map_err(failed)?;
        let status = response.status().as_u16();
        let answer = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        // A refusal counts though its words cannot be read.
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) if !(200..300).contains(&status) => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        judge(status, &answer, &bundle.names)
    }
}

/// What an answer says of each entry.
fn judge(status: u16, answer: &[u8], names: &[String]) -> Result<Vec<Taken>, PostError> {
    let answer: Option<Value> = serde_json::from_slice(answer).ok();
    if !(200..300).contains(&status) {
        let said = answer
            .as_ref()
            .map_or_else(|| "it does not say why".to_owned(), said);
        return Err(PostError::Refused { status, said });
    }
    let answer = answer.ok_or(PostError::Answer("it is no JSON"))?;
    let is = |name: &str, value: &str| answer.get(name).and_then(Value::as_str) == Some(value);
    if !is("resourceType", "Bundle") || !is("type", "transaction-response") {
        return Err(PostError::Answer("it is no transaction-response"));
    }
    let entries = answer
        .get("entry")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if entries.len() != names.len() {
        return Err(PostError::Answer("it has another number of entries"));
    }
    let taken = entries
        .iter()
        .zip(names)
        .enumerate()
        .map(|(index, (entry, name))| {
            let response = entry.get("response").unwrap_or(&Value::Null);
            let of = |name: &str| response.get(name).and_then(Value::as_str).unwrap_or_default();
            let status = of("status");
            if ["200", "201"].contains(&status.split(' ').next().unwrap_or_default()) {
                let location = Text::lossy(of("location")).to_string();
                return Ok(Taken {
                    name: name.clone(),
                    location,
                });
            }
            Err(PostError::Entry {
                index,
                name: name.clone(),
                status: Text::lossy(status).to_string(),
                said: response
                    .get("outcome")
                    .map_or_else(|| "it does not say why".to_owned(), said),
            })
        });
    taken.collect()
}

/// The text of an OperationOutcome.
fn said(outcome: &Value) -> String {
    let issues = outcome.get("issue").and_then(Value::as_array);
    let texts = issues.into_iter().flatten().filter_map(|issue| {
        let words = ["/details/text", "/diagnostics", "/code"];
        let text = words
            .into_iter()
            .find_map(|at| issue.pointer(at).and_then(Value::as_str))?;
        let at = issue.pointer("/expression/0").and_then(Value::as_str);
        Some(at.map_or_else(|| text.to_owned(), |at| format!("{text} ({at})")))
    });
    let texts: Vec<_> = texts.take(10).collect();
    match texts.is_empty() {
        true => "it does not say why".to_owned(),
        false => Text::lossy(&texts.join("; ")).to_string(),
    }
}

/// Is the URL one that a Bundle may go to? Says whether it is encrypted.
fn check(url: &str) -> Result<bool, PostError> {
    let refused = || PostError::Url(Text::lossy(url).to_string());
    let uri: Uri = url.parse().map_err(|_| refused())?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(refused)?;
    let has_user = uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'));
    if has_user || uri.query().is_some() || url.contains('#') {
        return Err(refused());
    }
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    match uri.scheme_str() {
        Some("https") => Ok(true),
        Some("http") if host == "localhost" || address.is_ok_and(|address| address.is_loopback()) => {
            Ok(false)
        }
        Some("http") => Err(PostError::Plain(Text::lossy(url).to_string())),
        _ => Err(refused()),
    }
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, PostError> {
    let failed = |error| PostError::Io(path.to_owned(), error);
    let file = |what| PostError::File {
        path: path.to_owned(),
        what,
    };
    let metadata = path.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PostError::TokenTooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(file("is no file with a token"));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    let token = Zeroizing::new(text.trim().to_owned());
    // RFC 6750 §2.1.
    let is_token = !token.is_empty()
        && token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    if is_token {
        Ok(token)
    } else {
        Err(file(
            "holds no bearer token: one line of letters, digits and -._~+/=",
        ))
    }
}

/// TLS by rustls on ring, with the system's roots or those in a file.
fn tls(ca: Option<&Path>) -> Result<TlsConfig, PostError> {
    let roots: Vec<Certificate<'static>> = match ca {
        Some(path) => {
            let failed = |error| PostError::Io(path.to_owned(), error);
            if path.metadata().map_err(failed)?.len() > MAX_FILE {
                return Err(PostError::File {
                    path: path.to_owned(),
                    what: "is too large for certificates",
                });
            }
            let pem = fs::read(path).map_err(failed)?;
            let certificates = parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            certificates.collect()
        }
        None => {
            let found = rustls_native_certs::load_native_certs().certs;
            found
                .iter()
                .map(|certificate| Certificate::from_der(certificate).to_owned())
                .collect()
        }
    };
    if roots.is_empty() {
        let path = ca.map_or_else(|| PathBuf::from("the system's store"), Path::to_owned);
        return Err(PostError::File {
            path,
            what: "has no certificate of a CA: name one with --ca-file (PEM)",
        });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_bundle_goes_encrypted_or_nowhere_but_here() {
        for (url, encrypted) in [
            ("https://ehr.example/fhir/R4", true),
            ("http://localhost:8103/fhir", false),
            ("http://127.0.0.1:1", false),
            ("http://[::1]:8103/", false),
        ] {
            assert_eq!(check(url).ok(), Some(encrypted), "{url}");
        }
        for url in [
            "http://ehr.example/fhir",
            "http://10.0.0.1/",
            "http://127.0.0.1.example/",
            "http://localhost.example/",
        ] {
            assert!(matches!(check(url), Err(PostError::Plain(_))), "{url}");
        }
        for url in [
            "",
            "ehr.example",
            "/fhir",
            "ftp://h/",
            "https://",
            "https://user:secret@h/",
            "https://h/?a=b",
            "https://h/#a",
        ] {
            assert!(matches!(check(url), Err(PostError::Url(_))), "{url}");
        }
    }

    #[test]
    fn a_token_is_one_word_that_nobody_else_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        write("abc.DEF-1_~+/=\n", 0o600);
        assert_eq!(read_token(&path).unwrap().as_str(), "abc.DEF-1_~+/=");
        write("abc", 0o640);
        assert!(matches!(
            read_token(&path),
            Err(PostError::TokenTooOpen { mode: 0o640, .. })
        ));
        for bad in ["", "\n", "two words", "a\r\nX-Evil: 1"] {
            write(bad, 0o600);
            let error = read_token(&path).unwrap_err();
            assert!(matches!(error, PostError::File { .. }), "{bad:?}");
            assert!(!error.to_string().contains("Evil"));
        }
    }

    fn names() -> Vec<String> {
        vec!["Consent".to_owned(), "Provenance".to_owned()]
    }

    #[test]
    fn an_answer_says_of_every_entry_that_it_was_taken() {
        let answer = |second: Value| {
            json!({ "resourceType": "Bundle", "type": "transaction-response", "entry": [
                { "response": { "status": "201 Created", "location": "Consent/7/_history/1" } }, { "response": second },
            ] })
            .to_string()
        };
        let taken = judge(200, answer(json!({ "status": "200" })).as_bytes(), &names()).unwrap();
        assert_eq!(
            (taken[0].name.as_str(), taken[0].location.as_str()),
            ("Consent", "Consent/7/_history/1")
        );
        let outcome = json!({ "issue": [{ "code": "invalid", "details": { "text": "Missing\u{1b}[2J target" }, "expression": ["Provenance.target"] }] });
        let refused = judge(
            200,
            answer(json!({ "status": "400", "outcome": outcome })).as_bytes(),
            &names(),
        );
        let error = refused.unwrap_err();
        assert!(matches!(error, PostError::Entry { index: 1, .. }));
        let text = error.to_string();
        assert!(
            text.contains("Provenance (400): Missing?[2J target (Provenance.target)"),
            "{text}"
        );
        for status in ["", "202 Accepted", "2010", "304"] {
            let answer = answer(json!({ "status": status }));
            assert!(
                matches!(
                    judge(200, answer.as_bytes(), &names()),
                    Err(PostError::Entry { .. })
                ),
                "{status}"
            );
        }
    }

    #[test]
    fn what_is_no_answer_to_a_transaction_is_none() {
        let outcome = json!({ "resourceType": "OperationOutcome", "issue": [{ "code": "forbidden", "diagnostics": "no" }] });
        let error = judge(403, outcome.to_string().as_bytes(), &names()).unwrap_err();
        assert!(
            matches!(&error, PostError::Refused { status: 403, said } if said == "no"),
            "{error}"
        );
        for status in [302, 500] {
            assert!(matches!(
                judge(status, b"<html>", &names()),
                Err(PostError::Refused { .. })
            ));
        }
        let empty =
            json!({ "resourceType": "Bundle", "type": "transaction-response", "entry": [] }).to_string();
        let batch = json!({ "resourceType": "Bundle", "type": "batch-response" }).to_string();
        for answer in ["", "<html>", "{}", "[]", &empty, &batch] {
            assert!(
                matches!(judge(200, answer.as_bytes(), &names()), Err(PostError::Answer(_))),
                "{answer}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_judged(status in 100..600_u16, answer in "\\PC{0,100}", at in 0..3_usize) {
            // Text that is none, text in an entry, text in an outcome.
            let entry = json!({ "response": { "status": answer, "location": answer, "outcome": { "issue": [{ "diagnostics": answer }] } } });
            let bundle = json!({ "resourceType": "Bundle", "type": "transaction-response", "entry": [entry, entry] });
            let outcome = json!({ "issue": [{ "details": { "text": answer }, "expression": [answer] }, answer, { "code": 1 }] });
            let bytes = [answer.clone(), bundle.to_string(), outcome.to_string()][at].clone();
            if let Err(error) = judge(status, bytes.as_bytes(), &names()) {
                prop_assert!(!error.to_string().contains(char::is_control));
            }
        }
    }
}
