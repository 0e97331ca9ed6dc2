//! The time lines of a report, drawn: of the recording, and of the accesses, which come later and have their own.
//!
//! Everything is placed by percent of the width, so that text keeps its size on a telephone and on paper. A lane has at
//! most [`MOST_MARKS`] marks and a drawing at most [`MOST_LANES`] lanes; what that leaves out the tables tell, and a line says so.

use super::accesses::{Kind, Outcome};
use super::facts::{Part, Report, Stretch};
use super::history::Turn;
use super::page::{Page, short};
use super::words::{self, between, clock, count, moment};
use crate::recording::Medium;

/// Most lanes of people.
pub const MOST_LANES: usize = 32;
/// Most marks in a lane.
const MOST_MARKS: usize = 400;
/// Most accesses that are drawn.
const MOST_ACCESSES: usize = 24;
/// A name in a drawing is cut to so many characters.
const NAME: usize = 18;

/// Height of a lane: a line of text, and a bar.
const LANE: u32 = 40;
const BAR_AT: u32 = 18;
const BAR: u32 = 14;
const AXIS: u32 = 26;

/// From when to when a drawing goes.
#[derive(Debug, Clone, Copy)]
struct Axis {
    from: u64,
    to: u64,
}

impl Axis {
    fn new(from: u64, to: u64) -> Self {
        Self {
            from,
            to: to.max(from.saturating_add(1000)),
        }
    }

    /// Where a moment is, in ten-thousandths of the width.
    fn at(self, time: u64) -> u64 {
        let inside = time.clamp(self.from, self.to) - self.from;
        let place = u128::from(inside) * 10_000 / u128::from(self.to - self.from);
        u64::try_from(place).unwrap_or(10_000)
    }

    /// Round moments on it, at most six, and whether their seconds matter.
    fn ticks(self) -> (Vec<u64>, bool) {
        const STEPS: [u64; 22] = [
            1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
            172_800, 604_800, 1_209_600, 2_592_000,
        ];
        let seconds = (self.to - self.from) / 1000;
        let coarse = (seconds / 5).max(1);
        let step = STEPS
            .into_iter()
            .find(|step| seconds / step <= 5)
            .unwrap_or(coarse);
        let first = (self.from / 1000).div_ceil(step);
        let all = (first..).map(|tick| tick.saturating_mul(step).saturating_mul(1000));
        let ticks = all.take_while(|tick| *tick <= self.to).take(6).collect();
        (ticks, step < 60)
    }
}

/// Ten-thousandths as a length of SVG.
fn percent(place: u64) -> String {
    format!("{}.{:02}%", place / 100, place % 100)
}

fn drawing(
    page: &mut Page,
    id: &'static str,
    title: &str,
    describes: &str,
    height: u32,
    inside: impl FnOnce(&mut Page),
) {
    let height = height.to_string();
    let (title_id, text_id) = (format!("{id}-title"), format!("{id}-text"));
    let label = format!("{title_id} {text_id}");
    page.tag(
        "svg",
        &[
            ("class", "drawing"),
            ("id", id),
            ("role", "img"),
            ("aria-labelledby", &label),
            ("width", "100%"),
            ("height", &height),
        ],
        |page| {
            page.element("title", &[("id", &title_id)], title);
            page.element("desc", &[("id", &text_id)], describes);
            patterns(page, id);
            inside(page);
        },
    );
}

/// Fillings that can be told apart without colours.
fn patterns(page: &mut Page, id: &str) {
    for (name, class) in [("gap", "hatch-bad"), ("pause", "hatch-note")] {
        page.tag(
            "pattern",
            &[
                ("id", &format!("{id}-{name}")),
                ("width", "6"),
                ("height", "6"),
                ("patternUnits", "userSpaceOnUse"),
                ("patternTransform", "rotate(45)"),
            ],
            |page| {
                page.element(
                    "rect",
                    &[
                        ("width", "6"),
                        ("height", "6"),
                        ("class", &format!("{class}-back")),
                    ],
                    "",
                );
                page.element("rect", &[("width", "3"), ("height", "6"), ("class", class)], "");
            },
        );
    }
}

fn grid(page: &mut Page, axis: Axis, top: u32, bottom: u32, days: bool) {
    let (ticks, seconds) = axis.ticks();
    for tick in ticks {
        let place = axis.at(tick);
        let x = percent(place);
        page.element(
            "line",
            &[
                ("class", "grid"),
                ("x1", &x),
                ("x2", &x),
                ("y1", &top.to_string()),
                ("y2", &bottom.to_string()),
            ],
            "",
        );
        let anchor = match place {
            0..=500 => "start",
            501..=9400 => "middle",
            _ => "end",
        };
        let time = clock(tick);
        let text = match (days, seconds) {
            (true, _) => words::day(tick)
                .rsplit_once(' ')
                .map_or_else(String::new, |(day, _)| day.to_owned()),
            (false, true) => time,
            (false, false) => time.get(..5).unwrap_or_default().to_owned(),
        };
        page.element(
            "text",
            &[
                ("class", "tick"),
                ("x", &x),
                ("y", &(bottom + 16).to_string()),
                ("text-anchor", anchor),
            ],
            &text,
        );
    }
}

fn label(page: &mut Page, top: u32, text: &str) {
    page.element(
        "text",
        &[("class", "lane"), ("x", "0"), ("y", &(top + 12).to_string())],
        text,
    );
}

fn bar(page: &mut Page, axis: Axis, top: u32, stretch: Stretch, look: (&str, Option<&str>), says: &str) {
    let from = axis.at(stretch.from);
    let width = axis.at(stretch.to).saturating_sub(from).max(20);
    let (class, fill) = look;
    let (x, width) = (percent(from.min(9980)), percent(width));
    let (y, height) = ((top + BAR_AT).to_string(), BAR.to_string());
    let mut attributes = vec![
        ("class", class),
        ("x", x.as_str()),
        ("y", y.as_str()),
        ("width", width.as_str()),
        ("height", height.as_str()),
    ];
    attributes.extend(fill.map(|fill| ("fill", fill)));
    page.tag("rect", &attributes, |page| page.element("title", &[], says));
}

/// Who a part is of, for a drawing.
fn name(part: &Part) -> String {
    let medium = words::medium(part.medium);
    match (part.sender.as_str(), part.medium) {
        ("", Some(Medium::Text)) => "messages of all".to_owned(),
        ("", _) => format!("{medium}, of whom is not said"),
        (sender, _) => format!("{} · {medium}", short(sender, NAME)),
    }
}

/// When recording was on, paused or down, as far as the log tells.
pub(super) fn states(report: &Report) -> Vec<(Stretch, Turn)> {
    let end = report.span.to;
    let turns = &report.log.history.turns.list;
    let mut states = Vec::new();
    for (index, (time, turn)) in turns.iter().enumerate() {
        let next = turns.get(index + 1).map_or(end, |(time, _)| *time);
        let stretch = Stretch {
            from: *time,
            to: next.max(*time),
        };
        if !matches!(turn, Turn::Stopped(_) | Turn::Failed(..)) {
            states.push((stretch, turn.clone()));
        }
    }
    if states.is_empty() && report.facts.is_some() {
        states.push((report.span, Turn::Started));
    }
    states
}

/// The recording.
pub fn recording(page: &mut Page, report: &Report) {
    let mut axis = Axis::new(report.span.from, report.span.to);
    for stretch in report
        .parts
        .iter()
        .flat_map(|part| part.stretches.iter().chain(&part.damaged))
    {
        axis.from = axis.from.min(stretch.from);
        axis.to = axis.to.max(stretch.to);
    }
    let parts = &report.parts[..report.parts.len().min(MOST_LANES)];
    let history = &report.log.history;
    let has_epochs = history.began.is_some() || history.epochs.count() > 0;
    let lanes = 1
        + u32::from(history.recorders.count() > 0)
        + u32::try_from(parts.len()).unwrap_or(0)
        + u32::from(has_epochs);
    let bottom = lanes * LANE;
    let describes = format!(
        "From {} to {}. The tables below say the same in words.",
        moment(axis.from),
        moment(axis.to)
    );
    let title = "Time line of the recording";
    drawing(page, "line", title, &describes, bottom + AXIS, |page| {
        grid(page, axis, 0, bottom, false);
        let mut top = 0;
        recording_lane(page, axis, report);
        top += LANE;
        if history.recorders.count() > 0 {
            recorder_lane(page, axis, top, report);
            top += LANE;
        }
        for part in parts {
            part_lane(page, axis, top, part);
            top += LANE;
        }
        if has_epochs {
            epoch_lane(page, axis, top, report);
        }
    });
    if report.parts.len() > parts.len() {
        let more = count(
            (report.parts.len() - parts.len()) as u64,
            "more line",
            "more lines",
        );
        page.element(
            "p",
            &[("class", "small")],
            &format!("{more} of people and media are not drawn; the tables have them."),
        );
    }
}

fn recording_lane(page: &mut Page, axis: Axis, report: &Report) {
    label(page, 0, "Recording");
    for (stretch, turn) in states(report).into_iter().take(MOST_MARKS) {
        let length = between(stretch.from, stretch.to);
        match turn {
            Turn::Paused(cause) => {
                let why = words::stop(&cause).map_or(cause, str::to_owned);
                let says = format!("not recording for {length}: {why}");
                bar(page, axis, 0, stretch, ("pause", Some("url(#line-pause)")), &says);
            }
            _ => bar(
                page,
                axis,
                0,
                stretch,
                ("on", None),
                &format!("recording for {length}"),
            ),
        }
    }
    for down in &report.down {
        let stretch = Stretch {
            from: down.from,
            to: down.to,
        };
        let says = format!("the recorder was down for {}", between(down.from, down.to));
        bar(page, axis, 0, stretch, ("gap", Some("url(#line-gap)")), &says);
    }
}

fn recorder_lane(page: &mut Page, axis: Axis, top: u32, report: &Report) {
    label(page, top, "Recorder in the room");
    let moves = &report.log.history.recorders.list;
    for (index, came) in moves
        .iter()
        .enumerate()
        .filter(|(_, came)| came.certificate.is_some())
        .take(MOST_MARKS)
    {
        let left = moves[index + 1..]
            .iter()
            .find(|left| left.recorder == came.recorder);
        let stretch = Stretch {
            from: came.time,
            to: left.map_or(report.span.to, |left| left.time),
        };
        let says = format!("{} is in the room", short(came.recorder.as_str(), NAME));
        bar(page, axis, top, stretch, ("recorder", None), &says);
    }
}

fn part_lane(page: &mut Page, axis: Axis, top: u32, part: &Part) {
    label(page, top, &name(part));
    let class = match part.medium {
        Some(Medium::Audio) => "sound",
        Some(Medium::Video) => "pictures",
        _ => "messages",
    };
    for stretch in &part.stretches {
        let says = format!("{} to {} UTC", clock(stretch.from), clock(stretch.to));
        bar(page, axis, top, *stretch, (class, None), &says);
    }
    for (word, stretches) in [("missing", &part.missing), ("damaged", &part.damaged)] {
        for stretch in stretches {
            let says = format!("{word}: {}", between(stretch.from, stretch.to));
            bar(page, axis, top, *stretch, ("gap", Some("url(#line-gap)")), &says);
        }
    }
}

fn epoch_lane(page: &mut Page, axis: Axis, top: u32, report: &Report) {
    label(page, top, "Epochs (who holds the keys changed)");
    let history = &report.log.history;
    let began = history.began.iter().map(|began| (began.time, began.epoch));
    let later = history.epochs.list.iter().map(|epoch| (epoch.time, epoch.epoch));
    let mut last_text = None;
    for (time, epoch) in began.chain(later).take(MOST_MARKS) {
        let place = axis.at(time);
        let x = percent(place);
        let (y1, y2) = ((top + BAR_AT).to_string(), (top + BAR_AT + BAR).to_string());
        page.tag(
            "line",
            &[
                ("class", "epoch"),
                ("x1", &x),
                ("x2", &x),
                ("y1", &y1),
                ("y2", &y2),
            ],
            |page| page.element("title", &[], &format!("epoch {epoch} at {} UTC", clock(time))),
        );
        // A number needs some room, on a telephone, too.
        let room = 400 + 200 * u64::from(epoch.checked_ilog10().unwrap_or(0) + 1);
        if last_text.is_none_or(|last| place >= last) {
            last_text = Some(place + room);
            let (anchor, space) = if place > 9000 {
                ("end", "-5")
            } else {
                ("start", "5")
            };
            page.element(
                "text",
                &[
                    ("class", "tick"),
                    ("x", &x),
                    ("dx", space),
                    ("y", &(top + BAR_AT + 11).to_string()),
                    ("text-anchor", anchor),
                ],
                &epoch.to_string(),
            );
        }
    }
}

/// The accesses.
pub fn accesses(page: &mut Page, report: &Report) {
    let all = &report.log.history.accesses.list;
    let drawn = &all[..all.len().min(MOST_ACCESSES)];
    let times = drawn
        .iter()
        .flat_map(|access| access.steps.iter().map(|step| step.time));
    let (Some(from), Some(to)) = (times.clone().min(), times.max()) else {
        return;
    };
    // Marks at the very ends would be cut.
    let margin = ((to - from) / 20).max(30_000);
    let axis = Axis::new(from.saturating_sub(margin), to.saturating_add(margin));
    let days = axis.to - axis.from > 2 * 86_400_000;
    let bottom = u32::try_from(drawn.len()).unwrap_or(0) * LANE;
    let describes = format!(
        "From {} to {}. The list below says the same in words.",
        moment(from),
        moment(to)
    );
    drawing(
        page,
        "openings",
        "Time line of the accesses",
        &describes,
        bottom + AXIS,
        |page| {
            grid(page, axis, 0, bottom, days);
            for (index, access) in drawn.iter().enumerate() {
                let top = u32::try_from(index).unwrap_or(0) * LANE;
                let who = short(access.who.as_deref().unwrap_or("somebody"), NAME);
                let came = match access.outcome(report.made) {
                    Outcome::Opened => "opened",
                    Outcome::Open => "opened, no end logged",
                    Outcome::NothingRead => "nothing was read",
                    Outcome::Denied => "denied",
                    Outcome::Expired => "asked for, expired",
                    Outcome::Waiting => "asked for",
                };
                label(page, top, &format!("{who}: {came}"));
                let (first, last) = (access.steps.first(), access.steps.last());
                if let (Some(first), Some(last)) = (first, last) {
                    let (x1, x2) = (percent(axis.at(first.time)), percent(axis.at(last.time)));
                    let y = (top + BAR_AT + BAR / 2).to_string();
                    page.element(
                        "line",
                        &[
                            ("class", "thread"),
                            ("x1", &x1),
                            ("x2", &x2),
                            ("y1", &y),
                            ("y2", &y),
                        ],
                        "",
                    );
                }
                for step in &access.steps {
                    mark(page, axis, top, step.time, step.kind);
                }
            }
        },
    );
    if all.len() > drawn.len() {
        let more = count((all.len() - drawn.len()) as u64, "more access", "more accesses");
        page.element(
            "p",
            &[("class", "small")],
            &format!("{more} in the list below are not drawn."),
        );
    }
}

/// A step of an access: a shape for each kind, so that colours are not needed.
fn mark(page: &mut Page, axis: Axis, top: u32, time: u64, kind: Kind) {
    let (word, class, path) = shape(kind);
    let says = format!("{word} {}", moment(time));
    let (x, y) = (percent(axis.at(time)), (top + BAR_AT).to_string());
    page.tag("svg", &[("x", &x), ("y", &y), ("overflow", "visible")], |page| {
        page.tag("path", &[("class", class), ("d", path)], |page| {
            page.element("title", &[], &says)
        });
    });
}

/// Word, class and shape, around the middle of its left edge.
pub(super) fn shape(kind: Kind) -> (&'static str, &'static str, &'static str) {
    match kind {
        Kind::Requested => ("asked for", "ask", "M-5 7a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z"),
        Kind::Approved => ("approved", "yes", "M-6 7l4 5l8 -10"),
        Kind::Denied => ("denied", "no", "M-5 2l10 10m0 -10l-10 10"),
        Kind::Opened => ("opened", "opening", "M-6 1h12v12h-12z"),
        Kind::Ended => ("closed", "ending", "M0 0v14"),
        Kind::Exported => ("copied out", "opening", "M0 -1l7 8l-7 8l-7 -8z"),
    }
}
