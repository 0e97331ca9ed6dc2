//! Caps and tags of a track: what the manifest says in clear, and what only the track's header has.

use gst::prelude::*;

use crate::ids::RecordingId;
use crate::matroska::Header;
use crate::recording::{Medium, TrackId, TrackInfo};

/// The caps of a track's frames. `header`: of its first member, if that could be read. The error says why there are none.
pub fn caps(track: &TrackInfo, header: Option<&Header>) -> Result<gst::Caps, String> {
    let unusable = |why: &str| format!("track {} cannot be played: {why}", track.id);
    let mut caps: gst::Caps = track
        .caps
        .parse()
        .map_err(|_| unusable("GStreamer does not know the caps that it was recorded with"))?;
    if !caps.is_fixed() {
        return Err(unusable("it has no media, or of no one kind"));
    }
    let private = header
        .map(|header| header.codec_private.clone())
        .unwrap_or_default();
    let private = (!private.is_empty()).then(|| gst::Buffer::from_slice(private));
    for structure in caps.make_mut().iter_mut() {
        match structure.name().as_str() {
            "video/x-h264" | "video/x-h265" => {
                let private = private.clone().ok_or_else(|| {
                    unusable("its first member is damaged, which has what a decoder must know of all others")
                })?;
                structure.set("codec_data", private);
            }
            "video/x-av1" => private
                .iter()
                .for_each(|private| structure.set("codec_data", private)),
            "audio/x-opus" => {
                let header = private.iter().map(ToSendValue::to_send_value);
                if private.is_some() {
                    structure.set("streamheader", gst::Array::from_values(header));
                }
            }
            _ => {}
        }
    }
    Ok(caps)
}

/// The id of a track's stream: the same whenever it is played.
pub fn stream_id(recording: RecordingId, track: TrackId) -> String {
    format!("{recording}/{track}")
}

/// A track's stream.
pub fn stream(
    recording: RecordingId,
    track: &TrackInfo,
    caps: &gst::Caps,
    tags: &gst::TagList,
) -> gst::Stream {
    let (kind, flags) = match track.medium {
        Medium::Audio => (gst::StreamType::AUDIO, gst::StreamFlags::empty()),
        Medium::Video => (gst::StreamType::VIDEO, gst::StreamFlags::empty()),
        Medium::Text => (gst::StreamType::TEXT, gst::StreamFlags::SPARSE),
        Medium::Data => (gst::StreamType::UNKNOWN, gst::StreamFlags::SPARSE),
    };
    let stream = gst::Stream::new(Some(&stream_id(recording, track.id)), Some(caps), kind, flags);
    stream.set_tags(Some(tags));
    stream
}

/// Whose track it is, in `extended-comment` tags of the form `compliance-…=…`: no other tag takes an id that is no name.
pub fn tags(recording: RecordingId, track: &TrackInfo) -> gst::TagList {
    let mut tags = gst::TagList::new();
    let list = tags.make_mut();
    list.set_scope(gst::TagScope::Stream);
    let mut add = |key: &str, value: &str| {
        let comment = format!("compliance-{key}={value}");
        list.add::<gst::tags::ExtendedComment>(&comment.as_str(), gst::TagMergeMode::Append);
    };
    add("recording", &recording.to_string());
    add("track", &track.id.to_string());
    add("medium", &track.medium.to_string());
    if !track.sender.is_empty() {
        add("sender", &track.sender);
    }
    if let Some(leaf) = track.leaf {
        add("leaf", &leaf.to_string());
    }
    tags
}
