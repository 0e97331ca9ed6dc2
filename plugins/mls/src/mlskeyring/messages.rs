//! One element message for each event of the room.

use super::structures::{strings, with_member};
use crate::room::Event;

/// The message of an event; none for what a property's notify tells.
pub fn structure(event: &Event) -> Option<gst::Structure> {
    let new = |name: &str| gst::Structure::builder(name);
    Some(match event {
        Event::State(_) => return None,
        Event::MemberJoined(member) => with_member(new("mls-member-joined"), member).build(),
        Event::MemberLeft { member, removed_by } => with_member(new("mls-member-left"), member)
            .field("removed-by", removed_by)
            .build(),
        Event::EpochChanged { epoch, code, members } => new("mls-epoch-changed")
            .field("epoch", *epoch)
            .field("epoch-code", code)
            .field("members", *members)
            .build(),
        Event::RecorderPresent { present, recorders } => new("mls-recorder-present")
            .field("present", *present)
            .field("recorders", strings(recorders))
            .build(),
        Event::RecordingChanged { on, by } => new("mls-recording-changed")
            .field("recording", *on)
            .field("by", by)
            .build(),
        Event::PolicyChanged { claim, digest, by } => new("mls-policy-changed")
            .field("claim", claim.to_string())
            .field("policy-digest", digest)
            .field("by", by)
            .build(),
        Event::NotAccepted {
            accepted,
            claim,
            accept,
        } => new("mls-not-accepted")
            .field("accepted", *accepted)
            .field("claim", claim.to_string())
            .field("accept", accept.to_string())
            .build(),
        Event::Refused { what, by, reason } => new("mls-refused")
            .field("what", *what)
            .field("by", by)
            .field("reason", reason)
            .build(),
        Event::VerificationFailed { reason } => {
            new("mls-verification-failed").field("reason", reason).build()
        }
        Event::Stale { reason } => new("mls-stale").field("reason", reason).build(),
        Event::Resync { done, reason } => new("mls-resync")
            .field("done", *done)
            .field("reason", reason)
            .build(),
        Event::CloneDetected { reason } => new("mls-clone-detected").field("reason", reason).build(),
        Event::MemberNamed { leaf, id, name } => new("mls-member-named")
            .field("leaf", *leaf)
            .field("id", id)
            .field("display-name", name)
            .build(),
        Event::MessageProgress {
            id,
            by,
            own,
            done,
            of,
        } => new("mls-message-progress")
            .field("message-id", hex::encode(id))
            .field("by", by)
            .field("own", *own)
            .field("chunks", *done)
            .field("of", *of)
            .build(),
        Event::Evicted { by } => new("mls-evicted").field("by", by).build(),
    })
}
