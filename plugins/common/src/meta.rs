//! `GstSFrameMeta`: which key a frame was opened with. `sframedec` attaches it; whoever must know the sender or
//! the epoch of a frame (a recorder, an application) reads it.
//!
//! It is one of GStreamer's registered custom metas, so any language reads it with
//! `gst_buffer_get_custom_meta(buffer, "GstSFrameMeta")`. Fields: `kid` (u64), `epoch` (u64), `leaf` (u32),
//! `sender` (string).

use gst::glib::Quark;
use std::sync::LazyLock;

/// Name of the meta and of its structure.
pub const NAME: &str = "GstSFrameMeta";

/// Leaf index where the key source knows none (static keys).
pub const NO_LEAF: u32 = u32::MAX;

/// Which key opened a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SFrameMeta<S = String> {
    /// Key id of the frame (RFC 9605 §4.3).
    pub kid: u64,
    /// Epoch of the group that the key belongs to; 0 for static keys.
    pub epoch: u64,
    /// Leaf index of the sender in the group, [`NO_LEAF`] for static keys.
    pub leaf: u32,
    /// Identity of the sender as the key source names it; empty for static keys.
    pub sender: S,
}

/// Names of the fields; looked up once, because the meta goes onto every frame.
struct Fields {
    kid: Quark,
    epoch: Quark,
    leaf: Quark,
    sender: Quark,
}

/// Makes the meta known to GStreamer unless another plugin already did: registering twice is a critical error.
static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    if !gst::meta::CustomMeta::is_registered(NAME) {
        gst::meta::CustomMeta::register(NAME, &[]);
    }
    Fields {
        kid: Quark::from_str("kid"),
        epoch: Quark::from_str("epoch"),
        leaf: Quark::from_str("leaf"),
        sender: Quark::from_str("sender"),
    }
});

impl<S: AsRef<str>> SFrameMeta<S> {
    /// Attaches the meta to a buffer.
    #[expect(deprecated, reason = "quarks are the fast ids of GStreamer before 1.26")]
    pub fn add_to(&self, buffer: &mut gst::BufferRef) {
        let fields = &*FIELDS;
        if let Ok(mut meta) = gst::meta::CustomMeta::add(buffer, NAME) {
            let s = meta.mut_structure();
            s.set_by_quark(fields.kid, self.kid);
            s.set_by_quark(fields.epoch, self.epoch);
            s.set_by_quark(fields.leaf, self.leaf);
            s.set_by_quark(fields.sender, self.sender.as_ref());
        }
    }
}

impl SFrameMeta {
    /// Reads the meta of a buffer, if it has one.
    pub fn of(buffer: &gst::BufferRef) -> Option<Self> {
        LazyLock::force(&FIELDS);
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
