//! compliancesink with real encoders, and gst-compliance, against the server.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret;
use gst::prelude::*;
use gstcompliance::recording::{self, Options as VerifyOptions, State as Is};

use crate::common::{LIMIT, Place, Run};
use crate::server::Server;

const SECRET: &str = "not-a-secret-7f3a";

/// Its presence makes a recorder process: the pipeline.
const PIPELINE: &str = "STORE_PIPELINE";

struct Scene {
    place: Place,
    server: Server,
}

impl Scene {
    fn new(bundles: u32) -> Self {
        Self {
            place: Place::new(bundles),
            server: Server::start(),
        }
    }

    fn spool(&self) -> PathBuf {
        self.place.path("spool")
    }

    /// The properties that bring recordings and log to the store. They stand behind those of a local place.
    fn properties(&self) -> String {
        format!(
            "location=s3://clinic/visits audit-log=s3://clinic/log spool={} store-credentials={} \
             segment-duration=250000000",
            self.spool().display(),
            self.server.settings(true).display()
        )
    }

    /// A live call for so many seconds.
    fn call(&self, more: &str, seconds: u32) -> String {
        format!(
            "{} {more} videotestsrc is-live=true num-buffers={} ! video/x-raw,width=160,height=120,framerate=20/1 ! \
             vp8enc deadline=1 keyframe-max-dist=10 ! rec. audiotestsrc is-live=true num-buffers={} \
             samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=1 ! opusenc ! rec.",
            self.properties(),
            20 * seconds,
            50 * seconds
        )
    }

    /// The recordings of the store, as the spool's receipts tell of them.
    fn receipts(&self) -> Vec<String> {
        let entries = fs::read_dir(self.spool().join("store")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .collect()
    }

    fn in_spool(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.spool().join("recordings"))
            .into_iter()
            .flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// gst-compliance with these words, the store behind no wire.
    fn program(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gst-compliance"))
            .args(words)
            .arg("--store-credentials")
            .arg(self.server.settings(false))
            .env("TMPDIR", self.place.path(""))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// All of it is in the store and verified there.
    fn assert_complete(&self, id: &str) {
        let address = format!("s3://clinic/visits/{id}");
        let output = self.program(&["verify", &address, "--audit-log", "s3://clinic/log"]);
        assert!(text(&output).contains("COMPLETE"), "{}", text(&output));
        assert!(output.status.success());
        let output = self.program(&["audit", "verify", "s3://clinic/log"]);
        assert!(output.status.success(), "{}", text(&output));
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The states that were told of the store.
fn states(run: &Run) -> Vec<String> {
    let told = run.messages("compliance-store");
    told.iter()
        .map(|structure| structure.get::<String>("state").unwrap())
        .collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "{what} did not happen");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_call_goes_to_the_store_and_is_verified_fetched_and_opened_from_there() {
    let scene = Scene::new(1);
    let run = scene.place.launch(&scene.call("", 2));
    run.to_eos();
    let told = run.messages("compliance-store");
    let last = told.last().unwrap();
    assert_eq!(last.get::<String>("state").unwrap(), "ok", "{last}");
    assert_eq!(last.get::<u64>("bytes-pending").unwrap(), 0, "{last}");
    let stats = run.messages("compliancesink-stats").pop().unwrap();
    assert!(stats.get::<u64>("uploaded-bytes").unwrap() > 1000, "{stats}");
    assert_eq!(stats.get::<u64>("pending-bytes").unwrap(), 0, "{stats}");
    assert!(
        !told
            .iter()
            .any(|structure| structure.to_string().contains(SECRET))
    );
    let [id] = &scene.receipts()[..] else {
        panic!("{:?}", scene.receipts())
    };
    assert_eq!(scene.in_spool(), Vec::<PathBuf>::new());
    scene.assert_complete(id);
    let left: Vec<_> = fs::read_dir(scene.place.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().starts_with("gst-compliance-")),
        "{left:?}"
    );

    let out = scene.place.path("fetched");
    let address = format!("s3://clinic/visits/{id}");
    let output = scene.program(&["fetch", &address, "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        recording::verify(&out, &VerifyOptions::default()).unwrap().state,
        Is::Complete
    );
    assert_eq!(scene.place.open(&out).len(), 2);
    // Through the log, which is the recorder's.
    let identity = scene.place.path("identity");
    fs::write(&identity, scene.place.recipient.to_string().expose_secret()).unwrap();
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).unwrap();
    let opened = Command::new(env!("CARGO_BIN_EXE_gst-compliance"))
        .arg("open")
        .arg(&out)
        .args(["--reader", "r", "--reason", "test", "--ticket", "t"])
        .arg("--identity")
        .arg(&identity)
        .arg("--audit-log")
        .arg(scene.spool().join("audit-log"))
        .arg("--out")
        .arg(scene.place.path("opened"))
        .output()
        .unwrap();
    assert!(opened.status.success(), "{}", text(&opened));
    let output = scene.program(&[
        "fetch",
        "s3://clinic/log",
        "--out",
        scene.place.path("its-log").to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(scene.place.path("its-log/log").exists() && !scene.place.path("its-log/key").exists());
}

#[test]
fn a_call_goes_on_while_the_store_is_away_and_the_store_catches_up() {
    let scene = Scene::new(1);
    let run = scene.place.launch(&scene.call("", 8));
    run.play();
    run.wait("segments", |run| run.messages("compliance-segment").len() > 4);
    run.wait("something in the store", |run| run.stat("uploaded-bytes") > 0);
    scene.server.wire.cut();
    run.wait("the outage", |run| {
        states(run).last().is_some_and(|state| state == "away")
    });
    let away = run.messages("compliance-store").pop().unwrap();
    assert!(!away.get::<String>("reason").unwrap().is_empty(), "{away}");
    let segments = run.messages("compliance-segment").len();
    run.wait("more segments", |run| {
        run.messages("compliance-segment").len() > segments + 4
    });
    assert!(run.stat("upload-errors") > 0);
    scene.server.wire.mend();
    run.wait("the store's return", |run| {
        states(run).last().is_some_and(|state| state == "ok")
    });
    run.to_eos();
    assert_eq!(run.messages("compliance-gap").len(), 0);
    let [id] = &scene.receipts()[..] else {
        panic!("{:?}", run.messages("compliance-store").last())
    };
    scene.assert_complete(id);
}

/// A recorder in a process of its own, which can be killed. As a test it does nothing.
#[test]
fn recorder_process() {
    let Ok(pipeline) = std::env::var(PIPELINE) else {
        return;
    };
    let run = Run::new(&pipeline);
    run.play();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap());
        while !reading.is_finished() {
            assert_eq!(run.error(), None);
            sleep(Duration::from_millis(10));
        }
    });
    run.pipeline.send_event(gst::event::Eos::new());
    run.wait("end of stream", |run| run.has(gst::MessageType::Eos));
    run.stop();
    std::io::stdout().flush().unwrap();
}

fn process(pipeline: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "recorders::recorder_process", "--nocapture"])
        .env(PIPELINE, pipeline)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_recorder_that_is_killed_while_the_store_is_away_comes_back_and_loses_nothing_that_was_sealed() {
    let scene = Scene::new(2);
    let pipeline = format!(
        "compliancesink name=rec require-room=false {} {}",
        scene.place.properties(),
        scene.call("", 1000)
    );
    let manifest = || {
        scene
            .in_spool()
            .first()
            .and_then(|path| fs::metadata(path.join("manifest")).ok())
            .map_or(0, |of| of.len())
    };
    let mut child = process(&pipeline);
    until("something in the store", || {
        scene.server.wire.passed() > 20_000 && manifest() > 3000
    });
    scene.server.wire.cut();
    let before = manifest();
    until("more in the spool", || manifest() > before + 4000);
    child.kill().unwrap();
    child.wait().unwrap();
    let path = scene.in_spool().pop().unwrap();
    let sealed = recording::verify(&path, &VerifyOptions::default()).unwrap();
    assert_eq!(sealed.state, Is::Unfinished);

    let mut child = process(&pipeline);
    let before = manifest();
    until("the recording goes on", || manifest() > before + 4000);
    scene.server.wire.mend();
    drop(child.stdin.take());
    let mut ended = None;
    until("its end", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success());
    let [id] = &scene.receipts()[..] else {
        panic!("{:?}", scene.in_spool())
    };
    assert_eq!(
        path.file_name().unwrap().to_str(),
        Some(id.as_str()),
        "it is one recording"
    );
    scene.assert_complete(id);
    let out = scene.place.path("out");
    let address = format!("s3://clinic/visits/{id}");
    assert!(
        scene
            .program(&["fetch", &address, "--out", out.to_str().unwrap()])
            .status
            .success()
    );
    let report = recording::verify(&out, &VerifyOptions::default()).unwrap();
    assert_eq!(report.resumed, 1);
    for (then, now) in sealed.tracks.iter().zip(&report.tracks) {
        assert_eq!((then.good, then.to_ns), (now.good, now.to_ns), "{}", then.track);
    }
}

#[test]
fn a_full_spool_ends_the_recording_cleanly_and_a_new_one_waits_for_room() {
    let scene = Scene::new(2);
    scene.server.wire.cut();
    let run = scene
        .place
        .launch(&scene.call("spool-max-bytes=60000 store-wait=0", 1000));
    run.play();
    run.wait("the failure", |run| !run.messages("compliance-failed").is_empty());
    let failed = run.messages("compliance-failed").pop().unwrap();
    assert_eq!(failed.get::<String>("cause").unwrap(), "spool-full");
    let reason = failed.get::<String>("reason").unwrap();
    assert!(
        reason.contains("spool-max-bytes is 60000") && reason.contains("cannot be reached"),
        "{reason}"
    );
    run.wait("the error", |run| run.error().is_some());
    run.stop();
    let [path] = &scene.in_spool()[..] else {
        panic!("{:?}", scene.in_spool())
    };
    let report = recording::verify(path, &VerifyOptions::default()).unwrap();
    assert_eq!(report.state, Is::Complete, "{:?}", report.damages);
    assert_eq!(report.end.unwrap().1, "spool-full");

    // Another one begins only when there is room, and takes no key before.
    let run = scene.place.launch(&scene.call("spool-max-bytes=60000", 1000));
    run.play();
    run.wait("the pause", |run| !run.messages("compliance-paused").is_empty());
    let paused = run.messages("compliance-paused").pop().unwrap();
    assert_eq!(paused.get::<String>("cause").unwrap(), "spool-full");
    assert_eq!(scene.in_spool().len(), 1);
    scene.server.wire.mend();
    run.wait("the start", |run| !run.messages("compliance-started").is_empty());
    run.stop();
    assert_eq!(
        scene.receipts().len(),
        2,
        "{:?}",
        run.messages("compliance-store").last()
    );
    for id in scene.receipts() {
        scene.assert_complete(&id);
    }
}

#[test]
fn what_a_recorder_left_in_its_spool_is_uploaded_without_one() {
    let scene = Scene::new(1);
    scene.server.wire.cut();
    scene.place.launch(&scene.call("store-wait=0", 1)).to_eos();
    let [path] = &scene.in_spool()[..] else {
        panic!("{:?}", scene.in_spool())
    };
    let id = path.file_name().unwrap().to_str().unwrap().to_owned();
    let spool = scene.spool();
    let words = [
        "upload",
        spool.to_str().unwrap(),
        "--location",
        "s3://clinic/visits",
        "--audit-log",
        "s3://clinic/log",
    ];
    let mut elsewhere = words;
    elsewhere[3] = "s3://clinic/elsewhere";
    let output = scene.program(&elsewhere);
    assert!(
        !output.status.success() && text(&output).contains("another spool"),
        "{}",
        text(&output)
    );
    let output = scene.program(&words);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(scene.receipts(), std::slice::from_ref(&id));
    scene.assert_complete(&id);
    let output = scene.program(&[
        "upload",
        scene.place.path("keys").to_str().unwrap(),
        "--location",
        "s3://clinic/visits",
    ]);
    assert!(
        !output.status.success() && text(&output).contains("is no spool"),
        "{}",
        text(&output)
    );
}

#[test]
fn two_recorders_share_a_spool_and_each_has_its_recording() {
    let scene = Scene::new(2);
    let runs = [0, 1].map(|_| scene.place.launch(&scene.call("", 2)));
    for run in &runs {
        run.play();
    }
    for run in &runs {
        run.wait("end of stream", |run| {
            assert_eq!(run.error(), None);
            run.has(gst::MessageType::Eos)
        });
    }
    for run in &runs {
        run.stop();
    }
    assert_eq!(
        scene.receipts().len(),
        2,
        "{:?}",
        runs[1].messages("compliance-store").last()
    );
    for id in scene.receipts() {
        scene.assert_complete(&id);
    }
}

#[test]
fn a_store_that_refuses_is_told_and_the_recording_goes_on_in_the_spool() {
    let scene = Scene::new(1);
    let run = scene
        .place
        .launch(&scene.call("location=s3://nobodys-bucket/visits store-wait=0", 1000));
    run.play();
    run.wait("the refusal", |run| {
        states(run).last().is_some_and(|state| state == "failed")
    });
    let told = run.messages("compliance-store").pop().unwrap();
    let reason = told.get::<String>("reason").unwrap();
    assert!(
        reason.contains("NoSuchBucket") && !reason.contains(SECRET),
        "{reason}"
    );
    let segments = run.messages("compliance-segment").len();
    run.wait("more segments", |run| {
        run.messages("compliance-segment").len() > segments + 4
    });
    assert_eq!(run.error(), None);
    run.stop();
    let [path] = &scene.in_spool()[..] else {
        panic!("{:?}", scene.in_spool())
    };
    assert_eq!(
        recording::verify(path, &VerifyOptions::default()).unwrap().state,
        Is::Complete
    );
}

#[test]
fn a_profile_of_the_aws_tools_says_who_one_is_and_nothing_tells_its_secret() {
    let scene = Scene::new(1);
    scene.place.launch(&scene.call("", 1)).to_eos();
    let id = scene.receipts().pop().unwrap();
    let home = scene.place.path("home");
    fs::create_dir_all(home.join(".aws")).unwrap();
    let write = |name: &str, text: &str| {
        let path = home.join(".aws").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let verify = |port: u16, profile: &str| {
        write(
            "config",
            &format!("[profile clinic]\nregion = us-east-1\nendpoint_url = http://127.0.0.1:{port}\n"),
        );
        let output = Command::new(env!("CARGO_BIN_EXE_gst-compliance"))
            .args(["verify", &format!("s3://clinic/visits/{id}")])
            .env_clear()
            .env("HOME", &home)
            .env("TMPDIR", scene.place.path(""))
            .env("AWS_PROFILE", profile)
            .env("RUST_LOG", "trace")
            .output()
            .unwrap();
        assert!(!text(&output).contains(SECRET), "{}", text(&output));
        (output.status.success(), text(&output))
    };
    write(
        "credentials",
        &format!("[clinic]\naws_access_key_id = recorder\naws_secret_access_key = {SECRET}\n"),
    );
    let (is_good, said) = verify(scene.server.port, "clinic");
    assert!(is_good && said.contains("COMPLETE"), "{said}");
    let (is_good, said) = verify(scene.server.port, "nobody");
    assert!(!is_good && said.contains("no profile"), "{said}");
    scene.server.wire.cut();
    let (is_good, said) = verify(scene.server.wire.port, "clinic");
    assert!(!is_good && said.contains("cannot be reached"), "{said}");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_recorded() {
    let scene = Scene::new(1);
    let credentials = scene.server.settings(true);
    let open = scene.place.path("open-to-all");
    fs::write(&open, "AWS_REGION=x").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let spool = format!("spool={}", scene.spool().display());
    let given = format!("{spool} store-credentials={}", credentials.display());
    for (properties, expected) in [
        ("location=s3://clinic/visits".to_owned(), "set spool"),
        ("audit-log=s3://clinic/log".to_owned(), "set spool"),
        (format!("location=s3://clinic {given}"), "location: "),
        (format!("audit-log=s3://clinic//x {given}"), "audit-log: "),
        (
            "key-location=s3://clinic/keys".to_owned(),
            "key-location is for recordings in a store",
        ),
        (
            "store-lock=compliance".to_owned(),
            "store-lock is for recordings in a store",
        ),
        (
            format!("location=s3://clinic/visits key-location=/tmp {given}"),
            "set key-location",
        ),
        (
            format!("location=s3://clinic/visits {spool} store-credentials=/nowhere"),
            "/nowhere",
        ),
        (
            format!(
                "location=s3://clinic/visits {spool} store-credentials={}",
                open.display()
            ),
            "chmod 600",
        ),
    ] {
        let run = scene
            .place
            .paused_recorder(&format!("require-room=false {properties}"));
        assert!(
            run.pipeline.set_state(gst::State::Playing).is_err(),
            "{properties}"
        );
        let error = run.error().unwrap();
        assert!(error.contains(expected), "{properties}: {error}");
    }
    assert!(scene.in_spool().is_empty());
}

#[test]
fn what_was_changed_in_the_store_is_named_by_its_object() {
    let scene = Scene::new(1);
    scene.place.launch(&scene.call("", 3)).to_eos();
    let id = scene.receipts().pop().unwrap();
    let media = scene.server.bucket(&"s3://clinic/visits".parse().unwrap());
    let objects = gstcompliance::store::wait(async { media.list(&id, 1000).await }).unwrap();
    let object = objects
        .iter()
        .find(|object| object.name.contains("/tracks/"))
        .unwrap();
    let url = format!("s3://clinic/visits/{}", object.name);
    let mut content = scene.server.content(&url);
    content[700] ^= 1;
    scene.server.replace(&url, &content);
    let output = scene.program(&["verify", &format!("s3://clinic/visits/{id}")]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("DAMAGED") && said.contains(&url), "{said}");
    let output = scene.program(&["verify", "--json", &format!("s3://clinic/visits/{id}")]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["state"], "damaged");
    assert!(report["store"][0].as_str().unwrap().contains(&url), "{report}");

    // Cut off where a line ends it looks unfinished, and the log knows better.
    content[700] ^= 1;
    scene.server.replace(&url, &content);
    scene.assert_complete(&id);
    let last = objects.iter().rfind(|object| object.name.contains("/manifest/"));
    scene
        .server
        .remove(&format!("s3://clinic/visits/{}", last.unwrap().name));
    let address = format!("s3://clinic/visits/{id}");
    let said = text(&scene.program(&["verify", &address]));
    assert!(said.contains("is unfinished"), "{said}");
    let said = text(&scene.program(&["verify", &address, "--audit-log", "s3://clinic/log"]));
    assert!(said.contains("DAMAGED"), "{said}");
}
