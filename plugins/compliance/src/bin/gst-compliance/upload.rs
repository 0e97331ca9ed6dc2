//! `gst-compliance upload`: what a recorder left in its spool goes to the store.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gstcompliance::store::{Address, LockMode, Mirror, Options};

use crate::stored::Store;

/// Bring what is left in a spool into the store, without a recorder: after an outage, or before a machine is given away.
///
/// Recordings that have ended leave the spool when they were read back and compared. One that a crash left without its end
/// is brought in as far as it goes, and stays. Ends with 0 when all of it is in the store.
#[derive(Debug, clap::Args)]
pub struct Upload {
    /// The folder that compliancesink's spool names. No recorder may be using it.
    #[arg(value_name = "DIR")]
    spool: PathBuf,
    /// As the recorder's location.
    #[arg(
        long,
        value_name = "s3://BUCKET/PREFIX",
        required_unless_present = "audit_log"
    )]
    location: Option<Address>,
    /// As the recorder's audit-log, if that is in the store, too.
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    audit_log: Option<Address>,
    /// As the recorder's store-lock.
    #[arg(long, value_name = "MODE", value_parser = ["governance", "compliance"])]
    lock: Option<String>,
    /// Give up after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
    #[command(flatten)]
    store: Store,
}

impl Upload {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        if !self.spool.join("store").is_dir() {
            return Err(format!("{} is no spool: compliancesink makes one", self.spool.display()).into());
        }
        let mirror = Mirror::shared(&Options {
            spool: self.spool,
            location: self.location,
            keys: self.store.keys(),
            audit_log: self.audit_log,
            lock: self.lock.map(|mode| match mode.as_str() {
                "governance" => LockMode::Governance,
                _ => LockMode::Compliance,
            }),
            access: self.store.credentials(),
        })?;
        let begun = Instant::now();
        let mut told = None;
        loop {
            let step = Duration::from_secs(1);
            if mirror.drain(step) {
                println!(
                    "all of it is in the store; {} bytes went there now",
                    mirror.status().uploaded
                );
                return Ok(());
            }
            let status = mirror.status();
            let trouble = status.trouble.unwrap_or_default();
            if told.as_ref() != Some(&trouble) && !trouble.is_empty() {
                eprintln!("gst-compliance: {trouble}");
                told = Some(trouble);
            }
            if self
                .limit
                .is_some_and(|limit| begun.elapsed() >= Duration::from_secs(limit))
            {
                return Err(format!(
                    "{} bytes are not in the store, and stay in the spool",
                    status.pending
                )
                .into());
            }
        }
    }
}
