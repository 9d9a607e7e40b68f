//! Pure. Charges: one ledger line per runner call, and how reliable its figures are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::time::Now;

/// Where the figures of a charge come from, the most reliable first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostSource {
    /// The runner reported tokens and price.
    Reported,
    /// The runner reported tokens; the price comes from the config or the built-in table.
    Priced,
    /// The runner reported tokens; the price is unknown and recorded as 0.
    Tokens,
    /// Tokens are estimated from bytes (four to a token); the price is unknown and recorded as 0.
    Estimated,
    /// The call was interrupted before the runner reported anything; the price is the reservation.
    Assumed,
    /// Nothing is known; the price is recorded as 0.
    #[default]
    Unknown,
}

impl CostSource {
    /// True if the price of the tokens is known.
    pub fn is_metered(self) -> bool {
        matches!(self, CostSource::Reported | CostSource::Priced)
    }
}

/// What one runner call used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// The model's name, if the runner reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Input tokens that did not come from a cache.
    pub tokens_in: u64,
    /// Input tokens read from the provider's cache.
    pub tokens_cached: u64,
    /// Input tokens written to the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens_written: u64,
    /// Output tokens.
    pub tokens_out: u64,
    /// How many of the output tokens were reasoning.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens_reasoning: u64,
    /// How many of all tokens the program used for internal purposes: titles, memories, summaries.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens_background: u64,
    /// Millionths of a US dollar.
    pub cost_micros: u64,
    /// Where the figures come from.
    pub basis: CostSource,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Usage {
    /// Estimates the usage from the bytes of input and output: four bytes to a token, no price.
    pub fn estimate(bytes_in: usize, bytes_out: usize) -> Usage {
        let tokens = |bytes: usize| (bytes as u64).div_ceil(4);
        Usage {
            tokens_in: tokens(bytes_in),
            tokens_out: tokens(bytes_out),
            basis: CostSource::Estimated,
            ..Usage::unknown()
        }
    }

    /// The usage of a call about which nothing is known.
    pub fn unknown() -> Usage {
        Usage::default()
    }

    /// The usage of a call about which nothing is known, charged with its reservation.
    pub fn assumed(reserved_micros: u64) -> Usage {
        match reserved_micros {
            0 => Usage::unknown(),
            cost_micros => Usage { cost_micros, basis: CostSource::Assumed, ..Usage::unknown() },
        }
    }

    /// The usage of a call that cost nothing because no model was called.
    pub fn nothing() -> Usage {
        Usage { basis: CostSource::Reported, ..Usage::unknown() }
    }

    /// All input tokens.
    pub fn tokens_input(&self) -> u64 {
        self.tokens_in.saturating_add(self.tokens_cached).saturating_add(self.tokens_written)
    }

    /// All tokens, input and output.
    pub fn tokens(&self) -> u64 {
        self.tokens_input().saturating_add(self.tokens_out)
    }

    /// Returns how much this sum exceeds an earlier one; `None` if it does not.
    pub fn beyond(&self, before: &Usage) -> Option<Usage> {
        let more = self.combined(before, u64::saturating_sub);
        (more.tokens() > 0 || more.cost_micros > 0).then_some(more)
    }

    /// Adds two calls of one decision; the less reliable basis wins.
    pub fn plus(&self, other: &Usage) -> Usage {
        Usage {
            model: self.model.clone().or_else(|| other.model.clone()),
            basis: self.basis.max(other.basis),
            ..self.combined(other, u64::saturating_add)
        }
    }

    fn combined(&self, other: &Usage, figure: fn(u64, u64) -> u64) -> Usage {
        Usage {
            model: self.model.clone(),
            tokens_in: figure(self.tokens_in, other.tokens_in),
            tokens_cached: figure(self.tokens_cached, other.tokens_cached),
            tokens_written: figure(self.tokens_written, other.tokens_written),
            tokens_out: figure(self.tokens_out, other.tokens_out),
            tokens_reasoning: figure(self.tokens_reasoning, other.tokens_reasoning),
            tokens_background: figure(self.tokens_background, other.tokens_background),
            cost_micros: figure(self.cost_micros, other.cost_micros),
            basis: self.basis,
        }
    }
}

/// One line of `cost/<yyyy-mm>.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// When the call ended, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The local day of the charge, `2026-11-21`.
    pub day: String,
    /// The id of the beat that called.
    pub beat: String,
    /// The goal that the move served, if it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// The worker that spent it; `None` for a decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The runner that was called.
    pub runner: String,
    /// The sensors whose change woke the beat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensors: Vec<String>,
    /// What was used.
    pub usage: Usage,
}

impl Charge {
    /// The charge of a call that ended now; no goal, worker or sensor is named yet.
    pub fn new(now: Now, beat: &str, runner: &str, usage: Usage) -> Charge {
        Charge {
            at_ms: now.unix_ms,
            day: now.day(),
            beat: beat.to_owned(),
            goal: None,
            worker: None,
            runner: runner.to_owned(),
            sensors: Vec::new(),
            usage,
        }
    }
}

/// Formats millionths of a dollar for the user: `$0.0123`.
pub fn dollars(micros: u64) -> String {
    match micros {
        0 => "$0".to_owned(),
        1..10_000 => format!("${:.4}", micros as f64 / 1e6),
        _ => format!("${:.2}", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_reliable_basis_wins() {
        let a = Usage { basis: CostSource::Reported, cost_micros: 5, ..Usage::estimate(4, 4) };
        assert_eq!(a.plus(&a).basis, CostSource::Reported);
        assert_eq!(a.plus(&Usage::estimate(4, 4)).basis, CostSource::Estimated);
        assert_eq!(dollars(12_300), "$0.01");
        assert_eq!(dollars(1_230), "$0.0012");
    }
}
