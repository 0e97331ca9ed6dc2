//! A receiver's wish for a keyframe reaches the remote encoder: rtpbin at both ends, UDP on loopback, a relay without
//! keys in the middle that forwards RTP one way and RTCP both ways.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst::prelude::*;
use gst_e2ee_tests::pipeline::{Keys, LIMIT, Player, Tap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A UDP source on a free port, which it keeps.
const UDP: &str = "udpsrc address=127.0.0.1 port=0";

/// Sender, relay and receiver.
struct Call {
    sender: Player,
    relay: Player,
    receiver: Player,
    encoded: Tap,
    opened: Tap,
}

/// The port that a `udpsrc` got.
fn port(player: &Player, name: &str) -> i32 {
    player.element(name).property("port")
}

impl Call {
    /// Connects the three, not started yet. `seal` and `open` stand between encoder or decoder and rtpbin.
    fn new(seal: &str, open: &str) -> Self {
        let receiver = Player::new(&format!(
            "rtpbin name=rtp latency=50 \
             {UDP} name=rtp-in caps=\"application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96,\
             a-sframe=(string)\\\"\\\",rtcp-fb-nack-pli=(boolean)true\" ! rtp.recv_rtp_sink_0 \
             {UDP} name=rtcp-in ! rtp.recv_rtcp_sink_0 \
             rtp.send_rtcp_src_0 ! udpsink name=rtcp-out host=127.0.0.1 sync=false async=false \
             rtp. ! capsfilter caps=application/x-rtp,media=video ! {open} ! vp8dec ! fakesink sync=false"
        ));
        let sender = Player::new(&format!(
            "rtpbin name=rtp \
             videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=30/1 ! \
             vp8enc name=encoder deadline=1 keyframe-max-dist=100000 ! {seal} ! rtp.send_rtp_sink_0 \
             rtp.send_rtp_src_0 ! udpsink name=rtp-out host=127.0.0.1 \
             rtp.send_rtcp_src_0 ! udpsink name=rtcp-out host=127.0.0.1 sync=false async=false \
             {UDP} name=rtcp-in ! rtp.recv_rtcp_sink_0"
        ));
        let guard = "caps=application/x-rtp ! sframeguard";
        let out = "udpsink host=127.0.0.1 sync=false async=false";
        let relay = Player::new(&format!(
            "{UDP} name=rtp-in {guard} name=guard ! {out} name=rtp-out \
             {UDP} name=rtcp-in {guard} ! {out} name=rtcp-out \
             {UDP} name=rtcp-back-in {guard} ! {out} name=rtcp-back-out"
        ));
        // The sockets are bound at READY: then each sink learns where the other end listens.
        for player in [&sender, &relay, &receiver] {
            player.pipeline().set_state(gst::State::Ready).unwrap();
        }
        let connect = |from: &Player, sink: &str, to: &Player, source: &str| {
            from.element(sink).set_property("port", port(to, source));
        };
        connect(&sender, "rtp-out", &relay, "rtp-in");
        connect(&sender, "rtcp-out", &relay, "rtcp-in");
        connect(&relay, "rtp-out", &receiver, "rtp-in");
        connect(&relay, "rtcp-out", &receiver, "rtcp-in");
        connect(&receiver, "rtcp-out", &relay, "rtcp-back-in");
        connect(&relay, "rtcp-back-out", &sender, "rtcp-in");
        Self {
            encoded: sender.tap("encoder", "src"),
            opened: receiver.tap("dec", "src"),
            sender,
            relay,
            receiver,
        }
    }

    fn start(&self) {
        for player in [&self.receiver, &self.relay, &self.sender] {
            player.start();
        }
    }

    /// Polls until it holds; fails with what the pipelines have to say.
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let limit = Instant::now() + Duration::from(LIMIT);
        while !holds() {
            for player in [&self.sender, &self.relay, &self.receiver] {
                if let Some(message) = player
                    .pipeline()
                    .bus()
                    .unwrap()
                    .pop_filtered(&[gst::MessageType::Error])
                {
                    panic!("{message:?}");
                }
            }
            assert!(
                Instant::now() < limit,
                "not within {LIMIT}: {what}; {:?}, {:?}",
                self.receiver.element("dec").property::<gst::Structure>("stats"),
                self.relay.element("guard").property::<gst::Structure>("stats"),
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn keyframes(&self) -> usize {
        self.encoded.deltas().iter().filter(|delta| !**delta).count()
    }

    fn opened_keyframes(&self) -> usize {
        self.opened.deltas().iter().filter(|delta| !**delta).count()
    }

    /// Waits for pictures, spoils one frame in the receiver, and sees that a keyframe is asked for and comes.
    fn check_request_reaches_encoder(&self, spoil: impl Fn(&mut gst::BufferRef) + Send + Sync + 'static) {
        self.start();
        self.until("the first frames open", || self.opened.len() > 10);
        let (requests, keyframes, opened_keyframes) = (
            self.encoded.keyframe_requests(),
            self.keyframes(),
            self.opened_keyframes(),
        );
        let failed = self.receiver.stat("dec", "auth-failed");
        let left = AtomicUsize::new(1);
        self.receiver
            .pad("dec", "sink")
            .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data
                    && left
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                        .is_ok()
                {
                    spoil(buffer.make_mut());
                }
                gst::PadProbeReturn::Ok
            });
        self.until("the request reaches the encoder", || {
            self.encoded.keyframe_requests() > requests
        });
        self.until("the encoder makes a keyframe", || self.keyframes() > keyframes);
        self.until("the keyframe opens", || {
            self.opened_keyframes() > opened_keyframes
        });
        assert_eq!(self.receiver.stat("dec", "auth-failed"), failed + 1);
        assert!(self.receiver.stat("dec", "keyframe-requests") >= 1);
        // One loss is one wish: requests are rate-limited, the encoder is not flooded.
        assert!(
            self.encoded.keyframe_requests() <= requests + 3,
            "{}",
            self.encoded.keyframe_requests()
        );
        assert_eq!(self.relay.stat("guard", "dropped"), 0);
    }
}

/// Flips one bit in the ciphertext.
fn flip(buffer: &mut gst::BufferRef) {
    let last = buffer.size() - 1;
    let mut map = buffer.map_writable().unwrap();
    map[last] ^= 1;
}

#[test]
fn a_damaged_frame_brings_a_keyframe_from_the_remote_encoder() {
    let keys = Keys::new();
    let call = Call::new(
        &format!("{} ! rtpsframepay pt=96", keys.enc(1, "")),
        &format!("rtpsframedepay ! {}", keys.dec("")),
    );
    call.check_request_reaches_encoder(flip);
}

#[test]
fn a_damaged_packet_brings_a_keyframe_from_the_remote_encoder() {
    let keys = Keys::new();
    let call = Call::new(
        &format!("rtpvp8pay pt=96 mtu=1200 ! {}", keys.enc(1, "")),
        &format!("{} ! rtpvp8depay name=frames", keys.dec("")),
    );
    call.check_request_reaches_encoder(flip);
}

/// It missed the only keyframe that comes by itself.
#[test]
fn a_receiver_that_joins_late_gets_a_keyframe() {
    let keys = Keys::new();
    let call = Call::new(
        &format!("{} ! rtpsframepay pt=96", keys.enc(1, "")),
        &format!("rtpsframedepay ! {}", keys.dec("")),
    );
    let missed = AtomicUsize::new(0);
    call.receiver
        .pad("rtp-in", "src")
        .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            if missed.fetch_add(1, Ordering::SeqCst) < 20 {
                gst::PadProbeReturn::Drop
            } else {
                gst::PadProbeReturn::Ok
            }
        });
    call.start();
    call.until("a keyframe opens", || call.opened_keyframes() > 0);
    assert!(call.encoded.keyframe_requests() > 0);
    assert!(call.keyframes() > 1);
    assert!(!call.opened.buffers()[0].delta, "a delta came first");
}
