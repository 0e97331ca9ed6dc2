//! The SFrame cipher suites that are implemented (RFC 9605 §4.5 and its IANA registry).

/// A cipher suite; the discriminant is its number in the IANA registry "SFrame Cipher Suites".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CipherSuite {
    /// AES-128 in counter mode, HMAC-SHA-256 cut to 10 bytes.
    Aes128CtrHmacSha256_80 = 1,
    /// AES-128 in counter mode, HMAC-SHA-256 cut to 8 bytes.
    Aes128CtrHmacSha256_64 = 2,
    /// AES-128 in counter mode, HMAC-SHA-256 cut to 4 bytes: one forgery in 2³² succeeds.
    Aes128CtrHmacSha256_32 = 3,
    /// AES-128-GCM with a 16-byte tag; the default.
    Aes128GcmSha256_128 = 4,
    /// AES-256-GCM with a 16-byte tag.
    Aes256GcmSha512_128 = 5,
}

impl CipherSuite {
    /// Every suite, in the order of the registry.
    pub const ALL: [Self; 5] = [
        Self::Aes128CtrHmacSha256_80,
        Self::Aes128CtrHmacSha256_64,
        Self::Aes128CtrHmacSha256_32,
        Self::Aes128GcmSha256_128,
        Self::Aes256GcmSha512_128,
    ];

    /// Number in the IANA registry.
    pub const fn iana(self) -> u16 {
        self as u16
    }

    /// The suite with this IANA number; `None` where it is unknown or not implemented.
    pub fn from_iana(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|s| u32::from(s.iana()) == number)
    }

    /// Name on the command line and in caps.
    pub const fn nick(self) -> &'static str {
        match self {
            Self::Aes128CtrHmacSha256_80 => "aes-128-ctr-hmac-sha256-80",
            Self::Aes128CtrHmacSha256_64 => "aes-128-ctr-hmac-sha256-64",
            Self::Aes128CtrHmacSha256_32 => "aes-128-ctr-hmac-sha256-32",
            Self::Aes128GcmSha256_128 => "aes-128-gcm-sha256-128",
            Self::Aes256GcmSha512_128 => "aes-256-gcm-sha512-128",
        }
    }

    /// Nt: bytes that the authentication tag adds to a frame.
    pub const fn tag_len(self) -> usize {
        match self {
            Self::Aes128CtrHmacSha256_80 => 10,
            Self::Aes128CtrHmacSha256_64 => 8,
            Self::Aes128CtrHmacSha256_32 => 4,
            Self::Aes128GcmSha256_128 | Self::Aes256GcmSha512_128 => 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_registry() {
        assert_eq!(CipherSuite::from_iana(4), Some(CipherSuite::Aes128GcmSha256_128));
        assert_eq!(CipherSuite::from_iana(0), None);
        assert_eq!(CipherSuite::from_iana(6), None);
        assert_eq!(CipherSuite::from_iana(0x1_0004), None);
        for suite in CipherSuite::ALL {
            assert_eq!(CipherSuite::from_iana(suite.iana().into()), Some(suite));
        }
    }
}
