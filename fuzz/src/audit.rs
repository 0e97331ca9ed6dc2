//! The audit log as a verifier finds it: an entry, a checkpoint, a proof; and a log that somebody changed.

use super::Seen;
use super::input::Input;
use ed25519_dalek::SigningKey;
use gstcompliance::audit::entry::Event;
use gstcompliance::audit::frame::{self, HEADER, ReadAt, Step, Walk, first_link, next_link};
use gstcompliance::audit::tree::{Edge, leaf};
use gstcompliance::audit::{
    self, Checkpoint, Entry, InclusionProof, Item, Kind, Note, Reader, Request, VerifierKey, VerifyOptions,
};
use gstcompliance::signing::{PublicKey, Signer};
use std::fs;
use std::io;
use std::path::Path;
use tempfile::TempDir;

thread_local! {
    /// One folder for all runs, in memory where there is such a place.
    static FOLDER: Option<TempDir> = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).ok();
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn log_key() -> PublicKey {
    key().public()
}

fn entry(bytes: &[u8], seen: &mut Seen) {
    match Entry::decode(bytes) {
        Ok(entry) => {
            let encoded = entry.encode();
            assert_eq!(encoded.as_deref(), Ok(bytes), "an entry in two forms");
            seen.insert("entry");
        }
        Err(_) => drop(seen.insert("no entry")),
    }
}

/// What has been read is written the same, and says nothing that the log did not sign.
fn text(bytes: &[u8], seen: &mut Seen) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_string(), text);
        let signed = note.of_log(&VerifierKey::named(Kind::Log, log_key())).is_ok();
        seen.insert(if signed { "signed note" } else { "note" });
    }
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text);
        seen.insert("verifier key");
    }
    if let Ok(request) = Request::parse(text) {
        assert_eq!(request.to_string(), text);
        seen.insert("request");
    }
    if let Ok(proof) = InclusionProof::parse(text) {
        assert_eq!(proof.to_string(), text);
        let proven = proof.verify(&log_key()).is_ok();
        seen.insert(if proven { "proven" } else { "proof" });
    }
}

struct InMemory<'a>(&'a [u8]);

impl ReadAt for InMemory<'_> {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let length = bytes.len().min(self.0.len() - from);
        bytes[..length].copy_from_slice(&self.0[from..from + length]);
        Ok(length)
    }
}

/// Reads what may be a log: every entry is as it stands there, and there is an end.
fn walk(log: &[u8]) -> u64 {
    let mut walk = Walk::from_start(InMemory(log), log.len() as u64, &log_key());
    let mut entries = 0;
    for _ in 0..2 * log.len() + 2 {
        match walk.step().expect("memory does not fail") {
            Step::Entry {
                index,
                offset,
                entry,
                link,
                ..
            } => {
                let mut written = Vec::new();
                frame::encode(index, entry, &link, &mut written);
                assert!(log[offset as usize..].starts_with(&written));
                entries += 1;
            }
            Step::Fault(_) => {}
            Step::Unfinished { offset, .. } => {
                assert!(offset < log.len() as u64);
                return entries;
            }
            Step::End { offset, .. } => {
                assert!(offset >= log.len() as u64);
                return entries;
            }
        }
    }
    panic!("it does not end");
}

/// A log of some entries that is signed up to one of them.
struct Log {
    bytes: Vec<u8>,
    /// Where what is signed ends.
    signed_end: usize,
    note: String,
    signed: u64,
    entries: u64,
}

fn make(input: &mut Input) -> Log {
    let (entries, signed) = (1 + u64::from(input.u8() % 6), input.u8());
    let signed = u64::from(signed) % (entries + 1);
    let (mut bytes, mut link, mut edge) = (HEADER.to_vec(), first_link(&log_key()), Edge::default());
    let (mut signed_end, mut root) = (HEADER.len(), edge.root());
    for index in 0..entries {
        let entry = Entry {
            time: 1_700_000_000_000,
            recording: None,
            event: Event::ClockJump {
                by_ms: i64::from(input.u8()),
            },
        };
        let entry = entry.encode().expect("a short entry");
        let leaf = leaf(&entry);
        link = next_link(&link, &leaf);
        frame::encode(index, &entry, &link, &mut bytes);
        edge.push(leaf);
        if edge.size() == signed {
            (signed_end, root) = (bytes.len(), edge.root());
        }
    }
    let checkpoint = Checkpoint {
        origin: VerifierKey::named(Kind::Log, log_key()).name().to_owned(),
        size: signed,
        root,
    };
    Log {
        bytes,
        signed_end,
        note: Note::sign(checkpoint, &key()).to_string(),
        signed,
        entries,
    }
}

fn verify(folder: &Path, log: &Log, bytes: &[u8], seen: &mut Seen) {
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("a folder to write to");
    write("log", bytes);
    write("checkpoint", log.note.as_bytes());
    let vkey = VerifierKey::named(Kind::Log, log_key());
    write("vkey", format!("{vkey}\n").as_bytes());
    let options = VerifyOptions {
        key: Some(log_key()),
        ..VerifyOptions::default()
    };
    let report = audit::verify(folder, &options).expect("a report");
    let is_signed_whole = bytes.starts_with(&log.bytes[..log.signed_end]);
    if bytes == log.bytes {
        assert!(report.is_intact(), "{:?}", report.damages);
        assert_eq!((report.entries, report.signed), (log.entries, log.signed));
        seen.insert("intact");
    } else if is_signed_whole {
        assert_eq!(report.signed, log.signed);
        seen.insert("unsigned changed");
    } else {
        assert!(!report.is_intact(), "a change is not noticed");
        seen.insert("damaged");
    }
    let entries = Reader::open(folder).map(|reader| {
        let items = reader.filter(|item| matches!(item, Ok(Item::Entry { .. })));
        items.count() as u64
    });
    assert!(entries.is_ok_and(|entries| entries == walk(bytes)));
}

/// The bytes are a kind, and an entry, a text, a file, or how to make a log and what happens to it.
pub fn run(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let mut input = Input(bytes);
    match input.u8() % 4 {
        0 => entry(input.0, &mut seen),
        1 => text(input.0, &mut seen),
        2 => {
            walk(&[HEADER, input.0].concat());
            walk(input.0);
        }
        _ => FOLDER.with(|folder| {
            let folder = folder.as_ref().expect("a temporary folder");
            let log = make(&mut input);
            let mut changed = log.bytes.clone();
            input.change(&mut changed);
            verify(folder.path(), &log, &changed, &mut seen);
        }),
    }
    seen
}
