//! `GstSFrameMeta`: which key a frame was opened with. `sframedec` attaches it; whoever must know the sender or
//! the epoch of a frame (a recorder, an application) reads it.
//!
//! It is one of GStreamer's registered custom metas, so any language reads it with
//! `gst_buffer_get_custom_meta(buffer, "GstSFrameMeta")`. Fields: `kid` (u64), `epoch` (u64), `leaf` (u32),
//! `sender` (string).

use std::sync::Once;

/// Name of the meta and of its structure.
pub const NAME: &str = "GstSFrameMeta";

/// Leaf index where the key source knows none (static keys).
pub const NO_LEAF: u32 = u32::MAX;

/// Which key opened a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SFrameMeta {
    /// Key id of the frame (RFC 9605 §4.3).
    pub kid: u64,
    /// Epoch of the group that the key belongs to; 0 for static keys.
    pub epoch: u64,
    /// Leaf index of the sender in the group, [`NO_LEAF`] for static keys.
    pub leaf: u32,
    /// Identity of the sender as the key source names it; empty for static keys.
    pub sender: String,
}

/// Makes the meta known to GStreamer unless another plugin already did: registering twice is a critical error.
fn register() {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        if gst::meta::CustomMeta::is_registered(NAME) {
            return;
        }
        gst::meta::CustomMeta::register(NAME, &[]);
    });
}

impl SFrameMeta {
    /// Attaches the meta to a buffer.
    pub fn add_to(&self, buffer: &mut gst::BufferRef) {
        register();
        if let Ok(mut meta) = gst::meta::CustomMeta::add(buffer, NAME) {
            let s = meta.mut_structure();
            s.set("kid", self.kid);
            s.set("epoch", self.epoch);
            s.set("leaf", self.leaf);
            s.set("sender", &self.sender);
        }
    }

    /// Reads the meta of a buffer, if it has one.
    pub fn of(buffer: &gst::BufferRef) -> Option<Self> {
        register();
        let meta = gst::meta::CustomMeta::from_buffer(buffer, NAME).ok()?;
        let s = meta.structure();
        Some(Self {
            kid: s.get("kid").ok()?,
            epoch: s.get("epoch").ok()?,
            leaf: s.get("leaf").ok()?,
            sender: s.get("sender").ok()?,
        })
    }
}
