//! The properties of `sframeenc`.

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
    pub kid: Option<u64>,
    pub cipher_suite: CipherSuite,
    pub counter_file: Option<PathBuf>,
    pub clear_prefix: ClearPrefix,
    pub metadata: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keyring: "default".into(),
            key_source: None,
            key_file: None,
            kid: None,
            cipher_suite: CipherSuite::default(),
            counter_file: None,
            clear_prefix: ClearPrefix::default(),
            metadata: None,
        }
    }
}

impl Settings {
    /// Sets the property `name`.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        // GObject checked the type and the name before it calls this.
        let path = || value.get::<Option<String>>().ok().flatten().map(PathBuf::from);
        match name {
            "keyring" => self.keyring = value.get().ok().flatten().unwrap_or_else(|| "default".into()),
            "key-source" => self.key_source = value.get().unwrap_or_default(),
            "key-file" => self.key_file = path(),
            "kid" => self.kid = value.get().ok(),
            "cipher-suite" => self.cipher_suite = value.get().unwrap_or_default(),
            "counter-file" => self.counter_file = path(),
            "metadata" => self.metadata = value.get().ok().flatten(),
            "clear-prefix" => self.clear_prefix = value.get().unwrap_or_default(),
            _ => {}
        }
    }

    /// Value of the property `name`, if it is a setting.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        let path =
            |path: &Option<PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned()).to_value();
        Some(match name {
            "keyring" => self.keyring.to_value(),
            "key-source" => self.key_source.to_value(),
            "key-file" => path(&self.key_file),
            "kid" => self.kid.unwrap_or(0).to_value(),
            "cipher-suite" => self.cipher_suite.to_value(),
            "counter-file" => path(&self.counter_file),
            "clear-prefix" => self.clear_prefix.to_value(),
            "metadata" => self.metadata.to_value(),
            _ => return None,
        })
    }
}

/// All properties, for the class.
pub fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        vec![
            glib::ParamSpecString::builder("keyring")
                .nick("Keyring id")
                .blurb(
                    "Id under which the pipeline has the key source that gives the key, where \
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
                     mode 600. Needs kid",
                )
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt64::builder("kid")
                .nick("Key id")
                .blurb(
                    "Which key of key-file to seal with. Give every sender its own kid: two senders \
                     with one key and kid would repeat nonces, which reveals media",
                )
                .mutable_ready()
                .build(),
            glue::cipher_suite_property(),
            glib::ParamSpecString::builder("counter-file")
                .nick("Counter file")
                .blurb(
                    "Where the counters of the static key are kept, so that none is used twice over \
                     crashes and restarts (default: below $XDG_STATE_HOME/gst-plugins-e2ee/counters, \
                     named by key and kid)",
                )
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder::<ClearPrefix>("clear-prefix")
                .nick("Clear prefix")
                .blurb(
                    "What stays readable (but authenticated) for SFUs and depayloaders that look for \
                     keyframes",
                )
                .mutable_ready()
                .build(),
            glue::metadata_property(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb(
                    "sealed (buffers), bytes (before sealing), kid, epoch, key-changes, \
                     dropped-no-key, dropped-waiting-keyframe, dropped-malformed; also posted as \
                     element message sframeenc-stats at EOS and at PAUSED to READY",
                )
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
