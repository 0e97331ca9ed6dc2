//! # compliancesrc
//!
//! Plays a recording that `compliancesink` made, to one of its recipients. Each track is a pad `src_%u` with the
//! recorded frames, byte for byte (H.264 and H.265 unit by unit), with the time of the recording's common clock.
//!
//! ```text
//! gst-launch-1.0 compliancesrc name=r location=recordings/$ID identity-file=key.txt audit-log=log \
//!         reader=dr-17 reason="complaint of 3 May" ticket=C-2291 \
//!     r.src_0 ! vp8dec ! videoconvert ! autovideosink \
//!     r.src_1 ! opusdec ! audioconvert ! autoaudiosink
//! ```
//!
//! One file of two tracks, nothing encoded anew:
//!
//! ```text
//! gst-launch-1.0 -e compliancesrc name=r location=recordings/$ID identity-file=key.txt audit-log=log \
//!         reader=records-2 reason="copy for the patient" ticket=R-88 \
//!     r.src_0 ! matroskamux name=m ! filesink location=visit.mkv   r.src_1 ! m.
//! ```
//!
//! A contact sheet, one picture for each minute:
//!
//! ```text
//! gst-launch-1.0 compliancesrc location=recordings/$ID track=0 identity-file=key.txt audit-log=log \
//!         reader=audit-4 reason="monthly sample" ticket=A-12 ! \
//!     vp8dec ! videorate ! video/x-raw,framerate=1/60 ! videoconvert ! jpegenc ! multifilesink location=sheet-%03d.jpg
//! ```
//!
//! ## Access
//!
//! READY→PAUSED reads the recording's facts and manifest (no key is needed for that), writes reader, reason, ticket and
//! tracks into the audit log, and opens the recording only then. It must be the log whose key recording.json names.
//! No such log, another one, one that cannot be written: an element error that says what to do, and nothing was
//! decrypted. A wrong identity is an access too: it stands in the log, ended at once. PAUSED→READY says in the log that
//! the access has ended. Whoever starts the element again accesses the recording again.
//!
//! Media in clear is in memory only; core dumps are switched off unless `allow-core-dumps`.
//!
//! ## Damage
//!
//! A member of a track is decrypted only if its SHA-256 is what the manifest says. `on-damage=error` stops at the first
//! one that is not; `on-damage=skip` warns, posts `compliance-damaged`, pushes a GAP for its time and goes on; frames
//! that follow are pushed though they may refer to lost ones, because they are what was recorded. A recording without
//! an end record is held against what the audit log knows of it: `compliance-shortened`.
//!
//! ## Time
//!
//! All tracks have the same segment, which is that of the recording: what was recorded together plays together, also
//! where a track begins late (its first frame has the time at which it was recorded) or ends early (EOS comes then). A
//! change of caps ended a track when it was recorded, so the same sender may go on in another one: the tags say who
//! (`extended-comment`: `compliance-sender=…`, `-leaf`, `-medium`, `-track`, `-recording`). What the recorder did not
//! keep is a GAP event, a message `compliance-gap`, and DISCONT on the next frame; where it is silent for more than a
//! second there is a GAP event only. Times are exact to a millisecond.
//!
//! Seeking is by time, forwards, with flush. `accurate` sets the segment to the time itself, and decoders get what they
//! need from the keyframe before; `key-unit` sets it to the last keyframe before, of the track whose keyframe is nearest.
//! Only the members that this takes are read.
//!
//! ## Threads and locks
//!
//! One thread for each track (its pad's task). `seeking` is held for a whole seek, and for the end; then `session`,
//! `place`, a track's `state`, what is opened: each for a moment. Nothing is pushed or posted with any of those but
//! `seeking` held.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::session::{PAD, Refused, Session, post};
use super::settings::{self, Settings};
use super::track::Track;
use crate::dumpable::forbid_core_dumps;
use crate::recording::Reader;

#[derive(Default)]
pub struct ComplianceSrc {
    settings: Mutex<Settings>,
    /// What is played next, instead of what the settings say.
    given: Mutex<Option<Reader>>,
    session: Mutex<Option<Arc<Session>>>,
    pub(super) seeking: Mutex<()>,
    /// Statistics of what was played before.
    last: Mutex<Option<gst::Structure>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ComplianceSrc {
    pub(super) fn give(&self, reader: Reader) {
        *lock(&self.given) = Some(reader);
    }

    /// Statistics of what is played no more.
    pub(super) fn remember(&self, stats: gst::Structure) {
        *lock(&self.last) = Some(stats);
    }

    pub(super) fn session(&self) -> Option<Arc<Session>> {
        lock(&self.session).clone()
    }

    // Pads

    pub(super) fn pad_event(pad: &gst::Pad, parent: Option<&gst::Object>, event: gst::Event) -> bool {
        Self::catch_panic_pad_function(
            parent,
            || false,
            |imp| match event.type_() {
                gst::EventType::Seek => imp.seek(&event),
                _ => gst::Pad::event_default(pad, parent, event),
            },
        )
    }

    pub(super) fn pad_query(pad: &gst::Pad, parent: Option<&gst::Object>, query: &mut gst::QueryRef) -> bool {
        Self::catch_panic_pad_function(
            parent,
            || false,
            |imp| {
                let session = imp.session();
                let track = session
                    .as_ref()
                    .and_then(|session| session.tracks.iter().find(|track| track.pad == *pad));
                match (&session, track) {
                    (Some(session), Some(track)) if answer(session, track, query) => true,
                    _ => gst::Pad::query_default(pad, parent, query),
                }
            },
        )
    }

    // States

    /// READY→PAUSED, first half: the recording is opened, or the error says why not.
    fn open(&self) -> Result<(), Refused> {
        let settings = lock(&self.settings).clone();
        let element = self.obj();
        let session = match lock(&self.given).take() {
            Some(reader) => Session::of(&element, reader, None, settings.on_damage)?,
            None => Session::open(&element, &settings)?,
        };
        *lock(&self.session) = Some(Arc::new(session));
        Ok(())
    }

    /// READY→PAUSED, second half: the pads appear, then the tracks play.
    fn expose(&self) {
        let Some(session) = self.session() else { return };
        let element = self.obj();
        for track in &session.tracks {
            let (weak, of_track) = (element.downgrade(), Arc::downgrade(track));
            track.pad.connect_linked(move |_, _| {
                let track = weak.upgrade().zip(of_track.upgrade());
                if let Some((element, track)) = track
                    && let Some(session) = element.imp().session()
                {
                    track.linked(&element, &session);
                }
            });
            // Cannot fail: no other pad has its name.
            let _ = element.add_pad(&track.pad);
        }
        element.no_more_pads();
        for track in &session.tracks {
            track.start(&element, &session);
        }
    }

    /// PAUSED→READY: nothing is pushed any more.
    fn close(&self) {
        let Some(session) = lock(&self.session).take() else {
            return;
        };
        // A seek under way would start threads again.
        drop(lock(&self.seeking));
        let element = self.obj();
        for track in &session.tracks {
            let _ = track.pad.set_active(false);
            let _ = track.pad.stop_task();
            let _ = element.remove_pad(&track.pad);
        }
        session.close(&element);
        let stats = session.stats();
        self.remember(stats.clone());
        post(&element, stats);
    }

    fn stats(&self) -> gst::Structure {
        let playing = self.session().map(|session| session.stats());
        let last = || lock(&self.last).clone();
        playing
            .or_else(last)
            .unwrap_or_else(|| gst::Structure::new_empty("compliancesrc-stats"))
    }
}

/// Answers what is asked of a recording; false where that is for somebody else to answer.
fn answer(session: &Session, track: &Track, query: &mut gst::QueryRef) -> bool {
    match query.view_mut() {
        gst::QueryViewMut::Position(q) if q.format() == gst::Format::Time => q.set(track.position()),
        gst::QueryViewMut::Duration(q) if q.format() == gst::Format::Time => q.set(session.duration),
        gst::QueryViewMut::Seeking(q) if q.format() == gst::Format::Time => {
            q.set(true, gst::ClockTime::ZERO, session.duration);
        }
        gst::QueryViewMut::Segment(q) => {
            let segment = session.place().segment.clone();
            let start = segment.to_stream_time(segment.start());
            let stop = segment.to_stream_time(segment.stop().or(segment.duration()));
            q.set(segment.rate(), start, stop);
        }
        _ => return false,
    }
    true
}

#[glib::object_subclass]
impl ObjectSubclass for ComplianceSrc {
    const NAME: &'static str = "GstComplianceSrc";
    type Type = super::ComplianceSrc;
    type ParentType = gst::Element;
}

impl ObjectImpl for ComplianceSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let setting = lock(&self.settings).get(pspec.name());
        setting.unwrap_or_else(|| self.stats().to_value())
    }

    fn constructed(&self) {
        self.parent_constructed();
        // Bins start sources last, when what they push to is ready.
        self.obj().set_element_flags(gst::ElementFlags::SOURCE);
    }
}

impl GstObjectImpl for ComplianceSrc {}

impl ElementImpl for ComplianceSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Compliance recording player",
                "Source/Player/Decryptor",
                "Plays a recording of compliancesink to one of its recipients. Who reads it and why is in the audit \
                 log that the recording names before anything is decrypted. Each track is a pad, all of them on the \
                 recording's common clock; src_0 is the track that gst-compliance verify calls 0. Needs location, \
                 identity-file, audit-log, reader, reason and ticket. Seekable by time. Messages: compliance-opened, \
                 -gap, -damaged, -shortened",
                "The gst-plugins-e2ee developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = gst::PadTemplate::new(
                PAD,
                gst::PadDirection::Src,
                gst::PadPresence::Sometimes,
                &gst::Caps::new_any(),
            );
            template.into_iter().collect()
        });
        &TEMPLATES
    }

    fn send_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::Seek => self.seek(&event),
            _ => self.parent_send_event(event),
        }
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        let session = self.session();
        let track = session.as_ref().and_then(|session| session.tracks.first());
        match (&session, track) {
            (Some(session), Some(track)) if answer(session, track, query) => true,
            _ => self.parent_query(query),
        }
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let fail = |code: gst::ResourceError, text: &str| {
            gst::element_imp_error!(self, code, ("{}", text));
            gst::StateChangeError
        };
        match transition {
            gst::StateChange::NullToReady if !lock(&self.settings).allow_core_dumps => {
                forbid_core_dumps().map_err(|text| fail(gst::ResourceError::Failed, &text))?;
            }
            gst::StateChange::ReadyToPaused => {
                self.open().map_err(|refused| fail(refused.code, &refused.text))?;
            }
            _ => {}
        }
        let changed = self.parent_change_state(transition);
        match transition {
            gst::StateChange::ReadyToPaused if changed.is_ok() => self.expose(),
            gst::StateChange::ReadyToPaused | gst::StateChange::PausedToReady => self.close(),
            _ => {}
        }
        changed
    }
}
