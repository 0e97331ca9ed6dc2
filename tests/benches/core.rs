//! Sealing and opening without GStreamer, against a bare cached `ring` key on the same bytes in place.
//!
//! Our figure includes the layout, header writing and parsing, the AAD and the replay window. `ring` alone does none of
//! that: no header, empty AAD. Both work in place; an element seals into new memory, so sealing is also compared where
//! both copy the frame first.

use gst_e2ee_common::cipher_suite::CipherSuite;
use gst_e2ee_tests::bench::{Ratio, Series, timed};
use gstsframe::frame::{Lead, MAX_LEAD, OpenKey, SealKey};
use gstsframe::replay::ReplayWindow;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::error::Error;
use std::hint::black_box;

const WARM_UP: usize = 2;
const ROUNDS: usize = 15;
const BLOCKS: usize = 200;
const TAG_LEN: usize = 16;
/// Counters as long as those of a fresh counter file (62 bits random).
const FIRST_CTR: u64 = 0x2b5a_93c1_77e0_1234;

fn nonce(ctr: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&ctr.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Frames of one size, and everything needed to seal and open them in both ways.
struct Bench {
    frame: Vec<u8>,
    seal_key: SealKey,
    open_key: OpenKey,
    window: ReplayWindow,
    bare: LessSafeKey,
    ctr: u64,
    /// One slot per frame of a block; ours are longer by header and tag, those of `ring` by the tag.
    sealed: Vec<Vec<u8>>,
    bare_sealed: Vec<Vec<u8>>,
}

impl Bench {
    fn new(len: usize) -> Result<Self, Box<dyn Error>> {
        // A block's frames stay in the second-level cache and take far longer than reading the clock.
        let count = (100_000 / len).clamp(8, 256);
        let unbound = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(|_| "no key")?;
        let suite = CipherSuite::Aes128GcmSha256_128;
        let seal_key = SealKey::derive(suite, 5, b"base key")?;
        let total = seal_key.layout(FIRST_CTR, 0, len).total();
        Ok(Self {
            frame: (0..len).map(|at| at as u8).collect(),
            seal_key,
            open_key: OpenKey::derive(suite, 5, b"base key")?,
            window: ReplayWindow::new(1024),
            bare: LessSafeKey::new(unbound),
            ctr: FIRST_CTR,
            sealed: vec![vec![0; total]; count],
            bare_sealed: vec![vec![0; len + TAG_LEN]; count],
        })
    }

    fn count(&self) -> usize {
        self.sealed.len()
    }

    /// Seals what lies in the slot, or a copy of the frame.
    fn seal(&mut self, copy: bool) -> Result<(), Box<dyn Error>> {
        for out in &mut self.sealed {
            self.ctr += 1;
            let layout = self.seal_key.layout(self.ctr, 0, self.frame.len());
            self.seal_key.seal(&layout, &[], out, |at, part| {
                if copy {
                    part.copy_from_slice(&self.frame[at..at + part.len()]);
                }
                true
            })?;
        }
        Ok(())
    }

    /// Opens in place what the last `seal` made, as `sframedec` does.
    fn open(&mut self) -> Result<(), Box<dyn Error>> {
        for sealed in &mut self.sealed {
            let mut lead_bytes = [0; MAX_LEAD];
            let known = sealed.len().min(MAX_LEAD);
            lead_bytes[..known].copy_from_slice(&sealed[..known]);
            let lead = Lead::parse(&lead_bytes[..known], 0)?;
            if !self.window.is_fresh(lead.header.ctr) {
                return Err("a fresh frame was taken for a replay".into());
            }
            let frame = &mut sealed[lead.header_len..];
            let len = self.open_key.open(&lead, &lead_bytes, &[], frame)?;
            self.window.record(lead.header.ctr);
            black_box(&frame[..len]);
        }
        Ok(())
    }

    /// Seals in place with `ring`; with a copy into the slot before it where `copy` is set.
    fn bare_seal(&mut self, copy: bool) -> Result<(), Box<dyn Error>> {
        for slot in &mut self.bare_sealed {
            self.ctr += 1;
            let (body, tag) = slot.split_at_mut(self.frame.len());
            if copy {
                body.copy_from_slice(&self.frame);
            }
            let full = self
                .bare
                .seal_in_place_separate_tag(nonce(self.ctr), Aad::empty(), body)
                .map_err(|_| "ring does not seal")?;
            tag.copy_from_slice(full.as_ref());
        }
        Ok(())
    }

    /// Opens what the last `bare_seal` made.
    fn bare_open(&mut self) -> Result<(), Box<dyn Error>> {
        let first = self.ctr - self.bare_sealed.len() as u64;
        for (slot, ctr) in self.bare_sealed.iter_mut().zip(first + 1..) {
            let plain = self
                .bare
                .open_in_place(nonce(ctr), Aad::empty(), slot)
                .map_err(|_| "ring does not open")?;
            black_box(plain);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Times {
    ours: Series,
    bare: Series,
}

impl Times {
    fn end_round(&mut self, keep: bool) {
        self.ours.end_round(keep);
        self.bare.end_round(keep);
    }

    fn print(&self, what: &str, len: usize, at_most: f64) {
        let ratio = Ratio::of(self.ours.rounds(), self.bare.rounds());
        println!(
            "{what:<18} {len:>6} B {:>9.0} {:>9.0}   {ratio:<24} {at_most:>4}  {}",
            self.ours.median(),
            self.bare.median(),
            ratio.verdict(at_most),
        );
    }
}

fn run(len: usize, at_most: f64) -> Result<(), Box<dyn Error>> {
    let mut bench = Bench::new(len)?;
    let mut times: [Times; 3] = Default::default();
    let n = bench.count();
    let step = |series: &mut Series, (time, result): (_, Result<(), Box<dyn Error>>)| {
        series.block(time, n);
        result
    };
    for round in 0..WARM_UP + ROUNDS {
        let [seal, open, seal_copy] = &mut times;
        for _ in 0..BLOCKS {
            step(&mut seal_copy.ours, timed(|| bench.seal(true)))?;
            step(&mut seal_copy.bare, timed(|| bench.bare_seal(true)))?;
            step(&mut seal.ours, timed(|| bench.seal(false)))?;
            step(&mut seal.bare, timed(|| bench.bare_seal(false)))?;
            step(&mut open.bare, timed(|| bench.bare_open()))?;
            step(&mut open.ours, timed(|| bench.open()))?;
        }
        times
            .iter_mut()
            .for_each(|times| times.end_round(round >= WARM_UP));
    }
    // What was timed is the real thing.
    bench.seal(true)?;
    bench.open()?;
    let header_len = bench.sealed[0].len() - len - TAG_LEN;
    assert_eq!(&bench.sealed[0][header_len..header_len + len], bench.frame);
    for (times, what) in times.iter().zip(["seal", "open", "seal, both copying"]) {
        times.print(what, len, at_most);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("Core, AES-128-GCM: ns per frame; median of {ROUNDS} rounds (min to max)\n");
    println!(
        "{:<18} {:>8} {:>9} {:>9}   {:<24} at most",
        "", "frame", "ours", "ring", "ratio"
    );
    run(160, 1.5)?;
    run(1200, 1.5)?;
    run(20_000, 1.2)
}
