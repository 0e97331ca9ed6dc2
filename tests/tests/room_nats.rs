//! Rooms over Debian's nats-server, and what happens to them when servers are killed, frozen or cut off.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "../../plugins/mls/tests/nats/server.rs"]
#[allow(dead_code, reason = "others need the rest of it")]
mod server;

use gst::prelude::*;
use gst_e2ee_tests::clinic::{Clinic, Party, Ring, agree, until};
use gstmls::control::{self, Query, Request};
use server::Server;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// As the clinic names its room.
const ROOM: &str = "visit";
const OPUS: &str = "audiotestsrc is-live=true samplesperbuffer=480 ! audio/x-raw,rate=48000,channels=1 ! \
                    opusenc frame-size=10";
const ROAD: &str = "rtpsframepay ! rtpsframedepay";
const SINK: &str = "fakesink sync=false async=false";

/// Anna, who made the room, and Ben; each hears the other.
fn call(clinic: &Clinic, delivery: &str) -> Party {
    let more = format!("delivery={delivery}");
    Party::start(&format!(
        "{} {} \
         {OPUS} ! sframeenc name=enc-a keyring=a ! {ROAD} ! sframedec name=dec-b keyring=b ! opusdec ! {SINK} \
         {OPUS} ! sframeenc name=enc-b keyring=b ! {ROAD} ! sframedec name=dec-a keyring=a ! opusdec ! {SINK}",
        clinic.creator("anna", &format!("id=a {more}")),
        clinic.keyring("ben", &format!("id=b {more}")),
    ))
}

/// Both hear so many more frames.
fn hear(clinic: &Clinic, party: &Party, rings: &[&Ring]) {
    let opened = || ["dec-a", "dec-b"].map(|dec| party.stat(dec, "opened"));
    let before = opened();
    until(clinic, rings, "frames open", || {
        let now = opened();
        now[0] > before[0] + 50 && now[1] > before[1] + 50
    });
}

/// Nobody saw another code in an epoch than the others. The number of epochs that were compared.
fn no_fork(parties: &[&Party]) -> usize {
    let mut codes: BTreeMap<u64, (String, usize)> = BTreeMap::new();
    for party in parties {
        for (by, change, _) in party.said("mls-epoch-changed") {
            let code: String = change.get("epoch-code").unwrap();
            let epoch = change.get("epoch").unwrap();
            let (known, times) = codes.entry(epoch).or_insert_with(|| (code.clone(), 0));
            assert_eq!(*known, code, "{by} is elsewhere in epoch {epoch}");
            *times += 1;
        }
    }
    codes.values().filter(|(_, times)| *times > 1).count()
}

#[test]
fn a_room_goes_on_when_its_server_is_killed_in_the_middle_of_it_and_comes_back() {
    let mut server = Server::start();
    let clinic = Clinic::new();
    let party = call(&clinic, &server.url());
    let (anna, ben) = (party.keyring("anna"), party.keyring("ben"));
    let rings = [&anna, &ben];
    agree(&clinic, &rings, 2);
    hear(&clinic, &party, &rings);
    // Who is not in yet opens nothing.
    let dropped = || {
        let causes = ["no-key", "auth-failed", "replayed", "malformed", "wrong-sender"];
        ["dec-a", "dec-b"].map(|dec| causes.map(|cause| party.stat(dec, cause)))
    };
    let at_first = dropped();
    for round in 0..3 {
        let before = anna.epoch();
        if round == 1 {
            // A commit on its way.
            assert!(anna.act("update-key", &[]));
        }
        server.kill();
        // Media does not need the server.
        hear(&clinic, &party, &rings);
        assert!(ben.act("update-key", &[]));
        hear(&clinic, &party, &rings);
        server.start_again();
        until(&clinic, &rings, "a new epoch", || anna.epoch() > before);
        agree(&clinic, &rings, 2);
        hear(&clinic, &party, &rings);
    }
    assert!(no_fork(&[&party]) >= 4);
    assert!(party.errors().is_empty(), "{:?}", party.errors());
    assert_eq!(dropped(), at_first, "frames got lost");
    assert!(server.has_stored("gst-e2ee"), "it is not looked for where it is");
    assert!(!server.has_stored(ROOM));
    assert!(!server.log().contains(ROOM));
}

#[test]
fn who_was_away_while_the_room_went_on_and_its_server_was_killed_comes_back() {
    let mut server = Server::start();
    let clinic = Clinic::new();
    let delivery = format!("delivery={}", server.url());
    let anna = Party::start(&clinic.creator("anna", &delivery));
    let ben = Party::start(&clinic.keyring("ben", &delivery));
    let (ring_a, ring_b) = (anna.keyring("anna"), ben.keyring("ben"));
    agree(&clinic, &[&ring_a, &ring_b], 2);
    ben.stop();
    agree(&clinic, &[&ring_a], 1);
    for _ in 0..3 {
        let before = ring_a.epoch();
        assert!(ring_a.act("update-key", &[]));
        until(&clinic, &[&ring_a], "a new epoch", || ring_a.epoch() > before);
    }
    server.kill();
    // Anna's process ends while there is no server, and starts again before there is one.
    anna.stop();
    let refused = Party::new(&clinic.creator("anna", &delivery)).refused();
    assert!(
        refused.contains("cannot reach 127.0.0.1") && refused.contains("nats-server"),
        "{refused}"
    );
    server.start_again();
    anna.play();
    ben.play();
    agree(&clinic, &[&ring_a, &ring_b], 2);
    assert!(no_fork(&[&anna, &ben]) >= 2);
}

#[test]
fn a_login_that_is_refused_is_an_error_without_the_password() {
    let server = Server::with("authorization { user: anna, password: \"right one\" }");
    let clinic = Clinic::new();
    let at = format!("127.0.0.1:{}", server.port);
    let party = Party::new(&clinic.creator("anna", &format!("delivery=nats://anna:wr0ng@{at}")));
    let refused = party.refused();
    assert!(refused.contains("refuses the login"), "{refused}");
    let delivery: String = party.element("anna").property("delivery");
    assert_eq!(delivery, format!("nats://***@{at}"));
    assert!(!refused.contains("wr0ng"), "{refused}");
    let party = Party::start(&clinic.creator("anna", &format!("delivery=nats://anna:right%20one@{at}")));
    until(&clinic, &[], "the room is made", || {
        party.keyring("anna").is_ready()
    });
}

/// Three members, each of which knows all servers.
struct Trio {
    servers: [Server; 3],
    clinic: Clinic,
    parties: Vec<Party>,
    rings: Vec<Ring>,
}

impl Trio {
    fn new() -> Self {
        let servers = Server::cluster();
        let clinic = Clinic::new();
        let urls: Vec<_> = servers.iter().map(Server::url).collect();
        let delivery = format!("nats-replicas=3 delivery={}", urls.join(","));
        let mut parties = vec![Party::start(&clinic.creator("anna", &delivery))];
        for id in ["ben", "carl"] {
            parties.push(Party::start(&clinic.keyring(id, &delivery)));
        }
        let names = ["anna", "ben", "carl"];
        let rings = parties
            .iter()
            .zip(names)
            .map(|(party, name)| party.keyring(name))
            .collect();
        let trio = Self {
            servers,
            clinic,
            parties,
            rings,
        };
        trio.agree();
        trio
    }

    fn rings(&self) -> Vec<&Ring> {
        self.rings.iter().collect()
    }

    fn agree(&self) {
        agree(&self.clinic, &self.rings(), 3);
    }

    /// All want new keys at once, and get them.
    fn rekey(&self) {
        let before = self.rings[0].epoch();
        for ring in &self.rings {
            assert!(ring.act("update-key", &[]));
        }
        until(&self.clinic, &self.rings(), "new epochs", || {
            self.rings.iter().all(|ring| ring.epoch() > before)
        });
        self.agree();
    }

    /// Which server leads the room's stream, as this server says.
    fn leader(&self, asked: usize) -> usize {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let mut stranger = self.servers[asked].stranger();
            let names = stranger.ask("$JS.API.STREAM.NAMES", "{}");
            // While the cluster has no leader itself, nobody knows a stream.
            let info = match names["streams"][0].as_str() {
                Some(name) => stranger.ask(&format!("$JS.API.STREAM.INFO.{name}"), ""),
                None => names,
            };
            let leader = info["cluster"]["leader"]
                .as_str()
                .and_then(|name| name.strip_prefix('n'));
            if let Some(leader) = leader {
                assert_eq!(info["config"]["num_replicas"], 3);
                return leader.parse().unwrap();
            }
            assert!(Instant::now() < end, "nobody leads: {info}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn check(&self) {
        let parties: Vec<_> = self.parties.iter().collect();
        assert!(no_fork(&parties) > 2);
        for party in &self.parties {
            assert!(party.errors().is_empty(), "{:?}", party.errors());
        }
        let stats: Vec<_> = self
            .rings
            .iter()
            .map(|ring| ring.0.property::<gst::Structure>("stats"))
            .collect();
        for stats in stats {
            assert_eq!(stats.get::<u64>("resyncs").unwrap(), 0, "{stats}");
        }
    }
}

#[test]
fn a_room_on_three_servers_goes_on_when_any_of_them_is_killed() {
    let mut trio = Trio::new();
    for party in &trio.parties {
        let warnings = party.warnings();
        let of_version: Vec<_> = warnings.iter().filter(|text| text.contains("2.9.23")).collect();
        assert_eq!(of_version.len(), 1, "{warnings:?}");
    }
    trio.rekey();
    for killed in 0..3 {
        trio.servers[killed].kill();
        trio.rekey();
        trio.servers[killed].start_again();
        trio.rekey();
    }
    trio.check();
}

#[test]
fn a_room_on_three_servers_is_one_when_its_leader_stops_and_comes_back() {
    let trio = Trio::new();
    for round in 0..2 {
        let leader = trio.leader(round);
        // Alive, with all its connections, and silent: cut off from all others.
        trio.servers[leader].freeze();
        trio.rekey();
        let new = trio.leader((leader + 1) % 3);
        assert_ne!(new, leader);
        trio.servers[leader].thaw();
        trio.rekey();
        trio.rekey();
    }
    trio.check();
}

#[test]
fn the_login_to_the_server_is_told_to_nobody_who_asks_the_room() {
    const PASSWORD: &str = "squeamish-ossifrage";
    let server = Server::with(&format!(
        "max_payload: 5MB\nauthorization {{ user: anna, password: {PASSWORD} }}"
    ));
    let clinic = Clinic::new();
    let socket = clinic.path("control");
    let url = server.url().replace("://", &format!("://anna:{PASSWORD}@"));
    let party = Party::start(&clinic.creator(
        "anna",
        &format!("delivery={url} control-socket={}", socket.display()),
    ));
    let anna = party.keyring("anna");
    agree(&clinic, &[&anna], 1);
    let ask = |query| format!("{:?}", control::ask(&socket, &Request::Ask(query)).unwrap());
    let answers = [
        ask(Query::Delivery),
        ask(Query::Status),
        ask(Query::Posture { nonce: None }),
        anna.0.property::<String>("delivery"),
        anna.0.property::<String>("posture"),
    ];
    assert!(
        answers[0].contains(&format!("127.0.0.1:{}", server.port)),
        "{}",
        answers[0]
    );
    for told in answers
        .into_iter()
        .chain(party.everything())
        .chain(party.warnings())
    {
        assert!(!told.contains(PASSWORD), "{told}");
    }
}
