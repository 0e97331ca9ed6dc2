//! Kills, a slow disk, the wall clock, recording off and on, and a consent withdrawn and given again, all at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_e2ee_common::room_state::RoomState;
use gstcompliance::audit::Event;
use gstcompliance::compliancesink::State as Shown;
use gstcompliance::recording::{self, Options, Root, State};

use crate::clock::{WallClock, jumps};
use crate::common::disk::Trouble;
use crate::common::source::TestSource;
use crate::common::{self, Place, Run, events, logged, verified};
use crate::process::{CONSENT, RECIPIENT, ROOM, Recorders, replace};
use crate::{Random, assert_intact, count, recorded};

/// More epochs than a life has.
const EPOCHS: u64 = 10_000;

/// What is to become of frames now.
#[derive(Clone, Copy)]
enum Scene {
    On,
    Off,
    /// So many pauses for the sake of the consent there were before it was withdrawn.
    Withdrawn(usize),
}

/// Within a recorder process: makes its room, its consent and its disk change, again and again.
pub struct Director {
    source: TestSource,
    consent: PathBuf,
    room: RoomState,
    trouble: Arc<Trouble>,
    random: Random,
    scene: Scene,
    epoch: u64,
    until: Instant,
}

impl Director {
    pub fn new(life: u64, seed: u64, recorder: &gst::Element, trouble: Arc<Trouble>) -> Self {
        let consent = PathBuf::from(std::env::var(CONSENT).unwrap());
        let recipient = std::env::var(RECIPIENT).unwrap();
        // As a life before this one may have left it.
        replace(&consent, common::CONSENT);
        let epoch = (life + 1) * EPOCHS;
        let room = common::room::on(&consent, &recipient, epoch);
        let source = common::room::source(room.clone());
        recorder.set_property("key-source", &source);
        Self {
            source,
            consent,
            room,
            trouble,
            random: Random(seed),
            scene: Scene::On,
            epoch,
            until: Instant::now(),
        }
    }

    /// The next frame's epoch, and whether it may be kept.
    pub fn direct(&mut self, run: &Run, number: u64) -> (Option<u64>, &'static str) {
        if Instant::now() >= self.until {
            self.turn(run);
        }
        let is_late = number.is_multiple_of(3);
        let (epoch, label) = match self.scene {
            // What was sealed while it was off, and came late.
            Scene::On if is_late && self.came_from_off() => (self.epoch - 1, "never"),
            Scene::On => (self.epoch, "on"),
            Scene::Off if is_late => (self.epoch - 1, "never"),
            Scene::Off => (self.epoch, "never"),
            Scene::Withdrawn(before) if consent_pauses(run) > before => (self.epoch, "never"),
            Scene::Withdrawn(_) => (self.epoch, "maybe"),
        };
        (Some(epoch), label)
    }

    /// Even epochs are on, odd ones are off.
    fn came_from_off(&self) -> bool {
        !self.epoch.is_multiple_of(EPOCHS)
    }

    fn turn(&mut self, run: &Run) {
        let ms = 100 + self.random.below(500);
        self.until = Instant::now() + Duration::from_millis(ms);
        let slow = if self.random.below(3) == 0 { 500 } else { 0 };
        self.trouble.sync_ms.store(slow, Ordering::SeqCst);
        self.scene = match self.scene {
            // Not before it was heard of.
            Scene::Withdrawn(before) if consent_pauses(run) == before => return,
            Scene::Withdrawn(_) => {
                replace(&self.consent, common::CONSENT);
                Scene::On
            }
            Scene::Off => {
                self.enter(true);
                Scene::On
            }
            Scene::On if self.random.below(3) == 0 => {
                // One that is withdrawn already, or that nothing waits for, would not be told of.
                if run.element("rec").property::<Shown>("state") != Shown::Recording {
                    return;
                }
                let before = consent_pauses(run);
                replace(&self.consent, &common::CONSENT.replace("active", "inactive"));
                Scene::Withdrawn(before)
            }
            Scene::On => {
                self.enter(false);
                Scene::Off
            }
        };
    }

    fn enter(&mut self, on: bool) {
        self.epoch += 1;
        self.source.set_room(RoomState {
            epoch: self.epoch,
            recording: Some(on),
            ..self.room.clone()
        });
    }
}

fn consent_pauses(run: &Run) -> usize {
    let causes = run.messages("compliance-paused").into_iter();
    causes
        .filter(|paused| paused.get::<&str>("cause").unwrap() == "consent-not-active")
        .count()
}

/// How far the audit log says that the manifest goes.
fn known(place: &Place) -> Option<Root> {
    let events = events(place).into_iter();
    let mut roots = events.filter_map(|event| match event {
        Event::Manifest { lines, root }
        | Event::Recovered { lines, root, .. }
        | Event::Stopped { lines, root, .. } => Some(Root { lines, root }),
        _ => None,
    });
    roots.next_back()
}

/// The recording is as it was sealed, and no shorter than the log says.
fn assert_whole(place: &Place) -> recording::Report {
    let options = Options {
        known: known(place),
        ..Options::default()
    };
    let report = recording::verify(&place.recording(), &options).unwrap();
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    report
}

#[test]
fn all_faults_together_leave_what_was_sealed_and_nothing_that_must_not_be_recorded() {
    let seconds = count("GST_E2EE_FAULTS_SECONDS", 8);
    let mut random = Random::new(&format!("all faults for {seconds} s"));
    let place = Place::new(2);
    let clock = WallClock::new(&place);
    let mut recorders = Recorders::new(&place);
    recorders.properties = "segment-duration=500000000".into();
    let begun = Instant::now();
    let mut life = 0;
    let start = |recorders: &mut Recorders, random: &mut Random, life| {
        recorders.environment = clock.environment();
        let consent = place.path("consent.json").display().to_string();
        let seed = random.below(1 << 60) + 1;
        let more = [
            (ROOM, seed.to_string()),
            (CONSENT, consent),
            (RECIPIENT, place.fingerprint()),
        ];
        let more = more.map(|(name, value)| (name.to_owned(), value));
        recorders.environment.extend(more);
        recorders.start(life)
    };
    while begun.elapsed() < Duration::from_secs(seconds) || life < 4 {
        let process = start(&mut recorders, &mut random, life);
        if life == 0 || random.below(4) > 0 {
            process.records();
            for _ in 0..=random.below(3) {
                sleep(Duration::from_millis(random.below(1200)));
                clock.set(3600 * (random.below(3) as i64 - 1));
            }
        }
        sleep(Duration::from_millis(random.below(700)));
        process.kill();
        assert_whole(&place);
        life += 1;
    }
    let process = start(&mut recorders, &mut random, life);
    process.records();
    process.stop();

    let report = assert_whole(&place);
    assert_eq!(report.state, State::Complete);
    verified(&place.recording());
    assert_intact(&place);
    assert_eq!(logged(&place).last(), Some(&"stopped"));
    let kept: Vec<_> = recorded(&place).into_values().flatten().collect();
    let wrong: Vec<_> = kept.iter().filter(|sent| sent.label == "never").collect();
    assert!(
        wrong.is_empty(),
        "{} frames, the first {:?}",
        wrong.len(),
        wrong[0]
    );
    let pushed: Vec<_> = (0..=life)
        .flat_map(|life| recorders.notes(life).frames())
        .collect();
    let never = pushed.iter().filter(|frame| frame.label == "never").count();
    assert!(never > 0 && kept.iter().any(|sent| sent.label == "on"));
    let causes: Vec<_> = events(&place)
        .into_iter()
        .filter_map(|event| match event {
            Event::Paused { cause } => Some(cause.to_string()),
            _ => None,
        })
        .collect();
    let of = |cause: &str| causes.iter().filter(|known| *known == cause).count();
    assert!(of("recording-off") > 0, "{causes:?}");
    println!(
        "{life} kills, {} clock jumps, off {} times, consent withdrawn {} times; {} frames in {} tracks, {never} of {} that \
         must not be recorded, and were not",
        jumps(&place).len(),
        of("recording-off"),
        of("consent-not-active"),
        kept.len(),
        report.tracks.len(),
        pushed.len()
    );
}
