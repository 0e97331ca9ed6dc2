//! The one thread that waits for the disk.
//!
//! It looks at room and consent, finishes members when their time has come, and lets the [`Recorder`] write what
//! waits. It ends when all of that is done and it was asked to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gst_e2ee_common::key_source::Connection;

use super::recorder::{End, Recorder};
use super::session::Session;

/// The worker looks around at least so often.
const TICK: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Asked {
    stop: AtomicBool,
    end_of_stream: AtomicBool,
}

/// The thread.
pub struct Worker {
    session: Arc<Session>,
    asked: Arc<Asked>,
    thread: Option<JoinHandle<()>>,
    /// Until it stops, changes of the room come in.
    _room_changed: Option<Connection>,
}

impl Worker {
    /// Starts the thread, after a first look that finds out whether anything is recorded at once. Its error is one of
    /// what was configured.
    pub fn start(session: Arc<Session>, mut recorder: Recorder) -> Result<Self, String> {
        let room_changed = session.admission.source().map(|source| {
            let session = Arc::downgrade(&session);
            source.connect_room_changed(move |_| {
                if let Some(session) = session.upgrade() {
                    session.admission.ask_room();
                    session.queue.wake();
                }
            })
        });
        recorder.first_look()?;
        let asked = Arc::<Asked>::default();
        let thread = thread::Builder::new().name("compliancesink".into()).spawn({
            let (session, asked) = (session.clone(), asked.clone());
            move || run(&session, &asked, recorder)
        });
        Ok(Self {
            session,
            asked,
            thread: Some(thread.map_err(|error| format!("no thread can be made: {error}"))?),
            _room_changed: room_changed,
        })
    }

    /// All pads have ended: ends the recording and posts EOS. Returns at once.
    pub fn end_of_stream(&self) {
        self.asked.end_of_stream.store(true, Ordering::Release);
        self.session.queue.wake();
    }

    /// Ends the recording, unless it has ended. Returns when that is on disk.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.asked.stop.store(true, Ordering::Release);
        self.session.queue.wake();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, it said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.join();
    }
}

fn run(session: &Session, asked: &Asked, mut recorder: Recorder) {
    let mut has_ended = false;
    loop {
        let stop = asked.stop.load(Ordering::Acquire);
        let end_of_stream = asked.end_of_stream.load(Ordering::Acquire);
        recorder.look(Instant::now());
        if end_of_stream && !has_ended {
            has_ended = true;
            recorder.end(End::EndOfStream);
        }
        if stop {
            recorder.end(End::Stop);
            recorder.drain();
            return;
        }
        let now = Instant::now();
        session.queue.wait(session.deadline(now).min(now + TICK));
    }
}
