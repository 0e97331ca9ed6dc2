//! `compliancesink` records opened media as a certified, disclosed member of a room: encrypted to keys that it does not
//! have, complete or provably not, and only while the room records and the patient consents.

use std::sync::{Arc, LazyLock};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use crate::recording::Disk;

mod admission;
mod chain;
mod imp;
mod inline;
mod input;
mod journal;
mod messages;
mod queue;
mod recorder;
mod report;
mod said;
mod session;
mod settings;
mod start;
mod stats;
mod stored;
mod timeline;
mod worker;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "compliancesink",
        gst::DebugColorFlags::empty(),
        Some("The compliance recorder"),
    )
});

/// `state`: what the recorder does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[repr(i32)]
#[enum_type(name = "GstComplianceSinkState")]
pub enum State {
    #[default]
    #[enum_value(
        name = "Nothing was recorded so far, and something is in the way of it",
        nick = "waiting"
    )]
    Waiting,
    #[enum_value(name = "Frames are kept", nick = "recording")]
    Recording,
    #[enum_value(name = "Nothing is kept for now; the recording can go on", nick = "paused")]
    Paused,
    #[enum_value(name = "The recording has ended", nick = "stopped")]
    Stopped,
    #[enum_value(name = "The recording ended by a fault", nick = "failed")]
    Failed,
}

/// `log-unavailable`: what to do without an audit log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[repr(i32)]
#[enum_type(name = "GstComplianceLogUnavailable")]
pub enum LogUnavailable {
    #[default]
    #[enum_value(
        name = "End the recording: nothing is recorded that is not logged",
        nick = "fail"
    )]
    Fail,
    #[enum_value(
        name = "Record on, warn, note it in the recording's end, and log later if the log comes back",
        nick = "unanchored"
    )]
    Unanchored,
}

/// `store-lock`: what keeps recordings in a store from being removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[repr(i32)]
#[enum_type(name = "GstComplianceStoreLock")]
pub enum StoreLock {
    #[default]
    #[enum_value(
        name = "What the bucket gives to new objects by default, if anything",
        nick = "bucket"
    )]
    Bucket,
    #[enum_value(
        name = "Locked for the recording's retention; who has the permission for it can take the lock away",
        nick = "governance"
    )]
    Governance,
    #[enum_value(
        name = "Locked for the recording's retention; nobody can take the lock away",
        nick = "compliance"
    )]
    Compliance,
}

glib::wrapper! {
    pub struct ComplianceSink(ObjectSubclass<imp::ComplianceSink>) @extends gst::Element, gst::Object;
}

impl ComplianceSink {
    /// Writes to this disk, from READY on: for tests with slow, full and failing ones.
    pub fn set_disk(&self, disk: Arc<dyn Disk>) {
        self.imp().set_disk(disk);
    }
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "compliancesink",
        gst::Rank::NONE,
        ComplianceSink::static_type(),
    )
}
