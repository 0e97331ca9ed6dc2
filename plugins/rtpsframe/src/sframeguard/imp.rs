//! `sframeguard` for relays and recorders' front doors: what is not SFrame does not pass.
//!
//! It holds no key and does no cryptography. A stream (SSRC; for `application/x-sframe` the whole pad) is held
//! until it has proven that it has SFrame's form and is then released in order, so that its first keyframe is not
//! lost. Afterwards each packet is still checked. What fails is dropped, counted in `stats` and told in an element
//! message `sframe-guard-violation` (`ssrc` u32, `count` u64 since the last message, `cause` string; at most one a
//! second). The first stream that was never SFrame is also told in a warning, once in a run: a setting may not fit. `stats` is posted as element message `sframeguard-stats` at EOS and when the element stops.
//!
//! **What it cannot do:** prove that anything is encrypted. Whoever writes SFrame headers with advancing counters
//! before plaintext gets through. It catches senders and relays that send in clear by mistake, and it shows that the
//! machine which it runs on needs no key.
//!
//! - **Proof**: `proof-frames` frame starts of one KID, in sequence, with minimal headers and counters that
//!   advance. Each violation, change of KID or leap of the counter before that begins the proof anew, drops what was
//!   held (but for the first two changes of KID of a stream that never broke the form: somebody joined) and makes the
//!   proof one frame start longer (8 at most). Four times as many starts are needed where no descriptor byte is in the
//!   payload (`packetization=codec`).
//! - **Afterwards**: a new KID has to prove itself, while its packets pass; at most 4 new KIDs may follow each other
//!   without that. 8 violations in a row, and the stream is held again until it gives a new proof.
//! - **Loss** is no violation: the rest of a frame whose start is missing passes. Packets up to 512 behind the
//!   newest pass if they have the form, and are counted as `reordered`. Duplicates are dropped and counted there too.
//! - **RTCP** passes with `allow-rtcp` if its lengths add up, muxed (RFC 5761) or not; for a separate RTCP port set
//!   `application/x-rtp` caps on its source. RTCP packets of type APP can carry anything; use `allow-rtcp=false` where
//!   that matters.
//! - **Retransmissions** (RFC 4588) have SSRCs of their own that nothing ties to their stream: list their payload
//!   types in `rtx-payload-types`; they are checked for form only, prove nothing, and pass while any stream is proven.
//! - **Empty packets** (bandwidth probes that consist of padding) are dropped: nothing in them can be checked.
//! - **FEC and RED** (RFC 5109, RFC 2198) carry no SFrame descriptor and are dropped.
//! - Header extensions, CSRCs and padding pass as they are.
//!
//! Holding is not reported as latency: a stream's first packets leave late by the time that its proof takes. Sinks
//! behind it that forward packets want `sync=false`.
//!
//! ```sh
//! gst-launch-1.0 udpsrc port=5004 caps='application/x-rtp' ! sframeguard ! udpsink host=10.0.0.2 port=5004 sync=false
//! ```

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use gst_e2ee_common::caps_table;

use super::ClearPrefix;
use crate::guard::{Clear, Config, Format, Guard, Input, Report, Unsealed, Verdict};
use crate::packetization::{OpaqueFormat, Packetization};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "sframeguard",
        gst::DebugColorFlags::empty(),
        Some("SFrame form check"),
    )
});

/// Name of the `stats` structure and of the message that carries it.
const STATS: &str = "sframeguard-stats";
/// Name of the message about violations.
const VIOLATION: &str = "sframe-guard-violation";

#[derive(Debug, Default)]
struct Settings {
    packetization: Packetization,
    clear_prefix: ClearPrefix,
    rtx_payload_types: Vec<i32>,
}

/// One lock for both: settings that may change while playing are in the guard's own configuration.
#[derive(Debug)]
struct State {
    settings: Settings,
    guard: Guard<gst::Buffer>,
    /// Caps that an error message was already posted for.
    refused: Option<gst::Caps>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            guard: Guard::new(Config::default()),
            refused: None,
        }
    }
}

impl State {
    fn change(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = self.guard.config().clone();
        change(&mut config);
        self.guard.set_config(config);
    }
}

/// What to send after one buffer was judged. The lock is not held then.
#[derive(Debug, Default)]
struct Output {
    released: Vec<gst::Buffer>,
    forward: bool,
    report: Option<Report>,
    unsealed: Option<Unsealed>,
}

/// The implementation of [`super::SFrameGuard`].
#[derive(Debug)]
pub struct SFrameGuard {
    sinkpad: gst::Pad,
    srcpad: gst::Pad,
    state: Mutex<State>,
}

impl SFrameGuard {
    /// A panic elsewhere must not turn into one here: the state is consistent after every call.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: the buffer cannot be read.
    fn judge(&self, guard: &mut Guard<gst::Buffer>, buffer: &gst::Buffer) -> Option<Output> {
        let map = buffer.map_readable().ok()?;
        // What holding it takes is the whole memory, of which a packet may be a small part.
        let memory = buffer.maxsize();
        Some(
            match guard.process(Instant::now(), &map, memory, || buffer.clone()) {
                Verdict::Forward => Output {
                    forward: true,
                    ..Output::default()
                },
                Verdict::Hold => Output {
                    unsealed: guard.take_unsealed(),
                    ..Output::default()
                },
                Verdict::Release(released) => {
                    gst::info!(
                        CAT,
                        imp = self,
                        "A stream has proven itself, releasing {}",
                        released.len()
                    );
                    Output {
                        released,
                        forward: true,
                        ..Output::default()
                    }
                }
                Verdict::Drop { cause, report } => {
                    gst::debug!(CAT, imp = self, "Dropping {buffer:?}: {cause}");
                    Output {
                        report,
                        unsealed: guard.take_unsealed(),
                        ..Output::default()
                    }
                }
            },
        )
    }

    fn unreadable(&self) -> gst::FlowError {
        gst::element_imp_error!(
            self,
            gst::ResourceError::Read,
            ("A buffer cannot be mapped for reading; put an element that downloads to system memory before sframeguard")
        );
        gst::FlowError::Error
    }

    fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let judged = self.judge(&mut self.state().guard, &buffer);
        let output = judged.ok_or_else(|| self.unreadable())?;
        self.report(output.report);
        self.warn_of_unsealed(output.unsealed);
        match (output.released, output.forward) {
            (_, false) => Ok(gst::FlowSuccess::Ok),
            (released, true) if released.is_empty() => self.srcpad.push(buffer),
            (released, true) => {
                let list = released.into_iter().chain([buffer]).collect();
                self.srcpad.push_list(list)
            }
        }
    }

    fn chain_list(&self, list: gst::BufferList) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut passed: Vec<gst::Buffer> = Vec::new();
        let mut reports = Vec::new();
        let mut unsealed = None;
        // Position of the first buffer that did not simply pass; up to there nothing is copied.
        let mut changed_at = None;
        {
            let mut state = self.state();
            for (i, buffer) in list.iter_owned().enumerate() {
                let Some(output) = self.judge(&mut state.guard, &buffer) else {
                    drop(state);
                    return Err(self.unreadable());
                };
                reports.extend(output.report);
                unsealed = unsealed.or(output.unsealed);
                if changed_at.is_none() && (!output.forward || !output.released.is_empty()) {
                    changed_at = Some(i);
                    passed.extend(list.iter_owned().take(i));
                }
                if changed_at.is_some() {
                    passed.extend(output.released);
                    passed.extend(output.forward.then_some(buffer));
                }
            }
        }
        for report in reports {
            self.report(Some(report));
        }
        self.warn_of_unsealed(unsealed);
        match changed_at {
            None => self.srcpad.push_list(list),
            Some(_) if passed.is_empty() => Ok(gst::FlowSuccess::Ok),
            Some(_) => self.srcpad.push_list(passed.into_iter().collect()),
        }
    }

    fn report(&self, report: Option<Report>) {
        let Some(Report { ssrc, count, cause }) = report else {
            return;
        };
        gst::warning!(
            CAT,
            imp = self,
            "{count} packets are not SFrame, last {cause} in {ssrc:#010x}"
        );
        let structure = gst::Structure::builder(VIOLATION)
            .field("ssrc", ssrc)
            .field("count", count)
            .field("cause", cause.as_str())
            .build();
        self.post(structure);
    }

    /// A stream that never was SFrame is more often a setting that does not fit than an attack, and people who try
    /// things with gst-launch-1.0 see warnings, but no element messages.
    fn warn_of_unsealed(&self, unsealed: Option<Unsealed>) {
        let Some(Unsealed { ssrc, packets, cause }) = unsealed else {
            return;
        };
        let (frames, packetization) = {
            let state = self.state();
            let frames = matches!(state.guard.config().input, Input::Frames(_));
            (frames, state.settings.packetization)
        };
        let (what, advice) = match (frames, packetization) {
            (true, _) => (
                format!("{packets} frames are"),
                "their caps say application/x-sframe, but they do not come from sframeenc as they were sealed",
            ),
            (false, Packetization::Sframe) => (
                format!("{packets} packets of SSRC {ssrc:#010x} are"),
                "if the sender has packetization=codec, set it here too; otherwise this is unsealed media",
            ),
            (false, Packetization::Codec) => (
                format!("{packets} packets of SSRC {ssrc:#010x} are"),
                "if the sender has packetization=sframe (the default), set it here too; if it has the other \
                 clear-prefix, set that here; otherwise this is unsealed media",
            ),
        };
        gst::element_imp_warning!(
            self,
            gst::StreamError::WrongType,
            ("{what} not SFrame (cause {cause}) and do not pass: {advice}")
        );
    }

    fn post(&self, structure: gst::Structure) {
        let element = self.obj();
        let message = gst::message::Element::builder(structure).src(&*element).build();
        // Fails only without a bus, and then nobody listens.
        let _ = element.post_message(message);
    }

    /// The streams are over: what is held does not pass any more, and the counts are final.
    fn finish(&self) {
        let stats = {
            let mut state = self.state();
            state.guard.drop_held();
            stats(&state.guard)
        };
        self.post(stats);
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Caps(caps) if !self.set_caps(&caps.caps_owned()) => return false,
            gst::EventView::FlushStop(_) => self.state().guard.flush(),
            gst::EventView::Eos(_) => self.finish(),
            _ => {}
        }
        gst::Pad::event_default(&self.sinkpad, Some(&*self.obj()), event)
    }

    fn set_caps(&self, caps: &gst::Caps) -> bool {
        let mut state = self.state();
        match input(caps, &state.settings) {
            Ok(input) => {
                gst::debug!(CAT, imp = self, "{caps:?}: {input:?}");
                state.change(|config| config.input = input);
                state.refused = None;
                true
            }
            Err(error) => {
                // Payloaders offer the same caps with every buffer again; one error is enough.
                let again = state.refused.replace(caps.clone()).as_ref() == Some(caps);
                drop(state);
                if !again {
                    gst::element_imp_error!(self, gst::StreamError::WrongType, ("{error}"));
                }
                false
            }
        }
    }
}

/// What the caps announce, under these settings.
fn input(caps: &gst::CapsRef, settings: &Settings) -> Result<Input, String> {
    let structure = caps.structure(0).ok_or("The caps are empty")?;
    let field = |name| structure.get::<Option<&str>>(name).ok().flatten();
    if structure.name() == caps_table::SFRAME {
        let clear = match field(caps_table::CLEAR_PREFIX) {
            None | Some(caps_table::CLEAR_PREFIX_NONE) => Clear::None,
            Some(_) => {
                let media_type = field(caps_table::ORIGINAL_MEDIA_TYPE).unwrap_or("(none)");
                let codec = OpaqueFormat::of(caps_table::by_media_type(media_type).encoding_name);
                codec.map(clear_bytes).ok_or(format!(
                    "The frames have clear bytes of {media_type}, which sframeguard does not know; it knows those of \
                     VP8 and Opus. Use sframeenc clear-prefix=none."
                ))?
            }
        };
        return Ok(Input::Frames(clear));
    }
    if settings.packetization == Packetization::Sframe {
        return Ok(Input::Rtp(match structure.get(caps_table::SFRAME_DESCRIPTOR) {
            Ok(false) => Format::Whole(Clear::None),
            _ => Format::Descriptor,
        }));
    }
    let name = field("encoding-name").unwrap_or("(none)").to_ascii_uppercase();
    let codec = OpaqueFormat::of(&name).ok_or(format!(
        "packetization=codec needs RTP caps with encoding-name=VP8 or OPUS, these have {name}. Set them on the source \
         (udpsrc caps=…), one sframeguard for each codec, or use packetization=sframe."
    ))?;
    let clear = match settings.clear_prefix {
        ClearPrefix::None => Clear::None,
        ClearPrefix::Codec => clear_bytes(codec),
    };
    Ok(Input::Rtp(match codec {
        OpaqueFormat::Vp8 => Format::Vp8(clear),
        OpaqueFormat::Opus => Format::Whole(clear),
    }))
}

fn clear_bytes(codec: OpaqueFormat) -> Clear {
    match codec {
        OpaqueFormat::Vp8 => Clear::Vp8,
        OpaqueFormat::Opus => Clear::Opus,
    }
}

fn stats(guard: &Guard<gst::Buffer>) -> gst::Structure {
    let totals = guard.totals();
    let streams = guard.streams().map(|s| {
        gst::Structure::builder("sframeguard-stream")
            .field("ssrc", s.ssrc)
            .field("kid", s.kid)
            .field("proven", s.proven)
            .field("frames", s.stats.frames)
            .field("bytes", s.stats.bytes)
            .field("lost", s.stats.lost)
            .field("reordered", s.stats.reordered)
            .field("violations", s.stats.violations)
            .field("held", s.held as u64)
            .build()
    });
    gst::Structure::builder(STATS)
        .field("packets", totals.packets)
        .field("forwarded", totals.forwarded)
        .field("forwarded-bytes", totals.forwarded_bytes)
        .field("released", totals.released)
        .field("rtcp", totals.rtcp)
        .field("rtx", totals.rtx)
        .field("held", guard.held_packets() as u64)
        .field("held-bytes", guard.held_bytes() as u64)
        .field("dropped", totals.dropped())
        .field("violations", totals.violations)
        .field("dropped-rtcp", totals.dropped_rtcp)
        .field("dropped-empty", totals.dropped_empty)
        .field("dropped-duplicate", totals.dropped_duplicate)
        .field("dropped-unproven", totals.dropped_unproven)
        .field("dropped-overflow", totals.dropped_overflow)
        .field("evicted-streams", totals.evicted_streams)
        .field("streams", gst::Array::new(streams))
        .build()
}

#[glib::object_subclass]
impl ObjectSubclass for SFrameGuard {
    const NAME: &'static str = "GstSFrameGuard";
    type Type = super::SFrameGuard;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = |name| class.pad_template(name);
        // Both exist: `pad_templates` below makes them.
        let sinkpad = template("sink").map_or_else(
            || gst::Pad::builder(gst::PadDirection::Sink),
            |t| gst::Pad::builder_from_template(&t),
        );
        let srcpad = template("src").map_or_else(
            || gst::Pad::builder(gst::PadDirection::Src),
            |t| gst::Pad::builder_from_template(&t),
        );
        Self {
            sinkpad: sinkpad
                .name("sink")
                .chain_function(|_, parent, buffer| {
                    Self::catch_panic_pad_function(
                        parent,
                        || Err(gst::FlowError::Error),
                        |this| this.chain(buffer),
                    )
                })
                .chain_list_function(|_, parent, list| {
                    Self::catch_panic_pad_function(
                        parent,
                        || Err(gst::FlowError::Error),
                        |this| this.chain_list(list),
                    )
                })
                .event_function(|_, parent, event| {
                    Self::catch_panic_pad_function(parent, || false, |this| this.sink_event(event))
                })
                .flags(gst::PadFlags::PROXY_CAPS | gst::PadFlags::PROXY_SCHEDULING)
                .build(),
            srcpad: srcpad.name("src").flags(gst::PadFlags::PROXY_CAPS).build(),
            state: Mutex::default(),
        }
    }
}

impl ObjectImpl for SFrameGuard {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let defaults = Config::default();
            vec![
                glib::ParamSpecEnum::builder_with_default("packetization", Packetization::default())
                    .nick("Packetization")
                    .blurb("What stands before the SFrame header in RTP payloads")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("clear-prefix", ClearPrefix::default())
                    .nick("Clear prefix")
                    .blurb(
                        "Whether a codec's first bytes are in clear before the SFrame header; only with \
                         packetization=codec (application/x-sframe caps say it themselves)",
                    )
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoolean::builder("allow-rtcp")
                    .nick("Allow RTCP")
                    .blurb("Pass RTCP packets whose lengths add up, also between RTP packets (RFC 5761)")
                    .default_value(defaults.allow_rtcp)
                    .mutable_playing()
                    .build(),
                gst::ParamSpecArray::builder("rtx-payload-types")
                    .nick("RTX payload types")
                    .blurb(
                        "RTP payload types of retransmissions (RFC 4588), e.g. \"<97,99>\": checked for form only, \
                         and passed while any stream is proven",
                    )
                    .element_spec(
                        &glib::ParamSpecInt::builder("payload-type")
                            .nick("Payload type")
                            .blurb("RTP payload type")
                            .minimum(0)
                            .maximum(127)
                            .build(),
                    )
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("proof-frames")
                    .nick("Proof frames")
                    .blurb(
                        "Frame starts of one KID with advancing counters that prove a stream; until then it is held \
                         (four times as many with packetization=codec)",
                    )
                    .minimum(1)
                    .maximum(1000)
                    .default_value(defaults.proof_frames)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("max-streams")
                    .nick("Maximum streams")
                    .blurb("Streams (SSRCs) that are remembered; beyond that the least recently active one is forgotten, unproven ones first")
                    .minimum(1)
                    .maximum(65_536)
                    .default_value(defaults.max_streams as u32)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("max-held-bytes")
                    .nick("Maximum held bytes")
                    .blurb(
                        "Bytes held for all unproven streams together, buffer overhead included; beyond that the \
                         oldest packets of the least recently active one are dropped",
                    )
                    .maximum(1 << 30)
                    .default_value(defaults.max_held_bytes as u32)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb(
                        "Packets by what became of them, and for each stream ssrc, kid, proven, frames, bytes, lost, \
                         reordered, violations, held",
                    )
                    .read_only()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut state = self.state();
        // GObject has checked type and range.
        let number = || value.get::<u32>().unwrap_or_default();
        match pspec.name() {
            "packetization" => state.settings.packetization = value.get().unwrap_or_default(),
            "clear-prefix" => state.settings.clear_prefix = value.get().unwrap_or_default(),
            "allow-rtcp" => state.change(|c| c.allow_rtcp = value.get().unwrap_or_default()),
            "rtx-payload-types" => {
                let types: Vec<i32> = value.get::<gst::ArrayRef>().map_or_else(
                    |_| Vec::new(),
                    |array| array.iter().filter_map(|v| v.get().ok()).collect(),
                );
                let bits = types
                    .iter()
                    .filter_map(|&t| 1u128.checked_shl(u32::try_from(t).ok()?))
                    .fold(0, |bits, bit| bits | bit);
                state.change(|c| c.rtx_payload_types = bits);
                state.settings.rtx_payload_types = types;
            }
            "proof-frames" => state.change(|c| c.proof_frames = number()),
            "max-streams" => state.change(|c| c.max_streams = number() as usize),
            "max-held-bytes" => state.change(|c| c.max_held_bytes = number() as usize),
            name => gst::error!(CAT, imp = self, "No property {name} to set"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let state = self.state();
        let config = state.guard.config();
        match pspec.name() {
            "packetization" => state.settings.packetization.to_value(),
            "clear-prefix" => state.settings.clear_prefix.to_value(),
            "allow-rtcp" => config.allow_rtcp.to_value(),
            "rtx-payload-types" => gst::Array::new(&state.settings.rtx_payload_types).to_value(),
            "proof-frames" => config.proof_frames.to_value(),
            "max-streams" => (config.max_streams as u32).to_value(),
            "max-held-bytes" => (config.max_held_bytes as u32).to_value(),
            "stats" => stats(&state.guard).to_value(),
            _ => pspec.default_value().clone(),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        for pad in [&self.sinkpad, &self.srcpad] {
            if let Err(error) = self.obj().add_pad(pad) {
                gst::error!(CAT, imp = self, "{error}");
            }
        }
    }
}

impl GstObjectImpl for SFrameGuard {}

impl ElementImpl for SFrameGuard {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "SFrame guard",
                "Filter/Network/RTP",
                "Passes only streams that have SFrame's form, without any key; cannot prove that they are encrypted",
                "The gst-plugins-e2ee developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst::Caps::builder_full()
                .structure(gst::Structure::new_empty(caps_table::RTP))
                .structure(gst::Structure::new_empty(caps_table::SFRAME))
                .build();
            [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
                .into_iter()
                .filter_map(|(name, direction)| {
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
                })
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
            // What arrives is said by caps, which are yet to come.
            let config = Config {
                input: Config::default().input,
                ..state.guard.config().clone()
            };
            state.guard = Guard::new(config);
            state.refused = None;
        }
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            self.finish();
        }
        Ok(success)
    }
}
