//! The pipeline of one end: two senders, `webrtcbin`, and a receiver for each stream that comes.
//!
//! What goes into `webrtcbin` is sealed already, and what comes out of it is still sealed: it sees RTP packets of the codec
//! inside, with `a-sframe` in their caps, that it describes, carries and protects once more.

use gst::prelude::*;
use gst_webrtc::gst;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The senders: what comes before `sframeenc`, and what follows it has in SDP.
const SENDERS: [(&str, &str, &str); 2] = [
    (
        "video",
        "videotestsrc is-live=true horizontal-speed=3 ! video/x-raw,width=320,height=240,framerate=30/1 \
         ! vp8enc deadline=1 keyframe-max-dist=3000",
        "application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=96,a-sframe=(string)\"\"",
    ),
    (
        "audio",
        "audiotestsrc is-live=true wave=ticks ! audioconvert ! audioresample ! opusenc",
        "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=97,encoding-params=(string)2,\
         a-sframe=(string)\"\"",
    ),
];

/// What was counted of one medium.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub sealed: u64,
    pub arrived: u64,
    pub opened: u64,
    /// Not authentic, or not SFrame.
    pub failed: u64,
    pub without_key: u64,
    /// Epoch of the last frame that was opened.
    pub epoch: u64,
}

/// An incoming stream: its medium, `rtpsframedepay` and `sframedec`.
type Receiver = (&'static str, gst::Element, gst::Element);

pub struct Media {
    pub pipeline: gst::Pipeline,
    pub webrtc: gst::Element,
    pub keyring: gst::Element,
    senders: Vec<gst::Bin>,
    receivers: Arc<Mutex<Vec<Receiver>>>,
}

fn stat(element: &gst::Element, field: &str) -> u64 {
    let stats = element.property::<gst::Structure>("stats");
    stats.get(field).unwrap_or_default()
}

fn parse(description: &str) -> Result<gst::Bin, Box<dyn Error>> {
    gst::parse::bin_from_description(description, true)
        .map_err(|error| format!("{error}: does GST_PLUGIN_PATH name the folder with the plugins?").into())
}

fn make(factory: &str) -> Result<gst::Element, Box<dyn Error>> {
    gst::ElementFactory::make(factory).build().map_err(|_| {
        format!("no element {factory}: are the plugins and Debian's gstreamer1.0-nice there?").into()
    })
}

impl Media {
    /// Ready to be described; no sender starts before [`Media::send`].
    pub fn new(identity: &Path, create: bool) -> Result<Self, Box<dyn Error>> {
        let pipeline = gst::Pipeline::new();
        let keyring = make("mlskeyring")?;
        keyring.set_property("room", "example-call");
        keyring.set_property("create", create);
        keyring.set_property("delivery", "app");
        for (property, file) in [
            ("certificate-file", "cert.pem"),
            ("private-key-file", "key.pem"),
            ("ca-file", "ca.pem"),
        ] {
            keyring.set_property(property, identity.join(file).display().to_string());
        }
        let webrtc = make("webrtcbin")?;
        webrtc.set_property_from_str("bundle-policy", "max-bundle");
        pipeline.add_many([&keyring, &webrtc])?;

        let template = webrtc.pad_template("sink_%u").ok_or("webrtcbin takes no media")?;
        let mut senders = Vec::new();
        for (number, (medium, source, caps)) in SENDERS.into_iter().enumerate() {
            let caps: gst::Caps = caps.parse()?;
            let pt: i32 = caps
                .structure(0)
                .and_then(|s| s.get("payload").ok())
                .ok_or("no payload type")?;
            let sender = parse(&format!(
                "{source} ! sframeenc name=seal-{medium} ! rtpsframepay pt={pt}"
            ))?;
            // It waits for what the other end's description says.
            sender.set_locked_state(true);
            pipeline.add(&sender)?;
            let pad = webrtc
                .request_pad(&template, Some(&format!("sink_{number}")), Some(&caps))
                .ok_or("webrtcbin takes no more media")?;
            // Without it, webrtcbin would describe what has come through the pad so far, which is nothing.
            let transceiver = pad.property::<gst_webrtc::WebRTCRTPTransceiver>("transceiver");
            transceiver.set_codec_preferences(Some(&caps));
            sender.static_pad("src").ok_or("no pad")?.link(&pad)?;
            senders.push(sender);
        }

        let receivers = Arc::new(Mutex::new(Vec::new()));
        let (to, bin) = (receivers.clone(), pipeline.downgrade());
        webrtc.connect_pad_added(move |_, pad| {
            let Some(pipeline) = bin.upgrade() else { return };
            if pad.direction() != gst::PadDirection::Src {
                return;
            }
            match receive(&pipeline, pad) {
                Ok(receiver) => to.lock().unwrap_or_else(PoisonError::into_inner).push(receiver),
                Err(error) => gst::element_error!(pipeline, gst::StreamError::Failed, ("{error}")),
            }
        });
        Ok(Self {
            pipeline,
            webrtc,
            keyring,
            senders,
            receivers,
        })
    }

    /// The other end's description says SFrame: sends from now on, as soon as there are keys.
    pub fn send(&self) -> Result<(), Box<dyn Error>> {
        for sender in &self.senders {
            sender.set_locked_state(false);
            sender.sync_state_with_parent()?;
        }
        Ok(())
    }

    /// What was counted so far.
    pub fn counts(&self, medium: &str) -> Counts {
        let mut counts = Counts::default();
        if let Some(seal) = self.pipeline.by_name(&format!("seal-{medium}")) {
            counts.sealed = stat(&seal, "sealed");
        }
        let receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, depayloader, open) in receivers.iter().filter(|(of, ..)| *of == medium) {
            counts.arrived += stat(depayloader, "frames");
            counts.opened += stat(open, "opened");
            counts.without_key += stat(open, "no-key");
            for failure in ["auth-failed", "replayed", "malformed", "wrong-sender"] {
                counts.failed += stat(open, failure);
            }
            counts.epoch = stat(open, "epoch");
        }
        counts
    }
}

/// A way for a stream that came: joined, opened, decoded, and shown to nobody.
fn receive(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
) -> Result<(&'static str, gst::Element, gst::Element), Box<dyn Error>> {
    let caps = pad.current_caps().ok_or("a stream came without caps")?;
    let medium = caps.structure(0).and_then(|s| s.get::<String>("media").ok());
    let (medium, decoder) = match medium.as_deref() {
        Some("video") => ("video", "vp8dec"),
        Some("audio") => ("audio", "opusdec"),
        _ => return Err(format!("a stream came that nobody asked for: {caps}").into()),
    };
    let receiver = parse(&format!(
        "rtpsframedepay name=join ! sframedec name=open ! {decoder} ! fakesink async=false"
    ))?;
    let named = |name: &str| receiver.by_name(name).ok_or("no element");
    let (join, open) = (named("join")?, named("open")?);
    pipeline.add(&receiver)?;
    receiver.sync_state_with_parent()?;
    pad.link(&receiver.static_pad("sink").ok_or("no pad")?)?;
    Ok((medium, join, open))
}
