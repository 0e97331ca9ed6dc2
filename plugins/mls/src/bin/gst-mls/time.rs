//! The clock of the command line.

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

pub use gstmls::text::date;

/// Unix time in seconds.
pub fn now() -> Result<u64, Box<dyn Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now
        .map_err(|_| "The clock of this machine stands before 1970.")?
        .as_secs())
}
