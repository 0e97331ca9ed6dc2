//! Rooms of honest endpoints in a bad world, by the seed: the log comes late, twice or not at all to some of them,
//! processes die at any write, clocks jump, old state comes back. In every second room one of the members is malicious:
//! see `mole`. After every step, for all who are honest: one history, the same secrets, no KID twice under one key,
//! nobody opens what it is not in, who was removed is blind, nobody seals what it may not. At the end: everybody is in one
//! epoch.
//!
//! The seed decides how long it goes on, too: of ten rooms six see some ten events, one sees up to eighty.
//!
//! `scripts/simulate 0..100000` runs many seeds, quickly. A failure prints its seed:
//! `SIM_SEEDS=17 WORLD_LOUD=1 cargo test -p gst-plugin-mls --test simulation` runs that one again and tells what
//! happens; `SIM_SEEDS=0..2000` is a range. What happens when, and to whom, depends on the seed alone; MLS' keys are new
//! in every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod checks;
mod dice;
mod mole;
mod seeds;
mod sim;
mod steps;
#[path = "../world/mod.rs"]
mod world;

use gstmls::record::Record;
use seeds::Counts;
use sim::Sim;

fn run(seed: u64) -> Counts {
    let mut sim = Sim::new(seed);
    for _ in 0..sim.steps {
        sim.step();
    }
    sim.finish();
    sim.counts()
}

#[test]
fn honest_endpoints_stay_one_room_whatever_happens() {
    seeds::run_all(run);
}

#[test]
fn the_same_seed_makes_the_same_events() {
    let trace = |seed| {
        let mut sim = Sim::new(seed);
        for _ in 0..25 {
            sim.step();
        }
        let kinds: Vec<_> = sim
            .world
            .log
            .iter()
            .map(|(_, bytes)| Record::decode(bytes).map(|record| record.kind()))
            .collect();
        (sim.counts(), sim.world.now, kinds)
    };
    // With a malicious member, and without.
    let (mut with, mut without) = (false, false);
    for seed in 4711.. {
        let has = Sim::new(seed).mole.is_some();
        if (has && with) || (!has && without) {
            continue;
        }
        assert_eq!(trace(seed), trace(seed), "{seed}");
        with |= has;
        without |= !has;
        if with && without {
            break;
        }
    }
}
