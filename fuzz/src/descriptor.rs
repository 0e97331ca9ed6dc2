//! The payload descriptors: SFrame's byte, and VP8's with its optional bytes.

use super::Seen;
use gst_e2ee_common::descriptor::Descriptor;
use gstrtpsframe::vp8;

/// The bytes are an RTP payload.
pub fn run(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    if let Some(&first) = bytes.first() {
        match Descriptor::parse(first) {
            Ok(descriptor) => {
                assert_eq!(descriptor.to_byte(), first);
                seen.insert("SFrame");
            }
            Err(_) => {
                assert_ne!(first & 0x1f, 0);
                seen.insert("reserved bits");
            }
        }
    }
    match vp8::parse(bytes) {
        Some(read) => {
            assert!((1..=6).contains(&read.len) && read.len <= bytes.len());
            assert_eq!(read.frame_start, bytes[0] & 0x17 == 0x10);
            // It needs all of its bytes, and none behind them.
            assert_eq!(vp8::parse(&bytes[..read.len]), Some(read));
            assert_eq!(vp8::parse(&bytes[..read.len - 1]), None);
            seen.insert(match read.len {
                1 => "VP8",
                6 => "longest VP8",
                _ => "long VP8",
            });
        }
        None => {
            assert!(bytes.len() < 6);
            seen.insert("truncated VP8");
        }
    }
    seen
}
