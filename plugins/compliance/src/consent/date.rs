//! FHIR's partial dates (R4 §2.24.0.1, `dateTime`): a year, a month, a day, or a moment with its time zone.

use time::{Date, Month, Time};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// The time that a partial date covers, in unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first millisecond.
    pub from: i64,
    /// The first millisecond after it.
    pub to: i64,
    /// Seconds by which its own time zone is ahead of UTC; none where it names none.
    pub zone: Option<i32>,
}

impl Span {
    /// Reads a `dateTime`. `zone`: seconds by which the clocks are ahead of UTC where a date without a time counts.
    pub fn read(text: &str, zone: i32) -> Option<Self> {
        match text.split_once('T') {
            Some((date, time)) => moment(day(date)?, time),
            None => {
                let (from, to) = match text.len() {
                    4 => {
                        let year = digits(text, 4)?;
                        (first_of(year, 1)?, first_of(year + 1, 1)?)
                    }
                    7 => {
                        let (year, month) = (digits(text.get(..4)?, 4)?, digits(text.get(5..)?, 2)?);
                        (text.as_bytes().get(4) == Some(&b'-')).then_some(())?;
                        let next = if month == 12 {
                            (year + 1, 1)
                        } else {
                            (year, month + 1)
                        };
                        (first_of(year, month)?, first_of(next.0, next.1)?)
                    }
                    _ => {
                        let day = unix_days(day(text)?);
                        (day, day + 1)
                    }
                };
                let zone = i64::from(zone) * 1000;
                Some(Self {
                    from: from * DAY - zone,
                    to: to * DAY - zone,
                    zone: None,
                })
            }
        }
    }
}

/// So many digits and nothing else.
fn digits(text: &str, count: usize) -> Option<i32> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// `YYYY-MM-DD`.
fn day(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (year, month, day) = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
    (year > 0).then_some(())?;
    Date::from_calendar_date(year, month_of(month)?, u8::try_from(day).ok()?).ok()
}

fn month_of(month: i32) -> Option<Month> {
    Month::try_from(u8::try_from(month).ok()?).ok()
}

/// Days from 1970 to the first of a month; the one after the last of year 9999 is one, too.
fn first_of(year: i32, month: i32) -> Option<i64> {
    if year == 10_000 {
        return Some(first_of(9_999, 12)? + 31);
    }
    (year > 0).then_some(())?;
    Some(unix_days(
        Date::from_calendar_date(year, month_of(month)?, 1).ok()?,
    ))
}

fn unix_days(date: Date) -> i64 {
    date.midnight().assume_utc().unix_timestamp() / 86_400
}

/// `hh:mm:ss`, perhaps with a fraction, and a time zone: FHIR knows no time of day without seconds and zone.
fn moment(date: Date, text: &str) -> Option<Span> {
    let zone_at = text.find(['Z', '+', '-'])?;
    let (clock, zone) = text.split_at(zone_at);
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (clock, None),
    };
    let mut parts = clock.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (hour, minute, second) = (digits(hour, 2)?, digits(minute, 2)?, digits(second, 2)?);
    // A leap second has no unix time of its own.
    let second = if second == 60 { 59 } else { second };
    let time = Time::from_hms(
        u8::try_from(hour).ok()?,
        u8::try_from(minute).ok()?,
        u8::try_from(second).ok()?,
    );
    let local = date.with_time(time.ok()?).assume_utc().unix_timestamp() * 1000;
    let (fraction, length) = match fraction {
        Some(fraction) => {
            digits_only(fraction)?;
            let padded = format!("{fraction}00");
            (i64::from(digits(padded.get(..3)?, 3)?), 1)
        }
        None => (0, 1000),
    };
    let zone = zone_seconds(zone)?;
    let from = local + fraction - i64::from(zone) * 1000;
    Some(Span {
        from,
        to: from + length,
        zone: Some(zone),
    })
}

fn digits_only(text: &str) -> Option<()> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
}

/// `Z`, or `+hh:mm` and `-hh:mm` up to 14 hours.
fn zone_seconds(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    let seconds = hours * 3600 + minutes * 60;
    (minutes < 60 && seconds <= 14 * 3600).then_some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-03-05T00:00:00Z.
    const MARCH_5: i64 = 1_772_668_800_000;
    const HOUR: i64 = 3_600_000;

    fn span(text: &str, zone: i32) -> Option<(i64, i64)> {
        Span::read(text, zone).map(|span| (span.from - MARCH_5, span.to - MARCH_5))
    }

    #[test]
    fn a_partial_date_covers_all_that_it_names() {
        assert_eq!(span("2026-03-05", 0), Some((0, DAY)));
        assert_eq!(span("2026-03-05", 5 * 3600), Some((-5 * HOUR, DAY - 5 * HOUR)));
        assert_eq!(span("2026-03-05", -8 * 3600), Some((8 * HOUR, DAY + 8 * HOUR)));
        assert_eq!(span("2026-03", 0), Some((-4 * DAY, 27 * DAY)));
        assert_eq!(span("2026", 0), Some((-63 * DAY, 302 * DAY)));
        assert_eq!(span("2025-12", 0), Some((-94 * DAY, -63 * DAY)));
        assert_eq!(span("2024-02", 0).map(|(from, to)| (to - from) / DAY), Some(29));
        assert_eq!(span("9999-12", 0).map(|(from, to)| (to - from) / DAY), Some(31));
        assert_eq!(span("9999", 0).map(|(from, to)| (to - from) / DAY), Some(365));
    }

    #[test]
    fn a_moment_has_its_own_zone() {
        for zone in [0, 3600, -7200] {
            assert_eq!(span("2026-03-05T00:00:00Z", zone), Some((0, 1000)));
            assert_eq!(span("2026-03-05T02:00:00+02:00", zone), Some((0, 1000)));
            assert_eq!(span("2026-03-04T18:30:00-05:30", zone), Some((0, 1000)));
            assert_eq!(span("2026-03-05T00:00:00.5Z", zone), Some((500, 501)));
            assert_eq!(span("2026-03-05T00:00:01.0019999Z", zone), Some((1001, 1002)));
            assert_eq!(span("2026-03-04T23:59:60Z", zone), Some((-1000, 0)));
        }
        assert_eq!(
            Span::read("2026-03-05T02:00:00+02:00", 0).unwrap().zone,
            Some(7200)
        );
        assert_eq!(Span::read("2026-03-05", 7200).unwrap().zone, None);
    }

    #[test]
    fn what_is_no_fhir_date_is_refused() {
        for text in [
            "",
            "26",
            "0000",
            "+026",
            "2026-",
            "2026-00",
            "2026-13",
            "2026/03",
            "2026-3-5",
            "2026-02-29",
            "2026-03-32",
            "2026-03-05-01",
            "2026-03-05T",
            "2026-03-05T10",
            "2026-03-05T10:00Z",
            "2026-03-05T10:00:00",
            "2026-03-05 10:00:00Z",
            "2026-03-05T24:00:00Z",
            "2026-03-05T10:60:00Z",
            "2026-03-05T10:00:61Z",
            "2026-03-05T10:00:00.Z",
            "2026-03-05T10:00:00.xZ",
            "2026-03-05T10:00:00+14:01",
            "2026-03-05T10:00:00+0200",
            "2026-03-05T10:00:00+02:60",
            "2026-03-05T10:00:00Zulu",
            "2026-03-05T10:00:00z",
            "２０２６",
            "2026-03-0５",
        ] {
            assert_eq!(Span::read(text, 0), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-0-9TZ:.+é ]{0,30}", zone in -50_400i32..50_400) {
            if let Some(span) = Span::read(&text, zone) {
                prop_assert!(span.from < span.to);
            }
        }
    }
}
