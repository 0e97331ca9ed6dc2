//! What is not allowed is refused in words, and stands in the log.

use std::fs;

use gstcompliance::audit::{Event, Log};
use gstcompliance::breakglass::custodian::FileKey;
use gstcompliance::breakglass::decision::approve;
use gstcompliance::breakglass::request::Request;
use gstcompliance::bundle::{Share, share_name};

use super::place::{PEOPLE, Place, copy, identity, kinds, log_of, now, person, public};

#[test]
fn too_few() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    let one = place.approve("r", "ben");
    let why = "2 approvals of different custodians are needed, and 1 count";
    place.open(&recording, "r", &[&one]).refused(&[why]);
    place.assert_refused("too-few");
    assert_eq!(
        kinds(&place.log()),
        ["access-requested", "access-approved", "access-denied"]
    );
    // With one more it opens, and the first one's approval stands there once.
    let two = place.approve("r", "anna");
    place.open(&recording, "r", &[&one, &two]).good();
    let approved = kinds(&place.log())
        .iter()
        .filter(|kind| **kind == "access-approved")
        .count();
    assert_eq!(approved, 2);
}

#[test]
fn expired_by_the_custodians_clock_and_by_the_stations() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    let key = place.log_key();
    let words = [
        "approve",
        "r.json",
        "--identity",
        "key.txt",
        "--log",
        &key,
        "--custodians",
        "custodians",
        "--out",
        "late",
    ];
    for clock in ["+3h", "-1h"] {
        place
            .call_at(clock, "anna", &words)
            .refused(&["the request does not count now"]);
        assert!(!place.path("anna/late").exists());
    }
    let files = [place.approve("r", "anna"), place.approve("r", "ben")];
    let words = Place::open_words(&recording, "r", &files.each_ref().map(String::as_str));
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    for clock in ["+3h", "-1h"] {
        place
            .call_at(clock, "station", &words)
            .refused(&["the request does not count any more"]);
    }
    place.assert_refused("expired");
    assert_eq!(place.denied().len(), 2);
    // Within its time it opens.
    place.call_at("+1h", "station", &words).good();
}

#[test]
fn the_own_approval_of_who_asks() {
    let place = Place::new();
    let recording = place.record();
    let own_key = public(&place.path("anna/key.txt"));
    let (own_id, own_print) = (person("anna"), place.fingerprint("anna"));
    let asks = [
        ("id", ("--requester", own_id.as_str())),
        ("print", ("--requester", own_print.as_str())),
        ("text", ("--requester", own_key.as_str())),
        ("key", ("--for", own_key.as_str())),
    ];
    for (name, option) in asks {
        place.request_with(&recording, name, &[option]).good();
        place.mail(name);
        place
            .approve_to(name, "anna", "own")
            .refused(&["who asks is this custodian: nobody approves their own request"]);
        // With a program that does not ask, the station refuses.
        let own = approved_by_hand(&place, name, "anna", 1);
        let other = place.approve(name, "ben");
        place
            .open(&recording, name, &[&own, &other])
            .refused(&["nobody approves their own request", "1 count"]);
        place.assert_refused("own-approval");
    }
    assert_eq!(place.denied().len(), 2 * asks.len());
}

/// An approval that a custodian makes without our checks, with the own share of this request; on the station.
fn approved_by_hand(place: &Place, name: &str, who: &str, index: u8) -> String {
    let request = Request::decode(&fs::read(place.path(who).join(format!("{name}.json"))).unwrap()).unwrap();
    let asked = request.asked(&place.log_key().parse().unwrap()).unwrap();
    let file = request.shares.iter().find(|share| share.0 == index).unwrap();
    let keys = [identity(&place.path(who).join("key.txt"))];
    let share = gstcompliance::age_file::open(&file.1, &keys).unwrap();
    let decision = approve(&asked, index, &share, &place.key(who), now()).unwrap();
    let out = format!("{name}-{who}-by-hand.json");
    fs::write(place.path("station").join(&out), decision).unwrap();
    out
}

#[test]
fn an_approval_for_another_recording() {
    let place = Place::new();
    let (first, second) = (place.record(), place.record());
    place.request(&first, "r");
    place.request(&second, "s");
    let (yes, other) = (place.approve("r", "anna"), place.approve("s", "ben"));
    let id = second.strip_prefix("recordings/").unwrap();
    place
        .open(&first, "r", &[&yes, &other])
        .refused(&["decided about recording", id, "and 1 count"]);
    place.assert_refused("another-recording");
}

#[test]
fn a_replayed_approval() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    let first = [place.approve("r", "anna"), place.approve("r", "ben")];
    // The same one again is no second one.
    place
        .open(&recording, "r", &[&first[0], &first[0]])
        .refused(&["there is another approval of custodian", "and 1 count"]);
    place.assert_refused("twice");
    // Of an earlier request, for the same recording and requester.
    place.request(&recording, "s");
    let again = place.approve("s", "carla");
    place
        .open(&recording, "s", &[&first[0], &first[1], &again])
        .refused(&["decided about request", "and 1 count"]);
    place.assert_refused("another-request");
    // The request itself again, after it opened.
    place.open(&recording, "r", &[&first[0], &first[1]]).good();
    fs::remove_dir_all(place.path("station/r-out")).unwrap();
    place
        .open(&recording, "r", &[&first[0], &first[1]])
        .refused(&["has opened the recording already, and opens it once"]);
    assert_eq!(fs::read_dir(place.path("station/r-out")).unwrap().count(), 0);
    let replayed = |(_, reason): &(String, String)| reason.starts_with("replayed: ");
    assert_eq!(place.denied().iter().filter(|denied| replayed(denied)).count(), 1);
    let opened = kinds(&place.log())
        .iter()
        .filter(|kind| **kind == "access-opened")
        .count();
    assert_eq!(opened, 1);
}

#[test]
fn a_request_that_two_processes_open_at_the_same_moment_opens_once() {
    let place = Place::new();
    let recording = place.record();
    for round in 0..4 {
        let name = format!("r{round}");
        place.request(&recording, &name);
        let files = [place.approve(&name, "anna"), place.approve(&name, "ben")];
        let files = files.each_ref().map(String::as_str);
        let words = [0, 1, 2].map(|n| {
            let mut words = Place::open_words(&recording, &name, &files);
            *words.last_mut().unwrap() = format!("{name}-out-{n}");
            words
        });
        let calls = words
            .each_ref()
            .map(|words| words.iter().map(String::as_str).collect::<Vec<_>>());
        let said = place.call_together("station", &calls);
        assert_eq!(said.iter().filter(|said| said.code == 0).count(), 1);
        for said in said.into_iter().filter(|said| said.code != 0) {
            said.refused(&["has opened the recording already, and opens it once"]);
        }
        let written = [0, 1, 2].map(|n| {
            let folder = place.path(&format!("station/{name}-out-{n}"));
            fs::read_dir(folder).unwrap().count()
        });
        assert_eq!(written.iter().sum::<usize>(), 2, "{written:?}");
        let opened = kinds(&place.log())
            .iter()
            .filter(|kind| **kind == "access-opened")
            .count();
        assert_eq!(opened, round + 1);
    }
    assert_eq!(
        place
            .denied()
            .iter()
            .filter(|denied| denied.1.starts_with("replayed: "))
            .count(),
        8
    );
}

#[test]
fn a_log_without_the_request() {
    let place = Place::new();
    let recording = place.record();
    // An older state of the log is put back after the request.
    copy(&place.path("station/log"), &place.path("older"));
    place.request(&recording, "r");
    let files = [place.approve("r", "anna"), place.approve("r", "ben")];
    fs::rename(place.path("station/log"), place.path("newer")).unwrap();
    copy(&place.path("older"), &place.path("station/log"));
    place.open(&recording, "r", &[&files[0], &files[1]]).refused(&[
        "the audit log has no request for this recording",
        "what is not logged is not opened",
    ]);
    place.assert_refused("not-requested");
    // It is told under the request that the approvals name.
    let newer = log_of(&place.path("newer"));
    let [Event::AccessRequested { access, .. }] = &newer[..] else {
        panic!("{newer:?}");
    };
    assert!(matches!(&place.log()[..], [Event::AccessDenied { access: denied, .. }] if denied == access));
    // Another log than the recording's.
    fs::rename(place.path("station/log"), place.path("older-2")).unwrap();
    Log::open(&place.path("station/log")).unwrap().close().unwrap();
    place
        .open(&recording, "r", &[&files[0], &files[1]])
        .refused(&["is another audit log"]);
    // Whose request that is custodians see, too.
    fs::rename(place.path("station/log"), place.path("other")).unwrap();
    fs::rename(place.path("newer"), place.path("station/log")).unwrap();
    let other = Log::open_existing(&place.path("other"))
        .unwrap()
        .key()
        .to_string();
    let words = [
        "approve",
        "r.json",
        "--identity",
        "key.txt",
        "--log",
        &other,
        "--custodians",
        "custodians",
        "--out",
        "x",
    ];
    place
        .call("carla", &words)
        .refused(&["is not in the audit log of this key"]);
}

#[test]
fn a_request_that_is_logged_elsewhere_than_the_recording_names() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    // The station's administrator logs the same in a log that nobody looks at, and gives custodians its key.
    let hidden = Log::open(&place.path("hidden")).unwrap();
    let mut request = Request::decode(&fs::read(place.path("station/r.json")).unwrap()).unwrap();
    let (entry, _) = request.proof.verify(&place.log_key().parse().unwrap()).unwrap();
    let index = hidden.append(&entry).unwrap().index;
    request.proof = hidden.inclusion(index).unwrap();
    fs::write(place.path("anna/r.json"), request.encode().unwrap()).unwrap();
    let key = hidden.key().to_string();
    let words = [
        "approve",
        "r.json",
        "--identity",
        "key.txt",
        "--log",
        &key,
        "--custodians",
        "custodians",
        "--out",
        "x",
    ];
    place
        .call("anna", &words)
        .refused(&["names the audit log with the key", &place.log_key()]);
    assert!(!place.path("anna/x").exists());
}

#[test]
fn decisions_that_are_forged_changed_or_no_decisions() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    let yes = place.approve("r", "anna");
    let station = place.path("station");
    let text = fs::read_to_string(station.join(place.approve("r", "ben"))).unwrap();
    // Changed on its way: the share that it names.
    fs::write(
        station.join("changed"),
        text.replace("\\\"share\\\":2", "\\\"share\\\":3"),
    )
    .unwrap();
    // Of somebody who is no custodian, in the right form.
    let stranger = FileKey::new(age::x25519::Identity::generate()).unwrap();
    let request = Request::decode(&fs::read(station.join("r.json")).unwrap()).unwrap();
    let asked = request.asked(&place.log_key().parse().unwrap()).unwrap();
    fs::write(
        station.join("stranger"),
        approve(&asked, 2, b"share", &stranger, now()).unwrap(),
    )
    .unwrap();
    // About something else under the same id.
    let mut other = asked.clone();
    other.digest = gstcompliance::digest::Digest([7; 32]);
    fs::write(
        station.join("other"),
        approve(&other, 2, b"share", &place.key("ben"), now()).unwrap(),
    )
    .unwrap();
    fs::write(station.join("nothing"), "{}").unwrap();
    fs::write(station.join("long"), vec![b' '; 40_000]).unwrap();
    for (file, nick, why) in [
        ("changed", "bad-signature", "forged, or was changed on its way"),
        (
            "stranger",
            "unknown-custodian",
            "is no custodian of this recording",
        ),
        (
            "other",
            "changed-request",
            "was shown a request that says something else",
        ),
        ("nothing", "unreadable", "is no custodian's decision"),
        ("long", "unreadable", "too long"),
    ] {
        place
            .open(&recording, "r", &[&yes, file])
            .refused(&[why, file, "and 1 count"]);
        place.assert_refused(nick);
    }
}

#[test]
fn another_file_of_custodians() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    let files = [place.approve("r", "anna"), place.approve("r", "ben")];
    // With a custodian of whoever runs the station, or another signing key.
    let text = fs::read_to_string(place.path("station/custodians")).unwrap();
    let stranger = FileKey::new(age::x25519::Identity::generate()).unwrap();
    let own = gstcompliance::breakglass::custodian::public(&stranger, None).to_string();
    let changed: Vec<_> = text.lines().take(3).chain([own.as_str()]).collect();
    fs::write(place.path("station/custodians"), changed.join("\n")).unwrap();
    place
        .open(&recording, "r", &[&files[0], &files[1]])
        .refused(&["the file of custodians is not this recording's"]);
    place.assert_refused("another-escrow");
    for who in PEOPLE {
        fs::write(place.path(who).join("custodians"), changed.join("\n")).unwrap();
    }
    place
        .approve_to("r", "anna", "x")
        .refused(&["the file of custodians is not this recording's"]);
    let turned: Vec<_> = text.lines().take(1).chain(text.lines().skip(1).take(2)).collect();
    fs::write(
        place.path("carla/custodians"),
        turned.join("\n").replace("2 of 3", "2 of 2"),
    )
    .unwrap();
    place
        .approve_to("r", "carla", "x")
        .refused(&["the file of custodians is not this recording's"]);
}

#[test]
fn a_share_of_another_recording_in_an_approval() {
    let place = Place::new();
    let (first, second) = (place.record(), place.record());
    place.request(&first, "r");
    place.request(&second, "s");
    let yes = place.approve("r", "anna");
    let request = Request::decode(&fs::read(place.path("ben/r.json")).unwrap()).unwrap();
    let asked = request.asked(&place.log_key().parse().unwrap()).unwrap();
    let foreign = fs::read(place.path(&format!("station/{second}/{}", share_name(2)))).unwrap();
    let share = gstcompliance::age_file::open(&foreign, &[identity(&place.path("ben/key.txt"))]).unwrap();
    assert!(Share::decode(&share).is_ok());
    let decision = approve(&asked, 2, &share, &place.key("ben"), now()).unwrap();
    fs::write(place.path("station/foreign"), decision).unwrap();
    place
        .open(&first, "r", &[&yes, "foreign"])
        .refused(&["is not of this recording: it is of recording", "and 1 count"]);
    place.assert_refused("another-share");
}
