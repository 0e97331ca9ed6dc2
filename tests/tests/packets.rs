//! Per-packet mode keeps what an SFU routes by: RTP headers with contributing sources and header extensions, byte for
//! byte, from stock payloaders and made by hand, one by one and in lists.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst::prelude::*;
use gst_e2ee_common::descriptor::Descriptor;
use gst_e2ee_tests::pipeline::{Keys, Player, Seen, Tap, buffer};

/// An RTP packet taken apart (RFC 3550 §5.1).
#[derive(Debug, PartialEq, Eq)]
struct Packet<'a> {
    /// The header with contributing sources and extension, without the padding flag.
    header: Vec<u8>,
    extension: &'a [u8],
    /// Without padding.
    payload: &'a [u8],
}

fn parse(bytes: &[u8]) -> Packet<'_> {
    let padding = match bytes[0] & 0x20 {
        0 => 0,
        _ => bytes[bytes.len() - 1] as usize,
    };
    let mut end = 12 + 4 * usize::from(bytes[0] & 0x0f);
    let start = end;
    if bytes[0] & 0x10 != 0 {
        end += 4 + 4 * usize::from(u16::from_be_bytes([bytes[end + 2], bytes[end + 3]]));
    }
    let mut header = bytes[..end].to_vec();
    header[0] &= !0x20;
    Packet {
        header,
        extension: &bytes[start..end],
        payload: &bytes[end..bytes.len() - padding],
    }
}

struct Taps {
    clear: Vec<Seen>,
    sealed: Vec<Seen>,
    opened: Vec<Seen>,
}

impl Taps {
    fn of(player: &Player) -> [Tap; 3] {
        [
            player.tap("enc", "sink"),
            player.tap("enc", "src"),
            player.tap("dec", "src"),
        ]
    }

    fn read(taps: &[Tap; 3]) -> Self {
        let [clear, sealed, opened] = taps.each_ref().map(Tap::buffers);
        Self {
            clear,
            sealed,
            opened,
        }
    }

    fn check(&self) {
        assert!(!self.clear.is_empty());
        assert_eq!(self.sealed.len(), self.clear.len());
        assert_eq!(self.opened.len(), self.clear.len());
        for ((clear, sealed), opened) in self.clear.iter().zip(&self.sealed).zip(&self.opened) {
            let (was, closed, open) = (parse(&clear.data), parse(&sealed.data), parse(&opened.data));
            assert_eq!(closed.header, was.header);
            assert_eq!(
                sealed.data[0] & 0x20,
                0,
                "padding is not sealed, so the flag goes"
            );
            assert_eq!(closed.payload[0], Descriptor::WHOLE_PACKET.to_byte());
            // A short payload may stand in the ciphertext by chance.
            let found = |needle: &[u8]| closed.payload.windows(needle.len()).any(|w| w == needle);
            assert!(
                was.payload.len() < 8 || !found(&was.payload[..8]),
                "clear bytes left"
            );
            assert_eq!(open, was);
            assert_eq!((opened.pts, sealed.pts), (clear.pts, clear.pts));
        }
    }
}

fn road(keys: &Keys, source: &str, between: &str) -> Player {
    Player::new(&format!(
        "{source} ! {} ! {between} {} ! fakesink",
        keys.enc(1, ""),
        keys.dec("")
    ))
}

/// Every form of header: contributing sources, one-byte and two-byte extensions, both, padding, marker, empty payload.
fn packets_by_hand() -> Vec<Vec<u8>> {
    const ONE_BYTE: &[u8] = &[0xbe, 0xde, 0, 2, 0x10, 0xff, 0x21, 1, 2, 0, 0, 0];
    const TWO_BYTE: &[u8] = &[0x10, 0x00, 0, 1, 7, 2, 0xab, 0xcd];
    const EMPTY: &[u8] = &[0xbe, 0xde, 0, 0];
    let mut packets = Vec::new();
    for extension in [&[][..], ONE_BYTE, TWO_BYTE, EMPTY] {
        for csrcs in [0u8, 1, 15] {
            for padding in [0u8, 1, 4, 200] {
                for payload in [&b""[..], b"x", &[0x5a; 900]] {
                    let sequence = 65500u16.wrapping_add(packets.len() as u16);
                    let mut packet = vec![0x80 | csrcs];
                    packet[0] |= if extension.is_empty() { 0 } else { 0x10 };
                    packet[0] |= if padding == 0 { 0 } else { 0x20 };
                    packet.push(if payload.len() == 1 { 0x80 | 96 } else { 96 });
                    packet.extend(sequence.to_be_bytes());
                    packet.extend((u32::from(sequence) * 3000).to_be_bytes());
                    packet.extend(0xcafe_f00d_u32.to_be_bytes());
                    packet.extend((0..csrcs).flat_map(|n| [0, 0, 0x12, n]));
                    packet.extend(extension);
                    packet.extend(payload);
                    if padding > 0 {
                        packet.extend(std::iter::repeat_n(0, usize::from(padding) - 1));
                        packet.push(padding);
                    }
                    packets.push(packet);
                }
            }
        }
    }
    packets
}

const BY_HAND: &str = "appsrc name=in format=time max-bytes=0 \
                       caps=application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=96";

#[test]
fn headers_made_by_hand_are_kept_byte_for_byte() {
    for between in ["", "rtpsframedepay !", "sframeguard ! rtpsframedepay !"] {
        let keys = Keys::new();
        let player = road(&keys, BY_HAND, between);
        let taps = Taps::of(&player);
        player.start();
        for (n, packet) in packets_by_hand().into_iter().enumerate() {
            player.push("in", buffer(packet, n as u64 * 20));
        }
        player.end("in");
        player.wait().unwrap();
        let taps = Taps::read(&taps);
        assert_eq!(taps.clear.len(), packets_by_hand().len());
        taps.check();
    }
}

#[test]
fn lists_of_packets_stay_lists_and_open() {
    let keys = Keys::new();
    let player = road(&keys, BY_HAND, "");
    let taps = Taps::of(&player);
    player.start();
    for (n, packets) in packets_by_hand().chunks(10).enumerate() {
        let list: gst::BufferList = packets
            .iter()
            .map(|packet| buffer(packet, n as u64 * 20))
            .collect();
        let flow = player
            .element("in")
            .emit_by_name::<gst::FlowReturn>("push-buffer-list", &[&list]);
        assert_eq!(flow, gst::FlowReturn::Ok);
    }
    player.end("in");
    player.wait().unwrap();
    assert_eq!(taps[0].lists(), packets_by_hand().len().div_ceil(10));
    assert_eq!(taps[1].lists(), taps[0].lists());
    Taps::read(&taps).check();
}

/// Behind a payloader: makes it write an extension. Its "auto-header-extension" takes what downstream caps ask for.
const TRANSPORT_WIDE: &str = "application/x-rtp,\
    extmap-5=(string)http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const AUDIO_LEVEL: &str = r#"capsfilter caps="application/x-rtp,
    extmap-5=(string)<\"\",urn:ietf:params:rtp-hdrext:ssrc-audio-level,\"vad=on\">""#;

/// What it writes: GStreamer numbers packets as RTP does.
fn transport_wide(packet: &Seen) -> [u8; 8] {
    [0xbe, 0xde, 0, 1, 0x51, packet.data[2], packet.data[3], 0]
}

#[test]
fn transport_wide_sequence_numbers_of_a_stock_payloader_are_kept() {
    for (media, depay) in [
        (
            "videotestsrc num-buffers=20 ! vp8enc deadline=1 ! rtpvp8pay name=pay mtu=600",
            "rtpvp8depay",
        ),
        (
            "audiotestsrc num-buffers=40 ! opusenc ! rtpopuspay name=pay",
            "rtpopusdepay",
        ),
    ] {
        let keys = Keys::new();
        let player = Player::new(&format!(
            "{media} ! {TRANSPORT_WIDE} ! {} ! {} ! {depay} ! fakesink",
            keys.enc(1, ""),
            keys.dec("")
        ));
        let taps = Taps::of(&player);
        player.play();
        let taps = Taps::read(&taps);
        taps.check();
        for sealed in &taps.sealed {
            assert_eq!(parse(&sealed.data).extension, transport_wide(sealed));
        }
    }
}

#[test]
fn the_audio_level_stays_readable_packet_by_packet() {
    let keys = Keys::new();
    let player = Player::new(&format!(
        "audiotestsrc num-buffers=20 samplesperbuffer=480 ! level audio-level-meta=true ! \
         audio/x-raw,format=S16LE,rate=48000,channels=1 ! capssetter caps=audio/x-raw,format=S16BE ! \
         rtpL16pay name=pay ! {AUDIO_LEVEL} ! {} ! {} ! fakesink",
        keys.enc(1, ""),
        keys.dec("")
    ));
    let taps = Taps::of(&player);
    player.play();
    let taps = Taps::read(&taps);
    taps.check();
    for sealed in &taps.sealed {
        let packet = parse(&sealed.data);
        assert_eq!(packet.extension[..5], [0xbe, 0xde, 0, 1, 0x50]);
        // -dBov; 127 is silence.
        assert!(packet.extension[5] & 0x7f < 30, "{:?}", packet.extension);
    }
}

/// A whole frame in several packets: our payloader writes the extension into each, within the MTU.
#[test]
fn every_packet_of_a_sealed_frame_has_its_extension() {
    let keys = Keys::new();
    let player = Player::new(&format!(
        "audiotestsrc num-buffers=20 samplesperbuffer=480 ! audio/x-raw,format=S16BE,rate=48000,channels=1 ! \
         {} ! rtpsframepay name=pay mtu=400 ! {TRANSPORT_WIDE} ! rtpsframedepay ! {} ! fakesink",
        keys.enc(1, ""),
        keys.dec("")
    ));
    let (clear, packets, opened) = (
        player.tap("enc", "sink"),
        player.tap("pay", "src"),
        player.tap("dec", "src"),
    );
    player.play();
    assert_eq!(opened.data(), clear.data());
    let packets = packets.buffers();
    assert!(packets.len() >= 60);
    for packet in &packets {
        assert_eq!(parse(&packet.data).extension, transport_wide(packet));
        assert!(packet.data.len() <= 400, "{}", packet.data.len());
    }
}
