//! What the room says, as GStreamer structures. Nothing secret: a pipeline prints all of it.

use gst::prelude::*;

use crate::identity::Role;
use crate::room::{Member, Status};

/// `participant`, `recorder` or `participant,recorder`.
fn roles(roles: &[Role]) -> String {
    let words: Vec<_> = roles.iter().map(|role| role.word()).collect();
    words.join(",")
}

/// A member's fields on a structure under construction.
pub fn with_member(builder: gst::structure::Builder, member: &Member) -> gst::structure::Builder {
    builder
        .field("leaf", member.leaf)
        .field("id", &member.id)
        .field("operator", member.operator.as_deref().unwrap_or_default())
        .field("roles", roles(&member.roles))
        .field("fingerprint", &member.fingerprint)
        .field("own", member.own)
        .field("verified", member.verified)
        .field("display-name", member.name.as_deref().unwrap_or_default())
}

/// `mls-member` for each.
pub fn members(status: &Status) -> gst::Array {
    let members = status.members.iter();
    gst::Array::new(members.map(|member| with_member(gst::Structure::builder("mls-member"), member).build()))
}

/// Subject ids of those who record.
pub fn recorders(status: &Status) -> gst::Array {
    let recorders = status
        .members
        .iter()
        .filter(|m| m.roles.contains(&Role::Recorder));
    gst::Array::new(recorders.map(|member| member.id.to_send_value()))
}

/// The property `stats`, also posted as `mlskeyring-stats`.
pub fn stats(status: &Status, dropped: u64) -> gst::Structure {
    let counters = &status.counters;
    gst::Structure::builder("mlskeyring-stats")
        .field("epoch", status.epoch)
        .field("members", u32::try_from(status.members.len()).unwrap_or(u32::MAX))
        .field("commits-merged", counters.commits_merged)
        .field("commits-won", counters.commits_won)
        .field("commits-lost", counters.commits_lost)
        .field("refused", counters.refused)
        .field("malformed", counters.malformed)
        .field("resyncs", counters.resyncs)
        .field("messages-sent", counters.messages_sent)
        .field("messages-received", counters.messages_received)
        .field("messages-dropped", dropped)
        .build()
}

/// A list of strings.
pub fn strings(values: &[String]) -> gst::Array {
    gst::Array::new(values.iter().map(|value| value.to_send_value()))
}
