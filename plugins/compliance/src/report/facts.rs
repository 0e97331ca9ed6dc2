//! Everything that a report tells, as values.

use std::path::Path;

use serde::Serialize;

use super::clock::Clock;
use super::history::History;
use super::media::{Lost, MOST_GAPS, Media};
use super::verdict::{self, Check, Verdict};
use super::words::{self, Loss};
use crate::attestation::Attestation;
use crate::audit::{self, Id, Item, Reader, VerifyError, VerifyOptions};
use crate::bundle::read_bounded;
use crate::ids::RecordingId;
use crate::recording::facts::{MAX_FILE, signed};
use crate::recording::{self, Facts, Medium, Options, RECORDING_FILE, RecordingError, TrackId, verify_and};
use crate::signing::PublicKey;

/// What a report is asked for.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The recording's folder.
    pub recording: &'a Path,
    /// The audit log's folder.
    pub log: &'a Path,
    /// The log's key, known from elsewhere.
    pub log_key: Option<PublicKey>,
    /// Who must have dealt the recording's key.
    pub dealer: Option<PublicKey>,
    /// Witnesses that are trusted, and what they saw. Their `key` is not looked at.
    pub trust: VerifyOptions,
    /// Now: milliseconds since 1970.
    pub now: u64,
    /// Who makes the report. None: it leaves no entry in the log.
    pub by: Option<Id>,
}

/// How the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogState {
    /// As it was written, as far as anybody can tell.
    Intact,
    /// Changed, cut or lost.
    NotIntact,
    /// Not the one that the recording names.
    Another,
    /// Not there, or not to be read.
    Unreadable,
}

/// The audit log.
#[derive(Debug, Clone, Serialize)]
pub struct LogFacts {
    /// How it is.
    pub state: LogState,
    /// Why nothing is known of it.
    pub error: Option<String>,
    /// What verification found.
    pub report: Option<audit::Report>,
    /// Was a witness named?
    pub witnesses: usize,
    /// What it says of the recording.
    pub history: History,
}

/// Who vouches for the recorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vouched {
    /// Nobody does: the recording was made without a room, or its facts cannot be read.
    Nobody,
    /// A certificate that holds in itself: its subject, and the fingerprint of the authority it ends in.
    Certificate {
        /// The recorder.
        subject: String,
        /// Who answers for it.
        root: String,
    },
    /// A certificate that does not hold.
    Broken(String),
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// When it begins, by the time of day: milliseconds since 1970.
    pub from: u64,
    /// When it ends.
    pub to: u64,
}

/// One medium of one person.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// The person's opaque id, as the recording has it; empty: nobody in particular.
    pub sender: String,
    /// Which medium; none: its line in the recording is damaged.
    pub medium: Option<Medium>,
    /// The numbers of its tracks.
    pub tracks: Vec<TrackId>,
    /// When it was recorded.
    pub stretches: Vec<Stretch>,
    /// When it should have been and was not.
    pub missing: Vec<Stretch>,
    /// When there is something that is not as it was sealed: changed, cut, or gone.
    pub damaged: Vec<Stretch>,
    /// How much that is, in nanoseconds.
    pub damaged_ns: u64,
    /// Stretches with less than so much between them, in nanoseconds, are told as one. None: only what touches.
    pub joined: Option<u64>,
    /// How much of it there is, in nanoseconds.
    pub ns: u64,
    /// Its size, encrypted.
    pub bytes: u64,
    /// What is missing, by cause.
    pub lost: Vec<(String, Loss, Lost)>,
}

/// A gap that is told by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// When, by the time of day.
    pub at: u64,
    /// Where it begins, on the recording's own clock, in nanoseconds.
    pub from_ns: u64,
    /// Where it ends.
    pub to_ns: u64,
    /// Index of the part that it is in.
    pub part: usize,
    /// How many frames, as far as known.
    pub frames: u64,
    /// The stable word of its cause.
    pub cause: String,
}

/// The recorder was down after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Down {
    /// The last that is recorded before.
    pub from: u64,
    /// When it came back.
    pub to: u64,
}

/// A report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this form: 1.
    pub version: u32,
    /// When it was made.
    pub made: u64,
    /// Who made it, where that stands in the log.
    pub by: Option<Id>,
    /// What it comes to.
    pub verdict: Verdict,
    /// What that rests on.
    pub checks: Vec<Check>,
    /// Which recording: what its facts say, or the name of its folder.
    pub id: Option<RecordingId>,
    /// Its facts, as far as their signature is good.
    pub facts: Option<Facts>,
    /// Verification of the recording.
    pub recording: recording::Report,
    /// Was the dealer named beforehand?
    pub dealer_pinned: bool,
    /// Who vouches for the recorder.
    pub vouched: Vouched,
    /// What was recorded.
    pub parts: Vec<Part>,
    /// The longest gaps, in order.
    pub gaps: Vec<Gap>,
    /// How many gaps there are.
    pub all_gaps: u64,
    /// When the recorder was down.
    pub down: Vec<Down>,
    /// The beginning, and the end as far as it is known.
    pub span: Stretch,
    /// The log, and what it says.
    pub log: LogFacts,
}

/// The audit log's key that a recording names, where its facts can be read: whose log a witness is asked about.
pub fn pinned_key(recording: &Path) -> Option<PublicKey> {
    let file = read_bounded(&recording.join(RECORDING_FILE), MAX_FILE).ok()?;
    Some(Facts::decode(&file).ok()?.0.log_key)
}

/// Verifies recording and log, and puts together what they say. An error is only what the system says of the
/// recording's folder; whatever is wrong with either is in the report.
pub fn gather(ask: &Ask<'_>) -> Result<Report, RecordingError> {
    let file = read_bounded(&ask.recording.join(RECORDING_FILE), MAX_FILE).ok();
    let decoded = file.as_deref().and_then(|file| Facts::decode(file).ok());
    // Whose folder it is when nothing in it can be read, its name says; what the log has of it is worth more then.
    let named = || {
        ask.recording
            .canonicalize()
            .ok()?
            .file_name()?
            .to_str()?
            .parse()
            .ok()
    };
    let id = decoded.as_ref().map(|(facts, _)| facts.recording).or_else(named);
    let key = ask.log_key.or(decoded.as_ref().map(|(facts, _)| facts.log_key));

    let log = read_log(ask, key, id);
    let mut media = Media::default();
    let options = Options {
        log_key: ask.log_key,
        dealer: ask.dealer,
        known: log.history.root,
        rewraps: log.history.key,
    };
    let recording = verify_and(ask.recording, &options, &mut |fact, good| media.take(fact, good))?;
    let vouched = vouched(file.as_deref(), decoded.as_ref());
    let facts = recording.facts.clone();
    let mut report = Report {
        version: 1,
        made: ask.now,
        by: ask.by.clone(),
        verdict: Verdict::default(),
        checks: Vec::new(),
        id,
        facts,
        recording,
        dealer_pinned: ask.dealer.is_some(),
        vouched,
        parts: Vec::new(),
        gaps: Vec::new(),
        all_gaps: media.gaps,
        down: Vec::new(),
        span: Stretch { from: 0, to: 0 },
        log,
    };
    report.tell_times(&media);
    (report.verdict, report.checks) = verdict::judge(&report);
    Ok(report)
}

fn read_log(ask: &Ask<'_>, key: Option<PublicKey>, recording: Option<RecordingId>) -> LogFacts {
    let options = VerifyOptions {
        key,
        ..ask.trust.clone()
    };
    let mut log = LogFacts {
        state: LogState::Unreadable,
        error: None,
        report: None,
        witnesses: options.witnesses.len(),
        history: History::default(),
    };
    match audit::verify(ask.log, &options) {
        Ok(report) => {
            log.state = match report.is_intact() {
                true => LogState::Intact,
                false => LogState::NotIntact,
            };
            log.report = Some(report);
        }
        Err(error) => {
            if matches!(error, VerifyError::OtherLog { .. }) {
                log.state = LogState::Another;
            }
            log.error = Some(error.to_string());
            return log;
        }
    }
    if let Err(error) = read_entries(ask.log, recording, &mut log.history) {
        log.state = LogState::Unreadable;
        log.error = Some(error.to_string());
    }
    log
}

fn read_entries(
    log: &Path,
    recording: Option<RecordingId>,
    history: &mut History,
) -> Result<(), VerifyError> {
    for item in Reader::open(log)? {
        match item? {
            Item::Entry {
                index,
                entry: Ok(entry),
                ..
            } => history.take(index, entry, recording),
            // Verification names each of them.
            Item::Entry { entry: Err(_), .. } => history.unreadable += 1,
            Item::Damage(_) => {}
        }
    }
    Ok(())
}

fn vouched(file: Option<&[u8]>, decoded: Option<&(Facts, Option<Attestation>)>) -> Vouched {
    let Some((facts, Some(attestation))) = decoded else {
        return Vouched::Nobody;
    };
    let verified = signed(file.unwrap_or_default()).and_then(|bytes| {
        let identity = attestation.verify(&bytes, facts.started / 1000, None);
        identity.map_err(|error| error.to_string())
    });
    match verified {
        Ok(identity) => Vouched::Certificate {
            subject: identity.subject,
            root: identity.root.to_string(),
        },
        Err(why) => Vouched::Broken(why),
    }
}

impl Report {
    /// Puts what was recorded onto the time of day.
    fn tell_times(&mut self, media: &Media) {
        let history = &self.log.history;
        let began = history.began.as_ref().map(|began| began.time);
        let facts = self.facts.as_ref();
        let started = facts.map(|facts| facts.started).or(began).unwrap_or(self.made);
        let opened = history.opened.iter();
        let clock = Clock::new(
            started,
            media.resumed.iter().copied(),
            opened.filter_map(|(track, time)| Some((*time, media.first_ns(TrackId(*track))?))),
        );
        // The recording's clock stands still while its recorder is down; the time of day does not.
        let stretches = |spans: &[(u64, u64)]| -> Vec<Stretch> {
            let mut all = Vec::new();
            for (mut from, to) in spans.iter().copied() {
                let first = media.resumed.partition_point(|(_, at)| *at <= from);
                let inside = media.resumed[first..].iter().map(|(_, at)| *at);
                for end in inside.take_while(|at| *at < to).chain([to]) {
                    let begin = clock.begin(from);
                    all.push(Stretch {
                        from: begin,
                        to: clock.end(end).max(begin),
                    });
                    from = end;
                }
            }
            all
        };
        self.parts = media
            .groups
            .iter()
            .map(|group| Part {
                sender: group.sender.clone(),
                medium: group.medium,
                tracks: group.tracks.clone(),
                stretches: stretches(group.spans.list()),
                missing: stretches(group.missing.list()),
                damaged: stretches(group.damaged.list()),
                damaged_ns: group.damaged.length(),
                joined: group.spans.joined().max(group.missing.joined()),
                ns: group.spans.length(),
                bytes: group.bytes,
                lost: group
                    .lost
                    .iter()
                    .map(|(cause, lost)| (cause.clone(), words::gap(cause).1, *lost))
                    .collect(),
            })
            .collect();
        self.gaps = media
            .longest()
            .into_iter()
            .map(|gap| Gap {
                at: clock.begin(gap.from_ns),
                from_ns: gap.from_ns,
                to_ns: gap.to_ns,
                part: gap.group,
                frames: gap.frames,
                cause: gap.cause.clone(),
            })
            .collect();
        self.down = media
            .resumed
            .iter()
            .map(|(time, at_ns)| Down {
                from: clock.end(*at_ns).min(*time),
                to: *time,
            })
            .collect();
        let ended = self.recording.end.as_ref().map(|(time, _)| *time);
        let turned = history.turns.list.last().map(|(time, _)| *time);
        let last = clock.end(media.last_ns);
        let to = ended.unwrap_or_else(|| turned.map_or(last, |turned| turned.max(last)));
        self.span = Stretch {
            from: started,
            to: to.max(started),
        };
    }

    /// Gaps that are not told one by one.
    pub fn more_gaps(&self) -> u64 {
        self.all_gaps
            .saturating_sub(self.gaps.len().min(MOST_GAPS) as u64)
    }

    /// How much is missing for causes of this kind: gaps, and nanoseconds of all of them together.
    pub fn lost(&self, wanted: Loss) -> Lost {
        let all = self.parts.iter().flat_map(|part| &part.lost);
        let of_kind = all.filter(|(_, loss, _)| *loss == wanted);
        of_kind.fold(Lost::default(), |sum, (_, _, lost)| Lost {
            gaps: sum.gaps + lost.gaps,
            frames: sum.frames.saturating_add(lost.frames),
            ns: sum.ns.saturating_add(lost.ns),
        })
    }

    /// What is missing for reasons that are nobody's will, in words; empty: nothing that is known of.
    pub fn missing(&self) -> String {
        let mut all = Vec::new();
        if !self.down.is_empty() {
            let down = words::between(0, self.time_down());
            all.push(format!("{down} while the recorder was down"));
        }
        let lost = self.lost(Loss::Recorder);
        if lost.gaps > 0 {
            all.push(format!(
                "{} that the recorder could not keep",
                words::length(lost.ns)
            ));
        }
        if self.recording.lost > 0 {
            let pieces = words::count(self.recording.lost, "piece", "pieces");
            all.push(format!("{pieces} at the end that could not be sealed"));
        }
        let lost = self.lost(Loss::Network);
        if lost.gaps > 0 {
            all.push(format!(
                "{} that never reached the recorder",
                words::length(lost.ns)
            ));
        }
        all.join("; ")
    }

    /// How long the recorder was down, in milliseconds.
    fn time_down(&self) -> u64 {
        let down = self.down.iter().map(|down| down.to - down.from);
        down.fold(0, u64::saturating_add)
    }

    /// How long the recording is, without the time in which its recorder was down, in milliseconds.
    pub fn length(&self) -> u64 {
        (self.span.to - self.span.from).saturating_sub(self.time_down())
    }
}
