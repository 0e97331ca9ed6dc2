/**
 * SECTION:element-rtpsframedepay
 *
 * Takes sealed frames out of RTP packets (draft-ietf-avtcore-rtp-sframe-02). Packets whose ciphertext is of a
 * frame (T=0) give `application/x-sframe`; packets whose ciphertext is of an RTP payload (T=1) give
 * `application/x-rtp` with the sealed payload and `sframe-descriptor=false`. Both go to `sframedec`.
 *
 * A frame of which a packet is missing is dropped, and the next one has the flag DISCONT. Packets that come out
 * of order are lost, as with every depayloader: put `rtpjitterbuffer` (or `rtpbin`) before it.
 *
 * With `packetization=codec` it takes VP8 and Opus in their own payload formats, as browsers send them.
 *
 * |[
 * gst-launch-1.0 udpsrc port=5004 caps="application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000" !
 *     rtpjitterbuffer ! rtpsframedepay ! sframedec key-file=keys ! vp8dec ! autovideosink
 * ]|
 */
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_e2ee_common::caps_table as table;
use gst_rtp::prelude::*;
use gst_rtp::subclass::prelude::*;

use crate::mismatch::{self, Mismatch};
use crate::packetization::{OpaqueFormat, Packetization};
use crate::reassembly::{Body, Frame, Outcome, Position, Reassembler};
use crate::{base_stats, rtp_caps, rtp_packet};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "rtpsframedepay",
        gst::DebugColorFlags::empty(),
        Some("SFrame depayloader"),
    )
});

const DEFAULT_MAX_FRAME_SIZE: u32 = 16 * 1024 * 1024;

type RtpBuffer<'a> = gst_rtp::RTPBuffer<'a, gst_rtp::rtp_buffer::Readable>;

#[derive(Debug, Clone, Copy)]
struct Settings {
    packetization: Packetization,
    max_frame_size: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            packetization: Packetization::default(),
            max_frame_size: DEFAULT_MAX_FRAME_SIZE,
        }
    }
}

/// How payloads are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Format {
    #[default]
    SFrame,
    Opaque(OpaqueFormat),
}

impl Format {
    fn opaque(self) -> Option<OpaqueFormat> {
        match self {
            Self::SFrame => None,
            Self::Opaque(format) => Some(format),
        }
    }
}

/// What comes out: sealed frames, or RTP packets with sealed payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Frames,
    Packets,
}

impl Output {
    fn of(frame: &Frame) -> Self {
        if frame.per_packet {
            Self::Packets
        } else {
            Self::Frames
        }
    }
}

/// What is kept of the first packet of a frame that needs more.
#[derive(Debug)]
struct First {
    /// Times, flags and metas; no memory.
    buffer: gst::Buffer,
    /// The RTP header.
    header: Vec<u8>,
}

#[derive(Debug)]
struct State {
    format: Format,
    rtp_caps: Option<gst::Caps>,
    /// Caps that an error message was already posted for.
    refused: Option<gst::Caps>,
    /// What the current source caps announce.
    announced: Option<Output>,
    reassembler: Reassembler,
    first: Option<First>,
    mismatch: Mismatch,
    /// Packets that joining payloads (T=1) has saved, to be subtracted from sequence numbers.
    saved: u64,
}

impl State {
    fn new(settings: &Settings) -> Self {
        Self {
            format: Format::default(),
            rtp_caps: None,
            refused: None,
            announced: None,
            reassembler: Reassembler::new(settings.max_frame_size as usize),
            first: None,
            mismatch: Mismatch::default(),
            saved: 0,
        }
    }
}

/// Packets at the sink pad. The base class drops late and doubled ones before we see them; they are what is
/// missing between these and the reassembler's.
#[derive(Debug, Default)]
struct Arrivals {
    packets: AtomicU64,
    not_rtp: AtomicU64,
}

impl Arrivals {
    fn note(&self, buffer: &gst::BufferRef) {
        let mut first = [0];
        let rtp = buffer.size() >= 12 && buffer.copy_to_slice(0, &mut first).is_ok() && first[0] >> 6 == 2;
        let counter = if rtp { &self.packets } else { &self.not_rtp };
        counter.fetch_add(1, Relaxed);
    }
}

pub struct RtpSFrameDepay {
    settings: Mutex<Settings>,
    state: Mutex<State>,
    arrivals: Arc<Arrivals>,
}

#[glib::object_subclass]
impl ObjectSubclass for RtpSFrameDepay {
    const NAME: &'static str = "GstRtpSFrameDepay";
    type Type = super::RtpSFrameDepay;
    type ParentType = gst_rtp::RTPBaseDepayload;

    fn new() -> Self {
        let settings = Settings::default();
        Self {
            state: Mutex::new(State::new(&settings)),
            settings: Mutex::new(settings),
            arrivals: Arc::default(),
        }
    }
}

impl ObjectImpl for RtpSFrameDepay {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecEnum::builder::<Packetization>("packetization")
                    .nick("Packetization")
                    .blurb("How sealed frames lie in RTP payloads")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("max-frame-size")
                    .nick("Maximum frame size")
                    .blurb("Largest sealed frame in bytes; larger ones are dropped and counted as too-large")
                    .minimum(1)
                    .default_value(DEFAULT_MAX_FRAME_SIZE)
                    .mutable_playing()
                    .build(),
                base_stats::param_spec::<gst_rtp::RTPBaseDepayload>(),
            ]
        });
        &PROPERTIES
    }

    fn constructed(&self) {
        self.parent_constructed();
        let arrivals = Arc::clone(&self.arrivals);
        let kind = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        self.obj().sink_pad().add_probe(kind, move |_, info| {
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => arrivals.note(buffer),
                Some(gst::PadProbeData::BufferList(list)) => list.iter().for_each(|b| arrivals.note(b)),
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        match pspec.name() {
            "packetization" => {
                if let Ok(packetization) = value.get() {
                    self.settings().packetization = packetization;
                }
            }
            _ => {
                if let Ok(bytes) = value.get::<u32>() {
                    self.settings().max_frame_size = bytes;
                    self.state().reassembler.set_max_frame_size(bytes as usize);
                }
            }
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "packetization" => self.settings().packetization.to_value(),
            "max-frame-size" => self.settings().max_frame_size.to_value(),
            _ => {
                let mut stats = base_stats::read(self);
                self.add_counters(&mut stats);
                stats.to_value()
            }
        }
    }
}

impl GstObjectImpl for RtpSFrameDepay {}

impl ElementImpl for RtpSFrameDepay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "RTP SFrame depayloader",
                "Codec/Depayloader/Network/RTP",
                "Takes sealed frames out of RTP packets for sframedec (draft-ietf-avtcore-rtp-sframe); stats adds \
                 to those of the base class: packets, frames, bytes (of sealed frames), dropped-frames (a packet \
                 is missing), malformed, duplicates (also late packets), too-large",
                "The gst-plugins-e2ee developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let rtp = gst::Caps::new_empty_simple(table::RTP);
            let out = gst::Caps::builder_full()
                .structure(gst::Structure::new_empty(table::SFRAME))
                .structure(
                    gst::Structure::builder(table::RTP)
                        .field(table::SFRAME_DESCRIPTOR, false)
                        .build(),
                )
                .build();
            let always = gst::PadPresence::Always;
            [
                gst::PadTemplate::new("sink", gst::PadDirection::Sink, always, &rtp),
                gst::PadTemplate::new("src", gst::PadDirection::Src, always, &out),
            ]
            .into_iter()
            .filter_map(Result::ok)
            .collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::ReadyToPaused {
            let settings = *self.settings();
            *self.state() = State::new(&settings);
            self.arrivals.packets.store(0, Relaxed);
            self.arrivals.not_rtp.store(0, Relaxed);
        }
        let result = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            self.finish();
        }
        Ok(result)
    }
}

impl RTPBaseDepayloadImpl for RtpSFrameDepay {
    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        gst::debug!(CAT, imp = self, "RTP is {caps}");
        self.configure(caps).map_err(|what| {
            // Sources offer the same caps with every buffer again; one error is enough.
            if self.state().refused.replace(caps.clone()).as_ref() != Some(caps) {
                gst::element_imp_error!(self, gst::StreamError::Format, ("{}", what));
            }
            gst::loggable_error!(CAT, "{what}")
        })
    }

    fn handle_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::FlushStop => {
                let mut state = self.state();
                state.reassembler.reset();
                state.first = None;
            }
            // Before it goes on: applications stop reading the bus at EOS.
            gst::EventType::Eos => self.finish(),
            _ => {}
        }
        self.parent_handle_event(event)
    }

    fn process_rtp_packet(&self, borrowed: &RtpBuffer) -> Option<gst::Buffer> {
        // Mapped again on purpose: the bindings hand over a copy of the C structure, and the mapping of the payload
        // that reading it adds to the copy would never be undone (one leaked memory per packet).
        let rtp = &RtpBuffer::from_buffer_readable(borrowed.buffer()).ok()?;
        let payload = rtp.payload().unwrap_or(&[]);
        let at = Position {
            ssrc: rtp.ssrc(),
            seq: rtp.seq(),
            timestamp: rtp.timestamp(),
            discont: rtp.buffer().flags().contains(gst::BufferFlags::DISCONT),
        };
        let mut state = self.state();
        let outcome = match state.format {
            Format::SFrame => state.reassembler.push_sframe(at, payload),
            Format::Opaque(OpaqueFormat::Vp8) => state.reassembler.push_vp8(at, rtp.is_marker(), payload),
            Format::Opaque(OpaqueFormat::Opus) => state.reassembler.push_whole(at, payload),
        };
        let of_other = mismatch::is_of_other(state.format.opaque(), rtp.is_marker(), payload);
        let complete = matches!(outcome, Outcome::Complete(_));
        if let Some(packets) = state.mismatch.note(of_other, complete) {
            let format = state.format;
            drop(state);
            self.warn_of_mismatch(packets, format);
            state = self.state();
        }
        let frame = match outcome {
            Outcome::Nothing => return None,
            Outcome::Started => {
                state.first = First::of(rtp);
                return None;
            }
            Outcome::Complete(frame) => frame,
        };
        let output = Output::of(&frame);
        let discont = frame.discont;
        let first = state.first.take();
        let buffer = match output {
            Output::Frames => whole_frame(rtp, frame, first),
            Output::Packets => {
                let seq = frame.first_seq.saturating_sub(state.saved) as u16;
                state.saved += frame.packets - 1;
                sealed_packet(rtp, frame, first, seq)
            }
        };
        let Some(mut buffer) = buffer else {
            gst::warning!(CAT, imp = self, "Cannot read packet {}", at.seq);
            return None;
        };
        if discont {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        let caps = state.announce(output);
        drop(state);
        if let Some(caps) = caps {
            gst::debug!(CAT, imp = self, "Output is {caps}");
            // Refused caps come back as the flow of the buffer.
            self.obj().src_pad().push_event(gst::event::Caps::new(&caps));
        }
        Some(buffer)
    }
}

impl State {
    /// The caps to send before this output, if they are not sent yet.
    fn announce(&mut self, output: Output) -> Option<gst::Caps> {
        if self.announced == Some(output) {
            return None;
        }
        let rtp = self.rtp_caps.as_ref()?.structure(0)?;
        let caps = match output {
            Output::Packets => rtp_caps::packet_caps(rtp),
            Output::Frames => rtp_caps::frame_caps(rtp, rtp_caps::codec(rtp).ok()?).ok()?,
        };
        self.announced = Some(output);
        Some(caps)
    }
}

impl First {
    fn of(rtp: &RtpBuffer) -> Option<Self> {
        let map = rtp.buffer().map_readable().ok()?;
        Some(Self {
            buffer: head(rtp.buffer())?,
            header: rtp_packet::header(&map)?.to_vec(),
        })
    }
}

/// Times, flags and metas of a packet in a buffer without memory.
fn head(packet: &gst::BufferRef) -> Option<gst::Buffer> {
    let mut buffer = gst::Buffer::new();
    let what = gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::META;
    packet.copy_into(buffer.make_mut(), what, ..).ok()?;
    Some(buffer)
}

/// Where the payload lies in its packet.
fn payload_range(rtp: &RtpBuffer) -> Option<Range<usize>> {
    let packet = rtp.buffer();
    let mut padding = [0];
    if rtp.has_padding() {
        packet
            .copy_to_slice(packet.size().checked_sub(1)?, &mut padding)
            .ok()?;
    }
    let end = packet.size().checked_sub(padding[0].into())?;
    Some(end.checked_sub(rtp.payload_size() as usize)?..end)
}

/// A sealed frame; one that came in one packet shares the packet's memory.
fn whole_frame(rtp: &RtpBuffer, frame: Frame, first: Option<First>) -> Option<gst::Buffer> {
    let mut buffer = match frame.body {
        Body::Whole(offset) => {
            let packet = rtp.buffer();
            let payload = payload_range(rtp)?;
            let what =
                gst::BufferCopyFlags::MEMORY | gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::META;
            let mut buffer = packet
                .copy_region(what, payload.start + offset..payload.end)
                .ok()?;
            let out = buffer.make_mut();
            out.set_pts(packet.pts());
            out.set_dts(packet.dts());
            out.set_duration(packet.duration());
            buffer
        }
        Body::Joined(bytes) => {
            let mut buffer = first?.buffer;
            buffer
                .make_mut()
                .append_memory(gst::Memory::from_mut_slice(bytes));
            buffer
        }
    };
    // MARKER is of the packet, and whether the frame is a delta unit shows only after it was opened.
    buffer
        .make_mut()
        .unset_flags(gst::BufferFlags::MARKER | gst::BufferFlags::DELTA_UNIT);
    Some(buffer)
}

/// An RTP packet with a sealed payload behind the header of the (first) packet that it came in, and the marker of
/// the last.
fn sealed_packet(rtp: &RtpBuffer, frame: Frame, first: Option<First>, seq: u16) -> Option<gst::Buffer> {
    let write = |mut buffer: gst::Buffer, header: &[u8], payload: &[u8]| {
        let mut memory = gst::Memory::with_size(header.len() + payload.len());
        let mut map = memory.get_mut()?.map_writable().ok()?;
        let fits = rtp_packet::write(&mut map, header, payload, seq, rtp.is_marker());
        drop(map);
        buffer.make_mut().append_memory(memory);
        fits.then_some(buffer)
    };
    match frame.body {
        Body::Whole(offset) => {
            let map = rtp.buffer().map_readable().ok()?;
            let payload = rtp.payload().ok()?.get(offset..)?;
            write(head(rtp.buffer())?, rtp_packet::header(&map)?, payload)
        }
        Body::Joined(bytes) => {
            let first = first?;
            write(first.buffer, &first.header, &bytes)
        }
    }
}

impl RtpSFrameDepay {
    /// Prepares for packets with these caps; the error is for the user.
    fn configure(&self, caps: &gst::Caps) -> Result<(), String> {
        let rtp = caps.structure(0).ok_or("the caps are empty")?;
        let codec = rtp_caps::codec(rtp).map_err(|e| e.to_string())?;
        rtp_caps::frame_caps(rtp, codec).map_err(|e| e.to_string())?;
        let format = match self.settings().packetization {
            Packetization::Sframe => Format::SFrame,
            Packetization::Codec => match OpaqueFormat::of(codec.encoding_name) {
                Some(format) => Format::Opaque(format),
                None => {
                    return Err(format!(
                        "packetization=codec is possible for VP8 and Opus only, not for {}: use \
                         packetization=sframe here and on the sender's rtpsframepay",
                        codec.encoding_name
                    ));
                }
            },
        };
        let clock_rate = rtp
            .get::<i32>("clock-rate")
            .ok()
            .and_then(|r| u32::try_from(r).ok());
        self.set_clock_rate(clock_rate.unwrap_or(codec.clock_rate));
        let mut state = self.state();
        if state.format != format {
            state.reassembler.reset();
            state.first = None;
        }
        state.mismatch.restart();
        state.refused = None;
        state.format = format;
        state.rtp_caps = Some(caps.clone());
        state.announced = None;
        Ok(())
    }

    /// Packets come, but not as `packetization` has it.
    fn warn_of_mismatch(&self, packets: u32, format: Format) {
        let what = match format {
            Format::SFrame => {
                "without SFrame descriptor: if the sender has packetization=codec, set it here too; otherwise these \
                 packets are not sealed, and sframeenc ! rtpsframepay are missing on the sender"
            }
            Format::Opaque(_) => {
                "with an SFrame descriptor, which packetization=codec does not expect: the sender's rtpsframepay \
                 has packetization=sframe (the default), set it here too"
            }
        };
        gst::element_imp_warning!(
            self,
            gst::StreamError::Format,
            ("{packets} packets in a row came {what}")
        );
    }

    /// Tells the base class the RTP clock, which it shows in `stats` and uses for the segment.
    fn set_clock_rate(&self, clock_rate: u32) {
        let base: *mut gst_rtp::ffi::GstRTPBaseDepayload =
            self.obj().upcast_ref::<gst_rtp::RTPBaseDepayload>().as_ptr();
        // SAFETY: a public field of the base class that subclasses set when they get caps, in the streaming thread,
        // which alone uses it for more than statistics.
        unsafe { (*base).clock_rate = clock_rate };
    }

    fn add_counters(&self, s: &mut gst::StructureRef) {
        let counters = self.state().reassembler.counters();
        let arrived = self.arrivals.packets.load(Relaxed);
        let not_rtp = self.arrivals.not_rtp.load(Relaxed);
        let dropped_by_base = arrived.saturating_sub(counters.packets);
        s.set("packets", counters.packets.max(arrived) + not_rtp);
        s.set("frames", counters.frames);
        s.set("bytes", counters.bytes);
        s.set("dropped-frames", counters.dropped_frames);
        s.set("malformed", counters.malformed + not_rtp);
        s.set("duplicates", counters.duplicates + dropped_by_base);
        s.set("too-large", counters.too_large);
    }

    /// The end of the stream: a frame that still waits for packets will not get them.
    fn finish(&self) {
        {
            let mut state = self.state();
            state.reassembler.reset();
            state.first = None;
        }
        let mut stats = gst::Structure::new_empty("rtpsframedepay-stats");
        self.add_counters(&mut stats);
        let obj = self.obj();
        let message = gst::message::Element::builder(stats).src(&*obj).build();
        let _ = obj.post_message(message);
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
