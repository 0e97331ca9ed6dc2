//! What an element adds to the cost of a buffer: sframeenc and sframedec beside srtpenc and srtpdec, in one process
//! and in turns. Each block of packets goes through the element and, as its own baseline, straight from pad to pad;
//! every time a fresh buffer is made for it, so that this cancels out.
//!
//! All get buffers of the same size: an RTP packet of 160 bytes is less to seal than an Opus frame of 160 bytes is in
//! SRTP, where the RTP header comes on top.

use gst_e2ee_tests::bench::{Ratio, Series, added, median};
use gst_e2ee_tests::bench_lane::{Lane, Packets};
use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const WARM_UP: usize = 2;
const ROUNDS: usize = 11;
const BLOCKS: usize = 80;
const BLOCK: usize = 256;
const SSRC: u32 = 0x1234_5678;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// sframeenc/sframedec on RTP packets.
    SframePackets,
    /// sframeenc/sframedec on Opus frames.
    SframeFrames,
    /// The same, where sframedec attaches its meta (its default, which recorders need).
    SframePacketsMeta,
    /// The same, where sframedec attaches its meta.
    SframeFramesMeta,
    /// srtpenc/srtpdec as they are.
    Srtp,
    /// srtpenc/srtpdec with AES-128-GCM.
    SrtpGcm,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::SframePackets => "sframe, RTP packets",
            Self::SframeFrames => "sframe, Opus frames",
            Self::SframePacketsMeta => "sframe, RTP and meta",
            Self::SframeFramesMeta => "sframe, Opus and meta",
            Self::Srtp => "srtp, default",
            Self::SrtpGcm => "srtp, AES-128-GCM",
        }
    }

    fn is_sframe(self) -> bool {
        !matches!(self, Self::Srtp | Self::SrtpGcm)
    }

    fn attaches_meta(self) -> bool {
        matches!(self, Self::SframePacketsMeta | Self::SframeFramesMeta)
    }

    fn caps(self) -> gst::Caps {
        match self {
            Self::SframeFrames | Self::SframeFramesMeta => gst::Caps::builder("audio/x-opus")
                .field("rate", 48_000)
                .field("channels", 2)
                .field("channel-mapping-family", 0)
                .build(),
            _ => gst::Caps::builder("application/x-rtp")
                .field("media", "audio")
                .field("encoding-name", "OPUS")
                .field("clock-rate", 48_000)
                .field("payload", 96)
                .field("ssrc", SSRC)
                .build(),
        }
    }

    /// Whoever seals: with a key id of its own.
    fn sealer(self, dir: &Path, kid: u64) -> Result<Lane> {
        let element = match self {
            _ if self.is_sframe() => gst::ElementFactory::make("sframeenc")
                .property("key-file", path(&dir.join("keys")))
                .property("kid", kid)
                .property("counter-file", path(&dir.join(format!("counter-{kid}"))))
                .build()?,
            Self::Srtp => gst::ElementFactory::make("srtpenc")
                .property("key", gst::Buffer::from_slice([3; 30]))
                .build()?,
            _ => gst::ElementFactory::make("srtpenc")
                .property("key", gst::Buffer::from_slice([3; 28]))
                .property_from_str("rtp-cipher", "aes-128-gcm")
                .property_from_str("rtp-auth", "null")
                .property_from_str("rtcp-cipher", "aes-128-gcm")
                .property_from_str("rtcp-auth", "null")
                .build()?,
        };
        let pads = match self {
            _ if self.is_sframe() => ["sink", "src"],
            _ => ["rtp_sink_0", "rtp_src_0"],
        };
        Lane::new(Some((element, pads)), &self.caps())
    }

    /// Whoever opens what a sealer with these source caps made.
    fn opener(self, dir: &Path, sealed: &gst::Caps) -> Result<Lane> {
        let (element, pads) = match self {
            _ if self.is_sframe() => {
                let element = gst::ElementFactory::make("sframedec")
                    .property("key-file", path(&dir.join("keys")))
                    .property("attach-meta", self.attaches_meta())
                    .build()?;
                (element, ["sink", "src"])
            }
            // The caps of srtpenc hold the key.
            _ => {
                let element = gst::ElementFactory::make("srtpdec").build()?;
                (element, ["rtp_sink", "rtp_src"])
            }
        };
        Lane::new(Some((element, pads)), sealed)
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Media: an RTP packet for all, also where it is taken for a frame.
fn fill(packets: &mut Packets, size: usize, next: &mut u32) {
    packets.clear();
    let mut packet = vec![0x5a; size];
    for _ in 0..BLOCK {
        packet[..4].copy_from_slice(&[0x80, 96, (*next >> 8) as u8, *next as u8]);
        packet[4..8].copy_from_slice(&next.wrapping_mul(960).to_be_bytes());
        packet[8..12].copy_from_slice(&SSRC.to_be_bytes());
        packets.push(&packet);
        *next = next.wrapping_add(1);
    }
}

#[derive(Default)]
struct Times {
    with: Series,
    without: Series,
}

impl Times {
    fn end_round(&mut self, keep: bool) {
        self.with.end_round(keep);
        self.without.end_round(keep);
    }

    fn added(&self) -> Vec<f64> {
        added(&self.with, &self.without)
    }
}

/// One kind at one size, sealing and opening.
struct Contender {
    kind: Kind,
    sealer: Lane,
    /// Seals for the opener, in its own time.
    feeder: Lane,
    opener: Lane,
    direct: Lane,
    sealed: Packets,
    seal: Times,
    open: Times,
}

impl Contender {
    fn new(kind: Kind, dir: &Path, kid: u64) -> Result<Self> {
        let sealer = kind.sealer(dir, kid)?;
        let feeder = kind.sealer(dir, kid + 1)?;
        let opener = kind.opener(dir, &feeder.caps()?)?;
        Ok(Self {
            kind,
            sealer,
            feeder,
            opener,
            direct: Lane::new(None, &kind.caps())?,
            sealed: Packets::default(),
            seal: Times::default(),
            open: Times::default(),
        })
    }

    fn block(&mut self, media: &Packets) -> Result<()> {
        self.seal.without.block(self.direct.push(media)?, BLOCK);
        self.seal.with.block(self.sealer.push(media)?, BLOCK);
        self.feeder.convert(media, &mut self.sealed)?;
        self.open.without.block(self.direct.push(&self.sealed)?, BLOCK);
        self.open.with.block(self.opener.push(&self.sealed)?, BLOCK);
        Ok(())
    }

    /// What is timed is the real thing.
    fn check(&mut self, media: &Packets) -> Result<()> {
        let mut opened = Packets::default();
        self.feeder.convert(media, &mut self.sealed)?;
        self.opener.convert(&self.sealed, &mut opened)?;
        assert!(
            opened.iter().eq(media.iter()),
            "{}: not what was sealed",
            self.kind.name()
        );
        assert!(
            self.sealed
                .iter()
                .zip(media.iter())
                .all(|(sealed, plain)| sealed[12..] != plain[12..]),
            "{}: not sealed",
            self.kind.name()
        );
        Ok(())
    }
}

struct Target {
    ours: Kind,
    theirs: Kind,
    size: usize,
    at_most: f64,
    /// What it is in fractions, as people read it.
    text: &'static str,
}

const fn target(ours: Kind, theirs: Kind, size: usize, text: &'static str, at_most: f64) -> Target {
    Target {
        ours,
        theirs,
        size,
        at_most,
        text,
    }
}

const TARGETS: &[Target] = &[
    target(Kind::SframePackets, Kind::SrtpGcm, 1200, "1/3", 1.0 / 3.0),
    target(Kind::SframePackets, Kind::Srtp, 1200, "1/10", 0.1),
    target(Kind::SframeFrames, Kind::SrtpGcm, 160, "1/3", 1.0 / 3.0),
    target(Kind::SframeFrames, Kind::Srtp, 160, "1/7", 1.0 / 7.0),
    target(Kind::SframePackets, Kind::SrtpGcm, 160, "1/3", 1.0 / 3.0),
    target(Kind::SframePackets, Kind::Srtp, 160, "1/7", 1.0 / 7.0),
    target(Kind::SframePacketsMeta, Kind::SrtpGcm, 1200, "1/3", 1.0 / 3.0),
    target(Kind::SframePacketsMeta, Kind::Srtp, 1200, "1/10", 0.1),
    target(Kind::SframeFramesMeta, Kind::SrtpGcm, 160, "1/3", 1.0 / 3.0),
    target(Kind::SframeFramesMeta, Kind::Srtp, 160, "1/7", 1.0 / 7.0),
];

fn run(size: usize, kinds: &[Kind], dir: &Path) -> Result<()> {
    let mut contenders = Vec::new();
    for (index, &kind) in kinds.iter().enumerate() {
        contenders.push(Contender::new(kind, dir, (size + 2 * index) as u64)?);
    }
    let mut media = Packets::default();
    let mut next = 0;
    for round in 0..WARM_UP + ROUNDS {
        for _ in 0..BLOCKS {
            fill(&mut media, size, &mut next);
            for contender in &mut contenders {
                contender.block(&media)?;
            }
        }
        fill(&mut media, size, &mut next);
        for contender in &mut contenders {
            contender.check(&media)?;
            contender.seal.end_round(round >= WARM_UP);
            contender.open.end_round(round >= WARM_UP);
        }
    }

    println!("\n{size}-byte buffers           sealing adds   opening adds   (pad to pad alone)");
    for contender in &contenders {
        println!(
            "  {:<22} {:>9.0} ns {:>11.0} ns {:>12.0} ns",
            contender.kind.name(),
            median(&contender.seal.added()),
            median(&contender.open.added()),
            contender.seal.without.median(),
        );
    }
    let of = |kind| contenders.iter().find(|contender| contender.kind == kind);
    for target in TARGETS.iter().filter(|target| target.size == size) {
        let (Some(ours), Some(theirs)) = (of(target.ours), of(target.theirs)) else {
            continue;
        };
        for (what, a, b) in [
            ("seal", &ours.seal, &theirs.seal),
            ("open", &ours.open, &theirs.open),
        ] {
            if what == "seal" && target.ours.attaches_meta() {
                // Sealing is the same.
                continue;
            }
            let ratio = Ratio::of(&a.added(), &b.added());
            println!(
                "  {what} {} : {:<18} 1/{:<5.1} {:.3} ({:.3} to {:.3})   at most {:<5} {}",
                target.ours.name(),
                target.theirs.name(),
                1.0 / ratio.median,
                ratio.median,
                ratio.min,
                ratio.max,
                target.text,
                ratio.verdict(target.at_most),
            );
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    gst::init()?;
    gstsframe::plugin_register_static()?;
    let dir = tempfile::tempdir()?;
    let keys = dir.path().join("keys");
    let lines = [160u64, 1200].into_iter().flat_map(|size| size..size + 10);
    let text: String = lines.map(|kid| format!("{kid} {kid:032x}\n")).collect();
    fs::write(&keys, text)?;
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600))?;

    println!(
        "Elements: ns added per buffer; ratios: median of {ROUNDS} rounds of {} buffers each (min to max)",
        BLOCKS * BLOCK
    );
    run(
        1200,
        &[
            Kind::SframePackets,
            Kind::SframePacketsMeta,
            Kind::SrtpGcm,
            Kind::Srtp,
        ],
        dir.path(),
    )?;
    run(
        160,
        &[
            Kind::SframeFrames,
            Kind::SframePackets,
            Kind::SframeFramesMeta,
            Kind::SrtpGcm,
            Kind::Srtp,
        ],
        dir.path(),
    )
}
