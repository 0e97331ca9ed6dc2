//! The name of a recording: random, so that it says nothing about whom it is of.

use crate::hex_form::hex_form;

/// Which recording: 16 random bytes, written as 32 lower-case hex digits. It is the name of the recording's folder, so
/// nothing else may ever pass for one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordingId([u8; 16]);

impl RecordingId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

hex_form!(RecordingId, "a recording's id");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_form() {
        let id: RecordingId = "00112233445566778899aabbccddeeff".parse().unwrap();
        assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
        for bad in [
            "",
            "00112233445566778899AABBCCDDEEFF",
            "00112233445566778899aabbccddeef",
            "../../../../../../../../../../..",
        ] {
            assert!(bad.parse::<RecordingId>().is_err(), "{bad}");
        }
    }
}
