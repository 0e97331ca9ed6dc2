//! Words, times and tables for people, as the posture report and the command line write them.

use std::time::Duration;

use serde::Serialize;

use crate::identity::{Role, is_plain};

/// Roles, in one word.
pub fn roles(roles: &[Role]) -> String {
    let words: Vec<_> = roles.iter().map(|role| role.word()).collect();
    words.join("+")
}

/// A number of things.
pub fn plural(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// The word that a value has in JSON.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A unix time in seconds as people write it (UTC).
pub fn date(seconds: u64) -> String {
    let time = x509_cert::der::DateTime::from_unix_duration(Duration::from_secs(seconds));
    time.map_or_else(|_| "after the year 9999".to_owned(), |time| time.to_string())
}

/// Cells under each other, two spaces between columns.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in rows {
        let line: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(&format!("  {}\n", line.join("  ").trim_end()));
    }
    text
}

/// Lines of at most so many characters.
pub fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// Text from outside as a terminal may show it: what is not printable becomes a question mark.
pub fn harmless(text: &str) -> String {
    let show = |c: char| {
        if c == ' ' || is_plain(c.encode_utf8(&mut [0; 4])) {
            c
        } else {
            '?'
        }
    };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_end_without_spaces() {
        let rows = [["a", "long one"], ["längst", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "  a       long one\n  längst\n");
        assert_eq!(columns::<2>(&[]), "");
    }

    #[test]
    fn words_are_counted_and_written_as_in_json() {
        assert_eq!(plural(1, "member"), "1 member");
        assert_eq!(plural(0, "member"), "0 members");
        assert_eq!(word(&crate::room::State::Ready), "ready");
        assert_eq!(
            roles(&[Role::Participant, Role::Recorder]),
            "participant+recorder"
        );
    }

    #[test]
    fn times_are_utc_and_never_fail() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(date(u64::MAX), "after the year 9999");
    }

    #[test]
    fn long_text_is_wrapped_at_words() {
        assert_eq!(wrapped("one two three", 7), "one two\nthree");
        assert_eq!(wrapped("  longer-than-that x", 5), "longer-than-that\nx");
    }

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(harmless("ok \u{1b}[2J\n\u{202e}ä"), "ok ?[2J??ä");
    }
}
