//! Pure. When a usage limit ends, as providers and agent CLIs write it in their messages and headers.

use std::sync::LazyLock;

use jiff::Span;
use jiff::civil::{Date, DateTime as CivilTime, Weekday};
use jiff::fmt::rfc2822;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use regex_lite::{Captures, Regex};

use crate::rules::time::Now;

/// The furthest end of a limit, in milliseconds from now: a month and a day. A later one becomes this one.
const MAX_MS: i64 = 32 * 86_400_000;
/// How long a named time of day still means today after it has passed, in milliseconds. Messages name whole minutes.
const GRACE_MS: i64 = 5 * 60_000;

/// Seconds or milliseconds since the epoch: `"resets_at":1795270000`, `limit reached|1795270000`.
static EPOCH: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r#"(?:\||(?:resets?|retry|until)[a-z_ ]*"?\s*[:= ]\s*"?)(\d{10})(\d{3})?\b"#));
/// A number of seconds whose unit is in its name: `"resets_in_seconds":3600`, `retry-after: 30`.
static SECONDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r#"(?:resets?[_-](?:in|after)[_-]seconds|retry[_-]after)"?\s*[:= ]\s*"?(\d+(?:\.\d+)?)(?:["\s,}]|$)"#,
    )
});
/// A duration: `in 2 hours 5 minutes`, `Resets in 4h18m58s`, `"retryDelay":"34.07s"`.
static SPAN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words = r#"(?:again|resets?|retry|retrydelay)"?[:\s]*(?:in|after)?[\s"~]*"#;
    let unit = "(?:ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)";
    pattern(&format!(r"{words}((?:\d+(?:\.\d+)?\s*{unit}(?:\s*,\s*|\s+and\s+|\s*))+)(?:[^a-z0-9]|$)"))
});
static SPAN_PART: LazyLock<Option<Regex>> = LazyLock::new(|| pattern(r"(\d+(?:\.\d+)?)\s*([a-z]+)"));
/// A time of day, with or without a day: `resets 7pm (UTC)`, `try again at 5:42 PM`, `resets Sep 12, 9am`.
static CLOCK: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words = r"(?:again|resets?|until|available)(?:\s+(?:at|on))?\s+";
    let iso = r"(?P<iso>\d{4}-\d\d-\d\d)[t\s]+";
    let named = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?(?:,?\s+(?P<year>\d{4}))?";
    let week = r"(?P<week>tomorrow|today|mon|tue|wed|thu|fri|sat|sun)[a-z]*";
    let time = r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d)(?::\d\d(?:\.\d+)?)?)?\s*(?P<half>[ap]\.?m\b)?\.?";
    let zone = r"\s*(?:(?P<offset>z\b|[+-]\d\d:?\d\d)|\(?(?P<zone>[a-z]+(?:[/_+-][a-z0-9_+-]+)+|utc|gmt)\b\)?|\((?P<named>[a-z0-9_+/-]+)\))?";
    pattern(&format!(r"{words}(?:{iso}|(?:{named}|{week})(?:,?\s+at\s+|,?\s+))?{time}{zone}"))
});

/// Parses when a limit ends from a message, in milliseconds since the epoch. A time of day is the next one in the zone
/// that the message names, else in the local one. A zone that is not known gives no moment rather than a wrong one.
pub fn reset_at_ms(text: &str, now: Now) -> Option<i64> {
    // Node writes a narrow space between a time and its half of the day.
    let text = text.to_lowercase().replace(['\u{202f}', '\u{a0}'], " ");
    let after = |ms: i64| now.unix_ms.saturating_add(ms);
    let moment = epoch_ms(&text)
        .or_else(|| SECONDS.as_ref()?.captures(&text).and_then(|found| seconds_ms(&found[1])).map(after))
        .or_else(|| SPAN.as_ref()?.captures(&text).and_then(|found| span_ms(&found[1])).map(after))
        .or_else(|| CLOCK.as_ref()?.captures_iter(&text).find_map(|found| clock_ms(&found, now)))?;
    Some(bounded(moment, now))
}

/// The wait that a `Retry-After` header asks for, in milliseconds: it holds seconds or a date. A date is compared with the
/// `Date` of the same response, because the clocks may differ.
pub fn retry_after_ms(header: &str, date: Option<&str>, now: Now) -> Option<i64> {
    let moment = |text: &str| Some(rfc2822::parse(text.trim()).ok()?.timestamp().as_millisecond());
    let wait_ms = match seconds_ms(header) {
        Some(ms) => ms,
        None => moment(header)?.saturating_sub(date.and_then(moment).unwrap_or(now.unix_ms)).max(0),
    };
    Some(wait_ms.min(MAX_MS))
}

/// The end of a limit that an event holds as seconds since the epoch.
pub fn bounded(unix_ms: i64, now: Now) -> i64 {
    unix_ms.min(now.unix_ms.saturating_add(MAX_MS))
}

/// The tests match each of these patterns, so none is absent.
fn pattern(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

fn epoch_ms(text: &str) -> Option<i64> {
    let found = EPOCH.as_ref()?.captures(text)?;
    let seconds: i64 = found[1].parse().ok()?;
    let ms = found.get(2).map_or(Some(0), |ms| ms.as_str().parse().ok())?;
    Some(seconds * 1000 + ms)
}

fn seconds_ms(text: &str) -> Option<i64> {
    let seconds: f64 = text.trim().parse().ok()?;
    (0.0..1e9).contains(&seconds).then(|| (seconds * 1000.0).ceil() as i64)
}

fn span_ms(text: &str) -> Option<i64> {
    let mut total = 0.0;
    for part in SPAN_PART.as_ref()?.captures_iter(text) {
        let unit_ms = match &part[2] {
            "ms" | "millisecond" | "milliseconds" => 1.0,
            unit if unit.starts_with('s') => 1e3,
            unit if unit.starts_with('m') => 6e4,
            unit if unit.starts_with('h') => 3.6e6,
            unit if unit.starts_with('d') => 8.64e7,
            _ => 6.048e8,
        };
        total += part[1].parse::<f64>().ok()? * unit_ms;
    }
    // What is over a thousand years is bounded as well, and fits.
    Some(total.min(3e13).ceil() as i64)
}

fn clock_ms(found: &Captures, now: Now) -> Option<i64> {
    let part = |name: &str| found.name(name).map(|part| part.as_str());
    let (hour, minute): (i8, Option<i8>) = (part("hour")?.parse().ok()?, number(part("minute"))?);
    let hour = match part("half").map(|half| half.starts_with('p')) {
        Some(is_afternoon) if (1..=12).contains(&hour) => hour % 12 + if is_afternoon { 12 } else { 0 },
        // A number alone can mean anything.
        None if minute.is_some() => hour,
        _ => return None,
    };
    let zone = match (part("offset"), part("zone").or(part("named"))) {
        (Some(offset), _) => fixed_zone(offset)?,
        (None, Some(name)) => TimeZoneDatabase::bundled().get(name).ok()?,
        (None, None) => now.zone.rules(),
    };
    let today = zone.to_datetime(now.timestamp()).date();
    // The day, and what to add to it if it has passed.
    let (day, again) = match (part("iso"), part("month"), part("week")) {
        (Some(iso), ..) => (iso.parse().ok()?, None),
        (_, Some(month), _) => {
            let (year, day): (Option<i16>, i8) = (number(part("year"))?, part("day")?.parse().ok()?);
            let date = Date::new(year.unwrap_or(today.year()), month_of(month)?, day).ok()?;
            (date, year.is_none().then(|| Span::new().years(1)))
        }
        (.., Some("tomorrow")) => (today.tomorrow().ok()?, None),
        (.., Some(name)) if name != "today" => {
            (today.yesterday().ok()?.nth_weekday(1, weekday_of(name)?).ok()?, Some(Span::new().days(7)))
        }
        _ => (today, Some(Span::new().days(1))),
    };
    let at_ms = |day: Date| {
        let time = CivilTime::from_parts(day, jiff::civil::Time::new(hour, minute.unwrap_or(0), 0, 0).ok()?);
        Some(zone.to_timestamp(time).ok()?.as_millisecond())
    };
    let first = at_ms(day)?;
    match again.filter(|_| first.saturating_add(GRACE_MS) < now.unix_ms) {
        Some(span) => at_ms(day.checked_add(span).ok()?),
        None => Some(first),
    }
}

/// The number in a part of a pattern: none if the part is absent, and no result if it is too large.
fn number<T: std::str::FromStr>(text: Option<&str>) -> Option<Option<T>> {
    text.map_or(Some(None), |text| text.parse().ok().map(Some))
}

fn fixed_zone(text: &str) -> Option<TimeZone> {
    let Some(digits) = text.strip_prefix(['+', '-']) else { return Some(TimeZone::UTC) };
    let digits = digits.replace(':', "");
    let seconds = digits[..2].parse::<i32>().ok()? * 3600 + digits[2..].parse::<i32>().ok()? * 60;
    let sign = if text.starts_with('-') { -1 } else { 1 };
    Some(TimeZone::fixed(Offset::from_seconds(sign * seconds).ok()?))
}

fn month_of(name: &str) -> Option<i8> {
    let names = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    names.iter().zip(1..).find(|(month, _)| **month == name).map(|(_, number)| number)
}

fn weekday_of(name: &str) -> Option<Weekday> {
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let number = names.iter().zip(1..).find(|(day, _)| **day == name).map(|(_, number)| number)?;
    Weekday::from_monday_one_offset(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    /// 2026-09-10, a Thursday, 20:30 in UTC; the local zone is two hours east.
    const NOW: Now = Now::fixed(1_789_072_200_000, 7200);

    fn ms(text: &str) -> Option<i64> {
        Some(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn the_end_of_a_limit_is_read_in_each_form() {
        assert_eq!(NOW.stamp(), "2026-09-10 22:30:00 +02:00");
        let after = |ms: i64| Some(NOW.unix_ms + ms);
        for (text, expected) in [
            // A time of day is the next one, in its zone.
            ("You've hit your session limit · resets 7pm (UTC)", ms("2026-09-11T19:00:00Z")),
            ("You've hit your limit · resets 11:40pm (America/Toronto)", ms("2026-09-11T03:40:00Z")),
            ("Your limit will reset at 9pm (Europe/London).", ms("2026-09-11T20:00:00Z")),
            ("You've hit your usage limit. Try again at 5:42 PM.", ms("2026-09-11T15:42:00Z")),
            ("try again at 11:42\u{202f}PM", ms("2026-09-10T21:42:00Z")),
            ("resets 12am (Etc/UTC)", ms("2026-09-11T00:00:00Z")),
            ("resets 12pm UTC", ms("2026-09-11T12:00:00Z")),
            ("limit resets at 21:15 (UTC)", ms("2026-09-10T21:15:00Z")),
            ("resets 3:30am (Asia/Kolkata)", ms("2026-09-10T22:00:00Z")),
            // It ended a moment ago: tomorrow's would be a day too late.
            ("resets 8:28pm (UTC)", ms("2026-09-10T20:28:00Z")),
            ("resets 8:20pm (UTC)", ms("2026-09-11T20:20:00Z")),
            // Days.
            ("You've hit your weekly limit · resets Sep 12, 9am", ms("2026-09-12T07:00:00Z")),
            ("resets Sep 12 at 9am (America/New_York)", ms("2026-09-12T13:00:00Z")),
            ("try again at Sep 12th, 2026 9:05 AM", ms("2026-09-12T07:05:00Z")),
            ("resets Mon 9am (UTC)", ms("2026-09-14T09:00:00Z")),
            ("resets Thursday at 9pm (UTC)", ms("2026-09-10T21:00:00Z")),
            ("resets Thu 9am (UTC)", ms("2026-09-17T09:00:00Z")),
            ("available tomorrow at 07:00 UTC", ms("2026-09-11T07:00:00Z")),
            ("try again on 2026-09-12 09:00 UTC", ms("2026-09-12T09:00:00Z")),
            ("\"resets at 2026-09-11T03:00:00.123+05:30\"", ms("2026-09-10T21:30:00Z")),
            // Durations.
            ("Usage limit reached. Resets in 4h18m58s", after(15_538_000)),
            ("Your quota will reset after 18h51m4s.", after(67_864_000)),
            ("Try again in 2 hours 5 minutes.", after(7_500_000)),
            ("try again in 1 day, 3 hours and 20 minutes.", after(98_400_000)),
            ("Please try again in 1.25s. Visit the page", after(1_250)),
            ("Please try again in 20ms", after(20)),
            ("{\"retryDelay\":\"34.07s\"}", after(34_070)),
            ("retry-after: 90", after(90_000)),
            ("{\"type\":\"usage_limit_reached\",\"resets_in_seconds\":3600}", after(3_600_000)),
            // Moments of machines.
            ("Claude AI usage limit reached|1789080000", Some(1_789_080_000_000)),
            ("{\"plan_type\":\"plus\",\"resets_at\":1789080000}", Some(1_789_080_000_000)),
            ("{\"resetsAt\": 1789080000123}", Some(1_789_080_000_123)),
            // Too far away to believe.
            ("resets in 900 days", after(MAX_MS)),
            ("resets in 99999999999999999999 days", after(MAX_MS)),
            ("limit reached|4102444800", after(MAX_MS)),
            ("resets Jan 2, 9am", after(MAX_MS)),
        ] {
            assert_eq!(reset_at_ms(text, NOW), expected, "{text}");
        }
        for text in [
            "try again in a while",
            "try again at 3",
            "resets 7pm (Mars/Olympus)",
            "resets 13pm",
            "resets 25:00",
            "resets Feb 30, 9am",
            "the meeting is at 7pm (UTC)",
            "|12",
            "",
        ] {
            assert_eq!(reset_at_ms(text, NOW), None, "{text}");
        }
    }

    #[test]
    fn a_day_without_a_year_is_the_next_one() {
        let winter = Now::fixed(ms("2026-12-30T12:00:00Z").unwrap(), 0);
        assert_eq!(reset_at_ms("resets Jan 2, 9am", winter), ms("2027-01-02T09:00:00Z"));
    }

    #[test]
    fn a_time_that_summer_time_skips_or_repeats_has_one_moment() {
        for (now, text, expected) in [
            ("2026-03-28T20:00:00Z", "resets 2:30am (Europe/Berlin)", "2026-03-29T01:30:00Z"),
            ("2026-10-24T20:00:00Z", "resets 2:30am (Europe/Berlin)", "2026-10-25T00:30:00Z"),
            ("2026-10-24T20:00:00Z", "resets 9am (Europe/Berlin)", "2026-10-25T08:00:00Z"),
        ] {
            let now = Now::fixed(ms(now).unwrap(), 0);
            assert_eq!(reset_at_ms(text, now), ms(expected), "{text}");
        }
    }

    #[test]
    fn a_header_holds_seconds_or_a_date() {
        let read = |header, date| retry_after_ms(header, date, NOW);
        assert_eq!((read("30", None), read(" 1.5 ", None)), (Some(30_000), Some(1_500)));
        assert_eq!(read("Thu, 10 Sep 2026 20:31:00 GMT", None), Some(60_000));
        // The server's clock is an hour ahead.
        let date = Some("Thu, 10 Sep 2026 21:30:30 GMT");
        assert_eq!(read("Thu, 10 Sep 2026 21:31:00 GMT", date), Some(30_000));
        assert_eq!(read("Thu, 10 Sep 2020 20:31:00 GMT", None), Some(0));
        assert_eq!((read("soon", None), read("-1", None), read("", None)), (None, None, None));
        assert_eq!(read("99999999", None), Some(MAX_MS));
    }
}
