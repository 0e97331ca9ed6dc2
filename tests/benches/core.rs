//! Sealing and opening without GStreamer, against a bare cached `ring` key on the same bytes in place.
//!
//! Our figure includes the layout, header writing and parsing, the AAD, the replay window, and the copy of the frame
//! into the output, which an element makes anyway. `ring` alone does none of that: no header, empty AAD, in place.

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
    out: Vec<u8>,
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
            out: vec![0; total],
        })
    }

    fn count(&self) -> usize {
        self.sealed.len()
    }

    fn seal(&mut self) -> Result<(), Box<dyn Error>> {
        for out in &mut self.sealed {
            self.ctr += 1;
            let layout = self.seal_key.layout(self.ctr, 0, self.frame.len());
            self.seal_key.seal(&layout, out, |at, part| {
                part.copy_from_slice(&self.frame[at..at + part.len()]);
                true
            })?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Box<dyn Error>> {
        for sealed in &self.sealed {
            let lead_bytes = &sealed[..sealed.len().min(MAX_LEAD)];
            let lead = Lead::parse(lead_bytes, 0)?;
            if !self.window.is_fresh(lead.header.ctr) {
                return Err("a fresh frame was taken for a replay".into());
            }
            let body = &sealed[lead.body_offset()..];
            let out = &mut self.out[..body.len()];
            out.copy_from_slice(body);
            let len = self.open_key.open(&lead, lead_bytes, out)?;
            self.window.record(lead.header.ctr);
            black_box(&out[..len]);
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
    fn bare_open(&mut self, copy: bool) -> Result<(), Box<dyn Error>> {
        let first = self.ctr - self.bare_sealed.len() as u64;
        for (slot, ctr) in self.bare_sealed.iter_mut().zip(first + 1..) {
            let data = if copy {
                let out = &mut self.out[..slot.len()];
                out.copy_from_slice(slot);
                out
            } else {
                &mut slot[..]
            };
            let plain = self
                .bare
                .open_in_place(nonce(ctr), Aad::empty(), data)
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
    bare_copy: Series,
}

impl Times {
    fn end_round(&mut self, keep: bool) {
        for series in [&mut self.ours, &mut self.bare, &mut self.bare_copy] {
            series.end_round(keep);
        }
    }

    fn print(&self, what: &str, len: usize, at_most: f64) {
        let in_place = Ratio::of(self.ours.rounds(), self.bare.rounds());
        let copying = Ratio::of(self.ours.rounds(), self.bare_copy.rounds());
        println!(
            "{what:<5} {len:>6} B {:>9.0} {:>9.0}   {in_place:<24} {at_most:>4}  {:<8} {copying}",
            self.ours.median(),
            self.bare.median(),
            in_place.verdict(at_most),
        );
    }
}

fn run(len: usize, at_most: f64) -> Result<(), Box<dyn Error>> {
    let mut bench = Bench::new(len)?;
    let (mut seal, mut open) = (Times::default(), Times::default());
    let n = bench.count();
    let step = |series: &mut Series, (time, result): (_, Result<(), Box<dyn Error>>)| {
        series.block(time, n);
        result
    };
    for round in 0..WARM_UP + ROUNDS {
        for _ in 0..BLOCKS {
            step(&mut seal.ours, timed(|| bench.seal()))?;
            step(&mut open.ours, timed(|| bench.open()))?;
            // Opening with a copy leaves the slots as they are, so it goes before opening in place.
            step(&mut seal.bare_copy, timed(|| bench.bare_seal(true)))?;
            step(&mut open.bare_copy, timed(|| bench.bare_open(true)))?;
            step(&mut open.bare, timed(|| bench.bare_open(false)))?;
            step(&mut seal.bare, timed(|| bench.bare_seal(false)))?;
        }
        seal.end_round(round >= WARM_UP);
        open.end_round(round >= WARM_UP);
    }
    // What was timed is the real thing.
    bench.seal()?;
    bench.open()?;
    assert_eq!(&bench.out[..len], bench.frame);
    seal.print("seal", len, at_most);
    open.print("open", len, at_most);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "Core, AES-128-GCM: ns per frame; ratio to ring in place: median of {ROUNDS} rounds (min to max)\n"
    );
    println!(
        "{:<5} {:>8} {:>9} {:>9}   {:<24} {:>4}  {:<8} ratio, both copying",
        "", "frame", "ours", "ring", "ratio", "at most", ""
    );
    run(160, 1.5)?;
    run(1200, 1.5)?;
    run(20_000, 1.2)
}
