//! Recordings and the audit log in a store: a real S3 server in a process of its own, and a wire to it that is cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod keeping;
mod logs;
mod recorders;
mod recordings;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::LIMIT;
use gstcompliance::store::{Address, Mirror, Options, Status};
use server::Server;

/// An address in the server's first bucket.
fn address(prefix: &str) -> Address {
    format!("s3://clinic/{prefix}").parse().unwrap()
}

/// The mirror of a spool on this machine, behind the server's wire.
fn options(server: &Server, spool: &Path, location: &str, audit_log: Option<&str>) -> Options {
    Options {
        spool: spool.to_owned(),
        location: Some(address(location)),
        keys: None,
        audit_log: audit_log.map(address),
        lock: None,
        access: Some(server.settings(true)),
    }
}

/// Waits until a mirror says what is waited for.
fn until(mirror: &Arc<Mirror>, what: &str, done: impl Fn(&Status) -> bool) -> Status {
    let begun = Instant::now();
    loop {
        let status = mirror.status();
        if done(&status) {
            return status;
        }
        assert!(begun.elapsed() < LIMIT, "{what} did not happen: {status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every file below a folder, by its name there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}
