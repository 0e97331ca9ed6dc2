//! The top of the page: what it comes to, what that rests on, and what it does not show.

use super::{Cell, bounded, p, small};
use crate::recording::{Claim, Medium, State};
use crate::report::accesses::{Kind, Outcome};
use crate::report::facts::{LogState, Report};
use crate::report::page::Page;
use crate::report::verdict::{Mark, Word};
use crate::report::words::{self, clock, count, day, length, moment};

/// The verdict in words, and its colour.
pub fn word(word: Word) -> (&'static str, &'static str) {
    match word {
        Word::Complete => ("Complete", "good"),
        Word::Incomplete => ("Incomplete", "note"),
        Word::Unfinished => ("Unfinished", "note"),
        Word::LogNotIntact => ("The log is not intact", "bad"),
        Word::Damaged => ("Damaged", "bad"),
    }
}

pub fn header(page: &mut Page, report: &Report) {
    page.tag("header", &[], |page| {
        page.element("h1", &[], "Report on a recording");
        page.tag("p", &[("class", "small")], |page| {
            page.text("Recording ");
            match report.id {
                Some(id) => Cell::code(id).put(page),
                None => page.text("without a readable id"),
            }
            page.text(&format!(" · report made {}", moment(report.made)));
            if let Some(by) = &report.by {
                page.text(" by ");
                Cell::other(by).put(page);
            }
            page.text(" · all times are UTC (+00:00)");
        });
    });
}

pub fn verdict(page: &mut Page, report: &Report) {
    let (word, class) = word(report.verdict.word);
    page.tag(
        "section",
        &[
            ("class", &format!("verdict {class}")),
            ("aria-labelledby", "verdict"),
        ],
        |page| {
            page.element("h2", &[("id", "verdict")], word);
            p(page, &report.verdict.says);
        },
    );
    page.tag(
        "ul",
        &[("class", "checks"), ("aria-label", "What that rests on")],
        |page| {
            for check in &report.checks {
                let (mark, class) = match check.mark {
                    Mark::Good => ("✓ yes", "good"),
                    Mark::Note => ("! note", "note"),
                    Mark::Bad => ("✗ no", "bad"),
                };
                page.tag("li", &[], |page| {
                    page.element("span", &[("class", &format!("mark {class}"))], mark);
                    page.tag("span", &[], |page| {
                        page.element("strong", &[], check.about);
                        page.text(": ");
                        page.text(&bounded(&check.says));
                    });
                });
            }
        },
    );
}

pub fn glance(page: &mut Page, report: &Report) {
    super::section(page, "glance", "At a glance", |page| {
        page.tag("dl", &[("class", "glance")], |page| {
            let mut row = |name: &str, cell: Cell| {
                page.element("dt", &[], name);
                page.tag("dd", &[], |page| cell.put(page));
            };
            row("When", Cell::own(when(report)));
            row("Who sent something", senders(report));
            row("What", Cell::own(media(report)));
            row("Missing", Cell::own(missing(report)));
            row("Opened", Cell::own(opened(report)));
            if let Some(facts) = &report.facts {
                row("Who held keys", Cell::own(claim(facts.claim)));
                if let Some(room) = &facts.room {
                    row("Room", Cell::other(room));
                }
                if let Some(recorder) = &facts.recorder {
                    row("Recorder", Cell::other(recorder));
                }
                if let Some(days) = facts.retention_days {
                    let until = facts.started.saturating_add(u64::from(days) * 86_400_000);
                    let days = count(days.into(), "day", "days");
                    row("To be kept", Cell::own(format!("{days}, until {}", day(until))));
                }
            }
        });
    });
}

fn when(report: &Report) -> String {
    let (from, to) = (report.span.from, report.span.to);
    if report.facts.is_none() && report.log.history.began.is_none() {
        return "not known".to_owned();
    }
    let end = match day(from) == day(to) {
        true => clock(to),
        false => moment(to).replace(" UTC", ""),
    };
    let open = if report.recording.end.is_none() {
        "at least "
    } else {
        ""
    };
    let long = length(report.length().saturating_mul(1_000_000));
    format!("{} to {open}{end} UTC ({long})", moment(from).replace(" UTC", ""))
}

fn senders(report: &Report) -> Cell {
    let mut names: Vec<&str> = Vec::new();
    for part in report.parts.iter().filter(|part| !part.sender.is_empty()) {
        if !names.contains(&part.sender.as_str()) {
            names.push(&part.sender);
        }
    }
    if names.is_empty() {
        return Cell::own("nobody is named");
    }
    let mut cells = Vec::new();
    for (index, name) in names.iter().take(12).enumerate() {
        if index > 0 {
            cells.push(Cell::own(", "));
        }
        cells.push(Cell::other(name));
    }
    if names.len() > 12 {
        cells.push(Cell::own(format!(" and {} more", names.len() - 12)));
    }
    Cell::All(cells)
}

fn media(report: &Report) -> String {
    let all = [
        Some(Medium::Audio),
        Some(Medium::Video),
        Some(Medium::Text),
        Some(Medium::Data),
        None,
    ];
    let has = |medium: &&Option<Medium>| {
        report
            .parts
            .iter()
            .any(|part| part.medium == **medium && part.ns > 0)
    };
    let found: Vec<_> = all
        .iter()
        .filter(has)
        .map(|medium| words::medium(*medium))
        .collect();
    match found.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
    }
}

fn missing(report: &Report) -> String {
    let mut all = report.missing();
    if report.recording.state == State::Damaged {
        let damaged = "what was changed or removed since (see “What is damaged”)";
        all = if all.is_empty() {
            damaged.to_owned()
        } else {
            format!("{damaged}; {all}")
        };
    }
    match all.is_empty() {
        true => "nothing that is known of".to_owned(),
        false => all,
    }
}

fn opened(report: &Report) -> String {
    if !matches!(report.log.state, LogState::Intact | LogState::NotIntact) {
        return "not known, without the log".to_owned();
    }
    let accesses = &report.log.history.accesses;
    let outcomes: Vec<_> = accesses
        .list
        .iter()
        .map(|access| access.outcome(report.made))
        .collect();
    let times =
        |wanted: &[Outcome]| outcomes.iter().filter(|outcome| wanted.contains(outcome)).count() as u64;
    let (opened, denied) = (
        times(&[Outcome::Opened, Outcome::Open]),
        times(&[Outcome::Denied]),
    );
    let mut text = match opened {
        0 => "never, as far as the log says".to_owned(),
        times => count(times, "time", "times"),
    };
    let exported = accesses
        .list
        .iter()
        .filter(|access| access.has(Kind::Exported))
        .count() as u64;
    if exported > 0 {
        text.push_str(&format!(", copied out {}", count(exported, "time", "times")));
    }
    if denied > 0 {
        text.push_str(&format!(", denied {}", count(denied, "time", "times")));
    }
    if report.log.state == LogState::NotIntact {
        text.push_str("; but the log is not intact");
    }
    if accesses.more > 0 {
        text.push_str(", and there are more entries than could be counted here");
    }
    text
}

pub fn claim(claim: Claim) -> &'static str {
    match claim {
        Claim::Recorded => {
            "those in the room, the recorder that the room admitted, and the recipients named below, each alone"
        }
        Claim::Escrow => {
            "those in the room, the recorder that the room admitted, and the custodians below, several together"
        }
        Claim::Unattested => "not known: no room vouched for this recording",
    }
}

/// What nobody should read out of the page.
pub fn limits(page: &mut Page, report: &Report) {
    page.tag("section", &[("class", "limits"), ("aria-labelledby", "limits")], |page| {
        page.element("h2", &[("id", "limits")], "What this page does not show");
        page.tag("ul", &[], |page| {
            let mut item = |text: &str| page.element("li", &[], text);
            if let Some(unseen) = unseen(report) {
                item(&unseen);
            }
            if report.facts.as_ref().is_none_or(|facts| facts.escrow.is_none()) {
                item(
                    "A recipient can open the recording alone, with ordinary tools, and leave no trace. Only openings by \
                     this product's programs are in the log.",
                );
            }
            item("Who was in the room and sent nothing: the log counts people, it does not name them.");
            item(
                "Whose voice or face it is. The recording shows that somebody in the room sent it; ids are as good as the \
                 certificates behind them, until people compare codes (unverified here).",
            );
            item(
                "That nobody else recorded. Anybody in the room can keep what they see and hear. And “off” is a promise of \
                 the recorder, as long as it is in the room.",
            );
            item("That the clocks were right. Times are those of the recorder's machine; of media they are exact to about two seconds.");
        });
        small(page, "Encryption is not compliance, and nothing here is legal advice.");
    });
}

fn unseen(report: &Report) -> Option<String> {
    let found = report.log.report.as_ref()?;
    let unseen = found.entries.saturating_sub(found.anchored);
    if unseen == 0 {
        return None;
    }
    let which = match found.anchored {
        0 => "That the log was not rewritten: none of it was".to_owned(),
        _ => format!(
            "That the last {} of the log were not rewritten: they were not",
            count(unseen, "entry", "entries")
        ),
    };
    Some(format!(
        "{which} seen by a witness that was named here, so whoever holds its key could have."
    ))
}
