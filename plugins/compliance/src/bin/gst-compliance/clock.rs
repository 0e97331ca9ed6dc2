//! Times, as the break-glass commands read and print them.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Unix time in milliseconds.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A unix time in milliseconds as people write it (UTC).
pub fn date(milliseconds: u64) -> String {
    i64::try_from(milliseconds / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "after the year 9999".to_owned())
}

/// A duration as `90s`, `30m`, `2h` or `3d`, in milliseconds.
pub fn duration(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 60 * 60), ("d", 24 * 60 * 60)];
    let found = units
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)));
    found
        .and_then(|(number, seconds)| {
            number
                .parse::<u64>()
                .ok()?
                .checked_mul(seconds)?
                .checked_mul(1000)
        })
        .filter(|milliseconds| *milliseconds > 0)
        .ok_or_else(|| "a time like 30m, 2h or 3d is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(duration("90s"), Ok(90_000));
        assert_eq!(duration("30m"), Ok(1_800_000));
        assert_eq!(duration("2h"), Ok(7_200_000));
        assert_eq!(duration("7d"), Ok(604_800_000));
        for bad in [
            "",
            "h",
            "2",
            "0h",
            "-1h",
            "2w",
            "2 h",
            "1.5h",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
