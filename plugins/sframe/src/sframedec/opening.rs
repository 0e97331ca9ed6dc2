//! Opening one buffer: which bytes are what, and the opened buffer.

use crate::caps::{Medium, Negotiated};
use crate::codec::{Codec, FrameInfo};
use crate::frame::{Lead, MAX_LEAD, OpenError, OpenKey};
use crate::glue::{self, Contents};
use crate::rtp_packet::Outline;
use gst::memory::{MemoryMap, Writable};
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
}

/// How the bytes of a sealed buffer are reached: in place where nobody else has the buffer or its memory, which is
/// what a network source gives; otherwise they are read, and copied once when they are opened.
pub enum Access<'a> {
    InPlace(MemoryMap<'a, Writable>),
    Shared(Contents<'a>),
}

impl<'a> Access<'a> {
    /// `None`: the memory cannot be mapped.
    pub fn to(buffer: &'a mut gst::Buffer) -> Option<Self> {
        let is_ours =
            |buffer: &mut gst::BufferRef| buffer.n_memory() == 1 && buffer.peek_memory_mut(0).is_ok();
        if buffer.get_mut().is_some_and(is_ours) {
            buffer.get_mut().and_then(Self::in_place).map(Self::InPlace)
        } else {
            Some(Self::Shared(Contents::of(buffer)))
        }
    }

    fn in_place(buffer: &mut gst::BufferRef) -> Option<MemoryMap<'_, Writable>> {
        buffer.peek_memory_mut(0).ok()?.map_writable().ok()
    }

    fn len(&self) -> usize {
        match self {
            Self::InPlace(map) => map.len(),
            Self::Shared(contents) => contents.len(),
        }
    }

    fn read(&self, at: usize, into: &mut [u8]) -> bool {
        match self {
            Self::InPlace(map) => glue::read(map, at, into),
            Self::Shared(contents) => contents.read(at, into),
        }
    }
}

/// An opened frame or packet, not yet a buffer.
pub struct Opened {
    /// `None`: it lies where it was sealed.
    memory: Option<gst::Memory>,
    /// Where in the memory it is.
    range: Range<usize>,
    pub info: FrameInfo,
}

impl Opened {
    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// The opened buffer, made from the sealed one: its times, flags and metas stay.
    pub fn into_buffer(self, mut sealed: gst::Buffer) -> gst::Buffer {
        if let Some(mut memory) = self.memory {
            if let Some(memory) = memory.get_mut() {
                memory.resize(self.range);
            }
            sealed = glue::replace_memory(sealed, memory);
        } else if let Some(Ok(memory)) = sealed.get_mut().map(|buffer| buffer.peek_memory_mut(0)) {
            memory.resize(self.range);
        }
        // `get_mut` cannot fail: it is ours alone in both cases.
        if let (Some(keyframe), Some(buffer)) = (self.info.keyframe, sealed.get_mut()) {
            if keyframe {
                buffer.unset_flags(gst::BufferFlags::DELTA_UNIT);
            } else {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        sealed
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
    /// Parses a buffer that is not opened yet.
    pub fn peek(buffer: &mut gst::Buffer, mode: Mode) -> Option<Self> {
        Self::parse(&Access::to(buffer)?, mode)
    }

    /// `None`: this is not an SFrame ciphertext.
    pub fn parse(access: &Access, mode: Mode) -> Option<Self> {
        let read = |at, into: &mut [u8]| access.read(at, into);
        let mut group = None;
        let mut copied = 0;
        let mut sealed = 0..access.len();
        if mode.packets {
            let outline = Outline::parse(access.len(), read)?;
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

    /// Opens what `access` gives access to. What does not open leaves nothing usable of the buffer.
    pub fn open(&self, key: &OpenKey, access: Access) -> Result<Opened, OpenError> {
        match access {
            Access::InPlace(mut map) => {
                let (range, info) = self.open_bytes(key, &mut map)?;
                Ok(Opened {
                    memory: None,
                    range,
                    info,
                })
            }
            Access::Shared(contents) => {
                let mut memory = gst::Memory::with_size(self.sealed.end)
                    .into_mapped_memory_writable()
                    .map_err(|_| OpenError::AuthFailed)?;
                if !contents.read(0, &mut memory) {
                    return Err(OpenError::AuthFailed);
                }
                let (range, info) = self.open_bytes(key, &mut memory)?;
                Ok(Opened {
                    memory: Some(memory.into_memory()),
                    range,
                    info,
                })
            }
        }
    }

    /// Opens the bytes of a whole buffer where they lie; returns where the opened ones are.
    fn open_bytes(&self, key: &OpenKey, bytes: &mut [u8]) -> Result<(Range<usize>, FrameInfo), OpenError> {
        // The opened frame begins where the SFrame header ended, less the clear prefix, which moves up to it.
        let start = self.sealed.start + self.lead.header_len;
        let frame = bytes
            .get_mut(start..self.sealed.end)
            .ok_or(OpenError::AuthFailed)?;
        let len = key.open(&self.lead, &self.lead_bytes, frame)?;
        let info = self
            .codec
            .map_or_else(FrameInfo::default, |codec| codec.inspect(&frame[..len]));
        // So does the RTP header.
        let head = start - self.copied;
        bytes.copy_within(..self.copied, head);
        Outline::clear_padding_flag(&mut bytes[head..start]);
        Ok((head..start + len, info))
    }
}
