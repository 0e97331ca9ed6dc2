//! What the identity key signs besides MLS, so that no signature for one purpose counts for another.

/// The bytes to sign for a purpose: `gst-e2ee <purpose> v1`, a zero byte, the data. `None` for a purpose that is not one
/// to 32 of `a-z`, `0-9` and `-`, or that is named after what this endpoint alone may say: MLS' messages and the posture
/// report, which is made from live state only.
///
/// MLS signs a label with its length in front (RFC 9420 §5.1.2), always beginning with `MLS 1.0 `. What begins with `gs`
/// would have a label of 10 099 bytes that begins with `t-e2ee `: no such signature counts in MLS.
pub fn to_be_signed(purpose: &str, data: &[u8]) -> Option<Vec<u8>> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_valid = (1..=32).contains(&purpose.len()) && purpose.bytes().all(is_plain);
    let is_own = purpose.split('-').any(|word| word == "mls" || word == "posture");
    (is_valid && !is_own).then(|| [b"gst-e2ee ", purpose.as_bytes(), b" v1\0", data].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn purposes_are_short_and_plain() {
        assert_eq!(
            to_be_signed("recording", b"data").as_deref(),
            Some(&b"gst-e2ee recording v1\0data"[..])
        );
        assert!(to_be_signed(&"a".repeat(32), b"").is_some());
        for bad in [
            "",
            &"a".repeat(33),
            "Posture",
            "a b",
            "a\0b",
            "é",
            "a_b",
            "mls",
            "mls-commit",
            "x-mls",
            "posture",
        ] {
            assert_eq!(to_be_signed(bad, b""), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn different_purposes_and_data_sign_different_bytes(
            a in ("[a-z0-9-]{1,32}", prop::collection::vec(any::<u8>(), 0..9)),
            b in ("[a-z0-9-]{1,32}", prop::collection::vec(any::<u8>(), 0..9)),
        ) {
            let signed = |(purpose, data): &(String, Vec<u8>)| to_be_signed(purpose, data);
            if let (Some(first), Some(second)) = (signed(&a), signed(&b)) {
                prop_assert_eq!(first == second, a == b);
            }
        }
    }
}
