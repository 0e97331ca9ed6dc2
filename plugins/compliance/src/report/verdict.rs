//! What a report comes to, in one word, and what that rests on. Pure.
//!
//! The word is the worst that holds. `complete` is said only where all of it was checked: every byte is as it was sealed,
//! the recording ended as it should, the recorder lost nothing, and the log that it names is intact and knows it.

use serde::Serialize;

use super::facts::{LogState, Report, Vouched};
use super::history::Turn;
use super::words::{self, Loss, count, length};
use crate::recording::State;

/// The verdict's word, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Everything that was to be recorded is there, and unchanged.
    Complete,
    /// What is there is unchanged, and the recorder missed something.
    Incomplete,
    /// It has no end.
    Unfinished,
    /// The recording may be good; what was done with it cannot be known.
    LogNotIntact,
    /// Something of it is changed, missing or too much.
    #[default]
    Damaged,
}

/// The verdict.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// In one word.
    pub word: Word,
    /// In one sentence.
    pub says: String,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It holds.
    Good,
    /// It could not be checked, or there is something to know about it.
    Note,
    /// It does not hold.
    Bad,
}

/// Something that was checked.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// How it went.
    pub mark: Mark,
    /// What it is about.
    pub about: &'static str,
    /// What was found.
    pub says: String,
}

/// Judges.
pub fn judge(report: &Report) -> (Verdict, Vec<Check>) {
    let mut judge = Judge {
        word: Word::Complete,
        checks: Vec::new(),
    };
    judge.unchanged(report);
    judge.ended(report);
    judge.nothing_lost(report);
    judge.log(report);
    judge.witnesses(report);
    judge.recorder(report);
    judge.keys(report);
    let incomplete;
    let says = match judge.word {
        Word::Complete => {
            "Everything that was recorded is here and unchanged, and the log of who did what is intact."
        }
        Word::Incomplete => {
            let missing = report.missing();
            incomplete = match missing.is_empty() {
                true => "What is here is unchanged, but the recording was ended by a fault.".to_owned(),
                false => format!("What is here is unchanged, but this is missing: {missing}."),
            };
            &incomplete
        }
        Word::Unfinished => {
            "The recording has no end: it is still being made, or its recorder died. What is here is unchanged."
        }
        Word::LogNotIntact => {
            "The log of who did what cannot be relied on. What this page says about accesses may be wrong."
        }
        Word::Damaged => {
            "Parts of the recording were changed, removed or added since it was made. Do not rely on it as it is."
        }
    };
    let also = match judge.word == Word::Damaged && report.log.state != LogState::Intact {
        true => " Neither can the log of who did what be relied on.",
        false => "",
    };
    let verdict = Verdict {
        word: judge.word,
        says: format!("{says}{also}"),
    };
    (verdict, judge.checks)
}

struct Judge {
    word: Word,
    checks: Vec<Check>,
}

impl Judge {
    fn good(&mut self, about: &'static str, says: impl Into<String>) {
        self.check(Mark::Good, about, says);
    }

    fn note(&mut self, about: &'static str, says: impl Into<String>) {
        self.check(Mark::Note, about, says);
    }

    fn bad(&mut self, word: Word, about: &'static str, says: impl Into<String>) {
        self.word = self.word.max(word);
        self.check(Mark::Bad, about, says);
    }

    fn check(&mut self, mark: Mark, about: &'static str, says: impl Into<String>) {
        self.checks.push(Check {
            mark,
            about,
            says: says.into(),
        });
    }

    fn unchanged(&mut self, report: &Report) {
        let about = "Unchanged";
        let found = &report.recording;
        if found.state == State::Damaged {
            let more = found.damages.len() as u64 + found.more_damages;
            let first = found.damages.first();
            let what = first.map_or_else(
                || "nothing of it could be checked".to_owned(),
                ToString::to_string,
            );
            let rest = match more {
                0 | 1 => String::new(),
                more => format!(", and {} more", count(more - 1, "fault", "faults")),
            };
            self.bad(Word::Damaged, about, format!("{what}{rest}."));
        } else {
            let members: u64 = found.tracks.iter().map(|track| track.good).sum();
            let pieces = count(members, "piece", "pieces");
            let size = words::size(found.bytes);
            self.good(
                about,
                format!("all {pieces} of media ({size}) are as they were when they were sealed."),
            );
        }
    }

    fn ended(&mut self, report: &Report) {
        let about = "Ended as it should";
        let turns = &report.log.history.turns.list;
        let failed = turns.iter().rev().find_map(|(_, turn)| match turn {
            Turn::Failed(cause, _) => Some(cause.as_str()),
            _ => None,
        });
        match (&report.recording.end, report.recording.state) {
            (None, State::Damaged) => self.note(about, "nothing says how it ended."),
            (None, _) => {
                let since = words::moment(report.span.to);
                let says = format!("there is no end record. The last that is known of it is from {since}.");
                self.bad(Word::Unfinished, about, says);
            }
            (Some((time, reason)), _) => {
                let when = words::moment(*time);
                let (word, note) = reason.split_once("; ").unwrap_or((reason, ""));
                let fault = ["disk-full", "write-failed", "log-unavailable"];
                let why = words::stop(word).map_or_else(|| format!("“{word}”"), str::to_owned);
                if fault.contains(&word) || failed.is_some() {
                    let says = format!("it was ended by a fault at {when}: {why}.");
                    self.bad(Word::Incomplete, about, says);
                } else {
                    self.good(about, format!("at {when}: {why}."));
                }
                if !note.is_empty() {
                    self.note(
                        "Entries that are not in the log",
                        format!("the recorder said at its end: {note}."),
                    );
                }
            }
        }
    }

    fn nothing_lost(&mut self, report: &Report) {
        let about = "Nothing missing";
        let found = &report.recording;
        let missing = report.missing();
        let crashed = match found.resumed {
            0 => String::new(),
            times => format!(
                " The recorder crashed {} and came back.",
                count(times, "time", "times")
            ),
        };
        let following = report.lost(Loss::Following);
        let waited = match following.gaps {
            0 => String::new(),
            gaps => format!(
                " Moving pictures waited {} ({} together) for a full picture to begin with.",
                count(gaps, "time", "times"),
                length(following.ns)
            ),
        };
        let recorders = found.lost > 0 || found.resumed > 0 || report.lost(Loss::Recorder).gaps > 0;
        if recorders {
            let says = format!("{missing}.{crashed}{waited} See “What is missing”.");
            self.bad(Word::Incomplete, about, says);
        } else if !missing.is_empty() || !waited.is_empty() {
            let says = match missing.is_empty() {
                true => format!("the recorder kept all that came.{waited}"),
                false => format!("the recorder kept all that came; {missing}.{waited}"),
            };
            self.note(about, says);
        } else if found.state == State::Complete {
            self.good(about, "the recorder kept all that came.");
        }
    }

    fn log(&mut self, report: &Report) {
        let about = "The log is intact";
        let log = &report.log;
        let error = || log.error.clone().unwrap_or_default();
        match (log.state, &log.report) {
            (LogState::Intact, Some(found)) => {
                let says = format!(
                    "all {} of it are in order.",
                    count(found.entries, "entry", "entries")
                );
                self.good(about, says);
            }
            (LogState::NotIntact, Some(found)) => {
                let first = found.damages.first().map(ToString::to_string).unwrap_or_default();
                let more = found.damages.len() as u64 + found.more_damages;
                let rest = match more {
                    0 | 1 => String::new(),
                    more => format!("; and {} more", count(more - 1, "fault", "faults")),
                };
                self.bad(Word::LogNotIntact, about, format!("it is not. {first}{rest}."));
            }
            (LogState::Another, _) => {
                let says = format!("it is not the log that this recording belongs to: {}.", error());
                self.bad(Word::LogNotIntact, about, says);
            }
            _ => self.bad(
                Word::LogNotIntact,
                about,
                format!("it could not be read: {}.", error()),
            ),
        }
        if log.report.is_none() || report.id.is_none() {
            return;
        }
        let about = "The log knows this recording";
        let began = log.history.began.is_some();
        match (log.history.entries, began) {
            (0, _) => self.bad(
                Word::LogNotIntact,
                about,
                "it does not: there is no entry about it. Who opened it cannot be known.",
            ),
            (entries, false) => self.bad(
                Word::LogNotIntact,
                about,
                format!(
                    "it does not say that it began, among {}.",
                    count(entries, "entry", "entries")
                ),
            ),
            (entries, true) => {
                self.good(
                    about,
                    format!("{} are about it.", count(entries, "entry", "entries")),
                );
            }
        }
    }

    fn witnesses(&mut self, report: &Report) {
        let about = "Seen by a witness";
        let Some(found) = &report.log.report else { return };
        let next = report.log.history.last.map_or(0, |last| last + 1);
        if report.log.witnesses == 0 {
            self.note(
                about,
                "no witness was named when this page was made. Whoever holds the log's key could have changed or \
                 removed entries.",
            );
        } else if found.anchored >= next && next > 0 {
            let anchor = found
                .anchors
                .iter()
                .filter(|anchor| anchor.holds)
                .map(|anchor| anchor.time)
                .max();
            let when = anchor.map_or_else(String::new, |time| {
                format!(" on {}", words::moment(time.saturating_mul(1000)))
            });
            let says = "a witness that was named saw all entries about this recording";
            self.good(
                about,
                format!("{says}{when}: nobody can have changed them since, unless together with it."),
            );
        } else {
            let all = count(
                found.entries - found.anchored.min(found.entries),
                "entry",
                "entries",
            );
            self.note(
                about,
                format!(
                    "not all of it: {all} at the log's end were seen by no witness that was named. Whoever holds the log's \
                     key could have changed or removed them."
                ),
            );
        }
    }

    fn recorder(&mut self, report: &Report) {
        let about = "A certified recorder made it";
        match &report.vouched {
            Vouched::Certificate { subject, root } => {
                let authority = root.get(..16).unwrap_or(root);
                let says = format!(
                    "its certificate names it {subject}. Whether the authority behind that ({authority}…) is one that \
                     you trust, this page does not know."
                );
                self.good(about, says);
            }
            Vouched::Nobody => self.note(
                about,
                "nobody vouches for the recorder: this recording was made without a room, or says nothing of it.",
            ),
            Vouched::Broken(why) => self.bad(Word::Damaged, about, format!("it cannot be shown: {why}.")),
        }
    }

    fn keys(&mut self, report: &Report) {
        let about = "Compared with known keys";
        let log = report.recording.pinned;
        let says = match (log, report.dealer_pinned) {
            (true, true) => "log and key dealer are those that were named when this page was made.",
            (true, false) => {
                "the log is the one that was named; who dealt the recording's key was not compared."
            }
            (false, true) => "the key dealer is the one that was named; the log's key was not compared.",
            (false, false) => {
                "not done: a recording and a log that were forged together would look genuine. See “How to check this \
                 page”."
            }
        };
        self.check(if log { Mark::Good } else { Mark::Note }, about, says);
    }
}
