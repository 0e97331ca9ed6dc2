//! Bytes of a fixed length as they stand in files, in the log and on command lines: lower-case hex digits, in one form
//! only, so that nobody can write the same in two ways.

/// Text that is not in this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} has {digits} lower-case hex digits")]
pub struct NotHex {
    what: &'static str,
    digits: usize,
}

/// Reads so many bytes; `what` is their name in the error.
pub fn read<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], NotHex> {
    let error = NotHex { what, digits: 2 * N };
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(error);
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| error)?;
    Ok(bytes)
}

/// Gives a type that is `struct T([u8; n])` this form, as text and in JSON.
macro_rules! hex_form {
    ($name:ident, $what:literal) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::hex_form::NotHex;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::hex_form::read(text, $what).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use hex_form;

#[cfg(test)]
mod tests {
    #[derive(PartialEq, Eq)]
    struct Three([u8; 3]);
    hex_form!(Three, "a three");

    #[test]
    fn bytes_have_one_form() {
        let three = Three([0, 0xab, 7]);
        assert_eq!(three.to_string(), "00ab07");
        assert_eq!("00ab07".parse(), Ok(Three([0, 0xab, 7])));
        assert_eq!(serde_json::to_string(&three).ok().as_deref(), Some("\"00ab07\""));
        assert_eq!(serde_json::from_str::<Three>("\"00ab07\"").ok(), Some(three));
        for other in ["", "00AB07", "00ab0", "00ab0700", "00ab0g", " 00ab07", "0x00ab"] {
            let error = other.parse::<Three>().unwrap_err();
            assert_eq!(
                error.to_string(),
                "a three has 6 lower-case hex digits",
                "{other}"
            );
            assert!(serde_json::from_str::<Three>(&format!("{other:?}")).is_err());
        }
    }
}
