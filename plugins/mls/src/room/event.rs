//! What a room tells: each becomes one element message with the same fields. Nothing here is secret.

use super::status::{Member, State};
use crate::policy::Claim;

/// Something that happened in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `state` changed.
    State(State),
    /// `mls-member-joined`.
    MemberJoined(Member),
    /// `mls-member-left`; `removed_by` is empty where it left by itself.
    MemberLeft {
        /// Who is gone.
        member: Member,
        /// Subject id of the committer.
        removed_by: String,
    },
    /// `mls-epoch-changed`.
    EpochChanged {
        /// The new epoch.
        epoch: u64,
        /// Its code.
        code: String,
        /// Number of members.
        members: u32,
    },
    /// `mls-recorder-present`: a recorder came in, or the last one is gone (`present` false).
    RecorderPresent {
        /// Is there a recorder now?
        present: bool,
        /// Subject ids of the recorders.
        recorders: Vec<String>,
    },
    /// `mls-recording-changed`.
    RecordingChanged {
        /// On or off.
        on: bool,
        /// Subject id of who committed it.
        by: String,
    },
    /// `mls-policy-changed`.
    PolicyChanged {
        /// The claim in force.
        claim: Claim,
        /// SHA-256 of the encoded policy, hex.
        digest: String,
        /// Subject id of who committed it.
        by: String,
    },
    /// `mls-not-accepted`: the room's claim is weaker than `accept`; nothing is sent. `accepted` true: it is over.
    NotAccepted {
        /// Over?
        accepted: bool,
        /// The room's claim.
        claim: Claim,
        /// What this endpoint accepts.
        accept: Claim,
    },
    /// `mls-refused`: a commit, proposal, key package or welcome was refused.
    Refused {
        /// What was refused: `commit`, `proposal`, `key-package`, `welcome`, `message`, `command`.
        what: &'static str,
        /// Subject id of its author where that is authentic, else empty.
        by: String,
        /// Why, for a person.
        reason: String,
    },
    /// `mls-verification-failed`: a certificate did not verify.
    VerificationFailed {
        /// Why, for a person.
        reason: String,
    },
    /// `mls-stale`: nothing authenticated was heard for so long, or the log cannot be followed here.
    Stale {
        /// Why, for a person.
        reason: String,
    },
    /// `mls-resync`: an external commit is on its way, or took effect.
    Resync {
        /// Done?
        done: bool,
        /// Why, for a person.
        reason: String,
    },
    /// `mls-clone-detected`: somebody else commits under this identity. Nothing is sealed any more.
    CloneDetected {
        /// What showed it.
        reason: String,
    },
    /// `mls-member-named`: what a member calls itself in the room.
    MemberNamed {
        /// Its leaf.
        leaf: u32,
        /// Its subject id.
        id: String,
        /// The name, in its own words: nobody has certified it.
        name: String,
    },
    /// `mls-message-progress`: a chunk of a message of more than one was sent or received.
    MessageProgress {
        /// Which message.
        id: crate::content::MessageId,
        /// Subject id of its author.
        by: String,
        /// Is it this endpoint's?
        own: bool,
        /// Chunks that stand in the log.
        done: u32,
        /// All its chunks.
        of: u32,
    },
    /// `mls-evicted`: this endpoint was removed.
    Evicted {
        /// Subject id of the committer.
        by: String,
    },
}
