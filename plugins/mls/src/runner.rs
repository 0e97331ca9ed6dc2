//! The thread that runs a room: it owns the room, its store and its delivery, and waits for whichever is due next.
//!
//! Nothing of MLS happens on any other thread. What others want comes in as an [`Order`]; what they may know lies in a
//! [`View`] that is replaced as a whole.

use std::collections::HashMap;
use std::mem;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gst_e2ee_common::room_state::Standing;

use crate::codes::{IdentityKey, pair_code};
use crate::content::Content;
use crate::control::{Codes, PairCode, Query, Reply, Request};
use crate::delivery::{Appended, Delivery, DeliveryError};
use crate::identity::{Identity, OwnIdentity};
use crate::keyring::Shared;
use crate::posture;
use crate::record::Record;
use crate::room::{
    Command, Event, GroupError, Input, MLS_SUITE, Now, Output, Room, Said, Settings, State, Status,
};
use crate::store::SqliteStore;

/// Entries read in one go.
const READ: usize = 64;
/// After a delivery failed, it is tried again after so many milliseconds.
const RETRY: u64 = 500;
/// A failure that should pass by itself is told when it did not for so long.
const COMPLAIN_AFTER: u64 = 5000;
/// Both ways of a delivery.
const READING: usize = 0;
const APPENDING: usize = 1;
/// How long a posture report is valid, in seconds; it is made anew after half of it.
const REPORT_LIFETIME: u64 = 600;
/// How long the control socket waits for a wish to be in force.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How long leaving the room may take when the pipeline stops.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Who hears of what happens; called on the runner's thread.
pub trait Host: Send + Sync {
    /// Something happened in the room.
    fn event(&self, event: Event);
    /// Somebody said something.
    fn said(&self, said: Said);
    /// Shall this one be let in? `certificates` are those of its credential.
    fn authorize(&self, identity: &Identity, certificates: &[u8]) -> bool;
    /// The room cannot go on.
    fn failed(&self, why: String);
    /// The delivery fails at the moment and is tried again.
    fn delivery_fails(&self, why: String);
}

/// What a room needs to run.
pub struct Parts {
    /// How it takes part.
    pub settings: Settings,
    /// Who it is.
    pub own: Arc<OwnIdentity>,
    /// What it remembers.
    pub store: SqliteStore,
    /// Where its log is.
    pub delivery: Box<dyn Delivery>,
    /// The delivery as the property says it, for those who ask.
    pub address: Arc<str>,
    /// Where the posture report is kept current.
    pub posture_file: Option<PathBuf>,
}

/// What others may know of the room at any time.
#[derive(Debug, Clone)]
pub struct View {
    /// The room as this endpoint sees it.
    pub status: Arc<Status>,
    /// The signed posture report, as in `posture-file`; empty before there is a group.
    pub posture: Arc<str>,
}

/// Where the end of a wish, or of a message, is told.
pub type Answer = mpsc::Sender<Result<(), String>>;

enum Order {
    Look,
    Wish(Command, Option<Answer>),
    Say(Content, Answer),
    Report(Option<String>, mpsc::Sender<Reply>),
    Member(String, mpsc::Sender<Option<Identity>>),
    Leave,
    Stop,
}

/// A running room.
pub struct Runner {
    orders: mpsc::Sender<Order>,
    thread: Option<JoinHandle<()>>,
    ended: mpsc::Receiver<()>,
    view: Arc<Mutex<View>>,
    own: Arc<Identity>,
    address: Arc<str>,
}

/// For those who may ask a running room, but not end it.
#[derive(Clone)]
pub struct Asker {
    orders: mpsc::Sender<Order>,
    view: Arc<Mutex<View>>,
    own: Arc<Identity>,
    address: Arc<str>,
}

impl Runner {
    /// Starts the thread.
    pub fn start(parts: Parts, shared: Arc<Shared>, host: Arc<dyn Host>) -> Result<Self, String> {
        let (orders, inbox) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let now = now(&shared);
        let mut delivery = parts.delivery;
        let log = delivery.log();
        let last = delivery.last_commit().map_err(|e| e.to_string())?;
        let durable = parts.settings.durable_log;
        let own = Arc::new(parts.own.identity().clone());
        let mut room = Room::open(parts.store, parts.own, parts.settings, now).map_err(|e| e.to_string())?;
        if durable {
            room.check_log(&log, last).map_err(|e| e.to_string())?;
        }
        let status = Arc::new(room.status());
        let view = Arc::new(Mutex::new(View {
            status,
            posture: "".into(),
        }));
        let doorbell = orders.clone();
        let ring = Arc::new(move || {
            // Nobody listens any more: then nothing is to be done.
            let _ = doorbell.send(Order::Look);
        });
        delivery.wake_by(ring.clone()).map_err(|e| e.to_string())?;
        // A peer's first frame of a new epoch can end a transition early.
        shared.set_listener(Some(Arc::new(move |_| ring())));
        let mut run = Run {
            room,
            delivery,
            shared,
            host,
            view: view.clone(),
            posture_file: parts.posture_file,
            reported: None,
            read: 0,
            answers: HashMap::new(),
            tickets: 0,
            retry: None,
            failing: [None; 2],
            complained: false,
        };
        run.read = run.room.cursor();
        // One of an earlier life.
        run.withdraw_report();
        let thread = thread::Builder::new()
            .name("mls-room".into())
            .spawn(move || {
                if let Some(warning) = run.delivery.warning() {
                    run.host.delivery_fails(warning);
                }
                run.run(&inbox);
                // The receiver may be gone.
                let _ = end.send(());
            })
            .map_err(|e| format!("no thread for the room: {e}"))?;
        Ok(Self {
            orders,
            thread: Some(thread),
            ended,
            view,
            own,
            address: parts.address,
        })
    }

    /// Who asks this room.
    pub fn asker(&self) -> Asker {
        Asker {
            orders: self.orders.clone(),
            view: self.view.clone(),
            own: self.own.clone(),
            address: self.address.clone(),
        }
    }

    /// Leaves the room where `leave`, for at most two seconds, and ends the thread.
    pub fn stop(mut self, leave: bool) {
        if leave {
            let _ = self.orders.send(Order::Leave);
            let _ = self.ended.recv_timeout(LEAVE_WITHIN);
        }
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Asker {
    /// What may be known.
    pub fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands in a wish; its end is told by messages.
    pub fn wish(&self, command: Command) -> bool {
        self.orders.send(Order::Wish(command, None)).is_ok()
    }

    /// Hands in a message; the answer comes when all of it stands in the log. False where there is no room any more.
    pub fn say(&self, content: Content, answer: Answer) -> bool {
        self.orders.send(Order::Say(content, answer)).is_ok()
    }

    /// Answers a request of the control socket.
    pub fn answer(&self, request: Request) -> Reply {
        const GONE: &str = "the room is not running";
        match request {
            Request::Ask(Query::Status) => Reply::answer(&*self.view().status),
            Request::Ask(Query::Codes { member }) => match self.codes(member.as_deref()) {
                Ok(codes) => Reply::answer(&codes),
                Err(why) => Reply::error(why),
            },
            Request::Ask(Query::Delivery) => Reply::answer(&&*self.address),
            Request::Ask(Query::Posture { nonce }) => {
                let (to, answer) = mpsc::channel();
                match self.orders.send(Order::Report(nonce, to)) {
                    Ok(()) => answer
                        .recv_timeout(ANSWER_WITHIN)
                        .unwrap_or_else(|_| Reply::error("the room does not answer")),
                    Err(_) => Reply::error(GONE),
                }
            }
            Request::Room(command) => {
                let (to, answer) = mpsc::channel();
                if self.orders.send(Order::Wish(command, Some(to))).is_err() {
                    return Reply::error(GONE);
                }
                match answer.recv_timeout(ANSWER_WITHIN) {
                    Ok(Ok(())) => Reply::done(),
                    Ok(Err(why)) => Reply::error(why),
                    Err(RecvTimeoutError::Timeout) => Reply::error(
                        "not in force yet: the room goes on trying; see `gst-mls room status` and the messages",
                    ),
                    Err(RecvTimeoutError::Disconnected) => Reply::error(GONE),
                }
            }
        }
    }

    /// The epoch's code, and the pair code with a member, which takes some 100 ms of this thread's time.
    pub fn codes(&self, member: Option<&str>) -> Result<Codes, String> {
        let pair = match member {
            None => None,
            Some(name) => {
                let (to, answer) = mpsc::channel();
                let sent = self.orders.send(Order::Member(name.to_owned(), to));
                let found = answer.recv_timeout(ANSWER_WITHIN);
                let (Ok(()), Ok(found)) = (sent, found) else {
                    return Err("the room does not answer".into());
                };
                let other = found.ok_or(format!("nobody in the room has the id or fingerprint {name}"))?;
                Some(PairCode {
                    member: other.subject.clone(),
                    fingerprint: other.fingerprint.to_string(),
                    code: pair_code(&IdentityKey::from(&*self.own), &IdentityKey::from(&other)),
                })
            }
        };
        let status = self.view().status;
        Ok(Codes {
            epoch: status.epoch,
            epoch_code: status.epoch_code.clone(),
            pair,
        })
    }
}

fn now(shared: &Shared) -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Now {
        ms: shared.now(),
        unix: unix.map_or(0, |since| since.as_secs()),
    }
}

/// Where an endpoint stands, as the key source says it.
fn standing(state: State) -> Standing {
    match state {
        State::Joining => Standing::Joining,
        State::Ready | State::Transition => Standing::Ready,
        State::Stale => Standing::Stale,
        State::Evicted => Standing::Evicted,
    }
}

/// What a report is made anew for: epoch, state, whether people verified all, and the policy's digest.
type Reported = (u64, State, bool, String);

/// What the thread has.
struct Run {
    room: Room<SqliteStore>,
    delivery: Box<dyn Delivery>,
    shared: Arc<Shared>,
    host: Arc<dyn Host>,
    view: Arc<Mutex<View>>,
    posture_file: Option<PathBuf>,
    /// When the last report was made (unix seconds), and of what.
    reported: Option<(u64, Reported)>,
    /// Sequence up to which the log was read.
    read: u64,
    answers: HashMap<u64, Answer>,
    tickets: u64,
    /// When a delivery that failed is tried again.
    retry: Option<u64>,
    /// Since when reading and appending fail.
    failing: [Option<u64>; 2],
    complained: bool,
}

impl Run {
    fn run(&mut self, inbox: &mpsc::Receiver<Order>) {
        if let Err(error) = self.rounds(inbox) {
            self.shared.with_schedule(|schedule, _| schedule.forget_all());
            self.host.failed(error.to_string());
        }
        self.shared.set_listener(None);
        self.shared.with_schedule(|schedule, _| schedule.forget_all());
        // Who is evicted stays it; else the room may be run again.
        let end = match self.room.state() {
            State::Evicted => Standing::Evicted,
            _ => Standing::Joining,
        };
        self.shared.publish_standing(end);
        // Nothing is heard of this room any more.
        self.publish();
    }

    fn rounds(&mut self, inbox: &mpsc::Receiver<Order>) -> Result<(), GroupError> {
        let mut leaving = false;
        loop {
            self.read_log()?;
            self.tick()?;
            self.publish();
            if leaving && self.gone() {
                return Ok(());
            }
            let mut order = match self.wait() {
                Some(wait) => match inbox.recv_timeout(wait) {
                    Ok(order) => Some(order),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                },
                None => match inbox.recv() {
                    Ok(order) => Some(order),
                    Err(_) => return Ok(()),
                },
            };
            while let Some(next) = order {
                match next {
                    Order::Look => {}
                    Order::Stop => return Ok(()),
                    Order::Leave => {
                        leaving = true;
                        self.input(Input::Leave)?;
                    }
                    Order::Wish(command, answer) => self.take_wish(command, answer)?,
                    Order::Say(content, answer) => {
                        let ticket = self.ticket(answer);
                        self.input(Input::Say { ticket, content })?;
                    }
                    Order::Report(nonce, to) => drop(to.send(self.report_now(nonce))),
                    Order::Member(name, to) => drop(to.send(self.room.member(&name).cloned())),
                }
                order = inbox.try_recv().ok();
            }
        }
    }

    /// Left, or nobody there who could let this endpoint go.
    fn gone(&self) -> bool {
        let status = self.room.status();
        status.state == State::Evicted || status.members.len() <= 1
    }

    fn wait(&self) -> Option<Duration> {
        let now = self.shared.now();
        let schedule = self.shared.with_schedule(|schedule, _| schedule.next_deadline());
        let report = self.reported.as_ref().map(|_| now + REPORT_LIFETIME * 500);
        let due = [self.room.next_deadline(), schedule, self.retry, report];
        let due = due.into_iter().flatten().min()?;
        Some(Duration::from_millis(due.saturating_sub(now)))
    }

    fn tick(&mut self) -> Result<(), GroupError> {
        let now = self.shared.now();
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
        }
        let due = self.shared.with_schedule(|schedule, now| {
            let due = schedule.next_deadline().is_some_and(|at| at <= now);
            if due {
                schedule.tick(now);
            }
            due
        });
        if due || self.room.next_deadline().is_some_and(|at| at <= now) {
            self.input(Input::Tick)?;
        }
        Ok(())
    }

    fn read_log(&mut self) -> Result<(), GroupError> {
        if self.retry.is_some_and(|at| at > self.shared.now()) {
            return Ok(());
        }
        loop {
            match self.delivery.read(self.read, READ) {
                Ok(entries) if entries.is_empty() => {
                    self.delivery_works(READING);
                    return self.input(Input::CaughtUp);
                }
                Ok(entries) => {
                    for entry in entries {
                        self.read = entry.sequence;
                        self.input(Input::Entry {
                            sequence: entry.sequence,
                            bytes: entry.bytes,
                        })?;
                    }
                }
                Err(error) => {
                    self.delivery_failed(READING, &error);
                    return Ok(());
                }
            }
        }
    }

    fn delivery_works(&mut self, way: usize) {
        self.failing[way] = None;
        self.complained &= self.failing.iter().any(Option::is_some);
    }

    fn delivery_failed(&mut self, way: usize, error: &DeliveryError) {
        let now = self.shared.now();
        self.retry = Some(now + RETRY);
        let since = *self.failing[way].get_or_insert(now);
        if !self.complained && (!error.is_temporary() || now - since >= COMPLAIN_AFTER) {
            self.complained = true;
            self.host.delivery_fails(error.to_string());
        }
    }

    fn take_wish(&mut self, command: Command, answer: Option<Answer>) -> Result<(), GroupError> {
        match answer {
            None => self.input(Input::Command(command)),
            Some(answer) => {
                let ticket = self.ticket(answer);
                self.input(Input::Ask { ticket, command })
            }
        }
    }

    fn ticket(&mut self, answer: Answer) -> u64 {
        self.tickets += 1;
        self.answers.insert(self.tickets, answer);
        self.tickets
    }

    fn input(&mut self, input: Input) -> Result<(), GroupError> {
        self.room.handle(now(&self.shared), input)?;
        while let Some(output) = self.room.poll() {
            self.output(output)?;
        }
        Ok(())
    }

    fn output(&mut self, output: Output) -> Result<(), GroupError> {
        match output {
            Output::Append(record) => match self.delivery.append(record.kind(), &record.encode()) {
                Ok(_) => self.delivery_works(APPENDING),
                Err(error) => self.delivery_failed(APPENDING, &error),
            },
            Output::AppendCommit { after, record } => return self.append_commit(after, &record),
            Output::Event(event) => {
                // First to who records: it must stop.
                if let Event::State(state) = event {
                    self.shared.publish_standing(standing(state));
                }
                self.host.event(event);
            }
            Output::Epoch(mut keys) => {
                let epoch = keys.epoch;
                // What holds in the epoch must be known before anything is opened in it.
                self.shared.publish_room(mem::take(&mut keys.room));
                let entered = self
                    .shared
                    .with_schedule(|schedule, now| schedule.enter(now, *keys));
                if let Err(error) = entered {
                    self.host
                        .failed(format!("epoch {epoch} cannot be used for media: {error}"));
                }
            }
            Output::AllReady(epoch) => self
                .shared
                .with_schedule(|schedule, now| schedule.all_ready(now, epoch)),
            Output::AllowSealing(yes) => self
                .shared
                .with_schedule(|schedule, _| schedule.allow_sealing(yes)),
            Output::ForgetKeys => self.shared.with_schedule(|schedule, _| schedule.forget_all()),
            Output::Answer { ticket, result } => {
                if let Some(answer) = self.answers.remove(&ticket) {
                    // Who is told that it is in force, and looks, must see it.
                    self.publish();
                    // It may have waited long enough.
                    let _ = answer.send(result);
                }
            }
            Output::Said(said) => self.host.said(*said),
            Output::Authorize {
                ticket,
                identity,
                certificates,
            } => {
                let yes = self.host.authorize(&identity, &certificates);
                return self.input(Input::Authorized { ticket, yes });
            }
        }
        Ok(())
    }

    fn append_commit(&mut self, after: u64, record: &Record) -> Result<(), GroupError> {
        let appended = self.delivery.append_commit(after, &record.encode());
        if appended.is_ok() {
            self.delivery_works(APPENDING);
        }
        match appended {
            Ok(Appended::Accepted(_) | Appended::Sent) => Ok(()),
            Ok(Appended::Moved) => self.input(Input::Moved),
            Err(error) => {
                // The room appends it again when it does not come back.
                self.delivery_failed(APPENDING, &error);
                Ok(())
            }
        }
    }

    /// Renews what others may know, and the report where something in it changed.
    fn publish(&mut self) {
        let mut status = self.room.status();
        let in_transition = self.shared.with_schedule(|schedule, _| schedule.transition());
        if status.state == State::Ready && in_transition {
            status.state = State::Transition;
        }
        let unix = now(&self.shared).unix;
        let of = (
            status.epoch,
            status.state,
            status.verified,
            status.policy_digest.clone(),
        );
        let fresh = self
            .reported
            .as_ref()
            .is_some_and(|(made, reported)| *reported == of && unix < made + REPORT_LIFETIME / 2);
        let mut posture = None;
        if !fresh && status.policy.is_some() {
            self.reported = Some((unix, of));
            match self.report(&status, None) {
                Ok(signed) => {
                    if let Some(path) = &self.posture_file
                        && let Err(error) = signed.write_atomically(path)
                    {
                        self.host.delivery_fails(format!("posture-file: {error}"));
                    }
                    posture = Some(String::from_utf8_lossy(&signed.encode()).into());
                }
                Err(error) => self.host.delivery_fails(format!("posture report: {error}")),
            }
        }
        if status.policy.is_none() && self.reported.take().is_some() {
            posture = Some("".into());
            self.withdraw_report();
        }
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.status = Arc::new(status);
        if let Some(posture) = posture {
            view.posture = posture;
        }
    }

    /// There is no room any more that a report could be about: one that is left behind would go on saying so.
    fn withdraw_report(&self) {
        let Some(path) = &self.posture_file else { return };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                self.host
                    .delivery_fails(format!("posture-file {}: {error}", path.display()));
            }
            _ => {}
        }
    }

    fn report(
        &self,
        status: &Status,
        nonce: Option<String>,
    ) -> Result<posture::Signed, posture::PostureError> {
        let options = posture::Options {
            now: now(&self.shared).unix,
            lifetime: REPORT_LIFETIME,
            nonce,
            mls_suite: MLS_SUITE as u16,
        };
        posture::Signed::new(status, self.room.own(), &options)
    }

    fn report_now(&self, nonce: Option<String>) -> Reply {
        match self.report(&self.room.status(), nonce) {
            Ok(signed) => Reply::answer(&signed),
            Err(error) => Reply::error(error),
        }
    }
}
