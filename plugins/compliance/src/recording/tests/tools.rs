//! A recording is opened with tar, age and python, without anything of ours.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::age_file::identity_text;

/// Runs a tool; it must succeed and have nothing to complain about.
fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error} (is it installed?)"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaint.is_empty(),
        "{command:?}: {complaint}"
    );
    output.stdout
}

fn names(made: &Path, tar: &str) -> Vec<String> {
    let listed = run(
        Command::new("tar").arg("-tf").arg(made.join(TRACKS).join(tar)),
        b"",
    );
    String::from_utf8(listed)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn tar_and_age_alone_give_the_stream_back() {
    let made = made(3);
    let folder = made.folder.path();
    let me = folder.join("me.txt");
    fs::write(&me, identity_text(reader()).as_bytes()).unwrap();
    let decrypt = |identity: &Path, file: &Path| {
        run(
            Command::new("age")
                .arg("--decrypt")
                .arg("-i")
                .arg(identity)
                .arg(file),
            b"",
        )
    };
    let key = folder.join("recording.txt");
    fs::write(&key, decrypt(&me, &made.path.join("key.age"))).unwrap();
    run(
        Command::new("tar")
            .arg("-xf")
            .arg(made.path.join("tracks/1-video.tar"))
            .arg("-C")
            .arg(folder),
        b"",
    );
    let listed = names(&made.path, "1-video.tar");
    assert_eq!(listed[0], "1-video/00000000.mkv.age");
    let stream: Vec<u8> = listed
        .iter()
        .flat_map(|name| decrypt(&key, &folder.join(name)))
        .collect();
    let expected: Vec<u8> = (0..3)
        .flat_map(|sequence| content(TrackId(1), sequence))
        .collect();
    assert_eq!(stream, expected);
}

const PYTHON: &str = "
import sys, tarfile
with tarfile.open(sys.argv[1], 'r:') as tar:
    for member in tar:
        data = tar.extractfile(member).read()
        print(member.name, member.size, member.mtime, oct(member.mode), data[:21].decode())
";

#[test]
fn tars_are_read_while_they_grow_and_after_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = create(folder.path(), Arc::new(RealDisk)).unwrap();
    let path = recording.path().to_owned();
    let id = recording.open_track(track(Medium::Audio)).unwrap();
    let read = |members: u64| {
        let expected: Vec<_> = (0..members).map(|n| format!("0-audio/{n:08}.mkv.age")).collect();
        assert_eq!(names(&path, "0-audio.tar"), expected);
        let tar = path.join("tracks/0-audio.tar");
        let listed = run(Command::new("python3").args(["-c", PYTHON]).arg(tar), b"");
        let listed = String::from_utf8(listed).unwrap();
        assert_eq!(listed.lines().count() as u64, members);
        for (line, name) in listed.lines().zip(expected) {
            let end = format!("{} 0o644 age-encryption.org/v1", TIME / 1000);
            assert!(line.starts_with(&name) && line.ends_with(&end), "{line}");
        }
    };
    for sequence in 0..5 {
        recording.append(id, segment(id, sequence)).unwrap();
        read(sequence + 1);
    }
    recording.end(TIME, "over").unwrap();
    read(5);
}
