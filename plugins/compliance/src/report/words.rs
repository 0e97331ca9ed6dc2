//! Times, lengths and the stable words of the recorder, for people who are no engineers.

use time::OffsetDateTime;

use crate::recording::Medium;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

fn at(ms: u64) -> Option<OffsetDateTime> {
    let seconds = i64::try_from(ms / 1000).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

/// `24 Nov 2026`, UTC. `ms`: milliseconds since 1970, as everywhere here.
pub fn day(ms: u64) -> String {
    at(ms).map_or_else(
        || "after the year 9999".to_owned(),
        |at| {
            let month = MONTHS[usize::from(u8::from(at.month())) - 1];
            format!("{} {month} {}", at.day(), at.year())
        },
    )
}

/// `14:02:31`, UTC.
pub fn clock(ms: u64) -> String {
    at(ms).map_or_else(String::new, |at| {
        format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
    })
}

/// `24 Nov 2026, 14:02:31 UTC`.
pub fn moment(ms: u64) -> String {
    match at(ms) {
        Some(_) => format!("{}, {} UTC", day(ms), clock(ms)),
        None => day(ms),
    }
}

/// A length of time, the more exact the shorter it is: `40 ms`, `2.3 s`, `3 min 20 s`, `1 h 5 min`, `2 days 3 h`.
pub fn length(ns: u64) -> String {
    let ms = ns / 1_000_000;
    let seconds = ms / 1000;
    let two = |first: u64, unit: &str, second: u64, small: &str| match second {
        0 => format!("{first}\u{a0}{unit}"),
        _ => format!("{first}\u{a0}{unit} {second}\u{a0}{small}"),
    };
    match seconds {
        0 => format!("{ms}\u{a0}ms"),
        1..=59 if (ms % 1000) / 100 == 0 => format!("{seconds}\u{a0}s"),
        1..=59 => format!("{seconds}.{}\u{a0}s", (ms % 1000) / 100),
        60..=3599 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..=86_399 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => {
            let days = seconds / 86_400;
            two(
                days,
                if days == 1 { "day" } else { "days" },
                seconds % 86_400 / 3600,
                "h",
            )
        }
    }
}

/// The same between two moments in milliseconds.
pub fn between(from: u64, to: u64) -> String {
    length(to.saturating_sub(from).saturating_mul(1_000_000))
}

/// `1 gap`, `2 gaps`: the plural is given where it is no `s`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n}\u{a0}{}", if n == 1 { one } else { many })
}

/// `1.2 MB`.
pub fn size(bytes: u64) -> String {
    let units = ["bytes", "KB", "MB", "GB", "TB", "PB", "EB"];
    let (mut scaled, mut unit) = (bytes, 0);
    let mut tenth = 0;
    while scaled >= 1000 && unit + 1 < units.len() {
        tenth = scaled % 1000 / 100;
        scaled /= 1000;
        unit += 1;
    }
    match (unit, tenth) {
        (0, _) | (_, 0) => format!("{scaled}\u{a0}{}", units[unit]),
        _ => format!("{scaled}.{tenth}\u{a0}{}", units[unit]),
    }
}

/// What a track carries.
pub fn medium(medium: Option<Medium>) -> &'static str {
    match medium {
        Some(Medium::Audio) => "sound",
        Some(Medium::Video) => "pictures",
        Some(Medium::Text) => "messages",
        Some(Medium::Data) => "data",
        None => "something",
    }
}

/// Why nothing is kept for a time, or why a recording ended: the stable words of the recorder (`compliance-paused`,
/// `-stopped`, `-failed`). None: a word that is not known here.
pub fn stop(cause: &str) -> Option<&'static str> {
    Some(match cause {
        "recording-off" | "off" => "the room switched recording off",
        "eos" => "the call was over",
        "stopped" => "the recorder was stopped",
        "starting" => "it was about to begin",
        "no-room" | "room-unreadable" | "room-unsaid" => "the recorder was not told enough about the room",
        "room-joining" => "the recorder was still joining the room",
        "room-stale" => "the recorder no longer heard the room, so it could not know whether it may record",
        "room-evicted" => "the recorder was removed from the room",
        "room-other" => "the recorder came into another room",
        "not-a-recorder" => "the room's rules did not admit this recorder",
        "room-strict" => "the room allowed no recorder",
        "epoch-changed" => "the room was changing its keys",
        "epoch-unknown" => "it was not known whether the room was recording",
        "consent-missing" | "consent-unreadable" | "consent-not-understood" => {
            "the consent was missing or could not be read"
        }
        "consent-not-active" => "the consent was withdrawn or is not in force",
        "consent-not-yet" => "the consent was not valid yet",
        "consent-expired" => "the consent had run out",
        "consent-denies" | "consent-does-not-permit" => "the consent does not permit recording",
        "consent-not-named" => "the room's rules name no consent",
        "consent-other" => "the consent was not the one that the room's rules name",
        "consent" => "the consent no longer permitted it",
        "recipient-undisclosed" | "escrow-undisclosed" => {
            "somebody could have opened it whom the room's rules do not name"
        }
        "no-keys" => "there was no key to record under",
        "disk-full" => "the disk was full",
        "write-failed" => "the disk failed",
        "log-unavailable" => "the audit log could not be written, and nothing is recorded that is not logged",
        _ => return None,
    })
}

/// Why something is missing, where it counts as what kind of loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// It was not to be recorded.
    Intended,
    /// Pictures that need one before them that is not there.
    Following,
    /// It never came as far as the recorder.
    Network,
    /// The recorder, or a cause that is not known here.
    Recorder,
}

/// Why something is missing: the stable words of gaps. None: a word that is not known here.
pub fn gap(cause: &str) -> (Option<&'static str>, Loss) {
    let (words, loss) = match cause {
        "not-recording" => ("nothing was being recorded then", Loss::Intended),
        "not-admitted" => ("it was sent while recording was off", Loss::Intended),
        "waiting-keyframe" => (
            "moving pictures can only begin with a full picture, and there was none yet",
            Loss::Following,
        ),
        "lost-upstream" => (
            "it never reached the recorder (lost on the way, or not sent)",
            Loss::Network,
        ),
        "queue-full" => ("the disk was too slow", Loss::Recorder),
        "no-epoch" => (
            "nobody could say whether recording was on when it was sent",
            Loss::Recorder,
        ),
        "unsupported" => ("the recorder cannot store this kind of medium", Loss::Recorder),
        "no-time" => ("it carried no usable time", Loss::Recorder),
        "too-large" => ("one piece was larger than the recorder takes", Loss::Recorder),
        _ => return (None, Loss::Recorder),
    };
    (Some(words), loss)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::ConsentRefusal;
    use crate::gate::Refusal;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(moment(1_700_000_000_999), "14 Nov 2023, 22:13:20 UTC");
        assert_eq!(moment(0), "1 Jan 1970, 00:00:00 UTC");
        assert_eq!(moment(u64::MAX), "after the year 9999");
    }

    #[test]
    fn lengths_are_as_exact_as_they_are_short() {
        let shown = |ms: u64| length(ms * 1_000_000).replace('\u{a0}', " ");
        for (ms, expected) in [
            (0, "0 ms"),
            (40, "40 ms"),
            (1000, "1 s"),
            (2345, "2.3 s"),
            (60_000, "1 min"),
            (200_000, "3 min 20 s"),
            (3_900_000, "1 h 5 min"),
            (86_400_000, "1 day"),
            (2 * 86_400_000 + 3 * 3_600_000, "2 days 3 h"),
        ] {
            assert_eq!(shown(ms), expected);
        }
        assert_eq!(size(999).replace('\u{a0}', " "), "999 bytes");
        assert_eq!(size(1_250_000).replace('\u{a0}', " "), "1.2 MB");
        assert!(size(u64::MAX).contains("EB"));
        assert_eq!(count(1, "gap", "gaps").replace('\u{a0}', " "), "1 gap");
    }

    #[test]
    fn every_gate_that_shuts_has_words_for_people() {
        for refusal in [
            Refusal::NoRoom,
            Refusal::RoomUnreadable(String::new()),
            Refusal::Joining,
            Refusal::Stale,
            Refusal::Evicted,
            Refusal::OtherRoom,
            Refusal::NotARecorder,
            Refusal::StrictRoom,
            Refusal::Off,
            Refusal::EpochChanged,
            Refusal::UnknownEpoch,
            Refusal::Consent(ConsentRefusal::Missing),
            Refusal::Consent(ConsentRefusal::NotAFile),
            Refusal::Consent(ConsentRefusal::TooLong),
            Refusal::NoReference,
            Refusal::OtherConsent,
            Refusal::UndisclosedRecipient,
            Refusal::UndisclosedEscrow,
            Refusal::NoKeys,
            Refusal::Starting,
        ] {
            assert!(stop(refusal.nick()).is_some(), "{}", refusal.nick());
        }
        assert_eq!(stop("phase-of-the-moon"), None);
        assert_eq!(gap("phase-of-the-moon"), (None, Loss::Recorder));
    }
}
