//! GStreamer glue that `sframeenc` and `sframedec` share.

use crate::frame::MAX_METADATA;
use gst::glib;
use gst::prelude::*;
use gst_e2ee_common::key_source::{self, Connection, ContractError, KeySource};
use gst_e2ee_common::meta::SFrameMeta;
use std::ops::ControlFlow;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// No message or request is repeated faster than this.
pub const REPEAT_INTERVAL: Duration = Duration::from_secs(1);

pub static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "sframe",
        gst::DebugColorFlags::empty(),
        Some("SFrame sealing and opening"),
    )
});

/// `cipher-suite`: the suites of RFC 9605 §4.5 that are implemented.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[repr(i32)]
#[enum_type(name = "GstSFrameCipherSuite")]
pub enum CipherSuite {
    #[enum_value(
        name = "1: AES-128-CTR, HMAC-SHA-256, 10-byte tag",
        nick = "aes-128-ctr-hmac-sha256-80"
    )]
    Aes128CtrHmacSha256_80 = 1,
    #[enum_value(
        name = "2: AES-128-CTR, HMAC-SHA-256, 8-byte tag",
        nick = "aes-128-ctr-hmac-sha256-64"
    )]
    Aes128CtrHmacSha256_64 = 2,
    #[enum_value(
        name = "3: AES-128-CTR, HMAC-SHA-256, 4-byte tag (weak: one forgery in 2^32 succeeds)",
        nick = "aes-128-ctr-hmac-sha256-32"
    )]
    Aes128CtrHmacSha256_32 = 3,
    #[default]
    #[enum_value(
        name = "4: AES-128-GCM, SHA-256, 16-byte tag",
        nick = "aes-128-gcm-sha256-128"
    )]
    Aes128GcmSha256_128 = 4,
    #[enum_value(
        name = "5: AES-256-GCM, SHA-512, 16-byte tag",
        nick = "aes-256-gcm-sha512-128"
    )]
    Aes256GcmSha512_128 = 5,
}

impl From<CipherSuite> for gst_e2ee_common::cipher_suite::CipherSuite {
    fn from(suite: CipherSuite) -> Self {
        match suite {
            CipherSuite::Aes128CtrHmacSha256_80 => Self::Aes128CtrHmacSha256_80,
            CipherSuite::Aes128CtrHmacSha256_64 => Self::Aes128CtrHmacSha256_64,
            CipherSuite::Aes128CtrHmacSha256_32 => Self::Aes128CtrHmacSha256_32,
            CipherSuite::Aes128GcmSha256_128 => Self::Aes128GcmSha256_128,
            CipherSuite::Aes256GcmSha512_128 => Self::Aes256GcmSha512_128,
        }
    }
}

/// `clear-prefix`: what stays readable of a sealed frame.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[repr(i32)]
#[enum_type(name = "GstSFrameClearPrefix")]
pub enum ClearPrefix {
    #[default]
    #[enum_value(name = "Nothing: the whole frame is sealed", nick = "none")]
    None,
    #[enum_value(
        name = "The codec's first bytes, authenticated (VP8: 10 on keyframes, else 3; Opus: 1)",
        nick = "codec"
    )]
    Codec,
}

/// The property `key-source`, of both elements.
pub fn key_source_property() -> glib::ParamSpec {
    glib::ParamSpecObject::builder::<gst::Object>("key-source")
        .nick("Key source")
        .blurb(
            "Key source to use instead of the one that the pipeline has under the keyring id, for applications \
             that have one at hand",
        )
        .mutable_ready()
        .build()
}

/// The property `cipher-suite`, of both elements.
pub fn cipher_suite_property() -> glib::ParamSpec {
    glib::ParamSpecEnum::builder::<CipherSuite>("cipher-suite")
        .nick("Cipher suite")
        .blurb("SFrame cipher suite for key-file (RFC 9605 section 4.5); a key source names its own")
        .mutable_ready()
        .build()
}

/// The property `metadata`, of both elements.
pub fn metadata_property() -> glib::ParamSpec {
    glib::ParamSpecString::builder("metadata")
        .nick("Metadata")
        .blurb(
            "Text that is authenticated with every frame but not sent, such as the name of the call: frames \
             open only where it is the same (RFC 9605 section 4.4.3). At most 64 bytes",
        )
        .mutable_ready()
        .build()
}

/// The two templates of an element with one pad on each side.
pub fn pad_templates(sink: &gst::Caps, src: &gst::Caps) -> Vec<gst::PadTemplate> {
    [
        ("sink", gst::PadDirection::Sink, sink),
        ("src", gst::PadDirection::Src, src),
    ]
    .into_iter()
    .filter_map(|(name, direction, caps)| {
        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps).ok()
    })
    .collect()
}

/// Builds a pad from the template that the element class has for it.
pub fn pad_builder(
    template: Option<gst::PadTemplate>,
    direction: gst::PadDirection,
) -> gst::PadBuilder<gst::Pad> {
    match template {
        Some(template) => gst::Pad::builder_from_template(&template),
        None => gst::Pad::builder(direction),
    }
}

/// A key source in use. Signals are disconnected when it is dropped.
pub struct Attached {
    pub source: KeySource,
    _keys_changed: Connection,
}

impl Attached {
    /// Uses this source; `on_change` runs at `keys-changed`, on whatever thread emits it.
    pub fn new(source: KeySource, on_change: impl Fn() + Send + Sync + 'static) -> Self {
        let connection = source.connect_keys_changed(move |_| on_change());
        Self {
            source,
            _keys_changed: connection,
        }
    }
}

/// The key source of an element: the one that it was given, or the one that its surroundings have under this id. An
/// error text says what to do where there is none.
pub fn find_source(
    element: &gst::Element,
    given: Option<gst::Object>,
    id: &str,
    with_key_file: &str,
) -> Result<KeySource, String> {
    let found = match given {
        Some(object) => KeySource::new(object).map(Some),
        None => key_source::find(element, id),
    };
    found.map_err(|error| unusable(id, &error))?.ok_or_else(|| {
        format!(
            "no keys: set {with_key_file}, or give a key source by the property key-source or by the context \
             gst.sframe.keyring/{id}"
        )
    })
}

/// The property `metadata` as bytes.
pub fn metadata(text: Option<String>) -> Result<Vec<u8>, String> {
    let bytes = text.unwrap_or_default().into_bytes();
    if bytes.len() > MAX_METADATA {
        return Err(format!(
            "metadata has {} bytes; {MAX_METADATA} are the most",
            bytes.len()
        ));
    }
    Ok(bytes)
}

/// Error text for a key source that breaks the contract.
pub fn unusable(id: &str, error: &ContractError) -> String {
    format!("the keyring \"{id}\" is not a usable key source: {error}")
}

/// The key source in a context, where it is the one with this id.
pub fn source_of(context: &gst::Context, id: &str) -> Option<Result<KeySource, ContractError>> {
    (context.context_type() == key_source::context_type(id)).then(|| KeySource::from_context(context))
}

/// Counts up whenever keys changed.
#[derive(Default)]
pub struct Generation(AtomicU64);

impl Generation {
    pub fn bump(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The bytes of a buffer. One memory is mapped once; from several they are copied piece by piece, so that nothing is
/// joined only to be read.
pub struct Contents<'a> {
    buffer: &'a gst::BufferRef,
    map: Option<gst::memory::MemoryMap<'a, gst::memory::Readable>>,
}

impl<'a> Contents<'a> {
    pub fn of(buffer: &'a gst::BufferRef) -> Self {
        let map = (buffer.n_memory() == 1).then(|| buffer.peek_memory(0).map_readable().ok());
        Self {
            buffer,
            map: map.flatten(),
        }
    }

    pub fn len(&self) -> usize {
        self.map
            .as_ref()
            .map_or_else(|| self.buffer.size(), |map| map.len())
    }

    /// Copies bytes from `at` on. Where they are not there: `false`, and nothing is copied.
    #[must_use]
    pub fn read(&self, at: usize, into: &mut [u8]) -> bool {
        match &self.map {
            Some(map) => read(map, at, into),
            // Past the end `copy_to_slice` would panic.
            None => {
                at.checked_add(into.len())
                    .is_some_and(|end| end <= self.buffer.size())
                    && self.buffer.copy_to_slice(at, into).is_ok()
            }
        }
    }
}

/// Copies bytes from `at` on. Where they are not there: `false`, and nothing is copied.
#[must_use]
pub fn read(bytes: &[u8], at: usize, into: &mut [u8]) -> bool {
    let part = at.checked_add(into.len()).and_then(|end| bytes.get(at..end));
    part.is_some_and(|part| {
        into.copy_from_slice(part);
        true
    })
}

/// The buffers of a list, out of the list: each is then ours alone, unless somebody else holds it too.
pub fn take_buffers(mut list: gst::BufferList) -> Vec<gst::Buffer> {
    let mut buffers = Vec::with_capacity(list.len());
    list.make_mut().foreach_mut(|buffer, _| {
        buffers.push(buffer);
        ControlFlow::Continue(None)
    });
    buffers
}

/// The buffer with the sealed bytes instead of its own. Times, flags and metas stay, but for the meta of whoever sealed
/// it before.
pub fn sealed_buffer(mut buffer: gst::Buffer, memory: gst::Memory, discont: bool) -> gst::Buffer {
    let finish = |out: &mut gst::BufferRef| {
        SFrameMeta::remove_from(out);
        if discont {
            out.set_flags(gst::BufferFlags::DISCONT);
        }
    };
    if let Some(ours) = buffer.get_mut() {
        ours.replace_all_memory(memory);
        finish(ours);
        return buffer;
    }
    // Somebody else holds it too.
    let mut sealed = gst::Buffer::new();
    let out = sealed.make_mut();
    out.append_memory(memory);
    copy_metadata(&buffer, out);
    finish(out);
    sealed
}

/// Times, flags and metas of `from` for a buffer that stands for it.
fn copy_metadata(from: &gst::BufferRef, to: &mut gst::BufferRef) {
    to.set_pts(from.pts());
    to.set_dts(from.dts());
    to.set_duration(from.duration());
    to.set_offset(from.offset());
    to.set_offset_end(from.offset_end());
    // About the memory, not about the media.
    to.set_flags(from.flags() - gst::BufferFlags::TAG_MEMORY);
    if from.iter_meta::<gst::Meta>().next().is_some() {
        let _ = from.copy_into(to, gst::BufferCopyFlags::META, ..);
    }
}

/// When a buffer is presented: what is left of it when it is dropped.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    start: Option<gst::ClockTime>,
    duration: Option<gst::ClockTime>,
}

impl Timing {
    pub fn of(buffer: &gst::BufferRef) -> Self {
        Self {
            start: buffer.pts().or(buffer.dts()),
            duration: buffer.duration(),
        }
    }

    /// The GAP event that stands for a dropped frame: without it a non-live source would run away and sinks would
    /// wait.
    pub fn gap(&self) -> Option<gst::Event> {
        Some(
            gst::event::Gap::builder(self.start?)
                .duration(self.duration)
                .build(),
        )
    }
}

/// Posts an element message.
pub fn post(element: &gst::Element, structure: gst::Structure) {
    let message = gst::message::Element::builder(structure).src(element).build();
    let _ = element.post_message(message);
}

/// Asks the encoder (upstream, or over RTCP) for a keyframe.
pub fn request_keyframe(sinkpad: &gst::Pad) {
    // The event of GstVideo's UpstreamForceKeyUnit, written out so that no video library is linked for one event.
    let structure = gst::Structure::builder("GstForceKeyUnit")
        .field("all-headers", true)
        .build();
    sinkpad.push_event(gst::event::CustomUpstream::new(structure));
}
