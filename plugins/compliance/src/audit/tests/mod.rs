//! Whole logs: appended to, damaged, cut, rolled back, witnessed.

mod appending;
mod faults;
mod ledger;
mod processes;
mod reading;
mod roots;
mod tampering;
mod witnessing;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folder::PATIENCE;
use super::frame::HEADER;
use super::*;

/// An entry that says which it is.
fn entry(number: u64) -> Entry {
    Entry {
        time: 1_700_000_000_000 + number,
        recording: None,
        event: Event::ClockJump { by_ms: number as i64 },
    }
}

fn last_word() -> Entry {
    Entry {
        event: Event::Failed {
            cause: Id::new("disk-full").unwrap(),
            reason: Text::new("No space left on device").unwrap(),
        },
        ..entry(0)
    }
}

/// A folder with a log of so many entries, closed.
struct Place {
    place: tempfile::TempDir,
}

impl Place {
    fn empty() -> Self {
        let place = tempfile::tempdir().unwrap();
        Self { place }
    }

    fn with(entries: u64) -> Self {
        let place = Self::empty();
        place.append(0..entries);
        place
    }

    fn log(&self) -> PathBuf {
        self.place.path().join("log")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.log().join(name)
    }

    fn append(&self, numbers: std::ops::Range<u64>) {
        let log = Log::open(&self.log()).unwrap();
        let entries: Vec<_> = numbers.map(entry).collect();
        log.append_all(&entries).unwrap();
        log.close().unwrap();
    }

    /// Without checkpoint after it, as a crash would leave it.
    fn bytes(&self) -> Vec<u8> {
        fs::read(self.file("log")).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        fs::write(self.file("log"), bytes).unwrap();
    }

    /// A copy of everything, as a backup would have it.
    fn backup(&self) -> tempfile::TempDir {
        let backup = tempfile::tempdir().unwrap();
        copy(&self.log(), &backup.path().join("log"));
        backup
    }

    /// Puts a copy in place of everything.
    fn restore(&self, backup: &tempfile::TempDir) {
        fs::remove_dir_all(self.log()).unwrap();
        copy(&backup.path().join("log"), &self.log());
    }

    fn verify(&self) -> Report {
        verify(&self.log(), &VerifyOptions::default()).unwrap()
    }

    /// What its entries say, if nothing is damaged.
    fn numbers(&self) -> Vec<u64> {
        let items = Reader::open(&self.log()).unwrap().map(Result::unwrap);
        items
            .map(|item| match item {
                Item::Entry { entry: Ok(entry), .. } => entry.time - 1_700_000_000_000,
                item => panic!("{item:?}"),
            })
            .collect()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, from.metadata().unwrap().permissions()).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &to);
        } else {
            fs::copy(file.path(), &to).unwrap();
        }
    }
}

/// Where each frame starts, and the file's end.
fn starts(bytes: &[u8], log: &Path) -> Vec<usize> {
    let vkey = fs::read_to_string(log.join("vkey")).unwrap();
    let vkey: VerifierKey = vkey.trim_end().parse().unwrap();
    let file = fs::File::open(log.join("log")).unwrap();
    let mut walk = frame::Walk::from_start(file, bytes.len() as u64, vkey.key());
    let mut starts = Vec::new();
    loop {
        match walk.step().unwrap() {
            frame::Step::Entry { offset, .. } => starts.push(offset as usize),
            frame::Step::End { offset, .. } => {
                starts.push(offset as usize);
                return starts;
            }
            step => panic!("{step:?}"),
        }
    }
}

/// The only damage of a report.
fn only(report: &Report) -> &Damage {
    let [damage] = &report.damages[..] else {
        panic!("{:?}", report.damages)
    };
    damage
}
