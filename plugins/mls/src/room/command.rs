//! What a person or a program may ask of a room: the element's actions and the control socket both speak this.

use serde::{Deserialize, Serialize};

use crate::policy::PolicyChange;

/// A wish; the room makes a commit of it and repeats it until it is in force, refused or pointless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Remove a member, named by subject id or by fingerprint (hex), and deny its certificate from now on.
    Remove {
        /// Subject id or fingerprint.
        member: String,
    },
    /// Commit an Update of the own leaf: new keys for everybody.
    Rekey,
    /// Say in the group that recording is on or off.
    SetRecording {
        /// On or off.
        on: bool,
    },
    /// Change the policy.
    SetPolicy {
        /// The fields to change.
        policy: Box<PolicyChange>,
    },
    /// Leave the log behind and join again by external commit.
    Resync,
    /// People compared a code, by voice or eye to eye, and it was equal: changes nothing in the group, only what this
    /// endpoint reports of it. See [`crate::codes`].
    Confirm {
        /// Subject id or fingerprint of the one member that the pair code is with; none: `code` is the epoch's, which all
        /// members compared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member: Option<String>,
        /// The code that the others have. Spaces do not count.
        code: String,
    },
}
