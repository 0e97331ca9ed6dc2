//! The pads of what people say: `msg_sink_%u` takes messages, `msg_src_%u` gives those of the others.
//!
//! One buffer is one message. A sink pad holds its buffer until all of the message stands in the room's log, so that
//! EOS behind it means "said". A source pad has a thread of its own and a bounded queue, because the room's thread waits
//! for nobody.
//!
//! Locks: a queue, a pad's `caps` and `abort`, each for a moment. Nothing is pushed or posted with one held.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};

use gst::prelude::*;
use gst_e2ee_common::message_caps::{caps_of, kind_of};
use gst_e2ee_common::meta::SFrameMeta;

use super::{MlsKeyring, lock};
use crate::content::{Content, MAX_BODY};
use crate::room::Said;
use crate::runner::{Answer, Asker};

/// Template of the pads that take messages.
pub const SINK: &str = "msg_sink_%u";
/// Template of the pads that give them.
pub const SRC: &str = "msg_src_%u";

/// Most bytes that wait in front of a source pad.
const MOST_BYTES: usize = 4 * MAX_BODY;
/// Most messages that wait in front of a source pad.
const MOST_MESSAGES: usize = 1024;

/// The answer for who does not wait any more.
const ABORTED: &str = "flushing";

/// Both templates.
pub fn templates() -> Vec<gst::PadTemplate> {
    let template = |name, direction| {
        gst::PadTemplate::new(name, direction, gst::PadPresence::Request, &gst::Caps::new_any())
    };
    let templates = [
        template(SINK, gst::PadDirection::Sink),
        template(SRC, gst::PadDirection::Src),
    ];
    templates.into_iter().flatten().collect()
}

/// A pad that takes messages.
#[derive(Default)]
pub struct MsgSink {
    kind: Mutex<Option<(String, String)>>,
    /// Ends the waiting for the message under way.
    abort: Mutex<Option<Answer>>,
    flushing: AtomicBool,
    eos: AtomicBool,
}

impl MsgSink {
    /// Says what the buffer holds. The error says why it was not said.
    pub fn say(&self, asker: Option<Asker>, buffer: &gst::BufferRef) -> Result<(), SayError> {
        let Some((content_type, file_name)) = lock(&self.kind).clone() else {
            return Err(SayError::NoCaps);
        };
        let body = buffer
            .map_readable()
            .map_err(|_| SayError::Refused("its buffer cannot be read".into()))?;
        let content = Content {
            content_type,
            file_name,
            body: body.to_vec(),
        };
        content
            .check()
            .map_err(|error| SayError::Refused(error.to_string()))?;
        let (answer, said) = mpsc::channel();
        *lock(&self.abort) = Some(answer.clone());
        // Whoever flushes looks for it after it has set this.
        if self.flushing.load(Ordering::SeqCst) {
            return Err(SayError::Flushing);
        }
        let asked = asker.is_some_and(|asker| asker.say(content, answer));
        let said = if asked { said.recv() } else { Err(mpsc::RecvError) };
        lock(&self.abort).take();
        match said {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) if why == ABORTED => Err(SayError::Flushing),
            Ok(Err(why)) => Err(SayError::Refused(why)),
            Err(_) => Err(SayError::Refused("the room does not run".into())),
        }
    }

    /// What comes now has these caps.
    pub fn set_caps(&self, caps: &gst::CapsRef) {
        *lock(&self.kind) = kind_of(caps);
    }

    /// Ends the waiting, and lets nobody wait.
    pub fn set_flushing(&self, flushing: bool) {
        self.flushing.store(flushing, Ordering::SeqCst);
        if !flushing {
            self.set_eos(false);
        } else if let Some(abort) = lock(&self.abort).take() {
            // It may have got its answer.
            let _ = abort.send(Err(ABORTED.into()));
        }
    }

    /// It ended, or begins anew.
    pub fn set_eos(&self, eos: bool) {
        self.eos.store(eos, Ordering::SeqCst);
    }

    /// Has it ended?
    pub fn is_eos(&self) -> bool {
        self.eos.load(Ordering::SeqCst)
    }
}

/// Why a message was not said.
pub enum SayError {
    /// The pad is flushing.
    Flushing,
    /// No caps came before it.
    NoCaps,
    /// A sentence for a person.
    Refused(String),
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// Does the room run?
    open: bool,
    /// Does the pipeline play? Before it does nobody knows the time.
    playing: bool,
    flushing: bool,
}

enum Item {
    Said(Arc<Said>),
    Event(gst::Event),
}

/// A pad that gives messages.
#[derive(Default)]
pub struct MsgSrc {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Caps of the last message; none: nothing was pushed yet.
    caps: Mutex<Option<gst::Caps>>,
}

impl MsgSrc {
    /// Puts a message into the queue; false where it is full.
    pub fn give(&self, said: Arc<Said>) -> bool {
        let mut queue = lock(&self.queue);
        if !queue.open {
            return true;
        }
        let bytes = said.content.body.len();
        if queue.items.len() >= MOST_MESSAGES || queue.bytes + bytes > MOST_BYTES {
            return false;
        }
        queue.bytes += bytes;
        queue.items.push_back(Item::Said(said));
        self.changed.notify_all();
        true
    }

    /// An event that comes behind what was said.
    pub fn event(&self, event: gst::Event) {
        let mut queue = lock(&self.queue);
        if queue.open {
            queue.items.push_back(Item::Event(event));
            self.changed.notify_all();
        }
    }

    fn change(&self, f: impl FnOnce(&mut Queue)) {
        f(&mut lock(&self.queue));
        self.changed.notify_all();
    }

    /// The room runs, or not: what was said in one that does not run any more is gone.
    pub fn set_open(&self, open: bool) {
        self.change(|queue| {
            queue.open = open;
            if !open {
                queue.items.clear();
                queue.bytes = 0;
            }
        });
    }

    /// The pipeline plays, or not.
    pub fn set_playing(&self, playing: bool) {
        self.change(|queue| queue.playing = playing);
    }

    /// Starts or ends the thread of the pad.
    pub fn activate(
        self: &Arc<Self>,
        element: &MlsKeyring,
        pad: &gst::Pad,
        active: bool,
    ) -> Result<(), gst::LoggableError> {
        self.change(|queue| queue.flushing = !active);
        if !active {
            return pad
                .stop_task()
                .map_err(|_| gst::loggable_error!(gst::CAT_RUST, "its task does not stop"));
        }
        *lock(&self.caps) = None;
        let (this, weak, pad_weak) = (self.clone(), element.downgrade(), pad.downgrade());
        let task = move || {
            let there = weak.upgrade().zip(pad_weak.upgrade());
            if let Some((element, pad)) = there {
                this.turn(&element, &pad);
            }
        };
        pad.start_task(task)
            .map_err(|_| gst::loggable_error!(gst::CAT_RUST, "its task does not start"))
    }

    /// Pushes the next item, when there is one.
    fn turn(&self, element: &MlsKeyring, pad: &gst::Pad) {
        let item = {
            let mut queue = lock(&self.queue);
            loop {
                if queue.flushing {
                    let _ = pad.pause_task();
                    return;
                }
                if queue.playing
                    && let Some(item) = queue.items.pop_front()
                {
                    if let Item::Said(said) = &item {
                        queue.bytes = queue.bytes.saturating_sub(said.content.body.len());
                    }
                    break item;
                }
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        match item {
            Item::Said(said) => self.push(element, pad, &said),
            Item::Event(event) => {
                self.begin(pad);
                pad.push_event(event);
            }
        }
    }

    fn begin(&self, pad: &gst::Pad) {
        if lock(&self.caps).is_some() {
            return;
        }
        *lock(&self.caps) = Some(gst::Caps::new_empty());
        // Not `create_stream_id`: that is for elements with at most one sink pad, and this one has one for each thing to say.
        let id = format!("{}/{}", gst::glib::uuid_string_random(), pad.name());
        let group = gst::GroupId::next();
        let start = gst::event::StreamStart::builder(&id)
            .flags(gst::StreamFlags::SPARSE)
            .group_id(group);
        pad.push_event(start.build());
    }

    fn push(&self, element: &MlsKeyring, pad: &gst::Pad, said: &Said) {
        let content = &said.content;
        let caps = caps_of(&content.content_type, &content.file_name, &content.body);
        // Each pad gives what is downstream of it can take: a filter behind it chooses.
        if !pad.peer_query_accept_caps(&caps) {
            return;
        }
        self.begin(pad);
        let before = lock(&self.caps).replace(caps.clone());
        if before.as_ref() != Some(&caps) {
            pad.push_event(gst::event::Caps::new(&caps));
        }
        if before.is_none_or(|before| before.is_empty()) {
            let segment = gst::FormattedSegment::<gst::ClockTime>::new();
            pad.push_event(gst::event::Segment::new(&segment));
        }
        let mut buffer = gst::Buffer::from_slice(content.body.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(element.current_running_time());
            let meta = SFrameMeta {
                // No SFrame key: the message was sealed by MLS itself.
                kid: 0,
                epoch: said.epoch,
                leaf: said.leaf,
                sender: said.sender.as_str(),
            };
            meta.add_to(buffer);
        }
        match pad.push(buffer) {
            Ok(_) | Err(gst::FlowError::NotLinked) => {}
            Err(gst::FlowError::Flushing | gst::FlowError::Eos) => {
                let _ = pad.pause_task();
            }
            Err(error) => {
                gst::element_error!(
                    element,
                    gst::StreamError::Failed,
                    (
                        "What is linked to {} does not take messages any more ({error})",
                        pad.name()
                    )
                );
                let _ = pad.pause_task();
            }
        }
    }
}

/// Answers what is asked of a pad that gives messages.
pub fn src_query(query: &mut gst::QueryRef) -> bool {
    match query.view_mut() {
        // They come when somebody says something.
        gst::QueryViewMut::Latency(query) => {
            query.set(true, gst::ClockTime::ZERO, gst::ClockTime::NONE);
            true
        }
        _ => false,
    }
}
