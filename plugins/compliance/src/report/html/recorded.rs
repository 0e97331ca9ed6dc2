//! Who was there, what was recorded, and what is missing.

use super::{Cell, fields, p, section, small, table, whose};
use crate::audit::entry::{self, ConsentStatus};
use crate::report::facts::{Part, Report, Stretch};
use crate::report::history::Turn;
use crate::report::page::Page;
use crate::report::words::{self, Loss, between, clock, count, day, length, moment};
use crate::report::{timeline, verdict::Word};

pub fn time_line(page: &mut Page, report: &Report) {
    section(page, "time-line", "Time line", |page| {
        timeline::recording(page, report);
        page.tag("ul", &[("class", "legend"), ("aria-label", "Legend")], |page| {
            for (class, fill, text) in [
                ("on", None, "recording on"),
                ("pause", Some("url(#line-pause)"), "recording off"),
                (
                    "gap",
                    Some("url(#line-gap)"),
                    "missing, damaged, or recorder down",
                ),
                ("sound", None, "sound"),
                ("pictures", None, "pictures"),
                ("messages", None, "messages, data"),
            ] {
                page.tag("li", &[], |page| {
                    let mut swatch = vec![("class", class), ("width", "18"), ("height", "12")];
                    swatch.extend(fill.map(|fill| ("fill", fill)));
                    page.tag(
                        "svg",
                        &[("width", "18"), ("height", "12"), ("aria-hidden", "true")],
                        |page| {
                            page.element("rect", &swatch, "");
                        },
                    );
                    page.text(text);
                });
            }
        });
        let joined = report.parts.iter().filter_map(|part| part.joined).max();
        if let Some(joined) = joined {
            let says = "Some lines have too many pieces to draw: those with less than";
            small(
                page,
                &format!("{says} {} between them are drawn as one.", length(joined)),
            );
        }
        small(
            page,
            "An empty place in somebody's line while recording was on means that they sent nothing: they were muted, \
             away, or not in the room yet.",
        );
    });
}

pub fn people(page: &mut Page, report: &Report) {
    section(page, "people", "Who was there, and what was recorded", |page| {
        let recorders = &report.log.history.recorders;
        let moves = recorders.list.iter().take(40).map(|moved| {
            let what = match moved.certificate {
                Some(_) => " came into the room as its recorder",
                None => " left the room, or was removed from it",
            };
            (moved.time, moved.recorder.to_string(), what)
        });
        let moves: Vec<_> = moves.collect();
        if !moves.is_empty() {
            page.tag("ul", &[], |page| {
                for (time, recorder, what) in moves {
                    page.tag("li", &[], |page| {
                        page.text(&format!("{}: ", moment(time)));
                        page.outside(&recorder);
                        page.text(&format!("{what}."));
                    });
                }
            });
        }
        let members = report
            .log
            .history
            .epochs
            .list
            .iter()
            .filter_map(|epoch| epoch.members);
        if let (Some(least), Some(most)) = (members.clone().min(), members.max()) {
            let many = match least == most {
                true => format!("{most} at all times that the log tells of"),
                false => format!("between {least} and {most}, see “Epochs”"),
            };
            p(
                page,
                &format!("Members in the room, the recorder among them: {many}."),
            );
        }
        if report.parts.is_empty() {
            p(page, "Nothing was recorded.");
            return;
        }
        let rows = report.parts.iter().map(|part| {
            [
                whose(part),
                Cell::own(words::medium(part.medium)),
                Cell::own(times(&part.stretches)),
                Cell::own(length(part.ns)),
                Cell::own(part_missing(part)),
            ]
        });
        table(
            page,
            "By person and medium. Names are the ids that the room uses; whose they are is known elsewhere.",
            ["Who", "What", "From – to (UTC)", "Recorded", "Missing"],
            rows.collect(),
        );
    });
}

fn times(stretches: &[Stretch]) -> String {
    let (Some(first), Some(last)) = (stretches.first(), stretches.last()) else {
        return "never".to_owned();
    };
    let end = match day(first.from) == day(last.to) {
        true => clock(last.to),
        false => moment(last.to).replace(" UTC", ""),
    };
    let pieces = match stretches.len() {
        1 => String::new(),
        pieces => format!(", in {pieces} pieces"),
    };
    format!("{} – {end}{pieces}", moment(first.from).replace(" UTC", ""))
}

fn part_missing(part: &Part) -> String {
    let lost = part.lost.iter().filter(|(_, loss, _)| *loss != Loss::Intended);
    let (gaps, ns) = lost.fold((0, 0_u64), |(gaps, ns), (_, _, lost)| {
        (gaps + lost.gaps, ns.saturating_add(lost.ns))
    });
    let damaged = format!("{} damaged", length(part.damaged_ns));
    match (gaps, part.damaged_ns) {
        (0, 0) => "nothing noted".to_owned(),
        (0, _) => damaged,
        (gaps, of) => {
            let missing = format!("{} in {}", length(ns), count(gaps, "gap", "gaps"));
            if of > 0 {
                format!("{missing}; {damaged}")
            } else {
                missing
            }
        }
    }
}

pub fn missing(page: &mut Page, report: &Report) {
    section(page, "missing", "What is missing", |page| {
        if report.all_gaps == 0 && report.down.is_empty() && report.recording.lost == 0 {
            p(
                page,
                match report.verdict.word {
                    Word::Damaged => "The recorder noted no gap. What is damaged is listed further below.",
                    _ => "The recorder noted no gap.",
                },
            );
            return;
        }
        page.tag("ul", &[], |page| {
            for down in report.down.iter().take(40) {
                page.element(
                    "li",
                    &[],
                    &format!(
                        "Everything for {}: the recorder crashed at about {} and came back at {}.",
                        between(down.from, down.to),
                        moment(down.from),
                        clock(down.to)
                    ),
                );
            }
            if report.recording.lost > 0 {
                let pieces = count(report.recording.lost, "piece", "pieces");
                page.element(
                    "li",
                    &[],
                    &format!("{pieces} of media at the very end, which could not be sealed."),
                );
            }
        });
        if report.gaps.is_empty() {
            return;
        }
        let rows = report.gaps.iter().filter_map(|gap| {
            let part = report.parts.get(gap.part)?;
            let long = length(gap.to_ns - gap.from_ns);
            let of = match part.sender.as_str() {
                "" => Cell::own(format!("{long} of {} are missing: ", words::medium(part.medium))),
                sender => Cell::All(vec![
                    Cell::own(format!("{long} of ")),
                    Cell::other(sender),
                    Cell::own(format!("'s {} are missing: ", words::medium(part.medium))),
                ]),
            };
            let why = words::gap(&gap.cause).0.map_or_else(
                || Cell::All(vec![Cell::own("cause "), Cell::other(&gap.cause)]),
                Cell::own,
            );
            Some([Cell::own(moment(gap.at)), Cell::All(vec![of, why])])
        });
        table(
            page,
            "Gaps that the recorder noted, in order.",
            ["When", "What"],
            rows.collect(),
        );
        if report.more_gaps() > 0 {
            let more = count(report.more_gaps(), "shorter one is", "shorter ones are");
            p(
                page,
                &format!("These are the longest ones. {more} summed up here:"),
            );
            let sums = report
                .parts
                .iter()
                .flat_map(|part| part.lost.iter().map(move |lost| (part, lost)));
            let rows = sums.map(|(part, (cause, _, lost))| {
                let why = words::gap(cause).0.map_or_else(|| Cell::other(cause), Cell::own);
                [
                    whose(part),
                    Cell::own(words::medium(part.medium)),
                    Cell::own(format!(
                        "{} in {}",
                        length(lost.ns),
                        count(lost.gaps, "gap", "gaps")
                    )),
                    why,
                ]
            });
            table(
                page,
                "All gaps together, by cause.",
                ["Who", "What", "Missing", "Why"],
                rows.collect(),
            );
        }
    });
}

pub fn states(page: &mut Page, report: &Report) {
    section(page, "states", "When recording was on and off", |page| {
        let turns = &report.log.history.turns;
        if turns.list.is_empty() {
            p(
                page,
                "The log does not say. The recording itself has only its beginning and its end.",
            );
            return;
        }
        let rows = turns.list.iter().map(|(time, turn)| {
            let why = |before: &str, cause: &str| {
                let why = words::stop(cause).map_or_else(|| Cell::other(cause), Cell::own);
                Cell::All(vec![Cell::own(before), why])
            };
            let what = match turn {
                Turn::Started => Cell::own("recording began"),
                Turn::Resumed => Cell::own("recording went on"),
                Turn::Paused(cause) => why("recording paused: ", cause),
                Turn::Stopped(cause) => why("recording ended: ", cause),
                Turn::Failed(cause, reason) => Cell::All(vec![
                    why("recording ended by a fault: ", cause),
                    Cell::own(". The system said: "),
                    Cell::other(reason),
                ]),
                Turn::Recovered(_) => Cell::own("the recorder came back after a crash"),
            };
            [Cell::own(moment(*time)), what]
        });
        table(
            page,
            "As the log has it.",
            ["When", "What happened"],
            rows.collect(),
        );
        more(page, turns.more);
        for (time, by) in report.log.history.jumps.list.iter().take(20) {
            let by = length(by.unsigned_abs().saturating_mul(1_000_000));
            let how = if report
                .log
                .history
                .jumps
                .list
                .iter()
                .any(|(at, ms)| at == time && *ms < 0)
            {
                "back"
            } else {
                "forward"
            };
            p(
                page,
                &format!(
                    "{}: the clock of the recorder's machine was set {how} by {by}. Times before and after do not fit together.",
                    moment(*time)
                ),
            );
        }
    });
}

fn more(page: &mut Page, more: u64) {
    if more > 0 {
        let entries = count(more, "further entry is", "further entries are");
        small(
            page,
            &format!("{entries} left out here; gst-compliance audit show has them."),
        );
    }
}

fn claim(claim: entry::Claim) -> &'static str {
    match claim {
        entry::Claim::Strict => "only those in the room",
        entry::Claim::Recorded => "those in the room, the recorder, the recipients",
        entry::Claim::Escrow => "those in the room, the recorder, custodians together",
        entry::Claim::Unattested => "not known",
    }
}

pub fn epochs(page: &mut Page, report: &Report) {
    section(page, "epochs", "Epochs", |page| {
        p(
            page,
            "Whenever somebody joins or leaves, or a setting changes, the room takes new keys: a new epoch begins. Who is \
             not in it cannot open what is sent in it.",
        );
        let history = &report.log.history;
        let mut rows: Vec<_> = history
            .began
            .iter()
            .map(|began| {
                [
                    Cell::own(began.epoch.to_string()),
                    Cell::own(moment(began.time)),
                    Cell::own("on, recording began"),
                    Cell::own("not said"),
                    Cell::own(claim(began.claim)),
                ]
            })
            .collect();
        rows.extend(history.epochs.list.iter().map(|epoch| {
            [
                Cell::own(epoch.epoch.to_string()),
                Cell::own(moment(epoch.time)),
                Cell::own(if epoch.on { "on" } else { "off" }),
                Cell::own(
                    epoch
                        .members
                        .map_or_else(|| "not said".to_owned(), |members| members.to_string()),
                ),
                Cell::own(claim(epoch.claim)),
            ]
        }));
        if rows.is_empty() {
            p(page, "The log tells of none.");
            return;
        }
        table(
            page,
            "Epochs while there was this recording.",
            ["Epoch", "Since", "Recording", "Members", "Who held keys"],
            rows,
        );
        more(page, history.epochs.more);
    });
}

pub fn consent(page: &mut Page, report: &Report) {
    section(page, "consent", "Consent", |page| {
        let consents = &report.log.history.consents;
        let reference = report.facts.as_ref().and_then(|facts| facts.consent.as_deref());
        match reference {
            Some(reference) => page.tag("p", &[], |page| {
                page.text("The room's rules refer to a consent by this salted digest; who has the consent can compare: ");
                Cell::code(reference).put(page);
            }),
            None => p(page, "The recording refers to no consent."),
        }
        if consents.list.is_empty() {
            p(page, "The log does not say how the consent stood.");
            return;
        }
        let rows = consents.list.iter().map(|consent| {
            let status = match consent.status {
                ConsentStatus::Valid => "it permitted the recording",
                ConsentStatus::Withdrawn => "it was withdrawn, or not in force",
                ConsentStatus::OutsidePeriod => "its time was over, or had not begun",
                ConsentStatus::Refused => "it did not permit the recording",
                ConsentStatus::Unusable => "it was another one than the room named, or could not be read",
            };
            let other = consent
                .reference
                .map(|of| of.to_string())
                .filter(|of| Some(of.as_str()) != reference);
            let which = other.map_or_else(Vec::new, |of| vec![("of another consent".to_owned(), of)]);
            [
                Cell::own(moment(consent.time)),
                Cell::All(vec![
                    Cell::own(status),
                    Cell::own(if which.is_empty() { "" } else { "; " }),
                    fields(&which),
                ]),
            ]
        });
        table(
            page,
            "How it stood, each time it was looked at.",
            ["When", "How it stood"],
            rows.collect(),
        );
        more(page, consents.more);
    });
}
