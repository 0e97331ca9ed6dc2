use super::fake::Fake;
use super::*;
use crate::digest::Digest;
use crate::matroska::fake::{block, cluster, header};
use crate::recording::TrackId;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

/// A track of members of one second, ten frames each; the first frame of every `gop` is a keyframe. What a frame holds is
/// its time in milliseconds.
fn track(medium: Medium, begin_ms: u64, seconds: u64, gop: u64) -> (Fake, TrackInfo) {
    let mut fake = Fake::default();
    let mut info = TrackInfo {
        id: TrackId(0),
        medium,
        caps: String::new(),
        leaf: None,
        sender: String::new(),
        members: Vec::new(),
        gaps: Vec::new(),
    };
    for sequence in 0..seconds {
        let from = begin_ms + sequence * 1000;
        let blocks: Vec<_> = (0..10)
            .map(|i| {
                let is_key = medium == Medium::Video && (sequence * 10 + i) % gop == 0;
                block(i as i16 * 100, is_key, &(from + i * 100).to_be_bytes())
            })
            .collect();
        let mut bytes = if sequence == 0 {
            header(MS, b"", 0, 100 * MS)
        } else {
            Vec::new()
        };
        bytes.extend(cluster(from, &blocks));
        fake.members.insert(sequence, bytes);
        info.members.push(MemberInfo {
            sequence,
            from_ns: from * MS,
            to_ns: (from + 1000) * MS,
            offset: 0,
            bytes: 1,
            sha256: Digest([0; 32]),
            epochs: (0, 0),
            leaf: None,
            frames: 10,
            keyframes: None,
        });
    }
    (fake, info)
}

fn cursor<'a>(fake: &'a Fake, info: &TrackInfo) -> Cursor<&'a Fake> {
    let header = Header {
        frame_ns: Some(100 * MS),
        ..Header::default()
    };
    Cursor::new(fake, info.clone(), header)
}

fn gap(from_ms: u64, to_ms: u64) -> GapInfo {
    GapInfo {
        from_ns: from_ms * MS,
        to_ns: to_ms * MS,
        frames: 1,
        cause: "queue-full".to_owned(),
    }
}

/// What comes until the end, one word each: a frame's time in milliseconds, `gap`, `pause` and `damaged` with theirs.
fn all(cursor: &mut Cursor<&Fake>) -> Vec<String> {
    let ms = |time: Range<u64>| format!("{}-{}", time.start / MS, time.end / MS);
    let mut found = Vec::new();
    loop {
        found.push(match cursor.next() {
            Item::Frame(frame) => {
                let time = u64::from_be_bytes(frame.bytes.as_ref().try_into().unwrap());
                assert_eq!(time * MS, frame.time_ns);
                time.to_string()
            }
            Item::Gap(_, time) => format!("gap {}", ms(time)),
            Item::Pause(time) => format!("pause {}", ms(time)),
            Item::Damaged { member, time, .. } => format!("damaged {} {}", member.sequence, ms(time)),
            Item::End => return found,
        });
    }
}

fn frames(from_ms: u64, to_ms: u64) -> Vec<String> {
    (from_ms..to_ms)
        .step_by(100)
        .map(|time| time.to_string())
        .collect()
}

#[test]
fn all_frames_come_in_order_and_each_member_is_read_once() {
    let (fake, info) = track(Medium::Video, 0, 3, 10);
    assert_eq!(all(&mut cursor(&fake, &info)), frames(0, 3000));
    assert_eq!(*fake.asked.borrow(), [0, 1, 2]);
}

#[test]
fn what_was_not_kept_is_told_between_the_frames_around_it() {
    let (mut fake, mut info) = track(Medium::Audio, 0, 3, 1);
    fake.members
        .insert(1, cluster(1000, &[block(900, false, &1900_u64.to_be_bytes())]));
    info.gaps = vec![gap(3000, 3500), gap(1000, 1900)];
    let mut wanted = frames(0, 1000);
    wanted.push("gap 1000-1900".to_owned());
    wanted.extend(frames(1900, 3000));
    wanted.push("gap 3000-3500".to_owned());
    assert_eq!(all(&mut cursor(&fake, &info)), wanted);
}

#[test]
fn a_late_beginning_is_a_pause_and_a_short_silence_none() {
    let (fake, info) = track(Medium::Audio, 5000, 1, 1);
    let mut wanted = vec!["pause 0-5000".to_owned()];
    wanted.extend(frames(5000, 6000));
    assert_eq!(all(&mut cursor(&fake, &info)), wanted);
    let (fake, info) = track(Medium::Audio, 500, 1, 1);
    assert_eq!(all(&mut cursor(&fake, &info)), frames(500, 1500));
}

#[test]
fn a_damaged_member_is_told_and_the_next_one_comes() {
    let (mut fake, info) = track(Medium::Video, 0, 3, 10);
    fake.members.remove(&1);
    let mut wanted = frames(0, 1000);
    wanted.push("damaged 1 1000-2000".to_owned());
    wanted.extend(frames(2000, 3000));
    assert_eq!(all(&mut cursor(&fake, &info)), wanted);
    // Sealed so, and no Matroska.
    fake.members.insert(1, b"no Cluster".to_vec());
    assert_eq!(all(&mut cursor(&fake, &info)), wanted);
    fake.members.insert(1, Vec::new());
    assert_eq!(
        all(&mut cursor(&fake, &info)),
        [frames(0, 1000), frames(2000, 3000)].concat()
    );
}

#[test]
fn members_that_have_no_keyframe_are_not_read_to_find_one() {
    // Every 500th frame is one: the members in between say that they have none.
    let (fake, mut info) = track(Medium::Video, 0, 100, 500);
    for member in &mut info.members {
        member.keyframes = Some(u32::from(member.sequence % 50 == 0));
    }
    let mut cursor = cursor(&fake, &info);
    assert_eq!(cursor.keyframe_before(99_500 * MS), Some(50_000 * MS));
    assert_eq!(*fake.asked.borrow(), [50]);
    cursor.seek(49_900 * MS);
    assert_eq!(*fake.asked.borrow(), [50, 0]);
    assert_eq!(all(&mut cursor), frames(0, 100_000));
}

#[test]
fn a_seek_reads_only_what_is_needed_from_the_keyframe_on() {
    let (fake, info) = track(Medium::Video, 0, 3600, 25);
    let mut cursor = cursor(&fake, &info);
    cursor.seek(1_801_050 * MS);
    // Keyframes every 2.5 s: at 1800 s.
    let Item::Frame(frame) = cursor.next() else {
        panic!("no frame")
    };
    assert_eq!((frame.time_ns, frame.sync), (1_800_000 * MS, true));
    assert_eq!(*fake.asked.borrow(), [1801, 1800]);
    assert_eq!(cursor.keyframe_before(1_802_499 * MS), Some(1_800_000 * MS));
    assert_eq!(cursor.keyframe_before(1_802_500 * MS), Some(1_802_500 * MS));
    // Where the keyframes of a member are is remembered.
    let before = fake.asked.borrow().len();
    cursor.seek(1_801_900 * MS);
    assert_eq!(fake.asked.borrow()[before..], [1800]);
}

#[test]
fn sound_begins_a_little_before_the_time() {
    let (fake, info) = track(Medium::Audio, 0, 10, 1);
    let mut cursor = cursor(&fake, &info);
    for (time, first) in [(5000, 4900), (5080, 5000), (0, 0), (9999, 9900)] {
        cursor.seek(time * MS);
        let Item::Frame(frame) = cursor.next() else {
            panic!("no frame")
        };
        assert_eq!(frame.time_ns, first * MS, "at {time} ms");
    }
    cursor.seek(10_100 * MS);
    assert!(matches!(cursor.next(), Item::End));
}

#[test]
fn a_seek_before_and_behind_a_track_finds_its_ends() {
    let (fake, info) = track(Medium::Video, 5000, 2, 5);
    let mut cursor = cursor(&fake, &info);
    cursor.seek(1000 * MS);
    let mut wanted = vec!["pause 1000-5000".to_owned()];
    wanted.extend(frames(5000, 7000));
    assert_eq!(all(&mut cursor), wanted);
    // What is shown last stays: a decoder decides how long.
    cursor.seek(60_000 * MS);
    assert_eq!(all(&mut cursor), frames(6500, 7000));
    assert_eq!(cursor.keyframe_before(4999 * MS), None);
}

#[test]
fn a_seek_into_a_damaged_member_tells_it() {
    let (mut fake, info) = track(Medium::Video, 0, 4, 10);
    fake.members.remove(&2);
    let mut cursor = cursor(&fake, &info);
    cursor.seek(2500 * MS);
    let mut wanted = frames(1000, 2000);
    wanted.push("damaged 2 2500-3000".to_owned());
    wanted.extend(frames(3000, 4000));
    assert_eq!(all(&mut cursor), wanted);
}

#[test]
fn a_seek_tells_gaps_that_are_not_over() {
    let (fake, mut info) = track(Medium::Audio, 0, 4, 1);
    info.gaps = vec![gap(500, 600), gap(2000, 2200)];
    let mut cursor = cursor(&fake, &info);
    cursor.seek(2100 * MS);
    // It began before what is wanted, and frames came again before it was over.
    let mut wanted = vec!["gap 2100-2100".to_owned()];
    wanted.extend(frames(2000, 4000));
    assert_eq!(all(&mut cursor), wanted);
}

#[test]
fn the_delay_of_a_codec_is_taken_off_its_times() {
    let (mut fake, info) = track(Medium::Audio, 0, 1, 1);
    let mut member = header(MS, b"", 6_500_000, 20 * MS);
    member.extend(cluster(1007, &[block(0, false, b"a"), block(13, false, b"b")]));
    fake.members.insert(0, member.clone());
    let mut cursor = Cursor::new(&fake, info, Header::read(&member).unwrap());
    let times: Vec<_> = std::iter::from_fn(|| match cursor.next() {
        Item::Frame(frame) => Some((frame.time_ns, frame.duration_ns)),
        _ => None,
    })
    .collect();
    // The first item is the pause in front of them.
    assert_eq!(times, []);
    let times: Vec<_> = std::iter::from_fn(|| match cursor.next() {
        Item::Frame(frame) => Some((frame.time_ns, frame.duration_ns)),
        _ => None,
    })
    .collect();
    assert_eq!(
        times,
        [(1_000_500_000, Some(20 * MS)), (1_013_500_000, Some(20 * MS))]
    );
}

proptest! {
    #[test]
    fn from_any_time_on_everything_comes_that_is_left(
        time in 0..12_000_u64,
        gop in 1..40_u64,
        begin in 0..900_u64,
        lost in proptest::collection::btree_set(1..9_u64, 0..3),
    ) {
        let begin = begin - begin % 100;
        let (mut fake, info) = track(Medium::Video, begin, 10, gop);
        lost.iter().for_each(|sequence| drop(fake.members.remove(sequence)));
        let mut cursor = cursor(&fake, &info);
        cursor.seek(time * MS);
        let found = all(&mut cursor);
        let is_there = |ms: &u64| !lost.contains(&((ms - begin) / 1000));
        for ms in (begin..begin + 10_000).step_by(100).filter(|ms| *ms >= time && is_there(ms)) {
            prop_assert!(found.contains(&ms.to_string()), "{ms} is missing in {found:?}");
        }
        for sequence in lost.iter().filter(|sequence| begin + *sequence * 1000 >= time) {
            let word = format!("damaged {sequence} ");
            prop_assert!(found.iter().any(|item| item.starts_with(&word)), "{word} is missing in {found:?}");
        }
    }

    #[test]
    fn members_of_any_bytes_are_frames_or_damage(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (mut fake, info) = track(Medium::Video, 0, 2, 5);
        fake.members.insert(1, [cluster(1000, &[block(0, true, &1000_u64.to_be_bytes())]), bytes].concat());
        let mut cursor = cursor(&fake, &info);
        while !matches!(cursor.next(), Item::End) {}
    }
}
