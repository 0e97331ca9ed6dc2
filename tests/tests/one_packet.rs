//! Frames of one RTP packet share its memory, those of several are joined: `sframedec` opens both in place, and whoever
//! else holds the packets sees nothing of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_e2ee_tests::pipeline::{Keys, Player, Seen, buffer};

/// Bytes of an RTP packet that are neither RTP header nor descriptor.
const ROOM: usize = 500 - 13;

/// More than SFrame header and tag.
const OVERHEAD: usize = 40;

/// A clear frame that takes so many packets when it is sealed.
fn frame(packets: usize, seed: usize) -> Vec<u8> {
    (0..packets * ROOM - OVERHEAD)
        .map(|i| (i * 7 + i / 251 + seed) as u8)
        .collect()
}

#[test]
fn frames_of_one_two_and_many_packets_open_and_leave_the_packets_as_they_are() {
    for caps in ["application/json", "audio/x-opus,rate=48000,channels=1"] {
        let keys = Keys::new();
        let player = Player::new(&format!(
            "appsrc name=in format=time caps={caps} ! {} ! rtpsframepay name=pay mtu=500 ! tee name=t ! \
             queue max-size-buffers=0 ! fakesink name=other sync=false async=false  t. ! rtpsframedepay name=depay ! {} ! \
             fakesink name=opened sync=false",
            keys.enc(1, ""),
            keys.dec("")
        ));
        // A second holder of each packet, as a relay's other branch or a retransmission buffer is.
        let held = Arc::new(Mutex::new(Vec::<(gst::Buffer, Vec<u8>)>::new()));
        let hold = held.clone();
        let kind = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        player.pad("depay", "sink").add_probe(kind, move |_, info| {
            let mut hold = hold.lock().unwrap();
            let mut keep = |b: &gst::BufferRef| hold.push((b.to_owned(), b.map_readable().unwrap().to_vec()));
            match &info.data {
                Some(gst::PadProbeData::Buffer(b)) => keep(b),
                Some(gst::PadProbeData::BufferList(list)) => list.iter().for_each(keep),
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
        let (packets, opened) = (player.tap("pay", "src"), player.tap("dec", "src"));
        player.start();
        let counts = [1usize, 2, 17, 18, 1, 40, 1, 1, 2, 17, 1, 100];
        for (n, &count) in counts.iter().enumerate() {
            player.push("in", buffer(frame(count, n), n as u64 * 20));
        }
        player.end("in");
        player.wait().unwrap();
        let sent: Vec<_> = counts.iter().enumerate().map(|(n, &c)| frame(c, n)).collect();
        assert!(opened.data() == sent, "{caps}");
        assert_eq!(
            packets.len(),
            counts.iter().sum::<usize>(),
            "{caps}: packets as meant"
        );
        for (packet, before) in held.lock().unwrap().iter() {
            assert!(
                Seen::of(packet).data == *before,
                "{caps}: a packet was changed in place"
            );
        }
    }
}
