//! A call that goes on and on: audio and video both ways, while a guest joins, talks and leaves and keys are renewed, over and
//! over. What the process holds then is what it held at the beginning: memory, threads, open files.
//!
//! One minute; longer by `GST_E2EE_SOAK=3600`, in seconds. The figures are printed (`--nocapture`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use gst_e2ee_tests::clinic::{Clinic, Party, Ring, until};
use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Instant;

const VIDEO: &str = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=15/1 ! \
                     vp8enc deadline=1 target-bitrate=200000 keyframe-max-dist=3000";
const AUDIO: &str = "audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=1 ! opusenc";
const SINK: &str = "fakesink sync=false async=false";
/// Every `sframedec` of the two who stay.
const OPENERS: [&str; 5] = ["a-video", "a-audio", "b-video", "b-audio", "guest-audio"];
/// glibc has one heap for all threads then (mallopt(3)). Else each of sixteen grows by itself to what any thread ever needed,
/// and hides for an hour what is kept.
const ONE_ARENA: &str = "MALLOC_ARENA_MAX";
/// So much more memory there may be at the end than after the warm-up, however long it lasts. SQLite keeps up to 2 MB of each of
/// the four databases that stay open (state and log of two), most of it from the warm-up on. Two kilobytes of each frame
/// that are kept are more within a minute; 8 kB of each round, within an hour.
const SLACK: u64 = 6 << 20;
/// Fewer rounds say nothing.
const ENOUGH: usize = 8;
/// This part of the run warms up: every code path once, the heap as large as it gets.
const WARM_UP: f64 = 0.3;

/// One test at a time: each looks at the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// What this process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    at: f64,
    /// Bytes of memory of its own. Pages of libraries and files come and go as the system likes, and are not in it.
    memory: u64,
    threads: usize,
    files: usize,
}

fn held(since: Instant) -> Held {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    Held {
        at: since.elapsed().as_secs_f64(),
        memory: field("RssAnon:") << 10,
        threads: field("Threads:") as usize,
        // Without the one that lists them.
        files: fs::read_dir("/proc/self/fd").unwrap().count() - 1,
    }
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// Least squares: bytes a second.
fn slope(series: &[Held]) -> f64 {
    let count = series.len() as f64;
    let mean = |of: &dyn Fn(&Held) -> f64| series.iter().map(of).sum::<f64>() / count;
    let (at, memory) = (mean(&|held| held.at), mean(&|held| held.memory as f64));
    let of = |held: &Held| (held.at - at, held.memory as f64 - memory);
    let above: f64 = series.iter().map(of).map(|(x, y)| x * y).sum();
    let below: f64 = series.iter().map(of).map(|(x, _)| x * x).sum();
    above / below
}

/// What grew, in what was measured after the warm-up.
fn grown(series: &[Held]) -> Result<String, String> {
    let quarter = series.len() / 4;
    let (first, last) = (&series[..quarter], &series[series.len() - quarter..]);
    let [before, after] = [first, last].map(|part| median(part.iter().map(|held| held.memory)));
    let [old, new] = [first[0], last[quarter - 1]];
    let figures = format!(
        "{} rounds in {:.0} s: memory {:.1} MiB, then {:.1} MiB, {:+.1} KiB a minute; threads {} and {}; files {} and {}",
        series.len(),
        new.at - old.at,
        before as f64 / 1_048_576.0,
        after as f64 / 1_048_576.0,
        slope(series) * 60.0 / 1024.0,
        old.threads,
        new.threads,
        old.files,
        new.files
    );
    // What a pipeline that just ended had may still be on its way out when it is counted. What is kept is there every time.
    let least = |part: &[Held], of: fn(&Held) -> usize| part.iter().map(of).min().unwrap();
    if after > before + SLACK
        || least(last, |held| held.threads) > least(first, |held| held.threads)
        || least(last, |held| held.files) > least(first, |held| held.files)
    {
        return Err(figures);
    }
    Ok(figures)
}

/// Ports that nobody has, for as long as it takes to bind them.
fn ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

fn rtp(media: &str) -> &'static str {
    match media {
        "video" => "application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96",
        _ => "application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=97",
    }
}

/// Anna and Ben, who stay, and the guest's ports.
struct Call {
    clinic: Clinic,
    party: Party,
    /// To the guest: video, audio; from the guest: audio.
    ports: [u16; 3],
    rounds: usize,
}

impl Call {
    fn new() -> Self {
        let clinic = Clinic::new();
        let ports = ports();
        let [video, audio, from_guest] = ports;
        let send = |port| format!("queue ! udpsink host=127.0.0.1 port={port} sync=false async=false");
        let party = Party::new(&format!(
            "{} {} \
             {VIDEO} ! sframeenc keyring=a ! rtpsframepay pt=96 ! tee name=shown ! queue ! rtpsframedepay ! \
             sframedec name=b-video keyring=b ! vp8dec ! {SINK} shown. ! {} \
             {AUDIO} ! sframeenc keyring=a ! rtpsframepay pt=97 ! tee name=said ! queue ! rtpsframedepay ! \
             sframedec name=b-audio keyring=b ! opusdec ! {SINK} said. ! {} \
             {VIDEO} ! sframeenc keyring=b ! rtpsframepay pt=96 ! rtpsframedepay ! \
             sframedec name=a-video keyring=a ! vp8dec ! {SINK} \
             {AUDIO} ! sframeenc keyring=b ! rtpsframepay pt=97 ! rtpsframedepay ! \
             sframedec name=a-audio keyring=a ! opusdec ! {SINK} \
             udpsrc address=127.0.0.1 port={from_guest} caps=\"{}\" ! rtpsframedepay ! \
             sframedec name=guest-audio keyring=a ! opusdec ! {SINK}",
            clinic.creator("anna", "id=a"),
            clinic.keyring("ben", "id=b"),
            send(video),
            send(audio),
            rtp("audio"),
        ));
        party.play();
        let call = Self {
            clinic,
            party,
            ports,
            rounds: 0,
        };
        call.agree(None);
        call
    }

    /// All are ready in one epoch, and nobody else is in it.
    fn agree(&self, guest: Option<&Ring>) {
        let mut rings = vec![self.party.keyring("anna"), self.party.keyring("ben")];
        rings.extend(guest.cloned());
        until(&self.clinic, &[], "all agree", || {
            let code = rings[0].code();
            let is_there = |ring: &Ring| ring.is_ready() && ring.members().len() == rings.len();
            rings.iter().all(|ring| is_there(ring) && ring.code() == code)
        });
    }

    fn guest(&self) -> Party {
        let [video, audio, from_guest] = self.ports;
        let receive = |port: u16, media, decoder| {
            format!(
                "udpsrc address=127.0.0.1 port={port} caps=\"{}\" ! rtpsframedepay ! sframedec name={media} ! \
                 {decoder} ! {SINK}",
                rtp(media)
            )
        };
        Party::start(&format!(
            "{} {} {} {AUDIO} ! sframeenc ! rtpsframepay pt=97 ! \
             udpsink host=127.0.0.1 port={from_guest} sync=false async=false",
            self.clinic.keyring("carl", ""),
            receive(video, "video", "vp8dec"),
            receive(audio, "audio", "opusdec"),
        ))
    }

    /// More frames open everywhere.
    fn hear(&self, guest: Option<&Party>) {
        let opened = || {
            let of = OPENERS.iter().take(if guest.is_some() { 5 } else { 4 });
            let mut opened: Vec<_> = of.map(|name| self.party.stat(name, "opened")).collect();
            opened.extend(
                guest
                    .iter()
                    .flat_map(|guest| ["video", "audio"].map(|name| guest.stat(name, "opened"))),
            );
            opened
        };
        let before = opened();
        until(&self.clinic, &[], "frames open", || {
            opened()
                .iter()
                .zip(&before)
                .all(|(now, before)| *now > before + 5)
        });
    }

    /// Somebody comes, talks, listens and goes; meanwhile, keys are renewed by each of them in turn.
    fn round(&mut self) {
        self.rounds += 1;
        let guest = self.guest();
        let ring = guest.keyring("carl");
        self.agree(Some(&ring));
        self.hear(Some(&guest));
        let by = [
            self.party.keyring("anna"),
            self.party.keyring("ben"),
            ring.clone(),
        ];
        let before = ring.epoch();
        assert!(by[self.rounds % 3].act("update-key", &[]));
        until(&self.clinic, &[], "new keys", || ring.epoch() > before);
        self.agree(Some(&ring));
        self.hear(Some(&guest));
        guest.stop();
        self.agree(None);
        self.hear(None);
        for party in [&self.party, &guest] {
            assert!(party.errors().is_empty(), "{:?}", party.errors());
        }
        self.party.forget();
    }

    /// Rounds until so many seconds after the beginning, ENOUGH at the least, and what was held after each of them.
    fn go_on(&mut self, since: Instant, seconds: f64) -> Vec<Held> {
        let mut series = Vec::new();
        while series.len() < ENOUGH || since.elapsed().as_secs_f64() < seconds {
            self.round();
            series.push(held(since));
        }
        series
    }
}

#[test]
fn a_call_holds_as_much_at_its_end_as_at_its_beginning() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if std::env::var_os(ONE_ARENA).is_none() {
        // Once more, in a process of its own.
        let status = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_call_holds_as_much_at_its_end_as_at_its_beginning",
                "--nocapture",
            ])
            .env(ONE_ARENA, "1")
            .status();
        assert!(status.unwrap().success(), "see above");
        return;
    }
    let seconds = std::env::var("GST_E2EE_SOAK").map_or(60.0, |text| text.parse().unwrap());
    let mut call = Call::new();
    let since = Instant::now();
    let warm = call.go_on(since, seconds * WARM_UP);
    let series = call.go_on(since, seconds);
    let figures = grown(&series);
    println!(
        "{} rounds, {} epochs, {} frames opened; began with {:?}; {figures:?}",
        call.rounds,
        call.party.keyring("anna").epoch(),
        OPENERS
            .map(|name| call.party.stat(name, "opened"))
            .iter()
            .sum::<u64>(),
        warm.first(),
    );
    for name in OPENERS {
        for cause in ["auth-failed", "malformed", "replayed"] {
            assert_eq!(call.party.stat(name, cause), 0, "{cause} of {name}");
        }
    }
    assert!(figures.is_ok(), "it grows: {series:#?}");
}

/// The judge finds what this process keeps on purpose.
#[test]
fn memory_threads_and_files_that_are_kept_are_found() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let since = Instant::now();
    let kept = |keep: &mut dyn FnMut()| -> Vec<Held> {
        let round = |_| {
            keep();
            held(since)
        };
        (0..ENOUGH).map(round).collect()
    };
    assert!(grown(&kept(&mut || ())).is_ok());
    let mut blocks = Vec::new();
    let memory = kept(&mut || blocks.push(vec![1_u8; SLACK as usize / 4]));
    assert!(grown(&memory).is_err(), "{memory:?}");
    let mut files = Vec::new();
    let opened = kept(&mut || files.push(fs::File::open("/dev/null").unwrap()));
    assert!(grown(&opened).is_err(), "{opened:?}");
    let end = RwLock::new(());
    let open = end.write().unwrap();
    std::thread::scope(|scope| {
        let threads = kept(&mut || drop(scope.spawn(|| drop(end.read()))));
        drop(open);
        assert!(grown(&threads).is_err(), "{threads:?}");
    });
}
