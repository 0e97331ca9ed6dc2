//! What only a file can get wrong: its place, its owner, its content.

use super::*;
use crate::delivery::place::{default_path_for, prepare_folder};
use crate::delivery::sqlite::SqliteDelivery;
use rusqlite::Connection;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

fn open(path: &Path) -> Result<SqliteDelivery, DeliveryError> {
    SqliteDelivery::open(Some(path), "room")
}

/// A folder, the path of a log in it, and a reader of that log.
fn log() -> (tempfile::TempDir, PathBuf, Reader) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms");
    let reader = Reader::new(Box::new(open(&path).unwrap()));
    (folder, path, reader)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn folders_and_files_are_made_for_this_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/and new/rooms ?mode=memory#1");
    let mut delivery = open(&path).unwrap();
    delivery.append("message", &message("hello")).unwrap();
    assert_eq!(delivery.path(), path);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let files: Vec<_> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|file| file.unwrap())
        .collect();
    assert_eq!(files.len(), 4, "database, bell, and SQLite's -wal and -shm");
    for file in files {
        assert_eq!(mode(&file.path()), 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn without_a_path_the_log_is_below_the_runtime_directory() {
    let runtime = tempfile::tempdir().unwrap();
    let user = rustix::process::geteuid().as_raw();
    let below = |runtime: Option<&Path>, user| default_path_for(runtime.map(Path::to_path_buf), user);
    let in_tmp = PathBuf::from(format!("/tmp/gst-e2ee-{user}/rooms.sqlite"));
    assert_eq!(
        below(Some(runtime.path()), user),
        runtime.path().join("gst-e2ee/rooms.sqlite")
    );
    assert_eq!(below(None, user), in_tmp);
    assert_eq!(below(Some(Path::new("")), user), in_tmp);
    assert_eq!(below(Some(Path::new("relative")), user), in_tmp);
    assert_eq!(below(Some(&runtime.path().join("missing")), user), in_tmp);
    // Somebody else's.
    assert_eq!(
        below(Some(runtime.path()), user + 1),
        Path::new(&format!("/tmp/gst-e2ee-{}/rooms.sqlite", user + 1))
    );
}

#[test]
fn the_folder_that_is_ours_by_default_is_private_and_no_link() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("gst-e2ee");
    let file = own.join("rooms.sqlite");
    prepare_folder(&file, true).unwrap();
    assert_eq!(mode(&own), 0o700);
    prepare_folder(&file, true).unwrap();
    chmod(&own, 0o750);
    assert!(matches!(
        prepare_folder(&file, true),
        Err(DeliveryError::TooOpen(_, 0o750))
    ));
    // A folder that a person chose may be looked into.
    prepare_folder(&file, false).unwrap();
    chmod(&own, 0o700);
    let link = folder.path().join("link");
    symlink(&own, &link).unwrap();
    assert!(matches!(
        prepare_folder(&link.join("rooms"), true),
        Err(DeliveryError::NotAFile(_))
    ));
    prepare_folder(&link.join("rooms"), false).unwrap();
}

#[test]
fn what_others_can_write_or_own_is_refused() {
    let (folder, path, _reader) = log();
    let bell = folder.path().join("rooms-bell");
    for (what, mode, before) in [
        (folder.path(), 0o770, 0o700),
        (&path, 0o640, 0o600),
        (&bell, 0o602, 0o600),
    ] {
        chmod(what, mode);
        let error = open(&path).err().unwrap();
        assert!(matches!(error, DeliveryError::TooOpen(..)), "{error}");
        assert!(error.to_string().contains(&format!("{mode:03o}")), "{error}");
        chmod(what, before);
    }
    if is_root() {
        for what in [folder.path(), &path, &bell] {
            chown(what, Some(65534), None).unwrap();
            let error = open(&path).err().unwrap();
            assert!(matches!(error, DeliveryError::OtherOwner(_)), "{error}");
            chown(what, Some(0), None).unwrap();
        }
    } else {
        let error = open(Path::new("/rooms.sqlite")).err().unwrap();
        assert!(
            matches!(error, DeliveryError::OtherOwner(_) | DeliveryError::Io { .. }),
            "{error}"
        );
    }
    open(&path).unwrap();
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |name: &str| folder.path().join(name);
    fs::create_dir(in_folder("folder")).unwrap();
    fs::write(in_folder("target"), "").unwrap();
    symlink(in_folder("target"), in_folder("link")).unwrap();
    for name in ["folder", "link"] {
        let error = open(&in_folder(name)).err().unwrap();
        assert!(matches!(error, DeliveryError::NotAFile(_)), "{name}: {error}");
    }
    for name in ["target/below a file", "\0"] {
        assert!(open(&in_folder(name)).is_err(), "{name}");
    }
    assert!(open(Path::new("/")).is_err());
    assert!(open(Path::new("/proc/gst-e2ee/rooms")).is_err());
}

#[test]
fn garbage_and_the_databases_of_others_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms");
    let write = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        chmod(&path, 0o600);
    };
    let garbage: Vec<u8> = (0..9000u32).map(|n| (n * 31 % 251) as u8).collect();
    for garbage in [&garbage[..], b"short"] {
        write(garbage);
        let error = open(&path).err().unwrap();
        assert!(
            matches!(error, DeliveryError::Damaged(_)) && !error.is_temporary(),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), garbage);
    }
    fs::remove_file(&path).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (a)")
        .unwrap();
    chmod(&path, 0o600);
    let before = fs::read(&path).unwrap();
    let error = open(&path).err().unwrap();
    assert!(matches!(error, DeliveryError::Foreign(_)), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    // Somebody made the file, and then crashed.
    write(b"");
    open(&path).unwrap();
    // A layout that comes later.
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 2")
        .unwrap();
    assert!(matches!(open(&path), Err(DeliveryError::Foreign(_))));
}

#[test]
fn damage_while_it_is_open_is_an_error() {
    for (damage, readable) in [
        ("DROP TABLE records", false),
        ("UPDATE rooms SET last = -9, last_commit = -9", true),
        ("UPDATE rooms SET last = 0", true),
        ("UPDATE rooms SET last = 9223372036854775807", true),
        ("DELETE FROM rooms", true),
    ] {
        let (_folder, path, mut reader) = log();
        reader.delivery.append_commit(0, &create()).unwrap();
        Connection::open(&path).unwrap().execute_batch(damage).unwrap();
        let appended = reader.delivery.append("message", &message("hello"));
        assert!(
            matches!(appended, Err(DeliveryError::Damaged(_))),
            "{damage}: {appended:?}"
        );
        let read = reader.delivery.read(0, 10);
        assert_eq!(read.is_ok(), readable, "{damage}: {read:?}");
    }
}

#[test]
fn a_file_that_goes_away_wakes_its_readers_with_an_error() {
    type Loss = fn(&Path, &Path);
    let losses: [(&str, Loss); 6] = [
        ("deleted", |_, log| fs::remove_file(log).unwrap()),
        ("renamed", |folder, log| {
            fs::rename(log, folder.join("old")).unwrap()
        }),
        ("replaced", |folder, log| {
            fs::write(folder.join("new"), "").unwrap();
            chmod(&folder.join("new"), 0o600);
            fs::rename(folder.join("new"), log).unwrap();
        }),
        ("bell deleted", |folder, _| {
            fs::remove_file(folder.join("rooms-bell")).unwrap()
        }),
        ("folder renamed", |folder, _| {
            fs::rename(folder, folder.with_extension("old")).unwrap()
        }),
        ("folder deleted", |folder, _| fs::remove_dir_all(folder).unwrap()),
    ];
    for (name, lose) in losses {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("log");
        let path = folder.join("rooms");
        let mut reader = Reader::new(Box::new(open(&path).unwrap()));
        reader.delivery.append_commit(0, &create()).unwrap();
        reader.read_until(|reader| reader.seen.len() == 1);
        let before = reader.ear.woken();
        lose(&folder, &path);
        reader.ear.wait_beyond(before);
        let error = reader.delivery.read(1, 10).unwrap_err();
        assert!(
            matches!(error, DeliveryError::Replaced(_)) && !error.is_temporary(),
            "{name}: {error}"
        );
        for error in [
            reader.delivery.append("message", &message("hello")).err(),
            reader.delivery.append_commit(1, &commit("a")).err(),
            reader.delivery.last_commit().err(),
            reader.delivery.wake_by(Arc::new(|| {})).err(),
        ] {
            // Waiting on a name that is not there fails with what the system says.
            let error = error.unwrap_or_else(|| panic!("{name}: no error"));
            assert!(
                matches!(error, DeliveryError::Replaced(_) | DeliveryError::Io { .. }),
                "{name}: {error}"
            );
        }
        // Opened again, it is another log, except where only the bell was gone.
        let again = open(&path).unwrap();
        assert_eq!(
            again.log() == reader.delivery.log(),
            name == "bell deleted",
            "{name}"
        );
    }
}

#[test]
fn a_locked_database_is_a_temporary_error_and_no_hang() {
    let (_folder, path, mut reader) = log();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Who only reads is not in the way of who writes, nor the other way round.
    assert_eq!(reader.read(), 0);
    let error = reader.delivery.append("message", &message("hello")).unwrap_err();
    assert!(
        matches!(error, DeliveryError::Busy(_)) && error.is_temporary(),
        "{error}"
    );
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(
        reader.delivery.append("message", &message("hello")).unwrap(),
        Appended::Accepted(1)
    );
}

#[test]
fn rooms_of_one_file_do_not_see_each_other_and_are_not_named_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms");
    let names = ["consultation of Mrs Example", "consultation of Mr Example", ""];
    let mut deliveries = names.map(|name| SqliteDelivery::open(Some(&path), name).unwrap());
    for (delivery, name) in deliveries.iter_mut().zip(names) {
        assert_eq!(
            delivery.append_commit(0, &create()).unwrap(),
            Appended::Accepted(1),
            "{name}"
        );
        assert_eq!(
            delivery.append("message", &message("x")).unwrap(),
            Appended::Accepted(2)
        );
    }
    for delivery in &mut deliveries {
        assert_eq!(delivery.read(0, 10).unwrap().len(), 2);
        assert_eq!(delivery.last_commit().unwrap(), 1);
    }
    for file in fs::read_dir(folder.path()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"consulta"));
    }
}

#[test]
fn after_a_day_only_what_is_needed_to_follow_is_kept_and_no_sequence_comes_twice() {
    let (_folder, path, mut reader) = log();
    let delivery = &mut reader.delivery;
    delivery.append_commit(0, &create()).unwrap();
    for kind in ["key-package", "message", "group-info", "group-info-request"] {
        delivery.append(kind, &message(kind)).unwrap();
    }
    delivery
        .append("proposal", &Record::Proposal(vec![]).encode())
        .unwrap();
    delivery.append_commit(1, &commit("a")).unwrap();
    for _ in 0..100 {
        delivery.append("message", &message("heartbeat")).unwrap();
    }
    assert_eq!(delivery.read(0, 1000).unwrap().len(), 107);
    let age = "UPDATE records SET at = at - 86402";
    Connection::open(&path).unwrap().execute_batch(age).unwrap();
    let sequences = |delivery: &mut dyn Delivery| -> Vec<_> {
        let entries = delivery.read(0, 1000).unwrap();
        entries.iter().map(|entry| entry.sequence).collect()
    };
    // A bounded number with each append.
    assert_eq!(
        delivery.append("message", &message("new")).unwrap(),
        Appended::Accepted(108)
    );
    assert_eq!(sequences(&mut **delivery).len(), 107 - 64 + 1);
    Connection::open(&path).unwrap().execute_batch(age).unwrap();
    assert_eq!(
        delivery.append_commit(7, &commit("b")).unwrap(),
        Appended::Accepted(109)
    );
    assert_eq!(sequences(&mut **delivery), [1, 6, 7, 109]);
    assert_eq!(
        delivery.append("message", &message("new")).unwrap(),
        Appended::Accepted(110)
    );
    // Who had read up to what is forgotten now goes on where it was.
    assert_eq!(delivery.read(50, 10).unwrap().len(), 2);
}
