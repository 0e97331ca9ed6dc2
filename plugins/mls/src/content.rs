//! What people say and send beside audio and video, as application data of MLS (RFC 9420 §6.3.1): texts, photos, files.
//!
//! A message is one stream of bytes: a header (length, content type, file name), the body, padding. It is cut into
//! chunks that a delivery takes, each of which names the message and its place in it:
//!
//! ```text
//! chunk:  message id (16 bytes) | index (u32) | count (u32) | piece, CHUNK bytes, the last one fewer
//! stream: body length (u64) | type length (u8) | content type | name length (u8) | file name | body | zeros
//! ```
//!
//! Numbers are big-endian. With padding the stream is as long as the next power of two, so that who carries it learns
//! the order of its size and nothing more; the file's name and type are in the stream, and not seen at all.
//! Chunks come from members of the room, who may be malicious: one message of each is put together at a time, all of
//! them together have a bound, and nothing is allocated before it is there.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::mem;

/// Longest body, in bytes.
pub const MAX_BODY: usize = 16 << 20;
/// Longest piece of a chunk, in bytes: with all that MLS and a record put around it far below the 1 MiB that a
/// nats-server takes.
pub const CHUNK: usize = 256 << 10;
/// Longest content type, in bytes (RFC 6838 §4.2: 127 for type and for subtype).
pub const MAX_TYPE: usize = 255;
/// Longest file name, in bytes.
pub const MAX_NAME: usize = 255;
/// Shortest padded stream, in bytes.
const LEAST: usize = 256;
/// Longest header, in bytes.
const HEADER: usize = 8 + 1 + MAX_TYPE + 1 + MAX_NAME;
/// Longest stream, in bytes: what does not fit into the power of two by its header alone is not doubled for it.
const MAX_STREAM: usize = MAX_BODY + HEADER;
/// Most chunks of a message.
const MAX_COUNT: u32 = (MAX_STREAM.div_ceil(CHUNK)) as u32;
/// Most bytes of unfinished messages of all members together.
const MAX_UNFINISHED: usize = 64 << 20;

/// So many messages that are whole are remembered.
const REMEMBERED: usize = 256;

/// Names a message, for those who tell how far it is.
pub type MessageId = [u8; 16];

/// A message.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// Media type (RFC 6838), such as `text/plain` or `image/jpeg`.
    pub content_type: String,
    /// Name of a file, without folders; empty: none.
    pub file_name: String,
    /// The bytes.
    pub body: Vec<u8>,
}

impl fmt::Debug for Content {
    /// What people say is nobody else's business: not even its kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.body.len())
    }
}

/// What cannot be sent or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Nothing to say.
    #[error("an empty message: send at least one byte")]
    Empty,
    /// Too long.
    #[error("a message of {0} bytes: send at most {MAX_BODY} (16 MiB) in one")]
    TooLong(usize),
    /// No media type.
    #[error("its content type is not a media type such as image/jpeg")]
    Type,
    /// Not the name of a file.
    #[error(
        "its file name has a / or a control character, is `.` or `..`, or is longer than {MAX_NAME} bytes: send a plain name"
    )]
    Name,
    /// A chunk that does not fit its message.
    #[error("a chunk whose lengths or numbers do not fit")]
    Chunk,
    /// A chunk whose forerunner was not seen.
    #[error("its beginning, or a part of it, was missed")]
    Missed,
    /// The bound of unfinished messages.
    #[error("too many messages are under way at once")]
    Crowded,
}

/// `type/subtype` of RFC 6838 §4.2, without parameters.
fn is_media_type(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    text.len() <= MAX_TYPE && text.split_once('/').is_some_and(|(a, b)| part(a) && part(b))
}

/// Somebody may write a file under this name.
fn is_file_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text != "."
        && text != ".."
        && !text.chars().any(|c| c == '/' || c == '\\' || c.is_control())
}

impl Content {
    /// Can it be sent?
    pub fn check(&self) -> Result<(), ContentError> {
        match self.body.len() {
            0 => return Err(ContentError::Empty),
            length if length > MAX_BODY => return Err(ContentError::TooLong(length)),
            _ => {}
        }
        if !is_media_type(&self.content_type) {
            return Err(ContentError::Type);
        }
        if !is_file_name(&self.file_name) {
            return Err(ContentError::Name);
        }
        Ok(())
    }

    fn stream(&self, padding: bool) -> Result<Vec<u8>, ContentError> {
        self.check()?;
        let length = |text: &str| u8::try_from(text.len()).unwrap_or(u8::MAX);
        let mut stream = Vec::new();
        stream.extend_from_slice(&(self.body.len() as u64).to_be_bytes());
        stream.push(length(&self.content_type));
        stream.extend_from_slice(self.content_type.as_bytes());
        stream.push(length(&self.file_name));
        stream.extend_from_slice(self.file_name.as_bytes());
        stream.extend_from_slice(&self.body);
        if padding {
            let padded = stream.len().next_power_of_two().clamp(LEAST, MAX_STREAM);
            stream.resize(padded, 0);
        }
        Ok(stream)
    }

    fn read(stream: &[u8]) -> Result<Self, ContentError> {
        let mut rest = stream;
        let length = take(&mut rest, 8)?;
        let length = length.try_into().map_err(|_| ContentError::Chunk)?;
        let length = usize::try_from(u64::from_be_bytes(length)).map_err(|_| ContentError::Chunk)?;
        let mut text = || {
            let length = take(&mut rest, 1)?.first().copied().unwrap_or(0);
            let text = take(&mut rest, length.into())?;
            String::from_utf8(text.to_vec()).map_err(|_| ContentError::Chunk)
        };
        let (content_type, file_name) = (text()?, text()?);
        let content = Self {
            content_type,
            file_name,
            body: take(&mut rest, length)?.to_vec(),
        };
        content.check()?;
        Ok(content)
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], ContentError> {
    let (taken, after) = rest.split_at_checked(length).ok_or(ContentError::Chunk)?;
    *rest = after;
    Ok(taken)
}

/// A message that is being sent.
pub struct Cut {
    id: MessageId,
    stream: Vec<u8>,
    /// Bytes of its body.
    pub length: usize,
}

impl Cut {
    /// Cuts a message; `id` is random.
    pub fn new(id: MessageId, content: &Content, padding: bool) -> Result<Self, ContentError> {
        Ok(Self {
            id,
            stream: content.stream(padding)?,
            length: content.body.len(),
        })
    }

    /// Which message it is.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Number of chunks.
    pub fn count(&self) -> u32 {
        u32::try_from(self.stream.len().div_ceil(CHUNK)).unwrap_or(u32::MAX)
    }

    /// One chunk; none beyond the last.
    pub fn chunk(&self, index: u32) -> Option<Vec<u8>> {
        let piece = self.stream.chunks(CHUNK).nth(usize::try_from(index).ok()?)?;
        let mut chunk = Vec::with_capacity(24 + piece.len());
        chunk.extend_from_slice(&self.id);
        chunk.extend_from_slice(&index.to_be_bytes());
        chunk.extend_from_slice(&self.count().to_be_bytes());
        chunk.extend_from_slice(piece);
        Some(chunk)
    }
}

/// What a chunk made of its message.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many chunks of so many are there.
    Part(MessageId, u32, u32),
    /// It is whole.
    Whole(Content),
    /// It was there already.
    Again,
}

struct Unfinished {
    id: MessageId,
    count: u32,
    next: u32,
    stream: Vec<u8>,
}

/// The messages that are being put together, one for each member, and which ones came last: who had to leave the log
/// behind does not know what of it was heard, and says it again.
#[derive(Default)]
pub struct Inbox {
    unfinished: BTreeMap<u32, Unfinished>,
    whole: VecDeque<MessageId>,
}

impl Inbox {
    /// Takes a chunk of the member at this leaf. An error ends the message that it belongs to.
    pub fn take(&mut self, leaf: u32, chunk: &[u8]) -> Result<Taken, ContentError> {
        let mut rest = chunk;
        let id: MessageId = take(&mut rest, 16)?.try_into().map_err(|_| ContentError::Chunk)?;
        let mut number = || -> Result<u32, ContentError> {
            let number = take(&mut rest, 4)?.try_into();
            number.map(u32::from_be_bytes).map_err(|_| ContentError::Chunk)
        };
        let (index, count) = (number()?, number()?);
        let is_last = count.checked_sub(1) == Some(index);
        if index >= count || count > MAX_COUNT || rest.is_empty() || rest.len() > CHUNK {
            return Err(ContentError::Chunk);
        }
        // All but the last are full, so that a message of `count` chunks has a bound.
        if !is_last && rest.len() != CHUNK {
            return Err(ContentError::Chunk);
        }
        if self.whole.contains(&id) {
            return Ok(Taken::Again);
        }
        let others: usize = self
            .unfinished
            .values()
            .map(|unfinished| unfinished.stream.len())
            .sum();
        let unfinished = match self
            .unfinished
            .get_mut(&leaf)
            .filter(|unfinished| unfinished.id == id)
        {
            Some(unfinished) if index < unfinished.next && count == unfinished.count => {
                return Ok(Taken::Again);
            }
            Some(unfinished) if (index, count) == (unfinished.next, unfinished.count) => unfinished,
            Some(_) => {
                self.unfinished.remove(&leaf);
                return Err(ContentError::Missed);
            }
            // A new one: the one before it, if it was not finished, never will be.
            None if index == 0 => {
                let fresh = Unfinished {
                    id,
                    count,
                    next: 0,
                    stream: Vec::new(),
                };
                self.unfinished.insert(leaf, fresh);
                self.unfinished.get_mut(&leaf).ok_or(ContentError::Missed)?
            }
            None => return Err(ContentError::Missed),
        };
        if others + rest.len() > MAX_UNFINISHED {
            self.unfinished.remove(&leaf);
            return Err(ContentError::Crowded);
        }
        unfinished.stream.extend_from_slice(rest);
        unfinished.next += 1;
        if unfinished.next < unfinished.count {
            return Ok(Taken::Part(id, unfinished.next, unfinished.count));
        }
        let stream = mem::take(&mut unfinished.stream);
        self.unfinished.remove(&leaf);
        if self.whole.len() == REMEMBERED {
            self.whole.pop_front();
        }
        self.whole.push_back(id);
        Content::read(&stream).map(Taken::Whole)
    }

    /// Only these are still members.
    pub fn retain(&mut self, is_member: impl Fn(u32) -> bool) {
        self.unfinished.retain(|leaf, _| is_member(*leaf));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(body: Vec<u8>) -> Content {
        Content {
            content_type: "image/jpeg".into(),
            file_name: "wound, left.jpg".into(),
            body,
        }
    }

    fn send(inbox: &mut Inbox, leaf: u32, cut: &Cut) -> Result<Taken, ContentError> {
        let mut last = Err(ContentError::Missed);
        for index in 0..cut.count() {
            last = inbox.take(leaf, &cut.chunk(index).unwrap());
        }
        last
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_cut_is_put_together(length in 1usize..3 * CHUNK, padding: bool, leaf: u32) {
            let content = content((0..length).map(|i| (i % 251) as u8).collect());
            let cut = Cut::new([7; 16], &content, padding).unwrap();
            prop_assert_eq!(cut.chunk(cut.count()), None);
            let mut inbox = Inbox::default();
            prop_assert_eq!(send(&mut inbox, leaf, &cut), Ok(Taken::Whole(content)));
            prop_assert!(inbox.unfinished.is_empty());
        }

        #[test]
        fn any_bytes_are_taken_or_refused(chunk in prop::collection::vec(any::<u8>(), 0..300), small in 0u8..4) {
            let mut inbox = Inbox::default();
            let _ = inbox.take(0, &chunk);
            // With numbers that fit, so that the stream is read, too.
            let mut fits = vec![0; 24];
            fits[19] = small;
            fits[23] = 4;
            fits.extend_from_slice(&chunk);
            let _ = inbox.take(0, &fits);
            fits[19] = 0;
            fits[23] = 1;
            let _ = inbox.take(1, &fits);
        }
    }

    #[test]
    fn padding_hides_all_but_the_order_of_size() {
        let sizes = |length: usize| {
            let cut = Cut::new([0; 16], &content(vec![1; length]), true).unwrap();
            (0..cut.count())
                .map(|i| cut.chunk(i).unwrap().len())
                .collect::<Vec<_>>()
        };
        assert_eq!(sizes(1), sizes(200));
        assert_eq!(sizes(1), [24 + LEAST]);
        assert_eq!(sizes(70_000), sizes(131_000));
        assert_eq!(sizes(5 << 20), sizes(7 << 20));
        assert_eq!(sizes(9 << 20).len(), 64);
        assert_eq!(sizes(MAX_BODY).len(), 65);
    }

    #[test]
    fn the_longest_goes_through_and_a_longer_one_does_not() {
        let mut longest = content(vec![3; MAX_BODY]);
        longest.content_type = format!("application/{}", "x".repeat(MAX_TYPE - 12));
        longest.file_name = "n".repeat(MAX_NAME);
        for padding in [true, false] {
            let cut = Cut::new([1; 16], &longest, padding).unwrap();
            assert_eq!(cut.count(), MAX_COUNT);
            let whole = send(&mut Inbox::default(), 0, &cut);
            assert_eq!(whole, Ok(Taken::Whole(longest.clone())));
        }
        let longer = content(vec![0; MAX_BODY + 1]);
        assert_eq!(longer.check(), Err(ContentError::TooLong(MAX_BODY + 1)));
        assert_eq!(content(Vec::new()).check(), Err(ContentError::Empty));
    }

    #[test]
    fn a_missing_repeated_or_foreign_chunk_ends_nothing_but_its_message() {
        let cut = Cut::new([1; 16], &content(vec![5; 3 * CHUNK]), false).unwrap();
        let (first, second) = (cut.chunk(0).unwrap(), cut.chunk(1).unwrap());
        let mut inbox = Inbox::default();
        assert_eq!(inbox.take(0, &second), Err(ContentError::Missed));
        assert_eq!(inbox.take(0, &first), Ok(Taken::Part([1; 16], 1, 4)));
        assert_eq!(inbox.take(0, &first), Ok(Taken::Again));
        // Another member's message is another message, whatever its id.
        assert_eq!(inbox.take(9, &second), Err(ContentError::Missed));
        assert_eq!(inbox.take(0, &cut.chunk(2).unwrap()), Err(ContentError::Missed));
        assert_eq!(inbox.take(0, &second), Err(ContentError::Missed));
        assert!(matches!(send(&mut inbox, 0, &cut), Ok(Taken::Whole(..))));
        assert_eq!(send(&mut inbox, 0, &cut), Ok(Taken::Again), "heard once");
    }

    #[test]
    fn what_lies_unfinished_has_a_bound() {
        let cut = Cut::new([1; 16], &content(vec![5; MAX_BODY]), false).unwrap();
        let mut inbox = Inbox::default();
        let mut refused = 0;
        for leaf in 0..10 {
            for index in 0..cut.count() - 1 {
                refused +=
                    u32::from(inbox.take(leaf, &cut.chunk(index).unwrap()) == Err(ContentError::Crowded));
            }
        }
        assert!(refused > 0);
        let held: usize = inbox
            .unfinished
            .values()
            .map(|unfinished| unfinished.stream.len())
            .sum();
        assert!(held <= MAX_UNFINISHED);
        inbox.retain(|leaf| leaf > 9);
        assert!(inbox.unfinished.is_empty());
    }

    #[test]
    fn only_types_and_names_that_somebody_can_use_go_through() {
        let with = |content_type: &str, file_name: &str| {
            let (content_type, file_name) = (content_type.into(), file_name.into());
            let body = vec![1];
            Content {
                content_type,
                file_name,
                body,
            }
            .check()
        };
        assert_eq!(with("application/fhir+json", ""), Ok(()));
        assert_eq!(with("text/plain", "Befund Müller.txt"), Ok(()));
        for bad in [
            "",
            "text",
            "text/",
            "/plain",
            "text/plain; charset=utf-8",
            "a b/c",
        ] {
            assert_eq!(with(bad, ""), Err(ContentError::Type), "{bad}");
        }
        for bad in ["../x", "a/b", "a\\b", "..", ".", "a\nb", &"x".repeat(256)] {
            assert_eq!(with("text/plain", bad), Err(ContentError::Name), "{bad}");
        }
    }

    #[test]
    fn debug_shows_nothing_of_it() {
        assert_eq!(format!("{:?}", content(vec![1, 2])), "Content(2 bytes)");
    }
}
