//! The manifest: one signed line per fact, each naming the SHA-256 of the line before.
//!
//! A line is a JSON object, a tab, 128 hex digits (Ed25519 over the JSON's bytes, purpose `manifest`) and a line feed.
//! `cut -f1` gives the JSON. The first line names the SHA-256 of `recording.json` as the line before it. So the last
//! line's signature is for all of them and for the facts, and its SHA-256 is the manifest's root.

use std::fmt;
use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};

use super::is_plain;
use super::member::MAX_MEMBER;
use crate::digest::Digest;
use crate::signing::{PublicKey, Signature, Signer};

/// Longest line, in bytes, without its line feed: an end record of the most tracks.
pub const MAX_LINE: usize = 256 * 1024;
/// Longest caps of a track, in bytes.
pub const MAX_CAPS: usize = 32 * 1024;
/// Longest other text, in bytes.
pub const MAX_TEXT: usize = 1024;
/// Most tracks of a recording.
pub const MAX_TRACKS: u32 = 4096;
/// Most tracks that a crash can leave unsealed bytes in, as one line tells them.
pub const MAX_CUTS: usize = 1_000;

/// What the signatures are for.
const PURPOSE: &str = "manifest";

/// A track of a recording, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrackId(pub u32);

impl fmt::Display for TrackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a track holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Text: chat, captions.
    Text,
    /// Anything else.
    Data,
}

impl Medium {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Audio, Self::Video, Self::Text, Self::Data];
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Text => "text",
            Self::Data => "data",
        })
    }
}

/// How far a manifest goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// So many lines.
    pub lines: u64,
    /// SHA-256 of the last one, without its line feed.
    pub root: Digest,
}

/// A line's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Counted from 0.
    pub line: u64,
    /// SHA-256 of the line before, of recording.json in the first.
    pub previous: Digest,
    /// What it says.
    pub fact: Fact,
}

/// What a line says. Times are unix milliseconds; `from` and `to` are nanoseconds on the recording's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// The recording began. The first line, and no other.
    Start(StartFact),
    /// A track begins.
    Track(TrackFact),
    /// A member is sealed.
    Member(MemberFact),
    /// Something of a track was not recorded.
    Gap(GapFact),
    /// The recorder came back after a crash.
    Resumed(ResumedFact),
    /// The recording ended. The last line.
    End(EndFact),
}

/// See [`Fact::Start`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartFact {
    /// As in recording.json.
    pub time: u64,
}

/// See [`Fact::Track`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackFact {
    /// Its number: that of the track before, and one more.
    pub track: TrackId,
    /// What it holds.
    pub medium: Medium,
    /// GStreamer caps of what was recorded.
    pub caps: String,
    /// The sender's leaf when the track was opened.
    pub leaf: Option<u32>,
    /// The sender, opaque.
    pub sender: String,
}

/// See [`Fact::Member`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberFact {
    /// Its track.
    pub track: TrackId,
    /// Its number in the track, from 0.
    pub sequence: u64,
    /// Of its age file.
    pub sha256: Digest,
    /// Where its header begins in the tar.
    pub offset: u64,
    /// Length of its age file.
    pub bytes: u64,
    /// Time of its first frame.
    pub from: u64,
    /// Time at which its last frame ends.
    pub to: u64,
    /// First and last epoch that its frames were sealed in.
    pub epochs: (u64, u64),
    /// The leaf that sealed them; not there where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<u32>,
    /// How many frames.
    pub frames: u32,
    /// How many of them can be decoded without others: who seeks need not read where there is none. Not there where it
    /// is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyframes: Option<u32>,
}

/// See [`Fact::Gap`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GapFact {
    /// Its track.
    pub track: TrackId,
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// So many frames are missing, as far as that is known.
    pub frames: u64,
    /// Why.
    pub cause: String,
}

/// See [`Fact::Resumed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumedFact {
    /// When.
    pub time: u64,
    /// Bytes of the manifest that were cut off: a line that was not whole.
    pub manifest: u64,
    /// What was cut off tars: bytes that no line was for.
    pub cuts: Vec<CutFact>,
}

/// See [`ResumedFact`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutFact {
    /// Name of the tar.
    pub tar: String,
    /// How many bytes.
    pub bytes: u64,
}

/// See [`Fact::End`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndFact {
    /// When.
    pub time: u64,
    /// Why.
    pub reason: String,
    /// Members that could not be sealed any more.
    pub lost: u64,
    /// All tracks, in order.
    pub tracks: Vec<TrackEnd>,
}

/// See [`EndFact`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackEnd {
    /// How many members it has.
    pub members: u64,
    /// Length of its tar, end-of-archive included; 0: it has none.
    pub bytes: u64,
}

/// Why a line does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineError {
    /// No JSON of ours, or no signature.
    Form,
    /// The signature is not the log key's.
    Signature,
    /// It does not follow the line before.
    Chain,
}

impl Fact {
    /// Is every text and number within its bounds?
    fn is_sound(&self) -> bool {
        match self {
            Self::Start(_) => true,
            Self::Track(track) => {
                track.track.0 < MAX_TRACKS
                    && is_plain(&track.caps, MAX_CAPS)
                    && is_plain(&track.sender, MAX_TEXT)
            }
            Self::Member(member) => {
                member.track.0 < MAX_TRACKS
                    && (1..=MAX_MEMBER).contains(&member.bytes)
                    && member.offset < 1 << 60
                    && member.sequence < u64::MAX
                    && member.from <= member.to
                    && member.epochs.0 <= member.epochs.1
            }
            Self::Gap(gap) => {
                gap.track.0 < MAX_TRACKS && gap.from <= gap.to && is_plain(&gap.cause, MAX_TEXT)
            }
            Self::Resumed(resumed) => resumed.cuts.iter().all(|cut| is_plain(&cut.tar, MAX_TEXT)),
            Self::End(end) => is_plain(&end.reason, MAX_TEXT),
        }
    }
}

/// Splits a line and reads its JSON; checks no signature.
pub fn parse(line: &[u8]) -> Result<(Line, &[u8], Signature), LineError> {
    let tab = line
        .iter()
        .position(|byte| *byte == b'\t')
        .ok_or(LineError::Form)?;
    let (json, signature) = line.split_at(tab);
    let signature = signature
        .get(1..)
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .and_then(|hex| hex.parse().ok())
        .ok_or(LineError::Form)?;
    let content: Line = serde_json::from_slice(json).map_err(|_| LineError::Form)?;
    if !content.fact.is_sound() {
        return Err(LineError::Form);
    }
    Ok((content, json, signature))
}

/// Reads a line and checks its signature.
pub fn verify_line(line: &[u8], key: &PublicKey) -> Result<Line, LineError> {
    let (content, json, signature) = parse(line)?;
    if key.verifies(PURPOSE, json, &signature) {
        Ok(content)
    } else {
        Err(LineError::Signature)
    }
}

/// Where a manifest stands: how many lines, and what the next one must name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    lines: u64,
    root: Digest,
}

impl Chain {
    /// Before the first line of a recording with this recording.json.
    pub fn new(recording_file: &[u8]) -> Self {
        Self {
            lines: 0,
            root: Digest::of(recording_file),
        }
    }

    /// Behind a line of this number, wherever it came from.
    pub fn behind(number: u64, line: &[u8]) -> Self {
        Self {
            lines: number.saturating_add(1),
            root: Digest::of(line),
        }
    }

    /// How far it goes.
    pub fn root(&self) -> Root {
        Root {
            lines: self.lines,
            root: self.root,
        }
    }

    /// Makes the next line, line feed included.
    pub fn make(&mut self, fact: Fact, signer: &dyn Signer) -> Result<Vec<u8>, String> {
        if !fact.is_sound() {
            return Err("a text or a number is out of bounds".to_owned());
        }
        let line = Line {
            line: self.lines,
            previous: self.root,
            fact,
        };
        let mut bytes = serde_json::to_vec(&line).map_err(|e| e.to_string())?;
        let signature = signer.sign(PURPOSE, &bytes);
        bytes.extend_from_slice(format!("\t{signature}").as_bytes());
        if bytes.len() > MAX_LINE {
            return Err(format!("a line of the manifest has more than {MAX_LINE} bytes"));
        }
        self.pass(&bytes);
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Does the line follow? It is not passed then.
    pub fn follows(&self, content: &Line) -> bool {
        content.line == self.lines && content.previous == self.root
    }

    /// Goes on behind a line.
    pub fn pass(&mut self, line: &[u8]) {
        self.lines += 1;
        self.root = Digest::of(line);
    }
}

/// A line as it stands in the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Raw {
    /// Without its line feed.
    Line(Vec<u8>),
    /// The file ends before a line feed, after so many bytes.
    Torn(u64),
    /// Longer than any line; so many bytes, with line feed where there is one.
    TooLong(u64),
}

impl Raw {
    /// How much of the file it takes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Line(line) => line.len() as u64 + 1,
            Self::Torn(bytes) | Self::TooLong(bytes) => *bytes,
        }
    }
}

/// Reads the next line, with bounded memory. None: the file ends after a line feed.
pub fn next_raw(source: &mut impl BufRead) -> io::Result<Option<Raw>> {
    let mut line = Vec::new();
    let mut skipped = 0;
    loop {
        let buffer = match source.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |end| end + 1);
        if taken == 0 {
            let total = skipped + line.len() as u64;
            return Ok((total > 0).then_some(Raw::Torn(total)));
        }
        line.extend_from_slice(buffer.get(..taken).unwrap_or_default());
        source.consume(taken);
        if line.len() > MAX_LINE + 1 {
            skipped += line.len() as u64;
            line.clear();
        }
        if end.is_some() {
            if skipped > 0 {
                return Ok(Some(Raw::TooLong(skipped + line.len() as u64)));
            }
            line.pop();
            return Ok(Some(Raw::Line(line)));
        }
    }
}

/// The lines at a manifest's beginning that hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// How far they go.
    pub chain: Chain,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many bytes come behind them.
    pub rest: u64,
    /// A line further behind that has a good signature: what is in between was not torn, it was changed.
    pub later: Option<u64>,
}

/// Finds the lines that hold: each follows the one before, and the last one's signature, which is for all of them, is
/// good. None: not even the first does.
pub fn prefix(source: &mut impl BufRead, begin: Chain, key: &PublicKey) -> io::Result<Option<Prefix>> {
    // The last two lines that follow, behind each of them where the manifest stands.
    let (mut last, mut before) = (None, None);
    let (mut chain, mut bytes) = (begin, 0);
    let mut stopped = None;
    while let Some(raw) = next_raw(source)? {
        let follows = match &raw {
            Raw::Line(line) => parse(line).is_ok_and(|(content, ..)| chain.follows(&content)),
            _ => false,
        };
        match raw {
            Raw::Line(line) if follows => {
                chain.pass(&line);
                bytes += line.len() as u64 + 1;
                before = last.replace((chain, bytes, line));
            }
            raw => {
                stopped = Some(raw);
                break;
            }
        }
    }
    // A signature that is changed in the last line is in no other line's way.
    let signed = |(chain, bytes, line): (Chain, u64, Vec<u8>)| {
        verify_line(&line, key).is_ok().then_some((chain, bytes))
    };
    let Some((chain, held)) = last.and_then(signed).or_else(|| before.and_then(signed)) else {
        return Ok(None);
    };
    let mut rest = bytes - held;
    let mut later = None;
    while let Some(raw) = stopped {
        rest += raw.bytes();
        if let Raw::Line(line) = &raw
            && later.is_none()
        {
            later = verify_line(line, key).ok().map(|content| content.line);
        }
        stopped = next_raw(source)?;
    }
    Ok(Some(Prefix {
        chain,
        bytes: held,
        rest,
        later,
    }))
}
