//! `gst-mls backup` and `restore` as somebody at a shell uses them: the built command beside an endpoint in a room.

#![allow(clippy::unwrap_used, reason = "clippy sees helpers of tests as ordinary code")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Once;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_e2ee_common::age_file::{self, Identity};
use gstmls::enrolment::Enrolment;
use gstmls::policy::Policy;
use serde_json::{Value, json};

const BACKUP: &str = "backup --socket control --certificate anna/cert.pem --ca anna/ca.pem";

/// Anna in a folder of her own, with the key for recovery.
struct Anna {
    folder: tempfile::TempDir,
    recovery: Identity,
    keyring: Option<gst::Element>,
}

impl Anna {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recovery = Identity::generate();
        let anna = Self {
            folder,
            recovery,
            keyring: None,
        };
        anna.succeed("ca new --name Clinic --out ca");
        anna.succeed("identity new --ca ca --role participant --id anna --operator Ward --out anna");
        let secret = age_file::identity_text(&anna.recovery);
        fs::write(anna.path("recovery.txt"), format!("# kept apart\n{}\n", *secret)).unwrap();
        anna
    }

    /// With her endpoint in the room `visit`.
    fn in_the_room() -> Self {
        let mut anna = Self::new();
        anna.start("create=true");
        anna.until_status_says("ready");
        anna
    }

    fn start(&mut self, more: &str) {
        static INIT: Once = Once::new();
        INIT.call_once(|| {
            gst::init().unwrap();
            gstmls::plugin_register_static().unwrap();
        });
        let path = |name: &str| self.path(name).display().to_string();
        let keyring = gst::parse::launch(&format!(
            "mlskeyring room=visit delivery=sqlite:{} certificate-file={} private-key-file={} ca-file={} state-file={} \
             state-key-file={} control-socket={} {more}",
            path("log"),
            path("anna/cert.pem"),
            path("anna/key.pem"),
            path("anna/ca.pem"),
            path("state"),
            path("state-key"),
            path("control")
        ))
        .unwrap();
        fs::write(self.path("state-key"), "5a".repeat(32)).unwrap();
        fs::set_permissions(self.path("state-key"), fs::Permissions::from_mode(0o600)).unwrap();
        keyring.set_state(gst::State::Playing).unwrap();
        self.keyring = Some(keyring);
    }

    fn until_status_says(&self, state: &str) {
        let end = Instant::now() + Duration::from_secs(40);
        while !self.succeed("room status --socket control").contains(state) {
            assert!(Instant::now() < end, "not {state}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gst-mls"))
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && error.is_empty(),
            "{arguments}: {error}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says where it fails, and prints nothing else.
    fn fail(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{arguments}"
        );
        String::from_utf8(output.stderr).unwrap()
    }

    fn restore(&self, out: &str) -> String {
        format!("restore --identity recovery.txt a.age --out {out}")
    }

    /// Opens the backup without our command.
    fn opened(&self, by: &Identity) -> Enrolment {
        let file = fs::read(self.path("a.age")).unwrap();
        Enrolment::decode(&age_file::open(&file, std::slice::from_ref(by)).unwrap()).unwrap()
    }

    /// Puts something else into the backup.
    fn seal(&self, text: &str) {
        let file = age_file::seal([&self.recovery.to_public()], text.as_bytes(), 0).unwrap();
        fs::write(self.path("a.age"), file).unwrap();
    }
}

impl Drop for Anna {
    fn drop(&mut self) {
        if let Some(keyring) = self.keyring.take() {
            keyring.set_state(gst::State::Null).unwrap();
        }
    }
}

#[test]
fn each_recipient_alone_opens_a_backup_and_others_do_not() {
    let anna = Anna::in_the_room();
    let [first, second, other] = [(); 3].map(|()| Identity::generate());
    let list = format!(
        "# two of us\n\n{}\n  {}\n",
        second.to_public(),
        anna.recovery.to_public()
    );
    fs::write(anna.path("recipients"), list).unwrap();
    let told = anna.succeed(&format!(
        "{BACKUP} --to {} recipients --out a.age",
        first.to_public()
    ));
    assert!(told.contains("for 3 recipients"), "{told}");
    for reader in [&first, &second, &anna.recovery] {
        let enrolment = anna.opened(reader);
        assert_eq!(
            (enrolment.room.as_str(), enrolment.identity.subject.as_str()),
            ("visit", "anna")
        );
        assert_eq!(
            enrolment.delivery,
            format!("sqlite:{}", anna.path("log").display())
        );
    }
    let file = fs::read(anna.path("a.age")).unwrap();
    assert!(age_file::open(&file, &[other]).is_err());

    // Replaced only if told so, and then whole.
    assert!(
        anna.fail(&format!("{BACKUP} --to recipients --out a.age"))
            .contains("--force")
    );
    assert_eq!(fs::read(anna.path("a.age")).unwrap(), file);
    anna.succeed(&format!("{BACKUP} --to recipients --out a.age --force"));
    assert_ne!(fs::read(anna.path("a.age")).unwrap(), file);
    assert_eq!(
        fs::metadata(anna.path("a.age")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let left = fs::read_dir(anna.folder.path()).unwrap();
    let hidden = left.filter(|entry| entry.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.');
    assert_eq!(hidden.count(), 0);
}

#[test]
fn a_backup_that_would_be_of_no_use_is_not_made() {
    let mut anna = Anna::new();
    anna.succeed("identity new --ca ca --role participant --id ben --out ben");
    anna.succeed("ca new --name Other --out other");
    let to = format!("--to {} --out a.age", anna.recovery.to_public());
    let told = anna.fail(&format!("{BACKUP} {to}"));
    assert!(told.contains("no keyring answers"), "{told}");
    // There is no such room yet: it waits.
    anna.start("");
    let told = anna.fail(&format!("{BACKUP} {to}"));
    assert!(told.contains("not in the room yet"), "{told}");
    drop(anna);

    let anna = Anna::in_the_room();
    anna.succeed("identity new --ca ca --role participant --id ben --out ben");
    anna.succeed("ca new --name Other --out other");
    let secret = age_file::identity_text(&anna.recovery);
    fs::write(anna.path("secrets"), format!("# mine\n{}\n", *secret)).unwrap();
    fs::write(anna.path("empty"), "# nobody\n").unwrap();
    let to = |to: &str| format!("{BACKUP} --to {to} --out a.age");
    let good = to(&anna.recovery.to_public().to_string());
    for (arguments, expected) in [
        (
            good.replace("anna/cert.pem", "ben/cert.pem"),
            "not the one that the endpoint in the room has",
        ),
        (
            good.replace("anna/ca.pem", "other/ca.pem"),
            "does not hold against other/ca.pem",
        ),
        (
            good.replace("anna/cert.pem", "anna/key.pem"),
            "holds no certificates",
        ),
        (to("age1abc"), "age1abc is no X25519 recipient"),
        (
            to("missing"),
            "missing is no age recipient, and as a file it cannot be read",
        ),
        (to("empty"), "names no recipient"),
        (to("secrets"), "secrets: line 2 is a PRIVATE key"),
        (to(&secret), "is a PRIVATE key"),
        (format!("{BACKUP} --out a.age"), "--to"),
    ] {
        let told = anna.fail(&arguments);
        assert!(told.contains(expected), "{expected:?} is not in: {told}");
        assert!(!told.contains(secret.as_str()), "it repeats a private key");
        assert!(!anna.path("a.age").exists());
    }
}

#[test]
fn what_cannot_be_restored_leaves_nothing_behind() {
    let anna = Anna::in_the_room();
    anna.succeed(&format!(
        "{BACKUP} --to {} --out a.age",
        anna.recovery.to_public()
    ));
    let good = fs::read(anna.path("a.age")).unwrap();
    let enrolment = anna.opened(&anna.recovery);
    let text = |field: &str, value: Value| {
        let mut changed = serde_json::to_value(&enrolment).unwrap();
        changed[field] = value;
        changed.to_string()
    };
    let damaged = [&good[..good.len() - 1], &[!good[good.len() - 1]]].concat();
    let sealed = |text: &str| age_file::seal([&anna.recovery.to_public()], text.as_bytes(), 0).unwrap();
    let foreign = age_file::seal([&Identity::generate().to_public()], b"{}", 0).unwrap();
    for (file, expected) in [
        (damaged, "is damaged"),
        (b"hello".to_vec(), "is damaged, or no age file"),
        (foreign, "not encrypted to this identity"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n".to_vec(), "without -a"),
        (vec![0; 1 << 21], "it is no backup"),
        (sealed("{}"), "no enrolment"),
        (sealed(&text("version", json!(2))), "a newer gst-mls"),
        (sealed(&text("key", json!("x"))), "unknown field `key`"),
        (sealed(&text("\u{1b}[2J", json!(1))), "unknown field"),
        (sealed(&text("room", json!("another"))), "another room's"),
    ] {
        fs::write(anna.path("a.age"), file).unwrap();
        let told = anna.fail(&anna.restore("new"));
        assert!(
            told.contains(expected) && !told.contains('\u{1b}'),
            "{expected:?}: {told}"
        );
        assert!(!anna.path("new").exists());
    }
    fs::write(anna.path("a.age"), good).unwrap();
    // Whatever of it exists already.
    fs::create_dir(anna.path("new")).unwrap();
    fs::write(anna.path("new/policy.json"), "mine").unwrap();
    let told = anna.fail(&anna.restore("new"));
    assert!(
        told.contains("policy.json exists already") && !told.contains("--force"),
        "{told}"
    );
    assert_eq!(fs::read_dir(anna.path("new")).unwrap().count(), 1);
    let told = anna.fail("restore --identity anna/key.pem a.age --out other");
    assert!(told.contains("no file of age identities"), "{told}");
}

#[test]
fn a_restored_device_has_another_key_and_is_told_what_to_do() {
    let anna = Anna::in_the_room();
    anna.succeed(&format!(
        "{BACKUP} --to {} --out a.age",
        anna.recovery.to_public()
    ));
    let enrolment = anna.opened(&anna.recovery);
    let told = anna.succeed(&anna.restore("new"));
    let old = enrolment.identity.certificate;
    for expected in [
        format!("gst-mls room remove {old} --socket SOCKET"),
        format!("gst-mls room set-policy also_deny={old} --socket SOCKET"),
        "gst-mls identity issue --ca DIR --csr new/request.pem --role participant --id anna --operator Ward \
         --out new/cert.pem"
            .to_owned(),
        "certificate-file=new/cert.pem private-key-file=new/key.pem ca-file=new/ca.pem".to_owned(),
        format!("{}  authority Clinic", enrolment.identity.root),
    ] {
        assert!(told.contains(&expected), "{expected:?} is not in: {told}");
    }
    assert!(
        !told.contains("accept=") && !told.contains("also_admit"),
        "{told}"
    );
    let policy: Policy = serde_json::from_slice(&fs::read(anna.path("new/policy.json")).unwrap()).unwrap();
    assert_eq!(policy, enrolment.policy);
    let read = |name: &str| fs::read(anna.path(name)).unwrap();
    assert_eq!(read("new/ca.pem"), read("anna/ca.pem"));
    assert_ne!(read("new/key.pem"), read("anna/key.pem"));
    // Each time another one.
    anna.succeed(&anna.restore("again"));
    assert_ne!(read("new/key.pem"), read("again/key.pem"));
    assert!(told.lines().all(|line| line.len() < 200), "{told}");
}

#[test]
fn what_a_shell_would_take_for_a_command_is_quoted() {
    let anna = Anna::in_the_room();
    anna.succeed(&format!(
        "{BACKUP} --to {} --out a.age",
        anna.recovery.to_public()
    ));
    let mut changed = serde_json::to_value(anna.opened(&anna.recovery)).unwrap();
    let old = changed["identity"]["certificate"].clone();
    changed["identity"]["subject"] = json!("$(touch pwned)");
    changed["identity"]["operator"] = json!("it's; touch pwned");
    changed["delivery"] = json!("sqlite:`touch pwned`");
    changed["policy"]["claim"] = json!("recorded");
    changed["policy"]["admit"] = json!([
        { "role": "participant", "fingerprint": old },
        { "role": "recorder", "fingerprint": old },
    ]);
    changed["policy"]["rights"]["remove"] = json!([old]);
    anna.seal(&changed.to_string());
    let told = anna.succeed(&anna.restore("new"));
    for expected in [
        r"--id '$(touch pwned)' --operator 'it'\''s; touch pwned'",
        "'delivery=sqlite:`touch pwned`'",
        "with accept=recorded",
        r#"'also_admit=[{"role":"participant","fingerprint":"NEW"},{"role":"recorder","fingerprint":"NEW"}]'"#,
        "holds rights by its fingerprint (remove)",
    ] {
        assert!(told.contains(expected), "{expected:?} is not in: {told}");
    }
}

#[test]
fn the_help_is_enough() {
    let anna = Anna::new();
    for (command, words) in [
        (
            "backup --help",
            &[
                "age-keygen -o",
                "--socket ben/control",
                "Nothing in it is a key",
                "age -d -i",
                "--force",
            ][..],
        ),
        (
            "restore --help",
            &["age-keygen", "NEW key", "request.pem", "denied", "fingerprint"],
        ),
    ] {
        let help = anna.succeed(command);
        for word in words {
            let plain = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(plain.contains(word), "{word:?} is not in: {help}");
        }
    }
}
