//! What is only true of a file: other processes, crashes, wrong keys, damage, a full disk, and people who look inside.

use super::super::MemoryStore;
use super::super::tests::group::{self, Endpoint};
use super::*;
use openmls_sqlite_storage::Codec as _;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const TASK: &str = "GST_MLS_STORE_TEST_TASK";
const PLACE: &str = "GST_MLS_STORE_TEST_PLACE";

fn key() -> Zeroizing<[u8; 32]> {
    Zeroizing::new(std::array::from_fn(|i| 200 - i as u8))
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, &key()).unwrap()
}

fn refused(path: &Path, key: &Zeroizing<[u8; 32]>) -> StoreError {
    match SqliteStore::open(path, key) {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

fn put(store: &mut SqliteStore, name: &str, value: &[u8]) {
    store.transaction(|store| store.put(name, value)).unwrap();
}

fn row(store: &SqliteStore, name: &str) -> Vec<u8> {
    store.get(name).unwrap().unwrap()
}

/// This test binary again, as another process that does `task`.
fn child(task: &str, place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "store::sqlite::tests::task_of_a_child", "--nocapture"])
        .env(TASK, task)
        .env(PLACE, place);
    command
}

/// What a child says begins with `> `; the rest is the test harness.
fn says(text: &str) {
    println!("> {text}");
}

fn said(line: &str) -> Option<&str> {
    line.split_once("> ").map(|(_, text)| text)
}

fn answer(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(said).collect::<Vec<_>>().join("\n")
}

#[test]
fn task_of_a_child() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let place = PathBuf::from(std::env::var_os(PLACE).unwrap());
    match task.as_str() {
        "open" => match SqliteStore::open(&place, &key()) {
            Ok(_) => says("opened"),
            Err(error) => says(&error.to_string()),
        },
        "epochs" => commit_until_killed(&place),
        "fill" => fill(&place),
        _ => panic!("no such task"),
    }
}

#[test]
fn a_database_and_its_folder_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x/y/state.db");
    let mut store = open(&path);
    put(&mut store, "row", b"1");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for name in ["state.db", "state.db-wal", "state.db.lock"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
    drop(store);
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    drop(open(&path));
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    put(&mut open(&path), "row", b"1");
    let mut store = open(&path);
    store.begin().unwrap();
    store.put("row", b"2").unwrap();
    drop(store);
    assert_eq!(row(&open(&path), "row"), b"1");
}

#[test]
fn a_second_opener_is_refused_and_told_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = open(&path);
    let own = std::process::id();
    let error = refused(&path, &key());
    assert!(
        matches!(error, StoreError::InUse { by: Some(pid), .. } if pid == own),
        "{error}"
    );
    let text = answer(child("open", &path));
    assert!(text.contains(&format!("in use by process {own}")), "{text}");
    // The database itself is locked too.
    std::fs::remove_file(beside(&path, ".lock")).unwrap();
    let error = refused(&path, &key());
    assert!(matches!(error, StoreError::InUse { by: None, .. }), "{error}");
    std::fs::remove_file(beside(&path, ".lock")).unwrap();
    let text = answer(child("open", &path));
    assert!(text.contains("in use:"), "{text}");
    drop(store);
    assert_eq!(answer(child("open", &path)), "opened");
}

#[test]
fn another_key_is_called_that_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    put(&mut open(&path), "row", b"1");
    let error = refused(&path, &Zeroizing::new([1; 32]));
    assert!(matches!(error, StoreError::WrongKey(_)), "{error}");
    assert!(error.to_string().contains("state-key-file is not the key"));
    assert_eq!(row(&open(&path), "row"), b"1");
}

#[test]
fn a_foreign_file_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.db");
    let plain = Connection::open(&path).unwrap();
    plain.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(plain);
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(refused(&path, &key()), StoreError::Foreign(_)));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let letter = folder.path().join("letter.txt");
    let text = "Dear Sir or Madam, ".repeat(1000);
    std::fs::write(&letter, &text).unwrap();
    let error = refused(&letter, &key());
    assert!(matches!(error, StoreError::WrongKey(_)), "{error}");
    assert!(!beside(&letter, "-wal").exists());
    assert_eq!(std::fs::read(&letter).unwrap(), text.as_bytes());
    for nowhere in [folder.path(), &letter.join("state.db")] {
        let error = refused(nowhere, &key());
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
    }
}

#[test]
fn a_newer_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = open(&path);
    store
        .run("PRAGMA query_only = OFF; PRAGMA user_version = 99")
        .unwrap();
    drop(store);
    assert!(matches!(refused(&path, &key()), StoreError::Newer(_)));
}

#[test]
fn a_damaged_file_is_an_error_and_no_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let value = vec![5; 100_000];
    put(&mut open(&path), "row", &value);
    let whole = std::fs::read(&path).unwrap();
    for place in (2000..whole.len()).step_by(4096) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        match SqliteStore::open(&path, &key()).and_then(|store| store.get("row")) {
            Err(StoreError::WrongKey(_)) => assert!(place < 4096),
            Err(StoreError::Damaged(_)) => {}
            Ok(_) => panic!("damage at {place} was not seen"),
            Err(error) => panic!("at {place}: {error}"),
        }
    }
    for length in [1, 100, 4095, 4096, 8192, whole.len() - 4096, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let read = SqliteStore::open(&path, &key()).and_then(|store| store.get("row"));
        assert!(
            matches!(read, Err(StoreError::Damaged(_))),
            "{length}: {:?}",
            read.map(|row| row.is_some())
        );
    }
}

/// Everything that lies in the folder, the journal of an open store as well.
fn bytes_on_disk(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        all.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    all
}

fn hits(bytes: &[u8], needle: &[u8]) -> usize {
    bytes
        .windows(needle.len())
        .filter(|window| *window == needle)
        .count()
}

#[test]
fn no_secret_name_or_identity_can_be_read_in_the_file() {
    let (folder, plain_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = open(&folder.path().join("state.db"));
    // The same in a database without encryption shows that the search finds what is there.
    let mut plain = Connection::open(plain_folder.path().join("plain.db")).unwrap();
    SqliteStorageProvider::<Codec, _>::new(&mut plain)
        .run_migrations()
        .unwrap();
    let crypto = RustCrypto::default();
    let plain_provider = Provider {
        crypto: &crypto,
        storage: SqliteStorageProvider::<Codec, _>::new(&plain),
    };

    let endpoint = Endpoint::new("endpoint-with-a-name");
    store.begin().unwrap();
    let package = endpoint.key_package(&store).unwrap();
    let plain_package = endpoint.key_package_with(&plain_provider).unwrap();
    store.put("own-row-name", b"own-row-value").unwrap();
    store.commit().unwrap();
    let (mut a, _) = group::pair(&mut store, &mut MemoryStore::new());
    group::update(&mut store, &mut a);

    let encrypted = bytes_on_disk(folder.path());
    let readable = bytes_on_disk(plain_folder.path());
    assert!(encrypted.len() > 100_000);
    let init_key =
        |package: &openmls::prelude::KeyPackageBundle| Codec::to_vec(package.init_private_key()).unwrap();
    let same = |text: &[u8]| (text.to_vec(), text.to_vec());
    for (needle, plain_needle) in [
        (init_key(&package), init_key(&plain_package)),
        same(b"endpoint-with-a-name"),
        same(b"openmls_key_packages"),
    ] {
        assert!(
            hits(&readable, &plain_needle) > 0,
            "the search finds nothing at all"
        );
        assert_eq!(hits(&encrypted, &needle), 0);
    }
    let (key, secret) = (key(), a.secret(&store));
    for needle in [
        &b"own-row"[..],
        a.group().group_id().as_slice(),
        &secret,
        &key[..],
        hex::encode(&key[..]).as_bytes(),
        PLAIN_HEADER,
    ] {
        assert_eq!(hits(&encrypted, needle), 0);
    }
    drop(store);
    assert_eq!(hits(&bytes_on_disk(folder.path()), b"own-row"), 0);
}

#[test]
fn after_tidying_nothing_is_left_in_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut store = open(&path);
    put(&mut store, "row", &[1; 20_000]);
    let journal = || std::fs::metadata(beside(&path, "-wal")).unwrap().len();
    assert!(journal() > 20_000);
    store.tidy().unwrap();
    assert_eq!(journal(), 0);
    store.begin().unwrap();
    assert!(matches!(store.tidy(), Err(StoreError::Open)));
    store.rollback().unwrap();
    assert_eq!(row(&store, "row"), [1; 20_000]);
}

/// Two members of one group commit and merge in turn, and say how far they got.
fn commit_until_killed(place: &Path) {
    let (mut a_store, mut b_store) = (open(&place.join("a.db")), open(&place.join("b.db")));
    let id = row(&a_store, "group");
    let mut a = Endpoint::load("a", &a_store, &id);
    let mut b = Endpoint::load("b", &b_store, &id);
    loop {
        a_store.begin().unwrap();
        let commit = a.update(&a_store);
        a_store.put("commit", &commit).unwrap();
        note(&a, &a_store);
        a_store.commit().unwrap();
        says(&format!("a {}", a.group().epoch().as_u64()));
        b_store.begin().unwrap();
        b.merge(&b_store, &commit).unwrap();
        note(&b, &b_store);
        b_store.commit().unwrap();
        says(&format!("b {}", b.group().epoch().as_u64()));
    }
}

/// Own rows beside openmls': what the group must be when they are read again.
fn note(endpoint: &Endpoint, store: &SqliteStore) {
    let epoch = endpoint.group().epoch().as_u64();
    store.put("epoch", &epoch.to_be_bytes()).unwrap();
    store.put("secret", &endpoint.secret(store)).unwrap();
}

/// Loads an endpoint and checks that openmls' rows and our own are of one transaction.
fn check(name: &str, store: &SqliteStore, id: &[u8], least: u64) -> Endpoint {
    let endpoint = Endpoint::load(name, store, id);
    let epoch = endpoint.group().epoch().as_u64();
    assert_eq!(row(store, "epoch"), epoch.to_be_bytes());
    assert_eq!(row(store, "secret"), endpoint.secret(store));
    assert!(
        epoch >= least,
        "{name}: epoch {least} was committed, {epoch} is there"
    );
    endpoint
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

/// `GST_MLS_STORE_KILLS` sets how often; 12 by default.
#[test]
fn whenever_it_is_killed_each_member_is_in_one_whole_epoch() {
    let kills = std::env::var("GST_MLS_STORE_KILLS").map_or(12, |number| number.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let (mut a_store, mut b_store) = (open(&place.join("a.db")), open(&place.join("b.db")));
    let (a, b) = group::pair(&mut a_store, &mut b_store);
    let id = a.group().group_id().to_vec();
    for (store, endpoint) in [(&mut a_store, &a), (&mut b_store, &b)] {
        store.begin().unwrap();
        store.put("group", &id).unwrap();
        note(endpoint, store);
        store.commit().unwrap();
    }
    drop((a_store, b_store));

    let (mut last, mut between) = (0, 0);
    for round in 0..kills {
        let mut process = child("epochs", place).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut seen = [0, 0];
        let mut note_line = |line: &str| {
            let text = said(line).and_then(|text| text.split_once(' '));
            if let Some((who, epoch)) = text {
                seen[usize::from(who == "b")] = epoch.parse::<u64>().unwrap();
            }
            text.is_some()
        };
        // Some transactions, then any moment of those that follow.
        let mut count = 0;
        while count < 1 + round % 4 {
            count += usize::from(note_line(&lines.next().unwrap().unwrap()));
        }
        let moment = Duration::from_micros((round as u64 * 7919) % 20_000);
        let start = Instant::now();
        while start.elapsed() < moment {
            std::hint::spin_loop();
        }
        kill(&mut process);
        for line in lines.map_while(Result::ok) {
            note_line(&line);
        }

        let (a_store, mut b_store) = (open(&place.join("a.db")), open(&place.join("b.db")));
        let a = check("a", &a_store, &id, seen[0]);
        let mut b = check("b", &b_store, &id, seen[1]);
        if a.group().epoch() != b.group().epoch() {
            between += 1;
            b_store.begin().unwrap();
            b.merge(&b_store, &row(&a_store, "commit")).unwrap();
            note(&b, &b_store);
            b_store.commit().unwrap();
        }
        assert_eq!(a.group().epoch(), b.group().epoch());
        assert_eq!(a.secret(&a_store), b.secret(&b_store));
        assert!(
            a.group().epoch().as_u64() > last,
            "the child did nothing before it was killed"
        );
        last = a.group().epoch().as_u64();
    }
    println!("{kills} kills up to epoch {last}, {between} of them between the two members' transactions");
}

/// Writes until the disk refuses, and says why it stopped and how far it got.
fn fill(place: &Path) {
    let mut store = open(place);
    for number in 0u8.. {
        let result = store.transaction(|store| {
            store.put("count", &[number])?;
            store.put(&number.to_string(), &[number; 50_000])
        });
        if let Err(error) = result {
            says(&error.to_string());
            // It still reads, and refuses again.
            says(&row(&store, "count")[0].to_string());
            let again = store.transaction(|store| store.put("x", &[1; 500_000]));
            assert!(again.is_err());
            return;
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_keeps_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    drop(open(&path));
    let inner = child("fill", &path);
    // No file above 1 MiB, and no signal about it, which would end the process.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    let text = answer(command);
    let (error, count) = text.split_once('\n').unwrap();
    assert!(error.contains("the disk is full"), "{error}");
    let count: u8 = count.parse().unwrap();
    assert!(count > 3, "{count}");
    let mut store = open(&path);
    assert_eq!(row(&store, "count"), [count]);
    assert_eq!(row(&store, &count.to_string()), [count; 50_000]);
    assert_eq!(store.get(&(count + 1).to_string()).unwrap(), None);
    put(&mut store, "x", &[1; 2_000_000]);
}
