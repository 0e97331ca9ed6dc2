//! The clock of the command line.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix time in seconds.
pub fn now() -> Result<u64, Box<dyn Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now
        .map_err(|_| "The clock of this machine stands before 1970.")?
        .as_secs())
}

/// A unix time in seconds as people write it (UTC).
pub fn date(seconds: u64) -> String {
    let time = x509_cert::der::DateTime::from_unix_duration(Duration::from_secs(seconds));
    time.map_or_else(|_| "after the year 9999".to_owned(), |time| time.to_string())
}
