//! The room: what an epoch costs against bare openmls, what durability adds, what an idle keyring takes, what a lookup
//! costs.
//!
//! `scripts/bench room`; with arguments only these parts: `epochs merge idle lookup`, and for `epochs` the numbers of
//! members. `scripts/bench nats`, or the argument `nats` with a number of rooms: rooms over a nats-server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench has nobody to hand an error to"
)]

mod cpu;
mod epochs;
mod idle;
mod lookup;
mod merge;
mod nats;
#[path = "../../../plugins/mls/tests/nats/server.rs"]
#[allow(dead_code, reason = "the tests need the rest of it")]
mod server;
#[path = "../../../plugins/mls/tests/world/mod.rs"]
mod world;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    if let [child, rest @ ..] = arguments.as_slice()
        && child == idle::CHILD
    {
        return idle::child(rest);
    }
    if let [child, rest @ ..] = arguments.as_slice()
        && child == nats::CHILD
    {
        return nats::child(rest);
    }
    let sizes: Vec<usize> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    let wanted = |name: &str| {
        let mut names = arguments
            .iter()
            .filter(|a| a.parse::<usize>().is_err())
            .peekable();
        names.peek().is_none() || names.any(|a| a == name)
    };
    if arguments.iter().any(|a| a == "nats") {
        return nats::run(sizes.first().copied().unwrap_or(200));
    }
    if wanted("epochs") {
        let sizes = if sizes.is_empty() {
            vec![2, 10, 100, 1000]
        } else {
            sizes
        };
        epochs::run(&sizes);
    }
    if wanted("merge") {
        merge::run();
    }
    if wanted("lookup") {
        lookup::run();
    }
    if wanted("idle") {
        idle::run();
    }
}
