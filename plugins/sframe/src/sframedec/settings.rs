//! The properties of `sframedec`.

use crate::glue::{self, CipherSuite, ClearPrefix};
use gst::glib;
use gst::prelude::*;
use std::path::PathBuf;
use std::sync::LazyLock;

#[derive(Clone)]
pub struct Settings {
    pub keyring: String,
    pub key_source: Option<gst::Object>,
    pub key_file: Option<PathBuf>,
    pub cipher_suite: CipherSuite,
    pub clear_prefix: ClearPrefix,
    pub metadata: Option<String>,
    pub replay_window: u32,
    pub hold_frames: u32,
    pub hold_time: gst::ClockTime,
    pub attach_meta: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keyring: "default".into(),
            key_source: None,
            key_file: None,
            cipher_suite: CipherSuite::default(),
            clear_prefix: ClearPrefix::default(),
            metadata: None,
            replay_window: 1024,
            hold_frames: 24,
            hold_time: gst::ClockTime::from_mseconds(500),
            attach_meta: true,
        }
    }
}

impl Settings {
    /// Sets the property `name`.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        // GObject checked the type and the name before it calls this.
        match name {
            "keyring" => self.keyring = value.get().ok().flatten().unwrap_or_else(|| "default".into()),
            "key-source" => self.key_source = value.get().unwrap_or_default(),
            "key-file" => self.key_file = value.get::<Option<String>>().ok().flatten().map(PathBuf::from),
            "cipher-suite" => self.cipher_suite = value.get().unwrap_or_default(),
            "metadata" => self.metadata = value.get().ok().flatten(),
            "clear-prefix" => self.clear_prefix = value.get().unwrap_or_default(),
            "replay-window" => self.replay_window = value.get().unwrap_or_default(),
            "hold-frames" => self.hold_frames = value.get().unwrap_or_default(),
            "hold-time" => self.hold_time = gst::ClockTime::from_nseconds(value.get().unwrap_or_default()),
            "attach-meta" => self.attach_meta = value.get().unwrap_or(true),
            _ => {}
        }
    }

    /// Value of the property `name`, if it is a setting.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "keyring" => self.keyring.to_value(),
            "key-source" => self.key_source.to_value(),
            "key-file" => self
                .key_file
                .as_ref()
                .map(|p| p.to_string_lossy().into_owned())
                .to_value(),
            "cipher-suite" => self.cipher_suite.to_value(),
            "clear-prefix" => self.clear_prefix.to_value(),
            "metadata" => self.metadata.to_value(),
            "replay-window" => self.replay_window.to_value(),
            "hold-frames" => self.hold_frames.to_value(),
            "hold-time" => self.hold_time.nseconds().to_value(),
            "attach-meta" => self.attach_meta.to_value(),
            _ => return None,
        })
    }
}

/// All properties, for the class.
pub fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let defaults = Settings::default();
        vec![
            glib::ParamSpecString::builder("keyring")
                .nick("Keyring id")
                .blurb(
                    "Id under which the pipeline has the key source that gives the keys, where \
                     key-file is not set",
                )
                .default_value(Some("default"))
                .mutable_ready()
                .build(),
            glue::key_source_property(),
            glib::ParamSpecString::builder("key-file")
                .nick("Key file")
                .blurb(
                    "File of static keys, one a line: `<kid decimal> <base key hex>`, # comments, \
                     mode 600. Every line is used",
                )
                .mutable_ready()
                .build(),
            glue::cipher_suite_property(),
            glib::ParamSpecEnum::builder::<ClearPrefix>("clear-prefix")
                .nick("Clear prefix")
                .blurb(
                    "Whether frames begin with the codec's first bytes in clear, where caps do not \
                     say so; codec also accepts video/x-vp8 and audio/x-opus from stock depayloaders",
                )
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("replay-window")
                .nick("Replay window")
                .blurb(
                    "How far behind the newest counter of a key id a frame may still be, in frames, \
                     rounded up to a power of two; each counter opens once (RFC 9605 section 9.3). 0 \
                     switches replay protection off",
                )
                .maximum(1 << 20)
                .default_value(defaults.replay_window)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("hold-frames")
                .nick("Held frames")
                .blurb(
                    "Most frames that wait for a key that the key source does not have yet; 0: none \
                     waits",
                )
                .maximum(10_000)
                .default_value(defaults.hold_frames)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt64::builder("hold-time")
                .nick("Hold time")
                .blurb("Longest that a frame waits for its key, in nanoseconds; not part of the latency")
                .maximum(gst::ClockTime::MAX.nseconds())
                .default_value(defaults.hold_time.nseconds())
                .mutable_ready()
                .build(),
            glib::ParamSpecBoolean::builder("attach-meta")
                .nick("Attach meta")
                .blurb(
                    "Attach GstSFrameMeta (kid, epoch, leaf, sender) to every opened buffer. \
                     Recorders need it; where nothing reads it, leaving it out halves the cost of \
                     opening small frames",
                )
                .default_value(defaults.attach_meta)
                .mutable_ready()
                .build(),
            glue::metadata_property(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb(
                    "opened and bytes (after opening); dropped: auth-failed, replayed, no-key, \
                     malformed, wrong-sender, waiting-keyframe; held (frames that waited for a key), \
                     keyframe-requests; kid and epoch of the last opened frame. Also posted as \
                     element message sframedec-stats at EOS and at PAUSED to READY",
                )
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
