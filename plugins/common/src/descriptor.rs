//! The SFrame payload descriptor of draft-ietf-avtcore-rtp-sframe-02: one byte between the RTP header and the
//! ciphertext. It tells where a ciphertext begins and ends and whether it holds a frame or an RTP payload.

/// Bit S: this packet starts a ciphertext.
const START: u8 = 0x80;
/// Bit E: this packet ends a ciphertext.
const END: u8 = 0x40;
/// Bit T: the ciphertext is of one RTP payload, not of a whole frame.
const PER_PACKET: u8 = 0x20;
/// Must be zero; anything else is not this format.
const RESERVED: u8 = 0x1f;

/// What one RTP packet carries of a ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// S: the first packet of a ciphertext, the only one that holds an SFrame header.
    pub start: bool,
    /// E: the last packet of a ciphertext.
    pub end: bool,
    /// T: the ciphertext is of an RTP payload (`true`) or of a whole frame (`false`).
    pub per_packet: bool,
}

/// The reserved bits are not zero: this is not an SFrame descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reserved bits of the SFrame descriptor are not zero")]
pub struct ReservedBits;

impl Descriptor {
    /// Length in bytes.
    pub const LEN: usize = 1;

    /// A packet that holds one whole ciphertext of an RTP payload.
    pub const WHOLE_PACKET: Self = Self {
        start: true,
        end: true,
        per_packet: true,
    };

    /// Reads the descriptor byte.
    pub fn parse(byte: u8) -> Result<Self, ReservedBits> {
        if byte & RESERVED != 0 {
            return Err(ReservedBits);
        }
        Ok(Self {
            start: byte & START != 0,
            end: byte & END != 0,
            per_packet: byte & PER_PACKET != 0,
        })
    }

    /// The descriptor byte.
    pub fn to_byte(self) -> u8 {
        let bit = |set, bit| if set { bit } else { 0 };
        bit(self.start, START) | bit(self.end, END) | bit(self.per_packet, PER_PACKET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_reads_back_or_is_refused() {
        for byte in 0..=255 {
            match Descriptor::parse(byte) {
                Ok(descriptor) => assert_eq!(descriptor.to_byte(), byte),
                Err(ReservedBits) => assert_ne!(byte & 0x1f, 0),
            }
        }
        assert_eq!(Descriptor::WHOLE_PACKET.to_byte(), 0xe0);
    }
}
