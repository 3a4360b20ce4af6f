//! The language of offsets, as rpk has it.
//!
//! ```text
//!   start  end  :end  +n  -n  n  n:  :n  n1:n2        @t  @t:  @:t  @t1:t2
//! ```
//!
//! `+n` is n records behind the start, `-n` n records before the end; `:end` is everything up to the end as it is now.
//! A time is 13 digits (ms), 10 digits (s), a date, RFC 3339, or relative to now: `-1h`.
//!
//! Invariants
//!   * text that isn't in the language is refused, with the text; nothing is guessed

use crate::args::duration;
use crate::failure::Failure;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// From where to where; `to` is behind the last one. Without it reading goes on to wherever the end is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offsets {
    from: Point,
    to: Option<Point>,
}

/// One place in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Point {
    Start,
    End,
    At(u64),
    BehindStart(u64),
    BeforeEnd(u64),
    /// The first record of this time or later, ms since 1970.
    Time(i64),
}

/// A range of offsets in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) from: u64,
    pub(crate) to: Option<u64>,
}

impl Offsets {
    pub(crate) fn all() -> Offsets {
        Offsets { from: Point::Start, to: None }
    }

    /// Only what comes from now on.
    pub(crate) fn at_end() -> Offsets {
        Offsets { from: Point::End, to: None }
    }

    pub(crate) fn is_start(&self) -> bool {
        *self == Offsets::all()
    }

    pub(crate) fn is_end(&self) -> bool {
        *self == Offsets::at_end()
    }

    /// Whether it says where to stop.
    pub(crate) fn has_an_end(&self) -> bool {
        self.to.is_some()
    }

    pub(crate) fn parse(text: &str, now_ms: i64) -> Result<Offsets, Failure> {
        let refuse = || {
            Failure::usage(format!("{text:?} is no offset")).hint(
                "start, end, :end, +n, -n, n, n:, :n, n1:n2, @t, @t:, @:t, @t1:t2; t: 2026-01-31, -1h, ...",
            )
        };
        if let Some(times) = text.strip_prefix('@') {
            let time = |text: &str| time(text, now_ms).map(Point::Time).ok_or_else(refuse);
            return match split_times(times) {
                (from, None) => Ok(Offsets { from: time(from)?, to: None }),
                ("", Some(to)) => Ok(Offsets { from: Point::Start, to: Some(time(to)?) }),
                (from, Some("")) => Ok(Offsets { from: time(from)?, to: None }),
                (from, Some(to)) => Ok(Offsets { from: time(from)?, to: Some(time(to)?) }),
            };
        }
        let point = |text: &str| point(text).ok_or_else(refuse);
        match text.split_once(':') {
            None => Ok(Offsets { from: point(text)?, to: None }),
            Some(("", "")) => Err(refuse()),
            Some(("", to)) => Ok(Offsets { from: Point::Start, to: Some(point(to)?) }),
            Some((from, "")) => Ok(Offsets { from: point(from)?, to: None }),
            Some((from, to)) => Ok(Offsets { from: point(from)?, to: Some(point(to)?) }),
        }
    }

    /// As [`parse`](Offsets::parse), for a place instead of a range.
    pub(crate) fn parse_place(text: &str, now_ms: i64) -> Result<Offsets, Failure> {
        let offsets = Offsets::parse(text, now_ms)?;
        match offsets.to.is_none() && !text.ends_with(':') {
            true => Ok(offsets),
            false => Err(Failure::usage(format!("{text:?} is a range of offsets, and one place is wanted"))
                .hint("start, end, +n, -n, n, @t")),
        }
    }

    /// What it means in a partition with these bounds, within what can be read; `at_time` finds the first record of a
    /// time or later.
    pub(crate) fn resolve(
        &self,
        (start, end): (u64, u64),
        at_time: impl Fn(i64) -> Result<Option<u64>, Failure>,
    ) -> Result<Resolved, Failure> {
        let place = |point: &Point| -> Result<u64, Failure> {
            Ok(match point {
                Point::Start => start,
                Point::End => end,
                Point::At(offset) => *offset,
                Point::BehindStart(records) => start.saturating_add(*records),
                Point::BeforeEnd(records) => end.saturating_sub(*records),
                Point::Time(ms) => at_time(*ms)?.unwrap_or(end),
            })
        };
        let from = place(&self.from)?.clamp(start, end);
        let to = self.to.as_ref().map(place).transpose()?;
        // An end that isn't there yet stays: who follows waits for it.
        Ok(Resolved { from, to: to.map(|to| to.max(from)) })
    }
}

fn point(text: &str) -> Option<Point> {
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok(),
        false => None,
    };
    match text {
        "start" => Some(Point::Start),
        "end" => Some(Point::End),
        _ => match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(records), _) => number(records).map(Point::BehindStart),
            (_, Some(records)) => number(records).map(Point::BeforeEnd),
            _ => number(text).map(Point::At),
        },
    }
}

/// At the colon between two times; the colons inside of times have digits on both sides and belong to a `T`.
fn split_times(text: &str) -> (&str, Option<&str>) {
    let colons = text.char_indices().filter(|(_, c)| *c == ':').map(|(at, _)| at);
    for at in colons {
        let (from, to) = (&text[..at], &text[at + 1..]);
        let whole = |text: &str| text.is_empty() || time(text, 0).is_some();
        if whole(from) && whole(to) && !(from.is_empty() && to.is_empty()) {
            // `2026-01-31T10` is no time, so a colon of a clock can't be taken for this one; the first that fits is it.
            return (from, Some(to));
        }
    }
    (text, None)
}

/// A time in ms since 1970.
pub(crate) fn time(text: &str, now_ms: i64) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.len() {
        13 if digits => return text.parse().ok(),
        10 if digits => return text.parse::<i64>().ok().map(|seconds| seconds * 1000),
        _ => {}
    }
    if let Some(back) = text.strip_prefix('-') {
        // A unit is a must: `-1` is a number of records elsewhere.
        let has_unit = back.ends_with(|c: char| c.is_ascii_alphabetic());
        let back_ms = duration(back).ok().filter(|_| has_unit)?.as_millis();
        return now_ms.checked_sub(i64::try_from(back_ms).ok()?);
    }
    if digits {
        return None;
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    let utc =
        |time: DateTime| time.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp().as_millisecond());
    match text.contains('T') {
        true if text.matches(':').count() >= 1 => text.parse::<DateTime>().ok().and_then(utc),
        true => None,
        false => text.parse::<Date>().ok().and_then(|date| utc(date.at(0, 0, 0, 0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn parse(text: &str) -> Option<(Point, Option<Point>)> {
        Offsets::parse(text, NOW_MS).ok().map(|offsets| (offsets.from, offsets.to))
    }

    #[test]
    fn every_form_of_the_language_means_what_it_says() {
        use Point::*;
        let jan_31 = 1_769_817_600_000;
        let forms = [
            ("start", Start, None),
            ("end", End, None),
            (":end", Start, Some(End)),
            ("+7", BehindStart(7), None),
            ("-7", BeforeEnd(7), None),
            ("7", At(7), None),
            ("7:", At(7), None),
            (":7", Start, Some(At(7))),
            ("7:9", At(7), Some(At(9))),
            ("-5:end", BeforeEnd(5), Some(End)),
            ("@1769817600000", Time(jan_31), None),
            ("@1769817600", Time(jan_31), None),
            ("@2026-01-31", Time(jan_31), None),
            ("@2026-01-31T00:00:00Z", Time(jan_31), None),
            ("@2026-01-31T01:00:00+01:00", Time(jan_31), None),
            ("@2026-01-31T00:00", Time(jan_31), None),
            ("@-1h", Time(NOW_MS - 3_600_000), None),
            ("@-1h:", Time(NOW_MS - 3_600_000), None),
            ("@:-500ms", Start, Some(Time(NOW_MS - 500))),
            ("@2026-01-31:-1d", Time(jan_31), Some(Time(NOW_MS - 86_400_000))),
            ("@2026-01-31T00:00:00Z:2026-01-31T00:00:01Z", Time(jan_31), Some(Time(jan_31 + 1000))),
        ];
        for (text, from, to) in forms {
            assert_eq!(parse(text), Some((from, to)), "{text}");
        }
    }

    #[test]
    fn what_is_not_in_the_language_is_refused() {
        for text in [
            "",
            ":",
            "beginning",
            "1.5",
            "--1",
            "+-1",
            "1:2:3",
            "@",
            "@:",
            "@yesterday",
            "@-1",
            "@12345",
            "@-1y",
            "@2026-13-01",
            "99999999999999999999",
            " 7",
            "7 ",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        for text in ["7:", ":7", "7:9", "@-1h:"] {
            assert!(Offsets::parse_place(text, NOW_MS).is_err(), "{text}");
        }
        assert!(Offsets::parse_place("@-1h", NOW_MS).is_ok());
    }
}
