//! Pure. Time as a value: one reading of the clock, and computations with it.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

/// The last moment that the calendar can show in each zone, on 9999-12-30. A correct clock never shows a later one.
pub const LAST_MS: i64 = 253_402_207_200_000;

/// The rules of a time zone, so that each moment has its own offset.
#[derive(Clone, Copy, Debug)]
pub enum Zone {
    /// Seconds east of UTC, at all times.
    Fixed(i32),
    /// A zone with its changes to and from summer time.
    Rules(&'static TimeZone),
}

impl Zone {
    /// The zone for the calendar; UTC if an offset is too large for one.
    pub fn rules(self) -> TimeZone {
        match self {
            Zone::Fixed(offset_s) => {
                Offset::from_seconds(offset_s).map_or(TimeZone::UTC, |offset| offset.to_time_zone())
            }
            Zone::Rules(zone) => zone.clone(),
        }
    }
}

/// One reading of the wall clock, with the local zone. A file keeps the offset of that moment only.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(into = "NowFile", from = "NowFile")]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
    pub zone: Zone,
}

/// A reading as files hold it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NowFile {
    unix_ms: i64,
    /// Seconds east of UTC.
    offset_s: i32,
}

impl From<Now> for NowFile {
    fn from(now: Now) -> NowFile {
        NowFile { unix_ms: now.unix_ms, offset_s: now.offset_s() }
    }
}

impl From<NowFile> for Now {
    fn from(NowFile { unix_ms, offset_s }: NowFile) -> Now {
        Now::fixed(unix_ms, offset_s)
    }
}

impl PartialEq for Now {
    fn eq(&self, other: &Now) -> bool {
        (self.unix_ms, self.offset_s()) == (other.unix_ms, other.offset_s())
    }
}

impl Eq for Now {}

impl Now {
    /// A moment in a zone that is always `offset_s` seconds east of UTC.
    pub const fn fixed(unix_ms: i64, offset_s: i32) -> Now {
        Now { unix_ms, zone: Zone::Fixed(offset_s) }
    }

    /// Converts a clock reading in seconds and nanoseconds since the Unix epoch. A time outside the years 1970 to 9999
    /// becomes the nearest one that [`clock_flaw`] reports.
    pub fn from_clock(seconds: i64, nanoseconds: i64, zone: Zone) -> Now {
        let unix_ms = seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000);
        Now { unix_ms: unix_ms.clamp(-1, LAST_MS + 1), zone }
    }

    /// The moment for the calendar; a time outside the years 1970 to 9999 becomes the nearest one inside.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_millisecond(self.unix_ms.clamp(0, LAST_MS)).unwrap_or_default()
    }

    /// The offset of the zone at this moment, in seconds east of UTC.
    pub fn offset_s(&self) -> i32 {
        match self.zone {
            Zone::Fixed(offset_s) => offset_s,
            Zone::Rules(zone) => zone.to_offset(self.timestamp()).seconds(),
        }
    }

    /// The local time.
    pub fn local(&self) -> DateTime {
        self.zone.rules().to_datetime(self.timestamp())
    }

    /// The local calendar day, `2026-11-21`.
    pub fn day(&self) -> String {
        self.local().strftime("%Y-%m-%d").to_string()
    }

    /// The local month, `2026-11`.
    pub fn month(&self) -> String {
        self.local().strftime("%Y-%m").to_string()
    }

    /// Local time with its zone, to the second: `2026-11-21 09:15:03 +01:00`.
    pub fn stamp(&self) -> String {
        self.timestamp().to_zoned(self.zone.rules()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
    }

    /// Returns another moment in the same zone.
    pub fn at(&self, unix_ms: i64) -> Now {
        Now { unix_ms, zone: self.zone }
    }

    /// True if `wait_ms` have passed since `since_ms`. A start in the future means that the clock was set back; the
    /// wait is then over, because its real duration is unknown.
    pub fn waited(&self, since_ms: i64, wait_ms: i64) -> bool {
        since_ms > self.unix_ms || self.unix_ms.saturating_sub(since_ms) >= wait_ms
    }

    /// Milliseconds since `since_ms`, never negative.
    pub fn elapsed_ms(&self, since_ms: i64) -> i64 {
        self.unix_ms.saturating_sub(since_ms).max(0)
    }
}

/// Says what is wrong with a clock that shows this time; `None` if the time is plausible.
pub fn clock_flaw(now: Now) -> Option<String> {
    match now.unix_ms {
        ..0 => Some("the clock shows a time before 1970".to_owned()),
        0..=LAST_MS => None,
        _ => Some("the clock shows a time after the year 9999".to_owned()),
    }
}

/// Formats a duration for the user, with at most two units: `4s`, `3m 20s`, `2h 5m`, `6d 1h`.
pub fn human_ms(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    match s {
        0 => format!("{}ms", ms.max(0)),
        1..60 => format!("{s}s"),
        60..3600 => pair(s / 60, "m", s % 60, "s"),
        3600..86_400 => pair(s / 3600, "h", s % 3600 / 60, "m"),
        _ => pair(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

fn pair(big: i64, big_unit: &str, small: i64, small_unit: &str) -> String {
    match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit} {small}{small_unit}"),
    }
}

/// Parses `90s`, `15m`, `12h`, `2d` or `250ms` into milliseconds.
///
/// # Errors
/// Says what a duration looks like if the text is not one, or is over 366 days.
pub fn parse_ms(text: &str) -> Result<i64, String> {
    let bad = || format!("`{text}` is not a duration; write it as 90s, 15m, 12h or 2d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let number: i64 = text[..digits].parse().map_err(|_| bad())?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    number
        .checked_mul(unit_ms)
        .filter(|ms| *ms <= 366 * 86_400_000)
        .ok_or_else(|| format!("`{text}` is over 366 days"))
}

/// Parses a time with a zone, such as [`Now::stamp`] makes or RFC 3339 describes, into milliseconds since the Unix epoch.
pub fn stamped_ms(text: &str) -> Option<i64> {
    let stamp = text.parse().or_else(|_| Timestamp::strptime("%Y-%m-%d %H:%M:%S %:z", text));
    Some(stamp.ok()?.as_millisecond())
}

/// Parses the start of a period: an age like `2h`, a local day, a local time, or a time with its zone.
///
/// # Errors
/// Says which forms are known.
pub fn parse_since(text: &str, now: Now) -> Result<i64, String> {
    let local = || now.zone.rules().to_timestamp(text.parse::<DateTime>().ok()?).ok();
    let age = || parse_ms(text).ok().map(|age_ms| now.unix_ms.saturating_sub(age_ms));
    let known = "an age (7d, 12h), a day (2026-11-21), or a time (\"2026-11-21 09:15\")";
    let start = stamped_ms(text).or_else(|| Some(local()?.as_millisecond())).or_else(age);
    start.ok_or_else(|| format!("could not read the start {text:?}: expected {known}"))
}

/// Returns the id of a beat: its start in milliseconds, in base 36. Ids sort by time and are never reused, because a
/// beat starts at `max(now, last + 1)`.
pub fn beat_id(ms: i64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rest = ms.max(0) as u64;
    let mut out = Vec::new();
    while rest > 0 || out.is_empty() {
        out.push(DIGITS[(rest % 36) as usize]);
        rest /= 36;
    }
    out.reverse();
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_and_formatted() {
        assert_eq!(parse_ms("90s"), Ok(90_000));
        assert_eq!(parse_ms("12h"), Ok(43_200_000));
        assert_eq!(parse_ms("250ms"), Ok(250));
        for bad in ["", "s", "1", "-1s", "1w", "1 s", "99999999999999999999s", "400d"] {
            assert!(parse_ms(bad).is_err(), "{bad}");
        }
        assert_eq!(human_ms(200_000), "3m 20s");
        assert_eq!(human_ms(7_500_000), "2h 5m");
    }

    #[test]
    fn the_start_of_a_period_is_an_age_a_day_or_a_time() {
        let now = Now::fixed(1_795_218_410_413, 3600);
        for (text, ago_ms) in [
            ("90m", 5_400_000),
            ("2026-11-21", 2_810_413),
            ("2026-11-20 23:46", 3_650_413),
            ("2026-11-21 00:46:50 +01:00", 413),
            ("2026-11-20T23:46:50Z", 413),
        ] {
            assert_eq!(parse_since(text, now), Ok(now.unix_ms - ago_ms), "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "2026-11-21 25:00", "-1d"] {
            assert!(parse_since(bad, now).unwrap_err().contains("expected an age"), "{bad}");
        }
    }

    #[test]
    fn a_wait_that_starts_in_the_future_is_over() {
        let now = Now::fixed(1_000, 0);
        assert!(now.waited(5_000, 60_000));
        assert!(!now.waited(500, 60_000));
        assert!(now.waited(500, 500));
    }

    #[test]
    fn beat_ids_sort_by_time() {
        assert!(beat_id(1_795_218_410_413) < beat_id(1_795_218_410_414));
        assert_eq!(beat_id(0), "0");
    }

    #[test]
    fn a_clock_outside_the_valid_years_is_reported() {
        for (seconds, flaw) in [
            (i64::MIN, Some("before 1970")),
            (-1, Some("before 1970")),
            (0, None),
            (1_795_218_410, None),
            (253_402_207_200, None),
            (253_402_207_201, Some("after the year 9999")),
            (8_210_298_412_800, Some("after the year 9999")),
            (i64::MAX, Some("after the year 9999")),
        ] {
            let found = clock_flaw(Now::from_clock(seconds, 0, Zone::Fixed(0)));
            assert_eq!(found.is_some(), flaw.is_some(), "{seconds}");
            assert!(found.unwrap_or_default().contains(flaw.unwrap_or_default()), "{seconds}");
        }
    }

    #[test]
    fn a_moment_outside_of_the_years_is_shown_as_the_nearest_one_within() {
        let day = |unix_ms: i64| Now::fixed(unix_ms, 0).day();
        assert_eq!((day(-1), day(-86_400_000_000)), ("1970-01-01".to_owned(), "1970-01-01".to_owned()));
        for late in [LAST_MS + 1, LAST_MS + 86_400_000_000, i64::MAX] {
            assert_eq!(day(late), "9999-12-30", "{late}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_moment_in_any_zone_is_printed_and_compared(unix_ms: i64, offset_s: i32, other: i64, wait_ms: i64) {
            let now = Now::fixed(unix_ms, offset_s);
            let years = now.day().parse::<jiff::civil::Date>().map(|day| day.year());
            // The local date may differ from UTC by a day.
            proptest::prop_assert!(matches!(years, Ok(1969..=9999)) || now.day().starts_with("+10000"), "{}", now.day());
            let texts = [now.month(), now.stamp(), now.at(other).stamp(), human_ms(unix_ms), beat_id(unix_ms)];
            proptest::prop_assert!(texts.iter().all(|text| !text.is_empty()));
            proptest::prop_assert!(now.elapsed_ms(other) >= 0);
            let _either = now.waited(other, wait_ms);
            let read = Now::from_clock(unix_ms, other, now.zone);
            proptest::prop_assert!((-1..=LAST_MS + 1).contains(&read.unix_ms));
        }
    }

    #[test]
    fn a_moment_is_formatted_in_its_own_zone() {
        let now = Now::fixed(0, 3600);
        assert_eq!(now.stamp(), "1970-01-01 01:00:00 +01:00");
        assert_eq!(now.day(), "1970-01-01");
    }
}
