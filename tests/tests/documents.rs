//! The documents say what the code says: the list of bus messages is complete, and links lead somewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::readme::root;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What the sources name in the way of messages and is none: structures of the key contract, parts of properties, caps fields,
/// causes, threads and labels. Whatever is not here and looks like a message must be in the list.
const NO_MESSAGES: [&str; 12] = [
    "compliance-disk",
    "mls-commit",
    "mls-control",
    "mls-control-client",
    "mls-member",
    "mls-room",
    "sframe-descriptor",
    "sframe-header",
    "sframe-receiver-key",
    "sframe-room-state",
    "sframe-sender-key",
    "sframeguard-stream",
];

/// Files below a folder of the checkout whose names end so. Nothing hidden, nothing built.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !name.starts_with('.') && !["target", "build"].contains(&name.as_str()) {
            found.extend(files(&entry.path(), end));
        } else if kind.is_file() && name.ends_with(end) {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// The names between quotes in the plugins' code; not in their comments and unit tests.
fn literals() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for plugin in ["sframe", "rtpsframe", "mls", "compliance", "common"] {
        for file in files(&root().join("plugins").join(plugin).join("src"), ".rs") {
            let text = fs::read_to_string(file).unwrap();
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let quoted = line.split('"').skip(1).step_by(2);
                found.extend(quoted.filter(|name| is_name(name)).map(str::to_owned));
            }
        }
    }
    found
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// What the names of messages begin with: their subject, or the element.
const BEGINNINGS: [&str; 11] = [
    "compliance",
    "compliancesink",
    "compliancesrc",
    "mls",
    "mlskeyring",
    "rtpsframedepay",
    "rtpsframepay",
    "sframe",
    "sframedec",
    "sframeenc",
    "sframeguard",
];

fn is_like_a_message(name: &str) -> bool {
    name.split_once('-')
        .is_some_and(|(first, _)| BEGINNINGS.contains(&first))
}

fn between_backticks(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The messages in the list, each with the fields that stand in its row.
fn listed() -> BTreeMap<String, Vec<String>> {
    let list = fs::read_to_string(root().join("MESSAGES.md")).unwrap();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut fields_at = None;
    for line in list.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            continue;
        };
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        if cells[0] == "message" {
            fields_at = cells.iter().position(|cell| *cell == "fields");
            continue;
        }
        for name in between_backticks(cells[0]) {
            let fields = fields_at
                .map(|at| between_backticks(cells[at]))
                .unwrap_or_default();
            found.entry(name).or_default().extend(fields);
        }
    }
    found
}

#[test]
fn list_of_messages_has_every_message_of_the_code_and_no_other() {
    let listed: BTreeSet<_> = listed().into_keys().collect();
    let mut in_code = literals();
    in_code.retain(|name| is_like_a_message(name));
    for name in NO_MESSAGES {
        assert!(in_code.remove(name), "{name} is nowhere in the code any more");
    }
    let missing: Vec<_> = in_code.difference(&listed).collect();
    assert!(
        missing.is_empty(),
        "messages that MESSAGES.md does not have: {missing:?}"
    );
    let gone: Vec<_> = listed.difference(&in_code).collect();
    assert!(
        gone.is_empty(),
        "messages of MESSAGES.md that the code does not have: {gone:?}"
    );
    assert!(listed.len() > 30, "read too few: {listed:?}");
}

#[test]
fn fields_and_causes_in_the_list_of_messages_are_names_in_the_code() {
    let literals = literals();
    for (message, fields) in listed() {
        for field in fields {
            assert!(literals.contains(&field), "{message}: no {field:?} in the code");
        }
    }
}

/// GitHub's name of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The headings of a document, as links name them; not what looks like one in a block of code.
fn anchors(text: &str) -> BTreeSet<String> {
    let outside = text.split("\n```").step_by(2);
    let lines = outside.flat_map(str::lines);
    let headings = lines.filter_map(|line| {
        line.trim_start_matches('#')
            .strip_prefix(' ')
            .filter(|_| line.starts_with('#'))
    });
    headings.map(anchor).collect()
}

#[test]
fn links_in_the_documents_lead_to_files_and_headings_that_are_there() {
    let mut checked = 0;
    for document in files(&root(), ".md") {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                _ => document.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", document.display());
            if !heading.is_empty() {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                assert!(there.contains(heading), "{}: {link}", document.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} links were found");
}
