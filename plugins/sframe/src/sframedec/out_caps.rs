//! Caps of the opened stream. RTP cannot say how large a picture is or how many channels there are, but the opened
//! frame can: until it did, caps and the events behind them wait.

use crate::caps::{Medium, Negotiated};
use crate::codec::{Codec, FrameInfo};

/// The caps that go downstream and the events that wait for them.
pub struct OutCaps {
    caps: gst::Caps,
    codec: Option<Codec>,
    /// Channels were read from a frame, not told by caps.
    channels_read: bool,
    sent: bool,
    /// Size and channels that the last frame told.
    told: (Option<(u16, u16)>, Option<u8>),
    pending: Vec<gst::Event>,
}

impl OutCaps {
    /// `before`: of the caps before these, whose waiting events and whose knowledge of the same medium go on.
    pub fn new(negotiated: &Negotiated, before: Option<Self>) -> Self {
        let mut out = Self::without_past(negotiated);
        let Some(mut before) = before else { return out };
        if before.is_waiting() {
            out.pending = before.give_up();
        }
        if out.codec == before.codec && !out.is_complete() {
            let (size, channels) = (before.size(), before.field("channels"));
            let channels = channels.and_then(|channels| u8::try_from(channels).ok());
            out.learn(&FrameInfo {
                keyframe: None,
                size,
                channels,
            });
        }
        out
    }

    fn without_past(negotiated: &Negotiated) -> Self {
        Self {
            caps: negotiated.caps.clone(),
            codec: match negotiated.medium {
                Medium::Frames(codec) => codec,
                Medium::Packets => None,
            },
            channels_read: false,
            sent: false,
            told: (None, None),
            pending: Vec::new(),
        }
    }

    fn field(&self, name: &str) -> Option<i32> {
        self.caps.structure(0)?.get(name).ok()
    }

    fn size(&self) -> Option<(u16, u16)> {
        let side = |name| self.field(name).and_then(|side| u16::try_from(side).ok());
        side("width").zip(side("height"))
    }

    fn is_complete(&self) -> bool {
        match self.codec {
            Some(Codec::Vp8 | Codec::Vp9) => self.field("width").is_some() && self.field("height").is_some(),
            Some(Codec::Opus) => self.field("channels").is_some(),
            _ => true,
        }
    }

    /// Whether events and frames must still wait for caps.
    pub fn is_waiting(&self) -> bool {
        !self.sent
    }

    /// Keeps an event until the caps are known.
    pub fn defer(&mut self, event: gst::Event) {
        // A sticky event replaces its predecessor, so the queue cannot grow with them.
        self.pending
            .retain(|old| !old.is_sticky() || old.type_() != event.type_() || old.is_sticky_multi());
        if self.pending.len() < 64 {
            self.pending.push(event);
        }
    }

    /// FLUSH_STOP: what came before it is void, except what a pad keeps.
    pub fn flush(&mut self) {
        self.pending
            .retain(|event| event.is_sticky() && event.type_() != gst::EventType::Segment);
    }

    /// The events to send before a frame that told this, caps first. `None`: the frame cannot be used yet.
    pub fn before_frame(&mut self, info: &FrameInfo) -> Option<Vec<gst::Event>> {
        // Caps fields are slow to read, and frame after frame tells the same.
        let tells = (info.size, info.channels);
        let changed = std::mem::replace(&mut self.told, tells) != tells && self.learn(info);
        if self.sent && !changed {
            // The common case: a frame like the one before; an empty Vec allocates nothing.
            return Some(Vec::new());
        }
        self.take_if_complete()
    }

    /// The events to send as soon as the caps are complete without any frame.
    pub fn take_if_complete(&mut self) -> Option<Vec<gst::Event>> {
        if !self.is_complete() {
            return None;
        }
        self.sent = true;
        let mut events = vec![gst::event::Caps::new(&self.caps)];
        events.append(&mut self.pending);
        Some(events)
    }

    /// Gives up waiting: what remains is sent without caps, so that at least EOS arrives.
    pub fn give_up(&mut self) -> Vec<gst::Event> {
        std::mem::take(&mut self.pending)
    }

    fn learn(&mut self, info: &FrameInfo) -> bool {
        let mut fields = Vec::new();
        match self.codec {
            Some(Codec::Vp8 | Codec::Vp9) => {
                if let Some((width, height)) = info.size {
                    fields = vec![("width", i32::from(width)), ("height", i32::from(height))];
                }
            }
            Some(Codec::Opus) => {
                let known = self.field("channels");
                if let Some(channels) = info.channels.map(i32::from)
                    // A mono packet in a stereo stream is ordinary; the other way round the caps were too narrow.
                    && (known.is_none() || self.channels_read && known < Some(channels))
                {
                    self.channels_read = true;
                    fields = vec![
                        ("rate", 48_000),
                        ("channel-mapping-family", 0),
                        ("channels", channels),
                    ];
                }
            }
            _ => {}
        }
        fields.retain(|(name, value)| self.field(name) != Some(*value));
        if let (false, Some(s)) = (fields.is_empty(), self.caps.make_mut().structure_mut(0)) {
            for (name, value) in &fields {
                s.set(*name, *value);
            }
            // Unknown, as depayloaders say it: webmmux refuses caps without.
            if s.has_field("width") && !s.has_field("framerate") {
                s.set("framerate", gst::Fraction::new(0, 1));
            }
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caps;

    fn out_caps(sealed: &str) -> OutCaps {
        gst::init().unwrap();
        let sealed: gst::Caps = sealed.parse().unwrap();
        OutCaps::new(&caps::open(&sealed, false).unwrap(), None)
    }

    fn caps_in(events: &[gst::Event]) -> String {
        match events[0].view() {
            gst::EventView::Caps(e) => e.caps().to_string(),
            _ => panic!("{events:?}"),
        }
    }

    #[test]
    fn vp8_waits_for_its_size_and_follows_a_change() {
        let mut out = out_caps("application/x-sframe, original-media-type=video/x-vp8");
        assert!(out.take_if_complete().is_none());
        out.defer(gst::event::Segment::new(
            &gst::FormattedSegment::<gst::ClockTime>::new(),
        ));
        let delta = FrameInfo {
            keyframe: Some(false),
            ..Default::default()
        };
        assert!(out.before_frame(&delta).is_none());
        let key = |w, h| FrameInfo {
            keyframe: Some(true),
            size: Some((w, h)),
            channels: None,
        };
        let events = out.before_frame(&key(320, 240)).unwrap();
        assert_eq!(
            caps_in(&events),
            "video/x-vp8, width=(int)320, height=(int)240, framerate=(fraction)0/1"
        );
        assert_eq!(events[1].type_(), gst::EventType::Segment);
        assert!(out.before_frame(&delta).unwrap().is_empty());
        assert!(out.before_frame(&key(320, 240)).unwrap().is_empty());
        assert!(caps_in(&out.before_frame(&key(640, 480)).unwrap()).contains("width=(int)640"));
    }

    #[test]
    fn opus_channels_are_read_from_the_frame_unless_told() {
        let frame = |channels| FrameInfo {
            channels: Some(channels),
            ..Default::default()
        };
        let mut out = out_caps("application/x-sframe, original-media-type=audio/x-opus");
        assert!(caps_in(&out.before_frame(&frame(1)).unwrap()).contains("channels=(int)1"));
        assert!(caps_in(&out.before_frame(&frame(2)).unwrap()).contains("channels=(int)2"));
        assert!(out.before_frame(&frame(1)).unwrap().is_empty());
        let mut out = out_caps("application/x-sframe, original-media-type=audio/x-opus, channels=1");
        assert!(caps_in(&out.take_if_complete().unwrap()).contains("channels=(int)1"));
        assert!(out.before_frame(&frame(2)).unwrap().is_empty());
    }

    #[test]
    fn new_caps_of_the_same_medium_keep_what_waits_and_what_is_known() {
        let mut out = out_caps("application/x-sframe, original-media-type=video/x-vp8");
        out.defer(gst::event::Segment::new(
            &gst::FormattedSegment::<gst::ClockTime>::new(),
        ));
        let sealed: gst::Caps = "application/x-sframe, original-media-type=video/x-vp8"
            .parse()
            .unwrap();
        let again = caps::open(&sealed, false).unwrap();
        let mut out = OutCaps::new(&again, Some(out));
        let key = FrameInfo {
            keyframe: Some(true),
            size: Some((320, 240)),
            channels: None,
        };
        assert_eq!(out.before_frame(&key).unwrap().len(), 2, "caps and segment");
        let mut out = OutCaps::new(&again, Some(out));
        assert!(caps_in(&out.take_if_complete().unwrap()).contains("width=(int)320"));
    }

    #[test]
    fn codecs_that_need_no_frame_have_caps_at_once() {
        let mut out = out_caps("application/x-sframe, original-media-type=text/x-raw, format=utf8");
        assert!(caps_in(&out.take_if_complete().unwrap()).starts_with("text/x-raw"));
    }
}
