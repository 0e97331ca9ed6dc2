//! The way from the worker to the application: messages, properties, the pads.

use std::sync::Arc;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::input::{Input, Wish};
use super::{CAT, ComplianceSink, State};
use crate::ids::RecordingId;

/// Speaks for an element that may be gone. No lock may be held.
pub struct Report(glib::WeakRef<ComplianceSink>);

impl Report {
    pub fn new(element: &ComplianceSink) -> Self {
        Self(element.downgrade())
    }

    /// Posts an element message.
    pub fn post(&self, structure: gst::Structure) {
        let Some(element) = self.0.upgrade() else { return };
        gst::info!(CAT, obj = element, "{structure}");
        let message = gst::message::Element::builder(structure).src(&element).build();
        // Nobody to hear it, in a test without a bus.
        let _ = element.post_message(message);
    }

    /// Posts an error: the recording has ended by it.
    pub fn error(&self, why: &str) {
        if let Some(element) = self.0.upgrade() {
            gst::element_error!(element, gst::ResourceError::Write, ("{}", why));
        }
    }

    /// Posts a warning.
    pub fn warning(&self, why: &str) {
        if let Some(element) = self.0.upgrade() {
            gst::element_warning!(element, gst::ResourceError::Write, ("{}", why));
        }
    }

    /// Posts the statistics.
    pub fn stats(&self) {
        let stats = self.0.upgrade().map(|element| element.imp().stats());
        if let Some(stats) = stats {
            self.post(stats);
        }
    }

    /// Posts EOS.
    pub fn eos(&self) {
        if let Some(element) = self.0.upgrade() {
            let _ = element.post_message(gst::message::Eos::builder().src(&element).build());
        }
    }

    /// Shows what the recorder does.
    pub fn state(&self, state: State) {
        let Some(element) = self.0.upgrade() else { return };
        let before = std::mem::replace(&mut element.imp().shown().state, state);
        if before != state {
            element.notify("state");
        }
    }

    /// Shows which recording it is.
    pub fn recording(&self, recording: RecordingId) {
        let Some(element) = self.0.upgrade() else { return };
        element.imp().shown().recording = recording.to_string();
        element.notify("recording-id");
    }

    /// The pads.
    pub fn inputs(&self) -> Vec<(gst::Pad, Arc<Input>)> {
        self.0
            .upgrade()
            .map(|element| element.imp().inputs())
            .unwrap_or_default()
    }

    /// Does what a pad wishes.
    pub fn fulfil(&self, pad: &gst::Pad, wish: Wish) {
        if let Some(element) = self.0.upgrade() {
            element.imp().fulfil(pad, wish);
        }
    }
}
