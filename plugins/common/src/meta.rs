//! `GstSFrameMeta`: which key a frame was opened with. `sframedec` attaches it; whoever must know the sender or
//! the epoch of a frame (a recorder, an application) reads it.
//!
//! It is one of GStreamer's registered custom metas, so any language reads it with
//! `gst_buffer_get_custom_meta(buffer, "GstSFrameMeta")`. Fields: `kid` (u64), `epoch` (u64), `leaf` (u32),
//! `sender` (string).

use gst::glib::Quark;
use once_cell::sync::OnceCell;
use std::ops::ControlFlow;

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

/// What is looked up by name, looked up once: the meta goes onto every frame.
struct Known {
    info: MetaInfo,
    kid: Quark,
    epoch: Quark,
    leaf: Quark,
    sender: Quark,
}

/// How GStreamer makes the meta.
struct MetaInfo(*const gst::ffi::GstMetaInfo);

// SAFETY: GStreamer never changes or frees the info of a registered meta.
unsafe impl Send for MetaInfo {}
// SAFETY: as above.
unsafe impl Sync for MetaInfo {}

static KNOWN: OnceCell<Known> = OnceCell::new();

/// Makes the meta known to GStreamer unless another plugin already did: registering twice is a critical error.
/// `None`: GStreamer refuses.
fn known() -> Option<&'static Known> {
    let register = || {
        if !gst::meta::CustomMeta::is_registered(NAME) {
            gst::meta::CustomMeta::register(NAME, &[]);
        }
        // SAFETY: the name is a C string; registered metas stay for the life of the process.
        let info = unsafe { gst::ffi::gst_meta_get_info(c"GstSFrameMeta".as_ptr()) };
        if info.is_null() {
            return Err(());
        }
        Ok(Known {
            info: MetaInfo(info),
            kid: Quark::from_str("kid"),
            epoch: Quark::from_str("epoch"),
            leaf: Quark::from_str("leaf"),
            sender: Quark::from_str("sender"),
        })
    };
    KNOWN.get_or_try_init(register).ok()
}

impl<S: AsRef<str>> SFrameMeta<S> {
    /// Attaches the meta to a buffer.
    #[expect(deprecated, reason = "quarks are the fast ids of GStreamer before 1.26")]
    pub fn add_to(&self, buffer: &mut gst::BufferRef) {
        let Some(known) = known() else { return };
        // SAFETY: the buffer is writable and the info is that of a custom meta, which takes no parameters.
        // `CustomMeta::add` does the same, but looks the info up by its name for every frame.
        let structure = unsafe {
            let meta = gst::ffi::gst_buffer_add_meta(buffer.as_mut_ptr(), known.info.0, std::ptr::null_mut());
            if meta.is_null() {
                return;
            }
            gst::StructureRef::from_glib_borrow_mut(gst::ffi::gst_custom_meta_get_structure(meta.cast()))
        };
        structure.set_by_quark(known.kid, self.kid);
        structure.set_by_quark(known.epoch, self.epoch);
        structure.set_by_quark(known.leaf, self.leaf);
        structure.set_by_quark(known.sender, self.sender.as_ref());
    }
}

impl SFrameMeta {
    /// Removes the meta of a buffer: of frames that were opened and sealed again, or that come with one from elsewhere.
    pub fn remove_from(buffer: &mut gst::BufferRef) {
        if buffer.iter_meta::<gst::Meta>().next().is_none() {
            return;
        }
        buffer.foreach_meta_mut(|meta| {
            let ours = meta.try_as_custom_meta().is_some_and(|meta| meta.has_name(NAME));
            ControlFlow::Continue(if ours {
                gst::buffer::BufferMetaForeachAction::Remove
            } else {
                gst::buffer::BufferMetaForeachAction::Keep
            })
        });
    }

    /// Reads the meta of a buffer, if it has one.
    pub fn of(buffer: &gst::BufferRef) -> Option<Self> {
        known()?;
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
