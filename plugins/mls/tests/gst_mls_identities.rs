//! `gst-mls` as somebody at a shell uses it to make identities.

#![allow(clippy::unwrap_used, reason = "clippy sees helpers of tests as ordinary code")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use gstmls::identity::{OwnIdentity, Role};

fn run(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gst-mls"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn succeed(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments}: {error}");
    assert!(error.is_empty(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

fn fail(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    assert!(!output.status.success(), "{arguments}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

fn load(folder: &Path, certificate: &str, key: &str, ca: &str) -> OwnIdentity {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let [certificate, key, ca] = [certificate, key, ca].map(|name| folder.join(name));
    OwnIdentity::load(&certificate, &key, &ca, now).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn three_commands_make_two_identities_that_trust_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let told = succeed(folder, "ca new --name Clinic --out made/ca");
    let alice = succeed(
        folder,
        "identity new --ca made/ca --role participant --operator Ward --out alice",
    );
    succeed(
        folder,
        "identity new --ca made/ca --role recorder,participant --id r1 --out recorder",
    );

    let own = load(folder, "alice/cert.pem", "alice/key.pem", "alice/ca.pem");
    assert_eq!(own.identity().roles, [Role::Participant]);
    assert_eq!(own.identity().operator.as_deref(), Some("Ward"));
    assert!(alice.contains(&own.identity().fingerprint.to_string()));
    assert!(
        alice.contains("certificate-file=alice/cert.pem private-key-file=alice/key.pem ca-file=alice/ca.pem")
    );
    assert!(told.contains(&own.identity().root.to_string()));
    let recorder = load(folder, "recorder/cert.pem", "recorder/key.pem", "alice/ca.pem");
    assert_eq!(recorder.identity().subject, "r1");
    assert_eq!(recorder.identity().roles, [Role::Participant, Role::Recorder]);
    assert_eq!(recorder.roots(), own.roots());

    for secret in ["made/ca/ca-key.pem", "alice/key.pem", "recorder/key.pem"] {
        assert_eq!(mode(&folder.join(secret)), 0o600);
    }
    for private in ["made", "made/ca", "alice"] {
        assert_eq!(mode(&folder.join(private)), 0o700);
    }
    assert_eq!(mode(&folder.join("alice/cert.pem")), 0o644);

    let told = succeed(folder, "fingerprint alice/cert.pem");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 2);
    let identity = own.identity();
    let (fingerprint, subject) = (identity.fingerprint, &identity.subject);
    assert!(lines[0].starts_with(&format!(
        "{fingerprint}  participant {subject}, operated by Ward, valid"
    )));
    assert!(lines[1].starts_with(&format!("{}  authority Clinic, valid from ", identity.root)));
}

#[test]
fn nothing_is_written_over_without_being_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(folder, "ca new --name Clinic --out ca");
    let key = std::fs::read(folder.join("ca/ca-key.pem")).unwrap();
    assert!(fail(folder, "ca new --name Other --out ca").contains("--force"));
    // Not even half of it.
    std::fs::remove_file(folder.join("ca/ca.pem")).unwrap();
    assert!(fail(folder, "ca new --name Other --out ca").contains("ca-key.pem exists"));
    assert!(!folder.join("ca/ca.pem").exists());
    assert_eq!(std::fs::read(folder.join("ca/ca-key.pem")).unwrap(), key);
    succeed(folder, "ca new --name Other --out ca --force");
    assert_ne!(std::fs::read(folder.join("ca/ca-key.pem")).unwrap(), key);
    assert_eq!(mode(&folder.join("ca/ca-key.pem")), 0o600);

    succeed(folder, "identity new --ca ca --role participant --out a");
    let key = std::fs::read(folder.join("a/key.pem")).unwrap();
    assert!(fail(folder, "identity new --ca ca --role participant --out a").contains("exists"));
    assert!(fail(folder, "identity csr --out a").contains("exists"));
    assert_eq!(std::fs::read(folder.join("a/key.pem")).unwrap(), key);
    let left: Vec<_> = std::fs::read_dir(folder.join("ca")).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_certificate_is_issued_for_a_key_that_stays_where_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(folder, "ca new --name Clinic --out ca");
    succeed(folder, "identity csr --out device");
    succeed(
        folder,
        "identity issue --ca ca --csr device/request.pem --role recorder --id r2 --days 1 --out issued.pem",
    );
    let own = load(folder, "issued.pem", "device/key.pem", "ca/ca.pem");
    assert_eq!(own.identity().subject, "r2");
    assert!(own.identity().only_recorder());

    let damaged = std::fs::read_to_string(folder.join("device/request.pem"))
        .unwrap()
        .replacen('M', "N", 1);
    std::fs::write(folder.join("damaged.pem"), damaged).unwrap();
    let told = fail(
        folder,
        "identity issue --ca ca --csr damaged.pem --role recorder --out no.pem",
    );
    assert!(told.contains("damaged.pem"), "{told}");
    assert!(!folder.join("no.pem").exists());
}

#[test]
fn mistakes_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(folder, "ca new --name Clinic --out ca");
    assert!(fail(folder, "identity new --ca ca --out a").contains("--role"));
    assert!(fail(folder, "identity new --ca ca --role observer --out a").contains("participant or recorder"));
    assert!(fail(folder, "identity new --ca nowhere --role recorder --out a").contains("nowhere/ca.pem"));
    assert!(fail(folder, "identity new --ca ca --role recorder --days 0 --out a").contains("--days"));
    assert!(fail(folder, "fingerprint ca/ca-key.pem").contains("no certificates"));
    assert!(fail(folder, "fingerprint nothing.pem").contains("nothing.pem"));
    let key = folder.join("ca/ca-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(fail(folder, "identity new --ca ca --role recorder --out a").contains("chmod 600"));
    assert!(!folder.join("a").exists());
}
