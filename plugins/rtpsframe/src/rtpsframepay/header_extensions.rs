//! How much room the RTP header extensions of the base class take. It writes them when a packet is pushed, too
//! late to cut frames accordingly, and 1.22 does not list them; but the negotiated caps do.

use gst_rtp::prelude::*;

use crate::packetize::header_extensions_len;

/// Assumed for an extension that only the application knows how to write.
const UNKNOWN_LEN: usize = 16;

/// Bytes that header extensions take at most in packets with these caps; `buffer` is a frame that they may take
/// their values from.
pub fn room(caps: Option<gst::Caps>, buffer: &gst::Buffer) -> usize {
    let Some((caps, s)) = caps.as_ref().and_then(|caps| Some((caps, caps.structure(0)?))) else {
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
