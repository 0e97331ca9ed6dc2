//! Shares that are damaged, or lie in the place of others.

use std::fs;

use gstcompliance::breakglass::decision::approve;
use gstcompliance::breakglass::request::Request;

use super::place::{Place, age, identity, kinds, now};

#[test]
fn a_damaged_share_file_is_left_out_and_logged_and_two_good_ones_do() {
    let place = Place::new();
    let recording = place.record();
    let share = |index: u8| place.path(&format!("station/{recording}/shares/00{index}.age"));
    let mut bytes = fs::read(share(2)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(share(2), &bytes).unwrap();
    let said = place.request_with(&recording, "r", &[]);
    assert!(
        said.error
            .contains("shares/002.age is not the file that was made"),
        "{}",
        said.error
    );
    said.good();
    place.assert_refused("share-file");
    place.mail("r");
    place
        .approve_to("r", "ben", "x")
        .refused(&["comes without shares/002.age"]);
    let files = [place.approve("r", "anna"), place.approve("r", "carla")];
    place.open(&recording, "r", &[&files[0], &files[1]]).good();
    // With one more gone nobody is asked, and the log has why.
    fs::remove_file(share(1)).unwrap();
    place
        .request_with(&recording, "s", &[])
        .refused(&["2 approvals of different custodians are needed, and 1 count"]);
    assert!(!place.path("station/s.json").exists() && !place.path("station/s.key").exists());
    assert!(
        place
            .denied()
            .iter()
            .any(|denied| denied.1.starts_with("too-few: "))
    );
}

#[test]
fn a_share_file_of_one_recording_renamed_into_another_is_found_at_the_station_and_at_the_custodian() {
    let place = Place::new();
    let (first, second) = (place.record(), place.record());
    let share = |recording: &str| place.path(&format!("station/{recording}/shares/002.age"));
    let right = fs::read(share(&second)).unwrap();
    fs::copy(share(&first), share(&second)).unwrap();
    let said = place.request_with(&second, "r", &[]);
    assert!(
        said.error.contains("damaged, or of another recording"),
        "{}",
        said.error
    );
    said.good();
    place.assert_refused("share-file");
    // A station that sends it all the same.
    let path = place.path("station/r.json");
    let mut request = Request::decode(&fs::read(&path).unwrap()).unwrap();
    request.shares.insert(1, (2, fs::read(share(&first)).unwrap()));
    fs::write(&path, request.encode().unwrap()).unwrap();
    place.mail("r");
    place
        .approve_to("r", "ben", "x")
        .refused(&["shares/002.age that is not the file that was made for this recording"]);
    // The custodian says so, and the log has it from them, too.
    let no = place.deny("r", "ben", "my share was exchanged");
    let yes = place.approve("r", "anna");
    place
        .open(&second, "r", &[&yes, &no])
        .refused(&["said no: my share was exchanged"]);
    assert!(
        place
            .denied()
            .contains(&(place.fingerprint("ben"), "my share was exchanged".to_owned()))
    );
    fs::write(share(&second), right).unwrap();
}

#[test]
fn a_share_that_is_forged_is_found_out_by_the_key_that_it_does_not_give() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    let good = [place.approve("r", "anna"), place.approve("r", "carla")];
    // Ben changes a digit of his share, and signs.
    let request = Request::decode(&fs::read(place.path("ben/r.json")).unwrap()).unwrap();
    let asked = request.asked(&place.log_key().parse().unwrap()).unwrap();
    let keys = [identity(&place.path("ben/key.txt"))];
    let share = gstcompliance::age_file::open(&request.shares[1].1, &keys).unwrap();
    let mut forged = share.to_vec();
    let digit = forged.len() - 40;
    forged[digit] = if forged[digit] == b'0' { b'1' } else { b'0' };
    let decision = approve(&asked, 2, &forged, &place.key("ben"), now()).unwrap();
    fs::write(place.path("station/forged"), decision).unwrap();
    place
        .open(&recording, "r", &[&good[0], "forged"])
        .refused(&["the shares do not give the recording's key: at least one of them is damaged or forged"]);
    place.assert_refused("wrong-shares");
    // With the two good ones beside it, it is known which.
    let said = place.open(&recording, "r", &[&good[0], "forged", &good[1]]);
    let why = format!(
        "the share of custodian {} does not give the recording's key",
        place.fingerprint("ben")
    );
    assert!(said.error.contains(&why), "{}", said.error);
    said.good();
    assert!(
        place
            .denied()
            .iter()
            .any(|denied| denied.1.starts_with("wrong-share: "))
    );
    assert!(
        age(
            &place.path("requester/key.txt"),
            &place.path("station/r-out/0-audio.mkv.age")
        )
        .is_some()
    );
}

#[test]
fn a_share_that_is_sealed_for_another_request_or_station_does_not_count() {
    let place = Place::new();
    let recording = place.record();
    place.request(&recording, "r");
    place.request(&recording, "s");
    let yes = place.approve("r", "anna");
    let key = place.log_key().parse().unwrap();
    let read = |name: &str| Request::decode(&fs::read(place.path("ben").join(name)).unwrap()).unwrap();
    let [r, s] = ["r.json", "s.json"].map(|name| read(name).asked(&key).unwrap());
    let keys = [identity(&place.path("ben/key.txt"))];
    let share = gstcompliance::age_file::open(&read("r.json").shares[1].1, &keys).unwrap();
    // For another station.
    let mut asked = r.clone();
    asked.station = s.station;
    fs::write(
        place.path("station/sealed"),
        approve(&asked, 2, &share, &place.key("ben"), now()).unwrap(),
    )
    .unwrap();
    place
        .open(&recording, "r", &[&yes, "sealed"])
        .refused(&["is not encrypted to this identity", "and 1 count"]);
    place.assert_refused("damaged-share");
    // What is no share.
    fs::write(
        place.path("station/none"),
        approve(&r, 2, b"{}", &place.key("ben"), now()).unwrap(),
    )
    .unwrap();
    place
        .open(&recording, "r", &[&yes, "none"])
        .refused(&["is no share of a recording's key"]);
    assert!(!kinds(&place.log()).contains(&"access-opened"));
}
