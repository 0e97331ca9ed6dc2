//! What `sframedec` remembers, apart from its settings. Bookkeeping only: nothing here pushes, posts or asks.

use super::opening::{Mode, Sealed};
use super::out_caps::OutCaps;
use crate::codec::FrameInfo;
use crate::glue::{self, Attached, CipherSuite};
use crate::hold::{Hold, Item};
use crate::key_file::KeyFile;
use crate::receiver::Receiver;
use gst_e2ee_common::rate_limit::RateLimit;
use std::time::{Duration, Instant};

/// So many replays without a fresh frame are no duplicates on the way.
const REPLAYS_OF_A_RESTART: u64 = 50;

/// Frames by what became of them.
#[derive(Default)]
pub struct Stats {
    pub opened: u64,
    pub bytes: u64,
    pub held: u64,
    pub no_key: u64,
    pub auth_failed: u64,
    pub replayed: u64,
    pub malformed: u64,
    pub wrong_sender: u64,
    pub waiting_keyframe: u64,
    pub keyframe_requests: u64,
    pub kid: u64,
    pub epoch: u64,
}

impl Stats {
    /// The counter of dropped frames with this cause.
    pub fn dropped(&mut self, cause: Cause) -> &mut u64 {
        match cause {
            Cause::NoKey => &mut self.no_key,
            Cause::AuthFailed => &mut self.auth_failed,
            Cause::Replayed => &mut self.replayed,
            Cause::Malformed => &mut self.malformed,
            Cause::WrongSender => &mut self.wrong_sender,
        }
    }

    /// As the property and the element message show it.
    pub fn structure(&self) -> gst::Structure {
        gst::Structure::builder("sframedec-stats")
            .field("opened", self.opened)
            .field("bytes", self.bytes)
            .field("auth-failed", self.auth_failed)
            .field("replayed", self.replayed)
            .field("no-key", self.no_key)
            .field("held", self.held)
            .field("malformed", self.malformed)
            .field("wrong-sender", self.wrong_sender)
            .field("waiting-keyframe", self.waiting_keyframe)
            .field("keyframe-requests", self.keyframe_requests)
            .field("kid", self.kid)
            .field("epoch", self.epoch)
            .build()
    }
}

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    NoKey,
    AuthFailed,
    Replayed,
    Malformed,
    WrongSender,
}

impl Cause {
    pub fn name(self) -> &'static str {
        match self {
            Self::NoKey => "no-key",
            Self::AuthFailed => "auth-failed",
            Self::Replayed => "replayed",
            Self::Malformed => "malformed",
            Self::WrongSender => "wrong-sender",
        }
    }
}

/// Where keys come from.
pub enum Keys {
    None,
    File(KeyFile, CipherSuite),
    Source(Attached),
}

/// One message per interval and kind.
pub struct Limits {
    pub key_missing: RateLimit,
    pub decrypt_failed: RateLimit,
    pub keyframe: RateLimit,
}

impl Default for Limits {
    fn default() -> Self {
        let limit = || RateLimit::new(glue::REPEAT_INTERVAL);
        Self {
            key_missing: limit(),
            decrypt_failed: limit(),
            keyframe: limit(),
        }
    }
}

/// All that one run of the element knows.
pub struct State {
    pub keys: Keys,
    pub receiver: Receiver,
    pub stream: Option<Stream>,
    /// Caps that could not be used.
    pub refused: Option<gst::Caps>,
    /// Since the last frame that opened.
    pub replayed_in_row: u64,
    pub hold: Hold<gst::Buffer, gst::Event>,
    pub hold_time: Duration,
    pub attach_meta: bool,
    /// What the sender authenticates besides each frame.
    pub metadata: Vec<u8>,
    /// The task pushes; see "Who pushes".
    pub holding: bool,
    /// The source pad is active. Apart from `flushing`: a FLUSH_STOP must not wake up an element that stops.
    pub active: bool,
    pub flushing: bool,
    /// What the task's last push returned.
    pub flow: Result<gst::FlowSuccess, gst::FlowError>,
    /// Seek that passed here and was taken by a source: its frames come again on purpose.
    pub seek: Option<gst::Seqnum>,
    pub limits: Limits,
    pub stats: Stats,
}

/// A stream between two CAPS events.
pub struct Stream {
    pub mode: Mode,
    pub video: bool,
    pub out: OutCaps,
    /// A frame was lost since the last one that was pushed.
    pub discont: bool,
    pub started: bool,
}

impl Stream {
    /// The stream ends before its caps were known: what waited for them goes without.
    pub fn give_up(&mut self) -> Vec<gst::Event> {
        if self.out.is_waiting() {
            self.out.give_up()
        } else {
            Vec::new()
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            keys: Keys::None,
            receiver: Receiver::new(0),
            stream: None,
            refused: None,
            replayed_in_row: 0,
            hold: Hold::new(0),
            hold_time: Duration::ZERO,
            attach_meta: true,
            metadata: Vec::new(),
            holding: false,
            active: false,
            flushing: false,
            flow: Ok(gst::FlowSuccess::Ok),
            seek: None,
            limits: Limits::default(),
            stats: Stats::default(),
        }
    }
}

/// What became of a sealed buffer.
pub enum Outcome {
    Opened(gst::Buffer, FrameInfo),
    /// The key of this KID is not there; it may come, so the frame comes back.
    NoKey(u64, gst::Buffer),
    Drop(Cause, u64),
}

impl State {
    /// Nothing may be pushed or started.
    pub fn is_flushing(&self) -> bool {
        self.flushing || !self.active
    }

    /// Only a key source can still get a key.
    pub fn may_hold(&self) -> bool {
        !self.is_flushing()
            && matches!(self.keys, Keys::Source(_))
            && self.hold.may_hold()
            && !self.hold_time.is_zero()
    }

    /// While nothing was opened yet a failure is most likely a mistake in the set-up: what to look at, once per cause.
    pub fn first_failure_hint(&mut self, cause: Cause, kid: u64) -> Option<String> {
        if cause == Cause::Replayed {
            self.replayed_in_row += 1;
            return (self.replayed_in_row == REPLAYS_OF_A_RESTART).then(|| {
                format!(
                    "only counters of KID {kid} arrive that are too old: if its sender lost its counter-file, give it a new \
                     kid, or restart this receiver"
                )
            });
        }
        if self.stats.opened > 0 || *self.stats.dropped(cause) > 1 {
            return None;
        }
        let hint = match (cause, &self.keys) {
            (Cause::NoKey, Keys::File(file, _)) => Some(format!(
                "frames are sealed with KID {kid}, key-file has {:?}: add a line for this KID",
                file.kids().collect::<Vec<_>>()
            )),
            (Cause::NoKey, _) => Some(format!("the key source has no key for KID {kid} (yet)")),
            (Cause::AuthFailed, _) => Some(format!(
                "frames of KID {kid} do not open: the sender has another key or another cipher-suite"
            )),
            (Cause::Malformed, _) => Some(
                "this is not SFrame: a depayloader (rtpsframedepay) may be missing, or the sender does not seal".into(),
            ),
            (Cause::Replayed | Cause::WrongSender, _) => None,
        };
        let mode = self.stream.as_ref().map(|stream| stream.mode);
        let more = if mode.is_some_and(|mode| mode.may_miss_clear_prefix()) {
            "; or the sender has clear-prefix=codec: set it here too"
        } else {
            ""
        };
        hint.map(|hint| hint + more)
    }

    /// Notes a request where one may be sent now.
    pub fn is_keyframe_request_due(&mut self) -> bool {
        let video = self.stream.as_ref().is_some_and(|stream| stream.video);
        let due = video && self.limits.keyframe.note(Instant::now()).is_some();
        self.stats.keyframe_requests += u64::from(due);
        due
    }

    /// Queues a frame.
    pub fn enqueue(&mut self, buffer: gst::Buffer) {
        self.stats.held += 1;
        let mode = self.stream.as_ref().map(|stream| stream.mode);
        let sealed = match (mode, buffer.map_readable()) {
            (Some(mode), Ok(bytes)) => Sealed::parse(&bytes, mode),
            _ => None,
        };
        let (kid, group) = sealed.map_or((0, None), |sealed| (sealed.header().kid, sealed.group));
        let size = buffer.size();
        let deadline = Instant::now() + self.hold_time;
        self.hold.push_frame(buffer, kid, size, group, deadline);
    }

    /// What the task can try, with its place in the queue: a leading event (`None`), else frames up to the next event
    /// that changes how frames are read, without those whose key is known to be missing.
    pub fn candidates(&self) -> Vec<(usize, Option<gst::Buffer>)> {
        if let Some(Item::Event(_)) = self.hold.get(0) {
            return vec![(0, None)];
        }
        (0..self.hold.len())
            .map_while(|at| match self.hold.get(at)? {
                Item::Frame { kid, .. } if self.receiver.is_missing(*kid) => Some(None),
                Item::Frame { frame, .. } => Some(Some((at, Some(frame.clone())))),
                Item::Event(event) => match event.type_() {
                    gst::EventType::Caps | gst::EventType::StreamStart | gst::EventType::Eos => None,
                    _ => Some(None),
                },
            })
            .flatten()
            .collect()
    }
}
