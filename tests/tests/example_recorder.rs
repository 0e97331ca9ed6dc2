//! The recorder service in `examples/python`: four rooms in one process. One is recorded until the service is told to stop,
//! one removes its recorder, one has another consent than the recorder was given, and one cannot even start.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::clinic::{Clinic, Party, Ring};
use gst_e2ee_tests::consult::free_ports;
use gst_e2ee_tests::process::{Running, Sandbox, staged_plugins};
use gst_e2ee_tests::readme::root;
use gstcompliance::audit;
use gstcompliance::recording::{self, Options};
use gstmls::identity::Role;
use serde_json::{Value, json};
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

/// What one room's participant needs: the two ports of each of its two streams.
struct Ports {
    video: u16,
    audio: u16,
}

struct Service {
    sandbox: Sandbox,
    clinic: Clinic,
    recipient: String,
}

impl Service {
    fn new() -> Self {
        let (sandbox, clinic) = (Sandbox::new(), Clinic::new());
        clinic.issue("recorder", &[Role::Recorder]);
        let key = age::x25519::Identity::generate();
        fs::write(sandbox.path("recipients"), format!("{}\n", key.to_public())).unwrap();
        let mut service = Self {
            sandbox,
            clinic,
            recipient: String::new(),
        };
        let keys =
            service.tool("keys prepare --recipients recipients --count 3 --dealer-key dealer.key --out keys");
        let (_, named) = keys.split_once("recipients").unwrap();
        let mut words = named.split(|c: char| !c.is_ascii_hexdigit());
        service.recipient = words.find(|word| word.len() == 64).unwrap().to_owned();
        service
    }

    /// Runs `gst-compliance`.
    fn tool(&self, words: &str) -> String {
        let mut command = self
            .sandbox
            .command(staged_plugins().join("../bin/gst-compliance"));
        command.args(words.split(' '));
        self.sandbox.run("tool", &mut command).expect_success().printed
    }

    /// A patient's consent; gives the reference that a policy has to it.
    fn consent(&self, patient: &str) -> String {
        let consent = fs::read_to_string(root().join("pipelines/recording/consent.json")).unwrap();
        let file = format!("{patient}.json");
        fs::write(
            self.sandbox.path(&file),
            consent.replace("Patient/example", patient),
        )
        .unwrap();
        self.tool(&format!("consent {file}")).trim().to_owned()
    }

    /// A room with one participant, who opened it and sends.
    fn room(&self, room: &str, by: &str, consent: &str, ports: &Ports) -> Party {
        let policy = json!({
            "claim": "recorded",
            "admit": [
                { "role": "participant", "root": "ROOT" },
                { "role": "recorder", "root": "ROOT", "subject": "recorder" },
            ],
            "rights": { "remove": "participants", "recording": "participants" },
            "recipients": [self.recipient],
            "consent": consent,
        });
        let policy = self.clinic.policy(&format!("{room}.policy"), &policy.to_string());
        let keyring = self
            .clinic
            .keyring(by, &format!("create=true accept=recorded policy-file={policy}"))
            .replacen("room=visit ", &format!("room={room} "), 1);
        let Ports { video, audio } = ports;
        // Some packets are lost on the way, for which the recording has gaps.
        Party::start(&format!(
            "{keyring} videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=30/1 \
             ! vp8enc deadline=1 keyframe-max-dist=15 ! sframeenc ! rtpsframepay pt=96 \
             ! identity drop-probability=0.03 ! udpsink host=127.0.0.1 port={video} async=false \
             audiotestsrc is-live=true ! opusenc ! sframeenc ! rtpsframepay pt=97 \
             ! udpsink host=127.0.0.1 port={audio} async=false"
        ))
    }

    fn path_of(&self, name: &str) -> String {
        self.clinic.path(name).display().to_string()
    }

    /// What `recorder.json` says of a room.
    fn configured(&self, room: &str, consent: &str, ports: &Ports, answers: &UdpSocket) -> Value {
        let answers = answers.local_addr().unwrap().to_string();
        json!({
            "room": room,
            "consent": format!("{consent}.json"),
            "delivery": format!("sqlite:{}", self.path_of("log")),
            "streams": [
                { "media": "video", "port": ports.video, "rtcp-to": answers },
                { "media": "audio", "port": ports.audio, "rtcp-to": answers },
            ],
        })
    }

    fn start(&self, rooms: &[Value]) -> Running {
        let config = json!({
            "certificate": self.path_of("recorder.pem"),
            "private-key": self.path_of("recorder.key"),
            "ca": self.path_of("ca.pem"),
            "keys": "keys",
            "audit-log": "audit",
            "recordings": "recordings",
            "rooms": rooms,
        });
        fs::write(self.sandbox.path("recorder.json"), config.to_string()).unwrap();
        let script = root().join("examples/python/recorder_service.py");
        let mut command = self.sandbox.python(script.to_str().unwrap());
        command.arg("recorder.json").env("G_DEBUG", "fatal-criticals");
        self.sandbox.start("service", &mut command)
    }

    /// How many facts a recording's manifest has, of which each segment is one.
    fn facts_of(&self, recording: &str) -> usize {
        let manifest = self.sandbox.path("recordings").join(recording).join("manifest");
        fs::read_to_string(manifest).map_or(0, |manifest| manifest.lines().count())
    }
}

/// What was said of a room so far, in these words.
fn said(printed: &str, room: &str, what: &str) -> Vec<Value> {
    printed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|said| said["room"] == room && said["said"] == what)
        .collect()
}

fn wait_for(running: &mut Running, what: &str, so: impl Fn(&str) -> bool) {
    assert!(running.wait_for_print(so), "{what}: {}", running.printed());
}

fn state_of(recording: &Path) -> recording::State {
    recording::verify(recording, &Options::default()).unwrap().state
}

#[test]
fn a_service_records_several_rooms_and_what_ends_one_does_not_touch_the_others() {
    let service = Service::new();
    let consents = ["patient-1", "patient-2", "patient-3"].map(|patient| service.consent(patient));
    let answers = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ports = [(); 3].map(|()| Ports {
        video: free_ports(2),
        audio: free_ports(2),
    });
    let parties = [
        service.room("visit-1", "anna", &consents[0], &ports[0]),
        service.room("visit-2", "ben", &consents[1], &ports[1]),
        service.room("visit-3", "carla", &consents[2], &ports[2]),
    ];
    let rings: Vec<Ring> = parties
        .iter()
        .zip(["anna", "ben", "carla"])
        .map(|(party, name)| party.keyring(name))
        .collect();
    let mut rooms = vec![
        service.configured("visit-1", "patient-1", &ports[0], &answers),
        service.configured("visit-2", "patient-2", &ports[1], &answers),
        // Somebody else's consent.
        service.configured("visit-3", "patient-1", &ports[2], &answers),
    ];
    let spare = Ports {
        video: free_ports(2),
        audio: free_ports(2),
    };
    let mut broken = service.configured("visit-4", "patient-1", &spare, &answers);
    broken["certificate"] = "not-there.pem".into();
    rooms.insert(0, broken);
    let mut recorder = service.start(&rooms);

    // The one that cannot start is over at once.
    wait_for(&mut recorder, "an error", |printed| {
        let ended = said(printed, "visit-4", "ended-error");
        ended
            .iter()
            .any(|end| end["reason"].as_str().unwrap().contains("not-there.pem"))
    });

    // The others let the recorder in, and it records those whose consent it has.
    for ring in &rings {
        assert!(
            recorder.wait_for(|| ring.is_ready() && ring.recorders() == ["recorder"]),
            "{}",
            recorder.printed()
        );
        assert!(ring.act("set-recording", &[&true]));
    }
    wait_for(&mut recorder, "a refusal", |printed| {
        let paused = said(printed, "visit-3", "compliance-paused");
        paused.iter().any(|pause| pause["cause"] == "consent-other")
    });
    let mut recordings = Vec::new();
    for room in ["visit-1", "visit-2"] {
        wait_for(&mut recorder, "a start", |printed| {
            !said(printed, room, "compliance-started").is_empty()
        });
        let started = said(&recorder.printed(), room, "compliance-started");
        let id = started[0]["recording-id"].as_str().unwrap().to_owned();
        assert!(
            recorder.wait_for(|| service.facts_of(&id) > 6),
            "{}",
            recorder.printed()
        );
        recordings.push(id);
    }
    wait_for(&mut recorder, "a gap", |printed| {
        let gaps = said(printed, "visit-1", "compliance-gap");
        gaps.iter().any(|gap| gap["cause"] == "lost-upstream")
    });

    // One room removes its recorder: its recording is complete, the other one goes on.
    assert!(rings[1].act("remove-member", &[&"recorder"]));
    wait_for(&mut recorder, "an end", |printed| {
        !said(printed, "visit-2", "ended-removed").is_empty()
    });
    let folder = |id: &str| -> PathBuf { service.sandbox.path("recordings").join(id) };
    assert_eq!(state_of(&folder(&recordings[1])), recording::State::Complete);
    let before = service.facts_of(&recordings[0]);
    assert!(
        recorder.wait_for(|| service.facts_of(&recordings[0]) > before + 2),
        "{}",
        recorder.printed()
    );
    assert_ne!(state_of(&folder(&recordings[0])), recording::State::Complete);

    // The end, as a service manager brings it.
    recorder.terminate();
    let ended = recorder.finish().expect_refusal(&["ended by an error: visit-4"]);
    for word in ["CRITICAL", "Traceback"] {
        assert!(!ended.printed.contains(word), "{}", ended.printed);
    }
    assert_eq!(state_of(&folder(&recordings[0])), recording::State::Complete);
    for (room, how, recording) in [
        ("visit-1", "ended-stopped", &*recordings[0]),
        ("visit-2", "ended-removed", &recordings[1]),
        ("visit-3", "ended-stopped", ""),
    ] {
        let ends = said(&ended.printed, room, how);
        assert_eq!(ends.len(), 1, "{}", ended.printed);
        assert_eq!(ends[0]["recording"], recording);
        assert_eq!(
            ends[0]["frames"].as_u64().unwrap() > 0,
            !recording.is_empty(),
            "{}",
            ends[0]
        );
    }
    let made = fs::read_dir(service.sandbox.path("recordings")).unwrap().count();
    assert_eq!(made, 2, "nothing of the room whose consent was another one");
    let log = audit::verify(&service.sandbox.path("audit"), &audit::VerifyOptions::default()).unwrap();
    assert!(log.damages.is_empty(), "{log:#?}");
    // Who stops leaves, and everybody sees it.
    let left = || rings.iter().all(|ring| ring.recorders().is_empty());
    gst_e2ee_tests::clinic::until(&service.clinic, &[], "the recorder has left", left);
}
