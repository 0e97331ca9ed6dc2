//! A bad network between sockets: datagrams are lost, late and out of order, connections are slow and stall. It keeps what
//! it carries, as somebody would who listens there.
//!
//! What befalls a datagram is decided by a seed, the route and the datagram's number on that route, so that a run can be
//! repeated. The threads end with the process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use it, a failure here is theirs"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// After so long TCP sends again what was lost, at the least (RFC 6298 §2.4 has more, Linux less).
const RESEND: Duration = Duration::from_millis(200);
const FOREVER: Duration = Duration::from_secs(3600);

/// How bad it is.
#[derive(Debug, Clone, Copy)]
pub struct Quality {
    /// So many of a thousand are lost.
    pub loss: u64,
    /// In the middle.
    pub delay: Duration,
    /// From the shortest to the longest delay.
    pub jitter: Duration,
}

/// A datagram, or a piece of a connection, as it entered the network.
#[derive(Debug, Clone)]
pub struct Seen {
    /// On which route, as [`Network::datagrams`] and [`Network::connections`] were told.
    pub route: String,
    /// It did not come out.
    pub lost: bool,
    /// It comes out at this time.
    pub due: Instant,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

struct Late {
    due: Instant,
    to: SocketAddr,
    by: Arc<UdpSocket>,
    bytes: Vec<u8>,
}

/// The network.
#[derive(Clone)]
pub struct Network {
    seed: u64,
    quality: Quality,
    late: Sender<Late>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn new(seed: u64, route: &str) -> Self {
        // FNV-1a, so that routes do not share their fate.
        let hash = route.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit.max(1)
    }
}

impl Quality {
    /// What befalls the next one: is it lost, and how long does it take?
    fn fate(&self, dice: &mut Dice) -> (bool, Duration) {
        let jitter = u64::try_from(self.jitter.as_micros()).unwrap();
        let late = Duration::from_micros(dice.below(jitter + 1));
        (dice.below(1000) < self.loss, self.delay - self.jitter / 2 + late)
    }
}

impl Network {
    /// One without routes.
    pub fn new(seed: u64, quality: Quality) -> Self {
        let (late, due) = mpsc::channel();
        thread::spawn(move || deliver(&due));
        Self {
            seed,
            quality,
            late,
            seen: Arc::default(),
        }
    }

    /// What comes to the UDP address `at` goes to `to`. Nothing comes back this way.
    pub fn datagrams(&self, route: &str, at: SocketAddr, to: SocketAddr) {
        let socket = UdpSocket::bind(at).unwrap_or_else(|error| panic!("{at}: {error}"));
        // Whoever gets them sees one sender, always the same.
        let by = Arc::new(UdpSocket::bind(("0.0.0.0", 0)).unwrap());
        let (network, route) = (self.clone(), route.to_owned());
        thread::spawn(move || {
            let mut dice = Dice::new(network.seed, &route);
            let mut buffer = [0; 65_536];
            loop {
                // An error here is one of an earlier datagram (ICMP).
                let Ok((size, _)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let (lost, delay) = network.quality.fate(&mut dice);
                let (due, bytes) = (Instant::now() + delay, buffer[..size].to_vec());
                network.keep(&route, lost, due, &bytes);
                let by = by.clone();
                if !lost && network.late.send(Late { due, to, by, bytes }).is_err() {
                    return;
                }
            }
        });
    }

    /// TCP connections to `at` go to `to`. Nothing of a connection is lost or out of order: it comes later.
    pub fn connections(&self, route: &str, at: SocketAddr, to: SocketAddr) {
        let listener = TcpListener::bind(at).unwrap_or_else(|error| panic!("{at}: {error}"));
        let (network, route) = (self.clone(), route.to_owned());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // Nobody is there: the connection ends at once.
                let Ok(far) = TcpStream::connect_timeout(&to, RESEND * 5) else {
                    continue;
                };
                let ends = [near.try_clone().unwrap(), far.try_clone().unwrap()];
                let [back, forth] = ends;
                network.pump(format!("{route} there"), near, forth);
                network.pump(format!("{route} back"), far, back);
            }
        });
    }

    fn pump(&self, route: String, mut from: TcpStream, mut to: TcpStream) {
        let (late, due) = mpsc::channel::<(Instant, Vec<u8>)>();
        to.set_nodelay(true).unwrap();
        let network = self.clone();
        thread::spawn(move || {
            let mut dice = Dice::new(network.seed, &route);
            let mut buffer = [0; 16_384];
            while let Ok(size @ 1..) = from.read(&mut buffer) {
                let (lost, delay) = network.quality.fate(&mut dice);
                let due = Instant::now() + if lost { delay + RESEND } else { delay };
                network.keep(&route, false, due, &buffer[..size]);
                if late.send((due, buffer[..size].to_vec())).is_err() {
                    break;
                }
            }
        });
        thread::spawn(move || {
            for (due, bytes) in due {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }

    fn keep(&self, route: &str, lost: bool, due: Instant, bytes: &[u8]) {
        self.seen.lock().unwrap().push(Seen {
            route: route.to_owned(),
            lost,
            due,
            bytes: bytes.to_vec(),
        });
    }

    /// Everything that entered it so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many entered it so far.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// Sends each datagram when its time has come.
fn deliver(incoming: &Receiver<Late>) {
    let mut waiting: BTreeMap<(Instant, u64), Late> = BTreeMap::new();
    for number in 0.. {
        let patience = waiting.first_key_value().map_or(FOREVER, |((due, _), _)| {
            due.saturating_duration_since(Instant::now())
        });
        match incoming.recv_timeout(patience) {
            Ok(late) => drop(waiting.insert((late.due, number), late)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        while let Some(first) = waiting.first_entry().filter(|first| first.key().0 <= now) {
            let late = first.remove();
            // Nobody may be there, as on any network.
            let _ = late.by.send_to(&late.bytes, late.to);
        }
    }
}
