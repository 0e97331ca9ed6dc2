//! Translates between the caps of sealed frames and the caps of RTP, after the table in `plugins/common`.

use gst_e2ee_common::caps_table::{self as table, Codec};

/// Why caps cannot be translated; each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapsError {
    /// Not from `sframeenc`.
    #[error(
        "the caps do not say what was sealed (field \"original-media-type\"): put sframeenc before rtpsframepay"
    )]
    NoOriginalMediaType,
    /// The payload format exists for another form of this media.
    #[error(
        "{media_type} with {field}={found} cannot go into RTP as {encoding_name}, which needs {field}={needed}: \
         put {element} and a capsfilter \"{media_type},{field}={needed}\" before sframeenc"
    )]
    WrongForm {
        /// Media type of what was sealed.
        media_type: &'static str,
        /// Encoding name of the payload format.
        encoding_name: &'static str,
        /// The field that does not fit.
        field: &'static str,
        /// Its value.
        found: String,
        /// The value that fits.
        needed: &'static str,
        /// The element that converts.
        element: &'static str,
    },
    /// RTP caps have no room for what a raw picture needs.
    #[error(
        "raw video ({0}) loses its format in RTP: put an encoder before sframeenc (vp8enc, x264enc ! h264parse, ...)"
    )]
    RawVideo(String),
    /// L16 has the sample rate as clock rate.
    #[error("caps of raw audio need a field \"rate\" in Hz")]
    NoRate,
    /// RFC 7587 knows mono and stereo.
    #[error(
        "Opus with {0} channels has no RTP payload format (RFC 7587 has mono and stereo): \
         put audioconvert ! audio/x-raw,channels=2 before opusenc"
    )]
    TooManyChannels(i32),
    /// RTP caps without encoding name or static payload type.
    #[error(
        "the RTP caps have no \"encoding-name\": set it on the source (udpsrc caps=) or with a capsfilter"
    )]
    NoEncodingName,
    /// Nothing in the table.
    #[error("encoding-name {name} is not known to SFrame over RTP here; known are {known}")]
    UnknownEncodingName {
        /// What the caps say.
        name: String,
        /// What would be understood.
        known: String,
    },
    /// A clock rate that no clock has.
    #[error("clock-rate {0} in the RTP caps is not a sample rate")]
    BadClockRate(i32),
    /// From another `rtpsframedepay`.
    #[error(
        "these packets have no SFrame descriptor any more (sframe-descriptor=false): connect them to sframedec \
         without a second rtpsframedepay"
    )]
    NoDescriptor,
}

/// What the payloader has to tell its base class.
#[derive(Debug)]
pub struct RtpFormat {
    /// The codec that the packets are named after.
    pub codec: &'static Codec,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Caps fields beside media, encoding-name, clock-rate and payload.
    pub fields: gst::Structure,
}

/// The RTP format of sealed frames with these caps; without the field `a-sframe`.
pub fn rtp_format(frames: &gst::StructureRef) -> Result<RtpFormat, CapsError> {
    let media_type = frames
        .get::<&str>(table::ORIGINAL_MEDIA_TYPE)
        .map_err(|_| CapsError::NoOriginalMediaType)?;
    let codec = table::by_media_type(media_type);
    check_form(codec, frames)?;
    refuse_raw_video(media_type)?;
    let mut fields = gst::Structure::new_empty("fields");
    let mut clock_rate = codec.clock_rate;
    let channels = frames.get::<i32>("channels").ok();
    match codec.encoding_name {
        table::DATA_ENCODING => fields.set(table::DATA_MEDIA_TYPE, media_type),
        "OPUS" => {
            if let Some(channels) = channels {
                if !(1..=2).contains(&channels) {
                    return Err(CapsError::TooManyChannels(channels));
                }
                fields.set("sprop-stereo", if channels == 2 { "1" } else { "0" });
            }
            // RFC 7587 §7: always 2, whatever is inside.
            fields.set("encoding-params", "2");
        }
        "L16" => {
            clock_rate = frames
                .get::<i32>("rate")
                .ok()
                .and_then(|rate| u32::try_from(rate).ok())
                .filter(|&rate| rate > 0)
                .ok_or(CapsError::NoRate)?;
            let channels = channels.unwrap_or(1);
            fields.set("channels", channels);
            fields.set("encoding-params", channels.to_string());
        }
        _ => {}
    }
    Ok(RtpFormat {
        codec,
        clock_rate,
        fields,
    })
}

/// Refuses pictures that are nothing without size and pixel format. Elements behind a receiver trust raw caps to be
/// whole: videoconvert runs into assertions without.
fn refuse_raw_video(media_type: &str) -> Result<(), CapsError> {
    match media_type {
        "video/x-raw" | "video/x-bayer" => Err(CapsError::RawVideo(media_type.to_owned())),
        _ => Ok(()),
    }
}

/// Refuses frames that a receiver would take for another form of the same media: RTP names only the codec.
fn check_form(codec: &'static Codec, frames: &gst::StructureRef) -> Result<(), CapsError> {
    let wrong = |field, found, needed, element| {
        Err(CapsError::WrongForm {
            media_type: codec.media_type,
            encoding_name: codec.encoding_name,
            field,
            found,
            needed,
            element,
        })
    };
    let converter = match codec.encoding_name {
        "H264" => "h264parse",
        "H265" => "h265parse",
        "AV1" => "av1parse",
        "L16" => "audioconvert",
        _ => "a converter",
    };
    for &(field, needed) in codec.fields {
        match frames.get::<&str>(field) {
            Ok(found) if found != needed => return wrong(field, found.to_owned(), needed, converter),
            // Samples that nobody has said to be of this form are probably of the machine's own, S16LE.
            Err(_) if (codec.encoding_name, field) == ("L16", "format") => {
                return wrong(field, "(none)".to_owned(), needed, converter);
            }
            _ => {}
        }
    }
    // G.711 over RTP is 8 kHz mono unless SDP says otherwise, which these caps cannot.
    if matches!(codec.encoding_name, "PCMU" | "PCMA") {
        match (frames.get::<i32>("rate"), frames.get::<i32>("channels")) {
            (Ok(rate), _) if rate != 8000 => return wrong("rate", rate.to_string(), "8000", "audioresample"),
            (_, Ok(n)) if n != 1 => return wrong("channels", n.to_string(), "1", "audioconvert"),
            _ => {}
        }
    }
    Ok(())
}

/// The codec that RTP caps name, by encoding name or else by static payload type.
pub fn codec(rtp: &gst::StructureRef) -> Result<&'static Codec, CapsError> {
    if rtp.get::<bool>(table::SFRAME_DESCRIPTOR) == Ok(false) {
        return Err(CapsError::NoDescriptor);
    }
    if let Ok(name) = rtp.get::<&str>("encoding-name") {
        return table::by_encoding_name(name).ok_or_else(|| CapsError::UnknownEncodingName {
            name: name.to_owned(),
            known: table::CODECS
                .iter()
                .chain([&table::DATA])
                .map(|c| c.encoding_name)
                .collect::<Vec<_>>()
                .join(", "),
        });
    }
    let payload = rtp.get::<i32>("payload").ok();
    table::CODECS
        .iter()
        .find(|c| c.payload_type.is_some() && c.payload_type.map(i32::from) == payload)
        .ok_or(CapsError::NoEncodingName)
}

/// The caps of the sealed frames that come in RTP packets with these caps.
pub fn frame_caps(rtp: &gst::StructureRef, codec: &Codec) -> Result<gst::Caps, CapsError> {
    let mut caps = gst::Structure::new_empty(table::SFRAME);
    let media_type = match rtp.get::<&str>(table::DATA_MEDIA_TYPE) {
        Ok(name) if codec.encoding_name == table::DATA_ENCODING => {
            refuse_raw_video(name)?;
            name
        }
        _ => codec.media_type,
    };
    caps.set(table::ORIGINAL_MEDIA_TYPE, media_type);
    for &(field, value) in codec.fields {
        caps.set(field, value);
    }
    match codec.encoding_name {
        "OPUS" => {
            caps.set("rate", 48_000i32);
            caps.set("channel-mapping-family", 0i32);
            match rtp.get::<&str>("sprop-stereo") {
                Ok("1") => caps.set("channels", 2i32),
                Ok("0") => caps.set("channels", 1i32),
                _ => {}
            }
        }
        "L16" => {
            let rate = rtp.get::<i32>("clock-rate").unwrap_or(0);
            if rate <= 0 {
                return Err(CapsError::BadClockRate(rate));
            }
            let channels = channels(rtp);
            caps.set("rate", rate);
            caps.set("channels", channels);
            if channels > 2 {
                // RTP does not say where the speakers are, and raw audio caps without a mask are not valid.
                caps.set("channel-mask", gst::Bitmask::new(0));
            }
        }
        "PCMU" | "PCMA" => {
            caps.set("rate", 8_000i32);
            caps.set("channels", channels(rtp));
        }
        _ => {}
    }
    Ok(gst::Caps::builder_full().structure(caps).build())
}

/// Number of channels as SDP's rtpmap has it; 1 where it says nothing.
fn channels(rtp: &gst::StructureRef) -> i32 {
    rtp.get::<i32>("channels")
        .ok()
        .or_else(|| rtp.get::<&str>("encoding-params").ok()?.parse().ok())
        .filter(|&n| n > 0)
        .unwrap_or(1)
}

/// The caps of RTP packets with these caps after their SFrame descriptors were taken off.
pub fn packet_caps(rtp: &gst::StructureRef) -> gst::Caps {
    let mut caps = rtp.to_owned();
    caps.remove_field(table::A_SFRAME);
    caps.set(table::SFRAME_DESCRIPTOR, false);
    gst::Caps::builder_full().structure(caps).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    fn structure(text: &str) -> gst::Structure {
        gst::init().unwrap();
        gst::Structure::from_str(text).unwrap()
    }

    fn sealed(text: &str) -> gst::Structure {
        structure(&format!(
            "application/x-sframe,original-media-type=(string){text}"
        ))
    }

    #[test]
    fn the_codec_says_name_clock_and_parameters() {
        for (frames, name, clock_rate, fields) in [
            ("video/x-vp8", "VP8", 90_000, "fields"),
            (
                "video/x-h264,stream-format=byte-stream,alignment=au",
                "H264",
                90_000,
                "fields",
            ),
            ("audio/x-opus", "OPUS", 48_000, "fields,encoding-params=(string)2"),
            (
                "audio/x-opus,channels=2",
                "OPUS",
                48_000,
                "fields,sprop-stereo=(string)1,encoding-params=(string)2",
            ),
            (
                "audio/x-opus,channels=1",
                "OPUS",
                48_000,
                "fields,sprop-stereo=(string)0,encoding-params=(string)2",
            ),
            (
                "audio/x-raw,format=S16BE,rate=44100,channels=2",
                "L16",
                44_100,
                "fields,channels=2,encoding-params=(string)2",
            ),
            ("audio/x-mulaw,rate=8000,channels=1", "PCMU", 8_000, "fields"),
            ("text/x-raw,format=utf8", "T140", 1_000, "fields"),
            (
                "application/json",
                "X-SFRAME-DATA",
                90_000,
                "fields,media-type=(string)application/json",
            ),
        ] {
            let format = rtp_format(&sealed(frames)).unwrap();
            assert_eq!(format.codec.encoding_name, name, "{frames}");
            assert_eq!(format.clock_rate, clock_rate, "{frames}");
            assert_eq!(format.fields, structure(fields), "{frames}");
        }
    }

    #[test]
    fn what_a_receiver_would_misread_is_refused_with_advice() {
        for (frames, advice) in [
            ("video/x-h264,stream-format=avc", "h264parse"),
            ("video/x-av1,alignment=frame", "av1parse"),
            ("audio/x-raw,format=S16LE,rate=8000", "format=S16BE"),
            ("audio/x-raw,format=U8,rate=8000", "format=S16BE"),
            ("audio/x-raw,format=S24BE,rate=8000", "format=S16BE"),
            ("audio/x-raw,format=F32LE,rate=8000", "format=S16BE"),
            ("audio/x-raw,rate=8000,channels=1", "format=S16BE"),
            (
                "audio/x-raw,format=S16BE,layout=non-interleaved,rate=8000",
                "layout=interleaved",
            ),
            (
                "video/x-raw,format=I420,width=320,height=240",
                "put an encoder before sframeenc",
            ),
            (
                "video/x-bayer,format=bggr,width=320,height=240",
                "put an encoder before sframeenc",
            ),
            ("audio/x-mulaw,rate=16000", "rate=8000"),
            ("audio/x-alaw,rate=8000,channels=2", "channels=1"),
            ("audio/x-opus,channels=6", "channels=2"),
            ("audio/x-raw,format=S16BE", "\"rate\""),
            ("text/x-raw,format=pango-markup", "format=utf8"),
        ] {
            let error = rtp_format(&sealed(frames)).unwrap_err().to_string();
            assert!(error.contains(advice), "{error}");
        }
        let error = rtp_format(&structure("application/x-sframe")).unwrap_err();
        assert_eq!(error, CapsError::NoOriginalMediaType);
    }

    fn back(rtp: &str) -> Result<gst::Caps, CapsError> {
        let rtp = structure(&format!("application/x-rtp,{rtp}"));
        frame_caps(&rtp, codec(&rtp)?)
    }

    #[test]
    fn rtp_caps_lead_back_to_the_media() {
        for (rtp, frames) in [
            ("encoding-name=VP8,clock-rate=90000", "video/x-vp8"),
            ("encoding-name=vp8", "video/x-vp8"),
            (
                "encoding-name=H264",
                "video/x-h264,stream-format=byte-stream,alignment=au",
            ),
            (
                "encoding-name=OPUS",
                "audio/x-opus,rate=48000,channel-mapping-family=0",
            ),
            (
                "encoding-name=OPUS,sprop-stereo=(string)1",
                "audio/x-opus,rate=48000,channel-mapping-family=0,channels=2",
            ),
            (
                "encoding-name=OPUS,sprop-stereo=(string)0",
                "audio/x-opus,rate=48000,channel-mapping-family=0,channels=1",
            ),
            (
                "encoding-name=L16,clock-rate=44100,encoding-params=(string)2",
                "audio/x-raw,format=S16BE,layout=interleaved,rate=44100,channels=2",
            ),
            (
                "encoding-name=L16,clock-rate=48000,channels=6",
                "audio/x-raw,format=S16BE,layout=interleaved,rate=48000,channels=6,channel-mask=(bitmask)0",
            ),
            ("payload=0", "audio/x-mulaw,rate=8000,channels=1"),
            ("payload=8,clock-rate=8000", "audio/x-alaw,rate=8000,channels=1"),
            (
                "encoding-name=X-SFRAME-DATA,media-type=(string)application/json",
                "application/json",
            ),
            ("encoding-name=X-SFRAME-DATA", "application/octet-stream"),
            (
                "encoding-name=T140,media-type=(string)application/json",
                "text/x-raw,format=utf8",
            ),
        ] {
            let expected = gst::Caps::builder_full().structure(sealed(frames)).build();
            assert_eq!(back(rtp).unwrap(), expected, "{rtp}");
        }
    }

    #[test]
    fn caps_that_say_nothing_known_are_refused() {
        let error = back("encoding-name=THEORA").unwrap_err().to_string();
        assert!(
            error.contains("THEORA") && error.contains("VP8, VP9, AV1"),
            "{error}"
        );
        let raw = back("encoding-name=X-SFRAME-DATA,media-type=(string)video/x-raw").unwrap_err();
        assert_eq!(raw, CapsError::RawVideo("video/x-raw".to_owned()));
        assert_eq!(back("payload=96").unwrap_err(), CapsError::NoEncodingName);
        assert_eq!(back("clock-rate=90000").unwrap_err(), CapsError::NoEncodingName);
        assert_eq!(back("encoding-name=L16").unwrap_err(), CapsError::BadClockRate(0));
        assert_eq!(
            back("encoding-name=VP8,sframe-descriptor=false").unwrap_err(),
            CapsError::NoDescriptor
        );
    }

    #[test]
    fn packets_keep_their_caps_less_the_attribute() {
        let rtp =
            structure("application/x-rtp,encoding-name=VP8,payload=96,a-sframe=(string)\"\",extmap-1=foo");
        let expected =
            structure("application/x-rtp,encoding-name=VP8,payload=96,extmap-1=foo,sframe-descriptor=false");
        assert_eq!(packet_caps(&rtp).structure(0), Some(&*expected));
    }
}
