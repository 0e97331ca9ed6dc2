//! A recording's life: it begins, or goes on after a crash, when all gates agree; it pauses and ends when they do not; it
//! writes what the pads have. All of it on the worker's thread.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gst::glib;
use gst_e2ee_common::room_state::RoomState;

use super::admission::unix_ms;
use super::journal::{Flushed, Journal, id};
use super::report::Report;
use super::session::{Item, Key, Session};
use super::stats::Cause;
use super::stored::Stored;
use super::{CAT, State, messages};
use crate::audit::{Event, LogError, Text};
use crate::consent::Consent;
use crate::gate::{Refusal, Transition};
use crate::recording::{Disk, Recording, RecordingError, Sealed, Segment, TrackId};
use crate::signing::PublicKey;

mod begin;
mod facts;
mod store;

/// Room, consent and clock are looked at so often.
const LOOK: Duration = Duration::from_secs(1);

/// The audit log is told so often how far the manifest goes.
const ROOT: Duration = Duration::from_secs(10);

/// What the wall clock may move by itself within [`LOOK`].
const DRIFT: Duration = Duration::from_secs(2);

/// Where things are, and what else is fixed from the start.
pub struct Places {
    pub location: PathBuf,
    pub keys: PathBuf,
    pub dealer: PublicKey,
    pub consent: Option<PathBuf>,
    pub retention: u32,
}

/// Why the recording is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All pads have ended.
    EndOfStream,
    /// The element goes to READY.
    Stop,
}

/// What ended the recording against everybody's will.
struct Fault {
    cause: &'static str,
    reason: String,
}

impl From<RecordingError> for Fault {
    fn from(error: RecordingError) -> Self {
        let cause = if error.is_full() {
            "disk-full"
        } else {
            "write-failed"
        };
        let advice = if error.is_full() {
            ": make room; everything that was sealed before can be read, and the next start begins a new recording"
        } else {
            ""
        };
        Self {
            cause,
            reason: format!("{error}{advice}"),
        }
    }
}

impl From<LogError> for Fault {
    fn from(error: LogError) -> Self {
        Self {
            cause: "log-unavailable",
            reason: format!(
                "{error}. Nothing is recorded that is not logged; log-unavailable=unanchored would record on"
            ),
        }
    }
}

/// A track that is written.
struct Opened {
    number: TrackId,
    leaf: Option<u32>,
}

/// What tells one state of the consent file from another: device, inode, length, and when it was changed.
type Stamp = (u64, u64, u64, i64, i64);

/// See the module.
pub struct Recorder {
    session: Arc<Session>,
    places: Places,
    journal: Journal,
    stored: Option<Stored>,
    disk: Arc<dyn Disk>,
    report: Report,
    recording: Option<Recording>,
    tracks: HashMap<Key, Opened>,
    /// The consent file, as it was read last; of one that is not there, nothing.
    consent: Option<Option<Stamp>>,
    /// When wall clock and monotonic clock were compared last.
    clocks: (SystemTime, Instant),
    looked: Option<Instant>,
    root: Instant,
    /// It was looked for a recording that a crash left.
    has_recovered: bool,
    /// The recording that goes on was begun by an earlier process, and stands at this time.
    recovered: Option<u64>,
    /// It has begun to keep frames.
    has_begun: bool,
    /// Nothing is recorded any more.
    is_over: bool,
    /// Why no keys could be taken, as it was told last.
    keys_trouble: Option<String>,
    /// Why the spool takes no recording, as it was told last.
    spool_trouble: Option<String>,
}

impl Recorder {
    pub fn new(
        session: Arc<Session>,
        places: Places,
        journal: Journal,
        stored: Option<Stored>,
        disk: Arc<dyn Disk>,
        report: Report,
    ) -> Self {
        let now = Instant::now();
        Self {
            session,
            places,
            journal,
            stored,
            disk,
            report,
            recording: None,
            tracks: HashMap::new(),
            consent: None,
            clocks: (SystemTime::now(), now),
            looked: None,
            root: now,
            has_recovered: false,
            recovered: None,
            has_begun: false,
            is_over: false,
            keys_trouble: None,
            spool_trouble: None,
        }
    }

    /// The look before the first frame. The error is one of keys or places, which does not pass by itself.
    pub fn first_look(&mut self) -> Result<(), String> {
        if let Err(fault) = self.step(Instant::now()) {
            self.give_up();
            return Err(fault.reason);
        }
        match self.keys_trouble.take() {
            Some(trouble) => Err(trouble),
            None => Ok(()),
        }
    }

    /// Looks at everything and writes what waits.
    pub fn look(&mut self, now: Instant) {
        if let Err(fault) = self.step(now) {
            self.fail(&fault);
        }
    }

    fn step(&mut self, now: Instant) -> Result<(), Fault> {
        self.look_at_store(now);
        if self.is_over {
            drop(self.session.queue.take());
            self.session.queue.done();
            return Ok(());
        }
        if self
            .looked
            .is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK)
        {
            self.looked = Some(now);
            self.look_at_clock();
            self.session.admission.ask_room();
            self.look_at_consent();
            self.session.admission.tick();
        }
        for room in self.session.admission.epochs() {
            self.note_epoch(&room);
        }
        self.recover()?;
        if self.session.admission.may_run() == Err(Refusal::NoKeys) {
            self.take_keys()?;
        }
        for news in self.session.admission.news() {
            self.turn(news)?;
        }
        for (_, input) in self.report.inputs() {
            input.tick(&self.session, now);
        }
        self.write()?;
        self.look_at_spool()?;
        self.tell_root(now);
        self.flush()
    }

    fn look_at_consent(&mut self) {
        let Some(path) = &self.places.consent else { return };
        let stamp = fs::metadata(path)
            .ok()
            .map(|of| (of.dev(), of.ino(), of.len(), of.ctime(), of.ctime_nsec()));
        if self.consent == Some(stamp) {
            return;
        }
        self.consent = Some(stamp);
        let zone = glib::DateTime::now_local().map_or(0, |now| now.utc_offset().as_seconds());
        let consent = Consent::load(path, i32::try_from(zone).unwrap_or(0));
        if self.has_begun {
            let room = self.session.admission.room();
            self.journal
                .note(facts::consent(consent.as_ref().err(), room.as_ref()));
        }
        self.session.admission.consent(consent);
    }

    /// Times in the log and in recording.json are the wall clock's: that it was set belongs there, too.
    fn look_at_clock(&mut self) {
        let (wall, monotonic) = std::mem::replace(&mut self.clocks, (SystemTime::now(), Instant::now()));
        let passed = self.clocks.1.saturating_duration_since(monotonic);
        let expected = wall + passed;
        let (by, sign) = match self.clocks.0.duration_since(expected) {
            Ok(ahead) => (ahead, 1),
            Err(behind) => (behind.duration(), -1),
        };
        if by > DRIFT && self.recording.is_some() {
            let by_ms = i64::try_from(by.as_millis())
                .unwrap_or(i64::MAX)
                .saturating_mul(sign);
            self.journal.note(Event::ClockJump { by_ms });
        }
    }

    /// An epoch began while there is a recording.
    fn note_epoch(&mut self, room: &RoomState) {
        if self.recording.is_some() {
            self.journal.note(facts::epoch(room));
        }
    }

    fn turn(&mut self, news: Transition) -> Result<(), Fault> {
        match news {
            Transition::Started | Transition::Resumed => self.go_on(),
            Transition::Paused(refusal) => self.pause(&refusal),
            Transition::Stopped(refusal) => {
                self.pause(&refusal)?;
                if refusal == Refusal::Evicted {
                    let room = self.session.admission.room();
                    self.journal.note(facts::recorder_out(room.as_ref()));
                }
                self.finish(refusal.nick(), State::Stopped)
            }
        }
    }

    /// Frames are kept from now on.
    fn go_on(&mut self) -> Result<(), Fault> {
        let Some(recording) = &self.recording else {
            return Ok(());
        };
        let epoch = self.session.admission.room().map(|room| room.epoch);
        let resumed = self.has_begun;
        let started = messages::started(&messages::Started {
            recording: recording.id(),
            path: recording.path(),
            claim: recording.facts().claim.to_string(),
            epoch,
            resumed,
            recovered: self.recovered.is_some() && !resumed,
        });
        let offset = self.recovered.unwrap_or(0);
        if resumed || self.recovered.is_some() {
            self.journal.note(Event::Resumed {
                epoch: epoch.unwrap_or(0),
            });
        }
        // In the log before the first frame is kept.
        self.flush()?;
        self.has_begun = true;
        self.session.keep(offset);
        self.report.state(State::Recording);
        self.report.post(started);
        for (pad, input) in self.report.inputs() {
            self.report.fulfil(&pad, input.needs_keyframe());
        }
        Ok(())
    }

    /// The gates are shut, so that no frame comes in any more: seals what came before.
    fn pause(&mut self, refusal: &Refusal) -> Result<(), Fault> {
        // That the keys are not taken yet is no reason for anybody; why they cannot be is told where it turns out.
        if *refusal == Refusal::NoKeys {
            return Ok(());
        }
        for (_, input) in self.report.inputs() {
            input.finish(&self.session);
        }
        self.write()?;
        if self.has_begun {
            self.journal
                .note(id(refusal.nick()).map(|cause| Event::Paused { cause }));
            self.flush()?;
            self.report.state(State::Paused);
        }
        let recording = self.recording.as_ref().map(Recording::id);
        let paused = messages::paused(recording, refusal.nick(), &refusal.to_string());
        self.report.post(paused);
        Ok(())
    }

    // Writing

    /// Writes what waits, and seals it.
    fn write(&mut self) -> Result<(), Fault> {
        let items = self.session.queue.take();
        let Some(recording) = &mut self.recording else {
            return Ok(());
        };
        if !items.is_empty() {
            let begun = Instant::now();
            for item in items {
                put(
                    recording,
                    &mut self.tracks,
                    &self.session,
                    &mut self.journal,
                    &self.report,
                    item,
                )?;
            }
            let sealed = recording.sync()?;
            let id = recording.id();
            self.session.stats.counts().sync_time = begun.elapsed();
            self.session.queue.done();
            self.tell_mirror(&sealed);
            self.tell_sealed(id, &sealed);
        }
        Ok(())
    }

    fn tell_sealed(&self, recording: crate::ids::RecordingId, sealed: &[Sealed]) {
        {
            let mut counts = self.session.stats.counts();
            counts.segments += u64::try_from(sealed.len()).unwrap_or(0);
            counts.sealed_bytes += sealed.iter().map(|sealed| sealed.bytes).sum::<u64>();
        }
        for sealed in sealed {
            self.report.post(messages::segment(recording, sealed));
        }
    }

    fn tell_root(&mut self, now: Instant) {
        if let Some(recording) = &self.recording
            && now.saturating_duration_since(self.root) >= ROOT
        {
            self.root = now;
            let root = recording.root();
            self.journal.note(Event::Manifest {
                lines: root.lines,
                root: root.root,
            });
        }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let flushed = self.journal.flush()?;
        self.session.stats.counts().unlogged = self.journal.unlogged();
        if let Flushed::Later(Some(warning)) = flushed {
            self.report.warning(&warning);
        }
        Ok(())
    }

    // The end

    /// Ends the recording, if there is one that has not ended.
    pub fn end(&mut self, end: End) {
        let cause = match end {
            End::EndOfStream => "eos",
            End::Stop => "stopped",
        };
        if !self.is_over {
            let ended = self.write().and_then(|()| self.finish(cause, State::Stopped));
            if let Err(fault) = ended {
                self.fail(&fault);
            }
        }
        if end == End::EndOfStream {
            self.report.stats();
            self.report.eos();
        }
    }

    fn finish(&mut self, cause: &str, state: State) -> Result<(), Fault> {
        self.session.end();
        self.is_over = true;
        if let Some(mut recording) = self.recording.take() {
            let unlogged = self.journal.unlogged();
            let note = match unlogged {
                0 => String::new(),
                _ => format!("; unanchored: the audit log did not take {unlogged} entries"),
            };
            let ended = recording.end(unix_ms(), &format!("{cause}{note}"));
            let (id, root) = (recording.id(), recording.root());
            drop(recording);
            self.release();
            self.tell_sealed(id, &ended?);
            self.journal.note(self::id(cause).map(|cause| Event::Stopped {
                cause,
                lines: root.lines,
                root: root.root,
            }));
            self.flush()?;
            self.report.post(messages::stopped(id, cause, root));
        }
        self.report.state(state);
        Ok(())
    }

    /// Ends the recording by a fault: what was sealed stays, the end record is written if that can be done at all.
    fn fail(&mut self, fault: &Fault) {
        let id = self.journal.recording();
        self.give_up();
        if let Some(mut recording) = self.recording.take()
            && let Err(error) = recording.end(unix_ms(), fault.cause)
        {
            gst::error!(CAT, "No end record could be written: {error}");
        }
        self.release();
        self.journal
            .note(self::id(fault.cause).map(|cause| Event::Failed {
                cause,
                reason: Text::lossy(&fault.reason),
            }));
        if let Err(error) = self.journal.flush() {
            gst::error!(CAT, "The failure is not logged: {error}");
        }
        self.session.stats.counts().unlogged = self.journal.unlogged();
        self.report.state(State::Failed);
        self.report.post(messages::failed(id, fault.cause, &fault.reason));
        self.report
            .error(&format!("the recording has ended by a fault: {}", fault.reason));
    }

    fn give_up(&mut self) {
        self.session.end();
        self.is_over = true;
    }
}

/// Writes one item. What belongs to a track that could not be opened is left out.
fn put(
    recording: &mut Recording,
    tracks: &mut HashMap<Key, Opened>,
    session: &Session,
    journal: &mut Journal,
    report: &Report,
    item: Item,
) -> Result<(), Fault> {
    match item {
        Item::Track(key, track) => {
            let (medium, leaf, sender) = (facts::medium(track.medium), track.leaf, id(&track.sender));
            let number = match recording.open_track(track) {
                Ok(number) => number,
                // One stream with impossible caps, or too many of them, is no reason to end all others.
                Err(RecordingError::Unfit(why)) => {
                    report.warning(&format!("a stream is not recorded: {why}"));
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            tracks.insert(key, Opened { number, leaf });
            session.stats.counts().tracks += 1;
            journal.note(sender.map(|sender| Event::TrackOpened {
                track: number.0,
                medium,
                sender,
                leaf,
            }));
        }
        Item::Member(key, member) => match tracks.get(&key) {
            Some(track) => {
                let segment = Segment {
                    bytes: member.bytes,
                    from_ns: member.from_ns,
                    to_ns: member.to_ns,
                    epoch: member.epochs,
                    leaf: track.leaf,
                    frames: member.frames,
                    keyframes: member.keyframes,
                };
                recording.append(track.number, segment)?;
            }
            None => {
                for _ in 0..member.frames {
                    session.stats.dropped(Cause::Unsupported);
                }
            }
        },
        Item::Gap(key, gap) => {
            if let Some(Opened { number, .. }) = tracks.get(&key) {
                report.post(messages::gap(recording.id(), *number, &gap));
                session.stats.counts().gaps += 1;
                journal.note(id(&gap.cause).map(|cause| Event::Gap {
                    track: number.0,
                    from_ns: gap.from_ns,
                    to_ns: gap.to_ns,
                    frames: gap.frames,
                    cause,
                }));
                recording.gap(*number, gap)?;
            }
        }
        Item::End(key) => {
            if let Some(Opened { number, .. }) = tracks.remove(&key) {
                recording.close_track(number)?;
            }
        }
    }
    Ok(())
}
