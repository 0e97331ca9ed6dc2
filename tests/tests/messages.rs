//! What people send beside audio and video, through the pads of `mlskeyring`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst::prelude::*;
use gst_e2ee_common::meta::SFrameMeta;
use gst_e2ee_tests::clinic::{Clinic, Party, agree, until};
use gst_e2ee_tests::process::Sandbox;
use std::fs;
use std::sync::{Arc, Mutex};

/// Keeps what came out of a pad: its caps and the buffer.
fn kept(party: &Party, sink: &str) -> Arc<Mutex<Vec<(gst::Caps, gst::Buffer)>>> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let pad = party.element(sink).static_pad("sink").unwrap();
    let to = kept.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap().clone();
        to.lock().unwrap().push((pad.current_caps().unwrap(), buffer));
        gst::PadProbeReturn::Ok
    });
    kept
}

fn texts(kept: &Mutex<Vec<(gst::Caps, gst::Buffer)>>) -> Vec<String> {
    let kept = kept.lock().unwrap();
    let text = |buffer: &gst::Buffer| String::from_utf8(buffer.map_readable().unwrap().to_vec()).unwrap();
    kept.iter().map(|(_, buffer)| text(buffer)).collect()
}

#[test]
fn a_photo_a_text_and_vital_signs_go_from_one_gst_launch_to_another() {
    let (clinic, sandbox) = (Clinic::new(), Sandbox::new());
    let picture = "videotestsrc num-buffers=1 pattern=snow ! video/x-raw,width=1280,height=720 ! jpegenc quality=95 ! \
                   filesink location=photo.jpg";
    sandbox
        .run("camera", &mut sandbox.gst_launch(picture))
        .expect_success();
    let photo = fs::read(sandbox.path("photo.jpg")).unwrap();
    assert!(photo.len() > 600_000, "of several chunks: {}", photo.len());
    let text = "Please hold the camera closer to the wound – thank you.";
    let vitals =
        r#"{"resourceType":"Observation","code":{"text":"SpO2"},"valueQuantity":{"value":97,"unit":"%"}}"#;
    fs::write(sandbox.path("text.txt"), text).unwrap();
    fs::write(sandbox.path("vitals.json"), vitals).unwrap();

    let receiver = format!(
        "-m {} anna.msg_src_0 ! image/jpeg ! filesink location=photo.out buffer-mode=unbuffered \
         anna.msg_src_1 ! text/x-raw ! filesink location=text.out buffer-mode=unbuffered \
         anna.msg_src_2 ! application/fhir+json ! filesink location=vitals.out buffer-mode=unbuffered",
        clinic.creator("anna", "display-name=Anna")
    );
    let mut receiver = sandbox.start("receiver", &mut sandbox.gst_launch(&receiver));
    let sender = format!(
        "{} filesrc location=photo.jpg blocksize=16777216 ! image/jpeg,file-name=(string)wound.jpg ! ben.msg_sink_0 \
         filesrc location=text.txt ! text/x-raw,format=utf8 ! ben.msg_sink_1 \
         filesrc location=vitals.json ! application/fhir+json,file-name=(string)vitals.json ! ben.msg_sink_2",
        clinic.keyring("ben", "")
    );
    // It ends by itself, as soon as all of it stands in the log.
    let sender = sandbox
        .run("sender", &mut sandbox.gst_launch(&sender))
        .expect_success();
    let read = |name: &str| fs::read(sandbox.path(name)).unwrap_or_default();
    let all_there = || {
        read("photo.out") == photo
            && read("text.out") == text.as_bytes()
            && read("vitals.out") == vitals.as_bytes()
    };
    assert!(receiver.wait_for(all_there), "{}", receiver.printed());
    receiver.interrupt();
    let receiver = receiver.finish();
    assert!(
        receiver.printed.contains("mls-message-progress"),
        "{}",
        receiver.printed
    );
    // What was sent is for nobody's terminal.
    for printed in [&sender.printed, &receiver.printed] {
        assert!(!printed.contains("wound.jpg") || printed.contains("file-name=(string)wound.jpg"));
        assert!(!printed.contains("hold the camera"), "{printed}");
    }
}

#[test]
fn who_is_killed_hears_what_was_said_meanwhile_when_it_is_back() {
    let (clinic, sandbox) = (Clinic::new(), Sandbox::new());
    let anna = format!(
        "{} anna.msg_src_0 ! text/x-raw ! filesink location=text.out append=true buffer-mode=unbuffered",
        clinic.creator("anna", "")
    );
    let ben = Party::start(&format!(
        "{} appsrc name=chat format=time caps=\"text/x-raw,format=utf8\" ! ben.msg_sink_0",
        clinic.keyring("ben", "")
    ));
    let ring = ben.keyring("ben");
    let mut written = String::new();
    for (life, text) in ["one, ", "two, ", "three"].into_iter().enumerate() {
        let mut running = sandbox.start(&format!("anna-{life}"), &mut sandbox.gst_launch(&anna));
        let heard = || fs::read_to_string(sandbox.path("text.out")).unwrap_or_default() == written;
        assert!(running.wait_for(heard), "{}", running.printed());
        let both = || ring.is_ready() && ring.members().len() == 2;
        assert!(running.wait_for(both), "{}", running.printed());
        running.kill();
        let buffer = gst::Buffer::from_slice(text.as_bytes());
        let pushed = ben
            .element("chat")
            .emit_by_name::<gst::FlowReturn>("push-buffer", &[&buffer]);
        assert_eq!(pushed, gst::FlowReturn::Ok);
        let sent = life as u64 + 1;
        until(&clinic, &[], "it is said", || {
            ben.stat("ben", "messages-sent") == sent
        });
        written += text;
    }
    let mut running = sandbox.start("anna", &mut sandbox.gst_launch(&anna));
    let heard = || fs::read_to_string(sandbox.path("text.out")).unwrap_or_default() == written;
    assert!(running.wait_for(heard), "{}", running.printed());
}

#[test]
fn a_message_comes_with_its_sender_and_its_time_and_to_the_pad_that_takes_it() {
    let clinic = Clinic::new();
    let anna = Party::start(&format!(
        "{} anna.msg_src_0 ! text/x-raw ! fakesink name=texts sync=false \
         anna.msg_src_1 ! fakesink name=all sync=false",
        clinic.creator("anna", "")
    ));
    let (only_texts, all) = (kept(&anna, "texts"), kept(&anna, "all"));
    let ben = Party::start(&format!(
        "{} appsrc name=chat format=time caps=\"text/x-raw,format=utf8\" ! ben.msg_sink_0 \
         appsrc name=files format=time caps=\"application/pdf,file-name=(string)letter.pdf\" ! ben.msg_sink_1",
        clinic.keyring("ben", "display-name=Ben")
    ));
    let (ring, guest) = (anna.keyring("anna"), ben.keyring("ben"));
    agree(&clinic, &[&ring, &guest], 2);
    let send = |source: &str, bytes: &[u8]| {
        let source = ben.element(source);
        let buffer = gst::Buffer::from_slice(bytes.to_vec());
        let pushed = source.emit_by_name::<gst::FlowReturn>("push-buffer", &[&buffer]);
        assert_eq!(pushed, gst::FlowReturn::Ok);
    };
    send("chat", b"one");
    until(&clinic, &[], "the first text", || texts(&only_texts).len() == 1);
    send("files", b"%PDF-1.7");
    until(&clinic, &[], "the file", || texts(&all).len() == 2);
    send("chat", b"two");
    until(&clinic, &[], "the second text", || {
        (texts(&only_texts).len(), texts(&all).len()) == (2, 3)
    });
    assert_eq!(texts(&only_texts), ["one", "two"]);
    assert_eq!(texts(&all), ["one", "%PDF-1.7", "two"]);
    let all = all.lock().unwrap();
    let caps: Vec<_> = all.iter().map(|(caps, _)| caps.to_string()).collect();
    assert_eq!(caps[0], "text/x-raw, format=(string)utf8");
    assert_eq!(caps[1], "application/pdf, file-name=(string)letter.pdf");
    let mut last = gst::ClockTime::ZERO;
    for (_, buffer) in all.iter() {
        let meta = SFrameMeta::of(buffer).unwrap();
        assert_eq!((meta.sender.as_str(), meta.epoch), ("ben", ring.epoch()));
        let time = buffer.pts().unwrap();
        assert!(time >= last);
        last = time;
    }
    // Counted in the log's order, which both read at their own pace.
    let counted = || {
        (
            anna.stat("anna", "messages-received"),
            ben.stat("ben", "messages-sent"),
        ) == (3, 3)
    };
    until(&clinic, &[], "the counts", counted);
    let named = || {
        let members = ring.0.property::<gst::Array>("members");
        let names = members.iter().map(|member| {
            let member = member.get::<gst::Structure>().unwrap();
            member.get::<String>("display-name").unwrap()
        });
        names.collect::<Vec<_>>() == ["", "Ben"]
    };
    until(&clinic, &[], "his name", named);
    assert_eq!(anna.said("mls-member-named").len(), 1);
}

#[test]
fn who_has_several_things_to_say_hears_the_others_too() {
    let clinic = Clinic::new();
    let anna = Party::start(&format!(
        "{} appsrc name=chat format=time caps=\"text/x-raw,format=utf8\" ! anna.msg_sink_0 \
         appsrc name=files format=time caps=\"application/pdf\" ! anna.msg_sink_1 \
         anna.msg_src_0 ! text/x-raw ! fakesink name=texts sync=false async=false",
        clinic.creator("anna", "")
    ));
    let heard = kept(&anna, "texts");
    let ben = Party::start(&format!(
        "{} appsrc name=chat format=time caps=\"text/x-raw,format=utf8\" ! ben.msg_sink_0",
        clinic.keyring("ben", "")
    ));
    agree(&clinic, &[&anna.keyring("anna"), &ben.keyring("ben")], 2);
    let buffer = gst::Buffer::from_slice(b"one");
    let pushed = ben
        .element("chat")
        .emit_by_name::<gst::FlowReturn>("push-buffer", &[&buffer]);
    assert_eq!(pushed, gst::FlowReturn::Ok);
    until(&clinic, &[], "the text", || texts(&heard) == ["one"]);
}

#[test]
fn who_waits_for_the_room_can_be_stopped_and_started_again() {
    let clinic = Clinic::new();
    // Nobody makes the room, so that it waits.
    let party = Party::new(&format!(
        "{} fakesrc num-buffers=1 sizetype=fixed sizemax=10 ! application/x-test ! ben.msg_sink_0 \
         ben.msg_src_0 ! fakesink",
        clinic.keyring("ben", "")
    ));
    for _ in 0..2 {
        party.play();
        let pad = party.element("ben").static_pad("msg_sink_0").unwrap();
        until(&clinic, &[], "the caps", || pad.has_current_caps());
        party.stop();
    }
    assert!(party.errors().is_empty(), "{:?}", party.errors());
    // A pad of a room that runs, and gone again.
    party.play();
    let element = party.element("ben");
    let pad = element.request_pad_simple("msg_src_%u").unwrap();
    assert!(pad.is_active());
    element.release_request_pad(&pad);
}

#[test]
fn what_is_no_message_is_an_error_or_a_warning_that_says_what_to_do() {
    let clinic = Clinic::new();
    let party = Party::new(&format!(
        "{} fakesrc num-buffers=1 sizetype=fixed sizemax=10 ! ben.msg_sink_0",
        clinic.creator("ben", "")
    ));
    party.try_to_play();
    until(&clinic, &[], "an error", || !party.errors().is_empty());
    assert!(
        party.errors()[0].contains("text/x-raw,format=utf8"),
        "{:?}",
        party.errors()
    );

    let clinic = Clinic::new();
    let long = "x".repeat(65);
    let party = Party::new(&clinic.creator("ben", &format!("display-name={long}")));
    assert!(party.refused().contains("64 bytes"));
}
