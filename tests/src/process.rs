//! Other processes: `gst-launch-1.0` and Python with the staged plugins, each in a folder of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use it, a failure here is theirs"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Longer than any process here needs on a slow machine; one that takes longer hangs.
pub const LIMIT: Duration = Duration::from_secs(180);

/// The folder with our plugins and nothing else, as `scripts/build` stages it.
pub fn staged_plugins() -> PathBuf {
    let folder = std::env::var_os("GST_E2EE_PLUGINS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/gst-plugins"),
        PathBuf::from,
    );
    for library in ["libgstsframe.so", "libgstrtpsframe.so"] {
        assert!(
            folder.join(library).exists(),
            "there is no {library} in {}: run scripts/build",
            folder.display()
        );
    }
    folder.canonicalize().unwrap()
}

/// What GStreamer finds in the staged folder and in the system. Each process starts with a copy, so that none scans
/// everything again and none sees another's.
static REGISTRY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registry.bin");
    let mut command = Command::new("gst-inspect-1.0");
    command.arg("sframeenc").env("GST_REGISTRY", &file);
    let output = with_plugins(&mut command).output().unwrap();
    assert!(
        output.status.success(),
        "GStreamer does not find sframeenc: {output:?}"
    );
    fs::read(file).unwrap()
});

fn with_plugins(command: &mut Command) -> &mut Command {
    for name in [
        "GST_PLUGIN_PATH_1_0",
        "GST_REGISTRY_1_0",
        "GST_DEBUG",
        "GST_DEBUG_FILE",
        "GST_TRACERS",
    ] {
        command.env_remove(name);
    }
    let plugins = staged_plugins();
    // The staged programs lie in the folder beside it.
    let programs = plugins.join("../bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)));
    command.env("GST_PLUGIN_PATH", plugins).env("PATH", path.unwrap())
}

/// The program of a package in `examples/`, built: cargo tells where it is.
pub fn example(package: &str) -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "-p", package])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let told = String::from_utf8(built.stdout).unwrap();
    let (_, rest) = told.split_once("\"executable\":\"").unwrap();
    rest.split('"').next().unwrap().into()
}

/// A folder for one test, and an environment in which other processes keep everything there.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// An empty one.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("registry.bin"), &*REGISTRY).unwrap();
        Self { dir }
    }

    /// One for programs that have the plugins linked in: nothing staged is looked for.
    pub fn bare() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A command that keeps its state here, and finds the system's plugins only.
    pub fn bare_command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env("XDG_STATE_HOME", self.path("state"))
            .stdin(Stdio::null());
        command
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a key file that only the owner can read.
    pub fn key_file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A command that finds the staged plugins and keeps its state here.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        with_plugins(&mut command)
            .env("GST_REGISTRY", self.path("registry.bin"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// `gst-launch-1.0` with a pipeline; the words are split at blanks.
    pub fn gst_launch(&self, pipeline: &str) -> Command {
        let mut command = self.command("gst-launch-1.0");
        command.args(pipeline.split_whitespace());
        command
    }

    /// Python with a script of `tests/python` and PyGObject.
    pub fn python(&self, script: &str) -> Command {
        // PATH may begin with a Python of somebody's own, which lacks the distribution's packages.
        let python = ["python3", "/usr/bin/python3"]
            .into_iter()
            .find(|python| {
                let probe = Command::new(python)
                    .args(["-c", "import gi"])
                    .stderr(Stdio::null())
                    .status();
                probe.is_ok_and(|status| status.success())
            })
            .expect("no python3 with PyGObject: run scripts/setup test");
        let mut command = self.command(python);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script));
        command
    }

    /// Starts a command; what it prints goes to files here.
    pub fn start(&self, name: &str, command: &mut Command) -> Running {
        let file = |suffix: &str| self.path(&format!("{name}.{suffix}"));
        let (out, err) = (file("stdout"), file("stderr"));
        let child = command
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Running {
            child,
            out,
            err,
            limit: Instant::now() + LIMIT,
        }
    }

    /// Runs a command to its end.
    pub fn run(&self, name: &str, command: &mut Command) -> Finished {
        self.start(name, command).finish()
    }
}

/// A process at work. It is killed when this is dropped.
pub struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    limit: Instant,
}

fn printed(out: &Path, err: &Path) -> String {
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    read(out) + &read(err)
}

impl Running {
    /// What it has printed so far, both streams.
    pub fn printed(&self) -> String {
        printed(&self.out, &self.err)
    }

    /// Polls until what it printed is so, as [`Running::wait_for`] does.
    pub fn wait_for_print(&mut self, so: impl Fn(&str) -> bool) -> bool {
        let (out, err) = (self.out.clone(), self.err.clone());
        self.wait_for(|| so(&printed(&out, &err)))
    }

    /// Polls until `ready` holds, the process ends (`false`), or the time is up (panic).
    pub fn wait_for(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        while !ready() {
            if self.child.try_wait().unwrap().is_some() {
                return ready();
            }
            assert!(Instant::now() < self.limit, "it hangs: {}", self.printed());
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Gives it as much time again, from now on.
    pub fn renew(&mut self) {
        self.limit = Instant::now() + LIMIT;
    }

    /// SIGKILL: no clean-up, as in a crash.
    pub fn kill(mut self) -> Finished {
        self.child.kill().unwrap();
        self.finish()
    }

    /// SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    /// SIGTERM, as a service manager sends it.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Finished {
        self.wait_for(|| false);
        let status = self.child.wait().unwrap();
        Finished {
            status,
            printed: self.printed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// What it printed, both streams.
    pub printed: String,
}

impl Finished {
    /// Fails unless it ended well.
    pub fn expect_success(self) -> Self {
        assert!(self.status.success(), "{}: {}", self.status, self.printed);
        self
    }

    /// Fails unless it ended with an error of its own (not by a signal) and said all of this.
    pub fn expect_refusal(self, words: &[&str]) -> Self {
        assert!(
            !self.status.success() && self.status.signal().is_none(),
            "{}: {}",
            self.status,
            self.printed
        );
        for word in words {
            assert!(
                self.printed.contains(word),
                "{word:?} is not in: {}",
                self.printed
            );
        }
        self
    }
}
