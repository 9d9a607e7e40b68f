//! Pure. The kinds of failure of a model call, and how long to wait after each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::time::Now;

/// The kind of failure that ended a decision. Records contain it as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Class {
    /// Temporary; another try may work.
    Transient,
    /// A usage limit is reached; the failure says when it ends, if known.
    Limit,
    /// The key or login is missing or wrong.
    Auth,
    /// The prompt is too long for the model.
    TooLong,
    /// The model refused to answer.
    Refused,
    /// The runner exited with an error.
    Crashed,
    /// The reply was empty.
    Empty,
    /// The call took too long.
    Timeout,
    /// The runner printed more than the limit.
    Flood,
    /// The program does not exist.
    Missing,
    /// The endpoint is not running; no call was made.
    Down,
    /// The user cancelled it.
    Cancelled,
    /// Two replies in a row, and neither was a valid move.
    Invalid,
    /// looop itself ended during the call.
    CutOff,
    /// The loop's memory was lost, including the last decision.
    Lost,
}

/// The first wait after a failure, in milliseconds; it doubles with each consecutive failure.
const FIRST_MS: i64 = 15_000;
/// The longest wait after a failure, in milliseconds, if the end of a limit is unknown.
const LONGEST_MS: i64 = 300_000;
/// The longest wait for the end of a limit, in milliseconds; a later end is not believed.
const LIMIT_MS: i64 = 24 * 3_600_000;

impl Class {
    /// Returns the wait after `fails` consecutive failures, the last one of this class, in milliseconds. `until_ms` is
    /// the time from the failure to the end of the limit.
    pub fn wait_ms(self, fails: u32, until_ms: Option<i64>) -> i64 {
        let doubled = 1_i64 << fails.saturating_sub(1).min(20);
        let usual = (FIRST_MS * doubled).min(LONGEST_MS);
        match (self, until_ms) {
            (Class::Limit | Class::Transient, Some(until)) => until.clamp(usual, LIMIT_MS),
            // Only the user or time fixes these, so a retry soon is useless.
            (Class::Limit | Class::Auth | Class::TooLong, _) => LONGEST_MS,
            _ => usual,
        }
    }

    /// What the user can do about it; empty if only waiting helps.
    pub fn remedy(self) -> &'static str {
        match self {
            Class::Auth => {
                "log in with the runner's own program, or set its key; `looop doctor runner` tries it"
            }
            Class::TooLong => {
                "shorten goals, PLAYBOOK or sensors, or use a model with a larger context window"
            }
            Class::Missing => "install it, or put its folder on `path` in the config",
            Class::Down => "start the endpoint, or correct `base_url` and `health` in the config",
            Class::Refused => "the model refused; try another model",
            _ => "",
        }
    }
}

/// Parses when a limit ends from a message, in milliseconds since the epoch: `…|1795270000`, or `in 2 hours 5 minutes`.
pub fn reset_at_ms(text: &str, now: Now) -> Option<i64> {
    let epoch = text.split('|').skip(1).find_map(|rest| {
        let digits: String = rest.trim().chars().take_while(char::is_ascii_digit).collect();
        (digits.len() == 10).then(|| digits.parse::<i64>().ok()).flatten()
    });
    if let Some(seconds) = epoch {
        return seconds.checked_mul(1000);
    }
    let lower = text.to_lowercase();
    let (_, after) = lower.split_once("again in ").or_else(|| lower.split_once("resets in "))?;
    span_ms(after).and_then(|ms| now.unix_ms.checked_add(ms))
}

/// Parses a duration as far as possible: `2 days 3 hours`, `1h 5m`, `20s`.
fn span_ms(text: &str) -> Option<i64> {
    let mut total: Option<i64> = None;
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', ',']).trim_start_matches("and ");
        let Some(digits) = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0) else {
            return total;
        };
        let count: i64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "s" | "sec" | "second" | "seconds" => 1_000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => return total,
        };
        total = Some(total.unwrap_or(0).checked_add(count.checked_mul(unit)?)?);
        rest = &rest[letters..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { unix_ms: 1_000_000, offset_s: 0 };

    #[test]
    fn a_failure_that_only_the_user_can_fix_waits_long_at_once() {
        let waits = [1, 2, 3, 6, 60].map(|n| Class::Crashed.wait_ms(n, None));
        assert_eq!(waits, [15_000, 30_000, 60_000, 300_000, 300_000]);
        assert_eq!(Class::Auth.wait_ms(1, None), LONGEST_MS);
        assert_eq!(Class::Limit.wait_ms(1, Some(3_600_000)), 3_600_000);
        assert_eq!(Class::Limit.wait_ms(1, Some(-5)), FIRST_MS, "a limit that has ended");
        let longest = Class::Limit.wait_ms(1, Some(i64::MAX));
        assert_eq!(longest, LIMIT_MS, "a runner cannot stop the loop for ever");
        assert_eq!(Class::Crashed.wait_ms(1, Some(3_600_000)), FIRST_MS);
    }

    #[test]
    fn the_word_is_the_one_in_records() {
        for class in [Class::Transient, Class::TooLong, Class::CutOff, Class::Down, Class::Refused] {
            assert_eq!(serde_json::to_value(class).unwrap(), class.to_string());
        }
    }

    #[test]
    fn the_end_of_a_limit_is_parsed_from_text() {
        let at = |text| reset_at_ms(text, NOW);
        assert_eq!(at("usage limit reached|1795270000"), Some(1_795_270_000_000));
        let hours = at("You've hit your usage limit. Try again in 2 hours 5 minutes.");
        assert_eq!(hours, Some(1_000_000 + 7_500_000));
        assert_eq!(at("try again in 1 day, 3 hours and 20 minutes."), Some(1_000_000 + 98_400_000));
        assert_eq!(at("Please try again in 20s"), Some(1_020_000));
        for none in
            ["try again in a while", "try again at 3 PM", "|12", "again in 9999999999999999999 days", ""]
        {
            assert_eq!(at(none), None, "{none}");
        }
    }
}
