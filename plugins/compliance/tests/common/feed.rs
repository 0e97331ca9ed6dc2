//! A source that the test drives frame by frame.

use gst::prelude::*;
use gst_e2ee_common::meta::SFrameMeta;

/// Linked to a new pad of a recorder.
pub struct Feed {
    pub src: gst::Pad,
    pub sink: gst::Pad,
    sent: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

pub const VP8: &str = "video/x-vp8,width=320,height=240,framerate=25/1";
pub const OPUS: &str = "audio/x-opus,rate=48000,channels=2,channel-mapping-family=0";
pub const TEXT: &str = "text/x-raw,format=utf8";

pub fn ms(ms: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(ms)
}

/// A frame of some bytes that tell it from others.
pub fn frame(at_ms: u64, bytes: &[u8]) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(bytes.to_vec());
    let of = buffer.get_mut().unwrap();
    of.set_pts(ms(at_ms));
    of.set_duration(ms(20));
    buffer
}

/// It cannot be decoded without those before.
pub fn delta(mut buffer: gst::Buffer) -> gst::Buffer {
    buffer.make_mut().set_flags(gst::BufferFlags::DELTA_UNIT);
    buffer
}

/// `sframedec` opened it.
pub fn opened(mut buffer: gst::Buffer, epoch: u64, leaf: u32, sender: &str) -> gst::Buffer {
    let meta = SFrameMeta {
        kid: 1,
        epoch,
        leaf,
        sender,
    };
    meta.add_to(buffer.make_mut());
    buffer
}

impl Feed {
    pub fn new(recorder: &gst::Element, caps: &str) -> Self {
        Self::to(recorder, "sink_%u", caps)
    }

    /// To a pad of this template.
    pub fn to(recorder: &gst::Element, template: &str, caps: &str) -> Self {
        let sink = recorder.request_pad_simple(template).unwrap();
        let sent = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        let asked = sent.clone();
        let src = gst::Pad::builder(gst::PadDirection::Src)
            .event_function(move |_, _, event| {
                if event.structure().is_some_and(|s| s.name() == "GstForceKeyUnit") {
                    asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
                true
            })
            .build();
        src.set_active(true).unwrap();
        src.link(&sink).unwrap();
        let feed = Self { src, sink, sent };
        feed.event(gst::event::StreamStart::new("feed"));
        feed.caps(caps);
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        feed.event(gst::event::Segment::new(&segment));
        feed
    }

    pub fn event(&self, event: gst::Event) {
        assert!(self.src.push_event(event));
    }

    pub fn caps(&self, caps: &str) {
        self.event(gst::event::Caps::new(&caps.parse().unwrap()));
    }

    pub fn push(&self, buffer: gst::Buffer) {
        self.src.push(buffer).unwrap();
    }

    pub fn gap(&self, at_ms: u64, lasts_ms: u64) {
        self.event(gst::event::Gap::builder(ms(at_ms)).duration(ms(lasts_ms)).build());
    }

    pub fn eos(&self) {
        self.event(gst::event::Eos::new());
    }

    /// How often a keyframe was asked for.
    pub fn keyframes_asked(&self) -> usize {
        self.sent.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// The participant leaves.
    pub fn leave(self) {
        let recorder = self.sink.parent_element().unwrap();
        self.src.unlink(&self.sink).unwrap();
        recorder.release_request_pad(&self.sink);
    }
}
