//! The page: one HTML file that needs nothing else and does nothing. No script, no address outside of itself, and a
//! policy (Content-Security-Policy) that keeps a browser from running or loading anything even if there were.
//!
//! First what it comes to, then what that rests on and what it does not show, and then everything in order. Each
//! section has its heading, each drawing its words, each table a caption, so that it can be heard as well as seen.

mod access;
mod end;
mod recorded;
mod top;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::facts::{Part, Report};
use super::page::{LONGEST, Page, clipped};
use super::words;
use crate::digest::Digest;
use crate::recording::Medium;

/// The style sheet, which the page's policy names by its digest: no other one counts.
const STYLE: &str = include_str!("../style.css");

/// Most rows of a table.
const MOST_ROWS: usize = 200;

/// The page.
pub fn html(report: &Report) -> String {
    let mut page = Page::default();
    page.verbatim("<!DOCTYPE html>\n");
    page.tag("html", &[("lang", "en")], |page| {
        page.tag("head", &[], |page| head(page, report));
        page.tag("body", &[], |page| {
            page.tag("main", &[], |page| body(page, report));
            end::footer(page, report);
        });
    });
    page.finish()
}

fn head(page: &mut Page, report: &Report) {
    let style = STANDARD.encode(Digest::of(STYLE.as_bytes()).0);
    let policy =
        format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'");
    page.void("meta", &[("charset", "utf-8")]);
    page.void(
        "meta",
        &[("http-equiv", "Content-Security-Policy"), ("content", &policy)],
    );
    page.void(
        "meta",
        &[
            ("name", "viewport"),
            ("content", "width=device-width, initial-scale=1"),
        ],
    );
    page.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    page.void("meta", &[("name", "referrer"), ("content", "no-referrer")]);
    page.void("meta", &[("name", "robots"), ("content", "noindex")]);
    let (word, _) = top::word(report.verdict.word);
    let id = report
        .id
        .map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    page.element(
        "title",
        &[],
        &format!("{word}: recording {}", id.get(..8).unwrap_or(&id)),
    );
    page.tag("style", &[], |page| page.verbatim(STYLE));
}

fn body(page: &mut Page, report: &Report) {
    top::header(page, report);
    top::verdict(page, report);
    top::limits(page, report);
    top::glance(page, report);
    recorded::time_line(page, report);
    recorded::people(page, report);
    recorded::missing(page, report);
    recorded::states(page, report);
    recorded::epochs(page, report);
    recorded::consent(page, report);
    access::who_can(page, report);
    access::who_did(page, report);
    access::drill(page, report);
    end::others(page, report);
    end::faults(page, report);
    end::how_to_check(page, report);
    end::glossary(page);
}

fn section(page: &mut Page, id: &str, title: &str, inside: impl FnOnce(&mut Page)) {
    page.tag("section", &[("aria-labelledby", id)], |page| {
        page.element("h2", &[("id", id)], title);
        inside(page);
    });
}

fn p(page: &mut Page, text: &str) {
    page.element("p", &[], text);
}

fn small(page: &mut Page, text: &str) {
    page.element("p", &[("class", "small")], text);
}

/// What stands in a cell, in a list, after a word.
enum Cell {
    /// Our own words.
    Own(String),
    /// Somebody else's, or an id.
    Other(String),
    /// Ids, digests: to be compared letter by letter.
    Code(String),
    /// Several of them.
    All(Vec<Cell>),
}

impl Cell {
    fn own(text: impl Into<String>) -> Self {
        Self::Own(text.into())
    }

    fn other(text: impl ToString) -> Self {
        Self::Other(text.to_string())
    }

    fn code(text: impl ToString) -> Self {
        Self::Code(text.to_string())
    }

    fn put(&self, page: &mut Page) {
        match self {
            Self::Own(text) => page.text(text),
            Self::Other(text) => page.outside(text),
            Self::Code(text) => page.tag("code", &[], |page| page.outside(text)),
            Self::All(all) => all.iter().for_each(|cell| cell.put(page)),
        }
    }
}

/// A table that becomes a list of lines where there is no room for it, and stays a table for who cannot see it.
fn table<const N: usize>(page: &mut Page, caption: &str, heads: [&str; N], rows: Vec<[Cell; N]>) {
    page.tag("table", &[("role", "table")], |page| {
        page.element("caption", &[], caption);
        page.tag("thead", &[("role", "rowgroup")], |page| {
            page.tag("tr", &[("role", "row")], |page| {
                for head in heads {
                    page.element("th", &[("role", "columnheader"), ("scope", "col")], head);
                }
            });
        });
        page.tag("tbody", &[("role", "rowgroup")], |page| {
            for row in rows.iter().take(MOST_ROWS) {
                page.tag("tr", &[("role", "row")], |page| {
                    for (head, cell) in heads.iter().zip(row) {
                        page.tag("td", &[("role", "cell"), ("data-label", head)], |page| {
                            cell.put(page)
                        });
                    }
                });
            }
        });
    });
    if rows.len() > MOST_ROWS {
        let more = words::count((rows.len() - MOST_ROWS) as u64, "more row", "more rows");
        small(
            page,
            &format!("{more} are left out here; --json has all that was kept."),
        );
    }
}

/// `name: value` for what has no words of its own.
fn fields(fields: &[(String, String)]) -> Cell {
    let mut all = Vec::new();
    for (index, (name, value)) in fields.iter().take(20).enumerate() {
        let before = if index == 0 { "" } else { ", " };
        all.push(Cell::own(format!(
            "{before}{}: ",
            clipped(name, 40).replace(['-', '_'], " ")
        )));
        all.push(Cell::other(value));
    }
    Cell::All(all)
}

/// Whose part it is, in a table.
fn whose(part: &Part) -> Cell {
    match (part.sender.as_str(), part.medium) {
        ("", Some(Medium::Text)) => Cell::own("all who wrote"),
        ("", None) => Cell::own("not known: the line that says it is damaged"),
        ("", _) => Cell::own("not said"),
        (sender, _) => Cell::other(sender),
    }
}

/// Text of ours with outside words in it, of bounded length.
fn bounded(text: &str) -> String {
    clipped(&text.replace('\u{a0}', " "), 3 * LONGEST)
}
