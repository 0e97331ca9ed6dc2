//! Text in entries: short, and harmless where it is shown. What an operator types comes this way into the log, and
//! years later onto somebody's screen.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that cannot stand in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing.
    #[error("there is no text")]
    Empty,
    /// Too much.
    #[error("the text has more than {0} bytes")]
    TooLong(usize),
    /// It would do more than be read.
    #[error("the text has characters that do not print, or spaces at an end")]
    NotPlain,
    /// A name with spaces or with letters that look like others.
    #[error("an id has letters, digits and punctuation of ASCII only, and no spaces")]
    NotAnId,
}

/// What somebody wrote: a reason, a ticket. 1 to 1000 bytes of one line, without characters that do not print.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text(String);

impl Text {
    /// Longest text, in bytes.
    pub const MAX: usize = 1000;

    /// The text, as a person wrote it.
    pub fn new(text: &str) -> Result<Self, TextError> {
        match text {
            "" => Err(TextError::Empty),
            _ if text.len() > Self::MAX => Err(TextError::TooLong(Self::MAX)),
            _ if text.trim() != text || !text.chars().all(prints) => Err(TextError::NotPlain),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// As much of it as an entry takes: for what a machine says, which must be logged in any case.
    pub fn lossy(text: &str) -> Self {
        let shown: String = text
            .chars()
            .map(|c| if prints(c) { c } else { '?' })
            .scan(0, |length, c| {
                *length += c.len_utf8();
                (*length <= Self::MAX).then_some(c)
            })
            .collect();
        match shown.trim() {
            "" => Self("?".to_owned()),
            shown => Self(shown.to_owned()),
        }
    }

    /// It.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A character that takes its place in a line and does nothing else: no control, no direction, no invisible one.
pub(crate) fn prints(c: char) -> bool {
    let invisible = matches!(c,
        '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{1680}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}'
        | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}'
        | '\u{e0000}'..='\u{e0fff}');
    !c.is_control() && !invisible
}

/// An opaque name: a subject id, a fingerprint, a nick. 1 to 128 characters of printable ASCII without spaces.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Id(String);

impl Id {
    /// Longest id, in bytes.
    pub const MAX: usize = 128;

    /// The id with this text.
    pub fn new(text: &str) -> Result<Self, TextError> {
        match text {
            "" => Err(TextError::Empty),
            _ if text.len() > Self::MAX => Err(TextError::TooLong(Self::MAX)),
            _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => Err(TextError::NotAnId),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_form {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_form!(Text);
text_form!(Id);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_one_line_that_only_prints() {
        for good in ["a", "Prüfung der Beschwerde 17/3 \"dringend\"", &"x".repeat(1000)] {
            assert_eq!(Text::new(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(1001);
        for (bad, error) in [
            ("", TextError::Empty),
            (&long, TextError::TooLong(1000)),
            (" a", TextError::NotPlain),
            ("a\n", TextError::NotPlain),
            ("a\nb", TextError::NotPlain),
            ("\u{1b}[2J", TextError::NotPlain),
            ("a\u{202e}b", TextError::NotPlain),
        ] {
            assert_eq!(Text::new(bad), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_ascii_without_spaces() {
        assert_eq!(Id::new("dr-weber@clinic").unwrap().as_str(), "dr-weber@clinic");
        for bad in ["", "dr weber", "dr-weber\n", "müller", &"x".repeat(129)] {
            assert!(Id::new(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_machine_says_always_becomes_text(said in "\\PC{0,20}|[\\s\\S]{0,1500}") {
            let text = Text::lossy(&said);
            prop_assert_eq!(Text::new(text.as_str()), Ok(text.clone()));
            if Text::new(&said).is_ok() {
                prop_assert_eq!(text.as_str(), said);
            }
        }
    }
}
