//! No key in anything that is printed: not in the debug log at its highest level, not in messages, not in errors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::process::Sandbox;
use ring::{digest, hkdf};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Neither a pattern nor text, so that it stands nowhere by chance.
const BASE_KEY: [u8; 16] = [
    0x9d, 0xe1, 0x47, 0xb8, 0x03, 0xfa, 0x6c, 0x25, 0xd0, 0x5e, 0x8b, 0x71, 0xc9, 0x34, 0xaf, 0x12,
];
const KID: u64 = 3;

/// A base key and what RFC 9605 §4.4.2 derives from it for AES-128-GCM.
fn secrets(base_key: &[u8], kid: u64) -> Vec<Vec<u8>> {
    struct Len(usize);
    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(base_key);
    let derive = |label: &str, len: usize| {
        let info = [label.as_bytes(), &kid.to_be_bytes(), &4u16.to_be_bytes()].concat();
        let mut out = vec![0; len];
        secret.expand(&[&info], Len(len)).unwrap().fill(&mut out).unwrap();
        out
    };
    vec![
        base_key.to_vec(),
        derive("SFrame 1.0 Secret key ", 16),
        derive("SFrame 1.0 Secret salt ", 12),
    ]
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let value = chunk.iter().fold(0u32, |v, &b| v << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for n in 0..=chunk.len() {
            out.push(char::from(DIGITS[(value >> (18 - 6 * n)) as usize & 63]));
        }
    }
    out
}

/// The ways in which somebody might print bytes; 8 in a row of them are enough to be found.
fn forms(secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![("raw".into(), secret.to_vec())];
    for part in [&secret[..8], &secret[secret.len() - 8..]] {
        let joined = |separator: &str, digits: fn(&u8) -> String| {
            part.iter().map(digits).collect::<Vec<_>>().join(separator)
        };
        for separator in ["", " ", ":", ", "] {
            for digits in [
                (|b| format!("{b:02x}")) as fn(&u8) -> String,
                |b| format!("{b:02X}"),
                |b| format!("0x{b:02x}"),
            ] {
                forms.push(("hexadecimal".into(), joined(separator, digits).into_bytes()));
            }
        }
        forms.push((
            "a list of numbers".into(),
            joined(", ", u8::to_string).into_bytes(),
        ));
        forms.push((
            "a list of numbers".into(),
            joined(",", u8::to_string).into_bytes(),
        ));
    }
    // Base64 of the whole, less its last digits, which depend on what follows.
    let base64 = base64(secret);
    let url_safe = base64.replace('+', "-").replace('/', "_");
    for text in [base64, url_safe] {
        forms.push(("base64".into(), text[..text.len() - 2].into()));
    }
    forms
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle[0];
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|&b| b == first) {
        if haystack[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn assert_secret(secrets: &[Vec<u8>], texts: &[(&str, Vec<u8>)]) {
    for secret in secrets {
        for (form, bytes) in forms(secret) {
            for (name, text) in texts {
                if let Some(at) = find(text, &bytes) {
                    let around = &text[at.saturating_sub(300)..text.len().min(at + 100)];
                    panic!("{name} has a key as {form}: {}", String::from_utf8_lossy(around));
                }
            }
        }
    }
}

/// Runs it with everything logged; returns what it printed and what it logged.
fn log_everything(sandbox: &Sandbox, command: &mut Command) -> (bool, Vec<(&'static str, Vec<u8>)>) {
    let log = sandbox.path("log");
    command
        .env("GST_DEBUG", "*:9")
        .env("GST_DEBUG_FILE", &log)
        .env("GST_DEBUG_NO_COLOR", "1")
        .env("RUST_BACKTRACE", "full");
    let finished = sandbox.run("logged", command);
    let log = fs::read(&log).unwrap();
    for element in ["sframe", "GST_PADS"] {
        assert!(
            find(&log, element.as_bytes()).is_some(),
            "{element} logged nothing"
        );
    }
    (
        finished.status.success(),
        vec![("the output", finished.printed.into_bytes()), ("the log", log)],
    )
}

fn road(media: &str, keys: &Path, receiver_keys: &Path) -> String {
    format!(
        "-m -v {media} ! sframeenc key-file={} kid={KID} ! rtpsframepay ! sframeguard ! rtpsframedepay ! \
         sframedec key-file={} ! fakesink silent=false",
        keys.display(),
        receiver_keys.display()
    )
}

const VIDEO: &str = "videotestsrc num-buffers=5 ! video/x-raw,width=160,height=120 ! vp8enc deadline=1";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_search_finds_what_is_there() {
    let secrets = secrets(&BASE_KEY, KID);
    for secret in &secrets {
        for text in [
            hex(secret),
            hex(secret).to_uppercase(),
            base64(secret),
            format!("{secret:?}"),
            format!("{secret:02x?}"),
        ] {
            let found = forms(secret)
                .iter()
                .any(|(_, form)| find(text.as_bytes(), form).is_some());
            assert!(found, "{text}");
        }
    }
    assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw");
}

#[test]
fn the_whole_road_logs_and_prints_no_key() {
    let sandbox = Sandbox::new();
    let keys = sandbox.key_file("keys", &format!("{KID} {}\n", hex(&BASE_KEY)));
    let pipeline = road(VIDEO, &keys, &keys);
    let (success, texts) = log_everything(&sandbox, &mut sandbox.gst_launch(&pipeline));
    assert!(success, "{}", String::from_utf8_lossy(&texts[0].1));
    assert!(
        find(&texts[0].1, b"opened=(guint64)5").is_some(),
        "five frames open"
    );
    assert_secret(&secrets(&BASE_KEY, KID), &texts);
}

#[test]
fn frames_that_do_not_authenticate_log_and_print_no_key() {
    let sandbox = Sandbox::new();
    let other_key: Vec<u8> = BASE_KEY.iter().map(|b| b ^ 0x5a).collect();
    let keys = sandbox.key_file("keys", &format!("{KID} {}\n", hex(&BASE_KEY)));
    let others = sandbox.key_file("others", &format!("{KID} {}\n", hex(&other_key)));
    let pipeline = road(VIDEO, &keys, &others);
    let (_, texts) = log_everything(&sandbox, &mut sandbox.gst_launch(&pipeline));
    assert!(
        find(&texts[0].1, b"auth-failed=(guint64)5").is_some(),
        "none opens"
    );
    assert_secret(&secrets(&BASE_KEY, KID), &texts);
    assert_secret(&secrets(&other_key, KID), &texts);
}

#[test]
fn refused_key_files_log_and_print_no_key() {
    let key = hex(&BASE_KEY);
    for wrong in [
        format!("{KID} {key}zz\n"),
        format!("{KID} {key}0\n"),
        format!("{KID} {}\n", key.replace('9', "g")),
        format!("{key}\n"),
        format!("{key} {KID}\n"),
        format!("{KID}{key}\n"),
        format!("{KID} {key} {key}\n"),
        format!("{KID} {key}\n{KID} {key}\n"),
        format!("{KID} {}\n", &key[..24]),
        format!("4 {key}\n"),
        format!("{KID}:{key}\n"),
        format!("{KID} 0x{key}\n"),
    ] {
        let sandbox = Sandbox::new();
        let keys = sandbox.key_file("keys", &wrong);
        let pipeline = format!(
            "-m -v {VIDEO} ! sframeenc key-file={} kid={KID} ! fakesink",
            keys.display()
        );
        let (success, texts) = log_everything(&sandbox, &mut sandbox.gst_launch(&pipeline));
        assert!(!success, "this key file was taken: {wrong}");
        assert_secret(&secrets(&BASE_KEY, KID), &texts);
    }
}

#[test]
fn keys_of_a_key_source_are_not_logged_or_printed() {
    let sandbox = Sandbox::new();
    for (scenario, kid) in [("serves_video_over_rtp", 9u64), ("wrong_receiver_fields", 2001)] {
        let (success, texts) =
            log_everything(&sandbox, sandbox.python("key_source_scenarios.py").arg(scenario));
        assert!(success, "{}", String::from_utf8_lossy(&texts[0].1));
        // As base_key() in key_source.py makes it.
        let base_key = digest::digest(&digest::SHA256, format!("base key {kid}").as_bytes());
        assert_secret(&secrets(&base_key.as_ref()[..16], kid), &texts);
    }
}
