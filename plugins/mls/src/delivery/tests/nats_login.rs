//! Who an endpoint is to a NATS server, and who the server is.

use super::server::Server;
use super::*;
use crate::delivery::nats::{Address, Files, NatsDelivery, NatsError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer};
use serde_json::json;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn open(url: &str, files: &Files) -> Result<NatsDelivery, NatsError> {
    NatsDelivery::open(&Address::parse(url)?, files, 1, "room")
}

/// A record goes there and comes back.
fn works(url: &str, files: &Files) {
    let mut delivery = open(url, files).unwrap_or_else(|error| panic!("{url}: {error}"));
    let Appended::Accepted(sequence) = delivery.append("message", &message("hello")).unwrap() else {
        panic!("not accepted");
    };
    assert_eq!(delivery.read(sequence - 1, 1).unwrap()[0].bytes, message("hello"));
}

fn refused(url: &str, files: &Files) -> NatsError {
    match open(url, files) {
        Ok(_) => panic!("{url}: opened"),
        Err(error) => error,
    }
}

fn private(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn user_and_password_or_a_token_open_the_door_and_wrong_ones_do_not() {
    let none = Files::default();
    let server = Server::with("authorization { user: anna, password: \"s3,cr/t@%\" }");
    let at = format!("127.0.0.1:{}", server.port);
    works(&format!("nats://anna:s3%2Ccr%2Ft%40%25@{at}"), &none);
    for login in ["anna:wr0ng@", "ben:s3%2Ccr%2Ft%40%25@", "wr0ng@", ""] {
        let error = refused(&format!("nats://{login}{at}"), &none);
        assert!(matches!(error, NatsError::Refused { .. }), "{error}");
        let said = format!("{error} {error:?}");
        assert!(said.contains("password") && said.contains(&at), "{said}");
        assert!(!said.contains("wr0ng") && !said.contains("s3"), "{said}");
    }
    let server = Server::with("authorization { token: \"t0ken\" }");
    let at = format!("127.0.0.1:{}", server.port);
    works(&format!("nats://t0ken@{at}"), &none);
    assert!(matches!(
        refused(&format!("nats://wr0ng@{at}"), &none),
        NatsError::Refused { .. }
    ));
}

#[test]
fn an_nkey_opens_the_door_and_another_one_does_not() {
    let (right, wrong) = (KeyPair::new_user(), KeyPair::new_user());
    let server = Server::with(&format!(
        "authorization {{ users: [{{ nkey: {} }}] }}",
        right.public_key()
    ));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, key: &KeyPair| Files {
        credentials: Some(private(
            folder.path(),
            name,
            &format!("# anna's\n{}\n", key.seed().unwrap()),
        )),
        ..Files::default()
    };
    works(&server.url(), &file("right", &right));
    assert!(matches!(
        refused(&server.url(), &file("wrong", &wrong)),
        NatsError::Refused { .. }
    ));

    // A login twice, a file that others may read, one with something else in it.
    let files = file("right", &right);
    let error = refused(&format!("nats://token@127.0.0.1:{}", server.port), &files);
    assert!(matches!(error, NatsError::TwoLogins), "{error}");
    let path = files.credentials.clone().unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let error = refused(&server.url(), &files);
    assert!(
        error.to_string().contains("nats-credentials-file") && error.to_string().contains("chmod"),
        "{error}"
    );
    for garbage in ["", "SUnothing", "-----BEGIN NATS USER JWT-----\nx\n"] {
        private(folder.path(), "right", garbage);
        let error = refused(&server.url(), &files);
        assert!(
            matches!(error, NatsError::NotCredentials(_)),
            "{garbage}: {error}"
        );
    }
}

/// What NATS calls a JWT, signed by an nkey.
fn jwt(by: &KeyPair, of: &KeyPair, nats: serde_json::Value) -> String {
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({
        "jti": "1", "iat": 1_700_000_000, "iss": by.public_key(), "sub": of.public_key(), "name": "test", "nats": nats,
    });
    let signed = format!(
        "{}.{}",
        part(json!({ "typ": "JWT", "alg": "ed25519-nkey" })),
        part(claims)
    );
    let signature = by.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_credentials_file_opens_the_door_and_one_of_another_account_does_not() {
    let operator = KeyPair::new_operator();
    let [clinic, system, foreign] = [(); 3].map(|()| KeyPair::new_account());
    let account = |account: &KeyPair, storage: i64| {
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage,
        });
        let nats = json!({ "limits": limits, "type": "account", "version": 2 });
        jwt(&operator, account, nats)
    };
    let server = Server::with(&format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}",
        jwt(&operator, &operator, json!({ "type": "operator", "version": 2 })),
        system.public_key(),
        clinic.public_key(),
        account(&clinic, -1),
        system.public_key(),
        account(&system, 0),
    ));
    let folder = tempfile::tempdir().unwrap();
    let credentials = |name: &str, account: &KeyPair| {
        let user = KeyPair::new_user();
        let nats = json!({ "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2 });
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            jwt(account, &user, nats),
            user.seed().unwrap(),
        );
        Files {
            credentials: Some(private(folder.path(), name, &text)),
            ..Files::default()
        }
    };
    works(&server.url(), &credentials("anna.creds", &clinic));
    let error = refused(&server.url(), &credentials("foreign.creds", &foreign));
    assert!(matches!(error, NatsError::Refused { .. }), "{error}");
}

/// An authority with certificates of a server and a client, in PEM.
struct Pki {
    ca: PathBuf,
    folder: tempfile::TempDir,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        Self {
            ca: private(folder.path(), "ca.pem", &certificate.pem()),
            folder,
            issuer: Issuer::new(parameters, key),
        }
    }

    /// Paths of a certificate and its key.
    fn issue(&self, name: &str, hosts: &[&str]) -> (PathBuf, PathBuf) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).unwrap();
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let write = |kind: &str, text: &str| private(self.folder.path(), &format!("{name}{kind}.pem"), text);
        (write("", &certificate.pem()), write("-key", &key.serialize_pem()))
    }

    fn trusted(&self) -> Files {
        Files {
            ca: Some(self.ca.clone()),
            ..Files::default()
        }
    }
}

fn tls_server(pki: &Pki, hosts: &[&str], more: &str) -> Server {
    let (certificate, key) = pki.issue("server", hosts);
    Server::with(&format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", {more} }}",
        certificate.display(),
        key.display()
    ))
}

#[test]
fn a_servers_certificate_is_checked_against_the_ca_and_the_host() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = tls_server(&pki, &["127.0.0.1"], "");
    let url = format!("tls://127.0.0.1:{}", server.port);
    works(&url, &pki.trusted());
    // The server asks for it, whatever the scheme.
    works(&server.url(), &pki.trusted());
    for files in [other.trusted(), Files::default()] {
        let error = refused(&url, &files);
        assert!(matches!(error, NatsError::Tls { .. }), "{error}");
        let said = error.to_string();
        assert!(
            said.contains("nats-ca-file") && said.contains("certificate"),
            "{said}"
        );
    }
    let server = tls_server(&pki, &["nats.example"], "");
    let error = refused(&format!("tls://127.0.0.1:{}", server.port), &pki.trusted());
    assert!(
        matches!(error, NatsError::Tls { .. }),
        "another host's certificate: {error}"
    );
    // Nobody takes TLS away: neither by the address nor where a CA is named.
    let server = Server::start();
    for (url, files) in [
        (format!("tls://127.0.0.1:{}", server.port), Files::default()),
        (server.url(), pki.trusted()),
    ] {
        let error = refused(&url, &files);
        assert!(matches!(error, NatsError::Tls { .. }), "{error}");
    }
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_asks_for_it() {
    let (pki, other) = (Pki::new(), Pki::new());
    let ask = format!("ca_file: \"{}\", verify: true", pki.ca.display());
    let server = tls_server(&pki, &["127.0.0.1"], &ask);
    let url = format!("tls://127.0.0.1:{}", server.port);
    let with = |(certificate, key): (PathBuf, PathBuf)| Files {
        certificate: Some(certificate),
        key: Some(key),
        ..pki.trusted()
    };
    works(&url, &with(pki.issue("anna", &[])));
    for files in [pki.trusted(), with(other.issue("anna", &[]))] {
        let error = refused(&url, &files);
        assert!(matches!(error, NatsError::Tls { .. }), "{error}");
        assert!(error.to_string().contains("nats-certificate-file"), "{error}");
    }
    let mut half = with(pki.issue("anna", &[]));
    half.key = None;
    assert!(matches!(refused(&url, &half), NatsError::HalfCertificate));
    let mut missing = pki.trusted();
    missing.ca = Some(PathBuf::from("/nowhere/ca.pem"));
    let error = refused(&url, &missing).to_string();
    assert!(
        error.contains("nats-ca-file") && error.contains("/nowhere/ca.pem"),
        "{error}"
    );
}

#[test]
fn what_is_no_nats_server_with_jetstream_is_said() {
    let none = Files::default();
    let port = server::free_port();
    let error = refused(&format!("nats://127.0.0.1:{port}"), &none);
    assert!(matches!(error, NatsError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    let error = refused("nats://host.invalid", &none);
    assert!(matches!(error, NatsError::Unreachable { .. }), "{error}");
    // The last `jetstream` counts.
    let server = Server::with("jetstream: disabled");
    let error = refused(&server.url(), &none);
    assert!(matches!(error, NatsError::NoJetStream { .. }), "{error}");
    // Somebody else's protocol.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let other = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        io::Write::write_all(&mut connection, b"220 mail.example ESMTP\r\n").unwrap();
    });
    let error = refused(&url, &none);
    assert!(matches!(error, NatsError::Unreachable { .. }), "{error}");
    other.join().unwrap();
}

#[test]
fn the_permissions_in_the_readme_are_enough_and_who_lacks_one_hears_which() {
    let server = Server::with(
        "authorization { users: [
           { user: anna, password: x, permissions: {
             publish: [\"gst-e2ee.>\", \"$JS.API.STREAM.>\"],
             subscribe: [\"gst-e2ee.>\", \"_INBOX.>\", \"$JS.EVENT.ADVISORY.STREAM.DELETED.>\"] } },
           { user: ben, password: x, permissions: { publish: [\"$JS.API.>\"] } }] }",
    );
    let open = |user: &str| {
        let url = format!("nats://{user}:x@127.0.0.1:{}", server.port);
        open(&url, &Files::default()).unwrap()
    };
    let mut reader = Reader::new(Box::new(open("anna")));
    let mut anna = open("anna");
    for n in 1..100 {
        anna.append("message", &message("hello")).unwrap();
        reader.read_until(|reader| reader.seen.len() == n);
    }
    let error = open("ben").append("message", &message("hello")).unwrap_err();
    assert!(!error.is_temporary(), "{error}");
    let said = error.to_string();
    assert!(
        said.contains("forbids") && said.contains("Permissions Violation"),
        "{said}"
    );
}
