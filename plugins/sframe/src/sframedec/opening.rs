//! Opening one buffer: which bytes are what, and the opened buffer.

use crate::caps::{Medium, Negotiated};
use crate::codec::{Codec, FrameInfo};
use crate::frame::{Lead, MAX_LEAD, OpenError, OpenKey};
use crate::glue::{self, Contents};
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
    pub fn parse(buffer: &gst::BufferRef, mode: Mode) -> Option<Self> {
        let contents = Contents::of(buffer);
        let read = |at, into: &mut [u8]| contents.read(at, into);
        let mut group = None;
        let mut copied = 0;
        let mut sealed = 0..contents.len();
        if mode.packets {
            let outline = Outline::parse(contents.len(), read)?;
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

    /// The opened buffer. Opens in place where nobody else has the buffer or its memory, which is what a network source
    /// gives; otherwise there is one allocation and each byte is copied once.
    ///
    /// What does not open leaves nothing usable of the buffer.
    pub fn open(
        &self,
        key: &OpenKey,
        mut buffer: gst::Buffer,
    ) -> Result<(gst::Buffer, FrameInfo), OpenError> {
        let in_place = buffer
            .get_mut()
            .and_then(|buffer| self.open_in_place(key, buffer));
        let info = match in_place {
            Some(info) => info?,
            None => {
                let (opened, info) = self.open_copy(key, &buffer)?;
                buffer = opened;
                info
            }
        };
        // `get_mut` cannot fail: it is ours alone in both cases.
        if let (Some(keyframe), Some(out)) = (info.keyframe, buffer.get_mut()) {
            if keyframe {
                out.unset_flags(gst::BufferFlags::DELTA_UNIT);
            } else {
                out.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        Ok((buffer, info))
    }

    /// `None`: the memory is shared, read-only or in pieces.
    fn open_in_place(
        &self,
        key: &OpenKey,
        buffer: &mut gst::BufferRef,
    ) -> Option<Result<FrameInfo, OpenError>> {
        if buffer.n_memory() != 1 {
            return None;
        }
        let memory = buffer.peek_memory_mut(0).ok()?;
        let opened = {
            let mut map = memory.map_writable().ok()?;
            self.open_bytes(key, &mut map)
        };
        Some(opened.map(|(range, info)| {
            memory.resize(range);
            info
        }))
    }

    fn open_copy(
        &self,
        key: &OpenKey,
        buffer: &gst::BufferRef,
    ) -> Result<(gst::Buffer, FrameInfo), OpenError> {
        let mut memory = gst::Memory::with_size(self.sealed.end)
            .into_mapped_memory_writable()
            .map_err(|_| OpenError::AuthFailed)?;
        if !Contents::of(buffer).read(0, &mut memory) {
            return Err(OpenError::AuthFailed);
        }
        let (range, info) = self.open_bytes(key, &mut memory)?;
        let mut memory = memory.into_memory();
        if let Some(memory) = memory.get_mut() {
            memory.resize(range);
        }
        let mut opened = gst::Buffer::new();
        let out = opened.make_mut();
        out.append_memory(memory);
        glue::copy_metadata(buffer, out);
        Ok((opened, info))
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
