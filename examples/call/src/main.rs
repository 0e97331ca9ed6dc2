//! A call of two over `webrtcbin`: DTLS-SRTP outside, SFrame inside, keys from a room whose messages go over the same
//! signalling as the session descriptions.
//!
//! ```text
//! export GST_PLUGIN_PATH=$(scripts/build | tail -n 1)
//! cargo run --release -p gst-e2ee-example-call -- host /tmp/call anna
//! cargo run --release -p gst-e2ee-example-call -- guest /tmp/call ben
//! ```
//!
//! `anna` and `ben` are folders as `gst-mls identity new` makes them. Two processes of one machine, with a Unix socket
//! between: who carries the signalling of a real call is a server. It could change the descriptions, so each end refuses one
//! without `a=sframe`; and it could put itself between the two ends of DTLS-SRTP, as media servers do. It would find sealed
//! frames there, and has no part in the room that has the keys.
//!
//! Video and sound go both ways. When both are there, the host renews the keys; when both are opened under the new ones, it
//! is over. Each end prints its epoch's code, which people would compare by voice.

mod media;
mod sdp;
mod signalling;

use gst::glib;
use gst::prelude::*;
use gst_webrtc::gst;
use gst_webrtc::gst_sdp::SDPMessage;
use gst_webrtc::{WebRTCSDPType, WebRTCSessionDescription};
use media::{Counts, Media};
use signalling::Message;
use std::error::Error;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// As many frames of each medium, under new keys, are a call.
const ENOUGH: u64 = 60;

/// What happens to an end. All of it comes to one thread, in one order: that of the room's messages, too.
enum Event {
    Heard(io::Result<Option<Message>>),
    /// The room wants this brought to everybody.
    Room(Vec<u8>),
    NegotiationNeeded,
    Described(Message),
    Candidate(u32, String),
}

struct Call {
    host: bool,
    media: Media,
    signalling: UnixStream,
    events: Sender<Event>,
    /// First epoch in which both were in the room.
    together: Option<u64>,
    renewed: bool,
    done: bool,
    other_done: bool,
}

impl Call {
    fn new(
        host: bool,
        signalling: UnixStream,
        identity: &Path,
    ) -> Result<(Self, Receiver<Event>), Box<dyn Error>> {
        let media = Media::new(identity, host)?;
        let (events, queue) = channel();

        let to = events.clone();
        media.keyring.connect("message-ready", false, move |args| {
            // On the room's own thread: hand it over and return.
            if let Some(Ok(message)) = args.get(2).map(|value| value.get::<glib::Bytes>()) {
                let _ = to.send(Event::Room(message.to_vec()));
            }
            None
        });
        let to = events.clone();
        media.webrtc.connect("on-ice-candidate", false, move |args| {
            if let (Some(Ok(medium)), Some(Ok(candidate))) = (
                args.get(1).map(|v| v.get::<u32>()),
                args.get(2).map(|v| v.get::<String>()),
            ) {
                let _ = to.send(Event::Candidate(medium, candidate));
            }
            None
        });
        let to = events.clone();
        media.webrtc.connect("on-negotiation-needed", false, move |_| {
            let _ = to.send(Event::NegotiationNeeded);
            None
        });
        let to = events.clone();
        signalling::listen(signalling.try_clone()?, move |heard| {
            let _ = to.send(Event::Heard(heard));
        });
        // Both ends are on this machine, where ICE does not look by itself.
        let ice = media.webrtc.property::<glib::Object>("ice-agent");
        ice.emit_by_name::<bool>("add-local-ip-address", &[&"127.0.0.1"]);

        let call = Self {
            host,
            media,
            signalling,
            events,
            together: None,
            renewed: false,
            done: false,
            other_done: false,
        };
        Ok((call, queue))
    }

    fn say(&mut self, message: &Message) -> Result<(), Box<dyn Error>> {
        Ok(message.send(&mut self.signalling)?)
    }

    /// Has webrtcbin make a description of this end, which comes back as an event.
    fn describe(&self, make: &'static str) {
        let field = if make == "create-offer" { "offer" } else { "answer" };
        let (webrtc, to) = (self.media.webrtc.clone(), self.events.clone());
        let described = gst::Promise::with_change_func(move |reply| {
            let Ok(Some(reply)) = reply else { return };
            let Ok(description) = reply.get::<WebRTCSessionDescription>(field) else {
                return;
            };
            webrtc.emit_by_name::<()>("set-local-description", &[&description, &None::<gst::Promise>]);
            let Ok(text) = description.sdp().as_text() else {
                return;
            };
            let _ = to.send(Event::Described(match field {
                "offer" => Message::Offer(text),
                _ => Message::Answer(text),
            }));
        });
        self.media
            .webrtc
            .emit_by_name::<()>(make, &[&None::<gst::Structure>, &described]);
    }

    /// Takes the other end's description, if it says SFrame; only then anything is sent.
    fn accept(&self, kind: WebRTCSDPType, text: &str) -> Result<(), Box<dyn Error>> {
        let description =
            SDPMessage::parse_buffer(text.as_bytes()).map_err(|_| "the other end's description is none")?;
        sdp::check(&description)?;
        let description = WebRTCSessionDescription::new(kind, description);
        self.media
            .webrtc
            .emit_by_name::<()>("set-remote-description", &[&description, &None::<gst::Promise>]);
        if kind == WebRTCSDPType::Offer {
            self.describe("create-answer");
        }
        self.media.send()
    }

    /// Brings a message of the room to this end's keyring.
    fn bring(&self, message: &[u8]) {
        let message = glib::Bytes::from(message);
        if !self
            .media
            .keyring
            .emit_by_name::<bool>("process-message", &[&message])
        {
            println!("the signalling brought what is no message of a room");
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Box<dyn Error>> {
        match event {
            Event::NegotiationNeeded if self.host => self.describe("create-offer"),
            Event::NegotiationNeeded => {}
            Event::Described(description) => self.say(&description)?,
            Event::Candidate(medium, candidate) => self.say(&Message::Candidate(medium, candidate))?,
            // The host puts everything into one order, the guest's and its own.
            Event::Room(message) if self.host => {
                self.bring(&message);
                self.say(&Message::Room(message))?;
            }
            Event::Room(message) => self.say(&Message::Room(message))?,
            Event::Heard(message) => match message? {
                Some(Message::Offer(text)) if !self.host => self.accept(WebRTCSDPType::Offer, &text)?,
                Some(Message::Answer(text)) if self.host => self.accept(WebRTCSDPType::Answer, &text)?,
                Some(Message::Candidate(medium, candidate)) => {
                    self.media
                        .webrtc
                        .emit_by_name::<()>("add-ice-candidate", &[&medium, &candidate]);
                }
                Some(Message::Room(message)) => {
                    self.bring(&message);
                    if self.host {
                        self.say(&Message::Room(message))?;
                    }
                }
                Some(Message::Done) => self.other_done = true,
                Some(Message::Bye(why)) => return Err(format!("the other end hung up: {why}").into()),
                Some(Message::Offer(_) | Message::Answer(_)) => {
                    return Err(
                        "the other end has the same part in this call: one is host, one is guest".into(),
                    );
                }
                None => return Err("the signalling was cut".into()),
            },
        }
        Ok(())
    }

    /// Tells what the elements report, and fails by their errors.
    fn hear(&mut self) -> Result<(), Box<dyn Error>> {
        let bus = self.media.pipeline.bus().ok_or("no bus")?;
        while let Some(message) = bus.pop() {
            match message.view() {
                gst::MessageView::Error(error) => return Err(error.error().to_string().into()),
                gst::MessageView::Element(element) => {
                    let Some(said) = element.structure() else { continue };
                    let cause = ["cause", "reason"]
                        .into_iter()
                        .find_map(|field| said.get::<String>(field).ok());
                    match said.name().as_str() {
                        "mls-epoch-changed" => {
                            let epoch = said.get::<u64>("epoch")?;
                            println!("epoch {epoch}");
                            if said.get::<u32>("members")? > 1 {
                                self.together.get_or_insert(epoch);
                            }
                        }
                        name @ ("sframe-key-missing"
                        | "sframe-decrypt-failed"
                        | "mls-refused"
                        | "mls-verification-failed"
                        | "mls-stale") => {
                            println!("{name}: {}", cause.unwrap_or_default());
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Looks how far it is.
    fn progress(&mut self) -> Result<(), Box<dyn Error>> {
        let both = ["video", "audio"].map(|medium| self.media.counts(medium));
        let Some(together) = self.together else {
            return Ok(());
        };
        if both.iter().any(|counts| counts.opened == 0) {
            return Ok(());
        }
        if self.host && !self.renewed {
            self.renewed = self.media.keyring.emit_by_name("update-key", &[]);
        }
        let enough = |counts: &Counts| counts.epoch > together && counts.opened >= ENOUGH;
        if !self.done && both.iter().all(enough) {
            self.done = true;
            self.say(&Message::Done)?;
        }
        Ok(())
    }

    /// Calls until both have enough.
    fn run(&mut self, queue: &Receiver<Event>, limit: Duration) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + limit;
        // Should it fail, the reason is on the bus.
        let started = self.media.pipeline.set_state(gst::State::Playing);
        self.hear()?;
        started?;
        while !(self.done && self.other_done) {
            match queue.recv_timeout(Duration::from_millis(20)) {
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the signalling was cut".into()),
            }
            self.hear()?;
            self.progress()?;
            if Instant::now() > end {
                return Err(format!("no end after {limit:?}").into());
            }
        }
        Ok(())
    }

    /// Ends the pipeline and hears the other end out: it may still be saying something when this one has enough.
    fn stop(self, queue: &Receiver<Event>) -> Result<(), Box<dyn Error>> {
        self.media.pipeline.set_state(gst::State::Null)?;
        // The other end may have gone.
        let _ = self.signalling.shutdown(Shutdown::Write);
        let patience = Instant::now() + Duration::from_secs(5);
        while let Some(left) = patience.checked_duration_since(Instant::now()) {
            match queue.recv_timeout(left) {
                Ok(Event::Heard(Ok(None) | Err(_))) | Err(_) => break,
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// What it came to; before the pipeline stops, which counts from 0 when it starts again.
    fn tell(&self) {
        for medium in ["video", "audio"] {
            let counts = self.media.counts(medium);
            println!(
                "{medium}: sealed {}, arrived {}, opened {}, failed {}, without key {}",
                counts.sealed, counts.arrived, counts.opened, counts.failed, counts.without_key
            );
        }
        println!(
            "in the end: epoch {}, code {}",
            self.media.keyring.property::<u64>("epoch"),
            self.media.keyring.property::<String>("epoch-code")
        );
    }
}

fn connect(host: bool, path: &str) -> io::Result<UnixStream> {
    if host {
        let listener = UnixListener::bind(path)?;
        let (stream, _) = listener.accept()?;
        // The next call may have the same.
        std::fs::remove_file(path)?;
        Ok(stream)
    } else {
        UnixStream::connect(path)
    }
}

fn call(host: bool, path: &str, identity: &str, limit: Duration) -> Result<(), Box<dyn Error>> {
    gst::init()?;
    let signalling = connect(host, path).map_err(|error| format!("signalling over {path}: {error}"))?;
    let (mut call, queue) = Call::new(host, signalling, Path::new(identity))?;
    let ran = call.run(&queue, limit);
    if let Err(error) = &ran {
        // So that the other one does not wait. It may be gone already.
        let _ = call.say(&Message::Bye(error.to_string()));
    }
    call.tell();
    call.stop(&queue)?;
    ran
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (part, path, identity, seconds) = match *args {
        [part @ ("host" | "guest"), path, identity] => (part, path, identity, Some(60)),
        [part @ ("host" | "guest"), path, identity, seconds] => (part, path, identity, seconds.parse().ok()),
        _ => ("", "", "", None),
    };
    let Some(seconds) = seconds else {
        eprintln!("usage: call host|guest SOCKET IDENTITY [SECONDS]");
        return ExitCode::from(2);
    };
    match call(part == "host", path, identity, Duration::from_secs(seconds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("call: {error}");
            ExitCode::FAILURE
        }
    }
}
