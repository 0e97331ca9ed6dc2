//! Caps of what people say and send in a room, and the content type and file name that they stand for.
//!
//! `text/x-raw, format=utf8` is `text/plain`. Any other name of caps is the content type itself (RFC 6838), unless a
//! field `content-type` says another one: GStreamer's names have fewer characters. A field `file-name` is the name of a
//! file.

/// Caps of a text.
const TEXT: &str = "text/x-raw";
/// Content type of a text.
const PLAIN: &str = "text/plain";

/// Content type and file name, empty where there is none, of a buffer with these caps. `None`: they are empty or ANY.
pub fn kind_of(caps: &gst::CapsRef) -> Option<(String, String)> {
    let structure = caps.structure(0)?;
    let content_type = match (structure.get::<String>("content-type"), structure.name().as_str()) {
        (Ok(content_type), _) => content_type,
        (Err(_), TEXT) => PLAIN.to_owned(),
        (Err(_), name) => name.to_owned(),
    };
    Some((content_type, structure.get("file-name").unwrap_or_default()))
}

/// The caps of a message. Text that is not UTF-8 is not text to GStreamer.
pub fn caps_of(content_type: &str, file_name: &str, body: &[u8]) -> gst::Caps {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/-_.:+".contains(c))
    };
    let mut builder = if content_type == PLAIN && std::str::from_utf8(body).is_ok() {
        gst::Caps::builder(TEXT).field("format", "utf8")
    } else if content_type != PLAIN && content_type != TEXT && is_name(content_type) {
        gst::Caps::builder(content_type)
    } else {
        gst::Caps::builder("application/octet-stream").field("content-type", content_type)
    };
    if !file_name.is_empty() {
        builder = builder.field("file-name", file_name);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_goes_in_with_some_caps_comes_out_with_the_same() {
        gst::init().unwrap();
        for text in [
            "text/x-raw, format=(string)utf8",
            "text/x-raw, format=(string)utf8, file-name=(string)note.txt",
            "image/jpeg, file-name=(string)wound.jpg",
            "application/fhir+json",
            "application/octet-stream, content-type=(string)\"application/x$y\"",
        ] {
            let caps: gst::Caps = text.parse().unwrap();
            let (content_type, file_name) = kind_of(&caps).unwrap();
            assert_eq!(caps_of(&content_type, &file_name, b"{}"), caps, "{text}");
        }
    }

    #[test]
    fn text_that_is_none_does_not_come_as_text() {
        gst::init().unwrap();
        for (content_type, body) in [(PLAIN, &[0xff, 0xfe][..]), (TEXT, b"text")] {
            let caps = caps_of(content_type, "", body);
            let structure = caps.structure(0).unwrap();
            assert_eq!(structure.name(), "application/octet-stream");
            assert_eq!(structure.get::<String>("content-type").unwrap(), content_type);
        }
    }
}
