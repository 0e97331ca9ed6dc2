/**
 * SECTION:element-rtpsframepay
 *
 * Puts sealed frames into RTP packets (draft-ietf-avtcore-rtp-sframe-02): one descriptor byte, then ciphertext,
 * cut to the MTU. Media, encoding name, clock rate and static payload type are those of the codec inside, and
 * `a-sframe` in the caps becomes `a=sframe` in SDP.
 *
 * With `packetization=codec` VP8 and Opus go out in their own payload formats, as browsers send frames that a
 * script has sealed; the frames themselves are never read.
 *
 * |[
 * gst-launch-1.0 videotestsrc ! vp8enc deadline=1 ! sframeenc key-file=keys kid=1 ! rtpsframepay ! udpsink port=5004
 * ]|
 */
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_e2ee_common::caps_table as table;
use gst_e2ee_common::rate_limit::RateLimit;
use gst_rtp::prelude::*;
use gst_rtp::subclass::prelude::*;
use smallvec::SmallVec;

use super::header_extensions;
use crate::packetization::{OpaqueFormat, Packetization};
use crate::packetize::{Fragment, fragments};
use crate::{base_stats, rtp_caps, rtp_packet};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "rtpsframepay",
        gst::DebugColorFlags::empty(),
        Some("SFrame payloader"),
    )
});

/// RTP header without CSRCs (RFC 3550 §5.1).
const RTP_HEADER_LEN: usize = 12;
const CSRC_LEN: usize = 4;
/// The payload type of the base class while nobody chose one.
const DYNAMIC_PAYLOAD_TYPE: u8 = 96;

#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    packetization: Packetization,
    /// The application set `pt`: then it stays, also for codecs with a static payload type.
    pt_chosen: bool,
}

/// What stands before each fragment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Format {
    #[default]
    SFrame,
    Vp8,
    /// Nothing; a frame is never cut.
    Opus,
}

impl Format {
    fn descriptor(self, fragment: &Fragment) -> Option<u8> {
        match self {
            Self::SFrame => Some(fragment.sframe_descriptor()),
            Self::Vp8 => Some(fragment.vp8_descriptor()),
            Self::Opus => None,
        }
    }

    fn descriptor_len(self) -> usize {
        match self {
            Self::SFrame | Self::Vp8 => 1,
            Self::Opus => 0,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    frames: u64,
    packets: u64,
    bytes: u64,
    dropped: u64,
}

#[derive(Debug)]
struct State {
    format: Format,
    /// Caps that an error message was already posted for.
    refused: Option<gst::Caps>,
    /// The payload type is the static one of the codec.
    static_pt: bool,
    /// Bytes that header extensions take at most.
    header_extensions: usize,
    /// The segment upstream was not in time.
    untimed: bool,
    told: Told,
    counters: Counters,
    drop_warning: RateLimit,
}

/// What the user was told in this run; once is enough.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    clear_prefix: bool,
    sealed_whole: bool,
    untimed: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            format: Format::default(),
            refused: None,
            static_pt: false,
            header_extensions: 0,
            untimed: false,
            told: Told::default(),
            counters: Counters::default(),
            drop_warning: RateLimit::new(Duration::from_secs(5)),
        }
    }
}

/// One RTP packet with one part of a frame: one allocation, one copy. The base class fills in payload type,
/// number, timestamp and SSRC when it is pushed.
fn packet(
    frame: &gst::BufferRef,
    format: Format,
    fragment: &Fragment,
    sources: &[u32],
) -> Result<gst::Buffer, gst::FlowError> {
    let discont = frame.flags().contains(gst::BufferFlags::DISCONT);
    let marker = match format {
        Format::SFrame | Format::Vp8 => fragment.end,
        // The start of a talkspurt (RFC 7587 §4.1).
        Format::Opus => discont,
    };
    let descriptor = format.descriptor(fragment);
    let header = rtp_packet::blank_header(marker, sources);
    let payload_at = header.len() + usize::from(descriptor.is_some());
    let mut packet =
        gst::Buffer::with_size(payload_at + fragment.range.len()).map_err(|_| gst::FlowError::Error)?;
    let out = packet.make_mut();
    {
        let mut map = out.map_writable().map_err(|_| gst::FlowError::Error)?;
        let (head, payload) = map
            .split_at_mut_checked(payload_at)
            .ok_or(gst::FlowError::Error)?;
        let (head, descriptor_at) = head
            .split_at_mut_checked(header.len())
            .ok_or(gst::FlowError::Error)?;
        head.copy_from_slice(&header);
        descriptor_at.fill(descriptor.unwrap_or_default());
        // Reads across memories: nothing is merged first.
        frame
            .copy_to_slice(fragment.range.start, payload)
            .map_err(|_| gst::FlowError::Error)?;
    }
    copy_metas(frame, out);
    out.set_pts(frame.pts());
    out.set_dts(frame.dts());
    if fragment.start && fragment.end {
        out.set_duration(frame.duration());
    }
    let mut flags = gst::BufferFlags::empty();
    // Only the first packet of a keyframe is a place to begin at, only the first follows the gap.
    flags.set(
        gst::BufferFlags::DELTA_UNIT,
        !fragment.start || frame.flags().contains(gst::BufferFlags::DELTA_UNIT),
    );
    flags.set(gst::BufferFlags::DISCONT, fragment.start && discont);
    flags.set(gst::BufferFlags::MARKER, marker);
    out.set_flags(flags);
    Ok(packet)
}

/// Copies what describes the frame, not what describes its memory. One by one: some metas refuse to be copied,
/// which `gst_buffer_copy_into` reports as an error in the log.
fn copy_metas(frame: &gst::BufferRef, packet: &mut gst::BufferRef) {
    let copy = gst::meta::MetaTransformCopy::new(..);
    frame.foreach_meta(|meta| {
        if !meta.has_tag::<gst::meta::tags::Memory>() {
            let _ = meta.transform(packet, &copy);
        }
        ControlFlow::Continue(())
    });
}

#[derive(Default)]
pub struct RtpSFramePay {
    settings: Mutex<Settings>,
    state: Mutex<State>,
    /// The source caps, which name the header extensions, are not those that [`State`] knows.
    src_caps_changed: Arc<AtomicBool>,
}

#[glib::object_subclass]
impl ObjectSubclass for RtpSFramePay {
    const NAME: &'static str = "GstRtpSFramePay";
    type Type = super::RtpSFramePay;
    type ParentType = gst_rtp::RTPBasePayload;
}

impl ObjectImpl for RtpSFramePay {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecEnum::builder::<Packetization>("packetization")
                    .nick("Packetization")
                    .blurb("How sealed frames are laid into RTP payloads")
                    .mutable_ready()
                    .build(),
                base_stats::param_spec::<gst_rtp::RTPBasePayload>(),
            ]
        });
        &PROPERTIES
    }

    fn constructed(&self) {
        self.parent_constructed();
        // The base class does not tell whether its default was chosen; only setting the property notifies.
        self.obj()
            .connect_pt_notify(|pay| pay.imp().settings().pt_chosen = true);
        let changed = Arc::clone(&self.src_caps_changed);
        self.obj()
            .src_pad()
            .connect_caps_notify(move |_| changed.store(true, Relaxed));
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if let ("packetization", Ok(packetization)) = (pspec.name(), value.get()) {
            self.settings().packetization = packetization;
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "packetization" => self.settings().packetization.to_value(),
            _ => {
                let mut stats = base_stats::read(self);
                self.add_counters(&mut stats);
                stats.to_value()
            }
        }
    }
}

impl GstObjectImpl for RtpSFramePay {}

impl ElementImpl for RtpSFramePay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "RTP SFrame payloader",
                "Codec/Payloader/Network/RTP",
                "Puts frames sealed by sframeenc into RTP packets (draft-ietf-avtcore-rtp-sframe); stats adds to \
                 those of the base class: frames, packets, bytes (of sealed frames), dropped (frames that are \
                 empty, or Opus larger than the MTU with packetization=codec)",
                "The gst-plugins-e2ee developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = |name, direction, media_type: &str| {
                let caps = gst::Caps::new_empty_simple(media_type);
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
            };
            [
                template("sink", gst::PadDirection::Sink, table::SFRAME),
                template("src", gst::PadDirection::Src, table::RTP),
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
            let mut state = self.state();
            *state = State {
                // The base class keeps the payload type of the run before.
                static_pt: state.static_pt,
                ..State::default()
            };
            drop(state);
            self.src_caps_changed.store(true, Relaxed);
        }
        let result = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            self.post_stats();
        }
        Ok(result)
    }
}

impl RTPBasePayloadImpl for RtpSFramePay {
    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        gst::debug!(CAT, imp = self, "Sealed frames are {caps}");
        self.configure(caps).map_err(|what| {
            // A flush or a stop is no fault of anybody.
            if self.obj().src_pad().pad_flags().contains(gst::PadFlags::FLUSHING) {
                return gst::loggable_error!(CAT, "{what}, which is flushing");
            }
            // Sources offer the same caps with every buffer again; one error is enough.
            if self.state().refused.replace(caps.clone()).as_ref() != Some(caps) {
                gst::element_imp_error!(self, gst::StreamError::Format, ("{}", what));
            }
            gst::loggable_error!(CAT, "{what}")
        })
    }

    fn handle_buffer(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let obj = self.obj();
        let len = buffer.size();
        let sources = self.sources(&buffer);
        let caps_changed = self.src_caps_changed.swap(false, Relaxed);
        let (format, extensions, warn_untimed) = {
            let mut state = self.state();
            if caps_changed {
                state.header_extensions = header_extensions::room(obj.src_pad().current_caps(), &buffer);
            }
            let warn = state.untimed && !state.told.untimed && buffer.dts_or_pts().is_none();
            state.told.untimed |= warn;
            (state.format, state.header_extensions, warn)
        };
        if warn_untimed {
            self.warn_of_no_times();
        }
        let header = RTP_HEADER_LEN + CSRC_LEN * sources.len();
        let max = self
            .mtu()
            .saturating_sub(header + extensions + format.descriptor_len());

        if len == 0 {
            gst::debug!(
                CAT,
                imp = self,
                "Dropping an empty buffer, nothing sealed is in it"
            );
            self.state().counters.dropped += 1;
            return Ok(gst::FlowSuccess::Ok);
        }
        if format == Format::Opus && len > max {
            return self.drop_oversized(len, max);
        }

        let pieces = fragments(len, max);
        let packets = pieces.len();
        {
            let counters = &mut self.state().counters;
            counters.frames += 1;
            counters.packets += packets as u64;
            counters.bytes += len as u64;
        }
        let mut pieces = pieces.map(|piece| packet(&buffer, format, &piece, &sources));
        if packets == 1
            && let Some(packet) = pieces.next()
        {
            return obj.push(packet?);
        }
        let mut list = gst::BufferList::new_sized(packets);
        {
            let list = list.make_mut();
            for packet in pieces {
                list.add(packet?);
            }
        }
        obj.push_list(list)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Eos {
            // Before it goes on: applications stop reading the bus at EOS.
            self.post_stats();
        }
        self.parent_sink_event(self.segment_in_time(event))
    }
}

impl RtpSFramePay {
    /// Sets the RTP format for sealed frames with these caps; the error is for the user.
    fn configure(&self, caps: &gst::Caps) -> Result<(), String> {
        let obj = self.obj();
        let settings = *self.settings();
        let frames = caps.structure(0).ok_or("the caps are empty")?;
        let rtp = rtp_caps::rtp_format(frames).map_err(|e| e.to_string())?;
        let name = rtp.codec.encoding_name;
        let mut fields = rtp.fields;
        let clear_prefix = frames.get::<&str>(table::CLEAR_PREFIX);
        let format = match settings.packetization {
            Packetization::Sframe => {
                fields.set(table::A_SFRAME, "");
                if clear_prefix == Ok(table::CLEAR_PREFIX_CODEC) && self.first_time(|t| &mut t.clear_prefix) {
                    gst::element_imp_warning!(
                        self,
                        gst::StreamError::Format,
                        ("Frames begin with clear bytes of the codec, which is not SFrame over RTP and \
                          sframeguard drops it: set clear-prefix=none on sframeenc, or packetization=codec here")
                    );
                }
                Format::SFrame
            }
            Packetization::Codec => match OpaqueFormat::of(name) {
                Some(OpaqueFormat::Vp8) => {
                    if clear_prefix == Ok(table::CLEAR_PREFIX_NONE)
                        && self.first_time(|t| &mut t.sealed_whole)
                    {
                        // For information only: browsers' own senders do it. gst-launch-1.0 prints the second text.
                        const WHOLE: &str = "VP8 frames are sealed whole: browsers open them, stock depayloaders and \
                             SFUs that look for keyframes do not; set clear-prefix=codec on sframeenc for these";
                        gst::element_imp_info!(self, gst::StreamError::Format, ("{WHOLE}"), ["{WHOLE}"]);
                    }
                    Format::Vp8
                }
                Some(OpaqueFormat::Opus) => Format::Opus,
                None => {
                    return Err(format!(
                        "packetization=codec is possible for VP8 and Opus only, the payload format of {name} \
                         would have to read the sealed frame: use packetization=sframe"
                    ));
                }
            },
        };
        let static_pt = match rtp.codec.payload_type {
            Some(pt) if !settings.pt_chosen => {
                self.set_default_payload_type(pt);
                true
            }
            _ => {
                if self.state().static_pt && !settings.pt_chosen {
                    self.set_default_payload_type(DYNAMIC_PAYLOAD_TYPE);
                }
                false
            }
        };
        {
            let mut state = self.state();
            state.format = format;
            state.static_pt = static_pt;
        }
        obj.set_options(rtp.codec.media, !static_pt, name, rtp.clock_rate);
        obj.set_outcaps(Some(&fields))
            .map_err(|_| format!("what follows rtpsframepay does not take {name} as RTP: check its caps"))?;
        self.state().refused = None;
        Ok(())
    }

    /// RTP is about time. A segment in anything else becomes an open one in time, as parsers and decoders do it, so
    /// that the times that the frames have (appsrc sets them in any format) are running times.
    fn segment_in_time(&self, event: gst::Event) -> gst::Event {
        let gst::EventView::Segment(segment) = event.view() else {
            return event;
        };
        let untimed = segment.segment().format() != gst::Format::Time;
        self.state().untimed = untimed;
        if !untimed {
            return event;
        }
        gst::debug!(
            CAT,
            imp = self,
            "Putting time in the place of {:?}",
            segment.segment()
        );
        gst::event::Segment::builder(&gst::FormattedSegment::<gst::ClockTime>::new())
            .seqnum(event.seqnum())
            .running_time_offset(event.running_time_offset())
            .build()
    }

    fn warn_of_no_times(&self) {
        gst::element_imp_warning!(
            self,
            gst::StreamError::Format,
            ("RTP needs buffers with times, and these have none: all packets get the same timestamp. Use appsrc \
              format=time with timestamps, or a parser that sets them, before sframeenc")
        );
    }

    /// Whether the user was not yet told in this run; now he is.
    fn first_time(&self, told: impl FnOnce(&mut Told) -> &mut bool) -> bool {
        !std::mem::replace(told(&mut self.state().told), true)
    }

    /// Sets the payload type without claiming it as the application's choice, which the property would do.
    fn set_default_payload_type(&self, pt: u8) {
        // SAFETY: a public field of the base class that subclasses set, as C payloaders do in their `init`. It is
        // written in the streaming thread, which alone uses it while caps are set.
        unsafe { (*self.base()).pt = pt.into() };
    }

    /// What the CSRC list of the packets has to say, if `source-info` is set.
    fn sources(&self, frame: &gst::Buffer) -> SmallVec<[u32; 1]> {
        match self.obj().source_count(frame) {
            0 => SmallVec::new(),
            count => frame
                .meta::<gst_rtp::RTPSourceMeta>()
                .map(|meta| {
                    meta.csrc()
                        .iter()
                        .copied()
                        .chain(meta.ssrc())
                        .take(count as usize)
                        .collect()
                })
                .unwrap_or_default(),
        }
    }

    /// Read in place: the property of the same name costs more than making a packet.
    fn mtu(&self) -> usize {
        let base: *const gst_rtp::ffi::GstRTPBasePayload = self.base();
        // SAFETY: a public field of the base class, a plain number that C payloaders read the same way.
        unsafe { (*base).mtu as usize }
    }

    fn base(&self) -> *mut gst_rtp::ffi::GstRTPBasePayload {
        self.obj().upcast_ref::<gst_rtp::RTPBasePayload>().as_ptr()
    }

    fn drop_oversized(&self, len: usize, max: usize) -> Result<gst::FlowSuccess, gst::FlowError> {
        let warn = {
            let mut state = self.state();
            state.counters.dropped += 1;
            state.drop_warning.note(Instant::now())
        };
        if let Some(count) = warn {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Encode,
                (
                    "Dropped {} Opus frame(s), the last of {} bytes: a packet holds {} and RFC 7587 cuts no frame. \
                     Raise mtu, lower opusenc bitrate, or use packetization=sframe",
                    count,
                    len,
                    max
                )
            );
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn add_counters(&self, s: &mut gst::StructureRef) {
        let counters = self.state().counters;
        s.set("frames", counters.frames);
        s.set("packets", counters.packets);
        s.set("bytes", counters.bytes);
        s.set("dropped", counters.dropped);
    }

    fn post_stats(&self) {
        let mut stats = gst::Structure::new_empty("rtpsframepay-stats");
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
