use super::*;
use std::os::unix::fs::PermissionsExt;

fn environment(state_home: &Path) -> Environment {
    Environment {
        state_home: Some(state_home.into()),
        home: None,
        credentials: None,
    }
}

fn file(folder: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_key_is_64_hex_digits_or_32_bytes() {
    let digits = "0f".repeat(32);
    for (content, good) in [
        (digits.as_bytes().to_vec(), true),
        (format!("{digits}\n").into(), true),
        (format!("{digits}\r\n").into(), true),
        (vec![0x0f; 32], true),
        (format!("{digits}\nx").into(), false),
        (format!("{digits}00").into(), false),
        (digits.as_bytes()[1..].to_vec(), false),
        (vec![0x0f; 31], false),
        (vec![0x0f; 33], false),
        (Vec::new(), false),
    ] {
        let key = parse_key(&content);
        assert_eq!(key.is_some(), good, "{content:?}");
        assert!(key.is_none_or(|key| *key == [0x0f; 32]));
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_and_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let none = environment(folder.path());
    let good = StateKey::File(file(folder.path(), "good", &[1; 32], 0o600));
    assert_eq!(*none.key(&good).unwrap(), [1; 32]);
    for mode in [0o640, 0o604, 0o660, 0o610] {
        let open = StateKey::File(file(folder.path(), "open", &[1; 32], mode));
        let error = none.key(&open).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}

#[test]
fn what_is_no_key_is_refused_without_showing_it() {
    let folder = tempfile::tempdir().unwrap();
    let none = environment(folder.path());
    let secret = "correct horse battery staple";
    let wrong = StateKey::File(file(folder.path(), "wrong", secret.as_bytes(), 0o600));
    let error = none.key(&wrong).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("horse"));
    assert!(error.to_string().contains("64 hex digits"));
    let directory = StateKey::File(folder.path().into());
    assert!(matches!(none.key(&directory), Err(KeyError::Malformed(_))));
    let absent = StateKey::File(folder.path().join("absent"));
    assert!(matches!(
        none.key(&absent),
        Err(KeyError::Io { what: "read", .. })
    ));
    assert!(!folder.path().join("absent").exists());
}

#[test]
fn the_default_key_is_made_once_and_only_for_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<_> = std::thread::scope(|scope| {
        let make = || environment(folder.path()).key(&StateKey::Default).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| **key == *keys[0]));
    assert_ne!(*keys[0], [0; 32]);
    let place = folder.path().join(FOLDER);
    let names: Vec<_> = std::fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["state-key"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&place), 0o700);
    assert_eq!(mode(&place.join("state-key")), 0o600);
}

#[test]
fn a_systemd_credential_goes_before_the_default_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = environment(folder.path());
    service.credentials = Some(folder.path().into());
    file(folder.path(), CREDENTIAL, &[3; 32], 0o440);
    file(folder.path(), "other", &[4; 32], 0o400);
    assert_eq!(*service.key(&StateKey::Default).unwrap(), [3; 32]);
    let other = StateKey::parse(Some("credential:other"));
    assert_eq!(*service.key(&other).unwrap(), [4; 32]);
    for name in ["", ".", "../x", "/etc/passwd"] {
        let key = service.key(&StateKey::Credential(name.into()));
        assert!(matches!(key, Err(KeyError::CredentialName(_))), "{name}");
    }
    let alone = environment(folder.path()).key(&other).unwrap_err();
    assert!(
        alone.to_string().contains("LoadCredentialEncrypted=other"),
        "{alone}"
    );
}

#[test]
fn without_a_state_directory_there_is_an_error_that_says_so() {
    let nothing = Environment {
        state_home: Some("relative".into()),
        home: None,
        credentials: None,
    };
    assert!(matches!(nothing.folder(), Err(KeyError::NoStateDirectory)));
    let home = Environment {
        home: Some("/home/x".into()),
        ..nothing
    };
    let folder = home.folder().unwrap();
    assert_eq!(folder, Path::new("/home/x/.local/state/gst-e2ee/mls"));
}

#[test]
fn each_room_and_certificate_has_a_state_file_of_its_own_that_does_not_name_the_room() {
    let files = [("ward 7", [1; 32]), ("ward 7", [2; 32]), ("ward 8", [1; 32])]
        .map(|(room, fingerprint)| state_file_name(room, &fingerprint));
    assert_ne!(files[0], files[1]);
    assert_ne!(files[0], files[2]);
    assert!(files.iter().all(|file| !file.contains("ward")));
    assert_eq!(files[0], state_file_name("ward 7", &[1; 32]));
}

#[test]
fn a_property_names_a_file_a_credential_or_nothing() {
    assert_eq!(StateKey::parse(None), StateKey::Default);
    assert_eq!(StateKey::parse(Some("")), StateKey::Default);
    let credential = StateKey::Credential("a".into());
    assert_eq!(StateKey::parse(Some("credential:a")), credential);
    assert_eq!(StateKey::parse(Some("/a/b")), StateKey::File("/a/b".into()));
}
