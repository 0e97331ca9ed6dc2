//! The application's own way between two ends: a Unix socket here, a server of the vendor's in a product.
//!
//! Each message is a line `KIND BYTES`, and then as many bytes. Whoever carries it sees descriptions, addresses and the
//! sizes and times of the room's messages, and can drop and change all of it; it sees no key.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// Longer than any description, and than a message of a room of two.
const LONGEST: usize = 1 << 20;

/// What the ends say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A session description of who calls.
    Offer(String),
    /// The one of who is called.
    Answer(String),
    /// A candidate of ICE: number of the medium, candidate.
    Candidate(u32, String),
    /// A message of the room; from the host to the guest in the order that is the room's.
    Room(Vec<u8>),
    /// This end has what it wanted.
    Done,
    /// This end hangs up, and why.
    Bye(String),
}

fn refused(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the other end's signalling: {what}"),
    )
}

impl Message {
    /// Writes it.
    pub fn send(&self, to: &mut impl Write) -> io::Result<()> {
        let candidate;
        let (kind, bytes) = match self {
            Self::Offer(sdp) => ("offer", sdp.as_bytes()),
            Self::Answer(sdp) => ("answer", sdp.as_bytes()),
            Self::Candidate(medium, text) => {
                candidate = format!("{medium} {text}");
                ("candidate", candidate.as_bytes())
            }
            Self::Room(message) => ("room", &**message),
            Self::Done => ("done", &[][..]),
            Self::Bye(why) => ("bye", why.as_bytes()),
        };
        to.write_all(format!("{kind} {}\n", bytes.len()).as_bytes())?;
        to.write_all(bytes)
    }

    /// Reads the next one; `None` at the end.
    pub fn receive(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if from.by_ref().take(64).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let (kind, length) = line
            .trim_end()
            .split_once(' ')
            .ok_or_else(|| refused("no length"))?;
        let length: usize = length.parse().map_err(|_| refused("no length"))?;
        if length > LONGEST {
            return Err(refused("a message is too long"));
        }
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes)?;
        let text = |bytes| String::from_utf8(bytes).map_err(|_| refused("no text"));
        Ok(Some(match kind {
            "offer" => Self::Offer(text(bytes)?),
            "answer" => Self::Answer(text(bytes)?),
            "candidate" => {
                let text = text(bytes)?;
                let (medium, candidate) = text.split_once(' ').ok_or_else(|| refused("no candidate"))?;
                let medium = medium.parse().map_err(|_| refused("no candidate"))?;
                Self::Candidate(medium, candidate.to_owned())
            }
            "room" => Self::Room(bytes),
            "done" => Self::Done,
            "bye" => Self::Bye(text(bytes)?),
            _ => return Err(refused("a message of a kind that is not known")),
        }))
    }
}

/// Calls `heard` with each message, then with the end or the error, in a thread of its own.
pub fn listen(stream: UnixStream, heard: impl Fn(io::Result<Option<Message>>) + Send + 'static) {
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        loop {
            let message = Message::receive(&mut stream);
            let over = !matches!(message, Ok(Some(_)));
            heard(message);
            if over {
                return;
            }
        }
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]
mod tests {
    use super::Message;

    #[test]
    fn what_is_sent_is_received() {
        let said = [
            Message::Offer("v=0\r\na=sframe\r\n".into()),
            Message::Candidate(1, "candidate:1 1 UDP 1 127.0.0.1 9 typ host".into()),
            Message::Room(vec![0, 10, 255]),
            Message::Done,
            Message::Bye("over".into()),
        ];
        let mut carried = Vec::new();
        for message in &said {
            message.send(&mut carried).unwrap();
        }
        let mut carried = &*carried;
        for message in &said {
            assert_eq!(Message::receive(&mut carried).unwrap().as_ref(), Some(message));
        }
        assert_eq!(Message::receive(&mut carried).unwrap(), None);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for said in [
            "offer\n",
            "offer -1\n",
            "offer 4\nv=0",
            "offer 99999999\n",
            "shout 0\n",
            "candidate 1\nx",
        ] {
            assert!(Message::receive(&mut said.as_bytes()).is_err(), "{said:?}");
        }
        let endless = vec![b'x'; 1 << 16];
        assert!(Message::receive(&mut &*endless).is_err());
    }
}
