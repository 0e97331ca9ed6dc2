//! Opening one buffer: which bytes are what, and the opened buffer.

use crate::caps::{Medium, Negotiated};
use crate::codec::{Codec, FrameInfo};
use crate::frame::{Lead, MAX_LEAD, OpenError, OpenKey};
use crate::glue;
use crate::rtp_packet::Outline;
use gst_e2ee_common::descriptor::Descriptor;
use gst_e2ee_common::header::Header;
use std::ops::Range;

/// How to read the buffers of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    codec: Option<Codec>,
    packets: bool,
    clear_prefix: bool,
    descriptor: bool,
}

impl Mode {
    pub fn new(negotiated: &Negotiated) -> Self {
        Self {
            codec: match negotiated.medium {
                Medium::Frames(codec) => codec,
                Medium::Packets => None,
            },
            packets: negotiated.medium == Medium::Packets,
            clear_prefix: negotiated.clear_prefix,
            descriptor: negotiated.descriptor,
        }
    }

    /// The sender may have a clear prefix that nobody told this side of.
    pub fn may_miss_clear_prefix(&self) -> bool {
        !self.clear_prefix && self.codec.is_some_and(Codec::has_clear_prefix)
    }
}

/// An opened frame or packet.
pub struct Opened {
    /// Where in the buffer it lies.
    range: Range<usize>,
    /// What it tells about itself.
    pub info: FrameInfo,
}

impl Opened {
    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Leaves only the opened bytes in the buffer, which was mapped writable and so has one memory of its own.
    pub fn trim(&self, buffer: &mut gst::BufferRef) {
        if let Ok(memory) = buffer.peek_memory_mut(0) {
            memory.resize(self.range.clone());
        }
        if let Some(keyframe) = self.info.keyframe {
            if keyframe {
                buffer.unset_flags(gst::BufferFlags::DELTA_UNIT);
            } else {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
    }
}

/// A sealed buffer, taken apart as far as that goes without a key.
pub struct Sealed {
    codec: Option<Codec>,
    /// Bytes that are copied as they are: the RTP header.
    copied: usize,
    /// The sealed frame or payload.
    sealed: Range<usize>,
    lead: Lead,
    lead_bytes: [u8; MAX_LEAD],
    /// Packets of one frame share it.
    pub group: Option<u32>,
}

impl Sealed {
    /// `None`: this is not an SFrame ciphertext.
    pub fn parse(buffer: &[u8], mode: Mode) -> Option<Self> {
        let read = |at, into: &mut [u8]| glue::read(buffer, at, into);
        let mut group = None;
        let mut copied = 0;
        let mut sealed = 0..buffer.len();
        if mode.packets {
            let outline = Outline::parse(buffer.len(), read)?;
            group = Some(outline.timestamp);
            copied = outline.payload.start;
            sealed = outline.payload;
            if mode.descriptor {
                let mut byte = [0];
                if sealed.is_empty() || !read(sealed.start, &mut byte) {
                    return None;
                }
                if Descriptor::parse(byte[0]) != Ok(Descriptor::WHOLE_PACKET) {
                    return None;
                }
                sealed.start += Descriptor::LEN;
            }
        }
        let mut lead_bytes = [0; MAX_LEAD];
        let len = sealed.len().min(MAX_LEAD);
        if !read(sealed.start, &mut lead_bytes[..len]) {
            return None;
        }
        let clear_len = match mode.codec {
            Some(codec) if mode.clear_prefix => codec.clear_len(*lead_bytes[..len].first()?),
            _ => 0,
        };
        let lead = Lead::parse(&lead_bytes[..len], clear_len).ok()?;
        Some(Self {
            codec: mode.codec,
            copied,
            sealed,
            lead,
            lead_bytes,
            group,
        })
    }

    /// KID and CTR.
    pub fn header(&self) -> Header {
        self.lead.header
    }

    /// Opens the buffer's bytes where they lie. What does not open leaves nothing usable of them.
    pub fn open(&self, key: &OpenKey, metadata: &[u8], bytes: &mut [u8]) -> Result<Opened, OpenError> {
        // The opened frame begins where the SFrame header ended, less the clear prefix, which moves up to it.
        let start = self.sealed.start + self.lead.header_len;
        let frame = bytes
            .get_mut(start..self.sealed.end)
            .ok_or(OpenError::AuthFailed)?;
        let len = key.open(&self.lead, &self.lead_bytes, metadata, frame)?;
        let info = self
            .codec
            .map_or_else(FrameInfo::default, |codec| codec.inspect(&frame[..len]));
        // So does the RTP header.
        let head = start - self.copied;
        bytes.copy_within(..self.copied, head);
        Outline::clear_padding_flag(&mut bytes[head..start]);
        Ok(Opened {
            range: head..start + len,
            info,
        })
    }
}
