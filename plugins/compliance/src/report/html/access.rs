//! Who can open the recording, and who did.

use super::{Cell, fields, p, section, small, table};
use crate::report::accesses::{Access, Kind, Outcome, Step};
use crate::report::facts::Report;
use crate::report::page::Page;
use crate::report::timeline;
use crate::report::words::{self, between, count, moment};

/// Most accesses that have a place of their own on the page.
const MOST: usize = 200;

pub fn who_can(page: &mut Page, report: &Report) {
    section(page, "who-can", "Who can open it", |page| {
        let began = report.log.history.began.as_ref();
        let facts = report.facts.as_ref();
        let recipients = facts
            .map(|facts| &facts.recipients)
            .or(began.map(|began| &began.recipients));
        let escrow = facts.and_then(|facts| facts.escrow.as_ref());
        let custodians = escrow.map(|escrow| (u32::from(escrow.m), u32::from(escrow.n), escrow.fingerprint));
        let custodians = custodians.or(began
            .and_then(|began| began.custodians.as_ref())
            .map(|custodians| (custodians.threshold, custodians.shares, custodians.fingerprint)));
        if recipients.is_none() && custodians.is_none() {
            p(
                page,
                "Neither the recording nor the log says it in a way that can be relied on.",
            );
        }
        if let Some((m, n, fingerprint)) = custodians {
            page.tag("p", &[], |page| {
                page.text(&format!(
                    "No one person. Any {m} of {n} custodians together can; the fingerprint of this group is "
                ));
                Cell::code(fingerprint).put(page);
                page.text(".");
            });
        }
        if let Some(recipients) = recipients.filter(|recipients| !recipients.is_empty()) {
            let many = count(recipients.len() as u64, "recipient", "recipients");
            p(
                page,
                &format!(
                    "{many}, each alone. A fingerprint stands for a key; whose key it is, the list of your recipients says."
                ),
            );
            page.tag("ul", &[], |page| {
                for recipient in recipients.iter().take(super::MOST_ROWS) {
                    page.tag("li", &[], |page| Cell::code(recipient).put(page));
                }
            });
        }
        let rewraps = &report.log.history.rewraps;
        if rewraps.list.is_empty() {
            p(
                page,
                "Its key was not given to others later, as far as the log says.",
            );
            return;
        }
        p(
            page,
            "Later its key was wrapped anew, for others. That does not take it from who had it before: copies of the old \
             key file still open.",
        );
        for rewrap in rewraps.list.iter().take(50) {
            page.tag("div", &[("class", "access note")], |page| {
                page.tag("h3", &[], |page| {
                    page.text(&format!("{} by ", moment(rewrap.time)));
                    page.outside(rewrap.by.as_str());
                });
                page.tag("p", &[], |page| {
                    page.text("Why: ");
                    page.outside(&rewrap.reason);
                    if !rewrap.more.is_empty() {
                        page.text(". ");
                        fields(&rewrap.more).put(page);
                    }
                });
                p(page, "From then on, each alone:");
                page.tag("ul", &[], |page| {
                    for recipient in rewrap.recipients.iter().take(20) {
                        page.tag("li", &[], |page| Cell::code(recipient).put(page));
                    }
                    match rewrap.recipients.len() {
                        0 => page.element("li", &[], "nobody"),
                        many if many > 20 => page.element("li", &[], &format!("and {} more", many - 20)),
                        _ => {}
                    }
                });
            });
        }
        let more = rewraps.count().saturating_sub(50);
        if more > 0 {
            small(page, &format!("And {} more.", count(more, "time", "times")));
        }
    });
}

pub fn who_did(page: &mut Page, report: &Report) {
    section(page, "accesses", "Who opened it", |page| {
        let accesses = &report.log.history.accesses;
        if report.log.report.is_none() {
            p(page, "Not known: the log cannot be read.");
            return;
        }
        if accesses.list.is_empty() {
            p(page, "Nobody, as far as the log says.");
            return;
        }
        timeline::accesses(page, report);
        page.tag("ul", &[("class", "legend"), ("aria-label", "Legend")], |page| {
            for kind in [
                Kind::Requested,
                Kind::Approved,
                Kind::Denied,
                Kind::Opened,
                Kind::Ended,
                Kind::Exported,
            ] {
                let (word, class, path) = timeline::shape(kind);
                page.tag("li", &[], |page| {
                    let view = [
                        ("width", "14"),
                        ("height", "14"),
                        ("viewBox", "-8 -1 16 16"),
                        ("aria-hidden", "true"),
                    ];
                    page.tag("svg", &view, |page| {
                        page.element("path", &[("class", class), ("d", path)], "")
                    });
                    page.text(word);
                });
            }
        });
        for access in accesses.list.iter().take(MOST) {
            card(page, report, access);
        }
        let more = accesses.list.len().saturating_sub(MOST) as u64;
        if more > 0 || accesses.more > 0 {
            let entries = match accesses.more {
                0 => String::new(),
                more => format!(", and {} about further ones", count(more, "entry", "entries")),
            };
            p(
                page,
                &format!(
                    "{}{entries} are left out here. “gst-compliance audit show LOG --recording ID” has them all.",
                    count(more, "more access", "more accesses")
                ),
            );
        }
    });
}

fn card(page: &mut Page, report: &Report, access: &Access) {
    let (came, class) = came(report, access);
    page.tag("article", &[("class", &format!("access {class}"))], |page| {
        page.tag("h3", &[], |page| {
            page.outside(access.who.as_deref().unwrap_or("somebody"));
            page.text(&format!(": {came}"));
        });
        page.tag("p", &[], |page| {
            page.text("Why: ");
            match &access.reason {
                Some(reason) => page.outside(reason),
                None => page.text("no reason is in the log"),
            }
            if let Some(ticket) = &access.ticket {
                page.text(" · Case: ");
                page.outside(ticket);
            }
            if let Some(way) = &access.way {
                page.text(" · Way: ");
                page.text(match way.as_str() {
                    "recipient" => "alone, as a recipient",
                    "break-glass" => "by custodians together (break-glass)",
                    "drill" => "a drill",
                    _ => "another",
                });
            }
            if let Some(expires) = access.expires {
                page.text(&format!(" · Asked for until {}", moment(expires)));
            }
        });
        page.tag("ol", &[], |page| {
            for step in &access.steps {
                page.tag("li", &[], |page| told(page, step));
            }
        });
        if access.more_steps > 0 {
            small(
                page,
                &format!("And {}.", count(access.more_steps, "more step", "more steps")),
            );
        }
        if access.has(Kind::Opened)
            && access.way.as_deref() == Some("break-glass")
            && !access.has(Kind::Requested)
        {
            p(page, "No request for this opening is in the log.");
        }
        page.tag("p", &[("class", "small")], |page| {
            page.text("Access ");
            Cell::code(&access.id).put(page);
        });
    });
}

/// One step, in a sentence. What has no words of its own stands behind it.
fn told(page: &mut Page, step: &Step) {
    let mut rest = step.more.clone();
    let mut take = |name: &str| {
        let at = rest.iter().position(|(of, _)| of == name)?;
        Some(rest.remove(at).1)
    };
    let (what, details): (_, Vec<(&str, Option<String>)>) = match step.kind {
        Kind::Requested => (
            "asked for",
            vec![(", to be opened to the key ", take("recipient"))],
        ),
        Kind::Approved => ("approved", vec![(" with share ", take("share"))]),
        Kind::Denied => ("denied", vec![(": ", take("reason"))]),
        Kind::Opened => ("opened", vec![(", only the tracks ", take("tracks"))]),
        Kind::Ended => ("closed", vec![(", pieces of media read: ", take("members"))]),
        Kind::Exported => {
            let bytes = take("bytes").map(|bytes| bytes.parse().map_or(bytes, words::size));
            let all = vec![
                (" as ", take("format")),
                (", ", bytes.map(|bytes| bytes.replace('\u{a0}', " "))),
                (", to ", take("destination")),
                (", SHA-256 ", take("sha256")),
            ];
            ("copied out", all)
        }
    };
    page.text(&format!("{}: {what}", moment(step.time)));
    if let Some(by) = &step.by {
        page.text(" by ");
        page.outside(by);
    }
    for (before, text) in details {
        if let Some(text) = text {
            page.text(before);
            page.outside(&text);
        }
    }
    if !rest.is_empty() {
        page.text(" (");
        fields(&rest).put(page);
        page.text(")");
    }
}

/// What came of an access, in words, and how it looks.
fn came(report: &Report, access: &Access) -> (String, &'static str) {
    let approvals = access.count(Kind::Approved) as u64;
    let approved = match approvals {
        0 => String::new(),
        n => format!(", approved {}", count(n, "time", "times")),
    };
    match access.outcome(report.made) {
        Outcome::Opened => {
            let pieces = access.members.map_or_else(String::new, |members| {
                format!(", {} read", count(members, "piece of media", "pieces of media"))
            });
            let copied = if access.has(Kind::Exported) {
                ", and copied it out"
            } else {
                ""
            };
            (format!("opened it{pieces}{copied}"), "good")
        }
        Outcome::Open => ("opened it; that it ended is not in the log".to_owned(), "note"),
        Outcome::NothingRead => ("tried to open it, and read nothing".to_owned(), "note"),
        Outcome::Denied => (format!("asked to open it{approved}, and was denied"), "bad"),
        Outcome::Expired => (
            format!("asked to open it{approved}; the time for that is over"),
            "note",
        ),
        Outcome::Waiting => (
            format!("asked to open it{approved}; it was not opened yet"),
            "note",
        ),
    }
}

pub fn drill(page: &mut Page, report: &Report) {
    section(page, "drill", "Last break-glass drill", |page| {
        let history = &report.log.history;
        let Some(drill) = &history.drill else {
            p(
                page,
                match report.log.report.is_some() {
                    true => {
                        "None is in the log: nobody tried whether the custodians could open a recording if they had to."
                    }
                    false => "Not known: the log cannot be read.",
                },
            );
            return;
        };
        let age = between(drill.time, report.made);
        let result = if drill.passed {
            "it worked"
        } else {
            "IT DID NOT WORK"
        };
        page.tag("p", &[], |page| {
            page.element("strong", &[], &format!("{age} ago: {result}."));
            page.text(&format!(" {}, by ", moment(drill.time)));
            page.outside(drill.by.as_str());
            page.text(". Result: ");
            page.outside(&drill.result);
            page.text(&format!(
                ". {} in the log in all.",
                count(history.drills, "drill", "drills")
            ));
        });
    });
    let reports = &report.log.history.reports;
    if reports.count() > 0 {
        section(page, "earlier", "Earlier reports like this one", |page| {
            let rows = reports.list.iter().map(|earlier| {
                [
                    Cell::own(moment(earlier.time)),
                    Cell::other(&earlier.by),
                    Cell::code(earlier.sha256),
                ]
            });
            table(
                page,
                "Who made them. No media was opened for them.",
                ["When", "By", "SHA-256 of the page"],
                rows.collect(),
            );
        });
    }
}
