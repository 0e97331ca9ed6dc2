//! `compliancesrc` plays a recording: for a named reader with a reason, after the audit log has it.

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use crate::recording::Reader;

mod caps;
mod cursor;
mod imp;
mod messages;
mod opened;
mod seeking;
mod session;
mod settings;
mod track;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "compliancesrc",
        gst::DebugColorFlags::empty(),
        Some("The player of compliance recordings"),
    )
});

/// `on-damage`: what to do where a recording is not what was sealed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[repr(i32)]
#[enum_type(name = "GstComplianceOnDamage")]
pub enum OnDamage {
    #[default]
    #[enum_value(name = "Stop with an error that names the member", nick = "error")]
    Error,
    #[enum_value(
        name = "Warn, name the member in a message compliance-damaged, push a GAP and go on with the next",
        nick = "skip"
    )]
    Skip,
}

glib::wrapper! {
    pub struct ComplianceSrc(ObjectSubclass<imp::ComplianceSrc>) @extends gst::Element, gst::Object;
}

impl ComplianceSrc {
    /// One that plays a recording which was opened already; whoever opened it ends the access. It plays once.
    pub(crate) fn of(reader: Reader) -> Self {
        let element: Self = glib::Object::new();
        element.imp().give(reader);
        element
    }
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "compliancesrc",
        gst::Rank::NONE,
        ComplianceSrc::static_type(),
    )
}
