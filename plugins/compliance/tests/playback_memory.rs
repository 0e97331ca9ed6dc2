//! In a process of its own, because it cannot be undone: media in clear leaves no core dump.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use gst::prelude::*;
use rustix::process::{DumpableBehavior, dumpable_behavior};

#[test]
fn core_dumps_are_off_before_anything_is_opened() {
    gst::init().unwrap();
    gstcompliance::plugin_register_static().unwrap();
    let player = gst::ElementFactory::make("compliancesrc").build().unwrap();
    player.set_property("allow-core-dumps", true);
    player.set_state(gst::State::Ready).unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
    player.set_state(gst::State::Null).unwrap();
    player.set_property("allow-core-dumps", false);
    player.set_state(gst::State::Ready).unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    player.set_state(gst::State::Null).unwrap();
}
