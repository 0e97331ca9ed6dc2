//! Sealing one buffer: which bytes are what, and the sealed buffer.

use crate::blocks::Blocks;
use crate::codec::Codec;
use crate::frame::{SealError, SealKey};
use crate::glue::Contents;
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

pub fn packet_plan(contents: &Contents) -> Option<Plan> {
    let outline = Outline::parse(contents.len(), |at, into| contents.read(at, into))?;
    Some(Plan {
        copied: outline.payload.start,
        descriptor: true,
        sealed: outline.payload,
        clear_len: 0,
    })
}

/// `None`: the frame is shorter than its clear prefix, so the receiver could not tell where it ends.
pub fn frame_plan(contents: &Contents, clear_prefix: Option<Codec>) -> Option<Plan> {
    let mut clear_len = 0;
    if let Some(codec) = clear_prefix {
        let mut first = [0];
        if !contents.read(0, &mut first) {
            return None;
        }
        clear_len = codec.clear_len(first[0]);
    }
    (clear_len <= contents.len()).then_some(Plan {
        copied: 0,
        descriptor: false,
        sealed: 0..contents.len(),
        clear_len,
    })
}

/// The sealed bytes: each byte is copied once.
pub fn seal(
    key: &SealKey,
    ctr: u64,
    contents: &Contents,
    plan: &Plan,
    metadata: &[u8],
    blocks: &Blocks,
) -> Result<gst::Memory, SealError> {
    let layout = key.layout(ctr, plan.clear_len, plan.sealed.len());
    let lead = plan.copied + if plan.descriptor { Descriptor::LEN } else { 0 };
    let size = lead + layout.total();
    let seal_into = |out: &mut [u8]| {
        let (head, body) = out.split_at_mut_checked(lead).ok_or(SealError)?;
        if plan.descriptor {
            if !contents.read(0, &mut head[..plan.copied]) {
                return Err(SealError);
            }
            Outline::clear_padding_flag(head);
            head[plan.copied] = Descriptor::WHOLE_PACKET.to_byte();
        }
        key.seal(&layout, metadata, body, |at, into| {
            contents.read(plan.sealed.start + at, into)
        })
    };
    match blocks.take(size) {
        Some(mut block) => {
            seal_into(block.as_mut())?;
            Ok(gst::Memory::from_mut_slice(block))
        }
        None => {
            let memory = gst::Memory::with_size(size).into_mapped_memory_writable();
            let mut memory = memory.map_err(|_| SealError)?;
            seal_into(&mut memory)?;
            Ok(memory.into_memory())
        }
    }
}
