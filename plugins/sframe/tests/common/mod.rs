//! What the element tests share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod source;

use gst::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

pub const KEY_HEX: &str = "000102030405060708090a0b0c0d0e0f";
pub const VP8: &str = "video/x-vp8,width=320,height=240,framerate=30/1";
pub const OPUS: &str = "audio/x-opus,rate=48000,channels=2,channel-mapping-family=0";
/// Longest that anything asynchronous may take before a test gives up.
pub const LIMIT: Duration = Duration::from_secs(30);

pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstsframe::plugin_register_static().unwrap();
    });
}

/// A folder with a key file (`1` and `2` with one key, `3` with another) and room for counter files.
pub struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    pub fn new() -> Self {
        Self::with(&format!("1 {KEY_HEX}\n2 {KEY_HEX}\n3 ff{KEY_HEX}\n"))
    }

    pub fn with(text: &str) -> Self {
        init();
        let dir = tempfile::tempdir().unwrap();
        let keys = Self { dir };
        fs::write(keys.file(), text).unwrap();
        fs::set_permissions(keys.file(), fs::Permissions::from_mode(0o600)).unwrap();
        keys
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    pub fn counter_file(&self, kid: u64) -> PathBuf {
        self.dir.path().join(format!("counter-{kid}"))
    }

    pub fn enc(&self, kid: u64) -> gst::Element {
        init();
        gst::ElementFactory::make("sframeenc")
            .property("key-file", self.file().to_str().unwrap())
            .property("counter-file", self.counter_file(kid).to_str().unwrap())
            .property("kid", kid)
            .build()
            .unwrap()
    }

    pub fn dec(&self) -> gst::Element {
        init();
        gst::ElementFactory::make("sframedec")
            .property("key-file", self.file().to_str().unwrap())
            .build()
            .unwrap()
    }
}

/// A harness with a bus, so that messages can be read.
pub struct Bench {
    pub h: gst_check::Harness,
    pub bus: gst::Bus,
    pub element: gst::Element,
}

impl Bench {
    pub fn new(element: gst::Element, caps: &str) -> Self {
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let mut h = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
        h.set_src_caps_str(caps);
        Self { h, bus, element }
    }

    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.element.property::<gst::Structure>("stats");
        stats.get(name).unwrap()
    }

    /// Element messages with this name so far.
    pub fn messages(&self, name: &str) -> Vec<gst::Structure> {
        self.bus
            .iter_filtered(&[gst::MessageType::Element])
            .filter_map(|message| message.structure().map(|s| s.to_owned()))
            .filter(|s| s.name() == name)
            .collect()
    }

    /// Text of the first error message.
    pub fn error(&self) -> Option<String> {
        self.bus.iter().find_map(|message| match message.view() {
            gst::MessageView::Error(e) => Some(e.error().to_string()),
            _ => None,
        })
    }

    /// Events that came out, by type.
    pub fn events(&mut self, type_: gst::EventType) -> Vec<gst::Event> {
        std::iter::from_fn(|| self.h.try_pull_event())
            .filter(|e| e.type_() == type_)
            .collect()
    }

    /// Waits until `done`, which something else brings about.
    pub fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let start = std::time::Instant::now();
        while !done(self) {
            assert!(start.elapsed() < LIMIT, "{what} did not happen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A buffer with contents that tell it from others.
pub fn frame(number: u64, size: usize) -> gst::Buffer {
    let data: Vec<u8> = (0..size).map(|at| (at as u64 * 31 + number * 7) as u8).collect();
    timed(gst::Buffer::from_mut_slice(data), number)
}

pub fn timed(mut buffer: gst::Buffer, number: u64) -> gst::Buffer {
    {
        let buffer = buffer.make_mut();
        buffer.set_pts(gst::ClockTime::from_mseconds(20 * number));
        buffer.set_duration(gst::ClockTime::from_mseconds(20));
    }
    buffer
}

pub fn bytes(buffer: &gst::BufferRef) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

/// The same buffer with other bytes.
pub fn with_bytes(buffer: &gst::Buffer, data: Vec<u8>) -> gst::Buffer {
    let mut changed = gst::Buffer::from_mut_slice(data);
    buffer
        .copy_into(
            changed.make_mut(),
            gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS,
            ..,
        )
        .unwrap();
    changed
}

/// Sealed frames of the given sizes, of which the caps are returned too.
pub fn sealed(keys: &Keys, kid: u64, caps: &str, frames: Vec<gst::Buffer>) -> (String, Vec<gst::Buffer>) {
    let mut enc = Bench::new(keys.enc(kid), caps);
    let out = frames
        .into_iter()
        .map(|frame| {
            enc.h.push(frame).unwrap();
            enc.h.pull().unwrap()
        })
        .collect();
    let caps = enc.h.sinkpad().unwrap().current_caps().unwrap().to_string();
    (caps, out)
}
