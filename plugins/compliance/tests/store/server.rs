//! A real S3 server in a process of its own, and a wire to it that a test can cut.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gstcompliance::store::{Access, Address, Bucket};

use crate::common::LIMIT;

const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The program, installed once for all test runs of this build folder.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("s3-server");
        fs::create_dir_all(&folder).unwrap();
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let (venv, done) = (folder.join("venv"), folder.join("requirements.txt"));
        let server = venv.join("bin/moto_server");
        if fs::read_to_string(&done).is_ok_and(|text| text == REQUIREMENTS) && server.exists() {
            return server;
        }
        let _ = fs::remove_dir_all(&venv);
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        let list = folder.join("wanted.txt");
        fs::write(&list, REQUIREMENTS).unwrap();
        // The folder with the system's certificates, not the file that is made of them: installing ca-certificates, as pip
        // does on a bare system, writes the file anew, without those that an administrator only put there.
        run(Command::new(venv.join("bin/pip"))
            .args(["install", "-q", "--cert", "/etc/ssl/certs", "-r"])
            .arg(&list));
        fs::rename(&list, &done).unwrap();
        server
    })
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
}

/// A server that listens.
fn spawn(port: u16) -> Child {
    let child = Command::new(program())
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < LIMIT, "the server does not start");
        sleep(Duration::from_millis(20));
    }
    child
}

/// A server that lives as long as the test.
pub struct Server {
    child: Child,
    pub port: u16,
    pub wire: Wire,
    dir: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = Self {
            child: spawn(port),
            port,
            wire: Wire::to(port),
            dir: tempfile::tempdir().unwrap(),
        };
        server.ask("PUT", "/clinic", &[], b"");
        server
    }

    /// The process is no more, and with it all that it had: it keeps nothing on a disk.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Another one is at its place, with an empty bucket.
    pub fn restart(&mut self) {
        self.child = spawn(self.port);
        self.ask("PUT", "/clinic", &[], b"");
    }

    /// A file that says where the server is: behind the wire, or not.
    pub fn settings(&self, is_wired: bool) -> PathBuf {
        let port = if is_wired { self.wire.port } else { self.port };
        let path = self.dir.path().join(format!("settings-{port}"));
        let text = format!(
            "AWS_ENDPOINT_URL=http://127.0.0.1:{port}\nAWS_REGION=us-east-1\nAWS_ACCESS_KEY_ID=recorder\n\
             AWS_SECRET_ACCESS_KEY=not-a-secret-7f3a\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A place on the server, asked directly.
    pub fn bucket(&self, address: &Address) -> Bucket {
        Bucket::open(address, &Access::read(&self.settings(false)).unwrap(), 0).unwrap()
    }

    /// The process stands still, and later goes on.
    pub fn stop(&self, stopped: bool) {
        use rustix::process::{Pid, Signal, kill_process};
        let signal = if stopped { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// A request as somebody with all rights makes it; this server believes whoever says who he is. Gives status and body.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Vec<u8>) {
        let (head, body) = self.exchange(method, path, headers, body);
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    /// The headers that come with an object.
    pub fn headers(&self, name: &str) -> String {
        self.exchange("HEAD", &path(name), &[], b"").0
    }

    fn exchange(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let more: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n{more}\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        (head, answer[end + 4..].to_vec())
    }

    /// Makes a bucket whose objects can be locked.
    pub fn lockable(&self, bucket: &str) {
        let lock = [("x-amz-bucket-object-lock-enabled", "true")];
        assert_eq!(self.ask("PUT", &format!("/{bucket}"), &lock, b"").0, 200);
    }

    /// What is overwritten or deleted in a bucket from now on is only hidden.
    pub fn keeps_versions(&self, bucket: &str) {
        let status = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status>\
                      </VersioningConfiguration>";
        let (status, _) = self.ask("PUT", &format!("/{bucket}?versioning"), &[], status.as_bytes());
        assert_eq!(status, 200);
    }

    /// New objects of an empty bucket are locked, whatever whoever makes them says.
    pub fn locks_by_default(&self, bucket: &str) {
        let rule = "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled\
                    </ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>30</Days></DefaultRetention>\
                    </Rule></ObjectLockConfiguration>";
        let (status, body) = self.ask("PUT", &format!("/{bucket}?object-lock"), &[], rule.as_bytes());
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    }

    /// Puts something else in an object's place, as somebody who may write there can.
    pub fn replace(&self, name: &str, content: &[u8]) {
        assert_eq!(self.ask("PUT", &path(name), &[], content).0, 200);
    }

    /// Removes an object.
    pub fn remove(&self, name: &str) {
        assert_eq!(self.ask("DELETE", &path(name), &[], b"").0, 204);
    }

    /// What is in an object.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let (status, body) = self.ask("GET", &path(name), &[], b"");
        assert_eq!(status, 200, "{name}");
        body
    }
}

/// `s3://bucket/name` as the server's path.
fn path(name: &str) -> String {
    name.strip_prefix("s3:/").unwrap().to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Forwards connections, until it is cut.
pub struct Wire {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_cut: AtomicBool,
    /// So many bytes may still pass on their way there; below zero: as many as like.
    left: AtomicI64,
    /// So many bytes passed.
    passed: AtomicU64,
    /// Each connection's two ends: the client's and the server's.
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
}

impl State {
    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for (client, server) in self.open.lock().unwrap().drain(..) {
            let _ = client.shutdown(Shutdown::Both);
            // The server is to see a connection that broke, and no end: Python's http.server takes a head that ends early
            // for a whole one, and this server makes an empty object of it. So a reset goes out with the last handle.
            rustix::net::sockopt::set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
            let _ = server.shutdown(Shutdown::Read);
        }
    }
}

impl Wire {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            left: AtomicI64::new(-1),
            ..State::default()
        });
        let of = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if of.is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let target = SocketAddr::from(([127, 0, 0, 1], port));
                let Ok(server) = TcpStream::connect(target) else {
                    continue;
                };
                // Before anything passes, so that a cut finds it.
                let both = (stream.try_clone().unwrap(), server.try_clone().unwrap());
                of.open.lock().unwrap().push(both);
                let pair = [(&stream, &server, true), (&server, &stream, false)];
                for (from, to, is_there) in pair {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let of = of.clone();
                    std::thread::spawn(move || forward(from, to, is_there, &of));
                }
            }
        });
        Self { port: own, state }
    }

    /// Nothing passes any more.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// It is cut when so many more bytes have passed, in the middle of whatever that is.
    pub fn cut_after(&self, bytes: u64) {
        self.state.left.store(bytes as i64, Ordering::SeqCst);
    }

    /// Everything passes.
    pub fn mend(&self) {
        self.state.left.store(-1, Ordering::SeqCst);
        self.state.is_cut.store(false, Ordering::SeqCst);
    }

    pub fn is_cut(&self) -> bool {
        self.state.is_cut.load(Ordering::SeqCst)
    }

    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::SeqCst)
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, is_there: bool, state: &State) {
    let mut buffer = [0; 16 << 10];
    loop {
        let mut read = match from.read(&mut buffer) {
            Ok(read) if read > 0 => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            _ => break,
        };
        let mut is_last = false;
        if is_there {
            state.passed.fetch_add(read as u64, Ordering::SeqCst);
            if state.left.load(Ordering::SeqCst) >= 0 {
                let left = state.left.fetch_sub(read as i64, Ordering::SeqCst);
                if left < read as i64 {
                    read = left.max(0) as usize;
                    is_last = true;
                }
            }
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        if is_last {
            state.left.store(-1, Ordering::SeqCst);
            // What passed shall arrive: an answer may be lost of something that was done.
            let _ = to.flush();
            state.cut();
            break;
        }
    }
    // See `State::cut`.
    if !(is_there && state.is_cut.load(Ordering::SeqCst)) {
        let _ = to.shutdown(Shutdown::Write);
    }
}
