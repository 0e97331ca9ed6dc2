//! The element `mlskeyring`: a room in a pipeline, without pads.

mod imp;
mod messages;
mod messaging;
mod pads;
mod properties;
mod settings;
mod signals;
mod structures;

use std::sync::{Mutex, MutexGuard, PoisonError};

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// `mlskeyring`.
    pub struct MlsKeyring(ObjectSubclass<imp::MlsKeyring>) @extends gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "mlskeyring",
        gst::Rank::NONE,
        MlsKeyring::static_type(),
    )
}

/// What is locked here is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Weakest claim, as a property.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstMlsClaim")]
pub enum Claim {
    /// Nobody but the participants.
    #[default]
    #[enum_value(name = "Only the participants hold keys", nick = "strict")]
    Strict,
    /// Also named recorders and recipients.
    #[enum_value(
        name = "Also the named recorders and the recipients of recordings",
        nick = "recorded"
    )]
    Recorded,
    /// Recordings open only by M of N custodians.
    #[enum_value(
        name = "As recorded, but M of N custodians open a recording together",
        nick = "escrow"
    )]
    Escrow,
}

/// Where the endpoint stands, as a property.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstMlsKeyringState")]
pub enum State {
    /// Not in the room yet.
    #[default]
    #[enum_value(name = "Asked to be let in, or catching up", nick = "joining")]
    Joining,
    /// All is well.
    #[enum_value(name = "Seals under the keys of the present epoch", nick = "ready")]
    Ready,
    /// Between two epochs.
    #[enum_value(
        name = "Has the keys of a new epoch, seals under the one before",
        nick = "transition"
    )]
    Transition,
    /// Does not seal.
    #[enum_value(
        name = "No sign of life from the room, or cannot follow it: seals nothing",
        nick = "stale"
    )]
    Stale,
    /// Out.
    #[enum_value(name = "Removed, left, or somebody else uses this identity", nick = "evicted")]
    Evicted,
}
