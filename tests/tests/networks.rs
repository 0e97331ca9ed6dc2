//! Networks as they are: a whole consultation between machines of their own (network namespaces), over a network that loses 5 %,
//! takes 80 ms with 30 ms of jitter and turns packets around, while relay, delivery and a participant fail for 5 s each.
//!
//! `GST_E2EE_NETWORK_SEED` decides what befalls each packet.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "../../plugins/mls/tests/nats/server.rs"]
#[allow(dead_code, reason = "others need the rest of it")]
mod server;

use gst_e2ee_common::descriptor::Descriptor;
use gst_e2ee_common::header::Header;
use gst_e2ee_tests::consult::{Consult, LIMIT, MEMBERS, end, wait};
use gst_e2ee_tests::namespaces::{Machine, is_inside};
use gst_e2ee_tests::network::{Network, Quality, Seen};
use gst_e2ee_tests::process::Running;
use gstcompliance::audit::{self, Event, Item};
use gstcompliance::recording::{self, Index, Medium, Options};
use gstmls::control::{self, Reply, Request};
use gstmls::room::Command;
use server::Server;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// From one participant to the other a packet crosses the network twice, to the relay and from it.
const CROSSING: Quality = Quality {
    loss: 25,
    delay: Duration::from_millis(40),
    jitter: Duration::from_millis(15),
};
const OUTAGE: Duration = Duration::from_secs(5);
const SECOND: u64 = 1_000_000_000;
/// So long a gap there must be for an outage: the jitter buffers of 200 ms and the packets on their way may take some.
const MISSING: u64 = 4 * SECOND;
const PIECE: usize = 16;
const SAID: [&str; 2] = ["It hurts when I climb stairs", "Since when does it?"];

fn seed() -> u64 {
    std::env::var("GST_E2EE_NETWORK_SEED").map_or(1, |text| text.parse().unwrap())
}

/// The machines, and the ways between them, as `pipelines/room/relay.sh` has them.
fn connect(consult: &mut Consult, network: &Network, server: u16) {
    for (name, number) in [("clinician", 1), ("patient", 2), ("recorder", 3), ("relay", 4)] {
        consult.machines.insert(name, Machine::new(name, number));
    }
    consult.delivery = Some(server);
    let up = [
        ("clinician", vec![0, 1, 2, 3]),
        ("patient", vec![10, 11, 12, 13]),
        ("recorder", vec![41, 43, 45, 47]),
    ];
    let down = [("clinician", 4..8_u16), ("patient", 14..18), ("recorder", 30..38)];
    let relay = &consult.machines["relay"];
    for (who, offsets) in up {
        for offset in offsets {
            let port = consult.port + offset;
            let at = (consult.machines[who].exit(), port).into();
            network.datagrams(&format!("{who} +{offset}"), at, (relay.address(), port).into());
        }
    }
    for (who, offsets) in down {
        for offset in offsets {
            let port = consult.port + offset;
            let to = (consult.machines[who].address(), port).into();
            network.datagrams(&format!("relay +{offset}"), (relay.exit(), port).into(), to);
        }
    }
    for who in MEMBERS {
        let at = (consult.machines[who].exit(), server).into();
        network.connections(&format!("{who} nats"), at, (Ipv4Addr::LOCALHOST, server).into());
    }
}

/// What this process printed of a kind of message.
fn messages<'a>(printed: &'a str, kind: &str) -> Vec<&'a str> {
    let begins = format!("{kind},");
    printed.lines().filter(|line| line.contains(&begins)).collect()
}

/// A field of a message, as `gst-launch-1.0 -m` prints it.
fn field<'a>(message: &'a str, name: &str) -> &'a str {
    let begins = format!("{name}=(");
    let (_, value) = message.split_once(&begins).unwrap_or_else(|| panic!("{message}"));
    let (_, value) = value.split_once(')').unwrap();
    value.split([',', ';']).next().unwrap().trim_matches('"')
}

/// More of both arrives at both and is decoded, and more of both is recorded, pictures and sound.
fn flows(consult: &Consult, recorder: &mut Running, when: &str) {
    // Of what is not on disk yet filesink keeps 64 KiB: more than that is new.
    const MORE: u64 = 2 << 16;
    let both = ["clinician", "patient"];
    let file = |who: &str, name: &str| fs::metadata(consult.out(who).join(name));
    let received = || {
        let size = |who, name| file(who, name).map_or(0, |data| data.len());
        both.map(|who| ["video.bin", "sound.wav"].map(|name| size(who, name)))
    };
    let recorded = |recorder: &Running| {
        let mut segments: BTreeMap<String, usize> = BTreeMap::new();
        for segment in messages(&recorder.printed(), "compliance-segment") {
            *segments.entry(field(segment, "track").to_owned()).or_default() += 1;
        }
        segments
    };
    let (before, old, now) = (received(), recorded(recorder), SystemTime::now());
    wait(recorder, when, |recorder| {
        let arrived = received()
            .as_flattened()
            .iter()
            .zip(before.as_flattened())
            .all(|(now, then)| *now > then + MORE);
        let shown = both.into_iter().all(|who| {
            let picture = file(who, "picture.png");
            picture.is_ok_and(|data| data.modified().unwrap() > now + Duration::from_millis(500))
        });
        let segments = recorded(recorder);
        let kept = segments
            .iter()
            .filter(|(track, count)| **count > *old.get(*track).unwrap_or(&0));
        arrived && shown && kept.count() >= 4
    });
}

/// Asks for new keys, and does not wait for the answer: an outage can be longer than it.
fn rekey(consult: &Consult, who: &str) -> thread::JoinHandle<Result<Reply, control::ControlError>> {
    let socket = consult.socket(who);
    thread::spawn(move || control::ask(&socket, &Request::Room(Command::Rekey)))
}

/// All are together in an epoch after this one.
fn go_on_after(consult: &Consult, epoch: u64) -> u64 {
    let end = Instant::now() + LIMIT;
    loop {
        let now = consult.agree(&MEMBERS);
        if now > epoch {
            return now;
        }
        assert!(Instant::now() < end, "no new epoch after {epoch}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// From when to when, in nanoseconds on the recording's clock.
type Gaps = Vec<(u64, u64)>;

/// The longest times of which nothing is there, out of gaps that touch each other.
fn holes(gaps: impl Iterator<Item = (u64, u64)>) -> Vec<u64> {
    let mut gaps: Vec<_> = gaps.collect();
    gaps.sort_unstable();
    let mut whole: Vec<(u64, u64)> = Vec::new();
    for (from, to) in gaps {
        match whole.last_mut() {
            Some(last) if from <= last.1 + SECOND / 10 => last.1 = last.1.max(to),
            _ => whole.push((from, to)),
        }
    }
    let long = whole.iter().map(|(from, to)| to - from);
    long.filter(|length| *length >= MISSING).collect()
}

/// How many of these pieces stand in what was seen.
fn found(seen: &[Seen], pieces: &HashSet<&[u8]>) -> usize {
    // Most windows are none of them: a quick look first.
    let mut begins = vec![false; 1 << 24];
    let index =
        |piece: &[u8]| usize::from(piece[0]) << 16 | usize::from(piece[1]) << 8 | usize::from(piece[2]);
    for piece in pieces {
        begins[index(piece)] = true;
    }
    let windows = seen.iter().flat_map(|seen| seen.bytes.windows(PIECE));
    let there: HashSet<&[u8]> = windows
        .filter(|window| begins[index(window)] && pieces.contains(*window))
        .collect();
    there.len()
}

/// Pieces of some bytes, without those that could be anywhere.
fn pieces(bytes: &[u8]) -> HashSet<&[u8]> {
    let is_special = |piece: &&[u8]| piece.iter().collect::<BTreeSet<_>>().len() > PIECE / 2;
    bytes.chunks_exact(PIECE).filter(is_special).collect()
}

/// RTP without its header (RFC 3550 §5.1, §5.3.1).
fn payload(packet: &[u8]) -> &[u8] {
    assert_eq!(packet[0] >> 6, 2);
    let mut begin = 12 + 4 * usize::from(packet[0] & 15);
    if packet[0] & 16 != 0 {
        begin += 4 + 4 * usize::from(u16::from_be_bytes([packet[begin + 2], packet[begin + 3]]));
    }
    &packet[begin..]
}

/// Nothing was sealed twice under the same epoch, KID and CTR; how many frames were.
fn sealed_once(seen: &[Seen], routes: &[String]) -> usize {
    let mut sealed = HashSet::new();
    for route in routes {
        // The low four bits of a KID are those of its epoch (RFC 9605 §5.2); a sender's epochs only grow.
        let mut epoch = 0;
        for packet in seen.iter().filter(|seen| seen.route == *route) {
            let payload = payload(&packet.bytes);
            if !Descriptor::parse(payload[0]).unwrap().start {
                continue;
            }
            let (header, _) = Header::parse(&payload[1..]).unwrap();
            epoch += (header.kid & 15).wrapping_sub(epoch) & 15;
            assert!(
                sealed.insert((epoch, header.kid, header.ctr)),
                "twice: {header:?}"
            );
        }
    }
    sealed.len()
}

#[test]
fn a_consultation_outlasts_a_bad_network_and_outages_of_relay_delivery_and_patient() {
    if !is_inside("a_consultation_outlasts_a_bad_network_and_outages_of_relay_delivery_and_patient") {
        return;
    }
    println!("seed {}", seed());
    let mut server = Server::start();
    let mut consult = Consult::new();
    let network = Network::new(seed(), CROSSING);
    connect(&mut consult, &network, server.port);
    let [relay, clinician, patient, mut recorder] = consult.begin();
    consult.set_recording(true);
    consult.agree(&MEMBERS);
    flows(&consult, &mut recorder, "media at the beginning");
    consult.talk("patient", "clinician", SAID[0]);

    // The relay dies; another one takes its place.
    relay.kill();
    thread::sleep(OUTAGE);
    let relay = consult.start("relay", "room/relay.sh", &[]);
    flows(&consult, &mut recorder, "media after the relay was away");

    // The delivery dies with a change under way, and comes back with what it had.
    let epoch = consult.agree(&MEMBERS);
    server.kill();
    let asked = rekey(&consult, "clinician");
    thread::sleep(OUTAGE);
    server.start_again();
    let epoch = go_on_after(&consult, epoch);
    drop(asked.join().unwrap());
    flows(&consult, &mut recorder, "media after the delivery was away");

    // The patient's cable is pulled out, and the room goes on meanwhile.
    consult.machines["patient"].plug(false);
    let asked = rekey(&consult, "clinician");
    thread::sleep(OUTAGE);
    consult.machines["patient"].plug(true);
    go_on_after(&consult, epoch);
    drop(asked.join().unwrap());
    flows(&consult, &mut recorder, "media after the patient was away");
    consult.talk("clinician", "patient", SAID[1]);

    let last = consult.agree(&MEMBERS);
    let ended = [clinician, patient].map(|who| end(who).expect_success().printed);
    let printed = end(recorder).expect_success().printed;
    drop(relay);

    // The room stayed one: nobody saw another code in an epoch than the others.
    let mut codes: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for change in ended
        .iter()
        .chain([&printed])
        .flat_map(|all| messages(all, "mls-epoch-changed"))
    {
        let code = field(change, "epoch-code");
        let (known, times) = codes.entry(field(change, "epoch")).or_insert((code, 0));
        assert_eq!(*known, code, "a fork: {change}");
        *times += 1;
    }
    assert!(
        codes.values().filter(|(_, times)| *times == 3).count() >= 3,
        "{codes:?}"
    );

    // The recording is whole, and says what is missing.
    let recordings = consult.out("recorder").join("recordings");
    let made: Vec<_> = fs::read_dir(&recordings)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let report = recording::verify(&made[0], &Options::default()).unwrap();
    assert_eq!(report.state, recording::State::Complete, "{report:#?}");
    let index = Index::open(&made[0], &Options::default()).unwrap();
    let mut missing: BTreeMap<_, Gaps> = BTreeMap::new();
    for track in index.tracks().iter().filter(|track| track.medium != Medium::Text) {
        let gaps = track.gaps.iter().map(|gap| (gap.from_ns, gap.to_ns));
        missing
            .entry((track.leaf, track.medium.to_string()))
            .or_default()
            .extend(gaps);
    }
    let missing: BTreeMap<_, _> = missing
        .into_iter()
        .map(|(of, gaps)| (of, holes(gaps.into_iter())))
        .collect();
    println!("{missing:?}");
    assert_eq!(missing.len(), 4, "two who send pictures and sound: {missing:?}");
    for ((leaf, medium), holes) in &missing {
        // The clinician was there all the time, and so is only missing what the relay did not carry.
        let expected = if *leaf == Some(0) { 1 } else { 2 };
        assert!(holes.len() >= expected, "{medium} of leaf {leaf:?}: {missing:?}");
    }
    let log = consult.path("audit");
    let whole = audit::verify(&log, &audit::VerifyOptions::default()).unwrap();
    assert!(whole.damages.is_empty(), "{whole:#?}");
    let logged = audit::Reader::open(&log)
        .unwrap()
        .filter_map(|item| match item.unwrap() {
            Item::Entry { entry, .. } => match entry.unwrap().event {
                Event::Gap {
                    track,
                    from_ns,
                    to_ns,
                    ..
                } => Some((track, (from_ns, to_ns))),
                _ => None,
            },
            _ => None,
        });
    let mut by_track: BTreeMap<u32, Gaps> = BTreeMap::new();
    logged.for_each(|(track, gap)| by_track.entry(track).or_default().push(gap));
    let logged: usize = by_track
        .into_values()
        .map(|gaps| holes(gaps.into_iter()).len())
        .sum();
    let told: usize = missing.values().map(Vec::len).sum();
    assert!(logged >= told, "the log has {logged} of {told} long gaps");

    // The network was as bad as it should be, and carried nothing in clear.
    let seen = network.seen();
    let datagrams: Vec<_> = seen.iter().filter(|seen| seen.route.contains('+')).collect();
    let lost = datagrams.iter().filter(|seen| seen.lost).count();
    let mut turned = 0;
    let mut latest: HashMap<&str, Instant> = HashMap::new();
    for packet in &datagrams {
        let due = latest.insert(&packet.route, packet.due);
        turned += usize::from(due.is_some_and(|due| due > packet.due));
    }
    println!(
        "epoch {last}; {} datagrams, {lost} lost, {turned} turned around",
        datagrams.len()
    );
    assert!(lost * 100 > datagrams.len() && turned * 100 > datagrams.len());
    let media = ["clinician +0", "clinician +2", "patient +10", "patient +12"].map(str::to_owned);
    let sealed = sealed_once(&seen, &media);
    println!("{sealed} frames sealed, none twice");
    assert!(sealed > 500);
    for who in ["clinician", "patient"] {
        for name in ["video.bin", "audio.bin"] {
            let clear = fs::read(consult.out(who).join(name)).unwrap();
            let pieces = pieces(&clear);
            assert!(pieces.len() > 100, "{name} of {who}: {}", pieces.len());
            assert_eq!(found(&seen, &pieces), 0, "{name} of {who} in clear");
        }
    }
    let says = |text: &str| {
        let holds = |seen: &Seen| {
            seen.bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        seen.iter().any(holds)
    };
    assert_eq!(SAID.map(says), [false, false]);
    // Who asks to be let in says who it is: what is looked for is found where it is.
    assert!(says("patient"));
    clear_media_is_found(&consult, &network);
}

/// The control: pictures that are not sealed, sent the same way, are found in what the network carried.
fn clear_media_is_found(consult: &Consult, network: &Network) {
    let before = network.count();
    let (machine, file) = (&consult.machines["clinician"], consult.path("clear.bin"));
    let mut command = machine.command(&consult.sandbox, "gst-launch-1.0");
    command.args(
        format!(
            "videotestsrc num-buffers=60 ! video/x-raw,width=640,height=360 ! vp8enc deadline=1 ! tee name=encoded ! \
             queue ! filesink location={} encoded. ! queue ! rtpvp8pay ! udpsink host={} port={} sync=false",
            file.display(),
            machine.exit(),
            consult.port
        )
        .split_whitespace(),
    );
    consult.sandbox.run("clear", &mut command).expect_success();
    let clear = fs::read(file).unwrap();
    let pieces = pieces(&clear);
    let end = Instant::now() + LIMIT;
    loop {
        let found = found(&network.seen()[before..], &pieces);
        if found * 2 > pieces.len() && found > 100 {
            return;
        }
        assert!(
            Instant::now() < end,
            "only {found} of {} pieces are found",
            pieces.len()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// Sends so many numbers one way, and gives those that came out, in their order.
fn crossing(seed: u64, count: u32) -> Vec<u32> {
    let network = Network::new(
        seed,
        Quality {
            loss: 100,
            ..CROSSING
        },
    );
    let [near, far] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    network.datagrams("one way", free, far.local_addr().unwrap());
    far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for number in 0..count {
        near.send_to(&number.to_be_bytes(), free).unwrap();
    }
    let end = Instant::now() + LIMIT;
    while network.count() < count as usize {
        assert!(Instant::now() < end, "only {} came in", network.count());
        thread::sleep(Duration::from_millis(5));
    }
    let through = network.seen().iter().filter(|seen| !seen.lost).count();
    let mut buffer = [0; 4];
    let receive = |_| {
        assert_eq!(far.recv(&mut buffer).unwrap(), 4);
        u32::from_be_bytes(buffer)
    };
    (0..through).map(receive).collect()
}

#[test]
fn what_befalls_datagrams_is_decided_by_the_seed() {
    let [once, again, otherwise] = [7, 7, 8].map(|seed| crossing(seed, 100));
    let set = |numbers: &[u32]| numbers.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(set(&once), set(&again));
    assert_ne!(set(&once), set(&otherwise));
    assert!((80..100).contains(&once.len()), "{once:?}");
    assert!(!once.is_sorted(), "nothing was turned around");
}

#[test]
fn connections_are_slow_and_whole() {
    let network = Network::new(1, CROSSING);
    let far = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let free = |listener: TcpListener| listener.local_addr().unwrap();
    let at: SocketAddr = free(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    network.connections("connection", at, far.local_addr().unwrap());
    let mut near = TcpStream::connect(at).unwrap();
    let (mut far, _) = far.accept().unwrap();
    let sent: Vec<u8> = (0..300_000_u32).flat_map(|n| n.to_be_bytes()).collect();
    let writer = thread::spawn({
        let sent = sent.clone();
        move || {
            near.write_all(&sent).unwrap();
            let mut answer = [0; 3];
            near.read_exact(&mut answer).unwrap();
            answer
        }
    });
    let mut got = vec![0; sent.len()];
    far.read_exact(&mut got).unwrap();
    assert!(got == sent);
    far.write_all(b"yes").unwrap();
    assert_eq!(&writer.join().unwrap(), b"yes");
}
