//! The SFrame header (RFC 9605 §4.3): 1 to 17 bytes that carry the key id (KID) and the counter (CTR).
//!
//! Both are written in the fewest bytes that hold them. The RFC makes that a MUST, so a longer encoding is
//! refused: were it accepted, one frame would have several valid headers.

/// The longest header: a config byte, 8 bytes of KID, 8 bytes of CTR.
pub const MAX_LEN: usize = 17;

/// Why bytes are not an SFrame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The buffer ends inside the header.
    #[error("the SFrame header is cut short")]
    Truncated,
    /// A KID or CTR uses more bytes than it needs (RFC 9605 §4.3).
    #[error("the SFrame header is not minimally encoded")]
    NotMinimal,
}

/// Key id and counter of a sealed frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Key id: which key, and with MLS which sender and epoch (RFC 9605 §5.2).
    pub kid: u64,
    /// Counter: unique per key, the variable part of the nonce.
    pub ctr: u64,
}

/// Bits of a 4-bit field that say "the value itself is in here".
const INLINE_MAX: u64 = 7;

fn extended_len(value: u64) -> usize {
    // 1 for values below 2^8, 8 for values from 2^56 on; zero needs one byte too.
    8 - (value | 1).leading_zeros() as usize / 8
}

impl Header {
    /// Number of bytes that [`Self::write`] produces.
    pub fn encoded_len(&self) -> usize {
        let field = |v| if v <= INLINE_MAX { 0 } else { extended_len(v) };
        1 + field(self.kid) + field(self.ctr)
    }

    /// Writes the header to the start of `out` and returns its length.
    pub fn write(&self, out: &mut [u8; MAX_LEN]) -> usize {
        let mut len = 1;
        let mut field = |value: u64| -> u8 {
            if value <= INLINE_MAX {
                return value as u8;
            }
            let n = extended_len(value);
            out[len..len + n].copy_from_slice(&value.to_be_bytes()[8 - n..]);
            len += n;
            0x8 | (n as u8 - 1)
        };
        let kid = field(self.kid);
        let ctr = field(self.ctr);
        out[0] = kid << 4 | ctr;
        len
    }

    /// Reads a header from the start of `bytes`; returns it with its length.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), HeaderError> {
        let (&config, rest) = bytes.split_first().ok_or(HeaderError::Truncated)?;
        let (kid, rest) = parse_field(config >> 4, rest)?;
        let (ctr, rest) = parse_field(config & 0x0f, rest)?;
        Ok((Self { kid, ctr }, bytes.len() - rest.len()))
    }
}

/// One 4-bit field (extended flag and 3 bits) with the bytes that it announces.
fn parse_field(bits: u8, bytes: &[u8]) -> Result<(u64, &[u8]), HeaderError> {
    if bits & 0x8 == 0 {
        return Ok((u64::from(bits), bytes));
    }
    let n = usize::from(bits & 0x7) + 1;
    let (field, rest) = bytes.split_at_checked(n).ok_or(HeaderError::Truncated)?;
    let value = field.iter().fold(0, |v, &b| v << 8 | u64::from(b));
    if value <= INLINE_MAX || extended_len(value) != n {
        return Err(HeaderError::NotMinimal);
    }
    Ok((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(header: Header) -> Vec<u8> {
        let mut out = [0; MAX_LEN];
        let len = header.write(&mut out);
        assert_eq!(len, header.encoded_len());
        out[..len].to_vec()
    }

    /// Mostly the edges of each length, where mistakes live.
    fn any_field() -> impl Strategy<Value = u64> {
        (0u32..64, any::<u64>(), -2i64..=2).prop_map(|(shift, noise, off)| {
            let edge = (1u64 << shift).wrapping_add_signed(off);
            if noise % 3 == 0 { noise } else { edge }
        })
    }

    #[test]
    fn example_of_the_mls_section() {
        // RFC 9605 §5.2: E=4, S=6, epoch 14, member 3.
        assert_eq!(encode(Header { kid: 0x3e, ctr: 0 }), [0x80, 0x3e]);
    }

    #[test]
    fn longer_than_needed_is_refused() {
        for bytes in [
            &[0x08, 0x07][..],
            &[0x09, 0x00, 0xff],
            &[0x80, 0x00],
            &[0x91, 0x00, 0x08, 0x00],
            &[0x0f, 0, 0, 0, 0, 0, 0, 0, 1],
        ] {
            assert_eq!(Header::parse(bytes), Err(HeaderError::NotMinimal), "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(kid in any_field(), ctr in any_field(), tail in any::<Vec<u8>>()) {
            let header = Header { kid, ctr };
            let mut bytes = encode(header);
            let len = bytes.len();
            bytes.extend(tail);
            prop_assert_eq!(Header::parse(&bytes), Ok((header, len)));
            for cut in 0..len {
                prop_assert_eq!(Header::parse(&bytes[..cut]), Err(HeaderError::Truncated));
            }
        }

        #[test]
        fn whatever_parses_is_the_only_encoding(bytes in any::<Vec<u8>>()) {
            if let Ok((header, len)) = Header::parse(&bytes) {
                prop_assert_eq!(&encode(header)[..], &bytes[..len]);
            }
        }

        #[test]
        fn agrees_with_the_sframe_crate(kid in any_field(), ctr in any_field()) {
            prop_assert_eq!(encode(Header { kid, ctr }), Vec::from(&sframe::header::SframeHeader::new(kid, ctr)));
        }
    }
}
