//! The end of the page: what else the log says, what is damaged, how to check the page, and what words mean.

use super::{Cell, bounded, fields, p, section, small, table};
use crate::report::facts::Report;
use crate::report::page::Page;
use crate::report::words::{count, moment};

/// Most faults that are told one by one.
const MOST_FAULTS: usize = 100;

pub fn others(page: &mut Page, report: &Report) {
    let others = &report.log.history.others;
    if others.count() == 0 && report.log.history.unreadable == 0 {
        return;
    }
    section(page, "others", "Everything else that the log says", |page| {
        if others.count() > 0 {
            let rows = others.list.iter().map(|other| {
                [
                    Cell::own(moment(other.time)),
                    Cell::other(other.kind.replace('-', " ")),
                    fields(&other.fields),
                ]
            });
            table(
                page,
                "Entries about this recording of other kinds.",
                ["When", "What", "Details"],
                rows.collect(),
            );
        }
        if others.more > 0 {
            small(page, &format!("And {}.", count(others.more, "more", "more")));
        }
        if report.log.history.unreadable > 0 {
            let entries = count(report.log.history.unreadable, "entry", "entries");
            p(
                page,
                &format!(
                    "{entries} of the log cannot be read by this program, and may be about this recording."
                ),
            );
        }
    });
}

pub fn faults(page: &mut Page, report: &Report) {
    let recording = &report.recording;
    let log = report.log.report.as_ref();
    let of_log = log.map_or(0, |log| log.damages.len());
    if recording.damages.is_empty() && of_log == 0 {
        return;
    }
    section(page, "damage", "What is damaged", |page| {
        let mut list = |title: &str, all: Vec<String>, more: u64| {
            if all.is_empty() {
                return;
            }
            page.element("h3", &[], title);
            page.tag("ul", &[], |page| {
                for fault in all.iter().take(MOST_FAULTS) {
                    page.element("li", &[], &bounded(fault));
                }
                let more = more + all.len().saturating_sub(MOST_FAULTS) as u64;
                if more > 0 {
                    page.element("li", &[], &format!("and {}", count(more, "more", "more")));
                }
            });
        };
        list(
            "Of the recording",
            recording.damages.iter().map(ToString::to_string).collect(),
            recording.more_damages,
        );
        if let Some(log) = log {
            list(
                "Of the log",
                log.damages.iter().map(ToString::to_string).collect(),
                log.more_damages,
            );
        }
        small(
            page,
            "A “member” is a piece of media of about a second, a “line of the manifest” what the recorder signed about one.",
        );
    });
}

pub fn how_to_check(page: &mut Page, report: &Report) {
    section(page, "check", "How to check this page", |page| {
        p(
            page,
            "Somebody with the recording's folder (REC) and the log's folder (LOG) can check all of it, without any key \
             that opens media:",
        );
        let facts = report.facts.as_ref();
        let key = facts
            .map(|facts| facts.log_key)
            .or(report.log.report.as_ref().map(|log| log.key));
        let key = key.map_or_else(|| "KEY".to_owned(), |key| key.to_string());
        let dealer = facts.map_or_else(|| "KEY".to_owned(), |facts| facts.dealer.to_string());
        let id = report.id.map_or_else(|| "ID".to_owned(), |id| id.to_string());
        for command in [
            format!("gst-compliance verify REC --log-key {key} --dealer {dealer}"),
            format!("gst-compliance audit verify LOG --key {key} --witness WITNESS"),
            format!("gst-compliance audit show LOG --recording {id}"),
        ] {
            page.element("pre", &[], &command);
        }
        p(
            page,
            "The two keys above are those that the recording names. Compare them with what you were given elsewhere, on \
             paper or by the people who run the recorder and who dealt the keys: a recording that was forged as a whole \
             brings keys of its own. WITNESS is the folder or the key of a witness that you trust.",
        );
        p(
            page,
            match report.by.is_some() {
                true => {
                    "That this page was made, and by whom, stands in the log as an entry “reported” with the SHA-256 of the \
                     page: “sha256sum report.html” shows whether this is the page."
                }
                false => {
                    "The making of this page left no entry in the log, as was asked for (--no-log-entry): the log does not \
                     tell whether this is the page as it was made."
                }
            },
        );
        if let Some(log) = &report.log.report {
            let seen = log.anchors.iter().filter(|anchor| anchor.holds).map(|anchor| {
                let time = moment(anchor.time.saturating_mul(1000));
                format!(
                    "{} of the log were seen by the witness {} at {time}.",
                    count(anchor.entries, "entry", "entries"),
                    anchor.witness
                )
            });
            let seen: Vec<_> = seen.take(20).collect();
            for line in seen {
                p(page, &bounded(&line));
            }
            let root = report.recording.root.map_or_else(String::new, |root| {
                format!(" The recording's own lines: {}, root {}.", root.lines, root.root)
            });
            small(
                page,
                &format!(
                    "The log had {} when this page was made.{root}",
                    count(log.entries, "entry", "entries")
                ),
            );
        }
    });
}

pub fn glossary(page: &mut Page) {
    section(page, "words", "Words", |page| {
        page.tag("dl", &[("class", "glance")], |page| {
            for (word, means) in [
                ("Recorder", "a program that is in the room like a person, named to everybody, and keeps what it receives, encrypted."),
                ("Log", "the audit log: a list that can only grow, of who did what with recordings, when and why."),
                ("Witness", "another machine, under other people, that signs what the log had. What it signed nobody can change unseen."),
                ("Epoch", "a time in which the same members hold the same keys."),
                ("Gap", "media that should have been recorded and was not. The recorder notes it, with its cause."),
                ("Recipient", "somebody whose key opens the recording, alone."),
                ("Custodian", "somebody who holds a share of a key. Several together open a recording: break-glass."),
                ("Fingerprint", "a long number that stands for a key. Two that are equal mean the same key."),
            ] {
                page.element("dt", &[], word);
                page.element("dd", &[], means);
            }
        });
    });
}

pub fn footer(page: &mut Page, report: &Report) {
    page.tag("footer", &[], |page| {
        small(
            page,
            &format!(
                "Made by gst-compliance {} on {}. This page holds no media, loads nothing and runs nothing.",
                env!("CARGO_PKG_VERSION"),
                moment(report.made)
            ),
        );
    });
}
