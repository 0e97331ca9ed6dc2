//! How much room the RTP header extensions of the base class take. It writes them when a packet is pushed, too
//! late to cut frames accordingly, and 1.22 does not list them; but the negotiated caps do.

use gst_rtp::prelude::*;

use crate::packetize::header_extensions_len;

/// Assumed for an extension that only the application knows how to write.
const UNKNOWN_LEN: usize = 16;

/// The room, computed once per caps.
#[derive(Debug, Default)]
pub struct HeaderExtensions {
    caps: Option<gst::Caps>,
    len: usize,
}

impl HeaderExtensions {
    /// Bytes that header extensions take at most in packets with these caps; `buffer` is the frame that they may
    /// take their values from.
    pub fn room(&mut self, caps: Option<gst::Caps>, buffer: &gst::Buffer) -> usize {
        let same = match (&caps, &self.caps) {
            (Some(new), Some(old)) => new.as_ptr() == old.as_ptr(),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.len = caps.as_ref().map_or(0, |caps| measure(caps, buffer));
            self.caps = caps;
        }
        self.len
    }
}

fn measure(caps: &gst::Caps, buffer: &gst::Buffer) -> usize {
    let Some(s) = caps.structure(0) else {
        return 0;
    };
    let elements: Vec<_> = s
        .iter()
        .filter_map(|(name, value)| {
            let id: u32 = name.as_str().strip_prefix("extmap-")?.parse().ok()?;
            // Either the URI alone or an array of direction, URI and attributes.
            let uri = value.get::<String>().ok().or_else(|| {
                let parts = value.get::<gst::Array>().ok()?;
                parts.get(1)?.get::<String>().ok()
            })?;
            let Some(extension) = gst_rtp::RTPHeaderExtension::create_from_uri(&uri) else {
                return Some((id, UNKNOWN_LEN, true));
            };
            extension.set_id(id);
            extension.set_attributes_from_caps(caps);
            let one_byte = extension
                .supported_flags()
                .contains(gst_rtp::RTPHeaderExtensionFlags::ONE_BYTE);
            Some((id, extension.max_size(buffer), one_byte))
        })
        .collect();
    header_extensions_len(&elements)
}
