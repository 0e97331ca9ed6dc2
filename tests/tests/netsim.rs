//! The road over a bad network: 10 % loss, reordering, duplicates. Every frame that left the jitter buffer whole
//! opens, and nothing else does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::pipeline::{Keys, Player, Seen};
use std::collections::{HashMap, HashSet};

const BAD_NETWORK: &str = "netsim name=network drop-probability=0.1 duplicate-probability=0.05 \
                           delay-probability=0.2 min-delay=2 max-delay=60";
const JITTER_BUFFER: &str = "rtpjitterbuffer name=jitter latency=150";
const FRAMES: usize = 300;
/// Live, so that the jitter buffer's clock and the packets' times go together.
const VIDEO: &str = "videotestsrc is-live=true num-buffers=300 pattern=ball ! \
                     video/x-raw,width=160,height=120,framerate=100/1 ! \
                     vp8enc deadline=1 target-bitrate=1500000 keyframe-max-dist=15";
/// As large as several packets, and every one usable without others.
const AUDIO: &str = "audiotestsrc is-live=true num-buffers=300 samplesperbuffer=480 ! \
                     audio/x-raw,format=S16BE,rate=48000,channels=1";

/// Sequence number of an RTP packet.
fn sequence(packet: &Seen) -> u16 {
    u16::from_be_bytes([packet.data[2], packet.data[3]])
}

fn marker(packet: &Seen) -> bool {
    packet.data[1] & 0x80 != 0
}

fn sequences(packets: &[Seen]) -> Vec<u16> {
    packets.iter().map(sequence).collect()
}

/// Loss and reordering did happen, else the test shows nothing.
fn assert_bad(sent: &[Seen], arrived: &[Seen]) {
    let (sent, arrived) = (sequences(sent), sequences(arrived));
    let distinct: HashSet<_> = arrived.iter().collect();
    assert!(distinct.len() < sent.len(), "nothing was lost");
    assert!(distinct.len() < arrived.len(), "nothing was doubled");
    let turned = arrived
        .windows(2)
        .any(|pair| pair[1].wrapping_sub(pair[0]) > 0x8000);
    assert!(turned, "nothing was reordered");
}

fn assert_no_damage(player: &Player) {
    for cause in ["auth-failed", "malformed", "no-key", "replayed"] {
        assert_eq!(player.stat("dec", cause), 0, "{cause}");
    }
}

/// Which frames left the jitter buffer with all their packets, one behind the other.
fn whole_frames(sent: &[Seen], left: &[Seen]) -> Vec<usize> {
    let place: HashMap<u16, usize> = left.iter().enumerate().map(|(at, p)| (sequence(p), at)).collect();
    assert_eq!(
        place.len(),
        left.len(),
        "the jitter buffer let a duplicate through"
    );
    sent.split_inclusive(marker)
        .enumerate()
        .filter(|(_, packets)| {
            let places: Option<Vec<usize>> =
                packets.iter().map(|p| place.get(&sequence(p)).copied()).collect();
            places.is_some_and(|places| places.windows(2).all(|pair| pair[1] == pair[0] + 1))
        })
        .map(|(frame, _)| frame)
        .collect()
}

fn frames_over(source: &str, mtu: u32) {
    let keys = Keys::new();
    let player = Player::new(&format!(
        "{source} ! {} ! rtpsframepay name=pay mtu={mtu} ! {BAD_NETWORK} ! {JITTER_BUFFER} ! rtpsframedepay ! {} ! \
         fakesink sync=false",
        keys.enc(1, ""),
        keys.dec("")
    ));
    let (before, sent) = (player.tap("enc", "sink"), player.tap("pay", "src"));
    let (arrived, left) = (player.tap("network", "src"), player.tap("jitter", "src"));
    let opened = player.tap("dec", "src");
    player.play();

    let (before, sent) = (before.buffers(), sent.buffers());
    assert_eq!(before.len(), FRAMES);
    assert!(
        sent.len() > FRAMES * 3 / 2,
        "frames are to be cut: {} packets",
        sent.len()
    );
    assert_bad(&sent, &arrived.buffers());
    let whole = whole_frames(&sent, &left.buffers());
    assert!(
        whole.len() > FRAMES / 4 && whole.len() < FRAMES,
        "{} whole frames",
        whole.len()
    );

    assert_no_damage(&player);
    assert_eq!(player.stat("dec", "opened"), whole.len() as u64);
    // Video needs a keyframe for its caps: what opens before it is not passed on.
    let useless = player.stat("dec", "waiting-keyframe") as usize;
    let opened = opened.buffers();
    let expected: Vec<&Vec<u8>> = whole[useless..]
        .iter()
        .map(|&frame| &before[frame].data)
        .collect();
    let found: Vec<&Vec<u8>> = opened.iter().map(|seen| &seen.data).collect();
    assert!(
        found == expected,
        "other frames came out than left the jitter buffer whole"
    );
    // After a loss comes DISCONT, and only then.
    let mut last = None;
    for (seen, &frame) in opened.iter().zip(&whole[useless..]) {
        assert_eq!(
            seen.discont,
            last.is_none_or(|last| last + 1 != frame),
            "DISCONT of frame {frame} after {last:?}"
        );
        last = Some(frame);
    }
}

#[test]
fn exactly_the_whole_video_frames_open() {
    frames_over(VIDEO, 300);
}

#[test]
fn exactly_the_whole_audio_frames_open() {
    // 960 bytes a frame: three packets.
    frames_over(AUDIO, 400);
}

fn packets_over(opener: &str) {
    let keys = Keys::new();
    let player = Player::new(&format!(
        "{VIDEO} ! rtpvp8pay name=pay mtu=300 ! {} ! {BAD_NETWORK} ! {JITTER_BUFFER} ! {opener} {} ! fakesink sync=false",
        keys.enc(1, ""),
        keys.dec("")
    ));
    let (before, sent) = (player.tap("enc", "sink"), player.tap("enc", "src"));
    let (arrived, left) = (player.tap("network", "src"), player.tap("jitter", "src"));
    let opened = player.tap("dec", "src");
    player.play();

    assert_bad(&sent.buffers(), &arrived.buffers());
    assert_no_damage(&player);
    let left = left.buffers();
    assert_eq!(player.stat("dec", "opened"), left.len() as u64);
    let before: HashMap<u16, Vec<u8>> = before
        .buffers()
        .into_iter()
        .map(|packet| (sequence(&packet), packet.data))
        .collect();
    let expected: Vec<&Vec<u8>> = left.iter().map(|packet| &before[&sequence(packet)]).collect();
    let opened = opened.data();
    assert!(
        opened.iter().eq(expected),
        "other packets came out than left the jitter buffer"
    );
}

#[test]
fn exactly_the_packets_that_leave_the_jitter_buffer_open() {
    packets_over("");
}

#[test]
fn exactly_the_packets_that_leave_the_jitter_buffer_open_behind_a_depayloader() {
    packets_over("rtpsframedepay !");
}

/// Without a jitter buffer the replay window alone decides: each packet opens once, in whatever order it comes.
#[test]
fn reordered_packets_open_once_and_copies_are_refused() {
    let keys = Keys::new();
    let player = Player::new(&format!(
        "{VIDEO} ! rtpvp8pay mtu=300 ! {} ! {BAD_NETWORK} ! {} ! fakesink sync=false",
        keys.enc(1, ""),
        keys.dec("")
    ));
    let (sent, arrived) = (player.tap("enc", "src"), player.tap("network", "src"));
    let opened = player.tap("dec", "src");
    player.play();

    let arrived = arrived.buffers();
    assert_bad(&sent.buffers(), &arrived);
    let mut seen = HashSet::new();
    let first: Vec<u16> = sequences(&arrived)
        .into_iter()
        .filter(|n| seen.insert(*n))
        .collect();
    assert_eq!(sequences(&opened.buffers()), first);
    assert_eq!(player.stat("dec", "opened"), first.len() as u64);
    assert_eq!(
        player.stat("dec", "replayed"),
        (arrived.len() - first.len()) as u64
    );
    assert_eq!(player.stat("dec", "auth-failed"), 0);
}
