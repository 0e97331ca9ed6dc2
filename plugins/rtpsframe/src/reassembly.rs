//! Joins RTP payloads into sealed frames. Pure: sequence numbers and bytes in, frames and counters out.
//!
//! A frame is the shortest run of consecutive sequence numbers from a packet that starts one to a packet that
//! ends one, all with one timestamp, one SSRC and one T bit. Whatever breaks the run costs that frame and no
//! other. It never holds more than [`Reassembler::set_max_frame_size`] bytes of a frame (in a vector of at most twice
//! that), whatever arrives.
//!
//! Packets have to come in order: a jitter buffer before the depayloader repairs reordering, and what still
//! comes late is ignored.

use gst_e2ee_common::descriptor::Descriptor;

use crate::vp8;

/// A packet no further behind the newest one than this is late or doubled; further behind, the sender has
/// restarted (RFC 3550 §A.1, and the default of GStreamer's depayloaders).
const OLDEST: i16 = -99;
/// The first allocation for a frame of several packets.
const MIN_CAPACITY: usize = 4096;
/// No more is set aside in advance than this, however large the frame before was.
const MAX_CAPACITY_HINT: usize = 256 * 1024;

/// Where a packet stands in its stream, from its RTP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Synchronisation source.
    pub ssrc: u32,
    /// Sequence number.
    pub seq: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Who delivers the packets says that this one does not follow the one before: if its number lies behind,
    /// the sender has restarted.
    pub discont: bool,
}

/// What a packet led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet, or the packet was ignored.
    Nothing,
    /// The packet is the first of a frame that needs more packets. What was started before is given up.
    Started,
    /// The packet completes a frame.
    Complete(Frame),
}

/// A frame, complete.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// T: the bytes are the ciphertext of one RTP payload, not of a frame.
    pub per_packet: bool,
    /// Extended sequence number of its first packet; grows through wraps and restarts.
    pub first_seq: u64,
    /// Number of its packets.
    pub packets: u64,
    /// Something was lost or given up since the frame before.
    pub discont: bool,
    /// Its bytes.
    pub body: Body,
}

/// Where the bytes of a frame are.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// All in the packet that was just given, from this offset of its payload on.
    Whole(usize),
    /// Joined from several packets.
    Joined(Vec<u8>),
}

/// What happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets given.
    pub packets: u64,
    /// Frames completed.
    pub frames: u64,
    /// Bytes of the completed frames.
    pub bytes: u64,
    /// Frames of which a packet arrived and another did not.
    pub dropped_frames: u64,
    /// Packets that are not in the expected format.
    pub malformed: u64,
    /// Packets that came twice or too late.
    pub duplicates: u64,
    /// Frames larger than the limit.
    pub too_large: u64,
}

/// The frame that is being joined.
#[derive(Debug)]
struct Partial {
    timestamp: u32,
    per_packet: bool,
    first_seq: u64,
    packets: u64,
    bytes: Vec<u8>,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Reassembler {
    max_frame_size: usize,
    ssrc: Option<u32>,
    /// Extended sequence number of the newest packet.
    newest: Option<u64>,
    partial: Option<Partial>,
    /// Timestamp of a frame that is already given up and counted; its remaining packets are not counted again.
    abandoned: Option<u32>,
    discont: bool,
    /// Size of the last frame of several packets: the next one is probably alike.
    capacity_hint: usize,
    counters: Counters,
}

impl Reassembler {
    /// A reassembler of frames of at most `max_frame_size` bytes.
    pub fn new(max_frame_size: usize) -> Self {
        Self {
            max_frame_size,
            ssrc: None,
            newest: None,
            partial: None,
            abandoned: None,
            discont: false,
            capacity_hint: 0,
            counters: Counters::default(),
        }
    }

    /// Changes the limit of a frame's size in bytes, from the next packet on.
    pub fn set_max_frame_size(&mut self, bytes: usize) {
        self.max_frame_size = bytes;
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Forgets the stream, not the counters: after a flush or new caps, numbering starts anew. A frame that was
    /// begun counts as dropped.
    pub fn reset(&mut self) {
        self.give_up();
        self.abandoned = None;
        self.ssrc = None;
        self.newest = None;
    }

    /// Takes the payload of a packet of draft-ietf-avtcore-rtp-sframe: the descriptor, then ciphertext.
    pub fn push_sframe(&mut self, at: Position, payload: &[u8]) -> Outcome {
        match payload
            .split_first()
            .map(|(&b, rest)| (Descriptor::parse(b), rest))
        {
            Some((Ok(descriptor), rest)) if !rest.is_empty() => self.push(at, descriptor, payload, 1),
            _ => self.push_malformed(at),
        }
    }

    /// Takes the payload of a VP8 packet (RFC 7741), whose frame ends at the marker.
    pub fn push_vp8(&mut self, at: Position, marker: bool, payload: &[u8]) -> Outcome {
        match vp8::parse(payload) {
            Some(read) if read.len < payload.len() => {
                let descriptor = Descriptor {
                    start: read.frame_start,
                    end: marker,
                    per_packet: false,
                };
                self.push(at, descriptor, payload, read.len)
            }
            _ => self.push_malformed(at),
        }
    }

    /// Takes the payload of a codec that sends each frame in one packet without a descriptor (Opus, RFC 7587).
    pub fn push_whole(&mut self, at: Position, payload: &[u8]) -> Outcome {
        if payload.is_empty() {
            return self.push_malformed(at);
        }
        let descriptor = Descriptor {
            start: true,
            end: true,
            per_packet: false,
        };
        self.push(at, descriptor, payload, 0)
    }

    /// The common part: the frame's bytes begin at `offset` of the payload and are not empty.
    fn push(&mut self, at: Position, descriptor: Descriptor, payload: &[u8], offset: usize) -> Outcome {
        self.counters.packets += 1;
        let Some(seq) = self.advance(at) else {
            return Outcome::Nothing;
        };
        let bytes = &payload[offset..];
        if descriptor.start {
            self.give_up();
            self.abandoned = None;
        }
        let joined = self.partial.as_ref().map_or(0, |p| p.bytes.len());
        if joined + bytes.len() > self.max_frame_size && (descriptor.start || self.partial.is_some()) {
            self.partial = None;
            self.counters.too_large += 1;
            self.discont = true;
            self.abandoned = (!descriptor.end).then_some(at.timestamp);
            return Outcome::Nothing;
        }
        match (descriptor.start, descriptor.end) {
            (true, true) => self.complete(descriptor.per_packet, seq, 1, bytes.len(), Body::Whole(offset)),
            (true, false) => {
                let capacity = self.capacity_hint.clamp(MIN_CAPACITY, MAX_CAPACITY_HINT);
                let mut joined = Vec::with_capacity(capacity.max(bytes.len()));
                joined.extend_from_slice(bytes);
                self.partial = Some(Partial {
                    timestamp: at.timestamp,
                    per_packet: descriptor.per_packet,
                    first_seq: seq,
                    packets: 1,
                    bytes: joined,
                });
                Outcome::Started
            }
            (false, end) => self.push_continuation(at.timestamp, descriptor.per_packet, end, bytes),
        }
    }

    fn push_continuation(&mut self, timestamp: u32, per_packet: bool, end: bool, bytes: &[u8]) -> Outcome {
        match self.partial.take() {
            Some(mut partial) if partial.timestamp == timestamp && partial.per_packet == per_packet => {
                partial.bytes.extend_from_slice(bytes);
                partial.packets += 1;
                if !end {
                    self.partial = Some(partial);
                    return Outcome::Nothing;
                }
                let mut joined = partial.bytes;
                let len = joined.len();
                self.capacity_hint = len;
                // Frames may wait in queues for long: do not let a small one keep a large one's room.
                if joined.capacity() > len + len / 4 {
                    joined.shrink_to_fit();
                }
                self.complete(
                    partial.per_packet,
                    partial.first_seq,
                    partial.packets,
                    len,
                    Body::Joined(joined),
                )
            }
            broken => {
                self.partial = broken;
                self.give_up();
                if self.abandoned != Some(timestamp) {
                    self.counters.dropped_frames += 1;
                    self.discont = true;
                }
                self.abandoned = (!end).then_some(timestamp);
                Outcome::Nothing
            }
        }
    }

    /// Counts a packet that is not in the expected format; it breaks the run that it stands in.
    fn push_malformed(&mut self, at: Position) -> Outcome {
        self.counters.packets += 1;
        self.counters.malformed += 1;
        // A doubled malformed packet is malformed, not a duplicate: one cause for one packet.
        let duplicates = self.counters.duplicates;
        if self.advance(at).is_some() {
            self.give_up();
            self.discont = true;
        }
        self.counters.duplicates = duplicates;
        Outcome::Nothing
    }

    fn complete(
        &mut self,
        per_packet: bool,
        first_seq: u64,
        packets: u64,
        len: usize,
        body: Body,
    ) -> Outcome {
        self.abandoned = None;
        self.counters.frames += 1;
        self.counters.bytes += len as u64;
        Outcome::Complete(Frame {
            per_packet,
            first_seq,
            packets,
            discont: std::mem::take(&mut self.discont),
            body,
        })
    }

    /// Gives up the frame that is being joined, if there is one.
    fn give_up(&mut self) {
        if let Some(partial) = self.partial.take() {
            self.counters.dropped_frames += 1;
            self.abandoned = Some(partial.timestamp);
            self.discont = true;
        }
    }

    /// Places the packet: its extended sequence number, or `None` where it comes twice or too late. A hole
    /// gives up the frame that it tears.
    fn advance(&mut self, at: Position) -> Option<u64> {
        let same_source = self.ssrc.replace(at.ssrc) == Some(at.ssrc);
        let Some(newest) = self.newest else {
            // Starts a cycle late, so that there is room below for whoever renumbers downwards.
            let first = (1 << 16) | u64::from(at.seq);
            self.newest = Some(first);
            return Some(first);
        };
        let ahead = at.seq.wrapping_sub(newest as u16) as i16;
        let seq = match ahead {
            1.. if same_source => newest + ahead as u64,
            OLDEST..=0 if same_source && !at.discont => {
                self.counters.duplicates += 1;
                return None;
            }
            // A restart: any number of the next cycle is ahead of everything before.
            _ => ((newest >> 16) + 1) << 16 | u64::from(at.seq),
        };
        if !same_source || seq != newest + 1 {
            self.give_up();
            self.discont = true;
        }
        self.newest = Some(seq);
        Some(seq)
    }
}

#[cfg(test)]
mod tests;
