//! A recording from when it is opened until it is closed: the access, the tracks, the segment that all of them share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::cursor::{Cursor, Members};
use super::opened::{Opened, TrackMembers};
use super::settings::Settings;
use super::track::{Phase, Track};
use super::{CAT, ComplianceSrc, OnDamage, caps, messages};
use crate::access::{self, Access, AccessError, Opening, Purpose};
use crate::ids::RecordingId;
use crate::matroska::Header;
use crate::recording::{Reader, TrackId, TrackInfo};

/// Name of all pads.
pub const PAD: &str = "src_%u";

/// Why nothing is played.
pub struct Refused {
    pub code: gst::ResourceError,
    pub text: String,
}

impl From<AccessError> for Refused {
    fn from(error: AccessError) -> Self {
        let code = match error {
            AccessError::Purpose { .. } => gst::ResourceError::Settings,
            AccessError::Recording(crate::recording::OpenError::Identity { .. }) => {
                gst::ResourceError::NotAuthorized
            }
            AccessError::Recording(_) | AccessError::Random => gst::ResourceError::OpenRead,
            _ => gst::ResourceError::NotAuthorized,
        };
        let text = error.to_string();
        Self { code, text }
    }
}

impl Refused {
    fn settings(text: impl Into<String>) -> Self {
        Self {
            code: gst::ResourceError::Settings,
            text: text.into(),
        }
    }

    fn damaged(text: impl std::fmt::Display) -> Self {
        Self {
            code: gst::ResourceError::Read,
            text: format!("{text}. on-damage=skip plays what is left, and says what is not"),
        }
    }
}

/// Where everything plays.
pub struct Place {
    pub segment: gst::FormattedSegment<gst::ClockTime>,
    /// Of the seek that led here.
    pub seqnum: gst::Seqnum,
}

pub struct Session {
    pub recording: RecordingId,
    pub duration: gst::ClockTime,
    pub tracks: Vec<Arc<Track>>,
    pub opened: Arc<Opened>,
    pub on_damage: OnDamage,
    place: Mutex<Place>,
    access: Mutex<Option<Access>>,
    access_id: Option<String>,
    /// It was told that everything came.
    ended: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Posts an element message.
pub fn post(element: &ComplianceSrc, structure: gst::Structure) {
    gst::info!(CAT, obj = element, "{structure}");
    let message = gst::message::Element::builder(structure).src(element).build();
    // Nobody to hear it, in a test without a bus.
    let _ = element.post_message(message);
}

impl Session {
    /// Opens a recording: its log has the access when the first member is decrypted.
    pub fn open(element: &ComplianceSrc, settings: &Settings) -> Result<Self, Refused> {
        let needed = |path: &Option<std::path::PathBuf>, what: &str| {
            path.clone()
                .ok_or_else(|| Refused::settings(format!("set {what}")))
        };
        let location = needed(&settings.location, "location to the recording's folder")?;
        let identity = needed(&settings.identity_file, "identity-file to your age identity")?;
        let log = needed(
            &settings.audit_log,
            "audit-log to the directory of the audit log that the recording names",
        )?;
        let purpose = Purpose::new(&settings.reader, &settings.reason, &settings.ticket)?;
        let identities = access::identities(&identity)?;
        let opening = Opening::prepare(&location, &log)?;
        let index = opening.index();
        let recording = index.facts().recording;
        let (duration_ns, ended) = (index.duration_ns(), index.is_finished());
        let wanted: Vec<_> = u32::try_from(settings.track)
            .ok()
            .map(TrackId)
            .into_iter()
            .collect();
        let is_wanted = |track: &TrackInfo| wanted.is_empty() || wanted.contains(&track.id);
        let mut tracks = index.tracks().iter().filter(|track| is_wanted(track)).peekable();
        if tracks.peek().is_some() && tracks.all(|track| track.members.is_empty()) {
            return Err(Refused::settings(
                "there is no media in the recording, or in the track that was asked for",
            ));
        }
        if let Some(error) = opening.shortened() {
            post(element, messages::shortened(recording, &error.to_string()));
            if settings.on_damage == OnDamage::Error {
                return Err(Refused::damaged(error));
            }
            gst::element_warning!(element, gst::ResourceError::Read, ("{}", error));
        }
        let (reader, access) = opening.unlock(&identities, &purpose, wanted, now_ms())?;
        let session = Self::of(element, reader, Some(access), settings.on_damage)?;
        let tracks = u32::try_from(session.tracks.len()).unwrap_or(u32::MAX);
        if let Some(access) = &*lock(&session.access) {
            let opened = messages::opened(
                recording,
                access.id(),
                purpose.reader(),
                tracks,
                duration_ns,
                ended,
            );
            post(element, opened);
        }
        Ok(session)
    }

    /// Of a recording that is open. `access`: is ended with it; none where whoever opened it does that.
    pub fn of(
        element: &ComplianceSrc,
        reader: Reader,
        access: Option<Access>,
        on_damage: OnDamage,
    ) -> Result<Self, Refused> {
        let recording = reader.index().facts().recording;
        let duration = gst::ClockTime::from_nseconds(reader.index().duration_ns());
        let infos: Vec<_> = reader.tracks().cloned().collect();
        let segment = {
            let mut segment = gst::FormattedSegment::new();
            segment.set_duration(duration);
            segment
        };
        let mut session = Self {
            recording,
            duration,
            tracks: Vec::new(),
            opened: Arc::new(Opened::new(reader)),
            on_damage,
            place: Mutex::new(Place {
                segment,
                seqnum: gst::Seqnum::next(),
            }),
            access_id: access.as_ref().map(|access| access.id().to_string()),
            ended: AtomicBool::new(false),
            access: Mutex::new(access),
        };
        match session.make_tracks(element, infos) {
            Ok(()) => Ok(session),
            Err(refused) => {
                session.close(element);
                // What was decrypted until then counts.
                element.imp().remember(session.stats());
                Err(refused)
            }
        }
    }

    fn make_tracks(&mut self, element: &ComplianceSrc, infos: Vec<TrackInfo>) -> Result<(), Refused> {
        let group = gst::GroupId::next();
        for info in infos {
            if info.members.is_empty() {
                for gap in &info.gaps {
                    post(element, messages::gap(self.recording, info.id, gap));
                }
                continue;
            }
            let members = TrackMembers {
                opened: self.opened.clone(),
                track: info.id,
            };
            // Where it cannot be read, playing comes to it again and tells.
            let first = members.member(0);
            let header = first.as_ref().ok().and_then(|first| Header::read(first));
            if let (Err(why), OnDamage::Error) = (&first, self.on_damage) {
                let time = info
                    .members
                    .first()
                    .map_or(0..0, |member| member.from_ns..member.to_ns);
                post(element, messages::damaged(self.recording, info.id, 0, &time, why));
                return Err(Refused::damaged(damage(info.id, 0, why)));
            }
            match caps::caps(&info, header.as_ref()) {
                Ok(caps) => {
                    let tags = caps::tags(self.recording, &info);
                    let stream = caps::stream(self.recording, &info, &caps, &tags);
                    let template = template(&caps)?;
                    let place = lock(&self.place);
                    let cursor = Cursor::new(members, info, header.unwrap_or_default());
                    let track = Track::new(&template, cursor, &place);
                    drop(place);
                    let start = gst::event::StreamStart::builder(&caps::stream_id(self.recording, track.id))
                        .group_id(group)
                        .flags(stream.stream_flags())
                        .stream(stream)
                        .build();
                    track.prepare(start, &caps, tags);
                    self.tracks.push(Arc::new(track));
                }
                Err(why) if self.on_damage == OnDamage::Error => return Err(Refused::damaged(why)),
                Err(why) => gst::element_warning!(element, gst::StreamError::Format, ("{}", why)),
            }
        }
        if self.tracks.is_empty() {
            return Err(Refused::settings(
                "nothing that is left of the recording can be played",
            ));
        }
        Ok(())
    }

    /// Where everything plays. No other lock is taken while a seek holds it but those of the tracks.
    pub fn place(&self) -> MutexGuard<'_, Place> {
        lock(&self.place)
    }

    /// Everything comes anew.
    pub fn begin(&self) {
        self.ended.store(false, Ordering::Relaxed);
    }

    /// A track came to its end, or has nobody to push to: were there others?
    pub fn look_for_end(&self, element: &ComplianceSrc) {
        let phases: Vec<_> = self.tracks.iter().map(|track| track.phase()).collect();
        if phases.contains(&Phase::Plays) || self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        if phases.contains(&Phase::Over) {
            post(element, self.stats());
        } else {
            gst::element_error!(
                element,
                gst::StreamError::Failed,
                ("Nothing is linked to any of its pads: link them when they appear (pad-added), or at no-more-pads")
            );
        }
    }

    /// Ends the access.
    pub fn close(&self, element: &ComplianceSrc) {
        let Some(access) = lock(&self.access).take() else {
            return;
        };
        if let Err(error) = access.end(self.opened.members(), now_ms()) {
            // That it was opened stands there, which is what counts.
            gst::element_warning!(
                element,
                gst::ResourceError::Write,
                ("The end of the access is not in the audit log: {}", error)
            );
        }
    }

    /// As the property `stats` has it.
    pub fn stats(&self) -> gst::Structure {
        let counts = self.opened.counts().clone();
        gst::Structure::builder("compliancesrc-stats")
            .field("recording-id", self.recording.to_string())
            .field("access", self.access_id.as_deref().unwrap_or_default())
            .field("tracks", u32::try_from(self.tracks.len()).unwrap_or(u32::MAX))
            .field("frames", counts.frames)
            .field("bytes", counts.bytes)
            .field("members", self.opened.members())
            .field("gaps", counts.gaps)
            .field("damaged", counts.damaged)
            .field("seeks", counts.seeks)
            .build()
    }
}

/// For one pad: whoever looks for a pad to link it to (gst-launch, at a muxer) goes by its template.
fn template(caps: &gst::Caps) -> Result<gst::PadTemplate, Refused> {
    let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Sometimes);
    gst::PadTemplate::new(PAD, direction, presence, caps).map_err(|error| Refused {
        code: gst::ResourceError::Failed,
        text: error.to_string(),
    })
}

/// A sentence about a member that is not played.
pub fn damage(track: TrackId, sequence: u64, why: &str) -> String {
    format!(
        "member {sequence} of track {track} {why} and is not played; gst-compliance verify says what else is damaged"
    )
}

/// Unix time in milliseconds.
fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
