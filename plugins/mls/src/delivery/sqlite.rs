//! Delivery by an SQLite file.

use std::path::PathBuf;

/// Where the log is if nobody says.
pub fn default_path() -> PathBuf {
    PathBuf::new()
}
