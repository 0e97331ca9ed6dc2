//! The relay's guard: every packet is accounted for, memory is bounded, what passes has the form, and what is
//! released was held for that stream, in order, and proves it.

use super::Seen;
use super::input::Input;
use super::memory;
use super::packet::outline;
use gst_e2ee_common::descriptor::Descriptor;
use gst_e2ee_common::header::{Header, MAX_LEN};
use gstrtpsframe::guard::{Cause, Clear, Config, Format, Guard, HELD_OVERHEAD, Input as Arriving, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const RTX: u8 = 97;
/// What a stream takes with its place in the tables, but for what it holds.
const PER_STREAM: usize = 2048;

const ARRIVING: [Arriving; 8] = [
    Arriving::Rtp(Format::Descriptor),
    Arriving::Rtp(Format::Descriptor),
    Arriving::Rtp(Format::Vp8(Clear::Vp8)),
    Arriving::Rtp(Format::Vp8(Clear::None)),
    Arriving::Rtp(Format::Whole(Clear::None)),
    Arriving::Rtp(Format::Whole(Clear::Opus)),
    Arriving::Frames(Clear::None),
    Arriving::Frames(Clear::Vp8),
];

/// What a packet is, read with other code than the guard's.
struct Read {
    ssrc: u32,
    /// The header of a frame that starts here.
    start: Option<Header>,
}

/// `None`: this must not pass as media.
fn read(arriving: Arriving, packet: &[u8]) -> Option<Read> {
    let (format, ssrc, payload) = match arriving {
        Arriving::Frames(clear) => (Format::Whole(clear), 0, packet),
        Arriving::Rtp(format) => {
            let mut payload = &packet[outline(packet)?.payload];
            if packet[1] & 0x7f == RTX {
                payload = payload.get(2..)?;
            }
            let ssrc = packet.get(8..12)?.try_into().ok()?;
            (format, u32::from_be_bytes(ssrc), payload)
        }
    };
    let header = |bytes: Option<&[u8]>| Header::parse(bytes?).ok().map(|(header, _)| header);
    let clear_len = |clear, frame: &[u8]| match clear {
        Clear::None => 0,
        Clear::Opus => 1,
        Clear::Vp8 if frame.first().is_some_and(|tag| tag & 1 != 0) => 3,
        Clear::Vp8 => 10,
    };
    let start = match format {
        Format::Descriptor => {
            let descriptor = Descriptor::parse(*payload.first()?).ok()?;
            if descriptor.start {
                Some(header(payload.get(1..))?)
            } else {
                None
            }
        }
        Format::Vp8(clear) => {
            let read = gstrtpsframe::vp8::parse(payload)?;
            let frame = &payload[read.len..];
            if read.frame_start {
                Some(header(frame.get(clear_len(clear, frame)..))?)
            } else {
                None
            }
        }
        Format::Whole(clear) => Some(header(payload.get(clear_len(clear, payload)..))?),
    };
    Some(Read { ssrc, start })
}

/// What is known of a stream.
#[derive(Default)]
struct Stream {
    /// Numbers of the packets that may be held.
    held: BTreeSet<u64>,
    /// Counters of each KID's frame starts that were accepted since the form was last broken. More than the proof
    /// counts: late packets are in it, and those before a change of KID.
    starts: BTreeMap<u64, BTreeSet<u64>>,
}

/// A packet to send, which the next one follows.
#[derive(Clone, Default)]
struct Shape {
    ssrc: u8,
    seq: u16,
    timestamp: u8,
    payload_type: u8,
    marker: bool,
    /// What stands before the SFrame header.
    lead: Vec<u8>,
    header: bool,
    kid: u64,
    ctr: u64,
    tail: usize,
}

impl Shape {
    fn payload(&self) -> Vec<u8> {
        let mut payload = self.lead.clone();
        if self.header {
            let mut out = [0; MAX_LEN];
            let len = Header {
                kid: self.kid,
                ctr: self.ctr,
            }
            .write(&mut out);
            payload.extend_from_slice(&out[..len]);
        }
        payload.resize(payload.len() + self.tail, 0x5a);
        payload
    }

    fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0x80, u8::from(self.marker) << 7 | self.payload_type & 0x7f];
        packet.extend_from_slice(&self.seq.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, self.timestamp, 0, 0, 0, self.ssrc]);
        packet.extend_from_slice(&self.payload());
        packet
    }
}

/// A guard, what is known of it, and a clock.
struct Relay {
    guard: Guard<(u64, Vec<u8>)>,
    streams: BTreeMap<u32, Stream>,
    now: Instant,
    told: Option<Instant>,
    packets: u64,
    forwarded: u64,
    reported: u64,
    /// Bytes that the guard has allocated.
    memory: isize,
    seen: Seen,
}

impl Relay {
    fn new(config: Config) -> Self {
        Self {
            guard: Guard::new(config),
            streams: BTreeMap::new(),
            now: Instant::now(),
            told: None,
            packets: 0,
            forwarded: 0,
            reported: 0,
            memory: 0,
            seen: Seen::new(),
        }
    }

    /// Runs what changes the guard, and counts the memory that it takes or gives back.
    fn measured<R>(&mut self, change: impl FnOnce(&mut Guard<(u64, Vec<u8>)>) -> R) -> R {
        let before = memory::live();
        let result = change(&mut self.guard);
        self.memory += memory::live() - before;
        result
    }

    fn send(&mut self, packet: &[u8]) {
        let config = self.guard.config().clone();
        let any_proven = self.guard.streams().any(|s| s.proven);
        let rtp = matches!(config.input, Arriving::Rtp(_));
        let rtcp = rtp && matches!(packet, [first, 192..=223, ..] if first >> 6 == 2);
        let rtx = rtp && !rtcp && packet.get(1).is_some_and(|byte| byte & 0x7f == RTX);
        let read = if rtcp { None } else { read(config.input, packet) };
        let number = self.packets;
        self.packets += 1;
        let now = self.now;
        let verdict =
            self.measured(|guard| guard.process(now, packet, packet.len(), || (number, packet.to_vec())));
        let may_pass = if rtcp {
            config.allow_rtcp
        } else {
            read.is_some() && (!rtx || any_proven)
        };
        let stream = read
            .as_ref()
            .map(|read| self.streams.entry(read.ssrc).or_default());
        if !matches!(verdict, Verdict::Drop { .. }) {
            assert!(may_pass, "a packet without the form was accepted: {packet:02x?}");
        }
        match verdict {
            Verdict::Forward => {
                self.forwarded += 1;
                self.seen.insert(if rtcp {
                    "RTCP"
                } else if rtx {
                    "retransmission"
                } else {
                    "forward"
                });
            }
            Verdict::Hold => {
                assert!(!rtcp && !rtx);
                if let (Some(stream), Some(read)) = (stream, read) {
                    stream.held.insert(number);
                    if let Some(header) = read.start {
                        stream.starts.entry(header.kid).or_default().insert(header.ctr);
                    }
                }
                self.seen.insert("hold");
            }
            Verdict::Release(items) => {
                assert!(!rtcp && !rtx);
                self.memory -= items
                    .iter()
                    .map(|(_, bytes)| bytes.capacity() as isize)
                    .sum::<isize>();
                self.memory -= (items.capacity() * size_of::<(u64, Vec<u8>)>()) as isize;
                assert!(items.is_sorted_by(|a, b| a.0 < b.0), "released out of order");
                self.forwarded += items.len() as u64 + 1;
                if let (Some(stream), Some(read)) = (stream, read) {
                    assert!(
                        items.iter().all(|(number, _)| stream.held.contains(number)),
                        "released though given up"
                    );
                    // Whatever of it is still there is the newest.
                    assert!(
                        stream
                            .held
                            .iter()
                            .rev()
                            .zip(items.iter().rev())
                            .all(|(held, item)| *held == item.0)
                    );
                    stream.held.clear();
                    let header = read.start;
                    assert!(header.is_some(), "only a frame start completes a proof");
                    if let Some(header) = header {
                        let starts = stream.starts.entry(header.kid).or_default();
                        starts.insert(header.ctr);
                        assert!(
                            starts.len() >= config.proof_frames as usize,
                            "released without proof"
                        );
                    }
                }
                self.seen.insert("release");
            }
            Verdict::Drop { cause, report } => {
                self.seen.insert(cause.as_str());
                let ssrc = match config.input {
                    Arriving::Frames(_) => Some(0),
                    Arriving::Rtp(_) => packet
                        .get(8..12)
                        .and_then(|b| b.try_into().ok())
                        .map(u32::from_be_bytes),
                };
                // What came before a broken form must not be released by what comes after it. The rest says nothing
                // about a stream.
                let broke =
                    !rtcp && !rtx && !matches!(cause, Cause::Duplicate | Cause::EmptyPayload | Cause::NotRtp);
                if let Some(stream) = ssrc
                    .filter(|_| broke)
                    .and_then(|ssrc| self.streams.get_mut(&ssrc))
                {
                    *stream = Stream::default();
                }
                if let Some(report) = report {
                    assert_eq!(report.cause, cause);
                    assert!(self.told.is_none_or(|told| now >= told + Duration::from_secs(1)));
                    self.told = Some(now);
                    self.reported += report.count;
                    self.seen.insert("report");
                }
            }
        }
        self.check();
    }

    /// Nothing of what is held is ever released.
    fn forget_held(&mut self) {
        self.streams.values_mut().for_each(|stream| stream.held.clear());
    }

    fn check(&mut self) {
        let (config, totals) = (self.guard.config(), self.guard.totals());
        let held = self.guard.held_packets();
        assert_eq!(totals.packets, self.packets);
        assert_eq!(totals.forwarded, self.forwarded);
        assert_eq!(totals.packets, totals.forwarded + totals.dropped() + held as u64);
        assert!(self.reported <= totals.violations);
        assert!(self.guard.held_bytes() <= config.max_held_bytes);
        assert!(held * HELD_OVERHEAD <= self.guard.held_bytes());
        assert_eq!(self.guard.streams().map(|s| s.held).sum::<usize>(), held);
        assert!(self.guard.streams().all(|s| !s.proven || s.held == 0));
        let streams = config.max_streams.max(1);
        assert!(self.guard.streams().count() <= streams);
        let bound = config.max_held_bytes + streams * PER_STREAM + 4096;
        assert!(
            self.memory <= bound as isize,
            "{} bytes in memory, {bound} are the limit",
            self.memory
        );
        for (happened, name) in [
            (totals.evicted_streams > 0, "evicted"),
            (totals.dropped_overflow > 0, "overflow"),
        ] {
            if happened {
                self.seen.insert(name);
            }
        }
    }
}

/// The bytes are limits and then commands: most of them packets, each like the one before but for what its flags
/// announce.
pub fn run(bytes: &[u8]) -> Seen {
    let mut input = Input(bytes);
    let kind = input.u8();
    let limits = input.u8();
    let mut relay = Relay::new(Config {
        input: ARRIVING[usize::from(kind & 7)],
        proof_frames: u32::from(limits & 7),
        max_streams: usize::from(limits >> 3 & 7),
        max_held_bytes: usize::from(input.u16()),
        allow_rtcp: kind & 8 == 0,
        rtx_payload_types: 1 << RTX,
    });
    let mut shape = Shape {
        payload_type: 96,
        marker: true,
        lead: vec![0xc0],
        header: true,
        tail: 8,
        ..Shape::default()
    };
    while !input.is_empty() {
        let command = input.u8();
        match command >> 5 {
            0 => {
                let len = usize::from(input.u8());
                relay.send(input.take(len));
                continue;
            }
            1 => {
                relay.now += Duration::from_millis(u64::from(command & 0x1f) * 100);
                continue;
            }
            2 => {
                match command & 3 {
                    0 => {
                        relay.measured(Guard::flush);
                        relay.forget_held();
                    }
                    1 => {
                        relay.measured(Guard::drop_held);
                        relay.forget_held();
                    }
                    _ => {
                        let mut config = relay.guard.config().clone();
                        config.input = ARRIVING[usize::from(input.u8() & 7)];
                        config.proof_frames = (command >> 2 & 7).into();
                        if config.input != relay.guard.config().input {
                            relay.streams.clear();
                        }
                        relay.measured(|guard| guard.set_config(config));
                        relay.seen.insert("other rules");
                    }
                }
                relay.check();
                continue;
            }
            3 => {
                if command & 1 != 0 {
                    shape.ssrc = input.u8() & 0x0f;
                }
                if command & 2 != 0 {
                    shape.seq = shape.seq.wrapping_add_signed((input.u8() as i8).into());
                }
                if command & 4 != 0 {
                    shape.seq = input.u16();
                }
                if command & 8 != 0 {
                    shape.payload_type = input.u8();
                }
                if command & 16 != 0 {
                    shape.kid = input.u16().into();
                }
            }
            4 => {
                let len = usize::from(command & 0x0f);
                shape.lead = input.take(len).to_vec();
                shape.header = command & 16 == 0;
                shape.marker = shape.header;
            }
            5 => {
                shape.ctr = shape.ctr.saturating_add_signed((input.u8() as i8).into());
                shape.marker = command & 1 != 0;
                shape.header = command & 2 != 0;
                if command & 4 != 0 {
                    shape.tail = input.u8().into();
                }
                if command & 8 != 0 {
                    shape.timestamp = input.u8();
                }
                if command & 16 != 0 {
                    shape.ctr = u64::from(input.u16()) << 10;
                }
            }
            // The next ones: frames of one packet, then fragments of one frame.
            6 => {
                shape.timestamp = shape.timestamp.wrapping_add(command & 0x0f);
                shape.ctr = shape.ctr.saturating_add(1);
            }
            _ => {}
        }
        let advancing = u64::from(command >> 5 == 6);
        let times = if command >> 5 >= 6 {
            1 + usize::from(command & 0x1f) * 4
        } else {
            1
        };
        for _ in 0..times {
            let sent = match relay.guard.config().input {
                Arriving::Rtp(_) => shape.packet(),
                Arriving::Frames(_) => shape.payload(),
            };
            relay.send(&sent);
            shape.seq = shape.seq.wrapping_add(1);
            shape.ctr = shape.ctr.saturating_add(advancing);
        }
    }
    relay.measured(Guard::drop_held);
    relay.check();
    assert_eq!((relay.guard.held_bytes(), relay.guard.held_packets()), (0, 0));
    relay.seen
}
