use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use openmls_traits::signatures::Signer;
use openmls_traits::types::SignatureScheme;

use super::super::issue::{certificate_pem, chain_pem};
use super::*;

/// A folder with files of an identity.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

fn pem(key: &IdentityKey) -> String {
    key.to_pem().unwrap().to_string()
}

fn issued(ca: &Authority, key: &IdentityKey) -> Vec<Vec<u8>> {
    let subject = Subject {
        id: "7f3a".to_owned(),
        operator: None,
        roles: vec![Role::Participant],
    };
    ca.issue(key.public(), &subject, VALID).unwrap().0
}

fn authorities() -> (Authority, Authority) {
    let root = Authority::root("Clinic", key(1), VALID).unwrap();
    let ward = root.intermediate("Ward", key(2), VALID).unwrap();
    (root, ward)
}

#[test]
fn an_identity_is_loaded_from_its_files() {
    let (root, ward) = authorities();
    let own_key = key(9);
    let chain = issued(&ward, &own_key);
    let files = Files::new();
    let key_file = files.write("key.pem", pem(&own_key), 0o600);
    let other = Authority::root("Clinic", key(3), VALID).unwrap();
    let roots = [
        other.root_certificate().to_vec(),
        root.root_certificate().to_vec(),
    ];
    // The right root is found among others of its name.
    let ca_file = files.write("ca.pem", chain_pem(&roots).unwrap(), 0o644);
    for length in [2, 3] {
        let text = format!("Text before it\n{}", chain_pem(&chain[..length]).unwrap());
        let certificate_file = files.write("cert.pem", text, 0o644);
        let own = OwnIdentity::load(&certificate_file, &key_file, &ca_file, NOW).unwrap();
        assert_eq!(own.credential_content(), content(&chain).unwrap());
        assert_eq!(own.identity().subject, "7f3a");
        assert_eq!(own.identity().root, root.fingerprint());
        let mut fingerprints = [root.fingerprint(), other.fingerprint()];
        fingerprints.sort();
        assert_eq!(own.roots(), fingerprints);

        assert_eq!(Signer::signature_scheme(&own), SignatureScheme::ED25519);
        let signature = Signer::sign(&own, b"data").unwrap();
        assert_eq!(signature, own.sign(b"data"));
        ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, own.identity().public_key)
            .verify(b"data", &signature)
            .unwrap();
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (root, _) = authorities();
    let chain = issued(&root, &key(9));
    let roots = [root.root_certificate().to_vec()];
    let refused = OwnIdentity::new(chain, key(8), &roots, NOW).unwrap_err();
    assert!(matches!(refused, LoadError::NoPair));
}

#[test]
fn a_chain_that_ends_elsewhere_is_refused() {
    let (root, ward) = authorities();
    let chain = issued(&ward, &key(9));
    let foreign = Authority::root("Clinic", key(66), VALID).unwrap();
    let roots = [foreign.root_certificate().to_vec()];
    for length in 1..=3 {
        let refused = OwnIdentity::new(chain[..length].to_vec(), key(9), &roots, NOW).unwrap_err();
        let expected = IdentityError::UnknownRoot;
        assert!(
            matches!(&refused, LoadError::Identity(error) if *error == expected),
            "{refused}"
        );
    }
    // Its issuer is missing.
    let roots = [root.root_certificate().to_vec()];
    assert!(OwnIdentity::new(chain[..1].to_vec(), key(9), &roots, NOW).is_err());
    assert!(OwnIdentity::new(vec![], key(9), &roots, NOW).is_err());
    assert!(OwnIdentity::new(chain.clone(), key(9), &[], NOW).is_err());
    let late = OwnIdentity::new(chain[..2].to_vec(), key(9), &roots, VALID.until + 1).unwrap_err();
    assert!(
        matches!(late, LoadError::Identity(IdentityError::Expired)),
        "{late}"
    );
}

#[test]
fn a_private_key_that_others_may_read_is_refused() {
    let files = Files::new();
    for mode in [0o400, 0o600, 0o700] {
        let path = files.write("good.pem", pem(&key(9)), mode);
        assert_eq!(read_key(&path).unwrap().public(), key(9).public());
    }
    for mode in [0o640, 0o604, 0o620, 0o610, 0o644, 0o666] {
        let path = files.write(&format!("{mode:o}.pem"), pem(&key(9)), mode);
        let error = read_key(&path).unwrap_err();
        assert!(matches!(error, LoadError::Open { .. }));
        assert!(
            error
                .to_string()
                .contains(&format!("chmod 600 {}", path.display()))
        );
    }
    // The mode of the file counts, not that of a link to it.
    let open = files.folder.path().join("644.pem");
    let link = files.folder.path().join("link.pem");
    std::os::unix::fs::symlink(open, &link).unwrap();
    assert!(matches!(read_key(&link), Err(LoadError::Open { .. })));
}

#[test]
fn other_files_in_place_of_a_key_are_explained() {
    let files = Files::new();
    let p256 = p256().serialize_pem();
    let encrypted = pem(&key(9)).replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let (root, _) = authorities();
    let certificate = certificate_pem(root.root_certificate()).unwrap();
    for (text, expected) in [
        (p256.as_str(), KeyError::NotEd25519),
        (&encrypted, KeyError::Encrypted),
        (&certificate, KeyError::NotAKey),
        ("", KeyError::NotAKey),
        ("-----BEGIN PRIVATE KEY-----\n", KeyError::NotAKey),
        (
            "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n",
            KeyError::NotAKey,
        ),
    ] {
        let path = files.write("key.pem", text, 0o600);
        match read_key(&path) {
            Err(LoadError::Key { error, .. }) => assert_eq!(error, expected, "{text}"),
            other => panic!("{other:?}"),
        }
    }
    let path = files.write("key.pem", [0xff, 0xfe], 0o600);
    assert!(matches!(read_key(&path), Err(LoadError::Key { .. })));
    let path = files.write("long.pem", vec![b'a'; 300 << 10], 0o600);
    assert!(matches!(read_key(&path), Err(LoadError::NotAFile(_))));
    assert!(matches!(
        read_key(files.folder.path()),
        Err(LoadError::NotAFile(_))
    ));
    let absent = files.folder.path().join("absent");
    assert!(matches!(read_key(&absent), Err(LoadError::Read { .. })));
    // It must not wait for a writer.
    assert!(matches!(
        read_certificates(std::path::Path::new("/dev/null")),
        Err(LoadError::NotAFile(_))
    ));
}

#[test]
fn files_without_or_with_damaged_certificates_are_refused() {
    let files = Files::new();
    let (root, _) = authorities();
    let whole = certificate_pem(root.root_certificate()).unwrap();
    let damaged = format!("{whole}{}", whole.replacen('M', "!", 1));
    for text in ["", "no certificate", &pem(&key(9)), &damaged, &whole[..200]] {
        let path = files.write("cert.pem", text, 0o600);
        let read = read_certificates(&path);
        assert!(matches!(read, Err(LoadError::NoCertificates(_))), "{text}");
    }
}

#[test]
fn keys_of_other_tools_are_read() {
    // RFC 8410 §10.3: as openssl writes it, and with attributes and the public key.
    const SHORT: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const LONG: &str = "-----BEGIN PRIVATE KEY-----\n\
        MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\n\
        Z9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    for text in [SHORT, LONG] {
        let key = IdentityKey::from_pem(text).unwrap();
        assert_eq!(hex::encode(key.public()), PUBLIC);
        assert_eq!(pem(&key), SHORT);
    }
    let ring = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = IdentityKey::from_pem(&ring.serialize_pem()).unwrap();
    assert_eq!(&key.public()[..], ring.public_key_raw());
}

#[test]
fn keys_are_not_printed() {
    let (root, _) = authorities();
    let chain = issued(&root, &key(9));
    let roots = [root.root_certificate().to_vec()];
    let own = OwnIdentity::new(chain, key(9), &roots, NOW).unwrap();
    for printed in [
        format!("{own:?}"),
        format!("{own:#?}"),
        format!("{:?}", key(9)),
        format!("{root:?}"),
    ] {
        for secret in ["9, 9, 9", "090909", "1, 1, 1", "010101"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}

#[test]
fn generated_keys_differ() {
    let a = IdentityKey::generate().unwrap();
    let b = IdentityKey::generate().unwrap();
    assert_ne!(a.public(), b.public());
    let again = IdentityKey::from_pem(&a.to_pem().unwrap()).unwrap();
    assert_eq!(again.public(), a.public());
}
