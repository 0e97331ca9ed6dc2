//! An element that works in the caller's thread: what it makes of a buffer is there when `push` returns. So a recording
//! costs no thread for each of its tracks, and nothing waits in a queue between parser, muxer and cutter.
//!
//! This fits elements that hold nothing back: `matroskamux` with one pad, parsers whose input has one access unit in
//! each buffer.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;

/// What an element made.
pub enum Made {
    /// The caps of what follows.
    Caps(gst::Caps),
    /// A buffer.
    Buffer(gst::Buffer),
}

#[derive(Default)]
struct Output {
    made: Vec<Made>,
    error: Option<String>,
}

/// An element between two pads of ours. It stops when this is dropped.
pub struct Inline {
    element: gst::Element,
    feed: gst::Pad,
    drain: gst::Pad,
    output: Arc<Mutex<Output>>,
}

fn lock(output: &Mutex<Output>) -> MutexGuard<'_, Output> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inline {
    /// Starts an element. `sink`: name of its sink pad, or of the template to request one from. `wanted`: what it is to
    /// make, where it has a choice.
    pub fn start(element: gst::Element, sink: &str, wanted: Option<gst::Caps>) -> Result<Self, String> {
        let output = Arc::<Mutex<Output>>::default();
        // Without a bus errors would be lost; everything else that is posted would pile up on one.
        let bus = gst::Bus::new();
        bus.set_sync_handler({
            let output = output.clone();
            move |_, message| {
                if let gst::MessageView::Error(error) = message.view() {
                    let text = match error.debug() {
                        Some(debug) => format!("{} ({debug})", error.error()),
                        None => error.error().to_string(),
                    };
                    lock(&output).error = Some(text);
                }
                gst::BusSyncReply::Drop
            }
        });
        element.set_bus(Some(&bus));
        let inline = Self {
            feed: gst::Pad::builder(gst::PadDirection::Src).build(),
            drain: drain(output.clone(), wanted),
            element,
            output,
        };
        inline.link(sink).map_err(|error| inline.error(&error))?;
        Ok(inline)
    }

    fn link(&self, sink: &str) -> Result<(), String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let pad = self.element.static_pad(sink);
        let sink = pad
            .or_else(|| self.element.request_pad_simple(sink))
            .ok_or("it has no such sink pad")?;
        let src = self.element.static_pad("src").ok_or("it has no src pad")?;
        self.drain.set_active(true).map_err(|e| text(&e))?;
        self.feed.set_active(true).map_err(|e| text(&e))?;
        self.feed.link(&sink).map_err(|e| text(&e))?;
        src.link(&self.drain).map_err(|e| text(&e))?;
        self.element
            .set_state(gst::State::Playing)
            .map_err(|e| text(&e))?;
        Ok(())
    }

    /// Says what is pushed from now on. Times are taken as they stand in the buffers.
    pub fn set_caps(&self, caps: &gst::Caps) -> Result<(), String> {
        if self.feed.sticky_event::<gst::event::StreamStart>(0).is_none() {
            self.feed.push_event(gst::event::StreamStart::new("recorded"));
        }
        let is_taken = self.feed.push_event(gst::event::Caps::new(caps));
        if self.feed.sticky_event::<gst::event::Segment>(0).is_none() {
            let segment = gst::FormattedSegment::<gst::ClockTime>::new();
            self.feed.push_event(gst::event::Segment::new(&segment));
        }
        is_taken
            .then_some(())
            .ok_or_else(|| self.error("it does not take these caps"))
    }

    /// Gives the element a buffer; returns what it makes of it.
    pub fn push(&self, buffer: gst::Buffer) -> Result<Vec<Made>, String> {
        match self.feed.push(buffer) {
            Ok(_) => Ok(self.take()),
            Err(error) => Err(self.error(&error.to_string())),
        }
    }

    /// Gives the element an event.
    pub fn send(&self, event: gst::Event) -> Vec<Made> {
        self.feed.push_event(event);
        self.take()
    }

    fn take(&self) -> Vec<Made> {
        mem::take(&mut lock(&self.output).made)
    }

    /// What the element says of itself, or else this.
    fn error(&self, otherwise: &str) -> String {
        let said = lock(&self.output).error.take();
        let name = self.element.factory().map(|factory| factory.name());
        let name = name.as_deref().unwrap_or_default();
        format!("{name}: {}", said.as_deref().unwrap_or(otherwise))
    }
}

impl Drop for Inline {
    fn drop(&mut self) {
        let _ = self.element.set_state(gst::State::Null);
        let _ = self.feed.set_active(false);
        let _ = self.drain.set_active(false);
        self.element.set_bus(None);
    }
}

/// The pad behind the element.
fn drain(output: Arc<Mutex<Output>>, wanted: Option<gst::Caps>) -> gst::Pad {
    let of_caps = output.clone();
    let wanted = wanted.unwrap_or_else(gst::Caps::new_any);
    gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, buffer| {
            lock(&output).made.push(Made::Buffer(buffer));
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |_, _, event| {
            if let gst::EventView::Caps(caps) = event.view() {
                lock(&of_caps).made.push(Made::Caps(caps.caps_owned()));
            }
            true
        })
        .query_function(move |_, _, query| match query.view_mut() {
            gst::QueryViewMut::Caps(q) => {
                let caps = match q.filter() {
                    Some(filter) => filter.intersect_with_mode(&wanted, gst::CapsIntersectMode::First),
                    None => wanted.clone(),
                };
                q.set_result(&caps);
                true
            }
            gst::QueryViewMut::AcceptCaps(q) => {
                let accepted = wanted.can_intersect(q.caps());
                q.set_result(accepted);
                true
            }
            // There is nothing behind this pad to ask.
            _ => false,
        })
        .build()
}
