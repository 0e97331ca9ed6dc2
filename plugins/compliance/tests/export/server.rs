//! The FHIR server of `tests/fhir`, one for all tests; and what it is to see a Bundle arrive there.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use serde_json::{Value, json};

use super::clinic::{Clinic, Said, consent, first, visit};
use super::common::LIMIT;

pub struct Server {
    pub http: u64,
    pub https: u64,
    /// The CA of its certificate.
    pub ca: PathBuf,
    /// It ends when this does.
    _input: Mutex<ChildStdin>,
}

pub static SERVER: LazyLock<Server> = LazyLock::new(start);

/// Installs what package-lock.json names, once, and starts it.
fn start() -> Server {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fhir");
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fhir");
    fs::create_dir_all(&to).unwrap();
    // Other test processes install there, too.
    let lock = fs::File::create(to.join("lock")).unwrap();
    lock.lock().unwrap();
    let is_new =
        |name: &str| fs::read(from.join(name)).unwrap() != fs::read(to.join(name)).unwrap_or_default();
    if is_new("package-lock.json") || !to.join("installed").exists() {
        let _ = fs::remove_file(to.join("installed"));
        for name in ["package.json", "package-lock.json"] {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&to);
        let done = npm
            .stdin(Stdio::null())
            .output()
            .expect("no npm: run scripts/setup test");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        fs::write(to.join("installed"), "").unwrap();
    }
    fs::copy(from.join("server.mjs"), to.join("server.mjs")).unwrap();
    let ca = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let name = |kind: &str| to.join(format!("{}.{kind}", std::process::id()));
    fs::write(name("crt"), ca.cert.pem()).unwrap();
    fs::write(name("key"), ca.signing_key.serialize_pem()).unwrap();
    let mut node = Command::new("node");
    node.arg("server.mjs")
        .arg(name("crt"))
        .arg(name("key"))
        .current_dir(&to);
    let mut child = node
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("no node: run scripts/setup test");
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    let input = child.stdin.take().unwrap();
    // What it says later nobody needs, but it must be able to. It ends with its input, which this process holds.
    std::thread::spawn(move || {
        let _ = io::copy(&mut said, &mut io::sink());
        child.wait()
    });
    let ports: Value = serde_json::from_str(&line).unwrap();
    Server {
        http: ports["http"].as_u64().unwrap(),
        https: ports["https"].as_u64().unwrap(),
        ca: name("crt"),
        _input: Mutex::new(input),
    }
}

impl Server {
    pub fn url(&self, place: &str) -> String {
        format!("http://127.0.0.1:{}/{place}", self.http)
    }

    pub fn get(&self, path: &str) -> Value {
        let config = ureq::Agent::config_builder().timeout_global(Some(LIMIT)).build();
        let mut answer = config.new_agent().get(self.url(path)).call().unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    /// What is wrong with a resource, by HL7's schema and by R4's structure definitions.
    pub fn check(&self, resource: &Value) -> Vec<String> {
        let config = ureq::Agent::config_builder().timeout_global(Some(LIMIT)).build();
        let mut answer = config
            .new_agent()
            .post(self.url("check"))
            .send(resource.to_string())
            .unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }
}

/// Nothing is wrong with it.
#[track_caller]
pub fn is_valid(resource: &Value) {
    let wrong = SERVER.check(resource);
    assert!(wrong.is_empty(), "{wrong:#?} in {resource:#}");
}

#[test]
fn both_validators_see_what_is_wrong() {
    for (change, wanted) in [
        (("size", json!("12")), "schema: "),
        (
            ("contentTypes", json!("video/x-matroska")),
            "additional properties",
        ),
    ] {
        let mut attachment = json!({ "contentType": "video/x-matroska" });
        attachment[change.0] = change.1;
        let document = json!({ "resourceType": "DocumentReference", "status": "current", "content": [{ "attachment": attachment }] });
        let wrong = SERVER.check(&document).join("\n");
        assert!(
            wrong.contains(wanted) && wrong.contains("definitions: "),
            "{wrong}"
        );
    }
    // An invariant, which a schema cannot say.
    let mut resource = consent();
    resource.as_object_mut().unwrap().remove("policyRule");
    let wrong = SERVER.check(
        &json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": resource }] }),
    );
    assert!(wrong.join("\n").contains("ppc-1"), "{wrong:?}");
}

fn post(clinic: &Clinic, url: &str, out: &str, words: &[&str]) -> Said {
    let all = [
        &[
            "--fhir",
            url,
            "--out",
            out,
            "--media-url",
            "https://media.clinic.example/r/",
        ],
        words,
    ]
    .concat();
    clinic.export(&all)
}

#[test]
fn a_fhir_server_takes_it_and_has_the_consent_once() {
    let mut resource = consent();
    // Of this test alone: the server keeps what others sent.
    resource["identifier"][0]["value"] = json!("once");
    let clinic = Clinic::new(&resource, &visit());
    clinic.secret("token", "sesame");
    let url = SERVER.url("locked");
    let before = SERVER.get("open/Consent?identifier=once");
    assert_eq!(before["entry"].as_array().map_or(0, Vec::len), 0, "{before}");
    for out in ["one", "two"] {
        let said = post(&clinic, &url, out, &["--token-file", "token"]);
        assert_eq!(said.code, 0, "{}", said.error);
        let at = |name: &str| {
            let line = said
                .out
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_else(|| panic!("no {name} in {}", said.out))
                .to_owned()
        };
        let document = SERVER.get(&format!("open/{}", at("DocumentReference")));
        let attachment = &document["content"][0]["attachment"];
        let name = clinic
            .media(out)
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            attachment["url"],
            format!("https://media.clinic.example/r/{name}")
        );
        assert_eq!(attachment["size"], fs::metadata(clinic.media(out)).unwrap().len());
        // What named each other by a UUID does so by the server's ids now.
        let provenance = SERVER.get(&format!("open/{}", at("Provenance")));
        assert_eq!(provenance["target"][0]["reference"], at("DocumentReference"));
        let event = SERVER.get(&format!("open/{}", at("AuditEvent")));
        let whats: Vec<_> = event["entity"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entity| &entity["what"]["reference"])
            .collect();
        assert!(whats.contains(&&json!(at("DocumentReference"))), "{event:#}");
        assert!(whats.contains(&&json!("Patient/17")), "{event:#}");
        let kept = SERVER.get("open/Consent?identifier=once");
        assert_eq!(kept["entry"].as_array().unwrap().len(), 1, "{kept}");
    }
    assert_eq!(
        clinic.logged(),
        ["access-opened", "exported", "access-ended"].repeat(2)
    );
}

#[test]
fn it_goes_encrypted_to_a_server_that_proves_who_it_is() {
    let clinic = Clinic::visit();
    // By address: a bare system has no file that says where localhost is.
    let url = format!("https://127.0.0.1:{}/open", SERVER.https);
    let ca = SERVER.ca.display().to_string();
    let said = post(&clinic, &url, "one", &["--ca-file", &ca]);
    assert_eq!(said.code, 0, "{}", said.error);
    // Its certificate is not of the system's CAs, nor of these.
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    fs::write(clinic.path("other.crt"), other.cert.pem()).unwrap();
    let said = post(&clinic, &url, "two", &["--ca-file", "other.crt"]);
    assert!(
        said.code == 1 && said.error.contains("cannot be reached"),
        "{}",
        said.error
    );
    // Nor is it of that name.
    let by_name = url.replace("127.0.0.1", "localhost");
    let said = post(&clinic, &by_name, "three", &["--ca-file", &ca]);
    assert!(
        said.code == 1 && said.error.contains("cannot be reached"),
        "{}",
        said.error
    );
}

#[test]
fn an_entry_that_the_server_refuses_is_named() {
    // The consent is good enough for us and lacks what R4's invariant ppc-1 wants.
    let mut resource = consent();
    resource.as_object_mut().unwrap().remove("policyRule");
    let clinic = Clinic::new(&resource, &visit());
    let said = post(&clinic, &SERVER.url("open"), "out", &[]);
    assert_eq!(said.code, 1);
    assert!(
        said.error.contains("refuses entry 0, the Consent (400)"),
        "{}",
        said.error
    );
    assert!(said.error.contains("ppc-1"), "{}", said.error);
    // The log had it before the server did, and the files are there to be sent again.
    assert!(said.error.contains("entry 1"), "{}", said.error);
    assert_eq!(clinic.logged(), ["access-opened", "exported", "access-ended"]);
    assert!(clinic.media("out").exists());
    assert_eq!(first(&clinic.bundle("out"), "Consent"), &resource);
}

#[test]
fn a_server_that_refuses_all_says_why() {
    let clinic = Clinic::visit();
    clinic.secret("token", "mustard");
    for (place, out, wanted) in [
        ("locked", "one", "refuses the Bundle (401): who are you?"),
        ("nowhere", "two", "refuses the Bundle (404): there is nothing"),
        // Whoever it is sent on to was not asked for.
        ("moved", "three", "refuses the Bundle (307)"),
        ("open/Patient/$nothing", "four", "refuses the Bundle (4"),
    ] {
        let said = post(&clinic, &SERVER.url(place), out, &["--token-file", "token"]);
        assert!(
            said.code == 1 && said.error.contains(wanted),
            "{place}: {}",
            said.error
        );
        assert!(!said.error.contains("mustard") && !said.out.contains("mustard"));
        assert!(clinic.media(out).exists());
    }
    // Nobody listens there.
    let said = post(&clinic, "http://127.0.0.1:1/fhir", "five", &[]);
    assert!(
        said.code == 1 && said.error.contains("cannot be reached"),
        "{}",
        said.error
    );
}

#[test]
fn what_could_be_read_on_its_way_is_not_sent() {
    let clinic = Clinic::visit();
    clinic.secret("token", "sesame");
    let said = post(
        &clinic,
        "http://ehr.clinic.example/fhir",
        "out",
        &["--token-file", "token"],
    );
    assert!(
        said.code == 1 && said.error.contains("is not encrypted"),
        "{}",
        said.error
    );
    fs::set_permissions(
        clinic.path("token"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let said = post(&clinic, &SERVER.url("locked"), "out", &["--token-file", "token"]);
    assert!(
        said.code == 1 && said.error.contains("chmod 600"),
        "{}",
        said.error
    );
    for left in ["--out", "--media-url"] {
        let said = clinic.export(&[
            "--fhir",
            "https://ehr.example/fhir",
            match left {
                "--out" => "--media-url",
                _ => "--out",
            },
            "https://a/b",
        ]);
        assert!(said.code == 1 && said.error.contains(left), "{}", said.error);
    }
    let said = clinic.export(&["--token-file", "token"]);
    assert!(
        said.code == 1 && said.error.contains("--fhir is a folder"),
        "{}",
        said.error
    );
    // Nothing was opened for any of these.
    assert!(clinic.logged().is_empty() && clinic.files("out").is_empty());
}
