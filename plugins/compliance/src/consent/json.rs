//! JSON from outside, of bounded depth, in which nothing stands twice, and its one canonical form (RFC 8785).
//!
//! A name that stands twice in an object means the first to one reader and the last to another: a consent must mean the
//! same to everybody. So must its canonical form, which programs write differently for numbers that are not whole; a
//! Consent needs none. No `Debug`: what is in here may be about a person.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A JSON value.
pub enum Json {
    Null,
    Bool(bool),
    Whole(i64),
    Text(String),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

impl Json {
    /// A member of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(name),
            _ => None,
        }
    }

    /// Its text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Does an object in it, at any depth, have a member of this name?
    pub fn has_anywhere(&self, name: &str) -> bool {
        match self {
            Self::List(values) => values.iter().any(|value| value.has_anywhere(name)),
            Self::Object(members) => members
                .iter()
                .any(|(of, value)| of == name || value.has_anywhere(name)),
            _ => false,
        }
    }

    /// Its canonical form: no spaces, members in the order of their names' UTF-16 units.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Whole(number) => out.push_str(&number.to_string()),
            Self::Text(text) => write_text(text, out),
            Self::List(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    value.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
                out.push('{');
                for (index, (name, value)) in members.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_text(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// RFC 8785 §3.2.2.2; serde_json escapes just so.
fn write_text(text: &str, out: &mut String) {
    // Cannot fail: it is text.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

/// What the parser says where a name stands twice; it does not say which.
pub const TWICE: &str = "an element stands twice in one object";
/// What it says of another number.
pub const NOT_WHOLE: &str = "a number that is not whole, or too large to be exact everywhere";
/// Doubles, in which other programs keep numbers, are exact up to here (RFC 8785 appendix D).
const MAX_WHOLE: u64 = (1 << 53) - 1;

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        if value.unsigned_abs() <= MAX_WHOLE {
            Ok(Json::Whole(value))
        } else {
            Err(E::custom(NOT_WHOLE))
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        let value = i64::try_from(value).map_err(|_| E::custom(NOT_WHOLE))?;
        self.visit_i64(value)
    }

    fn visit_f64<E: Error>(self, _value: f64) -> Result<Json, E> {
        Err(E::custom(NOT_WHOLE))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        serde_json::from_str::<Json>(text).unwrap().canonical()
    }

    #[test]
    fn the_canonical_form_is_that_of_rfc_8785() {
        // The text of its example (§3.2.2).
        let example = r#"{
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = r#"{"literals":[null,true,false],"string":"€$\u000f\nA'B\"\\\\\"/"}"#;
        assert_eq!(canonical(example), expected);
        // Names in the order of their UTF-16 units (§3.2.3): the emoji's first unit is below U+FB33.
        assert_eq!(
            canonical("{\"\\ufb33\":1,\"\\ud83d\\ude00\":2,\"\\u00f6\":3,\"1\":4,\"\\r\":5}"),
            "{\"\\r\":5,\"1\":4,\"\u{f6}\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}"
        );
        assert_eq!(
            canonical("[ 0 , -1 ,9007199254740991]"),
            "[0,-1,9007199254740991]"
        );
    }

    #[test]
    fn a_number_that_others_may_write_differently_is_refused() {
        for number in [
            "1.5",
            "1.0",
            "1e3",
            "-0",
            "9007199254740992",
            "-9007199254740992",
            "1e999",
        ] {
            assert!(serde_json::from_str::<Json>(number).is_err(), "{number}");
        }
    }

    #[test]
    fn what_stands_twice_is_refused_at_every_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"[{"b":{"a":1,"\u0061":2}}]"#,
            r#"{"a":{},"b":[],"a":null}"#,
        ] {
            let error = serde_json::from_str::<Json>(text).err().unwrap();
            assert!(error.to_string().starts_with(TWICE), "{text}: {error}");
        }
        assert!(serde_json::from_str::<Json>(r#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(serde_json::from_str::<Json>(&nested(100)).is_ok());
        assert!(serde_json::from_str::<Json>(&nested(100_000)).is_err());
    }
}
