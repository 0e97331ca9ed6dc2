//! Who somebody is: X.509 certificates of an organisation, with certified roles.

use serde::{Deserialize, Serialize};

/// What a certificate lets its holder be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sends and receives media.
    Participant,
    /// Records, and says so.
    Recorder,
}
