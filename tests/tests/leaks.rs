//! GStreamer's leaks tracer finds nothing alive when pipelines with our elements are gone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::process::Sandbox;
use std::process::Command;

const KEYS: &str = "1 000102030405060708090a0b0c0d0e0f\n2 101112131415161718191a1b1c1d1e1f\n";
const WRONG_KEYS: &str = "1 ff0102030405060708090a0b0c0d0e0f\n";
const VIDEO: &str = "videotestsrc num-buffers=30 ! video/x-raw,width=160,height=120 ! vp8enc deadline=1";
const AUDIO: &str = "audiotestsrc num-buffers=50 ! opusenc";

fn traced(command: &mut Command) -> &mut Command {
    command
        .env("GST_TRACERS", "leaks")
        .env("GST_DEBUG", "GST_TRACER:7")
        .env("GST_DEBUG_NO_COLOR", "1")
}

/// What the tracer found alive, and that it did look.
fn alive(printed: &str) -> Vec<&str> {
    assert!(
        printed.contains("GST_TRACER"),
        "the tracer did not run: {printed}"
    );
    printed
        .lines()
        .filter(|line| line.contains("object-alive, ") && !line.contains("new format string"))
        .collect()
}

/// `{keys}`: the key file, `{wrong}`: another one; both ends of `!`s as in gst-launch.
fn leaks_nothing(pipeline: &str, succeeds: bool) {
    let sandbox = Sandbox::new();
    let pipeline = pipeline
        .replace("{keys}", sandbox.key_file("keys", KEYS).to_str().unwrap())
        .replace("{wrong}", sandbox.key_file("wrong", WRONG_KEYS).to_str().unwrap());
    let finished = sandbox.run("pipeline", traced(&mut sandbox.gst_launch(&pipeline)));
    assert_eq!(finished.status.success(), succeeds, "{}", finished.printed);
    let alive = alive(&finished.printed);
    assert!(alive.is_empty(), "{pipeline}: {alive:#?}");
}

/// The control: what is leaked on purpose is found.
#[test]
fn the_tracer_finds_a_leak() {
    let sandbox = Sandbox::new();
    let mut python = sandbox.python("leaks_one_element.py");
    let finished = sandbox.run("leaking", traced(&mut python)).expect_success();
    let alive = alive(&finished.printed);
    assert!(
        alive.iter().any(|line| line.contains("GstSFrameEnc")),
        "{}",
        finished.printed
    );
}

#[test]
fn frames_over_rtp() {
    for media in [VIDEO, AUDIO] {
        leaks_nothing(
            &format!(
                "{media} ! sframeenc key-file={{keys}} kid=1 ! rtpsframepay mtu=400 ! sframeguard ! rtpsframedepay ! \
                 sframedec key-file={{keys}} ! fakesink"
            ),
            true,
        );
    }
}

#[test]
fn decoded_media_of_two_streams() {
    leaks_nothing(
        &format!(
            "{VIDEO} ! sframeenc key-file={{keys}} kid=1 ! rtpsframepay ! rtpsframedepay ! \
             sframedec key-file={{keys}} ! vp8dec ! fakesink \
             {AUDIO} ! sframeenc key-file={{keys}} kid=2 ! rtpsframepay ! rtpsframedepay ! \
             sframedec key-file={{keys}} ! opusdec ! fakesink"
        ),
        true,
    );
}

#[test]
fn single_packets() {
    for opener in ["", "rtpsframedepay ! "] {
        leaks_nothing(
            &format!(
                "{VIDEO} ! rtpvp8pay mtu=300 ! sframeenc key-file={{keys}} kid=1 ! sframeguard ! {opener}\
                 sframedec key-file={{keys}} ! rtpvp8depay ! fakesink"
            ),
            true,
        );
    }
}

#[test]
fn the_codec_packetization() {
    leaks_nothing(
        &format!(
            "{VIDEO} ! sframeenc key-file={{keys}} kid=1 clear-prefix=codec ! rtpsframepay packetization=codec mtu=400 ! \
             rtpsframedepay packetization=codec ! sframedec key-file={{keys}} clear-prefix=codec ! fakesink"
        ),
        true,
    );
}

#[test]
fn lost_packets() {
    leaks_nothing(
        &format!(
            "{VIDEO} ! sframeenc key-file={{keys}} kid=1 ! rtpsframepay mtu=200 ! \
             identity drop-probability=0.1 ! rtpsframedepay ! sframedec key-file={{keys}} ! fakesink"
        ),
        true,
    );
}

#[test]
fn what_the_guard_drops() {
    leaks_nothing(&format!("{VIDEO} ! rtpvp8pay ! sframeguard ! fakesink"), true);
}

#[test]
fn frames_of_a_wrong_key() {
    leaks_nothing(
        &format!(
            "{AUDIO} ! sframeenc key-file={{keys}} kid=1 ! rtpsframepay ! rtpsframedepay ! \
             sframedec key-file={{wrong}} ! fakesink"
        ),
        true,
    );
}

#[test]
fn pipelines_that_do_not_start() {
    leaks_nothing(&format!("{VIDEO} ! sframeenc ! fakesink"), false);
    leaks_nothing(
        &format!("{VIDEO} ! sframeenc key-file={{keys}} kid=7 ! fakesink"),
        false,
    );
    leaks_nothing(
        &format!("{VIDEO} ! sframeenc key-file={{keys}} kid=1 ! sframedec ! fakesink"),
        false,
    );
}
