//! Eight members, each on a thread of its own with its own connection to the log, all of which want to commit at once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "nats/server.rs"]
#[allow(dead_code, reason = "others need the rest of it")]
mod server;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gstmls::delivery::nats::{Address, Files, NatsDelivery};
use gstmls::delivery::sqlite::SqliteDelivery;
use gstmls::delivery::{Appended, Delivery};
use gstmls::identity::Role;
use gstmls::room::{Command, Input, Now, Output, Room, Settings, State};
use gstmls::store::MemoryStore;
use server::Server;
use world::{BEGINNING, Ca, Identity, OPEN, World, policy};

const MEMBERS: usize = 8;
const WISHES: usize = 38;
const LIMIT: Duration = Duration::from_secs(120);

/// Code and base key of each epoch that a member entered.
type History = BTreeMap<u64, (String, Vec<u8>)>;

/// What a member has to tell at the end.
struct Told {
    history: History,
    won: u64,
    lost: u64,
    /// Most commits that one wish lost.
    most_lost: u64,
    epoch: u64,
}

struct Member {
    room: Room<MemoryStore>,
    delivery: Box<dyn Delivery>,
    woken: mpsc::Receiver<()>,
    began: Instant,
    read: u64,
    history: History,
    answers: Vec<Result<(), String>>,
}

impl Member {
    fn new(identity: &Identity, settings: Settings, mut delivery: Box<dyn Delivery>, began: Instant) -> Self {
        let (wake, woken) = mpsc::channel();
        let wake = std::sync::Mutex::new(wake);
        delivery
            .wake_by(Arc::new(move || {
                // The member may be done.
                let _ = wake.lock().unwrap().send(());
            }))
            .unwrap();
        let room = Room::open(MemoryStore::new(), identity.own(), settings, now(began)).unwrap();
        Self {
            room,
            delivery,
            woken,
            began,
            read: 0,
            history: History::new(),
            answers: Vec::new(),
        }
    }

    fn input(&mut self, input: Input) {
        self.room.handle(now(self.began), input).unwrap();
        while let Some(output) = self.room.poll() {
            match output {
                Output::Append(record) => {
                    self.delivery.append(record.kind(), &record.encode()).unwrap();
                }
                Output::AppendCommit { after, record } => {
                    let appended = self.delivery.append_commit(after, &record.encode()).unwrap();
                    if appended == Appended::Moved {
                        self.input(Input::Moved);
                    }
                }
                Output::Epoch(keys) => {
                    let code = self.room.status().epoch_code;
                    let before = self.history.insert(keys.epoch, (code, keys.base_key.to_vec()));
                    assert!(before.is_none(), "epoch {} twice", keys.epoch);
                }
                Output::Answer { result, .. } => self.answers.push(result),
                _ => {}
            }
        }
    }

    /// Reads the log to its end.
    fn read(&mut self) {
        loop {
            let entries = self.delivery.read(self.read, 64).unwrap();
            if entries.is_empty() {
                return self.input(Input::CaughtUp);
            }
            for entry in entries {
                self.read = entry.sequence;
                self.input(Input::Entry {
                    sequence: entry.sequence,
                    bytes: entry.bytes,
                });
            }
        }
    }

    /// Runs until it holds.
    fn run_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        loop {
            self.read();
            if holds(self) {
                return;
            }
            let status = self.room.status();
            assert!(
                self.began.elapsed() < LIMIT,
                "{what}: {:?} in epoch {} with {} members, {:?}",
                status.state,
                status.epoch,
                status.members.len(),
                status.counters
            );
            let due = self.room.next_deadline().unwrap_or(u64::MAX);
            let wait = due.saturating_sub(now(self.began).ms).min(100);
            // A timeout is the deadline's, or a look at what the others did.
            let _ = self.woken.recv_timeout(Duration::from_millis(wait));
            while self.woken.try_recv().is_ok() {}
            if now(self.began).ms >= due {
                self.input(Input::Tick);
            }
        }
    }
}

fn now(began: Instant) -> Now {
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap();
    Now {
        ms,
        unix: BEGINNING + 1000 + ms / 1000,
    }
}

#[test]
fn eight_members_race_to_commit_300_epochs_and_nobody_loses_a_wish() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    race(|| Box::new(SqliteDelivery::open(Some(&log), "contention").unwrap()));
}

#[test]
fn eight_members_race_over_nats_to_commit_300_epochs_and_nobody_loses_a_wish() {
    let server = Server::start();
    let address = Address::parse(&server.url()).unwrap();
    race(|| Box::new(NatsDelivery::open(&address, &Files::default(), 1, "contention").unwrap()));
}

/// This version of the server accepts more than one commit in a place then: the room's own rule decides.
#[test]
fn eight_members_race_over_three_servers_and_are_one_room() {
    let servers = Server::cluster();
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    let address = Address::parse(&urls.join(",")).unwrap();
    race(|| Box::new(NatsDelivery::open(&address, &Files::default(), 3, "contention").unwrap()));
}

fn race(open: impl Fn() -> Box<dyn Delivery>) {
    let ca = Ca::new("clinic");
    let create = policy(&ca, OPEN);
    let began = Instant::now();
    let (present, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(MEMBERS)));
    let (granted, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = (0..MEMBERS)
        .map(|number| {
            let identity = ca.identity(&format!("member{number}"), &[Role::Participant]);
            let mut settings = World::settings();
            settings.create = (number == 0).then(|| create.clone());
            let delivery = open();
            let (present, together) = (present.clone(), together.clone());
            let (granted, last) = (granted.clone(), last.clone());
            thread::spawn(move || {
                let mut member = Member::new(&identity, settings, delivery, began);
                let mut counted = false;
                member.run_until("all come in", |member| {
                    let status = member.room.status();
                    if !counted && status.state == State::Ready && status.members.len() == MEMBERS {
                        counted = true;
                        present.fetch_add(1, Ordering::SeqCst);
                    }
                    present.load(Ordering::SeqCst) == MEMBERS
                });
                together.wait();
                let first = member.room.status().counters;
                let mut most_lost = 0;
                for ticket in 0..WISHES {
                    let before = member.room.status().counters.commits_lost;
                    let answered = member.answers.len();
                    member.input(Input::Ask {
                        ticket: ticket as u64,
                        command: Command::Rekey,
                    });
                    member.run_until("a wish", |member| member.answers.len() > answered);
                    most_lost = most_lost.max(member.room.status().counters.commits_lost - before);
                    granted.fetch_add(1, Ordering::SeqCst);
                    last.fetch_max(member.room.status().epoch, Ordering::SeqCst);
                }
                member.run_until("the others' wishes", |member| {
                    granted.load(Ordering::SeqCst) == MEMBERS * WISHES
                        && member.room.status().epoch >= last.load(Ordering::SeqCst)
                });
                assert!(member.answers.iter().all(Result::is_ok), "{:?}", member.answers);
                let status = member.room.status();
                assert_eq!((status.counters.refused, status.counters.resyncs), (0, 0));
                Told {
                    history: member.history,
                    won: status.counters.commits_won - first.commits_won,
                    lost: status.counters.commits_lost - first.commits_lost,
                    most_lost,
                    epoch: status.epoch,
                }
            })
        })
        .collect();
    let all: Vec<Told> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();

    let mut one = History::new();
    for (epoch, keys) in all.iter().flat_map(|told| &told.history) {
        let known = one.entry(*epoch).or_insert_with(|| keys.clone());
        assert_eq!(known, keys, "a fork at epoch {epoch}");
    }
    let end = all[0].epoch;
    assert!(all.iter().all(|told| told.epoch == end));
    for told in &all {
        assert!(
            told.history
                .keys()
                .rev()
                .zip((0..=end).rev())
                .take(300)
                .all(|(a, b)| *a == b)
        );
    }
    let (won, lost): (u64, u64) = all
        .iter()
        .fold((0, 0), |(w, l), told| (w + told.won, l + told.lost));
    assert_eq!(won, (MEMBERS * WISHES) as u64, "each wish is one commit");
    let most = all.iter().map(|told| told.most_lost).max().unwrap();
    println!(
        "{won} commits in {:?}, {lost} lost their race, at most {most} for one wish",
        began.elapsed()
    );
    // Some races until a member says that it waits, then one for each who waits longer; and what was on its way already.
    assert!(most <= 3 * MEMBERS as u64, "one wish lost {most} races");
    assert!(lost <= won * MEMBERS as u64, "{lost} lost for {won} won");
}
