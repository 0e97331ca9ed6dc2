//! Properties of both elements: paths and texts, times, and the one that leaves core dumps on.

use std::path::PathBuf;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;

/// The text of a value; empty where there is none. GObject checked the type before.
pub fn to_text(value: &glib::Value) -> String {
    value.get::<Option<String>>().ok().flatten().unwrap_or_default()
}

/// The path that a value names. An empty one names none.
pub fn to_path(value: &glib::Value) -> Option<PathBuf> {
    Some(to_text(value))
        .filter(|text| !text.is_empty())
        .map(PathBuf::from)
}

/// The value that names a path.
pub fn of_path(path: Option<&PathBuf>) -> glib::Value {
    path.map(|path| path.to_string_lossy().into_owned()).to_value()
}

/// The time of a value in nanoseconds.
pub fn to_time(value: &glib::Value) -> Duration {
    Duration::from_nanos(value.get().unwrap_or_default())
}

/// A time in nanoseconds.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A path or a text.
pub fn text(name: &'static str, nick: &'static str, blurb: &'static str) -> glib::ParamSpec {
    glib::ParamSpecString::builder(name)
        .nick(nick)
        .blurb(blurb)
        .mutable_ready()
        .build()
}

/// A switch.
pub fn flag(name: &'static str, nick: &'static str, blurb: &'static str, default: bool) -> glib::ParamSpec {
    glib::ParamSpecBoolean::builder(name)
        .nick(nick)
        .blurb(blurb)
        .default_value(default)
        .mutable_ready()
        .build()
}

/// `allow-core-dumps`, which both elements have for the same reason.
pub fn allow_core_dumps(default: bool) -> glib::ParamSpec {
    flag(
        "allow-core-dumps",
        "Allow core dumps",
        "Leave it to the system whether a crash writes this process's memory, with media in clear, to the disk. \
         Otherwise the element switches core dumps (and debuggers) off for the whole process, and not on again: memory \
         that was freed still holds media",
        default,
    )
}
