//! A custodian whose key is on a PKCS#11 token: SoftHSM, by its module, as any other token would be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::place::{Place, age};

/// A token of carla's, and the words that name it.
fn token(place: &Place) -> Vec<String> {
    let folder = place.path("carla");
    fs::create_dir(folder.join("tokens")).unwrap();
    let tokens = folder.join("tokens");
    fs::write(
        folder.join("softhsm2.conf"),
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\n",
            tokens.display()
        ),
    )
    .unwrap();
    let init = [
        "--init-token",
        "--free",
        "--label",
        "carla",
        "--so-pin",
        "12345678",
        "--pin",
        "87654321",
    ];
    let mut command = Command::new("softhsm2-util");
    command
        .args(init)
        .env("SOFTHSM2_CONF", folder.join("softhsm2.conf"));
    let output = command
        .output()
        .expect("softhsm2 is not installed: scripts/setup test");
    assert!(output.status.success(), "{output:?}");
    fs::write(folder.join("pin"), "87654321\n").unwrap();
    fs::set_permissions(folder.join("pin"), fs::Permissions::from_mode(0o600)).unwrap();
    let module = module().display().to_string();
    [
        "--pkcs11-module",
        &module,
        "--token",
        "carla",
        "--pin-file",
        "pin",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// SoftHSM's module, as Debian puts it.
fn module() -> PathBuf {
    let places = fs::read_dir("/usr/lib")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    places
        .chain([PathBuf::from("/usr/lib")])
        .map(|place| place.join("softhsm/libsofthsm2.so"))
        .find(|path| path.exists())
        .expect("softhsm2 is not installed: scripts/setup test")
}

#[test]
fn a_custodian_with_a_token_approves_like_any_other() {
    let place = Place::empty();
    let token = token(&place);
    let token: Vec<&str> = token.iter().map(String::as_str).collect();
    let call = |words: &[&str], more: &[&str]| {
        let words: Vec<_> = words.iter().chain(&token).chain(more).copied().collect();
        place.call_with(&[("SOFTHSM2_CONF", "softhsm2.conf")], "carla", &words)
    };
    let custodian = ["keys", "custodian", "--person", "p-carla"];
    call(&custodian, &[]).refused(&["the token has 0 keys", "--make makes it"]);
    let line = call(&custodian, &["--make"]).good();
    assert_eq!(call(&custodian, &[]).good(), line);
    call(&custodian, &["--make"]).refused(&["has a custodian's key already"]);
    assert!(line.starts_with("age1") && line.ends_with(" p-carla\n"), "{line}");

    place.make_custodians(&[place.line("anna"), place.line("ben"), line]);
    let recording = place.record();
    place.request(&recording, "r");
    let key = place.log_key();
    let approve = ["approve", "r.json", "--log", &key, "--custodians", "custodians"];
    let said = call(&approve, &["--out", "yes.json"]).good();
    assert!(said.contains("your share 3 of 3"), "{said}");
    fs::copy(place.path("carla/yes.json"), place.path("station/yes.json")).unwrap();
    let deny = [
        "deny",
        "r.json",
        "--log",
        &key,
        "--custodians",
        "custodians",
        "--reason",
        "no",
    ];
    call(&deny, &["--out", "no.json"]).good();

    let ben = place.approve("r", "ben");
    place.open(&recording, "r", &["yes.json", &ben]).good();
    assert!(
        age(
            &place.path("requester/key.txt"),
            &place.path("station/r-out/1-video.mkv.age")
        )
        .is_some()
    );
    assert!(place.denied().is_empty());

    // The own request, the PIN, and whose token it is, are looked at as with a file.
    let own = place.request_with(&recording, "own", &[("--requester", "p-carla")]);
    own.good();
    place.mail("own");
    let own = [
        "approve",
        "own.json",
        "--log",
        &key,
        "--custodians",
        "custodians",
        "--out",
        "x",
    ];
    call(&own, &[]).refused(&["nobody approves their own request"]);
    fs::set_permissions(place.path("carla/pin"), fs::Permissions::from_mode(0o644)).unwrap();
    call(&custodian, &[]).refused(&["can be read by other users"]);
    fs::set_permissions(place.path("carla/pin"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(place.path("carla/pin"), "31415926\n").unwrap();
    let error = call(&custodian, &[]).refused(&["the token refuses the PIN"]);
    assert!(!error.contains("31415926"), "{error}");
}

#[test]
fn what_is_no_token_is_told() {
    let place = Place::empty();
    let token = token(&place);
    let call = |from: &str, to: &str| {
        let words = ["keys", "custodian"].map(str::to_owned);
        let words: Vec<_> = words.into_iter().chain(token.iter().cloned()).collect();
        let words: Vec<_> = words
            .iter()
            .map(|word| if word == from { to } else { word.as_str() })
            .collect();
        place.call_with(&[("SOFTHSM2_CONF", "softhsm2.conf")], "carla", &words)
    };
    call("carla", "dora").refused(&["not exactly one token with the label dora"]);
    call(&module().display().to_string(), "pin").refused(&["pin is no PKCS#11 module"]);
    call("pin", "none").refused(&["none"]);
    // A key is in a file or on a token, and the token's words go together.
    let error = place.call("carla", &["keys", "custodian", "--make", "--identity", "key.txt"]);
    assert_eq!(error.code, 2);
    let error = place.call("carla", &["keys", "custodian", "--pkcs11-module", "x"]);
    assert_eq!(error.code, 2);
}
