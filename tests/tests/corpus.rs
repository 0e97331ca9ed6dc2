//! The fuzz targets without a fuzzer: every seed in `fuzz/seeds`, and a fixed number of mutations of them that are
//! the same in every run. A failure prints the input; put into a file, `cargo fuzz run TARGET FILE` repeats it.

// The lints' exemption covers test functions only: here helpers and the fuzz targets fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use fuzz::Seen;
use std::fs;
use std::panic::{catch_unwind, resume_unwind};
use std::path::Path;

const MUTATIONS: usize = 20_000;
/// As much as one UDP packet holds, and enough commands.
const MAX_LEN: usize = 4096;
/// Where fields change their length or their sign, and what descriptors and RTP headers start with.
const INTERESTING: [u8; 16] = [
    0, 1, 7, 8, 0x0f, 0x10, 0x40, 0x60, 0x7f, 0x80, 0x90, 0xa0, 0xc0, 0xe0, 0xfe, 0xff,
];

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `end`; 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

/// The seeds in the order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Changes a few places.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(8) {
            0 => bytes.insert(at, random.byte()),
            1 => bytes.insert(at, INTERESTING[random.below(INTERESTING.len())]),
            2 => drop(bytes.drain(at..end)),
            3 => {
                // Again, here or elsewhere.
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            4 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ if at == bytes.len() => {}
            5 => bytes[at] ^= 1 << random.below(8),
            6 => bytes[at] = INTERESTING[random.below(INTERESTING.len())],
            _ => bytes[at] = bytes[at].wrapping_add(random.byte() % 17).wrapping_sub(8),
        }
    }
    bytes.truncate(MAX_LEN);
}

/// Runs the target and says with which input it failed.
fn run_one(target: fn(&[u8]) -> Seen, input: &[u8]) -> Seen {
    catch_unwind(|| target(input)).unwrap_or_else(|cause| {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("failed on {hex}");
        resume_unwind(cause)
    })
}

/// `reached`: what the seeds and their mutations have to lead to.
fn run(name: &str, target: fn(&[u8]) -> Seen, reached: &[&str]) {
    let seeds = seeds(name);
    let mut seen = run_one(target, &[]);
    for seed in &seeds {
        seen.append(&mut run_one(target, seed));
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..MUTATIONS {
        let mut input = seeds[random.below(seeds.len())].clone();
        mutate(&mut random, &mut input, &seeds);
        seen.append(&mut run_one(target, &input));
    }
    for what in reached {
        assert!(
            seen.contains(what),
            "{name}: no input led to \"{what}\"; seen were {seen:?}"
        );
    }
}

#[test]
fn sframe_headers_have_one_encoding() {
    let reached = ["short", "long", "longest", "truncated", "not minimal"];
    run("header", fuzz::header::run, &reached);
}

#[test]
fn payload_descriptors_read_back_or_are_refused() {
    let reached = [
        "SFrame",
        "reserved bits",
        "VP8",
        "long VP8",
        "longest VP8",
        "truncated VP8",
    ];
    run("descriptor", fuzz::descriptor::run, &reached);
}

#[test]
fn all_readers_of_rtp_headers_agree() {
    let reached = ["outlined", "refused", "padding", "sources or extension"];
    run("packet", fuzz::packet::run, &reached);
}

#[test]
fn the_depayloader_joins_what_belongs_together_and_nothing_else() {
    let reached = [
        "frame",
        "joined",
        "dropped",
        "duplicate",
        "too large",
        "malformed",
        "reset",
    ];
    run("depayloader", fuzz::depayloader::run, &reached);
}

#[test]
fn the_guard_accounts_for_every_packet_and_lets_pass_what_has_the_form() {
    let reached = [
        "forward",
        "hold",
        "release",
        "RTCP",
        "retransmission",
        "report",
        "evicted",
        "overflow",
        "other rules",
        "not-rtp",
        "not-rtcp",
        "rtcp-not-allowed",
        "empty-payload",
        "reserved-bits",
        "sframe-header",
        "too-short",
        "clear-prefix",
        "early-marker",
        "fragment-without-start",
        "unfinished-frame",
        "mixed-frame",
        "counter-not-advancing",
        "kid-changes",
        "sequence-jump",
        "duplicate",
        "rtx-unproven",
    ];
    run("guard", fuzz::guard::run, &reached);
}

#[test]
fn nothing_opens_that_was_not_sealed() {
    let reached = ["opened", "refused", "malformed", "unchanged", "changed"];
    run("open", fuzz::open::run, &reached);
}

#[test]
fn frames_of_any_bytes_can_be_inspected() {
    let reached = [
        "VP8 size",
        "VP9 size",
        "VP9 delta",
        "AV1 keyframe",
        "AV1 delta",
        "H.264 keyframe",
        "H.264 delta",
        "H.265 keyframe",
        "H.265 delta",
        "nothing",
    ];
    run("codec", fuzz::codec::run, &reached);
}

#[test]
fn key_files_of_any_bytes_are_read_or_refused() {
    run("key_file", fuzz::key_file::run, &["keys", "bad line", "no key"]);
}

#[test]
fn recorded_matroska_is_cut_and_read_the_same_however_it_comes() {
    let reached = [
        "header",
        "read header",
        "cluster",
        "blocks",
        "delta",
        "duration",
        "refused blocks",
        "unfinished",
        "refused",
    ];
    run("matroska", fuzz::matroska::run, &reached);
}

#[test]
fn every_change_to_a_signed_audit_log_is_noticed() {
    let reached = [
        "entry",
        "no entry",
        "signed note",
        "note",
        "verifier key",
        "request",
        "proven",
        "proof",
        "intact",
        "damaged",
        "unsigned changed",
    ];
    run("audit", fuzz::audit::run, &reached);
}

#[test]
fn every_change_to_a_recording_s_manifest_is_noticed() {
    let reached = [
        "facts",
        "no facts",
        "nothing holds",
        "some holds",
        "all holds",
        "later line",
        "complete",
        "unfinished",
        "damaged",
        "opens",
    ];
    run("recording", fuzz::recording::run, &reached);
}

#[test]
fn requests_and_decisions_of_anybody_are_nobody_s() {
    let reached = [
        "request",
        "no request",
        "decision",
        "no decision",
        "signed",
        "forged",
        "unreadable",
        "custodians",
        "recipients",
        "no holders",
    ];
    run("breakglass", fuzz::breakglass::run, &reached);
}
