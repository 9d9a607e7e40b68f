//! Pure. A usage limit that stops a worker's agent: until when the worker waits, and when it does not wait.
//!
//! Only the agent's own report counts as a limit: a status, an event, or the error at the end of its screen after it
//! reported that it failed. Words that it merely shows are none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WorkerLimits;
use crate::rules::time::{Now, human_ms};

/// What a worker does when its agent hits a usage limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLimit {
    /// It waits for the end of the limit, and goes on.
    #[default]
    Wait,
    /// It ends.
    Stop,
}

/// What the loop does with an agent whose supervisor is gone, after a restart of the machine for example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLost {
    /// It asks the user once, about all of them.
    #[default]
    Ask,
    /// It resumes them.
    Resume,
}

/// The usage limit of a runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerLimit {
    pub runner: String,
    /// When it may be called again, in milliseconds since the Unix epoch.
    pub until_ms: i64,
    /// Its words about the limit; untrusted text.
    pub why: String,
}

/// A usage limit that a worker waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageLimit {
    /// The runner whose limit it is.
    pub runner: String,
    /// The runner's words about it; untrusted text.
    pub why: String,
    /// When the worker goes on, in milliseconds since the Unix epoch.
    pub until_ms: i64,
    /// True if the user typed to the worker meanwhile. Then looop types nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub touched: bool,
}

/// How long a limit is assumed to last whose message names no end, in milliseconds.
const UNKNOWN_MS: i64 = 30 * 60_000;

impl RunnerLimit {
    /// The limit of a runner whose message says when it ends. The margin is added, because messages round down.
    pub fn new(
        runner: &str,
        why: &str,
        resets_ms: Option<i64>,
        limits: &WorkerLimits,
        now: Now,
    ) -> RunnerLimit {
        let resets_ms = resets_ms.unwrap_or(now.unix_ms.saturating_add(UNKNOWN_MS)).max(now.unix_ms);
        let until_ms = resets_ms.saturating_add(limits.limit_margin_ms);
        RunnerLimit { runner: runner.to_owned(), until_ms, why: why.to_owned() }
    }
}

impl UsageLimit {
    /// The limit of a runner, for a worker that goes on after `ahead` others: a quarter of the margin after each.
    pub fn new(limit: RunnerLimit, ahead: usize, limits: &WorkerLimits) -> UsageLimit {
        let RunnerLimit { runner, until_ms, why } = limit;
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        let ahead_ms = (limits.limit_margin_ms / 4).saturating_mul(ahead);
        UsageLimit { runner, why, until_ms: until_ms.saturating_add(ahead_ms), touched: false }
    }

    /// Says why a worker does not wait for this limit; `None` if it waits. `waits` counts the limits that it waited for.
    pub fn refusal(&self, limits: &WorkerLimits, waits: u32, now: Now) -> Option<String> {
        let wait_ms = self.until_ms.saturating_sub(now.unix_ms);
        let why = if limits.on_limit == OnLimit::Stop {
            "`on_limit` is `stop`".to_owned()
        } else if waits >= limits.limit_waits {
            format!("it has waited for {waits} already (limits.limit_waits)")
        } else if wait_ms > limits.wall_ms {
            format!("it would wait for {}, longer than limits.worker_wall", human_ms(wait_ms))
        } else {
            return None;
        };
        Some(format!("{} is at its usage limit, and {why}: {}", self.runner, self.why))
    }

    /// The time of day at which the worker goes on, with the day if that is not today.
    pub fn until(&self, now: Now) -> String {
        let until = now.at(self.until_ms);
        let form = if until.day() == now.day() { "%H:%M" } else { "%a %H:%M" };
        until.local().strftime(form).to_string()
    }

    /// Describes it for the journal and for a notice.
    pub fn words(&self, now: Now) -> String {
        format!("limited until {}: {}", self.until(now), self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now::fixed(1_795_265_100_000, 3600);
    const HOUR: i64 = 3_600_000;

    fn limit(resets_ms: Option<i64>, ahead: usize) -> UsageLimit {
        let limits = WorkerLimits::default();
        let limit = RunnerLimit::new("claude", "You've hit your limit", resets_ms, &limits, NOW);
        UsageLimit::new(limit, ahead, &limits)
    }

    #[test]
    fn a_worker_goes_on_a_minute_after_the_reset_and_after_those_ahead() {
        let wait = |resets_ms, ahead| limit(resets_ms, ahead).until_ms - NOW.unix_ms;
        assert_eq!(wait(Some(NOW.unix_ms + HOUR), 0), HOUR + 60_000);
        assert_eq!(wait(Some(NOW.unix_ms + HOUR), 3), HOUR + 60_000 + 45_000);
        assert_eq!(wait(Some(0), 0), 60_000, "a reset in the past");
        assert_eq!(wait(None, 0), 31 * 60_000, "no reset is named");
        assert_eq!(wait(Some(i64::MAX), usize::MAX), i64::MAX - NOW.unix_ms);
    }

    #[test]
    fn a_worker_waits_only_as_often_and_as_long_as_its_limits_allow() {
        let limits = WorkerLimits { limit_waits: 2, wall_ms: 2 * HOUR, ..WorkerLimits::default() };
        let stops = WorkerLimits { on_limit: OnLimit::Stop, ..limits.clone() };
        let soon = limit(Some(NOW.unix_ms + HOUR), 0);
        assert_eq!(soon.refusal(&limits, 0, NOW), None);
        assert_eq!(soon.refusal(&limits, 1, NOW), None);
        for (limit, limits, waits, why) in [
            (&soon, &stops, 0, "`on_limit` is `stop`: You've hit"),
            (&soon, &limits, 2, "it has waited for 2 already"),
            (&limit(Some(NOW.unix_ms + 2 * HOUR), 0), &limits, 0, "it would wait for 2h 1m, longer than"),
        ] {
            let refusal = limit.refusal(limits, waits, NOW).unwrap();
            assert!(refusal.contains(why), "{refusal}");
        }
    }

    #[test]
    fn the_end_is_a_time_of_today_or_names_its_day() {
        assert_eq!(limit(Some(NOW.unix_ms + HOUR), 0).until(NOW), "14:46");
        assert_eq!(limit(Some(NOW.unix_ms + 24 * HOUR), 0).until(NOW), "Sun 13:46");
    }
}
