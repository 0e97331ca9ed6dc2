//! Crashes in the middle of an append, disks that are full or fail.

use super::folder::Storage;
use super::frame::ReadAt;
use super::*;
use crate::digest::Digest;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

/// A disk that is as large as it is said to be, and fails when it is told to.
#[derive(Debug, Clone)]
struct Disk(Arc<Mutex<Faults>>);

#[derive(Debug, Clone, Copy)]
struct Faults {
    /// Bytes that fit.
    capacity: u64,
    /// Bytes that were taken.
    taken: u64,
    /// So many operations work, the next ones fail.
    works: usize,
    fails: usize,
    /// Of a write that fails, this much is written.
    half: usize,
    /// Can blocks be taken before they are written?
    reserves: bool,
}

impl Disk {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Faults {
            capacity: u64::MAX,
            taken: 0,
            works: usize::MAX,
            fails: usize::MAX,
            half: 0,
            reserves: true,
        })))
    }

    fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.0.lock().unwrap());
    }

    fn open(&self, path: &Path) -> Result<Log, LogError> {
        let disk = self.clone();
        Log::open_with(path, true, PATIENCE, |file| Box::new(Disked { file, disk }))
    }
}

struct Disked {
    file: fs::File,
    disk: Disk,
}

impl Disked {
    fn fail(&self) -> io::Result<()> {
        let mut faults = self.disk.0.lock().unwrap();
        if faults.works > 0 {
            faults.works -= 1;
            return Ok(());
        }
        if faults.fails > 0 {
            faults.fails -= 1;
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        Ok(())
    }
}

impl ReadAt for Disked {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        ReadAt::read_at(&self.file, bytes, offset)
    }
}

impl Storage for Disked {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn put(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let Faults {
            capacity,
            taken,
            half,
            ..
        } = *self.disk.0.lock().unwrap();
        if let Err(error) = self.fail() {
            self.file.put(&bytes[..half.min(bytes.len())], offset)?;
            return Err(error);
        }
        let fits = capacity.max(taken).saturating_sub(offset);
        if fits < bytes.len() as u64 {
            self.file.put(&bytes[..fits as usize], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.put(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.fail()?;
        self.file.sync()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.fail()?;
        self.disk.0.lock().unwrap().taken = length;
        self.file.set_length(length)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut faults = self.disk.0.lock().unwrap();
        if !faults.reserves {
            return Err(rustix::io::Errno::OPNOTSUPP.into());
        }
        if offset + length > faults.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        faults.taken = faults.taken.max(offset + length);
        Ok(())
    }

    fn check_place(&self, path: &Path) -> Result<(), FolderError> {
        self.file.check_place(path)
    }
}

/// A log of three signed entries, and the bytes of a fourth one that is not signed.
fn crashed() -> (Place, Vec<u8>, Vec<u8>) {
    let place = Place::with(3);
    let (bytes, backup) = (place.bytes(), place.backup());
    place.append(3..4);
    let tail = place.bytes()[bytes.len()..].to_vec();
    place.restore(&backup);
    (place, bytes, tail)
}

fn recovered(place: &Place, index: u64) -> Event {
    let item = Reader::open(&place.log()).unwrap().nth(index as usize).unwrap();
    match item.unwrap() {
        Item::Entry { entry: Ok(entry), .. } => entry.event,
        item => panic!("{item:?}"),
    }
}

fn expect_recovery(place: &Place, bytes: &[u8], tail: &[u8]) {
    place.write(&[bytes, tail].concat());
    let report = place.verify();
    let offset = bytes.len() as u64;
    let unfinished = Damage::Unfinished {
        index: 3,
        offset,
        bytes: tail.len() as u64,
    };
    assert_eq!((only(&report), report.signed), (&unfinished, 3));

    let log = Log::open(&place.log()).unwrap();
    assert_eq!(log.append(&entry(3)).unwrap(), Appended { index: 4, size: 5 });
    log.close().unwrap();
    let expected = Event::LogRecovered {
        offset,
        bytes: tail.len() as u64,
        sha256: Digest::of(tail),
    };
    assert_eq!(recovered(place, 3), expected);
    let report = place.verify();
    assert!(report.is_intact());
    assert_eq!((report.entries, report.signed), (5, 5));
}

#[test]
fn a_tail_that_was_never_acknowledged_is_cut_and_the_log_says_so() {
    let (place, bytes, tail) = crashed();
    let backup = place.backup();
    for length in 1..tail.len() {
        place.restore(&backup);
        expect_recovery(&place, &bytes, &tail[..length]);
    }
}

#[test]
fn a_tail_of_nothing_or_junk_is_cut_as_well() {
    let (place, bytes, tail) = crashed();
    let backup = place.backup();
    let half = tail.len() / 2;
    for tail in [
        vec![0; 4096],
        [&tail[..half], &vec![0; tail.len() - half][..]].concat(),
        (0..3000_u32).map(|n| ((n * 7919) >> 3) as u8).collect(),
    ] {
        place.restore(&backup);
        expect_recovery(&place, &bytes, &tail);
    }
}

#[test]
fn an_entry_that_is_whole_is_kept_although_nobody_was_told() {
    let (place, bytes, tail) = crashed();
    place.write(&[bytes, tail].concat());
    let report = place.verify();
    assert!(report.is_intact());
    assert_eq!((report.entries, report.signed), (4, 3));
    Log::open(&place.log()).unwrap().close().unwrap();
    assert_eq!(place.numbers(), [0, 1, 2, 3]);
    assert_eq!(place.verify().signed, 4);
}

#[test]
fn damage_before_a_whole_entry_is_never_cut_off() {
    let (place, bytes, fourth) = crashed();
    let backup = place.backup();
    place.append(3..4);
    place.append(4..5);
    let fifth = place.bytes()[bytes.len() + fourth.len()..].to_vec();
    // Neither of the two is signed; the first one is damaged.
    place.restore(&backup);
    for at in 0..fourth.len() {
        let mut damaged = fourth.clone();
        damaged[at] ^= 1;
        let file = [&bytes[..], &damaged, &fifth].concat();
        place.write(&file);
        let error = Log::open(&place.log()).unwrap_err();
        let LogError::Damaged(_, damage) = error else {
            panic!("{error}")
        };
        assert_eq!(damage.place(), Some((3, bytes.len() as u64)), "{damage}");
        assert_eq!(place.bytes(), file);
    }
}

#[test]
fn a_crash_while_a_log_is_made_is_no_obstacle() {
    let place = Place::with(0);
    let files: Vec<_> = ["key", "vkey", "log", "checkpoint"]
        .map(|name| (name, fs::read(place.file(name)).unwrap()))
        .into();
    // In the order in which they are made: log, key, vkey, checkpoint; each of them whole, or the first ones cut.
    for header in 0..=HEADER.len() {
        for made in 0..3 {
            let place = Place::empty();
            fs::create_dir(place.log()).unwrap();
            place.write(&HEADER[..header]);
            for (name, content) in &files[..made] {
                fs::write(place.file(name), content).unwrap();
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                fs::set_permissions(place.file(name), mode).unwrap();
            }
            place.append(0..2);
            assert_eq!(place.numbers(), [0, 1]);
            assert!(place.verify().is_intact());
        }
    }
}

#[test]
fn on_a_full_disk_last_words_are_written_and_nothing_else_is() {
    let place = Place::empty();
    let disk = Disk::new();
    let log = disk.open(&place.log()).unwrap();
    log.append(&entry(0)).unwrap();
    assert!(log.health().reserve);
    // Full from now on, but for what was taken.
    disk.set(|faults| faults.capacity = 0);
    let many = vec![entry(1); 50];
    let error = loop {
        if let Err(error) = log.append_all(&many) {
            break error;
        }
    };
    assert!(matches!(error, LogError::Folder(FolderError::Full(_))), "{error}");
    let appended = log.health().entries;
    assert_eq!(appended % 50, 1);
    // A whole sentence that ends with a last word.
    log.append_all(&[entry(1), last_word()]).unwrap();
    log.append(&last_word()).unwrap();
    let mut words = 3;
    while log.append_all(&vec![last_word(); 100]).is_ok() {
        words += 100;
    }
    assert!(words > 2000, "{words}");
    log.close().unwrap();
    let report = place.verify();
    assert!(report.is_intact());
    assert_eq!(
        (report.entries, report.signed),
        (appended + words, appended + words)
    );
    // There is room again.
    disk.set(|faults| faults.capacity = u64::MAX);
    disk.open(&place.log()).unwrap().append(&entry(0)).unwrap();
}

#[test]
fn a_file_system_that_cannot_reserve_is_used_without_and_the_log_says_so() {
    let place = Place::empty();
    let disk = Disk::new();
    disk.set(|faults| faults.reserves = false);
    let log = disk.open(&place.log()).unwrap();
    log.append(&entry(0)).unwrap();
    assert!(!log.health().reserve);
    // Full in the middle of an entry: nothing of it stays.
    let length = place.bytes().len() as u64;
    for fits in [0, 1, 20, 60] {
        disk.set(|faults| faults.capacity = length + fits);
        for entry in [entry(1), last_word()] {
            let error = log.append(&entry).unwrap_err();
            assert!(matches!(error, LogError::Folder(FolderError::Full(_))), "{error}");
            assert_eq!(place.bytes().len() as u64, length);
        }
    }
    disk.set(|faults| faults.capacity = u64::MAX);
    log.append(&entry(1)).unwrap();
    drop(log);
    assert_eq!(place.numbers(), [0, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_disk_that_fails_at_any_moment_loses_nothing_that_was_acknowledged(works in 0..30usize, fails in 1..4usize, half in 0..200usize) {
        let place = Place::empty();
        let disk = Disk::new();
        let mut log = disk.open(&place.log()).unwrap();
        disk.set(|faults| (faults.works, faults.fails, faults.half) = (works, fails, half));
        let mut acknowledged = Vec::new();
        for number in 0..20 {
            match log.append(&entry(number)) {
                Ok(_) => acknowledged.push(number),
                Err(LogError::Broken(_)) => {
                    drop(log);
                    // As often as it takes.
                    log = loop {
                        if let Ok(log) = disk.open(&place.log()) {
                            break log;
                        }
                    };
                }
                Err(LogError::Folder(FolderError::Io(..))) => {}
                Err(error) => panic!("{error}"),
            }
        }
        log.close().unwrap();
        let report = place.verify();
        prop_assert!(report.is_intact(), "{:?}", report.damages);
        let found: Vec<_> = Reader::open(&place.log()).unwrap().filter_map(|item| match item.unwrap() {
            Item::Entry { entry: Ok(Entry { event: Event::ClockJump { by_ms }, .. }), .. } => Some(by_ms as u64),
            _ => None,
        }).collect();
        // In order, without one twice; more than acknowledged only where the failure could not be taken back.
        prop_assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        prop_assert!(acknowledged.iter().all(|number| found.contains(number)), "{found:?} {acknowledged:?}");
        prop_assert!(fails > 1 || found == acknowledged, "{found:?} {acknowledged:?}");
    }
}

#[test]
fn a_failure_that_cannot_be_taken_back_ends_the_log_for_this_process() {
    let place = Place::empty();
    let disk = Disk::new();
    let log = disk.open(&place.log()).unwrap();
    log.append(&entry(0)).unwrap();
    disk.set(|faults| (faults.works, faults.fails, faults.half) = (0, 2, 30));
    let error = log.append(&entry(1)).unwrap_err();
    assert!(matches!(error, LogError::Folder(FolderError::Io(..))), "{error}");
    assert!(matches!(log.append(&entry(2)), Err(LogError::Broken(_))));
    drop(log);
    let log = disk.open(&place.log()).unwrap();
    assert!(matches!(
        recovered(&place, 1),
        Event::LogRecovered { bytes: 30, .. }
    ));
    log.append(&entry(2)).unwrap();
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_told_of_and_written_later() {
    let place = Place::empty();
    let log = Log::open(&place.log()).unwrap();
    // Something is in its way.
    fs::remove_file(place.file("checkpoint.next")).unwrap();
    fs::create_dir(place.file("checkpoint.next")).unwrap();
    log.append(&entry(0)).unwrap();
    while log.health().trouble.is_none() {
        std::thread::yield_now();
    }
    assert!(log.checkpoint().is_err());
    assert_eq!(log.health().signed, 0);
    // Entries are taken all the same: they are on the disk.
    log.append(&entry(1)).unwrap();
    fs::remove_dir(place.file("checkpoint.next")).unwrap();
    while log.health().trouble.is_some() {
        std::thread::yield_now();
    }
    assert_eq!(log.health().signed, 2);
    assert_eq!(place.verify().signed, 2);
}

/// A small disk of its own, where this machine lets us have one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path, size: &str) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none"])
            .arg(path);
        match mount.output() {
            Ok(done) if done.status.success() => Some(Self(path.to_owned())),
            done => {
                println!("skipped: no tmpfs can be mounted here: {done:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = std::process::Command::new("umount").arg(&self.0).status();
        println!("umount: {done:?}");
    }
}

#[test]
fn on_a_real_full_disk_last_words_are_written_and_signed() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(place.path(), "4m") else {
        return;
    };
    let path = disk.0.join("log");
    let log = Log::open(&path).unwrap();
    log.append(&entry(0)).unwrap();
    log.checkpoint().unwrap();
    let mut filler = fs::File::create(disk.0.join("filler")).unwrap();
    while io::Write::write_all(&mut filler, &[1; 512]).is_ok() {}
    let mut appended = 1;
    let error = loop {
        match log.append(&entry(appended)) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LogError::Folder(FolderError::Full(_))), "{error}");
    for _ in 0..1000 {
        log.append(&last_word()).unwrap();
    }
    log.close().unwrap();
    let report = verify(&path, &VerifyOptions::default()).unwrap();
    assert!(report.is_intact());
    assert_eq!(
        (report.entries, report.signed),
        (appended + 1000, appended + 1000)
    );
    // A new log does not fit, and says why.
    let error = Log::open(&disk.0.join("other")).unwrap_err();
    assert!(matches!(error, LogError::Folder(FolderError::Full(_))), "{error}");
    // A crash in the middle of a last word, on the full disk.
    let whole = fs::read(path.join("log")).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path.join("log")).unwrap();
    file.put(b"half a frame", whole.len() as u64).unwrap();
    drop(file);
    Log::open(&path).unwrap().close().unwrap();
    let report = verify(&path, &VerifyOptions::default()).unwrap();
    assert!(report.is_intact());
    assert_eq!(report.entries, appended + 1001);
}
