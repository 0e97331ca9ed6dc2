//! The programs in `examples/` and the pipelines that README prints: they do what they say, with the staged plugins,
//! found through the registry.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::process::{Finished, Sandbox};
use gst_e2ee_tests::readme::{readme_command, root, shell, with_free_ports};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

const KEYS: &str = "1 000102030405060708090a0b0c0d0e0f\n2 101112131415161718191a1b1c1d1e1f\n";
const ANOTHER_KEY: &str = "1 f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff\n";
const NOBODYS_KID: &str = "7 f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff\n";

/// The number that follows `word` in what was printed.
fn number(printed: &str, word: &str) -> u64 {
    let (_, rest) = printed
        .split_once(word)
        .unwrap_or_else(|| panic!("no {word:?} in: {printed}"));
    let digits: String = rest
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number behind {word:?} in: {printed}"))
}

fn assert_no_critical(finished: &Finished) {
    for word in ["CRITICAL", "panicked"] {
        assert!(!finished.printed.contains(word), "{}", finished.printed);
    }
}

// Python

#[test]
fn python_example_opens_every_frame_over_a_change_of_keys() {
    let sandbox = Sandbox::new();
    let script = root().join("examples/python/key_source.py");
    // An absolute path stands for itself.
    let mut command = sandbox.python(script.to_str().unwrap());
    command.env("G_DEBUG", "fatal-criticals");
    let finished = sandbox.run("python", &mut command).expect_success();
    assert_no_critical(&finished);
    assert_eq!(number(&finished.printed, "alice: sealed"), 60);
    assert_eq!(number(&finished.printed, "bob: opened"), 60);
    assert!(
        finished.printed.contains("KIDs seen: [1, 2]"),
        "{}",
        finished.printed
    );
}

#[test]
fn python_example_shows_figures_and_messages_as_openmetrics() {
    let sandbox = Sandbox::new();
    sandbox.key_file("keys", KEYS);
    sandbox.key_file("another", ANOTHER_KEY);
    let script = root().join("examples/python/metrics.py");
    let mut command = sandbox.python(script.to_str().unwrap());
    command.args(["--port", "0"]).arg(
        "audiotestsrc is-live=true ! opusenc ! sframeenc name=seal key-file=keys kid=1 ! tee name=t \
         t. ! queue ! sframedec name=open key-file=keys ! fakesink \
         t. ! queue ! sframedec name=wrong key-file=another ! fakesink",
    );
    let mut running = sandbox.start("metrics", &mut command);
    assert!(running.wait_for_print(|printed| printed.contains("/metrics\n")));
    let printed = running.printed();
    let address = printed.trim().strip_prefix("http://").unwrap();
    let address = address.strip_suffix("/metrics").unwrap();
    let get = |path: &str| {
        let mut connection = TcpStream::connect(address).unwrap();
        write!(connection, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    };
    let mut samples = String::new();
    // A scrape reads the figures before the messages, and a figure that has counted nothing yet is left out.
    let wanted = [
        "unknown gst_e2ee_sframeenc_sealed seal",
        "unknown gst_e2ee_sframedec_opened open",
        "unknown gst_e2ee_sframedec_auth_failed wrong",
        "counter gst_e2ee_messages_total wrong auth-failed",
    ];
    let complete = running.wait_for(|| {
        let answer = get("/metrics");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("application/openmetrics-text; version=1.0.0"),
            "{head}"
        );
        fs::write(sandbox.path("metrics"), body).unwrap();
        let mut parser = sandbox.python("openmetrics.py");
        parser.stdin(fs::File::open(sandbox.path("metrics")).unwrap());
        samples = sandbox.run("parser", &mut parser).expect_success().printed;
        wanted.iter().all(|sample| samples.contains(sample))
    });
    assert!(complete, "{samples}");
    assert!(!samples.contains("sframedec_opened wrong"), "{samples}");
    assert!(get("/").starts_with("HTTP/1.0 404"));
    running.interrupt();
    running.finish().expect_success();
}

// C

/// Builds it as its first comment says.
fn build_c(sandbox: &Sandbox) -> PathBuf {
    let flags = Command::new("pkg-config")
        .args(["--cflags", "--libs", "gstreamer-1.0"])
        .output()
        .unwrap();
    assert!(flags.status.success(), "{flags:?}");
    let program = sandbox.path("embed");
    let mut compiler = sandbox.command("cc");
    compiler
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(root().join("examples/c/embed.c"));
    compiler.args(String::from_utf8(flags.stdout).unwrap().split_whitespace());
    sandbox.run("cc", &mut compiler).expect_success();
    program
}

#[test]
fn c_example_seals_and_opens_and_reports_why_not() {
    let sandbox = Sandbox::new();
    let program = build_c(&sandbox);
    let keys = sandbox.key_file("keys", KEYS);
    let run = |receiver: &Path| {
        let mut command = sandbox.command(&program);
        command.env("G_DEBUG", "fatal-criticals").arg(&keys).arg(receiver);
        let finished = sandbox.run("c", &mut command);
        assert_no_critical(&finished);
        finished
    };

    let good = run(&keys).expect_success();
    assert_eq!(number(&good.printed, "sealed"), 60);
    assert_eq!(number(&good.printed, "opened"), 60);

    let report = "open: sframe-decrypt-failed, KID 1, auth-failed, ";
    run(&sandbox.key_file("another", ANOTHER_KEY)).expect_refusal(&[report, "opened 0, failed 60"]);
    let report = "open: sframe-key-missing, KID 1, no-key, ";
    run(&sandbox.key_file("nobodys", NOBODYS_KID)).expect_refusal(&[report, "failed 0, without key 60"]);
    run(Path::new("not-there")).expect_refusal(&["cannot read key-file not-there"]);
}

// Rust

#[test]
fn rust_example_records_and_links_no_plugin() {
    let sandbox = Sandbox::new();
    // A program of another package: cargo tells where it is.
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "-p", "gst-e2ee-examples"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let told = String::from_utf8(built.stdout).unwrap();
    let (_, rest) = told.split_once("\"executable\":\"").unwrap();
    let program = rest.split('"').next().unwrap();

    let keys = sandbox.key_file("keys", KEYS);
    let record = |command: &mut Command| {
        let finished = sandbox.run(
            "rust",
            command
                .arg(&keys)
                .arg("call.mkv")
                .env("G_DEBUG", "fatal-criticals"),
        );
        assert_no_critical(&finished);
        finished
    };
    let finished = record(&mut sandbox.command(program)).expect_success();
    let sealed = number(&finished.printed, "sealed");
    assert!(sealed >= 200, "{}", finished.printed);
    assert_eq!(number(&finished.printed, "opened"), sealed);
    assert_eq!(frames_in(&sandbox, "call.mkv", "audio_0"), sealed);

    // Without the folder there is no element: nothing was linked.
    let mut bare = sandbox.command(program);
    bare.env_remove("GST_PLUGIN_PATH")
        .env("GST_REGISTRY", sandbox.path("bare.bin"));
    record(&mut bare).expect_refusal(&["no element sframe", "GST_PLUGIN_PATH"]);
}

/// How many frames the stock demuxer finds on a pad.
fn frames_in(sandbox: &Sandbox, file: &str, pad: &str) -> u64 {
    let mut command = sandbox.gst_launch(&format!(
        "-v filesrc location={file} ! matroskademux name=demux demux.{pad} ! fakesink name=out silent=false"
    ));
    let finished = sandbox.run("demux", &mut command).expect_success();
    let chained = |line: &&str| line.contains("out: last-message = chain");
    finished.printed.lines().filter(chained).count() as u64
}

// README

#[test]
fn readme_key_file_serves_its_first_pipeline() {
    let sandbox = Sandbox::new();
    sandbox
        .run(
            "keys",
            &mut shell(&sandbox, &readme_command(&["/dev/urandom", "> keys"])),
        )
        .expect_success();
    let pipeline = readme_command(&["num-buffers=90", "sframedec"]);
    // As on a server: the pipeline must not need a screen.
    let mut command = shell(&sandbox, &pipeline);
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    sandbox.run("pipeline", &mut command).expect_success();
    assert!(fs::metadata(sandbox.path("picture-00089.png")).unwrap().len() > 0);
}

#[test]
fn readme_relay_forwards_to_readme_receiver_and_interrupting_prints_statistics() {
    let sandbox = Sandbox::new();
    sandbox.key_file("keys", KEYS);
    let [sender, relay, receiver] = with_free_ports(
        [
            readme_command(&["key-file=keys kid=1", "rtpsframepay", "udpsink"]),
            readme_command(&["sframeguard", "udpsink"]),
            readme_command(&["udpsrc port=5010", "key-file=keys", "vp8dec"]),
        ],
        &[5000, 5010],
    );
    let start = |name: &str, command: &str| sandbox.start(name, &mut shell(&sandbox, command));
    let mut receiver = start("receiver", &receiver);
    let relay = start("relay", &relay);
    let sender = start("sender", &sender);
    let picture = sandbox.path("picture.png");
    let complete = || fs::read(&picture).is_ok_and(|bytes| bytes.ends_with(b"IEND\xae\x42\x60\x82"));
    assert!(receiver.wait_for(complete), "{}", receiver.printed());

    let stop = |process: gst_e2ee_tests::process::Running, stats: &str, field: &str| {
        process.interrupt();
        let finished = process.finish().expect_success();
        assert!(finished.printed.contains(stats), "{}", finished.printed);
        assert!(
            number(&finished.printed, &format!(" {field}=(guint64)")) > 0,
            "{}",
            finished.printed
        );
    };
    stop(sender, "sframeenc-stats,", "bytes");
    stop(relay, "sframeguard-stats,", "forwarded");
    stop(receiver, "sframedec-stats,", "bytes");
}

#[test]
fn readme_muxer_writes_video_and_audio_into_one_file() {
    let sandbox = Sandbox::new();
    sandbox.key_file("keys", KEYS);
    let sender = "gst-launch-1.0 -e -m \
         videotestsrc is-live=true ! vp8enc deadline=1 keyframe-max-dist=15 ! sframeenc key-file=keys kid=1 \
         ! rtpsframepay pt=96 ! udpsink host=127.0.0.1 port=5010 \
         audiotestsrc is-live=true ! opusenc ! sframeenc key-file=keys kid=2 \
         ! rtpsframepay pt=97 ! udpsink host=127.0.0.1 port=5014";
    let [muxer, sender] = with_free_ports(
        [readme_command(&["mux.video_0", "mux.audio_0"]), sender.into()],
        &[5010, 5014],
    );
    let mut muxer = sandbox.start("muxer", &mut shell(&sandbox, &muxer));
    let sender = sandbox.start("sender", &mut shell(&sandbox, &sender));
    // A cluster or two.
    let file = sandbox.path("call.mkv");
    assert!(
        muxer.wait_for(|| fs::metadata(&file).is_ok_and(|file| file.len() > 60_000)),
        "{}",
        muxer.printed()
    );
    muxer.interrupt();
    muxer.finish().expect_success();
    sender.interrupt();
    sender.finish().expect_success();
    assert!(frames_in(&sandbox, "call.mkv", "video_0") > 0);
    assert!(frames_in(&sandbox, "call.mkv", "audio_0") > 0);
}

#[test]
fn readme_staging_command_gives_the_plugin_folder() {
    let command = readme_command(&["GST_PLUGIN_PATH=$("]);
    assert_eq!(command, "export GST_PLUGIN_PATH=$(scripts/build | tail -n 1)");
    // Not run: it would build. What it relies on is that the path is printed last.
    let script = fs::read_to_string(root().join("scripts/build")).unwrap();
    assert_eq!(script.trim_end().lines().last(), Some("say \"$plugins\""));
}
