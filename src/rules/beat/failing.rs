//! Pure. The kinds of failure of a model call, and how long to wait after each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
