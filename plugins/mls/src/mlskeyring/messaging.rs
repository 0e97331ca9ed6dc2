//! What `mlskeyring` does with its message pads; what one of them does by itself is in [`pads`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::{CAT, MlsKeyring};
use super::lock;
use super::pads::{self, MsgSink, MsgSrc, SayError};
use crate::room::Said;

/// The pads that were asked for.
#[derive(Default)]
pub struct Pads {
    sinks: Vec<(gst::Pad, Arc<MsgSink>)>,
    srcs: Vec<(gst::Pad, Arc<MsgSrc>)>,
    /// Number of the next pad of either kind.
    next: u32,
    /// Does the room run?
    open: bool,
    playing: bool,
}

impl Pads {
    /// Does it give messages?
    pub fn are_live(&self) -> bool {
        !self.srcs.is_empty()
    }
}

impl MlsKeyring {
    pub(super) fn srcs(&self) -> Vec<Arc<MsgSrc>> {
        lock(&self.pads).srcs.iter().map(|(_, src)| src.clone()).collect()
    }

    pub(super) fn set_open(&self, open: bool) {
        lock(&self.pads).open = open;
        for src in self.srcs() {
            src.set_open(open);
        }
    }

    pub(super) fn set_playing(&self, playing: bool) {
        lock(&self.pads).playing = playing;
        for src in self.srcs() {
            src.set_playing(playing);
        }
    }

    pub(super) fn said(&self, said: Said) {
        let said = Arc::new(said);
        for src in self.srcs() {
            if !src.give(said.clone()) && self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                gst::element_imp_warning!(
                    self,
                    gst::StreamError::Failed,
                    ("Messages are dropped: what is linked to msg_src takes them too slowly; see stats, messages-dropped")
                );
            }
        }
    }

    fn message_chain(
        &self,
        pad: &gst::Pad,
        sink: &MsgSink,
        buffer: &gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        match sink.say(self.asker(), buffer) {
            Ok(()) => Ok(gst::FlowSuccess::Ok),
            Err(SayError::Flushing) => Err(gst::FlowError::Flushing),
            Err(SayError::NoCaps) => {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Format,
                    (
                        "{} needs caps that say what a message is: put `text/x-raw,format=utf8` or a content type such as \
                         `image/jpeg,file-name=(string)photo.jpg` in front of it",
                        pad.name()
                    )
                );
                Err(gst::FlowError::NotNegotiated)
            }
            Err(SayError::Refused(why)) => {
                gst::element_imp_warning!(
                    self,
                    gst::StreamError::Failed,
                    ("A message was not sent: {}", why)
                );
                Ok(gst::FlowSuccess::Ok)
            }
        }
    }

    fn message_event(&self, pad: &gst::Pad, sink: &MsgSink, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Caps(caps) => sink.set_caps(caps.caps()),
            gst::EventView::FlushStart(_) => sink.set_flushing(true),
            gst::EventView::FlushStop(_) => sink.set_flushing(false),
            gst::EventView::StreamStart(start) => {
                sink.set_eos(false);
                // As of any sink: the pipeline says it when all of its sinks have.
                let message = gst::message::StreamStart::builder()
                    .src(&*self.obj())
                    .seqnum(event.seqnum());
                let message = match start.group_id() {
                    Some(group) => message.group_id(group).build(),
                    None => message.build(),
                };
                let _ = self.obj().post_message(message);
            }
            gst::EventView::Eos(_) => {
                sink.set_eos(true);
                let all = lock(&self.pads).sinks.iter().all(|(_, sink)| sink.is_eos());
                if all {
                    let message = gst::message::Eos::builder()
                        .src(&*self.obj())
                        .seqnum(event.seqnum())
                        .build();
                    let _ = self.obj().post_message(message);
                }
            }
            _ => {}
        }
        // Not the event itself: its caps may name a file.
        gst::log!(CAT, obj = pad, "{:?}", event.type_());
        true
    }

    fn sink_pad(&self, template: &gst::PadTemplate, name: &str) -> gst::Pad {
        let sink = Arc::new(MsgSink::default());
        let (of_chain, of_event, of_mode) = (sink.clone(), sink.clone(), sink.clone());
        let pad = gst::Pad::builder_from_template(template)
            .name(name)
            .chain_function(move |pad, parent, buffer| {
                let failed = || Err(gst::FlowError::Error);
                Self::catch_panic_pad_function(parent, failed, |imp| {
                    imp.message_chain(pad, &of_chain, &buffer)
                })
            })
            .event_function(move |pad, parent, event| {
                Self::catch_panic_pad_function(
                    parent,
                    || false,
                    |imp| imp.message_event(pad, &of_event, event),
                )
            })
            .activatemode_function(move |_, _, _, active| {
                of_mode.set_flushing(!active);
                Ok(())
            })
            .build();
        lock(&self.pads).sinks.push((pad.clone(), sink));
        pad
    }

    fn src_pad(&self, template: &gst::PadTemplate, name: &str) -> gst::Pad {
        let src = Arc::new(MsgSrc::default());
        let of_mode = src.clone();
        let pad = gst::Pad::builder_from_template(template)
            .name(name)
            .query_function(|pad, parent, query| {
                pads::src_query(query) || gst::Pad::query_default(pad, parent, query)
            })
            .activatemode_function(move |pad, parent, _, active| {
                let element = parent.and_then(|parent| parent.downcast_ref::<super::MlsKeyring>());
                let element =
                    element.ok_or_else(|| gst::loggable_error!(CAT, "a pad without its element"))?;
                of_mode.activate(element, pad, active)
            })
            .build();
        // In one step: what changes afterwards finds it among the others.
        let mut pads = lock(&self.pads);
        src.set_open(pads.open);
        src.set_playing(pads.playing);
        pads.srcs.push((pad.clone(), src));
        pad
    }

    pub(super) fn request_message_pad(
        &self,
        template: &gst::PadTemplate,
        name: Option<&str>,
    ) -> Option<gst::Pad> {
        let element = self.obj();
        let kind = template.name_template().replace("%u", "");
        let name = match name.filter(|name| !name.contains('%')) {
            Some(name) => name.to_owned(),
            None => loop {
                let number = {
                    let mut pads = lock(&self.pads);
                    pads.next += 1;
                    pads.next - 1
                };
                let name = format!("{kind}{number}");
                if element.static_pad(&name).is_none() {
                    break name;
                }
            },
        };
        if element.static_pad(&name).is_some() {
            return None;
        }
        let pad = match template.direction() {
            gst::PadDirection::Sink => self.sink_pad(template, &name),
            _ => self.src_pad(template, &name),
        };
        // With pads to end it is a sink among others, and waited for; with pads to begin it is a live source.
        element.set_element_flags(match template.direction() {
            gst::PadDirection::Sink => gst::ElementFlags::SINK,
            _ => gst::ElementFlags::SOURCE,
        });
        element.add_pad(&pad).ok()?;
        if element.current_state() > gst::State::Ready {
            pad.set_active(true).ok()?;
        }
        Some(pad)
    }

    pub(super) fn release_message_pad(&self, pad: &gst::Pad) {
        let _ = pad.set_active(false);
        let (no_sinks, no_srcs) = {
            let mut pads = lock(&self.pads);
            pads.sinks.retain(|(other, _)| other != pad);
            pads.srcs.retain(|(other, _)| other != pad);
            (pads.sinks.is_empty(), pads.srcs.is_empty())
        };
        let element = self.obj();
        let _ = element.remove_pad(pad);
        if no_sinks {
            element.unset_element_flags(gst::ElementFlags::SINK);
        }
        if no_srcs {
            element.unset_element_flags(gst::ElementFlags::SOURCE);
        }
    }
}
