//! The properties of `compliancesrc`.

use std::path::PathBuf;
use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use super::OnDamage;
use crate::properties::{allow_core_dumps, of_path, text, to_path, to_text};

#[derive(Clone)]
pub struct Settings {
    pub location: Option<PathBuf>,
    pub identity_file: Option<PathBuf>,
    pub audit_log: Option<PathBuf>,
    pub reader: String,
    pub reason: String,
    pub ticket: String,
    /// The only track; negative: all.
    pub track: i32,
    pub on_damage: OnDamage,
    pub allow_core_dumps: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            location: None,
            identity_file: None,
            audit_log: None,
            reader: String::new(),
            reason: String::new(),
            ticket: String::new(),
            track: -1,
            on_damage: OnDamage::default(),
            allow_core_dumps: false,
        }
    }
}

impl Settings {
    /// Sets the property `name`.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        // GObject checked the type, the range and the name before it calls this.
        match name {
            "location" => self.location = to_path(value),
            "identity-file" => self.identity_file = to_path(value),
            "audit-log" => self.audit_log = to_path(value),
            "reader" => self.reader = to_text(value),
            "reason" => self.reason = to_text(value),
            "ticket" => self.ticket = to_text(value),
            "track" => self.track = value.get().unwrap_or(-1),
            "on-damage" => self.on_damage = value.get().unwrap_or_default(),
            "allow-core-dumps" => self.allow_core_dumps = value.get().unwrap_or_default(),
            _ => {}
        }
    }

    /// Value of the property `name`, if it is a setting.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "location" => of_path(self.location.as_ref()),
            "identity-file" => of_path(self.identity_file.as_ref()),
            "audit-log" => of_path(self.audit_log.as_ref()),
            "reader" => self.reader.to_value(),
            "reason" => self.reason.to_value(),
            "ticket" => self.ticket.to_value(),
            "track" => self.track.to_value(),
            "on-damage" => self.on_damage.to_value(),
            "allow-core-dumps" => self.allow_core_dumps.to_value(),
            _ => return None,
        })
    }
}

/// All properties, for the class.
pub fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let defaults = Settings::default();
        vec![
            text(
                "location",
                "Location",
                "Folder of the recording, which is named by its id (below compliancesink's location)",
            ),
            text(
                "identity-file",
                "Identity",
                "Your age identity, as age-keygen writes it: that of a recipient of the recording. Nobody but you may \
                 be able to read the file (chmod 600)",
            ),
            text(
                "audit-log",
                "Audit log",
                "Directory of the audit log that the recording names in recording.json, no other. The access is \
                 written there before anything is decrypted; where that cannot be done, nothing is opened",
            ),
            text(
                "reader",
                "Reader",
                "Who reads: an opaque id without spaces, no name. It stands in the audit log for good. Needed",
            ),
            text(
                "reason",
                "Reason",
                "Why the recording is opened, one line. It stands in the audit log for good. Needed",
            ),
            text(
                "ticket",
                "Ticket",
                "The case or order that this belongs to. It stands in the audit log for good. Needed",
            ),
            glib::ParamSpecInt::builder("track")
                .nick("Track")
                .blurb("Number of the only track to open, as gst-compliance verify numbers them; -1: all of them")
                .minimum(-1)
                .default_value(defaults.track)
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder::<OnDamage>("on-damage")
                .nick("On damage")
                .blurb(
                    "What to do where the recording is damaged: a member that is not what was sealed, or fewer of \
                     them than the audit log knows. Nothing damaged is ever decrypted or played",
                )
                .mutable_ready()
                .build(),
            allow_core_dumps(defaults.allow_core_dumps),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb(
                    "recording-id, access (id of the access in the audit log), tracks (that are played), frames, bytes \
                     (pushed), members (decrypted; the audit log is told at the end), gaps (told by the manifest), \
                     damaged (members), seeks; also posted as element message compliancesrc-stats at EOS and at PAUSED \
                     to READY",
                )
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
