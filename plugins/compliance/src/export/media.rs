//! The media file: tracks of an open recording in one Matroska file, nothing encoded anew.
//!
//! The tracks come from the player's own element, so they have the recording's common clock: what was recorded together
//! plays together. VP8, VP9, Opus and text stay byte for byte what was recorded, H.264 and H.265 unit by unit.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use gst::prelude::*;

use crate::compliancesrc::{ComplianceSrc, OnDamage};
use crate::digest::{Digest, Digester};
use crate::recording::{Medium, Reader, TrackId};

/// A media file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of it.
    pub sha256: Digest,
    /// SHA-1 of it: what R4 calls the hash of an attachment.
    pub sha1: [u8; 20],
    /// The tracks that are in it.
    pub tracks: Vec<TrackId>,
    /// There are pictures in it.
    pub has_video: bool,
    /// How many members were decrypted for it.
    pub members: u64,
    /// How many of them were damaged, and are left out.
    pub damaged: u64,
    /// How often the recorder did not keep what was there.
    pub gaps: u64,
}

impl Made {
    /// Its media type.
    pub fn content_type(&self) -> &'static str {
        if self.has_video {
            "video/x-matroska"
        } else {
            "audio/x-matroska"
        }
    }
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// GStreamer lacks something.
    #[error("GStreamer has no {0}: install gstreamer1.0-plugins-good")]
    NoElement(&'static str),
    /// There is nothing to put in.
    #[error("there is no media in the recording, or in the tracks that were asked for")]
    Empty,
    /// A member is not what was sealed.
    #[error("{0}. --skip-damaged leaves out what is damaged; gst-compliance verify says what else is")]
    Damaged(String),
    /// It cannot be read or muxed.
    #[error("the media file cannot be made: {0}")]
    Failed(String),
    /// It cannot be written or read back.
    #[error("the media file cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// What came of it, whether or not there is a file: how many members were decrypted has to be in the log.
pub struct Remuxed {
    /// How many members were decrypted.
    pub members: u64,
    /// The file.
    pub made: Result<Made, MediaError>,
}

/// Writes the tracks that are open into a file that is empty. `skip_damaged`: leave out what is damaged, else that is an
/// error. GStreamer must be initialised.
pub fn remux(reader: Reader, file: &mut File, skip_damaged: bool) -> Remuxed {
    let tracks: Vec<_> = reader
        .tracks()
        .filter(|track| !track.members.is_empty())
        .cloned()
        .collect();
    if tracks.is_empty() {
        return Remuxed {
            members: 0,
            made: Err(MediaError::Empty),
        };
    }
    let src = ComplianceSrc::of(reader);
    src.set_property(
        "on-damage",
        if skip_damaged {
            OnDamage::Skip
        } else {
            OnDamage::Error
        },
    );
    let played = play(&src, file);
    let stats = src.property::<gst::Structure>("stats");
    let stat = |name: &str| stats.get::<u64>(name).unwrap_or(0);
    let made = played.and_then(|linked| {
        let (bytes, sha256, sha1) = digests(file)?;
        // One whose beginning is damaged may not be playable at all.
        let (there, lost): (Vec<_>, Vec<_>) = tracks.iter().partition(|track| linked.contains(&track.id));
        Ok(Made {
            bytes,
            sha256,
            sha1,
            tracks: there.iter().map(|track| track.id).collect(),
            has_video: there.iter().any(|track| track.medium == Medium::Video),
            members: stat("members"),
            damaged: stat("damaged") + lost.iter().map(|track| track.members.len() as u64).sum::<u64>(),
            gaps: there.iter().map(|track| track.gaps.len() as u64).sum(),
        })
    });
    Remuxed {
        members: stat("members"),
        made,
    }
}

fn element(name: &'static str) -> Result<gst::Element, MediaError> {
    gst::ElementFactory::make(name)
        .build()
        .map_err(|_| MediaError::NoElement(name))
}

/// Runs the pipeline to its end; the tracks that went into the file.
fn play(src: &ComplianceSrc, file: &File) -> Result<Vec<TrackId>, MediaError> {
    let failed = |error: &dyn std::fmt::Display| MediaError::Failed(error.to_string());
    let (mux, sink) = (element("matroskamux")?, element("fdsink")?);
    sink.set_property("fd", file.as_raw_fd());
    sink.set_property("sync", false);
    let pipeline = gst::Pipeline::new();
    pipeline
        .add_many([src.upcast_ref(), &mux, &sink])
        .and_then(|()| mux.link(&sink))
        .map_err(|error| failed(&error))?;
    let linked = Arc::<Mutex<Vec<TrackId>>>::default();
    let (weak, noted) = (mux.downgrade(), linked.clone());
    src.connect_pad_added(move |_, pad| {
        let track = pad
            .name()
            .strip_prefix("src_")
            .and_then(|number| number.parse().ok());
        if let Some(mux) = weak.upgrade()
            && link(pad, &mux)
        {
            let mut linked = noted.lock().unwrap_or_else(PoisonError::into_inner);
            linked.extend(track.map(TrackId));
        }
    });
    let Some(bus) = pipeline.bus() else {
        return Err(MediaError::NoElement("bus"));
    };
    let started = pipeline.set_state(gst::State::Playing);
    let ended = wait_for_end(&bus, started.is_ok());
    let stopped = pipeline.set_state(gst::State::Null);
    ended?;
    stopped.map_err(|error| failed(&error))?;
    let linked = linked.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(linked.clone())
}

/// Waits for the end of the stream, or an error: which member is damaged, where that is why. Where it did not start all is
/// said already.
fn wait_for_end(bus: &gst::Bus, started: bool) -> Result<(), MediaError> {
    let kinds = [
        gst::MessageType::Eos,
        gst::MessageType::Error,
        gst::MessageType::Element,
    ];
    let mut damaged = None;
    let next = || match started {
        true => bus.timed_pop_filtered(gst::ClockTime::NONE, &kinds),
        false => bus.pop_filtered(&kinds),
    };
    while let Some(message) = next() {
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(()),
            gst::MessageView::Error(error) => {
                let text = error.error().to_string();
                return Err(damaged.map_or(MediaError::Failed(text), MediaError::Damaged));
            }
            _ => damaged = damaged.or_else(|| message.structure().and_then(damage)),
        }
    }
    Err(MediaError::Failed("GStreamer does not say why".to_owned()))
}

/// What the player says of a member that is not what was sealed.
fn damage(told: &gst::StructureRef) -> Option<String> {
    (told.name() == "compliance-damaged").then_some(())?;
    let (track, sequence) = (told.get::<u32>("track").ok()?, told.get::<u64>("sequence").ok()?);
    let why = told.get::<String>("reason").ok()?;
    Some(format!("member {sequence} of track {track} {why}"))
}

/// Links a track to the muxer; one that it does not take ends the pipeline, because nothing may be left out silently.
fn link(pad: &gst::Pad, mux: &gst::Element) -> bool {
    let caps = pad.current_caps();
    let name = caps
        .as_ref()
        .and_then(|caps| caps.structure(0))
        .map(|structure| structure.name().to_string());
    let template = match name
        .as_deref()
        .map(|name| name.split_once('/').map_or(name, |(kind, _)| kind))
    {
        Some("video") => "video_%u",
        Some("audio") => "audio_%u",
        _ => "subtitle_%u",
    };
    let linked = mux
        .request_pad_simple(template)
        .is_some_and(|sink| pad.link(&sink).is_ok());
    if !linked {
        gst::element_error!(
            mux,
            gst::StreamError::WrongType,
            (
                "Matroska takes no {}: leave {} out with --track",
                name.unwrap_or_default(),
                pad.name()
            )
        );
    }
    linked
}

/// Size and digests of a whole file.
fn digests(file: &mut File) -> Result<(u64, Digest, [u8; 20]), io::Error> {
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let (mut sha256, mut sha1) = (
        Digester::new(),
        ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY),
    );
    let mut buffer = zeroize::Zeroizing::new(vec![0; 1 << 16]);
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else {
            break;
        };
        sha256.update(piece);
        sha1.update(piece);
        bytes += read as u64;
    }
    let mut legacy = [0; 20];
    legacy.copy_from_slice(sha1.finish().as_ref());
    Ok((bytes, sha256.finish(), legacy))
}
