//! One element between two hand-linked pads, without threads or clock: what is timed is the element and nothing else.

use crate::bench::timed;
use gst::prelude::*;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Buffers' bytes, end to end in one block of memory.
#[derive(Debug, Default, Clone)]
pub struct Packets {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Packets {
    /// Adds a packet.
    pub fn push(&mut self, packet: &[u8]) {
        self.bytes.extend_from_slice(packet);
        self.ends.push(self.bytes.len());
    }

    /// Packet by packet.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.bytes[start..end])
    }

    /// Number of packets.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[derive(Default)]
struct Received {
    count: usize,
    keep: Option<Packets>,
}

/// A source pad, perhaps an element, and a sink pad that counts and drops.
pub struct Lane {
    src: gst::Pad,
    sink: gst::Pad,
    element: Option<gst::Element>,
    received: Arc<Mutex<Received>>,
}

impl Lane {
    /// Links the pads through the element (its pads of these names, requested where needed), or directly, and starts
    /// the stream.
    pub fn new(through: Option<(gst::Element, [&str; 2])>, caps: &gst::Caps) -> Result<Self> {
        let received = Arc::<Mutex<Received>>::default();
        let in_chain = received.clone();
        let src = gst::Pad::builder(gst::PadDirection::Src).name("src").build();
        let sink = gst::Pad::builder(gst::PadDirection::Sink)
            .name("sink")
            .chain_function(move |_, _, buffer| {
                let mut received = in_chain.lock().unwrap_or_else(PoisonError::into_inner);
                received.count += 1;
                if let Some(keep) = &mut received.keep {
                    let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
                    keep.push(&map);
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build();
        src.set_active(true)?;
        sink.set_active(true)?;
        let mut element = None;
        match through {
            None => {
                src.link(&sink)?;
            }
            Some((through, [sink_name, src_name])) => {
                let into = through
                    .static_pad(sink_name)
                    .or_else(|| through.request_pad_simple(sink_name))
                    .ok_or("no such sink pad")?;
                src.link(&into)?;
                let out = through.static_pad(src_name).ok_or("no such source pad")?;
                out.link(&sink)?;
                // Why an element does not start is on its bus.
                let bus = gst::Bus::new();
                through.set_bus(Some(&bus));
                if through.set_state(gst::State::Playing).is_err() {
                    let message = bus.pop_filtered(&[gst::MessageType::Error]);
                    return Err(format!("{} does not start: {message:?}", through.name()).into());
                }
                bus.set_flushing(true);
                element = Some(through);
            }
        }
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        for event in [
            gst::event::StreamStart::builder("bench").build(),
            gst::event::Caps::new(caps),
            gst::event::Segment::new(&segment),
        ] {
            if !src.push_event(event) {
                return Err("an event was refused".into());
            }
        }
        Ok(Self {
            src,
            sink,
            element,
            received,
        })
    }

    /// Pushes each packet in a fresh buffer; the time includes making the buffers.
    pub fn push(&self, packets: &Packets) -> Result<Duration> {
        let before = self.received().count;
        let (time, result) = timed(|| -> Result<()> {
            for (index, packet) in packets.iter().enumerate() {
                let mut buffer = gst::Buffer::with_size(packet.len())?;
                {
                    let buffer = buffer.make_mut();
                    buffer.set_pts(gst::ClockTime::from_mseconds(index as u64));
                    buffer.map_writable()?.copy_from_slice(packet);
                }
                self.src.push(buffer)?;
            }
            Ok(())
        });
        result?;
        let came = self.received().count - before;
        if came != packets.len() {
            return Err(format!("pushed {}, {came} came out", packets.len()).into());
        }
        Ok(time)
    }

    /// Pushes the packets and gives what comes out.
    pub fn convert(&self, packets: &Packets, out: &mut Packets) -> Result<()> {
        out.clear();
        self.received().keep = Some(std::mem::take(out));
        self.push(packets)?;
        *out = self.received().keep.take().unwrap_or_default();
        Ok(())
    }

    /// The caps that came out.
    pub fn caps(&self) -> Result<gst::Caps> {
        Ok(self.sink.current_caps().ok_or("no caps came out")?)
    }

    fn received(&self) -> std::sync::MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let _ = self.src.set_active(false);
        if let Some(element) = &self.element {
            let _ = element.set_state(gst::State::Null);
        }
        let _ = self.sink.set_active(false);
    }
}
