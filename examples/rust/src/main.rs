//! Seals Opus, sends it over RTP to itself, opens it and writes it to a Matroska file; tells what the elements report.
//!
//! ```text
//! export GST_PLUGIN_PATH=$(scripts/build | tail -n 1)
//! cargo run --release -p gst-e2ee-examples -- KEY_FILE call.mkv
//! ```
//!
//! The only dependency is `gstreamer`: the elements come from the registry by name, as in any language.

use gst::prelude::*;
use std::error::Error;
use std::process::ExitCode;

fn make(factory: &str) -> Result<gst::Element, Box<dyn Error>> {
    gst::ElementFactory::make(factory).build().map_err(|_| {
        format!("no element {factory}: does GST_PLUGIN_PATH name the folder with the plugins?").into()
    })
}

/// A counter of an element's statistics.
fn count(element: &gst::Element, field: &str) -> u64 {
    let stats = element.property::<gst::Structure>("stats");
    stats.get(field).unwrap_or_default()
}

/// The elements post these at most once a second, each for all that happened since.
fn tell(message: &gst::message::Element) {
    let Some(said) = message.structure() else { return };
    if matches!(
        said.name().as_str(),
        "sframe-decrypt-failed" | "sframe-key-missing"
    ) {
        let (kid, frames) = (said.get::<u64>("kid").ok(), said.get::<u64>("count").ok());
        let cause = said.get::<&str>("cause").unwrap_or_default();
        println!("{}: KID {kid:?}, {cause}, {frames:?} frames", said.name());
    }
}

/// Plays to the end of the stream.
fn play(pipeline: &gst::Pipeline) -> Result<(), Box<dyn Error>> {
    let bus = pipeline.bus().ok_or("no bus")?;
    let started = pipeline.set_state(gst::State::Playing);
    // Also after a failed start: the reason is on the bus.
    for message in bus.iter_timed(gst::ClockTime::from_seconds(30)) {
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(()),
            gst::MessageView::Error(error) => return Err(error.error().to_string().into()),
            gst::MessageView::Element(element) => tell(element),
            _ => {}
        }
    }
    started?;
    Err("nothing happens any more".into())
}

fn run(key_file: &str, out: &str) -> Result<bool, Box<dyn Error>> {
    gst::init()?;
    let pipeline = gst::Pipeline::new();

    let source = make("audiotestsrc")?;
    source.set_property("num-buffers", 200);
    let seal = make("sframeenc")?;
    seal.set_property("key-file", key_file);
    // This sender's own KID.
    seal.set_property("kid", 1_u64);
    let open = make("sframedec")?;
    open.set_property("key-file", key_file);
    // A muxer asks for its pad before anything was opened: name what will come out of sframedec.
    let media = make("capsfilter")?;
    media.set_property("caps", gst::Caps::builder("audio/x-opus").build());
    let sink = make("filesink")?;
    sink.set_property("location", out);

    let (encoder, muxer) = (make("opusenc")?, make("matroskamux")?);
    let (pay, depay) = (make("rtpsframepay")?, make("rtpsframedepay")?);
    let chain = [
        &source, &encoder, &seal, &pay, &depay, &open, &media, &muxer, &sink,
    ];
    pipeline.add_many(chain)?;
    gst::Element::link_many(chain)?;

    let played = play(&pipeline);
    // Before the pipeline goes to NULL: a new start counts from 0.
    let (sealed, opened) = (count(&seal, "sealed"), count(&open, "opened"));
    pipeline.set_state(gst::State::Null)?;
    played?;
    println!("sealed {sealed}, opened {opened}");
    Ok(sealed > 0 && opened == sealed)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [key_file, out] = args.as_slice() else {
        eprintln!("usage: embed KEY_FILE OUT.mkv");
        return ExitCode::from(2);
    };
    match run(key_file, out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("embed: {error}");
            ExitCode::FAILURE
        }
    }
}
