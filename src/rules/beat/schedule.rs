//! Pure. Durable timers: when one is due, counted from the last time it fired.

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::name::Name;
use crate::rules::time::Now;

/// When a timer fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FireTime {
    /// Once, this number of seconds after it was created.
    InS(u32),
    /// Repeatedly, with this number of seconds in between.
    EveryS(u32),
    /// At the times of a cron expression of five fields, in local time.
    Cron(String),
}

/// The content of `schedules/<name>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    pub when: FireTime,
    /// What to look at when it fires.
    pub note: String,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// True if the user set it, or a decision that saw no untrusted text. If the key is missing, it may have seen some.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean: bool,
}

/// A due timer as the world shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Due {
    pub name: Name,
    pub note: String,
    /// The time at which it came due, in milliseconds since the Unix epoch.
    pub due_ms: i64,
}

/// The shortest interval of a repeating timer, in seconds.
const MIN_EVERY_S: u32 = 60;

impl FireTime {
    /// Parses the three optional fields of a move, of which exactly one must be set.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn from_parts(
        in_s: Option<u32>,
        every_s: Option<u32>,
        cron: Option<&str>,
    ) -> Result<FireTime, String> {
        match (in_s, every_s, cron) {
            (Some(s), None, None) => Ok(FireTime::InS(s)),
            (None, Some(s), None) if s < MIN_EVERY_S => {
                Err(format!("`every_s` is {s}; {MIN_EVERY_S} is the least"))
            }
            (None, Some(s), None) => Ok(FireTime::EveryS(s)),
            (None, None, Some(text)) => parse_cron(text).map(|_| FireTime::Cron(text.to_owned())),
            _ => Err("exactly one of `in_s`, `every_s` and `cron` must be given".to_owned()),
        }
    }

    /// Checks if a timer that was written by hand can ever fire.
    ///
    /// # Errors
    /// Says why it never fires.
    pub fn check(&self) -> Result<(), String> {
        match self {
            FireTime::InS(_) | FireTime::EveryS(_) => Ok(()),
            FireTime::Cron(text) => parse_cron(text).map(drop),
        }
    }
}

fn parse_cron(text: &str) -> Result<Cron, String> {
    if text.split_whitespace().count() != 5 {
        return Err(format!("{text:?} is not a cron expression of five fields"));
    }
    let cron: Cron = text.parse().map_err(|e| format!("{text:?} is not a cron expression: {e}"))?;
    match cron.find_next_occurrence(&Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC), false) {
        Ok(_) => Ok(cron),
        Err(_) => Err(format!("{text:?} never matches a date")),
    }
}

impl Schedule {
    /// Returns the time at which the timer is due next, counted from `fired_ms` (the last time it fired); `None` if it
    /// never fires again. A cron expression is evaluated in the zone of `now`, so that it follows the wall clock at a
    /// change to summer time.
    pub fn next_ms(&self, fired_ms: Option<i64>, now: Now) -> Option<i64> {
        // True if the clock was set back after the timer was created.
        let set_back = self.created_ms > now.unix_ms;
        // A timer that was created again under the same name starts over.
        let fired = fired_ms.filter(|fired| set_back || *fired >= self.created_ms);
        match &self.when {
            FireTime::InS(_) if fired.is_some() => None,
            // If the start is in the future, the elapsed time is unknown: treat the timer as due.
            _ if fired.unwrap_or(self.created_ms) > now.unix_ms => Some(now.unix_ms),
            FireTime::InS(s) => self.created_ms.checked_add(i64::from(*s) * 1000),
            FireTime::EveryS(s) => {
                let step_ms = i64::from((*s).max(MIN_EVERY_S)) * 1000;
                let last = fired.unwrap_or(self.created_ms);
                // Fires on a fixed grid from its creation, and only once after any number of missed times.
                let from = self.created_ms.min(last);
                let periods = last.checked_sub(from)? / step_ms + 1;
                from.checked_add(periods.checked_mul(step_ms)?)
            }
            FireTime::Cron(text) => {
                let last = now.at(fired.unwrap_or(self.created_ms)).timestamp().to_zoned(now.zone.rules());
                let next = parse_cron(text).ok()?.find_next_occurrence(&last, false).ok()?;
                Some(next.timestamp().as_millisecond())
            }
        }
    }

    /// Returns the timer if it is due.
    pub fn due(&self, name: &Name, fired_ms: Option<i64>, now: Now) -> Option<Due> {
        let due_ms = self.next_ms(fired_ms, now)?;
        (due_ms <= now.unix_ms).then(|| Due { name: name.clone(), note: self.note.clone(), due_ms })
    }

    /// True if it never fires again.
    pub fn is_spent(&self, fired_ms: Option<i64>, now: Now) -> bool {
        self.next_ms(fired_ms, now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::time::Zone;

    const HOUR: i64 = 3_600_000;

    fn at(ms: i64) -> Now {
        Now::fixed(ms, 3600)
    }

    fn timer(when: FireTime) -> Schedule {
        Schedule { when, note: "n".to_owned(), created_ms: 0, clean: true }
    }

    #[test]
    fn a_timer_that_fires_once_never_fires_again() {
        let t = timer(FireTime::InS(90));
        assert_eq!(t.next_ms(None, at(0)), Some(90_000));
        assert!(t.is_spent(Some(90_000), at(90_000)));
        let again = Schedule { created_ms: 100_000, ..t };
        assert_eq!(again.next_ms(Some(90_000), at(100_000)), Some(190_000), "created again");
    }

    #[test]
    fn a_repeating_timer_keeps_its_grid_and_fires_once_for_missed_times() {
        let t = timer(FireTime::EveryS(60));
        assert_eq!(t.next_ms(None, at(0)), Some(60_000));
        assert_eq!(t.next_ms(Some(61_000), at(61_000)), Some(120_000));
        assert_eq!(t.next_ms(Some(10 * HOUR + 5), at(11 * HOUR)), Some(10 * HOUR + 60_000));
    }

    #[test]
    fn cron_is_local_time() {
        let t = timer(FireTime::Cron("0 9 * * *".to_owned()));
        assert_eq!(t.next_ms(None, at(0)), Some(8 * HOUR), "nine o'clock one hour east of UTC");
        assert_eq!(t.next_ms(Some(8 * HOUR), at(8 * HOUR)), Some(32 * HOUR));
    }

    #[test]
    fn a_cron_timer_fires_once_for_each_time_of_day_when_summer_time_begins_and_ends() {
        for (zone, cron, from, expected) in [
            (
                "Europe/Berlin",
                "0 9 * * *",
                "2026-10-24T12:00:00Z",
                ["2026-10-25T08:00:00Z", "2026-10-26T08:00:00Z"],
            ),
            (
                "Europe/Berlin",
                "0 9 * * *",
                "2026-03-28T12:00:00Z",
                ["2026-03-29T07:00:00Z", "2026-03-30T07:00:00Z"],
            ),
            // 02:30 is skipped: it fires where the gap ends. It comes twice: it fires the first time.
            (
                "Europe/Berlin",
                "30 2 * * *",
                "2026-03-28T12:00:00Z",
                ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
            ),
            (
                "Europe/Berlin",
                "30 2 * * *",
                "2026-10-24T12:00:00Z",
                ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
            ),
            // A timer of each hour goes on through both hours of this name.
            (
                "Europe/Berlin",
                "0 * * * *",
                "2026-10-25T00:00:00Z",
                ["2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"],
            ),
            // Here the clock changes by half an hour.
            (
                "Australia/Lord_Howe",
                "15 2 * * *",
                "2026-10-03T12:00:00Z",
                ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
            ),
            (
                "Australia/Lord_Howe",
                "45 1 * * *",
                "2026-04-04T12:00:00Z",
                ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
            ),
        ] {
            let rules = jiff::tz::TimeZoneDatabase::bundled().get(zone).unwrap();
            let zone = Zone::Rules(Box::leak(Box::new(rules)));
            let created_ms = from.parse::<Timestamp>().unwrap().as_millisecond();
            let t = Schedule { created_ms, ..timer(FireTime::Cron(cron.to_owned())) };
            let mut fired = None;
            for expected in expected {
                let now = Now { unix_ms: fired.unwrap_or(created_ms), zone };
                fired = t.next_ms(fired, now);
                let at = Timestamp::from_millisecond(fired.unwrap()).unwrap();
                assert_eq!(at.to_string(), expected, "{cron} after {from}");
            }
        }
    }

    #[test]
    fn a_huge_number_never_overflows() {
        let t = Schedule { created_ms: i64::MAX - 5, ..timer(FireTime::InS(u32::MAX)) };
        assert_eq!(t.next_ms(None, at(i64::MAX)), None);
    }

    proptest::proptest! {
        #[test]
        fn any_moments_give_a_timer_without_a_panic(created_ms: i64, fired: Option<i64>, unix_ms: i64, which in 0..3_usize) {
            let whens = [FireTime::InS(u32::MAX), FireTime::EveryS(u32::MAX), FireTime::Cron("0 9 29 2 *".to_owned())];
            let timer = Schedule { created_ms, ..timer(whens[which].clone()) };
            let next = timer.next_ms(fired, at(unix_ms));
            proptest::prop_assert_eq!(next.is_none(), timer.is_spent(fired, at(unix_ms)));
        }
    }

    #[test]
    fn a_timer_with_a_start_in_the_future_is_due_once() {
        for when in [FireTime::InS(90), FireTime::EveryS(60), FireTime::Cron("0 9 * * *".to_owned())] {
            let made_later = Schedule { created_ms: 30 * HOUR, ..timer(when.clone()) };
            assert_eq!(made_later.next_ms(None, at(HOUR)), Some(HOUR), "{when:?}");
            let next = made_later.next_ms(Some(HOUR), at(HOUR + 1000));
            match when {
                FireTime::InS(_) => assert_eq!(next, None),
                _ => assert!(next.unwrap() >= HOUR + 60_000, "{when:?}: {next:?}"),
            }
            let fired_later = timer(when.clone()).next_ms(Some(30 * HOUR), at(HOUR));
            assert_eq!(fired_later, (!matches!(when, FireTime::InS(_))).then_some(HOUR), "{when:?}");
        }
    }

    #[test]
    fn a_cron_expression_that_never_matches_is_refused() {
        for never in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            let why = FireTime::from_parts(None, None, Some(never)).unwrap_err();
            assert!(why.contains("never matches"), "{never}: {why}");
        }
        assert!(FireTime::from_parts(None, None, Some("0 0 29 2 *")).is_ok());
    }
}
