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
        let read = |at, into: &mut [u8]| glue::read(buffer, at, into);
        let mut group = None;
        let mut copied = 0;
        let mut sealed = 0..buffer.size();
        if mode.packets {
            let outline = Outline::parse(buffer.size(), read)?;
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

    /// The opened buffer: one allocation, each byte copied once.
    pub fn open(
        &self,
        key: &OpenKey,
        buffer: &gst::BufferRef,
    ) -> Result<(gst::Buffer, FrameInfo), OpenError> {
        let body = self.sealed.start + self.lead.body_offset()..self.sealed.end;
        let size = self.copied + self.lead.clear_len + body.len();
        let mut opened = gst::Buffer::with_size(size).map_err(|_| OpenError::AuthFailed)?;
        let out = opened.make_mut();
        let (len, info) = {
            let mut map = out.map_writable().map_err(|_| OpenError::AuthFailed)?;
            let (head, frame) = map.split_at_mut(self.copied);
            let ciphertext = &mut frame[self.lead.clear_len..];
            if !glue::read(buffer, 0, head) || !glue::read(buffer, body.start, ciphertext) {
                return Err(OpenError::AuthFailed);
            }
            Outline::clear_padding_flag(head);
            let len = key.open(&self.lead, &self.lead_bytes, frame)?;
            let info = self
                .codec
                .map_or_else(FrameInfo::default, |codec| codec.inspect(&frame[..len]));
            (len, info)
        };
        out.set_size(self.copied + len);
        let _ = buffer.copy_into(
            out,
            gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::META,
            ..,
        );
        if let Some(keyframe) = info.keyframe {
            if keyframe {
                out.unset_flags(gst::BufferFlags::DELTA_UNIT);
            } else {
                out.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        Ok((opened, info))
    }
}
