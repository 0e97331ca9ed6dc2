//! What those see who carry a call: everything that a nats-server stores and logs, and everything that a relay forwards, is
//! searched for what people say, show, send and are called, and for keys.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "../../plugins/mls/tests/nats/server.rs"]
#[allow(dead_code, reason = "others need the rest of it")]
mod server;

use gst::prelude::*;
use gst_e2ee_common::key_source::KeySource;
use gst_e2ee_tests::clinic::{Clinic, Party, Ring, until};
use server::Server;
use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};

const ROOM: &str = "consultation-of-mrs-example";
const TEXT: &str = "The left knee hurts when I climb stairs";
const VITALS: &str = r#"{"code":{"text":"SpO2"},"valueQuantity":{"value":97,"unit":"%"}}"#;
const NAMES: [&str; 2] = ["Anna Meyer", "Benedict Example"];
const FILE: &str = "left-knee.jpg";
/// So much of a frame or a photo is looked for at a time.
const PIECE: usize = 24;

type Bytes = Arc<Mutex<Vec<Vec<u8>>>>;

/// Keeps every buffer that passes a pad.
fn tap(party: &Party, element: &str, pad: &str) -> Bytes {
    let kept = Bytes::default();
    let to = kept.clone();
    let keep = move |buffer: &gst::BufferRef| {
        to.lock().unwrap().push(buffer.map_readable().unwrap().to_vec());
    };
    party.element(element).static_pad(pad).unwrap().add_probe(
        gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST,
        move |_, info| {
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => keep(buffer),
                Some(gst::PadProbeData::BufferList(list)) => list.iter().for_each(&keep),
                _ => {}
            }
            gst::PadProbeReturn::Ok
        },
    );
    kept
}

/// Pieces from all over some bytes, without those that could be anywhere.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_special = |piece: &&[u8]| piece.iter().collect::<BTreeSet<_>>().len() > PIECE / 2;
    bytes.chunks_exact(PIECE).filter(is_special).take(2000)
}

/// Every PIECE-byte window that begins at any place, to look pieces up in.
fn found<'a>(haystack: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> usize {
    let wanted: BTreeSet<&[u8]> = pieces.collect();
    haystack
        .windows(PIECE)
        .filter(|window| wanted.contains(window))
        .count()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn port() -> u16 {
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Both are ready in one epoch.
fn together(clinic: &Clinic, rings: &[&Ring; 2]) {
    until(clinic, &[], "both are there", || {
        rings
            .iter()
            .all(|ring| ring.is_ready() && ring.members().len() == 2)
            && rings[0].code() == rings[1].code()
    });
}

/// The keys of the present epoch, as `sframeenc` gets them.
fn base_key(party: &Party, keyring: &str) -> Vec<u8> {
    let element = party.element(keyring);
    let context = element.context("gst.sframe.keyring/default").unwrap();
    let source = KeySource::from_context(&context).unwrap();
    let key = source.sender_key("looked at").unwrap().unwrap();
    key.base_key.to_vec()
}

#[test]
fn neither_who_delivers_nor_who_relays_sees_what_is_said_shown_sent_or_who_is_there() {
    let server = Server::start();
    let clinic = Clinic::new();
    let [relay_port, ben_port] = [port(), port()];
    let photo: Vec<u8> = (0..700_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(clinic.path("photo"), &photo).unwrap();

    let relay = Party::start(&format!(
        "udpsrc address=127.0.0.1 port={relay_port} caps=application/x-rtp ! sframeguard name=guard ! \
         udpsink host=127.0.0.1 port={ben_port} sync=false async=false"
    ));
    let forwarded = tap(&relay, "guard", "src");
    let delivery = format!("room={ROOM} delivery={}", server.url());
    // Ids say nothing; names are for the members.
    let anna = Party::start(&format!(
        "{} videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 ! \
         vp8enc name=encoder deadline=1 keyframe-max-dist=25 ! sframeenc ! rtpsframepay pt=96 ! \
         udpsink host=127.0.0.1 port={relay_port} sync=false async=false \
         appsrc name=chat format=time caps=\"text/x-raw,format=utf8\" ! e1f07a.msg_sink_0 \
         appsrc name=vitals format=time caps=\"application/fhir+json\" ! e1f07a.msg_sink_1 \
         filesrc location={} blocksize=16777216 ! image/jpeg,file-name=(string){FILE} ! e1f07a.msg_sink_2",
        clinic.creator("e1f07a", &format!("{delivery} display-name=\"{}\"", NAMES[0])),
        clinic.path("photo").display(),
    ));
    let shown = tap(&anna, "encoder", "src");
    let ben = Party::start(&format!(
        "{} udpsrc address=127.0.0.1 port={ben_port} caps=\"application/x-rtp,media=video,clock-rate=90000,\
         encoding-name=VP8,payload=96\" ! rtpjitterbuffer ! rtpsframedepay ! sframedec name=dec ! fakesink sync=false \
         b2c9d3.msg_src_0 ! fakesink name=messages sync=false",
        clinic.keyring("b2c9d3", &format!("{delivery} display-name=\"{}\"", NAMES[1])),
    ));
    let heard = tap(&ben, "messages", "sink");
    let rings = [&anna.keyring("e1f07a"), &ben.keyring("b2c9d3")];
    together(&clinic, &rings);
    let mut keys = vec![base_key(&anna, "e1f07a")];
    for (source, bytes) in [("chat", TEXT), ("vitals", VITALS)] {
        let buffer = gst::Buffer::from_slice(bytes.as_bytes().to_vec());
        let pushed = anna
            .element(source)
            .emit_by_name::<gst::FlowReturn>("push-buffer", &[&buffer]);
        assert_eq!(pushed, gst::FlowReturn::Ok);
    }
    until(&clinic, &[], "what is said arrives", || {
        let heard = heard.lock().unwrap();
        [TEXT, VITALS]
            .iter()
            .all(|said| heard.iter().any(|got| got == said.as_bytes()))
    });
    // Who comes back after a loss publishes the most: an external commit, and somebody's group info for it.
    let before = rings[1].epoch();
    assert!(rings[1].act("resync", &[]));
    until(&clinic, &[], "he is back", || rings[1].epoch() > before);
    together(&clinic, &rings);
    keys.push(base_key(&anna, "e1f07a"));
    let opened = ben.stat("dec", "opened");
    until(&clinic, &[], "frames arrive, and the photo is sent", || {
        // He may not have been there yet when it was.
        ben.stat("dec", "opened") > opened + 60 && anna.stat("e1f07a", "messages-sent") == 3
    });

    let forwarded: Vec<u8> = forwarded.lock().unwrap().concat();
    let stored = server.stored();
    let logged = server.log().into_bytes();
    assert!(stored.len() > photo.len(), "the photo went elsewhere");
    let shown = shown.lock().unwrap().concat();
    assert!(forwarded.len() > shown.len() / 2, "the pictures went elsewhere");
    // What is looked for can be found, where it is.
    assert!(found(&shown, pieces(&shown)) > 100);

    let mut secrets = keys;
    for id in ["e1f07a", "b2c9d3"] {
        let key = fs::read_to_string(clinic.path(&format!("{id}.key"))).unwrap();
        secrets.push(key.lines().nth(1).unwrap().as_bytes().to_vec());
    }
    for (by, seen) in [
        ("relay", &forwarded),
        ("server", &stored),
        ("server's log", &logged),
    ] {
        assert_eq!(found(seen, pieces(&shown)), 0, "pictures in what the {by} sees");
        assert_eq!(found(seen, pieces(&photo)), 0, "the photo in what the {by} sees");
        let words = [
            ROOM,
            TEXT,
            "SpO2",
            NAMES[0],
            NAMES[1],
            FILE,
            "image/jpeg",
            "fhir+json",
        ];
        for word in words {
            assert!(!contains(seen, word.as_bytes()), "{word} in what the {by} sees");
        }
        for secret in &secrets {
            assert!(!contains(seen, secret), "a key in what the {by} sees");
        }
    }
    // What the documents say it does see: the ids of those who ask to be let in.
    assert!(contains(&stored, b"b2c9d3"));
    assert!(!contains(&forwarded, b"b2c9d3"));
}
