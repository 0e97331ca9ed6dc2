//! Writing HTML: every element that is opened is closed, and nothing from outside gets into it but as text.
//!
//! What somebody else wrote (ids, reasons, causes) is shown as it is, with three exceptions. What means something to a
//! browser is escaped; what would not print, or would turn the direction of a line, is shown by its number; and what is
//! longer than [`LONGEST`] characters is cut, with a word about how much that was.

use std::fmt::Write as _;

use crate::audit::text::prints;

/// So many characters of one text from outside are shown.
pub const LONGEST: usize = 240;

/// Attributes of an element.
pub type Attributes<'a> = &'a [(&'static str, &'a str)];

/// A page in the making.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// The page.
    pub fn finish(self) -> String {
        self.0
    }

    /// Text of our own or of others.
    pub fn text(&mut self, text: &str) {
        for c in text.chars() {
            self.escaped(c);
        }
    }

    /// Something from outside, cut where it is too long, and kept from turning what stands around it.
    pub fn outside(&mut self, text: &str) {
        self.element("bdi", &[], &clipped(text, LONGEST));
    }

    /// An element with this inside.
    pub fn tag(&mut self, name: &'static str, attributes: Attributes<'_>, inside: impl FnOnce(&mut Self)) {
        self.open(name, attributes);
        inside(self);
        // Writing to a string does not fail.
        let _ = write!(self.0, "</{name}>");
    }

    /// An element with nothing but text.
    pub fn element(&mut self, name: &'static str, attributes: Attributes<'_>, text: &str) {
        self.tag(name, attributes, |page| page.text(text));
    }

    /// An element that has no end (`meta`).
    pub fn void(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.open(name, attributes);
        self.0.push('\n');
    }

    /// Our own markup, word for word: the document type and the style sheet, nothing that was ever read.
    pub fn verbatim(&mut self, own: &'static str) {
        self.0.push_str(own);
    }

    fn open(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.0.push('<');
        self.0.push_str(name);
        for (name, value) in attributes {
            let _ = write!(self.0, " {name}=\"");
            self.text(value);
            self.0.push('"');
        }
        self.0.push('>');
    }

    fn escaped(&mut self, c: char) {
        match c {
            '&' => self.0.push_str("&amp;"),
            '<' => self.0.push_str("&lt;"),
            '>' => self.0.push_str("&gt;"),
            '"' => self.0.push_str("&quot;"),
            '\'' => self.0.push_str("&#39;"),
            // Our own, to keep a number with its unit.
            '\u{a0}' => self.0.push_str("&nbsp;"),
            c if prints(c) => self.0.push(c),
            c => {
                let _ = write!(self.0, "[U+{:04X}]", u32::from(c));
            }
        }
    }
}

/// So many characters of a text, and how many more there are.
pub fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.replace('\u{a0}', "[U+00A0]"),
        Some((end, _)) => {
            let more = text[end..].chars().count();
            let shown = text[..end].replace('\u{a0}', "[U+00A0]");
            format!("{shown}… ({more} more characters)")
        }
    }
}

/// The beginning of a text, for a drawing, where nothing gives way to a long one: at most so many characters, and one for
/// each that would not print.
pub fn short(text: &str, most: usize) -> String {
    let mut all = text.chars().map(|c| if prints(c) { c } else { '?' });
    let mut shown: String = all.by_ref().take(most).collect();
    if all.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut page = Page::default();
        page.outside(text);
        page.finish()
    }

    #[test]
    fn what_means_something_to_a_browser_is_text() {
        assert_eq!(
            shown("<script>alert('a')</script> & \"b\""),
            "<bdi>&lt;script&gt;alert(&#39;a&#39;)&lt;/script&gt; &amp; &quot;b&quot;</bdi>"
        );
        let mut page = Page::default();
        page.element("p", &[("title", "\"><script>")], "");
        assert_eq!(page.finish(), "<p title=\"&quot;&gt;&lt;script&gt;\"></p>");
    }

    #[test]
    fn what_would_not_print_or_turn_the_line_is_shown_by_its_number() {
        assert_eq!(
            shown("a\u{202e}b\u{200b}c\u{7}\n\u{a0}"),
            "<bdi>a[U+202E]b[U+200B]c[U+0007][U+000A][U+00A0]</bdi>"
        );
        assert_eq!(shown("Müller, 李, ‏"), "<bdi>Müller, 李, [U+200F]</bdi>");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let long = "é".repeat(LONGEST + 7);
        let shown = shown(&long);
        assert!(shown.ends_with("é… (7 more characters)</bdi>"), "{shown}");
        assert_eq!(shown.matches('é').count(), LONGEST);
        assert_eq!(clipped("abc", 3), "abc");
        assert_eq!(
            (short("abc", 3), short("a\u{202e}cd", 3)),
            ("abc".to_owned(), "a?c…".to_owned())
        );
    }
}
