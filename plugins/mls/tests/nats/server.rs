//! Debian's nats-server as a process of its own, for tests and benchmarks: on free ports, with a store of its own,
//! gone when it is dropped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// A request that comes while a cluster has no leader may be lost.
const ANSWER: Duration = Duration::from_secs(10);

/// A port that nobody has, below those that the system gives to outgoing connections: a server that is started again
/// finds it free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() * 61 % 11_000).unwrap();
    loop {
        let port = 21_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 11_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// One server.
pub struct Server {
    process: Option<Child>,
    folder: tempfile::TempDir,
    pub port: u16,
}

impl Server {
    /// One that takes records of any length, and asks nobody who they are.
    pub fn start() -> Self {
        Self::with("max_payload: 5MB")
    }

    /// One with these lines in its configuration; FOLDER stands for a folder of its own.
    pub fn with(lines: &str) -> Self {
        let server = Self::prepared(free_port(), lines);
        server.started()
    }

    /// Three in a cluster.
    pub fn cluster() -> [Self; 3] {
        let routes = [(); 3].map(|()| free_port());
        let urls = routes.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
        let servers = [0, 1, 2].map(|n| {
            let lines = format!(
                "server_name: n{n}\nmax_payload: 5MB\n\
                 cluster {{ name: c, listen: \"127.0.0.1:{}\", routes: [{urls}] }}",
                routes[n]
            );
            Self::prepared(free_port(), &lines)
        });
        servers.map(Self::started)
    }

    fn prepared(port: u16, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let configuration = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{path}/store\" }}\n{}\n",
            lines.replace("FOLDER", &path)
        );
        fs::write(folder.path().join("nats.conf"), configuration).unwrap();
        Self {
            process: None,
            folder,
            port,
        }
    }

    fn started(mut self) -> Self {
        self.start_again();
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its address for `delivery`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Starts it on the same port with what it had, and waits until it answers.
    pub fn start_again(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let process = Command::new("nats-server")
            .arg("-c")
            .arg(self.folder.path().join("nats.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("nats-server (Debian's package nats-server): {error}"));
        let process = self.process.insert(process);
        let end = Instant::now() + LIMIT;
        loop {
            let mut info = [0; 5];
            let answers = TcpStream::connect(("127.0.0.1", self.port))
                .and_then(|mut connection| connection.read_exact(&mut info));
            if answers.is_ok() && info == *b"INFO " {
                return;
            }
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(
                process.try_wait().unwrap().is_none(),
                "nats-server ended: {}",
                log()
            );
            assert!(Instant::now() < end, "nats-server does not answer: {}", log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Neither answers nor ends.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Goes on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Lines of its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Everything in its store: names of files, then their bytes.
    pub fn stored(&self) -> Vec<u8> {
        fn collect(folder: &Path, into: &mut Vec<u8>) {
            for file in fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                into.extend_from_slice(path.as_os_str().as_encoded_bytes());
                into.push(b'\n');
                if path.is_dir() {
                    collect(&path, into);
                } else {
                    into.extend(fs::read(&path).unwrap());
                }
            }
        }
        let mut bytes = Vec::new();
        collect(&self.folder.path().join("store"), &mut bytes);
        bytes
    }

    /// Does this stand anywhere in its store?
    pub fn has_stored(&self, what: &str) -> bool {
        let stored = self.stored();
        assert!(stored.len() > 1000, "nothing is stored");
        stored.windows(what.len()).any(|window| window == what.as_bytes())
    }

    /// Somebody else on this server, without a login.
    pub fn stranger(&self) -> Stranger {
        Stranger::connect(self.port)
    }

    /// The names of the rooms' streams.
    pub fn streams(&self) -> Vec<String> {
        let names = self.stranger().ask("$JS.API.STREAM.NAMES", "{}");
        let names = names["streams"].as_array().cloned().unwrap_or_default();
        names
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A client in a few lines, which owes nothing to the one that is tested.
pub struct Stranger {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
    asked: u32,
}

impl Stranger {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        let mut stranger = Self {
            stream,
            lines,
            asked: 0,
        };
        assert!(stranger.line().unwrap().starts_with("INFO "));
        stranger.stream.set_read_timeout(Some(ANSWER)).unwrap();
        stranger.send(
            b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB answers.* 1\r\n",
        );
        stranger
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// None if nothing comes in time.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(_) => Some(line),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// A request; an object without anything if nobody answers it in time.
    pub fn ask(&mut self, subject: &str, payload: &str) -> serde_json::Value {
        self.asked += 1;
        let inbox = format!("answers.{}", self.asked);
        self.send(format!("PUB {subject} {inbox} {}\r\n{payload}\r\n", payload.len()).as_bytes());
        loop {
            let Some(line) = self.line() else {
                return serde_json::json!({});
            };
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["PING"] => self.send(b"PONG\r\n"),
                ["MSG" | "HMSG", ref subject @ .., size] => {
                    let mut bytes = vec![0; size.parse::<usize>().unwrap() + 2];
                    self.lines.read_exact(&mut bytes).unwrap();
                    if subject[0] == inbox {
                        let begin = bytes.iter().position(|byte| *byte == b'{');
                        let json = begin.map(|begin| &bytes[begin..]).unwrap_or(b"{}");
                        return serde_json::from_slice(json.trim_ascii_end()).unwrap();
                    }
                }
                _ => panic!("{line}"),
            }
        }
    }
}
