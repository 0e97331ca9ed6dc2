//! The properties of `compliancesink`.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;

use super::{LogUnavailable, State, StoreLock};
use crate::properties::{allow_core_dumps, flag, nanoseconds, of_path, text, to_path, to_time};

/// Longest and shortest `segment-duration`.
const SEGMENT: std::ops::RangeInclusive<u64> = 250_000_000..=2_000_000_000;

#[derive(Clone)]
pub struct Settings {
    pub location: Option<PathBuf>,
    pub keys: Option<PathBuf>,
    pub dealer: Option<PathBuf>,
    pub consent_file: Option<PathBuf>,
    pub audit_log: Option<PathBuf>,
    pub log_unavailable: LogUnavailable,
    pub keyring: String,
    pub key_source: Option<gst::Object>,
    pub require_room: bool,
    pub segment_duration: Duration,
    pub retention: u32,
    pub max_size_bytes: u32,
    pub max_size_time: Duration,
    pub spool: Option<PathBuf>,
    pub spool_max_bytes: u64,
    pub key_location: Option<PathBuf>,
    pub store_credentials: Option<PathBuf>,
    pub store_lock: StoreLock,
    pub store_wait: Duration,
    pub allow_core_dumps: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            location: None,
            keys: None,
            dealer: None,
            consent_file: None,
            audit_log: None,
            log_unavailable: LogUnavailable::default(),
            keyring: "default".into(),
            key_source: None,
            require_room: true,
            segment_duration: Duration::from_secs(1),
            retention: 0,
            max_size_bytes: 64 << 20,
            max_size_time: Duration::from_secs(10),
            spool: None,
            spool_max_bytes: 10 << 30,
            key_location: None,
            store_credentials: None,
            store_lock: StoreLock::default(),
            store_wait: Duration::from_secs(10),
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
            "keys" => self.keys = to_path(value),
            "dealer" => self.dealer = to_path(value),
            "consent-file" => self.consent_file = to_path(value),
            "audit-log" => self.audit_log = to_path(value),
            "log-unavailable" => self.log_unavailable = value.get().unwrap_or_default(),
            "keyring" => self.keyring = value.get().ok().flatten().unwrap_or_else(|| "default".into()),
            "key-source" => self.key_source = value.get().unwrap_or_default(),
            "require-room" => self.require_room = value.get().unwrap_or(true),
            "segment-duration" => self.segment_duration = to_time(value),
            "retention" => self.retention = value.get().unwrap_or_default(),
            "max-size-bytes" => self.max_size_bytes = value.get().unwrap_or_default(),
            "max-size-time" => self.max_size_time = to_time(value),
            "spool" => self.spool = to_path(value),
            "spool-max-bytes" => self.spool_max_bytes = value.get().unwrap_or_default(),
            "key-location" => self.key_location = to_path(value),
            "store-credentials" => self.store_credentials = to_path(value),
            "store-lock" => self.store_lock = value.get().unwrap_or_default(),
            "store-wait" => self.store_wait = to_time(value),
            "allow-core-dumps" => self.allow_core_dumps = value.get().unwrap_or_default(),
            _ => {}
        }
    }

    /// Value of the property `name`, if it is a setting.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "location" => of_path(self.location.as_ref()),
            "keys" => of_path(self.keys.as_ref()),
            "dealer" => of_path(self.dealer.as_ref()),
            "consent-file" => of_path(self.consent_file.as_ref()),
            "audit-log" => of_path(self.audit_log.as_ref()),
            "log-unavailable" => self.log_unavailable.to_value(),
            "keyring" => self.keyring.to_value(),
            "key-source" => self.key_source.to_value(),
            "require-room" => self.require_room.to_value(),
            "segment-duration" => nanoseconds(self.segment_duration).to_value(),
            "retention" => self.retention.to_value(),
            "max-size-bytes" => self.max_size_bytes.to_value(),
            "max-size-time" => nanoseconds(self.max_size_time).to_value(),
            "spool" => of_path(self.spool.as_ref()),
            "spool-max-bytes" => self.spool_max_bytes.to_value(),
            "key-location" => of_path(self.key_location.as_ref()),
            "store-credentials" => of_path(self.store_credentials.as_ref()),
            "store-lock" => self.store_lock.to_value(),
            "store-wait" => nanoseconds(self.store_wait).to_value(),
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
                "Directory in which recordings are made, each in a folder of its own that is named by its id. One \
                 that a crash left without an end goes on there, if it is of the same room and audit log. Or \
                 s3://BUCKET/PREFIX: they are made in spool, and go to an S3-compatible store as they are sealed",
            ),
            text(
                "keys",
                "Key bundles",
                "Directory of prepared key bundles (gst-compliance keys prepare). Each is used for one recording; \
                 it is taken when the recording begins",
            ),
            text(
                "dealer",
                "Dealer",
                "File with the public key of whoever prepares the key bundles; bundles of others are refused. \
                 Default: the file dealer.pub in the directory keys",
            ),
            text(
                "consent-file",
                "Consent",
                "The patient's consent, a FHIR R4 Consent in JSON. It must be active and permit the recording, and be \
                 the one that the room's policy refers to. It is read again when it changes",
            ),
            text(
                "audit-log",
                "Audit log",
                "Directory of the audit log, one for all recordings of a service; made where there is none. Its key \
                 signs the recordings. Or s3://BUCKET/PREFIX: the log and its key are in spool, and its entries go to \
                 the store once they are signed, one log for each spool",
            ),
            text(
                "spool",
                "Spool",
                "Local directory for what goes to a store. Recordings leave it when they have ended and were read back \
                 from the store and compared. One process uses it; keep it over restarts",
            ),
            glib::ParamSpecUInt64::builder("spool-max-bytes")
                .nick("Most bytes in the spool")
                .blurb(
                    "When recordings in the spool have so many bytes, because the store is away, recording ends \
                     cleanly (compliance-failed, cause spool-full). A recording that goes on is in the spool as a whole",
                )
                .minimum(1)
                .default_value(defaults.spool_max_bytes)
                .mutable_ready()
                .build(),
            text(
                "key-location",
                "Place of the keys",
                "s3://BUCKET/PREFIX for key.age and shares of recordings in a store. Default: the prefix of location \
                 and -keys. It must not be under a retention lock, or keys can be neither wrapped anew nor destroyed: \
                 where the bucket locks by default, name another bucket",
            ),
            text(
                "store-credentials",
                "Credentials of the store",
                "File that says where the store is and who one is there, in lines NAME=VALUE: AWS_ENDPOINT_URL, \
                 AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what else the AWS tools know. Readable by its \
                 owner only. What it does not say the environment does, then AWS_PROFILE in the files of the AWS tools, then \
                 the machine's role",
            ),
            glib::ParamSpecEnum::builder::<StoreLock>("store-lock")
                .nick("Retention lock")
                .blurb(
                    "Locks what is made in the store for the retention of its recording; the bucket must have object \
                     lock enabled. Keys and the audit log are locked only as the bucket does by default",
                )
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt64::builder("store-wait")
                .nick("Wait for the store")
                .blurb(
                    "PAUSED to READY waits so long for what is not in the store yet, nanoseconds. What is left \
                     stays in the spool, for the next start or gst-compliance upload",
                )
                .default_value(nanoseconds(defaults.store_wait))
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder::<LogUnavailable>("log-unavailable")
                .nick("Log unavailable")
                .blurb("What to do when the audit log cannot be written to while a recording is running")
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("keyring")
                .nick("Keyring id")
                .blurb("Id under which the pipeline has the key source (mlskeyring) of the room that is recorded")
                .default_value(Some("default"))
                .mutable_ready()
                .build(),
            glib::ParamSpecObject::builder::<gst::Object>("key-source")
                .nick("Key source")
                .blurb(
                    "Key source of the room instead of the one that the pipeline has under the keyring id, for \
                     applications that have one at hand",
                )
                .mutable_ready()
                .build(),
            flag(
                "require-room",
                "Require a room",
                "Record only in a room that admits this recorder, while it is recording, and only frames that \
                 sframedec opened. For tests without a room: false, which marks recordings as unattested",
                defaults.require_room,
            ),
            glib::ParamSpecUInt64::builder("segment-duration")
                .nick("Segment duration")
                .blurb(
                    "After so long frames are encrypted and written, nanoseconds. A crash loses no more than this. \
                     Shorter segments take more room",
                )
                .minimum(*SEGMENT.start())
                .maximum(*SEGMENT.end())
                .default_value(nanoseconds(defaults.segment_duration))
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("retention")
                .nick("Retention")
                .blurb(
                    "For so many days recordings shall be kept: noted in recording.json, deletes nothing. 0: as the \
                     room's policy says, which also is the most",
                )
                .maximum(36_525)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("max-size-bytes")
                .nick("Most bytes in memory")
                .blurb(
                    "So many bytes of frames may wait for a slow disk; frames beyond that are dropped and logged as \
                     gaps, so that the call goes on",
                )
                .minimum(1)
                .default_value(defaults.max_size_bytes)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt64::builder("max-size-time")
                .nick("Longest wait")
                .blurb("So long frames may wait for a slow disk, nanoseconds; frames beyond that are dropped and logged")
                .minimum(1)
                .default_value(nanoseconds(defaults.max_size_time))
                .mutable_ready()
                .build(),
            allow_core_dumps(defaults.allow_core_dumps),
            glib::ParamSpecString::builder("recording-id")
                .nick("Recording")
                .blurb("Id of the recording and name of its folder, once it began")
                .read_only()
                .build(),
            glib::ParamSpecEnum::builder::<State>("state")
                .nick("State")
                .blurb("What the recorder does now")
                .read_only()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb(
                    "frames, bytes (kept); segments, sealed-bytes (on disk); gaps, dropped-queue-full, \
                     dropped-waiting-keyframe, dropped-unsupported, dropped-no-time, dropped-too-large, lost-upstream \
                     (gaps and the frames in them); dropped-not-recording, dropped-not-admitted, \
                     dropped-no-epoch (frames that must not be kept); tracks, queue-bytes, queue-time, sync-time (of \
                     the last write, nanoseconds), unlogged (entries that the audit log did not take); uploaded-bytes, \
                     pending-bytes, upload-errors (of the store); also \
                     posted as element message compliancesink-stats at EOS and at PAUSED to READY",
                )
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
