//! What a keyring takes while nothing happens: wake-ups and memory of a process with two members' worth of room behind
//! it, against the same process without the element.

use super::world::Ca;
use gst::prelude::*;
use gstmls::identity::{Role, issue};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// First argument of a child process.
pub const CHILD: &str = "idle-child";
const SECONDS: u64 = 30;

/// A pipeline that plays nothing until its standard input ends: `bare`, or `keyring FOLDER NAME`.
pub fn child(arguments: &[String]) {
    gst::init().unwrap();
    gstmls::plugin_register_static().unwrap();
    let pipeline = gst::Pipeline::new();
    if let [_, folder, name] = arguments {
        let folder = Path::new(folder);
        let file = |suffix: &str| folder.join(format!("{name}{suffix}")).display().to_string();
        let keyring = gst::ElementFactory::make("mlskeyring")
            .property("room", "idle")
            .property("create", name == "a")
            .property("certificate-file", file(".pem"))
            .property("private-key-file", file("-key.pem"))
            .property("ca-file", folder.join("ca.pem").display().to_string())
            .property("state-file", file(".db"))
            .property("state-key-file", file(".statekey"))
            .property("delivery", format!("sqlite:{}", folder.join("log.db").display()))
            .build()
            .unwrap();
        pipeline.add(&keyring).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let members = || keyring.property::<gst::Array>("members").len();
        // Only until the room is there; the measurement begins after that.
        while members() < 2 {
            thread::sleep(Duration::from_millis(100));
        }
    } else {
        pipeline.set_state(gst::State::Playing).unwrap();
    }
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
    pipeline.set_state(gst::State::Null).unwrap();
}

struct Process(Child);

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .arg(CHILD)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    fn wait_ready(&mut self) {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
    }

    fn field(status: &Path, name: &str) -> u64 {
        let status = fs::read_to_string(status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|l| l.trim_start_matches(':').split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    }

    /// Times that any of its threads went to sleep, which is as often as one woke up.
    fn wake_ups(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        tasks
            .map(|task| Self::field(&task.unwrap().path().join("status"), "voluntary_ctxt_switches"))
            .sum()
    }

    fn resident(&self) -> f64 {
        let status = format!("/proc/{}/status", self.0.id());
        Self::field(Path::new(&status), "VmRSS") as f64 / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn identities(folder: &Path) {
    // By this machine's clock: the elements go by it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ca = Ca::at("idle", now);
    fs::write(
        folder.join("ca.pem"),
        issue::certificate_pem(ca.authority.root_certificate()).unwrap(),
    )
    .unwrap();
    for name in ["a", "b"] {
        let identity = ca.identity_at(name, &[Role::Participant], now);
        fs::write(
            folder.join(format!("{name}.pem")),
            issue::chain_pem(&identity.chain).unwrap(),
        )
        .unwrap();
        let key = gstmls::identity::IdentityKey::from_seed(&identity.seed);
        for (file, text) in [
            (format!("{name}-key.pem"), key.to_pem().unwrap().to_string()),
            (format!("{name}.statekey"), "07".repeat(32)),
        ] {
            let path = folder.join(file);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

pub fn run() {
    // In memory: waiting for a disk is no waking up, and how often a thread sleeps for it is the disk's affair.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    identities(folder.path());
    let path = folder.path().display().to_string();
    let mut processes = [
        Process::start(&["bare"]),
        Process::start(&["keyring", &path, "a"]),
        Process::start(&["keyring", &path, "b"]),
    ];
    for process in &mut processes {
        process.wait_ready();
    }
    // What the last change still owes: switches, expiry of the old epoch's keys.
    thread::sleep(Duration::from_secs(15));
    let before = processes.each_ref().map(Process::wake_ups);
    thread::sleep(Duration::from_secs(SECONDS));
    let after = processes.each_ref().map(Process::wake_ups);
    let rates: Vec<f64> = (0..3)
        .map(|i| (after[i] - before[i]) as f64 / SECONDS as f64)
        .collect();
    let resident = processes.each_ref().map(Process::resident);
    let worst = rates[1].max(rates[2]);
    let more = resident[1].max(resident[2]) - resident[0];
    let met = |yes: bool| if yes { "met" } else { "NOT met" };
    println!(
        "idle keyring, two in a room: {worst:.2} wake-ups a second (bare process {:.2}; target 1: {}), {:.1} MiB more \
         than the {:.1} MiB of a bare process (target 20: {})",
        rates[0],
        met(worst <= 1.0),
        more,
        resident[0],
        met(more < 20.0),
    );
}
