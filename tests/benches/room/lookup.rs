//! What `sframedec` waits for at the first frame of a KID: the key source's answer through the contract, also while
//! the room works. It keeps the answer, so a frame of a KID that it knows costs none of this (`scripts/bench core`).

use gst::prelude::*;
use gst_e2ee_common::key_source::KeySource;
use gst_e2ee_common::room_state::RoomState;
use gst_e2ee_tests::bench::timed;
use gstmls::keyring::Keyring;
use gstmls::schedule::{EpochKeys, Layout, LeafInfo};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const MEMBERS: u32 = 1000;
const LOOKUPS: u32 = 200_000;

fn keys(epoch: u64) -> EpochKeys {
    let leaf = |leaf| {
        let info = LeafInfo {
            sender: format!("member {leaf}"),
            may_send: true,
        };
        (leaf, info)
    };
    EpochKeys {
        epoch,
        base_key: epoch.to_be_bytes().to_vec().into(),
        suite: 4,
        epoch_bits: 4,
        leaves: (0..MEMBERS).map(leaf).collect(),
        tree_leaves: MEMBERS,
        own_leaf: 0,
        removed_somebody: false,
        sealing: true,
        room: RoomState::default(),
    }
}

pub fn run() {
    gst::init().unwrap();
    let keyring = Keyring::new();
    let source = KeySource::new(keyring.clone().upcast()).unwrap();
    let shared = keyring.shared();
    shared.with_schedule(|schedule, now| {
        schedule.enter(now, keys(1)).unwrap();
        schedule.allow_sealing(true);
    });
    let kid = Layout::new(4, MEMBERS).unwrap().kid(0, 7, 1).unwrap();
    let lookups = || {
        let (time, ()) = timed(|| {
            for _ in 0..LOOKUPS {
                black_box(source.receiver_key(black_box(kid)).unwrap().unwrap());
            }
        });
        time.as_secs_f64() * 1e9 / f64::from(LOOKUPS)
    };
    let idle = lookups();
    // The runner's thread holds the schedule as long as it likes.
    let stop = AtomicBool::new(false);
    let busy = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                shared.with_schedule(|_, _| thread::sleep(std::time::Duration::from_millis(20)));
            }
        });
        let busy = lookups();
        stop.store(true, Ordering::Relaxed);
        busy
    });
    println!(
        "a KID's key through the contract, {MEMBERS} members: {idle:.0} ns; {busy:.0} ns while the room's thread holds the schedule"
    );
}
