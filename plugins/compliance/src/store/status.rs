//! How it stands with a store, as an application shows it.

use std::fmt;
use std::time::Duration;

/// Behind is who has something in the spool for longer than this that is not in the store.
pub const BEHIND: Duration = Duration::from_secs(10);

/// In one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// What is sealed is in the store within seconds.
    #[default]
    Ok,
    /// It takes longer.
    Behind,
    /// The store cannot be reached. The spool grows.
    Away,
    /// The store refuses, or something is there that must not be: somebody has to look.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Behind => "behind",
            Self::Away => "away",
            Self::Failed => "failed",
        })
    }
}

/// In figures.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// In one word.
    pub state: State,
    /// Bytes in the spool that are not known to be in the store.
    pub pending: u64,
    /// The oldest of them waits for at most so long, as far as this process knows.
    pub oldest: Duration,
    /// Bytes that went to the store in this process.
    pub uploaded: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// Bytes of recordings in the spool, pending or not.
    pub spool: u64,
    /// What is wrong, for people.
    pub trouble: Option<String>,
}
