//! Sealing one buffer: which bytes are what, and the sealed buffer.

use crate::codec::Codec;
use crate::frame::{SealError, SealKey};
use crate::glue;
use crate::rtp_packet::Outline;
use gst_e2ee_common::descriptor::Descriptor;

/// Which bytes of a buffer are sealed, and what goes in front of them.
pub struct Plan {
    /// Bytes that are copied as they are, before everything (an RTP header).
    copied: usize,
    /// The descriptor is written behind the copied bytes.
    descriptor: bool,
    /// Bytes to seal, clear prefix included.
    sealed: std::ops::Range<usize>,
    clear_len: usize,
}

pub fn packet_plan(buffer: &gst::BufferRef) -> Option<Plan> {
    let outline = Outline::parse(buffer.size(), |at, into| glue::read(buffer, at, into))?;
    Some(Plan {
        copied: outline.payload.start,
        descriptor: true,
        sealed: outline.payload,
        clear_len: 0,
    })
}

/// `None`: the frame is shorter than its clear prefix, so the receiver could not tell where it ends.
pub fn frame_plan(buffer: &gst::BufferRef, clear_prefix: Option<Codec>) -> Option<Plan> {
    let mut clear_len = 0;
    if let Some(codec) = clear_prefix {
        let mut first = [0];
        if !glue::read(buffer, 0, &mut first) {
            return None;
        }
        clear_len = codec.clear_len(first[0]);
    }
    (clear_len <= buffer.size()).then_some(Plan {
        copied: 0,
        descriptor: false,
        sealed: 0..buffer.size(),
        clear_len,
    })
}

/// The sealed buffer: one allocation, each byte copied once.
pub fn seal(key: &SealKey, ctr: u64, buffer: &gst::BufferRef, plan: &Plan) -> Result<gst::Buffer, SealError> {
    let layout = key.layout(ctr, plan.clear_len, plan.sealed.len());
    let lead = plan.copied + if plan.descriptor { Descriptor::LEN } else { 0 };
    let mut sealed = gst::Buffer::with_size(lead + layout.total()).map_err(|_| SealError)?;
    let out = sealed.make_mut();
    {
        let mut map = out.map_writable().map_err(|_| SealError)?;
        let (head, body) = map.split_at_mut(lead);
        if plan.descriptor {
            if !glue::read(buffer, 0, &mut head[..plan.copied]) {
                return Err(SealError);
            }
            Outline::clear_padding_flag(head);
            head[plan.copied] = Descriptor::WHOLE_PACKET.to_byte();
        }
        key.seal(&layout, body, |at, into| {
            glue::read(buffer, plan.sealed.start + at, into)
        })?;
    }
    let _ = buffer.copy_into(
        out,
        gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::META,
        ..,
    );
    Ok(sealed)
}
