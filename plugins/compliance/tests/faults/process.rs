//! A recorder in a process of its own, which can be killed. The test binary runs itself; what the process does it is told
//! by its environment and by lines on its standard input, and what it did it notes, a line for each frame.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstcompliance::compliancesink::ComplianceSink;

use crate::common::disk::{Trouble, Troubled};
use crate::common::feed::{Feed, OPUS, VP8, delta, frame, opened};
use crate::common::{self, LIMIT, Place, Run};
use crate::together::Director;

/// Its presence makes a recorder process: description of the element.
const ELEMENT: &str = "FAULTS_ELEMENT";
const NOTES: &str = "FAULTS_NOTES";
const LIFE: &str = "FAULTS_LIFE";
/// Its presence puts the recorder into a room whose recording goes on and off: a seed.
pub const ROOM: &str = "FAULTS_ROOM";
pub const CONSENT: &str = "FAULTS_CONSENT";
pub const RECIPIENT: &str = "FAULTS_RECIPIENT";

/// Begins each frame.
pub const CANARY: &str = "PLAINTEXT-CANARY-7f3a";

/// A frame every so many milliseconds; every second time there is a picture, too.
pub const PERIOD: u64 = 20;

/// A frame, as its content says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub life: u64,
    pub medium: String,
    pub number: u64,
    /// May it be kept: `on`, `maybe`, `never`?
    pub label: String,
}

/// What a frame says.
pub fn sent(frame: &[u8]) -> Sent {
    let text = std::str::from_utf8(frame).unwrap();
    let words: Vec<_> = text.split(' ').collect();
    assert_eq!(words[0], CANARY);
    Sent {
        life: words[1].parse().unwrap(),
        medium: words[2].into(),
        number: words[3].parse().unwrap(),
        label: words[4].into(),
    }
}

fn content(sent: &Sent) -> Vec<u8> {
    let (life, medium, number, label) = (sent.life, &sent.medium, sent.number, &sent.label);
    let filler = if medium == "video" { 3000 } else { 60 };
    let text = format!("{CANARY} {life} {medium} {number} {label} ");
    format!("{text}{}", "x".repeat(filler)).into_bytes()
}

/// The process. As a test it does nothing.
#[test]
fn recorder_process() {
    let Ok(element) = std::env::var(ELEMENT) else {
        return;
    };
    common::init();
    let variable = |name: &str| std::env::var(name).unwrap();
    let life: u64 = variable(LIFE).parse().unwrap();
    let mut notes = OpenOptions::new()
        .append(true)
        .create(true)
        .open(variable(NOTES))
        .unwrap();
    // A line is written at once, so that a kill leaves it or not.
    let mut note = move |line: String| notes.write_all(format!("{line}\n").as_bytes()).unwrap();
    let run = Run::of(gst::Pipeline::new());
    run.pipeline.add(&gst::parse::launch(&element).unwrap()).unwrap();
    let recorder = run.element("rec");
    let trouble = Arc::<Trouble>::default();
    let disk = Arc::new(Troubled(trouble.clone()));
    recorder
        .clone()
        .downcast::<ComplianceSink>()
        .unwrap()
        .set_disk(disk);
    let mut director = std::env::var(ROOM)
        .ok()
        .map(|seed| Director::new(life, seed.parse().unwrap(), &recorder, trouble.clone()));
    let is_over = obey(trouble.clone());

    let begun = Instant::now();
    run.play();
    run.wait("the start", |run| !run.messages("compliance-started").is_empty());
    let recovered: bool = run.messages("compliance-started")[0].get("recovered").unwrap();
    note(format!("started {} {recovered}", begun.elapsed().as_micros()));
    let dumpable = rustix::process::dumpable_behavior().unwrap();
    note(format!("dumpable {dumpable:?}"));

    let feeds = [
        ("audio", Feed::new(&recorder, OPUS)),
        ("video", Feed::new(&recorder, VP8)),
    ];
    for number in 0u64.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let (epoch, label) = director
            .as_mut()
            .map_or((None, "on"), |director| director.direct(&run, number));
        for (medium, feed) in &feeds[..if number.is_multiple_of(2) { 2 } else { 1 }] {
            let sent = Sent {
                life,
                medium: (*medium).into(),
                number,
                label: label.into(),
            };
            let mut buffer = frame(PERIOD * number, &content(&sent));
            if *medium == "video" && !number.is_multiple_of(10) {
                buffer = delta(buffer);
            }
            if let Some(epoch) = epoch {
                buffer = opened(buffer, epoch, 7, "anna");
            }
            feed.push(buffer);
            note(format!(
                "frame {medium} {number} {label} {}",
                run.stat("queue-time")
            ));
        }
        sleep(Duration::from_millis(PERIOD));
    }
    assert_eq!(run.error(), None);
    run.stop();
}

/// Does what comes on standard input: `sync MS`, so long syncs shall take; `stick`, those of tars shall not end. The end of it
/// is the end.
fn obey(trouble: Arc<Trouble>) -> Arc<AtomicBool> {
    let is_over = Arc::<AtomicBool>::default();
    let over = is_over.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let line = line.unwrap();
            match line.strip_prefix("sync ") {
                Some(ms) => trouble.sync_ms.store(ms.parse().unwrap(), Ordering::SeqCst),
                None => {
                    assert_eq!(line, "stick");
                    trouble.tars_stick.store(true, Ordering::SeqCst);
                }
            }
        }
        over.store(true, Ordering::SeqCst);
    });
    is_over
}

/// What makes processes that record in one place, one after the other.
pub struct Recorders<'a> {
    pub place: &'a Place,
    pub properties: String,
    pub environment: Vec<(String, String)>,
}

impl<'a> Recorders<'a> {
    /// Without a room.
    pub fn new(place: &'a Place) -> Self {
        Self {
            place,
            properties: "require-room=false".into(),
            environment: Vec::new(),
        }
    }

    pub fn start(&self, life: u64) -> Process {
        self.start_by(life, Command::new(std::env::current_exe().unwrap()))
    }

    /// By a command that ends in the test binary's path.
    pub fn start_by(&self, life: u64, mut command: Command) -> Process {
        let notes = self.place.path(&format!("notes-{life}"));
        let properties = self.place.properties();
        let element = format!("compliancesink name=rec {} {properties}", self.properties);
        let child = command
            .args(["--exact", "process::recorder_process", "--nocapture"])
            .env(ELEMENT, element)
            .env(NOTES, &notes)
            .env(LIFE, life.to_string())
            .envs(self.environment.clone())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Process {
            child,
            notes: Notes(notes),
        }
    }

    pub fn notes(&self, life: u64) -> Notes {
        Notes(self.place.path(&format!("notes-{life}")))
    }
}

/// A recorder process; killed, whatever happens to the test.
pub struct Process {
    child: Child,
    pub notes: Notes,
}

impl Process {
    pub fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn kill(mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "it ended by itself");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it end the recording, and waits until it has.
    pub fn stop(mut self) {
        drop(self.child.stdin.take());
        let status = self.ends();
        assert!(status.success(), "{status}");
    }

    fn ends(&mut self) -> ExitStatus {
        let mut ended = None;
        until("the process's end", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// Sends it SIGSEGV until it is dead: Rust's own handler looks at the first one. Was there a core dump?
    pub fn crash(mut self) -> bool {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = Pid::from_child(&self.child);
        let mut ended = None;
        until("the process's end", || {
            kill_process(pid, Signal::SEGV).unwrap();
            sleep(Duration::from_millis(20));
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        let status = ended.unwrap();
        assert_eq!(status.signal(), Some(Signal::SEGV.as_raw()), "{status}");
        status.core_dumped()
    }

    /// Waits until it has pushed a frame.
    pub fn records(&self) {
        until("a frame", || !self.notes.frames().is_empty());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What libfaketime leaves of a process that was killed.
        let id = self.child.id();
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            let _ = fs::remove_file(format!("/dev/shm/{name}{id}"));
        }
    }
}

/// Waits for something that a process brings about.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "{what} did not happen");
        sleep(Duration::from_millis(5));
    }
}

/// What a process noted.
pub struct Notes(PathBuf);

/// A frame that was pushed.
pub struct Pushed {
    pub medium: String,
    pub number: u64,
    pub label: String,
    /// For how long the disk had kept the oldest frame waiting.
    pub queue: Duration,
}

impl Notes {
    /// The whole lines so far, as words.
    fn lines(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| line.split(' ').map(str::to_owned).collect())
            .collect()
    }

    fn word(&self, line: &str, at: usize) -> Option<String> {
        self.lines()
            .into_iter()
            .find(|words| words[0] == line)
            .map(|words| words[at].clone())
    }

    /// How long it took until it recorded, and whether it went on with a recording that was there. None: it did not
    /// come so far.
    pub fn started(&self) -> Option<(Duration, bool)> {
        let time = self.word("started", 1)?.parse().unwrap();
        let recovered = self.word("started", 2)?.parse().unwrap();
        Some((Duration::from_micros(time), recovered))
    }

    pub fn dumpable(&self) -> Option<String> {
        self.word("dumpable", 1)
    }

    pub fn frames(&self) -> Vec<Pushed> {
        let of = |words: Vec<String>| Pushed {
            medium: words[1].clone(),
            number: words[2].parse().unwrap(),
            label: words[3].clone(),
            queue: Duration::from_nanos(words[4].parse().unwrap()),
        };
        let lines = self.lines().into_iter();
        lines.filter(|words| words[0] == "frame").map(of).collect()
    }
}

/// Replaces a file whole.
pub fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    let mut file = File::create(&next).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    fs::rename(&next, path).unwrap();
}
