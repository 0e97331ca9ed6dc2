//! What people said, as a text track keeps it: one line of JSON for each message, of whatever kind and sender, so that a
//! conversation stays together in its order.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// The caps of such a track.
pub const CAPS: &str = "text/x-raw, format=utf8";

#[derive(Serialize)]
struct Line<'a> {
    sender: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf: Option<u32>,
    #[serde(rename = "type")]
    content_type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// The line of one message. `text/plain` in UTF-8 stands in it as it is, anything else in base64.
pub fn line(
    sender: &str,
    leaf: Option<u32>,
    content_type: &str,
    name: &str,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(body)
        .ok()
        .filter(|_| content_type == "text/plain");
    let line = Line {
        sender,
        leaf,
        content_type,
        name,
        text,
        base64: text.is_none().then(|| STANDARD.encode(body)),
    };
    serde_json::to_vec(&line).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stands_as_it_is_and_a_file_in_base64() {
        let of = |content_type: &str, name: &str, body: &[u8]| {
            String::from_utf8(line("anna", Some(2), content_type, name, body).unwrap()).unwrap()
        };
        assert_eq!(
            of("text/plain", "", "Grüße\n\"x\"".as_bytes()),
            r#"{"sender":"anna","leaf":2,"type":"text/plain","text":"Grüße\n\"x\""}"#
        );
        assert_eq!(
            of("image/jpeg", "wound.jpg", &[0xff, 0xd8, 0]),
            r#"{"sender":"anna","leaf":2,"type":"image/jpeg","name":"wound.jpg","base64":"/9gA"}"#
        );
        assert!(of("text/plain", "", &[0xff]).contains(r#""base64":"/w==""#));
    }
}
