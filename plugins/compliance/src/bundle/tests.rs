#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use age::x25519::Identity;
use ed25519_dalek::SigningKey;
use tempfile::TempDir;

use super::*;
use crate::age_file::{identity_text, open, parse_identities};
use crate::breakglass::custodian::{FileKey, public};
use crate::signing::Signer;

fn dealer() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

struct World {
    folder: TempDir,
    people: Vec<Identity>,
}

impl World {
    fn new(people: usize) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            people: (0..people).map(|_| Identity::generate()).collect(),
        }
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn lines(&self) -> String {
        let lines: Vec<_> = self
            .people
            .iter()
            .map(|key| key.to_public().to_string())
            .collect();
        format!("# people\n\n  {}  \n", lines.join("\n"))
    }

    fn custodians(&self) -> Vec<String> {
        self.people
            .iter()
            .map(|key| public(&FileKey::new(key.clone()).unwrap(), None).to_string())
            .collect()
    }

    fn recipients(&self) -> Holders {
        Holders::Recipients(Recipients::read(&self.file("recipients", &self.lines())).unwrap())
    }

    fn escrow(&self, m: usize) -> Holders {
        let people = self.custodians().join("\n");
        let text = format!("# escrow\n{m} of {}\n\n{people}\n# end\n", self.people.len());
        Holders::Escrow(Escrow::read(&self.file("escrow", &text)).unwrap())
    }

    fn prepare(&self, holders: &Holders, count: u32) -> Vec<RecordingId> {
        prepare(&self.keys(), holders, count, &dealer()).unwrap()
    }

    fn take(&self) -> Result<Bundle, BundleError> {
        take_next(&self.keys(), Some(dealer().public()), &|_| true)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn each_recipient_unwraps_the_key_of_the_recording() {
    let world = World::new(2);
    let ids = world.prepare(&world.recipients(), 1);
    let bundle = world.take().unwrap();
    assert_eq!([bundle.id()], ids[..]);
    assert_eq!(bundle.dealer(), dealer().public());
    assert_eq!(bundle.recipients().len(), 2);
    assert!(bundle.escrow().is_none());
    let names: Vec<_> = bundle.files().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["bundle.json", "key.age"]);
    for person in &world.people {
        assert!(
            bundle
                .recipients()
                .contains(&holders::fingerprint(&person.to_public()))
        );
        let text = open(&bundle.files()[1].1, std::slice::from_ref(person)).unwrap();
        let identity = parse_identities(&text).unwrap().remove(0);
        assert_eq!(identity.to_public(), *bundle.public());
    }
    assert!(open(&bundle.files()[1].1, &[Identity::generate()]).is_err());
}

#[test]
fn any_m_of_n_shares_give_the_key_and_fewer_or_wrong_ones_do_not() {
    let world = World::new(4);
    world.prepare(&world.escrow(3), 2);
    let shares = |bundle: &Bundle| -> Vec<Zeroized> {
        assert!(bundle.recipients().is_empty());
        let files = &bundle.files()[1..];
        assert_eq!(files.len(), 4);
        files
            .iter()
            .zip(&world.people)
            .map(|((_, file), person)| open(file, std::slice::from_ref(person)).unwrap())
            .collect()
    };
    let bundle = world.take().unwrap();
    let escrow = bundle.escrow().unwrap();
    assert_eq!((escrow.m, escrow.n), (3, 4));
    let texts = shares(&bundle);
    let read = |index: usize| Share::decode(&texts[index]).unwrap();
    for subset in [vec![0, 1, 2], vec![3, 1, 0], vec![2, 3, 1], vec![0, 1, 2, 3]] {
        let some: Vec<_> = subset.iter().map(|index| read(*index)).collect();
        assert_eq!(combine(&some).unwrap().to_public(), *bundle.public());
    }
    let (needed, given) = (3, 2);
    assert_eq!(
        combine(&[read(0), read(1)]).err(),
        Some(ShareError::TooFew { needed, given })
    );
    assert_eq!(
        combine(&[read(0), read(1), read(1)]).err(),
        Some(ShareError::Twice(2))
    );
    assert!(combine(&[]).is_err());

    let other = world.take().unwrap();
    let foreign = Share::decode(&shares(&other)[2]).unwrap();
    assert_eq!(
        combine(&[read(0), read(1), foreign]).err(),
        Some(ShareError::Another(3))
    );
}

type Zeroized = zeroize::Zeroizing<Vec<u8>>;

#[test]
fn every_damaged_digit_of_a_share_is_noticed() {
    let world = World::new(2);
    world.prepare(&world.escrow(2), 1);
    let bundle = world.take().unwrap();
    let text = |index: usize| open(&bundle.files()[index].1, &world.people).unwrap();
    let (first, second) = (text(1), text(2));
    for byte in 0..first.len() {
        let mut damaged = first.to_vec();
        damaged[byte] ^= 1;
        let combined =
            Share::decode(&damaged).and_then(|share| combine(&[share, Share::decode(&second).unwrap()]));
        assert!(combined.is_err(), "byte {byte}");
    }
}

#[test]
fn secrets_are_in_no_debug_text() {
    let world = World::new(2);
    world.prepare(&world.escrow(1), 1);
    let bundle = world.take().unwrap();
    let text = open(&bundle.files()[1].1, &world.people).unwrap();
    let share = Share::decode(&text).unwrap();
    let secret = combine(std::slice::from_ref(&share)).unwrap();
    let debug = format!("{share:?} {bundle:?}");
    assert!(!debug.contains("SECRET") && !debug.contains(identity_text(&secret).as_str()));
    let hex = std::str::from_utf8(&text)
        .unwrap()
        .rsplit('"')
        .nth(1)
        .unwrap()
        .to_owned();
    assert_eq!(hex.len(), 148);
    assert!(!debug.contains(&hex));
}

#[test]
fn an_escrow_has_one_fingerprint_whatever_comments_its_file_has() {
    let world = World::new(3);
    let people = world.custodians();
    let read = |text: String| Escrow::read(&world.file("escrow", &text)).unwrap().facts();
    let facts = read(format!("2 of 3\n{}\n", people.join("\n")));
    let form = format!("gst-e2ee escrow v1\n2 of 3\n{}\n", people.join("\n"));
    assert_eq!(facts.fingerprint, Digest::of(form.as_bytes()));
    assert_eq!(
        facts,
        read(format!("# x\n2 of 3\r\n\n{}", people.join("\n# y\n")))
    );
    assert_eq!(
        facts,
        read(format!("2 of 3\n{}\n", people.join("\n").replace(' ', "  \t")))
    );
    assert_ne!(facts, read(format!("3 of 3\n{}\n", people.join("\n"))));
    let turned: Vec<_> = people.iter().rev().cloned().collect();
    assert_ne!(facts, read(format!("2 of 3\n{}\n", turned.join("\n"))));
    // Whose signature counts, and who that is, are part of it.
    let named = read(format!("2 of 3\n{} dr-1\n", people.join("\n")));
    assert_ne!(facts, named);
    let stranger = SigningKey::from_bytes(&[1; 32]).public().to_string();
    let swapped = people[2].replace(people[2].split_once(' ').unwrap().1, &stranger);
    assert_ne!(
        facts,
        read(format!("2 of 3\n{}\n{}\n{swapped}\n", people[0], people[1]))
    );
}

#[test]
fn files_of_recipients_and_custodians_say_what_is_wrong_and_where() {
    let world = World::new(2);
    let [one, two] = [0, 1].map(|index| world.people[index].to_public().to_string());
    let secret = identity_text(&world.people[0]);
    let recipients = |text: String| {
        let read = Recipients::read(&world.file("list", &text));
        read.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(recipients(format!("{one}\n{two}")), "");
    assert!(recipients("# none\n".to_owned()).contains("names no recipient"));
    assert!(recipients(format!("{one}\n\n{one}\n")).contains("line 3: stands in the file already"));
    assert!(recipients(format!("{one}\nssh-ed25519 AAAA\n")).contains("line 2: is no X25519 recipient"));
    let private = recipients(format!("{}\n", secret.as_str()));
    assert!(
        private.contains("PRIVATE") && !private.contains(secret.as_str()),
        "{private}"
    );
    assert!(recipients("x".repeat(70_000)).contains("longer than 64 KiB"));

    let escrow = |text: String| {
        let read = Escrow::read(&world.file("list", &text));
        read.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let [one, two] = [0, 1].map(|index| world.custodians()[index].clone());
    assert_eq!(escrow(format!("1 of 2\n{one} dr-1\n{two}")), "");
    assert!(escrow(String::new()).contains("is empty"));
    for first in ["0 of 2", "3 of 2", "2", "2 of 256", &one] {
        assert!(
            escrow(format!("{first}\n{one}\n{two}")).contains("line 1: must say"),
            "{first}"
        );
    }
    assert!(escrow(format!("2 of 3\n{one}\n{two}")).contains("says 2 of 3 and names 2"));
    let (key, signing) = one.split_once(' ').unwrap();
    let (other, other_signing) = two.split_once(' ').unwrap();
    for (second, why) in [
        (other.to_owned(), "has no signing key"),
        (
            format!("{other} {}", &other_signing[1..]),
            "64 lower-case hex digits",
        ),
        (
            format!("{other} {}", "00".repeat(32)),
            "with which nothing can be signed",
        ),
        (
            format!("{other} {other_signing} a b"),
            "more than two keys and an id",
        ),
        (
            format!("{other} {other_signing} m\u{fc}ller"),
            "an id has letters",
        ),
        (format!("{key} {other_signing}"), "stands in the file already"),
        (format!("{other} {signing}"), "stands in the file already"),
        (
            format!("{other} {other_signing} dr-1"),
            "stands in the file already",
        ),
    ] {
        let error = escrow(format!("1 of 2\n{one} dr-1\n{second}"));
        assert!(
            error.contains("line 3") && error.contains(why),
            "{second}: {error}"
        );
    }
}

#[test]
fn a_bundle_with_any_byte_changed_cut_added_or_removed_is_refused() {
    let world = World::new(2);
    for holders in [world.recipients(), world.escrow(2)] {
        let id = world.prepare(&holders, 1)[0].to_string();
        let whole = world.keys().join(&id);
        let pinned = Some(dealer().public());
        assert!(Bundle::read(&whole, pinned).is_ok());
        let folder = world.folder.path().join("changed").join(&id);
        copy(&whole, &folder);
        for path in files(&folder) {
            let bytes = fs::read(&path).unwrap();
            // In place: some file systems write out at once what takes the place of a whole file.
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            for (at, byte) in (0..).zip(&bytes) {
                for bit in 0..8 {
                    file.write_all_at(&[byte ^ 1 << bit], at).unwrap();
                    let read = Bundle::read(&folder, pinned);
                    assert!(
                        matches!(read, Err(BundleError::Refused { .. })),
                        "{path:?}, {at}, {bit}"
                    );
                }
                file.write_all_at(&[*byte], at).unwrap();
            }
            for length in (0..bytes.len() as u64 - 1).rev() {
                file.set_len(length).unwrap();
                assert!(Bundle::read(&folder, pinned).is_err(), "{path:?} {length} bytes");
            }
            fs::remove_file(&path).unwrap();
            assert!(matches!(
                Bundle::read(&folder, pinned),
                Err(BundleError::Refused { .. })
            ));
            fs::write(&path, bytes).unwrap();
        }
        assert!(Bundle::read(&folder, pinned).is_ok());
        fs::write(folder.join("identity.txt"), "x").unwrap();
        let error = Bundle::read(&folder, pinned).unwrap_err().to_string();
        assert!(error.contains("identity.txt is no part of it"), "{error}");
        fs::remove_dir_all(world.folder.path().join("changed")).unwrap();
    }
}

#[test]
fn only_the_pinned_dealers_bundles_are_taken_and_only_under_their_own_name() {
    let world = World::new(1);
    let id = world.prepare(&world.recipients(), 1)[0];
    let stranger = SigningKey::from_bytes(&[8; 32]).public();
    let error = take_next(&world.keys(), Some(stranger), &|_| true).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("and not the dealer {stranger}")),
        "{error}"
    );
    let other = RecordingId::from_bytes([9; 16]);
    fs::rename(
        world.keys().join(id.to_string()),
        world.keys().join(other.to_string()),
    )
    .unwrap();
    assert!(
        world
            .take()
            .unwrap_err()
            .to_string()
            .contains("not the name of its recording")
    );
}

#[test]
fn bundles_of_two_dealers_do_not_mix() {
    let world = World::new(1);
    world.prepare(&world.recipients(), 1);
    let stranger = SigningKey::from_bytes(&[8; 32]);
    let error = prepare(&world.keys(), &world.recipients(), 1, &stranger).unwrap_err();
    assert!(error.to_string().contains("names another dealer"), "{error}");
    let named = fs::read_to_string(world.keys().join(DEALER_FILE)).unwrap();
    assert_eq!(named, format!("{}\n", dealer().public()));
}

#[test]
fn a_bundle_for_others_is_left_where_it_is() {
    let world = World::new(1);
    world.prepare(&world.recipients(), 2);
    let error = take_next(&world.keys(), None, &|_| false).unwrap_err();
    assert!(matches!(error, BundleError::NoneFits { others: 2, .. }));
    assert!(world.take().is_ok());
    assert!(world.take().is_ok());
    assert!(matches!(world.take(), Err(BundleError::NoneLeft(_))));
}

#[test]
fn a_used_bundle_that_comes_back_from_a_backup_is_not_taken_again() {
    let world = World::new(1);
    let id = world.prepare(&world.recipients(), 1)[0].to_string();
    copy(&world.keys(), &world.folder.path().join("backup"));
    world.take().unwrap();
    copy(&world.folder.path().join("backup"), &world.keys());
    assert!(world.keys().join(&id).exists());
    assert!(matches!(world.take(), Err(BundleError::NoneLeft(_))));
    // Nor where somebody tidied up: the name is what counts.
    fs::remove_dir_all(world.keys().join(USED).join(&id)).unwrap();
    fs::create_dir(world.keys().join(USED).join(&id)).unwrap();
    assert!(matches!(world.take(), Err(BundleError::NoneLeft(_))));
}

#[test]
fn shares_that_are_forged_together_do_not_pass_for_the_recordings_key() {
    let world = World::new(2);
    world.prepare(&world.escrow(2), 1);
    let bundle = world.take().unwrap();
    let stranger = Identity::generate();
    let forged: Vec<_> = shares::deal(&stranger, bundle.id(), 2, 2)
        .iter()
        .map(|share| {
            let text = String::from_utf8(share.encode().unwrap().to_vec()).unwrap();
            let text = text.replace(&stranger.to_public().to_string(), &bundle.public().to_string());
            Share::decode(text.as_bytes()).unwrap()
        })
        .collect();
    assert_eq!(combine(&forged).err(), Some(ShareError::Wrong));
}

#[test]
fn many_threads_never_take_the_same_bundle() {
    let world = World::new(1);
    let made: BTreeSet<_> = world.prepare(&world.recipients(), 24).into_iter().collect();
    let taken: Vec<RecordingId> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut own = Vec::new();
                    while let Ok(bundle) = world.take() {
                        own.push(bundle.id());
                    }
                    own
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(taken.len(), 24);
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), made);
}

const TAKER: &str = "GST_E2EE_TAKE_BUNDLES_FROM";

/// Not a test by itself: the process that the next test kills.
#[test]
fn takes_bundles_and_says_which() {
    let Some(keys) = std::env::var_os(TAKER) else {
        return;
    };
    while let Ok(bundle) = take_next(Path::new(&keys), None, &|_| true) {
        println!("\ntaken {}", bundle.id());
    }
}

#[test]
fn processes_that_are_killed_at_any_moment_never_take_a_bundle_twice() {
    let world = World::new(1);
    let made = world.prepare(&world.recipients(), 40).len();
    let mut taken = Vec::new();
    for round in 0..12 {
        let mut children: Vec<_> = (0..2)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args([
                        "--exact",
                        "--nocapture",
                        "bundle::tests::takes_bundles_and_says_which",
                    ])
                    .env(TAKER, world.keys())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let mut lines: Vec<_> = children
            .iter_mut()
            .map(|child| BufReader::new(child.stdout.take().unwrap()).lines())
            .collect();
        let ids = |line: String| line.strip_prefix("taken ").map(str::to_owned);
        // After a few bundles of the first one both are killed, wherever they are.
        let mut wanted = round % 3;
        for line in lines[0].by_ref().map_while(Result::ok) {
            taken.extend(ids(line.clone()));
            wanted -= i32::from(line.starts_with("taken "));
            if wanted < 0 {
                break;
            }
        }
        for child in &mut children {
            let _ = child.kill();
            child.wait().unwrap();
        }
        for rest in &mut lines {
            taken.extend(rest.map_while(Result::ok).filter_map(ids));
        }
    }
    while let Ok(bundle) = world.take() {
        taken.push(bundle.id().to_string());
    }
    let once: BTreeSet<_> = taken.iter().collect();
    assert_eq!(once.len(), taken.len(), "one was taken twice");
    assert!(taken.len() <= made);
    assert_eq!(fs::read_dir(world.keys().join(USED)).unwrap().count(), made);
}

#[test]
fn the_dealers_key_is_made_once_and_only_its_owner_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dealer.key");
    let key = dealer::load_or_make(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(dealer::load_or_make(&path).unwrap().public(), key.public());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let text = fs::read_to_string(&path).unwrap();
    for bad in [
        "",
        "00\n",
        &text[1..],
        &text.replace('\n', "x"),
        &format!("{text}\n"),
    ] {
        fs::write(&path, bad).unwrap();
        let error = dealer::load_or_make(&path).unwrap_err().to_string();
        assert!(error.contains("is no dealer's key"), "{error}");
    }
    fs::write(&path, &text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = dealer::load_or_make(&path).unwrap_err().to_string();
    assert!(
        error.contains("can be read by others") && !error.contains(text.trim()),
        "{error}"
    );
}
