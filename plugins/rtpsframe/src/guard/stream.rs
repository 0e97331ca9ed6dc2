//! One stream: is it SFrame, and does it stay so?
//!
//! ```text
//!             proof-frames starts of one KID, counters advancing
//!   proving ───────────────────────────────────────────────────▶ proven
//!      ▲ each violation, change of KID or leap of the counter        │
//!      │ begins the proof anew and makes it one start longer         │ a new KID proves itself meanwhile
//!      └─────────────────────────────────────────────────────────────┘
//!                        8 violations in a row
//! ```
//!
//! What is held is given up where a proof begins anew, but for the first changes of KID of a stream that never broke the
//! form: keys change just when people come, and that is when streams begin.

use gst_e2ee_common::header::Header;

use super::Cause;
use super::form::{Form, MIN_TAG};
use super::sequence::{Arrival, Sequence};

/// Farthest that a counter moves between two frames that a proof counts: one sender's streams may share a counter.
const MAX_ADVANCE: u64 = 65_536;
/// Violations in a row after which a proven stream must prove itself again.
const MAX_STRIKES: u8 = 8;
/// New KIDs that may follow each other without any of them proving itself: epochs change quickly while a call
/// fills. Bytes that are no header at all look like a new KID in nearly every packet.
const MAX_KID_CHANGES: u8 = 4;
/// New KIDs of a stream without proof that cost it nothing of what is held. What is no SFrame at all has more.
const MAX_FORGIVEN: u8 = 2;
/// Violations of a stream without proof that are no accident.
const UNSEALED_VIOLATIONS: u64 = 3;
/// Longest extension of a proof, in frame starts.
const MAX_SETBACKS: u8 = 8;

/// What an RTP header says, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub seq: u16,
    pub timestamp: u32,
    pub payload_type: u8,
    pub bytes: usize,
}

/// What becomes of a packet that has the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// It passes.
    Pass,
    /// It waits.
    Hold,
    /// It waits, and what waited before it is in vain.
    Restart,
    /// It completes the proof.
    Proven,
}

/// Counts of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Frame starts that passed.
    pub frames: u64,
    /// Bytes that passed, RTP headers included.
    pub bytes: u64,
    /// Packets that are missing in the sequence.
    pub lost: u64,
    /// Packets that came after a newer one, and duplicates.
    pub reordered: u64,
    /// Packets that broke the form.
    pub violations: u64,
}

impl StreamStats {
    /// Counts a packet that passes.
    pub fn passed(&mut self, start: bool, bytes: usize) {
        self.frames += u64::from(start);
        self.bytes += bytes as u64;
    }
}

/// Whether the next packet may be a fragment without a start.
#[derive(Debug, Clone, Copy, Default)]
enum Run {
    /// It was lost, or nothing is known yet: the rest of one frame may follow.
    #[default]
    Unknown,
    /// The rest of the frame with this timestamp follows; its start never came.
    Orphan { timestamp: u32 },
    /// The frame that started must go on; so many bytes are missing until it has room for a tag.
    Open { like: Fragment, missing: usize },
    /// The last frame ended.
    Closed,
    /// The frame was refused; its other fragments go with it and tell nothing new.
    Refused { timestamp: u32 },
}

/// What the fragments of a frame have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fragment {
    timestamp: u32,
    payload_type: u8,
    per_packet: bool,
}

/// The counter of one KID.
#[derive(Debug, Clone, Copy)]
struct Track {
    kid: u64,
    last: u64,
    /// Frame starts that advanced it, the first included.
    starts: u32,
}

impl Track {
    fn new(header: Header) -> Self {
        Self {
            kid: header.kid,
            last: header.ctr,
            starts: 1,
        }
    }
}

/// See the module's drawing.
#[derive(Debug, Default)]
pub struct Stream {
    pub stats: StreamStats,
    sequence: Sequence,
    run: Run,
    proven: bool,
    ever_proven: bool,
    kid: u64,
    /// The KID that is proven, or proves the stream.
    current: Option<Track>,
    /// A new KID of a proven stream.
    pending: Option<Track>,
    kid_changes: u8,
    strikes: u8,
    setbacks: u8,
    /// Broke the form, and no counter has advanced since.
    doubt: bool,
}

impl Stream {
    /// Whether its packets pass.
    pub fn proven(&self) -> bool {
        self.proven
    }

    /// Nothing of it was ever proven, and more is wrong than one damaged packet or a change of the key: how many
    /// packets.
    pub fn looks_unsealed(&self) -> Option<u64> {
        let broken = self.stats.violations >= UNSEALED_VIOLATIONS || self.setbacks == MAX_SETBACKS;
        (broken && !self.ever_proven).then_some(self.stats.violations.max(self.setbacks.into()))
    }

    /// KID of the newest accepted frame start; 0 before.
    pub fn kid(&self) -> u64 {
        self.kid
    }

    /// The next packet may be anywhere in the sequence.
    pub fn flush(&mut self) {
        self.sequence.forget();
        self.run = Run::Unknown;
    }

    /// A packet that carries nothing has used a sequence number.
    pub fn skip(&mut self, seq: u16) {
        if self.sequence.classify(seq) == (Arrival::Next { missing: 0 }) {
            self.sequence.note(seq);
        }
    }

    /// Judges a packet: `needed` frame starts prove the stream.
    pub fn judge(
        &mut self,
        packet: &Packet,
        form: Result<Form, Cause>,
        needed: u32,
    ) -> Result<Judged, Cause> {
        let arrival = self.sequence.classify(packet.seq);
        match (arrival, form) {
            (Arrival::Duplicate, _) => {
                self.stats.reordered += 1;
                Err(Cause::Duplicate)
            }
            (Arrival::Late, Ok(_)) => {
                self.sequence.note(packet.seq);
                self.stats.reordered += 1;
                // It was counted as lost when a newer one came.
                self.stats.lost = self.stats.lost.saturating_sub(1);
                Ok(self.pass_or_hold())
            }
            (Arrival::Late, Err(cause)) => Err(self.violation(cause, true)),
            (Arrival::Jump, Ok(form)) if form.start.is_none() => {
                Err(self.violation(Cause::SequenceJump, true))
            }
            (Arrival::First | Arrival::Next { .. } | Arrival::Jump, form) => {
                let run = self.run;
                if arrival != (Arrival::Next { missing: 0 }) {
                    self.run = Run::Unknown;
                }
                if let Arrival::Next { missing } = arrival {
                    self.stats.lost += u64::from(missing);
                }
                let judged = form.and_then(|form| self.judge_newer(packet, form, needed));
                if let (Err(cause), Arrival::Jump) = (judged, arrival) {
                    // It says nothing about where the stream is.
                    self.run = run;
                    return Err(self.violation(cause, true));
                }
                self.sequence.note(packet.seq);
                judged.map_err(|cause| self.refuse_frame(packet.timestamp, cause))
            }
        }
    }

    /// A packet newer than all before.
    fn judge_newer(&mut self, packet: &Packet, form: Form, needed: u32) -> Result<Judged, Cause> {
        let like = Fragment {
            timestamp: packet.timestamp,
            payload_type: packet.payload_type,
            per_packet: form.per_packet,
        };
        let Some(header) = form.start else {
            self.run = self.continue_run(like, form)?;
            return Ok(self.pass_or_hold());
        };
        // Receivers take the shortest run, so a broken one does no harm; but it proves nothing.
        if !self.proven && matches!(self.run, Run::Open { .. }) {
            return Err(Cause::Unfinished);
        }
        let judged = self.judge_start(header, needed)?;
        self.kid = header.kid;
        self.run = match form.end {
            true => Run::Closed,
            false => Run::Open {
                like,
                missing: MIN_TAG.saturating_sub(form.sealed),
            },
        };
        Ok(judged)
    }

    /// Where a run is after a fragment that is not its first.
    fn continue_run(&self, like: Fragment, form: Form) -> Result<Run, Cause> {
        let next = match self.run {
            Run::Open { like: first, .. } if first != like => return Err(Cause::MixedFrame),
            Run::Open { missing, .. } => {
                let missing = missing.saturating_sub(form.sealed);
                if form.end && missing > 0 {
                    return Err(Cause::TooShort);
                }
                Run::Open { like, missing }
            }
            // A stream that has just broken the form gets no benefit of the doubt.
            Run::Unknown | Run::Orphan { .. } if self.doubt => return Err(Cause::NoStart),
            Run::Orphan { timestamp } if timestamp != like.timestamp => return Err(Cause::NoStart),
            Run::Unknown | Run::Orphan { .. } => Run::Orphan {
                timestamp: like.timestamp,
            },
            Run::Closed | Run::Refused { .. } => return Err(Cause::NoStart),
        };
        Ok(if form.end { Run::Closed } else { next })
    }

    fn judge_start(&mut self, header: Header, needed: u32) -> Result<Judged, Cause> {
        if self.proven {
            self.judge_proven_start(header, needed)?;
            return Ok(Judged::Pass);
        }
        let mut judged = Judged::Hold;
        match &mut self.current {
            Some(track) if track.kid == header.kid && header.ctr <= track.last => return Err(Cause::Counter),
            Some(track) if track.kid == header.kid && header.ctr - track.last <= MAX_ADVANCE => {
                track.last = header.ctr;
                track.starts = track.starts.saturating_add(1);
                self.doubt = false;
            }
            Some(track) => {
                let new_key = track.kid != header.kid;
                *track = Track::new(header);
                self.setbacks = MAX_SETBACKS.min(self.setbacks + 1);
                self.kid_changes = self.kid_changes.saturating_add(1);
                // Somebody joined just as the stream began: its first keyframe still counts.
                let forgiven = new_key && self.stats.violations == 0 && self.kid_changes <= MAX_FORGIVEN;
                if !forgiven {
                    judged = Judged::Restart;
                }
            }
            None => self.current = Some(Track::new(header)),
        }
        let needed = needed.saturating_add(u32::from(self.setbacks));
        if self.current.is_some_and(|track| track.starts >= needed) {
            self.proven = true;
            self.ever_proven = true;
            self.kid_changes = 0;
            self.setbacks = 0;
            self.strikes = 0;
            self.doubt = false;
            judged = Judged::Proven;
        }
        Ok(judged)
    }

    fn judge_proven_start(&mut self, header: Header, needed: u32) -> Result<(), Cause> {
        if let Some(track) = self.current.as_mut().filter(|t| t.kid == header.kid) {
            if header.ctr <= track.last {
                return Err(Cause::Counter);
            }
            track.last = header.ctr;
            self.strikes = 0;
            self.doubt = false;
            return Ok(());
        }
        match self.pending.as_mut().filter(|t| t.kid == header.kid) {
            Some(track) if header.ctr <= track.last => return Err(Cause::Counter),
            Some(track) if header.ctr - track.last <= MAX_ADVANCE => {
                track.last = header.ctr;
                track.starts = track.starts.saturating_add(1);
                self.strikes = 0;
                self.doubt = false;
            }
            _ => {
                self.pending = Some(Track::new(header));
                self.kid_changes = self.kid_changes.saturating_add(1);
                if self.kid_changes > MAX_KID_CHANGES {
                    return Err(Cause::KidChanges);
                }
            }
        }
        if self.pending.is_some_and(|track| track.starts >= needed) {
            self.current = self.pending.take();
            self.kid_changes = 0;
        }
        Ok(())
    }

    fn pass_or_hold(&self) -> Judged {
        if self.proven { Judged::Pass } else { Judged::Hold }
    }

    /// Counts a violation that refuses the frame with this timestamp; what is left of a refused frame does not
    /// count against the stream again.
    fn refuse_frame(&mut self, timestamp: u32, cause: Cause) -> Cause {
        let again = matches!(self.run, Run::Refused { timestamp: t } if t == timestamp);
        self.run = Run::Refused { timestamp };
        self.violation(cause, !again || cause != Cause::NoStart)
    }

    fn violation(&mut self, cause: Cause, strike: bool) -> Cause {
        self.stats.violations += 1;
        self.doubt = true;
        if !strike {
            return cause;
        }
        if self.proven {
            self.strikes += 1;
            if self.strikes < MAX_STRIKES {
                return cause;
            }
            self.proven = false;
            self.pending = None;
            self.kid_changes = 0;
        } else {
            self.setbacks = MAX_SETBACKS.min(self.setbacks + 1);
        }
        self.current = None;
        cause
    }
}
