use super::*;
use std::os::unix::fs::PermissionsExt;

fn folder() -> (tempfile::TempDir, Folder) {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::make(&place.path().join("log")).unwrap();
    (place, folder)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}

#[test]
fn a_key_is_made_for_its_owner_alone_and_read_again() {
    let (_place, folder) = folder();
    folder.make_key().unwrap();
    assert_eq!(mode(folder.path()), 0o700);
    assert_eq!(mode(&folder.file(KEY)), 0o600);
    let text = std::fs::read_to_string(folder.file(KEY)).unwrap();
    assert_eq!(hex::encode(folder.key().unwrap().to_bytes()), text.trim_end());
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (_place, folder) = folder();
    folder.make_key().unwrap();
    for mode in [0o640, 0o604, 0o660, 0o601] {
        std::fs::set_permissions(folder.file(KEY), PermissionsExt::from_mode(mode)).unwrap();
        let error = folder.key().unwrap_err();
        assert!(matches!(error, FolderError::KeyTooOpen(_, found) if found == mode));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[test]
fn what_is_no_key_is_refused_and_not_shown() {
    let (_place, folder) = folder();
    folder.make_key().unwrap();
    let digits = "5a".repeat(32);
    for wrong in [
        &digits[1..],
        &format!("{digits}5a"),
        &digits.replace('a', "g"),
        "",
    ] {
        std::fs::write(folder.file(KEY), wrong).unwrap();
        let error = folder.key().unwrap_err();
        assert!(matches!(error, FolderError::NotAKey(_)), "{error}");
        assert!(!error.to_string().contains("5a5a"));
    }
    std::fs::write(folder.file(KEY), &digits).unwrap();
    assert_eq!(folder.key().unwrap().to_bytes(), [0x5a; 32]);
    std::fs::remove_file(folder.file(KEY)).unwrap();
    std::fs::create_dir(folder.file(KEY)).unwrap();
    assert!(matches!(folder.key(), Err(FolderError::NotAFile(..))));
}

#[test]
fn a_folder_that_others_write_into_is_refused() {
    let (_place, folder) = folder();
    let path = folder.path();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o750)).unwrap();
    Folder::open(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o770)).unwrap();
    let error = Folder::open(path).unwrap_err().to_string();
    assert!(error.contains("chmod go-w"), "{error}");
    let missing = Folder::open(&path.join("x")).unwrap_err();
    assert!(matches!(missing, FolderError::Io(..)));
}

#[test]
fn a_file_is_replaced_whole_and_keeps_nothing_of_the_old_one() {
    let (_place, folder) = folder();
    assert_eq!(folder.read("note", 100).unwrap(), None);
    for content in ["first", "the second one is longer", "3", "fourth", ""] {
        folder.replace("note", content.as_bytes()).unwrap();
        assert_eq!(folder.read("note", 100).unwrap().as_deref(), Some(content));
    }
    // The one before is the space for the one after.
    assert_eq!(folder.read("note.next", 100).unwrap().as_deref(), Some("fourth"));
    assert!(matches!(
        folder.read("note.next", 5),
        Err(FolderError::NotAFile(..))
    ));
    std::fs::write(folder.file("note"), [0xff]).unwrap();
    assert!(matches!(folder.read("note", 5), Err(FolderError::NotAFile(..))));
}

#[test]
fn who_waits_too_long_for_the_lock_is_told_which() {
    let (_place, folder) = folder();
    let patient = Lock::make(&folder, PATIENCE).unwrap();
    let hasty = Lock::make(&folder, Duration::ZERO).unwrap();
    let locked = patient.acquire().unwrap();
    let error = hasty.acquire().unwrap_err();
    assert!(
        matches!(&error, FolderError::Busy(path) if path.ends_with("lock")),
        "{error}"
    );
    drop(locked);
    hasty.acquire().unwrap();
    // Reading takes it as well.
    let reader = Lock::to_read(&folder, Duration::ZERO).unwrap();
    let _locked = reader.acquire().unwrap();
    assert!(hasty.acquire().is_err());
}

#[test]
fn a_lock_that_was_replaced_locks_nothing() {
    let (_place, folder) = folder();
    let lock = Lock::make(&folder, PATIENCE).unwrap();
    std::fs::remove_file(folder.file("lock")).unwrap();
    assert!(matches!(lock.acquire(), Err(FolderError::Replaced(_))));
    std::fs::write(folder.file("lock"), "").unwrap();
    assert!(matches!(lock.acquire(), Err(FolderError::Replaced(_))));
}

#[test]
fn who_had_the_lock_cannot_have_it_again_before_the_one_who_waits() {
    let (_place, folder) = folder();
    let patient = Lock::make(&folder, Duration::from_secs(60)).unwrap();
    let hasty = Lock::make(&folder, Duration::ZERO).unwrap();
    let turn = File::open(folder.file("turn")).unwrap();
    let is_free = || match turn.try_lock() {
        Ok(()) => turn.unlock().is_ok(),
        Err(error) => !matches!(error, TryLockError::WouldBlock),
    };
    let (release, released) = std::sync::mpsc::channel();
    let locked = hasty.acquire().unwrap();
    thread::scope(|scope| {
        let patient = &patient;
        let waiting = scope.spawn(move || {
            let _locked = patient.acquire().unwrap();
            released.recv().unwrap();
        });
        // Looking disturbs it for a moment, which it can bear.
        while is_free() {
            thread::yield_now();
        }
        drop(locked);
        // It waits, or has it already.
        assert!(matches!(hasty.acquire(), Err(FolderError::Busy(_))));
        release.send(()).unwrap();
        waiting.join().unwrap();
    });
    hasty.acquire().unwrap();
}

#[test]
fn errors_of_the_disk_are_told_apart() {
    let path = Path::new("x");
    let kind = |kind: io::ErrorKind| failed(path, kind.into());
    assert!(matches!(kind(io::ErrorKind::StorageFull), FolderError::Full(_)));
    assert!(matches!(kind(io::ErrorKind::QuotaExceeded), FolderError::Full(_)));
    assert!(matches!(
        kind(io::ErrorKind::ReadOnlyFilesystem),
        FolderError::ReadOnly(_)
    ));
    assert!(matches!(
        kind(io::ErrorKind::PermissionDenied),
        FolderError::Io(..)
    ));
}
