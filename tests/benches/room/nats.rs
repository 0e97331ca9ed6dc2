//! Rooms over one nats-server: five processes, each of which is one member of all rooms, as a service that records
//! many rooms is. How long joining takes, and a change of keys from the wish until a member has merged it and until all
//! are ready; what server and members take while nothing but signs of life happens.

use super::server::{Server, free_port};
use super::world::Ca;
use gst::prelude::*;
use gstmls::identity::{IdentityKey, Role, issue};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// First argument of a child process.
pub const CHILD: &str = "nats-child";
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Joins and changes of keys that are under way at the same time, in one process.
const TOGETHER: usize = 8;
const IDLE: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(300);

/// When a process merged an epoch of a room, in microseconds of unix time.
type Merged = HashMap<(usize, u64), u64>;

fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// One member of all rooms, in its own process. Does what its standard input says, line by line.
struct Member {
    rings: Vec<gst::Element>,
    merged: Arc<Mutex<Merged>>,
}

pub fn child(arguments: &[String]) {
    let [folder, name, rooms, url] = arguments else {
        panic!()
    };
    gst::init().unwrap();
    gstmls::plugin_register_static().unwrap();
    let merged = Arc::<Mutex<Merged>>::default();
    let ring = |room| ring(Path::new(folder), name, room, url, &merged);
    let rings = (0..rooms.parse().unwrap()).map(ring).collect();
    let member = Member { rings, merged };
    for line in std::io::stdin().lines() {
        let answer = match line.unwrap().as_str() {
            "join" => member.each(|ring| {
                let began = micros();
                ring.set_state(gst::State::Playing).unwrap();
                wait(|| is_ready(ring));
                vec![micros() - began]
            }),
            "rekey" => member.each(|ring| {
                let (epoch, began) = (ring.property::<u64>("epoch") + 1, micros());
                assert!(ring.emit_by_name::<bool>("update-key", &[]));
                wait(|| ring.property::<u64>("epoch") >= epoch && is_ready(ring));
                vec![epoch, began, micros() - began]
            }),
            "together" => {
                let all = |ring: &gst::Element| is_ready(ring) && count(ring) == NAMES.len();
                wait(|| member.rings.iter().all(all));
                String::new()
            }
            "merged" => {
                let merged = member.merged.lock().unwrap();
                let line = |((room, epoch), at): (&(usize, u64), &u64)| format!("{room},{epoch},{at}");
                merged.iter().map(line).collect::<Vec<_>>().join(" ")
            }
            other => panic!("{other}"),
        };
        println!("{answer}");
    }
    for ring in &member.rings {
        // Not leaving: that would be 1000 more changes of keys.
        std::mem::forget(ring.clone());
    }
    std::process::exit(0);
}

fn count(ring: &gst::Element) -> usize {
    ring.property::<gst::Array>("members").len()
}

fn is_ready(ring: &gst::Element) -> bool {
    let value = ring.property_value("state");
    gst::glib::EnumValue::from_value(&value).is_some_and(|(_, value)| value.nick() == "ready")
}

fn wait(holds: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "not within {LIMIT:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn ring(folder: &Path, name: &str, room: usize, url: &str, merged: &Arc<Mutex<Merged>>) -> gst::Element {
    let file = |name: String| folder.join(name).display().to_string();
    let ring = gst::ElementFactory::make("mlskeyring")
        .property("room", format!("room {room}"))
        .property("create", name == "a")
        .property("certificate-file", file(format!("{name}.pem")))
        .property("private-key-file", file(format!("{name}-key.pem")))
        .property("ca-file", file("ca.pem".into()))
        .property("state-file", file(format!("{name}-{room}.db")))
        .property("state-key-file", file("statekey".into()))
        .property("delivery", url)
        .build()
        .unwrap();
    let bus = gst::Bus::new();
    let merged = merged.clone();
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Element(element) => {
                let structure = element.structure().unwrap();
                if structure.name() == "mls-epoch-changed" {
                    let epoch = structure.get("epoch").unwrap();
                    merged.lock().unwrap().insert((room, epoch), micros());
                }
            }
            gst::MessageView::Error(error) => panic!("room {room}: {}", error.error()),
            gst::MessageView::Warning(warning) => eprintln!("room {room}: {}", warning.error()),
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
    ring.set_bus(Some(&bus));
    ring
}

impl Member {
    /// Does it for each room, some at the same time. For each the room and the numbers, with commas.
    fn each(&self, what: impl Fn(&gst::Element) -> Vec<u64> + Sync) -> String {
        let (next, done) = (Mutex::new(self.rings.iter().enumerate()), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..TOGETHER {
                scope.spawn(|| {
                    loop {
                        let Some((room, ring)) = next.lock().unwrap().next() else {
                            return;
                        };
                        let numbers: Vec<_> = what(ring).iter().map(u64::to_string).collect();
                        done.lock().unwrap().push(format!("{room},{}", numbers.join(",")));
                    }
                });
            }
        });
        done.into_inner().unwrap().join(" ")
    }
}

struct Process {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(folder: &Path, name: &str, rooms: usize, url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                CHILD,
                &folder.display().to_string(),
                name,
                &rooms.to_string(),
                url,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let lines = BufReader::new(output).lines();
        Self { child, input, lines }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// What came of a command: groups of numbers.
    fn hear(&mut self) -> Vec<Vec<u64>> {
        let line = self.lines.next().unwrap().unwrap();
        let group = |group: &str| group.split(',').map(|number| number.parse().unwrap()).collect();
        line.split_whitespace().map(group).collect()
    }

    fn ask(&mut self, command: &str) -> Vec<Vec<u64>> {
        self.tell(command);
        self.hear()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process so far, in milliseconds.
fn cpu(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // In hundredths of a second (proc(5), fields 14 and 15).
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
}

fn status(path: &str, name: &str) -> u64 {
    let status = fs::read_to_string(path).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| {
        line.trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    })
    .unwrap_or(0)
}

fn resident(pid: u32) -> f64 {
    status(&format!("/proc/{pid}/status"), "VmRSS") as f64 / 1024.0
}

/// Times that any thread of a process went to sleep, which is as often as one woke up.
fn wake_ups(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |path: &Path| {
        status(
            &path.join("status").display().to_string(),
            "voluntary_ctxt_switches",
        )
    };
    tasks.map(|task| of(&task.unwrap().path())).sum()
}

/// Bytes into and out of the server so far, and what its streams hold, as it says itself.
fn traffic(port: u16) -> [u64; 3] {
    let get = |path: &str| -> serde_json::Value {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(connection, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let (server, streams) = (get("/varz"), get("/jsz"));
    [&server["in_bytes"], &server["out_bytes"], &streams["bytes"]].map(|value| value.as_u64().unwrap())
}

fn identities(folder: &Path) {
    let ca = Ca::at("nats", micros() / 1_000_000);
    let private = |name: String, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let root = issue::certificate_pem(ca.authority.root_certificate()).unwrap();
    private("ca.pem".into(), &root);
    private("statekey".into(), &"07".repeat(32));
    for name in NAMES {
        let identity = ca.identity_at(name, &[Role::Participant], micros() / 1_000_000);
        private(format!("{name}.pem"), &issue::chain_pem(&identity.chain).unwrap());
        let key = IdentityKey::from_seed(&identity.seed);
        private(format!("{name}-key.pem"), &key.to_pem().unwrap());
    }
}

/// p50, p99 and the most, in milliseconds.
fn spread(micros: impl IntoIterator<Item = u64>) -> String {
    let mut micros: Vec<u64> = micros.into_iter().collect();
    micros.sort_unstable();
    let at = |permille: usize| micros[(micros.len() - 1) * permille / 1000] as f64 / 1000.0;
    format!(
        "p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
        at(500),
        at(990),
        at(1000)
    )
}

pub fn run(rooms: usize) {
    // Not the disk is measured, but what the server and the members do.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    identities(folder.path());
    let monitor = free_port();
    let server = Server::with(&format!("max_payload: 8MB\nhttp: \"127.0.0.1:{monitor}\""));
    println!(
        "{rooms} rooms of {} members, one nats-server, a process for each member",
        NAMES.len()
    );
    let mut members = Vec::new();
    for name in NAMES {
        let mut member = Process::start(folder.path(), name, rooms, &server.url());
        let before = (
            traffic(monitor),
            cpu(member.child.id()),
            cpu(server.pid()),
            Instant::now(),
        );
        let joined = member.ask("join");
        let after = traffic(monitor);
        println!(
            "  {name} joins all in {:.1} s: {}; CPU {:.1} ms a room, server {:.1} ms; {:.1} kB in, {:.1} kB out a room",
            before.3.elapsed().as_secs_f64(),
            spread(joined.iter().map(|group| group[1])),
            (cpu(member.child.id()) - before.1) as f64 / rooms as f64,
            (cpu(server.pid()) - before.2) as f64 / rooms as f64,
            (after[0] - before.0[0]) as f64 / 1e3 / rooms as f64,
            (after[1] - before.0[1]) as f64 / 1e3 / rooms as f64,
        );
        members.push(member);
    }
    for member in &mut members {
        member.ask("together");
    }
    // What new members commit soon after joining.
    thread::sleep(Duration::from_secs(10));

    let before = (traffic(monitor), cpu(server.pid()), Instant::now());
    let wishes = members[0].ask("rekey");
    let took = before.2.elapsed().as_secs_f64();
    let (after, server_cpu) = (traffic(monitor), cpu(server.pid()) - before.1);
    let mut merged = Vec::new();
    for member in &mut members {
        member.ask("together");
        let times: Merged = member
            .ask("merged")
            .iter()
            .map(|g| ((g[0] as usize, g[1]), g[2]))
            .collect();
        let time = |wish: &Vec<u64>| Some(times.get(&(wish[0] as usize, wish[1]))?.saturating_sub(wish[2]));
        merged.extend(wishes.iter().filter_map(time));
    }
    println!(
        "  {} changes of keys in {took:.1} s: merged by each member after {}; all ready after {}",
        wishes.len(),
        spread(merged),
        spread(wishes.iter().map(|wish| wish[3])),
    );
    println!(
        "  server: CPU {:.1} ms a change, {:.1} kB in, {:.1} kB out, {:.1} kB more in its streams",
        server_cpu as f64 / wishes.len() as f64,
        (after[0] - before.0[0]) as f64 / 1e3 / wishes.len() as f64,
        (after[1] - before.0[1]) as f64 / 1e3 / wishes.len() as f64,
        (after[2] - before.0[2]) as f64 / 1e3 / wishes.len() as f64,
    );

    thread::sleep(Duration::from_secs(15));
    let pids: Vec<u32> = members.iter().map(|member| member.child.id()).collect();
    let look = || {
        pids.iter()
            .map(|pid| (cpu(*pid), wake_ups(*pid)))
            .collect::<Vec<_>>()
    };
    let before = (traffic(monitor), cpu(server.pid()), look());
    thread::sleep(IDLE);
    let after = (traffic(monitor), cpu(server.pid()), look());
    let seconds = IDLE.as_secs_f64();
    println!(
        "  signs of life only: server {:.2} % of a core, {:.1} kB/s in, {:.1} kB/s out, {:.0} MiB resident, {:.1} MB stored",
        (after.1 - before.1) as f64 / 10.0 / seconds,
        (after.0[0] - before.0[0]) as f64 / 1e3 / seconds,
        (after.0[1] - before.0[1]) as f64 / 1e3 / seconds,
        resident(server.pid()),
        after.0[2] as f64 / 1e6,
    );
    for (nth, pid) in pids.iter().enumerate() {
        let ((cpu_before, woke_before), (cpu_after, woke_after)) = (before.2[nth], after.2[nth]);
        println!(
            "  process {}, a member of {rooms} rooms: {:.2} % of a core, {:.1} wake-ups a second, {:.0} MiB resident",
            NAMES[nth],
            (cpu_after - cpu_before) as f64 / 10.0 / seconds,
            (woke_after - woke_before) as f64 / seconds,
            resident(*pid),
        );
    }
}
