//! Members of a call that are killed at any moment: they come back by themselves, in one history with the others, and
//! nothing is ever sealed twice under the same key, KID and counter.
//!
//! Each member is a process of this test program: it writes down every frame before it goes out. Ten kills; more by
//! `GST_E2EE_KILLS=200`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst::prelude::*;
use gst_e2ee_common::key_source::{CONTEXT_FIELD, KeySource, context_type};
use gst_e2ee_common::meta::SFrameMeta;
use gst_e2ee_tests::clinic::{Clinic, Party};
use gst_e2ee_tests::pipeline::Seen;
use gst_e2ee_tests::process::{Running, Sandbox};
use gstmls::control::{self, Query, Reply, Request};
use gstmls::room::{Command, State, Status};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const NAMES: [&str; 3] = ["anna", "ben", "carl"];
const LIMIT: Duration = Duration::from_secs(45);
const OPUS: &str = "audiotestsrc is-live=true samplesperbuffer=480 ! audio/x-raw,rate=48000,channels=1 ! \
                    opusenc frame-size=10";
const RTP: &str = "application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=96";

/// One write for each line, so that a kill leaves whole ones.
fn note(notes: &Mutex<File>, line: &str) {
    notes.lock().unwrap().write_all(line.as_bytes()).unwrap();
}

/// The member's process; does nothing in a run of all tests.
#[test]
fn member() {
    let (Ok(description), Ok(path)) = (std::env::var("ROOM_PIPELINE"), std::env::var("ROOM_NOTES")) else {
        return;
    };
    let notes = OpenOptions::new().append(true).create(true).open(path).unwrap();
    let notes = Arc::new(Mutex::new(notes));
    let party = Party::new(&description);
    let enc = party.element("enc");
    let to = notes.clone();
    enc.static_pad("src")
        .unwrap()
        .add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let Some(gst::PadProbeData::Buffer(buffer)) = &info.data {
                let header = Seen::of(buffer).header();
                let stats = pad.parent_element().unwrap().property::<gst::Structure>("stats");
                assert_eq!(stats.get::<u64>("kid").unwrap(), header.kid);
                let epoch = stats.get::<u64>("epoch").unwrap();
                note(&to, &format!("sealed {epoch} {} {}\n", header.kid, header.ctr));
            }
            gst::PadProbeReturn::Ok
        });
    let keyring = party.element("keyring");
    let decs = party.pipeline().iterate_elements().into_iter().flatten();
    for dec in decs.filter(|e| e.factory().is_some_and(|f| f.name() == "sframedec")) {
        let (to, keyring) = (notes.clone(), keyring.clone());
        dec.static_pad("src")
            .unwrap()
            .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let Some(gst::PadProbeData::Buffer(buffer)) = &info.data else {
                    return gst::PadProbeReturn::Ok;
                };
                let meta = SFrameMeta::of(buffer).unwrap();
                let context = keyring.context(&context_type("default")).unwrap();
                let object = context.structure().get::<gst::Object>(CONTEXT_FIELD).unwrap();
                let key = KeySource::new(object).unwrap().receiver_key(meta.kid).unwrap();
                // It may have expired between the frame and this question.
                if let Some(key) = key.filter(|key| key.epoch == meta.epoch) {
                    let digest = ring::digest::digest(&ring::digest::SHA256, &key.base_key);
                    let hash: String = digest.as_ref()[..16].iter().map(|b| format!("{b:02x}")).collect();
                    note(
                        &to,
                        &format!("opened {} {} {} {hash}\n", meta.epoch, meta.kid, meta.sender),
                    );
                }
                gst::PadProbeReturn::Ok
            });
    }
    party.play();
    let started = Instant::now();
    while party.errors().is_empty() && started.elapsed() < Duration::from_secs(600) {
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{:?}", party.errors());
}

/// The three, and what they need to be started again.
struct Call {
    clinic: Clinic,
    sandbox: Sandbox,
    ports: HashMap<(usize, usize), u16>,
    running: Vec<Option<Running>>,
    starts: usize,
}

impl Call {
    fn new() -> Self {
        let clinic = Clinic::new();
        // All are held until each is known, so that no two are the same.
        let sockets: HashMap<_, _> = (0..NAMES.len())
            .flat_map(|from| (0..NAMES.len()).map(move |to| (from, to)))
            .filter(|(from, to)| from != to)
            .map(|pair| (pair, UdpSocket::bind("127.0.0.1:0").unwrap()))
            .collect();
        let ports = sockets
            .iter()
            .map(|(pair, socket)| (*pair, socket.local_addr().unwrap().port()))
            .collect();
        Self {
            clinic,
            sandbox: Sandbox::bare(),
            ports,
            running: NAMES.iter().map(|_| None).collect(),
            starts: 0,
        }
    }

    fn socket(&self, who: usize) -> PathBuf {
        self.clinic.path(&format!("{}.socket", NAMES[who]))
    }

    fn notes(&self, who: usize) -> PathBuf {
        self.clinic.path(&format!("{}.notes", NAMES[who]))
    }

    fn start(&mut self, who: usize) {
        let id = NAMES[who];
        let socket = self.socket(who);
        let more = format!("name=keyring control-socket={} ", socket.display());
        let keyring = if who == 0 {
            self.clinic.creator(id, &more)
        } else {
            self.clinic.keyring(id, &more)
        };
        let keyring = keyring.replacen(&format!("name={id} "), "", 1);
        let others: Vec<_> = (0..NAMES.len()).filter(|other| *other != who).collect();
        let clients: Vec<_> = others
            .iter()
            .map(|other| format!("127.0.0.1:{}", self.ports[&(who, *other)]))
            .collect();
        let mut description = format!(
            "{keyring} {OPUS} ! sframeenc name=enc ! rtpsframepay pt=96 ! \
             multiudpsink clients={} sync=false async=false",
            clients.join(",")
        );
        for other in others {
            let port = self.ports[&(other, who)];
            description += &format!(
                " udpsrc address=127.0.0.1 port={port} caps=\"{RTP}\" ! rtpsframedepay ! sframedec ! \
                 fakesink sync=false async=false"
            );
        }
        self.starts += 1;
        let mut command = self.sandbox.bare_command(std::env::current_exe().unwrap());
        command
            .args(["--exact", "member", "--nocapture"])
            .env("ROOM_PIPELINE", description)
            .env("ROOM_NOTES", self.notes(who));
        let name = format!("{id}-{}", self.starts);
        self.running[who] = Some(self.sandbox.start(&name, &mut command));
    }

    fn kill(&mut self, who: usize) {
        let finished = self.running[who].take().unwrap().kill();
        assert!(!finished.printed.contains("panicked"), "{}", finished.printed);
    }

    fn ask(&self, who: usize, request: &Request) -> Option<Reply> {
        control::ask(&self.socket(who), request).ok()
    }

    fn status(&self, who: usize) -> Option<Status> {
        match self.ask(who, &Request::Ask(Query::Status))? {
            Reply::Ok(value) => serde_json::from_value(value).ok(),
            Reply::Error(_) => None,
        }
    }

    /// The posture report that it makes now is genuine and says what its status says, unless that just changes.
    fn check_posture(&self, who: usize) {
        let before = self.status(who);
        let Some(Reply::Ok(report)) = self.ask(who, &Request::Ask(Query::Posture { nonce: None })) else {
            panic!("{} makes no posture report", NAMES[who]);
        };
        let (Some(status), after) = (&before, self.status(who)) else {
            panic!("{} has no status", NAMES[who]);
        };
        if after.is_some_and(|after| after.epoch_code == status.epoch_code && after.state == status.state) {
            let report = self.clinic.verify(report.to_string().as_bytes()).unwrap();
            let holders: Vec<_> = report.key_holders.iter().map(|holder| &holder.id).collect();
            let members: Vec<_> = status.members.iter().map(|member| &member.id).collect();
            assert_eq!(
                (report.epoch, &report.epoch_code),
                (status.epoch, &status.epoch_code)
            );
            assert_eq!(holders, members);
            assert_eq!(report.signer.id, NAMES[who]);
        }
    }

    /// Waits until all three are ready in one epoch; gives it.
    fn agree(&mut self, after: &str) -> u64 {
        let end = Instant::now() + LIMIT;
        loop {
            let all: Vec<_> = (0..NAMES.len()).map(|who| self.status(who)).collect();
            let well: Vec<_> = all.iter().flatten().collect();
            let together = well.len() == NAMES.len()
                && well.iter().all(|status| {
                    status.state == State::Ready
                        && status.members.len() == NAMES.len()
                        && status.epoch_code == well[0].epoch_code
                });
            if together {
                let epoch = well[0].epoch;
                (0..NAMES.len()).for_each(|who| self.check_posture(who));
                return epoch;
            }
            if Instant::now() > end {
                let printed: Vec<_> = self.running.iter().flatten().map(Running::printed).collect();
                panic!("after {after}: {all:#?}\n{printed:#?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Every sealed frame of all lives, and which base key (its hash) each epoch had.
fn check(call: &Call) -> (usize, usize) {
    let mut sealed = BTreeSet::new();
    let mut frames = 0;
    let mut keys: BTreeMap<u64, String> = BTreeMap::new();
    for who in 0..NAMES.len() {
        let text = fs::read_to_string(call.notes(who)).unwrap();
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["sealed", epoch, kid, ctr] => {
                    frames += 1;
                    let triple = [epoch, kid, ctr].map(|word| word.parse::<u64>().unwrap());
                    assert!(
                        sealed.insert(triple),
                        "sealed twice: epoch {epoch}, KID {kid}, CTR {ctr}"
                    );
                }
                ["opened", epoch, _, _, hash] => {
                    let known = keys.entry(epoch.parse().unwrap()).or_insert_with(|| hash.into());
                    assert_eq!(known, hash, "two keys in epoch {epoch}");
                }
                _ => panic!("{line:?}"),
            }
        }
    }
    let distinct: BTreeSet<_> = keys.values().collect();
    assert_eq!(distinct.len(), keys.len(), "one key in two epochs");
    (frames, keys.len())
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[test]
fn who_is_killed_comes_back_and_nothing_is_sealed_twice() {
    let kills = std::env::var("GST_E2EE_KILLS").map_or(10, |text| text.parse::<usize>().unwrap());
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("{kills} kills, seed {seed}");
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut call = Call::new();
    for who in 0..NAMES.len() {
        call.start(who);
    }
    call.agree("the first start");
    for kill in 0..kills {
        let who = random(NAMES.len() as u64) as usize;
        // While commits are made, or media flows; some at once after the start, in the middle of coming back.
        let wishes = random(3) as usize;
        let sockets: Vec<_> = (0..wishes)
            .map(|n| call.socket((who + n) % NAMES.len()))
            .collect();
        let askers: Vec<_> = sockets
            .into_iter()
            .map(|socket| {
                std::thread::spawn(move || drop(control::ask(&socket, &Request::Room(Command::Rekey))))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(random(60)));
        call.kill(who);
        call.start(who);
        let mut how = format!("kill {kill} of {}", NAMES[who]);
        if kill % 3 == 2 {
            std::thread::sleep(Duration::from_millis(random(400)));
            call.kill(who);
            call.start(who);
            how += ", twice";
        }
        call.agree(&how);
        for asker in askers {
            asker.join().unwrap();
        }
    }
    // Media of each to each goes on in the last epoch.
    let epoch = call.agree("the end");
    let end = Instant::now() + LIMIT;
    for (from, to) in call.ports.keys() {
        let path = call.notes(*to);
        let (begins, sender) = (format!("opened {epoch} "), format!(" {} ", NAMES[*from]));
        while !fs::read_to_string(&path)
            .unwrap()
            .lines()
            .any(|line| line.starts_with(&begins) && line.contains(&sender))
        {
            assert!(
                Instant::now() < end,
                "{} opens nothing of {}",
                NAMES[*to],
                NAMES[*from]
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    for who in 0..NAMES.len() {
        assert!(size(&call.notes(who)) > 0);
        call.kill(who);
    }
    let (frames, epochs) = check(&call);
    println!(
        "{frames} frames sealed in {} lives, {epochs} epochs, nothing twice",
        call.starts
    );
    assert!(frames > 100 && epochs > kills);
}
