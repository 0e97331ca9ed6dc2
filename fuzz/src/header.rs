//! The SFrame header: what parses is the only encoding, and what is written is read back.

use super::Seen;
use super::input::Input;
use gst_e2ee_common::header::{Header, HeaderError, MAX_LEN};

/// The bytes are a header; then they are a KID and a CTR to write.
pub fn run(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    match Header::parse(bytes) {
        Ok((header, len)) => {
            assert!(len <= bytes.len() && len <= MAX_LEN);
            check(header, &bytes[..len]);
            seen.insert(match len {
                1 => "short",
                MAX_LEN => "longest",
                _ => "long",
            });
        }
        Err(HeaderError::Truncated) => {
            let announced = bytes
                .first()
                .map_or(1, |&config| 1 + announced(config >> 4) + announced(config & 0x0f));
            assert!(bytes.len() < announced);
            seen.insert("truncated");
        }
        Err(HeaderError::NotMinimal) => {
            let kid = announced(bytes[0] >> 4);
            let ctr = announced(bytes[0] & 0x0f);
            let fields = [bytes.get(1..1 + kid), bytes.get(1 + kid..1 + kid + ctr)];
            let wasteful = |field: &[u8]| matches!(field, [0..=7] | [0, _, ..]);
            assert!(fields.into_iter().flatten().any(wasteful));
            seen.insert("not minimal");
        }
    }

    let mut input = Input(bytes);
    let mut value = || {
        let len = usize::from(input.u8()) % 9;
        input
            .take(len)
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte))
    };
    let header = Header {
        kid: value(),
        ctr: value(),
    };
    let mut out = [0; MAX_LEN];
    let len = header.write(&mut out);
    assert_eq!(Header::parse(&out[..len]), Ok((header, len)));
    check(header, &out[..len]);
    seen
}

/// Bytes that a 4-bit field announces.
fn announced(field: u8) -> usize {
    if field & 8 == 0 {
        0
    } else {
        usize::from(field & 7) + 1
    }
}

/// `bytes` is the one encoding of `header`.
fn check(header: Header, bytes: &[u8]) {
    let mut out = [0xaa; MAX_LEN];
    assert_eq!(header.write(&mut out), bytes.len());
    assert_eq!(&out[..bytes.len()], bytes);
    assert_eq!(header.encoded_len(), bytes.len());
    for cut in 0..bytes.len() {
        assert_eq!(Header::parse(&bytes[..cut]), Err(HeaderError::Truncated));
    }
}
