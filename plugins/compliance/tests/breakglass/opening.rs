//! What is allowed works, and leaves what it should and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gstcompliance::audit::Event;
use gstcompliance::audit::entry::Way;
use gstcompliance::bundle::{Share, combine};
use gstcompliance::recording::Medium;

use super::place::{PEOPLE, Place, age, content, files, identity, kinds};
use gstcompliance::age_file::{identity_text, open};

#[test]
fn two_of_three_open_a_recording_for_the_requester_and_the_log_has_each_step_first() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    // Not asked to decide, a custodian's program only shows what is asked.
    let shown = place.call(
        "anna",
        &[
            "approve",
            "r.json",
            "--identity",
            "key.txt",
            "--log",
            &place.log_key(),
            "--custodians",
            "custodians",
        ],
    );
    let shown = shown.good();
    for words in [
        "dr-17",
        "complaint of 3 May",
        "C-2291",
        "room-7",
        "your share 1 of 3",
        "NOTHING IS DECIDED YET",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let approvals = [place.approve("r", "carla"), place.approve("r", "anna")];
    // What is in the way is told before the request is used up.
    fs::create_dir(place.path("station/r-out")).unwrap();
    fs::write(place.path("station/r-out/1-video.mkv.age"), "").unwrap();
    place
        .open(&recording, "r", &[&approvals[0], &approvals[1]])
        .refused(&["1-video.mkv.age"]);
    fs::remove_file(place.path("station/r-out/1-video.mkv.age")).unwrap();
    let said = place
        .open(&recording, "r", &[&approvals[0], &approvals[1]])
        .good();
    assert!(said.contains("r-out/0-audio.mkv.age"), "{said}");

    let log = place.log();
    let all = ["requested", "approved", "approved", "opened", "ended"].map(|kind| format!("access-{kind}"));
    assert_eq!(kinds(&log), all);
    let Event::AccessRequested {
        access: asked,
        requester,
        recipient,
        ..
    } = &log[0]
    else {
        panic!("{log:?}");
    };
    assert_eq!(
        (requester.as_str(), recipient.to_string()),
        ("dr-17", place.recipient())
    );
    let custodians: Vec<_> = log
        .iter()
        .filter_map(|event| match event {
            Event::AccessApproved {
                access,
                custodian,
                share,
            } if access == asked => Some((custodian.to_string(), *share)),
            _ => None,
        })
        .collect();
    assert_eq!(
        custodians,
        [(place.fingerprint("carla"), 3), (place.fingerprint("anna"), 1)]
    );
    let Event::AccessOpened {
        access,
        reader,
        way,
        reason,
        ticket,
        tracks,
    } = &log[3]
    else {
        panic!("{log:?}");
    };
    assert_eq!((access, reader, *way), (asked, requester, Way::BreakGlass));
    assert_eq!(reason.as_str(), "complaint of 3 May");
    assert_eq!(ticket.as_ref().unwrap().as_str(), "C-2291");
    assert!(tracks.is_empty());
    assert!(matches!(&log[4], Event::AccessEnded { access, members: 6 } if access == asked));
    place
        .call("station", &["audit", "verify", "log", "--key", &place.log_key()])
        .good();

    // The requester reads it with the plain age tool, and the station cannot.
    for (name, medium) in [("0-audio", Medium::Audio), ("1-video", Medium::Video)] {
        let file = place.path(&format!("station/r-out/{name}.mkv.age"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let expected: Vec<u8> = (0..3).flat_map(|second| content(medium, second)).collect();
        assert_eq!(age(&place.path("requester/key.txt"), &file), Some(expected));
        assert_eq!(age(&place.path("station/r.key"), &file), None);
    }
}

#[test]
fn neither_plaintext_nor_a_share_nor_the_recordings_key_is_in_any_file_of_any_machine_but_the_custodians_own()
{
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    let approvals = PEOPLE.map(|who| place.approve("r", who));
    place
        .open(&recording, "r", &approvals.each_ref().map(String::as_str))
        .good();
    // What must be nowhere.
    let shares: Vec<_> = (1..=3)
        .zip(PEOPLE)
        .map(|(index, who)| {
            let file = place.path(&format!("station/{recording}/shares/00{index}.age"));
            open(
                &fs::read(file).unwrap(),
                &[identity(&place.path(who).join("key.txt"))],
            )
            .unwrap()
        })
        .collect();
    let opened: Vec<_> = shares.iter().map(|share| Share::decode(share).unwrap()).collect();
    let key = combine(&opened).unwrap();
    let mut secrets = vec![
        content(Medium::Video, 1)[..40].to_vec(),
        identity_text(&key).as_bytes().to_vec(),
    ];
    for share in &shares {
        let text = std::str::from_utf8(share).unwrap();
        secrets.push(text.rsplit('"').nth(1).unwrap().as_bytes().to_vec());
    }
    let mut looked = 0;
    for file in files(&place.path(".")) {
        let bytes = fs::read(&file).unwrap();
        looked += 1;
        for secret in &secrets {
            let is_in = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!is_in, "{}", file.display());
        }
    }
    assert!(looked > 40, "{looked}");
    // The search finds what is there.
    fs::write(place.path("station/leak"), &secrets[1]).unwrap();
    assert!(
        fs::read(place.path("station/leak"))
            .unwrap()
            .ends_with(&secrets[1])
    );
}

#[test]
fn a_folder_of_decisions_is_taken_as_a_whole() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    fs::create_dir(place.path("station/in")).unwrap();
    for who in ["anna", "ben"] {
        let file = place.approve("r", who);
        let file = (
            place.path("station").join(&file),
            place.path("station/in").join(&file),
        );
        fs::rename(file.0, file.1).unwrap();
    }
    place.open(&recording, "r", &["in"]).good();
}

#[test]
fn one_recording_opens_and_no_other() {
    let place = Place::new();
    let (first, second) = (place.record(), place.record());
    place.request(&first, "r");
    let approvals = [place.approve("r", "anna"), place.approve("r", "ben")];
    let files = approvals.each_ref().map(String::as_str);
    place
        .open(&second, "r", &files)
        .refused(&["has no request for this recording with this station key"]);
    place.assert_refused("not-requested");
    place.open(&first, "r", &files).good();
    assert!(!place.path("station/r-out/2-audio.mkv.age").exists());
}

#[test]
fn a_custodian_who_says_no_is_logged_and_does_not_keep_the_others_from_opening() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    let no = place.deny("r", "carla", "I know of no complaint");
    let approvals = [place.approve("r", "anna"), place.approve("r", "ben")];
    let said = place.open(&recording, "r", &[&no, &approvals[0], &approvals[1]]);
    assert!(
        said.error.contains("said no: I know of no complaint"),
        "{}",
        said.error
    );
    said.good();
    let denied = [(place.fingerprint("carla"), "I know of no complaint".to_owned())];
    assert_eq!(place.denied(), denied);
}

#[test]
fn a_custodians_no_takes_back_the_own_approval() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    let yes = [place.approve("r", "anna"), place.approve("r", "ben")];
    let no = place.deny("r", "ben", "asked by phone: it was not them");
    place.open(&recording, "r", &[&yes[0], &yes[1], &no]).refused(&[
        "2 approvals of different custodians are needed, and 1 count",
        "said no: asked by phone",
    ]);
    place.assert_refused("too-few");
    // Whoever leaves the no out finds it in the log.
    place
        .open(&recording, "r", &[&yes[0], &yes[1]])
        .refused(&["has said no to this request: the log has it", "and 1 count"]);
    place.assert_refused("withdrawn");
    let other = place.approve("r", "carla");
    place.open(&recording, "r", &[&yes[0], &other]).good();
}

#[test]
fn nothing_is_asked_that_could_not_be_answered() {
    let place = Place::new();
    let recording = place.record();
    for (option, value, why) in [
        ("--expires", "8d", "at most 7d"),
        ("--requester", "dr 17", "--requester: an id has"),
        ("--reason", "", "--reason: there is no text"),
        ("--out", "custodians", "custodians cannot be made"),
        ("--station-key", "custodians", "custodians cannot be made"),
    ] {
        place
            .request_with(&recording, "r", &[(option, value)])
            .refused(&[why]);
    }
    for (option, value) in [
        ("--for", "age1nobody"),
        ("--expires", "soon"),
        ("--expires", "0h"),
    ] {
        assert_eq!(place.request_with(&recording, "r", &[(option, value)]).code, 2);
    }
    assert!(place.log().is_empty());
    // Nothing is left behind that the next request would stumble over.
    place.request(&recording, "r");
    for file in ["r.key", "r.json"] {
        let mode = fs::metadata(place.path("station").join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    place
        .request_with(&recording, "r", &[])
        .refused(&["r.key cannot be made"]);
    assert_eq!(kinds(&place.log()), ["access-requested"]);
}
