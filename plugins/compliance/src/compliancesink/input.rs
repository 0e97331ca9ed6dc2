//! One pad of the recorder: its frames, judged one by one, on their way into members; what is missing of them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst_e2ee_common::message_caps::kind_of;
use gst_e2ee_common::meta::{NO_LEAF, SFrameMeta};
use gst_e2ee_common::rate_limit::RateLimit;

use super::chain::{self, Chain, Fate, Frame, MAX_FRAME, Output};
use super::said;
use super::session::{Item, Key, Session};
use super::stats::Cause;
use crate::recording::{Gap, Medium, Track};

/// Keyframes are not asked for more often than this, and gaps that go on are told so often.
const REPEAT: Duration = Duration::from_secs(1);

/// What to do about frames without GstSFrameMeta.
const NO_EPOCH: &str = "frames that sframedec did not open are not recorded: nobody knows whether the room recorded when \
                        they were sealed. Put sframedec in front";

/// So many different gaps are remembered of a stream that has no track yet; then they become one.
const MAX_GAPS: usize = 16;

/// What is to be done when no lock is held.
#[derive(Default)]
pub struct Wish {
    /// Ask upstream for a keyframe.
    pub keyframe: bool,
    /// Tell the application that these frames cannot be recorded, and why.
    pub warning: Option<String>,
}

/// A pad.
pub struct Input {
    state: Mutex<State>,
    /// Does it take what people say? All of it goes into one track then.
    messages: bool,
}

struct State {
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    caps: Option<gst::Caps>,
    /// Content type and file name of the messages that come now.
    kind: Option<(String, String)>,
    /// Nothing can store these caps.
    unsupported: bool,
    /// It was said that frames come without an epoch.
    told_no_epoch: bool,
    stream: Option<Stream>,
    keyframes: RateLimit,
    eos: bool,
}

/// Frames of one caps and one sender.
struct Stream {
    /// The pad's.
    caps: gst::Caps,
    medium: Medium,
    chain: Option<Chain>,
    leaf: Option<u32>,
    sender: String,
    /// Its latest track, if it has one.
    key: Option<Key>,
    gaps: Vec<Missing>,
    /// Where the next frame should begin, for those that have no time.
    next_ns: u64,
    /// Where the latest frame ended that was to be kept. None: nobody knows what came before.
    heard_ns: Option<u64>,
}

/// A gap under way.
struct Missing {
    cause: Cause,
    from_ns: u64,
    to_ns: u64,
    frames: u64,
    since: Instant,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            messages: false,
            state: Mutex::new(State {
                segment: None,
                caps: None,
                kind: None,
                unsupported: false,
                told_no_epoch: false,
                stream: None,
                keyframes: RateLimit::new(REPEAT),
                eos: false,
            }),
        }
    }
}

impl Input {
    /// A pad for what people say.
    pub fn for_messages() -> Self {
        Self {
            messages: true,
            ..Self::default()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a frame, or drops it.
    pub fn frame(&self, session: &Session, buffer: gst::Buffer, now: Instant) -> Wish {
        let meta = SFrameMeta::of(&buffer);
        let may_keep = session.may_keep(meta.as_ref());
        let mut state = self.state();
        if let Err(cause) = may_keep {
            session.stats.dropped(cause);
            if let Some(stream) = &mut state.stream {
                stream.heard_ns = None;
                if let Some(chain) = &mut stream.chain {
                    chain.note_drop();
                }
            }
            let is_unknown = cause == Cause::NoEpoch && !std::mem::replace(&mut state.told_no_epoch, true);
            return Wish {
                keyframe: false,
                warning: is_unknown.then(|| NO_EPOCH.to_owned()),
            };
        }
        if !self.messages {
            return state.take(session, meta, buffer, now);
        }
        match state.said(meta, &buffer) {
            Ok((meta, buffer)) => state.take(session, Some(meta), buffer, now),
            Err(why) => {
                session.stats.dropped(Cause::Unsupported);
                Wish {
                    keyframe: false,
                    warning: Some(why),
                }
            }
        }
    }

    /// What comes now has these caps.
    pub fn set_caps(&self, session: Option<&Session>, caps: gst::Caps) {
        let mut state = self.state();
        if self.messages {
            state.kind = kind_of(&caps);
            return;
        }
        if state.caps.as_ref() == Some(&caps) {
            return;
        }
        state.end_stream(session);
        state.unsupported = false;
        state.caps = Some(caps);
    }

    /// What comes now has its times in this segment.
    pub fn set_segment(&self, segment: &gst::Segment) {
        self.state().segment = segment.downcast_ref().cloned();
    }

    /// Upstream says that something is missing.
    pub fn missing(
        &self,
        session: &Session,
        timestamp: gst::ClockTime,
        duration: Option<gst::ClockTime>,
        now: Instant,
    ) {
        let mut state = self.state();
        let running = state
            .segment
            .as_ref()
            .and_then(|segment| segment.to_running_time(timestamp));
        let time = running.and_then(|running| session.time(running));
        let (Some(time_ns), Some(stream)) = (time, &mut state.stream) else {
            return;
        };
        // Text is sparse: that there is none for a while says nothing.
        if stream.key.is_some() && stream.medium != Medium::Text {
            session.stats.dropped(Cause::Upstream);
            // A jitter buffer that does not know how far apart the frames are tells only where it goes on.
            let end_ns = time_ns.saturating_add(duration.map_or(0, gst::ClockTime::nseconds));
            let from_ns = stream.heard_ns.map_or(time_ns, |heard| heard.min(time_ns));
            let duration = gst::ClockTime::from_nseconds(end_ns - from_ns);
            stream.miss(session, Cause::Upstream, from_ns, Some(duration), now);
        }
    }

    /// The stream that came so far has ended: finishes its members.
    pub fn end_stream(&self, session: Option<&Session>) {
        self.state().end_stream(session);
    }

    /// Finishes the member under way and tells the gaps, but expects more.
    pub fn finish(&self, session: &Session) {
        if let Some(stream) = &mut self.state().stream {
            stream.finish_member(session);
            stream.tell_gaps(session);
        }
    }

    /// What came is dropped until a keyframe comes; asks for one where it is video.
    pub fn needs_keyframe(&self) -> Wish {
        let mut state = self.state();
        if let Some(chain) = state.stream.as_mut().and_then(|stream| stream.chain.as_mut()) {
            chain.note_drop();
        }
        Wish {
            keyframe: state.caps.as_ref().map(medium) == Some(Medium::Video),
            warning: None,
        }
    }

    /// Does what time brings about.
    pub fn tick(&self, session: &Session, now: Instant) {
        if let Some(stream) = &mut self.state().stream {
            stream.finish_if_due(session, now);
            let is_old = |gap: &Missing| now.saturating_duration_since(gap.since) >= REPEAT;
            if stream.gaps.first().is_some_and(is_old) {
                stream.tell_gaps(session);
            }
        }
    }

    /// Does it take what people say?
    pub fn is_for_messages(&self) -> bool {
        self.messages
    }

    /// Has it ended, until a flush or a new stream?
    pub fn is_eos(&self) -> bool {
        self.state().eos
    }

    /// It ended, or begins anew.
    pub fn set_eos(&self, eos: bool) {
        self.state().eos = eos;
    }
}

impl State {
    /// A message as its track keeps it. The track is nobody's: who said what stands in the lines.
    fn said(
        &mut self,
        meta: Option<SFrameMeta>,
        buffer: &gst::BufferRef,
    ) -> Result<(SFrameMeta, gst::Buffer), String> {
        let (Some(meta), Some((content_type, name))) = (meta, &self.kind) else {
            return Err("a message without its sender, or without caps, is not recorded".into());
        };
        let body = buffer.map_readable().map_err(|error| error.to_string())?;
        let leaf = Some(meta.leaf).filter(|leaf| *leaf != NO_LEAF);
        let line = said::line(&meta.sender, leaf, content_type, name, &body)?;
        if self.caps.is_none() {
            self.caps = Some(said::CAPS.parse().map_err(|_| "there are no caps of a text")?);
        }
        let mut text = gst::Buffer::from_mut_slice(line);
        if let Some(text) = text.get_mut() {
            text.set_pts(buffer.pts());
        }
        let meta = SFrameMeta {
            leaf: NO_LEAF,
            sender: String::new(),
            ..meta
        };
        Ok((meta, text))
    }

    fn take(
        &mut self,
        session: &Session,
        meta: Option<SFrameMeta>,
        buffer: gst::Buffer,
        now: Instant,
    ) -> Wish {
        let (epoch, leaf, sender) = match meta {
            Some(meta) => (
                meta.epoch,
                Some(meta.leaf).filter(|leaf| *leaf != NO_LEAF),
                meta.sender,
            ),
            None => (0, None, String::new()),
        };
        // Each sender has tracks of its own.
        let is_of = |stream: &Stream| stream.leaf == leaf && stream.sender == sender;
        if !self.stream.as_ref().is_some_and(is_of) {
            self.end_stream(Some(session));
        }
        let time = self.time(session, &buffer);
        let mut warning = None;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty => {
                let caps = self.caps.clone().unwrap_or_else(gst::Caps::new_empty);
                let chain = (!self.unsupported).then(|| chain(&caps, session));
                let chain = chain.and_then(|chain| chain.inspect_err(|why| warning = Some(why.clone())).ok());
                self.unsupported = chain.is_none();
                empty.insert(Stream {
                    medium: medium(&caps),
                    caps,
                    chain,
                    leaf,
                    sender,
                    key: None,
                    gaps: Vec::new(),
                    next_ns: 0,
                    heard_ns: None,
                })
            }
        };
        let duration = buffer.duration();
        let time_ns = time.unwrap_or(stream.next_ns);
        let end_ns = time_ns.saturating_add(duration.map_or(0, gst::ClockTime::nseconds));
        stream.heard_ns = Some(stream.heard_ns.map_or(end_ns, |heard| heard.max(end_ns)));
        let size = buffer.size();
        let cause = match &mut stream.chain {
            None => Cause::Unsupported,
            Some(_) if time.is_none() => Cause::NoTime,
            Some(_) if size > MAX_FRAME => Cause::TooLarge,
            Some(_) if !session.queue.has_room(size, now) => Cause::QueueFull,
            Some(chain) => {
                let frame = Frame {
                    buffer,
                    time_ns,
                    epoch,
                    came: now,
                    held: session.queue.level().hold(size),
                };
                if chain.began().is_some_and(|came| session.deadline(came) <= now) {
                    stream.finish_member(session);
                }
                match stream.push(session, frame, size) {
                    Ok(Fate::Kept) => {
                        stream.next_ns = end_ns;
                        return Wish::default();
                    }
                    Ok(Fate::WaitsForKeyframe) => Cause::WaitingKeyframe,
                    Err(why) => {
                        warning = Some(why);
                        stream.finish_member(session);
                        stream.chain = None;
                        self.unsupported = true;
                        Cause::Unsupported
                    }
                }
            }
        };
        session.stats.dropped(cause);
        stream.miss(session, cause, time_ns, duration, now);
        let mut keyframe = false;
        match &mut stream.chain {
            None => stream.begin_track_of_gaps(session),
            Some(chain) => {
                chain.note_drop();
                keyframe = stream.medium == Medium::Video && self.keyframes.note(now).is_some();
            }
        }
        Wish { keyframe, warning }
    }

    /// When a frame is shown, on the recording's clock.
    fn time(&self, session: &Session, buffer: &gst::BufferRef) -> Option<u64> {
        let timestamp = buffer.pts().or(buffer.dts())?;
        session.time(self.segment.as_ref()?.to_running_time(timestamp)?)
    }

    fn end_stream(&mut self, session: Option<&Session>) {
        let (Some(mut stream), Some(session)) = (self.stream.take(), session) else {
            return;
        };
        stream.finish_member(session);
        if !stream.gaps.is_empty() {
            stream.begin_track_of_gaps(session);
        }
        stream.tell_gaps(session);
        if let Some(key) = stream.key {
            session.queue.push(Item::End(key), Instant::now());
        }
    }
}

/// What a pad with these caps carries.
fn medium(caps: &gst::Caps) -> Medium {
    match caps
        .structure(0)
        .and_then(|structure| structure.name().split('/').next())
    {
        Some("audio") => Medium::Audio,
        Some("video") => Medium::Video,
        Some("text") => Medium::Text,
        _ => Medium::Data,
    }
}

fn chain(caps: &gst::Caps, session: &Session) -> Result<Chain, String> {
    if !caps.is_subset(&chain::recordable()) {
        return Err(format!(
            "{caps} cannot be recorded; what can is {}",
            chain::recordable()
        ));
    }
    Chain::new(
        caps,
        u64::try_from(session.segment().as_nanos()).unwrap_or(u64::MAX),
    )
}

impl Stream {
    /// Puts a frame into the chain and what is finished into the queue.
    fn push(&mut self, session: &Session, frame: Frame, size: usize) -> Result<Fate, String> {
        let Some(chain) = &mut self.chain else {
            return Err(String::new());
        };
        let mut output = Vec::new();
        let fate = chain.push(frame, &mut output);
        for output in output {
            match output {
                Output::Track(stored) => self.begin_track(session, &stored),
                Output::Member(member) => self.put(session, |key| Item::Member(key, member)),
            }
        }
        if fate == Ok(Fate::Kept) {
            let mut counts = session.stats.counts();
            counts.frames += 1;
            counts.bytes += u64::try_from(size).unwrap_or(u64::MAX);
            drop(counts);
            self.tell_gaps(session);
        }
        fate
    }

    fn put(&self, session: &Session, item: impl FnOnce(Key) -> Item) {
        if let Some(key) = self.key {
            session.queue.push(item(key), Instant::now());
        }
    }

    fn begin_track(&mut self, session: &Session, caps: &gst::Caps) {
        self.put(session, Item::End);
        self.key = Some(session.new_key());
        let mut caps = caps.clone();
        // What a codec needs to begin stands in the header. These could hold more than caps should show to everybody.
        caps.make_mut().iter_mut().for_each(|structure| {
            structure.remove_fields(["codec_data", "streamheader"]);
        });
        let track = Track {
            medium: self.medium,
            caps: caps.to_string(),
            leaf: self.leaf,
            sender: self.sender.clone(),
        };
        self.put(session, |key| Item::Track(key, track));
    }

    /// A track that tells what of it is not there, and holds nothing.
    fn begin_track_of_gaps(&mut self, session: &Session) {
        if self.key.is_none() {
            let caps = self.caps.clone();
            self.begin_track(session, &caps);
        }
    }

    fn finish_if_due(&mut self, session: &Session, now: Instant) {
        let came = self.chain.as_ref().and_then(Chain::began);
        if came.is_some_and(|came| session.deadline(came) <= now) {
            self.finish_member(session);
        }
    }

    fn finish_member(&mut self, session: &Session) {
        let member = self.chain.as_mut().map(Chain::finish_member);
        match member {
            Some(Ok(Some(member))) => self.put(session, |key| Item::Member(key, member)),
            Some(Ok(None)) | None => {}
            // What the muxer made was not Matroska: as good as no frame. The next one says so.
            Some(Err(why)) => gst::error!(super::CAT, "{why}"),
        }
    }

    /// Notes that something is missing from then on.
    fn miss(
        &mut self,
        session: &Session,
        cause: Cause,
        time_ns: u64,
        duration: Option<gst::ClockTime>,
        now: Instant,
    ) {
        let to_ns = time_ns.saturating_add(duration.map_or(0, gst::ClockTime::nseconds));
        if self.gaps.last().is_some_and(|gap| gap.cause != cause) && self.key.is_some() {
            self.tell_gaps(session);
        }
        let is_full = self.gaps.len() >= MAX_GAPS;
        match self.gaps.last_mut() {
            Some(gap) if gap.cause == cause || is_full => {
                gap.from_ns = gap.from_ns.min(time_ns);
                gap.to_ns = gap.to_ns.max(to_ns);
                gap.frames += 1;
            }
            _ => self.gaps.push(Missing {
                cause,
                from_ns: time_ns,
                to_ns,
                frames: 1,
                since: now,
            }),
        }
    }

    /// Puts the gaps into the queue, where they have a track.
    fn tell_gaps(&mut self, session: &Session) {
        if self.key.is_none() {
            return;
        }
        for gap in std::mem::take(&mut self.gaps) {
            let gap = Gap {
                from_ns: gap.from_ns,
                to_ns: gap.to_ns,
                frames: gap.frames,
                cause: gap.cause.nick().to_owned(),
            };
            self.put(session, |key| Item::Gap(key, gap));
        }
    }
}
