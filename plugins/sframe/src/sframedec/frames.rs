//! What happens to a frame: it is opened and pushed, or dropped and told of.

use super::imp::SFrameDec;
use super::opening::Sealed;
use super::state::{Cause, Keys, Outcome, State};
use crate::codec::FrameInfo;
use crate::frame::OpenError;
use crate::glue::{self, CAT, Timing};
use crate::receiver::Check;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_e2ee_common::key_source::ReceiverKey;
use gst_e2ee_common::meta::{NO_LEAF, SFrameMeta};
use std::sync::MutexGuard;
use std::time::Instant;

impl SFrameDec {
    pub(super) fn open<'a>(
        &'a self,
        mut guard: MutexGuard<'a, State>,
        mut buffer: gst::Buffer,
    ) -> Result<Outcome, gst::FlowError> {
        let Some(mode) = guard.stream.as_ref().map(|stream| stream.mode) else {
            // Refused caps said so already.
            let unsaid = guard.refused.is_none();
            drop(guard);
            if unsaid {
                gst::element_imp_error!(
                    self,
                    gst::CoreError::Negotiation,
                    ("no caps: sframedec must know what was sealed; set caps on the source, such as \
                      udpsrc caps=application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000")
                );
            }
            return Err(gst::FlowError::NotNegotiated);
        };
        // Maps in place where the buffer and its memory are ours alone, which is what a network source gives, and copies
        // otherwise.
        let out = buffer.make_mut();
        let Ok(mut bytes) = out.map_writable() else {
            return Ok(Outcome::Drop(Cause::Malformed, 0));
        };
        let Some(sealed) = Sealed::parse(&bytes, mode) else {
            return Ok(Outcome::Drop(Cause::Malformed, 0));
        };
        let header = sealed.header();
        let kid = header.kid;
        // A source that announces a change while it is asked gets a second chance, not a loop.
        let mut asked = 0;
        loop {
            let generation = self.generation.get();
            let state = &mut *guard;
            state.receiver.set_generation(generation);
            match state.receiver.check(header) {
                Check::Open(opening) => match sealed.open(opening.key, &state.metadata, &mut bytes) {
                    Ok(opened) => {
                        let (who, first) = opening.record();
                        state.replayed_in_row = 0;
                        state.stats.opened += 1;
                        state.stats.bytes += opened.len() as u64;
                        state.stats.kid = kid;
                        state.stats.epoch = who.epoch;
                        let who = state.attach_meta.then(|| who.clone());
                        let source = match &state.keys {
                            Keys::Source(attached) if first => Some(attached.source.clone()),
                            _ => None,
                        };
                        drop(guard);
                        drop(bytes);
                        opened.trim(out);
                        SFrameMeta::remove_from(out);
                        if let Some(who) = who {
                            who.meta(kid).add_to(out);
                        }
                        if let Some(source) = source {
                            gst::info!(CAT, imp = self, "First frame of KID {kid} authenticated");
                            source.frame_opened(kid);
                        }
                        return Ok(Outcome::Opened(buffer, opened.info));
                    }
                    Err(OpenError::AuthFailed) => return Ok(Outcome::Drop(Cause::AuthFailed, kid)),
                    Err(OpenError::Malformed(_)) => return Ok(Outcome::Drop(Cause::Malformed, kid)),
                },
                Check::NoKey => {
                    drop(bytes);
                    return Ok(Outcome::NoKey(kid, buffer));
                }
                Check::Replayed => return Ok(Outcome::Drop(Cause::Replayed, kid)),
                Check::WrongSender => return Ok(Outcome::Drop(Cause::WrongSender, kid)),
                Check::Ask if asked == 2 => {
                    drop(bytes);
                    return Ok(Outcome::NoKey(kid, buffer));
                }
                Check::Ask => match &state.keys {
                    Keys::None => return Err(gst::FlowError::Flushing),
                    Keys::File(file, suite) => {
                        let answer = file.get(kid).map(|base_key| ReceiverKey {
                            suite: (*suite).into(),
                            base_key: base_key.to_vec().into(),
                            epoch: 0,
                            leaf: NO_LEAF,
                            sender: String::new(),
                        });
                        state.receiver.install(kid, answer, generation);
                        asked += 1;
                    }
                    Keys::Source(attached) => {
                        let source = attached.source.clone();
                        drop(guard);
                        let answer = source.receiver_key(kid).map_err(|error| {
                            let keyring = self.settings().keyring.clone();
                            self.fail(&glue::unusable(&keyring, &error))
                        })?;
                        guard = self.state();
                        guard.receiver.install(kid, answer, generation);
                        asked += 1;
                    }
                },
            }
        }
    }

    // Pushing; by the streaming thread (Direct) or the task (Holding), never both

    fn deliver(&self, mut opened: gst::Buffer, info: &FrameInfo) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Some(events) = self.prepare(&mut opened, info) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        for event in events {
            self.srcpad.push_event(event);
        }
        self.srcpad.push(opened)
    }

    /// The events to push before an opened buffer. `None`: it cannot be used before a keyframe.
    fn prepare(&self, opened: &mut gst::Buffer, info: &FrameInfo) -> Option<Vec<gst::Event>> {
        let mut guard = self.state();
        let state = &mut *guard;
        let stream = state.stream.as_mut()?;
        let lost = std::mem::take(&mut stream.discont);
        if lost {
            opened.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        let is_discont = opened.flags().contains(gst::BufferFlags::DISCONT);
        let events = stream.out.before_frame(info);
        let needs_keyframe = match events {
            None => {
                state.stats.waiting_keyframe += 1;
                stream.discont = true;
                true
            }
            // A depayloader lost something before this frame, or the stream was joined in the middle.
            Some(_) if stream.started => is_discont && info.keyframe != Some(true),
            Some(_) => info.keyframe == Some(false),
        };
        stream.started = true;
        let request = needs_keyframe && state.is_keyframe_request_due();
        drop(guard);
        if request {
            glue::request_keyframe(&self.sinkpad);
        }
        events
    }

    /// Counts a dropped frame and says so. Returns the GAP event that stands for it.
    pub(super) fn drop_frame(&self, timing: Timing, cause: Cause, kid: u64) -> Option<gst::Event> {
        let mut guard = self.state();
        let state = &mut *guard;
        *state.stats.dropped(cause) += 1;
        let (name, limit) = match cause {
            Cause::NoKey => ("sframe-key-missing", &mut state.limits.key_missing),
            _ => ("sframe-decrypt-failed", &mut state.limits.decrypt_failed),
        };
        let count = limit.note(Instant::now());
        // A copy of a frame that already arrived is no loss.
        let lost = cause != Cause::Replayed;
        let mut gap = None;
        let mut request = false;
        if lost && let Some(stream) = &mut state.stream {
            stream.discont = true;
            if !stream.out.is_waiting() {
                gap = timing.gap();
            }
            request = state.is_keyframe_request_due();
        }
        let hint = state.first_failure_hint(cause, kid);
        drop(guard);
        gst::debug!(CAT, imp = self, "Dropped a frame of KID {kid}: {}", cause.name());
        if let Some(hint) = hint {
            gst::element_imp_warning!(self, gst::StreamError::Decrypt, ("{}", hint));
        }
        if let Some(count) = count {
            gst::warning!(
                CAT,
                imp = self,
                "Dropped {count} frames, the last of KID {kid}: {}",
                cause.name()
            );
            let message = gst::Structure::builder(name)
                .field("kid", kid)
                .field("count", count)
                .field("cause", cause.name())
                .build();
            glue::post(self.obj().upcast_ref(), message);
        }
        if request {
            glue::request_keyframe(&self.sinkpad);
        }
        gap
    }

    /// Pushes or drops the frame of this outcome.
    pub(super) fn settle(
        &self,
        timing: Timing,
        outcome: Outcome,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let gap = match outcome {
            Outcome::Opened(opened, info) => return self.deliver(opened, &info),
            Outcome::NoKey(kid, _) => self.drop_frame(timing, Cause::NoKey, kid),
            Outcome::Drop(cause, kid) => self.drop_frame(timing, cause, kid),
        };
        if let Some(gap) = gap {
            self.srcpad.push_event(gap);
        }
        Ok(gst::FlowSuccess::Ok)
    }
}
