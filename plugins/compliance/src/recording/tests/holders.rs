//! Statements of whom a key was wrapped to: what is believed, and what is not.

use proptest::prelude::*;

use super::*;
use crate::bundle::FileFacts;
use crate::digest::Digest;
use crate::recording::holders::{HOLDERS, MAX_NUMBER, REWRAP_FILE, Rewrap};

/// A statement that goes on from what was recorded, and the recording.
fn statement(made: &Made, number: u32, previous: Digest) -> Rewrap {
    Rewrap {
        version: 1,
        recording: Index::open(&made.path, &options()).unwrap().facts().recording,
        number,
        previous,
        recipients: vec![Digest([1; 32]), Digest([2; 32])],
        escrow: None,
        files: vec![FileFacts::new("key.age", b"key")],
    }
}

fn recorded(made: &Made) -> Digest {
    Digest::of(&fs::read(made.path.join(RECORDING_FILE)).unwrap())
}

/// Puts a statement into the folder; gives its digest.
fn put(made: &Made, name: &str, bytes: &[u8]) -> Digest {
    let folder = made.path.join(HOLDERS).join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(REWRAP_FILE), bytes).unwrap();
    Digest::of(bytes)
}

fn read(made: &Made, rewraps: Rewraps) -> Result<KeyHolders, HoldersError> {
    let file = fs::read(made.path.join(RECORDING_FILE)).unwrap();
    let (facts, _) = Facts::decode(&file).unwrap();
    KeyHolders::read(&made.path, &facts, &file, rewraps)
}

#[test]
fn a_statement_counts_as_the_logs_key_signed_it_and_not_otherwise() {
    let made = made(1);
    let rewrap = statement(&made, 1, recorded(&made));
    let bytes = rewrap.encode(&*log_key()).unwrap();
    let key = log_key().public();
    assert_eq!(Rewrap::decode(&bytes, &key), Ok(rewrap.clone()));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Rewrap::decode(&flipped, &key).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() - 1 {
        assert!(Rewrap::decode(&bytes[..length], &key).is_err(), "{length} bytes");
    }
    let by_another = rewrap.encode(&dealer()).unwrap();
    assert!(
        Rewrap::decode(&by_another, &key)
            .unwrap_err()
            .contains("audit log's key")
    );
}

#[test]
fn a_statement_that_contradicts_itself_is_not_written() {
    let made = made(1);
    let good = statement(&made, 1, recorded(&made));
    let change = |change: &dyn Fn(&mut Rewrap)| {
        let mut rewrap = good.clone();
        change(&mut rewrap);
        rewrap.encode(&*log_key())
    };
    assert!(change(&|_| {}).is_ok());
    assert!(change(&|rewrap| rewrap.version = 2).is_err());
    assert!(change(&|rewrap| rewrap.number = 0).is_err());
    assert!(change(&|rewrap| rewrap.number = MAX_NUMBER + 1).is_err());
    assert!(change(&|rewrap| rewrap.recipients.clear()).is_err());
    assert!(change(&|rewrap| rewrap.recipients.reverse()).is_err());
    assert!(change(&|rewrap| rewrap.files.clear()).is_err());
    assert!(change(&|rewrap| rewrap.files[0].name = "../key.age".to_owned()).is_err());
}

#[test]
fn the_last_statement_of_an_unbroken_chain_says_who_holds_the_key() {
    let made = made(1);
    assert_eq!(read(&made, Rewraps::Unknown).unwrap().number, 0);
    let signed = |number, previous| statement(&made, number, previous).encode(&*log_key()).unwrap();
    let first = put(&made, "1", &signed(1, recorded(&made)));
    // A number can be left out: a re-wrapping that was logged and lost.
    let third = put(&made, "3", &signed(3, first));
    let holders = read(&made, Rewraps::Unknown).unwrap();
    assert_eq!((holders.number, holders.statement), (3, third));
    assert_eq!(holders.folder, "holders/3");
    let last = |number, statement| Rewraps::Last(Rewrapping { number, statement });
    assert!(read(&made, last(3, third)).is_ok());
    assert!(matches!(
        read(&made, last(3, first)),
        Err(HoldersError::Damaged { .. })
    ));
    let older = read(&made, last(4, first)).unwrap_err();
    assert!(matches!(older, HoldersError::RolledBack { logged: 4, found: 3 }));
    for unknown in [Rewraps::Never, last(1, first)] {
        assert!(matches!(read(&made, unknown), Err(HoldersError::NotLogged(3))));
    }
    assert!(matches!(
        read(&made, Rewraps::Shredded),
        Err(HoldersError::Shredded)
    ));
    // What waits took effect only where the log has it.
    let fourth = put(&made, ".next", &signed(4, third));
    assert_eq!(read(&made, Rewraps::Unknown).unwrap().number, 3);
    assert_eq!(read(&made, last(3, third)).unwrap().number, 3);
    assert_eq!(read(&made, last(4, fourth)).unwrap().folder, "holders/.next");
    for (name, bytes) in [
        ("4", signed(4, first)),
        ("4", signed(5, third)),
        ("4", signed(3, third)),
    ] {
        put(&made, name, &bytes);
        let error = read(&made, Rewraps::Unknown).unwrap_err();
        assert!(matches!(error, HoldersError::Damaged { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_no_statement(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Rewrap::decode(&bytes, &log_key().public()).is_err());
    }
}
