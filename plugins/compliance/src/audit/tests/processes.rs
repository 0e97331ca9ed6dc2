//! Real processes on one log. A child is this test binary again, running only [`child`] with a role.

use super::folder::Storage;
use super::frame::ReadAt;
use super::*;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

const ROLE: &str = "GST_E2EE_TEST_ROLE";
const LOG: &str = "GST_E2EE_TEST_LOG";

struct Child {
    process: std::process::Child,
    lines: io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Child {
    fn start(role: &str, path: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "audit::tests::processes::child", "--nocapture"]);
        command
            .env(ROLE, role)
            .env(LOG, path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// What it says next. None at its end, also in the middle of a word.
    fn hear(&mut self) -> Option<String> {
        self.lines
            .find_map(|line| Some(line.unwrap().strip_prefix('@')?.strip_suffix('.')?.to_owned()))
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        assert_eq!(self.process.wait().unwrap().signal(), Some(9));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn say(text: &str) {
    // The test harness leaves its line open.
    print!("\n@{text}.\n");
    io::stdout().flush().unwrap();
}

/// A file of which half an entry is written, and then nothing more happens.
struct Half(fs::File);

impl ReadAt for Half {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        ReadAt::read_at(&self.0, bytes, offset)
    }
}

impl Storage for Half {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn put(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.put(&bytes[..bytes.len() / 2], offset)?;
        say("half");
        loop {
            std::thread::park();
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_length(length)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.reserve(offset, length)
    }

    fn check_place(&self, path: &Path) -> Result<(), FolderError> {
        self.0.check_place(path)
    }
}

/// Not a test of its own: what a child process does.
#[test]
fn child() {
    let (Ok(role), Some(path)) = (std::env::var(ROLE), std::env::var_os(LOG)) else {
        return;
    };
    let path = Path::new(&path);
    match role.as_str() {
        "append" => {
            let log = Log::open(path).unwrap();
            let name = u64::from(std::process::id()) * 1_000_000;
            for number in name.. {
                let index = log.append(&entry(number)).unwrap().index;
                say(&format!("{index} {number}"));
            }
        }
        "half" => {
            let log = Log::open_with(path, true, PATIENCE, |file| Box::new(Half(file))).unwrap();
            log.append(&entry(0)).unwrap();
        }
        role => panic!("no role {role}"),
    }
}

/// What a child said that it appended.
fn acknowledged(said: &str) -> (u64, u64) {
    let (index, number) = said.split_once(' ').unwrap();
    (index.parse().unwrap(), number.parse().unwrap())
}

#[test]
fn two_processes_append_and_one_is_killed_again_and_again() {
    let place = Place::empty();
    let mut told = Vec::new();
    let mut steady = Child::start("append", &place.log());
    told.push(acknowledged(&steady.hear().unwrap()));
    for round in 0..8 {
        let mut victim = Child::start("append", &place.log());
        // Some other moment each time, and both of them get their turn.
        for _ in 0..1 + 3 * round {
            told.push(acknowledged(&victim.hear().unwrap()));
            told.push(acknowledged(&steady.hear().unwrap()));
        }
        victim.kill();
        // What it had said before it died.
        while let Some(said) = victim.hear() {
            told.push(acknowledged(&said));
        }
        // The other one goes on at once.
        told.push(acknowledged(&steady.hear().unwrap()));
    }
    steady.kill();
    while let Some(said) = steady.hear() {
        told.push(acknowledged(&said));
    }

    Log::open(&place.log()).unwrap().close().unwrap();
    let report = place.verify();
    assert!(report.is_intact(), "{:?}", report.damages);
    assert_eq!(report.signed, report.entries);
    let items: Vec<_> = Reader::open(&place.log()).unwrap().map(Result::unwrap).collect();
    // Everything that was acknowledged stands where it was said to be.
    for (index, number) in &told {
        let Item::Entry { entry: Ok(found), .. } = &items[*index as usize] else {
            panic!("{index}")
        };
        assert_eq!(*found, entry(*number));
    }
    let indices: std::collections::BTreeSet<_> = told.iter().map(|(index, _)| index).collect();
    assert_eq!(indices.len(), told.len());
    // And nothing else, but for what the dead had written and could not say any more: one each, and the cuts.
    assert!(
        items.len() - told.len() <= 9 * 2,
        "{} of {}",
        told.len(),
        items.len()
    );
}

#[test]
fn who_dies_in_the_middle_of_an_entry_leaves_a_log_that_others_go_on_with() {
    let place = Place::empty();
    let log = Log::open(&place.log()).unwrap();
    log.append(&entry(1)).unwrap();
    let whole = place.bytes().len();
    let mut child = Child::start("half", &place.log());
    assert_eq!(child.hear().unwrap(), "half");
    // It holds the lock: whoever verifies meanwhile does not wait for ever.
    let report = place.verify();
    assert_eq!(only(&report).kind(), "unfinished");
    child.kill();
    assert!(place.bytes().len() > whole);
    // The cut is an entry of its own.
    assert_eq!(log.append(&entry(2)).unwrap(), Appended { index: 2, size: 3 });
    log.close().unwrap();
    assert!(place.verify().is_intact());
    let cut = Reader::open(&place.log()).unwrap().nth(1).unwrap().unwrap();
    let Item::Entry { entry: Ok(cut), .. } = cut else {
        panic!("{cut:?}")
    };
    assert!(matches!(cut.event, Event::LogRecovered { offset, .. } if offset == whole as u64));
}

/// In a thread that is somebody else from its beginning to its end, with whatever threads it starts.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    const NOBODY: u32 = 65534;
    let somebody_else = || {
        rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(NOBODY)).unwrap();
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(NOBODY)).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(somebody_else).join().unwrap())
}

#[test]
fn a_log_that_cannot_be_written_says_so() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be somebody else");
        return;
    }
    let place = Place::with(1);
    let outside = place.place.path();
    for path in [outside, &place.log()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for path in [place.log(), outside.join("other")] {
        let said = as_nobody(|| Log::open(&path).unwrap_err().to_string());
        assert!(
            said.contains("Permission denied") && said.contains(path.to_str().unwrap()),
            "{said}"
        );
    }
}
