//! Harnesses, packets and what is expected of packets.

use std::sync::Once;

use gst::prelude::*;
use gst_check::Harness;

pub const S: u8 = 0x80;
pub const E: u8 = 0x40;
pub const T: u8 = 0x20;

pub const SSRC: u32 = 0x1122_3344;

pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstrtpsframe::plugin_register_static().unwrap();
    });
}

/// A harness and the bus of its element.
pub struct Bench {
    pub harness: Harness,
    pub bus: gst::Bus,
}

impl Bench {
    pub fn new(launch: &str) -> Self {
        init();
        let mut harness = Harness::new_parse(launch);
        let bus = gst::Bus::new();
        harness.element().unwrap().set_bus(Some(&bus));
        harness.play();
        Self { harness, bus }
    }

    pub fn element(&self, factory: &str) -> gst::Element {
        let element = self.harness.element().unwrap();
        let is = |e: &gst::Element| e.factory().is_some_and(|f| f.name() == factory);
        if is(&element) {
            return element;
        }
        let bin = element.downcast::<gst::Bin>().unwrap();
        let mut elements = bin.iterate_elements().into_iter().flatten();
        elements.find(is).unwrap()
    }

    pub fn stat(&self, factory: &str, field: &str) -> u64 {
        let stats: gst::Structure = self.element(factory).property("stats");
        stats.get(field).unwrap()
    }

    pub fn pull_all(&mut self) -> Vec<gst::Buffer> {
        std::iter::from_fn(|| self.harness.try_pull()).collect()
    }

    /// Caps events that came out, in order.
    pub fn caps_events(&mut self) -> Vec<gst::Caps> {
        std::iter::from_fn(|| self.harness.try_pull_event())
            .filter_map(|event| match event.view() {
                gst::EventView::Caps(caps) => Some(caps.caps_owned()),
                _ => None,
            })
            .collect()
    }

    /// The text of the first error on the bus.
    pub fn error(&self) -> Option<String> {
        let message = self.bus.pop_filtered(&[gst::MessageType::Error])?;
        let gst::MessageView::Error(error) = message.view() else {
            return None;
        };
        Some(error.error().message().to_owned())
    }

    /// The text of the first warning on the bus.
    pub fn warning(&self) -> Option<String> {
        let message = self.bus.pop_filtered(&[gst::MessageType::Warning])?;
        let gst::MessageView::Warning(warning) = message.view() else {
            return None;
        };
        Some(warning.error().message().to_owned())
    }

    /// The text of the first information on the bus.
    pub fn info(&self) -> Option<String> {
        let message = self.bus.pop_filtered(&[gst::MessageType::Info])?;
        let gst::MessageView::Info(info) = message.view() else {
            return None;
        };
        Some(info.error().message().to_owned())
    }

    /// Element messages of this name that are on the bus.
    pub fn messages(&self, name: &str) -> Vec<gst::Structure> {
        std::iter::from_fn(|| self.bus.pop())
            .filter_map(|m| m.structure().map(|s| s.to_owned()))
            .filter(|s| s.name() == name)
            .collect()
    }
}

/// Bytes that differ from place to place, so that a wrong order shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ (i / 251) as u8).collect()
}

pub fn frame(bytes: &[u8], pts: gst::ClockTime) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(bytes.to_vec());
    buffer.get_mut().unwrap().set_pts(pts);
    buffer
}

pub fn bytes(buffer: &gst::Buffer) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

/// Parses a packet; panics where it is none.
pub fn with_rtp<R>(buffer: &gst::Buffer, f: impl FnOnce(&rtp_types::RtpPacket) -> R) -> R {
    let map = buffer.map_readable().unwrap();
    f(&rtp_types::RtpPacket::parse(&map).unwrap())
}

pub fn payload(buffer: &gst::Buffer) -> Vec<u8> {
    with_rtp(buffer, |rtp| rtp.payload().to_vec())
}

/// A packet to push.
#[derive(Debug, Clone)]
pub struct Packet {
    pub seq: u16,
    pub timestamp: u32,
    pub marker: bool,
    pub ssrc: u32,
    pub payload: Vec<u8>,
    pub pts: Option<gst::ClockTime>,
}

impl Packet {
    pub fn new(seq: u16, timestamp: u32, descriptor: u8, bytes: &[u8]) -> Self {
        Self {
            seq,
            timestamp,
            marker: descriptor & E != 0,
            ssrc: SSRC,
            payload: [&[descriptor], bytes].concat(),
            pts: None,
        }
    }

    pub fn raw(seq: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Self {
        Self {
            marker,
            payload: payload.to_vec(),
            ..Self::new(seq, timestamp, 0, &[])
        }
    }

    pub fn pts(mut self, ms: u64) -> Self {
        self.pts = Some(gst::ClockTime::from_mseconds(ms));
        self
    }

    pub fn buffer(&self) -> gst::Buffer {
        let packet = rtp_types::RtpPacketBuilder::<_, &[u8]>::new()
            .payload_type(96)
            .sequence_number(self.seq)
            .timestamp(self.timestamp)
            .ssrc(self.ssrc)
            .marker_bit(self.marker)
            .payload(&self.payload[..])
            .write_vec()
            .unwrap();
        let mut buffer = gst::Buffer::from_slice(packet);
        buffer.get_mut().unwrap().set_pts(self.pts);
        buffer
    }
}

/// What a packet has to be; what is not said is not checked.
#[derive(Debug, Clone, Default)]
pub struct ExpectedPacket {
    seq: u16,
    marker: Option<bool>,
    descriptor: Option<u8>,
    timestamp: Option<u32>,
    size: Option<usize>,
    payload_type: Option<u8>,
    flags: Option<gst::BufferFlags>,
    pts: Option<gst::ClockTime>,
}

impl ExpectedPacket {
    pub fn new(seq: u16) -> Self {
        Self {
            seq,
            ..Self::default()
        }
    }

    pub fn marker(mut self, marker: bool) -> Self {
        self.marker = Some(marker);
        self
    }

    pub fn descriptor(mut self, descriptor: u8) -> Self {
        self.descriptor = Some(descriptor);
        self
    }

    pub fn timestamp(mut self, timestamp: u32) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Size of the whole packet in bytes.
    pub fn size(mut self, size: usize) -> Self {
        self.size = Some(size);
        self
    }

    pub fn payload_type(mut self, payload_type: u8) -> Self {
        self.payload_type = Some(payload_type);
        self
    }

    /// DELTA_UNIT and DISCONT as they have to be.
    pub fn flags(mut self, flags: gst::BufferFlags) -> Self {
        self.flags = Some(flags);
        self
    }

    pub fn pts(mut self, ms: u64) -> Self {
        self.pts = Some(gst::ClockTime::from_mseconds(ms));
        self
    }

    fn check(&self, i: usize, buffer: &gst::Buffer) {
        let checked = gst::BufferFlags::DELTA_UNIT | gst::BufferFlags::DISCONT;
        with_rtp(buffer, |rtp| {
            assert_eq!(rtp.sequence_number(), self.seq, "packet {i}: seq");
            let actual = Self {
                seq: self.seq,
                marker: self.marker.map(|_| rtp.marker_bit()),
                descriptor: self.descriptor.map(|_| rtp.payload()[0]),
                timestamp: self.timestamp.map(|_| rtp.timestamp()),
                size: self.size.map(|_| buffer.size()),
                payload_type: self.payload_type.map(|_| rtp.payload_type()),
                flags: self.flags.map(|_| buffer.flags() & checked),
                pts: self.pts.and(buffer.pts()),
            };
            assert_eq!(format!("{actual:?}"), format!("{self:?}"), "packet {i}");
        });
    }
}

/// Compares packets with a table.
pub fn check_packets(packets: &[gst::Buffer], table: &[ExpectedPacket]) {
    for (i, (packet, expected)) in packets.iter().zip(table).enumerate() {
        expected.check(i, packet);
    }
    assert_eq!(packets.len(), table.len(), "number of packets");
}
