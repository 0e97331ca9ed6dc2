//! Many seeds: shared among the processor's cores, counted, and told again where one fails.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Seeds of a normal run.
const SEEDS: u64 = 100;
/// A long run says where it is so often.
const PROGRESS: Duration = Duration::from_secs(30);

/// Of so many rooms with a malicious member it may leave nothing of one.
const MOST_LOST: u64 = 50;

/// What a seed went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub inputs: u64,
    pub epochs: u64,
    /// Rooms with a malicious member, and what it did.
    pub moles: u64,
    pub deeds: u64,
    /// Rooms of which it left nothing.
    pub lost: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.inputs += other.inputs;
        self.epochs += other.epochs;
        self.moles += other.moles;
        self.deeds += other.deeds;
        self.lost += other.lost;
    }
}

/// The seeds that `SIM_SEEDS` names: one, or FROM..TO.
fn wanted() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SIM_SEEDS") else {
        return 0..SEEDS;
    };
    let number = |text: &str| text.parse().expect("SIM_SEEDS is a seed or FROM..TO");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&text)..number(&text) + 1,
    }
}

struct Progress {
    next: u64,
    running: BTreeSet<u64>,
    done: u64,
    failed: Vec<u64>,
    counts: Counts,
    told: Instant,
}

impl Progress {
    fn tell(&mut self, of: u64, began: Instant) {
        self.told = Instant::now();
        // All before this one are done.
        let from = self.running.first().copied().unwrap_or(self.next);
        eprintln!(
            "{} of {of} seeds, {} failed, {} s; to go on from here: {from}..",
            self.done,
            self.failed.len(),
            began.elapsed().as_secs()
        );
    }
}

/// Runs all seeds that are wanted; fails where one of them panics.
pub fn run_all(run: impl Fn(u64) -> Counts + Sync) {
    let seeds = wanted();
    let all = seeds.end.saturating_sub(seeds.start);
    let began = Instant::now();
    let progress = Mutex::new(Progress {
        next: seeds.start,
        running: BTreeSet::new(),
        done: 0,
        failed: Vec::new(),
        counts: Counts::default(),
        told: began,
    });
    let work = || {
        loop {
            let seed = {
                let mut progress = progress.lock().unwrap();
                if progress.told.elapsed() >= PROGRESS {
                    progress.tell(all, began);
                }
                let seed = progress.next;
                if seed >= seeds.end {
                    return;
                }
                progress.next += 1;
                progress.running.insert(seed);
                seed
            };
            let result = catch_unwind(AssertUnwindSafe(|| run(seed)));
            let mut progress = progress.lock().unwrap();
            progress.running.remove(&seed);
            progress.done += 1;
            match result {
                Ok(counts) => {
                    if counts.lost > 0 {
                        eprintln!("seed {seed}: the malicious member left nothing of the room");
                    }
                    progress.counts.add(counts);
                }
                Err(why) => {
                    let why = why
                        .downcast_ref::<String>()
                        .cloned()
                        .or_else(|| why.downcast_ref::<&str>().map(|why| (*why).to_owned()))
                        .unwrap_or_default();
                    eprintln!("SEED {seed} failed: {why}\n    again: {}", again(seed));
                    progress.failed.push(seed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
    let Progress {
        mut failed, counts, ..
    } = progress.into_inner().unwrap();
    failed.sort_unstable();
    eprintln!(
        "{all} seeds ({}..{}) in {} s, {} failed: {} rooms with a malicious member that did {} things and left nothing of {}, {} inputs, {} epochs",
        seeds.start,
        seeds.end,
        began.elapsed().as_secs(),
        failed.len(),
        counts.moles,
        counts.deeds,
        counts.lost,
        counts.inputs,
        counts.epochs
    );
    assert!(
        // Of few rooms it may be some more, by chance.
        counts.lost <= 3 + counts.moles / MOST_LOST,
        "a malicious member left nothing of {} rooms of {}: that must be one in {MOST_LOST} at most",
        counts.lost,
        counts.moles
    );
    assert!(
        failed.is_empty(),
        "{} seeds failed: {failed:?}. Again: {}",
        failed.len(),
        again(failed[0])
    );
}

fn again(seed: u64) -> String {
    format!(
        "SIM_SEEDS={seed} WORLD_LOUD=1 cargo test -p gst-plugin-mls --test simulation honest -- --nocapture"
    )
}
