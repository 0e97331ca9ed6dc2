//! Caps of sealed media and back. Sealed caps keep the original fields, so that nothing is lost on the way, except
//! those that hold the codec's own data: they would leave in clear.

use crate::codec::Codec;
use gst::prelude::*;
use gst_e2ee_common::caps_table::{
    A_SFRAME, CLEAR_PREFIX, CLEAR_PREFIX_CODEC, CLEAR_PREFIX_NONE, ORIGINAL_MEDIA_TYPE, RTP, SFRAME,
    SFRAME_DESCRIPTOR, is_video,
};

/// RTP caps fields that carry codec data as text.
const RTP_CODEC_DATA: &[&str] = &[
    "sprop-parameter-sets",
    "sprop-vps",
    "sprop-sps",
    "sprop-pps",
    "configuration",
    "config",
];

/// What a stream of buffers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Each buffer is a frame; its codec, where it can be read.
    Frames(Option<Codec>),
    /// Each buffer is an RTP packet.
    Packets,
}

/// Caps in, caps out, and what they mean.
#[derive(Debug, Clone)]
pub struct Negotiated {
    /// Caps of the source pad.
    pub caps: gst::Caps,
    /// What the buffers are.
    pub medium: Medium,
    /// Frames depend on earlier ones.
    pub video: bool,
    /// The codec's first bytes are in clear.
    pub clear_prefix: bool,
    /// `sframedec` with RTP: payloads begin with the descriptor.
    pub descriptor: bool,
}

/// Why caps cannot be sealed or opened, with what to do about it.
pub type CapsError = String;

/// The caps that H.264 and H.265 must have to be sealed frame by frame.
pub fn framed(media_type: &str) -> Option<gst::Caps> {
    ["video/x-h264", "video/x-h265"].contains(&media_type).then(|| {
        gst::Caps::builder(media_type)
            .field("stream-format", "byte-stream")
            .field("alignment", "au")
            .build()
    })
}

/// Of the caps that an upstream element offers, those to choose: where one can be sealed and another cannot, only
/// the first. Where none can they stay: they will come as an event, and its refusal can say what to do.
pub fn sealable(offered: &gst::CapsRef) -> gst::Caps {
    if offered.is_any() {
        return gst::Caps::new_any();
    }
    let mut caps = gst::Caps::new_empty();
    for (structure, features) in offered.iter_with_features() {
        let one = gst::Caps::builder_full()
            .structure_with_features(structure.to_owned(), features.to_owned())
            .build();
        let narrowed = framed(structure.name()).map(|framed| one.intersect(&framed));
        caps.merge(narrowed.filter(|caps| !caps.is_empty()).unwrap_or(one));
    }
    caps
}

/// Caps of what `sframeenc` makes of `caps`.
pub fn seal(caps: &gst::Caps, clear_prefix: bool) -> Result<Negotiated, CapsError> {
    let s = caps.structure(0).ok_or("empty caps")?;
    let media_type = s.name().as_str();
    let mut sealed = s.to_owned();
    without_codec_data(&mut sealed);
    match media_type {
        SFRAME => return Err("the stream is sealed already: remove one of the two sframeenc".into()),
        RTP if s.has_field(A_SFRAME) => {
            return Err("the RTP packets are sealed already: remove one of the two sframeenc".into());
        }
        RTP if clear_prefix => {
            return Err(
                "clear-prefix=codec is for whole frames: put sframeenc before the payloader, or set \
                        clear-prefix=none to seal RTP packets"
                    .into(),
            );
        }
        RTP => {
            let video = s.get::<&str>("media").is_ok_and(|media| media == "video");
            sealed.set(A_SFRAME, "");
            sealed.remove_field(SFRAME_DESCRIPTOR);
            for field in RTP_CODEC_DATA {
                sealed.remove_field(*field);
            }
            return Ok(Negotiated {
                caps: structure_caps(sealed),
                medium: Medium::Packets,
                video,
                clear_prefix: false,
                descriptor: true,
            });
        }
        _ => {}
    }
    if let Some(needed) = framed(media_type)
        && !caps.is_subset(&needed)
    {
        let parser = if media_type == "video/x-h264" {
            "h264parse"
        } else {
            "h265parse"
        };
        return Err(format!(
            "{media_type} must be byte-stream with one access unit a buffer: insert `{parser} ! \
             {media_type},stream-format=byte-stream,alignment=au`"
        ));
    }
    let is_raw_aac = media_type == "audio/mpeg" && s.get::<&str>("stream-format") == Ok("raw");
    if is_raw_aac && s.has_field("codec_data") {
        return Err("audio/mpeg,stream-format=raw needs its codec data, which would leave in clear: insert `aacparse ! \
                    audio/mpeg,stream-format=adts`"
            .into());
    }
    let codec = Codec::of(media_type);
    if clear_prefix && !codec.is_some_and(Codec::has_clear_prefix) {
        return Err(format!(
            "clear-prefix=codec knows video/x-vp8 and audio/x-opus, not {media_type}: set clear-prefix=none"
        ));
    }
    sealed.set_name(SFRAME);
    sealed.set(ORIGINAL_MEDIA_TYPE, media_type);
    let prefix = if clear_prefix {
        CLEAR_PREFIX_CODEC
    } else {
        CLEAR_PREFIX_NONE
    };
    sealed.set(CLEAR_PREFIX, prefix);
    Ok(Negotiated {
        caps: structure_caps(sealed),
        medium: Medium::Frames(codec),
        video: is_video(media_type),
        clear_prefix,
        descriptor: true,
    })
}

/// Caps of what `sframedec` makes of `caps`, before a frame was seen. `clear_prefix` holds where the caps say nothing.
pub fn open(caps: &gst::Caps, clear_prefix: bool) -> Result<Negotiated, CapsError> {
    let s = caps.structure(0).ok_or("empty caps")?;
    let mut opened = s.to_owned();
    let media_type = match s.name().as_str() {
        RTP => {
            opened.remove_field(A_SFRAME);
            opened.remove_field(SFRAME_DESCRIPTOR);
            return Ok(Negotiated {
                caps: structure_caps(opened),
                medium: Medium::Packets,
                video: s.get::<&str>("media").is_ok_and(|media| media == "video"),
                clear_prefix: false,
                descriptor: s.get(SFRAME_DESCRIPTOR).unwrap_or(true),
            });
        }
        SFRAME => s
            .get::<String>(ORIGINAL_MEDIA_TYPE)
            .ok()
            .filter(|media_type| is_media_type(media_type))
            .ok_or("application/x-sframe needs the field original-media-type=(string)… with the type of what was sealed")?,
        // What a stock depayloader makes of sealed frames whose clear bytes it understood.
        other if clear_prefix => other.to_string(),
        other => {
            return Err(format!(
                "{other} is not sealed. If these are sealed frames with clear first bytes from a stock depayloader, set \
                 clear-prefix=codec"
            ));
        }
    };
    let clear_prefix = match s.get::<&str>(CLEAR_PREFIX) {
        Ok(prefix) => prefix == CLEAR_PREFIX_CODEC,
        Err(_) => clear_prefix,
    };
    let codec = Codec::of(&media_type);
    if clear_prefix && !codec.is_some_and(Codec::has_clear_prefix) {
        return Err(format!("{media_type} has no clear prefix: set clear-prefix=none"));
    }
    opened.set_name(&media_type);
    opened.remove_field(ORIGINAL_MEDIA_TYPE);
    opened.remove_field(CLEAR_PREFIX);
    Ok(Negotiated {
        caps: structure_caps(opened),
        medium: Medium::Frames(codec),
        video: is_video(&media_type),
        clear_prefix,
        descriptor: false,
    })
}

/// Comes from the network in some applications. GStreamer asserts on names that are none, and what was sealed twice is
/// not media.
fn is_media_type(name: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "/-_.:+".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(is_name)
        && ![SFRAME, RTP].contains(&name)
}

fn structure_caps(structure: gst::Structure) -> gst::Caps {
    gst::Caps::builder_full().structure(structure).build()
}

/// Removes `codec_data`, `streamheader` and whatever else holds a buffer.
fn without_codec_data(s: &mut gst::StructureRef) {
    fn holds_buffer(value: &gst::glib::Value) -> bool {
        value.type_() == gst::Buffer::static_type()
            || value
                .get::<gst::ArrayRef>()
                .is_ok_and(|array| array.iter().any(|item| holds_buffer(item)))
    }
    s.filter_map_in_place(|_, value| (!holds_buffer(&value)).then_some(value));
}
