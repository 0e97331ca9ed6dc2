//! Whatever is changed in a recording is noticed, and its place is named.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::manifest::{self, Fact, Raw};
use super::*;
use crate::digest::Digest;

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

fn name(made: &Made, path: &Path) -> String {
    path.strip_prefix(&made.path)
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

fn member(track: u32, sequence: u64) -> Place {
    Place::Member {
        track: TrackId(track),
        sequence,
    }
}

/// Which place must be named for a change of this byte.
fn place_of(index: &Index, name: &str, byte: u64, manifest: &[u8]) -> Place {
    let name = name.to_owned();
    if let Some(tar) = name.strip_prefix("tracks/") {
        let track = index.tracks().iter().find(|track| track.tar() == tar).unwrap();
        let hit = track.members.iter().rev().find(|member| member.offset <= byte);
        return match hit {
            Some(hit) if byte < track.sealed() => member(track.id.0, hit.sequence),
            _ => Place::File(name),
        };
    }
    if name == MANIFEST_FILE {
        let before = &manifest[..usize::try_from(byte).unwrap()];
        return Place::Line(before.iter().filter(|byte| **byte == b'\n').count() as u64);
    }
    Place::File(name)
}

#[test]
fn every_changed_bit_is_noticed_and_its_place_is_named() {
    // One bit of each byte, another one each time; or all eight.
    let all = thorough();
    let made = made(2);
    let manifest = fs::read(made.path.join(MANIFEST_FILE)).unwrap();
    let index = Index::open(&made.path, &options()).unwrap();
    for path in files(&made.path) {
        let bytes = fs::read(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for (at, byte) in (0_u64..).zip(&bytes) {
            let place = place_of(&index, &name(&made, &path), at, &manifest);
            for bit in 0..8 {
                if !all && at % 8 != bit {
                    continue;
                }
                file.write_all_at(&[byte ^ 1 << bit], at).unwrap();
                let report = check(&made.path);
                let named = report.damages.iter().any(|damage| damage.place == place);
                // Without its last line feed a manifest looks like one that is being written.
                let torn = at + 1 == manifest.len() as u64
                    && place == Place::Line(report.root.map_or(0, |root| root.lines));
                let right = if torn {
                    report.state == State::Unfinished
                } else {
                    report.state == State::Damaged && named
                };
                assert!(
                    right,
                    "{path:?} byte {at} bit {bit}: {place:?}, {:?}",
                    report.damages
                );
            }
            file.write_all_at(&[*byte], at).unwrap();
        }
    }
    assert_eq!(check(&made.path).state, State::Complete);
}

#[test]
fn a_file_that_is_cut_at_any_byte_is_noticed_and_the_member_is_named() {
    let made = made(2);
    let manifest = fs::read(made.path.join(MANIFEST_FILE)).unwrap();
    let index = Index::open(&made.path, &options()).unwrap();
    for path in files(&made.path) {
        let bytes = fs::read(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let is_manifest = name(&made, &path) == MANIFEST_FILE;
        let places: Vec<_> = (0..bytes.len() as u64)
            .map(|length| place_of(&index, &name(&made, &path), length, &manifest))
            .collect();
        for (length, place) in places.iter().enumerate().rev() {
            let length = length as u64;
            file.set_len(length).unwrap();
            let report = check(&made.path);
            if is_manifest && length > 0 {
                // That lines are missing at the end only the audit log can say; what was in the tars is seen.
                assert_ne!(report.state, State::Complete, "{length} bytes");
                let cut = length <= manifest.len() as u64 - 1000;
                assert!(report.unsealed > 0 || !cut, "{length} bytes");
            } else {
                assert_eq!(report.state, State::Damaged, "{path:?}, {length} bytes");
                let named = report.damages.iter().any(|damage| damage.place == *place);
                assert!(
                    named || length == 0,
                    "{path:?}, {length} bytes: {:?}",
                    report.damages
                );
            }
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(check(&made.path).state, State::Damaged, "{path:?} is missing");
        fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(check(&made.path).state, State::Complete);
}

/// Changes a tar by what `change` makes of the members' bytes, and says what is found.
fn with_members(made: &Made, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<Damage> {
    let index = Index::open(&made.path, &options()).unwrap();
    let track = &index.tracks()[0];
    let path = made.path.join(TRACKS).join(track.tar());
    let bytes = fs::read(&path).unwrap();
    let mut ends: Vec<_> = track.members.iter().skip(1).map(|member| member.offset).collect();
    ends.extend([track.sealed(), bytes.len() as u64]);
    let mut from = 0;
    let mut pieces = Vec::new();
    for end in ends {
        let end = usize::try_from(end).unwrap();
        pieces.push(bytes[from..end].to_vec());
        from = end;
    }
    change(&mut pieces);
    fs::write(&path, pieces.concat()).unwrap();
    let report = check(&made.path);
    fs::write(&path, bytes).unwrap();
    report.damages
}

#[test]
fn members_that_are_removed_exchanged_doubled_or_added_are_noticed() {
    let made = made(3);
    let places = |damages: Vec<Damage>| damages.into_iter().map(|damage| damage.place).collect::<Vec<_>>();
    assert!(places(with_members(&made, |pieces| drop(pieces.remove(1)))).contains(&member(0, 1)));
    assert!(places(with_members(&made, |pieces| drop(pieces.remove(2)))).contains(&member(0, 2)));
    let exchanged = places(with_members(&made, |pieces| pieces.swap(0, 1)));
    assert!(exchanged.contains(&member(0, 0)) && exchanged.contains(&member(0, 1)));
    let doubled = places(with_members(&made, |pieces| pieces.insert(1, pieces[0].clone())));
    assert!(doubled.contains(&member(0, 1)));
    let added = with_members(&made, |pieces| pieces.push(pieces[0].clone()));
    assert_eq!(added[0].what, What::Extra);
    assert_eq!(added[0].place, Place::File("tracks/0-audio.tar".to_owned()));
}

#[test]
fn a_member_of_another_recording_is_noticed() {
    let (made, other) = (made(2), made(2));
    let theirs = fs::read(other.path.join("tracks/0-audio.tar")).unwrap();
    let found = with_members(&made, |pieces| {
        let length = pieces[0].len();
        pieces[0] = theirs[..length].to_vec();
    });
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].place, member(0, 0));
}

#[test]
fn files_that_do_not_belong_there_are_named() {
    let made = made(1);
    fs::write(made.path.join("note"), "x").unwrap();
    fs::write(made.path.join("reserve"), "x").unwrap();
    fs::create_dir(made.path.join("shares")).unwrap();
    for name in ["2-audio.tar", "0-video.tar", "00-audio.tar", "0-audio.tar.bak"] {
        fs::write(made.path.join(TRACKS).join(name), "x").unwrap();
    }
    let mut names: Vec<_> = check(&made.path)
        .damages
        .into_iter()
        .map(|damage| {
            assert_eq!(damage.what, What::Extra);
            damage.place
        })
        .collect();
    names.sort_by_key(|place| format!("{place:?}"));
    let expected = [
        "note",
        "reserve",
        "shares",
        "tracks/0-audio.tar.bak",
        "tracks/0-video.tar",
        "tracks/00-audio.tar",
        "tracks/2-audio.tar",
    ];
    assert_eq!(names, expected.map(|name| Place::File(name.to_owned())));
}

#[test]
fn a_link_in_place_of_a_file_is_no_file() {
    let made = made(1);
    for name in [RECORDING_FILE, MANIFEST_FILE, "key.age"] {
        let path = made.path.join(name);
        let away = made.folder.path().join("away");
        fs::rename(&path, &away).unwrap();
        std::os::unix::fs::symlink(&away, &path).unwrap();
        let report = check(&made.path);
        assert_eq!(report.damages[0].place, Place::File(name.to_owned()));
        fs::remove_file(&path).unwrap();
        fs::rename(&away, &path).unwrap();
    }
}

fn lines(made: &Made) -> Vec<Vec<u8>> {
    let bytes = fs::read(made.path.join(MANIFEST_FILE)).unwrap();
    let mut source = bytes.as_slice();
    let mut lines = Vec::new();
    while let Some(Raw::Line(line)) = manifest::next_raw(&mut source).unwrap() {
        lines.push(line);
    }
    lines
}

fn with_lines(made: &Made, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Report {
    let mut changed = lines(made);
    change(&mut changed);
    let text: Vec<u8> = changed
        .iter()
        .flat_map(|line| [line.as_slice(), b"\n"].concat())
        .collect();
    let path = made.path.join(MANIFEST_FILE);
    let before = fs::read(&path).unwrap();
    fs::write(&path, text).unwrap();
    let report = check(&made.path);
    fs::write(&path, before).unwrap();
    report
}

#[test]
fn lines_that_are_removed_exchanged_doubled_or_of_another_manifest_are_named() {
    let (made, other) = (made(3), made(3));
    let has = |report: &Report, place: Place, what: What| {
        assert_eq!(report.state, State::Damaged);
        let damage = Damage { place, what };
        assert!(
            report.damages.contains(&damage),
            "{damage:?} {:?}",
            report.damages
        );
    };
    // Two tracks, three times two members: lines 3 to 8.
    let removed = with_lines(&made, |lines| drop(lines.remove(5)));
    has(&removed, Place::Line(5), What::Missing);
    has(&removed, member(0, 1), What::Unlisted);
    let removed = with_lines(&made, |lines| drop(lines.remove(8)));
    has(&removed, member(1, 2), What::Unlisted);
    let first = with_lines(&made, |lines| drop(lines.remove(0)));
    has(&first, Place::Line(0), What::Missing);
    let exchanged = with_lines(&made, |lines| lines.swap(4, 5));
    has(&exchanged, Place::Line(4), What::OutOfOrder);
    let doubled = with_lines(&made, |lines| lines.insert(6, lines[5].clone()));
    has(&doubled, Place::Line(5), What::OutOfOrder);
    let theirs = lines(&other);
    let spliced = with_lines(&made, |lines| lines[5] = theirs[5].clone());
    assert_eq!(spliced.state, State::Damaged);
    assert!(spliced.damages.iter().any(|damage| damage.place == member(0, 1)));
    let after = with_lines(&made, |lines| lines.push(lines[1].clone()));
    assert_eq!(after.state, State::Damaged);
}

#[test]
fn a_recording_that_was_cut_as_a_whole_is_noticed_by_what_the_log_knows() {
    let made = made(2);
    let root = check(&made.path).root.unwrap();
    // Everything behind the first round of members, tars and all.
    let index = Index::open(&made.path, &options()).unwrap();
    for track in index.tracks() {
        let tar = OpenOptions::new()
            .write(true)
            .open(made.path.join(TRACKS).join(track.tar()))
            .unwrap();
        tar.set_len(track.members[1].offset).unwrap();
    }
    let text: Vec<u8> = lines(&made)[..5]
        .iter()
        .flat_map(|line| [line.as_slice(), b"\n"].concat())
        .collect();
    fs::write(made.path.join(MANIFEST_FILE), &text).unwrap();
    let report = check(&made.path);
    assert_eq!((report.state, report.unsealed), (State::Unfinished, 0));
    let known = Options {
        known: Some(root),
        ..options()
    };
    let report = verify(&made.path, &known).unwrap();
    assert_eq!(report.damages[0].place, Place::File(MANIFEST_FILE.to_owned()));
    assert!(Index::open(&made.path, &known).is_err());
    let earlier = Options {
        known: check(&made.path).root,
        ..options()
    };
    assert_eq!(verify(&made.path, &earlier).unwrap().state, State::Unfinished);
    let another = Options {
        known: Some(Root {
            lines: 2,
            root: Digest::of(b"another"),
        }),
        ..options()
    };
    assert_eq!(verify(&made.path, &another).unwrap().state, State::Damaged);
    assert!(Index::open(&made.path, &another).is_err());
}

#[test]
fn a_flood_of_damages_is_counted_and_not_kept() {
    let made = made(0);
    let report = with_lines(&made, |lines| lines.resize(MAX_LINES, b"x".to_vec()));
    assert_eq!(report.damages.len(), verify::MAX_DAMAGES);
    assert!(report.more_damages > 100);
}

const MAX_LINES: usize = 1500;

#[test]
fn a_recorder_that_signs_what_is_not_so_is_noticed() {
    // The same key signs a manifest whose member was never in a tar, and an end that leaves one out.
    let made = made(1);
    let file = fs::read(made.path.join(RECORDING_FILE)).unwrap();
    let facts: Vec<Fact> = lines(&made)
        .iter()
        .map(|line| manifest::parse(line).unwrap().0.fact)
        .collect();
    let signed = |facts: &[Fact]| {
        let mut chain = manifest::Chain::new(&file);
        let lines: Vec<_> = facts
            .iter()
            .map(|fact| {
                let mut line = chain.make(fact.clone(), &*log_key()).unwrap();
                line.pop();
                line
            })
            .collect();
        with_lines(&made, |all| *all = lines)
    };
    assert_eq!(signed(&facts).state, State::Complete);
    let without = [&facts[..3], &facts[4..]].concat();
    assert_eq!(signed(&without).state, State::Damaged);
    let mut moved = facts.clone();
    if let Fact::Member(member) = &mut moved[3] {
        member.offset += 512;
    }
    assert_eq!(signed(&moved).state, State::Damaged);
    let mut fewer = facts.clone();
    if let Some(Fact::End(end)) = fewer.last_mut() {
        end.tracks.pop();
    }
    assert_eq!(signed(&fewer).state, State::Damaged);
    let twice = [&facts[..2], &facts[1..]].concat();
    assert_eq!(signed(&twice).state, State::Damaged);
}
