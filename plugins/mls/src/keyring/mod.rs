//! The key source of a room: what `sframeenc` and `sframedec` see of it (`gst_e2ee_common::key_source`).
//!
//! A [`Keyring`] is a `GstObject` apart from the element `mlskeyring`: putting an element into a context of its own
//! pipeline would leak it. It answers from a [`Shared`], which the runner's thread has too.

mod imp;
mod purpose;
mod room_states;
mod shared;

pub use shared::{Clock, Listener, Shared, Signer};

use std::sync::Arc;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_e2ee_common::key_source::{CONTEXT_FIELD, context_type};

glib::wrapper! {
    /// `GstMlsKeyring`, with every signal of the key contract.
    pub struct Keyring(ObjectSubclass<imp::Keyring>) @extends gst::Object;
}

impl Keyring {
    /// A key source without keys.
    pub fn new() -> Self {
        glib::Object::new()
    }

    /// The same, on another clock.
    pub fn with_clock(clock: Clock) -> Self {
        let keyring = Self::new();
        keyring.shared().set_clock(clock);
        keyring
    }

    /// What it answers from.
    pub fn shared(&self) -> Arc<Shared> {
        self.imp().shared.clone()
    }

    /// The context that says where this key source is.
    pub fn context(&self, id: &str) -> gst::Context {
        let mut context = gst::Context::new(&context_type(id), true);
        if let Some(context) = context.get_mut() {
            let structure = context.structure_mut();
            structure.set(CONTEXT_FIELD, self.upcast_ref::<gst::Object>());
        }
        context
    }
}

impl Default for Keyring {
    fn default() -> Self {
        Self::new()
    }
}
