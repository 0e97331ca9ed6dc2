//! Seeking: one flush of all tracks, however many pads ask for it, and a common segment from there on.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::imp::ComplianceSrc;
use super::session::{Place, Session};
use crate::recording::Medium;

impl ComplianceSrc {
    /// Does what a seek event wants. False: it cannot be done, and nothing has changed.
    pub fn seek(&self, event: &gst::Event) -> bool {
        let gst::EventView::Seek(seek) = event.view() else {
            return false;
        };
        let Some(session) = self.session() else {
            return false;
        };
        if session.place().seqnum == event.seqnum() {
            // Each sink sends the pipeline's seek up its own way.
            return true;
        }
        // Not waited for: who waits might be the thread that the seek under way waits for.
        let Ok(_seeking) = self.seeking.try_lock() else {
            gst::info!(CAT, imp = self, "Another seek is under way");
            return session.place().seqnum == event.seqnum();
        };
        let Some((segment, flags)) = self.segment(&session, seek) else {
            return false;
        };
        gst::debug!(CAT, imp = self, "Seek to {:?}, {flags:?}", segment.start());
        let seqnum = event.seqnum();
        for track in &session.tracks {
            track
                .pad
                .push_event(gst::event::FlushStart::builder().seqnum(seqnum).build());
        }
        for track in &session.tracks {
            // Waits for the push under way, which the flush has made to return.
            let _ = track.pad.pause_task();
        }
        let mut place = Place { segment, seqnum };
        if flags.contains(gst::SeekFlags::KEY_UNIT) {
            snap(&session, &mut place);
        }
        for track in &session.tracks {
            track.go_to(&place);
        }
        *session.place() = place;
        session.opened.counts().seeks += 1;
        session.begin();
        for track in &session.tracks {
            track
                .pad
                .push_event(gst::event::FlushStop::builder(true).seqnum(seqnum).build());
        }
        for track in &session.tracks {
            track.start(&self.obj(), &session);
        }
        true
    }

    /// The segment that a seek leads to, if it is one that can be done.
    fn segment(
        &self,
        session: &Session,
        seek: &gst::event::Seek,
    ) -> Option<(gst::FormattedSegment<gst::ClockTime>, gst::SeekFlags)> {
        let (rate, flags, start_type, start, stop_type, stop) = seek.get();
        let refused = |why: &str| {
            gst::warning!(CAT, imp = self, "Seek refused: {why}");
            None
        };
        if rate <= 0.0 {
            return refused("only forwards");
        }
        if !flags.contains(gst::SeekFlags::FLUSH) {
            return refused("only with the flag flush");
        }
        if flags.contains(gst::SeekFlags::SEGMENT) {
            return refused("segment seeks (to play in a loop) are not supported");
        }
        let time = |value: gst::GenericFormattedValue| match value {
            gst::GenericFormattedValue::Time(time) => Some(time),
            _ => None,
        };
        let (Some(start), Some(stop)) = (time(start), time(stop)) else {
            return refused("only by time");
        };
        let mut segment = session.place().segment.clone();
        segment.set_position(session.tracks.iter().map(|track| track.position()).max());
        match segment.do_seek(rate, flags, start_type, start, stop_type, stop) {
            Some(_) => Some((segment, flags)),
            None => refused("it leads nowhere"),
        }
    }
}

/// Goes back to a keyframe: the latest one of all pictures that somebody sees. The other tracks decode up to there.
fn snap(session: &Session, place: &mut Place) {
    let Some(start) = place.segment.start() else {
        return;
    };
    let seen = |medium| medium == Medium::Video;
    let tracks = session
        .tracks
        .iter()
        .filter(|track| seen(track.medium) && track.pad.is_linked());
    let keyframe = tracks
        .filter_map(|track| track.keyframe_before(start.nseconds()))
        .max();
    if let Some(keyframe) = keyframe.map(gst::ClockTime::from_nseconds) {
        place.segment.set_start(keyframe);
        place.segment.set_time(keyframe);
        place.segment.set_position(keyframe);
    }
}
