//! The depayloader's reassembly against a short model of it: a frame is a start, what follows it without a gap, and
//! an end. Both must give the same frames, and what is held stays within the limit.

use super::Seen;
use super::input::Input;
use super::memory;
use gst_e2ee_common::descriptor::Descriptor;
use gstrtpsframe::reassembly::{Body, Counters, Outcome, Position, Reassembler};
use gstrtpsframe::vp8;

/// A packet this far behind the newest one is late; farther behind, the sender has restarted.
const OLDEST: i16 = -99;
/// Room that a frame of several packets gets at first.
const FIRST_ROOM: usize = 4096;

/// How payloads are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Sframe,
    Vp8,
    Whole,
}

/// What the model knows.
#[derive(Default)]
struct Model {
    newest: Option<Position>,
    run: Option<Run>,
}

struct Run {
    timestamp: u32,
    per_packet: bool,
    packets: u64,
    bytes: Vec<u8>,
}

impl Model {
    /// Whether the packet is not late, and whether it follows the newest one.
    fn advance(&mut self, at: Position) -> (bool, bool) {
        let place = match self.newest {
            Some(newest) if newest.ssrc == at.ssrc => match at.seq.wrapping_sub(newest.seq) as i16 {
                1 => (true, true),
                OLDEST..=0 if !at.discont => (false, false),
                _ => (true, false),
            },
            _ => (true, false),
        };
        if place.0 {
            self.newest = Some(at);
        }
        place
    }

    /// The frame that a packet completes. `part`: its descriptor and its bytes; `None` where it is malformed.
    fn push(&mut self, at: Position, part: Option<(Descriptor, &[u8])>, limit: usize) -> Option<Run> {
        let (newer, follows) = self.advance(at);
        if !newer {
            return None;
        }
        let run = self.run.take();
        let (descriptor, bytes) = part?;
        let mut run = if descriptor.start {
            Run {
                timestamp: at.timestamp,
                per_packet: descriptor.per_packet,
                packets: 0,
                bytes: Vec::new(),
            }
        } else {
            run.filter(|r| follows && (r.timestamp, r.per_packet) == (at.timestamp, descriptor.per_packet))?
        };
        run.packets += 1;
        run.bytes.extend_from_slice(bytes);
        if run.bytes.len() > limit {
            return None;
        }
        if descriptor.end {
            return Some(run);
        }
        self.run = Some(run);
        None
    }
}

/// Descriptor and bytes of a payload, `None` where it is malformed.
fn read(format: Format, marker: bool, payload: &[u8]) -> Option<(Descriptor, &[u8])> {
    let (descriptor, bytes) = match format {
        Format::Sframe => {
            let (&first, rest) = payload.split_first()?;
            (Descriptor::parse(first).ok()?, rest)
        }
        Format::Vp8 => {
            let read = vp8::parse(payload)?;
            let descriptor = Descriptor {
                start: read.frame_start,
                end: marker,
                per_packet: false,
            };
            (descriptor, &payload[read.len..])
        }
        Format::Whole => {
            let descriptor = Descriptor {
                start: true,
                end: true,
                per_packet: false,
            };
            (descriptor, payload)
        }
    };
    (!bytes.is_empty()).then_some((descriptor, bytes))
}

/// The bytes are a format, a limit and then packets: flags, what these announce, the payload.
pub fn run(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let mut input = Input(bytes);
    let format = match input.u8() % 4 {
        0 => Format::Vp8,
        1 => Format::Whole,
        _ => Format::Sframe,
    };
    let mut limit = usize::from(input.u16());
    let mut highest_limit = limit;
    let mut reassembler = Reassembler::new(limit);
    let mut model = Model::default();
    let mut expected = Counters::default();
    let mut at = Position {
        ssrc: 1,
        seq: input.u16(),
        timestamp: 0,
        discont: false,
    };
    // Where the last frame ended, since the numbering last began anew.
    let mut last_end: Option<u64> = None;
    let mut held = 0;

    while !input.is_empty() {
        let flags = input.u8();
        match flags & 7 {
            0 => at.seq = input.u16(),
            1 => at.seq = at.seq.wrapping_add_signed((input.u8() as i8).into()),
            2 => {
                let before = memory::live();
                reassembler.reset();
                held += memory::live() - before;
                (model, last_end) = (Model::default(), None);
                seen.insert("reset");
            }
            3 => {
                limit = usize::from(input.u16());
                highest_limit = highest_limit.max(limit);
                reassembler.set_max_frame_size(limit);
            }
            _ => at.seq = at.seq.wrapping_add(1),
        }
        if flags & 0x08 != 0 {
            at.timestamp = input.u8().into();
        }
        if flags & 0x10 != 0 {
            at.ssrc = (input.u8() & 3).into();
        }
        at.discont = flags & 0x20 != 0;
        let marker = flags & 0x40 != 0;
        // A few bytes of the fuzzer's, for descriptors, then a pattern that tells packets and places apart.
        let head = if flags & 0x80 == 0 {
            1
        } else {
            usize::from(input.u8() & 7)
        };
        let len = usize::from(input.u8());
        let len = if len < 0xc0 { len } else { (len - 0xbf) * 64 };
        let mut payload = input.take(head).to_vec();
        payload.extend((0..len).map(|i| (i as u8).wrapping_mul(31) ^ expected.packets as u8));

        let part = read(format, marker, &payload);
        expected.packets += 1;
        expected.malformed += u64::from(part.is_none());
        let before = memory::live();
        let outcome = match format {
            Format::Sframe => reassembler.push_sframe(at, &payload),
            Format::Vp8 => reassembler.push_vp8(at, marker, &payload),
            Format::Whole => reassembler.push_whole(at, &payload),
        };
        held += memory::live() - before;
        let (completed, started) = match outcome {
            Outcome::Complete(frame) => (Some(frame), false),
            other => (None, other == Outcome::Started),
        };
        match (completed, model.push(at, part, limit)) {
            (None, None) => assert!(!started || model.run.as_ref().is_some_and(|run| run.packets == 1)),
            (Some(frame), Some(run)) => {
                match &frame.body {
                    Body::Whole(offset) => assert_eq!(payload[*offset..], run.bytes),
                    Body::Joined(bytes) => {
                        held -= bytes.capacity() as isize;
                        assert_eq!(*bytes, run.bytes);
                        // Frames wait in queues: they keep no more room than they need.
                        assert!(bytes.capacity() <= bytes.len() + bytes.len() / 4);
                        seen.insert("joined");
                    }
                }
                assert_eq!((frame.per_packet, frame.packets), (run.per_packet, run.packets));
                assert_eq!((frame.first_seq + frame.packets - 1) as u16, at.seq);
                if let Some(end) = last_end {
                    assert!(frame.first_seq >= end, "numbers only grow");
                    assert!(frame.discont || frame.first_seq == end, "a gap is told");
                }
                last_end = Some(frame.first_seq + frame.packets);
                expected.frames += 1;
                expected.bytes += run.bytes.len() as u64;
                seen.insert("frame");
            }
            (Some(_), None) => panic!("a frame that is not one"),
            (None, Some(_)) => panic!("a frame is missing"),
        }
        let counters = reassembler.counters();
        assert_eq!(
            counters,
            Counters {
                dropped_frames: counters.dropped_frames,
                duplicates: counters.duplicates,
                too_large: counters.too_large,
                ..expected
            }
        );
        assert!(
            held <= FIRST_ROOM.max(2 * highest_limit) as isize,
            "{held} bytes are held"
        );
        if model.run.is_none() {
            assert_eq!(held, 0);
        }
    }

    let counters = reassembler.counters();
    let mut note = |happened: bool, name| {
        if happened {
            seen.insert(name);
        }
    };
    note(counters.dropped_frames > 0, "dropped");
    note(counters.duplicates > 0, "duplicate");
    note(counters.too_large > 0, "too large");
    note(counters.malformed > 0, "malformed");
    seen
}
