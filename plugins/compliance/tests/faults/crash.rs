//! SIGSEGV: memory with media in clear does not come to the disk, and neither does anything else that could open it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Place, verified};
use crate::process::{CANARY, Recorders, until};

/// The files below a folder that have these bytes.
fn files_with(folder: &Path, wanted: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, wanted));
        } else if path.is_file() && has(&fs::read(&path).unwrap(), wanted.as_bytes()) {
            found.push(path);
        }
    }
    found
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    let mut starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == wanted[0]);
    starts.any(|(at, _)| bytes[at..].starts_with(wanted))
}

/// The names of what could be core files.
fn cores(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("core"))
        .collect()
}

/// Records until something is sealed, with core dumps of any size allowed and the most talkative log, and crashes. Was
/// there a core dump?
fn crash(place: &Place, properties: &str) -> bool {
    let mut recorders = Recorders::new(place);
    recorders.properties += &format!(" segment-duration=250000000 {properties}");
    let work = place.path("work");
    fs::create_dir(&work).unwrap();
    let debug = work.join("debug.log").display().to_string();
    recorders.environment = [("GST_DEBUG", "*:6"), ("GST_DEBUG_FILE", &debug)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .current_dir(&work)
        .env("TMPDIR", &work);
    let process = recorders.start_by(0, shell);
    process.records();
    until("sealed members", || {
        verified(&place.recording())
            .tracks
            .iter()
            .any(|track| track.members > 1)
    });
    let dumped = process.crash();
    let has_debug = fs::metadata(work.join("debug.log")).unwrap().len() > 0;
    assert!(has_debug, "nothing was searched");
    dumped
}

#[test]
fn a_crash_leaves_no_core_file_and_no_media_and_no_key_in_clear() {
    let place = Place::new(1);
    assert!(!crash(&place, ""), "the kernel says that it dumped core");
    let notes = Recorders::new(&place).notes(0);
    assert_eq!(notes.dumpable().as_deref(), Some("NotDumpable"));
    assert!(cores(&place.path("work")).is_empty());
    verified(&place.recording());
    let all = place.path("");
    let identity = "AGE-SECRET-KEY-";
    assert_eq!(files_with(&all, CANARY), Vec::<PathBuf>::new());
    assert_eq!(files_with(&all, identity), Vec::<PathBuf>::new());
    // The search finds them where they are: the one who may has opened it, and keeps a key and a member beside.
    let streams = place.open(&place.recording());
    fs::write(place.path("stream"), &streams[0].1).unwrap();
    assert!(files_with(&all, CANARY).contains(&place.path("stream")));
    assert!(files_with(&all, identity).contains(&place.path("open").join("identity")));
}

#[test]
fn where_core_dumps_are_allowed_they_show_what_they_would_have_told() {
    let place = Place::new(1);
    let dumped = crash(&place, "allow-core-dumps=true");
    let notes = Recorders::new(&place).notes(0);
    assert_eq!(notes.dumpable().as_deref(), Some("Dumpable"));
    let cores = cores(&place.path("work"));
    if !dumped || cores.is_empty() {
        println!(
            "this system writes no core files into the working directory (/proc/sys/kernel/core_pattern)"
        );
        return;
    }
    assert!(!files_with(&place.path("work"), CANARY).is_empty());
}
