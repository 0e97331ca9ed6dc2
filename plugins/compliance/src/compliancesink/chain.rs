//! From encoded frames to the members of a recording: a parser where the codec needs one, `matroskamux`, the cutter.
//!
//! A member begins with a Cluster. The muxer begins one when it is told to (`GstForceKeyUnit`), so a member can end behind
//! any frame; it does so by itself where media comes faster than time passes. Frames are stored as they are, but for
//! H.264 and H.265, which Matroska wants with lengths instead of start codes.

use std::time::Instant;

use gst::prelude::*;
use zeroize::Zeroizing;

use super::inline::{Inline, Made};
use super::queue::Held;
use crate::matroska::{Cutter, MAX_CLUSTER, Piece};
use crate::recording::Medium;

/// Largest frame that is recorded.
pub const MAX_FRAME: usize = MAX_CLUSTER / 2;

/// So far behind the beginning of its Cluster a frame is stored in it; the time in a block has 16 bits.
const BEHIND: u64 = 1_000_000_000;

/// How a codec is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Codec {
    media_type: &'static str,
    /// The parser in front of the muxer, and the caps to ask of it.
    parser: Option<(&'static str, &'static str)>,
    medium: Medium,
    /// What the pads of the recorder take.
    caps: &'static str,
}

const fn codec(media_type: &'static str, medium: Medium, caps: &'static str) -> Codec {
    Codec {
        media_type,
        parser: None,
        medium,
        caps,
    }
}

const CODECS: &[Codec] = &[
    codec("video/x-vp8", Medium::Video, "width=[1,max], height=[1,max]"),
    codec("video/x-vp9", Medium::Video, "width=[1,max], height=[1,max]"),
    codec(
        "video/x-av1",
        Medium::Video,
        "stream-format=obu-stream, alignment=tu, width=[1,max], height=[1,max]",
    ),
    Codec {
        parser: Some(("h264parse", "video/x-h264, stream-format=avc, alignment=au")),
        ..codec(
            "video/x-h264",
            Medium::Video,
            "stream-format={byte-stream,avc,avc3}, alignment=au",
        )
    },
    Codec {
        parser: Some(("h265parse", "video/x-h265, stream-format=hvc1, alignment=au")),
        ..codec(
            "video/x-h265",
            Medium::Video,
            "stream-format={byte-stream,hvc1,hev1}, alignment=au",
        )
    },
    codec("audio/x-opus", Medium::Audio, "channels=[1,255]"),
    codec(
        "audio/x-mulaw",
        Medium::Audio,
        "channels=[1,2], rate=[8000,192000]",
    ),
    codec(
        "audio/x-alaw",
        Medium::Audio,
        "channels=[1,2], rate=[8000,192000]",
    ),
    codec(
        "audio/x-raw",
        Medium::Audio,
        "format={S16BE,S16LE}, layout=interleaved, channels=[1,max], rate=[1,max]",
    ),
    codec("text/x-raw", Medium::Text, "format=utf8"),
];

/// Caps of everything that can be recorded.
pub fn recordable() -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    for codec in CODECS {
        let text = format!("{}, {}", codec.media_type, codec.caps).replace("max", &i32::MAX.to_string());
        // A mistake in the table shows in the tests, as a codec that is not there.
        if let Ok(part) = text.parse::<gst::Caps>() {
            caps.make_mut().append(part);
        }
    }
    caps
}

fn codec_of(caps: &gst::Caps) -> Option<Codec> {
    let name = caps.structure(0)?.name();
    CODECS.iter().find(|codec| codec.media_type == name).copied()
}

/// A frame to record.
pub struct Frame {
    /// The frame with its duration and flags; its times are set here.
    pub buffer: gst::Buffer,
    /// When it is shown, on the clock of the recording.
    pub time_ns: u64,
    /// Epoch that it was sealed in.
    pub epoch: u64,
    /// When it came.
    pub came: Instant,
    /// Its bytes, as long as they are in memory.
    pub held: Held,
}

/// Frames that belong together on disk: Clusters, with the stream's header in front of the first.
pub struct Member {
    pub bytes: Zeroizing<Vec<u8>>,
    pub from_ns: u64,
    pub to_ns: u64,
    /// The lowest and the highest epoch of its frames.
    pub epochs: (u64, u64),
    pub frames: u32,
    /// How many of them can be decoded without others; `None` where that is no question.
    pub keyframes: Option<u32>,
    /// When its first frame came.
    pub came: Instant,
    /// The bytes of its frames.
    pub held: Held,
}

/// What a chain gives.
pub enum Output {
    /// What follows is a track of its own. The caps are those in which its frames are stored.
    Track(gst::Caps),
    /// The next member of the latest track.
    Member(Member),
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in a member, or will be.
    Kept,
    /// It needs frames that are not there.
    WaitsForKeyframe,
}

/// The frames of one pad, caps and sender, on their way.
pub struct Chain {
    codec: Codec,
    parser: Option<Inline>,
    /// The caps of what is stored, where they are known.
    stored: Option<gst::Caps>,
    track: Option<Track>,
    waits_for_keyframe: bool,
    segment_ns: u64,
}

impl Chain {
    /// A chain for frames of these caps, whose members last so long at most. The error says why there can be none.
    pub fn new(caps: &gst::Caps, segment_ns: u64) -> Result<Self, String> {
        let codec = codec_of(caps).ok_or_else(|| format!("nothing can store {caps}"))?;
        let (parser, stored) = match codec.parser {
            None => (None, Some(caps.clone())),
            Some((name, wanted)) => {
                let wanted = wanted.parse::<gst::Caps>().map_err(|error| error.to_string())?;
                let parser = Inline::start(make(name)?, "sink", Some(wanted))?;
                parser.set_caps(caps)?;
                (Some(parser), None)
            }
        };
        Ok(Self {
            codec,
            parser,
            stored,
            track: None,
            waits_for_keyframe: is_video(codec),
            segment_ns,
        })
    }

    /// Takes a frame; appends to `output` what is finished by it.
    pub fn push(&mut self, frame: Frame, output: &mut Vec<Output>) -> Result<Fate, String> {
        let mut frame = frame;
        let buffer = frame.buffer.make_mut();
        buffer.set_pts(gst::ClockTime::from_nseconds(frame.time_ns));
        buffer.set_dts(gst::ClockTime::NONE);
        let Some(parser) = &self.parser else {
            return self.store(frame, output);
        };
        // What is read of its headers may be the beginning of another stream.
        let mut parsed = None;
        for made in parser.push(frame.buffer.clone())? {
            match made {
                Made::Caps(caps) => {
                    if self.stored.as_ref() != Some(&caps) {
                        self.end_track(output)?;
                        self.stored = Some(caps);
                    }
                }
                Made::Buffer(buffer) if parsed.is_none() => parsed = Some(buffer),
                Made::Buffer(_) => {
                    return Err("a buffer has several access units: insert a parser in front".into());
                }
            }
        }
        match parsed {
            // Parsers skip what cannot be decoded before the first keyframe.
            None => Ok(Fate::WaitsForKeyframe),
            Some(buffer) => self.store(Frame { buffer, ..frame }, output),
        }
    }

    /// A frame that should have come here was dropped: deltas now wait for a keyframe.
    pub fn note_drop(&mut self) {
        self.waits_for_keyframe = is_video(self.codec);
    }

    /// When the first frame of the member came that is not finished yet.
    pub fn began(&self) -> Option<Instant> {
        Some(self.track.as_ref()?.member.as_ref()?.came)
    }

    /// Ends the member under way.
    pub fn finish_member(&mut self) -> Result<Option<Member>, String> {
        self.track.as_mut().map_or(Ok(None), Track::finish_member)
    }

    fn end_track(&mut self, output: &mut Vec<Output>) -> Result<(), String> {
        if let Some(mut track) = self.track.take() {
            output.extend(track.finish_member()?.map(Output::Member));
        }
        self.waits_for_keyframe = is_video(self.codec);
        Ok(())
    }

    fn store(&mut self, frame: Frame, output: &mut Vec<Output>) -> Result<Fate, String> {
        if is_video(self.codec) {
            let is_delta = frame.buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            if self.waits_for_keyframe && is_delta {
                return Ok(Fate::WaitsForKeyframe);
            }
            self.waits_for_keyframe = false;
        }
        let track = match &mut self.track {
            Some(track) => track,
            None => {
                let caps = self
                    .stored
                    .as_ref()
                    .ok_or("the parser made a frame without caps")?;
                let track = Track::new(self.codec, caps, self.segment_ns)?;
                output.push(Output::Track(caps.clone()));
                self.track.insert(track)
            }
        };
        track.store(frame, output)?;
        Ok(Fate::Kept)
    }
}

fn is_video(codec: Codec) -> bool {
    codec.medium == Medium::Video
}

fn make(factory: &str) -> Result<gst::Element, String> {
    gst::ElementFactory::make(factory)
        .build()
        .map_err(|_| format!("there is no element {factory}: install GStreamer's good and bad plugins"))
}

/// What is known of the member under way.
struct Begun {
    from_ns: u64,
    to_ns: u64,
    epochs: (u64, u64),
    frames: u32,
    keyframes: Option<u32>,
    came: Instant,
    held: Held,
}

/// One stream of Matroska.
struct Track {
    /// Does it matter which frames can be decoded alone?
    has_keyframes: bool,
    muxer: Inline,
    cutter: Cutter,
    /// The header, until there is a member to put it into.
    header: Vec<u8>,
    member: Option<Begun>,
    /// The next frame must begin a Cluster, and the muxer does not know.
    cut: bool,
}

impl Track {
    fn new(codec: Codec, caps: &gst::Caps, segment_ns: u64) -> Result<Self, String> {
        let muxer = make("matroskamux")?;
        muxer.set_property("streamable", true);
        // Whoever calls ends the members as time passes. Frames may come in bursts: the muxer's own limit, by their
        // times, must not end one shortly before that.
        let limit = i64::try_from(segment_ns + segment_ns / 2).unwrap_or(i64::MAX);
        muxer.set_property("max-cluster-duration", limit);
        muxer.set_property("min-cluster-duration", limit);
        muxer.set_property("writing-app", "gst-plugins-e2ee compliancesink");
        let pad = match codec.medium {
            Medium::Video => "video_%u",
            Medium::Audio => "audio_%u",
            Medium::Text | Medium::Data => "subtitle_%u",
        };
        let muxer = Inline::start(muxer, pad, None)?;
        muxer.set_caps(caps)?;
        Ok(Self {
            has_keyframes: is_video(codec),
            muxer,
            cutter: Cutter::new(),
            header: Vec::new(),
            member: None,
            cut: false,
        })
    }

    fn store(&mut self, frame: Frame, output: &mut Vec<Output>) -> Result<(), String> {
        let Frame {
            buffer,
            time_ns,
            epoch,
            came,
            held,
        } = frame;
        let is_behind = self
            .member
            .as_ref()
            .is_some_and(|begun| time_ns.saturating_add(BEHIND) < begun.from_ns);
        if is_behind || self.cutter.pending() + buffer.size() > MAX_FRAME {
            output.extend(self.finish_member()?.map(Output::Member));
        }
        if std::mem::take(&mut self.cut) {
            self.muxer.send(new_cluster());
        }
        let duration = buffer.duration().map_or(0, gst::ClockTime::nseconds);
        let end_ns = time_ns.saturating_add(duration);
        let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let keyframes = self.has_keyframes.then_some(u32::from(is_key));
        for made in self.muxer.push(buffer)? {
            // The caps are always Matroska.
            let Made::Buffer(made) = made else { continue };
            let bytes = made.map_readable().map_err(|error| error.to_string())?;
            for piece in self.cutter.push(&bytes).map_err(|error| error.to_string())? {
                match piece {
                    Piece::Header(bytes) => self.header = bytes,
                    Piece::Cluster(cluster) => {
                        let member = self.member.take();
                        output.extend(member.map(|begun| Output::Member(self.whole(begun, cluster.bytes))));
                    }
                }
            }
        }
        match &mut self.member {
            None => {
                self.member = Some(Begun {
                    from_ns: time_ns,
                    to_ns: end_ns,
                    epochs: (epoch, epoch),
                    frames: 1,
                    keyframes,
                    came,
                    held,
                });
            }
            Some(begun) => {
                begun.from_ns = begun.from_ns.min(time_ns);
                begun.to_ns = begun.to_ns.max(end_ns);
                begun.epochs = (begun.epochs.0.min(epoch), begun.epochs.1.max(epoch));
                begun.frames += 1;
                begun.keyframes = begun.keyframes.zip(keyframes).map(|(all, one)| all + one);
                begun.held.join(held);
            }
        }
        Ok(())
    }

    fn finish_member(&mut self) -> Result<Option<Member>, String> {
        let Some(begun) = self.member.take() else {
            return Ok(None);
        };
        let cluster = self.cutter.cut().map_err(|error| error.to_string())?;
        self.cut = true;
        Ok(cluster.map(|cluster| self.whole(begun, cluster.bytes)))
    }

    fn whole(&mut self, begun: Begun, cluster: Vec<u8>) -> Member {
        let mut bytes = Zeroizing::new(std::mem::take(&mut self.header));
        if bytes.is_empty() {
            bytes = Zeroizing::new(cluster);
        } else {
            bytes.extend_from_slice(&Zeroizing::new(cluster));
        }
        Member {
            bytes,
            from_ns: begun.from_ns,
            to_ns: begun.to_ns,
            epochs: begun.epochs,
            frames: begun.frames,
            keyframes: begun.keyframes,
            came: begun.came,
            held: begun.held,
        }
    }
}

/// Makes the muxer begin a Cluster with the next buffer: GstVideo's DownstreamForceKeyUnit, written out so that no video
/// library is linked for one event.
fn new_cluster() -> gst::Event {
    let none = gst::ClockTime::NONE;
    let structure = gst::Structure::builder("GstForceKeyUnit")
        .field("timestamp", none)
        .field("stream-time", none)
        .field("running-time", none)
        .field("all-headers", false)
        .field("count", 0u32)
        .build();
    gst::event::CustomDownstream::new(structure)
}
