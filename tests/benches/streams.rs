//! 500 Opus streams at once, each sealed and opened in this process: what share of a core they take, and how much
//! memory each. A second process does the same with `identity ! identity`, which is GStreamer's own part.
//!
//! One thread pushes a frame into every stream each 20 ms; there are no queues. Each stream has its own key.

use gst::prelude::*;
use gst_e2ee_tests::bench_lane::{Lane, Packets};
use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const STREAMS: usize = 500;
const FRAME: usize = 160;
const INTERVAL: Duration = Duration::from_millis(20);
const TICKS: u32 = 500;
const WARM_UP_TICKS: u32 = 25;
const AT_MOST_KIB: f64 = 64.0;
/// Which part this process plays.
const ROLE: &str = "BENCH_STREAMS_ROLE";

/// Resident memory of this process in bytes.
fn resident() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no VmRSS")?;
    Ok(kib.parse::<f64>()? * 1024.0)
}

/// Time that this process had a core.
fn cpu_time() -> Result<Duration> {
    // Nanoseconds that this thread, the only one that works, ran.
    let text = fs::read_to_string("/proc/self/schedstat")?;
    let nanos = text.split_whitespace().next().ok_or("no schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

fn keys(dir: &Path, from: usize, count: usize) -> Result<String> {
    let path = dir.join(format!("keys-{from}-{count}"));
    let text: String = (from..from + count)
        .map(|kid| format!("{kid} {:032x}\n", kid + 1))
        .collect();
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path.to_string_lossy().into_owned())
}

/// Two elements, linked, in a bin that looks like one.
fn pair(first: gst::Element, second: gst::Element) -> Result<gst::Element> {
    let bin = gst::Bin::new();
    bin.add_many([&first, &second])?;
    first.link(&second)?;
    for (element, name) in [(first, "sink"), (second, "src")] {
        let pad = element.static_pad(name).ok_or("no such pad")?;
        bin.add_pad(&gst::GhostPad::with_target(&pad)?)?;
    }
    Ok(bin.upcast())
}

fn stream(role: &str, dir: &Path, index: usize) -> Result<gst::Element> {
    if role == "identity" {
        let identity = || gst::ElementFactory::make("identity").build();
        return pair(identity()?, identity()?);
    }
    // A receiver with a file of all keys, or each with the one that it needs.
    let file = match role {
        "shared" => keys(dir, 0, STREAMS)?,
        _ => keys(dir, index, 1)?,
    };
    let seal = gst::ElementFactory::make("sframeenc")
        .property("key-file", &file)
        .property("kid", index as u64)
        .property(
            "counter-file",
            dir.join(format!("counter-{index}")).to_string_lossy().as_ref(),
        )
        .build()?;
    let open = gst::ElementFactory::make("sframedec")
        .property("key-file", &file)
        .build()?;
    pair(seal, open)
}

/// One process: runs the streams, prints the memory per stream in bytes and the share of a core.
fn child(role: &str) -> Result<()> {
    gst::init()?;
    gstsframe::plugin_register_static()?;
    let dir = tempfile::tempdir()?;
    let caps = gst::Caps::builder("audio/x-opus")
        .field("rate", 48_000)
        .field("channels", 2)
        .field("channel-mapping-family", 0)
        .build();
    let mut frame = Packets::default();
    frame.push(&[0x5c; FRAME]);
    let mut lanes = Vec::with_capacity(STREAMS);
    let run = |lanes: &[Lane]| lanes.iter().try_for_each(|lane| lane.push(&frame).map(drop));

    // The first stream brings what is there once: plugin, types, code pages.
    lanes.push(Lane::new(
        Some((stream(role, dir.path(), 0)?, ["sink", "src"])),
        &caps,
    )?);
    run(&lanes)?;
    let before = resident()?;
    for index in 1..STREAMS {
        lanes.push(Lane::new(
            Some((stream(role, dir.path(), index)?, ["sink", "src"])),
            &caps,
        )?);
    }
    let mut cpu = Duration::ZERO;
    let mut start = Instant::now();
    let mut due = start;
    let mut late = Duration::ZERO;
    for tick in 0..WARM_UP_TICKS + TICKS {
        if tick == WARM_UP_TICKS {
            cpu = cpu_time()?;
            start = Instant::now();
        }
        run(&lanes)?;
        due += INTERVAL;
        let now = Instant::now();
        late = late.max(now.saturating_duration_since(due));
        sleep(due.saturating_duration_since(now));
    }
    let share = (cpu_time()? - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    let per_stream = (resident()? - before) / (STREAMS - 1) as f64;
    println!("{per_stream} {share} {}", late.as_millis());
    Ok(())
}

struct Figures {
    kib: f64,
    share: f64,
}

fn measure(role: &str) -> Result<Figures> {
    let output = Command::new(std::env::current_exe()?)
        .env(ROLE, role)
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut words = text.split_whitespace().map(str::parse::<f64>);
    match (output.status.success(), words.next(), words.next(), words.next()) {
        (true, Some(Ok(bytes)), Some(Ok(share)), Some(Ok(late))) => {
            if late > 0.0 {
                println!("  ({role}: at worst {late} ms behind)");
            }
            Ok(Figures {
                kib: bytes / 1024.0,
                share,
            })
        }
        _ => Err(format!("{role} failed: {text}").into()),
    }
}

fn main() -> Result<()> {
    if let Ok(role) = std::env::var(ROLE) {
        return child(&role);
    }
    println!(
        "{STREAMS} Opus streams, 50 frames/s of {FRAME} bytes, sealed and opened in one process for 10 s\n"
    );
    let without = measure("identity")?;
    println!(
        "                                       share of a core   memory per stream   beyond GStreamer's own"
    );
    println!(
        "  identity ! identity                  {:>12.1} %   {:>13.1} KiB",
        without.share * 100.0,
        without.kib
    );
    for (role, what) in [
        ("own", "sframeenc ! sframedec, own key file"),
        ("shared", "the same, one key file of 500 lines"),
    ] {
        let with = measure(role)?;
        let beyond = with.kib - without.kib;
        let verdict = if beyond < AT_MOST_KIB { "met" } else { "NOT met" };
        println!(
            "  {what:<36} {:>12.1} %   {:>13.1} KiB   {beyond:>10.1} KiB, under {AT_MOST_KIB}: {verdict}",
            with.share * 100.0,
            with.kib
        );
    }
    Ok(())
}
