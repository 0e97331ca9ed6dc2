//! Calls whose keys come from an MLS room: `mlskeyring` beside real encoders, RTP and decoders. While a test waits,
//! every posture report is verified and compared with the keyring's properties.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst::glib;
use gst::prelude::*;
use gst_e2ee_tests::clinic::{Clinic, Party, Ring, agree, until};
use gst_e2ee_tests::pipeline::Tap;
use gstmls::identity::Role;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const OPUS: &str = "audiotestsrc is-live=true samplesperbuffer=480 ! audio/x-raw,rate=48000,channels=1 ! \
                    opusenc frame-size=10";
const VP8: &str = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=30/1";
const VP8ENC: &str = "vp8enc deadline=1 keyframe-max-dist=100000";
const ROAD: &str = "rtpsframepay ! rtpsframedepay";
const SINK: &str = "fakesink sync=false async=false";

/// Causes for which `sframedec` drops a frame; all of them could be a key's fault.
const DROPPED: [&str; 6] = [
    "no-key",
    "auth-failed",
    "replayed",
    "malformed",
    "wrong-sender",
    "waiting-keyframe",
];

fn nothing_dropped(party: &Party, dec: &str) {
    let dropped = DROPPED.map(|cause| party.stat(dec, cause));
    assert_eq!(dropped, [0; 6], "{dec}: {DROPPED:?}");
}

/// Everything sealed came out; waits for what is on its way.
fn all_opened(party: &Party, enc: &str, dec: &str) {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let (sealed, opened) = (party.stat(enc, "sealed"), party.stat(dec, "opened"));
        if sealed == opened {
            return;
        }
        assert!(
            Instant::now() < end,
            "{sealed} sealed by {enc}, {opened} opened by {dec}"
        );
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// No more frames from here on.
fn close(party: &Party, valve: &str) {
    party.element(valve).set_property("drop", true);
}

fn open(party: &Party, valve: &str) {
    party.element(valve).set_property("drop", false);
}

#[test]
fn two_parties_find_their_keyrings_with_no_property_set() {
    let clinic = Clinic::new();
    let receiver = Party::start(&format!(
        "{} udpsrc name=in address=127.0.0.1 port=0 caps=\"application/x-rtp,media=audio,clock-rate=48000,\
         encoding-name=OPUS,payload=96\" ! rtpsframedepay ! sframedec name=dec ! opusdec ! {SINK}",
        clinic.creator("anna", "")
    ));
    let port: i32 = receiver.element("in").property("port");
    let sender = Party::start(&format!(
        "{} {OPUS} ! sframeenc name=enc ! rtpsframepay pt=96 ! udpsink host=127.0.0.1 port={port} async=false",
        clinic.keyring("ben", "")
    ));
    let (anna, ben) = (receiver.keyring("anna"), sender.keyring("ben"));
    agree(&clinic, &[&anna, &ben], 2);
    until(&clinic, &[&anna, &ben], "frames open", || {
        receiver.stat("dec", "opened") > 20
    });
    assert!(sender.errors().is_empty() && receiver.errors().is_empty());
    assert_eq!(receiver.stat("dec", "auth-failed"), 0);
    sender.stop();
    agree(&clinic, &[&anna], 1);
    let left = receiver.said("mls-member-left");
    assert_eq!(left[0].1.get::<&str>("id").unwrap(), "ben");
    assert_eq!(left[0].1.get::<&str>("removed-by").unwrap(), "");
}

/// Two keyrings in one pipeline, and the road between them in both directions.
fn two_in_one(clinic: &Clinic, more: &str) -> Party {
    Party::start(&format!(
        "{} {} \
         {VP8} ! valve name=video drop=true ! {VP8ENC} ! sframeenc name=enc-video keyring=a ! {ROAD} ! \
         sframedec name=dec-video keyring=b ! tee name=pictures ! vp8dec ! {SINK} \
         {OPUS} ! valve name=audio drop=true ! sframeenc name=enc-audio keyring=b ! {ROAD} ! \
         sframedec name=dec-audio keyring=a ! opusdec ! {SINK} {more}",
        clinic.creator("anna", "id=a"),
        clinic.keyring("ben", "id=b"),
    ))
}

#[test]
fn over_50_joins_leaves_and_rotations_no_frame_is_lost() {
    let clinic = Clinic::new();
    let call = two_in_one(&clinic, "");
    let (anna, ben) = (call.keyring("anna"), call.keyring("ben"));
    agree(&clinic, &[&anna, &ben], 2);
    for valve in ["video", "audio"] {
        open(&call, valve);
    }
    let frames = || (call.stat("dec-video", "opened"), call.stat("dec-audio", "opened"));
    until(&clinic, &[&anna, &ben], "media", || {
        frames().0 > 3 && frames().1 > 3
    });
    let mut epochs = BTreeSet::from([anna.epoch()]);
    for round in 0..17 {
        let guest = Party::start(&clinic.keyring(&format!("guest{round}"), ""));
        let ring = guest.keyring(&format!("guest{round}"));
        agree(&clinic, &[&anna, &ben, &ring], 3);
        epochs.insert(anna.epoch());
        let before = anna.epoch();
        assert!([&anna, &ben, &ring][round % 3].act("update-key", &[]));
        until(&clinic, &[&anna, &ben, &ring], "a rotation", || {
            anna.epoch() > before
        });
        agree(&clinic, &[&anna, &ben, &ring], 3);
        epochs.insert(anna.epoch());
        guest.stop();
        agree(&clinic, &[&anna, &ben], 2);
        epochs.insert(anna.epoch());
    }
    // Frames go on in the last epoch before it ends.
    let before = frames();
    until(&clinic, &[&anna, &ben], "media", || {
        frames().0 > before.0 + 3 && frames().1 > before.1 + 3
    });
    for valve in ["video", "audio"] {
        close(&call, valve);
    }
    assert!(epochs.len() > 50, "{} changes", epochs.len());
    for media in ["video", "audio"] {
        let (enc, dec) = (format!("enc-{media}"), format!("dec-{media}"));
        all_opened(&call, &enc, &dec);
        nothing_dropped(&call, &dec);
        assert_eq!(call.stat(&enc, "dropped-no-key"), 0);
        // Of epochs that come within one switch of each other the sender skips some; each round has its own.
        let changes = call.stat(&enc, "key-changes");
        assert!(changes > 17, "{changes}");
    }
    assert_eq!(call.errors(), [""; 0]);
    let stats = |ring: &Ring, field: &str| {
        ring.0
            .property::<gst::Structure>("stats")
            .get::<u64>(field)
            .unwrap()
    };
    for ring in [&anna, &ben] {
        assert_eq!(
            stats(ring, "refused") + stats(ring, "malformed") + stats(ring, "resyncs"),
            0
        );
    }
}

#[test]
fn who_is_removed_opens_nothing_that_is_sealed_after_the_switch() {
    let clinic = Clinic::new();
    let call = Party::start(&format!(
        "{} {} {} {OPUS} ! valve name=audio drop=true ! sframeenc name=enc keyring=a ! {ROAD} ! tee name=t \
         t. ! queue ! sframedec name=dec keyring=b ! {SINK} t. ! queue ! sframedec name=gone keyring=c ! {SINK}",
        clinic.creator("anna", "id=a"),
        clinic.keyring("ben", "id=b"),
        clinic.keyring("carl", "id=c"),
    ));
    let [anna, ben, carl] = ["anna", "ben", "carl"].map(|name| call.keyring(name));
    agree(&clinic, &[&anna, &ben, &carl], 3);
    let sealed: Arc<Mutex<Vec<(u64, Instant)>>> = Arc::default();
    let enc = call.element("enc");
    let notes = sealed.clone();
    enc.static_pad("src")
        .unwrap()
        .add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
            let stats = pad.parent_element().unwrap().property::<gst::Structure>("stats");
            notes
                .lock()
                .unwrap()
                .push((stats.get("epoch").unwrap(), Instant::now()));
            gst::PadProbeReturn::Ok
        });
    let gone = Tap::new(&call.element("gone").static_pad("src").unwrap());
    let stays = Tap::new(&call.element("dec").static_pad("src").unwrap());
    open(&call, "audio");
    until(&clinic, &[&anna, &ben, &carl], "media", || {
        gone.len() > 10 && stays.len() > 10
    });
    let before = anna.epoch();
    assert!(anna.act("remove-member", &[&"carl"]));
    until(&clinic, &[&anna, &ben, &carl], "carl is out", || {
        carl.state() == "evicted" && anna.epoch() > before && anna.members() == ["anna", "ben"]
    });
    let switched = || {
        sealed
            .lock()
            .unwrap()
            .iter()
            .find(|(epoch, _)| *epoch > before)
            .copied()
    };
    until(&clinic, &[&anna, &ben], "the switch", || switched().is_some());
    let committed = call
        .said("mls-epoch-changed")
        .into_iter()
        .find(|(by, s, _)| by == "anna" && s.get::<u64>("epoch").unwrap() > before)
        .unwrap()
        .2;
    let took = switched().unwrap().1.saturating_duration_since(committed);
    println!(
        "from the commit to the first frame under new keys: {} ms",
        took.as_millis()
    );
    // One frame of 10 ms comes on top, since it is frames that are looked at.
    assert!(took <= Duration::from_millis(260), "{took:?}");
    let count = stays.len();
    until(&clinic, &[&anna, &ben], "media goes on", || {
        stays.len() > count + 30
    });
    close(&call, "audio");
    all_opened(&call, "enc", "dec");
    nothing_dropped(&call, "dec");
    let epochs: BTreeSet<_> = gone
        .buffers()
        .iter()
        .map(|b| b.meta.as_ref().unwrap().epoch)
        .collect();
    assert_eq!(epochs.last(), Some(&before), "opened by who is gone");
    let evicted = call.said("mls-evicted");
    assert_eq!(
        (evicted[0].0.as_str(), evicted[0].1.get::<&str>("by").unwrap()),
        ("carl", "anna")
    );
}

/// Carries what keyrings with `delivery=app` give out to all of them, in one order, each message 100 ms later.
fn carry_late(rings: &[&Ring]) {
    let (order, carried) = mpsc::channel::<(Instant, glib::Bytes)>();
    for ring in rings {
        let order = Mutex::new(order.clone());
        ring.0.connect("message-ready", false, move |args| {
            let message = args[2].get::<glib::Bytes>().unwrap();
            // Nobody carries any more when the test is over.
            let _ = order.lock().unwrap().send((Instant::now(), message));
            None
        });
    }
    let rings: Vec<_> = rings.iter().map(|ring| ring.0.downgrade()).collect();
    std::thread::spawn(move || {
        for (given, message) in carried {
            std::thread::sleep(
                (given + Duration::from_millis(100)).saturating_duration_since(Instant::now()),
            );
            for ring in &rings {
                let Some(ring) = ring.upgrade() else { return };
                assert!(Ring(ring).act("process-message", &[&message]), "refused");
            }
        }
    });
}

/// 5 % of the packets are lost, the others and the room's messages take 100 ms. A keyframe comes every second.
#[test]
fn on_a_bad_network_the_picture_never_freezes_longer_than_a_keyframe_interval() {
    const INTERVAL: gst::ClockTime = gst::ClockTime::from_seconds(1);
    let clinic = Clinic::new();
    let by_app = |keyring: String| {
        let sqlite = format!("delivery=sqlite:{}", clinic.path("log").display());
        keyring.replacen(&sqlite, "delivery=app", 1)
    };
    let call = Party::new(&format!(
        "{} {} {VP8} ! valve name=video drop=true ! vp8enc name=vp8 deadline=1 keyframe-max-dist=30 ! \
         sframeenc name=enc keyring=a ! rtpsframepay mtu=400 ! netsim name=network drop-probability=0.05 \
         delay-probability=1 min-delay=100 max-delay=100 ! rtpjitterbuffer latency=150 ! rtpsframedepay ! \
         sframedec name=dec keyring=b ! vp8dec name=vp8dec ! {SINK}",
        by_app(clinic.creator("anna", "id=a")),
        by_app(clinic.keyring("ben", "id=b")),
    ));
    let (anna, ben) = (call.keyring("anna"), call.keyring("ben"));
    carry_late(&[&anna, &ben]);
    call.play();
    agree(&clinic, &[&anna, &ben], 2);
    let pictures = Tap::new(&call.element("vp8dec").static_pad("src").unwrap());
    let whole = Tap::new(&call.element("dec").static_pad("sink").unwrap());
    open(&call, "video");
    until(&clinic, &[&anna, &ben], "pictures", || pictures.len() > 10);
    let mut changes = 0;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(10) {
        let (before, count) = (anna.epoch(), pictures.len());
        assert!([&anna, &ben][changes % 2].act("update-key", &[]));
        until(&clinic, &[&anna, &ben], "a rotation", || anna.epoch() > before);
        agree(&clinic, &[&anna, &ben], 2);
        until(&clinic, &[&anna, &ben], "pictures go on", || {
            pictures.len() > count + 8
        });
        changes += 1;
    }
    close(&call, "video");
    assert!(changes > 10, "{changes} changes");
    assert!(
        call.stat("enc", "sealed") > whole.len() as u64,
        "nothing was lost"
    );
    for cause in ["no-key", "auth-failed", "replayed", "malformed", "wrong-sender"] {
        assert_eq!(call.stat("dec", cause), 0, "{cause}");
    }
    let times: Vec<_> = pictures.buffers().iter().filter_map(|b| b.pts).collect();
    let longest = times
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .max()
        .unwrap();
    println!("{changes} changes of keys, longest time between two decoded pictures {longest}");
    assert!(longest <= INTERVAL, "{longest}");
}

#[test]
fn who_accepts_only_strict_sends_nothing_while_the_room_may_be_recorded() {
    let clinic = Clinic::new();
    let call = two_in_one(&clinic, "");
    let (anna, ben) = (call.keyring("anna"), call.keyring("ben"));
    agree(&clinic, &[&anna, &ben], 2);
    open(&call, "audio");
    let sealed = || call.stat("enc-audio", "sealed");
    until(&clinic, &[&anna, &ben], "audio", || sealed() > 5);
    assert!(anna.act("change-policy", &[&r#"{ "claim": "recorded" }"#]));
    let told = |by: &str, accepted: bool| {
        let said = call.said("mls-not-accepted");
        said.iter()
            .any(|(who, s, _)| who == by && s.get::<bool>("accepted").unwrap() == accepted)
    };
    until(&clinic, &[&anna, &ben], "it is said", || {
        told("ben", false) && told("anna", false)
    });
    let dropped = call.stat("enc-audio", "dropped-no-key");
    until(&clinic, &[&anna, &ben], "frames are dropped", || {
        call.stat("enc-audio", "dropped-no-key") > dropped + 5
    });
    let silent = sealed();
    until(&clinic, &[&anna, &ben], "frames are dropped", || {
        call.stat("enc-audio", "dropped-no-key") > dropped + 20
    });
    assert_eq!(sealed(), silent, "sent in a room that it does not accept");
    let report = ben.check_posture(&clinic).unwrap();
    assert!(!report.accepted);
    assert_eq!(report.claim.to_string(), "recorded");
    assert!(anna.act("change-policy", &[&r#"{ "claim": "strict" }"#]));
    until(&clinic, &[&anna, &ben], "it is said", || told("ben", true));
    until(&clinic, &[&anna, &ben], "audio again", || sealed() > silent + 5);
    let causes = call.said("mls-not-accepted");
    assert_eq!(causes[0].1.get::<&str>("claim").unwrap(), "recorded");
    assert_eq!(causes[0].1.get::<&str>("accept").unwrap(), "strict");
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let clinic = Clinic::new();
    clinic.participant("anna");
    let delivery = format!("delivery=sqlite:{}", clinic.path("log").display());
    let identity = clinic.identity("anna");
    let refused = |properties: &str, words: &[&str]| {
        let text = Party::new(&format!("mlskeyring name=anna {properties}")).refused();
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
    };
    refused(&identity, &["room", "room=NAME"]);
    refused("room=visit", &["certificate-file", "gst-mls identity new"]);
    refused(
        &format!(
            "room=visit {delivery} certificate-file=/nowhere/c.pem private-key-file=/nowhere/k ca-file=/nowhere/a"
        ),
        &["/nowhere/c.pem"],
    );
    refused(
        &format!("room=visit {identity} delivery=pigeon:7"),
        &["pigeon", "sqlite"],
    );
    refused(
        &format!("room=visit {identity} {delivery} state-file=/proc/nowhere/state"),
        &["/proc/nowhere"],
    );
    refused(
        &format!("room=visit {identity} {delivery} create=true policy-file=/nowhere/policy"),
        &["policy-file", "/nowhere/policy"],
    );
    let bad = clinic.policy("bad.json", r#"{ "admit": [], "colour": "red" }"#);
    refused(
        &format!("room=visit {identity} {delivery} create=true policy-file={bad}"),
        &["policy-file", "colour"],
    );
    // Somebody else's key.
    clinic.participant("ben");
    let mixed = identity.replace("anna.key", "ben.key");
    refused(&format!("room=visit {mixed} {delivery}"), &["key", "certificate"]);
    // Another's CA.
    let other = Clinic::named("other");
    let strange = identity.replace(
        &clinic.path("ca.pem").display().to_string(),
        &other.path("ca.pem").display().to_string(),
    );
    refused(&format!("room=visit {strange} {delivery}"), &["ca-file"]);
    // The state is in use.
    let first = Party::start(&clinic.creator("anna", ""));
    refused(&format!("room=visit {identity} {delivery}"), &["anna.state"]);
    first.stop();
    // Another key than the state was made with.
    let key = clinic.path("other-key");
    std::fs::write(&key, "77".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    refused(
        &format!(
            "room=visit {delivery} {}",
            identity.replace("state-key-file=", "no=")
        )
        .replace(
            &format!("no={}", clinic.path("state-key").display()),
            &format!("state-key-file={}", key.display()),
        ),
        &["key"],
    );
}

/// The last message of this name that one of them posted.
fn last(party: &Party, by: &str, name: &str) -> Option<gst::Structure> {
    let mut said = party.said(name).into_iter().filter(|(who, ..)| who == by);
    said.next_back().map(|(_, structure, _)| structure)
}

fn refusals(party: &Party, by: &str) -> Vec<(String, String)> {
    let said = party
        .said("mls-refused")
        .into_iter()
        .filter(|(who, ..)| who == by);
    said.map(|(_, s, _)| (s.get("what").unwrap(), s.get("reason").unwrap()))
        .collect()
}

#[test]
fn the_room_says_what_happens_in_it() {
    let clinic = Clinic::new();
    let (socket, report) = (clinic.path("socket"), clinic.path("posture.json"));
    let more = format!(
        "id=a accept=recorded control-socket={} posture-file={}",
        socket.display(),
        report.display()
    );
    let call = Party::start(&format!(
        "{} {}",
        clinic.creator("anna", &more),
        clinic.keyring("ben", "id=b accept=recorded")
    ));
    let (anna, ben) = (call.keyring("anna"), call.keyring("ben"));
    let both = [&anna, &ben];
    agree(&clinic, &both, 2);
    let joined = last(&call, "anna", "mls-member-joined").unwrap();
    assert_eq!(joined.get::<&str>("id").unwrap(), "ben");
    assert_eq!(joined.get::<&str>("roles").unwrap(), "participant");
    assert_eq!(joined.get::<&str>("operator").unwrap(), "Clinic");

    // A policy under which a recorder may come, who comes, records, is removed.
    let change = format!(
        r#"{{ "claim": "recorded", "also_admit": [{{ "role": "recorder", "root": "{}" }}] }}"#,
        clinic.root()
    );
    assert!(anna.act("change-policy", &[&change]));
    until(&clinic, &both, "the policy changes", || {
        ["anna", "ben"].iter().all(|by| {
            last(&call, by, "mls-policy-changed")
                .is_some_and(|s| s.get::<&str>("claim").unwrap() == "recorded")
        })
    });
    clinic.issue("rec", &[Role::Recorder]);
    let recorder = Party::start(&clinic.keyring("rec", "accept=recorded"));
    let rec = recorder.keyring("rec");
    agree(&clinic, &[&anna, &ben, &rec], 3);
    assert_eq!(anna.recorders(), ["rec"]);
    assert!(
        last(&call, "ben", "mls-recorder-present")
            .unwrap()
            .get::<bool>("present")
            .unwrap()
    );
    assert!(ben.act("set-recording", &[&true]));
    until(&clinic, &[&anna, &ben, &rec], "recording", || {
        anna.recording() && ben.recording() && rec.recording()
    });
    until(&clinic, &both, "it is said", || {
        last(&call, "anna", "mls-recording-changed").is_some()
    });
    let recording = last(&call, "anna", "mls-recording-changed").unwrap();
    assert!(recording.get::<bool>("recording").unwrap());
    assert_eq!(recording.get::<&str>("by").unwrap(), "ben");
    agree(&clinic, &[&anna, &ben, &rec], 3);
    assert!(anna.act("remove-member", &[&"rec"]));
    until(&clinic, &[&anna, &ben, &rec], "the recorder is out", || {
        rec.state() == "evicted"
    });
    assert_eq!(
        last(&recorder, "rec", "mls-evicted")
            .unwrap()
            .get::<&str>("by")
            .unwrap(),
        "anna"
    );
    agree(&clinic, &both, 2);
    assert!(
        !last(&call, "anna", "mls-recorder-present")
            .unwrap()
            .get::<bool>("present")
            .unwrap()
    );
    let left = last(&call, "ben", "mls-member-left").unwrap();
    assert_eq!(
        (
            left.get::<&str>("id").unwrap(),
            left.get::<&str>("removed-by").unwrap()
        ),
        ("rec", "anna")
    );
    assert_eq!(
        rec.0.property::<String>("posture"),
        "",
        "a report about a room that it is not in"
    );

    // Codes of a pair are the same at both ends.
    let code = |ring: &Ring, of: &str| ring.0.emit_by_name::<Option<String>>("verification-code", &[&of]);
    let pair = code(&anna, "ben").unwrap();
    assert_eq!(pair.chars().filter(char::is_ascii_digit).count(), 45, "{pair}");
    assert_eq!(code(&ben, "anna").unwrap(), pair);
    assert_eq!(code(&anna, "nobody"), None);

    // People compare them, and say so.
    let verified = || anna.check_posture(&clinic).is_some_and(|report| report.verified);
    assert!(!verified());
    assert!(anna.act("confirm-code", &[&"ben", &"12345"]));
    until(&clinic, &both, "a wrong code is refused", || {
        refusals(&call, "anna")
            .iter()
            .any(|(_, why)| why.starts_with("confirm: "))
    });
    assert!(!verified());
    assert!(anna.act("confirm-code", &[&"ben", &pair]));
    until(&clinic, &both, "the report says it", verified);
    assert!(anna.act("confirm-code", &[&None::<String>, &ben.code()]));

    // What cannot be is refused with a reason.
    assert!(anna.act("remove-member", &[&"nobody"]));
    until(&clinic, &both, "a refusal", || {
        refusals(&call, "anna")
            .iter()
            .any(|(_, why)| why.contains("nobody"))
    });
    assert!(!anna.act("change-policy", &[&"{"]));
    assert!(
        refusals(&call, "anna")
            .iter()
            .any(|(_, why)| why.contains("change-policy"))
    );
    assert!(
        !anna.act("process-message", &[&glib::Bytes::from_static(b"x")]),
        "not for sqlite"
    );

    // Somebody from another clinic knocks.
    let other = Clinic::named("other");
    other.participant("eve");
    let eve = Party::start(&format!(
        "mlskeyring name=eve room=visit delivery=sqlite:{} {}",
        clinic.path("log").display(),
        other.identity("eve")
    ));
    until(&clinic, &both, "eve is refused", || {
        last(&call, "anna", "mls-verification-failed").is_some()
    });
    assert_eq!(eve.keyring("eve").state(), "joining");
    assert_eq!(anna.members(), ["anna", "ben"]);

    let epoch = ben.epoch();
    assert!(ben.act("resync", &[]));
    until(&clinic, &both, "a resync", || {
        last(&call, "ben", "mls-resync").is_some_and(|s| s.get::<bool>("done").unwrap())
            && ben.epoch() > epoch
    });
    agree(&clinic, &both, 2);
    let changed = last(&call, "ben", "mls-epoch-changed").unwrap();
    assert_eq!(changed.get::<String>("epoch-code").unwrap(), ben.code());
    assert_eq!(changed.get::<u32>("members").unwrap(), 2);
    assert_eq!(changed.get::<u64>("epoch").unwrap(), ben.epoch());

    // The file says what the property says, and goes when the room is left.
    until(&clinic, &both, "the file", || {
        std::fs::read_to_string(&report).unwrap() == anna.0.property::<String>("posture")
    });
    let asked = gstmls::control::Request::Ask(gstmls::control::Query::Status);
    let gstmls::control::Reply::Ok(status) = gstmls::control::ask(&socket, &asked).unwrap() else {
        panic!("no status");
    };
    assert_eq!(status["epoch_code"], anna.code());
    call.stop();
    let stats = last(&call, "ben", "mlskeyring-stats").unwrap();
    assert_eq!(stats.get::<u64>("resyncs").unwrap(), 1);
    assert!(!socket.exists());
}

#[test]
fn the_application_decides_who_comes_in_where_it_wants_to() {
    let clinic = Clinic::new();
    let host = Party::new(&clinic.creator("anna", ""));
    let anna = host.keyring("anna");
    let asked: Arc<Mutex<Vec<(String, String, String)>>> = Arc::default();
    let questions = asked.clone();
    anna.0.connect("authorize-member", false, move |args| {
        let text = |at: usize| args[at].get::<String>().unwrap();
        questions.lock().unwrap().push((text(1), text(2), text(3)));
        Some((text(1) == "ben").to_value())
    });
    host.play();
    let refused = Party::start(&clinic.keyring("carl", ""));
    until(&clinic, &[&anna], "carl is refused", || {
        refusals(&host, "anna")
            .iter()
            .any(|(what, why)| what == "key-package" && why.contains("authorised"))
    });
    let welcome = Party::start(&clinic.keyring("ben", ""));
    agree(&clinic, &[&anna, &welcome.keyring("ben")], 2);
    assert_eq!(refused.keyring("carl").state(), "joining");
    let asked = asked.lock().unwrap();
    assert!(
        asked
            .iter()
            .any(|(id, role, _)| id == "ben" && role == "participant")
    );
}

/// The application carries the messages, in this process; then it stops to, and begins again.
#[test]
fn without_a_sign_of_life_nothing_is_sent_until_there_is_one() {
    let clinic = Clinic::new();
    let app = |keyring: String| {
        let sqlite = format!("delivery=sqlite:{}", clinic.path("log").display());
        keyring.replacen(&sqlite, "delivery=app", 1)
    };
    let call = Party::new(&format!(
        "{} {} {OPUS} ! sframeenc name=enc keyring=b ! {SINK}",
        app(clinic.creator("anna", "id=a max-silence=3000000000")),
        app(clinic.keyring("ben", "id=b max-silence=3000000000 rekey-interval=1000000000")),
    ));
    let (anna, ben) = (call.keyring("anna"), call.keyring("ben"));
    let both = [&anna, &ben];
    let carries = Arc::new(AtomicBool::new(true));
    let (to, from) = mpsc::channel::<glib::Bytes>();
    for ring in both {
        let to = Mutex::new(to.clone());
        ring.0.connect("message-ready", false, move |args| {
            let _ = to.lock().unwrap().send(args[2].get().unwrap());
            None
        });
    }
    drop(to);
    let rings = [anna.clone(), ben.clone()];
    let gate = carries.clone();
    std::thread::spawn(move || {
        // Ends with the last keyring.
        while let Ok(bytes) = from.recv_timeout(Duration::from_secs(60)) {
            while !gate.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            for ring in &rings {
                ring.act("process-message", &[&bytes]);
            }
        }
    });
    call.play();
    agree(&clinic, &both, 2);
    until(&clinic, &both, "media", || call.stat("enc", "sealed") > 5);
    let epoch = anna.epoch();
    until(&clinic, &both, "ben's keys change by themselves", || {
        anna.epoch() > epoch
    });
    carries.store(false, Ordering::SeqCst);
    until(&clinic, &both, "stale", || {
        anna.state() == "stale" && ben.state() == "stale"
    });
    let reason: String = last(&call, "ben", "mls-stale").unwrap().get("reason").unwrap();
    assert!(reason.contains("3 s"), "{reason}");
    let sealed = call.stat("enc", "sealed");
    let dropped = call.stat("enc", "dropped-no-key");
    until(&clinic, &both, "frames are dropped", || {
        call.stat("enc", "dropped-no-key") > dropped + 10
    });
    assert!(call.stat("enc", "sealed") <= sealed + 1);
    carries.store(true, Ordering::SeqCst);
    until(&clinic, &both, "it goes on", || {
        call.stat("enc", "sealed") > sealed + 10 && anna.is_ready()
    });
}

/// A copy of a running endpoint's state, started elsewhere.
#[test]
fn a_copy_of_somebodys_state_is_noticed() {
    let clinic = Clinic::new();
    let host = Party::start(&clinic.creator("anna", ""));
    let guest = Party::start(&clinic.keyring("ben", ""));
    let (anna, ben) = (host.keyring("anna"), guest.keyring("ben"));
    agree(&clinic, &[&anna, &ben], 2);
    for suffix in ["", "-wal"] {
        let from = clinic.path(&format!("ben.state{suffix}"));
        if from.exists() {
            std::fs::copy(from, clinic.path(&format!("copy.state{suffix}"))).unwrap();
        }
    }
    let copy = clinic.keyring("ben", "").replace("ben.state", "copy.state");
    let thief = Party::start(&copy);
    until(&clinic, &[&anna], "the clone is noticed", || {
        last(&guest, "ben", "mls-clone-detected").is_some()
            || last(&thief, "ben", "mls-clone-detected").is_some()
    });
}
