//! The key source as the other elements see it: the contract, and media that flows through changes of keys.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy sees helpers of tests as ordinary code"
)]

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gst::prelude::*;
use gst_check::Harness;
use gst_e2ee_common::key_source::KeySource;
use gst_e2ee_common::room_state::{LATEST, RoomState, Standing};
use gstmls::identity::issue::{Authority, Subject, Validity, certificate_pem, chain_pem};
use gstmls::identity::{self, IdentityKey, Role};
use gstmls::keyring::Keyring;
use gstmls::schedule::{
    EpochKeys, KEEP_AFTER_REMOVE_MS, KEEP_MS, Layout, LeafInfo, SWITCH_AFTER_REMOVE_MS, SWITCH_MS,
};
use zeroize::Zeroizing;

const OPUS: &str = "audio/x-opus,rate=48000,channels=2,channel-mapping-family=0";

fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstsframe::plugin_register_static().unwrap();
        gstmls::plugin_register_static().unwrap();
    });
}

/// A keyring whose time the test moves.
fn keyring(clock: &Arc<AtomicU64>) -> Keyring {
    init();
    let clock = clock.clone();
    Keyring::with_clock(Arc::new(move || clock.load(Ordering::SeqCst)))
}

/// Keys of an epoch of a group of the leaves 0 to 3, of which `gone` are removed; leaf 3 only records.
///
/// Each test has a group of its own: `sframeenc` refuses counters that were in use in this process under the same key.
fn keys(group: &str, epoch: u64, own_leaf: u32, gone: &[u32]) -> EpochKeys {
    let leaf = |leaf| {
        let info = LeafInfo {
            sender: format!("member {leaf}"),
            may_send: leaf != 3,
        };
        (leaf, info)
    };
    EpochKeys {
        epoch,
        base_key: Zeroizing::new(format!("{group} {epoch}").into_bytes()),
        suite: 4,
        epoch_bits: 4,
        leaves: (0..4).filter(|leaf| !gone.contains(leaf)).map(leaf).collect(),
        tree_leaves: 4,
        own_leaf,
        removed_somebody: false,
        sealing: true,
        room: RoomState::default(),
    }
}

fn enter(keyring: &Keyring, keys: EpochKeys) {
    keyring
        .shared()
        .with_schedule(|schedule, now| schedule.enter(now, keys))
        .unwrap();
}

fn tick(keyring: &Keyring) {
    keyring.shared().with_schedule(|schedule, now| schedule.tick(now));
}

fn sealing_epoch(keyring: &Keyring) -> Option<u64> {
    keyring
        .shared()
        .with_schedule(|schedule, _| schedule.sealing_epoch())
}

fn kid(leaf: u32, epoch: u64) -> u64 {
    Layout::new(4, 4).unwrap().kid(0, leaf, epoch).unwrap()
}

/// Epochs that a signal names, as they come.
fn announced(keyring: &Keyring, signal: &str) -> Arc<Mutex<Vec<u64>>> {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let notes = noted.clone();
    keyring.connect(signal, false, move |args| {
        notes.lock().unwrap().push(args[1].get().unwrap());
        None
    });
    noted
}

fn taken(noted: &Mutex<Vec<u64>>) -> Vec<u64> {
    std::mem::take(&mut noted.lock().unwrap())
}

// The contract

#[test]
fn it_is_a_key_source_with_every_part_of_the_contract() {
    let clock = Arc::new(AtomicU64::new(0));
    let keyring = keyring(&clock);
    assert_eq!(keyring.type_().name(), "GstMlsKeyring");
    let source = KeySource::from_context(&keyring.context("x")).unwrap();
    assert!(source.sender_key("s").unwrap().is_none());
    assert!(source.receiver_key(17).unwrap().is_none());
    assert!(source.room_state(0).unwrap().is_none());
    assert!(source.room_state(LATEST).unwrap().is_none());
    assert!(source.sign("recording", b"data").is_none());
    source.frame_opened(17);

    let changed = announced(&keyring, "keys-changed");
    enter(&keyring, keys("contract", 7, 0, &[]));
    assert_eq!(taken(&changed), [7]);
    let key = source.sender_key("s").unwrap().unwrap();
    assert_eq!((key.kid, key.epoch, key.counters), (kid(0, 7), 7, 0..1 << 32));
    assert_eq!(key.base_key.as_slice(), b"contract 7");
    assert_ne!(
        source.sender_key("s").unwrap().unwrap().kid,
        key.kid,
        "one sender per KID"
    );
    let key = source.receiver_key(kid(2, 7)).unwrap().unwrap();
    assert_eq!((key.epoch, key.leaf, key.sender.as_str()), (7, 2, "member 2"));
    for nobody in [kid(0, 7), kid(3, 7), kid(1, 8), u64::MAX] {
        assert!(source.receiver_key(nobody).unwrap().is_none(), "{nobody:#x}");
    }
    assert!(taken(&changed).is_empty(), "asking changes nothing");
}

#[test]
fn what_held_in_the_room_is_told_epoch_by_epoch() {
    init();
    let keyring = Keyring::new();
    let source = KeySource::new(keyring.clone().upcast()).unwrap();
    let changed = announced(&keyring, "room-changed");
    let state = |epoch, recording, consent: Option<&str>| RoomState {
        epoch,
        standing: Some(Standing::Joining),
        room_id: Some("a0".into()),
        claim: Some("recorded".into()),
        recording: Some(recording),
        recorder: Some(true),
        leaf: Some(2),
        consent: consent.map(Into::into),
        recipients: Some(vec!["f1".into()]),
        policy_digest: Some("d1".into()),
        ..RoomState::default()
    };
    let states = [
        state(1, false, None),
        state(2, false, None),
        state(3, true, Some("c")),
    ];
    for state in &states {
        keyring.shared().publish_room(state.clone());
    }
    assert_eq!(taken(&changed), [1, 2, 3]);
    for state in states {
        assert_eq!(source.room_state(state.epoch).unwrap(), Some(state));
    }
    assert_eq!(
        source.room_state(LATEST).unwrap(),
        Some(state(3, true, Some("c")))
    );
    assert!(source.room_state(4).unwrap().is_none());
}

#[test]
fn who_records_hears_at_once_that_the_room_is_stale_or_it_is_out() {
    init();
    let keyring = Keyring::new();
    let source = KeySource::new(keyring.clone().upcast()).unwrap();
    let shared = keyring.shared();
    shared.set_certificates(vec!["pem".into()]);
    shared.publish_room(RoomState {
        epoch: 5,
        ..RoomState::default()
    });
    let heard = Arc::new(Mutex::new(Vec::new()));
    let connection = {
        let (source, heard) = (source.clone(), heard.clone());
        source.clone().connect_room_changed(move |epoch| {
            let standing = |epoch| source.room_state(epoch).unwrap().unwrap().standing.unwrap();
            assert_eq!(standing(LATEST), standing(epoch));
            heard.lock().unwrap().push((epoch, standing(epoch)));
        })
    };
    for standing in [
        Standing::Joining,
        Standing::Ready,
        Standing::Ready,
        Standing::Stale,
        Standing::Ready,
        Standing::Evicted,
    ] {
        shared.publish_standing(standing);
    }
    assert_eq!(
        *heard.lock().unwrap(),
        [
            (5, Standing::Ready),
            (5, Standing::Stale),
            (5, Standing::Ready),
            (5, Standing::Evicted)
        ]
    );
    drop(connection);
    assert_eq!(source.room_state(5).unwrap().unwrap().certificates, ["pem"]);
}

/// A keyring of the room in this folder, and the key source that it gives.
fn member(dir: &Path, ca: &Authority, id: &str, role: Role) -> (gst::Element, KeySource) {
    let private = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let key = IdentityKey::generate().unwrap();
    let subject = Subject {
        id: id.into(),
        operator: None,
        roles: vec![role],
    };
    let (chain, _) = ca
        .issue(key.public(), &subject, Validity::days(unix(), 10))
        .unwrap();
    let path = |name: String| dir.join(name).display().to_string();
    let keyring = gst::ElementFactory::make("mlskeyring")
        .property("id", id)
        .property("room", "visit")
        .property(
            "certificate-file",
            private(&format!("{id}.pem"), &chain_pem(&chain).unwrap()),
        )
        .property(
            "private-key-file",
            private(&format!("{id}.key"), &key.to_pem().unwrap()),
        )
        .property(
            "ca-file",
            private("ca.pem", &certificate_pem(ca.root_certificate()).unwrap()),
        )
        .property("state-file", path(format!("{id}.state")))
        .property("state-key-file", private("state-key", &"5a".repeat(32)))
        .property("delivery", format!("sqlite:{}", path("rooms.sqlite".into())))
        .build()
        .unwrap();
    if role == Role::Participant {
        let root = ca.fingerprint();
        let policy = format!(
            r#"{{ "claim": "recorded", "recording": true, "admit": [{{ "role": "participant", "root": "{root}" }},
            {{ "role": "recorder", "root": "{root}" }}], "rights": {{ "remove": "participants" }} }}"#
        );
        keyring.set_property("create", true);
        keyring.set_property("policy-file", private("policy.json", &policy));
    }
    keyring.set_state(gst::State::Playing).unwrap();
    let context = keyring.context(&format!("gst.sframe.keyring/{id}")).unwrap();
    (keyring, KeySource::from_context(&context).unwrap())
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn until(source: &KeySource, what: &str, holds: impl Fn(&RoomState) -> bool) -> RoomState {
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        let state = source.room_state(LATEST).unwrap();
        if let Some(state) = state.filter(&holds) {
            return state;
        }
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_recorder_in_a_room_sees_who_signs_and_that_it_is_removed() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::root(
        "clinic",
        IdentityKey::generate().unwrap(),
        Validity::days(unix(), 30),
    )
    .unwrap();
    let (anna, room) = member(dir.path(), &ca, "anna", Role::Participant);
    until(&room, "a room", |state| state.standing == Some(Standing::Ready));
    let (archive, source) = member(dir.path(), &ca, "archive", Role::Recorder);
    let state = until(&source, "the recorder is in", |state| {
        state.standing == Some(Standing::Ready)
    });
    assert_eq!((state.recorder, state.recording), (Some(true), Some(true)));
    assert_eq!(state.room_id, room.room_state(LATEST).unwrap().unwrap().room_id);

    // Whoever sees the chain can check what it signs.
    let chain = identity::from_pem(&state.certificates).unwrap();
    let chain = identity::content(&chain).unwrap();
    let signer = identity::verify(&chain, &[ca.fingerprint()], unix()).unwrap();
    assert_eq!((signer.subject.as_str(), signer.is_recorder()), ("archive", true));
    let signature = source.sign("recording", b"facts").unwrap();
    ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, signer.public_key)
        .verify(b"gst-e2ee recording v1\0facts", &signature)
        .unwrap();

    let (told, heard) = mpsc::channel();
    let connection = source.connect_room_changed(move |_| told.send(()).unwrap());
    assert!(anna.emit_by_name::<bool>("remove-member", &[&"archive"]));
    until(&source, "it is out", |state| {
        state.standing == Some(Standing::Evicted)
    });
    assert!(heard.try_iter().count() > 0, "without being asked");
    drop(connection);
    let after = source.room_state(state.epoch).unwrap().unwrap();
    assert_eq!(
        (after.standing, after.recording),
        (Some(Standing::Evicted), Some(true))
    );
    for keyring in [archive, anna] {
        keyring.set_state(gst::State::Null).unwrap();
    }
    assert!(
        source
            .room_state(LATEST)
            .unwrap()
            .unwrap()
            .certificates
            .is_empty()
    );
    // Who was not evicted may come again.
    assert_eq!(
        room.room_state(LATEST).unwrap().unwrap().standing,
        Some(Standing::Joining)
    );
}

#[test]
fn it_signs_for_plain_purposes_under_a_label_of_each() {
    init();
    let keyring = Keyring::new();
    let source = KeySource::new(keyring.clone().upcast()).unwrap();
    keyring
        .shared()
        .set_signer(Some(Arc::new(|bytes: &[u8]| Some(bytes.to_vec()))));
    assert_eq!(
        &source.sign("recording", b"data").unwrap()[..],
        b"gst-e2ee recording v1\0data"
    );
    for refused in ["", "mls", "posture", "Recording", "a b"] {
        assert!(source.sign(refused, b"data").is_none(), "{refused:?}");
    }
    // NULL comes from other languages.
    let null = keyring
        .emit_by_name::<Option<gst::glib::Bytes>>("sign", &[&None::<String>, &None::<gst::glib::Bytes>]);
    assert!(null.is_none());
}

#[test]
fn who_hears_of_a_change_may_ask_at_once() {
    let clock = Arc::new(AtomicU64::new(0));
    let keyring = keyring(&clock);
    let source = KeySource::new(keyring.clone().upcast()).unwrap();
    let epochs = Arc::new(Mutex::new(Vec::new()));
    let connection = {
        let (source, epochs) = (source.clone(), epochs.clone());
        source.clone().connect_keys_changed(move |_| {
            let sealing = source.sender_key("s").unwrap().map(|key| key.epoch);
            let opening = source.receiver_key(kid(1, 8)).unwrap().map(|key| key.epoch);
            epochs.lock().unwrap().push((sealing, opening));
        })
    };
    enter(&keyring, keys("any", 7, 0, &[]));
    enter(&keyring, keys("any", 8, 0, &[]));
    source.frame_opened(kid(1, 8));
    keyring
        .shared()
        .with_schedule(|schedule, _| schedule.forget_all());
    drop(connection);
    let expected = [
        (Some(7), None),
        (Some(7), Some(8)),
        (Some(8), Some(8)),
        (None, None),
    ];
    assert_eq!(*epochs.lock().unwrap(), expected);
}

#[test]
fn an_authenticated_frame_switches_at_once_and_is_passed_on() {
    let clock = Arc::new(AtomicU64::new(0));
    let keyring = keyring(&clock);
    let source = KeySource::new(keyring.clone().upcast()).unwrap();
    let (heard, hears) = mpsc::sync_channel(8);
    let listener = move |opened| heard.try_send(opened).unwrap();
    keyring.shared().set_listener(Some(Arc::new(listener)));
    enter(&keyring, keys("any", 7, 0, &[]));
    enter(&keyring, keys("any", 8, 0, &[]));
    for nobody in [kid(0, 8), kid(3, 8), kid(1, 9)] {
        source.frame_opened(nobody);
    }
    assert_eq!(sealing_epoch(&keyring), Some(7));
    assert!(hears.try_recv().is_err());
    source.frame_opened(kid(2, 8));
    assert_eq!(sealing_epoch(&keyring), Some(8));
    let opened = hears.try_recv().unwrap();
    assert_eq!((opened.epoch, opened.leaf, opened.switched), (8, 2, true));
}

#[test]
fn a_lookup_does_not_wait_for_who_works_on_the_schedule() {
    let clock = Arc::new(AtomicU64::new(0));
    let keyring = keyring(&clock);
    let source = KeySource::new(keyring.clone().upcast()).unwrap();
    enter(&keyring, keys("any", 7, 0, &[]));
    let (working, works) = mpsc::channel();
    let (finish, finished) = mpsc::channel::<()>();
    let shared = keyring.shared();
    let worker = thread::spawn(move || {
        shared.with_schedule(|_, _| {
            working.send(()).unwrap();
            finished.recv().unwrap();
        });
    });
    works.recv().unwrap();
    assert!(source.receiver_key(kid(1, 7)).unwrap().is_some());
    assert!(source.receiver_key(kid(1, 8)).unwrap().is_none());
    finish.send(()).unwrap();
    worker.join().unwrap();
}

/// Everybody at once, and who hears of a change asks back: nobody waits for ever, and no KID is given to two.
#[test]
fn many_threads_ask_while_keys_change() {
    let clock = Arc::new(AtomicU64::new(0));
    let keyring = keyring(&clock);
    let source = KeySource::new(keyring.clone().upcast()).unwrap();
    let given = Arc::new(Mutex::new(HashSet::new()));
    let ask = {
        let (source, given) = (source.clone(), given.clone());
        move || {
            if let Some(key) = source.sender_key("s").unwrap() {
                let base_key = key.base_key.to_vec();
                assert!(
                    given.lock().unwrap().insert((base_key, key.kid)),
                    "KID {:#x} twice",
                    key.kid
                );
            }
        }
    };
    let _connection = source.connect_keys_changed({
        let ask = ask.clone();
        move |_| ask()
    });
    let done = Arc::new(AtomicBool::new(false));
    let spawn = |work: Box<dyn Fn(u64) + Send>| {
        let done = done.clone();
        thread::spawn(move || (0..).take_while(|_| !done.load(Ordering::SeqCst)).for_each(work))
    };
    let opener = |leaf| {
        let source = source.clone();
        Box::new(move |turn| {
            let kid = kid(leaf, turn % 16);
            if source.receiver_key(kid).unwrap().is_some() {
                source.frame_opened(kid);
            }
        })
    };
    let senders = (0..2).map(|_| {
        let ask = ask.clone();
        spawn(Box::new(move |_| ask()))
    });
    let openers = (1..3).map(|leaf| spawn(opener(leaf)));
    let others: Vec<_> = senders.chain(openers).collect();
    for epoch in 1..=300 {
        let gone: &[u32] = if epoch % 7 == 0 { &[2] } else { &[] };
        let removed_somebody = !gone.is_empty();
        enter(
            &keyring,
            EpochKeys {
                removed_somebody,
                ..keys("many", epoch, 0, gone)
            },
        );
        clock.fetch_add(epoch * 13 % 400, Ordering::SeqCst);
        tick(&keyring);
    }
    clock.fetch_add(SWITCH_MS, Ordering::SeqCst);
    tick(&keyring);
    assert_eq!(sealing_epoch(&keyring), Some(300));
    done.store(true, Ordering::SeqCst);
    for other in others {
        other.join().unwrap();
    }
    assert!(given.lock().unwrap().len() > 300);
}

#[test]
fn it_ends_with_its_last_user() {
    init();
    let keyring = Keyring::new();
    enter(&keyring, keys("any", 7, 0, &[]));
    let shared = keyring.shared();
    let weak = keyring.downgrade();
    drop(keyring);
    assert!(weak.upgrade().is_none(), "the runner does not keep it");
    shared.with_schedule(|schedule, _| schedule.forget_all());
}

// Media

/// One member with a sender and a receiver for each other one.
struct Endpoint {
    keyring: Keyring,
    enc: Harness,
    group: &'static str,
    leaf: u32,
}

impl Endpoint {
    fn new(group: &'static str, leaf: u32, clock: &Arc<AtomicU64>) -> Self {
        let keyring = keyring(clock);
        let enc = Self::element(&keyring, "sframeenc");
        let mut enc = Harness::with_element(&enc, Some("sink"), Some("src"));
        enc.set_src_caps_str(OPUS);
        Self {
            keyring,
            enc,
            group,
            leaf,
        }
    }

    fn element(keyring: &Keyring, factory: &str) -> gst::Element {
        gst::ElementFactory::make(factory)
            .property("key-source", keyring)
            .build()
            .unwrap()
    }

    fn dec(&self) -> Harness {
        let dec = Self::element(&self.keyring, "sframedec");
        let mut dec = Harness::with_element(&dec, Some("sink"), Some("src"));
        dec.set_src_caps_str("application/x-sframe,original-media-type=audio/x-opus,channels=2");
        dec
    }

    fn enter(&self, epoch: u64, gone: &[u32], removed_somebody: bool) {
        let keys = keys(self.group, epoch, self.leaf, gone);
        enter(
            &self.keyring,
            EpochKeys {
                removed_somebody,
                ..keys
            },
        );
    }

    fn seal(&mut self, number: u64) -> gst::Buffer {
        let mut frame = gst::Buffer::from_mut_slice(vec![number as u8; 40]);
        frame
            .get_mut()
            .unwrap()
            .set_pts(gst::ClockTime::from_mseconds(20 * number));
        self.enc.push(frame).unwrap();
        self.enc.pull().unwrap()
    }
}

fn stat(h: &Harness, name: &str) -> u64 {
    h.element()
        .unwrap()
        .property::<gst::Structure>("stats")
        .get(name)
        .unwrap()
}

/// 20 changes of keys in a call of three in both directions, a frame every 20 ms; commits reach the members in any
/// order, up to 300 ms apart.
#[test]
fn over_20_changes_of_keys_no_frame_is_lost() {
    let clock = Arc::new(AtomicU64::new(0));
    let mut all: Vec<_> = (0..3).map(|leaf| Endpoint::new("call", leaf, &clock)).collect();
    let pairs: Vec<_> = (0..3)
        .flat_map(|from| (0..3).map(move |to| (from, to)))
        .filter(|(a, b)| a != b)
        .collect();
    let mut decs: Vec<_> = pairs.iter().map(|&(_, to)| all[to].dec()).collect();
    for endpoint in &all {
        endpoint.enter(0, &[], false);
    }
    let mut number = 0;
    for epoch in 1..=20u64 {
        let received = [0, 1, 2].map(|who| (epoch * 7 + who * 5) % 16 * 20);
        // Some changes follow while the one before is not through.
        let lasts = if epoch % 3 == 0 { 400 } else { 1_500 };
        for at in (0..lasts).step_by(20) {
            clock.fetch_add(20, Ordering::SeqCst);
            for (endpoint, _) in all.iter().zip(received).filter(|(_, received)| *received == at) {
                endpoint.enter(epoch, &[], false);
            }
            for endpoint in &all {
                tick(&endpoint.keyring);
            }
            number += 1;
            let sealed: Vec<_> = all.iter_mut().map(|endpoint| endpoint.seal(number)).collect();
            for (&(from, _), dec) in pairs.iter().zip(&mut decs) {
                dec.push(sealed[from].clone()).unwrap();
            }
        }
    }
    for dec in &mut decs {
        for expected in 1..=number {
            let frame = dec.pull().unwrap();
            assert_eq!(frame.pts(), Some(gst::ClockTime::from_mseconds(20 * expected)));
        }
        let dropped = ["no-key", "auth-failed", "replayed", "malformed", "wrong-sender"];
        assert_eq!(dropped.map(|cause| stat(dec, cause)), [0; 5]);
        assert_eq!((stat(dec, "opened"), stat(dec, "epoch")), (number, 20));
    }
    for endpoint in &all {
        assert_eq!(sealing_epoch(&endpoint.keyring), Some(20));
    }
    clock.fetch_add(KEEP_MS + SWITCH_MS, Ordering::SeqCst);
    for endpoint in &all {
        let left = |schedule: &mut gstmls::schedule::Schedule, now| {
            schedule.tick(now);
            schedule.epochs().collect::<Vec<_>>()
        };
        assert_eq!(endpoint.keyring.shared().with_schedule(left), [20]);
    }
}

/// Leaf 2 is removed. It hears of it only much later, and opens nothing that was sealed 250 ms after the others did.
#[test]
fn who_was_removed_opens_nothing_after_the_switch() {
    let clock = Arc::new(AtomicU64::new(0));
    let mut all: Vec<_> = (0..3)
        .map(|leaf| Endpoint::new("removal", leaf, &clock))
        .collect();
    let mut stays = all[1].dec();
    let mut gone = all[2].dec();
    let mut from_gone = all[1].dec();
    for endpoint in &all {
        endpoint.enter(7, &[], false);
    }
    let mut opened_by_gone = 0;
    for number in 1..=150 {
        let at = clock.fetch_add(20, Ordering::SeqCst) + 20;
        if at == 1_000 {
            all[0].enter(8, &[2], true);
        }
        if at == 1_100 {
            all[1].enter(8, &[2], true);
        }
        for endpoint in &all {
            tick(&endpoint.keyring);
        }
        let sealed = all[0].seal(number);
        let before = stat(&gone, "opened");
        gone.push(sealed.clone()).unwrap();
        stays.push(sealed).unwrap();
        // Nothing is held in a way that it could still open.
        opened_by_gone = stat(&gone, "opened");
        let is_after = at >= 1_000 + SWITCH_AFTER_REMOVE_MS;
        assert_eq!(opened_by_gone > before, !is_after, "at {at} ms");
    }
    assert_eq!(stat(&stays, "opened"), 150);
    assert_eq!((1..=150).map(|_| stays.pull().unwrap()).count(), 150);
    assert_eq!(opened_by_gone, (1_000 + SWITCH_AFTER_REMOVE_MS) / 20 - 1);
    // What it seals itself is refused two seconds after receipt.
    clock.store(1_100 + KEEP_AFTER_REMOVE_MS, Ordering::SeqCst);
    tick(&all[1].keyring);
    let late = all[2].seal(151);
    from_gone.push(late).unwrap();
    assert_eq!(stat(&from_gone, "opened"), 0);
}

/// A running pipeline on two keyrings and real time: keys change 20 times, at the two ends not at once.
#[test]
fn a_running_pipeline_loses_nothing_over_20_changes_of_keys() {
    init();
    let (sender, receiver) = (Keyring::new(), Keyring::new());
    enter(&sender, keys("pipeline", 0, 0, &[]));
    enter(&receiver, keys("pipeline", 0, 1, &[]));
    let pipeline = gst::parse::launch(
        "audiotestsrc is-live=true samplesperbuffer=480 ! audio/x-raw,rate=48000,channels=2 ! opusenc frame-size=10 ! \
         sframeenc name=enc ! sframedec name=dec ! fakesink name=sink sync=false",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    for (name, keyring) in [("enc", &sender), ("dec", &receiver)] {
        pipeline
            .by_name(name)
            .unwrap()
            .set_property("key-source", keyring);
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    let opened = || {
        let stats = pipeline
            .by_name("dec")
            .unwrap()
            .property::<gst::Structure>("stats");
        (
            stats.get::<u64>("opened").unwrap(),
            stats.get::<u64>("epoch").unwrap(),
        )
    };
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(30), "{what}");
            thread::sleep(Duration::from_millis(2));
        }
    };
    for epoch in 1..=20 {
        let before = opened().0;
        let (first, second) = if epoch % 2 == 0 {
            (&sender, &receiver)
        } else {
            (&receiver, &sender)
        };
        let own = |keyring: &Keyring| u32::from(keyring == &receiver);
        enter(first, keys("pipeline", epoch, own(first), &[]));
        if epoch % 2 == 0 {
            // The sender goes on before the receiver has heard: frames wait.
            sender
                .shared()
                .with_schedule(|schedule, now| schedule.all_ready(now, epoch));
            thread::sleep(Duration::from_millis(30));
        }
        enter(second, keys("pipeline", epoch, own(second), &[]));
        sender
            .shared()
            .with_schedule(|schedule, now| schedule.all_ready(now, epoch));
        wait("frames of the new epoch", &|| {
            opened().1 == epoch && opened().0 > before
        });
    }
    pipeline
        .by_name("enc")
        .unwrap()
        .static_pad("sink")
        .unwrap()
        .send_event(gst::event::Eos::new());
    let bus = pipeline.bus().unwrap();
    let end = bus.timed_pop_filtered(
        gst::ClockTime::from_seconds(30),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    assert!(matches!(end.unwrap().view(), gst::MessageView::Eos(_)));
    let stats = |name: &str| {
        pipeline
            .by_name(name)
            .unwrap()
            .property::<gst::Structure>("stats")
    };
    let (sealed, opened) = (stats("enc"), stats("dec"));
    pipeline.set_state(gst::State::Null).unwrap();
    for cause in ["no-key", "auth-failed", "replayed", "malformed", "wrong-sender"] {
        assert_eq!(opened.get::<u64>(cause).unwrap(), 0, "{cause}");
    }
    assert_eq!(
        opened.get::<u64>("opened").unwrap(),
        sealed.get::<u64>("sealed").unwrap()
    );
}

/// `keys-changed` is also about others' keys; a keyframe is needed only where a sender goes on.
#[test]
fn a_sender_changes_its_key_once_per_epoch() {
    let clock = Arc::new(AtomicU64::new(0));
    let mut one = Endpoint::new("once", 0, &clock);
    one.enc
        .set_src_caps_str("video/x-vp8,width=320,height=240,framerate=30/1");
    let changed = announced(&one.keyring, "keys-changed");
    for (number, epoch) in (1..=5).enumerate() {
        let number = number as u64 * 5;
        one.enter(epoch, &[], false);
        one.seal(number);
        clock.fetch_add(SWITCH_MS, Ordering::SeqCst);
        tick(&one.keyring);
        one.seal(number + 1);
        clock.fetch_add(KEEP_MS, Ordering::SeqCst);
        tick(&one.keyring);
        one.seal(number + 2);
    }
    assert_eq!(taken(&changed), [1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]);
    assert_eq!(stat(&one.enc, "key-changes"), 5);
    let events = std::iter::from_fn(|| one.enc.try_pull_upstream_event());
    let requests = events.filter(|e| e.structure().is_some_and(|s| s.name() == "GstForceKeyUnit"));
    assert_eq!(requests.count(), 4, "a keyframe for each change");
}
