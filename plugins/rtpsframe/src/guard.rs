//! What a relay without keys can know of SFrame: form. [`Guard`] looks at packets, holds each stream until it has
//! proven that it has SFrame's form, and from then on lets pass what keeps it.
//!
//! Sans-IO: bytes and the time go in, a [`Verdict`] comes out. The held items are opaque (`T`), so that nothing
//! here knows GStreamer. Whatever the bytes are, it must not panic, and its memory is bounded by
//! [`Config::max_streams`] and [`Config::max_held_bytes`].
//!
//! What it must never do: let a packet pass that it did not understand, or release what was held before a stream
//! broke the form. What it cannot do: tell ciphertext from plaintext that somebody dressed up as SFrame.

mod form;
mod rtcp;
mod sequence;
mod stream;
mod table;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use gst_e2ee_common::rate_limit::RateLimit;
use rtp_types::RtpPacket;

pub use form::{Clear, Format};
pub use stream::StreamStats;

use form::Form;
use stream::{Judged, Packet};
use table::{Held, Table};

/// What one held item costs beyond its own bytes (the buffer's bookkeeping): a flood of tiny packets must not
/// take many times the limit.
pub const HELD_OVERHEAD: usize = 256;

/// No single item counts for more, so that sums stay sums.
const MAX_MEMORY: usize = 1 << 30;

/// The stream id of input that is not RTP.
pub const FRAMES_SSRC: u32 = 0;

/// In formats without a descriptor byte a plain codec's own first bytes stand where the SFrame header would be,
/// and a loop filter level that rises for three frames looks like a counter. One-byte headers hold counters up to
/// 7, so that four times the default is more than they can imitate.
const NO_DESCRIPTOR_FACTOR: u32 = 4;

/// What arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// RTP packets, with RTCP among them (RFC 5761).
    Rtp(Format),
    /// Whole sealed frames of one stream.
    Frames(Clear),
}

/// Limits and rules; may change between packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What arrives.
    pub input: Input,
    /// Frame starts of one KID, with advancing counters, that prove a stream.
    pub proof_frames: u32,
    /// Streams that are remembered.
    pub max_streams: usize,
    /// Bytes held for all streams together, [`HELD_OVERHEAD`] for each packet included.
    pub max_held_bytes: usize,
    /// Whether RTCP passes.
    pub allow_rtcp: bool,
    /// Payload types of retransmissions (RFC 4588), one bit each.
    pub rtx_payload_types: u128,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            input: Input::Rtp(Format::Descriptor),
            proof_frames: 3,
            max_streams: 256,
            max_held_bytes: 8 * 1024 * 1024,
            allow_rtcp: true,
            rtx_payload_types: 0,
        }
    }
}

impl Config {
    fn needed_starts(&self) -> u32 {
        match self.input {
            Input::Rtp(Format::Descriptor) | Input::Frames(_) => self.proof_frames,
            Input::Rtp(_) => self.proof_frames.saturating_mul(NO_DESCRIPTOR_FACTOR),
        }
    }
}

/// Why a packet does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Neither RTP nor RTCP of version 2, or its lengths do not fit.
    NotRtp,
    /// The packet type is RTCP's, the rest is not.
    NotRtcp,
    /// RTCP, which the configuration does not let pass.
    RtcpNotAllowed,
    /// No payload (probes that consist of padding): nothing to check.
    EmptyPayload,
    /// Bits that must be zero are set in the payload descriptor.
    ReservedBits,
    /// The SFrame header is cut short or not minimally encoded.
    Header,
    /// Less than header and tag.
    TooShort,
    /// The codec's clear bytes before the header are not that codec's.
    ClearPrefix,
    /// A marker bit before the frame's last packet.
    EarlyMarker,
    /// A fragment without a beginning, and nothing was lost before it.
    NoStart,
    /// A frame begins before the last one ended.
    Unfinished,
    /// Fragments of one frame differ in timestamp, payload type or kind.
    MixedFrame,
    /// The counter does not advance.
    Counter,
    /// The KID changes again and again, and none of them proves itself.
    KidChanges,
    /// A sequence number far from the stream's, and no new frame starts there.
    SequenceJump,
    /// The same sequence number again.
    Duplicate,
    /// A retransmission while no stream has proven itself.
    RtxUnproven,
}

impl Cause {
    /// The name in messages; stable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRtp => "not-rtp",
            Self::NotRtcp => "not-rtcp",
            Self::RtcpNotAllowed => "rtcp-not-allowed",
            Self::EmptyPayload => "empty-payload",
            Self::ReservedBits => "reserved-bits",
            Self::Header => "sframe-header",
            Self::TooShort => "too-short",
            Self::ClearPrefix => "clear-prefix",
            Self::EarlyMarker => "early-marker",
            Self::NoStart => "fragment-without-start",
            Self::Unfinished => "unfinished-frame",
            Self::MixedFrame => "mixed-frame",
            Self::Counter => "counter-not-advancing",
            Self::KidChanges => "kid-changes",
            Self::SequenceJump => "sequence-jump",
            Self::Duplicate => "duplicate",
            Self::RtxUnproven => "rtx-unproven",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A violation that is worth telling, and how many there were since the last one that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The stream; 0 where the packet names none.
    pub ssrc: u32,
    /// Violations of all streams since the last report.
    pub count: u64,
    /// Why the last of them did not pass.
    pub cause: Cause,
}

/// A stream that has never been SFrame and probably is not meant to be, or not as the configuration has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsealed {
    /// The stream.
    pub ssrc: u32,
    /// How many of its packets broke the form or its proof.
    pub packets: u64,
    /// Why the last of them did not pass.
    pub cause: Cause,
}

/// What to do with a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// Pass it on.
    Forward,
    /// The guard keeps it.
    Hold,
    /// Its stream has proven itself: pass on these, the oldest first, then the packet.
    Release(Vec<T>),
    /// Drop it.
    Drop {
        /// Why.
        cause: Cause,
        /// A violation to tell the application of; at most one a second.
        report: Option<Report>,
    },
}

/// What happened to all packets since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets that arrived.
    pub packets: u64,
    /// Packets that passed, RTCP, retransmissions and released ones included.
    pub forwarded: u64,
    /// Their bytes.
    pub forwarded_bytes: u64,
    /// RTCP packets that passed.
    pub rtcp: u64,
    /// Retransmissions that passed.
    pub rtx: u64,
    /// Packets that were held and passed after their stream's proof.
    pub released: u64,
    /// Packets that broke the form.
    pub violations: u64,
    /// RTCP packets that were not allowed.
    pub dropped_rtcp: u64,
    /// Packets without a payload.
    pub dropped_empty: u64,
    /// Packets that had arrived before.
    pub dropped_duplicate: u64,
    /// Held packets of streams that did not prove themselves: they broke the form, changed their key, were
    /// forgotten or ended; and retransmissions before any stream was proven.
    pub dropped_unproven: u64,
    /// Held packets that gave way to newer ones because of the limit.
    pub dropped_overflow: u64,
    /// Streams that were forgotten because of the limit.
    pub evicted_streams: u64,
}

impl Totals {
    /// Packets that did not pass, for whatever reason.
    pub fn dropped(&self) -> u64 {
        self.violations
            + self.dropped_rtcp
            + self.dropped_empty
            + self.dropped_duplicate
            + self.dropped_unproven
            + self.dropped_overflow
    }
}

/// State of one stream for statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamReport {
    /// The stream; [`FRAMES_SSRC`] where the input is not RTP.
    pub ssrc: u32,
    /// KID of the newest frame start that was accepted, 0 before.
    pub kid: u64,
    /// Whether its packets pass.
    pub proven: bool,
    /// Packets that are held now.
    pub held: usize,
    /// Counts.
    pub stats: StreamStats,
}

/// The guard of one pad.
#[derive(Debug)]
pub struct Guard<T> {
    config: Config,
    table: Table<T>,
    totals: Totals,
    reports: RateLimit,
    unsealed: Once<Unsealed>,
    /// Stands in for the sequence number where the input has none.
    frame_number: u16,
}

impl<T> Guard<T> {
    /// A guard that knows no stream yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            table: Table::new(),
            totals: Totals::default(),
            reports: RateLimit::new(Duration::from_secs(1)),
            unsealed: Once::Never,
            frame_number: 0,
        }
    }

    /// The rules in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes the rules for the packets that follow. Other input makes it forget all streams: what was proven was
    /// proven in another form.
    pub fn set_config(&mut self, config: Config) {
        if config.input != self.config.input {
            self.totals.dropped_unproven += self.table.drop_all_held();
            self.table = Table::new();
        }
        self.config = config;
    }

    /// The first stream that looks unsealed, as soon as there is one, and then never again.
    pub fn take_unsealed(&mut self) -> Option<Unsealed> {
        let Once::Pending(unsealed) = self.unsealed else {
            return None;
        };
        self.unsealed = Once::Taken;
        Some(unsealed)
    }

    /// Counts of all packets.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes held now, with the overhead that the limit counts.
    pub fn held_bytes(&self) -> usize {
        self.table.held_cost()
    }

    /// Packets held now.
    pub fn held_packets(&self) -> usize {
        self.table.held_packets()
    }

    /// The streams that are remembered, in no particular order.
    pub fn streams(&self) -> impl Iterator<Item = StreamReport> + '_ {
        self.table.slots().map(|slot| StreamReport {
            ssrc: slot.ssrc,
            kid: slot.stream.kid(),
            proven: slot.stream.proven(),
            held: slot.held.len(),
            stats: slot.stream.stats,
        })
    }

    /// Forgets what is held and where each stream was in its sequence; proofs stay. For a flush.
    pub fn flush(&mut self) {
        self.drop_held();
        for slot in self.table.slots_mut() {
            slot.stream.flush();
        }
    }

    /// Drops what is held and counts it as unproven. For the end of the stream.
    pub fn drop_held(&mut self) {
        self.totals.dropped_unproven += self.table.drop_all_held();
    }

    /// Judges one packet or frame. `memory` is what holding it would take; `item` makes the thing to hold and is
    /// called only if it is held.
    pub fn process(
        &mut self,
        now: Instant,
        packet: &[u8],
        memory: usize,
        item: impl FnOnce() -> T,
    ) -> Verdict<T> {
        self.totals.packets += 1;
        let judged = match self.config.input {
            Input::Rtp(format) => self.judge_rtp(packet, format),
            Input::Frames(clear) => self.judge_frame(packet, clear),
        };
        match judged {
            Ok(Outcome::Pass) => {
                self.passed(1, packet.len());
                Verdict::Forward
            }
            Ok(Outcome::Hold { slot, start }) => {
                let held = Held {
                    item: item(),
                    bytes: packet.len(),
                    cost: memory.clamp(packet.len(), packet.len().max(MAX_MEMORY)) + HELD_OVERHEAD,
                    start,
                };
                self.table.hold(slot, held);
                self.totals.dropped_overflow += self.table.shrink_held(self.config.max_held_bytes);
                Verdict::Hold
            }
            Ok(Outcome::Release(held)) => {
                let bytes = held.iter().map(|h| h.bytes).sum();
                self.passed(held.len(), bytes);
                self.passed(1, packet.len());
                self.totals.released += held.len() as u64;
                Verdict::Release(held.into_iter().map(|h| h.item).collect())
            }
            Err(Refusal { ssrc, cause }) => self.drop_packet(now, ssrc, cause),
        }
    }

    fn passed(&mut self, packets: usize, bytes: usize) {
        self.totals.forwarded += packets as u64;
        self.totals.forwarded_bytes += bytes as u64;
    }

    fn drop_packet(&mut self, now: Instant, ssrc: u32, cause: Cause) -> Verdict<T> {
        let counter = match cause {
            Cause::RtcpNotAllowed => &mut self.totals.dropped_rtcp,
            Cause::EmptyPayload => &mut self.totals.dropped_empty,
            Cause::Duplicate => &mut self.totals.dropped_duplicate,
            Cause::RtxUnproven => &mut self.totals.dropped_unproven,
            _ => {
                self.totals.violations += 1;
                let report = self.reports.note(now).map(|count| Report { ssrc, count, cause });
                return Verdict::Drop { cause, report };
            }
        };
        *counter += 1;
        Verdict::Drop { cause, report: None }
    }

    fn judge_rtp(&mut self, packet: &[u8], format: Format) -> Result<Outcome<T>, Refusal> {
        let nameless = |cause| Refusal { ssrc: 0, cause };
        if rtcp::is_rtcp_type(packet) {
            if !rtcp::is_well_formed(packet) {
                return Err(nameless(Cause::NotRtcp));
            }
            if !self.config.allow_rtcp {
                return Err(nameless(Cause::RtcpNotAllowed));
            }
            self.totals.rtcp += 1;
            return Ok(Outcome::Pass);
        }
        let rtp = RtpPacket::parse(packet).map_err(|_| nameless(Cause::NotRtp))?;
        let ssrc = rtp.ssrc();
        let refused = |cause| Refusal { ssrc, cause };
        let payload = rtp.payload();
        let marker = rtp.marker_bit();

        if self.config.rtx_payload_types & (1 << rtp.payload_type()) != 0 {
            // The original sequence number comes first (RFC 4588 §4); a probe may have nothing at all.
            let original = payload
                .get(2..)
                .filter(|p| !p.is_empty())
                .ok_or(refused(Cause::EmptyPayload))?;
            Form::parse(format, original, marker).map_err(refused)?;
            // Nothing in the packet says which stream it repairs.
            if !self.table.any_proven() {
                return Err(refused(Cause::RtxUnproven));
            }
            self.totals.rtx += 1;
            return Ok(Outcome::Pass);
        }

        if payload.is_empty() {
            // Its sequence number is used up all the same, or the next packet would seem to follow a loss.
            if let Some(slot) = self.table.find(ssrc) {
                self.table.get_mut(slot).stream.skip(rtp.sequence_number());
            }
            return Err(refused(Cause::EmptyPayload));
        }
        let packet = Packet {
            seq: rtp.sequence_number(),
            timestamp: rtp.timestamp(),
            payload_type: rtp.payload_type(),
            bytes: packet.len(),
        };
        self.judge_packet(ssrc, packet, Form::parse(format, payload, marker))
    }

    fn judge_frame(&mut self, frame: &[u8], clear: Clear) -> Result<Outcome<T>, Refusal> {
        self.frame_number = self.frame_number.wrapping_add(1);
        let packet = Packet {
            seq: self.frame_number,
            timestamp: 0,
            payload_type: 0,
            bytes: frame.len(),
        };
        self.judge_packet(
            FRAMES_SSRC,
            packet,
            Form::parse(Format::Whole(clear), frame, true),
        )
    }

    fn judge_packet(
        &mut self,
        ssrc: u32,
        packet: Packet,
        form: Result<Form, Cause>,
    ) -> Result<Outcome<T>, Refusal> {
        let needed = self.config.needed_starts();
        let (id, evicted) = self.table.touch(ssrc, self.config.max_streams.max(1));
        if let Some(held) = evicted {
            self.totals.evicted_streams += 1;
            self.totals.dropped_unproven += held;
        }
        let start = form.is_ok_and(|f| f.start.is_some());
        let slot = self.table.get_mut(id);
        let judged = slot.stream.judge(&packet, form, needed);
        if let (Some(packets), Once::Never) = (slot.stream.looks_unsealed(), &self.unsealed) {
            // Other bytes than SFrame's name another KID in nearly every packet.
            let cause = judged.err().unwrap_or(Cause::KidChanges);
            self.unsealed = Once::Pending(Unsealed { ssrc, packets, cause });
        }
        let outcome = match judged {
            Ok(Judged::Pass) => {
                slot.stream.stats.passed(start, packet.bytes);
                Ok(Outcome::Pass)
            }
            Ok(Judged::Hold) => Ok(Outcome::Hold { slot: id, start }),
            Ok(Judged::Restart) => {
                // The proof began anew with this packet; what came before proves nothing any more.
                self.totals.dropped_unproven += self.table.drop_held(id);
                Ok(Outcome::Hold { slot: id, start })
            }
            Ok(Judged::Proven) => {
                let held = self.table.take_held(id);
                let slot = self.table.get_mut(id);
                for h in &held {
                    slot.stream.stats.passed(h.start, h.bytes);
                }
                slot.stream.stats.passed(start, packet.bytes);
                Ok(Outcome::Release(held))
            }
            Err(cause) => {
                // Nothing that came before a broken form may be released by what comes after it. (A proven
                // stream holds nothing.)
                if cause != Cause::Duplicate {
                    self.totals.dropped_unproven += self.table.drop_held(id);
                }
                Err(Refusal { ssrc, cause })
            }
        };
        self.table.reclassify(id);
        outcome
    }
}

/// Something that is told once.
#[derive(Debug, Clone, Copy)]
enum Once<T> {
    Never,
    Pending(T),
    Taken,
}

/// What to do with a packet, before the totals are counted.
enum Outcome<T> {
    Pass,
    Hold { slot: usize, start: bool },
    Release(VecDeque<Held<T>>),
}

/// A packet that does not pass.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    ssrc: u32,
    cause: Cause,
}

#[cfg(test)]
mod tests;
