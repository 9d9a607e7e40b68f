//! Pure. Spend: one ledger line per runner call, and the sums over them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the figures of a charge come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The runner said so.
    Reported,
    /// Tokens are counted from bytes (four to a token); the cost is not known and stands as 0.
    Estimated,
    /// The call was cut off before the runner said anything.
    Unknown,
}

/// What one runner call used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// The model's name, when the runner said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Input tokens that no cache served.
    pub tokens_in: u64,
    /// Input tokens read from or written to the provider's cache.
    pub tokens_cached: u64,
    /// Output tokens.
    pub tokens_out: u64,
    /// Millionths of a US dollar.
    pub cost_micros: u64,
    /// Where the figures come from.
    pub basis: Basis,
}

impl Usage {
    /// An estimate from the bytes that went in and out: four bytes to a token, no price.
    pub fn estimate(bytes_in: usize, bytes_out: usize) -> Usage {
        let tokens = |bytes: usize| (bytes as u64).div_ceil(4);
        Usage {
            model: None,
            tokens_in: tokens(bytes_in),
            tokens_cached: 0,
            tokens_out: tokens(bytes_out),
            cost_micros: 0,
            basis: Basis::Estimated,
        }
    }

    /// A call of which nothing is known.
    pub fn unknown() -> Usage {
        Usage { basis: Basis::Unknown, ..Usage::estimate(0, 0) }
    }

    /// The sum of two calls of one decision; the less certain basis wins.
    pub fn plus(&self, other: &Usage) -> Usage {
        let reported = self.basis == Basis::Reported && other.basis == Basis::Reported;
        Usage {
            model: self.model.clone().or_else(|| other.model.clone()),
            tokens_in: self.tokens_in.saturating_add(other.tokens_in),
            tokens_cached: self.tokens_cached.saturating_add(other.tokens_cached),
            tokens_out: self.tokens_out.saturating_add(other.tokens_out),
            cost_micros: self.cost_micros.saturating_add(other.cost_micros),
            basis: if reported { Basis::Reported } else { Basis::Estimated },
        }
    }
}

/// One line of `cost/<yyyy-mm>.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The local day it counts for, `2026-11-21`.
    pub day: String,
    /// The beat that asked.
    pub beat: String,
    /// The goal that the move served, when it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// The worker that spent it; none for a decision.
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

/// What rows of a spend report are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The local day.
    Day,
    /// The goal.
    Goal,
    /// The worker.
    Worker,
    /// The runner.
    Runner,
    /// The model.
    Model,
    /// The sensor that woke the beat; a beat that several woke counts for each.
    Sensor,
    /// The beat.
    Beat,
}

/// One row of a spend report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// What the row is about.
    pub key: String,
    /// Runner calls.
    pub calls: u64,
    /// Input tokens.
    pub tokens_in: u64,
    /// Cached input tokens.
    pub tokens_cached: u64,
    /// Output tokens.
    pub tokens_out: u64,
    /// Millionths of a US dollar, of calls whose cost was reported.
    pub cost_micros: u64,
    /// Calls whose cost nobody reported.
    pub unmetered: u64,
}

/// Sums charges into rows, sorted by key.
pub fn report(charges: &[Charge], by: By) -> Vec<Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for charge in charges {
        for key in keys(charge, by) {
            let row = rows.entry(key.clone()).or_insert_with(|| Row { key, ..Row::default() });
            row.calls += 1;
            row.tokens_in += charge.usage.tokens_in;
            row.tokens_cached += charge.usage.tokens_cached;
            row.tokens_out += charge.usage.tokens_out;
            row.cost_micros += charge.usage.cost_micros;
            row.unmetered += u64::from(charge.usage.basis != Basis::Reported);
        }
    }
    rows.into_values().collect()
}

fn keys(charge: &Charge, by: By) -> Vec<String> {
    let or_none = |text: &Option<String>| vec![text.clone().unwrap_or_else(|| "(none)".to_owned())];
    match by {
        By::Day => vec![charge.day.clone()],
        By::Goal => or_none(&charge.goal),
        By::Worker => or_none(&charge.worker),
        By::Runner => vec![charge.runner.clone()],
        By::Model => or_none(&charge.usage.model),
        By::Sensor if charge.sensors.is_empty() => vec!["(none)".to_owned()],
        By::Sensor => charge.sensors.clone(),
        By::Beat => vec![charge.beat.clone()],
    }
}

/// Dollars for humans, from millionths: `$0.0123`.
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

    fn charge(day: &str, sensors: &[&str], micros: u64, basis: Basis) -> Charge {
        Charge {
            at_ms: 0,
            day: day.to_owned(),
            beat: "b".to_owned(),
            goal: None,
            worker: None,
            runner: "pi".to_owned(),
            sensors: sensors.iter().map(|s| (*s).to_owned()).collect(),
            usage: Usage { cost_micros: micros, basis, ..Usage::estimate(40, 8) },
        }
    }

    #[test]
    fn rows_sum_and_say_what_is_unmetered() {
        let all = [
            charge("d1", &["git", "ci"], 100, Basis::Reported),
            charge("d1", &["git"], 0, Basis::Estimated),
            charge("d2", &[], 50, Basis::Reported),
        ];
        let days = report(&all, By::Day);
        assert_eq!(
            (days[0].key.as_str(), days[0].calls, days[0].cost_micros, days[0].unmetered),
            ("d1", 2, 100, 1)
        );
        let sensors = report(&all, By::Sensor);
        let calls: Vec<(&str, u64)> = sensors.iter().map(|r| (r.key.as_str(), r.calls)).collect();
        assert_eq!(calls, [("(none)", 1), ("ci", 1), ("git", 2)]);
    }

    #[test]
    fn the_less_certain_basis_wins() {
        let a = Usage { basis: Basis::Reported, cost_micros: 5, ..Usage::estimate(4, 4) };
        assert_eq!(a.plus(&a).basis, Basis::Reported);
        assert_eq!(a.plus(&Usage::estimate(4, 4)).basis, Basis::Estimated);
        assert_eq!(dollars(12_300), "$0.01");
        assert_eq!(dollars(1_230), "$0.0012");
    }
}
