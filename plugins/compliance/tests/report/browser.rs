//! Pages in a real browser: what it complains of, what it asks for, whether everything has its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gstcompliance::report::{Word, html};
use serde_json::Value;

use super::making::{Clinic, GOOD, Plan};

/// Looks at a page in several ways; what `browser.py` says of each.
fn look(page: &str, folder: &Path, views: &[(&str, &str)]) -> Vec<Value> {
    let file = folder.join("report.html");
    fs::write(&file, page).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/browser.py");
    // Where somebody wants to look at them, too.
    let named = |shots: std::ffi::OsString| PathBuf::from(shots).join(std::thread::current().name().unwrap());
    let shots = std::env::var_os("GST_E2EE_REPORT_SHOTS").map_or_else(|| folder.to_owned(), named);
    fs::create_dir_all(&shots).unwrap();
    let mut python = Command::new("python3");
    python.arg(script).arg(&file).arg(&shots);
    python.args(views.iter().flat_map(|(width, scheme)| [width, scheme]));
    let said = python.output().unwrap();
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(
        said.status.success(),
        "chromium (scripts/setup test installs it): {error}"
    );
    serde_json::from_slice(&said.stdout).unwrap()
}

const VIEWS: [(&str, &str); 5] = [
    ("1440", "light"),
    ("1440", "dark"),
    ("390", "light"),
    ("390", "dark"),
    ("794", "print"),
];

/// What every page must be, however it is looked at.
fn check(clinic: &Clinic, page: &str, drawings: usize) -> Vec<Value> {
    let seen = look(page, &clinic.path("recordings"), &VIEWS);
    for view in &seen {
        let which = format!("{} {}", view["width"], view["scheme"]);
        let empty = |name: &str| assert_eq!(view[name], Value::Array(Vec::new()), "{name}, {which}");
        // No complaint of the browser, its policy for the page among them, and nothing asked for.
        empty("said");
        empty("asked");
        empty("outside");
        empty("overlap");
        empty("narrow");
        // Every element is closed, every id there once, every reference to one that is there.
        empty("unbalanced");
        for none in ["scripts", "marks", "unnamed"] {
            assert_eq!(view[none], 0, "{none}, {which}");
        }
        let found = view["drawings"].as_array().unwrap();
        assert_eq!(found.len(), drawings, "{which}");
        let width = view["width"].as_f64().unwrap();
        for size in found {
            let (wide, high) = (size[0].as_f64().unwrap(), size[1].as_f64().unwrap());
            assert!(wide > width * 0.6 || wide > 1000.0, "{which}: {size}");
            assert!(high > 60.0, "{which}: {size}");
        }
        // For who hears it: one first heading, no level left out, and the tables are still tables.
        let levels: Vec<_> = view["headings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|of| of[0].as_i64().unwrap())
            .collect();
        assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1, "{which}");
        assert!(
            levels.windows(2).all(|two| two[1] <= two[0] + 1),
            "{which}: {levels:?}"
        );
        assert!(
            view["tables"].as_u64().unwrap() >= 3 && view["cells"].as_u64().unwrap() > 20,
            "{which}: {view}"
        );
    }
    let background = |at: usize| seen[at]["background"].as_str().unwrap().to_owned();
    assert_eq!(background(0), "rgb(255, 255, 255)");
    assert_ne!(background(1), background(0), "dark");
    assert_eq!(background(4), background(0), "print");
    seen
}

#[test]
fn a_page_shows_as_it_should_on_a_desk_a_telephone_and_paper() {
    let plan = Plan {
        seconds: 900,
        gaps: true,
        crash: true,
        ..GOOD
    };
    let clinic = Clinic::new(plan).with_accesses();
    let report = clinic.report_with(|ask| clinic.trust(ask));
    assert_eq!(report.verdict.word, Word::Incomplete);
    let seen = check(&clinic, &html(&report), 2);
    assert_eq!(seen[0]["verdict"], "Incomplete");
}

#[test]
fn a_page_of_a_damaged_recording_and_log_shows_as_it_should() {
    let clinic = Clinic::new(Plan {
        escrow: true,
        end: false,
        ..GOOD
    })
    .with_accesses();
    for file in [
        clinic.recording.join("tracks/0-audio.tar"),
        clinic.log().join("log"),
    ] {
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes.len() / 3;
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    let seen = check(&clinic, &html(&clinic.report()), 2);
    assert_eq!(seen[0]["verdict"], "Damaged");
}

#[test]
fn a_page_full_of_hostile_words_shows_them_and_does_nothing() {
    let clinic = Clinic::new(GOOD).with_accesses();
    clinic.log_event(
        1000,
        "access-opened",
        &serde_json::json!({ "access": "x1",
        "reader": "\"><script>document.title='taken'</script>", "way": "recipient",
        "reason": format!("</title></style><img src=x onerror=alert(1)>{}", "w".repeat(900)),
        "ticket": "'\"><svg/onload=alert(1)>", "tracks": [] }),
    );
    let seen = check(&clinic, &html(&clinic.report()), 2);
    assert!(
        seen[0]["title"]
            .as_str()
            .unwrap()
            .starts_with("Complete: recording "),
        "{}",
        seen[0]["title"]
    );
}

#[test]
fn the_browser_would_have_complained() {
    let clinic = Clinic::new(GOOD);
    let page = html(&clinic.report());
    let told = |change: &dyn Fn(&str) -> String, what: &str| {
        let seen = look(&change(&page), &clinic.path("recordings"), &[("800", "light")]);
        let said = seen[0]["said"].to_string();
        assert!(said.contains("Content Security Policy"), "{what}: {said}");
        seen
    };
    let script = "<script>document.title='taken'</script>";
    let seen = told(
        &|page| page.replace("<main>", &format!("<main>{script}")),
        "a script",
    );
    assert_ne!(seen[0]["title"], "taken");
    told(
        &|page| page.replace("<main>", "<main style=\"color:red\">"),
        "a style",
    );
    told(
        &|page| page.replace("<main>", "<main><img src=\"http://127.0.0.1:9/x.png\" alt=\"\">"),
        "a picture",
    );
}
